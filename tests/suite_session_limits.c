/* SPDX-License-Identifier: MIT */
/* The limits of a session, each at the limit and one past it. The rest is in test_session.c. */
#include "rpc/session.h"

#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

#define EVER "exp=9223372036854775807"
#define SECOND VOUCH_SECONDS(1)

static struct side client, server, other;

static void begin(void) {
    support_baseline_begin();
    side_begin(&client, SESSION_CLIENT);
    side_begin(&server, SESSION_SERVER);
}

static void end(void) {
    side_end(&client);
    side_end(&server);
    support_baseline_end();
}

/* A call of `id` whose message is `size` bytes long. */
static void feed_call(struct side *side, uint32_t id, size_t size) {
    static uint8_t body[16384];
    struct wire wire = {.size = 0}, message = {.size = 0};
    size_t around = 2 + 4 + 3; /* id, method, tag and length of a body of 128 bytes or more */
    wire_envelope(
        &message,
        &(struct envelope){.id = id, WIRE_METHOD("/m"), .data = body, .data_size = size - around});
    cr_assert_eq(message.size, size);
    wire_chunk(&wire, message.bytes, message.size);
    cr_assert(side_feed(side, wire.bytes, wire.size));
}

Test(session_limits, largest_message_taken) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    feed_call(&server, 1, side_limits.max_receive);
    cr_assert_eq(strncmp(side_events(&server), "call 1 /m(", 10), 0);
    cr_assert_eq(side_request(&server, 1)->size, side_limits.max_receive - 9);
    side_end_alone(&server);
}

Test(session_limits, a_larger_one_is_skipped_then_answered_and_all_goes_on) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    feed_call(&server, 1, side_limits.max_receive + 1);
    cr_assert_str_eq(side_events(&server), "call 1 /m() error 6");
    cr_assert_eq(side_fail(&server, 1, VOUCH_REMOTE_TOO_LARGE, "too large"), 0);
    cr_assert_str_eq(side_sent(&server), "[id=1 method=/m type=3 err=too large]");
    feed_call(&server, 2, side_limits.drain_max);
    SIDE_SAY(&server, .id = 3, WIRE_METHOD("/n"), WIRE_DATA("small"));
    cr_assert_str_eq(side_events(&server), "call 2 /m() error 6; call 3 /n(small)");
    side_end_alone(&server);
}

Test(session_limits, one_too_large_to_be_skipped_is_the_end) {
    struct wire wire = {.size = 0};
    side_begin_alone(&server, SESSION_SERVER, NULL);
    wire_varint(&wire, 2 * (side_limits.drain_max + 1));
    cr_assert(side_feed(&server, wire.bytes, wire.size));
    cr_assert_str_eq(side_events(&server), "dead EMSGSIZE");
    side_end_alone(&server);
}

/* It is answered when its last byte is there, not before: its caller does not read until then. */
Test(session_limits, an_oversize_call_is_reported_after_its_last_byte) {
    struct wire wire = {.size = 0};
    static const uint8_t zeros[8000];
    side_begin_alone(&server, SESSION_SERVER, NULL);
    wire_message(&wire, &(struct envelope){.id = 9,
                                           .expires = 1000002000000000000,
                                           WIRE_METHOD("/large"),
                                           .data = zeros,
                                           .data_size = sizeof(zeros)});
    int64_t deadline = server.now + side_limits.frame_timeout;
    cr_assert(side_feed(&server, wire.bytes, wire.size - 1));
    cr_assert_str_eq(side_events(&server), "");
    cr_assert_eq(session_deadline(&server.session), deadline);
    cr_assert_not(session_has_message(&server.session));
    cr_assert(side_feed(&server, wire.bytes + wire.size - 1, 1));
    cr_assert_str_eq(side_events(&server), "call 9 /large() error 6");
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    cr_assert_eq(side_fail(&server, 9, VOUCH_REMOTE_TOO_LARGE, "no"), 0);
    cr_assert_str_eq(side_sent(&server),
                     "[id=9 exp=1000002000000000000 method=/large type=3 err=no]");
    side_end_alone(&server);
}

