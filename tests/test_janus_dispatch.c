/* SPDX-License-Identifier: MIT */
/* What comes: answers, events, and all that a hostile gateway may say. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;
static struct vouch_janus *janus;
static struct vouch_janus_session *session;
static struct vouch_janus_handle *handle;
static struct janus_seen strays, of_session, of_handle;
static unsigned ends;
static int end_result;

static void on_end(void *context, int result, const struct vouch_error *error) {
    cr_assert_eq(context, &strays);
    cr_assert_eq(error->code, result);
    ends++;
    end_result = result;
}

static struct vouch_janus_stats stats(void) {
    struct vouch_janus_stats s;
    vouch_janus_get_stats(janus, &s);
    return s;
}

static void say(const char *text) {
    janus_gateway_say(&gateway, "", text);
}

/* Takes in what was said: a ping behind it is answered. */
static void settle(void) {
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct janus_outcome outcome = {0};
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0, "%s", outcome.text);
}

static void start(struct janus_outcome *outcome, enum vouch_janus_verb verb) {
    static const struct vouch_janus_listener s = {janus_seen_callback, &of_session},
                                             h = {janus_seen_callback, &of_handle};
    cJSON *body = json_tree("{}");
    struct vouch_janus_request request = {VOUCH_OPTIONS(request), .verb = verb};
    *outcome = (struct janus_outcome){0};
    if (verb == VOUCH_JANUS_DO_CREATE)
        request.listener = &s;
    if (verb == VOUCH_JANUS_DO_ATTACH) {
        request.session = session;
        request.plugin = "p";
        request.listener = &h;
    }
    if (verb == VOUCH_JANUS_DO_MESSAGE || verb == VOUCH_JANUS_DO_REQUEST) {
        request.handle = handle;
        request.body = body;
    }
    cr_assert_eq(
        vouch_janus_call_async(janus, &request, NULL, janus_outcome_callback, outcome, NULL), 0);
    cJSON_Delete(body);
}

/* A session 5 with a handle 6. */
static void begin(const struct vouch_janus_options *set) {
    struct vouch_janus_options options = {VOUCH_OPTIONS(options)};
    struct janus_outcome outcome;
    if (set)
        options = *set;
    options.on_event = janus_seen_callback;
    options.on_end = on_end;
    options.context = &strays;
    memset(&strays, 0, sizeof(strays));
    memset(&of_session, 0, sizeof(of_session));
    memset(&of_handle, 0, sizeof(of_handle));
    ends = 0;
    janus_gateway_begin(&gateway);
    janus = janus_gateway_client(&gateway, &options);
    start(&outcome, VOUCH_JANUS_DO_CREATE);
    janus_gateway_expect(&gateway, "create",
                         "{'janus':'success','transaction':'%','data':{'id':5}}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    session = outcome.session;
    start(&outcome, VOUCH_JANUS_DO_ATTACH);
    janus_gateway_expect(&gateway, "attach",
                         "{'janus':'success','transaction':'%','session_id':5,'data':{'id':6}}",
                         NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    handle = outcome.handle;
    cr_assert_eq(vouch_janus_session_get_id(session), 5);
    cr_assert_eq(vouch_janus_handle_get_id(handle), 6);
}

static void end(void) {
    vouch_janus_handle_free(handle);
    vouch_janus_session_free(session);
    vouch_janus_free(janus);
    janus_gateway_close(&gateway);
    cr_assert_eq(ends, 1);
    json_memory_end();
    support_baseline_end();
}

/* ---- answers ---- */

Test(janus_dispatch, a_message_is_answered_by_its_event) {
    struct janus_outcome outcome;
    char t[64];
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_MESSAGE);
    janus_gateway_expect(&gateway, "message", "{'janus':'ack','transaction':'%'}", t);
    settle();
    cr_assert_eq(outcome.callbacks, 0);
    janus_gateway_say(&gateway, t,
                      "{'janus':'event','session_id':5,'sender':6,'transaction':'%',"
                      "'plugindata':{'plugin':'p','data':{'x':1}}}");
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.kind, VOUCH_JANUS_EVENT);
    cr_assert_str_eq(outcome.data, "{\"x\":1}");
    end();
}

