/* SPDX-License-Identifier: MIT */
/*
 * One conversation of calls, cut everywhere: at each single byte, at all of them, and 10 000 times
 * at random; what each role reports and what it sends must not depend on it. At sessions, and the
 * client's half at a live server.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/rpc_support.h"
#include "tests/sessions.h"

#define CONVERSATION 4096
#define RANDOM_SPLITS VOUCH_TEST_ROUNDS(10000, 200)
#define CUT_STEP (size_t) VOUCH_TEST_ROUNDS(1, 41)

/* Small enough for one message to be oversize. */
static const struct session_limits limits = {
    .max_receive = 700,
    .max_send = 700,
    .drain_max = 2048,
    .max_calls = 32,
    .output_soft = SIZE_MAX,
    .output_hard = SIZE_MAX,
    .frame_timeout = VOUCH_FOREVER,
    .stall_timeout = VOUCH_FOREVER,
};

static struct wire wire; /* what the peer says: CONVERSATION bytes */
static struct side side;

#define SAY(...) wire_message(&wire, &(struct envelope){__VA_ARGS__})

/* Fills up with one more message of the id. */
static void fill(uint32_t id) {
    static uint8_t body[1000];
    memset(body, 'f', sizeof(body));
    while (wire.size < CONVERSATION) {
        size_t left = CONVERSATION - wire.size;
        /* Length 2 (or 1), id 2, method 7, tag and length of the body 3 (or 2). */
        size_t size = left >= 1000 ? 500 : left > 514 ? left / 2 : left - 14;
        struct envelope e = {.id = id++, WIRE_METHOD("quick"), .data = body, .data_size = size};
        wire_message(&wire, &e);
    }
    cr_assert_eq(wire.size, CONVERSATION);
}

static void client_says(void) {
    static const uint8_t body[1500];
    wire.size = 0;
    SAY(.id = 1, WIRE_METHOD("quick"), WIRE_DATA("first"), .client_features = 7,
        .max_message = 4096);
    SAY(.id = 2, .expires = INT64_MAX, WIRE_METHOD("/reply"), WIRE_DATA("x"));
    SAY(.id = 3, WIRE_METHOD("/keep"));
    SAY(.id = 3, .control = ENVELOPE_CANCEL);
    SAY(.id = 4, .expires = 5, WIRE_METHOD("/late"));
    SAY(.id = 77, .control = ENVELOPE_PING);
    SAY(.id = 5, WIRE_METHOD("/large"), .data = body, .data_size = sizeof(body));
    SAY(.id = 6, WIRE_METHOD("/error"), WIRE_DATA("100% wrong"));
    SAY(.control = 99);
    SAY(.id = 7, WIRE_METHOD("/reply"));
    fill(8);
}

static void server_says(void) {
    static const uint8_t body[1500];
    wire.size = 0;
    SAY(.server_features = 7, .control = ENVELOPE_HELLO, .max_message = 4096);
    SAY(.id = 2, WIRE_DATA("second"));
    SAY(.id = 1, .error_type = 8, WIRE_ERROR("busy"));
    SAY(.id = 3, .data = body, .data_size = sizeof(body));
    SAY(.id = 77, .control = ENVELOPE_PING);
    SAY(.id = 99, WIRE_DATA("to nobody"));
    SAY(.id = 4, .error_type = 100);
    SAY(.error_type = 4, WIRE_ERROR("without id"));
    fill(5);
}

/* ---- sessions ---- */

static struct { char events[16384], sent[16384]; } expected;

static void begin(enum session_role role) {
    cr_assert_eq(side_open(&side, role, &limits, NULL), 0);
    for (int i = 0; role == SESSION_CLIENT && i < 20; i++)
        cr_assert_eq(side_call(&side, "/m", ""), 0);
}

/* Ends the run and answers what was asked, in the order it came. */
static void answer_all(void) {
    for (uint32_t id = 1; id < SIDE_CALLS; id++)
        for (size_t i = 0; i < SIDE_CALLS; i++)
            if (side.requests[i].used && side.requests[i].slot.node.id == id)
                cr_assert_eq(id % 2 ? side_reply(&side, id, "reply")
                                    : side_fail(&side, id, VOUCH_REMOTE_REFUSED, "50%"),
                             0);
}

