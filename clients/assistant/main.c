/* SPDX-License-Identifier: MIT */

/*
 * lfm-assistant: a window to talk with the assistant, by voice and by keyboard.
 *
 * One process and one window for a user; a further start shows the window. "lfmctl toggle"
 * activates the action "toggle-listening" over the bus. The work is done by lfmd, which the session
 * bus starts; see lfm-assistant(1).
 */

#include <glib/gi18n.h>
#include <string.h>

#include "clients/assistant/window.h"
#include "clients/gtk/preview.h"
#include "clients/gtk/program.h"

static const struct program_key keys[] = {
    {"win.answer::always", {"<Alt>w"}},
    {"win.answer::once", {"<Alt>a"}},
    {"win.answer::refuse", {"<Alt>r"}},
    {"win.copy", {"<Control><Shift>c"}},
    {"win.microphone::open", {"<Control><Shift>m"}},
    {"win.microphone::push", {"<Control><Shift>p"}},
    {"win.model", {"<Control>m"}},
    {"win.new", {"<Control>n"}},
    {"win.open", {"<Control>o"}},
    {"win.show-help-overlay", {"F1", "<Control>question"}},
    {"win.sidebar", {"F9"}},
    {"win.stop", {"Escape"}},
    {"win.toggle-listening", {"<Control>t"}},
    {"win.undo", {"<Control><Shift>z"}},
    {"window.close", {"<Control>w"}},
    {NULL},
};

static const struct program program = {
    .id = "org.lfmd.Assistant",
    .title = N_("Assistant"),
    .comments = N_("Talks and acts on this computer, with the models of lfmd. Nothing leaves "
                   "it. Answers may be wrong."),
    .keys = keys,
};

static GtkWindow *window_of(GtkApplication *application)
{
    GList *windows = gtk_application_get_windows(application);

    for (; windows; windows = windows->next) {
        if (ASSISTANT_IS_WINDOW(windows->data))
            return windows->data;
    }
    return GTK_WINDOW(assistant_window_new(application));
}

static void on_activate(GtkApplication *application)
{
    program_present(window_of(application));
}

/* The window that is there stays where it is: the person looks at something else. */
static void toggle_listening(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                             gpointer userdata)
{
    GtkWindow *window = window_of(userdata);

    if (!gtk_widget_get_mapped(GTK_WIDGET(window)))
        program_present(window);
    g_action_group_activate_action(G_ACTION_GROUP(window), "toggle-listening", NULL);
}

static void on_startup(GtkApplication *application)
{
    static const GActionEntry actions[] = {
        {.name = "toggle-listening", .activate = toggle_listening},
    };

    g_action_map_add_action_entries(G_ACTION_MAP(application), actions, G_N_ELEMENTS(actions),
                                    application);
}

int main(int argc, char **argv)
{
    g_autoptr(AdwApplication) application = NULL;

    if (argc == 2 && strcmp(argv[1], PREVIEW_OPTION) == 0)
        return preview_child();

    application = program_new(&program, G_APPLICATION_DEFAULT_FLAGS, NULL);
    g_signal_connect(application, "startup", G_CALLBACK(on_startup), NULL);
    g_signal_connect(application, "activate", G_CALLBACK(on_activate), NULL);
    return g_application_run(G_APPLICATION(application), argc, argv);
}
