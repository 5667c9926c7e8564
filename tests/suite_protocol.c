/* SPDX-License-Identifier: MIT */
/* The examples of docs/protocol.md, played by two sessions and compared byte for byte.
 * tests/sh/docs sees to it that they are the same there. */
#include <stdio.h>
#include <string.h>
#include <vouch/chunk.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

#define DEADLINE (INT64_C(1700000000000000000) - SIDE_WALL_OFFSET)

static const struct session_limits limits = {
    .max_receive = VOUCH_CHUNK_SIZE_DEFAULT,
    .max_send = VOUCH_CHUNK_SIZE_DEFAULT,
    .max_calls = 8,
    .output_soft = VOUCH_CHUNK_SIZE_DEFAULT,
    .output_hard = VOUCH_CHUNK_SIZE_DEFAULT,
    .frame_timeout = VOUCH_FOREVER,
    .stall_timeout = VOUCH_FOREVER,
};

static struct side client, server;

static void begin(void) {
    support_baseline_begin();
    cr_assert_eq(side_open(&client, SESSION_CLIENT, &limits, NULL), 0);
    cr_assert_eq(side_open(&server, SESSION_SERVER, &limits, NULL), 0);
}

static void end(void) {
    side_end(&client);
    side_end(&server);
    support_baseline_end();
}

TestSuite(suite_protocol, .init = begin, .fini = end);

/* What `from` sends is this; `to` gets it. */
static void expect_bytes(struct side *from, struct side *to, const char *expected) {
    uint8_t bytes[256];
    char text[2 * sizeof(bytes) + 1] = "";
    size_t size = side_take(from, bytes, sizeof(bytes));
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    cr_assert_str_eq(text, expected);
    cr_assert(side_feed(to, bytes, size));
}

static void feed_text(struct side *to, const char *text) {
    uint8_t bytes[256];
    size_t size = strlen(text) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        cr_assert_eq(sscanf(text + 2 * i, "%2x", &byte), 1);
        bytes[i] = (uint8_t)byte;
    }
    cr_assert(side_feed(to, bytes, size));
}

static void first_call(void) {
    cr_assert_eq(side_call_until(&client, "/echo", "hi", DEADLINE), 0);
    expect_bytes(&client, &server,
                 "3c0801108080a8b1e39fe7cb171a052f6563686f3807508080800222026869");
    expect_bytes(&server, &client, "12400748045080808002");
    cr_assert_eq(side_reply(&server, 1, "hi"), 0);
    expect_bytes(&server, &client, "2e0801108080a8b1e39fe7cb171a052f6563686f22026869");
    cr_assert_str_eq(side_events(&client), "reply 1 (hi)");
}

Test(suite_protocol, call_hello_reply) {
    first_call();
}

Test(suite_protocol, cancel_error_ping) {
    first_call();
    cr_assert_eq(side_call(&client, "/slow", ""), 0);
    expect_bytes(&client, &server, "26080210ffffffffffffffff7f1a052f736c6f77");
    side_abandon(&client, 2);
    expect_bytes(&client, &server, "0808024801");
    cr_assert_eq(side_fail(&server, 2, VOUCH_REMOTE_CANCELLED, "100% cancelled"), 0);
    expect_bytes(&server, &client,
                 "4a080210ffffffffffffffff7f1a052f736c6f772807320e313030252063616e63656c6c6564");
    cr_assert_str_eq(side_events(&client), "");

    struct session_slot *ping = &client.calls[SIDE_CALLS - 1];
    cr_assert_eq(session_ping(&client.session, ping, VOUCH_FOREVER), 0);
    expect_bytes(&client, &server, "0808034802");
    expect_bytes(&server, &client, "0808034803");
    cr_assert_str_eq(side_events(&client), "reply 3 ()");
}

Test(suite_protocol, plain_client) {
    feed_text(&server, "200801108080a8b1e39fe7cb171a022f78");
    cr_assert_eq(side_fail(&server, 1, VOUCH_REMOTE_REFUSED, "100% no"), 0);
    expect_bytes(&server, &client, "380801108080a8b1e39fe7cb171a022f78280432083130302525206e6f");
}

Test(suite_protocol, error_of_a_go_server) {
    cr_assert_eq(side_call(&client, "/no/such", ""), 0);
    feed_text(&client, "3e2801321b6d6574686f64282f6e6f2f73756368293a206e6f7420666f756e64");
    cr_assert_str_eq(side_events(&client), "reply 1 error 1 'method(/no/such): not found'");
}
