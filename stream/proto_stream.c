/* SPDX-License-Identifier: MIT */
/*
 * A stream of messages: chunks whose first byte is a type (docs/protocol.md).
 *
 * Reading. Who needs something of the peer, a message or its ack, and finds nobody reading, reads:
 * one chunk, which is filed for all. Others wait for that. So a reader and a closer can be two
 * threads or one, and neither needs the other.
 *
 * Writing goes through a lock of its own, since the reader has to answer a close while somebody
 * writes. It does not wait for that: who holds the lock sends the ack that is owed before or after
 * his own.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <vouch/proto.h>

#include "lib/cond.h"
#include "lib/options.h"
#include "stream/proto_message.h"

enum stream_type { STREAM_DATA = 1, STREAM_CLOSE = 2, STREAM_CLOSE_ACK = 3 };

#define STREAM_CLOSE_MOMENT VOUCH_SECONDS(1) /* far longer than a busy machine needs */

struct vouch_proto_stream {
    struct vouch_buffer *memory; /* this struct's */
    struct vouch_pool *pool;
    struct vouch_chunk_conn *chunks;
    struct vouch_conn *conn;
    size_t max_read, max_write;
    _Atomic int64_t deadlines[2]; /* of reading, of writing */

    pthread_mutex_t write_lock;
    atomic_bool ack_owed;

    pthread_mutex_t lock; /* what follows; nothing waits while it is held */
    pthread_cond_t changed;
    bool reading;                    /* somebody is in vouch_chunk_conn_read */
    bool close_sent, close_answered; /* our direction */
    bool close_seen;                 /* the peer's */
    bool ack_sent;
    int failure;                                          /* lasting; 0 while there is none */
    struct vouch_chunk kept[VOUCH_PROTO_STREAM_KEPT_MAX]; /* a ring */
    unsigned kept_first, kept_count;
    size_t kept_bytes;
};

/* ---- making and freeing ---- */

static int init_locks(struct vouch_proto_stream *stream) {
    if (pthread_mutex_init(&stream->write_lock, NULL) != 0)
        return -ENOMEM;
    if (pthread_mutex_init(&stream->lock, NULL) != 0) {
        pthread_mutex_destroy(&stream->write_lock);
        return -ENOMEM;
    }
    int r = cond_init(&stream->changed);
    if (r < 0) {
        pthread_mutex_destroy(&stream->lock);
        pthread_mutex_destroy(&stream->write_lock);
    }
    return r;
}

static void deinit_locks(struct vouch_proto_stream *stream) {
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->lock);
    pthread_mutex_destroy(&stream->write_lock);
}

static int stream_new(struct vouch_conn *conn, const struct vouch_chunk_options *set,
                      struct vouch_proto_stream **ret_stream) {
    struct vouch_buffer *memory;
    struct vouch_proto_stream *stream;
    int r = vouch_pool_get(set->pool, 0, sizeof(*stream), &memory);
    if (r < 0)
        return r;
    stream = memset(memory->data, 0, sizeof(*stream));
    stream->memory = memory;
    stream->pool = set->pool;
    stream->conn = conn;
    stream->max_read = set->max_read ? set->max_read : VOUCH_CHUNK_SIZE_DEFAULT;
    stream->max_write = set->max_write ? set->max_write : VOUCH_CHUNK_SIZE_DEFAULT;
    atomic_init(&stream->deadlines[0], VOUCH_FOREVER);
    atomic_init(&stream->deadlines[1], VOUCH_FOREVER);
    r = init_locks(stream);
    if (r == 0) {
        r = vouch_chunk_conn_new(conn, set, &stream->chunks);
        if (r < 0)
            deinit_locks(stream);
    }
    if (r < 0) {
        vouch_buffer_unref(memory);
        return r;
    }
    vouch_pool_ref(stream->pool);
    *ret_stream = stream;
    return 0;
}

