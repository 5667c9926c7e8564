/* SPDX-License-Identifier: MIT */
/*
 * The life of a connection: a connected socket, its peer's identity, deadlines. What goes through
 * it is in conn_io.c, conn_packet.c and conn_fds.c.
 *
 * Closing is two steps. vouch_conn_close raises the flag, then shuts the socket down: that wakes
 * whoever is blocked in the kernel, who then finds the flag. The number of the descriptor is given
 * back only by vouch_conn_free, when nobody can be using it any more. The shutdown also ends the
 * connection for copies of the descriptor that a forked child may have.
 */
#include "lib/conn.h"

#include "lib/mem.h"
#include "lib/options.h"
#include "lib/os.h"

#include <errno.h>
#include <unistd.h>
#include <vouch/error.h>

int conn_new(int fd, enum vouch_link link, const struct vouch_identity *identity,
             const struct vouch_conn_options *options, void (*on_free)(void *context),
             void *context, struct vouch_conn **ret_conn) {
    struct vouch_conn_options set = {0};
    OPTIONS_READ(set, options);
    struct vouch_conn *conn = mem_zalloc(set.allocator, sizeof(*conn));
    if (!conn)
        return -ENOMEM;
    conn->allocator = set.allocator;
    conn->peer = identity;
    conn->epoch = os_process_epoch();
    conn->fd = fd;
    conn->link = link;
    conn->pass_descriptors = set.pass_descriptors;
    conn->on_free = on_free;
    conn->context = context;
    vouch_conn_set_deadline(conn, VOUCH_BOTH, VOUCH_FOREVER);
    for (int i = 0; i < CONN_SIDES; i++)
        atomic_init(&conn->timeout[i], VOUCH_FOREVER);
    if (!set.pass_descriptors)
        os_refuse_descriptors(fd);
    *ret_conn = conn;
    return 0;
}

static int conn_check_fd(int fd, enum vouch_link *ret_link) {
    int type = 0;
    socklen_t size = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return errno == ENOTSOCK ? VOUCH_E_NOT_SOCKET : -errno;
    struct sockaddr_storage name = {0};
    size = sizeof(name);
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        return -errno;
    if ((type != SOCK_STREAM && type != SOCK_SEQPACKET) || name.ss_family != AF_UNIX)
        return -EINVAL;
    *ret_link = type == SOCK_STREAM ? VOUCH_LINK_STREAM : VOUCH_LINK_SEQPACKET;
    size = sizeof(name);
    return getpeername(fd, (struct sockaddr *)&name, &size) < 0 ? -errno : 0;
}

/* What a descriptor from elsewhere may lack. */
static int conn_adopt_fd(int fd) {
    int result = os_cloexec(fd);
    if (result == 0)
        result = os_set_nonblocking(fd, false);
    return result == 0 ? os_nosigpipe(fd) : result;
}

int vouch_conn_from_fd(int fd, const struct vouch_conn_options *options,
                       struct vouch_conn **ret_conn) {
    struct vouch_conn_options set = {0};
    OPTIONS_READ(set, options);
    enum vouch_link link = VOUCH_LINK_STREAM;
    int result = conn_check_fd(fd, &link);
    if (result == 0)
        result = conn_adopt_fd(fd);
    if (result < 0)
        return result;
    const struct vouch_identity *peer;
    result = vouch_identity_of_peer(fd, set.allocator, &peer);
    if (result < 0)
        return result;
    result = conn_new(fd, link, peer, options, NULL, NULL, ret_conn);
    if (result < 0)
        vouch_identity_unref(peer);
    return result;
}

int vouch_conn_pair_of(enum vouch_link link, const struct vouch_conn_options *options,
                       struct vouch_conn *ret_conns[2]) {
    int fds[2];
    if (link != VOUCH_LINK_STREAM && link != VOUCH_LINK_SEQPACKET)
        return -EINVAL;
    int result = os_socketpair(link == VOUCH_LINK_STREAM ? SOCK_STREAM : SOCK_SEQPACKET, fds);
    if (result < 0)
        return result;
    struct vouch_conn *first, *second;
    result = vouch_conn_from_fd(fds[0], options, &first);
    if (result < 0) {
        close(fds[0]);
        close(fds[1]);
        return result;
    }
    result = vouch_conn_from_fd(fds[1], options, &second);
    if (result < 0) {
        close(fds[1]);
        vouch_conn_free(first);
        return result;
    }
    ret_conns[0] = first;
    ret_conns[1] = second;
    return 0;
}

int vouch_conn_pair(const struct vouch_conn_options *options, struct vouch_conn *ret_conns[2]) {
    return vouch_conn_pair_of(VOUCH_LINK_STREAM, options, ret_conns);
}

enum vouch_link vouch_conn_get_link(const struct vouch_conn *conn) {
    return conn->link;
}

bool conn_is_ours(const struct vouch_conn *conn) {
    return conn->epoch == os_process_epoch();
}

bool conn_is_closed(const struct vouch_conn *conn) {
    return atomic_load_explicit(&conn->closed, memory_order_acquire);
}

void vouch_conn_close(struct vouch_conn *conn) {
    if (!conn || !conn_is_ours(conn) || atomic_exchange(&conn->closed, true))
        return;
    (void)shutdown(conn->fd, SHUT_RDWR);
}

void vouch_conn_free(struct vouch_conn *conn) {
    if (!conn)
        return;
    bool ours = conn_is_ours(conn);
    vouch_conn_close(conn);
    close(conn->fd);
    vouch_identity_unref(conn->peer);
    /* In a forked child the hook's context, say a listener's count, belongs to the parent's
     * threads. */
    if (ours && conn->on_free)
        conn->on_free(conn->context);
    mem_free(conn->allocator, conn, sizeof(*conn));
}

const struct vouch_identity *vouch_conn_get_peer(const struct vouch_conn *conn) {
    return conn->peer;
}

int vouch_conn_get_fd(const struct vouch_conn *conn) {
    return conn->fd;
}

static void conn_set_times(_Atomic int64_t times[CONN_SIDES], enum vouch_direction direction,
                           int64_t time) {
    if (direction & VOUCH_READ)
        atomic_store_explicit(&times[CONN_READ], time, memory_order_relaxed);
    if (direction & VOUCH_WRITE)
        atomic_store_explicit(&times[CONN_WRITE], time, memory_order_relaxed);
}

void vouch_conn_set_deadline(struct vouch_conn *conn, enum vouch_direction direction,
                             int64_t deadline) {
    conn_set_times(conn->deadline, direction, deadline);
}

int vouch_conn_set_timeout(struct vouch_conn *conn, enum vouch_direction direction,
                           int64_t timeout) {
    if (timeout < 0)
        return -EINVAL;
    conn_set_times(conn->timeout, direction, timeout);
    return 0;
}

void vouch_conn_set_write_only(struct vouch_conn *conn) {
    atomic_store(&conn->write_only, true);
}

int vouch_conn_shutdown_write(struct vouch_conn *conn) {
    if (!conn_is_ours(conn))
        return -ECHILD;
    if (conn_is_closed(conn))
        return -ESHUTDOWN;
    return shutdown(conn->fd, SHUT_WR) < 0 ? conn_error(conn, errno) : 0;
}
