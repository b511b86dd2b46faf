/* SPDX-License-Identifier: MIT */
#include "tensor/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF files are little endian and are used where they are mapped."
#endif

#define ARRAY_DEPTH_MAX   4
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MIN     8
#define NAME_MAX_BYTES    65535 /* keys and tensor names */

/* Smallest encodings: what a count must be backed by before memory is taken for it. */
#define KEY_BYTES_MIN    13 /* empty name, type, one byte */
#define TENSOR_BYTES_MIN 24 /* empty name, no dimensions, type, offset */
#define STRING_BYTES_MIN 8

struct key {
    struct gguf_string name;
    enum gguf_type type;
    const uint8_t *number;     /* numbers and bool: the bytes of the value, unaligned */
    struct gguf_string string; /* GGUF_STRING */
    struct gguf_array array;   /* GGUF_ARRAY; array.strings is owned */
};

/* Names in order of (length, bytes), so that a lookup is a binary search whatever the names are. */
struct name_index {
    struct gguf_string name;
    size_t at;
};

struct part {
    char *path;
    const uint8_t *bytes;
    size_t size;
    bool mapped; /* else the bytes belong to the caller */
    struct key *keys;
    size_t n_keys;
    struct name_index *key_index;
};

struct gguf {
    struct part *parts; /* [n_parts]; the metadata are those of the first */
    size_t n_parts;
    struct gguf_tensor *tensors;
    size_t n_tensors;
    struct name_index *tensor_index;
};

/* --- names ------------------------------------------------------------------------------------ */

/* A name out of a file, made fit for a sentence: printable ASCII, not too long. */
struct quoted {
    char text[72];
};

static struct quoted quote(struct gguf_string name)
{
    const size_t n = MIN(name.length, sizeof(((struct quoted *)0)->text) - 6);
    struct quoted quoted;
    char *p = quoted.text;

    *p++ = '\'';
    for (size_t i = 0; i < n; i++)
        *p++ = name.text[i] >= ' ' && name.text[i] <= '~' ? name.text[i] : '?';
    strcpy(p, n < name.length ? "...'" : "'");
    return quoted;
}

static struct gguf_string string_of(const char *text)
{
    return (struct gguf_string){.text = text, .length = strlen(text)};
}

static int name_compare(struct gguf_string a, struct gguf_string b)
{
    if (a.length != b.length)
        return a.length < b.length ? -1 : 1;
    return a.length ? memcmp(a.text, b.text, a.length) : 0;
}

static int name_index_compare(const void *a, const void *b)
{
    return name_compare(((const struct name_index *)a)->name, ((const struct name_index *)b)->name);
}

/* Sort the index; returns a name that is in it twice, or NULL. */
static const struct gguf_string *name_index_sort(struct name_index *index, size_t n)
{
    if (n > 1)
        qsort(index, n, sizeof(*index), name_index_compare);
    for (size_t i = 1; i < n; i++)
        if (name_compare(index[i - 1].name, index[i].name) == 0)
            return &index[i].name;
    return NULL;
}

static const struct name_index *name_index_find(const struct name_index *index, size_t n,
                                                const char *name)
{
    const struct name_index wanted = {.name = string_of(name)};

    return n ? bsearch(&wanted, index, n, sizeof(*index), name_index_compare) : NULL;
}

/* --- reading a header ------------------------------------------------------------------------- */

struct reader {
    const struct part *part;
    const uint8_t *next, *end;
    const char *kind;           /* "the header", "key", "tensor": what is being read */
    struct gguf_string subject; /* its name, if any */
    struct error *err;
};

static void set_damaged(const struct reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void set_damaged(const struct reader *reader, const char *format, ...)
{
    const bool named = reader->subject.text;
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    error_set(reader->err, ERROR_UNSUPPORTED_FORMAT, "In '%s', %s%s%s: %s.", reader->part->path,
              reader->kind, named ? " " : "", named ? quote(reader->subject).text : "", text);
}

/* A constant, so that the compiler sees that what follows a failed read is not reached. */
#define damaged(...) (set_damaged(__VA_ARGS__), -EBADMSG)

static size_t bytes_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->next);
}

