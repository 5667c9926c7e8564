/* SPDX-License-Identifier: MIT */
/*
 * The envelope of every message on the `uds` wire: the protobuf message of proto/payload.proto,
 * coded by hand so that a received body is used where it lies and a sent one is never moved. Pure
 * functions; tests hold them against protobuf-c's generated code.
 */
#ifndef VOUCH_RPC_ENVELOPE_H
#define VOUCH_RPC_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>
#include <vouch/common.h>
#include <vouch/pool.h>

/* Longest method name; one more and the call is refused. */
#define ENVELOPE_METHOD_MAX 255

/* Room that a body's buffer needs in front (chunk length 10, id 6, deadline 11, method 258, the
 * additions 39, tag and length of the body 11) and behind (error type 6, tag and length of the
 * error text 6), so that an envelope is put around it without moving it. */
#define ENVELOPE_HEADROOM 335
#define ENVELOPE_TAILROOM 12

enum envelope_control {
    ENVELOPE_MESSAGE = 0, /* a call or a reply */
    ENVELOPE_CANCEL = 1,  /* `id` is the call to cancel */
    ENVELOPE_PING = 2,    /* `id` is a token */
    ENVELOPE_PONG = 3,    /* `id` is the ping's token */
    ENVELOPE_HELLO = 4,   /* a server's features, as soon as it has seen a client's */
    ENVELOPE_REPLY = 5, /* between peers, who both call: a reply, where a bare message is a call */
    ENVELOPE_STOP = 6,  /* between peers: please end, after what is in flight */
};

struct envelope {
    uint32_t id;
    int64_t expires; /* ns since the UNIX epoch; 0: not said */
    const char *method;
    size_t method_size;
    const uint8_t *data;
    size_t data_size;
    uint32_t error_type;
    const char *error;
    size_t error_size;
    uint64_t client_features;
    uint64_t server_features;
    uint32_t control;
    uint64_t max_message;
};

/* Decodes `size` bytes; pointers in `ret_envelope` point into them. 0, or -EPROTO when they are not
 * such a message. */
int envelope_decode(const uint8_t *bytes, size_t size,
                    struct envelope *ret_envelope) VOUCH_MUST_CHECK;

/* Decodes what the beginning of a message tells, stopping where it is cut off: for messages too
 * large to be taken. Never fails; fields that were not reached are zero. */
void envelope_decode_head(const uint8_t *bytes, size_t size, struct envelope *ret_envelope);

/* Puts an envelope around the body that `buffer` holds (its data and size; `envelope->data` is
 * ignored) and the chunk length before that, so that data and size become the whole chunk. `buffer`
 * has ENVELOPE_HEADROOM before its data and ENVELOPE_TAILROOM after; an error text is copied
 * behind, which needs as many bytes more. Fields come in the order of their numbers, but our
 * additions before the body: so they are seen of a message too large to be taken. Zero ones are
 * left out, as proto3 does. The method is at most ENVELOPE_METHOD_MAX bytes long. */
void envelope_wrap(struct vouch_buffer *buffer, const struct envelope *envelope);

/* The same for a body of `body_size` bytes that is not in the buffer and follows it: the buffer,
 * empty, becomes all that comes before. Not for errors, whose fields come after the body. */
void envelope_wrap_before(struct vouch_buffer *buffer, const struct envelope *envelope,
                          size_t body_size);

/* The size of the envelope's fields without the chunk length, for a body of `body_size` bytes: what
 * counts against a maximum. */
size_t envelope_size(const struct envelope *envelope, size_t body_size);

#endif
