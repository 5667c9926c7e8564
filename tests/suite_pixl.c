/* SPDX-License-Identifier: MIT */
/*
 * What peers may do to a pixl connection: bytes cut anywhere, lines of every kind and size, halves
 * of lines. Whatever a line is, the connection lives, and what comes after it is answered.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <vouch/tcp.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/pixl_support.h"

#define MEGABYTE ((size_t)1024 * 1024)

static struct pixl_stage stage;
static struct pixl_raw raw;

static void open_with(const struct vouch_server_options *options) {
    support_baseline_begin();
    pixl_stage_open(&stage, options, NULL);
    pixl_raw_open(&raw, &stage, false);
}

static void close_both(void) {
    pixl_raw_close(&raw);
    pixl_stage_close(&stage);
    support_baseline_end();
}

/* ---- bytes cut anywhere ---- */

Test(pixl, a_line_cut_at_every_byte) {
    const char *line = "{\"ipcReqID\":\"rq\\u0031\",\"uri\":\"\\/json/ech\\u006f\",\"data\":{\"a\":"
                       "\"\xf0\x9f\x98\x80\\n\"},\"pid\":1}\n";
    size_t size = strlen(line);
    open_with(NULL);
    for (size_t cut = 1; cut < size; cut++) {
        cr_assert(rpc_raw_write(raw.fd, line, cut));
        sched_yield();
        cr_assert(rpc_raw_write(raw.fd, line + cut, size - cut));
        pixl_raw_expect(&raw,
                        "{\"ipcReqID\":\"rq\\u0031\",\"data\":{\"a\":\"\xf0\x9f\x98\x80\\n\"}}");
    }
    for (size_t i = 0; i < size; i++)
        cr_assert(rpc_raw_write(raw.fd, line + i, 1));
    pixl_raw_expect(&raw, "{\"ipcReqID\":\"rq\\u0031\",\"data\":{\"a\":\"\xf0\x9f\x98\x80\\n\"}}");
    close_both();
}

Test(pixl, many_lines_in_one_write) {
    char lines[64 * 80] = "", line[80];
    open_with(NULL);
    for (int i = 0; i < 64; i++) {
        snprintf(line, sizeof(line), "{\"ipcReqID\":%d,\"uri\":\"/ipcserver/test/echo\"}\n\n", i);
        strcat(lines, line);
    }
    bool seen[64] = {false};
    pixl_raw_write(&raw, lines);
    for (int i = 0; i < 64; i++) {
        int id = -1;
        char *answer = pixl_raw_line(&raw);
        cr_assert_eq(sscanf(answer, "{\"ipcReqID\":%d,\"data\":null}", &id), 1, "%s", answer);
        cr_assert(id >= 0 && id < 64 && !seen[id]);
        seen[id] = true;
        free(answer);
    }
    close_both();
}

Test(pixl, a_line_and_its_end_in_two_writes) {
    open_with(NULL);
    pixl_raw_write(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/echo\",\"data\":2}");
    sched_yield();
    pixl_raw_write(&raw, "\n");
    pixl_raw_expect(&raw, "{\"ipcReqID\":1,\"data\":2}");
    pixl_raw_write(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/echo\",\"data\":2}\r\n");
    pixl_raw_expect(&raw, "{\"ipcReqID\":1,\"data\":2}");
    close_both();
}

/* ---- lines of every kind ---- */

Test(pixl, what_is_no_message_is_skipped) {
    static const char *const lines[] = {"",
                                        " ",
                                        "\r",
                                        "\t",
                                        "hello",
                                        "GET / HTTP/1.1",
                                        "Host: a",
                                        "[]",
                                        "1",
                                        "null",
                                        "}",
                                        "{",
                                        "{]",
                                        "{\"",
                                        "{\"uri\"",
                                        "{\"uri\":",
                                        "{\"uri\":\"/json/echo\"",
                                        "{\"uri\":\"/json/echo\"}}",
                                        "{\"ipcReqID\":1,\"uri\":\"\xff\"}",
                                        "\xff\xfe",
                                        "{\"ipcReqID\":\"\\ud800\",\"uri\":\"/x\"}"};
    open_with(NULL);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        pixl_raw_send(&raw, lines[i]);
        pixl_raw_sync(&raw);
    }
    cr_assert_eq(pixl_stage_stats(&stage).skipped, sizeof(lines) / sizeof(lines[0]) - 4,
                 "blank lines are no news");
    cr_assert_eq(rpc_stats(&stage.rpc).cut_malformed, 0);
    close_both();
}

