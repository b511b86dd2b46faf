/* SPDX-License-Identifier: MIT */
#include "fetch/report.h"

#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_MSEC 150

static volatile sig_atomic_t stopped;
static uint64_t shown_bytes;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

void report_setup(void)
{
    struct sigaction stop = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};

    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGHUP, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
}

bool report_stopped(void)
{
    return stopped;
}

/* Takes the object. A line is one write, so that a reader never sees half of one for long. */
static void say(struct json_object *event)
{
    char line[2048];
    const char *text =
        json_object_to_json_string_ext(event, JSON_C_TO_STRING_NOSLASHESCAPE);
    size_t length = strlen(text), sent = 0;

    if (length < sizeof(line)) {
        memcpy(line, text, length);
        line[length++] = '\n';
        while (sent < length) {
            ssize_t n = write(STDOUT_FILENO, line + sent, length - sent);

            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0) {
                stopped = 1;
                break;
            }
            sent += (size_t)n;
        }
    }
    json_object_put(event);
}

static struct json_object *event_new(const char *name)
{
    struct json_object *event = json_object_new_object();

    json_object_object_add(event, "event", json_object_new_string(name));
    return event;
}

void report_start(uint64_t done, uint64_t total)
{
    struct json_object *event = event_new("start");

    if (done > shown_bytes)
        shown_bytes = done;
    json_object_object_add(event, "done", json_object_new_uint64(shown_bytes));
    json_object_object_add(event, "total", json_object_new_uint64(total));
    say(event);
}

void report_progress(uint64_t done, uint64_t total)
{
    static struct timespec last;
    struct timespec now;
    struct json_object *event;

    /* A file that has to begin again holds the figure until it is passed. */
    if (done <= shown_bytes)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (done < total && (now.tv_sec - last.tv_sec) * 1000 +
                                (now.tv_nsec - last.tv_nsec) / 1000000 < INTERVAL_MSEC)
        return;
    last = now;
    shown_bytes = done;
    event = event_new("progress");
    json_object_object_add(event, "done", json_object_new_uint64(done));
    json_object_object_add(event, "total", json_object_new_uint64(total));
    say(event);
}

void report_verifying(void)
{
    say(event_new("verifying"));
}

void report_done(uint64_t size_bytes, const char *sha256, bool intact)
{
    struct json_object *event = event_new("done");

    json_object_object_add(event, "size", json_object_new_uint64(size_bytes));
    json_object_object_add(event, "sha256", json_object_new_string(sha256));
    json_object_object_add(event, "intact", json_object_new_boolean(intact));
    say(event);
}

void report_error(const struct error *err)
{
    struct json_object *event = event_new("error");

    json_object_object_add(event, "name", json_object_new_string(error_name(err->code)));
    json_object_object_add(event, "message", json_object_new_string(err->text));
    say(event);
}
