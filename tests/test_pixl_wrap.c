/* SPDX-License-Identifier: MIT */
/* What the pixl dialect writes: the very bytes, and the same sizes when it is asked for them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/pixl.h"
#include "tests/harness.h"

/* A whole line, with `body` in the middle; its NUL is not part of it. */
static char *line_of(const struct vouch_message *message, const struct pixl_text *tail,
                     const char *body) {
    struct vouch_wrapping sizes = {0}, bytes = {0};
    if (tail)
        pixl_wrap_call(message, tail, &sizes);
    else
        pixl_wrap_reply(message, &sizes);
    char *line = malloc(sizes.before_size + strlen(body) + sizes.after_size + 1);
    cr_assert_not_null(line);
    bytes.before = (uint8_t *)line;
    bytes.after = (uint8_t *)line + sizes.before_size + strlen(body);
    if (tail)
        pixl_wrap_call(message, tail, &bytes);
    else
        pixl_wrap_reply(message, &bytes);
    cr_assert_eq(bytes.before_size, sizes.before_size);
    cr_assert_eq(bytes.after_size, sizes.after_size);
    memcpy(line + sizes.before_size, body, strlen(body));
    bytes.after[sizes.after_size] = '\0';
    return line;
}

static struct vouch_message reply_to(const char *id, int result, const char *uri,
                                     const char *text) {
    return (struct vouch_message){.kind = VOUCH_MESSAGE_REPLY,
                                  .tag = (const uint8_t *)id,
                                  .tag_size = strlen(id),
                                  .result = result,
                                  .target = uri,
                                  .target_size = strlen(uri),
                                  .text = text,
                                  .text_size = strlen(text)};
}

static void check(const struct vouch_message *message, const char *body, const char *expected) {
    char *line = line_of(message, NULL, body);
    cr_assert_str_eq(line, expected);
    size_t size = strlen(line);
    cr_assert_eq(line[size - 1], '\n');
    cr_assert_eq(vouch_json_scan(line, size, NULL, NULL), 0, "%s", line);
    free(line);
}

Test(pixl_wrap, replies) {
    struct vouch_message m = reply_to("\"rq0\"", 0, "/x", "");
    m.size = 7;
    check(&m, "{\"a\":1}", "{\"ipcReqID\":\"rq0\",\"data\":{\"a\":1}}\n");
    m.size = 0;
    check(&m, "", "{\"ipcReqID\":\"rq0\",\"data\":null}\n");
    m.tag_size = 0;
    check(&m, "", "{\"ipcReqID\":null,\"data\":null}\n");
}

Test(pixl_wrap, errors) {
    struct vouch_message m = reply_to("7", VOUCH_REMOTE_BAD_DATA, "", "The request has no uri");
    check(&m, "", "{\"ipcReqID\":7,\"code\":\"no_uri\",\"message\":\"The request has no uri\"}\n");
    m = reply_to("null", VOUCH_REMOTE_METHOD_NOT_FOUND, "/x", "what the server says");
    check(
        &m, "",
        "{\"ipcReqID\":null,\"data\":{\"code\":\"no_handler_found\",\"message\":\"No handler found "
        "for /x\"}}\n");
    m = reply_to("1", VOUCH_REMOTE_BAD_DATA, "/x", "it is bad");
    check(&m, "", "{\"ipcReqID\":1,\"data\":{\"code\":\"bad_data\",\"message\":\"it is bad\"}}\n");
    m = reply_to("1", VOUCH_REMOTE_TOO_LARGE, "", "");
    check(
        &m, "",
        "{\"ipcReqID\":1,\"data\":{\"code\":\"too_large\",\"message\":\"request or reply too large "
        "for the server\"}}\n");
}

Test(pixl_wrap, texts_are_escaped_and_made_utf8) {
    struct vouch_message m =
        reply_to("1", VOUCH_REMOTE_METHOD_NOT_FOUND, "/\"\\\n\x7f\xc3\xa9\xff\xc3", "");
    check(&m, "",
          "{\"ipcReqID\":1,\"data\":{\"code\":\"no_handler_found\",\"message\":\"No handler found "
          "for "
          "/\\\"\\\\\\u000a\\u007f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\"}}\n");
}

