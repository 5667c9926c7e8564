/* SPDX-License-Identifier: MIT */
/* What a dialect writes, put around bodies; and which dialect a first byte means. */
#include "rpc/dialect.h"

#include <errno.h>
#include <string.h>

#include "rpc/session.h"
#include "tests/harness.h"
#include "tests/support.h"
#include "tests/toy_dialect.h"

static struct support_allocator allocator;
static struct vouch_pool *pool;
static struct toy toy;

static void begin(void) {
    support_baseline_begin();
    support_allocator_init(&allocator);
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = &allocator.allocator};
    cr_assert_eq(vouch_pool_new(&options, &pool), 0);
    toy_init(&toy);
}

static void end(void) {
    vouch_pool_unref(pool);
    support_allocator_check(&allocator);
    support_baseline_end();
}

static struct vouch_buffer *body_of(const char *text, size_t headroom, size_t tailroom) {
    struct vouch_buffer *body;
    size_t size = strlen(text);
    cr_assert_eq(vouch_pool_get(pool, headroom, size + tailroom, &body), 0);
    memcpy(body->data, text, size);
    body->size = size;
    body->capacity = size + tailroom; /* as if there were no more */
    return body;
}

static struct vouch_message reply_to(const char *tag, size_t size) {
    return (struct vouch_message){.kind = VOUCH_MESSAGE_REPLY,
                                  .tag = (const uint8_t *)tag,
                                  .tag_size = strlen(tag),
                                  .size = size};
}

/* All parts as one text; lets go of them. */
static void expect(struct dialect_parts *parts, size_t count, const char *text) {
    char whole[4096];
    size_t size = 0;
    cr_assert_eq(parts->count, count);
    for (size_t i = 0; i < parts->count; i++) {
        memcpy(whole + size, parts->part[i]->data, parts->part[i]->size);
        size += parts->part[i]->size;
        vouch_buffer_unref(parts->part[i]);
    }
    cr_assert_eq(parts->size, size);
    cr_assert_eq(size, strlen(text));
    cr_assert_arr_eq(whole, text, size);
}

Test(dialect, what_has_to_be_there) {
    struct toy whole;
    toy_init(&whole);
    whole.dialect.begins = NULL; /* of servers only */
    whole.dialect.prepare = NULL;
    whole.dialect.observe = NULL;
    cr_assert(dialect_is_valid(&whole.dialect));
    struct vouch_dialect one = whole.dialect;
    one.name = NULL;
    cr_assert_not(dialect_is_valid(&one));
    one = whole.dialect;
    one.read = NULL;
    cr_assert_not(dialect_is_valid(&one));
    one = whole.dialect;
    one.wrap = NULL;
    cr_assert_not(dialect_is_valid(&one));
}

Test(dialect, writes_around_the_body_where_there_is_room) {
    begin();
    struct dialect_parts parts;
    struct vouch_message message = reply_to("a", 4);
    struct vouch_buffer *body = body_of("body", ENVELOPE_HEADROOM, ENVELOPE_TAILROOM);
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, body, pool, 100, &parts), 0);
    expect(&parts, 1, "ok a body\n");
    end();
}

Test(dialect, takes_buffers_for_what_has_no_room) {
    begin();
    struct dialect_parts parts;
    struct vouch_message message = reply_to("a", 4);
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, body_of("body", 0, 16), pool, 100, &parts),
                 0);
    expect(&parts, 2, "ok a body\n");
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, body_of("body", 16, 0), pool, 100, &parts),
                 0);
    expect(&parts, 2, "ok a body\n");
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, body_of("body", 0, 0), pool, 100, &parts), 0);
    expect(&parts, 3, "ok a body\n");
    end();
}

Test(dialect, writes_messages_without_a_body) {
    begin();
    struct dialect_parts parts;
    struct vouch_message message = reply_to("a", 0);
    message.result = VOUCH_REMOTE_SERVER;
    message.text = "no";
    message.text_size = 2;
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, NULL, pool, 100, &parts), 0);
    expect(&parts, 2, "err a 4 no\n");
    end();
}

