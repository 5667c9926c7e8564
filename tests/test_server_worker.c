/* SPDX-License-Identifier: MIT */
/* The server's threads: how many there are, what they do for whom, when they leave. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static struct vouch_client *client;

static void open_with(unsigned workers, unsigned workers_max) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = workers,
                                           .workers_max = workers_max};
    support_baseline_begin();
    rpc_stage_open(&stage, &options);
    client = rpc_stage_client(&stage, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

Test(server_worker, there_are_as_many_as_asked_for) {
    open_with(3, 0);
    cr_assert_eq(rpc_stats(&stage).workers, 3);
    close_both();
    open_with(1, 1);
    cr_assert_eq(rpc_stats(&stage).workers, 1);
    rpc_check_call(client, "echo", "one is enough", 0, "one is enough");
    close_both();
    open_with(3, 2);
    cr_assert_eq(rpc_stats(&stage).workers, 3, "the maximum is never less");
    close_both();
}

Test(server_worker, a_blocked_handler_is_replaced) {
    open_with(2, 6);
    static struct rpc_outcome outcomes[5];
    for (unsigned i = 0; i < 5; i++) {
        rpc_call_async(client, "block", "", NULL, &outcomes[i], NULL);
        rpc_latch_wait(&stage.entered, i + 1);
        rpc_check_call(client, "echo", "meanwhile", 0, "meanwhile");
    }
    cr_assert_eq(rpc_stats(&stage).workers, 7, "six ran handlers, and one read on");
    rpc_latch_raise(&stage.go);
    rpc_wait_callbacks(client, 5);
    close_both();
}

/* Beyond the maximum calls wait, and go on when a handler returns. */
Test(server_worker, beyond_the_maximum_calls_wait_their_turn) {
    open_with(1, 2);
    static struct rpc_outcome outcomes[6];
    for (int i = 0; i < 6; i++)
        rpc_call_async(client, "block", "", NULL, &outcomes[i], NULL);
    rpc_latch_wait(&stage.entered, 2);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 6);
    cr_assert_eq(rpc_stats(&stage).workers, 3, "two in handlers, and one that reads on");
    struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_MILLISECONDS(30)};
    int r = vouch_client_call(client, "echo", "", 0, &brief, NULL, NULL);
    cr_assert(rpc_timed_out(r), "%d", r);
    cr_assert_eq(stage.entered.count, 2);
    rpc_latch_raise(&stage.go);
    rpc_wait_callbacks(client, 6);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(outcomes[i].result, 0);
    close_both();
}

/* Handlers that wait for ever, of all workers that may: whoever else calls, cancels or goes is
 * noticed all the same. */
Test(server_worker, at_the_maximum_reading_goes_on) {
    open_with(1, 2);
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    struct vouch_call_options tagged = {VOUCH_OPTIONS(tagged), .timeout = VOUCH_FOREVER, .tag = 7};
    static struct rpc_outcome outcomes[8];
    rpc_check_call(client, "quick", "hello", 0, "hello");
    for (int i = 0; i < 8; i++)
        rpc_call_async(client, "wait", "", &tagged, &outcomes[i], NULL);
    rpc_latch_wait(&stage.entered, 2);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 8);
    rpc_check_call(client, "quick", "the same connection", 0, "the same connection");
    rpc_check_call(other, "quick", "another", 0, "another");
    cr_assert_eq(vouch_client_cancel(client, 7), 8);
    rpc_wait_callbacks(client, 8);
    rpc_latch_wait(&stage.cancelled, 2);
    rpc_check_call(other, "echo", "free again", 0, "free again");
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(stage.entered.count, 2, "those that waited were cancelled before they ran");
    vouch_client_free(other);
    close_both();
}

Test(server_worker, at_the_maximum_a_caller_that_goes_frees_its_workers) {
    open_with(1, 2);
    int fd = rpc_stage_raw(&stage);
    for (uint32_t id = 1; id <= VOUCH_SERVER_CALLS_DEFAULT + 5; id++)
        rpc_raw_send(fd, &(struct rpc_message){.id = id, .method = "wait"});
    rpc_latch_wait(&stage.entered, 2);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == VOUCH_SERVER_CALLS_DEFAULT);
    close(fd);
    rpc_check_call(client, "echo", "mine", 0, "mine");
    close_both();
}

/* What waits for a worker when the server is cut off does not keep it from ending. */
/* ---- one user and the others ---- */

#define GREEDY_CALLS 6

/* As another user: asks for more handlers than there are, and waits for all answers. */
static int be_greedy(void *context) {
    peers_become(PEERS_UID, PEERS_GID);
    int fd = peers_connect(context);
    if (fd < 0)
        return 1;
    for (uint32_t i = 1; i <= GREEDY_CALLS; i++)
        rpc_raw_send(fd, &(struct rpc_message){.id = i, .method = "block"});
    for (int i = 0; i < GREEDY_CALLS; i++) {
        struct rpc_received reply;
        rpc_raw_expect(fd, &reply);
        rpc_received_free(&reply);
    }
    close(fd);
    return 0;
}

