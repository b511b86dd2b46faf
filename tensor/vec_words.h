/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * vx (kernels_body.h) where a word of activations is repeated straight from memory. For a vec_X.h.
 */

/* Runs of 8 values of some positions; word 2 i + h of 4 bytes is half h of position i. */
typedef struct {
    const int8_t *p;
} vx;

ALWAYS vx vx_load(const int8_t *p, int n)
{
    (void)n;
    return (vx){p};
}

ALWAYS int32_t vx_word(const vx *x, int i)
{
    int32_t word;

    memcpy(&word, x->p + 4 * i, 4);
    return word;
}
