/* SPDX-License-Identifier: MIT */
/*
 * The chunk codec on a connection: whole chunks, one after the other, waiting for each or, in a
 * foreign loop, for none.
 *
 * The time of a frame runs from when its first byte was seen until it is whole, over any number of
 * calls, so that a peer that sends one byte now and then does not hold a reader for ever. The
 * connection is closed where its stream has lost its meaning.
 */
#include "lib/chunk.h"
#include "lib/conn.h"
#include "lib/mem.h"
#include "lib/options.h"
#include "lib/pool.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define CHUNK_CONN_FRAME_TIMEOUT VOUCH_SECONDS(30)
#define CHUNK_CONN_PIECES 64 /* chunks in one sendmsg */

struct vouch_chunk_conn {
    const struct vouch_allocator *allocator;
    struct vouch_conn *conn;
    struct vouch_chunk_decoder decoder;
    size_t max_write;
    int64_t frame_timeout;
    int64_t frame_deadline; /* of the chunk that has begun; VOUCH_FOREVER when none has */
    struct pool_buffer *out_head, *out_tail; /* queued chunks, headers included */
    size_t out_bytes, out_offset;            /* of all of them; sent of the first */
};

static int chunk_conn_init_decoder(struct vouch_chunk_conn *chunks,
                                   const struct vouch_chunk_options *set) {
    if (set->pool)
        return chunk_decoder_init(&chunks->decoder, set->pool, set->max_read, 0);
    struct vouch_pool *pool;
    int result = vouch_pool_new(&(struct vouch_pool_options){.allocator = set->allocator}, &pool);
    if (result < 0)
        return result;
    result = chunk_decoder_init(&chunks->decoder, pool, set->max_read, 0);
    vouch_pool_unref(pool);
    return result;
}

int vouch_chunk_conn_new(struct vouch_conn *conn, const struct vouch_chunk_options *options,
                         struct vouch_chunk_conn **ret_chunks) {
    struct vouch_chunk_options set = {0};
    OPTIONS_READ(set, options);
    if (!conn || set.max_write > VOUCH_CHUNK_SIZE_BOUND || set.frame_timeout < 0)
        return -EINVAL;
    struct vouch_chunk_conn *chunks = mem_zalloc(set.allocator, sizeof(*chunks));
    if (!chunks)
        return -ENOMEM;
    int result = chunk_conn_init_decoder(chunks, &set);
    if (result < 0) {
        mem_free(set.allocator, chunks, sizeof(*chunks));
        return result;
    }
    chunks->allocator = set.allocator;
    chunks->conn = conn;
    chunks->max_write = set.max_write ? set.max_write : VOUCH_CHUNK_SIZE_DEFAULT;
    chunks->frame_timeout = set.frame_timeout ? set.frame_timeout : CHUNK_CONN_FRAME_TIMEOUT;
    chunks->frame_deadline = VOUCH_FOREVER;
    *ret_chunks = chunks;
    return 0;
}

/* Lets go of the first queued chunk. */
static void chunk_conn_drop(struct vouch_chunk_conn *chunks) {
    struct pool_buffer *first = chunks->out_head;
    chunks->out_head = first->next;
    chunks->out_bytes -= first->public.size;
    chunks->out_offset = 0;
    vouch_buffer_unref(&first->public);
}

void vouch_chunk_conn_free(struct vouch_chunk_conn *chunks) {
    if (!chunks)
        return;
    vouch_conn_free(chunks->conn);
    while (chunks->out_head)
        chunk_conn_drop(chunks);
    chunk_decoder_deinit(&chunks->decoder);
    mem_free(chunks->allocator, chunks, sizeof(*chunks));
}

struct vouch_conn *vouch_chunk_conn_get_conn(struct vouch_chunk_conn *chunks) {
    return chunks->conn;
}

static ssize_t chunk_conn_receive(struct vouch_chunk_conn *chunks, uint8_t *space, size_t size,
                                  bool wait) {
    if (wait)
        return conn_read_until(chunks->conn, space, size, chunks->frame_deadline);
    int64_t deadline;
    int result = conn_begin(chunks->conn, VOUCH_READ, &deadline);
    if (result < 0)
        return result;
    ssize_t taken = conn_recv_now(chunks->conn, space, size);
    return taken == -EAGAIN && chunks->frame_deadline <= vouch_now() ? -ETIMEDOUT : taken;
}

/* Reads once into the decoder: 1, 0 at the end between two chunks, or an error. */
static int chunk_conn_fill(struct vouch_chunk_conn *chunks, bool wait) {
    bool partial = vouch_chunk_decoder_partial(&chunks->decoder);
    if (partial && chunks->frame_deadline == VOUCH_FOREVER)
        chunks->frame_deadline = vouch_deadline_in(chunks->frame_timeout);

    uint8_t *space;
    size_t size;
    int result = vouch_chunk_decoder_space(&chunks->decoder, &space, &size);
    if (result < 0)
        return result;
    ssize_t taken = chunk_conn_receive(chunks, space, size, wait);
    vouch_chunk_decoder_commit(&chunks->decoder, taken > 0 ? (size_t)taken : 0);
    if (taken > 0)
        return 1;
    if (taken == 0)
        return partial ? -ECONNRESET : 0;
    if (taken == -ETIMEDOUT && partial && chunks->frame_deadline <= vouch_now())
        vouch_conn_close(chunks->conn);
    return (int)taken;
}

