/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/chunk.h>

#include "tests/harness.h"
#include "tests/support.h"

#define LONG VOUCH_SECONDS(30)

/* A chunk connection and, at its other end, bytes by hand. */
static struct vouch_chunk_conn *chunks;
static struct vouch_conn *peer;

static void begin_with(const struct vouch_chunk_options *options) {
    struct vouch_conn *conns[2];
    support_baseline_begin();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_chunk_conn_new(conns[0], options, &chunks), 0);
    cr_assert_eq(vouch_chunk_conn_get_conn(chunks), conns[0]);
    peer = conns[1];
}

static void begin(void) {
    begin_with(NULL);
}

static void end(void) {
    vouch_chunk_conn_free(chunks);
    vouch_conn_free(peer);
    support_baseline_end();
}

static void send_bytes(const char *bytes, size_t size) {
    cr_assert_eq(vouch_conn_write(peer, bytes, size), 0);
}
#define SEND(text) send_bytes(text, sizeof(text) - 1)

static void expect(int result) {
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_conn_read(chunks, &chunk), result);
}

static void expect_text(const char *text) {
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_conn_read(chunks, &chunk), 1);
    cr_assert_eq(chunk.size, strlen(text));
    cr_assert_arr_eq(chunk.data, text, chunk.size);
    vouch_buffer_unref(chunk.buffer);
}

static void expect_closed(void) {
    char byte;
    cr_assert_eq(vouch_conn_read(vouch_chunk_conn_get_conn(chunks), &byte, 1), -ESHUTDOWN);
}

Test(chunk_conn, reads_chunks_to_the_end) {
    begin();
    SEND("\x0ahello\x00\x04yo");
    expect_text("hello");
    expect_text("");
    expect_text("yo");
    SEND("\x02x");
    cr_assert_eq(vouch_conn_shutdown_write(peer), 0);
    expect_text("x");
    expect(0);
    expect(0);
    end();
}

Test(chunk_conn, writes_what_the_wire_wants) {
    char bytes[16];
    begin();
    cr_assert_eq(vouch_chunk_conn_write(chunks, "hello", 5), 0);
    cr_assert_eq(vouch_conn_read(peer, bytes, sizeof(bytes)), 6, "in one piece");
    cr_assert_arr_eq(bytes, "\x0ahello", 6);
    cr_assert_eq(vouch_chunk_conn_write(chunks, NULL, 0), 0);
    cr_assert_eq(vouch_conn_read(peer, bytes, sizeof(bytes)), 1);
    cr_assert_eq(bytes[0], 0);
    end();
}

static void *echo_chunks(void *context) {
    struct vouch_chunk_conn *echo = context;
    struct vouch_chunk chunk;
    int result;
    while ((result = vouch_chunk_conn_read(echo, &chunk)) == 1) {
        result = vouch_chunk_conn_write(echo, chunk.data, chunk.size);
        vouch_buffer_unref(chunk.buffer);
        if (result < 0)
            return "write failed";
    }
    return result == 0 ? NULL : "read failed";
}

Test(chunk_conn, chunks_of_all_sizes_go_there_and_back) {
    static uint8_t bytes[VOUCH_CHUNK_SIZE_DEFAULT];
    struct vouch_chunk_conn *echo;
    struct support_random random;
    support_random_init(&random);
    support_random_fill(&random, bytes, sizeof(bytes));
    begin();
    cr_assert_eq(vouch_chunk_conn_new(peer, NULL, &echo), 0);
    pthread_t thread = support_thread_start(echo_chunks, echo);
    for (size_t size = 0; size <= sizeof(bytes); size = size < 70 ? size + 1 : size * 2 - 3) {
        struct vouch_chunk chunk;
        cr_assert_eq(vouch_chunk_conn_write(chunks, bytes, size), 0);
        cr_assert_eq(vouch_chunk_conn_read(chunks, &chunk), 1);
        cr_assert_eq(chunk.size, size);
        cr_assert_arr_eq(chunk.data, bytes, size);
        vouch_buffer_unref(chunk.buffer);
    }
    cr_assert_eq(vouch_conn_shutdown_write(vouch_chunk_conn_get_conn(chunks)), 0);
    const char *wrong = support_thread_join(thread);
    cr_assert_null(wrong, "%s", wrong ? wrong : "");
    vouch_chunk_conn_free(echo);
    peer = NULL;
    end();
}

Test(chunk_conn, an_end_in_the_middle_of_a_chunk_is_a_reset) {
    begin();
    SEND("\x0ahel");
    cr_assert_eq(vouch_conn_shutdown_write(peer), 0);
    expect(-ECONNRESET);
    end();
}

