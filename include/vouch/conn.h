/* SPDX-License-Identifier: MIT */
/*
 * A connection: an authenticated stream of bytes, or of packets, usable by itself.
 *
 * Which of the two is told by vouch_conn_get_link, and most functions are for one of them: the
 * others answer -EOPNOTSUPP. docs/packets.md compares them.
 *
 * One thread may read while another writes; two readers (or two writers) have to agree among
 * themselves. vouch_conn_close may be called by any thread at any time and wakes a blocked reader
 * and writer; vouch_conn_free only when nobody uses the connection any more. EINTR, short reads and
 * writes, and SIGPIPE never reach the caller.
 */
#ifndef VOUCH_CONN_H
#define VOUCH_CONN_H

#include <sys/uio.h>
#include <vouch/common.h>
#include <vouch/identity.h>
#include <vouch/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_conn;

/* What a connection is made of. */
enum vouch_link {
    VOUCH_LINK_STREAM = 0,    /* UNIX, SOCK_STREAM: bytes */
    VOUCH_LINK_SEQPACKET = 1, /* UNIX, SOCK_SEQPACKET: packets (Linux, FreeBSD) */
    VOUCH_LINK_TCP = 2,       /* bytes, and nobody vouches for who the peer is */
};

/* Most descriptors in one vouch_conn_send_fds; the kernel's own bound is 253 (SCM_MAX_FD). */
#define VOUCH_FDS_MAX 16

struct vouch_conn_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */
    bool pass_descriptors; /* allow vouch_conn_send_fds/recv_fds and their like for packets. Off:
                            * descriptors a peer sends are never received (and are refused by the
                            * kernel where it can, SO_PASSRIGHTS) */
};

/* Makes a connection of a connected UNIX socket from elsewhere (socketpair, accept, inherited), of
 * the kind SOCK_STREAM or SOCK_SEQPACKET, reading the peer's identity. Takes `fd` over on success
 * only; sets its close-on-exec flag. (A client or server on it also sets SO_RCVTIMEO, and
 * vouch_conn_recv_packet SO_PASSCRED, which copies of the descriptor share.) `options` may be NULL.
 * Returns 0, -ENOMEM, VOUCH_E_NOT_SOCKET, -EINVAL (not such a socket), other errnos. Any thread;
 * does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_from_fd(int fd, const struct vouch_conn_options *options,
                                                  struct vouch_conn **ret_conn);

/* Two connections that are each other's peer (socketpair(2)). Both identities are this process.
 * Errors as vouch_conn_from_fd. For a parent and its forked child use socketpair(2) and, after the
 * fork, vouch_conn_from_fd in each: what was made before a fork stays the parent's. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_pair(const struct vouch_conn_options *options,
                                               struct vouch_conn *ret_conns[2]);

/* The same of a kind: VOUCH_LINK_STREAM, or VOUCH_LINK_SEQPACKET where the system has such sockets
 * (else -EPROTONOSUPPORT, as on macOS). -EINVAL for another kind. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_pair_of(enum vouch_link link,
                                                  const struct vouch_conn_options *options,
                                                  struct vouch_conn *ret_conns[2]);

/* What the connection is made of. Any thread; does not block. */
VOUCH_API enum vouch_link vouch_conn_get_link(const struct vouch_conn *conn);

/* ---- bytes: -EOPNOTSUPP on a connection of packets ---- */

/* Reads what is there, at most `size` bytes, waiting for the first. Returns the number of bytes, 0
 * at the peer's end of file, -ETIMEDOUT, -ESHUTDOWN (vouch_conn_close), -ECONNRESET, -EPERM
 * (write-only mode), -ECHILD. `size` 0 returns 0 at once. */
VOUCH_API VOUCH_MUST_CHECK ssize_t vouch_conn_read(struct vouch_conn *conn, void *buffer,
                                                   size_t size);

/* Reads exactly `size` bytes. Returns 0; -ECONNRESET when the peer ends before the first byte or in
 * between; else as vouch_conn_read. After an error the bytes read so far are lost: the stream can't
 * be used for framing any more. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_read_exactly(struct vouch_conn *conn, void *buffer,
                                                       size_t size);

/* Reads one byte: 1, 0 at end of file, or an error as vouch_conn_read. One system call a byte;
 * chunk.h is the fast way to frame. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_read_byte(struct vouch_conn *conn, uint8_t *ret_byte);

/* Writes all of it, waiting for room. Returns 0, -ETIMEDOUT (an unknown part was written),
 * -ESHUTDOWN, -ECONNRESET when the peer is gone, -ECHILD. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_write(struct vouch_conn *conn, const void *data,
                                                size_t size);

/* The same for several pieces, in one system call where the kernel takes them all. `pieces` is not
 * changed. -EINVAL when `count` is not in 1…64 or a length is nonsense. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_writev(struct vouch_conn *conn,
                                                 const struct iovec *pieces, int count);

/* ---- packets: -EOPNOTSUPP on a connection of bytes ---- */

