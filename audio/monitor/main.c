/* SPDX-License-Identifier: MIT */

/*
 * lfmd-monitor: what the machine plays, into a pipe; or what the default microphone is called.
 *
 *     lfmd-monitor >PIPE
 *     lfmd-monitor --source      its name and its description, a line each
 *
 * Records the monitor of the default sink of a PulseAudio server, or of a PipeWire that speaks its
 * protocol: 16 kHz, mono, 16 bits, in the machine's order of bytes, until nobody reads or the
 * server goes away. A process of its own, because PortAudio does not know of monitors and a call of
 * libpulse may wait for its server for ever.
 */

#include <errno.h>
#include <pulse/pulseaudio.h>
#include <pulse/simple.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#define RATE_HZ 16000
#define BLOCK   320 /* samples, 20 ms */

/* --- the default source ---------------------------------------------------------------------- */

static void quit(pa_mainloop *loop)
{
    pa_mainloop_quit(loop, 0);
}

static void on_source(pa_context *context, const pa_source_info *source, int end, void *loop)
{
    (void)context;
    if (end == 0)
        printf("%s\n%s\n", source->name, source->description);
    else
        quit(loop);
}

static void on_server(pa_context *context, const pa_server_info *server, void *loop)
{
    if (server && server->default_source_name)
        pa_operation_unref(pa_context_get_source_info_by_name(
            context, server->default_source_name, on_source, loop));
    else
        quit(loop);
}

static void on_state(pa_context *context, void *loop)
{
    const pa_context_state_t state = pa_context_get_state(context);

    if (state == PA_CONTEXT_READY)
        pa_operation_unref(pa_context_get_server_info(context, on_server, loop));
    else if (!PA_CONTEXT_IS_GOOD(state))
        quit(loop);
}

static int print_source(void)
{
    pa_mainloop *loop = pa_mainloop_new();
    pa_context *context = loop ? pa_context_new(pa_mainloop_get_api(loop), "lfmd") : NULL;

    if (!context)
        return 1;
    pa_context_set_state_callback(context, on_state, loop);
    if (pa_context_connect(context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0)
        return 1;
    pa_mainloop_run(loop, NULL);
    pa_context_disconnect(context);
    pa_context_unref(context);
    pa_mainloop_free(loop);
    return 0;
}

/* --- what is played -------------------------------------------------------------------------- */

static int record(void)
{
    static const pa_sample_spec spec = {
        .format = PA_SAMPLE_S16NE, .rate = RATE_HZ, .channels = 1};
    const pa_buffer_attr attributes = {
        .maxlength = UINT32_MAX, .fragsize = BLOCK * sizeof(int16_t)};
    int16_t block[BLOCK];
    pa_simple *stream;

    stream = pa_simple_new(NULL, "lfmd", PA_STREAM_RECORD, "@DEFAULT_MONITOR@", "Captions", &spec,
                           NULL, &attributes, NULL);
    if (!stream)
        return 1;
    while (pa_simple_read(stream, block, sizeof(block), NULL) == 0) {
        for (size_t done = 0; done < sizeof(block);) {
            const ssize_t n =
                write(STDOUT_FILENO, (const char *)block + done, sizeof(block) - done);

            if (n < 0 && errno != EINTR)
                return 0;
            done += n > 0 ? (size_t)n : 0;
        }
    }
    return 1;
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return argc == 2 && strcmp(argv[1], "--source") == 0 ? print_source() : record();
}
