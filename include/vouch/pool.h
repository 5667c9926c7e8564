/* SPDX-License-Identifier: MIT */
/*
 * Buffer pools: reference-counted byte buffers in size classes, recycled instead of freed.
 *
 * A pool is thread-safe and can be shared by any number of connections, clients and servers. What
 * it keeps is bounded; buffers over the largest class go straight back to the allocator. Under
 * AddressSanitizer every buffer is a real allocation, so that misuse shows.
 */
#ifndef VOUCH_POOL_H
#define VOUCH_POOL_H

#include <vouch/common.h>
#include <vouch/memory.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_pool;

/* A buffer: `size` bytes of content at `data`, with room for `capacity` from there. What is in
 * front of `data` (vouch_buffer_headroom) is for headers that are put before the content without
 * moving it. The fields may be changed by whoever holds the only reference. */
struct vouch_buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

/* Bytes of the smallest and of the largest class, head included; larger buffers are not kept. */
#define VOUCH_POOL_CLASS_MIN 512
#define VOUCH_POOL_CLASS_MAX ((size_t)8 * 1024 * 1024)

struct vouch_pool_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */
    size_t max_idle_bytes; /* kept for reuse, all classes together; 0: 16 MiB; SIZE_MAX: as much as
                              there ever was */
    size_t max_idle_per_class; /* bytes kept in one class; 0: half of max_idle_bytes */
};

/* Returns 0 or -ENOMEM; the caller holds the only reference. `options` may be NULL. Any thread;
 * does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pool_new(const struct vouch_pool_options *options,
                                              struct vouch_pool **ret_pool);

/* Counted references, thread-safe. Buffers hold one of their pool, so a pool may be let go while
 * buffers are out. NULL is ignored. */
VOUCH_API struct vouch_pool *vouch_pool_ref(struct vouch_pool *pool);
VOUCH_API void vouch_pool_unref(struct vouch_pool *pool);

/* A buffer with room for at least `capacity` bytes after `headroom` bytes; its size is 0, its
 * content undefined; without headroom `data` is aligned for any type. The caller holds the only
 * reference. Returns 0, -ENOMEM, -EMSGSIZE (the sum is over SSIZE_MAX / 2), -ECHILD. Any thread. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pool_get(struct vouch_pool *pool, size_t headroom,
                                              size_t capacity, struct vouch_buffer **ret_buffer);

/* One more reference; thread-safe. Returns its argument. */
VOUCH_API struct vouch_buffer *vouch_buffer_ref(struct vouch_buffer *buffer);

/* Gives a reference back; the last one recycles the buffer. NULL is ignored. Thread-safe. */
VOUCH_API void vouch_buffer_unref(struct vouch_buffer *buffer);

/* Bytes free in front of `data`. */
VOUCH_API size_t vouch_buffer_headroom(const struct vouch_buffer *buffer);

struct vouch_pool_stats {
    uint64_t gets;        /* buffers handed out */
    uint64_t hits;        /* of them from what was kept */
    uint64_t misses;      /* of them allocated: gets = hits + misses */
    uint64_t allocations; /* calls of the allocator, the pool's own bookkeeping included */
    uint64_t buffers_out; /* in use now */
    uint64_t bytes_held;  /* taken from the allocator and not given back: in use and idle */
    uint64_t bytes_idle;  /* of them kept for reuse */
};

/* Any thread; does not block for long. */
VOUCH_API void vouch_pool_get_stats(struct vouch_pool *pool, struct vouch_pool_stats *ret_stats);

/* Gives all idle buffers back to the allocator. Any thread. */
VOUCH_API void vouch_pool_trim(struct vouch_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
