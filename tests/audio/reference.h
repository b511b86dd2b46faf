/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the audio tests share: the reference's tensors and frames, and a pool.
 */

#include "audio/modes.h"
#include "tensor/pool.h"
#include "tests/fixture.h"
#include "tests/golden.h"

/* {"file": ..., "shape": ...} of an index of fixtures/audio, n floats: malloc. */
static inline float *reference_floats(struct json_object *entry, size_t n)
{
    char path[256];

    snprintf(path, sizeof(path), "audio/%s", golden_str(entry, "file"));
    return golden_floats(fixture_path(path), n);
}

/* [c0 .. c7] */
static inline void reference_codes(struct json_object *frame, int32_t codes[CODEBOOKS])
{
    assert_int_equal(json_object_array_length(frame), CODEBOOKS);
    for (size_t i = 0; i < CODEBOOKS; i++)
        codes[i] = json_object_get_int(json_object_array_get_idx(frame, i));
}

static inline struct pool *reference_pool(unsigned n_threads)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(n_threads, &err);

    if (!pool)
        fail_msg("%s", err.text);
    return pool;
}
