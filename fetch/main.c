/* SPDX-License-Identifier: MIT */
/*
 * lfmd-fetch: the only program of lfmd that uses the network. The daemon starts it for one request,
 * a JSON object on stdin:
 *
 *   {"verb":"download","url":"https://...","path":"/.../name.gguf",
 *    "size":N, "more":N, "sha256":"...", "mirror":"http://...", "retries":5, "stall_seconds":30}
 *   {"verb":"verify","path":"/.../name.gguf","sha256":"..."}
 *
 * What it says is in report.h. Exit status: 0 done, 1 failed, 2 a request that it does not
 * understand. SIGTERM ends it; what has arrived stays for the next run. A verified file that is not
 * the expected one is a result ("intact": false), not a failure.
 */
#include <curl/curl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fetch/download.h"
#include "fetch/report.h"

#define REQUEST_MAX ((size_t)1 << 16)

struct request {
    struct json_object *json; /* holds the strings */
    const char *verb;
    struct download_request download;
};

/* Nothing that this process may do can grow; nothing of it is left behind. */
static void confine(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 64});
    umask(077);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
}

static int read_text(struct json_object *value, const char *key, const char **ret,
                     struct error *err)
{
    const char *text = json_object_get_string(value);

    if (!json_object_is_type(value, json_type_string) ||
        strlen(text) != (size_t)json_object_get_string_len(value))
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%s' of the request is not a text.", key);
    *ret = text[0] ? text : NULL;
    return 0;
}

static int read_number(struct json_object *value, const char *key, uint64_t max, uint64_t *ret,
                       struct error *err)
{
    if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0 ||
        json_object_get_uint64(value) > max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "'%s' of the request is not a number from 0 to %ju.", key,
                         (uintmax_t)max);
    *ret = json_object_get_uint64(value);
    return 0;
}

static int read_member(struct request *request, const char *key, struct json_object *value,
                       struct error *err)
{
    struct download_request *d = &request->download;
    uint64_t n = 0;
    int r;

    if (strcmp(key, "verb") == 0)
        return read_text(value, key, &request->verb, err);
    if (strcmp(key, "url") == 0)
        return read_text(value, key, &d->url, err);
    if (strcmp(key, "path") == 0)
        return read_text(value, key, &d->path, err);
    if (strcmp(key, "mirror") == 0)
        return read_text(value, key, &d->mirror, err);
    if (strcmp(key, "sha256") == 0) {
        r = read_text(value, key, &d->sha256, err);
        if (r == 0 && d->sha256 && !sha256_valid(d->sha256))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "'sha256' of the request is not 64 lower-case hex digits.");
        return r;
    }
    if (strcmp(key, "size") == 0)
        return read_number(value, key, INT64_MAX, &d->size_bytes, err);
    if (strcmp(key, "more") == 0)
        return read_number(value, key, INT64_MAX, &d->more_bytes, err);
    if (strcmp(key, "retries") == 0) {
        r = read_number(value, key, 100, &n, err);
        d->retries = (unsigned)n;
        return r;
    }
    if (strcmp(key, "stall_seconds") == 0) {
        r = read_number(value, key, 3600, &n, err);
        d->stall_seconds = n ? (unsigned)n : STALL_SECONDS_DEFAULT;
        return r;
    }
    return error_set(err, ERROR_INVALID_ARGUMENT, "The request has an unknown key '%.100s'.", key);
}

static int request_read(struct request *request, struct error *err)
{
    static char text[REQUEST_MAX];
    size_t length = fread(text, 1, sizeof(text), stdin);
    struct json_tokener *tokener = json_tokener_new_ex(4);
    int r = 0;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    if (length < sizeof(text)) {
        request->json = json_tokener_parse_ex(tokener, text, (int)length + 1);
    }
    json_tokener_free(tokener);
    if (!json_object_is_type(request->json, json_type_object))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The request on stdin is not one JSON object.");
    json_object_object_foreach(request->json, key, value)
    {
        r = read_member(request, key, value, err);
        if (r < 0)
            return r;
    }
    if (!request->verb || !request->download.path ||
        (strcmp(request->verb, "download") == 0 ? !request->download.url
                                                : strcmp(request->verb, "verify") != 0))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The request needs 'verb' (download or verify), 'path' and, to download, "
                         "'url'.");
    return 0;
}

static int verify(const struct download_request *request, struct error *err)
{
    char sha256[SHA256_HEX + 1];
    uint64_t size;
    int r;

    report_verifying();
    r = part_hash_file(request->path, report_progress, &size, sha256, err);
    if (r < 0)
        return r;
    report_done(size, sha256,
                (!request->sha256 || strcmp(request->sha256, sha256) == 0) &&
                    (!request->size_bytes || request->size_bytes == size));
    return 0;
}

int main(int argc, char **argv)
{
    struct request request = {
        .download = {.retries = RETRIES_DEFAULT, .stall_seconds = STALL_SECONDS_DEFAULT},
    };
    struct error err = ERROR_INIT;
    char sha256[SHA256_HEX + 1];
    uint64_t size = 0;
    int r, status = EXIT_FAILURE;

    if (argc > 1) {
        fprintf(stderr,
                "usage: %s < REQUEST\n"
                "The network helper of lfmd: use \"lfmctl pull MODEL\" instead.\n",
                argv[0]);
        return 2;
    }
    confine();
    report_setup();
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return EXIT_FAILURE;

    r = request_read(&request, &err);
    if (r < 0) {
        status = 2;
    } else if (strcmp(request.verb, "verify") == 0) {
        r = verify(&request.download, &err);
    } else {
        r = download(&request.download, &size, sha256, &err);
        if (r == 0)
            report_done(size, sha256, true);
    }
    if (r < 0)
        report_error(&err);
    else
        status = EXIT_SUCCESS;
    json_object_put(request.json);
    curl_global_cleanup();
    return status;
}
