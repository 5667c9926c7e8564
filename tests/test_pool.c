/* SPDX-License-Identifier: MIT */
#include "lib/pool.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/support.h"

#define REQUEST_MAX ((size_t)SSIZE_MAX / 2)
#define MIB ((size_t)1024 * 1024)
#define KEPT (pool_recycles() ? 1u : 0u) /* nothing is kept under AddressSanitizer */

static struct vouch_pool *new_pool(const struct vouch_pool_options *options) {
    struct vouch_pool *pool;
    cr_assert_eq(vouch_pool_new(options, &pool), 0);
    return pool;
}

static struct vouch_buffer *get(struct vouch_pool *pool, size_t capacity) {
    struct vouch_buffer *buffer;
    cr_assert_eq(vouch_pool_get(pool, 0, capacity, &buffer), 0);
    return buffer;
}

static struct vouch_pool_stats stats(struct vouch_pool *pool) {
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(pool, &stats);
    cr_assert_eq(stats.gets, stats.hits + stats.misses);
    return stats;
}

/* Takes `count` blocks of this size and gives them all back; returns how many bytes are idle then.
 */
static uint64_t churn(struct vouch_pool *pool, size_t block_size, size_t count) {
    struct vouch_buffer *buffers[64];
    cr_assert_leq(count, 64);
    for (size_t i = 0; i < count; i++)
        buffers[i] = get(pool, POOL_ROOM(block_size));
    for (size_t i = 0; i < count; i++)
        vouch_buffer_unref(buffers[i]);
    return stats(pool).bytes_idle;
}

Test(pool, buffers_have_the_room_that_was_asked_for) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    for (size_t size = 0; size < 3 * 1024 * 1024; size += 1 + size / 7) {
        for (size_t headroom = 0; headroom <= 64; headroom += 32) {
            struct vouch_buffer *buffer;
            cr_assert_eq(vouch_pool_get(pool, headroom, size, &buffer), 0);
            cr_assert_eq(buffer->size, 0);
            cr_assert_geq(buffer->capacity, size);
            cr_assert_eq(vouch_buffer_headroom(buffer), headroom);
            memset(buffer->data - headroom, 0xaa, headroom + buffer->capacity);
            vouch_buffer_unref(buffer);
        }
    }
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, a_copy_has_the_bytes_and_is_its_own) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    char bytes[] = "bytes";
    struct vouch_buffer *copy;
    cr_assert_eq(pool_copy(pool, bytes, 5, &copy), 0);
    bytes[0] = 'x';
    cr_assert_eq(copy->size, 5);
    cr_assert_arr_eq(copy->data, "bytes", 5);
    vouch_buffer_unref(copy);
    cr_assert_eq(pool_copy(pool, NULL, 0, &copy), 0);
    cr_assert_eq(copy->size, 0);
    vouch_buffer_unref(copy);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, rounding_up_costs_at_most_a_third) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    for (size_t block = VOUCH_POOL_CLASS_MIN; block <= VOUCH_POOL_CLASS_MAX;
         block += 1 + block / 300) {
        struct vouch_buffer *buffer = get(pool, POOL_ROOM(block));
        size_t got = pool_buffer_of(buffer)->block_size;
        cr_assert_eq(got, buffer->capacity + sizeof(struct pool_buffer));
        cr_assert_geq(got, block);
        cr_assert_lt((got - block) * 3, got, "%zu bytes for %zu", got, block);
        vouch_buffer_unref(buffer);
    }
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, a_class_is_exactly_its_size) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    for (size_t power = VOUCH_POOL_CLASS_MIN; power <= VOUCH_POOL_CLASS_MAX; power *= 2) {
        struct vouch_buffer *exact = get(pool, POOL_ROOM(power));
        cr_assert_eq(pool_buffer_of(exact)->block_size, power);
        vouch_buffer_unref(exact);
        if (power == VOUCH_POOL_CLASS_MAX)
            break;
        struct vouch_buffer *over = get(pool, POOL_ROOM(power) + 1);
        cr_assert_eq(pool_buffer_of(over)->block_size, power + power / 2);
        vouch_buffer_unref(over);
        over = get(pool, POOL_ROOM(power + power / 2) + 1);
        cr_assert_eq(pool_buffer_of(over)->block_size, power * 2);
        vouch_buffer_unref(over);
    }
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, over_the_largest_class_nothing_is_kept_and_sizes_are_exact) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    struct vouch_buffer *largest = get(pool, POOL_ROOM(VOUCH_POOL_CLASS_MAX));
    struct vouch_buffer *over = get(pool, POOL_ROOM(VOUCH_POOL_CLASS_MAX) + 1);
    cr_assert_eq(over->capacity, POOL_ROOM(VOUCH_POOL_CLASS_MAX) + 1);
    vouch_buffer_unref(over);
    cr_assert_eq(stats(pool).bytes_idle, 0);
    vouch_buffer_unref(largest);
    cr_assert_eq(stats(pool).bytes_idle, KEPT * VOUCH_POOL_CLASS_MAX);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, requests_over_the_bound_are_refused) {
    support_baseline_begin();
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_pool *pool =
        new_pool(&(struct vouch_pool_options){.allocator = &allocator.allocator});
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    struct vouch_buffer *buffer;
    cr_assert_eq(vouch_pool_get(pool, 0, REQUEST_MAX, &buffer), -ENOMEM);
    cr_assert_eq(vouch_pool_get(pool, 0, REQUEST_MAX + 1, &buffer), -EMSGSIZE);
    cr_assert_eq(vouch_pool_get(pool, REQUEST_MAX, 0, &buffer), -ENOMEM);
    cr_assert_eq(vouch_pool_get(pool, REQUEST_MAX, 1, &buffer), -EMSGSIZE);
    cr_assert_eq(vouch_pool_get(pool, 1, REQUEST_MAX, &buffer), -EMSGSIZE);
    cr_assert_eq(vouch_pool_get(pool, SIZE_MAX, SIZE_MAX, &buffer), -EMSGSIZE);
    cr_assert_eq(vouch_pool_get(pool, 1, SIZE_MAX, &buffer), -EMSGSIZE);
    vouch_pool_unref(pool);
    support_allocator_check(&allocator);
    support_baseline_end();
}

