/* SPDX-License-Identifier: MIT */
#include "session/image_query.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "session/internal.h"

static struct image_query *query_free(struct image_query *query)
{
    if (!query)
        return NULL;
    photo_unref(query->photo);
    free(query->model_id);
    free(query->vision_path);
    free(query->event);
    free(query);
    return NULL;
}

/* --- bus thread ------------------------------------------------------------------------------ */

static int fill(struct image_query *query, const char *model_name, int fd, const char *settings,
                struct error *err)
{
    struct engine *engine = query->engine;
    const struct model *model = session_find_model(engine, model_name, true, err);
    struct image_settings image;
    int own;

    if (!model)
        return error_errno(err->code);
    if (image_settings_read(settings, &image, err) < 0)
        return -EINVAL;
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The descriptor of a picture cannot be used: %s.", strerror(errno));
    query->photo = photo_new(own, &image, err);
    if (!query->photo) {
        close(own);
        return error_errno(err->code);
    }
    query->event = event_new(EVENT_QUERY, 0);
    query->model_id = strdup(model->id);
    query->vision_path = strdup(model->vision_path);
    if (!query->event || !query->model_id || !query->vision_path)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a picture.");
    query->event->query = query;
    return 0;
}

struct image_query *image_query_new(struct engine *engine, const char *model, int fd,
                                    const char *settings,
                                    void (*done)(void *userdata,
                                                 const struct image_query_result *result,
                                                 const struct error *error),
                                    void *userdata, struct error *err)
{
    struct image_query *query = calloc(1, sizeof(*query));
    struct error own = ERROR_INIT;

    err = err ? err : &own;
    if (!query) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a picture.");
        return NULL;
    }
    query->job.type = JOB_QUERY;
    query->engine = engine;
    query->done = done;
    query->userdata = userdata;
    if (fill(query, model, fd, settings, err) < 0)
        return query_free(query);
    engine->n_queries++;
    photos_decode(engine->photos, query->photo);
    engine_push(engine, &query->job);
    return query;
}

struct image_query *image_query_cancel(struct image_query *query)
{
    if (query) {
        query->done = NULL;
        atomic_store(&query->photo->cancel, true);
    }
    return NULL;
}

void image_query_deliver(struct image_query *query)
{
    const bool failed = query->error.code != ERROR_NONE;

    query->engine->n_queries--;
    query->event = NULL; /* it is on its way */
    if (query->done)
        query->done(query->userdata, failed ? NULL : &query->result,
                    failed ? &query->error : NULL);
    query_free(query);
}

/* --- engine thread --------------------------------------------------------------------------- */

/* Into its result, or its error. */
static void plan(struct image_query *query)
{
    const struct engine *engine = query->engine;
    const struct photo *photo = query->photo;
    const struct loaded_model *model;
    struct image_choice choice;
    struct vision_info info;
    double speed = 0;

    TAILQ_FOREACH(model, &engine->loaded, link)
    if (model->vision && strcmp(model->id, query->model_id) == 0)
        break;
    if (model) {
        info = *vision_info(model->vision);
        speed = model->flops_per_usec;
    } else if (vision_plan(query->vision_path, false, &info, &query->error) < 0) {
        return;
    }
    if (image_plan_choose(&photo->settings, &info, photo->width, photo->height,
                          look_time(engine, &photo->settings), speed, &choice, &query->error) < 0)
        return;
    query->result = (struct image_query_result){
        .plan = choice.plan,
        .detail = photo->settings.detail,
        .shortened = choice.shortened,
        .predicted_usec = speed > 0 ? (int64_t)(choice.cost / speed) : -1,
        .photo = query->photo,
    };
}

void image_query_answer(struct image_query *query)
{
    if (photo_state(query->photo) == PHOTO_FAILED)
        query->error = query->photo->error;
    else
        plan(query);
    queue_push(&query->engine->events, &query->event->node);
}
