/* SPDX-License-Identifier: MIT */
/*
 * Sessions of peers, who both call, without I/O: two of each side, mouth to ear, and one with
 * messages made by hand.
 */
#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

#define EVER "exp=9223372036854775807"
#define SECOND VOUCH_SECONDS(1)
#define OUR_HELLO "[id=64 server=15 control=4 max=4096]"

static struct side left, left_guest, right, right_guest;
static struct session_limits limits;

static void open_peer(struct side *peer, struct side *guest) {
    limits = side_limits;
    limits.max_calls = SIDE_CALLS;
    limits.output_soft = SIZE_MAX;
    cr_assert_eq(side_open(peer, SESSION_PEER, &limits, NULL), 0);
    cr_assert_eq(side_open(guest, SESSION_GUEST, &limits, NULL), 0);
    peer->guest = guest;
}

static void begin(void) {
    support_baseline_begin();
    open_peer(&left, &left_guest);
    open_peer(&right, &right_guest);
}

static void end(void) {
    side_end(&left);
    side_end(&left_guest);
    side_end(&right);
    side_end(&right_guest);
    support_baseline_end();
}

TestSuite(session_peer, .init = begin, .fini = end);

static void meet(void) {
    sides_exchange(&left, &right);
    cr_assert_str_eq(side_events(&left), "hello");
    cr_assert_str_eq(side_events(&right), "hello");
}

/* Only one session, whose other side is made by hand. */
static void greet_left(void) {
    cr_assert_str_eq(side_sent(&left), OUR_HELLO);
    SIDE_SAY(&left, .id = 64, .server_features = 15, .control = ENVELOPE_HELLO,
             .max_message = 4096);
    cr_assert_str_eq(side_events(&left), "hello");
}

Test(session_peer, both_begin_with_a_hello) {
    cr_assert_str_eq(side_sent(&left), OUR_HELLO);
    cr_assert_str_eq(side_sent(&right), OUR_HELLO);
}

Test(session_peer, both_call) {
    meet();
    cr_assert_eq(side_call(&left_guest, "/l", "from left"), 0);
    cr_assert_eq(side_call(&right_guest, "/r", "from right"), 0);
    sides_exchange(&left, &right);
    cr_assert_str_eq(side_events(&left), "call 1 /r(from right)");
    cr_assert_str_eq(side_events(&right), "call 1 /l(from left)");
    cr_assert_eq(side_reply(&left, 1, "left's"), 0);
    cr_assert_eq(side_fail(&right, 1, VOUCH_REMOTE_CANCELLED, "100%"), 0);
    sides_exchange(&left, &right);
    cr_assert_str_eq(side_events(&left), "for guest 1");
    cr_assert_str_eq(side_events(&left_guest), "reply 1 error 7 '100%'");
    cr_assert_str_eq(side_events(&right_guest), "reply 1 (left's)");
    cr_assert_eq(left_guest.session.calls.count, 0);
    cr_assert_eq(right.session.requests.count, 0);
}

Test(session_peer, what_goes_over_the_wire) {
    greet_left();
    cr_assert_eq(side_call(&left_guest, "/m", "q"), 0);
    cr_assert_str_eq(side_sent(&left), "[id=1 " EVER " method=/m data=q]");
    SIDE_SAY(&left, .id = 1, WIRE_METHOD("/n"), WIRE_DATA("d"));
    cr_assert_str_eq(side_events(&left), "call 1 /n(d)");
    cr_assert_eq(side_reply(&left, 1, "a"), 0);
    cr_assert_str_eq(side_sent(&left), "[id=1 method=/n data=a control=5]");
    SIDE_SAY(&left, .id = 1, WIRE_DATA("yes"), .control = ENVELOPE_REPLY);
    cr_assert_str_eq(side_events(&left_guest), "reply 1 (yes)");
}

Test(session_peer, calls_may_come_before_the_other_hello) {
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    sides_exchange(&left, &right);
    cr_assert_str_eq(side_events(&right), "hello; call 1 /m()");
}

Test(session_peer, who_is_no_peer_is_cut_off) {
    SIDE_SAY(&left, .id = 1, WIRE_METHOD("/m"), .client_features = 15);
    cr_assert_str_eq(side_events(&left), "dead EPROTO");
    SIDE_SAY(&right, .server_features = 7, .control = ENVELOPE_HELLO);
    cr_assert_str_eq(side_events(&right), "dead EPROTO");
}

