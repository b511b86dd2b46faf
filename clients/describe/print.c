/* SPDX-License-Identifier: MIT */
#include "clients/describe/print.h"

#include <glib/gi18n.h>

#include "clients/describe/description.h"
#include "clients/describe/voice.h"

struct printing {
    const struct print_options *options;
    GMainLoop *loop;
    GDBusConnection *bus;
    struct screen_shot shot;
    struct description *description;
    struct voice *voice; /* NULL: silent */
    int status;
};

static void fail(struct printing *p, const char *sentence)
{
    g_printerr("lfm-describe: %s\n", sentence);
    if (p->voice)
        voice_say(p->voice, sentence);
    p->status = 1;
    g_main_loop_quit(p->loop);
}

static void on_trouble(const char *sentence, void *userdata G_GNUC_UNUSED)
{
    g_printerr("lfm-describe: %s\n", sentence);
}

static void say(struct printing *p, const char *text)
{
    g_print("%s\n", text);
    if (p->voice)
        voice_say(p->voice, text);
}

static void on_part(enum part part, const char *text, bool unsure, void *userdata)
{
    struct printing *p = userdata;

    if (part != PART_SHORT && !p->options->more)
        return;
    if (*text)
        say(p, text);
    if (unsure)
        say(p, _("The model is not sure of this."));
    if (!p->options->more)
        g_main_loop_quit(p->loop);
}

static void on_progress(double fraction G_GNUC_UNUSED, void *userdata G_GNUC_UNUSED)
{
}

static void on_ended(const char *sentence, void *userdata)
{
    struct printing *p = userdata;

    if (sentence)
        fail(p, sentence);
    else
        g_main_loop_quit(p->loop);
}

static void got_picture(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    static const struct description_events events = {on_part, on_progress, on_ended};
    struct printing *p = userdata;
    g_autoptr(GError) error = NULL;

    if (!pick_finish(result, &p->shot, &error)) {
        fail(p, error->message);
        return;
    }
    if (p->shot.whole)
        say(p, _("Where the focus is on the screen is not known: this is the whole screen."));
    p->description =
        description_new(p->bus, p->shot.picture, p->options->model, &events, p);
}

int print_run(const struct print_options *options)
{
    struct printing p = {.options = options, .loop = g_main_loop_new(NULL, FALSE)};
    g_autoptr(GError) error = NULL;

    if (!options->silent)
        p.voice = voice_new(on_trouble, NULL);
    p.bus = g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, &error);
    if (p.bus) {
        pick_async(p.bus, options->source, options->path, NULL, got_picture, &p);
        g_main_loop_run(p.loop);
    } else {
        g_prefix_error(&error, "%s", _("There is no session bus to reach the assistant by: "));
        fail(&p, error->message);
    }
    description_free(p.description);
    if (p.shot.picture)
        picture_unref(p.shot.picture);
    if (p.voice)
        voice_finish(p.voice);
    voice_free(p.voice);
    g_clear_object(&p.bus);
    g_main_loop_unref(p.loop);
    return p.status;
}