/* In either role; the driver may read the end of one and the beginning of the next at once. */
static void skip_then_begin(struct side *side) {
    struct wire wire = {.size = 0};
    static const uint8_t zeros[8000];
    wire_message(&wire, &(struct envelope){.id = 1, .data = zeros, .data_size = sizeof(zeros)});
    wire_add(&wire, "\x20", 1);
    cr_assert(side_feed(side, wire.bytes, 1000));
    cr_assert_eq(session_deadline(&side->session), SIDE_START + side_limits.frame_timeout);
    side->now += 10 * SECOND;
    cr_assert(side_feed(side, wire.bytes + 1000, wire.size - 1000));
    cr_assert_eq(session_deadline(&side->session), side->now + side_limits.frame_timeout);
}

Test(session_limits, a_half_message_behind_an_oversize_one_has_its_own_time) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    skip_then_begin(&server);
    cr_assert_str_eq(side_events(&server), "call 1 () error 6");
    side_end_alone(&server);

    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    skip_then_begin(&client);
    cr_assert_str_eq(side_events(&client), "reply 1 EMSGSIZE");
    side_end_alone(&client);
}

Test(session_limits, an_oversize_call_that_stops_half_way_times_out) {
    struct wire wire = {.size = 0};
    side_begin_alone(&server, SESSION_SERVER, NULL);
    wire_varint(&wire, 2 * 8000);
    wire_number(&wire, 1, 9);
    wire_add(&wire, (uint8_t[600]){0x22, 0xff, 0x7f}, 600);
    cr_assert(side_feed(&server, wire.bytes, wire.size));
    server.now += side_limits.frame_timeout;
    cr_assert_str_eq(side_expire(&server), "dead ETIMEDOUT");
    side_end_alone(&server);
}

/* Skipped while nothing more is wanted, it is a message that waits to be reported. */
Test(session_limits, an_oversize_call_that_ends_while_input_is_not_wanted) {
    struct session_limits limits = side_few_calls(1);
    struct wire wire = {.size = 0};
    static const uint8_t zeros[8000];
    side_begin_alone(&server, SESSION_SERVER, &limits);
    wire_message(&wire, &(struct envelope){.id = 2, .data = zeros, .data_size = sizeof(zeros)});
    cr_assert(side_feed(&server, wire.bytes, 1000));
    /* A call is taken in that came before, by a driver that was slow. */
    struct session_slot slot;
    session_accept(&server.session, &slot, &(struct session_event){.envelope = {.id = 1}});
    cr_assert(session_wants_input(&server.session), "the rest of it");
    cr_assert(side_feed(&server, wire.bytes + 1000, wire.size - 1000));
    cr_assert_str_eq(side_events(&server), "");
    cr_assert_not(session_wants_input(&server.session));
    cr_assert_eq(session_reply_error(&server.session, &slot, VOUCH_REMOTE_SERVER, ""), 0);
    cr_assert(session_wants_input(&server.session));
    cr_assert(session_has_message(&server.session));
    cr_assert_str_eq(side_events(&server), "call 2 () error 6");
    cr_assert_not(session_has_message(&server.session));
    side_end_alone(&server);
}

Test(session_limits, an_oversize_call_keeps_its_method_if_that_is_one) {
    struct wire wire = {.size = 0};
    static const uint8_t zeros[8000];
    static char name[ENVELOPE_METHOD_MAX + 1];
    memset(name, 'm', sizeof(name));
    side_begin_alone(&server, SESSION_SERVER, NULL);
    for (uint32_t id = 1; id <= 2; id++)
        wire_message(&wire, &(struct envelope){.id = id,
                                               .method = name,
                                               .method_size = sizeof(name) + 1 - id,
                                               .data = zeros,
                                               .data_size = 5000});
    cr_assert(side_feed(&server, wire.bytes, wire.size));
    side_events(&server);
    cr_assert_eq(side_request(&server, 1)->slot.method_size, 0);
    cr_assert_eq(side_request(&server, 2)->slot.method_size, ENVELOPE_METHOD_MAX);
    cr_assert_arr_eq(side_request(&server, 2)->slot.method, name, ENVELOPE_METHOD_MAX);
    side_end_alone(&server);
}

