/* SPDX-License-Identifier: MIT */
#include "clients/wyoming/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "clients/terminal.h"
#include "clients/wyoming/peer.h"
#include "clients/wyoming/wire.h"

#define BACKLOG 16

/* --- who connects --------------------------------------------------------------------------- */

/* One more than are served at a time: told so, as far as that goes without waiting. */
static void refuse(int fd)
{
    static const char text[] = "So many programs are connected already that no other is taken.";
    struct json_object *data = json_object_new_object();
    _cleanup_(freep) uint8_t *bytes = NULL;
    size_t n;

    json_object_object_add(data, "text", json_object_new_string(text));
    json_object_object_add(data, "code", json_object_new_string(error_name(ERROR_BUSY)));
    bytes = wire_compose("error", data, NULL, 0, &n);
    json_object_put(data);
    if (bytes && send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        shutdown(fd, SHUT_WR);
    close(fd);
}

static int on_connect(sd_event_source *source, int listening, uint32_t revents, void *userdata)
{
    struct server *server = userdata;
    const int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct peer *peer;

    (void)source;
    (void)revents;
    if (fd < 0)
        return 0; /* it left again */
    if (server->n_peers >= SERVER_PEERS_MAX) {
        refuse(fd);
        return 0;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* not for unix sockets */
    peer = peer_new(server, fd);
    if (!peer)
        return 0;
    peer->next = server->peers;
    server->peers = peer;
    server->n_peers++;
    return 0;
}

void server_remove(struct server *server, struct peer *peer)
{
    struct peer **link = &server->peers;

    while (*link != peer)
        link = &(*link)->next;
    *link = peer->next;
    server->n_peers--;
    peer_free(peer);
}

/* --- where ---------------------------------------------------------------------------------- */

/* Takes the socket; path NULL: none. */
static int add(struct server *server, int fd, const char *path, struct error *err)
{
    const unsigned i = server->n_addresses;
    int r = listen(fd, BACKLOG) < 0 ? -errno : 0;

    if (r == 0)
        r = sd_event_add_io(server->event, &server->addresses[i].source, fd, EPOLLIN, on_connect,
                            server);
    if (r < 0) {
        close(fd);
        return error_set(err, ERROR_IO, "Nobody can be heard there: %s.", strerror(-r));
    }
    server->addresses[i].fd = fd;
    server->addresses[i].path = path ? strdup(path) : NULL;
    server->n_addresses++;
    return 0;
}

/* A socket that nobody serves any more is in the way; anything else is somebody's. */
static void remove_stale(const struct sockaddr_un *address)
{
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stat st;

    if (lstat(address->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
        errno == ECONNREFUSED)
        unlink(address->sun_path);
}

static int listen_unix(struct server *server, const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int fd, r;

    if (path[0] != '/' || strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "A socket's path begins with / and has at most %zu bytes: '%s' does not.",
                         sizeof(address.sun_path) - 1, path);
    strcpy(address.sun_path, path);
    remove_stale(&address);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mask = umask(0177); /* for the user alone */
    r = fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    umask(mask);
    if (r < 0) {
        closep(&fd);
        return error_set(err, ERROR_IO, "There can be no socket '%s': %s.", path, strerror(-r));
    }
    r = add(server, fd, path, err);
    if (r == 0)
        fprintf(stderr, "Listening on unix://%s\n", path);
    return r;
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >>
                24) == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* What was bound, which tells a free port's number. */
static void say_where(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    const bool is_v6 = getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
                       address.ss_family == AF_INET6;

    if (getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    fprintf(stderr, "Listening on tcp://%s%s%s:%s\n", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
            port);
    if (!is_loopback((struct sockaddr *)&address))
        fprintf(stderr, "Everybody who reaches this address can use it: there is no password.\n");
}

static int bind_tcp(const struct addrinfo *at)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (at->ai_family == AF_INET6) /* the IPv4 addresses have their own */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int));
    if (bind(fd, at->ai_addr, at->ai_addrlen) < 0) {
        const int r = -errno;

        close(fd);
        return r;
    }
    return fd;
}

/* All addresses of a name, or as many as can be had. */
static int listen_tcp(struct server *server, const char *host, const char *port, struct error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int n = 0, fd = -ENOSPC, r = getaddrinfo(*host ? host : NULL, port, &hints, &found);

    if (r != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "'%s:%s' is no address: %s.", host, port,
                         gai_strerror(r));
    r = 0;
    for (const struct addrinfo *at = found;
         at && r == 0 && server->n_addresses < SERVER_ADDRESSES_MAX; at = at->ai_next) {
        fd = bind_tcp(at);
        if (fd < 0)
            continue;
        r = add(server, fd, NULL, err);
        if (r == 0)
            say_where(fd);
        n++;
    }
    freeaddrinfo(found);
    if (n == 0)
        return error_set(err, ERROR_IO, "Nothing can listen on '%s:%s': %s.", host, port,
                         strerror(-fd));
    return r;
}

int server_listen(struct server *server, const char *uri, struct error *err)
{
    _cleanup_(freep) char *copy = NULL;
    char *host, *colon;

    if (server->n_addresses == SERVER_ADDRESSES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "There are more than %d addresses.",
                         SERVER_ADDRESSES_MAX);
    if (strncmp(uri, "unix://", 7) == 0)
        return listen_unix(server, uri + 7, err);
    copy = strncmp(uri, "tcp://", 6) == 0 ? strdup(uri + 6) : NULL;
    colon = copy ? strrchr(copy, ':') : NULL;
    if (!colon || !colon[1])
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "An address is tcp://HOST:PORT or unix:///PATH, not '%s'.", uri);
    *colon = '\0';
    host = copy;
    if (host[0] == '[' && colon > host + 1 && colon[-1] == ']') {
        host++;
        colon[-1] = '\0';
    }
    return listen_tcp(server, host, colon + 1, err);
}

void server_done(struct server *server)
{
    while (server->peers)
        server_remove(server, server->peers);
    for (unsigned i = 0; i < server->n_addresses; i++) {
        sd_event_source_disable_unref(server->addresses[i].source);
        close(server->addresses[i].fd);
        if (server->addresses[i].path)
            unlink(server->addresses[i].path);
        free(server->addresses[i].path);
    }
    conversations_done(&server->conversations);
}
