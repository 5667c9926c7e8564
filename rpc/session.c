/* SPDX-License-Identifier: MIT */
/*
 * The protocol of docs/protocol.md, both roles. The output queue is a list of pooled buffers, each
 * one whole chunk (in a dialect up to three are a message).
 *
 * Additions to the plain wire go only to a peer that has shown that it knows them: a client shows
 * its features in a field of its first call, which others skip; a server that sees it says hello
 * before its first reply. A first reply without a hello comes from a plain peer.
 *
 * Peers, who both call, know each other from elsewhere. Each begins with a hello that says that it
 * is one; whoever begins otherwise is cut off, so that nobody is called who does not expect it.
 */
#include "rpc/session.h"

#include <errno.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/pool.h"
#include "lib/utf8.h"
#include "rpc/session_dialect.h"

static struct session_slot *slot_of_node(struct idtable_node *node) {
    return (struct session_slot *)node; /* first member */
}

static struct session_slot *slot_of_timer(struct timer *timer) {
    return (struct session_slot *)((char *)timer - offsetof(struct session_slot, timer));
}

static int send_control(struct session *s, const struct envelope *envelope);

/* The first that a peer says. Its id is the number of calls that it takes at a time. */
static int greet(struct session *s) {
    s->announced = true;
    return send_control(s, &(struct envelope){
                               .id = s->limits.max_calls,
                               .server_features = SESSION_FEATURES | SESSION_FEATURE_PEER,
                               .control = ENVELOPE_HELLO,
                               .max_message = s->limits.max_receive,
                           });
}

int session_init(struct session *s, enum session_role role, const struct session_limits *limits,
                 struct vouch_pool *pool, const struct vouch_allocator *allocator) {
    *s = (struct session){.role = role, .limits = *limits, .allocator = allocator};
    int r = chunk_decoder_init(&s->decoder, pool, limits->max_receive, limits->drain_max);
    if (r < 0)
        return r;
    s->pool = vouch_pool_ref(pool);
    idtable_init(&s->calls, allocator);
    idtable_init(&s->requests, allocator);
    timer_heap_init(&s->timers, allocator);
    s->frame_deadline = s->stall_deadline = s->overrun_deadline = VOUCH_FOREVER;
    s->announced = role == SESSION_GUEST;
    r = role == SESSION_PEER ? greet(s) : 0;
    if (r < 0)
        session_deinit(s);
    return r;
}

void session_deinit(struct session *s) {
    if (!s->pool)
        return;
    session_dialect_observe(s, VOUCH_DIALECT_CLOSED, 0);
    outbox_clear(&s->out);
    vouch_buffer_unref(s->postponed.buffer);
    chunk_decoder_deinit(&s->decoder);
    idtable_deinit(&s->calls);
    idtable_deinit(&s->requests);
    timer_heap_deinit(&s->timers);
    vouch_pool_unref(s->pool);
    s->pool = NULL;
}

/* A hello that was ready to be sent was said in another way, and promised too much. */
static int speak_in_packets(struct session *s) {
    chunk_decoder_set_framing(&s->decoder, CHUNK_PACKETS);
    s->limits.max_receive = s->decoder.max_size;
    if (s->limits.max_send > CHUNK_PACKET_MAX)
        s->limits.max_send = CHUNK_PACKET_MAX;
    outbox_clear(&s->out);
    return s->role == SESSION_PEER ? greet(s) : 0;
}

int session_speak(struct session *s, const struct dialect_choice *choice) {
    const struct vouch_dialect *only;
    if (choice->packets)
        return speak_in_packets(s);
    if (dialect_is_certain(choice, &only)) {
        session_dialect_begin(s, only);
    } else {
        s->choice = choice;
    }
    return 0;
}

int session_failure(const struct session *s) {
    return s->failure;
}

void session_fail(struct session *s, int failure) {
    if (s->failure == 0)
        s->failure = failure;
}

/* ---- output ---- */

int session_buffer(struct vouch_pool *pool, size_t size, struct vouch_buffer **ret_buffer) {
    if (size > VOUCH_CHUNK_SIZE_BOUND)
        return -EMSGSIZE;
    return vouch_pool_get(pool, ENVELOPE_HEADROOM, size + ENVELOPE_TAILROOM, ret_buffer);
}

