/* SPDX-License-Identifier: MIT */
/*
 * The listener, as its two halves share it: listen.c makes and ends it, accept.c takes connections
 * from it, for vouch_accept and for the RPC server's loop.
 */
#ifndef VOUCH_LIB_LISTEN_H
#define VOUCH_LIB_LISTEN_H

#include "lib/admission.h"
#include "lib/os.h"
#include "lib/publish.h"

#include <pthread.h>
#include <stdatomic.h>
#include <vouch/listen.h>

/* Connections refused or lost in one go, before others get their turn. */
#define LISTENER_BURST 64

/* Out of descriptors, every try costs two calls of accept(2), one that fails and one that sheds:
 * this far apart they are 100 a second. */
#define LISTENER_SHED_INTERVAL VOUCH_MILLISECONDS(20)

/* When not even shedding works, tries are this far apart, doubling. The maximum bounds how long it
 * takes to see that things are well again. */
#define LISTENER_RETRY_MIN VOUCH_MILLISECONDS(10)
#define LISTENER_RETRY_MAX VOUCH_SECONDS(1)

struct vouch_listener {
    /* Constant. */
    const struct vouch_allocator *allocator;
    char *address;
    uint64_t epoch; /* of the process that made it */
    struct vouch_policy policy;
    struct vouch_conn_options conn_options;
    struct admission *admission;
    int pidfd_below; /* connections whose descriptor is below this get a pidfd, see listener_new */
    struct os_wake wake; /* raised at the end, for ever */
    enum vouch_link link;
    bool adopted; /* the socket is shared with whoever made it */

    pthread_mutex_t lock; /* for what is below */
    _Atomic int fd;       /* -1 once closed; written under the lock, read by anybody */
    struct publication publication;
    int reserve;       /* a descriptor to give up when there is no other, -1 while there is none */
    int64_t retry_at;  /* no accept(2) before this */
    int64_t retry_gap; /* 0 while all is well */
    struct vouch_listener_stats stats;
};

#define LISTENER_BACKLOG_DEFAULT 512

/* All of a listener but its socket. `options` are those of the caller with their defaults; `link`
 * is believed. 0, or a negative code with its message. */
int listener_new(const char *address, const struct vouch_listen_options *options,
                 struct vouch_listener **ret_listener, struct vouch_error *error) VOUCH_MUST_CHECK;

/* Takes the next connection that policy and limits admit, without waiting. 1: `*ret_conn`. 0: none
 * now; `*ret_retry_at`, always set then, is 0 or the time before which it is useless to ask again.
 * After LISTENER_BURST refusals it is 0 too, though more may be waiting. -ESHUTDOWN, -ECHILD;
 * nothing that passes is an error. `now` is vouch_now(). Any thread. */
int listener_accept_now(struct vouch_listener *listener, int64_t now, struct vouch_conn **ret_conn,
                        int64_t *ret_retry_at) VOUCH_MUST_CHECK;

/* Makes sure that there is a reserve descriptor; false, with errno, when none can be had. Locked.
 */
bool listener_hold_reserve(struct vouch_listener *listener);

bool listener_forked(
    const struct vouch_listener *listener); /* we are in a child of the process that made it */

#endif
