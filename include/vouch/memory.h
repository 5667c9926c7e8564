/* SPDX-License-Identifier: MIT */
/*
 * The allocator. Every byte that the library allocates comes through one: the one in an object's
 * options, or malloc.
 */
#ifndef VOUCH_MEMORY_H
#define VOUCH_MEMORY_H

#include <vouch/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A user's allocator. The struct and what it points to must outlive every object that was given it.
 * Functions are called from any thread that uses such an object, maybe with locks of the library
 * held: they must not call into it. `alloc` returns memory aligned for
 * any type, or NULL; it need not be cleared. `release` gets the size that was asked for, and never
 * NULL. */
struct vouch_allocator {
    void *(*alloc)(void *context, size_t size);
    void (*release)(void *context, void *memory, size_t size);
    void *context;
};

/* Counters of all allocations of the library in this process, whatever the allocator. */
struct vouch_memory_stats {
    uint64_t allocations; /* blocks taken since the start */
    uint64_t releases;    /* blocks given back */
    uint64_t failures;    /* times an allocator returned NULL */
    uint64_t live_bytes;  /* bytes held now, pools' idle buffers included */
};

/* Any thread; does not block; the counters are read one by one, not as one snapshot. */
VOUCH_API void vouch_memory_get_stats(struct vouch_memory_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
