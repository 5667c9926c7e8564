/* SPDX-License-Identifier: MIT */
/*
 * Counts what is asked of malloc, in a page that the suite gave; for LD_PRELOAD. Only the counts
 * matter: times are taken without it. For glibc, whose own functions have second names.
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bench/counters.h"

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

#define PUBLIC __attribute__((visibility("default")))

static struct counters early; /* before the page is there */
static struct counters *counters = &early;
static enum counters_side side;

__attribute__((constructor)) static void find_page(void) {
    struct counters *page = counters_get();
    side = counters_get_side();
    if (page)
        counters = page;
}

static void count(void) {
    atomic_fetch_add_explicit(&counters->sides[side].allocations, 1, memory_order_relaxed);
}

PUBLIC void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

PUBLIC void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

PUBLIC void *realloc(void *memory, size_t size) {
    count();
    return __libc_realloc(memory, size);
}

PUBLIC void *memalign(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

PUBLIC int posix_memalign(void **ret_memory, size_t alignment, size_t size) {
    count();
    void *memory = __libc_memalign(alignment, size);
    if (!memory)
        return ENOMEM;
    *ret_memory = memory;
    return 0;
}
