/* SPDX-License-Identifier: MIT */
/*
 * The parker on futex(2). All sleepers of a lot sleep on one word, each with a bit of its own
 * (FUTEX_WAIT_BITSET), so that one system call wakes any number of them. Whether a sleeper is meant
 * is told by its state: whoever shares its bit, or was about to sleep when the word changed, looks
 * and sleeps on.
 */
#include "lib/parker.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/clock.h"

enum { AWAKE, WOKEN, ASLEEP };
enum { BITS = 32 };

int parker_init(struct parker *parker, struct parker_lot *lot) {
    unsigned number = atomic_fetch_add_explicit(&lot->count, 1, memory_order_relaxed);
    parker->lot = lot;
    parker->bit = 1u << number % BITS;
    atomic_init(&parker->state, AWAKE);
    return 0;
}

void parker_deinit(struct parker *parker) {
    (void)parker;
}

/* A point in time of CLOCK_MONOTONIC, as FUTEX_WAIT_BITSET takes it. */
static bool sleep_on(atomic_uint *word, unsigned value, unsigned bit, int64_t deadline) {
    struct timespec until = clock_timespec(deadline);
    return syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value,
                   deadline == VOUCH_FOREVER ? NULL : &until, NULL, bit) == 0 ||
           errno != ETIMEDOUT;
}

bool parker_park(struct parker *parker, int64_t deadline) {
    unsigned expected = AWAKE, turn = atomic_load(&parker->lot->turn);
    if (atomic_compare_exchange_strong(&parker->state, &expected, ASLEEP))
        while (atomic_load(&parker->state) == ASLEEP &&
               sleep_on(&parker->lot->turn, turn, parker->bit, deadline))
            turn = atomic_load(&parker->lot->turn);
    return atomic_exchange(&parker->state, AWAKE) == WOKEN;
}

void parker_unpark_all(struct parker *first) {
    struct parker_lot *lot = first ? first->lot : NULL;
    unsigned bits = 0;
    while (first) {
        struct parker *next = first->next;
        unsigned bit = first->bit;
        if (atomic_exchange(&first->state, WOKEN) == ASLEEP)
            bits |= bit;
        first = next;
    }
    if (bits == 0)
        return;
    atomic_fetch_add(&lot->turn, 1); /* for those who are on their way into the kernel */
    (void)syscall(SYS_futex, &lot->turn, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, INT_MAX, NULL,
                  NULL, bits);
}
