/* SPDX-License-Identifier: MIT */
/* How calls begin and end: results, limits, deadlines, cancelling, interceptors. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vouch/chunk.h>

#include "lib/clock.h"
#include "rpc/session.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static struct vouch_client *client;

static void open_with(const struct vouch_server_options *server,
                      const struct vouch_client_options *options) {
    support_baseline_begin();
    rpc_stage_open(&stage, server);
    client = rpc_stage_client(&stage, options);
}

static void open_both(void) {
    open_with(NULL, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- what a call gives back ---- */

Test(client_call, bodies_of_all_sizes_come_back_as_they_were) {
    open_both();
    static const size_t sizes[] = {0,   1,    2,     127,   128,    511,
                                   512, 1024, 65535, 65536, 300000, 1 << 20};
    struct support_random random;
    support_random_init(&random);
    uint8_t *data = malloc(1 << 20);
    cr_assert_not_null(data);
    support_random_fill(&random, data, 1 << 20);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct vouch_reply reply;
        cr_assert_eq(vouch_client_call(client, "echo", data, sizes[i], NULL, &reply, NULL), 0);
        cr_assert_eq(reply.size, sizes[i]);
        cr_assert_not_null(reply.data);
        if (sizes[i] > 0)
            cr_assert_eq(memcmp(reply.data, data, sizes[i]), 0);
        vouch_reply_release(&reply);
        cr_assert_eq(reply.size, 0);
        vouch_reply_release(&reply);
    }
    free(data);
    close_both();
}

Test(client_call, data_reply_and_error_may_be_left_out) {
    open_both();
    cr_assert_eq(vouch_client_call(client, "echo", NULL, 0, NULL, NULL, NULL), 0);
    cr_assert_eq(vouch_client_call(client, "none", NULL, 0, NULL, NULL, NULL),
                 VOUCH_REMOTE_METHOD_NOT_FOUND);
    close_both();
}

Test(client_call, a_request_can_be_built_in_place) {
    open_both();
    struct vouch_buffer *request;
    struct vouch_reply reply;
    cr_assert_eq(vouch_client_get_buffer(client, 5, &request), 0);
    memcpy(request->data, "hello", 5);
    request->size = 5;
    cr_assert_eq(vouch_client_call_buffer(client, "echo", request, NULL, &reply, NULL), 0);
    cr_assert_eq(reply.size, 5);
    cr_assert_eq(memcmp(reply.data, "hello", 5), 0);
    vouch_reply_release(&reply);
    cr_assert_eq(vouch_client_get_buffer(client, VOUCH_CHUNK_SIZE_BOUND + 1, &request), -EMSGSIZE);
    close_both();
}

Test(client_call, a_reply_outlives_its_client) {
    open_both();
    struct vouch_reply reply;
    cr_assert_eq(vouch_client_call(client, "echo", "still here", 10, NULL, &reply, NULL), 0);
    vouch_client_free(client);
    client = NULL;
    cr_assert_eq(memcmp(reply.data, "still here", 10), 0);
    vouch_reply_release(&reply);
    close_both();
}

Test(client_call, the_reply_is_cleared_on_failure) {
    open_both();
    struct vouch_reply reply = {(const uint8_t *)"x", 1, NULL};
    struct vouch_error error;
    int r = vouch_client_call(client, "result", "3", 1, NULL, &reply, &error);
    cr_assert_eq(r, VOUCH_REMOTE_BAD_DATA);
    cr_assert_null(reply.data);
    cr_assert_null(reply.buffer);
    cr_assert_eq(reply.size, 0);
    cr_assert_eq(error.code, r);
    cr_assert_str_eq(error.message, vouch_strerror(VOUCH_REMOTE_BAD_DATA));
    close_both();
}

