/* SPDX-License-Identifier: MIT */
#include "text/tokenizer.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "text/pretokenizer.h"

/* tokenizer.ggml.token_type */
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

struct merge {
    uint64_t pair; /* left id << 32 | right id; NO_PAIR: an empty slot */
    uint32_t rank;
    uint32_t id;
};

#define NO_PAIR UINT64_MAX

struct tokenizer {
    size_t n_vocab;
    char *bytes;       /* the pieces, one after the other */
    uint32_t *offsets; /* [n_vocab + 1] into bytes */
    uint8_t *types;    /* [n_vocab], enum token_type */

    uint32_t byte_ids[256];
    struct merge *merges; /* [merges_mask + 1], open addressing */
    size_t merges_mask;
    uint64_t seed; /* of the hashes: a file cannot be made to collide */

    uint32_t *specials; /* [n_specials] ids of control and user-defined tokens, sorted by piece */
    size_t n_specials;
    bool special_begins[256]; /* by first byte */

    uint32_t bos, eos;
    uint32_t im_end, endoftext;
    bool add_bos;

    struct vocabulary *_Atomic vocabulary; /* NULL until somebody asks */
};

/* --- the byte alphabet ----------------------------------------------------------------------- */

/* Printable bytes stand for themselves, the other 68 for U+0100 and on, in increasing order. */
static bool byte_is_printable(unsigned byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

static void alphabet_init(uint32_t code_points[256], int16_t bytes[0x144])
{
    uint32_t next = 0x100;

    memset(bytes, 0xff, 0x144 * sizeof(bytes[0]));
    for (unsigned byte = 0; byte < 256; byte++) {
        code_points[byte] = byte_is_printable(byte) ? byte : next++;
        bytes[code_points[byte]] = (int16_t)byte;
    }
}

/*
 * The bytes that a token of the vocabulary stands for; out is as long as the text. Text outside the
 * alphabet (added tokens that a converter did not flag) stands for itself.
 */
static size_t alphabet_decode(const int16_t bytes[0x144], struct gguf_string text, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < text.length;) {
        uint32_t code_point;
        const int length = utf8_decode(text.text + i, text.length - i, &code_point);

        if (length <= 0 || code_point >= 0x144 || bytes[code_point] < 0) {
            memcpy(out, text.text, text.length);
            return text.length;
        }
        out[n++] = (char)bytes[code_point];
        i += (size_t)length;
    }
    return n;
}

/* --- hashing --------------------------------------------------------------------------------- */

static uint64_t hash_mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

static uint64_t hash_text(uint64_t seed, const char *text, size_t length)
{
    uint64_t hash = hash_mix(seed ^ length), word;

    for (; length >= sizeof(word); text += sizeof(word), length -= sizeof(word)) {
        memcpy(&word, text, sizeof(word));
        hash = hash_mix(hash ^ word);
    }
    word = 0;
    memcpy(&word, text, length);
    return hash_mix(hash ^ word);
}

/* Slots for n entries, at most half full. */
static size_t hash_slots(size_t n)
{
    size_t slots = 16;

    while (slots < 2 * n)
        slots *= 2;
    return slots;
}

static const struct merge *merge_find(const struct tokenizer *tokenizer, uint32_t left,
                                      uint32_t right)
{
    const uint64_t pair = (uint64_t)left << 32 | right;

    for (size_t i = hash_mix(tokenizer->seed ^ pair);; i++) {
        const struct merge *merge = &tokenizer->merges[i & tokenizer->merges_mask];

        if (merge->pair == pair)
            return merge;
        if (merge->pair == NO_PAIR)
            return NULL;
    }
}

/* --- loading --------------------------------------------------------------------------------- */

/* Texts of the vocabulary -> ids, needed only while loading. */
struct spellings {
    const struct gguf_string *texts;
    size_t n;
    uint32_t *slots; /* [mask + 1] ids, TOKEN_NONE: empty */
    size_t mask;
    uint64_t seed;
};

