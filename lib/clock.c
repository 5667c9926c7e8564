/* SPDX-License-Identifier: MIT */
/* Clocks, and the arithmetic of deadlines: saturating, so that "for ever" plus or minus anything is
 * still for ever. */
#include "lib/clock.h"

#include <limits.h>

#define CLOCK_SECOND VOUCH_SECONDS(1)
#define CLOCK_MILLISECOND VOUCH_MILLISECONDS(1)

static int64_t clock_read(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * CLOCK_SECOND + now.tv_nsec;
}

int64_t vouch_now(void) {
    return clock_read(CLOCK_MONOTONIC);
}

int64_t clock_wall_now(void) {
    return clock_read(CLOCK_REALTIME);
}

int64_t vouch_deadline_in(int64_t timeout) {
    return timeout == VOUCH_FOREVER ? VOUCH_FOREVER : clock_add(vouch_now(), timeout);
}

int64_t clock_add(int64_t now, int64_t timeout) {
    if (timeout > 0 && now > INT64_MAX - timeout)
        return VOUCH_FOREVER;
    if (timeout < 0 && now < INT64_MIN - timeout)
        return INT64_MIN;
    return timeout == VOUCH_FOREVER ? VOUCH_FOREVER : now + timeout;
}

int clock_poll_timeout(int64_t now, int64_t deadline) {
    if (deadline == VOUCH_FOREVER)
        return -1;
    if (deadline <= now)
        return 0;
    /* Unsigned, since the distance of two int64_t may not fit one. Rounded up: a poll that wakes
     * early would only be called again. */
    uint64_t left = (uint64_t)deadline - (uint64_t)now;
    uint64_t milliseconds = left / CLOCK_MILLISECOND + (left % CLOCK_MILLISECOND != 0);
    return milliseconds < INT_MAX ? (int)milliseconds : INT_MAX;
}
