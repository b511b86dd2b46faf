/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * GGUF files made in memory, well-formed or with chosen faults.
 *
 *     struct build build = BUILD_INIT;
 *     build_str(&build, "general.architecture", "lfm2");
 *     build_tensor(&build, "x", DTYPE_F32, 2, (uint64_t[]){3, 4}, values);
 *     bytes = build_finish(&build, &size);   // malloc, and the build is empty again
 */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/gguf.h"

struct build_buffer {
    uint8_t *bytes;
    size_t size, capacity;
};

struct build {
    uint32_t version;
    uint32_t alignment;
    uint64_t n_keys, n_tensors;
    struct build_buffer keys, table, data;
};

#define BUILD_INIT                    \
    {                                 \
        .version = 3, .alignment = 32 \
    }

static inline void build_put(struct build_buffer *buffer, const void *bytes, size_t size)
{
    if (buffer->size + size > buffer->capacity) {
        buffer->capacity = 2 * (buffer->size + size);
        buffer->bytes = realloc(buffer->bytes, buffer->capacity);
        assert(buffer->bytes);
    }
    if (size)
        memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
}

static inline void build_put_u32(struct build_buffer *buffer, uint32_t value)
{
    build_put(buffer, &value, sizeof(value));
}

static inline void build_put_u64(struct build_buffer *buffer, uint64_t value)
{
    build_put(buffer, &value, sizeof(value));
}

static inline void build_put_str(struct build_buffer *buffer, const char *text)
{
    build_put_u64(buffer, strlen(text));
    build_put(buffer, text, strlen(text));
}

static inline void build_pad(struct build_buffer *buffer, size_t alignment)
{
    static const uint8_t zeros[4096];

    assert(alignment <= sizeof(zeros));
    build_put(buffer, zeros, (alignment - buffer->size % alignment) % alignment);
}

/* A key of any type; value: its bytes as they stand in the file. */
static inline void build_key(struct build *build, const char *key, uint32_t type, const void *value,
                             size_t size)
{
    build->n_keys++;
    build_put_str(&build->keys, key);
    build_put_u32(&build->keys, type);
    build_put(&build->keys, value, size);
}

static inline void build_u32(struct build *build, const char *key, uint32_t value)
{
    build_key(build, key, GGUF_U32, &value, sizeof(value));
}

static inline void build_f32(struct build *build, const char *key, float value)
{
    build_key(build, key, GGUF_F32, &value, sizeof(value));
}

static inline void build_bool(struct build *build, const char *key, bool value)
{
    build_key(build, key, GGUF_BOOL, &(uint8_t){value}, 1);
}

static inline void build_str(struct build *build, const char *key, const char *text)
{
    build_key(build, key, GGUF_STRING, NULL, 0);
    build_put_str(&build->keys, text);
}

/* values: n elements of `size` bytes */
static inline void build_array(struct build *build, const char *key, uint32_t type, size_t n,
                               const void *values, size_t size)
{
    build_key(build, key, GGUF_ARRAY, NULL, 0);
    build_put_u32(&build->keys, type);
    build_put_u64(&build->keys, n);
    build_put(&build->keys, values, n * size);
}

static inline void build_strs(struct build *build, const char *key, size_t n,
                              const char *const *texts)
{
    build_array(build, key, GGUF_STRING, n, NULL, 0);
    for (size_t i = 0; i < n; i++)
        build_put_str(&build->keys, texts[i]);
}

/* A line of the tensor table alone. */
static inline void build_tensor_at(struct build *build, const char *name, uint32_t type,
                                   uint32_t n_dims, const uint64_t *ne, uint64_t offset)
{
    build->n_tensors++;
    build_put_str(&build->table, name);
    build_put_u32(&build->table, n_dims);
    build_put(&build->table, ne, n_dims * sizeof(*ne));
    build_put_u32(&build->table, type);
    build_put_u64(&build->table, offset);
}

/* Blocks as they stand in the file, of a handled type. */
static inline void build_tensor(struct build *build, const char *name, enum dtype type,
                                uint32_t n_dims, const uint64_t *ne, const void *blocks)
{
    size_t n = 1;

    build_pad(&build->data, build->alignment);
    build_tensor_at(build, name, type, n_dims, ne, build->data.size);
    for (uint32_t i = 0; i < n_dims; i++)
        n *= ne[i];
    build_put(&build->data, blocks, dtype_row_bytes(type, n));
}

static inline uint8_t *build_finish(struct build *build, size_t *ret_size)
{
    struct build_buffer file = {0};

    build_put(&file, "GGUF", 4);
    build_put_u32(&file, build->version);
    build_put_u64(&file, build->n_tensors);
    build_put_u64(&file, build->n_keys);
    build_put(&file, build->keys.bytes, build->keys.size);
    build_put(&file, build->table.bytes, build->table.size);
    if (build->data.size)
        build_pad(&file, build->alignment);
    build_put(&file, build->data.bytes, build->data.size);
    free(build->keys.bytes);
    free(build->table.bytes);
    free(build->data.bytes);
    *build = (struct build)BUILD_INIT;
    *ret_size = file.size;
    return file.bytes;
}
