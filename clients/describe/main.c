/* SPDX-License-Identifier: MIT */

/*
 * lfm-describe [FILE]: what a picture shows, for who does not see it; see lfm-describe(1).
 *
 * One process with one window; each start describes the next picture in it.
 */

#include <glib/gi18n.h>
#include <string.h>

#include "clients/describe/pick.h"
#include "clients/describe/print.h"
#include "clients/describe/window.h"
#include "clients/gtk/preview.h"
#include "clients/gtk/program.h"

#define HIDE_MSEC 300 /* until what our window covered is drawn, and has the focus */

static const struct program_key keys[] = {
    {"win.again", {"<Control>r"}},
    {"win.more", {"<Control>m"}},
    {"win.stop", {"Escape"}},
    {"window.close", {"<Control>w"}},
    {NULL},
};

static const struct program program = {
    .id = "org.lfmd.Describe",
    .keys = keys,
};

static const GOptionEntry options[] = {
    {.long_name = "focus",
     .arg = G_OPTION_ARG_NONE,
     .description = N_("Describe what has the keyboard's focus (default)")},
    {.long_name = "screen", .arg = G_OPTION_ARG_NONE, .description = N_("Describe the screen")},
    {.long_name = "clipboard",
     .arg = G_OPTION_ARG_NONE,
     .description = N_("Describe the picture in the clipboard")},
    {.long_name = "print",
     .arg = G_OPTION_ARG_NONE,
     .description = N_("Write it on the terminal, without a window")},
    {.long_name = "more",
     .arg = G_OPTION_ARG_NONE,
     .description = N_("With --print: in detail, and the words in it")},
    {.long_name = "silent", .arg = G_OPTION_ARG_NONE, .description = N_("Read nothing aloud")},
    {.long_name = "model",
     .short_name = 'm',
     .arg = G_OPTION_ARG_STRING,
     .arg_description = N_("MODEL"),
     .description = N_("The model that looks; see “lfmctl models”")},
    {.long_name = G_OPTION_REMAINING,
     .arg = G_OPTION_ARG_FILENAME_ARRAY,
     .arg_description = N_("[FILE]")},
    {NULL},
};

/* What is to be described; false: that is not clear. */
static bool read_source(GVariantDict *given, enum source *ret_source, const char **ret_path)
{
    static const char *const names[] = {
        [SOURCE_FOCUS] = "focus", [SOURCE_SCREEN] = "screen", [SOURCE_CLIPBOARD] = "clipboard"};
    g_autofree const char **files = NULL;
    unsigned n = 0;

    *ret_source = SOURCE_FOCUS;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_variant_dict_contains(given, names[i])) {
            *ret_source = (enum source)i;
            n++;
        }
    }
    if (g_variant_dict_lookup(given, G_OPTION_REMAINING, "^a&ay", &files)) {
        *ret_source = SOURCE_FILE;
        *ret_path = files[0];
        n += g_strv_length((char **)files);
    }
    return n <= 1;
}

/* --- in the window -------------------------------------------------------------------------- */

/* A picture on its way to the window. */
struct picking {
    GApplication *application; /* held */
    GDBusConnection *bus;
    enum source source;
    char *path, *model;
    bool silent;
};

static void picking_free(struct picking *picking)
{
    g_application_release(picking->application);
    g_object_unref(picking->application);
    g_object_unref(picking->bus);
    g_free(picking->path);
    g_free(picking->model);
    g_free(picking);
}

static DescribeWindow *find_window(struct picking *picking)
{
    GtkWindow *window = gtk_application_get_active_window(GTK_APPLICATION(picking->application));

    if (!window)
        window = GTK_WINDOW(describe_window_new(GTK_APPLICATION(picking->application),
                                                picking->bus, picking->model, picking->silent));
    program_present(window);
    return DESCRIBE_WINDOW(window);
}

static void got_picture(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    struct picking *picking = userdata;
    DescribeWindow *window = find_window(picking);
    g_autoptr(GError) error = NULL;
    struct screen_shot shot;

    if (pick_finish(result, &shot, &error))
        describe_window_show(window, shot);
    else
        describe_window_fail(window, error->message);
    picking_free(picking);
}

static gboolean pick(void *userdata)
{
    struct picking *picking = userdata;

    if (picking->source == SOURCE_CLIPBOARD) {
        describe_window_paste(find_window(picking));
        picking_free(picking);
    } else {
        pick_async(picking->bus, picking->source, picking->path, NULL, got_picture, picking);
    }
    return G_SOURCE_REMOVE;
}

/* Of the next window the model and whether it is silent; of the one that is there the picture. */
static void begin(struct picking *picking)
{
    GtkWindow *window = gtk_application_get_active_window(GTK_APPLICATION(picking->application));

    if (window && (picking->source == SOURCE_FOCUS || picking->source == SOURCE_SCREEN)) {
        gtk_widget_set_visible(GTK_WIDGET(window), FALSE);
        g_timeout_add(HIDE_MSEC, pick, picking);
    } else {
        pick(picking);
    }
}

static int on_command_line(GApplication *application, GApplicationCommandLine *line)
{
    GVariantDict *given = g_application_command_line_get_options_dict(line);
    struct picking *picking;
    GDBusConnection *bus = g_application_get_dbus_connection(application);
    const char *path = NULL;
    enum source source;

    if (!bus) {
        g_application_command_line_printerr(
            line, "lfm-describe: %s\n", _("There is no session bus to reach the assistant by."));
        return 1;
    }
    read_source(given, &source, &path);
    picking = g_new0(struct picking, 1);
    picking->application = g_object_ref(application);
    g_application_hold(application);
    picking->bus = g_object_ref(bus);
    picking->source = source;
    if (path) {
        g_autoptr(GFile) file = g_application_command_line_create_file_for_arg(line, path);

        picking->path = g_file_get_path(file);
    }
    g_variant_dict_lookup(given, "model", "s", &picking->model);
    picking->silent = g_variant_dict_contains(given, "silent");
    begin(picking);
    return 0;
}

/* --- the command line ----------------------------------------------------------------------- */

/* What is done without a window, in this process; -1: nothing of it. */
static int on_options(GApplication *application G_GNUC_UNUSED, GVariantDict *given)
{
    struct print_options print = {
        .more = g_variant_dict_contains(given, "more"),
        .silent = g_variant_dict_contains(given, "silent"),
    };

    if (!read_source(given, &print.source, &print.path)) {
        g_printerr("lfm-describe: %s\n",
                   _("One thing at a time: --focus, --screen, --clipboard or one file."));
        return 2;
    }
    if (!g_variant_dict_contains(given, "print"))
        return -1;
    if (print.source == SOURCE_CLIPBOARD) {
        g_printerr("lfm-describe: %s\n",
                   _("The clipboard is for programs with a window: leave --print away."));
        return 2;
    }
    g_variant_dict_lookup(given, "model", "&s", &print.model);
    return print_run(&print);
}

int main(int argc, char **argv)
{
    g_autoptr(AdwApplication) application = NULL;

    if (argc == 2 && strcmp(argv[1], PREVIEW_OPTION) == 0)
        return preview_child();

    application = program_new(&program, G_APPLICATION_HANDLES_COMMAND_LINE, options);
    g_signal_connect(application, "handle-local-options", G_CALLBACK(on_options), NULL);
    g_signal_connect(application, "command-line", G_CALLBACK(on_command_line), NULL);
    return g_application_run(G_APPLICATION(application), argc, argv);
}
