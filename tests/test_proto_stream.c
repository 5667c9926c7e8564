/* SPDX-License-Identifier: MIT */
/* One side is a stream; the other a stream too, or bytes by hand. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/proto.h>

#include "tests/harness.h"
#include "tests/proto_support.h"
#include "tests/support.h"

#define LONG VOUCH_SECONDS(30)
#define NUMBER (&sample__number__descriptor)

static struct vouch_proto_stream *stream, *other;
static struct vouch_conn *peer; /* by hand */

static void begin_with(const struct vouch_chunk_options *options) {
    struct vouch_conn *conns[2];
    support_baseline_begin();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_proto_stream_new(conns[0], options, &stream), 0);
    cr_assert_eq(vouch_proto_stream_get_conn(stream), conns[0]);
    peer = conns[1];
}

static void begin(void) {
    begin_with(NULL);
}

static void begin_both(void) {
    begin();
    cr_assert_eq(vouch_proto_stream_new(peer, NULL, &other), 0);
    peer = NULL;
}

static void end(void) {
    vouch_proto_stream_free(stream);
    vouch_proto_stream_free(other);
    vouch_conn_free(peer);
    support_baseline_end();
}

static void send_bytes(const char *bytes, size_t size) {
    cr_assert_eq(vouch_conn_write(peer, bytes, size), 0);
}
#define SEND(text) send_bytes(text, sizeof(text) - 1)

static void expect_bytes(const char *bytes, size_t size) {
    char got[64];
    cr_assert_eq(vouch_conn_read_exactly(peer, got, size), 0);
    cr_assert_eq(memcmp(got, bytes, size), 0);
}
#define EXPECT(text) expect_bytes(text, sizeof(text) - 1)

static int write_number(struct vouch_proto_stream *to, int64_t value) {
    Sample__Number number = SAMPLE__NUMBER__INIT;
    number.value = value;
    return vouch_proto_stream_write(to, &number.base);
}

/* What reading comes to: a number, or a result that is not 1. */
static int64_t read_number(struct vouch_proto_stream *from, struct vouch_error *ret_error) {
    struct vouch_proto_message message;
    int r = vouch_proto_stream_read(from, NUMBER, &message, ret_error);
    int64_t value = r == 1 ? ((Sample__Number *)message.message)->value : r;
    vouch_proto_message_release(&message);
    return value;
}

static void expect_violation(const char *why) {
    struct vouch_error error;
    char byte;
    cr_assert_eq(read_number(stream, &error), -EPROTO);
    cr_assert_eq(error.code, -EPROTO);
    cr_assert_not_null(strstr(error.message, why), "%s", error.message);
    cr_assert_eq(vouch_conn_read(vouch_proto_stream_get_conn(stream), &byte, 1), -ESHUTDOWN);
}

/* ---- messages ---- */

Test(proto_stream, what_is_on_the_wire) {
    begin();
    cr_assert_eq(write_number(stream, 0), 0);
    cr_assert_eq(write_number(stream, 1), 0);
    EXPECT("\x02\x01\x06\x01\x08\x01");
    SEND("\x02\x01\x06\x01\x08\x07");
    cr_assert_eq(read_number(stream, NULL), 0);
    cr_assert_eq(read_number(stream, NULL), 7);
    end();
}

Test(proto_stream, large_and_nested_messages) {
    struct vouch_proto_message message;
    begin_both();
    for (unsigned which = 0; which < 2; which++) {
        const ProtobufCMessage *sent = &proto_support_message(which)->base;
        cr_assert_eq(vouch_proto_stream_write(stream, sent), 0);
        cr_assert_eq(vouch_proto_stream_read(other, sent->descriptor, &message, NULL), 1);
        proto_support_assert_same(message.message, sent);
        vouch_proto_message_release(&message);
    }
    end();
}

Test(proto_stream, sizes_at_the_limit_and_one_past) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .max_read = 4, .max_write = 4};
    begin_with(&options);
    cr_assert_eq(write_number(stream, 300), 0);
    EXPECT("\x08\x01\x08\xac\x02");
    cr_assert_eq(write_number(stream, 30000), -EMSGSIZE);
    SEND("\x08\x01\x08\xac\x02");
    cr_assert_eq(read_number(stream, NULL), 300);
    SEND("\x0a\x01\x08\xac\x80\x02");
    cr_assert_eq(read_number(stream, NULL), -EMSGSIZE);
    cr_assert_eq(read_number(stream, NULL), -EMSGSIZE, "lasting");
    end();
}

