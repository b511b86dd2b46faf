/* SPDX-License-Identifier: MIT */

/*
 * What a decoder of sound says that somebody has taken over: any bytes in the place of its pieces,
 * copied by cat(1) in its place. The samples that come of it are finite, and it ends.
 *
 * Input: the bytes of the pipe (audio/decode/stream.h).
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audio/decoder.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(closep) int fd = memfd_create("pieces", MFD_CLOEXEC);
    struct error err = ERROR_INIT;
    struct sound_decoder *decoder;
    float samples[1000];
    size_t total = 0;
    ssize_t n;

    if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    decoder = sound_decoder_new("/bin/cat", fd, &err);
    if (!decoder) {
        if (size > 0)
            abort();
        return 0;
    }
    while ((n = sound_decoder_read(decoder, samples, ARRAY_LEN(samples), NULL, &err)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (!isfinite(samples[i]))
                abort();
        total += (size_t)n;
    }
    if (total > size / sizeof(*samples) || (n < 0 && strlen(err.text) == 0))
        abort();
    sound_decoder_free(decoder);
    return 0;
}
