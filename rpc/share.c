/* SPDX-License-Identifier: MIT */
#include "rpc/share.h"

#include "lib/mem.h"
#include "rpc/server.h"

static void append(struct share_table *table, struct share *share) {
    share->next = NULL;
    if (table->last)
        table->last->next = share;
    else
        table->first = share;
    table->last = share;
}

static void take_out(struct share_table *table, struct share *share) {
    struct share *before = NULL;
    for (struct share *at = table->first; at != share; at = at->next)
        before = at;
    if (before)
        before->next = share->next;
    else
        table->first = share->next;
    if (table->last == share)
        table->last = before;
}

struct share *share_get(struct share_table *table, uid_t uid, unsigned limit) {
    struct share *share = table->first;
    while (share && share->uid != uid)
        share = share->next;
    if (!share) {
        share = mem_zalloc(table->allocator, sizeof(*share));
        if (!share)
            return NULL;
        share->uid = uid;
        share->limit = limit;
        append(table, share);
    }
    share->users++;
    return share;
}

void share_put(struct share_table *table, struct share *share) {
    if (!share || --share->users > 0)
        return;
    take_out(table, share);
    mem_free(table->allocator, share, sizeof(*share));
}

bool share_begin(struct share *share) {
    if (share->running >= share->limit)
        return false;
    share->running++;
    share->users++;
    return true;
}

void share_end(struct share_table *table, struct share *share) {
    share->running--;
    share_put(table, share);
}

void share_wait(struct share *share, struct vouch_call *call) {
    call->next = NULL;
    if (share->last)
        share->last->next = call;
    else
        share->first = call;
    share->last = call;
}

static struct vouch_call *pop(struct share *share) {
    struct vouch_call *call = share->first;
    share->first = call->next;
    if (!share->first)
        share->last = NULL;
    return call;
}

struct vouch_call *share_next(struct share_table *table) {
    for (struct share *share = table->first; share; share = share->next) {
        if (!share->first || !share_begin(share))
            continue;
        take_out(table, share);
        append(table, share);
        return pop(share);
    }
    return NULL;
}
