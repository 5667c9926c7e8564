/* SPDX-License-Identifier: MIT */
/*
 * Services as protobuf-c means them: an implementation behind a server, and a stand-in for one
 * whose methods go over the wire.
 *
 * A service's method answers through its closure, now or later, so its call is kept before it is
 * run. The closure's data is the call itself; nothing else has to be remembered.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <vouch/proto.h>

#include "lib/options.h"
#include "stream/proto_message.h"

/* "/package.Service/Method" and its NUL. Returns its size, or what is wrong with it. */
static int method_name(const ProtobufCServiceDescriptor *descriptor, unsigned index,
                       char ret_name[VOUCH_METHOD_NAME_MAX + 1], struct vouch_error *ret_error) {
    const char *method = descriptor->methods[index].name;
    if (!descriptor->name || !method)
        return proto_error(ret_error, -EINVAL,
                           "the service was generated without names (optimize_for = CODE_SIZE)");
    int size = snprintf(ret_name, VOUCH_METHOD_NAME_MAX + 1, "/%s/%s", descriptor->name, method);
    if (size < 0 || size > VOUCH_METHOD_NAME_MAX)
        return proto_error(ret_error, VOUCH_E_METHOD_NAME, "/%.256s/%.256s is too long a name",
                           descriptor->name, method);
    return size + 1;
}

static bool is_service(const ProtobufCServiceDescriptor *descriptor) {
    return descriptor && descriptor->magic == PROTOBUF_C__SERVICE_DESCRIPTOR_MAGIC;
}

/* ---- server ---- */

/* The context of a method of a service. All of a service are in one buffer. */
struct served_method {
    struct vouch_buffer *memory; /* a reference */
    ProtobufCService *service;
    unsigned index;
};

static void answer(const ProtobufCMessage *reply, void *closure_data) {
    struct vouch_call *call = closure_data;
    if (reply)
        (void)vouch_proto_reply(call, reply);
    else
        (void)vouch_call_fail(call, VOUCH_REMOTE_SERVER, "the service has failed");
}

static int serve(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    const struct served_method *method = context;
    vouch_call_keep(call);
    method->service->invoke(method->service, method->index, request, answer, call);
    return 0;
}

static void release(void *context) {
    vouch_buffer_unref(((struct served_method *)context)->memory);
}

static int add_method(struct vouch_server *server, const struct vouch_proto_service *service,
                      struct served_method *method, struct vouch_error *ret_error) {
    const ProtobufCServiceDescriptor *descriptor = service->service->descriptor;
    char name[VOUCH_METHOD_NAME_MAX + 1];
    int r = method_name(descriptor, method->index, name, ret_error);
    if (r < 0)
        return r;
    const struct vouch_proto_method registered = {
        VOUCH_OPTIONS(registered),
        .name = name,
        .request = descriptor->methods[method->index].input,
        .handler = serve,
        .context = method,
        .policy = service->policy,
        .flags = service->flags,
        .release = release,
    };
    r = vouch_proto_add_method(server, &registered);
    if (r < 0)
        return proto_error(ret_error, r, "%s: %s", name, vouch_strerror(r));
    vouch_buffer_ref(method->memory);
    return 0;
}

int vouch_proto_add_service(struct vouch_server *server, const struct vouch_proto_service *service,
                            struct vouch_error *ret_error) {
    struct vouch_proto_service set = {0};
    struct vouch_buffer *memory;
    OPTIONS_READ(set, service);
    if (!set.service || !is_service(set.service->descriptor))
        return proto_error(ret_error, -EINVAL, "there is no service");
    unsigned count = set.service->descriptor->n_methods;
    int r = vouch_pool_get(vouch_server_get_pool(server), 0, count * sizeof(struct served_method),
                           &memory);
    if (r < 0)
        return proto_error(ret_error, r, "no memory for %u methods", count);
    struct served_method *methods = (struct served_method *)(void *)memory->data;
    for (unsigned i = 0; i < count && r == 0; i++) {
        methods[i] = (struct served_method){memory, set.service, i};
        r = add_method(server, &set, &methods[i], ret_error);
    }
    vouch_buffer_unref(memory);
    return r;
}

/* ---- client ---- */

/* A service over the wire: in one buffer with the names of its methods. */
struct remote_service {
    ProtobufCService base;
    struct vouch_buffer *memory;
    struct vouch_client *client;
    struct vouch_proto_service_options options;
    const char *names[]; /* n_methods */
};

/* A stub's call: what its end needs. Outlives the service if need be. */
struct remote_call {
    struct vouch_buffer *memory; /* this struct's; NULL while it is on a stack */
    const struct remote_service *service;
    const char *method;
    ProtobufCClosure closure;
    void *closure_data;
};