Test(client_call, arguments_that_are_wrong_are_refused) {
    open_both();
    cr_assert_eq(vouch_client_call_buffer(client, "echo", NULL, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(vouch_client_call_async_buffer(client, "echo", NULL, NULL, rpc_outcome_callback,
                                                NULL, NULL),
                 -EINVAL);
    cr_assert_eq(vouch_client_call_async(client, "echo", "", 0, NULL, NULL, NULL, NULL), -EINVAL);
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = -1};
    rpc_check_call_options(client, "echo", "", &options, -EINVAL);
    close_both();
}

/* ---- names ---- */

Test(client_call, names_at_the_limit_and_one_past) {
    open_both();
    char name[258];
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    rpc_check_call(client, name, "", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    name[255] = 'n';
    name[256] = '\0';
    rpc_check_call(client, name, "", VOUCH_E_METHOD_NAME, NULL);
    rpc_check_call(client, "", "", VOUCH_E_METHOD_NAME, NULL);
    rpc_check_call(client, "\xff", "", VOUCH_E_METHOD_NAME, NULL);
    struct rpc_outcome outcome = {0};
    cr_assert_eq(
        vouch_client_call_async(client, name, "", 0, NULL, rpc_outcome_callback, &outcome, NULL),
        VOUCH_E_METHOD_NAME);
    cr_assert_eq(atomic_load(&outcome.callbacks), 0);
    close_both();
}

/* ---- sizes ---- */

/* The largest body of an "echo" whose message has `max` bytes. */
static size_t largest_body(size_t max) {
    struct envelope e = {
        .id = UINT32_MAX, .expires = INT64_MAX, .method = "echo", .method_size = 4};
    size_t body = max;
    while (envelope_size(&e, body) > max)
        body--;
    return body;
}

Test(client_call, a_request_at_the_maximum_and_one_past) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .max_request = 1000};
    open_with(NULL, &options);
    rpc_check_call(client, "echo", "first, so that features need no room", 0, NULL);
    char data[1002] = "";
    size_t most = largest_body(1000);
    cr_assert_eq(vouch_client_call(client, "echo", data, most, NULL, NULL, NULL), 0);
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "echo", data, most + 1, NULL, NULL, &error), -EMSGSIZE);
    cr_assert_not_null(strstr(error.message, "1001"), "%s", error.message);
    cr_assert_not_null(strstr(error.message, "1000"), "%s", error.message);
    cr_assert_eq(vouch_client_call(client, "echo", data, 1001, NULL, NULL, &error), -EMSGSIZE);
    cr_assert_not_null(strstr(error.message, "1001"), "%s", error.message);
    rpc_check_call(client, "echo", "fine", 0, "fine");
    close_both();
}

Test(client_call, the_servers_maximum_is_known_after_its_hello) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_request = 1000};
    open_with(&options, NULL);
    rpc_check_call(client, "echo", "hi", 0, "hi");
    char data[1001] = "";
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "echo", data, 1001, NULL, NULL, &error), -EMSGSIZE,
                 "not even sent");
    cr_assert_eq(rpc_stats(&stage).calls, 1);
    close_both();
}

/* A plain server does not know our maximum. */
Test(client_call, a_reply_over_the_maximum_is_skipped_and_the_connection_lives) {
    support_baseline_begin();
    int fd;
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .max_reply = 1000};
    client = rpc_raw_client(&fd, &options);
    struct rpc_caller caller;
    struct rpc_received call;
    static char data[100000];
    rpc_caller_start(&caller, client, "any", NULL);
    rpc_raw_expect(fd, &call);
    rpc_raw_send(fd,
                 &(struct rpc_message){.id = call.envelope.id, .data = data, .size = sizeof(data)});
    rpc_received_free(&call);
    cr_assert_eq(rpc_caller_join(&caller), -EMSGSIZE);
    cr_assert_not_null(strstr(caller.error.message, "1000"), "%s", caller.error.message);
    cr_assert_not_null(strstr(caller.error.message, "10000"), "%s", caller.error.message);

    rpc_caller_start(&caller, client, "any", NULL);
    rpc_raw_expect(fd, &call);
    rpc_raw_send(fd, &(struct rpc_message){.id = call.envelope.id, .data = "ok", .size = 2});
    rpc_received_free(&call);
    cr_assert_eq(rpc_caller_join(&caller), 0);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

/* ---- deadlines ---- */

Test(client_call, a_timeout_ends_a_call_that_nobody_answers) {
    support_baseline_begin();
    int fd;
    struct rpc_outcome outcome;
    client = rpc_raw_client(&fd, NULL);
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_MILLISECONDS(20)};
    const char *text = rpc_check_call_options(client, "block", "", &options, -ETIMEDOUT);
    cr_assert_str_eq(text, "block: no reply within 20 ms");
    options = (struct vouch_call_options){VOUCH_OPTIONS(options),
                                          .deadline = vouch_deadline_in(VOUCH_MILLISECONDS(20)),
                                          .timeout = VOUCH_FOREVER};
    rpc_check_call_options(client, "block", "", &options, -ETIMEDOUT);
    rpc_call_async(client, "echo", "", NULL, &outcome, NULL);
    rpc_raw_send(fd, &(struct rpc_message){.id = 3, .data = "alive", .size = 5});
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

Test(client_call, a_deadline_that_has_passed_is_not_tried) {
    open_both();
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .deadline = vouch_now() - 1};
    rpc_check_call_options(client, "echo", "", &options, -ETIMEDOUT);
    rpc_check_call(client, "echo", "", 0, "");
    cr_assert_eq(rpc_stats(&stage).calls, 1);
    close_both();
}

Test(client_call, forever_travels_as_no_deadline) {
    open_both();
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_FOREVER};
    struct rpc_outcome outcome;
    rpc_call_async(client, "keep", "", &options, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_call_get_deadline(stage.kept[0]), VOUCH_FOREVER);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    rpc_wait_callbacks(client, 1);
    close_both();
}

