/* SPDX-License-Identifier: MIT */
/*
 * Proves attention against a plain softmax in double, and that chunks and threads change no bit,
 * for every cache type, window and direction.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tensor/attend.h"
#include "tensor/kernels.h"

#include "random.h"

struct fixture {
    struct attend job;
    float *k, *v; /* [n_kv][n_head_kv][head_dim], what was stored */
};

static void setup_cache(struct fixture *f, enum kv_type type, size_t n_head, size_t n_head_kv,
                        size_t hd, size_t n_kv)
{
    const size_t stride = kv_bytes(type, hd, n_kv + 5);
    unsigned char *const k = aligned_alloc(64, stride * n_head_kv);
    unsigned char *const v = aligned_alloc(64, stride * n_head_kv);
    float *const q = malloc(n_kv * n_head * hd * sizeof(float));

    random_state = 4711;
    memset(k, 0, stride * n_head_kv);
    memset(v, 0, stride * n_head_kv);
    f->k = malloc(n_kv * n_head_kv * hd * sizeof(float));
    f->v = malloc(n_kv * n_head_kv * hd * sizeof(float));
    random_row(f->k, n_kv * n_head_kv * hd);
    random_row(f->v, n_kv * n_head_kv * hd);
    random_row(q, n_kv * n_head * hd);
    for (size_t i = 0; i < n_kv * n_head * hd; i++)
        q[i] *= 3;
    for (size_t h = 0; h < n_head_kv; h++) {
        const size_t part = n_kv / 3; /* in two pieces, as chunks come */

        kv_store_k(type, f->k + h * hd, part, n_head_kv * hd, hd, k + h * stride, 0);
        kv_store_k(type, f->k + (part * n_head_kv + h) * hd, n_kv - part, n_head_kv * hd, hd,
                   k + h * stride, part);
        kv_store_v(type, f->v + h * hd, part, n_head_kv * hd, hd, v + h * stride, 0);
        kv_store_v(type, f->v + (part * n_head_kv + h) * hd, n_kv - part, n_head_kv * hd, hd,
                   v + h * stride, part);
    }
    f->job = (struct attend){
        .type = type, .n_head = n_head, .n_head_kv = n_head_kv, .head_dim = hd, .q = q, .n = n_kv,
        .k = k, .v = v, .n_kv = n_kv, .stride_bytes = stride, .causal = true,
        .out = malloc(n_kv * n_head * hd * sizeof(float)),
    };
}

static void teardown_cache(struct fixture *f)
{
    free((void *)f->job.q);
    free((void *)f->job.k);
    free((void *)f->job.v);
    free(f->job.out);
    free(f->k);
    free(f->v);
}

/* The largest deviation from softmax(q k / sqrt(hd)) v. */
static double deviation(const struct fixture *f)
{
    const struct attend *const a = &f->job;
    const size_t hd = a->head_dim, nkv = a->n_head_kv;
    double worst = 0, *const p = malloc(a->n_kv * sizeof(double));

    for (size_t t = 0; t < a->n; t++) {
        const size_t end = a->causal ? t + 1 : a->n_kv;
        const size_t begin = a->window && t + 1 > a->window ? t + 1 - a->window : 0;

        for (size_t h = 0; h < a->n_head; h++) {
            const size_t kv = h / (a->n_head / nkv);
            double sum = 0;

            for (size_t j = begin; j < end; j++) {
                double s = 0;

                for (size_t i = 0; i < hd; i++)
                    s += (double)a->q[(t * a->n_head + h) * hd + i] *
                         (double)f->k[(j * nkv + kv) * hd + i];
                p[j] = exp(s / sqrt((double)hd));
                sum += p[j];
            }
            for (size_t i = 0; i < hd; i++) {
                double o = 0;

                for (size_t j = begin; j < end; j++)
                    o += p[j] * (double)f->v[(j * nkv + kv) * hd + i];
                worst = fmax(worst, fabs(o / sum - (double)a->out[(t * a->n_head + h) * hd + i]));
            }
        }
    }
    free(p);
    return worst;
}

static const double tolerance[] = {[KV_F32] = 3e-6, [KV_F16] = 2e-3, [KV_Q8_0] = 2e-2};

static void check(enum kv_type type, size_t n_head, size_t n_head_kv, size_t hd, size_t n,
                  size_t window, bool causal)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(3, &err), *alone = pool_new(1, &err);
    struct fixture f;
    float *whole;
    double worst;
    const size_t size = n * n_head * hd * sizeof(float);

    setup_cache(&f, type, n_head, n_head_kv, hd, n);
    f.job.window = window;
    f.job.causal = causal;
    attend(&f.job, pool);
    worst = deviation(&f);
    if (!(worst <= tolerance[type]))
        fail_msg("type %d, heads %zu/%zu of %zu, %zu queries: deviates by %g", type, n_head,
                 n_head_kv, hd, n, worst);

    /* Query by query, as decode does; the keys that come later are already there. */
    whole = malloc(size);
    memcpy(whole, f.job.out, size);
    memset(f.job.out, 0, size);
    for (size_t t = 0, step = 1; t < n; t += step, step = 1 + t % 5) {
        struct attend part = f.job;

        part.n = MIN(step, n - t);
        part.first = t;
        part.q += t * n_head * hd;
        part.out += t * n_head * hd;
        if (causal)
            part.n_kv = t + part.n;
        attend(&part, alone);
    }
    assert_memory_equal(whole, f.job.out, size);
    free(whole);
    teardown_cache(&f);
    pool_free(pool);
    pool_free(alone);
}

