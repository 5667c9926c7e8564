/* SPDX-License-Identifier: MIT */
/* Calls: each ends once, however it ends; their limits; what is sent. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;
static struct vouch_janus *janus;
static const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};

static void begin(const struct vouch_janus_options *options) {
    janus_gateway_begin(&gateway);
    janus = janus_gateway_client(&gateway, options);
}

static void end(void) {
    vouch_janus_free(janus);
    janus_gateway_end(&gateway);
}

static int call(struct janus_outcome *outcome, const struct vouch_call_options *options,
                uint64_t *ret_id) {
    *outcome = (struct janus_outcome){0};
    return vouch_janus_call_async(janus, &ping, options, janus_outcome_callback, outcome, ret_id);
}

static struct vouch_janus_stats stats(void) {
    struct vouch_janus_stats s;
    vouch_janus_get_stats(janus, &s);
    return s;
}

Test(janus_call, an_answer) {
    struct janus_outcome outcome;
    begin(NULL);
    cr_assert_eq(call(&outcome, NULL, NULL), 0);
    cr_assert_eq(stats().in_flight, 1);
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(outcome.kind, VOUCH_JANUS_PONG);
    cr_assert_eq(stats().in_flight, 0);
    cr_assert_eq(stats().replies, 1);
    end();
}

Test(janus_call, an_error_of_the_gateway) {
    struct janus_outcome outcome;
    begin(NULL);
    cr_assert_eq(call(&outcome, NULL, NULL), 0);
    janus_gateway_expect(&gateway, "ping",
                         "{'janus':'error','transaction':'%','error':{'code':403,'reason':'No'}}",
                         NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, VOUCH_JANUS_ERROR_UNAUTHORIZED);
    cr_assert_str_eq(outcome.text, "No");
    cr_assert_eq(call(&outcome, NULL, NULL), 0);
    janus_gateway_expect(&gateway, "ping", "{'janus':'error','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, VOUCH_JANUS_ERROR_UNKNOWN);
    cr_assert_str_eq(outcome.text, "unknown error of the gateway");
    cr_assert_eq(stats().gateway_errors, 2);
    end();
}

Test(janus_call, answers_in_any_order) {
    struct janus_outcome outcomes[20];
    char transactions[20][64];
    begin(NULL);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(call(&outcomes[i], NULL, NULL), 0);
    for (int i = 0; i < 20; i++)
        janus_gateway_expect(&gateway, "ping", NULL, transactions[i]);
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < i; j++)
            cr_assert_str_neq(transactions[i], transactions[j]);
    for (int i = 19; i >= 0; i--) {
        janus_gateway_say(&gateway, transactions[i], "{'janus':'pong','transaction':'%'}");
        janus_wait_for(janus, &outcomes[i].callbacks, 1);
        cr_assert_eq(outcomes[i].result, 0);
    }
    end();
    for (int i = 0; i < 20; i++)
        cr_assert_eq(outcomes[i].callbacks, 1);
}

Test(janus_call, a_deadline_and_an_answer_after_it) {
    struct janus_outcome outcome, passed;
    char transaction[64];
    struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    begin(NULL);
    cr_assert_eq(call(&outcome, &soon, NULL), 0);
    janus_gateway_expect(&gateway, "ping", NULL, transaction);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -ETIMEDOUT);
    cr_assert_str_eq(outcome.text, "no answer before the deadline");
    janus_gateway_say(&gateway, transaction, "{'janus':'pong','transaction':'%'}");
    soon = (struct vouch_call_options){VOUCH_OPTIONS(soon), .deadline = 1};
    cr_assert_eq(call(&passed, &soon, NULL), -ETIMEDOUT);
    while (stats().unknown_replies == 0)
        cr_assert_geq(vouch_janus_process(janus), 0);
    cr_assert_eq(stats().local_errors, 1);
    end();
    cr_assert_eq(outcome.callbacks, 1);
    cr_assert_eq(passed.callbacks, 0);
}

Test(janus_call, the_connections_own_timeout) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .call_timeout = VOUCH_MILLISECONDS(10)};
    struct vouch_error error;
    begin(&options);
    cr_assert_eq(vouch_janus_ping(janus, NULL, &error), -ETIMEDOUT);
    cr_assert_eq(error.code, -ETIMEDOUT);
    end();
}

Test(janus_call, cancelled) {
    struct janus_outcome outcomes[5];
    uint64_t id;
    const struct vouch_call_options tag = {VOUCH_OPTIONS(tag), .tag = 7};
    begin(NULL);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(call(&outcomes[i], &tag, NULL), 0);
    cr_assert_eq(call(&outcomes[3], NULL, &id), 0);
    cr_assert_eq(call(&outcomes[4], NULL, NULL), 0);
    cr_assert_eq(vouch_janus_cancel(janus, 0), 0);
    cr_assert_eq(vouch_janus_cancel(janus, 8), 0);
    cr_assert_eq(vouch_janus_cancel(janus, 7), 3);
    cr_assert_eq(vouch_janus_cancel(janus, 7), 0);
    cr_assert_eq(vouch_janus_cancel_id(janus, id), 0);
    cr_assert_eq(vouch_janus_cancel_id(janus, id), -ENOENT);
    cr_assert_eq(vouch_janus_cancel_id(janus, 0), -ENOENT);
    janus_wait_for(janus, &outcomes[3].callbacks, 1);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(outcomes[i].callbacks, 1);
        cr_assert_eq(outcomes[i].result, -ECANCELED);
    }
    cr_assert_eq(outcomes[4].callbacks, 0);
    end();
    cr_assert_eq(outcomes[4].callbacks, 1);
    cr_assert_eq(outcomes[4].result, -ESHUTDOWN);
}

/* Half of as many as there can be, and those that are looked at last. */
Test(janus_call, cancelling_many_of_many) {
    const unsigned half = VOUCH_TEST_ROUNDS(VOUCH_JANUS_CALLS_BOUND / 2, 1000);
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .max_calls = VOUCH_JANUS_CALLS_BOUND,
                                                .output_max = (size_t)1 << 30};
    static struct janus_outcome outcome;
    struct vouch_call_options tagged = {VOUCH_OPTIONS(tagged), .timeout = VOUCH_FOREVER, .tag = 1};
    begin(&options);
    for (unsigned i = 0; i < half; i++)
        cr_assert_eq(call(&outcome, &tagged, NULL), 0);
    tagged.tag = 2;
    for (unsigned i = 0; i < half; i++)
        cr_assert_eq(call(&outcome, &tagged, NULL), 0);
    int64_t before = vouch_now();
    cr_assert_eq(vouch_janus_cancel(janus, 1), half);
    cr_assert_lt(vouch_now() - before, VOUCH_SECONDS(15));
    end();
    cr_assert_eq(outcome.callbacks, 2 * half);
}

