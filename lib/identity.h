/* SPDX-License-Identifier: MIT */
/*
 * How an identity comes to be. identity.c holds what is the same everywhere; who asks the kernel is
 * identity_linux.c or identity_getpeereid.c.
 */
#ifndef VOUCH_LIB_IDENTITY_H
#define VOUCH_LIB_IDENTITY_H

#include <vouch/identity.h>

/* The most supplementary groups a process can have (NGROUPS_MAX of Linux). A kernel that tells of
 * more is not believed. */
#define IDENTITY_GROUPS_MAX 65536

/* An identity of these facts: one block that holds copies of the groups and the label. Of `facts`,
 * `uid_unmapped` is ignored and worked out here, and the pidfd is taken over on success. 0 or
 * -ENOMEM. */
int identity_new(const struct vouch_allocator *allocator, const struct vouch_identity *facts,
                 const struct vouch_identity **ret_identity) VOUCH_MUST_CHECK;

/* As vouch_identity_of_peer. A pidfd costs a descriptor for the life of the identity: with
 * `want_pidfd` off none is taken. */
int identity_read_peer(int fd, bool want_pidfd, const struct vouch_allocator *allocator,
                       const struct vouch_identity **ret_identity) VOUCH_MUST_CHECK;

/* A pidfd of this process, or -1 where there is no such thing. */
int identity_open_self_pidfd(void);

#endif