/* Larger packets, and datagrams, are never sent, however large SO_SNDBUF is: Linux wants nearly all
 * of one in one piece of its memory, and has none above 4 MiB. */
#define VOUCH_PACKET_SIZE_BOUND ((size_t)4 << 20)

/* A packet that was received. */
struct vouch_packet {
    size_t size;   /* of the packet, which may be more than the buffer has room for */
    size_t stored; /* bytes of it that are in the buffer */
};

/* Sends `size` bytes as one packet, waiting for room: all of it or nothing. `data` may be NULL when
 * `size` is 0, which is a packet like any other. Returns 0; -EMSGSIZE: larger than
 * vouch_conn_get_packet_max says, nothing was sent; -ETIMEDOUT, -ESHUTDOWN, -ECONNRESET when the
 * peer is gone, -ECHILD, other errnos (-ENOBUFS: the system is short of memory). -EOPNOTSUPP also
 * for `size` 0 on systems other than Linux, whose receivers can't tell such a packet from the end
 * of file. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_send_packet(struct vouch_conn *conn, const void *data,
                                                      size_t size);

/* The same without waiting, whatever the deadlines are: -EAGAIN when there is no room. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_try_send_packet(struct vouch_conn *conn, const void *data,
                                                          size_t size);

/* Takes the next packet, waiting for it. Returns 1 (`ret_packet` and `size` bytes of `buffer` at
 * most are written), 0 at the peer's end of file, or -EMSGSIZE: the packet is larger than `size`.
 * Its beginning is in the buffer, the rest is lost, and `ret_packet` has both sizes; the next call
 * takes the next packet. On systems other than Linux a size that did not fit is told as one more
 * than the room. -ETIMEDOUT, -ESHUTDOWN, -ECONNRESET (the peer went without reading what we sent),
 * -EPERM (write-only mode), -ECHILD. `buffer` may be NULL when `size` is 0. Descriptors that come
 * with a packet are dropped (vouch_conn_recv_packet_fds takes them). */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_recv_packet(struct vouch_conn *conn, void *buffer,
                                                      size_t size, struct vouch_packet *ret_packet);

/* The same without waiting, whatever the deadlines are: -EAGAIN when there is none. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_try_recv_packet(struct vouch_conn *conn, void *buffer,
                                                          size_t size,
                                                          struct vouch_packet *ret_packet);

/* The largest packet that can be sent now, in bytes: on Linux exactly (the sender's SO_SNDBUF less
 * 32, at most VOUCH_PACKET_SIZE_BOUND), elsewhere about. 0 on a connection of bytes. Any thread;
 * does not block. */
VOUCH_API size_t vouch_conn_get_packet_max(const struct vouch_conn *conn);

/* Raises that so that packets of `size` bytes can be sent, as far as the system allows
 * (net.core.wmem_max); nothing changes where they can be already. `ret_max`, which may be NULL, is
 * set in any case, to what holds now (0 on errors but -EMSGSIZE). Returns 0, -EMSGSIZE when that is
 * less than `size`, -ECHILD, -ESHUTDOWN. A packet needs that much memory of the kernel at one time.
 * By the thread that sends. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_raise_packet_max(struct vouch_conn *conn, size_t size,
                                                           size_t *ret_max);

/* ---- both ---- */

enum vouch_direction { VOUCH_READ = 1, VOUCH_WRITE = 2, VOUCH_BOTH = 3 };

/* A deadline (CLOCK_MONOTONIC, see vouch_deadline_in) for all reads, all writes or both;
 * VOUCH_FOREVER, the initial state, for none. It holds for calls that begin afterwards, until it is
 * set again. Any thread; does not block. */
VOUCH_API void vouch_conn_set_deadline(struct vouch_conn *conn, enum vouch_direction direction,
                                       int64_t deadline);

