/* SPDX-License-Identifier: MIT */
/*
 * The session, without I/O and under a clock that stands still. Two of them mouth to ear, one with
 * bytes made by hand. One in the place of each side of the recorded conversations is in
 * suite_session_recorded.c, limits are in suite_session_limits.c.
 *
 * What every kind of message does in every state is in suite_states.c, malformed ones are in
 * suite_malformed.c, splits in suite_split_rpc.c.
 */
#include "rpc/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

#define EVER "exp=9223372036854775807"
#define SECOND VOUCH_SECONDS(1)

static struct side client, server;

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

static void meet_client(struct side *side) {
    SIDE_SAY(side, .id = 1, WIRE_METHOD("/hello"), .client_features = SESSION_FEATURES);
    cr_assert_str_eq(side_events(side), "call 1 /hello()");
    cr_assert_eq(side_reply(side, 1, ""), 0);
    side_sent(side);
}

/* ---- calls and replies ---- */

Test(session, a_call_and_its_reply) {
    begin();
    cr_assert_eq(side_call(&client, "/m", "question"), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server), "call 1 /m(question)");
    cr_assert_eq(side_reply(&server, 1, "answer"), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&client), "reply 1 (answer)");
    cr_assert_eq(client.session.calls.count, 0);
    cr_assert_eq(server.session.requests.count, 0);
    end();
}

Test(session, what_goes_over_the_wire) {
    begin();
    cr_assert_eq(side_call_until(&client, "/m", "q", SIDE_START + SECOND), 0);
    cr_assert_str_eq(side_sent(&client),
                     "[id=1 exp=1000001001000000000 method=/m data=q client=7 max=4096]");
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_str_eq(side_sent(&client), "[id=2 " EVER " method=/m]");
    SIDE_SAY(&server, .id = 1, .expires = 1000001001000000000, WIRE_METHOD("/m"), WIRE_DATA("q"),
             .client_features = 7, .max_message = 4096);
    cr_assert_str_eq(side_sent(&server), "[server=7 control=4 max=4096]");
    cr_assert_eq(side_reply(&server, 1, "a"), 0);
    cr_assert_str_eq(side_sent(&server), "[id=1 exp=1000001001000000000 method=/m data=a]");
    end();
}

Test(session, replies_in_any_order) {
    begin();
    for (int i = 0; i < 5; i++)
        cr_assert_eq(side_call(&client, "/m", ""), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server),
                     "call 1 /m(); call 2 /m(); call 3 /m(); call 4 /m(); call 5 /m()");
    cr_assert_eq(side_reply(&server, 4, "d"), 0);
    cr_assert_eq(side_reply(&server, 1, "a"), 0);
    cr_assert_eq(side_fail(&server, 5, VOUCH_REMOTE_SERVER, "no"), 0);
    cr_assert_eq(side_reply(&server, 3, "c"), 0);
    cr_assert_eq(side_reply(&server, 2, "b"), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&client),
                     "reply 4 (d); reply 1 (a); reply 5 error 4 'no'; reply 3 (c); reply 2 (b)");
    end();
}

Test(session, every_error_arrives_as_it_was_sent) {
    begin();
    sides_meet(&client, &server);
    for (int error = 1; error <= VOUCH_REMOTE_UNKNOWN; error++) {
        char expected[64];
        uint32_t id = (uint32_t)error + 1;
        cr_assert_eq(side_call(&client, "/m", ""), 0);
        sides_exchange(&client, &server);
        side_events(&server);
        cr_assert_eq(side_fail(&server, id, error, "100% wrong"), 0);
        sides_exchange(&client, &server);
        snprintf(expected, sizeof(expected), "reply %u error %d '100%% wrong'", id, error);
        cr_assert_str_eq(side_events(&client), expected);
    }
    end();
}

Test(session, error_texts_are_cleaned_and_cut) {
    static char text[2000], expected[1100];
    memset(text, 'x', sizeof(text) - 1);
    text[1] = '\n';
    text[2] = (char)0xff;
    memset(expected, 'x', VOUCH_ERROR_TEXT_MAX);
    expected[1] = expected[2] = '?';
    begin();
    sides_meet(&client, &server);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    sides_exchange(&client, &server);
    side_events(&server);
    cr_assert_eq(side_fail(&server, 2, VOUCH_REMOTE_SERVER, text), 0);
    sides_exchange(&client, &server);
    const char *event = side_events(&client);
    cr_assert_eq(strncmp(event, "reply 2 error 4 '", 17), 0);
    cr_assert_eq(strlen(event), 17 + VOUCH_ERROR_TEXT_MAX + 1);
    cr_assert_eq(strncmp(event + 17, expected, VOUCH_ERROR_TEXT_MAX), 0);
    end();
}

