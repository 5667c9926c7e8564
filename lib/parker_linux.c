/* SPDX-License-Identifier: MIT */
/* The parker on futex(2): a system call to sleep, one to wake a sleeper, none where nobody sleeps.
 */
#include "lib/parker.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/clock.h"

enum { AWAKE, WOKEN, ASLEEP };

int parker_init(struct parker *parker) {
    atomic_init(&parker->state, AWAKE);
    return 0;
}

void parker_deinit(struct parker *parker) {
    (void)parker;
}

/* FUTEX_WAIT_BITSET takes a point in time of CLOCK_MONOTONIC, FUTEX_WAIT only a length. */
static int futex_wait(atomic_uint *word, unsigned value, int64_t deadline) {
    struct timespec until = clock_timespec(deadline);
    long r = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value,
                     deadline == VOUCH_FOREVER ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
    return r < 0 ? errno : 0;
}

bool parker_park(struct parker *parker, int64_t deadline) {
    unsigned expected = AWAKE;
    if (atomic_compare_exchange_strong(&parker->state, &expected, ASLEEP))
        while (atomic_load_explicit(&parker->state, memory_order_acquire) == ASLEEP &&
               futex_wait(&parker->state, ASLEEP, deadline) != ETIMEDOUT)
            continue;
    return atomic_exchange(&parker->state, AWAKE) == WOKEN;
}

void parker_unpark(struct parker *parker) {
    atomic_uint *word = &parker->state;
    /* Its owner may be gone right after the exchange: the kernel is given the address only, and a
     * wake-up of whoever sleeps there next is a spurious one, which every futex expects. */
    if (atomic_exchange(word, WOKEN) == ASLEEP)
        (void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}