int vouch_proto_stream_new(struct vouch_conn *conn, const struct vouch_chunk_options *options,
                           struct vouch_proto_stream **ret_stream) {
    struct vouch_chunk_options set = {0};
    OPTIONS_READ(set, options);
    set.size = sizeof(set);
    if (!conn)
        return -EINVAL;
    if (set.pool)
        return stream_new(conn, &set, ret_stream);
    struct vouch_pool_options pool_options = {VOUCH_OPTIONS(pool_options),
                                              .allocator = set.allocator};
    int r = vouch_pool_new(&pool_options, &set.pool);
    if (r < 0)
        return r;
    r = stream_new(conn, &set, ret_stream);
    vouch_pool_unref(set.pool);
    return r;
}

static struct vouch_chunk *kept_front(struct vouch_proto_stream *stream) {
    return &stream->kept[stream->kept_first];
}

static void kept_drop(struct vouch_proto_stream *stream) {
    struct vouch_chunk *chunk = kept_front(stream);
    stream->kept_bytes -= chunk->size;
    vouch_buffer_unref(chunk->buffer);
    stream->kept_first = (stream->kept_first + 1) % VOUCH_PROTO_STREAM_KEPT_MAX;
    stream->kept_count--;
}

static bool kept_full(const struct vouch_proto_stream *stream) {
    return stream->kept_count == VOUCH_PROTO_STREAM_KEPT_MAX ||
           stream->kept_bytes >= stream->max_read;
}

void vouch_proto_stream_free(struct vouch_proto_stream *stream) {
    if (!stream)
        return;
    while (stream->kept_count > 0)
        kept_drop(stream);
    vouch_chunk_conn_free(stream->chunks);
    deinit_locks(stream);
    struct vouch_pool *pool = stream->pool;
    vouch_buffer_unref(stream->memory);
    vouch_pool_unref(pool);
}

struct vouch_conn *vouch_proto_stream_get_conn(struct vouch_proto_stream *stream) {
    return stream->conn;
}

void vouch_proto_stream_set_deadline(struct vouch_proto_stream *stream,
                                     enum vouch_direction direction, int64_t deadline) {
    if (direction & VOUCH_READ)
        atomic_store(&stream->deadlines[0], deadline);
    if (direction & VOUCH_WRITE)
        atomic_store(&stream->deadlines[1], deadline);
}

/* ---- writing ---- */

/* With the write lock held. */
static int write_chunk(struct vouch_proto_stream *stream, const void *data, size_t size,
                       int64_t deadline) {
    vouch_conn_set_deadline(stream->conn, VOUCH_WRITE, deadline);
    return vouch_chunk_conn_write(stream->chunks, data, size);
}

/* Both directions are ended and each side knows: nothing can follow. */
static void close_when_done(struct vouch_proto_stream *stream) {
    pthread_mutex_lock(&stream->lock);
    bool done = stream->close_answered && stream->ack_sent;
    pthread_mutex_unlock(&stream->lock);
    if (done)
        vouch_conn_close(stream->conn);
}

/* Sends the ack that is owed, unless somebody writes, who will do it when he is done. A peer that
 * does not take it any more has ended properly all the same. */
static void send_owed(struct vouch_proto_stream *stream) {
    static const uint8_t ack = STREAM_CLOSE_ACK;
    while (atomic_load(&stream->ack_owed) && pthread_mutex_trylock(&stream->write_lock) == 0) {
        bool owed = atomic_exchange(&stream->ack_owed, false);
        if (owed)
            (void)!write_chunk(stream, &ack, 1, atomic_load(&stream->deadlines[1]));
        pthread_mutex_unlock(&stream->write_lock);
        if (!owed)
            continue;
        pthread_mutex_lock(&stream->lock);
        stream->ack_sent = true;
        pthread_mutex_unlock(&stream->lock);
        close_when_done(stream);
    }
}

static int send_data(struct vouch_proto_stream *stream, const struct vouch_buffer *chunk) {
    pthread_mutex_lock(&stream->write_lock);
    pthread_mutex_lock(&stream->lock);
    bool ended = stream->close_sent;
    pthread_mutex_unlock(&stream->lock);
    int r = ended
                ? -ESHUTDOWN
                : write_chunk(stream, chunk->data, chunk->size, atomic_load(&stream->deadlines[1]));
    pthread_mutex_unlock(&stream->write_lock);
    send_owed(stream);
    return r;
}

