/* SPDX-License-Identifier: MIT */
#include "clients/gtk/program.h"

#include <glib/gi18n.h>
#include <locale.h>
#include <stdlib.h>

#include "clients/gtk/light.h"

static void about(GSimpleAction *action G_GNUC_UNUSED, GVariant *parameter G_GNUC_UNUSED,
                  gpointer userdata)
{
    const struct program *program = userdata;

    adw_show_about_window(
        gtk_application_get_active_window(GTK_APPLICATION(g_application_get_default())),
        "application-name", _(program->title), "application-icon", program->id, "version",
        LFMD_VERSION, "license-type", GTK_LICENSE_MIT_X11, "comments", _(program->comments), NULL);
}

static void on_startup(GtkApplication *application, struct program *program)
{
    static const GActionEntry actions[] = {{.name = "about", .activate = about}};

    if (program->title)
        g_action_map_add_action_entries(G_ACTION_MAP(application), actions, G_N_ELEMENTS(actions),
                                        program);
    for (const struct program_key *key = program->keys; key->action; key++)
        gtk_application_set_accels_for_action(application, key->action,
                                              (const char *const *)key->keys);
    gtk_window_set_default_icon_name(program->id);
}

/* Between who we are and GTK's own beginning: a further start needs no display, the first one
 * does. */
static void on_registered(GApplication *application)
{
    if (!g_application_get_is_registered(application) || g_application_get_is_remote(application))
        return; /* it ends; it only hands over */
    if (!gtk_init_check()) {
        g_printerr(
            "%s: %s\n", g_get_prgname(),
            _("There is no display here: neither WAYLAND_DISPLAY nor DISPLAY leads to one."));
        exit(EXIT_FAILURE);
    }
    /* Without a bus there is no screen reader, and GTK complains of that at every widget. */
    if (!g_application_get_dbus_connection(application))
        g_setenv("GTK_A11Y", "none", TRUE);
}

static int on_version(GApplication *application G_GNUC_UNUSED, GVariantDict *given)
{
    if (!g_variant_dict_contains(given, "version"))
        return -1; /* whoever else is connected decides */
    g_print("%s %s\n", g_get_prgname(), LFMD_VERSION);
    return 0;
}

AdwApplication *program_new(const struct program *program, GApplicationFlags flags,
                            const GOptionEntry *options)
{
    static const GOptionEntry version[] = {
        {.long_name = "version", .arg = G_OPTION_ARG_NONE, .description = N_("Print the version")},
        {NULL},
    };
    AdwApplication *application;

    light_before();
    setlocale(LC_ALL, "");
    bindtextdomain(GETTEXT_PACKAGE, LFMD_LOCALEDIR);
    bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
    textdomain(GETTEXT_PACKAGE);

    application = adw_application_new(program->id, flags);
    if (options)
        g_application_add_main_option_entries(G_APPLICATION(application), options);
    g_application_add_main_option_entries(G_APPLICATION(application), version);
    g_signal_connect(application, "handle-local-options", G_CALLBACK(on_version), NULL);
    g_signal_connect(application, "notify::is-registered", G_CALLBACK(on_registered), NULL);
    g_signal_connect(application, "startup", G_CALLBACK(on_startup), (gpointer)program);
    return application;
}

void program_present(GtkWindow *window)
{
    gtk_window_present(window);
    light_after();
}

void program_enable(GActionMap *actions, const char *name, bool enabled)
{
    g_simple_action_set_enabled(G_SIMPLE_ACTION(g_action_map_lookup_action(actions, name)),
                                enabled);
}
