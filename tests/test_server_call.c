/* SPDX-License-Identifier: MIT */
/* One call on the server: what its handler sees, and exactly one answer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rpc/session.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static struct vouch_client *client;

/* The handler under test; what it notes. */
static struct {
    int codes[8];
    atomic_uint code_count;
    char method[32];
    int64_t deadline;
    uid_t uid;
} noted;

static void note_code(int code) {
    unsigned count = atomic_load(&noted.code_count);
    noted.codes[count] = code;
    atomic_store(&noted.code_count, count + 1);
}

static void open_with(vouch_handler handler, const struct vouch_server_options *options) {
    support_baseline_begin();
    memset(&noted, 0, sizeof(noted));
    rpc_stage_init(&stage, options);
    if (handler)
        cr_assert_eq(vouch_server_add_method(
                         stage.server, &(struct vouch_method){.name = "test", .handler = handler}),
                     0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- what a handler sees ---- */

static int look_around(void *context, struct vouch_call *call) {
    (void)context;
    size_t size;
    snprintf(noted.method, sizeof(noted.method), "%s", vouch_call_get_method(call));
    noted.deadline = vouch_call_get_deadline(call);
    noted.uid = vouch_call_get_peer(call)->uid;
    cr_assert_not_null(vouch_call_get_data(call, &size), "never NULL");
    cr_assert_eq(size, 0);
    cr_assert_not(vouch_call_is_cancelled(call));
    note_code(vouch_call_wait_cancelled(call, vouch_now()));
    return 0;
}

Test(server_call, a_handler_sees_method_peer_data_and_deadline) {
    open_with(look_around, NULL);
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_SECONDS(35)};
    int64_t before = vouch_now();
    rpc_check_call_options(client, "test", "", &options, 0);
    cr_assert_str_eq(noted.method, "test");
    cr_assert_eq(noted.uid, geteuid());
    cr_assert_eq(noted.codes[0], 0);
    /* It travels as wall time, which may be stepped a little meanwhile. */
    cr_assert_geq(noted.deadline, before + VOUCH_SECONDS(34));
    cr_assert_leq(noted.deadline, vouch_now() + VOUCH_SECONDS(36));
    close_both();
}

/* ---- what handlers return ---- */

Test(server_call, what_a_handler_returns_is_the_answer) {
    open_with(NULL, NULL);
    rpc_check_call(client, "result", "0", 0, "");
    for (int i = 1; i <= VOUCH_REMOTE_UNKNOWN; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%d", i);
        rpc_check_call(client, "result", text, i, NULL);
    }
    rpc_check_call(client, "result", "10", VOUCH_REMOTE_SERVER, NULL);
    rpc_check_call(client, "result", "-5", VOUCH_REMOTE_SERVER, NULL);
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "result", "-110", 4, NULL, NULL, &error),
                 VOUCH_REMOTE_SERVER);
    cr_assert_str_eq(error.message, vouch_strerror(-ETIMEDOUT), "the text is the code's name");
    close_both();
}

static int answer_and_return(void *context, struct vouch_call *call) {
    (void)context;
    note_code(vouch_call_reply(call, "first", 5));
    note_code(vouch_call_reply(call, "second", 6));
    note_code(vouch_call_fail(call, VOUCH_REMOTE_SERVER, "third"));
    struct vouch_buffer *buffer;
    cr_assert_eq(vouch_call_get_buffer(call, 1, &buffer), 0);
    note_code(vouch_call_reply_buffer(call, buffer));
    vouch_call_keep(call);
    return VOUCH_REMOTE_BAD_DATA;
}

Test(server_call, only_the_first_answer_counts) {
    open_with(answer_and_return, NULL);
    rpc_check_call(client, "test", "", 0, "first");
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    vouch_client_free(client);
    client = NULL;
    rpc_stage_close(&stage); /* the handler has returned */
    cr_assert_eq(noted.code_count, 4);
    cr_assert_eq(noted.codes[0], 0);
    for (int i = 1; i < 4; i++)
        cr_assert_eq(noted.codes[i], -EALREADY);
    support_baseline_end();
}

