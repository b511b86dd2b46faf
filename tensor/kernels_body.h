/* SPDX-License-Identifier: MIT */

/*
 * The kernels over vectors of 16 lanes: one algorithm for every instruction set. A file
 * kernels_X.c includes its vec_X.h, then this, with KERNELS defined as the name of its table.
 *
 * A vec_X.h gives the vectors, with operations named after what they work on:
 *
 *     vf, vi  16 lanes of f32, of i32
 *     vb      64 bytes: 4 weights for each lane
 *     vw      pairs of values of 16 bits, one for each lane, which vw_dot() multiplies
 *     vx      runs of ACT_RUN activations of some positions, ready to be multiplied
 *     vp      a sum in progress of products of vb and vx: vp_begin() on a vi, up to VP_STEPS() of
 *             vp_dot() (weights below 128) or vp_dot8() (of 8 bits), and vp_end() is the vi with
 *             the products added
 *
 * and says about itself:
 *
 *     VEC_ROWS_MAX      accumulators of a product or of attention that fit the registers
 *     VEC_AHEAD         bytes between what is multiplied and what memory is asked for; 0: it is not
 *     VEC_BYTES_SIGNED  weights of 8 bits are signed bytes, as vb_flip() makes them; else unsigned
 *                       with an offset of 128
 *     VEC_PAIRS         panels are multiplied two rows by two positions (below)
 *     VEC_WIDE_ROWS     accumulators of a wide product that fit the registers
 *     VP_STEPS(bits)    products of weights of so many bits for one vp, a power of two up to 8
 *
 * Everything is inlined with constant types and counts, so that the accumulators are registers.
 */

#include <assert.h>
#include <float.h>
#include <math.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/kernels.h"
#include "tensor/pool.h"

#define LANES 16

#define UNROLL _Pragma("GCC unroll 64")

/* --- activations ---------------------------------------------------------------------------- */

static void quantise(const float *x, size_t n, int8_t *q, float *d, int32_t *sum, size_t stride)
{
    for (size_t b = 0; b < n / 32; b++) {
        const vf half[2] = {vf_load(x + 32 * b), vf_load(x + 32 * b + 16)};
        const float max = vf_max_lane(vf_max(vf_abs(half[0]), vf_abs(half[1])));
        const vf inverse = vf_set1(max > 0 ? 127 / max : 0);

        d[b * stride] = max / 127;
        for (size_t h = 0; h < 2; h++) {
            const vf scaled = vf_max(vf_min(vf_mul(half[h], inverse), vf_set1(127)), vf_set1(-127));
            const vi quants = vi_round(scaled);
            int8_t bytes[16];

            vi_store_i8(bytes, quants);
            for (size_t i = 0; i < 16 / ACT_RUN; i++)
                memcpy(q + (32 * b + 16 * h + ACT_RUN * i) * stride, bytes + ACT_RUN * i, ACT_RUN);
            sum[(2 * b + h) * stride] = vi_sum(quants);
        }
    }
}

/* --- weights of one step -------------------------------------------------------------------- */

/* The record that holds step b of a group, and the number of the step in it. */
struct record {
    const uint8_t *data;
    size_t step;
};

ALWAYS struct record record_at(const struct packing *p, const struct packing_parts *parts,
                               const uint8_t *group, size_t b)
{
    const size_t n_steps = packing_record_values(p) / STEP_VALUES;

    return (struct record){group + b / n_steps * parts->record_bytes, b % n_steps};
}

/* Whether a byte of an unpacked weight has 8 bits; entries of tables have. */
ALWAYS bool has_8_bits(const struct packing *p)
{
    return p->offset == 128;
}

/* Vectors V[2 c] and V[2 c + 1] of a step: values 8 c .. 8 c + 7 of its rows. */
ALWAYS void unpack_run(const struct packing *p, const struct packing_parts *parts,
                       const struct record *r, int c, vb v[2])
{
    const uint8_t *plane = r->data + parts->quants + r->step * p->bits * 64;
    int to = 0;

    if (p->plane4) {
        const vb x = vb_load(plane + 64 * c);

        v[0] = vb_field(x, 0, 0, 15);
        v[1] = vb_field(x, 4, 0, 15);
        plane += 256;
        to = 4;
    }
    if (p->plane2) {
        const vb x = vb_load(plane + 64 * (c / 2));

        UNROLL for (int h = 0; h < 2; h++)
        {
            const vb field = vb_field(x, 2 * (c % 2 * 2 + h), to, 3);

            v[h] = to ? vb_or(v[h], field) : field;
        }
        plane += 128;
        to += 2;
    }
    if (p->plane1) {
        const vb x = vb_load(plane);

        UNROLL for (int h = 0; h < 2; h++)
            v[h] = vb_or(v[h], vb_field(x, 2 * c + h, to, 1));
    }
    UNROLL for (int h = 0; h < 2; h++)
    {
        if (p->bits == 8)
            v[h] = vb_load(plane + 64 * (2 * c + h));
        if (p->table)
            v[h] = vb_lookup(packing_iq4, v[h]);
#if VEC_BYTES_SIGNED
        if (has_8_bits(p))
            v[h] = vb_flip(v[h]);
#endif
    }
}

ALWAYS int n_scales(const struct packing *p)
{
    return p->sub_values == 16 ? 2 : 1;
}

ALWAYS void unpack_scales(const struct packing *p, const struct packing_parts *parts,
                          const struct record *r, vf scale[2], vf min[2])
{
    const uint8_t *const d = r->data + r->step * 32 / p->d_values * GROUP_ROWS * 2;

    UNROLL for (int s = 0; s < n_scales(p); s++)
    {
        const size_t sub =
            p->sub_values ? (r->step * 32 / p->sub_values + s) * GROUP_ROWS : 0;

        scale[s] = vf_load_f16(d + parts->d);
        if (p->sub_values)
            scale[s] = vf_mul(scale[s], p->offset ? vf_load_i8(r->data + parts->sub + sub)
                                                  : vf_load_u8(r->data + parts->sub + sub));
        if (p->has_min) {
            min[s] = vf_load_f16(d + parts->m);
            if (p->sub_values)
                min[s] = vf_sub(vf_zero(),
                                vf_mul(min[s], vf_load_u8(r->data + parts->sub_min + sub)));
        }
    }
}

/* --- a block of 32 times some positions ----------------------------------------------------- */

/*
 * A tile of activations as a product reads it: element i of `rows` positions lies side by side.
 * aux: for types with an offset -offset * sum, where the integer sums start; for types with a
 * minimum the sums as f32; [in / 32][n_scales][rows].
 */
struct tile {
    const int8_t *q;
    const float *d;
    const void *aux;
    size_t rows;
};

/*
 * Most vectors of a product are 16 rows of one position. With VEC_PAIRS those of panels are 8 rows
 * of two positions, row by row, for an instruction that multiplies two rows by two positions:
 * vf_pair() and vi_pair() repeat what belongs to positions, vf_zip() what belongs to rows.
 */
#define PANEL_HALVES    (VEC_PAIRS ? 2 : 1) /* of the 16 rows */
#define PANEL_POSITIONS (VEC_ROWS_MAX * PANEL_HALVES)

/* The element of each position of vector i. */
ALWAYS vf position_vf(const float *p, bool pairs, int i, int n)
{
#if VEC_PAIRS
    if (pairs && 2 * i + 1 < n)
        return vf_pair(p + 2 * i);
#else
    (void)n;
#endif
    return vf_set1(p[pairs ? 2 * i : i]);
}

ALWAYS vi position_vi(const int32_t *p, bool pairs, int i, int n)
{
#if VEC_PAIRS
    if (pairs && 2 * i + 1 < n)
        return vi_pair(p + 2 * i);
#else
    (void)n;
#endif
    return vi_set1(p[pairs ? 2 * i : i]);
}

ALWAYS bool starts_at_zero(const struct packing *p)
{
    return p->offset == 0 || (VEC_BYTES_SIGNED && p->offset == 128);
}

