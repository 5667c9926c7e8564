/* SPDX-License-Identifier: MIT */
/* One connection of the server: what it reads, what it refuses, when it ends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;

static void open_with(const struct vouch_server_options *options) {
    support_baseline_begin();
    rpc_stage_open(&stage, options);
}

static void close_stage(void) {
    rpc_stage_close(&stage);
    support_baseline_end();
}

static void send_call(int fd, uint32_t id, const char *method, const void *data, size_t size) {
    rpc_raw_send(fd, &(struct rpc_message){.id = id,
                                           .expires = rpc_wall_in(RPC_PATIENCE),
                                           .method = method,
                                           .data = data,
                                           .size = size});
}

static void expect_reply(int fd, uint32_t id, uint32_t error_type) {
    struct rpc_received reply;
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.id, id);
    cr_assert_eq(reply.envelope.error_type, error_type);
    rpc_received_free(&reply);
}

/* ---- what arrives ---- */

Test(server_conn, answers_a_plain_client_and_repeats_method_and_deadline) {
    open_with(NULL);
    int fd = rpc_stage_raw(&stage);
    int64_t expires = rpc_wall_in(RPC_PATIENCE);
    struct rpc_received reply;
    rpc_raw_send(fd,
                 &(struct rpc_message){
                     .id = 41, .expires = expires, .method = "echo", .data = "plain", .size = 5});
    cr_assert(rpc_raw_receive(fd, &reply));
    cr_assert_eq(reply.envelope.id, 41);
    cr_assert_eq(reply.envelope.expires, expires);
    cr_assert_eq(reply.envelope.method_size, 4);
    cr_assert_eq(memcmp(reply.envelope.method, "echo", 4), 0);
    cr_assert_eq(reply.envelope.data_size, 5);
    cr_assert_eq(memcmp(reply.envelope.data, "plain", 5), 0);
    cr_assert_eq(reply.envelope.server_features, 0);
    cr_assert_eq(reply.envelope.max_message, 0);
    rpc_received_free(&reply);
    close(fd);
    close_stage();
}

Test(server_conn, says_hello_to_who_shows_features) {
    open_with(NULL);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received hello;
    rpc_raw_send(
        fd, &(struct rpc_message){.id = 1, .method = "echo", .client_features = SESSION_FEATURES});
    cr_assert(rpc_raw_receive(fd, &hello));
    cr_assert_eq(hello.envelope.control, ENVELOPE_HELLO);
    cr_assert_eq(hello.envelope.server_features, SESSION_FEATURES);
    rpc_received_free(&hello);
    expect_reply(fd, 1, 0);
    rpc_raw_send(fd, &(struct rpc_message){.id = 5, .control = ENVELOPE_PING});
    rpc_raw_expect(fd, &hello);
    cr_assert_eq(hello.envelope.control, ENVELOPE_PONG);
    cr_assert_eq(hello.envelope.id, 5);
    rpc_received_free(&hello);
    close(fd);
    close_stage();
}

/* A reader sees splits anywhere: here at every byte. */
Test(server_conn, a_call_may_come_byte_by_byte) {
    open_with(NULL);
    int fd = rpc_stage_raw(&stage);
    uint8_t bytes[RPC_MESSAGE_ROOM];
    size_t size =
        rpc_encode(&(struct rpc_message){.id = 1, .method = "echo", .data = "slowly", .size = 6},
                   bytes, sizeof(bytes));
    for (size_t i = 0; i < size; i++)
        cr_assert(rpc_raw_write(fd, bytes + i, 1));
    expect_reply(fd, 1, 0);
    close(fd);
    close_stage();
}

/* More than is dealt with in one turn, all in one write. */
Test(server_conn, many_calls_may_come_at_once) {
    open_with(NULL);
    int fd = rpc_stage_raw(&stage);
    enum { CALLS = 1000 };
    static uint8_t bytes[CALLS * 64];
    static bool seen[CALLS + 1];
    size_t size = 0;
    for (uint32_t i = 1; i <= CALLS; i++)
        size += rpc_encode(&(struct rpc_message){.id = i, .method = i % 50 ? "quick" : "echo"},
                           bytes + size, sizeof(bytes) - size);
    cr_assert(rpc_raw_write(fd, bytes, size));
    for (int i = 0; i < CALLS; i++) {
        struct rpc_received reply;
        rpc_raw_expect(fd, &reply);
        cr_assert(reply.envelope.id >= 1 && reply.envelope.id <= CALLS);
        cr_assert_not(seen[reply.envelope.id], "each once");
        seen[reply.envelope.id] = true;
        rpc_received_free(&reply);
    }
    close(fd);
    close_stage();
}

