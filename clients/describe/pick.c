/* SPDX-License-Identifier: MIT */
#include "clients/describe/pick.h"

static void shot_free(void *data)
{
    struct screen_shot *shot = data;

    picture_unref(shot->picture);
    g_free(shot);
}

static void give(GTask *task, struct screen_shot shot)
{
    g_task_return_pointer(task, g_memdup2(&shot, sizeof(shot)), shot_free);
    g_object_unref(task);
}

static void got_shot(GObject *source G_GNUC_UNUSED, GAsyncResult *result, void *userdata)
{
    GTask *task = userdata;
    struct screen_shot shot;
    GError *error = NULL;

    if (screen_shoot_finish(result, &shot, &error)) {
        give(task, shot);
    } else {
        g_task_return_error(task, error);
        g_object_unref(task);
    }
}

void pick_async(GDBusConnection *bus, enum source source, const char *path,
                GCancellable *cancellable, GAsyncReadyCallback done, void *userdata)
{
    GTask *task = g_task_new(NULL, cancellable, done, userdata);
    struct screen_shot shot = {0};
    struct focus focus = {0};
    GError *error = NULL;

    if (source == SOURCE_FILE) {
        g_autoptr(GFile) file = g_file_new_for_path(path);

        shot.picture = picture_open(file, &error);
        if (shot.picture) {
            give(task, shot);
            return;
        }
    } else if (source == SOURCE_SCREEN || focus_find(&focus, &error)) {
        screen_shoot_async(bus, source == SOURCE_FOCUS ? &focus : NULL, cancellable, got_shot,
                           task);
        focus_done(&focus);
        return;
    }
    g_task_return_error(task, error);
    g_object_unref(task);
}

bool pick_finish(GAsyncResult *result, struct screen_shot *ret, GError **error)
{
    g_autofree struct screen_shot *shot = g_task_propagate_pointer(G_TASK(result), error);

    if (shot)
        *ret = *shot;
    return shot;
}
