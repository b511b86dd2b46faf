/* SPDX-License-Identifier: MIT */
#include "audio/out/conv.h"

#include <assert.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/kernels.h"
#include "tensor/ops.h"

/* --- loading ---------------------------------------------------------------------------------- */

/* Filters of one tap may lie there as a matrix. */
static const struct gguf_tensor *find_filters(struct loader *loader, const char *name,
                                              size_t kernel, size_t n_y, size_t n_z)
{
    const struct gguf_tensor *tensor = gguf_tensor(loader->gguf, name);
    const bool flat = kernel == 1 && tensor && tensor->n_dims == 2;

    return loader_tensor(loader, name, flat ? (const uint64_t[]){n_y, n_z, 1, 1}
                                            : (const uint64_t[]){kernel, n_y, n_z, 1});
}

/* [n], or a column of as many rows. */
static bool load_bias(struct loader *loader, const char *name, size_t n, const float **ret)
{
    const struct gguf_tensor *tensor = gguf_tensor(loader->gguf, name);
    const bool column = tensor && tensor->n_dims == 2;

    return loader_f32(loader, name, column ? n : 1, column ? 1 : n, ret);
}

/*
 * The file has the kernel as its fast axis: {kernel, b, a}. Here the channels of the input are, so
 * that a row of weights meets rows as they lie one after another: value (j, y, z) of the file, z
 * slowest, goes to w[(j * step_j + y * step_y + z * step_z)].
 */
static bool load_turned(struct loader *loader, const char *name, size_t kernel, size_t n_y,
                        size_t n_z, size_t step_j, size_t step_y, size_t step_z, const float **ret)
{
    const struct gguf_tensor *tensor = find_filters(loader, name, kernel, n_y, n_z);
    float *values, slice[CONV_VALUES_MAX];
    size_t slice_bytes;

    if (!tensor)
        return false;
    values = loader_take(loader, kernel * n_y * n_z * sizeof(*values));
    if (!values)
        return true;
    assert(kernel * n_y <= CONV_VALUES_MAX);
    slice_bytes = dtype_row_bytes(tensor->type, kernel * n_y);
    for (size_t z = 0; z < n_z; z++) {
        dtype_to_f32(tensor->type, (const unsigned char *)tensor->data + z * slice_bytes, slice,
                     kernel * n_y);
        for (size_t y = 0; y < n_y; y++)
            for (size_t j = 0; j < kernel; j++)
                values[j * step_j + y * step_y + z * step_z] = slice[y * kernel + j];
    }
    gguf_tensor_drop(tensor);
    *ret = values;
    return true;
}

bool conv_load(struct loader *loader, const char *name, size_t kernel, size_t in, size_t out,
               bool has_bias, struct conv *ret)
{
    char full[64];

    ret->kernel = kernel;
    ret->in = in;
    ret->out = out;
    ret->past = loader_take(loader, (kernel - 1) * in * sizeof(*ret->past));
    return load_turned(loader, loader_name(full, "%s.weight", name), kernel, in, out, in, 1,
                       kernel * in, &ret->w) &&
           (!has_bias || load_bias(loader, loader_name(full, "%s.bias", name), out, &ret->b));
}

bool conv_up_load(struct loader *loader, const char *name, size_t stride, size_t in, size_t out,
                  struct conv_up *ret)
{
    char full[64];

    ret->stride = stride;
    ret->taps.kernel = 1;
    ret->taps.in = in;
    ret->taps.out = 2 * stride * out;
    ret->tail = loader_take(loader, stride * out * sizeof(*ret->tail));
    return load_turned(loader, loader_name(full, "%s.weight", name), 2 * stride, out, in, out * in,
                       in, 1, &ret->taps.w) &&
           load_bias(loader, loader_name(full, "%s.bias", name), out, &ret->b);
}

bool conv_own_load(struct loader *loader, const char *name, size_t stride, size_t width,
                   struct conv_own *ret)
{
    char full[64];

    ret->stride = stride;
    ret->width = width;
    ret->past = loader_take(loader, width * sizeof(*ret->past));
    return load_turned(loader, loader_name(full, "%s.weight", name), 2 * stride, 1, width, width, 0,
                       1, &ret->w);
}

void conv_reset(const struct conv *conv)
{
    memset(conv->past, 0, (conv->kernel - 1) * conv->in * sizeof(*conv->past));
}

void conv_up_reset(const struct conv_up *up)
{
    memset(up->tail, 0, up->taps.out / 2 * sizeof(*up->tail));
}

