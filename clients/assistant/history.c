/* SPDX-License-Identifier: MIT */
#include "clients/assistant/history.h"

#include <glib/gi18n.h>
#include <json-c/json.h>
#include <string.h>

#include "clients/gtk/events.h"
#include "clients/gtk/transcript.h"

static const char *content_text(struct json_object *part)
{
    if (strcmp(event_text(part, "type"), "image") == 0)
        return _("[picture] ");
    return event_text(part, "text");
}

/* Text, or parts of which some are pictures. g_free */
static char *content_of(struct json_object *message)
{
    struct json_object *content = json_object_object_get(message, "content");
    g_autoptr(GString) text = g_string_new(NULL);

    if (!json_object_is_type(content, json_type_array))
        return g_strdup(event_text(message, "content"));
    for (size_t i = 0; i < json_object_array_length(content); i++)
        g_string_append(text, content_text(json_object_array_get_idx(content, i)));
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void show_calls(GtkTextView *transcript, struct json_object *message)
{
    struct json_object *calls = json_object_object_get(message, "tool_calls");

    for (size_t i = 0;
         json_object_is_type(calls, json_type_array) && i < json_object_array_length(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        g_autofree char *text =
            g_strdup_printf("%s %s", event_text(call, "name"), event_text(call, "arguments"));

        transcript_remark(transcript, text);
    }
}

static void show_message(GtkTextView *transcript, struct json_object *message)
{
    const char *role = event_text(message, "role");
    g_autofree char *text = content_of(message);

    if (strcmp(role, "user") == 0)
        transcript_question(transcript, text);
    else if (strcmp(role, "assistant") == 0 && text[0])
        transcript_answer(transcript, text);
    show_calls(transcript, message);
}

void history_show(GtkTextView *transcript, const char *messages)
{
    struct json_object *list = json_tokener_parse(messages);

    for (size_t i = 0;
         json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++)
        show_message(transcript, json_object_array_get_idx(list, i));
    json_object_put(list);
}
