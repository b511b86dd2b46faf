/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How a picture would be looked at, without asking anything: size, grid, tokens, time.
 *
 *     image_query_new -> (decoded by the photos' thread, planned by the engine thread) -> done()
 *
 * The speed is what the daemon has measured; a model that has not looked at a picture since it was
 * loaded has none, and then the time is not known.
 *
 * Threads: bus thread.
 */

#include "session/engine.h"
#include "session/image_plan.h"

struct image_query_result {
    struct tile_plan plan;
    enum image_detail detail;
    bool shortened;         /* the time did not allow for what was asked for */
    int64_t predicted_usec; /* of encoding; < 0: not known */
    struct photo *photo;    /* decoded; the query's, but who wants it longer may hold it too */
};

struct image_query;

/*
 * model: a name, or NULL: the default that sees.   settings: JSON as in image_plan.h, or NULL
 * fd: borrowed.   done: called once, from engine_dispatch(), with a result or an error; the query
 * is gone afterwards
 */
struct image_query *image_query_new(struct engine *engine, const char *model, int fd,
                                    const char *settings,
                                    void (*done)(void *userdata,
                                                 const struct image_query_result *result,
                                                 const struct error *error),
                                    void *userdata, struct error *err);

/* done() is not called any more. Returns NULL. */
struct image_query *image_query_cancel(struct image_query *query);
