/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/kernels.h"

/* Slowest first. */
static const struct kernels *const rows[] = {
    &kernels_ref,
#ifdef HAVE_AVX2
    &kernels_avx2,
#endif
#ifdef HAVE_AVXVNNI
    &kernels_avxvnni,
#endif
#ifdef HAVE_AVX512
    &kernels_avx512,
#endif
#ifdef HAVE_NEON
    &kernels_neon,
#endif
#ifdef HAVE_NEON_I8MM
    &kernels_neon_i8mm,
#endif
};

static _Atomic(const struct kernels *) chosen;

size_t kernels_list(const struct kernels **ret, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(rows) && n < max; i++) {
        if (rows[i]->supported())
            ret[n++] = rows[i];
    }
    return n;
}

static const struct kernels *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i]->name, name) == 0 && rows[i]->supported())
            return rows[i];
    }
    return NULL;
}

int kernels_check(struct error *err)
{
    const char *const name = getenv("LFMD_KERNELS");
    char names[128] = "";

    if (!name || !*name || find(name))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const size_t length = strlen(names);

        if (rows[i]->supported())
            snprintf(names + length, sizeof(names) - length, "%s%s", length ? ", " : "",
                     rows[i]->name);
    }
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "LFMD_KERNELS names the kernels \"%.32s\", but this CPU and build have: %s.",
                     name, names);
}

const struct kernels *kernels(void)
{
    const struct kernels *row = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (!row) {
        const char *const name = getenv("LFMD_KERNELS");

        row = name ? find(name) : NULL;
        for (size_t i = ARRAY_LEN(rows); !row; i--)
            row = rows[i - 1]->supported() ? rows[i - 1] : NULL;
        atomic_store_explicit(&chosen, row, memory_order_relaxed);
    }
    return row;
}

void kernels_force(const struct kernels *row)
{
    atomic_store_explicit(&chosen, row, memory_order_relaxed);
}
