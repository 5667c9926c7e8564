/* SPDX-License-Identifier: MIT */
/* A session in the place of each side of the recorded conversations. The rest is in test_session.c.
 */
#include "rpc/session.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

#define EVER "exp=9223372036854775807"

static struct side client, server;

#define RECORDED 60

struct recorded {
    bool from_client;
    uint8_t chunk[1400];
    size_t size;
    struct envelope e;
};

static struct recorded recorded[RECORDED];

static size_t read_vectors(const char *name) {
    struct support_vectors vectors;
    const struct cJSON *line;
    size_t count = 0;
    support_vectors_open(&vectors, name);
    while ((line = support_vectors_next(&vectors))) {
        cr_assert_lt(count, RECORDED);
        struct recorded *r = &recorded[count++];
        uint64_t length;
        r->from_client = strcmp(support_vector_text(line, "from"), "client") == 0;
        r->size = support_vector_bytes(line, "chunk_hex", r->chunk, sizeof(r->chunk));
        int header = vouch_chunk_decode_header(r->chunk, r->size, &length);
        cr_assert_eq(envelope_decode(r->chunk + header, (size_t)length, &r->e), 0);
    }
    return count;
}

/* The recorded reply to line `i`, or the error without an id that follows it; NULL when the
 * recording has none. */
static const struct recorded *find_reply(size_t i, size_t count) {
    for (size_t k = i + 1; k < count; k++)
        if (!recorded[k].from_client && recorded[k].e.id == recorded[i].e.id)
            return &recorded[k];
    bool error = i + 1 < count && !recorded[i + 1].from_client && recorded[i + 1].e.id == 0;
    return error ? &recorded[i + 1] : NULL;
}

static const struct session_limits replay_limits = {
    .max_receive = 4096,
    .max_send = 4096,
    .drain_max = 4096,
    .max_calls = SIDE_CALLS,
    .output_soft = 65536,
    .output_hard = 65536,
    .frame_timeout = VOUCH_FOREVER,
    .stall_timeout = VOUCH_FOREVER,
};

/* We in the server's place: what the client sent goes in, the recorded answers come out. Errors
 * come out with an id, which the recorded ones lack. */
static unsigned replay_as_server(const char *name) {
    static uint8_t sent[4096];
    unsigned replies = 0;
    size_t count = read_vectors(name);
    side_begin_alone(&server, SESSION_SERVER, &replay_limits);
    for (size_t i = 0; i < count; i++) {
        if (!recorded[i].from_client)
            continue;
        cr_assert(side_feed(&server, recorded[i].chunk, recorded[i].size));
        uint32_t id = recorded[i].e.id;
        struct side_request *request = side_request(&server, id);
        side_events(&server);
        cr_assert_eq(request->size, recorded[i].e.data_size);
        cr_assert_eq(request->deadline, recorded[i].e.expires - SIDE_WALL_OFFSET);
        const struct recorded *reply = find_reply(i, count);
        if (!reply)
            continue;
        replies++;
        if (reply->e.id == 0) {
            char text[256];
            snprintf(text, sizeof(text), "%.*s", (int)reply->e.error_size, reply->e.error);
            cr_assert_eq(side_fail(&server, id, (int)reply->e.error_type, text), 0);
            const char *said = side_sent(&server);
            cr_assert_not_null(strstr(said, text));
            cr_assert_eq(strncmp(said, "[id=", 4), 0);
            continue;
        }
        cr_assert_eq(side_reply_bytes(&server, id, reply->e.data, reply->e.data_size), 0);
        cr_assert_eq(side_take(&server, sent, sizeof(sent)), reply->size);
        cr_assert_arr_eq(sent, reply->chunk, reply->size);
    }
    side_end_alone(&server);
    return replies;
}

/* We in the client's place: our calls are the recorded bytes, the recorded answers find them. */
static unsigned replay_as_client(const char *name) {
    static uint8_t sent[4096];
    unsigned replies = 0;
    size_t count = read_vectors(name);
    side_begin_alone(&client, SESSION_CLIENT, &replay_limits);
    client.session.announced = true; /* the addition that a Go client does not make */
    for (size_t i = 0; i < count; i++) {
        const struct recorded *reply = recorded[i].from_client ? find_reply(i, count) : NULL;
        if (!reply)
            continue;
        const struct envelope *e = &recorded[i].e;
        char method[64], expected[64];
        snprintf(method, sizeof(method), "%.*s", (int)e->method_size, e->method);
        client.session.last_id = e->id - 1;
        cr_assert_eq(
            side_call_bytes(&client, method, e->data, e->data_size, e->expires - SIDE_WALL_OFFSET),
            0);
        cr_assert_eq(side_take(&client, sent, sizeof(sent)), recorded[i].size);
        cr_assert_arr_eq(sent, recorded[i].chunk, recorded[i].size);
        cr_assert(side_feed(&client, reply->chunk, reply->size));
        snprintf(expected, sizeof(expected), "reply %u %s", e->id,
                 reply->e.id ? "(" : "error 1 'm");
        const char *event = side_events(&client);
        cr_assert(strncmp(event, expected, strlen(expected)) == 0 || strstr(event, "fails"), "%s",
                  event);
        replies++;
    }
    cr_assert_eq(client.session.calls.count, 0);
    side_end_alone(&client);
    return replies;
}

Test(session_recorded, recorded_proto_calls_as_server) {
    cr_assert_eq(replay_as_server("proto-rpc.jsonl"), 30);
}

Test(session_recorded, recorded_json_calls_as_server) {
    cr_assert_geq(replay_as_server("json-rpc.jsonl"), 8);
}

Test(session_recorded, recorded_proto_calls_as_client) {
    cr_assert_eq(replay_as_client("proto-rpc.jsonl"), 30);
}

Test(session_recorded, recorded_json_calls_as_client) {
    cr_assert_geq(replay_as_client("json-rpc.jsonl"), 8);
}
