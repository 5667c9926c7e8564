/* SPDX-License-Identifier: MIT */
/* The policy of polling, under a clock that the tests move. */
#include "lib/polling.h"

#include <string.h>

#include "lib/os.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

#define BUDGET VOUCH_POLLING_BUDGET_DEFAULT
#define LOOK ((int64_t)1000) /* one look takes so long */

static struct polling_room room;
static struct polling polling;
static int64_t now;

static void begin(enum vouch_polling mode, int64_t budget, unsigned max) {
    support_baseline_begin();
    memset(&room, 0, sizeof(room));
    atomic_store(&room.max, max);
    now = VOUCH_SECONDS(1000);
    polling_init(&polling, mode, budget, &room);
}

static void end(void) {
    cr_assert_eq(atomic_load(&room.polling), 0);
    support_baseline_end();
}

/* A poll that has begun, for an answer that comes `after` ns: whether it was found. */
static bool look_for(struct polling *p, int64_t after) {
    int64_t begun = now;
    do {
        now += LOOK;
        if (now - begun >= after) {
            polling_end(p, now, POLLING_FOUND);
            return true;
        }
    } while (polling_goes_on(p, now));
    polling_end(p, now, POLLING_IN_VAIN);
    return false;
}

/* A whole wait for an answer that comes after so long. True: it polled. */
static bool wait_for(struct polling *p, int64_t after) {
    int64_t begun = now;
    bool polls = polling_begin(p, now);
    if (polls && look_for(p, after))
        return true;
    if (now < begun + after)
        now = begun + after;
    polling_slept(p, now);
    return polls;
}

static void check_stats(uint64_t paid, uint64_t unpaid, uint64_t sleeps) {
    cr_assert_eq(polling.stats.paid, paid);
    cr_assert_eq(polling.stats.unpaid, unpaid);
    cr_assert_eq(polling.stats.sleeps, sleeps);
}

/* How long a poll lasts that finds nothing. Its outcome is not said. */
static int64_t patience(void) {
    int64_t begun = now;
    cr_assert(polling_begin(&polling, now));
    do
        now += LOOK;
    while (polling_goes_on(&polling, now));
    polling_end(&polling, now, POLLING_CUT);
    return now - begun;
}

Test(polling, options_at_their_bounds_and_one_past) {
    support_baseline_begin();
    cr_assert(polling_options_valid(VOUCH_POLLING_ADAPTIVE, 0));
    cr_assert(polling_options_valid(VOUCH_POLLING_OFF, 1));
    cr_assert(polling_options_valid(VOUCH_POLLING_ALWAYS, VOUCH_POLLING_BUDGET_BOUND));
    cr_assert_not(polling_options_valid(VOUCH_POLLING_ALWAYS, VOUCH_POLLING_BUDGET_BOUND + 1));
    cr_assert_not(polling_options_valid(VOUCH_POLLING_ADAPTIVE, -1));
    cr_assert_not(polling_options_valid((enum vouch_polling)(VOUCH_POLLING_ALWAYS + 1), 0));
    cr_assert_not(polling_options_valid((enum vouch_polling) - 1, 0));
    support_baseline_end();
}

Test(polling, no_budget_is_the_default_one) {
    begin(VOUCH_POLLING_ALWAYS, 0, 1);
    cr_assert_eq(polling.budget, VOUCH_POLLING_BUDGET_DEFAULT);
    cr_assert_eq(patience(), VOUCH_POLLING_BUDGET_DEFAULT);
    end();
    begin(VOUCH_POLLING_ALWAYS, VOUCH_POLLING_BUDGET_BOUND, 1);
    cr_assert_eq(patience(), VOUCH_POLLING_BUDGET_BOUND);
    end();
}

Test(polling, off_is_never) {
    begin(VOUCH_POLLING_OFF, 0, 4);
    for (int i = 0; i < 100; i++)
        cr_assert_not(wait_for(&polling, LOOK));
    check_stats(0, 0, 100);
    end();
}