Test(pool, the_same_sizes_again_are_hits_only) {
    if (!pool_recycles())
        cr_skip_test("nothing is recycled under AddressSanitizer");
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    for (size_t block = VOUCH_POOL_CLASS_MIN; block <= MIB; block *= 2)
        churn(pool, block, 3);
    struct vouch_pool_stats first = stats(pool);
    for (int round = 0; round < 100; round++)
        for (size_t block = VOUCH_POOL_CLASS_MIN; block <= MIB; block *= 2)
            churn(pool, block, 3);
    struct vouch_pool_stats last = stats(pool);
    cr_assert_eq(last.misses, first.misses);
    cr_assert_eq(last.allocations, first.allocations);
    cr_assert_eq(last.bytes_held, first.bytes_held);
    cr_assert_eq(last.hits, first.hits + 100 * first.gets);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, the_last_one_in_is_the_first_one_out_and_looks_new) {
    if (!pool_recycles())
        cr_skip_test("nothing is recycled under AddressSanitizer");
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    struct vouch_buffer *first = get(pool, 1000), *second = get(pool, 1000);
    second->data += 10;
    second->size = 77;
    second->capacity -= 10;
    pool_buffer_of(second)->next = pool_buffer_of(first);
    vouch_buffer_unref(first);
    vouch_buffer_unref(second);
    struct vouch_buffer *again = get(pool, 1000);
    cr_assert_eq(again, second);
    cr_assert_eq(again->size, 0);
    cr_assert_eq(vouch_buffer_headroom(again), 0);
    cr_assert_geq(again->capacity, 1000);
    cr_assert_null(pool_buffer_of(again)->next);
    vouch_buffer_unref(again);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, what_is_kept_is_bounded_for_all) {
    support_baseline_begin();
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .max_idle_bytes = 8192,
                                         .max_idle_per_class = 8192};
    struct vouch_pool *pool = new_pool(&options);
    cr_assert_eq(churn(pool, 4096, 2), KEPT * 8192);
    cr_assert_eq(churn(pool, 4096, 3), KEPT * 8192);
    cr_assert_eq(churn(pool, 512, 1), KEPT * 8192);
    vouch_pool_trim(pool);
    cr_assert_eq(churn(pool, 4096, 1), KEPT * 4096);
    cr_assert_eq(churn(pool, 512, 9), KEPT * 8192);
    cr_assert_eq(churn(pool, 16384, 1), KEPT * 8192);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, what_is_kept_is_bounded_for_each_class) {
    support_baseline_begin();
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .max_idle_bytes = 8192};
    struct vouch_pool *pool = new_pool(&options);
    cr_assert_eq(churn(pool, 1024, 4), KEPT * 4096);
    cr_assert_eq(churn(pool, 1024, 5), KEPT * 4096);
    cr_assert_eq(churn(pool, 512, 1), KEPT * (4096 + 512));
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, without_a_bound_everything_is_kept) {
    support_baseline_begin();
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .max_idle_bytes = SIZE_MAX};
    struct vouch_pool *pool = new_pool(&options);
    cr_assert_eq(churn(pool, VOUCH_POOL_CLASS_MAX, 40), KEPT * 40 * (uint64_t)VOUCH_POOL_CLASS_MAX);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, by_default_16_MiB_are_kept_half_of_it_in_one_class) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    cr_assert_eq(churn(pool, MIB, 9), KEPT * 8 * (uint64_t)MIB);
    cr_assert_eq(churn(pool, MIB / 2, 17), KEPT * 16 * (uint64_t)MIB);
    cr_assert_eq(churn(pool, VOUCH_POOL_CLASS_MIN, 1), KEPT * 16 * (uint64_t)MIB);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, statistics_add_up) {
    support_baseline_begin();
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = &allocator.allocator};
    struct vouch_pool *pool = new_pool(&options);
    cr_assert_eq(stats(pool).bytes_held, allocator.live_bytes);
    cr_assert_eq(stats(pool).allocations, 1);

    struct vouch_buffer *one = get(pool, 1), *two = get(pool, 5000), *three = get(pool, 9000000);
    cr_assert_eq(stats(pool).buffers_out, 3);
    cr_assert_eq(stats(pool).gets, 3);
    cr_assert_eq(stats(pool).misses, 3);
    cr_assert_eq(stats(pool).bytes_held, allocator.live_bytes);
    vouch_buffer_unref(one);
    vouch_buffer_unref(two);
    vouch_buffer_unref(three);
    cr_assert_eq(stats(pool).buffers_out, 0);
    cr_assert_eq(stats(pool).bytes_idle, KEPT * (512 + 6144));
    cr_assert_eq(stats(pool).bytes_held, allocator.live_bytes);

    vouch_buffer_unref(get(pool, 1));
    cr_assert_eq(stats(pool).hits, KEPT);
    cr_assert_eq(stats(pool).gets, 4);
    vouch_pool_trim(pool);
    cr_assert_eq(stats(pool).bytes_idle, 0);
    cr_assert_eq(allocator.live_blocks, 1);
    cr_assert_eq(stats(pool).bytes_held, allocator.live_bytes);
    cr_assert_eq(stats(pool).allocations, allocator.calls);
    vouch_pool_unref(pool);
    support_allocator_check(&allocator);
    support_baseline_end();
}

