/* SPDX-License-Identifier: MIT */
/* A client's life: options, connecting, connecting again, the end, a fork. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vouch/chunk.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/rpc_support.h"
#include "tests/toy_dialect.h"

static struct rpc_stage stage;
static struct vouch_client *client;
static struct toy toy; /* a dialect that has notices */

/* For clients of either wire. */
static void listen_for_both(void) {
    static const struct vouch_dialect *const dialects[] = {&toy.dialect};
    const struct vouch_serve_options serve = {VOUCH_OPTIONS(serve), .dialects = dialects,
                                              .dialect_count = 1};
    toy_init(&toy);
    rpc_stage_listen_with(&stage, NULL, &serve);
}

static void open_both(void) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    client = rpc_stage_client(&stage, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- options ---- */

static void check_options(const struct vouch_client_options *options, int expected) {
    struct vouch_conn *conns[2];
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    int r = vouch_client_new(conns[0], options, &client);
    cr_assert_eq(r, expected);
    if (r == 0)
        vouch_client_free(client);
    else
        vouch_conn_free(conns[0]); /* not taken over */
    vouch_conn_free(conns[1]);
}

#define CHECK_OPTION(Expected, ...)                                                                \
    do {                                                                                           \
        struct vouch_client_options checked = {VOUCH_OPTIONS(checked), __VA_ARGS__};               \
        check_options(&checked, Expected);                                                         \
    } while (0)

Test(client, options_at_their_bounds_and_one_past) {
    support_baseline_begin();
    static const struct vouch_client_interceptor interceptors[17];
    check_options(NULL, 0);
    CHECK_OPTION(0, .max_request = VOUCH_CHUNK_SIZE_BOUND);
    CHECK_OPTION(-EINVAL, .max_request = VOUCH_CHUNK_SIZE_BOUND + 1);
    CHECK_OPTION(0, .max_reply = VOUCH_CHUNK_SIZE_BOUND);
    CHECK_OPTION(-EINVAL, .max_reply = VOUCH_CHUNK_SIZE_BOUND + 1);
    CHECK_OPTION(0, .max_calls = VOUCH_CLIENT_CALLS_BOUND);
    CHECK_OPTION(-EINVAL, .max_calls = VOUCH_CLIENT_CALLS_BOUND + 1);
    CHECK_OPTION(0, .interceptors = interceptors, .interceptor_count = 16);
    CHECK_OPTION(-EINVAL, .interceptors = interceptors, .interceptor_count = 17);
    CHECK_OPTION(-EINVAL, .interceptor_count = 1);
    CHECK_OPTION(-EINVAL, .call_timeout = -1);
    CHECK_OPTION(-EINVAL, .frame_timeout = -1);
    CHECK_OPTION(-EINVAL, .stall_timeout = -1);
    CHECK_OPTION(-EINVAL, .reconnect_min = -1);
    CHECK_OPTION(-EINVAL, .reconnect_max = -1);
    CHECK_OPTION(-EINVAL, .reconnect_after = -1);
    CHECK_OPTION(-EINVAL, .reconnect = true);
    CHECK_OPTION(0, .polling = VOUCH_POLLING_ALWAYS, .polling_budget = VOUCH_POLLING_BUDGET_BOUND);
    CHECK_OPTION(-EINVAL, .polling_budget = VOUCH_POLLING_BUDGET_BOUND + 1);
    CHECK_OPTION(-EINVAL, .polling_budget = -1);
    CHECK_OPTION(-EINVAL, .polling = (enum vouch_polling)(VOUCH_POLLING_ALWAYS + 1));
    CHECK_OPTION(-EINVAL, .polling = (enum vouch_polling) - 1);
    CHECK_OPTION(0, .call_timeout = VOUCH_FOREVER, .frame_timeout = VOUCH_FOREVER,
                 .stall_timeout = VOUCH_FOREVER);
    const struct vouch_dialect dumb = {VOUCH_OPTIONS(dumb), .name = "dumb"};
    CHECK_OPTION(-EINVAL, .dialect = &dumb);
    cr_assert_eq(vouch_client_new(NULL, NULL, &client), -EINVAL);
    support_baseline_end();
}

Test(client, uses_the_pool_and_the_allocator_it_is_given) {
    support_baseline_begin();
    struct support_allocator allocator;
    struct vouch_pool *pool;
    support_allocator_init(&allocator);
    struct vouch_pool_options pool_options = {VOUCH_OPTIONS(pool_options),
                                              .allocator = &allocator.allocator};
    cr_assert_eq(vouch_pool_new(&pool_options, &pool), 0);
    struct vouch_client_options options = {VOUCH_OPTIONS(options),
                                           .allocator = &allocator.allocator, .pool = pool};
    rpc_stage_open(&stage, NULL);
    client = rpc_stage_client(&stage, &options);
    vouch_pool_unref(pool);
    cr_assert_eq(vouch_client_get_pool(client), pool);
    struct rpc_outcome outcome;
    rpc_call_async(client, "echo", "x", NULL, &outcome, NULL);
    rpc_wait_callbacks(client, 1);
    vouch_client_free(client);
    support_allocator_check(&allocator);
    rpc_stage_close(&stage);
    support_baseline_end();
}

Test(client, null_is_no_client) {
    vouch_client_close(NULL);
    vouch_client_free(NULL);
}

/* ---- dialling ---- */

Test(client, dials_a_listening_server) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    listen_for_both();
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    rpc_check_call(client, "echo", "over a path", 0, "over a path");
    const struct vouch_identity *peer = vouch_client_get_peer(client);
    cr_assert_not_null(peer);
    cr_assert_eq(peer->uid, geteuid());
    vouch_identity_unref(peer);
    close_both();
}

