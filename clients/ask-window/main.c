/* SPDX-License-Identifier: MIT */

/*
 * lfm-ask [FILE...]: a window that answers questions about pictures.
 *
 * One process for all windows of a user; each start opens a window more. The work is done by lfmd,
 * which the session bus starts; see lfm-ask(1).
 */

#include <glib/gi18n.h>
#include <string.h>

#include "clients/ask-window/thunar.h"
#include "clients/ask-window/window.h"
#include "clients/gtk/preview.h"
#include "clients/gtk/program.h"

static const struct program_key keys[] = {
    {"win.copy", {"<Control><Shift>c"}},
    {"win.new", {"<Control>n"}},
    {"win.open", {"<Control>o"}},
    {"win.show-help-overlay", {"F1", "<Control>question"}},
    {"win.stop", {"Escape"}},
    {"window.close", {"<Control>w"}},
    {NULL},
};

static const struct program program = {
    .id = "org.lfmd.Ask",
    .title = N_("Ask about a picture"),
    .comments = N_("Questions about pictures, answered on this computer by the assistant "
                   "lfmd. Nothing leaves it. Answers may be wrong."),
    .keys = keys,
};

static void on_activate(GtkApplication *application)
{
    program_present(GTK_WINDOW(ask_window_new(application)));
}

static void on_open(GtkApplication *application, GFile **files, int n_files,
                    const char *hint G_GNUC_UNUSED)
{
    AskWindow *window = ask_window_new(application);

    for (int i = 0; i < n_files; i++)
        ask_window_open(window, files[i]);
    program_present(GTK_WINDOW(window));
}

/* What is done without a window; -1: nothing of it. */
static int on_options(GApplication *application G_GNUC_UNUSED, GVariantDict *options)
{
    if (g_variant_dict_contains(options, "install-thunar-action"))
        return thunar_install();
    if (g_variant_dict_contains(options, "remove-thunar-action"))
        return thunar_remove();
    return -1;
}

int main(int argc, char **argv)
{
    static const GOptionEntry options[] = {
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

    application = program_new(&program, G_APPLICATION_HANDLES_OPEN, options);
    g_application_set_option_context_parameter_string(G_APPLICATION(application), _("[FILE…]"));
    g_signal_connect(application, "handle-local-options", G_CALLBACK(on_options), NULL);
    g_signal_connect(application, "activate", G_CALLBACK(on_activate), NULL);
    g_signal_connect(application, "open", G_CALLBACK(on_open), NULL);
    return g_application_run(G_APPLICATION(application), argc, argv);
}
