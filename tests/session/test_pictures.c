/* SPDX-License-Identifier: MIT */

/*
 * Conversations about pictures on a real engine: a small model of random weights with its eye, and
 * the real decoder. What it says means nothing; what it is shown, when, and how often is looked at.
 *
 * Pictures are made here (PPM) or come from tests/data/vision.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "session/describe.h"
#include "session/image_query.h"
#include "session/internal.h"
#include "tests/session/running.h"
#include "text/tokenizer.h"

#define SEES       "seeing" /* tiny_text_f32 with its vision file */
#define BLIND      "blind"
#define ANSWER_MAX 256
#define GRID       1024 /* pixels: 2 x 2 tiles and a thumbnail */
#define TILES      "{\"max_tiles\": 4}"
#define IN_NO_TIME "{\"max_tiles\": 4, \"max_encode_ms\": 1}"

static char hanging[96];
static struct engine_config config;

struct client {
    struct session *session;
    unsigned n_events[TURN_IMAGE + 1];
    unsigned n_looked; /* progress of pictures */
    unsigned cancel_at; /* that many of these */
    bool ended;
    char text[1 << 14];
    size_t n_text;
    struct json_object *image[SESSION_IMAGES_MAX]; /* events of this turn */
    size_t n_images;
    struct json_object *last;
    bool holds;           /* after its first text */
    struct client *other; /* that holds, until this one's turn begins */
    unsigned n_other;     /* texts that it had by then */
};

static void take_event(void *userdata, const struct turn_event *event)
{
    struct client *client = userdata;
    struct json_object *line = json_tokener_parse(event->line);

    assert_non_null(line);
    client->n_events[event->type]++;
    if (event->type == TURN_START && client->other) {
        client->n_other = client->other->n_events[TURN_TEXT];
        session_hold(client->other->session, 1, false);
    } else if (event->type == TURN_TEXT) {
        if (client->holds && client->n_events[TURN_TEXT] == 1)
            session_hold(client->session, event->turn, true);
        client->n_text += (size_t)snprintf(client->text + client->n_text,
                                           sizeof(client->text) - client->n_text, "%s",
                                           json_member_text(line, "text"));
        client->n_text = MIN(client->n_text, sizeof(client->text) - 1);
    } else if (event->type == TURN_IMAGE) {
        assert_in_range(client->n_images, 0, ARRAY_LEN(client->image) - 1);
        client->image[client->n_images++] = json_object_get(line);
    } else if (event->type == TURN_PROGRESS &&
               strcmp(json_member_text(line, "stage"), "image") == 0) {
        if (++client->n_looked == client->cancel_at)
            session_cancel(client->session, event->turn, NULL);
    } else if (event->type == TURN_DONE || event->type == TURN_ERROR) {
        client->last = json_object_get(line);
        client->ended = true;
    }
    json_object_put(line);
}

static const struct session_sink sink = {.event = take_event};

static void forget_turn(struct client *client)
{
    for (size_t i = 0; i < client->n_images; i++)
        json_object_put(client->image[i]);
    json_object_put(client->last);
    client->last = NULL;
    client->n_images = client->n_text = 0;
    client->n_looked = client->cancel_at = 0;
    client->ended = false;
    memset(client->n_events, 0, sizeof(client->n_events));
}

static void close_client(struct client *client, bool forget)
{
    close_session(client->session, forget);
    forget_turn(client);
    *client = (struct client){0};
}

/* A program in the place of the decoder. */
static void write_decoder(char path[96], const char *name, const char *script)
{
    FILE *file;

    snprintf(path, 96, "%s/%s", directory, name);
    file = fopen(path, "we");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", script);
    fclose(file);
    assert_int_equal(chmod(path, 0700), 0);
}

static void start_engine(void)
{
    run_engine(&config, SEES);
}

static int setup_files(void **state)
{
    /* Room for many tiles: a U32 of 8192. */
    static const char n_context[] = "lfm2.context_length\4\0\0\0\0\x20\0\0";

    (void)state;
    make_directories();
    write_model(data_path("vision/tiny_text_f32.gguf"), SEES, "lfm2.context_length", n_context,
                sizeof(n_context) - 1);
    link_model(data_path("vision/mmproj-tiny_text_f32.gguf"), "mmproj-" SEES);
    link_model(data_path("tiny_dense_f32.gguf"), BLIND);
    write_decoder(hanging, "hanging", "exec sleep 600");
    config = (struct engine_config){
        .n_threads = 2,
        .keep_alive_sec = KEEP_ALIVE_FOREVER,
        .n_context = 8192,
        .kv = KV_F16,
        .prefix_cache_bytes = 1 << 24,
        .image_cache_bytes = 1 << 24,
        .state_directory = state_directory,
    };
    return 0;
}

static int setup(void **state)
{
    setup_files(state);
    start_engine();
    return 0;
}

static int setup_hanging(void **state)
{
    setup_files(state);
    config.decoder_program = hanging;
    start_engine();
    return 0;
}

/* --- pictures and questions ------------------------------------------------------------------ */

/* A PPM file in a memfd: soft colours, others for another seed. */
static int make_picture(uint32_t width, uint32_t height, unsigned seed)
{
    const size_t n = (size_t)width * height * 3;
    uint8_t *rgb = malloc(n);
    int fd = memfd_create("picture", MFD_CLOEXEC);
    size_t done = 0;

    assert_non_null(rgb);
    for (size_t i = 0; i < n; i++)
        rgb[i] = (uint8_t)(i / 3 % width * 200 / width + i % 3 * 20 + seed * 37 + i / n / 2);
    assert_true(fd >= 0);
    dprintf(fd, "P6\n%u %u\n255\n", width, height);
    while (done < n) {
        const ssize_t written = write(fd, rgb + done, n - done);

        assert_true(written > 0);
        done += (size_t)written;
    }
    free(rgb);
    return fd;
}

