/* SPDX-License-Identifier: MIT */
/* What came out: a row for each way in each group, in memory and as JSON. */
#ifndef BENCH_RESULTS_H
#define BENCH_RESULTS_H

#include <stdio.h>

#include "bench/machine.h"
#include "bench/measure.h"
#include "bench/plan.h"

#define RESULTS_ROUNDS_MAX 9

/* Medians over rounds, but for min and max. Times in µs, of calls. NAN: not measured. */
struct row {
    const struct plan_group *group;
    const struct plan_way *way;
    struct bench_case what;
    unsigned rounds;
    uint64_t calls; /* of all rounds */
    double min, mean, p50, p99, p999, max;
    double rate; /* calls/s */
    double cpu_client, cpu_server;
    double allocations_client, allocations_server, codec_client, codec_server;
    double syscalls;
    double peak_client, peak_server, idle_server; /* bytes */
};

struct results {
    struct row *rows;
    unsigned count, room;
};

/* The row's place is valid until the next. */
struct row *results_add(struct results *results, const struct plan_group *group,
                        const struct plan_way *way, const struct bench_case *what);
const struct row *results_find(const struct results *results, const char *group, const char *system,
                               const char *mode);
/* Fills in what the reports of all rounds say. */
void row_set_reports(struct row *row, const struct bench_report *reports, unsigned count);
/* Allocations of a run in which they were counted. */
void row_set_allocations(struct row *row, const struct bench_report *report);
double row_get(const struct row *row, enum plan_metric metric);

void results_print_head(FILE *to);
void results_print_row(const struct row *row, FILE *to);
/* Writes the file in one step. 0 or a negative errno. */
int results_write_json(const struct results *results, const struct machine *machine,
                       const char *path);
void results_free(struct results *results);

#endif
