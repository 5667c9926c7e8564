/* SPDX-License-Identifier: MIT */
/* What a connection is made with: options complete and in their ranges, and copies of what they
 * point to. */
#include <errno.h>
#include <string.h>

#include "lib/options.h"
#include "rpc/janus.h"

int janus_options_read(const struct vouch_janus_options *options,
                       struct vouch_janus_options *ret_set, struct vouch_error *ret_error) {
    struct vouch_janus_options set = {0};
    OPTIONS_READ(set, options);
    if (set.connect_timeout < 0 || set.retry_pause < 0 || set.connect_total_timeout < 0 ||
        set.call_timeout < 0 || set.keepalive_interval < 0 || set.answer_timeout < 0)
        return janus_fail(ret_error, -EINVAL, "a time in the options is negative");
    set.connect_timeout = options_time(set.connect_timeout, VOUCH_SECONDS(10));
    set.retry_pause = options_time(set.retry_pause, VOUCH_SECONDS(1));
    set.connect_total_timeout = options_time(set.connect_total_timeout, VOUCH_FOREVER);
    set.call_timeout = options_time(set.call_timeout, VOUCH_CALL_TIMEOUT_DEFAULT);
    set.keepalive_interval = options_time(set.keepalive_interval, VOUCH_JANUS_KEEPALIVE_DEFAULT);
    set.answer_timeout = options_time(set.answer_timeout, VOUCH_JANUS_ANSWER_DEFAULT);
    set.max_calls = set.max_calls ? set.max_calls : VOUCH_JANUS_CALLS_DEFAULT;
    set.max_events = set.max_events ? set.max_events : VOUCH_JANUS_EVENTS_DEFAULT;
    set.max_message = options_size(set.max_message, VOUCH_JANUS_MESSAGE_DEFAULT);
    set.event_bytes = options_size(set.event_bytes, VOUCH_JANUS_EVENT_BYTES_DEFAULT);
    set.output_max = options_size(set.output_max, VOUCH_JANUS_OUTPUT_DEFAULT);
    if (set.max_calls > VOUCH_JANUS_CALLS_BOUND || set.max_events > VOUCH_JANUS_EVENTS_BOUND ||
        set.max_message > VOUCH_JANUS_MESSAGE_BOUND)
        return janus_fail(ret_error, -EINVAL, "a limit in the options is over its bound");
    *ret_set = set;
    return 0;
}

static int keep_text(struct vouch_pool *pool, const char **text, struct vouch_buffer **ret_kept) {
    if (!*text)
        return 0;
    size_t size = strlen(*text) + 1;
    int result = vouch_pool_get(pool, 0, size, ret_kept);
    if (result < 0)
        return result;
    memcpy((*ret_kept)->data, *text, size);
    *text = (const char *)(*ret_kept)->data;
    return 0;
}

static int keep_policy(struct vouch_janus *janus) {
    const struct vouch_policy *from = janus->options.server;
    struct vouch_policy *policy;
    size_t rules = from->rule_count * sizeof(struct vouch_rule);
    if (from->rule_count > VOUCH_POLICY_RULES_MAX)
        return -EINVAL;
    int result = vouch_pool_get(janus->pool, 0, sizeof(*policy) + rules, &janus->policy);
    if (result < 0)
        return result;
    policy = (void *)janus->policy->data;
    *policy = (struct vouch_policy){(void *)(policy + 1), from->rule_count};
    if (rules > 0)
        memcpy(policy + 1, from->rules, rules);
    janus->options.server = policy;
    return 0;
}

int janus_options_keep(struct vouch_janus *janus) {
    const char **texts[] = {&janus->options.api_secret, &janus->options.token,
                            &janus->options.datagram_directory};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        int result = keep_text(janus->pool, texts[i], &janus->texts[i]);
        if (result < 0)
            return result;
    }
    return janus->options.server ? keep_policy(janus) : 0;
}

int janus_addresses_keep(struct vouch_janus *janus, const char *const *addresses, size_t count,
                         struct vouch_error *ret_error) {
    janus->addresses =
        janus_alloc(janus->pool, count * sizeof(struct janus_address), &janus->address_memory);
    if (!janus->addresses)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int result = janus_address_parse(addresses[i], &janus->addresses[i], ret_error);
        if (result < 0)
            return result;
        if (!janus_link_ops_of(&janus->addresses[i]))
            return janus_fail(ret_error, -ENOTSUP, "address '%.200s': built without libwebsockets",
                              addresses[i]);
    }
    janus->address_count = count;
    return 0;
}

void janus_options_drop(struct vouch_janus *janus) {
    for (size_t i = 0; i < sizeof(janus->texts) / sizeof(janus->texts[0]); i++)
        vouch_buffer_unref(janus->texts[i]);
    vouch_buffer_unref(janus->policy);
    vouch_buffer_unref(janus->address_memory);
}
