/* SPDX-License-Identifier: MIT */
/*
 * Calls of bytes. The method is VOUCH_METHOD_QUICK, as an echo is. With `methods` the server has
 * that many more, and callers go through them all.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/vouch_parts.h"

#define NAME_SIZE 24

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    return vouch_call_reply(call, data, size);
}

static void name_method(char name[NAME_SIZE], unsigned number) {
    snprintf(name, NAME_SIZE, "echo/%u", number);
}

static void serve(const struct bench_case *what) {
    struct vouch_server *server = parts_server(what);
    for (unsigned i = 0; i <= what->methods; i++) {
        char name[NAME_SIZE];
        struct vouch_method method = {VOUCH_OPTIONS(method), .name = name, .handler = echo,
                                      .flags = VOUCH_METHOD_QUICK};
        name_method(name, i);
        parts_need(vouch_server_add_method(server, &method), NULL);
    }
    parts_serve(server, what);
}

struct client {
    struct parts *parts;
    char *body;
    size_t size;
    char (*names)[NAME_SIZE];
    unsigned name_count, *next_names;
};

static void *open_client(const struct bench_case *what) {
    struct client *client = bench_alloc(sizeof(*client));
    client->parts = parts_open(what);
    client->size = what->size;
    client->body = bench_body(what->size);
    client->name_count = what->methods + 1;
    client->names = bench_alloc(client->name_count * sizeof(*client->names));
    for (unsigned i = 0; i < client->name_count; i++)
        name_method(client->names[i], i);
    client->next_names = bench_alloc(what->callers * sizeof(*client->next_names));
    return client;
}

static void close_client(void *context) {
    struct client *client = context;
    parts_close(client->parts);
    free(client->names);
    free(client->next_names);
    free(client->body);
    free(client);
}

static const char *next_name(struct client *client, unsigned caller) {
    unsigned *next = &client->next_names[caller];
    const char *name = client->names[*next];
    *next = *next + 1 < client->name_count ? *next + 1 : 0;
    return name;
}

static void call(void *context, unsigned caller) {
    struct client *client = context;
    struct vouch_reply reply;
    struct vouch_error error;
    parts_need(vouch_client_call(parts_client(client->parts, caller), next_name(client, caller),
                                 client->body, client->size, NULL, &reply, &error),
               &error);
    if (reply.size != client->size)
        bench_die("%zu bytes came back as %zu", client->size, reply.size);
    vouch_reply_release(&reply);
}

static void on_reply(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    (void)reply;
    parts_ended(context, result, error);
}

static int begin(void *context, struct vouch_client *on, struct parts_slot *slot) {
    struct client *client = context;
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .more = slot->more};
    return vouch_client_call_async(on, next_name(client, 0), client->body, client->size, &options,
                                   on_reply, slot, NULL);
}

static void fly(void *context, struct bench_flight *flight) {
    struct client *client = context;
    parts_fly(client->parts, flight, begin, client);
}

const struct bench_system vouch_bytes = {
    .name = "vouch-bytes",
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .call = call,
    .fly = fly,
};
