/* SPDX-License-Identifier: MIT */
/* The chunk decoder: what comes out, and what it holds meanwhile. The coding of lengths has
 * suite_varint.c, splits suite_split.c. */
#include "lib/chunk.h"
#include "lib/pool.h"

#include <errno.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support.h"

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

static struct support_allocator allocator;
static struct vouch_pool *pool;
static struct vouch_chunk_decoder *decoder;

static void begin(size_t max_size, size_t drain_max) {
    support_baseline_begin();
    support_allocator_init(&allocator);
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = &allocator.allocator};
    cr_assert_eq(vouch_pool_new(&options, &pool), 0);
    cr_assert_eq(vouch_chunk_decoder_new(pool, max_size, drain_max, &decoder), 0);
}

static void end(void) {
    vouch_chunk_decoder_free(decoder);
    vouch_pool_unref(pool);
    support_allocator_check(&allocator);
    support_baseline_end();
}

static struct vouch_pool_stats stats(void) {
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(pool, &stats);
    return stats;
}

/* In use now: held minus idle minus the pool itself. */
static size_t bytes_out(void) {
    vouch_pool_trim(pool);
    struct vouch_pool *empty;
    cr_assert_eq(vouch_pool_new(NULL, &empty), 0);
    struct vouch_pool_stats nothing;
    vouch_pool_get_stats(empty, &nothing);
    vouch_pool_unref(empty);
    return (size_t)(stats().bytes_held - nothing.bytes_held);
}

/* Puts in as much as there is room for; returns how much. */
static size_t put(const void *bytes, size_t size) {
    uint8_t *space;
    size_t room;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    cr_assert_gt(room, 0);
    if (size > room)
        size = room;
    memcpy(space, bytes, size);
    vouch_chunk_decoder_commit(decoder, size);
    return size;
}

static void put_text(const char *text, size_t size) {
    cr_assert_eq(put(text, size), size);
}
#define PUT(text) put_text(text, sizeof(text) - 1)

static void expect_nothing(void) {
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 0);
}

static void expect_error(int error) {
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), error);
}

static struct vouch_chunk expect_chunk(const void *bytes, size_t size) {
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.size, size);
    cr_assert_eq(chunk.oversize, 0);
    cr_assert_not_null(chunk.buffer);
    cr_assert_not_null(chunk.data);
    cr_assert_arr_eq(chunk.data, bytes, size);
    return chunk;
}

static void expect_text(const char *text) {
    vouch_buffer_unref(expect_chunk(text, strlen(text)).buffer);
}

static void put_header(uint64_t length) {
    uint8_t header[VOUCH_CHUNK_HEADER_MAX];
    size_t size = vouch_chunk_encode_header(length, header);
    cr_assert_eq(put(header, size), size);
}

/* Puts `size` bytes of body, taking nothing out: `size` must not complete a chunk. */
static void put_body(uint8_t byte, size_t size) {
    uint8_t bytes[4096];
    memset(bytes, byte, sizeof(bytes));
    while (size > 0) {
        size -= put(bytes, size < sizeof(bytes) ? size : sizeof(bytes));
        if (size > 0)
            expect_nothing();
    }
}

Test(chunk, chunks_come_out_as_they_went_in) {
    begin(0, 0);
    expect_nothing();
    PUT("\x0ahello\x04yo\x06"
        "abc");
    expect_text("hello");
    expect_text("yo");
    expect_text("abc");
    expect_nothing();
    PUT("\x0ahel");
    expect_nothing();
    PUT("lo\x04");
    expect_text("hello");
    expect_nothing();
    PUT("yo");
    expect_text("yo");
    expect_nothing();
    end();
}

Test(chunk, an_empty_chunk_is_one) {
    begin(0, 0);
    PUT("\x00\x00\x02x\x00");
    expect_text("");
    expect_text("");
    expect_text("x");
    expect_text("");
    expect_nothing();
    end();
}