int session_copy(struct vouch_pool *pool, const void *data, size_t size,
                 struct vouch_buffer **ret_buffer) {
    int r = session_buffer(pool, size, ret_buffer);
    if (r < 0)
        return r;
    if (size > 0)
        memcpy((*ret_buffer)->data, data, size);
    (*ret_buffer)->size = size;
    return 0;
}

void session_push(struct session *s, struct vouch_buffer *chunk) {
    outbox_push(&s->out, chunk);
    if (!session_wants_input(s))
        s->paused = true;
}

int session_output(const struct session *s, struct iovec *ret_pieces, int max) {
    return outbox_pieces(&s->out, ret_pieces, session_in_packets(s) ? 1 : max);
}

void session_sent(struct session *s, size_t size) {
    if (size > 0)
        s->stall_deadline = VOUCH_FOREVER;
    outbox_sent(&s->out, size);
    if (s->out.bytes < s->limits.output_hard)
        s->overrun_deadline = VOUCH_FOREVER;
}

int session_keep_lent(struct session *s) {
    int r = outbox_keep_lent(&s->out, s->pool);
    if (r < 0) {
        session_fail(s, r);
        outbox_clear(&s->out); /* half a message would follow */
    }
    return r;
}

void session_blocked(struct session *s, int64_t now) {
    if (s->stall_deadline != VOUCH_FOREVER)
        return;
    s->stall_deadline = clock_add(now, s->limits.stall_timeout);
    session_dialect_observe(s, VOUCH_DIALECT_BLOCKED, (int64_t)s->out.bytes);
}

size_t session_max_send(const struct session *s) {
    if (s->peer_max != 0 && s->peer_max < s->limits.max_send)
        return (size_t)s->peer_max;
    return s->limits.max_send;
}

/* A packet says how long it is by itself. */
static void strip_length(struct vouch_buffer *chunk) {
    uint64_t length;
    size_t header = (size_t)vouch_chunk_decode_header(chunk->data, chunk->size, &length);
    chunk->data += header;
    chunk->size -= header;
    chunk->capacity -= header;
}

static void push_chunk(struct session *s, struct vouch_buffer *chunk) {
    if (session_in_packets(s))
        strip_length(chunk);
    session_push(s, chunk);
}

bool session_can_lend(const struct session *s) {
    return !s->dialect && !s->choice && !session_in_packets(s);
}

static void send_message(struct session *s, struct vouch_buffer *body, const struct iovec *lent,
                         const struct envelope *e) {
    if (!lent) {
        envelope_wrap(body, e);
    } else {
        envelope_wrap_before(body, e, lent->iov_len);
        outbox_lend(&s->out, body, lent);
    }
    push_chunk(s, body);
}

/* A message without a body. Best effort: these tell the peer things that it can do without. */
static int send_control(struct session *s, const struct envelope *envelope) {
    struct vouch_buffer *buffer;
    int r = session_buffer(s->pool, 0, &buffer);
    if (r < 0)
        return r;
    envelope_wrap(buffer, envelope);
    push_chunk(s, buffer);
    return 0;
}

static bool peer_knows(const struct session *s, uint64_t feature) {
    return (s->peer_features & feature) != 0;
}

/* ---- calls of ours ---- */

/* Ids count up and skip 0 and what is still in flight. One comes round again after 2^32 calls at
 * the earliest. */
static uint32_t next_id(struct session *s) {
    do
        s->last_id++;
    while (s->last_id == 0 || idtable_find(&s->calls, s->last_id));
    return s->last_id;
}

bool session_output_full(const struct session *s) {
    return s->out.bytes >= s->limits.output_hard;
}

int session_may_call(const struct session *s) {
    if (s->failure != 0)
        return s->failure;
    if (s->calls.count >= s->limits.max_calls ||
        (s->peer_calls != 0 && s->calls.count >= s->peer_calls))
        return -EBUSY;
    return session_output_full(s) ? -EAGAIN : 0;
}

int session_enter_flight(struct session *s, struct session_slot *slot, int64_t deadline) {
    *slot = (struct session_slot){.node.id = next_id(s)};
    int r = timer_set(&s->timers, &slot->timer, deadline);
    if (r < 0)
        return r;
    idtable_insert(&s->calls, &slot->node);
    return 0;
}

