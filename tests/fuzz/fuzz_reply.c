/* SPDX-License-Identifier: MIT */

/* Input: a reply with its delimiters spelled out, which is also read as a list of calls. */

#include "text/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = size ? (const char *)data : "";

    json_object_put(reply_parse(text, size, false, NULL));
    json_object_put(reply_parse_calls(text, size, NULL));
    return 0;
}
