/* SPDX-License-Identifier: MIT */
/*
 * Calls of methods by name, with messages for bodies.
 *
 * A message is packed into the buffer that is sent, and unpacked into memory of the client's or
 * server's pool. So is what has to be remembered, of a call in flight or of a method: all memory
 * comes from pools.
 */
#include <errno.h>
#include <vouch/proto.h>

#include "lib/options.h"
#include "stream/proto_message.h"

/* ---- client ---- */

static int pack_request(struct vouch_client *client, const ProtobufCMessage *message,
                        struct vouch_buffer **ret_request, struct vouch_error *ret_error) {
    struct vouch_buffer *request;
    if (!message)
        return proto_error(ret_error, -EINVAL, "there is no request");
    size_t size = protobuf_c_message_get_packed_size(message);
    int r = vouch_client_get_buffer(client, size, &request);
    if (r < 0)
        return proto_error(ret_error, r, "no room for a request of %zu bytes", size);
    r = proto_pack(message, size, request, ret_error);
    if (r < 0) {
        vouch_buffer_unref(request);
        return r;
    }
    *ret_request = request;
    return 0;
}

static int unpack_reply(struct vouch_client *client, const ProtobufCMessageDescriptor *descriptor,
                        const struct vouch_reply *reply, struct vouch_proto_message *ret_message,
                        struct vouch_error *ret_error) {
    return vouch_proto_unpack(vouch_client_get_pool(client), descriptor, reply->data, reply->size,
                              ret_message, ret_error);
}

int vouch_proto_call(struct vouch_client *client, const char *method,
                     const ProtobufCMessage *request, const ProtobufCMessageDescriptor *descriptor,
                     const struct vouch_call_options *options,
                     struct vouch_proto_message *ret_reply, struct vouch_error *ret_error) {
    struct vouch_buffer *body = NULL;
    struct vouch_reply reply;
    if (ret_reply)
        *ret_reply = (struct vouch_proto_message){0};
    int r = pack_request(client, request, &body, ret_error);
    if (r == 0)
        r = vouch_client_call_buffer(client, method, body, options, &reply, ret_error);
    if (r != 0)
        return r;
    if (ret_reply)
        r = unpack_reply(client, descriptor, &reply, ret_reply, ret_error);
    vouch_reply_release(&reply);
    return r;
}

/* An asynchronous call in flight. */
struct proto_call {
    struct vouch_buffer *memory; /* this struct's */
    struct vouch_client *client;
    const ProtobufCMessageDescriptor *descriptor;
    vouch_proto_callback callback;
    void *context;
};

static void call_ended(void *context, int result, const struct vouch_reply *reply,
                       const struct vouch_error *error) {
    struct proto_call *call = context;
    struct vouch_proto_message message = {0};
    struct vouch_error refused;
    if (result == 0) {
        result = unpack_reply(call->client, call->descriptor, reply, &message, &refused);
        if (result < 0)
            error = &refused;
    }
    call->callback(call->context, result, message.message, error);
    vouch_proto_message_release(&message);
    vouch_buffer_unref(call->memory);
}

int vouch_proto_call_async(struct vouch_client *client, const char *method,
                           const ProtobufCMessage *request,
                           const ProtobufCMessageDescriptor *descriptor,
                           const struct vouch_call_options *options, vouch_proto_callback callback,
                           void *context, uint64_t *ret_id) {
    struct vouch_buffer *memory, *body = NULL;
    if (!callback)
        return -EINVAL;
    int r = vouch_pool_get(vouch_client_get_pool(client), 0, sizeof(struct proto_call), &memory);
    if (r < 0)
        return r;
    struct proto_call *call = (struct proto_call *)(void *)memory->data;
    *call = (struct proto_call){.memory = memory,
                                .client = client,
                                .descriptor = descriptor,
                                .callback = callback,
                                .context = context};
    r = pack_request(client, request, &body, NULL);
    if (r == 0)
        r = vouch_client_call_async_buffer(client, method, body, options, call_ended, call, ret_id);
    if (r < 0)
        vouch_buffer_unref(memory);
    return r;
}

/* ---- server ---- */

struct proto_method {
    struct vouch_buffer *memory; /* this struct's */
    struct vouch_pool *pool;
    const ProtobufCMessageDescriptor *request;
    vouch_proto_handler handler;
    void *context;
    void (*release)(void *context);
};

static int handle(void *context, struct vouch_call *call) {
    const struct proto_method *method = context;
    struct vouch_proto_message request;
    struct vouch_error error;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    int r = vouch_proto_unpack(method->pool, method->request, data, size, &request, &error);
    if (r == -EPROTO || r == -EMSGSIZE)
        return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "%s", error.message);
    if (r < 0)
        return r;
    r = method->handler(method->context, call, request.message);
    vouch_proto_message_release(&request);
    return r;
}

static void release(void *context) {
    struct proto_method *method = context;
    if (method->release)
        method->release(method->context);
    vouch_buffer_unref(method->memory);
}

int vouch_proto_add_method(struct vouch_server *server, const struct vouch_proto_method *method) {
    struct vouch_proto_method set = {0};
    struct vouch_pool *pool = vouch_server_get_pool(server);
    struct vouch_buffer *memory;
    OPTIONS_READ(set, method);
    if (!set.handler || !set.request)
        return -EINVAL;
    int r = vouch_pool_get(pool, 0, sizeof(struct proto_method), &memory);
    if (r < 0)
        return r;
    struct proto_method *kept = (struct proto_method *)(void *)memory->data;
    *kept = (struct proto_method){.memory = memory,
                                  .pool = pool,
                                  .request = set.request,
                                  .handler = set.handler,
                                  .context = set.context,
                                  .release = set.release};
    const struct vouch_method registered = {
        VOUCH_OPTIONS(registered), .name = set.name,   .handler = handle, .context = kept,
        .policy = set.policy,      .flags = set.flags, .release = release};
    r = vouch_server_add_method(server, &registered);
    if (r < 0)
        vouch_buffer_unref(memory);
    return r;
}

/* Whoever calls has to be told something. */
static int reply_failed(struct vouch_call *call, int code, const char *text) {
    int r = vouch_call_fail(call, VOUCH_REMOTE_SERVER, "%s", text);
    return r == 0 ? code : r;
}

int vouch_proto_reply(struct vouch_call *call, const ProtobufCMessage *reply) {
    struct vouch_buffer *body;
    struct vouch_error error;
    if (!reply)
        return reply_failed(call, -EINVAL, "there is no reply");
    size_t size = protobuf_c_message_get_packed_size(reply);
    int r = vouch_call_get_buffer(call, size, &body);
    if (r == -EMSGSIZE) { /* over what any maximum may be */
        r = vouch_call_fail(call, VOUCH_REMOTE_TOO_LARGE, "the reply has %zu bytes", size);
        return r == 0 ? -EMSGSIZE : r;
    }
    if (r < 0)
        return reply_failed(call, r, "no memory for the reply");
    r = proto_pack(reply, size, body, &error);
    if (r < 0) {
        vouch_buffer_unref(body);
        return reply_failed(call, r, error.message);
    }
    return vouch_call_reply_buffer(call, body);
}
