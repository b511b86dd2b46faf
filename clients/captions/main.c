/* SPDX-License-Identifier: MIT */

/*
 * lfm-captions: a window with what is said, or what the computer plays, as text.
 *
 * One process and one window for a user; another start shows it. The work is done by lfmd, which
 * the session bus starts; see lfm-captions(1).
 */

#include <glib/gi18n.h>
#include <string.h>

#include "clients/captions/hearing.h"
#include "clients/captions/window.h"
#include "clients/gtk/program.h"

static const struct program_key keys[] = {
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
    {NULL},
};

static const struct program program = {
    .id = "org.lfmd.Captions",
    .title = N_("Captions"),
    .comments = N_("What is said, as text, written down on this computer by the assistant "
                   "lfmd. Nothing leaves it. Words may be wrong."),
    .keys = keys,
};

static char *source; /* that was asked for, or NULL */

static void on_activate(GtkApplication *application)
{
    GtkWindow *window = gtk_application_get_active_window(application);

    program_present(window ? window : GTK_WINDOW(captions_window_new(application, source)));
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
        {.name = "source", .parameter_type = "s", .activate = set_source},
    };

    g_action_map_add_action_entries(G_ACTION_MAP(application), actions, G_N_ELEMENTS(actions),
                                    application);
}

/* What is done without a window; -1: nothing of it. */
static int on_options(GApplication *application, GVariantDict *options)
{
    const char *name;

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
        {NULL},
    };
    g_autoptr(AdwApplication) application = NULL;

    application = program_new(&program, G_APPLICATION_DEFAULT_FLAGS, options);
    g_signal_connect(application, "handle-local-options", G_CALLBACK(on_options), NULL);
    g_signal_connect(application, "startup", G_CALLBACK(on_startup), NULL);
    g_signal_connect(application, "activate", G_CALLBACK(on_activate), NULL);
    return g_application_run(G_APPLICATION(application), argc, argv);
}
