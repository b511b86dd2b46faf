/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Hyperparameters out of a file's metadata, each within bounds that keep sizes far from overflow.
 *
 * Threads: any.
 * Source: text.md 7.2; absent keys as llama.cpp takes them.
 */

#include "lfm2/model.h"

/* 0, or the sentence that names the key, what was expected and what was found. */
int lfm2_hparams_read(const struct gguf *gguf, struct lfm2_hparams *ret, struct error *err);
