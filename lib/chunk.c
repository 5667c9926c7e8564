/* SPDX-License-Identifier: MIT */
/*
 * The chunk codec: bytes in, whole chunks out, no I/O.
 *
 * Chunks are not copied out: they are handed out as references into the buffer that they were read
 * into, any number of them in one buffer. Hence the rule that holds this file together: bytes
 * before `begin` belong to chunks that were handed out and are never written again while the buffer
 * is shared; bytes from `end` on are nobody's and may be written at any time.
 *
 * Memory follows what has arrived, never what a header promises: a buffer that a chunk has outgrown
 * is replaced by one of at most twice the bytes held (or of the read size, which follows the
 * traffic between 4 and 64 KiB). A stream that has brought large chunks is believed as much again,
 * so that they are read straight to where they stay; the belief halves with every smaller one.
 */
#include "lib/chunk.h"

#include "lib/mem.h"
#include "lib/pool.h"

#include <errno.h>
#include <string.h>

#define CHUNK_READ_BLOCK_MIN ((size_t)4 * 1024)
/* Packets up to this size are copied rather than kept where they were read. */
#define CHUNK_PACKET_SMALL ((size_t)16 * 1024)
#define CHUNK_READ_BLOCK_MAX ((size_t)64 * 1024)

_Static_assert(VOUCH_CHUNK_HEADER_MAX + VOUCH_CHUNK_HEAD_MAX <= POOL_ROOM(CHUNK_READ_BLOCK_MIN),
               "the beginning of an oversize chunk fits any read buffer");

size_t vouch_chunk_encode_header(uint64_t size, uint8_t ret_header[VOUCH_CHUNK_HEADER_MAX]) {
    uint64_t rest = size << 1; /* zig-zag of a number that is not negative */
    size_t length = 0;
    while (rest >= 0x80) {
        ret_header[length++] = (uint8_t)(rest | 0x80);
        rest >>= 7;
    }
    ret_header[length++] = (uint8_t)rest;
    return length;
}

int vouch_chunk_decode_header(const uint8_t *bytes, size_t size, uint64_t *ret_length) {
    uint64_t coded = 0;
    for (unsigned i = 0; i < size; i++) {
        bool last_possible = i == VOUCH_CHUNK_HEADER_MAX - 1;
        if (last_possible &&
            bytes[i] > 1) /* it holds the 64th bit, and no eleventh byte may follow */
            return -EPROTO;
        coded |= (uint64_t)(bytes[i] & 0x7f) << (7 * i);
        if (bytes[i] & 0x80)
            continue;
        if (coded & 1) /* zig-zag: the number is negative */
            return -EPROTO;
        *ret_length = coded >> 1;
        return (int)i + 1;
    }
    return 0;
}

int chunk_decoder_init(struct vouch_chunk_decoder *decoder, struct vouch_pool *pool,
                       size_t max_size, size_t drain_max) {
    if (!pool || max_size > VOUCH_CHUNK_SIZE_BOUND || drain_max > VOUCH_CHUNK_SIZE_BOUND)
        return -EINVAL;
    *decoder = (struct vouch_chunk_decoder){
        .pool = vouch_pool_ref(pool),
        .max_size = max_size ? max_size : VOUCH_CHUNK_SIZE_DEFAULT,
        .drain_max = drain_max,
        .read_block = CHUNK_READ_BLOCK_MIN,
    };
    return 0;
}

void chunk_decoder_deinit(struct vouch_chunk_decoder *decoder) {
    vouch_buffer_unref(decoder->buffer);
    vouch_pool_unref(decoder->pool);
    *decoder = (struct vouch_chunk_decoder){.error = -ESHUTDOWN};
}

int vouch_chunk_decoder_new(struct vouch_pool *pool, size_t max_size, size_t drain_max,
                            struct vouch_chunk_decoder **ret_decoder) {
    if (!pool)
        return -EINVAL;
    const struct vouch_allocator *allocator = pool_allocator(pool);
    struct vouch_chunk_decoder *decoder = mem_alloc(allocator, sizeof(*decoder));
    if (!decoder)
        return -ENOMEM;
    int result = chunk_decoder_init(decoder, pool, max_size, drain_max);
    if (result < 0) {
        mem_free(allocator, decoder, sizeof(*decoder));
        return result;
    }
    *ret_decoder = decoder;
    return 0;
}