void session_leave_flight(struct session *s, struct session_slot *slot) {
    timer_cancel(&s->timers, &slot->timer);
    idtable_remove(slot->incoming ? &s->requests : &s->calls, &slot->node);
}

static int64_t wall_of(const struct session *s, int64_t deadline) {
    /* Never 0: a plain server takes that as long past. */
    return deadline == VOUCH_FOREVER ? INT64_MAX : clock_add(deadline, s->wall_offset);
}

/* With a `lent` body, or `body` whole. */
static int start_call(struct session *s, struct session_slot *slot, const char *method,
                      struct vouch_buffer *body, const struct iovec *lent, int64_t deadline,
                      size_t *ret_size) {
    struct envelope e = {
        .method = method, .method_size = strlen(method), .expires = wall_of(s, deadline)};
    int r = session_may_call(s);
    if (r < 0)
        return r;
    if (e.method_size == 0 || e.method_size > ENVELOPE_METHOD_MAX)
        return -EINVAL;
    if (!s->announced) {
        e.client_features = SESSION_FEATURES;
        e.max_message = s->limits.max_receive;
    }
    e.id = UINT32_MAX; /* the longest, until there is one */
    size_t size = envelope_size(&e, lent ? lent->iov_len : body->size);
    if (ret_size)
        *ret_size = size;
    if (size > session_max_send(s))
        return -EMSGSIZE;
    r = session_enter_flight(s, slot, deadline);
    if (r < 0)
        return r;
    e.id = slot->node.id;
    send_message(s, body, lent, &e);
    s->announced = true;
    return 0;
}

int session_call(struct session *s, struct session_slot *slot, const char *method,
                 struct vouch_buffer *body, int64_t deadline, size_t *ret_size) {
    return session_call_lent(s, slot, method, body, NULL, deadline, ret_size);
}

int session_call_lent(struct session *s, struct session_slot *slot, const char *method,
                      struct vouch_buffer *head, const struct iovec *body, int64_t deadline,
                      size_t *ret_size) {
    int r = s->dialect ? session_dialect_call(s, slot, method, head, deadline, ret_size)
                       : start_call(s, slot, method, head, body, deadline, ret_size);
    if (r < 0)
        vouch_buffer_unref(head);
    return r;
}

int session_ping(struct session *s, struct session_slot *slot, int64_t deadline) {
    int r = session_may_call(s);
    if (r < 0)
        return r;
    if (!peer_knows(s, SESSION_FEATURE_PING))
        return -ENOTSUP;
    r = session_enter_flight(s, slot, deadline);
    if (r < 0)
        return r;
    r = send_control(s, &(struct envelope){.id = slot->node.id, .control = ENVELOPE_PING});
    if (r < 0)
        session_leave_flight(s, slot);
    return r;
}

static void send_cancel(struct session *s, uint32_t id) {
    (void)send_control(s, &(struct envelope){.id = id, .control = ENVELOPE_CANCEL});
}

static void tell_cancelled(struct session *s, uint32_t id) {
    if (peer_knows(s, SESSION_FEATURE_CANCEL))
        send_cancel(s, id);
    else if (!s->peer_known && s->early_cancel_count < SESSION_EARLY_CANCELS)
        s->early_cancels[s->early_cancel_count++] = id;
}

void session_abandon(struct session *s, struct session_slot *slot) {
    session_leave_flight(s, slot);
    s->unanswered++;
    if (s->failure == 0)
        tell_cancelled(s, slot->node.id);
}

void session_forget(struct session *s, struct session_slot *slot) {
    session_leave_flight(s, slot);
}

/* ---- calls of the peer ---- */

void session_accept(struct session *s, struct session_slot *slot,
                    const struct session_event *event) {
    const struct envelope *e = &event->envelope;
    *slot = (struct session_slot){
        .node.id = e->id,
        .incoming = true,
        .expires = e->expires,
        .method = e->method,
        .method_size = e->method_size,
    };
    if (s->dialect) {
        slot->method = event->dialect.target;
        slot->method_size = event->dialect.target_size;
        slot->tag = event->dialect.tag;
        slot->tag_size = event->dialect.tag_size;
    }
    idtable_insert(&s->requests, &slot->node);
    if (!session_wants_input(s))
        s->paused = true;
}

