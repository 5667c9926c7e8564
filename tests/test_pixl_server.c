/* SPDX-License-Identifier: MIT */
/* The pixl dialect on a server: where URIs lead, what is answered, what is counted. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/pixl_support.h"

static struct pixl_stage stage;
static struct pixl_raw raw;

static void open_with(const struct vouch_server_options *options,
                      const struct vouch_pixl_server_options *pixl_options) {
    support_baseline_begin();
    pixl_stage_open(&stage, options, pixl_options);
    pixl_raw_open(&raw, &stage, false);
}

static void open_both(void) {
    open_with(NULL, NULL);
}

static void close_both(void) {
    pixl_raw_close(&raw);
    pixl_stage_close(&stage);
    support_baseline_end();
}

/* What is answered to a call, but for the envelope. */
static void check(const char *uri, const char *data, const char *expected) {
    char line[2048];
    snprintf(line, sizeof(line), "{\"ipcReqID\":\"c\",\"uri\":\"%s\",\"data\":%s}", uri, data);
    pixl_raw_send(&raw, line);
    snprintf(line, sizeof(line), "{\"ipcReqID\":\"c\",\"data\":%s}", expected);
    pixl_raw_expect(&raw, line);
}

#define NOT_FOUND(Uri)                                                                             \
    "{\"code\":\"no_handler_found\",\"message\":\"No handler found for " Uri "\"}"

/* ---- routes ---- */

Test(pixl_server, uris_lead_to_methods) {
    open_both();
    check("/json/echo", "{\"a\":[1,1.50]}", "{\"a\":[1,1.50]}");
    check("/over/there", "7", "7");
    check("/under/x", "1", "{\"uri\":\"/under/x\",\"method\":\"/json/where\",\"groups\":[]}");
    check("/user/joe", "1",
          "{\"uri\":\"/user/joe\",\"method\":\"/json/where\",\"groups\":[\"/user/joe\",\"joe\"]}");
    check("/user/joe/x", "1",
          "{\"uri\":\"/user/joe/x\",\"method\":\"/json/where\",\"groups\":[\"/user/joe/"
          "x\",\"joe\",\"/x\"]}");
    check("/user/joe/y", "1", NOT_FOUND("/user/joe/y"));
    check("/x\\\"\\u00e9", "1", NOT_FOUND("/x\\\"\xc3\xa9"));
    close_both();
}

Test(pixl_server, methods_without_json_are_not_there) {
    open_both();
    check("echo", "1", NOT_FOUND("echo"));
    check("/binary", "1", NOT_FOUND("/binary"));
    close_both();
}

Test(pixl_server, a_default_method) {
    open_with(NULL, &(struct vouch_pixl_server_options){.default_method = "/json/where"});
    check("/none", "1", "{\"uri\":\"/none\",\"method\":\"/json/where\",\"groups\":[]}");
    check("/over/there", "1", "1");
    check("/json/echo", "1", "1"); /* by its own name */
    check("echo", "1", "{\"uri\":\"echo\",\"method\":\"/json/where\",\"groups\":[]}");
    check("/binary", "1", NOT_FOUND("/binary")); /* a route that leads nowhere */
    cr_assert_eq(pixl_stage_stats(&stage).handlers, 8);
    close_both();
}

Test(pixl_server, a_pattern_that_takes_too_long_is_answered) {
    char uri[256] = "/slow";
    memset(uri + 5, 'a', 240);
    strcpy(uri + 245, "!");
    open_both();
    check(uri, "1",
          "{\"code\":\"server_error\",\"message\":\"the patterns take too long for this uri\"}");
    check("/slowaa", "1",
          "{\"uri\":\"/slowaa\",\"method\":\"/json/where\",\"groups\":[\"/slowaa\",\"aa\"]}");
    close_both();
}

