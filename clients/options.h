/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The command line of lfmctl: options may stand anywhere before "--"; the first word is the verb.
 *
 * Threads: main thread; strings point into argv.
 */

#include <stdbool.h>
#include <stdint.h>

#include "clients/terminal.h"

#define STOPS_MAX  16
#define IMAGES_MAX 16 /* of one question; as many descriptors go with a message */

struct options {
    const char *model, *session, *system;
    const char *tools, *tool_command;
    const char *format; /* file of a JSON Schema, or "json" */
    const char *title;
    const char *stop[STOPS_MAX + 1];
    unsigned n_stop;
    const char *images[IMAGES_MAX];
    unsigned n_images;
    const char *detail; /* of pictures, as what follows; 0: not given */
    uint32_t min_image_tokens, max_image_tokens, min_tiles, max_tiles, max_encode_ms;
    bool no_tiling, no_thumbnail;
    const char *voice, *input, *output, *mode; /* of speech */
    double rate, pitch;                         /* 0: not given */
    const char *to, *source;                    /* of dictation */
    uint32_t hangover_ms, silence_ms;           /* 0: not given */
    bool times, now;
    bool keep, background, no_tools, no_clock, dry_run_tools;
    bool json, stats, quiet, thinking, all;
    uint32_t max_tokens, context; /* 0: not given */
    bool has_temperature, has_top_p, has_min_p, has_top_k, has_seed;
    double temperature, top_p, min_p;
    uint32_t top_k;
    uint64_t seed;
    enum colour_mode colour;

    const char *verb;       /* NULL: none given */
    char **arguments;       /* after the verb, NULL-terminated */
    unsigned n_arguments;
};

/* STATUS_OK, or STATUS_USAGE after a sentence. Handles --help and --version: -1, end with 0. */
int options_read(struct options *options, int argc, char **argv);

/* The text of `lfmctl help`. */
void options_help(void);
