/* SPDX-License-Identifier: MIT */
/*
 * A JSON stream whose peer sends anything: each value that is read goes back, and comes out as
 * sound chunks with JSON in them. The first byte says how much is sent at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <vouch/chunk.h>
#include <vouch/json.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX 65536 /* fits the socket's buffer */

static void require(bool holds) {
    if (!holds)
        abort();
}

/* Reads what is there and sends it back. Returns why that ended. */
static int pump(struct vouch_json_stream *stream, unsigned *values) {
    for (;;) {
        struct vouch_error error = {.code = 0};
        cJSON *value;
        int result = vouch_json_stream_try_read(stream, &value, &error);
        if (result != 1) {
            require(error.code == result && (result == 0 || error.message[0]));
            return result;
        }
        require(vouch_json_stream_queue(stream, value) == 0);
        cJSON_Delete(value);
        ++*values;
    }
}

/* What comes back: so many values and no more. The socket may hold less than all of them. */
static void check_echo(struct vouch_json_stream *stream, struct vouch_chunk_conn *echo,
                       unsigned values) {
    struct vouch_chunk chunk;
    while (values > 0) {
        int result = vouch_chunk_conn_try_read(echo, &chunk);
        if (result == -EAGAIN) {
            int flushed = vouch_json_stream_flush(stream);
            require(flushed == 0 || flushed == -EAGAIN);
            continue;
        }
        require(result == 1 && vouch_json_scan(chunk.data, chunk.size, NULL, NULL) == 0);
        vouch_buffer_unref(chunk.buffer);
        values--;
    }
    require(vouch_chunk_conn_try_read(echo, &chunk) == -EAGAIN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > INPUT_MAX)
        return 0;
    struct vouch_conn *conns[2];
    struct vouch_json_stream *stream;
    struct vouch_chunk_conn *echo;
    size_t step = data[0] ? data[0] : size;
    unsigned values = 0;
    int result = -EAGAIN;
    data++;
    size--;
    require(vouch_conn_pair(NULL, conns) == 0);
    require(vouch_json_stream_new(conns[0], NULL, &stream) == 0);
    require(vouch_chunk_conn_new(conns[1], NULL, &echo) == 0);
    while (size > 0 && result == -EAGAIN) {
        size_t piece = size < step ? size : step;
        require(vouch_conn_write(conns[1], data, piece) == 0);
        data += piece;
        size -= piece;
        result = pump(stream, &values);
    }
    require(result == -EAGAIN || result == -EPROTO || result == -EMSGSIZE);
    if (result == -EAGAIN)
        check_echo(stream, echo, values);
    else
        require(pump(stream, &values) == -ESHUTDOWN);
    vouch_json_stream_free(stream);
    vouch_chunk_conn_free(echo);
    return 0;
}
