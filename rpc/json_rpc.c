/* SPDX-License-Identifier: MIT */
/*
 * JSON calls on top of plain ones: parse, hand over, print. Nothing here knows the wire.
 *
 * Small things that have to live as long as a method or a call in flight are kept in buffers of the
 * server's or the client's pool, so that they come from its allocator, and cost none in steady
 * state.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/options.h"
#include "stream/json.h"

/* ---- server ---- */

struct json_method {
    vouch_json_handler handler;
    vouch_json_text_handler text_handler;
    void *context;
    void (*release)(void *context);
    struct vouch_json_rules rules;
};

static int refuse_request(struct vouch_call *call, int result, const char *text) {
    (void)vouch_call_fail(call, result == -EPROTO ? VOUCH_REMOTE_BAD_DATA : VOUCH_REMOTE_SERVER,
                          "%s", text);
    return 0;
}

static int handle_tree(const struct json_method *method, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    struct vouch_error error;
    cJSON *request, *reply = NULL;
    int result = vouch_json_parse(data, size, &method->rules, &request, &error);
    if (result < 0)
        return refuse_request(call, result, error.message);

    result = method->handler(method->context, call, request, &reply);
    cJSON_Delete(request);
    if (result == 0 && reply)
        (void)vouch_json_reply(call, reply);
    else if (result == 0) /* of no consequence when it has answered, or kept the call */
        result = VOUCH_REMOTE_SERVER;
    cJSON_Delete(reply);
    return result;
}

static int handle_text(const struct json_method *method, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    struct vouch_json_fault fault;
    struct vouch_error error;
    int result = vouch_json_scan(data, size, &method->rules, &fault);
    if (result == -EPROTO)
        json_fault_error(&error, result, "JSON", &fault);
    if (result < 0)
        return refuse_request(call, result,
                              result == -EPROTO ? error.message : vouch_strerror(result));
    return method->text_handler(method->context, call, (const char *)data, size);
}

static int handle(void *context, struct vouch_call *call) {
    const struct json_method *method = (void *)((struct vouch_buffer *)context)->data;
    return method->handler ? handle_tree(method, call) : handle_text(method, call);
}

static void release(void *context) {
    const struct json_method *method = (void *)((struct vouch_buffer *)context)->data;
    if (method->release)
        method->release(method->context);
    vouch_buffer_unref(context);
}

int vouch_json_add_method(struct vouch_server *server, const struct vouch_json_method *method) {
    struct vouch_json_method set = {0};
    struct vouch_json_rules rules;
    struct vouch_buffer *kept;
    OPTIONS_READ(set, method);
    if (!set.handler == !set.text_handler)
        return -EINVAL;
    int result = json_rules_read(&rules, set.rules);
    if (result == 0)
        result =
            vouch_pool_get(vouch_server_get_pool(server), 0, sizeof(struct json_method), &kept);
    if (result != 0)
        return result;
    *(struct json_method *)(void *)kept->data =
        (struct json_method){set.handler, set.text_handler, set.context, set.release, rules};
    result = vouch_server_add_method(server,
                                     &(struct vouch_method){.name = set.name,
                                                            .handler = handle,
                                                            .context = kept,
                                                            .policy = set.policy,
                                                            .flags = set.flags | VOUCH_METHOD_JSON,
                                                            .release = release});
    if (result < 0)
        vouch_buffer_unref(kept);
    return result;
}

static int get_of_call(void *context, size_t size, struct vouch_buffer **ret_buffer) {
    return vouch_call_get_buffer(context, size, ret_buffer);
}

int vouch_json_reply(struct vouch_call *call, const cJSON *reply) {
    struct vouch_buffer *buffer;
    int result = json_print_buffer(reply, get_of_call, call, &buffer);
    if (result == 0)
        return vouch_call_reply_buffer(call, buffer);
    int answered = vouch_call_fail(call, VOUCH_REMOTE_SERVER,
                                   "the reply cannot be sent as JSON: %s", vouch_strerror(result));
    return answered < 0 ? answered : result;
}

/* ---- client ---- */

