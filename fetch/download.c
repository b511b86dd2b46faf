/* SPDX-License-Identifier: MIT */
#include "fetch/download.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fetch/report.h"
#include "fetch/url.h"

#define REDIRECTS_MAX    8
#define HEADER_BYTES_MAX ((size_t)1 << 18) /* of one request: "100 Continue" may come before */
#define STALL_BYTES_SEC  64

struct transfer {
    const struct download_request *request;
    struct part part;
    CURL *curl;
    struct url first, target; /* of the request; of the hop that is under way */
    struct error err;         /* the cause, when a callback ends the transfer */
    bool transient;           /* another attempt may succeed */
    uint64_t arrived_bytes;   /* in this run */

    /* the answer that is coming in */
    long status;
    size_t header_bytes;
    uint64_t length, range_start, range_total; /* UINT64_MAX: not said */
    char etag[ETAG_MAX];
    bool body, encoded;

    /* said by the host of the request, before or with the answer */
    char linked_sha256[SHA256_HEX + 1];
    uint64_t linked_bytes; /* 0: not said */
};

static void curl_cleanupp(CURL **curl)
{
    curl_easy_cleanup(*curl);
}

static void slist_freep(struct curl_slist **list)
{
    curl_slist_free_all(*list);
}

static const char *expected_sha256(const struct transfer *t)
{
    if (t->request->sha256)
        return t->request->sha256;
    return t->linked_sha256[0] ? t->linked_sha256 : "";
}

/* --- headers -------------------------------------------------------------------------------- */

static void answer_reset(struct transfer *t)
{
    t->status = 0;
    t->length = t->range_start = t->range_total = UINT64_MAX;
    t->etag[0] = '\0';
    t->body = t->encoded = false;
}

/* The value of `line` when its name is `name`, without blanks around it; else NULL. */
static const char *header_value(const char *line, const char *name)
{
    size_t n = strlen(name);

    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return NULL;
    return line + n + 1 + strspn(line + n + 1, " \t");
}

static bool number(const char *text, const char *after, uint64_t *ret, const char **ret_end)
{
    char *end;
    uint64_t value;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || !strchr(after, *end) || value > INT64_MAX)
        return false;
    *ret = value;
    if (ret_end)
        *ret_end = end;
    return true;
}

/* Content-Range: bytes START-END/TOTAL */
static void read_range(struct transfer *t, const char *value)
{
    uint64_t start, end, total;

    if (strncasecmp(value, "bytes ", 6) == 0 && number(value + 6, "-", &start, &value) &&
        number(value + 1, "/", &end, &value) && number(value + 1, "", &total, NULL) &&
        start <= end && end < total) {
        t->range_start = start;
        t->range_total = total;
    }
}

static void read_linked_etag(struct transfer *t, const char *value)
{
    char hash[SHA256_HEX + 1];

    if (strlen(value) != SHA256_HEX + 2 || value[0] != '"' || value[SHA256_HEX + 1] != '"')
        return;
    snprintf(hash, sizeof(hash), "%.*s", SHA256_HEX, value + 1);
    if (sha256_valid(hash))
        memcpy(t->linked_sha256, hash, sizeof(hash));
}

static size_t on_header(char *bytes, size_t unit, size_t n, void *userdata)
{
    struct transfer *t = userdata;
    char line[2048];
    const char *value;
    size_t length = n;

    (void)unit;
    t->header_bytes += n;
    if (t->header_bytes > HEADER_BYTES_MAX) {
        error_set(&t->err, ERROR_DOWNLOAD_FAILED, "The server %s sends headers without end.",
                  t->target.host);
        return 0;
    }
    while (length > 0 && strchr("\r\n \t", bytes[length - 1]))
        length--;
    if (length >= sizeof(line) || memchr(bytes, 0, length))
        return n;
    memcpy(line, bytes, length);
    line[length] = '\0';

    if (strncasecmp(line, "HTTP/", 5) == 0) /* also after "100 Continue" */
        answer_reset(t);
    else if ((value = header_value(line, "Content-Length")))
        number(value, "", &t->length, NULL);
    else if ((value = header_value(line, "Content-Range")))
        read_range(t, value);
    else if ((value = header_value(line, "Content-Encoding")))
        t->encoded = strcasecmp(value, "identity") != 0;
    else if ((value = header_value(line, "ETag"))) {
        /* A weak one ("W/...") does not promise the same bytes. */
        if (value[0] == '"' && strlen(value) < sizeof(t->etag))
            snprintf(t->etag, sizeof(t->etag), "%s", value);
    } else if (strcmp(t->target.host, t->first.host) == 0) {
        if ((value = header_value(line, "X-Linked-Etag")))
            read_linked_etag(t, value);
        else if ((value = header_value(line, "X-Linked-Size")))
            number(value, "", &t->linked_bytes, NULL);
    }
    return n;
}

