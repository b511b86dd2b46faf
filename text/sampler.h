/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * From logits to a token: penalties -> mask -> top-k -> top-p -> min-p -> temperature -> draw.
 * (llama.cpp's default order; temperature 0 is greedy: the largest logit, the lowest id of equals.)
 *
 * Every filter keeps a prefix of the candidates sorted by (logit descending, id ascending), so ties
 * never make a difference between machines; with top_k_ties all of them stay, as LFM2-Audio has it.
 * Nothing sorts the whole vocabulary. top-p and min-p look at the probabilities before the
 * temperature.
 *
 * Each draw at a temperature above 0 takes exactly one number from a generator of its own
 * (SplitMix64, started at the seed), so equal seeds and logits give equal tokens, and a draw does
 * not depend on how the logits were computed (one row in a pass, or several).
 *
 * Logits may hold anything: NaN counts as minus infinity, and when nothing finite is allowed the
 * lowest allowed id is drawn.
 *
 * Memory: one buffer of n_vocab candidates, taken in sampler_new().
 * Threads: one owner.
 * Source: text.md section 11; audio.md 3.2; Steele, Lea, Flood, "Fast splittable pseudorandom
 *         number generators".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SAMPLER_PENALTY_WINDOW 64 /* the last ids that the penalties look at */

struct sampling {
    float temperature;        /* 0: greedy */
    uint32_t top_k;           /* 0: off */
    bool top_k_ties;          /* what equals the k-th stays too */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off; logit > 0 divided, < 0 multiplied */
    float presence_penalty;   /* 0: off; subtracted once from every id that occurred */
    uint64_t seed;
};

#define SAMPLING_GREEDY                                                                            \
    {                                                                                              \
        .temperature = 0, .top_p = 1, .repetition_penalty = 1                                      \
    }

/* 0, or -EINVAL with the name of the value that is out of range. */
int sampling_check(const struct sampling *sampling, struct error *err);

struct sampler;

struct sampler *sampler_new(size_t n_vocab, const struct sampling *sampling, struct error *err);
struct sampler *sampler_free(struct sampler *sampler);

/* Ids for the penalties: prompt tokens and accepted ones. */
void sampler_accept(struct sampler *sampler, uint32_t id);

/*
 * logits:  [n_vocab]; overwritten
 * allowed: bit i of byte i/8 set = id i may be drawn; NULL = all. At least one must be allowed.
 */
uint32_t sampler_draw(struct sampler *sampler, float *logits, const uint8_t *allowed);
