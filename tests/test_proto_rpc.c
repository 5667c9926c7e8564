/* SPDX-License-Identifier: MIT */
/* Calls by name, over a socketpair, and with each side by hand. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vouch/proto.h>

#include "stream/proto_message.h"
#include "tests/harness.h"
#include "tests/proto_support.h"
#include "tests/rpc_support.h"

#define ECHO_TYPE (&sample__everything__descriptor)

static struct rpc_stage stage;
static struct vouch_client *client;
static int releases;

/* ---- methods ---- */

static int echo(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    return vouch_proto_reply(call, request);
}

static int result(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    (void)call;
    return ((const Sample__Everything *)request)->i32;
}

static int refuse(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    return vouch_call_fail(call, VOUCH_REMOTE_REFUSED, "no %s",
                           ((const Sample__Everything *)request)->text);
}

static int nothing(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    (void)request;
    return vouch_proto_reply(call, NULL);
}

static int twice(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    cr_assert_eq(vouch_proto_reply(call, request), 0);
    cr_assert_eq(vouch_proto_reply(call, request), -EALREADY);
    return 0;
}

/* Over what any maximum may be: refused by its size, its bytes are not touched. */
static const Sample__Everything *huge(void) {
    static Sample__Everything message;
    message = (Sample__Everything)SAMPLE__EVERYTHING__INIT;
    message.data.len = VOUCH_CHUNK_SIZE_BOUND;
    message.data.data = (uint8_t *)"";
    return &message;
}

static int answer_huge(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    (void)request;
    cr_assert_eq(vouch_proto_reply(call, &huge()->base), -EMSGSIZE);
    return 0;
}

static int whoami(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    Sample__Number reply = SAMPLE__NUMBER__INIT;
    (void)context;
    (void)request;
    reply.value = vouch_call_get_peer(call)->uid;
    return vouch_proto_reply(call, &reply.base);
}

static void *answer_later(void *context) {
    struct vouch_call *call = context;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    struct vouch_proto_message request;
    cr_assert_eq(vouch_proto_unpack(vouch_server_get_pool(stage.server), ECHO_TYPE, data, size,
                                    &request, NULL),
                 0);
    cr_assert_eq(vouch_proto_reply(call, request.message), 0);
    vouch_proto_message_release(&request);
    return NULL;
}

static pthread_t later;

static int keep(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    (void)request;
    vouch_call_keep(call);
    later = support_thread_start(answer_later, call);
    rpc_latch_raise(&stage.entered);
    return 0;
}

static void count_release(void *context) {
    (void)context;
    releases++;
}

static int add(const char *name, vouch_proto_handler handler) {
    const struct vouch_proto_method method = {VOUCH_OPTIONS(method), .name = name,
                                              .request = ECHO_TYPE, .handler = handler,
                                              .release = count_release};
    return vouch_proto_add_method(stage.server, &method);
}

static void open_with(const struct vouch_server_options *server,
                      const struct vouch_client_options *options) {
    support_baseline_begin();
    rpc_stage_init(&stage, server);
    releases = 0;
    cr_assert_eq(add("p/echo", echo), 0);
    cr_assert_eq(add("p/result", result), 0);
    cr_assert_eq(add("p/refuse", refuse), 0);
    cr_assert_eq(add("p/nothing", nothing), 0);
    cr_assert_eq(add("p/twice", twice), 0);
    cr_assert_eq(add("p/whoami", whoami), 0);
    cr_assert_eq(add("p/keep", keep), 0);
    cr_assert_eq(add("p/huge", answer_huge), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, options);
}