static int note_deadline(void *context, const struct vouch_call_info *info) {
    *(int64_t *)context = info->deadline;
    return 0;
}

static int64_t deadline_noted_with(int64_t call_timeout) {
    int64_t deadline = 0;
    struct vouch_client_interceptor interceptor = {note_deadline, NULL, &deadline};
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .call_timeout = call_timeout,
                                           .interceptors = &interceptor, .interceptor_count = 1};
    open_with(NULL, &options);
    rpc_check_call(client, "echo", "", 0, "");
    close_both();
    return deadline;
}

Test(client_call, without_a_word_a_call_has_30_seconds) {
    int64_t before = vouch_now();
    int64_t deadline = deadline_noted_with(0);
    cr_assert_geq(deadline, before + VOUCH_SECONDS(30));
    cr_assert_leq(deadline, vouch_now() + VOUCH_SECONDS(30));
}

Test(client_call, the_clients_timeout_is_that_of_its_calls) {
    int64_t before = vouch_now();
    int64_t deadline = deadline_noted_with(VOUCH_SECONDS(7));
    cr_assert_geq(deadline, before + VOUCH_SECONDS(7));
    cr_assert_leq(deadline, vouch_now() + VOUCH_SECONDS(7));
    cr_assert_eq(deadline_noted_with(VOUCH_FOREVER), VOUCH_FOREVER);
}

/* ---- the peer ---- */

Test(client_call, nonsense_from_the_server_ends_all_calls) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_outcome outcomes[2];
    rpc_call_async(client, "a", "", NULL, &outcomes[0], NULL);
    rpc_call_async(client, "b", "", NULL, &outcomes[1], NULL);
    cr_assert(rpc_raw_write(fd, "\x01", 1), "a length below 0");
    rpc_wait_callbacks(client, 2);
    cr_assert_eq(outcomes[0].result, -EPROTO);
    cr_assert_eq(outcomes[1].result, -EPROTO);
    rpc_check_call(client, "c", "", -EPROTO, NULL);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

Test(client_call, a_server_that_goes_ends_calls_at_once) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_caller caller;
    struct rpc_received call;
    int64_t begun = vouch_now();
    rpc_caller_start(&caller, client, "any", NULL);
    rpc_raw_expect(fd, &call);
    rpc_received_free(&call);
    close(fd);
    cr_assert_eq(rpc_caller_join(&caller), -ECONNRESET);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_check_call(client, "any", "", -ECONNRESET, NULL);
    cr_assert_eq(vouch_client_ping(client, 0, NULL), -ECONNRESET);
    vouch_client_free(client);
    support_baseline_end();
}

/* What the server said before it went still counts. */
Test(client_call, answers_before_the_end_are_delivered) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_outcome outcomes[2];
    struct rpc_received call;
    rpc_call_async(client, "a", "", NULL, &outcomes[0], NULL);
    rpc_call_async(client, "b", "", NULL, &outcomes[1], NULL);
    rpc_raw_expect(fd, &call);
    rpc_raw_send(fd, &(struct rpc_message){.id = call.envelope.id, .data = "1", .size = 1});
    rpc_received_free(&call);
    close(fd);
    rpc_wait_callbacks(client, 2);
    cr_assert_eq(outcomes[0].result, 0);
    cr_assert_eq(outcomes[0].size, 1);
    cr_assert_eq(outcomes[1].result, -ECONNRESET);
    vouch_client_free(client);
    support_baseline_end();
}

/* A peer that only stops reading is not announced by poll(2): who sends has to say so. */
Test(client_call, a_server_that_stops_reading_ends_calls_at_once) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_caller first;
    struct rpc_received call;
    int64_t begun = vouch_now();
    rpc_caller_start(&first, client, "any", NULL);
    rpc_raw_expect(fd, &call);
    rpc_received_free(&call);
    cr_assert_eq(shutdown(fd, SHUT_RD), 0);
    rpc_check_call(client, "any", "", -ECONNRESET, NULL);
    cr_assert_eq(rpc_caller_join(&first), -ECONNRESET);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

/* A plain server sends errors without an id. */
Test(client_call, an_error_without_an_id_belongs_to_the_only_call) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_outcome outcomes[2];
    const struct rpc_message failure = {.error_type = 1, .error = "no such method"};
    rpc_call_async(client, "a", "", NULL, &outcomes[0], NULL);
    rpc_raw_send(fd, &failure);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcomes[0].result, VOUCH_REMOTE_METHOD_NOT_FOUND);
    cr_assert_str_eq(outcomes[0].error.message, "no such method");

    struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_MILLISECONDS(20)};
    rpc_call_async(client, "a", "", &brief, &outcomes[0], NULL);
    rpc_call_async(client, "b", "", &brief, &outcomes[1], NULL);
    rpc_raw_send(fd, &failure);
    rpc_wait_callbacks(client, 2);
    cr_assert_eq(outcomes[0].result, -ETIMEDOUT, "it could have been either's");
    cr_assert_eq(outcomes[1].result, -ETIMEDOUT);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