int vouch_proto_stream_write(struct vouch_proto_stream *stream, const ProtobufCMessage *message) {
    if (!message)
        return -EINVAL;
    struct vouch_buffer *chunk;
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size >= stream->max_write)
        return -EMSGSIZE;
    int r = vouch_pool_get(stream->pool, 0, 1 + size, &chunk);
    if (r < 0)
        return r;
    chunk->data[0] = STREAM_DATA;
    chunk->size = 1;
    r = proto_pack(message, size, chunk, NULL);
    if (r == 0)
        r = send_data(stream, chunk);
    vouch_buffer_unref(chunk);
    return r;
}

/* ---- reading ---- */

/* What a chunk means, by its type and what was before. With the lock held; keeps its buffer when it
 * is data. Returns why it breaks the protocol, or NULL. */
static const char *file_chunk(struct vouch_proto_stream *stream, const struct vouch_chunk *chunk) {
    uint8_t type = chunk->size > 0 ? chunk->data[0] : 0;
    if (chunk->size == 0)
        return "an empty chunk";
    if (type < STREAM_DATA || type > STREAM_CLOSE_ACK)
        return "an unknown type of chunk";
    if (type != STREAM_DATA && chunk->size != 1)
        return "bytes after a close or its answer";
    if (type == STREAM_DATA) {
        if (stream->close_seen)
            return "data after the close";
        unsigned at = (stream->kept_first + stream->kept_count++) % VOUCH_PROTO_STREAM_KEPT_MAX;
        stream->kept[at] = *chunk;
        stream->kept_bytes += chunk->size;
    } else if (type == STREAM_CLOSE) {
        if (stream->close_seen)
            return "a second close";
        stream->close_seen = true;
        atomic_store(&stream->ack_owed, true);
    } else {
        if (!stream->close_sent || stream->close_answered)
            return "an answer to no close";
        stream->close_answered = true;
    }
    return NULL;
}

static bool is_lasting(int r) {
    return r < 0 && r != -ETIMEDOUT && r != -ENOMEM;
}

/* Ends the stream for a reason: what came after it means nothing, an end neither. With the lock
 * held. */
static int fail(struct vouch_proto_stream *stream, int code) {
    stream->failure = code;
    stream->close_seen = false;
    while (stream->kept_count > 0)
        kept_drop(stream);
    vouch_conn_close(stream->conn);
    return code;
}

/* Files a chunk that was read, or the end of file. With the lock held. */
static int file_result(struct vouch_proto_stream *stream, int r, const struct vouch_chunk *chunk,
                       struct vouch_error *error) {
    if (r == 0)
        r = -ECONNRESET;
    if (r < 0) {
        if (is_lasting(r))
            stream->failure = r;
        return r;
    }
    const char *wrong = file_chunk(stream, chunk);
    if (wrong || chunk->data[0] != STREAM_DATA)
        vouch_buffer_unref(chunk->buffer);
    return wrong ? proto_error(error, fail(stream, -EPROTO), "the peer sent %s", wrong) : 0;
}

/* Reads one chunk for all who wait, or waits for who reads, or for room to keep it. With the lock
 * held, which is let go meanwhile. 0: something has changed. */
static int turn(struct vouch_proto_stream *stream, int64_t deadline, struct vouch_error *error) {
    if (stream->reading || kept_full(stream)) {
        if (deadline <= vouch_now())
            return -ETIMEDOUT;
        cond_wait_until(&stream->changed, &stream->lock, deadline);
        return 0;
    }
    struct vouch_chunk chunk;
    stream->reading = true;
    pthread_mutex_unlock(&stream->lock);
    vouch_conn_set_deadline(stream->conn, VOUCH_READ, deadline);
    int r = vouch_chunk_conn_read(stream->chunks, &chunk);
    pthread_mutex_lock(&stream->lock);
    stream->reading = false;
    r = file_result(stream, r, &chunk, error);
    pthread_cond_broadcast(&stream->changed);
    if (atomic_load(&stream->ack_owed) || stream->close_answered) {
        pthread_mutex_unlock(&stream->lock);
        send_owed(stream);
        close_when_done(stream);
        pthread_mutex_lock(&stream->lock);
    }
    return r;
}

