/* SPDX-License-Identifier: MIT */

/*
 * What a turn does with pictures: wait for their pixels, choose how finely to look, encode the
 * views that the prompt needs, hand their rows to prefill.
 *
 * The plan of a new picture is chosen when its size is known. While it is encoded the time is
 * watched: the thumbnail comes first, as it is the same for every grid, and when the tiles would
 * take more time than there is, the thumbnail alone is what the model sees. The plan then stays
 * with the conversation, because its tokens are part of the prompt.
 *
 * Engine thread.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/internal.h"
#include "session/json.h"

#define CAUTION        0.7 /* share of a time limit that plans are made for */
#define CALIBRATE_SIDE 128 /* pixels of the picture that a new encoder is timed with */
#define SPEED_NEW      0.5 /* weight of the last measurement */

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for the pictures.");
}

/* --- speed ----------------------------------------------------------------------------------- */

static void note_speed(struct loaded_model *model, double flops, int64_t usec)
{
    const double measured = flops / (double)MAX(usec, 1);

    model->flops_per_usec = model->flops_per_usec > 0 ? (1 - SPEED_NEW) * model->flops_per_usec +
                                                            SPEED_NEW * measured
                                                      : measured;
    /* A machine that has just become slower is believed at once. */
    model->flops_per_usec = MIN(model->flops_per_usec, measured);
}

static void picturep(struct picture **picture)
{
    picture_free(*picture);
}

int look_calibrate(struct loaded_model *model, struct pool *pool, struct error *err)
{
    const struct vision_info *info = vision_info(model->vision);
    const struct tile_settings settings = {
        .min_image_tokens = 1, .max_image_tokens = 1024, .min_tiles = 1, .max_tiles = 1,
        .tile_size = 512, .max_pixels_tolerance = 1,
    };
    _cleanup_(picturep) struct picture *picture = NULL;
    struct image image = {.width = CALIBRATE_SIDE, .height = CALIBRATE_SIDE};
    struct tile_plan plan;
    int64_t start;
    int r = tiles_plan(&settings, image.width, image.height, &plan, err);

    if (r < 0)
        return r;
    image.rgb = calloc(1, image_bytes(image.width, image.height));
    if (!image.rgb)
        return no_memory(err);
    picture = picture_new(&image, &plan, pool, err);
    image_done(&image);
    if (!picture)
        return error_errno(err->code);
    start = clock_usec();
    r = vision_encode(model->vision, picture, 0, 1, NULL, NULL, NULL, err);
    if (r == 0)
        note_speed(model, tiles_cost(&plan, &info->shape), clock_usec() - start);
    return r;
}

static double time_limit(const struct engine *engine, const struct image_settings *settings)
{
    if (settings->max_encode_ms)
        return 1000.0 * settings->max_encode_ms;
    return settings->detail == IMAGE_HIGH ? 0 : 1000.0 * engine->now.max_encode_ms;
}

double look_time(const struct engine *engine, const struct image_settings *settings)
{
    return CAUTION * time_limit(engine, settings);
}

/* --- photos ---------------------------------------------------------------------------------- */

/* One that is on hold, or less urgent, is not waited for: it will begin its view anew. */
static bool another_looks(const struct turn *turn)
{
    const struct loaded_model *model = turn->work.model;
    const struct turn *looker = model ? model->looker : NULL;

    return turn->phase == PHASE_LOOK && looker && looker != turn &&
           looker->work.priority <= turn->work.priority && !atomic_load(&looker->work.hold);
}

bool look_is_waiting(const struct turn *turn)
{
    if (another_looks(turn))
        return true;
    for (size_t i = 0; i < turn->n_photos; i++)
        if (photo_state(turn->photos[i]) == PHOTO_DECODING)
            return true;
    for (size_t i = 0; i < turn->look.n; i++)
        if (photo_state(turn->look.items[i].photo) == PHOTO_DECODING)
            return true;
    return false;
}

int look_check(const struct turn *turn, struct error *err)
{
    const struct session *session = turn->work.session;
    const size_t n = session->n_photos + turn->n_photos;
    uint64_t bytes = 0;

    for (size_t i = 0; i < turn->n_photos; i++) {
        const struct photo *photo = turn->photos[i];

        if (photo_state(photo) == PHOTO_FAILED)
            return error_set(err, photo->error.code, "Picture %zu: %s", i + 1, photo->error.text);
        bytes += photo->n_bytes;
    }
    for (size_t i = 0; i < session->n_photos; i++)
        bytes += session->photos[i]->n_bytes;
    if (n > SESSION_IMAGES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The conversation would have %zu pictures; at most %d are allowed.", n,
                         SESSION_IMAGES_MAX);
    if (bytes > SESSION_IMAGE_BYTES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The pictures of the conversation have %llu bytes in all; at most %llu "
                         "are allowed.",
                         (unsigned long long)bytes, (unsigned long long)SESSION_IMAGE_BYTES_MAX);
    return 0;
}

