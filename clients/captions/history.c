/* SPDX-License-Identifier: MIT */
#include "clients/captions/history.h"

#define PRESENT "present"

struct sentence {
    GDateTime *time;
    char *text;
};

struct history {
    GtkTextBuffer *buffer;
    GtkAdjustment *place;
    gboolean follows; /* the end is shown, whatever comes */
    GQueue sentences; /* of struct sentence, oldest first; a line of the buffer each */
};

static void sentence_free(void *data)
{
    struct sentence *sentence = data;

    g_date_time_unref(sentence->time);
    g_free(sentence->text);
    g_free(sentence);
}

/* There is more to see, or less room for it. */
static void on_range(GtkAdjustment *place, struct history *h)
{
    if (h->follows)
        gtk_adjustment_set_value(place, gtk_adjustment_get_upper(place));
}

/* A person who goes back more than half a page wants to read there. */
static void on_place(GtkAdjustment *place, struct history *h)
{
    h->follows = gtk_adjustment_get_value(place) + 1.5 * gtk_adjustment_get_page_size(place) >=
                 gtk_adjustment_get_upper(place);
}

struct history *history_new(GtkTextView *view)
{
    struct history *h = g_new0(struct history, 1);
    GtkTextIter end;

    h->buffer = gtk_text_view_get_buffer(view);
    gtk_text_buffer_create_tag(h->buffer, "tail", "style", PANGO_STYLE_ITALIC, NULL);
    gtk_text_buffer_get_end_iter(h->buffer, &end);
    gtk_text_buffer_create_mark(h->buffer, PRESENT, &end, TRUE);
    h->place = g_object_ref(gtk_scrollable_get_vadjustment(GTK_SCROLLABLE(view)));
    h->follows = TRUE;
    g_signal_connect(h->place, "changed", G_CALLBACK(on_range), h);
    g_signal_connect(h->place, "value-changed", G_CALLBACK(on_place), h);
    return h;
}

struct history *history_free(struct history *h)
{
    if (!h)
        return NULL;
    g_signal_handlers_disconnect_by_data(h->place, h);
    g_object_unref(h->place);
    g_queue_clear_full(&h->sentences, sentence_free);
    g_free(h);
    return NULL;
}

/* The present sentence is replaced: what they have in common stays, so that nothing flickers. */
static void replace(struct history *h, const char *text, const char *tail)
{
    g_autofree char *first = g_utf8_make_valid(text, -1), *last = g_utf8_make_valid(tail, -1);
    g_autofree char *whole = g_strconcat(first, last, NULL), *old = NULL;
    GtkTextIter begin, end;
    glong n = 0;

    gtk_text_buffer_get_iter_at_mark(h->buffer, &begin,
                                     gtk_text_buffer_get_mark(h->buffer, PRESENT));
    gtk_text_buffer_get_end_iter(h->buffer, &end);
    gtk_text_buffer_remove_all_tags(h->buffer, &begin, &end);
    old = gtk_text_buffer_get_text(h->buffer, &begin, &end, FALSE);
    for (const char *a = old, *b = whole; *a && g_utf8_get_char(a) == g_utf8_get_char(b);
         a = g_utf8_next_char(a), b = g_utf8_next_char(b))
        n++;
    gtk_text_iter_forward_chars(&begin, (int)n);
    gtk_text_buffer_delete(h->buffer, &begin, &end);
    gtk_text_buffer_insert(h->buffer, &end, g_utf8_offset_to_pointer(whole, n), -1);
    gtk_text_buffer_get_iter_at_mark(h->buffer, &begin,
                                     gtk_text_buffer_get_mark(h->buffer, PRESENT));
    gtk_text_iter_forward_chars(&begin, (int)g_utf8_strlen(first, -1));
    gtk_text_buffer_apply_tag_by_name(h->buffer, "tail", &begin, &end);
}

void history_partial(struct history *h, const char *text, const char *tail)
{
    replace(h, text, tail);
}

static void drop_oldest(struct history *h)
{
    GtkTextIter begin, end;

    sentence_free(g_queue_pop_head(&h->sentences));
    gtk_text_buffer_get_start_iter(h->buffer, &begin);
    end = begin;
    gtk_text_iter_forward_line(&end);
    gtk_text_buffer_delete(h->buffer, &begin, &end);
}

void history_final(struct history *h, const char *text)
{
    struct sentence *sentence;
    GtkTextIter end;

    replace(h, text, "");
    if (!*text)
        return;
    sentence = g_new(struct sentence, 1);
    *sentence = (struct sentence){g_date_time_new_now_local(), g_utf8_make_valid(text, -1)};
    g_queue_push_tail(&h->sentences, sentence);
    gtk_text_buffer_get_end_iter(h->buffer, &end);
    gtk_text_buffer_insert(h->buffer, &end, "\n", 1);
    gtk_text_buffer_move_mark_by_name(h->buffer, PRESENT, &end);
    if (h->sentences.length > HISTORY_MAX)
        drop_oldest(h);
}

void history_clear(struct history *h)
{
    GtkTextIter begin, present;

    g_queue_clear_full(&h->sentences, sentence_free);
    gtk_text_buffer_get_start_iter(h->buffer, &begin);
    gtk_text_buffer_get_iter_at_mark(h->buffer, &present,
                                     gtk_text_buffer_get_mark(h->buffer, PRESENT));
    gtk_text_buffer_delete(h->buffer, &begin, &present);
}

gboolean history_is_empty(const struct history *h)
{
    return h->sentences.length == 0;
}

char *history_export(const struct history *h)
{
    GString *text = g_string_new(NULL);

    for (const GList *l = h->sentences.head; l; l = l->next) {
        const struct sentence *sentence = l->data;
        g_autofree char *time = g_date_time_format(sentence->time, "%F %T");

        g_string_append_printf(text, "%s  %s\n", time, sentence->text);
    }
    return g_string_free(text, FALSE);
}
