/* SPDX-License-Identifier: MIT */

/*
 * Feed-forward network (text.md 5):  y = down · (silu(gate · h) * (up · h))
 */

#include "base/cleanup.h"
#include "lfm2/steps.h"
#include "tensor/ops.h"

struct gate_job {
    float *gate;
    const float *up;
    size_t width;
};

static void gate_rows(void *context, size_t first, size_t last, unsigned worker, void *scratch)
{
    const struct gate_job *job = context;

    (void)worker;
    (void)scratch;
    for (size_t t = first; t < last; t++)
        op_silu_mul(job->gate + t * job->width, job->up + t * job->width, job->width);
}

static void some_rows(const struct lfm2_pass *pass, const struct lfm2_ffn *ffn, const float *h,
                      size_t n, float *y)
{
    struct lfm2_workspace *ws = pass->workspace;
    const size_t width = ffn->gate.out;
    float *gate = ws->wide;
    float *up = gate + n * width;
    struct gate_job job = {.gate = gate, .up = up, .width = width};

    rows_set(&ws->rows, h, n, ffn->gate.in, pass->pool);
    matmul_n((const struct matrix *const[]){&ffn->gate, &ffn->up}, (float *const[]){gate, up}, 2,
             &ws->rows, pass->pool);
    pool_run(pass->pool, gate_rows, &job, n, 4);
    rows_set(&ws->rows, gate, n, width, pass->pool);
    matmul(&ffn->down, &ws->rows, y, pass->pool);
}

void lfm2_swiglu(const struct lfm2_pass *pass, const struct lfm2_ffn *ffn, const float *h, size_t n,
                 float *y)
{
    const size_t n_embd = ffn->gate.in;

    for (size_t t = 0; t < n; t += LFM2_FFN_ROWS)
        some_rows(pass, ffn, h + t * n_embd, MIN(n - t, (size_t)LFM2_FFN_ROWS), y + t * n_embd);
}
