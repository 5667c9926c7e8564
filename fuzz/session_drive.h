/* SPDX-License-Identifier: MIT */
/*
 * Drives one session over a stream of bytes that may be anything, and checks what must hold of any:
 * every call ends exactly once, every message sent is well-formed and one that its reader may be
 * sent, memory stays bounded, a half message ends at its deadline. What the driver does depends
 * only on the messages, so that the transcript may not depend on how the stream is cut.
 *
 * Nothing is random but where the stream is cut. In a header, for the fuzz targets and for the
 * tests that do the same with a generator of their own; DRIVE_CHECK may be defined before.
 */
#ifndef FUZZ_SESSION_DRIVE_H
#define FUZZ_SESSION_DRIVE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/utf8.h"
#include "rpc/session.h"

#ifndef DRIVE_CHECK
#define DRIVE_CHECK(condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)
#endif

#define DRIVE_SLOTS 16
#define DRIVE_START VOUCH_SECONDS(1000)
#define DRIVE_BYTES_MAX ((uint64_t)4 * 1024 * 1024)

static const struct session_limits drive_limits = {
    .max_receive = 2048,
    .max_send = 2048,
    .drain_max = 8192,
    .max_calls = 4,
    .output_soft = 4096,
    .output_hard = 65536,
    .frame_timeout = VOUCH_SECONDS(30),
    .stall_timeout = VOUCH_SECONDS(30),
};

struct drive_request {
    struct session_slot slot; /* first: events point at it */
    struct vouch_buffer *buffer;
    uint8_t data[64];
    size_t size;
    bool used;
};

struct drive_call {
    struct session_slot slot;
    bool used;
};

struct drive {
    struct session session;
    struct vouch_pool *pool;
    int64_t now;
    struct drive_request requests[DRIVE_SLOTS];
    struct drive_call calls[DRIVE_SLOTS];
    uint64_t events, output; /* transcripts, as hashes */
    unsigned answers_due;    /* answers given that have not been seen in the output yet */
    unsigned replies;        /* to calls of ours */
    uint8_t pending[262144]; /* output not looked at yet */
    size_t pending_size;
};

