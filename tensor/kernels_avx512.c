/* SPDX-License-Identifier: MIT */
/* AVX-512 with VNNI: Intel from Cascade Lake and Ice Lake on, AMD from Zen 4 on. */
#include "tensor/cpu_x86.h"
#include "tensor/vec_avx512.h"

static bool supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && cpu_has_f16c() &&
           __builtin_cpu_supports("fma");
}

#define KERNELS      kernels_avx512
#define KERNELS_NAME "avx512"
#include "tensor/kernels_body.h"
