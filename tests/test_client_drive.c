/* SPDX-License-Identifier: MIT */
/* How a client's bytes move: who polls, who sleeps, and the client in a loop of the host's. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "tests/harness.h"
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
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- a foreign loop ---- */

/* One turn; what process said. `ret_ready` (may be NULL): whether the descriptor was, in time. */
static int turn(int64_t most, bool *ret_ready) {
    int fd = vouch_client_get_fd(client);
    cr_assert_geq(fd, 0);
    struct pollfd poller = {.fd = fd, .events = vouch_client_get_events(client)};
    int64_t timeout = vouch_client_get_timeout(client);
    int64_t wait = timeout < most ? timeout : most;
    int n = poll(&poller, 1, clock_poll_timeout(vouch_now(), vouch_deadline_in(wait)));
    if (ret_ready)
        *ret_ready = n == 1;
    return vouch_client_process(client);
}

static void loop_until_callbacks(unsigned count) {
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    for (unsigned run = 0; run < count;) {
        int r = turn(RPC_PATIENCE, NULL);
        cr_assert_geq(r, 0);
        cr_assert_lt(vouch_now(), give_up);
        run += (unsigned)r;
    }
}

Test(client_drive, asynchronous_calls_in_a_foreign_loop) {
    open_both();
    static struct rpc_outcome outcomes[100];
    int fd = vouch_client_get_fd(client);
    cr_assert_eq(vouch_client_get_timeout(client), VOUCH_FOREVER, "nothing to wait for");
    for (int i = 0; i < 100; i++)
        rpc_call_async(client, "echo", "in a loop", NULL, &outcomes[i], NULL);
    loop_until_callbacks(100);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(atomic_load(&outcomes[i].callbacks), 1);
        cr_assert_eq(outcomes[i].result, 0);
    }
    cr_assert_eq(vouch_client_get_fd(client), fd, "it stays the same");
    cr_assert_eq(vouch_client_process(client), 0);
    close_both();
}

Test(client_drive, the_timeout_is_that_of_the_next_deadline) {
    support_baseline_begin();
    int peer;
    client = rpc_raw_client(&peer, NULL);
    struct rpc_outcome outcome;
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_MILLISECONDS(30)};
    rpc_call_async(client, "keep", "", &options, &outcome, NULL);
    int64_t timeout = vouch_client_get_timeout(client);
    cr_assert_leq(timeout, VOUCH_MILLISECONDS(30));
    loop_until_callbacks(1);
    cr_assert_eq(outcome.result, -ETIMEDOUT);
    vouch_client_free(client);
    close(peer);
    support_baseline_end();
}

/* Larger than a socket takes: the loop must be told to wait for writing. */
Test(client_drive, a_foreign_loop_sends_what_did_not_fit) {
    open_both();
    static char data[2000000];
    struct rpc_outcome outcome = {0};
    cr_assert_eq(vouch_client_call_async(client, "echo", data, sizeof(data), NULL,
                                         rpc_outcome_callback, &outcome, NULL),
                 0);
    loop_until_callbacks(1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.size, sizeof(data));
    close_both();
}

Test(client_drive, process_says_that_the_connection_is_gone) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_outcome outcome;
    cr_assert_geq(vouch_client_get_fd(client), 0);
    rpc_call_async(client, "a", "", NULL, &outcome, NULL);
    close(fd);
    loop_until_callbacks(1);
    cr_assert_eq(outcome.result, -ECONNRESET);
    cr_assert_eq(vouch_client_get_timeout(client), 0, "the loop has only been told of the call");
    cr_assert_eq(vouch_client_process(client), -ECONNRESET);
    cr_assert_eq(vouch_client_get_timeout(client), VOUCH_FOREVER);
    vouch_client_free(client);
    support_baseline_end();
}

static void *call_blocking(void *context) {
    (void)context;
    for (unsigned i = 0; i < VOUCH_TEST_ROUNDS(500, 100); i++)
        rpc_check_call(client, "echo", "blocking", 0, "blocking");
    return NULL;
}

