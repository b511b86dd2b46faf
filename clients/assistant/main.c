/* SPDX-License-Identifier: MIT */

/*
 * lfm-assistant: a window to talk with the assistant, by voice and by keyboard.
 *
 * One process and one window for a user; a further start shows the window. "lfmctl toggle" activates
 * the action "toggle-listening" over the bus. The work is done by lfmd, which the session bus starts;
 * see lfm-assistant(1).
 */

#include <glib/gi18n.h>
#include <locale.h>
#include <string.h>

#include "clients/assistant/window.h"
#include "clients/gtk/light.h"
#include "clients/gtk/preview.h"

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
    gtk_window_present(window_of(application));
    light_after();
}

/* The window that is there stays where it is: the person looks at something else. */
static void toggle_listening(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                             gpointer userdata)
{
    GtkWindow *window = window_of(userdata);

    if (!gtk_widget_get_mapped(GTK_WIDGET(window)))
        gtk_window_present(window);
    light_after();
    g_action_group_activate_action(G_ACTION_GROUP(window), "toggle-listening", NULL);
}

static void about(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    adw_show_about_window(
        gtk_application_get_active_window(GTK_APPLICATION(userdata)), "application-name",
        _("Assistant"), "application-icon", "org.lfmd.Assistant", "version", LFMD_VERSION,
        "license-type", GTK_LICENSE_MIT_X11, "comments",
        _("Talks and acts on this computer, with the models of lfmd. Nothing leaves "
          "it. Answers may be wrong."),
        NULL);
}

static void on_startup(GtkApplication *application)
{
    static const GActionEntry actions[] = {
        {.name = "about", .activate = about},
        {.name = "toggle-listening", .activate = toggle_listening},
    };
    static const struct {
        const char *action, *keys[3];
    } keys[] = {
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
    };

    g_action_map_add_action_entries(G_ACTION_MAP(application), actions, G_N_ELEMENTS(actions),
                                    application);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        gtk_application_set_accels_for_action(application, keys[i].action,
                                              (const char *const *)keys[i].keys);
    gtk_window_set_default_icon_name("org.lfmd.Assistant");
}

static int on_options(GApplication *application G_GNUC_UNUSED, GVariantDict *options)
{
    if (!g_variant_dict_contains(options, "version"))
        return -1;
    g_print("lfm-assistant %s\n", LFMD_VERSION);
    return 0;
}

int main(int argc, char **argv)
{
    static const GOptionEntry options[] = {
        {.long_name = "version", .arg = G_OPTION_ARG_NONE, .description = N_("Print the version")},
        {NULL},
    };
    g_autoptr(AdwApplication) application = NULL;

    if (argc == 2 && strcmp(argv[1], PREVIEW_OPTION) == 0)
        return preview_child();

    light_before();
    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, LFMD_LOCALEDIR);
    bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    textdomain(GETTEXT_PACKAGE);

    application = adw_application_new("org.lfmd.Assistant", G_APPLICATION_DEFAULT_FLAGS);
    g_application_add_main_option_entries(G_APPLICATION(application), options);
    g_signal_connect(application, "handle-local-options", G_CALLBACK(on_options), NULL);
    g_signal_connect(application, "startup", G_CALLBACK(on_startup), NULL);
    g_signal_connect(application, "activate", G_CALLBACK(on_activate), NULL);
    return g_application_run(G_APPLICATION(application), argc, argv);
}
