/* SPDX-License-Identifier: MIT */
/*
 * Tools of MCP servers over stdio: $XDG_CONFIG_HOME/lfmd/mcp.json in the form that other programs
 * use,
 *
 *     {"mcpServers": {"files": {"command": "mcp-server-files", "args": ["/home/ada"], "env": {}}}}
 *
 * and "disabled" and "timeout_seconds" where wanted. A server is a program that is started when
 * tools are listed, or when one of its is called after it has died. Messages are JSON-RPC, one a
 * line.
 *
 *     start -> initialize -> notifications/initialized -> tools/list, page by page
 *         -> tools/call ...
 *
 * Nothing that a server says is trusted: texts are made plain, schemas are cut, lines, pages, tools
 * and bytes are counted, everything has a time limit. Who breaks a limit is killed.
 */
#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/desktop/internal.h"
#include "clients/desktop/process.h"
#include "clients/desktop/schema.h"

#define SERVERS_MAX     16
#define CONFIG_MAX      ((size_t)256 << 10)
#define ARGUMENTS_MAX   64
#define NAME_MAX_BYTES  32
#define LINE_BYTES_MAX  ((size_t)1 << 20)
#define UNASKED_MAX     ((size_t)4 << 20) /* bytes that answer nothing, one after another */
#define PAGES_MAX       16
#define TOOLS_MAX       64 /* of one server */
#define CURSOR_MAX      4096
#define TOOL_NAME_MAX   128
#define DESCRIPTION_MAX 1000
#define TEXT_MAX        ((size_t)64 << 10) /* of a result */
#define SECONDS         30
#define CLOSED_MSEC     300
#define SAID_MSEC       100
#define SECONDS_MAX     600
#define VERSION         "2025-06-18"

enum state { STATE_DOWN, STATE_STARTING, STATE_READY };

struct server {
    struct mcp *mcp;
    char *name, *definition;
    GStrv command, environment;
    unsigned seconds;

    enum state state;
    struct process process;
    GSource *sources[5]; /* stdin, stdout, stderr, child, and once stdout is closed a little time */
    GString *in, *out, *said;
    size_t unasked; /* bytes since the last answer */
    int64_t last_id;
    GQueue requests; /* of struct request */
    GQueue waiting;  /* of struct call, referenced: until it is ready */

    struct json_object *tools; /* array, as they were told */
    unsigned pages;
    bool listed, stale; /* stale: it says that they have changed */
    char *problem;      /* why it could not be listed */
};

struct mcp {
    struct desktop *desktop;
    GPtrArray *servers;
    char *config; /* as it was read last */
    GPtrArray *problems;
    void (*ready)(struct desktop *desktop); /* NULL: nobody waits */
    GSource *idle;
};

struct request {
    struct server *server;
    int64_t id;
    void (*answered)(struct server *server, struct request *request, struct json_object *result);
    struct call *call; /* or NULL */
    gulong watch;
    GSource *timeout;
};

struct mcp_tool {
    char *server, *tool;
};

enum { SOURCE_IN, SOURCE_OUT, SOURCE_ERR, SOURCE_CHILD, SOURCE_CLOSED };

static void server_down(struct server *server, const char *why);

static struct json_object *get(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    if (json_object_is_type(object, json_type_object))
        json_object_object_get_ex(object, key, &value);
    return value;
}

/* A member that is a text; "". */
static const char *text_of(struct json_object *object, const char *key)
{
    struct json_object *value = get(object, key);

    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

/* --- writing --------------------------------------------------------------------------------- */

static gboolean on_writable(int fd, GIOCondition condition, void *userdata)
{
    struct server *server = userdata;
    const ssize_t n = write(fd, server->out->str, server->out->len);

    (void)condition;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n > 0)
        g_string_erase(server->out, 0, n);
    if (n >= 0 && server->out->len > 0)
        return G_SOURCE_CONTINUE;
    /* One that does not read is found out by its silence. */
    desktop_drop(&server->sources[SOURCE_IN]);
    return G_SOURCE_REMOVE;
}