int session_watch(struct session *s, struct session_slot *slot, int64_t deadline) {
    return timer_set(&s->timers, &slot->timer, deadline);
}

int session_delay(struct session *s, struct session_slot *slot, int64_t when) {
    slot->delayed = true;
    return timer_set(&s->timers, &slot->timer, when);
}

/* A reply repeats the method and the deadline of its call, as plain servers do. */
static struct envelope reply_envelope(const struct session *s, const struct session_slot *slot) {
    return (struct envelope){
        .control = s->role == SESSION_PEER ? ENVELOPE_REPLY : ENVELOPE_MESSAGE,
        .id = slot->node.id,
        .expires = slot->expires,
        .method = slot->method,
        .method_size = slot->method_size <= ENVELOPE_METHOD_MAX ? slot->method_size : 0,
    };
}

/* The peer does not read what it asks for, or many answers came at once: it gets a little time,
 * which begins with the next session_expire. */
void session_check_output(struct session *s) {
    if (s->out.bytes / SESSION_OVERRUN_FACTOR >= s->limits.output_hard)
        session_fail(s, -ENOBUFS);
    else if (s->out.bytes >= s->limits.output_hard && s->overrun_deadline == VOUCH_FOREVER)
        s->overrun_deadline = 0;
}

static void send_reply(struct session *s, struct vouch_buffer *body, const struct iovec *lent,
                       const struct envelope *e) {
    send_message(s, body, lent, e);
    session_check_output(s);
}

/* What a plain peer understands: a Go client panics on types from 5 up. */
static uint32_t plain_error_type(int result) {
    switch (result) {
    case VOUCH_REMOTE_METHOD_NOT_FOUND:
    case VOUCH_REMOTE_DEADLINE_EXCEEDED:
    case VOUCH_REMOTE_BAD_DATA:
        return (uint32_t)result;
    case VOUCH_REMOTE_TOO_LARGE:
        return VOUCH_REMOTE_BAD_DATA;
    case VOUCH_REMOTE_UNAVAILABLE:
        return VOUCH_REMOTE_DEADLINE_EXCEEDED; /* the only one that it may retry */
    default:
        return VOUCH_REMOTE_SERVER;
    }
}

/* A Go client uses the text as a printf format. */
static size_t double_percents(char *text, size_t size) {
    size_t extra = 0;
    for (size_t i = 0; i < size; i++)
        extra += text[i] == '%';
    size_t doubled = size + extra;
    for (size_t from = size, to = doubled; extra > 0;) {
        text[--to] = text[--from];
        if (text[from] == '%') {
            text[--to] = '%';
            extra--;
        }
    }
    return doubled;
}

/* What an error can do without: a method that is no text, which a Go client would refuse together
 * with the error, and all text where the peer takes only less. */
static void trim_error(const struct session *s, struct envelope *e) {
    if (!utf8_valid((const uint8_t *)e->method, e->method_size))
        e->method_size = 0;
    if (envelope_size(e, 0) > session_max_send(s))
        e->method_size = e->error_size = 0;
}

static int send_error(struct session *s, const struct session_slot *slot, int result,
                      const char *text) {
    char clean[2 * VOUCH_ERROR_TEXT_MAX + 1];
    size_t size = error_copy_text(clean, VOUCH_ERROR_TEXT_MAX + 1, text, strlen(text));
    if (s->dialect)
        return session_dialect_error(s, slot, result, clean, size);
    struct envelope e = reply_envelope(s, slot);
    e.error_type = (uint32_t)result;
    if (!peer_knows(s, SESSION_FEATURE_ERRORS)) {
        e.error_type = plain_error_type(result);
        size = double_percents(clean, size);
    }
    e.error = clean;
    e.error_size = size;
    trim_error(s, &e);
    struct vouch_buffer *buffer;
    int r = session_buffer(s->pool, e.error_size, &buffer);
    if (r < 0) {
        session_fail(s, r);
        return r;
    }
    send_reply(s, buffer, NULL, &e);
    return 0;
}

/* 0, or why there is nothing to answer any more. The call has left flight either way. */
static int finish_request(struct session *s, struct session_slot *slot) {
    session_leave_flight(s, slot);
    if (slot->answered)
        return -ETIMEDOUT;
    return s->failure;
}

