/* SPDX-License-Identifier: MIT */
#include "clients/describe/voice.h"

#include <gio/gio.h>
#include <glib/gi18n.h>
#include <libspeechd.h>
#include <stdbool.h>

/* The answers are in this language, whatever the user's is. */
#define LANGUAGE "en"

static char stop, quit; /* as a text */

/* The owner has one reference, every word of trouble that is under way another. */
struct voice {
    GAsyncQueue *texts;
    GThread *thread;
    voice_trouble *trouble; /* NULL: nobody is told */
    void *userdata;
};

struct told {
    struct voice *voice;
    char *sentence;
};

static void done(void *data)
{
    g_async_queue_unref(((struct voice *)data)->texts);
}

static gboolean on_trouble(void *userdata)
{
    struct told *told = userdata;

    if (told->voice->trouble)
        told->voice->trouble(told->sentence, told->voice->userdata);
    g_atomic_rc_box_release_full(told->voice, done);
    g_free(told->sentence);
    g_free(told);
    return G_SOURCE_REMOVE;
}

static void tell(struct voice *voice, const char *reason)
{
    struct told *told = g_new(struct told, 1);

    told->voice = g_atomic_rc_box_acquire(voice);
    told->sentence = g_strdup_printf(
        _("Nothing can be read aloud, because speech-dispatcher does not answer: %s"), reason);
    g_idle_add(on_trouble, told);
}

static SPDConnection *connect_to_server(char **ret_reason)
{
    SPDConnection *connection =
        spd_open2("lfm-describe", "main", NULL, SPD_MODE_SINGLE, NULL, 1, ret_reason);

    if (connection)
        spd_set_language(connection, LANGUAGE);
    return connection;
}

static void *run(void *userdata)
{
    struct voice *voice = userdata;
    SPDConnection *connection = NULL;
    bool failed = false;
    char *text;

    while ((text = g_async_queue_pop(voice->texts)) != &quit) {
        g_autofree char *reason = NULL;

        if (text == &stop) {
            if (connection)
                spd_cancel(connection);
            continue;
        }
        if (!connection && !failed)
            connection = connect_to_server(&reason);
        if (!failed && (!connection || spd_say(connection, SPD_MESSAGE, text) < 0)) {
            failed = true;
            tell(voice, reason ? reason : "");
        }
        g_free(text);
    }
    if (connection)
        spd_close(connection);
    return NULL;
}

struct voice *voice_new(voice_trouble *trouble, void *userdata)
{
    struct voice *voice = g_atomic_rc_box_new0(struct voice);

    voice->texts = g_async_queue_new();
    voice->trouble = trouble;
    voice->userdata = userdata;
    voice->thread = g_thread_new("voice", run, voice);
    return voice;
}

static void end(struct voice *voice)
{
    if (!voice->thread)
        return;
    g_async_queue_push(voice->texts, &quit);
    g_thread_join(voice->thread);
    voice->thread = NULL;
}

void voice_finish(struct voice *voice)
{
    end(voice);
    while (g_main_context_iteration(NULL, FALSE))
        ; /* trouble is told from there */
}

struct voice *voice_free(struct voice *voice)
{
    if (!voice)
        return NULL;
    end(voice);
    voice->trouble = NULL;
    g_atomic_rc_box_release_full(voice, done);
    return NULL;
}

void voice_say(struct voice *voice, const char *text)
{
    g_async_queue_push(voice->texts, g_strdup(text));
}

void voice_stop(struct voice *voice)
{
    char *text;

    while ((text = g_async_queue_try_pop(voice->texts)))
        if (text != &stop)
            g_free(text);
    g_async_queue_push(voice->texts, &stop);
}