Test(pixl_server, the_same_methods_through_vouch) {
    struct vouch_client *client;
    struct vouch_error error;
    cJSON *request, *reply;
    open_both();
    client = rpc_stage_client(&stage.rpc, NULL);
    request = json_tree("{\"a\":1}");
    cr_assert_eq(vouch_json_call(client, "/json/echo", request, NULL, &reply, &error), 0);
    json_check_print(reply, "{\"a\":1}");
    cJSON_Delete(reply);
    cr_assert_eq(vouch_json_call(client, "/json/where", request, NULL, &reply, &error), 0);
    json_check_print(reply, "{\"uri\":\"/json/where\",\"method\":\"/json/where\",\"groups\":[]}");
    cJSON_Delete(reply);
    cr_assert_eq(vouch_json_call(client, "/over/there", request, NULL, &reply, &error),
                 VOUCH_REMOTE_METHOD_NOT_FOUND);
    cJSON_Delete(request);
    check("/json/echo", "{\"a\":1}", "{\"a\":1}");
    vouch_client_free(client);
    close_both();
}

Test(pixl_server, both_on_one_connection_are_told_apart) {
    struct pixl_raw either;
    open_both();
    pixl_raw_open(&either, &stage, true);
    pixl_raw_sync(&either);
    pixl_raw_close(&either);
    pixl_raw_open(&either, &stage, true);
    rpc_raw_send(either.fd,
                 &(struct rpc_message){.id = 1, .method = "/json/echo", .data = "[1]", .size = 3});
    struct rpc_received received;
    rpc_raw_expect(either.fd, &received);
    cr_assert_eq(received.envelope.data_size, 3);
    rpc_received_free(&received);
    pixl_raw_close(&either);
    close_both();
}

Test(pixl_server, both_on_one_socket) {
    struct vouch_pixl_client *theirs;
    struct vouch_client *ours;
    struct vouch_listener *listener;
    struct vouch_error error;
    support_baseline_begin();
    pixl_stage_init(&stage, NULL, NULL);
    const struct vouch_dialect *dialect = vouch_pixl_server_get_dialect(stage.pixl);
    const struct vouch_serve_options serve = {VOUCH_OPTIONS(serve), .dialects = &dialect,
                                              .dialect_count = 1};
    support_temp_path(stage.rpc.path, "s");
    cr_assert_eq(vouch_listen(stage.rpc.path, NULL, &listener, NULL), 0);
    cr_assert_eq(vouch_server_add_listener_with(stage.rpc.server, listener, &serve), 0);
    cr_assert_eq(vouch_server_start(stage.rpc.server), 0);
    cr_assert_eq(vouch_pixl_client_dial(stage.rpc.path, NULL, NULL, &theirs, &error), 0);
    cr_assert_eq(vouch_client_dial(stage.rpc.path, NULL, NULL, &ours, &error), 0);
    for (int i = 0; i < 3; i++) {
        pixl_check_call(theirs, "/over/there", "[1]", 0, "[1]");
        /* The 123 bytes that '{' would be the length of, if it could be one, are among them. */
        for (size_t size = 2; size < 200; size++) {
            char text[256];
            memset(text, ' ', size);
            text[0] = '1';
            struct vouch_reply reply;
            cr_assert_eq(vouch_json_call_text(ours, "/json/echo", text, size, NULL, &reply, &error),
                         0, "%s", error.message);
            vouch_reply_release(&reply);
        }
    }
    cr_assert_eq(pixl_stage_stats(&stage).connections, 1);
    vouch_client_free(ours);
    vouch_pixl_client_free(theirs);
    pixl_stage_close(&stage);
    support_baseline_end();
}

static void count_end(void *context, int result, const cJSON *data,
                      const struct vouch_pixl_error *error) {
    cr_assert_eq(result, 0, "%s", error->message);
    json_check_print(data, "[7]");
    (*(unsigned *)context)++;
}

Test(pixl_server, in_a_foreign_loop) {
    struct vouch_pixl_client *client;
    unsigned ends = 0;
    rpc_need_loop_descriptor();
    support_baseline_begin();
    pixl_stage_init(&stage, NULL, NULL);
    cr_assert_geq(vouch_server_get_fd(stage.rpc.server), 0);
    client = pixl_stage_client(&stage, NULL);
    cJSON *data = json_tree("[7]");
    for (int i = 0; i < 20; i++)
        cr_assert_eq(vouch_pixl_call_async(client, i % 2 ? "/over/there" : "/ipcserver/test/echo",
                                           data, NULL, count_end, &ends, NULL),
                     0);
    cJSON_Delete(data);
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (ends < 20 && vouch_now() < give_up) {
        cr_assert_eq(vouch_server_process(stage.rpc.server), 0);
        cr_assert_geq(vouch_client_process(vouch_pixl_client_get_client(client)), 0);
    }
    cr_assert_eq(ends, 20);
    vouch_pixl_client_free(client);
    pixl_stage_close(&stage);
    support_baseline_end();
}