Test(janus_dispatch, or_at_once) {
    struct janus_outcome outcome;
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_MESSAGE);
    janus_gateway_expect(&gateway, "message",
                         "{'janus':'success','transaction':'%','plugindata':{'data':{'y':2}}}",
                         NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.kind, VOUCH_JANUS_SUCCESS);
    cr_assert_str_eq(outcome.data, "{\"y\":2}");
    end();
}

Test(janus_dispatch, a_request_that_is_answered_later) {
    struct janus_outcome outcome;
    char t[64];
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_REQUEST);
    janus_gateway_expect(&gateway, "message", "{'janus':'ack','transaction':'%'}", t);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -EINPROGRESS);
    janus_gateway_say(&gateway, t, "{'janus':'event','session_id':5,'sender':6,'transaction':'%'}");
    janus_wait_for(janus, &of_handle.count, 1);
    cr_assert_eq(of_handle.events[0].kind, VOUCH_JANUS_EVENT);
    cr_assert_str_eq(of_handle.events[0].text, t);
    end();
}

/* The event overtakes the acknowledgement; both come twice. */
Test(janus_dispatch, an_acknowledgement_after_the_event) {
    struct janus_outcome outcome;
    char t[64];
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_MESSAGE);
    janus_gateway_expect(&gateway, "message",
                         "{'janus':'event','session_id':5,'sender':6,'transaction':'%'}", t);
    janus_gateway_say(&gateway, t, "{'janus':'ack','transaction':'%'}");
    janus_gateway_say(&gateway, t, "{'janus':'ack','transaction':'%'}");
    janus_gateway_say(&gateway, t, "{'janus':'event','session_id':5,'sender':6,'transaction':'%'}");
    settle();
    cr_assert_eq(outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(of_handle.count, 1);
    cr_assert_eq(stats().unknown_replies, 2);
    end();
}

Test(janus_dispatch, an_answer_of_another_kind) {
    static const char *const wrong[] = {"ack", "success", "server_info"};
    begin(NULL);
    for (size_t i = 0; i < 3; i++) {
        struct janus_outcome outcome;
        char text[128];
        snprintf(text, sizeof(text), "{'janus':'%s','transaction':'%%'}", wrong[i]);
        start(&outcome, VOUCH_JANUS_DO_PING);
        janus_gateway_expect(&gateway, "ping", text, NULL);
        janus_wait_for(janus, &outcome.callbacks, 1);
        cr_assert_eq(outcome.result, -EPROTO);
        cr_assert_str_eq(outcome.text, "an answer of another kind");
    }
    end();
}

