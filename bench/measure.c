/* SPDX-License-Identifier: MIT */
/*
 * The window that is measured: clocks and counters are read just before the callers are let go and
 * just after the last has returned. Each caller has a histogram of its own.
 */
#include "bench/measure.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bench/counters.h"
#include "bench/histogram.h"
#include "bench/machine.h"

#define FLIGHT_SAMPLE 16 /* of calls in flight each 16th is timed: reading a clock costs, too */

struct bench_flight {
    unsigned in_flight;
    uint64_t begun, ended, limit;
    int64_t deadline;
    bool over;
    struct histogram *latencies;
};

struct caller {
    struct bench_meter *meter;
    unsigned index;
    pthread_t thread;
    uint64_t calls;
    struct histogram latencies;
};

struct bench_meter {
    const struct bench_system *system;
    const struct bench_case *what;
    void *client;
    uint64_t idle_server;
    struct caller *callers;

    pthread_mutex_t lock; /* the rest */
    pthread_cond_t go, done;
    unsigned round, running;
    bool quit;
    int64_t deadline;
    uint64_t limit; /* of each caller */
};

/* ---- calls in flight ---- */

bool bench_flight_more(struct bench_flight *flight) {
    if (flight->begun >= flight->limit)
        flight->over = true;
    return !flight->over && flight->begun - flight->ended < flight->in_flight;
}

int64_t bench_flight_begin(struct bench_flight *flight) {
    if (flight->begun++ % FLIGHT_SAMPLE != 0)
        return 0;
    int64_t now = bench_now();
    if (now >= flight->deadline)
        flight->over = true;
    return now;
}

void bench_flight_end(struct bench_flight *flight, int64_t begun) {
    flight->ended++;
    if (begun != 0)
        histogram_add(flight->latencies, bench_now() - begun);
}

bool bench_flight_busy(const struct bench_flight *flight) {
    return flight->begun > flight->ended;
}

static void fly(struct caller *caller) {
    struct bench_meter *meter = caller->meter;
    struct bench_flight flight = {.in_flight = meter->what->in_flight,
                                  .limit = meter->limit,
                                  .deadline = meter->deadline,
                                  .latencies = &caller->latencies};
    meter->system->fly(meter->client, &flight);
    caller->calls = flight.ended;
}

/* ---- callers ---- */

static void call_once(struct bench_meter *meter, unsigned index) {
    if (meter->what->kind != BENCH_SETUP) {
        meter->system->call(meter->client, index);
        return;
    }
    void *client = meter->system->open(meter->what);
    meter->system->call(client, 0);
    meter->system->close(client);
}

static void make_calls(struct caller *caller) {
    struct bench_meter *meter = caller->meter;
    histogram_init(&caller->latencies);
    caller->calls = 0;
    if (meter->what->in_flight > 0) {
        fly(caller);
        return;
    }
    int64_t begun = bench_now();
    while (caller->calls < meter->limit && begun < meter->deadline) {
        call_once(meter, caller->index);
        int64_t now = bench_now();
        histogram_add(&caller->latencies, now - begun);
        caller->calls++;
        begun = now;
    }
}

static void *run_caller(void *context) {
    struct caller *caller = context;
    struct bench_meter *meter = caller->meter;
    for (unsigned seen = 0;;) {
        pthread_mutex_lock(&meter->lock);
        while (meter->round == seen && !meter->quit)
            pthread_cond_wait(&meter->go, &meter->lock);
        seen = meter->round;
        bool quit = meter->quit;
        pthread_mutex_unlock(&meter->lock);
        if (quit)
            return NULL;
        make_calls(caller);
        pthread_mutex_lock(&meter->lock);
        if (--meter->running == 0)
            pthread_cond_signal(&meter->done);
        pthread_mutex_unlock(&meter->lock);
    }
}

/* A single caller is the main thread. */
static bool threaded(const struct bench_meter *meter) {
    return meter->what->callers > 1 && meter->what->in_flight == 0;
}

