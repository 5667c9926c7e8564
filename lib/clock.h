/* SPDX-License-Identifier: MIT */
/* Clocks: monotonic for every wait, wall time only where the wire wants it. */
#ifndef VOUCH_LIB_CLOCK_H
#define VOUCH_LIB_CLOCK_H

#include <stdint.h>
#include <time.h>
#include <vouch/common.h>

int64_t clock_wall_now(void); /* ns since the UNIX epoch */

/* now + timeout without overflow; VOUCH_FOREVER stays. Pure. */
int64_t clock_add(int64_t now, int64_t timeout);

/* What poll(2) takes: milliseconds until `deadline`, rounded up, -1 for ever, 0 when past, at most
 * INT_MAX. Pure. */
int clock_poll_timeout(int64_t now, int64_t deadline);

/* For pthread_cond_timedwait on CLOCK_MONOTONIC. */
static inline struct timespec clock_timespec(int64_t deadline) {
    if (deadline < 0)
        return (struct timespec){0};
    return (struct timespec){.tv_sec = (time_t)(deadline / 1000000000),
                             .tv_nsec = (long)(deadline % 1000000000)};
}

#endif