Test(client_drive, a_foreign_loop_and_blocking_calls_of_other_threads_mix) {
    rpc_need_loop_descriptor();
    open_both();
    static struct rpc_outcome outcomes[16];
    pthread_t threads[3];
    cr_assert_geq(vouch_client_get_fd(client), 0);
    for (int i = 0; i < 3; i++)
        threads[i] = support_thread_start(call_blocking, NULL);
    for (unsigned round = 0; round < VOUCH_TEST_ROUNDS(100, 20); round++) {
        for (int i = 0; i < 16; i++)
            rpc_call_async(client, "echo", "async", NULL, &outcomes[i], NULL);
        loop_until_callbacks(16);
        for (int i = 0; i < 16; i++)
            cr_assert_eq(outcomes[i].result, 0);
    }
    for (int i = 0; i < 3; i++)
        support_thread_join(threads[i]);
    close_both();
}

/* Whoever drove for his own call took the descriptor from the loop: it has to get it back. */
Test(client_drive, the_loop_gets_the_connection_back_from_a_blocking_call) {
    rpc_need_loop_descriptor();
    open_both();
    struct rpc_outcome outcome;
    struct rpc_caller caller;
    cr_assert_geq(vouch_client_get_fd(client), 0);
    rpc_caller_start(&caller, client, "keep", NULL);
    rpc_latch_wait(&stage.entered, 1);
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 2);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    cr_assert_eq(rpc_caller_join(&caller), 0);
    cr_assert_eq(vouch_call_reply(stage.kept[1], "", 0), 0);
    loop_until_callbacks(1);
    cr_assert_eq(outcome.result, 0);
    close_both();
}

/* ---- other threads, while the loop sleeps ---- */

static struct vouch_call_options other_options;
static struct rpc_outcome other_outcome;
static const char *other_method;

static void *call_from_another_thread(void *context) {
    (void)context;
    rpc_call_async(client, other_method, "", &other_options, &other_outcome, NULL);
    return NULL;
}

/* The loop waits for a long time already when another thread makes a call with a deadline. Nobody
 * answers: a server could refuse the call as too late on a busy machine. */
Test(client_drive, a_call_of_another_thread_wakes_a_loop_that_would_oversleep_it) {
    rpc_need_loop_descriptor();
    support_baseline_begin();
    int peer;
    client = rpc_raw_client(&peer, NULL);
    cr_assert_eq(turn(0, NULL), 0);
    cr_assert_eq(vouch_client_get_timeout(client), VOUCH_FOREVER);
    other_method = "keep";
    other_options = (struct vouch_call_options){VOUCH_OPTIONS(other_options),
                                                .timeout = VOUCH_MILLISECONDS(300)};
    support_thread_join(support_thread_start(call_from_another_thread, NULL));
    struct pollfd poller = {.fd = vouch_client_get_fd(client), .events = POLLIN};
    cr_assert_eq(poll(&poller, 1, 0), 1, "it was told at once");
    while (other_outcome.callbacks == 0)
        cr_assert_geq(turn(RPC_PATIENCE, NULL), 0);
    cr_assert_eq(other_outcome.result, -ETIMEDOUT);
    vouch_client_free(client);
    close(peer);
    support_baseline_end();
}

/* The loop watches a descriptor that is not the connection's any more. */
Test(client_drive, a_reconnect_by_another_thread_wakes_the_loop) {
    rpc_need_loop_descriptor();
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .reconnect = true,
                                           .reconnect_min = 1};
    cr_assert_eq(vouch_client_dial(stage.path, NULL, &options, &client, NULL), 0);
    cr_assert_eq(turn(0, NULL), 0);
    rpc_stage_close(&stage);
    bool ready = false;
    cr_assert_eq(turn(RPC_PATIENCE, &ready), 0, "with reconnect it goes on");
    cr_assert(ready);
    rpc_stage_open(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    while (turn(0, &ready) == 0 && ready)
        continue;
    other_method = "echo";
    other_options =
        (struct vouch_call_options){VOUCH_OPTIONS(other_options), .timeout = VOUCH_FOREVER};
    support_thread_join(support_thread_start(call_from_another_thread, NULL));
    loop_until_callbacks(1);
    cr_assert_eq(other_outcome.result, 0);
    close_both();
}

/* ---- who drives ---- */

