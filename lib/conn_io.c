/* SPDX-License-Identifier: MIT */
/*
 * Bytes through a connection.
 *
 * The descriptor stays in blocking mode, so that without a deadline a read or write is one system
 * call. With one, the call is first tried without waiting (MSG_DONTWAIT) and only then waited for
 * with poll(2).
 */
#include "lib/conn.h"

#include "lib/clock.h"
#include "lib/os.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

#define CONN_PIECES_MAX 64     /* of one vouch_conn_writev: its copy is 1 KiB of stack */
#define CONN_DISCARD_SIZE 4096 /* write-only mode: bytes thrown away at once … */
#define CONN_DISCARD_ROUNDS                                                                        \
    16 /* … and how often before a write, so that a flood can't hold it up */

/* After an end of file or a failed call: what it means depends on who ended the connection. */
int conn_error(const struct vouch_conn *conn, int error) {
    if (conn_is_closed(conn))
        return -ESHUTDOWN;
    if (error == EPIPE || error == ENOTCONN)
        return -ECONNRESET;
    return -error;
}

static bool conn_would_block(int error) {
    return error == EAGAIN || error == EWOULDBLOCK;
}

/* Where a packet's length is not told, all that is known is that it was more than the room. */
static ssize_t conn_packet_length(const struct msghdr *message, ssize_t taken) {
    size_t room = message->msg_iov->iov_len;
    return taken >= 0 && (size_t)taken <= room && message->msg_flags & MSG_TRUNC ? (ssize_t)room + 1
                                                                                 : taken;
}

/* One recvmsg: a packet's length may be more than the room for it. */
static ssize_t conn_recvmsg(struct vouch_conn *conn, struct msghdr *message, int flags) {
    bool packets = conn->link == VOUCH_LINK_SEQPACKET;
    ssize_t taken =
        recvmsg(conn->fd, message, flags | os_recv_flags | (packets ? os_packet_flags : 0));
    return packets ? conn_packet_length(message, taken) : taken;
}

/* For bytes recv(2), which is cheaper. */
static ssize_t conn_recv(struct vouch_conn *conn, void *buffer, size_t size, int flags) {
    if (conn->link != VOUCH_LINK_SEQPACKET)
        return recv(conn->fd, buffer, size, os_recv_flags | flags);
    struct iovec piece = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    return conn_recvmsg(conn, &message, flags);
}

static ssize_t conn_received(struct vouch_conn *conn, ssize_t taken) {
    if (taken > 0)
        return taken;
    if (taken < 0)
        return conn_would_block(errno) ? -EAGAIN : conn_error(conn, errno);
    return conn_is_closed(conn) ? -ESHUTDOWN : 0;
}

ssize_t conn_recv_now(struct vouch_conn *conn, void *buffer, size_t size) {
    if (conn_is_closed(conn))
        return -ESHUTDOWN;
    ssize_t taken;
    do
        taken = conn_recv(conn, buffer, size, MSG_DONTWAIT);
    while (taken < 0 && errno == EINTR);
    return conn_received(conn, taken);
}

/* The timeout stays: everything else here takes EAGAIN for what it is. */
static bool conn_can_nap(struct vouch_conn *conn) {
    if (atomic_load_explicit(&conn->naps, memory_order_relaxed))
        return true;
    struct timeval nap = {.tv_usec = CONN_NAP / 1000};
    bool can = setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &nap, sizeof(nap)) == 0;
    atomic_store_explicit(&conn->naps, can, memory_order_relaxed);
    return can;
}

ssize_t conn_recv_nap(struct vouch_conn *conn, void *buffer, size_t size) {
    if (conn_is_closed(conn))
        return -ESHUTDOWN;
    if (!conn_can_nap(conn))
        return -EAGAIN;
    ssize_t taken = conn_recv(conn, buffer, size, 0);
    if (taken < 0 && errno == EINTR)
        return -EAGAIN;
    return conn_received(conn, taken);
}

ssize_t conn_receive_now(struct vouch_conn *conn, struct msghdr *message) {
    ssize_t taken;
    do
        taken = conn_recvmsg(conn, message, MSG_DONTWAIT);
    while (taken < 0 && errno == EINTR);
    return conn_received(conn, taken);
}

ssize_t conn_send_now(struct vouch_conn *conn, const struct iovec *pieces, int count) {
    if (conn_is_closed(conn))
        return -ESHUTDOWN;
    /* sendmsg does not write to the pieces. */
    struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
    ssize_t sent;
    do
        sent = sendmsg(conn->fd, &message, os_send_flags | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    return conn_would_block(errno) ? -EAGAIN : conn_error(conn, errno);
}

static size_t conn_send_room(const struct vouch_conn *conn) {
    int room = 0;
    socklen_t size = sizeof(room);
    (void)getsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &room, &size);
    return room > 0 ? (size_t)room : 1;
}