static int read_bytes(struct reader *reader, size_t size, const uint8_t **ret)
{
    if (size > bytes_left(reader))
        return damaged(reader, "expected %zu more bytes, found %zu", size, bytes_left(reader));
    *ret = reader->next;
    reader->next += size;
    return 0;
}

static int read_u32(struct reader *reader, uint32_t *ret)
{
    const uint8_t *p;
    int r = read_bytes(reader, sizeof(*ret), &p);

    if (r == 0)
        memcpy(ret, p, sizeof(*ret));
    return r;
}

static int read_u64(struct reader *reader, uint64_t *ret)
{
    const uint8_t *p;
    int r = read_bytes(reader, sizeof(*ret), &p);

    if (r == 0)
        memcpy(ret, p, sizeof(*ret));
    return r;
}

static int read_string(struct reader *reader, size_t length_max, struct gguf_string *ret)
{
    const uint8_t *p;
    uint64_t length;
    int r = read_u64(reader, &length);

    if (r < 0)
        return r;
    if (length > length_max)
        return damaged(reader, "expected a string of at most %zu bytes, found %" PRIu64, length_max,
                       length);
    r = read_bytes(reader, (size_t)length, &p);
    if (r == 0)
        *ret = (struct gguf_string){.text = (const char *)p, .length = (size_t)length};
    return r;
}

/* Bytes of a number; 0 for strings and arrays. */
static const size_t number_bytes[_GGUF_TYPE_N] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static const char *const type_names[_GGUF_TYPE_N] = {
    [GGUF_U8] = "u8",       [GGUF_I8] = "i8",         [GGUF_U16] = "u16", [GGUF_I16] = "i16",
    [GGUF_U32] = "u32",     [GGUF_I32] = "i32",       [GGUF_F32] = "f32", [GGUF_BOOL] = "bool",
    [GGUF_U64] = "u64",     [GGUF_STRING] = "string", [GGUF_I64] = "i64", [GGUF_F64] = "f64",
    [GGUF_ARRAY] = "array",
};

static int read_type(struct reader *reader, enum gguf_type *ret)
{
    uint32_t type;
    int r = read_u32(reader, &type);

    if (r < 0)
        return r;
    if (type >= _GGUF_TYPE_N)
        return damaged(reader, "expected a value type below %d, found %" PRIu32, _GGUF_TYPE_N,
                       type);
    *ret = type;
    return 0;
}

/* An array after its type. Inner arrays are checked and passed over: nothing here asks for them. */
static int read_array(struct reader *reader, unsigned depth, struct gguf_array *ret)
{
    _cleanup_(freep) struct gguf_string *strings = NULL;
    struct gguf_array array = {0};
    uint64_t n;
    int r;

    r = read_type(reader, &array.type);
    if (r < 0)
        return r;
    r = read_u64(reader, &n);
    if (r < 0)
        return r;

    const size_t element_min = array.type == GGUF_STRING  ? STRING_BYTES_MIN
                               : array.type == GGUF_ARRAY ? sizeof(uint32_t) + sizeof(uint64_t)
                                                          : number_bytes[array.type];
    if (n > bytes_left(reader) / element_min)
        return damaged(reader,
                       "expected an array that fits into %zu bytes, found %" PRIu64 " elements",
                       bytes_left(reader), n);
    array.n = (size_t)n;
    array.data = reader->next;

    if (array.type == GGUF_STRING) {
        strings = calloc(MAX(array.n, (size_t)1), sizeof(*strings));
        if (!strings)
            return error_set(reader->err, ERROR_NO_MEMORY,
                             "Cannot take memory for the %zu strings of key %s in '%s'.", array.n,
                             quote(reader->subject).text, reader->part->path);
        for (size_t i = 0; i < array.n; i++) {
            r = read_string(reader, GGUF_STRING_MAX, &strings[i]);
            if (r < 0)
                return r;
        }
    } else if (array.type == GGUF_ARRAY) {
        if (depth == ARRAY_DEPTH_MAX)
            return damaged(reader, "expected at most %d arrays in each other, found more",
                           ARRAY_DEPTH_MAX);
        for (size_t i = 0; i < array.n; i++) {
            struct gguf_array inner;

            r = read_array(reader, depth + 1, &inner);
            if (r < 0)
                return r;
            free((void *)inner.strings);
        }
    } else {
        reader->next += array.n * element_min;
    }

    array.strings = TAKE_PTR(strings);
    *ret = array;
    return 0;
}

