/* SPDX-License-Identifier: MIT */
/*
 * Objects by the gateway's id. Intrusive hash chains, in a table that doubles when there are more
 * objects than chains, so that each costs the same however many there are. Inserting never fails:
 * without memory for a larger table the chains get longer.
 *
 * Several nodes may have one id (handles of different sessions): who looks up tells them apart. How
 * many there are is the program's choice, what ids they have the gateway's: at worst all of them
 * are in one chain.
 */
#ifndef VOUCH_RPC_JANUS_TABLE_H
#define VOUCH_RPC_JANUS_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <vouch/pool.h>

#define JANUS_TABLE_BITS 4 /* of those in the object */

struct janus_node {
    uint64_t id; /* not changed while it is in a table */
    struct janus_node *next;
};

struct janus_table {
    struct vouch_pool *pool;     /* outlives the table */
    struct vouch_buffer *memory; /* of the chains; NULL: `first` */
    struct janus_node **chains;
    unsigned bits; /* 2^bits chains */
    size_t count;
    struct janus_node *first[1u << JANUS_TABLE_BITS];
};

void janus_table_init(struct janus_table *table, struct vouch_pool *pool);
void janus_table_deinit(struct janus_table *table); /* nodes are forgotten, not freed */

static inline size_t janus_table_chains(const struct janus_table *table) {
    return (size_t)1 << table->bits;
}

/* The first, or the next after `node`, with this id; NULL when there is none. */
struct janus_node *janus_table_find(const struct janus_table *table, uint64_t id);
struct janus_node *janus_table_find_next(const struct janus_node *node);
void janus_table_insert(struct janus_table *table, struct janus_node *node);
void janus_table_remove(struct janus_table *table, struct janus_node *node); /* must be in */

#endif
