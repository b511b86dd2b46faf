/* SPDX-License-Identifier: MIT */

/*
 * The public side of sessions. Bus thread.
 */

#include "session/session.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/utf8.h"
#include "session/internal.h"
#include "session/json.h"

#define TITLE_LENGTH    60 /* bytes of a title that is made from the first question */
#define STOP_LENGTH_MAX 256
#define RESULTS_MAX     256

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for the session.");
}

/* --- options --------------------------------------------------------------------------------- */

static int check_text(const char *text, const char *what, struct error *err)
{
    const size_t length = text ? strlen(text) : 0;

    if (length > SESSION_TEXT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s has %zu bytes; at most %zu are allowed.",
                         what, length, SESSION_TEXT_MAX);
    if (length > 0 && !utf8_valid(text, length))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not valid UTF-8.", what);
    return 0;
}

static int take_number(struct json_object *value, const char *key, double *ret, struct error *err)
{
    if (!json_object_is_type(value, json_type_double) && !json_object_is_type(value, json_type_int))
        return error_set(err, ERROR_INVALID_ARGUMENT, "The sampling option '%s' is not a number.",
                         key);
    *ret = json_object_get_double(value);
    return 0;
}

/* Lay the overrides over *sampling. */
static int apply_sampling(const char *text, struct sampling *sampling, bool *has_seed,
                          struct error *err)
{
    const struct {
        const char *key;
        float *value;
    } floats[] = {
        {"temperature", &sampling->temperature},
        {"top_p", &sampling->top_p},
        {"min_p", &sampling->min_p},
        {"repetition_penalty", &sampling->repetition_penalty},
        {"presence_penalty", &sampling->presence_penalty},
    };
    _cleanup_(json_putp) struct json_object *overrides = NULL;

    if (!text)
        return 0;
    overrides = json_read(text, json_type_object, "The sampling option", err);
    if (!overrides)
        return -EINVAL;
    json_object_object_foreach(overrides, key, value)
    {
        double number = 0;
        size_t i = 0;

        if (take_number(value, key, &number, err) < 0)
            return -EINVAL;
        while (i < ARRAY_LEN(floats) && strcmp(floats[i].key, key) != 0)
            i++;
        if (i < ARRAY_LEN(floats)) {
            *floats[i].value = (float)number;
        } else if (strcmp(key, "top_k") == 0 || strcmp(key, "seed") == 0) {
            if (!json_object_is_type(value, json_type_int) || number < 0 ||
                (key[0] == 't' && number > UINT32_MAX))
                return error_set(err, ERROR_INVALID_ARGUMENT,
                                 "The sampling option '%s' is not a whole number in its range.",
                                 key);
            if (key[0] == 't') {
                sampling->top_k = (uint32_t)json_object_get_uint64(value);
            } else {
                sampling->seed = json_object_get_uint64(value);
                *has_seed = true;
            }
        } else {
            return error_set(err, ERROR_INVALID_ARGUMENT, "There is no sampling option '%.64s'.",
                             key);
        }
    }
    return sampling_check(sampling, err);
}

static bool has_name(struct json_object *tool)
{
    struct json_object *function;

    if (!json_object_is_type(tool, json_type_object))
        return false;
    if (json_object_object_get_ex(tool, "function", &function))
        return json_object_is_type(function, json_type_object) &&
               json_member_text(function, "name");
    return json_member_text(tool, "name") != NULL;
}

/* *ret stays NULL for an empty list. */
static int read_tools(const char *text, struct json_object **ret, struct error *err)
{
    _cleanup_(json_putp) struct json_object *tools =
        json_read(text, json_type_array, "The tool list", err);

    if (!tools)
        return -EINVAL;
    for (size_t i = 0; i < json_object_array_length(tools); i++)
        if (!has_name(json_object_array_get_idx(tools, i)))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "Tool %zu of the list has no name; a tool is {\"name\", "
                             "\"description\", \"parameters\"}.",
                             i + 1);
    if (json_object_array_length(tools) > 0)
        *ret = TAKE_PTR(tools);
    return 0;
}

/* --- life ------------------------------------------------------------------------------------ */

static bool copy(const char *text, char **ret)
{
    return !text || (*ret = strdup(text));
}

