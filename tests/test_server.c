/* SPDX-License-Identifier: MIT */
/* A server's life: options, what it serves, start, stop, foreign loop, statistics, a fork. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vouch/chunk.h>

#include "lib/clock.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static struct vouch_client *client;

static void open_both(void) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    client = rpc_stage_client(&stage, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    client = NULL;
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- options ---- */

static void check_options(const struct vouch_server_options *options, int expected) {
    struct vouch_server *server;
    int r = vouch_server_new(options, &server);
    cr_assert_eq(r, expected);
    if (r == 0)
        vouch_server_free(server);
}

#define CHECK_OPTION(Expected, ...)                                                                \
    do {                                                                                           \
        struct vouch_server_options checked = {VOUCH_OPTIONS(checked), __VA_ARGS__};               \
        check_options(&checked, Expected);                                                         \
    } while (0)

Test(server, options_at_their_bounds_and_one_past) {
    support_baseline_begin();
    static const struct vouch_server_interceptor interceptors[17];
    check_options(NULL, 0);
    CHECK_OPTION(0, .max_request = VOUCH_CHUNK_SIZE_BOUND, .max_reply = VOUCH_CHUNK_SIZE_BOUND,
                 .drain_max = VOUCH_CHUNK_SIZE_BOUND);
    CHECK_OPTION(-EINVAL, .max_request = VOUCH_CHUNK_SIZE_BOUND + 1);
    CHECK_OPTION(-EINVAL, .max_reply = VOUCH_CHUNK_SIZE_BOUND + 1);
    CHECK_OPTION(-EINVAL, .drain_max = VOUCH_CHUNK_SIZE_BOUND + 1);
    CHECK_OPTION(0, .max_calls = VOUCH_SERVER_CALLS_BOUND);
    CHECK_OPTION(-EINVAL, .max_calls = VOUCH_SERVER_CALLS_BOUND + 1);
    CHECK_OPTION(0, .workers = VOUCH_SERVER_WORKERS_BOUND,
                 .workers_max = VOUCH_SERVER_WORKERS_BOUND);
    CHECK_OPTION(-EINVAL, .workers = VOUCH_SERVER_WORKERS_BOUND + 1);
    CHECK_OPTION(-EINVAL, .workers_max = VOUCH_SERVER_WORKERS_BOUND + 1);
    CHECK_OPTION(0, .workers_per_uid = VOUCH_SERVER_WORKERS_BOUND);
    CHECK_OPTION(-EINVAL, .workers_per_uid = VOUCH_SERVER_WORKERS_BOUND + 1);
    CHECK_OPTION(0, .interceptors = interceptors, .interceptor_count = 16);
    CHECK_OPTION(-EINVAL, .interceptors = interceptors, .interceptor_count = 17);
    CHECK_OPTION(-EINVAL, .interceptor_count = 1);
    CHECK_OPTION(-EINVAL, .stall_timeout = -1);
    CHECK_OPTION(-EINVAL, .frame_timeout = -1);
    CHECK_OPTION(-EINVAL, .drain_timeout = -1);
    support_baseline_end();
}

Test(server, uses_the_pool_and_the_allocator_it_is_given) {
    support_baseline_begin();
    struct support_allocator allocator;
    struct vouch_pool *pool;
    support_allocator_init(&allocator);
    struct vouch_pool_options pool_options = {VOUCH_OPTIONS(pool_options),
                                              .allocator = &allocator.allocator};
    cr_assert_eq(vouch_pool_new(&pool_options, &pool), 0);
    struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                           .allocator = &allocator.allocator, .pool = pool};
    rpc_stage_open(&stage, &options);
    vouch_pool_unref(pool);
    cr_assert_eq(vouch_server_get_pool(stage.server), pool);
    client = rpc_stage_client(&stage, NULL);
    rpc_check_call(client, "echo", "x", 0, "x");
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_allocator_check(&allocator);
    support_baseline_end();
}

/* ---- methods ---- */

static int nothing(void *context, struct vouch_call *call) {
    (void)context;
    (void)call;
    return 0;
}

static int add(const char *name) {
    return vouch_server_add_method(stage.server,
                                   &(struct vouch_method){.name = name, .handler = nothing});
}

