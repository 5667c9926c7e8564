/* SPDX-License-Identifier: MIT */
/* The table of ids: finding, growing, and what it does without memory. */
#include "rpc/idtable.h"

#include "tests/harness.h"
#include "tests/support.h"

#define NODES 5000

static struct support_allocator allocator;
static struct idtable table;
static struct idtable_node nodes[NODES];

static void begin(void) {
    support_baseline_begin();
    support_allocator_init(&allocator);
    idtable_init(&table, &allocator.allocator);
}

static void end(void) {
    idtable_deinit(&table);
    idtable_deinit(&table); /* safe twice */
    support_allocator_check(&allocator);
    support_baseline_end();
}

static void insert(size_t i, uint32_t id) {
    nodes[i] = (struct idtable_node){.id = id};
    idtable_insert(&table, &nodes[i]);
}

static void check_all(size_t count, uint32_t (*id_of)(size_t i)) {
    cr_assert_eq(table.count, count);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(idtable_find(&table, id_of(i)), &nodes[i]);
}

static uint32_t count_up(size_t i) {
    return (uint32_t)i + 1;
}

/* The worst that a peer can choose: all in one chain, whatever the size of the table. */
static uint32_t collide(size_t i) {
    return (uint32_t)i << 16;
}

/* Across the end of the numbers. */
static uint32_t wrap_around(size_t i) {
    return UINT32_MAX - 100 + (uint32_t)i;
}

static void fill_and_empty(size_t count, uint32_t (*id_of)(size_t i)) {
    for (size_t i = 0; i < count; i++) {
        cr_assert_null(idtable_find(&table, id_of(i)));
        insert(i, id_of(i));
    }
    check_all(count, id_of);
    for (size_t i = 0; i < count; i += 2)
        idtable_remove(&table, &nodes[i]);
    cr_assert_eq(table.count, count - (count + 1) / 2);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(idtable_find(&table, id_of(i)), i % 2 ? &nodes[i] : NULL);
    for (size_t i = 1; i < count; i += 2)
        idtable_remove(&table, &nodes[i]);
    cr_assert_eq(table.count, 0);
    cr_assert_null(idtable_any(&table));
}

Test(idtable, empty) {
    begin();
    cr_assert_null(idtable_find(&table, 0));
    cr_assert_null(idtable_find(&table, 1));
    cr_assert_null(idtable_any(&table));
    end();
}

Test(idtable, a_few_take_no_memory) {
    begin();
    for (size_t i = 0; i < IDTABLE_INLINE; i++)
        insert(i, count_up(i));
    check_all(IDTABLE_INLINE, count_up);
    cr_assert_eq(allocator.calls, 0);
    insert(IDTABLE_INLINE, count_up(IDTABLE_INLINE));
    cr_assert_eq(allocator.calls, 1);
    check_all(IDTABLE_INLINE + 1, count_up);
    end();
}

Test(idtable, many) {
    begin();
    fill_and_empty(NODES, count_up);
    cr_assert_geq(table.bucket_count, NODES / 2);
    end();
}

Test(idtable, ids_that_collide) {
    begin();
    fill_and_empty(VOUCH_TEST_ROUNDS(2000, 200), collide);
    end();
}

Test(idtable, ids_that_wrap_around) {
    begin();
    fill_and_empty(200, wrap_around);
    end();
}

Test(idtable, it_is_used_again_after_it_was_emptied) {
    begin();
    fill_and_empty(100, count_up);
    fill_and_empty(100, wrap_around);
    end();
}

Test(idtable, any_empties_it) {
    begin();
    for (size_t i = 0; i < 100; i++)
        insert(i, wrap_around(i));
    for (size_t i = 0; i < 100; i++) {
        struct idtable_node *node = idtable_any(&table);
        cr_assert_not_null(node);
        idtable_remove(&table, node);
    }
    cr_assert_null(idtable_any(&table));
    end();
}

Test(idtable, any_is_the_one_when_there_is_one) {
    begin();
    for (size_t i = 0; i < 50; i++)
        insert(i, count_up(i));
    for (size_t i = 0; i < 50; i++)
        if (i != 31)
            idtable_remove(&table, &nodes[i]);
    cr_assert_eq(idtable_any(&table), &nodes[31]);
    idtable_remove(&table, &nodes[31]);
    end();
}

/* Inserting never fails: it only gets slower. When there is memory again it grows again. */
Test(idtable, without_memory_the_chains_get_longer) {
    begin();
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    for (size_t i = 0; i < 100; i++)
        insert(i, count_up(i));
    check_all(100, count_up);
    cr_assert_eq(table.bucket_count, IDTABLE_INLINE);
    cr_assert_gt(allocator.injected, 0);
    support_allocator_fail(&allocator, 0, 0);
    for (size_t i = 100; i < 200; i++)
        insert(i, count_up(i));
    check_all(200, count_up);
    cr_assert_gt(table.bucket_count, IDTABLE_INLINE);
    end();
}

Test(idtable, as_a_plain_array_would_have_it) {
    static bool in[256];
    struct support_random random;
    begin();
    support_random_init(&random);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(200000, 5000); i++) {
        uint32_t id = (uint32_t)support_random_below(&random, 256);
        cr_assert_eq(idtable_find(&table, id) != NULL, in[id]);
        if (in[id])
            idtable_remove(&table, &nodes[id]);
        else
            insert(id, id);
        in[id] = !in[id];
    }
    size_t count = 0;
    for (size_t id = 0; id < 256; id++)
        count += in[id];
    cr_assert_eq(table.count, count);
    end();
}