static struct session *session_alloc(struct engine *engine, const struct session_sink *sink,
                                     void *userdata)
{
    struct session *session = calloc(1, sizeof(*session));

    if (!session)
        return NULL;
    session->engine = engine;
    session->sink = sink;
    session->userdata = userdata;
    session->close_job = (struct close_job){.job.type = JOB_CLOSE, .session = session};
    TAILQ_INIT(&session->open_turns);
    session->messages = json_object_new_array();
    session->closed_event = event_new(EVENT_CLOSED, 0);
    if (!session->messages || !session->closed_event) {
        session_free(session);
        return NULL;
    }
    session->closed_event->session = session;
    return session;
}

static struct turn *turn_free(struct turn *turn)
{
    if (!turn)
        return NULL;
    free(turn->work.model_id);
    free(turn->work.model_path);
    free(turn->vision_path);
    json_object_put(turn->asked);
    for (size_t i = 0; i < turn->n_photos; i++)
        photo_unref(turn->photos[i]);
    free(turn->photos);
    json_object_put(turn->results);
    json_object_put(turn->format);
    for (char **stop = turn->stop; stop && *stop; stop++)
        free(*stop);
    free(turn->stop);
    event_free(turn->last_resort);
    free(turn);
    return NULL;
}

void session_free(struct session *session)
{
    struct turn *turn;

    while ((turn = TAILQ_FIRST(&session->open_turns))) {
        TAILQ_REMOVE(&session->open_turns, turn, open_link);
        turn_free(turn);
    }
    event_free(session->closed_event);
    json_object_put(session->messages);
    json_object_put(session->tools);
    conversation_past_free(session->past);
    buffer_done(&session->history);
    free(session->model_id);
    free(session->system);
    free(session->tools_text);
    free(session->sampling);
    free(session->image_text);
    free(session->title);
    for (size_t i = 0; i < session->n_photos; i++)
        photo_unref(session->photos[i]);
    free(session->photos);
    free(session);
}

static int check_count(const struct engine *engine, struct error *err)
{
    if (engine->n_sessions < SESSIONS_MAX)
        return 0;
    return error_set(err, ERROR_BUSY, "There are %u open sessions, which is the limit; close one.",
                     SESSIONS_MAX);
}

static void attach(struct engine *engine, struct session *session)
{
    LIST_INSERT_HEAD(&engine->sessions, session, link);
    engine->n_sessions++;
}

static int make_id(char id[STORE_ID_LENGTH + 1], struct error *err)
{
    unsigned char bytes[STORE_ID_LENGTH / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        return error_set(err, ERROR_INTERNAL, "There are no random numbers for a session id.");
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

static int check_options(const struct engine *engine, const struct session_options *options,
                         struct error *err)
{
    if (check_count(engine, err) < 0)
        return -EBUSY;
    if (check_text(options->system, "The system prompt", err) < 0 ||
        check_text(options->tools, "The tool list", err) < 0 ||
        check_text(options->sampling, "The sampling option", err) < 0 ||
        check_text(options->image, "The image option", err) < 0 ||
        check_text(options->title, "The title", err) < 0)
        return -EINVAL;
    if (options->n_context > 0 && options->n_context < SESSION_CONTEXT_MIN)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A context of %zu tokens is too small; it takes at least %d.",
                         options->n_context, SESSION_CONTEXT_MIN);
    if (options->keep && !engine->store)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "Sessions cannot be kept, because there is no state directory.");
    return 0;
}

const struct model *session_find_model(const struct engine *engine, const char *name, bool sees,
                                       struct error *err)
{
    const struct model *model = sees ? models_find_seeing(engine->models, name, err)
                                     : models_find(engine->models, name, err);

    if (model && model->role != MODEL_CHAT) {
        error_set(err, ERROR_INVALID_ARGUMENT,
                  "The model %s is for retrieval; it cannot hold a conversation.", model->id);
        return NULL;
    }
    return model;
}

