/* SPDX-License-Identifier: MIT */
#include "session/image_plan.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/json.h"

#define LOW_TOKENS 64 /* of the one view of IMAGE_LOW */

static const char *const detail_names[] = {
    [IMAGE_AUTO] = "auto",
    [IMAGE_LOW] = "low",
    [IMAGE_HIGH] = "high",
};

const char *image_detail_name(enum image_detail detail)
{
    return detail_names[detail];
}

bool image_detail_named(const char *name, enum image_detail *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(detail_names); i++)
        if (strcmp(name, detail_names[i]) == 0) {
            *ret = (enum image_detail)i;
            return true;
        }
    return false;
}

struct image_settings image_settings_over(const struct image_settings *base,
                                          const struct image_settings *over)
{
#define OVER(field) (over->field ? over->field : base->field)
    return (struct image_settings){
        .detail = OVER(detail),
        .min_image_tokens = OVER(min_image_tokens),
        .max_image_tokens = OVER(max_image_tokens),
        .min_tiles = OVER(min_tiles),
        .max_tiles = OVER(max_tiles),
        .tiling = OVER(tiling),
        .thumbnail = OVER(thumbnail),
        .max_encode_ms = OVER(max_encode_ms),
    };
#undef OVER
}

/* The settings of the encoder with what was asked for laid over them. */
static struct tile_settings apply(const struct image_settings *settings,
                                  const struct tile_settings *base)
{
    struct tile_settings tiles = *base;

    if (settings->detail == IMAGE_LOW) {
        tiles.tiling = false;
        tiles.max_image_tokens = MIN(tiles.max_image_tokens, (uint32_t)LOW_TOKENS);
    }
    if (settings->max_image_tokens)
        tiles.max_image_tokens = settings->max_image_tokens;
    tiles.min_image_tokens = settings->min_image_tokens
                                 ? settings->min_image_tokens
                                 : MIN(tiles.min_image_tokens, tiles.max_image_tokens);
    if (settings->max_tiles)
        tiles.max_tiles = settings->max_tiles;
    tiles.min_tiles =
        settings->min_tiles ? settings->min_tiles : MIN(tiles.min_tiles, tiles.max_tiles);
    if (settings->tiling != IMAGE_DEFAULT)
        tiles.tiling = settings->tiling == IMAGE_ON;
    if (settings->thumbnail != IMAGE_DEFAULT)
        tiles.thumbnail = settings->thumbnail == IMAGE_ON;
    return tiles;
}

int image_settings_check(const struct image_settings *settings, struct error *err)
{
    const struct tile_settings tiles = apply(settings, &tile_settings_default);

    if (settings->max_encode_ms > IMAGE_ENCODE_MS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "max_encode_ms is %u, expected at most %d (an hour).",
                         settings->max_encode_ms, IMAGE_ENCODE_MS_MAX);
    return tile_settings_check(&tiles, err);
}

static int read_switch(struct json_object *value, const char *key, enum image_switch *ret,
                       struct error *err)
{
    if (!json_object_is_type(value, json_type_boolean))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The image setting '%s' is not true or false.", key);
    *ret = json_object_get_boolean(value) ? IMAGE_ON : IMAGE_OFF;
    return 0;
}

static int read_number(struct json_object *value, const char *key, uint32_t *ret,
                       struct error *err)
{
    const int64_t number = json_object_get_int64(value);