Test(chunk, a_buffer_is_shared_by_its_chunks_and_outlives_the_decoder) {
    begin(0, 0);
    PUT("\x02"
        "a"
        "\x02"
        "b"
        "\x02"
        "c");
    struct vouch_chunk a = expect_chunk("a", 1), b = expect_chunk("b", 1), c = expect_chunk("c", 1);
    cr_assert_eq(a.buffer, b.buffer);
    cr_assert_eq(b.buffer, c.buffer);
    cr_assert_eq(stats().gets, 1);
    expect_nothing();
    vouch_chunk_decoder_free(decoder);
    decoder = NULL;
    vouch_buffer_unref(a.buffer);
    vouch_buffer_unref(b.buffer);
    cr_assert_eq(c.data[0], 'c');
    cr_assert_not(pool_buffer_is_shared(c.buffer));
    vouch_buffer_unref(c.buffer);
    end();
}

Test(chunk, holds_nothing_when_it_holds_no_bytes) {
    begin(0, 0);
    cr_assert_eq(stats().buffers_out, 0);
    PUT("\x04yo");
    expect_text("yo");
    cr_assert_eq(stats().buffers_out, 0);
    expect_nothing();
    cr_assert_eq(stats().buffers_out, 0);
    uint8_t *space;
    size_t room;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0, "asking twice is fine");
    cr_assert_eq(stats().buffers_out, 1);
    vouch_chunk_decoder_commit(decoder, 0);
    cr_assert_eq(stats().buffers_out, 0);
    PUT("\x04y");
    expect_nothing();
    cr_assert_eq(stats().buffers_out, 1);
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    vouch_chunk_decoder_commit(decoder, 0);
    PUT("o");
    expect_text("yo");
    cr_assert_eq(stats().buffers_out, 0);
    end();
}

Test(chunk, partial_tells_whether_a_chunk_has_begun_and_is_not_whole) {
    begin(100, 1000);
    cr_assert_not(vouch_chunk_decoder_partial(decoder));
    PUT("\x80");
    cr_assert(vouch_chunk_decoder_partial(decoder));
    PUT("\x01");
    cr_assert(vouch_chunk_decoder_partial(decoder));
    put_body('x', 63);
    cr_assert(vouch_chunk_decoder_partial(decoder));
    PUT("x");
    cr_assert_not(vouch_chunk_decoder_partial(decoder), "it is whole, though not taken out");
    PUT("\x04y");
    cr_assert_not(vouch_chunk_decoder_partial(decoder), "the first one is whole");
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    vouch_buffer_unref(chunk.buffer);
    cr_assert(vouch_chunk_decoder_partial(decoder));
    PUT("o");
    expect_text("yo");
    cr_assert_not(vouch_chunk_decoder_partial(decoder));

    put_header(1000);
    put_body('z', 512);
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    vouch_buffer_unref(chunk.buffer);
    cr_assert(vouch_chunk_decoder_partial(decoder));
    put_body('z', 487);
    cr_assert(vouch_chunk_decoder_partial(decoder));
    PUT("z");
    cr_assert_not(vouch_chunk_decoder_partial(decoder));
    PUT("\x03");
    cr_assert_not(vouch_chunk_decoder_partial(decoder), "malformed");
    expect_error(-EPROTO);
    cr_assert_not(vouch_chunk_decoder_partial(decoder));
    end();
}

/* ---- limits ---- */

Test(chunk, bounds_of_the_limits) {
    begin(VOUCH_CHUNK_SIZE_BOUND, VOUCH_CHUNK_SIZE_BOUND);
    struct vouch_chunk_decoder *other;
    cr_assert_eq(vouch_chunk_decoder_new(pool, VOUCH_CHUNK_SIZE_BOUND + 1, 0, &other), -EINVAL);
    cr_assert_eq(vouch_chunk_decoder_new(pool, 0, VOUCH_CHUNK_SIZE_BOUND + 1, &other), -EINVAL);
    cr_assert_eq(vouch_chunk_decoder_new(NULL, 0, 0, &other), -EINVAL);
    vouch_chunk_decoder_free(NULL);
    end();
}

Test(chunk, at_the_maximum_and_one_over) {
    char expected[200];
    memset(expected, 'x', sizeof(expected));
    begin(200, 0);
    put_header(200);
    put_body('x', 200);
    vouch_buffer_unref(expect_chunk(expected, 200).buffer);
    put_header(201);
    expect_error(-EMSGSIZE);
    cr_assert_eq(vouch_chunk_decoder_declared(decoder), 201);
    expect_error(-EMSGSIZE);
    uint8_t *space;
    size_t room;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), -EMSGSIZE);
    cr_assert_eq(stats().buffers_out, 0);
    end();
}

