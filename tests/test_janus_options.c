/* SPDX-License-Identifier: MIT */
/* Options: their ranges, and what of them is copied. */
#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;

static void begin(void) {
    janus_gateway_begin(&gateway);
}

static void end(void) {
    janus_gateway_end(&gateway);
}

Test(janus_options, options_out_of_their_range) {
    struct vouch_janus *janus;
    struct vouch_error error;
    const char *many[VOUCH_JANUS_ADDRESSES_MAX + 1];
    begin();
    for (size_t i = 0; i <= VOUCH_JANUS_ADDRESSES_MAX; i++)
        many[i] = gateway.address;
    cr_assert_eq(vouch_janus_connect(NULL, 1, NULL, &janus, &error), -EINVAL);
    cr_assert_eq(vouch_janus_connect(many, 0, NULL, &janus, &error), -EINVAL);
    cr_assert_eq(vouch_janus_connect(many, VOUCH_JANUS_ADDRESSES_MAX + 1, NULL, &janus, &error),
                 -EINVAL);
    cr_assert_str_eq(error.message, "there have to be 1 to 16 addresses");
    const char *bad[] = {gateway.address, "http://x"};
    cr_assert_eq(vouch_janus_connect(bad, 2, NULL, &janus, &error), -EINVAL);
    cr_assert(strstr(error.message, "'http://x'"));
    const struct vouch_janus_options wrong[] = {
        {.connect_timeout = -1},
        {.retry_pause = -1},
        {.connect_total_timeout = -1},
        {.call_timeout = -1},
        {.keepalive_interval = -1},
        {.answer_timeout = -1},
        {.max_calls = VOUCH_JANUS_CALLS_BOUND + 1},
        {.max_events = VOUCH_JANUS_EVENTS_BOUND + 1},
        {.max_message = VOUCH_JANUS_MESSAGE_BOUND + 1},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        cr_assert_eq(vouch_janus_connect(many, 1, &wrong[i], &janus, &error), -EINVAL, "%zu", i);
    cr_assert_eq(vouch_janus_connect(many, VOUCH_JANUS_ADDRESSES_MAX, NULL, &janus, NULL), 0);
    vouch_janus_free(janus);
    const struct vouch_janus_options bounds = {.max_calls = VOUCH_JANUS_CALLS_BOUND,
                                               .max_events = VOUCH_JANUS_EVENTS_BOUND};
    cr_assert_eq(vouch_janus_connect(many, 1, &bounds, &janus, NULL), 0);
    vouch_janus_free(janus);
    end();
}

Test(janus_options, a_gateway_of_somebody_else) {
    const struct vouch_rule nobody = {VOUCH_ALLOW, VOUCH_SUBJECT_UID, 4000000000u};
    const struct vouch_policy policy = {&nobody, 1};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .server = &policy};
    const char *addresses[1];
    struct vouch_janus *janus;
    begin();
    addresses[0] = gateway.address;
    cr_assert_eq(vouch_janus_connect(addresses, 1, &options, &janus, NULL), VOUCH_E_PEER_REFUSED);
    end();
}

Test(janus_options, secrets_are_sent_and_were_copied) {
    char secret[] = "sesame", token[] = "tok";
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .api_secret = secret,
                                                .token = token};
    struct janus_outcome outcome = {0};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    begin();
    struct vouch_janus *janus = janus_gateway_client(&gateway, &options);
    memset(secret, 'x', 6);
    memset(token, 'x', 3);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    cJSON *request = janus_gateway_read(&gateway);
    cr_assert_str_eq(cJSON_GetObjectItem(request, "apisecret")->valuestring, "sesame");
    cr_assert_str_eq(cJSON_GetObjectItem(request, "token")->valuestring, "tok");
    cJSON_Delete(request);
    vouch_janus_free(janus);
    end();
}