void vouch_chunk_decoder_free(struct vouch_chunk_decoder *decoder) {
    if (!decoder)
        return;
    const struct vouch_allocator *allocator = pool_allocator(decoder->pool);
    chunk_decoder_deinit(decoder);
    mem_free(allocator, decoder, sizeof(*decoder));
}

static size_t decoder_held(const struct vouch_chunk_decoder *decoder) {
    return decoder->end - decoder->begin;
}

void chunk_decoder_set_framing(struct vouch_chunk_decoder *decoder, enum chunk_framing framing) {
    decoder->framing = framing;
    if (framing == CHUNK_PACKETS && decoder->max_size > CHUNK_PACKET_MAX)
        decoder->max_size = CHUNK_PACKET_MAX;
}

/* What the bytes at `begin` say: how many are wanted for the next chunk to come out, and where its
 * body begins. */
struct chunk_frame {
    bool known;      /* what follows is */
    size_t header;   /* bytes before the body */
    uint64_t length; /* declared, or found */
    size_t body;     /* of it to be delivered: all, or the beginning of an oversize chunk */
    size_t trailer;  /* bytes behind the body */
};

static size_t head_of(uint64_t length) {
    return length > VOUCH_CHUNK_HEAD_MAX ? VOUCH_CHUNK_HEAD_MAX : (size_t)length;
}

static inline int look_for_length(const struct vouch_chunk_decoder *decoder,
                                  struct chunk_frame *ret_frame) {
    int header = vouch_chunk_decode_header(decoder->buffer->data + decoder->begin,
                                           decoder_held(decoder), &ret_frame->length);
    if (header <= 0)
        return header;
    ret_frame->known = true;
    ret_frame->header = (size_t)header;
    ret_frame->body = (size_t)ret_frame->length;
    if (ret_frame->length <= decoder->max_size)
        return 0;
    if (ret_frame->length > decoder->drain_max)
        return -EMSGSIZE;
    ret_frame->body = head_of(ret_frame->length);
    return 0;
}

/* A line that is too large is known before its end has come. */
static int look_for_line(const struct vouch_chunk_decoder *decoder, struct chunk_frame *ret_frame) {
    const uint8_t *line = decoder->buffer->data + decoder->begin;
    size_t held = decoder_held(decoder);
    const uint8_t *end = memchr(line + decoder->scanned, '\n', held - decoder->scanned);
    ret_frame->length = end ? (size_t)(end - line) : held;
    bool oversize = ret_frame->length > decoder->max_size;
    ret_frame->known = end || oversize;
    ret_frame->body = oversize ? head_of(ret_frame->length) : (size_t)ret_frame->length;
    ret_frame->trailer = end ? 1 : 0;
    return oversize && ret_frame->length > decoder->drain_max ? -EMSGSIZE : 0;
}

static int look_for_packet(const struct vouch_chunk_decoder *decoder,
                           struct chunk_frame *ret_frame) {
    ret_frame->known = decoder->packet > 0;
    ret_frame->length = decoder->packet;
    ret_frame->body =
        decoder->packet > decoder->max_size ? head_of(decoder->packet) : decoder->packet;
    return 0;
}

/* 0 or the error that this frame is. */
static inline int decoder_look(const struct vouch_chunk_decoder *decoder,
                               struct chunk_frame *ret_frame) {
    *ret_frame = (struct chunk_frame){0};
    if (decoder->framing == CHUNK_LENGTHS)
        return look_for_length(decoder, ret_frame);
    return decoder->framing == CHUNK_LINES ? look_for_line(decoder, ret_frame)
                                           : look_for_packet(decoder, ret_frame);
}

static void decoder_drop_buffer(struct vouch_chunk_decoder *decoder) {
    vouch_buffer_unref(decoder->buffer);
    decoder->buffer = NULL;
    decoder->begin = decoder->end = decoder->scanned = 0;
}

/* Moves the bytes held to the beginning of a buffer with room for `capacity`: this one if nobody
 * else looks at it. */
static int decoder_relocate(struct vouch_chunk_decoder *decoder, size_t capacity) {
    struct vouch_buffer *from = decoder->buffer, *to = from;
    size_t held = decoder_held(decoder);
    if (!from || capacity > from->capacity || pool_buffer_is_shared(from)) {
        int result = vouch_pool_get(decoder->pool, 0, capacity, &to);
        if (result < 0)
            return result;
    }
    if (from)
        memmove(to->data, from->data + decoder->begin, held);
    if (to != from)
        vouch_buffer_unref(from);
    decoder->buffer = to;
    decoder->begin = 0;
    decoder->end = held;
    return 0;
}

