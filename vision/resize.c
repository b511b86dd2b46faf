/* SPDX-License-Identifier: MIT */
#include "vision/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define PRECISION_MAX 22  /* fraction bits of a weight */
#define BLOCK         768 /* values of a row that are summed up at a time */

/* --- filter ----------------------------------------------------------------------------------- */

int resize_filter_init(struct resize_filter *filter, size_t n_in, size_t n_out, struct error *err)
{
    const double scale = (double)n_in / (double)n_out;
    const double support = fmax(1, scale);
    const double inverse = scale >= 1 ? 1 / scale : 1;
    const size_t n_max = MIN((size_t)(2 * support) + 2, n_in);

    *filter = (struct resize_filter){
        .n_in = n_in,
        .n_out = n_out,
        .n_max = n_max,
        .first = calloc(n_out, sizeof(*filter->first)),
        .n = calloc(n_out, sizeof(*filter->n)),
        .weights = calloc(n_out, n_max * sizeof(*filter->weights)),
    };
    if (!filter->first || !filter->n || !filter->weights) {
        resize_filter_done(filter);
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for resizing %zu pixels to %zu.",
                         n_in, n_out);
    }
    for (size_t i = 0; i < n_out; i++) {
        const double centre = scale * ((double)i + 0.5);
        const double low = centre - support + 0.5, high = centre + support + 0.5;
        const size_t first = low > 0 ? (size_t)low : 0;
        const size_t last = MIN((size_t)high, n_in);
        double *weights = filter->weights + i * n_max;
        double sum = 0;

        filter->first[i] = (uint32_t)first;
        filter->n[i] = (uint32_t)(last - first);
        for (size_t k = 0; k < last - first; k++) {
            weights[k] = fmax(0, 1 - fabs(((double)(first + k) - centre + 0.5) * inverse));
            sum += weights[k];
        }
        for (size_t k = 0; k < last - first; k++)
            weights[k] /= sum;
    }
    return 0;
}

void resize_filter_done(struct resize_filter *filter)
{
    free(filter->first);
    free(filter->n);
    free(filter->weights);
    *filter = (struct resize_filter){0};
}

/* --- 8-bit pictures --------------------------------------------------------------------------- */

/* The weights as 16-bit fractions, with as many bits as the largest allows. */
struct fixed_filter {
    struct resize_filter filter;
    int16_t *weights; /* [n_out][n_max] */
    int precision;
};

static void fixed_done(struct fixed_filter *fixed)
{
    resize_filter_done(&fixed->filter);
    free(fixed->weights);
}

static int fixed_init(struct fixed_filter *fixed, size_t n_in, size_t n_out, struct error *err)
{
    double largest = 0;
    size_t n;
    int r = resize_filter_init(&fixed->filter, n_in, n_out, err);

    if (r < 0)
        return r;
    n = n_out * fixed->filter.n_max;
    fixed->weights = calloc(n, sizeof(*fixed->weights));
    if (!fixed->weights)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for resizing %zu pixels to %zu.",
                         n_in, n_out);
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fixed->filter.weights[i]);
    while (fixed->precision < PRECISION_MAX &&
           (int)(0.5 + largest * (1 << (fixed->precision + 1))) <= INT16_MAX)
        fixed->precision++;
    for (size_t i = 0; i < n; i++)
        fixed->weights[i] = (int16_t)(0.5 + fixed->filter.weights[i] * (1 << fixed->precision));
    return 0;
}

struct resize_job {
    const struct fixed_filter *filter;
    const uint8_t *from;
    uint8_t *to;
    size_t from_w, to_w;
};

static uint8_t round_off(int32_t sum, int precision)
{
    const int32_t value = sum >> precision;

    return (uint8_t)MIN(MAX(value, 0), 255);
}

/* Rows [first, last) to their new width. */
static void resize_rows(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct resize_job *job = context;
    const struct resize_filter *filter = &job->filter->filter;
    const int precision = job->filter->precision;
    const int32_t half = 1 << precision >> 1;

    (void)worker;
    (void)scratch;
    for (size_t y = first; y < last; y++) {
        const uint8_t *from = job->from + y * job->from_w * 3;
        uint8_t *to = job->to + y * job->to_w * 3;

        for (size_t x = 0; x < job->to_w; x++) {
            const uint8_t *pixel = from + (size_t)filter->first[x] * 3;
            const int16_t *weights = job->filter->weights + x * filter->n_max;
            int32_t red = half, green = half, blue = half;

            for (size_t k = 0; k < filter->n[x]; k++, pixel += 3) {
                red += weights[k] * pixel[0];
                green += weights[k] * pixel[1];
                blue += weights[k] * pixel[2];
            }
            *to++ = round_off(red, precision);
            *to++ = round_off(green, precision);
            *to++ = round_off(blue, precision);
        }
    }
}

/* Rows [first, last) of the new height. */
static void resize_columns(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct resize_job *job = context;
    const struct resize_filter *filter = &job->filter->filter;
    const int precision = job->filter->precision;
    const size_t width = job->to_w * 3;
    int32_t sums[BLOCK];

    (void)worker;
    (void)scratch;
    for (size_t y = first; y < last; y++) {
        const int16_t *weights = job->filter->weights + y * filter->n_max;
        const uint8_t *from = job->from + filter->first[y] * width;
        uint8_t *to = job->to + y * width;

        for (size_t begin = 0; begin < width; begin += BLOCK) {
            const size_t n = MIN(width - begin, (size_t)BLOCK);

            for (size_t i = 0; i < n; i++)
                sums[i] = 1 << precision >> 1;
            for (size_t k = 0; k < filter->n[y]; k++) {
                const uint8_t *row = from + k * width + begin;
                const int16_t weight = weights[k];

                for (size_t i = 0; i < n; i++)
                    sums[i] += weight * row[i];
            }
            for (size_t i = 0; i < n; i++)
                to[begin + i] = round_off(sums[i], precision);
        }
    }
}

/* Both passes: n_units lines are made, each by fn. */
static int resize_axis(pool_fn *fn, size_t n_in, size_t n_out, size_t n_units,
                       struct resize_job *job, struct pool *pool, struct error *err)
{
    _cleanup_(fixed_done) struct fixed_filter filter = {0};
    int r = fixed_init(&filter, n_in, n_out, err);

    if (r < 0)
        return r;
    job->filter = &filter;
    pool_run(pool, fn, job, n_units, 16);
    return 0;
}

int resize_rgb(const uint8_t *from, uint32_t from_w, uint32_t from_h, uint8_t *to, uint32_t to_w,
               uint32_t to_h, struct pool *pool, struct error *err)
{
    _cleanup_(freep) uint8_t *narrow = NULL; /* [from_h][to_w][3] */
    struct resize_job job = {.from = from, .to = to, .from_w = from_w, .to_w = to_w};
    int r;

    if (from_w == to_w && from_h == to_h) {
        memcpy(to, from, (size_t)to_w * to_h * 3);
        return 0;
    }
    if (from_w != to_w) {
        if (from_h != to_h) {
            job.to = narrow = calloc(from_h, (size_t)to_w * 3);
            if (!narrow)
                return error_set(err, ERROR_NO_MEMORY,
                                 "There is no memory for a picture of %ux%u pixels.", to_w, from_h);
        }
        r = resize_axis(resize_rows, from_w, to_w, from_h, &job, pool, err);
        if (r < 0 || from_h == to_h)
            return r;
        job.from = narrow;
        job.to = to;
    }
    return resize_axis(resize_columns, from_h, to_h, to_h, &job, pool, err);
}
