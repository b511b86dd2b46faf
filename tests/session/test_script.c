/* SPDX-License-Identifier: MIT */
/* Proves what is made of a text before it is spoken: pieces that a model can take, silences and
 * marks in their order, numbers and signs in words, and that nothing a screen reader sends is
 * lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/script.h"
#include "session/spoken.h"

static const struct script_style plain = {1, 1, 1};

/* "text|<mark>|[250]" */
static void describe(const struct script *script, char *out, size_t size)
{
    size_t used = 0;

    *out = '\0';
    for (size_t i = 0; i < script->n && used < size; i++) {
        const struct script_item *item = &script->items[i];
        const char *before = i > 0 ? "|" : "";

        if (item->kind == SCRIPT_SILENCE)
            used += (size_t)snprintf(out + used, size - used, "%s[%u]", before, item->msec);
        else
            used += (size_t)snprintf(out + used, size - used,
                                     item->kind == SCRIPT_MARK ? "%s<%.*s>" : "%s%.*s", before,
                                     (int)item->length, script->text + item->at);
    }
}

static void check(const char *text, bool ssml, size_t n_words_max, const char *expected)
{
    const struct script_options options = {
        .ssml = ssml, .n_words_max = n_words_max, .style = plain};
    struct script script = {0};
    char found[4096];

    assert_int_equal(script_read(&script, text, strlen(text), &options, NULL), 0);
    describe(&script, found, sizeof(found));
    assert_string_equal(found, expected);
    script_done(&script);
}

