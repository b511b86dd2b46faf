/* SPDX-License-Identifier: MIT */

/*
 *     map 1 = relu(conv.0 · features)                         [time / 2][mels / 2][c]
 *     map 2 = relu(conv.3 · conv.2(map 1))                    [time / 4][mels / 4][c]
 *     map 3 = relu(conv.6 · conv.5(map 2))                    [time / 8][mels / 8][c]
 *     x     = out · map 3, each row channel by channel
 *
 * A kernel of 3 x 3 around (2 t, 2 f), zeros outside; kernels and their inputs are [time][mel].
 * Rows of x are made SLAB_3 at a time with what they need of the maps before.
 */

#include "audio/in/subsample.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

#define TAPS 9

/* --- loading ---------------------------------------------------------------------------------- */

static bool load_bias(struct loader *loader, const char *name, size_t c, const float **ret)
{
    char full[64];

    return loader_values(loader, loader_name(full, "%s.bias", name), (const uint64_t[]){1, 1, c, 1},
                         ret);
}

static bool load_depthwise(struct loader *loader, const char *name, size_t c,
                           struct depthwise *depthwise)
{
    return depthwise_load(loader, name, (const uint64_t[]){3, 3, 1, c},
                          (const uint64_t[]){1, 1, c, 1}, TAPS, c, NULL, depthwise);
}

static bool load_pointwise(struct loader *loader, const char *name, size_t c,
                           struct linear *pointwise)
{
    char full[64];

    return loader_reshaped(loader, loader_name(full, "%s.weight", name),
                           (const uint64_t[]){1, 1, c, c}, c, c, &pointwise->w) &&
           load_bias(loader, name, c, &pointwise->b);
}

bool subsample_load(struct loader *loader, const struct audio_shape *shape,
                    struct subsample *subsample)
{
    const size_t c = shape->n_channels;

    subsample->shape = *shape;
    return loader_reshaped(loader, "a.conv1d.0.weight", (const uint64_t[]){3, 3, 1, c}, c, TAPS,
                           &subsample->first.w) &&
           load_bias(loader, "a.conv1d.0", c, &subsample->first.b) &&
           load_depthwise(loader, "a.conv1d.2", c, &subsample->depthwise_2) &&
           load_pointwise(loader, "a.conv1d.3", c, &subsample->pointwise_3) &&
           load_depthwise(loader, "a.conv1d.5", c, &subsample->depthwise_5) &&
           load_pointwise(loader, "a.conv1d.6", c, &subsample->pointwise_6) &&
           linear_load_wide(loader, "a.pre_encode.out", shape->n_hidden,
                            audio_eighth(shape->n_mels) * c, &subsample->out);
}

/* --- steps ------------------------------------------------------------------------------------ */

/* Rows [first, first + n) of a map of `height` rows. */
struct span {
    size_t first, n, height;
};

/* The rows before a stride that the rows of `to` see. */
static struct span before(struct span to, size_t height)
{
    const size_t first = to.first > 0 ? 2 * to.first - 1 : 0;

    return (struct span){first, MIN(2 * (to.first + to.n), height) - first, height};
}

/* What one stride reads and writes. */
struct stride {
    struct span from, to;
    size_t from_width, to_width; /* mel bins */
    const float *in;             /* features, or [from.n][from_width][c] */
    float *out;                  /* [to.n][to_width][TAPS or c] */
    const struct depthwise *depthwise;
    const float *zeros;
};

static void cut_patches(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct stride *s = context;
    const size_t n_frames = s->from.height;

    (void)worker;
    (void)scratch;
    for (size_t i = first; i < last; i++)
        for (size_t f = 0; f < s->to_width; f++)
            for (size_t k = 0; k < TAPS; k++) {
                /* One less than these: outside, they are no index of anything. */
                const size_t t = 2 * (s->to.first + i) + k / 3, bin = 2 * f + k % 3;
                const bool inside =
                    t > 0 && t <= n_frames && bin > 0 && bin <= s->from_width;

                s->out[(i * s->to_width + f) * TAPS + k] =
                    inside ? s->in[(bin - 1) * n_frames + t - 1] : 0;
            }
}