Test(chunk_conn, an_end_in_the_middle_of_a_length_is_a_reset) {
    begin();
    SEND("\x80");
    cr_assert_eq(vouch_conn_shutdown_write(peer), 0);
    expect(-ECONNRESET);
    end();
}

Test(chunk_conn, a_malformed_length_closes) {
    begin();
    SEND("\x02x\x01");
    expect_text("x");
    expect(-EPROTO);
    expect(-EPROTO);
    expect_closed();
    end();
}

Test(chunk_conn, limits_of_reading) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .max_read = 3};
    begin_with(&options);
    SEND("\x06"
         "abc"
         "\x08");
    expect_text("abc");
    expect(-EMSGSIZE);
    expect(-EMSGSIZE);
    expect_closed();
    end();
}

Test(chunk_conn, limits_of_writing) {
    static const char lots[VOUCH_CHUNK_SIZE_DEFAULT + 1];
    char bytes[8];
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .max_write = 3};
    begin_with(&options);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "abcd", 4), -EMSGSIZE);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "abc", 3), 0);
    cr_assert_eq(vouch_conn_read(peer, bytes, sizeof(bytes)), 4, "and nothing of the first one");
    end();
    begin();
    cr_assert_eq(vouch_chunk_conn_write(chunks, lots, sizeof(lots)), -EMSGSIZE);
    end();
}

Test(chunk_conn, a_read_deadline_loses_nothing) {
    begin();
    struct vouch_conn *conn = vouch_chunk_conn_get_conn(chunks);
    cr_assert_eq(vouch_conn_set_timeout(conn, VOUCH_READ, 0), 0);
    expect(-ETIMEDOUT);
    SEND("\x0ahe");
    expect(-ETIMEDOUT);
    SEND("ll");
    expect(-ETIMEDOUT);
    SEND("o");
    expect_text("hello");
    end();
}

Test(chunk_conn, a_frame_that_takes_too_long_closes) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options),
                                          .frame_timeout = VOUCH_MILLISECONDS(1)};
    begin_with(&options);
    vouch_conn_set_deadline(vouch_chunk_conn_get_conn(chunks), VOUCH_READ, vouch_deadline_in(LONG));
    SEND("\x0ahel");
    expect(-ETIMEDOUT);
    expect_closed();
    expect(-ESHUTDOWN);
    end();
}

/* The time of a frame runs over several calls and is not begun anew by each byte. */
Test(chunk_conn, a_frame_in_dribs_takes_too_long_as_well) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options),
                                          .frame_timeout = VOUCH_MILLISECONDS(20)};
    begin_with(&options);
    struct vouch_conn *conn = vouch_chunk_conn_get_conn(chunks);
    cr_assert_eq(vouch_conn_set_timeout(conn, VOUCH_READ, VOUCH_MILLISECONDS(1)), 0);
    SEND("\x80\x80\x80\x01");
    struct vouch_chunk chunk;
    int result, rounds = 0;
    do {
        cr_assert_lt(++rounds, 10000);
        if (vouch_conn_write(peer, "x", 1) < 0)
            break;
        result = vouch_chunk_conn_read(chunks, &chunk);
        cr_assert(result == -ETIMEDOUT || result == -ESHUTDOWN, "%d", result);
    } while (result == -ETIMEDOUT);
    expect_closed();
    end();
}

Test(chunk_conn, the_time_of_a_frame_does_not_run_between_frames) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .frame_timeout = 1};
    begin_with(&options);
    cr_assert_eq(vouch_conn_set_timeout(vouch_chunk_conn_get_conn(chunks), VOUCH_READ,
                                        VOUCH_MILLISECONDS(1)),
                 0);
    SEND("\x04yo");
    expect_text("yo");
    expect(-ETIMEDOUT);
    SEND("\x04yo");
    expect_text("yo");
    end();
}

Test(chunk_conn, half_a_chunk_sent_closes_none_sent_does_not) {
    static const char lots[VOUCH_CHUNK_SIZE_DEFAULT];
    begin();
    struct vouch_conn *conn = vouch_chunk_conn_get_conn(chunks);
    vouch_conn_set_deadline(conn, VOUCH_WRITE, vouch_now() - 1);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "abc", 3), -ETIMEDOUT);
    vouch_conn_set_deadline(conn, VOUCH_WRITE, VOUCH_FOREVER);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "abc", 3), 0);
    cr_assert_eq(vouch_conn_set_timeout(conn, VOUCH_WRITE, VOUCH_MILLISECONDS(1)), 0);
    cr_assert_eq(vouch_chunk_conn_write(chunks, lots, sizeof(lots)), -ETIMEDOUT);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "abc", 3), -ESHUTDOWN);
    end();
}

