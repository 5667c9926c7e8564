/* SPDX-License-Identifier: MIT */
/*
 * TCP, for ports that processes share. A listener and a connection like all others, but for the
 * identity: there is none, and what is not known can't satisfy a policy, so none is asked (see
 * accept.c). Every option that would promise more is refused rather than ignored.
 */
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vouch/tcp.h>

#include "lib/clock.h"
#include "lib/conn.h"
#include "lib/error.h"
#include "lib/identity.h"
#include "lib/listen.h"
#include "lib/options.h"
#include "lib/os.h"
#include "lib/socket.h"
#include "lib/tcp.h"

#define TIMEOUT_DEFAULT VOUCH_SECONDS(10)
#define HOST_TEXT_MAX 256 /* a name has at most 253 bytes; longer ones are cut in messages */
#define PLACE_MAX (HOST_TEXT_MAX + 16)

struct place {
    const char *host;
    uint16_t port;
    char text[PLACE_MAX]; /* "host:port", for people */
    struct vouch_error *error;
};

static void place_init(struct place *place, const char *host, uint16_t port, const char *any,
                       struct vouch_error *error) {
    place->host = host;
    place->port = port;
    place->error = error;
    const char *format = host && strchr(host, ':') ? "[%.*s]:%u" : "%.*s:%u";
    snprintf(place->text, sizeof(place->text), format, HOST_TEXT_MAX - 1, host ? host : any,
             (unsigned)port);
}

static int fail(const struct place *place, int code, const char *step) {
    return error_set(place->error, code, "%s: %s: %s", step, vouch_strerror(code), place->text);
}

static int resolve_error(int answer) {
    switch (answer) {
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_SYSTEM:
        return errno ? -errno : -EIO;
    case EAI_NONAME:
        return -ENOENT;
    default:
        return -EADDRNOTAVAIL;
    }
}

static int resolve(const struct place *place, int flags, struct addrinfo **ret_list) {
    char port[8];
    snprintf(port, sizeof(port), "%u", (unsigned)place->port);
    if (place->host && !*place->host)
        return error_set(place->error, -EINVAL, "an empty host, expected a name or no host");
    const struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV,
                                   .ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_protocol = IPPROTO_TCP};
    int answer = getaddrinfo(place->host, port, &hints, ret_list);
    if (answer == 0)
        return 0;
    int r = resolve_error(answer);
    return error_set(place->error, r, "looking up the host: %s: %s", gai_strerror(answer),
                     place->text);
}

