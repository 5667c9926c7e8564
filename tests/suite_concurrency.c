/* SPDX-License-Identifier: MIT */
/* Many at once: handlers that block, and ends at random points. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;

/* ---- handlers that block ---- */

#define WORKERS_MAX 8
#define CALLS VOUCH_TEST_ROUNDS(1000, 200)

static void *call_many(void *context) {
    for (int i = 0; i < CALLS; i++)
        rpc_check_call(context, i % 2 ? "echo" : "quick", "not delayed", 0, "not delayed");
    return NULL;
}

/* All but one of the workers sleep in handlers; what else comes, on the same connection and on
 * others, is dealt with all the same. */
Test(concurrency, a_handler_that_sleeps_delays_no_other_call) {
    support_baseline_begin();
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = 2,
                                           .workers_max = WORKERS_MAX};
    rpc_stage_open(&stage, &options);
    struct vouch_client *same = rpc_stage_client(&stage, NULL);
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    struct vouch_call_options patient = {VOUCH_OPTIONS(patient), .timeout = VOUCH_FOREVER};
    static struct rpc_outcome outcomes[WORKERS_MAX - 1];
    for (unsigned i = 0; i < WORKERS_MAX - 1; i++) {
        rpc_call_async(same, "block", "", &patient, &outcomes[i], NULL);
        rpc_latch_wait(&stage.entered, i + 1);
    }
    pthread_t threads[2] = {support_thread_start(call_many, same),
                            support_thread_start(call_many, other)};
    support_thread_join(threads[0]);
    support_thread_join(threads[1]);
    for (int i = 0; i < WORKERS_MAX - 1; i++)
        cr_assert_eq(atomic_load(&outcomes[i].callbacks), 0);
    rpc_latch_raise(&stage.go);
    rpc_wait_callbacks(same, WORKERS_MAX - 1);
    vouch_client_free(same);
    vouch_client_free(other);
    rpc_stage_close(&stage);
    support_baseline_end();
}

static void *call_large(void *context) {
    for (int i = 0; i < VOUCH_TEST_ROUNDS(20, 4); i++) {
        struct vouch_reply reply;
        int r = vouch_client_call(context, "size", "1000000", 7, NULL, &reply, NULL);
        cr_assert_eq(r, 0, "%d", r);
        cr_assert_eq(reply.size, 1000000);
        vouch_reply_release(&reply);
    }
    return NULL;
}

/* Handlers that answer at the same time do not see each other: together they go over output_hard,
 * and a client that reads is none the worse for it. */
Test(concurrency, many_large_replies_on_one_connection) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    struct vouch_client *client = rpc_stage_client(&stage, NULL);
    pthread_t threads[16];
    for (int i = 0; i < 16; i++)
        threads[i] = support_thread_start(call_large, client);
    for (int i = 0; i < 16; i++)
        support_thread_join(threads[i]);
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

static void *call_with_much(void *context) {
    static uint8_t data[1000000];
    for (int i = 0; i < 10; i++) {
        struct vouch_reply reply;
        int r = vouch_client_call(context, "echo", data, sizeof(data), NULL, &reply, NULL);
        cr_assert_eq(r, 0, "%d", r);
        cr_assert_eq(reply.size, sizeof(data));
        vouch_reply_release(&reply);
    }
    return NULL;
}

/* More than may wait to be sent: callers wait for each other. */
Test(concurrency, many_large_requests_on_one_connection) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .output_max = 1500000};
    struct vouch_client *client = rpc_stage_client(&stage, &options);
    pthread_t threads[16];
    for (int i = 0; i < 16; i++)
        threads[i] = support_thread_start(call_with_much, client);
    for (int i = 0; i < 16; i++)
        support_thread_join(threads[i]);
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- ends at random points ---- */

#define ROUNDS VOUCH_TEST_ROUNDS(3000, 150)
#define CALLERS 3
#define ASYNC_CALLS 8

struct round {
    struct vouch_client *client;
    uint64_t seed;
    struct rpc_outcome outcomes[ASYNC_CALLS];
    unsigned begun; /* asynchronous calls that were accepted */
    atomic_bool go;
};

static const char *const methods[] = {"echo", "quick", "wait", "none"};

static bool is_one_of_the_ends(int r) {
    return r == 0 || r == VOUCH_REMOTE_METHOD_NOT_FOUND || r == VOUCH_REMOTE_DEADLINE_EXCEEDED ||
           r == VOUCH_REMOTE_CANCELLED || r == VOUCH_REMOTE_UNAVAILABLE || r == -ECANCELED ||
           r == -ESHUTDOWN || r == -ECONNRESET || r == -ETIMEDOUT;
}

static void *call_at_random(void *context) {
    struct round *round = context;
    struct support_random random = {round->seed};
    while (!atomic_load(&round->go))
        sched_yield();
    for (unsigned i = 0; i < 4; i++) {
        struct vouch_call_options options = {VOUCH_OPTIONS(options),
                                             .tag = 1 + support_random_below(&random, 3),
                                             .timeout = VOUCH_MILLISECONDS(2)};
        const char *method = methods[support_random_below(&random, 4)];
        int r = vouch_client_call(round->client, method, "hi", 2, &options, NULL, NULL);
        cr_assert(is_one_of_the_ends(r), "%s: %d", method, r);
    }
    return NULL;
}

