/* SPDX-License-Identifier: MIT */
/*
 * Runs calls of one client and says what they took. Threads of callers live as long as the meter,
 * so that a run measures calls and not the making of threads.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "bench/system.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A run ends with the first of both that is reached; 0: not that one. */
struct bench_order {
    int64_t time;   /* ns */
    uint64_t calls; /* of all callers */
};

struct bench_report {
    uint64_t calls;
    int64_t elapsed;                           /* ns */
    double min, mean, p50, p99, p999, max;     /* ns */
    int64_t cpu_client, cpu_server;            /* ns */
    uint64_t allocations_client, codec_client; /* 0 when nobody counts */
    uint64_t allocations_server, codec_server;
    uint64_t peak_client, peak_server; /* bytes, until now */
    uint64_t idle_server;              /* bytes, before the first call */
};

struct bench_meter;

/* Connects, and starts the callers. */
struct bench_meter *bench_meter_new(const struct bench_system *system,
                                    const struct bench_case *what);
void bench_meter_run(struct bench_meter *meter, const struct bench_order *order,
                     struct bench_report *ret_report);
void bench_meter_free(struct bench_meter *meter);

#ifdef __cplusplus
}
#endif
#endif
