/* SPDX-License-Identifier: MIT */
/* Lines of the pixl dialect: which are messages, and what is in them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/pixl.h"
#include "tests/harness.h"

/* A copy of a line, so that nothing is read behind it or written into a constant. */
static uint8_t *copy_of(const char *line, size_t size) {
    uint8_t *bytes = malloc(size ? size : 1);
    cr_assert_not_null(bytes);
    if (size > 0)
        memcpy(bytes, line, size);
    return bytes;
}

static bool is(const void *at, size_t size, const char *expected) {
    return size == strlen(expected) && memcmp(at, expected, size) == 0;
}

#define ASSERT_IS(At, Size, Expected)                                                              \
    cr_assert(is(At, Size, Expected), "%.*s instead of %s", (int)(Size), (const char *)(At),       \
              Expected)

/* ---- calls ---- */

static void check_call(const char *line, const char *uri, const char *id, const char *data) {
    struct vouch_message m;
    uint8_t *bytes = copy_of(line, strlen(line));
    cr_assert(pixl_line_call(bytes, strlen(line), 0, &m), "%s", line);
    cr_assert_eq(m.kind, VOUCH_MESSAGE_CALL);
    cr_assert_eq(m.result, 0, "%s: %.*s", line, (int)m.text_size, m.text);
    ASSERT_IS(m.target, m.target_size, uri);
    ASSERT_IS(m.tag, m.tag_size, id);
    ASSERT_IS(m.data, m.size, data);
    free(bytes);
}

static void check_refused(const char *line, int result, const char *text, const char *id) {
    struct vouch_message m;
    uint8_t *bytes = copy_of(line, strlen(line));
    cr_assert(pixl_line_call(bytes, strlen(line), 0, &m), "%s", line);
    cr_assert_eq(m.result, result, "%s: %d", line, m.result);
    ASSERT_IS(m.text, m.text_size, text);
    ASSERT_IS(m.tag, m.tag_size, id);
    free(bytes);
}

static void check_skipped(const char *line) {
    struct vouch_message m;
    uint8_t *bytes = copy_of(line, strlen(line));
    cr_assert_not(pixl_line_call(bytes, strlen(line), 0, &m), "%s", line);
    cr_assert_not(pixl_line_reply(bytes, strlen(line), &m), "%s", line);
    free(bytes);
}

Test(pixl_line, members_in_any_order) {
    check_call("{\"ipcReqID\":\"rq0\",\"uri\":\"/myapi/test\",\"data\":{\"a\":[1]},\"pid\":1}",
               "/myapi/test", "\"rq0\"", "{\"a\":[1]}");
    check_call(" \t\r{ \"data\" : [ {} , \"}\" ] , \"uri\" : \"/x\" , \"ipcReqID\" : 7 } \r", "/x",
               "7", "[ {} , \"}\" ]");
    check_call("{\"pid\":{\"uri\":\"/no\"},\"uri\":\"/x\"}", "/x", "null", "null");
    check_call("{\"uri\":\"/x\",\"data\":\"\\\\\\\"}\"}", "/x", "null", "\"\\\\\\\"}\"");
}

Test(pixl_line, ids_of_all_kinds_are_kept_as_they_are) {
    static const char *const ids[] = {
        "null",        "true",         "false",           "0",
        "-1.50e+3",    "\"\"",         "\"r\\u0071\\/\"", "[1, {\"a\": 2}]",
        "{\"b\" :{}}", "\"\xc3\xa9\"", "9007199254740993"};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char line[256];
        snprintf(line, sizeof(line), "{\"ipcReqID\":%s,\"uri\":\"/x\"}", ids[i]);
        check_call(line, "/x", ids[i], "null");
        snprintf(line, sizeof(line), "{\"uri\":\"/x\",\"ipcReqID\": %s }", ids[i]);
        check_call(line, "/x", ids[i], "null");
    }
}

