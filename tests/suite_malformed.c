/* SPDX-License-Identifier: MIT */
/*
 * What is malformed: frames made by hand, each of them alone and among good ones, sent to a live
 * server; and conversations mutated at random, to sessions and to a live server.
 *
 * A frame that can't be understood ends its connection without a word. One that can be, and asks
 * for what can't be had, is answered with an error, and its connection goes on. Never both. Others
 * notice nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/rpc_support.h"
#include "tests/sessions.h"

#define DRIVE_CHECK(condition) cr_assert(condition)
#include "fuzz/session_drive.h"

#define MAX_REQUEST 4096
#define DRAIN_MAX 12288

static struct rpc_stage stage;
static struct vouch_client *bystander;
static unsigned vectors;

static void begin(void) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_request = MAX_REQUEST,
                                           .drain_max = DRAIN_MAX, .workers = 2};
    support_baseline_begin();
    rpc_stage_open(&stage, &options);
    bystander = rpc_stage_client(&stage, NULL);
    vectors = 0;
}

static void end(void) {
    cr_log_info("%u vectors", vectors);
    rpc_check_call(bystander, "quick", "still here", 0, "still here");
    vouch_client_free(bystander);
    rpc_stage_close(&stage);
    support_baseline_end();
}

enum outcome { CLOSED = -1, SILENT = 0 }; /* or an enum vouch_remote_error */

static void check_lives(int fd, const char *what) {
    struct rpc_received received;
    rpc_raw_send(fd,
                 &(struct rpc_message){.id = 1000, .method = "quick", .data = "alive", .size = 5});
    cr_assert(rpc_raw_receive(fd, &received), "%s: the connection ended", what);
    cr_assert_eq(received.envelope.id, 1000, "%s: an answer too many", what);
    cr_assert_eq(received.envelope.error_type, 0, "%s", what);
    rpc_received_free(&received);
}

static void check_answered(int fd, uint32_t error, const char *what) {
    struct rpc_received received;
    cr_assert(rpc_raw_receive(fd, &received), "%s: the connection ended", what);
    cr_assert_eq(received.envelope.id, 7, "%s", what);
    cr_assert_eq(received.envelope.error_type, error, "%s: error %u", what,
                 received.envelope.error_type);
    cr_assert_gt(received.envelope.error_size, 0, "%s", what);
    rpc_received_free(&received);
}

static void check_closed(int fd, const char *what) {
    struct rpc_received received;
    cr_assert_not(rpc_raw_receive(fd, &received), "%s: was answered", what);
}

/* Sends the bytes on a connection of their own. `half`: and no more, which is the end of it. */
static void check(const char *what, const struct wire *wire, int outcome, bool half) {
    int fd = rpc_stage_raw(&stage);
    (void)rpc_raw_write(fd, wire->bytes, wire->size); /* it may be closed before the last byte */
    if (half)
        shutdown(fd, SHUT_WR);
    if (outcome == CLOSED) {
        check_closed(fd, what);
    } else {
        if (outcome != SILENT)
            check_answered(fd, (uint32_t)outcome, what);
        check_lives(fd, what);
    }
    close(fd);
    vectors++;
    if (vectors % 16 == 0)
        rpc_check_call(bystander, "quick", "x", 0, "x");
}

/* ---- chunks ---- */

static void check_length(const char *bytes, size_t size) {
    char what[64];
    struct wire wire = {.size = 0};
    wire_add(&wire, bytes, size);
    snprintf(what, sizeof(what), "length %02x, %zu bytes", (uint8_t)bytes[0], size);
    check(what, &wire, CLOSED, false);
    /* And after a good message, which is answered first. */
    int fd = rpc_stage_raw(&stage);
    struct rpc_received received;
    rpc_raw_send(fd, &(struct rpc_message){.id = 1, .method = "quick"});
    cr_assert(rpc_raw_receive(fd, &received));
    rpc_received_free(&received);
    (void)rpc_raw_write(fd, bytes, size);
    check_closed(fd, what);
    close(fd);
    vectors++;
}
#define CHECK_LENGTH(bytes) check_length(bytes, sizeof(bytes) - 1)

