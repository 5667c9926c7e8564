/* SPDX-License-Identifier: MIT */
#include "rpc/method.h"

#include <errno.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/policy.h"

#define SLOTS_MIN 16

void method_table_init(struct method_table *table, const struct vouch_allocator *allocator) {
    *table = (struct method_table){.allocator = allocator};
}

static void method_free(const struct vouch_allocator *allocator, struct method *method) {
    if (method->release)
        method->release(method->context);
    policy_deinit(allocator, &method->policy);
    mem_free_text(allocator, method->name);
    mem_free(allocator, method, sizeof(*method));
}

void method_table_deinit(struct method_table *table) {
    for (size_t i = 0; i < table->count; i++)
        method_free(table->allocator, table->methods[i]);
    mem_free(table->allocator, table->methods, table->room * sizeof(struct method *));
    mem_free(table->allocator, table->slots, table->slot_count * sizeof(struct method *));
    method_table_init(table, table->allocator);
}

/* FNV-1a. The names in the table are the program's own: no peer can choose them to collide. */
static size_t hash(const char *name, size_t size) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ (uint8_t)name[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

static struct method **slot_of(const struct method_table *table, const char *name, size_t size) {
    size_t i = hash(name, size) & (table->slot_count - 1);
    while (table->slots[i] &&
           (table->slots[i]->name_size != size || memcmp(table->slots[i]->name, name, size) != 0))
        i = (i + 1) & (table->slot_count - 1);
    return &table->slots[i];
}

struct method *method_table_find(const struct method_table *table, const char *name, size_t size) {
    return table->slot_count == 0 || size == 0 ? NULL : *slot_of(table, name, size);
}

static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-' || c == '/';
}

static bool name_valid(const char *name, size_t size) {
    if (size == 0 || size > VOUCH_METHOD_NAME_MAX)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!name_char(name[i]))
            return false;
    return true;
}

static int grow_list(struct method_table *table) {
    size_t room = table->room ? 2 * table->room : SLOTS_MIN / 2;
    struct method **methods =
        mem_resize(table->allocator, table->methods, table->room * sizeof(struct method *),
                   room * sizeof(struct method *));
    if (!methods)
        return -ENOMEM;
    table->methods = methods;
    table->room = room;
    return 0;
}

static int grow_slots(struct method_table *table) {
    size_t old_count = table->slot_count;
    struct method **old = table->slots;
    size_t count = old_count ? 2 * old_count : SLOTS_MIN;
    struct method **slots = mem_zalloc(table->allocator, count * sizeof(struct method *));
    if (!slots)
        return -ENOMEM;
    table->slots = slots;
    table->slot_count = count;
    for (size_t i = 0; i < table->count; i++)
        *slot_of(table, table->methods[i]->name, table->methods[i]->name_size) = table->methods[i];
    mem_free(table->allocator, old, old_count * sizeof(struct method *));
    return 0;
}

static int method_new(const struct vouch_allocator *allocator, const struct vouch_method *from,
                      size_t name_size, struct method **ret_method) {
    struct method *method = mem_zalloc(allocator, sizeof(*method));
    if (!method)
        return -ENOMEM;
    method->name = mem_strdup(allocator, from->name);
    method->name_size = name_size;
    method->handler = from->handler;
    method->context = from->context;
    method->flags = from->flags;
    method->has_policy = from->policy != NULL; /* NULL is not the default policy here */
    int r = method->name ? 0 : -ENOMEM;
    if (r == 0 && from->policy)
        r = policy_copy(allocator, from->policy, &method->policy);
    if (r < 0) {
        method_free(allocator, method);
        return r;
    }
    method->release = from->release; /* from here on it is ours to call */
    *ret_method = method;
    return 0;
}

int method_table_add(struct method_table *table, const struct vouch_method *from) {
    struct method *method = NULL;
    if (!from->name || !from->handler ||
        (from->flags & ~(unsigned)(VOUCH_METHOD_QUICK | VOUCH_METHOD_JSON)) != 0)
        return -EINVAL;
    size_t size = strnlen(from->name, VOUCH_METHOD_NAME_MAX + 1);
    if (!name_valid(from->name, size))
        return VOUCH_E_METHOD_NAME;
    if (method_table_find(table, from->name, size))
        return VOUCH_E_METHOD_EXISTS;
    int r = table->count == table->room ? grow_list(table) : 0;
    if (r == 0 && 2 * (table->count + 1) > table->slot_count)
        r = grow_slots(table);
    if (r == 0)
        r = method_new(table->allocator, from, size, &method);
    if (r < 0 || !method)
        return r;
    table->methods[table->count++] = method;
    *slot_of(table, method->name, size) = method;
    return 0;
}

/* Runs at the same time may lose a count to each other, which does no harm. */
static void set_fast_runs(struct method *method, int runs) {
    atomic_store_explicit(&method->fast_runs, runs, memory_order_relaxed);
}

void method_ran(struct method *method, int64_t elapsed) {
    int runs = atomic_load_explicit(&method->fast_runs, memory_order_relaxed);
    if (elapsed > METHOD_FAST_TIME)
        set_fast_runs(method, runs > 0 ? runs - METHOD_SLOW_COST : runs);
    else if (runs < 2 * METHOD_FAST_RUNS)
        set_fast_runs(method, runs + 1);
}

void method_blocked(struct method *method) {
    unsigned times = atomic_fetch_add_explicit(&method->slow_times, 1, memory_order_relaxed);
    set_fast_runs(method, -METHOD_BLOCKED_RUNS * (1 << (times < 16 ? times : 16)));
}

bool method_is_quick(const struct method *method) {
    return atomic_load_explicit(&method->fast_runs, memory_order_relaxed) >= METHOD_FAST_RUNS;
}

static unsigned bucket_of(int64_t elapsed) {
    unsigned bucket = elapsed > 1 ? 63 - (unsigned)__builtin_clzll((uint64_t)elapsed) : 0;
    return bucket < VOUCH_LATENCY_BUCKETS ? bucket : VOUCH_LATENCY_BUCKETS - 1;
}

static void add(atomic_uint_fast64_t *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void method_count(struct method *method, int result, int64_t elapsed) {
    add(&method->calls);
    if (result != 0)
        add(&method->errors);
    add(&method->latency[bucket_of(elapsed)]);
}

void method_get_stats(struct method *method, struct vouch_method_stats *ret_stats) {
    ret_stats->name = method->name;
    ret_stats->calls = atomic_load_explicit(&method->calls, memory_order_relaxed);
    ret_stats->errors = atomic_load_explicit(&method->errors, memory_order_relaxed);
    for (size_t i = 0; i < VOUCH_LATENCY_BUCKETS; i++)
        ret_stats->latency[i] = atomic_load_explicit(&method->latency[i], memory_order_relaxed);
}
