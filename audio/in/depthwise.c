/* SPDX-License-Identifier: MIT */
#include "audio/in/depthwise.h"

#include "tensor/ops.h"

bool depthwise_load(struct loader *loader, const char *name, const uint64_t ne[GGUF_DIMS_MAX],
                    const uint64_t bias_ne[GGUF_DIMS_MAX], size_t n_taps, size_t n_channels,
                    const struct layer_norm *then, struct depthwise *ret)
{
    const float *in_file = NULL, *bias_in_file = NULL;
    float *taps, *bias;
    char full[64];

    if (!loader_values(loader, loader_name(full, "%s.weight", name), ne, &in_file) ||
        !loader_values(loader, loader_name(full, "%s.bias", name), bias_ne, &bias_in_file))
        return false;
    taps = loader_take(loader, n_taps * n_channels * sizeof(*taps));
    bias = loader_take(loader, n_channels * sizeof(*bias));
    *ret = (struct depthwise){n_taps, n_channels, taps, bias};
    for (size_t c = 0; taps && bias && c < n_channels; c++) {
        const float w = then ? then->w[c] : 1, b = then ? then->b[c] : 0;

        for (size_t k = 0; k < n_taps; k++)
            taps[k * n_channels + c] = in_file[c * n_taps + k] * w;
        bias[c] = bias_in_file[c] * w + b;
    }
    return true;
}

void depthwise_row(const struct depthwise *depthwise, const float *const *rows, float *out)
{
    op_weighted_sum(rows, depthwise->taps, depthwise->n_taps, depthwise->bias,
                    depthwise->n_channels, out);
}