/*
 * Add block b of n positions to their accumulators; the bytes are in `record`, or it is NULL and
 * `panel` has them.
 */
ALWAYS void add_block(const struct packing *p, const struct packing_parts *parts,
                      const struct record *record, const uint8_t *panel, const vf *scale,
                      const vf *min, const struct tile *x, size_t b, int n, vf *acc)
{
    const bool pairs = VEC_PAIRS && !record;
    const int ns = n_scales(p), n_vecs = pairs ? (n + 1) / 2 : n;
    const int8_t *q = x->q + b * 32 * x->rows;
    const float *const d = x->d + b * x->rows;
    const float *const sum = (const float *)x->aux + b * ns * x->rows;
    const int32_t *const start = (const int32_t *)x->aux + b * ns * x->rows;
    const int n_steps = MIN(VP_STEPS(has_8_bits(p) ? 8 : p->bits), 8 / ns);
    vi dot[VEC_ROWS_MAX];
    vp part[VEC_ROWS_MAX];
    vf t[VEC_ROWS_MAX];

    UNROLL for (int s = 0; s < ns; s++)
    {
        UNROLL for (int i = 0; i < n_vecs; i++)
            dot[i] = starts_at_zero(p) ? vi_set1(0)
                                       : position_vi(start + s * x->rows, pairs, i, n);
        UNROLL for (int c = s * 4 / ns; c < (s + 1) * 4 / ns; c++)
        {
            const vx run = vx_load(q, n);
            vb v[2];

            q += ACT_RUN * x->rows;
#if VEC_PAIRS
            if (pairs) {
                const vb w = vb_load(panel + 64 * c);

                UNROLL for (int i = 0; i < n_vecs; i++)
                    dot[i] = vi_dot_pair(dot[i], w, &run, i);
                continue;
            }
#endif
            if (record)
                unpack_run(p, parts, record, c, v);
            UNROLL for (int h = 0; h < 2; h++)
            {
                const vb w = record ? v[h] : vb_load(panel + 64 * (2 * c + h));
                const int step = (2 * c + h) % n_steps;

                UNROLL for (int i = 0; i < n; i++)
                {
                    if (step == 0)
                        part[i] = vp_begin(dot[i]);
                    part[i] = has_8_bits(p) ? vp_dot8(part[i], w, &run, 2 * i + h)
                                            : vp_dot(part[i], w, &run, 2 * i + h);
                    if (step == n_steps - 1)
                        dot[i] = vp_end(part[i], dot[i]);
                }
            }
        }
        UNROLL for (int i = 0; i < n_vecs; i++)
        {
            const vf f = vf_from_vi(dot[i]);

            t[i] = s == 0 ? vf_mul(scale[0], f) : vf_fma(scale[1], f, t[i]);
        }
    }
    if (p->has_min) {
        UNROLL for (int s = 0; s < ns; s++)
        {
            UNROLL for (int i = 0; i < n_vecs; i++)
                t[i] = vf_fma(min[s], position_vf(sum + s * x->rows, pairs, i, n), t[i]);
        }
    }
    UNROLL for (int i = 0; i < n_vecs; i++)
        acc[i] = vf_fma(t[i], position_vf(d, pairs, i, n), acc[i]);
}

/* Rows of a group that exist. */
ALWAYS void store_group(vf acc, float *y, size_t row, size_t out)
{
    if (out - row >= GROUP_ROWS)
        vf_store(y + row, acc);
    else
        vf_store_n(y + row, acc, out - row);
}

/* aux of a tile that begins with activation row `first`. */
static void prepare_aux(const struct packing *p, const struct acts *x, size_t first, size_t rows,
                        void *aux)
{
    const size_t ns = p->sub_values == 16 ? 2 : 1; /* elements of a block of 32 */
    const int32_t factor = -(int32_t)p->offset;
    const int32_t *sum = x->sum + first * (x->in / 16);
    int32_t *start = aux;
    float *sums = aux;

    if (!p->has_min && starts_at_zero(p))
        return;
    for (size_t b = 0; b < x->in / 32;
         b++, sum += 2 * rows, start += ns * rows, sums += ns * rows) {
        for (size_t i = 0; i < ns * rows; i++) {
            const int32_t s = ns == 2 ? sum[i] : sum[i] + sum[i + rows];

            if (p->has_min)
                sums[i] = (float)s;
            else
                start[i] = s * factor;
        }
    }
}

/* --- products straight from the packed form: few positions ---------------------------------- */

/* Ask for the bytes of a later step; past the end of a group they are those of the next one. */
ALWAYS void fetch_ahead(const struct packing *p, const struct packing_parts *parts,
                        const struct record *r)
{
    if (VEC_AHEAD > 0) {
        const uint8_t *const step = r->data + parts->quants + r->step * parts->step_bytes;

        UNROLL for (int i = 0; i < p->bits; i++)
            __builtin_prefetch(step + VEC_AHEAD + 64 * i);
    }
}

ALWAYS void direct_n(enum dtype type, const struct weights *w, size_t first, size_t last,
                     const struct tile *x, int n, float *y, size_t y_stride)
{
    const struct packing *const p = &packing_table[type];
    const struct packing_parts parts = packing_parts(type, w->in);

    for (size_t g = first; g < last; g++) {
        const uint8_t *const group = w->data + g * parts.group_bytes;
        vf acc[VEC_ROWS_MAX];

        UNROLL for (int i = 0; i < n; i++)
            acc[i] = vf_zero();
        for (size_t b = 0; b < w->in / 32; b++) {
            const struct record record = record_at(p, &parts, group, b);
            vf scale[2], min[2];

            fetch_ahead(p, &parts, &record);
            unpack_scales(p, &parts, &record, scale, min);
            add_block(p, &parts, &record, NULL, scale, min, x, b, n, acc);
        }
        UNROLL for (int i = 0; i < n; i++)
            store_group(acc[i], y + i * y_stride, g * GROUP_ROWS, w->out);
    }
}

#define DIRECT_MAX 4

ALWAYS void direct(enum dtype type, const struct weights *w, size_t first, size_t last,
                   const struct acts *x, float *y, size_t y_stride, void *aux)
{
    const struct tile tile = {x->q, x->d, aux, x->n};

    prepare_aux(&packing_table[type], x, 0, x->n, aux);
    switch (x->n) {
    case 1:
        direct_n(type, w, first, last, &tile, 1, y, y_stride);
        break;
    case 2:
        direct_n(type, w, first, last, &tile, 2, y, y_stride);
        break;
#if VEC_ROWS_MAX >= 3
    case 3:
        direct_n(type, w, first, last, &tile, 3, y, y_stride);
        break;
#endif
#if VEC_ROWS_MAX >= 4
    case 4:
        direct_n(type, w, first, last, &tile, 4, y, y_stride);
        break;
#endif
    }
}

/* --- products by panels: many positions ----------------------------------------------------- */

/*
 * A panel is one group with its bits unpacked and its scales in f32, so that all tiles of
 * positions read ready vectors from the near cache:
 * [PANEL_HALVES][in / 32] { bytes [PANEL_BYTES], scale f32 [n_scales][16], min f32 [n_scales][16] }
 */
#define PANEL_BYTES (512 / PANEL_HALVES)

ALWAYS size_t panel_step_bytes(const struct packing *p)
{
    return PANEL_BYTES + 64 * (size_t)n_scales(p) * (p->has_min ? 2 : 1);
}

/* The bytes of one run for the rows of a half. */
ALWAYS void store_run(uint8_t *panel, int c, const vb v[2], int half)
{
#if VEC_PAIRS
    vb_store(panel + 64 * c, vb_zip(v[0], v[1], half));
#else
    (void)half;
    vb_store(panel + 128 * c, v[0]);
    vb_store(panel + 128 * c + 64, v[1]);
#endif
}

ALWAYS void store_scale(float *panel, vf scale, int half)
{
#if VEC_PAIRS
    scale = vf_zip(scale, scale, half);
#else
    (void)half;
#endif
    vf_store(panel, scale);
}

