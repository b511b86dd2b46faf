/* SPDX-License-Identifier: MIT */

/*
 * sd_lfmd: the output module of speech-dispatcher that speaks with lfmd's voices. See sd_lfmd(1).
 *
 * The server writes commands to stdin and reads answers, events and sound from stdout: what is to
 * be heard goes through the server ("server audio"). A message becomes SSML (markup.h), lfmd makes
 * it sound (provider.h), which is passed on as it comes, but never much earlier than it is heard:
 * what lies in the server's pipe would have to be read before it sees that a stop was obeyed.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/speech-dispatcher/markup.h"
#include "clients/speech-dispatcher/provider.h"
#include "clients/speech-dispatcher/settings.h"

#define INPUT_MAX   ((size_t)16 << 20) /* bytes of a message */
#define BLOCK_MAX   ((size_t)960)      /* samples of a block: 40 ms */
#define AHEAD_MAX   INT64_C(120000)    /* microseconds that the server has more than was heard, */
#define AHEAD_MIN   INT64_C(60000)     /* and when it gets more */
#define SERVER_MARK "__spd_" /* begins the names of the server's own, which are numbered */
#define NO_MARK     SERVER_MARK "-1" /* from here on a paused message is said as a whole */
#define ESCAPE      0x7d
#define ESCAPE_FLIP 0x20

/* What the lines until the next "." belong to. */
enum body { BODY_NONE, BODY_MESSAGE, BODY_SETTINGS, BODY_AUDIO, BODY_LOGLEVEL };

struct module {
    sd_event *event;
    sd_bus *bus;
    struct settings settings;
    struct provider_voice voices[PROVIDER_VOICES_MAX]; /* [n_voices] */
    size_t n_voices;
    bool ready; /* INIT has gone well */

    enum body body;
    enum message_type type; /* of BODY_MESSAGE */
    const char *wrong;      /* the answer to a body that cannot be followed, or NULL */
    char *message;          /* [length], lines with their ends */
    size_t length, message_max;

    char *line; /* [n_line] of input that is not a whole line yet */
    size_t n_line, line_max;
    bool overlong; /* the line or the message goes on beyond what is taken */

    struct speech *speech; /* NULL: silent */
    sd_event_source *pace; /* when it goes on */
    int64_t begun_usec;    /* when its first sample would have been heard, had it never paused */
    int64_t sent_usec;     /* of sound that the server has got */
    char mark[32];         /* the last of the server's that it has got */
    FILE *debug;           /* or NULL */
};

/* --- answers --------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void answer(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

__attribute__((format(printf, 2, 3))) static void note(const struct module *module,
                                                       const char *format, ...)
{
    va_list arguments;

    if (!module->debug)
        return;
    va_start(arguments, format);
    vfprintf(module->debug, format, arguments);
    va_end(arguments);
    fputc('\n', module->debug);
    fflush(module->debug);
}

static bool grow(char **text, size_t *max, size_t wanted)
{
    const size_t n = MAX(2 * *max, wanted);
    char *grown;

    if (wanted > INPUT_MAX)
        return false;
    if (wanted <= *max)
        return true;
    grown = realloc(*text, n);
    if (!grown)
        return false;
    *text = grown;
    *max = n;
    return true;
}

/* --- sound ----------------------------------------------------------------------------------- */

static void send_block(const int16_t *samples, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)samples;
    const int big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

    printf("705-bits=16\n705-num_channels=1\n705-sample_rate=%d\n705-num_samples=%zu\n"
           "705-big_endian=%d\n705-AUDIO%c",
           PROVIDER_RATE_HZ, n, big_endian, '\0');
    for (size_t i = 0; i < n * sizeof(*samples); i++) {
        const bool special = bytes[i] == '\n' || bytes[i] == ESCAPE;

        if (special)
            putchar(ESCAPE);
        putchar(special ? bytes[i] ^ ESCAPE_FLIP : bytes[i]);
    }
    fputs("\n705 AUDIO\n", stdout);
    fflush(stdout);
}