Test(session, unknown_error_types) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(side_call(&client, "/m", ""), 0);
    SIDE_SAY(&client, .id = 1, .error_type = 10, WIRE_ERROR("new"));
    SIDE_SAY(&client, .id = 2, .error_type = UINT32_MAX);
    SIDE_SAY(&client, .id = 3, WIRE_ERROR("only a text"));
    SIDE_SAY(&client, .id = 4, .error_type = 9);
    cr_assert_str_eq(side_events(&client),
                     "reply 1 error 9 'new'; reply 2 error 9 ''; reply 3 error 9 'only a text'; "
                     "reply 4 error 9 ''");
    side_end_alone(&client);
}

/* Neither is told what is dropped. */
Test(session, late_unknown_and_second_replies_are_dropped) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    side_abandon(&client, 1);
    SIDE_SAY(&client, .id = 1, WIRE_DATA("late"));
    SIDE_SAY(&client, .id = 99, WIRE_DATA("whose"));
    SIDE_SAY(&client, .id = 2, WIRE_DATA("x"));
    SIDE_SAY(&client, .id = 2, WIRE_DATA("again"));
    SIDE_SAY(&client, .id = 0, WIRE_DATA("no id"));
    cr_assert_str_eq(side_events(&client), "reply 2 (x)");
    side_end_alone(&client);
}

Test(session, method_names_have_a_length) {
    static char name[ENVELOPE_METHOD_MAX + 2];
    memset(name, 'm', ENVELOPE_METHOD_MAX + 1);
    begin();
    cr_assert_eq(side_call(&client, name, ""), -EINVAL);
    cr_assert_eq(side_call(&client, "", ""), -EINVAL);
    cr_assert_eq(client.session.calls.count, 0);
    name[ENVELOPE_METHOD_MAX] = '\0';
    cr_assert_eq(side_call(&client, name, ""), 0);
    sides_exchange(&client, &server);
    side_events(&server);
    cr_assert_eq(side_request(&server, 1)->slot.method_size, ENVELOPE_METHOD_MAX);
    cr_assert_eq(side_reply(&server, 1, ""), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&client), "reply 1 ()");
    end();
}

/* Longer ones and such that are no text come from others; they are not repeated. */
Test(session, strange_methods_are_answered_without_them) {
    static char name[ENVELOPE_METHOD_MAX + 1];
    memset(name, 'm', sizeof(name));
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1, .method = name, .method_size = sizeof(name));
    SIDE_SAY(&server, .id = 2, WIRE_METHOD("/\xff"));
    SIDE_SAY(&server, .id = 3);
    side_events(&server);
    for (uint32_t id = 1; id <= 3; id++)
        cr_assert_eq(side_fail(&server, id, VOUCH_REMOTE_METHOD_NOT_FOUND, "no"), 0);
    cr_assert_str_eq(side_sent(&server),
                     "[id=1 type=1 err=no][id=2 type=1 err=no][id=3 type=1 err=no]");
    side_end_alone(&server);
}

/* ---- ids ---- */

Test(session, ids_wrap_around_and_skip_what_is_in_flight) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", "first"), 0);
    client.session.last_id = UINT32_MAX - 1;
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    side_slot(&client, UINT32_MAX);
    side_slot(&client, 2); /* not 0, and 1 is taken */
    side_end_alone(&client);
}

Test(session, an_id_in_flight_twice_is_the_end) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 5, WIRE_METHOD("/m"));
    SIDE_SAY(&server, .id = 5, WIRE_METHOD("/m"));
    cr_assert_str_eq(side_events(&server), "call 5 /m(); dead EPROTO");
    cr_assert_eq(side_reply(&server, 5, "x"), -EPROTO);
    cr_assert_str_eq(side_sent(&server), "");
    side_end_alone(&server);
}

Test(session, an_id_may_come_again_once_it_was_answered) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    for (int i = 0; i < 3; i++) {
        SIDE_SAY(&server, .id = 5, WIRE_METHOD("/m"));
        cr_assert_str_eq(side_events(&server), "call 5 /m()");
        cr_assert_eq(side_reply(&server, 5, ""), 0);
    }
    side_end_alone(&server);
}

Test(session, a_call_without_an_id_is_malformed) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, WIRE_METHOD("/m"));
    cr_assert_str_eq(side_events(&server), "dead EPROTO");
    side_end_alone(&server);
}

Test(session, an_error_without_id_is_the_only_calls) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    SIDE_SAY(&client, .error_type = 1, WIRE_ERROR("method(/m): not found"));
    cr_assert_str_eq(side_events(&client), "reply 1 error 1 'method(/m): not found'");
    SIDE_SAY(&client, .error_type = 1, WIRE_ERROR("nobody's"));
    cr_assert_str_eq(side_events(&client), "");
    side_end_alone(&client);
}

Test(session, an_error_without_id_is_nobodys_among_several) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    SIDE_SAY(&client, .error_type = 1, WIRE_ERROR("whose"));
    cr_assert_str_eq(side_events(&client), "");
    cr_assert_eq(client.session.calls.count, 2);
    side_end_alone(&client);
}

