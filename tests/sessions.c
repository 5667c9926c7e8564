/* SPDX-License-Identifier: MIT */
#include "tests/sessions.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/pool.h"
#include "tests/harness.h"
#include "tests/support.h"

/* ---- messages by hand ---- */

void wire_add(struct wire *wire, const void *bytes, size_t size) {
    cr_assert_leq(size, sizeof(wire->bytes) - wire->size);
    if (size > 0)
        memcpy(wire->bytes + wire->size, bytes, size);
    wire->size += size;
}

void wire_varint(struct wire *wire, uint64_t value) {
    uint8_t byte;
    for (; value >= 0x80; value >>= 7) {
        byte = (uint8_t)(value | 0x80);
        wire_add(wire, &byte, 1);
    }
    byte = (uint8_t)value;
    wire_add(wire, &byte, 1);
}

void wire_number(struct wire *wire, unsigned field, uint64_t value) {
    wire_varint(wire, field << 3);
    wire_varint(wire, value);
}

void wire_bytes(struct wire *wire, unsigned field, const void *bytes, size_t size) {
    wire_varint(wire, field << 3 | 2);
    wire_varint(wire, size);
    wire_add(wire, bytes, size);
}

static void number_if(struct wire *wire, unsigned field, uint64_t value) {
    if (value != 0)
        wire_number(wire, field, value);
}

static void bytes_if(struct wire *wire, unsigned field, const void *bytes, size_t size) {
    if (size > 0)
        wire_bytes(wire, field, bytes, size);
}

void wire_envelope(struct wire *wire, const struct envelope *e) {
    number_if(wire, 1, e->id);
    number_if(wire, 2, (uint64_t)e->expires);
    bytes_if(wire, 3, e->method, e->method_size);
    bytes_if(wire, 4, e->data, e->data_size);
    number_if(wire, 5, e->error_type);
    bytes_if(wire, 6, e->error, e->error_size);
    number_if(wire, 7, e->client_features);
    number_if(wire, 8, e->server_features);
    number_if(wire, 9, e->control);
    number_if(wire, 10, e->max_message);
}

void wire_chunk(struct wire *wire, const void *bytes, size_t size) {
    wire_varint(wire, 2 * (uint64_t)size);
    wire_add(wire, bytes, size);
}

void wire_message(struct wire *wire, const struct envelope *envelope) {
    struct wire body = {.size = 0};
    wire_envelope(&body, envelope);
    wire_chunk(wire, body.bytes, body.size);
}

/* ---- one side ---- */

const struct session_limits side_limits = {
    .max_receive = 4096,
    .max_send = 4096,
    .drain_max = 12288,
    .max_calls = 8,
    .output_soft = 65536,
    .output_hard = 131072,
    .frame_timeout = VOUCH_SECONDS(30),
    .stall_timeout = VOUCH_SECONDS(20),
};

int side_open(struct side *side, enum session_role role, const struct session_limits *limits,
              const struct vouch_allocator *allocator) {
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = allocator};
    *side = (struct side){.now = SIDE_START};
    int r = vouch_pool_new(&options, &side->pool);
    if (r < 0)
        return r;
    r = session_init(&side->session, role, limits ? limits : &side_limits, side->pool, allocator);
    if (r < 0)
        side_end(side);
    side->session.wall_offset = SIDE_WALL_OFFSET;
    return r;
}

void side_begin(struct side *side, enum session_role role) {
    cr_assert_eq(side_open(side, role, NULL, NULL), 0);
}

void side_end(struct side *side) {
    for (size_t i = 0; i < SIDE_CALLS; i++)
        if (side->requests[i].used)
            vouch_buffer_unref(side->requests[i].buffer);
    session_deinit(&side->session);
    session_deinit(&side->session);
    vouch_pool_unref(side->pool);
    side->pool = NULL;
}

/* ---- what it reports ---- */

VOUCH_PRINTF(2, 3) static void note(struct side *side, const char *format, ...) {
    size_t room = sizeof(side->events) - side->events_size;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(side->events + side->events_size, room, format, arguments);
    va_end(arguments);
    cr_assert(size >= 0 && (size_t)size < room);
    side->events_size += (size_t)size;
}