static int choose(const struct turn *turn, struct photo *photo, struct error *err)
{
    const struct loaded_model *model = turn->work.model;
    struct image_choice choice;
    int r;

    if (photo->has_plan)
        return 0;
    r = image_plan_choose(&photo->settings, vision_info(model->vision), photo->width, photo->height,
                          look_time(turn->work.session->engine, &photo->settings),
                          model->flops_per_usec, &choice, err);
    if (r < 0)
        return r;
    photo->plan = choice.plan;
    photo->shortened = choice.shortened;
    photo->has_plan = true;
    return 0;
}

int look_begin(struct turn *turn, struct error *err)
{
    const struct session *session = turn->work.session;
    const size_t n = session->n_photos + turn->n_photos;
    int r;

    if (n == 0)
        return 0;
    if (!turn->vision_path)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The model %s cannot see pictures: it has no vision file (mmproj) beside "
                         "it.",
                         turn->work.model_id);
    r = engine_use_vision(session->engine, turn, err);
    if (r < 0)
        return r;
    free(turn->look.items);
    turn->look.n = 0;
    turn->look.items = calloc(n, sizeof(*turn->look.items));
    if (!turn->look.items)
        return no_memory(err);
    for (size_t i = 0; i < n; i++)
        turn->look.items[i] = (struct look_item){
            .photo = i < session->n_photos ? session->photos[i]
                                           : turn->photos[i - session->n_photos],
            .is_new = i >= session->n_photos,
        };
    turn->look.n = n;
    for (size_t i = 0; i < n && r == 0; i++)
        r = choose(turn, turn->look.items[i].photo, err);
    return r;
}

/* What row ids and rows of a photo are named by: its bytes and its plan. */
static void photo_key(const struct photo *photo, uint64_t key[2])
{
    const struct tile_plan *plan = &photo->plan;
    const uint64_t cut[] = {plan->resized_w, plan->resized_h, plan->tile_size,
                            plan->cols,      plan->rows,      plan->thumbnail};

    for (size_t half = 0; half < 2; half++) {
        char digits[17] = {0};

        memcpy(digits, photo->id + 16 * half, 16);
        key[half] = strtoull(digits, NULL, 16);
        for (size_t i = 0; i < ARRAY_LEN(cut); i++)
            key[half] = (key[half] ^ cut[i]) * UINT64_C(0x9e3779b97f4a7c15);
    }
}

struct picture_layout *look_layouts(const struct turn *turn, struct error *err)
{
    struct picture_layout *layouts = calloc(turn->look.n + 1, sizeof(*layouts));

    for (size_t i = 0; layouts && i < turn->look.n; i++) {
        uint64_t key[2];

        photo_key(turn->look.items[i].photo, key);
        if (picture_layout_init(&layouts[i], &turn->look.items[i].photo->plan, key, err) < 0) {
            look_layouts_free(layouts, turn->look.n);
            return NULL;
        }
    }
    if (!layouts)
        no_memory(err);
    return layouts;
}

void look_layouts_free(struct picture_layout *layouts, size_t n)
{
    for (size_t i = 0; layouts && i < n; i++)
        picture_layout_done(&layouts[i]);
    free(layouts);
}

/* --- rows ------------------------------------------------------------------------------------ */

static void release_rows(struct turn *turn)
{
    for (size_t i = 0; i < turn->look.n; i++) {
        struct look_item *item = &turn->look.items[i];

        if (item->rows)
            rows_cache_release(&turn->work.model->rows, item->rows);
        item->rows = NULL;
    }
}

static double cost_left(const struct picture_rows *rows, const struct tile_plan *plan,
                        const struct vision_shape *shape)
{
    double cost = 0;

    for (size_t i = 0; i < plan->n_views; i++) {
        const struct tile_view view = tile_view(plan, i);

        if (!rows->done[i])
            cost += tile_view_cost(&view, shape);
    }
    return cost;
}

double look_usec_left(const struct turn *turn, const struct look_item *item)
{
    const struct vision_shape *shape = &vision_info(turn->work.model->vision)->shape;

    return cost_left(item->rows, &item->photo->plan, shape) / turn->work.model->flops_per_usec;
}