    if (!json_object_is_type(value, json_type_int) || number < 1 || number > UINT32_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The image setting '%s' is not a whole number above 0.", key);
    *ret = (uint32_t)number;
    return 0;
}

static int read_member(const char *key, struct json_object *value, struct image_settings *settings,
                       struct error *err)
{
    const struct {
        const char *key;
        uint32_t *value;
    } numbers[] = {
        {"min_image_tokens", &settings->min_image_tokens},
        {"max_image_tokens", &settings->max_image_tokens},
        {"min_tiles", &settings->min_tiles},
        {"max_tiles", &settings->max_tiles},
        {"max_encode_ms", &settings->max_encode_ms},
    };

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (strcmp(numbers[i].key, key) == 0)
            return read_number(value, key, numbers[i].value, err);
    if (strcmp(key, "tiling") == 0)
        return read_switch(value, key, &settings->tiling, err);
    if (strcmp(key, "thumbnail") == 0)
        return read_switch(value, key, &settings->thumbnail, err);
    if (strcmp(key, "detail") != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no image setting '%.64s'.", key);
    if (!json_object_is_type(value, json_type_string) ||
        !image_detail_named(json_object_get_string(value), &settings->detail))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The image setting 'detail' is not \"low\", \"auto\" or \"high\".");
    return 0;
}

int image_settings_read(const char *json, struct image_settings *ret, struct error *err)
{
    _cleanup_(json_putp) struct json_object *members = NULL;
    struct image_settings settings = {0};

    *ret = settings;
    if (!json)
        return 0;
    members = json_read(json, json_type_object, "The image settings", err);
    if (!members)
        return -EINVAL;
    json_object_object_foreach(members, key, value)
    {
        if (read_member(key, value, &settings, err) < 0)
            return -EINVAL;
    }
    if (image_settings_check(&settings, err) < 0)
        return -EINVAL;
    *ret = settings;
    return 0;
}

/* The costliest plan within the limit, and the cheapest of all. */
struct search {
    const struct vision_shape *shape;
    uint32_t width, height;
    double limit;
    struct image_choice best, cheapest;
};

static void consider(struct search *search, const struct tile_settings *settings)
{
    struct image_choice choice = {.shortened = true};

    if (tile_settings_check(settings, NULL) < 0 ||
        tiles_plan_capped(settings, search->width, search->height, &choice.plan, NULL) < 0)
        return;
    choice.cost = tiles_cost(&choice.plan, search->shape);
    if (choice.cost <= search->limit && choice.cost > search->best.cost)
        search->best = choice;
    if (search->cheapest.cost == 0 || choice.cost < search->cheapest.cost)
        search->cheapest = choice;
}

/* Single views of fewer tokens, and grids of fewer tiles. */
static struct image_choice shorten(const struct image_choice *wanted,
                                   const struct tile_settings *settings,
                                   const struct vision_shape *shape, double limit)
{
    struct search search = {
        .shape = shape,
        .width = wanted->plan.width,
        .height = wanted->plan.height,
        .limit = limit,
        .cheapest = *wanted,
    };

    for (uint32_t tokens = settings->max_image_tokens; tokens >= 1; tokens -= (tokens + 7) / 8) {
        struct tile_settings single = *settings;

        single.tiling = false;
        single.max_image_tokens = tokens;
        single.min_image_tokens = MIN(settings->min_image_tokens, tokens);
        consider(&search, &single);
        if (tokens == 1)
            break;
    }
    if (wanted->plan.cols * wanted->plan.rows > 1)
        for (uint32_t tiles = settings->min_tiles; tiles <= settings->max_tiles; tiles++) {
            struct tile_settings fewer = *settings;

            fewer.max_tiles = tiles;
            consider(&search, &fewer);
        }
    return search.best.cost > 0 ? search.best : search.cheapest;
}

int image_plan_choose(const struct image_settings *settings, const struct vision_info *vision,
                      uint32_t width, uint32_t height, double budget_usec, double flops_per_usec,
                      struct image_choice *ret, struct error *err)
{
    const struct tile_settings tiles = apply(settings, &vision->settings);
    struct image_choice wanted = {0}, usual;
    int r = tile_settings_check(&tiles, err);

    if (r == 0)
        r = tiles_plan_capped(&tiles, width, height, &wanted.plan, err);
    if (r < 0)
        return r;
    wanted.cost = tiles_cost(&wanted.plan, &vision->shape);

    /* A smaller budget moves the border above which a picture is cut into tiles. Who asks for fewer
     * tokens wants less work than usual, not more. */
    if (settings->tiling == IMAGE_DEFAULT && settings->max_image_tokens &&
        settings->max_image_tokens < vision->settings.max_image_tokens &&
        wanted.plan.cols * wanted.plan.rows > 1) {
        struct tile_settings single = tiles;
        struct tile_plan plan;

        single.tiling = false;
        if (tiles_plan_capped(&vision->settings, width, height, &usual.plan, NULL) == 0 &&
            wanted.cost > tiles_cost(&usual.plan, &vision->shape) &&
            tiles_plan_capped(&single, width, height, &plan, NULL) == 0) {
            wanted.plan = plan;
            wanted.cost = tiles_cost(&plan, &vision->shape);
        }
    }
    if (budget_usec > 0 && flops_per_usec > 0 && wanted.cost > budget_usec * flops_per_usec)
        wanted = shorten(&wanted, &tiles, &vision->shape, budget_usec * flops_per_usec);
    *ret = wanted;
    return 0;
}
