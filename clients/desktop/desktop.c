/* SPDX-License-Identifier: MIT */
#include "clients/desktop/desktop.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/desktop/internal.h"
#include "clients/desktop/log.h"
#include "clients/desktop/schema.h"

#define TOOLS_BYTES_MAX   ((size_t)24 << 10) /* of a list for a model */
#define ARGUMENTS_MAX     ((size_t)64 << 10)
#define RESULT_MAX        ((size_t)32 << 10) /* what a model is given to read */
#define LOGGED_ARGUMENTS  ((size_t)2 << 10)
#define CALLS_MAX         32
#define SENTENCE_MAX      400
#define DETAIL_MAX        ((size_t)4 << 10)

struct desktop_question {
    struct call *call; /* NULL: withdrawn */
    char *text, *detail;
};

/* --- helpers --------------------------------------------------------------------------------- */

char *desktop_path(const char *base, const char *name)
{
    return g_build_filename(base, "lfmd", name, NULL);
}

GSource *desktop_attach(GSource *source, GSourceFunc function, void *userdata)
{
    g_source_set_callback(source, function, userdata, NULL);
    g_source_attach(source, g_main_context_get_thread_default());
    return source;
}

GSource *desktop_watch_output(int fd, GUnixFDSourceFunc function, void *userdata)
{
    GSource *source = g_unix_fd_source_new(fd, G_IO_IN | G_IO_HUP);

    g_source_set_priority(source, G_PRIORITY_DEFAULT_IDLE);
    return desktop_attach(source, G_SOURCE_FUNC(function), userdata);
}

GSource *desktop_watch_child(GPid pid, GChildWatchFunc function, void *userdata)
{
    GSource *source = g_child_watch_source_new(pid);

    g_source_set_priority(source, G_PRIORITY_DEFAULT_IDLE);
    return desktop_attach(source, G_SOURCE_FUNC(function), userdata);
}

void desktop_drop(GSource **source)
{
    if (*source) {
        g_source_destroy(*source);
        g_source_unref(*source);
    }
    *source = NULL;
}

