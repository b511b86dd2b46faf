/* SPDX-License-Identifier: MIT */
/*
 * vl-logits, vl-generate: pictures and text through one model.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/layout.h"
#include "text/lm.h"
#include "tools/run.h"
#include "vision/vision.h"

/* One --image of the command line, encoded. */
struct shown {
    struct picture_layout layout;
    size_t n_rows;
    float *rows; /* [n_rows][L] */
};

struct prompt {
    struct pool *pool;
    struct lm *lm;
    struct vision *vision;
    struct shown *images; /* [n_images] */
    size_t n_images;
    struct token_list ids;
    const float **rows; /* of the row ids, in order */
    struct sequence *sequence;
};

static void prompt_done(struct prompt *prompt)
{
    sequence_free(prompt->sequence);
    for (size_t i = 0; i < prompt->n_images; i++) {
        picture_layout_done(&prompt->images[i].layout);
        free(prompt->images[i].rows);
    }
    free(prompt->images);
    free(prompt->rows);
    token_list_done(&prompt->ids);
    vision_free(prompt->vision);
    lm_free(prompt->lm);
    pool_free(prompt->pool);
}

static int load(struct prompt *prompt, const struct run_options *options, struct error *err)
{
    const bool precise = run_flag(options, "precise");
    const char *model, *mmproj;
    int r = run_need(options, "model", &model, err);

    if (r == 0)
        r = run_need(options, "mmproj", &mmproj, err);
    if (r < 0)
        return r;
    prompt->pool = pool_new(options->n_threads, err);
    if (prompt->pool)
        prompt->lm = lm_load(model, precise, prompt->pool, err);
    if (prompt->lm)
        prompt->vision = vision_load(mmproj, precise, prompt->pool, err);
    if (!prompt->vision)
        return -EINVAL;
    if (vision_info(prompt->vision)->shape.n_embd != prompt->lm->model->hparams.n_embd)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s makes rows of %u values, but the text model's are of %u.", mmproj,
                         vision_info(prompt->vision)->shape.n_embd,
                         prompt->lm->model->hparams.n_embd);
    return 0;
}

static void imagep(struct image *image)
{
    image_done(image);
}

static void picturep(struct picture **picture)
{
    picture_free(*picture);
}

static int encode(struct prompt *prompt, const char *path, const struct tile_settings *settings,
                  struct shown *shown, struct error *err)
{
    _cleanup_(imagep) struct image image = {0};
    _cleanup_(picturep) struct picture *picture = NULL;
    const uint64_t key[2] = {(uint64_t)(shown - prompt->images), 0};
    struct tile_plan plan;
    int r = run_image(path, &image, err);

    if (r == 0)
        r = tiles_plan(settings, image.width, image.height, &plan, err);
    if (r == 0)
        r = picture_layout_init(&shown->layout, &plan, key, err);
    if (r < 0)
        return r;
    picture = picture_new(&image, &plan, prompt->pool, err);
    if (!picture)
        return -EINVAL;
    shown->n_rows = plan.n_image_tokens;
    shown->rows =
        run_take_floats(shown->n_rows, vision_info(prompt->vision)->shape.n_embd, err);
    if (!shown->rows)
        return -ENOMEM;
    return vision_encode(prompt->vision, picture, 0, plan.n_views, NULL, shown->rows, NULL, err);
}

static int encode_all(struct prompt *prompt, const struct run_options *options, struct error *err)
{
    struct tile_settings settings;
    size_t n = 0;
    int r = run_tile_settings(options, &settings, err);

    if (r < 0)
        return r;
    while (run_value_at(options, "image", n))
        n++;
    prompt->images = calloc(n + 1, sizeof(*prompt->images));
    if (!prompt->images)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for %zu pictures.", n);
    for (prompt->n_images = 0; prompt->n_images < n && r == 0; prompt->n_images++)
        r = encode(prompt, run_value_at(options, "image", prompt->n_images), &settings,
                   &prompt->images[prompt->n_images], err);
    return r;
}

/* --prompt as ids, each <image> in it replaced by the tokens of a picture. */
static int expand(struct prompt *prompt, const struct run_options *options, struct error *err)
{
    _cleanup_(token_list_done) struct token_list plain = {0};
    _cleanup_(freep) struct image_layout *layouts = NULL;
    const size_t width = vision_info(prompt->vision)->shape.n_embd;
    struct image_markers markers;
    struct text_span span = {.markup = true};
    size_t n_rows = 0;
    int r = run_need(options, "prompt", &span.text, err);

    if (r == 0)
        r = image_markers_find(prompt->lm->tokenizer, &markers, err);
    if (r < 0)
        return r;
    layouts = calloc(prompt->n_images + 1, sizeof(*layouts));
    for (size_t i = 0; i < prompt->n_images; i++)
        n_rows += prompt->images[i].n_rows;
    prompt->rows = calloc(n_rows + 1, sizeof(*prompt->rows));
    if (!layouts || !prompt->rows)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the prompt.");
    n_rows = 0;
    for (size_t i = 0; i < prompt->n_images; i++) {
        layouts[i] = prompt->images[i].layout.layout;
        for (size_t k = 0; k < prompt->images[i].n_rows; k++)
            prompt->rows[n_rows++] = prompt->images[i].rows + k * width;
    }
    span.length = strlen(span.text);
    r = tokenizer_encode(prompt->lm->tokenizer, &span, 1, &plain, err);
    if (r == 0)
        r = images_expand(&markers, plain.ids, plain.n, layouts, prompt->n_images, &prompt->ids,
                          err);
    if (r == 0 && prompt->ids.n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--prompt is empty.");
    return r;
}

/* The prompt with its pictures, fed into a sequence with room for n_new more tokens. */
static int open_prompt(struct prompt *prompt, const struct run_options *options, size_t n_new,
                       float **ret_logits, struct error *err)
{
    int r = load(prompt, options, err);

    if (r == 0)
        r = encode_all(prompt, options, err);
    if (r == 0)
        r = expand(prompt, options, err);
    if (r < 0)
        return r;
    prompt->sequence = sequence_new(prompt->lm, prompt->ids.n + n_new, options->kv, err);
    if (!prompt->sequence)
        return -EINVAL;
    return run_feed(prompt->sequence, prompt->ids.ids, prompt->ids.n, prompt->rows, ret_logits,
                    err);
}

static int run_logits(const struct run_options *options, struct error *err)
{
    _cleanup_(prompt_done) struct prompt prompt = {0};
    const char *out;
    float *logits;
    int r = run_need(options, "out", &out, err);

    if (r == 0)
        r = open_prompt(&prompt, options, 0, &logits, err);
    if (r < 0)
        return r;
    return run_write_floats(out, logits, prompt.lm->model->hparams.n_vocab, err);
}

static int run_generate(const struct run_options *options, struct error *err)
{
    _cleanup_(prompt_done) struct prompt prompt = {0};
    struct generation_options generation;
    float *logits;
    int r = run_generation_options(options, &generation, err);

    if (r == 0)
        r = open_prompt(&prompt, options, generation.n_max, &logits, err);
    if (r < 0)
        return r;
    return run_generate_ids(prompt.sequence, logits, &generation, err);
}

#define VL_OPTIONS "mmproj= image=* prompt= " RUN_TILE_OPTIONS

const struct run_verb run_vl_verbs[] = {
    {"vl-logits", VL_OPTIONS " out=", run_logits},
    {"vl-generate", VL_OPTIONS " " RUN_GENERATION_OPTIONS, run_generate},
    {NULL, NULL, NULL},
};
