/* SPDX-License-Identifier: MIT */
/*
 * Every allocation fails: the first, the second, … until a run had none to fail; once, three times
 * in a row, and for good. Scenarios work or say -ENOMEM, leave nothing behind, and work next time.
 */
#include <errno.h>
#include <stdatomic.h>
#include <vouch/conn.h>
#include <vouch/pool.h>

#include "tests/harness.h"
#include "tests/scenarios.h"
#include "tests/support.h"

/* Runs with the allocator's present orders; what it holds then is looked at here. */
static int run(const struct scenario *scenario, struct support_allocator *allocator) {
    struct scenario_report report = scenario_run(scenario, NULL, &allocator->allocator);

    cr_assert_null(report.leak, "%s: allocation %llu x%llu: %s", scenario->name,
                   (unsigned long long)allocator->fail_from,
                   (unsigned long long)allocator->fail_count, report.leak ? report.leak : "");
    support_allocator_check(allocator);
    return report.result;
}

/* A server that has no memory for a client closes the connection: that is -ECONNRESET over there.
 */
static bool is_clean(int result) {
    return result == 0 || result == -ENOMEM || result == -ECONNRESET;
}

static void check_mode(const struct scenario *scenario, struct support_allocator *allocator,
                       uint64_t fail_count) {
    uint64_t n = 0;
    int r;

    do {
        support_allocator_fail(allocator, ++n, fail_count);
        r = run(scenario, allocator);
        cr_assert(is_clean(r), "%s: allocation %llu x%llu: result %d", scenario->name,
                  (unsigned long long)n, (unsigned long long)fail_count, r);
    } while (atomic_load(&allocator->injected) > 0);
    cr_assert_eq(r, 0, "%s: the run without a failure: %d", scenario->name, r);
}

static void check_all(const struct scenario *all) {
    struct support_allocator allocator;

    support_allocator_init(&allocator);
    for (; all->name; all++) {
        cr_assert_eq(run(all, &allocator), 0, "%s", all->name);
        check_mode(all, &allocator, SUPPORT_FAIL_ONCE);
        check_mode(all, &allocator, SUPPORT_FAIL_THREE);
        check_mode(all, &allocator, SUPPORT_FAIL_ALWAYS);
        support_allocator_fail(&allocator, 0, 0);
    }
    support_temp_remove();
}

Test(oom, base_layer, .timeout = 300) {
    check_all(scenarios_base);
}

Test(oom, links, .timeout = 300) {
    check_all(scenarios_links);
}

Test(oom, rpc, .timeout = 300) {
    check_all(scenarios_rpc);
}

Test(oom, typed, .timeout = 300) {
    check_all(scenarios_typed);
}

/* The suite would notice: this one forgets the pool when there is no memory for a buffer. */

static struct vouch_pool *forgotten;

static int forgets_a_pool(const struct scenario_place *place) {
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    struct vouch_pool *pool;
    struct vouch_buffer *buffer;
    int r = vouch_pool_new(&options, &pool);

    if (r < 0)
        return r;
    r = vouch_pool_get(pool, 0, 2 * VOUCH_POOL_CLASS_MAX, &buffer);
    if (r < 0) {
        forgotten = pool;
        return r;
    }
    vouch_buffer_unref(buffer);
    vouch_pool_unref(pool);
    return 0;
}

Test(oom, leaked_memory_is_found) {
    static const struct scenario scenario = {.name = "forgets_a_pool", .run = forgets_a_pool};
    struct support_allocator allocator;
    struct scenario_report report;
    bool found = false;
    uint64_t n = 0;

    support_allocator_init(&allocator);
    do {
        support_allocator_fail(&allocator, ++n, SUPPORT_FAIL_ONCE);
        report = scenario_run(&scenario, NULL, &allocator.allocator);
        found |= report.leak != NULL;
        cr_assert_eq(report.leak != NULL, forgotten != NULL);
        vouch_pool_unref(forgotten);
        forgotten = NULL;
    } while (atomic_load(&allocator.injected) > 0);
    cr_assert(found);
    support_allocator_check(&allocator);
    support_temp_remove();
}
