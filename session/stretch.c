/* SPDX-License-Identifier: MIT */
#include "session/stretch.h"

#include <errno.h>
#include <sonic.h>

/* The library's own stream is all there is to it. */
struct stretch;

static sonicStream sonic(struct stretch *stretch)
{
    return (sonicStream)(void *)stretch;
}

struct stretch *stretch_new(unsigned rate_hz, struct error *err)
{
    sonicStream stream = sonicCreateStream((int)rate_hz, 1);

    if (!stream)
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a voice.");
    return (struct stretch *)(void *)stream;
}

struct stretch *stretch_free(struct stretch *stretch)
{
    if (stretch)
        sonicDestroyStream(sonic(stretch));
    return NULL;
}

void stretch_set(struct stretch *stretch, const struct script_style *style)
{
    sonicSetSpeed(sonic(stretch), style->rate);
    sonicSetPitch(sonic(stretch), style->pitch);
    sonicSetVolume(sonic(stretch), style->volume);
}

int stretch_push(struct stretch *stretch, const int16_t *samples, size_t n)
{
    return sonicWriteShortToStream(sonic(stretch), (int16_t *)(uintptr_t)samples, (int)n) ? 0
                                                                                          : -ENOMEM;
}

int stretch_flush(struct stretch *stretch)
{
    return sonicFlushStream(sonic(stretch)) ? 0 : -ENOMEM;
}

size_t stretch_read(struct stretch *stretch, int16_t *samples, size_t n)
{
    const int read = sonicReadShortFromStream(sonic(stretch), samples, (int)n);

    return read > 0 ? (size_t)read : 0;
}