/* ---- the built-in methods ---- */

Test(pixl_server, echo_and_delay) {
    open_both();
    check("/ipcserver/test/echo", "{\"a\":1}", "{\"a\":1}");
    check("/ipcserver/test/echo/and/more", "[ 1 ]", "[ 1 ]");
    check("/ipcserver/test/delay", "{}", "{}");
    check("/ipcserver/test/delay", "null", "null");
    check("/ipcserver/test/delay", "7", "7");
    check("/ipcserver/test/delays", "{\"delay\":null}", "{\"delay\":null}");
    int64_t begun = vouch_now();
    check("/ipcserver/test/delay", "{\"delay\":30, \"x\":1.50}", "{\"delay\":30, \"x\":1.50}");
    cr_assert_geq(vouch_now() - begun, VOUCH_MILLISECONDS(30));
    RPC_EVENTUALLY(pixl_stage_stats(&stage).slow >= 1); /* over 20 ms */
    close_both();
}

Test(pixl_server, a_delay_is_a_number_that_has_a_limit) {
    static const char *const bad[] = {"60000.5", "-1", "1e300", "\"1\"", "true", "[]"};
    open_both();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char data[64];
        snprintf(data, sizeof(data), "{\"delay\":%s}", bad[i]);
        check("/ipcserver/test/delay", data,
              "{\"code\":\"bad_data\",\"message\":\"delay is not a number of milliseconds up to "
              "60000\"}");
    }
    /* The longest is taken; it ends with its caller. */
    struct pixl_raw other;
    pixl_raw_open(&other, &stage, false);
    pixl_raw_send(&other, "{\"uri\":\"/ipcserver/test/delay\",\"data\":{\"delay\":60000}}");
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).in_flight == 1);
    pixl_raw_close(&other);
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).in_flight == 0);
    close_both();
}

Test(pixl_server, without_them) {
    open_with(NULL, &(struct vouch_pixl_server_options){.no_tests = true});
    check("/ipcserver/test/echo", "1", NOT_FOUND("/ipcserver/test/echo"));
    check("/ipcserver/test/delay", "1", NOT_FOUND("/ipcserver/test/delay"));
    cr_assert_eq(pixl_stage_stats(&stage).handlers, 5);
    close_both();
}

static void count_delay(void *context, int result, const cJSON *data,
                        const struct vouch_pixl_error *error) {
    (void)data;
    (void)error;
    unsigned *ends = context;
    ends[result == 0 ? 0 : 1]++;
}

static void call_delay(struct vouch_pixl_client *client, const char *data, unsigned ends[2]) {
    cJSON *tree = json_tree(data);
    cr_assert_eq(
        vouch_pixl_call_async(client, "/ipcserver/test/delay", tree, NULL, count_delay, ends, NULL),
        0);
    cJSON_Delete(tree);
}

/* The longest is taken; in a loop as elsewhere. */
Test(pixl_server, delays_hold_up_no_loop) {
    unsigned ends[2] = {0, 0};
    rpc_need_loop_descriptor();
    support_baseline_begin();
    pixl_stage_init(&stage, NULL, NULL);
    cr_assert_geq(vouch_server_get_fd(stage.rpc.server), 0);
    struct vouch_pixl_client *client = pixl_stage_client(&stage, NULL);
    for (int i = 0; i < 10; i++)
        call_delay(client, "{\"delay\":60000}", ends);
    call_delay(client, "{\"delay\":30}", ends);
    int64_t begun = vouch_now();
    while (ends[0] == 0 && vouch_now() - begun < RPC_FAR_BELOW) {
        cr_assert_eq(vouch_server_process(stage.rpc.server), 0);
        cr_assert_geq(vouch_client_process(vouch_pixl_client_get_client(client)), 0);
    }
    cr_assert_geq(vouch_now() - begun, VOUCH_MILLISECONDS(30));
    cr_assert_eq(ends[0], 1);
    cr_assert_eq(ends[1], 0);
    cr_assert_eq(rpc_stats(&stage.rpc).in_flight, 10);
    vouch_pixl_client_free(client);
    cr_assert_eq(ends[1], 10);
    pixl_stage_close(&stage);
    support_baseline_end();
}

