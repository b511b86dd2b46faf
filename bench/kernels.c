/* SPDX-License-Identifier: MIT */
/*
 * Times the products of weight matrices and attention, for every row of kernels that this CPU has:
 *
 *     bench-kernels [-t THREADS] [-k ROW] [product|wide|attend]
 *
 * One position reads each weight once, so GB/s is its figure; 512 positions are arithmetic, so
 * Gop/s (a multiplication and an addition are two) is theirs. Shares are of the limits measured on
 * a Zen 4 server core: 35 GB/s and 473 Gop/s of int8 for each thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/kernels.h"
#include "tensor/matrix.h"

#define WINDOW    8 /* products of one timing */
#define ROOF_GBS  35.0
#define ROOF_GOPS 473.0

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fill(void *p, size_t size)
{
    unsigned char *const bytes = p;
    uint64_t x = 88172645463325252ull;

    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes[i] = (unsigned char)x & 0x3f; /* halves stay finite, floats stay small */
    }
}

/* Best time of one product of n positions; enough matrices that weights come from memory. */
static void bench_product(enum dtype type, enum matrix_form form, size_t in, size_t out, size_t n,
                          struct pool *pool, const char *row)
{
    const size_t size = out * dtype_row_bytes(type, in);
    const size_t n_matrices =
        n <= 8 ? MAX((size_t)400000000 / size / WINDOW * WINDOW, (size_t)1) : 1;
    void *const blocks = malloc(size);
    float *const x = malloc(n * in * sizeof(float)), *const y = malloc(n * out * sizeof(float));
    const struct gguf_tensor tensor = {.type = type, .n_dims = 2, .ne = {in, out, 1, 1},
                                       .data = blocks, .size_bytes = size};
    struct matrix *const matrices = calloc(n_matrices, sizeof(*matrices));
    struct error err = ERROR_INIT;
    struct arena arena;
    struct rows rows;
    double best = 1e30, threads = pool_n_threads(pool), gops, gbs;