static void open_both(void) {
    open_with(NULL, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    cr_assert_eq(releases, 8);
    support_baseline_end();
}

static int call_with(const char *method, const ProtobufCMessage *request,
                     struct vouch_proto_message *ret_reply, struct vouch_error *ret_error) {
    return vouch_proto_call(client, method, request, ECHO_TYPE, NULL, ret_reply, ret_error);
}

static void check_echo(const char *method, const ProtobufCMessage *request) {
    struct vouch_proto_message reply;
    struct vouch_error error;
    cr_assert_eq(call_with(method, request, &reply, &error), 0, "%s", error.message);
    proto_support_assert_same(reply.message, request);
    vouch_proto_message_release(&reply);
}

/* ---- calls ---- */

Test(proto_rpc, messages_come_back_as_they_were) {
    Sample__Everything empty = SAMPLE__EVERYTHING__INIT;
    open_both();
    check_echo("p/echo", &proto_support_message(0)->base);
    check_echo("p/echo", &proto_support_message(1)->base);
    check_echo("p/echo", &empty.base);
    check_echo("p/twice", &proto_support_message(1)->base);
    check_echo("p/keep", &proto_support_message(0)->base);
    rpc_latch_wait(&stage.entered, 1);
    support_thread_join(later);
    close_both();
}

Test(proto_rpc, bytes_of_all_sizes) {
    struct vouch_server_options server = {VOUCH_OPTIONS(server), .max_request = 17 << 20,
                                          .max_reply = 17 << 20};
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .max_request = 17 << 20,
                                           .max_reply = 17 << 20};
    Sample__Everything message = SAMPLE__EVERYTHING__INIT;
    open_with(&server, &options);
    message.data.data = calloc(1, (size_t)16 << 20);
    static const size_t sizes[] = {1, 100, 65536, 1 << 20, (16 << 20)};
    for (size_t i = 0; i < 5; i++) {
        message.data.len = sizes[i];
        check_echo("p/echo", &message.base);
    }
    free(message.data.data);
    close_both();
}

Test(proto_rpc, results_of_handlers) {
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct vouch_proto_message reply;
    struct vouch_error error;
    open_both();
    for (int i = 1; i <= VOUCH_REMOTE_UNKNOWN; i++) {
        request.i32 = i;
        cr_assert_eq(call_with("p/result", &request.base, &reply, &error), i);
        cr_assert_null(reply.message);
    }
    request.i32 = -EACCES;
    cr_assert_eq(call_with("p/result", &request.base, &reply, &error), VOUCH_REMOTE_SERVER);
    request.text = "way";
    cr_assert_eq(call_with("p/refuse", &request.base, &reply, &error), VOUCH_REMOTE_REFUSED);
    cr_assert_str_eq(error.message, "no way");
    cr_assert_eq(call_with("p/none", &request.base, &reply, NULL), VOUCH_REMOTE_METHOD_NOT_FOUND);
    cr_assert_eq(call_with("p/nothing", &request.base, &reply, &error), VOUCH_REMOTE_SERVER);
    cr_assert_str_eq(error.message, "there is no reply");
    request.i32 = 0; /* no answer at all: a message of defaults */
    cr_assert_eq(call_with("p/result", &request.base, &reply, &error), 0);
    cr_assert_eq(((Sample__Everything *)reply.message)->i32, 0);
    vouch_proto_message_release(&reply);
    close_both();
}

Test(proto_rpc, the_peer_is_known) {
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct vouch_proto_message reply;
    open_both();
    cr_assert_eq(vouch_proto_call(client, "p/whoami", &request.base, &sample__number__descriptor,
                                  NULL, &reply, NULL),
                 0);
    cr_assert_eq(((Sample__Number *)reply.message)->value, (int64_t)geteuid());
    vouch_proto_message_release(&reply);
    cr_assert_eq(vouch_proto_call(client, "p/whoami", &request.base, NULL, NULL, NULL, NULL), 0,
                 "a reply that nobody wants");
    close_both();
}

Test(proto_rpc, wrong_arguments) {
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct vouch_proto_message reply;
    struct vouch_error error;
    open_both();
    cr_assert_eq(call_with("p/echo", NULL, &reply, &error), -EINVAL);
    cr_assert_eq(call_with("", &request.base, &reply, &error), VOUCH_E_METHOD_NAME);
    cr_assert_eq(
        vouch_proto_call_async(client, "p/echo", &request.base, ECHO_TYPE, NULL, NULL, NULL, NULL),
        -EINVAL);
    cr_assert_eq(add("p/late", echo), -EBUSY);
    struct vouch_proto_method method = {VOUCH_OPTIONS(method), .name = "x", .request = ECHO_TYPE};
    cr_assert_eq(vouch_proto_add_method(stage.server, &method), -EINVAL);
    method.handler = echo;
    method.request = NULL;
    cr_assert_eq(vouch_proto_add_method(stage.server, &method), -EINVAL);
    close_both();
}

