/* SPDX-License-Identifier: MIT */

/*
 * Proves the order of tokens and frames in a reply: scripted heads, what must come of them. The
 * scripts of the reference are run too where they are present.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "audio/modes.h"
#include "tests/fixture.h"
#include "tests/golden.h"

#define STEPS_MAX 1024
#define END       2048

static const struct modes_tokens tokens = {.audio_start = 128, .text_end = 130, .end = 7};

struct event {
    bool text;
    int32_t codes[CODEBOOKS]; /* text: the id first */
};

/* What the heads say one after the other, and which head is asked, until the mode stops. */
static size_t play(enum modes_kind kind, size_t n_max, const struct event *heads, size_t n_heads,
                   struct event *out)
{
    struct modes modes;
    size_t n = 0, asked = 0;

    modes_begin(&modes, kind, &tokens, END, n_max);
    while (modes.next != MODES_STOP) {
        struct event event;

        assert_true(asked < n_heads);
        event = heads[asked++];
        assert_int_equal(event.text, modes.next == MODES_TEXT);
        if (!event.text)
            modes_frame(&modes, event.codes);
        if (!event.text || modes_text(&modes, (uint32_t)event.codes[0]))
            out[n++] = event;
    }
    assert_int_equal(asked, n_heads);
    assert_int_equal(modes.complete, n_heads > 0 && heads[n_heads - 1].text &&
                                         heads[n_heads - 1].codes[0] == (int32_t)tokens.end);
    return n;
}

/* "t" a token, "a" a frame, "S" <|audio_start|>, "T" <|text_end|>, "E" <|im_end|>, "F" the end
 * frame. */
static size_t parse(const char *script, struct event *events)
{
    size_t n = 0;

    for (; script[n]; n++) {
        const char c = script[n];

        events[n] = (struct event){.text = strchr("tSTE", c) != NULL};
        for (int i = 0; i < CODEBOOKS; i++)
            events[n].codes[i] = 300 + (int32_t)n + i;
        if (c == 'S')
            events[n].codes[0] = 128;
        else if (c == 'T')
            events[n].codes[0] = 130;
        else if (c == 'E')
            events[n].codes[0] = 7;
        else if (c == 'F')
            events[n].codes[0] = END;
    }
    return n;
}

static void check(enum modes_kind kind, size_t n_max, const char *script, size_t n_left_out)
{
    struct event heads[STEPS_MAX], out[STEPS_MAX];
    const size_t n = parse(script, heads), n_out = play(kind, n_max, heads, n, out);

    assert_int_equal(n_out, n - n_left_out);
    for (size_t i = 0; i < n_out; i++) {
        assert_int_equal(out[i].text, heads[i].text);
        if (script[i] == 'F')
            for (int book = 0; book < CODEBOOKS; book++)
                assert_int_equal(out[i].codes[book], END);
        else
            assert_memory_equal(out[i].codes, heads[i].codes, sizeof(out[i].codes));
    }
}

static void test_sequential(void **state)
{
    (void)state;
    check(MODES_SEQUENTIAL, 100, "ttttttttttttttE", 0);
    check(MODES_SEQUENTIAL, 100, "SaaaaaaaaaaaaaaaaaaaaFE", 0);
    check(MODES_SEQUENTIAL, 100, "tSaaFttSFtE", 0);
    check(MODES_SEQUENTIAL, 100, "TtE", 0); /* the other mode's token means nothing */
    check(MODES_SEQUENTIAL, 4, "ttSa", 0);
    check(MODES_SEQUENTIAL, 0, "", 0);
}

static void test_interleaved(void **state)
{
    (void)state;
    check(MODES_INTERLEAVED, 100, "ttttttaaaaaaaaaaaattttttaaaaaaaaaaaatE", 1);
    check(MODES_INTERLEAVED, 100, "ttTaaaaaaaaaaaaaaaaaaFE", 1);
    check(MODES_INTERLEAVED, 100, "tttttTaFE", 1);
    check(MODES_INTERLEAVED, 100, "SttE", 1);
    /* an end frame in mid-run leaves the rest of the run to the text */
    check(MODES_INTERLEAVED, 100, "ttttttaaaaaaaFttttaaaaaaaaaaaaE", 1);
    /* the last frame of a run is the end frame */
    check(MODES_INTERLEAVED, 100, "ttttttaaaaaaaaaaaFttttttaaaaaaaaaaaaE", 1);
    check(MODES_INTERLEAVED, 8, "ttttttaa", 0);
    check(MODES_INTERLEAVED, 6, "tttttt", 0);
}

static void read_event(struct json_object *value, bool text, struct event *event)
{
    *event = (struct event){.text = text};
    if (json_object_get_type(value) == json_type_int) {
        event->codes[0] = json_object_get_int(value);
        return;
    }
    for (size_t i = 0; i < json_object_array_length(value); i++)
        event->codes[i] = json_object_get_int(json_object_array_get_idx(value, i));
}

static void test_reference(void **state)
{
    const char *path = fixture_path("audio/gen/traces.json");
    struct json_object *json, *cases;

    (void)state;
    if (!path)
        skip();
    json = golden_json(path);
    cases = golden_get(json, "cases");
    assert_true(json_object_array_length(cases) > 0);
    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        struct json_object *one = json_object_array_get_idx(cases, i);
        struct json_object *calls = golden_get(one, "sampler_calls");
        struct json_object *yielded = golden_get(one, "yielded");
        const size_t n = json_object_array_length(calls);
        struct event heads[STEPS_MAX], out[STEPS_MAX], expected;
        size_t n_out;

        assert_true(n <= STEPS_MAX);
        for (size_t k = 0; k < n; k++) {
            struct json_object *call = json_object_array_get_idx(calls, k);
            const char *head = json_object_get_string(json_object_array_get_idx(call, 0));

            read_event(json_object_array_get_idx(call, 1), strcmp(head, "sample_text") == 0,
                       &heads[k]);
        }
        n_out = play(strcmp(golden_str(one, "mode"), "sequential") == 0 ? MODES_SEQUENTIAL
                                                                        : MODES_INTERLEAVED,
                     (size_t)json_object_get_int(golden_get(one, "max_new_tokens")), heads, n, out);
        assert_int_equal(n_out, json_object_array_length(yielded));
        for (size_t k = 0; k < n_out; k++) {
            struct json_object *value = json_object_array_get_idx(yielded, k);

            read_event(value, json_object_array_length(value) == 1, &expected);
            assert_int_equal(out[k].text, expected.text);
            assert_memory_equal(out[k].codes, expected.codes, sizeof(expected.codes));
        }
    }
    json_object_put(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequential),
        cmocka_unit_test(test_interleaved),
        cmocka_unit_test(test_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