/* --- body ----------------------------------------------------------------------------------- */

/* How large the file is, by all who say so; they must agree. */
static int agree_on_size(struct transfer *t, uint64_t *ret)
{
    const char *name = t->part.name, *host = t->target.host;
    uint64_t total = t->status == 206 ? t->range_total : t->length;

    if (total == UINT64_MAX)
        total = t->linked_bytes ? t->linked_bytes : t->request->size_bytes;
    if (total == 0)
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The server %s does not say how large %s is.", host, name);
    if (t->request->size_bytes && total != t->request->size_bytes)
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The server %s has %s with %" PRIu64 " bytes, but the registry expects "
                         "%" PRIu64 ": the publisher has replaced the file.",
                         host, name, total, t->request->size_bytes);
    if (t->linked_bytes && total != t->linked_bytes)
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The server %s sends %" PRIu64 " bytes of %s, but %s announced %" PRIu64
                         ".",
                         host, total, name, t->first.host, t->linked_bytes);
    *ret = total;
    return 0;
}

/* The first bytes of a file have come: where do they belong, and is there room? */
static int body_begin(struct transfer *t)
{
    struct part *part = &t->part;
    const char *sha256 = expected_sha256(t);
    uint64_t total = 0;
    int r;

    /* It was not asked for: what comes is not the file. */
    if (t->encoded)
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The server %s sends %s compressed, though it was asked for the file "
                         "itself.",
                         t->target.host, part->name);
    r = agree_on_size(t, &total);
    if (r < 0)
        return r;
    if (t->request->sha256 && t->linked_sha256[0] &&
        strcmp(t->request->sha256, t->linked_sha256) != 0)
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The server %s announces %s with SHA-256 %.16s..., but the registry "
                         "expects %.16s...: the publisher has replaced the file.",
                         t->first.host, part->name, t->linked_sha256, t->request->sha256);

    if (t->status == 206) {
        bool same = total == part->total_bytes &&
                    (!sha256[0] || !part->sha256[0] || strcmp(sha256, part->sha256) == 0);

        if (!same || t->range_start != part->size_bytes) {
            /* Not the file whose beginning we have: once more, from its first byte. */
            t->transient = true;
            part_restart(part, &t->err);
            return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                             "The server %s answers with another part of %s than asked for.",
                             t->target.host, part->name);
        }
    } else if (part->size_bytes > 0) {
        r = part_restart(part, &t->err);
        if (r < 0)
            return r;
    }
    snprintf(part->url, sizeof(part->url), "%s", t->request->url);
    snprintf(part->etag, sizeof(part->etag), "%s", t->etag);
    snprintf(part->sha256, sizeof(part->sha256), "%s", sha256);
    part->total_bytes = total;
    r = part_reserve(part, t->request->more_bytes, &t->err);
    if (r < 0)
        return r;
    r = part_note(part, &t->err);
    if (r < 0)
        return r;
    report_start(part->size_bytes, total);
    return 0;
}

static size_t on_body(char *bytes, size_t unit, size_t n, void *userdata)
{
    struct transfer *t = userdata;
    struct part *part = &t->part;

    (void)unit;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->status);
    if (t->status != 200 && t->status != 206)
        return 0; /* a page for people; the status says enough */
    if (!t->body) {
        t->body = true;
        if (body_begin(t) < 0)
            return 0;
    }
    if (n > part->total_bytes - part->size_bytes) {
        error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                  "The server %s sends more than the %" PRIu64 " bytes of %s.", t->target.host,
                  part->total_bytes, part->name);
        return 0;
    }
    if (part_write(part, bytes, n, &t->err) < 0)
        return 0;
    t->arrived_bytes += n;
    report_progress(part->size_bytes, part->total_bytes);
    return n;
}