static uint32_t *spellings_slot(const struct spellings *spellings, const char *text,
                                 size_t length)
{
    for (size_t i = hash_text(spellings->seed, text, length);; i++) {
        uint32_t *slot = &spellings->slots[i & spellings->mask];
        const struct gguf_string *other;

        if (*slot == TOKEN_NONE)
            return slot;
        other = &spellings->texts[*slot];
        if (other->length == length && memcmp(other->text, text, length) == 0)
            return slot;
    }
}

static int spellings_init(struct spellings *spellings, const struct gguf *gguf,
                           const struct gguf_array *tokens, uint64_t seed, struct error *err)
{
    const size_t n_slots = hash_slots(tokens->n);

    *spellings = (struct spellings){
        .texts = tokens->strings,
        .n = tokens->n,
        .slots = malloc(n_slots * sizeof(spellings->slots[0])),
        .mask = n_slots - 1,
        .seed = seed,
    };
    if (!spellings->slots)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the spellings.");
    memset(spellings->slots, 0xff, n_slots * sizeof(spellings->slots[0]));

    for (size_t id = 0; id < tokens->n; id++) {
        const struct gguf_string *text = &tokens->strings[id];
        uint32_t *slot = spellings_slot(spellings, text->text, text->length);

        if (*slot != TOKEN_NONE)
            return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                             "%s: tokens %u and %zu of tokenizer.ggml.tokens have the same text.",
                             gguf_path(gguf), *slot, id);
        *slot = (uint32_t)id;
    }
    return 0;
}

static void spellings_done(struct spellings *spellings)
{
    free(spellings->slots);
}

static int load_array(const struct gguf *gguf, const char *key, bool strings, size_t n_max,
                      struct gguf_array *ret, struct error *err)
{
    int r = gguf_array(gguf, key, ret, err);

    if (r == -ENOENT)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "%s has no %s, which a tokenizer needs.",
                         gguf_path(gguf), key);
    if (r < 0)
        return r;
    if (strings && !ret->strings)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s: %s is an array of numbers, expected strings.", gguf_path(gguf), key);
    if (ret->n > n_max)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s: %s has %zu entries, at most %zu are read.", gguf_path(gguf), key,
                         ret->n, n_max);
    return 0;
}

static int check_name(const struct gguf *gguf, const char *key, const char *expected,
                      struct error *err)
{
    struct gguf_string found;
    int r = gguf_str(gguf, key, &found, err);

    if (r == -ENOENT)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "%s has no %s, expected \"%s\".",
                         gguf_path(gguf), key, expected);
    if (r < 0)
        return r;
    if (found.length != strlen(expected) || memcmp(found.text, expected, found.length) != 0)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT, "%s: %s is \"%.*s\", expected \"%s\".",
                         gguf_path(gguf), key, (int)MIN(found.length, (size_t)64), found.text,
                         expected);
    return 0;
}

