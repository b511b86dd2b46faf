/* SPDX-License-Identifier: MIT */
/* The volume of the loudspeaker, through PulseAudio's protocol, which PipeWire speaks, too. */
#include <math.h>
#include <pulse/glib-mainloop.h>
#include <pulse/pulseaudio.h>
#include <string.h>

#include "clients/desktop/internal.h"

#define TIMEOUT_SECONDS 5

/* A connection for one call. */
struct job {
    struct call *call;
    pa_glib_mainloop *loop;
    pa_context *context;
    GSource *timeout, *over;
    gulong watch;
    int64_t level; /* to set; -1: only tell */
    int mute;      /* to set; -1: as it fits the level */
    char *sink;    /* NULL: the default one */
    pa_cvolume before;
    int was_muted;
    bool ended;
};

static int64_t percent(const pa_cvolume *volume)
{
    return lround((double)pa_cvolume_max(volume) * 100 / PA_VOLUME_NORM);
}

/* Libpulse may still be in a function of ours: it is taken down from the main loop. */
static gboolean on_over(void *userdata)
{
    struct job *job = userdata;

    desktop_drop(&job->timeout);
    g_cancellable_disconnect(job->call->cancellable, job->watch);
    pa_context_set_state_callback(job->context, NULL, NULL);
    pa_context_disconnect(job->context);
    pa_context_unref(job->context);
    pa_glib_mainloop_free(job->loop);
    g_source_unref(job->over);
    g_free(job->sink);
    call_unref(job->call);
    g_free(job);
    return G_SOURCE_REMOVE;
}

static void job_end(struct job *job)
{
    if (job->ended)
        return;
    job->ended = true;
    job->over = desktop_attach(g_idle_source_new(), on_over, job);
}

static void job_fail(struct job *job, const char *why)
{
    if (job->ended)
        return;
    call_fail(job->call, "%s", why);
    job_end(job);
}

static void on_cancelled(GCancellable *cancellable, void *userdata)
{
    (void)cancellable;
    job_end(userdata);
}

static gboolean on_timeout(void *userdata)
{
    job_fail(userdata, "the sound server does not answer");
    return G_SOURCE_CONTINUE;
}

static void tell(struct job *job, int64_t level, bool muted)
{
    struct json_object *result = json_object_new_object();

    json_object_object_add(result, "result", json_object_new_int64(level));
    if (muted)
        json_object_object_add(result, "muted", json_object_new_boolean(true));
    call_done(job->call, result, _("The volume is %d percent%s."), (int)level,
              muted ? ", and muted" : "");
    job_end(job);
}

static void on_muted(pa_context *context, int success, void *userdata)
{
    struct job *job = userdata;
    struct json_object *undo;

    (void)context;
    if (job->ended)
        return;
    if (!success) {
        job_fail(job, "the sound server refuses");
        return;
    }
    undo = json_object_new_object();
    json_object_object_add(undo, "sink", json_object_new_string(job->sink));
    json_object_object_add(undo, "level", json_object_new_int64(percent(&job->before)));
    json_object_object_add(undo, "mute", json_object_new_int(job->was_muted));
    call_undo(job->call, undo);
    call_done(job->call, NULL, _("The volume is %d percent now; it was %d."), (int)job->level,
              (int)percent(&job->before));
    job_end(job);
}

static void run_operation(struct job *job, pa_operation *operation)
{
    if (operation)
        pa_operation_unref(operation);
    else
        job_fail(job, "the sound server has gone");
}

static void on_set(pa_context *context, int success, void *userdata)
{
    struct job *job = userdata;
    const int mute = job->mute >= 0 ? job->mute : job->level > 0 ? 0 : job->was_muted;

    if (job->ended)
        return;
    if (!success)
        job_fail(job, "the sound server refuses");
    else
        run_operation(job, pa_context_set_sink_mute_by_name(context, job->sink, mute, on_muted,
                                                            job));
}

static void on_sink(pa_context *context, const pa_sink_info *info, int end, void *userdata)
{
    struct job *job = userdata;
    pa_cvolume volume;

    if (job->ended || end > 0)
        return;
    if (end < 0 || !info) {
        job_fail(job, "no sound device");
        return;
    }
    job->before = info->volume;
    job->was_muted = info->mute;
    if (job->level < 0) {
        tell(job, percent(&info->volume), info->mute);
        return;
    }
    g_free(job->sink);
    job->sink = g_strdup(info->name);
    volume = info->volume;
    /* All channels keep their relation. */
    pa_cvolume_scale(&volume, (pa_volume_t)lround((double)job->level * PA_VOLUME_NORM / 100));
    run_operation(job,
                  pa_context_set_sink_volume_by_name(context, info->name, &volume, on_set, job));
}

static void on_state(pa_context *context, void *userdata)
{
    struct job *job = userdata;
    const pa_context_state_t state = pa_context_get_state(context);

    if (state == PA_CONTEXT_READY && !job->ended)
        run_operation(job, pa_context_get_sink_info_by_name(
                               context, job->sink ? job->sink : "@DEFAULT_SINK@", on_sink, job));
    else if (state == PA_CONTEXT_FAILED || state == PA_CONTEXT_TERMINATED)
        job_fail(job, "no sound server");
}

static void begin(struct call *call, int64_t level, int mute, const char *sink)
{
    struct job *job = g_new0(struct job, 1);

    job->call = call_ref(call);
    job->level = level;
    job->mute = mute;
    job->sink = g_strdup(sink);
    job->loop = pa_glib_mainloop_new(g_main_context_get_thread_default());
    job->context = pa_context_new(pa_glib_mainloop_get_api(job->loop), "lfmd");
    job->timeout =
        desktop_attach(g_timeout_source_new_seconds(TIMEOUT_SECONDS), on_timeout, job);
    job->watch = g_cancellable_connect(call->cancellable, G_CALLBACK(on_cancelled), job, NULL);
    pa_context_set_state_callback(job->context, on_state, job);
    if (pa_context_connect(job->context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0)
        job_fail(job, "no sound server");
}

static void run_set(struct call *call)
{
    const int64_t level = call_number(call, "level");

    if (level < 0 || level > 100)
        call_fail(call, "the volume is between 0 and 100");
    else
        begin(call, level, -1, NULL);
}

static void undo_set(struct call *call)
{
    const int64_t level = call_number(call, "level");

    if (level < 0 || level > 1000)
        call_fail(call, "the log does not say how");
    else
        begin(call, level, call_number(call, "mute") != 0, call_text(call, "sink"));
}

static void run_get(struct call *call)
{
    begin(call, -1, -1, NULL);
}

void volume_tools(struct desktop *desktop)
{
    static const struct builtin builtins[] = {
        {
            .name = "set_volume",
            .description = "Set the volume in percent.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"level\": {\"type\": "
                          "\"integer\"}}, \"required\": [\"level\"]}",
            .question = N_("Change the volume?"),
            .trained = true,
            .run = run_set,
            .undo = undo_set,
        },
        {
            .name = "get_volume",
            .description = "Tell the volume in percent.",
            .parameters = NO_PARAMETERS,
            .harmless = true,
            .run = run_get,
        },
    };

    desktop_add_builtins(desktop, builtins, G_N_ELEMENTS(builtins));
}
