/* SPDX-License-Identifier: MIT */
#include "session/describe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "session/image_query.h"
#include "session/internal.h"
#include "session/json.h"

#define DESCRIPTIONS_MAX 128 /* that are kept */

/* Short answers, always the same ones. */
#define SAMPLING "{\"temperature\": 0}"

static const struct {
    const char *key, *text;
    uint32_t max_tokens;
} questions[] = {
    {"short", "Describe this picture in one sentence.", 64},
    {"long", "Describe this picture in detail.", 256},
    {"text", "Which words are in this picture?", 256},
};

#define N_QUESTIONS ARRAY_LEN(questions)

/*
 * A short answer that was less certain than this is told to be unsure. lfmd's own models have one
 * way to say what they see: with 0.85 the shapes that they took black, white, a gradient and
 * granite for were found out (0.74 to 0.84), and none of 42 drawings was suspected (0.87 and more).
 * Others choose among many words; their limit is not measured.
 */
#define UNSURE_OWN   0.85
#define UNSURE_OTHER 0.5

struct description {
    TAILQ_ENTRY(description) link;
    char photo_id[PHOTO_ID_LENGTH + 1];
    char *model_id;
    struct image_settings settings;
    struct json_object *line; /* the last one, with `cached` */
};

struct describe {
    struct engine *engine;
    const struct describe_sink *sink;
    void *userdata;
    char *model_id;
    struct image_settings settings;
    struct image_query *query; /* under way, or NULL */
    struct photo *photo;       /* that it has decoded, or NULL */
    struct session *session;
    size_t question;      /* that is being answered */
    struct buffer answer; /* to it, so far */
    bool unsure;
    struct json_object *line;
};

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a description.");
}

/* --- descriptions that were made ------------------------------------------------------------- */

static void forget(struct engine *engine, struct description *description)
{
    TAILQ_REMOVE(&engine->descriptions, description, link);
    engine->n_descriptions--;
    free(description->model_id);
    json_object_put(description->line);
    free(description);
}

void descriptions_forget(struct engine *engine)
{
    while (!TAILQ_EMPTY(&engine->descriptions))
        forget(engine, TAILQ_FIRST(&engine->descriptions));
}

static struct description *find(const struct describe *describe)
{
    struct description *d;

    TAILQ_FOREACH(d, &describe->engine->descriptions, link)
    if (strcmp(d->photo_id, describe->photo->id) == 0 &&
        strcmp(d->model_id, describe->model_id) == 0 &&
        memcmp(&d->settings, &describe->settings, sizeof(d->settings)) == 0)
        return d;
    return NULL;
}

/* What there is no memory for is not kept. */
static void keep(struct describe *describe)
{
    struct engine *engine = describe->engine;
    struct description *description = find(describe);

    if (description)
        forget(engine, description); /* it was made twice at the same time */
    description = calloc(1, sizeof(*description));
    if (!description || !(description->model_id = strdup(describe->model_id))) {
        free(description);
        return;
    }
    memcpy(description->photo_id, describe->photo->id, sizeof(description->photo_id));
    description->settings = describe->settings;
    description->line = TAKE_PTR(describe->line);
    json_set(description->line, "cached", json_object_new_boolean(true));
    TAILQ_INSERT_HEAD(&engine->descriptions, description, link);
    if (++engine->n_descriptions > DESCRIPTIONS_MAX)
        forget(engine, TAILQ_LAST(&engine->descriptions, description_list));
}

/* --- answers --------------------------------------------------------------------------------- */

/* The sink may free the description: nothing of it is touched afterwards. */
static void tell(struct describe *describe, const char *line, size_t length, bool last)
{
    describe->sink->line(describe->userdata, line, length, last);
}

static void fail(struct describe *describe, const struct error *err)
{
    static const char no_memory_line[] = "{\"event\":\"error\",\"name\":\"NoMemory\",\"message\":"
                                         "\"There is not enough memory for a description.\"}";
    _cleanup_(json_putp) struct json_object *line = json_object_new_object();
    _cleanup_(freep) char *text = NULL;

    json_set(line, "event", json_object_new_string("error"));
    json_set(line, "name", json_object_new_string(error_name(err->code)));
    json_set(line, "message", json_object_new_string(err->text));
    text = json_write(line);
    describe->session = session_close(describe->session, false);
    tell(describe, text ? text : no_memory_line, strlen(text ? text : no_memory_line), true);
}

static void finish(struct describe *describe)
{
    _cleanup_(freep) char *text = json_write(describe->line);
    struct error err = ERROR_INIT;

    if (!text) {
        no_memory(&err);
        fail(describe, &err);
        return;
    }
    keep(describe);
    tell(describe, text, strlen(text), true);
}

static void ask(struct describe *describe);

/* Who reads it aloud need not wait for the rest. False: there is no memory. */
static bool tell_part(struct describe *describe, struct json_object *answer)
{
    _cleanup_(json_putp) struct json_object *line = json_object_new_object();
    _cleanup_(freep) char *text = NULL;

    json_set(line, "event", json_object_new_string("part"));
    json_set(line, "part", json_object_new_string(questions[describe->question].key));
    if (describe->question == 0)
        json_set(line, "unsure", json_object_new_boolean(describe->unsure));
    if (json_set(line, "text", json_object_get(answer)))
        text = json_write(line);
    if (text)
        tell(describe, text, strlen(text), false);
    return text;
}

