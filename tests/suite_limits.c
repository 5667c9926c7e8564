/* SPDX-License-Identifier: MIT */
/*
 * What a peer controls has a limit: each at the limit and one past it. The client's own are in
 * test_client_call.c, names in test_server.c, the number of workers in test_server_worker.c.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/peers.h"
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
    rpc_raw_send(fd, &(struct rpc_message){.id = id, .method = method, .data = data, .size = size});
}

/* The body that makes the message of a call with id 1 exactly `total` bytes. */
static size_t body_for(size_t total) {
    struct envelope e = {.id = 1, .method = "echo", .method_size = 4};
    size_t body = total;
    while (envelope_size(&e, body) > total)
        body--;
    cr_assert_eq(envelope_size(&e, body), total);
    return body;
}

/* ---- sizes ---- */

Test(limits, a_request_at_max_request_and_one_past) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_request = 5000};
    open_with(&options);
    int fd = rpc_stage_raw(&stage);
    static char data[6000];
    struct rpc_received reply;
    send_call(fd, 1, "echo", data, body_for(5000));
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.error_type, 0);
    rpc_received_free(&reply);
    send_call(fd, 1, "echo", data, body_for(5001));
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.id, 1);
    cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_BAD_DATA, "what a plain client knows");
    char text[VOUCH_ERROR_TEXT_MAX + 1] = "";
    memcpy(text, reply.envelope.error, reply.envelope.error_size);
    cr_assert(strstr(text, "5000") && strstr(text, "5001"), "%s", text);
    rpc_received_free(&reply);
    send_call(fd, 1, "echo", "lives", 5);
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.error_type, 0);
    rpc_received_free(&reply);
    cr_assert_eq(rpc_stats(&stage).calls, 3);
    close(fd);
    close_stage();
}

Test(limits, an_oversize_request_at_drain_max_and_one_past) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_request = 1000,
                                           .drain_max = 5000};
    open_with(&options);
    int fd = rpc_stage_raw(&stage);
    static char data[6000];
    struct rpc_received reply;
    send_call(fd, 1, "echo", data, body_for(5000));
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_BAD_DATA);
    rpc_received_free(&reply);
    cr_assert_eq(rpc_stats(&stage).cut_malformed, 0);
    send_call(fd, 1, "echo", data, body_for(5001));
    rpc_raw_expect_end(fd);
    RPC_EVENTUALLY(rpc_stats(&stage).cut_malformed == 1);
    close(fd);
    close_stage();
}

Test(limits, a_reply_at_max_reply_and_one_past) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_reply = 5000};
    open_with(&options);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    for (size_t total = 5000; total <= 5001; total++) {
        static char data[6000];
        send_call(fd, 1, "echo", data, body_for(total));
        rpc_raw_expect(fd, &reply);
        cr_assert_eq(reply.envelope.error_type, total == 5000 ? 0 : VOUCH_REMOTE_BAD_DATA);
        rpc_received_free(&reply);
    }
    close(fd);
    close_stage();
}

/* ---- calls ---- */

Test(limits, calls_in_flight_at_max_calls_and_one_past) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_calls = 5};
    open_with(&options);
    int fd = rpc_stage_raw(&stage), other = rpc_stage_raw(&stage);
    struct rpc_received reply;
    for (uint32_t i = 1; i <= 6; i++)
        send_call(fd, i, "keep", "", 0);
    rpc_latch_wait(&stage.entered, 5);
    send_call(other, 1, "echo", "others are served", 17);
    rpc_raw_expect(other, &reply);
    rpc_received_free(&reply);
    cr_assert_eq(atomic_load(&stage.kept_count), 5, "the sixth waits in its socket");
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    rpc_latch_wait(&stage.entered, 6);
    for (int i = 1; i < 6; i++)
        cr_assert_eq(vouch_call_reply(stage.kept[i], "", 0), 0);
    close(fd);
    close(other);
    close_stage();
}

/* ---- output that is not read ---- */

/* Its requests wait until it reads; then all are answered. */
Test(limits, at_output_soft_a_client_is_not_read_any_more) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .output_soft = 50000};
    open_with(&options);
    int fd = rpc_stage_raw(&stage), other = rpc_stage_raw(&stage);
    enum { CALLS = 200 };
    struct rpc_received reply;
    for (uint32_t i = 1; i <= CALLS; i++)
        send_call(fd, i, "size", "10000", 5);
    struct vouch_server_stats stats;
    uint64_t elsewhere = 0;
    do { /* until it has stopped: a call elsewhere goes through, and nothing new came here */
        stats = rpc_stats(&stage);
        send_call(other, 1, "echo", "", 0);
        rpc_raw_expect(other, &reply);
        rpc_received_free(&reply);
        elsewhere++;
    } while (rpc_stats(&stage).calls != stats.calls + 1 || rpc_stats(&stage).in_flight > 0);
    cr_assert_lt(rpc_stats(&stage).errors[0], CALLS + elsewhere);
    for (uint32_t i = 1; i <= CALLS; i++) {
        rpc_raw_expect(fd, &reply);
        cr_assert_eq(reply.envelope.data_size, 10000);
        rpc_received_free(&reply);
    }
    cr_assert_eq(rpc_stats(&stage).cut_output, 0);
    close(fd);
    close(other);
    close_stage();
}