static int64_t clock_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int on_pace(sd_event_source *source, uint64_t usec, void *userdata)
{
    const struct module *module = userdata;

    (void)source, (void)usec;
    if (module->speech)
        speech_hold(module->speech, false);
    return 0;
}

/* Whether the server has enough for now. */
static void keep_pace(struct module *module, size_t n)
{
    const int64_t now = clock_usec();
    int64_t ahead;

    module->begun_usec = MAX(module->begun_usec, now - module->sent_usec);
    module->sent_usec += (int64_t)n * 1000000 / PROVIDER_RATE_HZ;
    ahead = module->begun_usec + module->sent_usec - now;
    if (ahead <= AHEAD_MAX)
        return;
    speech_hold(module->speech, true);
    sd_event_source_set_time(module->pace, (uint64_t)(now + ahead - AHEAD_MIN));
    sd_event_source_set_enabled(module->pace, SD_EVENT_ONESHOT);
}

static void on_sound(void *userdata, int16_t *samples, size_t n)
{
    struct module *module = userdata;
    const float volume = (float)settings_volume(&module->settings);

    for (size_t i = 0; i < n; i++)
        samples[i] = (int16_t)((float)samples[i] * volume);
    for (size_t at = 0; at < n; at += BLOCK_MAX)
        send_block(samples + at, MIN(n - at, BLOCK_MAX));
    keep_pace(module, n);
}

static void on_mark(void *userdata, const char *name)
{
    struct module *module = userdata;
    const size_t n = strlen(MARKUP_ICON);
    char path[SETTINGS_PATH_MAX];

    if (strncmp(name, SERVER_MARK, strlen(SERVER_MARK)) == 0)
        snprintf(module->mark, sizeof(module->mark), "%.31s", name);
    if (strncmp(name, MARKUP_ICON, n) != 0)
        answer("700-%s\n700 INDEX MARK", name);
    else if (settings_icon(&module->settings, name + n, path))
        answer("706-%s\n706 ICON", path);
}

static void on_end(void *userdata, const char *reason)
{
    struct module *module = userdata;

    if (reason)
        fprintf(stderr, "sd_lfmd: %s\n", reason);
    note(module, "end: %s", reason ? reason : "all was said");
    module->speech = speech_stop(module->speech); /* and the reason */
    answer("702 END");
}

static const struct speech_sink sink = {.sound = on_sound, .mark = on_mark, .end = on_end};

/* --- voices ---------------------------------------------------------------------------------- */

static const struct provider_voice *named_voice(const struct module *module, const char *name)
{
    for (size_t i = 0; i < module->n_voices; i++)
        if (strcmp(module->voices[i].name, name) == 0 || strcmp(module->voices[i].id, name) == 0)
            return &module->voices[i];
    return NULL;
}

static bool is_female(const struct provider_voice *voice)
{
    return strcasestr(voice->name, "female");
}

/* By name, else by language and kind, else what the daemon takes first. */
static const char *choose_voice(const struct module *module)
{
    const struct settings *settings = &module->settings;
    const struct provider_voice *voice = named_voice(module, settings->synthesis_voice);
    const bool any = strlen(settings->language) < 4; /* "en", not "en-GB" */

    if (!voice)
        voice = named_voice(module, settings->default_voice);
    for (size_t i = 0; !voice && i < module->n_voices; i++) {
        const struct provider_voice *other = &module->voices[i];

        if ((any || strcasecmp(other->language, settings->language) == 0) &&
            is_female(other) == (strncmp(settings->voice, "female", 6) == 0))
            voice = other;
    }
    return voice ? voice->id : "";
}

