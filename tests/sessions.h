/* SPDX-License-Identifier: MIT */
/*
 * Sessions for tests: messages made by hand, one session without I/O under a clock that stands
 * still, and both what it reports and what it sends as lines of text, so that an outcome is one
 * string.
 *
 *   events   call 7 /m(body)   call 7 /m() error 6   reply 7 (body)   reply 7 error 4 'text'
 *            reply 7 EMSGSIZE   cancel 7   expired 7   dead EPROTO
 *            of a peer: hello   stop   for guest 7
 *            in a dialect: notice (body)
 *   sent     [id=7 exp=5 method=/m data=body type=4 err=text client=7 server=7 control=4 max=4096]
 */
#ifndef TESTS_SESSIONS_H
#define TESTS_SESSIONS_H

#include "rpc/session.h"

/* ---- messages by hand, not by the code under test ---- */

struct wire {
    uint8_t bytes[16384];
    size_t size;
};

void wire_add(struct wire *wire, const void *bytes, size_t size);
void wire_varint(struct wire *wire, uint64_t value);
void wire_number(struct wire *wire, unsigned field, uint64_t value); /* also when it is 0 */
void wire_bytes(struct wire *wire, unsigned field, const void *bytes, size_t size);
/* The fields that are not zero, in order. */
void wire_envelope(struct wire *wire, const struct envelope *envelope);
/* A chunk of these bytes, of this message. */
void wire_chunk(struct wire *wire, const void *bytes, size_t size);
void wire_message(struct wire *wire, const struct envelope *envelope);

/* Fields of an envelope literal. */
#define WIRE_METHOD(text) .method = (text), .method_size = sizeof(text) - 1
#define WIRE_DATA(text) .data = (const uint8_t *)(text), .data_size = sizeof(text) - 1
#define WIRE_ERROR(text) .error = (text), .error_size = sizeof(text) - 1

/* ---- one side of a conversation ---- */

#define SIDE_CALLS 64
#define SIDE_START VOUCH_SECONDS(1000)             /* `now` at the beginning */
#define SIDE_WALL_OFFSET VOUCH_SECONDS(1000000000) /* wall clock minus that */

struct side_request {
    struct session_slot slot;
    struct vouch_buffer *buffer;
    const uint8_t *data;
    size_t size;
    int64_t deadline; /* as the event had it */
    bool used;
};

struct side {
    struct session session;
    struct vouch_pool *pool;
    int64_t now;
    struct side_request requests[SIDE_CALLS]; /* of the peer */
    struct session_slot calls[SIDE_CALLS];    /* ours */
    bool call_used[SIDE_CALLS];
    char events[16384], sent[16384];
    size_t events_size;
    struct side *guest; /* of a peer's: whose calls go out here too */
};

extern const struct session_limits side_limits; /* small ones */

/* `limits` and `allocator` may be NULL. side_open says what session_init does. */
int side_open(struct side *side, enum session_role role, const struct session_limits *limits,
              const struct vouch_allocator *allocator) VOUCH_MUST_CHECK;
void side_begin(struct side *side, enum session_role role);
void side_end(struct side *side);

/* Puts bytes in, as a driver that has read them; false when the session takes no more. What comes
 * out meanwhile is noted. */
bool side_feed(struct side *side, const void *bytes, size_t size);
void side_say(struct side *side, const struct envelope *envelope);
#define SIDE_SAY(side, ...) side_say((side), &(struct envelope){__VA_ARGS__})

/* What the session has reported since last asked, or reports now. Calls of the peer are accepted.
 */
const char *side_events(struct side *side);
/* The same for session_expire at side->now. */
const char *side_expire(struct side *side);

/* What it sends, taken as if sent. Either as text or as bytes. */
const char *side_sent(struct side *side);
size_t side_take(struct side *side, uint8_t *ret_bytes, size_t room);

/* session_call with a text for a body, in a slot that is free; `deadline` after now. */
int side_call_until(struct side *side, const char *method, const char *body, int64_t deadline);
int side_call(struct side *side, const char *method, const char *body); /* for ever */
int side_call_bytes(struct side *side, const char *method, const void *body, size_t size,
                    int64_t deadline);
struct session_slot *side_slot(struct side *side, uint32_t id); /* of a call of ours */
void side_abandon(struct side *side, uint32_t id);

/* session_reply, session_reply_error, session_watch of a call that was accepted. */
struct side_request *side_request(struct side *side, uint32_t id);
int side_reply(struct side *side, uint32_t id, const char *body);
int side_reply_bytes(struct side *side, uint32_t id, const void *body, size_t size);
int side_fail(struct side *side, uint32_t id, int result, const char *text);

/* Delivers what each has sent to the other until neither has more to say. */
void sides_exchange(struct side *a, struct side *b);

/* A test of one side, with the baseline around it. */
void side_begin_alone(struct side *side, enum session_role role,
                      const struct session_limits *limits);
void side_end_alone(struct side *side);

/* Both know each other then; the client's next id is 2. */
void sides_meet(struct side *client, struct side *server);
/* The same for a client whose server is made by hand. */
void side_meet_server(struct side *side);

/* side_limits with so many calls in flight at most. */
struct session_limits side_few_calls(unsigned max_calls);

#endif
