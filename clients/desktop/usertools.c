/* SPDX-License-Identifier: MIT */
/*
 * Tools of the user: $XDG_CONFIG_HOME/lfmd/tools/NAME.json, each a JSON object with
 *
 *     description, parameters (JSON Schema), command (list of texts), and where wanted
 *     name, timeout_seconds, env
 *
 * The command is run without a shell, in the home folder. It gets the arguments as JSON on standard
 * input, and where its words hold {placeholders}, as texts there. What it prints is the result.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/desktop/internal.h"
#include "clients/desktop/process.h"
#include "clients/desktop/schema.h"

#define FILES_MAX       64
#define FILE_MAX        ((size_t)64 << 10)
#define WORDS_MAX       64
#define DESCRIPTION_MAX 1000
#define OUTPUT_MAX      ((size_t)64 << 10)
#define SECONDS         10
#define SECONDS_MAX     600

struct user_tool {
    GStrv command;
    GStrv environment; /* NAME=VALUE */
    unsigned seconds;
};

static void user_tool_free(void *pointer)
{
    struct user_tool *tool = pointer;

    g_strfreev(tool->command);
    g_strfreev(tool->environment);
    g_free(tool);
}

/* --- the command of a call ------------------------------------------------------------------- */

static struct json_object *get(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    json_object_object_get_ex(object, key, &value);
    return value;
}

/* The length of "{name}" with a parameter's name, at the beginning of text; 0: no placeholder. */
static size_t placeholder(const char *text, struct json_object *parameters,
                          char name[SCHEMA_NAME + 1])
{
    const char *end = *text == '{' ? strchr(text, '}') : NULL;
    const size_t length = end ? (size_t)(end - text - 1) : 0;

    if (length == 0 || length > SCHEMA_NAME)
        return 0;
    memcpy(name, text + 1, length);
    name[length] = '\0';
    return get(get(parameters, "properties"), name) ? length + 2 : 0;
}