Test(malformed, lengths) {
    begin();
    /* Negative: zig-zag codes of odd numbers. */
    CHECK_LENGTH("\x01");
    CHECK_LENGTH("\x03");
    CHECK_LENGTH("\x7f");
    CHECK_LENGTH("\x81\x01");
    CHECK_LENGTH("\xff\x7f");
    CHECK_LENGTH("\xff\xff\x03");
    CHECK_LENGTH("\xff\xff\xff\xff\x0f");
    CHECK_LENGTH("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    CHECK_LENGTH("\x81\x80\x80\x80\x80\x80\x80\x80\x80\x01");
    CHECK_LENGTH("\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00");
    /* Over 64 bits, over ten bytes. */
    CHECK_LENGTH("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02");
    CHECK_LENGTH("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x03");
    CHECK_LENGTH("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f");
    CHECK_LENGTH("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80");
    CHECK_LENGTH("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    CHECK_LENGTH("\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00");
    /* Larger than what is skipped. */
    CHECK_LENGTH("\x82\xc0\x01");                             /* DRAIN_MAX + 1 */
    CHECK_LENGTH("\x80\x80\x80\x80\x10");                     /* 2^31 */
    CHECK_LENGTH("\x80\x80\x80\x80\x20");                     /* 2^32 */
    CHECK_LENGTH("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"); /* 2^62 */
    CHECK_LENGTH("\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"); /* 2^63 - 1 */
    /* An empty message is a call without an id. */
    CHECK_LENGTH("\x00");
    CHECK_LENGTH("\x80\x00");
    end();
}

/* A call, cut off at every byte. */
Test(malformed, cut_off) {
    struct wire whole = {.size = 0};
    begin();
    wire_message(
        &whole,
        &(struct envelope){.id = 7, .expires = INT64_MAX, WIRE_METHOD("echo"), WIRE_DATA("data")});
    for (size_t size = 1; size < whole.size; size++) {
        struct wire wire = {.size = 0};
        wire_add(&wire, whole.bytes, size);
        check("cut off", &wire, CLOSED, true);
    }
    end();
}

Test(malformed, oversize_and_cut_off) {
    static const uint8_t zeros[DRAIN_MAX];
    struct wire whole = {.size = 0};
    begin();
    wire_message(
        &whole, &(struct envelope){.id = 7, WIRE_METHOD("echo"), .data = zeros, .data_size = 8000});
    for (size_t size = 1; size < whole.size; size += 400) {
        struct wire wire = {.size = 0};
        wire_add(&wire, whole.bytes, size);
        check("oversize, cut off", &wire, CLOSED, true);
    }
    end();
}

/* ---- envelopes ---- */

#define ID "\x08\x07"
#define METHOD                                                                                     \
    "\x1a\x04"                                                                                     \
    "echo"
#define PAD "\x22\x04pads"

static void check_body(const char *what, const struct wire *body, int outcome) {
    struct wire wire = {.size = 0};
    wire_chunk(&wire, body->bytes, body->size);
    check(what, &wire, outcome, false);
}

/* The bytes alone, and behind what would be a good call. */
static void check_tail(const char *what, const void *bytes, size_t size) {
    struct wire alone = {.size = 0}, behind = {.size = 0};
    wire_add(&alone, bytes, size);
    check_body(what, &alone, CLOSED);
    wire_add(&behind, ID METHOD PAD, sizeof(ID METHOD PAD) - 1);
    wire_add(&behind, bytes, size);
    check_body(what, &behind, CLOSED);
}

/* And in front of it, and in the middle. */
static void check_anywhere(const char *what, const void *bytes, size_t size) {
    struct wire front = {.size = 0}, middle = {.size = 0};
    check_tail(what, bytes, size);
    wire_add(&front, bytes, size);
    wire_add(&front, ID METHOD PAD, sizeof(ID METHOD PAD) - 1);
    check_body(what, &front, CLOSED);
    wire_add(&middle, ID METHOD, sizeof(ID METHOD) - 1);
    wire_add(&middle, bytes, size);
    wire_add(&middle, PAD, sizeof(PAD) - 1);
    check_body(what, &middle, CLOSED);
}
#define TAIL(what, bytes) check_tail(what, bytes, sizeof(bytes) - 1)
#define ANYWHERE(what, bytes) check_anywhere(what, bytes, sizeof(bytes) - 1)

Test(malformed, fields) {
    begin();
    ANYWHERE("field 0", "\x00\x01");
    ANYWHERE("field 0 as bytes", "\x02\x01x");
    ANYWHERE("field 0 in a long tag", "\x80\x00\x01");
    ANYWHERE("a field number of 30 bits", "\x80\x80\x80\x80\x10\x01");
    ANYWHERE("a field number of 61 bits", "\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01");
    ANYWHERE("a tag of 65 bits", "\x88\x80\x80\x80\x80\x80\x80\x80\x80\x02\x01");
    ANYWHERE("a tag of eleven bytes", "\x88\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x01");
    ANYWHERE("a number of 65 bits", "\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02");
    ANYWHERE("a number of eleven bytes", "\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00");
    ANYWHERE("an unknown number of 65 bits", "\x58\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02");
    ANYWHERE("a length of 65 bits", "\x22\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02");
    ANYWHERE("a length of eleven bytes", "\x22\x81\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00");
    TAIL("a tag cut off", "\x88");
    TAIL("a number missing", "\x08");
    TAIL("a number cut off", "\x10\xff\xff");
    TAIL("a length missing", "\x22");
    TAIL("a length cut off", "\x22\x80");
    TAIL("data one byte short", "\x22\x05"
                                "four");
    TAIL("method one byte short", "\x1a\x05"
                                  "four");
    TAIL("error one byte short", "\x32\x05"
                                 "four");
    TAIL("data of 2^32 bytes", "\x22\x80\x80\x80\x80\x10xxxx");
    TAIL("data of 2^64 - 1 bytes", "\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01xxxx");
    TAIL("method of 2^63 bytes", "\x1a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01xxxx");
    TAIL("an unknown length too long", "\x6a\x05"
                                       "four");
    TAIL("fixed32 one byte short", "\x5d"
                                   "xxx");
    TAIL("fixed64 one byte short", "\x59"
                                   "xxxxxxx");
    end();
}

/* Every field with every wire type that is not its own; the bytes behind would do for any. */
Test(malformed, wire_types) {
    begin();
    for (unsigned field = 1; field <= 10; field++) {
        unsigned own = field == 3 || field == 4 || field == 6 ? 2 : 0;
        for (unsigned type = 0; type < 8; type++) {
            char what[64];
            struct wire wire = {.size = 0};
            if (type == own)
                continue;
            snprintf(what, sizeof(what), "field %u of type %u", field, type);
            wire_varint(&wire, field << 3 | type);
            wire_add(&wire, "\x07\x00\x00\x00\x00\x00\x00\x00", 8);
            check_tail(what, wire.bytes, wire.size);
        }
    }
    end();
}

Test(malformed, wire_types_of_unknown_fields) {
    static const unsigned fields[] = {11, 15, 16, 1000, (1u << 29) - 1};
    static const unsigned types[] = {3, 4, 6, 7};
    begin();
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        for (size_t k = 0; k < sizeof(types) / sizeof(types[0]); k++) {
            struct wire wire = {.size = 0};
            wire_varint(&wire, fields[i] << 3 | types[k]);
            check_tail("an unknown field of a type there is not", wire.bytes, wire.size);
        }
    end();
}

/* ---- calls ---- */

static void check_call(const char *what, const struct envelope *envelope, int outcome) {
    struct wire wire = {.size = 0};
    wire_message(&wire, envelope);
    check(what, &wire, outcome, false);
}
#define CHECK_CALL(what, outcome, ...) check_call(what, &(struct envelope){__VA_ARGS__}, outcome)

#define NOT_FOUND(text)                                                                            \
    CHECK_CALL("method " text, VOUCH_REMOTE_METHOD_NOT_FOUND, .id = 7, WIRE_METHOD(text))

Test(malformed, methods) {
    static char name[4000];
    begin();
    CHECK_CALL("no method", VOUCH_REMOTE_METHOD_NOT_FOUND, .id = 7);
    NOT_FOUND("ech");
    NOT_FOUND("echo2");
    NOT_FOUND("Echo");
    NOT_FOUND("/echo");
    NOT_FOUND("echo/");
    NOT_FOUND(" echo");
    NOT_FOUND("echo ");
    NOT_FOUND("echo\n");
    NOT_FOUND("echo\0");
    NOT_FOUND("\0echo");
    NOT_FOUND("e\0cho");
    NOT_FOUND("\0");
    NOT_FOUND("\xff\xfe");
    NOT_FOUND("echo\xc0\x80");
    NOT_FOUND("\xed\xa0\x80");
    NOT_FOUND("\xf0\x9f\x98\x80");
    NOT_FOUND("\x1b[31m");
    NOT_FOUND("%s%s%s%n");
    NOT_FOUND("../../etc/passwd");
    memset(name, 'm', sizeof(name));
    for (size_t size = 254; size <= 258; size++)
        CHECK_CALL("a long method", VOUCH_REMOTE_METHOD_NOT_FOUND, .id = 7, .method = name,
                   .method_size = size);
    CHECK_CALL("a very long method", VOUCH_REMOTE_METHOD_NOT_FOUND, .id = 7, .method = name,
               .method_size = sizeof(name));
    memset(name, '%', sizeof(name));
    CHECK_CALL("percents", VOUCH_REMOTE_METHOD_NOT_FOUND, .id = 7, .method = name,
               .method_size = 255);
    memset(name, 0xff, sizeof(name));
    CHECK_CALL("no text at all", VOUCH_REMOTE_METHOD_NOT_FOUND, .id = 7, .method = name,
               .method_size = 255);
    end();
}

Test(malformed, deadlines) {
    static const int64_t past[] = {1, 2, -1, INT64_MIN, INT64_MIN + 1, 1000000000};
    begin();
    for (size_t i = 0; i < sizeof(past) / sizeof(past[0]); i++)
        CHECK_CALL("long past", VOUCH_REMOTE_DEADLINE_EXCEEDED, .id = 7, .expires = past[i],
                   WIRE_METHOD("echo"));
    CHECK_CALL("just past", VOUCH_REMOTE_DEADLINE_EXCEEDED, .id = 7, .expires = rpc_wall_in(-1),
               WIRE_METHOD("echo"));
    CHECK_CALL("past, and no such method", VOUCH_REMOTE_DEADLINE_EXCEEDED, .id = 7, .expires = 1,
               WIRE_METHOD("nothing"));
    end();
}

Test(malformed, sizes) {
    static const uint8_t zeros[DRAIN_MAX + 1];
    static const size_t sizes[] = {MAX_REQUEST, MAX_REQUEST + 1, 8192, DRAIN_MAX - 20};
    begin();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CHECK_CALL("too large", VOUCH_REMOTE_BAD_DATA, .id = 7, WIRE_METHOD("echo"), .data = zeros,
                   .data_size = sizes[i]);
        CHECK_CALL("too large, and no such method", VOUCH_REMOTE_BAD_DATA, .id = 7, .data = zeros,
                   .data_size = sizes[i]);
        CHECK_CALL("too large, and past", VOUCH_REMOTE_BAD_DATA, .id = 7, .expires = 1,
                   .data = zeros, .data_size = sizes[i]);
        CHECK_CALL("too large without an id", CLOSED, WIRE_METHOD("echo"), .data = zeros,
                   .data_size = sizes[i]);
    }
    end();
}

Test(malformed, ids) {
    begin();
    CHECK_CALL("no id", CLOSED, WIRE_METHOD("echo"));
    CHECK_CALL("no id, and a cancel's", CLOSED, .error_type = 1, WIRE_ERROR("x"));
    struct wire wire = {.size = 0};
    wire_number(&wire, 1, 0);
    wire_bytes(&wire, 3, "echo", 4);
    check_body("id 0", &wire, CLOSED);
    wire.size = 0;
    wire_number(&wire, 1, (uint64_t)1 << 32);
    wire_bytes(&wire, 3, "echo", 4);
    check_body("an id whose low bits are 0", &wire, CLOSED);
    wire.size = 0;
    wire_number(&wire, 1, 7);
    wire_number(&wire, 1, 0);
    check_body("an id taken back", &wire, CLOSED);
    end();
}

/* The call that has the id goes on to its end, unheard. */
Test(malformed, an_id_twice) {
    begin();
    int fd = rpc_stage_raw(&stage);
    for (unsigned i = 0; i < 2; i++) {
        rpc_raw_send(fd, &(struct rpc_message){.id = 7, .method = "keep"});
        rpc_latch_wait(&stage.entered, 1);
    }
    check_closed(fd, "an id twice");
    cr_assert_eq(stage.kept_count, 1);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "x", 1), -ECONNRESET);
    close(fd);
    end();
}

