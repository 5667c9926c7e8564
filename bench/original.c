/* SPDX-License-Identifier: MIT */
/*
 * The lines of the benchmark in the README of the Go package, for who compares with it. There 16
 * users make 10000 requests together. Its own figures were taken against a gRPC method that answers
 * nothing; here both echo.
 */
#include <inttypes.h>
#include <stdio.h>

#include "bench/suite.h"

#define USERS 16
#define REQUESTS 10000

/* As Go prints a duration. */
static void print_duration(double nanoseconds) {
    if (nanoseconds < 1e6)
        printf("%.3fµs", nanoseconds / 1e3);
    else if (nanoseconds < 1e9)
        printf("%.6fms", nanoseconds / 1e6);
    else
        printf("%.9fs", nanoseconds / 1e9);
}

/* 290365 as 290,365. */
static void print_grouped(uint64_t number) {
    if (number >= 1000) {
        print_grouped(number / 1000);
        printf(",%03u", (unsigned)(number % 1000));
    } else {
        printf("%u", (unsigned)number);
    }
}

static void print_lines(const char *size, const struct bench_report *timed,
                        const struct bench_report *counted) {
    printf("[%d Users][%" PRIu64 " Requests][%s Bytes] - min ", USERS, timed->calls, size);
    print_duration(timed->min);
    printf(", max ");
    print_duration(timed->max);
    printf(", avg ");
    print_duration(timed->mean);
    printf(", rps %.2f\n", (double)timed->calls * 1e9 / (double)timed->elapsed);
    printf("[%d Users][%" PRIu64 " Requests][%s Bytes] - allocs ", USERS, counted->calls, size);
    print_grouped(counted->allocations_client + counted->allocations_server);
    printf("\n\n");
}

static bool run(const struct suite *suite, const struct plan_way *way,
                const struct bench_case *what, bool count, struct bench_report *ret_report) {
    const struct bench_order warm = {.time = 100000000}, order = {.calls = REQUESTS};
    struct pair_options options = suite->pairs;
    struct pair pair;
    if (!count)
        options.counters = -1;
    bool ran = pair_start(&pair, way, what, &options) && pair_run(&pair, &warm, ret_report) &&
               pair_run(&pair, &order, ret_report);
    pair_stop(&pair);
    return ran;
}

static void print_way(const struct suite *suite, const struct plan_way *way) {
    static const struct {
        const char *text;
        size_t bytes;
    } sizes[] = {{"1.0 kB", 1024}, {"10 kB", 10240}, {"102 kB", 102400}, {"1.0 MB", 1048576}};
    printf("Test Results(%s):\n"
           "==========================================================================\n\n",
           way->system);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && !pair_interrupted(); i++) {
        struct bench_case what = {.size = sizes[i].bytes,
                                  .callers = USERS,
                                  .connections = way->shares ? 1 : USERS,
                                  .mode = way->mode,
                                  .cpu = -1};
        struct bench_report timed, counted;
        if (run(suite, way, &what, false, &timed) && run(suite, way, &what, true, &counted))
            print_lines(sizes[i].text, &timed, &counted);
        fflush(stdout);
    }
}

void original_print(struct suite *suite) {
    printf("\nThe table of the Go package's README (allocations of both sides together)\n\n");
    for (unsigned i = 0; i < plan_way_count && !pair_interrupted(); i++)
        if ((plan_ways[i].sets & PLAN_ORIGINAL) && !suite_missing(suite, &plan_ways[i]))
            print_way(suite, &plan_ways[i]);
}
