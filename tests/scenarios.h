/* SPDX-License-Identifier: MIT */
/*
 * Scenarios: small, complete uses of the library that check their own result. The fault suites run
 * each of them again and again with one thing going wrong, and judge what came of it and what was
 * left behind.
 *
 * A scenario calls the library and hardly anything else (its own system calls would be hit too),
 * allocates only with the allocator of its place, and whatever happens it ends and cleans up. A new
 * one is added to the table at the end of scenarios.c, scenarios_links.c, scenarios_rpc.c or
 * scenarios_typed.c.
 */
#ifndef TESTS_SCENARIOS_H
#define TESTS_SCENARIOS_H

#include <limits.h>
#include <stdbool.h>
#include <vouch/memory.h>

#include "tests/faults.h"

/* What a scenario finds prepared, where nothing fails yet. */
struct scenario_place {
    const struct vouch_allocator *allocator;
    const char *path;       /* for a socket; nothing is there but what a run before has left */
    const char *stale_path; /* a socket on which nobody listens */
};

/* What came out is wrong, though nothing said so. */
#define SCENARIO_WRONG INT_MIN

struct scenario {
    const char *name;
    /* 0: did everything, and the result is right. SCENARIO_WRONG. Else a negative code, of what
     * failed first as far as that can be known: where one side ends, the other sees -ECONNRESET. */
    int (*run)(const struct scenario_place *place);
    bool packets; /* come whole or not at all: not in portions */
};

extern const struct scenario scenarios_base[], scenarios_links[], scenarios_rpc[],
    scenarios_typed[]; /* each ends with an empty one */

/* How a run went. */
struct scenario_report {
    int result;
    unsigned hits;    /* faults that were injected */
    const char *leak; /* what was left behind (static text); NULL: nothing */
};

/* Runs it once. `plan` and `allocator` may be NULL. */
struct scenario_report scenario_run(const struct scenario *scenario, const struct faults_plan *plan,
                                    const struct vouch_allocator *allocator);

/* Of two results, of two threads or steps, the one that tells more. */
int scenario_worse(int a, int b);

#endif
