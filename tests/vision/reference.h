/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the vision tests share: the reference's settings, its pictures, and its runs.
 */

#include <fcntl.h>

#include "base/image.h"
#include "tests/fixture.h"
#include "tests/golden.h"
#include "vision/decoder.h"
#include "vision/vision.h"

/* Settings as the reference names them; only those that differ from its defaults are there. */
static inline struct tile_settings reference_settings(struct json_object *json)
{
    struct tile_settings settings = tile_settings_default;

    json_object_object_foreach(json, key, value)
    {
        const uint32_t number = (uint32_t)json_object_get_int(value);

        if (strcmp(key, "min_image_tokens") == 0)
            settings.min_image_tokens = number;
        else if (strcmp(key, "max_image_tokens") == 0)
            settings.max_image_tokens = number;
        else if (strcmp(key, "min_tiles") == 0)
            settings.min_tiles = number;
        else if (strcmp(key, "max_tiles") == 0)
            settings.max_tiles = number;
        else if (strcmp(key, "tile_size") == 0)
            settings.tile_size = number;
        else if (strcmp(key, "max_pixels_tolerance") == 0)
            settings.max_pixels_tolerance = json_object_get_double(value);
        else if (strcmp(key, "use_thumbnail") == 0)
            settings.thumbnail = json_object_get_boolean(value);
        else if (strcmp(key, "do_image_splitting") == 0)
            settings.tiling = json_object_get_boolean(value);
        else
            fail_msg("the reference has an unknown setting \"%s\"", key);
    }
    return settings;
}

static inline size_t reference_size(struct json_object *json, const char *key)
{
    return (size_t)json_object_get_int64(golden_get(json, key));
}

/* Decode a file as the programs do. */
static inline struct image reference_image(const char *path)
{
    struct error err = ERROR_INIT;
    struct image image = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    int source = -1;
    size_t bytes;

    if (fd < 0 || image_source(fd, &decode_limits_default, &source, &bytes, &err) < 0 ||
        image_decode(image_decoder_path(), source, &decode_limits_default, NULL, &image, &err) < 0)
        fail_msg("%s: %s", path, err.text);
    close(source);
    close(fd);
    return image;
}

/* The picture of a run ("noln.a05", "a24.set3"): lossy files differ by decoder, so the reference
 * also has what its own made of them. */
static inline struct image reference_picture(const char *run)
{
    struct json_object *json = golden_json(fixture_path("vision/expect/images.json"));
    const char *id = strrchr(run, 'a'), *path = NULL;
    struct image image;

    for (size_t i = 0; !path && i < json_object_array_length(json); i++) {
        struct json_object *item = json_object_array_get_idx(json, i), *decoded;
        char name[256];

        if (strncmp(golden_str(item, "file"), "images/", 7) != 0 ||
            strncmp(golden_str(item, "file") + 7, id, 3) != 0)
            continue;
        snprintf(name, sizeof(name), "vision/%s",
                 json_object_object_get_ex(item, "decoded_png", &decoded)
                     ? json_object_get_string(decoded)
                     : golden_str(item, "file"));
        path = fixture_path(name);
    }
    if (!path)
        fail_msg("the reference has no picture for \"%s\"", run);
    image = reference_image(path);
    json_object_put(json);
    return image;
}

static inline struct pool *reference_pool(unsigned n_threads)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(n_threads, &err);

    if (!pool)
        fail_msg("%s", err.text);
    return pool;
}

static inline struct picture *reference_views(const struct image *image,
                                              const struct tile_settings *settings,
                                              struct pool *pool)
{
    struct error err = ERROR_INIT;
    struct tile_plan plan;
    struct picture *picture;

    if (tiles_plan(settings, image->width, image->height, &plan, &err) < 0)
        fail_msg("%s", err.text);
    picture = picture_new(image, &plan, pool, &err);
    if (!picture)
        fail_msg("%s", err.text);
    return picture;
}
