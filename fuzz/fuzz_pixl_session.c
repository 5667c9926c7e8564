/* SPDX-License-Identifier: MIT */
/*
 * A server's session that takes our own wire and pixl, and a client that sends anything. The first
 * byte says where the stream is cut. Every answer is one line of JSON, every call gets one, memory
 * stays bounded; and unless a line was too large, of which it matters when it shows, nothing
 * depends on the cuts.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/json.h>
#include <vouch/pixl.h>

#include "rpc/session.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)
#define SLOTS 4
#define HELD_MAX ((uint64_t)4 * 1024 * 1024)

static const struct session_limits limits = {
    .max_receive = 2048,
    .max_send = 2048,
    .drain_max = 8192,
    .max_calls = SLOTS,
    .output_soft = 4096,
    .output_hard = 65536,
    .frame_timeout = VOUCH_SECONDS(30),
    .stall_timeout = VOUCH_SECONDS(30),
};

struct request {
    struct session_slot slot;
    struct vouch_buffer *buffer;
    const uint8_t *data;
    size_t size;
    bool used;
};

struct drive {
    struct session session;
    struct vouch_pool *pool;
    struct request requests[SLOTS];
    uint64_t hash;
    bool oversize;
    size_t answers;
};

static struct vouch_server *server;
static struct vouch_pixl_server *pixl;

static void note(struct drive *d, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++)
        d->hash = (d->hash ^ at[i]) * 0x100000001b3u;
}

static bool is_json(const void *text, size_t size) {
    const struct vouch_json_rules any = {VOUCH_OPTIONS(any), .max_depth = VOUCH_JSON_DEPTH_BOUND,
                                         .max_values = SIZE_MAX};
    return vouch_json_scan(text, size, &any, NULL) == 0;
}

/* ---- output ---- */

static void take_output(struct drive *d) {
    static uint8_t bytes[262144];
    struct iovec pieces[4];
    size_t size = 0;
    int count;
    while ((count = session_output(&d->session, pieces, 4)) > 0) {
        for (int i = 0; i < count; i++) {
            CHECK(pieces[i].iov_len <= sizeof(bytes) - size);
            memcpy(bytes + size, pieces[i].iov_base, pieces[i].iov_len);
            size += pieces[i].iov_len;
            session_sent(&d->session, pieces[i].iov_len);
        }
    }
    note(d, bytes, size);
    if (!d->session.dialect)
        return;
    for (size_t at = 0; at < size;) {
        const uint8_t *end = memchr(bytes + at, '\n', size - at);
        CHECK(end && bytes[at] == '{');
        size_t line = (size_t)(end - (bytes + at));
        CHECK(line <= limits.max_send && is_json(bytes + at, line));
        CHECK(d->answers > 0);
        d->answers--;
        at += line + 1;
    }
}

/* ---- calls ---- */

static void end_request(struct drive *d, struct request *request, int r) {
    CHECK(r == 0 || r == -EMSGSIZE || r == -EBADMSG || r == session_failure(&d->session));
    d->answers += session_failure(&d->session) == 0;
    vouch_buffer_unref(request->buffer);
    request->used = false;
}

static void reply(struct drive *d, struct request *request) {
    struct vouch_buffer *body;
    CHECK(session_buffer(d->pool, request->size, &body) == 0);
    if (request->size > 0)
        memcpy(body->data, request->data, request->size);
    body->size = request->size;
    end_request(d, request, session_reply(&d->session, &request->slot, body));
}

static void serve(struct drive *d, const struct session_event *event) {
    const struct envelope *e = &event->envelope;
    struct request *request = d->requests;
    while (request < d->requests + SLOTS && request->used)
        request++;
    CHECK(request < d->requests + SLOTS);
    d->oversize |= event->oversize > 0;
    note(d, e->method, e->method_size);
    note(d, e->data, e->data_size);
    note(d, &event->result, sizeof(event->result));
    *request = (struct request){
        .buffer = event->buffer, .data = e->data, .size = e->data_size, .used = true};
    session_accept(&d->session, &request->slot, event);
    if (d->session.dialect && event->result == 0)
        CHECK(is_json(e->data, e->data_size));
    if (event->result != 0)
        end_request(d, request,
                    session_reply_error(&d->session, &request->slot, event->result,
                                        event->dialect.why ? event->dialect.why : "refused"));
    else if (e->data_size % 3 == 0)
        reply(d, request);
    else if (e->data_size % 3 == 1)
        end_request(d, request,
                    session_reply_error(&d->session, &request->slot, VOUCH_REMOTE_SERVER,
                                        "100% \"quoted\"\n\x01"));
}