/* Of what is asked for the kernel makes the double (socket(7)), and counts its own bookkeeping. */
bool conn_grow_send_room(struct vouch_conn *conn, size_t size, size_t max) {
    const size_t step = (size_t)128 * 1024; /* below, the system's default will do */
    size_t room = (size + size / 4 + step - 1) / step * step;
    if (room > max)
        room = max;
    if (conn->send_room == 0)
        conn->send_room = conn_send_room(conn);
    if (room <= conn->send_room || room < step)
        return false;
    conn->send_room = room;
    int value = (int)(room / 2);
    return setsockopt(conn->fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)) == 0;
}

int conn_poll(struct vouch_conn *conn, short events, int64_t deadline) {
    struct pollfd entry = {.fd = conn->fd, .events = events};
    for (;;) {
        int wait = deadline == VOUCH_FOREVER ? -1 : clock_poll_timeout(vouch_now(), deadline);
        int ready = poll(&entry, 1, wait);
        if (ready > 0 || conn_is_closed(conn))
            return 0;
        if (ready == 0 && wait < INT_MAX)
            return -ETIMEDOUT;
        if (ready < 0 && errno != EINTR)
            return -errno;
    }
}

/* One transfer, waiting until `deadline`. EAGAIN comes without one too, from a descriptor that
 * somebody made non-blocking. */
ssize_t conn_receive(struct vouch_conn *conn, struct msghdr *message, int64_t deadline) {
    int flags = deadline == VOUCH_FOREVER ? 0 : MSG_DONTWAIT;
    for (;;) {
        ssize_t taken = conn_recvmsg(conn, message, flags);
        if (taken > 0)
            return taken;
        if (taken == 0) /* an empty packet is to be looked at: descriptors may have come with it */
            return conn_is_closed(conn) && message->msg_controllen == 0 ? -ESHUTDOWN : 0;
        if (errno == EINTR)
            continue;
        if (!conn_would_block(errno))
            return conn_error(conn, errno);
        int result = conn_poll(conn, POLLIN, deadline);
        if (result < 0)
            return result;
    }
}

ssize_t conn_send(struct vouch_conn *conn, const struct msghdr *message, int64_t deadline) {
    int flags = os_send_flags | (deadline == VOUCH_FOREVER ? 0 : MSG_DONTWAIT);
    for (;;) {
        ssize_t sent = sendmsg(conn->fd, message, flags);
        if (sent >= 0)
            return sent;
        if (errno == EINTR)
            continue;
        if (!conn_would_block(errno))
            return conn_error(conn, errno);
        int result = conn_poll(conn, POLLOUT, deadline);
        if (result < 0)
            return result;
    }
}

/* As conn_recv_now, but a packet of zero bytes is not an end. */
static ssize_t conn_discard_once(struct vouch_conn *conn, void *bytes, size_t size) {
    if (conn->link != VOUCH_LINK_SEQPACKET)
        return conn_recv_now(conn, bytes, size);
    struct vouch_packet packet;
    int result = conn_take_packet_now(conn, bytes, size, &packet);
    return result == -EMSGSIZE ? 1 : result;
}

/* Throws away what has come, within bounds. -ECONNRESET when the peer has closed, even only its
 * sending side. */
static int conn_discard(struct vouch_conn *conn) {
    uint8_t bytes[CONN_DISCARD_SIZE];
    for (int i = 0; i < CONN_DISCARD_ROUNDS; i++) {
        ssize_t taken = conn_discard_once(conn, bytes, sizeof(bytes));
        if (taken == -EAGAIN)
            return 0;
        if (taken <= 0)
            return taken == 0 ? -ECONNRESET : (int)taken;
    }
    return 0;
}

/* A call that begins now: not after the deadline, and not longer than the timeout. */
static int conn_call_deadline(struct vouch_conn *conn, enum conn_side side, int64_t *ret_deadline) {
    int64_t deadline = atomic_load_explicit(&conn->deadline[side], memory_order_relaxed);
    int64_t timeout = atomic_load_explicit(&conn->timeout[side], memory_order_relaxed);
    if (deadline != VOUCH_FOREVER || timeout != VOUCH_FOREVER) {
        int64_t now = vouch_now();
        if (deadline < now)
            return -ETIMEDOUT;
        int64_t latest = clock_add(now, timeout);
        if (latest < deadline)
            deadline = latest;
    }
    *ret_deadline = deadline;
    return 0;
}

static int conn_begin_any(struct vouch_conn *conn, bool packets, enum vouch_direction direction,
                          int64_t *ret_deadline) {
    if (!conn_is_ours(conn))
        return -ECHILD;
    if (packets != (conn->link == VOUCH_LINK_SEQPACKET))
        return -EOPNOTSUPP;
    if (conn_is_closed(conn))
        return -ESHUTDOWN;
    bool reading = direction == VOUCH_READ;
    if (atomic_load_explicit(&conn->write_only, memory_order_relaxed)) {
        int result = reading ? -EPERM : conn_discard(conn);
        if (result < 0)
            return result;
    }
    return ret_deadline ? conn_call_deadline(conn, reading ? CONN_READ : CONN_WRITE, ret_deadline)
                        : 0;
}

