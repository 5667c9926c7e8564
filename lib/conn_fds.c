/* SPDX-License-Identifier: MIT */
/*
 * Passing descriptors over a connection (SCM_RIGHTS, unix(7)).
 *
 * The kernel attaches descriptors to the first byte of a sendmsg, and a recvmsg ends at such a
 * byte's message. What finds no room in the control buffer is dropped by the kernel, which then
 * says MSG_CTRUNC: bytes and descriptors do not match any more.
 */
#include "lib/conn.h"
#include "lib/os.h"

#include <errno.h>
#include <limits.h>
#include <stdalign.h>
#include <string.h>
#include <unistd.h>

#define FDS_KERNEL_MAX 253 /* SCM_MAX_FD: more never come in one message */

static void fds_close(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

int vouch_conn_send_fds(struct vouch_conn *conn, const void *data, size_t size, const int *fds,
                        size_t fd_count) {
    if (size == 0 || size > SSIZE_MAX || fd_count == 0 || fd_count > VOUCH_FDS_MAX)
        return -EINVAL;
    int64_t deadline;
    int result = conn_begin(conn, VOUCH_WRITE, &deadline);
    if (result < 0)
        return result;
    if (!conn->pass_descriptors)
        return -EPERM;

    alignas(struct cmsghdr) char control[CMSG_SPACE(VOUCH_FDS_MAX * sizeof(int))] = {0};
    struct iovec piece = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = CMSG_SPACE(fd_count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));

    ssize_t sent = conn_send(conn, &message, deadline);
    if (sent < 0)
        return sent == -EBADF ? -EINVAL : (int)sent; /* one of the caller's: ours is open */
    struct iovec *rest = &piece;
    int count = 1;
    size_t written = (size_t)sent;
    conn_advance(&rest, &count, written);
    return conn_send_all(conn, rest, count, deadline, &written);
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
    /* Exactly the room for `fd_room`: CMSG_SPACE would let the kernel use its padding for one more.
     */
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = CMSG_LEN(fd_room * sizeof(int))};
    ssize_t taken = conn_receive(conn, &message, deadline);
    if (taken < 0)
        return taken;
    size_t came = fds_collect(&message, ret_fds, fd_room);
    size_t kept = came < fd_room ? came : fd_room;
    result = came > fd_room || message.msg_flags & MSG_CTRUNC ? -EMSGSIZE : 0;
    for (size_t i = 0; i < kept && result == 0; i++)
        result = os_cloexec(ret_fds[i]); /* where MSG_CMSG_CLOEXEC does not exist */
    if (result < 0) {
        fds_close(ret_fds, kept);
        return result;
    }
    *ret_fd_count = kept;
    return taken;
}
