/* SPDX-License-Identifier: MIT */
#include "clients/wyoming/conversations.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/bus.h"

/* Nobody waits for the answer. */
static void close_session(sd_bus *bus, const char *path)
{
    sd_bus_call_method_async(bus, NULL, BUS_NAME, path, BUS_SESSION, "Close", NULL, NULL, NULL);
}

static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void end(struct conversations *conversations, struct conversation *conversation)
{
    close_session(conversations->bus, conversation->path);
    free(conversation->path);
    *conversation = (struct conversation){0};
}

/* Once a minute is as well as at the second. */
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    struct conversations *conversations = userdata;
    const uint64_t now = now_usec();

    (void)usec;
    for (unsigned i = 0; i < CONVERSATIONS_MAX; i++) {
        struct conversation *c = &conversations->items[i];

        if (c->path && !c->busy && now - c->used_usec > CONVERSATION_SEC * 1000000ull)
            end(conversations, c);
    }
    sd_event_source_set_time_relative(source, 60 * 1000000ull);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int conversations_init(struct conversations *conversations, sd_bus *bus)
{
    conversations->bus = bus;
    return sd_event_add_time_relative(sd_bus_get_event(bus), &conversations->timer,
                                      CLOCK_MONOTONIC, 60 * 1000000ull, 5 * 1000000ull, on_timer,
                                      conversations);
}

void conversations_done(struct conversations *conversations)
{
    for (unsigned i = 0; i < CONVERSATIONS_MAX; i++)
        if (conversations->items[i].path)
            end(conversations, &conversations->items[i]);
    sd_event_source_disable_unref(conversations->timer);
}

struct conversation *conversations_find(struct conversations *conversations, const char *id)
{
    for (unsigned i = 0; i < CONVERSATIONS_MAX && *id; i++) {
        struct conversation *c = &conversations->items[i];

        if (c->path && strcmp(c->id, id) == 0)
            return c;
    }
    return NULL;
}

/* A free place, else that of the conversation that was not used for longest. */
static struct conversation *place(struct conversations *conversations)
{
    struct conversation *found = NULL;

    for (unsigned i = 0; i < CONVERSATIONS_MAX; i++) {
        struct conversation *c = &conversations->items[i];

        if (!c->path)
            return c;
        if (!c->busy && (!found || c->used_usec < found->used_usec))
            found = c;
    }
    if (found)
        end(conversations, found);
    return found;
}

struct conversation *conversations_add(struct conversations *conversations, const char *id,
                                       const char *path)
{
    struct conversation *c = place(conversations);

    if (!c || !(c->path = strdup(path))) {
        close_session(conversations->bus, path);
        return NULL;
    }
    strcpy(c->id, id);
    c->busy = true;
    return c;
}

void conversations_release(struct conversations *conversations, struct conversation *conversation,
                           bool keep)
{
    conversation->busy = false;
    conversation->used_usec = now_usec();
    if (!keep || !conversation->id[0])
        end(conversations, conversation);
}