/* Whoever sends nothing but such lines takes turns with the others: a few turns of a loop are not
 * enough for it, and plenty for who asks for something. */
Test(pixl, skipped_lines_take_their_turn) {
    static const char *const lines[] = {"\n", " \n", "hello\n", "{\n"};
    static char flood[64000];
    rpc_need_loop_descriptor();
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct pixl_raw other;
        size_t length = strlen(lines[i]);
        support_baseline_begin();
        pixl_stage_init(&stage, NULL, NULL);
        cr_assert_geq(vouch_server_get_fd(stage.rpc.server), 0);
        pixl_raw_open(&raw, &stage, false);
        pixl_raw_open(&other, &stage, false);
        for (size_t at = 0; at + length < sizeof(flood); at += length)
            memcpy(flood + at, lines[i], length + 1);
        pixl_raw_write(&raw, flood);
        pixl_raw_send(&raw, "{\"uri\":\"/json/echo\",\"data\":1}");
        pixl_raw_send(&other, "{\"uri\":\"/json/echo\",\"data\":2}");
        cr_assert_eq(vouch_server_process(stage.rpc.server), 0);
        pixl_raw_expect(&other, "{\"ipcReqID\":null,\"data\":2}");
        cr_assert_not(rpc_raw_readable(raw.fd));
        int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
        while (!rpc_raw_readable(raw.fd) && vouch_now() < give_up)
            cr_assert_eq(vouch_server_process(stage.rpc.server), 0);
        pixl_raw_expect(&raw, "{\"ipcReqID\":null,\"data\":1}");
        pixl_raw_close(&other);
        close_both();
    }
}

