/* SPDX-License-Identifier: MIT */
/* NEON with SDOT and SMMLA: Arm processors from Cortex-A710, Neoverse V1 and N2, and Apple M2
 * on. */
#include <sys/auxv.h>

#define VEC_I8MM
#include "tensor/vec_neon.h"

static bool supported(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
}

#define KERNELS      kernels_neon_i8mm
#define KERNELS_NAME "neon_i8mm"
#include "tensor/kernels_body.h"
