/* SPDX-License-Identifier: MIT */
/* Quotas: every limit at the limit and one past it; places outlive their owner. */
#include "lib/admission.h"

#include <errno.h>
#include <limits.h>
#include <sys/resource.h>

#include "tests/harness.h"
#include "tests/support.h"

TestSuite(admission, .init = support_baseline_begin, .fini = support_baseline_end);

enum { OWN = 1000, MAX = 4096 };

static struct admission_share *places[2 * MAX];

static struct admission *make(unsigned total, unsigned per_uid) {
    struct admission *admission;
    cr_assert_eq(admission_new(NULL, total, per_uid, OWN, &admission), 0);
    return admission;
}

/* Takes places for `uid` until there are none; returns how many, and why no more. */
static unsigned fill(struct admission *admission, uid_t uid, struct admission_share **shares,
                     int *ret_why) {
    unsigned count = 0;
    while ((*ret_why = admission_admit(admission, uid, &shares[count])) == ADMISSION_OK)
        count++;
    return count;
}

static void give_back(struct admission_share **shares, unsigned count) {
    while (count > 0)
        admission_release(shares[--count]);
}

Test(admission, default_total) {
    cr_expect_eq(admission_default_total(0), 1);
    cr_expect_eq(admission_default_total(64), 1);
    cr_expect_eq(admission_default_total(65), 1);
    cr_expect_eq(admission_default_total(66), 1);
    cr_expect_eq(admission_default_total(68), 3);
    cr_expect_eq(admission_default_total(1024), 720);
    cr_expect_eq(admission_default_total(5525), 4095);
    cr_expect_eq(admission_default_total(5526), 4096);
    cr_expect_eq(admission_default_total(UINT64_MAX), 4096);
}

Test(admission, default_total_follows_the_limit_of_descriptors) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit lower = {72, limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lower), 0);
    struct admission *admission = make(0, UINT_MAX);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int why;
    unsigned count = fill(admission, OWN, places, &why);
    cr_assert_eq(count, 6);
    cr_assert_eq(why, ADMISSION_FULL);
    give_back(places, count);
    admission_free(admission);
}

Test(admission, others_get_at_most_half_by_default) {
    struct admission *admission = make(100, 0);
    int why;
    unsigned count = fill(admission, 1, places, &why);
    cr_assert_eq(count, 50);
    cr_assert_eq(why, ADMISSION_UID_FULL);
    count += fill(admission, OWN, places + count, &why);
    cr_assert_eq(count, 100, "our own uid may have all that is left");
    cr_assert_eq(why, ADMISSION_FULL);
    cr_assert_eq(admission_live(admission), 100);
    give_back(places, count);
    admission_free(admission);
}

Test(admission, per_uid_default_is_256) {
    struct admission *admission = make(MAX, 0);
    int why;
    unsigned count = fill(admission, 1, places, &why);
    cr_assert_eq(count, 256);
    cr_assert_eq(why, ADMISSION_UID_FULL);
    unsigned own = fill(admission, OWN, places + count, &why);
    cr_assert_eq(own, 256);
    cr_assert_eq(why, ADMISSION_UID_FULL);
    give_back(places, count + own);
    admission_free(admission);
}

Test(admission, explicit_limits_are_taken_as_they_are) {
    struct admission *admission = make(10, 9);
    int why;
    unsigned count = fill(admission, 1, places, &why);
    cr_assert_eq(count, 9);
    cr_assert_eq(why, ADMISSION_UID_FULL);
    count += fill(admission, 2, places + count, &why);
    cr_assert_eq(count, 10);
    cr_assert_eq(why, ADMISSION_FULL);
    cr_assert_eq(admission_admit(admission, 1, &places[count]), ADMISSION_UID_FULL,
                 "the more telling reason");
    give_back(places, count);
    admission_free(admission);
}

