/* SPDX-License-Identifier: MIT */
/*
 * One JSON value a chunk: the chunk connection, with parse and print in front of it. It keeps
 * nothing between two values.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <vouch/chunk.h>

#include "lib/options.h"
#include "stream/json.h"

struct vouch_json_stream {
    struct vouch_chunk_conn *chunks;
    struct vouch_pool *pool;
    struct vouch_buffer *self; /* the memory of this struct */
    struct vouch_json_rules rules;
    bool broken; /* reading has come to an end that is not the peer's; the reader's alone */
};

/* The stream's own memory comes from its pool as well, and with it from the caller's allocator. */
static int stream_on(struct vouch_pool *pool, struct vouch_conn *conn,
                     const struct vouch_json_stream_options *set,
                     struct vouch_json_stream **ret_stream) {
    struct vouch_json_rules rules;
    struct vouch_buffer *self;
    int result = json_rules_read(&rules, set->rules);
    if (result == 0)
        result = vouch_pool_get(pool, 0, sizeof(struct vouch_json_stream), &self);
    if (result != 0)
        return result;
    const struct vouch_chunk_options options = {
        VOUCH_OPTIONS(options),    .allocator = set->allocator, .pool = pool,
        .max_read = set->max_read, .max_write = set->max_write, .frame_timeout = set->frame_timeout,
    };
    struct vouch_json_stream *stream = (void *)self->data;
    result = vouch_chunk_conn_new(conn, &options, &stream->chunks);
    if (result < 0) {
        vouch_buffer_unref(self);
        return result;
    }
    stream->pool = vouch_pool_ref(pool);
    stream->self = self;
    stream->rules = rules;
    stream->broken = false;
    *ret_stream = stream;
    return 0;
}

int vouch_json_stream_new(struct vouch_conn *conn, const struct vouch_json_stream_options *options,
                          struct vouch_json_stream **ret_stream) {
    struct vouch_json_stream_options set = {0};
    OPTIONS_READ(set, options);
    if (set.pool)
        return stream_on(set.pool, conn, &set, ret_stream);
    const struct vouch_pool_options of_pool = {VOUCH_OPTIONS(of_pool), .allocator = set.allocator};
    struct vouch_pool *pool;
    int result = vouch_pool_new(&of_pool, &pool);
    if (result < 0)
        return result;
    result = stream_on(pool, conn, &set, ret_stream);
    vouch_pool_unref(pool);
    return result;
}

void vouch_json_stream_free(struct vouch_json_stream *stream) {
    if (!stream)
        return;
    vouch_chunk_conn_free(stream->chunks);
    vouch_pool_unref(stream->pool);
    vouch_buffer_unref(stream->self);
}

struct vouch_conn *vouch_json_stream_get_conn(struct vouch_json_stream *stream) {
    return vouch_chunk_conn_get_conn(stream->chunks);
}

/* ---- reading ---- */

static void describe(int result, struct vouch_error *ret_error) {
    if (ret_error) {
        ret_error->code = result;
        snprintf(ret_error->message, sizeof(ret_error->message), "JSON stream: %s",
                 vouch_strerror(result));
    }
}

typedef int (*read_chunk)(struct vouch_chunk_conn *chunks, struct vouch_chunk *ret_chunk);

static int read_value(struct vouch_json_stream *stream, read_chunk read, cJSON **ret_value,
                      struct vouch_error *ret_error) {
    struct vouch_chunk chunk;
    int result = stream->broken ? -ESHUTDOWN : read(stream->chunks, &chunk);
    if (result < 0)
        describe(result, ret_error);
    if (result == 1) {
        int parsed = vouch_json_parse(chunk.data, chunk.size, &stream->rules, ret_value, ret_error);
        vouch_buffer_unref(chunk.buffer);
        result = parsed < 0 ? parsed : 1;
    }
    if (result == -EPROTO || result == -EMSGSIZE) {
        stream->broken = true;
        vouch_conn_close(vouch_json_stream_get_conn(stream));
    }
    return result;
}

int vouch_json_stream_read(struct vouch_json_stream *stream, cJSON **ret_value,
                           struct vouch_error *ret_error) {
    return read_value(stream, vouch_chunk_conn_read, ret_value, ret_error);
}

int vouch_json_stream_try_read(struct vouch_json_stream *stream, cJSON **ret_value,
                               struct vouch_error *ret_error) {
    return read_value(stream, vouch_chunk_conn_try_read, ret_value, ret_error);
}

/* ---- writing ---- */

static int get_of_pool(void *context, size_t size, struct vouch_buffer **ret_buffer) {
    return vouch_pool_get(context, VOUCH_CHUNK_HEADER_MAX, size, ret_buffer);
}

int vouch_json_stream_write(struct vouch_json_stream *stream, const cJSON *value) {
    struct vouch_buffer *buffer;
    int result = json_print_buffer(value, get_of_pool, stream->pool, &buffer);
    if (result < 0)
        return result;
    result = vouch_chunk_conn_write(stream->chunks, buffer->data, buffer->size);
    vouch_buffer_unref(buffer);
    return result;
}

int vouch_json_stream_queue(struct vouch_json_stream *stream, const cJSON *value) {
    struct vouch_buffer *buffer;
    int result = json_print_buffer(value, get_of_pool, stream->pool, &buffer);
    return result < 0 ? result : vouch_chunk_conn_queue(stream->chunks, buffer);
}

int vouch_json_stream_flush(struct vouch_json_stream *stream) {
    return vouch_chunk_conn_flush(stream->chunks);
}

short vouch_json_stream_get_events(struct vouch_json_stream *stream) {
    return vouch_chunk_conn_get_events(stream->chunks);
}

int64_t vouch_json_stream_get_timeout(struct vouch_json_stream *stream) {
    return vouch_chunk_conn_get_timeout(stream->chunks);
}