Test(dialect, holds_the_whole_message_to_the_limit) {
    begin();
    struct dialect_parts parts;
    struct vouch_message message = reply_to("a", 4);
    struct vouch_buffer *body = body_of("body", 64, 64);
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, body, pool, 9, &parts), -EMSGSIZE);
    cr_assert_eq(parts.size, 10);
    cr_assert_eq(body->size, 4, "it is still the caller's");
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, body, pool, 10, &parts), 0);
    expect(&parts, 1, "ok a body\n");
    end();
}

Test(dialect, may_have_nothing_to_say) {
    begin();
    struct dialect_parts parts;
    struct vouch_message message = {.kind = VOUCH_MESSAGE_NOTICE, .size = 4};
    struct vouch_buffer *body = body_of("body", 64, 64);
    toy.mute = true;
    cr_assert_eq(dialect_wrap(&toy.dialect, &message, body, pool, 100, &parts), -ENOTSUP);
    vouch_buffer_unref(body);
    end();
}

Test(dialect, without_memory_the_body_stays_the_callers) {
    begin();
    for (unsigned nth = 1; nth <= 2; nth++) {
        struct dialect_parts parts;
        struct vouch_message message = reply_to("a", 4);
        struct vouch_buffer *body = body_of("body", 0, 0);
        vouch_pool_trim(pool);
        support_allocator_fail(&allocator, nth, 1);
        cr_assert_eq(dialect_wrap(&toy.dialect, &message, body, pool, 100, &parts), -ENOMEM);
        support_allocator_fail(&allocator, 0, 0);
        cr_assert_eq(body->size, 4);
        cr_assert_arr_eq(body->data, "body", 4);
        vouch_buffer_unref(body);
    }
    end();
}

Test(dialect, looks_at_bodies) {
    begin();
    struct vouch_buffer *body = body_of("a\tb", 0, 0);
    cr_assert_eq(dialect_prepare(&toy.dialect, body), 0);
    cr_assert_arr_eq(body->data, "a b", 3);
    body->data[1] = '\n';
    cr_assert_eq(dialect_prepare(&toy.dialect, body), -EINVAL);
    toy.dialect.prepare = NULL;
    cr_assert_eq(dialect_prepare(&toy.dialect, body), 0);
    vouch_buffer_unref(body);
    end();
}

Test(dialect, the_first_byte_chooses) {
    toy_init(&toy);
    struct dialect_choice choice = {.native = true, .dialects = &toy.dialect, .count = 1};
    const struct vouch_dialect *only;
    cr_assert_eq(dialect_choose(&choice, 'c'), &toy.dialect);
    cr_assert_null(dialect_choose(&choice, '\n'));
    cr_assert_not(dialect_is_certain(&choice, &only));
    choice.native = false;
    cr_assert(dialect_is_certain(&choice, &only));
    cr_assert_eq(only, &toy.dialect);
    choice = (struct dialect_choice){.native = true};
    cr_assert(dialect_is_certain(&choice, &only));
    cr_assert_null(only);
}

/* ---- browsers ---- */

static bool is_http(const char *line) {
    return dialect_is_http((const uint8_t *)line, strlen(line), false);
}

Test(dialect, the_head_of_an_http_request) {
    static const char *const heads[] = {
        "GET / HTTP/1.1", "POST /a b HTTP/1.0\r", "x HTTP/1.1", "Host: a", "host:", "HOST: b\r"};
    static const char *const others[] = {
        "",          "\r",       "GET / HTTP",   "Hosts: a",       "hos",     "host b",
        "{\"a\":1}", " HTTP/1.", "a HTTP/1.1 b", "GET / http/1.1", " Host: a"};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        cr_assert(is_http(heads[i]), "%s", heads[i]);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        cr_assert_not(is_http(others[i]), "%s", others[i]);
    /* Of a line that is cut the end is not known. */
    cr_assert_not(dialect_is_http((const uint8_t *)"GET / HTTP/1.1", 14, true));
    cr_assert(dialect_is_http((const uint8_t *)"Host: a", 7, true));
}