struct session *session_new(struct engine *engine, const struct session_options *options,
                            const struct session_sink *sink, void *userdata, struct error *err)
{
    struct error own = ERROR_INIT;
    const struct model *model;
    struct session *session;
    struct sampling sampling;
    bool has_seed;
    int result = 0;

    err = err ? err : &own;
    if (check_options(engine, options, err) < 0 ||
        !(model = session_find_model(engine, options->model, false, err)))
        return NULL;
    sampling = model->sampling;
    if (apply_sampling(options->sampling, &sampling, &has_seed, err) < 0)
        return NULL;

    session = session_alloc(engine, sink, userdata);
    if (!session) {
        no_memory(err);
        return NULL;
    }
    session->created_usec = clock_realtime_usec();
    session->n_context = options->n_context ? options->n_context : engine->config.n_context;
    session->context_limit = session->n_context;
    session->background = options->background;
    session->any_model = !options->model;
    session->keep = options->keep;
    session->keep_alive_sec = options->keep_alive_sec;
    if (options->tools)
        result = read_tools(options->tools, &session->tools, err);
    if (result == 0)
        result = image_settings_read(options->image, &session->image, err);
    if (result == 0)
        result = make_id(session->id, err);
    if (result == 0 &&
        (!copy(model->id, &session->model_id) || !copy(options->system, &session->system) ||
         !copy(session->tools ? options->tools : NULL, &session->tools_text) ||
         !copy(options->sampling, &session->sampling) ||
         !copy(options->image, &session->image_text) || !copy(options->title, &session->title)))
        result = no_memory(err);
    if (result < 0) {
        session_free(session);
        return NULL;
    }
    attach(engine, session);
    return session;
}

static bool is_open(const struct engine *engine, const char *id)
{
    const struct session *session;

    LIST_FOREACH(session, &engine->sessions, link)
    if (strcmp(session->id, id) == 0)
        return true;
    return false;
}

/* Messages as they stand in `history`: an array without its brackets. */
static int add_history(struct session *session, const char *array)
{
    const size_t length = strlen(array);

    assert(length >= 2);
    if (length == 2)
        return 0;
    if (session->history.length > 0 && buffer_add(&session->history, ",", 1) < 0)
        return -ENOMEM;
    return buffer_add(&session->history, array + 1, length - 2);
}

/* The pictures that the messages speak of. */
static int restore_photos(struct session *session, struct error *err)
{
    const size_t n = json_object_array_length(session->messages);
    size_t n_photos = 0;

    for (size_t i = 0; i < n; i++)
        n_photos += prompt_images(json_object_array_get_idx(session->messages, i));
    if (n_photos > SESSION_IMAGES_MAX)
        return error_set(err, ERROR_UNSUPPORTED_FORMAT,
                         "The kept session has %zu pictures; at most %d are allowed.", n_photos,
                         SESSION_IMAGES_MAX);
    session->photos = calloc(n_photos + 1, sizeof(*session->photos));
    if (!session->photos)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        struct json_object *message = json_object_array_get_idx(session->messages, i);
        struct json_object *content;
        const size_t n_images = prompt_images(message);

        if (n_images == 0)
            continue;
        json_object_object_get_ex(message, "content", &content);
        for (size_t k = 0; k < json_object_array_length(content); k++) {
            struct json_object *part = json_object_array_get_idx(content, k);
            const char *type = json_member_text(part, "type");
            struct photo *photo;

            if (!type || strcmp(type, "image") != 0)
                continue;
            photo = photo_restore(part, err);
            if (!photo)
                return -EINVAL;
            session->photos[session->n_photos++] = photo;
        }
    }
    return 0;
}

static int restore(struct session *session, struct kept_session *kept, struct error *err)
{
    _cleanup_(freep) char *messages = json_write(kept->messages);

    memcpy(session->id, kept->id, sizeof(session->id));
    session->model_id = TAKE_PTR(kept->model);
    session->system = TAKE_PTR(kept->system);
    session->tools_text = TAKE_PTR(kept->tools);
    session->sampling = TAKE_PTR(kept->sampling);
    session->image_text = TAKE_PTR(kept->image);
    session->title = TAKE_PTR(kept->title);
    session->n_context = session->context_limit = kept->n_context;
    session->background = kept->background;
    session->keep_alive_sec = kept->keep_alive_sec;
    session->keep = true;
    session->created_usec = kept->created_usec;
    atomic_init(&session->last_turn, kept->last_turn);
    session->n_tokens = kept->n_tokens;
    session->n_dropped = kept->n_dropped;
    json_object_put(session->messages);
    session->messages = TAKE_PTR(kept->messages);
    if (!messages || add_history(session, messages) < 0)
        return no_memory(err);
    if (restore_photos(session, err) < 0 ||
        image_settings_read(session->image_text, &session->image, err) < 0)
        return -EINVAL;
    return session->tools_text ? read_tools(session->tools_text, &session->tools, err) : 0;
}

