/* SPDX-License-Identifier: MIT */
#include "plugin/backoff.h"

#include <vouch/common.h>

#include "tests/harness.h"

static struct backoff usual(void) {
    return (struct backoff){.min = VOUCH_MILLISECONDS(100),
                            .max = VOUCH_SECONDS(30),
                            .healthy = VOUCH_SECONDS(10),
                            .limit = 20};
}

Test(backoff, doubles_up_to_the_maximum) {
    struct backoff b = usual();
    int64_t expected = b.min;
    for (int i = 0; i < 20; i++) {
        int64_t wait = backoff_next(&b, 0, 512); /* half way: no jitter */
        cr_assert_leq(wait, expected + expected / 100);
        cr_assert_geq(wait, expected - expected / 100);
        expected = expected * 2 < b.max ? expected * 2 : b.max;
    }
    cr_assert_eq(backoff_next(&b, 0, 512), -1, "it has been enough");
    cr_assert_eq(backoff_next(&b, VOUCH_SECONDS(9), 512), -1);
}

Test(backoff, varies_by_a_quarter) {
    for (uint32_t random = 0; random < 3000; random += 7) {
        struct backoff b = usual();
        int64_t wait = backoff_next(&b, 0, random);
        cr_assert_geq(wait, VOUCH_MILLISECONDS(75));
        cr_assert_leq(wait, VOUCH_MILLISECONDS(125));
    }
}

Test(backoff, begins_anew_after_a_healthy_run) {
    struct backoff b = usual();
    for (int i = 0; i < 5; i++)
        (void)backoff_next(&b, 0, 0);
    cr_assert_eq(backoff_next(&b, VOUCH_SECONDS(10), 0), VOUCH_MILLISECONDS(75));
}

Test(backoff, without_a_limit_it_goes_on) {
    struct backoff b = usual();
    b.limit = UINT32_MAX;
    b.count = UINT32_MAX;
    cr_assert_gt(backoff_next(&b, 0, 0), 0);
    cr_assert_leq(backoff_next(&b, 0, UINT32_MAX), b.max);
}

Test(backoff, of_extremes_stays_in_range) {
    struct backoff b = {.min = 1, .max = 1, .healthy = VOUCH_FOREVER, .limit = UINT32_MAX};
    cr_assert_eq(backoff_next(&b, 0, 1024), 1);
    b = (struct backoff){.min = INT64_MAX / 2, .max = INT64_MAX, .limit = 3};
    for (int i = 0; i < 3; i++)
        cr_assert_gt(backoff_next(&b, -1, 1024), 0);
}