static uint64_t drive_hash(uint64_t hash, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

static void drive_note(struct drive *d, const void *bytes, size_t size) {
    d->events = drive_hash(d->events, bytes, size);
}

/* ---- output ---- */

static void drive_check_message(struct drive *d, const uint8_t *bytes, size_t size) {
    struct envelope e;
    const struct session *s = &d->session;
    DRIVE_CHECK(envelope_decode(bytes, size, &e) == 0);
    DRIVE_CHECK(utf8_valid((const uint8_t *)e.error, e.error_size));
    DRIVE_CHECK(e.control == ENVELOPE_MESSAGE || e.control == ENVELOPE_HELLO ||
                s->peer_features != 0);
    DRIVE_CHECK(size <= s->limits.max_send + 64 || e.error_size > 0);
    if ((s->role == SESSION_SERVER && e.control == ENVELOPE_MESSAGE) ||
        (s->role == SESSION_PEER && e.control == ENVELOPE_REPLY)) {
        DRIVE_CHECK(e.id != 0);
        DRIVE_CHECK(d->answers_due > 0);
        d->answers_due--;
        DRIVE_CHECK(e.error_type <= VOUCH_REMOTE_UNKNOWN);
        DRIVE_CHECK(e.error_type <= VOUCH_REMOTE_SERVER || s->peer_features != 0);
    }
}

/* Takes what waits to be sent; every chunk is whole. */
static void drive_take_output(struct drive *d) {
    struct iovec pieces[3];
    int count;
    d->pending_size = 0;
    while ((count = session_output(&d->session, pieces, 3)) > 0) {
        for (int i = 0; i < count; i++) {
            DRIVE_CHECK(pieces[i].iov_len <= sizeof(d->pending) - d->pending_size);
            memcpy(d->pending + d->pending_size, pieces[i].iov_base, pieces[i].iov_len);
            d->pending_size += pieces[i].iov_len;
            session_sent(&d->session, pieces[i].iov_len);
        }
    }
    DRIVE_CHECK(d->session.out.bytes == 0);
    d->output = drive_hash(d->output, d->pending, d->pending_size);
    for (size_t at = 0; at < d->pending_size;) {
        uint64_t length;
        int header = vouch_chunk_decode_header(d->pending + at, d->pending_size - at, &length);
        DRIVE_CHECK(header > 0 && length <= d->pending_size - at - (size_t)header);
        drive_check_message(d, d->pending + at + header, (size_t)length);
        at += (size_t)header + (size_t)length;
    }
}

/* ---- as a server ---- */

static void drive_end_request(struct drive *d, struct drive_request *request, int r) {
    DRIVE_CHECK(request->used);
    DRIVE_CHECK(r == 0 || r == -EMSGSIZE || r == -ETIMEDOUT || r == session_failure(&d->session));
    bool dead_of_size = session_failure(&d->session) == -EMSGSIZE;
    if (r == 0 || (r == -EMSGSIZE && !dead_of_size))
        d->answers_due++;
    vouch_buffer_unref(request->buffer);
    request->used = false;
}

static void drive_reply(struct drive *d, struct drive_request *request, size_t size) {
    struct vouch_buffer *body;
    DRIVE_CHECK(session_buffer(d->pool, size, &body) == 0);
    memset(body->data, 'r', size);
    body->size = size;
    drive_end_request(d, request, session_reply(&d->session, &request->slot, body));
}

static void drive_fail(struct drive *d, struct drive_request *request, int result) {
    char text[sizeof(request->data) + 1];
    memcpy(text, request->data, request->size);
    text[request->size] = '\0';
    drive_end_request(d, request, session_reply_error(&d->session, &request->slot, result, text));
}

/* A call is answered, or kept, or kept under a deadline; as its id says. */
static void drive_serve(struct drive *d, const struct session_event *event) {
    const struct envelope *e = &event->envelope;
    struct drive_request *request = d->requests;
    while (request < d->requests + DRIVE_SLOTS && request->used)
        request++;
    DRIVE_CHECK(request < d->requests + DRIVE_SLOTS);
    request->used = true;
    request->buffer = event->buffer;
    request->size = e->data_size < sizeof(request->data) ? e->data_size : sizeof(request->data);
    if (request->size > 0)
        memcpy(request->data, e->data, request->size);
    session_accept(&d->session, &request->slot, event);
    if (event->result != 0) {
        drive_fail(d, request, event->result);
        return;
    }
    switch (e->id % 5) {
    case 0:
        drive_reply(d, request, e->data_size);
        break;
    case 1:
        drive_fail(d, request, (int)(e->id / 5 % VOUCH_REMOTE_UNKNOWN) + 1);
        break;
    case 2:
        drive_reply(d, request, 2000 + e->id / 5 % 100); /* about the limit */
        break;
    case 3:
        DRIVE_CHECK((e->id & 16
                         ? session_delay(&d->session, &request->slot, d->now)
                         : session_watch(&d->session, &request->slot, event->deadline)) == 0);
        break;
    default: /* kept */
        break;
    }
}

static void drive_answer_kept(struct drive *d) {
    for (size_t i = 0; i < DRIVE_SLOTS; i++)
        if (d->requests[i].used)
            drive_reply(d, &d->requests[i], 10);
}

/* ---- as a client ---- */

static void drive_call(struct drive *d, int64_t deadline) {
    struct drive_call *call = d->calls;
    struct vouch_buffer *body;
    while (call < d->calls + DRIVE_SLOTS && call->used)
        call++;
    if (call == d->calls + DRIVE_SLOTS)
        return;
    DRIVE_CHECK(session_buffer(d->pool, 8, &body) == 0);
    memcpy(body->data, "question", 8);
    body->size = 8;
    int r = session_call(&d->session, &call->slot, "/m", body, deadline, NULL);
    DRIVE_CHECK(r == 0 || r == -EBUSY || r == -EAGAIN || r == -EMSGSIZE);
    call->used = r == 0;
}

static void drive_ping(struct drive *d) {
    struct drive_call *call = d->calls;
    while (call < d->calls + DRIVE_SLOTS && call->used)
        call++;
    if (call == d->calls + DRIVE_SLOTS)
        return;
    int r = session_ping(&d->session, &call->slot, d->now + VOUCH_SECONDS(15));
    DRIVE_CHECK(r == 0 || r == -EBUSY || r == -EAGAIN || r == -ENOTSUP);
    call->used = r == 0;
}

static void drive_abandon_one(struct drive *d) {
    for (size_t i = 0; i < DRIVE_SLOTS; i++) {
        if (d->calls[i].used) {
            session_abandon(&d->session, &d->calls[i].slot);
            d->calls[i].used = false;
            return;
        }
    }
}

static void drive_end_call(struct drive_call *call) {
    DRIVE_CHECK(call->used);
    call->used = false;
}

static void drive_replied(struct drive *d, const struct session_event *event) {
    drive_end_call((struct drive_call *)(void *)event->slot);
    vouch_buffer_unref(event->buffer);
    d->replies++;
    if (d->replies % 3 == 0)
        drive_abandon_one(d);
    drive_call(d, d->replies % 2 ? VOUCH_FOREVER : d->now + VOUCH_SECONDS(10));
    if (d->replies % 4 == 0)
        drive_ping(d);
}

/* ---- both ---- */

static void drive_note_event(struct drive *d, const struct session_event *event) {
    const struct envelope *e = &event->envelope;
    uint64_t numbers[] = {event->type, event->slot ? event->slot->node.id : e->id, event->oversize,
                          (uint64_t)event->deadline, (uint64_t)(int64_t)event->result};
    drive_note(d, numbers, sizeof(numbers));
    if (event->oversize == 0 && event->buffer) {
        drive_note(d, e->method, e->method_size);
        drive_note(d, e->data, e->data_size);
        drive_note(d, e->error, e->error_size);
    }
}

static void drive_event(struct drive *d, const struct session_event *event) {
    if (event->type == SESSION_EVENT_NONE)
        return;
    drive_note_event(d, event);
    switch (event->type) {
    case SESSION_EVENT_NONE:
        break;
    case SESSION_EVENT_CALL:
        DRIVE_CHECK(d->session.role != SESSION_CLIENT);
        drive_serve(d, event);
        break;
    case SESSION_EVENT_REPLY:
        DRIVE_CHECK(d->session.role != SESSION_SERVER);
        if (d->session.role == SESSION_CLIENT)
            drive_replied(d, event);
        else
            vouch_buffer_unref(event->buffer);
        break;
    case SESSION_EVENT_HELLO:
    case SESSION_EVENT_STOP:
    case SESSION_EVENT_NOTICE:
        DRIVE_CHECK(d->session.role == SESSION_PEER);
        vouch_buffer_unref(event->buffer);
        break;
    case SESSION_EVENT_CANCEL: {
        struct drive_request *request = (struct drive_request *)(void *)event->slot;
        DRIVE_CHECK(d->session.role != SESSION_CLIENT && request->used);
        if (request->slot.node.id & 8)
            drive_fail(d, request, VOUCH_REMOTE_CANCELLED);
        vouch_buffer_unref(event->buffer);
        break;
    }
    case SESSION_EVENT_DUE:
        drive_reply(d, (struct drive_request *)(void *)event->slot, 10);
        break;
    case SESSION_EVENT_EXPIRED:
        if (!event->slot->incoming)
            drive_end_call((struct drive_call *)(void *)event->slot);
        else if (session_failure(&d->session) == 0)
            d->answers_due++;
        break;
    }
}

/* All that the bytes so far say. Where the session stops reading it is relieved. */
static void drive_pump(struct drive *d) {
    struct session_event event;
    for (;;) {
        int r = session_next(&d->session, d->now, &event);
        DRIVE_CHECK(r == 1 || r == session_failure(&d->session));
        if (r == 1) {
            drive_event(d, &event);
            continue;
        }
        if (r < 0 || session_wants_input(&d->session))
            return;
        drive_take_output(d);
        drive_answer_kept(d);
        drive_take_output(d);
    }
}

static void drive_check_memory(struct drive *d) {
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(d->pool, &stats);
    DRIVE_CHECK(stats.bytes_held - stats.bytes_idle <= DRIVE_BYTES_MAX);
}

static void drive_feed(struct drive *d, const uint8_t *bytes, size_t size, uint64_t cuts) {
    while (size > 0) {
        uint8_t *space;
        size_t room;
        if (session_space(&d->session, &space, &room) < 0)
            return;
        size_t piece = size;
        if (cuts != 0) {
            cuts ^= cuts << 13;
            cuts ^= cuts >> 7;
            cuts ^= cuts << 17;
            piece = 1 + (size_t)(cuts >> 32) % (cuts & 1 ? 4 : 300);
        }
        piece = piece < room ? piece : room;
        piece = piece < size ? piece : size;
        memcpy(space, bytes, piece);
        session_commit(&d->session, piece, d->now);
        bytes += piece;
        size -= piece;
        drive_pump(d);
        drive_check_memory(d);
    }
}

static void drive_expire(struct drive *d, int64_t later) {
    struct session_event event;
    int r;
    d->now += later;
    while ((r = session_expire(&d->session, d->now, &event)) == 1)
        drive_event(d, &event);
    DRIVE_CHECK(r == session_failure(&d->session));
}

/* The end: what has a deadline meets it, the rest is let go of. */
static void drive_finish(struct drive *d) {
    drive_expire(d, VOUCH_SECONDS(20));
    drive_answer_kept(d);
    drive_pump(d);
    drive_answer_kept(d);
    for (size_t i = 0; i < DRIVE_SLOTS; i++) {
        if (d->calls[i].used)
            session_forget(&d->session, &d->calls[i].slot);
        d->calls[i].used = false;
    }
    DRIVE_CHECK(d->session.calls.count == 0 && d->session.requests.count == 0);
    drive_take_output(d);
    DRIVE_CHECK(d->answers_due == 0);
    bool half = vouch_chunk_decoder_partial(&d->session.decoder);
    bool alive = session_failure(&d->session) == 0;
    drive_expire(d, VOUCH_SECONDS(40));
    DRIVE_CHECK(!alive || session_failure(&d->session) == (half ? -ETIMEDOUT : 0));
    drive_note(d, &d->session.failure, sizeof(d->session.failure));
}

/* `cuts` 0: in pieces as large as the session takes; else a seed. Returns the transcript. */
static uint64_t drive_session(enum session_role role, struct vouch_pool *pool, const uint8_t *bytes,
                              size_t size, uint64_t cuts) {
    static struct drive d;
    struct vouch_pool_stats stats;
    struct session_limits limits = drive_limits;
    memset(&d, 0, offsetof(struct drive, pending));
    d.pool = pool;
    d.now = DRIVE_START;
    if (role == SESSION_CLIENT) {
        limits.output_soft = SIZE_MAX;
        limits.max_calls = DRIVE_SLOTS;
    }
    if (role == SESSION_PEER)
        limits.output_soft = SIZE_MAX;
    DRIVE_CHECK(session_init(&d.session, role, &limits, pool, NULL) == 0);
    for (int i = 0; role == SESSION_CLIENT && i < 3; i++)
        drive_call(&d, i == 0 ? d.now + VOUCH_SECONDS(5) : VOUCH_FOREVER);
    drive_feed(&d, bytes, size, cuts);
    drive_finish(&d);
    session_deinit(&d.session);
    vouch_pool_get_stats(pool, &stats);
    DRIVE_CHECK(stats.buffers_out == 0);
    return d.events ^ (d.output << 1 | d.output >> 63);
}

#endif