static int open_data(const char *name)
{
    const char *path = data_path(name);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    assert_true(fd >= 0);
    return fd;
}

static int memfd_of(const void *bytes, size_t size)
{
    int fd = memfd_create("picture", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    return fd;
}

static void open_with(struct client *client, const struct session_options *options)
{
    *client = (struct client){0};
    client->session = open_session(options, &sink, client);
}

static void open_client(struct client *client)
{
    open_with(client, &(struct session_options){.keep_alive_sec = INT64_MIN});
}

static void ask_parts(struct client *client, const struct ask_part *parts, size_t n_parts)
{
    const struct ask_options options = {.max_tokens = 6, .sampling = "{\"temperature\": 0}"};
    struct error err = ERROR_INIT;
    uint32_t turn;

    forget_turn(client);
    if (session_ask(client->session, parts, n_parts, &options, &turn, &err) < 0)
        fail_msg("%s", err.text);
}

/* Closes the descriptor: the session has its own. */
static void ask_about(struct client *client, int fd, const char *settings, const char *text)
{
    const struct ask_part parts[] = {
        {.type = ASK_IMAGE, .fd = fd, .image = settings},
        {.type = ASK_TEXT, .text = text},
    };

    ask_parts(client, parts, ARRAY_LEN(parts));
    close(fd);
}

static void ask(struct client *client, const char *text)
{
    ask_parts(client, &(struct ask_part){.type = ASK_TEXT, .text = text}, 1);
}

static void wait_done(struct client *client)
{
    WAIT_FOR(client->ended);
    if (client->n_events[TURN_ERROR])
        fail_msg("%s", json_member_text(client->last, "message"));
}

static void wait_error(struct client *client, const char *name, const char *says)
{
    WAIT_FOR(client->ended);
    assert_int_equal(client->n_events[TURN_ERROR], 1);
    if (strcmp(json_member_text(client->last, "name"), name) != 0 ||
        !strcasestr(json_member_text(client->last, "message"), says))
        fail_msg("%s: %s", json_member_text(client->last, "name"),
                 json_member_text(client->last, "message"));
}

static bool flag_of(struct json_object *object, const char *key)
{
    return number_of(object, key) != 0;
}

static const char *reason_of(const struct client *client)
{
    return json_member_text(client->last, "reason");
}

struct answer {
    bool came;
    struct image_query_result result;
    struct error error;
};

static void take_answer(void *userdata, const struct image_query_result *result,
                        const struct error *error)
{
    struct answer *answer = userdata;

    answer->came = true;
    if (result)
        answer->result = *result;
    if (error)
        answer->error = *error;
}

static struct answer query(int fd, const char *settings)
{
    struct answer answer = {0};
    struct error err = ERROR_INIT;

    if (!image_query_new(engine, NULL, fd, settings, take_answer, &answer, &err))
        fail_msg("%s", err.text);
    close(fd);
    WAIT_FOR(answer.came);
    return answer;
}

/* --- what the model is shown ----------------------------------------------------------------- */

static void test_a_question_about_a_picture_is_answered(void **state)
{
    struct client client;
    _cleanup_(json_putp) struct json_object *history = NULL;
    struct json_object *content;

    (void)state;
    open_client(&client);
    ask_about(&client, open_data("vision/single.png"), NULL, "What is this?");
    wait_done(&client);
    assert_int_equal(client.n_events[TURN_START], 1);
    assert_int_equal(client.n_images, 1);
    assert_true(client.n_looked >= 1);
    assert_int_equal(number_of(client.image[0], "image"), 1);
    assert_int_equal(number_of(client.image[0], "width"), 70);
    assert_int_equal(number_of(client.image[0], "height"), 50);
    assert_int_equal(number_of(client.image[0], "cols"), 1);
    assert_int_equal(number_of(client.image[0], "rows"), 1);
    assert_int_equal(number_of(client.image[0], "views"), 1);
    assert_string_equal(json_member_text(client.image[0], "detail"), "auto");
    assert_false(flag_of(client.image[0], "cached"));
    assert_false(flag_of(client.image[0], "shortened"));
    assert_in_range(number_of(client.image[0], "tokens"), 64, 256);
    assert_int_equal(usage_of(client.last, "image_tokens"), number_of(client.image[0], "tokens"));
    assert_true(usage_of(client.last, "prompt_tokens") > usage_of(client.last, "image_tokens"));
    assert_true(usage_of(client.last, "completion_tokens") > 0);

    history = history_of(client.session);
    assert_int_equal(json_object_array_length(history), 2);
    assert_true(json_object_object_get_ex(json_object_array_get_idx(history, 0), "content",
                                          &content));
    assert_int_equal(json_object_array_length(content), 2);
    assert_string_equal(json_member_text(json_object_array_get_idx(content, 0), "type"), "image");
    assert_string_equal(json_member_text(json_object_array_get_idx(content, 1), "text"),
                        "What is this?");
    close_client(&client, false);
}

/* The greedy answer of the reference, as text. */
static void reference_answer(struct json_object *greedy, size_t n, char *out)
{
    struct error err = ERROR_INIT;
    struct gguf *gguf = gguf_open(data_path("vision/tiny_text_f32.gguf"), &err);
    struct tokenizer *tokenizer = gguf ? tokenizer_load(gguf, &err) : NULL;
    struct detokenizer detokenizer = {0};

    assert_non_null(tokenizer);
    for (size_t i = 0; i < n; i++) {
        const uint32_t id =
            (uint32_t)json_object_get_int64(json_object_array_get_idx(greedy, i));
        size_t length;
        const char *piece = tokenizer_piece(tokenizer, id, &length);

        if (!tokenizer_is_control(tokenizer, id)) /* markers are not for people */
            out += detokenizer_push(&detokenizer, piece, length, out);
    }
    out += detokenizer_finish(&detokenizer, out);
    *out = '\0';
    tokenizer_free(tokenizer);
    gguf_free(gguf);
}

static void test_a_session_says_what_the_reference_says(void **state)
{
    _cleanup_(json_putp) struct json_object *reference =
        json_object_from_file(data_path("vision/vision.json"));
    struct json_object *list, *cases;
    unsigned n = 0;

    (void)state;
    assert_non_null(reference);
    assert_true(json_object_object_get_ex(reference, "models", &list));
    assert_true(json_object_object_get_ex(json_object_array_get_idx(list, 0), "cases", &cases));
    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        struct json_object *row = json_object_array_get_idx(cases, i), *ids, *greedy;
        const char *picture = json_member_text(row, "picture");
        char name[64], expected[256];
        struct client client;

        if (strcmp(picture, "tiled") == 0)
            continue; /* of a tile size that sessions cannot ask for */
        assert_true(json_object_object_get_ex(row, "ids", &ids));
        assert_true(json_object_object_get_ex(row, "greedy", &greedy));
        reference_answer(greedy, 6, expected);
        snprintf(name, sizeof(name), "vision/%s.png", picture);
        open_client(&client);
        ask_about(&client, open_data(name),
                  "{\"min_image_tokens\": 4, \"max_image_tokens\": 16, \"tiling\": false}",
                  json_member_text(reference, "question"));
        wait_done(&client);
        assert_int_equal(usage_of(client.last, "prompt_tokens"), json_object_array_length(ids));
        client.text[client.n_text] = '\0';
        assert_string_equal(client.text, expected);
        close_client(&client, false);
        n++;
    }
    assert_int_equal(n, 3);
}

