/* SPDX-License-Identifier: MIT */
/* The parker on a condition variable, for systems without futex(2). */
#include "lib/parker.h"

#include "lib/clock.h"
#include "lib/cond.h"

int parker_init(struct parker *parker, struct parker_lot *lot) {
    parker->lot = lot;
    int r = cond_init(&parker->cond);
    if (r < 0)
        return r;
    atomic_init(&parker->state, false);
    pthread_mutex_init(&parker->mutex, NULL);
    return 0;
}

void parker_deinit(struct parker *parker) {
    pthread_mutex_destroy(&parker->mutex);
    pthread_cond_destroy(&parker->cond);
}

bool parker_park(struct parker *parker, int64_t deadline) {
    pthread_mutex_lock(&parker->mutex);
    while (!atomic_load(&parker->state) && vouch_now() < deadline)
        cond_wait_until(&parker->cond, &parker->mutex, deadline);
    bool woken = atomic_exchange(&parker->state, false);
    pthread_mutex_unlock(&parker->mutex);
    return woken;
}

void parker_unpark_all(struct parker *first) {
    while (first) {
        struct parker *next = first->next;
        pthread_mutex_lock(&first->mutex);
        atomic_store(&first->state, true);
        pthread_cond_signal(&first->cond);
        pthread_mutex_unlock(&first->mutex);
        first = next;
    }
}
