/* SPDX-License-Identifier: MIT */
/*
 * What is in flight on one connection, by id. Intrusive hash chains over `id & mask`: ids that
 * count up, as those of an honest peer do, spread perfectly; a hostile one can at worst make a
 * chain as long as the limit of calls in flight. Inserting never fails: when there is no memory for
 * a larger table, the chains get longer.
 */
#ifndef VOUCH_RPC_IDTABLE_H
#define VOUCH_RPC_IDTABLE_H

#include <stddef.h>
#include <stdint.h>
#include <vouch/memory.h>

struct idtable_node {
    uint32_t id;
    struct idtable_node *next;
};

#define IDTABLE_INLINE 8

struct idtable {
    const struct vouch_allocator *allocator;
    struct idtable_node **buckets; /* == first, or allocated */
    size_t bucket_count;           /* a power of two */
    size_t count;
    struct idtable_node *first[IDTABLE_INLINE];
};

void idtable_init(struct idtable *table, const struct vouch_allocator *allocator);
void idtable_deinit(struct idtable *table); /* nodes are forgotten, not freed */

struct idtable_node *idtable_find(const struct idtable *table, uint32_t id);
void idtable_insert(struct idtable *table,
                    struct idtable_node *node); /* its id must not be in yet */
void idtable_remove(struct idtable *table, struct idtable_node *node); /* must be in */

/* Some node, or NULL when empty: to empty the table, or when there is just one. */
struct idtable_node *idtable_any(const struct idtable *table);

#endif