/* Another connection, to a port. */
static void open_tcp(struct pixl_raw *other) {
    const struct vouch_dialect *dialect = vouch_pixl_server_get_dialect(stage.pixl);
    const struct vouch_serve_options serve = {VOUCH_OPTIONS(serve), .dialects = &dialect,
                                              .dialect_count = 1, .only_dialects = true,
                                              .allow_callers_without_identity = true};
    struct vouch_listener *listener;
    cr_assert_eq(vouch_listen_tcp_reuseport("127.0.0.1", 0, NULL, &listener, NULL), 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(vouch_listener_get_port(listener))};
    struct timeval patience = {.tv_sec = RPC_PATIENCE / VOUCH_SECONDS(1)};
    cr_assert_eq(vouch_server_add_listener_with(stage.rpc.server, listener, &serve), 0);
    *other = (struct pixl_raw){.fd = socket(AF_INET, SOCK_STREAM, 0)};
    cr_assert_geq(other->fd, 0);
    cr_assert_eq(setsockopt(other->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    cr_assert_eq(connect(other->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

/* A page that a browser shows can have it send any body to a port of this machine. To a path it
 * can't. */
Test(pixl, what_a_browser_sends_for_a_page_is_not_taken) {
    static const char *const heads[] = {"POST / HTTP/1.1\r", "POST /long HTTP/1.0",
                                        "Host: 127.0.0.1:80\r", "host: localhost"};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        open_with(NULL);
        char text[256];
        snprintf(text, sizeof(text), "%s\n\r\n{\"ipcReqID\":1,\"uri\":\"/json/echo\"}\n", heads[i]);
        struct pixl_raw page;
        open_tcp(&page);
        pixl_raw_write(&page, text);
        pixl_raw_expect_end(&page);
        RPC_EVENTUALLY(rpc_stats(&stage.rpc).cut_malformed == 1);
        cr_assert_eq(rpc_stats(&stage.rpc).calls, 0);
        pixl_raw_close(&page);
        open_tcp(&page);
        pixl_raw_send(&page, "Hosts: a");
        pixl_raw_sync(&page);
        pixl_raw_close(&page);
        pixl_raw_write(&raw, text);
        pixl_raw_expect(&raw, "{\"ipcReqID\":1,\"data\":null}");
        cr_assert_eq(rpc_stats(&stage.rpc).cut_malformed, 1);
        close_both();
    }
}

Test(pixl, bytes_of_any_kind_are_survived) {
    struct support_random random;
    uint8_t bytes[512];
    support_random_init(&random);
    open_with(NULL);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(200, 20); i++) {
        size_t size = support_random_below(&random, sizeof(bytes));
        support_random_fill(&random, bytes, size);
        if (size > 0 && i % 2)
            bytes[0] = '{';
        cr_assert(rpc_raw_write(raw.fd, bytes, size));
        pixl_raw_write(&raw, "\n");
        pixl_raw_sync(&raw);
    }
    close_both();
}

Test(pixl, without_a_uri) {
    open_with(NULL);
    pixl_raw_send(&raw, "{\"ipcReqID\":{\"a\":[1, 2]},\"data\":1}");
    pixl_raw_expect(&raw,
                    "{\"ipcReqID\":{\"a\":[1, 2]},\"code\":\"no_uri\",\"message\":\"The request "
                    "has no uri\"}");
    pixl_raw_send(&raw, "{}");
    pixl_raw_expect(
        &raw, "{\"ipcReqID\":null,\"code\":\"no_uri\",\"message\":\"The request has no uri\"}");
    close_both();
}

Test(pixl, json_that_is_bad_is_answered_where_it_says_to_whom) {
    open_with(NULL);
    pixl_raw_send(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/echo\",\"data\":\"\\u0000\"}");
    pixl_raw_expect(&raw,
                    "{\"ipcReqID\":1,\"data\":{\"code\":\"bad_data\",\"message\":\"\\\\u0000, "
                    "which a C string cannot hold\"}}");
    pixl_raw_send(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/echo\",\"data\":[}");
    pixl_raw_expect(&raw, "{\"ipcReqID\":1,\"data\":{\"code\":\"bad_data\",\"message\":\"no value "
                          "where one has to be\"}}");
    pixl_raw_sync(&raw);
    close_both();
}

Test(pixl, ids_and_uris_of_any_size) {
    char text[1200];
    open_with(NULL);
    for (size_t size = VOUCH_PIXL_ID_MAX - 4; size < 600; size++) {
        int at = snprintf(text, sizeof(text), "{\"ipcReqID\":\"");
        memset(text + at, 'i', size);
        snprintf(text + at + size, 40, "\",\"uri\":\"/over/there\",\"data\":1}");
        pixl_raw_send(&raw, text);
        char *answer = pixl_raw_line(&raw);
        if (size + 2 <= VOUCH_PIXL_ID_MAX)
            cr_assert_eq(strlen(answer), size + strlen("{\"ipcReqID\":\"\",\"data\":1}"));
        else
            cr_assert_str_eq(answer,
                             "{\"ipcReqID\":null,\"data\":{\"code\":\"too_large\",\"message\":"
                             "\"the ipcReqID is too long\"}}");
        free(answer);
    }
    memset(text, 'u', sizeof(text));
    snprintf(text + 1000, 40, "\",\"ipcReqID\":2}");
    memcpy(text, "{\"uri\":\"", 8);
    pixl_raw_send(&raw, text);
    pixl_raw_expect(&raw,
                    "{\"ipcReqID\":2,\"data\":{\"code\":\"too_large\",\"message\":\"the uri is "
                    "too long\"}}");
    close_both();
}

Test(pixl, deeply_nested) {
    size_t depth = 100000;
    char *line = malloc(2 * depth + 100);
    open_with(NULL);
    cr_assert_not_null(line);
    int at = snprintf(line, 100, "{\"ipcReqID\":1,\"uri\":\"/json/echo\",\"data\":");
    memset(line + at, '[', depth);
    memset(line + at + depth, ']', depth);
    strcpy(line + at + 2 * depth, "}");
    pixl_raw_send(&raw, line);
    pixl_raw_expect(&raw,
                    "{\"ipcReqID\":1,\"data\":{\"code\":\"bad_data\",\"message\":\"arrays and "
                    "objects nested too deeply\"}}");
    pixl_raw_sync(&raw);
    free(line);
    close_both();
}

/* ---- large lines ---- */

/* {"ipcReqID":5,"uri":URI,"data":"xxx…"} of `size` bytes in all, without its end. */
static char *line_of(const char *uri, size_t size) {
    char *line = malloc(size + 1);
    cr_assert_not_null(line);
    memset(line, 'x', size);
    char head[100];
    int length = snprintf(head, sizeof(head), "{\"ipcReqID\":5,\"uri\":\"%s\",\"data\":\"", uri);
    memcpy(line, head, (size_t)length);
    memcpy(line + size - 2, "\"}", 3);
    return line;
}

Test(pixl, a_megabyte_both_ways) {
    static const char *const uris[] = {"/ipcserver/test/echo", "/json/echo"};
    open_with(NULL);
    for (size_t i = 0; i < 4; i++) {
        const char *uri = uris[i % 2];
        size_t size = MEGABYTE + i * 500000;
        char *line = line_of(uri, size);
        pixl_raw_send(&raw, line);
        char *answer = pixl_raw_line(&raw);
        size_t head = strlen("\"uri\":\"\",") + strlen(uri);
        cr_assert_eq(strlen(answer), size - head);
        cr_assert_eq(strncmp(answer, "{\"ipcReqID\":5,\"data\":\"xxx", 24), 0);
        cr_assert_str_eq(strchr(answer, 'x') + strspn(strchr(answer, 'x'), "x"), "\"}");
        free(answer);
        free(line);
    }
    close_both();
}

Test(pixl, a_megabyte_from_a_client) {
    struct vouch_pixl_client *client;
    struct vouch_pixl_error error;
    open_with(NULL);
    client = pixl_stage_client(&stage, NULL);
    char *text = malloc(MEGABYTE + 1);
    cr_assert_not_null(text);
    memset(text, 'y', MEGABYTE);
    text[MEGABYTE] = '\0';
    cJSON *data = cJSON_CreateString(text), *reply;
    cr_assert_eq(vouch_pixl_call(client, "/json/echo", data, NULL, &reply, &error), 0, "%s",
                 error.message);
    cr_assert_str_eq(reply->valuestring, text);
    cJSON_Delete(reply);
    cJSON_Delete(data);
    free(text);
    vouch_pixl_client_free(client);
    close_both();
}

/* The longest that is taken, and one byte more; then one that is skipped for long. */
Test(pixl, a_line_at_the_limit_and_over_it) {
    static const size_t more[] = {0, 1, 2, 1000, 20000};
    open_with(&(struct vouch_server_options){.max_request = 8192, .drain_max = 65536});
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        char *line = line_of("/ipcserver/test/echo", 8192 + more[i]), *answer;
        pixl_raw_send(&raw, line);
        answer = pixl_raw_line(&raw);
        const char *expected = more[i] == 0 ? "{\"ipcReqID\":5,\"data\":\"xxx"
                                            : "{\"ipcReqID\":5,\"data\":{\"code\":\"too_large\",";
        cr_assert_eq(strncmp(answer, expected, strlen(expected)), 0, "%zu: %.200s", more[i],
                     answer);
        free(answer);
        free(line);
        pixl_raw_sync(&raw);
    }
    close_both();
}

Test(pixl, a_long_line_whose_id_comes_last) {
    open_with(&(struct vouch_server_options){.max_request = 8192, .drain_max = 65536});
    char *line = line_of("/ipcserver/test/echo", 10000);
    memcpy(line, "{\"data\":\"xxxx", 13);
    memset(line + 9, 'x', 200);
    strcpy(line + 10000 - 20, "\",\"ipcReqID\":5}");
    pixl_raw_send(&raw, line);
    char *answer = pixl_raw_line(&raw);
    const char *expected = "{\"ipcReqID\":null,\"data\":{\"code\":\"too_large\",";
    cr_assert_eq(strncmp(answer, expected, strlen(expected)), 0, "%.200s", answer);
    free(answer);
    pixl_raw_sync(&raw);
    memset(line, 'x', 9990); /* no message at all */
    pixl_raw_send(&raw, line);
    pixl_raw_sync(&raw);
    free(line);
    close_both();
}

Test(pixl, a_line_without_an_end_does_not_go_on_for_ever) {
    open_with(&(struct vouch_server_options){.max_request = 4096, .drain_max = 8192});
    char *line = line_of("/ipcserver/test/echo", 100000);
    (void)rpc_raw_write(raw.fd, line, 100000); /* it may be cut off meanwhile */
    free(line);
    char *answer = pixl_raw_line(&raw);
    free(answer); /* told or not, it is the end */
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).live_connections == 0);
    cr_assert_eq(rpc_stats(&stage.rpc).cut_malformed, 1);
    close_both();
}

