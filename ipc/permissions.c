/* SPDX-License-Identifier: MIT */
#include "ipc/permissions.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/utf8.h"
#include "ipc/bus.h"
#include "ipc/errors.h"

#define FILE_NAME     "permissions.json"
#define FILE_MAX      ((off_t)1 << 20)
#define ANSWER_USEC   UINT64_C(60000000)
#define NOTIFICATIONS "org.freedesktop.Notifications"
#define NOTIFICATIONS_PATH "/org/freedesktop/Notifications"

/* A question on the user's screen. */
struct question {
    struct question *next;
    struct permissions *permissions;
    char app[PERMISSIONS_APP_MAX];
    void (*decided)(void *userdata, enum permission permission);
    void *userdata;
    uint32_t id;  /* of the notification; 0: not shown yet */
    char *server; /* that shows it: nobody else may answer */
    sd_bus_slot *call;
    sd_event_source *timer;
};

struct permissions {
    struct bus *bus;
    char *path;                  /* of the file; NULL: nothing is kept */
    struct json_object *decided; /* {app: true or false} */
    struct question *questions;
    struct permissions_user *users;
    sd_bus_slot *slots[2];
};

/* --- the file -------------------------------------------------------------------------------- */

/* {"microphone": {"/usr/bin/talker": true}}; what is not so is left out. */
static void read_file(struct permissions *p)
{
    _cleanup_(closep) int fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct json_object *file, *microphone;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
        return;
    file = json_object_from_fd(fd);
    if (json_object_object_get_ex(file, "microphone", &microphone) &&
        json_object_is_type(microphone, json_type_object)) {
        json_object_object_foreach(microphone, app, allowed)
        {
            if (json_object_is_type(allowed, json_type_boolean) &&
                strlen(app) < PERMISSIONS_APP_MAX && utf8_valid(app, strlen(app)) &&
                json_object_object_length(p->decided) < PERMISSIONS_MAX)
                json_object_object_add(p->decided, app, json_object_get(allowed));
        }
    } else {
        log_warning("%s is damaged: nobody may use the microphone until you allow it again.",
                    p->path);
    }
    json_object_put(file);
}

/* In place of the old file, whole or not at all. */
static int write_file(const struct permissions *p, struct error *err)
{
    struct json_object *file = json_object_new_object();
    _cleanup_(freep) char *next = NULL;
    int r = 0;

    if (!p->path) {
        json_object_put(file);
        return 0;
    }
    json_object_object_add(file, "microphone", json_object_get(p->decided));
    if (asprintf(&next, "%s.new", p->path) < 0)
        next = NULL;
    if (!next || json_object_to_file_ext(next, file, JSON_C_TO_STRING_PRETTY) < 0 ||
        chmod(next, 0600) < 0 || rename(next, p->path) < 0)
        r = error_set(err, ERROR_IO, "The decision cannot be kept in %s: %s.", p->path,
                      strerror(errno));
    json_object_put(file);
    return r;
}

/* --- who is it? ------------------------------------------------------------------------------ */

/* "app-gnome-org.example.Talker-1234.scope" -> "org.example.Talker"; false: no unit of a
 * desktop's. */
static bool app_of_unit(const char *unit, char app[PERMISSIONS_APP_MAX])
{
    char name[PERMISSIONS_APP_MAX];
    char *end, *dash;

    if (!unit || strncmp(unit, "app-", 4) != 0 || strlen(unit) >= sizeof(name))
        return false;
    strcpy(name, unit + 4);
    end = strrchr(name, '.');
    if (end)
        *end = '\0';
    if ((end = strchr(name, '@')))
        *end = '\0';
    else if ((end = strrchr(name, '-')) && end[1] &&
             strspn(end + 1, "0123456789") == strlen(end + 1))
        *end = '\0';
    dash = strchr(name, '-'); /* the launcher is before it; dashes of a name are written \x2d */
    snprintf(app, PERMISSIONS_APP_MAX, "%s", dash ? dash + 1 : name);
    return app[0] != '\0' && utf8_valid(app, strlen(app));
}