Test(pixl_server, delays_hold_no_threads) {
    unsigned ends[2] = {0, 0};
    open_with(&(struct vouch_server_options){.workers = 1, .workers_max = 1}, NULL);
    struct vouch_pixl_client *client = pixl_stage_client(&stage, NULL);
    for (int i = 0; i < 100; i++)
        call_delay(client, "{\"delay\":60000}", ends);
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).in_flight == 100);
    check("/json/echo", "1", "1");
    vouch_pixl_client_free(client);
    cr_assert_eq(ends[1], 100);
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).in_flight == 0);
    close_both();
}

/* ---- answers ---- */

Test(pixl_server, errors_of_handlers) {
    open_both();
    check("/json/fail", "{\"result\":3,\"text\":\"say \\\"a\\\"\"}",
          "{\"code\":\"bad_data\",\"message\":\"say \\\"a\\\"\"}");
    check("/json/fail", "{\"result\":4}",
          "{\"code\":\"server_error\",\"message\":\"the method failed\"}");
    check("/json/fail", "{\"result\":5}",
          "{\"code\":\"refused\",\"message\":\"the server's policy denies this call\"}");
    check("/json/fail", "{\"result\":1,\"text\":\"other words\"}", NOT_FOUND("/json/fail"));
    close_both();
}

Test(pixl_server, what_handlers_say_is_put_on_a_line) {
    open_both();
    check("/json/say", "\"{\\n \\\"a\\\": 1\\n}\"", "{  \"a\": 1 }");
    check("/json/say", "\"\"", "null");
    check(
        "/json/say", "\"{\"",
        "{\"code\":\"server_error\",\"message\":\"the reply can't be said in the dialect pixl\"}");
    check(
        "/json/say", "\"1\\n2\"",
        "{\"code\":\"server_error\",\"message\":\"the reply can't be said in the dialect pixl\"}");
    pixl_raw_sync(&raw);
    close_both();
}

Test(pixl_server, answers_in_any_order) {
    open_both();
    pixl_raw_send(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/keep\"}");
    rpc_latch_wait(&stage.rpc.entered, 1);
    pixl_raw_send(&raw, "{\"ipcReqID\":[2],\"uri\":\"/json/keep\"}");
    rpc_latch_wait(&stage.rpc.entered, 2);
    pixl_raw_sync(&raw);
    cr_assert_eq(vouch_call_reply(stage.rpc.kept[1], "\"b\"", 3), 0);
    cr_assert_eq(vouch_call_reply(stage.rpc.kept[0], "\"a\"", 3), 0);
    pixl_raw_expect(&raw, "{\"ipcReqID\":[2],\"data\":\"b\"}");
    pixl_raw_expect(&raw, "{\"ipcReqID\":1,\"data\":\"a\"}");
    close_both();
}

static int closed(void *context, struct vouch_call *call, const char *text, size_t size) {
    (void)context;
    (void)call;
    (void)text;
    (void)size;
    return VOUCH_REMOTE_SERVER;
}

Test(pixl_server, a_policy_denies_in_words) {
    const struct vouch_policy nobody = {0};
    support_baseline_begin();
    pixl_stage_init(&stage, NULL, NULL);
    const struct vouch_json_method method = {VOUCH_OPTIONS(method), .name = "/json/closed",
                                             .text_handler = closed, .policy = &nobody};
    cr_assert_eq(vouch_json_add_method(stage.rpc.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.rpc.server), 0);
    pixl_raw_open(&raw, &stage, false);
    pixl_raw_send(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/closed\"}");
    char *line = pixl_raw_line(&raw);
    const char *begins = "{\"ipcReqID\":1,\"data\":{\"code\":\"refused\",\"message\":\"the policy";
    cr_assert_eq(strncmp(line, begins, strlen(begins)), 0, "%s", line);
    free(line);
    close_both();
}

