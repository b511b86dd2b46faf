/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Two questions that clang's __builtin_cpu_supports() does not know before version 19. Whether the
 * system saves the wide registers is what "avx2", which must be asked for too, says.
 */

#include <cpuid.h>
#include <stdbool.h>

static inline bool cpu_has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & bit_F16C;
}

static inline bool cpu_has_avxvnni(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && eax & 1u << 4;
}