static int fail_with_text(void *context, struct vouch_call *call) {
    (void)context;
    size_t size;
    const char *data = (const char *)vouch_call_get_data(call, &size);
    note_code(vouch_call_fail(call, VOUCH_REMOTE_OK, "none"));
    note_code(vouch_call_fail(call, (enum vouch_remote_error)(VOUCH_REMOTE_UNKNOWN + 1), "none"));
    note_code(vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "100%% of '%.*s'", (int)size, data));
    return 0;
}

Test(server_call, an_error_has_the_handlers_text) {
    open_with(fail_with_text, NULL);
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "test", "this", 4, NULL, NULL, &error),
                 VOUCH_REMOTE_BAD_DATA);
    cr_assert_str_eq(error.message, "100% of 'this'");
    RPC_EVENTUALLY(noted.code_count == 3);
    cr_assert_eq(noted.codes[0], -EINVAL);
    cr_assert_eq(noted.codes[1], -EINVAL);
    cr_assert_eq(noted.codes[2], 0);
    close_both();
}

static int fail_at_length(void *context, struct vouch_call *call) {
    (void)context;
    char text[3001];
    for (size_t i = 0; i < 3000; i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[3000] = '\0';
    (void)vouch_call_fail(call, VOUCH_REMOTE_SERVER, "x%s", text);
    return 0;
}

Test(server_call, a_text_too_long_is_cut_at_a_character) {
    open_with(fail_at_length, NULL);
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "test", "", 0, NULL, NULL, &error), VOUCH_REMOTE_SERVER);
    size_t size = strlen(error.message);
    cr_assert_eq(size, VOUCH_ERROR_TEXT_MAX - 1, "1 + 2 * 511 = 1023, the next would be half");
    cr_assert_eq((uint8_t)error.message[size - 1], 0xa9);
    close_both();
}

/* ---- sizes ---- */

static int reply_of_size(void *context, struct vouch_call *call) {
    (void)context;
    size_t size;
    const char *text = (const char *)vouch_call_get_data(call, &size);
    static char data[2000];
    note_code(vouch_call_reply(call, data, (size_t)strtol(text, NULL, 10)));
    return 0;
}

Test(server_call, a_reply_over_the_maximum_is_answered_as_such) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_reply = 1000};
    open_with(reply_of_size, &options);
    struct vouch_error error;
    static const char *sizes[] = {"900", "1000", "1001"};
    cr_assert_eq(vouch_client_call(client, "test", sizes[0], 4, NULL, NULL, NULL), 0);
    for (int i = 1; i < 3; i++) {
        cr_assert_eq(vouch_client_call(client, "test", sizes[i], 5, NULL, NULL, &error),
                     VOUCH_REMOTE_TOO_LARGE);
        cr_assert_not_null(strstr(error.message, "1000"), "%s", error.message);
    }
    RPC_EVENTUALLY(noted.code_count == 3);
    cr_assert_eq(noted.codes[1], -EMSGSIZE);
    cr_assert_eq(noted.codes[2], -EMSGSIZE);
    RPC_EVENTUALLY(rpc_stats(&stage).errors[VOUCH_REMOTE_TOO_LARGE] == 2);
    close_both();
}

Test(server_call, a_client_that_takes_less_is_told_in_time) {
    open_with(NULL, NULL);
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .max_reply = 1000};
    struct vouch_client *small = rpc_stage_client(&stage, &options);
    rpc_check_call(small, "size", "900", 0, NULL);
    rpc_check_call(small, "size", "1001", VOUCH_REMOTE_TOO_LARGE, NULL);
    rpc_check_call(small, "echo", "alive", 0, "alive");
    vouch_client_free(small);
    close_both();
}

static int ask_for_too_much(void *context, struct vouch_call *call) {
    (void)context;
    struct vouch_buffer *buffer;
    note_code(vouch_call_get_buffer(call, SIZE_MAX, &buffer));
    return 0;
}

