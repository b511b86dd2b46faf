/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a vision file: it is refused, or a small picture can be encoded with it.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vision/vision.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float sum; /* what is computed must not be optimised away */

static void encode(struct vision *vision, struct pool *pool)
{
    uint8_t rgb[5 * 7 * 3] = {1, 2, 3, 250};
    const struct image image = {.width = 5, .height = 7, .rgb = rgb};
    struct tile_settings settings = vision_info(vision)->settings;
    struct error err = ERROR_INIT;
    struct tile_plan plan;
    struct picture *picture;
    float *embeddings;

    settings.min_image_tokens = 1;
    if (tiles_plan_capped(&settings, image.width, image.height, &plan, &err) < 0)
        return;
    picture = picture_new(&image, &plan, pool, &err);
    embeddings = calloc(plan.n_image_tokens, vision_info(vision)->shape.n_embd * sizeof(float));
    if (picture && embeddings &&
        vision_encode(vision, picture, 0, plan.n_views, NULL, embeddings, NULL, &err) == 0)
        sum += embeddings[0];
    free(embeddings);
    picture_free(picture);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(1, &err);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (pool && write(fd, data, size) == (ssize_t)size)
        for (int precise = 0; precise < 2; precise++) {
            struct vision *vision = vision_load(path, precise, pool, &err);

            if (vision)
                encode(vision, pool);
            vision_free(vision);
        }
    close(fd);
    pool_free(pool);
    return 0;
}
