/* SPDX-License-Identifier: MIT */
/* Servers on both ends of a connection, each with a client that calls the other. */
#include "rpc/peer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"

static struct rpc_stage left, right;
static struct vouch_client *to_right, *to_left;

static void join_with(const struct vouch_client_options *options) {
    struct vouch_conn *conns[2];
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_server_add_peer(left.server, conns[0], options, &to_right), 0);
    cr_assert_eq(vouch_server_add_peer(right.server, conns[1], options, &to_left), 0);
}

static void begin(void) {
    support_baseline_begin();
    rpc_stage_open(&left, NULL);
    rpc_stage_open(&right, NULL);
    join_with(NULL);
}

static void end(void) {
    vouch_client_free(to_right);
    vouch_client_free(to_left);
    rpc_stage_close(&left);
    rpc_stage_close(&right);
    support_baseline_end();
}

Test(peer, both_call) {
    begin();
    for (int i = 0; i < 100; i++) {
        rpc_check_call(to_right, "echo", "hello right", 0, "hello right");
        rpc_check_call(to_left, "echo", "hello left", 0, "hello left");
    }
    rpc_check_call(to_left, "result", "4", VOUCH_REMOTE_SERVER, NULL);
    rpc_check_call(to_left, "nope", "", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    end();
}

static int call_back(void *context, struct vouch_call *call) {
    struct vouch_client **client = context;
    struct vouch_reply reply;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    int r = vouch_client_call(*client, size > 0 ? "down" : "echo", data, size > 0 ? size - 1 : 0,
                              NULL, &reply, NULL);
    if (r != 0)
        return vouch_call_fail(call, r > 0 ? (enum vouch_remote_error)r : VOUCH_REMOTE_SERVER, "%s",
                               vouch_strerror(r));
    vouch_reply_release(&reply);
    return vouch_call_reply(call, "bottom", 6);
}

static void add_down(struct rpc_stage *stage, struct vouch_client **client) {
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "down", .handler = call_back,
                                  .context = client};
    cr_assert_eq(vouch_server_add_method(stage->server, &method), 0);
}

/* Handlers of each wait in calls of the other, in turns. */
Test(peer, handlers_call_back) {
    support_baseline_begin();
    rpc_stage_init(&left, NULL);
    rpc_stage_init(&right, NULL);
    add_down(&left, &to_right);
    add_down(&right, &to_left);
    cr_assert_eq(vouch_server_start(left.server), 0);
    cr_assert_eq(vouch_server_start(right.server), 0);
    join_with(NULL);
    for (int i = 0; i < 20; i++)
        rpc_check_call(to_right, "down", "twelve deep.", 0, "bottom");
    end();
}

static void *call_many(void *context) {
    for (int i = 0; i < VOUCH_TEST_ROUNDS(500, 50); i++)
        rpc_check_call(context, "echo", "x", 0, "x");
    return NULL;
}

Test(peer, many_threads_call_both_ways) {
    begin();
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = support_thread_start(call_many, i % 2 ? to_left : to_right);
    for (int i = 0; i < 8; i++)
        support_thread_join(threads[i]);
    end();
}

/* More than sockets hold, both ways at once: neither side may stop reading. */
static void *call_large(void *context) {
    static const size_t size = 1 << 20;
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = RPC_PATIENCE};
    uint8_t *body = calloc(1, size);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(30, 5); i++) {
        struct vouch_reply reply;
        struct vouch_error error;
        cr_assert_eq(vouch_client_call(context, "echo", body, size, &options, &reply, &error), 0,
                     "%s", error.message);
        cr_assert_eq(reply.size, size);
        vouch_reply_release(&reply);
    }
    free(body);
    return NULL;
}

Test(peer, large_messages_both_ways_at_once) {
    begin();
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = support_thread_start(call_large, i % 2 ? to_left : to_right);
    for (int i = 0; i < 8; i++)
        support_thread_join(threads[i]);
    end();
}

Test(peer, asynchronous_calls_and_pings) {
    begin();
    struct rpc_outcome outcome;
    rpc_call_async(to_right, "echo", "later", NULL, &outcome, NULL);
    rpc_wait_callbacks(to_right, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.size, 5);
    int64_t elapsed;
    cr_assert_eq(vouch_client_ping(to_right, RPC_PATIENCE, &elapsed), 0);
    cr_assert_gt(elapsed, 0);
    cr_assert_eq(peer_beat(to_right), 0);
    RPC_EVENTUALLY(peer_count_beats(to_right) == 1);
    end();
}