/* Takes message. */
static void send_message(struct server *server, struct json_object *message)
{
    json_object_object_add(message, "jsonrpc", json_object_new_string("2.0"));
    g_string_append(server->out, json_object_to_json_string_ext(
                                     message,
                                     JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    g_string_append_c(server->out, '\n');
    json_object_put(message);
    if (!server->sources[SOURCE_IN])
        server->sources[SOURCE_IN] =
            desktop_attach(g_unix_fd_source_new(server->process.in, G_IO_OUT | G_IO_ERR),
                           G_SOURCE_FUNC(on_writable), server);
}

static void notify(struct server *server, const char *method, struct json_object *params)
{
    struct json_object *message = json_object_new_object();

    json_object_object_add(message, "method", json_object_new_string(method));
    if (params)
        json_object_object_add(message, "params", params);
    send_message(server, message);
}

static void request_free(struct request *request)
{
    desktop_drop(&request->timeout);
    if (request->call) {
        g_cancellable_disconnect(request->call->cancellable, request->watch);
        call_unref(request->call);
    }
    g_free(request);
}

/* "it does not answer; it says: ..." */
static char *complaint(struct server *server, const char *what)
{
    g_autofree char *said = desktop_plain(server->said->str, PROCESS_SAID, false);

    g_strstrip(said);
    return g_strdup_printf("the MCP server %s %s%s%s", server->name, what,
                           *said ? "; it says: " : "", said);
}

static void give_up(struct request *request)
{
    struct json_object *params = json_object_new_object();

    json_object_object_add(params, "requestId", json_object_new_int64(request->id));
    notify(request->server, "notifications/cancelled", params);
    g_queue_remove(&request->server->requests, request);
    request_free(request);
}

static gboolean on_timeout(void *userdata)
{
    struct request *request = userdata;
    struct server *server = request->server;
    g_autofree char *why = complaint(server, "does not answer");

    if (server->state == STATE_READY && request->call) {
        call_fail(request->call, "%s", why);
        give_up(request);
    } else {
        server_down(server, why);
    }
    return G_SOURCE_REMOVE;
}

static gboolean on_give_up(void *userdata)
{
    give_up(userdata);
    return G_SOURCE_REMOVE;
}

/* From within the cancellable, which must not be disconnected there: its timeout comes at once. */
static void on_cancelled(GCancellable *cancellable, void *userdata)
{
    struct request *request = userdata;

    (void)cancellable;
    desktop_drop(&request->timeout);
    request->timeout = desktop_attach(g_idle_source_new(), on_give_up, request);
}

/* call: what it is for, or NULL. Takes params. */
static void send_request(struct server *server, const char *method, struct json_object *params,
                         struct call *call,
                         void (*answered)(struct server *server, struct request *request,
                                          struct json_object *result))
{
    struct json_object *message = json_object_new_object();
    struct request *request = g_new0(struct request, 1);

    request->server = server;
    request->id = ++server->last_id;
    request->answered = answered;
    request->timeout =
        desktop_attach(g_timeout_source_new_seconds(server->seconds), on_timeout, request);
    g_queue_push_tail(&server->requests, request);
    server->unasked = 0;
    json_object_object_add(message, "id", json_object_new_int64(request->id));
    json_object_object_add(message, "method", json_object_new_string(method));
    json_object_object_add(message, "params", params);
    send_message(server, message);
    if (call) {
        request->call = call_ref(call);
        request->watch = g_cancellable_connect(call->cancellable, G_CALLBACK(on_cancelled),
                                               request, NULL);
    }
}

/* --- listing --------------------------------------------------------------------------------- */

static bool is_settled(const struct server *server)
{
    return server->state == STATE_DOWN || (server->state == STATE_READY && server->listed);
}

static gboolean on_ready(void *userdata)
{
    struct mcp *mcp = userdata;
    void (*ready)(struct desktop *desktop) = mcp->ready;

    desktop_drop(&mcp->idle);
    mcp->ready = NULL;
    ready(mcp->desktop);
    return G_SOURCE_REMOVE;
}

/* Whoever waits for the list gets it when the last server has told its tools, or will not. */
static void settle(struct mcp *mcp)
{
    for (guint i = 0; mcp->ready && i < mcp->servers->len; i++) {
        if (!is_settled(g_ptr_array_index(mcp->servers, i)))
            return;
    }
    if (mcp->ready && !mcp->idle)
        mcp->idle = desktop_attach(g_idle_source_new(), on_ready, mcp);
}

static void call_tool(struct server *server, struct call *call);

static void ready(struct server *server)
{
    struct call *call;

    server->state = STATE_READY;
    server->listed = true;
    server->stale = false;
    settle(server->mcp);
    while ((call = g_queue_pop_head(&server->waiting))) {
        if (call->desktop)
            call_tool(server, call);
        call_unref(call);
    }
}

static void ask_page(struct server *server, const char *cursor);

static void on_page(struct server *server, struct request *request, struct json_object *result)
{
    struct json_object *tools = get(result, "tools"), *cursor = get(result, "nextCursor");
    g_autofree char *why = NULL;

    (void)request;
    if (!json_object_is_type(tools, json_type_array)) {
        why = complaint(server, "gives no list of tools");
        server_down(server, why);
        return;
    }
    for (size_t i = 0; i < json_object_array_length(tools); i++) {
        if (json_object_array_length(server->tools) < TOOLS_MAX)
            json_object_array_add(server->tools,
                                  json_object_get(json_object_array_get_idx(tools, i)));
    }
    if (json_object_is_type(cursor, json_type_string) && server->pages < PAGES_MAX &&
        json_object_get_string_len(cursor) <= CURSOR_MAX &&
        json_object_array_length(server->tools) < TOOLS_MAX)
        ask_page(server, json_object_get_string(cursor));
    else
        ready(server);
}

/* cursor NULL: from the beginning */
static void ask_page(struct server *server, const char *cursor)
{
    struct json_object *params = json_object_new_object();

    if (cursor) {
        json_object_object_add(params, "cursor", json_object_new_string(cursor));
        server->pages++;
    } else {
        json_object_put(server->tools);
        server->tools = json_object_new_array();
        server->pages = 1;
    }
    send_request(server, "tools/list", params, NULL, on_page);
}

static void on_initialized(struct server *server, struct request *request,
                           struct json_object *result)
{
    static const char *const known[] = {"2024-11-05", "2025-03-26", VERSION, NULL};
    const char *version = text_of(result, "protocolVersion");
    g_autofree char *why = NULL;

    (void)request;
    if (!g_strv_contains(known, version)) {
        g_autofree char *plain = desktop_plain(version, 32, false);
        g_autofree char *what = g_strdup_printf("speaks MCP '%s', which is not known here", plain);

        why = complaint(server, what);
    } else if (!get(get(result, "capabilities"), "tools")) {
        why = complaint(server, "has no tools");
    }
    if (why) {
        server_down(server, why);
        return;
    }
    notify(server, "notifications/initialized", NULL);
    ask_page(server, NULL);
}

static void initialize(struct server *server)
{
    struct json_object *params = json_object_new_object(), *client = json_object_new_object();

    json_object_object_add(client, "name", json_object_new_string("lfmd"));
    json_object_object_add(client, "version", json_object_new_string(LFMD_VERSION));
    json_object_object_add(params, "protocolVersion", json_object_new_string(VERSION));
    json_object_object_add(params, "capabilities", json_object_new_object());
    json_object_object_add(params, "clientInfo", client);
    send_request(server, "initialize", params, NULL, on_initialized);
}

/* --- reading --------------------------------------------------------------------------------- */

/* A request of the server's: a ping is answered, all else we cannot do. */
static void answer(struct server *server, struct json_object *message)
{
    struct json_object *reply = json_object_new_object();

    json_object_object_add(reply, "id", json_object_get(get(message, "id")));
    if (strcmp(text_of(message, "method"), "ping") == 0) {
        json_object_object_add(reply, "result", json_object_new_object());
    } else {
        struct json_object *error = json_object_new_object();

        json_object_object_add(error, "code", json_object_new_int(-32601));
        json_object_object_add(error, "message", json_object_new_string("not supported"));
        json_object_object_add(reply, "error", error);
    }
    if (server->out->len < LINE_BYTES_MAX)
        send_message(server, reply);
    else
        json_object_put(reply); /* it asks, and does not read */
}

static struct request *find_request(struct server *server, struct json_object *id)
{
    for (GList *at = server->requests.head; at; at = at->next) {
        struct request *request = at->data;

        if (json_object_is_type(id, json_type_int) && json_object_get_int64(id) == request->id)
            return request;
    }
    return NULL;
}

static void on_response(struct server *server, struct json_object *message)
{
    struct request *request = find_request(server, get(message, "id"));
    struct json_object *result = get(message, "result");

    if (!request)
        return; /* an answer to nothing */
    server->unasked = 0;
    g_queue_remove(&server->requests, request);
    if (json_object_is_type(result, json_type_object)) {
        request->answered(server, request, result);
    } else {
        g_autofree char *said = desktop_plain(
            get(message, "error") ? text_of(get(message, "error"), "message") : "no result", 200,
            false);
        g_autofree char *what = g_strdup_printf("refuses: %s", said);
        g_autofree char *why = complaint(server, what);

        if (request->call)
            call_fail(request->call, "%s", why);
        else
            server_down(server, why);
    }
    request_free(request);
}

static void on_line(struct server *server, const char *line, size_t length)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *message;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    message = json_tokener_parse_ex(tokener, line, (int)length + 1); /* with its NUL: complete */
    json_tokener_free(tokener);
    if (!json_object_is_type(message, json_type_object)) {
        /* Some print what they have to say where it does not belong. */
        if (server->said->len < PROCESS_SAID)
            g_string_append_len(server->said, line,
                                (gssize)MIN(length, PROCESS_SAID - server->said->len));
    } else if (get(message, "method") && get(message, "id")) {
        answer(server, message);
    } else if (strcmp(text_of(message, "method"), "notifications/tools/list_changed") == 0) {
        server->stale = true;
    } else if (!get(message, "method")) {
        on_response(server, message);
    }
    json_object_put(message);
}

/* False: it is down now. */
static bool take_lines(struct server *server)
{
    char *line = server->in->str, *const end = line + server->in->len, *newline;
    g_autofree char *why = NULL;

    for (; (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1) {
        *newline = '\0';
        server->unasked += (size_t)(newline - line) + 1;
        if (*line) /* a flood of empty ones is cheap to send */
            on_line(server, line, strlen(line));
        if (server->state == STATE_DOWN)
            return false;
    }
    g_string_erase(server->in, 0, line - server->in->str);
    if (server->in->len > LINE_BYTES_MAX)
        why = complaint(server, "sends a line of more than 1 MB");
    else if (server->unasked > UNASKED_MAX)
        why = complaint(server, "sends without end what nobody has asked for");
    if (why)
        server_down(server, why);
    return !why;
}

static gboolean on_closed(void *userdata)
{
    struct server *server = userdata;
    g_autofree char *why = complaint(server, "has closed its output");

    server_down(server, why);
    return G_SOURCE_REMOVE;
}

static gboolean on_readable(int fd, GIOCondition condition, void *userdata)
{
    struct server *server = userdata;
    char bytes[65536];
    const ssize_t n = read(fd, bytes, sizeof(bytes));

    (void)condition;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n <= 0) {
        /* Most that do so end, and then their status tells more. */
        desktop_drop(&server->sources[SOURCE_OUT]);
        server->sources[SOURCE_CLOSED] =
            desktop_attach(g_timeout_source_new(CLOSED_MSEC), on_closed, server);
        return G_SOURCE_REMOVE;
    }
    g_string_append_len(server->in, bytes, n);
    return take_lines(server) ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean on_said(int fd, GIOCondition condition, void *userdata);

static gboolean on_said_enough(void *userdata)
{
    struct server *server = userdata;

    desktop_drop(&server->sources[SOURCE_ERR]);
    server->sources[SOURCE_ERR] = desktop_watch_output(server->process.err, on_said, server);
    return G_SOURCE_REMOVE;
}

/* The last words are those that tell why. As much as a pipe holds is taken at a time, and then none
 * for a while: one that complains without end waits for us. */
static gboolean on_said(int fd, GIOCondition condition, void *userdata)
{
    struct server *server = userdata;
    char bytes[65536];
    const ssize_t n = read(fd, bytes, sizeof(bytes));

    (void)condition;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n <= 0) {
        desktop_drop(&server->sources[SOURCE_ERR]);
        return G_SOURCE_REMOVE;
    }
    g_string_append_len(server->said, bytes, n);
    if (server->said->len > PROCESS_SAID)
        g_string_erase(server->said, 0, (gssize)(server->said->len - PROCESS_SAID));
    desktop_drop(&server->sources[SOURCE_ERR]);
    server->sources[SOURCE_ERR] =
        desktop_attach(g_timeout_source_new(SAID_MSEC), on_said_enough, server);
    return G_SOURCE_REMOVE;
}

static void on_exited(GPid pid, int status, void *userdata)
{
    struct server *server = userdata;
    g_autofree char *what =
        WIFEXITED(status) ? g_strdup_printf("has ended with %d", WEXITSTATUS(status))
                          : g_strdup_printf("has ended by signal %d", WTERMSIG(status));
    g_autofree char *why = NULL;

    (void)pid;
    desktop_drop(&server->sources[SOURCE_CHILD]);
    if (server->sources[SOURCE_ERR])
        on_said(server->process.err, 0, server);
    why = complaint(server, what);
    server_down(server, why);
}

/* --- up and down ----------------------------------------------------------------------------- */

static void reaped(GPid pid, int status, void *userdata)
{
    (void)pid;
    (void)status;
    (void)userdata;
}

/* It is killed, what waits for it is told. */
static void server_down(struct server *server, const char *why)
{
    struct request *request;
    struct call *call;

    if (server->state == STATE_DOWN)
        return;
    if (!server->listed || server->state == STATE_STARTING) {
        g_free(server->problem);
        server->problem = g_strdup_printf("%c%s.", g_ascii_toupper(why[0]), why + 1);
    }
    server->state = STATE_DOWN;
    process_kill(server->process.pid);
    if (server->sources[SOURCE_CHILD]) {
        GSource *source = g_child_watch_source_new(server->process.pid);

        desktop_drop(&server->sources[SOURCE_CHILD]);
        desktop_attach(source, G_SOURCE_FUNC(reaped), NULL);
        g_source_unref(source);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(server->sources); i++)
        desktop_drop(&server->sources[i]);
    for (int *fd = &server->process.in; fd <= &server->process.err; fd++)
        close(TAKE_FD(*fd));
    while ((request = g_queue_pop_head(&server->requests))) {
        if (request->call)
            call_fail(request->call, "%s", why);
        request_free(request);
    }
    while ((call = g_queue_pop_head(&server->waiting))) {
        call_fail(call, "%s", why);
        call_unref(call);
    }
    settle(server->mcp);
}

static void server_start(struct server *server)
{
    struct error err = ERROR_INIT;

    g_clear_pointer(&server->problem, g_free);
    server->listed = false;
    g_string_truncate(server->in, 0);
    g_string_truncate(server->out, 0);
    g_string_truncate(server->said, 0);
    if (process_spawn((const char *const *)server->command,
                      (const char *const *)server->environment, NULL, &server->process, &err) < 0) {
        struct call *call;

        server->problem =
            g_strdup_printf("The MCP server %s cannot be started: %s.", server->name, err.text);
        while ((call = g_queue_pop_head(&server->waiting))) {
            call_fail(call, "%s", server->problem);
            call_unref(call);
        }
        settle(server->mcp);
        return;
    }
    server->state = STATE_STARTING;
    server->sources[SOURCE_OUT] = desktop_watch_output(server->process.out, on_readable, server);
    server->sources[SOURCE_ERR] = desktop_watch_output(server->process.err, on_said, server);
    server->sources[SOURCE_CHILD] =
        desktop_watch_child(server->process.pid, on_exited, server);
    initialize(server);
}

static void server_free(void *pointer)
{
    struct server *server = pointer;

    server_down(server, "it is not in mcp.json any more");
    g_string_free(server->in, TRUE);
    g_string_free(server->out, TRUE);
    g_string_free(server->said, TRUE);
    g_strfreev(server->command);
    g_strfreev(server->environment);
    json_object_put(server->tools);
    g_free(server->name);
    g_free(server->definition);
    g_free(server->problem);
    g_free(server);
}

/* --- calls ----------------------------------------------------------------------------------- */

/* The texts of a result; what is no text is named. */
static char *content(struct json_object *result)
{
    struct json_object *parts = get(result, "content"), *structured;
    GString *out = g_string_new(NULL);

    for (size_t i = 0; json_object_is_type(parts, json_type_array) &&
                       i < json_object_array_length(parts) && out->len < TEXT_MAX;
         i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        const char *type = text_of(part, "type");
        const char *text = strcmp(type, "text") == 0 ? text_of(part, "text")
                           : strcmp(type, "resource") == 0
                               ? text_of(get(part, "resource"), "text")
                               : "";

        if (out->len)
            g_string_append_c(out, '\n');
        if (*text)
            g_string_append(out, text);
        else
            g_string_append_printf(out, "(%.40s)", type);
    }
    structured = get(result, "structuredContent");
    if (out->len == 0 && structured)
        g_string_append(out, json_object_to_json_string_ext(structured, JSON_C_TO_STRING_PLAIN));
    return g_string_free(out, FALSE);
}

static void on_result(struct server *server, struct request *request, struct json_object *result)
{
    g_autofree char *text = content(result), *plain = desktop_plain(text, TEXT_MAX, true);
    struct call *call = request->call;
    struct json_object *out;

    if (!call->desktop)
        return;
    if (json_object_get_boolean(get(result, "isError"))) {
        call_fail(call, "%s", *plain ? plain : "it says no more than that");
        return;
    }
    out = json_object_new_object();
    json_object_object_add(out, "result", json_object_new_string(plain));
    call_done(call, out, _("%s has answered."), server->name);
}

static void call_tool(struct server *server, struct call *call)
{
    const struct mcp_tool *tool = call->tool->source;
    struct json_object *params = json_object_new_object();

    json_object_object_add(params, "name", json_object_new_string(tool->tool));
    json_object_object_add(params, "arguments", json_object_get(call->arguments));
    send_request(server, "tools/call", params, call, on_result);
}

static void run(struct call *call)
{
    const struct mcp_tool *tool = call->tool->source;
    struct mcp *mcp = call->desktop->mcp;
    struct server *server = NULL;

    for (guint i = 0; i < mcp->servers->len; i++) {
        struct server *at = g_ptr_array_index(mcp->servers, i);

        if (strcmp(at->name, tool->server) == 0)
            server = at;
    }
    if (!server) {
        call_fail(call, "the MCP server %s is not in mcp.json any more", tool->server);
    } else if (server->state == STATE_READY) {
        call_tool(server, call);
    } else {
        g_queue_push_tail(&server->waiting, call_ref(call));
        if (server->state == STATE_DOWN)
            server_start(server);
    }
}

/* --- tools ----------------------------------------------------------------------------------- */

static void mcp_tool_free(void *pointer)
{
    struct mcp_tool *tool = pointer;

    g_free(tool->server);
    g_free(tool->tool);
    g_free(tool);
}

/* "files_read_file": letters, digits and _; g_free */
static char *joined_name(const char *server, const char *tool)
{
    char *name = g_strdup_printf("%s_%s", server, tool);

    for (char *at = name; *at; at++)
        *at = g_ascii_isalnum(*at) ? *at : '_';
    return name;
}

static void add_tool(struct server *server, struct json_object *told, GPtrArray *problems)
{
    const char *name = text_of(told, "name");
    g_autofree char *whole = joined_name(server->name, name), *plain = NULL, *description = NULL;
    struct error err = ERROR_INIT;
    struct json_object *parameters;
    struct mcp_tool *source;
    struct tool *tool;

    plain = desktop_plain(name, TOOL_NAME_MAX, false);
    if (!*name || strlen(name) > TOOL_NAME_MAX || !schema_name_ok(whole)) {
        g_ptr_array_add(problems,
                        g_strdup_printf("The MCP server %s has a tool with the name '%s', which "
                                        "cannot be used.",
                                        server->name, plain));
        return;
    }
    parameters = schema_plain(get(told, "inputSchema"), &err);
    if (!parameters) {
        g_ptr_array_add(problems, g_strdup_printf("The MCP server %s, tool %s: %s", server->name,
                                                  plain, err.text));
        return;
    }
    description = desktop_plain(text_of(told, "description"), DESCRIPTION_MAX, true);
    tool = desktop_add_tool(server->mcp->desktop, whole, description, parameters);
    if (!tool) {
        g_ptr_array_add(problems,
                        g_strdup_printf("There are two tools %s; that of the MCP server %s is left "
                                        "out.",
                                        whole, server->name));
        return;
    }
    source = g_new0(struct mcp_tool, 1);
    source->server = g_strdup(server->name);
    source->tool = g_strdup(name);
    g_free(tool->origin);
    tool->origin = g_strdup_printf("MCP server %s", server->name);
    tool->extra = g_strconcat(server->definition,
                              json_object_to_json_string_ext(told, JSON_C_TO_STRING_PLAIN), NULL);
    tool->from = TOOL_MCP;
    tool->source = source;
    tool->source_free = mcp_tool_free;
    tool->run = run;
}

void mcp_add_tools(struct mcp *mcp, GPtrArray *problems)
{
    for (guint i = 0; i < mcp->problems->len; i++)
        g_ptr_array_add(problems, g_strdup(g_ptr_array_index(mcp->problems, i)));
    for (guint i = 0; i < mcp->servers->len; i++) {
        struct server *server = g_ptr_array_index(mcp->servers, i);

        if (server->problem)
            g_ptr_array_add(problems, g_strdup(server->problem));
        for (size_t t = 0; !server->problem && t < json_object_array_length(server->tools); t++)
            add_tool(server, json_object_array_get_idx(server->tools, t), problems);
    }
}

/* --- mcp.json -------------------------------------------------------------------------------- */

static struct server *server_new(struct mcp *mcp, const char *name, struct json_object *object,
                                 struct error *err)
{
    g_autoptr(GPtrArray) command = g_ptr_array_new_with_free_func(g_free);
    struct json_object *timeout = get(object, "timeout_seconds");
    g_auto(GStrv) arguments = NULL, environment = NULL;
    struct server *server;
    bool ok = true, env_ok;

    if (get(object, "args"))
        arguments = desktop_strings(get(object, "args"), ARGUMENTS_MAX, &ok);
    environment = desktop_environment(get(object, "env"), &env_ok);
    if (!schema_name_ok(name) || strlen(name) > NAME_MAX_BYTES)
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The name of the MCP server '%.64s' must be made of at most %d letters, digits "
                  "and _.",
                  name, NAME_MAX_BYTES);
    else if (!*text_of(object, "command"))
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The MCP server %s has no command; only servers over stdio can be used.", name);
    else if (!ok || !env_ok)
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The MCP server %s: args must be a list of texts and env an object of texts.",
                  name);
    else if (timeout && (!json_object_is_type(timeout, json_type_int) ||
                         json_object_get_int64(timeout) < 1 ||
                         json_object_get_int64(timeout) > SECONDS_MAX))
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The MCP server %s: timeout_seconds must be a whole number from 1 to 600.", name);
    if (err->code != ERROR_NONE)
        return NULL;
    g_ptr_array_add(command, g_strdup(text_of(object, "command")));
    for (size_t i = 0; arguments && arguments[i]; i++)
        g_ptr_array_add(command, g_strdup(arguments[i]));
    g_ptr_array_add(command, NULL);
    server = g_new0(struct server, 1);
    server->mcp = mcp;
    server->name = g_strdup(name);
    server->definition = g_strdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
    server->command = (GStrv)g_ptr_array_free(g_steal_pointer(&command), FALSE);
    server->environment = g_steal_pointer(&environment);
    server->seconds = timeout ? (unsigned)json_object_get_int64(timeout) : SECONDS;
    server->process = (struct process){.in = -1, .out = -1, .err = -1};
    server->in = g_string_new(NULL);
    server->out = g_string_new(NULL);
    server->said = g_string_new(NULL);
    server->tools = json_object_new_array();
    g_queue_init(&server->requests);
    g_queue_init(&server->waiting);
    return server;
}

