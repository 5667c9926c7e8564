/* SPDX-License-Identifier: MIT */
/*
 * Timers: an intrusive binary heap of deadlines. No clock, no thread, no lock of its own; whoever
 * owns the heap locks it. O(log n) to set, move and cancel; O(1) to see the next.
 */
#ifndef VOUCH_LIB_TIMER_H
#define VOUCH_LIB_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <vouch/memory.h>

struct timer {
    int64_t deadline;
    size_t position; /* in the heap, from 1; 0: not in it */
};

struct timer_heap {
    const struct vouch_allocator *allocator;
    struct timer **timers;
    size_t count, room;
};

void timer_heap_init(struct timer_heap *heap, const struct vouch_allocator *allocator);
void timer_heap_deinit(struct timer_heap *heap); /* timers in it are forgotten, not freed */

/* Room for `count` timers, so that setting them can't fail. 0 or -ENOMEM. */
int timer_heap_reserve(struct timer_heap *heap, size_t count) VOUCH_MUST_CHECK;

/* Puts the timer in, or moves it. VOUCH_FOREVER takes it out. 0 or -ENOMEM (never for a timer that
 * is in already). */
int timer_set(struct timer_heap *heap, struct timer *timer, int64_t deadline) VOUCH_MUST_CHECK;
void timer_cancel(struct timer_heap *heap, struct timer *timer); /* fine when it is not in */

int64_t timer_next(const struct timer_heap *heap); /* VOUCH_FOREVER when empty */
/* Takes out one timer whose deadline is not after `now`; NULL when there is none. Earliest first.
 */
struct timer *timer_expire(struct timer_heap *heap, int64_t now);

#endif