Test(pixl, a_reply_that_is_too_large) {
    open_with(&(struct vouch_server_options){.max_reply = 4096});
    char *line = line_of("/ipcserver/test/echo", 5000);
    pixl_raw_send(&raw, line);
    free(line);
    char *answer = pixl_raw_line(&raw);
    const char *expected =
        "{\"ipcReqID\":5,\"data\":{\"code\":\"too_large\",\"message\":\"the reply of ";
    cr_assert_eq(strncmp(answer, expected, strlen(expected)), 0, "%.200s", answer);
    free(answer);
    pixl_raw_sync(&raw);
    close_both();
}

Test(pixl, replies_over_a_clients_limit_end_their_call_alone) {
    struct vouch_pixl_client *client;
    const struct vouch_client_options general = {VOUCH_OPTIONS(general), .max_reply = 4096};
    open_with(NULL);
    client = pixl_stage_client(&stage, &(struct vouch_pixl_client_options){.client = &general});
    char data[6000] = "\"";
    memset(data + 1, 'z', 5000);
    strcpy(data + 5001, "\"");
    const struct vouch_pixl_error *error =
        pixl_check_call(client, "/json/echo", data, -EMSGSIZE, NULL);
    cr_assert_not_null(strstr(error->message, "4096"), "%s", error->message);
    pixl_check_call(client, "/json/echo", "1", 0, "1");
    vouch_pixl_client_free(client);
    close_both();
}