ALWAYS void unpack_panel(enum dtype type, const struct weights *w, size_t g, uint8_t *panel)
{
    const struct packing *const p = &packing_table[type];
    const struct packing_parts parts = packing_parts(type, w->in);
    const uint8_t *const group = w->data + g * parts.group_bytes;

    for (size_t b = 0; b < w->in / 32; b++) {
        const struct record record = record_at(p, &parts, group, b);
        uint8_t *to[PANEL_HALVES];
        vf scale[2], min[2];

        UNROLL for (int h = 0; h < PANEL_HALVES; h++)
            to[h] = panel + (h * (w->in / 32) + b) * panel_step_bytes(p);
        UNROLL for (int c = 0; c < 4; c++)
        {
            vb v[2];

            unpack_run(p, &parts, &record, c, v);
            UNROLL for (int h = 0; h < PANEL_HALVES; h++)
                store_run(to[h], c, v, h);
        }
        unpack_scales(p, &parts, &record, scale, min);
        UNROLL for (int h = 0; h < PANEL_HALVES; h++)
        {
            float *const scales = (float *)(void *)(to[h] + PANEL_BYTES);

            UNROLL for (int s = 0; s < n_scales(p); s++)
            {
                store_scale(scales + 16 * s, scale[s], h);
                if (p->has_min)
                    store_scale(scales + 16 * (n_scales(p) + s), min[s], h);
            }
        }
    }
}

/* One group times n positions of a tile. */
ALWAYS void panel_n(const struct packing *p, const uint8_t *panel, size_t n_steps,
                    const struct tile *x, int n, float *y, size_t y_stride, size_t row,
                    size_t out)
{
    const int n_vecs = (n + PANEL_HALVES - 1) / PANEL_HALVES;
    vf sums[PANEL_HALVES][VEC_ROWS_MAX];

    for (int h = 0; h < PANEL_HALVES; h++) {
        vf acc[VEC_ROWS_MAX];

        UNROLL for (int i = 0; i < n_vecs; i++)
            acc[i] = vf_zero();
        for (size_t b = 0; b < n_steps; b++, panel += panel_step_bytes(p)) {
            const float *const scales = (const float *)(const void *)(panel + PANEL_BYTES);
            vf scale[2], min[2];

            UNROLL for (int s = 0; s < n_scales(p); s++)
            {
                scale[s] = vf_load(scales + 16 * s);
                if (p->has_min)
                    min[s] = vf_load(scales + 16 * (n_scales(p) + s));
            }
            add_block(p, NULL, NULL, panel, scale, min, x, b, n, acc);
        }
        UNROLL for (int i = 0; i < n_vecs; i++)
            sums[h][i] = acc[i];
    }
    UNROLL for (int i = 0; i < n; i++)
    {
#if VEC_PAIRS
        const vf sum = vf_unzip(sums[0][i / 2], sums[1][i / 2], i % 2);
#else
        const vf sum = sums[0][i];
#endif

        store_group(sum, y + i * y_stride, row, out);
    }
}

/* The kinds of block that types come down to, as far as add_block() can tell them apart. */
static const struct packing kind_plain4 = {.bits = 4, .offset = 8, .sub_values = 32};
static const struct packing kind_plain5 = {.bits = 5, .offset = 16, .sub_values = 32};
static const struct packing kind_plain8 = {.bits = 8, .offset = 128, .sub_values = 32};
static const struct packing kind_min4 = {.bits = 4, .has_min = true, .sub_values = 32};
static const struct packing kind_min5 = {.bits = 5, .has_min = true, .sub_values = 32};
static const struct packing kind_halves = {.bits = 6, .offset = 32, .sub_values = 16};
static const struct packing kind_halves_min = {.bits = 2, .has_min = true, .sub_values = 16};

typedef void panel_fn(const uint8_t *panel, size_t n_steps, const struct tile *x, size_t n,
                      float *y, size_t y_stride, size_t row, size_t out);

#define PANEL_CASE(kind, count)                                                                    \
    case count:                                                                                    \
        panel_n(&kind, panel, n_steps, x, count < PANEL_POSITIONS ? count : PANEL_POSITIONS, y,    \
                y_stride, row, out);                                                               \
        break;

#define PANEL_FN(kind)                                                                             \
    static void panel_##kind(const uint8_t *panel, size_t n_steps, const struct tile *x, size_t n, \
                             float *y, size_t y_stride, size_t row, size_t out)                    \
    {                                                                                              \
        switch (n) {                                                                               \
            PANEL_CASE(kind, 1)                                                                    \
            PANEL_CASE(kind, 2)                                                                    \
            PANEL_CASE(kind, 3)                                                                    \
            PANEL_CASE(kind, 4)                                                                    \
            PANEL_CASE(kind, 5)                                                                    \
            PANEL_CASE(kind, 6)                                                                    \
            PANEL_CASE(kind, 7)                                                                    \
            PANEL_CASE(kind, 8)                                                                    \
            PANEL_CASE(kind, 9)                                                                    \
            PANEL_CASE(kind, 10)                                                                   \
            PANEL_CASE(kind, 11)                                                                   \
            PANEL_CASE(kind, 12)                                                                   \
        }                                                                                          \
    }

PANEL_FN(kind_plain4)
PANEL_FN(kind_plain5)
PANEL_FN(kind_plain8)
PANEL_FN(kind_min4)
PANEL_FN(kind_min5)
PANEL_FN(kind_halves)
PANEL_FN(kind_halves_min)

ALWAYS panel_fn *panel_fn_of(const struct packing *p)
{
    if (n_scales(p) == 2)
        return p->has_min ? panel_kind_halves_min : panel_kind_halves;
    if (p->has_min)
        return p->bits <= 4 ? panel_kind_min4 : panel_kind_min5;
    if (has_8_bits(p))
        return panel_kind_plain8;
    return p->bits <= 4 ? panel_kind_plain4 : panel_kind_plain5;
}

ALWAYS void by_panels(enum dtype type, const struct weights *w, size_t first, size_t last,
                      const struct acts *x, float *y, size_t y_stride, void *scratch)
{
    const struct packing *const p = &packing_table[type];
    const size_t n_steps = w->in / 32;
    const size_t aux_bytes = round_up(n_steps * n_scales(p) * ACT_TILE * 4, ARENA_ALIGN);
    const size_t panel_bytes = PANEL_HALVES * n_steps * panel_step_bytes(p);
    const size_t n_panels = (POOL_SCRATCH_BYTES - aux_bytes) / panel_bytes;
    uint8_t *const aux = scratch, *const panels = aux + aux_bytes;

    assert(n_panels > 0);
    for (size_t g = first; g < last; g += n_panels) {
        const size_t n = MIN(last - g, n_panels);

        for (size_t i = 0; i < n; i++)
            unpack_panel(type, w, g + i, panels + i * panel_bytes);
        for (size_t t = 0; t < x->n; t += ACT_TILE) {
            const size_t rows = acts_tile_rows(x, t);

            prepare_aux(p, x, t, rows, aux);
            for (size_t i = 0; i < n; i++) {
                for (size_t r = 0; r < rows; r += PANEL_POSITIONS) {
                    const struct tile tile = {
                        x->q + t * w->in + ACT_RUN * r,
                        x->d + t * n_steps + r,
                        aux + 4 * r,
                        rows,
                    };

                    panel_fn_of(p)(panels + i * panel_bytes, n_steps, &tile,
                                   MIN(rows - r, (size_t)PANEL_POSITIONS),
                                   y + (t + r) * y_stride, y_stride, (g + i) * GROUP_ROWS, w->out);
                }
            }
        }
    }
}

/* --- float types ---------------------------------------------------------------------------- */

ALWAYS vf load_weights(enum dtype type, const uint8_t *group, size_t k)
{
    if (type == DTYPE_F32)
        return vf_load((const float *)(const void *)group + k * GROUP_ROWS);
    if (type == DTYPE_F16)
        return vf_load_f16(group + k * GROUP_ROWS * 2);
    return vf_load_bf16(group + k * GROUP_ROWS * 2);
}

