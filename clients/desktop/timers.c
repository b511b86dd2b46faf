/* SPDX-License-Identifier: MIT */
/*
 * Timers and alarms. They run while this program does, also through suspend; a notification tells
 * that they have ended, and the program around is told, too.
 */
#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "clients/desktop/bus.h"
#include "clients/desktop/internal.h"

#define TIMERS_MAX  64
#define SECONDS_MAX (7 * 24 * 3600)

struct timer {
    struct timers *timers;
    unsigned id;
    clockid_t clock; /* CLOCK_BOOTTIME, or CLOCK_REALTIME of an alarm */
    struct timespec end;
    int fd;
    GSource *source;
    char *label, *sentence;
};

struct timers {
    struct desktop *desktop;
    GPtrArray *list; /* of struct timer */
    unsigned last_id, ringing;
    char *instance; /* no other program's timers are meant */
    GCancellable *cancellable;
};

static void timer_free(void *pointer)
{
    struct timer *timer = pointer;

    desktop_drop(&timer->source);
    close(timer->fd);
    g_free(timer->label);
    g_free(timer->sentence);
    g_free(timer);
}

static void changed(struct timers *timers)
{
    if (timers->desktop->host.timers_changed)
        timers->desktop->host.timers_changed(timers->desktop->userdata);
}

/* --- the end of a timer ---------------------------------------------------------------------- */

struct ringing {
    struct timers *timers;
    char *sentence;
};

static void on_notified(GVariant *reply, const GError *error, void *userdata)
{
    struct ringing *ringing = userdata;

    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        struct desktop *desktop = ringing->timers->desktop;

        ringing->timers->ringing--;
        if (desktop->host.rang)
            desktop->host.rang(ringing->sentence, reply != NULL, desktop->userdata);
    }
    g_free(ringing->sentence);
    g_free(ringing);
}

static void notify(struct timers *timers, const char *label, const char *sentence)
{
    struct ringing *ringing = g_new0(struct ringing, 1);
    g_autofree char *body = g_markup_escape_text(sentence, -1);
    GVariantBuilder hints;

    timers->ringing++;
    ringing->timers = timers;
    ringing->sentence = g_strdup(sentence);
    g_variant_builder_init(&hints, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&hints, "{sv}", "urgency", g_variant_new_byte(2));
    g_variant_builder_add(&hints, "{sv}", "sound-name",
                          g_variant_new_string("alarm-clock-elapsed"));
    bus_method(&(struct bus_method){"org.freedesktop.Notifications",
                                    "/org/freedesktop/Notifications",
                                    "org.freedesktop.Notifications", "Notify",
                                    g_variant_new("(susssasa{sv}i)", "lfmd", 0, "alarm-symbolic",
                                                  label, body, NULL, &hints, 0),
                                    "(u)"},
               timers->cancellable, on_notified, ringing);
}

static gboolean on_end(int fd, GIOCondition condition, void *userdata)
{
    struct timer *timer = userdata;
    struct timers *timers = timer->timers;
    uint64_t expirations;

    (void)condition;
    if (read(fd, &expirations, sizeof(expirations)) < 0)
        return G_SOURCE_CONTINUE;
    notify(timers, timer->label, timer->sentence);
    g_ptr_array_remove(timers->list, timer);
    changed(timers);
    return G_SOURCE_REMOVE;
}

/* --- beginning ------------------------------------------------------------------------------- */

/* NULL with errno; takes the texts. */
static struct timer *arm(struct timers *timers, clockid_t clock, struct timespec end, char *label,
                         char *sentence)
{
    struct itimerspec spec = {.it_value = end};
    struct timer *timer;
    int fd = timerfd_create(clock, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0) {
        if (fd >= 0)
            close(fd);
        g_free(label);
        g_free(sentence);
        return NULL;
    }
    timer = g_new0(struct timer, 1);
    timer->timers = timers;
    timer->id = ++timers->last_id;
    timer->clock = clock;
    timer->end = end;
    timer->fd = fd;
    timer->label = label;
    timer->sentence = sentence;
    timer->source = desktop_attach(g_unix_fd_source_new(fd, G_IO_IN), G_SOURCE_FUNC(on_end), timer);
    g_ptr_array_add(timers->list, timer);
    changed(timers);
    return timer;
}

static struct json_object *handle(struct timers *timers, const struct timer *timer)
{
    struct json_object *out = json_object_new_object();

    json_object_object_add(out, "instance", json_object_new_string(timers->instance));
    json_object_object_add(out, "id", json_object_new_int((int)timer->id));
    return out;
}

/* "1 hour 30 minutes": g_free */
static char *span(int64_t seconds)
{
    const unsigned long hours = (unsigned long)(seconds / 3600);
    const unsigned long minutes = (unsigned long)(seconds / 60 % 60);
    const unsigned long left = (unsigned long)(seconds % 60);
    GString *out = g_string_new(NULL);

    if (hours > 0)
        g_string_append_printf(out, ngettext("%lu hour", "%lu hours", hours), hours);
    if (hours > 0 && (minutes > 0 || left > 0))
        g_string_append_c(out, ' ');
    if (minutes > 0)
        g_string_append_printf(out, ngettext("%lu minute", "%lu minutes", minutes), minutes);
    if (minutes > 0 && left > 0)
        g_string_append_c(out, ' ');
    if (left > 0)
        g_string_append_printf(out, ngettext("%lu second", "%lu seconds", left), left);
    return g_string_free(out, FALSE);
}

