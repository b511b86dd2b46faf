/* SPDX-License-Identifier: MIT */
/*
 * lfmctl chat: a conversation with line editing and history. Ctrl-C at the prompt drops the line,
 * and leaves when it comes twice at an empty one; during an answer it cancels the answer. Without a
 * terminal, or with --json, it reads one question a line.
 *
 * A question may have several lines: what is pasted stays one question (bracketed paste), Alt-Enter
 * and a backslash at the end of a line begin another line, and """ begins and ends a block.
 */
#include <errno.h>
#include <glob.h>
#include <histedit.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/bus.h"
#include "clients/conversation.h"
#include "clients/tools.h"
#include "clients/verbs.h"

#define HISTORY_LINES 1000
#define LINE_BYTES    ((size_t)1 << 20)
#define FENCE         "\"\"\""

struct chat {
    sd_bus *bus;
    struct options options; /* may change with /model, /system and /stats */
    struct conversation conversation;
    struct pictures pictures; /* for the next question */
    EditLine *edit; /* NULL: no terminal */
    History *history;
    char history_path[PATH_MAX];
    char *model, *system; /* what options point to, when given here */
    char prompt[192];
    bool smart;             /* the terminal knows sequences, and marks what is pasted */
    bool interrupted;       /* Ctrl-C at the prompt, */
    bool interrupted_empty; /* where nothing had been typed */
};

static const char *const commands[] = {"/help", "/id",   "/image", "/model",
                                       "/new",  "/quit", "/stats", "/system"};

/* --- keys ----------------------------------------------------------------------------------- */

static struct chat *chat_of(EditLine *edit)
{
    struct chat *chat;

    el_get(edit, EL_CLIENTDATA, &chat);
    return chat;
}

static char *prompt_text(EditLine *edit)
{
    return chat_of(edit)->prompt;
}

/* The window has another size, or this is after a Ctrl-Z, which left the terminal to a shell. */
static void redraw(EditLine *edit, int number)
{
    if (number == SIGCONT) {
        el_set(edit, EL_PREP_TERM, 0);
        el_set(edit, EL_PREP_TERM, 1);
    }
    fputs(chat_of(edit)->smart ? "\r\033[J" : "\n", stdout);
    el_resize(edit);
    el_set(edit, EL_REFRESH);
}

/*
 * A character for the editor. Signals come in only here: Ctrl-C becomes the character of that name,
 * what should end the program ends the input, and a window of another size is drawn anew.
 */
static int read_key(EditLine *edit, wchar_t *ret)
{
    mbstate_t state = {0};

    for (;;) {
        char byte;
        size_t n;
        int r = terminal_wait(STDIN_FILENO, -1);
        int number = terminal_changed();

        if (number)
            redraw(edit, number);
        if (terminal_interrupts() > 1)
            return 0;
        if (terminal_interrupts() == 1) {
            terminal_forget_interrupts();
            *ret = L'\003';
            return 1;
        }
        if (r < 0)
            continue;
        if (read(STDIN_FILENO, &byte, 1) <= 0)
            return 0;
        n = mbrtowc(ret, &byte, 1, &state);
        if (n == (size_t)-2)
            continue;
        if (n == (size_t)-1)
            *ret = L'\xfffd';
        return 1;
    }
}

static unsigned char on_interrupt(EditLine *edit, wint_t ch)
{
    const LineInfo *line = el_line(edit);
    struct chat *chat = chat_of(edit);

    (void)ch;
    chat->interrupted = true;
    chat->interrupted_empty = line->lastchar == line->buffer;
    el_cursor(edit, (int)(line->lastchar - line->cursor));
    if (!chat->interrupted_empty)
        el_deletestr(edit, (int)(line->lastchar - line->buffer));
    fputs("^C\n", stdout);
    return CC_NEWLINE;
}

static unsigned char on_new_line(EditLine *edit, wint_t ch)
{
    (void)ch;
    el_insertstr(edit, "\n");
    return CC_REFRESH;
}

