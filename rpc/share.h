/* SPDX-License-Identifier: MIT */
/*
 * Shares: how many handlers run for each user, and which calls wait for a place. So that one user's
 * calls, however many and however slow, leave handlers to the others. Whoever owns the table locks
 * it.
 */
#ifndef VOUCH_RPC_SHARE_H
#define VOUCH_RPC_SHARE_H

#include <stdbool.h>
#include <sys/types.h>
#include <vouch/memory.h>

struct vouch_call;

struct share {
    uid_t uid;                       /* (uid_t)-1: all who are unknown */
    unsigned limit;                  /* of `running` */
    unsigned running;                /* handlers */
    unsigned users;                  /* connections, and handlers */
    struct vouch_call *first, *last; /* that wait */
    struct share *next;
};

struct share_table {
    const struct vouch_allocator *allocator;
    struct share *first, *last; /* the next to have its turn comes first */
};

/* The share of `uid`, for one more user; made with `limit` when there is none yet. NULL when memory
 * is short. */
struct share *share_get(struct share_table *table, uid_t uid, unsigned limit) VOUCH_MUST_CHECK;
void share_put(struct share_table *table, struct share *share); /* a user less; NULL is ignored */

/* Begins a handler, if the share has a place. It is a user of the share until share_end. */
bool share_begin(struct share *share) VOUCH_MUST_CHECK;
void share_end(struct share_table *table, struct share *share);

/* Has a call wait in its share. */
void share_wait(struct share *share, struct vouch_call *call);

/* The next call that waits in a share with a place, its handler begun; NULL when there is none. The
 * shares have their turns one after the other. */
struct vouch_call *share_next(struct share_table *table);

#endif