static void note_end(void *context, int result, const cJSON *data,
                     const struct vouch_pixl_error *error) {
    (void)data;
    (void)error;
    int *ended = context;
    cr_assert_eq(*ended, 1);
    *ended = result;
}

/* What is behind the first bytes is looked through, too. */
Test(pixl, a_reply_over_a_clients_limit_may_have_its_id_last) {
    const struct vouch_client_options general = {VOUCH_OPTIONS(general), .max_reply = 4096};
    int ended[3] = {1, 1, 1};
    support_baseline_begin();
    struct vouch_pixl_client *client =
        pixl_raw_client(&raw, &(struct vouch_pixl_client_options){.client = &general,
                                                                  .call_timeout = VOUCH_FOREVER});
    for (int i = 0; i < 3; i++)
        cr_assert_eq(vouch_pixl_call_async(client, "/x", NULL, NULL, note_end, &ended[i], NULL), 0);
    char *line = line_of("/x", 50000);
    static const char head[] = "{\"data\":{\"ipcReqID\":\"rq1\",\"a\":\"",
                      tail[] = "\\\"\"},\"ipcReqID\":\"rq2\",\"data\":1}";
    memset(line, 'x', 50000);
    memcpy(line, head, sizeof(head) - 1);
    memcpy(line + 50000 - sizeof(tail) + 1, tail, sizeof(tail) - 1);
    pixl_raw_send(&raw, line);
    pixl_raw_send(&raw, "{\"ipcReqID\":\"rq3\",\"data\":1}");
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (ended[2] == 1 && vouch_now() < give_up)
        (void)vouch_client_wait(vouch_pixl_client_get_client(client), give_up);
    cr_assert_eq(ended[0], 1);
    cr_assert_eq(ended[1], -EMSGSIZE);
    cr_assert_eq(ended[2], 0);
    vouch_pixl_client_free(client);
    free(line);
    pixl_raw_close(&raw);
    support_baseline_end();
}

/* ---- halves ---- */

Test(pixl, half_a_line_and_silence) {
    open_with(&(struct vouch_server_options){.frame_timeout = VOUCH_MILLISECONDS(20)});
    /* Not in two writes, between which there may be a while. */
    pixl_raw_write(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/echo\"}\n");
    pixl_raw_expect(&raw, "{\"ipcReqID\":1,\"data\":null}");
    pixl_raw_write(&raw, "{\"ipcReqID\":1,");
    pixl_raw_expect_end(&raw);
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).live_connections == 0);
    cr_assert_eq(rpc_stats(&stage.rpc).cut_timeout, 1);
    close_both();
}

Test(pixl, half_a_line_and_the_end) {
    open_with(NULL);
    pixl_raw_sync(&raw);
    pixl_raw_write(&raw, "{\"ipcReqID\":1,\"uri\":\"/json/echo\"}");
    cr_assert_eq(rpc_stats(&stage.rpc).calls, 1);
    close_both();
}

/* A flood of calls whose answers nobody reads stops being read. */
Test(pixl, who_does_not_read_is_not_read_for_ever) {
    open_with(&(struct vouch_server_options){.max_request = 70000,
                                             .output_soft = 100000,
                                             .output_hard = 200000,
                                             .stall_timeout = VOUCH_MILLISECONDS(100),
                                             .send_buffer_max = 1});
    char *line = line_of("/ipcserver/test/echo", 60000);
    line[59999] = '\n';
    line[59998] = '}';
    line[59997] = '"';
    for (int i = 0; i < 200 && rpc_raw_write(raw.fd, line, 60000); i++)
        ;
    free(line);
    RPC_EVENTUALLY(rpc_stats(&stage.rpc).live_connections == 0);
    cr_assert_geq(pixl_stage_stats(&stage).blocked, 1);
    close_both();
}