/* ---- limits of the client ---- */

Test(client_call, calls_in_flight_at_the_maximum_and_one_past) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .max_calls = 3};
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, &options);
    struct rpc_outcome outcomes[4];
    for (int i = 0; i < 3; i++)
        rpc_call_async(client, "a", "", NULL, &outcomes[i], NULL);
    rpc_check_call(client, "a", "", -EBUSY, NULL);
    cr_assert_eq(
        vouch_client_call_async(client, "a", "", 0, NULL, rpc_outcome_callback, &outcomes[3], NULL),
        -EBUSY);
    rpc_raw_send(fd, &(struct rpc_message){.id = 2});
    rpc_wait_callbacks(client, 1);
    rpc_call_async(client, "a", "", NULL, &outcomes[1], NULL);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

Test(client_call, output_at_the_maximum_holds_up_further_calls) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .output_max = 100000,
                                           .max_request = 2000000, .send_buffer_max = 1};
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, &options);
    static char data[1000000];
    struct rpc_outcome outcome = {0};
    cr_assert_eq(vouch_client_call_async(client, "a", data, sizeof(data), NULL,
                                         rpc_outcome_callback, &outcome, NULL),
                 0);
    cr_assert_eq(
        vouch_client_call_async(client, "a", "", 0, NULL, rpc_outcome_callback, &outcome, NULL),
        -EAGAIN);
    struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_MILLISECONDS(20)};
    rpc_check_call_options(client, "a", "", &brief, -ETIMEDOUT);
    close(fd);
    vouch_client_free(client);
    cr_assert_eq(atomic_load(&outcome.callbacks), 1);
    support_baseline_end();
}

/* ---- many threads on one connection ---- */

#define THREADS 16

static void *call_many(void *context) {
    uintptr_t self = (uintptr_t)context;
    char data[3000];
    for (unsigned i = 0; i < VOUCH_TEST_ROUNDS(400, 100); i++) {
        size_t size = 8 + (self * 131 + i * 37) % (sizeof(data) - 8);
        memset(data, (int)('a' + self), size);
        memcpy(data, &i, sizeof(i));
        struct vouch_reply reply;
        int r = vouch_client_call(client, i % 2 ? "echo" : "quick", data, size, NULL, &reply, NULL);
        cr_assert_eq(r, 0);
        cr_assert_eq(reply.size, size);
        cr_assert_eq(memcmp(reply.data, data, size), 0);
        vouch_reply_release(&reply);
    }
    return NULL;
}

Test(client_call, sixteen_threads_each_get_their_own_replies) {
    open_both();
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = support_thread_start(call_many, (void *)i);
    for (int i = 0; i < THREADS; i++)
        support_thread_join(threads[i]);
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.replies, (uint64_t)THREADS * VOUCH_TEST_ROUNDS(400, 100));
    cr_assert_eq(stats.in_flight, 0);
    close_both();
}

/* ---- asynchronous calls ---- */

Test(client_call, callbacks_run_once_each_with_the_reply) {
    open_both();
    static struct rpc_outcome outcomes[64];
    for (int i = 0; i < 64; i++)
        rpc_call_async(client, i % 2 ? "echo" : "none", "12345", NULL, &outcomes[i], NULL);
    rpc_wait_callbacks(client, 64);
    for (int i = 0; i < 64; i++) {
        cr_assert_eq(atomic_load(&outcomes[i].callbacks), 1);
        cr_assert_eq(outcomes[i].result, i % 2 ? 0 : VOUCH_REMOTE_METHOD_NOT_FOUND);
        cr_assert_eq(outcomes[i].size, i % 2 ? 5 : 0);
        cr_assert_eq(outcomes[i].error.code, outcomes[i].result);
    }
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(VOUCH_SECONDS(1))), 0);
    close_both();
}

struct chain {
    unsigned left;
    struct rpc_outcome cancelled;
};

static void call_again(void *context, int result, const struct vouch_reply *reply,
                       const struct vouch_error *error) {
    struct chain *chain = context;
    uint64_t id;
    (void)reply;
    (void)error;
    cr_assert_eq(result, 0);
    if (--chain->left > 0) {
        cr_assert_eq(vouch_client_call_async(client, "echo", "", 0, NULL, call_again, chain, NULL),
                     0);
    } else {
        rpc_call_async(client, "keep", "", NULL, &chain->cancelled, &id);
        cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    }
}