Test(server, names_of_methods) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    char name[257];
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    cr_assert_eq(add(name), 0);
    cr_assert_eq(add(name), VOUCH_E_METHOD_EXISTS);
    name[255] = 'n';
    name[256] = '\0';
    cr_assert_eq(add(name), VOUCH_E_METHOD_NAME);
    cr_assert_eq(add(""), VOUCH_E_METHOD_NAME);
    cr_assert_eq(add("a b"), VOUCH_E_METHOD_NAME);
    cr_assert_eq(add("caf\xc3\xa9"), VOUCH_E_METHOD_NAME);
    cr_assert_eq(add("/Az_09.-"), 0);
    cr_assert_eq(add("echo"), VOUCH_E_METHOD_EXISTS);
    cr_assert_eq(add("Echo"), 0, "compared exactly");
    cr_assert_eq(vouch_server_add_method(stage.server, &(struct vouch_method){.name = "x"}),
                 -EINVAL, "no handler");
    cr_assert_eq(vouch_server_start(stage.server), 0);
    cr_assert_eq(add("late"), -EBUSY);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- start and stop ---- */

Test(server, starts_once) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    cr_assert_eq(vouch_server_start(stage.server), -EBUSY);
    cr_assert_eq(vouch_server_run(stage.server), -EBUSY);
    int fd = vouch_server_get_fd(stage.server);
    cr_assert(fd == -EBUSY || fd == -ENOTSUP, "%d", fd);
    cr_assert_eq(vouch_server_stop(stage.server, 0), 0);
    cr_assert_eq(vouch_server_stop(stage.server, 0), 0, "twice is the same");
    cr_assert_eq(vouch_server_start(stage.server), -ESHUTDOWN);
    cr_assert_eq(vouch_server_run(stage.server), -ESHUTDOWN);
    struct vouch_conn *conns[2];
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_server_add_conn(stage.server, conns[0]), -ESHUTDOWN);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    char path[SUPPORT_PATH_MAX];
    struct vouch_listener *listener = peers_must_listen(support_temp_path(path, "s"), NULL);
    cr_assert_eq(vouch_server_add_listener(stage.server, listener), -ESHUTDOWN);
    vouch_listener_free(listener);
    cr_assert_eq(add("late"), -EBUSY);
    rpc_stage_close(&stage);
    support_baseline_end();
}

Test(server, never_started_is_freed_with_all_it_has) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    int fd = rpc_stage_raw(&stage);
    rpc_raw_send(fd, &(struct rpc_message){.id = 1, .method = "echo"});
    rpc_stage_close(&stage);
    rpc_raw_expect_end(fd);
    close(fd);
    vouch_server_free(NULL);
    support_baseline_end();
}

Test(server, what_is_added_before_and_while_serving_is_served) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    struct vouch_client *early = rpc_stage_client(&stage, NULL);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    rpc_stage_listen(&stage, NULL);
    rpc_check_call(early, "echo", "early", 0, "early");
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    rpc_check_call(client, "echo", "late", 0, "late");
    vouch_client_free(early);
    close_both();
}

Test(server, a_stop_lets_what_is_in_flight_complete) {
    open_both();
    struct rpc_caller caller;
    rpc_caller_start(&caller, client, "block", NULL);
    rpc_latch_wait(&stage.entered, 1);
    rpc_latch_raise(&stage.go);
    cr_assert_eq(vouch_server_stop(stage.server, RPC_PATIENCE), 0);
    cr_assert_eq(rpc_caller_join(&caller), 0);
    rpc_check_call(client, "echo", "", -ECONNRESET, NULL);
    close_both();
}

static void *stop_patiently(void *context) {
    (void)context;
    return (void *)(intptr_t)vouch_server_stop(stage.server, RPC_PATIENCE);
}

Test(server, while_it_stops_new_calls_are_refused_and_connections_too) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    struct rpc_outcome outcome;
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    pthread_t stopper = support_thread_start(stop_patiently, NULL);
    RPC_EVENTUALLY(!peers_exists(stage.path));
    rpc_check_call(client, "echo", "", VOUCH_REMOTE_UNAVAILABLE, NULL);
    cr_assert_not(vouch_call_is_cancelled(stage.kept[0]));
    struct vouch_client *late;
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &late, NULL), -ENOENT);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "done", 4), 0);
    cr_assert_eq((intptr_t)support_thread_join(stopper), 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.size, 4);
    close_both();
}

