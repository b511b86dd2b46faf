/* SPDX-License-Identifier: MIT */
/*
 * Notes: text files in $XDG_DATA_HOME/lfmd/notes, named by day and first words. What is removed
 * goes into the folder .removed there.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/desktop/internal.h"

#define REMOVED   ".removed"
#define LISTED    50
#define NOTE_MAX  (16 << 10) /* bytes that are read */
#define TITLE_MAX 40         /* characters of the text in the name: at most 160 bytes */
#define NAMES_MAX 1000       /* notes of one day with the same words */

static char *folder(void)
{
    return desktop_path(g_get_user_data_dir(), "notes");
}

/* A name within the folder, as list_notes gives it. */
static bool is_name(const char *name)
{
    return *name && *name != '.' && strlen(name) < NAME_MAX && !strchr(name, '/');
}

/* "2026-11-30 buy milk": g_free */
static char *title(const char *text)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    GString *out = g_string_new(NULL);
    size_t n = 0;

    g_string_printf(out, "%04d-%02d-%02d ", g_date_time_get_year(now), g_date_time_get_month(now),
                    g_date_time_get_day_of_month(now));
    for (const char *at = text; *at && *at != '\n' && n < TITLE_MAX; at = g_utf8_next_char(at)) {
        const gunichar c = g_utf8_get_char(at);

        if (g_unichar_isalnum(c))
            g_string_append_unichar(out, c);
        else if (out->str[out->len - 1] != ' ')
            g_string_append_c(out, ' ');
        n++;
    }
    return g_strchomp(g_string_free(out, FALSE));
}

/* A new file for it. Returns the descriptor, or -1 with errno. */
static int create(const char *text, char **ret_name)
{
    g_autofree char *in = folder(), *of = title(text);
    int fd = -1;

    g_mkdir_with_parents(in, 0700);
    for (unsigned i = 1; fd < 0 && i <= NAMES_MAX; i++) {
        g_autofree char *name =
            i == 1 ? g_strdup_printf("%s.txt", of) : g_strdup_printf("%s %u.txt", of, i);
        g_autofree char *path = g_build_filename(in, name, NULL);

        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0)
            *ret_name = g_steal_pointer(&name);
        else if (errno != EEXIST)
            break;
    }
    return fd;
}

static struct json_object *named(const char *name)
{
    struct json_object *object = json_object_new_object();

    json_object_object_add(object, "name", json_object_new_string(name));
    return object;
}

static void run_add(struct call *call)
{
    const char *text = call_text(call, "text");
    g_autofree char *name = NULL, *line = g_strdup_printf("%s\n", text);
    _cleanup_(closep) int fd = -1;

    if (!*text) {
        call_fail(call, "the note is empty");
        return;
    }
    fd = create(text, &name);
    if (fd < 0 || write(fd, line, strlen(line)) != (ssize_t)strlen(line)) {
        call_fail(call, "the note cannot be written: %s", g_strerror(errno));
        return;
    }
    call_undo(call, named(name));
    call_done(call, NULL, _("Noted: %s."), name);
}

/* From the folder into .removed, or back. */
static int move(const char *name, bool back)
{
    g_autofree char *in = folder();
    g_autofree char *removed = g_build_filename(in, REMOVED, NULL);
    g_autofree char *here = g_build_filename(in, name, NULL);
    g_autofree char *there = g_build_filename(removed, name, NULL);

    g_mkdir_with_parents(removed, 0700);
    if (back && access(here, F_OK) == 0)
        return errno = EEXIST, -1;
    return back ? rename(there, here) : rename(here, there);
}

static void remove_note(struct call *call, const char *name)
{
    if (!is_name(name) || move(name, false) < 0)
        call_fail(call, "there is no note %.100s", name);
    else
        call_done(call, NULL, _("The note %.100s is removed."), name);
}

static void undo_add(struct call *call)
{
    remove_note(call, call_text(call, "name"));
}

static void run_remove(struct call *call)
{
    call_undo(call, named(call_text(call, "name")));
    remove_note(call, call_text(call, "name"));
}

static void undo_remove(struct call *call)
{
    const char *name = call_text(call, "name");

    if (!is_name(name) || move(name, true) < 0)
        call_fail(call, "the note %.100s cannot be brought back: %s", name, g_strerror(errno));
    else
        call_done(call, NULL, _("The note %.100s is back."), name);
}

static int newest_first(const void *a, const void *b)
{
    return -strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void run_list(struct call *call)
{
    g_autofree char *in = folder();
    g_autoptr(GDir) dir = g_dir_open(in, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    struct json_object *result = json_object_new_object(), *list = json_object_new_array();
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (is_name(name) && g_utf8_validate(name, -1, NULL))
            g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_sort(names, newest_first);
    for (guint i = 0; i < names->len && i < LISTED; i++)
        json_object_array_add(list, json_object_new_string(g_ptr_array_index(names, i)));
    json_object_object_add(result, "result", list);
    call_done(call, result, ngettext("There is %u note.", "There are %u notes.", names->len),
              names->len);
}

static void run_read(struct call *call)
{
    const char *name = call_text(call, "name");
    g_autofree char *in = folder(), *path = g_build_filename(in, name, NULL), *plain = NULL;
    _cleanup_(closep) int fd =
        is_name(name) ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    char text[NOTE_MAX + 1];
    struct json_object *result;
    struct stat st;
    ssize_t n = -1;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        n = read(fd, text, NOTE_MAX);
    if (n < 0) {
        call_fail(call, "there is no note %.100s", name);
        return;
    }
    text[n] = '\0';
    plain = desktop_plain(text, NOTE_MAX, true);
    result = json_object_new_object();
    json_object_object_add(result, "result", json_object_new_string(plain));
    call_done(call, result, _("The note %.100s was read."), name);
}

#define A_NAME                                                                                     \
    "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"}}, \"required\": "    \
    "[\"name\"]}"

void notes_tools(struct desktop *desktop)
{
    static const struct builtin builtins[] = {
        {
            .name = "add_note",
            .description = "Write a note.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"text\": {\"type\": "
                          "\"string\"}}, \"required\": [\"text\"]}",
            .question = N_("Write a note?"),
            .trained = true,
            .run = run_add,
            .undo = undo_add,
        },
        {
            .name = "list_notes",
            .description = "List the names of the notes, the newest first.",
            .parameters = NO_PARAMETERS,
            .question = N_("List your notes?"),
            .run = run_list,
        },
        {
            .name = "read_note",
            .description = "Read a note by its name.",
            .parameters = A_NAME,
            .question = N_("Read a note of yours?"),
            .run = run_read,
        },
        {
            .name = "remove_note",
            .description = "Remove a note by its name.",
            .parameters = A_NAME,
            .question = N_("Remove a note?"),
            .run = run_remove,
            .undo = undo_remove,
        },
    };

    desktop_add_builtins(desktop, builtins, G_N_ELEMENTS(builtins));
}