Test(proto_rpc, names_and_policies_are_the_servers) {
    const struct vouch_policy nobody = {NULL, 0};
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    struct vouch_proto_method method = {VOUCH_OPTIONS(method), .name = "p/closed",
                                        .request = ECHO_TYPE,  .handler = echo,
                                        .policy = &nobody,     .flags = VOUCH_METHOD_QUICK};
    cr_assert_eq(vouch_proto_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_proto_add_method(stage.server, &method), VOUCH_E_METHOD_EXISTS);
    method.name = "no spaces";
    cr_assert_eq(vouch_proto_add_method(stage.server, &method), VOUCH_E_METHOD_NAME);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    cr_assert_eq(vouch_proto_call(client, "p/closed", &request.base, ECHO_TYPE, NULL, NULL, NULL),
                 VOUCH_REMOTE_REFUSED);
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- limits ---- */

Test(proto_rpc, over_the_maximum) {
    struct vouch_server_options server = {VOUCH_OPTIONS(server), .max_reply = 4096};
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .max_request = 8192};
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct vouch_proto_message reply;
    struct vouch_error error;
    open_with(&server, &options);
    request.data.len = 5000;
    request.data.data = calloc(1, 10000);
    cr_assert_eq(call_with("p/echo", &request.base, &reply, &error), VOUCH_REMOTE_TOO_LARGE);
    request.data.len = 10000;
    cr_assert_eq(call_with("p/echo", &request.base, &reply, &error), -EMSGSIZE);
    cr_assert_eq(call_with("p/echo", &huge()->base, &reply, &error), -EMSGSIZE);
    free(request.data.data);
    request.data.len = 0;
    cr_assert_eq(call_with("p/huge", &request.base, &reply, &error), VOUCH_REMOTE_TOO_LARGE);
    close_both();
}

#ifdef __linux__
Test(proto_rpc, the_packed_size_is_checked_on_both_sides) {
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct vouch_proto_message reply;
    struct vouch_error error;
    open_both();
    proto_support_wrong_size(1);
    cr_assert_eq(call_with("p/echo", &request.base, &reply, &error), -EINVAL);
    cr_assert_not_null(strstr(error.message, "packed to 1 bytes instead of 0"));
    /* The request is packed before the server gets to it. */
    struct vouch_reply raw;
    cr_assert_eq(vouch_client_call(client, "p/echo", NULL, 0, NULL, &raw, &error),
                 VOUCH_REMOTE_SERVER);
    cr_assert_not_null(strstr(error.message, "packed to 1 bytes instead of 0"));
    proto_support_wrong_size(0);
    close_both();
}
#endif

/* ---- malformed, both ways ---- */

static void check_refused(const void *bytes, size_t size, const char *why) {
    struct vouch_reply reply;
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "p/echo", bytes, size, NULL, &reply, &error),
                 VOUCH_REMOTE_BAD_DATA);
    cr_assert_not_null(strstr(error.message, why), "%s", error.message);
}

Test(proto_rpc, bad_requests_are_refused_with_the_reason) {
    uint8_t *deep;
    open_both();
    check_refused("\x08", 1, "sample.Everything, byte 1: a number is cut off");
    check_refused("\x5a\x01\xff", 3, "'text' is not UTF-8");
    size_t size = proto_support_nest(20000, &deep);
    check_refused(deep, size, "nest deeper than 48");
    free(deep);
    check_echo("p/echo", &proto_support_message(0)->base); /* nothing else has suffered */
    close_both();
}

/* A method of bytes that answers with what is no message. */
Test(proto_rpc, bad_replies_are_refused_with_the_reason) {
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct vouch_proto_message reply;
    struct vouch_error error;
    open_both();
    request.i32 = 9; /* "echo" answers with these bytes, which are no Blob */
    cr_assert_eq(vouch_proto_call(client, "echo", &request.base, &sample__blob__descriptor, NULL,
                                  &reply, &error),
                 -EPROTO);
    cr_assert_not_null(strstr(error.message, "sample.Blob, byte 1: 'data' (field 1)"), "%s",
                       error.message);
    cr_assert_null(reply.message);
    close_both();
}

/* ---- asynchronous calls ---- */

struct outcome {
    unsigned callbacks;
    int result;
    const ProtobufCMessage *expected;
    char text[200];
};

