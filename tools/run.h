/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the verbs of lfm-run share: options, input, output.
 *
 * A verb checks and computes everything before it prints, so that a failure leaves stdout empty.
 *
 * Threads: main.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/modes.h"
#include "base/error.h"
#include "base/image.h"
#include "text/lm.h"
#include "vision/tiles.h"

#define RUN_INPUT_MAX ((size_t)1 << 30) /* bytes read from stdin */

#define RUN_OPTIONS_MAX 32

struct run_option {
    char name[32];
    const char *value; /* NULL: a flag */
};

struct run_options {
    struct run_option items[RUN_OPTIONS_MAX];
    size_t n;
    unsigned n_threads; /* --threads; 0: as many as there are cores */
    enum kv_type kv;    /* --kv */
};

struct run_verb {
    const char *name;
    /* Its options beside those of every verb, in one line: "special" is a flag, "ids=" has a value,
     * "image=*" has one and may be given several times. */
    const char *options;
    int (*run)(const struct run_options *options, struct error *err);
};

/* The verbs of one file, ended by a name of NULL. */
extern const struct run_verb run_audio_verbs[];
extern const struct run_verb run_generate_verbs[];
extern const struct run_verb run_image_verbs[];
extern const struct run_verb run_model_verbs[];
extern const struct run_verb run_speech_verbs[];
extern const struct run_verb run_text_verbs[];
extern const struct run_verb run_vl_verbs[];
extern const struct run_verb run_wave_verbs[];

/* Check the arguments after the verb. Accepts --name value and --name=value. */
int run_options_parse(const struct run_verb *verb, char **arguments, int n, struct run_options *ret,
                      struct error *err);

/* The value of an option, or NULL. */
const char *run_value(const struct run_options *options, const char *name);
/* Value i of one that may be given several times, in the order given; NULL: there are no more. */
const char *run_value_at(const struct run_options *options, const char *name, size_t i);
bool run_flag(const struct run_options *options, const char *name);

/* The same for an option that must be given. */
int run_need(const struct run_options *options, const char *name, const char **ret,
             struct error *err);

/* A whole number within bounds; *ret keeps its value when the option is absent. */
int run_number(const struct run_options *options, const char *name, uint64_t low, uint64_t high,
               uint64_t *ret, struct error *err);

/* --ids 1,2,3, each below n_vocab. *ret: malloc. */
int run_ids(const struct run_options *options, size_t n_vocab, uint32_t **ret, size_t *ret_n,
            struct error *err);

/* All of stdin, malloc, with a NUL after it. */
int run_stdin(char **ret, size_t *ret_length, struct error *err);

/* One JSON value, from a file or (NULL) from stdin. */
int run_json(const char *path, struct json_object **ret, struct error *err);
void run_json_putp(struct json_object **value); /* for _cleanup_ */

/* [[8 codes], ...], each below n_codes: *ret [*ret_n][CODEBOOKS], malloc. */
int run_json_codes(struct json_object *frames, int32_t n_codes, int32_t **ret, size_t *ret_n,
                   struct error *err);

/* Bytes to stdout. */
int run_print(const char *text, size_t length, struct error *err);
int run_print_ids(const uint32_t *ids, size_t n,
                  struct error *err); /* a JSON array and a newline */

/* [rows][width], malloc; NULL with a sentence */
float *run_take_floats(size_t rows, size_t width, struct error *err);

/* Floats to be written to --out once all of them are known to be right. */
int run_write_floats(const char *path, const float *values, size_t n, struct error *err);

/* --- pictures --------------------------------------------------------------------------------- */

/* The settings of run_tile_settings(), for the options of a verb. */
#define RUN_TILE_OPTIONS                                                                           \
    "min-image-tokens= max-image-tokens= min-tiles= max-tiles= tile-size= tiling= thumbnail= "     \
    "max-pixels-tolerance="

/* The reference processor's settings with those that are given. */
int run_tile_settings(const struct run_options *options, struct tile_settings *ret,
                      struct error *err);

/* Decode the picture in a file. */
int run_image(const char *path, struct image *ret, struct error *err);

/* --- sounds ----------------------------------------------------------------------------------- */

/* The samples in a file, 16 kHz mono: malloc. A name that ends in ".f32" is raw samples. */
int run_sound(const char *path, float **ret, size_t *ret_n, struct error *err);

/* Its features [n_mels][*ret_n_frames]: malloc. */
int run_features(const char *path, size_t n_mels, float **ret, size_t *ret_n_frames,
                 struct error *err);

/* --- generation ------------------------------------------------------------------------------- */

/* The settings of run_generation_options(), for the options of a verb. */
#define RUN_GENERATION_OPTIONS "n= temp= top-k= min-p= seed= ignore-eos"

int run_generation_options(const struct run_options *options, struct generation_options *ret,
                           struct error *err);

/*
 * Feed a prompt into an empty sequence: *ret_logits [V] are those after its last token.
 * given: the rows of the row ids among ids, in order; NULL when there are none
 */
int run_feed(struct sequence *sequence, const uint32_t *ids, size_t n,
             const float *const *given, float **ret_logits, struct error *err);

/* Generate after run_feed() and print the new ids. */
int run_generate_ids(struct sequence *sequence, const float *logits,
                     const struct generation_options *options, struct error *err);
