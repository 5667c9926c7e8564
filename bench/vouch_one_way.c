/* SPDX-License-Identifier: MIT */
/* Chunks one way over a chunk connection. The last of a run is empty and is answered. */
#include <stdlib.h>

#include "bench/vouch_parts.h"

static struct vouch_chunk_conn *chunks_of(struct vouch_conn *conn, const struct bench_case *what) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options)};
    struct vouch_chunk_conn *chunks;
    if (what->size > VOUCH_CHUNK_SIZE_DEFAULT)
        options.max_read = options.max_write = what->size;
    parts_need(vouch_chunk_conn_new(conn, &options, &chunks), NULL);
    return chunks;
}

static void sink(struct vouch_chunk_conn *chunks) {
    struct vouch_chunk chunk;
    int r;
    while ((r = vouch_chunk_conn_read(chunks, &chunk)) == 1) {
        if (chunk.size == 0)
            r = vouch_chunk_conn_write(chunks, "", 0);
        vouch_buffer_unref(chunk.buffer);
        if (r < 0)
            break;
    }
    vouch_chunk_conn_free(chunks);
}

static void serve(const struct bench_case *what) {
    struct vouch_listen_options options = parts_listen_options(what);
    struct vouch_listener *listener;
    struct vouch_error error;
    parts_need(vouch_listen(what->address, &options, &listener, &error), &error);
    bench_ready();
    for (;;) {
        struct vouch_conn *conn;
        parts_need(vouch_accept(listener, VOUCH_FOREVER, &conn), NULL);
        sink(chunks_of(conn, what));
    }
}

struct client {
    struct vouch_chunk_conn *chunks;
    char *body;
    size_t size;
};

static void *open_client(const struct bench_case *what) {
    struct client *client = bench_alloc(sizeof(*client));
    struct vouch_error error;
    struct vouch_conn *conn;
    parts_need(vouch_dial(what->address, NULL, &conn, &error), &error);
    client->chunks = chunks_of(conn, what);
    client->body = bench_body(what->size);
    client->size = what->size;
    return client;
}

static void close_client(void *context) {
    struct client *client = context;
    vouch_chunk_conn_free(client->chunks);
    free(client->body);
    free(client);
}

static void send_chunk(void *context, unsigned caller) {
    struct client *client = context;
    (void)caller;
    parts_need(vouch_chunk_conn_write(client->chunks, client->body, client->size), NULL);
}

static void finish(void *context) {
    struct client *client = context;
    struct vouch_chunk chunk;
    parts_need(vouch_chunk_conn_write(client->chunks, "", 0), NULL);
    if (vouch_chunk_conn_read(client->chunks, &chunk) != 1)
        bench_die("the connection broke");
    vouch_buffer_unref(chunk.buffer);
}

const struct bench_system vouch_one_way = {
    .name = "vouch-bytes",
    .kind = BENCH_STREAM,
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .call = send_chunk,
    .finish = finish,
};