static size_t keep_calls(int fd, size_t count) {
    for (uint32_t i = 1; i <= count; i++)
        send_call(fd, i, "keep", "", 0);
    rpc_latch_wait(&stage.entered, (unsigned)count);
    return count;
}

static void check_hard_limit(const struct vouch_server_options *options) {
    open_with(options);
    int fd = rpc_stage_raw(&stage), other = rpc_stage_raw(&stage);
    static char data[100000];
    size_t count = keep_calls(fd, 20);
    for (size_t i = 0; i < count; i++)
        (void)vouch_call_reply(stage.kept[i], data, sizeof(data));
    RPC_EVENTUALLY(rpc_stats(&stage).cut_output == 1);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 1);
    rpc_raw_expect_end(fd);
    struct rpc_received reply;
    send_call(other, 1, "echo", "that one only", 13);
    rpc_raw_expect(other, &reply);
    rpc_received_free(&reply);
    close(fd);
    close(other);
    close_stage();
}

Test(limits, at_four_times_output_hard_a_client_is_disconnected_at_once) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .output_soft = 1000,
                                           .output_hard = 400000, .send_buffer_max = 1};
    check_hard_limit(&options);
}

Test(limits, over_output_hard_a_client_is_disconnected_after_a_sixth_of_the_stall_timeout) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .output_soft = 1000,
                                           .output_hard = 1000000,
                                           .stall_timeout = VOUCH_SECONDS(6), .send_buffer_max = 1};
    check_hard_limit(&options);
}

/* ---- time ---- */

Test(limits, who_takes_no_byte_is_disconnected_at_the_stall_timeout) {
    struct vouch_server_options options = {
        VOUCH_OPTIONS(options), .stall_timeout = VOUCH_MILLISECONDS(30), .send_buffer_max = 1};
    open_with(&options);
    int fd = rpc_stage_raw(&stage);
    int64_t begun = vouch_now();
    send_call(fd, 1, "size", "3000000", 7);
    RPC_EVENTUALLY(rpc_stats(&stage).cut_timeout == 1);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_raw_expect_end(fd);
    close(fd);
    close_stage();
}

Test(limits, half_a_message_is_disconnected_at_the_frame_timeout) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                           .frame_timeout = VOUCH_MILLISECONDS(50)};
    open_with(&options);
    int fd = rpc_stage_raw(&stage), idle = rpc_stage_raw(&stage);
    int64_t begun = vouch_now();
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    uint8_t length[10];
    cr_assert(rpc_raw_write(fd, length, rpc_encode_length(4000000, length)));
    /* A byte now and then does not give it more time. */
    while (poll(&poller, 1, 5) == 0 && rpc_raw_write(fd, "\x08", 1))
        cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_raw_expect_end(fd);
    RPC_EVENTUALLY(rpc_stats(&stage).cut_timeout == 1);
    struct rpc_received reply;
    send_call(idle, 1, "echo", "who says nothing has time", 25);
    rpc_raw_expect(idle, &reply);
    rpc_received_free(&reply);
    close(fd);
    close(idle);
    close_stage();
}

/* ---- connections ---- */

static bool served(int fd) {
    struct rpc_received reply;
    struct rpc_message call = {.id = 1, .method = "echo"};
    uint8_t bytes[RPC_MESSAGE_ROOM];
    if (!rpc_raw_write(fd, bytes, rpc_encode(&call, bytes, sizeof(bytes))) ||
        !rpc_raw_receive(fd, &reply))
        return false;
    rpc_received_free(&reply);
    return true;
}

static void check_connections(const struct vouch_listen_options *options, int limit) {
    open_with(NULL);
    rpc_stage_listen(&stage, options);
    int fds[8];
    for (int i = 0; i < limit; i++) {
        fds[i] = peers_connect(stage.path);
        cr_assert(served(fds[i]));
    }
    int refused = peers_connect(stage.path);
    cr_assert_not(served(refused));
    close(refused);
    close(fds[0]);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == (uint64_t)limit - 1);
    RPC_EVENTUALLY((fds[0] = peers_connect(stage.path)) >= 0 && (served(fds[0]) || close(fds[0])));
    for (int i = 0; i < limit; i++)
        close(fds[i]);
    close_stage();
}

Test(limits, connections_at_the_total_and_one_past) {
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .max_connections = 4,
                                           .max_connections_per_uid = 4};
    check_connections(&options, 4);
}

Test(limits, connections_of_a_user_at_the_limit_and_one_past) {
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .max_connections = 100,
                                           .max_connections_per_uid = 3};
    check_connections(&options, 3);
}
