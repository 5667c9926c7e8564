/* SPDX-License-Identifier: MIT */
/* A session that speaks a dialect, on either side of it. */
#include "rpc/session_dialect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"
#include "tests/toy_dialect.h"

static struct side side;
static struct toy toy;
static struct dialect_choice choice;

static void begin_with(enum session_role role, const struct session_limits *limits, bool native) {
    side_begin_alone(&side, role, limits);
    toy_init(&toy);
    choice = (struct dialect_choice){.native = native, .dialects = &toy.dialect, .count = 1};
    cr_assert_eq(session_speak(&side.session, &choice), 0);
}

static void begin(enum session_role role) {
    begin_with(role, NULL, false);
}

static void end(void) {
    side_end_alone(&side);
}

static void feed(const char *text) {
    cr_assert(side_feed(&side, text, strlen(text)));
}

static void expect_sent(const char *text) {
    uint8_t sent[8192];
    size_t size = side_take(&side, sent, sizeof(sent));
    cr_assert_eq(size, strlen(text), "sent '%.*s'", (int)size, (char *)sent);
    cr_assert_arr_eq(sent, text, size);
}

static void expect_events(const char *text) {
    cr_assert_str_eq(side_events(&side), text);
}

/* ---- servers ---- */

/* So that who reads can count them. */
Test(session_dialect, lines_that_mean_nothing_are_told_one_by_one) {
    struct session_event event;
    uint8_t *space;
    size_t room;
    begin(SESSION_SERVER);
    cr_assert_eq(session_space(&side.session, &space, &room), 0);
    memcpy(space, "\n\nhello\n\nhal", 12);
    session_commit(&side.session, 12, side.now);
    for (int i = 0; i < 4; i++) {
        cr_assert(session_has_message(&side.session));
        cr_assert_eq(session_next(&side.session, side.now, &event), 1);
        cr_assert_eq(event.type, SESSION_EVENT_NONE);
        cr_assert_null(event.buffer);
    }
    cr_assert_not(session_has_message(&side.session));
    cr_assert_eq(session_next(&side.session, side.now, &event), 0);
    end();
}

Test(session_dialect, calls_are_numbered_and_answered_by_their_tag) {
    begin(SESSION_SERVER);
    feed("call x /m hello\ncall y /n \n");
    expect_events("call 1 /m(hello); call 2 /n()");
    cr_assert_eq(side_reply(&side, 2, "second"), 0);
    cr_assert_eq(side_reply(&side, 1, "first"), 0);
    expect_sent("ok y second\nok x first\n");
    end();
}

Test(session_dialect, two_calls_may_have_the_same_tag) {
    begin(SESSION_SERVER);
    feed("call x /m a\ncall x /m b\n");
    expect_events("call 1 /m(a); call 2 /m(b)");
    cr_assert_eq(side_reply(&side, 1, "1"), 0);
    cr_assert_eq(side_reply(&side, 2, "2"), 0);
    expect_sent("ok x 1\nok x 2\n");
    end();
}

Test(session_dialect, lines_come_in_any_pieces) {
    const char text[] = "call x /m hello\nnonsense\n\ncall y /n more\n";
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        begin(SESSION_SERVER);
        cr_assert(side_feed(&side, text, cut));
        cr_assert(side_feed(&side, text + cut, sizeof(text) - 1 - cut));
        expect_events("call 1 /m(hello); call 2 /n(more)");
        cr_assert_eq(side_reply(&side, 1, ""), 0);
        cr_assert_eq(side_reply(&side, 2, ""), 0);
        expect_sent("ok x \nok y \n");
        end();
    }
}

Test(session_dialect, a_target_may_lead_to_another_method) {
    begin(SESSION_SERVER);
    feed("call x alias/of hello\n");
    expect_events("call 1 echo(hello)");
    cr_assert_eq(side_request(&side, 1)->slot.method_size, strlen("alias/of"));
    cr_assert_arr_eq(side_request(&side, 1)->slot.method, "alias/of", 8);
    cr_assert_eq(side_reply(&side, 1, ""), 0);
    end();
}

Test(session_dialect, errors_have_a_number_and_a_text) {
    begin(SESSION_SERVER);
    feed("call x /m \n");
    expect_events("call 1 /m()");
    cr_assert_eq(side_fail(&side, 1, VOUCH_REMOTE_REFUSED, "100% no"), 0);
    expect_sent("err x 5 100% no\n");
    end();
}

