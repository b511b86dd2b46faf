/* SPDX-License-Identifier: MIT */

/*
 * An ear under any settings, noises and commands: clips stay within their memory, whatever is
 * offered can be taken, and each turn that begins ends before the next.
 *
 * Input: seven bytes of settings, then a byte for each step: the two highest bits say whether it is
 * silence, a loud noise, a command or a state of the loudspeaker, the rest how long or which.
 */

#include <stdlib.h>
#include <string.h>

#include "audio/in/mel.h"
#include "base/cleanup.h"
#include "session/listener.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FRAMES_MAX 3000 /* of an input: turns are 3 s at most */
#define N_MELS     4

static unsigned n_begun, n_ended;

static void heard(void *userdata, unsigned events, int64_t usec)
{
    (void)userdata, (void)usec;
    n_begun += (events & TURNS_BEGIN) != 0;
    n_ended += (events & TURNS_END) != 0;
    if (n_ended > n_begun || n_begun > n_ended + 1)
        abort();
}

static void level(void *userdata, float peak, int64_t usec)
{
    (void)userdata, (void)usec;
    if (!(peak >= 0 && peak <= 1))
        abort();
}

static const struct listener_sink sink = {.heard = heard, .level = level};

/* Something that swells and fades like a voice, or nothing. */
static void give(struct listener *listener, bool loud, unsigned n, int64_t *frame)
{
    for (; n > 0 && *frame < FRAMES_MAX; n--, ++*frame) {
        float samples[LISTENER_FRAME] = {0};

        for (unsigned i = 0; loud && i < LISTENER_FRAME; i++)
            samples[i] = (i % 100 < 8 ? 0.8f : -0.05f) * (*frame % 25 < 18 ? 1.0f : 0.0f);
        listener_frame(listener, samples, *frame * 10000);
    }
}

static void command(struct listener *listener, unsigned which)
{
    if (which % 4 == 0)
        listener_press(listener);
    else if (which % 4 == 1)
        listener_release(listener);
    else
        listener_set_busy(listener, which & 4, which & 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct listener *listener;
    float *features = NULL;
    int64_t frame = 0;

    if (size < 7)
        return 0;
    listener = listener_new(&(struct turns_settings){.confirm_msec = data[0] * 8u,
                                                     .confirm_busy_msec = data[1] * 8u,
                                                     .noise_msec = data[2] * 8u,
                                                     .pause_msec = data[3] * 8u,
                                                     .hangover_msec = data[4] * 8u,
                                                     .turn_long_msec = data[4] % 2 * data[5] * 8u,
                                                     .turn_max_msec = 1000u + data[5] * 8u,
                                                     .wait_max_msec = data[6] / 2 * 8u,
                                                     .push_to_talk = data[6] & 1},
                            &sink, NULL, &err);
    if (listener && listener_open(listener, N_MELS, 100 * (data[5] % 4u), &err) == 0)
        features = reallocarray(NULL, mel_n_frames(listener_clip_max(listener)),
                                N_MELS * sizeof(*features));
    if (!features)
        abort();
    n_begun = n_ended = 0;
    for (size_t i = 7; i < size; i++) {
        struct clip clip;

        if (data[i] >> 6 == 3)
            command(listener, data[i] & 63);
        else
            give(listener, data[i] >> 6 > 0, data[i] & 63, &frame);
        clip = listener_clip(listener);
        if (clip.n > listener_clip_max(listener) || clip.turn > n_begun ||
            (clip.state != CLIP_NONE && !listener_take(listener, clip.number, features)))
            abort();
    }
    free(features);
    listener_free(listener);
    return 0;
}
