/* SPDX-License-Identifier: MIT */
/* What the gateway says, as it is read: every kind, wrong types, hostile texts, no memory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/janus_message.h"
#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/support.h"

static struct vouch_pool *pool;

static void begin(void) {
    support_baseline_begin();
    json_memory_begin();
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
}

static void end(void) {
    vouch_pool_unref(pool);
    json_memory_end();
    support_baseline_end();
}

static struct janus_message *parse(const char *text) {
    struct janus_message *message;
    struct vouch_error error = {.code = 0};
    cr_assert_eq(janus_message_parse(text, strlen(text), pool, &message, &error), 0, "%s",
                 error.message);
    return message;
}

static void refuse(const char *text, size_t size, const char *why) {
    struct janus_message *message;
    struct vouch_error error = {.code = 0};
    cr_assert_eq(janus_message_parse(text, size, pool, &message, &error), -EPROTO);
    cr_assert_eq(error.code, -EPROTO);
    if (why)
        cr_assert_str_eq(error.message, why);
}

Test(janus_message, every_kind) {
    static const char *const names[] = {[VOUCH_JANUS_OTHER] = "something new",
                                        [VOUCH_JANUS_SUCCESS] = "success",
                                        [VOUCH_JANUS_ERROR] = "error",
                                        [VOUCH_JANUS_ACK] = "ack",
                                        [VOUCH_JANUS_PONG] = "pong",
                                        [VOUCH_JANUS_SERVER_INFO] = "server_info",
                                        [VOUCH_JANUS_EVENT] = "event",
                                        [VOUCH_JANUS_WEBRTCUP] = "webrtcup",
                                        [VOUCH_JANUS_MEDIA] = "media",
                                        [VOUCH_JANUS_SLOWLINK] = "slowlink",
                                        [VOUCH_JANUS_HANGUP] = "hangup",
                                        [VOUCH_JANUS_DETACHED] = "detached",
                                        [VOUCH_JANUS_TIMEOUT] = "timeout",
                                        [VOUCH_JANUS_TRICKLE] = "trickle",
                                        [VOUCH_JANUS_ICE_FAILED] = "ice-failed"};
    begin();
    for (int kind = 0; kind <= VOUCH_JANUS_ICE_FAILED; kind++) {
        char text[64];
        snprintf(text, sizeof(text), "{\"janus\":\"%s\"}", names[kind]);
        struct janus_message *m = parse(text);
        cr_assert_eq(m->seen.kind, (enum vouch_janus_kind)kind);
        cr_assert_str_eq(m->seen.name, names[kind]);
        json_check_print(m->seen.tree, text);
        janus_message_free(m);
    }
    janus_message_free(NULL);
    vouch_janus_message_free(NULL);
    end();
}

Test(janus_message, an_event) {
    begin();
    struct janus_message *m =
        parse("{\"janus\":\"event\",\"session_id\":9007199254740991,\"transaction\":\"t\","
              "\"sender\":1000000000000000,\"plugindata\":{\"plugin\":\"p\",\"data\":{\"a\":1,"
              "\"error_code\":412,\"error\":\"no\"}},\"jsep\":{\"type\":\"answer\"}}");
    cr_assert_eq(m->seen.session_id, VOUCH_JANUS_ID_MAX);
    cr_assert_eq(m->seen.handle_id, UINT64_C(1000000000000000));
    cr_assert_str_eq(m->seen.transaction, "t");
    cr_assert_str_eq(m->seen.plugin, "p");
    json_check_print(m->seen.data, "{\"a\":1,\"error_code\":412,\"error\":\"no\"}");
    json_check_print(m->seen.jsep, "{\"type\":\"answer\"}");
    cr_assert_eq(m->seen.plugin_error_code, 412);
    cr_assert_str_eq(m->seen.plugin_error, "no");
    cr_assert_eq(m->seen.id, 0);
    cr_assert_gt(m->cost, 200);
    janus_message_free(m);
    end();
}

Test(janus_message, the_others) {
    begin();
    struct janus_message *m = parse("{\"janus\":\"success\",\"data\":{\"id\":77}}");
    cr_assert_eq(m->seen.id, 77);
    json_check_print(m->seen.data, "{\"id\":77}");
    janus_message_free(m);
    m = parse("{\"janus\":\"error\",\"error\":{\"code\":458,\"reason\":\"gone\"}}");
    cr_assert_eq(m->seen.error_code, 458);
    cr_assert_str_eq(m->seen.error_reason, "gone");
    janus_message_free(m);
    m = parse("{\"janus\":\"media\",\"type\":\"audio\",\"mid\":\"0\",\"receiving\":true}");
    cr_assert_str_eq(m->seen.media, "audio");
    cr_assert_str_eq(m->seen.mid, "0");
    cr_assert(m->seen.receiving);
    janus_message_free(m);
    m = parse("{\"janus\":\"slowlink\",\"media\":\"video\",\"uplink\":true,\"lost\":12}");
    cr_assert_str_eq(m->seen.media, "video");
    cr_assert(m->seen.uplink);
    cr_assert_eq(m->seen.lost, 12);
    janus_message_free(m);
    m = parse("{\"janus\":\"hangup\",\"reason\":\"DTLS alert\"}");
    cr_assert_str_eq(m->seen.reason, "DTLS alert");
    janus_message_free(m);
    m = parse("{\"janus\":\"trickle\",\"candidate\":{\"completed\":true}}");
    json_check_print(m->seen.candidate, "{\"completed\":true}");
    janus_message_free(m);
    end();
}

/* An error always has a code > 0: that is how it is told from success. */
Test(janus_message, codes_that_are_none) {
    static const char *const codes[] = {
        "0", "-1", "2147483648", "1.5", "\"458\"", "null", "1e99", "{}", "9223372036854775808"};
    begin();
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"janus\":\"error\",\"error\":{\"code\":%s}}", codes[i]);
        struct janus_message *m = parse(text);
        cr_assert_eq(m->seen.error_code, VOUCH_JANUS_ERROR_UNKNOWN, "%s", codes[i]);
        janus_message_free(m);
    }
    struct janus_message *m = parse("{\"janus\":\"error\",\"error\":{\"code\":2147483647}}");
    cr_assert_eq(m->seen.error_code, 2147483647);
    janus_message_free(m);
    m = parse("{\"janus\":\"error\"}");
    cr_assert_eq(m->seen.error_code, VOUCH_JANUS_ERROR_UNKNOWN);
    cr_assert_null(m->seen.error_reason);
    janus_message_free(m);
    end();
}

