/* SPDX-License-Identifier: MIT */
/*
 * Buffers in size classes: 512 bytes to 8 MiB, with a class half way between any two powers of two,
 * so that rounding up never costs more than a third of a block. A class is a stack of idle blocks
 * under a lock of its own; the last one in is the first one out, still warm in the cache. What is
 * larger than the largest class has a pseudo class that keeps nothing.
 *
 * Lifetime: `handles` counts the users' references. Each *block*, idle or not, counts in
 * `references` from its allocation to its release, and all handles together count as one: the hot
 * path (take a block, put it back) touches no counter of the pool's but the idle bytes, and the
 * pool lives until its last block is gone.
 */
#include "lib/pool.h"

#include "lib/mem.h"
#include "lib/options.h"
#include "lib/os.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#define POOL_CLASSES 29            /* 512, 768, 1024, 1536, … 8 MiB */
#define POOL_UNPOOLED POOL_CLASSES /* the pseudo class */
#define POOL_ALL (POOL_CLASSES + 1)
#define POOL_CLASS_MIN_LOG 9
#define POOL_IDLE_DEFAULT ((size_t)16 * 1024 * 1024)
#define POOL_REQUEST_MAX ((size_t)SSIZE_MAX / 2)

_Static_assert(1 << POOL_CLASS_MIN_LOG == VOUCH_POOL_CLASS_MIN, "the smallest class");
_Static_assert(VOUCH_POOL_CLASS_MIN << ((POOL_CLASSES - 1) / 2) == VOUCH_POOL_CLASS_MAX,
               "the largest class");
_Static_assert(sizeof(struct pool_buffer) % _Alignof(max_align_t) == 0,
               "bytes after the head are aligned for any type");

struct pool_class {
    pthread_mutex_t lock;
    struct pool_buffer *idle;
    size_t idle_bytes;
    uint64_t hits, misses, puts;
    bool closed; /* no handle is left: nothing is kept any more */
};

struct vouch_pool {
    const struct vouch_allocator *allocator;
    uint64_t epoch;
    size_t max_idle_bytes, max_idle_per_class;
    atomic_size_t handles, references;
    atomic_size_t idle_bytes;
    _Atomic uint64_t bytes_held, allocations;
    struct pool_class classes[POOL_ALL];
};

#if defined(__SANITIZE_ADDRESS__)
#define POOL_RECYCLES false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_RECYCLES false
#endif
#endif
#ifndef POOL_RECYCLES
#define POOL_RECYCLES true
#endif

bool pool_recycles(void) {
    return POOL_RECYCLES;
}

/* The smallest class whose blocks have room for `size` bytes. */
static unsigned pool_class_of(size_t size) {
    if (size <= VOUCH_POOL_CLASS_MIN)
        return 0;
    if (size > VOUCH_POOL_CLASS_MAX)
        return POOL_UNPOOLED;
    unsigned log = (unsigned)(sizeof(long) * CHAR_BIT - 1) - (unsigned)__builtin_clzl(size - 1);
    unsigned half_way = 2 * (log - POOL_CLASS_MIN_LOG) + 1; /* 2^log < size <= 2^(log + 1) */
    return size <= (size_t)3 << (log - 1) ? half_way : half_way + 1;
}

static size_t pool_class_size(unsigned class) {
    size_t power = (size_t)VOUCH_POOL_CLASS_MIN << (class / 2);
    return class % 2 ? power + power / 2 : power;
}

static int pool_init_locks(struct vouch_pool *pool) {
    for (unsigned i = 0; i < POOL_ALL; i++) {
        if (pthread_mutex_init(&pool->classes[i].lock, NULL) == 0)
            continue;
        while (i-- > 0)
            pthread_mutex_destroy(&pool->classes[i].lock);
        return -ENOMEM;
    }
    return 0;
}