Test(pool, references_of_a_buffer) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    struct vouch_buffer *buffer = get(pool, 10);
    cr_assert_not(pool_buffer_is_shared(buffer));
    cr_assert_eq(vouch_buffer_ref(buffer), buffer);
    cr_assert(pool_buffer_is_shared(buffer));
    vouch_buffer_unref(buffer);
    cr_assert_not(pool_buffer_is_shared(buffer));
    cr_assert_eq(stats(pool).buffers_out, 1);
    vouch_buffer_unref(buffer);
    cr_assert_eq(stats(pool).buffers_out, 0);
    vouch_buffer_unref(NULL);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, lives_until_its_last_buffer) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    vouch_buffer_unref(get(pool, 100));
    struct vouch_buffer *kept = get(pool, 100), *large = get(pool, 3000000);
    cr_assert_eq(vouch_pool_ref(pool), pool);
    vouch_pool_unref(pool);
    vouch_buffer_unref(get(pool, 100));
    vouch_pool_unref(pool);
    memset(kept->data, 1, kept->capacity);
    vouch_buffer_unref(kept);
    vouch_buffer_unref(large);
    vouch_pool_unref(NULL);
    support_baseline_end();
}

Test(pool, shortage_of_memory_changes_nothing) {
    support_baseline_begin();
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = &allocator.allocator};
    struct vouch_pool *pool;
    struct vouch_buffer *buffer;
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(vouch_pool_new(&options, &pool), -ENOMEM);
    cr_assert_eq(vouch_pool_new(&options, &pool), 0);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(vouch_pool_get(pool, 0, 10, &buffer), -ENOMEM);
    cr_assert_eq(stats(pool).gets, 0);
    cr_assert_eq(stats(pool).buffers_out, 0);
    cr_assert_eq(vouch_pool_get(pool, 0, 10, &buffer), 0);
    vouch_buffer_unref(buffer);
    vouch_pool_unref(pool);
    support_allocator_check(&allocator);
    support_baseline_end();
}

