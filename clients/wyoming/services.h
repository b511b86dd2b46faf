/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is offered. Each function takes the data of an event of one peer; what is wrong with it is
 * the error, which is the last that the peer is told.
 *
 * Threads: main thread.
 */

#include "clients/wyoming/peer.h"

/* --- info: which models are there ------------------------------------------------------------ */

/* describe -> info */
int info_describe(struct peer *peer, struct error *err);
void info_free(struct peer *peer);

/* --- hear: speech to text -------------------------------------------------------------------- */

/*
 * transcribe, audio-start, audio-chunk ..., audio-stop -> transcript-start, -chunk ..., transcript,
 * -stop
 */
int hear_transcribe(struct peer *peer, struct json_object *data, struct error *err);
int hear_start(struct peer *peer, struct json_object *data, struct error *err);
int hear_chunk(struct peer *peer, struct json_object *data, const uint8_t *samples, size_t n,
               struct error *err);
int hear_stop(struct peer *peer, struct error *err);
void hear_free(struct peer *peer);

/* --- speak: text to speech ------------------------------------------------------------------- */

/*
 * synthesize -> audio-start, audio-chunk ..., audio-stop; or synthesize-start, synthesize-chunk
 * ..., synthesize-stop -> the same, sentence by sentence, then synthesize-stopped.
 */
int speak_whole(struct peer *peer, struct json_object *data, struct error *err);
int speak_start(struct peer *peer, struct json_object *data, struct error *err);
int speak_chunk(struct peer *peer, struct json_object *data, struct error *err);
int speak_stop(struct peer *peer, struct error *err);
/* Everything made so far is sent: go on. */
void speak_drained(struct peer *peer);
void speak_free(struct peer *peer);

/* --- handle: text to an answer, or an intent ------------------------------------------------- */

/* transcript -> handled, not-handled or intent; recognize -> intent or not-recognized */
int handle_transcript(struct peer *peer, struct json_object *data, struct error *err);
int handle_recognize(struct peer *peer, struct json_object *data, struct error *err);
void handle_free(struct peer *peer);