int vouch_pool_new(const struct vouch_pool_options *options, struct vouch_pool **ret_pool) {
    struct vouch_pool_options set = {0};
    OPTIONS_READ(set, options);
    struct vouch_pool *pool = mem_zalloc(set.allocator, sizeof(*pool));
    if (!pool)
        return -ENOMEM;
    if (pool_init_locks(pool) < 0) {
        mem_free(set.allocator, pool, sizeof(*pool));
        return -ENOMEM;
    }
    pool->allocator = set.allocator;
    pool->epoch = os_process_epoch();
    pool->max_idle_bytes = set.max_idle_bytes ? set.max_idle_bytes : POOL_IDLE_DEFAULT;
    pool->max_idle_per_class =
        set.max_idle_per_class ? set.max_idle_per_class : pool->max_idle_bytes / 2;
    atomic_init(&pool->handles, 1);
    atomic_init(&pool->references, 1);
    atomic_init(&pool->bytes_held, sizeof(*pool));
    atomic_init(&pool->allocations, 1);
    *ret_pool = pool;
    return 0;
}

static void pool_release(struct vouch_pool *pool) {
    if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < POOL_ALL; i++)
        pthread_mutex_destroy(&pool->classes[i].lock);
    mem_free(pool->allocator, pool, sizeof(*pool));
}

static struct pool_buffer *pool_new_block(struct vouch_pool *pool, unsigned class, size_t size) {
    atomic_fetch_add_explicit(&pool->allocations, 1, memory_order_relaxed);
    struct pool_buffer *block = mem_alloc(pool->allocator, size);
    if (!block)
        return NULL;
    block->pool = pool;
    block->block_size = size;
    block->class = class;
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->bytes_held, size, memory_order_relaxed);
    return block;
}

static void pool_free_block(struct pool_buffer *block) {
    struct vouch_pool *pool = block->pool;
    atomic_fetch_sub_explicit(&pool->bytes_held, block->block_size, memory_order_relaxed);
    mem_free(pool->allocator, block, block->block_size);
    pool_release(pool);
}

static struct pool_buffer *pool_take_idle(struct vouch_pool *pool, struct pool_class *class) {
    pthread_mutex_lock(&class->lock);
    struct pool_buffer *block = class->idle;
    if (block) {
        class->idle = block->next;
        class->idle_bytes -= block->block_size;
        class->hits++;
        atomic_fetch_sub_explicit(&pool->idle_bytes, block->block_size, memory_order_relaxed);
    }
    pthread_mutex_unlock(&class->lock);
    return block;
}

static void pool_count_miss(struct pool_class *class) {
    pthread_mutex_lock(&class->lock);
    class->misses++;
    pthread_mutex_unlock(&class->lock);
}

int vouch_pool_get(struct vouch_pool *pool, size_t headroom, size_t capacity,
                   struct vouch_buffer **ret_buffer) {
    if (pool->epoch != os_process_epoch())
        return -ECHILD;
    if (headroom > POOL_REQUEST_MAX || capacity > POOL_REQUEST_MAX - headroom)
        return -EMSGSIZE;

    size_t size = sizeof(struct pool_buffer) + headroom + capacity;
    unsigned class = pool_class_of(size);
    struct pool_buffer *block =
        class == POOL_UNPOOLED ? NULL : pool_take_idle(pool, &pool->classes[class]);
    if (!block) {
        block = pool_new_block(pool, class, class == POOL_UNPOOLED ? size : pool_class_size(class));
        if (!block)
            return -ENOMEM;
        pool_count_miss(&pool->classes[class]);
    }
    uint8_t *bytes = (uint8_t *)(block + 1);
    block->public = (struct vouch_buffer){.data = bytes + headroom,
                                          .capacity = POOL_ROOM(block->block_size) - headroom};
    block->next = NULL;
    atomic_store_explicit(&block->references, 1, memory_order_relaxed);
    *ret_buffer = &block->public;
    return 0;
}

/* Whether this block, just given back, is kept; counts it as idle if so. The class is locked. */
static bool pool_keeps(struct vouch_pool *pool, struct pool_class *class,
                       const struct pool_buffer *block) {
    size_t size = block->block_size;
    if (!POOL_RECYCLES || class->closed || block->class == POOL_UNPOOLED)
        return false;
    if (size > pool->max_idle_per_class || class->idle_bytes > pool->max_idle_per_class - size)
        return false;
    size_t idle = atomic_fetch_add_explicit(&pool->idle_bytes, size, memory_order_relaxed);
    if (size <= pool->max_idle_bytes && idle <= pool->max_idle_bytes - size) {
        class->idle_bytes += size;
        return true;
    }
    atomic_fetch_sub_explicit(&pool->idle_bytes, size, memory_order_relaxed);
    return false;
}

