/* SPDX-License-Identifier: MIT */
/* The chunk decoder's insides, for those that embed one. */
#ifndef VOUCH_LIB_CHUNK_H
#define VOUCH_LIB_CHUNK_H

#include <vouch/chunk.h>

struct vouch_chunk_decoder {
    struct vouch_pool *pool;
    struct vouch_buffer *buffer; /* NULL: no bytes are held */
    size_t begin, end;           /* the bytes held and not parsed yet, as offsets into the buffer */
    uint64_t skip;               /* bytes of an oversize body that are still to be thrown away */
    size_t max_size, drain_max;
    uint64_t declared; /* of the chunk that ended the stream with -EMSGSIZE */
    size_t read_block; /* size of the next block to read into; follows the traffic */
    size_t proven;     /* about the size of the large chunks that this stream has brought lately */
    size_t offered;    /* by the last vouch_chunk_decoder_space */
    int error;         /* lasting */
};

/* As vouch_chunk_decoder_new and _free. deinit is safe twice. */
int chunk_decoder_init(struct vouch_chunk_decoder *decoder, struct vouch_pool *pool,
                       size_t max_size, size_t drain_max) VOUCH_MUST_CHECK;
void chunk_decoder_deinit(struct vouch_chunk_decoder *decoder);

/* Whether bytes of an oversize body are still to come. */
static inline bool chunk_decoder_skipping(const struct vouch_chunk_decoder *decoder) {
    return decoder->skip > decoder->end - decoder->begin;
}

#endif