Test(session_dialect, what_can_not_be_understood_is_refused_and_the_connection_lives) {
    begin(SESSION_SERVER);
    feed("call x nonsense \ncall y /m \n");
    expect_events("call 1 nonsense() error 3; call 2 /m()");
    cr_assert_eq(side_fail(&side, 1, VOUCH_REMOTE_BAD_DATA, "why"), 0);
    cr_assert_eq(side_reply(&side, 2, ""), 0);
    expect_sent("err x 3 why\nok y \n");
    end();
}

Test(session_dialect, a_dialect_may_end_the_connection) {
    begin(SESSION_SERVER);
    feed("call x fatal \n");
    expect_events("dead EPROTO");
    end();
}

Test(session_dialect, a_reply_that_can_not_be_said_is_an_error) {
    begin(SESSION_SERVER);
    feed("call x /m \ncall y /m \n");
    expect_events("call 1 /m(); call 2 /m()");
    cr_assert_eq(side_reply(&side, 1, "two\nlines"), -EBADMSG);
    expect_sent("err x 4 the reply can't be said in the dialect toy\n");
    cr_assert_eq(side_reply(&side, 2, "a\ttab"), 0);
    expect_sent("ok y a tab\n");
    end();
}

Test(session_dialect, a_reply_over_the_limit_is_an_error) {
    struct session_limits limits = side_limits;
    limits.max_send = 100;
    char body[101];
    memset(body, 'b', sizeof(body) - 1);
    body[sizeof(body) - 1] = '\0';
    begin_with(SESSION_SERVER, &limits, false);
    feed("call x /m \ncall y /m \n");
    expect_events("call 1 /m(); call 2 /m()");
    cr_assert_eq(side_reply(&side, 1, body), -EMSGSIZE);
    expect_sent("err x 6 the reply of 106 bytes is over the maximum of 100 bytes\n");
    cr_assert_eq(side_reply(&side, 2, body + 6), 0); /* ok y BODY\n: 100 bytes */
    cr_assert_eq(side.session.out.bytes, 100);
    end();
}

/* ---- lines that are too large ---- */

/* A call of `size` bytes, its end not counted. */
static void feed_call(const char *head, size_t size) {
    char rest[512];
    memset(rest, 'b', sizeof(rest));
    feed(head);
    for (size_t left = size - strlen(head); left > 0;) {
        size_t now = left < sizeof(rest) ? left : sizeof(rest);
        cr_assert(side_feed(&side, rest, now));
        left -= now;
    }
    feed("\n");
}

static struct session_limits small_lines(void) {
    struct session_limits limits = side_limits;
    limits.max_receive = 1000;
    limits.drain_max = 20000;
    return limits;
}

Test(session_dialect, a_line_at_the_limit_is_taken_and_one_over_it_is_skipped_and_answered) {
    struct session_limits limits = small_lines();
    begin_with(SESSION_SERVER, &limits, false);
    feed_call("call x /m ", 1000);
    cr_assert_eq(side_request(&side, 1)->size, 990);
    side_events(&side);
    cr_assert_eq(side_reply(&side, 1, ""), 0);
    expect_sent("ok x \n");
    feed_call("call y /large ", 1001);
    expect_events("call 2 () error 6");
    cr_assert_eq(side_request(&side, 2)->slot.method_size, strlen("/large"));
    cr_assert_eq(side_fail(&side, 2, VOUCH_REMOTE_TOO_LARGE, "large"), 0);
    expect_sent("err y 6 large\n");
    feed_call("call z /m ", 19999);
    expect_events("call 3 () error 6");
    cr_assert_eq(side_fail(&side, 3, VOUCH_REMOTE_TOO_LARGE, "large"), 0);
    expect_sent("err z 6 large\n");
    feed("call w /m still\n");
    expect_events("call 4 /m(still)");
    cr_assert_eq(side_reply(&side, 4, ""), 0);
    end();
}

Test(session_dialect, an_endless_line_ends_the_connection) {
    struct session_limits limits = small_lines();
    begin_with(SESSION_SERVER, &limits, false);
    char rest[512];
    memset(rest, 'b', sizeof(rest));
    feed("call x /m ");
    size_t fed = 0;
    while (fed < 2 * limits.drain_max && side_feed(&side, rest, sizeof(rest)))
        fed += sizeof(rest);
    cr_assert_leq(fed, limits.drain_max + sizeof(rest));
    expect_events("dead EMSGSIZE");
    end();
}