static void test_attention_is_softmax_and_chunks_change_no_bit(void **state)
{
    const struct kernels *rows[8];
    const size_t n_rows = kernels_list(rows, 8);

    (void)state;
    for (size_t r = 0; r < n_rows; r++) {
        kernels_force(rows[r]);
        for (int type = KV_F32; type <= KV_Q8_0; type++) {
            check(type, 4, 2, 64, 1, 0, true);
            check(type, 6, 2, 32, 150, 0, true);
            check(type, 4, 1, 64, 133, 0, true);
            check(type, 2, 2, 128, 70, 0, true);
            check(type, 4, 2, 32, 200, 37, true);
            check(type, 3, 3, 96, 75, 0, false);
        }
        check(KV_F32, 2, 2, 72, 90, 0, false);
        check(KV_F16, 26, 2, 8, 40, 3, true);
    }
    kernels_force(NULL);
}

static void test_attention_of_an_encoder_is_softmax(void **state)
{
    static const struct {
        size_t n_head, head_dim, n;
    } cases[] = {{1, 8, 1}, {2, 72, 5}, {3, 64, 70}, {1, 256, 33}, {2, 72, 530}};
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(3, &err), *alone = pool_new(1, &err);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const size_t n = cases[i].n, n_head = cases[i].n_head, hd = cases[i].head_dim;
        const size_t size = n * n_head * hd * sizeof(float);
        struct fixture f;
        struct attend_wide job;
        double worst;

        setup_cache(&f, KV_F32, n_head, n_head, hd, n);
        f.job.causal = false;
        job = (struct attend_wide){
            .n_head = n_head,
            .head_dim = hd,
            .q = f.job.q,
            .k = f.k,
            .v = f.v,
            .n = n,
            .memory = aligned_alloc(64, attend_wide_bytes(n, n_head, hd, false)),
            .out = f.job.out,
        };
        attend_wide(&job, pool);
        worst = deviation(&f);
        if (!(worst <= 3e-3))
            fail_msg("%zu heads of %zu, %zu rows: deviates by %g", n_head, hd, n, worst);

        job.out = malloc(size);
        attend_wide(&job, alone);
        assert_memory_equal(job.out, f.job.out, size);
        free(job.out);
        free(job.memory);
        teardown_cache(&f);
    }
    pool_free(pool);
    pool_free(alone);
}

/* Transformer-XL's formula in double. */
static void relative_reference(const struct attend_wide *job, float *out)
{
    const size_t n = job->n, hd = job->head_dim, stride = job->n_head * hd;
    double *const score = malloc(n * sizeof(*score));

    for (size_t h = 0; h < job->n_head; h++)
        for (size_t i = 0; i < n; i++) {
            const size_t at = i * stride + h * hd;
            double max = -INFINITY, sum = 0;

            for (size_t j = 0; j < n; j++) {
                score[j] = 0;
                for (size_t c = 0; c < hd; c++)
                    score[j] += (double)job->q[at + c] * (double)job->k[j * stride + h * hd + c] +
                                (double)job->qp[at + c] *
                                    (double)job->p[(n - 1 + j - i) * stride + h * hd + c];
                score[j] /= sqrt((double)hd);
                max = MAX(max, score[j]);
            }
            for (size_t j = 0; j < n; j++)
                sum += score[j] = exp(score[j] - max);
            for (size_t c = 0; c < hd; c++) {
                double value = 0;

                for (size_t j = 0; j < n; j++)
                    value += score[j] / sum * (double)job->v[j * stride + h * hd + c];
                out[at + c] = (float)value;
            }
        }
    free(score);
}

static void test_relative_positions_are_those_of_the_formula(void **state)
{
    static const struct {
        size_t n_head, head_dim, n;
    } cases[] = {{1, 8, 1}, {2, 16, 2}, {2, 64, 15}, {1, 256, 33}, {3, 72, 61}, {8, 64, 130}};
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(3, &err), *alone = pool_new(1, &err);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const size_t n = cases[i].n, width = cases[i].n_head * cases[i].head_dim;
        float *const values = malloc((9 * n - 1) * width * sizeof(float));
        float *const expected = values + (6 * n - 1) * width, *const again = expected + n * width;
        const struct attend_wide job = {
            .n_head = cases[i].n_head,
            .head_dim = cases[i].head_dim,
            .q = values,
            .k = values + n * width,
            .v = values + 2 * n * width,
            .qp = values + 3 * n * width,
            .p = values + 4 * n * width,
            .n = n,
            .memory = aligned_alloc(64, attend_wide_bytes(n, cases[i].n_head, cases[i].head_dim,
                                                          true) / 64 * 64 + 64),
            .out = again + n * width,
        };
        const size_t size = n * width * sizeof(float);
        double worst[2] = {0};

        random_row(values, (6 * n - 1) * width);
        relative_reference(&job, expected);
        for (int wide = 0; wide < 2; wide++) {
            void (*const function)(const struct attend_wide *, struct pool *) =
                wide ? attend_wide : attend_relative;

            function(&job, alone);
            memcpy(again, job.out, size);
            function(&job, pool);
            assert_memory_equal(again, job.out, size);
            for (size_t k = 0; k < n * width; k++)
                worst[wide] =
                    MAX(worst[wide], fabs((double)job.out[k] - (double)expected[k]));
        }
        if (!(worst[0] <= 1e-5) || !(worst[1] <= 5e-3))
            fail_msg("%zu heads of %zu, %zu rows: deviates by %g, wide by %g", cases[i].n_head,
                     cases[i].head_dim, n, worst[0], worst[1]);
        free(job.memory);
        free(values);
    }
    pool_free(pool);
    pool_free(alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_is_softmax_and_chunks_change_no_bit),
        cmocka_unit_test(test_attention_of_an_encoder_is_softmax),
        cmocka_unit_test(test_relative_positions_are_those_of_the_formula),
    };

    return cmocka_run_group_tests_name("attend", tests, NULL, NULL);
}