Test(janus_dispatch, ids_that_cannot_be) {
    static const char *const ids[] = {"0", "-1", "9007199254740992", "'7'", "1.5", "null", "5"};
    begin(NULL);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct janus_outcome outcome;
        char text[128];
        snprintf(text, sizeof(text), "{'janus':'success','transaction':'%%','data':{'id':%s}}",
                 ids[i]);
        start(&outcome, VOUCH_JANUS_DO_CREATE);
        janus_gateway_expect(&gateway, "create", text, NULL);
        janus_wait_for(janus, &outcome.callbacks, 1);
        cr_assert_eq(outcome.result, -EPROTO, "%s", ids[i]);
        cr_assert_null(outcome.session);
    }
    struct janus_outcome outcome;
    start(&outcome, VOUCH_JANUS_DO_ATTACH);
    janus_gateway_expect(&gateway, "attach",
                         "{'janus':'success','transaction':'%','data':{'id':6}}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -EPROTO, "an id that is taken");
    start(&outcome, VOUCH_JANUS_DO_ATTACH);
    janus_gateway_expect(&gateway, "attach",
                         "{'janus':'success','transaction':'%','data':{'id':9007199254740991}}",
                         NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(vouch_janus_handle_get_id(outcome.handle), VOUCH_JANUS_ID_MAX);
    vouch_janus_handle_free(outcome.handle);
    end();
}

/* ---- events ---- */

Test(janus_dispatch, events_go_to_whom_they_are_for) {
    begin(NULL);
    say("{'janus':'webrtcup','session_id':5,'sender':6}");
    say("{'janus':'media','session_id':5,'sender':6,'type':'audio','receiving':true}");
    say("{'janus':'hangup','session_id':5,'sender':6,'reason':'ICE failed'}");
    say("{'janus':'new','session_id':5}");
    say("{'janus':'event','session_id':5,'sender':77}");
    say("{'janus':'event','session_id':78,'sender':6}");
    say("{'janus':'event','sender':6}");
    say("{'janus':'event','session_id':9007199254740992,'sender':6}");
    say("{'janus':'error','error':{'code':454,'reason':'not JSON'}}");
    settle();
    cr_assert_eq(of_handle.count, 3);
    cr_assert_eq(of_handle.events[0].kind, VOUCH_JANUS_WEBRTCUP);
    cr_assert_eq(of_handle.events[1].kind, VOUCH_JANUS_MEDIA);
    cr_assert_eq(of_handle.events[2].kind, VOUCH_JANUS_HANGUP);
    cr_assert_str_eq(of_handle.events[2].text, "ICE failed");
    cr_assert_eq(of_session.count, 1);
    cr_assert_eq(of_session.events[0].kind, VOUCH_JANUS_OTHER);
    cr_assert_eq(strays.count, 5);
    cr_assert_eq(strays.events[4].kind, VOUCH_JANUS_ERROR);
    cr_assert_eq(stats().unknown_senders, 5);
    end();
}

Test(janus_dispatch, events_of_a_handle_without_a_listener_are_its_sessions) {
    struct vouch_janus_handle *mute;
    begin(NULL);
    cr_assert_eq(vouch_janus_handle_of(session, 7, NULL, &mute), 0);
    say("{'janus':'webrtcup','session_id':5,'sender':7}");
    settle();
    cr_assert_eq(of_session.count, 1);
    cr_assert_eq(of_session.events[0].handle_id, 7);
    vouch_janus_handle_free(mute);
    say("{'janus':'webrtcup','session_id':5,'sender':7}");
    settle();
    cr_assert_eq(of_session.count, 1);
    cr_assert_eq(strays.count, 1);
    end();
}

/* Told right behind the answer that makes the handle. */
/* What the program has let go of has no listener, and its session's is not for it either, though a
 * call of it is under way. */
Test(janus_dispatch, events_of_a_handle_that_was_freed) {
    struct janus_outcome outcome;
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_MESSAGE);
    vouch_janus_handle_free(handle);
    handle = NULL;
    say("{'janus':'webrtcup','session_id':5,'sender':6}");
    janus_gateway_expect(&gateway, "message", "{'janus':'ack','transaction':'%'}", NULL);
    settle();
    cr_assert_eq(of_session.count, 0);
    cr_assert_eq(of_handle.count, 0);
    cr_assert_eq(strays.count, 0);
    end();
    cr_assert_eq(outcome.result, -ESHUTDOWN);
}

Test(janus_dispatch, events_of_a_handle_that_is_just_made) {
    struct janus_outcome outcome;
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_ATTACH);
    janus_gateway_expect(&gateway, "attach",
                         "{'janus':'success','transaction':'%','data':{'id':8}}", NULL);
    say("{'janus':'webrtcup','session_id':5,'sender':8}");
    settle();
    cr_assert_eq(outcome.callbacks, 1);
    cr_assert_eq(of_handle.count, 1);
    cr_assert_eq(of_handle.events[0].handle_id, 8);
    vouch_janus_handle_free(outcome.handle);
    end();
}

/* ---- floods ---- */