static void test_a_large_picture_is_cut_into_tiles(void **state)
{
    struct client client;

    (void)state;
    open_client(&client);
    ask_about(&client, make_picture(GRID, GRID, 1), TILES, "What is this?");
    wait_done(&client);
    assert_int_equal(number_of(client.image[0], "cols"), 2);
    assert_int_equal(number_of(client.image[0], "rows"), 2);
    assert_int_equal(number_of(client.image[0], "views"), 5);
    assert_int_equal(number_of(client.image[0], "tokens"), 5 * 256);
    assert_true(client.n_looked > 1);
    close_client(&client, false);
}

static void test_pictures_stand_among_the_text_in_their_order(void **state)
{
    const int first = make_picture(100, 60, 1), second = make_picture(60, 140, 2);
    const struct ask_part parts[] = {
        {.type = ASK_TEXT, .text = "Compare"}, {.type = ASK_IMAGE, .fd = first},
        {.type = ASK_TEXT, .text = "with"},    {.type = ASK_IMAGE, .fd = second},
        {.type = ASK_TEXT, .text = "please"},
    };
    static const char *const types[] = {"text", "image", "text", "image", "text"};
    _cleanup_(json_putp) struct json_object *history = NULL;
    struct json_object *content;
    struct client client;

    (void)state;
    open_client(&client);
    ask_parts(&client, parts, ARRAY_LEN(parts));
    wait_done(&client);
    assert_int_equal(client.n_images, 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(number_of(client.image[i], "image"), i + 1);
    assert_int_equal(number_of(client.image[0], "width"), 100);
    assert_int_equal(number_of(client.image[1], "width"), 60);
    assert_int_equal(usage_of(client.last, "image_tokens"),
                     number_of(client.image[0], "tokens") + number_of(client.image[1], "tokens"));
    history = history_of(client.session);
    assert_true(json_object_object_get_ex(json_object_array_get_idx(history, 0), "content",
                                          &content));
    assert_int_equal(json_object_array_length(content), ARRAY_LEN(types));
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        assert_string_equal(json_member_text(json_object_array_get_idx(content, i), "type"),
                            types[i]);
    close(first);
    close(second);
    close_client(&client, false);
}

static void test_settings_of_the_session_and_of_the_picture(void **state)
{
    struct client client;

    (void)state;
    open_with(&client, &(struct session_options){.image = "{\"detail\": \"low\"}",
                                                 .keep_alive_sec = INT64_MIN});
    ask_about(&client, make_picture(GRID, GRID, 1), NULL, "What is this?");
    wait_done(&client);
    assert_string_equal(json_member_text(client.image[0], "detail"), "low");
    assert_int_equal(number_of(client.image[0], "views"), 1);
    assert_in_range(number_of(client.image[0], "tokens"), 1, 64);
    ask_about(&client, make_picture(GRID, GRID, 2), "{\"max_image_tokens\": 16}", "And this?");
    wait_done(&client);
    assert_int_equal(number_of(client.image[0], "tokens"), 16);
    close_client(&client, false);
}

static void test_too_little_time_means_less_detail(void **state)
{
    struct client client;

    (void)state;
    open_client(&client);
    ask_about(&client, make_picture(GRID, GRID, 1), "{\"max_encode_ms\": 1}", "What is this?");
    wait_done(&client);
    assert_true(flag_of(client.image[0], "shortened"));
    assert_int_equal(number_of(client.image[0], "views"), 1);
    assert_in_range(number_of(client.image[0], "tokens"), 1, 255);
    close_client(&client, false);
}

/*
 * The model in memory, as if its encoder had been so fast before: what is planned then takes longer
 * than it may. No turn is under way.
 */
static void pretend_to_be_fast(void)
{
    TAILQ_FIRST(&engine->loaded)->flops_per_usec = 1e12;
}

/* What is said about a picture that is shown in one view. */
static void answer_about(struct client *client, int fd, char answer[ANSWER_MAX])
{
    ask_about(client, fd, "{\"tiling\": false}", "What is this?");
    wait_done(client);
    assert_int_equal(number_of(client->image[0], "views"), 1);
    snprintf(answer, ANSWER_MAX, "%.*s", ANSWER_MAX - 1, client->text);
}

static void start_afresh(void)
{
    stop_engine();
    start_engine();
}

static void test_the_thumbnail_alone_is_shown_when_its_tiles_take_too_long(void **state)
{
    struct client client;
    char expected[ANSWER_MAX];
    int64_t n_tokens;

    (void)state;
    open_client(&client);
    answer_about(&client, make_picture(GRID, GRID, 1), expected);
    n_tokens = number_of(client.image[0], "tokens");
    close_client(&client, false);
    start_afresh();

    open_client(&client);
    ask_about(&client, make_picture(64, 64, 2), NULL, "What is this?");
    wait_done(&client);
    close_client(&client, false);
    pretend_to_be_fast();
    open_client(&client);
    ask_about(&client, make_picture(GRID, GRID, 1), IN_NO_TIME, "What is this?");
    wait_done(&client);
    assert_int_equal(client.n_looked, 1); /* of five views */
    assert_true(flag_of(client.image[0], "shortened"));
    assert_int_equal(number_of(client.image[0], "cols"), 1);
    assert_int_equal(number_of(client.image[0], "views"), 1);
    assert_int_equal(number_of(client.image[0], "tokens"), n_tokens);
    assert_int_equal(usage_of(client.last, "image_tokens"), n_tokens);
    assert_string_equal(client.text, expected);

    ask(&client, "Are you sure?"); /* it stays as it was seen */
    wait_done(&client);
    assert_int_equal(client.n_looked, 0);
    assert_int_equal(usage_of(client.last, "image_tokens"), n_tokens);
    close_client(&client, false);
}

/* With its tiles the new picture leaves no room for the first one. */
static void test_the_thumbnail_leaves_room_for_an_earlier_picture(void **state)
{
    const struct session_options narrow = {.n_context = 1600, .keep_alive_sec = INT64_MIN};
    struct client client;
    char expected[ANSWER_MAX], answer[ANSWER_MAX];

    (void)state;
    stop_engine();
    config.image_cache_bytes = config.prefix_cache_bytes = 1 << 12; /* the first is seen again */
    start_engine();
    open_with(&client, &narrow);
    answer_about(&client, make_picture(GRID, GRID, 1), answer);
    answer_about(&client, make_picture(GRID, GRID, 2), expected);
    assert_int_equal(number_of(client.last, "dropped_turns"), 0);
    close_client(&client, false);
    start_afresh();

    open_with(&client, &narrow);
    answer_about(&client, make_picture(GRID, GRID, 1), answer);
    pretend_to_be_fast();
    ask_about(&client, make_picture(GRID, GRID, 2), IN_NO_TIME, "What is this?");
    wait_done(&client);
    assert_true(flag_of(client.image[0], "shortened"));
    assert_int_equal(client.n_looked, 2);
    assert_int_equal(number_of(client.last, "dropped_turns"), 0);
    assert_string_equal(client.text, expected);
    close_client(&client, false);
}

/* --- once is enough -------------------------------------------------------------------------- */

static void test_a_later_question_neither_encodes_nor_reads_the_picture(void **state)
{
    struct client client;
    int64_t n_tokens;

    (void)state;
    open_client(&client);
    ask_about(&client, open_data("vision/wide.png"), NULL, "What is this?");
    wait_done(&client);
    n_tokens = usage_of(client.last, "image_tokens");
    assert_true(n_tokens > 0);
    ask(&client, "Are you sure?");
    wait_done(&client);
    assert_int_equal(client.n_looked, 0);
    assert_int_equal(client.n_images, 0);
    assert_int_equal(usage_of(client.last, "image_tokens"), n_tokens);
    assert_true(usage_of(client.last, "cached_tokens") > n_tokens);
    close_client(&client, false);
}

static void test_another_session_shares_what_was_encoded(void **state)
{
    struct client first, second, third;
    int64_t n_tokens;

    (void)state;
    open_client(&first);
    ask_about(&first, open_data("vision/tall.png"), NULL, "What is this?");
    wait_done(&first);
    n_tokens = usage_of(first.last, "image_tokens");
    assert_false(flag_of(first.image[0], "cached"));

    open_client(&second); /* the same beginning: the state after the picture is there */
    ask_about(&second, open_data("vision/tall.png"), NULL, "How tall is it?");
    wait_done(&second);
    assert_true(flag_of(second.image[0], "cached"));
    assert_int_equal(second.n_looked, 0);
    assert_true(usage_of(second.last, "cached_tokens") > n_tokens);

    open_with(&third, &(struct session_options){.system = "Be short.",
                                                .keep_alive_sec = INT64_MIN});
    ask_about(&third, open_data("vision/tall.png"), NULL, "What is this?");
    wait_done(&third); /* another beginning: it is read again, but not encoded */
    assert_true(flag_of(third.image[0], "cached"));
    assert_int_equal(third.n_looked, 0);
    assert_true(usage_of(third.last, "cached_tokens") < n_tokens);
    close_client(&first, false);
    close_client(&second, false);
    close_client(&third, false);
}

static void test_two_sessions_ask_about_a_picture_at_the_same_time(void **state)
{
    struct client clients[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        open_client(&clients[i]);
        ask_about(&clients[i], make_picture(GRID, GRID, 7), TILES, "What is this?");
    }
    for (int i = 0; i < 2; i++)
        wait_done(&clients[i]);
    clients[0].text[clients[0].n_text] = clients[1].text[clients[1].n_text] = '\0';
    assert_string_equal(clients[0].text, clients[1].text);
    for (int i = 0; i < 2; i++)
        close_client(&clients[i], false);
}

static void test_a_picture_that_another_turn_finishes_is_not_taken_for_the_next(void **state)
{
    const int first = make_picture(GRID, GRID, 1), second = make_picture(GRID, 512, 2);
    const struct ask_part parts[] = {
        {.type = ASK_IMAGE, .fd = first, .image = TILES},
        {.type = ASK_IMAGE, .fd = second, .image = TILES},
    };
    struct client clients[3];
    char expected[ANSWER_MAX];

    (void)state;
    for (int n = 1; n <= (int)ARRAY_LEN(clients); n++) {
        for (int i = 0; i < n; i++) { /* view by view, in turn */
            open_client(&clients[i]);
            ask_parts(&clients[i], parts, i == 0 ? 2 : 1);
            session_hold(clients[i].session, 1, true);
        }
        query(make_picture(32, 32, 1), NULL); /* it is decoded last */
        for (int i = 0; i < n; i++)
            session_hold(clients[i].session, 1, false);
        for (int i = 0; i < n; i++)
            wait_done(&clients[i]);
        if (n == 1)
            snprintf(expected, sizeof(expected), "%.*s", ANSWER_MAX - 1, clients[0].text);
        assert_string_equal(clients[0].text, expected);
        for (int i = 0; i < n; i++)
            close_client(&clients[i], false);
        start_afresh();
    }
    close(first);
    close(second);
}

/* --- others go on ---------------------------------------------------------------------------- */

static void test_a_conversation_goes_on_while_a_picture_is_encoded(void **state)
{
    struct client talks, looks;
    const struct ask_options endless = {
        .format = "{\"type\": \"string\", \"minLength\": 50000}"};
    const struct ask_part part = {.type = ASK_TEXT, .text = "hello"};
    uint32_t turn;

    (void)state;
    open_client(&talks);
    talks.holds = true;
    assert_int_equal(session_ask(talks.session, &part, 1, &endless, &turn, NULL), 0);
    WAIT_FOR(talks.n_events[TURN_TEXT]);
    open_client(&looks);
    looks.other = &talks;
    ask_about(&looks, make_picture(GRID, GRID, 3), TILES, "What is this?");
    wait_done(&looks);
    assert_true(looks.n_looked > 2);
    assert_true(talks.n_events[TURN_TEXT] > looks.n_other);
    close_client(&talks, false);
    close_client(&looks, false);
}

static void test_a_conversation_goes_on_while_a_picture_is_decoded(void **state)
{
    struct client talks, waits;

    (void)state;
    open_client(&waits);
    ask_about(&waits, make_picture(64, 64, 1), NULL, "What is this?");
    open_client(&talks);
    ask(&talks, "hello");
    wait_done(&talks);
    assert_false(waits.ended);
    close_client(&talks, false);
    close_client(&waits, false); /* which ends the decoder */
}

static void test_cancel_ends_a_decoder(void **state)
{
    struct client client;

    (void)state;
    open_client(&client);
    ask_about(&client, make_picture(64, 64, 1), NULL, "What is this?");
    assert_int_equal(session_cancel(client.session, 1, NULL), 0);
    wait_done(&client);
    assert_string_equal(reason_of(&client), "cancelled");
    ask(&client, "hello");
    wait_done(&client);
    close_client(&client, false);
}

static void test_cancel_between_views_and_ask_again(void **state)
{
    struct client client;
    _cleanup_(json_putp) struct json_object *history = NULL;

    (void)state;
    open_client(&client);
    ask_about(&client, make_picture(GRID, GRID, 4), TILES, "What is this?");
    client.cancel_at = 1;
    wait_done(&client);
    assert_string_equal(reason_of(&client), "cancelled");
    assert_int_equal(client.n_events[TURN_TEXT], 0);
    history = history_of(client.session);
    assert_int_equal(json_object_array_length(history), 0);
    ask_about(&client, make_picture(GRID, GRID, 4), TILES, "What is this?");
    wait_done(&client);
    assert_string_equal(reason_of(&client), "length");
    close_client(&client, false);
}

/* --- what cannot be seen --------------------------------------------------------------------- */

static void test_a_hostile_picture_costs_a_turn(void **state)
{
    static const char lies[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff";
    struct client client;
    int pipes[2];

    (void)state;
    open_client(&client);
    ask_about(&client, memfd_of("This is no picture.", 19), NULL, "What is this?");
    wait_error(&client, "UnsupportedFormat", "picture 1");
    ask_about(&client, memfd_of(lies, sizeof(lies)), NULL, "What is this?");
    WAIT_FOR(client.ended);
    assert_int_equal(client.n_events[TURN_ERROR], 1);
    ask_about(&client, memfd_of("", 0), NULL, "What is this?");
    WAIT_FOR(client.ended);
    assert_int_equal(client.n_events[TURN_ERROR], 1);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    ask_about(&client, pipes[0], NULL, "What is this?");
    wait_error(&client, "InvalidArgument", "picture 1");
    close(pipes[1]);
    ask_about(&client, open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), NULL, "What is this?");
    wait_error(&client, "InvalidArgument", "picture 1");
    ask_about(&client, make_picture(1, 201, 1), NULL, "What is this?");
    wait_error(&client, "InvalidArgument", "200");

    ask_about(&client, make_picture(64, 64, 1), NULL, "What is this?");
    wait_done(&client);
    assert_int_equal(client.n_images, 1);
    close_client(&client, false);
}

static void test_the_second_picture_is_named_when_it_is_broken(void **state)
{
    const int good = make_picture(64, 64, 1), bad = memfd_of("GIF89a", 6);
    const struct ask_part parts[] = {{.type = ASK_IMAGE, .fd = good},
                                     {.type = ASK_IMAGE, .fd = bad}};
    struct client client;

    (void)state;
    open_client(&client);
    ask_parts(&client, parts, ARRAY_LEN(parts));
    WAIT_FOR(client.ended);
    assert_non_null(strstr(json_member_text(client.last, "message"), "Picture 2"));
    close(good);
    close(bad);
    close_client(&client, false);
}

static void test_limits_are_named_with_their_figures(void **state)
{
    struct client client;

    (void)state;
    stop_engine();
    config.image_pixels_max = 10000;
    config.image_bytes_max = 50000;
    start_engine();
    open_client(&client);
    ask_about(&client, make_picture(110, 110, 1), NULL, "What is this?");
    wait_error(&client, "InvalidArgument", "10000");
    ask_about(&client, make_picture(200, 200, 1), NULL, "What is this?");
    wait_error(&client, "InvalidArgument", "50000");
    ask_about(&client, make_picture(100, 100, 1), NULL, "What is this?");
    wait_done(&client);
    close_client(&client, false);
}

static void test_more_pictures_than_allowed_are_refused(void **state)
{
    static struct ask_part parts[SESSION_IMAGES_MAX + 1];
    const int fd = make_picture(32, 32, 1);
    struct error err = ERROR_INIT;
    struct client client;
    uint32_t turn;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        parts[i] = (struct ask_part){.type = ASK_IMAGE, .fd = fd,
                                     .image = "{\"min_image_tokens\": 1}"};
    open_client(&client);
    assert_true(session_ask(client.session, parts, ARRAY_LEN(parts), NULL, &turn, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);

    ask_parts(&client, parts, SESSION_IMAGES_MAX);
    wait_done(&client);
    ask_parts(&client, parts, 1); /* they are of the conversation, not of one question */
    wait_error(&client, "InvalidArgument", "pictures");
    close(fd);
    close_client(&client, false);
}

/* A picture in a file of so many bytes, most of them behind its end. */
static int make_padded_picture(size_t n_bytes)
{
    const int fd = make_picture(32, 32, 1);

    assert_int_equal(ftruncate(fd, (off_t)n_bytes), 0);
    return fd;
}

static void test_more_bytes_of_pictures_than_allowed_are_refused(void **state)
{
    const size_t half = SESSION_IMAGE_BYTES_MAX / 2;
    struct client client;

    (void)state;
    stop_engine();
    config.image_bytes_max = SESSION_IMAGE_BYTES_MAX;
    start_engine();
    open_client(&client);
    ask_about(&client, make_padded_picture(half), NULL, "What is this?");
    wait_done(&client);
    ask_about(&client, make_padded_picture(half + 1), NULL, "And this?");
    wait_error(&client, "InvalidArgument", "268435457 bytes in all; at most 268435456");
    ask_about(&client, make_padded_picture(half), NULL, "And this?"); /* exactly as many */
    wait_done(&client);
    assert_int_equal(client.n_images, 1);
    close_client(&client, false);
}

static void test_a_model_without_eyes_says_so(void **state)
{
    const struct ask_part part = {.type = ASK_IMAGE, .fd = make_picture(64, 64, 1)};
    struct error err = ERROR_INIT;
    struct client client;
    uint32_t turn;

    (void)state;
    open_with(&client, &(struct session_options){.model = BLIND, .keep_alive_sec = INT64_MIN});
    assert_true(session_ask(client.session, &part, 1, NULL, &turn, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "cannot see"));
    assert_non_null(strstr(err.text, SEES));
    ask(&client, "hello");
    wait_done(&client);
    close(part.fd);
    close_client(&client, false);
}

static void test_a_missing_decoder_is_an_error(void **state)
{
    struct client client;

    (void)state;
    stop_engine();
    config.decoder_program = "/nonexistent/lfmd-image";
    start_engine();
    open_client(&client);
    ask_about(&client, make_picture(64, 64, 1), NULL, "What is this?");
    wait_error(&client, "Internal", "/nonexistent/lfmd-image");
    ask(&client, "hello");
    wait_done(&client);
    close_client(&client, false);
}

static void test_a_picture_that_does_not_fit_is_refused_before_it_is_encoded(void **state)
{
    struct client client;

    (void)state;
    open_with(&client,
              &(struct session_options){.n_context = 512, .keep_alive_sec = INT64_MIN});
    ask_about(&client, make_picture(GRID, GRID, 1), TILES, "What is this?");
    wait_error(&client, "ContextFull", "512");
    assert_int_equal(client.n_looked, 0);
    close_client(&client, false);
}

static void test_old_pictures_go_with_their_turns(void **state)
{
    struct client client;

    (void)state;
    open_with(&client,
              &(struct session_options){.n_context = 512, .keep_alive_sec = INT64_MIN});
    for (unsigned i = 0; i < 8; i++) {
        ask_about(&client, make_picture(200, 200, i), "{\"min_image_tokens\": 64}",
                  "What is this?");
        wait_done(&client);
        assert_int_equal(client.n_images, 1);
        assert_true(usage_of(client.last, "prompt_tokens") <= 512);
    }
    assert_true(number_of(client.last, "dropped_turns") > 0);
    assert_true(usage_of(client.last, "image_tokens") <= 512);
    close_client(&client, false);
}

/* --- kept sessions --------------------------------------------------------------------------- */

static int kept_pictures(void)
{
    char path[160];
    sqlite3 *database;
    sqlite3_stmt *statement;
    int n;

    snprintf(path, sizeof(path), "%s/sessions.db", state_directory);
    assert_int_equal(sqlite3_open_v2(path, &database, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(database, "SELECT count(*) FROM images", -1, &statement,
                                        NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    n = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return n;
}

static void reopen(struct client *client, const char *id)
{
    *client = (struct client){0};
    client->session = reopen_session(id, &sink, client);
}

static void test_a_kept_session_still_has_its_picture(void **state)
{
    const struct session_options kept = {.keep = true, .keep_alive_sec = INT64_MIN};
    struct client client;
    char id[64], answer[256], again[256];
    int64_t n_tokens;

    (void)state;
    open_with(&client, &kept);
    snprintf(id, sizeof(id), "%s", session_id(client.session));
    ask_about(&client, open_data("vision/single.png"), NULL, "What is this?");
    wait_done(&client);
    n_tokens = usage_of(client.last, "image_tokens");
    ask(&client, "Are you sure?");
    wait_done(&client);
    snprintf(answer, sizeof(answer), "%.*s", (int)client.n_text, client.text);
    close_client(&client, false);
    assert_int_equal(kept_pictures(), 1);
    stop_engine();

    start_engine();
    reopen(&client, id);
    ask(&client, "Are you sure?");
    wait_done(&client);
    assert_int_equal(client.n_images, 0);
    assert_true(client.n_looked >= 1); /* it had to be encoded once more */
    assert_int_equal(usage_of(client.last, "image_tokens"), n_tokens);
    ask_about(&client, make_picture(50, 50, 1), NULL, "And this?");
    wait_done(&client);
    assert_int_equal(number_of(client.image[0], "image"), 1);
    assert_true(usage_of(client.last, "image_tokens") > n_tokens);
    close_client(&client, false);

    /* What the model is shown is the same: so is its answer to the same words. */
    open_with(&client, &kept);
    ask_about(&client, open_data("vision/single.png"), NULL, "What is this?");
    wait_done(&client);
    ask(&client, "Are you sure?");
    wait_done(&client);
    snprintf(again, sizeof(again), "%.*s", (int)client.n_text, client.text);
    assert_string_equal(again, answer);
    assert_int_equal(session_forget(engine, id, NULL), 0);
    assert_int_equal(kept_pictures(), 1); /* of the other session */
    close_client(&client, true);
    assert_int_equal(kept_pictures(), 0);
}

static void test_a_decoder_that_was_killed_once_does_not_end_a_conversation(void **state)
{
    const struct session_options kept = {.keep = true, .keep_alive_sec = INT64_MIN};
    char decoder[96], script[8192], killer[96], id[64];
    struct client client;

    (void)state;
    snprintf(killer, sizeof(killer), "%s/killer", directory);
    snprintf(script, sizeof(script), "[ -e %s ] && kill -KILL $$\nexec %s \"$@\"", killer,
             image_decoder_path());
    write_decoder(decoder, "mortal", script);
    stop_engine();
    config.decoder_program = decoder;
    start_engine();
    open_with(&client, &kept);
    snprintf(id, sizeof(id), "%s", session_id(client.session));
    ask_about(&client, make_picture(64, 64, 1), NULL, "What is this?");
    wait_done(&client);
    close_client(&client, false);
    start_afresh();

    reopen(&client, id);
    close(open(killer, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    ask_about(&client, make_picture(64, 64, 2), NULL, "And this?");
    wait_error(&client, "Internal", "picture 1: the picture decoder was ended by signal 9");
    ask(&client, "Are you sure?");
    wait_error(&client, "Internal", "picture 1 of the conversation: the picture decoder was ended");
    unlink(killer);
    ask_about(&client, make_picture(64, 64, 2), NULL, "And this?");
    wait_done(&client);
    close_client(&client, false);
}

/* --- without a conversation ------------------------------------------------------------------ */

static void test_a_query_says_what_a_picture_would_take(void **state)
{
    struct answer answer = query(make_picture(GRID, GRID, 1), TILES);
    struct error err = ERROR_INIT;
    struct client client;
    int fd;

    (void)state;
    assert_int_equal(answer.error.code, ERROR_NONE);
    assert_int_equal(answer.result.plan.width, GRID);
    assert_int_equal(answer.result.plan.cols * answer.result.plan.rows, 4);
    assert_int_equal(answer.result.plan.n_image_tokens, 5 * 256);
    assert_true(answer.result.predicted_usec < 0); /* nothing is loaded */

    open_client(&client);
    ask_about(&client, make_picture(64, 64, 1), NULL, "What is this?");
    wait_done(&client);
    close_client(&client, false);
    answer = query(make_picture(GRID, GRID, 1), "{\"detail\": \"low\"}");
    assert_int_equal(answer.result.plan.n_views, 1);
    assert_int_equal(answer.result.detail, IMAGE_LOW);
    assert_true(answer.result.predicted_usec > 0);

    answer = query(memfd_of("nothing", 7), NULL);
    assert_int_equal(answer.error.code, ERROR_UNSUPPORTED_FORMAT);
    fd = make_picture(64, 64, 1);
    assert_null(image_query_new(engine, BLIND, fd, NULL, take_answer, &answer, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    err = (struct error)ERROR_INIT;
    assert_null(image_query_new(engine, NULL, fd, "{\"detail\": 1}", take_answer, &answer, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    close(fd);
}

static void test_a_cancelled_query_does_not_call_back(void **state)
{
    const int fd = make_picture(64, 64, 1);
    struct answer answer = {0};

    (void)state;
    image_query_cancel(image_query_new(engine, NULL, fd, NULL, take_answer, &answer, NULL));
    close(fd);
    WAIT_FOR(engine_idle(engine));
    assert_false(answer.came);
}

struct reader {
    struct describe *describe;
    unsigned n_lines, n_looked, free_at;
    bool ended;
    struct json_object *last;
};

static void take_line(void *userdata, const char *line, size_t length, bool last)
{
    struct reader *reader = userdata;
    struct json_object *value = json_tokener_parse(line);

    assert_non_null(value);
    assert_int_equal(strlen(line), length);
    assert_false(reader->ended);
    reader->n_looked += strcmp(json_member_text(value, "event"), "progress") == 0 &&
                        strcmp(json_member_text(value, "stage"), "image") == 0;
    reader->ended = last;
    if (last)
        reader->last = json_object_get(value);
    json_object_put(value);
    if (++reader->n_lines == reader->free_at)
        reader->describe = describe_free(reader->describe);
}

static const struct describe_sink describe_sink = {.line = take_line};

static void begin_to_describe(struct reader *reader, int fd)
{
    struct error err = ERROR_INIT;

    reader->describe =
        describe_new(engine, fd, &(struct describe_options){0}, &describe_sink, reader, &err);
    if (!reader->describe)
        fail_msg("%s", err.text);
    close(fd);
}

static void read_description(struct reader *reader, int fd)
{
    *reader = (struct reader){0};
    begin_to_describe(reader, fd);
    WAIT_FOR(reader->ended);
    reader->describe = describe_free(reader->describe);
}

static void test_a_description_is_made_once(void **state)
{
    struct reader first, again, other;
    char decoder[96], script[8192], diary[96];
    struct stat status;

    (void)state;
    snprintf(diary, sizeof(diary), "%s/diary", directory);
    snprintf(script, sizeof(script), "printf x >>%s\nexec %s \"$@\"", diary, image_decoder_path());
    write_decoder(decoder, "diarist", script);
    stop_engine();
    config.decoder_program = decoder;
    start_engine();
    read_description(&first, open_data("vision/single.png"));
    assert_string_equal(json_member_text(first.last, "event"), "description");
    assert_string_equal(json_member_text(first.last, "model"), SEES);
    assert_non_null(json_member_text(first.last, "short"));
    assert_true(json_member_text(first.last, "long")[0] != '\0');
    assert_non_null(json_member_text(first.last, "text"));
    assert_false(flag_of(first.last, "cached"));
    assert_true(first.n_looked >= 1);
    assert_int_equal(stat(diary, &status), 0);
    assert_int_equal(status.st_size, 1); /* decoded once for all questions */

    read_description(&again, open_data("vision/single.png"));
    assert_true(flag_of(again.last, "cached"));
    assert_string_equal(json_member_text(again.last, "long"), json_member_text(first.last, "long"));
    assert_int_equal(again.n_lines, 1);

    read_description(&other, open_data("vision/wide.png"));
    assert_false(flag_of(other.last, "cached"));
    json_object_put(first.last);
    json_object_put(again.last);
    json_object_put(other.last);
}

static void test_a_description_of_no_picture_is_an_error(void **state)
{
    struct reader reader;

    (void)state;
    read_description(&reader, memfd_of("nothing", 7));
    assert_string_equal(json_member_text(reader.last, "event"), "error");
    assert_string_equal(json_member_text(reader.last, "name"), "UnsupportedFormat");
    json_object_put(reader.last);
}

static void test_descriptions_can_be_given_up_at_any_time(void **state)
{
    struct reader readers[4] = {{.free_at = 1}, {.free_at = 2}, {.free_at = 3}, {0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        begin_to_describe(&readers[i], make_picture(600, 600, 30 + (unsigned)i));
    readers[3].describe = describe_free(readers[3].describe);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        WAIT_FOR(!readers[i].describe);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        assert_int_equal(readers[i].n_lines, readers[i].free_at);
}

/* --- for a long time ------------------------------------------------------------------------- */

static size_t resident_bytes(void)
{
    unsigned long total, resident;
    FILE *file = fopen("/proc/self/statm", "re");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &total, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static unsigned open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void look_at(unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        struct client client;

        open_client(&client);
        ask_about(&client, make_picture(40 + i % 64, 40 + i % 50, i),
                  "{\"min_image_tokens\": 1}", "What is this?");
        wait_done(&client);
        assert_int_equal(client.n_images, 1);
        close_client(&client, false);
    }
}

static void test_many_pictures_leave_nothing_behind(void **state)
{
    unsigned descriptors;
    size_t resident;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const unsigned n = 250;
    const size_t growth = 256 << 20; /* freed memory is kept for a while */
#else
    const unsigned n = 1000;
    const size_t growth = 4 << 20; /* of 950 pictures, each with over 10 KB of pixels and rows */
#endif

    (void)state;
    stop_engine();
    config.image_cache_bytes = 1 << 12;
    config.prefix_cache_bytes = 1 << 16;
    start_engine();
    look_at(0, 50);
    descriptors = open_descriptors();
    resident = resident_bytes();
    look_at(50, n);
    /* two: those of a session that is closing */
    assert_in_range(open_descriptors(), 1, descriptors + 2);
    assert_in_range(resident_bytes(), 1, resident + growth);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_question_about_a_picture_is_answered),
        TEST(test_a_session_says_what_the_reference_says),
        TEST(test_a_large_picture_is_cut_into_tiles),
        TEST(test_pictures_stand_among_the_text_in_their_order),
        TEST(test_settings_of_the_session_and_of_the_picture),
        TEST(test_too_little_time_means_less_detail),
        TEST(test_the_thumbnail_alone_is_shown_when_its_tiles_take_too_long),
        TEST(test_the_thumbnail_leaves_room_for_an_earlier_picture),
        TEST(test_a_later_question_neither_encodes_nor_reads_the_picture),
        TEST(test_another_session_shares_what_was_encoded),
        TEST(test_two_sessions_ask_about_a_picture_at_the_same_time),
        TEST(test_a_picture_that_another_turn_finishes_is_not_taken_for_the_next),
        TEST(test_a_conversation_goes_on_while_a_picture_is_encoded),
        cmocka_unit_test_setup_teardown(test_a_conversation_goes_on_while_a_picture_is_decoded,
                                        setup_hanging, teardown),
        cmocka_unit_test_setup_teardown(test_cancel_ends_a_decoder, setup_hanging, teardown),
        TEST(test_cancel_between_views_and_ask_again),
        TEST(test_a_hostile_picture_costs_a_turn),
        TEST(test_the_second_picture_is_named_when_it_is_broken),
        TEST(test_limits_are_named_with_their_figures),
        TEST(test_more_pictures_than_allowed_are_refused),
        TEST(test_more_bytes_of_pictures_than_allowed_are_refused),
        TEST(test_a_model_without_eyes_says_so),
        TEST(test_a_missing_decoder_is_an_error),
        TEST(test_a_picture_that_does_not_fit_is_refused_before_it_is_encoded),
        TEST(test_old_pictures_go_with_their_turns),
        TEST(test_a_kept_session_still_has_its_picture),
        TEST(test_a_decoder_that_was_killed_once_does_not_end_a_conversation),
        TEST(test_a_query_says_what_a_picture_would_take),
        TEST(test_a_cancelled_query_does_not_call_back),
        TEST(test_a_description_is_made_once),
        TEST(test_a_description_of_no_picture_is_an_error),
        TEST(test_descriptions_can_be_given_up_at_any_time),
        TEST(test_many_pictures_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