Test(session_limits, an_oversize_call_without_an_id_can_not_be_answered) {
    struct wire wire = {.size = 0};
    static const uint8_t zeros[8000];
    side_begin_alone(&server, SESSION_SERVER, NULL);
    wire_message(&wire, &(struct envelope){.data = zeros, .data_size = sizeof(zeros)});
    cr_assert_not(side_feed(&server, wire.bytes, wire.size));
    cr_assert_str_eq(side_events(&server), "dead EMSGSIZE");
    side_end_alone(&server);
}

Test(session_limits, an_oversize_reply_ends_its_call_only) {
    struct wire wire = {.size = 0};
    static const uint8_t zeros[8000];
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    wire_message(&wire, &(struct envelope){.id = 1, .data = zeros, .data_size = sizeof(zeros)});
    cr_assert(side_feed(&client, wire.bytes, wire.size));
    SIDE_SAY(&client, .id = 2, WIRE_DATA("fine"));
    cr_assert_str_eq(side_events(&client), "reply 1 EMSGSIZE; reply 2 (fine)");
    side_end_alone(&client);
}

Test(session_limits, an_oversize_reply_to_nobody_is_skipped) {
    struct wire wire = {.size = 0};
    static const uint8_t zeros[8000];
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    wire_message(&wire, &(struct envelope){.id = 77, .data = zeros, .data_size = sizeof(zeros)});
    cr_assert(side_feed(&client, wire.bytes, wire.size));
    SIDE_SAY(&client, .id = 1, WIRE_DATA("fine"));
    cr_assert_str_eq(side_events(&client), "reply 1 (fine)");
    side_end_alone(&client);
}

Test(session_limits, largest_call_sent) {
    static uint8_t body[4096];
    struct vouch_buffer *buffer;
    size_t size = 0;
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    side_meet_server(&client);
    size_t largest = side_limits.max_send - (6 + 10 + 4 + 3);
    cr_assert_eq(side_call_bytes(&client, "/m", body, largest, VOUCH_FOREVER), 0);
    cr_assert_eq(session_buffer(client.pool, largest + 1, &buffer), 0);
    buffer->size = largest + 1;
    cr_assert_eq(
        session_call(&client.session, &client.calls[5], "/m", buffer, VOUCH_FOREVER, &size),
        -EMSGSIZE);
    cr_assert_eq(size, side_limits.max_send + 1);
    cr_assert_eq(client.session.calls.count, 1);
    side_end_alone(&client);
}

Test(session_limits, largest_reply_sent) {
    static uint8_t body[4096];
    begin();
    sides_meet(&client, &server);
    cr_assert_eq(side_call_until(&client, "/m", "", VOUCH_FOREVER), 0);
    cr_assert_eq(side_call_until(&client, "/m", "", VOUCH_FOREVER), 0);
    sides_exchange(&client, &server);
    side_events(&server);
    size_t largest = side_limits.max_send - (2 + 10 + 4 + 3);
    cr_assert_eq(side_reply_bytes(&server, 3, body, largest + 1), -EMSGSIZE);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&client),
                     "reply 3 error 6 'the reply of 4097 bytes is over the maximum of 4096 bytes'");
    memset(body, 'x', sizeof(body));
    cr_assert_eq(side_reply_bytes(&server, 2, body, largest), 0);
    sides_exchange(&client, &server);
    cr_assert_eq(strncmp(side_events(&client), "reply 2 (xxx", 12), 0);
    end();
}

/* A peer that takes hardly anything still learns how its call ended. */
Test(session_limits, an_error_that_is_too_large_for_the_peer_is_sent_bare) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1, WIRE_METHOD("/method"), .client_features = 7, .max_message = 20);
    side_events(&server);
    side_sent(&server);
    cr_assert_eq(side_reply(&server, 1, "not really long"), -EMSGSIZE);
    cr_assert_str_eq(side_sent(&server), "[id=1 type=6]");
    SIDE_SAY(&server, .id = 1, WIRE_METHOD("/m"));
    cr_assert_eq(side_fail(&server, 1, VOUCH_REMOTE_SERVER, "0123456789"), 0);
    cr_assert_str_eq(side_sent(&server), "[id=1 method=/m type=4 err=0123456789]");
    SIDE_SAY(&server, .id = 1, WIRE_METHOD("/m"));
    cr_assert_eq(side_fail(&server, 1, VOUCH_REMOTE_SERVER, "0123456789a"), 0);
    cr_assert_str_eq(side_sent(&server), "[id=1 type=4]");
    side_end_alone(&server);
}