/* It may be the answer to the call that was given up. Once that is accounted for, the next is not.
 */
Test(session, an_error_without_id_after_a_call_was_given_up) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    side_abandon(&client, 1);
    SIDE_SAY(&client, .error_type = 1, WIRE_ERROR("of 1"));
    cr_assert_str_eq(side_events(&client), "");
    SIDE_SAY(&client, .error_type = 1, WIRE_ERROR("of 2"));
    cr_assert_str_eq(side_events(&client), "reply 2 error 1 'of 2'");
    side_end_alone(&client);
}

Test(session, a_late_reply_accounts_for_a_call_that_was_given_up) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    side_abandon(&client, 1);
    SIDE_SAY(&client, .id = 1, WIRE_DATA("late"));
    SIDE_SAY(&client, .error_type = 4, WIRE_ERROR("of 2"));
    cr_assert_str_eq(side_events(&client), "reply 2 error 4 'of 2'");
    side_end_alone(&client);
}

/* ---- additions, and plain peers ---- */

Test(session, a_client_announces_itself_once) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_str_eq(side_sent(&client), "[id=1 " EVER " method=/m client=7 max=4096]");
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_str_eq(side_sent(&client), "[id=2 " EVER " method=/m]");
    side_end_alone(&client);
}

Test(session, a_call_that_was_not_sent_announces_nothing) {
    static char large[4096];
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    memset(large, 'x', sizeof(large) - 1);
    cr_assert_eq(side_call(&client, "/m", large), -EMSGSIZE);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_str_eq(side_sent(&client), "[id=1 " EVER " method=/m client=7 max=4096]");
    side_end_alone(&client);
}

Test(session, a_server_says_hello_once_and_before_its_first_reply) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1, WIRE_METHOD("/m"), .client_features = 1 << 20);
    cr_assert_eq(side_reply(&server, 1, ""), 0);
    SIDE_SAY(&server, .id = 2, WIRE_METHOD("/m"), .client_features = 7);
    cr_assert_eq(side_reply(&server, 2, ""), 0);
    cr_assert_str_eq(side_sent(&server),
                     "[server=7 control=4 max=4096][id=1 method=/m][id=2 method=/m]");
    side_end_alone(&server);
}

Test(session, a_plain_client_sees_nothing_new) {
    static const uint32_t plain[] = {0, 1, 2, 3, 4, 4, 3, 4, 2, 4};
    side_begin_alone(&server, SESSION_SERVER, NULL);
    for (int error = 1; error <= VOUCH_REMOTE_UNKNOWN; error++) {
        char expected[64];
        SIDE_SAY(&server, .id = 1, WIRE_METHOD("/m"));
        cr_assert_eq(side_fail(&server, 1, error, "%d is 100%"), 0);
        snprintf(expected, sizeof(expected), "[id=1 method=/m type=%u err=%%%%d is 100%%%%]",
                 plain[error]);
        cr_assert_str_eq(side_sent(&server), expected);
    }
    side_end_alone(&server);
}

Test(session, a_text_of_nothing_but_percents) {
    static char text[VOUCH_ERROR_TEXT_MAX + 1];
    memset(text, '%', VOUCH_ERROR_TEXT_MAX);
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1);
    cr_assert_eq(side_fail(&server, 1, 4, text), 0);
    const char *sent = side_sent(&server);
    cr_assert_eq(strlen(sent), strlen("[id=1 type=4 err=]") + 2 * VOUCH_ERROR_TEXT_MAX);
    cr_assert_eq(strspn(sent + strlen("[id=1 type=4 err="), "%"), 2 * VOUCH_ERROR_TEXT_MAX);
    side_end_alone(&server);
}

Test(session, a_plain_server_hears_nothing_new_and_its_errors_are_passed_on) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    side_sent(&client);
    side_abandon(&client, 1);
    SIDE_SAY(&client, .id = 2, .error_type = 4, WIRE_ERROR("100%% broken"));
    cr_assert_str_eq(side_events(&client), "reply 2 error 4 '100%% broken'");
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    cr_assert_str_eq(side_sent(&client), "[id=3 " EVER " method=/m]");
    side_abandon(&client, 3);
    cr_assert_eq(session_ping(&client.session, &client.calls[0], VOUCH_FOREVER), -ENOTSUP);
    cr_assert_str_eq(side_sent(&client), "");
    side_end_alone(&client);
}

/* Once it has answered without a hello, a hello changes nothing. */
Test(session, a_hello_that_comes_late_is_ignored) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    SIDE_SAY(&client, .id = 1);
    SIDE_SAY(&client, .server_features = 7, .control = ENVELOPE_HELLO, .max_message = 10);
    cr_assert_str_eq(side_events(&client), "reply 1 ()");
    cr_assert_eq(client.session.peer_features, 0);
    cr_assert_eq(session_max_send(&client.session), 4096);
    side_end_alone(&client);
}

