/* SPDX-License-Identifier: MIT */
/* The pixl dialect in a client: calls, what replies mean, timeouts, the server's return. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/pixl_support.h"

static struct pixl_stage stage;
static struct vouch_pixl_client *client;
static struct pixl_raw raw;

static void open_with(const struct vouch_pixl_client_options *options) {
    support_baseline_begin();
    pixl_stage_open(&stage, NULL, NULL);
    client = pixl_stage_client(&stage, options);
}

static void close_both(void) {
    vouch_pixl_client_free(client);
    pixl_stage_close(&stage);
    support_baseline_end();
}

/* A client whose server is the test. */
static void open_raw(const struct vouch_pixl_client_options *options) {
    support_baseline_begin();
    client = pixl_raw_client(&raw, options);
}

static void close_raw(void) {
    vouch_pixl_client_free(client);
    pixl_raw_close(&raw);
    support_baseline_end();
}

static struct vouch_client *beneath(void) {
    return vouch_pixl_client_get_client(client);
}

static struct vouch_client_stats stats_of(void) {
    struct vouch_client_stats stats;
    vouch_client_get_stats(beneath(), &stats);
    return stats;
}

/* ---- asynchronous calls ---- */

struct outcome {
    unsigned callbacks;
    int result;
    char data[256];
    struct vouch_pixl_error error;
};

static void on_end(void *context, int result, const cJSON *data,
                   const struct vouch_pixl_error *error) {
    struct outcome *outcome = context;
    outcome->callbacks++;
    outcome->result = result;
    outcome->error = *error;
    cr_assert_eq(result == 0, data != NULL);
    ssize_t size = data ? vouch_json_print(data, outcome->data, sizeof(outcome->data) - 1) : 0;
    cr_assert(size >= 0 && size < (ssize_t)sizeof(outcome->data));
    outcome->data[size] = '\0';
}

static void begin_call(const char *uri, const char *data, int64_t timeout,
                       struct outcome *ret_outcome) {
    const struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = timeout};
    cJSON *request = data ? json_tree(data) : NULL;
    *ret_outcome = (struct outcome){0};
    cr_assert_eq(vouch_pixl_call_async(client, uri, request, &options, on_end, ret_outcome, NULL),
                 0);
    cJSON_Delete(request);
}

static void await(const struct outcome *outcome) {
    while (outcome->callbacks == 0)
        cr_assert_gt(vouch_client_wait(beneath(), vouch_deadline_in(RPC_PATIENCE)), 0);
    cr_assert_eq(outcome->callbacks, 1);
}

/* Asserts what a call is on the wire, answers it with the member(s) given, waits for its end. */
static void answer_with(const char *members, struct outcome *ret_outcome) {
    char line[1024], *came;
    unsigned id;
    begin_call("/x", "1", 0, ret_outcome);
    came = pixl_raw_line(&raw);
    cr_assert_eq(sscanf(came, "{\"ipcReqID\":\"rq%u\",\"uri\":\"/x\",", &id), 1, "%s", came);
    free(came);
    snprintf(line, sizeof(line), "{\"ipcReqID\":\"rq%u\"%s}", id, members);
    pixl_raw_send(&raw, line);
    await(ret_outcome);
}

/* ---- calls ---- */