Test(server, a_stop_cuts_off_what_does_not_complete) {
    open_both();
    struct rpc_outcome outcomes[2];
    int64_t begun = vouch_now();
    rpc_call_async(client, "wait", "", NULL, &outcomes[0], NULL);
    rpc_call_async(client, "keep", "", NULL, &outcomes[1], NULL);
    rpc_latch_wait(&stage.entered, 2);
    cr_assert_eq(vouch_server_stop(stage.server, VOUCH_MILLISECONDS(20)), -ETIMEDOUT);
    rpc_latch_wait(&stage.cancelled, 1);
    cr_assert(vouch_call_is_cancelled(stage.kept[0]));
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), -ECONNRESET);
    cr_assert_eq(vouch_server_stop(stage.server, 0), -ETIMEDOUT, "the same as the first");
    rpc_wait_callbacks(client, 2);
    cr_assert_eq(outcomes[0].result, -ECONNRESET);
    cr_assert_eq(outcomes[1].result, -ECONNRESET);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

/* An answer that waits for its time, which is a number of ms. */
static atomic_uint lates, afters;

static int answer_at_its_time(void *context, struct vouch_call *call) {
    (void)context;
    atomic_fetch_add(&lates, 1);
    char text[16] = "";
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    memcpy(text, data, size < sizeof(text) ? size : sizeof(text) - 1);
    return vouch_call_reply_at(call, vouch_deadline_in(VOUCH_MILLISECONDS(atoi(text))), data, size);
}

static void count_after(void *context, struct vouch_call *call, int result, int64_t elapsed) {
    (void)context;
    (void)call;
    (void)result;
    (void)elapsed;
    atomic_fetch_add(&afters, 1);
}

static void open_late(const struct vouch_server_options *options) {
    const struct vouch_server_interceptor counting = {.after = count_after};
    struct vouch_server_options o = {0};
    support_baseline_begin();
    if (options)
        o = *options;
    o.size = sizeof(o);
    o.interceptors = &counting;
    o.interceptor_count = 1;
    atomic_store(&lates, 0);
    atomic_store(&afters, 0);
    rpc_stage_init(&stage, &o);
    cr_assert_eq(
        vouch_server_add_method(
            stage.server, &(struct vouch_method){.name = "late", .handler = answer_at_its_time}),
        0);
}

Test(server, a_stop_waits_for_answers_that_have_their_time) {
    open_late(NULL);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcomes[2];
    for (int i = 0; i < 2; i++)
        rpc_call_async(client, "late", i == 0 ? "40" : "20", NULL, &outcomes[i], NULL);
    RPC_EVENTUALLY(atomic_load(&lates) == 2); /* they may be answered by now */
    cr_assert_eq(vouch_server_stop(stage.server, RPC_PATIENCE), 0);
    cr_assert_eq(atomic_load(&afters), 2);
    rpc_wait_callbacks(client, 2);
    cr_assert_eq(outcomes[0].result, 0);
    cr_assert_eq(outcomes[1].result, 0);
    close_both();
}

Test(server, a_stop_cuts_off_answers_that_have_their_time) {
    open_late(NULL);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcomes[3];
    for (int i = 0; i < 3; i++)
        rpc_call_async(client, "late", "3600000", NULL, &outcomes[i], NULL);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 3);
    cr_assert_eq(vouch_server_stop(stage.server, VOUCH_MILLISECONDS(20)), -ETIMEDOUT);
    rpc_wait_callbacks(client, 3);
    cr_assert_eq(outcomes[2].result, -ECONNRESET);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    RPC_EVENTUALLY(atomic_load(&afters) == 3);
    close_both();
}

/* Answered calls whose answers the client has not taken yet are not complete. */
Test(server, a_stop_waits_for_answers_to_be_taken) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    int fd = rpc_stage_raw(&stage);
    rpc_raw_send(fd, &(struct rpc_message){.id = 1,
                                           .expires = rpc_wall_in(RPC_PATIENCE),
                                           .method = "size",
                                           .data = "3000000",
                                           .size = 7});
    RPC_EVENTUALLY(rpc_stats(&stage).errors[0] == 1);
    pthread_t stopper = support_thread_start(stop_patiently, NULL);
    struct rpc_received reply;
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.data_size, 3000000);
    rpc_received_free(&reply);
    cr_assert_eq((intptr_t)support_thread_join(stopper), 0);
    rpc_raw_expect_end(fd);
    close(fd);
    rpc_stage_close(&stage);
    support_baseline_end();
}

static int stop_inside(void *context, struct vouch_call *call) {
    (void)call;
    return *(int *)context = vouch_server_stop(stage.server, 0);
}

