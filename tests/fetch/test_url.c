/* SPDX-License-Identifier: MIT */
/* Which addresses the helper may use, as tables of what is allowed and what is not. */
#include "fetch/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void test_https_goes_anywhere_and_http_only_to_loopback_or_mirror(void **state)
{
    static const struct {
        const char *url, *mirror;
        enum error_code code;
    } table[] = {
        {"https://huggingface.co/LiquidAI/a/resolve/main/b.gguf", NULL, ERROR_NONE},
        {"http://127.0.0.1:8000/b.gguf", NULL, ERROR_NONE},
        {"http://127.9.9.9/b.gguf", NULL, ERROR_NONE},
        {"http://localhost/b.gguf", NULL, ERROR_NONE},
        {"http://LOCALHOST:1/b.gguf", NULL, ERROR_NONE},
        {"http://[::1]:8000/b.gguf", NULL, ERROR_NONE},
        {"http://mirror.lan/x/b.gguf", "http://mirror.lan/x", ERROR_NONE},
        {"http://mirror.lan:81/x/b.gguf", "http://Mirror.LAN/x", ERROR_NONE},
        {"http://huggingface.co/b.gguf", NULL, ERROR_NOT_ALLOWED},
        {"http://mirror.lan.evil.example/b.gguf", "http://mirror.lan/", ERROR_NOT_ALLOWED},
        {"http://mirror.lan/b.gguf", "https://mirror.lan/", ERROR_NOT_ALLOWED},
        {"http://mirror.lan/b.gguf", "not an address", ERROR_NOT_ALLOWED},
        {"http://localhost.evil.example/b.gguf", NULL, ERROR_NOT_ALLOWED},
        {"http://128.0.0.1/b.gguf", NULL, ERROR_NOT_ALLOWED},
        {"http://0.0.0.0/b.gguf", NULL, ERROR_NOT_ALLOWED},
        {"https://user:secret@huggingface.co/b.gguf", NULL, ERROR_NOT_ALLOWED},
        {"http://127.0.0.1@evil.example/b.gguf", NULL, ERROR_NOT_ALLOWED},
        {"ftp://127.0.0.1/b.gguf", NULL, ERROR_NOT_ALLOWED},
        {"file:///etc/passwd", NULL, ERROR_INVALID_ARGUMENT},
        {"huggingface.co/b.gguf", NULL, ERROR_INVALID_ARGUMENT},
        {"", NULL, ERROR_INVALID_ARGUMENT},
        {"https://", NULL, ERROR_INVALID_ARGUMENT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct error err = ERROR_INIT;
        struct url url;

        url_check(table[i].url, table[i].mirror, &url, &err);
        if (err.code != table[i].code)
            fail_msg("%s: %s, %s", table[i].url, error_name(err.code), err.text);
    }
}

static void test_an_address_of_a_million_bytes_is_refused(void **state)
{
    static char text[1000000] = "https://a/";
    struct error err = ERROR_INIT;
    struct url url;

    (void)state;
    memset(text + 10, 'a', sizeof(text) - 11);
    assert_int_equal(url_check(text, NULL, &url, &err), error_errno(ERROR_INVALID_ARGUMENT));
}

static void test_redirects_stay_secure_and_away_from_this_machine(void **state)
{
    static const struct {
        const char *from, *to;
        enum error_code code;
    } table[] = {
        {"https://hub.example/a", "https://cdn.example/a", ERROR_NONE},
        {"http://127.0.0.1:80/a", "http://127.0.0.1:81/b", ERROR_NONE},
        {"http://127.0.0.1/a", "https://cdn.example/a", ERROR_NONE},
        {"https://hub.example/a", "http://hub.example/a", ERROR_NOT_ALLOWED},
        {"https://hub.example/a", "http://127.0.0.1/a", ERROR_NOT_ALLOWED},
        {"https://hub.example/a", "https://127.0.0.1/a", ERROR_NOT_ALLOWED},
        {"https://hub.example/a", "https://localhost/a", ERROR_NOT_ALLOWED},
        {"http://127.0.0.1/a", "http://192.0.2.1/a", ERROR_NOT_ALLOWED},
        {"http://127.0.0.1/a", "http://localhost/a", ERROR_NOT_ALLOWED},
        {"https://hub.example/a", "ftp://hub.example/a", ERROR_NOT_ALLOWED},
        {"https://hub.example/a", "https://u@hub.example/a", ERROR_NOT_ALLOWED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct error err = ERROR_INIT;
        struct url from, to;

        assert_int_equal(url_check(table[i].from, NULL, &from, NULL), 0);
        url_check_redirect(&from, table[i].to, &to, &err);
        if (err.code != table[i].code)
            fail_msg("%s -> %s: %s", table[i].from, table[i].to, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_https_goes_anywhere_and_http_only_to_loopback_or_mirror),
        cmocka_unit_test(test_an_address_of_a_million_bytes_is_refused),
        cmocka_unit_test(test_redirects_stay_secure_and_away_from_this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