/* n_groups groups times n positions, all in registers. */
ALWAYS void float_tile(enum dtype type, const struct weights *w, size_t g, int n_groups,
                       const float *x, int n, float *y, size_t y_stride)
{
    const size_t group_bytes = packing_parts(type, w->in).group_bytes;
    const uint8_t *const data = w->data + g * group_bytes;
    vf acc[VEC_ROWS_MAX];

    UNROLL for (int i = 0; i < n_groups * n; i++)
        acc[i] = vf_zero();
    for (size_t k = 0; k < w->in; k++) {
        UNROLL for (int j = 0; j < n_groups; j++)
        {
            const vf v = load_weights(type, data + j * group_bytes, k);

            UNROLL for (int i = 0; i < n; i++)
                acc[j * n + i] = vf_fma(v, vf_set1(x[i * w->in + k]), acc[j * n + i]);
        }
    }
    UNROLL for (int j = 0; j < n_groups; j++)
    {
        UNROLL for (int i = 0; i < n; i++)
            store_group(acc[j * n + i], y + i * y_stride, (g + j) * GROUP_ROWS, w->out);
    }
}

#define FLOAT_GROUPS MIN(4, VEC_ROWS_MAX)

ALWAYS void float_product(enum dtype type, const struct weights *w, size_t first, size_t last,
                          const struct acts *x, float *y, size_t y_stride)
{
    for (size_t g = first; g < last; g += FLOAT_GROUPS) {
        const size_t n_groups = MIN(last - g, (size_t)FLOAT_GROUPS);
        size_t p = 0;

        for (; p + VEC_ROWS_MAX <= x->n; p += VEC_ROWS_MAX) {
            for (size_t j = 0; j < n_groups; j++)
                float_tile(type, w, g + j, 1, x->f32 + p * w->in, VEC_ROWS_MAX, y + p * y_stride,
                           y_stride);
        }
        for (; p < x->n; p++) {
            if (n_groups == FLOAT_GROUPS) {
                float_tile(type, w, g, FLOAT_GROUPS, x->f32 + p * w->in, 1, y + p * y_stride,
                           y_stride);
                continue;
            }
            for (size_t j = 0; j < n_groups; j++)
                float_tile(type, w, g + j, 1, x->f32 + p * w->in, 1, y + p * y_stride, y_stride);
        }
    }
}

/* --- dispatch by type ----------------------------------------------------------------------- */

typedef void product_fn(const struct weights *w, size_t first, size_t last, const struct acts *x,
                        float *y, size_t y_stride, void *scratch);

#define PRODUCT_QUANT(type)                                                                        \
    static void product_##type(const struct weights *w, size_t first, size_t last,                 \
                               const struct acts *x, float *y, size_t y_stride, void *scratch)     \
    {                                                                                              \
        if (x->n <= MIN(DIRECT_MAX, VEC_ROWS_MAX))                                                 \
            direct(DTYPE_##type, w, first, last, x, y, y_stride, scratch);                         \
        else                                                                                       \
            by_panels(DTYPE_##type, w, first, last, x, y, y_stride, scratch);                      \
    }

#define PRODUCT_FLOAT(type)                                                                        \
    static void product_##type(const struct weights *w, size_t first, size_t last,                 \
                               const struct acts *x, float *y, size_t y_stride, void *scratch)     \
    {                                                                                              \
        (void)scratch;                                                                             \
        float_product(DTYPE_##type, w, first, last, x, y, y_stride);                               \
    }

PRODUCT_FLOAT(F32)
PRODUCT_FLOAT(F16)
PRODUCT_FLOAT(BF16)
PRODUCT_QUANT(Q4_0)
PRODUCT_QUANT(Q4_1)
PRODUCT_QUANT(Q5_0)
PRODUCT_QUANT(Q5_1)
PRODUCT_QUANT(Q8_0)
PRODUCT_QUANT(Q2_K)
PRODUCT_QUANT(Q3_K)
PRODUCT_QUANT(Q4_K)
PRODUCT_QUANT(Q5_K)
PRODUCT_QUANT(Q6_K)
PRODUCT_QUANT(IQ4_NL)
PRODUCT_QUANT(IQ4_XS)

#define PRODUCT_ROW(type) [DTYPE_##type] = product_##type

static product_fn *const products[_DTYPE_N] = {
    PRODUCT_ROW(F32),  PRODUCT_ROW(F16),  PRODUCT_ROW(BF16),   PRODUCT_ROW(Q4_0),
    PRODUCT_ROW(Q4_1), PRODUCT_ROW(Q5_0), PRODUCT_ROW(Q5_1),   PRODUCT_ROW(Q8_0),
    PRODUCT_ROW(Q2_K), PRODUCT_ROW(Q3_K), PRODUCT_ROW(Q4_K),   PRODUCT_ROW(Q5_K),
    PRODUCT_ROW(Q6_K), PRODUCT_ROW(IQ4_NL), PRODUCT_ROW(IQ4_XS),
};

static void product(const struct weights *w, size_t first, size_t last, const struct acts *x,
                    float *y, size_t y_stride, void *scratch)
{
    products[w->type](w, first, last, x, y, y_stride, scratch);
}

/* --- wide products -------------------------------------------------------------------------- */

/* Two values at a time of 16 rows times n positions, WIDE_BLOCK apart, all in registers. */
ALWAYS void wide_dots(const int16_t *w, const int16_t *x, size_t pairs, int n, vi *sum)
{
    UNROLL for (int i = 0; i < n; i++)
        sum[i] = vi_set1(0);
    for (size_t k = 0; k < pairs; k++) {
        const vw v = vw_load(w + k * GROUP_ROWS * 2);

        UNROLL for (int i = 0; i < n; i++)
            sum[i] = vw_dot(sum[i], v, x + i * WIDE_BLOCK + 2 * k);
    }
    /* What is loaded after this must not wait in registers for it: a sum would go to memory. */
    __asm__ volatile("" ::: "memory");
}

/*
 * The rows of a tile, as many at a time as fit. Each count has its own call of an inlined function
 * in one that is not: with anything else around it a compiler puts sums into memory.
 */
static int wide_count(size_t rows)
{
    return rows >= VEC_WIDE_ROWS ? VEC_WIDE_ROWS : rows >= 2 ? 2 : 1;
}

#define WIDE_COUNTS(n, function, ...)                                                              \
    do {                                                                                           \
        if (n == VEC_WIDE_ROWS)                                                                    \
            function(VEC_WIDE_ROWS, __VA_ARGS__);                                                  \
        else if (n == 2)                                                                           \
            function(2, __VA_ARGS__);                                                              \
        else                                                                                       \
            function(1, __VA_ARGS__);                                                              \
    } while (0)

#define APART static __attribute__((noinline))

/* Positions that go through some groups together. */
#define WIDE_POSITIONS (8 * ACT_TILE)

/* Add one block of one group to n positions. */
ALWAYS void wide_block_n(int n, const int16_t *w, const int16_t *x, const float *d, size_t pairs,
                         bool first, float (*acc)[LANES])
{
    vi sum[VEC_WIDE_ROWS];

    wide_dots(w, x, pairs, n, sum);
    UNROLL for (int i = 0; i < n; i++)
        vf_store(acc[i], vf_fma(vf_from_vi(sum[i]), vf_set1(d[i]),
                                first ? vf_zero() : vf_load(acc[i])));
}

APART void wide_block(int n, const int16_t *w, const int16_t *x, const float *d, size_t pairs,
                      bool first, float (*acc)[LANES])
{
    WIDE_COUNTS(n, wide_block_n, w, x, d, pairs, first, acc);
}

/* The rows of a tile times block b of a group. */
static void wide_tile(const struct weights *w, const int16_t *quants, size_t b,
                      const struct acts *x, size_t tile, size_t rows, float (*acc)[LANES])
{
    const size_t n_blocks = (w->in + WIDE_BLOCK - 1) / WIDE_BLOCK;
    const size_t at = (tile / ACT_TILE * n_blocks + b) * ACT_TILE;
    const size_t pairs = (MIN(w->in - b * WIDE_BLOCK, (size_t)WIDE_BLOCK) + 1) / 2;
    int n;

    for (size_t r = 0; r < rows; r += n) {
        n = wide_count(rows - r);
        wide_block(n, quants + b * WIDE_BLOCK * GROUP_ROWS, x->wide + (at + r) * WIDE_BLOCK,
                   x->wide_d + at + r, pairs, b == 0, acc + r);
    }
}

/* The groups [first, last) times some positions: block by block, so that what the groups share
 * stays in the near cache. */
static void wide_positions(const struct weights *w, size_t first, size_t last, const struct acts *x,
                           size_t begin, size_t end, float *y, size_t y_stride, float *acc)
{
    const size_t n_blocks = (w->in + WIDE_BLOCK - 1) / WIDE_BLOCK;
    const size_t group_bytes = packing_wide_group_bytes(w->in);
    float (*const rows)[LANES] = (float (*)[LANES])acc; /* [groups][positions] */

    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t g = first; g < last; g++) {
            const float *const scales = (const float *)(const void *)(w->data + g * group_bytes);

            for (size_t t = begin; t < end; t += ACT_TILE)
                wide_tile(w, (const int16_t *)(const void *)(scales + GROUP_ROWS), b, x, t,
                          MIN(end - t, (size_t)ACT_TILE),
                          rows + (g - first) * WIDE_POSITIONS + (t - begin));
        }
    }
    for (size_t g = first; g < last; g++) {
        const vf scale = vf_load((const float *)(const void *)(w->data + g * group_bytes));

        for (size_t p = begin; p < end; p++)
            store_group(vf_mul(vf_load(rows[(g - first) * WIDE_POSITIONS + p - begin]), scale),
                        y + p * y_stride, g * GROUP_ROWS, w->out);
    }
}

