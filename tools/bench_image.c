/* SPDX-License-Identifier: MIT */
/*
 * Time to encode one picture: all its views, from resized pixels to embeddings; decoding and
 * resizing are reported apart. The picture is --image FILE, or drawn in --size and written for the
 * peer, so that both see the same pixels.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tensor/kernels.h"
#include "tools/bench.h"
#include "vision/decoder.h"
#include "vision/vision.h"

struct engine {
    struct pool *pool;
    struct vision *vision;
    struct image image;
    struct picture *picture;
    struct series *views; /* [n_views], milliseconds */
    float *embeddings;
    char drawn[32]; /* path of a drawn picture */
    double load_s, decode_s;
};

static void engine_done(struct engine *e)
{
    if (e->drawn[0])
        unlink(e->drawn);
    free(e->embeddings);
    free(e->views);
    picture_free(e->picture);
    image_done(&e->image);
    vision_free(e->vision);
    pool_free(e->pool);
}

/* --- the picture ------------------------------------------------------------------------------ */

/* Something with edges, areas and fine structure, as a PPM file. */
static int draw(struct engine *e, const struct bench_settings *s, struct error *err)
{
    FILE *file;
    bool wrote;
    int fd;

    strcpy(e->drawn, "/tmp/lfm-bench-XXXXXX");
    fd = mkstemp(e->drawn);
    file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!file)
        return error_set(err, ERROR_IO, "A picture cannot be written: %s.", strerror(errno));
    fprintf(file, "P6\n%u %u\n255\n", (unsigned)s->width, (unsigned)s->height);
    for (uint32_t y = 0; y < s->height; y++)
        for (uint32_t x = 0; x < s->width; x++) {
            putc((x / 23 + y / 31) % 2 ? 220 : 40, file);
            putc((int)(x * 255 / s->width), file);
            putc((int)(((x * 73856093u) ^ (y * 19349663u)) >> 9 & 255), file);
        }
    wrote = !ferror(file);
    if (fclose(file) != 0 || !wrote)
        return error_set(err, ERROR_IO, "A picture cannot be written: %s.", strerror(errno));
    return 0;
}

static int decode(struct engine *e, const char *path, struct error *err)
{
    _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_(closep) int source = -1;
    const double start = bench_now();
    size_t bytes;
    int r;

    if (fd < 0)
        return error_set(err, ERROR_IO, "The picture '%s' cannot be opened: %s.", path,
                         strerror(errno));
    r = image_source(fd, &decode_limits_default, &source, &bytes, err);
    if (r == 0)
        r = image_decode(image_decoder_path(), source, &decode_limits_default, NULL, &e->image,
                         err);
    e->decode_s = bench_now() - start;
    return r;
}

static int engine_open(struct engine *e, const struct bench_settings *s, struct error *err)
{
    const double start = bench_now();
    struct tile_plan plan;
    int r;

    e->pool = pool_new((unsigned)s->n_threads, err);
    if (!e->pool)
        return -EINVAL;
    e->vision = vision_load(s->mmproj, false, e->pool, err);
    if (!e->vision)
        return -EINVAL;
    e->load_s = bench_now() - start;
    r = s->image ? 0 : draw(e, s, err);
    if (r == 0)
        r = decode(e, s->image ? s->image : e->drawn, err);
    if (r == 0)
        r = tiles_plan(&tile_settings_default, e->image.width, e->image.height, &plan, err);
    if (r < 0)
        return r;
    e->picture = picture_new(&e->image, &plan, e->pool, err);
    if (!e->picture)
        return -EINVAL;
    e->views = calloc(plan.n_views, sizeof(*e->views));
    e->embeddings =
        calloc(plan.n_image_tokens, vision_info(e->vision)->shape.n_embd * sizeof(*e->embeddings));
    if (!e->views || !e->embeddings)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the rows of a picture.");
    return 0;
}

/* --- repetitions ------------------------------------------------------------------------------ */

static int repetition(struct engine *e, struct series *encode, struct series *resize,
                      struct error *err)
{
    const double start = bench_now();
    double total = 0;

