/* SPDX-License-Identifier: MIT */
#include "lib/clock.h"

#include <limits.h>
#include <stdio.h>

#include "tests/harness.h"

#define MS VOUCH_MILLISECONDS(1)

Test(clock, does_not_go_backwards) {
    int64_t before = vouch_now();
    cr_assert_gt(before, 0);
    for (int i = 0; i < 1000; i++) {
        int64_t now = vouch_now();
        cr_assert_leq(before, now);
        before = now;
    }
}

Test(clock, wall_time_is_after_2020) {
    cr_assert_gt(clock_wall_now(), VOUCH_SECONDS(1577836800));
}

Test(clock, deadlines_are_ahead) {
    int64_t before = vouch_now();
    int64_t deadline = vouch_deadline_in(VOUCH_SECONDS(5));
    cr_assert_geq(deadline, before + VOUCH_SECONDS(5));
    cr_assert_leq(deadline, vouch_now() + VOUCH_SECONDS(5));
    cr_assert_eq(vouch_deadline_in(VOUCH_FOREVER), VOUCH_FOREVER);
    cr_assert_eq(vouch_deadline_in(VOUCH_FOREVER - 1), VOUCH_FOREVER);
}

Test(clock, sums_saturate) {
    cr_assert_eq(clock_add(5, 7), 12);
    cr_assert_eq(clock_add(5, -7), -2);
    cr_assert_eq(clock_add(0, VOUCH_FOREVER), VOUCH_FOREVER);
    cr_assert_eq(clock_add(-1, VOUCH_FOREVER), VOUCH_FOREVER);
    cr_assert_eq(clock_add(1, INT64_MAX - 1), VOUCH_FOREVER);
    cr_assert_eq(clock_add(1, INT64_MAX - 2), INT64_MAX - 1);
    cr_assert_eq(clock_add(2, INT64_MAX - 1), VOUCH_FOREVER);
    cr_assert_eq(clock_add(INT64_MAX, INT64_MAX), VOUCH_FOREVER);
    cr_assert_eq(clock_add(INT64_MIN, -1), INT64_MIN);
    cr_assert_eq(clock_add(-1, INT64_MIN), INT64_MIN);
    cr_assert_eq(clock_add(0, INT64_MIN), INT64_MIN);
}

Test(clock, poll_timeouts_round_up_and_stay_in_an_int) {
    cr_assert_eq(clock_poll_timeout(0, VOUCH_FOREVER), -1);
    cr_assert_eq(clock_poll_timeout(10, 10), 0);
    cr_assert_eq(clock_poll_timeout(10, 9), 0);
    cr_assert_eq(clock_poll_timeout(10, INT64_MIN), 0);
    cr_assert_eq(clock_poll_timeout(10, 11), 1);
    cr_assert_eq(clock_poll_timeout(0, MS), 1);
    cr_assert_eq(clock_poll_timeout(0, MS + 1), 2);
    cr_assert_eq(clock_poll_timeout(0, INT_MAX * MS), INT_MAX);
    cr_assert_eq(clock_poll_timeout(0, (INT_MAX - 1) * MS), INT_MAX - 1);
    cr_assert_eq(clock_poll_timeout(0, INT_MAX * MS + 1), INT_MAX);
    cr_assert_eq(clock_poll_timeout(0, VOUCH_FOREVER - 1), INT_MAX);
    cr_assert_eq(clock_poll_timeout(INT64_MIN, VOUCH_FOREVER - 1), INT_MAX);
}

Test(clock, timespecs) {
    struct timespec time = clock_timespec(VOUCH_SECONDS(3) + 7);
    cr_assert_eq(time.tv_sec, 3);
    cr_assert_eq(time.tv_nsec, 7);
    time = clock_timespec(-1);
    cr_assert_eq(time.tv_sec, 0);
    cr_assert_eq(time.tv_nsec, 0);
    time = clock_timespec(VOUCH_FOREVER);
    cr_assert_eq(time.tv_sec, INT64_MAX / 1000000000);
    cr_assert_lt(time.tv_nsec, 1000000000);
}

Test(clock, the_version_is_that_of_the_headers) {
    char expected[32];
    snprintf(expected, sizeof(expected), "%d.%d.%d", VOUCH_VERSION_MAJOR, VOUCH_VERSION_MINOR,
             VOUCH_VERSION_PATCH);
    cr_assert_str_eq(vouch_version(), expected);
    cr_assert_str_eq(vouch_version(), VOUCH_VERSION_STRING);
}