/* ---- what nobody asked for ---- */

Test(pixl_server, notices) {
    struct pixl_raw other;
    open_both();
    pixl_raw_open(&other, &stage, false);
    pixl_raw_sync(&raw);
    pixl_raw_sync(&other);
    cJSON *message = json_tree("{\"data\":{\"news\":1}}");
    cr_assert_eq(vouch_pixl_server_notify(stage.pixl, 0, message), 2);
    pixl_raw_expect(&raw, "{\"data\":{\"news\":1}}");
    pixl_raw_expect(&other, "{\"data\":{\"news\":1}}");
    pixl_raw_send(&other, "{\"uri\":\"/json/keep\"}");
    rpc_latch_wait(&stage.rpc.entered, 1);
    uint64_t number = vouch_call_get_connection(stage.rpc.kept[0]);
    cr_assert_eq(vouch_pixl_server_notify(stage.pixl, number, message), 1);
    cr_assert_eq(vouch_call_reply(stage.rpc.kept[0], NULL, 0), 0);
    pixl_raw_expect(&other, "{\"data\":{\"news\":1}}");
    pixl_raw_expect(&other, "{\"ipcReqID\":null,\"data\":null}");
    pixl_raw_sync(&raw); /* and not here */
    cr_assert_eq(vouch_pixl_server_notify(stage.pixl, 1234567, message), -ENOENT);
    cJSON_Delete(message);
    pixl_raw_close(&other);
    close_both();
}

Test(pixl_server, what_is_no_notice) {
    static const char *const bad[] = {"[]", "1", "{\"ipcReqID\":null}",
                                      "{\"a\":1,\"ipcReqID\":\"rq1\"}"};
    open_both();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cJSON *message = json_tree(bad[i]);
        cr_assert_eq(vouch_pixl_server_notify(stage.pixl, 0, message), -EINVAL, "%s", bad[i]);
        cJSON_Delete(message);
    }
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "a", "\xff");
    cr_assert_eq(vouch_pixl_server_notify(stage.pixl, 0, message), -EINVAL);
    cJSON_Delete(message);
    cr_assert_eq(vouch_pixl_server_notify(stage.pixl, 0, NULL), -EINVAL);
    pixl_raw_sync(&raw);
    close_both();
}

/* ---- statistics ---- */

Test(pixl_server, statistics) {
    struct pixl_raw other;
    struct vouch_pixl_stats stats;
    open_with(NULL, &(struct vouch_pixl_server_options){.slow = 1, .stats_interval = 1000});
    pixl_raw_open(&other, &stage, false);
    pixl_raw_sync(&other);
    pixl_raw_sync(&raw);
    pixl_raw_send(&raw, "hello");
    pixl_raw_send(&raw, " \r");
    pixl_raw_send(&raw, "{\"ipcReqID\":1}");
    char *line = pixl_raw_line(&raw);
    free(line);
    pixl_raw_close(&other);
    RPC_EVENTUALLY(pixl_stage_stats(&stage).closed == 1);
    RPC_EVENTUALLY(pixl_stage_stats(&stage).slow == 3); /* counted after the answer */
    vouch_pixl_server_take_stats(stage.pixl, 5000, &stats);
    cr_assert_eq(stats.requests, 3);
    cr_assert_eq(stats.skipped, 1);
    cr_assert_eq(stats.opened, 2);
    cr_assert_eq(stats.closed, 1);
    cr_assert_eq(stats.most_connections, 2);
    cr_assert_eq(stats.connections, 1);
    cr_assert_eq(stats.handlers, 7);
    cr_assert_eq(stats.slow, 3);
    pixl_raw_sync(&raw);
    cr_assert_eq(vouch_pixl_server_turn_stats(stage.pixl, 5999, &stats), 0);
    RPC_EVENTUALLY(pixl_stage_stats(&stage).slow == 1);
    cr_assert_eq(vouch_pixl_server_turn_stats(stage.pixl, 6000, &stats), 1);
    cr_assert_eq(stats.requests, 1);
    cr_assert_eq(stats.begun, 5000);
    cr_assert_eq(stats.elapsed, 1000);
    cr_assert_eq(stats.handlers, 7);
    cr_assert_eq(pixl_stage_stats(&stage).requests, 0);
    close_both();
}

