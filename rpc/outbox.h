/* SPDX-License-Identifier: MIT */
/*
 * An outbox: messages that wait to be sent, in pooled buffers, each one whole chunk, in order. The
 * body of one of them may be lent: it stays where its owner has it and follows its buffer on the
 * way out.
 */
#ifndef VOUCH_RPC_OUTBOX_H
#define VOUCH_RPC_OUTBOX_H

#include <sys/uio.h>

#include "lib/pool.h"

struct outbox {
    struct pool_buffer *head, *tail;
    size_t bytes, offset;           /* waiting in all; of the head, sent already */
    struct pool_buffer *lent_after; /* NULL: nothing is lent */
    const uint8_t *lent;
    size_t lent_size;
};

/* Takes the buffer over. */
void outbox_push(struct outbox *outbox, struct vouch_buffer *chunk);

/* Takes the oldest out, which nothing of has been sent; NULL: there is none. */
struct vouch_buffer *outbox_take(struct outbox *outbox);

/* What is lent follows this buffer, which is pushed next. One at a time. */
void outbox_lend(struct outbox *outbox, struct vouch_buffer *before, const struct iovec *bytes);

/* Copies what is left of a lent body into a buffer of `pool`: 0, or -ENOMEM, and then half a
 * message would follow if anything did. */
int outbox_keep_lent(struct outbox *outbox, struct vouch_pool *pool) VOUCH_MUST_CHECK;

/* The bytes to send as at most `max` pieces (0 when there are none), then how many were taken. */
int outbox_pieces(const struct outbox *outbox, struct iovec *ret_pieces, int max);
void outbox_sent(struct outbox *outbox, size_t size);

void outbox_clear(struct outbox *outbox); /* safe twice */

#endif
