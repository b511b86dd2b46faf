/* SPDX-License-Identifier: MIT */
#include "daemon/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "daemon/paths.h"
#include "session/image_plan.h"

#define REPORT_MAX 64 /* problems; a file of garbage needs no more to be understood */

void config_report_done(struct config_report *report)
{
    free(report->text);
    *report = (struct config_report){0};
}

static void problem(struct config_report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void problem(struct config_report *report, const char *format, ...)
{
    char line[1024];
    va_list args;
    size_t length;
    char *text;

    if (++report->n > REPORT_MAX)
        return;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    utf8_repair(line); /* a value may be cut */
    length = strlen(line);

    text = realloc(report->text, report->length + length + 2);
    if (!text)
        return;
    if (report->length)
        text[report->length++] = '\n';
    memcpy(text + report->length, line, length + 1);
    report->text = text;
    report->length += length;
}

/* values: each reader returns NULL, or what was expected */

static const char *read_number(const char *value, uint64_t min, uint64_t max, uint64_t *ret)
{
    char *end;

    /* strtoull() takes signs and leading blanks. */
    if (*value < '0' || *value > '9')
        return "a whole number";
    errno = 0;
    *ret = strtoull(value, &end, 10);
    if (*end)
        return "a whole number";
    return errno || *ret < min || *ret > max ? "" : NULL;
}

/* A number and a unit from the table, "512M" or "10 m". */
struct unit {
    const char *name;
    uint64_t factor;
};

static bool read_with_unit(const char *value, const struct unit *units, uint64_t *ret)
{
    uint64_t number;
    char *end;

    if (*value < '0' || *value > '9')
        return false;
    errno = 0;
    number = strtoull(value, &end, 10);
    if (errno)
        return false;
    while (*end == ' ')
        end++;
    for (; units->name; units++)
        if (!strcmp(units->name, end))
            return !__builtin_mul_overflow(number, units->factor, ret);
    return false;
}

static const char *read_count(void *target, const char *value, uint64_t min, uint64_t max)
{
    uint64_t number = 0;
    const char *expected = read_number(value, min, max, &number);

    if (!expected)
        *(uint32_t *)target = (uint32_t)number;
    return expected;
}

static const char *read_size(void *target, const char *value, uint64_t min, uint64_t max)
{
    static const struct unit units[] = {{"", 1},           {"K", 1 << 10},    {"M", 1 << 20},
                                        {"G", 1ull << 30}, {"T", 1ull << 40}, {NULL, 0}};
    uint64_t bytes;

    if (!read_with_unit(value, units, &bytes))
        return "a number of bytes, such as 512M or 4G";
    if (bytes < min || bytes > max)
        return "";
    *(uint64_t *)target = bytes;
    return NULL;
}

static const char *read_duration(void *target, const char *value, uint64_t min, uint64_t max)
{
    static const struct unit units[] = {{"", 1},     {"s", 1},     {"m", 60},
                                        {"h", 3600}, {"d", 86400}, {NULL, 0}};
    uint64_t seconds;

    if (!strcmp(value, "forever")) {
        *(int64_t *)target = CONFIG_FOREVER;
        return NULL;
    }
    if (!read_with_unit(value, units, &seconds))
        return "a time, such as 90, 5m or 1h, or forever";
    if (seconds < min || seconds > max)
        return "";
    *(int64_t *)target = (int64_t)seconds;
    return NULL;
}

static const char *replace_string(char **target, const char *value, size_t length)
{
    char *copy = strndup(value, length);

    if (!copy)
        return "memory for it";
    free(*target);
    *target = copy;
    return NULL;
}

static const char *read_name(void *target, const char *value, uint64_t min, uint64_t max)
{
    size_t length = strlen(value);

    if (length < min || length > max)
        return "a name";
    return replace_string(target, value, length);
}

/* "https://HOST...", without what would let a URL say one thing and mean another. */
static const char *read_url(void *target, const char *value, uint64_t min, uint64_t max)
{
    static const char expected[] = "an http:// or https:// address";
    size_t length = strlen(value), scheme;

    if (!strncmp(value, "https://", 8))
        scheme = 8;
    else if (!strncmp(value, "http://", 7))
        scheme = 7;
    else
        return expected;
    if (length < min || length > max || value[scheme] == '/' || value[scheme] == '\0')
        return expected;
    if (value[strcspn(value, " \t\\\"'<>@?#")])
        return "an http:// or https:// address without user, query and blanks";
    return replace_string(target, value, length);
}

static char **strings_free(char **strings)
{
    for (char **s = strings; s && *s; s++)
        free(*s);
    free(strings);
    return NULL;
}

/* Absolute paths, or such below ~/, separated by colons. */
static const char *read_paths(void *target, const char *value, uint64_t min, uint64_t max)
{
    char ***list = target, **paths;
    size_t n = 0;

    (void)min;
    paths = calloc((size_t)max + 1, sizeof(*paths));
    if (!paths)
        return "memory for it";

    while (*value) {
        size_t length = strcspn(value, ":");
        const char *home = getenv("HOME");
        bool below_home = length >= 2 && !strncmp(value, "~/", 2) && home && *home == '/';

        if ((*value != '/' && !below_home) || n == max) {
            strings_free(paths);
            return *value == '/' ? "fewer directories"
                                 : "absolute directories, or such below ~/, separated by colons";
        }
        if (below_home ? asprintf(&paths[n], "%s%.*s", home, (int)length - 1, value + 1) < 0
                       : !(paths[n] = strndup(value, length))) {
            paths[n] = NULL;
            strings_free(paths);
            return "memory for it";
        }
        n++;
        value += length;
        value += *value == ':';
    }
    strings_free(*list);
    *list = paths;
    return NULL;
}

static const char *read_kv(void *target, const char *value, uint64_t min, uint64_t max)
{
    static const char *const names[] = {[KV_F32] = "f32", [KV_F16] = "f16", [KV_Q8_0] = "q8_0"};

    (void)min, (void)max;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcmp(names[i], value)) {
            *(enum kv_type *)target = (enum kv_type)i;
            return NULL;
        }
    }
    return "f32, f16 or q8_0";
}

