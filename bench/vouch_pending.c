/* SPDX-License-Identifier: MIT */
/*
 * Many calls pending at a time, each with its deadline: the server keeps them all and answers when
 * the last of `in_flight` has arrived. A run is whole rounds of that.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "bench/vouch_parts.h"

struct kept {
    pthread_mutex_t lock;
    struct vouch_call **calls;
    unsigned count, wanted;
};

static int keep(void *context, struct vouch_call *call) {
    struct kept *kept = context;
    vouch_call_keep(call);
    pthread_mutex_lock(&kept->lock);
    kept->calls[kept->count++] = call;
    if (kept->count == kept->wanted)
        while (kept->count > 0)
            vouch_call_reply(kept->calls[--kept->count], "", 0);
    pthread_mutex_unlock(&kept->lock);
    return 0;
}

static void serve(const struct bench_case *what) {
    struct vouch_server *server = parts_server(what);
    struct kept kept = {.calls = bench_alloc(what->in_flight * sizeof(struct vouch_call *)),
                        .wanted = what->in_flight};
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "keep", .handler = keep,
                                  .context = &kept, .flags = VOUCH_METHOD_QUICK};
    pthread_mutex_init(&kept.lock, NULL);
    parts_need(vouch_server_add_method(server, &method), NULL);
    parts_serve(server, what);
}

static void *open_client(const struct bench_case *what) {
    return parts_open(what);
}

static void close_client(void *context) {
    parts_close(context);
}

static void on_reply(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    (void)reply;
    parts_need(result, error);
    bench_flight_end(context, 0);
}

static void wait_briefly(struct vouch_client *client) {
    int r = vouch_client_wait(client, vouch_deadline_in(VOUCH_MILLISECONDS(1)));
    parts_need(r < 0 && r != -ETIMEDOUT ? r : 0, NULL);
}

static void begin(struct vouch_client *client, struct bench_flight *flight) {
    int r;
    while ((r = vouch_client_call_async(client, "keep", "", 0, NULL, on_reply, flight, NULL)) ==
           -EAGAIN)
        wait_briefly(client);
    parts_need(r, NULL);
}

static void fly(void *context, struct bench_flight *flight) {
    struct parts *parts = context;
    unsigned count = parts->what->in_flight, connections = parts->what->connections;
    while (bench_flight_more(flight)) {
        for (unsigned i = 0; i < count; i++) {
            (void)bench_flight_begin(flight);
            begin(parts->clients[i % connections], flight);
        }
        /* In turns: what has not been sent on one is not sent by who waits on another. */
        for (unsigned i = 0; bench_flight_busy(flight); i = (i + 1) % connections)
            wait_briefly(parts->clients[i]);
    }
}

const struct bench_system vouch_pending = {
    .name = "vouch-bytes",
    .kind = BENCH_PENDING,
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .fly = fly,
};
