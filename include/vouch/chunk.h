/* SPDX-License-Identifier: MIT */
/*
 * Chunks: [length][body]. The length is a zig-zag coded signed 64-bit integer as a little-endian
 * base-128 varint of at most 10 bytes (docs/protocol.md). The codec does no I/O; the chunk
 * connection puts it on a vouch_conn.
 */
#ifndef VOUCH_CHUNK_H
#define VOUCH_CHUNK_H

#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VOUCH_CHUNK_HEADER_MAX 10 /* bytes of the longest coded length */
#define VOUCH_CHUNK_SIZE_DEFAULT                                                                   \
    ((size_t)4 * 1024 * 1024) /* default maximum of a body, each direction */
#define VOUCH_CHUNK_SIZE_BOUND ((size_t)256 * 1024 * 1024) /* hard bound of any maximum */

/* Codes the length of a body of `size` bytes (at most INT64_MAX) into `ret_header`; returns the
 * number of bytes, 1 to 10. */
VOUCH_API size_t vouch_chunk_encode_header(uint64_t size,
                                           uint8_t ret_header[VOUCH_CHUNK_HEADER_MAX]);

/* Decodes a length from the first `size` bytes of `bytes`. Returns the number of bytes it took; 0
 * when it is not complete yet; -EPROTO when it is negative, does not fit 64 bits or is longer than
 * 10 bytes. Non-minimal forms are accepted, as the wire says. */
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_decode_header(const uint8_t *bytes, size_t size,
                                                         uint64_t *ret_length);

/* The decoder: give it bytes in any portions, take whole chunks out. Not thread-safe.
 * Holds no buffer while it holds no bytes. A buffer grows as bytes arrive, at most doubling, never
 * from the header's word alone. */
struct vouch_chunk_decoder;

/* `pool` is referenced. `max_size` 0: VOUCH_CHUNK_SIZE_DEFAULT. `drain_max`: a chunk over max_size
 * is reported, then skipped, when it is not larger than this; 0: never skipped. Returns 0, -ENOMEM,
 * -EINVAL (max_size or drain_max over VOUCH_CHUNK_SIZE_BOUND). */
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_decoder_new(struct vouch_pool *pool, size_t max_size,
                                                       size_t drain_max,
                                                       struct vouch_chunk_decoder **ret_decoder);
VOUCH_API void vouch_chunk_decoder_free(struct vouch_chunk_decoder *decoder); /* NULL is ignored */

/* Where the next bytes go: at least 1 byte of room at `*ret_space`. Take out all whole chunks
 * before asking for more. Returns 0, -ENOMEM, or the decoder's lasting error. */
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_decoder_space(struct vouch_chunk_decoder *decoder,
                                                         uint8_t **ret_space, size_t *ret_size);

/* `size` bytes were put there; 0 gives the space back unused. */
VOUCH_API void vouch_chunk_decoder_commit(struct vouch_chunk_decoder *decoder, size_t size);

/* A whole chunk: `size` bytes at `data`, inside `buffer`, of which the caller gets a reference
 * (vouch_buffer_unref). */
struct vouch_chunk {
    const uint8_t *data;
    size_t size;
    struct vouch_buffer *buffer;
    uint64_t oversize; /* 0; or the declared length of a chunk over max_size, of which data/size
                        * hold only the beginning (up to VOUCH_CHUNK_HEAD_MAX bytes) and which the
                        * decoder is skipping */
};
#define VOUCH_CHUNK_HEAD_MAX 512

/* Takes the next chunk out. 1: `ret_chunk` is filled; 0: more bytes are needed; -EPROTO: a
 * malformed length; -EMSGSIZE: a chunk over the maximum that is not skipped (drain_max); both are
 * lasting, the stream has no meaning from there on. -ENOMEM is not lasting. */
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_decoder_next(struct vouch_chunk_decoder *decoder,
                                                        struct vouch_chunk *ret_chunk);

