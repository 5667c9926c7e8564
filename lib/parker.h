/* SPDX-License-Identifier: MIT */
/*
 * A parker: one thread sleeps, others wake it. A wake-up that comes first is kept, so that none is
 * lost, and several merge into one. No lock is needed around it. parker_linux.c (futex(2)) and
 * parker_posix.c (a condition variable).
 */
#ifndef VOUCH_LIB_PARKER_H
#define VOUCH_LIB_PARKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <vouch/common.h>

struct parker {
    atomic_uint state; /* enum in the .c files; parker_posix.c guards it with the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* both used by parker_posix.c only */
};

int parker_init(struct parker *parker) VOUCH_MUST_CHECK; /* 0 or negative errno */
void parker_deinit(struct parker *parker);

/* Sleeps until a wake-up, which it consumes, or `deadline`. True: there was one. The one thread. */
bool parker_park(struct parker *parker, int64_t deadline);

/* Wakes. The last touch of the parker: whoever consumes this wake-up may free it at once. */
void parker_unpark(struct parker *parker);

#endif
