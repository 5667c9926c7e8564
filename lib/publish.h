/* SPDX-License-Identifier: MIT */
/*
 * Publish: put a listening socket at a path in one step, and take it away again.
 *
 * Who holds the lock file `<name>.lock` may publish at `<name>`. The socket is made in the staging
 * directory `.<name>.new`, which only we can enter; it gets its mode and owner there, and listens,
 * before rename(2) shows it to anybody. Whatever is killed half-way leaves at most that directory,
 * and the next one to hold the lock takes it over. Not done: closing the gap to programs that know
 * nothing of the lock; between the look at the path and the rename one of them may put its socket
 * there.
 *
 * A datagram socket is bound where it stays: the path of bind(2) is the address that receivers see,
 * and can answer to. Its mode is set before (where the system heeds that) and again after.
 */
#ifndef VOUCH_LIB_PUBLISH_H
#define VOUCH_LIB_PUBLISH_H

#include "lib/address.h"

#include <sys/types.h>
#include <vouch/memory.h>

/* Longest file name: with ".lock" and with "." and ".new" it still has to fit NAME_MAX. */
#define PUBLISH_NAME_MAX 250

struct publish_options {
    int type; /* of the socket: SOCK_STREAM, SOCK_SEQPACKET, or SOCK_DGRAM, which does not listen */
    mode_t mode;
    bool set_uid, set_gid;
    uid_t uid;
    gid_t gid;
    int backlog;
    bool allow_unsafe_parent;
};

/* What is needed to take the socket away again. */
struct publication {
    const struct vouch_allocator *allocator;
    char *name;    /* in the directory; NULL: nothing is published */
    int directory; /* -1: none */
    int lock;      /* -1: none */
    dev_t device;  /* of the socket file that we made */
    ino_t inode;
};
#define PUBLICATION_NONE ((struct publication){.directory = -1, .lock = -1})

/* Publishes a path (not an abstract address). The listening descriptor does not block. 0, or a code
 * of vouch_listen. */
int publish(const struct vouch_allocator *allocator, const struct address *address,
            const struct publish_options *options, struct publication *ret_publication, int *ret_fd,
            struct vouch_error *error) VOUCH_MUST_CHECK;

/* Binds (and listens, unless it is of datagrams) at an abstract name, if the program's options
 * allow that. 0, VOUCH_E_ABSTRACT_OFF, -ENOTSUP, VOUCH_E_ADDRESS_LIVE, errnos. */
int publish_abstract(const struct address *address, bool allowed, int type, int backlog,
                     int *ret_fd, struct vouch_error *error) VOUCH_MUST_CHECK;

/* Unlinks the socket if it is still ours, then lets the lock go. Call it while the listening
 * descriptor is still open: it keeps the inode from being used again for somebody else's file. Safe
 * twice. */
void publication_withdraw(struct publication *publication);

/* Closes our descriptors and changes nothing: what a forked child may do. Safe twice. */
void publication_abandon(struct publication *publication);

#endif
