/* SPDX-License-Identifier: MIT */
/*
 * A stream whose peer sends anything. The first byte says after how many messages our side ends.
 *
 * Reading gives messages, then one end that stays; an answer to our close counts only after it was
 * sent; nothing waits, since all that comes is there.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <vouch/proto.h>

#include "proto/sample.pb-c.h"

#define INPUT_MAX ((size_t)32 * 1024) /* less than the socket holds */

static void check(bool condition) {
    if (!condition)
        abort();
}

static int read_one(struct vouch_proto_stream *stream) {
    struct vouch_proto_message message;
    struct vouch_error error = {0};
    int r = vouch_proto_stream_read(stream, &sample__flat__descriptor, &message, &error);
    check((r == 1) == (message.message != NULL));
    check(r >= 0 || (error.code == r && error.message[0] != '\0'));
    check(r >= 0 || r == -ECONNRESET || r == -EPROTO || r == -EMSGSIZE || r == -ESHUTDOWN);
    vouch_proto_message_release(&message);
    return r;
}

static void end(struct vouch_proto_stream *stream) {
    int r = vouch_proto_stream_close_send(stream, 0);
    Sample__Flat message = SAMPLE__FLAT__INIT;
    check(r <= 0);
    if (r == 0 || r == -ETIMEDOUT)
        check(vouch_proto_stream_write(stream, &message.base) == -ESHUTDOWN);
}

static void converse(struct vouch_proto_stream *stream, unsigned end_after) {
    int r = 1;
    for (unsigned count = 0; r == 1; count++) {
        if (count == end_after)
            end(stream);
        r = read_one(stream);
    }
    check(read_one(stream) == r);
    r = vouch_proto_stream_close_send(stream, vouch_deadline_in(VOUCH_SECONDS(1)));
    check(r <= 0 && r != -ETIMEDOUT);
    while ((r = read_one(stream)) == 1)
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .max_read = 4096};
    struct vouch_proto_stream *stream;
    struct vouch_conn *conns[2];
    if (size < 1 || size > INPUT_MAX)
        return 0;
    check(vouch_conn_pair(NULL, conns) == 0);
    check(vouch_proto_stream_new(conns[0], &options, &stream) == 0);
    check(vouch_conn_write(conns[1], data + 1, size - 1) == 0);
    check(vouch_conn_shutdown_write(conns[1]) == 0);
    converse(stream, data[0]);
    vouch_proto_stream_free(stream);
    vouch_conn_free(conns[1]);
    return 0;
}
