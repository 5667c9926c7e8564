/* SPDX-License-Identifier: MIT */
/*
 * nng, request and reply over ipc://. Callers share a socket, each with a context (nng_ctx), as its
 * manual says; the server has contexts too, driven by asynchronous operations. Calls in flight are
 * contexts with callbacks.
 */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/system.h"

#define SERVER_CONTEXTS 32

static void need(int r) {
    if (r != 0)
        bench_die("nng: %s", nng_strerror(r));
}

static void make_url(const struct bench_case *what, char *ret_url, size_t room) {
    snprintf(ret_url, room, "ipc://%s", what->address);
}

/* ---- server ---- */

struct work {
    enum { RECEIVING, SENDING } state;
    nng_aio *aio;
    nng_ctx ctx;
};

static void on_work(void *context) {
    struct work *work = context;
    need(nng_aio_result(work->aio));
    if (work->state == RECEIVING) {
        work->state = SENDING; /* the message received is the reply */
        nng_ctx_send(work->ctx, work->aio);
    } else {
        work->state = RECEIVING;
        nng_ctx_recv(work->ctx, work->aio);
    }
}

static void serve(const struct bench_case *what) {
    struct work *works = bench_alloc(SERVER_CONTEXTS * sizeof(*works));
    nng_socket listener;
    char url[300];
    make_url(what, url, sizeof(url));
    need(nng_rep0_open(&listener));
    need(nng_socket_set_size(listener, NNG_OPT_RECVMAXSZ, 0));
    for (unsigned i = 0; i < SERVER_CONTEXTS; i++) {
        need(nng_aio_alloc(&works[i].aio, on_work, &works[i]));
        need(nng_ctx_open(&works[i].ctx, listener));
    }
    need(nng_listen(listener, url, NULL, 0));
    for (unsigned i = 0; i < SERVER_CONTEXTS; i++)
        nng_ctx_recv(works[i].ctx, works[i].aio);
    bench_ready();
    for (;;)
        pause();
}

/* ---- client ---- */

struct client {
    const struct bench_case *what;
    char *body;
    nng_socket *sockets;
    nng_ctx *contexts; /* of each caller */
    nng_aio **aios;
};

static void *open_client(const struct bench_case *what) {
    struct client *client = bench_alloc(sizeof(*client));
    char url[300];
    make_url(what, url, sizeof(url));
    client->what = what;
    client->body = bench_body(what->size);
    client->sockets = bench_alloc(what->connections * sizeof(*client->sockets));
    client->contexts = bench_alloc(what->callers * sizeof(*client->contexts));
    client->aios = bench_alloc(what->callers * sizeof(nng_aio *));
    for (unsigned i = 0; i < what->connections; i++) {
        need(nng_req0_open(&client->sockets[i]));
        need(nng_socket_set_size(client->sockets[i], NNG_OPT_RECVMAXSZ, 0));
        need(nng_socket_set_ms(client->sockets[i], NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE));
        need(nng_dial(client->sockets[i], url, NULL, 0));
    }
    for (unsigned i = 0; i < what->callers; i++) {
        need(nng_ctx_open(&client->contexts[i], client->sockets[i % what->connections]));
        need(nng_aio_alloc(&client->aios[i], NULL, NULL));
    }
    return client;
}

static void close_client(void *context) {
    struct client *client = context;
    for (unsigned i = 0; i < client->what->callers; i++) {
        nng_ctx_close(client->contexts[i]);
        nng_aio_free(client->aios[i]);
    }
    for (unsigned i = 0; i < client->what->connections; i++)
        nng_close(client->sockets[i]);
    free(client->sockets);
    free(client->contexts);
    free(client->aios);
    free(client->body);
    free(client);
}

static nng_msg *new_message(const struct client *client) {
    nng_msg *message;
    need(nng_msg_alloc(&message, 0));
    need(nng_msg_append(message, client->body, client->what->size));
    return message;
}

static void check_reply(const struct client *client, nng_msg *message) {
    if (nng_msg_len(message) != client->what->size)
        bench_die("%zu bytes came back as %zu", client->what->size, nng_msg_len(message));
    nng_msg_free(message);
}

static void call(void *context, unsigned caller) {
    struct client *client = context;
    nng_aio *aio = client->aios[caller];
    nng_aio_set_msg(aio, new_message(client));
    nng_ctx_send(client->contexts[caller], aio);
    nng_aio_wait(aio);
    need(nng_aio_result(aio));
    nng_ctx_recv(client->contexts[caller], aio);
    nng_aio_wait(aio);
    need(nng_aio_result(aio));
    check_reply(client, nng_aio_get_msg(aio));
}

/* ---- calls in flight: callbacks run on threads of nng ---- */

struct sky {
    struct client *client;
    pthread_mutex_t lock;
    pthread_cond_t landed;
    struct bench_flight *flight;
};

struct flying {
    struct sky *sky;
    nng_aio *aio;
    nng_ctx ctx;
    int64_t begun;
    bool sending;
};

/* With the lock. */
static bool take_off(struct flying *flying) {
    if (!bench_flight_more(flying->sky->flight))
        return false;
    flying->begun = bench_flight_begin(flying->sky->flight);
    flying->sending = true;
    return true;
}

static void send_request(struct flying *flying) {
    nng_aio_set_msg(flying->aio, new_message(flying->sky->client));
    nng_ctx_send(flying->ctx, flying->aio);
}

static void on_done(void *context) {
    struct flying *flying = context;
    struct sky *sky = flying->sky;
    need(nng_aio_result(flying->aio));
    if (flying->sending) {
        flying->sending = false;
        nng_ctx_recv(flying->ctx, flying->aio);
        return;
    }
    check_reply(sky->client, nng_aio_get_msg(flying->aio));
    pthread_mutex_lock(&sky->lock);
    bench_flight_end(sky->flight, flying->begun);
    bool again = take_off(flying);
    if (!bench_flight_busy(sky->flight))
        pthread_cond_signal(&sky->landed);
    pthread_mutex_unlock(&sky->lock);
    if (again)
        send_request(flying);
}

static void fly(void *context, struct bench_flight *flight) {
    struct client *client = context;
    unsigned count = client->what->in_flight;
    struct sky sky = {.client = client, .flight = flight};
    struct flying *all = bench_alloc(count * sizeof(*all));
    pthread_mutex_init(&sky.lock, NULL);
    pthread_cond_init(&sky.landed, NULL);
    for (unsigned i = 0; i < count; i++) {
        all[i].sky = &sky;
        need(nng_aio_alloc(&all[i].aio, on_done, &all[i]));
        need(nng_ctx_open(&all[i].ctx, client->sockets[0]));
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_mutex_lock(&sky.lock);
        bool begun = take_off(&all[i]);
        pthread_mutex_unlock(&sky.lock);
        if (begun)
            send_request(&all[i]);
    }
    pthread_mutex_lock(&sky.lock);
    while (bench_flight_busy(flight))
        pthread_cond_wait(&sky.landed, &sky.lock);
    pthread_mutex_unlock(&sky.lock);
    for (unsigned i = 0; i < count; i++) {
        nng_ctx_close(all[i].ctx);
        nng_aio_free(all[i].aio);
    }
    free(all);
}

static const struct bench_system nng_system = {
    .name = "nng",
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .call = call,
    .fly = fly,
};

int main(int argc, char **argv) {
    static const struct bench_system *const systems[] = {&nng_system, NULL};
    return bench_peer(argc, argv, systems);
}