Test(session, the_peers_maximum_counts_when_it_is_smaller) {
    static char body[4096];
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    side_sent(&client);
    SIDE_SAY(&client, .server_features = 7, .control = ENVELOPE_HELLO, .max_message = 1000);
    SIDE_SAY(&client, .id = 1);
    side_events(&client);
    cr_assert_eq(session_max_send(&client.session), 1000);
    memset(body, 'x', 977); /* id 6, deadline 10, method 4, data 3 */
    cr_assert_eq(side_call(&client, "/m", body), 0);
    body[977] = 'x';
    cr_assert_eq(side_call(&client, "/m", body), -EMSGSIZE);
    side_end_alone(&client);

    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1, .client_features = 7, .max_message = UINT64_MAX);
    cr_assert_eq(session_max_send(&server.session), 4096);
    side_end_alone(&server);
}

/* ---- cancelling ---- */

Test(session, cancel_after_the_hello) {
    begin();
    sides_meet(&client, &server);
    cr_assert_eq(side_call(&client, "/slow", ""), 0);
    sides_exchange(&client, &server);
    side_events(&server);
    side_abandon(&client, 2);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server), "cancel 2");
    cr_assert_eq(server.session.requests.count, 1); /* until its handler lets go */
    cr_assert_eq(side_fail(&server, 2, VOUCH_REMOTE_CANCELLED, ""), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&client), "");
    end();
}

Test(session, cancels_before_the_hello_wait_for_it) {
    begin();
    for (int i = 0; i < 3; i++)
        cr_assert_eq(side_call(&client, "/slow", ""), 0);
    side_abandon(&client, 1);
    side_abandon(&client, 3);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server),
                     "call 1 /slow(); call 2 /slow(); call 3 /slow(); cancel 1; cancel 3");
    end();
}

Test(session, early_cancels_have_a_limit) {
    struct session_limits limits = side_limits;
    limits.max_calls = SIDE_CALLS;
    side_begin_alone(&client, SESSION_CLIENT, &limits);
    for (uint32_t i = 0; i <= SESSION_EARLY_CANCELS; i++)
        cr_assert_eq(side_call(&client, "/m", ""), 0);
    for (uint32_t id = 1; id <= SESSION_EARLY_CANCELS + 1; id++)
        side_abandon(&client, id);
    side_sent(&client);
    SIDE_SAY(&client, .server_features = 7, .control = ENVELOPE_HELLO);
    cr_assert_str_eq(side_sent(&client),
                     "[id=1 control=1][id=2 control=1][id=3 control=1][id=4 control=1]"
                     "[id=5 control=1][id=6 control=1][id=7 control=1][id=8 control=1]"
                     "[id=9 control=1][id=10 control=1][id=11 control=1][id=12 control=1]"
                     "[id=13 control=1][id=14 control=1][id=15 control=1][id=16 control=1]");
    side_end_alone(&client);
}

Test(session, a_cancel_that_crosses_the_reply_is_nothing) {
    begin();
    sides_meet(&client, &server);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    sides_exchange(&client, &server);
    side_events(&server);
    cr_assert_eq(side_reply(&server, 2, "done"), 0);
    side_abandon(&client, 2);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server), "");
    cr_assert_str_eq(side_events(&client), "");
    end();
}

Test(session, a_forgotten_call_is_nobodys) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    side_meet_server(&client);
    cr_assert_eq(side_call_until(&client, "/m", "", SIDE_START + SECOND), 0);
    side_sent(&client);
    session_forget(&client.session, side_slot(&client, 2));
    cr_assert_str_eq(side_sent(&client), "");
    cr_assert_eq(client.session.calls.count, 0);
    cr_assert_eq(session_deadline(&client.session), VOUCH_FOREVER);
    side_end_alone(&client);
}

/* ---- pings ---- */

Test(session, ping_and_pong) {
    begin();
    cr_assert_eq(session_ping(&client.session, &client.calls[0], VOUCH_FOREVER), -ENOTSUP);
    sides_meet(&client, &server);
    cr_assert_eq(session_ping(&client.session, &client.calls[0], SIDE_START + SECOND), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server), "");
    cr_assert_str_eq(side_events(&client), "reply 2 ()");
    /* And the other way. */
    cr_assert_eq(session_ping(&server.session, &server.calls[0], SIDE_START + SECOND), 0);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server), "reply 1 ()");
    end();
}

static unsigned count_pongs(struct side *side) {
    unsigned pongs = 0;
    const char *at = side_sent(side);
    while ((at = strstr(at, "control=3]"))) {
        pongs++;
        at++;
    }
    return pongs;
}