static int load_pieces(struct tokenizer *tokenizer, const struct gguf *gguf,
                       const struct gguf_array *tokens, const struct gguf_array *types,
                       const int16_t alphabet[0x144], struct error *err)
{
    size_t size = 0, used = 0;

    for (size_t id = 0; id < tokens->n; id++)
        size += tokens->strings[id].length;
    if (size > UINT32_MAX)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s: the tokens take %zu bytes, at most %u are read.", gguf_path(gguf),
                         size, UINT32_MAX);

    tokenizer->n_vocab = tokens->n;
    tokenizer->bytes = malloc(size + 1);
    tokenizer->offsets = malloc((tokens->n + 1) * sizeof(tokenizer->offsets[0]));
    tokenizer->types = malloc(tokens->n);
    if (!tokenizer->bytes || !tokenizer->offsets || !tokenizer->types)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the spellings.");

    for (size_t id = 0; id < tokens->n; id++) {
        const struct gguf_string text = tokens->strings[id];
        int64_t type;

        if (!gguf_array_i64(types, id, &type) || type < TOKEN_NORMAL || type > TOKEN_BYTE)
            return error_set(
                err, ERROR_UNSUPPORTED_FORMAT,
                "%s: the type of token %zu in tokenizer.ggml.token_type is not 1 to 6.",
                gguf_path(gguf), id);
        tokenizer->types[id] = (uint8_t)type;
        tokenizer->offsets[id] = (uint32_t)used;

        if (type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED) {
            if (text.length == 0 || text.length > TOKENIZER_SPECIAL_MAX)
                return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                                 "%s: special token %zu is %zu bytes long, expected 1 to %zu.",
                                 gguf_path(gguf), id, text.length, TOKENIZER_SPECIAL_MAX);
            memcpy(tokenizer->bytes + used, text.text, text.length);
            used += text.length;
            tokenizer->n_specials++;
        } else if (type != TOKEN_UNUSED) {
            used += alphabet_decode(alphabet, text, tokenizer->bytes + used);
        }
    }
    tokenizer->offsets[tokens->n] = (uint32_t)used;
    return 0;
}

static int load_bytes(struct tokenizer *tokenizer, const struct gguf *gguf,
                      const struct spellings *spellings, const uint32_t alphabet[256],
                      struct error *err)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[4];
        const size_t length = utf8_encode(alphabet[byte], text);

        tokenizer->byte_ids[byte] = *spellings_slot(spellings, text, length);
        if (tokenizer->byte_ids[byte] == TOKEN_NONE)
            return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                             "%s: the vocabulary has no token for the byte 0x%02x.",
                             gguf_path(gguf), byte);
    }
    return 0;
}

static void merge_insert(struct tokenizer *tokenizer, struct merge merge)
{
    for (size_t i = hash_mix(tokenizer->seed ^ merge.pair);; i++) {
        struct merge *slot = &tokenizer->merges[i & tokenizer->merges_mask];

        if (slot->pair == merge.pair)
            return; /* listed before, with a lower rank */
        if (slot->pair == NO_PAIR) {
            *slot = merge;
            return;
        }
    }
}

static int load_merges(struct tokenizer *tokenizer, const struct spellings *spellings,
                       const struct gguf_array *merges, struct error *err)
{
    const size_t n_slots = hash_slots(merges->n);

    tokenizer->merges = malloc(n_slots * sizeof(tokenizer->merges[0]));
    if (!tokenizer->merges)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the merges.");
    memset(tokenizer->merges, 0xff, n_slots * sizeof(tokenizer->merges[0]));
    tokenizer->merges_mask = n_slots - 1;

    for (size_t rank = 0; rank < merges->n; rank++) {
        const struct gguf_string text = merges->strings[rank];
        const char *space = text.length > 1 ? memchr(text.text + 1, ' ', text.length - 1) : NULL;
        char joined[1024]; /* no merge of a real vocabulary comes near */
        size_t n_left, n_right;
        uint32_t left, right, id;

        if (!space || text.length > sizeof(joined))
            continue;
        n_left = (size_t)(space - text.text);
        n_right = text.length - n_left - 1;
        memcpy(joined, text.text, n_left);
        memcpy(joined + n_left, space + 1, n_right);

        left = *spellings_slot(spellings, joined, n_left);
        right = *spellings_slot(spellings, joined + n_left, n_right);
        id = *spellings_slot(spellings, joined, n_left + n_right);
        if (left == TOKEN_NONE || right == TOKEN_NONE || id == TOKEN_NONE)
            continue;
        merge_insert(
            tokenizer,
            (struct merge){.pair = (uint64_t)left << 32 | right, .rank = (uint32_t)rank, .id = id});
    }
    return 0;
}