Test(proto_stream, arguments_that_are_wrong) {
    struct vouch_proto_stream *none = NULL;
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options),
                                          .max_read = VOUCH_CHUNK_SIZE_BOUND + 1};
    begin();
    cr_assert_eq(vouch_proto_stream_new(NULL, NULL, &none), -EINVAL);
    cr_assert_eq(vouch_proto_stream_new(peer, &options, &none), -EINVAL);
    cr_assert_eq(vouch_proto_stream_write(stream, NULL), -EINVAL);
    vouch_proto_stream_free(NULL);
    end();
}

#ifdef __linux__
Test(proto_stream, a_message_that_changes_is_not_sent) {
    begin();
    proto_support_wrong_size(1);
    cr_assert_eq(write_number(stream, 5), -EINVAL);
    proto_support_wrong_size(0);
    cr_assert_eq(write_number(stream, 6), 0);
    EXPECT("\x06\x01\x08\x06");
    end();
}
#endif

Test(proto_stream, bad_messages_close) {
    struct vouch_error error;
    begin();
    SEND("\x06\x01\x08\x80\x06\x01\x08\x07");
    cr_assert_eq(read_number(stream, &error), -EPROTO);
    cr_assert_not_null(strstr(error.message, "sample.Number, byte 1: a number is cut off"));
    cr_assert_eq(read_number(stream, NULL), -EPROTO, "what follows means nothing");
    cr_assert_eq(vouch_proto_stream_close_send(stream, 0), -EPROTO);
    end();
}

/* Also when the end was seen before the message was looked at. */
Test(proto_stream, bad_messages_are_no_good_end) {
    begin();
    SEND("\x02\x01\x06\x01\x08\x80\x02\x03\x02\x02");
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), 0);
    cr_assert_eq(read_number(stream, NULL), 0, "the first message");
    cr_assert_eq(read_number(stream, NULL), -EPROTO);
    cr_assert_eq(read_number(stream, NULL), -EPROTO);
    end();
}

/* ---- ending ---- */

Test(proto_stream, each_side_ends_on_its_own) {
    begin();
    SEND("\x06\x01\x08\x07\x02\x02");
    cr_assert_eq(read_number(stream, NULL), 7);
    struct vouch_proto_message message;
    cr_assert_eq(vouch_proto_stream_read(stream, NUMBER, &message, NULL), 0);
    cr_assert_null(message.message);
    EXPECT("\x02\x03");
    cr_assert_eq(write_number(stream, 1), 0, "our direction is open");
    EXPECT("\x06\x01\x08\x01");
    cr_assert_eq(vouch_proto_stream_close_send(stream, 0), -ETIMEDOUT);
    EXPECT("\x02\x02");
    cr_assert_eq(write_number(stream, 1), -ESHUTDOWN);
    SEND("\x02\x03");
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), 0);
    cr_assert_eq(vouch_proto_stream_close_send(stream, 0), 0, "again");
    char byte;
    cr_assert_eq(vouch_conn_read(peer, &byte, 1), 0, "both have ended: closed");
    cr_assert_eq(vouch_proto_stream_read(stream, NUMBER, &message, NULL), 0);
    end();
}

Test(proto_stream, we_end_first_and_go_on_reading) {
    begin();
    SEND("\x06\x01\x08\x01\x06\x01\x08\x02\x02\x03");
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), 0);
    EXPECT("\x02\x02");
    SEND("\x06\x01\x08\x03\x02\x02");
    for (int i = 1; i <= 3; i++)
        cr_assert_eq(read_number(stream, NULL), i, "kept, then read");
    cr_assert_eq(read_number(stream, NULL), 0);
    EXPECT("\x02\x03");
    char byte;
    cr_assert_eq(vouch_conn_read(peer, &byte, 1), 0);
    end();
}

Test(proto_stream, an_answer_that_does_not_come) {
    begin();
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(VOUCH_MILLISECONDS(20))),
                 -ETIMEDOUT);
    cr_assert_lt(vouch_now() - begun, VOUCH_SECONDS(15));
    SEND("\x06\x01\x08\x05\x02\x03");
    cr_assert_eq(read_number(stream, NULL), 5, "reading has not ended");
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), 0);
    EXPECT("\x02\x02");
    end();
}

/* A Go side that has received a close does not read any more; it closes when it is done. */
Test(proto_stream, a_peer_that_leaves_after_its_own_close) {
    begin();
    cr_assert_eq(vouch_proto_stream_close_send(stream, 0), -ETIMEDOUT);
    SEND("\x02\x02");
    vouch_conn_free(peer);
    peer = NULL;
    cr_assert_eq(read_number(stream, NULL), 0, "it has said that it ends");
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -ECONNRESET);
    end();
}

