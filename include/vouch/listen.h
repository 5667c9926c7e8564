/* SPDX-License-Identifier: MIT */
/*
 * Listen: publish a socket without a race, accept whom the policy lets in.
 *
 * A path is published in one step (staging directory, lock file, rename), so that there is no
 * moment with the wrong owner or mode; see docs/security.md. The lock file `<path>.lock` stays:
 * removing a lock file is itself a race.
 */
#ifndef VOUCH_LISTEN_H
#define VOUCH_LISTEN_H

#include <sys/types.h>
#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/error.h>
#include <vouch/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_listener;

struct vouch_listen_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */

    /* Who may connect; NULL: same uid and root. Copied. */
    const struct vouch_policy *policy;
    /* Of the socket file; 0: 0600. Who lacks write permission can't connect (unix(7)). */
    mode_t mode;
    /* Give the file to `uid` / `gid`; else it is ours. Needs the right to chown(2). */
    bool set_uid, set_gid;
    uid_t uid;
    gid_t gid;
    int backlog; /* 0: 512; the kernel caps it at net.core.somaxconn */
    /* Live connections of this listener; 0: min(4096, 3/4 of (RLIMIT_NOFILE - 64)). */
    unsigned max_connections;
    /* 0: 256, but never over half of max_connections for a uid other than ours. */
    unsigned max_connections_per_uid;
    /* Publish though others may rename or delete in the parent directory (/tmp itself, say). */
    bool allow_unsafe_parent;
    /* "@name": no file, no mode, anybody in the network namespace can connect. */
    bool allow_abstract_name_that_any_user_can_reach;
    bool pass_descriptors; /* as in struct vouch_conn_options, for accepted connections */
    /* VOUCH_LINK_STREAM or VOUCH_LINK_SEQPACKET (-EPROTONOSUPPORT where there is no such thing).
     * Clients have to dial with the same. */
    enum vouch_link link;
};

/* Publishes `address` and listens. An address is a path, or "@name" for an abstract socket (Linux).
 * On Linux a path may be longer than sun_path; elsewhere it then fails with VOUCH_E_PATH_TOO_LONG.
 * Replaces a stale socket (nobody listens); refuses anything else that is there. `options` and
 * `ret_error` may be NULL. Returns 0; -EINVAL, -ENOMEM, VOUCH_E_PATH_EMPTY, VOUCH_E_PATH_TOO_LONG,
 * VOUCH_E_ADDRESS_LIVE, VOUCH_E_ADDRESS_LOCKED, VOUCH_E_NOT_SOCKET, VOUCH_E_SYMLINK,
 * VOUCH_E_PARENT_UNSAFE, VOUCH_E_ABSTRACT_OFF, and errnos of the system calls, with the path and
 * the step in the message. Any thread; does file-system work but does not wait for anybody. */
VOUCH_API VOUCH_MUST_CHECK int vouch_listen(const char *address,
                                            const struct vouch_listen_options *options,
                                            struct vouch_listener **ret_listener,
                                            struct vouch_error *ret_error);

/* Takes over a listening UNIX socket (SOCK_STREAM or SOCK_SEQPACKET, which is found out: `link` of
 * the options is ignored) that somebody else made, such as an inherited descriptor. Path options
 * are ignored and nothing is unlinked at close. listen(2) is called on it again, so that clients
 * see this process's credentials, not its maker's (but on OpenBSD and NetBSD, where those of
 * bind(2) stay). Returns 0 (`fd` is ours then, close-on-exec is set), VOUCH_E_NOT_LISTENING,
 * -ENOMEM, errnos. */
VOUCH_API VOUCH_MUST_CHECK int vouch_listen_fd(int fd, const struct vouch_listen_options *options,
                                               struct vouch_listener **ret_listener,
                                               struct vouch_error *ret_error);

/* Takes over a socket from socket activation (sd_listen_fds(3)): the one whose LISTEN_FDNAMES entry
 * is `name`, or with NULL the only one. The environment is not changed. VOUCH_E_NO_ACTIVATION when
 * there is none, or `name` is NULL and there are several; else as vouch_listen_fd. Not safe while
 * another thread changes the environment. */
VOUCH_API VOUCH_MUST_CHECK int vouch_listen_activation(const char *name,
                                                       const struct vouch_listen_options *options,
                                                       struct vouch_listener **ret_listener,
                                                       struct vouch_error *ret_error);

/* Waits until `deadline` (VOUCH_FOREVER) for a client that the policy and the limits admit; others
 * are closed and counted. Survives every passing error of accept(2); out of descriptors it sheds
 * load, at most 100 attempts a second. Returns 0, -ETIMEDOUT, -ESHUTDOWN (vouch_listener_close),
 * -ECHILD. One thread at a time. */
VOUCH_API VOUCH_MUST_CHECK int vouch_accept(struct vouch_listener *listener, int64_t deadline,
                                            struct vouch_conn **ret_conn);

/* Stops listening, unlinks the socket file if it is still the one we made, releases the lock, wakes
 * vouch_accept. Connections that were accepted live on. Safe twice, any thread, does not block.
 * NULL is ignored. */
VOUCH_API void vouch_listener_close(struct vouch_listener *listener);

/* Closes and frees; nobody may be in vouch_accept. Accepted connections may outlive it. NULL is
 * ignored. */
VOUCH_API void vouch_listener_free(struct vouch_listener *listener);

/* The listening descriptor (owned by the listener; -1 once closed) for a poll loop of one's own. */
VOUCH_API int vouch_listener_get_fd(const struct vouch_listener *listener);

/* The address as it was given, "host:port" for TCP; "" for a taken-over descriptor. Lives as long
 * as the listener. */
VOUCH_API const char *vouch_listener_get_address(const struct vouch_listener *listener);

struct vouch_listener_stats {
    uint64_t accepted;            /* connections handed out */
    uint64_t refused_policy;      /* closed because the policy denies them */
    uint64_t refused_unknown;     /* closed because their credentials could not be read */
    uint64_t refused_uid_limit;   /* closed because their uid has its share already */
    uint64_t refused_total_limit; /* closed because the listener is full */
    uint64_t shed;                /* closed for want of descriptors or memory */
    uint64_t errors;              /* failed accept(2) calls of all kinds */
    uint64_t live;                /* connections that exist now */
};

/* Any thread; does not block. */
VOUCH_API void vouch_listener_get_stats(const struct vouch_listener *listener,
                                        struct vouch_listener_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