static int compare_pieces(const void *a, const void *b, void *userdata)
{
    const struct tokenizer *tokenizer = userdata;
    size_t n_a, n_b;
    const char *text_a = tokenizer_piece(tokenizer, *(const uint32_t *)a, &n_a);
    const char *text_b = tokenizer_piece(tokenizer, *(const uint32_t *)b, &n_b);
    const int order = memcmp(text_a, text_b, MIN(n_a, n_b));

    return order ? order : (n_a > n_b) - (n_a < n_b);
}

static int load_specials(struct tokenizer *tokenizer, struct error *err)
{
    size_t n = 0;

    tokenizer->specials = malloc((tokenizer->n_specials + 1) * sizeof(tokenizer->specials[0]));
    if (!tokenizer->specials)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the special tokens.");
    for (size_t id = 0; id < tokenizer->n_vocab; id++) {
        const uint8_t type = tokenizer->types[id];

        if (type != TOKEN_CONTROL && type != TOKEN_USER_DEFINED)
            continue;
        tokenizer->specials[n++] = (uint32_t)id;
        tokenizer->special_begins[(uint8_t)tokenizer->bytes[tokenizer->offsets[id]]] = true;
    }
    qsort_r(tokenizer->specials, n, sizeof(tokenizer->specials[0]), compare_pieces, tokenizer);
    return 0;
}

static int load_id(const struct tokenizer *tokenizer, const struct gguf *gguf, const char *key,
                   uint32_t *ret, struct error *err)
{
    uint32_t id = TOKEN_NONE;
    int r = gguf_u32(gguf, key, &id, err);

    if (r < 0 && r != -ENOENT)
        return r;
    if (r == 0 && id >= tokenizer->n_vocab)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s: %s is %u, but the vocabulary has %zu tokens.", gguf_path(gguf), key,
                         id, tokenizer->n_vocab);
    *ret = id;
    return 0;
}

static int load(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *err)
{
    _cleanup_(spellings_done) struct spellings spellings = {0};
    struct gguf_array tokens, types, merges;
    uint32_t code_points[256];
    int16_t bytes[0x144];
    int r;

    r = check_name(gguf, "tokenizer.ggml.model", "gpt2", err);
    if (r < 0)
        return r;
    r = check_name(gguf, "tokenizer.ggml.pre", "lfm2", err);
    if (r < 0)
        return r;
    r = load_array(gguf, "tokenizer.ggml.tokens", true, TOKENIZER_TOKENS_MAX, &tokens, err);
    if (r < 0)
        return r;
    r = load_array(gguf, "tokenizer.ggml.token_type", false, TOKENIZER_TOKENS_MAX, &types, err);
    if (r < 0)
        return r;
    r = load_array(gguf, "tokenizer.ggml.merges", true, TOKENIZER_MERGES_MAX, &merges, err);
    if (r < 0)
        return r;
    if (types.n != tokens.n)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "%s: tokenizer.ggml.token_type has %zu entries, expected %zu as in "
                         "tokenizer.ggml.tokens.",
                         gguf_path(gguf), types.n, tokens.n);

    if (getrandom(&tokenizer->seed, sizeof(tokenizer->seed), GRND_NONBLOCK) < 0)
        tokenizer->seed = (uintptr_t)tokenizer;

    alphabet_init(code_points, bytes);
    r = load_pieces(tokenizer, gguf, &tokens, &types, bytes, err);
    if (r < 0)
        return r;
    r = spellings_init(&spellings, gguf, &tokens, tokenizer->seed, err);
    if (r < 0)
        return r;
    r = load_bytes(tokenizer, gguf, &spellings, code_points, err);
    if (r < 0)
        return r;
    r = load_merges(tokenizer, &spellings, &merges, err);
    if (r < 0)
        return r;
    r = load_specials(tokenizer, err);
    if (r < 0)
        return r;

    r = load_id(tokenizer, gguf, "tokenizer.ggml.bos_token_id", &tokenizer->bos, err);
    if (r < 0)
        return r;
    r = load_id(tokenizer, gguf, "tokenizer.ggml.eos_token_id", &tokenizer->eos, err);
    if (r < 0)
        return r;
    tokenizer->im_end = tokenizer_find(tokenizer, "<|im_end|>");
    tokenizer->endoftext = tokenizer_find(tokenizer, "<|endoftext|>");

    tokenizer->add_bos = true; /* what the pre-tokeniser lfm2 means when the key is absent */
    r = gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &tokenizer->add_bos, err);
    return r == -ENOENT ? 0 : r;
}

