/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Voice activity: whether somebody speaks, for each 10 ms of sound.
 *
 * Six bands of the spectrum, each compared with the least that it held in the last two seconds (the
 * noise floor), and how periodic the sound is between 80 and 400 Hz (voices are, keys and fans are
 * not), go into a recurrent network of 1300 weights. Level does not matter: only what stands out of
 * the floor does. The floor is at most -48 dB for the first half second, since sound may begin with
 * speech. A noise that begins suddenly may pass for speech until the floor has risen, 2 s.
 *
 * Chosen by measurement, on 11 voices in white, pink and mains noise, babble, keys and music at 5
 * to 20 dB; of the time without speech, in percent, what was taken for speech, in each noise alone:
 *
 *                           none  white  pink  hum  babble  keys  music  speech missed at 20, 10 dB
 *     speexdsp 1.2.1         0     0      4     0    100     65    100     1, 1
 *     WebRTC, mode 1         0     2      2     0    100     59     94     1, 2
 *     WebRTC, mode 3         0     0      0     0     31     43     27     6, 7
 *     this one               0     0      0     0      3      0      1     3, 4
 *
 * Source:  train/train_vad.py; GRU of Cho et al., arXiv:1406.1078, in torch.nn.GRU's form
 * Threads: one owner; RT safe but for vad_new() and vad_free()
 */

#include <stdbool.h>

#include "base/error.h"

#define VAD_FRAME 160 /* samples at 16 kHz, 10 ms */

struct vad;

struct vad *vad_new(struct error *err); /* NULL on failure */
struct vad *vad_free(struct vad *vad);  /* accepts and returns NULL */

/* Forget the noise floor: the sound that comes next has nothing to do with what came before. */
void vad_reset(struct vad *vad);

/* Whether there is speech in this frame, -1..1. A beginning is found after 40 ms on average, with
 * noise 10 dB below it after 70. */
bool vad_frame(struct vad *vad, const float samples[VAD_FRAME]);

/* The probability of speech behind the last answer, 0..1. */
float vad_probability(const struct vad *vad);
