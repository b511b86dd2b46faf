/* SPDX-License-Identifier: MIT */
/*
 * image-plan, image-patches, image-encode, image-embed: the vision path, step by step.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "tools/run.h"
#include "vision/decoder.h"
#include "vision/patches.h"
#include "vision/vision.h"

/* --- settings and pictures -------------------------------------------------------------------- */

static int number(const struct run_options *options, const char *name, uint32_t *ret,
                  struct error *err)
{
    uint64_t value = *ret;
    int r = run_number(options, name, 0, UINT32_MAX, &value, err);

    *ret = (uint32_t)value;
    return r;
}

static int on_or_off(const struct run_options *options, const char *name, bool *ret,
                     struct error *err)
{
    const char *value = run_value(options, name);

    if (!value)
        return 0;
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--%s is \"%s\", expected on or off.", name,
                         value);
    *ret = strcmp(value, "on") == 0;
    return 0;
}

static int tolerance(const struct run_options *options, double *ret, struct error *err)
{
    const char *value = run_value(options, "max-pixels-tolerance");
    char *end;

    if (!value)
        return 0;
    *ret = strtod(value, &end);
    if (!*value || *end || !isfinite(*ret) || *ret <= 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "--max-pixels-tolerance is \"%s\", expected a number above 0.", value);
    return 0;
}

int run_tile_settings(const struct run_options *options, struct tile_settings *ret,
                      struct error *err)
{
    int r;

    *ret = tile_settings_default;
    r = number(options, "min-image-tokens", &ret->min_image_tokens, err);
    if (r == 0)
        r = number(options, "max-image-tokens", &ret->max_image_tokens, err);
    if (r == 0)
        r = number(options, "min-tiles", &ret->min_tiles, err);
    if (r == 0)
        r = number(options, "max-tiles", &ret->max_tiles, err);
    if (r == 0)
        r = number(options, "tile-size", &ret->tile_size, err);
    if (r == 0)
        r = on_or_off(options, "tiling", &ret->tiling, err);
    if (r == 0)
        r = on_or_off(options, "thumbnail", &ret->thumbnail, err);
    if (r == 0)
        r = tolerance(options, &ret->max_pixels_tolerance, err);
    return r;
}

int run_image(const char *path, struct image *ret, struct error *err)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_(closep) int source = -1;
    size_t bytes;
    int r;

    if (fd < 0)
        return error_set(err, ERROR_IO, "The picture '%s' cannot be opened: %s.", path,
                         strerror(errno));
    r = image_source(fd, &decode_limits_default, &source, &bytes, err);
    if (r < 0)
        return r;
    return image_decode(image_decoder_path(), source, &decode_limits_default, NULL, ret, err);
}

/* --- image-plan ------------------------------------------------------------------------------- */

/* --size 640x480 */
static int read_size(const char *size, uint32_t *ret_width, uint32_t *ret_height, struct error *err)
{
    uint64_t sides[2] = {0};
    const char *at = size;

    for (size_t i = 0; i < 2; i++) {
        char *end;

        errno = 0;
        sides[i] = *at >= '0' && *at <= '9' ? strtoull(at, &end, 10) : 0;
        if (sides[i] < 1 || sides[i] > TILES_SIDE_MAX || errno || *end != (i == 0 ? 'x' : '\0'))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "--size is \"%s\", expected width and height, such as 640x480, from 1 "
                             "to %" PRIu32 ".",
                             size, TILES_SIDE_MAX);
        at = end + 1;
    }
    *ret_width = (uint32_t)sides[0];
    *ret_height = (uint32_t)sides[1];
    return 0;
}

static void put_size(struct json_object *json, const char *key, size_t value)
{
    json_object_object_add(json, key, json_object_new_int64((int64_t)value));
}

static struct json_object *describe(const struct tile_plan *plan)
{
    struct json_object *json = json_object_new_object(), *views = json_object_new_array();

    put_size(json, "resized_w", plan->resized_w);
    put_size(json, "resized_h", plan->resized_h);
    put_size(json, "cols", plan->cols);
    put_size(json, "rows", plan->rows);
    put_size(json, "image_tokens", plan->n_image_tokens);
    put_size(json, "special_tokens", plan->n_special_tokens);
    for (size_t i = 0; i < plan->n_views; i++) {
        const struct tile_view view = tile_view(plan, i);
        struct json_object *item = json_object_new_object();

        put_size(item, "w", view.width);
        put_size(item, "h", view.height);
        put_size(item, "tokens", view.n_tokens);
        json_object_array_add(views, item);
    }
    json_object_object_add(json, "views", views);
    return json;
}

static void imagep(struct image *image)
{
    image_done(image);
}