/* The first caller polls for both; when his own reply is there the second has to go on. */
Test(client_drive, a_driver_hands_over_when_his_own_call_has_ended) {
    open_both();
    struct rpc_caller callers[2];
    int64_t begun = vouch_now();
    for (unsigned i = 0; i < 2; i++) {
        rpc_caller_start(&callers[i], client, "keep", NULL);
        rpc_latch_wait(&stage.entered, i + 1);
    }
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    cr_assert_eq(rpc_caller_join(&callers[0]), 0);
    cr_assert_eq(vouch_call_reply(stage.kept[1], "", 0), 0);
    cr_assert_eq(rpc_caller_join(&callers[1]), 0);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

Test(client_drive, a_sleepers_deadline_counts_though_another_drives) {
    support_baseline_begin();
    int peer;
    client = rpc_raw_client(&peer, NULL);
    struct rpc_caller driver, sleeper;
    struct rpc_received request;
    int64_t begun = vouch_now();
    struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_MILLISECONDS(20)};
    rpc_caller_start(&driver, client, "a", NULL);
    rpc_raw_expect(peer, &request);
    rpc_caller_start(&sleeper, client, "b", &brief);
    cr_assert_eq(rpc_caller_join(&sleeper), -ETIMEDOUT);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_raw_send(peer, &(struct rpc_message){.id = request.envelope.id});
    cr_assert_eq(rpc_caller_join(&driver), 0);
    rpc_received_free(&request);
    vouch_client_free(client);
    close(peer);
    support_baseline_end();
}

/* A small call of one thread, while another waits for the socket to take a large one. */
Test(client_drive, a_large_request_goes_out_while_others_wait) {
    open_both();
    struct rpc_caller callers[8];
    static char data[3000000];
    for (int i = 0; i < 8; i++)
        rpc_caller_start(&callers[i], client, "echo", NULL);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(vouch_client_call(client, "echo", data, sizeof(data), NULL, NULL, NULL), 0);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(rpc_caller_join(&callers[i]), 0);
    close_both();
}

/* ---- vouch_client_wait ---- */

Test(client_drive, wait_answers_0_when_nothing_is_left_and_stops_at_its_deadline) {
    open_both();
    struct rpc_outcome outcome;
    cr_assert_eq(vouch_client_wait(client, VOUCH_FOREVER), 0);
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(VOUCH_MILLISECONDS(20))), -ETIMEDOUT);
    cr_assert_eq(atomic_load(&outcome.callbacks), 0);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_eq(outcome.result, 0);
    close_both();
}

static void *wait_for_one(void *context) {
    (void)context;
    return (void *)(intptr_t)vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE));
}