Test(session_limits, calls_in_flight) {
    begin();
    for (unsigned i = 0; i < side_limits.max_calls; i++)
        cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), -EBUSY);
    SIDE_SAY(&client, .id = 1);
    side_events(&client);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), -EBUSY);
    end();
}

Test(session_limits, calls_of_the_peer_in_flight) {
    struct wire wire = {.size = 0};
    struct session_limits limits = side_few_calls(2);
    side_begin_alone(&server, SESSION_SERVER, &limits);
    for (uint32_t id = 1; id <= 4; id++)
        wire_message(&wire, &(struct envelope){.id = id, WIRE_METHOD("/m")});
    cr_assert(side_feed(&server, wire.bytes, wire.size));
    cr_assert_str_eq(side_events(&server), "call 1 /m(); call 2 /m()");
    cr_assert_not(session_wants_input(&server.session));
    cr_assert(session_has_message(&server.session));
    cr_assert_eq(side_reply(&server, 2, ""), 0);
    cr_assert_str_eq(side_events(&server), "call 3 /m()");
    cr_assert_eq(side_reply(&server, 1, ""), 0);
    cr_assert_eq(side_reply(&server, 3, ""), 0);
    cr_assert_str_eq(side_events(&server), "call 4 /m()");
    cr_assert_not(session_has_message(&server.session));
    side_end_alone(&server);
}

/* The first call that is one too many is taken out of the way of what is not a call. */
Test(session_limits, at_the_limit_of_calls_cancels_are_heard) {
    struct session_limits limits = side_few_calls(2);
    side_begin_alone(&server, SESSION_SERVER, &limits);
    SIDE_SAY(&server, .id = 1);
    SIDE_SAY(&server, .id = 2);
    cr_assert_str_eq(side_events(&server), "call 1 (); call 2 ()");
    cr_assert(session_wants_input(&server.session));
    SIDE_SAY(&server, .id = 1, .control = ENVELOPE_CANCEL);
    SIDE_SAY(&server, .id = 3);
    SIDE_SAY(&server, .id = 2, .control = ENVELOPE_CANCEL);
    cr_assert_str_eq(side_events(&server), "cancel 1");
    cr_assert_not(session_wants_input(&server.session), "a call waits before the other cancel");
    cr_assert_eq(side_reply(&server, 1, ""), 0);
    cr_assert_str_eq(side_events(&server), "call 3 (); cancel 2");
    side_end_alone(&server);
}

/* A call that waits for a place may be late when it gets one; or it is let go with the session. */
Test(session_limits, a_call_that_waits_for_a_place) {
    struct session_limits limits = side_few_calls(1);
    side_begin_alone(&server, SESSION_SERVER, &limits);
    SIDE_SAY(&server, .id = 1);
    SIDE_SAY(&server, .id = 2, .expires = server.now + server.session.wall_offset + SECOND);
    SIDE_SAY(&server, .id = 3);
    cr_assert_str_eq(side_events(&server), "call 1 ()");
    server.now += 2 * SECOND;
    cr_assert_eq(side_reply(&server, 1, ""), 0);
    cr_assert_str_eq(side_events(&server), "call 2 () error 2");
    side_end_alone(&server);
}

/* How many bytes one reply is, all told. */
static size_t reply_size(void) {
    side_begin(&other, SESSION_SERVER);
    SIDE_SAY(&other, .id = 1, WIRE_METHOD("/m"));
    cr_assert_eq(side_reply(&other, 1, "body"), 0);
    size_t size = other.session.out.bytes;
    side_end(&other);
    return size;
}