Test(session, pings_are_answered_ten_times_a_second) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    meet_client(&server);
    for (unsigned second = 0; second < 3; second++) {
        for (int i = 0; i < SESSION_PINGS_PER_SECOND; i++)
            SIDE_SAY(&server, .id = 7, .control = ENVELOPE_PING);
        cr_assert_eq(count_pongs(&server), SESSION_PINGS_PER_SECOND);
        SIDE_SAY(&server, .id = 7, .control = ENVELOPE_PING);
        server.now += SECOND - 1;
        SIDE_SAY(&server, .id = 7, .control = ENVELOPE_PING);
        cr_assert_eq(count_pongs(&server), 0);
        cr_assert_eq(server.session.strikes, 2 * (second + 1));
        server.now++;
    }
    cr_assert_str_eq(side_events(&server), "");
    side_end_alone(&server);
}

static void ping_until_struck(struct side *side) {
    for (int i = 0; i < SESSION_STRIKES - 1; i++)
        SIDE_SAY(side, .id = 7, .control = ENVELOPE_PING);
    cr_assert_str_eq(side_events(side), "");
    SIDE_SAY(side, .id = 7, .control = ENVELOPE_PING);
    cr_assert_str_eq(side_events(side), "dead EPROTO");
}

Test(session, too_many_pings_are_the_end) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    meet_client(&server);
    for (int i = 0; i < SESSION_PINGS_PER_SECOND; i++)
        SIDE_SAY(&server, .id = 7, .control = ENVELOPE_PING);
    ping_until_struck(&server);
    side_end_alone(&server);
}

Test(session, pings_of_strangers_are_strikes) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    ping_until_struck(&server);
    cr_assert_str_eq(side_sent(&server), "");
    side_end_alone(&server);
}

/* ---- deadlines of calls ---- */

Test(session, the_deadline_of_a_call_travels_as_wall_time) {
    side_begin_alone(&client, SESSION_CLIENT, NULL);
    side_meet_server(&client);
    client.session.wall_offset = 500;
    cr_assert_eq(side_call_until(&client, "/m", "", 1000), 0);
    cr_assert_eq(side_call_until(&client, "/m", "", VOUCH_FOREVER), 0);
    cr_assert_eq(side_call_until(&client, "/m", "", VOUCH_FOREVER - 1), 0);
    cr_assert_str_eq(side_sent(&client),
                     "[id=2 exp=1500 method=/m][id=3 " EVER " method=/m][id=4 " EVER " method=/m]");
    side_end_alone(&client);
}

Test(session, a_call_of_ours_ends_at_its_deadline) {
    begin();
    sides_meet(&client, &server);
    cr_assert_eq(side_call_until(&client, "/m", "", SIDE_START + 10), 0);
    cr_assert_eq(side_call_until(&client, "/m", "", SIDE_START + 5), 0);
    cr_assert_eq(side_call(&client, "/m", ""), 0);
    sides_exchange(&client, &server);
    side_events(&server);
    cr_assert_eq(session_deadline(&client.session), SIDE_START + 5);
    client.now = SIDE_START + 4;
    cr_assert_str_eq(side_expire(&client), "");
    client.now = SIDE_START + 5;
    cr_assert_str_eq(side_expire(&client), "expired 3");
    cr_assert_eq(session_deadline(&client.session), SIDE_START + 10);
    client.now = SIDE_START + 10;
    cr_assert_str_eq(side_expire(&client), "expired 2");
    cr_assert_eq(session_deadline(&client.session), VOUCH_FOREVER);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&server), "cancel 3; cancel 2");
    end();
}

static int64_t deadline_from(int64_t wall_offset, int64_t expires, const char *expected) {
    side_begin(&server, SESSION_SERVER);
    server.session.wall_offset = wall_offset;
    SIDE_SAY(&server, .id = 1, WIRE_METHOD("/m"), .expires = expires);
    cr_assert_str_eq(side_events(&server), expected);
    int64_t deadline = side_request(&server, 1)->deadline;
    side_end(&server);
    return deadline;
}

Test(session, the_deadline_of_a_call_of_the_peer) {
    int64_t wall = SIDE_START + SIDE_WALL_OFFSET;
    support_baseline_begin();
    cr_assert_eq(deadline_from(SIDE_WALL_OFFSET, 0, "call 1 /m()"), VOUCH_FOREVER);
    cr_assert_eq(deadline_from(SIDE_WALL_OFFSET, INT64_MAX, "call 1 /m()"), VOUCH_FOREVER);
    cr_assert_eq(deadline_from(SIDE_WALL_OFFSET, wall + 1, "call 1 /m()"), SIDE_START + 1);
    cr_assert_eq(deadline_from(SIDE_WALL_OFFSET, wall, "call 1 /m() error 2"), SIDE_START);
    cr_assert_eq(deadline_from(SIDE_WALL_OFFSET, 1, "call 1 /m() error 2"), 1 - SIDE_WALL_OFFSET);
    cr_assert_eq(deadline_from(SIDE_WALL_OFFSET, INT64_MIN, "call 1 /m() error 2"), INT64_MIN);
    cr_assert_eq(deadline_from(-10, SIDE_START, "call 1 /m()"), SIDE_START + 10);
    cr_assert_eq(deadline_from(-10, INT64_MAX - 1, "call 1 /m()"), VOUCH_FOREVER);
    cr_assert_eq(deadline_from(-10, INT64_MIN, "call 1 /m() error 2"), INT64_MIN + 10);
    support_baseline_end();
}

