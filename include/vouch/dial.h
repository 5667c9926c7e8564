/* SPDX-License-Identifier: MIT */
/*
 * Dial: connect to a socket, and know whose it is.
 *
 * Two checks. Before connecting, the socket file: not a symbolic link, a socket, owner, group and
 * mode as told; on Linux the inode that was checked is the one that is connected to, whatever
 * happens to the name meanwhile. After connecting, always: the server's credentials. The first
 * protects from mistakes, the second from squatters.
 */
#ifndef VOUCH_DIAL_H
#define VOUCH_DIAL_H

#include <sys/types.h>
#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/error.h>
#include <vouch/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VOUCH_DIAL_MODES_MAX 16

struct vouch_dial_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */

    /* Which server credentials are acceptable; NULL: same uid as we, and root. */
    const struct vouch_policy *server;
    /* Expect the socket file to belong to `file_uid` / `file_gid`. */
    bool check_file_uid, check_file_gid;
    uid_t file_uid;
    gid_t file_gid;
    /* Accepted permission bits (07777) of the socket file, at most VOUCH_DIAL_MODES_MAX;
     * NULL: any. */
    const mode_t *file_modes;
    size_t file_mode_count;
    /* For the connection to be made, ns; 0: 10 s; VOUCH_FOREVER. */
    int64_t timeout;
    /* "@name": whoever came first owns it; only the credentials check protects. */
    bool allow_abstract_name_that_any_user_can_take;
    bool pass_descriptors; /* as in struct vouch_conn_options */
    /* VOUCH_LINK_STREAM or VOUCH_LINK_SEQPACKET, as the server listens. */
    enum vouch_link link;
};

/* Connects to `address`, a path or "@name". `options` and `ret_error` may be NULL. Waits at most
 * `timeout` for a place in the server's backlog. Returns 0; -ENOENT, -ECONNREFUSED (nobody
 * listens), -EACCES, -EPROTOTYPE (the server's is another kind of link), -EPROTONOSUPPORT
 * (this system has no SOCK_SEQPACKET), -ETIMEDOUT, -EINVAL, -ENOMEM, VOUCH_E_PATH_EMPTY,
 * VOUCH_E_PATH_TOO_LONG, VOUCH_E_SYMLINK, VOUCH_E_NOT_SOCKET, VOUCH_E_FILE_OWNER,
 * VOUCH_E_FILE_GROUP, VOUCH_E_FILE_MODE, VOUCH_E_FILE_SWAPPED, VOUCH_E_PEER_REFUSED,
 * VOUCH_E_PEER_UNKNOWN, VOUCH_E_ABSTRACT_OFF, other errnos. The message says what was found and
 * what was expected. Any thread. */
VOUCH_API VOUCH_MUST_CHECK int vouch_dial(const char *address,
                                          const struct vouch_dial_options *options,
                                          struct vouch_conn **ret_conn,
                                          struct vouch_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif
