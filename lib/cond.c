/* SPDX-License-Identifier: MIT */
#include "lib/cond.h"

#include "lib/clock.h"

#if defined(__APPLE__) /* no pthread_condattr_setclock; waits relative to now instead */

int cond_init(pthread_cond_t *cond) {
    return -pthread_cond_init(cond, NULL);
}

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline) {
    int64_t now = vouch_now();
    struct timespec left = clock_timespec(deadline > now ? deadline - now : 0);
    (void)pthread_cond_timedwait_relative_np(cond, mutex, &left);
}

#else

int cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attributes;
    int r = pthread_condattr_init(&attributes);
    if (r == 0) {
        r = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        if (r == 0)
            r = pthread_cond_init(cond, &attributes);
        pthread_condattr_destroy(&attributes);
    }
    return -r;
}

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline) {
    struct timespec until = clock_timespec(deadline);
    (void)pthread_cond_timedwait(cond, mutex, &until);
}

#endif

void cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline) {
    if (deadline == VOUCH_FOREVER)
        (void)pthread_cond_wait(cond, mutex);
    else
        wait_until(cond, mutex, deadline);
}
