/* SPDX-License-Identifier: MIT */
/* Words counted with the service of wordcount.proto: served as a service, called by name. */
#include <vouch/proto.h>

#include "demo/layers.h"
#include "demo/wordcount.pb-c.h"

/* ---- server ---- */

static void wordcount_count(Demo__WordCount_Service *service, const Demo__Piece *request,
                            Demo__Counts_Closure closure, void *closure_data) {
    const struct piece piece = {.stream = request->stream,
                                .end = request->end,
                                .text = request->text.data,
                                .size = request->text.len};
    Demo__Counts reply = DEMO__COUNTS__INIT;
    struct counts counts;
    (void)service;
    if (streams_feed(closure_data, &piece, &counts) < 0) /* the data is the struct vouch_call */
        return;
    reply.stream = counts.stream;
    reply.lines = counts.lines;
    reply.words = counts.words;
    reply.bytes = counts.bytes;
    closure(&reply, closure_data);
}

static Demo__WordCount_Service wordcount = DEMO__WORD_COUNT__INIT(wordcount_);

int proto_add_method(struct vouch_server *server) {
    const struct vouch_proto_service service = {VOUCH_OPTIONS(service), .service = &wordcount.base};
    return vouch_proto_add_service(server, &service, NULL);
}

/* ---- client ---- */

int proto_send(struct vouch_client *client, const struct piece *piece, struct counts *ret_counts,
               struct vouch_error *ret_error) {
    Demo__Piece request = DEMO__PIECE__INIT;
    struct vouch_proto_message reply;
    request.stream = piece->stream;
    request.end = piece->end;
    request.text.data = (uint8_t *)piece->text; /* is only read */
    request.text.len = piece->size;
    int r = vouch_proto_call(client, "/demo.WordCount/Count", &request.base,
                             &demo__counts__descriptor, NULL, &reply, ret_error);
    if (r != 0)
        return r;
    const Demo__Counts *counts = (const Demo__Counts *)reply.message;
    *ret_counts = (struct counts){counts->stream, counts->lines, counts->words, counts->bytes};
    vouch_proto_message_release(&reply);
    return 0;
}