Test(session, a_watched_call_is_answered_at_its_deadline) {
    begin();
    sides_meet(&client, &server);
    cr_assert_eq(side_call_until(&client, "/slow", "", SIDE_START + 5), 0);
    sides_exchange(&client, &server);
    side_events(&server);
    struct side_request *request = side_request(&server, 2);
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    cr_assert_eq(session_watch(&server.session, &request->slot, request->deadline), 0);
    cr_assert_eq(session_deadline(&server.session), SIDE_START + 5);
    server.now = SIDE_START + 5;
    cr_assert_str_eq(side_expire(&server), "expired 2");
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    sides_exchange(&client, &server);
    cr_assert_str_eq(side_events(&client),
                     "reply 2 error 2 'the deadline passed before the handler answered'");
    cr_assert_eq(server.session.requests.count, 1);
    cr_assert_eq(side_reply(&server, 2, "late"), -ETIMEDOUT);
    cr_assert_eq(server.session.requests.count, 0);
    cr_assert_str_eq(side_sent(&server), "");
    end();
}

Test(session, an_answer_stops_the_watch) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1);
    side_events(&server);
    cr_assert_eq(session_watch(&server.session, &side_request(&server, 1)->slot, SIDE_START + 5),
                 0);
    cr_assert_eq(side_reply(&server, 1, ""), 0);
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    side_end_alone(&server);
}

Test(session, a_delayed_call_is_due_at_its_time) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1, .expires = SIDE_START + 9 + SIDE_WALL_OFFSET);
    SIDE_SAY(&server, .id = 2);
    side_events(&server);
    struct session_slot *first = &side_request(&server, 1)->slot;
    cr_assert_eq(session_watch(&server.session, first, SIDE_START + 9), 0);
    cr_assert_eq(session_delay(&server.session, first, SIDE_START + 5), 0);
    cr_assert_eq(session_delay(&server.session, &side_request(&server, 2)->slot, SIDE_START + 6),
                 0);
    cr_assert_eq(session_deadline(&server.session), SIDE_START + 5);
    server.now = SIDE_START + 4;
    cr_assert_str_eq(side_expire(&server), "");
    server.now = SIDE_START + 5;
    cr_assert_str_eq(side_expire(&server), "due 1");
    cr_assert_str_eq(side_sent(&server), "");
    cr_assert_eq(side_reply(&server, 1, "now"), 0);
    cr_assert_eq(side_reply(&server, 2, "earlier"), 0);
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    side_end_alone(&server);
}

/* ---- half messages ---- */

Test(session, a_message_has_its_time_from_its_first_byte) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    int64_t deadline = server.now + side_limits.frame_timeout;
    for (int i = 0; i < 5; i++) {
        cr_assert(side_feed(&server, i == 0 ? "\x20" : "\x08", 1));
        cr_assert_eq(session_deadline(&server.session), deadline);
        server.now += 5 * SECOND;
    }
    server.now = deadline - 1;
    cr_assert_str_eq(side_expire(&server), "");
    server.now = deadline;
    cr_assert_str_eq(side_expire(&server), "dead ETIMEDOUT");
    side_end_alone(&server);
}

Test(session, each_message_has_its_own_time) {
    struct wire wire = {.size = 0};
    side_begin_alone(&server, SESSION_SERVER, NULL);
    wire_message(&wire, &(struct envelope){.id = 1, WIRE_METHOD("/m")});
    cr_assert(side_feed(&server, wire.bytes, wire.size - 1));
    server.now += 29 * SECOND;
    cr_assert(side_feed(&server, wire.bytes + wire.size - 1, 1));
    cr_assert_str_eq(side_events(&server), "call 1 /m()");
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    server.now += 100 * SECOND;
    cr_assert(side_feed(&server, wire.bytes, 1));
    cr_assert_eq(session_deadline(&server.session), server.now + side_limits.frame_timeout);
    side_end_alone(&server);
}

/* The driver may turn to other things between two messages: the half one behind the first has its
 * time all the same. */
Test(session, a_half_message_behind_a_whole_one_has_its_time) {
    struct wire wire = {.size = 0};
    struct session_event event;
    uint8_t *space;
    size_t room;
    side_begin_alone(&server, SESSION_SERVER, NULL);
    wire_message(&wire, &(struct envelope){.id = 1, WIRE_METHOD("/m")});
    wire_add(&wire, "\x20", 1);
    cr_assert_eq(session_space(&server.session, &space, &room), 0);
    memcpy(space, wire.bytes, wire.size);
    session_commit(&server.session, wire.size, server.now);
    cr_assert_eq(session_next(&server.session, server.now, &event), 1);
    cr_assert_eq(session_deadline(&server.session), server.now + side_limits.frame_timeout);
    vouch_buffer_unref(event.buffer);
    side_end_alone(&server);
}

