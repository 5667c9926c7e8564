/* SPDX-License-Identifier: MIT */
/* JSON calls: handlers of trees and of text, what is refused on either side, what was recorded. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static struct vouch_client *client;

/* ---- methods ---- */

static int echo(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    (void)context;
    (void)call;
    *ret_reply = cJSON_Duplicate(request, true);
    return *ret_reply ? 0 : -ENOMEM;
}

static int sum(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    const cJSON *ints = cJSON_GetObjectItemCaseSensitive(request, "Ints"), *one;
    int64_t total = 0, value;
    (void)context;
    if (!ints)
        return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "there are no 'Ints'");
    cJSON_ArrayForEach(one, ints) {
        if (vouch_json_get_int64(one, &value) < 0 || __builtin_add_overflow(total, value, &total))
            return VOUCH_REMOTE_BAD_DATA;
    }
    *ret_reply = cJSON_CreateObject();
    return vouch_json_add_int64(*ret_reply, "Sum", total);
}

/* What the request says: the number returned, with a reply or without. */
static int result_of(void *context, struct vouch_call *call, const cJSON *request,
                     cJSON **ret_reply) {
    (void)context;
    (void)call;
    if (cJSON_IsArray(request))
        *ret_reply = cJSON_CreateNull();
    return cJSON_IsArray(request) ? cJSON_GetArrayItem(request, 0)->valueint : request->valueint;
}

static int bad_reply(void *context, struct vouch_call *call, const cJSON *request,
                     cJSON **ret_reply) {
    (void)context;
    (void)call;
    (void)request;
    *ret_reply = cJSON_CreateString("\xff");
    return 0;
}

static int replies(void *context, struct vouch_call *call, const cJSON *request,
                   cJSON **ret_reply) {
    (void)context;
    cr_assert_eq(vouch_json_reply(call, request), 0);
    cr_assert_eq(vouch_json_reply(call, request), -EALREADY);
    *ret_reply = cJSON_CreateString("too late");
    return 0;
}

static int keep(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    (void)context;
    (void)request;
    (void)ret_reply;
    vouch_call_keep(call);
    stage.kept[stage.kept_count] = call;
    stage.kept_count++;
    rpc_latch_raise(&stage.entered);
    return 0;
}

static int text_echo(void *context, struct vouch_call *call, const char *text, size_t size) {
    (void)context;
    return vouch_call_reply(call, text, size);
}

static void add(const struct vouch_json_method *method) {
    cr_assert_eq(vouch_json_add_method(stage.server, method), 0);
}

static void open_with(const struct vouch_server_options *server,
                      const struct vouch_client_options *options) {
    support_baseline_begin();
    json_memory_begin();
    rpc_stage_init(&stage, server);
    add(&(struct vouch_json_method){.name = "/echo", .handler = echo, .flags = VOUCH_METHOD_QUICK});
    add(&(struct vouch_json_method){.name = "/math/sum", .handler = sum});
    add(&(struct vouch_json_method){.name = "/result", .handler = result_of});
    add(&(struct vouch_json_method){.name = "/bad", .handler = bad_reply});
    add(&(struct vouch_json_method){.name = "/replies", .handler = replies});
    add(&(struct vouch_json_method){.name = "/keep", .handler = keep});
    add(&(struct vouch_json_method){.name = "/text", .text_handler = text_echo});
    {
        struct vouch_json_rules strict = {.max_values = 3, .unique_keys = true};
        struct vouch_json_method method = {.name = "/strict", .handler = echo, .rules = &strict};
        add(&method);
        method.name = "/strict-text";
        method.handler = NULL;
        method.text_handler = text_echo;
        add(&method);
        strict = (struct vouch_json_rules){0}; /* it was copied */
    }
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, options);
}