Test(server, a_handler_cannot_wait_for_itself) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    int r = 0;
    struct vouch_method method = {.name = "stop", .handler = stop_inside, .context = &r};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    rpc_check_call(client, "stop", "", VOUCH_REMOTE_SERVER, NULL);
    cr_assert_eq(r, -EDEADLK);
    rpc_check_call(client, "echo", "", 0, "");
    close_both();
}

static int interrupt_inside(void *context, struct vouch_call *call) {
    (void)context;
    (void)call;
    vouch_server_interrupt(stage.server);
    return 0;
}

static void *run_server(void *context) {
    (void)context;
    return (void *)(intptr_t)vouch_server_run(stage.server);
}

Test(server, a_handler_may_interrupt_instead) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    struct vouch_method method = {.name = "interrupt", .handler = interrupt_inside};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    client = rpc_stage_client(&stage, NULL);
    pthread_t runner = support_thread_start(run_server, NULL);
    rpc_check_call(client, "interrupt", "", 0, "");
    cr_assert_eq((intptr_t)support_thread_join(runner), 0);
    close_both();
}

Test(server, a_stop_of_another_thread_ends_run) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    client = rpc_stage_client(&stage, NULL);
    pthread_t runner = support_thread_start(run_server, NULL);
    rpc_check_call(client, "echo", "", 0, "");
    cr_assert_eq(vouch_server_stop(stage.server, RPC_PATIENCE), 0);
    cr_assert_eq((intptr_t)support_thread_join(runner), 0);
    close_both();
}

static void on_signal(int number) {
    (void)number;
    vouch_server_interrupt(stage.server);
}

/* Once the call is in flight: one that is still in the socket would not be cut off. */
static void *signal_when_entered(void *context) {
    rpc_latch_wait(&stage.entered, 1);
    return kill(getpid(), SIGTERM) == 0 ? context : NULL;
}

Test(server, a_signal_handler_ends_run_with_a_drain) {
    support_baseline_begin();
    struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                           .drain_timeout = VOUCH_MILLISECONDS(20)};
    rpc_stage_init(&stage, &options);
    client = rpc_stage_client(&stage, NULL);
    struct sigaction action = {.sa_handler = on_signal}, before;
    cr_assert_eq(sigaction(SIGTERM, &action, &before), 0);
    struct rpc_outcome outcome;
    rpc_call_async(client, "wait", "", NULL, &outcome, NULL);
    pthread_t sender = support_thread_start(signal_when_entered, &stage);
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_server_run(stage.server), -ETIMEDOUT, "a call was cut off");
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    cr_assert_eq(support_thread_join(sender), &stage);
    cr_assert_eq(sigaction(SIGTERM, &before, NULL), 0);
    close_both();
}

/* ---- a foreign loop ---- */

/* One turn of a loop that waits at most `most`. */
static int turn(int64_t most) {
    struct pollfd poller = {.fd = vouch_server_get_fd(stage.server),
                            .events = vouch_server_get_events(stage.server)};
    cr_assert_geq(poller.fd, 0);
    int64_t timeout = vouch_server_get_timeout(stage.server);
    int64_t wait = timeout < most ? timeout : most;
    (void)poll(&poller, 1, clock_poll_timeout(vouch_now(), vouch_deadline_in(wait)));
    return vouch_server_process(stage.server);
}

static void *call_ten_times(void *context) {
    for (int i = 0; i < 10; i++)
        rpc_check_call(context, i % 2 ? "echo" : "quick", "in a loop", 0, "in a loop");
    vouch_server_interrupt(stage.server);
    return NULL;
}

Test(server, serves_in_a_foreign_loop_until_interrupted) {
    rpc_need_loop_descriptor();
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    cr_assert_eq(vouch_server_process(stage.server), -EINVAL, "no loop yet");
    cr_assert_geq(vouch_server_get_fd(stage.server), 0);
    cr_assert_eq(vouch_server_start(stage.server), -EBUSY);
    rpc_stage_listen(&stage, NULL);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    pthread_t caller = support_thread_start(call_ten_times, client);
    int r;
    int64_t begun = vouch_now();
    while ((r = turn(RPC_PATIENCE)) == 0)
        cr_assert_lt(vouch_now() - begun, RPC_PATIENCE);
    cr_assert_eq(r, -ESHUTDOWN);
    cr_assert_eq(vouch_server_process(stage.server), -ESHUTDOWN);
    support_thread_join(caller);
    cr_assert_not(peers_exists(stage.path));
    close_both();
}

