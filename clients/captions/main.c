/* SPDX-License-Identifier: MIT */

/*
 * lfm-captions: a window with what is said, or what the computer plays, as text.
 *
 * One process and one window for a user; another start shows it. The work is done by lfmd, which the
 * session bus starts; see lfm-captions(1).
 */

#include <glib/gi18n.h>
#include <locale.h>
#include <string.h>

#include "clients/captions/hearing.h"
#include "clients/captions/window.h"
#include "clients/gtk/light.h"

static char *source; /* that was asked for, or NULL */

static void on_activate(GtkApplication *application)
{
    GtkWindow *window = gtk_application_get_active_window(application);

    gtk_window_present(window ? window : GTK_WINDOW(captions_window_new(application, source)));
    light_after();
}

static void about(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    adw_show_about_window(gtk_application_get_active_window(GTK_APPLICATION(userdata)),
                          "application-name", _("Captions"), "application-icon",
                          "org.lfmd.Captions", "version", LFMD_VERSION, "license-type",
                          GTK_LICENSE_MIT_X11, "comments",
                          _("What is said, as text, written down on this computer by the assistant "
                            "lfmd. Nothing leaves it. Words may be wrong."),
                          NULL);
}

/* Of this start, or of another one while the window is there. */
static void set_source(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter, gpointer userdata)
{
    GtkWindow *window = gtk_application_get_active_window(GTK_APPLICATION(userdata));

    g_free(source);
    source = g_variant_dup_string(parameter, NULL);
    if (window)
        g_action_group_change_action_state(G_ACTION_GROUP(window), "source", parameter);
}

static void on_startup(GtkApplication *application)
{
    static const GActionEntry actions[] = {
        {.name = "about", .activate = about},
        {.name = "source", .parameter_type = "s", .activate = set_source},
    };
    static const struct {
        const char *action, *keys[4];
    } keys[] = {
        {"win.clear", {"<Control>Delete"}},
        {"win.fullscreen", {"F11"}},
        {"win.larger", {"<Control>plus", "<Control>equal", "<Control>KP_Add"}},
        {"win.listen", {"<Control>l"}},
        {"win.next-contrast", {"<Control>t"}},
        {"win.save", {"<Control>s"}},
        {"win.show-help-overlay", {"F1", "<Control>question"}},
        {"win.smaller", {"<Control>minus", "<Control>KP_Subtract"}},
        {"win.source::" HEARING_MICROPHONE, {"<Control>1"}},
        {"win.source::" HEARING_COMPUTER, {"<Control>2"}},
        {"win.usual-size", {"<Control>0"}},
        {"window.close", {"<Control>w"}},
    };

    g_action_map_add_action_entries(G_ACTION_MAP(application), actions, G_N_ELEMENTS(actions),
                                    application);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        gtk_application_set_accels_for_action(application, keys[i].action,
                                              (const char *const *)keys[i].keys);
    gtk_window_set_default_icon_name("org.lfmd.Captions");
}

/* What is done without a window; -1: nothing of it. */
static int on_options(GApplication *application, GVariantDict *options)
{
    const char *name;

    if (g_variant_dict_contains(options, "version")) {
        g_print("lfm-captions %s\n", LFMD_VERSION);
        return 0;
    }
    if (!g_variant_dict_lookup(options, "source", "&s", &name))
        return -1;
    if (strcmp(name, "microphone") != 0 && strcmp(name, "computer") != 0) {
        g_printerr(_("lfm-captions: --source is microphone or computer, not “%s”.\n"), name);
        return 2;
    }
    if (g_application_register(application, NULL, NULL))
        g_action_group_activate_action(
            G_ACTION_GROUP(application), "source",
            g_variant_new_string(strcmp(name, "microphone") == 0 ? HEARING_MICROPHONE
                                                                 : HEARING_COMPUTER));
    return -1;
}

int main(int argc, char **argv)
{
    static const GOptionEntry options[] = {
        {.long_name = "source",
         .arg = G_OPTION_ARG_STRING,
         .description = N_("What is listened to: microphone, or computer (what it plays)"),
         .arg_description = "SOURCE"},
        {.long_name = "version", .arg = G_OPTION_ARG_NONE, .description = N_("Print the version")},
        {NULL},
    };
    g_autoptr(AdwApplication) application = NULL;

    light_before();
    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, LFMD_LOCALEDIR);
    bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    textdomain(GETTEXT_PACKAGE);

    application = adw_application_new("org.lfmd.Captions", G_APPLICATION_DEFAULT_FLAGS);
    g_application_add_main_option_entries(G_APPLICATION(application), options);
    g_signal_connect(application, "handle-local-options", G_CALLBACK(on_options), NULL);
    g_signal_connect(application, "startup", G_CALLBACK(on_startup), NULL);
    g_signal_connect(application, "activate", G_CALLBACK(on_activate), NULL);
    return g_application_run(G_APPLICATION(application), argc, argv);
}