static int read_key(struct reader *reader, struct key *key)
{
    int r;

    reader->kind = "key";
    reader->subject = (struct gguf_string){0};
    r = read_string(reader, NAME_MAX_BYTES, &key->name);
    if (r < 0)
        return r;
    reader->subject = key->name;
    r = read_type(reader, &key->type);
    if (r < 0)
        return r;

    if (key->type == GGUF_STRING)
        return read_string(reader, GGUF_STRING_MAX, &key->string);
    if (key->type == GGUF_ARRAY)
        return read_array(reader, 1, &key->array);
    r = read_bytes(reader, number_bytes[key->type], &key->number);
    if (r == 0 && key->type == GGUF_BOOL && *key->number > 1)
        return damaged(reader, "expected a bool of 0 or 1, found %u", *key->number);
    return r;
}

/* The tensor's line in the table; *ret_offset is relative to the data. */
static int read_tensor(struct reader *reader, struct gguf_tensor *tensor, uint64_t *ret_offset)
{
    const struct dtype_info *info;
    uint32_t n_dims, type;
    uint64_t n_values = 1, n_blocks;
    int r;

    reader->kind = "tensor";
    reader->subject = (struct gguf_string){0};
    r = read_string(reader, NAME_MAX_BYTES, &tensor->name);
    if (r < 0)
        return r;
    reader->subject = tensor->name;

    r = read_u32(reader, &n_dims);
    if (r < 0)
        return r;
    if (n_dims > GGUF_DIMS_MAX)
        return damaged(reader, "expected at most %d dimensions, found %" PRIu32, GGUF_DIMS_MAX,
                       n_dims);
    tensor->n_dims = n_dims;
    for (size_t i = 0; i < GGUF_DIMS_MAX; i++) {
        tensor->ne[i] = 1;
        if (i >= n_dims)
            continue;
        r = read_u64(reader, &tensor->ne[i]);
        if (r < 0)
            return r;
        if (tensor->ne[i] == 0 || __builtin_mul_overflow(n_values, tensor->ne[i], &n_values))
            return damaged(reader,
                           "expected a number of values from 1 to 2^64 - 1, found dimension "
                           "%zu = %" PRIu64,
                           i, tensor->ne[i]);
    }

    r = read_u32(reader, &type);
    if (r < 0)
        return r;
    info = dtype_info(type);
    if (!info)
        return damaged(reader,
                       "expected a type among F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, "
                       "Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, found %s",
                       dtype_name(type));
    tensor->type = type;
    if (tensor->ne[0] % info->block_values)
        return damaged(reader, "expected rows of a multiple of %zu values for %s, found %" PRIu64,
                       info->block_values, info->name, tensor->ne[0]);
    n_blocks = n_values / info->block_values;
    if (n_blocks > bytes_left(reader) / info->block_bytes)
        return damaged(reader,
                       "expected at most the %zu bytes that are left in the file, found %" PRIu64
                       " values of %s",
                       bytes_left(reader), n_values, info->name);
    tensor->size_bytes = (size_t)n_blocks * info->block_bytes;

    return read_u64(reader, ret_offset);
}

static const struct key *part_key(const struct part *part, const char *name)
{
    const struct name_index *found = name_index_find(part->key_index, part->n_keys, name);

    return found ? &part->keys[found->at] : NULL;
}

