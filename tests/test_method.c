/* SPDX-License-Identifier: MIT */
/* Methods by name: which names, how many, what is counted. */
#include "rpc/method.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

#define MANY 10000

static struct support_allocator allocator;
static struct method_table table;

static void begin(void) {
    support_baseline_begin();
    support_allocator_init(&allocator);
    method_table_init(&table, &allocator.allocator);
}

static void end(void) {
    method_table_deinit(&table);
    method_table_deinit(&table); /* safe twice */
    support_allocator_check(&allocator);
    support_baseline_end();
}

static int handler(void *context, struct vouch_call *call) {
    (void)context;
    (void)call;
    return 0;
}

static int add(const char *name) {
    return method_table_add(&table, &(struct vouch_method){.name = name, .handler = handler});
}

static struct method *find(const char *name) {
    return method_table_find(&table, name, strlen(name));
}

Test(method, an_empty_table_has_none) {
    begin();
    cr_assert_null(find("/a"));
    cr_assert_null(method_table_find(&table, "", 0));
    end();
}

Test(method, what_was_registered_is_found_and_nothing_else) {
    int context;
    begin();
    cr_assert_eq(method_table_add(&table, &(struct vouch_method){.name = "/math/sum",
                                                                 .handler = handler,
                                                                 .context = &context,
                                                                 .flags = VOUCH_METHOD_QUICK}),
                 0);
    struct method *method = find("/math/sum");
    cr_assert_not_null(method);
    cr_assert_str_eq(method->name, "/math/sum");
    cr_assert_eq(method->handler, handler);
    cr_assert_eq(method->context, &context);
    cr_assert_eq(method->flags, VOUCH_METHOD_QUICK);
    cr_assert_not(method->has_policy);
    cr_assert_null(find("/math/su"));
    cr_assert_null(find("/math/sum/"));
    cr_assert_null(find("/Math/sum"));
    cr_assert_null(method_table_find(&table, "/math/sum", sizeof("/math/sum")));
    cr_assert_null(method_table_find(&table, "", 0));
    end();
}

Test(method, the_name_is_copied) {
    char name[] = "/a";
    begin();
    cr_assert_eq(add(name), 0);
    name[1] = 'b';
    cr_assert_not_null(find("/a"));
    cr_assert_null(find("/b"));
    end();
}

Test(method, every_character) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "_.-/";
    begin();
    for (int c = 1; c < 256; c++) {
        char name[] = {'m', (char)c, 'm', '\0'};
        cr_assert_eq(add(name), strchr(allowed, c) ? 0 : VOUCH_E_METHOD_NAME, "character %d", c);
    }
    end();
}

