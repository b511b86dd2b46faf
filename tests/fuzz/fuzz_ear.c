/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as the file of an audio encoder: it is refused, or a short clip can be encoded with it.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audio/in/encoder.h"

#define N_FRAMES ((size_t)19)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float sum; /* what is computed must not be optimised away */

static void encode(struct audio_encoder *encoder)
{
    const struct audio_shape *shape = &audio_encoder_info(encoder)->shape;
    float *features = calloc(shape->n_mels * N_FRAMES, sizeof(*features));
    float *rows = calloc(audio_encoder_rows(N_FRAMES), shape->n_embd * sizeof(*rows));
    struct error err = ERROR_INIT;

    if (features && rows) {
        for (size_t i = 0; i < shape->n_mels * N_FRAMES; i++)
            features[i] = (float)(i % 7) - 3;
        if (audio_encode(encoder, features, N_FRAMES, NULL, rows, NULL, &err) == 0)
            sum += rows[0];
    }
    free(features);
    free(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(1, &err);
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (pool && write(fd, data, size) == (ssize_t)size)
        for (int precise = 0; precise < 2; precise++) {
            struct audio_encoder *encoder = audio_encoder_load(path, precise, pool, &err);

            if (encoder)
                encode(encoder);
            audio_encoder_free(encoder);
        }
    close(fd);
    pool_free(pool);
    return 0;
}