Test(chunk_conn, a_peer_that_is_gone) {
    begin();
    vouch_conn_free(peer);
    peer = NULL;
    expect(0);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "abc", 3), -ECONNRESET);
    end();
}

Test(chunk_conn, options_that_make_no_sense) {
    struct vouch_chunk_options read = {VOUCH_OPTIONS(read), .max_read = VOUCH_CHUNK_SIZE_BOUND + 1};
    struct vouch_chunk_options write = {VOUCH_OPTIONS(write),
                                        .max_write = VOUCH_CHUNK_SIZE_BOUND + 1};
    struct vouch_chunk_options time = {VOUCH_OPTIONS(time), .frame_timeout = -1};
    struct vouch_chunk_options bound = {VOUCH_OPTIONS(bound), .max_read = VOUCH_CHUNK_SIZE_BOUND,
                                        .max_write = VOUCH_CHUNK_SIZE_BOUND,
                                        .frame_timeout = VOUCH_FOREVER};
    struct vouch_chunk_conn *other;
    begin_with(&bound);
    cr_assert_eq(vouch_chunk_conn_new(peer, &read, &other), -EINVAL);
    cr_assert_eq(vouch_chunk_conn_new(peer, &write, &other), -EINVAL);
    cr_assert_eq(vouch_chunk_conn_new(peer, &time, &other), -EINVAL);
    cr_assert_eq(vouch_chunk_conn_new(NULL, NULL, &other), -EINVAL);
    cr_assert_eq(vouch_conn_write(peer, "x", 1), 0, "it is still the caller's");
    vouch_chunk_conn_free(NULL);
    end();
}

Test(chunk_conn, shortage_of_memory) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options),
                                          .allocator = &allocator.allocator};
    struct vouch_conn *conns[2];
    support_baseline_begin();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    peer = conns[1];
    for (uint64_t nth = 1; nth <= 2; nth++) {
        support_allocator_fail(&allocator, nth, SUPPORT_FAIL_ONCE);
        cr_assert_eq(vouch_chunk_conn_new(conns[0], &options, &chunks), -ENOMEM);
        cr_assert_eq(allocator.live_blocks, 0);
    }
    cr_assert_eq(vouch_chunk_conn_new(conns[0], &options, &chunks), 0);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    SEND("\x04yo");
    expect(-ENOMEM);
    expect_text("yo");
    end();
    support_allocator_check(&allocator);
}

Test(chunk_conn, a_pool_can_be_shared) {
    struct vouch_pool *pool;
    struct vouch_pool_stats stats;
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .pool = pool};
    begin_with(&options);
    SEND("\x04yo");
    expect_text("yo");
    vouch_pool_get_stats(pool, &stats);
    cr_assert_eq(stats.gets, 1);
    cr_assert_eq(stats.buffers_out, 0);
    vouch_chunk_conn_free(chunks);
    chunks = NULL;
    vouch_pool_trim(pool);
    end();
    vouch_pool_unref(pool);
}

Test(chunk_conn, is_of_no_use_in_a_forked_child) {
    begin();
    SEND("\x04yo\x04yo");
    expect_text("yo");
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct vouch_chunk chunk;
        bool refused = vouch_chunk_conn_read(chunks, &chunk) == -ECHILD &&
                       vouch_chunk_conn_write(chunks, "x", 1) == -ECHILD;
        vouch_chunk_conn_free(chunks);
        _exit(refused ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    expect_text("yo");
    cr_assert_eq(vouch_chunk_conn_write(chunks, "x", 1), 0);
    end();
}

/* ---- for a foreign loop ---- */

static int queue(const char *text, size_t size) {
    static struct vouch_pool *pool;
    struct vouch_buffer *body;
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    cr_assert_eq(vouch_pool_get(pool, VOUCH_CHUNK_HEADER_MAX, size, &body), 0);
    vouch_pool_unref(pool);
    if (size > 0)
        memcpy(body->data, text, size);
    body->size = size;
    return vouch_chunk_conn_queue(chunks, body);
}

static void expect_now(int result) {
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_conn_try_read(chunks, &chunk), result);
    if (result == 1)
        vouch_buffer_unref(chunk.buffer);
}

