/* SPDX-License-Identifier: MIT */
/*
 * System calls of a call, counted by strace. Under it everything is slow, which changes who waits
 * for whom, but not what one caller that sleeps has to ask of the kernel. A short and a long run
 * are counted, and their difference is that of calls alone.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/suite.h"

#define SHORT_RUN 160
#define LONG_RUN 800

/* The line "100.00 seconds usecs/call calls [errors] total" of strace -c. */
static bool read_total(const char *path, double *total) {
    char line[256];
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        double calls;
        if (!strstr(line, " total") || sscanf(line, "%*s %*s %*s %lf", &calls) != 1)
            continue;
        *total += calls;
        found = true;
    }
    if (file)
        fclose(file);
    unlink(path);
    return found;
}

/* System calls of both sides for `calls` calls, start and end included; NAN when it failed. */
static double count_run(const struct pair_options *options, const struct plan_way *way,
                        const struct bench_case *what, uint64_t calls, uint64_t *ret_calls) {
    struct bench_report report;
    struct pair pair;
    char path[600];
    double total = 0;
    bool ran = pair_start(&pair, way, what, options) &&
               pair_run(&pair, &(struct bench_order){.calls = calls}, &report);
    pair_stop(&pair);
    *ret_calls = ran ? report.calls : 0;
    snprintf(path, sizeof(path), "%s.client", options->trace);
    bool counted = read_total(path, &total);
    snprintf(path, sizeof(path), "%s.server", options->trace);
    return read_total(path, &total) && counted && ran ? total : NAN;
}

double syscalls_count(const struct suite *suite, const struct plan_way *way,
                      const struct bench_case *what) {
    struct pair_options options = suite->pairs;
    char trace[300];
    uint64_t few, many;
    options.counters = -1;
    options.trace = trace;
    snprintf(trace, sizeof(trace), "%s/trace", options.directory);
    double short_run = count_run(&options, way, what, SHORT_RUN, &few);
    double long_run = count_run(&options, way, what, LONG_RUN, &many);
    return many > few ? (long_run - short_run) / (double)(many - few) : NAN;
}