Test(server_call, a_buffer_has_its_bounds) {
    open_with(ask_for_too_much, NULL);
    rpc_check_call(client, "test", "", 0, "");
    cr_assert_eq(noted.codes[0], -EMSGSIZE);
    close_both();
}

/* ---- kept calls ---- */

static void *answer_from_here(void *context) {
    struct vouch_call *call = context;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    return (void *)(intptr_t)vouch_call_reply(call, data, size);
}

Test(server_call, a_kept_call_is_answered_by_another_thread) {
    open_with(NULL, NULL);
    static struct rpc_outcome outcomes[32];
    for (int i = 0; i < 32; i++)
        rpc_call_async(client, "keep", "kept", NULL, &outcomes[i], NULL);
    rpc_latch_wait(&stage.entered, 32);
    cr_assert_eq(rpc_stats(&stage).in_flight, 32);
    for (int i = 31; i >= 0; i--)
        cr_assert_eq(
            (intptr_t)support_thread_join(support_thread_start(answer_from_here, stage.kept[i])),
            0);
    rpc_wait_callbacks(client, 32);
    for (int i = 0; i < 32; i++) {
        cr_assert_eq(outcomes[i].result, 0);
        cr_assert_eq(outcomes[i].size, 4);
    }
    cr_assert_eq(rpc_stats(&stage).in_flight, 0);
    close_both();
}

/* The caller speaks by hand, so that it is the server that watches the deadline. */
Test(server_call, the_deadline_of_a_kept_call_is_answered_by_the_server) {
    open_with(NULL, NULL);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    uint64_t tries = 0;
    /* On a busy machine it may arrive too late to be run at all. */
    for (int64_t time = VOUCH_MILLISECONDS(50); atomic_load(&stage.kept_count) == 0; time *= 2) {
        rpc_raw_send(
            fd, &(struct rpc_message){.id = 9, .expires = rpc_wall_in(time), .method = "keep"});
        rpc_raw_expect(fd, &reply);
        cr_assert_eq(reply.envelope.id, 9);
        cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_DEADLINE_EXCEEDED);
        rpc_received_free(&reply);
        tries++;
    }
    rpc_latch_wait(&stage.entered, 1);
    cr_assert(vouch_call_is_cancelled(stage.kept[0]));
    cr_assert_eq(rpc_stats(&stage).in_flight, 1, "until it has been answered");
    cr_assert_eq(vouch_call_reply(stage.kept[0], "late", 4), -ETIMEDOUT);
    cr_assert_eq(rpc_stats(&stage).in_flight, 0);
    cr_assert_eq(rpc_stats(&stage).errors[VOUCH_REMOTE_DEADLINE_EXCEEDED], tries);
    cr_assert_not(rpc_raw_readable(fd), "one answer is enough");
    close(fd);
    close_both();
}

Test(server_call, a_kept_call_whose_caller_is_gone) {
    open_with(NULL, NULL);
    int fd = rpc_stage_raw(&stage);
    rpc_raw_send(fd, &(struct rpc_message){.id = 1,
                                           .expires = rpc_wall_in(RPC_PATIENCE),
                                           .method = "keep",
                                           .data = "abc",
                                           .size = 3});
    rpc_latch_wait(&stage.entered, 1);
    close(fd);
    cr_assert_eq(vouch_call_wait_cancelled(stage.kept[0], vouch_deadline_in(RPC_PATIENCE)), 1);
    size_t size;
    cr_assert_eq(memcmp(vouch_call_get_data(stage.kept[0], &size), "abc", 3), 0, "still there");
    cr_assert_eq(vouch_call_get_peer(stage.kept[0])->uid, geteuid());
    cr_assert_eq(vouch_call_fail(stage.kept[0], VOUCH_REMOTE_SERVER, "whatever"), -ECONNRESET);
    cr_assert_eq(rpc_stats(&stage).lost, 1);
    close_both();
}

/* ---- answers at a time ---- */

