/* SPDX-License-Identifier: MIT */
#include "clients/gtk/calls.h"

#include <string.h>

struct call {
    char *id, *result; /* result NULL: not there yet */
};

static void call_free(void *data)
{
    struct call *call = data;

    g_free(call->id);
    g_free(call->result);
    g_free(call);
}

void calls_init(struct calls *calls)
{
    calls->list = g_ptr_array_new_with_free_func(call_free);
}

void calls_done(struct calls *calls)
{
    g_ptr_array_unref(calls->list);
}

void calls_add(struct calls *calls, const char *id)
{
    struct call *call = g_new0(struct call, 1);

    call->id = g_strdup(id);
    g_ptr_array_add(calls->list, call);
}

void calls_clear(struct calls *calls)
{
    g_ptr_array_set_size(calls->list, 0);
}

guint calls_n(const struct calls *calls)
{
    return calls->list->len;
}

bool calls_result(struct calls *calls, const char *id, const char *text)
{
    for (guint i = 0; i < calls->list->len; i++) {
        struct call *call = calls->list->pdata[i];

        if (!call->result && strcmp(call->id, id) == 0) {
            call->result = g_strdup(text);
            return true;
        }
    }
    return false;
}

bool calls_complete(const struct calls *calls)
{
    for (guint i = 0; i < calls->list->len; i++) {
        if (!((struct call *)calls->list->pdata[i])->result)
            return false;
    }
    return calls->list->len > 0;
}

GVariant *calls_content(const struct calls *calls)
{
    GVariantBuilder content;

    g_variant_builder_init(&content, G_VARIANT_TYPE("aa{sv}"));
    for (guint i = 0; i < calls->list->len; i++) {
        const struct call *call = calls->list->pdata[i];

        calls_add_part(&content, "tool_result", call->id, call->result);
    }
    return g_variant_builder_end(&content);
}

void calls_add_part(GVariantBuilder *content, const char *type, const char *id, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    g_variant_builder_open(content, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(content, "{sv}", "type", g_variant_new_string(type));
    if (id)
        g_variant_builder_add(content, "{sv}", "id", g_variant_new_string(id));
    g_variant_builder_add(content, "{sv}", "text", g_variant_new_string(valid));
    g_variant_builder_close(content);
}