Test(pixl_line, the_last_of_a_key_counts_however_it_is_spelled) {
    check_call("{\"uri\":\"/a\",\"uri\":\"/b\"}", "/b", "null", "null");
    check_call("{\"uri\":1,\"\\u0075\\u0072\\u0069\":\"/b\",\"d\\u0061ta\":2}", "/b", "null", "2");
    check_call("{\"\\u0069\\u0070\\u0063\\u0052\\u0065\\u0071\\u0049\\u0044\":1,\"uri\":\"/b\"}",
               "/b", "1", "null");
    check_call("{\"ipcReqID\":1,\"ipcReqID\":2,\"uri\":\"/b\",\"ipcReqId\":3}", "/b", "2", "null");
    check_refused("{\"uri\":\"/a\",\"uri\":null}", VOUCH_REMOTE_BAD_DATA, "The request has no uri",
                  "null");
}

Test(pixl_line, a_uri_is_what_it_says) {
    check_call("{\"uri\":\"\\/a\\\"\\\\\\b\\f\\n\\r\\t\\u00e9\\u20ac\\ud83d\\ude00\"}",
               "/a\"\\\b\f\n\r\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "null", "null");
}

Test(pixl_line, without_a_uri) {
    static const char *const uris[] = {"1", "null", "\"\"", "{\"uri\":\"/x\"}", "[\"/x\"]", "true"};
    check_refused("{}", VOUCH_REMOTE_BAD_DATA, "The request has no uri", "null");
    check_refused("{\"ipcReqID\":\"a\"}", VOUCH_REMOTE_BAD_DATA, "The request has no uri", "\"a\"");
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "{\"ipcReqID\":5,\"uri\":%s}", uris[i]);
        check_refused(line, VOUCH_REMOTE_BAD_DATA, "The request has no uri", "5");
    }
}

Test(pixl_line, limits_of_uri_and_id) {
    char line[1024], uri[VOUCH_PIXL_URI_MAX + 2], id[VOUCH_PIXL_ID_MAX + 2];
    memset(uri, 'u', sizeof(uri));
    uri[VOUCH_PIXL_URI_MAX] = '\0';
    snprintf(line, sizeof(line), "{\"uri\":\"%s\"}", uri);
    check_call(line, uri, "null", "null");
    snprintf(line, sizeof(line), "{\"ipcReqID\":1,\"uri\":\"%su\"}", uri);
    check_refused(line, VOUCH_REMOTE_TOO_LARGE, "the uri is too long", "1");

    memset(id, 'i', sizeof(id));
    id[0] = id[VOUCH_PIXL_ID_MAX - 1] = '"';
    id[VOUCH_PIXL_ID_MAX] = '\0';
    snprintf(line, sizeof(line), "{\"ipcReqID\":%s,\"uri\":\"/x\"}", id);
    check_call(line, "/x", id, "null");
    id[VOUCH_PIXL_ID_MAX - 1] = 'i';
    snprintf(line, sizeof(line), "{\"ipcReqID\":%s\",\"uri\":\"/x\"}", id);
    check_refused(line, VOUCH_REMOTE_TOO_LARGE, "the ipcReqID is too long", "null");
}

