/* SPDX-License-Identifier: MIT */
/* The part of os.h that is the same everywhere. */
#include "lib/os.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int os_cloexec(int fd) {
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0)
        return -errno;
    if (flags & FD_CLOEXEC)
        return 0;
    return fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0 ? -errno : 0;
}

int os_set_nonblocking(int fd, bool on) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return wanted != flags && fcntl(fd, F_SETFL, wanted) < 0 ? -errno : 0;
}

void os_wake_deinit(struct os_wake *wake) {
    if (wake->read_fd >= 0)
        close(wake->read_fd);
    if (wake->write_fd >= 0 && wake->write_fd != wake->read_fd)
        close(wake->write_fd);
    *wake = OS_WAKE_NONE;
}

void os_wake_raise(const struct os_wake *wake) {
    int saved_errno = errno; /* a signal handler must leave it alone */
    uint64_t one = 1;        /* what an eventfd takes; a pipe takes any bytes */
    ssize_t written;
    do
        written = write(wake->write_fd, &one, sizeof(one));
    while (written < 0 && errno == EINTR);
    /* EAGAIN: full, so it is raised already. */
    errno = saved_errno;
}

void os_wake_clear(const struct os_wake *wake) {
    /* An eventfd answers with 8 bytes and is empty; a pipe is empty when it answers with less than
     * was asked for. */
    uint8_t bytes[256];
    ssize_t taken;
    do
        taken = read(wake->read_fd, bytes, sizeof(bytes));
    while (taken == (ssize_t)sizeof(bytes) || (taken < 0 && errno == EINTR));
}

unsigned os_cores_online(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : (unsigned)cores;
}