/* ---- what is refused ---- */

static void check_malformed(const void *bytes, size_t size) {
    int fd = rpc_stage_raw(&stage), other = rpc_stage_raw(&stage);
    uint64_t cut = rpc_stats(&stage).cut_malformed;
    send_call(fd, 1, "echo", "fine", 4);
    expect_reply(fd, 1, 0);
    cr_assert(rpc_raw_write(fd, bytes, size));
    rpc_raw_expect_end(fd);
    RPC_EVENTUALLY(rpc_stats(&stage).cut_malformed == cut + 1);
    send_call(other, 1, "echo", "others are not disturbed", 24);
    expect_reply(other, 1, 0);
    close(fd);
    close(other);
}

Test(server_conn, nonsense_ends_the_connection_and_only_that) {
    open_with(NULL);
    check_malformed("\x01", 1);                                      /* a length of -1 */
    check_malformed("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10); /* one of over 64 bits */
    check_malformed("\x02\x07", 2);                                  /* a field of no type */
    check_malformed("\x06\x1a\x02\xc3", 4);                          /* text beyond the end */
    check_malformed("\x0c\x1a\x04"
                    "echo",
                    7); /* a call without an id */
    uint8_t bytes[2 * RPC_MESSAGE_ROOM];
    size_t size =
        rpc_encode(&(struct rpc_message){.id = 2, .method = "keep"}, bytes, sizeof(bytes));
    size += rpc_encode(&(struct rpc_message){.id = 2, .method = "keep"}, bytes + size,
                       sizeof(bytes) - size);
    check_malformed(bytes, size); /* an id that is in flight */
    rpc_latch_wait(&stage.entered, 1);
    (void)vouch_call_reply(stage.kept[0], "", 0);
    close_stage();
}

Test(server_conn, pings_without_end_are_a_nuisance) {
    open_with(NULL);
    int fd = rpc_stage_raw(&stage);
    rpc_raw_send(
        fd, &(struct rpc_message){.id = 1, .method = "echo", .client_features = SESSION_FEATURES});
    expect_reply(fd, 1, 0);
    uint8_t bytes[RPC_MESSAGE_ROOM];
    size_t size =
        rpc_encode(&(struct rpc_message){.id = 5, .control = ENVELOPE_PING}, bytes, sizeof(bytes));
    for (int i = 0; i < SESSION_STRIKES * 4 && rpc_raw_write(fd, bytes, size); i++)
        continue;
    rpc_raw_expect_end(fd);
    close(fd);
    close_stage();
}

/* ---- the end ---- */

Test(server_conn, who_only_connects_and_goes_costs_nothing) {
    open_with(NULL);
    for (int i = 0; i < 100; i++)
        close(rpc_stage_raw(&stage));
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    cr_assert_eq(rpc_stats(&stage).connections, 100);
    cr_assert_eq(rpc_stats(&stage).cut_malformed, 0);
    close_stage();
}

Test(server_conn, a_half_message_and_the_end) {
    open_with(NULL);
    int fd = rpc_stage_raw(&stage);
    cr_assert(rpc_raw_write(fd, "\x20half", 5));
    close(fd);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    cr_assert_eq(rpc_stats(&stage).calls, 0, "no part of a message is delivered");
    close_stage();
}

Test(server_conn, handlers_hear_that_their_caller_is_gone) {
    open_with(NULL);
    int fd = rpc_stage_raw(&stage);
    int64_t begun = vouch_now();
    for (uint32_t i = 1; i <= 3; i++)
        send_call(fd, i, "wait", "", 0);
    rpc_latch_wait(&stage.entered, 3);
    close(fd);
    rpc_latch_wait(&stage.cancelled, 3);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).lost, 3);
    close_stage();
}

static bool is_read(struct server_conn *conn) {
    pthread_mutex_lock(&conn->link.lock);
    bool wanted = session_wants_input(&conn->link.session);
    pthread_mutex_unlock(&conn->link.lock);
    return wanted;
}

