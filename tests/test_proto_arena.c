/* SPDX-License-Identifier: MIT */
#include "stream/proto_arena.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

static struct vouch_pool *pool;
static struct proto_arena arena;

static void begin(size_t size) {
    support_baseline_begin();
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    proto_arena_init(&arena, pool, size);
}

static void end(void) {
    proto_arena_release(arena.blocks);
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(pool, &stats);
    cr_assert_eq(stats.buffers_out, 0);
    vouch_pool_unref(pool);
    support_baseline_end();
}

static void *take(size_t size) {
    return arena.allocator.alloc(arena.allocator.allocator_data, size);
}

Test(proto_arena, budgets) {
    cr_assert_eq(proto_arena_budget(0), 64 * KIB);
    cr_assert_eq(proto_arena_budget(1000), 64 * KIB + 32000);
    cr_assert_eq(proto_arena_budget(512 * KIB - 2 * KIB), 16 * MIB);
    cr_assert_eq(proto_arena_budget(512 * KIB), 16 * MIB);
    cr_assert_eq(proto_arena_budget(7 * MIB), 16 * MIB);
    cr_assert_eq(proto_arena_budget(100 * MIB), 200 * MIB + 64 * KIB, "a large field has to fit");
}

Test(proto_arena, takes_nothing_before_it_is_asked) {
    begin(1000);
    cr_assert_null(arena.blocks);
    end();
}

Test(proto_arena, blocks_do_not_overlap_and_are_aligned) {
    enum { COUNT = 300 };
    uint8_t *blocks[COUNT];
    begin(COUNT * 10);
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = take(i % 50);
        cr_assert_not_null(blocks[i]);
        cr_assert_eq((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
        memset(blocks[i], (int)i, i % 50);
    }
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned j = 0; j < i % 50; j++)
            cr_assert_eq(blocks[i][j], (uint8_t)i);
    arena.allocator.free(arena.allocator.allocator_data, blocks[3]); /* does nothing */
    end();
}

Test(proto_arena, the_budget_is_exact) {
    begin(0);
    cr_assert_not_null(take(40 * KIB));
    cr_assert_null(take(24 * KIB + 1));
    cr_assert_eq(arena.failure, -EMSGSIZE);
    cr_assert_not_null(take(24 * KIB));
    cr_assert_null(take(1));
    end();
}

Test(proto_arena, what_is_larger_than_a_block_gets_its_own) {
    begin(2 * MIB);
    uint8_t *large = take(3 * MIB);
    cr_assert_not_null(large);
    memset(large, 1, 3 * MIB);
    cr_assert_not_null(take(10));
    end();
}

Test(proto_arena, says_that_memory_is_short) {
    struct support_allocator allocator;
    support_baseline_begin();
    support_allocator_init(&allocator);
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = &allocator.allocator};
    cr_assert_eq(vouch_pool_new(&options, &pool), 0);
    proto_arena_init(&arena, pool, 100);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_null(take(10));
    cr_assert_eq(arena.failure, -ENOMEM);
    cr_assert_not_null(take(10), "another time");
    proto_arena_release(arena.blocks);
    vouch_pool_unref(pool);
    support_allocator_check(&allocator);
    support_baseline_end();
}

Test(proto_arena, release_of_nothing) {
    proto_arena_release(NULL);
}
