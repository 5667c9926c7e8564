/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end of a connection, as the kernel says it.
 *
 * Read once, right after accept or connect, and immutable from then on. On the server's side the
 * ids are the *effective* ones of the process that called connect(), at that moment; on the
 * client's side those of the process that called listen() (unix(7), SO_PEERCRED; getpeereid(3)), on
 * OpenBSD and NetBSD bind(). A
 * connected socket can be handed to another process: the identity is that of the connector, not of
 * whoever writes. See docs/security.md.
 */
#ifndef VOUCH_IDENTITY_H
#define VOUCH_IDENTITY_H

#include <sys/types.h>
#include <vouch/common.h>
#include <vouch/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bits of vouch_identity.known: a field without its bit is not known on this system, kernel or
 * connection. */
enum {
    VOUCH_KNOWN_UID = 1 << 0,
    VOUCH_KNOWN_GID = 1 << 1,
    VOUCH_KNOWN_PID = 1 << 2,    /* advisory: pids are reused. Never decide by it; use pidfd */
    VOUCH_KNOWN_GROUPS = 1 << 3, /* Linux 4.13, SO_PEERGROUPS */
    VOUCH_KNOWN_PIDFD = 1 << 4,  /* Linux 6.5, SO_PEERPIDFD */
    VOUCH_KNOWN_LABEL = 1 << 5,  /* Linux with a security module, SO_PEERSEC */
};

struct vouch_identity {
    unsigned known;      /* VOUCH_KNOWN_* */
    uid_t uid;           /* effective user id */
    gid_t gid;           /* effective group id */
    pid_t pid;           /* 0 when unknown, e.g. of a process in another pid namespace */
    int pidfd;           /* -1 when unknown; owned by the identity */
    bool uid_unmapped;   /* uid is the kernel's overflow uid: a user that this user namespace has no
                            number for, or `nobody`, who usually shares it (65534) */
    size_t group_count;  /* supplementary groups; the primary one is not among them unless the
                            process listed it */
    const gid_t *groups; /* NULL when there are none */
    const char *label;   /* NUL-terminated; NULL when unknown */
};

/* The identity of this process: effective ids, supplementary groups, pid, and a pidfd where there
 * is one. `allocator` may be NULL (malloc). Returns 0, -ENOMEM, or the errno of getgroups(2). Owned
 * by the caller (vouch_identity_unref). Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_identity_self(const struct vouch_allocator *allocator,
                                                   const struct vouch_identity **ret_identity);

/* The identity of the peer of a connected UNIX socket `fd`, which stays the caller's. For
 * descriptors from elsewhere; a vouch_conn has read its own. Returns 0, -ENOMEM, -ENOTSOCK and
 * other errnos of getsockopt(2). What the kernel does not tell is left unknown: check `known`.
 * Owned by the caller. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_identity_of_peer(int fd,
                                                      const struct vouch_allocator *allocator,
                                                      const struct vouch_identity **ret_identity);

/* Counted references, thread-safe. ref returns its argument; unref accepts NULL and closes the
 * pidfd with the last one. */
VOUCH_API const struct vouch_identity *vouch_identity_ref(const struct vouch_identity *identity);
VOUCH_API void vouch_identity_unref(const struct vouch_identity *identity);

/* Whether the identity is in the group: as its gid or among its supplementary groups.
 * 1 yes, 0 no, -ENODATA when the kernel did not tell the supplementary groups and gid is not it.
 * NULL is not allowed. */
VOUCH_API int vouch_identity_in_group(const struct vouch_identity *identity, gid_t group);

/* One line for logs: "uid=1000 gid=1000 pid=4711 groups=4,27 pidfd label=…", with "?" for what is
 * unknown; at most 16 groups are spelled out. Writes at most `size` bytes with the NUL and returns
 * `buffer`. Label bytes outside printable ASCII become '?'. */
VOUCH_API const char *vouch_identity_format(const struct vouch_identity *identity, char *buffer,
                                            size_t size);

#ifdef __cplusplus
}
#endif
#endif
