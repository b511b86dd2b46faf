/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an assistant can do on the desktop: tools that are described by JSON Schema, run after the
 * user has agreed, written into a log, and undone where that is possible.
 *
 *     desktop_list() -> option "tools" of CreateSession
 *     tool_call event -> desktop_call() -> [host: confirm] -> done():
 *         result->text is the tool_result
 *
 * Tools come from here (timers, volume, media, programs and files, clipboard, notes, date and time,
 * calculator), from the user's own files (tools/NAME.json) and from MCP servers (mcp.json), both in
 * $XDG_CONFIG_HOME/lfmd. Decisions and log are in $XDG_STATE_HOME/lfmd, notes in
 * $XDG_DATA_HOME/lfmd/notes.
 *
 * Nothing blocks: all answers come from the thread's default main context, never from within the
 * function that asked. The session bus is used where a tool needs it.
 *
 * Threads: one, which runs that main context.
 */

#include <gio/gio.h>
#include <json-c/json.h>
#include <stdbool.h>

#include "base/error.h"

struct desktop;
struct desktop_question;

enum desktop_decision {
    DESKTOP_REFUSE,
    DESKTOP_ONCE,
    DESKTOP_ALWAYS, /* this tool, as it is defined now, whatever the arguments */
};

/* What the program around it does. Every member may be NULL. */
struct desktop_host {
    /*
     * May this be done? Answer once with desktop_answer(), at once or later, unless `withdrawn`
     * comes first. NULL: what is not allowed for good is refused.
     */
    void (*confirm)(struct desktop_question *question, void *userdata);
    void (*withdrawn)(struct desktop_question *question, void *userdata);

    /* A timer has ended. It is told in a notification, too; `notified` false: nobody showed one. */
    void (*rang)(const char *sentence, bool notified, void *userdata);
    /* The list of timers has changed. */
    void (*timers_changed)(void *userdata);

    /* The clipboard of a program with a window. NULL: that of wl-clipboard or xclip, if installed.
     * read: answer once with desktop_clipboard_text(); write: false when it cannot be. */
    void (*clipboard_read)(void *request, void *userdata);
    bool (*clipboard_write)(const char *text, void *userdata);
};

/* program: who asks, for the log ("lfm-assistant"). Never NULL. */
struct desktop *desktop_new(const char *program, const struct desktop_host *host, void *userdata);
/* What is under way ends, timers and MCP servers too; no callback comes any more but `withdrawn`.
 * Not from within a callback. Accepts and returns NULL. */
struct desktop *desktop_free(struct desktop *desktop);

/* --- which tools there are ------------------------------------------------------------------- */

struct desktop_tool {
    const char *name, *description;
    struct json_object *parameters; /* JSON Schema */
    const char *origin;             /* "built in", a file, "MCP server NAME" */
    bool harmless;                  /* only reads what is no secret: nobody is asked */
    bool allowed;                   /* for good */
};

/*
 * tools: [{name, description, parameters}], for CreateSession; borrowed. problems: sentences about
 * files and servers that could not be used, NULL-terminated.
 */
typedef void (*desktop_listed)(struct json_object *tools, const char *const *problems,
                               void *userdata);

/*
 * model: id of the model that will get the list, or NULL. lfmd's own models ("lfmd-...") get the
 * tools that they were trained with, as they were trained with them; others get all, up to
 * DESKTOP_TOOLS_MAX, since reading long lists takes time; for them files are read anew and servers
 * are started.
 */
#define DESKTOP_TOOLS_MAX 32
void desktop_list(struct desktop *desktop, const char *model, desktop_listed listed,
                  void *userdata);

/* All that are known, after desktop_list(). False: there is none with this index. */
bool desktop_tool_at(struct desktop *desktop, size_t i, struct desktop_tool *ret);

/* --- calls ----------------------------------------------------------------------------------- */

struct desktop_result {
    bool ok;
    const char *text;     /* for the model: {"ok": true}, {"result": ...} or {"error": "..."} */
    const char *sentence; /* for people: what was done, or why not */
    const char *undo;     /* id for desktop_undo(), or NULL */
};

typedef void (*desktop_done)(const struct desktop_result *result, void *userdata); /* borrowed */

/*
 * Run a model's call. What is wrong (no such tool, arguments that its schema forbids, refused,
 * failed) is a result as well. The cancellable, or NULL, ends it early with an error as its result.
 */
void desktop_call(struct desktop *desktop, const char *name, struct json_object *arguments,
                  GCancellable *cancellable, desktop_done done, void *userdata);

enum desktop_way {
    DESKTOP_UNKNOWN, /* there is no such tool */
    DESKTOP_ASKS,
    DESKTOP_RUNS, /* harmless, or allowed for good */
};

/* What desktop_call() would do now. */
enum desktop_way desktop_way(struct desktop *desktop, const char *name);

/* Calls, or the telling that a timer has ended, are under way. */
bool desktop_busy(const struct desktop *desktop);

/* Of a question: what to show. Valid until it is answered or withdrawn. */
const char *desktop_question_text(const struct desktop_question *question); /* "Write a note?" */
/* What exactly: the note, the file, the command. Several lines; from the model, so not to be
 * trusted, but without control characters. */
const char *desktop_question_detail(const struct desktop_question *question);
const char *desktop_question_origin(const struct desktop_question *question);
void desktop_answer(struct desktop_question *question, enum desktop_decision decision);

/* text NULL: there is none. */
void desktop_clipboard_text(void *request, const char *text);

/* --- afterwards ------------------------------------------------------------------------------ */

/* Undo a call that this program or another has made. id NULL: the last that can be undone. */
void desktop_undo(struct desktop *desktop, const char *id, desktop_done done, void *userdata);

/* The last n calls, oldest first: [{id, time, program, tool, arguments, decision, ok, sentence,
 * undoable}]. The caller's. NULL with an error. */
struct json_object *desktop_log(struct desktop *desktop, size_t n, struct error *err);

/* Decide beforehand. allowed: name NULL is no tool; revoked: name NULL is every tool. */
int desktop_allow(struct desktop *desktop, const char *name, struct error *err);
int desktop_revoke(struct desktop *desktop, const char *name, struct error *err);

/* [{id, label, ends}] of the timers and alarms of this program, ends: seconds since 1970, the next
 * first. The caller's. */
struct json_object *desktop_timers(struct desktop *desktop);
