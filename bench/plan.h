/* SPDX-License-Identifier: MIT */
/* What is measured, as data: systems, groups of cases, and the targets that are held against them.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "bench/system.h"

/* In which groups a way of calling takes part. */
enum plan_set {
    PLAN_ONE = 1 << 0,     /* one caller */
    PLAN_TWO = 1 << 1,     /* two, on a shared connection */
    PLAN_MANY = 1 << 2,    /* sixteen, on a shared connection */
    PLAN_OWN = 1 << 3,     /* two and sixteen, with a connection each */
    PLAN_FLIGHT = 1 << 4,  /* asynchronous */
    PLAN_SETUP = 1 << 5,   /* connections are made */
    PLAN_GROWTH = 1 << 6,  /* many connections */
    PLAN_METHODS = 1 << 7, /* many methods, many pending calls */
    PLAN_STREAM = 1 << 8,  /* one way */
    PLAN_LOAD = 1 << 9,    /* while other processes want every core */
    PLAN_ORIGINAL = 1 << 10,
    PLAN_QUICK = 1 << 11,
    PLAN_TRACED = 1 << 12, /* they are counted as well */
};

struct plan_way {
    const char *system, *program, *package; /* package: what to install, NULL: nothing */
    enum bench_mode mode;
    bool sndbuf;
    bool shares; /* threads can share a connection; else each has its own, whatever a group says */
    unsigned sets;
    size_t size_min, size_max; /* of the groups that it takes part in; max 0: any */
};

struct plan_group {
    const char *name; /* what targets refer to */
    unsigned set;
    bool quick;
    bool loaded;
    bool syscalls;
    struct bench_case what; /* connections 0: one each */
};

enum plan_metric {
    PLAN_P50,
    PLAN_P99,
    PLAN_RATE,
    PLAN_CPU,
    PLAN_ALLOCATIONS,     /* both sides */
    PLAN_ALLOCATIONS_OWN, /* without the codec's */
    PLAN_SYSCALLS,        /* both sides */
    PLAN_IDLE_MEMORY,     /* bytes a connection, beyond those of the second operand */
};

struct plan_operand {
    const char *group, *system, *mode; /* group NULL: no second operand, the first is the value */
};

struct plan_target {
    const char *text;
    enum plan_metric metric;
    struct plan_operand of, to; /* the ratio is of / to */
    bool at_least;
    double bound;
};

extern const struct plan_way plan_ways[];
extern const struct plan_group plan_groups[];
extern const struct plan_target plan_targets[];
extern const unsigned plan_way_count, plan_group_count, plan_target_count;

/* "adaptive", "blocking+sndbuf", … */
const char *plan_mode_name(enum bench_mode mode, bool sndbuf);

#endif
