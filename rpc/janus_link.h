/* SPDX-License-Identifier: MIT */
/*
 * What carries messages to the gateway and back, as the client sees it: whole texts, never waiting.
 * rpc/janus_packet.c has the UNIX sockets, rpc/janus_ws.c the WebSockets.
 *
 * A link is used under its connection's lock, by one thread at a time. Any result below 0 that is
 * not named here means that the link is dead; then only close is called.
 */
#ifndef VOUCH_RPC_JANUS_LINK_H
#define VOUCH_RPC_JANUS_LINK_H

#include <vouch/error.h>
#include <vouch/policy.h>
#include <vouch/pool.h>

#include "rpc/janus_address.h"

struct janus_link;

struct janus_link_options {
    const struct janus_address *address;
    struct vouch_pool *pool;
    const struct vouch_allocator *allocator;
    const struct vouch_policy *server; /* NULL: dial's default */
    size_t max_message;
    const char *datagram_directory; /* NULL: one of its own */
};

struct janus_link_ops {
    bool lossy; /* datagrams: what is malformed may be from anybody, and an end is not told */
    /* Begins to connect. */
    int (*open)(const struct janus_link_options *options, struct janus_link **ret_link,
                struct vouch_error *ret_error) VOUCH_MUST_CHECK;
    /* Gets on with that and with what is buffered: 1 when it is open, 0 when not yet. */
    int (*process)(struct janus_link *link, struct vouch_error *ret_error) VOUCH_MUST_CHECK;
    /* Takes the whole text: 0; -EAGAIN: later; -EMSGSIZE: this text never. */
    int (*send)(struct janus_link *link, const char *text, size_t size) VOUCH_MUST_CHECK;
    /* The next text, valid until the next call of anything: 1; -EAGAIN: none now. */
    int (*receive)(struct janus_link *link, const char **ret_text,
                   size_t *ret_size) VOUCH_MUST_CHECK;
    /* -1 while there is nothing to poll. `output`: a send answered -EAGAIN. */
    int (*get_fd)(const struct janus_link *link);
    short (*get_events)(const struct janus_link *link, bool output);
    int64_t (*get_timeout)(struct janus_link *link); /* ns until process is to be called; FOREVER */
    void (*close)(struct janus_link *link);
};

/* Each link begins with this. */
struct janus_link {
    const struct janus_link_ops *ops;
};

extern const struct janus_link_ops janus_packet_ops, janus_datagram_ops;
extern const struct janus_link_ops *const janus_ws_ops; /* NULL: built without */

/* By the kind of the address; NULL when it is not to be had in this build. */
const struct janus_link_ops *janus_link_ops_of(const struct janus_address *address);

/* Memory of one object in a buffer of the pool, cleared; the object keeps the buffer. NULL when
 * memory is short. */
void *janus_alloc(struct vouch_pool *pool, size_t size, struct vouch_buffer **ret_self);

/* Sets an error, if there is one to set, and returns its code. */
int janus_fail(struct vouch_error *ret_error, int code, const char *format, ...) VOUCH_PRINTF(3, 4);

#endif