Test(pixl_server, a_client_that_does_not_read_blocks) {
    size_t size = 1000000;
    open_with(&(struct vouch_server_options){.send_buffer_max = 1}, NULL);
    char *line = malloc(size + 100);
    cr_assert_not_null(line);
    int head = snprintf(line, 100, "{\"uri\":\"/ipcserver/test/echo\",\"data\":\"");
    memset(line + head, 'x', size);
    strcpy(line + head + size, "\"}");
    pixl_raw_send(&raw, line);
    pixl_raw_send(&raw, line);
    RPC_EVENTUALLY(pixl_stage_stats(&stage).blocked >= 1);
    for (int i = 0; i < 2; i++) {
        char *answer = pixl_raw_line(&raw);
        cr_assert_eq(strlen(answer), size + strlen("{\"ipcReqID\":null,\"data\":\"\"}"));
        free(answer);
    }
    free(line);
    close_both();
}

/* ---- life ---- */

Test(pixl_server, stopping_gives_calls_their_time) {
    open_with(NULL, &(struct vouch_pixl_server_options){.exit_timeout = RPC_PATIENCE});
    pixl_raw_send(&raw,
                  "{\"ipcReqID\":1,\"uri\":\"/ipcserver/test/delay\",\"data\":{\"delay\":50}}");
    /* It may be answered by now. */
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).in_flight == 1 || rpc_stats(&stage.rpc).errors[0] == 1);
    cr_assert_eq(vouch_pixl_server_stop(stage.pixl), 0);
    pixl_raw_expect(&raw, "{\"ipcReqID\":1,\"data\":{\"delay\":50}}");
    pixl_raw_expect_end(&raw);
    close_both();
}

Test(pixl_server, stopping_does_not_wait_for_ever) {
    open_with(NULL, &(struct vouch_pixl_server_options){.exit_timeout = VOUCH_MILLISECONDS(20)});
    pixl_raw_send(&raw,
                  "{\"ipcReqID\":1,\"uri\":\"/ipcserver/test/delay\",\"data\":{\"delay\":60000}}");
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).in_flight == 1);
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_pixl_server_stop(stage.pixl), -ETIMEDOUT);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

Test(pixl_server, stopping_takes_two_seconds_at_most_by_default) {
    open_both();
    pixl_raw_send(&raw,
                  "{\"ipcReqID\":1,\"uri\":\"/ipcserver/test/delay\",\"data\":{\"delay\":60000}}");
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).in_flight == 1);
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_pixl_server_stop(stage.pixl), -ETIMEDOUT);
    cr_assert_geq(vouch_now() - begun, VOUCH_SECONDS(2));
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

Test(pixl_server, listening_is_as_safe_as_ever) {
    struct stat status;
    struct vouch_error error;
    support_baseline_begin();
    pixl_stage_init(&stage, NULL, NULL);
    pixl_stage_listen(&stage);
    cr_assert_eq(stat(stage.rpc.path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0600);
    cr_assert_eq(vouch_pixl_server_listen(stage.pixl, "", NULL, &error), VOUCH_E_PATH_EMPTY);
    char path[SUPPORT_PATH_MAX];
    const struct vouch_listen_options packets = {VOUCH_OPTIONS(packets),
                                                 .link = VOUCH_LINK_SEQPACKET};
    cr_assert_eq(
        vouch_pixl_server_listen(stage.pixl, support_temp_path(path, "packets"), &packets, &error),
        -ENOTSUP);
    cr_assert_not_null(strstr(error.message, "lines need a stream"), "%s", error.message);
    const struct vouch_listen_options open = {VOUCH_OPTIONS(open), .mode = 0777};
    cr_assert_eq(
        vouch_pixl_server_listen(stage.pixl, support_temp_path(path, "open"), &open, &error), 0);
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0777);
    pixl_stage_close(&stage);
    support_baseline_end();
}