int session_reply_error(struct session *s, struct session_slot *slot, int result,
                        const char *text) {
    int r = finish_request(s, slot);
    return r < 0 ? r : send_error(s, slot, result, text);
}

static int refuse_reply(struct session *s, struct session_slot *slot, size_t size) {
    struct vouch_error error;
    error_set(&error, -EMSGSIZE, "the reply of %zu bytes is over the maximum of %zu bytes", size,
              session_max_send(s));
    int r = send_error(s, slot, VOUCH_REMOTE_TOO_LARGE, error.message);
    return r < 0 ? r : -EMSGSIZE;
}

int session_reply(struct session *s, struct session_slot *slot, struct vouch_buffer *body) {
    return session_reply_lent(s, slot, body, NULL);
}

int session_reply_lent(struct session *s, struct session_slot *slot, struct vouch_buffer *head,
                       const struct iovec *body) {
    int r = finish_request(s, slot);
    if (r == 0 && s->dialect) {
        r = session_dialect_reply(s, slot, head);
        if (r < 0)
            vouch_buffer_unref(head);
        return r;
    }
    struct envelope e = reply_envelope(s, slot);
    size_t size = envelope_size(&e, body ? body->iov_len : head->size);
    if (r == 0 && size > session_max_send(s))
        r = refuse_reply(s, slot, size);
    if (r < 0) {
        vouch_buffer_unref(head);
        return r;
    }
    send_reply(s, head, body, &e);
    return 0;
}

/* ---- input ---- */

/* A call that only waits for a place in flight. */
static bool has_postponed(const struct session *s) {
    return s->postponing && !chunk_decoder_skipping(&s->decoder);
}

static bool has_place(const struct session *s) {
    return s->requests.count < s->limits.max_calls || s->role == SESSION_PEER;
}

bool session_wants_input(const struct session *s) {
    return s->failure == 0 && s->out.bytes < s->limits.output_soft &&
           (has_place(s) || !has_postponed(s));
}

bool session_has_message(const struct session *s) {
    if (has_postponed(s))
        return true;
    return s->decoder.end > s->decoder.begin && !vouch_chunk_decoder_partial(&s->decoder);
}

int session_space(struct session *s, uint8_t **ret_space, size_t *ret_size) {
    if (s->failure != 0)
        return s->failure;
    return vouch_chunk_decoder_space(&s->decoder, ret_space, ret_size);
}

void session_commit(struct session *s, size_t size, int64_t now) {
    bool skipping = chunk_decoder_skipping(&s->decoder);
    if (s->skimming && size > 0)
        session_dialect_skim(s, size);
    vouch_chunk_decoder_commit(&s->decoder, size);
    if (s->choice && size > 0 && session_dialect_choose(s) < 0)
        session_fail(s, -EPROTO);
    if (skipping && !chunk_decoder_skipping(&s->decoder))
        s->frame_deadline = VOUCH_FOREVER;
    if (s->frame_deadline == VOUCH_FOREVER && size > 0)
        s->frame_deadline = clock_add(now, s->limits.frame_timeout);
}

static void learn_client(struct session *s, const struct envelope *e) {
    if (s->announced || e->client_features == 0)
        return;
    struct envelope hello = {.server_features = SESSION_FEATURES,
                             .control = ENVELOPE_HELLO,
                             .max_message = s->limits.max_receive};
    if (send_control(s, &hello) < 0)
        return; /* the client will take us for a plain peer: so do we then */
    s->announced = s->peer_known = true;
    s->peer_features = e->client_features;
    s->peer_max = e->max_message;
}

static void learn_server(struct session *s, const struct envelope *e) {
    if (s->peer_known)
        return;
    s->peer_known = true;
    s->peer_features = e->server_features;
    s->peer_max = e->max_message;
    if (peer_knows(s, SESSION_FEATURE_CANCEL))
        for (unsigned i = 0; i < s->early_cancel_count; i++)
            send_cancel(s, s->early_cancels[i]);
    s->early_cancel_count = 0;
}

static int strike(struct session *s) {
    if (++s->strikes >= SESSION_STRIKES)
        session_fail(s, -EPROTO);
    return s->failure;
}