struct session *session_open(struct engine *engine, const char *id, const struct session_sink *sink,
                             void *userdata, struct error *err)
{
    struct kept_session kept;
    struct session *session;

    if (check_count(engine, err) < 0)
        return NULL;
    if (is_open(engine, id)) {
        error_set(err, ERROR_BUSY, "The session %.40s is open already.", id);
        return NULL;
    }
    if (!engine->store) {
        error_set(err, ERROR_INVALID_ARGUMENT, "There is no kept session %.40s.", id);
        return NULL;
    }
    if (store_get(engine->store, id, &kept, err) < 0)
        return NULL;
    session = session_alloc(engine, sink, userdata);
    if (!session)
        no_memory(err);
    else if (restore(session, &kept, err) < 0)
        session_free(TAKE_PTR(session));
    else
        attach(engine, session);
    kept_session_done(&kept);
    return session;
}

struct session *session_close(struct session *session, bool forget)
{
    struct engine *engine;
    struct turn *turn;
    struct error err = ERROR_INIT;

    if (!session)
        return NULL;
    engine = session->engine;
    atomic_store(&session->closed, true);
    TAILQ_FOREACH(turn, &session->open_turns, open_link)
    atomic_store(&turn->work.cancel, true);
    /* ERROR_INVALID_ARGUMENT: it had no turn yet, so it was not there. */
    if (forget && session->keep && store_forget(engine->store, session->id, &err) < 0 &&
        err.code != ERROR_INVALID_ARGUMENT)
        log_write(LOG_WARNING, &(struct log_fields){.session = session->id}, "%s", err.text);
    LIST_REMOVE(session, link);
    engine->n_sessions--;
    engine->n_closing++;
    engine_push(engine, &session->close_job.job);
    return NULL;
}

/* --- what is known of it --------------------------------------------------------------------- */

const char *session_id(const struct session *session)
{
    return session->id;
}

const struct model *session_model(const struct session *session)
{
    return models_find(session->engine->models, session->model_id, NULL);
}

enum session_state session_state(const struct session *session)
{
    const struct turn *turn;

    TAILQ_FOREACH(turn, &session->open_turns, open_link)
    if (turn->started)
        return SESSION_THINKING;
    return session->n_open > 0 ? SESSION_QUEUED : SESSION_IDLE;
}

size_t session_context_used(const struct session *session)
{
    return session->n_tokens;
}

size_t session_context_limit(const struct session *session)
{
    return session->context_limit;
}

bool session_kept(const struct session *session)
{
    return session->keep;
}

char *session_history(const struct session *session)
{
    struct buffer out = {0};
    _cleanup_(json_putp) struct json_object *system = NULL;
    const char *text = "";

    if (session->system && session->system[0]) {
        system = json_object_new_object();
        if (!json_set(system, "role", json_object_new_string("system")) ||
            !json_set(system, "content", json_object_new_string(session->system)) ||
            !(text = json_object_to_json_string_ext(system, JSON_FLAGS)))
            return NULL;
    }
    if (buffer_add(&out, "[", 1) < 0 || buffer_add(&out, text, strlen(text)) < 0 ||
        (text[0] && session->history.length > 0 && buffer_add(&out, ",", 1) < 0) ||
        (session->history.length > 0 &&
         buffer_add(&out, session->history.text, session->history.length) < 0) ||
        buffer_add(&out, "]", 1) < 0) {
        buffer_done(&out);
        return NULL;
    }
    return out.text;
}

char *session_list_kept(struct engine *engine, struct error *err)
{
    _cleanup_(json_putp) struct json_object *list = NULL;
    char *text;

    if (!engine->store)
        return strdup("[]");
    list = store_list(engine->store, err);
    if (!list)
        return NULL;
    text = json_write(list);
    if (!text)
        no_memory(err);
    return text;
}

int session_forget(struct engine *engine, const char *id, struct error *err)
{
    if (is_open(engine, id))
        return error_set(err, ERROR_BUSY, "The session %.40s is open; close it first.", id);
    if (!engine->store)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There is no kept session %.40s.", id);
    return store_forget(engine->store, id, err);
}

/* --- asking ---------------------------------------------------------------------------------- */

/* Its first line, cut at a character. */
char *session_make_title(const char *question)
{
    const char *start = question + strspn(question, " \t\r\n");
    const size_t line = strcspn(start, "\r\n");
    char *title;

    if (line <= TITLE_LENGTH)
        return strndup(start, line);
    if (asprintf(&title, "%.*s…", (int)utf8_complete(start, TITLE_LENGTH), start) < 0)
        return NULL;
    return title;
}

