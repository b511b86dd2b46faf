/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How finely a picture is looked at: what was asked for, within what time allows.
 *
 * Plans are compared by what they really cost (vision/tiles.h), because fewer tokens for a view can
 * mean more tiles and so more work.
 *
 * Threads: any; no state.
 */

#include <stdbool.h>
#include <stdint.h>

#include "vision/vision.h"

enum image_detail {
    IMAGE_AUTO, /* what the model is made for, as far as the daemon's time for a picture allows */
    IMAGE_LOW,  /* one view of few tokens */
    IMAGE_HIGH, /* all that the model can take, whatever the time */
};

enum image_switch { IMAGE_DEFAULT, IMAGE_ON, IMAGE_OFF };

/* Zero is: nothing was asked for. */
struct image_settings {
    enum image_detail detail;
    uint32_t min_image_tokens, max_image_tokens, min_tiles, max_tiles;
    enum image_switch tiling, thumbnail;
    uint32_t max_encode_ms;
};

#define IMAGE_ENCODE_MS_MAX 3600000

const char *image_detail_name(enum image_detail detail);
bool image_detail_named(const char *name, enum image_detail *ret);

/* What `over` asks for, the rest from `base`. */
struct image_settings image_settings_over(const struct image_settings *base,
                                          const struct image_settings *over);

/*
 * From JSON: {"detail": "low", "max_image_tokens": 128, "tiling": false, ...}, every member of
 * struct image_settings by its name; NULL is none. A member that is not one, or has a value out of
 * range, is an error that names it.
 */
int image_settings_read(const char *json, struct image_settings *ret, struct error *err);

/* 0 when these are within the ranges of tile_settings_check(), laid over the reference's; else a
 * sentence. A model's own settings may still refuse them. */
int image_settings_check(const struct image_settings *settings, struct error *err);

struct image_choice {
    struct tile_plan plan;
    double cost;    /* in floating-point operations */
    bool shortened; /* less than was asked for, because of the time */
};

/*
 * The plan of a picture: what the settings ask for, or the costliest below it that can be encoded
 * within budget_usec at flops_per_usec; the cheapest when none can.
 *
 * budget_usec: 0: no limit.   flops_per_usec: 0: not known, no limit.
 */
int image_plan_choose(const struct image_settings *settings, const struct vision_info *vision,
                      uint32_t width, uint32_t height, double budget_usec, double flops_per_usec,
                      struct image_choice *ret, struct error *err);
