/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reference values: JSON sidecars and raw float files beside a model, and comparisons that say on
 * failure which tensor, which index, both values, the largest and the RMS difference.
 */

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "base/cleanup.h"

/* "dir/stem.json" + "file" -> "dir/file"; static storage, valid for the next three calls. */
static inline const char *golden_beside(const char *path, const char *file)
{
    static char out[4][PATH_MAX];
    static unsigned next;
    char *p = out[next++ % 4];

    snprintf(p, PATH_MAX, "%.*s%s", (int)(strrchr(path, '/') + 1 - path), path, file);
    return p;
}

static inline struct json_object *golden_json(const char *path)
{
    struct json_object *json = json_object_from_file(path);

    if (!json)
        fail_msg("%s: %s", path, json_util_get_last_err());
    return json;
}

/* A member that must be there. */
static inline struct json_object *golden_get(struct json_object *json, const char *key)
{
    struct json_object *value;

    if (!json_object_object_get_ex(json, key, &value))
        fail_msg("the reference has no \"%s\"", key);
    return value;
}

static inline const char *golden_str(struct json_object *json, const char *key)
{
    return json_object_get_string(golden_get(json, key));
}

/* An array of numbers: malloc. */
static inline uint32_t *golden_ids(struct json_object *array, size_t *ret_n)
{
    const size_t n = json_object_array_length(array);
    uint32_t *ids = malloc((n + 1) * sizeof(*ids));

    for (size_t i = 0; i < n; i++)
        ids[i] = (uint32_t)json_object_get_int64(json_object_array_get_idx(array, i));
    *ret_n = n;
    return ids;
}

/* The n floats of a file, which must have just so many: malloc. */
static inline float *golden_floats(const char *path, size_t n)
{
    float *values = malloc((n + 1) * sizeof(*values));
    FILE *file = fopen(path, "rb");

    if (!file)
        fail_msg("cannot open %s", path);
    assert_int_equal(fread(values, sizeof(*values), n + 1, file), n);
    fclose(file);
    return values;
}

struct golden_difference {
    double max_abs;
    double rms;     /* of the differences */
    double rms_rel; /* the same over the standard deviation of the reference */
};

static inline struct golden_difference golden_difference(const float *found, const float *expected,
                                                         size_t n)
{
    struct golden_difference d = {0};
    double sum = 0, mean = 0, variance = 0;

    for (size_t i = 0; i < n; i++)
        mean += (double)expected[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        const double difference = fabs((double)found[i] - (double)expected[i]);

        d.max_abs = difference <= d.max_abs ? d.max_abs : difference; /* NaN stays */
        sum += difference * difference;
        variance += ((double)expected[i] - mean) * ((double)expected[i] - mean);
    }
    d.rms = sqrt(sum / (double)n);
    d.rms_rel = sqrt(sum / variance);
    return d;
}

/* Every value within max_abs. */
static inline void golden_close(const char *what, const float *found, const float *expected,
                                size_t n, double max_abs)
{
    const struct golden_difference d = golden_difference(found, expected, n);

    if (d.max_abs <= max_abs)
        return;
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)found[i] - (double)expected[i]) <= max_abs))
            fail_msg("%s: first at %zu of %zu: expected %.9g, found %.9g; largest difference %.3g "
                     "(limit %.3g), RMS %.3g",
                     what, i, n, (double)expected[i], (double)found[i], d.max_abs, max_abs, d.rms);
}

/* Bit for bit. */
static inline void golden_same(const char *what, const float *found, const float *expected,
                               size_t n)
{
    const struct golden_difference d = golden_difference(found, expected, n);

    for (size_t i = 0; i < n; i++)
        if (memcmp(&found[i], &expected[i], sizeof(float)) != 0)
            fail_msg("%s: first at %zu of %zu: expected the bits of %a, found %a; largest "
                     "difference %.3g, RMS %.3g",
                     what, i, n, (double)expected[i], (double)found[i], d.max_abs, d.rms);
}

static inline size_t golden_argmax(const float *row, size_t n)
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (row[i] > row[best])
            best = i;
    return best;
}

/* Kullback-Leibler divergence of softmax(found) from softmax(expected), in nats. */
static inline double golden_kl(const float *found, const float *expected, size_t n)
{
    double sum_f = 0, sum_e = 0, kl = 0;
    const double top_f = (double)found[golden_argmax(found, n)];
    const double top_e = (double)expected[golden_argmax(expected, n)];

    for (size_t i = 0; i < n; i++) {
        sum_f += exp((double)found[i] - top_f);
        sum_e += exp((double)expected[i] - top_e);
    }
    for (size_t i = 0; i < n; i++) {
        const double log_e = (double)expected[i] - top_e - log(sum_e);
        const double log_f = (double)found[i] - top_f - log(sum_f);

        kl += exp(log_e) * (log_e - log_f);
    }
    return kl;
}
