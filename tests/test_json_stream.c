/* SPDX-License-Identifier: MIT */
/* One value a chunk, both ways: waiting, with deadlines, and in a foreign loop. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/chunk.h>

#include "tests/harness.h"
#include "tests/json_support.h"
#include "tests/support.h"

#define FAR VOUCH_SECONDS(30)

/* A stream and, at its other end, bytes by hand. */
static struct vouch_json_stream *stream;
static struct vouch_conn *peer;

static void begin_with(const struct vouch_json_stream_options *options) {
    struct vouch_conn *conns[2];
    support_baseline_begin();
    json_memory_begin();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_json_stream_new(conns[0], options, &stream), 0);
    cr_assert_eq(vouch_json_stream_get_conn(stream), conns[0]);
    peer = conns[1];
    vouch_conn_set_deadline(conns[0], VOUCH_BOTH, vouch_deadline_in(FAR));
    vouch_conn_set_deadline(peer, VOUCH_BOTH, vouch_deadline_in(FAR));
}

static void begin(void) {
    begin_with(NULL);
}

static void end(void) {
    vouch_json_stream_free(stream);
    vouch_json_stream_free(NULL);
    vouch_conn_free(peer);
    json_memory_end();
    support_baseline_end();
}

static void send_text(const char *text) {
    uint8_t header[VOUCH_CHUNK_HEADER_MAX];
    size_t size = vouch_chunk_encode_header(strlen(text), header);
    cr_assert_eq(vouch_conn_write(peer, header, size), 0);
    cr_assert_eq(vouch_conn_write(peer, text, strlen(text)), 0);
}

static void expect(const char *text) {
    cJSON *value;
    struct vouch_error error;
    cr_assert_eq(vouch_json_stream_read(stream, &value, &error), 1);
    json_check_print(value, text);
    cJSON_Delete(value);
}

static void expect_result(int result) {
    struct vouch_error error = {.code = 0};
    cJSON *value = NULL;
    cr_assert_eq(vouch_json_stream_read(stream, &value, &error), result);
    cr_assert_null(value);
    cr_assert_eq(error.code, result);
}

static int write_text(const char *text) {
    cJSON *value = json_tree(text);
    int result = vouch_json_stream_write(stream, value);
    cJSON_Delete(value);
    return result;
}

static int queue_text(const char *text) {
    cJSON *value = json_tree(text);
    int result = vouch_json_stream_queue(stream, value);
    cJSON_Delete(value);
    return result;
}

/* ---- waiting ---- */

Test(json_stream, reads_values_to_the_end) {
    begin();
    send_text("{\"a\":9007199254740993}");
    send_text(" null ");
    send_text("\"x\"");
    expect("{\"a\":9007199254740993}");
    expect("null");
    expect("\"x\"");
    cr_assert_eq(vouch_conn_shutdown_write(peer), 0);
    expect_result(0);
    end();
}

Test(json_stream, writes_what_the_wire_wants) {
    uint8_t bytes[64];
    begin();
    cr_assert_eq(write_text("[1, 2]"), 0);
    cr_assert_eq(vouch_conn_read(peer, bytes, sizeof(bytes)), 6, "in one piece");
    cr_assert_arr_eq(bytes, "\x0a[1,2]", 6);
    end();
}

static void refused(const char *text, const char *message) {
    struct vouch_error error;
    cJSON *value = NULL;
    begin_with(&(struct vouch_json_stream_options){
        .rules = &(struct vouch_json_rules){.max_depth = 1, .unique_keys = true}});
    send_text("[1]");
    send_text(text);
    send_text("[2]");
    expect("[1]");
    cr_assert_eq(vouch_json_stream_read(stream, &value, &error), -EPROTO);
    cr_assert_eq(error.code, -EPROTO);
    cr_assert_str_eq(error.message, message);
    cr_assert_null(value);
    expect_result(-ESHUTDOWN);
    char byte;
    cr_assert_eq(vouch_conn_read(peer, &byte, 1), 0);
    end();
}

Test(json_stream, what_is_refused_ends_it) {
    refused("[1,]", "JSON: at byte 3: no value where one has to be");
    refused("", "JSON: at byte 0: the text ends where a value has to be");
    refused("[[]]", "JSON: at byte 1: arrays and objects nested too deeply");
    refused("{\"a\":1,\"a\":2}", "JSON: at byte 7: a key for the second time");
}

Test(json_stream, a_malformed_chunk_ends_it) {
    begin();
    cr_assert_eq(vouch_conn_write(peer, "\x01", 1), 0);
    expect_result(-EPROTO);
    expect_result(-ESHUTDOWN);
    end();
}