static const char *read_level(void *target, const char *value, uint64_t min, uint64_t max)
{
    static const char *const names[] = {
        [LOG_ERR] = "error", [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice",
        [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
    };

    (void)min, (void)max;
    for (size_t i = LOG_ERR; i < ARRAY_LEN(names); i++) {
        if (!strcmp(names[i], value)) {
            *(int *)target = (int)i;
            return NULL;
        }
    }
    return "error, warning, notice, info or debug";
}

static const char *read_echo(void *target, const char *value, uint64_t min, uint64_t max)
{
    (void)min, (void)max;
    if (strcmp(value, "cancel") && strcmp(value, "keep"))
        return "cancel or keep";
    *(bool *)target = !strcmp(value, "keep");
    return NULL;
}

/* keys */

#define AT(member) offsetof(struct config, member)

static const struct key {
    const char *section, *name;
    /* Returns NULL, what was expected, or "" when the range below says it. */
    const char *(*read)(void *target, const char *value, uint64_t min, uint64_t max);
    size_t offset;
    uint64_t min, max;
} keys[] = {
    /* clang-format off */
    {"engine", "threads",      read_count,    AT(threads),            0, 256},
    {"engine", "memory_max",   read_size,     AT(memory_max_bytes),   0, 1ull << 50},
    {"engine", "context",      read_count,    AT(context),            256, 1 << 20},
    {"engine", "kv",           read_kv,       AT(kv),                 0, 0},
    {"engine", "keep_alive",   read_duration, AT(keep_alive_sec),     0, 366 * 86400},
    {"engine", "prefix_cache", read_size,     AT(prefix_cache_bytes), 0, 1ull << 50},
    {"image",  "max_encode_ms", read_count,   AT(max_encode_ms),      0, IMAGE_ENCODE_MS_MAX},
    {"image",  "cache",        read_size,     AT(image_cache_bytes),  0, 1ull << 40},
    {"image",  "max_bytes",    read_size,     AT(image_bytes_max),    1 << 10, 1ull << 30},
    {"image",  "max_megapixels", read_count,  AT(image_megapixels),   1, 1000},
    {"audio",  "microphone",   read_name,     AT(microphone),         1, 255},
    {"audio",  "loudspeaker",  read_name,     AT(loudspeaker),        1, 255},
    {"audio",  "echo",         read_echo,     AT(keep_echo),          0, 0},
    {"audio",  "latency_ms",   read_count,    AT(audio_latency_ms),   10, 500},
    {"models", "directories",  read_paths,    AT(directories),        0, 32},
    {"models", "default",      read_name,     AT(default_model),      1, 128},
    {"models", "mirror",       read_url,      AT(mirror),             8, 180},
    {"daemon", "idle_exit",    read_duration, AT(idle_exit_sec),      1, 366 * 86400},
    {"daemon", "log_level",    read_level,    AT(log_level),          0, 0},
    /* clang-format on */
};

struct config *config_new(void)
{
    struct config *config = calloc(1, sizeof(*config));

    if (!config)
        return NULL;
    config->context = 4096;
    config->kv = KV_F16;
    config->keep_alive_sec = 5 * 60;
    config->prefix_cache_bytes = (uint64_t)256 << 20;
    config->image_cache_bytes = (uint64_t)64 << 20;
    config->image_bytes_max = (uint64_t)64 << 20;
    config->image_megapixels = 100;
    config->audio_latency_ms = 50;
    config->idle_exit_sec = 10 * 60;
    config->log_level = LOG_INFO;
    return config;
}

struct config *config_free(struct config *config)
{
    if (!config)
        return NULL;
    strings_free(config->directories);
    free(config->default_model);
    free(config->mirror);
    free(config->microphone);
    free(config->loudspeaker);
    free(config);
    return NULL;
}

static void config_freep(struct config **config)
{
    config_free(*config);
}

/* one file */

struct parser {
    struct config *config;
    struct config_report *report;
    const char *name;
    const char *at, *end;           /* of the text */
    unsigned line;                  /* of the line that inih has been given last */
    unsigned seen[ARRAY_LEN(keys)]; /* line of each key, 0: none yet */
};

/*
 * Hands inih one line at a time and counts, because its handler is not told the line. Leading
 * blanks are left out: to inih they mean that the previous value goes on. A line that is too long
 * for inih's buffer is reported and handed on empty, else its rest would be read as another line.
 */
static char *next_line(char *out, int size, void *userdata)
{
    struct parser *p = userdata;
    const char *end;
    size_t length;

    if (p->at == p->end)
        return NULL;
    end = memchr(p->at, '\n', (size_t)(p->end - p->at));
    if (!end)
        end = p->end;
    p->line++;

    while (p->at < end && (*p->at == ' ' || *p->at == '\t'))
        p->at++;
    length = (size_t)(end - p->at);
    if (length + 3 > (size_t)size) {
        problem(p->report, "%s:%u: The line is longer than %d bytes.", p->name, p->line, size - 3);
        length = 0;
    } else if (memchr(p->at, '\0', length) || !utf8_valid(p->at, length)) {
        problem(p->report, "%s:%u: The line is not UTF-8 text.", p->name, p->line);
        length = 0;
    }
    memcpy(out, p->at, length);
    out[length] = '\n';
    out[length + 1] = '\0';
    p->at = end < p->end ? end + 1 : end;
    return out;
}

static bool section_known(const char *section)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (!strcmp(keys[i].section, section))
            return true;
    return false;
}

/* Returns 1: to inih 0 is a malformed line, and only the first of those has its line reported. */
static int one_key(void *userdata, const char *section, const char *name, const char *value)
{
    struct parser *p = userdata;
    const struct key *key = keys;
    const char *expected;
    size_t i;

    if (!section_known(section)) {
        if (*section)
            problem(p->report, "%s:%u: There is no section [%s].", p->name, p->line, section);
        else
            problem(p->report, "%s:%u: The key '%s' stands before the first [section].", p->name,
                    p->line, name);
        return 1;
    }
    for (i = 0; i < ARRAY_LEN(keys); i++, key++)
        if (!strcmp(key->section, section) && !strcmp(key->name, name))
            break;
    if (i == ARRAY_LEN(keys)) {
        problem(p->report, "%s:%u: There is no key '%s' in section [%s].", p->name, p->line, name,
                section);
        return 1;
    }
    if (p->seen[i]) {
        problem(p->report, "%s:%u: The key '%s' is given twice, first in line %u.", p->name,
                p->line, name, p->seen[i]);
        return 1;
    }
    p->seen[i] = p->line;

    expected = key->read((char *)p->config + key->offset, value, key->min, key->max);
    if (expected && *expected)
        problem(p->report, "%s:%u: The value of '%s' must be %s, not '%s'.", p->name, p->line, name,
                expected, value);
    else if (expected)
        problem(p->report, "%s:%u: The value of '%s' must be from %llu to %llu, not '%s'.", p->name,
                p->line, name, (unsigned long long)key->min, (unsigned long long)key->max, value);
    return 1;
}

unsigned config_parse(struct config *config, const char *name, const char *text, size_t length,
                      struct config_report *report)
{
    struct parser parser = {
        .config = config,
        .report = report,
        .name = name,
        .at = text,
        .end = text + length,
    };
    unsigned before = report->n;
    int malformed;

#ifdef HAVE_INI_MAX_LINE
    ini_max_line = CONFIG_LINE_MAX + 3;
#endif
    malformed = ini_parse_stream(next_line, &parser, one_key, &parser);

    if (malformed > 0)
        problem(report, "%s:%d: The line is neither a [section], nor key = value, nor a comment.",
                name, malformed);
    else if (malformed < 0)
        problem(report, "%s: There is not enough memory to read it.", name);
    return report->n - before;
}

/* all files */

/* A file that is absent is no problem, unless it `must` be there. */
static void read_file(struct config *config, const char *name, bool must,
                      struct config_report *report)
{
    _cleanup_(freep) char *text = NULL;
    _cleanup_(closep) int fd = -1;
    struct stat st;
    size_t length = 0;

    fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && !must && (errno == ENOENT || errno == ENOTDIR))
        return;
    if (fd < 0 || fstat(fd, &st) < 0) {
        problem(report, "%s: The file cannot be read: %s.", name, strerror(errno));
        return;
    }
    if (!S_ISREG(st.st_mode) && !(S_ISCHR(st.st_mode) && !must)) {
        problem(report, "%s: It is not a regular file.", name);
        return;
    }
    if (!(text = malloc(CONFIG_FILE_MAX + 1))) {
        problem(report, "%s: There is not enough memory to read it.", name);
        return;
    }
    while (length <= CONFIG_FILE_MAX) {
        ssize_t n = read(fd, text + length, CONFIG_FILE_MAX + 1 - length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            problem(report, "%s: The file cannot be read: %s.", name, strerror(errno));
            return;
        }
        if (n == 0)
            break;
        length += (size_t)n;
    }
    if (length > CONFIG_FILE_MAX) {
        problem(report, "%s: The file is larger than %zu bytes.", name, CONFIG_FILE_MAX);
        return;
    }
    config_parse(config, name, text, length, report);
}