/* All between ESC[200~ and ESC[201~ is text, its line ends too. */
static unsigned char on_paste(EditLine *edit, wint_t ch)
{
    static const wchar_t end[] = L"\033[201~";
    const size_t end_length = ARRAY_LEN(end) - 1;
    wchar_t *text = NULL;
    size_t length = 0, size = 0, kept = 0;
    wchar_t c;

    (void)ch;
    while (length < LINE_BYTES && el_wgetc(edit, &c) == 1) {
        if (length + 1 >= size) {
            wchar_t *grown = realloc(text, (size ? size * 2 : 1024) * sizeof(*text));

            if (!grown)
                break;
            text = grown;
            size = size ? size * 2 : 1024;
        }
        text[length++] = c;
        if (length >= end_length &&
            wmemcmp(text + length - end_length, end, end_length) == 0) {
            length -= end_length;
            break;
        }
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] == L'\r')
            text[i] = L'\n';
        if (text[i] >= L' ' || text[i] == L'\n' || text[i] == L'\t')
            text[kept++] = text[i];
    }
    while (kept > 0 && text[kept - 1] == L'\n')
        kept--;
    if (kept > 0) {
        text[kept] = L'\0';
        el_winsertstr(edit, text);
    }
    free(text);
    return CC_REFRESH;
}

/* --- completion ----------------------------------------------------------------------------- */

/* The files that begin as `path` does, folders with their slash. */
static void add_files(struct json_object *list, const char *path)
{
    _cleanup_(freep) char *pattern = NULL;
    glob_t found = {0};

    if (asprintf(&pattern, "%s*", path) < 0)
        return;
    if (glob(pattern, GLOB_MARK | GLOB_NOSORT, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            if (utf8_valid(found.gl_pathv[i], strlen(found.gl_pathv[i])))
                json_object_array_add(list, json_object_new_string(found.gl_pathv[i]));
    globfree(&found);
}

/*
 * What may follow: commands, the installed models after "/model ", files after "/image ". Array of
 * strings.
 */
static struct json_object *candidates(struct chat *chat, const char *line, const char **ret_word)
{
    _cleanup_(bus_messagep) sd_bus_message *reply = NULL;
    _cleanup_(bus_jsonp) struct json_object *objects = NULL;
    struct json_object *list = json_object_new_array(), *model, *value;

    *ret_word = line;
    if (line[0] == '/' && !strchr(line, ' ')) {
        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
            json_object_array_add(list, json_object_new_string(commands[i]));
    } else if (strncmp(line, "/image ", 7) == 0) {
        *ret_word = line + 7;
        add_files(list, line + 7);
    } else if (strncmp(line, "/model ", 7) == 0 &&
               sd_bus_call_method(chat->bus, BUS_NAME, BUS_ROOT,
                                  "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
                                  &reply, NULL) >= 0) {
        *ret_word = line + 7;
        objects = bus_value(reply);
        json_object_object_foreach(objects, path, interfaces)
        {
            (void)path;
            if (json_object_object_get_ex(interfaces, BUS_MODEL, &model) &&
                bus_flag(model, "Installed") && json_object_object_get_ex(model, "Id", &value))
                json_object_array_add(list, json_object_get(value));
        }
    }
    return list;
}

/* Tab: as far as all that fits agrees; where that is nothing new, what fits is listed. */
static unsigned char on_complete(EditLine *edit, wint_t ch)
{
    const LineInfo *info = el_line(edit);
    _cleanup_(freep) char *line = strndup(info->buffer, (size_t)(info->cursor - info->buffer));
    _cleanup_(bus_jsonp) struct json_object *all = NULL;
    const char *word, *first = NULL;
    size_t length, common = 0, n = 0;
    char more[128];

    (void)ch;
    if (!line)
        return CC_ERROR;
    all = candidates(chat_of(edit), line, &word);
    length = strlen(word);
    for (size_t i = 0; i < json_object_array_length(all); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(all, i));

        if (strncmp(text, word, length) != 0)
            continue;
        if (n++ == 0) {
            first = text;
            common = strlen(text);
        }
        while (strncmp(first, text, common) != 0)
            common--;
    }
    if (n == 0)
        return CC_ERROR;
    if (n == 1 || common > length) {
        snprintf(more, sizeof(more), "%.*s%s", (int)(common - length), first + length,
                 n == 1 && word == line ? " " : "");
        return *more && el_insertstr(edit, more) == 0 ? CC_REFRESH : CC_ERROR;
    }
    putchar('\n');
    for (size_t i = 0; i < json_object_array_length(all); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(all, i));

        if (strncmp(text, word, length) == 0)
            printf("%s  ", text);
    }
    putchar('\n');
    return CC_REDISPLAY;
}