static int answer_ping(struct session *s, uint32_t token, int64_t now) {
    if (!peer_knows(s, SESSION_FEATURE_PING))
        return strike(s);
    if (now - s->ping_window >= VOUCH_SECONDS(1)) {
        s->ping_window = now;
        s->pings = 0;
    }
    if (++s->pings > SESSION_PINGS_PER_SECOND)
        return strike(s);
    /* Without memory for the answer the session ends, so that the peer need not wait for it. */
    return send_control(s, &(struct envelope){.id = token, .control = ENVELOPE_PONG});
}

static int64_t deadline_of(const struct session *s, int64_t expires) {
    bool none = expires == 0 || expires == INT64_MAX;
    return none ? VOUCH_FOREVER : clock_add(expires, -s->wall_offset);
}

static int on_call(struct session *s, int64_t now, struct session_event *event) {
    struct envelope *e = &event->envelope;
    if (e->id == 0 || idtable_find(&s->requests, e->id))
        return -EPROTO;
    learn_client(s, e);
    event->type = SESSION_EVENT_CALL;
    event->deadline = deadline_of(s, e->expires);
    if (event->oversize > 0)
        event->result = VOUCH_REMOTE_TOO_LARGE;
    else if (event->deadline <= now)
        event->result = VOUCH_REMOTE_DEADLINE_EXCEEDED;
    else if (s->requests.count >= s->limits.max_calls && s->role == SESSION_PEER)
        event->result = VOUCH_REMOTE_UNAVAILABLE;
    return 1;
}

static int on_cancel(struct session *s, struct session_event *event) {
    struct idtable_node *node = idtable_find(&s->requests, event->envelope.id);
    if (!node)
        return 0; /* it crossed our reply */
    event->type = SESSION_EVENT_CANCEL;
    event->slot = slot_of_node(node);
    return 1;
}

static int remote_result(const struct envelope *e) {
    if (e->error_type >= 1 && e->error_type < VOUCH_REMOTE_UNKNOWN)
        return (int)e->error_type;
    return e->error_type != 0 || e->error_size > 0 ? VOUCH_REMOTE_UNKNOWN : VOUCH_REMOTE_OK;
}

/* Go servers send errors without an id. Such a one is told from the others only when it can be just
 * one call's. */
static struct session_slot *slot_of_error_without_id(struct session *s) {
    if (s->calls.count == 1 && s->unanswered == 0)
        return slot_of_node(idtable_any(&s->calls));
    if (s->unanswered > 0)
        s->unanswered--;
    return NULL;
}

static struct session_slot *slot_of_reply(struct session *s, const struct envelope *e) {
    if (e->id == 0 && s->role == SESSION_GUEST)
        return NULL;
    if (e->id == 0)
        return remote_result(e) != 0 ? slot_of_error_without_id(s) : NULL;
    struct idtable_node *node = idtable_find(&s->calls, e->id);
    if (!node && s->unanswered > 0)
        s->unanswered--; /* the late reply of a call that we gave up */
    return node ? slot_of_node(node) : NULL;
}

int session_on_reply(struct session *s, struct session_event *event) {
    struct session_slot *slot = slot_of_reply(s, &event->envelope);
    if (!slot)
        return 0;
    session_leave_flight(s, slot);
    event->type = SESSION_EVENT_REPLY;
    event->slot = slot;
    event->result = event->oversize > 0 ? -EMSGSIZE : remote_result(&event->envelope);
    return 1;
}

static int on_control(struct session *s, int64_t now, struct session_event *event) {
    switch (event->envelope.control) {
    case ENVELOPE_CANCEL:
        return s->role == SESSION_SERVER ? on_cancel(s, event) : 0;
    case ENVELOPE_PING:
        return answer_ping(s, event->envelope.id, now);
    case ENVELOPE_PONG:
        return session_on_reply(s, event);
    default: /* HELLO has been learned from; later versions may have more */
        return 0;
    }
}

/* A peer's first message, and only that, is its hello. */
static int on_peer_hello(struct session *s, struct session_event *event) {
    const struct envelope *e = &event->envelope;
    if (e->control != ENVELOPE_HELLO || !(e->server_features & SESSION_FEATURE_PEER))
        return -EPROTO;
    learn_server(s, e);
    event->type = SESSION_EVENT_HELLO;
    return 1;
}