Test(client, says_why_it_cannot_dial) {
    support_baseline_begin();
    char path[SUPPORT_PATH_MAX];
    struct vouch_error error;
    support_temp_path(path, "nothing");
    cr_assert_eq(vouch_client_dial(path, NULL, NULL, &client, &error), -ENOENT);
    cr_assert_eq(error.code, -ENOENT);
    cr_assert_not_null(strstr(error.message, path), "%s", error.message);
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .call_timeout = -1};
    cr_assert_eq(vouch_client_dial(path, NULL, &options, &client, &error), -EINVAL);
    cr_assert_eq(error.code, -EINVAL);
    support_baseline_end();
}

/* ---- the peer, and counters ---- */

Test(client, has_no_peer_after_the_connection_is_gone) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    const struct vouch_identity *peer = vouch_client_get_peer(client);
    cr_assert_eq(peer->uid, geteuid());
    close(fd);
    rpc_check_call(client, "any", "", -ECONNRESET, NULL);
    cr_assert_null(vouch_client_get_peer(client));
    cr_assert_eq(peer->uid, geteuid());
    vouch_identity_unref(peer);
    vouch_client_free(client);
    support_baseline_end();
}

Test(client, counts_what_it_does) {
    open_both();
    struct vouch_client_stats stats;
    struct rpc_outcome outcome;
    uint64_t id;
    rpc_check_call(client, "echo", "12345", 0, NULL);
    rpc_check_call(client, "none", "", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    rpc_call_async(client, "block", "", NULL, &outcome, &id);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_wait_callbacks(client, 1);
    rpc_call_async(client, "block", "", NULL, &outcome, NULL);
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.calls, 4);
    cr_assert_eq(stats.replies, 1);
    cr_assert_eq(stats.remote_errors, 1);
    cr_assert_eq(stats.local_errors, 1);
    cr_assert_eq(stats.in_flight, 1);
    cr_assert_eq(stats.connects, 1);
    cr_assert_gt(stats.bytes_sent, 5);
    cr_assert_gt(stats.bytes_received, 5);
    rpc_latch_raise(&stage.go);
    rpc_wait_callbacks(client, 1);
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.replies, 2);
    cr_assert_eq(stats.in_flight, 0);
    close_both();
}

/* ---- the end ---- */

Test(client, close_ends_what_is_in_flight_and_all_that_follows) {
    open_both();
    struct rpc_caller callers[3];
    struct rpc_outcome outcome;
    int64_t begun = vouch_now();
    for (int i = 0; i < 3; i++)
        rpc_caller_start(&callers[i], client, "keep", NULL);
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 4);
    vouch_client_close(client);
    vouch_client_close(client);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(rpc_caller_join(&callers[i]), -ESHUTDOWN);
    cr_assert_eq(atomic_load(&outcome.callbacks), 0);
    cr_assert_eq(vouch_client_process(client), 1);
    cr_assert_eq(atomic_load(&outcome.callbacks), 1);
    cr_assert_eq(outcome.result, -ESHUTDOWN);
    rpc_check_call(client, "echo", "", -ESHUTDOWN, NULL);
    cr_assert_eq(vouch_client_ping(client, 0, NULL), -ESHUTDOWN);
    cr_assert_eq(vouch_client_wait(client, VOUCH_FOREVER), -ESHUTDOWN);
    cr_assert_eq(vouch_client_process(client), -ESHUTDOWN);
    cr_assert_null(vouch_client_get_peer(client));
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    for (int i = 0; i < 4; i++)
        (void)vouch_call_reply(stage.kept[i], "", 0);
    close_both();
}