/* Those that turn the direction of writing: what is shown would not be what is there. */
static bool turns(gunichar c)
{
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

char *desktop_plain(const char *text, size_t max, bool lines)
{
    g_autofree char *part = g_strndup(text, MIN(strlen(text), max));
    GString *out = g_string_new(NULL);

    utf8_repair(part);
    for (const char *at = part; *at; at = g_utf8_next_char(at)) {
        const gunichar c = g_utf8_get_char(at);

        if (c == '\n' && lines)
            g_string_append_c(out, '\n');
        else if (g_unichar_iscntrl(c) || turns(c))
            g_string_append_c(out, g_unichar_isspace(c) ? ' ' : '?');
        else
            g_string_append_unichar(out, c);
    }
    if (strlen(text) > max)
        g_string_append(out, "…");
    return g_string_free(out, FALSE);
}

static const char *member(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    if (!json_object_is_type(object, json_type_object) ||
        !json_object_object_get_ex(object, key, &value) ||
        !json_object_is_type(value, json_type_string))
        return "";
    return json_object_get_string(value);
}

static const char *compact(struct json_object *value)
{
    return json_object_to_json_string_ext(value,
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

const char *call_text(struct call *call, const char *key)
{
    return member(call->arguments, key);
}

int64_t call_number(struct call *call, const char *key)
{
    struct json_object *value = NULL;

    json_object_object_get_ex(call->arguments, key, &value);
    return json_object_get_int64(value);
}

/* --- tools ----------------------------------------------------------------------------------- */

static void tool_unref(void *pointer)
{
    struct tool *tool = pointer;

    if (--tool->references > 0)
        return;
    if (tool->source_free)
        tool->source_free(tool->source);
    g_free(tool->name);
    g_free(tool->description);
    g_free(tool->origin);
    g_free(tool->extra);
    json_object_put(tool->parameters);
    g_free(tool);
}

static struct tool *find_tool(struct desktop *desktop, const char *name)
{
    for (guint i = 0; i < desktop->tools->len; i++) {
        struct tool *tool = g_ptr_array_index(desktop->tools, i);

        if (strcmp(tool->name, name) == 0)
            return tool;
    }
    return NULL;
}

struct tool *desktop_add_tool(struct desktop *desktop, const char *name, const char *description,
                              struct json_object *parameters)
{
    struct tool *tool;

    if (find_tool(desktop, name)) {
        json_object_put(parameters);
        return NULL;
    }
    tool = g_new0(struct tool, 1);
    tool->references = 1;
    tool->name = g_strdup(name);
    tool->description = g_strdup(description);
    tool->origin = g_strdup("built in");
    tool->parameters = parameters;
    g_ptr_array_add(desktop->tools, tool);
    return tool;
}

void desktop_add_builtins(struct desktop *desktop, const struct builtin *builtins, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct builtin *b = &builtins[i];
        struct tool *tool = desktop_add_tool(desktop, b->name, b->description,
                                             json_tokener_parse(b->parameters));

        tool->question = b->question;
        tool->harmless = b->harmless;
        tool->trained = b->trained;
        tool->detail = b->detail;
        tool->run = b->run;
        tool->undo = b->undo;
    }
}

/* {name, description, parameters} */
static struct json_object *definition(const struct tool *tool)
{
    struct json_object *out = json_object_new_object();

    json_object_object_add(out, "name", json_object_new_string(tool->name));
    json_object_object_add(out, "description", json_object_new_string(tool->description));
    json_object_object_add(out, "parameters", json_object_get(tool->parameters));
    return out;
}

/* What the user agrees to for good: another definition, or one from elsewhere, is another tool. */
static char *digest(const struct tool *tool)
{
    struct json_object *all = definition(tool);
    char *sum;

    json_object_object_add(all, "origin", json_object_new_string(tool->origin));
    json_object_object_add(all, "extra", json_object_new_string(tool->extra ? tool->extra : ""));
    sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, compact(all), -1);
    json_object_put(all);
    return sum;
}

static bool is_allowed(const struct tool *tool)
{
    g_autofree char *sum = digest(tool);
    struct json_object *allowed;
    bool is;

    allowed_read(&allowed, NULL); /* of a damaged file nothing */
    is = strcmp(member(allowed, tool->name), sum) == 0;
    json_object_put(allowed);
    return is;
}

bool desktop_tool_at(struct desktop *desktop, size_t i, struct desktop_tool *ret)
{
    struct tool *tool;

    if (i >= desktop->tools->len)
        return false;
    tool = g_ptr_array_index(desktop->tools, i);
    *ret = (struct desktop_tool){
        .name = tool->name,
        .description = tool->description,
        .parameters = tool->parameters,
        .origin = tool->origin,
        .harmless = tool->harmless,
        .allowed = is_allowed(tool),
    };
    return true;
}

enum desktop_way desktop_way(struct desktop *desktop, const char *name)
{
    const struct tool *tool = find_tool(desktop, name);

    if (!tool)
        return DESKTOP_UNKNOWN;
    return tool->harmless || is_allowed(tool) ? DESKTOP_RUNS : DESKTOP_ASKS;
}

bool desktop_busy(const struct desktop *desktop)
{
    return desktop->calls.length > 0 || timers_ringing(desktop->timers);
}

static int allow(const struct tool *tool, struct error *err)
{
    g_autofree char *sum = digest(tool);

    return allowed_write(tool->name, sum, err);
}

int desktop_allow(struct desktop *desktop, const char *name, struct error *err)
{
    const struct tool *tool = name ? find_tool(desktop, name) : NULL;

    if (!tool)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no tool '%.100s'.",
                         name ? name : "");
    return allow(tool, err);
}

int desktop_revoke(struct desktop *desktop, const char *name, struct error *err)
{
    struct json_object *allowed;
    bool known;

    if (name) {
        /* Of a tool that is gone, too. */
        allowed_read(&allowed, NULL);
        known = find_tool(desktop, name) || json_object_object_get_ex(allowed, name, NULL);
        json_object_put(allowed);
        if (!known)
            return error_set(err, ERROR_INVALID_ARGUMENT, "There is no tool '%.100s'.", name);
    }
    return allowed_write(name, NULL, err);
}

