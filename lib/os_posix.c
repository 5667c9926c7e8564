/* SPDX-License-Identifier: MIT */
/*
 * os.h for any POSIX system: close-on-exec by a second call (a fork and exec of another thread in
 * between inherits the descriptor; there is no better way), SO_NOSIGPIPE where MSG_NOSIGNAL is
 * missing, a pipe as wake-up, the pid to detect a fork.
 */
#include "lib/os.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#ifdef MSG_NOSIGNAL
const int os_send_flags = MSG_NOSIGNAL;
#else
const int os_send_flags = 0;
#endif
const int os_recv_flags = 0;
const int os_packet_flags = 0;
const size_t os_packet_control = 0;
const bool os_marks_packets = false;

int os_nosigpipe(int fd) {
#ifdef SO_NOSIGPIPE
    int on = 1;
    /* EINVAL: macOS says so of a socket whose peer is gone already. */
    if (setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on)) < 0 && errno != EINVAL)
        return -errno;
#else
    (void)fd;
#endif
    return 0;
}

/* Makes a descriptor that was just born ours; on failure closes it. Returns it, or a negative
 * errno. */
static int os_adopt(int fd) {
    if (fd < 0)
        return -errno;
    int result = os_cloexec(fd);
    if (result == 0)
        result = os_nosigpipe(fd);
    if (result == 0)
        return fd;
    close(fd);
    return result;
}

int os_socket(int family, int type) {
    return os_adopt(socket(family, type, 0));
}

int os_accept(int fd) {
    int accepted = os_adopt(accept(fd, NULL, NULL));
    if (accepted < 0)
        return accepted;
    int result = os_set_nonblocking(accepted, false); /* BSDs inherit the listener's mode */
    if (result == 0)
        return accepted;
    close(accepted);
    return result;
}

int os_socketpair(int type, int ret_fds[2]) {
    int fds[2];
    if (socketpair(AF_UNIX, type, 0, fds) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        int result = os_adopt(fds[i]);
        if (result < 0) {
            close(fds[1 - i]);
            return result;
        }
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int os_pipe(int ret_fds[2]) {
    int fds[2];
    if (pipe(fds) < 0)
        return -errno;
    int result = os_cloexec(fds[0]);
    if (result == 0)
        result = os_cloexec(fds[1]);
    if (result < 0) {
        close(fds[0]);
        close(fds[1]);
        return result;
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int os_mark_packets(int fd) {
    (void)fd;
    return -EOPNOTSUPP;
}

bool os_packet_is_marked(struct msghdr *message) {
    (void)message;
    return false;
}

/* FreeBSD's SO_REUSEPORT is older and gives all clients to one socket. */
int os_share_port(int fd) {
    int on = 1;
#if defined(SO_REUSEPORT_LB)
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT_LB, &on, sizeof(on)) < 0 ? -errno : 0;
#elif defined(SO_REUSEPORT)
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ? -errno : 0;
#else
    (void)fd, (void)on;
    return -ENOTSUP;
#endif
}

void os_refuse_descriptors(int fd) {
    (void)fd;
}

uint64_t os_process_epoch(void) {
    return (uint64_t)getpid();
}

uid_t os_overflow_uid(void) {
    return (uid_t)-1;
}

int os_wake_init(struct os_wake *wake) {
    int fds[2];
    if (pipe(fds) < 0)
        return -errno;
    struct os_wake made = {fds[0], fds[1]};
    for (int i = 0; i < 2; i++) {
        int result = os_cloexec(fds[i]);
        if (result == 0)
            result = os_set_nonblocking(fds[i], true);
        if (result < 0) {
            os_wake_deinit(&made);
            return result;
        }
    }
    *wake = made;
    return 0;
}

unsigned os_cores(void) {
    return os_cores_online();
}

int os_gather(void) {
    return -ENOTSUP;
}

int os_gather_set(int gather, int fd, short events) {
    (void)gather;
    (void)fd;
    (void)events;
    return -ENOTSUP;
}

void os_gather_remove(int gather, int fd) {
    (void)gather;
    (void)fd;
}
