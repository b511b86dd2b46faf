/* SPDX-License-Identifier: MIT */

/*
 * lfm-ask [FILE...]: a window that answers questions about pictures.
 *
 * One process for all windows of a user; each start opens a window more. The work is done by lfmd,
 * which the session bus starts; see lfm-ask(1).
 */

#include <glib/gi18n.h>
#include <locale.h>
#include <string.h>

#include "clients/ask-window/thunar.h"
#include "clients/ask-window/window.h"
#include "clients/gtk/light.h"
#include "clients/gtk/preview.h"

static void on_activate(GtkApplication *application)
{
    gtk_window_present(GTK_WINDOW(ask_window_new(application)));
    light_after();
}

static void on_open(GtkApplication *application, GFile **files, int n_files,
                    const char *hint G_GNUC_UNUSED)
{
    AskWindow *window = ask_window_new(application);

    for (int i = 0; i < n_files; i++)
        ask_window_open(window, files[i]);
    gtk_window_present(GTK_WINDOW(window));
    light_after();
}

static void about(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    adw_show_about_window(gtk_application_get_active_window(GTK_APPLICATION(userdata)),
                          "application-name", _("Ask about a picture"), "application-icon",
                          "org.lfmd.Ask", "version", LFMD_VERSION, "license-type",
                          GTK_LICENSE_MIT_X11, "comments",
                          _("Questions about pictures, answered on this computer by the assistant "
                            "lfmd. Nothing leaves it. Answers may be wrong."),
                          NULL);
}

static void on_startup(GtkApplication *application)
{
    static const GActionEntry actions[] = {{.name = "about", .activate = about}};
    static const struct {
        const char *action, *keys[3];
    } keys[] = {
        {"win.copy", {"<Control><Shift>c"}},
        {"win.new", {"<Control>n"}},
        {"win.open", {"<Control>o"}},
        {"win.show-help-overlay", {"F1", "<Control>question"}},
        {"win.stop", {"Escape"}},
        {"window.close", {"<Control>w"}},
    };

    g_action_map_add_action_entries(G_ACTION_MAP(application), actions, G_N_ELEMENTS(actions),
                                    application);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        gtk_application_set_accels_for_action(application, keys[i].action,
                                              (const char *const *)keys[i].keys);
    gtk_window_set_default_icon_name("org.lfmd.Ask");
}

/* What is done without a window; -1: nothing of it. */
static int on_options(GApplication *application G_GNUC_UNUSED, GVariantDict *options)
{
    if (g_variant_dict_contains(options, "version")) {
        g_print("lfm-ask %s\n", LFMD_VERSION);
        return 0;
    }
    if (g_variant_dict_contains(options, "install-thunar-action"))
        return thunar_install();
    if (g_variant_dict_contains(options, "remove-thunar-action"))
        return thunar_remove();
    return -1;
}

int main(int argc, char **argv)
{
    static const GOptionEntry options[] = {
        {.long_name = "version", .arg = G_OPTION_ARG_NONE, .description = N_("Print the version")},
        {.long_name = "install-thunar-action",
         .arg = G_OPTION_ARG_NONE,
         .description = N_("Put “Ask about this image” into Thunar's menu")},
        {.long_name = "remove-thunar-action",
         .arg = G_OPTION_ARG_NONE,
         .description = N_("Take it out again")},
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

    application = adw_application_new("org.lfmd.Ask", G_APPLICATION_HANDLES_OPEN);
    g_application_set_option_context_parameter_string(G_APPLICATION(application), _("[FILE…]"));
    g_application_add_main_option_entries(G_APPLICATION(application), options);
    g_signal_connect(application, "handle-local-options", G_CALLBACK(on_options), NULL);
    g_signal_connect(application, "startup", G_CALLBACK(on_startup), NULL);
    g_signal_connect(application, "activate", G_CALLBACK(on_activate), NULL);
    g_signal_connect(application, "open", G_CALLBACK(on_open), NULL);
    return g_application_run(G_APPLICATION(application), argc, argv);
}