Test(client_call, a_callback_may_call_and_cancel) {
    open_both();
    struct chain chain = {.left = 10};
    cr_assert_eq(vouch_client_call_async(client, "echo", "", 0, NULL, call_again, &chain, NULL), 0);
    rpc_wait_callbacks(client, 11);
    cr_assert_eq(chain.cancelled.result, -ECANCELED);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "", 0), 0);
    close_both();
}

static void keep_buffer(void *context, int result, const struct vouch_reply *reply,
                        const struct vouch_error *error) {
    struct vouch_reply *kept = context;
    (void)error;
    cr_assert_eq(result, 0);
    *kept = (struct vouch_reply){reply->data, reply->size, vouch_buffer_ref(reply->buffer)};
}

Test(client_call, a_callback_may_keep_the_replys_buffer) {
    open_both();
    struct vouch_reply kept = {0};
    cr_assert_eq(vouch_client_call_async(client, "echo", "kept", 4, NULL, keep_buffer, &kept, NULL),
                 0);
    rpc_wait_callbacks(client, 1);
    rpc_check_call(client, "echo", "another", 0, "another");
    cr_assert_eq(memcmp(kept.data, "kept", 4), 0);
    vouch_reply_release(&kept);
    close_both();
}

Test(client_call, the_method_of_an_asynchronous_call_is_copied) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    char method[] = "none/such";
    struct rpc_outcome outcome = {0};
    struct vouch_call_options brief = {VOUCH_OPTIONS(brief), .timeout = VOUCH_MILLISECONDS(10)};
    strcpy(method, "block");
    cr_assert_eq(vouch_client_call_async(client, method, "", 0, &brief, rpc_outcome_callback,
                                         &outcome, NULL),
                 0);
    memset(method, 'z', 5);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, -ETIMEDOUT);
    cr_assert_not_null(strstr(outcome.error.message, "block"));
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

/* ---- cancelling ---- */

Test(client_call, cancel_by_tag_ends_all_that_have_it) {
    open_both();
    rpc_check_call(client, "echo", "", 0, "");
    struct vouch_call_options tagged = {VOUCH_OPTIONS(tagged), .tag = 7};
    struct vouch_call_options other = {VOUCH_OPTIONS(other), .tag = 8};
    struct rpc_outcome outcomes[3];
    rpc_call_async(client, "wait", "", &tagged, &outcomes[0], NULL);
    rpc_call_async(client, "wait", "", &tagged, &outcomes[1], NULL);
    rpc_call_async(client, "wait", "", &other, &outcomes[2], NULL);
    rpc_latch_wait(&stage.entered, 3);
    cr_assert_eq(vouch_client_cancel(client, 0), 0);
    cr_assert_eq(vouch_client_cancel(client, 9), 0);
    cr_assert_eq(vouch_client_cancel(client, 7), 2);
    cr_assert_eq(vouch_client_cancel(client, 7), 0);
    rpc_wait_callbacks(client, 2);
    cr_assert_eq(outcomes[0].result, -ECANCELED);
    cr_assert_eq(outcomes[1].result, -ECANCELED);
    cr_assert_eq(atomic_load(&outcomes[2].callbacks), 0);
    rpc_latch_wait(&stage.cancelled, 2);
    cr_assert_eq(vouch_client_cancel(client, 8), 1);
    rpc_latch_wait(&stage.cancelled, 3);
    rpc_wait_callbacks(client, 1);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).cancels, 3);
    close_both();
}

Test(client_call, cancel_by_id_ends_just_that_one_and_only_once) {
    open_both();
    struct rpc_outcome outcomes[2];
    uint64_t ids[2];
    for (int i = 0; i < 2; i++)
        rpc_call_async(client, "wait", "", NULL, &outcomes[i], &ids[i]);
    cr_assert_neq(ids[0], ids[1]);
    cr_assert_eq(vouch_client_cancel_id(client, ids[1]), 0);
    cr_assert_eq(vouch_client_cancel_id(client, ids[1]), -ENOENT, "ended, though not called back");
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcomes[1].result, -ECANCELED);
    cr_assert_eq(vouch_client_cancel_id(client, ids[1]), -ENOENT);
    cr_assert_eq(vouch_client_cancel_id(client, ids[0] + ((uint64_t)1 << 32)), -ENOENT);
    cr_assert_eq(vouch_client_cancel_id(client, ids[0]), 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(vouch_client_cancel_id(client, 0), -ENOENT);
    close_both();
}

/* The thread that waits for its own reply is the one that polls. */
Test(client_call, the_call_of_who_drives_can_be_cancelled) {
    open_both();
    rpc_check_call(client, "echo", "", 0, "");
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .tag = 1};
    struct rpc_caller caller;
    int64_t begun = vouch_now();
    rpc_caller_start(&caller, client, "wait", &options);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_client_cancel(client, 1), 1);
    cr_assert_eq(rpc_caller_join(&caller), -ECANCELED);
    rpc_latch_wait(&stage.cancelled, 1);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

