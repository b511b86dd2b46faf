/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The engine thread: models in memory, turns and tasks that are worked on in fair slices.
 *
 * One thread does all tensor work. It takes jobs from a queue (a turn or a task, load, unload,
 * other settings), and works on what is runnable in slices of one prefill chunk or some decode
 * steps: who listens and answers comes first, interactive work shares the rest round robin,
 * background work runs when nothing else can. Results come back as events through a second queue,
 * delivered by engine_dispatch() on the bus thread.
 *
 * Models are loaded on use and unloaded after their keep-alive time. The memory a load needs is
 * computed first from the file's header; what does not fit is refused with the figures
 * (ERROR_NO_MEMORY), after unloading idle models did not help.
 *
 * Pictures and recordings are decoded by threads of their own, in child processes (photo.h,
 * recording.h); who needs them waits without holding the engine.
 *
 * Threads: all functions here on the bus thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/device/device.h"
#include "base/error.h"
#include "session/models.h"
#include "tensor/attend.h"

#define KEEP_ALIVE_FOREVER (-1)

struct engine_config {
    unsigned n_threads;        /* 0: one for each core */
    uint64_t memory_max_bytes; /* 0: what the machine has available */
    int64_t keep_alive_sec;    /* after the last use; 0: at once; < 0: for ever */
    size_t n_context;          /* of a session that names none */
    enum kv_type kv;
    size_t prefix_cache_bytes;   /* shared system prompts and tool lists */
    const char *state_directory; /* kept sessions live in sessions.db there; NULL: keep none */
    /* pictures */
    const char *decoder_program; /* lfmd-image; NULL: where image_decoder_path() finds it */
    size_t image_cache_bytes;    /* rows of encoded pictures, for each model */
    uint32_t max_encode_ms;      /* of a picture at detail "auto"; 0: no limit */
    uint64_t image_bytes_max, image_pixels_max; /* of one picture; 0: the decoder's defaults */
    /* recordings */
    const char *sound_decoder_program; /* lfmd-sound; NULL: where sound_decoder_path() finds it */
    /* sound.h: names of devices, or NULL: the system's default; the strings stay the caller's and
     * must live until the next reconfigure */
    const char *capture_device, *playback_device;
    bool keep_echo;
    unsigned latency_msec; /* 0: the default */
};

struct model_memory {
    bool loaded, loading;
    uint64_t memory_bytes;
    int64_t expires_usec;    /* CLOCK_REALTIME; 0: in use or not loaded; INT64_MAX: never */
    struct error last_error; /* why the last load failed; ERROR_NONE after one that went well */
};

struct engine_sink {
    void (*model_changed)(void *userdata, const char *model_id);
};

struct engine;

struct engine *engine_new(const struct engine_config *config, struct models *models,
                          const struct engine_sink *sink, void *userdata, struct error *err);
/* Cancels everything, joins the thread. Sessions must be closed before. */
struct engine *engine_free(struct engine *engine);

int engine_fd(const struct engine *engine); /* readable: call engine_dispatch() */
void engine_dispatch(struct engine *engine);

/* Settings that may change while running (config reload); n_threads, kv, state_directory, decoder
 * programs and the limits of a picture are those of engine_new(). A smaller memory limit is kept
 * from the next load on. */
void engine_reconfigure(struct engine *engine, const struct engine_config *config);

struct model_memory engine_model_memory(const struct engine *engine, const char *model_id);
/* Start loading now. model_changed tells the end: `loaded`, or not and last_error. Loading a model
 * that is in memory renews its keep-alive time. */
int engine_load(struct engine *engine, const char *model_id, struct error *err);
/* ERROR_BUSY while a turn or a task uses it. */
int engine_unload(struct engine *engine, const char *model_id, struct error *err);

/* The machine's microphones and loudspeakers; takes about 100 ms. At most n_max are written. */
int engine_devices(struct engine *engine, struct device *devices, size_t n_max, size_t *ret_n,
                   struct error *err);

bool engine_idle(const struct engine *engine); /* no turn or task, no loaded model, no job */

/* Grows while the thread makes progress or sleeps with nothing to do: the watchdog looks at it. */
uint64_t engine_heartbeat(const struct engine *engine);
