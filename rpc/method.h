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

/* Counts a call that was answered with `result` after `elapsed` ns. */
void method_count(struct method *method, int result, int64_t elapsed);
void method_get_stats(struct method *method, struct vouch_method_stats *ret_stats);

#endif
