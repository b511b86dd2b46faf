/* SPDX-License-Identifier: MIT */

/*
 * Input: a text to be spoken. Read as it is and as SSML, in words and in sentences; every piece
 * lies within the script's text and has a size that a model can take.
 */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "session/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as(const char *text, size_t size, bool ssml, size_t n_words_max)
{
    const struct script_options options = {
        .ssml = ssml, .n_words_max = n_words_max, .style = {1, 1, 1}};
    struct script script = {0};

    if (script_read(&script, text, size, &options, NULL) == 0)
        for (size_t i = 0; i < script.n; i++) {
            const struct script_item *item = &script.items[i];

            if (item->at + item->length > script.length ||
                (item->kind == SCRIPT_TEXT && (item->length == 0 || item->length > 1024)) ||
                !(item->kind == SCRIPT_MARK || item->style.rate >= SCRIPT_RATE_MIN))
                abort();
        }
    script_done(&script);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* As it comes from the bus: with an end. */
    _cleanup_(freep) char *text = malloc(size + 1);

    if (!text || size == 0 || size > 1 << 16)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (strlen(text) != size || !utf8_valid(text, size))
        return 0;
    for (int i = 0; i < 4; i++)
        read_as(text, size, i & 1, i & 2 ? 16 : 0);
    return 0;
}