/* A part of the question as it stands in the history. */
static struct json_object *part_new(const char *type, const char *text)
{
    struct json_object *part = json_object_new_object();

    if (json_set(part, "type", json_object_new_string(type)) &&
        (!text || json_set(part, "text", json_object_new_string(text))))
        return part;
    json_object_put(part);
    return NULL;
}

/* Texts that follow each other are lines of one. */
static int add_text(struct turn *turn, const char *text, struct error *err)
{
    const size_t n = json_object_array_length(turn->asked);
    struct json_object *last = n > 0 ? json_object_array_get_idx(turn->asked, n - 1) : NULL;
    const char *before = last ? json_member_text(last, "text") : NULL;
    _cleanup_(freep) char *joined = NULL;

    if (!before)
        return json_append(turn->asked, part_new("text", text)) ? 0 : no_memory(err);
    if (asprintf(&joined, "%s\n%s", before, text) < 0 ||
        !json_set(last, "text", json_object_new_string(joined)))
        return no_memory(err);
    return 0;
}

static int add_result(struct turn *turn, const struct ask_part *part, struct error *err)
{
    if (!part->id || !part->id[0] ||
        (turn->results && json_object_object_get_ex(turn->results, part->id, NULL)))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "Each tool result takes the id of a call, and each id one result.");
    if (!turn->results)
        turn->results = json_object_new_object();
    if (!json_set(turn->results, part->id, json_object_new_string(part->text)))
        return no_memory(err);
    if (json_object_object_length(turn->results) > RESULTS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There are more than %d tool results.",
                         RESULTS_MAX);
    return 0;
}

static int add_image(struct turn *turn, const struct ask_part *part, struct error *err)
{
    struct image_settings settings;
    struct photo *photo;
    int fd;

    if (part->photo) {
        turn->photos[turn->n_photos++] = photo_ref(part->photo);
        return json_append(turn->asked, part_new("image", NULL)) ? 0 : no_memory(err);
    }
    if (check_text(part->image, "The settings of a picture", err) < 0 ||
        image_settings_read(part->image, &settings, err) < 0)
        return -EINVAL;
    settings = image_settings_over(&turn->work.session->image, &settings);
    if (image_settings_check(&settings, err) < 0)
        return -EINVAL;
    fd = fcntl(part->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The descriptor of a picture cannot be used: %s.", strerror(errno));
    photo = photo_new(fd, &settings, err);
    if (!photo) {
        close(fd);
        return error_errno(err->code);
    }
    turn->photos[turn->n_photos++] = photo;
    return json_append(turn->asked, part_new("image", NULL)) ? 0 : no_memory(err);
}

/* A question without pictures is a text; one without anything is none. */
static int settle_content(struct turn *turn, struct error *err)
{
    const size_t n = json_object_array_length(turn->asked);
    struct json_object *text = NULL;

    if (turn->n_photos > 0)
        return 0;
    if (n > 0 && json_object_object_get_ex(json_object_array_get_idx(turn->asked, 0), "text",
                                           &text))
        json_object_get(text);
    json_object_put(turn->asked);
    turn->asked = text;
    if (!text && !turn->results)
        return error_set(err, ERROR_INVALID_ARGUMENT, "The question is empty.");
    return 0;
}

static int take_parts(struct turn *turn, const struct ask_part *parts, size_t n_parts,
                      struct error *err)
{
    size_t n_bytes = 0, n_images = 0;
    int result = 0;

    for (size_t i = 0; i < n_parts; i++)
        n_images += parts[i].type == ASK_IMAGE;
    if (n_images > SESSION_IMAGES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The question has %zu pictures; at most %d are allowed.", n_images,
                         SESSION_IMAGES_MAX);
    turn->asked = json_object_new_array();
    turn->photos = calloc(n_images + 1, sizeof(*turn->photos));
    if (!turn->asked || !turn->photos)
        return no_memory(err);
    for (size_t i = 0; i < n_parts && result == 0; i++) {
        const struct ask_part *part = &parts[i];

        if (check_text(part->text, "A part of the question", err) < 0 ||
            check_text(part->id, "The id of a tool result", err) < 0)
            return -EINVAL;
        n_bytes += part->text ? strlen(part->text) : 0;
        if (n_bytes > SESSION_TEXT_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "The question has more than %zu bytes, which is the limit.",
                             SESSION_TEXT_MAX);
        if (part->type == ASK_IMAGE)
            result = add_image(turn, part, err);
        else if (part->type == ASK_TOOL_RESULT)
            result = add_result(turn, part, err);
        else if (part->text[0])
            result = add_text(turn, part->text, err);
    }
    return result < 0 ? result : settle_content(turn, err);
}

static int take_stops(struct turn *turn, const char *const *stop, struct error *err)
{
    size_t n = 0;

    if (!stop || !stop[0])
        return 0;
    while (stop[n])
        n++;
    if (n > SESSION_STOPS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "There are %zu stop strings; at most %d are allowed.", n,
                         SESSION_STOPS_MAX);
    turn->stop = calloc(n + 1, sizeof(*turn->stop));
    for (size_t i = 0; turn->stop && i < n; i++) {
        const size_t length = strlen(stop[i]);

        if (length == 0 || length > STOP_LENGTH_MAX || !utf8_valid(stop[i], length))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "A stop string is UTF-8 text of 1 to %d bytes.", STOP_LENGTH_MAX);
        if (!(turn->stop[i] = strdup(stop[i])))
            return no_memory(err);
    }
    return turn->stop ? 0 : no_memory(err);
}

