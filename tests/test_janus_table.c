/* SPDX-License-Identifier: MIT */
/* The table of objects by id: grows with them, and lives without memory to grow. */
#include "rpc/janus_table.h"

#include <stdlib.h>
#include <vouch/janus.h>

#include "tests/harness.h"
#include "tests/support.h"

enum { MANY = 20000, CHAIN_MAX = 16 };

static struct support_allocator memory;
static struct vouch_pool *pool;
static struct janus_table table;
static struct janus_node nodes[MANY];

static void begin(void) {
    support_allocator_init(&memory);
    const struct vouch_pool_options options = {VOUCH_OPTIONS(options),
                                               .allocator = &memory.allocator};
    cr_assert_eq(vouch_pool_new(&options, &pool), 0);
    janus_table_init(&table, pool);
}

static void end(void) {
    janus_table_deinit(&table);
    vouch_pool_unref(pool);
    support_allocator_check(&memory);
}

static size_t longest(void) {
    size_t most = 0;
    for (size_t i = 0; i < janus_table_chains(&table); i++) {
        size_t length = 0;
        for (struct janus_node *node = table.chains[i]; node; node = node->next)
            length++;
        most = length > most ? length : most;
    }
    return most;
}

static void fill(uint64_t first, uint64_t stride) {
    for (uint64_t i = 0; i < MANY; i++) {
        nodes[i].id = (first + i * stride) & VOUCH_JANUS_ID_MAX;
        janus_table_insert(&table, &nodes[i]);
    }
    cr_assert_eq(table.count, MANY);
    for (size_t i = 0; i < MANY; i++)
        cr_assert_eq(janus_table_find(&table, nodes[i].id), &nodes[i]);
}

static void clear(void) {
    for (size_t i = 0; i < MANY; i++)
        janus_table_remove(&table, &nodes[i]);
    cr_assert_eq(table.count, 0);
    cr_assert_eq(longest(), 0);
}

Test(janus_table, what_was_put_in_and_nothing_else) {
    struct janus_node a = {.id = 1}, b = {.id = VOUCH_JANUS_ID_MAX};
    begin();
    cr_assert_null(janus_table_find(&table, 1));
    janus_table_insert(&table, &a);
    janus_table_insert(&table, &b);
    cr_assert_eq(janus_table_find(&table, 1), &a);
    cr_assert_eq(janus_table_find(&table, VOUCH_JANUS_ID_MAX), &b);
    cr_assert_null(janus_table_find(&table, 2));
    cr_assert_null(janus_table_find_next(&a));
    janus_table_remove(&table, &a);
    cr_assert_null(janus_table_find(&table, 1));
    cr_assert_eq(janus_table_find(&table, VOUCH_JANUS_ID_MAX), &b);
    janus_table_remove(&table, &b);
    end();
}

Test(janus_table, several_with_one_id) {
    struct janus_node same[3] = {{.id = 7}, {.id = 7}, {.id = 7}}, other = {.id = 8};
    begin();
    janus_table_insert(&table, &other);
    for (int i = 0; i < 3; i++)
        janus_table_insert(&table, &same[i]);
    unsigned seen = 0;
    for (struct janus_node *node = janus_table_find(&table, 7); node;
         node = janus_table_find_next(node))
        seen |= 1u << (node - same);
    cr_assert_eq(seen, 7);
    janus_table_remove(&table, &same[1]);
    seen = 0;
    for (struct janus_node *node = janus_table_find(&table, 7); node;
         node = janus_table_find_next(node))
        seen |= 1u << (node - same);
    cr_assert_eq(seen, 5);
    end();
}

/* As gateways and their tests number: one after the other, by a power of two, by chance. */
Test(janus_table, chains_stay_short) {
    static const uint64_t strides[] = {
        1, 2, 64, 1000, 4096, UINT64_C(1) << 32, UINT64_C(6364136223846793005)};
    for (size_t i = 0; i < sizeof(strides) / sizeof(strides[0]); i++) {
        begin();
        fill(strides[i] | 1, strides[i]);
        cr_assert_geq(janus_table_chains(&table), MANY);
        cr_assert_leq(longest(), CHAIN_MAX, "%zu with the stride %llu", longest(),
                      (unsigned long long)strides[i]);
        clear();
        end();
    }
}

/* The old table stays; with memory again it grows on. */
Test(janus_table, without_memory_to_grow) {
    begin();
    support_allocator_fail(&memory, 1, SUPPORT_FAIL_ALWAYS);
    for (uint64_t i = 0; i < 1000; i++) {
        nodes[i].id = i + 1;
        janus_table_insert(&table, &nodes[i]);
    }
    cr_assert_gt(memory.injected, 0);
    cr_assert_eq(janus_table_chains(&table), 1u << JANUS_TABLE_BITS);
    for (size_t i = 0; i < 1000; i++)
        cr_assert_eq(janus_table_find(&table, i + 1), &nodes[i]);
    support_allocator_fail(&memory, 0, SUPPORT_FAIL_ALWAYS);
    for (uint64_t i = 1000; i < 2000; i++) {
        nodes[i].id = i + 1;
        janus_table_insert(&table, &nodes[i]);
    }
    cr_assert_gt(janus_table_chains(&table), 1000);
    cr_assert_leq(longest(), CHAIN_MAX);
    for (size_t i = 0; i < 2000; i++)
        cr_assert_eq(janus_table_find(&table, i + 1), &nodes[i]);
    end();
}