static int chunk_conn_next(struct vouch_chunk_conn *chunks, bool wait,
                           struct vouch_chunk *ret_chunk) {
    if (!conn_is_ours(chunks->conn))
        return -ECHILD;
    for (;;) {
        int result = vouch_chunk_decoder_next(&chunks->decoder, ret_chunk);
        if (result < 0)
            vouch_conn_close(chunks->conn);
        if (result > 0)
            chunks->frame_deadline = VOUCH_FOREVER;
        if (result != 0)
            return result;
        result = chunk_conn_fill(chunks, wait);
        if (result <= 0)
            return result;
    }
}

int vouch_chunk_conn_read(struct vouch_chunk_conn *chunks, struct vouch_chunk *ret_chunk) {
    return chunk_conn_next(chunks, true, ret_chunk);
}

int vouch_chunk_conn_try_read(struct vouch_chunk_conn *chunks, struct vouch_chunk *ret_chunk) {
    return chunk_conn_next(chunks, false, ret_chunk);
}

int vouch_chunk_conn_write(struct vouch_chunk_conn *chunks, const void *data, size_t size) {
    if (size > chunks->max_write)
        return -EMSGSIZE;
    if (chunks->out_head)
        return -EBUSY;
    uint8_t header[VOUCH_CHUNK_HEADER_MAX];
    struct iovec pieces[2] = {
        {.iov_base = header, .iov_len = vouch_chunk_encode_header(size, header)},
        {.iov_base = (void *)data, .iov_len = size},
    };
    size_t written;
    int result = conn_writev_counted(chunks->conn, pieces, 2, &written);
    if (result < 0 && written > 0) /* nothing can follow half a chunk */
        vouch_conn_close(chunks->conn);
    return result;
}

/* ---- writing without waiting ---- */

int vouch_chunk_conn_flush(struct vouch_chunk_conn *chunks) {
    int64_t deadline;
    int result = conn_begin(chunks->conn, VOUCH_WRITE, &deadline);
    while (result == 0 && chunks->out_head) {
        struct iovec pieces[CHUNK_CONN_PIECES];
        int count = 0;
        size_t offset = chunks->out_offset;
        for (struct pool_buffer *b = chunks->out_head; b && count < CHUNK_CONN_PIECES;
             b = b->next) {
            pieces[count].iov_base = b->public.data + offset;
            pieces[count++].iov_len = b->public.size - offset;
            offset = 0;
        }
        ssize_t sent = conn_send_now(chunks->conn, pieces, count);
        if (sent < 0)
            return (int)sent;
        chunks->out_offset += (size_t)sent;
        while (chunks->out_head && chunks->out_offset >= chunks->out_head->public.size) {
            offset = chunks->out_offset - chunks->out_head->public.size;
            chunk_conn_drop(chunks);
            chunks->out_offset = offset;
        }
    }
    return result;
}

static int chunk_conn_may_queue(const struct vouch_chunk_conn *chunks,
                                const struct vouch_buffer *body) {
    if (!conn_is_ours(chunks->conn))
        return -ECHILD;
    if (body->size > chunks->max_write)
        return -EMSGSIZE;
    if (vouch_buffer_headroom(body) < VOUCH_CHUNK_HEADER_MAX || pool_buffer_is_shared(body))
        return -EINVAL;
    return chunks->out_bytes >= chunks->max_write ? -EAGAIN : 0;
}

int vouch_chunk_conn_queue(struct vouch_chunk_conn *chunks, struct vouch_buffer *body) {
    int result = chunk_conn_may_queue(chunks, body);
    if (result < 0) {
        vouch_buffer_unref(body);
        return result;
    }
    uint8_t header[VOUCH_CHUNK_HEADER_MAX];
    size_t size = vouch_chunk_encode_header(body->size, header);
    body->data -= size;
    body->size += size;
    body->capacity += size;
    memcpy(body->data, header, size);

    struct pool_buffer *last = pool_buffer_of(body);
    last->next = NULL;
    if (chunks->out_head)
        chunks->out_tail->next = last;
    else
        chunks->out_head = last;
    chunks->out_tail = last;
    chunks->out_bytes += body->size;
    result = vouch_chunk_conn_flush(chunks);
    return result == -EAGAIN ? 0 : result;
}

short vouch_chunk_conn_get_events(const struct vouch_chunk_conn *chunks) {
    return chunks->out_head ? POLLIN | POLLOUT : POLLIN;
}

int64_t vouch_chunk_conn_get_timeout(const struct vouch_chunk_conn *chunks) {
    if (chunks->frame_deadline == VOUCH_FOREVER)
        return VOUCH_FOREVER;
    int64_t left = chunks->frame_deadline - vouch_now();
    return left > 0 ? left : 0;
}
