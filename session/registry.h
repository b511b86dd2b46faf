/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Liquid AI's published text, vision, audio and retrieval models: which files there are, and how to
 * use them.
 *
 * One entry is a text model with the companions that make it see, hear or speak. The usual
 * quantisation of a model has the plain id ("lfm2-1.2b"); the others carry theirs as a suffix
 * ("lfm2-1.2b:q8_0"). Where revision and SHA-256 of a file are known they are pinned: that very
 * file is fetched, or none. Where they are not, the newest revision is fetched, and the server says
 * size and hash (fetch/download.h). A size that is not exact is what the published parameter counts
 * give, good enough to decide whether to begin.
 *
 * Threads: any; constant.
 * Source: the publisher's repositories and model cards; sampling: text.md section 11.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/companion.h"
#include "session/models.h"

#define REGISTRY_SITE "https://huggingface.co"

struct registry_file {
    char name[64];        /* in the repository and on disk; empty: the model has none */
    const char *revision; /* "main", or the commit that the hash belongs to */
    const char *sha256;   /* NULL: not pinned */
    uint64_t size_bytes;
    bool size_exact;
};

struct registry_model {
    char id[48];
    char title[64];
    char repository[64]; /* "LiquidAI/LFM2-1.2B-GGUF" */
    const char *licence;
    enum model_role role;
    uint32_t context;    /* tokens that the publisher supports */
    struct sampling sampling;
    struct registry_file files[_FILE_N];
};

size_t registry_n(void);
/* Model i, in the order of a list for people; false past the end. */
bool registry_at(size_t i, struct registry_model *ret);

/* What the publisher recommends for a model of this name ("LFM2.5-1.2B-Instruct"); else greedy. */
struct sampling registry_sampling(const char *name);