void conv_own_reset(const struct conv_own *own)
{
    memset(own->past, 0, own->width * sizeof(*own->past));
}

/* --- rows ------------------------------------------------------------------------------------- */

/* One unit of work: some rows times some outputs. */
#define UNIT_ROWS ((size_t)16)
#define UNIT_OUTS ((size_t)64)

_Static_assert(UNIT_ROWS * CONV_VALUES_MAX * sizeof(float) <= POOL_SCRATCH_BYTES, "a unit fits");

struct conv_job {
    const struct conv *conv;
    const float *x;
    size_t n;
    float *y;
};

/* What output row t looks at: out [kernel][in] */
static void gather(const struct conv_job *job, size_t t, float *out)
{
    const struct conv *conv = job->conv;
    const size_t n_before = conv->kernel - 1, n_past = n_before - MIN(t, n_before);
    const size_t first = t + n_past - n_before; /* row of x behind the past ones */

    if (n_past > 0)
        memcpy(out, conv->past + t * conv->in, n_past * conv->in * sizeof(*out));
    memcpy(out + n_past * conv->in, job->x + first * conv->in,
           (conv->kernel - n_past) * conv->in * sizeof(*out));
}

static void conv_units(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct conv_job *job = context;
    const struct conv *conv = job->conv;
    const size_t n_values = conv->kernel * conv->in;
    const size_t n_row_units = (job->n + UNIT_ROWS - 1) / UNIT_ROWS;

    (void)worker;
    for (size_t unit = first; unit < last; unit++) {
        const size_t t = unit % n_row_units * UNIT_ROWS, n = MIN(job->n - t, UNIT_ROWS);
        const size_t row = unit / n_row_units * UNIT_OUTS, end = MIN(row + UNIT_OUTS, conv->out);
        const float *rows = job->x + t * conv->in;

        if (conv->kernel > 1) {
            for (size_t i = 0; i < n; i++)
                gather(job, t + i, (float *)scratch + i * n_values);
            rows = scratch;
        }
        for (size_t o = row; o < end; o++)
            kernels()->dot_f32(conv->w + o * n_values, rows, n, n_values,
                               job->y + t * conv->out + o, conv->out);
        for (size_t i = 0; conv->b && i < n; i++)
            op_add(job->y + (t + i) * conv->out + row, conv->b + row, end - row);
    }
}

void conv_rows(const struct conv *conv, const float *x, size_t n, float *y, struct pool *pool)
{
    struct conv_job job = {conv, x, n, y};
    const size_t n_before = conv->kernel - 1, width = conv->in;

    pool_run(pool, conv_units, &job,
             (n + UNIT_ROWS - 1) / UNIT_ROWS * ((conv->out + UNIT_OUTS - 1) / UNIT_OUTS), 1);
    if (n < n_before)
        memmove(conv->past, conv->past + n * width, (n_before - n) * width * sizeof(*x));
    if (n_before > 0)
        memcpy(conv->past + (n_before - MIN(n, n_before)) * width,
               x + (n - MIN(n, n_before)) * width, MIN(n, n_before) * width * sizeof(*x));
}

void conv_up_rows(const struct conv_up *up, const float *x, size_t n, float *taps, float *y,
                  struct pool *pool)
{
    const size_t n_new = up->taps.out / 2, out = n_new / up->stride;

    conv_rows(&up->taps, x, n, taps, pool);
    for (size_t t = 0; t < n; t++) {
        const float *const now = taps + 2 * t * n_new;
        const float *const before = t > 0 ? now - n_new : up->tail;

        for (size_t i = 0; i < n_new; i++)
            y[t * n_new + i] = now[i] + before[i];
        for (size_t j = 0; j < up->stride; j++)
            op_add(y + t * n_new + j * out, up->b, out);
    }
    memcpy(up->tail, taps + (2 * n - 1) * n_new, n_new * sizeof(*taps));
}

void conv_own_rows(const struct conv_own *own, const float *x, size_t n, float *y)
{
    const size_t width = own->width, stride = own->stride;

    for (size_t t = 0; t < n; t++) {
        const float *const now = x + t * width, *const before = t > 0 ? now - width : own->past;

        for (size_t j = 0; j < stride; j++) {
            const float *const w = own->w + j * width, *const late = w + stride * width;
            float *const out = y + (t * stride + j) * width;

            for (size_t c = 0; c < width; c++)
                out[c] = w[c] * now[c] + late[c] * before[c];
        }
    }
    memcpy(own->past, x + (n - 1) * width, width * sizeof(*x));
}
