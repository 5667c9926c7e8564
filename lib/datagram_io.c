/* SPDX-License-Identifier: MIT */
/*
 * Datagrams, sent and received. Every system call is made without waiting (MSG_DONTWAIT); who waits
 * does it in poll(2), with the wake-up of the end beside.
 *
 * Waiting for room needs care: an unconnected socket always polls writable, whatever the queue of
 * the receiver, so polling it would spin. See datagram_room_fd.
 */
#include "lib/datagram.h"

#include <errno.h>
#include <poll.h>
#include <stdalign.h>
#include <string.h>
#include <unistd.h>
#include <vouch/conn.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/socket.h"

#define COUNT(counter) (void)atomic_fetch_add_explicit(&(counter), 1, memory_order_relaxed)

/* ---- sending ---- */

/* The end of a connection shows in several ways; here they all mean that nobody receives. */
static int send_error(const struct vouch_datagram *datagram, bool to_default, int error) {
    if (datagram_is_closed(datagram))
        return -ESHUTDOWN;
    if (datagram_is_full(error))
        return -EAGAIN;
    switch (error) {
    case ENOTCONN:
    case EDESTADDRREQ:
        return to_default && !atomic_load(&datagram->connected) ? -EDESTADDRREQ : -ECONNREFUSED;
    case EPIPE:
    case ECONNRESET:
        return -ECONNREFUSED;
    default:
        return -error;
    }
}

static int send_now(struct vouch_datagram *datagram, const struct address_sockaddr *to,
                    const void *data, size_t size) {
    if (datagram_is_closed(datagram))
        return -ESHUTDOWN;
    if (size > VOUCH_PACKET_SIZE_BOUND)
        return -EMSGSIZE;
    struct iovec piece = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_name = to ? (void *)&to->un : NULL,
                             .msg_namelen = to ? to->length : 0,
                             .msg_iov = &piece,
                             .msg_iovlen = 1};
    ssize_t sent;
    do
        sent = sendmsg(datagram->fd, &message, os_send_flags | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    int r = sent < 0 ? send_error(datagram, !to, errno) : 0;
    if (r == 0)
        COUNT(datagram->sent);
    else if (r == -EAGAIN)
        COUNT(datagram->congested);
    else if (r == -ECONNREFUSED || r == -ENOENT)
        COUNT(datagram->unreachable);
    return r;
}

static bool is_writable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLOUT};
    return poll(&entry, 1, 0) > 0;
}

/* Full may be the receiver's queue or our own buffer. For a connected socket poll(2) answers for
 * both, so it does not say whether it is our buffer that is in the way of a message to another. */
int datagram_room_fd(const struct vouch_datagram *datagram, const struct address_sockaddr *to,
                     int *helper) {
    bool connected = atomic_load(&datagram->connected);
    if (!is_writable(datagram->fd))
        return to && connected ? -1 : datagram->fd;
    if (!datagram_poll_is_true)
        return -1;
    if (!to)
        return datagram->fd;
    if (*helper < 0)
        *helper = datagram_open_helper(to);
    return *helper < 0 ? -1 : *helper;
}

/* Until `fd` (-1: none) has one of the events, the end, or `until`. */
static int wait_for(const struct vouch_datagram *datagram, int fd, short events, int64_t until) {
    struct pollfd fds[2] = {{.fd = datagram->wake.read_fd, .events = POLLIN},
                            {.fd = fd, .events = events}};
    int timeout = until == VOUCH_FOREVER ? -1 : clock_poll_timeout(vouch_now(), until);
    (void)poll(fds, 2, timeout);
    return datagram_is_closed(datagram) ? -ESHUTDOWN : 0;
}

static int wait_for_room(const struct vouch_datagram *datagram, const struct address_sockaddr *to,
                         int64_t deadline, int *helper, int64_t *gap) {
    int64_t now = vouch_now(), until = deadline;
    if (now >= deadline)
        return -ETIMEDOUT;
    int fd = datagram_room_fd(datagram, to, helper);
    if (fd < 0) {
        until = clock_add(now, *gap) < deadline ? clock_add(now, *gap) : deadline;
        *gap = 2 * *gap < DATAGRAM_RETRY_MAX ? 2 * *gap : DATAGRAM_RETRY_MAX;
    }
    return wait_for(datagram, fd, POLLOUT, until);
}

static int send_failed(struct vouch_datagram *datagram, const struct vouch_datagram_address *to,
                       size_t size, int code, struct vouch_error *error) {
    struct vouch_datagram_address where;
    if (!error)
        return code;
    pthread_mutex_lock(&datagram->lock);
    where = to ? *to : datagram->destination;
    pthread_mutex_unlock(&datagram->lock);
    if (code == -EMSGSIZE)
        return error_set(error, code, "a datagram of %zu bytes, at most %zu are possible here: %s",
                         size, socket_packet_max(datagram->fd), where.text);
    return error_set(error, code, "sending a datagram: %s: %s", vouch_strerror(code),
                     where.size ? where.text : "no destination");
}

/* `ret_at` is what `*to` is for the kernel. */
static int begin_send(struct vouch_datagram *datagram, const struct vouch_datagram_address *to,
                      struct address_sockaddr *ret_at, struct vouch_error *error) {
    int r = datagram_usable(datagram);
    if (r < 0)
        return error_set(error, r, "sending a datagram: %s", vouch_strerror(r));
    return to ? datagram_check_destination(datagram, to, ret_at, error) : 0;
}