static int on_peer_event(struct session_event *event, enum session_event_type type) {
    event->type = type;
    return 1;
}

static int on_peer_message(struct session *s, int64_t now, struct session_event *event) {
    if (!s->peer_known)
        return on_peer_hello(s, event);
    switch (event->envelope.control) {
    case ENVELOPE_MESSAGE:
        return on_call(s, now, event);
    case ENVELOPE_CANCEL:
        return on_cancel(s, event);
    case ENVELOPE_PING:
        return answer_ping(s, event->envelope.id, now);
    case ENVELOPE_PONG:
        s->beats_answered += event->envelope.id == 0;
        return event->envelope.id == 0 ? 0 : on_peer_event(event, SESSION_EVENT_REPLY);
    case ENVELOPE_REPLY:
        return on_peer_event(event, SESSION_EVENT_REPLY);
    case ENVELOPE_STOP:
        return on_peer_event(event, SESSION_EVENT_STOP);
    default:
        return 0;
    }
}

/* 1: an event for the driver; 0: the message was dealt with here; negative: malformed. */
static int on_message(struct session *s, int64_t now, struct session_event *event) {
    if (s->role == SESSION_PEER)
        return on_peer_message(s, now, event);
    if (s->role == SESSION_CLIENT)
        learn_server(s, &event->envelope);
    if (event->envelope.control != ENVELOPE_MESSAGE)
        return on_control(s, now, event);
    return s->role == SESSION_SERVER ? on_call(s, now, event) : session_on_reply(s, event);
}

/* An oversize call is answered once it has been skipped: its caller is busy sending it until then.
 * The chunk's buffer may not be kept so long: copy what the answer needs. */
static void forget_body(struct session *s, struct session_event *event) {
    struct envelope *e = &event->envelope;
    *e = (struct envelope){
        .id = e->id, .expires = e->expires, .method = e->method, .method_size = e->method_size};
    if (e->method_size > ENVELOPE_METHOD_MAX)
        e->method_size = 0;
    if (e->method_size > 0)
        memcpy(s->postponed_method, e->method, e->method_size);
    e->method = s->postponed_method;
    if (s->dialect)
        session_dialect_forget(s, event);
    vouch_buffer_unref(event->buffer);
    event->buffer = NULL;
}

/* Calls that can't be reported yet: an oversize one, and the one beyond those that may be in
 * flight. It is taken out of the way so that the cancels of the others are seen. */
static bool postpone(struct session *s, struct session_event *event) {
    if (event->type != SESSION_EVENT_CALL || (event->oversize == 0 && has_place(s)))
        return false;
    if (event->oversize > 0)
        forget_body(s, event);
    s->postponed = *event;
    s->postponing = true;
    if (!session_wants_input(s))
        s->paused = true;
    return true;
}

static int on_chunk(struct session *s, const struct vouch_chunk *chunk, int64_t now,
                    struct session_event *event) {
    *event = (struct session_event){
        .buffer = chunk->buffer, .oversize = chunk->oversize, .deadline = VOUCH_FOREVER};
    s->frame_deadline = VOUCH_FOREVER;
    int r = 0;
    if (s->dialect) {
        r = session_dialect_line(s, chunk, event);
    } else if (chunk->oversize == 0) {
        r = envelope_decode(chunk->data, chunk->size, &event->envelope);
    } else {
        envelope_decode_head(chunk->data, chunk->size, &event->envelope);
        if (event->envelope.id == 0)
            r = -EMSGSIZE;
    }
    if (r == 0 && !s->dialect)
        r = on_message(s, now, event);
    if (r == 1 && postpone(s, event))
        return 0;
    if (r != 1)
        vouch_buffer_unref(chunk->buffer);
    return r;
}

/* What was postponed can be reported now. */
static bool take_postponed(struct session *s, int64_t now, struct session_event *ret_event) {
    if (!has_postponed(s) || !has_place(s))
        return false;
    s->postponing = false;
    *ret_event = s->postponed;
    s->postponed.buffer = NULL;
    if (ret_event->result == 0 && ret_event->deadline <= now)
        ret_event->result = VOUCH_REMOTE_DEADLINE_EXCEEDED;
    return true;
}