Test(json_stream, deadlines) {
    begin();
    vouch_conn_set_deadline(vouch_json_stream_get_conn(stream), VOUCH_READ, vouch_now());
    expect_result(-ETIMEDOUT);
    vouch_conn_set_deadline(vouch_json_stream_get_conn(stream), VOUCH_READ, vouch_deadline_in(FAR));
    send_text("1");
    expect("1");
    vouch_conn_set_deadline(vouch_json_stream_get_conn(stream), VOUCH_WRITE, 1);
    cr_assert_eq(write_text("1"), -ETIMEDOUT);
    end();
}

Test(json_stream, limits) {
    begin_with(&(struct vouch_json_stream_options){.max_read = 5, .max_write = 5});
    cr_assert_eq(write_text("12345"), 0);
    cr_assert_eq(write_text("123456"), -EMSGSIZE);
    cr_assert_eq(queue_text("123456"), -EMSGSIZE);
    send_text("12345");
    expect("12345");
    send_text("123456");
    expect_result(-EMSGSIZE);
    expect_result(-ESHUTDOWN);
    end();
}

Test(json_stream, what_cannot_be_printed_is_not_sent) {
    begin();
    cJSON *bad = cJSON_CreateString("\xff");
    cr_assert_eq(vouch_json_stream_write(stream, bad), -EINVAL);
    cr_assert_eq(vouch_json_stream_queue(stream, bad), -EINVAL);
    cJSON_Delete(bad);
    cr_assert_eq(vouch_conn_shutdown_write(vouch_json_stream_get_conn(stream)), 0);
    char byte;
    cr_assert_eq(vouch_conn_read(peer, &byte, 1), 0);
    end();
}

Test(json_stream, the_peer_is_gone) {
    begin();
    cr_assert_eq(vouch_conn_write(peer, "\x0a[1", 3), 0);
    vouch_conn_free(peer);
    peer = NULL;
    expect_result(-ECONNRESET);
    cr_assert_eq(write_text("1"), -ECONNRESET);
    end();
}

/* Larger than what is tried first, and than what a socket holds. */
static void *echo(void *context) {
    struct vouch_json_stream *other = context;
    cJSON *value;
    while (vouch_json_stream_read(other, &value, NULL) == 1) {
        cr_assert_eq(vouch_json_stream_write(other, value), 0);
        cJSON_Delete(value);
    }
    return NULL;
}

Test(json_stream, sizes) {
    struct vouch_json_stream *other;
    begin();
    cr_assert_eq(vouch_json_stream_new(peer, NULL, &other), 0);
    peer = NULL;
    pthread_t thread = support_thread_start(echo, other);
    for (size_t size = 1000; size <= 3 << 20; size = size < 1100 ? size + 1 : size * 7) {
        char *text = malloc(size + 1);
        cr_assert_not_null(text);
        memset(text, 'a', size);
        text[size] = '\0';
        cJSON *value = cJSON_CreateString(text), *back;
        cr_assert_eq(vouch_json_stream_write(stream, value), 0);
        cr_assert_eq(vouch_json_stream_read(stream, &back, NULL), 1);
        cr_assert_str_eq(back->valuestring, text);
        cJSON_Delete(value);
        cJSON_Delete(back);
        free(text);
    }
    vouch_conn_close(vouch_json_stream_get_conn(stream));
    support_thread_join(thread);
    vouch_json_stream_free(other);
    end();
}

/* ---- in a foreign loop ---- */

static int wait_for(struct vouch_json_stream *one) {
    struct pollfd entry = {.fd = vouch_conn_get_fd(vouch_json_stream_get_conn(one)),
                           .events = vouch_json_stream_get_events(one)};
    int64_t timeout = vouch_json_stream_get_timeout(one);
    return poll(&entry, 1, timeout < FAR ? (int)(timeout / 1000000) + 1 : 30000);
}

Test(json_stream, both_ends_in_one_loop) {
    enum { COUNT = 2000 };
    struct vouch_json_stream *other;
    unsigned sent = 0, received = 0;
    bool blocked = false;
    begin();
    cr_assert_eq(vouch_json_stream_new(peer, NULL, &other), 0);
    peer = NULL;
    char *text = malloc(1024);
    cr_assert_not_null(text);
    memset(text, 'x', 1023);
    text[1023] = '\0';
    cJSON *value = cJSON_CreateArray();
    cJSON_AddItemToArray(value, cJSON_CreateNumber(0));
    cJSON_AddItemToArray(value, cJSON_CreateString(text));
    while (received < COUNT) {
        while (sent < COUNT) {
            cJSON_SetNumberValue(cJSON_GetArrayItem(value, 0), sent);
            cr_assert_eq(vouch_json_stream_queue(stream, value), 0);
            sent++;
        }
        blocked = blocked || vouch_json_stream_get_events(stream) == (POLLIN | POLLOUT);
        cJSON *got;
        int result;
        while ((result = vouch_json_stream_try_read(other, &got, NULL)) == 1) {
            cr_assert_eq(cJSON_GetArrayItem(got, 0)->valueint, (int)received);
            cJSON_Delete(got);
            received++;
        }
        cr_assert_eq(result, -EAGAIN);
        result = vouch_json_stream_flush(stream);
        cr_assert(result == 0 || result == -EAGAIN);
        if (received < COUNT)
            cr_assert_gt(wait_for(other), 0);
    }
    cr_assert(blocked);
    cr_assert_eq(vouch_json_stream_get_events(stream), POLLIN);
    vouch_conn_close(vouch_json_stream_get_conn(stream));
    cJSON *got;
    cr_assert_eq(vouch_json_stream_try_read(other, &got, NULL), 0);
    cJSON_Delete(value);
    free(text);
    vouch_json_stream_free(other);
    end();
}