int conn_begin(struct vouch_conn *conn, enum vouch_direction direction, int64_t *ret_deadline) {
    return conn_begin_any(conn, false, direction, ret_deadline);
}

int conn_begin_packet(struct vouch_conn *conn, enum vouch_direction direction,
                      int64_t *ret_deadline) {
    return conn_begin_any(conn, true, direction, ret_deadline);
}

static ssize_t conn_receive_bytes(struct vouch_conn *conn, void *buffer, size_t size,
                                  int64_t deadline) {
    struct iovec piece = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    return conn_receive(conn, &message, deadline);
}

ssize_t conn_read_until(struct vouch_conn *conn, void *buffer, size_t size, int64_t limit) {
    int64_t deadline;
    int result = conn_begin(conn, VOUCH_READ, &deadline);
    if (result < 0 || size == 0)
        return result;
    if (limit != VOUCH_FOREVER && limit < vouch_now())
        return -ETIMEDOUT;
    return conn_receive_bytes(conn, buffer, size, limit < deadline ? limit : deadline);
}

ssize_t vouch_conn_read(struct vouch_conn *conn, void *buffer, size_t size) {
    return conn_read_until(conn, buffer, size, VOUCH_FOREVER);
}

int vouch_conn_read_exactly(struct vouch_conn *conn, void *buffer, size_t size) {
    int64_t deadline;
    int result = conn_begin(conn, VOUCH_READ, &deadline);
    if (result < 0)
        return result;
    uint8_t *to = buffer;
    while (size > 0) {
        ssize_t taken = conn_receive_bytes(conn, to, size, deadline);
        if (taken <= 0)
            return taken == 0 ? -ECONNRESET : (int)taken;
        to += taken;
        size -= (size_t)taken;
    }
    return 0;
}

int vouch_conn_read_byte(struct vouch_conn *conn, uint8_t *ret_byte) {
    return (int)vouch_conn_read(conn, ret_byte, 1);
}

void conn_advance(struct iovec **pieces, int *count, size_t size) {
    while (*count > 0 && size >= (*pieces)->iov_len) {
        size -= (*pieces)->iov_len;
        (*pieces)++;
        (*count)--;
    }
    if (size > 0) {
        (*pieces)->iov_base = (uint8_t *)(*pieces)->iov_base + size;
        (*pieces)->iov_len -= size;
    }
}

int conn_send_all(struct vouch_conn *conn, struct iovec *pieces, int count, int64_t deadline,
                  size_t *written) {
    conn_advance(&pieces, &count, 0);
    while (count > 0) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
        ssize_t sent = conn_send(conn, &message, deadline);
        if (sent < 0)
            return (int)sent;
        *written += (size_t)sent;
        conn_advance(&pieces, &count, (size_t)sent);
    }
    return 0;
}

int conn_writev_counted(struct vouch_conn *conn, const struct iovec *pieces, int count,
                        size_t *ret_written) {
    *ret_written = 0;
    if (count < 1 || count > CONN_PIECES_MAX)
        return -EINVAL;
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        if (pieces[i].iov_len > SSIZE_MAX - total)
            return -EINVAL;
        total += pieces[i].iov_len;
    }
    int64_t deadline;
    int result = conn_begin(conn, VOUCH_WRITE, &deadline);
    if (result < 0)
        return result;
    struct iovec rest[CONN_PIECES_MAX];
    memcpy(rest, pieces, (size_t)count * sizeof(rest[0]));
    return conn_send_all(conn, rest, count, deadline, ret_written);
}

int vouch_conn_writev(struct vouch_conn *conn, const struct iovec *pieces, int count) {
    size_t written;
    return conn_writev_counted(conn, pieces, count, &written);
}

int vouch_conn_write(struct vouch_conn *conn, const void *data, size_t size) {
    struct iovec piece = {.iov_base = (void *)data, .iov_len = size};
    return vouch_conn_writev(conn, &piece, 1);
}

int vouch_conn_wait_closed(struct vouch_conn *conn, int64_t deadline) {
    if (!conn_is_ours(conn))
        return -ECHILD;
    if (!atomic_load(&conn->write_only))
        return -EINVAL;
    for (;;) {
        int result = conn_discard(conn);
        if (result == -ECONNRESET)
            return 0;
        if (result < 0)
            return result;
        /* Looked at here as well as in poll, which a flood would always find ready. */
        if (deadline != VOUCH_FOREVER && deadline <= vouch_now())
            return -ETIMEDOUT;
        result = conn_poll(conn, POLLIN, deadline);
        if (result < 0)
            return result;
    }
}