void tcp_set_up(int fd) {
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    /* A peer can be gone without its kernel saying so, which no UNIX socket's can. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

int tcp_unknown_peer(const struct vouch_allocator *allocator,
                     const struct vouch_identity **ret_identity) {
    const struct vouch_identity nothing = {.uid = (uid_t)-1, .gid = (gid_t)-1, .pidfd = -1};
    return identity_new(allocator, &nothing, ret_identity);
}

/* ---- listening ---- */

static int check_listen_options(const struct place *place,
                                const struct vouch_listen_options *options) {
    const char *what = NULL;
    if (options->policy)
        what = "a policy: nobody says who connects";
    else if (options->mode || options->set_uid || options->set_gid || options->allow_unsafe_parent)
        what = "mode, owner or parent: there is no file";
    else if (options->allow_abstract_name_that_any_user_can_reach)
        what = "an abstract name: there is none";
    else if (options->pass_descriptors)
        what = "descriptors can't be passed";
    else if (options->link != VOUCH_LINK_STREAM && options->link != VOUCH_LINK_TCP)
        what = "a link that is not TCP";
    else if (options->backlog < 0)
        what = "a negative backlog";
    return what ? error_set(place->error, -EINVAL, "listening by TCP: %s: %s", what, place->text)
                : 0;
}

/* Every address means both protocols. */
static int set_options(int fd, const struct addrinfo *to, bool any) {
    int on = 1, off = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        return -errno;
    if (any && to->ai_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
        return -errno;
    return os_share_port(fd);
}

static int listen_at(const struct addrinfo *to, bool any, int backlog) {
    int fd = os_socket(to->ai_family, SOCK_STREAM);
    if (fd < 0)
        return fd;
    int r = os_set_nonblocking(fd, true);
    if (r == 0)
        r = set_options(fd, to, any);
    if (r == 0 && bind(fd, to->ai_addr, to->ai_addrlen) < 0)
        r = -errno;
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

static bool lacks_protocol(int code) {
    return code == -EAFNOSUPPORT || code == -EPROTONOSUPPORT || code == -EADDRNOTAVAIL;
}

/* The first address that can be bound; of every address, that of IPv6, which takes both. IPv4 alone
 * is every address only where there is no IPv6: else somebody may have that half of the port. */
static int listen_at_first(const struct place *place, const struct addrinfo *list, int backlog) {
    bool any = !place->host;
    int r = -EADDRNOTAVAIL;
    for (int family = any ? AF_INET6 : AF_UNSPEC;; family = AF_INET) {
        for (const struct addrinfo *to = list; to; to = to->ai_next) {
            if (family != AF_UNSPEC && to->ai_family != family)
                continue;
            r = listen_at(to, any, backlog);
            if (r >= 0)
                return r;
        }
        if (family != AF_INET6 || !lacks_protocol(r))
            return fail(place, r, "listening by TCP");
    }
}

int vouch_listen_tcp_reuseport(const char *host, uint16_t port,
                               const struct vouch_listen_options *given,
                               struct vouch_listener **ret_listener,
                               struct vouch_error *ret_error) {
    struct vouch_listen_options options = {0};
    OPTIONS_READ(options, given);
    struct place place;
    place_init(&place, host, port, "*", ret_error);
    int r = check_listen_options(&place, &options);
    if (r < 0)
        return r;
    options.link = VOUCH_LINK_TCP;
    options.max_connections_per_uid = UINT_MAX;
    struct addrinfo *list;
    r = resolve(&place, AI_PASSIVE, &list);
    if (r < 0)
        return r;
    struct vouch_listener *listener = NULL;
    r = listener_new(place.text, &options, &listener, ret_error);
    if (r == 0)
        r = listen_at_first(&place, list,
                            options.backlog ? options.backlog : LISTENER_BACKLOG_DEFAULT);
    freeaddrinfo(list);
    if (r < 0) {
        vouch_listener_free(listener);
        return r;
    }
    listener->fd = r;
    *ret_listener = listener;
    return 0;
}

uint16_t vouch_listener_get_port(const struct vouch_listener *listener) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } name = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t length = sizeof(name);
    if (getsockname(listener->fd, &name.any, &length) < 0)
        return 0;
    if (name.any.sa_family == AF_INET)
        return ntohs(name.v4.sin_port);
    return name.any.sa_family == AF_INET6 ? ntohs(name.v6.sin6_port) : 0;
}

/* ---- dialling ---- */

static int check_dial_options(const struct place *place, const struct vouch_dial_options *options) {
    const char *what = NULL;
    if (options->server)
        what = "a policy for servers: nobody says whose it is";
    else if (options->check_file_uid || options->check_file_gid || options->file_modes)
        what = "checks of a file: there is none";
    else if (options->allow_abstract_name_that_any_user_can_take)
        what = "an abstract name: there is none";
    else if (options->pass_descriptors)
        what = "descriptors can't be passed";
    else if (options->link != VOUCH_LINK_STREAM && options->link != VOUCH_LINK_TCP)
        what = "a link that is not TCP";
    else if (options->timeout < 0)
        what = "a negative timeout";
    else if (place->port == 0)
        what = "port 0";
    return what ? error_set(place->error, -EINVAL, "dialling by TCP: %s: %s", what, place->text)
                : 0;
}

/* Dialling a port of the ephemeral range at which nobody listens may connect a socket to itself. */
static bool is_own_echo(int fd) {
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_size = sizeof(own), peer_size = sizeof(peer);
    return getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0 && own_size == peer_size &&
           memcmp(&own, &peer, own_size) == 0;
}

static int connect_until(int fd, const struct addrinfo *to, int64_t deadline) {
    int r = os_set_nonblocking(fd, true);
    if (r == 0)
        r = socket_connect_address(fd, to->ai_addr, to->ai_addrlen);
    if (r == -EINPROGRESS)
        r = socket_wait_connected(fd, deadline);
    if (r == 0 && is_own_echo(fd))
        r = -ECONNREFUSED;
    return r == 0 ? os_set_nonblocking(fd, false) : r;
}

static int connect_to(const struct addrinfo *to, int64_t deadline) {
    int fd = os_socket(to->ai_family, SOCK_STREAM);
    if (fd < 0)
        return fd;
    int r = connect_until(fd, to, deadline);
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

static int64_t share_of(int64_t deadline, const struct addrinfo *list) {
    int64_t now = vouch_now(), count = 0;
    for (; list; list = list->ai_next)
        count++;
    if (deadline == VOUCH_FOREVER || deadline <= now)
        return deadline;
    return now + (deadline - now) / count;
}

static int connect_to_first(const struct place *place, const struct addrinfo *list,
                            int64_t deadline) {
    int r = -EADDRNOTAVAIL;
    for (; list; list = list->ai_next) {
        r = connect_to(list, share_of(deadline, list));
        if (r >= 0)
            return r;
    }
    return fail(place, r, "dialling by TCP");
}

static int make_conn(int fd, const struct vouch_allocator *allocator,
                     struct vouch_conn **ret_conn) {
    const struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = allocator};
    const struct vouch_identity *peer;
    tcp_set_up(fd);
    int r = tcp_unknown_peer(allocator, &peer);
    if (r < 0)
        return r;
    r = conn_new(fd, VOUCH_LINK_TCP, peer, &options, NULL, NULL, ret_conn);
    if (r < 0)
        vouch_identity_unref(peer);
    return r;
}

int vouch_dial_tcp(const char *host, uint16_t port, const struct vouch_dial_options *given,
                   struct vouch_conn **ret_conn, struct vouch_error *ret_error) {
    struct vouch_dial_options options = {0};
    OPTIONS_READ(options, given);
    struct place place;
    place_init(&place, host, port, "localhost", ret_error);
    int r = check_dial_options(&place, &options);
    if (r < 0)
        return r;
    int64_t deadline = vouch_deadline_in(options_time(options.timeout, TIMEOUT_DEFAULT));
    struct addrinfo *list;
    r = resolve(&place, 0, &list);
    if (r < 0)
        return r;
    int fd = connect_to_first(&place, list, deadline);
    freeaddrinfo(list);
    if (fd < 0)
        return fd;
    r = make_conn(fd, options.allocator, ret_conn);
    if (r < 0) {
        close(fd);
        return fail(&place, r, "making a connection");
    }
    return 0;
}