Test(client_call, the_call_of_who_sleeps_can_be_cancelled) {
    open_both();
    rpc_check_call(client, "echo", "", 0, "");
    struct vouch_call_options options[2] = {{VOUCH_OPTIONS(options[0]), .tag = 1},
                                            {VOUCH_OPTIONS(options[1]), .tag = 2}};
    struct rpc_caller callers[2];
    for (unsigned i = 0; i < 2; i++) {
        rpc_caller_start(&callers[i], client, "wait", &options[i]);
        rpc_latch_wait(&stage.entered, i + 1);
    }
    cr_assert_eq(vouch_client_cancel(client, 2), 1);
    cr_assert_eq(rpc_caller_join(&callers[1]), -ECANCELED);
    cr_assert_eq(vouch_client_cancel(client, 1), 1);
    cr_assert_eq(rpc_caller_join(&callers[0]), -ECANCELED);
    rpc_latch_wait(&stage.cancelled, 2);
    close_both();
}

/* Nothing has been heard of the server yet, but its hello comes before its first reply. */
Test(client_call, cancelling_the_very_first_call_reaches_its_handler) {
    open_both();
    struct rpc_outcome outcome;
    uint64_t id;
    int64_t begun = vouch_now();
    rpc_call_async(client, "wait", "", NULL, &outcome, &id);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, -ECANCELED);
    rpc_check_call(client, "echo", "someone has to read the hello", 0, NULL);
    rpc_latch_wait(&stage.cancelled, 1);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

/* The handler knows the deadline too, and may be quicker with its answer than the client's clock.
 */
Test(client_call, a_timeout_ends_the_handlers_wait_too) {
    open_both();
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_MILLISECONDS(20)};
    int r;
    do /* on a slow machine the time may be up before the handler begins */
        r = vouch_client_call(client, "wait", NULL, 0, &options, NULL, NULL);
    while (atomic_load(&stage.runs) == 0);
    cr_assert(rpc_timed_out(r) || r == VOUCH_REMOTE_CANCELLED, "%d", r);
    rpc_latch_wait(&stage.cancelled, 1);
    close_both();
}

/* A plain server would take a cancel for a call. */
Test(client_call, a_plain_server_is_sent_no_cancels_and_its_late_replies_are_dropped) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    struct rpc_outcome outcome;
    uint64_t id;
    struct rpc_received call;
    rpc_call_async(client, "a", "", NULL, &outcome, NULL);
    rpc_raw_expect(fd, &call);
    cr_assert_eq(call.envelope.client_features, SESSION_FEATURES);
    rpc_raw_send(fd, &(struct rpc_message){.id = call.envelope.id});
    rpc_received_free(&call);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(vouch_client_ping(client, 0, NULL), -ENOTSUP);

    rpc_call_async(client, "b", "", NULL, &outcome, &id);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_wait_callbacks(client, 1);
    rpc_raw_send(fd, &(struct rpc_message){.id = 2, .data = "late", .size = 4});
    rpc_call_async(client, "c", "", NULL, &outcome, NULL);
    for (uint32_t i = 2; i <= 3; i++) {
        rpc_raw_expect(fd, &call);
        cr_assert_eq(call.envelope.control, ENVELOPE_MESSAGE);
        cr_assert_eq(call.envelope.id, i);
        rpc_received_free(&call);
    }
    rpc_raw_send(fd, &(struct rpc_message){.id = 3, .data = "mine", .size = 4});
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(atomic_load(&outcome.callbacks), 1);
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

/* ---- ping ---- */

Test(client_call, ping_needs_a_server_that_has_shown_that_it_knows_it) {
    open_both();
    cr_assert_eq(vouch_client_ping(client, 0, NULL), -ENOTSUP);
    rpc_check_call(client, "echo", "", 0, "");
    int64_t elapsed = -1;
    cr_assert_eq(vouch_client_ping(client, VOUCH_SECONDS(30), &elapsed), 0);
    cr_assert_geq(elapsed, 0);
    cr_assert_lt(elapsed, RPC_FAR_BELOW);
    cr_assert_eq(vouch_client_ping(client, -1, NULL), -EINVAL);
    cr_assert_eq(rpc_stats(&stage).calls, 1, "no handler, no call");
    close_both();
}

/* ---- interceptors ---- */

struct journal {
    char text[64];
    int refuse;
    int result;
    int64_t elapsed;
    size_t request_size, reply_size;
};

struct mark {
    struct journal *journal;
    char before, after;
    bool refuses;
};

static void note(struct journal *journal, char c) {
    journal->text[strlen(journal->text)] = c;
}