Test(pixl_client, calls) {
    open_with(NULL);
    pixl_check_call(client, "/json/echo", "{\"a\":[1,9007199254740993]}", 0,
                    "{\"a\":[1,9007199254740993]}");
    pixl_check_call(client, "/over/there", NULL, 0, "null");
    pixl_check_call(client, "/user/\xc3\xa9t\xc3\xa9", "{}", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    pixl_check_call(client, "/user/joe", "{}", 0,
                    "{\"uri\":\"/user/joe\",\"method\":\"/json/where\",\"groups\":[\"/user/"
                    "joe\",\"joe\"]}");
    cr_assert_eq(vouch_pixl_call(client, "/over/there", NULL, NULL, NULL, NULL), 0);
    cr_assert_eq(vouch_pixl_call(client, "/none", NULL, NULL, NULL, NULL),
                 VOUCH_REMOTE_METHOD_NOT_FOUND);
    close_both();
}

Test(pixl_client, in_a_pool_that_is_shared) {
    struct vouch_pool *pool;
    support_baseline_begin();
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    const struct vouch_client_options general = {VOUCH_OPTIONS(general), .pool = pool};
    pixl_stage_open(&stage, NULL, NULL);
    client = pixl_stage_client(&stage, &(struct vouch_pixl_client_options){.client = &general});
    cr_assert_eq(vouch_client_get_pool(beneath()), pool);
    pixl_check_call(client, "/over/there", "1", 0, "1");
    vouch_pool_unref(pool);
    close_both();
}

Test(pixl_client, what_it_writes) {
    char line[256];
    struct outcome outcome;
    open_raw(&(struct vouch_pixl_client_options){.user_agent = "tests/\"1\""});
    begin_call("/a\"b", "{\"x\":1}", 0, &outcome);
    snprintf(line, sizeof(line),
             "{\"ipcReqID\":\"rq1\",\"uri\":\"/a\\\"b\",\"data\":{\"x\":1},\"pid\":%ld,"
             "\"userAgent\":\"tests/\\\"1\\\"\"}",
             (long)getpid());
    pixl_raw_expect(&raw, line);
    pixl_raw_send(&raw, "{\"data\":7,\"ipcReqID\":\"rq1\"}");
    await(&outcome);
    cr_assert_str_eq(outcome.data, "7");
    close_raw();

    open_raw(NULL);
    begin_call("/x", NULL, 0, &outcome);
    snprintf(line, sizeof(line),
             "{\"ipcReqID\":\"rq1\",\"uri\":\"/x\",\"pid\":%ld,\"userAgent\":\"vouch/%s\"}",
             (long)getpid(), vouch_version());
    pixl_raw_expect(&raw, line);
    close_raw();
    cr_assert_eq(outcome.result, -ESHUTDOWN);
}

Test(pixl_client, errors_of_a_server_of_ours) {
    const struct vouch_pixl_error *error;
    open_with(NULL);
    for (int i = 1; i <= VOUCH_REMOTE_UNKNOWN; i++) {
        char data[64];
        snprintf(data, sizeof(data), "{\"result\":%d,\"text\":\"why\"}", i);
        error = pixl_check_call(client, "/json/fail", data, i, NULL);
        cr_assert_str_eq(error->message, i == VOUCH_REMOTE_METHOD_NOT_FOUND
                                             ? "No handler found for /json/fail"
                                             : "why");
        cr_assert_str_neq(error->code, "");
    }
    error = pixl_check_call(client, "/none", "1", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    cr_assert_str_eq(error->code, "no_handler_found");
    close_both();
}

Test(pixl_client, local_errors) {
    const struct vouch_pixl_error *error;
    char uri[VOUCH_PIXL_URI_MAX + 2];
    memset(uri, 'u', sizeof(uri));
    uri[VOUCH_PIXL_URI_MAX + 1] = '\0';
    open_with(NULL);
    error = pixl_check_call(client, uri, "1", VOUCH_E_METHOD_NAME, NULL);
    cr_assert_str_eq(error->code, "");
    cr_assert_str_neq(error->message, "");
    pixl_check_call(client, "", "1", VOUCH_E_METHOD_NAME, NULL);
    pixl_check_call(client, "\xff", "1", VOUCH_E_METHOD_NAME, NULL);
    uri[VOUCH_PIXL_URI_MAX] = '\0';
    pixl_check_call(client, uri, "1", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    cJSON *bad = cJSON_CreateString("\xff");
    cr_assert_eq(vouch_pixl_call(client, "/x", bad, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(vouch_pixl_call_async(client, "/x", bad, NULL, on_end, NULL, NULL), -EINVAL);
    cr_assert_eq(vouch_pixl_call_async(client, "/x", NULL, NULL, NULL, NULL, NULL), -EINVAL);
    cJSON_Delete(bad);
    close_both();
}

/* ---- what replies mean ---- */

static void check_error(const char *members, int result, const char *code, const char *message) {
    struct outcome outcome;
    answer_with(members, &outcome);
    cr_assert_eq(outcome.result, result, "%s: %d", members, outcome.result);
    cr_assert_eq(outcome.error.result, result);
    cr_assert_str_eq(outcome.error.code, code);
    cr_assert_str_eq(outcome.error.message, message);
}

static void check_data(const char *members, const char *data) {
    struct outcome outcome;
    answer_with(members, &outcome);
    cr_assert_eq(outcome.result, 0, "%s: %s", members, outcome.error.message);
    cr_assert_str_eq(outcome.data, data);
}

Test(pixl_client, codes_are_errors) {
    open_raw(NULL);
    check_error(",\"code\":\"no_uri\",\"message\":\"m\"", VOUCH_REMOTE_BAD_DATA, "no_uri", "m");
    check_error(",\"data\":{\"code\":\"mine\",\"message\":\"m\"}", VOUCH_REMOTE_UNKNOWN, "mine",
                "m");
    check_error(",\"data\":{\"code\":404}", VOUCH_REMOTE_UNKNOWN, "404", "");
    check_error(",\"code\":true,\"message\":[1]", VOUCH_REMOTE_UNKNOWN, "true", "[1]");
    check_error(",\"code\":\"outer\",\"data\":{\"code\":\"inner\"}", VOUCH_REMOTE_UNKNOWN, "outer",
                "");
    check_error(",\"code\":{},\"data\":1", VOUCH_REMOTE_UNKNOWN, "{}", "");
    check_error(",\"data\":{\"code\":0,\"code\":\"last\"}", VOUCH_REMOTE_UNKNOWN, "last", "");
    close_raw();
}

Test(pixl_client, what_javascript_holds_for_false_is_no_code) {
    open_raw(NULL);
    check_data(",\"data\":{\"code\":0}", "{\"code\":0}");
    check_data(",\"code\":\"\",\"data\":1", "1");
    check_data(",\"code\":null,\"data\":{\"code\":false}", "{\"code\":false}");
    check_data(",\"code\":-0.0,\"data\":[{\"code\":1}]", "[{\"code\":1}]");
    check_data(",\"data\":{\"x\":{\"code\":1}}", "{\"x\":{\"code\":1}}");
    check_data(",\"data\":{\"Code\":1}", "{\"Code\":1}");
    check_data("", "null");
    check_data(",\"data\":1,\"data\":2", "2");
    close_raw();
}

Test(pixl_client, codes_may_be_data) {
    open_raw(&(struct vouch_pixl_client_options){.codes_are_data = true});
    check_data(",\"data\":{\"code\":1}", "{\"code\":1}");
    check_data(",\"code\":1", "null");
    close_raw();
}

Test(pixl_client, long_codes_are_cut_between_characters) {
    char members[256], code[VOUCH_PIXL_CODE_MAX + 1];
    memset(code, 'c', sizeof(code));
    code[VOUCH_PIXL_CODE_MAX] = '\0';
    open_raw(NULL);
    snprintf(members, sizeof(members), ",\"code\":\"%s\"", code);
    check_error(members, VOUCH_REMOTE_UNKNOWN, code, "");
    snprintf(members, sizeof(members), ",\"code\":\"%sc\"", code);
    check_error(members, VOUCH_REMOTE_UNKNOWN, code, "");
    code[VOUCH_PIXL_CODE_MAX - 1] = '\0';
    snprintf(members, sizeof(members), ",\"code\":\"%s\xc3\xa9\"", code);
    check_error(members, VOUCH_REMOTE_UNKNOWN, code, "");
    close_raw();
}

static int by_status(void *context, cJSON *reply, cJSON **ret_data,
                     struct vouch_pixl_error *ret_error) {
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(reply, "status");
    (*(unsigned *)context)++;
    if (!status)
        return 0;
    if (cJSON_IsNumber(status)) {
        snprintf(ret_error->code, sizeof(ret_error->code), "status %d", status->valueint);
        *ret_data = cJSON_CreateNull(); /* deleted */
        return status->valueint;
    }
    *ret_data = cJSON_DetachItemFromObjectCaseSensitive(reply, "body");
    return 0;
}

Test(pixl_client, a_transform_decides) {
    unsigned runs = 0;
    open_raw(&(struct vouch_pixl_client_options){.transform = by_status, .context = &runs});
    check_data(",\"status\":\"ok\",\"body\":{\"b\":1}", "{\"b\":1}");
    check_data(",\"code\":1,\"data\":{\"code\":2}", "{\"code\":2}");
    check_data(",\"status\":\"ok\",\"data\":3", "3");
    check_error(",\"status\":3", VOUCH_REMOTE_BAD_DATA, "status 3", "");
    check_error(",\"status\":-7", VOUCH_REMOTE_UNKNOWN, "status -7", "");
    cr_assert_eq(runs, 5);
    close_raw();
}

Test(pixl_client, replies_that_are_refused) {
    struct outcome outcome;
    const struct vouch_json_rules rules = {VOUCH_OPTIONS(rules), .max_values = 4};
    open_raw(&(struct vouch_pixl_client_options){.rules = &rules});
    check_data(",\"data\":[1]", "[1]");
    answer_with(",\"data\":[1,2]", &outcome);
    cr_assert_eq(outcome.result, -EPROTO);
    cr_assert_not_null(strstr(outcome.error.message, "too many values"), "%s",
                       outcome.error.message);
    answer_with(",\"data\":[}", &outcome);
    cr_assert_eq(outcome.result, -EPROTO);
    check_data(",\"data\":\"on\"", "\"on\""); /* it goes on */
    close_raw();
}

/* ---- timeouts ---- */

Test(pixl_client, late_replies_are_dropped_silently) {
    struct outcome outcome, next;
    open_raw(NULL);
    begin_call("/x", "1", VOUCH_MILLISECONDS(1), &outcome);
    await(&outcome);
    cr_assert_eq(outcome.result, -ETIMEDOUT);
    cr_assert_str_eq(outcome.error.code, "");
    free(pixl_raw_line(&raw));
    begin_call("/x", "1", 0, &next);
    free(pixl_raw_line(&raw));
    pixl_raw_send(&raw, "{\"ipcReqID\":\"rq1\",\"data\":\"late\"}");
    pixl_raw_send(&raw, "{\"ipcReqID\":\"rq1\",\"data\":\"and again\"}");
    pixl_raw_send(&raw, "{\"ipcReqID\":\"rq77\",\"data\":\"never asked\"}");
    pixl_raw_send(&raw, "{\"ipcReqID\":\"rq2\",\"data\":\"in time\"}");
    await(&next);
    cr_assert_eq(next.result, 0);
    cr_assert_str_eq(next.data, "\"in time\"");
    cr_assert_eq(outcome.callbacks, 1);
    close_raw();
}

Test(pixl_client, the_timeout_is_ten_seconds_unless_it_is_said) {
    struct outcome outcome;
    open_raw(NULL);
    begin_call("/x", "1", 0, &outcome);
    int64_t left = vouch_client_get_timeout(beneath());
    cr_assert(left > VOUCH_SECONDS(5) && left <= VOUCH_SECONDS(10));
    close_raw();
    open_raw(&(struct vouch_pixl_client_options){.call_timeout = VOUCH_SECONDS(3600)});
    begin_call("/x", "1", 0, &outcome);
    cr_assert_gt(vouch_client_get_timeout(beneath()), VOUCH_SECONDS(20));
    close_raw();
    const struct vouch_client_options general = {VOUCH_OPTIONS(general), .call_timeout = 1};
    open_raw(&(struct vouch_pixl_client_options){.client = &general,
                                                 .call_timeout = VOUCH_MILLISECONDS(2)});
    pixl_check_call(client, "/x", "1", -ETIMEDOUT, NULL);
    close_raw();
}

/* ---- what the server says unasked ---- */

static unsigned messages;

static void on_message(void *context, const cJSON *message) {
    cr_assert_str_eq(context, "context");
    json_check_print(message, messages == 0 ? "{\"a\":1}" : "{\"ipcReqID\":null,\"b\":[2]}");
    messages++;
}

Test(pixl_client, messages) {
    struct outcome outcome;
    char context[] = "context";
    const struct vouch_json_rules rules = {VOUCH_OPTIONS(rules), .max_values = 5};
    messages = 0;
    open_raw(&(struct vouch_pixl_client_options){
        .on_message = on_message, .context = context, .rules = &rules});
    begin_call("/x", "1", 0, &outcome);
    pixl_raw_send(&raw, "{\"a\":1}");
    pixl_raw_send(&raw, "{\"a\":[1,2,3,4,5]}"); /* over the rules */
    pixl_raw_send(&raw, "{\"a\":");
    pixl_raw_send(&raw, "hello");
    pixl_raw_send(&raw, "");
    pixl_raw_send(&raw, "{\"ipcReqID\":null,\"b\":[2]}");
    pixl_raw_send(&raw, "{\"ipcReqID\":\"rq1\",\"data\":0}");
    await(&outcome);
    cr_assert_eq(messages, 2);
    close_raw();
}

Test(pixl_client, messages_of_a_server_of_ours) {
    char context[] = "context";
    messages = 0;
    open_with(&(struct vouch_pixl_client_options){.on_message = on_message, .context = context});
    pixl_check_call(client, "/json/echo", "1", 0, "1");
    cJSON *message = json_tree("{\"a\":1}");
    cr_assert_eq(vouch_pixl_server_notify(stage.pixl, 0, message), 1);
    cJSON_Delete(message);
    cr_assert_eq(vouch_client_wait(beneath(), vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_eq(messages, 1);
    close_both();
}

Test(pixl_client, without_a_listener_they_are_dropped) {
    open_raw(NULL);
    pixl_raw_send(&raw, "{\"a\":1}");
    check_data(",\"data\":1", "1");
    close_raw();
}

/* ---- many at once ---- */

static void *call_often(void *context) {
    (void)context;
    for (int i = 0; i < VOUCH_TEST_ROUNDS(200, 20); i++) {
        char text[32];
        snprintf(text, sizeof(text), "[%d,\"%lx\"]", i, (unsigned long)pthread_self());
        cJSON *request = json_tree(text), *reply;
        cr_assert_eq(vouch_pixl_call(client, "/json/echo", request, NULL, &reply, NULL), 0);
        json_check_print(reply, text);
        cJSON_Delete(request);
        cJSON_Delete(reply);
    }
    return NULL;
}

Test(pixl_client, many_threads) {
    pthread_t threads[8];
    open_with(NULL);
    for (size_t i = 0; i < 8; i++)
        threads[i] = support_thread_start(call_often, NULL);
    for (size_t i = 0; i < 8; i++)
        support_thread_join(threads[i]);
    cr_assert_eq(stats_of().replies, 8u * (unsigned)VOUCH_TEST_ROUNDS(200, 20));
    close_both();
}

Test(pixl_client, in_a_foreign_loop) {
    struct outcome outcomes[50];
    rpc_need_loop_descriptor();
    open_with(NULL);
    struct pollfd poll_fd = {.fd = vouch_client_get_fd(beneath()), .events = POLLIN};
    for (size_t i = 0; i < 50; i++)
        begin_call("/json/echo", "[1]", 0, &outcomes[i]);
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    int done = 0;
    while (done < 50) {
        cr_assert_lt(vouch_now(), give_up);
        int64_t timeout = vouch_client_get_timeout(beneath());
        (void)poll(&poll_fd, 1, timeout > VOUCH_SECONDS(1) ? 1000 : (int)(timeout / 1000000));
        int r = vouch_client_process(beneath());
        cr_assert_geq(r, 0);
        done += r;
    }
    for (size_t i = 0; i < 50; i++) {
        cr_assert_eq(outcomes[i].callbacks, 1);
        cr_assert_str_eq(outcomes[i].data, "[1]");
    }
    close_both();
}

Test(pixl_client, cancelling) {
    struct outcome outcome;
    const struct vouch_call_options options = {VOUCH_OPTIONS(options), .tag = 7};
    open_raw(NULL);
    outcome = (struct outcome){0};
    cr_assert_eq(vouch_pixl_call_async(client, "/x", NULL, &options, on_end, &outcome, NULL), 0);
    cr_assert_eq(vouch_client_cancel(beneath(), 7), 1);
    await(&outcome);
    cr_assert_eq(outcome.result, -ECANCELED);
    free(pixl_raw_line(&raw));
    check_data(",\"data\":1", "1"); /* nothing was said of it */
    close_raw();
}

/* ---- the server goes and comes ---- */

static void open_listening(void) {
    support_baseline_begin();
    pixl_stage_init(&stage, NULL, NULL);
    pixl_stage_listen(&stage);
    cr_assert_eq(vouch_server_start(stage.rpc.server), 0);
}

static void restart(void) {
    pixl_stage_close(&stage);
    pixl_stage_init(&stage, NULL, NULL);
    pixl_stage_listen(&stage);
    cr_assert_eq(vouch_server_start(stage.rpc.server), 0);
}

static void dial(int64_t reconnect) {
    const struct vouch_pixl_client_options options = {VOUCH_OPTIONS(options),
                                                      .reconnect = reconnect};
    struct vouch_error error;
    int r = vouch_pixl_client_dial(stage.rpc.path, NULL, &options, &client, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    pixl_check_call(client, "/over/there", "1", 0, "1");
}

Test(pixl_client, after_a_restart_calls_go_on) {
    open_listening();
    dial(0);
    restart();
    struct vouch_pixl_error error;
    int r = vouch_pixl_call(client, "/over/there", NULL, NULL, NULL, &error);
    cr_assert(r == 0 || r == -ECONNRESET, "%d", r); /* the end may not have been noticed yet */
    pixl_check_call(client, "/over/there", "2", 0, "2");
    cr_assert_eq(stats_of().connects, 2);
    close_both();
}

Test(pixl_client, connects_again_without_a_call) {
    struct outcome outcome;
    open_listening();
    dial(VOUCH_MILLISECONDS(1));
    begin_call("/json/keep", "1", 0, &outcome);
    rpc_latch_wait(&stage.rpc.entered, 1);
    cr_assert_eq(vouch_server_stop(stage.rpc.server, 0), -ETIMEDOUT);
    cr_assert_eq(vouch_call_reply(stage.rpc.kept[0], "1", 1), -ECONNRESET);
    await(&outcome);
    cr_assert_eq(outcome.result, -ECONNRESET);
    restart();
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (stats_of().connects == 1 && vouch_now() < give_up)
        cr_assert_eq(vouch_client_wait(beneath(), VOUCH_FOREVER), 0);
    cr_assert_eq(stats_of().connects, 2);
    cr_assert_eq(stats_of().calls, 2);
    pixl_check_call(client, "/over/there", "2", 0, "2");
    close_both();
}

Test(pixl_client, a_call_connects_at_once_also_after_an_attempt_has_failed) {
    open_listening();
    dial(VOUCH_SECONDS(3600));
    pixl_stage_close(&stage);
    pixl_check_call(client, "/over/there", "1", -ECONNRESET, NULL);
    const struct vouch_call_options brief = {VOUCH_OPTIONS(brief),
                                             .timeout = VOUCH_MILLISECONDS(5)};
    cr_assert_lt(vouch_pixl_call(client, "/over/there", NULL, &brief, NULL, NULL), 0);
    pixl_stage_init(&stage, NULL, NULL);
    pixl_stage_listen(&stage);
    cr_assert_eq(vouch_server_start(stage.rpc.server), 0);
    pixl_check_call(client, "/over/there", "2", 0, "2");
    close_both();
}

Test(pixl_client, by_default_after_a_second) {
    struct outcome outcome;
    open_listening();
    dial(0);
    begin_call("/json/keep", "1", 0, &outcome);
    rpc_latch_wait(&stage.rpc.entered, 1);
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_server_stop(stage.rpc.server, 0), -ETIMEDOUT);
    cr_assert_eq(vouch_call_reply(stage.rpc.kept[0], "1", 1), -ECONNRESET);
    await(&outcome);
    int64_t left = vouch_client_get_timeout(beneath());
    bool late = vouch_now() - begun >= VOUCH_SECONDS(1); /* this test */
    cr_assert((left > 0 || late) && left <= VOUCH_SECONDS(1));
    close_both();
}

Test(pixl_client, never_again_where_that_is_said) {
    open_listening();
    dial(-1);
    restart();
    pixl_check_call(client, "/over/there", "1", -ECONNRESET, NULL);
    pixl_check_call(client, "/over/there", "1", -ECONNRESET, NULL);
    cr_assert_eq(stats_of().connects, 1);
    close_both();
}

static atomic_bool restarted;

/* Until the last restart calls may fail; after it each thread is answered. */
static void *call_until_it_lasts(void *context) {
    const struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_SECONDS(5)};
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    (void)context;
    for (;;) {
        bool last = atomic_load(&restarted);
        int r = vouch_pixl_call(client, "/over/there", NULL, &brief, NULL, NULL);
        if (last && r == 0)
            return NULL;
        cr_assert_lt(vouch_now(), give_up);
    }
}

static void *wait_for_messages(void *context) {
    (void)context;
    while (!atomic_load(&restarted))
        (void)vouch_client_wait(beneath(), vouch_deadline_in(VOUCH_MILLISECONDS(5)));
    return NULL;
}

static void ignore_message(void *context, const cJSON *message) {
    (void)context;
    (void)message;
}

Test(pixl_client, many_threads_while_the_server_goes_and_comes) {
    pthread_t threads[4], waiter;
    const struct vouch_pixl_client_options options = {
        VOUCH_OPTIONS(options), .reconnect = VOUCH_MILLISECONDS(1), .on_message = ignore_message};
    open_listening();
    cr_assert_eq(vouch_pixl_client_dial(stage.rpc.path, NULL, &options, &client, NULL), 0);
    atomic_store(&restarted, false);
    for (size_t i = 0; i < 4; i++)
        threads[i] = support_thread_start(call_until_it_lasts, NULL);
    waiter = support_thread_start(wait_for_messages, NULL);
    for (int i = 0; i < 5; i++) {
        RPC_EVENTUALLY(rpc_stats(&stage.rpc).calls > 0);
        restart();
    }
    atomic_store(&restarted, true);
    for (size_t i = 0; i < 4; i++)
        support_thread_join(threads[i]);
    support_thread_join(waiter);
    cr_assert_geq(stats_of().connects, 5);
    close_both();
}

/* ---- life ---- */

Test(pixl_client, bad_options) {
    struct vouch_error error;
    struct vouch_conn *conns[2];
    const struct vouch_json_rules deep = {.max_depth = VOUCH_JSON_DEPTH_BOUND + 1};
    const struct vouch_client_options general = {.max_calls = VOUCH_CLIENT_CALLS_BOUND + 1};
    const struct vouch_pixl_client_options bad[] = {
        {.call_timeout = -1}, {.rules = &deep}, {.client = &general}};
    support_baseline_begin();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(vouch_pixl_client_new(conns[0], &bad[i], &client), -EINVAL);
        cr_assert_eq(vouch_pixl_client_dial("/nowhere", NULL, &bad[i], &client, &error), -EINVAL);
        cr_assert_not_null(strstr(error.message, "/nowhere"), "%s", error.message);
    }
    cr_assert_eq(vouch_pixl_client_dial("", NULL, NULL, &client, &error), VOUCH_E_PATH_EMPTY);
    cr_assert_eq(vouch_pixl_client_new(NULL, NULL, &client), -EINVAL);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    vouch_pixl_client_free(NULL);
    support_baseline_end();
}

Test(pixl_client, without_memory) {
    struct support_allocator memory;
    support_baseline_begin();
    for (uint64_t n = 1; n < 40; n++) {
        struct vouch_conn *conns[2];
        struct outcome outcome = {0};
        support_allocator_init(&memory);
        const struct vouch_client_options general = {VOUCH_OPTIONS(general),
                                                     .allocator = &memory.allocator};
        const struct vouch_pixl_client_options options = {VOUCH_OPTIONS(options),
                                                          .client = &general};
        cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
        support_allocator_fail(&memory, n, SUPPORT_FAIL_ALWAYS);
        int r = vouch_pixl_client_new(conns[0], &options, &client);
        cr_assert(r == 0 || r == -ENOMEM, "%d", r);
        if (r == 0) {
            r = vouch_pixl_call_async(client, "/x", NULL, NULL, on_end, &outcome, NULL);
            cr_assert(r == 0 || r == -ENOMEM, "%d", r);
            vouch_pixl_client_free(client);
            cr_assert_eq(outcome.callbacks, r == 0);
        } else {
            vouch_conn_free(conns[0]);
        }
        vouch_conn_free(conns[1]);
        support_allocator_check(&memory);
    }
    support_baseline_end();
}