Test(session_dialect, of_a_call_that_is_too_large_a_tag_is_kept_up_to_a_limit) {
    struct session_limits limits = small_lines();
    char head[256], expected[256], tag[SESSION_TAG_MAX + 2];
    for (size_t size = SESSION_TAG_MAX; size <= SESSION_TAG_MAX + 1; size++) {
        begin_with(SESSION_SERVER, &limits, false);
        memset(tag, 't', size);
        tag[size] = '\0';
        snprintf(head, sizeof(head), "call %s /m ", tag);
        feed_call(head, 2000);
        expect_events("call 1 () error 6");
        cr_assert_eq(side_fail(&side, 1, VOUCH_REMOTE_TOO_LARGE, "large"), 0);
        snprintf(expected, sizeof(expected), "err %s 6 large\n",
                 size <= SESSION_TAG_MAX ? tag : "");
        expect_sent(expected);
        end();
    }
}

Test(session_dialect, a_long_tag_of_a_call_that_fits_is_repeated_whole) {
    char tag[1001], line[2048];
    memset(tag, 't', sizeof(tag) - 1);
    tag[sizeof(tag) - 1] = '\0';
    begin(SESSION_SERVER);
    snprintf(line, sizeof(line), "call %s /m hello\n", tag);
    feed(line);
    expect_events("call 1 /m(hello)");
    cr_assert_eq(side_reply(&side, 1, "yes"), 0);
    snprintf(line, sizeof(line), "ok %s yes\n", tag);
    expect_sent(line);
    end();
}

/* ---- limits and time ---- */

Test(session_dialect, calls_beyond_those_in_flight_wait) {
    struct session_limits limits = side_few_calls(1);
    begin_with(SESSION_SERVER, &limits, false);
    feed("call x /m 1\ncall y /m 2\n");
    expect_events("call 1 /m(1)");
    cr_assert_not(session_wants_input(&side.session));
    cr_assert_eq(side_reply(&side, 1, ""), 0);
    expect_events("call 2 /m(2)");
    cr_assert_eq(side_reply(&side, 2, ""), 0);
    expect_sent("ok x \nok y \n");
    end();
}

Test(session_dialect, half_a_line_has_its_time) {
    begin(SESSION_SERVER);
    feed("call x /m hel");
    cr_assert_eq(session_deadline(&side.session), side.now + side_limits.frame_timeout);
    side.now += side_limits.frame_timeout;
    cr_assert_str_eq(side_expire(&side), "dead ETIMEDOUT");
    end();
}

Test(session_dialect, calls_have_no_deadline) {
    begin(SESSION_SERVER);
    feed("call x /m hello\n");
    expect_events("call 1 /m(hello)");
    cr_assert_eq(side_request(&side, 1)->deadline, VOUCH_FOREVER);
    cr_assert_eq(side_reply(&side, 1, ""), 0);
    end();
}

/* ---- which it is ---- */

Test(session_dialect, the_first_byte_says_whether_it_is_ours_or_the_dialects) {
    begin_with(SESSION_SERVER, NULL, true);
    feed("c");
    feed("all x /m hello\n");
    expect_events("call 1 /m(hello)");
    cr_assert_eq(side_reply(&side, 1, ""), 0);
    expect_sent("ok x \n");
    cr_assert_eq(toy.events[VOUCH_DIALECT_OPENED], 1);
    end();

    begin_with(SESSION_SERVER, NULL, true);
    SIDE_SAY(&side, .id = 7, WIRE_METHOD("/m"), WIRE_DATA("hello"));
    expect_events("call 7 /m(hello)");
    cr_assert_eq(toy.events[VOUCH_DIALECT_OPENED], 0);
    cr_assert_eq(side_reply(&side, 7, "yes"), 0);
    cr_assert_str_eq(side_sent(&side), "[id=7 method=/m data=yes]");
    end();
}

Test(session_dialect, a_first_byte_that_nobody_knows_ends_the_connection) {
    struct toy other;
    side_begin_alone(&side, SESSION_SERVER, NULL);
    toy_init(&toy);
    toy_init(&other);
    struct vouch_dialect both[2] = {toy.dialect, other.dialect};
    choice = (struct dialect_choice){.dialects = both, .count = 2};
    cr_assert_eq(session_speak(&side.session, &choice), 0);
    cr_assert_not(side_feed(&side, "x", 1) && session_failure(&side.session) == 0);
    expect_events("dead EPROTO");
    end();
}

