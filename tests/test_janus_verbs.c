/* SPDX-License-Identifier: MIT */
/* Calls, each of them: with a gateway that answers, and the ways in which they end with one that
 * does not. */
#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;
static struct vouch_janus *janus;
static struct vouch_janus_session *session;
static struct vouch_janus_handle *handle;

static void begin(void) {
    janus_gateway_begin(&gateway);
    janus_gateway_answer(&gateway);
    janus = janus_gateway_client(&gateway, NULL);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, NULL), 0);
    cr_assert_eq(vouch_janus_attach(session, "p", NULL, NULL, &handle, NULL), 0);
}

static void end(void) {
    vouch_janus_handle_free(handle);
    vouch_janus_session_free(session);
    vouch_janus_free(janus);
    janus_gateway_end(&gateway);
}

Test(janus_verbs, each) {
    struct vouch_janus_message *reply;
    struct vouch_janus_session *claimed;
    struct vouch_error error;
    begin();
    cJSON *body = json_tree("{\"x\":9007199254740993}"), *sync = json_tree("{\"sync\":true}"),
          *list = json_tree("[{}]");
    cr_assert_eq(vouch_janus_session_get_id(session), 11);
    cr_assert_eq(vouch_janus_handle_get_id(handle), 12);
    cr_assert_eq(vouch_janus_info(janus, NULL, &reply, &error), 0);
    cr_assert_eq(reply->kind, VOUCH_JANUS_SERVER_INFO);
    vouch_janus_message_free(reply);
    cr_assert_eq(vouch_janus_info(janus, NULL, NULL, NULL), 0);
    cr_assert_eq(vouch_janus_ping(janus, NULL, &error), 0);
    cr_assert_eq(vouch_janus_keepalive(session, NULL, &error), 0);
    cr_assert_eq(vouch_janus_claim(janus, 99, NULL, NULL, &claimed, &error), 0);
    cr_assert_eq(vouch_janus_session_get_id(claimed), 99);
    vouch_janus_session_free(claimed);
    cr_assert_eq(vouch_janus_claim(janus, 11, NULL, NULL, &claimed, &error), -EEXIST);
    cr_assert_eq(vouch_janus_claim(janus, 0, NULL, NULL, &claimed, &error), -EINVAL);

    cr_assert_eq(vouch_janus_send_message(handle, body, NULL, NULL, &reply, &error), 0);
    cr_assert_eq(reply->kind, VOUCH_JANUS_EVENT);
    json_check_print(reply->data, "{\"x\":9007199254740993}");
    vouch_janus_message_free(reply);
    cr_assert_eq(vouch_janus_send_message(handle, sync, body, NULL, &reply, &error), 0);
    cr_assert_eq(reply->kind, VOUCH_JANUS_SUCCESS);
    vouch_janus_message_free(reply);
    cr_assert_eq(vouch_janus_send_request(handle, sync, NULL, NULL, &reply, &error), 0);
    vouch_janus_message_free(reply);
    reply = (void *)&error;
    cr_assert_eq(vouch_janus_send_request(handle, body, NULL, NULL, &reply, &error), -EINPROGRESS);
    cr_assert_null(reply);
    cr_assert_eq(vouch_janus_trickle(handle, body, NULL, &error), 0);
    cr_assert_eq(vouch_janus_trickle(handle, list, NULL, &error), -EINVAL);
    cr_assert_eq(vouch_janus_trickle(handle, NULL, NULL, &error), -EINVAL);
    cr_assert_eq(vouch_janus_trickle_many(handle, list, NULL, &error), 0);
    cr_assert_eq(vouch_janus_trickle_many(handle, body, NULL, &error), -EINVAL);
    cr_assert_eq(vouch_janus_trickle_completed(handle, NULL, &error), 0);
    cr_assert_eq(vouch_janus_hangup(handle, NULL, &error), 0);
    cr_assert_eq(vouch_janus_detach(handle, NULL, &error), 0);
    cr_assert_eq(vouch_janus_detach(handle, NULL, &error), -ESTALE);
    cr_assert_eq(vouch_janus_destroy(session, NULL, &error), 0);
    cr_assert_eq(vouch_janus_destroy(session, NULL, &error), -ESTALE);
    cJSON_Delete(body);
    cJSON_Delete(sync);
    cJSON_Delete(list);
    end();
}