/* The first question's answer is the one that is judged. */
static bool is_unsure(const struct describe *describe, const struct turn_event *event)
{
    _cleanup_(json_putp) struct json_object *line = json_tokener_parse(event->line);
    const double certainty = json_object_get_double(json_object_object_get(line, "certainty"));

    return certainty <
           (strncmp(describe->model_id, "lfmd-", 5) == 0 ? UNSURE_OWN : UNSURE_OTHER);
}

static void answered(struct describe *describe, const struct turn_event *event)
{
    const char *text = describe->answer.text ? describe->answer.text : "";
    struct json_object *answer =
        json_object_new_string_len(text, (int)describe->answer.length);
    struct error err = ERROR_INIT;

    if (describe->question == 0)
        describe->unsure = is_unsure(describe, event);
    describe->session = session_close(describe->session, false);
    if (!json_set(describe->line, questions[describe->question].key, answer)) {
        no_memory(&err);
        fail(describe, &err);
        return;
    }
    describe->answer.length = 0;
    if (describe->question + 1 < N_QUESTIONS) {
        if (!tell_part(describe, answer)) {
            no_memory(&err);
            fail(describe, &err);
            return;
        }
        describe->question++;
        ask(describe);
        return;
    }
    if (!json_set(describe->line, "unsure", json_object_new_boolean(describe->unsure)) ||
        !json_set(describe->line, "cached", json_object_new_boolean(false))) {
        no_memory(&err);
        fail(describe, &err);
        return;
    }
    finish(describe);
}

static void add_text(struct describe *describe, const struct turn_event *event)
{
    _cleanup_(json_putp) struct json_object *line = json_tokener_parse(event->line);
    const char *text = line ? json_member_text(line, "text") : NULL;
    struct error err = ERROR_INIT;

    if (text && buffer_add(&describe->answer, text, strlen(text)) == 0)
        return;
    no_memory(&err);
    fail(describe, &err);
}

static void take_event(void *userdata, const struct turn_event *event)
{
    struct describe *describe = userdata;

    switch (event->type) {
    case TURN_PROGRESS:
    case TURN_IMAGE:
        if (describe->question == 0)
            tell(describe, event->line, event->length, false);
        break;
    case TURN_TEXT:
        add_text(describe, event);
        break;
    case TURN_DONE:
        answered(describe, event);
        break;
    case TURN_ERROR:
        tell(describe, event->line, event->length, true);
        break;
    case TURN_START:
    case TURN_THINKING:
    case TURN_TOOL_CALL: /* no tools are offered */
        break;
    }
}

/* The next question, in a conversation of its own. */
static void ask(struct describe *describe)
{
    static const struct session_sink sink = {.event = take_event};
    const struct session_options session_options = {
        .model = describe->model_id,
        .keep_alive_sec = INT64_MIN,
        .sampling = SAMPLING,
    };
    const struct ask_part parts[] = {
        {.type = ASK_IMAGE, .photo = describe->photo},
        {.type = ASK_TEXT, .text = questions[describe->question].text},
    };
    const struct ask_options options = {
        .max_tokens = questions[describe->question].max_tokens,
        .measure = describe->question == 0,
    };
    struct error err = ERROR_INIT;
    uint32_t turn;

    describe->session = session_new(describe->engine, &session_options, &sink, describe, &err);
    if (!describe->session ||
        session_ask(describe->session, parts, ARRAY_LEN(parts), &options, &turn, &err) < 0)
        fail(describe, &err);
}

/* The picture can be decoded, and its content has a name. */
static void queried(void *userdata, const struct image_query_result *result,
                    const struct error *error)
{
    struct describe *describe = userdata;
    const struct description *made;

    describe->query = NULL;
    if (error) {
        fail(describe, error);
        return;
    }
    describe->photo = photo_ref(result->photo);
    made = find(describe);
    if (made) {
        json_object_put(describe->line);
        describe->line = json_object_get(made->line);
        finish(describe);
        return;
    }
    ask(describe);
}

/* --- life ------------------------------------------------------------------------------------ */

static struct json_object *line_new(const char *model_id)
{
    struct json_object *line = json_object_new_object();

    if (json_set(line, "event", json_object_new_string("description")) &&
        json_set(line, "model", json_object_new_string(model_id)))
        return line;
    json_object_put(line);
    return NULL;
}

struct describe *describe_new(struct engine *engine, int fd, const struct describe_options *options,
                              const struct describe_sink *sink, void *userdata, struct error *err)
{
    const struct model *model = models_find_seeing(engine->models, options->model, err);
    struct describe *describe = model ? calloc(1, sizeof(*describe)) : NULL;

    if (!describe) {
        no_memory(err); /* unless there is another error */
        return NULL;
    }
    describe->engine = engine;
    describe->sink = sink;
    describe->userdata = userdata;
    if (image_settings_read(options->image, &describe->settings, err) < 0)
        return describe_free(describe);
    describe->model_id = strdup(model->id);
    describe->line = line_new(model->id);
    if (!describe->model_id || !describe->line) {
        no_memory(err);
        return describe_free(describe);
    }
    describe->query =
        image_query_new(engine, model->id, fd, options->image, queried, describe, err);
    return describe->query ? describe : describe_free(describe);
}

struct describe *describe_free(struct describe *describe)
{
    if (!describe)
        return NULL;
    session_close(describe->session, false);
    image_query_cancel(describe->query);
    photo_unref(describe->photo);
    json_object_put(describe->line);
    buffer_done(&describe->answer);
    free(describe->model_id);
    free(describe);
    return NULL;
}
