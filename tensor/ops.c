/* SPDX-License-Identifier: MIT */
#include "tensor/ops.h"

#include <math.h>

#include "tensor/kernels.h"

void op_rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
    kernels()->rmsnorm(x, w, n, eps, out);
}

void op_layernorm(const float *x, const float *w, const float *b, size_t n, float eps, float *out)
{
    kernels()->layernorm(x, w, b, n, eps, out);
}

void op_gelu_tanh(float *x, const float *bias, size_t n)
{
    kernels()->gelu_tanh(x, bias, n);
}

void op_gelu_erf(float *x, const float *bias, size_t n)
{
    kernels()->gelu_erf(x, bias, n);
}

void op_elu(float *x, size_t n)
{
    kernels()->elu(x, n);
}

void op_silu_mul(float *gate, const float *up, size_t n)
{
    kernels()->silu_mul(gate, up, n);
}

void op_sigmoid_mul(float *x, const float *gate, size_t n)
{
    kernels()->sigmoid_mul(x, gate, n);
}

void op_add(float *x, const float *y, size_t n)
{
    kernels()->add(x, y, n);
}

void op_add_scaled(float *x, const float *y, float scale, size_t n)
{
    kernels()->add_scaled(x, y, scale, n);
}

void op_weighted_sum(const float *const *rows, const float *weights, size_t n_rows,
                     const float *bias, size_t n, float *out)
{
    kernels()->weighted_sum(rows, weights, n_rows, bias, n, out);
}

void op_rope_half(float *head, size_t hd, const float *cos, const float *sin)
{
    kernels()->rope_half(head, hd, cos, sin);
}

void op_rope_adjacent(float *head, size_t hd, const float *cos, const float *sin)
{
    for (size_t i = 0; i < hd / 2; i++) {
        const float a = head[2 * i], b = head[2 * i + 1];

        head[2 * i] = a * cos[i] - b * sin[i];
        head[2 * i + 1] = a * sin[i] + b * cos[i];
    }
}

void op_rope_table(size_t pos, size_t hd, float theta, float *ret_cos, float *ret_sin)
{
    for (size_t i = 0; i < hd / 2; i++) {
        const double angle = (double)pos * pow((double)theta, -2.0 * (double)i / (double)hd);

        ret_cos[i] = (float)cos(angle);
        ret_sin[i] = (float)sin(angle);
    }
}

void op_shortconv(const float *bcx, const float *taps, float *state, size_t n, size_t h, size_t l,
                  size_t first, size_t last, float *out)
{
    kernels()->shortconv(bcx, taps, state, n, h, l, first, last, out);
}
