/* SPDX-License-Identifier: MIT */
/* The generated service on both sides: its implementation behind a server, its stubs on a client.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <vouch/proto.h>

#include "tests/harness.h"
#include "tests/proto_support.h"
#include "tests/rpc_support.h"

/* ---- the implementation ---- */

static struct rpc_stage stage;
static struct vouch_client *client;
static ProtobufCService *remote;
static pthread_t later;
static enum { ECHO_NOW, ECHO_LATER, ECHO_NULL, ECHO_FAIL, ECHO_HOLD } echo_mode;
static struct rpc_latch entered;
static struct vouch_call *held;

static void sum(Sample__Calculator_Service *service, const Sample__Everything *request,
                Sample__Number_Closure closure, void *closure_data) {
    Sample__Number reply = SAMPLE__NUMBER__INIT;
    (void)service;
    for (size_t i = 0; i < request->n_packed; i++)
        reply.value += request->packed[i];
    closure(&reply, closure_data);
}

struct job {
    Sample__Everything_Closure closure;
    void *closure_data;
};

static void *close_later(void *context) {
    struct job *job = context;
    job->closure(proto_support_message(1), job->closure_data);
    return NULL;
}

static void echo(Sample__Calculator_Service *service, const Sample__Everything *request,
                 Sample__Everything_Closure closure, void *closure_data) {
    static struct job job;
    (void)service;
    switch (echo_mode) {
    case ECHO_NOW:
        cr_assert_str_eq(vouch_call_get_method(closure_data), "/sample.Calculator/Echo");
        closure(request, closure_data);
        break;
    case ECHO_LATER:
        job = (struct job){closure, closure_data};
        later = support_thread_start(close_later, &job);
        rpc_latch_raise(&entered);
        break;
    case ECHO_NULL:
        closure(NULL, closure_data);
        break;
    case ECHO_FAIL:
        cr_assert_eq(vouch_call_fail(closure_data, VOUCH_REMOTE_REFUSED, "not you"), 0);
        break;
    case ECHO_HOLD:
        held = closure_data;
        rpc_latch_raise(&entered);
        break;
    }
}

static void ping(Sample__Calculator_Service *service, const Sample__Nothing *request,
                 Sample__Nothing_Closure closure, void *closure_data) {
    (void)service;
    closure(request, closure_data);
}

static Sample__Calculator_Service calculator = {
    {&sample__calculator__descriptor, protobuf_c_service_invoke_internal, NULL}, sum, echo, ping};

static const struct vouch_proto_service served = {VOUCH_OPTIONS(served),
                                                  .service = &calculator.base};