static void answer_kept(struct drive *d) {
    for (size_t i = 0; i < SLOTS; i++)
        if (d->requests[i].used)
            reply(d, &d->requests[i]);
}

/* ---- input ---- */

static void pump(struct drive *d) {
    struct session_event event;
    for (;;) {
        int r = session_next(&d->session, VOUCH_SECONDS(1000), &event);
        CHECK(r == 1 || r == session_failure(&d->session));
        if (r == 1 && event.type == SESSION_EVENT_CALL) {
            serve(d, &event);
        } else if (r == 1) {
            vouch_buffer_unref(event.buffer);
        } else if (r < 0 || session_wants_input(&d->session)) {
            return;
        } else {
            take_output(d);
            answer_kept(d);
            take_output(d);
        }
    }
}

static void feed(struct drive *d, const uint8_t *bytes, size_t size, uint64_t cuts) {
    while (size > 0) {
        struct vouch_pool_stats stats;
        uint8_t *space;
        size_t room, piece = size;
        if (session_space(&d->session, &space, &room) < 0)
            return;
        if (cuts != 0) {
            cuts ^= cuts << 13;
            cuts ^= cuts >> 7;
            cuts ^= cuts << 17;
            piece = 1 + (size_t)(cuts >> 32) % (cuts & 1 ? 4 : 300);
        }
        piece = piece < room ? piece : room;
        piece = piece < size ? piece : size;
        memcpy(space, bytes, piece);
        session_commit(&d->session, piece, VOUCH_SECONDS(1000));
        bytes += piece;
        size -= piece;
        pump(d);
        vouch_pool_get_stats(d->pool, &stats);
        CHECK(stats.bytes_held - stats.bytes_idle <= HELD_MAX);
    }
}

static struct drive run(struct vouch_pool *pool, const uint8_t *bytes, size_t size, uint64_t cuts) {
    static struct drive d;
    const struct dialect_choice choice = {
        .native = true, .dialects = vouch_pixl_server_get_dialect(pixl), .count = 1};
    struct vouch_pool_stats stats;
    memset(&d, 0, sizeof(d));
    d.pool = pool;
    CHECK(session_init(&d.session, SESSION_SERVER, &limits, pool, NULL) == 0);
    CHECK(session_speak(&d.session, &choice) == 0);
    feed(&d, bytes, size, cuts);
    take_output(&d);
    answer_kept(&d);
    take_output(&d);
    CHECK(!d.session.dialect || d.answers == 0 || session_failure(&d.session) != 0);
    CHECK(d.session.requests.count == 0);
    session_deinit(&d.session);
    vouch_pool_get_stats(pool, &stats);
    CHECK(stats.buffers_out == 0);
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vouch_pool *pool;
    if (size == 0)
        return 0;
    if (!server) {
        CHECK(vouch_server_new(NULL, &server) == 0);
        CHECK(vouch_pixl_server_new(server, NULL, &pixl) == 0);
        CHECK(vouch_pixl_server_add_route(pixl, VOUCH_PIXL_PATTERN, "^/user/(\\w+)$", 0, "user",
                                          NULL) == 0);
    }
    CHECK(vouch_pool_new(NULL, &pool) == 0);
    struct drive whole = run(pool, data + 1, size - 1, 0);
    struct drive cut = run(pool, data + 1, size - 1, ((uint64_t)data[0] + 1) * 0x9e3779b97f4a7c15u);
    CHECK(whole.oversize || cut.oversize || whole.hash == cut.hash ||
          whole.session.failure == -EMSGSIZE || cut.session.failure == -EMSGSIZE);
    vouch_pool_unref(pool);
    return 0;
}
