/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a GGUF file: it is refused, or everything that it offers can be read.
 */

#include <stdint.h>
#include <string.h>

#include "tensor/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sum; /* what is read must not be optimised away */

static void read_key(const struct gguf *gguf, const char *key)
{
    struct error err = ERROR_INIT;
    struct gguf_string string;
    struct gguf_array array;
    uint64_t number;
    float real;
    bool yes;

    if (gguf_u64(gguf, key, &number, &err) == 0)
        sum += number;
    if (gguf_f32(gguf, key, &real, &err) == 0)
        sum += real > 0;
    if (gguf_bool(gguf, key, &yes, &err) == 0)
        sum += yes;
    if (gguf_str(gguf, key, &string, &err) == 0)
        for (size_t i = 0; i < string.length; i++)
            sum += (uint8_t)string.text[i];
    if (gguf_array(gguf, key, &array, &err) == 0) {
        for (size_t i = 0; i <= array.n && i < 4096; i++) {
            int64_t value;

            if (gguf_array_i64(&array, i, &value))
                sum += (uint64_t)value;
        }
        for (size_t i = 0; array.strings && i < array.n; i++)
            for (size_t j = 0; j < array.strings[i].length; j++)
                sum += (uint8_t)array.strings[i].text[j];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {
        "general.architecture",  "general.alignment",
        "lfm2.block_count",      "a",
        "tokenizer.ggml.tokens", "lfm2.attention.head_count_kv",
    };
    struct error err = ERROR_INIT;
    struct gguf *gguf = gguf_open_memory(data, size, "fuzz", &err);

    if (!gguf)
        return 0;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        read_key(gguf, keys[i]);
    for (size_t i = 0; i < gguf_n_tensors(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        const uint8_t *bytes = tensor->data;

        for (size_t j = 0; j < tensor->size_bytes; j++)
            sum += bytes[j];
        gguf_tensor_drop(tensor);
    }
    gguf_free(gguf);
    return 0;
}
