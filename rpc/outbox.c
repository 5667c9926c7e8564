/* SPDX-License-Identifier: MIT */
#include "rpc/outbox.h"

#include <errno.h>

void outbox_push(struct outbox *o, struct vouch_buffer *chunk) {
    struct pool_buffer *buffer = pool_buffer_of(chunk);
    buffer->next = NULL;
    if (o->tail)
        o->tail->next = buffer;
    else
        o->head = buffer;
    o->tail = buffer;
    o->bytes += chunk->size;
}

static struct pool_buffer *pop(struct outbox *o) {
    struct pool_buffer *first = o->head;
    o->head = first->next;
    if (!o->head)
        o->tail = NULL;
    if (first == o->lent_after)
        o->lent_after = NULL;
    return first;
}

struct vouch_buffer *outbox_take(struct outbox *o) {
    if (!o->head)
        return NULL;
    o->bytes -= o->head->public.size;
    return &pop(o)->public;
}

void outbox_clear(struct outbox *o) {
    while (o->head)
        vouch_buffer_unref(&pop(o)->public);
    *o = (struct outbox){0};
}

/* ---- what is lent ---- */

void outbox_lend(struct outbox *o, struct vouch_buffer *before, const struct iovec *bytes) {
    o->lent_after = pool_buffer_of(before);
    o->lent = bytes->iov_base;
    o->lent_size = bytes->iov_len;
    o->bytes += bytes->iov_len;
}

/* Of the lent bytes, those that have been sent. */
static size_t lent_sent(const struct outbox *o) {
    size_t own = o->lent_after->public.size;
    return o->lent_after == o->head && o->offset > own ? o->offset - own : 0;
}

int outbox_keep_lent(struct outbox *o, struct vouch_pool *pool) {
    struct pool_buffer *before = o->lent_after;
    struct vouch_buffer *copy;
    if (!before)
        return 0;
    size_t sent = lent_sent(o), left = o->lent_size - sent;
    int r = pool_copy(pool, o->lent + sent, left, &copy);
    if (r < 0)
        return r;
    struct pool_buffer *after = pool_buffer_of(copy);
    after->next = before->next;
    before->next = after;
    if (o->tail == before)
        o->tail = after;
    o->lent_after = NULL;
    if (sent > 0) { /* and with it all that came before the lent bytes */
        vouch_buffer_unref(&pop(o)->public);
        o->offset = 0;
    }
    return 0;
}

/* ---- sending ---- */

/* With what is lent behind it. */
static size_t size_of(const struct outbox *o, const struct pool_buffer *b) {
    return b->public.size + (b == o->lent_after ? o->lent_size : 0);
}

/* The bytes of a buffer from `offset` on, and what is lent behind it: at most `max` pieces. */
static int put(const struct outbox *o, const struct pool_buffer *b, size_t offset,
               struct iovec *ret_pieces, int max) {
    size_t own = b->public.size;
    int count = 0;
    if (offset < own)
        ret_pieces[count++] = (struct iovec){b->public.data + offset, own - offset};
    if (b == o->lent_after && count < max) {
        size_t of_lent = offset > own ? offset - own : 0;
        ret_pieces[count++] =
            (struct iovec){(uint8_t *)(uintptr_t)o->lent + of_lent, o->lent_size - of_lent};
    }
    return count;
}

int outbox_pieces(const struct outbox *o, struct iovec *ret_pieces, int max) {
    int count = 0;
    size_t offset = o->offset;
    for (struct pool_buffer *b = o->head; b && count < max; b = b->next) {
        count += put(o, b, offset, ret_pieces + count, max - count);
        offset = 0;
    }
    return count;
}

void outbox_sent(struct outbox *o, size_t size) {
    o->bytes -= size;
    size += o->offset;
    while (o->head && size >= size_of(o, o->head)) {
        size -= size_of(o, o->head);
        vouch_buffer_unref(&pop(o)->public);
    }
    o->offset = size;
}