/* While nothing is read the peer can't help it; then its time begins anew. */
Test(session, a_half_message_has_its_time_only_while_input_is_wanted) {
    struct session_limits limits = side_few_calls(1);
    side_begin_alone(&server, SESSION_SERVER, &limits);
    SIDE_SAY(&server, .id = 1);
    SIDE_SAY(&server, .id = 2); /* one too many in flight */
    cr_assert(side_feed(&server, "\x20", 1));
    cr_assert_str_eq(side_events(&server), "call 1 ()");
    cr_assert_not(session_wants_input(&server.session));
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    server.now += 100 * SECOND;
    cr_assert_str_eq(side_expire(&server), "");
    cr_assert_eq(side_reply(&server, 1, ""), 0);
    cr_assert(session_wants_input(&server.session));
    /* Whether it is asked for messages first or for what has expired. */
    cr_assert_str_eq(side_expire(&server), "");
    cr_assert_eq(session_deadline(&server.session), server.now + side_limits.frame_timeout);
    cr_assert_str_eq(side_events(&server), "call 2 ()");
    cr_assert_eq(session_deadline(&server.session), server.now + side_limits.frame_timeout);
    server.now += side_limits.frame_timeout;
    cr_assert_str_eq(side_expire(&server), "dead ETIMEDOUT");
    side_end_alone(&server);
}

Test(session, a_full_socket_is_waited_for_so_long) {
    side_begin_alone(&server, SESSION_SERVER, NULL);
    SIDE_SAY(&server, .id = 1);
    side_events(&server);
    cr_assert_eq(side_reply(&server, 1, "body"), 0);
    session_blocked(&server.session, server.now);
    cr_assert_eq(session_deadline(&server.session), server.now + side_limits.stall_timeout);
    session_blocked(&server.session, server.now + 5); /* still */
    cr_assert_eq(session_deadline(&server.session), server.now + side_limits.stall_timeout);
    session_sent(&server.session, 1);
    cr_assert_eq(session_deadline(&server.session), VOUCH_FOREVER);
    session_blocked(&server.session, server.now + 5);
    server.now += 5 + side_limits.stall_timeout - 1;
    cr_assert_str_eq(side_expire(&server), "");
    server.now++;
    cr_assert_str_eq(side_expire(&server), "dead ETIMEDOUT");
    side_end_alone(&server);
}

/* ---- the end ---- */

Test(session, a_dead_session_does_nothing_more) {
    uint8_t *space;
    size_t room;
    struct session_event event;
    side_begin_alone(&server, SESSION_SERVER, NULL);
    meet_client(&server);
    SIDE_SAY(&server, .id = 2, WIRE_METHOD("/m"));
    SIDE_SAY(&server, .id = 3, WIRE_METHOD("/m"));
    side_events(&server);
    session_fail(&server.session, -EPROTO);
    session_fail(&server.session, -ENOMEM); /* the first reason stays */
    cr_assert_eq(session_failure(&server.session), -EPROTO);
    cr_assert_eq(session_space(&server.session, &space, &room), -EPROTO);
    cr_assert_eq(session_next(&server.session, server.now, &event), -EPROTO);
    cr_assert_eq(session_expire(&server.session, server.now, &event), -EPROTO);
    cr_assert_eq(session_ping(&server.session, &server.calls[0], VOUCH_FOREVER), -EPROTO);
    cr_assert_eq(side_call(&server, "/m", ""), -EPROTO);
    cr_assert_eq(side_reply(&server, 2, ""), -EPROTO);
    cr_assert_eq(side_fail(&server, 3, VOUCH_REMOTE_SERVER, ""), -EPROTO);
    cr_assert_eq(server.session.requests.count, 0);
    cr_assert_not(session_wants_input(&server.session));
    cr_assert_str_eq(side_sent(&server), "");
    side_end_alone(&server);
}

Test(session, output_in_pieces) {
    struct iovec pieces[2];
    side_begin_alone(&server, SESSION_SERVER, NULL);
    cr_assert_eq(session_output(&server.session, pieces, 2), 0);
    for (uint32_t id = 1; id <= 3; id++) {
        SIDE_SAY(&server, .id = id);
        cr_assert_eq(side_reply(&server, id, "body"), 0);
    }
    side_events(&server);
    size_t one = server.session.out.bytes / 3;
    cr_assert_eq(session_output(&server.session, pieces, 2), 2);
    cr_assert_eq(pieces[0].iov_len, one);
    session_sent(&server.session, one + 2);
    cr_assert_eq(session_output(&server.session, pieces, 2), 2);
    cr_assert_eq(pieces[0].iov_len, one - 2);
    cr_assert_eq(pieces[1].iov_len, one);
    session_sent(&server.session, 0);
    session_sent(&server.session, one - 2);
    session_sent(&server.session, one);
    cr_assert_eq(session_output(&server.session, pieces, 2), 0);
    cr_assert_eq(server.session.out.bytes, 0);
    side_end_alone(&server);
}

