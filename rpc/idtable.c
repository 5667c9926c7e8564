/* SPDX-License-Identifier: MIT */
#include "rpc/idtable.h"

#include <string.h>

#include "lib/mem.h"

void idtable_init(struct idtable *table, const struct vouch_allocator *allocator) {
    *table = (struct idtable){.allocator = allocator, .bucket_count = IDTABLE_INLINE};
    table->buckets = table->first;
}

void idtable_deinit(struct idtable *table) {
    if (table->buckets != table->first)
        mem_free(table->allocator, table->buckets, table->bucket_count * sizeof(*table->buckets));
    table->buckets = table->first;
    table->bucket_count = IDTABLE_INLINE;
}

static struct idtable_node **bucket(const struct idtable *table, uint32_t id) {
    return &table->buckets[id & (table->bucket_count - 1)];
}

struct idtable_node *idtable_find(const struct idtable *table, uint32_t id) {
    struct idtable_node *node = *bucket(table, id);
    while (node && node->id != id)
        node = node->next;
    return node;
}

static void push(struct idtable *table, struct idtable_node *node) {
    struct idtable_node **head = bucket(table, node->id);
    node->next = *head;
    *head = node;
}

static void grow(struct idtable *table) {
    struct idtable_node **old = table->buckets;
    size_t old_count = table->bucket_count;
    struct idtable_node **buckets = mem_zalloc(table->allocator, 2 * old_count * sizeof(*buckets));
    if (!buckets)
        return;
    table->buckets = buckets;
    table->bucket_count = 2 * old_count;
    for (size_t i = 0; i < old_count; i++)
        for (struct idtable_node *node = old[i], *next; node; node = next) {
            next = node->next;
            push(table, node);
        }
    if (old != table->first)
        mem_free(table->allocator, old, old_count * sizeof(*old));
}

void idtable_insert(struct idtable *table, struct idtable_node *node) {
    if (table->count >= table->bucket_count)
        grow(table);
    push(table, node);
    table->count++;
}

void idtable_remove(struct idtable *table, struct idtable_node *node) {
    struct idtable_node **link = bucket(table, node->id);
    while (*link && *link != node)
        link = &(*link)->next;
    if (!*link)
        return;
    *link = node->next;
    node->next = NULL;
    table->count--;
}

struct idtable_node *idtable_any(const struct idtable *table) {
    if (table->count == 0)
        return NULL;
    for (size_t i = 0; i < table->bucket_count; i++)
        if (table->buckets[i])
            return table->buckets[i];
    return NULL;
}
