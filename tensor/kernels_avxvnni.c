/* SPDX-License-Identifier: MIT */
/* AVX2 with AVX-VNNI: Intel from Alder Lake on, AMD from Zen 5 on. */
#define VEC_AVX_VNNI
#include "tensor/vec_avx2.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c") && __builtin_cpu_supports("avxvnni");
}

#define KERNELS      kernels_avxvnni
#define KERNELS_NAME "avxvnni"
#include "tensor/kernels_body.h"
