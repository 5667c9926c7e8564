/* SPDX-License-Identifier: MIT */
/* Sockfile with POSIX alone: files can't be pinned, so one looks at the name before and after. */
#include "lib/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

const int sockfile_open_directory_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
const bool sockfile_has_abstract = false;

int sockfile_pin(int directory, const char *name, int *ret_pin, struct stat *ret_status) {
    if (fstatat(directory, name, ret_status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    *ret_pin = -1;
    return 0;
}

bool sockfile_fd_path(int fd, char ret_path[SOCKFILE_FD_PATH_MAX]) {
    (void)fd, (void)ret_path;
    return false;
}

/* Looking first leaves a gap, but one that only our own uid and root can use: nobody else may write
 * in the directory. */
int sockfile_rename(int from_directory, const char *from, int to_directory, const char *to,
                    bool replace) {
    struct stat status;
    if (!replace && fstatat(to_directory, to, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    return renameat(from_directory, from, to_directory, to) < 0 ? -errno : 0;
}