static void ended(void *context, int r, const ProtobufCMessage *reply,
                  const struct vouch_error *error) {
    struct outcome *outcome = context;
    outcome->callbacks++;
    outcome->result = r;
    if (r == 0)
        proto_support_assert_same(reply, outcome->expected);
    else
        cr_assert_null(reply);
    if (r != 0)
        snprintf(outcome->text, sizeof(outcome->text), "%.190s", error->message);
}

Test(proto_rpc, asynchronous_calls) {
    enum { COUNT = 50 };
    struct outcome outcomes[COUNT] = {{0}};
    open_both();
    for (unsigned i = 0; i < COUNT; i++) {
        outcomes[i].expected = &proto_support_message(i % 2)->base;
        cr_assert_eq(vouch_proto_call_async(client, "p/echo", outcomes[i].expected, ECHO_TYPE, NULL,
                                            ended, &outcomes[i], NULL),
                     0);
    }
    rpc_wait_callbacks(client, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        cr_assert_eq(outcomes[i].callbacks, 1);
        cr_assert_eq(outcomes[i].result, 0);
    }
    close_both();
}

Test(proto_rpc, asynchronous_failures) {
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct outcome outcome = {0};
    uint64_t id;
    open_both();
    cr_assert_eq(vouch_proto_call_async(client, "none", &request.base, ECHO_TYPE, NULL, ended,
                                        &outcome, NULL),
                 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, VOUCH_REMOTE_METHOD_NOT_FOUND);
    request.i32 = 9;
    cr_assert_eq(vouch_proto_call_async(client, "echo", &request.base, &sample__blob__descriptor,
                                        NULL, ended, &outcome, NULL),
                 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, -EPROTO);
    cr_assert_not_null(strstr(outcome.text, "sample.Blob"));
    cr_assert_eq(vouch_proto_call_async(client, "keep", &request.base, ECHO_TYPE, NULL, ended,
                                        &outcome, &id),
                 0);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, -ECANCELED);
    rpc_latch_wait(&stage.entered, 1);
    (void)vouch_call_reply(stage.kept[0], NULL, 0);
    cr_assert_eq(
        vouch_proto_call_async(client, "", &request.base, ECHO_TYPE, NULL, ended, &outcome, NULL),
        VOUCH_E_METHOD_NAME);
    cr_assert_eq(vouch_proto_call_async(client, "x", NULL, ECHO_TYPE, NULL, ended, &outcome, NULL),
                 -EINVAL);
    cr_assert_eq(outcome.callbacks, 3);
    close_both();
}

Test(proto_rpc, a_deadline) {
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_MILLISECONDS(20)};
    Sample__Everything request = SAMPLE__EVERYTHING__INIT;
    struct vouch_proto_message reply;
    open_both();
    int r = vouch_proto_call(client, "block", &request.base, ECHO_TYPE, &options, &reply, NULL);
    cr_assert(rpc_timed_out(r), "%d", r);
    rpc_latch_raise(&stage.go);
    close_both();
}

/* ---- memory ---- */

/* Pools grow to what chance has in use at the same time, and then no more: one round without an
 * allocation shows it. */
Test(proto_rpc, nothing_is_allocated_in_steady_state) {
    struct vouch_memory_stats before = {.allocations = 1}, after = {0};
    struct outcome outcome = {.expected = &proto_support_message(0)->base};
    open_both();
    for (int round = 0; round < 20 && after.allocations != before.allocations; round++) {
        vouch_memory_get_stats(&before);
        for (int i = 0; i < 100; i++) {
            check_echo("p/echo", outcome.expected);
            cr_assert_eq(vouch_proto_call_async(client, "p/echo", outcome.expected, ECHO_TYPE, NULL,
                                                ended, &outcome, NULL),
                         0);
            rpc_wait_callbacks(client, 1);
        }
        vouch_memory_get_stats(&after);
    }
#if !defined(__SANITIZE_ADDRESS__) /* there every buffer is an allocation of its own */
    cr_assert_eq(after.allocations, before.allocations, "client and server of %llu calls",
                 (unsigned long long)outcome.callbacks);
#endif
    close_both();
}