static int read_keys(struct reader *reader, struct part *part, uint64_t n_keys)
{
    const struct gguf_string *twice;

    if (n_keys > GGUF_KEYS_MAX || n_keys > bytes_left(reader) / KEY_BYTES_MIN)
        return damaged(reader, "expected at most %d keys, all of them in the file, found %" PRIu64,
                       GGUF_KEYS_MAX, n_keys);
    part->keys = calloc(n_keys + 1, sizeof(*part->keys));
    part->key_index = calloc(n_keys + 1, sizeof(*part->key_index));
    if (!part->keys || !part->key_index)
        return error_set(reader->err, ERROR_NO_MEMORY, "Cannot take memory for the keys of '%s'.",
                         part->path);
    for (size_t i = 0; i < n_keys; i++) {
        part->n_keys = i + 1; /* so that a key cut off is released too */
        int r = read_key(reader, &part->keys[i]);
        if (r < 0)
            return r;
        part->key_index[i] = (struct name_index){.name = part->keys[i].name, .at = i};
    }
    twice = name_index_sort(part->key_index, part->n_keys);
    if (twice) {
        reader->subject = *twice;
        return damaged(reader, "expected the key once, found it twice");
    }
    return 0;
}

/* A range of the data section, for the search for overlaps. */
struct range {
    uint64_t first;
    const struct gguf_tensor *tensor;
};

static int range_compare(const void *a, const void *b)
{
    const struct range *ra = a, *rb = b;

    return ra->first < rb->first ? -1 : ra->first > rb->first;
}

static int place_tensors(struct reader *reader, struct range *ranges, struct gguf_tensor *tensors,
                         size_t n, uint64_t alignment)
{
    const struct part *part = reader->part;
    const uint64_t data_start = round_up((size_t)(reader->next - part->bytes), (size_t)alignment);

    for (size_t i = 0; i < n; i++) {
        const uint64_t offset = ranges[i].first;
        const uint64_t data_size = data_start < part->size ? part->size - data_start : 0;

        reader->subject = tensors[i].name;
        if (offset % alignment)
            return damaged(reader,
                           "expected an offset that is a multiple of %" PRIu64 ", found %" PRIu64,
                           alignment, offset);
        if (offset > data_size || tensors[i].size_bytes > data_size - offset)
            return damaged(reader,
                           "expected %zu bytes at offset %" PRIu64 ", found a data section "
                           "of %" PRIu64 " bytes",
                           tensors[i].size_bytes, offset, data_size);
        tensors[i].data = part->bytes + data_start + offset;
        tensors[i].mapped = part->mapped;
    }

    qsort(ranges, n, sizeof(*ranges), range_compare);
    for (size_t i = 1; i < n; i++) {
        const struct gguf_tensor *before = ranges[i - 1].tensor;

        if (ranges[i].first - ranges[i - 1].first >= before->size_bytes)
            continue;
        reader->subject = ranges[i].tensor->name;
        return damaged(reader, "expected data of its own, found that they overlap with those of %s",
                       quote(before->name).text);
    }
    return 0;
}

static int read_tensors(struct reader *reader, struct gguf *gguf, uint64_t n_tensors,
                        uint64_t alignment)
{
    _cleanup_(freep) struct range *ranges = NULL;
    struct gguf_tensor *tensors;

    reader->kind = "the header";
    reader->subject = (struct gguf_string){0};
    if (n_tensors > GGUF_TENSORS_MAX - gguf->n_tensors ||
        n_tensors > bytes_left(reader) / TENSOR_BYTES_MIN)
        return damaged(reader,
                       "expected at most %d tensors, all of them in the file, found %" PRIu64,
                       GGUF_TENSORS_MAX, n_tensors);
    if (n_tensors == 0)
        return 0;

    tensors = reallocarray(gguf->tensors, gguf->n_tensors + n_tensors, sizeof(*tensors));
    if (tensors)
        gguf->tensors = tensors;
    ranges = calloc(n_tensors, sizeof(*ranges));
    if (!tensors || !ranges)
        return error_set(reader->err, ERROR_NO_MEMORY,
                         "Cannot take memory for the tensor table of '%s'.", reader->part->path);

    tensors += gguf->n_tensors;
    for (size_t i = 0; i < n_tensors; i++) {
        tensors[i] = (struct gguf_tensor){0};
        int r = read_tensor(reader, &tensors[i], &ranges[i].first);
        if (r < 0)
            return r;
        ranges[i].tensor = &tensors[i];
    }
    gguf->n_tensors += n_tensors;
    return place_tensors(reader, ranges, tensors, n_tensors, alignment);
}

