/* SPDX-License-Identifier: MIT */
/*
 * Counted allocation. The counters are process-wide and relaxed: each is right by itself, they are
 * not a snapshot together. What is hot does not come here (lib/pool.c keeps its buffers), so shared
 * counters cost nothing that matters.
 */
#include "lib/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static struct { _Atomic uint64_t allocations, releases, failures, live_bytes; } mem_counters;

static void mem_count(_Atomic uint64_t *counter, uint64_t by) {
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* malloc(0) may answer NULL, which here would mean that memory is short. */
static size_t mem_real_size(size_t size) {
    return size > 0 ? size : 1;
}

void *mem_alloc(const struct vouch_allocator *allocator, size_t size) {
    size = mem_real_size(size);
    void *memory = allocator ? allocator->alloc(allocator->context, size) : malloc(size);
    if (!memory) {
        mem_count(&mem_counters.failures, 1);
        return NULL;
    }
    mem_count(&mem_counters.allocations, 1);
    mem_count(&mem_counters.live_bytes, size);
    return memory;
}

void *mem_zalloc(const struct vouch_allocator *allocator, size_t size) {
    void *memory = mem_alloc(allocator, size);
    return memory ? memset(memory, 0, size) : NULL;
}

void *mem_resize(const struct vouch_allocator *allocator, void *memory, size_t old_size,
                 size_t new_size) {
    void *resized = mem_alloc(allocator, new_size);
    if (!resized)
        return NULL;
    if (memory)
        memcpy(resized, memory, old_size < new_size ? old_size : new_size);
    mem_free(allocator, memory, old_size);
    return resized;
}

char *mem_strdup(const struct vouch_allocator *allocator, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(allocator, size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void mem_free(const struct vouch_allocator *allocator, void *memory, size_t size) {
    if (!memory)
        return;
    size = mem_real_size(size);
    mem_count(&mem_counters.releases, 1);
    mem_count(&mem_counters.live_bytes, -(uint64_t)size);
    if (allocator)
        allocator->release(allocator->context, memory, size);
    else
        free(memory);
}

void mem_free_text(const struct vouch_allocator *allocator, char *text) {
    if (text)
        mem_free(allocator, text, strlen(text) + 1);
}

static uint64_t mem_read(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void vouch_memory_get_stats(struct vouch_memory_stats *ret_stats) {
    *ret_stats = (struct vouch_memory_stats){
        .allocations = mem_read(&mem_counters.allocations),
        .releases = mem_read(&mem_counters.releases),
        .failures = mem_read(&mem_counters.failures),
        .live_bytes = mem_read(&mem_counters.live_bytes),
    };
}
