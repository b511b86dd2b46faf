/* SPDX-License-Identifier: MIT */
#include "tools/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tensor/pool.h"

/* Every verb takes these, so that one set of arguments serves a whole comparison. */
static const char common_options[] = "model= threads= kv= precise";

/* What the list says behind the option's name: "", "=" or "=*"; NULL: it does not have it. */
static const char *listed(const char *list, const char *name)
{
    while (*list) {
        const size_t n = strcspn(list, " "), n_name = strcspn(list, " =");

        if (n_name == strlen(name) && memcmp(list, name, n_name) == 0)
            return n == n_name ? "" : n == n_name + 1 ? "=" : "=*";
        list += n + strspn(list + n, " ");
    }
    return NULL;
}

static const struct run_option *find(const struct run_options *options, const char *name)
{
    for (size_t i = 0; i < options->n; i++)
        if (strcmp(options->items[i].name, name) == 0)
            return &options->items[i];
    return NULL;
}

static int read_options(const struct run_verb *verb, char **arguments, int n,
                        struct run_options *ret, struct error *err)
{
    *ret = (struct run_options){0};
    for (int i = 0; i < n; i++) {
        struct run_option *option = &ret->items[ret->n];
        const char *name = arguments[i] + strspn(arguments[i], "-");
        const size_t length = strcspn(name, "=");
        const char *value = name[length] == '=' ? name + length + 1 : NULL;
        const char *kind;

        if (name == arguments[i] || length == 0 || length >= sizeof(option->name))
            return error_set(err, ERROR_INVALID_ARGUMENT, "\"%s\" is not an option of %s.",
                             arguments[i], verb->name);
        memcpy(option->name, name, length);
        option->name[length] = '\0';
        kind = listed(verb->options, option->name);
        if (!kind)
            kind = listed(common_options, option->name);
        if (!kind)
            return error_set(err, ERROR_INVALID_ARGUMENT, "%s has no option --%s.", verb->name,
                             option->name);
        if (find(ret, option->name) && strcmp(kind, "=*") != 0)
            return error_set(err, ERROR_INVALID_ARGUMENT, "--%s is given twice.", option->name);
        if (!*kind && value)
            return error_set(err, ERROR_INVALID_ARGUMENT, "--%s takes no value.", option->name);
        if (*kind && !value) {
            if (++i == n)
                return error_set(err, ERROR_INVALID_ARGUMENT, "--%s needs a value.", option->name);
            value = arguments[i];
        }
        if (ret->n + 1 == RUN_OPTIONS_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT, "There are more than %d options.",
                             RUN_OPTIONS_MAX - 1);
        option->value = value;
        ret->n++;
    }
    return 0;
}

const char *run_value(const struct run_options *options, const char *name)
{
    const struct run_option *option = find(options, name);

    return option ? option->value : NULL;
}

const char *run_value_at(const struct run_options *options, const char *name, size_t i)
{
    for (size_t k = 0; k < options->n; k++)
        if (strcmp(options->items[k].name, name) == 0 && i-- == 0)
            return options->items[k].value;
    return NULL;
}

bool run_flag(const struct run_options *options, const char *name)
{
    return find(options, name) != NULL;
}

int run_need(const struct run_options *options, const char *name, const char **ret,
             struct error *err)
{
    const char *value = run_value(options, name);

    if (!value)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--%s is missing.", name);
    *ret = value;
    return 0;
}

int run_number(const struct run_options *options, const char *name, uint64_t low, uint64_t high,
               uint64_t *ret, struct error *err)
{
    const char *value = run_value(options, name);
    unsigned long long number;
    char *end;

    if (!value)
        return 0;
    errno = 0;
    number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || number < low || number > high)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "--%s is \"%s\", expected a whole number from %" PRIu64 " to %" PRIu64 ".",
                         name, value, low, high);
    *ret = number;
    return 0;
}

static int read_kv(const struct run_options *options, enum kv_type *ret, struct error *err)
{
    static const char *const names[] = {[KV_F32] = "f32", [KV_F16] = "f16", [KV_Q8_0] = "q8_0"};
    const char *name = run_value(options, "kv");

    *ret = KV_F32;
    for (size_t i = 0; name && i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum kv_type)i;
            return 0;
        }
    return name ? error_set(err, ERROR_INVALID_ARGUMENT,
                            "--kv: expected f32, f16 or q8_0, found \"%s\".", name)
                : 0;
}

int run_options_parse(const struct run_verb *verb, char **arguments, int n, struct run_options *ret,
                      struct error *err)
{
    uint64_t n_threads = 0;
    int r = read_options(verb, arguments, n, ret, err);

    if (r == 0)
        r = run_number(ret, "threads", 0, POOL_THREADS_MAX, &n_threads, err);
    ret->n_threads = (unsigned)n_threads;
    return r == 0 ? read_kv(ret, &ret->kv, err) : r;
}

int run_ids(const struct run_options *options, size_t n_vocab, uint32_t **ret, size_t *ret_n,
            struct error *err)
{
    _cleanup_(freep) uint32_t *ids = NULL;
    const char *text = NULL;
    size_t n = 0;
    int r = run_need(options, "ids", &text, err);

    if (r < 0)
        return r;
    ids = calloc(strlen(text) / 2 + 1, sizeof(ids[0])); /* an id and its comma are two bytes */
    if (!ids)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the ids.");