int look_need(struct turn *turn, size_t n_cached, struct error *err)
{
    const size_t width = turn->work.model->lm->model->hparams.n_embd;
    const uint32_t *ids = turn->prompt.ids.ids;
    size_t n_there = 0, end = 0;

    turn->look.first = turn->prompt.n_images_dropped;
    for (size_t i = 0; i < n_cached; i++)
        n_there += is_row_id(ids[i]);
    turn->look.n_fed = n_there;
    for (size_t i = turn->look.first; i < turn->look.n; i++) {
        struct look_item *item = &turn->look.items[i];
        uint64_t key[2];

        end += item->photo->plan.n_image_tokens;
        if (end <= n_there || item->rows)
            continue;
        photo_key(item->photo, key);
        item->rows = rows_cache_use(&turn->work.model->rows, key, &item->photo->plan, width);
        if (!item->rows)
            return no_memory(err);
        item->predicted_usec = look_usec_left(turn, item);
    }
    return 0;
}

void look_rows(struct turn *turn, size_t n_images, const float **pointers)
{
    size_t at = turn->look.n_fed, i = turn->look.first;

    turn->look.n_fed += n_images;
    while (n_images > 0) {
        const struct look_item *item = &turn->look.items[i++];
        const size_t n = item->photo->plan.n_image_tokens;

        if (at >= n) {
            at -= n;
            continue;
        }
        for (; at < n && n_images > 0; at++, n_images--)
            *pointers++ = item->rows->rows + at * item->rows->width;
        at = 0;
    }
}

/* The view that is encoded next: the thumbnail, then the tiles. */
static size_t next_view(const struct picture_rows *rows, const struct tile_plan *plan)
{
    size_t view = 0;

    if (plan->thumbnail && !rows->done[plan->n_views - 1])
        return plan->n_views - 1;
    while (rows->done[view])
        view++;
    return view;
}

/*
 * The thumbnail alone in place of the grid. A single view has the same size, and so the same rows.
 */
static int fall_back(struct turn *turn, struct look_item *item, struct error *err)
{
    struct rows_cache *cache = &turn->work.model->rows;
    struct tile_plan plan = item->photo->plan;
    struct picture_rows *grid = item->rows;
    const size_t last = plan.n_views - 1, width = grid->width;
    uint64_t key[2];
    int r;

    plan.cols = plan.rows = 1;
    plan.thumbnail = false;
    r = tile_plan_complete(&plan);
    assert(r == 0);
    item->photo->plan = plan;
    item->photo->shortened = true;
    photo_key(item->photo, key);
    item->rows = rows_cache_use(cache, key, &plan, width);
    if (!item->rows) {
        item->rows = grid;
        return no_memory(err);
    }
    if (item->rows->n_done == 0) {
        memcpy(item->rows->rows, grid->rows + grid->first[last] * width,
               plan.n_image_tokens * width * sizeof(float));
        item->rows->done[0] = true;
        item->rows->n_done = 1;
    }
    rows_cache_release(cache, grid);
    turn->look.changed = true;
    return 0;
}

/* Whether the tiles that are left take more time than there is, when the thumbnail is there. */
static bool is_too_slow(const struct turn *turn, const struct look_item *item)
{
    const struct tile_plan *plan = &item->photo->plan;
    const double limit = time_limit(turn->work.session->engine, &item->photo->settings);

    if (limit == 0 || !plan->thumbnail || !item->rows->done[plan->n_views - 1] || !item->is_new)
        return false;
    return (double)item->usec + look_usec_left(turn, item) > limit;
}

/* Nothing is half done any more. */
static void drop_views(struct turn *turn)
{
    struct loaded_model *model = turn->work.model;

    turn->look.views = (struct vision_encoding){0};
    if (model && model->looker == turn)
        model->looker = NULL;
}

static int begin_views(struct turn *turn, struct look_item *item, struct error *err)
{
    struct loaded_model *model = turn->work.model;
    const struct picture_rows *rows = item->rows;
    const struct tile_plan *plan = &item->photo->plan;
    const size_t view = next_view(rows, plan);
    int64_t start = clock_usec();
    size_t n = 1;
    int r;

    if (!turn->look.picture) {
        turn->look.picture =
            picture_new(&item->photo->image, plan, turn->work.session->engine->pool, err);
        if (!turn->look.picture)
            return error_errno(err->code);
        photo_drop(item->photo);
    }
    if (!plan->thumbnail || view < plan->n_views - 1) {
        const size_t batch = vision_batch(turn->look.picture, view);

        while (n < batch && view + n < plan->n_views && !rows->done[view + n])
            n++;
    }
    item->usec += clock_usec() - start;
    start = clock_usec();
    r = vision_begin(model->vision, turn->look.picture, view, n, &turn->look.views, err);
    turn->look.views_usec = clock_usec() - start;
    if (r == 0)
        model->looker = turn;
    return r;
}