static void *answer_kept(void *context) {
    (void)context;
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    return NULL;
}

/* Its drain ends with the last answer, of whatever thread, and not at the drain's timeout. */
Test(server, a_loop_that_drains_is_woken_by_the_last_answer) {
    rpc_need_loop_descriptor();
    support_baseline_begin();
    struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                           .drain_timeout = VOUCH_SECONDS(55)};
    rpc_stage_init(&stage, &options);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcome;
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    while (atomic_load(&stage.kept_count) == 0)
        cr_assert_eq(turn(RPC_PATIENCE), 0);
    vouch_server_interrupt(stage.server);
    cr_assert_eq(turn(RPC_PATIENCE), 0, "it drains");
    while (turn(0) == 0 && vouch_server_get_timeout(stage.server) == 0)
        continue;
    pthread_t answerer = support_thread_start(answer_kept, NULL);
    int r;
    int64_t begun = vouch_now();
    while ((r = turn(VOUCH_SECONDS(50))) == 0)
        continue;
    cr_assert_eq(r, -ESHUTDOWN);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    support_thread_join(answerer);
    close_both();
}

Test(server, a_loop_cuts_off_at_the_end_of_its_drain) {
    rpc_need_loop_descriptor();
    support_baseline_begin();
    struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                           .drain_timeout = VOUCH_MILLISECONDS(20)};
    rpc_stage_init(&stage, &options);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcome;
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    while (atomic_load(&stage.kept_count) == 0)
        cr_assert_eq(turn(RPC_PATIENCE), 0);
    vouch_server_interrupt(stage.server);
    int r;
    int64_t begun = vouch_now();
    while ((r = turn(RPC_PATIENCE)) == 0)
        continue;
    cr_assert_eq(r, -ESHUTDOWN);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), -ECONNRESET);
    close_both();
}