Test(chunk, the_default_maximum) {
    begin(0, 0);
    put_header(VOUCH_CHUNK_SIZE_DEFAULT);
    expect_nothing();
    cr_assert_eq(vouch_chunk_decoder_declared(decoder), 0);
    vouch_chunk_decoder_free(decoder);
    cr_assert_eq(vouch_chunk_decoder_new(pool, 0, 0, &decoder), 0);
    put_header(VOUCH_CHUNK_SIZE_DEFAULT + 1);
    expect_error(-EMSGSIZE);
    end();
}

Test(chunk, the_largest_length_there_is) {
    begin(0, VOUCH_CHUNK_SIZE_BOUND);
    put_header(INT64_MAX);
    expect_error(-EMSGSIZE);
    cr_assert_eq(vouch_chunk_decoder_declared(decoder), INT64_MAX);
    end();
}

Test(chunk, a_malformed_length_ends_the_stream_after_what_was_good) {
    begin(0, 0);
    PUT("\x04yo\x01\x04yo");
    expect_text("yo");
    expect_error(-EPROTO);
    expect_error(-EPROTO);
    cr_assert_eq(vouch_chunk_decoder_declared(decoder), 0);
    cr_assert_eq(stats().buffers_out, 0);
    end();
}

Test(chunk, asking_for_room_behind_a_malformed_length_fails_too) {
    begin(0, 0);
    PUT("\x01");
    uint8_t *space;
    size_t room;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), -EPROTO);
    expect_error(-EPROTO);
    end();
}

/* ---- oversize ---- */

/* The beginning of an oversize chunk, then nothing of it any more. */
static void check_oversize(size_t max_size, size_t length) {
    begin(max_size, length);
    size_t head = length < VOUCH_CHUNK_HEAD_MAX ? length : VOUCH_CHUNK_HEAD_MAX;
    struct vouch_chunk chunk;
    put_header(length);
    expect_nothing();
    put_body('o', head - 1);
    expect_nothing();
    PUT("o");
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1, "as soon as the beginning is there");
    cr_assert_eq(chunk.oversize, length);
    cr_assert_eq(chunk.size, head);
    for (size_t i = 0; i < head; i++)
        cr_assert_eq(chunk.data[i], 'o');
    vouch_buffer_unref(chunk.buffer);
    for (size_t left = length - head; left > 0;) {
        cr_assert(vouch_chunk_decoder_partial(decoder));
        size_t step = left < 3000 ? left : 3000;
        put_body('o', step);
        expect_nothing();
        cr_assert_eq(stats().buffers_out, 0, "what is skipped is not held");
        left -= step;
    }
    cr_assert_not(vouch_chunk_decoder_partial(decoder));
    PUT("\x04yo");
    expect_text("yo");
    end();
}

Test(chunk, an_oversize_chunk_shows_its_beginning_and_is_skipped) {
    check_oversize(10, 11);
    check_oversize(10, VOUCH_CHUNK_HEAD_MAX - 1);
    check_oversize(10, VOUCH_CHUNK_HEAD_MAX);
    check_oversize(10, VOUCH_CHUNK_HEAD_MAX + 1);
    check_oversize(1000, 1001);
    check_oversize(1000, 100000);
}

Test(chunk, skipping_has_a_limit) {
    begin(10, 1000);
    put_header(1001);
    expect_error(-EMSGSIZE);
    cr_assert_eq(vouch_chunk_decoder_declared(decoder), 1001);
    end();
}

Test(chunk, a_limit_of_skipping_below_the_maximum_does_not_lower_it) {
    begin(100, 50);
    put_header(100);
    put_body('x', 99);
    expect_nothing();
    end();
}