/* Whatever it brings, and for the whole budget; the room has no say. */
Test(polling, always_is_always) {
    begin(VOUCH_POLLING_ALWAYS, BUDGET, 0);
    atomic_store(&room.rests_until, VOUCH_FOREVER);
    for (int i = 0; i < 100; i++)
        cr_assert(wait_for(&polling, LOOK));
    cr_assert_eq(patience(), BUDGET);
    for (int i = 0; i < 100; i++)
        cr_assert(wait_for(&polling, 1000 * BUDGET));
    cr_assert_eq(patience(), BUDGET);
    cr_assert(polling_begin(&polling, now));
    cr_assert_not(polling_goes_on(&polling, now + 10 * POLLING_GAP), "the budget is over");
    polling_end(&polling, now, POLLING_CUT);
    cr_assert_eq(atomic_load(&room.rests_until), VOUCH_FOREVER, "it tells nobody to rest");
    check_stats(100, 100, 0);
    end();
}

Test(polling, a_gap_does_not_end_what_is_always) {
    begin(VOUCH_POLLING_ALWAYS, 10 * POLLING_GAP, 1);
    cr_assert(polling_begin(&polling, now));
    cr_assert(polling_goes_on(&polling, now + 2 * POLLING_GAP));
    cr_assert_eq(atomic_load(&room.rests_until), 0);
    polling_end(&polling, now + 2 * POLLING_GAP, POLLING_FOUND);
    end();
}

/* ---- adaptive ---- */

Test(polling, the_first_wait_polls_for_the_whole_budget) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    cr_assert_eq(patience(), BUDGET);
    end();
}

Test(polling, polls_that_pay_say_how_long_the_next_may_take) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    for (int i = 0; i < 200; i++)
        cr_assert(wait_for(&polling, 3 * LOOK));
    cr_assert_geq(polling.typical, 3 * LOOK);
    cr_assert_leq(polling.typical, 3 * LOOK + 8);
    int64_t expected = POLLING_PATIENCE * polling.typical + POLLING_FLOOR;
    cr_assert_lt(expected, BUDGET);
    int64_t lasted = patience();
    cr_assert_geq(lasted, expected);
    cr_assert_lt(lasted, expected + LOOK);

    for (int i = 0; i < 200; i++) /* slower ones, which it learns */
        cr_assert(wait_for(&polling, 8 * LOOK));
    cr_assert_gt(patience(), lasted);
    for (int i = 0; i < 200; i++)
        cr_assert(wait_for(&polling, 20 * LOOK));
    cr_assert_eq(patience(), BUDGET, "never longer than the budget");
    check_stats(600, 0, 0);
    end();
}

Test(polling, answers_that_are_there_at_once_leave_the_floor) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    for (int i = 0; i < 1000; i++) {
        cr_assert(polling_begin(&polling, now));
        polling_end(&polling, now, POLLING_FOUND);
    }
    cr_assert_gt(polling.typical, 0, "0 would be: not known");
    int64_t lasted = patience();
    cr_assert_geq(lasted, POLLING_FLOOR);
    cr_assert_leq(lasted, 2 * POLLING_FLOOR);
    end();
}

/* Waits that sleep at once until the next that polls. */
static unsigned sleeps_until_poll(void) {
    unsigned sleeps = 0;
    while (!polling_begin(&polling, now)) {
        sleeps++;
        now += 2 * BUDGET;
        polling_slept(&polling, now);
        cr_assert_leq(sleeps, 2 * POLLING_SKIP_MAX);
    }
    return sleeps;
}

Test(polling, polls_that_fail_are_followed_by_waits_that_do_not_poll) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    uint64_t unpaid = 0, sleeps = 0;
    cr_assert(polling_begin(&polling, now));
    for (unsigned skip = POLLING_SKIP_MIN; skip <= 4 * POLLING_SKIP_MAX; skip *= 2) {
        cr_assert_not(look_for(&polling, VOUCH_FOREVER));
        polling_slept(&polling, now);
        unsigned expected = skip < POLLING_SKIP_MAX ? skip : POLLING_SKIP_MAX;
        cr_assert_eq(sleeps_until_poll(), expected);
        unpaid++;
        sleeps += expected;
    }
    polling_end(&polling, now, POLLING_CUT);
    check_stats(0, unpaid, sleeps);
    end();
}