/* What the socket does not take waits, up to output_max. */
Test(janus_call, a_gateway_that_does_not_read) {
    enum { CALLS = 400 };
    static struct janus_outcome outcomes[CALLS];
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .output_max = 20000};
    char pad[1024];
    unsigned made = 0;
    begin(&options);
    memset(pad, 'x', sizeof(pad) - 1);
    pad[sizeof(pad) - 1] = '\0';
    cJSON *more = cJSON_CreateObject();
    cJSON_AddStringToObject(more, "pad", pad);
    struct vouch_janus_request large = {VOUCH_OPTIONS(large), .verb = VOUCH_JANUS_DO_PING,
                                        .more = more};
    int result = 0;
    while (made < CALLS && result == 0) {
        outcomes[made] = (struct janus_outcome){0};
        result = vouch_janus_call_async(janus, &large, NULL, janus_outcome_callback,
                                        &outcomes[made], NULL);
        made += result == 0;
    }
    cr_assert_eq(result, -EAGAIN);
    cr_assert_gt(made, 20);
    for (unsigned i = 0; i < made; i++) {
        cr_assert_geq(vouch_janus_process(janus), 0); /* sends what there is room for */
        janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    }
    for (unsigned i = 0; i < made; i++) {
        janus_wait_for(janus, &outcomes[i].callbacks, 1);
        cr_assert_eq(outcomes[i].result, 0);
    }
    cJSON_Delete(more);
    end();
}

/* The texts of calls that have ended don't stay with one that waits to be sent. */
Test(janus_call, a_gateway_that_does_not_read_and_calls_that_give_up) {
    enum { CALLS = 400, SIZE = 10000 };
    static struct janus_outcome outcome;
    struct support_allocator memory;
    char pad[SIZE];
    support_allocator_init(&memory);
    const struct vouch_janus_options options = {
        VOUCH_OPTIONS(options), .allocator = &memory.allocator, .output_max = (size_t)4 * SIZE};
    begin(&options);
    memset(pad, 'x', sizeof(pad) - 1);
    pad[sizeof(pad) - 1] = '\0';
    cJSON *more = cJSON_CreateObject();
    cJSON_AddStringToObject(more, "pad", pad);
    struct vouch_janus_request large = {VOUCH_OPTIONS(large), .verb = VOUCH_JANUS_DO_PING,
                                        .more = more};
    const struct vouch_call_options patient = {VOUCH_OPTIONS(patient), .timeout = VOUCH_FOREVER},
                                    hasty = {VOUCH_OPTIONS(hasty),
                                             .timeout = VOUCH_MILLISECONDS(1)};
    while (vouch_janus_call_async(janus, &large, &patient, janus_outcome_callback, &outcome,
                                  NULL) == 0)
        ;
    uint64_t before = memory.live_bytes;
    for (int i = 0; i < CALLS; i++)
        cr_assert_eq(vouch_janus_call(janus, &large, &hasty, NULL, NULL), -ETIMEDOUT);
    cr_assert_lt(memory.live_bytes, before + (uint64_t)100 * SIZE);
    cJSON_Delete(more);
    end();
    support_allocator_check(&memory);
}