static bool is_sandboxed(const char *unit)
{
    return unit && (strncmp(unit, "app-flatpak-", 12) == 0 || strncmp(unit, "snap.", 5) == 0);
}

static int sender(sd_bus_message *message, char app[PERMISSIONS_APP_MAX], bool *ret_sandboxed,
                  struct error *err)
{
    const char *unit = NULL, *exe = NULL;
    sd_bus_creds *creds = NULL;
    bool known;
    int r = sd_bus_query_sender_creds(message,
                                      SD_BUS_CREDS_PID | SD_BUS_CREDS_USER_UNIT | SD_BUS_CREDS_EXE |
                                          SD_BUS_CREDS_AUGMENT,
                                      &creds);

    if (r < 0)
        return error_set(err, ERROR_NOT_ALLOWED, "It cannot be found out which program calls: %s.",
                         strerror(-r));
    sd_bus_creds_get_user_unit(creds, &unit);
    sd_bus_creds_get_exe(creds, &exe);
    *ret_sandboxed = is_sandboxed(unit);
    known = app_of_unit(unit, app);
    if (!known && exe && strlen(exe) < PERMISSIONS_APP_MAX && utf8_valid(exe, strlen(exe))) {
        strcpy(app, exe);
        known = true;
    }
    sd_bus_creds_unref(creds);
    return known ? 0
                 : error_set(err, ERROR_NOT_ALLOWED,
                             "It cannot be found out which program calls.");
}

int permissions_app(sd_bus_message *message, char app[PERMISSIONS_APP_MAX], struct error *err)
{
    bool sandboxed = false;

    return sender(message, app, &sandboxed, err);
}

/* --- decisions ------------------------------------------------------------------------------- */

enum permission permissions_microphone(const struct permissions *p, const char *app)
{
    struct json_object *allowed;

    if (!json_object_object_get_ex(p->decided, app, &allowed))
        return PERMISSION_UNDECIDED;
    return json_object_get_boolean(allowed) ? PERMISSION_ALLOWED : PERMISSION_DENIED;
}

static int decide(struct permissions *p, const char *app, enum permission permission,
                  struct error *err)
{
    if (permission == PERMISSION_UNDECIDED)
        json_object_object_del(p->decided, app);
    else if (permissions_microphone(p, app) == PERMISSION_UNDECIDED &&
             json_object_object_length(p->decided) >= PERMISSIONS_MAX)
        return error_set(err, ERROR_BUSY, "%d programs have been decided about; forget one first.",
                         PERMISSIONS_MAX);
    else if (json_object_object_add(p->decided, app,
                                    json_object_new_boolean(permission == PERMISSION_ALLOWED)) < 0)
        return errors_message(err, -ENOMEM);
    return write_file(p, err);
}

/* It goes from the screen too. */
static void question_free(struct question *question)
{
    struct permissions *p = question->permissions;
    struct question **link = &p->questions;

    while (*link != question)
        link = &(*link)->next;
    *link = question->next;
    if (question->id)
        sd_bus_call_method_async(p->bus->connection, NULL, NOTIFICATIONS, NOTIFICATIONS_PATH,
                                 NOTIFICATIONS, "CloseNotification", NULL, NULL, "u", question->id);
    if (question->call) { /* on_shown() will know its number */
        sd_bus_slot_set_userdata(question->call, NULL);
        sd_bus_slot_set_floating(question->call, 1);
    }
    sd_bus_slot_unref(question->call);
    sd_event_source_disable_unref(question->timer);
    free(question->server);
    free(question);
}

static void end_question(struct question *question, enum permission permission)
{
    void (*decided)(void *userdata, enum permission permission) = question->decided;
    void *userdata = question->userdata;

    question_free(question);
    decided(userdata, permission);
}

/* Whoever waits to hear whether the program may. */
static void end_questions(struct permissions *p, const char *app, enum permission permission)
{
    struct question *question = p->questions;

    while (question) {
        if (strcmp(question->app, app) != 0) {
            question = question->next;
            continue;
        }
        end_question(question, permission);
        question = p->questions; /* what was told may have changed the list */
    }
}

