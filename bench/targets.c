/* SPDX-License-Identifier: MIT */
/* Holds the rows against the table of targets. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/suite.h"

/* A handful of calls' worth of growth in a whole run is not an allocation per call. */
#define ZERO 0.005

static const struct row *row_of(const struct suite *suite, const struct plan_operand *operand) {
    return results_find(&suite->results, operand->group, operand->system, operand->mode);
}

/* Why an operand has no row. */
static void explain(const struct suite *suite, const struct plan_operand *operand, char *ret_why,
                    size_t room) {
    for (unsigned i = 0; i < plan_way_count; i++) {
        if (strcmp(plan_ways[i].system, operand->system) != 0)
            continue;
        const char *package = suite_missing(suite, &plan_ways[i]);
        if (package)
            snprintf(ret_why, room, "package %s missing", package);
        else
            snprintf(ret_why, room, "%s, %s: not in this run", operand->group, operand->system);
        return;
    }
    snprintf(ret_why, room, "%s: no peer of this benchmark", operand->system);
}

static double value_of(const struct plan_target *target, const struct row *of,
                       const struct row *to) {
    double value = row_get(of, target->metric);
    if (!to)
        return value;
    if (target->metric == PLAN_IDLE_MEMORY)
        return (value - row_get(to, target->metric)) /
               (double)(of->what.connections - to->what.connections);
    return value / row_get(to, target->metric);
}

static bool reached(const struct plan_target *target, double value) {
    if (target->at_least)
        return value >= target->bound;
    return value <= target->bound + (target->bound == 0 ? ZERO : 0);
}

static const char *print_one(const struct suite *suite, const struct plan_target *target) {
    const struct row *of = row_of(suite, &target->of);
    const struct row *to = target->to.group ? row_of(suite, &target->to) : NULL;
    char why[200] = "";
    if (!of)
        explain(suite, &target->of, why, sizeof(why));
    else if (target->to.group && !to)
        explain(suite, &target->to, why, sizeof(why));
    bool part = suite->quick || suite->only; /* then not everything has to be there */
    if (part &&
        (why[0] ? !strstr(why, "missing") : target->metric == PLAN_SYSCALLS && suite->quick))
        return "left out";
    double value = why[0] ? NAN : value_of(target, of, to);
    if (!why[0] && !isfinite(value))
        snprintf(why, sizeof(why), "%s",
                 target->metric == PLAN_SYSCALLS && !suite->strace ? "package strace missing"
                                                                   : "no number in this run");
    printf("  %-62s %s %-6g", target->text, target->at_least ? "≥" : "≤", target->bound);
    if (why[0]) {
        printf(" %9s  not measured (%s)\n", "", why);
        return "not measured";
    }
    bool met = reached(target, value);
    printf(" %9.3g  %s\n", value, met ? "met" : "missed");
    return met ? "met" : "missed";
}

void targets_print(const struct suite *suite) {
    unsigned met = 0, missed = 0, unknown = 0;
    printf("\nTargets: ratio or number reached\n");
    for (unsigned i = 0; i < plan_target_count; i++) {
        const char *verdict = print_one(suite, &plan_targets[i]);
        met += strcmp(verdict, "met") == 0;
        missed += strcmp(verdict, "missed") == 0;
        unknown += strcmp(verdict, "not measured") == 0;
    }
    printf("  %u met, %u missed, %u not measured", met, missed, unknown);
    if (met + missed + unknown < plan_target_count)
        printf(", %u of cases that are not in this run",
               plan_target_count - met - missed - unknown);
    printf("\n");
}
