/* SPDX-License-Identifier: MIT */
/*
 * The chunk decoder's insides, for those that embed one; there it also finds messages that are
 * framed in other ways: lines, and packets. What is called a chunk in <vouch/chunk.h> is then a
 * line without its '\n', or a packet.
 */
#ifndef VOUCH_LIB_CHUNK_H
#define VOUCH_LIB_CHUNK_H

#include <vouch/chunk.h>

#include "lib/pool.h"

enum chunk_framing {
    CHUNK_LENGTHS, /* [length][body], the wire's own */
    CHUNK_LINES,   /* ended by '\n'. One that is too large is reported with the bytes that had come
                      when that showed, and skipped to its end */
    CHUNK_PACKETS, /* each commit is one message. It may say more than there was room for: then the
                      rest is lost, and the message too large */
};

/* Room for a packet: what one of more bytes says is not known. */
#define CHUNK_PACKET_MAX (POOL_ROOM((size_t)256 * 1024))

struct vouch_chunk_decoder {
    enum chunk_framing framing;
    struct vouch_pool *pool;
    struct vouch_buffer *buffer; /* NULL: no bytes are held */
    size_t begin, end;           /* the bytes held and not parsed yet, as offsets into the buffer */
    uint64_t skip;               /* bytes of an oversize body that are still to be thrown away */
    bool skip_line;              /* … of a line, until its end */
    size_t skipped;              /* … so far */
    size_t scanned;              /* of the bytes held, so many have no end of a line in them */
    size_t packet;               /* real size of the packet that is held */
    size_t max_size, drain_max;
    uint64_t declared; /* of the chunk that ended the stream with -EMSGSIZE */
    size_t read_block; /* size of the next block to read into; follows the traffic */
    size_t proven;     /* about the size of the large chunks that this stream has brought lately */
    size_t offered;    /* by the last vouch_chunk_decoder_space */
    int error;         /* lasting */
};

/* As vouch_chunk_decoder_new and _free, framed by lengths. deinit is safe twice. */
int chunk_decoder_init(struct vouch_chunk_decoder *decoder, struct vouch_pool *pool,
                       size_t max_size, size_t drain_max) VOUCH_MUST_CHECK;
void chunk_decoder_deinit(struct vouch_chunk_decoder *decoder);

/* From here on messages are framed so. Bytes that are held already are looked at anew; for packets
 * there must be none, and max_size becomes at most CHUNK_PACKET_MAX. */
void chunk_decoder_set_framing(struct vouch_chunk_decoder *decoder, enum chunk_framing framing);

/* Whether bytes of an oversize body are still to come. */
static inline bool chunk_decoder_skipping(const struct vouch_chunk_decoder *decoder) {
    return decoder->skip_line || decoder->skip > decoder->end - decoder->begin;
}

#endif
