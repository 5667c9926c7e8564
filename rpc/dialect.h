/* SPDX-License-Identifier: MIT */
/*
 * What a dialect writes, put around bodies; and which dialect a connection speaks. Pure: no I/O, no
 * state. The dialects themselves are elsewhere (<vouch/dialect.h>).
 */
#ifndef VOUCH_RPC_DIALECT_H
#define VOUCH_RPC_DIALECT_H

#include <vouch/dialect.h>
#include <vouch/pool.h>

/* What may be spoken on a connection. */
struct dialect_choice {
    bool native;  /* vouch's own */
    bool packets; /* … a message a packet; there are no dialects then */
    const struct vouch_dialect *dialects;
    size_t count;
};

/* Whether what has to be there is. */
bool dialect_is_valid(const struct vouch_dialect *dialect);

/* A dialect that the first byte of a connection means; NULL: vouch's own, or none (if that is not
 * spoken). */
const struct vouch_dialect *dialect_choose(const struct dialect_choice *choice, uint8_t first);

/* Whether there is nothing to choose: the one dialect, or vouch's own. */
bool dialect_is_certain(const struct dialect_choice *choice,
                        const struct vouch_dialect **ret_dialect);

/* Over TCP a page that a browser shows could have it send us any body, and what is before that
 * might be skipped: the head of a request of HTTP. One of its two lines that are always there is
 * seen, also of one whose first line is too long for us. `cut`: these are the line's first bytes.
 */
bool dialect_is_http(const uint8_t *line, size_t size, bool cut);

/* A message as buffers that follow each other. */
#define DIALECT_PARTS_MAX 3
struct dialect_parts {
    struct vouch_buffer *part[DIALECT_PARTS_MAX];
    size_t count, size;
};

/* Makes a message of what the dialect writes and `body` (NULL: there is none), which is taken over
 * on success only: around it where it has the room, else in buffers of their own. A message of
 * more than `max` bytes is -EMSGSIZE, and `ret_parts->size` says of how many; -ENOTSUP: the dialect
 * has nothing to say; -ENOMEM. */
int dialect_wrap(const struct vouch_dialect *dialect, const struct vouch_message *message,
                 struct vouch_buffer *body, struct vouch_pool *pool, size_t max,
                 struct dialect_parts *ret_parts) VOUCH_MUST_CHECK;

/* Has the dialect look at a body before it is sent: 0, or negative: it can't be said. */
int dialect_prepare(const struct vouch_dialect *dialect,
                    struct vouch_buffer *body) VOUCH_MUST_CHECK;

#endif