Test(chunk_conn, try_read_takes_what_is_there) {
    begin();
    expect_now(-EAGAIN);
    SEND("\x0ahello\x04y");
    expect_now(1);
    cr_assert_eq(vouch_chunk_conn_get_timeout(chunks), VOUCH_FOREVER);
    expect_now(-EAGAIN);
    cr_assert_leq(vouch_chunk_conn_get_timeout(chunks), VOUCH_SECONDS(30));
    cr_assert_gt(vouch_chunk_conn_get_timeout(chunks), 0);
    SEND("o");
    expect_now(1);
    expect_now(-EAGAIN);
    cr_assert_eq(vouch_chunk_conn_get_timeout(chunks), VOUCH_FOREVER);
    cr_assert_eq(vouch_conn_shutdown_write(peer), 0);
    expect_now(0);
    end();
}

Test(chunk_conn, try_read_knows_the_frame_timeout) {
    begin_with(&(struct vouch_chunk_options){.frame_timeout = 1});
    SEND("\x0ahell");
    struct vouch_chunk chunk;
    int result;
    while ((result = vouch_chunk_conn_try_read(chunks, &chunk)) == -EAGAIN)
        cr_assert_eq(vouch_chunk_conn_get_timeout(chunks), 0);
    cr_assert_eq(result, -ETIMEDOUT);
    expect_closed();
    end();
}

Test(chunk_conn, queue_sends_at_once_what_fits) {
    char bytes[16];
    begin();
    cr_assert_eq(vouch_chunk_conn_get_events(chunks), POLLIN);
    cr_assert_eq(queue("hello", 5), 0);
    cr_assert_eq(queue("", 0), 0);
    cr_assert_eq(vouch_chunk_conn_get_events(chunks), POLLIN);
    cr_assert_eq(vouch_conn_read(peer, bytes, sizeof(bytes)), 7);
    cr_assert_arr_eq(bytes, "\x0ahello\x00", 7);
    end();
}

/* More than the socket takes: the rest goes in the order it came, in flushes. */
Test(chunk_conn, what_the_socket_does_not_take_waits) {
    enum { SIZE = 1000, MAX = 1000000 };
    static char body[SIZE];
    begin_with(&(struct vouch_chunk_options){.max_write = MAX});
    unsigned queued = 0;
    int result;
    memset(body, 0, sizeof(body));
    for (;; queued++) {
        memcpy(body, &queued, sizeof(queued));
        result = queue(body, SIZE);
        if (result < 0)
            break;
    }
    cr_assert_eq(result, -EAGAIN);
    cr_assert_gt(queued, MAX / SIZE);
    cr_assert_eq(vouch_chunk_conn_get_events(chunks), POLLIN | POLLOUT);
    cr_assert_eq(vouch_chunk_conn_flush(chunks), -EAGAIN);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "x", 1), -EBUSY);

    for (unsigned i = 0; i < queued; i++) {
        uint8_t header[2];
        unsigned number;
        cr_assert_eq(vouch_conn_read_exactly(peer, header, 2), 0);
        cr_assert_eq(header[0], 0xd0);
        cr_assert_eq(vouch_conn_read_exactly(peer, body, SIZE), 0);
        memcpy(&number, body, sizeof(number));
        cr_assert_eq(number, i);
        result = vouch_chunk_conn_flush(chunks);
        cr_assert(result == 0 || result == -EAGAIN);
    }
    cr_assert_eq(result, 0);
    cr_assert_eq(vouch_chunk_conn_write(chunks, "x", 1), 0);
    end();
}

Test(chunk_conn, queue_refuses) {
    struct vouch_pool *pool;
    struct vouch_buffer *body;
    begin_with(&(struct vouch_chunk_options){.max_write = 5});
    cr_assert_eq(queue("123456", 6), -EMSGSIZE);
    cr_assert_eq(queue("12345", 5), 0);
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    cr_assert_eq(vouch_pool_get(pool, VOUCH_CHUNK_HEADER_MAX - 1, 5, &body), 0);
    cr_assert_eq(vouch_chunk_conn_queue(chunks, body), -EINVAL, "no headroom");
    cr_assert_eq(vouch_pool_get(pool, VOUCH_CHUNK_HEADER_MAX, 5, &body), 0);
    vouch_buffer_ref(body);
    cr_assert_eq(vouch_chunk_conn_queue(chunks, body), -EINVAL, "shared");
    vouch_buffer_unref(body);
    vouch_pool_unref(pool);
    vouch_conn_close(vouch_chunk_conn_get_conn(chunks));
    cr_assert_eq(queue("1", 1), -ESHUTDOWN);
    end(); /* with a chunk that still waits */
}

Test(chunk_conn, queue_notices_that_the_peer_is_gone) {
    begin();
    vouch_conn_free(peer);
    peer = NULL;
    cr_assert_eq(queue("1", 1), -ECONNRESET);
    end();
}
