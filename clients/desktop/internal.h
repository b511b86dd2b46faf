/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of clients/desktop share: tools, and calls of them that are under way.
 *
 * A tool's run() gets a call that it must end once, at once or later, by call_done() or
 * call_fail(). A call may be over before (cancelled, the desktop was freed): its cancellable is
 * then cancelled, and ending it does nothing. It stays valid while a reference is held.
 */

#include <glib-unix.h>
#include <glib/gi18n-lib.h>

#include "clients/desktop/desktop.h"

struct call;

enum tool_from { TOOL_BUILTIN, TOOL_USER, TOOL_MCP };

struct tool {
    unsigned references; /* the desktop's list, and calls */
    enum tool_from from;
    char *name, *description, *origin;
    char *extra; /* what else the user agrees to, for the digest; or NULL */
    struct json_object *parameters;
    bool harmless, trained; /* trained: lfmd's own models know it */
    const char *question;   /* N_("Write a note?"); NULL: "Run NAME?" */

    /* What exactly will be done, for people; g_free. NULL: the arguments. */
    char *(*detail)(struct call *call);
    void (*run)(struct call *call);
    /* Take back; call->arguments is what call_undo() has been given. NULL: cannot be. */
    void (*undo)(struct call *call);

    void *source; /* of the origin: struct user_tool, struct mcp_tool */
    void (*source_free)(void *source);
};

struct call {
    struct desktop *desktop; /* NULL once it is over */
    struct tool *tool;       /* valid while it is not over */
    struct json_object *arguments;
    GCancellable *cancellable;
    gulong watch; /* on the caller's cancellable */
    GCancellable *callers;
    desktop_done done;
    void *userdata;

    struct desktop_question *question; /* NULL: not asked */
    const char *decision;              /* for the log */
    bool undoing;
    char *undoes; /* id of the record */
    struct json_object *undo;

    unsigned references;
    GList link;
};

/* --- calls (desktop.c) --- */

struct call *call_ref(struct call *call);
void call_unref(struct call *call);

/* The end. sentence: printf. result NULL: {"ok": true}; taken. */
void call_done(struct call *call, struct json_object *result, const char *sentence, ...)
    __attribute__((format(printf, 3, 4)));
/* why: few words for the model, "no such app"; the sentence for people is made of it. */
void call_fail(struct call *call, const char *why, ...) __attribute__((format(printf, 2, 3)));

/* How the call is undone, before its end. undo is taken. */
void call_undo(struct call *call, struct json_object *undo);

/* Arguments have been checked against the schema: "" and 0 where an optional one is missing. */
const char *call_text(struct call *call, const char *key);
int64_t call_number(struct call *call, const char *key);

struct timers;
struct mcp;

struct desktop {
    char *program;
    struct desktop_host host;
    void *userdata;
    GPtrArray *tools; /* of struct tool */
    GQueue calls;     /* under way */
    GPtrArray *listings; /* of struct listing */

    bool listing;        /* servers are waited for */
    struct timers *timers;
    struct mcp *mcp;
};

/* A new tool at the end of the list; NULL when there is one with that name. Texts are copied,
 * parameters taken. */
struct tool *desktop_add_tool(struct desktop *desktop, const char *name, const char *description,
                              struct json_object *parameters);

/* A tool that is built in; parameters: JSON Schema as text. */
struct builtin {
    const char *name, *description, *parameters;
    const char *question;
    bool harmless, trained;
    char *(*detail)(struct call *call);
    void (*run)(struct call *call);
    void (*undo)(struct call *call);
};

void desktop_add_builtins(struct desktop *desktop, const struct builtin *builtins, size_t n);

#define NO_PARAMETERS "{\"type\": \"object\", \"properties\": {}, \"required\": []}"

/* A file that says what to run: a JSON object, only writable by the user. The caller's. */
struct json_object *desktop_read_json(const char *path, size_t max, struct error *err);
/* Of a list of texts, and of an object of texts as NAME=VALUE (NULL: none); g_strfreev. */
GStrv desktop_strings(struct json_object *list, size_t max, bool *ok);
GStrv desktop_environment(struct json_object *object, bool *ok);

/* $XDG_..._HOME/lfmd/name; g_free */
char *desktop_path(const char *base, const char *name);

/* Have a source of the desktop's main context call a function. source is taken; what is returned is
 * for desktop_drop(), which accepts a NULL within and leaves one. */
GSource *desktop_attach(GSource *source, GSourceFunc function, void *userdata);
void desktop_drop(GSource **source);
/* What a program that we run writes is read when there is nothing to be drawn; so is its end seen,
 * which is to come behind it. */
GSource *desktop_watch_output(int fd, GUnixFDSourceFunc function, void *userdata);
GSource *desktop_watch_child(GPid pid, GChildWatchFunc function, void *userdata);

/* Text of strangers for people: valid UTF-8, no control characters but newlines if `lines`, at most
 * max bytes. g_free */
char *desktop_plain(const char *text, size_t max, bool lines);

/* --- the tools' files, in the order of models/tools.json as far as its models know them --- */

void timers_tools(struct desktop *desktop);
void timers_free(struct timers *timers);
bool timers_ringing(const struct timers *timers);
/* instance: of the handle of a timer; "": of something else. */
bool timers_are_ours(const struct timers *timers, const char *instance);
void volume_tools(struct desktop *desktop);
void apps_tools(struct desktop *desktop);
void notes_tools(struct desktop *desktop);
void clock_tools(struct desktop *desktop); /* date and time, calculator */
void media_tools(struct desktop *desktop);
void clipboard_tools(struct desktop *desktop);

/* --- tools from elsewhere; problems: of texts, g_free --- */

void user_tools(struct desktop *desktop, GPtrArray *problems);

struct mcp *mcp_new(struct desktop *desktop);
void mcp_free(struct mcp *mcp);
/* Have the servers of mcp.json running and their tools known, then call `ready`, later. */
void mcp_list(struct mcp *mcp, void (*ready)(struct desktop *desktop));
/* What is known then. */
void mcp_add_tools(struct mcp *mcp, GPtrArray *problems);