/* ---- without memory ---- */

static struct support_allocator allocator;

static int converse(void) {
    struct wire wire = {.size = 0};
    int r = side_open(&server, SESSION_SERVER, NULL, &allocator.allocator);
    if (r < 0)
        return r;
    wire_message(&wire, &(struct envelope){.id = 1, WIRE_METHOD("/m"), .client_features = 7});
    wire_message(&wire, &(struct envelope){.id = 2, .control = ENVELOPE_PING});
    uint8_t *space;
    size_t room;
    struct session_event event;
    r = session_space(&server.session, &space, &room);
    if (r == 0) {
        memcpy(space, wire.bytes, wire.size);
        session_commit(&server.session, wire.size, server.now);
        r = session_next(&server.session, server.now, &event);
    }
    if (r == 1) {
        session_accept(&server.session, &server.requests[0].slot, &event);
        server.requests[0].buffer = event.buffer;
        server.requests[0].used = true;
        r = session_watch(&server.session, &server.requests[0].slot, SIDE_START + 5);
        r = r < 0 ? r : session_next(&server.session, server.now, &event);
        r = r < 0 ? r : side_reply(&server, 1, "a");
    }
    return r;
}

/* Whatever is short: an error, nothing leaked, and when the session lives on it works. */
Test(session, a_server_without_memory) {
    unsigned failed = 0;
    support_baseline_begin();
    for (uint64_t n = 1;; n++) {
        support_allocator_init(&allocator);
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        int r = converse();
        bool injected = allocator.injected > 0;
        support_allocator_fail(&allocator, 0, 0);
        cr_assert(r == 0 || r == -ENOMEM);
        failed += r != 0;
        if (server.pool && session_failure(&server.session) == 0) {
            SIDE_SAY(&server, .id = 9, WIRE_METHOD("/after"));
            cr_assert_not_null(strstr(side_events(&server), "call 9 /after()"));
        }
        side_end(&server);
        support_allocator_check(&allocator);
        if (!injected)
            break;
    }
    cr_assert_geq(failed, 4); /* the pool, the input, the timer, the reply */
    support_baseline_end();
}

static int converse_as_client(void) {
    int r = side_open(&client, SESSION_CLIENT, NULL, &allocator.allocator);
    if (r == 0)
        r = side_call_until(&client, "/m", "", SIDE_START + 5);
    if (r == 0)
        r = side_call_until(&client, "/n", "", SIDE_START + 6);
    if (r == 0) {
        side_abandon(&client, 2);
        struct wire wire = {.size = 0};
        wire_message(&wire, &(struct envelope){.server_features = 7, .control = ENVELOPE_HELLO});
        uint8_t *space;
        size_t room;
        r = session_space(&client.session, &space, &room);
        if (r == 0) {
            memcpy(space, wire.bytes, wire.size);
            session_commit(&client.session, wire.size, client.now);
            side_events(&client);
        }
    }
    if (r == 0)
        r = session_ping(&client.session, &client.calls[9], SIDE_START + 7);
    if (r == 0)
        client.call_used[9] = true;
    return r;
}

Test(session, a_client_without_memory) {
    unsigned failed = 0;
    support_baseline_begin();
    for (uint64_t n = 1;; n++) {
        support_allocator_init(&allocator);
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        int r = converse_as_client();
        bool injected = allocator.injected > 0;
        support_allocator_fail(&allocator, 0, 0);
        cr_assert(r == 0 || r == -ENOMEM);
        failed += r != 0;
        if (client.pool) {
            unsigned in_flight = 0;
            for (size_t i = 0; i < SIDE_CALLS; i++)
                in_flight += client.call_used[i];
            cr_assert_eq(client.session.calls.count, in_flight);
            cr_assert_eq(session_failure(&client.session), 0);
            cr_assert_eq(side_call(&client, "/after", ""), 0);
        }
        side_end(&client);
        support_allocator_check(&allocator);
        if (!injected)
            break;
    }
    cr_assert_geq(failed, 4); /* the pool, the body, the timer, the input */
    support_baseline_end();
}

/* The caller has to learn of it: the session dies. */
Test(session, an_error_for_which_there_is_no_memory_ends_the_session) {
    support_baseline_begin();
    support_allocator_init(&allocator);
    cr_assert_eq(side_open(&server, SESSION_SERVER, NULL, &allocator.allocator), 0);
    SIDE_SAY(&server, .id = 1);
    side_events(&server);
    vouch_pool_trim(server.pool);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    cr_assert_eq(side_fail(&server, 1, VOUCH_REMOTE_SERVER, "no"), -ENOMEM);
    cr_assert_eq(session_failure(&server.session), -ENOMEM);
    side_end(&server);
    support_allocator_check(&allocator);
    support_baseline_end();
}