struct tokenizer *tokenizer_load(const struct gguf *gguf, struct error *err)
{
    struct tokenizer *tokenizer = calloc(1, sizeof(*tokenizer));

    if (!tokenizer) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the tokenizer.");
        return NULL;
    }
    if (load(tokenizer, gguf, err) < 0)
        return tokenizer_free(tokenizer);
    return tokenizer;
}

struct tokenizer *tokenizer_free(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return NULL;
    free(tokenizer->bytes);
    free(tokenizer->offsets);
    free(tokenizer->types);
    free(tokenizer->merges);
    free(tokenizer->specials);
    vocabulary_free(tokenizer->vocabulary);
    free(tokenizer);
    return NULL;
}

/* --- questions about ids --------------------------------------------------------------------- */

size_t tokenizer_n_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->n_vocab;
}

uint32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

bool tokenizer_add_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->add_bos;
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id)
{
    return id != TOKEN_NONE &&
           (id == tokenizer->eos || id == tokenizer->im_end || id == tokenizer->endoftext);
}

bool tokenizer_is_control(const struct tokenizer *tokenizer, uint32_t id)
{
    if (id >= tokenizer->n_vocab)
        return true;
    return tokenizer->types[id] == TOKEN_CONTROL || tokenizer->types[id] == TOKEN_UNKNOWN ||
           tokenizer->types[id] == TOKEN_UNUSED;
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id, size_t *ret_length)
{
    if (id >= tokenizer->n_vocab) {
        *ret_length = 0;
        return "";
    }
    *ret_length = tokenizer->offsets[id + 1] - tokenizer->offsets[id];
    return tokenizer->bytes + tokenizer->offsets[id];
}

const struct vocabulary *tokenizer_vocabulary(const struct tokenizer *tokenizer, struct error *err)
{
    /* The only part that is not fixed by loading. */
    struct vocabulary *_Atomic *place = &((struct tokenizer *)tokenizer)->vocabulary;
    const uint32_t call_start = tokenizer_find(tokenizer, "<|tool_call_start|>");
    const uint32_t call_end = tokenizer_find(tokenizer, "<|tool_call_end|>");
    struct vocabulary *vocabulary = atomic_load(place), *other = NULL;
    _cleanup_(freep) struct vocabulary_token *tokens = NULL;

    if (vocabulary)
        return vocabulary;
    tokens = calloc(tokenizer->n_vocab, sizeof(*tokens));
    if (!tokens) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for a list of %zu tokens.",
                  tokenizer->n_vocab);
        return NULL;
    }
    for (uint32_t id = 0; id < tokenizer->n_vocab; id++) {
        tokens[id].text = tokenizer_piece(tokenizer, id, &tokens[id].length);
        tokens[id].kind = tokenizer_is_end(tokenizer, id)       ? VOCABULARY_END
                          : id == call_start                    ? VOCABULARY_CALL_START
                          : id == call_end                      ? VOCABULARY_CALL_END
                          : tokenizer_is_control(tokenizer, id) ? VOCABULARY_CONTROL
                                                                : VOCABULARY_TEXT;
    }
    vocabulary = vocabulary_new(tokens, tokenizer->n_vocab, err);
    if (vocabulary && !atomic_compare_exchange_strong(place, &other, vocabulary)) {
        vocabulary_free(vocabulary); /* another thread was faster */
        vocabulary = other;
    }
    return vocabulary;
}