/* What is made and not wanted goes again. */
Test(janus_verbs, without_a_reply) {
    const struct vouch_janus_request create = {.verb = VOUCH_JANUS_DO_CREATE};
    struct vouch_janus_reply reply;
    begin();
    cr_assert_eq(vouch_janus_call(janus, &create, NULL, NULL, NULL), 0);
    cr_assert_eq(vouch_janus_call(janus, &create, NULL, &reply, NULL), 0);
    cr_assert_not_null(reply.session);
    cr_assert_null(reply.handle);
    vouch_janus_session_free(reply.session);
    vouch_janus_message_free(reply.message);
    end();
}

static void calls_back(void *context, int result, const struct vouch_janus_reply *reply,
                       const struct vouch_error *error) {
    struct janus_outcome *outcome = context;
    struct vouch_error own;
    (void)reply;
    (void)error;
    cr_assert_eq(result, 0);
    cr_assert_eq(vouch_janus_ping(janus, NULL, &own), -EDEADLK);
    cr_assert_eq(own.code, -EDEADLK);
    cr_assert_eq(vouch_janus_wait(janus, 0), -EDEADLK);
    cr_assert_eq(vouch_janus_process(janus), -EDEADLK);
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, outcome, NULL),
                 0);
}

Test(janus_verbs, from_a_callback) {
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct janus_outcome outcome = {0};
    begin();
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, calls_back, &outcome, NULL), 0);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    end();
}

Test(janus_verbs, of_another_connection) {
    struct vouch_error error;
    begin();
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_KEEPALIVE,
                                                .session = session};
    const char *address = gateway.address;
    struct vouch_janus *other;
    cr_assert_eq(vouch_janus_connect(&address, 1, NULL, &other, NULL), 0); /* in the backlog */
    cr_assert_eq(vouch_janus_call(other, &request, NULL, NULL, &error), -EINVAL);
    cr_assert_str_eq(error.message, "the session is of another connection");
    vouch_janus_free(other);
    end();
}

/* ---- a gateway that does not answer ---- */

static cJSON *object, *array;

static int info(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_info(janus, options, NULL, error);
}
static int send_ping(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_ping(janus, options, error);
}
static int create(const struct vouch_call_options *options, struct vouch_error *error) {
    struct vouch_janus_session *made;
    return vouch_janus_create(janus, NULL, options, &made, error);
}
static int claim(const struct vouch_call_options *options, struct vouch_error *error) {
    struct vouch_janus_session *made;
    return vouch_janus_claim(janus, 99, NULL, options, &made, error);
}
static int attach(const struct vouch_call_options *options, struct vouch_error *error) {
    struct vouch_janus_handle *made;
    return vouch_janus_attach(session, "p", NULL, options, &made, error);
}
static int keepalive(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_keepalive(session, options, error);
}
static int destroy(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_destroy(session, options, error);
}
static int message(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_send_message(handle, object, NULL, options, NULL, error);
}
static int ask(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_send_request(handle, object, NULL, options, NULL, error);
}
static int trickle(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_trickle(handle, object, options, error);
}
static int trickle_many(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_trickle_many(handle, array, options, error);
}
static int trickle_completed(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_trickle_completed(handle, options, error);
}
static int hang_up(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_hangup(handle, options, error);
}
static int detach(const struct vouch_call_options *options, struct vouch_error *error) {
    return vouch_janus_detach(handle, options, error);
}

enum about { CONNECTION, SESSION, HANDLE };

