/* SPDX-License-Identifier: MIT */
/* See sockfile.h. What is the same on all systems. */
#include "lib/sockfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int sockfile_open(int directory, const char *name, const char *path, struct sockfile *ret_file) {
    struct sockfile file = {.directory = directory, .name = name, .path = path, .pin = -1};
    int r = sockfile_pin(directory, name, &file.pin, &file.status);
    if (r == 0)
        *ret_file = file;
    return r;
}

void sockfile_close(struct sockfile *file) {
    if (file->pin >= 0)
        close(file->pin);
    file->pin = -1;
}

int sockfile_sockaddr(const struct sockfile *file, struct address_sockaddr *ret_sockaddr,
                      bool *ret_exact) {
    char fd_path[SOCKFILE_FD_PATH_MAX];
    *ret_exact = file->pin >= 0 && sockfile_fd_path(file->pin, fd_path);
    return address_of_path(*ret_exact ? fd_path : file->path, ret_sockaddr);
}

const char *sockfile_kind(const struct stat *status) {
    switch (status->st_mode & S_IFMT) {
    case S_IFSOCK:
        return "a socket";
    case S_IFREG:
        return "a regular file";
    case S_IFDIR:
        return "a directory";
    case S_IFLNK:
        return "a symbolic link";
    case S_IFIFO:
        return "a named pipe";
    default:
        return "a device";
    }
}

bool sockfile_same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool sockfile_unchanged(const struct sockfile *file) {
    struct stat now;
    return fstatat(file->directory, file->name, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
           sockfile_same(&now, &file->status);
}

int sockfile_bind_sockaddr(int directory, const char *path, const char *name,
                           struct address_sockaddr *ret_sockaddr) {
    char fd_path[SOCKFILE_FD_PATH_MAX];
    if (sockfile_fd_path(directory, fd_path))
        path = fd_path;
    char full[ADDRESS_SUN_MAX + 1];
    int length = snprintf(full, sizeof(full), "%s/%s", path, name);
    if (length < 0 || (size_t)length >= sizeof(full))
        return VOUCH_E_PATH_TOO_LONG;
    return address_of_path(full, ret_sockaddr);
}
