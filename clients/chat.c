/* SPDX-License-Identifier: MIT */
/*
 * lfmctl chat: a conversation with line editing and history. Ctrl-C at the prompt drops the line,
 * and quits on an empty one; during an answer it cancels the answer. Without a terminal it reads
 * one question a line.
 */
#include <errno.h>
#include <histedit.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/conversation.h"
#include "clients/verbs.h"

#define HISTORY_LINES 1000
#define LINE_BYTES    ((size_t)1 << 20)

struct chat {
    sd_bus *bus;
    struct options options; /* may change with /model and /system */
    struct conversation conversation;
    EditLine *edit; /* NULL: no terminal */
    History *history;
    char history_path[PATH_MAX];
    char *model, *system; /* what options point to, when given here */
    const char *prompt;
    bool interrupted; /* Ctrl-C at the prompt */
};

/* --- reading lines -------------------------------------------------------------------------- */

static char *prompt_text(EditLine *edit)
{
    struct chat *chat;

    el_get(edit, EL_CLIENTDATA, &chat);
    return (char *)chat->prompt;
}

/* Ctrl-C: the terminal gives it as a character while a line is edited. */
static unsigned char on_interrupt(EditLine *edit, int ch)
{
    const LineInfo *line = el_line(edit);
    struct chat *chat;

    (void)ch;
    el_get(edit, EL_CLIENTDATA, &chat);
    chat->interrupted = true;
    el_cursor(edit, (int)(line->lastchar - line->cursor));
    if (line->lastchar > line->buffer)
        el_deletestr(edit, (int)(line->lastchar - line->buffer));
    fputs("^C\n", stdout);
    return CC_NEWLINE;
}

/* $XDG_STATE_HOME/lfmd/lfmctl_history; folders for the user alone. False: no history is kept. */
static bool history_place(char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;

    if (state && *state == '/')
        n = snprintf(path, size, "%s/lfmd/lfmctl_history", state);
    else if (home && *home == '/')
        n = snprintf(path, size, "%s/.local/state/lfmd/lfmctl_history", home);
    else
        return false;
    if (n < 0 || (size_t)n >= size)
        return false;
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0700);
        *p = '/';
    }
    return true;
}

static void editor_open(struct chat *chat)
{
    HistEvent event;

    chat->edit = el_init("lfmctl", stdin, stdout, stderr);
    if (!chat->edit)
        return;
    el_set(chat->edit, EL_CLIENTDATA, chat);
    el_set(chat->edit, EL_PROMPT, prompt_text);
    el_set(chat->edit, EL_EDITOR, "emacs");
    el_set(chat->edit, EL_SIGNAL, 0);
    el_set(chat->edit, EL_ADDFN, "interrupt", "drop the line", on_interrupt);
    el_set(chat->edit, EL_SETTY, "-d", "-isig", NULL);
    el_set(chat->edit, EL_BIND, "^C", "interrupt", NULL);
    el_set(chat->edit, EL_BIND, "^D", "ed-delete-next-char", NULL);
    el_set(chat->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(chat->edit, NULL); /* ~/.editrc */
    chat->history = history_init();
    if (!chat->history)
        return;
    history(chat->history, &event, H_SETSIZE, HISTORY_LINES);
    history(chat->history, &event, H_SETUNIQUE, 1);
    el_set(chat->edit, EL_HIST, history, chat->history);
    if (history_place(chat->history_path, sizeof(chat->history_path)))
        history(chat->history, &event, H_LOAD, chat->history_path);
    else
        chat->history_path[0] = '\0';
}

static void editor_close(struct chat *chat)
{
    HistEvent event;

    if (chat->history) {
        if (chat->history_path[0]) {
            mode_t mask = umask(077);

            history(chat->history, &event, H_SAVE, chat->history_path);
            chmod(chat->history_path, 0600);
            umask(mask);
        }
        history_end(chat->history);
    }
    if (chat->edit)
        el_end(chat->edit);
}

static void remember(struct chat *chat, const char *line)
{
    HistEvent event;

    if (chat->history)
        history(chat->history, &event, H_ENTER, line);
}

/* One line without its newline, malloc; NULL: no more. */
static char *read_line(struct chat *chat, const char *prompt)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    int count = 0;

    chat->interrupted = false;
    if (chat->edit) {
        const char *edited;

        chat->prompt = prompt;
        edited = el_gets(chat->edit, &count);
        if (chat->interrupted)
            line = strdup("");
        else if (edited && count > 0)
            line = strdup(edited);
    } else {
        int r;

        /* Interrupts end the waiting, not a system call in the middle of a line. */
        do {
            r = terminal_wait(STDIN_FILENO, -1);
        } while (r == -EINTR && terminal_interrupts() == 0);
        n = r > 0 ? getline(&line, &size, stdin) : -1;
        if (n < 0) {
            free(line);
            line = NULL;
        }
    }
    if (line)
        line[strcspn(line, "\n")] = '\0';
    return line;
}