/* A timeout for each single call, counted anew from its beginning; VOUCH_FOREVER, the initial
 * state, for none. Where a deadline is set too, the earlier counts. -EINVAL when `timeout` is
 * negative. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_conn_set_timeout(struct vouch_conn *conn, enum vouch_direction direction, int64_t timeout);

/* Write-only mode, for connections on which the peer never speaks: reads answer -EPERM, what
 * arrives is thrown away, and every write first looks whether the peer has closed (even only its
 * sending side), which then is -ECONNRESET. Can't be undone. */
VOUCH_API void vouch_conn_set_write_only(struct vouch_conn *conn);

/* Waits until the peer is gone, throwing away what it sends: 0 when it is, -ETIMEDOUT at
 * `deadline`, -ESHUTDOWN, -EINVAL when not in write-only mode, -ECHILD. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_wait_closed(struct vouch_conn *conn, int64_t deadline);

/* Ends our sending side (shutdown(2)): the peer reads end of file, we can still read. 0,
 * -ECONNRESET, -ESHUTDOWN, -ECHILD. */
VOUCH_API int vouch_conn_shutdown_write(struct vouch_conn *conn);

/* Ends both directions at once and wakes blocked calls, which answer -ESHUTDOWN. The descriptor
 * stays open until vouch_conn_free. Safe twice, from any thread; does not block. NULL is ignored.
 */
VOUCH_API void vouch_conn_close(struct vouch_conn *conn);

/* Closes and frees. Nobody may be inside another call of it. NULL is ignored. */
VOUCH_API void vouch_conn_free(struct vouch_conn *conn);

/* The peer; never NULL; lives as long as the connection (ref it to keep it longer). */
VOUCH_API const struct vouch_identity *vouch_conn_get_peer(const struct vouch_conn *conn);

/* The descriptor, still owned by the connection. It is in blocking mode and has to stay so. */
VOUCH_API int vouch_conn_get_fd(const struct vouch_conn *conn);

/* ---- descriptors over bytes: -EOPNOTSUPP on a connection of packets ---- */

/* Sends `size` > 0 bytes with `fd_count` descriptors (1…VOUCH_FDS_MAX, which stay the caller's)
 * attached to the first of them. Returns 0, or as vouch_conn_write; -EPERM when pass_descriptors is
 * off here or the peer's system refuses them, -EINVAL, -ETOOMANYREFS when too many are in flight
 * (nothing was sent; try again later). */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_send_fds(struct vouch_conn *conn, const void *data,
                                                   size_t size, const int *fds, size_t fd_count);

/* Reads like vouch_conn_read and takes the descriptors that came with these bytes, at most
 * `fd_room` of them (close-on-exec set; the caller closes them). `ret_fd_count` is always set. When
 * more came than fit, all of them are closed and -EMSGSIZE is returned: the connection should be
 * given up. -EPERM when pass_descriptors is off. */
VOUCH_API VOUCH_MUST_CHECK ssize_t vouch_conn_recv_fds(struct vouch_conn *conn, void *buffer,
                                                       size_t size, int *ret_fds, size_t fd_room,
                                                       size_t *ret_fd_count);

/* ---- descriptors over packets: -EOPNOTSUPP on a connection of bytes ---- */

/* As vouch_conn_send_packet, with `fd_count` descriptors (1…VOUCH_FDS_MAX, which stay the caller's)
 * in the packet. Also -EPERM when pass_descriptors is off here or the peer's system refuses them,
 * -EINVAL, -ETOOMANYREFS when too many are in flight; nothing was sent then. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_send_packet_fds(struct vouch_conn *conn, const void *data,
                                                          size_t size, const int *fds,
                                                          size_t fd_count);

/* As vouch_conn_recv_packet, and takes the descriptors that came with the packet, at most `fd_room`
 * of them (close-on-exec set; the caller closes them). `ret_fd_count` is always set. They are
 * handed out all, with a result of 1, or closed all: -EMSGSIZE when the packet does not fit, as
 * there, or, with `ret_packet->size` not over `size`, when more came than fit or than the process
 * can have open; the packet's bytes are in the buffer then. The next call takes the next packet in
 * any case. -EPERM when pass_descriptors is off. */
VOUCH_API VOUCH_MUST_CHECK int vouch_conn_recv_packet_fds(struct vouch_conn *conn, void *buffer,
                                                          size_t size,
                                                          struct vouch_packet *ret_packet,
                                                          int *ret_fds, size_t fd_room,
                                                          size_t *ret_fd_count);

#ifdef __cplusplus
}
#endif
#endif
