/* SPDX-License-Identifier: MIT */
#include "tests/interpose_malloc.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "tests/harness.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#if defined(__GLIBC__) && !defined(SANITIZED) && !VOUCH_TEST_SLOW

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static atomic_uint_fast64_t allocations;

static void count(void) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
}

__attribute__((visibility("default"))) void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t number, size_t size) {
    count();
    return __libc_calloc(number, size);
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t size) {
    count();
    return __libc_realloc(memory, size);
}

bool interpose_counts(void) {
    return true;
}

uint64_t interpose_allocations(void) {
    return atomic_load(&allocations);
}

#else

bool interpose_counts(void) {
    return false;
}

uint64_t interpose_allocations(void) {
    return 0;
}

#endif
