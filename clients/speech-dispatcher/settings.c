/* SPDX-License-Identifier: MIT */
#include "clients/speech-dispatcher/settings.h"

#include <dotconf.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SLOWEST 3.0 /* times slower at rate -100 */

void settings_init(struct settings *settings)
{
    *settings = (struct settings){
        .volume = 100,
        .some = "@#$%&*+/=<>\\^_|~",
        .most = "@#$%&*+/=<>\\^_|~()[]{}-`\"",
        .rate_max = 4,
        .icons = "/usr/share/sounds/sound-icons",
    };
}

/* --- configuration --------------------------------------------------------------------------- */

static const char *read_text(command_t *command, char *text, size_t size)
{
    if (!command->data.str || strlen(command->data.str) >= size)
        return "The value is too long.";
    strcpy(text, command->data.str);
    return NULL;
}

static DOTCONF_CB(on_some)
{
    return read_text(cmd, ((struct settings *)ctx)->some, SETTINGS_LIST_MAX);
}

static DOTCONF_CB(on_most)
{
    return read_text(cmd, ((struct settings *)ctx)->most, SETTINGS_LIST_MAX);
}

static DOTCONF_CB(on_voice)
{
    return read_text(cmd, ((struct settings *)ctx)->default_voice, SETTINGS_NAME_MAX);
}

static DOTCONF_CB(on_icons)
{
    return read_text(cmd, ((struct settings *)ctx)->icons, SETTINGS_LIST_MAX);
}

static DOTCONF_CB(on_rate_max)
{
    struct settings *settings = ctx;
    char *end;
    const double rate = cmd->data.str ? strtod(cmd->data.str, &end) : 0;

    if (!(rate >= 1 && rate <= 8) || *end)
        return "LfmdRateMax must be a number from 1 to 8.";
    settings->rate_max = rate;
    return NULL;
}

static int on_wrong(configfile_t *configfile, int type, unsigned long number, const char *msg)
{
    (void)type, (void)number;
    fprintf(stderr, "sd_lfmd: %s, line %lu: %s\n", configfile->filename, configfile->line, msg);
    return 0;
}

bool settings_configure(struct settings *settings, const char *path)
{
    static const configoption_t options[] = {
        {"LfmdPunctuationSome", ARG_STR, on_some, NULL, CTX_ALL},
        {"LfmdPunctuationMost", ARG_STR, on_most, NULL, CTX_ALL},
        {"LfmdRateMax", ARG_STR, on_rate_max, NULL, CTX_ALL},
        {"LfmdDefaultVoice", ARG_STR, on_voice, NULL, CTX_ALL},
        {"LfmdSoundIconFolder", ARG_STR, on_icons, NULL, CTX_ALL},
        LAST_CONTEXT_OPTION,
    };
    _cleanup_(freep) char *name = strdup(path);
    configfile_t *file;

    if (!name || access(path, R_OK) < 0)
        return false;
    file = dotconf_create(name, options, settings, CASE_INSENSITIVE | DONT_SUBSTITUTE);
    if (!file)
        return false;
    file->errorhandler = on_wrong;
    dotconf_command_loop(file);
    dotconf_cleanup(file);
    return true;
}

/* --- SET ------------------------------------------------------------------------------------- */

static bool set_number(int *number, const char *value)
{
    char *end;
    const long n = strtol(value, &end, 10);

    if (end == value || *end || n < -100 || n > 100)
        return false;
    *number = (int)n;
    return true;
}

/* "NULL" stands for nothing. */
static bool set_text(char *text, size_t size, const char *value)
{
    snprintf(text, size, "%s", strcmp(value, "NULL") == 0 ? "" : value);
    return true;
}

/* The place of a word in a list, or -1. */
static int place(const char *const *words, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0)
            return (int)i;
    return -1;
}

static bool set_punctuation(struct settings *settings, const char *value)
{
    static const char *const words[] = {"none", "some", "most", "all"};
    const int i = place(words, ARRAY_LEN(words), value);

    if (i >= 0)
        settings->punctuation = (enum punctuation)i;
    return i >= 0;
}

static bool set_capitals(struct settings *settings, const char *value)
{
    static const char *const words[] = {"none", "spell", "icon"};
    const int i = place(words, ARRAY_LEN(words), value);

    if (i >= 0)
        settings->capitals = (enum capitals)i;
    return i >= 0;
}

static bool set_spelling(struct settings *settings, const char *value)
{
    static const char *const words[] = {"off", "on"};
    const int i = place(words, ARRAY_LEN(words), value);

    if (i >= 0)
        settings->spelling = i;
    return i >= 0;
}

bool settings_set(struct settings *settings, const char *name, const char *value)
{
    int ignored;

    if (strcmp(name, "rate") == 0)
        return set_number(&settings->rate, value);
    if (strcmp(name, "pitch") == 0)
        return set_number(&settings->pitch, value);
    if (strcmp(name, "pitch_range") == 0) /* the voice's melody is its own */
        return set_number(&ignored, value);
    if (strcmp(name, "volume") == 0)
        return set_number(&settings->volume, value);
    if (strcmp(name, "punctuation_mode") == 0)
        return set_punctuation(settings, value);
    if (strcmp(name, "spelling_mode") == 0)
        return set_spelling(settings, value);
    if (strcmp(name, "cap_let_recogn") == 0)
        return set_capitals(settings, value);
    if (strcmp(name, "voice") == 0)
        return set_text(settings->voice, sizeof(settings->voice), value);
    if (strcmp(name, "language") == 0)
        return set_text(settings->language, sizeof(settings->language), value);
    if (strcmp(name, "synthesis_voice") == 0)
        return set_text(settings->synthesis_voice, sizeof(settings->synthesis_voice), value);
    return false;
}

bool settings_icon(const struct settings *settings, const char *name, char path[SETTINGS_PATH_MAX])
{
    return !strchr(name, '/') &&
           snprintf(path, SETTINGS_PATH_MAX, "%s/%s", settings->icons, name) < SETTINGS_PATH_MAX &&
           access(path, R_OK) == 0;
}

double settings_rate(const struct settings *settings)
{
    return pow(settings->rate > 0 ? settings->rate_max : SLOWEST, settings->rate / 100.0);
}

double settings_pitch(const struct settings *settings)
{
    return 1 + settings->pitch / 100.0;
}

double settings_volume(const struct settings *settings)
{
    return (settings->volume + 100) / 200.0;
}