/* --- listing --------------------------------------------------------------------------------- */

struct listing {
    struct desktop *desktop;
    bool trained_only;
    desktop_listed listed;
    void *userdata;
    GSource *idle; /* of one that waits for no server */
};

static void listing_free(void *pointer)
{
    struct listing *listing = pointer;

    desktop_drop(&listing->idle);
    g_free(listing);
}

/* What fits; the first ones that do not are named. */
static struct json_object *offered(struct desktop *desktop, bool trained_only, GPtrArray *problems)
{
    struct json_object *list = json_object_new_array();
    size_t bytes = 0, n_left = 0;
    const char *first_left = NULL;

    for (guint i = 0; i < desktop->tools->len; i++) {
        const struct tool *tool = g_ptr_array_index(desktop->tools, i);
        struct json_object *object;

        if (trained_only && !tool->trained)
            continue;
        object = definition(tool);
        bytes += strlen(compact(object));
        if (json_object_array_length(list) < DESKTOP_TOOLS_MAX && bytes <= TOOLS_BYTES_MAX) {
            json_object_array_add(list, object);
            continue;
        }
        json_object_put(object);
        first_left = first_left ? first_left : tool->name;
        n_left++;
    }
    if (n_left > 0)
        g_ptr_array_add(problems,
                        g_strdup_printf("There are too many tools: %s and %zu more are left out.",
                                        first_left, n_left - 1));
    return list;
}

static void complete(const struct listing *listing, GPtrArray *found)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_copy(found, (GCopyFunc)(void *)g_strdup, NULL);
    struct json_object *list;

    g_ptr_array_set_free_func(problems, g_free);
    list = offered(listing->desktop, listing->trained_only, problems);
    g_ptr_array_add(problems, NULL);
    listing->listed(list, (const char *const *)problems->pdata, listing->userdata);
    json_object_put(list);
}

/* The servers have told what they have: the list is made anew, for all who wait. */
static void on_servers(struct desktop *desktop)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) waiting = g_ptr_array_new_with_free_func(listing_free);

    for (guint i = desktop->tools->len; i-- > 0;) {
        const struct tool *tool = g_ptr_array_index(desktop->tools, i);

        if (tool->from != TOOL_BUILTIN)
            g_ptr_array_remove_index(desktop->tools, i);
    }
    user_tools(desktop, problems);
    mcp_add_tools(desktop->mcp, problems);
    desktop->listing = false;
    for (guint i = desktop->listings->len; i-- > 0;) {
        const struct listing *listing = g_ptr_array_index(desktop->listings, i);

        if (!listing->idle)
            g_ptr_array_insert(waiting, 0, g_ptr_array_steal_index(desktop->listings, i));
    }
    for (guint i = 0; i < waiting->len; i++)
        complete(g_ptr_array_index(waiting, i), problems);
}

/* What its own models know is built in: no server is started for that. */
static gboolean on_trained(void *userdata)
{
    struct listing *listing = userdata;
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    guint i = 0;

    g_ptr_array_find(listing->desktop->listings, listing, &i);
    g_ptr_array_steal_index(listing->desktop->listings, i);
    complete(listing, none);
    listing_free(listing);
    return G_SOURCE_REMOVE;
}

void desktop_list(struct desktop *desktop, const char *model, desktop_listed listed, void *userdata)
{
    struct listing *listing = g_new0(struct listing, 1);

    listing->desktop = desktop;
    listing->trained_only = model && g_str_has_prefix(model, "lfmd-");
    listing->listed = listed;
    listing->userdata = userdata;
    g_ptr_array_add(desktop->listings, listing);
    if (listing->trained_only) {
        listing->idle = desktop_attach(g_idle_source_new(), on_trained, listing);
    } else if (!desktop->listing) {
        desktop->listing = true;
        mcp_list(desktop->mcp, on_servers);
    }
}

/* --- calls ----------------------------------------------------------------------------------- */

struct call *call_ref(struct call *call)
{
    call->references++;
    return call;
}

void call_unref(struct call *call)
{
    if (--call->references > 0)
        return;
    json_object_put(call->arguments);
    json_object_put(call->undo);
    g_object_unref(call->cancellable);
    g_free(call->undoes);
    g_free(call);
}