/* The request, as a copy, of the request's own bytes, or late: the first byte says; then ms. */
static int answer_at(void *context, struct vouch_call *call) {
    (void)context;
    size_t size;
    const char *data = (const char *)vouch_call_get_data(call, &size);
    char number[8] = "";
    memcpy(number, data + 1, size - 1 < sizeof(number) ? size - 1 : sizeof(number) - 1);
    int64_t when = vouch_deadline_in(VOUCH_MILLISECONDS(atoi(number)));
    char *copy = malloc(size);
    cr_assert_not_null(copy);
    memcpy(copy, data, size);
    int r = vouch_call_reply_at(call, when, *data == 'c' ? copy : data, size);
    memset(copy, 0, size);
    free(copy);
    note_code(r);
    note_code(vouch_call_reply(call, "other", 5));
    note_code(vouch_call_reply_at(call, when, "other", 5));
    vouch_call_keep(call);
    return VOUCH_REMOTE_SERVER;
}

Test(server_call, an_answer_has_its_time) {
    static const char *const kinds[] = {"c30 ", "r30 ", "c0 ", "r0 "};
    static const size_t sizes[] = {10, 100000};
    open_with(answer_at, NULL);
    for (size_t i = 0; i < 8; i++) {
        size_t size = sizes[i / 4];
        char *request = malloc(size + 1);
        cr_assert_not_null(request);
        memset(request, 'x', size);
        request[size] = '\0';
        memcpy(request, kinds[i % 4], strlen(kinds[i % 4]));
        int64_t begun = vouch_now();
        rpc_check_call(client, "test", request, 0, request);
        if (i % 4 < 2)
            cr_assert_geq(vouch_now() - begun, VOUCH_MILLISECONDS(30));
        RPC_EVENTUALLY(atomic_load(&noted.code_count) == 3);
        atomic_store(&noted.code_count, 0);
        cr_assert_eq(noted.codes[0], 0);
        cr_assert_eq(noted.codes[1], -EALREADY);
        cr_assert_eq(noted.codes[2], -EALREADY);
        free(request);
    }
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).errors[0], 8);
    close_both();
}

static int answer_in_an_hour(void *context, struct vouch_call *call) {
    (void)context;
    return vouch_call_reply_at(call, vouch_deadline_in(VOUCH_SECONDS(3600)), "later", 5);
}

/* More than there may be handlers, and the next is served. */
Test(server_call, an_answer_that_waits_holds_no_thread) {
    static struct rpc_outcome outcomes[100];
    open_with(answer_in_an_hour, &(struct vouch_server_options){.workers = 1, .workers_max = 1});
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    for (int i = 0; i < 100; i++)
        rpc_call_async(other, "test", "", NULL, &outcomes[i], NULL);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 100);
    rpc_check_call(client, "echo", "hello", 0, "hello");
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 100);
    vouch_client_free(other);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).lost, 100);
    close_both();
}

Test(server_call, an_answer_that_waits_ends_with_a_cancel) {
    struct rpc_outcome outcome;
    uint64_t id;
    open_with(answer_in_an_hour, NULL);
    rpc_check_call(client, "echo", "", 0, ""); /* they know each other */
    rpc_call_async(client, "test", "", NULL, &outcome, &id);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 1);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_wait_callbacks(client, 1);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).errors[VOUCH_REMOTE_CANCELLED], 1);
    rpc_check_call(client, "echo", "on", 0, "on");
    close_both();
}

Test(server_call, an_answer_that_waits_ends_with_the_deadline) {
    open_with(answer_in_an_hour, NULL);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    rpc_raw_send(fd, &(struct rpc_message){.id = 9,
                                           .expires = rpc_wall_in(VOUCH_MILLISECONDS(50)),
                                           .method = "test"});
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_DEADLINE_EXCEEDED);
    rpc_received_free(&reply);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).errors[VOUCH_REMOTE_DEADLINE_EXCEEDED], 1);
    cr_assert_not(rpc_raw_readable(fd), "one answer is enough");
    close(fd);
    close_both();
}

static void *answer_much_later(void *context) {
    return (void *)(intptr_t)vouch_call_reply_at(context, vouch_deadline_in(VOUCH_SECONDS(3600)),
                                                 "late", 4);
}