static const char *name_of(int error) {
    switch (error) {
    case -EPROTO:
        return "EPROTO";
    case -EMSGSIZE:
        return "EMSGSIZE";
    case -ETIMEDOUT:
        return "ETIMEDOUT";
    case -ENOBUFS:
        return "ENOBUFS";
    case -ENOMEM:
        return "ENOMEM";
    default:
        return "other";
    }
}

static void accept_call(struct side *side, const struct session_event *event) {
    struct side_request *request = side->requests;
    while (request < side->requests + SIDE_CALLS - 1 && request->used)
        request++;
    cr_assert_not(request->used);
    request->used = true;
    request->buffer = event->buffer;
    request->data = event->envelope.data;
    request->size = event->envelope.data_size;
    request->deadline = event->deadline;
    session_accept(&side->session, &request->slot, event);
}

static void note_result(struct side *side, const struct session_event *event) {
    const struct envelope *e = &event->envelope;
    if (event->result < 0)
        note(side, " %s", name_of(event->result));
    else if (event->result > 0)
        note(side, " error %d '%.*s'", event->result, (int)e->error_size, e->error ? e->error : "");
    else
        note(side, " (%.*s)", (int)e->data_size, e->data ? (const char *)e->data : "");
}

static void tell_guest(struct side *side, const struct session_event *event) {
    struct session_event told = *event;
    note(side, "for guest %u", event->envelope.id);
    if (!side->guest || session_deliver(&side->guest->session, &told) == 0)
        return;
    note(side->guest, "%sreply %u", side->guest->events_size > 0 ? "; " : "", told.slot->node.id);
    note_result(side->guest, &told);
    side->guest->call_used[told.slot - side->guest->calls] = false;
}

static void take_event(struct side *side, const struct session_event *event) {
    const struct envelope *e = &event->envelope;
    if (event->type == SESSION_EVENT_NONE)
        return;
    note(side, "%s", side->events_size > 0 ? "; " : "");
    switch (event->type) {
    case SESSION_EVENT_NONE:
    case SESSION_EVENT_CALL:
        note(side, "call %u %.*s(%.*s)", e->id, (int)e->method_size, e->method ? e->method : "",
             (int)e->data_size, e->data ? (const char *)e->data : "");
        if (event->result != 0)
            note(side, " error %d", event->result);
        accept_call(side, event);
        return;
    case SESSION_EVENT_REPLY:
        if (!event->slot) { /* of a peer: its guest would be told */
            tell_guest(side, event);
            break;
        }
        note(side, "reply %u", event->slot->node.id);
        note_result(side, event);
        side->call_used[event->slot - side->calls] = false;
        break;
    case SESSION_EVENT_HELLO:
        note(side, "hello");
        if (side->guest)
            session_introduce(&side->guest->session, event);
        break;
    case SESSION_EVENT_STOP:
        note(side, "stop");
        break;
    case SESSION_EVENT_NOTICE:
        note(side, "notice (%.*s)", (int)e->data_size, e->data ? (const char *)e->data : "");
        break;
    case SESSION_EVENT_CANCEL:
        note(side, "cancel %u", event->slot->node.id);
        break;
    case SESSION_EVENT_DUE:
        note(side, "due %u", event->slot->node.id);
        break;
    case SESSION_EVENT_EXPIRED:
        note(side, "expired %u", event->slot->node.id);
        if (!event->slot->incoming)
            side->call_used[event->slot - side->calls] = false;
        break;
    }
    vouch_buffer_unref(event->buffer);
}

typedef int next_fn(struct session *session, int64_t now, struct session_event *ret_event);

static void run(struct side *side, next_fn *next) {
    struct session_event event;
    int r;
    while ((r = next(&side->session, side->now, &event)) == 1)
        take_event(side, &event);
    cr_assert_eq(r, session_failure(&side->session));
}

static const char *take_notes(struct side *side) {
    if (side->session.failure != 0)
        note(side, "%sdead %s", side->events_size > 0 ? "; " : "", name_of(side->session.failure));
    side->events[side->events_size] = '\0';
    side->events_size = 0;
    return side->events;
}