static int read_alignment(struct reader *reader, uint64_t *ret)
{
    const struct key *key = part_key(reader->part, "general.alignment");
    uint32_t alignment = ALIGNMENT_DEFAULT;

    if (key) {
        reader->kind = "key";
        reader->subject = key->name;
        if (key->type != GGUF_U32)
            return damaged(reader, "expected a u32, found a value of type %s",
                           type_names[key->type]);
        memcpy(&alignment, key->number, sizeof(alignment));
        if (alignment < ALIGNMENT_MIN || (alignment & (alignment - 1)))
            return damaged(reader, "expected a power of two from %d, found %" PRIu32, ALIGNMENT_MIN,
                           alignment);
    }
    *ret = alignment;
    return 0;
}

/* Read keys of a part, and append its tensors to those of the gguf. */
static int read_part(struct gguf *gguf, struct part *part, struct error *err)
{
    struct reader reader = {
        .part = part,
        .next = part->bytes,
        .end = part->bytes + part->size,
        .kind = "the header",
        .err = err,
    };
    uint64_t n_tensors, n_keys, alignment;
    const uint8_t *magic;
    uint32_t version;
    int r;

    r = read_bytes(&reader, 4, &magic);
    if (r < 0)
        return r;
    if (memcmp(magic, "GGUF", 4) != 0)
        return damaged(&reader, "expected the magic 'GGUF', found %s",
                       quote((struct gguf_string){(const char *)magic, 4}).text);
    r = read_u32(&reader, &version);
    if (r < 0)
        return r;
    if (version == __builtin_bswap32(2) || version == __builtin_bswap32(3))
        return damaged(&reader, "expected little endian numbers, found big endian ones");
    if (version != 2 && version != 3)
        return damaged(&reader, "expected version 2 or 3, found %" PRIu32, version);
    r = read_u64(&reader, &n_tensors);
    if (r < 0)
        return r;
    r = read_u64(&reader, &n_keys);
    if (r < 0)
        return r;
    r = read_keys(&reader, part, n_keys);
    if (r < 0)
        return r;
    r = read_alignment(&reader, &alignment);
    if (r < 0)
        return r;
    return read_tensors(&reader, gguf, n_tensors, alignment);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void part_done(struct part *part)
{
    for (size_t i = 0; i < part->n_keys; i++)
        free((void *)part->keys[i].array.strings);
    free(part->keys);
    free(part->key_index);
    if (part->mapped)
        munmap((void *)part->bytes, part->size);
    free(part->path);
    *part = (struct part){0};
}

struct gguf *gguf_free(struct gguf *gguf)
{
    if (!gguf)
        return NULL;
    for (size_t i = 0; i < gguf->n_parts; i++)
        part_done(&gguf->parts[i]);
    free(gguf->parts);
    free(gguf->tensors);
    free(gguf->tensor_index);
    free(gguf);
    return NULL;
}

static void gguf_freep(struct gguf **gguf)
{
    gguf_free(*gguf);
}

static struct gguf *gguf_new(size_t n_parts, const char *name, struct error *err)
{
    struct gguf *gguf = calloc(1, sizeof(*gguf));

    if (gguf) {
        gguf->parts = calloc(n_parts, sizeof(*gguf->parts));
        gguf->n_parts = gguf->parts ? n_parts : 0;
    }
    if (!gguf || !gguf->parts) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for the header of '%s'.", name);
        return gguf_free(gguf);
    }
    return gguf;
}