/*
 * The longest special token at the beginning of a text: a control token within its first
 * `n_control` bytes, a user-defined one within `n`. TOKEN_NONE when there is none.
 *
 * The specials are sorted, so those that share the bytes read so far are one range, and one that is
 * no longer than they are stands first in it.
 */
static uint32_t special_at(const struct tokenizer *tokenizer, const char *text, size_t n_control,
                           size_t n, size_t *ret_length)
{
    size_t low = 0, high = tokenizer->n_specials;
    uint32_t best = TOKEN_NONE;

    for (size_t i = 0; i < n && low < high; i++) {
        const uint8_t byte = (uint8_t)text[i];
        size_t length, bound[2];

        /* The first special whose byte i is at least `byte`, and the first where it is greater. */
        for (unsigned side = 0; side < 2; side++) {
            size_t from = low, to = high;

            while (from < to) {
                const size_t middle = from + (to - from) / 2;
                const char *piece =
                    tokenizer_piece(tokenizer, tokenizer->specials[middle], &length);

                if (i >= length || (uint8_t)piece[i] + 1u - side <= byte)
                    from = middle + 1;
                else
                    to = middle;
            }
            bound[side] = from;
        }
        low = bound[0], high = bound[1];
        if (low == high)
            break;

        tokenizer_piece(tokenizer, tokenizer->specials[low], &length);
        if (length == i + 1 && (tokenizer->types[tokenizer->specials[low]] == TOKEN_USER_DEFINED ||
                                length <= n_control)) {
            best = tokenizer->specials[low];
            *ret_length = length;
        }
    }
    return best;
}

uint32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text)
{
    const size_t n = strlen(text);
    size_t length;
    const uint32_t id = special_at(tokenizer, text, n, n, &length);

    return id != TOKEN_NONE && length == n ? id : TOKEN_NONE;
}

/* --- byte-pair encoding ---------------------------------------------------------------------- */

/* A token of the piece that is being merged, in a list; `id` is TOKEN_NONE once merged away. */
struct symbol {
    uint32_t id;
    uint32_t previous, next; /* END: none */
};

#define END UINT32_MAX

/* Memory of one encoding, as large as its longest piece needs. */
struct scratch {
    struct symbol *symbols; /* [capacity] */
    uint64_t *heap;         /* [2 * capacity] rank << 32 | index of the left symbol, least first */
    size_t n_heap, capacity;
};

static int scratch_reserve(struct scratch *scratch, size_t n)
{
    const size_t capacity = MAX(round_up(n, 64), 2 * scratch->capacity);
    struct symbol *symbols;
    uint64_t *heap;

    if (n <= scratch->capacity)
        return 0;
    symbols = realloc(scratch->symbols, capacity * sizeof(symbols[0]));
    if (!symbols)
        return -ENOMEM;
    scratch->symbols = symbols;
    heap = realloc(scratch->heap, 2 * capacity * sizeof(heap[0]));
    if (!heap)
        return -ENOMEM;
    scratch->heap = heap;
    scratch->capacity = capacity;
    return 0;
}

static void scratch_done(struct scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
}

static void heap_push(struct scratch *scratch, uint64_t entry)
{
    size_t i = scratch->n_heap++;

    for (; i > 0 && scratch->heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
        scratch->heap[i] = scratch->heap[(i - 1) / 2];
    scratch->heap[i] = entry;
}

static uint64_t heap_pop(struct scratch *scratch)
{
    const uint64_t least = scratch->heap[0], moved = scratch->heap[--scratch->n_heap];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= scratch->n_heap)
            break;
        if (child + 1 < scratch->n_heap && scratch->heap[child + 1] < scratch->heap[child])
            child++;
        if (scratch->heap[child] >= moved)
            break;
        scratch->heap[i] = scratch->heap[child];
        i = child;
    }
    scratch->heap[i] = moved;
    return least;
}