void call_undo(struct call *call, struct json_object *undo)
{
    json_object_put(call->undo);
    call->undo = undo;
}

/* Withdraw what is still asked. */
static void drop_question(struct call *call)
{
    struct desktop_question *question = call->question;

    if (!question)
        return;
    call->question = NULL;
    if (call->desktop->host.withdrawn)
        call->desktop->host.withdrawn(question, call->desktop->userdata);
    g_free(question->text);
    g_free(question->detail);
    g_free(question);
}

/* Take it out of the desktop; whoever still works on it is told by the cancellable. */
static void detach(struct call *call)
{
    if (call->callers) {
        g_cancellable_disconnect(call->callers, call->watch);
        g_object_unref(call->callers);
        call->callers = NULL;
    }
    drop_question(call);
    g_queue_unlink(&call->desktop->calls, &call->link);
    call->desktop = NULL;
    g_clear_pointer(&call->tool, tool_unref);
    g_cancellable_cancel(call->cancellable);
}

static struct json_object *logged_arguments(struct call *call)
{
    const char *text = compact(call->arguments);
    g_autofree char *cut = NULL;

    if (strlen(text) <= LOGGED_ARGUMENTS)
        return json_object_get(call->arguments);
    cut = desktop_plain(text, LOGGED_ARGUMENTS, false);
    return json_object_new_string(cut);
}

/* Into the log. Returns the id; NULL with a sentence why not. */
static char *record(struct call *call, bool ok, const char *sentence, struct error *err)
{
    struct json_object *line = json_object_new_object();
    char *id = g_strdup_printf("%08x", g_random_int());

    json_object_object_add(line, "id", json_object_new_string(id));
    json_object_object_add(line, "time", json_object_new_int64((int64_t)time(NULL)));
    json_object_object_add(line, "program", json_object_new_string(call->desktop->program));
    json_object_object_add(line, "tool", json_object_new_string(call->tool->name));
    if (call->undoing)
        json_object_object_add(line, "undoes", json_object_new_string(call->undoes));
    else
        json_object_object_add(line, "arguments", logged_arguments(call));
    json_object_object_add(line, "decision", json_object_new_string(call->decision));
    json_object_object_add(line, "ok", json_object_new_boolean(ok));
    json_object_object_add(line, "sentence", json_object_new_string(sentence));
    if (ok && call->undo)
        json_object_object_add(line, "undo", json_object_get(call->undo));
    if (log_append(line, err) < 0)
        g_clear_pointer(&id, g_free);
    json_object_put(line);
    return id;
}

/* {"ok": true}, with the spaces that lfmd's own models know. */
static char *spaced(struct json_object *object)
{
    GString *out = g_string_new("{");

    json_object_object_foreach(object, key, value)
    {
        struct json_object *name = json_object_new_string(key);

        g_string_append_printf(out, "%s%s: ", out->len > 1 ? ", " : "", compact(name));
        g_string_append(out, compact(value));
        json_object_put(name);
    }
    g_string_append_c(out, '}');
    return g_string_free(out, FALSE);
}

/* text for the model: short enough to be read. Takes result. */
static char *result_text(struct json_object *result)
{
    char *text = spaced(result);

    if (strlen(text) > RESULT_MAX) {
        struct json_object *part = json_object_new_object();
        g_autofree char *cut = desktop_plain(text, RESULT_MAX / 2, true);

        json_object_object_add(part, "result", json_object_new_string(cut));
        json_object_object_add(part, "cut", json_object_new_boolean(true));
        g_free(text);
        text = spaced(part);
        json_object_put(part);
    }
    json_object_put(result);
    return text;
}

static void end(struct call *call, bool ok, struct json_object *result, const char *sentence)
{
    struct error err = ERROR_INIT;
    g_autofree char *text = result_text(result), *id = NULL, *with_error = NULL;
    struct desktop_result told = {.ok = ok, .text = text, .sentence = sentence};
    desktop_done done = call->done;
    void *userdata = call->userdata;

    if (call->tool) {
        id = record(call, ok, sentence, &err);
        if (!id)
            told.sentence = with_error = g_strdup_printf("%s %s", sentence, err.text);
        if (id && ok && call->undo && !call->undoing)
            told.undo = id;
    }
    detach(call);
    call_unref(call);
    done(&told, userdata);
}