static void end(bool first) {
    answer_all();
    const char *events = side_events(&side), *sent = side_sent(&side);
    if (first) {
        strcpy(expected.events, events);
        strcpy(expected.sent, sent);
    } else {
        cr_assert_str_eq(events, expected.events);
        cr_assert_str_eq(sent, expected.sent);
    }
    side_end(&side);
}

static void run(enum session_role role, const size_t *cuts, size_t count) {
    size_t at = 0;
    begin(role);
    for (size_t i = 0; i < count; i++) {
        cr_assert(side_feed(&side, wire.bytes + at, cuts[i] - at));
        at = cuts[i];
    }
    cr_assert(side_feed(&side, wire.bytes + at, wire.size - at));
    end(false);
}

static void run_whole(enum session_role role) {
    begin(role);
    cr_assert(side_feed(&side, wire.bytes, wire.size));
    end(true);
    cr_assert_gt(strlen(expected.events), 500);
}

static void cut_everywhere(enum session_role role) {
    static size_t cuts[CONVERSATION];
    run_whole(role);
    for (cuts[0] = 0; cuts[0] <= CONVERSATION; cuts[0] += CUT_STEP)
        run(role, cuts, 1);
    for (size_t i = 0; i < CONVERSATION - 1; i++)
        cuts[i] = i + 1;
    run(role, cuts, CONVERSATION - 1);
}

static void cut_at_random(enum session_role role) {
    struct support_random random;
    support_random_init(&random);
    run_whole(role);
    for (int round = 0; round < RANDOM_SPLITS; round++) {
        size_t cuts[64], count = 0, at = 0;
        size_t longest = 1 + support_random_below(&random, 500);
        while (count < 64 && (at += 1 + support_random_below(&random, longest)) < CONVERSATION)
            cuts[count++] = at;
        run(role, cuts, count);
    }
}

Test(split_rpc, client_to_server_at_every_byte, .timeout = 200) {
    support_baseline_begin();
    client_says();
    cut_everywhere(SESSION_SERVER);
    support_baseline_end();
}

Test(split_rpc, server_to_client_at_every_byte, .timeout = 200) {
    support_baseline_begin();
    server_says();
    cut_everywhere(SESSION_CLIENT);
    support_baseline_end();
}

Test(split_rpc, client_to_server_at_random, .timeout = 200) {
    support_baseline_begin();
    client_says();
    cut_at_random(SESSION_SERVER);
    support_baseline_end();
}

Test(split_rpc, server_to_client_at_random, .timeout = 200) {
    support_baseline_begin();
    server_says();
    cut_at_random(SESSION_CLIENT);
    support_baseline_end();
}

/* ---- a live server ---- */

static struct rpc_stage stage;
static uint8_t answers[2][65536];

/* What comes back until the end, for the conversation cut at random (or at all bytes); its methods
 * are quick, so the order is the order asked. */
static size_t talk(struct support_random *random, size_t longest, uint8_t *ret_bytes, size_t room) {
    int fd = rpc_stage_raw(&stage);
    for (size_t at = 0; at < wire.size;) {
        size_t left = wire.size - at, step = left;
        if (longest > 0)
            step = 1 + support_random_below(random, longest);
        step = step < left ? step : left;
        cr_assert(rpc_raw_write(fd, wire.bytes + at, step));
        at += step;
    }
    shutdown(fd, SHUT_WR);
    size_t size = 0;
    ssize_t got;
    while ((got = recv(fd, ret_bytes + size, room - size, 0)) > 0)
        size += (size_t)got;
    cr_assert_eq(got, 0);
    close(fd);
    return size;
}

Test(split_rpc, live_server, .timeout = 200) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                           .max_request = limits.max_receive, .workers = 2};
    struct support_random random;
    support_baseline_begin();
    support_random_init(&random);
    rpc_stage_open(&stage, &options);
    client_says();
    size_t size = talk(&random, 0, answers[0], sizeof(answers[0]));
    cr_assert_gt(size, 2000);
    for (int round = 0; round < VOUCH_TEST_ROUNDS(200, 10); round++) {
        size_t longest = round == 0 ? 1 : 1 + support_random_below(&random, 200);
        cr_assert_eq(talk(&random, longest, answers[1], sizeof(answers[1])), size);
        cr_assert_arr_eq(answers[0], answers[1], size);
    }
    rpc_stage_close(&stage);
    support_baseline_end();
}
