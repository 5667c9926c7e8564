/* SPDX-License-Identifier: MIT */
/* Parts of the suite (suite.c) that are files of their own. */
#ifndef BENCH_SUITE_H
#define BENCH_SUITE_H

#include "bench/pair.h"
#include "bench/results.h"

struct suite {
    struct pair_options pairs;
    const char *only; /* groups whose name contains it; NULL: all */
    bool quick;
    unsigned rounds;
    int64_t round_time; /* ns */
    bool strace;        /* is there */
    unsigned descriptors;
    struct results results;
};

/* NULL: the way can be taken; else the package that is missing. */
const char *suite_missing(const struct suite *suite, const struct plan_way *way);

/* System calls per call of both sides, NAN when they could not be counted. */
double syscalls_count(const struct suite *suite, const struct plan_way *way,
                      const struct bench_case *what);

/* The table of the Go package's README, for the ways that are in PLAN_ORIGINAL. */
void original_print(struct suite *suite);

/* Each target with what was reached. */
void targets_print(const struct suite *suite);

/* Processes that do nothing but run, one for each core; ended by hogs_stop. */
void hogs_start(unsigned count);
void hogs_stop(void);

#endif
