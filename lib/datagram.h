/* SPDX-License-Identifier: MIT */
/*
 * The datagram socket, as its files share it: datagram.c is its life, datagram_io.c what goes
 * through it, datagram_loop.c the destinations that a foreign loop waits for, and
 * datagram_address.c turns addresses to and fro. What differs between systems is in
 * datagram_linux.c and datagram_posix.c.
 */
#ifndef VOUCH_LIB_DATAGRAM_H
#define VOUCH_LIB_DATAGRAM_H

#include "lib/address.h"
#include "lib/os.h"
#include "lib/publish.h"

#include <pthread.h>
#include <stdatomic.h>
#include <vouch/datagram.h>

/* Messages of refused senders that are dropped in one go. */
#define DATAGRAM_BURST 64

/* Where no descriptor tells of room, tries are this far apart, doubling. */
#define DATAGRAM_RETRY_MIN VOUCH_MILLISECONDS(1)
#define DATAGRAM_RETRY_MAX VOUCH_MILLISECONDS(50)
/* The same in a foreign loop, which is 100 wake-ups a second. */
#define DATAGRAM_RETRY VOUCH_MILLISECONDS(10)

/* A destination that had no room. One of three tells when it has: our own socket, a socket that is
 * connected to it, or the time. */
struct datagram_congestion {
    struct datagram_congestion *next;
    struct vouch_datagram_address to; /* size 0: the default destination */
    bool own;
    int helper;       /* -1: none */
    int64_t retry_at; /* VOUCH_FOREVER while a descriptor tells */
};

struct vouch_datagram {
    /* Constant. */
    const struct vouch_allocator *allocator;
    uint64_t epoch;
    int fd;
    int watch; /* for a foreign loop: readable when fd is, or a congestion is over; -1: fd itself */
    struct os_wake wake; /* raised at the end, for ever */
    struct vouch_policy policy;
    struct vouch_datagram_address address;
    bool allow_unknown, allow_abstract, marks;
    void (*on_writable)(void *context, const struct vouch_datagram_address *to);
    void *context;

    atomic_bool closed, connected;
    atomic_uint_fast64_t sent, received, truncated, refused_policy, refused_unknown, congested,
        unreachable;

    pthread_mutex_t lock; /* for what is below */
    struct publication publication;
    struct vouch_datagram_address destination;
    struct datagram_congestion *congestions;
    size_t congestion_count;
    int64_t rest_at; /* when those for whom there was no place try again; VOUCH_FOREVER: none */
};

bool datagram_is_ours(const struct vouch_datagram *datagram);
bool datagram_is_closed(const struct vouch_datagram *datagram);
/* 0, -ECHILD, -ESHUTDOWN. */
int datagram_usable(const struct vouch_datagram *datagram) VOUCH_MUST_CHECK;

/* What the kernel takes, of an address that may be anything: 0, -EINVAL, VOUCH_E_PATH_TOO_LONG.
 * Pure. */
int datagram_address_pack(const struct vouch_datagram_address *address,
                          struct address_sockaddr *ret_sockaddr) VOUCH_MUST_CHECK;
/* What the kernel has written. Pure. */
void datagram_address_unpack(const struct sockaddr_un *un, socklen_t length,
                             struct vouch_datagram_address *ret_address);

/* Whether messages may go there: 0, as datagram_address_pack, VOUCH_E_ABSTRACT_OFF, -ENOTSUP. */
int datagram_check_destination(const struct vouch_datagram *datagram,
                               const struct vouch_datagram_address *to,
                               struct address_sockaddr *ret_sockaddr,
                               struct vouch_error *error) VOUCH_MUST_CHECK;

/* A descriptor that is writable when a message to `to` (NULL: the default destination) would find
 * room, -1 where there is none. `helper` is a socket for that, -1 at first, the caller closes it.
 */
int datagram_room_fd(const struct vouch_datagram *datagram, const struct address_sockaddr *to,
                     int *helper);

/* Sees to it that on_writable is called for a congested destination. */
void datagram_congested(struct vouch_datagram *datagram, const struct vouch_datagram_address *to,
                        const struct address_sockaddr *at);
void datagram_forget_congestions(struct vouch_datagram *datagram);

/* ---- what differs between systems ---- */

extern const bool datagram_tells_sender; /* messages come with credentials */
extern const bool datagram_poll_is_true; /* a connected socket is writable when its peer has room */
bool datagram_is_full(int error);        /* whether this errno of a send means no room */
int datagram_autobind(int fd) VOUCH_MUST_CHECK; /* 0 or negative errno */
/* The sender of a message, as recvmsg has left it; nothing is known where it does not say. */
void datagram_read_sender(struct msghdr *message, struct vouch_identity *ret_sender);
/* Whether nothing more can come, though it is not us who have closed: somebody with a copy of the
 * descriptor may have shut it down. It polls readable then. */
bool datagram_is_ended(int fd);
/* A socket connected to `to`, or a negative errno. */
int datagram_open_helper(const struct address_sockaddr *to) VOUCH_MUST_CHECK;
/* A descriptor that is readable when one that it watches is ready; -ENOTSUP where there is no such
 * thing. */
int datagram_watch_new(int fd) VOUCH_MUST_CHECK;
int datagram_watch_add(int watch,
                       int helper) VOUCH_MUST_CHECK; /* for writing; 0 or negative errno */
void datagram_watch_own(int watch, int fd, bool writing);

#endif
