/* SPDX-License-Identifier: MIT */
/*
 * Every system call that moves bytes moves only some of them, every one that may be interrupted is,
 * every one that may not be ready is not: one at a time, and then all of them. Nobody may notice.
 */
#include <errno.h>
#include <string.h>
#include <vouch/conn.h>

#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/scenarios.h"
#include "tests/support.h"

static const char *const interruptible[] = {
    "accept", "accept4", "connect", "epoll_pwait2", "epoll_wait", "flock",   "getrandom", "poll",
    "ppoll",  "read",    "recv",    "recvmsg",      "send",       "sendmsg", "write",     NULL};

/* Not here: connect, to whom it says that a server is there and busy; write, which to an eventfd
 * never happens and would be a lost wake-up. */
static const char *const not_ready[] = {"accept",  "accept4", "read",    "recv",
                                        "recvmsg", "send",    "sendmsg", NULL};

static bool is_one_of(const char *symbol, const char *const *list) {
    while (*list && strcmp(*list, symbol) != 0)
        list++;
    return *list != NULL;
}

/* One run that has to come out as if nothing had happened. Returns whether anything had. */
static bool check(const struct scenario *scenario, const struct faults_plan *plan) {
    struct scenario_report report = scenario_run(scenario, plan, NULL);

    cr_assert_eq(report.result, 0, "%s: %s call %u x%u, errno %d, portion %d: result %d",
                 scenario->name, plan->symbol, plan->call, plan->repeat, plan->error, plan->portion,
                 report.result);
    cr_assert_null(report.leak, "%s: %s call %u, errno %d, portion %d: %s", scenario->name,
                   plan->symbol, plan->call, plan->error, plan->portion,
                   report.leak ? report.leak : "");
    return report.hits > 0;
}

/* The first call, the second, … until a run makes no such call any more. */
static void check_each_call(const struct scenario *scenario, struct faults_plan plan,
                            unsigned calls) {
    unsigned step = VOUCH_TEST_ROUNDS(1, 1 + calls / 4);

    for (plan.call = 1; plan.call <= calls; plan.call += step)
        (void)check(scenario, &plan);
}

static void check_transfers(const struct scenario *scenario, const char *symbol, unsigned calls) {
    static const int portions[] = {1, 137, FAULTS_HALF, FAULTS_ALL_BUT_ONE};
    struct faults_plan plan = {.symbol = symbol};

    for (size_t i = 0; i < sizeof(portions) / sizeof(*portions); i++) {
        plan.portion = portions[i];
        plan.repeat = 1;
        check_each_call(scenario, plan, calls);
        plan.call = 1;
        plan.repeat = FAULTS_ALWAYS;
        if (plan.portion != 1 || !vouch_test_slow_mode())
            (void)check(scenario, &plan);
    }
}

static void check_errors(const struct scenario *scenario, const char *symbol, int error,
                         unsigned calls) {
    struct faults_plan plan = {.symbol = symbol, .error = error};

    check_each_call(scenario, plan, calls);
    plan.repeat = 3;
    check_each_call(scenario, plan, calls);
}

static void check_scenario(const struct scenario *scenario) {
    struct scenario_report report = scenario_run(scenario, NULL, NULL);
    unsigned calls[256];

    cr_assert_eq(report.result, 0, "%s fails without faults: %d", scenario->name, report.result);
    cr_assert_null(report.leak, "%s: %s", scenario->name, report.leak ? report.leak : "");
    (void)scenario_run(scenario, NULL, NULL); /* what happens only once in a process did */
    for (size_t i = 0; i < faults_symbol_count; i++)
        calls[i] = faults_count(faults_symbols[i].name);
    for (size_t i = 0; i < faults_symbol_count; i++) {
        const char *symbol = faults_symbols[i].name;

        if (calls[i] > 0 && faults_symbols[i].transfers && !scenario->packets)
            check_transfers(scenario, symbol, calls[i]);
        if (calls[i] > 0 && is_one_of(symbol, interruptible))
            check_errors(scenario, symbol, EINTR, calls[i]);
        if (calls[i] > 0 && is_one_of(symbol, not_ready))
            check_errors(scenario, symbol, EAGAIN, calls[i]);
    }
}

static void check_all(const struct scenario *all) {
    for (; all->name; all++)
        check_scenario(all);
    support_temp_remove();
}

Test(short_io, base_layer, .timeout = 300) {
    check_all(scenarios_base);
}

Test(short_io, links, .timeout = 300) {
    check_all(scenarios_links);
}

Test(short_io, rpc, .timeout = 300) {
    check_all(scenarios_rpc);
}

Test(short_io, typed, .timeout = 300) {
    check_all(scenarios_typed);
}

/* The suite would notice: this one takes a short read for the whole. */
static int trusting_reader(const struct scenario_place *place) {
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    struct vouch_conn *conns[2];
    char bytes[5] = "";
    int r = vouch_conn_pair(&options, conns);

    if (r < 0)
        return r;
    r = vouch_conn_write(conns[0], "whole", 5);
    if (r == 0)
        r = (int)vouch_conn_read(conns[1], bytes, 5);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    return r < 0 ? r : memcmp(bytes, "whole", 5) == 0 ? 0 : SCENARIO_WRONG;
}

Test(short_io, a_reader_that_trusts_is_found_out) {
    static const struct scenario scenario = {.name = "trusting_reader", .run = trusting_reader};
    struct faults_plan plan = {.symbol = "recvmsg", .call = 1, .portion = FAULTS_HALF};
    struct scenario_report report;

    cr_assert_eq(scenario_run(&scenario, NULL, NULL).result, 0);
    if (faults_count("recvmsg") == 0)
        plan.symbol = "recv";
    report = scenario_run(&scenario, &plan, NULL);
    cr_assert_eq(report.result, SCENARIO_WRONG);
    cr_assert_eq(report.hits, 1);
    support_temp_remove();
}