void call_done(struct call *call, struct json_object *result, const char *format, ...)
{
    g_autofree char *text = NULL, *sentence = NULL;
    va_list arguments;

    if (!result) {
        result = json_object_new_object();
        json_object_object_add(result, "ok", json_object_new_boolean(true));
    }
    if (!call->desktop) {
        json_object_put(result);
        return;
    }
    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    sentence = desktop_plain(text, SENTENCE_MAX, false);
    end(call, true, result, sentence);
}

/* {"error": why} */
static struct json_object *error_result(const char *why)
{
    struct json_object *result = json_object_new_object();

    json_object_object_add(result, "error", json_object_new_string(why));
    return result;
}

void call_fail(struct call *call, const char *format, ...)
{
    g_autofree char *text = NULL, *why = NULL, *sentence = NULL;
    va_list arguments;

    if (!call->desktop)
        return;
    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    why = desktop_plain(text, SENTENCE_MAX, false);
    if (g_str_has_suffix(why, "."))
        why[strlen(why) - 1] = '\0';
    sentence = g_strdup_printf(_("%s did not work: %s."),
                               call->tool ? call->tool->name : "The call", why);
    end(call, false, error_result(why), sentence);
}

static void run(struct call *call)
{
    if (call->undoing)
        call->tool->undo(call);
    else
        call->tool->run(call);
}

/* A member for each line: "text: buy milk" */
static char *argument_lines(struct call *call)
{
    GString *out = g_string_new(NULL);

    json_object_object_foreach(call->arguments, key, value)
    {
        g_string_append_printf(out, "%s%s: %s", out->len ? "\n" : "", key,
                               json_object_is_type(value, json_type_string)
                                   ? json_object_get_string(value)
                                   : compact(value));
    }
    return g_string_free(out, FALSE);
}

static void ask(struct call *call)
{
    struct desktop *desktop = call->desktop;
    struct desktop_question *question = g_new0(struct desktop_question, 1);
    g_autofree char *detail =
        call->tool->detail ? call->tool->detail(call) : argument_lines(call);

    question->call = call;
    question->text = call->tool->question ? g_strdup(_(call->tool->question))
                                          : g_strdup_printf(_("Run %s?"), call->tool->name);
    question->detail = desktop_plain(detail ? detail : "", DETAIL_MAX, true);
    call->question = question;
    desktop->host.confirm(question, desktop->userdata);
}

/* All that may go wrong before anything is done, from the main loop. */
static gboolean on_start(void *userdata)
{
    struct call *call = userdata;
    struct error err = ERROR_INIT;

    if (!call->desktop)
        return G_SOURCE_REMOVE;
    if (!call->tool) {
        call_fail(call, "there is no such tool");
    } else if (strlen(compact(call->arguments)) > ARGUMENTS_MAX) {
        call_fail(call, "the arguments are too long");
    } else if (schema_check(call->tool->parameters, call->arguments, &err) < 0) {
        call_fail(call, "%s", err.text);
    } else if (call->tool->harmless) {
        call->decision = "harmless";
        run(call);
    } else {
        const bool allowed = is_allowed(call->tool);

        call->decision = allowed ? "allowed" : "refused";
        if (allowed)
            run(call);
        else if (call->desktop->host.confirm)
            ask(call);
        else
            call_fail(call, "not allowed");
    }
    return G_SOURCE_REMOVE;
}

static gboolean on_undo(void *userdata)
{
    struct call *call = userdata;

    if (call->desktop)
        run(call);
    return G_SOURCE_REMOVE;
}

static void unref_call(void *call)
{
    call_unref(call);
}

/* The caller's cancellable may fire from anywhere; the call ends in the main loop. */
static gboolean on_cancel(void *userdata)
{
    call_fail(userdata, "cancelled");
    return G_SOURCE_REMOVE;
}