/* --- reading lines -------------------------------------------------------------------------- */

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
    static const struct {
        const wchar_t *name, *help;
        unsigned char (*run)(EditLine *edit, wint_t ch);
        const wchar_t *key;
    } functions[] = {
        {L"interrupt", L"drop the line", on_interrupt, L"^C"},
        {L"new-line", L"begin another line", on_new_line, L"\\e^M"},
        {L"new-line", L"begin another line", on_new_line, L"\\e^J"},
        {L"paste", L"take what is pasted", on_paste, L"\\e[200~"},
        {L"complete", L"complete a command", on_complete, L"^I"},
    };
    const char *term = getenv("TERM");
    HistEvent event;

    chat->edit = el_init("lfmctl", stdin, stdout, stderr);
    if (!chat->edit)
        return;
    chat->smart = term && strcmp(term, "dumb") != 0;
    el_set(chat->edit, EL_CLIENTDATA, chat);
    el_set(chat->edit, EL_PROMPT_ESC, prompt_text, '\1');
    el_set(chat->edit, EL_EDITOR, "emacs");
    el_set(chat->edit, EL_SIGNAL, 0);
    el_set(chat->edit, EL_GETCFN, read_key);
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        /* Wide: of narrow names libedit makes copies that nothing frees. */
        el_wset(chat->edit, EL_ADDFN, functions[i].name, functions[i].help, functions[i].run);
        el_wset(chat->edit, EL_BIND, functions[i].key, functions[i].name, NULL);
    }
    el_set(chat->edit, EL_BIND, "^D", "em-delete-or-list", NULL);
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
    if (chat->history)
        history_end(chat->history);
    if (chat->edit)
        el_end(chat->edit);
}

/* Saved at once: a terminal window is often just closed. */
static void remember(struct chat *chat, const char *line)
{
    HistEvent event;
    mode_t mask;

    if (!chat->history)
        return;
    history(chat->history, &event, H_ENTER, line);
    if (!chat->history_path[0])
        return;
    mask = umask(077);
    history(chat->history, &event, H_SAVE, chat->history_path);
    chmod(chat->history_path, 0600);
    umask(mask);
}

/* The terminal marks what is pasted only while a line is edited. */
static char *edit_line(struct chat *chat, const char *prompt)
{
    const char *bold = terminal_style(1, STYLE_BOLD), *plain = terminal_style(1, STYLE_PLAIN);
    const char *mark = *bold ? "\1" : "";
    const char *edited;
    int count = 0;

    snprintf(chat->prompt, sizeof(chat->prompt), "%s%s%s%s%s%s%s", mark, bold, mark, prompt, mark,
             plain, mark);
    el_set(chat->edit, EL_PREP_TERM, 1); /* before the prompt asks for keys, not after */
    if (chat->smart)
        fputs("\033[?2004h", stdout);
    edited = el_gets(chat->edit, &count);
    if (chat->smart)
        fputs("\033[?2004l", stdout);
    fflush(stdout);
    if (chat->interrupted)
        return strdup("");
    return edited && count > 0 ? strdup(edited) : NULL;
}