Test(pixl_line, both_too_long_is_one_error) {
    char line[1024], text[2 * VOUCH_PIXL_ID_MAX];
    memset(text, 't', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    snprintf(line, sizeof(line), "{\"uri\":\"%.300s\",\"ipcReqID\":\"%.300s\"}", text, text);
    check_refused(line, VOUCH_REMOTE_TOO_LARGE, "the ipcReqID is too long", "null");
}

Test(pixl_line, long_keys_mean_nothing) {
    char line[1024], key[400];
    memset(key, 'k', sizeof(key));
    key[sizeof(key) - 1] = '\0';
    snprintf(line, sizeof(line), "{\"%s\":1,\"uri\":\"/x\",\"%s\":2}", key, key);
    check_call(line, "/x", "null", "null");
}

Test(pixl_line, other_text_is_skipped) {
    static const char *const lines[] = {
        "",     " ",      "\r",   "hello",          "[{\"uri\":\"/x\"}]",
        "null", "\"{}\"", "\v{}", "\xef\xbb\xbf{}", "}"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        check_skipped(lines[i]);
}

/* Who waits for an answer, and can be told from the line, is told what is wrong with it. */
Test(pixl_line, what_is_not_json) {
    static const char *const hopeless[] = {
        "{",
        "{\"uri\":\"/x\"",                  /* no id */
        "{\"ipcReqID\":1,",                 /* no uri */
        "{\"ipcReqID\":01,\"uri\":\"/x\"}", /* an id that can't be repeated */
        "{\"ipcReqID\":\"\xff\",\"uri\":\"/x\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\xff\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\\u0000\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\\ud800\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\\ud800\\u0041\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\\udc00\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\\x\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\\u00g0\"}",
        "{\"ipcReqID\":1,\"uri\":\"/\\u00",
        "{\"ipcReqID\":1,\"uri\":\"/\\u00\"}",
        "{'uri':'/x'}",
        "{\"ipcReqID\" 1,\"uri\":\"/x\"}",
        "{]",
    };
    for (size_t i = 0; i < sizeof(hopeless) / sizeof(hopeless[0]); i++) {
        struct vouch_message m;
        size_t size = strlen(hopeless[i]);
        uint8_t *bytes = copy_of(hopeless[i], size);
        cr_assert_not(pixl_line_call(bytes, size, 0, &m), "%s", hopeless[i]);
        free(bytes);
    }
    check_refused("{\"ipcReqID\":\"a\",\"uri\":\"/x\",\"data\":{", VOUCH_REMOTE_BAD_DATA,
                  "no key where one has to be", "\"a\"");
    check_refused("{\"ipcReqID\":3,\"uri\":\"/x\",\"data\":\"\\ud800\"}", VOUCH_REMOTE_BAD_DATA,
                  "half of a surrogate pair", "3");
    check_refused("{\"uri\":\"/x\",\"ipcReqID\":3}x", VOUCH_REMOTE_BAD_DATA,
                  "something after the value", "3");
    check_refused("{\"uri\":\"/x\",\"data\":\"\xff\",\"ipcReqID\":3}", VOUCH_REMOTE_BAD_DATA,
                  "a string that is not UTF-8", "3");
}

Test(pixl_line, as_deep_as_may_be) {
    size_t depth = VOUCH_JSON_DEPTH_BOUND - 1;
    const char *head = "{\"ipcReqID\":1,\"uri\":\"/x\",\"data\":";
    size_t size = strlen(head) + 2 * depth + 1;
    for (int more = 0; more < 2; more++) {
        struct vouch_message m;
        uint8_t *bytes = malloc(size + 2);
        cr_assert_not_null(bytes);
        size_t at = strlen(head), levels = depth + (size_t)more;
        memcpy(bytes, head, at);
        memset(bytes + at, '[', levels);
        memset(bytes + at + levels, ']', levels);
        at += 2 * levels;
        bytes[at++] = '}';
        cr_assert(pixl_line_call(bytes, at, 0, &m));
        cr_assert_eq(m.result, more ? VOUCH_REMOTE_BAD_DATA : 0);
        if (more)
            ASSERT_IS(m.text, m.text_size, "arrays and objects nested too deeply");
        free(bytes);
    }
}

/* ---- lines that are too long ---- */

/* However much there is of it: nothing is taken that was not whole. */
Test(pixl_line, of_a_long_line_what_is_known_counts) {
    const char *line =
        "{\"ipcReqID\" : \"rq12\" , \"x\":[\"]\",{}], \"uri\" : \"/a\\/b\", \"data\":[1,2";
    size_t id_at = (size_t)(strstr(line, "\"rq12\"") - line) + 6;
    size_t uri_at = (size_t)(strstr(line, "\"/a") - line) + 7;
    for (size_t size = 0; size <= strlen(line); size++) {
        struct vouch_message m;
        uint8_t *bytes = copy_of(line, size);
        cr_assert_eq(pixl_line_call(bytes, size, 5000, &m), size > 0);
        if (size > 0) {
            cr_assert_eq(m.result, 0);
            ASSERT_IS(m.tag, m.tag_size, size >= id_at ? "\"rq12\"" : "null");
            ASSERT_IS(m.target, m.target_size, size >= uri_at ? "/a/b" : "");
        }
        free(bytes);
    }
}

Test(pixl_line, an_id_that_was_not_scanned_is_looked_at) {
    static const char *const ids[] = {"\"\xff\"",  "01",          "tru", "[1",
                                      "{\"a\" 1}", "\"\\ud800\"", ""};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct vouch_message m;
        char line[128];
        snprintf(line, sizeof(line), "{\"ipcReqID\":%s,\"uri\":\"/x\",\"data\":[1,1,1", ids[i]);
        uint8_t *bytes = copy_of(line, strlen(line));
        cr_assert(pixl_line_call(bytes, strlen(line), 5000, &m));
        ASSERT_IS(m.tag, m.tag_size, "null");
        free(bytes);
    }
}

/* ---- replies ---- */

static bool read_reply(const char *line, struct vouch_message *m) {
    uint8_t *bytes = copy_of(line, strlen(line));
    bool taken = pixl_line_reply(bytes, strlen(line), m);
    if (taken) {
        cr_assert_eq(m->result, 0);
        cr_assert_eq(m->data, bytes);
        ASSERT_IS(m->data, m->size, line); /* not changed */
    }
    free(bytes);
    return taken;
}

static void check_reply(const char *line, uint32_t id) {
    struct vouch_message m;
    cr_assert(read_reply(line, &m), "%s", line);
    cr_assert_eq(m.kind, VOUCH_MESSAGE_REPLY);
    cr_assert_eq(m.id, id, "%s: %u", line, m.id);
}

Test(pixl_line, replies_to_our_ids) {
    check_reply("{\"ipcReqID\":\"rq1\",\"data\":1}", 1);
    check_reply("{\"data\":{\"ipcReqID\":\"rq7\"},\"ipcReqID\":\"rq4294967295\"}", 4294967295u);
    check_reply("{\"ipcReqID\":\"\\u0072q\\u0031\"}", 1);
    /* what is wrong with it its caller will see */
    check_reply("{\"ipcReqID\":\"rq5\",\"data\":{]}", 5);
}

Test(pixl_line, replies_to_other_ids_are_skipped) {
    static const char *const ids[] = {"\"rq0\"",
                                      "\"rq\"",
                                      "\"rq01\"",
                                      "\"rq4294967296\"",
                                      "\"rq-1\"",
                                      "\"rq1 \"",
                                      "\"rq99999999999999999999999999\"",
                                      "\"xq1\"",
                                      "1",
                                      "0",
                                      "false",
                                      "\"\"",
                                      "{}",
                                      "[\"rq1\"]",
                                      "\"r\""};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct vouch_message m;
        char line[128];
        snprintf(line, sizeof(line), "{\"ipcReqID\":%s,\"data\":1}", ids[i]);
        cr_assert_not(read_reply(line, &m), "%s", line);
    }
}

Test(pixl_line, notices_have_no_id) {
    struct vouch_message m;
    cr_assert(read_reply("{}", &m));
    cr_assert_eq(m.kind, VOUCH_MESSAGE_NOTICE);
    cr_assert(read_reply("{\"data\":{\"ipcReqID\":\"rq1\"}}", &m));
    cr_assert_eq(m.kind, VOUCH_MESSAGE_NOTICE);
    cr_assert(read_reply("{\"ipcReqID\":null,\"data\":1}", &m));
    cr_assert_eq(m.kind, VOUCH_MESSAGE_NOTICE);
    cr_assert_not(read_reply("{\"data\":", &m));
}