static int map_part(struct part *part, const char *path, struct error *err)
{
    _cleanup_(closep) int fd = -1;
    struct stat status;
    void *bytes;

    part->path = strdup(path);
    if (!part->path)
        return error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a file name.");
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    if (fd < 0 || fstat(fd, &status) < 0)
        return error_set(err, ERROR_IO, "Cannot open '%s': %m.", path);
    if (!S_ISREG(status.st_mode))
        return error_set(err, ERROR_IO, "Cannot open '%s': It is not a regular file.", path);
    if (status.st_size == 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', the header: expected 4 more bytes, found 0.", path);
    if ((uint64_t)status.st_size > SIZE_MAX)
        return error_set(err, ERROR_NO_MEMORY, "Cannot map '%s': It is too large.", path);

    bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return error_set(err, ERROR_IO, "Cannot map '%s': %m.", path);
    part->bytes = bytes;
    part->size = (size_t)status.st_size;
    part->mapped = true;
    return 0;
}

/* All tensors are there: make them findable, and see that no two have one name. */
static int index_tensors(struct gguf *gguf, struct error *err)
{
    const struct gguf_string *twice;

    gguf->tensor_index = calloc(gguf->n_tensors + 1, sizeof(*gguf->tensor_index));
    if (!gguf->tensor_index)
        return error_set(err, ERROR_NO_MEMORY, "Cannot take memory for the tensor table of '%s'.",
                         gguf->parts[0].path);
    for (size_t i = 0; i < gguf->n_tensors; i++)
        gguf->tensor_index[i] = (struct name_index){.name = gguf->tensors[i].name, .at = i};
    twice = name_index_sort(gguf->tensor_index, gguf->n_tensors);
    if (twice)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', tensor %s: expected the tensor once, found it twice.",
                         gguf->parts[0].path, quote(*twice).text);
    return 0;
}

/* The number of parts that the file belongs to; 1 when it is whole. */
static int split_count(const struct gguf *gguf, uint32_t *ret_no, uint32_t *ret_count,
                       struct error *err)
{
    uint32_t no = 0, count = 1;
    int r;

    r = gguf_u32(gguf, "split.count", &count, err);
    if (r < 0 && r != -ENOENT)
        return r;
    r = gguf_u32(gguf, "split.no", &no, err);
    if (r < 0 && r != -ENOENT)
        return r;
    if (count <= 1) { /* a merged file may say 0 */
        *ret_no = 0;
        *ret_count = 1;
        return 0;
    }
    if (count > GGUF_SPLITS_MAX || no >= count)
        return error_set(
            err, ERROR_UNSUPPORTED_FORMAT,
            "In '%s', key 'split.no': expected a part below split.count and that below "
            "%d, found part %" PRIu32 " of %" PRIu32 ".",
            gguf_path(gguf), GGUF_SPLITS_MAX + 1, no, count);
    *ret_no = no;
    *ret_count = count;
    return 0;
}

/* "NAME-00003-of-00005.gguf" -> length of NAME; -1 when the name is not of this form. */
static ssize_t split_stem(const char *path, uint32_t no, uint32_t count)
{
    char suffix[64];
    const size_t length = strlen(path);
    const int n =
        snprintf(suffix, sizeof(suffix), "-%05" PRIu32 "-of-%05" PRIu32 ".gguf", no + 1, count);

    if (length < (size_t)n || strcmp(path + length - (size_t)n, suffix) != 0)
        return -1;
    return (ssize_t)(length - (size_t)n);
}

/* Open all parts of a split model, the first first. */
static struct gguf *open_split(const char *path, uint32_t no, uint32_t count, struct error *err)
{
    _cleanup_(gguf_freep) struct gguf *gguf = NULL;
    _cleanup_(freep) char *name = NULL;
    const ssize_t stem = split_stem(path, no, count);
    uint64_t n_tensors;
    int r;

    if (stem < 0) {
        error_set(err, ERROR_UNSUPPORTED_FORMAT,
                  "'%s' is part %" PRIu32 " of %" PRIu32 ": expected a name that ends in "
                  "-%05" PRIu32 "-of-%05" PRIu32 ".gguf.",
                  path, no + 1, count, no + 1, count);
        return NULL;
    }
    gguf = gguf_new(count, path, err);
    name = malloc((size_t)stem + 64);
    if (!gguf || !name) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a file name.");
        return NULL;
    }

    for (uint32_t i = 0; i < count; i++) {
        struct part *part = &gguf->parts[i];
        /* The keys of this part alone, for its number. */
        const struct gguf alone = {.parts = part, .n_parts = 1};
        uint32_t part_no, part_count;

        snprintf(name, (size_t)stem + 64, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf", (int)stem,
                 path, i + 1, count);
        r = map_part(part, name, err);
        if (r < 0)
            return NULL;
        r = read_part(gguf, part, err);
        if (r < 0)
            return NULL;
        r = split_count(&alone, &part_no, &part_count, err);
        if (r < 0)
            return NULL;
        if (part_no != i || part_count != count) {
            error_set(err, ERROR_UNSUPPORTED_FORMAT,
                      "In '%s', key 'split.no': expected part %" PRIu32 " of %" PRIu32
                      ", found part %" PRIu32 " of %" PRIu32 ".",
                      name, i, count, part_no, part_count);
            return NULL;
        }
    }

    r = gguf_u64(gguf, "split.tensors.count", &n_tensors, err);
    if (r < 0 && r != -ENOENT)
        return NULL;
    if (r == 0 && n_tensors != gguf->n_tensors) {
        error_set(
            err, ERROR_UNSUPPORTED_FORMAT,
            "In '%s', key 'split.tensors.count': expected the %zu tensors of all parts, found "
            "%" PRIu64 ".",
            gguf_path(gguf), gguf->n_tensors, n_tensors);
        return NULL;
    }
    r = index_tensors(gguf, err);
    if (r < 0)
        return NULL;
    return TAKE_PTR(gguf);
}

