/* SPDX-License-Identifier: MIT */
/*
 * Timers: a binary heap of pointers, children of place i (from 1) at 2i and 2i + 1. Every timer
 * knows its place, which is what makes moving and cancelling one O(log n) without a search. The
 * heap never touches a timer that is not in it.
 */
#include "lib/timer.h"

#include <errno.h>

#include "lib/mem.h"

enum { ROOM_MIN = 16 };

void timer_heap_init(struct timer_heap *heap, const struct vouch_allocator *allocator) {
    *heap = (struct timer_heap){.allocator = allocator};
}

void timer_heap_deinit(struct timer_heap *heap) {
    mem_free(heap->allocator, heap->timers, heap->room * sizeof(*heap->timers));
    timer_heap_init(heap, heap->allocator);
}

int timer_heap_reserve(struct timer_heap *heap, size_t count) {
    size_t room = heap->room;
    struct timer **timers;

    if (count <= room)
        return 0;
    if (count > SIZE_MAX / 2 / sizeof(*timers))
        return -ENOMEM;
    if (room < ROOM_MIN)
        room = ROOM_MIN;
    while (room < count)
        room *= 2;
    timers = mem_resize(heap->allocator, heap->timers, heap->room * sizeof(*timers),
                        room * sizeof(*timers));
    if (!timers)
        return -ENOMEM;
    heap->timers = timers;
    heap->room = room;
    return 0;
}

static struct timer *at(const struct timer_heap *heap, size_t position) {
    return heap->timers[position - 1];
}

static void put(struct timer_heap *heap, size_t position, struct timer *timer) {
    heap->timers[position - 1] = timer;
    timer->position = position;
}

/* Finds the place for `timer`, for which `position` is free, upwards from there. */
static void rise(struct timer_heap *heap, size_t position, struct timer *timer) {
    while (position > 1 && timer->deadline < at(heap, position / 2)->deadline) {
        put(heap, position, at(heap, position / 2));
        position /= 2;
    }
    put(heap, position, timer);
}

static size_t earlier_child(const struct timer_heap *heap, size_t position) {
    size_t left = 2 * position, right = left + 1;

    return right <= heap->count && at(heap, right)->deadline < at(heap, left)->deadline ? right
                                                                                        : left;
}

/* The same downwards. */
static void sink(struct timer_heap *heap, size_t position, struct timer *timer) {
    while (2 * position <= heap->count) {
        size_t child = earlier_child(heap, position);

        if (at(heap, child)->deadline >= timer->deadline)
            break;
        put(heap, position, at(heap, child));
        position = child;
    }
    put(heap, position, timer);
}

static void settle(struct timer_heap *heap, size_t position, struct timer *timer) {
    if (position > 1 && timer->deadline < at(heap, position / 2)->deadline)
        rise(heap, position, timer);
    else
        sink(heap, position, timer);
}

int timer_set(struct timer_heap *heap, struct timer *timer, int64_t deadline) {
    size_t position = timer->position;
    int r;

    if (deadline == VOUCH_FOREVER) {
        timer_cancel(heap, timer);
        return 0;
    }
    if (position == 0) {
        r = timer_heap_reserve(heap, heap->count + 1);
        if (r < 0)
            return r;
        position = ++heap->count;
    }
    timer->deadline = deadline;
    settle(heap, position, timer);
    return 0;
}

void timer_cancel(struct timer_heap *heap, struct timer *timer) {
    size_t position = timer->position;
    struct timer *last;

    if (position == 0)
        return;
    timer->position = 0;
    last = at(heap, heap->count--);
    if (last != timer)
        settle(heap, position, last);
}

int64_t timer_next(const struct timer_heap *heap) {
    return heap->count > 0 ? at(heap, 1)->deadline : VOUCH_FOREVER;
}

struct timer *timer_expire(struct timer_heap *heap, int64_t now) {
    struct timer *timer;

    if (timer_next(heap) > now || heap->count == 0)
        return NULL;
    timer = at(heap, 1);
    timer_cancel(heap, timer);
    return timer;
}