Test(server_call, a_kept_call_gets_an_answer_with_a_time) {
    struct rpc_outcome outcome;
    open_with(NULL, NULL);
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    rpc_call_async(other, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    pthread_t thread = support_thread_start(answer_much_later, stage.kept[0]);
    cr_assert_eq((intptr_t)support_thread_join(thread), 0);
    cr_assert_eq(rpc_stats(&stage).in_flight, 1);
    vouch_client_free(other);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    close_both();
}

/* Whose caller has gone before: there is nothing to wait for. */
Test(server_call, a_cancelled_call_gets_no_answer_with_a_time) {
    struct rpc_outcome outcome;
    open_with(NULL, NULL);
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    rpc_call_async(other, "keep", "", NULL, &outcome, NULL);
    rpc_latch_wait(&stage.entered, 1);
    vouch_client_free(other);
    cr_assert_eq(vouch_call_wait_cancelled(stage.kept[0], vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_eq((intptr_t)answer_much_later(stage.kept[0]), 0);
    cr_assert_eq(rpc_stats(&stage).in_flight, 0);
    cr_assert_eq(rpc_stats(&stage).lost, 1);
    close_both();
}

/* On a busy machine it may be time at once: then it is this thread that is held. */
static void *answer_soon(void *context) {
    return (void *)(intptr_t)vouch_call_reply_at(context, vouch_deadline_in(VOUCH_MILLISECONDS(5)),
                                                 "held", 4);
}

/* Holds the answer of whoever asked to be held, and what is behind it on its connection. */
static void hold_held(void *context, struct vouch_call *call, int result, int64_t elapsed) {
    size_t size;
    (void)context, (void)result, (void)elapsed;
    (void)vouch_call_get_data(call, &size);
    if (size != 4)
        return;
    rpc_latch_raise(&stage.cancelled);
    rpc_latch_wait(&stage.go, 1);
}

/* … and who was told so is not told again, though the answer is long in being taken back. */
Test(server_call, a_deadline_is_answered_once) {
    const struct vouch_server_interceptor hold = {NULL, hold_held, NULL};
    open_with(NULL, &(struct vouch_server_options){
                        .workers = 4, .interceptors = &hold, .interceptor_count = 1});
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    rpc_raw_send(fd, &(struct rpc_message){.id = 1, .method = "keep", .data = "held", .size = 4});
    rpc_latch_wait(&stage.entered, 1);
    for (int64_t time = VOUCH_MILLISECONDS(50); atomic_load(&stage.kept_count) == 1; time *= 2) {
        rpc_raw_send(
            fd, &(struct rpc_message){.id = 2, .expires = rpc_wall_in(time), .method = "keep"});
        rpc_raw_expect(fd, &reply);
        cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_DEADLINE_EXCEEDED);
        rpc_received_free(&reply);
    }
    rpc_latch_wait(&stage.entered, 2);
    pthread_t held = support_thread_start(answer_soon, stage.kept[0]);
    rpc_latch_wait(&stage.cancelled, 1);
    cr_assert_eq((intptr_t)answer_much_later(stage.kept[1]), 0);
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.id, 1);
    rpc_received_free(&reply);
    for (uint32_t id = 3; id < 100; id++) {
        rpc_raw_send(fd, &(struct rpc_message){.id = id, .method = "echo"});
        rpc_raw_expect(fd, &reply);
        cr_assert_eq(reply.envelope.id, id, "and not %u once more", reply.envelope.id);
        rpc_received_free(&reply);
    }
    rpc_latch_raise(&stage.go);
    cr_assert_eq((intptr_t)support_thread_join(held), 0);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    close(fd);
    close_both();
}

static void stop_from_within(void *context, struct vouch_call *call, int result, int64_t elapsed) {
    (void)context, (void)call, (void)result, (void)elapsed;
    note_code(vouch_server_stop(stage.server, 0));
}

/* Whoever gives the answer, the server would wait for itself. */
Test(server_call, an_interceptor_of_an_answer_with_a_time_can_not_stop_the_server) {
    const struct vouch_server_interceptor stop = {NULL, stop_from_within, NULL};
    open_with(answer_in_an_hour,
              &(struct vouch_server_options){.interceptors = &stop, .interceptor_count = 1});
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    struct rpc_outcome outcome;
    rpc_call_async(other, "test", "", NULL, &outcome, NULL);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 1);
    vouch_client_free(other);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(atomic_load(&noted.code_count), 1);
    cr_assert_eq(noted.codes[0], -EDEADLK);
    close_both();
}

