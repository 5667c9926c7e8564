/* SPDX-License-Identifier: MIT */
/* Timers against a reference that is too simple to be wrong: an array in which the earliest is
 * searched for. */
#include "lib/timer.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/harness.h"
#include "tests/support.h"

enum { FEW = 300, MANY = 100000 };

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void check_heap(const struct timer_heap *heap) {
    for (size_t i = 1; i <= heap->count; i++) {
        cr_assert_eq(heap->timers[i - 1]->position, i);
        if (i > 1)
            cr_assert_leq(heap->timers[i / 2 - 1]->deadline, heap->timers[i - 1]->deadline);
    }
}

static int64_t earliest(const int64_t *deadlines, size_t count) {
    int64_t min = VOUCH_FOREVER;

    for (size_t i = 0; i < count; i++)
        min = deadlines[i] < min ? deadlines[i] : min;
    return min;
}

static void *refuse(void *context, size_t size) {
    (void)context;
    (void)size;
    return NULL;
}

static void release_nothing(void *context, void *memory, size_t size) {
    (void)context;
    (void)memory;
    (void)size;
}

static const struct vouch_allocator refusing = {refuse, release_nothing, NULL};

Test(timer, empty_heap_has_nothing) {
    struct timer_heap heap;
    struct timer timer = {0};

    support_baseline_begin();
    timer_heap_init(&heap, NULL);
    cr_assert_eq(timer_next(&heap), VOUCH_FOREVER);
    cr_assert_null(timer_expire(&heap, VOUCH_FOREVER));
    timer_cancel(&heap, &timer);
    cr_assert_eq(timer_set(&heap, &timer, VOUCH_FOREVER), 0);
    cr_assert_eq(timer.position, 0);
    timer_heap_deinit(&heap);
    timer_heap_deinit(&heap);
    support_baseline_end();
}

Test(timer, expires_at_its_deadline_and_not_before) {
    struct timer_heap heap;
    struct timer timer = {0};

    support_baseline_begin();
    timer_heap_init(&heap, NULL);
    cr_assert_eq(timer_set(&heap, &timer, 10), 0);
    cr_assert_eq(timer_next(&heap), 10);
    cr_assert_null(timer_expire(&heap, 9));
    cr_assert_eq(timer_expire(&heap, 10), &timer);
    cr_assert_eq(timer.position, 0);
    cr_assert_null(timer_expire(&heap, 10));
    timer_heap_deinit(&heap);
    support_baseline_end();
}

Test(timer, forever_takes_it_out) {
    struct timer_heap heap;
    struct timer timer = {0};

    support_baseline_begin();
    timer_heap_init(&heap, NULL);
    cr_assert_eq(timer_set(&heap, &timer, 10), 0);
    cr_assert_eq(timer_set(&heap, &timer, VOUCH_FOREVER), 0);
    cr_assert_eq(heap.count, 0);
    cr_assert_eq(timer_next(&heap), VOUCH_FOREVER);
    cr_assert_eq(timer_set(&heap, &timer, -5), 0, "a deadline may be long past");
    cr_assert_eq(timer_expire(&heap, 0), &timer);
    timer_heap_deinit(&heap);
    support_baseline_end();
}

Test(timer, no_memory_is_reported_and_reserve_prevents_it) {
    struct timer_heap heap;
    struct timer timers[3] = {{0}};

    support_baseline_begin();
    timer_heap_init(&heap, &refusing);
    cr_assert_eq(timer_set(&heap, &timers[0], 1), -ENOMEM);
    cr_assert_eq(timers[0].position, 0);
    cr_assert_eq(timer_heap_reserve(&heap, 1), -ENOMEM);
    cr_assert_eq(timer_heap_reserve(&heap, SIZE_MAX), -ENOMEM);
    timer_heap_deinit(&heap);

    timer_heap_init(&heap, NULL);
    cr_assert_eq(timer_heap_reserve(&heap, 100), 0);
    cr_assert_geq(heap.room, 100);
    heap.allocator = &refusing;
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(timer_set(&heap, &timers[i], 1), 0);
    cr_assert_eq(timer_set(&heap, &timers[1], 0), 0);
    cr_assert_eq(timer_expire(&heap, 0), &timers[1]);
    heap.allocator = NULL;
    timer_heap_deinit(&heap);
    support_baseline_end();
}

static void random_step(struct timer_heap *heap, struct timer *timers, int64_t *deadlines) {
    size_t i = next_random() % FEW;
    struct timer *expired;

    switch (next_random() % 4) {
    case 0:
        timer_cancel(heap, &timers[i]);
        deadlines[i] = VOUCH_FOREVER;
        break;
    case 1:
        expired = timer_expire(heap, earliest(deadlines, FEW));
        if (heap->count == 0 && !expired)
            break;
        cr_assert_not_null(expired);
        cr_assert_eq(expired->deadline, earliest(deadlines, FEW));
        deadlines[expired - timers] = VOUCH_FOREVER;
        break;
    default: /* many equal ones */
        deadlines[i] = (int64_t)(next_random() % 100);
        cr_assert_eq(timer_set(heap, &timers[i], deadlines[i]), 0);
    }
}

Test(timer, random_operations_agree_with_a_linear_search) {
    static struct timer timers[FEW];
    static int64_t deadlines[FEW];
    struct timer_heap heap;

    support_baseline_begin();
    timer_heap_init(&heap, NULL);
    for (size_t i = 0; i < FEW; i++)
        deadlines[i] = VOUCH_FOREVER;
    for (int step = 0; step < 50000; step++) {
        random_step(&heap, timers, deadlines);
        cr_assert_eq(timer_next(&heap), earliest(deadlines, FEW));
        if (step % 100 == 0)
            check_heap(&heap);
    }
    timer_heap_deinit(&heap);
    support_baseline_end();
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

Test(timer, a_hundred_thousand_come_out_sorted) {
    struct timer *timers = calloc(MANY, sizeof(*timers));
    int64_t *sorted = calloc(MANY, sizeof(*sorted));
    struct timer_heap heap;
    struct timer *timer;
    size_t count = 0;

    support_baseline_begin();
    timer_heap_init(&heap, NULL);
    for (size_t i = 0; i < MANY; i++)
        cr_assert_eq(timer_set(&heap, &timers[i], (int64_t)(next_random() >> 1)), 0);
    for (size_t i = 0; i < MANY; i += 3)
        cr_assert_eq(timer_set(&heap, &timers[i], (int64_t)(next_random() >> 1)), 0);
    for (size_t i = 0; i < MANY; i += 10)
        timer_cancel(&heap, &timers[i]);
    for (size_t i = 0; i < MANY; i++)
        if (timers[i].position > 0)
            sorted[count++] = timers[i].deadline;
    cr_assert_eq(count, heap.count);
    qsort(sorted, count, sizeof(*sorted), compare);
    for (size_t i = 0; i < count; i++) {
        timer = timer_expire(&heap, INT64_MAX - 1);
        cr_assert_not_null(timer);
        cr_assert_eq(timer->deadline, sorted[i]);
    }
    cr_assert_eq(timer_next(&heap), VOUCH_FOREVER);
    timer_heap_deinit(&heap);
    free(sorted);
    free(timers);
    support_baseline_end();
}
