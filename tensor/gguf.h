/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * GGUF v2 and v3 files, also split into parts, mapped read-only.
 *
 * A model file is untrusted: every count, offset, size, string and nested array is checked before
 * use, and everything below is safe on a gguf that gguf_open() has returned. The error names the
 * file, the key or tensor, what was expected and what was found.
 *
 * A file that is cut short while it is mapped ends the program with SIGBUS; sizes are checked when
 * it is opened. Model files are therefore replaced by rename, never rewritten in place.
 *
 * Shapes: GGUF's ne lists the fast axis first, so ne = {in, out} is our matrix [out][in].
 * Memory: the mapping lives as long as the gguf; strings and tensor data point into it.
 * Threads: open and free by one owner; all readers any thread.
 * Source: text.md section 7; ggml docs/gguf.md.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

#define GGUF_TENSORS_MAX 65536
#define GGUF_KEYS_MAX    65536
#define GGUF_DIMS_MAX    4
#define GGUF_STRING_MAX  ((size_t)1 << 26) /* bytes; a chat template or a licence text */
#define GGUF_SPLITS_MAX  1024

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    _GGUF_TYPE_N,
};

struct gguf_string {
    const char *text; /* not terminated; may hold any byte */
    size_t length;
};

struct gguf_tensor {
    struct gguf_string name;
    enum dtype type;
    unsigned n_dims;
    uint64_t ne[GGUF_DIMS_MAX]; /* fast axis first; unused dimensions are 1 */
    const void *data;           /* inside the mapping, aligned as the file says */
    size_t size_bytes;
    bool mapped;                /* from a file, so that pages may be dropped */
};

struct gguf;

/*
 * Map a file. `path` of any part of a split model opens all its parts.
 *
 * A tensor of a type that is not in dtype.h is refused here, by name, before anything is computed.
 */
struct gguf *gguf_open(const char *path, struct error *err);

/* The same on bytes in memory (tests, fuzzing), which must outlive the gguf and be aligned to 8
 * bytes; `name` stands in error sentences. */
struct gguf *gguf_open_memory(const void *bytes, size_t size, const char *name, struct error *err);

struct gguf *gguf_free(struct gguf *gguf); /* accepts and returns NULL */

const char *gguf_path(const struct gguf *gguf);
uint64_t gguf_file_bytes(const struct gguf *gguf); /* all parts together */

/* --- metadata ------------------------------------------------------------------------------- */

bool gguf_has(const struct gguf *gguf, const char *key);

/*
 * Typed reading. Any integer type is accepted where its value fits. Returns 0; -ENOENT without
 * touching err when the key is absent (the caller knows whether that matters); another negative
 * errno with a sentence when the type or the range is wrong.
 */
int gguf_u64(const struct gguf *gguf, const char *key, uint64_t *ret, struct error *err);
int gguf_u32(const struct gguf *gguf, const char *key, uint32_t *ret, struct error *err);
int gguf_f32(const struct gguf *gguf, const char *key, float *ret, struct error *err);
int gguf_bool(const struct gguf *gguf, const char *key, bool *ret, struct error *err);
int gguf_str(const struct gguf *gguf, const char *key, struct gguf_string *ret, struct error *err);

struct gguf_array {
    enum gguf_type type; /* of the elements */
    size_t n;
    const void *data;                  /* numbers: packed little endian, maybe unaligned */
    const struct gguf_string *strings; /* GGUF_STRING: the elements; else NULL */
};

int gguf_array(const struct gguf *gguf, const char *key, struct gguf_array *ret, struct error *err);

/* Element i of an array of integers of any width; false when out of range or not an integer. */
bool gguf_array_i64(const struct gguf_array *array, size_t i, int64_t *ret);

/* --- tensors -------------------------------------------------------------------------------- */

size_t gguf_n_tensors(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t i);
const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, const char *name); /* or NULL */

/* Tell the kernel that the pages of this tensor are not needed in memory any more. */
void gguf_tensor_drop(const struct gguf_tensor *tensor);

/* The same for the whole pages among bytes [first, last) of its data. */
void gguf_tensor_drop_part(const struct gguf_tensor *tensor, size_t first, size_t last);