Test(server, answers_have_their_time_in_a_loop) {
    rpc_need_loop_descriptor();
    open_late(NULL);
    cr_assert_geq(vouch_server_get_fd(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcomes[3];
    int64_t begun = vouch_now();
    rpc_call_async(client, "late", "3600000", NULL, &outcomes[0], NULL);
    rpc_call_async(client, "late", "30", NULL, &outcomes[1], NULL);
    while (atomic_load(&afters) == 0)
        cr_assert_eq(turn(RPC_PATIENCE), 0);
    cr_assert_geq(vouch_now() - begun, VOUCH_MILLISECONDS(30));
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcomes[1].result, 0);
    cr_assert_eq(atomic_load(&outcomes[0].callbacks), 0);
    vouch_client_free(client);
    client = NULL;
    while (atomic_load(&afters) == 1)
        cr_assert_eq(turn(RPC_PATIENCE), 0);
    cr_assert_eq(rpc_stats(&stage).in_flight, 0);
    close_both();
}

Test(server, a_loop_that_drains_cuts_off_answers_that_have_their_time) {
    rpc_need_loop_descriptor();
    open_late(&(struct vouch_server_options){.drain_timeout = VOUCH_MILLISECONDS(20)});
    cr_assert_geq(vouch_server_get_fd(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcome;
    rpc_call_async(client, "late", "3600000", NULL, &outcome, NULL);
    while (rpc_stats(&stage).in_flight == 0)
        cr_assert_eq(turn(RPC_PATIENCE), 0);
    vouch_server_interrupt(stage.server);
    int r;
    while ((r = turn(RPC_PATIENCE)) == 0)
        continue;
    cr_assert_eq(r, -ESHUTDOWN);
    cr_assert_eq(rpc_stats(&stage).in_flight, 0);
    cr_assert_eq(atomic_load(&afters), 1);
    close_both();
}

Test(server, is_freed_with_answers_that_have_their_time) {
    for (int looped = 0; looped < 2; looped++) {
        open_late(NULL);
        if (looped)
            rpc_need_loop_descriptor();
        cr_assert_geq(looped ? vouch_server_get_fd(stage.server) : vouch_server_start(stage.server),
                      0);
        client = rpc_stage_client(&stage, NULL);
        struct rpc_outcome outcome;
        rpc_call_async(client, "late", "3600000", NULL, &outcome, NULL);
        while (looped && rpc_stats(&stage).in_flight == 0)
            cr_assert_eq(turn(RPC_PATIENCE), 0);
        RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 1);
        close_both();
        cr_assert_eq(atomic_load(&afters), 1);
    }
}

Test(server, a_stop_drains_a_loops_server_on_the_stopping_thread) {
    rpc_need_loop_descriptor();
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    cr_assert_geq(vouch_server_get_fd(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    cr_assert_eq(vouch_server_stop(stage.server, 0), 0);
    cr_assert_eq(vouch_server_process(stage.server), -ESHUTDOWN);
    close_both();
}

/* ---- statistics ---- */

Test(server, counts_what_it_does) {
    open_both();
    struct vouch_server_stats stats = rpc_stats(&stage);
    cr_assert_eq(stats.connections, 1);
    cr_assert_eq(stats.live_connections, 1);
    cr_assert_geq(stats.workers, 2);
    cr_assert_eq(stats.calls, 0);
    rpc_check_call(client, "echo", "12345", 0, NULL);
    rpc_check_call(client, "result", "3", VOUCH_REMOTE_BAD_DATA, NULL);
    rpc_check_call(client, "none", "", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    struct rpc_outcome outcome;
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 1);
    stats = rpc_stats(&stage);
    cr_assert_eq(stats.calls, 4);
    cr_assert_eq(stats.errors[0], 1);
    cr_assert_eq(stats.errors[VOUCH_REMOTE_BAD_DATA], 1);
    cr_assert_eq(stats.errors[VOUCH_REMOTE_METHOD_NOT_FOUND], 1);
    cr_assert_gt(stats.bytes_received, 5);
    cr_assert_gt(stats.bytes_sent, 5);
    vouch_client_free(client);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), -ECONNRESET);
    stats = rpc_stats(&stage);
    cr_assert_eq(stats.lost, 1);
    cr_assert_eq(stats.cancels, 0, "nobody cancelled");
    cr_assert_eq(stats.in_flight, 0);
    cr_assert_eq(stats.connections, 1);
    cr_assert_gt(stats.bytes_received, 5, "those of connections that are gone too");
    rpc_stage_close(&stage);
    support_baseline_end();
}

static uint64_t sum(const uint64_t *numbers, size_t count) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += numbers[i];
    return total;
}

Test(server, each_method_has_a_histogram) {
    open_both();
    struct vouch_method_stats stats;
    for (int i = 0; i < 5; i++)
        rpc_check_call(client, "echo", "", 0, NULL);
    rpc_check_call(client, "result", "3", VOUCH_REMOTE_BAD_DATA, NULL);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(vouch_server_get_method_stats(stage.server, 0, &stats), 0);
    cr_assert_str_eq(stats.name, "echo");
    cr_assert_eq(stats.calls, 5);
    cr_assert_eq(stats.errors, 0);
    cr_assert_eq(sum(stats.latency, VOUCH_LATENCY_BUCKETS), 5);
    cr_assert_eq(vouch_server_get_method_stats(stage.server, 5, &stats), 0);
    cr_assert_str_eq(stats.name, "result");
    cr_assert_eq(stats.calls, 1);
    cr_assert_eq(stats.errors, 1);
    cr_assert_eq(vouch_server_get_method_stats(stage.server, 6, &stats), 0);
    cr_assert_eq(vouch_server_get_method_stats(stage.server, 7, &stats), -ENOENT);
    close_both();
}

static void *answer_late(void *context) {
    struct vouch_call *call = context;
    cr_assert_eq(vouch_call_wait_cancelled(call, vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_eq(vouch_call_reply(call, NULL, 0), -ECONNRESET);
    return NULL;
}

/* The stop cuts the call off; who keeps it sees that, and answers while the server waits. */
Test(server, free_waits_for_kept_calls) {
    open_both();
    struct rpc_outcome outcome;
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    pthread_t answerer = support_thread_start(answer_late, stage.kept[0]);
    vouch_server_free(stage.server);
    support_thread_join(answerer);
    stage.server = NULL;
    close_both();
}

/* ---- after a fork ---- */

static int child_uses_server(void *context) {
    (void)context;
    struct vouch_conn *conns[2];
    if (vouch_conn_pair(NULL, conns) != 0)
        return 1;
    if (add("x") != -ECHILD || vouch_server_add_conn(stage.server, conns[0]) != -ECHILD)
        return 2;
    if (vouch_server_start(stage.server) != -ECHILD || vouch_server_run(stage.server) != -ECHILD)
        return 3;
    if (vouch_server_stop(stage.server, 0) != -ECHILD ||
        vouch_server_get_fd(stage.server) != -ECHILD ||
        vouch_server_process(stage.server) != -ECHILD)
        return 4;
    vouch_server_free(stage.server);
    return 0;
}

static int child_serves_parents_connection(void *context) {
    struct vouch_server *server;
    if (vouch_server_new(NULL, &server) != 0)
        return 1;
    if (vouch_server_add_conn(server, context) != -ECHILD)
        return 2;
    vouch_server_free(server);
    return 0;
}

Test(server, a_connection_made_before_a_fork_is_refused) {
    support_baseline_begin();
    struct vouch_conn *conns[2];
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(peers_run(child_serves_parents_connection, conns[0]), 0);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}

/* Threads of the parent's wait in the server when it forks: the child must not wait for them. */
Test(server, a_forked_child_is_refused_and_disturbs_nobody) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    struct rpc_outcome outcomes[2];
    rpc_call_async(client, "keep", "", NULL, &outcomes[0], NULL);
    uint64_t id;
    rpc_call_async(client, "wait", "", NULL, &outcomes[1], &id);
    rpc_latch_wait(&stage.entered, 2);
    cr_assert_eq(peers_run(child_uses_server, NULL), 0);
    cr_assert(peers_exists(stage.path));
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcomes[0].result, 0);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_latch_wait(&stage.cancelled, 1);
    rpc_wait_callbacks(client, 1);
    struct vouch_client *another;
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &another, NULL), 0);
    rpc_check_call(another, "echo", "alive", 0, "alive");
    vouch_client_free(another);
    close_both();
}

