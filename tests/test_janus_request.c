/* SPDX-License-Identifier: MIT */
/* Requests: what each verb needs, and what is sent. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/janus_message.h"
#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/support.h"

/* Only whether they are NULL matters here. */
static char some[2];
#define SESSION ((struct vouch_janus_session *)(void *)&some[0])
#define HANDLE ((struct vouch_janus_handle *)(void *)&some[1])

static struct vouch_pool *pool;
static cJSON *body, *jsep, *list;

static void begin(void) {
    support_baseline_begin();
    json_memory_begin();
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    body = json_tree("{\"a\":9007199254740991}");
    jsep = json_tree("{\"type\":\"offer\"}");
    list = json_tree("[{\"sdpMid\":\"0\"}]");
}

static void end(void) {
    cJSON_Delete(body);
    cJSON_Delete(jsep);
    cJSON_Delete(list);
    vouch_pool_unref(pool);
    json_memory_end();
    support_baseline_end();
}

static void check(const struct vouch_janus_request *r, int result, const char *message) {
    struct vouch_error error = {.code = 0};
    cr_assert_eq(janus_request_check(r, &error), result, "%s", error.message);
    if (result < 0) {
        cr_assert_eq(error.code, result);
        cr_assert_str_eq(error.message, message);
    }
}

Test(janus_request, what_is_missing_or_too_much) {
    const struct vouch_janus_listener listener = {0};
    begin();
    check(&(struct vouch_janus_request){.verb = 0}, -EINVAL, "there is no verb 0");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_DETACH + 1}, -EINVAL,
          "there is no verb 13");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_INFO}, 0, NULL);
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_INFO, .session = SESSION}, -EINVAL,
          "info: a session does not belong there");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_PING, .listener = &listener},
          -EINVAL, "ping: a listener does not belong there");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_CREATE, .listener = &listener}, 0,
          NULL);
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_CREATE, .keepalive_interval = -1},
          -EINVAL, "create: the interval is negative");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_CLAIM}, -EINVAL,
          "claim: there is no id");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_CLAIM, .id = VOUCH_JANUS_ID_MAX}, 0,
          NULL);
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_CLAIM, .id = VOUCH_JANUS_ID_MAX + 1},
          -EINVAL, "claim: the id is over 2^53 - 1");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_ATTACH, .plugin = "p"}, -EINVAL,
          "attach: there is no session");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_ATTACH, .session = SESSION}, -EINVAL,
          "attach: there is no plugin");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_KEEPALIVE, .handle = HANDLE},
          -EINVAL, "keepalive: there is no session");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_MESSAGE, .handle = HANDLE}, -EINVAL,
          "message: there is no body");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_REQUEST, .body = body}, -EINVAL,
          "message: there is no handle");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_MESSAGE,
                                        .handle = HANDLE,
                                        .body = list},
          -EINVAL, "message: the body is not an object");
    check(
        &(struct vouch_janus_request){
            .verb = VOUCH_JANUS_DO_MESSAGE, .handle = HANDLE, .body = body, .jsep = list},
        -EINVAL, "message: the jsep is not an object");
    cJSON *text = json_tree("\"x\"");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_TRICKLE,
                                        .handle = HANDLE,
                                        .candidate = text},
          -EINVAL, "trickle: the candidate is no object or array");
    check(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_PING, .more = text}, -EINVAL,
          "ping: what is to be added is not an object");
    cJSON_Delete(text);
    end();
}

static void print(const struct vouch_janus_request *r, const struct janus_request_head *head,
                  const char *expected) {
    struct vouch_buffer *text;
    struct vouch_error error = {.code = 0};
    check(r, 0, NULL);
    cr_assert_eq(janus_request_print(r, head, pool, 32, 4096, &text, &error), 0, "%s",
                 error.message);
    cr_assert_geq(vouch_buffer_headroom(text), 32);
    cr_assert_eq(text->size, strlen(expected));
    cr_assert_arr_eq(text->data, expected, text->size);
    vouch_buffer_unref(text);
}

