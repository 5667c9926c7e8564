/* SPDX-License-Identifier: MIT */
/* What the layers above need of buffers beyond <vouch/pool.h>: chaining them, and knowing whether
 * one is shared. */
#ifndef VOUCH_LIB_POOL_H
#define VOUCH_LIB_POOL_H

#include <stdatomic.h>
#include <vouch/pool.h>

/* The head of a block; the bytes follow it. `public` comes first, so that a pointer to it is a
 * pointer to all of it. */
struct pool_buffer {
    _Alignas(max_align_t) struct vouch_buffer
        public;               /* so that the bytes after the head are aligned too */
    struct pool_buffer *next; /* for whoever holds the buffer to chain it; the pool's when idle */
    struct vouch_pool *pool;
    size_t block_size; /* of the whole block, head included */
    atomic_uint references;
    unsigned class;
};

static inline struct pool_buffer *pool_buffer_of(struct vouch_buffer *buffer) {
    return (struct pool_buffer *)(void *)buffer;
}

/* Room for bytes in a block of `block_size`: ask for this much to get a class exactly. */
#define POOL_ROOM(block_size) ((size_t)(block_size) - sizeof(struct pool_buffer))

/* Whether somebody else holds a reference too. False stays false until the caller itself makes one.
 */
bool pool_buffer_is_shared(const struct vouch_buffer *buffer);

/* A buffer with a copy of these bytes. 0, or as vouch_pool_get. */
int pool_copy(struct vouch_pool *pool, const void *data, size_t size,
              struct vouch_buffer **ret_buffer) VOUCH_MUST_CHECK;

const struct vouch_allocator *
pool_allocator(const struct vouch_pool *pool); /* may be NULL: malloc */

/* False under AddressSanitizer, where no buffer is used twice. */
bool pool_recycles(void);

#endif
