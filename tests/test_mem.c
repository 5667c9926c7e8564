/* SPDX-License-Identifier: MIT */
#include "lib/mem.h"

#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

static struct vouch_memory_stats stats(void) {
    struct vouch_memory_stats stats;
    vouch_memory_get_stats(&stats);
    return stats;
}

Test(mem, counts_what_is_taken_and_given_back) {
    struct vouch_memory_stats before = stats();
    void *memory = mem_alloc(NULL, 100);
    cr_assert_not_null(memory);
    cr_assert_eq(stats().allocations, before.allocations + 1);
    cr_assert_eq(stats().live_bytes, before.live_bytes + 100);
    mem_free(NULL, memory, 100);
    cr_assert_eq(stats().releases, before.releases + 1);
    cr_assert_eq(stats().live_bytes, before.live_bytes);
    cr_assert_eq(stats().failures, before.failures);
}

Test(mem, zeroed_memory_is_zero) {
    static const uint8_t zeros[64];
    support_baseline_begin();
    uint8_t *memory = mem_zalloc(NULL, sizeof(zeros));
    cr_assert_arr_eq(memory, zeros, sizeof(zeros));
    mem_free(NULL, memory, sizeof(zeros));
    support_baseline_end();
}

Test(mem, nothing_is_still_a_block) {
    support_baseline_begin();
    void *memory = mem_alloc(NULL, 0);
    cr_assert_not_null(memory);
    mem_free(NULL, memory, 0);
    support_baseline_end();
}

Test(mem, freeing_null_does_nothing) {
    struct vouch_memory_stats before = stats();
    mem_free(NULL, NULL, 10);
    mem_free_text(NULL, NULL);
    cr_assert_eq(stats().releases, before.releases);
}

Test(mem, resizing_keeps_the_content) {
    support_baseline_begin();
    char *memory = mem_resize(NULL, NULL, 0, 4);
    memcpy(memory, "abc", 4);
    memory = mem_resize(NULL, memory, 4, 400);
    cr_assert_str_eq(memory, "abc");
    memory = mem_resize(NULL, memory, 400, 2);
    cr_assert_arr_eq(memory, "ab", 2);
    mem_free(NULL, memory, 2);
    support_baseline_end();
}

Test(mem, copies_of_texts) {
    support_baseline_begin();
    char *copy = mem_strdup(NULL, "hello");
    cr_assert_str_eq(copy, "hello");
    mem_free_text(NULL, copy);
    support_baseline_end();
}

Test(mem, goes_through_the_allocator_with_true_sizes) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    void *memory = mem_alloc(&allocator.allocator, 10);
    cr_assert_eq(allocator.live_bytes, 10);
    memory = mem_resize(&allocator.allocator, memory, 10, 20);
    cr_assert_eq(allocator.live_bytes, 20);
    mem_free(&allocator.allocator, memory, 20);
    char *text = mem_strdup(&allocator.allocator, "x");
    cr_assert_eq(allocator.live_bytes, 2);
    mem_free_text(&allocator.allocator, text);
    support_allocator_check(&allocator);
}

Test(mem, shortage_is_null_and_counted) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    char *memory = mem_strdup(&allocator.allocator, "kept");
    uint64_t failures = stats().failures;
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    cr_assert_null(mem_alloc(&allocator.allocator, 1));
    cr_assert_null(mem_zalloc(&allocator.allocator, 1));
    cr_assert_null(mem_strdup(&allocator.allocator, "x"));
    cr_assert_null(mem_resize(&allocator.allocator, memory, 5, 50));
    cr_assert_str_eq(memory, "kept");
    cr_assert_eq(stats().failures, failures + 4);
    mem_free_text(&allocator.allocator, memory);
    support_allocator_check(&allocator);
}
