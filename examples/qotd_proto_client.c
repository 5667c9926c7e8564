/* SPDX-License-Identifier: MIT */
/*
 * Asks a qotd_proto_server for quotes, all at once, and reads the answers to the end of the stream:
 * qotd_proto_client SOCKET AUTHOR...
 */
#include <errno.h>
#include <stdio.h>
#include <vouch/proto.h>
#include <vouch/vouch.h>

#include "examples/qotd.pb-c.h"

static int failed(const char *why) {
    fprintf(stderr, "qotd_proto_client: %s\n", why);
    return 1;
}

static int ask(struct vouch_proto_stream *stream, char **authors, int count) {
    int r = 0;
    for (int i = 0; i < count && r == 0; i++) {
        Qotd__Request request = QOTD__REQUEST__INIT;
        request.author = authors[i];
        r = vouch_proto_stream_write(stream, &request.base);
    }
    if (r == 0) /* no more questions; the answers come first, so this does not wait */
        r = vouch_proto_stream_close_send(stream, 0);
    return r == -ETIMEDOUT ? 0 : r;
}

static int show_answers(struct vouch_proto_stream *stream) {
    struct vouch_proto_message answer;
    struct vouch_error error;
    int r;
    while ((r = vouch_proto_stream_read(stream, &qotd__quote__descriptor, &answer, &error)) == 1) {
        const Qotd__Quote *quote = (const Qotd__Quote *)answer.message;
        if (quote->text[0] != '\0')
            printf("%s (%s)\n", quote->text, quote->author);
        else
            printf("no quote\n");
        vouch_proto_message_release(&answer);
    }
    return r < 0 ? failed(error.message) : 0;
}

int main(int argc, char **argv) {
    struct vouch_proto_stream *stream;
    struct vouch_error error;
    struct vouch_conn *conn;
    if (argc < 3) {
        fprintf(stderr, "usage: qotd_proto_client SOCKET AUTHOR...\n");
        return 2;
    }
    if (vouch_dial(argv[1], NULL, &conn, &error) < 0)
        return failed(error.message);
    int r = vouch_proto_stream_new(conn, NULL, &stream);
    if (r < 0) {
        vouch_conn_free(conn);
        return failed(vouch_strerror(r));
    }
    vouch_proto_stream_set_deadline(stream, VOUCH_BOTH, vouch_deadline_in(VOUCH_SECONDS(10)));
    r = ask(stream, argv + 2, argc - 2);
    r = r < 0 ? failed(vouch_strerror(r)) : show_answers(stream);
    vouch_proto_stream_free(stream);
    return r;
}