/* The blocking caller reads the asynchronous reply too, and has to wake who waits for it. */
Test(client_drive, who_waits_for_callbacks_is_woken_by_whoever_drives) {
    open_both();
    struct rpc_caller driver;
    struct rpc_outcome outcome;
    rpc_caller_start(&driver, client, "keep", NULL);
    rpc_latch_wait(&stage.entered, 1);
    rpc_call_async(client, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 2);
    pthread_t waiter = support_thread_start(wait_for_one, NULL);
    cr_assert_eq(vouch_call_reply(stage.kept[1], "", 0), 0);
    cr_assert_eq((intptr_t)support_thread_join(waiter), 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    cr_assert_eq(rpc_caller_join(&driver), 0);
    close_both();
}

Test(client_drive, a_cancel_wakes_who_waits_for_callbacks) {
    open_both();
    struct rpc_outcome outcome;
    uint64_t id;
    rpc_call_async(client, "keep", "", NULL, &outcome, &id);
    pthread_t waiter = support_thread_start(wait_for_one, NULL);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    cr_assert_eq((intptr_t)support_thread_join(waiter), 1);
    cr_assert_eq(outcome.result, -ECANCELED);
    (void)vouch_call_reply(stage.kept[0], "", 0);
    close_both();
}

Test(client_drive, asynchronous_calls_end_while_another_thread_only_calls) {
    open_both();
    struct rpc_outcome outcome;
    rpc_call_async(client, "echo", "", NULL, &outcome, NULL);
    rpc_check_call(client, "echo", "", 0, "");
    RPC_EVENTUALLY(vouch_client_process(client) == 1);
    cr_assert_eq(outcome.result, 0);
    close_both();
}

/* ---- half a message ---- */

Test(client_drive, half_a_reply_ends_the_connection_at_the_frame_timeout) {
    support_baseline_begin();
    int fd;
    struct vouch_client_options options = {VOUCH_OPTIONS(options),
                                           .frame_timeout = VOUCH_MILLISECONDS(20)};
    client = rpc_raw_client(&fd, &options);
    struct rpc_outcome outcome;
    int64_t begun = vouch_now();
    rpc_call_async(client, "a", "", NULL, &outcome, NULL);
    cr_assert(rpc_raw_write(fd, "\x20half", 5));
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, -ETIMEDOUT);
    rpc_check_call(client, "a", "", -ETIMEDOUT, NULL);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

/* Half a reply lies there while nobody calls: that it is late is our own doing. */
Test(client_drive, half_a_reply_keeps_while_nobody_reads) {
    support_baseline_begin();
    int fd;
    struct vouch_client_options options = {VOUCH_OPTIONS(options),
                                           .frame_timeout = VOUCH_MILLISECONDS(2000)};
    client = rpc_raw_client(&fd, &options);
    uint8_t replies[2 * RPC_MESSAGE_ROOM];
    size_t size = rpc_encode(&(struct rpc_message){.id = 1, .data = "late", .size = 4}, replies,
                             RPC_MESSAGE_ROOM);
    size += rpc_encode(&(struct rpc_message){.id = 2, .data = "reply", .size = 5}, replies + size,
                       RPC_MESSAGE_ROOM);
    cr_assert(rpc_raw_write(fd, replies, 3));
    struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_MILLISECONDS(5)};
    rpc_check_call_options(client, "a", "", &brief, -ETIMEDOUT);
    cr_assert(rpc_raw_write(fd, replies + 3, size - 3));
    int64_t later = vouch_deadline_in(VOUCH_MILLISECONDS(2010));
    RPC_EVENTUALLY(vouch_now() > later);
    rpc_check_call(client, "a", "", 0, "reply");
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

Test(client_drive, a_server_that_takes_nothing_is_given_up_at_the_stall_timeout) {
    support_baseline_begin();
    int fd;
    struct vouch_client_options options = {
        VOUCH_OPTIONS(options), .stall_timeout = VOUCH_MILLISECONDS(20), .send_buffer_max = 1};
    client = rpc_raw_client(&fd, &options);
    static char data[2000000];
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_client_call(client, "a", data, sizeof(data), NULL, NULL, NULL), -ETIMEDOUT);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_check_call(client, "a", "", -ETIMEDOUT, NULL);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

Test(client_drive, a_dead_connection_that_was_stalled_keeps_no_loop_awake) {
    support_baseline_begin();
    int fd;
    struct vouch_client_options options = {
        VOUCH_OPTIONS(options), .stall_timeout = VOUCH_MILLISECONDS(1), .send_buffer_max = 1};
    client = rpc_raw_client(&fd, &options);
    static char data[2000000];
    struct rpc_outcome outcome = {0};
    cr_assert_eq(vouch_client_call_async(client, "a", data, sizeof(data), NULL,
                                         rpc_outcome_callback, &outcome, NULL),
                 0);
    close(fd);
    while (outcome.callbacks == 0)
        (void)turn(RPC_PATIENCE, NULL);
    cr_assert_lt(vouch_client_process(client), 0, "why it is gone");
    int64_t later = vouch_deadline_in(VOUCH_MILLISECONDS(2));
    RPC_EVENTUALLY(vouch_now() > later);
    cr_assert_eq(vouch_client_get_timeout(client), VOUCH_FOREVER);
    vouch_client_free(client);
    support_baseline_end();
}

/* ---- polling, and sleeping in recv ---- */

static void open_polling(enum vouch_polling polling) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .polling = polling};
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    client = rpc_stage_client(&stage, &options);
}

static struct vouch_polling_stats polling_stats(void) {
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    return stats.polling;
}

