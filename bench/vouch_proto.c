/* SPDX-License-Identifier: MIT */
/* Calls of protobuf messages with one field of bytes, packed and unpacked on both sides. */
#include <stdlib.h>
#include <vouch/proto.h>

#include "bench/echo.pb-c.h"
#include "bench/vouch_parts.h"

static int echo(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    return vouch_proto_reply(call, request);
}

static void serve(const struct bench_case *what) {
    struct vouch_server *server = parts_server(what);
    struct vouch_proto_method method = {VOUCH_OPTIONS(method), .name = "echo",
                                        .request = &bench__echo__descriptor, .handler = echo,
                                        .flags = VOUCH_METHOD_QUICK};
    parts_need(vouch_proto_add_method(server, &method), NULL);
    parts_serve(server, what);
}

struct client {
    struct parts *parts;
    Bench__Echo request;
};

static void *open_client(const struct bench_case *what) {
    struct client *client = bench_alloc(sizeof(*client));
    client->parts = parts_open(what);
    bench__echo__init(&client->request);
    client->request.data.data = (uint8_t *)bench_body(what->size);
    client->request.data.len = what->size;
    return client;
}

static void close_client(void *context) {
    struct client *client = context;
    parts_close(client->parts);
    free(client->request.data.data);
    free(client);
}

static void call(void *context, unsigned caller) {
    struct client *client = context;
    struct vouch_proto_message reply;
    struct vouch_error error;
    parts_need(vouch_proto_call(parts_client(client->parts, caller), "echo", &client->request.base,
                                &bench__echo__descriptor, NULL, &reply, &error),
               &error);
    const Bench__Echo *echoed = (const Bench__Echo *)reply.message;
    if (echoed->data.len != client->request.data.len)
        bench_die("%zu bytes came back as %zu", client->request.data.len, echoed->data.len);
    vouch_proto_message_release(&reply);
}

static void on_reply(void *context, int result, const ProtobufCMessage *reply,
                     const struct vouch_error *error) {
    (void)reply;
    parts_ended(context, result, error);
}

static int begin(void *context, struct vouch_client *on, struct parts_slot *slot) {
    struct client *client = context;
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .more = slot->more};
    return vouch_proto_call_async(on, "echo", &client->request.base, &bench__echo__descriptor,
                                  &options, on_reply, slot, NULL);
}

static void fly(void *context, struct bench_flight *flight) {
    struct client *client = context;
    parts_fly(client->parts, flight, begin, client);
}

const struct bench_system vouch_proto = {
    .name = "vouch-proto",
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .call = call,
    .fly = fly,
};