/* A line's end may be anywhere: as much again as there is, once that is worth it. */
static size_t wanted_for_line(const struct vouch_chunk_decoder *decoder) {
    size_t held = decoder_held(decoder);
    size_t wanted = held < POOL_ROOM(CHUNK_READ_BLOCK_MIN) ? held + 1 : 2 * held;
    size_t most = decoder->max_size + 2; /* its end, or what shows that it is too large */
    return wanted < most ? wanted : (held < most ? most : held + 1);
}

/* Makes room behind `end` for at least one byte, and for the whole chunk where the bytes that have
 * come justify it. */
static int decoder_make_room(struct vouch_chunk_decoder *decoder) {
    size_t read_room = POOL_ROOM(decoder->read_block);
    if (decoder->framing == CHUNK_PACKETS)
        return decoder->buffer ? 0 : decoder_relocate(decoder, CHUNK_PACKET_MAX);
    if (!decoder->buffer && decoder->proven > read_room && /* and the next one's length before it */
        decoder_relocate(decoder, decoder->proven + VOUCH_CHUNK_HEADER_MAX) == 0)
        return 0;
    if (!decoder->buffer)
        return decoder_relocate(decoder, read_room);

    struct chunk_frame frame;
    int result = decoder_look(decoder, &frame);
    if (result < 0)
        return result;
    size_t held = decoder_held(decoder);
    size_t wanted = frame.header + frame.body;
    size_t capacity = decoder->buffer->capacity;
    if (decoder->framing == CHUNK_LINES)
        wanted = wanted_for_line(decoder);
    else if (wanted <= held) /* only the length is looked for */
        wanted = held + 1;
    bool fits = wanted <= capacity - decoder->begin;
    bool may_grow_later = decoder->begin == 0 && decoder->end < capacity;
    if (fits || may_grow_later)
        return 0;
    size_t justified = 2 * held > decoder->proven ? 2 * held : decoder->proven;
    if (justified > wanted)
        justified = wanted;
    return decoder_relocate(decoder, justified > read_room ? justified : read_room);
}

int vouch_chunk_decoder_space(struct vouch_chunk_decoder *decoder, uint8_t **ret_space,
                              size_t *ret_size) {
    if (decoder->error)
        return decoder->error;
    int result = decoder_make_room(decoder);
    if (result < 0)
        return result;
    decoder->offered = decoder->buffer->capacity - decoder->end;
    *ret_space = decoder->buffer->data + decoder->end;
    *ret_size = decoder->offered;
    return 0;
}

static void decoder_skip_line(struct vouch_chunk_decoder *decoder) {
    size_t held = decoder_held(decoder);
    if (held == 0)
        return;
    const uint8_t *rest = decoder->buffer->data + decoder->begin;
    const uint8_t *end = memchr(rest, '\n', held);
    size_t now = end ? (size_t)(end - rest) : held;
    decoder->begin += end ? now + 1 : now;
    decoder->skipped += now;
    decoder->skip_line = !end;
    if (decoder->skipped > decoder->drain_max) /* however it was cut */
        decoder->error = -EMSGSIZE;
}

/* Throws away what belongs to an oversize chunk: while some of it is still to come, no bytes are
 * held. */
static void decoder_skip(struct vouch_chunk_decoder *decoder) {
    if (decoder->skip_line)
        decoder_skip_line(decoder);
    size_t held = decoder_held(decoder);
    size_t now = decoder->skip < held ? (size_t)decoder->skip : held;
    decoder->begin += now;
    decoder->skip -= now;
}

/* Larger reads while they are filled, smaller ones again when they are not. */
static void decoder_adapt(struct vouch_chunk_decoder *decoder, size_t size) {
    if (size == decoder->offered && decoder->read_block < CHUNK_READ_BLOCK_MAX)
        decoder->read_block *= 2;
    else if (size < decoder->read_block / 4 && decoder->read_block > CHUNK_READ_BLOCK_MIN)
        decoder->read_block /= 2;
}

