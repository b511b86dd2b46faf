/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whether somebody speaks, every 10 ms.
 *
 * A frame is speech when its energy is well above the noise floor, which follows the quietest that
 * was heard; a short hold bridges the gaps inside words.
 *
 * Threads: any; one owner.
 */

#include <stdbool.h>

#include "base/error.h"

#define VAD_FRAME 160 /* samples of 10 ms at 16 kHz */

struct vad;

struct vad *vad_new(struct error *err);
struct vad *vad_free(struct vad *vad); /* accepts and returns NULL */
void vad_reset(struct vad *vad);

/* Whether there is speech in the next frame. */
bool vad_frame(struct vad *vad, const float samples[VAD_FRAME]);