static void list_voices(struct module *module, const char *arguments)
{
    char language[32] = "", variant[32] = "none";
    bool any = false;

    /* They may have changed since. */
    if (provider_voices(module->bus, module->voices, PROVIDER_VOICES_MAX, &module->n_voices) < 0)
        module->n_voices = 0;
    sscanf(arguments, "%31s %31s", language, variant);
    for (size_t i = 0; i < module->n_voices && strcasecmp(variant, "none") == 0; i++) {
        const struct provider_voice *voice = &module->voices[i];
        const size_t n = strlen(language);

        if (strncasecmp(voice->language, language, n) != 0 ||
            (n > 0 && voice->language[n] && voice->language[n] != '-'))
            continue;
        printf("200-%s\t%s\tnone\n", voice->name, voice->language);
        any = true;
    }
    answer(any ? "200 OK VOICE LIST SENT" : "304 CANT LIST VOICES");
}

/* --- messages -------------------------------------------------------------------------------- */

/* Only the file that it names. */
static void play_icon(struct module *module, const char *name)
{
    answer("200 OK SPEAKING");
    answer("701 BEGIN");
    on_mark(module, name);
    answer("702 END");
}

static bool say(struct module *module, const char *text)
{
    const struct settings *settings = &module->settings;
    _cleanup_(freep) char *ssml = markup_write(module->type, text, settings);
    const struct speech_request request = {
        .ssml = ssml,
        .voice = choose_voice(module),
        .language = settings->language,
        .rate = settings_rate(settings),
        .pitch = settings_pitch(settings),
    };

    note(module, "say: %s", ssml ? ssml : "(no memory)");
    module->speech = speech_stop(module->speech);
    module->begun_usec = module->sent_usec = 0;
    strcpy(module->mark, NO_MARK);
    if (ssml)
        module->speech = speech_begin(module->bus, module->event, &request, &sink, module);
    return module->speech;
}

static void speak(struct module *module)
{
    char icon[SETTINGS_PATH_MAX], path[SETTINGS_PATH_MAX];
    char *text = module->message;

    if (module->length > 0)
        text[module->length - 1] = '\0'; /* in place of the last newline */
    if (module->overlong || module->length < 2 || !utf8_valid(text, module->length - 1)) {
        answer("301 ERROR CANT SPEAK");
        return;
    }
    if (module->type != MESSAGE_TEXT && strchr(text, '\n')) {
        answer("305 DATA MORE THAN ONE LINE");
        return;
    }
    snprintf(icon, sizeof(icon), MARKUP_ICON "%.400s", text);
    if (module->type == MESSAGE_ICON && settings_icon(&module->settings, text, path)) {
        play_icon(module, icon);
        return;
    }
    if (!say(module, text)) {
        answer("301 ERROR CANT SPEAK");
        return;
    }
    answer("200 OK SPEAKING");
    answer("701 BEGIN");
}

/* Silence at once, wherever it is. False: it has been silent, and its end has been told. */
static bool silence(struct module *module)
{
    const bool speaks = module->speech;

    module->speech = speech_stop(module->speech);
    return speaks;
}

static void stop(struct module *module)
{
    if (silence(module))
        answer("703 STOP");
}

/*
 * The server falls silent where it meets one of its marks, and goes on from there: it gets the last
 * one again, behind what it has.
 */
static void pause_speech(struct module *module)
{
    if (silence(module))
        answer("700-%s\n700 INDEX MARK\n704 PAUSE", module->mark);
}

/* --- commands with lines --------------------------------------------------------------------- */

static void begin_body(struct module *module, enum body body, const char *told)
{
    module->body = body;
    module->wrong = NULL;
    module->length = 0;
    module->overlong = false;
    answer("%s", told);
}

static void begin_message(struct module *module, enum message_type type)
{
    module->type = type;
    begin_body(module, BODY_MESSAGE, "202 OK RECEIVING MESSAGE");
}