Test(client_drive, how_replies_were_waited_for_is_counted) {
    open_polling(VOUCH_POLLING_OFF);
    for (int i = 0; i < 10; i++)
        rpc_check_call(client, "quick", "", 0, "");
    struct vouch_polling_stats stats = polling_stats();
    cr_assert_eq(stats.paid, 0);
    cr_assert_eq(stats.unpaid, 0);
    cr_assert_geq(stats.sleeps, 10);
    close_both();

    open_polling(VOUCH_POLLING_ALWAYS);
    for (int i = 0; i < 10; i++)
        rpc_check_call(client, "quick", "", 0, "");
    stats = polling_stats();
    cr_assert_geq(stats.paid + stats.unpaid, 10);
    cr_assert_eq(stats.sleeps, 0);
    close_both();
}

struct many {
    pthread_t thread;
    unsigned rounds, ended;
};

static void *call_many(void *context) {
    struct many *many = context;
    for (unsigned i = 0; i < many->rounds; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", i);
        rpc_check_call(client, i % 2 ? "echo" : "quick", text, 0, text);
        many->ended++;
    }
    return NULL;
}

static void check_threads(unsigned count, unsigned rounds, enum vouch_polling polling) {
    struct many many[16] = {{.rounds = 0}};
    open_polling(polling);
    for (unsigned i = 0; i < count; i++) {
        many[i].rounds = rounds + i; /* so that they do not stop together */
        many[i].thread = support_thread_start(call_many, &many[i]);
    }
    uint64_t calls = 0;
    for (unsigned i = 0; i < count; i++) {
        support_thread_join(many[i].thread);
        cr_assert_eq(many[i].ended, many[i].rounds);
        calls += many[i].rounds;
    }
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.calls, calls);
    cr_assert_eq(stats.replies, calls);
    cr_assert_eq(stats.in_flight, 0);
    close_both();
}

Test(client_drive, calls_of_eight_threads_all_end_however_they_wait) {
    const unsigned rounds = VOUCH_TEST_ROUNDS(2000, 150);
    check_threads(8, rounds, VOUCH_POLLING_ADAPTIVE);
    check_threads(8, rounds, VOUCH_POLLING_OFF);
    check_threads(8, rounds, VOUCH_POLLING_ALWAYS);
}

Test(client_drive, statistics_may_be_asked_for_while_others_wait) {
    struct many many[2] = {{.rounds = VOUCH_TEST_ROUNDS(2000, 200)}, {.rounds = 200}};
    struct vouch_client_stats stats;
    open_polling(VOUCH_POLLING_ALWAYS);
    for (int i = 0; i < 2; i++)
        many[i].thread = support_thread_start(call_many, &many[i]);
    RPC_EVENTUALLY(
        (vouch_client_get_stats(client, &stats), stats.polling.paid > 0 && stats.replies >= 200));
    for (int i = 0; i < 2; i++)
        support_thread_join(many[i].thread);
    close_both();
}

/* Who has ended may have been told to drive in the same moment: somebody else has to. */
Test(client_drive, calls_of_sixteen_threads_that_come_and_go_all_end) {
    for (unsigned round = 0; round < VOUCH_TEST_ROUNDS(60, 8); round++)
        check_threads(16, 10, round % 2 ? VOUCH_POLLING_OFF : VOUCH_POLLING_ADAPTIVE);
}

/* A blocking call that is known to sleep in recv again and again. */
static void start_napping(struct rpc_caller *caller) {
    static const struct vouch_call_options forever = {VOUCH_OPTIONS(forever),
                                                      .timeout = VOUCH_FOREVER};
    open_polling(VOUCH_POLLING_OFF);
    unsigned entered = stage.entered.count;
    rpc_caller_start(caller, client, "keep", &forever);
    rpc_latch_wait(&stage.entered, entered + 1);
}

static void end_napping(struct rpc_caller *caller) {
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    cr_assert_eq(rpc_caller_join(caller), 0);
    close_both();
}