/* Put the pair whose left symbol is `left` into the heap, when there is a merge of it. */
static void offer_pair(const struct tokenizer *tokenizer, struct scratch *scratch, uint32_t left)
{
    const struct symbol *symbol = &scratch->symbols[left];
    const struct merge *merge;

    if (symbol->next == END)
        return;
    merge = merge_find(tokenizer, symbol->id, scratch->symbols[symbol->next].id);
    if (merge)
        heap_push(scratch, (uint64_t)merge->rank << 32 | left);
}

/*
 * Merge the pair of lowest rank, the leftmost of equals, until there is none.
 *
 * A merge offers at most two new pairs and takes one away, so the heap never holds more than 2n.
 * Pairs that have changed since they were offered are seen by their rank, which only they have.
 */
static int encode_piece(const struct tokenizer *tokenizer, const char *text, size_t n,
                        struct scratch *scratch, struct token_list *out)
{
    struct symbol *symbols;
    int r = scratch_reserve(scratch, n);

    if (r < 0)
        return r;
    symbols = scratch->symbols;
    scratch->n_heap = 0;
    for (size_t i = 0; i < n; i++)
        symbols[i] = (struct symbol){
            .id = tokenizer->byte_ids[(uint8_t)text[i]],
            .previous = i > 0 ? (uint32_t)i - 1 : END,
            .next = i + 1 < n ? (uint32_t)i + 1 : END,
        };
    for (size_t i = 0; i + 1 < n; i++)
        offer_pair(tokenizer, scratch, (uint32_t)i);

    while (scratch->n_heap > 0) {
        const uint64_t entry = heap_pop(scratch);
        struct symbol *left = &symbols[(uint32_t)entry], *right;
        const struct merge *merge;

        if (left->id == TOKEN_NONE || left->next == END)
            continue;
        right = &symbols[left->next];
        merge = merge_find(tokenizer, left->id, right->id);
        if (!merge || merge->rank != entry >> 32)
            continue;

        left->id = merge->id;
        left->next = right->next;
        right->id = TOKEN_NONE;
        if (left->next != END)
            symbols[left->next].previous = (uint32_t)entry;

        offer_pair(tokenizer, scratch, (uint32_t)entry);
        if (left->previous != END)
            offer_pair(tokenizer, scratch, left->previous);
    }