static int mark_before(void *context, const struct vouch_call_info *info) {
    struct mark *mark = context;
    note(mark->journal, mark->before);
    mark->journal->request_size = info->request_size;
    cr_assert_eq(info->reply_size, 0);
    return mark->refuses ? mark->journal->refuse : 0;
}

static void mark_after(void *context, const struct vouch_call_info *info, int result,
                       int64_t elapsed) {
    struct mark *mark = context;
    note(mark->journal, mark->after);
    mark->journal->result = result;
    mark->journal->elapsed = elapsed;
    mark->journal->reply_size = info->reply_size;
}

static void open_intercepted(struct mark marks[2]) {
    struct vouch_client_interceptor interceptors[3] = {{mark_before, mark_after, &marks[0]},
                                                       {NULL, NULL, NULL},
                                                       {mark_before, mark_after, &marks[1]}};
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .interceptors = interceptors,
                                           .interceptor_count = 3};
    open_with(NULL, &options);
}

Test(client_call, interceptors_run_in_order_and_back) {
    struct journal journal = {.text = ""};
    struct mark marks[2] = {{&journal, '1', 'a', false}, {&journal, '2', 'b', false}};
    open_intercepted(marks);
    rpc_check_call(client, "echo", "abc", 0, "abc");
    cr_assert_str_eq(journal.text, "12ba");
    cr_assert_eq(journal.request_size, 3);
    cr_assert_eq(journal.reply_size, 3);
    cr_assert_eq(journal.result, 0);
    cr_assert_geq(journal.elapsed, 0);
    rpc_check_call(client, "result", "4", VOUCH_REMOTE_SERVER, NULL);
    cr_assert_eq(journal.result, VOUCH_REMOTE_SERVER);
    struct rpc_outcome outcome;
    memset(journal.text, 0, sizeof(journal.text));
    rpc_call_async(client, "echo", "abcd", NULL, &outcome, NULL);
    cr_assert_str_eq(journal.text, "12");
    rpc_wait_callbacks(client, 1);
    cr_assert_str_eq(journal.text, "12ba");
    cr_assert_eq(journal.reply_size, 4);
    close_both();
}

/* Who has seen a call begin sees it end, and nobody else does. */
Test(client_call, an_interceptor_refuses) {
    struct journal journal = {.text = "", .refuse = -EACCES};
    struct mark marks[2] = {{&journal, '1', 'a', true}, {&journal, '2', 'b', false}};
    open_intercepted(marks);
    rpc_check_call(client, "echo", "", -EACCES, NULL);
    cr_assert_str_eq(journal.text, "1a");
    cr_assert_eq(journal.result, -EACCES);
    struct rpc_outcome outcome = {0};
    cr_assert_eq(
        vouch_client_call_async(client, "echo", "", 0, NULL, rpc_outcome_callback, &outcome, NULL),
        -EACCES);
    cr_assert_str_eq(journal.text, "1a1a");
    cr_assert_eq(atomic_load(&outcome.callbacks), 0);
    marks[0].refuses = false;
    marks[1].refuses = true;
    rpc_check_call(client, "echo", "", -EACCES, NULL);
    cr_assert_str_eq(journal.text, "1a1a12ba");
    rpc_check_call(client, "", "", VOUCH_E_METHOD_NAME, NULL);
    cr_assert_str_eq(journal.text, "1a1a12ba", "a call that could not be is none");
    cr_assert_eq(rpc_stats(&stage).calls, 0, "nothing was sent");
    close_both();
}

/* ---- a server that is gone ---- */

Test(client_call, who_is_refused_at_the_door_is_told_more_than_that_the_server_is_gone) {
    const struct vouch_policy nobody = {NULL, 0};
    struct vouch_listen_options listen = {VOUCH_OPTIONS(listen), .policy = &nobody};
    struct vouch_error error;
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    rpc_stage_listen(&stage, &listen);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    cr_assert_eq(vouch_client_call(client, "echo", NULL, 0, NULL, NULL, &error), -ECONNRESET);
    cr_assert_not_null(strstr(error.message, "may not admit us"));
    close_both();
}

Test(client_call, once_the_server_has_answered_a_lost_one_is_just_gone) {
    struct vouch_error error;
    open_both();
    rpc_check_call(client, "echo", "hello", 0, "hello");
    vouch_server_stop(stage.server, 0);
    cr_assert_eq(vouch_client_call(client, "echo", NULL, 0, NULL, NULL, &error), -ECONNRESET);
    cr_assert_not_null(strstr(error.message, "the server is gone"));
    close_both();
}