/* A half message has its time from its first byte. */
static void watch_frame(struct session *s, int64_t now) {
    if (!vouch_chunk_decoder_partial(&s->decoder))
        s->frame_deadline = VOUCH_FOREVER;
    else if (s->frame_deadline == VOUCH_FOREVER)
        s->frame_deadline = clock_add(now, s->limits.frame_timeout);
}

void session_pause(struct session *s) {
    s->paused = true;
}

/* Input is wanted again: the time of a half message begins anew. */
static void resume(struct session *s, int64_t now) {
    if (!s->paused || !session_wants_input(s))
        return;
    s->paused = false;
    s->frame_deadline = VOUCH_FOREVER;
    watch_frame(s, now);
}

static int next_event(struct session *s, int64_t now, struct session_event *ret_event) {
    while (session_wants_input(s)) {
        struct vouch_chunk chunk;
        if (take_postponed(s, now, ret_event))
            return 1;
        if (s->skimmed != 0 && session_dialect_skimmed(s, ret_event) == 1)
            return 1;
        int r = vouch_chunk_decoder_next(&s->decoder, &chunk);
        if (r == 0)
            break;
        if (r == 1)
            r = on_chunk(s, &chunk, now, ret_event);
        if (r == 1)
            return 1;
        if (r < 0)
            session_fail(s, r);
        else if (s->role != SESSION_CLIENT) {
            *ret_event = (struct session_event){.type = SESSION_EVENT_NONE};
            return 1;
        }
    }
    return s->failure;
}

int session_next(struct session *s, int64_t now, struct session_event *ret_event) {
    resume(s, now);
    int r = next_event(s, now, ret_event);
    watch_frame(s, now);
    return r;
}

/* ---- peers ---- */

void session_introduce(struct session *guest, const struct session_event *hello) {
    learn_server(guest, &hello->envelope);
    guest->peer_calls = hello->envelope.id;
}

int session_deliver(struct session *guest, struct session_event *event) {
    return session_on_reply(guest, event);
}

void session_relay(struct session *guest, struct session *peer) {
    struct vouch_buffer *chunk;
    while (!session_output_full(peer) && (chunk = outbox_take(&guest->out)))
        push_chunk(peer, chunk);
}

int session_beat(struct session *peer) {
    if (peer->failure != 0)
        return peer->failure;
    if (!peer->peer_known)
        return -EAGAIN;
    if (!peer_knows(peer, SESSION_FEATURE_PING))
        return -ENOTSUP;
    return send_control(peer, &(struct envelope){.control = ENVELOPE_PING});
}

int session_ask_stop(struct session *peer) {
    if (peer->failure != 0)
        return peer->failure;
    return send_control(peer, &(struct envelope){.control = ENVELOPE_STOP});
}

/* ---- time ---- */

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t session_deadline(const struct session *s) {
    int64_t next = earlier(timer_next(&s->timers), s->stall_deadline);
    next = earlier(next, s->overrun_deadline);
    return session_wants_input(s) ? earlier(next, s->frame_deadline) : next;
}

static void expire_slot(struct session *s, struct session_slot *slot) {
    if (!slot->incoming) {
        session_abandon(s, slot);
    } else if (s->failure == 0) {
        slot->answered = true;
        (void)send_error(s, slot, VOUCH_REMOTE_DEADLINE_EXCEEDED,
                         "the deadline passed before the handler answered");
    }
}

static void check_overrun(struct session *s, int64_t now) {
    if (s->overrun_deadline == 0)
        s->overrun_deadline = clock_add(now, s->limits.stall_timeout / SESSION_OVERRUN_SHARE);
    else if (s->overrun_deadline <= now)
        session_fail(s, -ENOBUFS);
}

int session_expire(struct session *s, int64_t now, struct session_event *ret_event) {
    resume(s, now);
    struct timer *timer = timer_expire(&s->timers, now);
    if (timer) {
        struct session_slot *slot = slot_of_timer(timer);
        *ret_event = (struct session_event){
            .type = slot->delayed ? SESSION_EVENT_DUE : SESSION_EVENT_EXPIRED, .slot = slot};
        if (!slot->delayed)
            expire_slot(s, slot);
        return 1;
    }
    if (s->stall_deadline <= now || (session_wants_input(s) && s->frame_deadline <= now))
        session_fail(s, -ETIMEDOUT);
    check_overrun(s, now);
    return s->failure;
}