Test(peer, asynchronous_calls_end_at_their_deadline) {
    begin();
    struct rpc_outcome outcome;
    struct vouch_call_options options = {VOUCH_OPTIONS(options),
                                         .timeout = VOUCH_MILLISECONDS(100)};
    rpc_call_async(to_right, "block", "", &options, &outcome, NULL);
    rpc_wait_callbacks(to_right, 1);
    /* The other side says so too, if the call was slow to arrive. */
    cr_assert(rpc_timed_out(outcome.result), "%d", outcome.result);
    rpc_latch_raise(&right.go);
    end();
}

Test(peer, in_a_foreign_loop) {
    rpc_need_loop_descriptor();
    begin();
    struct rpc_outcome outcome;
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    int fd = vouch_client_get_fd(to_right);
    cr_assert_geq(fd, 0);
    rpc_call_async(to_right, "echo", "loop", NULL, &outcome, NULL);
    while (atomic_load(&outcome.callbacks) == 0 && vouch_now() < give_up) {
        struct pollfd poll_fd = {.fd = fd, .events = vouch_client_get_events(to_right)};
        poll(&poll_fd, 1, 1000);
        cr_assert_geq(vouch_client_process(to_right), 0);
    }
    cr_assert_eq(outcome.result, 0);
    end();
}

Test(peer, cancels_reach_the_handler) {
    begin();
    struct rpc_caller caller;
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .tag = 7};
    rpc_caller_start(&caller, to_right, "wait", &options);
    rpc_latch_wait(&right.entered, 1);
    cr_assert_eq(vouch_client_cancel(to_right, 7), 1);
    cr_assert_eq(rpc_caller_join(&caller), -ECANCELED);
    rpc_latch_wait(&right.cancelled, 1);
    end();
}

Test(peer, calls_end_at_once_with_the_connection) {
    begin();
    struct rpc_caller caller;
    rpc_caller_start(&caller, to_right, "wait", NULL);
    rpc_latch_wait(&right.entered, 1);
    peer_cut(to_left);
    cr_assert_eq(rpc_caller_join(&caller), -ECONNRESET);
    rpc_check_call(to_right, "echo", "", -ECONNRESET, NULL);
    RPC_EVENTUALLY(vouch_client_get_peer(to_left) == NULL);
    rpc_check_call(to_left, "echo", "", -ECONNRESET, NULL);
    end();
}

Test(peer, may_be_freed_before_the_connection) {
    begin();
    rpc_check_call(to_right, "echo", "x", 0, "x");
    vouch_client_free(to_right);
    to_right = NULL;
    rpc_check_call(to_left, "echo", "x", 0, "x");
    end();
}

Test(peer, survives_its_server) {
    begin();
    rpc_stage_close(&left);
    rpc_check_call(to_right, "echo", "", -ESHUTDOWN, NULL);
    RPC_EVENTUALLY(rpc_stats(&right).live_connections == 0);
    rpc_check_call(to_left, "echo", "", -ECONNRESET, NULL);
    vouch_client_free(to_right);
    vouch_client_free(to_left);
    rpc_stage_close(&right);
    support_baseline_end();
}

Test(peer, closed_it_answers_that) {
    begin();
    vouch_client_close(to_right);
    rpc_check_call(to_right, "echo", "", -ESHUTDOWN, NULL);
    rpc_check_call(to_left, "echo", "x", 0, "x");
    end();
}

static void *call_until_the_end(void *context) {
    int r;
    do
        r = vouch_client_call(context, "echo", "x", 1, NULL, NULL, NULL);
    while (r == 0 || r == VOUCH_REMOTE_UNAVAILABLE);
    cr_assert(r == -ESHUTDOWN || r == -ECONNRESET, "%s", vouch_strerror(r));
    return NULL;
}

/* Callers are inside when servers go, again and again. */
Test(peer, calls_race_with_the_end_of_servers) {
    for (int i = 0; i < VOUCH_TEST_ROUNDS(30, 5); i++) {
        begin();
        pthread_t threads[4];
        for (int t = 0; t < 4; t++)
            threads[t] = support_thread_start(call_until_the_end, t % 2 ? to_left : to_right);
        RPC_EVENTUALLY(atomic_load(&left.runs) > 5);
        rpc_stage_close(i % 2 ? &left : &right);
        for (int t = 0; t < 4; t++)
            support_thread_join(threads[t]);
        vouch_client_free(to_right);
        vouch_client_free(to_left);
        rpc_stage_close(i % 2 ? &right : &left);
        support_baseline_end();
    }
}