Test(json_stream, a_full_queue_says_so) {
    int result;
    begin_with(&(struct vouch_json_stream_options){.max_write = 1000});
    do
        result = queue_text("\"0123456789012345678901234567890123456789\"");
    while (result == 0);
    cr_assert_eq(result, -EAGAIN);
    cr_assert_eq(write_text("1"), -EBUSY);
    end();
}

/* ---- memory ---- */

Test(json_stream, without_memory) {
    struct support_allocator allocator;
    const struct vouch_json_stream_options options = {VOUCH_OPTIONS(options),
                                                      .allocator = &allocator.allocator};
    struct vouch_conn *conns[2];
    unsigned failures = 0;
    support_baseline_begin();
    support_allocator_init(&allocator);
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    for (;; failures++) {
        support_allocator_fail(&allocator, failures + 1, SUPPORT_FAIL_ONCE);
        int result = vouch_json_stream_new(conns[0], &options, &stream);
        if (result == 0)
            break;
        cr_assert_eq(result, -ENOMEM);
        cr_assert_eq(allocator.live_blocks, 0);
    }
    cr_assert_geq(failures, 3); /* the pool, the stream, the chunk connection */
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    cr_assert_eq(write_text("[\"the first write needs a buffer\"]"), -ENOMEM);
    support_allocator_fail(&allocator, 0, 0);
    cr_assert_eq(write_text("1"), 0);
    vouch_json_stream_free(stream);
    vouch_conn_free(conns[1]);
    support_allocator_check(&allocator);
    support_baseline_end();
}

Test(json_stream, a_value_without_memory_is_lost_and_the_next_is_not) {
    unsigned failures = 0;
    begin();
    for (;; failures++) {
        cJSON *value;
        send_text("[1,2.5]");
        json_memory_fail(failures + 1);
        int result = vouch_json_stream_read(stream, &value, NULL);
        if (result == 1) {
            cJSON_Delete(value);
            break;
        }
        cr_assert_eq(result, -ENOMEM);
    }
    cr_assert_geq(failures, 4);
    end();
}

Test(json_stream, options) {
    struct vouch_conn *conns[2];
    const struct vouch_json_rules deep = {.max_depth = VOUCH_JSON_DEPTH_BOUND + 1};
    support_baseline_begin();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_json_stream_new(
                     conns[0], &(struct vouch_json_stream_options){.rules = &deep}, &stream),
                 -EINVAL);
    cr_assert_eq(vouch_json_stream_new(
                     conns[0],
                     &(struct vouch_json_stream_options){.max_read = VOUCH_CHUNK_SIZE_BOUND + 1},
                     &stream),
                 -EINVAL);
    cr_assert_eq(vouch_json_stream_new(NULL, NULL, &stream), -EINVAL);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}

/* ---- as recorded ---- */

/* In both roles: what the other side sent is read as it says, what this side sends has its bytes.
 */
static void play(const char *role) {
    static uint8_t chunk[4096], sent[4096];
    struct support_vectors vectors;
    const struct cJSON *line;
    unsigned read = 0, written = 0;
    struct vouch_conn *conns[2];
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_json_stream_new(conns[0], NULL, &stream), 0);
    support_vectors_open(&vectors, "json-stream.jsonl");
    while ((line = support_vectors_next(&vectors))) {
        size_t size = support_vector_bytes(line, "chunk_hex", chunk, sizeof(chunk));
        const char *text = support_vector_text(line, "json");
        if (strcmp(support_vector_text(line, "from"), role) != 0) {
            cr_assert_eq(vouch_conn_write(conns[1], chunk, size), 0);
            expect(text);
            read++;
        } else {
            cr_assert_eq(write_text(text), 0);
            cr_assert_eq(vouch_conn_read_exactly(conns[1], sent, size), 0);
            cr_assert_arr_eq(sent, chunk, size);
            written++;
        }
    }
    cr_assert_eq(read, 17);
    cr_assert_eq(written, 17);
    vouch_json_stream_free(stream);
    vouch_conn_free(conns[1]);
}

Test(json_stream, recorded_streams) {
    support_baseline_begin();
    play("client");
    play("server");
    support_baseline_end();
}