Test(method, lengths) {
    char name[VOUCH_METHOD_NAME_MAX + 2];
    begin();
    memset(name, 'm', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    cr_assert_eq(add(name), VOUCH_E_METHOD_NAME);
    name[VOUCH_METHOD_NAME_MAX] = '\0';
    cr_assert_eq(add(name), 0);
    cr_assert_not_null(find(name));
    cr_assert_eq(add("m"), 0);
    cr_assert_eq(add(""), VOUCH_E_METHOD_NAME);
    end();
}

Test(method, what_is_not_a_method) {
    begin();
    cr_assert_eq(method_table_add(&table, &(struct vouch_method){.name = "/a"}), -EINVAL);
    cr_assert_eq(method_table_add(&table, &(struct vouch_method){.handler = handler}), -EINVAL);
    cr_assert_eq(method_table_add(&table, &(struct vouch_method){.name = "/a",
                                                                 .handler = handler,
                                                                 .flags = VOUCH_METHOD_JSON << 1}),
                 -EINVAL);
    cr_assert_eq(table.count, 0);
    end();
}

Test(method, a_name_is_registered_once) {
    begin();
    cr_assert_eq(add("/a"), 0);
    struct method *method = find("/a");
    cr_assert_eq(add("/a"), VOUCH_E_METHOD_EXISTS);
    cr_assert_eq(find("/a"), method);
    cr_assert_eq(table.count, 1);
    end();
}

Test(method, policies_are_copied) {
    static struct vouch_rule rules[VOUCH_POLICY_RULES_MAX + 1];
    struct vouch_policy policy = {rules, VOUCH_POLICY_RULES_MAX};
    struct vouch_method from = {.name = "/a", .handler = handler, .policy = &policy};
    begin();
    cr_assert_eq(method_table_add(&table, &from), 0);
    cr_assert(find("/a")->has_policy);
    cr_assert_eq(find("/a")->policy.rule_count, VOUCH_POLICY_RULES_MAX);
    cr_assert_neq(find("/a")->policy.rules, rules);

    policy.rule_count++;
    from.name = "/b";
    cr_assert_eq(method_table_add(&table, &from), -EINVAL);

    /* One without rules is a policy too: it denies. */
    policy.rule_count = 0;
    from.name = "/c";
    cr_assert_eq(method_table_add(&table, &from), 0);
    cr_assert(find("/c")->has_policy);
    cr_assert_eq(find("/c")->policy.rule_count, 0);
    end();
}

Test(method, a_policy_that_is_none) {
    struct vouch_rule rule = {(enum vouch_action)2, VOUCH_SUBJECT_ANY, 0};
    struct vouch_policy policy = {&rule, 1};
    struct vouch_method from = {.name = "/a", .handler = handler, .policy = &policy};
    begin();
    cr_assert_eq(method_table_add(&table, &from), -EINVAL);
    rule = (struct vouch_rule){VOUCH_ALLOW, (enum vouch_subject)99, 0};
    cr_assert_eq(method_table_add(&table, &from), -EINVAL);
    policy.rules = NULL;
    cr_assert_eq(method_table_add(&table, &from), -EINVAL);
    cr_assert_null(find("/a"));
    end();
}

static const char *name_of(size_t i) {
    static char name[32];
    snprintf(name, sizeof(name), "/service/method.%zu", i);
    return name;
}

Test(method, ten_thousand) {
    begin();
    for (size_t i = 0; i < MANY; i++)
        cr_assert_eq(add(name_of(i)), 0);
    for (size_t i = 0; i < MANY; i++) {
        cr_assert_eq(find(name_of(i)), table.methods[i]);
        cr_assert_str_eq(table.methods[i]->name, name_of(i));
    }
    for (size_t i = MANY; i < 2 * MANY; i++)
        cr_assert_null(find(name_of(i)));
    cr_assert_geq(table.slot_count, 2 * table.count);
    end();
}

/* Fails each allocation of adding in turn: nothing changes then, and the next attempt works. */
Test(method, without_memory_nothing_is_registered) {
    static struct vouch_rule rules[3];
    struct vouch_policy policy = {rules, 3};
    struct vouch_method from = {.handler = handler, .policy = &policy};
    begin();
    for (size_t i = 0; i < 70; i++) {
        from.name = name_of(i);
        unsigned failures = 0;
        for (;;) {
            support_allocator_fail(&allocator, failures + 1, SUPPORT_FAIL_ONCE);
            int r = method_table_add(&table, &from);
            if (r == 0)
                break;
            cr_assert_eq(r, -ENOMEM);
            cr_assert_eq(allocator.injected, 1);
            cr_assert_eq(table.count, i);
            cr_assert_null(find(name_of(i)));
            failures++;
        }
        support_allocator_fail(&allocator, 0, 0);
        cr_assert_geq(failures, 3); /* the method, its name, its rules */
        for (size_t k = 0; k <= i; k++)
            cr_assert_not_null(find(name_of(k)));
    }
    end();
}

/* ---- statistics ---- */

static struct vouch_method_stats stats_of(const char *name) {
    struct vouch_method_stats stats;
    method_get_stats(find(name), &stats);
    return stats;
}

static unsigned bucket_of(int64_t elapsed) {
    cr_assert_eq(add("/bucket"), 0);
    method_count(find("/bucket"), 0, elapsed);
    struct vouch_method_stats stats = stats_of("/bucket");
    unsigned bucket = VOUCH_LATENCY_BUCKETS;
    for (unsigned i = 0; i < VOUCH_LATENCY_BUCKETS; i++) {
        cr_assert_leq(stats.latency[i], 1);
        if (stats.latency[i] == 1) {
            cr_assert_eq(bucket, VOUCH_LATENCY_BUCKETS);
            bucket = i;
        }
    }
    method_table_deinit(&table);
    return bucket;
}

Test(method, buckets_double) {
    begin();
    cr_assert_eq(bucket_of(0), 0);
    cr_assert_eq(bucket_of(1), 0);
    for (unsigned i = 1; i < VOUCH_LATENCY_BUCKETS; i++) {
        cr_assert_eq(bucket_of((int64_t)1 << i), i);
        cr_assert_eq(bucket_of(((int64_t)1 << i) - 1), i - 1);
    }
    cr_assert_eq(bucket_of((int64_t)1 << VOUCH_LATENCY_BUCKETS), VOUCH_LATENCY_BUCKETS - 1);
    cr_assert_eq(bucket_of(INT64_MAX), VOUCH_LATENCY_BUCKETS - 1);
    cr_assert_eq(bucket_of(-1), 0); /* there is none, but should there be */
    end();
}

Test(method, calls_and_errors_are_counted) {
    begin();
    cr_assert_eq(add("/a"), 0);
    cr_assert_eq(stats_of("/a").calls, 0);
    method_count(find("/a"), 0, 100);
    method_count(find("/a"), VOUCH_REMOTE_SERVER, 100);
    method_count(find("/a"), 0, 5000);
    struct vouch_method_stats stats = stats_of("/a");
    cr_assert_str_eq(stats.name, "/a");
    cr_assert_eq(stats.calls, 3);
    cr_assert_eq(stats.errors, 1);
    cr_assert_eq(stats.latency[6], 2);
    cr_assert_eq(stats.latency[12], 1);
    end();
}

/* ---- which are quick ---- */

static struct method *begin_one(void) {
    begin();
    cr_assert_eq(add("/a"), 0);
    return find("/a");
}

static void run(struct method *method, unsigned times, int64_t elapsed) {
    for (unsigned i = 0; i < times; i++)
        method_ran(method, elapsed);
}

/* Short runs until it counts as quick. */
static unsigned runs_to_quick(struct method *method) {
    unsigned runs = 0;
    for (; !method_is_quick(method); runs++) {
        cr_assert_lt(runs, 1u << 28);
        method_ran(method, 1);
    }
    return runs;
}

Test(method, short_runs_make_it_quick) {
    struct method *method = begin_one();
    cr_assert_not(method_is_quick(method));
    run(method, METHOD_FAST_RUNS - 1, METHOD_FAST_TIME);
    cr_assert_not(method_is_quick(method));
    method_ran(method, METHOD_FAST_TIME);
    cr_assert(method_is_quick(method));
    end();
}

Test(method, long_runs_never_do) {
    struct method *method = begin_one();
    run(method, 1000, METHOD_FAST_TIME + 1);
    cr_assert_not(method_is_quick(method));
    cr_assert_eq(runs_to_quick(method), METHOD_FAST_RUNS, "and they are no debt");
    end();
}

/* It may be interrupted now and then, when it has been quick for long. */
Test(method, a_long_run_takes_from_the_short_ones) {
    struct method *method = begin_one();
    run(method, METHOD_FAST_RUNS, 0);
    method_ran(method, METHOD_FAST_TIME + 1);
    cr_assert_not(method_is_quick(method));
    cr_assert_eq(runs_to_quick(method), METHOD_SLOW_COST);

    run(method, 1000, 0); /* no more than twice as many are counted */
    run(method, METHOD_FAST_RUNS / METHOD_SLOW_COST, METHOD_FAST_TIME + 1);
    cr_assert(method_is_quick(method));
    method_ran(method, METHOD_FAST_TIME + 1);
    cr_assert_not(method_is_quick(method));
    end();
}

/* One long run among less than nine: it never gets there, or does not stay. */
Test(method, often_slow_is_not_quick) {
    struct method *method = begin_one();
    for (int i = 0; i < 1000; i++) {
        run(method, METHOD_SLOW_COST - 1, 0);
        method_ran(method, METHOD_FAST_TIME + 1);
        cr_assert_not(method_is_quick(method));
    }
    end();
}

Test(method, one_that_blocked_begins_farther_back_each_time) {
    struct method *method = begin_one();
    run(method, METHOD_FAST_RUNS, 0);
    for (unsigned times = 0; times < 10; times++) {
        cr_assert(method_is_quick(method));
        method_blocked(method);
        cr_assert_not(method_is_quick(method));
        method_ran(method, VOUCH_SECONDS(1)); /* which costs nothing more */
        cr_assert_eq(runs_to_quick(method),
                     (unsigned)(METHOD_BLOCKED_RUNS << times) + METHOD_FAST_RUNS);
    }
    for (unsigned times = 0; times < 100; times++)
        method_blocked(method);
    cr_assert_eq(atomic_load(&method->fast_runs), -METHOD_BLOCKED_RUNS * (1 << 16),
                 "there is an end to it");
    end();
}

static unsigned released;

static void release(void *context) {
    cr_assert_eq(context, &released);
    released++;
}

Test(method, contexts_are_released_once_and_only_if_registered) {
    const struct vouch_method method = {
        .name = "/a", .handler = handler, .context = &released, .release = release};
    begin();
    released = 0;
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    cr_assert_eq(method_table_add(&table, &method), -ENOMEM);
    support_allocator_fail(&allocator, 0, 0);
    cr_assert_eq(method_table_add(&table, &method), 0);
    cr_assert_eq(method_table_add(&table, &method), VOUCH_E_METHOD_EXISTS);
    cr_assert_eq(released, 0);
    method_table_deinit(&table);
    cr_assert_eq(released, 1);
    end();
    cr_assert_eq(released, 1);
}