static void reply_with(size_t soft, size_t hard) {
    struct session_limits limits = side_limits;
    limits.output_soft = soft;
    limits.output_hard = hard;
    cr_assert_eq(side_open(&server, SESSION_SERVER, &limits, NULL), 0);
    SIDE_SAY(&server, .id = 1, WIRE_METHOD("/m"));
    side_events(&server);
    cr_assert_eq(side_reply(&server, 1, "body"), 0);
}

Test(session_limits, output_at_which_reading_stops) {
    support_baseline_begin();
    size_t size = reply_size();
    reply_with(size + 1, 1000);
    cr_assert(session_wants_input(&server.session));
    side_end(&server);

    reply_with(size, 1000);
    cr_assert_not(session_wants_input(&server.session));
    session_sent(&server.session, 1);
    cr_assert(session_wants_input(&server.session));
    side_end(&server);
    support_baseline_end();
}

Test(session_limits, output_at_which_a_session_dies) {
    support_baseline_begin();
    size_t size = reply_size();
    reply_with(size, size + 1);
    cr_assert_eq(session_failure(&server.session), 0);
    side_end(&server);

    reply_with(1, (size + 3) / 4 + 1);
    cr_assert_eq(session_failure(&server.session), 0, "not yet four times as much");
    side_end(&server);
    reply_with(1, size / 4);
    cr_assert_eq(session_failure(&server.session), -ENOBUFS);
    side_end(&server);
    support_baseline_end();
}

/* From the first look at the clock it has a sixth of the stall timeout. */
Test(session_limits, output_over_the_limit_may_be_read_for_a_while) {
    struct session_event event;
    support_baseline_begin();
    size_t size = reply_size();
    int64_t grace = side_limits.stall_timeout / SESSION_OVERRUN_SHARE;

    reply_with(size, size);
    cr_assert_eq(session_failure(&server.session), 0);
    cr_assert_eq(session_deadline(&server.session), 0, "the driver has to say what time it is");
    cr_assert_eq(session_expire(&server.session, 1000, &event), 0);
    cr_assert_eq(session_deadline(&server.session), 1000 + grace);
    cr_assert_eq(session_expire(&server.session, 1000 + grace - 1, &event), 0);
    cr_assert_eq(session_expire(&server.session, 1000 + grace, &event), -ENOBUFS);
    side_end(&server);

    reply_with(size, size);
    cr_assert_eq(session_expire(&server.session, 1000, &event), 0);
    session_sent(&server.session, 1);
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    cr_assert_eq(session_expire(&server.session, 1000 + grace, &event), 0);
    side_end(&server);
    support_baseline_end();
}

Test(session_limits, output_at_which_calls_are_refused) {
    struct session_limits limits = side_limits;
    support_baseline_begin();
    side_begin(&other, SESSION_CLIENT);
    cr_assert_eq(side_call(&other, "/m", ""), 0);
    size_t size = other.session.out.bytes;
    side_end(&other);

    limits.output_hard = size;
    cr_assert_eq(side_open(&client, SESSION_CLIENT, &limits, NULL), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), -EAGAIN);
    session_sent(&client.session, 1);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(session_failure(&client.session), 0);
    side_end(&client);
    support_baseline_end();
}

Test(session_limits, limits_out_of_range) {
    struct session_limits limits = side_limits;
    support_baseline_begin();
    limits.max_receive = VOUCH_CHUNK_SIZE_BOUND + 1;
    cr_assert_eq(side_open(&client, SESSION_CLIENT, &limits, NULL), -EINVAL);
    limits.max_receive = VOUCH_CHUNK_SIZE_BOUND;
    limits.drain_max = VOUCH_CHUNK_SIZE_BOUND + 1;
    cr_assert_eq(side_open(&client, SESSION_CLIENT, &limits, NULL), -EINVAL);
    limits.drain_max = VOUCH_CHUNK_SIZE_BOUND;
    cr_assert_eq(side_open(&client, SESSION_CLIENT, &limits, NULL), 0);
    struct vouch_buffer *buffer;
    cr_assert_eq(session_buffer(client.pool, VOUCH_CHUNK_SIZE_BOUND + 1, &buffer), -EMSGSIZE);
    side_end(&client);
    support_baseline_end();
}
