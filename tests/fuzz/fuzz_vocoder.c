/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a vocoder file and a tokenizer file, or as Mimi: they are refused, or a frame can be
 * drawn, fed back and heard. The first four bytes say how long the vocoder file is, the rest is the
 * other one.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audio/out/depthformer.h"
#include "audio/out/vocoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float sum; /* what is computed must not be optimised away */

static void draw(struct depthformer *df)
{
    const int32_t end = (int32_t)depthformer_info(df)->n_codes, codes[CODEBOOKS] = {end};
    float *row = calloc(depthformer_info(df)->n_embd, sizeof(*row));

    if (row) {
        depthformer_begin(df, row);
        for (unsigned i = 0; i < CODEBOOKS; i++)
            sum += depthformer_logits(df, i, i % 2 ? end : 0)[end];
        depthformer_code_row(df, codes, row);
        sum += row[0];
    }
    free(row);
}

static void decode(struct vocoder *vocoder)
{
    static float samples[2 * VOCODER_FRAME];
    const int32_t last = (int32_t)vocoder_info(vocoder)->n_codes - 1;
    const int32_t codes[2][CODEBOOKS] = {{0}, {last, 0, last}};
    size_t n;

    if (vocoder_push(vocoder, codes, 2, NULL, samples, &n) == 0)
        sum += samples[n / 2];
    vocoder_flush(vocoder, samples);
}

static int memory_file(const uint8_t *data, size_t size, char path[64])
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);

    snprintf(path, 64, "/proc/self/fd/%d", fd);
    if (write(fd, data, size) != (ssize_t)size)
        abort();
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct pool *pool = pool_new(1, &err);
    char first_path[64], second_path[64];
    uint32_t n_first = 0;
    int first, second;

    if (size >= sizeof(n_first)) {
        memcpy(&n_first, data, sizeof(n_first));
        data += sizeof(n_first);
        size -= sizeof(n_first);
    }
    if (n_first > size)
        n_first = (uint32_t)size;
    first = memory_file(data, n_first, first_path);
    second = memory_file(data + n_first, size - n_first, second_path);
    for (int precise = 0; pool && precise < 2; precise++) {
        struct depthformer *df = depthformer_load(first_path, precise, pool, &err);
        struct vocoder *detok = vocoder_load(first_path, second_path, precise, pool, &err);
        struct vocoder *mimi = vocoder_load(NULL, second_path, precise, pool, &err);

        if (df)
            draw(df);
        if (detok)
            decode(detok);
        if (mimi)
            decode(mimi);
        depthformer_free(df);
        vocoder_free(detok);
        vocoder_free(mimi);
    }
    close(first);
    close(second);
    pool_free(pool);
    return 0;
}
