/* SPDX-License-Identifier: MIT */
/*
 * A bump allocator over pooled buffers. Nothing is freed before everything is: protobuf-c frees
 * only what it gives up, and its working lists. What those cost counts against the budget too, for
 * they are what makes small messages expensive.
 *
 * Blocks double, so that a message takes a few of them, and come from the pool's classes, so that
 * the next message of the kind finds them there. What is larger than a block gets one of its own.
 */
#include "stream/proto_arena.h"

#include <errno.h>
#include <string.h>

#define ARENA_ALIGNMENT _Alignof(max_align_t)
#define ARENA_LINK ARENA_ALIGNMENT /* the pointer to the block before */
#define ARENA_BLOCK_MAX ((size_t)256 * 1024)
#define ARENA_FREE_COST ((size_t)64 * 1024) /* what any message may cost */
#define ARENA_FACTOR 32
#define ARENA_LARGE ((size_t)16 * 1024 * 1024)
#define ARENA_FACTOR_LARGE 2

_Static_assert(sizeof(struct vouch_buffer *) <= ARENA_LINK, "the link fits");

size_t proto_arena_budget(size_t size) {
    size_t budget = ARENA_FREE_COST + ARENA_FACTOR * size;
    if (budget <= ARENA_LARGE)
        return budget;
    /* Many small things cost more than their bytes, but not when they are that many. */
    size_t large = ARENA_FREE_COST + ARENA_FACTOR_LARGE * size;
    return large > ARENA_LARGE ? large : ARENA_LARGE;
}

static struct vouch_buffer *arena_block(struct proto_arena *arena, size_t size) {
    struct vouch_buffer *block;
    size_t room = size > arena->next_block ? size : arena->next_block;
    arena->failure = vouch_pool_get(arena->pool, 0, ARENA_LINK + room, &block);
    if (arena->failure < 0)
        return NULL;
    memcpy(block->data, &arena->blocks, sizeof(struct vouch_buffer *));
    block->size = ARENA_LINK;
    arena->blocks = block;
    if (arena->next_block < ARENA_BLOCK_MAX)
        arena->next_block *= 2;
    return block;
}

static void *arena_alloc(void *data, size_t size) {
    struct proto_arena *arena = data;
    size = (size + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    if (size > arena->budget) {
        arena->failure = -EMSGSIZE;
        return NULL;
    }
    arena->budget -= size;
    struct vouch_buffer *block = arena->blocks;
    if (!block || size > block->capacity - block->size)
        block = arena_block(arena, size);
    if (!block)
        return NULL;
    void *memory = block->data + block->size;
    block->size += size;
    return memory;
}

static void arena_free(void *data, void *memory) {
    (void)data;
    (void)memory;
}

void proto_arena_init(struct proto_arena *arena, struct vouch_pool *pool, size_t size) {
    /* Roughly what a message takes that is not many small things. */
    size_t guess = 4 * size + 400;
    *arena = (struct proto_arena){
        .allocator = {.alloc = arena_alloc, .free = arena_free, .allocator_data = arena},
        .pool = pool,
        .budget = proto_arena_budget(size),
        .next_block = guess < ARENA_BLOCK_MAX ? guess : ARENA_BLOCK_MAX,
    };
}

void proto_arena_release(struct vouch_buffer *blocks) {
    while (blocks) {
        struct vouch_buffer *before;
        memcpy(&before, blocks->data, sizeof(before));
        vouch_buffer_unref(blocks);
        blocks = before;
    }
}
