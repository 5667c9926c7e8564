/* SPDX-License-Identifier: MIT */
/* What a pixl server counts, by a clock of the test's. */
#include "rpc/pixl.h"
#include "tests/harness.h"

static struct pixl_stats stats;
static struct vouch_pixl_stats seen;

static void begin(void) {
    pixl_stats_init(&stats, 1000, 100, 20);
}

static void event(enum vouch_dialect_event event, int64_t value) {
    pixl_stats_event(&stats, event, value);
}

Test(pixl_stats, everything_is_counted) {
    begin();
    pixl_stats_request(&stats);
    pixl_stats_request(&stats);
    pixl_stats_skipped(&stats);
    event(VOUCH_DIALECT_OPENED, 0);
    event(VOUCH_DIALECT_OPENED, 0);
    event(VOUCH_DIALECT_CLOSED, 0);
    event(VOUCH_DIALECT_OPENED, 0);
    event(VOUCH_DIALECT_BLOCKED, 4096);
    event(VOUCH_DIALECT_ANSWERED, 20); /* not over it */
    event(VOUCH_DIALECT_ANSWERED, 21);
    pixl_stats_get(&stats, 1050, &seen);
    cr_assert_eq(seen.begun, 1000);
    cr_assert_eq(seen.elapsed, 50);
    cr_assert_eq(seen.requests, 2);
    cr_assert_eq(seen.skipped, 1);
    cr_assert_eq(seen.opened, 3);
    cr_assert_eq(seen.closed, 1);
    cr_assert_eq(seen.connections, 2);
    cr_assert_eq(seen.most_connections, 2);
    cr_assert_eq(seen.blocked, 1);
    cr_assert_eq(seen.slow, 1);
    pixl_stats_deinit(&stats);
}

Test(pixl_stats, taking_begins_the_next_interval) {
    begin();
    pixl_stats_request(&stats);
    event(VOUCH_DIALECT_OPENED, 0);
    event(VOUCH_DIALECT_OPENED, 0);
    event(VOUCH_DIALECT_CLOSED, 0);
    cr_assert(pixl_stats_take(&stats, 1001, true, &seen));
    cr_assert_eq(seen.requests, 1);
    cr_assert_eq(seen.elapsed, 1);
    cr_assert_eq(seen.most_connections, 2);
    pixl_stats_get(&stats, 1003, &seen);
    cr_assert_eq(seen.begun, 1001);
    cr_assert_eq(seen.elapsed, 2);
    cr_assert_eq(seen.requests, 0);
    cr_assert_eq(seen.opened, 0);
    cr_assert_eq(seen.connections, 1); /* those go on */
    cr_assert_eq(seen.most_connections, 1);
    pixl_stats_deinit(&stats);
}

Test(pixl_stats, a_clock_ends_the_interval) {
    begin();
    pixl_stats_request(&stats);
    cr_assert_not(pixl_stats_take(&stats, 1099, false, &seen));
    pixl_stats_request(&stats);
    cr_assert(pixl_stats_take(&stats, 1100, false, &seen));
    cr_assert_eq(seen.requests, 2);
    cr_assert_eq(seen.elapsed, 100);
    cr_assert_not(pixl_stats_take(&stats, 1199, false, &seen));
    cr_assert(pixl_stats_take(&stats, 1500, false, &seen));
    cr_assert_eq(seen.requests, 0);
    cr_assert_eq(seen.elapsed, 400);
    pixl_stats_deinit(&stats);
}