Test(proto_stream, an_end_without_a_close_is_a_reset) {
    begin();
    SEND("\x06\x01\x08\x05");
    cr_assert_eq(vouch_conn_shutdown_write(peer), 0);
    cr_assert_eq(read_number(stream, NULL), 5);
    cr_assert_eq(read_number(stream, NULL), -ECONNRESET);
    cr_assert_eq(read_number(stream, NULL), -ECONNRESET);
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -ECONNRESET);
    end();
}

Test(proto_stream, kept_messages_survive_the_peer) {
    begin();
    SEND("\x06\x01\x08\x05");
    cr_assert_eq(vouch_conn_shutdown_write(peer), 0);
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -ECONNRESET);
    cr_assert_eq(read_number(stream, NULL), 5);
    cr_assert_eq(read_number(stream, NULL), -ECONNRESET);
    end();
}

Test(proto_stream, kept_messages_have_a_limit) {
    begin();
    for (int i = 0; i <= VOUCH_PROTO_STREAM_KEPT_MAX; i++)
        SEND("\x06\x01\x08\x05");
    SEND("\x02\x03");
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -EAGAIN);
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -EAGAIN);
    cr_assert_eq(read_number(stream, NULL), 5);
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -EAGAIN);
    cr_assert_eq(read_number(stream, NULL), 5);
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), 0);
    EXPECT("\x02\x02");
    end(); /* with messages in it */
}

Test(proto_stream, kept_bytes_have_a_limit) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .max_read = 8};
    begin_with(&options);
    SEND("\x06\x01\x08\x05\x06\x01\x08\x05\x06\x01\x08\x05\x06\x01\x08\x05\x02\x03");
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -EAGAIN);
    cr_assert_eq(read_number(stream, NULL), 5);
    cr_assert_eq(read_number(stream, NULL), 5);
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), 0);
    end();
}

/* ---- what breaks the protocol ---- */

static void violate(const char *bytes, size_t size, const char *why) {
    begin();
    send_bytes(bytes, size);
    expect_violation(why);
    end();
}
#define VIOLATE(text, why) violate(text, sizeof(text) - 1, why)

Test(proto_stream, violations) {
    VIOLATE("\x00", "an empty chunk");
    VIOLATE("\x02\x04", "an unknown type");
    VIOLATE("\x02\x00", "an unknown type");
    VIOLATE("\x02\x03", "an answer to no close");
    VIOLATE("\x04\x02x", "bytes after a close");
}

Test(proto_stream, violations_after_the_close) {
    static const struct {
        const char *bytes;
        size_t size;
    } rows[] = {{"\x02\x02\x02\x02", 4}, {"\x02\x02\x02\x01", 4}, {"\x02\x02\x00", 3}};
    for (size_t i = 0; i < 3; i++) {
        begin();
        send_bytes(rows[i].bytes, rows[i].size);
        cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -EPROTO);
        cr_assert_eq(write_number(stream, 1), -ESHUTDOWN);
        end();
    }
}

Test(proto_stream, a_second_answer) {
    begin();
    cr_assert_eq(vouch_proto_stream_close_send(stream, 0), -ETIMEDOUT);
    SEND("\x02\x03\x02\x03");
    expect_violation("an answer to no close");
    end();
}

/* ---- deadlines, closing, forks ---- */

Test(proto_stream, deadlines) {
    begin();
    vouch_proto_stream_set_deadline(stream, VOUCH_READ, vouch_deadline_in(VOUCH_MILLISECONDS(5)));
    cr_assert_eq(read_number(stream, NULL), -ETIMEDOUT);
    SEND("\x06\x01\x08\x05");
    vouch_proto_stream_set_deadline(stream, VOUCH_READ, VOUCH_FOREVER);
    cr_assert_eq(read_number(stream, NULL), 5, "after a deadline reading goes on");
    vouch_proto_stream_set_deadline(stream, VOUCH_WRITE, vouch_now() - 1);
    cr_assert_eq(write_number(stream, 1), -ETIMEDOUT);
    cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), -EAGAIN);
    vouch_proto_stream_set_deadline(stream, VOUCH_BOTH, VOUCH_FOREVER);
    cr_assert_eq(write_number(stream, 1), 0, "the close was not sent either");
    EXPECT("\x06\x01\x08\x01");
    end();
}

static void *read_one(void *context) {
    (void)context;
    return (void *)(intptr_t)read_number(stream, NULL);
}