/* A client that gets one connection after the other, as that of a plugin does. */
Test(peer, waits_for_the_next_connection_if_it_may) {
    begin();
    struct vouch_client *guest;
    struct rpc_caller caller;
    struct vouch_conn *conns[2];
    cr_assert_eq(peer_client_new(NULL, &guest), 0);
    rpc_check_call(guest, "echo", "", -ECONNRESET, NULL);
    struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    peer_await(guest, true);
    rpc_check_call_options(guest, "echo", "", &soon, -ETIMEDOUT);
    for (int i = 0; i < 10; i++) {
        struct vouch_client *back;
        rpc_caller_start(&caller, guest, "echo", NULL);
        cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
        cr_assert_eq(peer_attach(left.server, conns[0], guest, NULL), 0);
        cr_assert_eq(vouch_server_add_peer(right.server, conns[1], NULL, &back), 0);
        cr_assert_eq(rpc_caller_join(&caller), 0);
        rpc_check_call(back, "echo", "x", 0, "x");
        peer_cut(guest);
        RPC_EVENTUALLY(peer_beat(guest) == -ECONNRESET);
        vouch_client_free(back);
    }
    peer_await(guest, false);
    rpc_check_call(guest, "echo", "", -ECONNRESET, NULL);
    vouch_client_free(guest);
    end();
}

static struct os_wake woken;

static void raise_woken(void *context) {
    (void)context;
    os_wake_raise(&woken);
}

static bool wait_woken(void) {
    struct pollfd fd = {.fd = woken.read_fd, .events = POLLIN};
    bool came = poll(&fd, 1, (int)(RPC_PATIENCE / 1000000)) == 1;
    os_wake_clear(&woken);
    return came;
}

Test(peer, tells_its_owner_of_stop_and_end) {
    begin();
    struct vouch_client *guest;
    struct vouch_conn *conns[2];
    struct peer_hooks hooks = {.stop = raise_woken, .gone = raise_woken};
    cr_assert_eq(os_wake_init(&woken), 0);
    cr_assert_eq(peer_client_new(NULL, &guest), 0);
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(peer_attach(left.server, conns[0], guest, &hooks), 0);
    struct vouch_client *back;
    cr_assert_eq(vouch_server_add_peer(right.server, conns[1], NULL, &back), 0);
    cr_assert_eq(peer_ask_stop(back), 0);
    cr_assert(wait_woken());
    peer_cut(back);
    cr_assert(wait_woken());
    cr_assert_eq(peer_ask_stop(guest), -ECONNRESET);
    vouch_client_free(guest);
    vouch_client_free(back);
    os_wake_deinit(&woken);
    end();
}

Test(peer, what_it_refuses) {
    begin();
    struct vouch_conn *conns[2];
    struct vouch_client *client;
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .reconnect = true};
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_server_add_peer(left.server, NULL, NULL, &client), -EINVAL);
    cr_assert_eq(vouch_server_add_peer(left.server, conns[0], &options, &client), -EINVAL);
    cr_assert_eq(peer_attach(left.server, conns[0], to_right, NULL), -EBUSY, "it has one");
    cr_assert_eq(vouch_server_stop(left.server, 0), 0);
    cr_assert_eq(vouch_server_add_peer(left.server, conns[0], NULL, &client), -ESHUTDOWN);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    end();
}

/* A client that is no peer is cut off at its first message. */
Test(peer, takes_no_plain_client) {
    begin();
    struct vouch_conn *conns[2];
    struct vouch_client *guest, *plain;
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_server_add_peer(left.server, conns[0], NULL, &guest), 0);
    cr_assert_eq(vouch_client_new(conns[1], NULL, &plain), 0);
    rpc_check_call(plain, "echo", "", -ECONNRESET, NULL);
    vouch_client_free(plain);
    vouch_client_free(guest);
    end();
}

static int call_in_loop(void *context, struct vouch_call *call) {
    struct vouch_client **client = context;
    int r = vouch_client_call(*client, "echo", NULL, 0, NULL, NULL, NULL);
    return vouch_call_reply(call, r == -EDEADLK ? "dead" : "live", 4);
}

Test(peer, a_handler_in_a_loop_can_not_wait) {
    rpc_need_loop_descriptor();
    support_baseline_begin();
    rpc_stage_init(&left, NULL);
    rpc_stage_open(&right, NULL);
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "down", .handler = call_in_loop,
                                  .context = &to_right};
    cr_assert_eq(vouch_server_add_method(left.server, &method), 0);
    cr_assert_geq(vouch_server_get_fd(left.server), 0);
    join_with(NULL);
    struct rpc_outcome outcome;
    rpc_call_async(to_left, "down", "", NULL, &outcome, NULL);
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (atomic_load(&outcome.callbacks) == 0 && vouch_now() < give_up) {
        struct pollfd fd = {.fd = vouch_server_get_fd(left.server), .events = POLLIN};
        poll(&fd, 1, 10);
        cr_assert_eq(vouch_server_process(left.server), 0);
        (void)vouch_client_wait(to_left, vouch_deadline_in(VOUCH_MILLISECONDS(1)));
    }
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.size, 4);
    end();
}