Test(server_call, an_answer_with_a_time_has_a_limit) {
    open_with(answer_at, &(struct vouch_server_options){.max_reply = 1000});
    char request[1100];
    memset(request, 'x', sizeof(request));
    memcpy(request, "c3600000 ", 9);
    request[1001] = '\0';
    rpc_check_call(client, "test", request, VOUCH_REMOTE_TOO_LARGE, NULL);
    RPC_EVENTUALLY(atomic_load(&noted.code_count) == 3);
    cr_assert_eq(noted.codes[0], -EMSGSIZE);
    close_both();
}

/* ---- deadlines on arrival ---- */

Test(server_call, a_call_that_arrives_too_late_is_not_run) {
    open_with(NULL, NULL);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    rpc_raw_send(fd, &(struct rpc_message){.id = 3, .expires = rpc_wall_in(-1), .method = "echo"});
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.id, 3);
    cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_DEADLINE_EXCEEDED);
    rpc_received_free(&reply);
    cr_assert_eq(atomic_load(&stage.runs), 0);
    close(fd);
    close_both();
}

Test(server_call, a_caller_may_set_no_deadline) {
    open_with(look_around, NULL);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    rpc_raw_send(fd, &(struct rpc_message){.id = 3, .method = "test"});
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.error_type, 0);
    rpc_received_free(&reply);
    cr_assert_eq(noted.deadline, VOUCH_FOREVER);
    close(fd);
    close_both();
}

/* ---- who may call ---- */

Test(server_call, a_methods_policy_is_asked) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    struct vouch_rule rules[] = {{VOUCH_DENY, VOUCH_SUBJECT_UID, geteuid()}};
    struct vouch_policy nobody = {rules, 1};
    struct vouch_rule allowing[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_UID, geteuid()}};
    struct vouch_policy us = {allowing, 1};
    struct vouch_method closed = {.name = "closed", .handler = look_around, .policy = &nobody};
    struct vouch_method open = {.name = "open", .handler = look_around, .policy = &us};
    cr_assert_eq(vouch_server_add_method(stage.server, &closed), 0);
    cr_assert_eq(vouch_server_add_method(stage.server, &open), 0);
    memset(rules, 0xff, sizeof(rules));
    memset(allowing, 0xff, sizeof(allowing));
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "closed", "", 0, NULL, NULL, &error),
                 VOUCH_REMOTE_REFUSED);
    cr_assert_not_null(strstr(error.message, "closed"), "%s", error.message);
    rpc_check_call(client, "open", "", 0, "");
    cr_assert_eq(rpc_stats(&stage).errors[VOUCH_REMOTE_REFUSED], 1);
    close_both();
}

/* ---- plain callers ---- */

/* A Go client panics on error types from 5 up, and takes the text for a printf format. */
Test(server_call, a_plain_caller_gets_errors_that_it_knows) {
    open_with(fail_with_text, NULL);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    static const int expected[] = {0, 1, 2, 3, 4, 4, 3, 4, 2, 4};
    for (uint32_t i = 1; i <= VOUCH_REMOTE_UNKNOWN; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", i);
        rpc_raw_send(fd, &(struct rpc_message){
                             .id = i, .method = "result", .data = text, .size = strlen(text)});
        cr_assert(rpc_raw_receive(fd, &reply));
        cr_assert_eq(reply.envelope.control, ENVELOPE_MESSAGE, "no hello");
        cr_assert_eq(reply.envelope.id, i);
        cr_assert_eq(reply.envelope.error_type, (uint32_t)expected[i]);
        rpc_received_free(&reply);
    }
    rpc_raw_send(fd, &(struct rpc_message){.id = 77,
                                           .expires = rpc_wall_in(RPC_PATIENCE),
                                           .method = "test",
                                           .data = "a%b",
                                           .size = 3});
    cr_assert(rpc_raw_receive(fd, &reply));
    static const char text[] = "100%% of 'a%%b'";
    cr_assert_eq(reply.envelope.error_size, sizeof(text) - 1);
    cr_assert_eq(memcmp(reply.envelope.error, text, sizeof(text) - 1), 0);
    cr_assert_eq(reply.envelope.method_size, 4);
    cr_assert_neq(reply.envelope.expires, 0, "repeated, as plain servers do");
    rpc_received_free(&reply);
    close(fd);
    close_both();
}

