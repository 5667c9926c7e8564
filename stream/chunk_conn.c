/* SPDX-License-Identifier: MIT */
/*
 * The chunk codec on a connection: whole chunks, one after the other, waiting for each.
 *
 * The time of a frame runs from when its first byte was seen until it is whole, over any number of
 * calls, so that a peer that sends one byte now and then does not hold a reader for ever. The
 * connection is closed where its stream has lost its meaning.
 */
#include "lib/chunk.h"
#include "lib/conn.h"
#include "lib/mem.h"
#include "lib/options.h"

#include <errno.h>

#define CHUNK_CONN_FRAME_TIMEOUT VOUCH_SECONDS(30)

struct vouch_chunk_conn {
    const struct vouch_allocator *allocator;
    struct vouch_conn *conn;
    struct vouch_chunk_decoder decoder;
    size_t max_write;
    int64_t frame_timeout;
    int64_t frame_deadline; /* of the chunk that has begun; VOUCH_FOREVER when none has */
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

void vouch_chunk_conn_free(struct vouch_chunk_conn *chunks) {
    if (!chunks)
        return;
    vouch_conn_free(chunks->conn);
    chunk_decoder_deinit(&chunks->decoder);
    mem_free(chunks->allocator, chunks, sizeof(*chunks));
}

struct vouch_conn *vouch_chunk_conn_get_conn(struct vouch_chunk_conn *chunks) {
    return chunks->conn;
}

/* Reads once into the decoder: 1, 0 at the end between two chunks, or an error. */
static int chunk_conn_fill(struct vouch_chunk_conn *chunks) {
    bool partial = vouch_chunk_decoder_partial(&chunks->decoder);
    if (partial && chunks->frame_deadline == VOUCH_FOREVER)
        chunks->frame_deadline = vouch_deadline_in(chunks->frame_timeout);

    uint8_t *space;
    size_t size;
    int result = vouch_chunk_decoder_space(&chunks->decoder, &space, &size);
    if (result < 0)
        return result;
    ssize_t taken = conn_read_until(chunks->conn, space, size, chunks->frame_deadline);
    vouch_chunk_decoder_commit(&chunks->decoder, taken > 0 ? (size_t)taken : 0);
    if (taken > 0)
        return 1;
    if (taken == 0)
        return partial ? -ECONNRESET : 0;
    if (taken == -ETIMEDOUT && partial && chunks->frame_deadline <= vouch_now())
        vouch_conn_close(chunks->conn);
    return (int)taken;
}

int vouch_chunk_conn_read(struct vouch_chunk_conn *chunks, struct vouch_chunk *ret_chunk) {
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
        result = chunk_conn_fill(chunks);
        if (result <= 0)
            return result;
    }
}

int vouch_chunk_conn_write(struct vouch_chunk_conn *chunks, const void *data, size_t size) {
    if (size > chunks->max_write)
        return -EMSGSIZE;
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