    picture_free(picture_new(&e->image, &e->picture->plan, e->pool, NULL));
    resize->values[resize->n++] = 1e3 * (bench_now() - start);
    for (size_t i = 0; i < e->picture->plan.n_views; i++) {
        const double before = bench_now();
        int r = vision_encode(e->vision, e->picture, i, 1, NULL, e->embeddings, NULL, err);

        if (r < 0)
            return r;
        e->views[i].values[e->views[i].n++] = 1e3 * (bench_now() - before);
        total += 1e3 * (bench_now() - before);
    }
    encode->values[encode->n++] = total;
    return 0;
}

static int run_peer(const struct engine *e, const struct bench_settings *s, struct series *encode,
                    struct error *err)
{
    struct json_object *reply;
    int r;

    setenv("LFM_BENCH_MMPROJ", s->mmproj, 1);
    setenv("LFM_BENCH_IMAGE", s->image ? s->image : e->drawn, 1);
    r = bench_peer(s, "--mmproj \"$LFM_BENCH_MMPROJ\" --image \"$LFM_BENCH_IMAGE\"", &reply, err);
    if (r < 0)
        return r;
    encode->values[encode->n++] = bench_number(reply, "image_encode_ms");
    json_object_put(reply);
    return 0;
}

static void report(const struct bench_settings *s, struct engine *e, struct series *encode,
                   struct series *resize, struct series *peer)
{
    const struct tile_plan *plan = &e->picture->plan;
    const double cost = tiles_cost(plan, &vision_info(e->vision)->shape);
    struct json_object *json = json_object_new_object(), *views = json_object_new_array();

    json_object_object_add(json, "mmproj", json_object_new_string(s->mmproj));
    json_object_object_add(json, "threads", json_object_new_int((int)pool_n_threads(e->pool)));
    json_object_object_add(json, "kernels", json_object_new_string(kernels()->name));
    json_object_object_add(json, "load", json_object_new_int64((int64_t)s->load));
    json_object_object_add(json, "width", json_object_new_int64(plan->width));
    json_object_object_add(json, "height", json_object_new_int64(plan->height));
    json_object_object_add(json, "tokens", json_object_new_int64((int64_t)plan->n_image_tokens));
    for (size_t i = 0; i < plan->n_views; i++) {
        const struct tile_view view = tile_view(plan, i);
        struct json_object *item = json_object_new_object();

        json_object_object_add(item, "w", json_object_new_int64(view.width));
        json_object_object_add(item, "h", json_object_new_int64(view.height));
        json_object_object_add(item, "tokens", json_object_new_int64((int64_t)view.n_tokens));
        bench_put(item, "encode_ms", series_smallest(&e->views[i]));
        bench_put(item, "encode_ms_median", series_median(&e->views[i]));
        json_object_array_add(views, item);
    }
    json_object_object_add(json, "views", views);
    bench_put(json, "image_encode_ms", series_smallest(encode));
    bench_put(json, "image_encode_ms_median", series_median(encode));
    bench_put(json, "gflops", cost * 1e-6 / series_smallest(encode));
    if (series_smallest(peer) > 0) {
        bench_put(json, "peer_image_encode_ms", series_smallest(peer));
        bench_put(json, "peer_image_encode_ms_median", series_median(peer));
        bench_put(json, "image_encode_ratio", series_smallest(peer) / series_smallest(encode));
    }
    bench_put(json, "decode_ms", 1e3 * e->decode_s);
    bench_put(json, "resize_ms", series_smallest(resize));
    bench_put(json, "load_s", e->load_s);
    bench_put(json, "rss_mb", bench_rss_mb());
    bench_print(s, json);
    json_object_put(json);
}

int bench_image(const struct bench_settings *s, struct error *err)
{
    static struct series encode, resize, peer;
    struct engine e = {0};
    int r = engine_open(&e, s, err);

    for (uint64_t i = 0; r == 0 && i < s->reps; i++) {
        r = repetition(&e, &encode, &resize, err);
        if (r == 0 && s->peer)
            r = run_peer(&e, s, &peer, err);
    }
    if (r == 0)
        report(s, &e, &encode, &resize, &peer);
    engine_done(&e);
    return r;
}