static void end_body(struct module *module)
{
    const enum body body = module->body;

    module->body = BODY_NONE;
    if (body == BODY_MESSAGE)
        speak(module);
    else if (module->wrong)
        answer("%s", module->wrong);
    else
        answer(body == BODY_SETTINGS ? "203 OK SETTINGS RECEIVED"
               : body == BODY_AUDIO  ? "203 OK AUDIO INITIALIZED"
                                     : "203 OK LOGLEVEL SET");
}

static void add_line(struct module *module, const char *line)
{
    const size_t n = strlen(line);

    if (module->overlong || !grow(&module->message, &module->message_max, module->length + n + 2)) {
        module->overlong = true;
        return;
    }
    memcpy(module->message + module->length, line, n);
    module->message[module->length + n] = '\n';
    module->length += n + 1;
}

/* NAME=VALUE */
static void add_setting(struct module *module, char *line)
{
    char *value = strchr(line, '=');

    if (!value) {
        module->wrong = "302 ERROR BAD SYNTAX";
        return;
    }
    *value++ = '\0';
    if (module->body == BODY_SETTINGS) {
        if (!settings_set(&module->settings, line, value))
            module->wrong = "303 ERROR INVALID PARAMETER OR VALUE";
    } else if (module->body == BODY_AUDIO) {
        if (strcmp(line, "audio_output_method") == 0 && strcmp(value, "server") != 0)
            module->wrong = "300-Sound goes through the server alone.\n300 MODULE ERROR";
    }
}

/* --- commands -------------------------------------------------------------------------------- */

static void initialise(struct module *module)
{
    int r = sd_bus_open_user(&module->bus);

    if (r >= 0)
        r = sd_bus_attach_event(module->bus, module->event, SD_EVENT_PRIORITY_NORMAL);
    if (r < 0) {
        answer("399-There is no session bus: %s.\n399 ERR CANT INIT MODULE", strerror(-r));
        return;
    }
    sd_bus_set_exit_on_disconnect(module->bus, true);
    r = provider_voices(module->bus, module->voices, PROVIDER_VOICES_MAX, &module->n_voices);
    if (r < 0 || module->n_voices == 0) {
        answer("399-%s\n399 ERR CANT INIT MODULE",
               r < 0 ? "lfmd cannot be reached; is it installed?"
                     : "No model that speaks is installed: \"lfmctl pull lfm2.5-audio-1.5b\".");
        return;
    }
    module->ready = true;
    answer("299-lfmd has %zu voices.\n299 OK LOADED SUCCESSFULLY", module->n_voices);
}

/* "DEBUG ON FILE", "DEBUG OFF" */
static void debug(struct module *module, const char *arguments)
{
    const bool on = strncmp(arguments, "ON ", 3) == 0;
    char path[SETTINGS_PATH_MAX];

    if (module->debug)
        fclose(module->debug);
    module->debug = NULL;
    if (on && sscanf(arguments + 3, "%511s", path) == 1)
        module->debug = fopen(path, "ae");
    if (on && !module->debug)
        answer("303 CANT OPEN CUSTOM DEBUG FILE");
    else
        answer("200 OK DEBUGGING %s", on ? "ON" : "OFF");
}

/* False: that was the last. */
static bool obey(struct module *module, const char *line)
{
    static const struct {
        const char *command;
        enum message_type type;
    } messages[] = {{"SPEAK", MESSAGE_TEXT}, {"CHAR", MESSAGE_CHAR}, {"KEY", MESSAGE_KEY},
                    {"SOUND_ICON", MESSAGE_ICON}};

    for (size_t i = 0; i < ARRAY_LEN(messages); i++)
        if (strcmp(line, messages[i].command) == 0 && module->ready) {
            begin_message(module, messages[i].type);
            return true;
        }
    if (strcmp(line, "INIT") == 0 && !module->ready)
        initialise(module);
    else if (strcmp(line, "STOP") == 0)
        stop(module);
    else if (strcmp(line, "PAUSE") == 0)
        pause_speech(module);
    else if (strcmp(line, "SET") == 0)
        begin_body(module, BODY_SETTINGS, "203 OK RECEIVING SETTINGS");
    else if (strcmp(line, "AUDIO") == 0)
        begin_body(module, BODY_AUDIO, "207 OK RECEIVING AUDIO SETTINGS");
    else if (strcmp(line, "LOGLEVEL") == 0)
        begin_body(module, BODY_LOGLEVEL, "207 OK RECEIVING LOGLEVEL SETTINGS");
    else if (strncmp(line, "LIST VOICES", 11) == 0 && module->ready)
        list_voices(module, line + 11);
    else if (strncmp(line, "DEBUG ", 6) == 0)
        debug(module, line + 6);
    else if (strcmp(line, "QUIT") == 0)
        return answer("210 OK QUIT"), false;
    else
        answer("300 ERR UNKNOWN COMMAND");
    return true;
}

