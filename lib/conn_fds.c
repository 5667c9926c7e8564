/* SPDX-License-Identifier: MIT */
/*
 * Passing descriptors over a connection (SCM_RIGHTS, unix(7)).
 *
 * The kernel attaches descriptors to the first byte of a sendmsg, and a recvmsg ends at such a
 * byte's message; with packets they belong to the packet. What finds no room in the control buffer
 * is dropped by the kernel, which then says MSG_CTRUNC: bytes and descriptors do not match any
 * more, so none is handed out.
 */
#include "lib/conn.h"
#include "lib/os.h"

#include <errno.h>
#include <limits.h>
#include <stdalign.h>
#include <string.h>
#include <unistd.h>

#define FDS_KERNEL_MAX 253 /* SCM_MAX_FD: more never come in one message */

/* ---- sending ---- */

struct fds_control {
    alignas(struct cmsghdr) char bytes[CMSG_SPACE(VOUCH_FDS_MAX * sizeof(int))];
};

static bool fds_count_valid(size_t count) {
    return count > 0 && count <= VOUCH_FDS_MAX;
}

static void fds_attach(struct msghdr *message, struct fds_control *control, const int *fds,
                       size_t count) {
    *control = (struct fds_control){0};
    message->msg_control = control->bytes;
    message->msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
}

/* A bad one is one of the caller's: ours is open. */
static int fds_error(ssize_t error) {
    return error == -EBADF ? -EINVAL : (int)error;
}

int vouch_conn_send_fds(struct vouch_conn *conn, const void *data, size_t size, const int *fds,
                        size_t fd_count) {
    if (size == 0 || size > SSIZE_MAX || !fds_count_valid(fd_count))
        return -EINVAL;
    int64_t deadline;
    int result = conn_begin(conn, VOUCH_WRITE, &deadline);
    if (result < 0)
        return result;
    if (!conn->pass_descriptors)
        return -EPERM;

    struct fds_control control;
    struct iovec piece = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    fds_attach(&message, &control, fds, fd_count);
    ssize_t sent = conn_send(conn, &message, deadline);
    if (sent < 0)
        return fds_error(sent);
    struct iovec *rest = &piece;
    int count = 1;
    size_t written = (size_t)sent;
    conn_advance(&rest, &count, written);
    return conn_send_all(conn, rest, count, deadline, &written);
}

int vouch_conn_send_packet_fds(struct vouch_conn *conn, const void *data, size_t size,
                               const int *fds, size_t fd_count) {
    if (!fds_count_valid(fd_count))
        return -EINVAL;
    int64_t deadline;
    int result = conn_begin_packet(conn, VOUCH_WRITE, &deadline);
    if (result == 0)
        result = conn->pass_descriptors ? conn_check_packet(size) : -EPERM;
    if (result < 0)
        return result;
    struct fds_control control;
    struct iovec piece = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    fds_attach(&message, &control, fds, fd_count);
    ssize_t sent = conn_send(conn, &message, deadline);
    return sent < 0 ? fds_error(sent) : 0;
}

/* ---- receiving ---- */

static void fds_close(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

/* Collects the descriptors of a received message, up to `room`; returns how many came at all. Those
 * over `room` are closed. */
static size_t fds_collect(struct msghdr *message, int *ret_fds, size_t room) {
    size_t count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++, count++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
            if (count < room)
                ret_fds[count] = fd;
            else
                close(fd);
        }
    }
    return count;
}

/* All that came with a message, or none: 0, -EMSGSIZE when there is no room for all. */
static int fds_take(struct msghdr *message, int *ret_fds, size_t room, size_t *ret_count) {
    size_t came = fds_collect(message, ret_fds, room);
    size_t kept = came < room ? came : room;
    int result = came > room || message->msg_flags & MSG_CTRUNC ? -EMSGSIZE : 0;
    for (size_t i = 0; i < kept && result == 0; i++)
        result = os_cloexec(ret_fds[i]); /* where MSG_CMSG_CLOEXEC does not exist */
    if (result < 0)
        fds_close(ret_fds, kept);
    else
        *ret_count = kept;
    return result;
}

/* Exactly the room for so many: CMSG_SPACE would let the kernel use its padding for one more. */
static size_t fds_room(size_t count) {
    return CMSG_LEN(count * sizeof(int));
}

ssize_t vouch_conn_recv_fds(struct vouch_conn *conn, void *buffer, size_t size, int *ret_fds,
                            size_t fd_room, size_t *ret_fd_count) {
    *ret_fd_count = 0;
    int64_t deadline;
    int result = conn_begin(conn, VOUCH_READ, &deadline);
    if (result < 0)
        return result;
    if (!conn->pass_descriptors)
        return -EPERM;
    if (size == 0)
        return 0;
    if (fd_room > FDS_KERNEL_MAX)
        fd_room = FDS_KERNEL_MAX;

    alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_KERNEL_MAX * sizeof(int))];
    struct iovec piece = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = fds_room(fd_room)};
    ssize_t taken = conn_receive(conn, &message, deadline);
    if (taken < 0)
        return taken;
    result = fds_take(&message, ret_fds, fd_room, ret_fd_count);
    return result < 0 ? result : taken;
}

int vouch_conn_recv_packet_fds(struct vouch_conn *conn, void *buffer, size_t size,
                               struct vouch_packet *ret_packet, int *ret_fds, size_t fd_room,
                               size_t *ret_fd_count) {
    *ret_fd_count = 0;
    int64_t deadline;
    int result = conn_begin_packet(conn, VOUCH_READ, &deadline);
    if (result < 0)
        return result;
    if (!conn->pass_descriptors)
        return -EPERM;
    if (fd_room > FDS_KERNEL_MAX)
        fd_room = FDS_KERNEL_MAX;

    alignas(struct cmsghdr) char
        control[OS_PACKET_CONTROL_MAX + CMSG_SPACE(FDS_KERNEL_MAX * sizeof(int))];
    struct iovec piece = {.iov_base = buffer, .iov_len = size};
    /* What tells the packet from the end comes first (scm_recv in the kernel). */
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = os_packet_control + fds_room(fd_room)};
    result = conn_take_packet(conn, &message, &deadline, ret_packet);
    if (result < 0 && result != -EMSGSIZE)
        return result;
    if (result != 1) { /* an empty packet that can't be told from the end may have some too */
        (void)fds_collect(&message, NULL, 0);
        return result;
    }
    result = fds_take(&message, ret_fds, fd_room, ret_fd_count);
    return result < 0 ? result : 1;
}
