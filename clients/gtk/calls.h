/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The calls of tools in one answer of the model, until all have a result.
 *
 * Threads: main thread
 */

#include <glib.h>
#include <stdbool.h>

struct calls {
    GPtrArray *list; /* of struct call */
};

void calls_init(struct calls *calls);
void calls_done(struct calls *calls);

void calls_add(struct calls *calls, const char *id);
void calls_clear(struct calls *calls);
guint calls_n(const struct calls *calls);

/* False: there is no such call, or it has one. */
bool calls_result(struct calls *calls, const char *id, const char *text);
/* There are calls, and each has its result. */
bool calls_complete(const struct calls *calls);

/* The content of Ask(), aa{sv}, floating. */
GVariant *calls_content(const struct calls *calls);

/* A part of text to such content; id NULL: none. */
void calls_add_part(GVariantBuilder *content, const char *type, const char *id, const char *text);