static void convolve_some(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct stride *s = context;
    const size_t c = s->depthwise->n_channels;

    (void)worker;
    (void)scratch;
    for (size_t i = first; i < last; i++)
        for (size_t f = 0; f < s->to_width; f++) {
            const float *rows[TAPS];

            for (size_t k = 0; k < TAPS; k++) {
                const size_t t = 2 * (s->to.first + i) + k / 3, bin = 2 * f + k % 3;
                const bool inside =
                    t > 0 && t <= s->from.height && bin > 0 && bin <= s->from_width;

                rows[k] = inside ? s->in + ((t - 1 - s->from.first) * s->from_width + bin - 1) * c
                                 : s->zeros;
            }
            depthwise_row(s->depthwise, rows, s->out + (i * s->to_width + f) * c);
        }
}

/* [n][width][c] -> [n][c][width] */
static void turn(const float *map, size_t n, size_t width, size_t c, float *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < c; j++)
            for (size_t f = 0; f < width; f++)
                *out++ = map[(i * width + f) * c + j];
}

/* Rows third.first ... of the result. */
static void forward_slab(const struct subsample *subsample, const struct audio_workspace *ws,
                         const float *features, size_t n_frames, struct span third, float *x)
{
    const size_t n_mels = subsample->shape.n_mels, c = subsample->shape.n_channels;
    const size_t width_1 = (n_mels + 1) / 2, width_2 = (n_mels + 3) / 4;
    const size_t width_3 = audio_eighth(n_mels);
    const struct span second = before(third, (n_frames + 3) / 4);
    const struct span first = before(second, (n_frames + 1) / 2);
    struct stride stride_1 = {
        .from = {.height = n_frames},
        .to = first,
        .from_width = n_mels,
        .to_width = width_1,
        .in = features,
        .out = ws->patches,
    };
    struct stride stride_2 = {
        .from = first,
        .to = second,
        .from_width = width_1,
        .to_width = width_2,
        .in = ws->maps[0],
        .out = ws->maps[1],
        .depthwise = &subsample->depthwise_2,
        .zeros = ws->zeros,
    };
    struct stride stride_3 = {
        .from = second,
        .to = third,
        .from_width = width_2,
        .to_width = width_3,
        .in = ws->maps[0],
        .out = ws->maps[1],
        .depthwise = &subsample->depthwise_5,
        .zeros = ws->zeros,
    };

    for (size_t done = 0; done < first.n; done += PATCH_ROWS) {
        const size_t n = MIN(first.n - done, PATCH_ROWS);

        stride_1.to.first = first.first + done;
        pool_run(ws->pass.pool, cut_patches, &stride_1, n, 1);
        linear_rows(&ws->pass, &subsample->first, ACTIVATION_RELU, ws->patches, n * width_1,
                    ws->maps[0] + done * width_1 * c);
    }
    pool_run(ws->pass.pool, convolve_some, &stride_2, second.n, 1);
    linear_rows(&ws->pass, &subsample->pointwise_3, ACTIVATION_RELU, ws->maps[1],
                second.n * width_2, ws->maps[0]);
    pool_run(ws->pass.pool, convolve_some, &stride_3, third.n, 1);
    linear_rows(&ws->pass, &subsample->pointwise_6, ACTIVATION_RELU, ws->maps[1],
                third.n * width_3, ws->maps[0]);
    turn(ws->maps[0], third.n, width_3, c, ws->maps[1]);
    linear_rows(&ws->pass, &subsample->out, ACTIVATION_NONE, ws->maps[1], third.n,
                x + third.first * subsample->shape.n_hidden);
}

int subsample_forward(const struct subsample *subsample, const struct audio_workspace *ws,
                      const float *features, size_t n_frames, const atomic_bool *cancel, float *x)
{
    const size_t n = audio_eighth(n_frames);

    for (size_t done = 0; done < n; done += SLAB_3) {
        if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return -ECANCELED;
        forward_slab(subsample, ws, features, n_frames,
                     (struct span){done, MIN(n - done, SLAB_3), n}, x);
    }
    return 0;
}
