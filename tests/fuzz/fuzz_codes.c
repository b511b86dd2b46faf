/* SPDX-License-Identifier: MIT */

/*
 * Any text as a file of codes: it is refused, or its first frames can be heard through a small
 * vocoder, one at a time.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <json-c/json.h>

#include "audio/out/vocoder.h"
#include "tests/fixture.h"
#include "tools/run.h"

#define FRAMES_MAX 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float sum; /* what is computed must not be optimised away */

static struct vocoder *load(void)
{
    struct error err = ERROR_INIT;
    struct vocoder *vocoder = vocoder_load(data_path("audio/vocoder.q8_0.gguf"),
                                           data_path("audio/tokenizer.q8_0.gguf"), false,
                                           pool_new(1, &err), &err);

    if (!vocoder) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return vocoder;
}

static void decode(struct vocoder *vocoder, const int32_t (*codes)[CODEBOOKS], size_t n_frames)
{
    float samples[VOCODER_FRAME];
    size_t n;

    for (size_t i = 0; i < n_frames && i < FRAMES_MAX; i++) {
        if (vocoder_push(vocoder, codes + i, 1, NULL, samples, &n) < 0)
            abort(); /* they have been checked */
        sum += samples[n / 2];
    }
    sum += (float)vocoder_flush(vocoder, samples);
    vocoder_reset(vocoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocoder *vocoder;
    struct error err = ERROR_INIT;
    struct json_object *json = NULL;
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    int32_t *codes = NULL;
    size_t n_frames;
    char path[64];

    if (!vocoder)
        vocoder = load();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (write(fd, data, size) == (ssize_t)size && run_json(path, &json, &err) == 0 &&
        run_json_codes(json, (int32_t)vocoder_info(vocoder)->n_codes, &codes, &n_frames, &err) ==
            0)
        decode(vocoder, (const int32_t(*)[CODEBOOKS])(void *)codes, n_frames);
    free(codes);
    json_object_put(json);
    close(fd);
    return 0;
}