static void later(struct call *call, GSourceFunc function)
{
    GSource *source = g_idle_source_new();

    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, function, call_ref(call), unref_call);
    g_source_attach(source, g_main_context_get_thread_default());
    g_source_unref(source);
}

static void on_cancelled(GCancellable *cancellable, void *userdata)
{
    (void)cancellable;
    later(userdata, on_cancel);
}

static struct call *call_new(struct desktop *desktop, struct tool *tool,
                             struct json_object *arguments, desktop_done done, void *userdata)
{
    struct call *call = g_new0(struct call, 1);

    call->desktop = desktop;
    call->tool = tool;
    if (tool)
        tool->references++;
    call->arguments = arguments ? json_object_get(arguments) : json_object_new_object();
    call->cancellable = g_cancellable_new();
    call->decision = "";
    call->done = done;
    call->userdata = userdata;
    call->references = 1;
    call->link.data = call;
    g_queue_push_tail_link(&desktop->calls, &call->link);
    return call;
}

static gboolean on_too_many(void *userdata)
{
    call_fail(userdata, "too many calls at once");
    return G_SOURCE_REMOVE;
}

void desktop_call(struct desktop *desktop, const char *name, struct json_object *arguments,
                  GCancellable *cancellable, desktop_done done, void *userdata)
{
    struct call *call = call_new(desktop, find_tool(desktop, name), arguments, done, userdata);

    if (cancellable) {
        call->callers = g_object_ref(cancellable);
        call->watch = g_cancellable_connect(cancellable, G_CALLBACK(on_cancelled), call, NULL);
    }
    later(call, desktop->calls.length > CALLS_MAX ? on_too_many : on_start);
}

/* --- questions ------------------------------------------------------------------------------- */

const char *desktop_question_text(const struct desktop_question *question)
{
    return question->text;
}

const char *desktop_question_detail(const struct desktop_question *question)
{
    return question->detail;
}

const char *desktop_question_origin(const struct desktop_question *question)
{
    return question->call->tool->origin;
}

static gboolean on_agreed(void *userdata)
{
    struct call *call = userdata;

    if (call->desktop)
        run(call);
    return G_SOURCE_REMOVE;
}

static gboolean on_refused(void *userdata)
{
    call_fail(userdata, "the user said no");
    return G_SOURCE_REMOVE;
}

void desktop_answer(struct desktop_question *question, enum desktop_decision decision)
{
    struct call *call = question->call;

    call->question = NULL;
    g_free(question->text);
    g_free(question->detail);
    g_free(question);
    call->decision = decision == DESKTOP_REFUSE ? "refused" : "agreed";
    if (decision == DESKTOP_ALWAYS)
        allow(call->tool, NULL); /* as it was shown: the list may have been made anew since */
    later(call, decision == DESKTOP_REFUSE ? on_refused : on_agreed);
}

/* --- log and undo ---------------------------------------------------------------------------- */

static bool was_undone(struct json_object *records, const char *id)
{
    for (size_t i = 0; i < json_object_array_length(records); i++) {
        struct json_object *record = json_object_array_get_idx(records, i), *ok;

        if (strcmp(member(record, "undoes"), id) == 0 &&
            json_object_object_get_ex(record, "ok", &ok) && json_object_get_boolean(ok))
            return true;
    }
    return false;
}

/* A timer is only undone by the program in which it runs. */
static bool undoable(struct desktop *desktop, struct json_object *records,
                     struct json_object *record)
{
    struct json_object *undo = NULL;

    return json_object_object_get_ex(record, "undo", &undo) &&
           !was_undone(records, member(record, "id")) &&
           timers_are_ours(desktop->timers, member(undo, "instance"));
}

struct json_object *desktop_log(struct desktop *desktop, size_t n, struct error *err)
{
    struct json_object *records = log_read(err), *out;
    size_t length;

    if (!records)
        return NULL;
    out = json_object_new_array();
    length = json_object_array_length(records);
    for (size_t i = length > n ? length - n : 0; i < length; i++) {
        struct json_object *record = json_object_array_get_idx(records, i);
        struct json_object *shown = json_object_new_object();

        json_object_object_foreach(record, key, value)
        {
            if (strcmp(key, "undo") != 0)
                json_object_object_add(shown, key, json_object_get(value));
        }
        json_object_object_add(shown, "undoable",
                               json_object_new_boolean(undoable(desktop, records, record)));
        json_object_array_add(out, shown);
    }
    json_object_put(records);
    return out;
}