struct gguf *gguf_open(const char *path, struct error *err)
{
    _cleanup_(gguf_freep) struct gguf *gguf = gguf_new(1, path, err);
    uint32_t no, count;

    if (!gguf || map_part(&gguf->parts[0], path, err) < 0 ||
        read_part(gguf, &gguf->parts[0], err) < 0 || split_count(gguf, &no, &count, err) < 0)
        return NULL;
    if (count > 1)
        return open_split(path, no, count, err);
    if (index_tensors(gguf, err) < 0)
        return NULL;
    return TAKE_PTR(gguf);
}

struct gguf *gguf_open_memory(const void *bytes, size_t size, const char *name, struct error *err)
{
    _cleanup_(gguf_freep) struct gguf *gguf = gguf_new(1, name, err);
    uint32_t no, count;

    if (!gguf)
        return NULL;
    gguf->parts[0].bytes = bytes;
    gguf->parts[0].size = size;
    gguf->parts[0].path = strdup(name);
    if (!gguf->parts[0].path) {
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for a file name.");
        return NULL;
    }
    if (read_part(gguf, &gguf->parts[0], err) < 0 || split_count(gguf, &no, &count, err) < 0)
        return NULL;
    if (count > 1) {
        error_set(err, ERROR_UNSUPPORTED_FORMAT,
                  "'%s' is part %" PRIu32 " of %" PRIu32 ": expected a whole file.", name, no + 1,
                  count);
        return NULL;
    }
    if (index_tensors(gguf, err) < 0)
        return NULL;
    return TAKE_PTR(gguf);
}

const char *gguf_path(const struct gguf *gguf)
{
    return gguf->parts[0].path;
}

uint64_t gguf_file_bytes(const struct gguf *gguf)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < gguf->n_parts; i++)
        bytes += gguf->parts[i].size;
    return bytes;
}

/* --- metadata --------------------------------------------------------------------------------- */

static const struct key *find_key(const struct gguf *gguf, const char *name)
{
    return part_key(&gguf->parts[0], name);
}

bool gguf_has(const struct gguf *gguf, const char *key)
{
    return find_key(gguf, key) != NULL;
}

static int wrong_type(const struct gguf *gguf, const struct key *key, const char *expected,
                      struct error *err)
{
    return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                     "In '%s', key %s: expected %s, found a value of type %s.", gguf_path(gguf),
                     quote(key->name).text, expected, type_names[key->type]);
}

/*
 * A number as sign and magnitude, so that u64 and i64 both fit.
 * Returns false when the type is not an integer.
 */
static bool load_integer(enum gguf_type type, const uint8_t *p, bool *ret_negative, uint64_t *ret)
{
    uint64_t bits = 0;
    int64_t value;
    const size_t size = number_bytes[type];

    switch (type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        memcpy(&bits, p, size);
        *ret_negative = false;
        *ret = bits;
        return true;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        memcpy(&bits, p, size);
        value = (int64_t)(bits << (64 - 8 * size)) >> (64 - 8 * size);
        *ret_negative = value < 0;
        *ret = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
        return true;
    default:
        return false;
    }
}