/* Whether a chunk has begun and is not complete: the time for a half-frame deadline to run. */
VOUCH_API bool vouch_chunk_decoder_partial(const struct vouch_chunk_decoder *decoder);

/* The declared length after -EMSGSIZE, else 0. */
VOUCH_API uint64_t vouch_chunk_decoder_declared(const struct vouch_chunk_decoder *decoder);

/* A chunk connection. One thread may read while another writes. */
struct vouch_chunk_conn;

struct vouch_chunk_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */
    struct vouch_pool *pool;                 /* referenced; NULL: one of its own */
    size_t max_read;                         /* largest body taken; 0: VOUCH_CHUNK_SIZE_DEFAULT */
    size_t max_write;                        /* largest body sent; 0: VOUCH_CHUNK_SIZE_DEFAULT */
    int64_t
        frame_timeout; /* for a chunk once its first byte is there, ns; 0: 30 s; VOUCH_FOREVER */
};

/* Takes `conn` over (on success only). Returns 0, -ENOMEM, -EINVAL. `options` may be NULL. */
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_conn_new(struct vouch_conn *conn,
                                                    const struct vouch_chunk_options *options,
                                                    struct vouch_chunk_conn **ret_chunks);
VOUCH_API void vouch_chunk_conn_free(
    struct vouch_chunk_conn *chunks); /* closes; NULL is ignored; as vouch_conn_free */

/* The connection beneath, for deadlines, identity, close. Owned by the chunk connection. */
VOUCH_API struct vouch_conn *vouch_chunk_conn_get_conn(struct vouch_chunk_conn *chunks);

/* Reads the next chunk. 1: `ret_chunk` is filled, the caller unrefs its buffer; 0: the peer ended
 * between two chunks; -ECONNRESET in the middle of one; -EMSGSIZE (larger than max_read), -EPROTO:
 * the connection is closed then; -ETIMEDOUT at the read deadline or the frame timeout (after the
 * former, reading may go on); -ESHUTDOWN, -ENOMEM, -ECHILD. */
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_conn_read(struct vouch_chunk_conn *chunks,
                                                     struct vouch_chunk *ret_chunk);

/* Writes one chunk, header and body in one system call. -EMSGSIZE over max_write (nothing was
 * sent); after -ETIMEDOUT in the middle of a chunk the connection is closed; else as
 * vouch_conn_write. An empty body is allowed; peers may ignore it. -EBUSY while queued chunks
 * wait. */
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_conn_write(struct vouch_chunk_conn *chunks,
                                                      const void *data, size_t size);

/* For a foreign loop: poll the connection's descriptor for get_events at most get_timeout ns
 * (VOUCH_FOREVER: no limit), then call try_read until it answers -EAGAIN, and flush. Without
 * waiting, and otherwise as read and write:
 *   try_read  -EAGAIN when no whole chunk is there yet.
 *   queue     takes `body` over, whatever it returns: a buffer with VOUCH_CHUNK_HEADER_MAX bytes of
 *             headroom and no other reference (else -EINVAL). What the socket does not take is kept
 *             for flush; -EAGAIN, and it is dropped, when max_write bytes or more wait already.
 *   flush     sends more of what waits: 0 when all is sent, else -EAGAIN or an error. */
VOUCH_API short vouch_chunk_conn_get_events(const struct vouch_chunk_conn *chunks);
VOUCH_API int64_t vouch_chunk_conn_get_timeout(const struct vouch_chunk_conn *chunks);
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_conn_try_read(struct vouch_chunk_conn *chunks,
                                                         struct vouch_chunk *ret_chunk);
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_conn_queue(struct vouch_chunk_conn *chunks,
                                                      struct vouch_buffer *body);
VOUCH_API VOUCH_MUST_CHECK int vouch_chunk_conn_flush(struct vouch_chunk_conn *chunks);

#ifdef __cplusplus
}
#endif
#endif
