/* SPDX-License-Identifier: MIT */
/*
 * Proves that the tools of the desktop run only after they were agreed to, that what is agreed to
 * for good is one definition, that calls are logged and undone, and that arguments are held to
 * schemas; with real files in a folder of its own.
 */
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clients/desktop/desktop.h"
#include "clients/desktop/schema.h"

struct fixture {
    char *folder;
    struct desktop *desktop;
    enum desktop_decision decision;
    unsigned asked;
    char *question, *detail;
    bool later; /* the question is kept */
    struct desktop_question *kept;

    bool done, ok;
    char *text, *sentence, *undo;
    struct json_object *listed;
    unsigned problems;
};

static void on_confirm(struct desktop_question *question, void *userdata)
{
    struct fixture *f = userdata;

    f->asked++;
    g_free(f->question);
    g_free(f->detail);
    f->question = g_strdup(desktop_question_text(question));
    f->detail = g_strdup(desktop_question_detail(question));
    f->kept = question;
    if (!f->later)
        desktop_answer(question, f->decision);
}

static void on_withdrawn(struct desktop_question *question, void *userdata)
{
    struct fixture *f = userdata;

    assert_ptr_equal(question, f->kept);
    f->kept = NULL;
}

static void on_done(const struct desktop_result *result, void *userdata)
{
    struct fixture *f = userdata;

    g_free(f->text);
    g_free(f->sentence);
    g_free(f->undo);
    f->done = true;
    f->ok = result->ok;
    f->text = g_strdup(result->text);
    f->sentence = g_strdup(result->sentence);
    f->undo = g_strdup(result->undo);
}

static void wait_done(struct fixture *f)
{
    while (!f->done)
        g_main_context_iteration(NULL, TRUE);
}

static bool call(struct fixture *f, const char *name, const char *arguments)
{
    struct json_object *object = json_tokener_parse(arguments);

    f->done = false;
    desktop_call(f->desktop, name, object, NULL, on_done, f);
    json_object_put(object);
    assert_false(f->done);
    wait_done(f);
    return f->ok;
}

static bool undo(struct fixture *f, const char *id)
{
    f->done = false;
    desktop_undo(f->desktop, id, on_done, f);
    wait_done(f);
    return f->ok;
}

static void on_listed(struct json_object *tools, const char *const *problems, void *userdata)
{
    struct fixture *f = userdata;

    json_object_put(f->listed);
    f->listed = json_object_get(tools);
    f->problems = g_strv_length((char **)problems);
}

static void list(struct fixture *f, const char *model)
{
    json_object_put(f->listed);
    f->listed = NULL;
    desktop_list(f->desktop, model, on_listed, f);
    while (!f->listed)
        g_main_context_iteration(NULL, TRUE);
}

static void open_desktop(struct fixture *f)
{
    const struct desktop_host host = {.confirm = on_confirm, .withdrawn = on_withdrawn};

    f->desktop = desktop_new("test", &host, f);
}

