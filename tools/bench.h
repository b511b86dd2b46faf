/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the timings of lfm-bench share: options, series, the peer, the report.
 *
 * Threads: main.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "base/error.h"
#include "tensor/attend.h"

#define BENCH_REPS_MAX 1000

struct bench_settings {
    const char *model, *mmproj, *image, *audio_set, *peer;
    uint64_t n_prefill, n_decode, depth, n_threads, reps, load;
    uint64_t width, height; /* of a drawn picture */
    uint64_t seconds;       /* of a clip */
    enum kv_type kv;
    bool json;
};

struct series {
    double values[BENCH_REPS_MAX];
    size_t n;
};

double bench_now(void); /* seconds */
double series_median(struct series *series);
double series_largest(const struct series *series);
double series_smallest(const struct series *series); /* 0 of an empty one */

/* Each runs its repetitions and prints its report. */
int bench_text(const struct bench_settings *settings, struct error *err);
int bench_image(const struct bench_settings *settings, struct error *err);
int bench_audio(const struct bench_settings *settings, struct error *err);

/*
 * Run the peer once, with `arguments` of its command line, in which the shell replaces
 * $LFM_BENCH_MODEL and what else is in the environment. *ret: its JSON object.
 */
int bench_peer(const struct bench_settings *settings, const char *arguments,
               struct json_object **ret, struct error *err);

/* A number of the peer's reply; 0 when it has none of this name. */
double bench_number(struct json_object *reply, const char *key);

void bench_put(struct json_object *to, const char *key, double value);
double bench_rss_mb(void);
void bench_print(const struct bench_settings *settings, struct json_object *report);