Test(pixl_server, listening_after_the_end) {
    struct vouch_error error = {.code = 0};
    char path[SUPPORT_PATH_MAX];
    open_both();
    cr_assert_eq(vouch_pixl_server_stop(stage.pixl), 0);
    cr_assert_eq(vouch_pixl_server_listen(stage.pixl, support_temp_path(path, "s"), NULL, &error),
                 -ESHUTDOWN);
    cr_assert_eq(error.code, -ESHUTDOWN);
    cr_assert_not_null(strstr(error.message, path));
    close_both();
}

Test(pixl_server, no_routes_once_it_is_in_use) {
    struct vouch_error error = {.code = 0};
    open_both();
    cr_assert_eq(
        vouch_pixl_server_add_route(stage.pixl, VOUCH_PIXL_LITERAL, "/late", 0, "x", &error),
        -EBUSY);
    cr_assert_eq(error.code, -EBUSY);
    cr_assert_not_null(strstr(error.message, "/late"));
    cr_assert_eq(vouch_pixl_server_add_route(stage.pixl, VOUCH_PIXL_LITERAL, NULL, 0, "x", NULL),
                 -EBUSY);
    close_both();
}

Test(pixl_server, bad_options) {
    struct vouch_pixl_server *pixl;
    support_baseline_begin();
    rpc_stage_init(&stage.rpc, NULL);
    const struct vouch_pixl_server_options bad[] = {{.slow = -1},
                                                    {.stats_interval = -1},
                                                    {.exit_timeout = -1},
                                                    {.default_method = ""},
                                                    {.default_method = "a b"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(vouch_pixl_server_new(stage.rpc.server, &bad[i], &pixl), -EINVAL, "%zu", i);
    cr_assert_eq(vouch_pixl_server_new(NULL, NULL, &pixl), -EINVAL);
    vouch_pixl_server_free(NULL);
    rpc_stage_close(&stage.rpc);
    support_baseline_end();
}

Test(pixl_server, two_of_one_server) {
    struct vouch_pixl_server *second;
    struct vouch_pixl_match match;
    support_baseline_begin();
    pixl_stage_init(&stage, NULL, NULL);
    cr_assert_eq(vouch_pixl_server_new(stage.rpc.server, NULL, &second), 0);
    cr_assert_eq(vouch_pixl_server_match(second, "/ipcserver/test/echo", 20, &match), 1);
    cr_assert_str_eq(match.method, "/ipcserver/test/echo");
    cr_assert_eq(vouch_pixl_server_match(second, "/over/there", 11, &match), 0);
    cr_assert_null(match.method);
    cr_assert_eq(vouch_pixl_server_match(second, "\xff", 1, &match), -EINVAL);
    cr_assert_eq(vouch_pixl_server_match(second, NULL, 0, &match), -EINVAL);
    rpc_stage_close(&stage.rpc);
    vouch_pixl_server_free(second);
    vouch_pixl_server_free(stage.pixl);
    support_baseline_end();
}

Test(pixl_server, without_memory) {
    struct support_allocator memory;
    support_baseline_begin();
    for (uint64_t n = 1; n < 60; n++) {
        struct vouch_pixl_server *pixl = NULL;
        struct vouch_server *server;
        support_allocator_init(&memory);
        const struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                                     .allocator = &memory.allocator};
        cr_assert_eq(vouch_server_new(&options, &server), 0);
        support_allocator_fail(&memory, n, SUPPORT_FAIL_ALWAYS);
        int r = vouch_pixl_server_new(server, NULL, &pixl);
        cr_assert(r == 0 || r == -ENOMEM, "%d", r);
        if (r == 0)
            r = vouch_pixl_server_add_route(pixl, VOUCH_PIXL_PATTERN, "^/(a|b)$", 0, "x", NULL);
        cr_assert(r == 0 || r == -ENOMEM, "%d", r);
        support_allocator_fail(&memory, 0, 0);
        vouch_server_free(server);
        vouch_pixl_server_free(pixl);
        support_allocator_check(&memory);
    }
    support_baseline_end();
}