/* The reader's side of a message that is there. It is only dropped when it was unpacked, or never
 * will be. */
static int take_message(struct vouch_proto_stream *stream,
                        const ProtobufCMessageDescriptor *descriptor,
                        struct vouch_proto_message *ret_message, struct vouch_error *ret_error) {
    struct vouch_chunk chunk = *kept_front(stream);
    pthread_mutex_unlock(&stream->lock);
    int r = vouch_proto_unpack(stream->pool, descriptor, chunk.data + 1, chunk.size - 1,
                               ret_message, ret_error);
    pthread_mutex_lock(&stream->lock);
    if (is_lasting(r))
        return fail(stream, r);
    if (r < 0)
        return r;
    kept_drop(stream);
    pthread_cond_broadcast(&stream->changed); /* there is room */
    return 1;
}

int vouch_proto_stream_read(struct vouch_proto_stream *stream,
                            const ProtobufCMessageDescriptor *descriptor,
                            struct vouch_proto_message *ret_message,
                            struct vouch_error *ret_error) {
    int64_t deadline = atomic_load(&stream->deadlines[0]);
    struct vouch_error error = {0};
    int r = 0;
    *ret_message = (struct vouch_proto_message){0};
    pthread_mutex_lock(&stream->lock);
    while (r == 0 && stream->kept_count == 0 && !stream->close_seen)
        r = stream->failure != 0 ? stream->failure : turn(stream, deadline, &error);
    if (stream->kept_count > 0)
        r = take_message(stream, descriptor, ret_message, &error);
    else if (stream->close_seen)
        r = 0;
    pthread_mutex_unlock(&stream->lock);
    if (r < 0)
        proto_error(ret_error, r, "%s", error.code == r ? error.message : vouch_strerror(r));
    return r;
}

/* ---- ending ---- */

/* The close is sent even by who does not wait for its answer: it gets a moment, of which nothing is
 * used where there is room in the socket. */
static int64_t close_deadline(struct vouch_proto_stream *stream, int64_t deadline) {
    int64_t moment = vouch_deadline_in(STREAM_CLOSE_MOMENT);
    int64_t limit = atomic_load(&stream->deadlines[1]);
    if (deadline < moment)
        deadline = moment;
    return limit < deadline ? limit : deadline;
}

static int send_close(struct vouch_proto_stream *stream, int64_t deadline) {
    static const uint8_t close = STREAM_CLOSE;
    int r = 0;
    pthread_mutex_lock(&stream->write_lock);
    pthread_mutex_lock(&stream->lock);
    bool sent = stream->close_sent;
    stream->close_sent = true; /* the answer may be here before the write has returned */
    pthread_mutex_unlock(&stream->lock);
    if (!sent)
        r = write_chunk(stream, &close, 1, close_deadline(stream, deadline));
    if (r < 0) {
        pthread_mutex_lock(&stream->lock);
        stream->close_sent = false;
        pthread_mutex_unlock(&stream->lock);
    }
    pthread_mutex_unlock(&stream->write_lock);
    send_owed(stream);
    return r == -ETIMEDOUT ? -EAGAIN : r;
}

int vouch_proto_stream_close_send(struct vouch_proto_stream *stream, int64_t deadline) {
    pthread_mutex_lock(&stream->lock);
    int r = stream->close_answered ? 0 : stream->failure;
    bool answered = stream->close_answered;
    pthread_mutex_unlock(&stream->lock);
    if (answered || r < 0)
        return r;
    r = send_close(stream, deadline);
    pthread_mutex_lock(&stream->lock);
    while (r == 0 && !stream->close_answered)
        if (stream->failure != 0)
            r = stream->failure;
        else
            r = turn(stream, deadline, NULL);
    if (r == -ETIMEDOUT && kept_full(stream))
        r = -EAGAIN;
    if (stream->close_answered)
        r = 0;
    pthread_mutex_unlock(&stream->lock);
    return r;
}