const char *side_events(struct side *side) {
    run(side, session_next);
    return take_notes(side);
}

const char *side_expire(struct side *side) {
    run(side, session_expire);
    return take_notes(side);
}

bool side_feed(struct side *side, const void *bytes, size_t size) {
    const uint8_t *from = bytes;
    while (size > 0) {
        uint8_t *space;
        size_t room;
        if (session_space(&side->session, &space, &room) < 0)
            return false;
        size_t step = size < room ? size : room;
        memcpy(space, from, step);
        session_commit(&side->session, step, side->now);
        run(side, session_next);
        from += step;
        size -= step;
    }
    return true;
}

void side_say(struct side *side, const struct envelope *envelope) {
    struct wire wire = {.size = 0};
    wire_message(&wire, envelope);
    cr_assert(side_feed(side, wire.bytes, wire.size));
}

/* ---- what it sends ---- */

size_t side_take(struct side *side, uint8_t *ret_bytes, size_t room) {
    if (side->guest)
        session_relay(&side->guest->session, &side->session);
    struct iovec pieces[4];
    size_t taken = 0;
    int count;
    while ((count = session_output(&side->session, pieces, 4)) > 0) {
        for (int i = 0; i < count; i++) {
            cr_assert_leq(pieces[i].iov_len, room - taken);
            memcpy(ret_bytes + taken, pieces[i].iov_base, pieces[i].iov_len);
            taken += pieces[i].iov_len;
            session_sent(&side->session, pieces[i].iov_len);
        }
    }
    cr_assert_eq(side->session.out.bytes, 0);
    return taken;
}

struct text {
    char *at;
    size_t room;
};

VOUCH_PRINTF(2, 3) static void print(struct text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text->at, text->room, format, arguments);
    va_end(arguments);
    cr_assert(size >= 0 && (size_t)size < text->room);
    text->at += size;
    text->room -= (size_t)size;
}

static void print_number(struct text *text, const char *name, uint64_t value) {
    if (value != 0)
        print(text, " %s=%llu", name, (unsigned long long)value);
}

static void print_bytes(struct text *text, const char *name, const void *bytes, size_t size) {
    if (size > 0)
        print(text, " %s=%.*s", name, (int)size, (const char *)bytes);
}

static void print_message(struct text *text, const uint8_t *bytes, size_t size) {
    struct envelope e;
    char *open = text->at;
    cr_assert_eq(envelope_decode(bytes, size, &e), 0);
    print_number(text, "id", e.id);
    if (e.expires != 0)
        print(text, " exp=%lld", (long long)e.expires);
    print_bytes(text, "method", e.method, e.method_size);
    print_bytes(text, "data", e.data, e.data_size);
    print_number(text, "type", e.error_type);
    print_bytes(text, "err", e.error, e.error_size);
    print_number(text, "client", e.client_features);
    print_number(text, "server", e.server_features);
    print_number(text, "control", e.control);
    print_number(text, "max", e.max_message);
    print(text, "]");
    *open = '['; /* instead of the first space */
}

const char *side_sent(struct side *side) {
    static uint8_t bytes[1 << 18];
    size_t size = side_take(side, bytes, sizeof(bytes));
    struct text text = {side->sent, sizeof(side->sent)};
    print(&text, "%s", "");
    for (size_t at = 0; at < size;) {
        uint64_t length;
        int header = vouch_chunk_decode_header(bytes + at, size - at, &length);
        cr_assert_gt(header, 0);
        at += (size_t)header;
        cr_assert_leq(length, size - at);
        print_message(&text, bytes + at, (size_t)length);
        at += (size_t)length;
    }
    return side->sent;
}

/* ---- calls and answers ---- */

static struct vouch_buffer *body_of(struct side *side, const void *body, size_t size) {
    struct vouch_buffer *buffer;
    if (session_buffer(side->pool, size, &buffer) < 0)
        return NULL;
    if (size > 0)
        memcpy(buffer->data, body, size);
    buffer->size = size;
    return buffer;
}