/* A line without its end. False: that was the last. */
static bool take_line(struct module *module, char *line)
{
    if (module->body == BODY_NONE)
        return obey(module, line);
    if (strcmp(line, ".") == 0)
        end_body(module);
    else if (module->body == BODY_MESSAGE)
        add_line(module, line[0] == '.' ? line + 1 : line); /* ".." is "." */
    else
        add_setting(module, line);
    return true;
}

/* --- input ----------------------------------------------------------------------------------- */

/* The whole lines that have come. False: that was the last. */
static bool take_lines(struct module *module)
{
    size_t at = 0;
    char *end;
    bool goes_on = true;

    while (goes_on && (end = memchr(module->line + at, '\n', module->n_line - at))) {
        *end = '\0';
        goes_on = take_line(module, module->line + at);
        at = (size_t)(end - module->line) + 1;
    }
    module->n_line -= at;
    memmove(module->line, module->line + at, module->n_line);
    return goes_on;
}

static int on_input(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    struct module *module = userdata;
    ssize_t n;

    (void)revents;
    if (!grow(&module->line, &module->line_max, module->n_line + 4096)) {
        fprintf(stderr, "sd_lfmd: a line of the server has more than %zu bytes.\n", INPUT_MAX);
        return sd_event_exit(sd_event_source_get_event(source), EXIT_FAILURE);
    }
    n = read(fd, module->line + module->n_line, 4096);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return sd_event_exit(sd_event_source_get_event(source), 0);
    module->n_line += (size_t)n;
    return take_lines(module) ? 0 : sd_event_exit(sd_event_source_get_event(source), 0);
}

static int run(struct module *module)
{
    int r = sd_event_default(&module->event);

    if (r >= 0)
        r = sd_event_add_io(module->event, NULL, STDIN_FILENO, EPOLLIN, on_input, module);
    if (r >= 0)
        r = sd_event_add_time(module->event, &module->pace, CLOCK_MONOTONIC, 0, 1000, on_pace,
                              module);
    if (r >= 0)
        r = sd_event_source_set_enabled(module->pace, SD_EVENT_OFF);
    if (r >= 0)
        r = sd_event_loop(module->event);
    if (r < 0)
        fprintf(stderr, "sd_lfmd: %s.\n", strerror(-r));
    speech_stop(module->speech);
    sd_event_source_disable_unref(module->pace);
    sd_bus_flush_close_unref(module->bus);
    sd_event_unref(module->event);
    free(module->message);
    free(module->line);
    if (module->debug)
        fclose(module->debug);
    return r;
}

int main(int argc, char **argv)
{
    static struct module module;

    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr,
                "usage: sd_lfmd [CONFIGURATION]\n\n"
                "An output module of speech-dispatcher, which starts it; see sd_lfmd(1).\n");
        return 2;
    }
    settings_init(&module.settings);
    if (argc == 2 && !settings_configure(&module.settings, argv[1]))
        fprintf(stderr, "sd_lfmd: %s cannot be read; its defaults hold.\n", argv[1]);
    return run(&module) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