/* An argument as a word; g_free. NULL: it is not given. */
static char *value_text(struct json_object *arguments, const char *name, bool *is_text)
{
    struct json_object *value = get(arguments, name);

    if (!value)
        return NULL;
    *is_text = json_object_is_type(value, json_type_string);
    return g_strdup(*is_text ? json_object_get_string(value)
                             : json_object_to_json_string_ext(
                                   value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/*
 * A word with its placeholders filled in: g_free. *left_out: it is nothing but the placeholder of
 * an argument that is not given. NULL with why.
 */
static char *fill(const char *word, struct call *call, bool options_over, bool *left_out,
                  const char **why)
{
    GString *out = g_string_new(NULL);
    const char *at = word;
    bool is_number = false;

    *left_out = false;
    while (*at) {
        char name[SCHEMA_NAME + 1];
        const size_t length = placeholder(at, call->tool->parameters, name);
        g_autofree char *value = NULL;
        bool is_text = false;

        if (length == 0) {
            g_string_append_c(out, *at++);
            continue;
        }
        value = value_text(call->arguments, name, &is_text);
        *left_out = *left_out || (!value && at == word && !at[length]);
        is_number = is_number || (value && !is_text && out->len == 0);
        g_string_append(out, value ? value : "");
        at += length;
    }
    /* What the model says, or leaves out, must not make an option of it. */
    if (*out->str == '-' && *word != '-' && !is_number && !options_over) {
        *why = "an argument must not begin with -";
        g_string_free(out, TRUE);
        return NULL;
    }
    return g_string_free(out, FALSE);
}

/* Of a call: g_strfreev. NULL with why. */
static GStrv words(struct call *call, const char **why)
{
    const struct user_tool *tool = call->tool->source;
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
    bool options_over = false;

    for (size_t i = 0; tool->command[i]; i++) {
        bool left_out;
        char *word = fill(tool->command[i], call, options_over, &left_out, why);

        if (!word)
            return NULL;
        if (left_out)
            g_free(word);
        else
            g_ptr_array_add(out, word);
        options_over = options_over || strcmp(tool->command[i], "--") == 0;
    }
    g_ptr_array_add(out, NULL);
    return (GStrv)g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

/* A word as people see where it ends; g_free */
static char *shown(const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,";

    return *word && strspn(word, plain) == strlen(word) ? g_strdup(word) : g_shell_quote(word);
}

static char *detail(struct call *call)
{
    const char *why = NULL;
    g_auto(GStrv) argv = words(call, &why);
    GString *out = g_string_new(NULL);

    for (size_t i = 0; argv && argv[i]; i++) {
        g_autofree char *word = shown(argv[i]);

        g_string_append_printf(out, "%s%s", i ? " " : "", word);
    }
    json_object_object_foreach(call->arguments, key, value)
    {
        g_string_append_printf(out, "\n%s: %s", key, json_object_get_string(value));
    }
    return g_string_free(out, FALSE);
}

static void on_ended(const struct process_result *result, void *userdata)
{
    struct call *call = userdata;

    if (!call->desktop) {
        call_unref(call);
        return;
    }
    if (result->ok) {
        g_autofree char *name = g_strdup(call->tool->name);
        g_autofree char *text = desktop_plain(result->output, OUTPUT_MAX, true);
        struct json_object *parsed, *out = json_object_new_object();

        g_strchomp(text);
        parsed = json_tokener_parse(text);
        /* JSON is handed on as it is. */
        if (!json_object_is_type(parsed, json_type_object) &&
            !json_object_is_type(parsed, json_type_array)) {
            json_object_put(parsed);
            parsed = json_object_new_string(text);
        }
        json_object_object_add(out, *text ? "result" : "ok",
                               *text ? parsed : json_object_new_boolean(true));
        if (!*text)
            json_object_put(parsed);
        call_done(call, out, _("%s is done."), name);
    } else {
        call_fail(call, "%s", result->why);
    }
    call_unref(call);
}

static void run(struct call *call)
{
    const struct user_tool *tool = call->tool->source;
    const struct process_limits limits = {tool->seconds, OUTPUT_MAX, false};
    const char *why = NULL;
    g_auto(GStrv) argv = words(call, &why);
    g_autofree char *input = NULL;

    if (!argv) {
        call_fail(call, "%s", why);
        return;
    }
    input = g_strdup_printf("%s\n", json_object_to_json_string_ext(
                                        call->arguments, JSON_C_TO_STRING_NOSLASHESCAPE));
    process_run((const char *const *)argv, (const char *const *)tool->environment, NULL, input,
                limits, call->cancellable, on_ended, call_ref(call));
}

/* --- files ----------------------------------------------------------------------------------- */

/* Whoever else can write it could run programs as this user. */
static bool is_ours(const struct stat *st)
{
    return (st->st_uid == getuid() || st->st_uid == 0) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

struct json_object *desktop_read_json(const char *path, size_t max, struct error *err)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    g_autofree char *text = NULL;
    struct json_tokener *tokener;
    struct json_object *object;
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0) {
        error_set(err, ERROR_IO, "'%s' cannot be read: %s.", path, g_strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || (size_t)st.st_size > max) {
        error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is no file of at most %zu KB.", path,
                  max >> 10);
        return NULL;
    }
    if (!is_ours(&st)) {
        error_set(err, ERROR_NOT_ALLOWED, "'%s' can be written by others: it is not used.", path);
        return NULL;
    }
    text = g_malloc((size_t)st.st_size + 1);
    n = read(fd, text, (size_t)st.st_size);
    tokener = json_tokener_new();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    object = n > 0 ? json_tokener_parse_ex(tokener, text, (int)n) : NULL;
    if (!object) {
        const enum json_tokener_error why = json_tokener_get_error(tokener);

        error_set(err, ERROR_INVALID_ARGUMENT, "'%s' is no JSON: %s at byte %zu.", path,
                  why == json_tokener_continue ? "it ends" : json_tokener_error_desc(why),
                  json_tokener_get_parse_end(tokener));
    } else if (!json_object_is_type(object, json_type_object)) {
        error_set(err, ERROR_INVALID_ARGUMENT, "'%s' holds no JSON object.", path);
        json_object_put(object);
        object = NULL;
    }
    json_tokener_free(tokener);
    return object;
}

GStrv desktop_strings(struct json_object *list, size_t max, bool *ok)
{
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);

    *ok = json_object_is_type(list, json_type_array) && json_object_array_length(list) <= max;
    for (size_t i = 0; *ok && i < json_object_array_length(list); i++) {
        struct json_object *text = json_object_array_get_idx(list, i);

        *ok = json_object_is_type(text, json_type_string) &&
              strlen(json_object_get_string(text)) == (size_t)json_object_get_string_len(text);
        if (*ok)
            g_ptr_array_add(out, g_strdup(json_object_get_string(text)));
    }
    g_ptr_array_add(out, NULL);
    return (GStrv)g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

GStrv desktop_environment(struct json_object *object, bool *ok)
{
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);

    *ok = !object || (json_object_is_type(object, json_type_object) &&
                      json_object_object_length(object) <= WORDS_MAX);
    if (*ok && object) {
        json_object_object_foreach(object, key, value)
        {
            *ok = *ok && *key && !strchr(key, '=') && json_object_is_type(value, json_type_string);
            if (*ok)
                g_ptr_array_add(out,
                                g_strdup_printf("%s=%s", key, json_object_get_string(value)));
        }
    }
    g_ptr_array_add(out, NULL);
    return (GStrv)g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

static int wrong(struct error *err, const char *path, const char *what)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "'%s': %s.", path, what);
}

static int check_keys(struct json_object *file, const char *path, struct error *err)
{
    static const char *const known[] = {"name",    "description",     "parameters",
                                        "command", "timeout_seconds", "env", NULL};

    json_object_object_foreach(file, key, value)
    {
        (void)value;
        if (!g_strv_contains(known, key))
            return error_set(err, ERROR_INVALID_ARGUMENT, "'%s': nothing is known of '%.60s'.",
                             path, key);
    }
    return 0;
}

/* command[0] with a slash, but not at the root: beside the file. */
static void resolve(GStrv command, const char *folder)
{
    if (strchr(command[0], '/') && command[0][0] != '/') {
        char *whole = g_build_filename(folder, command[0], NULL);

        g_free(command[0]);
        command[0] = whole;
    }
}

/* Of a file's object; user_tool_free */
static struct user_tool *read_tool(struct json_object *file, const char *folder, const char *path,
                                   struct error *err)
{
    struct json_object *timeout = get(file, "timeout_seconds");
    struct user_tool *tool = g_new0(struct user_tool, 1);
    bool ok;

    tool->seconds = SECONDS;
    tool->command = desktop_strings(get(file, "command"), WORDS_MAX, &ok);
    if (!ok || !tool->command[0] || !tool->command[0][0])
        wrong(err, path, "command must be a list of texts, a program and its arguments");
    else if (strchr(tool->command[0], '{'))
        wrong(err, path, "which program is run cannot be an argument");
    tool->environment = desktop_environment(get(file, "env"), &ok);
    if (!ok)
        wrong(err, path, "env must be an object of texts");
    if (timeout) {
        const int64_t seconds =
            json_object_is_type(timeout, json_type_int) ? json_object_get_int64(timeout) : 0;

        if (seconds < 1 || seconds > SECONDS_MAX)
            wrong(err, path, "timeout_seconds must be a whole number from 1 to 600");
        tool->seconds = (unsigned)seconds;
    }
    if (err->code == ERROR_NONE) {
        resolve(tool->command, folder);
        return tool;
    }
    user_tool_free(tool);
    return NULL;
}

static int load(struct desktop *desktop, const char *folder, const char *file_name,
                struct error *err)
{
    g_autofree char *path = g_build_filename(folder, file_name, NULL);
    g_autofree char *stem = g_strndup(file_name, strlen(file_name) - strlen(".json"));
    struct json_object *file = desktop_read_json(path, FILE_MAX, err), *parameters = NULL;
    struct json_object *text = get(file, "description");
    const char *name = get(file, "name") ? json_object_get_string(get(file, "name")) : stem;
    struct user_tool *source = NULL;
    struct error of_schema = ERROR_INIT;
    struct tool *tool;

    if (file && check_keys(file, path, err) == 0) {
        if (!name || !schema_name_ok(name))
            wrong(err, path, "the name must be made of at most 64 letters, digits and _");
        else if (!json_object_is_type(text, json_type_string) ||
                 json_object_get_string_len(text) > DESCRIPTION_MAX)
            wrong(err, path, "description must be a text of at most 1000 bytes");
        else if (!(parameters = schema_plain(get(file, "parameters"), &of_schema)))
            error_set(err, ERROR_INVALID_ARGUMENT, "'%s': %s", path, of_schema.text);
        else
            source = read_tool(file, folder, path, err);
    }
    if (!source) {
        json_object_put(parameters);
        json_object_put(file);
        return -EINVAL;
    }
    tool = desktop_add_tool(desktop, name, json_object_get_string(text), parameters);
    if (tool) {
        g_free(tool->origin);
        tool->origin = g_strdup(path);
        tool->source = source;
        tool->source_free = user_tool_free;
        tool->from = TOOL_USER;
        tool->detail = detail;
        tool->run = run;
        /* Another command under the same name is another tool. */
        tool->extra = g_strdup(json_object_to_json_string_ext(file, JSON_C_TO_STRING_PLAIN));
    } else {
        error_set(err, ERROR_INVALID_ARGUMENT, "'%s': there is a tool %s already.", path, name);
        user_tool_free(source);
    }
    json_object_put(file);
    return tool ? 0 : -EEXIST;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void user_tools(struct desktop *desktop, GPtrArray *problems)
{
    g_autofree char *folder = desktop_path(g_get_user_config_dir(), "tools");
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;
    struct stat st;

    /* The programs beside the files, too. */
    if (dir && (stat(folder, &st) < 0 || !is_ours(&st))) {
        g_ptr_array_add(problems, g_strdup_printf("'%s' can be written by others: its tools are "
                                                  "not used.", folder));
        return;
    }
    while (dir && (name = g_dir_read_name(dir))) {
        if (*name != '.' && g_str_has_suffix(name, ".json") && g_utf8_validate(name, -1, NULL))
            g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len && i < FILES_MAX; i++) {
        struct error err = ERROR_INIT;

        if (load(desktop, folder, g_ptr_array_index(names, i), &err) < 0)
            g_ptr_array_add(problems, g_strdup(err.text));
    }
    if (names->len > FILES_MAX)
        g_ptr_array_add(problems, g_strdup_printf("'%s' holds more than %d tools.", folder,
                                                  FILES_MAX));
}