static int on_tick(void *userdata, curl_off_t total, curl_off_t done, curl_off_t up_total,
                   curl_off_t up)
{
    (void)userdata, (void)total, (void)done, (void)up_total, (void)up;
    return report_stopped();
}

/* "localhost" is what the system says it is: hold it to the loopback addresses. */
static curl_socket_t on_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct transfer *t = userdata;

    (void)purpose;
    if (t->target.loopback) {
        const struct sockaddr_in *v4 = (const void *)&to->addr;
        const struct sockaddr_in6 *v6 = (const void *)&to->addr;

        if (!(to->family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127) &&
            !(to->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)))
            return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* --- one attempt ---------------------------------------------------------------------------- */

static int status_error(struct transfer *t)
{
    const char *host = t->target.host, *name = t->part.name;

    switch (t->status) {
    case 401:
    case 403:
        return error_set(&t->err, ERROR_NOT_ALLOWED,
                         "The server %s refuses to give out %s (status %ld).", host, name,
                         t->status);
    case 404:
    case 410:
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED, "The server %s has no file %s.", host,
                         name);
    case 416:
        /* What we have does not belong to the file that the server has. */
        t->transient = true;
        part_restart(&t->part, &t->err);
        break;
    case 408:
    case 429:
    case 500 ... 599:
        t->transient = true;
        break;
    }
    return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                     "The server %s answered for %s with status %ld.", host, name, t->status);
}

static int curl_failure(struct transfer *t, CURLcode code, const char *detail)
{
    const char *host = t->target.host;
    const struct part *part = &t->part;

    /* An attempt that brought nothing in this run says at once what is wrong. */
    t->transient = t->arrived_bytes > 0;
    switch (code) {
    case CURLE_ABORTED_BY_CALLBACK:
        t->transient = false;
        return error_set(&t->err, ERROR_CANCELLED,
                         "The download of %s was stopped after %.1f MB; the next one goes on from "
                         "there.",
                         part->name, (double)part->size_bytes / 1e6);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The address of %s cannot be found: is this machine online?", host);
    case CURLE_COULDNT_CONNECT:
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED, "The server %s cannot be reached: %s.",
                         host, detail);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(&t->err, ERROR_TIMEOUT,
                         "The server %s sent nothing for %u seconds; %.1f MB of %s are here.", host,
                         t->request->stall_seconds, (double)part->size_bytes / 1e6, part->name);
    case CURLE_PEER_FAILED_VERIFICATION:
        t->transient = false;
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The certificate of %s is not trusted: %s.", host, detail);
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED,
                         "The connection to %s ended after %" PRIu64 " of %" PRIu64
                         " bytes of %s.",
                         host, part->size_bytes, part->total_bytes, part->name);
    default:
        return error_set(&t->err, ERROR_DOWNLOAD_FAILED, "%s cannot be fetched from %s: %s.",
                         part->name, host, detail);
    }
}

/* May the bytes that are here be the beginning of what will come? */
static bool can_resume(const struct transfer *t)
{
    const struct part *part = &t->part;
    const char *sha256 = expected_sha256(t);

    return part->size_bytes > 0 && part->size_bytes < part->total_bytes &&
           strcmp(part->url, t->request->url) == 0 && (part->etag[0] || part->sha256[0]) &&
           (!sha256[0] || !part->sha256[0] || strcmp(sha256, part->sha256) == 0);
}