/* ---- out of descriptors ---- */

/* The connection that finds none is turned away at once, and the server goes on. */
Test(server, without_descriptors_it_sheds_load_and_recovers) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    rpc_check_call(client, "echo", "", 0, "");
    struct rlimit before, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    size_t descriptors = support_count_fds();
    int fd = peers_connect(stage.path); /* what the test itself needs, first */
    cr_assert_geq(fd, 0);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 2);
    int spare = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int used = dup(spare);
    cr_assert(spare >= 0 && used >= 0);
    none = before;
    none.rlim_cur = (rlim_t)used + 1;
    close(fd);
    RPC_EVENTUALLY(support_count_fds() == descriptors + 2); /* the server's end is closed too */
    int fillers[64], filled = 0;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (filled < 64 && (fillers[filled] = dup(spare)) >= 0)
        filled++;
    cr_assert_lt(filled, 64);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, stage.path);
    cr_assert_eq(connect(spare, (struct sockaddr *)&address, sizeof(address)), 0);
    for (int i = 0; i < 10; i++)
        rpc_check_call(client, "echo", "meanwhile", 0, "meanwhile");
    rpc_raw_expect_end(spare);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (filled > 0)
        close(fillers[--filled]);
    close(used);
    close(spare);
    struct vouch_client *another;
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &another, NULL), 0);
    rpc_check_call(another, "echo", "recovered", 0, "recovered");
    vouch_client_free(another);
    close_both();
}

/* ---- connections that come and go ---- */

struct visits {
    struct rpc_latch opened, closed;
    atomic_uint_fast64_t numbers; /* sum of those that opened, minus those that closed */
    atomic_uint strangers;
};

static void on_open(void *context, uint64_t connection, const struct vouch_identity *peer) {
    struct visits *visits = context;
    if (!(peer->known & VOUCH_KNOWN_UID) || peer->uid != geteuid())
        atomic_fetch_add(&visits->strangers, 1);
    atomic_fetch_add(&visits->numbers, connection);
    rpc_latch_raise(&visits->opened);
}

static void on_close(void *context, uint64_t connection, const struct vouch_identity *peer) {
    struct visits *visits = context;
    if (!(peer->known & VOUCH_KNOWN_UID) || peer->uid != geteuid())
        atomic_fetch_add(&visits->strangers, 1);
    atomic_fetch_sub(&visits->numbers, connection);
    rpc_latch_raise(&visits->closed);
}