Test(session_dialect, opening_and_closing_are_observed) {
    begin(SESSION_SERVER);
    cr_assert_eq(toy.events[VOUCH_DIALECT_OPENED], 1);
    cr_assert_eq(toy.events[VOUCH_DIALECT_CLOSED], 0);
    session_blocked(&side.session, side.now);
    session_blocked(&side.session, side.now);
    cr_assert_eq(toy.events[VOUCH_DIALECT_BLOCKED], 1);
    end();
    cr_assert_eq(toy.events[VOUCH_DIALECT_CLOSED], 1);
}

/* ---- notices ---- */

static int notify(const char *text) {
    struct vouch_buffer *body;
    cr_assert_eq(session_buffer(side.pool, strlen(text), &body), 0);
    memcpy(body->data, text, strlen(text));
    body->size = strlen(text);
    return session_notify(&side.session, body);
}

Test(session_dialect, servers_say_what_nobody_asked_for) {
    begin(SESSION_SERVER);
    cr_assert_eq(notify("news"), 0);
    expect_sent("note news\n");
    cr_assert_eq(notify("two\nlines"), -EINVAL);
    toy.mute = true;
    cr_assert_eq(notify("news"), -ENOTSUP);
    expect_sent("");
    end();
}

Test(session_dialect, notices_wait_for_nobody) {
    struct session_limits limits = side_limits;
    limits.output_soft = 20;
    begin_with(SESSION_SERVER, &limits, false);
    cr_assert_eq(notify("0123456789012345"), 0);
    cr_assert_eq(notify("more"), -EAGAIN);
    expect_sent("note 0123456789012345\n");
    cr_assert_eq(notify("more"), 0);
    end();
}

Test(session_dialect, our_own_wire_has_no_notices) {
    side_begin_alone(&side, SESSION_SERVER, NULL);
    cr_assert_eq(notify("news"), -ENOTSUP);
    end();
}

/* ---- clients ---- */

Test(session_dialect, clients_call_and_are_answered) {
    begin(SESSION_CLIENT);
    cr_assert_eq(side_call(&side, "/m", "hello"), 0);
    cr_assert_eq(side_call(&side, "/n", ""), 0);
    expect_sent("call 1 /m hello\ncall 2 /n \n");
    feed("ok 2 second\nerr 1 4 it failed\n");
    expect_events("reply 2 (second); reply 1 error 4 'it failed'");
    end();
}

Test(session_dialect, late_replies_and_those_to_nothing_are_dropped) {
    begin(SESSION_CLIENT);
    cr_assert_eq(side_call_until(&side, "/m", "hello", side.now + 1), 0);
    side.now += 1;
    cr_assert_str_eq(side_expire(&side), "expired 1");
    expect_sent("call 1 /m hello\n"); /* and no cancel */
    feed("ok 1 late\nok 77 nobody's\nok 0 x\nrubbish\ncall 3 /m x\n");
    expect_events("");
    cr_assert_eq(side_call(&side, "/m", "again"), 0);
    feed("ok 2 yes\n");
    expect_events("reply 2 (yes)");
    end();
}

Test(session_dialect, notices_are_events) {
    begin(SESSION_CLIENT);
    feed("note news\n");
    expect_events("notice (news)");
    end();
}

Test(session_dialect, a_request_that_can_not_be_said_is_not_sent) {
    begin(SESSION_CLIENT);
    cr_assert_eq(side_call(&side, "/m", "two\nlines"), -EINVAL);
    expect_sent("");
    cr_assert_eq(side.session.calls.count, 0);
    end();
}

Test(session_dialect, a_reply_that_is_too_large_is_told_by_its_number) {
    struct session_limits limits = small_lines();
    begin_with(SESSION_CLIENT, &limits, false);
    cr_assert_eq(side_call(&side, "/m", "hello"), 0);
    feed_call("ok 1 ", 5000);
    expect_events("reply 1 EMSGSIZE");
    cr_assert_eq(side_call(&side, "/m", "hello"), 0);
    feed("ok 2 yes\n");
    expect_events("reply 2 (yes)");
    end();
}