static int converse(const struct vouch_allocator *allocator) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .allocator = allocator};
    struct vouch_server_options server_options = {VOUCH_OPTIONS(server_options),
                                                  .allocator = allocator, .workers = 1};
    struct vouch_conn_options conn_options = {VOUCH_OPTIONS(conn_options), .allocator = allocator};
    struct vouch_server *server = NULL;
    struct vouch_client *caller = NULL;
    struct vouch_conn *conns[2] = {NULL, NULL};
    struct vouch_proto_message reply = {0};
    const struct vouch_proto_method method = {VOUCH_OPTIONS(method), .name = "p",
                                              .request = ECHO_TYPE, .handler = echo};
    int r = vouch_server_new(&server_options, &server);
    if (r == 0)
        r = vouch_proto_add_method(server, &method);
    if (r == 0)
        r = vouch_conn_pair(&conn_options, conns);
    if (r == 0)
        r = vouch_server_add_conn(server, conns[0]);
    if (r == 0) {
        conns[0] = NULL;
        r = vouch_server_start(server);
    }
    if (r == 0)
        r = vouch_client_new(conns[1], &options, &caller);
    if (r == 0) {
        conns[1] = NULL;
        r = vouch_proto_call(caller, "p", &proto_support_message(0)->base, ECHO_TYPE, NULL, &reply,
                             NULL);
    }
    vouch_proto_message_release(&reply);
    vouch_client_free(caller);
    vouch_conn_free(conns[1]);
    vouch_server_free(server);
    vouch_conn_free(conns[0]);
    return r;
}

Test(proto_rpc, each_allocation_may_fail, .timeout = 120) {
    static const uint64_t counts[] = {SUPPORT_FAIL_ONCE, SUPPORT_FAIL_ALWAYS};
    struct support_allocator allocator;
    support_baseline_begin();
    support_allocator_init(&allocator);
    for (size_t i = 0; i < 2; i++) {
        uint64_t n = 0;
        int r;
        do {
            support_allocator_fail(&allocator, ++n, counts[i]);
            r = converse(&allocator.allocator);
            cr_assert(r == 0 || r == -ENOMEM || r == -ECONNRESET || r == VOUCH_REMOTE_SERVER,
                      "%llu: %d", (unsigned long long)n, r);
            support_allocator_check(&allocator);
        } while (atomic_load(&allocator.injected) > 0);
        cr_assert_eq(r, 0);
    }
    support_baseline_end();
}

/* ---- the recorded conversations ---- */

#define VECTOR_ROOM ((size_t)64 * 1024)

/* A recorded message: its own bytes, and what they say. */
struct recorded {
    uint8_t chunk[VECTOR_ROOM], data[VECTOR_ROOM];
    size_t chunk_size;
    bool of_client;
    struct rpc_message message;
};

/* From the bytes: cJSON reads numbers as doubles. */
static int64_t recorded_expiry(const uint8_t *chunk, size_t size) {
    struct envelope envelope;
    uint64_t length;
    int head = vouch_chunk_decode_header(chunk, size, &length);
    cr_assert_gt(head, 0);
    cr_assert_eq(envelope_decode(chunk + head, (size_t)length, &envelope), 0);
    return envelope.expires;
}

static bool next_recorded(struct support_vectors *vectors, struct recorded *recorded) {
    const struct cJSON *object = support_vectors_next(vectors);
    if (!object)
        return false;
    const struct cJSON *fields = cJSON_GetObjectItemCaseSensitive(object, "envelope");
    recorded->chunk_size =
        support_vector_bytes(object, "chunk_hex", recorded->chunk, sizeof(recorded->chunk));
    recorded->of_client = strcmp(support_vector_text(object, "from"), "client") == 0;
    recorded->message = (struct rpc_message){
        .id = (uint32_t)support_vector_number(fields, "id"),
        .expires = recorded_expiry(recorded->chunk, recorded->chunk_size),
        .method = "benchmark",
        .data = recorded->data,
    };
    cr_assert_str_eq(support_vector_text(fields, "method"), "benchmark");
    if (support_vector_has(fields, "data_hex"))
        recorded->message.size =
            support_vector_bytes(fields, "data_hex", recorded->data, sizeof(recorded->data));
    return true;
}

