/* SPDX-License-Identifier: MIT */
/*
 * One conversation of 4 KiB, cut everywhere: at each single byte, at all of them, and 10 000 times
 * at random. What comes out must not depend on it. Once at the decoder (with an oversize chunk
 * among the others), once at a chunk connection, each direction.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <vouch/chunk.h>

#include "tests/harness.h"
#include "tests/support.h"

#define CONVERSATION 4096
#define DECODER_MAX 1000 /* over it, chunks are skipped at the decoder */
#define RANDOM_SPLITS VOUCH_TEST_ROUNDS(10000, 300)
#define CUT_STEP (size_t) VOUCH_TEST_ROUNDS(1, 37)

static uint8_t conversation[CONVERSATION];

/* What was seen: sizes, oversize lengths and a hash of the bytes, as text so that a difference can
 * be read. */
struct transcript {
    char text[2048];
    size_t size;
};
static struct transcript expected;

static void note(struct transcript *transcript, const uint8_t *bytes, size_t size,
                 uint64_t oversize) {
    uint32_t hash = 2166136261;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 16777619;
    int written =
        snprintf(transcript->text + transcript->size, sizeof(transcript->text) - transcript->size,
                 "%zu/%llu/%08x ", size, (unsigned long long)oversize, hash);
    transcript->size += (size_t)written;
    cr_assert_lt(transcript->size, sizeof(transcript->text));
}

static void check_transcript(const struct transcript *transcript) {
    cr_assert_str_eq(transcript->text, expected.text);
}

/* Chunks at the edges of one and two bytes of length, empty ones, and one that the decoder has to
 * skip. The last fills up. */
static void make_conversation(size_t max_size) {
    static const size_t sizes[] = {0,   1,   2,   62,   63, 64,  65,   0, 0,
                                   127, 128, 300, 1001, 5,  511, 1000, 1};
    struct support_random random = {1};
    size_t at = 0;
    expected = (struct transcript){0};
    for (size_t i = 0; at < CONVERSATION; i++) {
        size_t left = CONVERSATION - at;
        bool fixed = i < sizeof(sizes) / sizeof(sizes[0]);
        size_t size = fixed ? sizes[i] : left > 66 ? left - 2 : left - 1;
        at += vouch_chunk_encode_header(size, conversation + at);
        support_random_fill(&random, conversation + at, size);
        bool oversize = size > max_size;
        note(&expected, conversation + at, oversize ? VOUCH_CHUNK_HEAD_MAX : size,
             oversize ? size : 0);
        at += size;
    }
    cr_assert_eq(at, CONVERSATION);
}

/* ---- where to cut ---- */

typedef void deliver_fn(const uint8_t *bytes, size_t size, struct transcript *transcript);

static void run(deliver_fn *deliver, const size_t *cuts, size_t count) {
    struct transcript transcript = {0};
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        deliver(conversation + at, cuts[i] - at, &transcript);
        at = cuts[i];
    }
    deliver(conversation + at, CONVERSATION - at, &transcript);
    check_transcript(&transcript);
}

static void cut_everywhere(deliver_fn *deliver) {
    static size_t cuts[CONVERSATION];
    for (cuts[0] = 0; cuts[0] <= CONVERSATION; cuts[0] += CUT_STEP)
        run(deliver, cuts, 1);
    for (size_t i = 0; i < CONVERSATION - 1; i++)
        cuts[i] = i + 1;
    run(deliver, cuts, CONVERSATION - 1);
}

static void cut_at_random(deliver_fn *deliver) {
    struct support_random random;
    support_random_init(&random);
    for (int round = 0; round < RANDOM_SPLITS; round++) {
        size_t cuts[32], count = 0, at = 0;
        size_t longest = 1 + support_random_below(&random, 1000);
        while (count < 32 && (at += 1 + support_random_below(&random, longest)) < CONVERSATION)
            cuts[count++] = at;
        run(deliver, cuts, count);
    }
}

/* ---- the decoder ---- */

static struct vouch_chunk_decoder *decoder;

static void deliver_to_decoder(const uint8_t *bytes, size_t size, struct transcript *transcript) {
    while (size > 0) {
        uint8_t *space;
        size_t room;
        cr_assert_eq(vouch_chunk_decoder_space(decoder, &space, &room), 0);
        size_t step = size < room ? size : room;
        memcpy(space, bytes, step);
        vouch_chunk_decoder_commit(decoder, step);
        bytes += step;
        size -= step;
        struct vouch_chunk chunk;
        int result;
        while ((result = vouch_chunk_decoder_next(decoder, &chunk)) == 1) {
            note(transcript, chunk.data, chunk.size, chunk.oversize);
            vouch_buffer_unref(chunk.buffer);
        }
        cr_assert_eq(result, 0);
    }
}

static void split_at_decoder(void (*cut)(deliver_fn *deliver)) {
    struct vouch_pool *pool;
    support_baseline_begin();
    make_conversation(DECODER_MAX);
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    cr_assert_eq(vouch_chunk_decoder_new(pool, DECODER_MAX, CONVERSATION, &decoder), 0);
    cut(deliver_to_decoder);
    cr_assert_not(vouch_chunk_decoder_partial(decoder));
    vouch_chunk_decoder_free(decoder);
    vouch_pool_unref(pool);
    support_baseline_end();
}

Test(split, decoder_at_every_byte) {
    split_at_decoder(cut_everywhere);
}

Test(split, decoder_at_random) {
    split_at_decoder(cut_at_random);
}

/* ---- the chunk connection ---- */

static struct vouch_chunk_conn *reader;
static struct vouch_conn *writer;

/* Reads all that is there: with a timeout of nothing, reading ends when there are no more bytes. */
static void deliver_to_conn(const uint8_t *bytes, size_t size, struct transcript *transcript) {
    cr_assert_eq(vouch_conn_write(writer, bytes, size), 0);
    struct vouch_chunk chunk;
    int result;
    while ((result = vouch_chunk_conn_read(reader, &chunk)) == 1) {
        note(transcript, chunk.data, chunk.size, chunk.oversize);
        vouch_buffer_unref(chunk.buffer);
    }
    cr_assert_eq(result, -ETIMEDOUT);
}

static void split_at_conn(void (*cut)(deliver_fn *deliver), int reading_end) {
    struct vouch_conn *conns[2];
    support_baseline_begin();
    make_conversation(SIZE_MAX);
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    writer = conns[1 - reading_end];
    cr_assert_eq(vouch_conn_set_timeout(conns[reading_end], VOUCH_READ, 0), 0);
    cr_assert_eq(vouch_chunk_conn_new(conns[reading_end], NULL, &reader), 0);
    cut(deliver_to_conn);
    vouch_chunk_conn_free(reader);
    vouch_conn_free(writer);
    support_baseline_end();
}

Test(split, conn_at_every_byte) {
    split_at_conn(cut_everywhere, 0);
}

Test(split, conn_at_every_byte_other_direction) {
    split_at_conn(cut_everywhere, 1);
}

Test(split, conn_at_random) {
    split_at_conn(cut_at_random, 0);
}
