/* SPDX-License-Identifier: MIT */

/*
 * The messages of a session, to which typed and spoken turns add. Engine thread.
 */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/internal.h"
#include "session/json.h"

static int save(const struct session *session, const struct past_turn *turn, const char *messages,
                struct error *err)
{
    _cleanup_(freep) char *usage = json_write(turn->usage);
    struct kept_image images[SESSION_IMAGES_MAX];
    struct kept_session kept = {
        .title = (char *)turn->title,
        .model = (char *)turn->model,
        .system = session->system,
        .tools = session->tools_text,
        .sampling = session->sampling,
        .image = session->image_text,
        .n_context = session->n_context,
        .background = session->background,
        .keep_alive_sec = session->keep_alive_sec,
        .n_dropped = turn->n_dropped,
        .n_tokens = turn->n_tokens,
        .created_usec = session->created_usec,
    };
    const struct kept_turn row = {
        .number = turn->number,
        .reason = turn->reason,
        .usage = usage,
        .messages = messages,
        .images = images,
        .n_images = turn->n_photos,
    };

    if (!usage)
        return error_set(err, ERROR_NO_MEMORY, "There is not enough memory to keep a turn.");
    memcpy(kept.id, session->id, sizeof(kept.id));
    for (size_t i = 0; i < turn->n_photos; i++)
        images[i] = (struct kept_image){
            .id = turn->photos[i]->id,
            .fd = turn->photos[i]->fd,
            .n_bytes = turn->photos[i]->n_bytes,
        };
    return store_put(session->engine->store, &kept, &row, &session->closed, err);
}

static bool make_room_for_photos(struct session *session, size_t n)
{
    struct photo **photos =
        reallocarray(session->photos, session->n_photos + n + 1, sizeof(*photos));

    if (photos)
        session->photos = photos;
    return photos != NULL;
}

char *history_add(struct session *session, const struct past_turn *turn, struct error *err)
{
    _cleanup_(freep) char *messages = json_write(turn->messages);

    if (!messages || !make_room_for_photos(session, turn->n_photos)) {
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for the history of a session.");
        return NULL;
    }
    if (session->keep && save(session, turn, messages, err) < 0)
        return NULL;
    for (size_t i = 0; i < json_object_array_length(turn->messages); i++)
        json_append(session->messages,
                    json_object_get(json_object_array_get_idx(turn->messages, i)));
    for (size_t i = 0; i < turn->n_photos; i++)
        session->photos[session->n_photos++] = photo_ref(turn->photos[i]);
    session->n_dropped = turn->n_dropped;
    return TAKE_PTR(messages);
}