static int run_plan(const struct run_options *options, struct error *err)
{
    _cleanup_(imagep) struct image image = {0};
    const char *path = run_value(options, "image"), *size = run_value(options, "size");
    struct tile_settings settings;
    struct tile_plan plan;
    struct json_object *json;
    const char *text;
    int r;

    if (!path == !size)
        return error_set(err, ERROR_INVALID_ARGUMENT, "image-plan needs either --image or --size.");
    r = run_tile_settings(options, &settings, err);
    if (r == 0)
        r = path ? run_image(path, &image, err) : read_size(size, &image.width, &image.height, err);
    if (r == 0)
        r = tiles_plan(&settings, image.width, image.height, &plan, err);
    if (r < 0)
        return r;
    json = describe(&plan);
    text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN);
    r = run_print(text, strlen(text), err);
    if (r == 0)
        r = run_print("\n", 1, err);
    json_object_put(json);
    return r;
}

/* --- image-patches, image-encode, image-embed ------------------------------------------------- */

/* What these three share: a picture cut into views, and where the result goes. */
struct job {
    const char *out;
    struct pool *pool;
    struct picture *picture;
};

static void job_done(struct job *job)
{
    picture_free(job->picture);
    pool_free(job->pool);
}

static int open_job(const struct run_options *options, struct job *job, struct error *err)
{
    _cleanup_(imagep) struct image image = {0};
    struct tile_settings settings;
    struct tile_plan plan;
    const char *path;
    int r = run_need(options, "out", &job->out, err);

    if (r == 0)
        r = run_need(options, "image", &path, err);
    if (r == 0)
        r = run_tile_settings(options, &settings, err);
    if (r == 0)
        r = run_image(path, &image, err);
    if (r == 0)
        r = tiles_plan(&settings, image.width, image.height, &plan, err);
    if (r < 0)
        return r;
    job->pool = pool_new(options->n_threads, err);
    if (!job->pool)
        return -EINVAL;
    job->picture = picture_new(&image, &plan, job->pool, err);
    return job->picture ? 0 : -EINVAL;
}

static int run_patches(const struct run_options *options, struct error *err)
{
    static const float half[3] = {0.5f, 0.5f, 0.5f};
    _cleanup_(job_done) struct job job = {0};
    _cleanup_(freep) float *patches = NULL;
    struct patches_norm norm;
    size_t n = 0;
    int r = open_job(options, &job, err);

    if (r < 0)
        return r;
    patches = run_take_floats(4 * job.picture->plan.n_image_tokens, PATCHES_VALUES, err);
    if (!patches)
        return -ENOMEM;
    patches_norm_init(&norm, half, half);
    for (size_t i = 0; i < job.picture->plan.n_views; i++) {
        const struct picture_view view = picture_view(job.picture, i);

        patches_cut(&view, &norm, PATCHES_PIXELS, 0, patches_count(&view.view),
                    patches + n * PATCHES_VALUES);
        n += patches_count(&view.view);
    }
    return run_write_floats(job.out, patches, n * PATCHES_VALUES, err);
}

static void visionp(struct vision **vision)
{
    vision_free(*vision);
}

/* rows of the encoder, or of the projector */
static int run_vision(const struct run_options *options, bool project, struct error *err)
{
    _cleanup_(job_done) struct job job = {0};
    _cleanup_(visionp) struct vision *vision = NULL;
    _cleanup_(freep) float *rows = NULL;
    const struct tile_plan *plan;
    const char *path;
    size_t n, width;
    int r = run_need(options, "mmproj", &path, err);

    if (r == 0)
        r = open_job(options, &job, err);
    if (r < 0)
        return r;
    vision = vision_load(path, run_flag(options, "precise"), job.pool, err);
    if (!vision)
        return -EINVAL;
    plan = &job.picture->plan;
    n = project ? plan->n_image_tokens : 4 * plan->n_image_tokens;
    width = project ? vision_info(vision)->shape.n_embd : vision_info(vision)->shape.n_hidden;
    rows = run_take_floats(n, width, err);
    if (!rows)
        return -ENOMEM;
    r = vision_encode(vision, job.picture, 0, plan->n_views, NULL, project ? rows : NULL,
                      project ? NULL : rows, err);
    return r < 0 ? r : run_write_floats(job.out, rows, n * width, err);
}

static int run_encode(const struct run_options *options, struct error *err)
{
    return run_vision(options, false, err);
}

static int run_embed(const struct run_options *options, struct error *err)
{
    return run_vision(options, true, err);
}

const struct run_verb run_image_verbs[] = {
    {"image-plan", "image= size= " RUN_TILE_OPTIONS, run_plan},
    {"image-patches", "image= out= " RUN_TILE_OPTIONS, run_patches},
    {"image-encode", "mmproj= image= out= " RUN_TILE_OPTIONS, run_encode},
    {"image-embed", "mmproj= image= out= " RUN_TILE_OPTIONS, run_embed},
    {NULL, NULL, NULL},
};