/* What is behind an oversize chunk in the same read is not lost. */
Test(chunk, an_oversize_chunk_among_others) {
    static char bytes[3000];
    begin(100, 2000);
    char *at = bytes;
    memcpy(at, "\x04yo", 3);
    at += 3;
    at += vouch_chunk_encode_header(2000, (uint8_t *)at);
    memset(at, 'o', 2000);
    at += 2000;
    memcpy(at, "\x04yo", 3);
    at += 3;
    put_text(bytes, (size_t)(at - bytes));
    expect_text("yo");
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.oversize, 2000);
    cr_assert_eq(chunk.size, VOUCH_CHUNK_HEAD_MAX);
    vouch_buffer_unref(chunk.buffer);
    expect_text("yo");
    expect_nothing();
    end();
}

/* ---- memory ---- */

Test(chunk, a_promise_takes_no_memory) {
    begin(VOUCH_CHUNK_SIZE_BOUND, 0);
    put_header(VOUCH_CHUNK_SIZE_BOUND);
    put_body('x', 1);
    expect_nothing();
    cr_assert_leq(bytes_out(), 4 * KIB);
    uint8_t *space;
    size_t room;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    cr_assert_leq(room, 64 * KIB);
    vouch_chunk_decoder_commit(decoder, 0);
    cr_assert_leq(bytes_out(), 4 * KIB);
    end();
}

Test(chunk, memory_at_most_doubles_with_what_has_come) {
    begin(VOUCH_CHUNK_SIZE_BOUND, 0);
    put_header(8 * MIB);
    expect_nothing();
    size_t received = 0;
    static uint8_t bytes[64 * 1024];
    while (received < 8 * MIB - 1) {
        size_t left = 8 * MIB - 1 - received;
        received += put(bytes, left < sizeof(bytes) ? left : sizeof(bytes));
        expect_nothing();
        size_t fair = 2 * received + 64 * KIB;
        /* A class may round up by a half, and the read block be in use. */
        cr_assert_leq(bytes_out(), fair + fair / 2, "%zu of %zu", bytes_out(), received);
    }
    put_body(0, 1);
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.size, 8 * MIB);
    cr_assert_leq(bytes_out(), 8 * MIB + 4 * KIB, "and ends with what is needed");
    vouch_buffer_unref(chunk.buffer);
    end();
}

/* The whole of a chunk of zeros, header in the same read as what fits of its body. Returns how
 * often the bytes held were moved. */
static unsigned put_large(size_t size) {
    static uint8_t bytes[2 * MIB];
    uint8_t *at = bytes;
    size_t left = vouch_chunk_encode_header(size, bytes) + size;
    const uint8_t *buffer = NULL;
    unsigned moves = 0;
    cr_assert_leq(left, sizeof(bytes));
    while (left > 0) {
        size_t taken = put(at, left);
        at += taken;
        left -= taken;
        moves += buffer && decoder->buffer->data != buffer;
        buffer = decoder->buffer->data;
    }
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.size, size);
    vouch_buffer_unref(chunk.buffer);
    expect_nothing();
    return moves;
}

static size_t room_for_the_next(void) {
    uint8_t *space;
    size_t room;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    vouch_chunk_decoder_commit(decoder, 0);
    return room;
}

Test(chunk, a_large_one_is_read_to_where_it_stays_after_another) {
    begin(0, 0);
    cr_assert_gt(put_large(MIB), 0, "a fresh stream is believed nothing");
    for (int i = 0; i < 3; i++) {
        cr_assert_geq(room_for_the_next(), MIB + VOUCH_CHUNK_HEADER_MAX);
        cr_assert_eq(put_large(MIB), 0);
    }
    end();
}

/* Also when its length comes alone, as from peers that send it first. */
Test(chunk, a_large_one_in_pieces_is_not_moved_after_another) {
    static uint8_t bytes[64 * KIB];
    begin(0, 0);
    put_large(MIB);
    put_header(MIB);
    expect_nothing();
    const uint8_t *begun = decoder->buffer->data;
    for (size_t left = MIB; left > 0;)
        left -= put(bytes, left < sizeof(bytes) ? left : sizeof(bytes));
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.buffer->data, begun);
    vouch_buffer_unref(chunk.buffer);
    end();
}

Test(chunk, the_belief_halves_with_every_smaller_one) {
    begin(0, 0);
    put_large(MIB);
    for (size_t proven = MIB; proven > 64 * KIB; proven /= 2) {
        cr_assert_eq(decoder->proven, proven);
        cr_assert_geq(room_for_the_next(), proven);
        cr_assert_lt(room_for_the_next(), 2 * proven);
        PUT("\x04yo");
        expect_text("yo");
    }
    cr_assert_eq(decoder->proven, 0);
    cr_assert_leq(room_for_the_next(), 64 * KIB);
    cr_assert_gt(put_large(MIB), 0);
    end();
}

