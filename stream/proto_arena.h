/* SPDX-License-Identifier: MIT */
/* Memory of one unpacked message: taken in blocks from a pool, given back all at once. */
#ifndef VOUCH_STREAM_PROTO_ARENA_H
#define VOUCH_STREAM_PROTO_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <vouch/pool.h>

struct proto_arena {
    ProtobufCAllocator allocator; /* for protobuf-c */
    struct vouch_pool *pool;
    struct vouch_buffer *blocks; /* the newest; each begins with a pointer to the one before */
    size_t budget;               /* bytes that may still be asked for */
    size_t next_block;           /* room of the next block */
    int failure; /* why memory was refused: 0, -EMSGSIZE (the budget), or of vouch_pool_get */
};

/* For a message of `size` bytes on the wire. Must not move while it is in use. Takes no memory. */
void proto_arena_init(struct proto_arena *arena, struct vouch_pool *pool, size_t size);

/* What a message of `size` bytes may cost. */
size_t proto_arena_budget(size_t size);

/* Gives all blocks back, from the newest on. NULL is ignored. */
void proto_arena_release(struct vouch_buffer *blocks);

#endif