Test(polling, one_that_pays_starts_the_count_anew) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    cr_assert(polling_begin(&polling, now));
    for (int i = 0; i < 5; i++) {
        cr_assert_not(look_for(&polling, VOUCH_FOREVER));
        sleeps_until_poll();
    }
    cr_assert(look_for(&polling, LOOK));
    cr_assert_eq(sleeps_until_poll(), 0);
    cr_assert_not(look_for(&polling, VOUCH_FOREVER));
    cr_assert_eq(sleeps_until_poll(), POLLING_SKIP_MIN);
    polling_end(&polling, now, POLLING_CUT);
    end();
}

Test(polling, one_that_is_cut_says_nothing) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    for (int i = 0; i < 100; i++) {
        cr_assert(polling_begin(&polling, now));
        now += LOOK;
        polling_end(&polling, now, POLLING_CUT);
    }
    check_stats(0, 0, 0);
    cr_assert_eq(polling.typical, 0);
    cr_assert_eq(polling.skip, 0);
    end();
}

Test(polling, after_a_long_sleep_nothing_is_tried_until_a_short_one) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    cr_assert(wait_for(&polling, LOOK));
    polling_pass(&polling, now);
    now += POLLING_HOPE * BUDGET + 1;
    polling_slept(&polling, now);
    for (int i = 0; i < 100; i++)
        cr_assert_not(wait_for(&polling, POLLING_HOPE * BUDGET + 1));
    cr_assert_not(wait_for(&polling, POLLING_HOPE * BUDGET));
    cr_assert(wait_for(&polling, LOOK));
    check_stats(2, 0, 102);
    end();
}

/* ---- the room ---- */

Test(polling, a_gap_lets_the_whole_room_rest) {
    struct polling other;
    begin(VOUCH_POLLING_ADAPTIVE, VOUCH_POLLING_BUDGET_BOUND, 4);
    polling_init(&other, VOUCH_POLLING_ADAPTIVE, 0, &room);
    cr_assert(polling_begin(&polling, now));
    now += POLLING_GAP;
    cr_assert(polling_goes_on(&polling, now), "that is none yet");
    now += POLLING_GAP + 1;
    cr_assert_not(polling_goes_on(&polling, now));
    polling_end(&polling, now, POLLING_IN_VAIN);
    int64_t until = now + POLLING_REST * (POLLING_GAP + 1);
    cr_assert_eq(atomic_load(&room.rests_until), until);
    cr_assert_not(polling_begin(&other, now));
    cr_assert_not(polling_begin(&other, until - 1));
    cr_assert(polling_begin(&other, until));
    polling_end(&other, until, POLLING_FOUND);
    cr_assert_eq(other.stats.sleeps, 2);
    end();
}

Test(polling, so_many_poll_at_a_time) {
    enum { MAX = 3 };
    static const enum polling_outcome outcomes[] = {POLLING_FOUND, POLLING_IN_VAIN, POLLING_CUT};
    struct polling places[MAX + 1];
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, MAX);
    for (size_t k = 0; k < sizeof(outcomes) / sizeof(outcomes[0]); k++) {
        for (int i = 0; i <= MAX; i++)
            polling_init(&places[i], VOUCH_POLLING_ADAPTIVE, BUDGET, &room);
        for (int i = 0; i < MAX; i++)
            cr_assert(polling_begin(&places[i], now));
        for (int i = 0; i < 10; i++)
            cr_assert_not(polling_begin(&places[MAX], now));
        cr_assert_eq(atomic_load(&room.polling), MAX);
        polling_end(&places[0], now, outcomes[k]);
        cr_assert(polling_begin(&places[MAX], now), "the place is free again");
        for (int i = 1; i <= MAX; i++)
            polling_end(&places[i], now, outcomes[k]);
        cr_assert_eq(atomic_load(&room.polling), 0);
        cr_assert_eq(places[MAX].stats.sleeps, 10);
    }
    end();
}