static void open_both(void) {
    open_with(NULL, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    json_memory_end();
    support_baseline_end();
}

/* ---- calls ---- */

/* Calls with the tree of a text; asserts the result, and what is answered or said. */
static void check(const char *method, const char *text, int result, const char *expected) {
    struct vouch_error error = {.code = 0};
    cJSON *request = json_tree(text), *reply = request;
    cr_assert_eq(vouch_json_call(client, method, request, NULL, &reply, &error), result, "%s",
                 error.message);
    if (result == 0)
        json_check_print(reply, expected);
    else
        cr_assert_null(reply);
    if (result != 0 && expected)
        cr_assert_str_eq(error.message, expected);
    cJSON_Delete(request);
    cJSON_Delete(reply);
}

Test(json_rpc, the_answer_is_the_handlers) {
    open_both();
    check("/math/sum", "{\"Ints\":[1,2,3]}", 0, "{\"Sum\":6}");
    check("/math/sum", "{\"Ints\":[9223372036854775806,1]}", 0, "{\"Sum\":9223372036854775807}");
    check("/math/sum", "{\"Ints\":[]}", 0, "{\"Sum\":0}");
    check("/echo", "null", 0, "null");
    check("/echo", "{\"a\":[18446744073709551615,1.50,\"\\u2028\"]}", 0,
          "{\"a\":[18446744073709551615,1.50,\"\\u2028\"]}");
    cJSON *request = json_tree("1");
    cr_assert_eq(vouch_json_call(client, "/echo", request, NULL, NULL, NULL), 0);
    cJSON_Delete(request);
    close_both();
}

Test(json_rpc, errors_are_the_handlers) {
    open_both();
    for (int i = 1; i <= VOUCH_REMOTE_UNKNOWN; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        check("/result", text, i, NULL);
        snprintf(text, sizeof(text), "[%d]", i); /* with a reply that nobody gets */
        check("/result", text, i, NULL);
    }
    check("/result", "[0]", 0, "null");
    check("/result", "0", VOUCH_REMOTE_SERVER, NULL);
    check("/result", "-12", VOUCH_REMOTE_SERVER, NULL);
    check("/math/sum", "{}", VOUCH_REMOTE_BAD_DATA, "there are no 'Ints'");
    check("/math/sum", "{\"Ints\":[1.5]}", VOUCH_REMOTE_BAD_DATA, NULL);
    check("/none", "1", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    check("/replies", "[7]", 0, "[7]");
    check("/bad", "1", VOUCH_REMOTE_SERVER, "the reply cannot be sent as JSON: invalid argument");
    close_both();
}

/* ---- what is refused ---- */

static void check_raw(const char *method, const char *text, size_t size, int result,
                      const char *expected) {
    struct vouch_error error = {.code = 0};
    struct vouch_reply reply;
    cr_assert_eq(vouch_client_call(client, method, text, size, NULL, &reply, &error), result);
    if (result != 0)
        cr_assert_str_eq(error.message, expected);
    vouch_reply_release(&reply);
}

Test(json_rpc, a_request_that_is_refused_is_bad_data) {
    open_both();
    for (size_t i = 0; i < json_refused_count; i++) {
        const struct json_document *d = &json_refused[i];
        char expected[256];
        snprintf(expected, sizeof(expected), "JSON: at byte %zu: %s", d->offset, d->reason);
        check_raw("/echo", d->text, d->size, VOUCH_REMOTE_BAD_DATA, expected);
        check_raw("/text", d->text, d->size, VOUCH_REMOTE_BAD_DATA, expected);
    }
    for (size_t i = 0; i < json_accepted_count; i++)
        check_raw("/text", json_accepted[i].text, json_accepted[i].size, 0, NULL);
    check_raw("/echo", "1e999", 5, VOUCH_REMOTE_BAD_DATA,
              "JSON: at byte 0: a number that is too large for a double");
    check("/echo", "1", 0, "1");
    close_both();
}

Test(json_rpc, rules_are_the_methods) {
    static const char *const methods[] = {"/strict", "/strict-text"};
    open_both();
    for (size_t i = 0; i < 2; i++) {
        check(methods[i], "[1,2]", 0, "[1,2]");
        check(methods[i], "[1,2,3]", VOUCH_REMOTE_BAD_DATA, "JSON: at byte 5: too many values");
        check(methods[i], "{\"a\":1,\"a\":2}", VOUCH_REMOTE_BAD_DATA,
              "JSON: at byte 7: a key for the second time");
    }
    close_both();
}

Test(json_rpc, a_request_that_cannot_be_printed_is_not_sent) {
    struct vouch_error error;
    open_both();
    cJSON *bad = cJSON_CreateString("\xff"), *reply = bad;
    cr_assert_eq(vouch_json_call(client, "/echo", bad, NULL, &reply, &error), -EINVAL);
    cr_assert_eq(error.code, -EINVAL);
    cr_assert_null(reply);
    cr_assert_eq(vouch_json_call(client, "/echo", NULL, NULL, NULL, &error), -EINVAL);
    cr_assert_str_eq(error.message, "/echo: the request cannot be sent as JSON: it is NULL");
    cJSON_Delete(bad);
    cr_assert_eq(rpc_stats(&stage).calls, 0);
    close_both();
}

Test(json_rpc, too_large_for_a_maximum) {
    open_with(&(struct vouch_server_options){.max_reply = 1000},
              &(struct vouch_client_options){.max_request = 3000});
    char text[4096] = "\"";
    memset(text + 1, 'a', 2000);
    strcpy(text + 2001, "\"");
    check("/echo", text, VOUCH_REMOTE_TOO_LARGE, NULL);
    memset(text + 1, 'a', 3000);
    strcpy(text + 3001, "\"");
    check("/echo", text, -EMSGSIZE, NULL);
    check("/echo", "1", 0, "1");
    close_both();
}

/* ---- text ---- */

Test(json_rpc, text_both_ways) {
    struct vouch_reply reply;
    struct vouch_error error;
    open_both();
    cr_assert_eq(
        vouch_json_call_text(client, "/math/sum", "{\"Ints\": [4, 5]}", 16, NULL, &reply, &error),
        0);
    cr_assert_eq(reply.size, 9);
    cr_assert_arr_eq(reply.data, "{\"Sum\":9}", 9);
    vouch_reply_release(&reply);
    cr_assert_eq(vouch_json_call_text(client, "/echo", "1", 1, NULL, NULL, NULL), 0);
    cr_assert_eq(vouch_json_call_text(client, "/echo", "[1,]", 4, NULL, &reply, &error), -EINVAL);
    cr_assert_str_eq(error.message,
                     "the request is not JSON: at byte 3: no value where one has to be");
    cr_assert_eq(error.code, -EINVAL);
    cr_assert_null(reply.buffer);
    cr_assert_eq(vouch_json_call_text(client, "/echo", "", 0, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(vouch_json_call_text(client, "/none", "1", 1, NULL, &reply, NULL),
                 VOUCH_REMOTE_METHOD_NOT_FOUND);
    cr_assert_eq(rpc_stats(&stage).calls, 3);
    close_both();
}

/* A reply that is not JSON ends its call, and no other: "echo" is a method of plain bytes. */
Test(json_rpc, a_reply_that_is_refused) {
    struct vouch_error error;
    struct vouch_reply reply;
    cJSON *tree;
    open_both();
    cJSON *request = json_tree("5"); /* size: that many 'x' */
    cr_assert_eq(vouch_json_call(client, "size", request, NULL, &tree, &error), -EPROTO);
    cr_assert_str_eq(error.message, "JSON: at byte 0: no value where one has to be");
    cr_assert_null(tree);
    cr_assert_eq(vouch_json_call_text(client, "size", "0", 1, NULL, &reply, &error), -EPROTO);
    cr_assert_eq(error.code, -EPROTO);
    cr_assert_null(reply.buffer);
    cJSON_Delete(request);
    check("/echo", "1", 0, "1");
    close_both();
}

/* ---- not waiting ---- */

struct outcome {
    unsigned callbacks;
    int result;
    char text[128];
};

static void callback(void *context, int result, const cJSON *reply,
                     const struct vouch_error *error) {
    struct outcome *outcome = context;
    outcome->callbacks++;
    outcome->result = result;
    if (reply) {
        ssize_t size = vouch_json_print(reply, outcome->text, sizeof(outcome->text) - 1);
        cr_assert(size > 0 && (size_t)size < sizeof(outcome->text));
        outcome->text[size] = '\0';
    } else {
        cr_assert_neq(result, 0);
        cr_assert_eq(error->code, result);
        snprintf(outcome->text, sizeof(outcome->text), "%.100s", error->message);
    }
}

static void call_async(const char *method, const char *text, struct outcome *outcome,
                       uint64_t *ret_id) {
    cJSON *request = json_tree(text);
    *outcome = (struct outcome){0};
    cr_assert_eq(vouch_json_call_async(client, method, request, NULL, callback, outcome, ret_id),
                 0);
    cJSON_Delete(request);
}

Test(json_rpc, asynchronous) {
    struct outcome good, failed, refused;
    open_both();
    call_async("/math/sum", "{\"Ints\":[1,2]}", &good, NULL);
    call_async("/math/sum", "{}", &failed, NULL);
    call_async("size", "3", &refused, NULL);
    rpc_wait_callbacks(client, 3);
    cr_assert_eq(good.result, 0);
    cr_assert_str_eq(good.text, "{\"Sum\":3}");
    cr_assert_eq(failed.result, VOUCH_REMOTE_BAD_DATA);
    cr_assert_str_eq(failed.text, "there are no 'Ints'");
    cr_assert_eq(refused.result, -EPROTO);
    cr_assert_str_eq(refused.text, "JSON: at byte 0: no value where one has to be");
    cr_assert_eq(good.callbacks + failed.callbacks + refused.callbacks, 3);

    cJSON *bad = cJSON_CreateString("\xff"), *one = json_tree("1");
    cr_assert_eq(vouch_json_call_async(client, "/echo", bad, NULL, callback, &good, NULL), -EINVAL);
    cr_assert_eq(vouch_json_call_async(client, "/echo", one, NULL, NULL, &good, NULL), -EINVAL);
    cr_assert_eq(vouch_json_call_async(client, "", one, NULL, callback, &good, NULL),
                 VOUCH_E_METHOD_NAME);
    cJSON_Delete(bad);
    cJSON_Delete(one);
    close_both();
    cr_assert_eq(good.callbacks, 1);
}

Test(json_rpc, cancelled_and_answered_later) {
    struct outcome kept, cancelled;
    uint64_t id;
    open_both();
    call_async("/keep", "1", &kept, NULL);
    call_async("/keep", "2", &cancelled, &id);
    rpc_latch_wait(&stage.entered, 2);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(cancelled.result, -ECANCELED);
    cJSON *reply = json_tree("[\"later\"]");
    for (unsigned i = 0; i < 2; i++) /* in whatever order they came */
        (void)vouch_json_reply(stage.kept[i], reply);
    cJSON_Delete(reply);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(kept.result, 0);
    cr_assert_str_eq(kept.text, "[\"later\"]");
    close_both();
}

Test(json_rpc, options_are_those_of_calls) {
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .deadline = 1};
    struct outcome outcome;
    open_both();
    cJSON *one = json_tree("1");
    cr_assert_eq(vouch_json_call(client, "/echo", one, &options, NULL, NULL), -ETIMEDOUT);
    cr_assert_eq(vouch_json_call_text(client, "/echo", "1", 1, &options, NULL, NULL), -ETIMEDOUT);
    cr_assert_eq(vouch_json_call_async(client, "/echo", one, &options, callback, &outcome, NULL),
                 -ETIMEDOUT);
    cJSON_Delete(one);
    close_both();
}

/* ---- registering ---- */

static unsigned released;

static void release(void *context) {
    cr_assert_eq(context, &released);
    released++;
}

Test(json_rpc, methods) {
    struct support_allocator allocator;
    const struct vouch_json_rules deep = {.max_depth = VOUCH_JSON_DEPTH_BOUND + 1};
    struct vouch_json_method method = {VOUCH_OPTIONS(method), .name = "/a", .context = &released,
                                       .release = release};
    support_baseline_begin();
    support_allocator_init(&allocator);
    cr_assert_eq(vouch_server_new(&(struct vouch_server_options){.allocator = &allocator.allocator},
                                  &stage.server),
                 0);
    cr_assert_eq(vouch_json_add_method(stage.server, &method), -EINVAL, "no handler");
    method.handler = echo;
    method.text_handler = text_echo;
    cr_assert_eq(vouch_json_add_method(stage.server, &method), -EINVAL, "two handlers");
    method.text_handler = NULL;
    method.rules = &deep;
    cr_assert_eq(vouch_json_add_method(stage.server, &method), -EINVAL, "rules");
    method.rules = NULL;
    unsigned failures = 0;
    for (;; failures++) {
        support_allocator_fail(&allocator, failures + 1, SUPPORT_FAIL_ONCE);
        int result = vouch_json_add_method(stage.server, &method);
        if (result == 0)
            break;
        cr_assert_eq(result, -ENOMEM);
    }
    cr_assert_geq(failures, 1);
    support_allocator_fail(&allocator, 0, 0);
    cr_assert_eq(vouch_json_add_method(stage.server, &method), VOUCH_E_METHOD_EXISTS);
    method.name = "b c";
    cr_assert_eq(vouch_json_add_method(stage.server, &method), VOUCH_E_METHOD_NAME);
    cr_assert_eq(released, 0);
    vouch_server_free(stage.server);
    cr_assert_eq(released, 1);
    support_allocator_check(&allocator);
    support_baseline_end();
}

/* ---- memory ---- */

/* cJSON's allocations fail one after the other, on either side: the call ends well or says so. */
Test(json_rpc, without_memory_for_trees) {
    open_both();
    cJSON *request = json_tree("{\"Ints\":[1,9007199254740993]}"), *reply;
    unsigned failures = 0;
    for (;; failures++) {
        json_memory_fail(failures + 1);
        int result = vouch_json_call(client, "/math/sum", request, NULL, &reply, NULL);
        if (result == 0) {
            json_check_print(reply, "{\"Sum\":9007199254740994}");
            cJSON_Delete(reply);
            break;
        }
        cr_assert(result == -ENOMEM || result == VOUCH_REMOTE_SERVER, "%d", result);
    }
    cr_assert_geq(failures, 10);
    json_memory_fail(0);
    cJSON_Delete(request);
    close_both();
}

/* Buffers come from the pools, which grow to what chance has in use at the same time, and then no
 * more: one round without an allocation shows it. */
Test(json_rpc, nothing_is_allocated_once_it_is_warm) {
    struct vouch_memory_stats before = {.allocations = 1}, after = {0};
    struct outcome outcome;
    open_both();
    for (int round = 0; round < 20 && after.allocations != before.allocations; round++) {
        vouch_memory_get_stats(&before);
        for (int i = 0; i < 100; i++) {
            check("/echo", "{\"a\":[1,2,3]}", 0, "{\"a\":[1,2,3]}");
            call_async("/echo", "[4]", &outcome, NULL);
            rpc_wait_callbacks(client, 1);
        }
        vouch_memory_get_stats(&after);
    }
#if !defined(__SANITIZE_ADDRESS__) /* there every buffer is an allocation */
    cr_assert_eq(after.allocations, before.allocations);
#endif
    close_both();
}

/* ---- at the same time ---- */

static void *caller(void *context) {
    int64_t seed = (int64_t)(intptr_t)context;
    for (int64_t i = 0; i < VOUCH_TEST_ROUNDS(300, 50); i++) {
        char text[128], expected[64];
        snprintf(text, sizeof(text), "{\"Ints\":[%lld,%lld]}", (long long)(seed << 40),
                 (long long)i);
        snprintf(expected, sizeof(expected), "{\"Sum\":%lld}", (long long)((seed << 40) + i));
        check("/math/sum", text, 0, expected);
    }
    return NULL;
}

Test(json_rpc, concurrent) {
    pthread_t threads[4];
    open_both();
    for (intptr_t i = 0; i < 4; i++)
        threads[i] = support_thread_start(caller, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        support_thread_join(threads[i]);
    close_both();
}

/* ---- as recorded ---- */

struct recorded {
    bool from_client;
    uint64_t id;
    char method[64];
    uint8_t data[256];
    size_t size;
};

static struct recorded lines[64];
static unsigned line_count;

static void load(void) {
    struct support_vectors vectors;
    const struct cJSON *line;
    line_count = 0;
    support_vectors_open(&vectors, "json-rpc.jsonl");
    while ((line = support_vectors_next(&vectors))) {
        const struct cJSON *e = cJSON_GetObjectItemCaseSensitive(line, "envelope");
        if (!support_vector_has(e, "id"))
            continue; /* errors, which that server sends without an id */
        struct recorded *r = &lines[line_count++];
        r->from_client = strcmp(support_vector_text(line, "from"), "client") == 0;
        r->id = support_vector_number(e, "id");
        snprintf(r->method, sizeof(r->method), "%s", support_vector_text(e, "method"));
        r->size = support_vector_bytes(e, "data_hex", r->data, sizeof(r->data));
    }
    cr_assert_eq(line_count, 25);
}

static const struct recorded *reply_to(const struct recorded *call) {
    for (unsigned i = 0; i < line_count; i++)
        if (!lines[i].from_client && lines[i].id == call->id)
            return &lines[i];
    return NULL;
}

/* Every body is printed as the bytes it was read from. */
Test(json_rpc, recorded_bodies) {
    load();
    for (unsigned i = 0; i < line_count; i++) {
        char text[256];
        cJSON *tree;
        cr_assert_eq(vouch_json_parse(lines[i].data, lines[i].size, NULL, &tree, NULL), 0);
        cr_assert_eq(vouch_json_print(tree, text, sizeof(text)), (ssize_t)lines[i].size);
        cr_assert_arr_eq(text, lines[i].data, lines[i].size);
        cJSON_Delete(tree);
    }
}

/* As the server: the recorded calls, with a deadline of today, get the recorded bodies. */
Test(json_rpc, recorded_calls_are_answered_so) {
    unsigned answered = 0;
    load();
    open_both();
    int fd = rpc_stage_raw(&stage);
    for (unsigned i = 0; i < line_count; i++) {
        const struct recorded *call = &lines[i], *reply = reply_to(call);
        if (!call->from_client || strcmp(call->method, "/math/sum") != 0)
            continue;
        rpc_raw_send(fd, &(struct rpc_message){.id = (uint32_t)call->id,
                                               .expires = rpc_wall_in(RPC_PATIENCE),
                                               .method = call->method,
                                               .data = call->data,
                                               .size = call->size});
        struct rpc_received received;
        rpc_raw_expect(fd, &received);
        const struct envelope *e = &received.envelope;
        cr_assert_eq(e->id, call->id);
        if (call->data[0] != '{') {
            cr_assert_eq(e->error_type, VOUCH_REMOTE_BAD_DATA);
        } else if (reply) {
            cr_assert_eq(e->data_size, reply->size);
            cr_assert_arr_eq(e->data, reply->data, reply->size);
            answered++;
        }
        rpc_received_free(&received);
    }
    cr_assert_eq(answered, 4);
    close(fd);
    close_both();
}

/* As the client: a call of the same tree has the recorded body, and the recorded reply is read so.
 */
Test(json_rpc, recorded_calls_are_made_so) {
    int fd;
    load();
    support_baseline_begin();
    client = rpc_raw_client(&fd, NULL);
    for (unsigned i = 0; i < line_count; i++) {
        const struct recorded *call = &lines[i], *reply = reply_to(call);
        if (!call->from_client || !reply)
            continue;
        cJSON *request;
        struct outcome outcome = {0};
        cr_assert_eq(vouch_json_parse(call->data, call->size, NULL, &request, NULL), 0);
        cr_assert_eq(
            vouch_json_call_async(client, call->method, request, NULL, callback, &outcome, NULL),
            0);
        cJSON_Delete(request);
        struct rpc_received received;
        rpc_raw_expect(fd, &received);
        cr_assert_eq(received.envelope.data_size, call->size);
        cr_assert_arr_eq(received.envelope.data, call->data, call->size);
        rpc_raw_send(fd, &(struct rpc_message){.id = received.envelope.id,
                                               .method = call->method,
                                               .data = reply->data,
                                               .size = reply->size});
        rpc_received_free(&received);
        rpc_wait_callbacks(client, 1);
        cr_assert_eq(outcome.result, 0);
        cr_assert_eq(strlen(outcome.text), reply->size);
        cr_assert_arr_eq(outcome.text, reply->data, reply->size);
    }
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}
