/* SPDX-License-Identifier: MIT */
/*
 * Packets through a connection (SOCK_SEQPACKET).
 *
 * The kernel keeps the bounds: one sendmsg is one packet, one recvmsg takes one, and what finds no
 * room is thrown away, so the real length is asked for. A packet of zero bytes and the end of file
 * are both a recvmsg that returns 0; what tells them apart is control data that comes with every
 * packet (os_mark_packets). It is asked for when the first packet is received and not before: the
 * layers above that have no use for empty packets are spared it.
 */
#include "lib/conn.h"
#include "lib/os.h"
#include "lib/socket.h"

#include <errno.h>
#include <stdalign.h>

int conn_check_packet(size_t size) {
    if (size == 0 && !os_marks_packets)
        return -EOPNOTSUPP;
    return size > VOUCH_PACKET_SIZE_BOUND ? -EMSGSIZE : 0;
}

static int packet_send(struct vouch_conn *conn, const void *data, size_t size, bool waiting) {
    int64_t deadline;
    int result = conn_begin_packet(conn, VOUCH_WRITE, waiting ? &deadline : NULL);
    if (result == 0)
        result = conn_check_packet(size);
    if (result < 0)
        return result;
    struct iovec piece = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t sent = waiting ? conn_send(conn, &message, deadline) : conn_send_now(conn, &piece, 1);
    return sent < 0 ? (int)sent : 0;
}

int vouch_conn_send_packet(struct vouch_conn *conn, const void *data, size_t size) {
    return packet_send(conn, data, size, true);
}

int vouch_conn_try_send_packet(struct vouch_conn *conn, const void *data, size_t size) {
    return packet_send(conn, data, size, false);
}

/* Where empty packets can't be told, they are taken for the end. */
static int packet_mark(struct vouch_conn *conn) {
    if (!os_marks_packets || atomic_load_explicit(&conn->marks, memory_order_relaxed))
        return 0;
    int result = os_mark_packets(conn->fd);
    if (result == 0)
        atomic_store_explicit(&conn->marks, true, memory_order_relaxed);
    return result;
}

int conn_take_packet(struct vouch_conn *conn, struct msghdr *message, const int64_t *deadline,
                     struct vouch_packet *ret_packet) {
    int result = packet_mark(conn);
    if (result < 0)
        return result;
    size_t size = message->msg_iov->iov_len;
    ssize_t taken =
        deadline ? conn_receive(conn, message, *deadline) : conn_receive_now(conn, message);
    if (taken < 0)
        return (int)taken;
    if (taken == 0 && !os_packet_is_marked(message))
        return 0;
    ret_packet->size = (size_t)taken;
    ret_packet->stored = ret_packet->size < size ? ret_packet->size : size;
    return ret_packet->size > size ? -EMSGSIZE : 1;
}

static int packet_take(struct vouch_conn *conn, void *buffer, size_t size, const int64_t *deadline,
                       struct vouch_packet *ret_packet) {
    alignas(struct cmsghdr) char control[OS_PACKET_CONTROL_MAX];
    struct iovec piece = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = os_packet_control};
    return conn_take_packet(conn, &message, deadline, ret_packet);
}

int conn_take_packet_now(struct vouch_conn *conn, void *buffer, size_t size,
                         struct vouch_packet *ret_packet) {
    return packet_take(conn, buffer, size, NULL, ret_packet);
}

int vouch_conn_recv_packet(struct vouch_conn *conn, void *buffer, size_t size,
                           struct vouch_packet *ret_packet) {
    int64_t deadline;
    int result = conn_begin_packet(conn, VOUCH_READ, &deadline);
    return result < 0 ? result : packet_take(conn, buffer, size, &deadline, ret_packet);
}

int vouch_conn_try_recv_packet(struct vouch_conn *conn, void *buffer, size_t size,
                               struct vouch_packet *ret_packet) {
    int result = conn_begin_packet(conn, VOUCH_READ, NULL);
    return result < 0 ? result : packet_take(conn, buffer, size, NULL, ret_packet);
}

size_t conn_packet_max(const struct vouch_conn *conn) {
    return socket_packet_max(conn->fd);
}

size_t vouch_conn_get_packet_max(const struct vouch_conn *conn) {
    return conn->link == VOUCH_LINK_SEQPACKET ? conn_packet_max(conn) : 0;
}

int vouch_conn_raise_packet_max(struct vouch_conn *conn, size_t size, size_t *ret_max) {
    if (ret_max)
        *ret_max = 0;
    int result = conn_begin_packet(conn, VOUCH_WRITE, NULL);
    if (result < 0)
        return result;
    size_t max = socket_raise_packet_max(conn->fd, size);
    if (ret_max)
        *ret_max = max;
    return max < size ? -EMSGSIZE : 0;
}