static void note_views(struct turn *turn, struct look_item *item)
{
    struct loaded_model *model = turn->work.model;
    const struct vision_encoding *views = &turn->look.views;
    struct picture_rows *rows = item->rows;
    double cost = 0;

    for (size_t i = views->first_view; i < views->first_view + views->n_views; i++) {
        const struct tile_view done = tile_view(&item->photo->plan, i);

        cost += tile_view_cost(&done, &vision_info(model->vision)->shape);
        rows->n_done += !rows->done[i];
        rows->done[i] = true;
    }
    note_speed(model, cost, turn->look.views_usec);
    item->usec += turn->look.views_usec;
}

/* A view, or its layers until there is a job: a voice that has something to say waits for one of
 * them at most. 1: the view is not done. */
static int encode(struct turn *turn, struct look_item *item, struct error *err)
{
    struct vision_encoding *views = &turn->look.views;
    struct queue *jobs = &turn->work.session->engine->jobs;
    const struct picture_rows *rows = item->rows;
    int r = views->picture ? 0 : begin_views(turn, item, err);
    const int64_t start = clock_usec();

    if (r < 0)
        return r;
    do
        r = vision_step(turn->work.model->vision, views,
                        rows->rows + rows->first[views->first_view] * rows->width, NULL);
    while (r == 0 && queue_is_empty(jobs) && !atomic_load(&turn->work.cancel));
    turn->look.views_usec += clock_usec() - start;
    if (r == 0)
        return atomic_load(&turn->work.cancel) ? -ECANCELED : 1;
    if (r > 0)
        note_views(turn, item);
    drop_views(turn);
    return r < 0; /* another turn has begun a view meanwhile */
}

/*
 * Get its pixels, which were given back, or were never there as it is of a kept session. The turn
 * is not served until the decoder is done.
 */
static int decode(struct turn *turn, struct look_item *item, struct error *err)
{
    const size_t i = (size_t)(item - turn->look.items), n_before = turn->work.session->n_photos;
    const struct photo *photo = item->photo;

    /* A failure in an earlier turn, which may have been cancelled, says nothing about this one. */
    if (!item->requested || photo_state(photo) != PHOTO_FAILED) {
        item->requested = true;
        photos_decode(turn->work.session->engine->photos, item->photo);
        return LOOK_WAIT;
    }
    if (item->is_new)
        return error_set(err, photo->error.code, "Picture %zu: %s", i - n_before + 1,
                         photo->error.text);
    return error_set(err, photo->error.code, "Picture %zu of the conversation: %s", i + 1,
                     photo->error.text);
}

int look_work(struct turn *turn, struct look_item **ret_item, struct error *err)
{
    struct look *look = &turn->look;
    size_t i = look->first;
    int r;

    while (i < look->n && (!look->items[i].rows ||
                           look->items[i].rows->n_done == look->items[i].rows->n_views))
        i++;
    *ret_item = NULL;
    if (i == look->n) {
        drop_views(turn);
        return LOOK_DONE;
    }
    *ret_item = &look->items[i];
    if (look->picture && look->encoding != i) { /* another turn has finished that one */
        drop_views(turn);
        look->picture = picture_free(look->picture);
    }
    look->encoding = i;
    if (!look->picture && !(*ret_item)->photo->image.rgb)
        return decode(turn, *ret_item, err);
    r = encode(turn, *ret_item, err);
    if (r > 0)
        return LOOK_WAIT;
    if (r == 0 && is_too_slow(turn, *ret_item))
        r = fall_back(turn, *ret_item, err);
    if (r == 0 && (*ret_item)->rows->n_done == (*ret_item)->rows->n_views)
        look->picture = picture_free(look->picture);
    return r;
}

/* Nobody needs its pixels for now. */
static void let_go(struct photo *photo)
{
    if (photo_state(photo) == PHOTO_DECODING)
        atomic_store(&photo->cancel, true);
    else
        photo_drop(photo);
}

void look_release(struct turn *turn)
{
    struct look *look = &turn->look;

    drop_views(turn);
    if (turn->work.model)
        release_rows(turn);
    look->picture = picture_free(look->picture);
    for (size_t i = 0; i < turn->n_photos; i++)
        let_go(turn->photos[i]);
    for (size_t i = 0; i < look->n; i++)
        let_go(look->items[i].photo);
    free(look->items);
    *look = (struct look){0};
}