#define WIDE_GROUPS 4

_Static_assert(WIDE_GROUPS * WIDE_POSITIONS * LANES * sizeof(float) <= POOL_SCRATCH_BYTES,
               "scratch is too small");

static void product_wide(const struct weights *w, size_t first, size_t last, const struct acts *x,
                         float *y, size_t y_stride, void *scratch)
{
    for (size_t g = first; g < last; g += WIDE_GROUPS)
        for (size_t p = 0; p < x->n; p += WIDE_POSITIONS)
            wide_positions(w, g, MIN(last, g + WIDE_GROUPS), x, p, MIN(x->n, p + WIDE_POSITIONS), y,
                           y_stride, scratch);
}

/* --- dots of f32 rows ----------------------------------------------------------------------- */

#define DOT_ROWS MIN(4, VEC_ROWS_MAX)

ALWAYS void dot_rows(const float *w, const float *x, size_t in, int n, float *y, size_t y_stride)
{
    vf acc[DOT_ROWS];
    size_t k = 0;

    UNROLL for (int i = 0; i < n; i++)
        acc[i] = vf_zero();
    for (; k + LANES <= in; k += LANES) {
        const vf v = vf_load(w + k);

        UNROLL for (int i = 0; i < n; i++)
            acc[i] = vf_fma(v, vf_load(x + i * in + k), acc[i]);
    }
    if (k < in) {
        const vf v = vf_load_n(w + k, in - k);

        UNROLL for (int i = 0; i < n; i++)
            acc[i] = vf_fma(v, vf_load_n(x + i * in + k, in - k), acc[i]);
    }
    UNROLL for (int i = 0; i < n; i++)
        y[i * y_stride] = vf_sum(acc[i]);
}

static void dot_f32(const float *w, const float *x, size_t n, size_t in, float *y, size_t y_stride)
{
    size_t p = 0;

    for (; p + DOT_ROWS <= n; p += DOT_ROWS)
        dot_rows(w, x + p * in, in, DOT_ROWS, y + p * y_stride, y_stride);
    for (; p < n; p++)
        dot_rows(w, x + p * in, in, 1, y + p * y_stride, y_stride);
}

/* --- small operations ----------------------------------------------------------------------- */

ALWAYS vf exp2_poly(vf x)
{
    const vf shift = vf_set1(EXP2_SHIFT);
    const vf clamped = vf_min(x, vf_set1(EXP2_MAX));
    const vf shifted = vf_add(clamped, shift);
    const vf f = vf_sub(clamped, vf_sub(shifted, shift));
    vf y = vf_fma(vf_set1(EXP2_C6), f, vf_set1(EXP2_C5));

    y = vf_fma(y, f, vf_set1(EXP2_C4));
    y = vf_fma(y, f, vf_set1(EXP2_C3));
    y = vf_fma(y, f, vf_set1(EXP2_C2));
    y = vf_fma(y, f, vf_set1(EXP2_C1));
    y = vf_fma(y, f, vf_set1(1));
    return vf_where_ge(x, vf_set1(EXP2_MIN), vf_add_exponent(y, shifted));
}

ALWAYS vf load_some(const float *p, size_t n)
{
    return n >= LANES ? vf_load(p) : vf_load_n(p, n);
}

ALWAYS void store_some(float *p, vf v, size_t n)
{
    if (n >= LANES)
        vf_store(p, v);
    else
        vf_store_n(p, v, n);
}

static void rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
    vf sum = vf_zero(), scale;

    for (size_t k = 0; k < n; k += LANES) {
        const vf v = load_some(x + k, n - k);

        sum = vf_fma(v, v, sum);
    }
    scale = vf_set1(1 / sqrtf(vf_sum(sum) / (float)n + eps));
    for (size_t k = 0; k < n; k += LANES) {
        const vf v = vf_mul(load_some(x + k, n - k), scale);

        store_some(out + k, vf_mul(v, load_some(w + k, n - k)), n - k);
    }
}

static vf keep_some(vf v, size_t n)
{
    return n >= LANES ? v : vf_in_range(v, 0, n, vf_zero());
}

static float quantise_wide(const float *x, size_t n, float limit, int16_t *q)
{
    vf most = vf_zero(), inverse;
    float max;

    for (size_t k = 0; k < n; k += LANES)
        most = vf_max(most, vf_abs(load_some(x + k, n - k)));
    max = vf_max_lane(most);
    inverse = vf_set1(max > 0 ? limit / max : 0);
    for (size_t k = 0; k < n; k += LANES) {
        const vf scaled = vf_mul(load_some(x + k, n - k), inverse);
        const vf kept = vf_max(vf_min(scaled, vf_set1(limit)), vf_set1(-limit));

        vi_store_i16(q + k, vi_round(keep_some(kept, n - k)));
    }
    return max / limit;
}

static void layernorm(const float *x, const float *w, const float *b, size_t n, float eps,
                      float *out)
{
    vf sum = vf_zero(), square = vf_zero(), mean, scale;

    for (size_t k = 0; k < n; k += LANES)
        sum = vf_add(sum, load_some(x + k, n - k));
    mean = vf_set1(vf_sum(sum) / (float)n);
    for (size_t k = 0; k < n; k += LANES) {
        const vf v = keep_some(vf_sub(load_some(x + k, n - k), mean), n - k);

        square = vf_fma(v, v, square);
    }
    scale = vf_set1(1 / sqrtf(vf_sum(square) / (float)n + eps));
    for (size_t k = 0; k < n; k += LANES) {
        const vf v = vf_mul(vf_sub(load_some(x + k, n - k), mean), scale);

        store_some(out + k, vf_fma(v, load_some(w + k, n - k), load_some(b + k, n - k)), n - k);
    }
}

static void gelu_tanh(float *x, const float *bias, size_t n)
{
    for (size_t k = 0; k < n; k += LANES) {
        const vf v = vf_add(load_some(x + k, n - k), load_some(bias + k, n - k));
        const vf slope = vf_fma(vf_mul(v, v), vf_set1(TANH_C3), vf_set1(TANH_C1));
        const vf e = exp2_poly(vf_mul(v, slope));

        store_some(x + k, vf_div(v, vf_add(vf_set1(1), e)), n - k);
    }
}