/* What a client may not say but need not hang for. */
Test(malformed, controls) {
    begin();
    static const uint32_t controls[] = {1, 3, 4, 5, 6, 255, 256, UINT32_MAX};
    for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
        CHECK_CALL("control of nothing", SILENT, .id = 7, .control = controls[i]);
        CHECK_CALL("control without an id", SILENT, .control = controls[i]);
        CHECK_CALL("control with a call", SILENT, .id = 7, .control = controls[i],
                   WIRE_METHOD("echo"), WIRE_DATA("x"), .error_type = 4, WIRE_ERROR("e"));
    }
    CHECK_CALL("a ping of a stranger", SILENT, .id = 7, .control = 2);
    struct wire wire = {.size = 0};
    for (int i = 0; i < 1000; i++)
        wire_message(&wire, &(struct envelope){.id = 7, .control = 2});
    check("a thousand of them", &wire, CLOSED, false);
    end();
}

Test(malformed, requests_that_a_handler_refuses) {
    begin();
    CHECK_CALL("bad data", VOUCH_REMOTE_BAD_DATA, .id = 7, WIRE_METHOD("result"), WIRE_DATA("3"));
    CHECK_CALL("an unknown error", VOUCH_REMOTE_SERVER, .id = 7, WIRE_METHOD("result"),
               WIRE_DATA("12345"));
    CHECK_CALL("a local one", VOUCH_REMOTE_SERVER, .id = 7, WIRE_METHOD("result"), WIRE_DATA("-5"));
    end();
}