static void check_share(unsigned per_uid, unsigned expected) {
    peers_need_root();
    support_baseline_begin();
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = 1, .workers_max = 4,
                                           .workers_per_uid = per_uid};
    const struct vouch_rule anybody = {VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0};
    const struct vouch_policy policy = {&anybody, 1};
    struct vouch_listen_options open_to_all = {VOUCH_OPTIONS(open_to_all), .policy = &policy,
                                               .mode = 0666};
    rpc_stage_open(&stage, &options);
    rpc_stage_listen(&stage, &open_to_all);
    cr_assert_eq(chmod(support_temp_dir(), 0755), 0);
    pid_t child = peers_start(be_greedy, stage.path);
    RPC_EVENTUALLY(rpc_stats(&stage).calls == GREEDY_CALLS);
    rpc_latch_wait(&stage.entered, expected);
    client = rpc_stage_client(&stage, NULL);
    rpc_check_call(client, "echo", "mine", 0, "mine");
    cr_assert_eq(stage.entered.count, expected, "and no more");
    rpc_latch_raise(&stage.go);
    cr_assert_eq(peers_wait(child), 0);
    rpc_latch_wait(&stage.entered, GREEDY_CALLS);
    close_both();
}

Test(server_worker, another_user_has_half_of_the_handlers) {
    check_share(0, 2);
}

Test(server_worker, another_user_has_the_share_that_the_option_says) {
    check_share(3, 3);
}

Test(server_worker, a_stop_at_the_maximum_ends) {
    open_with(1, 2);
    int fd = rpc_stage_raw(&stage);
    for (uint32_t id = 1; id <= VOUCH_SERVER_CALLS_DEFAULT + 5; id++)
        rpc_raw_send(fd, &(struct rpc_message){.id = id, .method = "wait"});
    rpc_latch_wait(&stage.entered, 2);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == VOUCH_SERVER_CALLS_DEFAULT);
    cr_assert_eq(vouch_server_stop(stage.server, 0), -ETIMEDOUT);
    close(fd);
    close_both();
}

static int mask_of_worker(void *context, struct vouch_call *call) {
    (void)call;
    sigset_t *mask = context;
    pthread_sigmask(SIG_SETMASK, NULL, mask);
    return 0;
}

Test(server_worker, signals_of_the_host_are_not_delivered_to_workers) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    sigset_t mask, before, after;
    sigemptyset(&mask);
    struct vouch_method method = {.name = "mask", .handler = mask_of_worker, .context = &mask};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    client = rpc_stage_client(&stage, NULL);
    rpc_check_call(client, "mask", "", 0, "");
    cr_assert(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGCHLD) &&
              sigismember(&mask, SIGALRM));
    for (int i = 1; i < 32; i++)
        cr_assert_eq(sigismember(&before, i), sigismember(&after, i), "ours are as they were");
    close_both();
}

/* One connection with much in memory, and another that only asks now and then. */
static void *flood(void *context) {
    static struct rpc_outcome outcomes[64];
    (void)context;
    for (unsigned round = 0; round < VOUCH_TEST_ROUNDS(100, 20); round++) {
        for (int i = 0; i < 64; i++)
            rpc_call_async(client, "quick", "", NULL, &outcomes[i], NULL);
        rpc_wait_callbacks(client, 64);
    }
    return NULL;
}

Test(server_worker, a_flood_on_one_connection_leaves_room_for_others) {
    open_with(1, 1);
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    pthread_t flooder = support_thread_start(flood, NULL);
    for (unsigned i = 0; i < VOUCH_TEST_ROUNDS(100, 20); i++)
        rpc_check_call(other, "echo", "me too", 0, "me too");
    support_thread_join(flooder);
    vouch_client_free(other);
    close_both();
}

/* Timers fire while all that happens otherwise is waiting. */
Test(server_worker, deadlines_are_kept_while_everybody_sleeps) {
    open_with(2, 2);
    int fd = rpc_stage_raw(&stage);
    for (uint32_t i = 0; i < 20; i++)
        rpc_raw_send(fd, &(struct rpc_message){
                             .id = i + 1,
                             .expires = rpc_wall_in(VOUCH_MILLISECONDS(20 + 10 * (20 - i))),
                             .method = "keep"});
    for (uint32_t i = 20; i > 0; i--) {
        struct rpc_received reply;
        rpc_raw_expect(fd, &reply);
        cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_DEADLINE_EXCEEDED);
        rpc_received_free(&reply);
    }
    /* What arrived too late, on a busy machine, was not run. */
    uint64_t kept = rpc_stats(&stage).in_flight;
    rpc_latch_wait(&stage.entered, (unsigned)kept);
    for (uint64_t i = 0; i < kept; i++)
        cr_assert_eq(vouch_call_reply(stage.kept[i], "", 0), -ETIMEDOUT);
    close(fd);
    close_both();
}
