/* SPDX-License-Identifier: MIT */
/* Addresses: what a caller may name a socket, and what the kernel takes. Pure. */
#ifndef VOUCH_LIB_ADDRESS_H
#define VOUCH_LIB_ADDRESS_H

#include <sys/socket.h>
#include <sys/un.h>
#include <vouch/error.h>

/* Longest path, with its NUL, that is tried: PATH_MAX of Linux, more than that of others. */
#define ADDRESS_PATH_MAX 4096

/* Bytes of a path that fit a socket address. Linux takes one more, without NUL; others don't, and
 * it is not worth a difference. */
#define ADDRESS_SUN_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

struct address {
    const char *text;                 /* as given; borrowed */
    bool abstract;                    /* "@name" */
    const char *name;                 /* within `text`: the file's name, or the abstract one */
    char directory[ADDRESS_PATH_MAX]; /* where the file is; "." when the path names none */
};

/* 0; -EINVAL for NULL; VOUCH_E_PATH_EMPTY for "", "@", and paths without a file name ("a/", ".",
 * "a/.."); VOUCH_E_PATH_TOO_LONG for an abstract name that does not fit, or a path that no system
 * takes. */
int address_parse(const char *text, struct address *ret_address,
                  struct vouch_error *error) VOUCH_MUST_CHECK;

struct address_sockaddr {
    struct sockaddr_un un;
    socklen_t length;
};

/* The socket address of a path of at most ADDRESS_SUN_MAX bytes. 0 or VOUCH_E_PATH_TOO_LONG. */
int address_of_path(const char *path, struct address_sockaddr *ret_sockaddr) VOUCH_MUST_CHECK;

/* The socket address of an abstract name that address_parse took. */
void address_of_abstract(const struct address *address, struct address_sockaddr *ret_sockaddr);

#endif
