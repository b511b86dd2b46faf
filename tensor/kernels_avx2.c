/* SPDX-License-Identifier: MIT */
/* AVX2 with FMA and F16C: x86 processors from 2013 on. */
#include "tensor/cpu_x86.h"
#include "tensor/vec_avx2.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           cpu_has_f16c();
}

#define KERNELS      kernels_avx2
#define KERNELS_NAME "avx2"
#include "tensor/kernels_body.h"