void vouch_chunk_decoder_commit(struct vouch_chunk_decoder *decoder, size_t size) {
    if (decoder->framing == CHUNK_PACKETS) {
        decoder->packet = size;
        size = size < decoder->offered ? size : decoder->offered;
    } else if (size > 0) {
        decoder_adapt(decoder, size);
    }
    decoder->end += size;
    decoder_skip(decoder);
    if (decoder_held(decoder) == 0)
        decoder_drop_buffer(decoder);
}

static int decoder_fail(struct vouch_chunk_decoder *decoder, int error, uint64_t declared) {
    decoder->error = error;
    decoder->declared = error == -EMSGSIZE ? declared : 0;
    decoder_drop_buffer(decoder);
    return error;
}

static void decoder_learn(struct vouch_chunk_decoder *decoder, uint64_t length) {
    if (length > CHUNK_READ_BLOCK_MAX && length > decoder->proven / 2)
        decoder->proven = (size_t)length;
    else
        decoder->proven = decoder->proven / 2 > CHUNK_READ_BLOCK_MAX ? decoder->proven / 2 : 0;
}

/* Hands out the chunk at `begin`. The last one in a buffer gets the decoder's own reference. */
static void decoder_take(struct vouch_chunk_decoder *decoder, const struct chunk_frame *frame,
                         struct vouch_chunk *ret_chunk) {
    bool oversize = frame->length > decoder->max_size;
    *ret_chunk = (struct vouch_chunk){
        .data = decoder->buffer->data + decoder->begin + frame->header,
        .size = frame->body,
        .buffer = decoder->buffer,
        .oversize = oversize ? frame->length : 0,
    };
    if (!oversize)
        decoder_learn(decoder, frame->length);
    decoder->begin += frame->header + frame->body;
    decoder->skip_line = decoder->framing == CHUNK_LINES && frame->trailer == 0;
    decoder->skip = decoder->skip_line ? 0 : frame->length - frame->body + frame->trailer;
    decoder->skipped = frame->body;
    decoder->scanned = 0;
    if (decoder->framing == CHUNK_PACKETS) { /* what there was no room for won't come */
        decoder->skip = decoder_held(decoder);
        decoder->packet = 0;
    }
    decoder_skip(decoder);
    if (decoder->begin < decoder->end) {
        vouch_buffer_ref(decoder->buffer);
        return;
    }
    decoder->buffer = NULL;
    decoder->begin = decoder->end = 0;
}

/* Packets are read where there is room for any; one that fills little of that gets a buffer of its
 * own, so that who keeps it does not keep the rest. For want of memory it stays. */
static void decoder_shrink(const struct vouch_chunk_decoder *decoder, struct vouch_chunk *chunk) {
    struct vouch_buffer *own;
    if (chunk->size > CHUNK_PACKET_SMALL ||
        pool_copy(decoder->pool, chunk->data, chunk->size, &own) < 0)
        return;
    vouch_buffer_unref(chunk->buffer);
    chunk->data = own->data;
    chunk->buffer = own;
}

/* Whether all of the chunk that is wanted has come. */
static bool decoder_has(const struct vouch_chunk_decoder *decoder,
                        const struct chunk_frame *frame) {
    return frame->known && decoder_held(decoder) - frame->header >= frame->body;
}

int vouch_chunk_decoder_next(struct vouch_chunk_decoder *decoder, struct vouch_chunk *ret_chunk) {
    if (decoder->error)
        return decoder->error;
    if (!decoder->buffer)
        return 0;
    struct chunk_frame frame;
    int result = decoder_look(decoder, &frame);
    if (result < 0)
        return decoder_fail(decoder, result, frame.length);
    if (!decoder_has(decoder, &frame)) {
        decoder->scanned = decoder->framing == CHUNK_LINES ? decoder_held(decoder) : 0;
        return 0;
    }
    decoder_take(decoder, &frame, ret_chunk);
    if (decoder->framing == CHUNK_PACKETS)
        decoder_shrink(decoder, ret_chunk);
    return 1;
}

bool vouch_chunk_decoder_partial(const struct vouch_chunk_decoder *decoder) {
    if (decoder->skip > 0 || decoder->skip_line)
        return true;
    struct chunk_frame frame;
    if (decoder_held(decoder) == 0 || decoder_look(decoder, &frame) < 0)
        return false;
    if (decoder->framing == CHUNK_PACKETS)
        return false;
    return !frame.known || decoder_held(decoder) - frame.header < frame.length;
}

uint64_t vouch_chunk_decoder_declared(const struct vouch_chunk_decoder *decoder) {
    return decoder->declared;
}