Test(pixl_wrap, every_error_has_a_code_of_its_own) {
    for (int i = 1; i <= VOUCH_REMOTE_UNKNOWN; i++) {
        cr_assert_eq(pixl_result_of(pixl_code_of(i)), i);
        struct vouch_message m = reply_to("1", i, "/x", "why");
        char *line = line_of(&m, NULL, "");
        cr_assert_not_null(strstr(line, pixl_code_of(i)));
        free(line);
    }
    cr_assert_str_eq(pixl_code_of(0), "unknown");
    cr_assert_str_eq(pixl_code_of(-5), "unknown");
    cr_assert_str_eq(pixl_code_of(VOUCH_REMOTE_UNKNOWN + 1), "unknown");
    cr_assert_eq(pixl_result_of("no_uri"), VOUCH_REMOTE_BAD_DATA);
    cr_assert_eq(pixl_result_of("theirs"), VOUCH_REMOTE_UNKNOWN);
    cr_assert_eq(pixl_result_of(""), VOUCH_REMOTE_UNKNOWN);
}

Test(pixl_wrap, notices_are_the_body_alone) {
    struct vouch_message m = {.kind = VOUCH_MESSAGE_NOTICE, .size = 7};
    check(&m, "{\"a\":1}", "{\"a\":1}\n");
}

Test(pixl_wrap, calls) {
    uint8_t bytes[128];
    struct pixl_text tail = {bytes, pixl_wrap_tail(NULL, 123, "Node/\"x\"")};
    cr_assert_leq(tail.size, sizeof(bytes));
    cr_assert_eq(pixl_wrap_tail(bytes, 123, "Node/\"x\""), tail.size);
    struct vouch_message m = {.kind = VOUCH_MESSAGE_CALL,
                              .id = UINT32_MAX,
                              .target = "/a\"b",
                              .target_size = 4,
                              .size = 2};
    char *line = line_of(&m, &tail, "{}");
    cr_assert_str_eq(line,
                     "{\"ipcReqID\":\"rq4294967295\",\"uri\":\"/a\\\"b\",\"data\":{},\"pid\":123,"
                     "\"userAgent\":\"Node/\\\"x\\\"\"}\n");
    free(line);
    m.size = 0;
    line = line_of(&m, &tail, "");
    cr_assert_str_eq(line, "{\"ipcReqID\":\"rq4294967295\",\"uri\":\"/a\\\"b\",\"pid\":123,"
                           "\"userAgent\":\"Node/\\\"x\\\"\"}\n");
    free(line);
}

/* What a client writes a server reads, and the other way round. */
Test(pixl_wrap, what_is_written_is_read) {
    uint8_t bytes[128];
    struct pixl_text tail = {bytes, pixl_wrap_tail(bytes, 1, "x")};
    const char *uri = "/\xf0\x9f\x98\x80\"\\\t/";
    struct vouch_message m = {.kind = VOUCH_MESSAGE_CALL,
                              .id = 42,
                              .target = uri,
                              .target_size = strlen(uri),
                              .size = 3},
                         call, reply;
    char *line = line_of(&m, &tail, "[1]");
    cr_assert(pixl_line_call((uint8_t *)line, strlen(line) - 1, 0, &call));
    cr_assert_eq(call.result, 0);
    cr_assert_eq(call.target_size, strlen(uri));
    cr_assert_eq(memcmp(call.target, uri, strlen(uri)), 0);
    call.kind = VOUCH_MESSAGE_REPLY;
    char *answer = line_of(&call, NULL, "[1]");
    cr_assert(pixl_line_reply((uint8_t *)answer, strlen(answer) - 1, &reply));
    cr_assert_eq(reply.kind, VOUCH_MESSAGE_REPLY);
    cr_assert_eq(reply.id, 42);
    free(answer);
    free(line);
}

/* ---- bodies ---- */

static void check_prepared(const char *body, const char *expected) {
    char *text = strdup(body);
    cr_assert_not_null(text);
    int r = pixl_prepare(NULL, (uint8_t *)text, strlen(text));
    cr_assert_eq(r, expected ? 0 : -EINVAL, "%s", body);
    if (expected)
        cr_assert_str_eq(text, expected);
    free(text);
}

Test(pixl_wrap, a_body_is_one_json_text_on_one_line) {
    check_prepared("", "");
    check_prepared("1", "1");
    check_prepared("\n{\n\"a\\n\" :\r\n1\n}\n", " { \"a\\n\" :\r 1 } ");
    check_prepared("{", NULL);
    check_prepared("1 2", NULL);
    check_prepared("\"\n\"", NULL);
    check_prepared("\"\xff\"", NULL);
    check_prepared("}{", NULL);
}

Test(pixl_wrap, a_body_leaves_room_for_its_envelope) {
    char text[2 * VOUCH_JSON_DEPTH_BOUND];
    for (size_t depth = VOUCH_JSON_DEPTH_BOUND - 1; depth <= VOUCH_JSON_DEPTH_BOUND; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        cr_assert_eq(pixl_prepare(NULL, (uint8_t *)text, 2 * depth),
                     depth < VOUCH_JSON_DEPTH_BOUND ? 0 : -EINVAL);
    }
}
