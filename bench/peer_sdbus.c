/* SPDX-License-Identifier: MIT */
/*
 * sd-bus, peer to peer: no broker, a connection each (a bus object belongs to one thread), as
 * sd_bus_set_fd(3) and sd_bus_set_server(3) say. The method takes and returns an array of bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "bench/system.h"

#define OBJECT "/bench"
#define INTERFACE "bench.Echo"

static void need(int r) {
    if (r < 0)
        bench_die("sd-bus: %s", strerror(-r));
}

/* ---- server ---- */

static int echo(sd_bus_message *request, void *context, sd_bus_error *error) {
    sd_bus_message *reply = NULL;
    const void *data;
    size_t size;
    (void)context;
    (void)error;
    int r = sd_bus_message_read_array(request, 'y', &data, &size);
    if (r >= 0)
        r = sd_bus_message_new_method_return(request, &reply);
    if (r >= 0)
        r = sd_bus_message_append_array(reply, 'y', data, size);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
}

static const sd_bus_vtable methods[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD("Echo", "ay", "ay", echo, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

static void serve_bus(int fd, const struct bench_case *what) {
    sd_bus *bus;
    sd_id128_t id;
    int r;
    (void)what;
    need(sd_id128_randomize(&id));
    need(sd_bus_new(&bus));
    need(sd_bus_set_fd(bus, fd, fd));
    need(sd_bus_set_server(bus, 1, id));
    need(sd_bus_start(bus));
    need(sd_bus_add_object_vtable(bus, NULL, OBJECT, INTERFACE, methods, NULL));
    while ((r = sd_bus_process(bus, NULL)) >= 0)
        if (r == 0 && sd_bus_wait(bus, UINT64_MAX) < 0)
            break;
    sd_bus_unref(bus);
}

static void serve_duplicate(int fd, const struct bench_case *what) {
    int own = dup(fd);
    if (own >= 0)
        serve_bus(own, what);
}

static void serve(const struct bench_case *what) {
    int listener = bench_listen(what, SOCK_STREAM);
    bench_ready();
    bench_serve_threads(listener, serve_duplicate, what);
}

/* ---- client ---- */

struct client {
    const struct bench_case *what;
    char *body;
    sd_bus *buses[];
};

static void *open_client(const struct bench_case *what) {
    struct client *client = bench_alloc(sizeof(*client) + what->connections * sizeof(sd_bus *));
    client->what = what;
    client->body = bench_body(what->size);
    for (unsigned i = 0; i < what->connections; i++) {
        int fd = bench_connect(what, SOCK_STREAM);
        need(sd_bus_new(&client->buses[i]));
        need(sd_bus_set_fd(client->buses[i], fd, fd));
        need(sd_bus_start(client->buses[i]));
    }
    return client;
}

static void close_client(void *context) {
    struct client *client = context;
    for (unsigned i = 0; i < client->what->connections; i++)
        sd_bus_unref(client->buses[i]);
    free(client->body);
    free(client);
}

static sd_bus_message *new_request(struct client *client, sd_bus *bus) {
    sd_bus_message *request;
    need(sd_bus_message_new_method_call(bus, &request, NULL, OBJECT, INTERFACE, "Echo"));
    need(sd_bus_message_append_array(request, 'y', client->body, client->what->size));
    return request;
}

static void check_reply(struct client *client, sd_bus_message *reply) {
    const void *data;
    size_t size;
    if (sd_bus_message_is_method_error(reply, NULL))
        bench_die("sd-bus: %s", sd_bus_message_get_error(reply)->message);
    need(sd_bus_message_read_array(reply, 'y', &data, &size));
    if (size != client->what->size)
        bench_die("%zu bytes came back as %zu", client->what->size, size);
}

static void call(void *context, unsigned caller) {
    struct client *client = context;
    sd_bus *bus = client->buses[caller % client->what->connections];
    sd_bus_message *request = new_request(client, bus), *reply;
    need(sd_bus_call(bus, request, 0, NULL, &reply));
    check_reply(client, reply);
    sd_bus_message_unref(request);
    sd_bus_message_unref(reply);
}

/* ---- calls in flight ---- */

struct flying {
    struct client *client;
    struct bench_flight *flight;
    int64_t begun;
    struct flying *next, **free;
};

static int on_reply(sd_bus_message *reply, void *context, sd_bus_error *error) {
    struct flying *flying = context;
    (void)error;
    check_reply(flying->client, reply);
    bench_flight_end(flying->flight, flying->begun);
    flying->next = *flying->free;
    *flying->free = flying;
    return 1;
}

static void begin_calls(struct client *client, struct bench_flight *flight, struct flying **free) {
    while (bench_flight_more(flight)) {
        struct flying *flying = *free;
        *free = flying->next;
        sd_bus_message *request = new_request(client, client->buses[0]);
        flying->begun = bench_flight_begin(flight);
        need(sd_bus_call_async(client->buses[0], NULL, request, on_reply, flying, 0));
        sd_bus_message_unref(request);
    }
}

static void fly(void *context, struct bench_flight *flight) {
    struct client *client = context;
    unsigned count = client->what->in_flight;
    struct flying *all = bench_alloc(count * sizeof(*all)), *free_ones = NULL;
    for (unsigned i = 0; i < count; i++) {
        all[i] = (struct flying){client, flight, 0, free_ones, &free_ones};
        free_ones = &all[i];
    }
    while (bench_flight_more(flight) || bench_flight_busy(flight)) {
        begin_calls(client, flight, &free_ones);
        int r = sd_bus_process(client->buses[0], NULL);
        need(r);
        if (r == 0)
            need(sd_bus_wait(client->buses[0], UINT64_MAX));
    }
    free(all);
}

static const struct bench_system sd_bus_system = {
    .name = "sd-bus",
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .call = call,
    .fly = fly,
};

int main(int argc, char **argv) {
    static const struct bench_system *const systems[] = {&sd_bus_system, NULL};
    return bench_peer(argc, argv, systems);
}