/* The bytes of the message, as recorded but for when it expires. */
static size_t encode_for_now(const struct recorded *recorded, uint8_t *ret_bytes) {
    struct rpc_message message = recorded->message;
    size_t size = rpc_encode(&message, ret_bytes, VECTOR_ROOM);
    cr_assert_eq(size, recorded->chunk_size);
    cr_assert_eq(memcmp(ret_bytes, recorded->chunk, size), 0);
    message.expires += VOUCH_SECONDS(1000000000); /* in thirty years */
    return rpc_encode(&message, ret_bytes, VECTOR_ROOM);
}

Test(proto_rpc, recorded_as_server) {
    static struct recorded recorded;
    static uint8_t bytes[VECTOR_ROOM], got[VECTOR_ROOM];
    struct support_vectors vectors;
    unsigned answers = 0;
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    const struct vouch_proto_method method = {VOUCH_OPTIONS(method), .name = "benchmark",
                                              .request = &sample__blob__descriptor,
                                              .handler = echo};
    cr_assert_eq(vouch_proto_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    int fd = rpc_stage_raw(&stage);
    support_vectors_open(&vectors, "proto-rpc.jsonl");
    while (next_recorded(&vectors, &recorded)) {
        size_t size = encode_for_now(&recorded, bytes);
        if (recorded.of_client) {
            cr_assert(rpc_raw_write(fd, bytes, size));
            continue;
        }
        cr_assert_eq(recv(fd, got, size, MSG_WAITALL), (ssize_t)size);
        cr_assert_eq(memcmp(got, bytes, size), 0, "answer %u", answers);
        answers++;
    }
    cr_assert_eq(answers, 30);
    close(fd);
    rpc_stage_close(&stage);
    support_baseline_end();
}

struct recorded_call {
    struct vouch_pool *pool;
    unsigned callbacks;
    const struct recorded *recorded;
};

/* What was received packs to what was recorded. */
static void recorded_ended(void *context, int r, const ProtobufCMessage *reply,
                           const struct vouch_error *error) {
    struct recorded_call *call = context;
    struct vouch_buffer *buffer;
    size_t size = call->recorded->message.size;
    cr_assert_eq(r, 0, "%s", error->message);
    cr_assert_eq(protobuf_c_message_get_packed_size(reply), size);
    cr_assert_eq(vouch_pool_get(call->pool, 0, size, &buffer), 0);
    cr_assert_eq(proto_pack(reply, size, buffer, NULL), 0);
    if (size > 0)
        cr_assert_eq(memcmp(buffer->data, call->recorded->data, size), 0);
    vouch_buffer_unref(buffer);
    call->callbacks++;
}

static void recorded_request(const struct recorded *recorded, struct recorded_call *call) {
    struct vouch_proto_message request;
    cr_assert_eq(vouch_proto_unpack(call->pool, &sample__blob__descriptor, recorded->data,
                                    recorded->message.size, &request, NULL),
                 0);
    cr_assert_eq(vouch_proto_call_async(client, "benchmark", request.message,
                                        &sample__blob__descriptor, NULL, recorded_ended, call,
                                        NULL),
                 0);
    vouch_proto_message_release(&request);
}

Test(proto_rpc, recorded_as_client) {
    static struct recorded recorded;
    struct support_vectors vectors;
    struct recorded_call call = {.recorded = &recorded};
    uint32_t id = 0;
    int fd;
    support_baseline_begin();
    cr_assert_eq(vouch_pool_new(NULL, &call.pool), 0);
    client = rpc_raw_client(&fd, NULL);
    support_vectors_open(&vectors, "proto-rpc.jsonl");
    while (next_recorded(&vectors, &recorded)) {
        struct rpc_message *message = &recorded.message;
        if (recorded.of_client) {
            struct rpc_received received;
            recorded_request(&recorded, &call);
            rpc_raw_expect(fd, &received);
            id = received.envelope.id;
            cr_assert_eq(received.envelope.data_size, message->size);
            if (message->size > 0)
                cr_assert_eq(memcmp(received.envelope.data, message->data, message->size), 0);
            rpc_received_free(&received);
            continue;
        }
        message->id = id; /* ours count otherwise; the rest is as recorded */
        rpc_raw_send(fd, message);
        rpc_wait_callbacks(client, 1);
    }
    cr_assert_eq(call.callbacks, 30);
    vouch_client_free(client);
    close(fd);
    vouch_pool_unref(call.pool);
    support_baseline_end();
}