static bool has_room(struct call *call)
{
    if (call->desktop->timers->list->len < TIMERS_MAX)
        return true;
    call_fail(call, "there are %d timers already", TIMERS_MAX);
    return false;
}

static void run_set_timer(struct call *call)
{
    static const struct {
        const char *key;
        int64_t seconds;
    } parts[] = {{"hours", 3600}, {"minutes", 60}, {"seconds", 1}};
    struct timers *timers = call->desktop->timers;
    g_autofree char *text = NULL;
    struct timespec end;
    struct timer *timer;
    int64_t seconds = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        const int64_t n = call_number(call, parts[i].key);

        if (n < 0 || n > SECONDS_MAX) {
            call_fail(call, "%s must be between 0 and %d", parts[i].key, SECONDS_MAX);
            return;
        }
        seconds += n * parts[i].seconds;
    }
    if (seconds < 1 || seconds > SECONDS_MAX) {
        call_fail(call, "a timer takes between a second and 7 days");
        return;
    }
    if (!has_room(call))
        return;
    clock_gettime(CLOCK_BOOTTIME, &end);
    end.tv_sec += seconds;
    text = span(seconds);
    timer = arm(timers, CLOCK_BOOTTIME, end, g_strdup_printf(_("Timer: %s"), text),
                g_strdup_printf(_("The timer of %s is over."), text));
    if (!timer) {
        call_fail(call, "no timer can be made: %s", g_strerror(errno));
        return;
    }
    call_undo(call, handle(timers, timer));
    call_done(call, NULL, _("A timer of %s runs."), text);
}

static void run_set_alarm(struct call *call)
{
    struct timers *timers = call->desktop->timers;
    const time_t now = time(NULL);
    struct timer *timer;
    struct tm at;
    int hour, minute, length = 0;

    if (sscanf(call_text(call, "time"), "%2d:%2d%n", &hour, &minute, &length) != 2 ||
        call_text(call, "time")[length] != '\0' || hour < 0 || hour > 23 || minute < 0 ||
        minute > 59) {
        call_fail(call, "the time must be of the form 07:30");
        return;
    }
    if (!has_room(call))
        return;
    localtime_r(&now, &at);
    at.tm_hour = hour;
    at.tm_min = minute;
    at.tm_sec = 0;
    at.tm_isdst = -1;
    if (mktime(&at) <= now) {
        localtime_r(&now, &at);
        at = (struct tm){.tm_year = at.tm_year, .tm_mon = at.tm_mon, .tm_mday = at.tm_mday + 1,
                         .tm_hour = hour, .tm_min = minute, .tm_isdst = -1};
    }
    timer = arm(timers, CLOCK_REALTIME, (struct timespec){.tv_sec = mktime(&at)},
                g_strdup_printf(_("Alarm: %02d:%02d"), hour, minute),
                g_strdup_printf(_("It is %02d:%02d."), hour, minute));
    if (!timer) {
        call_fail(call, "no alarm can be made: %s", g_strerror(errno));
        return;
    }
    call_undo(call, handle(timers, timer));
    call_done(call, NULL, _("The alarm is set for %02d:%02d."), hour, minute);
}

/* --- list and end ---------------------------------------------------------------------------- */

/* Seconds since 1970. */
static int64_t ends(const struct timer *timer)
{
    struct timespec now;

    clock_gettime(timer->clock, &now);
    return (int64_t)time(NULL) + (timer->end.tv_sec - now.tv_sec);
}

static int by_end(const void *a, const void *b)
{
    const int64_t x = ends(*(struct timer *const *)a), y = ends(*(struct timer *const *)b);

    return x < y ? -1 : x > y;
}

struct json_object *desktop_timers(struct desktop *desktop)
{
    struct json_object *out = json_object_new_array();

    g_ptr_array_sort(desktop->timers->list, by_end);
    for (guint i = 0; i < desktop->timers->list->len; i++) {
        const struct timer *timer = g_ptr_array_index(desktop->timers->list, i);
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "id", json_object_new_int((int)timer->id));
        json_object_object_add(object, "label", json_object_new_string(timer->label));
        json_object_object_add(object, "ends", json_object_new_int64(ends(timer)));
        json_object_array_add(out, object);
    }
    return out;
}

