/* SPDX-License-Identifier: MIT */
/* A server and a client as processes of their own. */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include "bench/measure.h"
#include "bench/plan.h"

struct pair {
    pid_t server, client;
    int orders, reports; /* to and from the client; -1: it does not run */
    char socket[256];
};

/* How the processes are started, beyond the case. */
struct pair_options {
    const char *programs;       /* the directory of peer programs */
    const char *directory;      /* for sockets; private */
    int cpu_client, cpu_server; /* -1: any */
    int counters; /* descriptor of struct counters, with `preload` the interposer; -1 */
    const char *preload;
    const char *trace; /* NULL, or where strace writes its counts: trace.client, trace.server */
};

/* Starts both. False when one of them failed, which has said why on standard error. */
bool pair_start(struct pair *pair, const struct plan_way *way, const struct bench_case *what,
                const struct pair_options *options);
/* False when the client or the server is gone. */
bool pair_run(struct pair *pair, const struct bench_order *order, struct bench_report *ret_report);
/* Ends both. Safe twice, and on one that did not start. */
void pair_stop(struct pair *pair);

/* A signal came: nothing more is begun. */
bool pair_interrupted(void);
/* SIGINT and SIGTERM from here on only make pair_interrupted true. */
void pair_catch_signals(void);

#endif
