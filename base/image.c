/* SPDX-License-Identifier: MIT */
#include "base/image.h"

#include <stdlib.h>
#include <sys/mman.h>

void image_done(struct image *image)
{
    if (image->map_bytes > 0)
        munmap(image->rgb, image->map_bytes);
    else
        free(image->rgb);
    *image = (struct image){0};
}