    while (*text) {
        unsigned long long id;
        char *end;

        errno = 0;
        id = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || errno || (*end && (*end != ',' || !end[1])))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "--ids is broken at \"%.16s\", expected numbers with commas between.",
                             text);
        if (id >= n_vocab)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "--ids has %llu, but the vocabulary has %zu tokens.", id, n_vocab);
        ids[n++] = (uint32_t)id;
        text = *end ? end + 1 : end;
    }
    *ret = TAKE_PTR(ids);
    *ret_n = n;
    return 0;
}

/* All of a stream, malloc, with a NUL after it. name: how a sentence calls it. */
static int read_stream(FILE *stream, const char *name, char **ret, size_t *ret_length,
                       struct error *err)
{
    _cleanup_(freep) char *text = NULL;
    size_t length = 0, capacity = 0;

    for (;;) {
        size_t n;

        if (capacity - length < 2) {
            char *larger;

            if (capacity >= RUN_INPUT_MAX)
                return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes.", name,
                                 RUN_INPUT_MAX);
            capacity = capacity ? 2 * capacity : (size_t)1 << 16;
            larger = realloc(text, capacity);
            if (!larger)
                return error_set(err, ERROR_NO_MEMORY, "There is no memory for %s.", name);
            text = larger;
        }
        n = fread(text + length, 1, capacity - length - 1, stream);
        length += n;
        if (n == 0)
            break;
    }
    if (ferror(stream))
        return error_set(err, ERROR_IO, "%s cannot be read: %s.", name, strerror(errno));
    text[length] = '\0';
    *ret = TAKE_PTR(text);
    *ret_length = length;
    return 0;
}

int run_stdin(char **ret, size_t *ret_length, struct error *err)
{
    return read_stream(stdin, "The input", ret, ret_length, err);
}

void run_json_putp(struct json_object **value)
{
    json_object_put(*value);
}

static int parse_json(const char *name, const char *text, size_t length, struct json_object **ret,
                      struct error *err)
{
    struct json_tokener *tokener;
    enum json_tokener_error error;

    if (length >= INT32_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is %zu bytes long.", name, length);
    tokener = json_tokener_new_ex(64);
    if (!tokener)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for %s.", name);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    *ret = json_tokener_parse_ex(tokener, text, (int)length + 1);
    error = json_tokener_get_error(tokener);
    json_tokener_free(tokener);
    if (error != json_tokener_success)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not JSON: %s.", name,
                         json_tokener_error_desc(error));
    return 0;
}

int run_json(const char *path, struct json_object **ret, struct error *err)
{
    const char *name = path ? path : "The request";
    FILE *stream = path ? fopen(path, "re") : stdin;
    _cleanup_(freep) char *text = NULL;
    size_t length;
    int r;

    if (!stream)
        return error_set(err, ERROR_IO, "%s cannot be opened: %s.", name, strerror(errno));
    r = read_stream(stream, name, &text, &length, err);
    if (path)
        fclose(stream);
    return r < 0 ? r : parse_json(name, text, length, ret, err);
}

int run_json_codes(struct json_object *frames, int32_t n_codes, int32_t **ret, size_t *ret_n,
                   struct error *err)
{
    const size_t n =
        json_object_is_type(frames, json_type_array) ? json_object_array_length(frames) : 0;
    _cleanup_(freep) int32_t *codes = NULL;

    if (!json_object_is_type(frames, json_type_array))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "Codes must be an array of frames of %d codes.", CODEBOOKS);
    codes = calloc(n + 1, CODEBOOKS * sizeof(*codes));
    if (!codes)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for %zu frames.", n);
    for (size_t i = 0; i < n; i++) {
        struct json_object *frame = json_object_array_get_idx(frames, i);

        if (!json_object_is_type(frame, json_type_array) ||
            json_object_array_length(frame) != CODEBOOKS)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "Frame %zu is not an array of %d codes.", i, CODEBOOKS);
        for (size_t book = 0; book < CODEBOOKS; book++) {
            struct json_object *code = json_object_array_get_idx(frame, book);
            const int64_t value = json_object_get_int64(code);

            if (!json_object_is_type(code, json_type_int) || value < 0 || value >= n_codes)
                return error_set(err, ERROR_INVALID_ARGUMENT,
                                 "Code %zu of frame %zu is %s, but must be from 0 to %d.", book, i,
                                 json_object_to_json_string(code), n_codes - 1);
            codes[i * CODEBOOKS + book] = (int32_t)value;
        }
    }
    *ret = TAKE_PTR(codes);
    *ret_n = n;
    return 0;
}

int run_print(const char *text, size_t length, struct error *err)
{
    if (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0)
        return error_set(err, ERROR_IO, "The output cannot be written: %s.", strerror(errno));
    return 0;
}

int run_print_ids(const uint32_t *ids, size_t n, struct error *err)
{
    putchar('[');
    for (size_t i = 0; i < n; i++)
        printf("%s%" PRIu32, i > 0 ? ", " : "", ids[i]);
    return run_print("]\n", 2, err);
}

float *run_take_floats(size_t rows, size_t width, struct error *err)
{
    float *values = reallocarray(NULL, rows, width * sizeof(*values));

    if (!values)
        error_set(err, ERROR_NO_MEMORY, "Cannot take memory for %zu rows of %zu values.", rows,
                  width);
    return values;
}

int run_write_floats(const char *path, const float *values, size_t n, struct error *err)
{
    FILE *file = fopen(path, "we");
    bool wrote;

    if (!file)
        return error_set(err, ERROR_IO, "Cannot write '%s': %m.", path);
    wrote = fwrite(values, sizeof(*values), n, file) == n;
    if (fclose(file) != 0 || !wrote)
        return error_set(err, ERROR_IO, "Cannot write '%s': %m.", path);
    return 0;
}