    for (uint32_t i = 0; i != END; i = symbols[i].next) {
        r = token_list_push(out, symbols[i].id);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A stretch of text that holds no special tokens. */
static int encode_plain(const struct tokenizer *tokenizer, const char *text, size_t n,
                        struct scratch *scratch, struct token_list *out)
{
    while (n > 0) {
        const size_t length = pretokenizer_next(text, n);
        int r = encode_piece(tokenizer, text, length, scratch, out);

        if (r < 0)
            return r;
        text += length;
        n -= length;
    }
    return 0;
}

static int encode(const struct tokenizer *tokenizer, const char *text,
                  const struct text_span *spans, size_t n_spans, struct token_list *out)
{
    _cleanup_(scratch_done) struct scratch scratch = {0};
    size_t n = 0, begin = 0, at = 0, span_end = 0;
    int r;

    for (size_t i = 0; i < n_spans; i++)
        n += spans[i].length;

    for (size_t i = 0; i < n_spans; i++) {
        span_end += spans[i].length;
        while (at < span_end) {
            size_t length;
            uint32_t id;

            if (!tokenizer->special_begins[(uint8_t)text[at]]) {
                at++;
                continue;
            }
            id = special_at(tokenizer, text + at, spans[i].markup ? span_end - at : 0, n - at,
                            &length);
            if (id == TOKEN_NONE) {
                at++;
                continue;
            }
            r = encode_plain(tokenizer, text + begin, at - begin, &scratch, out);
            if (r < 0)
                return r;
            r = token_list_push(out, id);
            if (r < 0)
                return r;
            begin = at += length;
        }
    }
    return encode_plain(tokenizer, text + begin, n - begin, &scratch, out);
}

int tokenizer_encode(const struct tokenizer *tokenizer, const struct text_span *spans,
                     size_t n_spans, struct token_list *out, struct error *err)
{
    _cleanup_(freep) char *joined = NULL;
    const size_t n_before = out->n;
    size_t n = 0;

    for (size_t i = 0; i < n_spans; i++) {
        if (spans[i].length > TOKENIZER_TEXT_MAX - n)
            return error_set(err, ERROR_INVALID_ARGUMENT, "The text is longer than %zu bytes.",
                             TOKENIZER_TEXT_MAX);
        n += spans[i].length;
    }

    /* The pre-tokeniser looks across spans. */
    if (n_spans > 1) {
        size_t used = 0;

        joined = malloc(n + 1);
        if (!joined)
            return error_set(err, ERROR_NO_MEMORY, "There is no memory to tokenise %zu bytes.", n);
        for (size_t i = 0; i < n_spans; i++) {
            if (spans[i].length > 0)
                memcpy(joined + used, spans[i].text, spans[i].length);
            used += spans[i].length;
        }
    }
    if (n == 0)
        return 0;

    if (encode(tokenizer, joined ? joined : spans[0].text, spans, n_spans, out) < 0) {
        out->n = n_before;
        return error_set(err, ERROR_NO_MEMORY, "There is no memory to tokenise %zu bytes.", n);
    }
    return 0;
}

int token_list_push(struct token_list *list, uint32_t id)
{
    if (list->n == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        uint32_t *ids = reallocarray(list->ids, capacity, sizeof(ids[0]));

        if (!ids)
            return -ENOMEM;
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->n++] = id;
    return 0;
}

void token_list_done(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){0};
}

/* --- streaming ------------------------------------------------------------------------------- */

static const char replacement[3] = "\xef\xbf\xbd"; /* U+FFFD */

/* Bytes at text that began a character and did not finish it; at least one. */
static size_t broken_length(const char *text, size_t n)
{
    uint32_t code_point;

    for (size_t length = MIN(n, (size_t)3); length > 1; length--)
        if (utf8_decode(text, length, &code_point) == 0)
            return length;
    return 1;
}

size_t detokenizer_push(struct detokenizer *detokenizer, const char *piece, size_t length,
                        char *out)
{
    /* The held bytes and the first of the piece; what follows is read from the piece itself. */
    char joint[8];
    const size_t n_held = detokenizer->n_held;
    const size_t n_joint = n_held + MIN(length, (size_t)4);
    const size_t n = n_held + length;
    size_t n_out = 0;

    if (length == 0)
        return 0;
    memcpy(joint, detokenizer->held, n_held);
    memcpy(joint + n_held, piece, n_joint - n_held);
    detokenizer->n_held = 0;

    for (size_t i = 0; i < n;) {
        const char *text = i < n_held ? joint + i : piece + (i - n_held);
        const size_t available = i < n_held ? n_joint - i : n - i;
        uint32_t code_point;
        const int decoded = utf8_decode(text, available, &code_point);

        if (decoded > 0) {
            memcpy(out + n_out, text, (size_t)decoded);
            n_out += (size_t)decoded;
            i += (size_t)decoded;
        } else if (decoded == 0) {
            /* Only the end of the piece can be the beginning of a character: at most 3 bytes. */
            memcpy(detokenizer->held, text, n - i);
            detokenizer->n_held = n - i;
            break;
        } else {
            memcpy(out + n_out, replacement, sizeof(replacement));
            n_out += sizeof(replacement);
            i += broken_length(text, available);
        }
    }
    return n_out;
}

size_t detokenizer_finish(struct detokenizer *detokenizer, char *out)
{
    if (detokenizer->n_held == 0)
        return 0;
    detokenizer->n_held = 0;
    memcpy(out, replacement, sizeof(replacement));
    return sizeof(replacement);
}