static void *wait_for_callbacks(void *context) {
    return (void *)(intptr_t)vouch_client_wait(context, VOUCH_FOREVER);
}

Test(client, close_wakes_who_waits_for_callbacks) {
    open_both();
    struct rpc_outcome outcome;
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    pthread_t waiter = support_thread_start(wait_for_callbacks, client);
    rpc_latch_wait(&stage.entered, 1);
    vouch_client_close(client);
    cr_assert_eq((intptr_t)support_thread_join(waiter), 1);
    cr_assert_eq(outcome.result, -ESHUTDOWN);
    (void)vouch_call_reply(stage.kept[0], "", 0);
    close_both();
}

Test(client, free_runs_the_callbacks_that_are_left) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_outcome outcomes[10];
    for (int i = 0; i < 10; i++)
        rpc_call_async(client, "a", "", NULL, &outcomes[i], NULL);
    vouch_client_free(client);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(atomic_load(&outcomes[i].callbacks), 1);
        cr_assert_eq(outcomes[i].result, -ESHUTDOWN);
    }
    close(fd);
    support_baseline_end();
}

/* ---- connecting again ---- */

static void dial_stage(int64_t reconnect_min) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .reconnect = true,
                                           .reconnect_min = reconnect_min};
    cr_assert_eq(vouch_client_dial(stage.path, NULL, &options, &client, NULL), 0);
}

static void open_listening(void) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    listen_for_both();
}

static void restart(void) {
    char path[SUPPORT_PATH_MAX];
    strcpy(path, stage.path);
    rpc_stage_close(&stage);
    rpc_stage_open(&stage, NULL);
    listen_for_both();
    cr_assert_str_eq(stage.path, path);
}

Test(client, without_reconnect_a_lost_connection_stays_lost) {
    open_listening();
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    rpc_check_call(client, "echo", "", 0, "");
    restart();
    rpc_check_call(client, "echo", "", -ECONNRESET, NULL);
    rpc_check_call(client, "echo", "", -ECONNRESET, NULL);
    close_both();
}

Test(client, connects_again_and_repeats_nothing) {
    open_listening();
    dial_stage(0);
    struct rpc_caller caller;
    struct rpc_outcome outcome;
    rpc_caller_start(&caller, client, "keep", NULL);
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 2);
    cr_assert_eq(vouch_server_stop(stage.server, 0), -ETIMEDOUT);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(vouch_call_reply(stage.kept[i], "", 0), -ECONNRESET);
    cr_assert_eq(rpc_caller_join(&caller), -ECONNRESET);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, -ECONNRESET);
    restart();
    rpc_check_call(client, "echo", "again", 0, "again");
    cr_assert_eq(rpc_stats(&stage).calls, 1, "what was in flight is not repeated");
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.connects, 2);
    rpc_call_async(client, "echo", "12", NULL, &outcome, NULL);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    const struct vouch_identity *peer = vouch_client_get_peer(client);
    cr_assert_not_null(peer);
    vouch_identity_unref(peer);
    close_both();
}

/* ---- … without a call ---- */

static void lose_server(void) {
    rpc_check_call(client, "echo", "", 0, "");
    rpc_stage_close(&stage);
    rpc_check_call_options(client, "echo", "",
                           &(struct vouch_call_options){.size = sizeof(struct vouch_call_options),
                                                        .timeout = VOUCH_MILLISECONDS(50)},
                           -ECONNRESET);
}

static void ignore_notice(void *context, const struct vouch_reply *notice) {
    (void)context;
    (void)notice;
}

static void dial_stage_after(int64_t reconnect_after, bool listens) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options),
                                           .reconnect = true,
                                           .reconnect_min = VOUCH_MILLISECONDS(1),
                                           .reconnect_after = reconnect_after,
                                           .on_notice = listens ? ignore_notice : NULL,
                                           .dialect = listens ? &toy.dialect : NULL};
    cr_assert_eq(vouch_client_dial(stage.path, NULL, &options, &client, NULL), 0);
}

static uint64_t connects(void) {
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    return stats.connects;
}

static void come_back(void) {
    rpc_stage_open(&stage, NULL);
    listen_for_both();
}

