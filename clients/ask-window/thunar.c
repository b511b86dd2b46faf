/* SPDX-License-Identifier: MIT */
#include "clients/ask-window/thunar.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <stdbool.h>
#include <string.h>

#define UNIQUE_ID "<unique-id>org.lfmd.Ask</unique-id>"
#define BEGIN     "<action>"
#define END       "</action>"
#define LAST      "</actions>"

static const char action[] = BEGIN "\n"
                                   "\t<icon>org.lfmd.Ask</icon>\n"
                                   "\t<name>%s</name>\n"
                                   "\t" UNIQUE_ID "\n"
                                   "\t<command>lfm-ask %%F</command>\n"
                                   "\t<description>%s</description>\n"
                                   "\t<patterns>*</patterns>\n"
                                   "\t<image-files/>\n" END "\n";

static char *own_path(void)
{
    return g_build_filename(g_get_user_config_dir(), "Thunar", "uca.xml", NULL);
}

/* The person's actions, else the system's, else none. NULL after a sentence. */
static char *read_actions(const char *path)
{
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    if (g_file_get_contents(path, &text, NULL, &error))
        return text;
    if (!g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_printerr("lfm-ask: %s\n", error->message);
        return NULL;
    }
    for (const char *const *folder = g_get_system_config_dirs(); *folder; folder++) {
        g_autofree char *system_path = g_build_filename(*folder, "Thunar", "uca.xml", NULL);

        if (g_file_get_contents(system_path, &text, NULL, NULL))
            return text;
    }
    return g_strdup("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<actions>\n" LAST "\n");
}

/* 0, or 1 after a sentence */
static int write_actions(const char *path, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = g_path_get_dirname(path);

    if (g_mkdir_with_parents(folder, 0700) == 0 &&
        g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
        return 0;
    g_printerr(_("lfm-ask: %s cannot be written: %s\n"), path,
               error ? error->message : g_strerror(errno));
    return 1;
}

/* Where our action stands, with the white space in front of it; false: it is not there. */
static bool find_own(const GString *text, size_t *ret_begin, size_t *ret_end)
{
    const char *id = strstr(text->str, UNIQUE_ID);
    const char *begin = id ? g_strrstr_len(text->str, id - text->str, BEGIN) : NULL;
    const char *end = id ? strstr(id, END) : NULL;

    if (!begin || !end)
        return false;
    while (begin > text->str && strchr(" \t\n", begin[-1]))
        begin--;
    *ret_begin = (size_t)(begin - text->str);
    *ret_end = (size_t)(end + strlen(END) - text->str);
    return true;
}

static void take_out(GString *text)
{
    size_t begin, end;

    while (find_own(text, &begin, &end))
        g_string_erase(text, (gssize)begin, (gssize)(end - begin));
}

int thunar_install(void)
{
    g_autofree char *path = own_path(), *old = read_actions(path), *own = NULL;
    g_autoptr(GString) text = NULL;
    const char *last;

    if (!old)
        return 1;
    text = g_string_new(old);
    take_out(text);
    last = g_strrstr(text->str, LAST);
    if (!last) {
        g_printerr(_("lfm-ask: %s is not a list of Thunar's actions; it was left as it is.\n"),
                   path);
        return 1;
    }
    own = g_markup_printf_escaped(action, _("Ask about this image"),
                                  _("A question about the picture, answered on this computer"));
    g_string_insert(text, last - text->str, own);
    if (write_actions(path, text->str) != 0)
        return 1;
    g_print(_("Thunar has the action from its next start on (%s).\n"), path);
    return 0;
}

int thunar_remove(void)
{
    g_autofree char *path = own_path(), *old = NULL;
    g_autoptr(GString) text = NULL;

    if (!g_file_test(path, G_FILE_TEST_EXISTS))
        return 0;
    old = read_actions(path);
    if (!old)
        return 1;
    text = g_string_new(old);
    take_out(text);
    return strcmp(text->str, old) == 0 ? 0 : write_actions(path, text->str);
}
