/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What lfmd-image leaves in its output, a memfd: this struct at 0, the pixels at
 * RESULT_PIXELS_OFFSET, which is a page boundary for every page size. The reader trusts none of it.
 */

#include <stdint.h>

#include "base/error.h"

#define RESULT_PIXELS_OFFSET 65536

struct result {
    struct error error; /* ERROR_NONE: there are pixels */
    uint32_t width, height;
};