/* One line without its newline, malloc; NULL: no more. */
static char *read_line(struct chat *chat, const char *prompt)
{
    char *line = NULL;
    size_t size = 0, length;
    int r;

    chat->interrupted = chat->interrupted_empty = false;
    if (chat->edit) {
        line = edit_line(chat, prompt);
    } else {
        /* Interrupts end the waiting, not a system call in the middle of a line. */
        do {
            r = terminal_wait(STDIN_FILENO, -1);
        } while (r == -EINTR && terminal_interrupts() == 0);
        if (r <= 0 || getline(&line, &size, stdin) < 0) {
            free(line);
            line = NULL;
        }
    }
    length = line ? strlen(line) : 0;
    if (length > 0 && line[length - 1] == '\n')
        line[length - 1] = '\0';
    return line;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), n = strlen(end);

    return length >= n && strcmp(text + length - n, end) == 0;
}

/* The text inside the fences; text begins with one. */
static void strip_fences(char *text)
{
    const size_t n = strlen(FENCE);
    size_t length = strlen(text);

    if (length >= 2 * n && ends_with(text, FENCE))
        length -= n;
    memmove(text, text + n, length - n);
    text[length - n] = '\0';
}

/* A question: lines that end in a backslash go on, and so does what begins with """. NULL: the
 * end. */
