/* SPDX-License-Identifier: MIT */
/* What the layers above need of a connection beyond <vouch/conn.h>: I/O that never waits, and a hook for its end. */
#ifndef VOUCH_LIB_CONN_H
#define VOUCH_LIB_CONN_H

#include <sys/uio.h>
#include <vouch/conn.h>

/* Takes over `fd` and `identity` (both on success only). `on_free` (may be NULL) runs once, when the connection is freed: the
 * listener's count of live connections hangs on it. */
int conn_new(int fd, const struct vouch_identity *identity, const struct vouch_conn_options *options, void (*on_free)(void *context),
             void *context, struct vouch_conn **ret_conn) VOUCH_MUST_CHECK;

/* One recvmsg without waiting, no room for control data. > 0 bytes, 0 end of file, -EAGAIN, -ECONNRESET, -ESHUTDOWN. EINTR is
 * retried. */
ssize_t conn_recv_now(struct vouch_conn *conn, void *buffer, size_t size) VOUCH_MUST_CHECK;

/* One sendmsg without waiting: > 0 bytes taken, -EAGAIN, -ECONNRESET (EPIPE too), -ESHUTDOWN. */
ssize_t conn_send_now(struct vouch_conn *conn, const struct iovec *pieces, int count) VOUCH_MUST_CHECK;

/* Waits with poll(2) for `events` (POLLIN, POLLOUT) until `deadline`: 0 when ready or closed, -ETIMEDOUT. */
int conn_poll(struct vouch_conn *conn, short events, int64_t deadline) VOUCH_MUST_CHECK;

bool conn_is_closed(const struct vouch_conn *conn); /* vouch_conn_close was called */

#endif