Test(proto_stream, closing_wakes_a_reader) {
    begin();
    pthread_t reader = support_thread_start(read_one, NULL);
    vouch_conn_close(vouch_proto_stream_get_conn(stream));
    cr_assert_eq((intptr_t)support_thread_join(reader), -ESHUTDOWN);
    end();
}

Test(proto_stream, a_stream_is_not_for_forked_children) {
    begin();
    pid_t child = fork();
    if (child == 0)
        _exit(read_number(stream, NULL) == -ECHILD && write_number(stream, 1) == -ECHILD ? 0 : 1);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    end();
}

/* ---- threads ---- */

enum { MANY = 2000 };

/* Sends numbers, ends, and meanwhile another thread reads those of the other side. */
static void *send_many(void *context) {
    struct vouch_proto_stream *to = context;
    for (int64_t i = 1; i <= VOUCH_TEST_ROUNDS(MANY, 200); i++) {
        int r = write_number(to, i);
        if (r < 0)
            return (void *)(intptr_t)r;
    }
    return (void *)(intptr_t)vouch_proto_stream_close_send(to, vouch_deadline_in(LONG));
}

static void *receive_many(void *context) {
    struct vouch_proto_stream *from = context;
    for (int64_t i = 1; i <= VOUCH_TEST_ROUNDS(MANY, 200); i++)
        if (read_number(from, NULL) != i)
            return (void *)(intptr_t)-1;
    return (void *)(intptr_t)read_number(from, NULL);
}

Test(proto_stream, two_threads_a_side) {
    for (int round = 0; round < 5; round++) {
        begin_both();
        pthread_t threads[4] = {
            support_thread_start(send_many, stream), support_thread_start(send_many, other),
            support_thread_start(receive_many, stream), support_thread_start(receive_many, other)};
        for (size_t i = 0; i < 4; i++)
            cr_assert_eq((intptr_t)support_thread_join(threads[i]), 0, "thread %zu", i);
        end();
    }
}

static void *close_it(void *context) {
    return (void *)(intptr_t)vouch_proto_stream_close_send(context, vouch_deadline_in(LONG));
}

/* The same without a reader at first: who ends reads for himself. */
Test(proto_stream, both_end_at_once) {
    for (int round = 0; round < VOUCH_TEST_ROUNDS(300, 30); round++) {
        begin_both();
        pthread_t a = support_thread_start(close_it, stream);
        pthread_t b = support_thread_start(close_it, other);
        /* One may see the other leave: each answers before it closes. */
        cr_assert_eq((intptr_t)support_thread_join(a), 0);
        cr_assert_eq((intptr_t)support_thread_join(b), 0);
        cr_assert_eq(read_number(stream, NULL), 0);
        cr_assert_eq(read_number(other, NULL), 0);
        end();
    }
}

/* The answer to a close is not held up by a writer for whom there is no room. */
static void *write_until_refused(void *context) {
    int r;
    (void)context;
    while ((r = write_number(stream, INT64_MAX)) == 0)
        ;
    return (void *)(intptr_t)r;
}

Test(proto_stream, a_close_is_read_while_the_writer_is_stuck) {
    begin();
    pthread_t writer = support_thread_start(write_until_refused, NULL);
    SEND("\x02\x02");
    cr_assert_eq(read_number(stream, NULL), 0);
    /* Somewhere among the numbers is the answer: whoever writes next sends it. */
    bool answered = false;
    uint8_t bytes[4096];
    size_t held = 0;
    while (!answered) {
        ssize_t taken = vouch_conn_read(peer, bytes + held, sizeof(bytes) - held);
        cr_assert_gt(taken, 0);
        held += (size_t)taken;
        size_t at = 0;
        while (at < held && at + bytes[at] / 2 < held) {
            answered |= bytes[at] == 2 && bytes[at + 1] == 3;
            at += 1u + bytes[at] / 2;
        }
        memmove(bytes, bytes + at, held - at);
        held -= at;
    }
    vouch_conn_close(vouch_proto_stream_get_conn(stream));
    cr_assert_eq((intptr_t)support_thread_join(writer), -ESHUTDOWN);
    end();
}

/* ---- memory ---- */