static void test_numbers_and_signs_are_said_in_words(void **state)
{
    static const char *const table[][2] = {
        {"7", "seven"},
        {"21 files", "twenty one files"},
        {"105", "one hundred and five"},
        {"1,234", "one thousand two hundred and thirty four"},
        {"1000000", "one million"},
        {"0", "zero"},
        {"007", "zero zero seven"},
        {"123456789012", "one two three four five six seven eight nine zero one two"},
        {"3.50", "three point five zero"},
        {"10:30", "ten thirty"},
        {"9:05 pm", "nine oh five pea em"},
        {"8:00", "eight o'clock"},
        {"99:99", "ninety nine ninety nine"},
        {"in 2026", "in twenty twenty six"},
        {"the 1st, 22nd and 12th", "the first twenty second and twelfth"},
        {"50% off", "fifty percent off"},
        {"5-3", "five minus three"},
        {"-4", "minus four"},
        {"well-known", "well known"},
        {"6*7", "six times seven"},
        {"lfmd.conf", "el eff em dee dot conf"},
        {"press Ctrl+C", "press control plus see"},
        {"a PDF", "a pea dee eff"},
        {"don\xe2\x80\x99t", "don't"},
        {"caf\xc3\xa9 \xef\xac\x81ne", "cafe fine"},
        {"F1", "eff one"},
        {"x", "ex"},
        {"12345678901234", "one two three four five six seven eight nine zero one two thirty four"},
        {"\xd0\xb4\xd0\xb0", ""},
        {"...", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        check(table[i][0], false, 16, table[i][1]);
}

static void test_words_are_cut_at_sentences_clauses_and_the_limit(void **state)
{
    (void)state;
    check("One two. Three! Four? Five", false, 16, "one two|three|four|five");
    check("one, two three, four five, six", false, 4, "one two three|four five|six");
    check("one two three four five six seven", false, 3, "one two three|four five six|seven");
    check("a title\n\nthe text", false, 16, "a title|the text");
    check("version 1.5 is out.", false, 16, "version one point five is out");
    check("one hundred and 1234", false, 3,
          "one hundred and|one thousand two hundred and thirty four");
}

static void test_other_models_get_sentences_as_they_stand(void **state)
{
    (void)state;
    check("Dr. X owes 1,234 EUR.", false, 0, "Dr. X owes 1,234 EUR.");
    check("This is a sentence that is long enough to stand. And another.", false, 0,
          "This is a sentence that is long enough to stand.|And another.");
}

static void test_ssml_gives_marks_silences_and_names(void **state)
{
    static const char *const table[][2] = {
        {"<speak>Hello.<mark name=\"__spd_0\"/> There</speak>", "hello|<__spd_0>|there"},
        {"one<break/>two<break time='1.5s'/><break strength=\"weak\"/><break strength=\"none\"/>",
         "one|[200]|two|[1500]|[100]"},
        {"<p><s>one</s><s>two</s></p>three", "one|two|three"},
        {"<say-as interpret-as=\"characters\">aB1,</say-as>", "ay be one comma"},
        {"say <say-as interpret-as='spell-out'>c</say-as> now", "say see now"},
        {"<sub alias=\"doctor\">Dr.</sub> who", "doctor who"},
        {"<audio src=\"x\">not</audio>said<metadata>nor</metadata>", "said"},
        {"fish &amp; chips &lt; 3 &#65;&#x42;", "fish and chips less than three ab"},
        {"<ssml:speak xmlns:ssml=\"u\"><ssml:mark name=\"m\"/>x y</ssml:speak>", "<m>|ex why"},
        {"<!-- no --><?no no?><![CDATA[a <b> c]]>", "a less than be greater than see"},
        {"<mark/><mark name=\"\"/><mark name='a&quot;b'/>", "<a\"b>"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        check(table[i][0], true, 16, table[i][1]);
}

static void test_broken_ssml_is_heard_all_the_same(void **state)
{
    static const char *const table[][2] = {
        {"the rest after a pause</speak>", "the rest after a pause"},
        {"<speak>not closed", "not closed"},
        {"if one < two & three", "if one less than two and three"},
        {"<s>one</p></speak></s>two", "one|two"},
        {"an <unfinished tag", "an less than unfinished tag"},
        {"&unknown; &#0; &#xd800;",
         "and unknown and number zero and number ex dee eight hundred"},
        {"<!-- never closed", ""},
        {"<prosody rate='nonsense' pitch='' volume='+'>x y", "ex why"},
        {"<a/><b", "less than be"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        check(table[i][0], true, 16, table[i][1]);
}

static void test_characters_have_names_for_every_model(void **state)
{
    (void)state;
    check("<say-as interpret-as=\"characters\">b, 7\xc3\xa9\xd0\xb4</say-as>", true, 0,
          "B comma space 7 \xc3\xa9 \xd0\xb4");
    check("<say-as interpret-as=\"characters\">\xc3\xa9\xd0\xb4</say-as>", true, 16, "e unknown");
}

static void style_of(const char *ssml, float rate, float pitch, float volume)
{
    const struct script_options options = {.ssml = true, .n_words_max = 16, .style = {2, 1, 1}};
    struct script script = {0};

    assert_int_equal(script_read(&script, ssml, strlen(ssml), &options, NULL), 0);
    assert_int_equal(script.n, 1);
    assert_float_equal(script.items[0].style.rate, rate, 1e-4);
    assert_float_equal(script.items[0].style.pitch, pitch, 1e-4);
    assert_float_equal(script.items[0].style.volume, volume, 1e-4);
    script_done(&script);
}

static void test_prosody_works_on_what_is_around_it(void **state)
{
    (void)state;
    style_of("word", 2, 1, 1);
    style_of("<prosody rate=\"150%\">word</prosody>", 3, 1, 1);
    style_of("<prosody rate=\"-50%\"><prosody rate='+20%'>word</prosody></prosody>", 1.2f, 1, 1);
    style_of("<prosody rate='slow' pitch='+12st' volume='50'>word</prosody>", 0.75f, 2, 0.5f);
    style_of("<prosody rate='1000' pitch='-99st' volume='+60dB'>word</prosody>", SCRIPT_RATE_MAX,
             SCRIPT_PITCH_MIN, SCRIPT_VOLUME_MAX);
    style_of("<prosody volume='silent'>word</prosody>", 2, 1, 0);
    style_of("<prosody rate='nan' pitch='inf'>word</prosody>", 1, 1, 1);
    style_of("<prosody rate='200%'></prosody>word", 2, 1, 1);
}

/* As much as Speak() takes; counting all that follow at each of them would take a minute. */
static void test_a_text_of_digits_alone_is_read(void **state)
{
    const struct script_options options = {.n_words_max = 16, .style = plain};
    const size_t length = (size_t)256 << 10;
    _cleanup_(freep) char *text = malloc(length);
    struct script script = {0};

    (void)state;
    assert_non_null(text);
    memset(text, '9', length);
    assert_int_equal(script_read(&script, text, length, &options, NULL), 0);
    assert_true(script.n >= length / 16);
    script_done(&script);
}

static void test_what_grows_too_much_is_refused(void **state)
{
    static const char open[] = "<say-as interpret-as='characters'>";
    const struct script_options options = {.ssml = true, .n_words_max = 16, .style = plain};
    const size_t n = (size_t)256 << 10;
    _cleanup_(freep) char *text = malloc(n + 1);
    struct script script = {0};
    struct error err = ERROR_INIT;

    (void)state;
    assert_non_null(text);
    memset(text, '?', n);
    memcpy(text, open, strlen(open));
    text[n] = '\0';
    assert_true(script_read(&script, text, n, &options, &err) < 0);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    script_done(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_and_signs_are_said_in_words),
        cmocka_unit_test(test_words_are_cut_at_sentences_clauses_and_the_limit),
        cmocka_unit_test(test_other_models_get_sentences_as_they_stand),
        cmocka_unit_test(test_ssml_gives_marks_silences_and_names),
        cmocka_unit_test(test_broken_ssml_is_heard_all_the_same),
        cmocka_unit_test(test_characters_have_names_for_every_model),
        cmocka_unit_test(test_prosody_works_on_what_is_around_it),
        cmocka_unit_test(test_a_text_of_digits_alone_is_read),
        cmocka_unit_test(test_what_grows_too_much_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
