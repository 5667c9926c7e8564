/* SPDX-License-Identifier: MIT */
/*
 * Sockfile on Linux: O_PATH pins a file without opening it, and /proc/self/fd/N then leads to that
 * file and no other. connect(2) and bind(2) go through it like any path.
 */
#include "lib/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

const int sockfile_open_directory_flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
const bool sockfile_has_abstract = true;

int sockfile_pin(int directory, const char *name, int *ret_pin, struct stat *ret_status) {
    int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, ret_status) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    *ret_pin = fd;
    return 0;
}

/* In a chroot without /proc, or with something else there, the path leads nowhere or elsewhere:
 * look. */
bool sockfile_fd_path(int fd, char ret_path[SOCKFILE_FD_PATH_MAX]) {
    struct stat behind_fd, behind_path;
    snprintf(ret_path, SOCKFILE_FD_PATH_MAX, "/proc/self/fd/%d", fd);
    return fstat(fd, &behind_fd) == 0 && stat(ret_path, &behind_path) == 0 &&
           sockfile_same(&behind_fd, &behind_path);
}

/* By number: musl has no renameat2. A file system that does not know the flag says EINVAL. */
int sockfile_rename(int from_directory, const char *from, int to_directory, const char *to,
                    bool replace) {
#ifdef SYS_renameat2
    if (!replace &&
        syscall(SYS_renameat2, from_directory, from, to_directory, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (!replace && errno != EINVAL && errno != ENOSYS)
        return -errno;
#endif
    (void)replace;
    return renameat(from_directory, from, to_directory, to) < 0 ? -errno : 0;
}