Test(janus_dispatch, as_many_events_as_the_limit) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .max_events = 10};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct janus_outcome outcome = {0};
    begin(&options);
    for (int i = 0; i < 10; i++)
        say("{'janus':'webrtcup','session_id':5,'sender':6}");
    settle();
    cr_assert_eq(stats().events_dropped, 0);
    cr_assert_eq(of_handle.count, 10);
    for (int i = 0; i < 11; i++)
        say("{'janus':'webrtcup','session_id':5,'sender':6}");
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(stats().events_dropped, 1);
    cr_assert_eq(of_handle.count, 20);
    cr_assert_eq(stats().events_waiting, 0);
    end();
}

Test(janus_dispatch, as_many_bytes_of_events_as_the_limit) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .event_bytes = 20000};
    char text[512] = "{'janus':'event','session_id':5,'sender':6,'a':[0";
    begin(&options);
    for (int i = 0; i < 100; i++) /* 64 bytes and more each as a tree */
        strcat(text, ",0");
    strcat(text, "]}");
    for (int i = 0; i < 10; i++)
        say(text);
    settle();
    cr_assert_gt(of_handle.count, 0);
    cr_assert_lt(of_handle.count, 4);
    cr_assert_eq(stats().events_dropped, 10 - of_handle.count);
    end();
}

Test(janus_dispatch, as_many_bytes_of_answers_as_the_limit) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .event_bytes = 20000};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct janus_outcome outcomes[10] = {{0}};
    char text[512] = "{'janus':'pong','transaction':'%','a':[0";
    int refused = 0;
    begin(&options);
    for (int i = 0; i < 100; i++) /* 64 bytes and more each as a tree */
        strcat(text, ",0");
    strcat(text, "]}");
    for (int round = 0; round < 2; round++) { /* what has been told takes no room any more */
        for (int i = 0; i < 10; i++) {
            outcomes[i] = (struct janus_outcome){0};
            cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback,
                                                &outcomes[i], NULL),
                         0);
            janus_gateway_expect(&gateway, "ping", text, NULL);
        }
        refused = 0;
        for (int i = 0; i < 10; i++) { /* all have come before the first is told */
            janus_wait_for(janus, &outcomes[i].callbacks, 1);
            cr_assert(outcomes[i].result == 0 || outcomes[i].result == -ENOBUFS);
            refused += outcomes[i].result == -ENOBUFS;
        }
        cr_assert(refused > 6 && refused < 10, "%d", refused);
    }
    end();
}

/* Answers to nothing, without anybody who listens. */
Test(janus_dispatch, a_flood_of_answers) {
    begin(NULL);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 10; i++)
            janus_gateway_say(&gateway, "0123456789abcdef0123456789abcdef",
                              "{'janus':'success','transaction':'%'}");
        janus_gateway_say(&gateway, "short", "{'janus':'ack','transaction':'%'}");
        janus_gateway_say(&gateway, "0123456789ABCDEF0123456789abcdeg",
                          "{'janus':'ack','transaction':'%'}");
        settle();
    }
    cr_assert_eq(stats().unknown_replies, 240);
    cr_assert_eq(of_handle.count + of_session.count + strays.count, 0);
    end();
}

/* ---- nonsense ---- */

static void ends_with(const char *text, size_t size, const char *message) {
    struct janus_outcome outcome;
    struct vouch_error error = {.code = 0};
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_PING);
    janus_gateway_say_bytes(&gateway, text, size);
    janus_wait_for(janus, &ends, 1);
    cr_assert_eq(end_result, -EPROTO);
    cr_assert_eq(outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -EPROTO);
    cr_assert_str_eq(outcome.text, message, "%s", outcome.text);
    cr_assert_eq(vouch_janus_ping(janus, NULL, &error), -EPROTO);
    cr_assert_str_eq(error.message, message);
    end();
}

Test(janus_dispatch, nonsense_ends_the_connection) {
    ends_with("{\"janus\":\"ack\",}", 16, "JSON: at byte 15: no key where one has to be");
}

