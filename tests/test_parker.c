/* SPDX-License-Identifier: MIT */
/* Parkers: no wake-up is lost, none reaches another, and whoever was woken may be gone at once.
 * The same for both implementations. */
#include "lib/parker.h"

#include <sched.h>
#include <string.h>

#include "lib/clock.h"
#include "tests/harness.h"
#include "tests/support.h"

#define PATIENCE VOUCH_SECONDS(40)
#define FAR_BELOW VOUCH_SECONDS(15)

enum { MANY = 40, BITS = 32, STRESS_THREADS = 8, STRESS_WAKERS = 3 };

static struct parker_lot lot;

static void begin(void) {
    support_baseline_begin();
    memset(&lot, 0, sizeof(lot));
}

static void wake(struct parker *parker) {
    parker->next = NULL;
    parker_unpark_all(parker);
}

Test(parker, a_wake_up_that_comes_first_is_kept) {
    struct parker parker = {0};
    begin();
    cr_assert_eq(parker_init(&parker, &lot), 0);
    wake(&parker);
    int64_t begun = vouch_now();
    cr_assert(parker_park(&parker, vouch_deadline_in(PATIENCE)));
    cr_assert_lt(vouch_now() - begun, FAR_BELOW);
    wake(&parker);
    cr_assert(parker_park(&parker, 0), "also when the deadline has passed");
    parker_deinit(&parker);
    support_baseline_end();
}

Test(parker, several_wake_ups_are_one) {
    struct parker parker = {0};
    begin();
    cr_assert_eq(parker_init(&parker, &lot), 0);
    for (int i = 0; i < 3; i++)
        wake(&parker);
    cr_assert(parker_park(&parker, vouch_deadline_in(PATIENCE)));
    cr_assert_not(parker_park(&parker, vouch_deadline_in(VOUCH_MILLISECONDS(1))));
    parker_deinit(&parker);
    support_baseline_end();
}

Test(parker, a_deadline_passes) {
    struct parker parker = {0};
    begin();
    cr_assert_eq(parker_init(&parker, &lot), 0);
    cr_assert_not(parker_park(&parker, 0));
    cr_assert_not(parker_park(&parker, vouch_now()));
    int64_t deadline = vouch_deadline_in(VOUCH_MILLISECONDS(5));
    cr_assert_not(parker_park(&parker, deadline));
    cr_assert_geq(vouch_now(), deadline);
    cr_assert_lt(vouch_now() - deadline, FAR_BELOW);
    parker_deinit(&parker);
    support_baseline_end();
}

Test(parker, waking_nobody) {
    begin();
    parker_unpark_all(NULL);
    support_baseline_end();
}

/* ---- other threads ---- */

struct sleeper {
    struct parker parker;
    pthread_t thread;
    unsigned rounds; /* to be woken so often */
    atomic_uint woken;
};

static void *sleep_rounds(void *context) {
    struct sleeper *sleeper = context;
    for (unsigned i = 0; i < sleeper->rounds; i++) {
        if (!parker_park(&sleeper->parker, vouch_deadline_in(PATIENCE)))
            return "was not woken";
        atomic_fetch_add(&sleeper->woken, 1);
    }
    return NULL;
}

static void start(struct sleeper *sleeper, unsigned rounds) {
    sleeper->rounds = rounds;
    sleeper->thread = support_thread_start(sleep_rounds, sleeper);
}

static void await(struct sleeper *sleeper, unsigned woken) {
    int64_t give_up = vouch_deadline_in(PATIENCE);
    while (atomic_load(&sleeper->woken) < woken) {
        cr_assert_lt(vouch_now(), give_up);
        sched_yield();
    }
    cr_assert_eq(atomic_load(&sleeper->woken), woken);
}

Test(parker, another_thread_wakes) {
    struct sleeper sleeper = {.rounds = 0};
    unsigned rounds = VOUCH_TEST_ROUNDS(20000, 1000);
    begin();
    cr_assert_eq(parker_init(&sleeper.parker, &lot), 0);
    start(&sleeper, rounds);
    for (unsigned i = 1; i <= rounds; i++) {
        wake(&sleeper.parker);
        await(&sleeper, i);
    }
    cr_assert_null(support_thread_join(sleeper.thread));
    parker_deinit(&sleeper.parker);
    support_baseline_end();
}

/* More than there are bits to tell them apart: each of the list wakes once a round. */
Test(parker, a_list_of_many_is_woken_together) {
    static struct sleeper sleepers[MANY];
    const unsigned rounds = VOUCH_TEST_ROUNDS(300, 20);
    begin();
    memset(sleepers, 0, sizeof(sleepers));
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(parker_init(&sleepers[i].parker, &lot), 0);
    for (int i = 0; i < MANY; i++)
        start(&sleepers[i], rounds);
    for (unsigned round = 1; round <= rounds; round++) {
        for (int i = 0; i < MANY; i++)
            sleepers[i].parker.next = i + 1 < MANY ? &sleepers[i + 1].parker : NULL;
        parker_unpark_all(&sleepers[0].parker);
        for (int i = 0; i < MANY; i++)
            await(&sleepers[i], round);
    }
    for (int i = 0; i < MANY; i++) {
        cr_assert_null(support_thread_join(sleepers[i].thread));
        cr_assert_not(parker_park(&sleepers[i].parker, 0), "nothing is left over");
        parker_deinit(&sleepers[i].parker);
    }
    support_baseline_end();
}