static int get_unsigned(const struct gguf *gguf, const char *name, uint64_t max, uint64_t *ret,
                        struct error *err)
{
    const struct key *key = find_key(gguf, name);
    uint64_t value;
    bool negative;

    if (!key)
        return -ENOENT;
    if (!load_integer(key->type, key->number, &negative, &value))
        return wrong_type(gguf, key, "an integer", err);
    if (negative || value > max)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "In '%s', key %s: expected a number from 0 to %" PRIu64
                         ", found %s%" PRIu64 ".",
                         gguf_path(gguf), quote(key->name).text, max, negative ? "-" : "", value);
    *ret = value;
    return 0;
}

int gguf_u64(const struct gguf *gguf, const char *key, uint64_t *ret, struct error *err)
{
    return get_unsigned(gguf, key, UINT64_MAX, ret, err);
}

int gguf_u32(const struct gguf *gguf, const char *key, uint32_t *ret, struct error *err)
{
    uint64_t value = 0;
    int r = get_unsigned(gguf, key, UINT32_MAX, &value, err);

    if (r == 0)
        *ret = (uint32_t)value;
    return r;
}

int gguf_f32(const struct gguf *gguf, const char *name, float *ret, struct error *err)
{
    const struct key *key = find_key(gguf, name);
    double value;

    if (!key)
        return -ENOENT;
    if (key->type == GGUF_F32) {
        memcpy(ret, key->number, sizeof(*ret));
        return 0;
    }
    if (key->type != GGUF_F64)
        return wrong_type(gguf, key, "a floating-point number", err);
    memcpy(&value, key->number, sizeof(value));
    *ret = (float)value;
    return 0;
}

int gguf_bool(const struct gguf *gguf, const char *name, bool *ret, struct error *err)
{
    const struct key *key = find_key(gguf, name);

    if (!key)
        return -ENOENT;
    if (key->type != GGUF_BOOL)
        return wrong_type(gguf, key, "a bool", err);
    *ret = *key->number;
    return 0;
}

int gguf_str(const struct gguf *gguf, const char *name, struct gguf_string *ret, struct error *err)
{
    const struct key *key = find_key(gguf, name);

    if (!key)
        return -ENOENT;
    if (key->type != GGUF_STRING)
        return wrong_type(gguf, key, "a string", err);
    *ret = key->string;
    return 0;
}

int gguf_array(const struct gguf *gguf, const char *name, struct gguf_array *ret, struct error *err)
{
    const struct key *key = find_key(gguf, name);

    if (!key)
        return -ENOENT;
    if (key->type != GGUF_ARRAY)
        return wrong_type(gguf, key, "an array", err);
    *ret = key->array;
    return 0;
}

bool gguf_array_i64(const struct gguf_array *array, size_t i, int64_t *ret)
{
    const uint8_t *data = array->data;
    uint64_t magnitude;
    bool negative;

    if (i >= array->n ||
        !load_integer(array->type, data + i * number_bytes[array->type], &negative, &magnitude) ||
        (!negative && magnitude > INT64_MAX))
        return false;
    *ret = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

/* --- tensors ---------------------------------------------------------------------------------- */

size_t gguf_n_tensors(const struct gguf *gguf)
{
    return gguf->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t i)
{
    return i < gguf->n_tensors ? &gguf->tensors[i] : NULL;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, const char *name)
{
    const struct name_index *found = name_index_find(gguf->tensor_index, gguf->n_tensors, name);

    return found ? &gguf->tensors[found->at] : NULL;
}

void gguf_tensor_drop(const struct gguf_tensor *tensor)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = (uintptr_t)tensor->data / page * page;

    /* Pages shared with a neighbour may go as well: they come back from the file when touched. */
    if (tensor->mapped)
        madvise((void *)first, (uintptr_t)tensor->data + tensor->size_bytes - first, MADV_DONTNEED);
}

void gguf_tensor_drop_part(const struct gguf_tensor *tensor, size_t first, size_t last)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = ((uintptr_t)tensor->data + first + page - 1) / page * page;
    const uintptr_t to = ((uintptr_t)tensor->data + last) / page * page;

    if (tensor->mapped && from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
}