Test(session_dialect, there_are_no_pings) {
    begin(SESSION_CLIENT);
    struct session_slot slot;
    cr_assert_eq(session_ping(&side.session, &slot, VOUCH_FOREVER), -ENOTSUP);
    end();
}

/* ---- replies that are too large, and say late whose they are ---- */

/* The digit behind the first '#', wherever the pieces are cut. */
static uint32_t find_digit(void *context, struct vouch_skim *skim, const uint8_t *bytes,
                           size_t size) {
    (void)context;
    for (size_t i = 0; i < size; i++) {
        cr_assert_neq(bytes[i], '\n');
        if (skim->state[0])
            return (uint32_t)(bytes[i] - '0');
        skim->state[0] = bytes[i] == '#';
    }
    return 0;
}

static void begin_skimming(void) {
    const struct session_limits limits = {.max_receive = 600,
                                          .max_send = 600,
                                          .drain_max = 2000,
                                          .max_calls = 4,
                                          .output_soft = 4096,
                                          .output_hard = 65536,
                                          .frame_timeout = VOUCH_SECONDS(30),
                                          .stall_timeout = VOUCH_SECONDS(30)};
    side_begin_alone(&side, SESSION_CLIENT, &limits);
    toy_init(&toy);
    toy.dialect.skim = find_digit;
    choice = (struct dialect_choice){.dialects = &toy.dialect, .count = 1};
    cr_assert_eq(session_speak(&side.session, &choice), 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(side_call(&side, "/m", ""), 0);
}

/* A line of so many bytes with "#2" in it at `at`. */
static void make_line(char *line, size_t size, size_t at) {
    memset(line, 'x', size);
    memcpy(line + at, "#2", 2);
    line[size] = '\n';
}

/* However late it says it, and however it is cut; what comes behind is taken. */
Test(session_dialect, a_reply_that_is_too_large_may_say_late_whose_it_is) {
    static const size_t places[] = {0, 510, 511, 512, 600, 601, 602, 1000, 1498};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        for (size_t piece = 1; piece < 1600; piece += piece < 5 ? 1 : 199) {
            char line[1600];
            begin_skimming();
            make_line(line, 1500, places[i]);
            memcpy(line + 1501, "ok 1 yes\n", 9);
            for (size_t at = 0; at < 1510; at += piece)
                cr_assert(side_feed(&side, line + at, piece < 1510 - at ? piece : 1510 - at));
            expect_events("reply 2 EMSGSIZE; reply 1 (yes)");
            cr_assert_eq(side.session.calls.count, 1);
            cr_assert_eq(session_deadline(&side.session), VOUCH_FOREVER);
            end();
        }
    }
}

Test(session_dialect, it_is_told_before_the_lines_end_has_come) {
    char line[1600];
    begin_skimming();
    make_line(line, 1500, 700);
    memcpy(line + 1000, "#1#3", 4); /* whatever else is in it */
    cr_assert(side_feed(&side, line, 701));
    expect_events("");
    cr_assert(side_feed(&side, line + 701, 1));
    expect_events("reply 2 EMSGSIZE");
    cr_assert(side_feed(&side, line + 702, 1501 - 702));
    expect_events("");
    feed("ok 3 yes\n");
    expect_events("reply 3 (yes)");
    end();
}

Test(session_dialect, lines_that_are_too_large_may_be_nobodys) {
    char line[1600];
    begin_skimming();
    for (size_t size = 601; size < 1600; size += 499) {
        make_line(line, size, 0);
        memset(line, 'y', 2);
        cr_assert(side_feed(&side, line, size + 1));
        memcpy(line + size - 3, "#9#", 3); /* nor is this call in flight */
        cr_assert(side_feed(&side, line, size + 1));
        memset(line + size - 3, 'y', 2); /* and what it ends with is not the next one's */
        cr_assert(side_feed(&side, line, size + 1));
    }
    feed("2\nok 3 yes\n");
    expect_events("reply 3 (yes)");
    cr_assert_eq(side.session.calls.count, 2);
    end();
}

Test(session_dialect, a_reply_that_goes_on_too_long_ends_the_connection) {
    char line[2100];
    begin_skimming();
    memset(line, 'x', sizeof(line));
    cr_assert(side_feed(&side, line, 2000));
    expect_events("");
    (void)side_feed(&side, line, 1);
    expect_events("dead EMSGSIZE");
    end();
}
