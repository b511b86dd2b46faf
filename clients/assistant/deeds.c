/* SPDX-License-Identifier: MIT */
#include "clients/assistant/deeds.h"

#include <glib/gi18n.h>

/* --- the question --------------------------------------------------------------------------- */

static void show_question(struct deeds *deeds)
{
    const struct desktop_question *question = g_queue_peek_head(&deeds->questions);

    deeds->events->changed(deeds->userdata);
    if (!question) {
        gtk_widget_set_visible(deeds->question, FALSE);
        return;
    }
    gtk_label_set_text(deeds->question_text, desktop_question_text(question));
    gtk_label_set_text(deeds->question_detail, desktop_question_detail(question));
    gtk_widget_set_visible(deeds->question, TRUE);
    /* Where a screen reader reads what is asked; a key that was meant for the entry answers
     * nothing. */
    gtk_widget_grab_focus(GTK_WIDGET(deeds->question_text));
    gtk_label_select_region(deeds->question_text, 0, 0);
}

static void on_confirm(struct desktop_question *question, void *userdata)
{
    struct deeds *deeds = userdata;

    g_queue_push_tail(&deeds->questions, question);
    if (g_queue_get_length(&deeds->questions) == 1)
        show_question(deeds);
}

static void on_withdrawn(struct desktop_question *question, void *userdata)
{
    struct deeds *deeds = userdata;

    g_queue_remove(&deeds->questions, question);
    show_question(deeds);
}

void deeds_answer(struct deeds *deeds, enum desktop_decision decision)
{
    struct desktop_question *question = g_queue_pop_head(&deeds->questions);

    show_question(deeds);
    if (question)
        desktop_answer(question, decision);
}

bool deeds_asking(const struct deeds *deeds)
{
    return !g_queue_is_empty((GQueue *)&deeds->questions);
}

/* --- what was done -------------------------------------------------------------------------- */

static void show_deed(struct deeds *deeds, const char *sentence, const char *undo)
{
    g_free(deeds->undoable);
    deeds->undoable = g_strdup(undo);
    gtk_label_set_text(deeds->done_text, sentence);
    gtk_widget_set_visible(deeds->done, undo != NULL);
    deeds->events->remark(sentence, deeds->userdata);
    deeds->events->changed(deeds->userdata);
}

/* A call of the model on its way. */
struct deed {
    struct deeds *deeds;
    GCancellable *calls;
    char *id;
    bool spoken;
};

static void on_done(const struct desktop_result *result, void *userdata)
{
    struct deed *deed = userdata;
    struct deeds *deeds = deed->deeds;

    /* What was done all the same is told, that it was given up is not. */
    if (result->ok || !g_cancellable_is_cancelled(deed->calls))
        show_deed(deeds, result->sentence, result->undo);
    if (!g_cancellable_is_cancelled(deed->calls))
        deeds->events->result(deed->id, result->text, deed->spoken, deeds->userdata);
    g_object_unref(deed->calls);
    g_free(deed->id);
    g_free(deed);
}

void deeds_call(struct deeds *deeds, const char *id, const char *name,
                struct json_object *arguments, bool spoken)
{
    struct deed *deed = g_new(struct deed, 1);

    *deed = (struct deed){deeds, g_object_ref(deeds->calls), g_strdup(id), spoken};
    desktop_call(deeds->desktop, name, arguments, deeds->calls, on_done, deed);
}

void deeds_cancel(struct deeds *deeds)
{
    g_cancellable_cancel(deeds->calls);
    g_object_unref(deeds->calls);
    deeds->calls = g_cancellable_new();
}

static void on_undone(const struct desktop_result *result, void *userdata)
{
    show_deed(userdata, result->sentence, NULL);
}

void deeds_undo(struct deeds *deeds)
{
    if (deeds->undoable)
        desktop_undo(deeds->desktop, deeds->undoable, on_undone, deeds);
    g_clear_pointer(&deeds->undoable, g_free);
    gtk_widget_set_visible(deeds->done, FALSE);
    deeds->events->changed(deeds->userdata);
}

/* --- the window's part of the tools --------------------------------------------------------- */

static void on_rang(const char *sentence, bool notified G_GNUC_UNUSED, void *userdata)
{
    struct deeds *deeds = userdata;

    deeds->events->remark(sentence, deeds->userdata);
    gtk_widget_error_bell(deeds->done);
}

static void on_timers(void *userdata)
{
    struct deeds *deeds = userdata;

    deeds->events->timers_changed(deeds->userdata);
}

static void got_text(GObject *source, GAsyncResult *result, void *request)
{
    g_autofree char *text = gdk_clipboard_read_text_finish(GDK_CLIPBOARD(source), result, NULL);

    desktop_clipboard_text(request, text);
}

static void read_clipboard(void *request, void *userdata)
{
    struct deeds *deeds = userdata;

    gdk_clipboard_read_text_async(gtk_widget_get_clipboard(deeds->done), NULL, got_text, request);
}

static bool write_clipboard(const char *text, void *userdata)
{
    struct deeds *deeds = userdata;

    gdk_clipboard_set_text(gtk_widget_get_clipboard(deeds->done), text);
    return true;
}

static const struct desktop_host host = {
    .confirm = on_confirm,
    .withdrawn = on_withdrawn,
    .rang = on_rang,
    .timers_changed = on_timers,
    .clipboard_read = read_clipboard,
    .clipboard_write = write_clipboard,
};

void deeds_init(struct deeds *deeds, const struct deeds_events *events, void *userdata)
{
    deeds->events = events;
    deeds->userdata = userdata;
    deeds->calls = g_cancellable_new();
    g_queue_init(&deeds->questions);
    deeds->desktop = desktop_new("lfm-assistant", &host, deeds);
}

void deeds_done(struct deeds *deeds)
{
    if (!deeds->desktop)
        return;
    deeds->desktop = desktop_free(deeds->desktop);
    g_queue_clear(&deeds->questions);
    g_clear_object(&deeds->calls);
    g_clear_pointer(&deeds->undoable, g_free);
}