static int get_of_client(void *context, size_t size, struct vouch_buffer **ret_buffer) {
    return vouch_client_get_buffer(context, size, ret_buffer);
}

static int print_request(struct vouch_client *client, const char *method, const cJSON *request,
                         struct vouch_buffer **ret_buffer, struct vouch_error *ret_error) {
    int result = json_print_buffer(request, get_of_client, client, ret_buffer);
    if (result < 0 && ret_error) {
        ret_error->code = result;
        snprintf(ret_error->message, sizeof(ret_error->message),
                 "%.255s: the request cannot be sent as JSON: %s", method,
                 request ? vouch_strerror(result) : "it is NULL");
    }
    return result;
}

int vouch_json_call(struct vouch_client *client, const char *method, const cJSON *request,
                    const struct vouch_call_options *options, cJSON **ret_reply,
                    struct vouch_error *ret_error) {
    struct vouch_buffer *buffer;
    struct vouch_reply reply;
    cJSON *tree;
    if (ret_reply)
        *ret_reply = NULL;
    int result = print_request(client, method, request, &buffer, ret_error);
    if (result == 0)
        result = vouch_client_call_buffer(client, method, buffer, options, &reply, ret_error);
    if (result != 0)
        return result;
    result = vouch_json_parse(reply.data, reply.size, NULL, &tree, ret_error);
    vouch_reply_release(&reply);
    if (result < 0)
        return result;
    if (ret_reply)
        *ret_reply = tree;
    else
        cJSON_Delete(tree);
    return 0;
}

/* Scans what goes out or came in, where `code` is what to say when it is refused. */
static int check_text(const void *text, size_t size, int code, const char *what,
                      struct vouch_error *ret_error) {
    struct vouch_json_fault fault;
    return vouch_json_scan(text, size, NULL, &fault) < 0
               ? json_fault_error(ret_error, code, what, &fault)
               : 0;
}

int vouch_json_call_text(struct vouch_client *client, const char *method, const char *request,
                         size_t size, const struct vouch_call_options *options,
                         struct vouch_reply *ret_reply, struct vouch_error *ret_error) {
    struct vouch_reply reply;
    if (ret_reply)
        *ret_reply = (struct vouch_reply){0};
    int result = check_text(request, size, -EINVAL, "the request is not JSON", ret_error);
    if (result == 0)
        result = vouch_client_call(client, method, request, size, options, &reply, ret_error);
    if (result != 0)
        return result;
    result = check_text(reply.data, reply.size, -EPROTO, "JSON", ret_error);
    if (result == 0 && ret_reply)
        *ret_reply = reply;
    else
        vouch_reply_release(&reply);
    return result;
}

struct json_pending {
    vouch_json_callback callback;
    void *context;
};

static void on_reply(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    struct vouch_buffer *kept = context;
    const struct json_pending pending = *(struct json_pending *)(void *)kept->data;
    vouch_buffer_unref(kept);

    struct vouch_error refused;
    cJSON *tree = NULL;
    if (result == 0) {
        result = vouch_json_parse(reply->data, reply->size, NULL, &tree, &refused);
        error = result < 0 ? &refused : error;
    }
    pending.callback(pending.context, result, tree, error);
    cJSON_Delete(tree);
}

int vouch_json_call_async(struct vouch_client *client, const char *method, const cJSON *request,
                          const struct vouch_call_options *options, vouch_json_callback callback,
                          void *context, uint64_t *ret_id) {
    struct vouch_buffer *buffer, *kept;
    if (!callback)
        return -EINVAL;
    int result = print_request(client, method, request, &buffer, NULL);
    if (result < 0)
        return result;
    result = vouch_pool_get(vouch_client_get_pool(client), 0, sizeof(struct json_pending), &kept);
    if (result < 0) {
        vouch_buffer_unref(buffer);
        return result;
    }
    *(struct json_pending *)(void *)kept->data = (struct json_pending){callback, context};
    result =
        vouch_client_call_async_buffer(client, method, buffer, options, on_reply, kept, ret_id);
    if (result < 0)
        vouch_buffer_unref(kept);
    return result;
}