static int is_dropin(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return entry->d_name[0] != '.' && length > 5 && !strcmp(entry->d_name + length - 5, ".conf");
}

/* lfmd.conf of one directory and its drop-ins. */
static void read_directory(struct config *config, const char *directory,
                           struct config_report *report)
{
    struct dirent **entries = NULL;
    char path[PATH_MAX];
    int n;

    if (snprintf(path, sizeof(path), "%s/lfmd/lfmd.conf", directory) >= (int)sizeof(path))
        return;
    read_file(config, path, false, report);

    strcat(strcpy(path, directory), "/lfmd/lfmd.conf.d"); /* one byte longer than the above */
    n = scandir(path, &entries, is_dropin, alphasort);
    for (int i = 0; i < n; i++) {
        char file[PATH_MAX + 300];

        snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        read_file(config, file, true, report);
        free(entries[i]);
    }
    free(entries);
}

struct config *config_read(const char *file, struct config_report *report)
{
    _cleanup_(config_freep) struct config *config = config_new();
    _cleanup_(freep) char *home = paths_home("XDG_CONFIG_HOME", ".config");
    _cleanup_(freep) char *list = paths_list("XDG_CONFIG_DIRS", "/etc/xdg");

    if (!config || !list) {
        problem(report, "There is not enough memory to read the configuration.");
        return NULL;
    }
    if (file) {
        read_file(config, file, true, report);
    } else {
        /* The first directory of the list matters most, so it is read last. */
        for (;;) {
            char *colon = strrchr(list, ':');
            const char *directory = colon ? colon + 1 : list;

            if (*directory == '/')
                read_directory(config, directory, report);
            if (!colon)
                break;
            *colon = '\0';
        }
        if (home)
            read_directory(config, home, report);
    }
    if (report->n > REPORT_MAX) {
        report->n = REPORT_MAX - 1; /* the next line is always taken */
        problem(report, "There are more problems than these.");
    }
    return report->n ? NULL : TAKE_PTR(config);
}
