/* SPDX-License-Identifier: MIT */
/* How calls begin, and do not: limits, what is wrong, no memory. */
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

/* The places are those of calls whose callback has not run, too. */
Test(janus_start, as_many_as_the_limit) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .max_calls = 3};
    struct janus_outcome outcomes[4];
    struct vouch_error error;
    begin(&options);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(call(&outcomes[i], NULL, NULL), 0);
    cr_assert_eq(call(&outcomes[3], NULL, NULL), -EBUSY);
    cr_assert_eq(vouch_janus_ping(janus, NULL, &error), -EBUSY);
    cr_assert_str_eq(error.message, "3 calls are in flight");
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcomes[0].callbacks, 1);
    cr_assert_eq(call(&outcomes[3], NULL, NULL), 0);
    end();
    for (int i = 0; i < 4; i++)
        cr_assert_eq(outcomes[i].callbacks, 1);
}

Test(janus_start, larger_than_a_limit) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .max_message = 1000};
    struct vouch_error error;
    char pad[1000];
    begin(&options);
    memset(pad, 'x', sizeof(pad) - 1);
    pad[sizeof(pad) - 1] = '\0';
    cJSON *more = cJSON_CreateObject();
    cJSON_AddStringToObject(more, "pad", pad);
    struct vouch_janus_request large = {VOUCH_OPTIONS(large), .verb = VOUCH_JANUS_DO_PING,
                                        .more = more};
    cr_assert_eq(vouch_janus_call(janus, &large, NULL, NULL, &error), -EMSGSIZE);
    cr_assert_str_eq(error.message, "ping: the request is larger than 1000 bytes");
    cJSON_Delete(more);
    cr_assert_eq(stats().calls, 0);
    end();
}

Test(janus_start, what_is_wrong_with_a_call) {
    struct janus_outcome outcome = {0};
    struct vouch_error error;
    begin(NULL);
    const struct vouch_janus_request none = {.verb = 0};
    cr_assert_eq(vouch_janus_call_async(janus, NULL, NULL, janus_outcome_callback, NULL, NULL),
                 -EINVAL);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, NULL, NULL, NULL), -EINVAL);
    cr_assert_eq(vouch_janus_call_async(janus, &none, NULL, janus_outcome_callback, &outcome, NULL),
                 -EINVAL);
    cr_assert_eq(vouch_janus_call(janus, NULL, NULL, NULL, &error), -EINVAL);
    cr_assert_eq(vouch_janus_call(janus, &none, NULL, NULL, &error), -EINVAL);
    cr_assert_str_eq(error.message, "there is no verb 0");
    end();
}

/* Whatever allocation fails, a call begins well or not at all, and nothing leaks. */
Test(janus_start, without_memory) {
    struct support_allocator allocator;
    struct janus_outcome outcome, second;
    support_allocator_init(&allocator);
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .allocator = &allocator.allocator};
    begin(&options);
    unsigned begun = 0, refused = 0;
    for (uint64_t i = 1; i < 12 && begun == 0; i++) {
        support_allocator_fail(&allocator, i, SUPPORT_FAIL_ALWAYS);
        int result = call(&outcome, NULL, NULL);
        cr_assert(result == 0 || result == -ENOMEM);
        begun += result == 0;
        refused += result != 0;
    }
    support_allocator_fail(&allocator, 0, 0);
    cr_assert_eq(begun, 1);
    for (uint64_t i = 1; i < 20; i++) {
        json_memory_fail(i);
        int result = call(&second, NULL, NULL);
        cr_assert(result == 0 || result == -ENOMEM);
        refused += result != 0;
        if (result == 0)
            break;
    }
    json_memory_fail(0);
    cr_assert_gt(refused, 2);
    end();
    cr_assert_eq(outcome.callbacks, 1);
    cr_assert_eq(second.callbacks, 1);
    support_allocator_check(&allocator);
}