int vouch_datagram_send(struct vouch_datagram *datagram, const struct vouch_datagram_address *to,
                        const void *data, size_t size, int64_t deadline,
                        struct vouch_error *ret_error) {
    struct address_sockaddr room;
    const struct address_sockaddr *at = to ? &room : NULL;
    int r = begin_send(datagram, to, &room, ret_error);
    if (r < 0)
        return r;
    int helper = -1;
    int64_t gap = DATAGRAM_RETRY_MIN;
    do {
        r = send_now(datagram, at, data, size);
        if (r != -EAGAIN)
            break;
        r = wait_for_room(datagram, at, deadline, &helper, &gap);
    } while (r == 0);
    if (helper >= 0)
        close(helper);
    return r < 0 ? send_failed(datagram, to, size, r, ret_error) : 0;
}

int vouch_datagram_try_send(struct vouch_datagram *datagram,
                            const struct vouch_datagram_address *to, const void *data, size_t size,
                            struct vouch_error *ret_error) {
    struct address_sockaddr room;
    const struct address_sockaddr *at = to ? &room : NULL;
    int r = begin_send(datagram, to, &room, ret_error);
    if (r < 0)
        return r;
    r = send_now(datagram, at, data, size);
    if (r == -EAGAIN && datagram->on_writable)
        datagram_congested(datagram, to, at);
    return r < 0 ? send_failed(datagram, to, size, r, ret_error) : 0;
}

/* ---- receiving ---- */

/* NULL: they may be heard; else the counter of why not. */
static atomic_uint_fast64_t *refusal(struct vouch_datagram *datagram,
                                     const struct vouch_identity *sender) {
    struct vouch_decision decision;
    if (datagram->allow_unknown && !(sender->known & VOUCH_KNOWN_UID))
        return NULL;
    if (vouch_policy_check(&datagram->policy, sender, &decision))
        return NULL;
    return decision.reason == VOUCH_REASON_UID_UNKNOWN ? &datagram->refused_unknown
                                                       : &datagram->refused_policy;
}

static int received(struct vouch_datagram *datagram, size_t size, size_t room,
                    struct vouch_datagram_message *message) {
    message->size = size;
    message->stored = size < room ? size : room;
    COUNT(datagram->received);
    if (size <= room)
        return 0;
    COUNT(datagram->truncated);
    return -EMSGSIZE;
}

static int nothing_taken(const struct vouch_datagram *datagram, int error) {
    if (error != EAGAIN && error != EWOULDBLOCK)
        return -error;
    return datagram_is_ended(datagram->fd) ? -ESHUTDOWN : -EAGAIN;
}

/* One message: 0, -EMSGSIZE; 1: it was dropped; -EAGAIN, other errors. */
static int take(struct vouch_datagram *datagram, void *buffer, size_t size,
                struct vouch_datagram_message *ret_message) {
    alignas(struct cmsghdr) char control[OS_PACKET_CONTROL_MAX];
    struct sockaddr_un from;
    struct iovec piece = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_name = &from,
                             .msg_namelen = sizeof(from),
                             .msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = os_packet_control};
    ssize_t taken;
    do
        taken = recvmsg(datagram->fd, &message, os_recv_flags | os_packet_flags | MSG_DONTWAIT);
    while (taken < 0 && errno == EINTR);
    if (datagram_is_closed(datagram))
        return -ESHUTDOWN;
    if (taken < 0)
        return nothing_taken(datagram, errno);
    if (taken == 0 && datagram->marks && !os_packet_is_marked(&message))
        return -ESHUTDOWN;
    struct vouch_identity sender;
    datagram_read_sender(&message, &sender);
    atomic_uint_fast64_t *why_not = refusal(datagram, &sender);
    if (why_not) {
        COUNT(*why_not);
        return 1;
    }
    datagram_address_unpack(&from, message.msg_namelen, &ret_message->from);
    ret_message->sender = sender;
    bool cut = message.msg_flags & MSG_TRUNC && (size_t)taken <= size;
    return received(datagram, cut ? size + 1 : (size_t)taken, size, ret_message);
}

int vouch_datagram_try_recv(struct vouch_datagram *datagram, void *buffer, size_t size,
                            struct vouch_datagram_message *ret_message) {
    int r = datagram_usable(datagram);
    if (r < 0)
        return r;
    for (int i = 0; i < DATAGRAM_BURST; i++) {
        r = take(datagram, buffer, size, ret_message);
        if (r <= 0)
            return r;
    }
    return -EAGAIN;
}

int vouch_datagram_recv(struct vouch_datagram *datagram, void *buffer, size_t size,
                        int64_t deadline, struct vouch_datagram_message *ret_message) {
    for (;;) {
        int r = vouch_datagram_try_recv(datagram, buffer, size, ret_message);
        if (r != -EAGAIN)
            return r;
        if (deadline != VOUCH_FOREVER && vouch_now() >= deadline)
            return -ETIMEDOUT;
        r = wait_for(datagram, datagram->fd, POLLIN, deadline);
        if (r < 0)
            return r;
    }
}