static int take_options(struct turn *turn, const struct ask_options *options, struct error *err)
{
    const struct session *session = turn->work.session;

    turn->max_tokens = options->max_tokens;
    turn->constrain_tools = options->constrain_tools;
    turn->require_tool = options->require_tool;
    turn->keep_thinking = options->keep_thinking;
    turn->measure = options->measure;
    turn->has_format = options->format != NULL;
    if (turn->require_tool && !session->tools_text)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A tool call is required, but the session has no tools.");
    if (turn->require_tool && turn->has_format)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "An answer cannot be both a tool call and of a given format.");
    if (check_text(options->format, "The format", err) < 0)
        return -EINVAL;
    if (options->format && options->format[0]) {
        turn->format = json_read(options->format, json_type_object, "The format", err);
        if (!turn->format)
            return -EINVAL;
    }
    return take_stops(turn, options->stop, err);
}

/* The model's defaults, then the session's settings, then the turn's. */
static int take_sampling(struct turn *turn, const struct model *model, const char *overrides,
                         struct error *err)
{
    bool has_seed = false;
    int result = check_text(overrides, "The sampling option", err);

    turn->sampling = model->sampling;
    if (result == 0)
        result = apply_sampling(turn->work.session->sampling, &turn->sampling, &has_seed, err);
    if (result == 0)
        result = apply_sampling(overrides, &turn->sampling, &has_seed, err);
    if (result == 0 && !has_seed &&
        getrandom(&turn->sampling.seed, sizeof(turn->sampling.seed), 0) !=
            sizeof(turn->sampling.seed))
        result = error_set(err, ERROR_INTERNAL, "There are no random numbers for a seed.");
    return result;
}

/* Its first words, or NULL. */
static const char *question_text(const struct turn *turn)
{
    const bool parts = json_object_is_type(turn->asked, json_type_array);

    for (size_t i = 0; parts && i < json_object_array_length(turn->asked); i++) {
        const char *text = json_member_text(json_object_array_get_idx(turn->asked, i), "text");

        if (text)
            return text;
    }
    return parts || !turn->asked ? NULL : json_object_get_string(turn->asked);
}

/* Who names no model and begins with a picture gets one that sees. */
static const struct model *choose_model(struct session *session, const struct ask_part *parts,
                                        size_t n_parts, struct error *err)
{
    const struct model *model;
    bool sees = false, may_change;
    char *id;

    for (size_t i = 0; i < n_parts; i++)
        sees = sees || parts[i].type == ASK_IMAGE;
    may_change = sees && session->any_model && atomic_load(&session->last_turn) == 0;
    model = session_find_model(session->engine, may_change ? NULL : session->model_id, sees, err);
    if (model && strcmp(model->id, session->model_id) != 0) {
        id = strdup(model->id);
        if (!id) {
            no_memory(err);
            return NULL;
        }
        free(session->model_id);
        session->model_id = id;
    }
    return model;
}

