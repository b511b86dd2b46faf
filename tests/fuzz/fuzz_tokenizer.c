/* SPDX-License-Identifier: MIT */

/*
 * Input: a GGUF file with a vocabulary, or a text for the small vocabulary. In a text the byte 0x1e
 * ends a span, and every second span is markup.
 *
 * Any text must come back from its ids, byte by byte.
 */

#include "tests/text/vocabulary.h"

static void check(const struct tokenizer *tokenizer, const uint8_t *data, size_t size)
{
    struct detokenizer detokenizer = {0};
    struct token_list ids = {0};
    struct text_span spans[64];
    size_t n_spans = 0, at = 0;

    for (size_t begin = 0; begin < size && n_spans < 64;) {
        const uint8_t *end = n_spans < 63 ? memchr(data + begin, 0x1e, size - begin) : NULL;
        const size_t length = end ? (size_t)(end - data) - begin + 1 : size - begin;

        spans[n_spans] = (struct text_span){(const char *)data + begin, length, n_spans % 2 == 0};
        n_spans++;
        begin += length;
    }
    if (tokenizer_encode(tokenizer, spans, n_spans, &ids, NULL) < 0)
        abort();
    for (size_t i = 0; i < ids.n; i++) {
        char out[DETOKENIZER_ROOM(1024)];
        size_t length;
        const char *piece = tokenizer_piece(tokenizer, ids.ids[i], &length);

        if (length > size - at || memcmp(piece, data + at, length) != 0)
            abort();
        at += length;
        if (length <= 1024 && !utf8_valid(out, detokenizer_push(&detokenizer, piece, length, out)))
            abort();
    }
    if (at != size)
        abort();
    token_list_done(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "It's 12345  <|im_end|>\x1e<|im_end|> a\n\n \xff\xc3\xa9";
    static struct tokenizer *small;
    struct tokenizer *tokenizer;
    struct gguf *gguf;

    if (!small)
        small = vocabulary_tokenizer();
    if (size < 4 || memcmp(data, "GGUF", 4) != 0) {
        check(small, data, size);
        return 0;
    }
    gguf = gguf_open_memory(data, size, "input", NULL);
    tokenizer = gguf ? tokenizer_load(gguf, NULL) : NULL;
    gguf_free(gguf);
    if (tokenizer)
        check(tokenizer, (const uint8_t *)text, sizeof(text));
    tokenizer_free(tokenizer);
    return 0;
}