static int setup(void **state)
{
    struct fixture *f = g_new0(struct fixture, 1);

    f->folder = g_strdup(g_getenv("HOME"));
    f->decision = DESKTOP_ONCE;
    open_desktop(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->desktop = desktop_free(f->desktop);
    json_object_put(f->listed);
    g_free(f->folder);
    g_free(f->question);
    g_free(f->detail);
    g_free(f->text);
    g_free(f->sentence);
    g_free(f->undo);
    g_free(f);
    return 0;
}

static unsigned notes(struct fixture *f)
{
    g_autofree char *path = g_build_filename(f->folder, ".local/share/lfmd/notes", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        n += *name != '.';
    return n;
}

static void test_nothing_is_done_unless_the_user_agrees(void **state)
{
    struct fixture *f = *state;
    const unsigned before = notes(f);

    f->decision = DESKTOP_REFUSE;
    assert_false(call(f, "add_note", "{\"text\": \"buy milk\"}"));
    assert_int_equal(f->asked, 1);
    assert_string_equal(f->question, "Write a note?");
    assert_string_equal(f->detail, "text: buy milk");
    assert_string_equal(f->text, "{\"error\": \"the user said no\"}");
    assert_int_equal(notes(f), before);

    f->decision = DESKTOP_ONCE;
    assert_true(call(f, "add_note", "{\"text\": \"buy milk\"}"));
    assert_string_equal(f->text, "{\"ok\": true}");
    assert_int_equal(notes(f), before + 1);
    assert_true(call(f, "add_note", "{\"text\": \"buy milk\"}"));
    assert_int_equal(f->asked, 3);
    assert_int_equal(notes(f), before + 2);
}

static void test_what_is_allowed_for_good_is_not_asked_again(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    f->decision = DESKTOP_ALWAYS;
    assert_true(call(f, "list_notes", "{}"));
    assert_true(call(f, "list_notes", "{}"));
    assert_int_equal(f->asked, 1);
    desktop_free(f->desktop); /* another program, another day */
    open_desktop(f);
    assert_true(call(f, "list_notes", "{}"));
    assert_int_equal(f->asked, 1);
    assert_int_equal(desktop_revoke(f->desktop, "list_notes", &err), 0);
    f->decision = DESKTOP_REFUSE;
    assert_false(call(f, "list_notes", "{}"));
    assert_int_equal(f->asked, 2);
    assert_int_equal(desktop_allow(f->desktop, "list_notes", &err), 0);
    assert_true(call(f, "list_notes", "{}"));
    assert_int_equal(desktop_revoke(f->desktop, NULL, &err), 0);
    assert_false(call(f, "list_notes", "{}"));
    assert_true(desktop_allow(f->desktop, "no_such", &err) < 0);
    assert_string_equal(err.text, "There is no tool 'no_such'.");
}

static void test_what_changes_nothing_and_tells_no_secret_is_not_asked(void **state)
{
    struct fixture *f = *state;

    assert_true(call(f, "calculate", "{\"expr\": \"0.1+0.2\"}"));
    assert_string_equal(f->text, "{\"result\": 0.3}");
    assert_true(call(f, "get_time", "{}"));
    assert_int_equal(f->asked, 0);
    assert_false(call(f, "calculate", "{\"expr\": \"1/0\"}"));
    assert_non_null(strstr(f->text, "\"error\""));
}

static void test_a_note_is_removed_and_comes_back(void **state)
{
    struct fixture *f = *state;
    const unsigned before = notes(f);
    g_autofree char *added = NULL;

    assert_true(call(f, "add_note", "{\"text\": \"Zürich: call /../ the bank!\"}"));
    added = g_strdup(f->undo);
    assert_non_null(added);
    assert_non_null(strstr(f->sentence, "Zürich call the bank.txt"));
    assert_int_equal(notes(f), before + 1);
    assert_true(undo(f, added));
    assert_int_equal(notes(f), before);
    assert_false(undo(f, added));
    assert_non_null(strstr(f->text, "it is undone already"));
    assert_false(undo(f, "12345678"));
}

static void test_what_was_removed_comes_back(void **state)
{
    struct fixture *f = *state;
    struct json_object *result;
    g_autofree char *arguments = NULL;
    unsigned before;

    assert_true(call(f, "add_note", "{\"text\": \"first\\nsecond line\"}"));
    before = notes(f);
    assert_true(call(f, "list_notes", "{}"));
    result = json_tokener_parse(f->text);
    arguments = g_strdup_printf(
        "{\"name\": %s}", json_object_to_json_string(json_object_array_get_idx(
                              json_object_object_get(result, "result"), 0)));
    json_object_put(result);
    assert_true(call(f, "remove_note", arguments));
    assert_int_equal(notes(f), before - 1);
    assert_false(call(f, "read_note", arguments));
    assert_true(undo(f, NULL)); /* the last that can be */
    assert_int_equal(notes(f), before);
    assert_true(call(f, "read_note", arguments));
}

static void test_a_note_is_only_found_in_its_folder(void **state)
{
    struct fixture *f = *state;

    assert_false(call(f, "read_note", "{\"name\": \"../../../.config/x\"}"));
    assert_false(call(f, "read_note", "{\"name\": \"/etc/passwd\"}"));
    assert_false(call(f, "read_note", "{\"name\": \".removed\"}"));
    assert_false(call(f, "read_note", "{\"name\": \"\"}"));
    assert_false(call(f, "remove_note", "{\"name\": \"..\"}"));
}

static void test_calls_are_logged(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct json_object *log, *last;

    f->decision = DESKTOP_REFUSE;
    assert_false(call(f, "add_note", "{\"text\": \"secret plan\"}"));
    log = desktop_log(f->desktop, 1, &err);
    assert_int_equal(json_object_array_length(log), 1);
    last = json_object_array_get_idx(log, 0);
    assert_string_equal(json_object_get_string(json_object_object_get(last, "decision")),
                        "refused");
    assert_string_equal(json_object_get_string(json_object_object_get(last, "program")), "test");
    assert_string_equal(json_object_to_json_string_ext(json_object_object_get(last, "arguments"),
                                                       JSON_C_TO_STRING_PLAIN),
                        "{\"text\":\"secret plan\"}");
    json_object_put(log);
}

static void test_a_question_is_withdrawn_when_the_call_is_cancelled(void **state)
{
    struct fixture *f = *state;
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    struct json_object *arguments = json_tokener_parse("{\"text\": \"x\"}");

    f->later = true;
    desktop_call(f->desktop, "add_note", arguments, cancellable, on_done, f);
    while (!f->kept)
        g_main_context_iteration(NULL, TRUE);
    g_cancellable_cancel(cancellable);
    wait_done(f);
    assert_null(f->kept);
    assert_string_equal(f->text, "{\"error\": \"cancelled\"}");

    /* A desktop that is freed asks nothing and tells nothing any more. */
    f->done = false;
    desktop_call(f->desktop, "add_note", arguments, NULL, on_done, f);
    while (!f->kept)
        g_main_context_iteration(NULL, TRUE);
    f->desktop = desktop_free(f->desktop);
    assert_null(f->kept);
    assert_false(f->done);
    json_object_put(arguments);
}

/* A tool of the user that prints a word. */
static void write_tool(struct fixture *f, const char *word)
{
    g_autofree char *folder = g_build_filename(f->folder, ".config/lfmd/tools", NULL);
    g_autofree char *path = g_build_filename(folder, "hello.json", NULL);
    g_autofree char *text =
        g_strdup_printf("{\"description\": \"d\", \"command\": [\"echo\", \"%s\"]}", word);

    assert_int_equal(g_mkdir_with_parents(folder, 0700), 0);
    assert_true(g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    list(f, NULL);
}

static void test_what_changes_while_one_is_asked_is_not_allowed_with_it(void **state)
{
    struct fixture *f = *state;
    g_autofree char *path = g_build_filename(f->folder, ".config/lfmd/tools/hello.json", NULL);

    write_tool(f, "one");
    f->later = true;
    desktop_call(f->desktop, "hello", NULL, NULL, on_done, f);
    while (!f->kept)
        g_main_context_iteration(NULL, TRUE);
    write_tool(f, "two");
    desktop_answer(f->kept, DESKTOP_ALWAYS);
    wait_done(f);
    assert_string_equal(f->text, "{\"result\": \"one\"}");
    assert_int_equal(desktop_way(f->desktop, "hello"), DESKTOP_ASKS);
    write_tool(f, "one");
    assert_int_equal(desktop_way(f->desktop, "hello"), DESKTOP_RUNS);
    g_unlink(path);
}

static void test_arguments_are_held_to_the_schema(void **state)
{
    static const struct {
        const char *name, *arguments, *error;
    } table[] = {
        {"no_such_tool", "{}", "there is no such tool"},
        {"add_note", "{}", "text is missing"},
        {"add_note", "{\"text\": 1}", "text must be of type string"},
        {"add_note", "{\"text\": \"a\", \"rm\": true}", "there is no parameter rm"},
        {"add_note", "[]", "the arguments are no object"},
        {"add_note", "{\"text\": \"\"}", "the note is empty"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        assert_false(call(f, table[i].name, table[i].arguments));
        assert_non_null(strstr(f->text, table[i].error));
    }
}

static void test_own_models_get_what_they_were_trained_with(void **state)
{
    struct fixture *f = *state;
    struct json_object *trained = json_object_from_file(LFMD_SOURCE_ROOT "/models/tools.json");
    size_t at = 0;

    assert_non_null(trained);
    list(f, "lfmd-core");
    assert_true(json_object_array_length(f->listed) >= 2);
    /* The same definitions in the same order. */
    for (size_t i = 0; i < json_object_array_length(f->listed); i++) {
        while (at < json_object_array_length(trained) &&
               !json_object_equal(json_object_array_get_idx(trained, at),
                                  json_object_array_get_idx(f->listed, i)))
            at++;
        assert_true(at < json_object_array_length(trained));
    }
    json_object_put(trained);
    list(f, "lfm2.5-1.2b-instruct");
    assert_true(json_object_array_length(f->listed) > 5);
    assert_int_equal(f->problems, 0);
}

static void test_schemas_are_cut_and_checked(void **state)
{
    static const struct {
        const char *schema, *value, *error; /* error NULL: fits */
    } table[] = {
        {"{}", "{}", NULL},
        {"{\"type\": \"object\"}", "{\"a\": 1}", "no parameter a"},
        {"{\"properties\": {\"a\": {\"type\": [\"integer\", \"null\"]}}}", "{\"a\": null}", NULL},
        {"{\"properties\": {\"a\": {\"type\": [\"integer\", \"null\"]}}}", "{\"a\": \"1\"}",
         "a must be of type"},
        {"{\"properties\": {\"a\": {\"enum\": [\"x\", \"y\"]}}}", "{\"a\": \"z\"}",
         "a must be one of"},
        {"{\"properties\": {\"a\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 9}}}",
         "{\"a\": 10}", "a must be at most 9"},
        {"{\"properties\": {\"a\": {\"type\": \"string\", \"maxLength\": 2}}}", "{\"a\": \"äöü\"}",
         "a may have characters: at most 2"},
        {"{\"properties\": {\"a\": {\"type\": \"array\", \"items\": {\"type\": \"string\"}}}}",
         "{\"a\": [\"x\", 1]}", "a must be of type string"},
        {"{\"properties\": {\"a\": {\"$ref\": \"#/$defs/I\"}}, \"$defs\": {\"I\": {\"type\": "
         "\"object\", \"properties\": {\"b\": {\"type\": \"integer\"}}, \"required\": [\"b\"]}}}",
         "{\"a\": {\"b\": \"x\"}}", "a.b must be of type integer"},
        {"{\"properties\": {\"a\": {\"oneOf\": [{\"type\": \"integer\"}, {\"const\": \"no\"}]}}}",
         "{\"a\": \"no\"}", NULL},
        {"{\"properties\": {\"a\": {\"oneOf\": [{\"type\": \"integer\"}, {\"const\": \"no\"}]}}}",
         "{\"a\": \"yes\"}", "a has no value that may be"},
        {"{\"properties\": {\"a-b\": {}, \"c\": {}}}", "{\"a-b\": 1}", "no parameter a-b"},
        /* What refers to itself, and keywords that are not kept. */
        {"{\"properties\": {\"a\": {\"$ref\": \"#/properties/a\"}}}", "{\"a\": 1}", NULL},
        {"{\"properties\": {\"a\": {\"pattern\": \"(a*)*b\", \"type\": \"string\"}}}",
         "{\"a\": \"aaaa\"}", NULL},
        {"{\"properties\": {\"a\": {\"minimum\": 5, \"maximum\": 1}}, \"required\": [\"b\", 3]}",
         "{\"a\": 3}", NULL},
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        struct json_object *whole = json_tokener_parse(table[i].schema);
        struct json_object *schema = schema_plain(whole, NULL);
        struct json_object *value = json_tokener_parse(table[i].value);
        struct error err = ERROR_INIT;
        const int r = schema_check(schema, value, &err);

        assert_non_null(schema);
        if (table[i].error) {
            assert_true(r < 0);
            assert_non_null(strstr(err.text, table[i].error));
        } else {
            assert_int_equal(r, 0);
        }
        json_object_put(whole);
        json_object_put(schema);
        json_object_put(value);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_nothing_is_done_unless_the_user_agrees),
        TEST(test_what_is_allowed_for_good_is_not_asked_again),
        TEST(test_what_changes_nothing_and_tells_no_secret_is_not_asked),
        TEST(test_a_note_is_removed_and_comes_back),
        TEST(test_what_was_removed_comes_back),
        TEST(test_a_note_is_only_found_in_its_folder),
        TEST(test_calls_are_logged),
        TEST(test_a_question_is_withdrawn_when_the_call_is_cancelled),
        TEST(test_what_changes_while_one_is_asked_is_not_allowed_with_it),
        TEST(test_arguments_are_held_to_the_schema),
        TEST(test_own_models_get_what_they_were_trained_with),
        cmocka_unit_test(test_schemas_are_cut_and_checked),
#undef TEST
    };
    g_autofree char *folder = g_dir_make_tmp("lfmd-desktop-XXXXXX", NULL);
    char *remove[] = {"rm", "-rf", folder, NULL};
    int r;

    assert_non_null(folder);
    g_setenv("HOME", folder, TRUE);
    g_unsetenv("XDG_CONFIG_HOME");
    g_unsetenv("XDG_DATA_HOME");
    g_unsetenv("XDG_STATE_HOME");
    r = cmocka_run_group_tests(tests, NULL, NULL);
    g_spawn_sync(NULL, remove, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    return r;
}
