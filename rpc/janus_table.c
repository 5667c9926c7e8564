/* SPDX-License-Identifier: MIT */
#include "rpc/janus_table.h"

#include "rpc/janus_link.h"

/* 2^64 divided by the golden ratio: spreads ids that count up, by whatever stride, over the upper
 * bits of the product. */
#define SPREAD UINT64_C(0x9e3779b97f4a7c15)

static struct janus_node **chain_of(const struct janus_table *table, uint64_t id) {
    return &table->chains[(id * SPREAD) >> (64 - table->bits)];
}

void janus_table_init(struct janus_table *table, struct vouch_pool *pool) {
    *table = (struct janus_table){.pool = pool, .bits = JANUS_TABLE_BITS};
    table->chains = table->first;
}

void janus_table_deinit(struct janus_table *table) {
    vouch_buffer_unref(table->memory);
    janus_table_init(table, table->pool);
}

static void push(struct janus_table *table, struct janus_node *node) {
    struct janus_node **chain = chain_of(table, node->id);
    node->next = *chain;
    *chain = node;
}

static void grow(struct janus_table *table) {
    struct janus_node **old = table->chains;
    size_t old_count = janus_table_chains(table);
    struct vouch_buffer *old_memory = table->memory, *memory;
    struct janus_node **chains =
        janus_alloc(table->pool, 2 * old_count * sizeof(struct janus_node *), &memory);
    if (!chains)
        return;
    table->chains = chains;
    table->memory = memory;
    table->bits++;
    for (size_t i = 0; i < old_count; i++)
        for (struct janus_node *node = old[i], *next; node; node = next) {
            next = node->next;
            push(table, node);
        }
    vouch_buffer_unref(old_memory);
}

void janus_table_insert(struct janus_table *table, struct janus_node *node) {
    if (table->count >= janus_table_chains(table))
        grow(table);
    push(table, node);
    table->count++;
}

void janus_table_remove(struct janus_table *table, struct janus_node *node) {
    struct janus_node **at = chain_of(table, node->id);
    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    table->count--;
}

static struct janus_node *with_id(struct janus_node *node, uint64_t id) {
    while (node && node->id != id)
        node = node->next;
    return node;
}

struct janus_node *janus_table_find(const struct janus_table *table, uint64_t id) {
    return with_id(*chain_of(table, id), id);
}

struct janus_node *janus_table_find_next(const struct janus_node *node) {
    return with_id(node->next, node->id);
}
