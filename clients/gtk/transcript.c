/* SPDX-License-Identifier: MIT */
#include "clients/gtk/transcript.h"

#include <string.h>

#include "clients/gtk/picture.h"

#define ANSWER_BEGINS "answer-begins"
#define ANSWER_ENDS   "answer-ends"
#define END           "end"
#define NEAR_END      24 /* pixels */

/* Move the marks around what the next answer is going to be: nothing so far. */
static void begin_answer(GtkTextBuffer *buffer)
{
    GtkTextIter end;

    gtk_text_buffer_get_end_iter(buffer, &end);
    gtk_text_buffer_move_mark_by_name(buffer, ANSWER_BEGINS, &end);
    gtk_text_buffer_move_mark_by_name(buffer, ANSWER_ENDS, &end);
}

void transcript_init(GtkTextView *view)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);
    GtkTextIter end;

    gtk_text_buffer_create_tag(buffer, "question", "weight", PANGO_WEIGHT_BOLD,
                               "pixels-above-lines", 6, "pixels-below-lines", 6, NULL);
    gtk_text_buffer_create_tag(buffer, "remark", "style", PANGO_STYLE_ITALIC, "scale", 0.9, NULL);
    gtk_text_buffer_get_end_iter(buffer, &end);
    gtk_text_buffer_create_mark(buffer, ANSWER_BEGINS, &end, TRUE);
    gtk_text_buffer_create_mark(buffer, ANSWER_ENDS, &end, TRUE);
    gtk_text_buffer_create_mark(buffer, END, &end, FALSE);
}

static void insert(GtkTextView *view, const char *text, const char *tag)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);
    GtkAdjustment *place = gtk_scrollable_get_vadjustment(GTK_SCROLLABLE(view));
    const gboolean at_end = gtk_adjustment_get_value(place) + gtk_adjustment_get_page_size(place) >=
                            gtk_adjustment_get_upper(place) - NEAR_END;
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GtkTextIter end;

    gtk_text_buffer_get_end_iter(buffer, &end);
    gtk_text_buffer_insert_with_tags_by_name(buffer, &end, valid, -1, tag, NULL);
    if (at_end)
        gtk_text_view_scroll_to_mark(view, gtk_text_buffer_get_mark(buffer, END), 0, FALSE, 0, 0);
}

/* Questions and remarks have lines of their own. */
static void insert_paragraph(GtkTextView *view, const char *text, const char *tag)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);
    GtkTextIter end;

    gtk_text_buffer_get_end_iter(buffer, &end);
    if (!gtk_text_iter_starts_line(&end))
        insert(view, "\n", NULL);
    insert(view, text, tag);
    insert(view, "\n", NULL);
}

void transcript_question(GtkTextView *view, const char *text)
{
    insert_paragraph(view, text, "question");
    begin_answer(gtk_text_view_get_buffer(view));
}

static GtkTextMark *mark_of(GtkTextBuffer *buffer, const char *what, unsigned turn,
                            const GtkTextIter *place)
{
    g_autofree char *name = g_strdup_printf("%s-%u", what, turn);
    GtkTextMark *mark = gtk_text_buffer_get_mark(buffer, name);

    if (place && mark)
        gtk_text_buffer_move_mark(buffer, mark, place);
    else if (place)
        mark = gtk_text_buffer_create_mark(buffer, name, place, TRUE);
    return mark;
}

void transcript_spoken(GtkTextView *view, unsigned turn)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);
    GtkTextIter begin, end;

    transcript_question(view, "…");
    gtk_text_buffer_get_end_iter(buffer, &end);
    gtk_text_iter_backward_char(&end); /* the newline */
    begin = end;
    gtk_text_iter_backward_char(&begin);
    mark_of(buffer, "spoken", turn, &begin);
    mark_of(buffer, "spoken-end", turn, &end);
}

void transcript_words(GtkTextView *view, unsigned turn, const char *text)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);
    GtkTextMark *begin_mark = mark_of(buffer, "spoken", turn, NULL),
                *end_mark = mark_of(buffer, "spoken-end", turn, NULL);
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GtkTextIter begin, end;

    if (!begin_mark || !end_mark)
        return;
    gtk_text_buffer_get_iter_at_mark(buffer, &begin, begin_mark);
    gtk_text_buffer_get_iter_at_mark(buffer, &end, end_mark);
    gtk_text_buffer_delete(buffer, &begin, &end);
    gtk_text_buffer_insert_with_tags_by_name(buffer, &begin, valid, -1, "question", NULL);
    gtk_text_buffer_delete_mark(buffer, begin_mark);
    gtk_text_buffer_delete_mark(buffer, end_mark);
}

void transcript_answer(GtkTextView *view, const char *text)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);
    GtkTextIter end;

    insert(view, text, NULL);
    gtk_text_buffer_get_end_iter(buffer, &end);
    gtk_text_buffer_move_mark_by_name(buffer, ANSWER_ENDS, &end);
}

void transcript_remark(GtkTextView *view, const char *text)
{
    insert_paragraph(view, text, "remark");
}

void transcript_pictures(GtkTextView *view, const GPtrArray *pictures)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < pictures->len; i++)
        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "",
                               ((struct picture *)pictures->pdata[i])->name);
    if (names->len > 0)
        transcript_remark(view, names->str);
}

void transcript_clear(GtkTextView *view)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);

    gtk_text_buffer_set_text(buffer, "", 0);
    begin_answer(buffer);
}

char *transcript_last_answer(GtkTextView *view)
{
    GtkTextBuffer *buffer = gtk_text_view_get_buffer(view);
    GtkTextIter begin, end;

    gtk_text_buffer_get_iter_at_mark(buffer, &begin,
                                     gtk_text_buffer_get_mark(buffer, ANSWER_BEGINS));
    gtk_text_buffer_get_iter_at_mark(buffer, &end, gtk_text_buffer_get_mark(buffer, ANSWER_ENDS));
    return g_strstrip(gtk_text_buffer_get_text(buffer, &begin, &end, FALSE));
}
