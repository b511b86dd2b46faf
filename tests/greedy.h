/* SPDX-License-Identifier: MIT */
#pragma once

/* What a model answers to a prompt that was fed, for tests of the models of this repository. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "text/lm.h"

/* The greedy reply of at most n_max tokens as text, end token left out. logits: after the last
 * token of the prompt. */
static inline void greedy_reply(struct sequence *sequence, const struct tokenizer *tokenizer,
                                const float *logits, size_t n_max, char *out, size_t size)
{
    const struct generation_options options = {.sampling = SAMPLING_GREEDY, .n_max = n_max};
    struct error err = ERROR_INIT;
    struct generation *generation = generation_new(sequence, logits, &options, &err);
    uint32_t ids[GENERATION_STEP_MAX];
    size_t used = 0;
    int n;

    assert_non_null(generation);
    while ((n = generation_next(generation, ids, NULL)) > 0) {
        for (int i = 0; i < n; i++) {
            size_t length;
            const char *piece = tokenizer_piece(tokenizer, ids[i], &length);

            if (tokenizer_is_end(tokenizer, ids[i]))
                continue;
            assert_true(used + length < size);
            memcpy(out + used, piece, length);
            used += length;
        }
    }
    assert_int_equal(n, 0);
    out[used] = '\0';
    generation_free(generation);
}