Test(janus_message, ids_that_are_none) {
    static const char *const ids[] = {
        "0",   "-1",   "9007199254740992", "18446744073709551616", "1.5", "\"7\"", "true",
        "[7]", "1e300"};
    begin();
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text),
                 "{\"janus\":\"success\",\"session_id\":%s,\"sender\":%s,\"data\":{\"id\":%s}}",
                 ids[i], ids[i], ids[i]);
        struct janus_message *m = parse(text);
        cr_assert_eq(m->seen.session_id, 0, "%s", ids[i]);
        cr_assert_eq(m->seen.handle_id, 0);
        cr_assert_eq(m->seen.id, 0);
        janus_message_free(m);
    }
    end();
}

Test(janus_message, members_of_other_types_are_not_there) {
    begin();
    struct janus_message *m =
        parse("{\"janus\":\"event\",\"transaction\":7,\"plugindata\":[],\"jsep\":\"x\",\"mid\":1,"
              "\"type\":1,\"reason\":{},\"candidate\":[],\"receiving\":\"yes\",\"lost\":\"1\","
              "\"error\":\"x\"}");
    const struct vouch_janus_message *s = &m->seen;
    cr_assert(!s->transaction && !s->plugin && !s->data && !s->jsep && !s->mid && !s->media);
    cr_assert(!s->reason && !s->candidate && !s->receiving && !s->error_reason);
    cr_assert_eq(s->lost, 0);
    cr_assert_eq(s->error_code, 0);
    janus_message_free(m);
    end();
}

Test(janus_message, what_is_none) {
    char deep[256] = "{\"janus\":\"event\",\"a\":";
    begin();
    for (size_t i = 0; i < json_refused_count; i++)
        refuse(json_refused[i].text, json_refused[i].size, NULL);
    refuse("", 0, NULL);
    refuse("{}", 2, "a message without \"janus\"");
    refuse("[]", 2, "a message without \"janus\"");
    refuse("7", 1, "a message without \"janus\"");
    refuse("{\"janus\":7}", 11, "a message without \"janus\"");
    refuse("{\"Janus\":\"ack\"}", 15, "a message without \"janus\"");
    size_t used = strlen(deep);
    memset(deep + used, '[', JANUS_DEPTH_MAX - 1);
    memset(deep + used + JANUS_DEPTH_MAX - 1, ']', JANUS_DEPTH_MAX - 1);
    strcpy(deep + used + 2 * (JANUS_DEPTH_MAX - 1), "}");
    janus_message_free(parse(deep));
    memset(deep + used, '[', JANUS_DEPTH_MAX);
    memset(deep + used + JANUS_DEPTH_MAX, ']', JANUS_DEPTH_MAX);
    strcpy(deep + used + 2 * JANUS_DEPTH_MAX, "}");
    refuse(deep, strlen(deep), NULL);
    end();
}

Test(janus_message, without_memory) {
    const char *text = "{\"janus\":\"event\",\"sender\":9007199254740991}";
    struct janus_message *message;
    struct support_allocator allocator;
    begin();
    for (uint64_t call = 1;; call++) {
        json_memory_fail(call);
        int result = janus_message_parse(text, strlen(text), pool, &message, NULL);
        if (result == 0) {
            cr_assert_gt(call, 3);
            janus_message_free(message);
            break;
        }
        cr_assert_eq(result, -ENOMEM);
    }
    json_memory_fail(0);
    support_allocator_init(&allocator);
    const struct vouch_pool_options options = {VOUCH_OPTIONS(options),
                                               .allocator = &allocator.allocator};
    struct vouch_pool *failing;
    cr_assert_eq(vouch_pool_new(&options, &failing), 0);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    cr_assert_eq(janus_message_parse(text, strlen(text), failing, &message, NULL), -ENOMEM);
    vouch_pool_unref(failing);
    support_allocator_check(&allocator);
    end();
}