static void gelu_erf(float *x, const float *bias, size_t n)
{
    const vf one = vf_set1(1);

    for (size_t k = 0; k < n; k += LANES) {
        const vf v = vf_add(load_some(x + k, n - k), load_some(bias + k, n - k));
        const vf z = vf_mul(vf_abs(v), vf_set1(0x1.6a09e6p-1f));
        const vf t = vf_div(one, vf_fma(z, vf_set1(ERF_P), one));
        const vf e = exp2_poly(vf_mul(vf_mul(z, z), vf_set1(-LOG2E)));
        vf rest = vf_fma(vf_set1(ERF_A5), t, vf_set1(ERF_A4));

        rest = vf_fma(rest, t, vf_set1(ERF_A3));
        rest = vf_fma(rest, t, vf_set1(ERF_A2));
        rest = vf_fma(rest, t, vf_set1(ERF_A1));
        rest = vf_mul(vf_mul(vf_mul(rest, t), e), vf_mul(vf_abs(v), vf_set1(0.5f)));
        store_some(x + k, vf_sub(vf_where_ge(v, vf_zero(), v), rest), n - k);
    }
}

static void silu_mul(float *gate, const float *up, size_t n)
{
    for (size_t k = 0; k < n; k += LANES) {
        const vf g = load_some(gate + k, n - k);
        const vf e = exp2_poly(vf_mul(g, vf_set1(-LOG2E)));
        const vf silu = vf_div(g, vf_add(vf_set1(1), e));

        store_some(gate + k, vf_mul(silu, load_some(up + k, n - k)), n - k);
    }
}

static void sigmoid_mul(float *x, const float *gate, size_t n)
{
    for (size_t k = 0; k < n; k += LANES) {
        const vf e = exp2_poly(vf_mul(load_some(gate + k, n - k), vf_set1(-LOG2E)));

        store_some(x + k, vf_div(load_some(x + k, n - k), vf_add(vf_set1(1), e)), n - k);
    }
}

static void elu(float *x, size_t n)
{
    for (size_t k = 0; k < n; k += LANES) {
        const vf v = load_some(x + k, n - k);
        const vf e = exp2_poly(vf_mul(vf_min(v, vf_zero()), vf_set1(LOG2E)));

        store_some(x + k, vf_add(vf_where_ge(v, vf_zero(), v), vf_sub(e, vf_set1(1))), n - k);
    }
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t k = 0; k < n; k += LANES)
        store_some(x + k, vf_add(load_some(x + k, n - k), load_some(y + k, n - k)), n - k);
}

static void add_scaled(float *x, const float *y, float scale, size_t n)
{
    for (size_t k = 0; k < n; k += LANES)
        store_some(x + k,
                   vf_fma(vf_set1(scale), load_some(y + k, n - k), load_some(x + k, n - k)),
                   n - k);
}

static void weighted_sum(const float *const *rows, const float *weights, size_t n_rows,
                         const float *bias, size_t n, float *out)
{
    for (size_t k = 0; k < n; k += LANES) {
        vf sum = load_some(bias + k, n - k);

        for (size_t r = 0; r < n_rows; r++)
            sum = vf_fma(load_some(weights + r * n + k, n - k), load_some(rows[r] + k, n - k), sum);
        store_some(out + k, sum, n - k);
    }
}

static void rope_half(float *head, size_t hd, const float *cos, const float *sin)
{
    float *const a = head, *const b = head + hd / 2;

    for (size_t i = 0; i < hd / 2; i += LANES) {
        const size_t n = hd / 2 - i;
        const vf va = load_some(a + i, n), vb_ = load_some(b + i, n);
        const vf c = load_some(cos + i, n), s = load_some(sin + i, n);

        store_some(a + i, vf_fma(vf_sub(vf_zero(), vb_), s, vf_mul(va, c)), n);
        store_some(b + i, vf_fma(va, s, vf_mul(vb_, c)), n);
    }
}

static void shortconv(const float *bcx, const float *taps, float *state, size_t n, size_t h,
                      size_t l, size_t first, size_t last, float *out)
{
    for (size_t i = first; i < last; i += LANES) {
        const size_t width = MIN(last - i, (size_t)LANES);

        for (size_t t = 0; t < n; t++) {
            const float *const row = bcx + t * 3 * h + i;
            vf sum = vf_zero();

            store_some(state + (l - 1 + t) * h + i,
                       vf_mul(load_some(row, width), load_some(row + 2 * h, width)), width);
            for (size_t j = 0; j < l; j++) {
                float tap[LANES] = {0};

                for (size_t c = 0; c < width; c++)
                    tap[c] = taps[(i + c) * l + j];
                sum = vf_fma(vf_load(tap), load_some(state + (t + j) * h + i, width), sum);
            }
            store_some(out + t * h + i, vf_mul(load_some(row + h, width), sum), width);
        }
    }
}

/* --- attention ------------------------------------------------------------------------------ */

#define BLOCK_TILES (ATTEND_BLOCK / KV_TILE)

struct attend_scratch {
    _Alignas(64) float q[ATTEND_HEAD_DIM_MAX][ATTEND_TILE]; /* scaled */
    _Alignas(64) float p[ATTEND_TILE][ATTEND_BLOCK];
    _Alignas(64) float out[ATTEND_TILE][ATTEND_HEAD_DIM_MAX];
    _Alignas(64) float lane[ATTEND_TILE][LANES];
    float max[ATTEND_TILE];
};

ALWAYS vf load_key(int type, const uint8_t *k, size_t hd, size_t i)
{
    if (type == KV_F32)
        return vf_load((const float *)(const void *)k + i * KV_TILE);
    if (type == KV_F16)
        return vf_load_f16(k + i * KV_TILE * 2);
    return vf_load_i8(k + hd / 32 * 64 + i * KV_TILE);
}

/* Scores of n rows and n_tiles tiles of keys, all in registers. */
ALWAYS void score_tiles(int type, const uint8_t *k, size_t tile_bytes, size_t hd, int n_tiles,
                        struct attend_scratch *s, size_t row, int n, size_t tile)
{
    vf acc[VEC_ROWS_MAX], dot[VEC_ROWS_MAX];

    UNROLL for (int i = 0; i < n * n_tiles; i++)
        acc[i] = dot[i] = vf_zero();
    for (size_t i = 0; i < hd; i++) {
        UNROLL for (int j = 0; j < n_tiles; j++)
        {
            const vf key = load_key(type, k + j * tile_bytes, hd, i);

            UNROLL for (int r = 0; r < n; r++)
            {
                vf *const to = type == KV_Q8_0 ? &dot[j * n + r] : &acc[j * n + r];

                *to = vf_fma(vf_set1(s->q[i][row + r]), key, *to);
            }
        }
        if (type == KV_Q8_0 && i % 32 == 31) {
            UNROLL for (int j = 0; j < n_tiles; j++)
            {
                const vf d = vf_load((const float *)(const void *)(k + j * tile_bytes) +
                                     i / 32 * KV_TILE);

                UNROLL for (int r = 0; r < n; r++)
                {
                    acc[j * n + r] = vf_fma(dot[j * n + r], d, acc[j * n + r]);
                    dot[j * n + r] = vf_zero();
                }
            }
        }
    }
    UNROLL for (int j = 0; j < n_tiles; j++)
    {
        UNROLL for (int r = 0; r < n; r++)
            vf_store(s->p[row + r] + (tile + j) * KV_TILE, acc[j * n + r]);
    }
}

ALWAYS vf load_value(int type, const uint8_t *v, size_t hd, size_t width, size_t lane, size_t i)
{
    if (type == KV_F32)
        return vf_load((const float *)(const void *)v + lane * width + i);
    if (type == KV_F16)
        return vf_load_f16(v + (lane * width + i) * 2);
    return vf_load_i8(v + hd / 32 * 64 + lane * width + i);
}

/* out[row .. row + n)[16 i .. 16 (i + n_vec)) += p v over the first n_keys of a block */
ALWAYS void add_values(int type, const uint8_t *v, size_t tile_bytes, size_t hd, size_t n_keys,
                       struct attend_scratch *s, size_t row, int n, size_t first_vec, int n_vec)
{
    const size_t width = round_up(hd, KV_TILE);
    vf acc[VEC_ROWS_MAX];

