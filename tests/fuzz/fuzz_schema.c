/* SPDX-License-Identifier: MIT */
/* JSON Schemas and lists of tools from outside: compiled, then followed for a while at random (by a
 * hash of the input). There must always be a way on, and every byte taken must be one that the
 * masks allow. Input: a list is read as tools, anything else as the schema of an answer. */
#include <assert.h>
#include <stdint.h>

#include "text/constraint_new.h"

#define N_STEPS   200
#define INPUT_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vocabulary *byte_vocabulary(void)
{
    static char bytes[256];
    struct vocabulary_token tokens[259] = {
        [256] = {.kind = VOCABULARY_END},
        [257] = {.kind = VOCABULARY_CALL_START},
        [258] = {.kind = VOCABULARY_CALL_END},
    };

    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        tokens[i] = (struct vocabulary_token){.text = &bytes[i], .length = 1};
    }
    return vocabulary_new(tokens, 259, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vocabulary *vocabulary;
    struct json_tokener *tokener;
    struct json_object *input;
    struct constraint *constraint;
    struct grammar *grammar;
    uint64_t random = 1;
    bool calls;

    if (!vocabulary)
        vocabulary = byte_vocabulary();
    if (!vocabulary || size > INPUT_MAX)
        return 0;
    tokener = json_tokener_new();
    input = json_tokener_parse_ex(tokener, (const char *)data, (int)size);
    json_tokener_free(tokener);
    if (!input)
        return 0;
    calls = json_object_is_type(input, json_type_array);
    grammar = calls ? schema_calls(input, NULL) : schema_answer(input, NULL);
    json_object_put(input);
    if (!grammar)
        return 0;
    constraint = constraint_new(vocabulary, grammar,
                                calls ? CONSTRAINT_CALL_FIRST : CONSTRAINT_ANSWER, NULL);
    assert(constraint);

    for (size_t i = 0; i < size; i++)
        random = (random ^ data[i]) * 0x100000001b3u;
    for (unsigned step = 0; step < N_STEPS; step++) {
        const uint8_t *mask = constraint_allowed(constraint);
        uint32_t ids[259], n = 0;
        int r;

        for (uint32_t id = 0; id < 259; id++) {
            if (mask[id / 8] >> id % 8 & 1)
                ids[n++] = id;
        }
        assert(n > 0);
        random = random * 6364136223846793005u + 1442695040888963407u;
        r = constraint_accept(constraint, ids[(random >> 33) % n]);
        assert(r == 0);
    }
    constraint_free(constraint);
    return 0;
}