int session_ask(struct session *session, const struct ask_part *parts, size_t n_parts,
                const struct ask_options *options, uint32_t *ret_turn, struct error *err)
{
    static const struct ask_options defaults = {.constrain_tools = true};
    struct engine *engine = session->engine;
    struct error own = ERROR_INIT;
    const struct model *model;
    struct turn *turn;
    int result;

    err = err ? err : &own;
    options = options ? options : &defaults;
    if (session->n_open >= SESSION_QUEUED_MAX)
        return error_set(err, ERROR_BUSY, "%d questions are waiting in this session already.",
                         SESSION_QUEUED_MAX);
    model = choose_model(session, parts, n_parts, err);
    if (!model)
        return error_errno(err->code);
    turn = calloc(1, sizeof(*turn));
    if (!turn)
        return no_memory(err);
    turn->work.job.type = JOB_WORK;
    turn->work.kind = &turn_kind;
    turn->work.priority = session->background ? WORK_BACKGROUND : WORK_INTERACTIVE;
    turn->work.session = session;
    turn->asked_usec = clock_usec();
    turn->work.keep_alive_sec = session->keep_alive_sec == INT64_MIN
                                    ? engine->config.keep_alive_sec
                                    : session->keep_alive_sec;
    turn->last_resort = event_new(EVENT_TURN, 160);
    result = take_parts(turn, parts, n_parts, err);
    if (result == 0)
        result = take_options(turn, options, err);
    if (result == 0)
        result = take_sampling(turn, model, options->sampling, err);
    if (result == 0 && !session->title && question_text(turn))
        session->title = session_make_title(question_text(turn));
    if (result == 0 && (!turn->last_resort || !copy(model->id, &turn->work.model_id) ||
                        !copy(model->path, &turn->work.model_path) ||
                        !copy(model->vision_path, &turn->vision_path) ||
                        (!session->title && !(session->title = strdup("")))))
        result = no_memory(err);
    if (result < 0) {
        turn_free(turn);
        return result;
    }
    for (size_t i = 0; i < turn->n_photos; i++)
        if (photo_state(turn->photos[i]) == PHOTO_NEW)
            photos_decode(engine->photos, turn->photos[i]);
    turn->number = atomic_fetch_add(&session->last_turn, 1) + 1;
    session->n_open++;
    TAILQ_INSERT_TAIL(&session->open_turns, turn, open_link);
    *ret_turn = turn->number;
    engine_push(engine, &turn->work.job);
    return 0;
}

static struct turn *find_turn(const struct session *session, uint32_t number)
{
    struct turn *turn;

    TAILQ_FOREACH(turn, &session->open_turns, open_link)
    if (turn->number == number)
        return turn;
    return NULL;
}

int session_cancel(struct session *session, uint32_t number, struct error *err)
{
    struct turn *turn = find_turn(session, number);

    if (!turn)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "There is no turn %u under way in this session.", number);
    atomic_store(&turn->work.cancel, true);
    engine_wake(session->engine);
    return 0;
}

void session_hold(struct session *session, uint32_t number, bool hold)
{
    struct turn *turn = find_turn(session, number);

    if (!turn)
        return;
    atomic_store(&turn->work.hold, hold);
    engine_wake(session->engine);
}

/* What has become of the conversation by a turn that is over. */
static void take_past(struct session *session, const struct event *event)
{
    if (event->n_context) {
        session->n_tokens = event->n_tokens;
        session->context_limit = event->n_context;
    }
    if (event->messages && add_history(session, event->messages) < 0)
        log_error("There is not enough memory for the history of a session.");
}

static void tell_changed(const struct session *session)
{
    if (!atomic_load(&session->closed) && session->sink->changed)
        session->sink->changed(session->userdata);
}

void session_deliver_spoken(struct session *session, struct event *event)
{
    take_past(session, event);
    tell_changed(session);
}

void session_deliver(struct session *session, struct event *event)
{
    struct turn *turn = find_turn(session, event->number);
    struct turn_event told = {
        .type = event->turn_type,
        .turn = event->number,
        .line = event->text,
        .length = event->length,
        .reason = event->reason,
    };
    const bool changes = event->turn_type == TURN_START || event->finished;

    if (event->turn_type == TURN_START)
        turn->started = true;
    if (event->finished) {
        TAILQ_REMOVE(&session->open_turns, turn, open_link);
        session->n_open--;
        turn_free(turn);
        take_past(session, event);
    }
    if (atomic_load(&session->closed))
        return;
    session->sink->event(session->userdata, &told);
    /* It may have been closed by that; it is still there until the engine has let go of it. */
    if (changes)
        tell_changed(session);
}