/* What a plain server or client makes of a peer's hello. */
Test(session_peer, is_never_called_by_who_does_not_know_it) {
    struct side plain;
    side_begin(&plain, SESSION_SERVER);
    sides_exchange(&left, &plain);
    cr_assert_str_eq(side_events(&plain), "");
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    sides_exchange(&left, &plain);
    cr_assert_str_eq(side_events(&plain), "call 1 /m()");
    cr_assert_eq(side_reply(&plain, 1, ""), 0);
    sides_exchange(&left, &plain);
    cr_assert_str_eq(side_events(&left), "dead EPROTO", "a bare message would be a call");
    side_end(&plain);

    side_begin(&plain, SESSION_CLIENT);
    SIDE_SAY(&plain, .server_features = 15, .control = ENVELOPE_HELLO, .max_message = 4096);
    SIDE_SAY(&plain, .id = 1, WIRE_METHOD("/m"));
    cr_assert_str_eq(side_events(&plain), "", "a client is not called");
    side_end(&plain);
}

Test(session_peer, ids_of_the_directions_have_nothing_to_do_with_each_other) {
    greet_left();
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    SIDE_SAY(&left, .id = 1, WIRE_METHOD("/n"));
    cr_assert_str_eq(side_events(&left), "call 1 /n()");
    SIDE_SAY(&left, .id = 1, .control = ENVELOPE_CANCEL);
    cr_assert_str_eq(side_events(&left), "cancel 1");
    cr_assert_eq(left_guest.session.calls.count, 1);
    SIDE_SAY(&left, .id = 1, .control = ENVELOPE_REPLY);
    cr_assert_str_eq(side_events(&left), "for guest 1");
    cr_assert_eq(left.session.requests.count, 1);
}

Test(session_peer, replies_that_nobody_waits_for_are_dropped) {
    greet_left();
    SIDE_SAY(&left, .id = 9, .control = ENVELOPE_REPLY);
    SIDE_SAY(&left, .id = 0, WIRE_ERROR("no id"), .control = ENVELOPE_REPLY);
    SIDE_SAY(&left, .id = 9, .control = ENVELOPE_PONG);
    cr_assert_str_eq(side_events(&left), "for guest 9; for guest 0; for guest 9");
    cr_assert_str_eq(side_events(&left_guest), "");
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    SIDE_SAY(&left, .id = 0, WIRE_ERROR("no id"), .control = ENVELOPE_REPLY);
    cr_assert_str_eq(side_events(&left_guest), "", "errors without an id are those of others");
}

Test(session_peer, a_second_hello_changes_nothing) {
    greet_left();
    SIDE_SAY(&left, .server_features = 8, .control = ENVELOPE_HELLO, .max_message = 10);
    cr_assert_str_eq(side_events(&left), "");
    cr_assert_eq(left.session.peer_features, 15);
    cr_assert_eq(left.session.peer_max, 4096);
}

Test(session_peer, cancels_wait_for_the_hello) {
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    side_abandon(&left_guest, 1);
    side_sent(&left);
    SIDE_SAY(&left, .server_features = 15, .control = ENVELOPE_HELLO);
    cr_assert_str_eq(side_sent(&left), "[id=1 control=1]");
}

Test(session_peer, a_deadline_ends_and_cancels_a_call) {
    meet();
    cr_assert_eq(side_call_until(&left_guest, "/m", "", SIDE_START + SECOND), 0);
    sides_exchange(&left, &right);
    left_guest.now += SECOND;
    cr_assert_str_eq(side_expire(&left_guest), "expired 1");
    sides_exchange(&left, &right);
    cr_assert_str_eq(side_events(&right), "call 1 /m(); cancel 1");
}

Test(session_peer, the_other_sides_maximum_counts) {
    cr_assert_str_eq(side_sent(&left), OUR_HELLO);
    SIDE_SAY(&left, .id = 2, .server_features = 15, .control = ENVELOPE_HELLO, .max_message = 40);
    cr_assert_eq(side_call(&left_guest, "/m", "this is much too long for the other side"),
                 -EMSGSIZE);
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    cr_assert_eq(side_call(&left_guest, "/m", ""), -EBUSY, "it takes two at a time");
    SIDE_SAY(&left, .id = 1, WIRE_METHOD("/n"));
    cr_assert_eq(side_reply(&left, 1, "this is much too long for the other side"), -EMSGSIZE);
}