static const struct verb {
    int (*call)(const struct vouch_call_options *options, struct vouch_error *error);
    enum vouch_janus_verb verb;
    const char *name; /* as it is sent */
    enum about about;
} verbs[] = {
    {info, VOUCH_JANUS_DO_INFO, "info", CONNECTION},
    {send_ping, VOUCH_JANUS_DO_PING, "ping", CONNECTION},
    {create, VOUCH_JANUS_DO_CREATE, "create", CONNECTION},
    {claim, VOUCH_JANUS_DO_CLAIM, "claim", CONNECTION},
    {attach, VOUCH_JANUS_DO_ATTACH, "attach", SESSION},
    {keepalive, VOUCH_JANUS_DO_KEEPALIVE, "keepalive", SESSION},
    {message, VOUCH_JANUS_DO_MESSAGE, "message", HANDLE},
    {ask, VOUCH_JANUS_DO_REQUEST, "message", HANDLE},
    {trickle, VOUCH_JANUS_DO_TRICKLE, "trickle", HANDLE},
    {trickle_many, VOUCH_JANUS_DO_TRICKLE, "trickle", HANDLE},
    {trickle_completed, VOUCH_JANUS_DO_TRICKLE, "trickle", HANDLE},
    {hang_up, VOUCH_JANUS_DO_HANGUP, "hangup", HANDLE},
    {detach, VOUCH_JANUS_DO_DETACH, "detach", HANDLE},
    {destroy, VOUCH_JANUS_DO_DESTROY, "destroy", SESSION},
};
enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void mute_begin(void) {
    const struct vouch_janus_options silent = {VOUCH_OPTIONS(silent),
                                               .keepalive_interval = VOUCH_FOREVER};
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_CREATE};
    struct janus_outcome outcome = {0};
    janus_gateway_begin(&gateway);
    object = json_tree("{}");
    array = json_tree("[]");
    janus = janus_gateway_client(&gateway, &silent);
    cr_assert_eq(
        vouch_janus_call_async(janus, &request, NULL, janus_outcome_callback, &outcome, NULL), 0);
    janus_gateway_expect(&gateway, "create",
                         "{'janus':'success','transaction':'%','data':{'id':11}}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    session = outcome.session;
    cr_assert_eq(vouch_janus_handle_of(session, 12, NULL, &handle), 0);
}

static void mute_end(void) {
    cJSON_Delete(object);
    cJSON_Delete(array);
    end();
}

/* A detach or destroy that was begun has done it, however it ends. */
static void check_state(const struct verb *verb) {
    bool destroyed = verb->verb == VOUCH_JANUS_DO_DESTROY;
    bool detached = destroyed || verb->verb == VOUCH_JANUS_DO_DETACH;
    cr_assert_eq(vouch_janus_session_get_state(session), destroyed ? -ESTALE : 0, "%s", verb->name);
    cr_assert_eq(vouch_janus_handle_get_state(handle), detached ? -ESTALE : 0, "%s", verb->name);
}

Test(janus_verbs, a_deadline_that_has_passed) {
    const struct vouch_call_options passed = {VOUCH_OPTIONS(passed), .deadline = 1};
    struct vouch_error error;
    mute_begin();
    for (int i = 0; i < VERBS; i++) {
        cr_assert_eq(verbs[i].call(&passed, &error), -ETIMEDOUT, "%s", verbs[i].name);
        cr_assert_str_eq(error.message, "the deadline has passed");
    }
    cr_assert_eq(vouch_janus_session_get_state(session), 0);
    cr_assert_eq(vouch_janus_handle_get_state(handle), 0);
    mute_end();
}

Test(janus_verbs, a_timeout) {
    const struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    struct vouch_error error;
    for (int i = 0; i < VERBS; i++) {
        mute_begin();
        cr_assert_eq(verbs[i].call(&soon, &error), -ETIMEDOUT, "%s", verbs[i].name);
        cr_assert_str_eq(error.message, "no answer before the deadline");
        janus_gateway_expect(&gateway, verbs[i].name, NULL, NULL);
        check_state(&verbs[i]);
        mute_end();
    }
}

static void *calls_tagged(void *context) {
    const struct verb *verb = context;
    const struct vouch_call_options tagged = {VOUCH_OPTIONS(tagged), .timeout = VOUCH_FOREVER,
                                              .tag = 7};
    return (void *)(intptr_t)verb->call(&tagged, NULL);
}

Test(janus_verbs, cancelled_by_another_thread) {
    for (int i = 0; i < VERBS; i++) {
        mute_begin();
        pthread_t thread = support_thread_start(calls_tagged, (void *)&verbs[i]);
        janus_gateway_expect(&gateway, verbs[i].name, NULL, NULL);
        cr_assert_eq(vouch_janus_cancel(janus, 7), 1, "%s", verbs[i].name);
        cr_assert_eq((intptr_t)support_thread_join(thread), -ECANCELED, "%s", verbs[i].name);
        check_state(&verbs[i]);
        mute_end();
    }
}