/* ---- conversations mutated at random ---- */

/* Something like a conversation, of either role. */
static void converse(struct support_random *random, struct wire *wire) {
    uint64_t messages = 1 + support_random_below(random, 6);
    static const uint8_t body[3000];
    wire->size = 0;
    for (uint64_t i = 0; i < messages; i++) {
        struct envelope e = {.id = (uint32_t)support_random_below(random, 24),
                             WIRE_METHOD("quick")};
        uint64_t dice = support_random_next(random);
        if (dice % 8 == 0)
            e.control = (uint32_t)(dice >> 8) % 6;
        if (dice % 7 == 0)
            e.error_type = (uint32_t)(dice >> 16) % 12;
        if (dice % 5 == 0)
            e.client_features = e.server_features = 7;
        e.data = body;
        e.data_size = dice % 64 == 0 ? (size_t)(dice >> 32) % sizeof(body) : (size_t)(dice % 40);
        if (dice % 3 == 0)
            e.expires = (int64_t)(dice >> 1);
        wire_message(wire, &e);
    }
}

static void mutate(struct support_random *random, struct wire *wire) {
    for (uint64_t i = support_random_below(random, 5); i > 0 && wire->size > 1; i--) {
        uint64_t dice = support_random_next(random);
        size_t at = (size_t)(dice >> 8) % wire->size, rest = wire->size - at;
        size_t span = 1 + (size_t)(dice >> 40) % (rest < 9 ? rest : 9);
        switch (dice % 5) {
        case 0:
            wire->bytes[at] ^= (uint8_t)(1u << (dice >> 60));
            break;
        case 1:
            wire->bytes[at] = (uint8_t)(dice >> 50);
            break;
        case 2: /* cut out */
            memmove(wire->bytes + at, wire->bytes + at + span, rest - span);
            wire->size -= span;
            break;
        case 3: /* double */
            if (wire->size + span > sizeof(wire->bytes))
                break;
            memmove(wire->bytes + at + span, wire->bytes + at, rest);
            wire->size += span;
            break;
        default:
            wire->size = at + 1;
            break;
        }
    }
}

