/* SPDX-License-Identifier: MIT */
/* Calls that wait, each of them, with a gateway that answers. */
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