/* At its limit a connection is not read any more, but its end must still be seen. */
Test(server_conn, handlers_hear_it_at_the_limit_of_calls_too) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_calls = 2};
    open_with(&options);
    int fd = rpc_stage_raw(&stage);
    int64_t begun = vouch_now();
    for (uint32_t i = 1; i <= 3; i++)
        send_call(fd, i, "wait", "", 0);
    rpc_latch_wait(&stage.entered, 2);
    RPC_EVENTUALLY(!is_read(stage.server->conns));
    close(fd);
    rpc_latch_wait(&stage.cancelled, 2);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_stage();
}

Test(server_conn, cancels_are_heard_at_the_limit_of_calls) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_calls = 3};
    open_with(&options);
    struct vouch_client *client = rpc_stage_client(&stage, NULL);
    struct vouch_call_options tagged = {VOUCH_OPTIONS(tagged), .timeout = VOUCH_FOREVER, .tag = 7};
    static struct rpc_outcome outcomes[3];
    rpc_check_call(client, "echo", "hello", 0, "hello");
    for (int i = 0; i < 3; i++)
        rpc_call_async(client, "wait", "", &tagged, &outcomes[i], NULL);
    rpc_latch_wait(&stage.entered, 3);
    cr_assert_eq(vouch_client_cancel(client, 7), 3);
    rpc_latch_wait(&stage.cancelled, 3);
    rpc_wait_callbacks(client, 3);
    vouch_client_free(client);
    close_stage();
}

/* An event can be fetched before its connection ends, and be dealt with when the struct has become
 * another connection. */
Test(server_conn, a_late_event_does_no_harm_to_another_connection) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_calls = 2};
    open_with(&options);
    int fd = rpc_stage_raw(&stage);
    for (uint32_t id = 1; id <= 3; id++)
        send_call(fd, id, "keep", "", 0);
    rpc_latch_wait(&stage.entered, 2);
    RPC_EVENTUALLY(!is_read(stage.server->conns));
    server_conn_event(stage.server->conns, POLLER_IN);
    server_conn_event(stage.server->conns, POLLER_OUT);
    server_conn_event(stage.server->conns, POLLER_HUP);
    for (unsigned i = 0; i < 3; i++) {
        struct rpc_received reply;
        rpc_latch_wait(&stage.entered, i + 1);
        cr_assert_eq(vouch_call_reply(stage.kept[i], "still here", 10), 0);
        rpc_raw_expect(fd, &reply);
        cr_assert_eq(reply.envelope.data_size, 10);
        rpc_received_free(&reply);
    }
    close(fd);
    close_stage();
}

/* The server is freed while whole messages wait in its memory. */
Test(server_conn, a_server_may_be_freed_in_the_middle_of_a_flood) {
    for (unsigned round = 0; round < VOUCH_TEST_ROUNDS(50, 10); round++) {
        open_with(NULL);
        int fd = rpc_stage_raw(&stage);
        static uint8_t bytes[2000 * 32];
        size_t size = 0;
        for (uint32_t i = 1; i <= 2000; i++)
            size += rpc_encode(&(struct rpc_message){.id = i, .method = "quick"}, bytes + size,
                               sizeof(bytes) - size);
        cr_assert(rpc_raw_write(fd, bytes, size));
        RPC_EVENTUALLY(rpc_stats(&stage).calls >= round * 10);
        rpc_stage_close(&stage);
        rpc_raw_expect_end(fd);
        close(fd);
        support_baseline_end();
    }
}

/* ---- many ---- */

Test(server_conn, connections_come_and_go_in_numbers) {
    open_with(NULL);
    enum { CONNECTIONS = 64 };
    struct vouch_client *clients[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++)
        clients[i] = rpc_stage_client(&stage, NULL);
    for (int i = 0; i < CONNECTIONS; i++)
        rpc_check_call(clients[i], "echo", "one of many", 0, "one of many");
    cr_assert_eq(rpc_stats(&stage).live_connections, CONNECTIONS);
    for (int i = 0; i < CONNECTIONS; i += 2)
        vouch_client_free(clients[i]);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == CONNECTIONS / 2);
    for (int i = 1; i < CONNECTIONS; i += 2) {
        rpc_check_call(clients[i], "echo", "still", 0, "still");
        vouch_client_free(clients[i]);
    }
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    close_stage();
}
