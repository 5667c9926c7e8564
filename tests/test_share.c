/* SPDX-License-Identifier: MIT */
/* Shares of users: places, turns, and memory that goes with the last user. */
#include "rpc/share.h"

#include <vouch/memory.h>

#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/support.h"

static struct share_table table;

static void begin(void) {
    support_baseline_begin();
    table = (struct share_table){0};
}

static void end(void) {
    cr_assert_null(table.first);
    cr_assert_null(table.last);
    support_baseline_end();
}

TestSuite(share, .init = begin, .fini = end);

Test(share, one_for_each_user_while_it_is_used) {
    struct share *a = share_get(&table, 1, 2), *b = share_get(&table, 2, 2);
    cr_assert_neq(a, b);
    cr_assert_eq(share_get(&table, 1, 99), a);
    cr_assert_eq(a->limit, 2);
    share_put(&table, a);
    cr_assert_eq(share_get(&table, 1, 99), a, "it has a user yet");
    share_put(&table, a);
    share_put(&table, a);
    share_put(&table, b);
    share_put(&table, NULL);
}

Test(share, has_as_many_places_as_its_limit) {
    struct share *share = share_get(&table, 1, 2);
    cr_assert(share_begin(share));
    cr_assert(share_begin(share));
    cr_assert_not(share_begin(share));
    share_end(&table, share);
    cr_assert(share_begin(share));
    share_put(&table, share); /* its connection goes while handlers run */
    share_end(&table, share);
    share_end(&table, share);
}

/* Two users wait; the one that asked for much does not go first again and again. */
Test(share, take_turns) {
    struct vouch_call calls[5];
    struct share *greedy = share_get(&table, 1, 3), *modest = share_get(&table, 2, 3);
    for (int i = 0; i < 4; i++)
        share_wait(greedy, &calls[i]);
    share_wait(modest, &calls[4]);
    cr_assert_eq(share_next(&table), &calls[0]);
    cr_assert_eq(share_next(&table), &calls[4]);
    cr_assert_eq(share_next(&table), &calls[1]);
    cr_assert_eq(share_next(&table), &calls[2]);
    cr_assert_null(share_next(&table), "all its places are taken");
    share_end(&table, greedy);
    cr_assert_eq(share_next(&table), &calls[3]);
    cr_assert_null(share_next(&table));
    for (int i = 0; i < 3; i++)
        share_end(&table, greedy);
    share_end(&table, modest);
    share_put(&table, greedy);
    share_put(&table, modest);
}

Test(share, without_memory_there_is_none) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    table.allocator = &allocator.allocator;
    cr_assert_null(share_get(&table, 1, 1));
}
