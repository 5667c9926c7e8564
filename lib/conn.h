/* SPDX-License-Identifier: MIT */
/* What the layers above need of a connection beyond <vouch/conn.h>: I/O that never waits, and a
 * hook for its end; and what the connection's own files share. */
#ifndef VOUCH_LIB_CONN_H
#define VOUCH_LIB_CONN_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <vouch/conn.h>

enum conn_side { CONN_READ, CONN_WRITE, CONN_SIDES };

struct vouch_conn {
    const struct vouch_allocator *allocator;
    const struct vouch_identity *peer;
    uint64_t epoch;
    int fd;
    enum vouch_link link;
    bool pass_descriptors;
    atomic_bool marks; /* os_mark_packets was called */
    atomic_bool naps;  /* SO_RCVTIMEO is set: see conn_recv_nap */
    size_t send_room;  /* what conn_grow_send_room has asked for; 0: not looked at yet */
    atomic_bool closed, write_only;
    _Atomic int64_t deadline[CONN_SIDES], timeout[CONN_SIDES];
    void (*on_free)(void *context);
    void *context;
};

/* Takes over `fd`, which is in blocking mode, and `identity` (both on success only); the caller
 * knows what kind of link it is. `on_free` (may
 * be NULL) runs once, when the connection is freed: the listener's count of live connections hangs
 * on it. */
int conn_new(int fd, enum vouch_link link, const struct vouch_identity *identity,
             const struct vouch_conn_options *options, void (*on_free)(void *context),
             void *context, struct vouch_conn **ret_conn) VOUCH_MUST_CHECK;

/* One recvmsg without waiting, no room for control data. > 0 bytes, 0 end of file, -EAGAIN,
 * -ECONNRESET, -ESHUTDOWN. EINTR is retried. Of packets one is taken, and the result is its length:
 * more than `size` when it did not fit (its end is lost), 0 also for a packet of zero bytes. */
ssize_t conn_recv_now(struct vouch_conn *conn, void *buffer, size_t size) VOUCH_MUST_CHECK;

/* One recv that sleeps in the kernel until bytes come, at most for about CONN_NAP: one system call
 * less than poll(2) and recv. Only a close of the connection cuts it short. As conn_recv_now;
 * -EAGAIN also at a signal, or at once where the descriptor can't do that. */
#define CONN_NAP VOUCH_MILLISECONDS(50)
ssize_t conn_recv_nap(struct vouch_conn *conn, void *buffer, size_t size) VOUCH_MUST_CHECK;

/* One sendmsg without waiting: > 0 bytes taken, -EAGAIN, -ECONNRESET (EPIPE too), -ESHUTDOWN. Of
 * packets one is sent, all pieces together, or -EMSGSIZE. */
ssize_t conn_send_now(struct vouch_conn *conn, const struct iovec *pieces,
                      int count) VOUCH_MUST_CHECK;

/* The most bytes that one packet can have now (see vouch_conn_get_packet_max); one system call. */
size_t conn_packet_max(const struct vouch_conn *conn);

/* Has the kernel take about `size` bytes at once, at most `max` (and what the system allows), so
 * that a large message is not sent in a dozen pieces, each of which wakes its reader. False: that
 * was asked for before, or can't be had. By the thread that sends. */
bool conn_grow_send_room(struct vouch_conn *conn, size_t size, size_t max);

/* Waits with poll(2) for `events` (POLLIN, POLLOUT) until `deadline`: 0 when ready or closed,
 * -ETIMEDOUT. */
int conn_poll(struct vouch_conn *conn, short events, int64_t deadline) VOUCH_MUST_CHECK;

/* As vouch_conn_read, but no longer than `limit`, however late the connection's own deadline is. */
ssize_t conn_read_until(struct vouch_conn *conn, void *buffer, size_t size,
                        int64_t limit) VOUCH_MUST_CHECK;

/* As vouch_conn_writev; `ret_written` is always set. */
int conn_writev_counted(struct vouch_conn *conn, const struct iovec *pieces, int count,
                        size_t *ret_written) VOUCH_MUST_CHECK;

/* Moves the beginning of the pieces forward by `size` bytes, which they must have. Pieces that are
 * used up or empty leave the front. */
void conn_advance(struct iovec **pieces, int *count, size_t size);

bool conn_is_ours(const struct vouch_conn *conn);   /* false in a forked child */
bool conn_is_closed(const struct vouch_conn *conn); /* vouch_conn_close was called */

/* After a failed call: its negative errno, or what that means here: -ESHUTDOWN when this side has
 * closed, -ECONNRESET when the peer is gone. */
int conn_error(const struct vouch_conn *conn, int error);

/* The parts that reading and writing are made of, for descriptors too. conn_begin checks
 * that the connection is one of bytes (conn_begin_packet: of packets) and can be used in this
 * direction, and gives the deadline of a call that begins now (NULL: of one that does not wait).
 * conn_receive and conn_send are one recvmsg or sendmsg, waiting until then; the _now ones answer
 * -EAGAIN instead. */
int conn_begin(struct vouch_conn *conn, enum vouch_direction direction,
               int64_t *ret_deadline) VOUCH_MUST_CHECK;
int conn_begin_packet(struct vouch_conn *conn, enum vouch_direction direction,
                      int64_t *ret_deadline) VOUCH_MUST_CHECK;
ssize_t conn_receive(struct vouch_conn *conn, struct msghdr *message,
                     int64_t deadline) VOUCH_MUST_CHECK;
ssize_t conn_receive_now(struct vouch_conn *conn, struct msghdr *message) VOUCH_MUST_CHECK;
ssize_t conn_send(struct vouch_conn *conn, const struct msghdr *message,
                  int64_t deadline) VOUCH_MUST_CHECK;
/* Whether a packet of this size may be sent at all: 0, -EMSGSIZE, -EOPNOTSUPP. */
int conn_check_packet(size_t size) VOUCH_MUST_CHECK;
/* One packet into the one piece of `message`, whose control data has os_packet_control bytes of
 * room at least: as vouch_conn_recv_packet, but nothing is checked first. `deadline` NULL: without
 * waiting. With -EMSGSIZE and results over 0, and with the end, `message` is as recvmsg leaves it.
 */
int conn_take_packet(struct vouch_conn *conn, struct msghdr *message, const int64_t *deadline,
                     struct vouch_packet *ret_packet) VOUCH_MUST_CHECK;
/* The same without waiting, and without control data for the caller. */
int conn_take_packet_now(struct vouch_conn *conn, void *buffer, size_t size,
                         struct vouch_packet *ret_packet) VOUCH_MUST_CHECK;
/* Changes `pieces`; adds to `written`. */
int conn_send_all(struct vouch_conn *conn, struct iovec *pieces, int count, int64_t deadline,
                  size_t *written) VOUCH_MUST_CHECK;

#endif