/* ---- cancelling ---- */

Test(server_call, a_cancel_by_hand_reaches_the_handler) {
    open_with(NULL, NULL);
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    rpc_raw_send(
        fd, &(struct rpc_message){.id = 1, .method = "wait", .client_features = SESSION_FEATURES});
    rpc_latch_wait(&stage.entered, 1);
    rpc_raw_send(fd, &(struct rpc_message){.id = 2, .control = ENVELOPE_CANCEL});
    cr_assert_eq(stage.cancelled.count, 0);
    rpc_raw_send(fd, &(struct rpc_message){.id = 1, .control = ENVELOPE_CANCEL});
    rpc_raw_send(fd, &(struct rpc_message){.id = 1, .control = ENVELOPE_CANCEL});
    rpc_latch_wait(&stage.cancelled, 1);
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.error_type, VOUCH_REMOTE_CANCELLED);
    rpc_received_free(&reply);
    cr_assert_eq(rpc_stats(&stage).cancels, 1);
    close(fd);
    close_both();
}

/* ---- interceptors ---- */

static struct {
    char text[32];
    int refuse;
    int result;
    int64_t elapsed;
} journal;

static int before(void *context, struct vouch_call *call) {
    const char *letters = context;
    journal.text[strlen(journal.text)] = letters[0];
    cr_assert_not_null(vouch_call_get_method(call));
    return letters[2] == 'r' ? journal.refuse : 0;
}

static void after(void *context, struct vouch_call *call, int result, int64_t elapsed) {
    const char *letters = context;
    journal.text[strlen(journal.text)] = letters[1];
    cr_assert_not_null(vouch_call_get_method(call));
    journal.result = result;
    journal.elapsed = elapsed;
}

static void open_intercepted(char *first, char *second) {
    struct vouch_server_interceptor interceptors[] = {
        {before, after, first}, {NULL, NULL, NULL}, {before, after, second}};
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .interceptors = interceptors,
                                           .interceptor_count = 3};
    memset(&journal, 0, sizeof(journal));
    open_with(NULL, &options);
}

Test(server_call, interceptors_run_in_order_and_back) {
    char first[] = "1a-", second[] = "2b-";
    open_intercepted(first, second);
    rpc_check_call(client, "result", "3", VOUCH_REMOTE_BAD_DATA, NULL);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_str_eq(journal.text, "12ba");
    cr_assert_eq(journal.result, VOUCH_REMOTE_BAD_DATA);
    cr_assert_geq(journal.elapsed, 0);
    rpc_check_call(client, "none", "", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    cr_assert_str_eq(journal.text, "12ba", "only calls that found their method");
    close_both();
}

Test(server_call, an_interceptor_refuses) {
    char first[] = "1ar", second[] = "2b-";
    open_intercepted(first, second);
    journal.refuse = VOUCH_REMOTE_REFUSED;
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "echo", "", 0, NULL, NULL, &error),
                 VOUCH_REMOTE_REFUSED);
    cr_assert_str_eq(error.message, vouch_strerror(VOUCH_REMOTE_REFUSED));
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_str_eq(journal.text, "1a", "who did not see it begin does not see its end");
    cr_assert_eq(atomic_load(&stage.runs), 0);
    close_both();
}
