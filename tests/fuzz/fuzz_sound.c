/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a sound file: it is refused, or gives no more samples than were asked for, all of
 * them numbers.
 */

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audio/in/file.h"

/* libsndfile forgets a decoder of libvorbis where an Ogg file is damaged. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libsndfile\nleak:libvorbis\n";
}

#define N_MAX ((size_t)1 << 18)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct error err = ERROR_INIT;
    float *samples = NULL;
    size_t n = 0;

    if (write(fd, data, size) == (ssize_t)size) {
        if (audio_file_read(fd, "a file", N_MAX, &samples, &n, &err) < 0) {
            if (err.code == ERROR_NONE)
                abort();
        } else if (n == 0 || n > N_MAX || audio_samples_check(samples, n, "a file", &err) < 0) {
            abort();
        }
    }
    free(samples);
    close(fd);
    return 0;
}