Test(chunk, more_than_half_of_the_belief_renews_it) {
    begin(0, 0);
    put_large(MIB);
    put_large(MIB / 2 + 1);
    cr_assert_eq(decoder->proven, MIB / 2 + 1);
    put_large(MIB / 4);
    cr_assert_eq(decoder->proven, MIB / 4);
    put_large(64 * KIB);
    cr_assert_eq(decoder->proven, MIB / 8, "that is none of the large ones");
    put_large(64 * KIB + 1);
    cr_assert_eq(decoder->proven, 64 * KIB + 1 > MIB / 16 ? 64 * KIB + 1 : MIB / 16);
    end();
}

/* Who has sent one large chunk may make us hold as much again with a promise, not more. */
Test(chunk, a_promise_after_a_large_chunk_takes_about_as_much) {
    begin(VOUCH_CHUNK_SIZE_BOUND, 0);
    put_large(MIB);
    put_header(VOUCH_CHUNK_SIZE_BOUND);
    put_body('x', 1);
    expect_nothing();
    cr_assert_leq(bytes_out(), MIB + MIB / 2);
    cr_assert_leq(room_for_the_next(), MIB + MIB / 2);
    cr_assert_leq(bytes_out(), MIB + MIB / 2);
    end();
}

Test(chunk, an_oversize_one_proves_nothing) {
    static uint8_t bytes[64 * KIB];
    begin(KIB, MIB);
    put_header(MIB);
    struct vouch_chunk chunk;
    unsigned taken = 0;
    for (size_t left = MIB; left > 0;) {
        left -= put(bytes, left < sizeof(bytes) ? left : sizeof(bytes));
        while (vouch_chunk_decoder_next(decoder, &chunk) == 1) {
            cr_assert_eq(chunk.oversize, MIB);
            vouch_buffer_unref(chunk.buffer);
            taken++;
        }
    }
    cr_assert_eq(taken, 1);
    cr_assert_eq(decoder->proven, 0);
    end();
}

Test(chunk, reads_get_larger_while_they_are_filled_and_smaller_again) {
    static uint8_t zeros[64 * 1024]; /* empty chunks */
    begin(0, 0);
    struct vouch_chunk chunk;
    uint8_t *space;
    size_t room = 0, reads = 0;
    for (; room != POOL_ROOM(64 * KIB); reads++) {
        cr_assert_lt(reads, 6);
        cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
        memset(space, 0, room);
        vouch_chunk_decoder_commit(decoder, room);
        while (vouch_chunk_decoder_next(decoder, &chunk) == 1)
            vouch_buffer_unref(chunk.buffer);
    }
    for (int i = 0; i < 5; i++) { /* nothing read says nothing about the size of reads */
        cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
        vouch_chunk_decoder_commit(decoder, 0);
    }
    cr_assert_eq(put(zeros, sizeof(zeros)), POOL_ROOM(64 * KIB));
    while (vouch_chunk_decoder_next(decoder, &chunk) == 1)
        vouch_buffer_unref(chunk.buffer);
    for (int i = 0; i < 5; i++) {
        PUT("\x04yo");
        expect_text("yo");
    }
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    cr_assert_eq(room, POOL_ROOM(4 * KIB));
    vouch_chunk_decoder_commit(decoder, 0);
    end();
}

Test(chunk, a_batch_of_small_chunks_takes_one_buffer_and_steady_state_no_memory) {
    if (!pool_recycles())
        cr_skip_test("nothing is recycled under AddressSanitizer");
    begin(0, 0);
    for (int round = 0; round < 100; round++) {
        uint64_t gets = stats().gets;
        for (int i = 0; i < 200; i++)
            PUT("\x0ahello");
        for (int i = 0; i < 200; i++)
            expect_text("hello");
        expect_nothing();
        cr_assert_leq(stats().gets, gets + 1);
    }
    cr_assert_eq(stats().misses, 1);
    end();
}