static int converse(const struct vouch_allocator *allocator) {
    struct vouch_conn *conns[2];
    struct vouch_conn_options conn_options = {VOUCH_OPTIONS(conn_options), .allocator = allocator};
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .allocator = allocator};
    struct vouch_proto_stream *a = NULL, *b = NULL;
    struct vouch_proto_message message = {0};
    int r = vouch_conn_pair(&conn_options, conns);
    if (r < 0)
        return r;
    r = vouch_proto_stream_new(conns[0], &options, &a);
    if (r < 0)
        vouch_conn_free(conns[0]);
    int s = vouch_proto_stream_new(conns[1], &options, &b);
    if (s < 0)
        vouch_conn_free(conns[1]);
    r = r < 0 ? r : s;
    if (r == 0)
        r = vouch_proto_stream_write(a, &proto_support_message(0)->base);
    if (r == 0)
        r = vouch_proto_stream_read(b, &sample__everything__descriptor, &message, NULL);
    if (r == -ENOMEM) /* nothing is lost */
        cr_assert(a && b ? vouch_proto_stream_read(b, &sample__everything__descriptor, &message,
                                                   NULL) != 0
                         : true);
    vouch_proto_message_release(&message);
    vouch_proto_stream_free(a);
    vouch_proto_stream_free(b);
    return r;
}

Test(proto_stream, each_allocation_may_fail) {
    struct support_allocator allocator;
    support_baseline_begin();
    support_allocator_init(&allocator);
    int r = -ENOMEM;
    for (uint64_t n = 1; r == -ENOMEM; n++) {
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ALWAYS);
        r = converse(&allocator.allocator);
        cr_assert(r == 1 || r == -ENOMEM, "%llu: %d", (unsigned long long)n, r);
        support_allocator_check(&allocator);
    }
    support_baseline_end();
}

Test(proto_stream, a_message_is_not_lost_when_memory_is_short) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options),
                                          .allocator = &allocator.allocator};
    begin_with(&options);
    SEND("\x06\x01\x08\x07");
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE); /* the decoder's buffer */
    cr_assert_eq(read_number(stream, NULL), -ENOMEM);
    support_allocator_fail(&allocator, 2, SUPPORT_FAIL_ONCE); /* the message's */
    cr_assert_eq(read_number(stream, NULL), -ENOMEM);
    cr_assert_eq(read_number(stream, NULL), 7);
    end();
}

/* ---- the recorded conversation ---- */

/* Plays the stream's part of it: what `role` sends is sent, what it gets is fed. */
static void replay(const char *role) {
    struct support_vectors vectors;
    const struct cJSON *object;
    begin();
    support_vectors_open(&vectors, "proto-stream.jsonl");
    while ((object = support_vectors_next(&vectors))) {
        uint8_t chunk[64], got[64], body[64];
        size_t size = support_vector_bytes(object, "chunk_hex", chunk, sizeof(chunk));
        uint64_t type = support_vector_number(object, "type");
        if (strcmp(support_vector_text(object, "from"), role) != 0) {
            cr_assert_eq(vouch_conn_write(peer, chunk, size), 0);
            if (type == 1) {
                struct vouch_proto_message message;
                size_t wanted = support_vector_bytes(object, "message_hex", body, sizeof(body));
                cr_assert_eq(vouch_proto_stream_read(stream, NUMBER, &message, NULL), 1);
                cr_assert_eq(protobuf_c_message_pack(message.message, got), wanted);
                cr_assert_eq(memcmp(got, body, wanted), 0);
                vouch_proto_message_release(&message);
            } else if (type == 2) {
                cr_assert_eq(read_number(stream, NULL), 0);
            } else {
                cr_assert_eq(vouch_proto_stream_close_send(stream, vouch_deadline_in(LONG)), 0);
            }
            continue;
        }
        if (type == 1) {
            struct vouch_pool *pool;
            struct vouch_proto_message message;
            size_t wanted = support_vector_bytes(object, "message_hex", body, sizeof(body));
            cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
            cr_assert_eq(vouch_proto_unpack(pool, NUMBER, body, wanted, &message, NULL), 0);
            cr_assert_eq(vouch_proto_stream_write(stream, message.message), 0);
            vouch_proto_message_release(&message);
            vouch_pool_unref(pool);
        } else if (type == 2) {
            cr_assert_eq(vouch_proto_stream_close_send(stream, 0), -ETIMEDOUT);
        } /* the ack was sent when the close was read */
        cr_assert_eq(vouch_conn_read_exactly(peer, got, size), 0);
        cr_assert_eq(memcmp(got, chunk, size), 0);
    }
    char byte;
    cr_assert_eq(vouch_conn_read(peer, &byte, 1), 0, "closed at the end");
    end();
}

Test(proto_stream, recorded_as_client) {
    replay("client");
}

Test(proto_stream, recorded_as_server) {
    replay("server");
}