/* Waits that found no place do not count as skipped: the next that finds one polls. */
Test(polling, without_a_place_nothing_is_learned) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    atomic_store(&room.polling, 1);
    for (int i = 0; i < 100; i++)
        cr_assert_not(polling_begin(&polling, now));
    atomic_store(&room.polling, 0);
    cr_assert(polling_begin(&polling, now));
    polling_end(&polling, now, POLLING_CUT);
    end();
}

Test(polling, in_a_room_for_none_nobody_polls) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 0);
    for (int i = 0; i < 2000; i++)
        cr_assert_not(wait_for(&polling, LOOK));
    check_stats(0, 0, 2000);
    end();
}

/* Half of the cores, at least one where the machine has more than one. */
static unsigned places(void) {
    unsigned cores = os_cores();
    return os_cores_online() < 2 ? 0 : cores < 2 ? 1 : cores / 2;
}

static int look_at_the_room(void *context) {
    struct polling_room *parents = context, *ours = polling_room_of_process();
    if (ours == parents || atomic_load(&ours->polling) != 0 ||
        atomic_load(&ours->rests_until) != 0 || atomic_load(&ours->max) != places())
        return 1;
    return polling_room_of_process() == ours ? 0 : 2;
}

Test(polling, a_forked_child_has_a_room_of_its_own) {
    support_baseline_begin();
    struct polling_room *ours = polling_room_of_process();
    cr_assert_eq(polling_room_of_process(), ours);
    cr_assert_eq(atomic_load(&ours->max), places());
    atomic_fetch_add(&ours->polling, 1);
    atomic_store(&ours->rests_until, VOUCH_FOREVER);
    cr_assert_eq(peers_run(look_at_the_room, ours), 0);
    cr_assert_eq(polling_room_of_process(), ours);
    cr_assert_eq(atomic_fetch_sub(&ours->polling, 1), 1);
    atomic_store(&ours->rests_until, 0);
    support_baseline_end();
}

/* ---- worst cases ---- */

enum { WAITS = 100000 };

/*
 * The peer shares our core, say: while we look it gets nowhere, so that each poll lengthens its
 * wait by all that it took. By how much all waits were lengthened, in thousandths of them.
 */
static int64_t lengthened(int64_t answer) {
    int64_t extra = 0, total = 0;
    for (int i = 0; i < WAITS; i++) {
        int64_t begun = now;
        if (polling_begin(&polling, now)) {
            cr_assert_not(look_for(&polling, VOUCH_FOREVER));
            extra += now - begun;
        }
        now += answer;
        polling_slept(&polling, now);
        total += answer;
    }
    return 1000 * extra / total;
}

Test(polling, a_peer_that_answers_just_after_the_budget) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    cr_assert_leq(lengthened(BUDGET + 1), 10);
    cr_assert_eq(polling.stats.unpaid + polling.stats.sleeps, WAITS);
    end();
}

Test(polling, a_peer_that_never_answers_within_the_budget) {
    static const int64_t answers[] = {2 * BUDGET, 3 * BUDGET, 5 * BUDGET, 100 * BUDGET};
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
        cr_assert_leq(lengthened(answers[i]), 10);
        cr_assert_eq(polling.stats.unpaid + polling.stats.sleeps, WAITS);
        end();
    }
}

/* What has paid for long makes the first failures cheaper, not more of them. */
Test(polling, a_peer_that_becomes_slow) {
    begin(VOUCH_POLLING_ADAPTIVE, BUDGET, 1);
    for (int i = 0; i < 1000; i++)
        cr_assert(wait_for(&polling, 2 * LOOK));
    cr_assert_leq(lengthened(BUDGET + 1), 10);
    cr_assert_eq(polling.stats.paid, 1000);
    end();
}