/* A question: lines that end in a backslash go on. NULL: the end. */
static char *read_question(struct chat *chat)
{
    char *text = read_line(chat, "> ");

    while (text && *text && text[strlen(text) - 1] == '\\') {
        _cleanup_(freep) char *before = text, *more = read_line(chat, "  ");

        text = NULL;
        before[strlen(before) - 1] = '\n';
        if (!more || chat->interrupted)
            return more ? strdup("") : NULL;
        if (strlen(before) + strlen(more) > LINE_BYTES ||
            asprintf(&text, "%s%s", before, more) < 0)
            return strdup("");
    }
    return text;
}

/* What a person answers to a tool call. */
static char *ask_person(void *userdata, const char *name)
{
    struct chat *chat = userdata;
    char prompt[128];
    char *line;

    snprintf(prompt, sizeof(prompt), "  result of %.60s (Enter: done, ^D: none) = ", name);
    line = read_line(chat, prompt);
    if (!line || chat->interrupted) {
        free(line);
        if (chat->edit)
            putchar('\n');
        return NULL;
    }
    if (*line)
        return line;
    free(line);
    return strdup("{\"ok\": true}");
}

/* --- commands ------------------------------------------------------------------------------- */

static int reopen(struct chat *chat)
{
    int status;

    conversation_close(&chat->conversation);
    status = conversation_open(&chat->conversation, chat->bus, &chat->options);
    if (status == STATUS_OK && chat->edit)
        terminal_note("%s%s/help lists what else can be typed",
                      chat->conversation.model ? chat->conversation.model : "",
                      chat->conversation.model ? ": " : "");
    return status;
}

static void command_help(void)
{
    terminal_note("/new           begin again, with an empty conversation\n"
                  "/model ID      another model, and begin again\n"
                  "/system TEXT   other instructions, and begin again; alone: none\n"
                  "/id            the conversation's id, when it is kept\n"
                  "/quit          leave; so does ^D\n"
                  "A line that ends in \\ goes on. ^C cancels the answer.");
}

/* False: leave. */
static bool command(struct chat *chat, const char *line)
{
    const char *argument = line + strcspn(line, " \t");
    size_t length = (size_t)(argument - line);

    argument += strspn(argument, " \t");
#define IS(name) (length == strlen(name) && strncmp(line, name, length) == 0)
    if (IS("/quit") || IS("/exit"))
        return false;
    if (IS("/help")) {
        command_help();
    } else if (IS("/new")) {
        chat->options.session = NULL;
        reopen(chat);
    } else if (IS("/model") && *argument) {
        char *old = chat->model;

        chat->options.session = NULL;
        chat->options.model = chat->model = strdup(argument);
        free(old);
        reopen(chat);
    } else if (IS("/system")) {
        free(chat->system);
        chat->system = *argument ? strdup(argument) : NULL;
        chat->options.session = NULL;
        chat->options.system = chat->system;
        reopen(chat);
    } else if (IS("/id")) {
        terminal_note("%s", chat->conversation.id ? chat->conversation.id : "none");
    } else {
        terminal_error("There is no command '%.40s'. /help lists them.", line);
    }
    return true;
#undef IS
}

/* False: leave. */
static bool turn(struct chat *chat, const char *line, int *status)
{
    if (!line[strspn(line, " \t\n")])
        return true;
    remember(chat, line);
    if (line[0] == '/')
        return command(chat, line);
    if (!utf8_valid(line, strlen(line))) {
        terminal_error("That was not UTF-8 text.");
        return true;
    }
    if (!chat->conversation.path && reopen(chat) != STATUS_OK)
        return true;
    *status = conversation_ask(&chat->conversation, line);
    if (chat->edit) {
        putchar('\n');
        if (*status == STATUS_INTERRUPTED && terminal_interrupts() > 1)
            return false;
        /* A question that went wrong does not end a conversation; a daemon that left does. */
        if (*status != STATUS_DAEMON)
            *status = STATUS_OK;
    }
    terminal_forget_interrupts();
    return *status == STATUS_OK;
}

int chat_run(sd_bus *bus, const struct options *options)
{
    struct chat chat = {.bus = bus, .options = *options};
    char *line;
    int status;
    bool more = true;

    if (options->n_arguments) {
        terminal_error("\"lfmctl chat\" takes no question; \"lfmctl ask\" does.");
        return STATUS_USAGE;
    }
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        editor_open(&chat);
    chat.conversation.ask_person = chat.edit ? ask_person : NULL;
    chat.conversation.userdata = &chat;
    status = reopen(&chat);
    while (status == STATUS_OK && more) {
        line = read_question(&chat);
        if (!line) {
            if (chat.edit)
                putchar('\n');
            break;
        }
        /* Ctrl-C drops the line; on a second one in a row it leaves. */
        if (chat.interrupted) {
            free(line);
            line = read_question(&chat);
            if (!line || chat.interrupted) {
                free(line);
                break;
            }
        }
        more = turn(&chat, line, &status);
        free(line);
    }
    if (chat.edit && options->keep && chat.conversation.id)
        terminal_note("kept: lfmctl chat --session %s", chat.conversation.id);
    conversation_close(&chat.conversation);
    editor_close(&chat);
    free(chat.model);
    free(chat.system);
    return status;
}