static void pool_put(struct pool_buffer *block) {
    struct vouch_pool *pool = block->pool;
    struct pool_class *class = &pool->classes[block->class];
    pthread_mutex_lock(&class->lock);
    class->puts++;
    bool kept = pool_keeps(pool, class, block);
    if (kept) {
        block->next = class->idle;
        class->idle = block;
    }
    pthread_mutex_unlock(&class->lock);
    if (!kept)
        pool_free_block(block);
}

struct vouch_buffer *vouch_buffer_ref(struct vouch_buffer *buffer) {
    atomic_fetch_add_explicit(&pool_buffer_of(buffer)->references, 1, memory_order_relaxed);
    return buffer;
}

void vouch_buffer_unref(struct vouch_buffer *buffer) {
    if (!buffer)
        return;
    struct pool_buffer *block = pool_buffer_of(buffer);
    /* The holder of the only reference is alone with it: no need for a locked instruction. */
    if (pool_buffer_is_shared(buffer) &&
        atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    /* In a forked child a lock of the pool may be held by a thread that does not exist there. */
    if (block->pool->epoch == os_process_epoch())
        pool_put(block);
}

bool pool_buffer_is_shared(const struct vouch_buffer *buffer) {
    const struct pool_buffer *block = (const struct pool_buffer *)(const void *)buffer;
    return atomic_load_explicit(&block->references, memory_order_acquire) > 1;
}

int pool_copy(struct vouch_pool *pool, const void *data, size_t size,
              struct vouch_buffer **ret_buffer) {
    int r = vouch_pool_get(pool, 0, size, ret_buffer);
    if (r < 0)
        return r;
    if (size > 0)
        memcpy((*ret_buffer)->data, data, size);
    (*ret_buffer)->size = size;
    return 0;
}

size_t vouch_buffer_headroom(const struct vouch_buffer *buffer) {
    const struct pool_buffer *block = (const struct pool_buffer *)(const void *)buffer;
    return (size_t)(buffer->data - (const uint8_t *)(block + 1));
}

const struct vouch_allocator *pool_allocator(const struct vouch_pool *pool) {
    return pool->allocator;
}

/* Frees what is idle; with `close`, nothing is kept from now on. */
static void pool_empty(struct vouch_pool *pool, bool close) {
    for (unsigned i = 0; i < POOL_ALL; i++) {
        struct pool_class *class = &pool->classes[i];
        pthread_mutex_lock(&class->lock);
        struct pool_buffer *idle = class->idle;
        atomic_fetch_sub_explicit(&pool->idle_bytes, class->idle_bytes, memory_order_relaxed);
        class->idle = NULL;
        class->idle_bytes = 0;
        class->closed |= close;
        pthread_mutex_unlock(&class->lock);
        while (idle) {
            struct pool_buffer *next = idle->next;
            pool_free_block(idle);
            idle = next;
        }
    }
}

void vouch_pool_trim(struct vouch_pool *pool) {
    if (pool->epoch == os_process_epoch())
        pool_empty(pool, false);
}

struct vouch_pool *vouch_pool_ref(struct vouch_pool *pool) {
    atomic_fetch_add_explicit(&pool->handles, 1, memory_order_relaxed);
    return pool;
}

void vouch_pool_unref(struct vouch_pool *pool) {
    if (!pool || pool->epoch != os_process_epoch())
        return;
    if (atomic_fetch_sub_explicit(&pool->handles, 1, memory_order_acq_rel) != 1)
        return;
    pool_empty(pool, true);
    pool_release(pool);
}

void vouch_pool_get_stats(struct vouch_pool *pool, struct vouch_pool_stats *ret_stats) {
    struct vouch_pool_stats stats = {
        .allocations = atomic_load_explicit(&pool->allocations, memory_order_relaxed),
        .bytes_held = atomic_load_explicit(&pool->bytes_held, memory_order_relaxed),
    };
    uint64_t puts = 0;
    for (unsigned i = 0; i < POOL_ALL; i++) {
        struct pool_class *class = &pool->classes[i];
        pthread_mutex_lock(&class->lock);
        stats.hits += class->hits;
        stats.misses += class->misses;
        stats.bytes_idle += class->idle_bytes;
        puts += class->puts;
        pthread_mutex_unlock(&class->lock);
    }
    stats.gets = stats.hits + stats.misses;
    stats.buffers_out = stats.gets - puts;
    *ret_stats = stats;
}