Test(chunk, shortage_of_memory_passes) {
    begin(0, 0);
    uint8_t *space;
    size_t room;
    support_allocator_fail(&allocator, 1, 2);
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), -ENOMEM);
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), -ENOMEM);
    expect_nothing();
    put_header(10000);
    put_body('x', POOL_ROOM(4 * KIB) - 3);
    expect_nothing();
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), -ENOMEM);
    expect_nothing();
    put_body('x', 10000 - (POOL_ROOM(4 * KIB) - 3));
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.size, 10000);
    for (size_t i = 0; i < chunk.size; i++)
        cr_assert_eq(chunk.data[i], 'x');
    vouch_buffer_unref(chunk.buffer);

    struct vouch_chunk_decoder *other;
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(vouch_chunk_decoder_new(pool, 0, 0, &other), -ENOMEM);
    end();
}

/* ---- chunks that are kept while others come ---- */

enum { KEPT = 16 };

static void check_and_drop(struct vouch_chunk *chunk) {
    for (size_t i = 0; i < chunk->size; i++)
        cr_assert_eq(chunk->data[i], (uint8_t)(chunk->size + i));
    vouch_buffer_unref(chunk->buffer);
    *chunk = (struct vouch_chunk){0};
}

static size_t make_stream(struct support_random *random, uint8_t *bytes, size_t room) {
    size_t at = 0;
    for (;;) {
        size_t size = support_random_below(random, 2 + support_random_below(random, 20000));
        if (room - at < VOUCH_CHUNK_HEADER_MAX + size)
            return at;
        at += vouch_chunk_encode_header(size, bytes + at);
        for (size_t i = 0; i < size; i++)
            bytes[at++] = (uint8_t)(size + i);
    }
}

Test(chunk, what_was_handed_out_is_never_overwritten) {
    static uint8_t stream[1 << 20];
    struct support_random random;
    support_random_init(&random);
    begin(0, 0);
    for (int round = 0; round < VOUCH_TEST_ROUNDS(100, 10); round++) {
        struct vouch_chunk kept[KEPT] = {{0}}, chunk;
        size_t size = make_stream(&random, stream, sizeof(stream));
        for (size_t at = 0; at < size;) {
            size_t step =
                1 + support_random_below(&random, support_random_below(&random, 4) ? 30000 : 200);
            at += put(stream + at, step < size - at ? step : size - at);
            while (vouch_chunk_decoder_next(decoder, &chunk) == 1) {
                struct vouch_chunk *slot = &kept[support_random_below(&random, KEPT)];
                check_and_drop(slot);
                *slot = chunk;
            }
        }
        cr_assert_not(vouch_chunk_decoder_partial(decoder));
        for (int i = 0; i < KEPT; i++)
            check_and_drop(&kept[i]);
        cr_assert_eq(stats().buffers_out, 0);
    }
    end();
}

/* ---- the recorded conversations ---- */

Test(chunk, recorded_lengths_decode_and_code_again_to_the_same_bytes) {
    struct support_vectors vectors;
    const struct cJSON *object;
    size_t count = 0;
    support_vectors_open(&vectors, "chunk.jsonl");
    while ((object = support_vectors_next(&vectors))) {
        uint64_t length = support_vector_number(object, "length"), decoded;
        uint8_t recorded[VOUCH_CHUNK_HEADER_MAX], coded[VOUCH_CHUNK_HEADER_MAX];
        size_t size = support_vector_bytes(object, "length_hex", recorded, sizeof(recorded));
        cr_assert_eq(vouch_chunk_decode_header(recorded, size, &decoded), (int)size);
        cr_assert_eq(decoded, length);
        cr_assert_eq(vouch_chunk_encode_header(length, coded), size);
        cr_assert_arr_eq(coded, recorded, size);
        if (support_vector_has(object, "body_hex")) {
            uint8_t body[128];
            cr_assert_eq(support_vector_bytes(object, "body_hex", body, sizeof(body)), length);
        }
        count++;
    }
    cr_assert_geq(count, 20);
}

