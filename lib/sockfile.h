/* SPDX-License-Identifier: MIT */
/*
 * Sockfile: a socket's name in the file system.
 *
 * Names can change between looking and connecting. Where the system can name the file behind a
 * descriptor (Linux: /proc/self/fd), the file that was looked at is pinned and connected to,
 * whatever its name means by then; this also lifts sun_path's limit on the length. Elsewhere one
 * looks before and after.
 */
#ifndef VOUCH_LIB_SOCKFILE_H
#define VOUCH_LIB_SOCKFILE_H

#include <sys/stat.h>

#include "lib/address.h"

struct sockfile {
    int directory;    /* borrowed; AT_FDCWD */
    const char *name; /* borrowed; seen from `directory` */
    const char *path; /* borrowed; the same seen from the working directory */
    int pin;          /* -1 where files can't be pinned */
    struct stat status;
};

/* Looks at what is there, without following a symbolic link. 0 (sockfile_close it) or negative
 * errno. */
int sockfile_open(int directory, const char *name, const char *path,
                  struct sockfile *ret_file) VOUCH_MUST_CHECK;
void sockfile_close(struct sockfile *file); /* safe twice */

/* Where to connect(2) to. `*ret_exact`: it leads to the very file that sockfile_open saw; else only
 * to its name. 0 or VOUCH_E_PATH_TOO_LONG. */
int sockfile_sockaddr(const struct sockfile *file, struct address_sockaddr *ret_sockaddr,
                      bool *ret_exact) VOUCH_MUST_CHECK;

/* Whether the name still leads to the file that sockfile_open saw. */
bool sockfile_unchanged(const struct sockfile *file);

/* "a regular file", "a directory", … for messages. */
const char *sockfile_kind(const struct stat *status);

bool sockfile_same(const struct stat *a, const struct stat *b);

/* Where to bind(2) to for a new file `name` in the directory, of which `path` is the name seen from
 * the working directory. 0 or VOUCH_E_PATH_TOO_LONG. */
int sockfile_bind_sockaddr(int directory, const char *path, const char *name,
                           struct address_sockaddr *ret_sockaddr) VOUCH_MUST_CHECK;

/* What differs between systems: sockfile_linux.c, sockfile_posix.c. */

#define SOCKFILE_FD_PATH_MAX 32

extern const int sockfile_open_directory_flags; /* for open(2), enough to look up names in it */
extern const bool sockfile_has_abstract;        /* whether there are abstract names */

/* A descriptor that pins the file, or -1 where there is no such thing (then `*ret_status` alone
 * counts). 0 or negative errno. */
int sockfile_pin(int directory, const char *name, int *ret_pin,
                 struct stat *ret_status) VOUCH_MUST_CHECK;

/* A path that leads to what is open as `fd`. False when there is none, as on Linux without /proc.
 */
bool sockfile_fd_path(int fd, char ret_path[SOCKFILE_FD_PATH_MAX]);

/* rename(2) that fails with -EEXIST when `to` exists and `replace` is off, as far as the system can
 * do that. */
int sockfile_rename(int from_directory, const char *from, int to_directory, const char *to,
                    bool replace) VOUCH_MUST_CHECK;

#endif
