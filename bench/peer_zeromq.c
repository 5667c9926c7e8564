/* SPDX-License-Identifier: MIT */
/*
 * ZeroMQ over ipc://. Callers have a REQ socket each, since sockets belong to one thread; the
 * server is a ROUTER, which answers whoever asks, in one thread with one I/O thread behind it.
 * Calls in flight go through a DEALER, with the empty frame that a REQ would send and a number.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "bench/system.h"

static void need(bool worked) {
    if (!worked)
        bench_die("zeromq: %s", zmq_strerror(zmq_errno()));
}

static void make_url(const struct bench_case *what, char *ret_url, size_t room) {
    snprintf(ret_url, room, "ipc://%s", what->address);
}

static void no_limits(void *socket) {
    int none = 0;
    need(zmq_setsockopt(socket, ZMQ_SNDHWM, &none, sizeof(none)) == 0);
    need(zmq_setsockopt(socket, ZMQ_RCVHWM, &none, sizeof(none)) == 0);
    need(zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof(none)) == 0);
}

static void serve(const struct bench_case *what) {
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_ROUTER);
    char url[300];
    make_url(what, url, sizeof(url));
    no_limits(socket);
    need(zmq_bind(socket, url) == 0);
    bench_ready();
    for (;;) {
        zmq_msg_t frame; /* address, empty, body: all go back as they came */
        need(zmq_msg_init(&frame) == 0);
        need(zmq_msg_recv(&frame, socket, 0) >= 0);
        need(zmq_msg_send(&frame, socket, zmq_msg_more(&frame) ? ZMQ_SNDMORE : 0) >= 0);
    }
}

struct client {
    const struct bench_case *what;
    void *context;
    char *body;
    void *sockets[]; /* of each caller */
};

static void *open_client(const struct bench_case *what) {
    struct client *client = bench_alloc(sizeof(*client) + what->callers * sizeof(void *));
    char url[300];
    make_url(what, url, sizeof(url));
    client->what = what;
    client->context = zmq_ctx_new();
    client->body = bench_body(what->size);
    for (unsigned i = 0; i < what->callers; i++) {
        client->sockets[i] = zmq_socket(client->context, what->in_flight ? ZMQ_DEALER : ZMQ_REQ);
        need(client->sockets[i] != NULL);
        no_limits(client->sockets[i]);
        need(zmq_connect(client->sockets[i], url) == 0);
    }
    return client;
}

static void close_client(void *context) {
    struct client *client = context;
    for (unsigned i = 0; i < client->what->callers; i++)
        zmq_close(client->sockets[i]);
    zmq_ctx_term(client->context);
    free(client->body);
    free(client);
}

static void take_reply(struct client *client, void *socket) {
    zmq_msg_t reply;
    need(zmq_msg_init(&reply) == 0);
    need(zmq_msg_recv(&reply, socket, 0) >= 0);
    if (zmq_msg_size(&reply) != client->what->size)
        bench_die("%zu bytes came back as %zu", client->what->size, zmq_msg_size(&reply));
    zmq_msg_close(&reply);
}

static void call(void *context, unsigned caller) {
    struct client *client = context;
    void *socket = client->sockets[caller];
    need(zmq_send(socket, client->body, client->what->size, 0) >= 0);
    take_reply(client, socket);
}

/* The second frame is the time at which the call began: it comes back. */
static void fly(void *context, struct bench_flight *flight) {
    struct client *client = context;
    void *socket = client->sockets[0];
    while (bench_flight_more(flight) || bench_flight_busy(flight)) {
        int64_t begun;
        while (bench_flight_more(flight)) {
            begun = bench_flight_begin(flight);
            need(zmq_send(socket, "", 0, ZMQ_SNDMORE) >= 0);
            need(zmq_send(socket, &begun, sizeof(begun), ZMQ_SNDMORE) >= 0);
            need(zmq_send(socket, client->body, client->what->size, 0) >= 0);
        }
        need(zmq_recv(socket, NULL, 0, 0) == 0);
        need(zmq_recv(socket, &begun, sizeof(begun), 0) == (int)sizeof(begun));
        take_reply(client, socket);
        bench_flight_end(flight, begun);
    }
}

static const struct bench_system zeromq_system = {
    .name = "zeromq",
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .call = call,
    .fly = fly,
};

int main(int argc, char **argv) {
    static const struct bench_system *const systems[] = {&zeromq_system, NULL};
    return bench_peer(argc, argv, systems);
}