Test(client_call, nothing_where_something_is_needed) {
    open_both();
    struct vouch_error error;
    struct rpc_outcome outcome;
    cr_assert_eq(vouch_client_call(client, NULL, "x", 1, NULL, NULL, &error), VOUCH_E_METHOD_NAME);
    cr_assert_eq(vouch_client_call(client, "echo", NULL, 1, NULL, NULL, &error), -EINVAL);
    cr_assert_str_eq(error.message, "a request of 1 bytes without any data");
    cr_assert_eq(
        vouch_client_call_async(client, NULL, "x", 1, NULL, rpc_outcome_callback, &outcome, NULL),
        VOUCH_E_METHOD_NAME);
    cr_assert_eq(vouch_client_call_async(client, "echo", NULL, 1, NULL, rpc_outcome_callback,
                                         &outcome, NULL),
                 -EINVAL);
    rpc_check_call(client, "echo", "", 0, "");
    close_both();
}

/* ---- calls that leave together ---- */

static const struct vouch_call_options more = {VOUCH_OPTIONS(more), .more = true};

/* A server made by hand, so that it is seen what has been sent. */
static int open_by_hand(void) {
    int fd;
    support_baseline_begin();
    client = rpc_raw_client(&fd, NULL);
    return fd;
}

static void answer(int fd, uint32_t id) {
    struct rpc_received call;
    rpc_raw_expect(fd, &call);
    cr_assert_eq(call.envelope.id, id);
    rpc_received_free(&call);
    rpc_raw_send(fd, &(struct rpc_message){.id = id});
}

static void close_by_hand(int fd) {
    vouch_client_free(client);
    close(fd);
    support_baseline_end();
}

Test(client_call, calls_that_say_that_more_follow_leave_with_the_next_that_does_not) {
    struct rpc_outcome outcomes[4];
    int fd = open_by_hand();
    for (int i = 0; i < 3; i++)
        rpc_call_async(client, "m", "", &more, &outcomes[i], NULL);
    cr_assert_not(rpc_raw_readable(fd));
    rpc_call_async(client, "m", "", NULL, &outcomes[3], NULL);
    cr_assert(rpc_raw_readable(fd));
    for (uint32_t id = 1; id <= 4; id++)
        answer(fd, id);
    rpc_wait_callbacks(client, 4);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(outcomes[i].result, 0);
    close_by_hand(fd);
}

Test(client_call, calls_that_say_that_more_follow_leave_when_they_are_waited_for) {
    struct rpc_outcome outcome;
    int fd = open_by_hand();
    rpc_call_async(client, "m", "", &more, &outcome, NULL);
    cr_assert_not(rpc_raw_readable(fd));
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(VOUCH_MILLISECONDS(1))), -ETIMEDOUT);
    cr_assert(rpc_raw_readable(fd));
    answer(fd, 1);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    close_by_hand(fd);
}

Test(client_call, calls_that_say_that_more_follow_leave_when_the_client_is_driven) {
    struct rpc_outcome outcome;
    int fd = open_by_hand();
    rpc_call_async(client, "m", "", &more, &outcome, NULL);
    cr_assert_not(rpc_raw_readable(fd));
    cr_assert_eq(vouch_client_process(client), 0);
    cr_assert(rpc_raw_readable(fd));
    answer(fd, 1);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    close_by_hand(fd);
}

static void *answer_two(void *context) {
    int fd = *(int *)context;
    answer(fd, 1);
    answer(fd, 2);
    return NULL;
}

/* One that waits for its answer has nothing to follow. */
Test(client_call, a_blocking_call_takes_those_with_it_that_waited) {
    struct rpc_outcome outcome;
    int fd = open_by_hand();
    rpc_call_async(client, "m", "", &more, &outcome, NULL);
    cr_assert_not(rpc_raw_readable(fd));
    pthread_t thread = support_thread_start(answer_two, &fd);
    rpc_check_call_options(client, "m", "", &more, 0);
    support_thread_join(thread);
    if (atomic_load(&outcome.callbacks) == 0)
        rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, 0);
    close_by_hand(fd);
}

Test(client_call, calls_do_not_wait_for_more_when_they_are_much) {
    enum { ROOM = 32 * 1024, BODY = 1000, MOST = ROOM / BODY + 2 };
    static struct rpc_outcome outcomes[MOST];
    static char data[BODY];
    int fd = open_by_hand();
    unsigned calls = 0;
    memset(outcomes, 0, sizeof(outcomes));
    while (!rpc_raw_readable(fd)) {
        cr_assert_lt(calls, MOST);
        cr_assert_eq(vouch_client_call_async(client, "m", data, sizeof(data), &more,
                                             rpc_outcome_callback, &outcomes[calls], NULL),
                     0);
        calls++;
    }
    cr_assert_geq(calls, ROOM / (BODY + ENVELOPE_HEADROOM));
    for (uint32_t id = 1; id <= calls; id++)
        answer(fd, id);
    rpc_wait_callbacks(client, calls);
    close_by_hand(fd);
}