Test(client, who_waits_for_notices_waits_for_the_server) {
    open_listening();
    dial_stage_after(VOUCH_MILLISECONDS(1), true);
    lose_server();
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(VOUCH_MILLISECONDS(20))), -ETIMEDOUT);
    cr_assert_eq(connects(), 1);
    come_back();
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (connects() == 1 && vouch_now() < give_up)
        cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(VOUCH_MILLISECONDS(20))),
                     -ETIMEDOUT);
    cr_assert_eq(connects(), 2);
    rpc_check_call(client, "echo", "again", 0, "again");
    cr_assert_eq(connects(), 2);
    close_both();
}

Test(client, who_does_not_is_not_kept_waiting) {
    open_listening();
    dial_stage_after(VOUCH_MILLISECONDS(1), false);
    lose_server();
    cr_assert_eq(vouch_client_wait(client, VOUCH_FOREVER), 0);
    come_back();
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (connects() == 1 && vouch_now() < give_up)
        cr_assert_eq(vouch_client_wait(client, VOUCH_FOREVER), 0);
    cr_assert_eq(connects(), 2);
    close_both();
}

Test(client, process_connects_again) {
    open_listening();
    dial_stage_after(VOUCH_MILLISECONDS(1), false);
    cr_assert_eq(vouch_client_get_timeout(client), VOUCH_FOREVER);
    lose_server();
    cr_assert_leq(vouch_client_get_timeout(client), VOUCH_SECONDS(1));
    come_back();
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (connects() == 1 && vouch_now() < give_up)
        cr_assert_eq(vouch_client_process(client), 0);
    cr_assert_eq(connects(), 2);
    cr_assert_eq(vouch_client_get_timeout(client), VOUCH_FOREVER);
    rpc_check_call(client, "echo", "again", 0, "again");
    close_both();
}

Test(client, a_loop_sleeps_until_it_is_time_to_connect_again) {
    open_listening();
    dial_stage_after(VOUCH_SECONDS(3600), false);
    struct pollfd fd = {.fd = vouch_client_get_fd(client), .events = POLLIN};
    rpc_stage_close(&stage);
    cr_assert_eq(poll(&fd, 1, 40000), 1);
    cr_assert_eq(vouch_client_process(client), 0);
    for (int i = 0; i < 3; i++) { /* what has been raised meanwhile may be seen once */
        fd.fd = vouch_client_get_fd(client);
        if (poll(&fd, 1, 0) == 0)
            break;
        cr_assert_eq(vouch_client_process(client), 0);
        cr_assert_lt(i, 2, "the loop would spin");
    }
    cr_assert_gt(vouch_client_get_timeout(client), VOUCH_SECONDS(3000));
    rpc_stage_open(&stage, NULL);
    close_both();
}

Test(client, it_is_not_time_yet_to_connect_again) {
    open_listening();
    dial_stage_after(VOUCH_SECONDS(3600), true);
    lose_server();
    come_back();
    int64_t left = vouch_client_get_timeout(client);
    cr_assert_gt(left, VOUCH_SECONDS(3000));
    cr_assert_leq(left, VOUCH_SECONDS(3600));
    cr_assert_eq(vouch_client_process(client), 0);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(VOUCH_MILLISECONDS(5))), -ETIMEDOUT);
    cr_assert_eq(connects(), 1);
    rpc_check_call(client, "echo", "now", 0, "now"); /* a call does not wait for that */
    cr_assert_eq(connects(), 2);
    cr_assert_eq(vouch_client_get_timeout(client), VOUCH_FOREVER);
    vouch_client_close(client);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), -ESHUTDOWN);
    close_both();
}

Test(client, tries_until_the_deadline_and_says_why_it_failed) {
    open_listening();
    dial_stage(VOUCH_MILLISECONDS(1));
    lose_server();
    struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_MILLISECONDS(50)};
    const char *text = rpc_check_call_options(client, "echo", "", &brief, -ENOENT);
    cr_assert_not_null(strstr(text, stage.path), "%s", text);
    struct rpc_outcome outcome = {0};
    int r =
        vouch_client_call_async(client, "echo", "", 0, NULL, rpc_outcome_callback, &outcome, NULL);
    cr_assert(r == -ENOENT || r == -ECONNRESET, "%d: it does not wait", r);
    cr_assert_eq(atomic_load(&outcome.callbacks), 0);
    vouch_client_free(client);
    support_baseline_end();
}

Test(client, an_error_that_will_not_pass_is_told_at_once) {
    open_listening();
    dial_stage(VOUCH_MILLISECONDS(1));
    lose_server();
    int64_t begun = vouch_now();
    peers_touch(stage.path);
    rpc_check_call(client, "echo", "", VOUCH_E_NOT_SOCKET, NULL);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    vouch_client_free(client);
    support_baseline_end();
}