    fill(blocks, size);
    for (size_t i = 0; i < n * in; i++)
        x[i] = (float)(i % 17) - 8;
    if (arena_init(&arena,
                   n_matrices * matrix_plan(&tensor, form) +
                       rows_plan(form, rows_values(form, n, in)),
                   "the benchmark", &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    for (size_t i = 0; i < n_matrices; i++)
        matrix_load(&matrices[i], &tensor, 0, form, &arena, pool);
    rows_init(&rows, form, rows_values(form, n, in), &arena);
    rows_set(&rows, x, n, in, pool);
    for (double start = now(); now() - start < 0.7;) {
        /* Short windows fall between the disturbances of a machine that others use as well. */
        for (size_t i = 0; i < n_matrices; i += WINDOW) {
            const size_t end = MIN(i + WINDOW, n_matrices);
            const double t = now();

            for (size_t j = i; j < end; j++)
                matmul(&matrices[j], &rows, y, pool);
            best = MIN(best, (now() - t) / (double)(end - i));
        }
    }
    gops = 2e-9 * (double)in * (double)out * (double)n / best;
    gbs = 1e-9 * (double)matrices[0].size_bytes / best;
    if (n <= 8)
        printf("%-7s %-6s %5zu x %-6zu n %-4zu %8.1f us %7.1f GB/s  %3.0f %%\n", row,
               dtype_name(type), in, out, n, best * 1e6, gbs, 100 * gbs / ROOF_GBS / threads);
    else
        printf("%-7s %-6s %5zu x %-6zu n %-4zu %8.1f us %7.1f Gop/s %3.0f %%\n", row,
               form == MATRIX_WIDE ? "wide" : dtype_name(type), in, out, n, best * 1e6, gops,
               100 * gops / ROOF_GOPS / threads);
    fflush(stdout);
    arena_done(&arena);
    free(matrices);
    free(x);
    free(y);
    free(blocks);
}

static void bench_attend(enum kv_type type, size_t n, size_t n_kv, struct pool *pool,
                         const char *row)
{
    static const char *const names[] = {"f32", "f16", "q8_0"};
    const size_t nh = 16, nkv = 8, hd = 64, stride = kv_bytes(type, hd, n_kv);
    void *const k = aligned_alloc(64, stride * nkv), *const v = aligned_alloc(64, stride * nkv);
    float *const q = malloc(n * nh * hd * sizeof(float));
    float *const out = malloc(n * nh * hd * sizeof(float)), *const rows = malloc(nkv * hd * 4);
    const struct attend job = {
        .type = type, .n_head = nh, .n_head_kv = nkv, .head_dim = hd, .q = q, .n = n,
        .first = n_kv - n, .k = k, .v = v, .n_kv = n_kv, .stride_bytes = stride, .causal = true,
        .out = out,
    };
    double best = 1e30, gops, gbs;

    for (size_t i = 0; i < nkv * hd; i++)
        rows[i] = (float)(i % 13) * 0.1f - 0.6f;
    for (size_t i = 0; i < n * nh * hd; i++)
        q[i] = (float)(i % 11) * 0.1f - 0.5f;
    for (size_t p = 0; p < n_kv; p++) {
        for (size_t h = 0; h < nkv; h++) {
            kv_store_k(type, rows + h * hd, 1, hd, hd, (char *)k + h * stride, p);
            kv_store_v(type, rows + h * hd, 1, hd, hd, (char *)v + h * stride, p);
        }
    }
    for (double start = now(); now() - start < 0.5;) {
        const double t = now();

        attend(&job, pool);
        best = MIN(best, now() - t);
    }
    gbs = 2e-9 * (double)stride * (double)nkv / best;
    gops = 4e-9 * (double)nh * (double)hd * (double)n * ((double)n_kv - 0.5 * (double)n) / best;
    printf("%-7s attend %-4s n %-4zu of %-5zu %8.1f us %7.1f GB/s %7.1f Gop/s\n", row, names[type],
           n, n_kv, best * 1e6, gbs, gops);
    fflush(stdout);
    free(k);
    free(v);
    free(q);
    free(out);
    free(rows);
}

static void bench_attend_wide(size_t n_head, size_t hd, size_t n, struct pool *pool,
                              const char *row)
{
    const size_t size = n * n_head * hd;
    float *const values = malloc(4 * size * sizeof(float));
    void *const memory = aligned_alloc(64, attend_wide_bytes(n, n_head, hd, false));
    const struct attend_wide job = {
        .n_head = n_head, .head_dim = hd, .q = values, .k = values + size, .v = values + 2 * size,
        .n = n, .memory = memory, .out = values + 3 * size,
    };
    double best = 1e30;

    for (size_t i = 0; i < 3 * size; i++)
        values[i] = (float)(i % 13) * 0.1f - 0.6f;
    for (double start = now(); now() - start < 0.5;) {
        const double t = now();

        attend_wide(&job, pool);
        best = MIN(best, now() - t);
    }
    printf("%-7s attend wide n %-4zu heads of %-3zu %8.1f us %7.1f Gop/s\n", row, n, hd, best * 1e6,
           4e-9 * (double)size * (double)n / best);
    fflush(stdout);
    free(values);
    free(memory);
}

int main(int argc, char **argv)
{
    static const enum dtype types[] = {DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q8_0, DTYPE_Q5_K,
                                       DTYPE_F16,  DTYPE_BF16, DTYPE_F32};
    const struct kernels *rows[8];
    const size_t n_rows = kernels_list(rows, ARRAY_LEN(rows));
    const char *only = NULL, *what = NULL;
    struct error err = ERROR_INIT;
    struct pool *pool;
    unsigned n_threads = 1;
    size_t n_types = ARRAY_LEN(types);
    int option;

    while ((option = getopt(argc, argv, "t:k:q")) != -1) {
        if (option == 't')
            n_threads = (unsigned)strtoul(optarg, NULL, 10);
        else if (option == 'k')
            only = optarg;
        else if (option == 'q')
            n_types = 4;
        else
            return 2;
    }
    if (optind < argc)
        what = argv[optind];
    pool = pool_new(n_threads, &err);
    if (!pool) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (size_t i = n_rows; i-- > 0;) {
        if (only ? strcmp(only, rows[i]->name) != 0 : rows[i] == &kernels_ref)
            continue;
        kernels_force(rows[i]);
        for (size_t t = 0; t < n_types && (!what || strcmp(what, "product") == 0); t++) {
            bench_product(types[t], MATRIX_FAST, 1024, 4608, 1, pool, rows[i]->name);
            bench_product(types[t], MATRIX_FAST, 1024, 4608, 4, pool, rows[i]->name);
            bench_product(types[t], MATRIX_FAST, 1024, 4608, 512, pool, rows[i]->name);
            bench_product(types[t], MATRIX_FAST, 4608, 1024, 512, pool, rows[i]->name);
        }
        if (!what || strcmp(what, "wide") == 0) {
            bench_product(DTYPE_F16, MATRIX_WIDE, 768, 768, 1024, pool, rows[i]->name);
            bench_product(DTYPE_F16, MATRIX_WIDE, 768, 3072, 1024, pool, rows[i]->name);
            bench_product(DTYPE_F16, MATRIX_WIDE, 4304, 1152, 1024, pool, rows[i]->name);
            bench_attend_wide(12, 64, 1024, pool, rows[i]->name);
            bench_attend_wide(16, 72, 1024, pool, rows[i]->name);
        }
        for (int type = KV_F32; type <= KV_Q8_0 && (!what || strcmp(what, "attend") == 0); type++) {
            bench_attend(type, 1, 4096, pool, rows[i]->name);
            bench_attend(type, 512, 512, pool, rows[i]->name);
        }
    }
    pool_free(pool);
    return 0;
}