/* Again only where the file has changed. */
static void configure(struct mcp *mcp)
{
    g_autofree char *path = desktop_path(g_get_user_config_dir(), "mcp.json"), *text = NULL;
    struct error err = ERROR_INIT;
    struct json_object *file = NULL, *servers;

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        file = desktop_read_json(path, CONFIG_MAX, &err);
    text = file ? g_strdup(json_object_to_json_string_ext(file, JSON_C_TO_STRING_PLAIN))
                : g_strdup(err.text);
    if (g_strcmp0(text, mcp->config) == 0) {
        json_object_put(file);
        return;
    }
    g_free(mcp->config);
    mcp->config = g_steal_pointer(&text);
    g_ptr_array_set_size(mcp->servers, 0);
    g_ptr_array_set_size(mcp->problems, 0);
    servers = get(file, "mcpServers");
    if (err.code != ERROR_NONE)
        g_ptr_array_add(mcp->problems, g_strdup(err.text));
    else if (file && !json_object_is_type(servers, json_type_object))
        g_ptr_array_add(mcp->problems,
                        g_strdup_printf("'%s' has no object \"mcpServers\".", path));
    if (json_object_is_type(servers, json_type_object)) {
        json_object_object_foreach(servers, name, object)
        {
            struct error of_one = ERROR_INIT;
            struct server *server;

            if (json_object_get_boolean(get(object, "disabled")))
                continue;
            if (mcp->servers->len == SERVERS_MAX) {
                g_ptr_array_add(mcp->problems, g_strdup_printf("'%s' has more than %d servers.",
                                                               path, SERVERS_MAX));
                break;
            }
            server = server_new(mcp, name, object, &of_one);
            if (server)
                g_ptr_array_add(mcp->servers, server);
            else
                g_ptr_array_add(mcp->problems, g_strdup(of_one.text));
        }
    }
    json_object_put(file);
}

/* --- the whole ------------------------------------------------------------------------------- */

struct mcp *mcp_new(struct desktop *desktop)
{
    struct mcp *mcp = g_new0(struct mcp, 1);

    mcp->desktop = desktop;
    mcp->servers = g_ptr_array_new_with_free_func(server_free);
    mcp->problems = g_ptr_array_new_with_free_func(g_free);
    return mcp;
}

void mcp_list(struct mcp *mcp, void (*ready_function)(struct desktop *desktop))
{
    configure(mcp);
    for (guint i = 0; i < mcp->servers->len; i++) {
        struct server *server = g_ptr_array_index(mcp->servers, i);

        if (server->state == STATE_DOWN) {
            server_start(server);
        } else if (server->state == STATE_READY && server->stale) {
            server->listed = false;
            ask_page(server, NULL);
        }
    }
    mcp->ready = ready_function;
    settle(mcp);
}

void mcp_free(struct mcp *mcp)
{
    desktop_drop(&mcp->idle);
    mcp->ready = NULL;
    g_ptr_array_unref(mcp->servers);
    g_ptr_array_unref(mcp->problems);
    g_free(mcp->config);
    g_free(mcp);
}