void permissions_use(struct permissions *p, struct permissions_user *user)
{
    user->next = p->users;
    p->users = user;
}

void permissions_leave(struct permissions *p, struct permissions_user *user)
{
    struct permissions_user **link = p ? &p->users : NULL;

    while (link && *link && *link != user)
        link = &(*link)->next;
    if (link && *link)
        *link = user->next;
}

/* It listens no longer. */
static void end_users(struct permissions *p, const char *app)
{
    struct permissions_user *user = p->users;

    while (user) {
        if (strcmp(user->app, app) != 0) {
            user = user->next;
            continue;
        }
        permissions_leave(p, user);
        user->denied(user->userdata);
        user = p->users; /* what was told may have changed the list */
    }
}

int permissions_set(struct permissions *p, sd_bus_message *message, const char *app,
                    enum permission permission, struct error *err)
{
    char caller[PERMISSIONS_APP_MAX];
    bool sandboxed = false;
    int r = sender(message, caller, &sandboxed, err);

    if (r < 0)
        return r;
    if (sandboxed)
        return error_set(err, ERROR_NOT_ALLOWED,
                         "A program in a sandbox cannot decide who uses the microphone.");
    if (!*app || strlen(app) >= PERMISSIONS_APP_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A program's name has 1 to %d bytes.", PERMISSIONS_APP_MAX - 1);
    r = decide(p, app, permission, err);
    if (r >= 0 && permission != PERMISSION_UNDECIDED)
        end_questions(p, app, permission);
    if (r >= 0 && permission == PERMISSION_DENIED)
        end_users(p, app);
    return r;
}

const char *permissions_at(const struct permissions *p, size_t i, enum permission *ret)
{
    json_object_object_foreach(p->decided, app, allowed)
    {
        if (i-- > 0)
            continue;
        *ret = json_object_get_boolean(allowed) ? PERMISSION_ALLOWED : PERMISSION_DENIED;
        return app;
    }
    return NULL;
}

/* --- asking ---------------------------------------------------------------------------------- */

/* By the user, for this and all other sessions of the program. */
static void answer(struct question *question, enum permission permission)
{
    struct permissions *p = question->permissions;
    struct error err = ERROR_INIT;
    char app[PERMISSIONS_APP_MAX];

    strcpy(app, question->app);
    if (decide(p, app, permission, &err) < 0)
        log_warning("%s", err.text);
    end_questions(p, app, permission);
}

static int on_shown(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct question *question = userdata;
    uint32_t id;

    (void)ret_error;
    if (!question) { /* nobody waits for an answer any more */
        if (!sd_bus_message_is_method_error(message, NULL) &&
            sd_bus_message_read_basic(message, 'u', &id) >= 0)
            sd_bus_call_method_async(sd_bus_message_get_bus(message), NULL, NOTIFICATIONS,
                                     NOTIFICATIONS_PATH, NOTIFICATIONS, "CloseNotification", NULL,
                                     NULL, "u", id);
        return 0;
    }
    question->call = sd_bus_slot_unref(question->call);
    if (sd_bus_message_is_method_error(message, NULL) ||
        sd_bus_message_read_basic(message, 'u', &question->id) < 0 ||
        !(question->server = strdup(sd_bus_message_get_sender(message)))) {
        log_debug("There is no notification service to ask about the microphone.");
        end_question(question, PERMISSION_UNDECIDED);
    }
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)source, (void)usec;
    end_question(userdata, PERMISSION_UNDECIDED);
    return 0;
}

/* The question that this signal is about. Any program can send one with a number that it
 * guessed. */
static struct question *find(const struct permissions *p, sd_bus_message *signal, uint32_t id)
{
    struct question *question = p->questions;

    while (question && (!question->server || question->id != id))
        question = question->next;
    return question && strcmp(question->server, sd_bus_message_get_sender(signal)) == 0 ? question
                                                                                        : NULL;
}