    UNROLL for (int r = 0; r < n; r++)
    {
        UNROLL for (int c = 0; c < n_vec; c++)
            acc[r * n_vec + c] = vf_load(s->out[row + r] + (first_vec + c) * LANES);
    }
    for (size_t j = 0; j < n_keys; j++) {
        const uint8_t *const tile = v + j / KV_TILE * tile_bytes;
        const size_t lane = j % KV_TILE;

        UNROLL for (int c = 0; c < n_vec; c++)
        {
            const size_t i = (first_vec + c) * LANES;
            const vf value = load_value(type, tile, hd, width, lane, i);

            UNROLL for (int r = 0; r < n; r++)
            {
                float p = s->p[row + r][j];

                if (type == KV_Q8_0)
                    p *= ((const float *)(const void *)tile)[lane * (hd / 32) + i / 32];
                acc[r * n_vec + c] = vf_fma(vf_set1(p), value, acc[r * n_vec + c]);
            }
        }
    }
    UNROLL for (int r = 0; r < n; r++)
    {
        UNROLL for (int c = 0; c < n_vec; c++)
            vf_store(s->out[row + r] + (first_vec + c) * LANES, acc[r * n_vec + c]);
    }
}

/* Mask the invisible, raise the maximum, shrink what was added so far, turn scores into p. */
ALWAYS void soften(const struct attend_work *work, struct attend_scratch *s, size_t r,
                   size_t block)
{
    const size_t begin = MAX(work->begin[r], block) - block;
    const size_t end = MIN(MAX(work->end[r], block), block + ATTEND_BLOCK) - block;
    vf score[BLOCK_TILES], max = vf_set1(-FLT_MAX), lane, shrink;
    float new_max;

    for (size_t t = 0; t < BLOCK_TILES; t++) {
        const size_t from = MIN(MAX(begin, t * LANES) - t * LANES, (size_t)LANES);
        const size_t to = MIN(MAX(end, t * LANES) - t * LANES, (size_t)LANES);

        score[t] = vf_load(s->p[r] + t * LANES);
        if (from > 0 || to < LANES)
            score[t] = vf_in_range(score[t], from, MAX(from, to), vf_set1(-FLT_MAX));
        max = vf_max(max, score[t]);
    }
    new_max = fmaxf(s->max[r], vf_max_lane(max));
    shrink = exp2_poly(vf_set1(s->max[r] - new_max));
    s->max[r] = new_max;
    lane = vf_mul(vf_load(s->lane[r]), shrink);
    for (size_t i = 0; i < work->head_dim; i += LANES)
        vf_store(s->out[r] + i, vf_mul(vf_load(s->out[r] + i), shrink));
    for (size_t t = 0; t < BLOCK_TILES; t++) {
        const size_t from = MIN(MAX(begin, t * LANES) - t * LANES, (size_t)LANES);
        const size_t to = MIN(MAX(end, t * LANES) - t * LANES, (size_t)LANES);
        vf p = exp2_poly(vf_sub(score[t], vf_set1(new_max)));

        if (from > 0 || to < LANES)
            p = vf_in_range(p, from, MAX(from, to), vf_zero());
        vf_store(s->p[r] + t * LANES, p);
        lane = vf_add(lane, p);
    }
    vf_store(s->lane[r], lane);
}

/* Rows [row, row + n) of the work against one block, whose first n_keys may be visible. */
ALWAYS void attend_rows(int type, const struct attend_work *work, struct attend_scratch *s,
                        const uint8_t *k, const uint8_t *v, size_t tile_bytes, size_t block,
                        size_t n_keys, size_t row, int n)
{
    const int n_tiles = MIN(VEC_ROWS_MAX / n, BLOCK_TILES);
    const int n_vec = MAX(1, MIN(VEC_ROWS_MAX / n, 4));
    const size_t n_vecs = (work->head_dim + LANES - 1) / LANES;
    const size_t used = (n_keys + KV_TILE - 1) / KV_TILE;
    size_t t = 0, c = 0;

    for (; t + n_tiles <= used; t += n_tiles)
        score_tiles(type, k + t * tile_bytes, tile_bytes, work->head_dim, n_tiles, s, row, n, t);
    for (; t < used; t++)
        score_tiles(type, k + t * tile_bytes, tile_bytes, work->head_dim, 1, s, row, n, t);
    for (int r = 0; r < n; r++)
        soften(work, s, row + r, block);
    for (; c + n_vec <= n_vecs; c += n_vec)
        add_values(type, v, tile_bytes, work->head_dim, n_keys, s, row, n, c, n_vec);
    for (; c < n_vecs; c++)
        add_values(type, v, tile_bytes, work->head_dim, n_keys, s, row, n, c, 1);
}

ALWAYS void attend_type(int type, const struct attend_work *work, struct attend_scratch *s)
{
    const size_t hd = work->head_dim, tile_bytes = kv_bytes(type, hd, KV_TILE);
    const float scale = LOG2E / sqrtf((float)hd);
    size_t begin = work->begin[0], end = 0;

    for (size_t r = 0; r < work->n; r++) {
        for (size_t i = 0; i < hd; i++)
            s->q[i][r] = work->q[r][i] * scale;
        memset(s->out[r], 0, round_up(hd, LANES) * sizeof(float));
        memset(s->lane[r], 0, sizeof(s->lane[r]));
        s->max[r] = -FLT_MAX;
        begin = MIN(begin, work->begin[r]);
        end = MAX(end, work->end[r]);
    }

    for (size_t b = begin / ATTEND_BLOCK * ATTEND_BLOCK; b < end; b += ATTEND_BLOCK) {
        const uint8_t *const k = (const uint8_t *)work->k + b / KV_TILE * tile_bytes;
        const uint8_t *const v = (const uint8_t *)work->v + b / KV_TILE * tile_bytes;
        const size_t n_keys = MIN(end - b, (size_t)ATTEND_BLOCK);
        size_t r = 0;

        for (; r + VEC_ROWS_MAX <= work->n; r += VEC_ROWS_MAX)
            attend_rows(type, work, s, k, v, tile_bytes, b, n_keys, r, VEC_ROWS_MAX);
#if VEC_ROWS_MAX > 4
        for (; r + 4 <= work->n; r += 4)
            attend_rows(type, work, s, k, v, tile_bytes, b, n_keys, r, 4);
#endif
#if VEC_ROWS_MAX > 3
        for (; r + 3 <= work->n; r += 3)
            attend_rows(type, work, s, k, v, tile_bytes, b, n_keys, r, 3);
#endif
        for (; r + 2 <= work->n; r += 2)
            attend_rows(type, work, s, k, v, tile_bytes, b, n_keys, r, 2);
        for (; r < work->n; r++)
            attend_rows(type, work, s, k, v, tile_bytes, b, n_keys, r, 1);
    }

    for (size_t r = 0; r < work->n; r++) {
        const vf sum = vf_set1(vf_sum(vf_load(s->lane[r])));

        for (size_t i = 0; i < hd; i += LANES)
            store_some(work->out[r] + i, vf_div(vf_load(s->out[r] + i), sum), hd - i);
    }
}

static void attend_f32(const struct attend_work *work, void *scratch)
{
    attend_type(KV_F32, work, scratch);
}

static void attend_f16(const struct attend_work *work, void *scratch)
{
    attend_type(KV_F16, work, scratch);
}

static void attend_q8_0(const struct attend_work *work, void *scratch)
{
    attend_type(KV_Q8_0, work, scratch);
}

static void attend_work(const struct attend_work *work, void *scratch)
{
    if (work->type == KV_F32)
        attend_f32(work, scratch);
    else if (work->type == KV_F16)
        attend_f16(work, scratch);
    else
        attend_q8_0(work, scratch);
}

/* --- attention by wide products ------------------------------------------------------------- */