static void open_with(const struct vouch_proto_service_options *options) {
    struct vouch_error error;
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    rpc_latch_init(&entered);
    echo_mode = ECHO_NOW;
    cr_assert_eq(vouch_proto_add_service(stage.server, &served, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    cr_assert_eq(vouch_proto_service_new(client, &sample__calculator__descriptor, options, &remote),
                 0);
}

static void close_all(void) {
    if (remote)
        protobuf_c_service_destroy(remote);
    vouch_client_free(client);
    rpc_stage_close(&stage);
    rpc_latch_deinit(&entered);
    support_baseline_end();
}

/* ---- what stubs come to ---- */

struct outcome {
    unsigned closures, failures;
    int64_t value;
    const ProtobufCMessage *expected;
    int result;
    char text[200], method[100];
};

static void on_number(const Sample__Number *reply, void *closure_data) {
    struct outcome *outcome = closure_data;
    outcome->closures++;
    outcome->value = reply ? reply->value : -1;
}

static void on_everything(const Sample__Everything *reply, void *closure_data) {
    struct outcome *outcome = closure_data;
    outcome->closures++;
    if (reply)
        proto_support_assert_same(&reply->base, outcome->expected);
    else
        cr_assert_eq(outcome->failures, outcome->closures, "told before");
}

static void on_nothing(const Sample__Nothing *reply, void *closure_data) {
    struct outcome *outcome = closure_data;
    outcome->closures += reply != NULL;
}

static int failed_context;

static void failed(void *context, const char *method, int result, const struct vouch_error *error,
                   void *closure_data) {
    struct outcome *outcome = closure_data;
    cr_assert_eq(context, &failed_context);
    outcome->failures++;
    outcome->result = result;
    snprintf(outcome->text, sizeof(outcome->text), "%.190s", error->message);
    snprintf(outcome->method, sizeof(outcome->method), "%.90s", method);
}

static const struct vouch_proto_service_options waiting = {VOUCH_OPTIONS(waiting), .failed = failed,
                                                           .context = &failed_context};
static const struct vouch_proto_service_options async = {
    VOUCH_OPTIONS(async), .async = true, .tag = 7, .failed = failed, .context = &failed_context};

static const Sample__Everything *numbers(void) {
    static int32_t list[] = {1, 2, 3};
    static Sample__Everything request;
    request = (Sample__Everything)SAMPLE__EVERYTHING__INIT;
    request.packed = list;
    request.n_packed = 3;
    return &request;
}

/* ---- tests ---- */

Test(proto_service, stubs_wait_for_their_replies) {
    struct outcome outcome = {.expected = &proto_support_message(0)->base};
    Sample__Nothing nothing = SAMPLE__NOTHING__INIT;
    open_with(NULL);
    sample__calculator__sum(remote, numbers(), on_number, &outcome);
    cr_assert_eq(outcome.closures, 1);
    cr_assert_eq(outcome.value, 6);
    sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
    cr_assert_eq(outcome.closures, 2);
    sample__calculator__ping(remote, &nothing, on_nothing, &outcome);
    cr_assert_eq(outcome.closures, 3);
    close_all();
}

Test(proto_service, methods_have_names_that_any_client_can_call) {
    struct vouch_proto_message reply;
    struct vouch_method_stats stats;
    bool found = false;
    open_with(NULL);
    cr_assert_eq(vouch_proto_call(client, "/sample.Calculator/Sum", &numbers()->base,
                                  &sample__number__descriptor, NULL, &reply, NULL),
                 0);
    cr_assert_eq(((Sample__Number *)reply.message)->value, 6);
    vouch_proto_message_release(&reply);
    for (size_t i = 0; vouch_server_get_method_stats(stage.server, i, &stats) == 0; i++)
        found |= strcmp(stats.name, "/sample.Calculator/Ping") == 0;
    cr_assert(found);
    close_all();
}

Test(proto_service, an_implementation_may_answer_later) {
    struct outcome outcome = {.expected = &proto_support_message(1)->base};
    open_with(&waiting);
    echo_mode = ECHO_LATER;
    sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
    rpc_latch_wait(&entered, 1);
    support_thread_join(later);
    cr_assert_eq(outcome.closures, 1);
    cr_assert_eq(outcome.failures, 0);
    close_all();
}

Test(proto_service, failures_are_told_before_the_closure) {
    struct outcome outcome = {0};
    open_with(&waiting);
    echo_mode = ECHO_NULL;
    sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
    cr_assert_eq(outcome.result, VOUCH_REMOTE_SERVER);
    cr_assert_str_eq(outcome.text, "the service has failed");
    cr_assert_str_eq(outcome.method, "/sample.Calculator/Echo");
    echo_mode = ECHO_FAIL;
    sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
    cr_assert_eq(outcome.result, VOUCH_REMOTE_REFUSED);
    cr_assert_str_eq(outcome.text, "not you");
    cr_assert_eq(outcome.closures, 2);
    close_all();
}

Test(proto_service, a_client_that_is_closed) {
    struct outcome outcome = {0};
    open_with(&waiting);
    vouch_client_close(client);
    sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
    cr_assert_eq(outcome.result, -ESHUTDOWN);
    cr_assert_eq(outcome.closures, 1);
    close_all();
}

Test(proto_service, no_closure_and_no_place_for_failures) {
    open_with(NULL);
    remote->invoke(remote, 1, &proto_support_message(0)->base, NULL, NULL);
    echo_mode = ECHO_NULL;
    remote->invoke(remote, 1, &proto_support_message(0)->base, NULL, NULL);
    close_all();
}

Test(proto_service, asynchronous_stubs) {
    enum { COUNT = 30 };
    struct outcome outcomes[COUNT] = {{0}};
    open_with(&async);
    for (unsigned i = 0; i < COUNT; i++) {
        outcomes[i].expected = &proto_support_message(i % 2)->base;
        sample__calculator__echo(remote, proto_support_message(i % 2), on_everything, &outcomes[i]);
    }
    protobuf_c_service_destroy(remote); /* its calls go on */
    remote = NULL;
    rpc_wait_callbacks(client, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        cr_assert_eq(outcomes[i].closures, 1);
        cr_assert_eq(outcomes[i].failures, 0);
    }
    close_all();
}

Test(proto_service, asynchronous_stubs_that_fail) {
    struct outcome outcome = {0};
    open_with(&async);
    echo_mode = ECHO_HOLD;
    sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
    rpc_latch_wait(&entered, 1);
    cr_assert_eq(vouch_client_cancel(client, async.tag), 1);
    rpc_wait_callbacks(client, 1);
    cr_assert_eq(outcome.result, -ECANCELED);
    cr_assert_eq(outcome.closures, 1);
    (void)vouch_proto_reply(held, &proto_support_message(0)->base);
    vouch_client_close(client); /* now they can't even begin */
    sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
    cr_assert_eq(outcome.result, -ESHUTDOWN);
    cr_assert_eq(outcome.closures, 2);
    close_all();
}

/* Pools grow to what chance has in use at the same time, and then no more: one round without an
 * allocation shows it. */
Test(proto_service, nothing_is_allocated_in_steady_state) {
    struct vouch_memory_stats before = {.allocations = 1}, after = {0};
    struct outcome outcome = {.expected = &proto_support_message(0)->base};
    open_with(&async);
    for (int round = 0; round < 20 && after.allocations != before.allocations; round++) {
        vouch_memory_get_stats(&before);
        for (int i = 0; i < 100; i++) {
            sample__calculator__echo(remote, proto_support_message(0), on_everything, &outcome);
            rpc_wait_callbacks(client, 1);
        }
        vouch_memory_get_stats(&after);
    }
    cr_assert_eq(outcome.failures, 0);
#if !defined(__SANITIZE_ADDRESS__)
    cr_assert_eq(after.allocations, before.allocations);
#endif
    close_all();
}

/* ---- what is refused ---- */

static int add_service(ProtobufCService *service, struct vouch_error *error) {
    struct vouch_proto_service options = {VOUCH_OPTIONS(options), .service = service};
    return vouch_proto_add_service(stage.server, &options, error);
}

Test(proto_service, descriptors_without_names_and_with_long_ones) {
    static char long_name[VOUCH_METHOD_NAME_MAX + 1];
    const ProtobufCMethodDescriptor methods[] = {
        {"Method", &sample__nothing__descriptor, &sample__nothing__descriptor}};
    ProtobufCServiceDescriptor descriptor = sample__calculator__descriptor;
    ProtobufCService service = {&descriptor, protobuf_c_service_invoke_internal, NULL};
    ProtobufCService *none = NULL;
    struct vouch_error error;
    open_with(NULL);
    descriptor.n_methods = 1;
    descriptor.methods = methods;
    descriptor.name = NULL;
    cr_assert_eq(add_service(&service, &error), -EINVAL);
    cr_assert_not_null(strstr(error.message, "CODE_SIZE"));
    cr_assert_eq(vouch_proto_service_new(client, &descriptor, NULL, &none), -EINVAL);
    /* "/", the name, "/Method" */
    memset(long_name, 'n', VOUCH_METHOD_NAME_MAX - 8);
    descriptor.name = long_name;
    cr_assert_eq(add_service(&service, &error), -EBUSY, "as long as can be, but serving");
    cr_assert_eq(vouch_proto_service_new(client, &descriptor, NULL, &none), 0);
    protobuf_c_service_destroy(none);
    long_name[VOUCH_METHOD_NAME_MAX - 8] = 'n';
    cr_assert_eq(add_service(&service, &error), VOUCH_E_METHOD_NAME);
    cr_assert_not_null(strstr(error.message, "nnn/Method is too long"));
    cr_assert_eq(vouch_proto_service_new(client, &descriptor, NULL, &none), VOUCH_E_METHOD_NAME);
    descriptor.magic = 0;
    cr_assert_eq(add_service(&service, &error), -EINVAL);
    cr_assert_eq(add_service(NULL, &error), -EINVAL);
    cr_assert_eq(vouch_proto_service_new(client, &descriptor, NULL, &none), -EINVAL);
    struct vouch_proto_service_options options = {VOUCH_OPTIONS(options), .timeout = -1};
    cr_assert_eq(vouch_proto_service_new(client, &sample__calculator__descriptor, &options, &none),
                 -EINVAL);
    close_all();
}

Test(proto_service, a_service_is_registered_once) {
    struct vouch_error error;
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    cr_assert_eq(vouch_proto_add_service(stage.server, &served, NULL), 0);
    cr_assert_eq(vouch_proto_add_service(stage.server, &served, &error), VOUCH_E_METHOD_EXISTS);
    cr_assert_not_null(strstr(error.message, "/sample.Calculator/Sum: "), "%s", error.message);
    rpc_stage_close(&stage);
    support_baseline_end();
}

Test(proto_service, policies_are_of_all_methods) {
    const struct vouch_policy nobody = {NULL, 0};
    const struct vouch_proto_service closed = {VOUCH_OPTIONS(closed), .service = &calculator.base,
                                               .policy = &nobody, .flags = VOUCH_METHOD_QUICK};
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    cr_assert_eq(vouch_proto_add_service(stage.server, &closed, NULL), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    rpc_check_call(client, "/sample.Calculator/Sum", "", VOUCH_REMOTE_REFUSED, NULL);
    rpc_check_call(client, "/sample.Calculator/Ping", "", VOUCH_REMOTE_REFUSED, NULL);
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

Test(proto_service, each_allocation_may_fail) {
    struct support_allocator allocator;
    support_baseline_begin();
    support_allocator_init(&allocator);
    int r = -ENOMEM;
    for (uint64_t n = 1; r == -ENOMEM; n++) {
        struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                               .allocator = &allocator.allocator};
        struct vouch_server *server = NULL;
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        r = vouch_server_new(&options, &server);
        if (r == 0)
            r = vouch_proto_add_service(server, &served, NULL);
        vouch_server_free(server);
        cr_assert(r == 0 || r == -ENOMEM);
        support_allocator_check(&allocator);
    }
    support_baseline_end();
}