struct bench_meter *bench_meter_new(const struct bench_system *system,
                                    const struct bench_case *what) {
    struct bench_meter *meter = bench_alloc(sizeof(*meter));
    meter->system = system;
    meter->what = what;
    if (what->in_flight > 0 && !system->fly)
        bench_die("%s: no calls in flight", system->name);
    if (what->kind != BENCH_SETUP)
        meter->client = system->open(what);
    meter->idle_server = machine_memory_of(what->server).anonymous;
    meter->callers = bench_alloc(what->callers * sizeof(*meter->callers));
    pthread_mutex_init(&meter->lock, NULL);
    pthread_cond_init(&meter->go, NULL);
    pthread_cond_init(&meter->done, NULL);
    for (unsigned i = 0; i < what->callers; i++) {
        meter->callers[i].meter = meter;
        meter->callers[i].index = i;
        if (threaded(meter) &&
            pthread_create(&meter->callers[i].thread, NULL, run_caller, &meter->callers[i]) != 0)
            bench_die("no thread for caller %u", i);
    }
    return meter;
}

static void let_go(struct bench_meter *meter) {
    if (!threaded(meter)) {
        make_calls(&meter->callers[0]);
        return;
    }
    pthread_mutex_lock(&meter->lock);
    meter->running = meter->what->callers;
    meter->round++;
    pthread_cond_broadcast(&meter->go);
    while (meter->running > 0)
        pthread_cond_wait(&meter->done, &meter->lock);
    pthread_mutex_unlock(&meter->lock);
}

/* Adds the state of all counters, times `sign`. */
static void read_counters(struct bench_meter *meter, struct bench_report *report, int sign) {
    struct counters *counters = counters_get();
    report->cpu_client += sign * machine_cpu_time(0);
    report->cpu_server += meter->what->server ? sign * machine_cpu_time(meter->what->server) : 0;
    report->elapsed += sign * bench_now();
    if (!counters)
        return;
    uint64_t factor = (uint64_t)(int64_t)sign;
    report->allocations_client += factor * counters->sides[COUNTERS_CLIENT].allocations;
    report->codec_client += factor * counters->sides[COUNTERS_CLIENT].codec;
    report->allocations_server += factor * counters->sides[COUNTERS_SERVER].allocations;
    report->codec_server += factor * counters->sides[COUNTERS_SERVER].codec;
}

static void sum_up(struct bench_meter *meter, struct bench_report *report) {
    struct histogram *all = &meter->callers[0].latencies;
    unsigned count = threaded(meter) ? meter->what->callers : 1;
    report->calls = meter->callers[0].calls;
    for (unsigned i = 1; i < count; i++) {
        report->calls += meter->callers[i].calls;
        histogram_merge(all, &meter->callers[i].latencies);
    }
    report->min = all->count ? (double)all->min : 0;
    report->mean = histogram_mean(all);
    report->p50 = histogram_quantile(all, 0.5);
    report->p99 = histogram_quantile(all, 0.99);
    report->p999 = histogram_quantile(all, 0.999);
    report->max = (double)all->max;
    report->peak_client = machine_memory_of(0).peak;
    report->peak_server = machine_memory_of(meter->what->server).peak;
    report->idle_server = meter->idle_server;
}

void bench_meter_run(struct bench_meter *meter, const struct bench_order *order,
                     struct bench_report *ret_report) {
    unsigned sharers = threaded(meter) ? meter->what->callers : 1;
    memset(ret_report, 0, sizeof(*ret_report));
    meter->limit = order->calls ? (order->calls + sharers - 1) / sharers : UINT64_MAX;
    read_counters(meter, ret_report, -1);
    meter->deadline = order->time ? bench_now() + order->time : INT64_MAX;
    let_go(meter);
    if (meter->system->finish && meter->client)
        meter->system->finish(meter->client);
    read_counters(meter, ret_report, 1);
    sum_up(meter, ret_report);
}

void bench_meter_free(struct bench_meter *meter) {
    pthread_mutex_lock(&meter->lock);
    meter->quit = true;
    pthread_cond_broadcast(&meter->go);
    pthread_mutex_unlock(&meter->lock);
    for (unsigned i = 0; threaded(meter) && i < meter->what->callers; i++)
        pthread_join(meter->callers[i].thread, NULL);
    if (meter->client)
        meter->system->close(meter->client);
    pthread_cond_destroy(&meter->done);
    pthread_cond_destroy(&meter->go);
    pthread_mutex_destroy(&meter->lock);
    free(meter->callers);
    free(meter);
}