/* Positions are added in groups that may begin before the first score and end after the last. */
#define WIDE_BEFORE (2 * LANES)
#define WIDE_SCORES (WIDE_BEFORE + WIDE_KEYS_MAX + 3 * LANES)

struct wide_scratch {
    _Alignas(64) int16_t q[ACT_TILE][WIDE_BLOCK];
    _Alignas(64) int16_t qp[ACT_TILE][WIDE_BLOCK];
    _Alignas(64) int16_t p[WIDE_KEYS_MAX / WIDE_BLOCK][ACT_TILE][WIDE_BLOCK];
    _Alignas(64) float unit[WIDE_KEYS_MAX]; /* vd, WIDE_MAX for the largest */
    _Alignas(64) float score[ACT_TILE][WIDE_SCORES]; /* not all rows in the same cache sets */
    _Alignas(64) float some[ACT_TILE][LANES];
    _Alignas(64) float acc[ACT_TILE][LANES];
    float scale[ACT_TILE];
};

ALWAYS void wide_scores_n(int n, const int16_t *k, const float *kd, const int16_t *q, size_t pairs,
                          float *score, size_t stride)
{
    vi sum[VEC_WIDE_ROWS];

    wide_dots(k, q, pairs, n, sum);
    UNROLL for (int i = 0; i < n; i++)
        vf_store(score + i * stride, vf_mul(vf_from_vi(sum[i]), vf_load(kd)));
}

APART void wide_scores(int n, const int16_t *k, const float *kd, const int16_t *q, size_t pairs,
                       float *score, size_t stride)
{
    WIDE_COUNTS(n, wide_scores_n, k, kd, q, pairs, score, stride);
}

/* Add the scores of positions to those of keys: d and dp make powers of 2 of them. */
static void wide_relative(const struct attend_wide_work *work, struct wide_scratch *s,
                          const float *d, const float *dp)
{
    const size_t hd = work->head_dim;
    /* Row r sees positions last - r .. last - r + n - 1. */
    const size_t last = work->n - 1 - work->first, begin = (last - (work->n_rows - 1)) / LANES;
    int n;

    for (size_t g = begin * LANES; g < last + work->n; g += LANES) {
        for (size_t r = 0; r < work->n_rows; r += n) {
            n = wide_count(work->n_rows - r);
            wide_scores(n, work->p + g * hd, work->pd + g, s->qp[r], hd / 2, s->some[r], LANES);
        }
        for (size_t r = 0; r < work->n_rows; r++) {
            float *const score = s->score[r] + WIDE_BEFORE + g + r - last;

            vf_store(score, vf_fma(vf_load(score), vf_set1(d[r]),
                                   vf_mul(vf_load(s->some[r]), vf_set1(dp[r]))));
        }
    }
}

/* Turn the scores of row r into p; d: what a score is in powers of 2. */
static void wide_soften(struct wide_scratch *s, size_t r, size_t n, float d, float largest)
{
    const float *const scores = s->score[r] + WIDE_BEFORE;
    vf max = vf_set1(-FLT_MAX), lane = vf_zero();
    vf top;

    for (size_t k = 0; k < n; k += LANES) {
        const vf score = vf_load(scores + k);

        max = vf_max(max, n - k >= LANES ? score
                                         : vf_in_range(score, 0, n - k, vf_set1(-FLT_MAX)));
    }
    top = vf_set1(vf_max_lane(max));
    for (size_t k = 0; k < n; k += LANES) {
        const vf score = vf_mul(vf_sub(vf_load(scores + k), top), vf_set1(d));
        const vf p = keep_some(exp2_poly(score), n - k);

        lane = vf_add(lane, p);
        vi_store_i16(s->p[k / WIDE_BLOCK][r] + k % WIDE_BLOCK,
                     vi_round(vf_mul(p, vf_load(s->unit + k))));
    }
    s->scale[r] = largest / WIDE_MAX / vf_sum(lane);
}

ALWAYS void wide_values_n(int n, const int16_t *v, const int16_t *p, size_t pairs, bool first,
                          float (*acc)[LANES])
{
    vi sum[VEC_WIDE_ROWS];

    wide_dots(v, p, pairs, n, sum);
    UNROLL for (int i = 0; i < n; i++)
        vf_store(acc[i], vf_add(first ? vf_zero() : vf_load(acc[i]), vf_from_vi(sum[i])));
}

APART void wide_values(int n, const int16_t *v, const int16_t *p, size_t pairs, bool first,
                       float (*acc)[LANES])
{
    WIDE_COUNTS(n, wide_values_n, v, p, pairs, first, acc);
}

static void wide_attend(const struct attend_wide_work *work, void *scratch)
{
    struct wide_scratch *const s = scratch;
    const size_t hd = work->head_dim, n_padded = round_up(work->n, LANES);
    const float unit_score = LOG2E / sqrtf((float)hd);
    float d[ACT_TILE], dp[ACT_TILE], largest;
    vf most = vf_zero();
    int n;

    for (size_t k = 0; k < n_padded; k += LANES)
        most = vf_max(most, vf_load(work->vd + k));
    largest = vf_max_lane(most);
    for (size_t k = 0; k < n_padded; k += LANES)
        vf_store(s->unit + k,
                 vf_mul(vf_load(work->vd + k), vf_set1(largest > 0 ? WIDE_MAX / largest : 0)));

    for (size_t r = 0; r < work->n_rows; r++) {
        d[r] = quantise_wide(work->q + r * work->stride, hd, WIDE_MAX, s->q[r]) * unit_score;
        if (work->p)
            dp[r] = quantise_wide(work->qp + r * work->stride, hd, WIDE_MAX, s->qp[r]) * unit_score;
    }
    for (size_t k = 0; k < n_padded; k += LANES) {
        for (size_t r = 0; r < work->n_rows; r += n) {
            n = wide_count(work->n_rows - r);
            wide_scores(n, work->k + k * hd, work->kd + k, s->q[r], hd / 2,
                        s->score[r] + WIDE_BEFORE + k, WIDE_SCORES);
        }
    }
    if (work->p)
        wide_relative(work, s, d, dp);
    for (size_t r = 0; r < work->n_rows; r++)
        wide_soften(s, r, work->n, work->p ? 1 : d[r], largest);

    for (size_t i = 0; i < hd; i += LANES) {
        for (size_t k = 0; k < n_padded; k += WIDE_BLOCK) {
            for (size_t r = 0; r < work->n_rows; r += n) {
                n = wide_count(work->n_rows - r);
                wide_values(n, work->v + i * n_padded + k * LANES, s->p[k / WIDE_BLOCK][r],
                            MIN(n_padded - k, (size_t)WIDE_BLOCK) / 2, k == 0, s->acc + r);
            }
        }
        for (size_t r = 0; r < work->n_rows; r++)
            store_some(work->out + r * work->stride + i,
                       vf_mul(vf_load(s->acc[r]), vf_set1(s->scale[r])), hd - i);
    }
}

_Static_assert(sizeof(struct wide_scratch) <= POOL_SCRATCH_BYTES, "scratch is too small");
_Static_assert(sizeof(struct attend_scratch) <= POOL_SCRATCH_BYTES, "scratch is too small");
_Static_assert(ACT_TILE % PANEL_POSITIONS == 0 && ATTEND_TILE % VEC_ROWS_MAX == 0, "whole tiles");

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .supported = supported,
    .bytes_are_slow = VP_STEPS(8) < 8,
    .quantise = quantise,
    .product = product,
    .quantise_wide = quantise_wide,
    .product_wide = product_wide,
    .attend_wide = wide_attend,
    .dot_f32 = dot_f32,
    .rmsnorm = rmsnorm,
    .layernorm = layernorm,
    .silu_mul = silu_mul,
    .sigmoid_mul = sigmoid_mul,
    .gelu_tanh = gelu_tanh,
    .gelu_erf = gelu_erf,
    .elu = elu,
    .add = add,
    .add_scaled = add_scaled,
    .weighted_sum = weighted_sum,
    .rope_half = rope_half,
    .shortconv = shortconv,
    .attend = attend_work,
};
