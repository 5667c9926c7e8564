/* SPDX-License-Identifier: MIT */
/*
 * Calls of JSON trees: {"data":"…"} of as many bytes as the case says (12 at least). What cJSON
 * itself allocates is counted apart, when anything is.
 */
#include <stdlib.h>
#include <string.h>
#include <vouch/json.h>

#include "bench/counters.h"
#include "bench/vouch_parts.h"

#define FRAME (sizeof("{\"data\":\"\"}") - 1)

static struct counters *counters;
static enum counters_side side;

static void *count_malloc(size_t size) {
    atomic_fetch_add_explicit(&counters->sides[side].codec, 1, memory_order_relaxed);
    return malloc(size);
}

static void count_codec(void) {
    counters = counters_get();
    side = counters_get_side();
    if (counters)
        cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = count_malloc, .free_fn = free});
}

static int echo(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    (void)context;
    (void)ret_reply;
    return vouch_json_reply(call, request);
}

static void serve(const struct bench_case *what) {
    struct vouch_server *server = parts_server(what);
    struct vouch_json_method method = {VOUCH_OPTIONS(method), .name = "echo", .handler = echo,
                                       .flags = VOUCH_METHOD_QUICK};
    count_codec();
    parts_need(vouch_json_add_method(server, &method), NULL);
    parts_serve(server, what);
}

struct client {
    struct parts *parts;
    cJSON *request;
};

static void *open_client(const struct bench_case *what) {
    struct client *client = bench_alloc(sizeof(*client));
    char *text = bench_body(what->size > FRAME ? what->size - FRAME : 1);
    count_codec();
    client->parts = parts_open(what);
    client->request = cJSON_CreateObject();
    if (!cJSON_AddStringToObject(client->request, "data", text))
        bench_die("no memory");
    free(text);
    return client;
}

static void close_client(void *context) {
    struct client *client = context;
    parts_close(client->parts);
    cJSON_Delete(client->request);
    free(client);
}

static void call(void *context, unsigned caller) {
    struct client *client = context;
    struct vouch_error error;
    cJSON *reply;
    parts_need(vouch_json_call(parts_client(client->parts, caller), "echo", client->request, NULL,
                               &reply, &error),
               &error);
    cJSON_Delete(reply);
}

static void on_reply(void *context, int result, const cJSON *reply,
                     const struct vouch_error *error) {
    (void)reply;
    parts_ended(context, result, error);
}

static int begin(void *context, struct vouch_client *on, struct parts_slot *slot) {
    struct client *client = context;
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .more = slot->more};
    return vouch_json_call_async(on, "echo", client->request, &options, on_reply, slot, NULL);
}

static void fly(void *context, struct bench_flight *flight) {
    struct client *client = context;
    parts_fly(client->parts, flight, begin, client);
}

const struct bench_system vouch_json = {
    .name = "vouch-json",
    .serve = serve,
    .open = open_client,
    .close = close_client,
    .call = call,
    .fly = fly,
};