/* The kernel can't tell parkers of one bit from each other. */
Test(parker, who_shares_a_bit_sleeps_on) {
    static struct sleeper first, second;
    struct parker between[BITS - 1];
    const unsigned rounds = VOUCH_TEST_ROUNDS(2000, 200);
    begin();
    memset(&first, 0, sizeof(first));
    memset(&second, 0, sizeof(second));
    memset(between, 0, sizeof(between));
    cr_assert_eq(parker_init(&first.parker, &lot), 0);
    for (int i = 0; i < BITS - 1; i++)
        cr_assert_eq(parker_init(&between[i], &lot), 0);
    cr_assert_eq(parker_init(&second.parker, &lot), 0);
    start(&first, rounds);
    start(&second, 1);
    for (unsigned i = 1; i <= rounds; i++) {
        wake(&first.parker);
        await(&first, i);
        cr_assert_eq(atomic_load(&second.woken), 0);
    }
    wake(&second.parker);
    cr_assert_null(support_thread_join(first.thread));
    cr_assert_null(support_thread_join(second.thread));
    cr_assert_eq(atomic_load(&second.woken), 1);
    for (int i = 0; i < BITS - 1; i++) {
        cr_assert_not(parker_park(&between[i], 0));
        parker_deinit(&between[i]);
    }
    parker_deinit(&first.parker);
    parker_deinit(&second.parker);
    support_baseline_end();
}

/* A spurious wake-up does not make a sleeper forget its deadline. */
Test(parker, who_shares_a_bit_keeps_its_deadline) {
    static struct sleeper first;
    static struct parker others[BITS];
    const unsigned rounds = VOUCH_TEST_ROUNDS(2000, 200);
    begin();
    memset(&first, 0, sizeof(first));
    memset(others, 0, sizeof(others));
    cr_assert_eq(parker_init(&first.parker, &lot), 0);
    for (int i = 0; i < BITS; i++)
        cr_assert_eq(parker_init(&others[i], &lot), 0);
    start(&first, rounds);
    for (unsigned i = 1; i <= rounds; i++) {
        wake(&first.parker);
        if (i % 100 == 0)
            cr_assert_not(parker_park(&others[BITS - 1], vouch_deadline_in(1000)));
        await(&first, i);
    }
    cr_assert_null(support_thread_join(first.thread));
    for (int i = 0; i < BITS; i++)
        parker_deinit(&others[i]);
    parker_deinit(&first.parker);
    support_baseline_end();
}

/* ---- freed as soon as it is woken ---- */

static _Atomic(struct parker *) slots[STRESS_THREADS];
static atomic_uint stress_done;

/* One sleep on a parker of the stack, which is overwritten the moment it is over. */
static bool sleep_on_the_stack(_Atomic(struct parker *) *slot) {
    struct parker parker;
    memset(&parker, 0, sizeof(parker));
    if (parker_init(&parker, &lot) != 0)
        return false;
    atomic_store(slot, &parker);
    bool woken = parker_park(&parker, vouch_deadline_in(PATIENCE));
    parker_deinit(&parker);
    memset((void *)&parker, 0xa5, sizeof(parker));
    __asm__ volatile("" : : "r"(&parker) : "memory");
    return woken;
}

static void *sleep_often(void *context) {
    const unsigned rounds = VOUCH_TEST_ROUNDS(100000 / STRESS_THREADS, 2000 / STRESS_THREADS);
    const char *failure = NULL;
    for (unsigned i = 0; i < rounds && !failure; i++)
        failure = sleep_on_the_stack(context) ? NULL : "was not woken";
    atomic_fetch_add(&stress_done, 1);
    return (void *)(uintptr_t)failure;
}

/* Takes whoever is there, and wakes them together. */
static void *wake_often(void *context) {
    (void)context;
    while (atomic_load(&stress_done) < STRESS_THREADS) {
        struct parker *first = NULL;
        for (int i = 0; i < STRESS_THREADS; i++) {
            struct parker *parker = atomic_exchange(&slots[i], NULL);
            if (!parker)
                continue;
            parker->next = first;
            first = parker;
        }
        if (first)
            parker_unpark_all(first);
        else
            sched_yield();
    }
    return NULL;
}

Test(parker, may_be_gone_as_soon_as_it_is_woken) {
    pthread_t sleepers[STRESS_THREADS], wakers[STRESS_WAKERS];
    begin();
    atomic_store(&stress_done, 0);
    for (int i = 0; i < STRESS_THREADS; i++)
        sleepers[i] = support_thread_start(sleep_often, &slots[i]);
    for (int i = 0; i < STRESS_WAKERS; i++)
        wakers[i] = support_thread_start(wake_often, NULL);
    for (int i = 0; i < STRESS_THREADS; i++)
        cr_assert_null(support_thread_join(sleepers[i]));
    for (int i = 0; i < STRESS_WAKERS; i++)
        support_thread_join(wakers[i]);
    support_baseline_end();
}