/* Reading goes on: the next message may be the reply that all those handlers wait for. */
Test(session_peer, calls_beyond_the_limit_are_refused_and_replies_still_read) {
    greet_left();
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    side_sent(&left);
    left.session.limits.max_calls = 2;
    for (uint32_t id = 1; id <= 3; id++)
        SIDE_SAY(&left, .id = id, WIRE_METHOD("/n"));
    SIDE_SAY(&left, .id = 1, .control = ENVELOPE_REPLY);
    cr_assert_str_eq(side_events(&left),
                     "call 1 /n(); call 2 /n(); call 3 /n() error 8; for guest 1");
    cr_assert_str_eq(side_events(&left_guest), "reply 1 ()");
    cr_assert(session_wants_input(&left.session));
}

Test(session_peer, oversize_calls_and_replies) {
    static uint8_t body[5000];
    struct wire wire = {.size = 0};
    greet_left();
    wire_message(&wire, &(struct envelope){
                            .id = 1, WIRE_METHOD("/n"), .data = body, .data_size = sizeof(body)});
    cr_assert(side_feed(&left, wire.bytes, wire.size));
    cr_assert_str_eq(side_events(&left), "call 1 /n() error 6");
    cr_assert_eq(side_call(&left_guest, "/m", ""), 0);
    /* Which it is has to be seen before the body. */
    struct wire message = {.size = 0};
    wire_number(&message, 1, 1);
    wire_number(&message, 9, ENVELOPE_REPLY);
    wire_bytes(&message, 4, body, sizeof(body));
    wire.size = 0;
    wire_chunk(&wire, message.bytes, message.size);
    cr_assert(side_feed(&left, wire.bytes, wire.size));
    cr_assert_str_eq(side_events(&left_guest), "reply 1 EMSGSIZE");
}

Test(session_peer, beats_and_stop) {
    meet();
    cr_assert_eq(session_beat(&left.session), 0);
    cr_assert_eq(session_ask_stop(&left.session), 0);
    sides_exchange(&left, &right);
    cr_assert_str_eq(side_events(&right), "stop");
    cr_assert_eq(left.session.beats_answered, 1);
    session_fail(&left.session, -ECONNRESET);
    cr_assert_eq(session_beat(&left.session), -ECONNRESET);
    cr_assert_eq(session_ask_stop(&left.session), -ECONNRESET);
}

Test(session_peer, a_beat_wants_one_who_knows_pings) {
    cr_assert_eq(session_beat(&left.session), -EAGAIN);
    side_sent(&left);
    SIDE_SAY(&left, .server_features = 8, .control = ENVELOPE_HELLO);
    cr_assert_eq(session_beat(&left.session), -ENOTSUP);
}

Test(session_peer, unknown_controls_are_ignored) {
    greet_left();
    SIDE_SAY(&left, .id = 1, .control = 99);
    cr_assert_str_eq(side_events(&left), "");
}

/* A guest's queue is moved only as far as the connection's has room. */
Test(session_peer, relaying_stops_where_output_is_full) {
    greet_left();
    left.session.limits.output_hard = 100;
    for (int i = 0; i < 10; i++)
        cr_assert_eq(side_call(&left_guest, "/m", "0123456789012345678901234567890123456789"), 0);
    session_relay(&left_guest.session, &left.session);
    cr_assert(session_output_full(&left.session));
    cr_assert_lt(left.session.out.bytes, 200);
    cr_assert_gt(left_guest.session.out.bytes, 300);
    while (left_guest.session.out.bytes > 0)
        side_sent(&left);
    cr_assert_null(left_guest.session.out.tail);
}

Test(session_peer, without_memory_there_is_none) {
    struct support_allocator allocator;
    struct side poor;
    support_allocator_init(&allocator);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    cr_assert_eq(side_open(&poor, SESSION_PEER, NULL, &allocator.allocator), -ENOMEM);
}