static void check_recorded_chunks(const char *name) {
    static uint8_t recorded[1 << 20];
    struct support_vectors vectors;
    const struct cJSON *object;
    size_t count = 0;
    begin(0, 0);
    support_vectors_open(&vectors, name);
    while ((object = support_vectors_next(&vectors))) {
        if (!support_vector_has(object, "chunk_hex"))
            continue;
        size_t size = support_vector_bytes(object, "chunk_hex", recorded, sizeof(recorded));
        struct vouch_chunk chunk = {0};
        for (size_t at = 0; at < size;) {
            cr_assert_null(chunk.buffer);
            at += put(recorded + at, size - at);
            cr_assert_geq(vouch_chunk_decoder_next(decoder, &chunk), 0);
        }
        cr_assert_not_null(chunk.buffer);
        uint8_t header[VOUCH_CHUNK_HEADER_MAX];
        size_t header_size = vouch_chunk_encode_header(chunk.size, header);
        cr_assert_eq(header_size + chunk.size, size);
        cr_assert_arr_eq(header, recorded, header_size);
        cr_assert_arr_eq(chunk.data, recorded + header_size, chunk.size);
        vouch_buffer_unref(chunk.buffer);
        expect_nothing();
        count++;
    }
    cr_assert_gt(count, 0, "%s", name);
    end();
}

Test(chunk, recorded_chunks_decode_and_code_again_to_the_same_bytes) {
    check_recorded_chunks("proto-rpc.jsonl");
    check_recorded_chunks("json-rpc.jsonl");
    check_recorded_chunks("proto-stream.jsonl");
    check_recorded_chunks("json-stream.jsonl");
}

/* ---- lines ---- */

static void begin_lines(size_t max_size, size_t drain_max) {
    begin(max_size, drain_max);
    chunk_decoder_set_framing(decoder, CHUNK_LINES);
}

Test(chunk, lines_come_out_without_their_ends) {
    begin_lines(0, 0);
    PUT("one\n\ntwo\r\nthr");
    expect_text("one");
    expect_text("");
    expect_text("two\r");
    expect_nothing();
    cr_assert(vouch_chunk_decoder_partial(decoder));
    PUT("ee\n");
    cr_assert_not(vouch_chunk_decoder_partial(decoder));
    expect_text("three");
    expect_nothing();
    cr_assert_eq(stats().buffers_out, 0);
    end();
}

Test(chunk, a_line_comes_in_single_bytes) {
    begin_lines(0, 0);
    const char text[] = "a line that comes byte by byte";
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        put_text(text + i, 1);
        expect_nothing();
    }
    PUT("\nx");
    expect_text(text);
    expect_nothing();
    end();
}

Test(chunk, a_large_line_costs_at_most_twice_its_bytes) {
    begin_lines(8 * MIB, 0);
    put_body('x', MIB);
    cr_assert_leq(bytes_out(), 2 * MIB + 64 * KIB);
    PUT("\n");
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.size, MIB);
    vouch_buffer_unref(chunk.buffer);
    end();
}

Test(chunk, a_line_at_the_limit_and_one_over_it) {
    begin_lines(5, 100);
    PUT("12345\n123456\nok\n");
    expect_text("12345");
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.oversize, 6);
    cr_assert_eq(chunk.size, 6);
    cr_assert_arr_eq(chunk.data, "123456", 6);
    vouch_buffer_unref(chunk.buffer);
    cr_assert_not(chunk_decoder_skipping(decoder));
    expect_text("ok");
    end();
}

/* The end of an oversize line may come with what showed that it is too large, or any time later. */
Test(chunk, a_line_over_the_limit_is_skipped_to_its_end_wherever_it_is_cut) {
    const char text[] = "1234567890abcdef\nok\n";
    for (size_t cut = 6; cut < sizeof(text) - 1; cut++) {
        begin_lines(5, 100);
        struct vouch_chunk chunk;
        put_text(text, cut);
        cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
        cr_assert_gt(chunk.oversize, 5);
        cr_assert_arr_eq(chunk.data, text, chunk.size);
        vouch_buffer_unref(chunk.buffer);
        cr_assert_eq(chunk_decoder_skipping(decoder), cut <= 16);
        put_text(text + cut, sizeof(text) - 1 - cut);
        cr_assert_not(chunk_decoder_skipping(decoder));
        expect_text("ok");
        expect_nothing();
        end();
    }
}