/* The record to undo; borrowed. NULL with what is wrong. */
static struct json_object *to_undo(struct desktop *desktop, struct json_object *records,
                                   const char *id, const char **why)
{
    for (size_t i = json_object_array_length(records); i-- > 0;) {
        struct json_object *record = json_object_array_get_idx(records, i);

        if (!id && undoable(desktop, records, record))
            return record;
        if (id && strcmp(member(record, "id"), id) == 0) {
            if (undoable(desktop, records, record))
                return record;
            *why = was_undone(records, id) ? "it is undone already"
                                           : "it cannot be undone, or not by this program";
            return NULL;
        }
    }
    *why = id ? "there is no such call in the log" : "nothing can be undone";
    return NULL;
}

struct complaint {
    struct call *call;
    const char *why;
};

static gboolean on_complaint(void *userdata)
{
    struct complaint *complaint = userdata;

    call_fail(complaint->call, "%s", complaint->why);
    return G_SOURCE_REMOVE;
}

static void free_complaint(void *userdata)
{
    struct complaint *complaint = userdata;

    call_unref(complaint->call);
    g_free(complaint);
}

/* End it with that, from the main loop. */
static void complain(struct call *call, const char *why)
{
    struct complaint *complaint = g_new0(struct complaint, 1);
    GSource *source = g_idle_source_new();

    complaint->call = call_ref(call);
    complaint->why = why;
    g_source_set_callback(source, on_complaint, complaint, free_complaint);
    g_source_attach(source, g_main_context_get_thread_default());
    g_source_unref(source);
}

void desktop_undo(struct desktop *desktop, const char *id, desktop_done done, void *userdata)
{
    struct json_object *records = log_read(NULL), *record = NULL, *undo = NULL;
    const char *why = "the log cannot be read";
    struct tool *tool = NULL;
    struct call *call;

    if (records)
        record = to_undo(desktop, records, id, &why);
    if (record) {
        json_object_object_get_ex(record, "undo", &undo);
        tool = find_tool(desktop, member(record, "tool"));
        if (!tool || !tool->undo || !json_object_is_type(undo, json_type_object)) {
            why = "it cannot be undone";
            tool = NULL;
        }
    }
    call = call_new(desktop, tool, tool ? undo : NULL, done, userdata);
    call->undoing = true;
    call->decision = "undo";
    call->undoes = g_strdup(record ? member(record, "id") : "");
    if (tool)
        later(call, on_undo);
    else
        complain(call, why);
    json_object_put(records);
}

/* --- the whole ------------------------------------------------------------------------------- */

struct desktop *desktop_new(const char *program, const struct desktop_host *host, void *userdata)
{
    struct desktop *desktop = g_new0(struct desktop, 1);

    desktop->program = g_strdup(program);
    desktop->host = host ? *host : (struct desktop_host){0};
    desktop->userdata = userdata;
    desktop->tools = g_ptr_array_new_with_free_func(tool_unref);
    desktop->listings = g_ptr_array_new_with_free_func(listing_free);
    g_queue_init(&desktop->calls);
    desktop->mcp = mcp_new(desktop);
    timers_tools(desktop);
    volume_tools(desktop);
    apps_tools(desktop);
    notes_tools(desktop);
    clock_tools(desktop);
    media_tools(desktop);
    clipboard_tools(desktop);
    return desktop;
}

struct desktop *desktop_free(struct desktop *desktop)
{
    if (!desktop)
        return NULL;
    while (desktop->calls.head) {
        struct call *call = desktop->calls.head->data;

        detach(call);
        call_unref(call);
    }
    timers_free(desktop->timers);
    mcp_free(desktop->mcp);
    g_ptr_array_unref(desktop->listings);
    g_ptr_array_unref(desktop->tools);
    g_free(desktop->program);
    g_free(desktop);
    return NULL;
}