/* One request; 1: a redirect, whose address is in ret_next. */
static int hop(struct transfer *t, const char *url, char *ret_next)
{
    _cleanup_(slist_freep) struct curl_slist *headers = NULL;
    char detail[CURL_ERROR_SIZE] = "", range[32], if_range[ETAG_MAX + 16];
    const char *next = NULL;
    CURLcode code;

    answer_reset(t);
    t->header_bytes = 0;
    curl_easy_reset(t->curl);
    if (can_resume(t)) {
        snprintf(range, sizeof(range), "%" PRIu64 "-", t->part.size_bytes);
        curl_easy_setopt(t->curl, CURLOPT_RANGE, range);
        if (t->part.etag[0]) {
            snprintf(if_range, sizeof(if_range), "If-Range: %s", t->part.etag);
            headers = curl_slist_append(NULL, if_range);
        }
    }
    curl_easy_setopt(t->curl, CURLOPT_URL, url);
    curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, t->target.tls ? "https" : "http");
    curl_easy_setopt(t->curl, CURLOPT_FOLLOWLOCATION, 0L); /* each hop is checked here */
    if (t->target.loopback)
        curl_easy_setopt(t->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(t->curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(t->curl, CURLOPT_USERAGENT, "lfmd-fetch/" LFMD_VERSION);
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT, (long)t->request->stall_seconds);
    curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_SEC);
    curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_TIME, (long)t->request->stall_seconds);
    curl_easy_setopt(t->curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(t->curl, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_tick);
    curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(t->curl, CURLOPT_BUFFERSIZE, 1L << 18);

    code = curl_easy_perform(t->curl);
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->status);
    if (t->err.code != ERROR_NONE)
        return error_errno(t->err.code);
    if (report_stopped())
        return curl_failure(t, CURLE_ABORTED_BY_CALLBACK, detail);
    if (t->status >= 300 && t->status < 400) {
        curl_easy_getinfo(t->curl, CURLINFO_REDIRECT_URL, &next);
        if (next && strlen(next) < URL_MAX) {
            snprintf(ret_next, URL_MAX, "%s", next);
            return 1;
        }
    }
    if (t->status != 200 && t->status != 206 && t->status != 0)
        return status_error(t);
    if (code != CURLE_OK)
        return curl_failure(t, code, detail[0] ? detail : curl_easy_strerror(code));
    if (!t->body || t->part.size_bytes != t->part.total_bytes)
        return curl_failure(t, CURLE_PARTIAL_FILE, detail);
    return 0;
}

static int attempt(struct transfer *t)
{
    char url[URL_MAX], next[URL_MAX];
    int r;

    snprintf(url, sizeof(url), "%s", t->request->url);
    t->target = t->first;
    for (unsigned i = 0; i <= REDIRECTS_MAX; i++) {
        r = hop(t, url, next);
        if (r <= 0)
            return r;
        r = url_check_redirect(&t->first, next, &t->target, &t->err);
        if (r < 0)
            return r;
        memcpy(url, next, sizeof(url));
    }
    return error_set(&t->err, ERROR_DOWNLOAD_FAILED, "The server %s redirects without end.",
                     t->first.host);
}

static void pause_before(unsigned failures)
{
    unsigned seconds = 1U << MIN(failures - 1, 5U);

    for (unsigned i = 0; i < seconds * 20 && !report_stopped(); i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static int transfer_run(struct transfer *t)
{
    uint64_t best = t->part.size_bytes;
    unsigned failures = 0;
    int r;

    for (;;) {
        t->err = (struct error)ERROR_INIT;
        t->transient = false;
        r = attempt(t);
        if (r == 0 || !t->transient || report_stopped())
            return r;
        if (t->part.size_bytes > best) {
            best = t->part.size_bytes;
            failures = 0;
        }
        if (++failures > t->request->retries)
            return r;
        pause_before(failures);
    }
}

int download(const struct download_request *request, uint64_t *ret_size_bytes, char *ret_sha256,
             struct error *err)
{
    _cleanup_(curl_cleanupp) CURL *curl = NULL;
    struct transfer t = {.request = request, .part = PART_CLOSED};
    int r;

    r = url_check(request->url, request->mirror, &t.first, err);
    if (r < 0)
        return r;
    t.curl = curl = curl_easy_init();
    if (!curl)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for a transfer.");
    r = part_open(&t.part, request->path, err);
    if (r < 0)
        goto finish;
    if (request->sha256 && t.part.sha256[0] && strcmp(request->sha256, t.part.sha256) != 0)
        t.part.url[0] = '\0'; /* the beginning of another file */

    /* Everything may be here already: a run that ended between its last byte and the rename. */
    if (!(t.part.size_bytes > 0 && t.part.size_bytes == t.part.total_bytes && t.part.sha256[0] &&
          strcmp(t.part.url, request->url) == 0)) {
        r = transfer_run(&t);
        if (r < 0) {
            error_set(err, t.err.code, "%s", t.err.text);
            goto finish;
        }
    }
    report_verifying();
    *ret_size_bytes = t.part.size_bytes;
    r = part_commit(&t.part, ret_sha256, err);
finish:
    part_close(&t.part);
    return r;
}