static int on_action(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct question *question;
    const char *action;
    uint32_t id;

    (void)ret_error;
    if (sd_bus_message_read(message, "us", &id, &action) < 0 ||
        !(question = find(userdata, message, id)))
        return 0;
    if (strcmp(action, "allow") == 0)
        answer(question, PERMISSION_ALLOWED);
    else if (strcmp(action, "deny") == 0)
        answer(question, PERMISSION_DENIED);
    return 0;
}

static int on_closed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    struct question *question;
    uint32_t id, reason;

    (void)ret_error;
    if (sd_bus_message_read(message, "uu", &id, &reason) >= 0 &&
        (question = find(userdata, message, id)))
        end_question(question, PERMISSION_UNDECIDED);
    return 0;
}

static int show(struct question *question)
{
    sd_bus *connection = question->permissions->bus->connection;
    sd_bus_message *message = NULL;
    char body[PERMISSIONS_APP_MAX + 100];
    int r;

    snprintf(body, sizeof(body), "%s wants to listen through the microphone.", question->app);
    utf8_plain(body);
    for (char *c = body; (c = strpbrk(c, "<>&")); c++)
        *c = '?'; /* it is markup for some */
    r = sd_bus_message_new_method_call(connection, &message, NOTIFICATIONS, NOTIFICATIONS_PATH,
                                       NOTIFICATIONS, "Notify");
    if (r >= 0)
        r = sd_bus_message_append(message, "susssasa{sv}i", "lfmd", (uint32_t)0,
                                  "audio-input-microphone", "Microphone", body, 4, "allow", "Allow",
                                  "deny", "Deny", 1, "urgency", "y", 2, -1);
    if (r >= 0)
        r = sd_bus_call_async(connection, &question->call, message, on_shown, question, 0);
    sd_bus_message_unref(message);
    return r;
}

int permissions_ask(struct permissions *p, const char *app,
                    void (*decided)(void *userdata, enum permission permission), void *userdata,
                    struct error *err)
{
    struct question *question = calloc(1, sizeof(*question));
    int r;

    if (!question)
        return errors_message(err, -ENOMEM);
    question->permissions = p;
    question->decided = decided;
    question->userdata = userdata;
    snprintf(question->app, sizeof(question->app), "%s", app);
    question->next = p->questions;
    p->questions = question;
    r = sd_event_add_time_relative(p->bus->event, &question->timer, CLOCK_MONOTONIC, ANSWER_USEC, 0,
                                   on_timer, question);
    if (r >= 0)
        r = show(question);
    if (r < 0) {
        question_free(question);
        return errors_message(err, r);
    }
    return 0;
}

void permissions_forget(struct permissions *p, void *userdata)
{
    struct question *question, *next;

    for (question = p ? p->questions : NULL; question; question = next) {
        next = question->next;
        if (question->userdata == userdata)
            question_free(question);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

struct permissions *permissions_new(struct bus *bus, const char *folder, struct error *err)
{
    struct permissions *p = calloc(1, sizeof(*p));
    int r = -ENOMEM;

    if (p && (p->decided = json_object_new_object()) &&
        (!folder || asprintf(&p->path, "%s/%s", folder, FILE_NAME) >= 0)) {
        p->bus = bus;
        r = sd_bus_match_signal_async(bus->connection, &p->slots[0], NOTIFICATIONS,
                                      NOTIFICATIONS_PATH, NOTIFICATIONS, "ActionInvoked", on_action,
                                      NULL, p);
        if (r >= 0)
            r = sd_bus_match_signal_async(bus->connection, &p->slots[1], NOTIFICATIONS,
                                          NOTIFICATIONS_PATH, NOTIFICATIONS, "NotificationClosed",
                                          on_closed, NULL, p);
    }
    if (r < 0) {
        errors_message(err, r);
        return p ? permissions_free(p) : NULL;
    }
    if (p->path)
        read_file(p);
    return p;
}

struct permissions *permissions_free(struct permissions *p)
{
    if (!p)
        return NULL;
    while (p->questions)
        question_free(p->questions);
    for (size_t i = 0; i < ARRAY_LEN(p->slots); i++)
        sd_bus_slot_unref(p->slots[i]);
    json_object_put(p->decided);
    free(p->path);
    free(p);
    return NULL;
}