static int begin_call(const struct verb *verb, const struct vouch_call_options *options,
                      struct janus_outcome *outcome, uint64_t *ret_id) {
    bool talks = verb->verb == VOUCH_JANUS_DO_MESSAGE || verb->verb == VOUCH_JANUS_DO_REQUEST;
    const struct vouch_janus_request request = {
        VOUCH_OPTIONS(request),
        .verb = verb->verb,
        .session = verb->about == SESSION ? session : NULL,
        .handle = verb->about == HANDLE ? handle : NULL,
        .id = verb->verb == VOUCH_JANUS_DO_CLAIM ? 99 : 0,
        .plugin = verb->verb == VOUCH_JANUS_DO_ATTACH ? "p" : NULL,
        .body = talks ? object : NULL,
        .candidate = verb->call == trickle        ? object
                     : verb->call == trickle_many ? array
                                                  : NULL,
    };
    *outcome = (struct janus_outcome){0};
    return vouch_janus_call_async(janus, &request, options, janus_outcome_callback, outcome,
                                  ret_id);
}

Test(janus_verbs, without_waiting_a_timeout) {
    const struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    struct janus_outcome outcome;
    for (int i = 0; i < VERBS; i++) {
        mute_begin();
        cr_assert_eq(begin_call(&verbs[i], &soon, &outcome, NULL), 0, "%s", verbs[i].name);
        janus_wait_for(janus, &outcome.callbacks, 1);
        cr_assert_eq(outcome.result, -ETIMEDOUT, "%s", verbs[i].name);
        check_state(&verbs[i]);
        mute_end();
        cr_assert_eq(outcome.callbacks, 1);
    }
}

Test(janus_verbs, without_waiting_cancelled) {
    struct janus_outcome outcome;
    uint64_t id;
    for (int i = 0; i < VERBS; i++) {
        mute_begin();
        cr_assert_eq(begin_call(&verbs[i], NULL, &outcome, &id), 0, "%s", verbs[i].name);
        cr_assert_eq(vouch_janus_cancel_id(janus, id), 0, "%s", verbs[i].name);
        cr_assert_eq(vouch_janus_cancel_id(janus, id), -ENOENT);
        janus_wait_for(janus, &outcome.callbacks, 1);
        cr_assert_eq(outcome.result, -ECANCELED, "%s", verbs[i].name);
        check_state(&verbs[i]);
        mute_end();
        cr_assert_eq(outcome.callbacks, 1);
    }
}

/* All of them are told the cause, those of a session that was being destroyed as well. */
Test(janus_verbs, the_end_of_the_connection) {
    struct janus_outcome outcomes[VERBS];
    mute_begin();
    for (int i = 0; i < VERBS; i++)
        cr_assert_eq(begin_call(&verbs[i], NULL, &outcomes[i], NULL), 0, "%s", verbs[i].name);
    for (int i = 0; i < VERBS; i++)
        janus_gateway_expect(&gateway, verbs[i].name, NULL, NULL);
    janus_gateway_hang_up(&gateway);
    for (int i = 0; i < VERBS; i++)
        janus_wait_for(janus, &outcomes[i].callbacks, 1);
    for (int i = 0; i < VERBS; i++) {
        cr_assert_eq(outcomes[i].result, -ECONNRESET, "%s: %s", verbs[i].name, outcomes[i].text);
        cr_assert_str_eq(outcomes[i].text, "the gateway has closed the connection");
    }
    mute_end();
    for (int i = 0; i < VERBS; i++)
        cr_assert_eq(outcomes[i].callbacks, 1);
}

/* What was given up may still be made there: nobody here takes it for what he asked for later. */
Test(janus_verbs, an_answer_to_what_was_given_up) {
    struct janus_outcome outcome, next;
    struct vouch_janus_stats stats;
    char transaction[64];
    uint64_t id;
    mute_begin();
    cr_assert_eq(begin_call(&verbs[2], NULL, &outcome, &id), 0);
    janus_gateway_expect(&gateway, "create", NULL, transaction);
    cr_assert_eq(vouch_janus_cancel_id(janus, id), 0);
    cr_assert_eq(begin_call(&verbs[2], NULL, &next, NULL), 0);
    janus_gateway_say(&gateway, transaction,
                      "{'janus':'success','transaction':'%','data':{'id':21}}");
    janus_gateway_expect(&gateway, "create",
                         "{'janus':'success','transaction':'%','data':{'id':22}}", NULL);
    janus_wait_for(janus, &next.callbacks, 1);
    cr_assert_eq(outcome.result, -ECANCELED);
    cr_assert_eq(next.id, 22);
    vouch_janus_session_free(next.session);
    vouch_janus_get_stats(janus, &stats);
    cr_assert_eq(stats.unknown_replies, 1);
    mute_end();
}