int side_call_bytes(struct side *side, const char *method, const void *body, size_t size,
                    int64_t deadline) {
    size_t i = 0;
    while (i < SIDE_CALLS - 1 && side->call_used[i])
        i++;
    cr_assert_not(side->call_used[i]);
    struct vouch_buffer *buffer = body_of(side, body, size);
    if (!buffer)
        return -ENOMEM;
    int r = session_call(&side->session, &side->calls[i], method, buffer, deadline, NULL);
    side->call_used[i] = r == 0;
    return r;
}

int side_call_until(struct side *side, const char *method, const char *body, int64_t deadline) {
    return side_call_bytes(side, method, body, strlen(body), deadline);
}

int side_call(struct side *side, const char *method, const char *body) {
    return side_call_until(side, method, body, VOUCH_FOREVER);
}

struct session_slot *side_slot(struct side *side, uint32_t id) {
    size_t i = 0;
    while (i < SIDE_CALLS && !(side->call_used[i] && side->calls[i].node.id == id))
        i++;
    cr_assert_lt(i, SIDE_CALLS, "call %u is not in flight", id);
    return &side->calls[i];
}

void side_abandon(struct side *side, uint32_t id) {
    struct session_slot *slot = side_slot(side, id);
    session_abandon(&side->session, slot);
    side->call_used[slot - side->calls] = false;
}

struct side_request *side_request(struct side *side, uint32_t id) {
    size_t i = 0;
    while (i < SIDE_CALLS && !(side->requests[i].used && side->requests[i].slot.node.id == id))
        i++;
    cr_assert_lt(i, SIDE_CALLS, "request %u is not in flight", id);
    return &side->requests[i];
}

static int finish(struct side_request *request, int r) {
    vouch_buffer_unref(request->buffer);
    request->used = false;
    return r;
}

int side_reply(struct side *side, uint32_t id, const char *body) {
    return side_reply_bytes(side, id, body, strlen(body));
}

int side_reply_bytes(struct side *side, uint32_t id, const void *body, size_t size) {
    struct side_request *request = side_request(side, id);
    struct vouch_buffer *buffer = body_of(side, body, size);
    if (!buffer)
        return -ENOMEM;
    return finish(request, session_reply(&side->session, &request->slot, buffer));
}

int side_fail(struct side *side, uint32_t id, int result, const char *text) {
    struct side_request *request = side_request(side, id);
    return finish(request, session_reply_error(&side->session, &request->slot, result, text));
}

static bool deliver(struct side *from, struct side *to) {
    static uint8_t bytes[1 << 18];
    size_t size = side_take(from, bytes, sizeof(bytes));
    return size > 0 && side_feed(to, bytes, size);
}

void sides_exchange(struct side *a, struct side *b) {
    while (deliver(a, b) || deliver(b, a))
        continue;
}

void side_begin_alone(struct side *side, enum session_role role,
                      const struct session_limits *limits) {
    support_baseline_begin();
    cr_assert_eq(side_open(side, role, limits, NULL), 0);
}

void side_end_alone(struct side *side) {
    side_end(side);
    support_baseline_end();
}

void sides_meet(struct side *client, struct side *server) {
    cr_assert_eq(side_call(client, "/hello", ""), 0);
    sides_exchange(client, server);
    cr_assert_str_eq(side_events(server), "call 1 /hello()");
    cr_assert_eq(side_reply(server, 1, ""), 0);
    sides_exchange(client, server);
    cr_assert_str_eq(side_events(client), "reply 1 ()");
}

void side_meet_server(struct side *side) {
    cr_assert_eq(side_call(side, "/hello", ""), 0);
    side_sent(side);
    SIDE_SAY(side, .server_features = SESSION_FEATURES, .control = ENVELOPE_HELLO);
    SIDE_SAY(side, .id = 1);
    cr_assert_str_eq(side_events(side), "reply 1 ()");
}

struct session_limits side_few_calls(unsigned max_calls) {
    struct session_limits limits = side_limits;
    limits.max_calls = max_calls;
    return limits;
}
