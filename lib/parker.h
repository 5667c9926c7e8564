/* SPDX-License-Identifier: MIT */
/*
 * A parker: one thread sleeps, others wake it. A wake-up that comes first is kept, so that none is
 * lost, and several merge into one. No lock is needed around it. Parkers belong to a lot, whose
 * sleepers can be woken together for the price of one. parker_linux.c (futex(2)) and parker_posix.c
 * (a condition variable).
 */
#ifndef VOUCH_LIB_PARKER_H
#define VOUCH_LIB_PARKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <vouch/common.h>

/* Zeroed; outlives its parkers and whoever wakes them. */
struct parker_lot {
    atomic_uint turn;  /* parker_linux.c: what they all sleep on; changes with every wake-up */
    atomic_uint count; /* parkers so far */
};

struct parker {
    struct parker_lot *lot;
    struct parker *next; /* for parker_unpark_all */
    atomic_uint state;
    unsigned bit; /* of 32, by which the lot's sleepers are told apart, roughly */
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* both used by parker_posix.c only */
};

int parker_init(struct parker *parker, struct parker_lot *lot) VOUCH_MUST_CHECK; /* 0 or errno */
void parker_deinit(struct parker *parker);

/* Sleeps until a wake-up, which it consumes, or `deadline`. True: there was one. The one thread. */
bool parker_park(struct parker *parker, int64_t deadline);

/* Wakes all of the list, which are of one lot; NULL: nobody. Does not touch a parker any more once
 * it can have been seen to be woken: its owner may free it at once. */
void parker_unpark_all(struct parker *first);

#endif
