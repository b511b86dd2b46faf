/* SPDX-License-Identifier: MIT */
#include "clients/portal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "clients/bus.h"
#include "clients/terminal.h"

#define PORTAL         "org.freedesktop.portal.Desktop"
#define PATH           "/org/freedesktop/portal/desktop"
#define REMOTE_DESKTOP "org.freedesktop.portal.RemoteDesktop"

#define KEYBOARD     1u        /* of the types of devices */
#define PRESSED      1u        /* states of a key */
#define RELEASED     0u
#define UNICODE_KEYS 0x1000000 /* keysyms of characters above Latin-1 (its own are the same) */
#define ANSWER_USEC  (120ull * 1000000) /* for the user */

struct portal {
    sd_bus *bus;
    char *session;
    unsigned n_requests;
};

/* What a request came to. */
struct answer {
    bool there;
    uint32_t code; /* 0: done, 1: the user said no */
    char *session;
};

static int on_response(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
    struct answer *answer = userdata;
    _cleanup_(bus_jsonp) struct json_object *results = NULL;

    (void)error;
    if (sd_bus_message_read_basic(m, 'u', &answer->code) < 0)
        return 0;
    results = bus_value(m);
    if (*bus_text(results, "session_handle"))
        answer->session = strdup(bus_text(results, "session_handle"));
    answer->there = true;
    return 0;
}

/* Its signal is waited for before the call: the portal may be faster than its reply. */
static int subscribe(struct portal *p, struct answer *answer, char token[32], sd_bus_slot **ret)
{
    char sender[64], path[160];
    const char *name;
    int r = sd_bus_get_unique_name(p->bus, &name);

    if (r < 0)
        return r;
    snprintf(sender, sizeof(sender), "%s", name + 1);
    for (char *c = sender; *c; c++)
        if (*c == '.')
            *c = '_';
    snprintf(token, 32, "lfmctl%u_%u", (unsigned)getpid(), p->n_requests++);
    snprintf(path, sizeof(path), "/org/freedesktop/portal/desktop/request/%s/%s", sender, token);
    return sd_bus_match_signal(p->bus, ret, PORTAL, path, "org.freedesktop.portal.Request",
                               "Response", on_response, answer);
}

static int wait_for(struct portal *p, struct answer *answer)
{
    int r = 0;

    while (!answer->there && r >= 0 && terminal_interrupts() == 0) {
        r = sd_bus_process(p->bus, NULL);
        if (r == 0)
            r = sd_bus_wait(p->bus, ANSWER_USEC);
        if (r == 0)
            return -ETIMEDOUT;
        if (r == -EINTR)
            r = 0;
    }
    return answer->there ? 0 : r < 0 ? r : -ECANCELED;
}

/* There is no portal, or none for this. */
static bool is_absent(const sd_bus_error *error)
{
    return sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_METHOD) ||
           sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_INTERFACE) ||
           sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_OBJECT) ||
           (sd_bus_error_is_set(error) && bus_status_of(error) == STATUS_DAEMON);
}

/*
 * One request: method(o session unless NULL, s parent unless NULL, a{sv}) with handle_token and one
 * option more. STATUS_DAEMON, without a word, when there is no such portal.
 */
static int request(struct portal *p, const char *method, const char *parent, const char *key,
                   const char *type, const void *value, struct answer *answer)
{
    _cleanup_(bus_messagep) sd_bus_message *call = NULL, *reply = NULL;
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_slot *slot = NULL;
    char token[32];
    int r = subscribe(p, answer, token, &slot);

    if (r >= 0)
        r = sd_bus_message_new_method_call(p->bus, &call, PORTAL, PATH, REMOTE_DESKTOP, method);
    if (r >= 0 && p->session)
        r = sd_bus_message_append_basic(call, 'o', p->session);
    if (r >= 0 && parent)
        r = sd_bus_message_append_basic(call, 's', parent);
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0)
        r = bus_option(call, "handle_token", "s", token);
    if (r >= 0 && key)
        r = bus_option(call, key, type, value);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = sd_bus_call(p->bus, call, 0, &error, &reply);
    if (r >= 0)
        r = wait_for(p, answer);
    sd_bus_slot_unref(slot);
    if (r < 0 && is_absent(&error))
        return STATUS_DAEMON;
    if (r < 0)
        terminal_error("The desktop's portal lets nobody type: %s",
                       error.message ? error.message : strerror(-r));
    else if (answer->code != 0)
        terminal_error("The desktop does not let lfmctl type: %s.",
                       answer->code == 1 ? "you said no" : "the question was closed");
    return r < 0 ? STATUS_ERROR : answer->code == 0 ? STATUS_OK : STATUS_DENIED;
}

int portal_open(sd_bus *bus, struct portal **ret)
{
    struct portal *p = calloc(1, sizeof(*p));
    struct answer created = {0}, selected = {0}, started = {0};
    char token[32];
    int status;

    if (!p) {
        terminal_error("There is not enough memory.");
        return STATUS_ERROR;
    }
    p->bus = bus;
    snprintf(token, sizeof(token), "lfmctl%u", (unsigned)getpid());
    status = request(p, "CreateSession", NULL, "session_handle_token", "s", token, &created);
    p->session = created.session;
    if (status == STATUS_OK && !p->session) {
        terminal_error("The desktop's portal made no session.");
        status = STATUS_ERROR;
    }
    if (status == STATUS_OK)
        status = request(p, "SelectDevices", NULL, "types", "u", &(uint32_t){KEYBOARD}, &selected);
    if (status == STATUS_OK)
        status = request(p, "Start", "", NULL, NULL, NULL, &started);
    free(selected.session);
    free(started.session);
    *ret = status == STATUS_OK ? p : portal_close(p);
    return status == STATUS_DAEMON ? STATUS_OK : status;
}

struct portal *portal_close(struct portal *p)
{
    if (!p)
        return NULL;
    if (p->session)
        sd_bus_call_method(p->bus, PORTAL, p->session, "org.freedesktop.portal.Session", "Close",
                           NULL, NULL, "");
    free(p->session);
    free(p);
    return NULL;
}

static int notify(struct portal *p, int32_t keysym, uint32_t state)
{
    _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
    const int r = sd_bus_call_method(p->bus, PORTAL, PATH, REMOTE_DESKTOP, "NotifyKeyboardKeysym",
                                     &error, NULL, "oa{sv}iu", p->session, 0, keysym, state);

    if (r >= 0)
        return STATUS_OK;
    terminal_error("The desktop does not let lfmctl type any more: %s",
                   error.message ? error.message : strerror(-r));
    return STATUS_ERROR;
}

int portal_type(struct portal *p, const char *text)
{
    size_t left = strlen(text);
    int status = STATUS_OK;
    uint32_t c;

    while (left > 0 && status == STATUS_OK) {
        const int n = utf8_decode(text, left, &c);
        const int32_t keysym = (int32_t)(c <= 0xff ? c : UNICODE_KEYS + c);

        if (n <= 0)
            break;
        text += n;
        left -= (size_t)n;
        status = notify(p, keysym, PRESSED);
        if (status == STATUS_OK)
            status = notify(p, keysym, RELEASED);
    }
    return status;
}
