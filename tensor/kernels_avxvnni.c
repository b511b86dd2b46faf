/* SPDX-License-Identifier: MIT */
/* AVX2 with AVX-VNNI: Intel from Alder Lake on, AMD from Zen 5 on. */
#define VEC_AVX_VNNI
#include "tensor/cpu_x86.h"
#include "tensor/vec_avx2.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           cpu_has_f16c() && cpu_has_avxvnni();
}

#define KERNELS      kernels_avxvnni
#define KERNELS_NAME "avxvnni"
#include "tensor/kernels_body.h"