static char *read_question(struct chat *chat)
{
    char *text = read_line(chat, "> ");
    bool fenced = text && strncmp(text, FENCE, strlen(FENCE)) == 0;

    while (text && !chat->interrupted &&
           (fenced ? strlen(text) < 2 * strlen(FENCE) || !ends_with(text, FENCE)
                   : ends_with(text, "\\"))) {
        _cleanup_(freep) char *before = text, *more = read_line(chat, fenced ? ". " : "  ");

        text = NULL;
        if (chat->interrupted)
            return strdup("");
        if (!more)
            return NULL;
        if (!fenced)
            before[strlen(before) - 1] = '\0';
        if (strlen(before) + strlen(more) > LINE_BYTES) {
            terminal_error("The question is longer than %zu MB.", LINE_BYTES >> 20);
            return strdup("");
        }
        if (asprintf(&text, "%s\n%s", before, more) < 0)
            return NULL;
    }
    if (fenced && text)
        strip_fences(text);
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

/* Another conversation in place of this one, which goes on when the other cannot be had. */
static int reopen(struct chat *chat, const struct options *wanted)
{
    struct conversation fresh = {.ask_person = chat->edit ? ask_person : NULL, .userdata = chat};
    int status = conversation_open(&fresh, chat->bus, wanted);

    if (status != STATUS_OK) {
        conversation_close(&fresh);
        return status;
    }
    conversation_close(&chat->conversation);
    chat->options = *wanted;
    chat->conversation = fresh;
    chat->conversation.options = &chat->options;
    if (chat->edit)
        terminal_note("%s%s/help lists what else can be typed", fresh.model ? fresh.model : "",
                      fresh.model ? ": " : "");
    return STATUS_OK;
}

static void command_help(void)
{
    terminal_note(
        "/image FILE    a picture for the next question; alone: none\n"
        "/new           begin again, with an empty conversation\n"
        "/model ID      another model, and begin again; alone: list them\n"
        "/system TEXT   other instructions, and begin again; alone: none\n"
        "/stats         times and counts after each answer, or no longer\n"
        "/id            how to go on with this conversation another day\n"
        "/quit          leave; so does ^D\n"
        "\n"
        "^C cancels the answer. Alt-Enter or \\ at the end of a line begin another line;\n"
        "%s begins and ends a block of lines. Tab completes commands.",
        FENCE);
}

/* A shell would know what ~/ means. */
static int command_image(struct chat *chat, const char *path)
{
    const char *home = getenv("HOME");
    _cleanup_(freep) char *whole = NULL;
    int status;

    if (!*path) {
        pictures_done(&chat->pictures);
        terminal_note("The next question goes without pictures.");
        return STATUS_OK;
    }
    if (strncmp(path, "~/", 2) == 0 && home && asprintf(&whole, "%s%s", home, path + 1) < 0)
        whole = NULL;
    status = pictures_add(&chat->pictures, whole ? whole : path);
    if (status == STATUS_OK)
        terminal_note("%u %s with the next question.", chat->pictures.n,
                      chat->pictures.n == 1 ? "picture goes" : "pictures go");
    return status;
}

/* As reopen(); text is what wanted points to, *owned what the options pointed to before. */
static void reopen_with(struct chat *chat, const struct options *wanted, char **owned, char *text)
{
    char *unused = text;

    if (reopen(chat, wanted) == STATUS_OK) {
        unused = *owned;
        *owned = text;
    }
    free(unused);
}

/* False: leave. Other programs' words for the same are understood too. */
static bool command(struct chat *chat, const char *line, int *status)
{
    const char *argument = line + strcspn(line, " \t");
    size_t length = (size_t)(argument - line);
    struct options wanted = chat->options;

    argument += strspn(argument, " \t");
    wanted.session = NULL; /* what begins again is another conversation */
#define IS(name) (length == strlen(name) && strncmp(line, name, length) == 0)
    if (IS("/quit") || IS("/exit") || IS("/bye"))
        return false;
    if (IS("/help") || IS("/?")) {
        command_help();
    } else if (IS("/new") || IS("/clear")) {
        reopen(chat, &wanted);
    } else if (IS("/model") && *argument) {
        char *model = strdup(argument);

        wanted.model = model;
        reopen_with(chat, &wanted, &chat->model, model);
    } else if (IS("/model")) {
        models_run(chat->bus, &(struct options){.verb = "models"});
    } else if (IS("/system")) {
        char *system = *argument ? strdup(argument) : NULL;

        wanted.system = system;
        reopen_with(chat, &wanted, &chat->system, system);
    } else if (IS("/image")) {
        int result = command_image(chat, argument);

        /* Nobody is there to notice that the next question would go without it. */
        if (!chat->edit)
            *status = result;
        return *status == STATUS_OK;
    } else if (IS("/stats")) {
        chat->options.stats = !chat->options.stats;
    } else if (IS("/id") && (chat->options.keep || chat->options.session)) {
        terminal_note("lfmctl chat --session %s", chat->conversation.id);
    } else if (IS("/id")) {
        terminal_note("This conversation is not kept; \"lfmctl chat --keep\" begins one that is.");
    } else {
        terminal_error("There is no command '%.*s'. /help lists them.", (int)MIN(length, 40), line);
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
        return command(chat, line, status);
    if (!utf8_valid(line, strlen(line))) {
        terminal_error("That was not UTF-8 text.");
        return true;
    }
    *status = conversation_ask(&chat->conversation, line, &chat->pictures);
    pictures_done(&chat->pictures);
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

/* False: Ctrl-C has come twice at an empty line. */
static bool dropped(const struct chat *chat, bool *was_empty)
{
    bool twice = *was_empty && chat->interrupted_empty;

    if (chat->interrupted_empty && !twice)
        terminal_note("(^C again or ^D leaves)");
    *was_empty = chat->interrupted_empty;
    return !twice;
}

int chat_run(sd_bus *bus, const struct options *options)
{
    struct chat chat = {.bus = bus};
    bool more = true, was_empty = false;
    char *line;
    int status;

    if (options->n_arguments) {
        terminal_error("\"lfmctl chat\" takes no question; \"lfmctl ask\" does.");
        return STATUS_USAGE;
    }
    if (!options->json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        editor_open(&chat);
    status = reopen(&chat, options);
    while (status == STATUS_OK && more) {
        line = read_question(&chat);
        if (!line) {
            if (chat.edit)
                putchar('\n');
            else if (terminal_interrupts() > 0)
                status = STATUS_INTERRUPTED;
            break;
        }
        if (chat.interrupted) {
            more = dropped(&chat, &was_empty);
        } else {
            was_empty = false;
            more = turn(&chat, line, &status);
        }
        free(line);
    }
    if (chat.edit && options->keep && chat.conversation.id)
        terminal_note("kept: lfmctl chat --session %s", chat.conversation.id);
    if (status == STATUS_OK)
        status = tools_wait_for_timers();
    conversation_close(&chat.conversation);
    pictures_done(&chat.pictures);
    editor_close(&chat);
    free(chat.model);
    free(chat.system);
    return status;
}