static void *cancel_at_random(void *context) {
    struct round *round = context;
    struct support_random random = {round->seed + 1};
    uint64_t ids[ASYNC_CALLS];
    while (!atomic_load(&round->go))
        sched_yield();
    for (unsigned i = 0; i < ASYNC_CALLS; i++) {
        const char *method = methods[support_random_below(&random, 4)];
        struct rpc_outcome *outcome = &round->outcomes[round->begun];
        if (vouch_client_call_async(round->client, method, "", 0, NULL, rpc_outcome_callback,
                                    outcome, &ids[round->begun]) == 0)
            round->begun++;
        (void)vouch_client_cancel(round->client, 1 + support_random_below(&random, 3));
        if (round->begun > 0)
            (void)vouch_client_cancel_id(round->client,
                                         ids[support_random_below(&random, round->begun)]);
    }
    return NULL;
}

static void pause_at_random(struct support_random *random) {
    for (uint64_t i = support_random_below(random, 40); i > 0; i--)
        sched_yield();
}

/* One client with callers, cancels and a loop, closed in the middle of it. Every call ends once. */
static void play_round(struct round *round, struct support_random *random, bool foreign_loop) {
    pthread_t threads[CALLERS + 1];
    memset(round, 0, sizeof(*round));
    round->client = rpc_stage_client(&stage, NULL);
    round->seed = support_random_next(random);
    if (foreign_loop)
        cr_assert_geq(vouch_client_get_fd(round->client), 0);
    for (int i = 0; i < CALLERS; i++)
        threads[i] = support_thread_start(call_at_random, round);
    threads[CALLERS] = support_thread_start(cancel_at_random, round);
    atomic_store(&round->go, true);
    for (uint64_t i = support_random_below(random, 10); i > 0; i--) {
        pause_at_random(random);
        if (foreign_loop)
            (void)vouch_client_process(round->client);
        else
            (void)vouch_client_wait(round->client, vouch_deadline_in(VOUCH_MILLISECONDS(1)));
    }
    if (support_random_below(random, 4) > 0)
        vouch_client_close(round->client);
    for (int i = 0; i <= CALLERS; i++)
        support_thread_join(threads[i]);
    vouch_client_free(round->client);
    for (unsigned i = 0; i < ASYNC_CALLS; i++)
        cr_assert_eq(atomic_load(&round->outcomes[i].callbacks), i < round->begun ? 1 : 0);
}

static void play_rounds(bool foreign_loop) {
    static struct round round;
    struct support_random random;
    support_random_init(&random);
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    for (int i = 0; i < ROUNDS; i++)
        play_round(&round, &random, foreign_loop);
    rpc_stage_close(&stage);
    support_baseline_end();
}

Test(concurrency, clients_are_closed_at_random_points, .timeout = 300) {
    play_rounds(false);
}

Test(concurrency, clients_in_a_loop_are_closed_at_random_points, .timeout = 300) {
    rpc_need_loop_descriptor();
    play_rounds(true);
}

/* The server's end at a random point: stopped at once, with a drain, or just freed. */
static void end_server(struct support_random *random) {
    switch (support_random_below(random, 3)) {
    case 0:
        (void)vouch_server_stop(stage.server, 0);
        break;
    case 1:
        (void)vouch_server_stop(stage.server, VOUCH_MILLISECONDS(2));
        break;
    default:
        break;
    }
    rpc_stage_close(&stage);
}

Test(concurrency, servers_are_stopped_at_random_points, .timeout = 300) {
    static struct round round;
    struct support_random random;
    support_random_init(&random);
    support_baseline_begin();
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t threads[CALLERS];
        rpc_stage_open(&stage, NULL);
        memset(&round, 0, sizeof(round));
        round.client = rpc_stage_client(&stage, NULL);
        round.seed = support_random_next(&random);
        for (int j = 0; j < CALLERS; j++)
            threads[j] = support_thread_start(call_at_random, &round);
        atomic_store(&round.go, true);
        pause_at_random(&random);
        end_server(&random);
        for (int j = 0; j < CALLERS; j++)
            support_thread_join(threads[j]);
        vouch_client_free(round.client);
    }
    support_baseline_end();
}

/* ---- connections that end while their kept calls are answered ---- */

static void *answer_kept(void *context) {
    unsigned count = (unsigned)(uintptr_t)context;
    for (unsigned i = 0; i < count; i++) {
        int r = vouch_call_reply(stage.kept[i], "x", 1);
        cr_assert(r == 0 || r == -ECONNRESET || r == -ETIMEDOUT, "%d", r);
    }
    return NULL;
}

Test(concurrency, kept_calls_are_answered_while_their_connection_ends, .timeout = 300) {
    struct support_random random;
    support_random_init(&random);
    support_baseline_begin();
    for (int i = 0; i < ROUNDS; i++) {
        static struct rpc_outcome outcomes[16];
        rpc_stage_open(&stage, NULL);
        struct vouch_client *client = rpc_stage_client(&stage, NULL);
        for (int j = 0; j < 16; j++)
            rpc_call_async(client, "keep", "", NULL, &outcomes[j], NULL);
        rpc_latch_wait(&stage.entered, 16);
        pthread_t answerer = support_thread_start(answer_kept, (void *)(uintptr_t)16);
        pause_at_random(&random);
        if (i % 2)
            vouch_client_close(client);
        else
            (void)vouch_server_stop(stage.server, 0);
        support_thread_join(answerer);
        vouch_client_free(client);
        rpc_stage_close(&stage);
        for (int j = 0; j < 16; j++)
            cr_assert_eq(atomic_load(&outcomes[j].callbacks), 1);
    }
    support_baseline_end();
}
