/* SPDX-License-Identifier: MIT */
#include "session/ear.h"

#include <math.h>

#include "base/cleanup.h"
#include "session/internal.h"
#include "session/json.h"

#define LEVEL_MIN 1e-5 /* -100 dB */

struct listener *ear_listener(struct task *task)
{
    return task->listener;
}

bool ear_speaks(const struct task *task)
{
    return task->silence;
}

void ear_wake(struct task *task)
{
    engine_wake(task->engine);
}

void ear_tell_listening(struct task *task, bool on, const struct error *why)
{
    struct json_object *line = ear_line("listening", clock_usec(), 0);
    bool ok = json_set(line, "on", json_object_new_boolean(on));

    atomic_store(&task->hears, on);
    if (why && why->code != ERROR_NONE)
        ok = json_set(line, "message", json_object_new_string(why->text)) && ok;
    task_send_line(task, line, ok);
}

void ear_hang_up(struct task *task)
{
    task_stop(task);
}

void ear_press(struct task *task)
{
    listener_press(task->listener);
}

void ear_end_turn(struct task *task)
{
    listener_release(task->listener);
}

struct json_object *ear_line(const char *event, int64_t usec, unsigned turn)
{
    struct json_object *line = task_line(event);

    json_set(line, "usec", json_object_new_int64(usec));
    if (turn > 0)
        json_set(line, "turn", json_object_new_int64(turn));
    return line;
}

void ear_tell_turns(struct task *task, unsigned events, int64_t usec, unsigned turn)
{
    if (events & TURNS_BEGIN)
        task_send_line(task, ear_line("speech_start", usec, turn), true);
    if (events & TURNS_END) {
        const struct clip clip = listener_clip(task->listener);
        struct json_object *line = ear_line("speech_end", usec, turn);

        task_send_line(task, line,
                       json_set(line, "audio_ms",
                                json_object_new_int64((int64_t)clip.n * 1000 / LISTENER_RATE_HZ)));
    }
    if (events & TURNS_WAIT_OVER)
        task_send_line(task, ear_line("waited", usec, 0), true);
}

void ear_tell_level(void *userdata, float peak, int64_t usec)
{
    struct json_object *line = ear_line("level", usec, 0);
    const double db = 20 * log10(MAX((double)peak, LEVEL_MIN));

    task_send_line(userdata, line, json_set(line, "db", json_object_new_int((int)db)));
}