Test(client_drive, a_nap_does_not_hold_up_the_deadline_of_an_asynchronous_call) {
    struct rpc_caller caller;
    struct rpc_outcome outcome;
    const struct vouch_call_options brief = {VOUCH_OPTIONS(brief),
                                             .timeout = VOUCH_MILLISECONDS(5)};
    start_napping(&caller);
    int64_t begun = vouch_now();
    rpc_call_async(client, "block", "", &brief, &outcome, NULL);
    rpc_wait_callbacks(client, 1);
    cr_assert(rpc_timed_out(outcome.result), "%d", outcome.result);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_latch_raise(&stage.go);
    end_napping(&caller);
}

/* Nobody waits for callbacks but the napping one, who lets the call expire. */
Test(client_drive, an_asynchronous_call_ends_though_only_a_napping_thread_drives) {
    struct rpc_caller caller;
    struct rpc_outcome outcome;
    const struct vouch_call_options brief = {VOUCH_OPTIONS(brief),
                                             .timeout = VOUCH_MILLISECONDS(5)};
    start_napping(&caller);
    rpc_call_async(client, "block", "", &brief, &outcome, NULL);
    struct vouch_client_stats stats;
    RPC_EVENTUALLY((vouch_client_get_stats(client, &stats), stats.in_flight == 1));
    cr_assert_eq(vouch_client_process(client), 1);
    cr_assert(rpc_timed_out(outcome.result), "%d", outcome.result);
    rpc_latch_raise(&stage.go);
    end_napping(&caller);
}

Test(client_drive, a_nap_does_not_hold_up_a_close) {
    struct rpc_caller caller;
    start_napping(&caller);
    int64_t begun = vouch_now();
    vouch_client_close(client);
    cr_assert_eq(rpc_caller_join(&caller), -ESHUTDOWN);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    (void)vouch_call_reply(stage.kept[0], "", 0);
    close_both();
}

/* More than the socket takes, from a thread that does not drive, while the driver can't be woken.
 */
Test(client_drive, a_nap_does_not_hold_up_a_large_request) {
    static uint8_t data[3000000];
    struct rpc_caller caller;
    start_napping(&caller);
    int64_t begun = vouch_now();
    for (int i = 0; i < 5; i++) {
        struct vouch_reply reply;
        cr_assert_eq(vouch_client_call(client, "echo", data, sizeof(data), NULL, &reply, NULL), 0);
        cr_assert_eq(reply.size, sizeof(data));
        vouch_reply_release(&reply);
    }
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    end_napping(&caller);
}

/* The same without a larger buffer, and asynchronous: the driver has to send it. */
Test(client_drive, a_nap_does_not_hold_up_a_large_asynchronous_request) {
    static uint8_t data[3000000];
    struct rpc_caller caller;
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .polling = VOUCH_POLLING_OFF,
                                           .send_buffer_max = 1};
    struct rpc_outcome outcome = {0};
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    client = rpc_stage_client(&stage, &options);
    rpc_caller_start(&caller, client, "keep", NULL);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_client_call_async(client, "echo", data, sizeof(data), NULL,
                                         rpc_outcome_callback, &outcome, NULL),
                 0);
    RPC_EVENTUALLY((vouch_client_process(client), atomic_load(&outcome.callbacks) == 1));
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.size, sizeof(data));
    end_napping(&caller);
}

static void *call_large(void *context) {
    static uint8_t data[1000000];
    (void)context;
    for (unsigned i = 0; i < VOUCH_TEST_ROUNDS(20, 5); i++)
        cr_assert_eq(vouch_client_call(client, "echo", data, sizeof(data), NULL, NULL, NULL), 0);
    return NULL;
}

Test(client_drive, large_and_small_requests_of_many_threads_pass_a_nap) {
    struct rpc_caller caller;
    struct many many[4] = {{.rounds = 0}};
    pthread_t large[4];
    start_napping(&caller);
    for (int i = 0; i < 4; i++) {
        many[i].rounds = VOUCH_TEST_ROUNDS(500, 50);
        large[i] = support_thread_start(call_large, NULL);
        many[i].thread = support_thread_start(call_many, &many[i]);
    }
    for (int i = 0; i < 4; i++) {
        support_thread_join(large[i]);
        support_thread_join(many[i].thread);
        cr_assert_eq(many[i].ended, many[i].rounds);
    }
    end_napping(&caller);
}