Test(janus_dispatch, nonsense_without_janus) {
    ends_with("{\"a\":1}", 7, "a message without \"janus\"");
}

/* Not everywhere it can be told from the end. */
Test(janus_dispatch, an_empty_packet) {
    begin(NULL);
    janus_gateway_say_bytes(&gateway, "", 0);
    janus_wait_for(janus, &ends, 1);
    cr_assert(end_result == -EPROTO || end_result == -ECONNRESET, "%d", end_result);
    end();
}

Test(janus_dispatch, without_memory) {
    begin(NULL);
    say("{'janus':'webrtcup','session_id':5,'sender':6}");
    json_memory_fail(2);
    while (stats().messages < 3)
        (void)vouch_janus_process(janus);
    json_memory_fail(0);
    cr_assert_eq(stats().events_dropped, 1);
    settle();
    cr_assert_eq(of_handle.count, 0);
    end();
}

/* ---- what ends ---- */

Test(janus_dispatch, a_session_times_out) {
    struct janus_outcome outcome;
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_MESSAGE);
    janus_gateway_expect(&gateway, "message", "{'janus':'ack','transaction':'%'}", NULL);
    say("{'janus':'timeout','session_id':5}");
    janus_wait_for(janus, &of_session.count, 1);
    cr_assert_eq(of_session.events[0].kind, VOUCH_JANUS_TIMEOUT);
    cr_assert_eq(outcome.result, -ESTALE);
    cr_assert_str_eq(outcome.text, "the session has timed out");
    cr_assert_eq(vouch_janus_session_get_state(session), -ESTALE);
    cr_assert_eq(vouch_janus_handle_get_state(handle), -ESTALE);
    cr_assert_eq(vouch_janus_keepalive(session, NULL, NULL), -ESTALE);
    say("{'janus':'timeout','session_id':99}");
    settle();
    end();
}

Test(janus_dispatch, a_handle_is_detached_by_the_gateway) {
    struct janus_outcome outcome;
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_MESSAGE);
    janus_gateway_expect(&gateway, "message", "{'janus':'detached','session_id':5,'sender':6}",
                         NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -ESTALE);
    cr_assert_eq(vouch_janus_handle_get_state(handle), -ESTALE);
    cr_assert_eq(vouch_janus_session_get_state(session), 0);
    janus_wait_for(janus, &of_handle.count, 1);
    end();
}

/* It is told before the answer is, by another thread of the gateway's. */
Test(janus_dispatch, the_end_that_was_asked_for_is_told_first) {
    const struct vouch_janus_request detach = {.verb = VOUCH_JANUS_DO_DETACH, .handle = handle};
    struct vouch_janus_request request = detach;
    struct janus_outcome outcome = {0};
    char t[64];
    begin(NULL);
    request.handle = handle;
    cr_assert_eq(
        vouch_janus_call_async(janus, &request, NULL, janus_outcome_callback, &outcome, NULL), 0);
    janus_gateway_expect(&gateway, "detach", "{'janus':'detached','session_id':5,'sender':6}", t);
    janus_gateway_say(&gateway, t, "{'janus':'success','transaction':'%'}");
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    end();
}

Test(janus_dispatch, an_answer_says_that_it_is_gone) {
    struct janus_outcome outcome;
    begin(NULL);
    start(&outcome, VOUCH_JANUS_DO_MESSAGE);
    janus_gateway_expect(&gateway, "message",
                         "{'janus':'error','transaction':'%','error':{'code':459}}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, VOUCH_JANUS_ERROR_HANDLE_NOT_FOUND);
    cr_assert_eq(vouch_janus_handle_get_state(handle), -ESTALE);
    cr_assert_eq(vouch_janus_session_get_state(session), 0);
    start(&outcome, VOUCH_JANUS_DO_ATTACH);
    janus_gateway_expect(&gateway, "attach",
                         "{'janus':'error','transaction':'%','error':{'code':458}}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(vouch_janus_session_get_state(session), -ESTALE);
    end();
}