Test(admission, a_total_of_one_lets_one_in) {
    struct admission *admission = make(1, 0);
    int why;
    cr_assert_eq(fill(admission, 1, places, &why), 1);
    give_back(places, 1);
    cr_assert_eq(fill(admission, OWN, places, &why), 1);
    give_back(places, 1);
    admission_free(admission);
}

Test(admission, a_place_given_back_can_be_taken) {
    struct admission *admission = make(4, 2);
    int why;
    cr_assert_eq(fill(admission, 1, places, &why), 2);
    admission_release(places[1]);
    cr_assert_eq(admission_live(admission), 1);
    cr_assert_eq(fill(admission, 1, places + 1, &why), 1);
    give_back(places, 2);
    cr_assert_eq(admission_live(admission), 0);
    admission_free(admission);
}

Test(admission, the_unknown_uid_is_one_user) {
    struct admission *admission = make(10, 0);
    int why;
    cr_assert_eq(fill(admission, (uid_t)-1, places, &why), 5);
    cr_assert_eq(why, ADMISSION_UID_FULL);
    give_back(places, 5);
    admission_free(admission);
}

Test(admission, places_outlive_the_owner) {
    struct admission *admission = make(2, 2);
    cr_assert_eq(admission_admit(admission, 1, &places[0]), ADMISSION_OK);
    cr_assert_eq(admission_admit(admission, 2, &places[1]), ADMISSION_OK);
    admission_free(admission);
    give_back(places, 2);
    admission_free(NULL);
}

/* Against the plainest bookkeeping there is. */
Test(admission, many_users_coming_and_going) {
    enum { USERS = 300, ROUNDS = 200000 };
    struct support_random random;
    support_random_init(&random);
    struct admission *admission = make(MAX, 16);
    static unsigned counts[USERS];
    static struct admission_share *held[USERS][16];
    unsigned total = 0;
    for (int i = 0; i < VOUCH_TEST_ROUNDS(ROUNDS, ROUNDS / 10); i++) {
        uint64_t user = support_random_below(&random, USERS);
        if (support_random_below(&random, 2) == 0) {
            struct admission_share *share;
            int r = admission_admit(admission, (uid_t)(user * 2654435761u), &share);
            cr_assert_eq(r, counts[user] == 16 ? ADMISSION_UID_FULL
                            : total == MAX     ? ADMISSION_FULL
                                               : ADMISSION_OK);
            if (r == ADMISSION_OK) {
                held[user][counts[user]++] = share;
                total++;
            }
        } else if (counts[user] > 0) {
            admission_release(held[user][--counts[user]]);
            total--;
        }
        cr_assert_eq(admission_live(admission), total);
    }
    for (int user = 0; user < USERS; user++)
        give_back(held[user], counts[user]);
    admission_free(admission);
}

static void *come_and_go(void *context) {
    for (int i = 0; i < 2000; i++) {
        struct admission_share *share;
        if (admission_admit(context, (uid_t)(i % 5), &share) == ADMISSION_OK)
            admission_release(share);
    }
    return NULL;
}

Test(admission, from_many_threads) {
    struct admission *admission = make(3, 2);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = support_thread_start(come_and_go, admission);
    for (int i = 0; i < 4; i++)
        support_thread_join(threads[i]);
    cr_assert_eq(admission_live(admission), 0);
    admission_free(admission);
}

Test(admission, out_of_memory_takes_no_place) {
    struct support_allocator allocator;
    struct admission *admission;
    support_allocator_init(&allocator);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(admission_new(&allocator.allocator, 4, 4, OWN, &admission), -ENOMEM);
    support_allocator_fail(&allocator, 0, 0);
    cr_assert_eq(admission_new(&allocator.allocator, 4, 4, OWN, &admission), 0);
    int r = -ENOMEM;
    for (uint64_t n = 1; r == -ENOMEM; n++) {
        cr_assert_eq(admission_live(admission), 0);
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        r = admission_admit(admission, 1, &places[0]);
    }
    cr_assert_eq(r, ADMISSION_OK);
    admission_release(places[0]);
    admission_free(admission);
    support_allocator_check(&allocator);
}
