/* SPDX-License-Identifier: MIT */
/*
 * Calls whose instructions are to be counted: instructions CASE CALLS
 *
 * Client and server are two ends of a socketpair in one thread, each in a foreign loop that is
 * driven by hand, so that every run does the same. Only "blocking" has a second thread, with the
 * server; there nothing but vouch_client_call is counted. bench/check-instructions runs this under
 * callgrind.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/vouch.h>
#ifdef BENCH_JSON
#include <vouch/json.h>
#endif
#ifdef BENCH_PROTO
#include <vouch/proto.h>

#include "bench/echo.pb-c.h"
#endif

#include "bench/system.h"

#define SIZE 1024
#define FLIGHT 64

struct both {
    struct vouch_server *server;
    struct vouch_client *client;
    char *body;
    unsigned long in_flight;
};

static void need(int r) {
    if (r < 0)
        bench_die("%s", vouch_strerror(r));
}

/* ---- the two sides: functions of their own, which callgrind is told to look at ---- */

static __attribute__((noinline)) void server_side(struct both *both) {
    need(vouch_server_process(both->server));
}

static __attribute__((noinline)) void client_process(struct both *both) {
    need(vouch_client_process(both->client));
}

static void on_reply(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    (void)reply;
    (void)error;
    need(result > 0 ? -1 : result);
    --*(unsigned long *)context;
}

static __attribute__((noinline)) void client_begin(struct both *both) {
    need(vouch_client_call_async(both->client, "echo", both->body, SIZE, NULL, on_reply,
                                 &both->in_flight, NULL));
}

/* ---- JSON and protobuf ---- */

#ifdef BENCH_JSON
static cJSON *json_request;

static int json_echo(void *context, struct vouch_call *call, const cJSON *request,
                     cJSON **ret_reply) {
    (void)context;
    (void)ret_reply;
    return vouch_json_reply(call, request);
}

static void json_on_reply(void *context, int result, const cJSON *reply,
                          const struct vouch_error *error) {
    (void)reply;
    on_reply(context, result, NULL, error);
}

static void json_add(struct both *both) {
    struct vouch_json_method method = {VOUCH_OPTIONS(method), .name = "json", .handler = json_echo,
                                       .flags = VOUCH_METHOD_QUICK};
    need(vouch_json_add_method(both->server, &method));
    json_request = cJSON_CreateObject();
    cJSON_AddStringToObject(json_request, "data", both->body);
}

static void json_begin(struct both *both) {
    need(vouch_json_call_async(both->client, "json", json_request, NULL, json_on_reply,
                               &both->in_flight, NULL));
}
#endif

#ifdef BENCH_PROTO
static Bench__Echo proto_request;

static int proto_echo(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    return vouch_proto_reply(call, request);
}

static void proto_on_reply(void *context, int result, const ProtobufCMessage *reply,
                           const struct vouch_error *error) {
    (void)reply;
    on_reply(context, result, NULL, error);
}

static void proto_add(struct both *both) {
    struct vouch_proto_method method = {VOUCH_OPTIONS(method), .name = "proto",
                                        .request = &bench__echo__descriptor, .handler = proto_echo,
                                        .flags = VOUCH_METHOD_QUICK};
    need(vouch_proto_add_method(both->server, &method));
    bench__echo__init(&proto_request);
    proto_request.data.data = (uint8_t *)both->body;
    proto_request.data.len = SIZE;
}

static void proto_begin(struct both *both) {
    need(vouch_proto_call_async(both->client, "proto", &proto_request.base,
                                &bench__echo__descriptor, NULL, proto_on_reply, &both->in_flight,
                                NULL));
}
#endif

/* ---- driving ---- */

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    return vouch_call_reply(call, data, size);
}

static void setup(struct both *both, bool foreign) {
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "echo", .handler = echo,
                                  .flags = VOUCH_METHOD_QUICK};
    struct vouch_server_options server_options = {VOUCH_OPTIONS(server_options), .workers = 1,
                                                  .polling = VOUCH_POLLING_OFF};
    struct vouch_client_options client_options = {VOUCH_OPTIONS(client_options),
                                                  .polling = VOUCH_POLLING_OFF};
    struct vouch_conn *ends[2];
    both->body = bench_body(SIZE);
    need(vouch_server_new(&server_options, &both->server));
    need(vouch_server_add_method(both->server, &method));
#ifdef BENCH_JSON
    json_add(both);
#endif
#ifdef BENCH_PROTO
    proto_add(both);
#endif
    need(vouch_conn_pair(NULL, ends));
    need(vouch_server_add_conn(both->server, ends[0]));
    need(vouch_client_new(ends[1], &client_options, &both->client));
    if (!foreign)
        return;
    need(vouch_server_get_fd(both->server));
    need(vouch_client_get_fd(both->client));
}

static void drive(struct both *both, unsigned long calls, unsigned long window,
                  void (*begin)(struct both *both)) {
    unsigned long begun = 0;
    while (begun < calls || both->in_flight > 0) {
        for (; begun < calls && both->in_flight < window; begun++) {
            both->in_flight++;
            begin(both);
        }
        server_side(both);
        client_process(both);
    }
}

static void *run_server(void *context) {
    need(vouch_server_run(context));
    return NULL;
}

static void call_blocking(struct both *both, unsigned long calls) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_server, both->server) != 0)
        bench_die("no thread");
    for (unsigned long i = 0; i < calls; i++) {
        struct vouch_reply reply;
        need(vouch_client_call(both->client, "echo", both->body, SIZE, NULL, &reply, NULL));
        vouch_reply_release(&reply);
    }
    need(vouch_server_stop(both->server, VOUCH_SECONDS(1)));
    pthread_join(thread, NULL);
}

int main(int argc, char **argv) {
    struct both both = {0};
    unsigned long calls = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (calls == 0)
        bench_die("this is for bench/check-instructions: instructions CASE CALLS");
    bool blocking = strcmp(argv[1], "blocking") == 0;
    setup(&both, !blocking);
    if (blocking)
        call_blocking(&both, calls);
    else if (strcmp(argv[1], "one") == 0)
        drive(&both, calls, 1, client_begin);
    else if (strcmp(argv[1], "flight") == 0)
        drive(&both, calls, FLIGHT, client_begin);
#ifdef BENCH_JSON
    else if (strcmp(argv[1], "json") == 0)
        drive(&both, calls, 1, json_begin);
#endif
#ifdef BENCH_PROTO
    else if (strcmp(argv[1], "proto") == 0)
        drive(&both, calls, 1, proto_begin);
#endif
    else
        bench_die("no case %s in this build", argv[1]);
    vouch_client_free(both.client);
    vouch_server_free(both.server);
    free(both.body);
    return 0;
}
