/* SPDX-License-Identifier: MIT */
/* Texts of the gateway's protocol and what they say, both ways. Pure: no I/O, no clock. */
#ifndef VOUCH_RPC_JANUS_MESSAGE_H
#define VOUCH_RPC_JANUS_MESSAGE_H

#include <vouch/janus.h>
#include <vouch/pool.h>

#define JANUS_TRANSACTION_MAX 256 /* bytes; ours have 32 */
#define JANUS_DEPTH_MAX 64

/* A message that came, with what it needs to wait in a queue. */
struct janus_message {
    struct vouch_janus_message seen; /* first: it is what the caller has */
    struct vouch_buffer *self;
    struct janus_message *next;
    size_t cost; /* bytes that it holds: text and tree */
};

/* Reads a text. 0, -EPROTO with the reason (not JSON, not an object, no "janus"), -ENOMEM. */
int janus_message_parse(const char *text, size_t size, struct vouch_pool *pool,
                        struct janus_message **ret_message,
                        struct vouch_error *ret_error) VOUCH_MUST_CHECK;
void janus_message_free(struct janus_message *message); /* NULL is ignored */

/* What a request is made of beside its verb. */
struct janus_request_head {
    const char *transaction, *api_secret, *token; /* the last two may be NULL */
    uint64_t session_id, handle_id;               /* 0: none */
};

/* Whether the request has all that its verb needs, and nothing else. 0 or -EINVAL with what is
 * wrong. */
int janus_request_check(const struct vouch_janus_request *request,
                        struct vouch_error *ret_error) VOUCH_MUST_CHECK;

/* The text of a request that was checked, after `headroom` bytes. 0, -EINVAL (a tree that is not
 * JSON, or has a name twice), -EMSGSIZE, -ENOMEM. */
int janus_request_print(const struct vouch_janus_request *request,
                        const struct janus_request_head *head, struct vouch_pool *pool,
                        size_t headroom, size_t max_size, struct vouch_buffer **ret_text,
                        struct vouch_error *ret_error) VOUCH_MUST_CHECK;

#endif
