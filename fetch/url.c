/* SPDX-License-Identifier: MIT */
#include "fetch/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

static void curl_freep(char **text)
{
    curl_free(*text);
}

static void curlu_freep(CURLU **url)
{
    curl_url_cleanup(*url);
}

static bool host_is_loopback(const char *host)
{
    struct in_addr address;

    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

static int url_parse(const char *text, struct url *ret, struct error *err)
{
    _cleanup_(curlu_freep) CURLU *parsed = curl_url();
    _cleanup_(curl_freep) char *scheme = NULL, *host = NULL, *user = NULL;
    struct url url = {0};

    if (!parsed)
        return error_set(err, ERROR_NO_MEMORY, "There is no memory to read an address.");
    if (strlen(text) >= URL_MAX || curl_url_set(parsed, CURLUPART_URL, text, 0) != CURLUE_OK ||
        curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) != CURLUE_OK || strlen(host) >= HOST_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%.200s' is not a web address.", text);
    if (curl_url_get(parsed, CURLUPART_USER, &user, 0) == CURLUE_OK)
        return error_set(err, ERROR_NOT_ALLOWED, "An address with a user name is not used.");

    if (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)
        return error_set(err, ERROR_NOT_ALLOWED,
                         "'%.200s' is not https, and no other protocol is used.", text);
    url.tls = strcmp(scheme, "https") == 0;
    for (size_t i = 0; host[i]; i++)
        url.host[i] = (char)tolower((unsigned char)host[i]);
    url.loopback = host_is_loopback(url.host);
    *ret = url;
    return 0;
}

int url_check(const char *text, const char *mirror, struct url *ret, struct error *err)
{
    struct url url, allowed;
    int r;

    r = url_parse(text, &url, err);
    if (r < 0)
        return r;
    if (!url.tls && !url.loopback) {
        if (!mirror || url_parse(mirror, &allowed, NULL) < 0 || allowed.tls ||
            strcmp(allowed.host, url.host) != 0)
            return error_set(err, ERROR_NOT_ALLOWED,
                             "'%.200s' is not https: plain http goes only to this machine or to "
                             "the mirror that the configuration names.",
                             text);
    }
    *ret = url;
    return 0;
}

int url_check_redirect(const struct url *from, const char *text, struct url *ret,
                       struct error *err)
{
    struct url url;
    int r;

    r = url_parse(text, &url, err);
    if (r < 0)
        return r;
    if (!url.tls && (from->tls || strcmp(from->host, url.host) != 0))
        return error_set(err, ERROR_NOT_ALLOWED,
                         "The server %s redirects to '%.200s', which is not https.", from->host,
                         text);
    if (url.loopback && !from->loopback)
        return error_set(err, ERROR_NOT_ALLOWED,
                         "The server %s redirects to this machine, which is not followed.",
                         from->host);
    *ret = url;
    return 0;
}