Test(chunk, a_line_is_skipped_up_to_a_limit) {
    for (size_t more = 0; more <= 1; more++) {
        begin_lines(5, 100);
        struct vouch_chunk chunk;
        PUT("123456");
        cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
        vouch_buffer_unref(chunk.buffer);
        char rest[94];
        memset(rest, 'x', sizeof(rest));
        cr_assert_eq(put(rest, 94), 94);
        if (more > 0)
            PUT("x\n");
        if (more > 0) {
            expect_error(-EMSGSIZE);
        } else {
            PUT("\nok\n");
            expect_text("ok");
        }
        end();
    }
    begin_lines(5, 0);
    PUT("123456");
    expect_error(-EMSGSIZE);
    end();
}

/* ---- packets ---- */

static void begin_packets(size_t max_size) {
    begin(max_size, 0);
    chunk_decoder_set_framing(decoder, CHUNK_PACKETS);
}

Test(chunk, a_packet_is_a_message) {
    begin_packets(0);
    PUT("one packet");
    cr_assert_not(vouch_chunk_decoder_partial(decoder));
    expect_text("one packet");
    expect_nothing();
    PUT("\x0a");
    expect_text("\x0a");
    cr_assert_eq(stats().buffers_out, 0);
    end();
}

Test(chunk, there_is_room_for_any_packet) {
    begin_packets(0);
    uint8_t *space;
    size_t room;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    cr_assert_geq(room, CHUNK_PACKET_MAX);
    vouch_chunk_decoder_commit(decoder, 0);
    cr_assert_eq(stats().buffers_out, 0);
    end();
}

Test(chunk, a_packet_at_the_limit_and_one_over_it) {
    begin_packets(5);
    struct vouch_chunk chunk;
    PUT("12345");
    expect_text("12345");
    PUT("123456");
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.oversize, 6);
    cr_assert_eq(chunk.size, 6);
    vouch_buffer_unref(chunk.buffer);
    expect_nothing();
    PUT("ok");
    expect_text("ok");
    end();
}

Test(chunk, a_packet_that_was_cut_is_too_large_by_its_real_size) {
    begin_packets(0);
    uint8_t *space;
    size_t room;
    struct vouch_chunk chunk;
    cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
    memset(space, 'x', room);
    vouch_chunk_decoder_commit(decoder, 10 * MIB);
    cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunk), 1);
    cr_assert_eq(chunk.oversize, 10 * MIB);
    cr_assert_eq(chunk.size, VOUCH_CHUNK_HEAD_MAX);
    vouch_buffer_unref(chunk.buffer);
    cr_assert_not(chunk_decoder_skipping(decoder));
    PUT("ok");
    expect_text("ok");
    end();
}

Test(chunk, packets_that_are_kept_take_about_as_much_as_they_say) {
    static const size_t sizes[] = {1, 100, 16 * KIB, 16 * KIB + 1};
    begin_packets(0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct vouch_chunk chunks[16];
        char bytes[16 * KIB + 1];
        memset(bytes, 'p', sizeof(bytes));
        for (size_t k = 0; k < 16; k++) {
            put_text(bytes, sizes[i]);
            cr_assert_eq(vouch_chunk_decoder_next(decoder, &chunks[k]), 1);
            cr_assert_eq(chunks[k].size, sizes[i]);
            cr_assert_arr_eq(chunks[k].data, bytes, sizes[i]);
        }
        bool own = sizes[i] <= 16 * KIB;
        cr_assert_eq(bytes_out() < 16 * (2 * sizes[i] + KIB), own, "%zu of %zu", bytes_out(),
                     sizes[i]);
        for (size_t k = 0; k < 16; k++)
            vouch_buffer_unref(chunks[k].buffer);
    }
    cr_assert_eq(stats().buffers_out, 0);
    end();
}

Test(chunk, a_small_packet_stays_where_it_is_for_want_of_memory) {
    begin_packets(0);
    PUT("small");
    vouch_pool_trim(pool);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    expect_text("small");
    support_allocator_fail(&allocator, 0, 0);
    end();
}

Test(chunk, packets_have_a_limit_of_their_own) {
    begin_packets(16 * MIB);
    cr_assert_eq(decoder->max_size, CHUNK_PACKET_MAX);
    end();
}