Test(janus_request, what_is_sent) {
    const struct janus_request_head plain = {.transaction = "t"},
                                    in_session = {.transaction = "t",
                                                  .session_id = VOUCH_JANUS_ID_MAX},
                                    in_handle = {.transaction = "t",
                                                 .session_id = 1000000000000000,
                                                 .handle_id = 9007199254740990},
                                    secret = {.transaction = "t", .api_secret = "s", .token = "k"};
    begin();
    print(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_PING}, &plain,
          "{\"janus\":\"ping\",\"transaction\":\"t\"}");
    print(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_CREATE}, &secret,
          "{\"janus\":\"create\",\"transaction\":\"t\",\"apisecret\":\"s\",\"token\":\"k\"}");
    print(
        &(struct vouch_janus_request){
            .verb = VOUCH_JANUS_DO_ATTACH, .session = SESSION, .plugin = "p", .more = body},
        &in_session,
        "{\"janus\":\"attach\",\"transaction\":\"t\",\"session_id\":9007199254740991,"
        "\"plugin\":\"p\",\"a\":9007199254740991}");
    print(
        &(struct vouch_janus_request){
            .verb = VOUCH_JANUS_DO_REQUEST, .handle = HANDLE, .body = body, .jsep = jsep},
        &in_handle,
        "{\"janus\":\"message\",\"transaction\":\"t\",\"session_id\":1000000000000000,"
        "\"handle_id\":9007199254740990,\"body\":{\"a\":9007199254740991},"
        "\"jsep\":{\"type\":\"offer\"}}");
    print(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_TRICKLE, .handle = HANDLE}, &plain,
          "{\"janus\":\"trickle\",\"transaction\":\"t\",\"candidate\":{\"completed\":true}}");
    print(
        &(struct vouch_janus_request){
            .verb = VOUCH_JANUS_DO_TRICKLE, .handle = HANDLE, .candidate = jsep},
        &plain, "{\"janus\":\"trickle\",\"transaction\":\"t\",\"candidate\":{\"type\":\"offer\"}}");
    print(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_TRICKLE,
                                        .handle = HANDLE,
                                        .candidate = list},
          &plain,
          "{\"janus\":\"trickle\",\"transaction\":\"t\",\"candidates\":[{\"sdpMid\":\"0\"}]}");
    json_check_print(body, "{\"a\":9007199254740991}"); /* as it was */
    end();
}

static void fail(const struct vouch_janus_request *r, size_t max_size, int result,
                 const char *message) {
    const struct janus_request_head head = {.transaction = "t"};
    struct vouch_buffer *text;
    struct vouch_error error = {.code = 0};
    cr_assert_eq(janus_request_print(r, &head, pool, 0, max_size, &text, &error), result);
    cr_assert_eq(error.code, result);
    cr_assert_str_eq(error.message, message);
}

Test(janus_request, what_cannot_be_sent) {
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    const struct janus_request_head head = {.transaction = "t"};
    struct vouch_buffer *text;
    begin();
    cJSON *bad = cJSON_CreateObject(), *twice = json_tree("{\"transaction\":\"mine\"}");
    cJSON_AddStringToObject(bad, "a", "\xff");
    const char *not_json = "ping: what is to be sent is not JSON, or has a name twice";
    fail(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_PING, .more = bad}, 100, -EINVAL,
         not_json);
    fail(&(struct vouch_janus_request){.verb = VOUCH_JANUS_DO_PING, .more = twice}, 100, -EINVAL,
         not_json);
    cr_assert_eq(janus_request_print(&ping, &head, pool, 0, 34, &text, NULL), 0);
    cr_assert_eq(text->size, 34);
    vouch_buffer_unref(text);
    fail(&ping, 33, -EMSGSIZE, "ping: the request is larger than 33 bytes");
    cJSON_Delete(bad);
    cJSON_Delete(twice);
    end();
}

Test(janus_request, without_memory) {
    const struct janus_request_head head = {.transaction = "t", .api_secret = "s", .session_id = 1};
    struct vouch_buffer *text;
    begin();
    const struct vouch_janus_request r = {
        .verb = VOUCH_JANUS_DO_MESSAGE, .handle = HANDLE, .body = body, .jsep = jsep, .more = body};
    for (uint64_t call = 1;; call++) {
        json_memory_fail(call);
        int result = janus_request_print(&r, &head, pool, 0, 4096, &text, NULL);
        if (result == 0) {
            cr_assert_gt(call, 8);
            vouch_buffer_unref(text);
            break;
        }
        cr_assert_eq(result, -ENOMEM);
    }
    json_memory_fail(0);
    end();
}