static void run_list(struct call *call)
{
    struct json_object *result = json_object_new_object(), *list = json_object_new_array();
    GPtrArray *timers = call->desktop->timers->list;

    g_ptr_array_sort(timers, by_end);
    for (guint i = 0; i < timers->len; i++) {
        const struct timer *timer = g_ptr_array_index(timers, i);
        const int64_t left = ends(timer) - (int64_t)time(NULL);
        struct json_object *object = json_object_new_object();
        g_autofree char *text = span(MAX(left, 1));

        json_object_object_add(object, "id", json_object_new_int((int)timer->id));
        json_object_object_add(object, "name", json_object_new_string(timer->label));
        json_object_object_add(object, "left", json_object_new_string(text));
        json_object_array_add(list, object);
    }
    json_object_object_add(result, "result", list);
    call_done(call, result, ngettext("%u timer runs.", "%u timers run.", timers->len), timers->len);
}

static struct timer *find(struct timers *timers, int64_t id)
{
    for (guint i = 0; i < timers->list->len; i++) {
        struct timer *timer = g_ptr_array_index(timers->list, i);

        if (timer->id == id)
            return timer;
    }
    return NULL;
}

static void cancel(struct call *call, struct timer *timer)
{
    struct timers *timers = call->desktop->timers;
    g_autofree char *label = g_strdup(timer->label);

    g_ptr_array_remove(timers->list, timer);
    changed(timers);
    call_done(call, NULL, _("%s is cancelled."), label);
}

static void run_cancel(struct call *call)
{
    struct timers *timers = call->desktop->timers;
    struct timer *timer = find(timers, call_number(call, "id"));
    struct json_object *undo;

    if (!timer) {
        call_fail(call, "there is no timer %d", (int)call_number(call, "id"));
        return;
    }
    undo = handle(timers, timer);
    json_object_object_add(undo, "clock", json_object_new_int(timer->clock));
    json_object_object_add(undo, "seconds", json_object_new_int64(timer->end.tv_sec));
    json_object_object_add(undo, "nanoseconds", json_object_new_int64(timer->end.tv_nsec));
    json_object_object_add(undo, "label", json_object_new_string(timer->label));
    json_object_object_add(undo, "sentence", json_object_new_string(timer->sentence));
    call_undo(call, undo);
    cancel(call, timer);
}

static void undo_set(struct call *call)
{
    struct timer *timer = find(call->desktop->timers, call_number(call, "id"));

    if (timer)
        cancel(call, timer);
    else
        call_fail(call, "the timer is over");
}

static void undo_cancel(struct call *call)
{
    const clockid_t clock = (clockid_t)call_number(call, "clock");
    const struct timespec end = {.tv_sec = call_number(call, "seconds"),
                                 .tv_nsec = (long)call_number(call, "nanoseconds")};
    struct timer *timer;

    if (!has_room(call))
        return;
    timer = arm(call->desktop->timers, clock, end, g_strdup(call_text(call, "label")),
                g_strdup(call_text(call, "sentence")));
    if (timer)
        call_done(call, NULL, _("%s runs again."), timer->label);
    else
        call_fail(call, "it cannot be set again: %s", g_strerror(errno));
}

/* --- the whole ------------------------------------------------------------------------------- */

void timers_tools(struct desktop *desktop)
{
    static const struct builtin builtins[] = {
        {
            .name = "set_alarm",
            .description = "Set an alarm.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"time\": {\"type\": "
                          "\"string\"}}, \"required\": [\"time\"]}",
            .question = N_("Set an alarm?"),
            .trained = true,
            .run = run_set_alarm,
            .undo = undo_set,
        },
        {
            .name = "set_timer",
            .description = "Start a timer.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"hours\": {\"type\": "
                          "\"integer\"}, \"minutes\": {\"type\": \"integer\"}, \"seconds\": "
                          "{\"type\": \"integer\"}}, \"required\": []}",
            .question = N_("Start a timer?"),
            .trained = true,
            .run = run_set_timer,
            .undo = undo_set,
        },
        {
            .name = "list_timers",
            .description = "List the timers and alarms that run.",
            .parameters = NO_PARAMETERS,
            .harmless = true,
            .run = run_list,
        },
        {
            .name = "cancel_timer",
            .description = "Cancel a timer or alarm by the id that list_timers tells.",
            .parameters = "{\"type\": \"object\", \"properties\": {\"id\": {\"type\": "
                          "\"integer\"}}, \"required\": [\"id\"]}",
            .question = N_("Cancel a timer?"),
            .run = run_cancel,
            .undo = undo_cancel,
        },
    };
    struct timers *timers = g_new0(struct timers, 1);

    timers->desktop = desktop;
    timers->list = g_ptr_array_new_with_free_func(timer_free);
    timers->instance = g_uuid_string_random();
    timers->cancellable = g_cancellable_new();
    desktop->timers = timers;
    desktop_add_builtins(desktop, builtins, G_N_ELEMENTS(builtins));
}

bool timers_ringing(const struct timers *timers)
{
    return timers->ringing > 0;
}

bool timers_are_ours(const struct timers *timers, const char *instance)
{
    return !*instance || strcmp(instance, timers->instance) == 0;
}

void timers_free(struct timers *timers)
{
    g_cancellable_cancel(timers->cancellable);
    g_object_unref(timers->cancellable);
    g_ptr_array_unref(timers->list);
    g_free(timers->instance);
    g_free(timers);
}
