/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Talking within a conversation: the microphone is opened for it, what is said and what is answered
 * comes as text along with the sound, calls of tools are answered, and the microphone is closed.
 *
 * Push to talk: voice_press() and voice_release() make a turn, and all is over once it has been
 * answered and written down. Open microphone: turns begin and end by themselves, until
 * voice_stop().
 *
 * Flow:     window -> here -> Session.StartListening -> events -> here
 *           -> struct voice_events -> window
 * Threads:  main thread; nothing is told after voice_close()
 */

#include <json-c/json.h>
#include <stdbool.h>

#include "clients/gtk/conversation.h"

struct voice;

enum voice_mode { VOICE_PUSH, VOICE_OPEN };

enum voice_state {
    VOICE_OPENING, /* the model, the microphone, the question whether it may be used */
    VOICE_READY,   /* nobody speaks */
    VOICE_HEARING, /* the user does */
    VOICE_THINKING,
    VOICE_SPEAKING, /* the model does */
    VOICE_CLOSING,
};

struct voice_events {
    /* trouble: NULL, or a sentence */
    void (*state)(enum voice_state state, const char *trouble, void *userdata);
    void (*model)(const char *id, void *userdata); /* that hears and speaks */
    void (*level)(int db, void *userdata);
    /* A turn of the user is over; its words come when there is time for it. */
    void (*spoke)(unsigned turn, void *userdata);
    void (*said)(unsigned turn, const char *text, void *userdata);
    void (*text)(const char *text, void *userdata); /* of the answer */
    void (*first_sound)(unsigned after_ms, void *userdata);
    void (*interrupted)(void *userdata);
    /* voice_result() is to follow. */
    void (*call)(const char *id, const char *name, struct json_object *arguments, void *userdata);
    /* It is over: as it was wanted (sentence NULL), or why. To be closed then. */
    void (*ended)(const char *sentence, void *userdata);
};

/* Begins at once. The conversation outlives it. */
struct voice *voice_new(GDBusConnection *bus, struct conversation *conversation,
                        enum voice_mode mode, const struct voice_events *events, void *userdata);
/* Accepts and returns NULL. */
struct voice *voice_close(struct voice *voice);

enum voice_mode voice_mode(const struct voice *voice);
enum voice_state voice_state(const struct voice *voice);

bool voice_pressed(const struct voice *voice);

void voice_press(struct voice *voice);
void voice_release(struct voice *voice);
/* What is being said ends. */
void voice_interrupt(struct voice *voice);
/* The microphone closes; ended() tells. */
void voice_stop(struct voice *voice);

void voice_result(struct voice *voice, const char *id, const char *text);