Test(pool, options_of_an_older_program_are_read_as_far_as_they_go) {
    support_baseline_begin();
    struct support_allocator unused;
    support_allocator_init(&unused);
    struct vouch_pool_options options = {.size = sizeof(size_t), .allocator = &unused.allocator};
    struct vouch_pool *pool = new_pool(&options);
    cr_assert_eq(unused.calls, 0);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(pool, is_of_no_use_in_a_forked_child_and_does_no_harm) {
    support_baseline_begin();
    struct vouch_pool *pool = new_pool(NULL);
    struct vouch_buffer *buffer = get(pool, 10);
    pid_t child = fork();
    if (child == 0) {
        struct vouch_buffer *other;
        int result = vouch_pool_get(pool, 0, 10, &other);
        vouch_buffer_unref(buffer);
        vouch_pool_trim(pool);
        vouch_pool_unref(pool);
        _exit(result == -ECHILD ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    vouch_buffer_unref(buffer);
    vouch_pool_unref(pool);
    support_baseline_end();
}

/* ---- threads ---- */

struct exchange {
    struct vouch_pool *pool;
    struct vouch_buffer *_Atomic slots[8];
    uint64_t seed;
};

/* Puts buffers, filled with a value of their own, where another thread may find, check and drop
 * them. */
static void *exchange_buffers(void *context) {
    struct exchange *exchange = context;
    struct support_random random = {exchange->seed};
    for (int i = 0; i < VOUCH_TEST_ROUNDS(200000, 20000); i++) {
        struct vouch_buffer *buffer;
        if (vouch_pool_get(exchange->pool, 0, 1 + support_random_below(&random, 3000), &buffer) < 0)
            return "no buffer";
        buffer->size = 1 + support_random_below(&random, 32);
        memset(buffer->data, (int)buffer->size, buffer->size);
        bool shared = support_random_below(&random, 2);
        if (shared)
            vouch_buffer_ref(buffer);
        size_t slot = support_random_below(&random, 8);
        struct vouch_buffer *found = atomic_exchange(&exchange->slots[slot], buffer);
        for (size_t j = 0; found && j < found->size; j++)
            if (found->data[j] != found->size)
                return "another's bytes";
        vouch_buffer_unref(found);
        if (shared)
            vouch_buffer_unref(buffer);
    }
    return NULL;
}

Test(pool, threads_share_it) {
    support_baseline_begin();
    struct exchange exchange = {.pool = new_pool(NULL), .seed = 1};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = support_thread_start(exchange_buffers, &exchange);
    for (int i = 0; i < 100; i++)
        vouch_pool_trim(exchange.pool);
    for (int i = 0; i < 4; i++) {
        const char *wrong = support_thread_join(threads[i]);
        cr_assert_null(wrong, "%s", wrong ? wrong : "");
    }
    for (int i = 0; i < 8; i++)
        vouch_buffer_unref(exchange.slots[i]);
    cr_assert_eq(stats(exchange.pool).buffers_out, 0);
    vouch_pool_unref(exchange.pool);
    support_baseline_end();
}

static void *drop_buffer(void *buffer) {
    vouch_buffer_unref(buffer);
    return NULL;
}

Test(pool, the_last_buffer_may_go_while_the_last_handle_goes) {
    support_baseline_begin();
    for (int i = 0; i < VOUCH_TEST_ROUNDS(2000, 200); i++) {
        struct vouch_pool *pool = new_pool(NULL);
        vouch_buffer_unref(get(pool, 600));
        pthread_t thread = support_thread_start(drop_buffer, get(pool, 100));
        vouch_pool_unref(pool);
        support_thread_join(thread);
    }
    support_baseline_end();
}
