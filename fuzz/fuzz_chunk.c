/* SPDX-License-Identifier: MIT */
/*
 * The chunk decoder. The first byte chooses its limits, the second where the stream is cut; what
 * comes out has to be that of the stream in one piece, and what is held stays in proportion to what
 * has come.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/chunk.h>

static void check(bool condition) {
    if (!condition)
        abort();
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

struct run {
    struct vouch_pool *pool;
    struct vouch_chunk_decoder *decoder;
    size_t max_size, drain_max;
    size_t received;
    uint64_t transcript;
};

static void take(struct run *run, const struct vouch_chunk *chunk) {
    if (chunk->oversize == 0) {
        check(chunk->size <= run->max_size);
    } else {
        check(chunk->oversize > run->max_size && chunk->oversize <= run->drain_max);
        check(chunk->size <= VOUCH_CHUNK_HEAD_MAX && chunk->size <= chunk->oversize);
    }
    check(chunk->size <= run->received);
    run->transcript = hash_bytes(run->transcript, chunk->data, chunk->size);
    run->transcript = (run->transcript ^ chunk->oversize ^ chunk->size) * 0x100000001b3u;
    vouch_buffer_unref(chunk->buffer);
}

/* 0, or the lasting error. */
static int take_all(struct run *run) {
    struct vouch_chunk chunk;
    int r;
    while ((r = vouch_chunk_decoder_next(run->decoder, &chunk)) == 1)
        take(run, &chunk);
    check(r == 0 || r == -EPROTO || r == -EMSGSIZE);
    check((vouch_chunk_decoder_declared(run->decoder) != 0) == (r == -EMSGSIZE));
    check(r == 0 || !vouch_chunk_decoder_partial(run->decoder));
    return r;
}

static void check_memory(const struct run *run) {
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(run->pool, &stats);
    check(stats.buffers_out <= 1);
    check(stats.bytes_held - stats.bytes_idle <= 4 * run->received + 256 * 1024);
}

static size_t next_piece(uint64_t *cuts, size_t size) {
    if (*cuts == 0)
        return size;
    *cuts = *cuts * 6364136223846793005u + 1442695040888963407u;
    size_t piece = 1 + (size_t)(*cuts >> 33) % (*cuts >> 63 ? 3 : 500);
    return piece < size ? piece : size;
}

static uint64_t decode(const uint8_t *data, size_t size, size_t max_size, size_t drain_max,
                       uint64_t cuts) {
    struct run run = {.max_size = max_size, .drain_max = drain_max};
    check(vouch_pool_new(NULL, &run.pool) == 0);
    check(vouch_chunk_decoder_new(run.pool, max_size, drain_max, &run.decoder) == 0);
    int r = 0;
    while (size > 0 && r == 0) {
        uint8_t *space;
        size_t room;
        check(vouch_chunk_decoder_space(run.decoder, &space, &room) == 0 && room > 0);
        size_t piece = next_piece(&cuts, size);
        piece = piece < room ? piece : room;
        memcpy(space, data, piece);
        vouch_chunk_decoder_commit(run.decoder, piece);
        run.received += piece;
        data += piece;
        size -= piece;
        r = take_all(&run);
        check_memory(&run);
    }
    run.transcript ^= (uint64_t)(int64_t)r;
    vouch_chunk_decoder_free(run.decoder);
    vouch_pool_unref(run.pool);
    return run.transcript;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    size_t max_size = (size_t)1 << (data[0] & 15);
    size_t drain_max = (max_size << (data[0] >> 4)) % ((size_t)1 << 20);
    uint64_t whole = decode(data + 2, size - 2, max_size, drain_max, 0);
    uint64_t cut = decode(data + 2, size - 2, max_size, drain_max, (uint64_t)data[1] + 1);
    check(whole == cut);
    return 0;
}