Test(client, a_call_waits_for_a_server_that_comes_back) {
    open_listening();
    dial_stage(VOUCH_MILLISECONDS(1));
    lose_server();
    struct rpc_caller callers[4];
    for (int i = 0; i < 4; i++)
        rpc_caller_start(&callers[i], client, "echo", NULL);
    rpc_stage_open(&stage, NULL);
    listen_for_both();
    for (int i = 0; i < 4; i++)
        cr_assert_eq(rpc_caller_join(&callers[i]), 0);
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.connects, 2, "one dials for all");
    close_both();
}

static uint64_t calls_begun(void) {
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    return stats.calls;
}

Test(client, close_ends_the_wait_for_a_server) {
    open_listening();
    dial_stage(VOUCH_MILLISECONDS(1));
    lose_server();
    struct rpc_caller caller;
    int64_t begun = vouch_now();
    rpc_caller_start(&caller, client, "echo", NULL);
    RPC_EVENTUALLY(calls_begun() == 3);
    vouch_client_close(client);
    cr_assert_eq(rpc_caller_join(&caller), -ESHUTDOWN);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    vouch_client_free(client);
    support_baseline_end();
}

/* What was said of the server at first is still asked of the next one. */
Test(client, the_dial_options_are_kept) {
    open_listening();
    struct vouch_rule *rules = malloc(sizeof(*rules));
    mode_t *modes = malloc(sizeof(*modes));
    cr_assert(rules && modes);
    *rules = (struct vouch_rule){VOUCH_ALLOW, VOUCH_SUBJECT_UID, geteuid()};
    *modes = 0600;
    struct vouch_policy policy = {rules, 1};
    struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .server = &policy, .file_modes = modes,
                                      .file_mode_count = 1};
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .reconnect = true};
    cr_assert_eq(vouch_client_dial(stage.path, &dial, &options, &client, NULL), 0);
    memset(rules, 0xff, sizeof(*rules));
    *modes = 0;
    free(rules);
    free(modes);
    rpc_stage_close(&stage);
    rpc_check_call(client, "echo", "", -ECONNRESET, NULL);
    rpc_stage_open(&stage, NULL);
    struct vouch_listen_options other_mode = {VOUCH_OPTIONS(other_mode), .mode = 0660};
    rpc_stage_listen(&stage, &other_mode);
    rpc_check_call(client, "echo", "", VOUCH_E_FILE_MODE, NULL);
    restart();
    rpc_check_call(client, "echo", "", 0, "");
    close_both();
}

/* ---- after a fork ---- */

static int child_uses_client(void *context) {
    (void)context;
    struct vouch_buffer *request;
    uint64_t id;
    if (vouch_client_call(client, "echo", "", 0, NULL, NULL, NULL) != -ECHILD)
        return 1;
    if (vouch_client_call_async(client, "echo", "", 0, NULL, rpc_outcome_callback, NULL, &id) !=
        -ECHILD)
        return 2;
    if (vouch_client_ping(client, 0, NULL) != -ECHILD)
        return 3;
    if (vouch_client_get_fd(client) != -ECHILD || vouch_client_process(client) != -ECHILD ||
        vouch_client_wait(client, VOUCH_FOREVER) != -ECHILD)
        return 4;
    if (vouch_client_cancel_id(client, 1) != -ECHILD || vouch_client_cancel(client, 1) != 0)
        return 5;
    if (vouch_client_get_buffer(client, 1, &request) == 0 &&
        vouch_client_call_buffer(client, "echo", request, NULL, NULL, NULL) != -ECHILD)
        return 6;
    vouch_client_close(client);
    vouch_client_free(client);
    return 0;
}

static int child_takes_connection(void *context) {
    struct vouch_client *mine;
    return vouch_client_new(context, NULL, &mine) == -ECHILD ? 0 : 1;
}

Test(client, a_connection_of_the_parent_is_refused) {
    support_baseline_begin();
    struct vouch_conn *conns[2];
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(peers_run(child_takes_connection, conns[0]), 0);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}

Test(client, a_forked_child_is_refused_and_disturbs_nobody) {
    open_both();
    struct rpc_caller caller;
    struct rpc_outcome outcome;
    rpc_caller_start(&caller, client, "keep", NULL);
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 2);
    cr_assert_eq(peers_run(child_uses_client, NULL), 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(vouch_call_reply(stage.kept[i], "", 0), 0);
    cr_assert_eq(rpc_caller_join(&caller), 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    rpc_check_call(client, "echo", "alive", 0, "alive");
    close_both();
}
