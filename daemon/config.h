/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The configuration: INI files, each key typed, ranged and described in lfmd.conf(5).
 *
 * Read in this order, later values replace earlier ones:
 *
 *   DIR/lfmd/lfmd.conf, then DIR/lfmd/lfmd.conf.d/(*).conf by name, for each DIR of
 *   $XDG_CONFIG_DIRS (/etc/xdg) from the last to the first, then for $XDG_CONFIG_HOME (~/.config)
 *
 * Everything that is wrong is reported, not only the first thing, each with file and line: unknown
 * sections and keys, values of the wrong kind or out of range, keys given twice in one file, lines
 * that are none.
 *
 * Memory: a struct config owns its strings.
 * Threads: bus thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/attend.h"

#define CONFIG_FILE_MAX ((size_t)1 << 20) /* bytes of one file */
#define CONFIG_LINE_MAX 4000              /* bytes of one line; 197 where inih's limit is fixed */
#define CONFIG_FOREVER  (-1)              /* of a duration */

struct config {
    /* [engine] */
    uint32_t threads;          /* 0: one for each core */
    uint64_t memory_max_bytes; /* 0: what the machine has available */
    uint32_t context;          /* tokens of a session that names no number */
    enum kv_type kv;
    int64_t keep_alive_sec; /* of a model after its last use; 0: at once; CONFIG_FOREVER */
    uint64_t prefix_cache_bytes;

    /* [image] */
    uint32_t max_encode_ms;     /* of a picture that says nothing else; 0: no limit */
    uint64_t image_cache_bytes; /* what was seen of pictures, for each model */
    uint64_t image_bytes_max;   /* of a file */
    uint32_t image_megapixels;  /* of a picture */

    /* [audio] */
    char *microphone, *loudspeaker; /* names of devices (lfmctl devices); NULL: the default */
    bool keep_echo;                 /* the microphone hears no loudspeaker */
    uint32_t audio_latency_ms;

    /* [models] */
    char **directories;  /* NULL-terminated, absolute; NULL: none named */
    char *default_model; /* NULL: the first installed chat model */
    char *mirror;        /* http(s) URL prefix, or NULL */

    /* [daemon] */
    int64_t idle_exit_sec; /* CONFIG_FOREVER: stay */
    int log_level;         /* LOG_ERR ... LOG_DEBUG */
};

/* All that is wrong, one line each: "FILE:LINE: sentence". */
struct config_report {
    char *text; /* malloc, NULL while nothing is wrong */
    size_t length;
    unsigned n;
};

void config_report_done(struct config_report *report);

struct config *config_new(void); /* the defaults; NULL: out of memory */
struct config *config_free(struct config *config);

/*
 * Read one file's text into config. `name` is for the report.
 *
 * Returns the number of problems that were added to the report; good keys are set all the same.
 */
unsigned config_parse(struct config *config, const char *name, const char *text, size_t length,
                      struct config_report *report);

/*
 * The whole configuration: the files above, or only `file` unless NULL, which then must exist.
 *
 * Returns NULL when something is wrong; the report says what.
 */
struct config *config_read(const char *file, struct config_report *report);