Test(server, tells_of_connections_that_come_and_go) {
    support_baseline_begin();
    struct visits visits = {.numbers = 0};
    rpc_latch_init(&visits.opened);
    rpc_latch_init(&visits.closed);
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .on_open = on_open,
                                           .on_close = on_close, .context = &visits};
    rpc_stage_open(&stage, &options);
    struct vouch_client *first = rpc_stage_client(&stage, NULL);
    struct vouch_client *second = rpc_stage_client(&stage, NULL);
    rpc_check_call(first, "echo", "a", 0, "a");
    rpc_latch_wait(&visits.opened, 2);
    vouch_client_free(first);
    rpc_latch_wait(&visits.closed, 1);
    rpc_check_call(second, "echo", "b", 0, "b");
    vouch_client_free(second);
    rpc_latch_wait(&visits.closed, 2);
    cr_assert_eq(atomic_load(&visits.numbers), 0);
    cr_assert_eq(atomic_load(&visits.strangers), 0);
    rpc_stage_close(&stage);
    rpc_latch_deinit(&visits.opened);
    rpc_latch_deinit(&visits.closed);
    support_baseline_end();
}

Test(server, a_connection_ends_after_its_kept_calls) {
    support_baseline_begin();
    struct visits visits = {.numbers = 0};
    rpc_latch_init(&visits.opened);
    rpc_latch_init(&visits.closed);
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .on_close = on_close,
                                           .context = &visits};
    rpc_stage_open(&stage, &options);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcome = {.callbacks = 0};
    rpc_call_async(client, "keep", "x", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    struct vouch_call *kept = stage.kept[0];
    cr_assert_eq(vouch_call_get_connection(kept), 1);
    vouch_client_free(client);
    client = NULL;
    cr_assert_eq(vouch_call_wait_cancelled(kept, vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_eq(visits.closed.count, 0);
    cr_assert_eq(vouch_call_reply(kept, NULL, 0), -ECONNRESET);
    rpc_latch_wait(&visits.closed, 1);
    rpc_stage_close(&stage);
    rpc_latch_deinit(&visits.opened);
    rpc_latch_deinit(&visits.closed);
    support_baseline_end();
}

/* ---- freed while a kept call's answer is under way ---- */

struct slow_close {
    struct rpc_latch entered;
    atomic_bool left;
};

/* The last thing that answering a kept call does. That the server is not freed meanwhile can only
 * be seen by giving it time to. */
static void close_slowly(void *context, uint64_t connection, const struct vouch_identity *peer) {
    struct slow_close *slow = context;
    (void)connection;
    (void)peer;
    rpc_latch_raise(&slow->entered);
    (void)poll(NULL, 0, 20);
    atomic_store(&slow->left, true);
}

static void *answer_the_kept_one(void *context) {
    (void)context;
    (void)vouch_call_reply(stage.kept[0], NULL, 0);
    return NULL;
}

Test(server, is_not_freed_under_an_answer_that_is_under_way) {
    support_baseline_begin();
    struct slow_close slow = {.left = false};
    rpc_latch_init(&slow.entered);
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .on_close = close_slowly,
                                           .context = &slow};
    rpc_stage_open(&stage, &options);
    client = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcome = {.callbacks = 0};
    rpc_call_async(client, "keep", "x", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    vouch_client_free(client);
    client = NULL;
    struct vouch_call *kept = stage.kept[0];
    cr_assert_eq(vouch_call_wait_cancelled(kept, vouch_deadline_in(RPC_PATIENCE)), 1);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    pthread_t answerer = support_thread_start(answer_the_kept_one, NULL);
    rpc_latch_wait(&slow.entered, 1);
    cr_assert_eq(vouch_server_stop(stage.server, RPC_PATIENCE), 0);
    rpc_stage_close(&stage);
    cr_assert(atomic_load(&slow.left));
    (void)support_thread_join(answerer);
    rpc_latch_deinit(&slow.entered);
    support_baseline_end();
}

Test(server, listens_in_one_step) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    char path[SUPPORT_PATH_MAX];
    support_temp_path(path, "socket");
    struct vouch_error error;
    cr_assert_eq(vouch_server_listen(stage.server, path, NULL, &error), 0);
    cr_assert_eq(vouch_server_listen(stage.server, path, NULL, &error), VOUCH_E_ADDRESS_LOCKED);
    cr_assert_eq(vouch_client_dial(path, NULL, NULL, &client, &error), 0, "%s", error.message);
    rpc_check_call(client, "echo", "a", 0, "a");
    vouch_client_free(client);
    client = NULL;
    cr_assert_eq(vouch_server_stop(stage.server, RPC_PATIENCE), 0);
    cr_assert_eq(vouch_server_listen(stage.server, path, NULL, &error), -ESHUTDOWN);
    cr_assert_eq(access(path, F_OK), -1); /* nothing is left behind */
    rpc_stage_close(&stage);
    support_baseline_end();
}