static void end_call(const struct remote_call *call, int result, const ProtobufCMessage *reply,
                     const struct vouch_error *error) {
    const struct vouch_proto_service_options *options = &call->service->options;
    if (result != 0 && options->failed)
        options->failed(options->context, call->method, result, error, call->closure_data);
    if (call->closure)
        call->closure(reply, call->closure_data);
}

static void end_async_call(void *context, int result, const ProtobufCMessage *reply,
                           const struct vouch_error *error) {
    struct remote_call *call = context;
    end_call(call, result, reply, error);
    vouch_buffer_unref(call->service->memory);
    vouch_buffer_unref(call->memory);
}

static void call_and_wait(const struct remote_service *service, struct remote_call *call,
                          const ProtobufCMessage *request,
                          const ProtobufCMessageDescriptor *descriptor,
                          const struct vouch_call_options *options) {
    struct vouch_proto_message reply;
    struct vouch_error error = {0};
    int r = vouch_proto_call(service->client, call->method, request, descriptor, options, &reply,
                             &error);
    end_call(call, r, reply.message, &error);
    vouch_proto_message_release(&reply);
}

static void call_later(const struct remote_service *service, const struct remote_call *call,
                       const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *descriptor,
                       const struct vouch_call_options *options) {
    struct vouch_buffer *memory;
    int r = vouch_pool_get(vouch_client_get_pool(service->client), 0, sizeof(*call), &memory);
    if (r == 0) {
        struct remote_call *kept = (struct remote_call *)(void *)memory->data;
        *kept = *call;
        kept->memory = memory;
        vouch_buffer_ref(service->memory);
        r = vouch_proto_call_async(service->client, call->method, request, descriptor, options,
                                   end_async_call, kept, NULL);
        if (r == 0)
            return;
        vouch_buffer_unref(service->memory);
        vouch_buffer_unref(memory);
    }
    struct vouch_error error;
    end_call(call, proto_error(&error, r, "%s", vouch_strerror(r)), NULL, &error);
}

static void invoke(ProtobufCService *base, unsigned index, const ProtobufCMessage *request,
                   ProtobufCClosure closure, void *closure_data) {
    const struct remote_service *service = (const struct remote_service *)(const void *)base;
    const struct vouch_call_options options = {
        VOUCH_OPTIONS(options), .timeout = service->options.timeout, .tag = service->options.tag};
    const ProtobufCMessageDescriptor *descriptor = base->descriptor->methods[index].output;
    struct remote_call call = {.service = service,
                               .method = service->names[index],
                               .closure = closure,
                               .closure_data = closure_data};
    if (service->options.async)
        call_later(service, &call, request, descriptor, &options);
    else
        call_and_wait(service, &call, request, descriptor, &options);
}

static void destroy(ProtobufCService *base) {
    vouch_buffer_unref(((struct remote_service *)(void *)base)->memory);
}

/* Bytes of all names, or what is wrong with one of them. */
static int names_size(const ProtobufCServiceDescriptor *descriptor, size_t *ret_size) {
    char name[VOUCH_METHOD_NAME_MAX + 1];
    *ret_size = 0;
    for (unsigned i = 0; i < descriptor->n_methods; i++) {
        int r = method_name(descriptor, i, name, NULL);
        if (r < 0)
            return r;
        *ret_size += (size_t)r;
    }
    return 0;
}

static void fill_names(struct remote_service *service, char *to) {
    const ProtobufCServiceDescriptor *descriptor = service->base.descriptor;
    for (unsigned i = 0; i < descriptor->n_methods; i++) {
        char name[VOUCH_METHOD_NAME_MAX + 1];
        int size = method_name(descriptor, i, name, NULL);
        service->names[i] = memcpy(to, name, (size_t)size);
        to += size;
    }
}

int vouch_proto_service_new(struct vouch_client *client,
                            const ProtobufCServiceDescriptor *descriptor,
                            const struct vouch_proto_service_options *options,
                            ProtobufCService **ret_service) {
    struct vouch_proto_service_options set = {0};
    struct vouch_buffer *memory;
    size_t size;
    OPTIONS_READ(set, options);
    if (!is_service(descriptor) || set.timeout < 0)
        return -EINVAL;
    int r = names_size(descriptor, &size);
    if (r < 0)
        return r;
    size_t head = sizeof(struct remote_service) + descriptor->n_methods * sizeof(const char *);
    r = vouch_pool_get(vouch_client_get_pool(client), 0, head + size, &memory);
    if (r < 0)
        return r;
    struct remote_service *service = (struct remote_service *)(void *)memory->data;
    service->base = (ProtobufCService){descriptor, invoke, destroy};
    service->memory = memory;
    service->client = client;
    service->options = set;
    fill_names(service, (char *)memory->data + head);
    *ret_service = &service->base;
    return 0;
}
