/* SPDX-License-Identifier: MIT */
/* Methods by name. The set is fixed once serving has begun, so that it is read without a lock. */
#ifndef VOUCH_RPC_METHOD_H
#define VOUCH_RPC_METHOD_H

#include <stdatomic.h>
#include <vouch/server.h>

struct method {
    char *name;
    size_t name_size;
    vouch_handler handler;
    void *context;
    void (*release)(void *context);
    unsigned flags;
    bool has_policy;
    struct vouch_policy policy; /* a copy */
    atomic_int fast_runs;       /* see method_ran */
    atomic_uint slow_times;     /* it was taken for quick, and was not */
    atomic_uint_fast64_t calls, errors;
    atomic_uint_fast64_t latency[VOUCH_LATENCY_BUCKETS];
};

struct method_table {
    const struct vouch_allocator *allocator;
    struct method **methods; /* in the order of registration */
    size_t count, room;
    struct method **slots; /* open addressing */
    size_t slot_count;     /* a power of two, at least twice `count` */
};

void method_table_init(struct method_table *table, const struct vouch_allocator *allocator);
void method_table_deinit(struct method_table *table); /* safe twice */

/* 0, VOUCH_E_METHOD_EXISTS, VOUCH_E_METHOD_NAME, -EINVAL, -ENOMEM. */
int method_table_add(struct method_table *table, const struct vouch_method *from) VOUCH_MUST_CHECK;

struct method *method_table_find(const struct method_table *table, const char *name,
                                 size_t size); /* or NULL */

/* A run of its handler took `elapsed` ns. After METHOD_FAST_RUNS short ones it counts as quick, and
 * longer ones take from that. One that turned out to block, after it had counted as quick, makes
 * the method begin again from far below, farther each time. */
#define METHOD_FAST_RUNS 32
#define METHOD_FAST_TIME ((int64_t)20 * 1000)
#define METHOD_SLOW_COST 8
#define METHOD_BLOCKED_RUNS 1024
void method_ran(struct method *method, int64_t elapsed);
void method_blocked(struct method *method);
bool method_is_quick(const struct method *method);

/* Counts a call that was answered with `result` after `elapsed` ns. */
void method_count(struct method *method, int result, int64_t elapsed);
void method_get_stats(struct method *method, struct vouch_method_stats *ret_stats);

#endif