static void mutated_sessions(enum session_role role, int rounds) {
    static struct wire wire;
    struct support_random random;
    struct vouch_pool *pool;
    support_baseline_begin();
    support_random_init(&random);
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    for (int i = 0; i < rounds; i++) {
        converse(&random, &wire);
        mutate(&random, &wire);
        (void)drive_session(role, pool, wire.bytes, wire.size, support_random_next(&random) | 1);
    }
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(malformed, half_a_million_mutated_clients, .timeout = 600) {
    mutated_sessions(SESSION_SERVER, VOUCH_TEST_ROUNDS(500000, 5000));
}

Test(malformed, half_a_million_mutated_servers, .timeout = 600) {
    mutated_sessions(SESSION_CLIENT, VOUCH_TEST_ROUNDS(500000, 5000));
}

/* Everything that comes back is a message, and then the end. */
Test(malformed, mutated_clients_of_a_live_server, .timeout = 600) {
    static struct wire wire;
    struct support_random random;
    begin();
    support_random_init(&random);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(1000000, 300); i++) {
        struct rpc_received received;
        converse(&random, &wire);
        mutate(&random, &wire);
        int fd = rpc_stage_raw(&stage);
        (void)rpc_raw_write(fd, wire.bytes, wire.size);
        shutdown(fd, SHUT_WR);
        while (rpc_raw_receive(fd, &received))
            rpc_received_free(&received);
        close(fd);
        vectors++;
        if (i % 100 == 0)
            rpc_check_call(bystander, "quick", "x", 0, "x");
    }
    end();
}
