/* SPDX-License-Identifier: MIT */

/* Input: a request {"messages", "tools"}, rendered in every form. */

#include <stdlib.h>

#include "text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *document =
        json_tokener_parse_ex(tokener, size ? (const char *)data : "", (int)size);

    for (unsigned form = 0; document && form < 2 * _CHAT_FORM_N; form++) {
        struct chat_request request = {.add_generation_prompt = true, .as_template = form % 2};
        struct chat_prompt prompt;
        size_t length = 0;

        if (!json_object_is_type(document, json_type_object))
            break;
        request.messages = json_object_object_get(document, "messages");
        request.tools = json_object_object_get(document, "tools");
        if (chat_render((enum chat_form)(form / 2), &request, &prompt, NULL) < 0)
            continue;
        for (size_t i = 0; i < prompt.n_spans; i++)
            length += prompt.spans[i].length;
        if (length != prompt.length)
            abort();
        chat_prompt_done(&prompt);
    }
    json_object_put(document);
    json_tokener_free(tokener);
    return 0;
}
