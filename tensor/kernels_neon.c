/* SPDX-License-Identifier: MIT */
/* NEON with SDOT: Arm processors from Cortex-A76, Neoverse N1 and Apple M1 on. */
#include <sys/auxv.h>

#include "tensor/vec_neon.h"

static bool supported(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

#define KERNELS      kernels_neon
#define KERNELS_NAME "neon"
#include "tensor/kernels_body.h"
