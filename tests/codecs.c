/* SPDX-License-Identifier: MIT */
#include "tests/codecs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/json.h>
#include <vouch/proto.h>

#include "proto/sample.pb-c.h"

static char *copy(const void *text, size_t size) {
    char *to = malloc(size + 1);
    if (!to)
        abort();
    if (size > 0)
        memcpy(to, text, size);
    to[size] = '\0';
    return to;
}

static void end(struct codec_outcome *outcome, int result, const void *text, size_t size,
                const struct vouch_error *error) {
    outcome->ends++;
    outcome->result = result;
    outcome->text = result == 0 ? copy(text, size) : NULL;
    outcome->size = result == 0 ? size : 0;
    if (result != 0 && error != &outcome->error)
        outcome->error = *error;
}

static int call_handler(const struct codec_method *method, struct vouch_call *call,
                        const void *text, size_t size) {
    return method->handler(method->context, method->codec, call, text, size);
}

/* ---- bytes ---- */

static int bytes_handle(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    return call_handler(context, call, data, size);
}

static int bytes_add(struct vouch_server *server, const char *name,
                     const struct codec_method *method) {
    return vouch_server_add_method(
        server,
        &(struct vouch_method){.name = name, .handler = bytes_handle, .context = (void *)method});
}

static int bytes_reply(struct vouch_call *call, const char *text, size_t size) {
    return vouch_call_reply(call, text, size);
}

static void bytes_call(struct vouch_client *client, const char *method, const char *text,
                       size_t size, const struct vouch_call_options *options,
                       struct codec_outcome *outcome) {
    struct vouch_reply reply = {0};
    *outcome = (struct codec_outcome){0};
    int r = vouch_client_call(client, method, text, size, options, &reply, &outcome->error);
    end(outcome, r, reply.data, reply.size, &outcome->error);
    vouch_reply_release(&reply);
}

static void bytes_done(void *context, int result, const struct vouch_reply *reply,
                       const struct vouch_error *error) {
    end(context, result, reply->data, reply->size, error);
}

static int bytes_call_async(struct vouch_client *client, const char *method, const char *text,
                            size_t size, const struct vouch_call_options *options,
                            struct codec_outcome *outcome) {
    *outcome = (struct codec_outcome){0};
    return vouch_client_call_async(client, method, text, size, options, bytes_done, outcome, NULL);
}

/* ---- JSON ---- */

static int json_handle(void *context, struct vouch_call *call, const cJSON *request,
                       cJSON **ret_reply) {
    (void)ret_reply;
    if (!cJSON_IsString(request))
        return VOUCH_REMOTE_BAD_DATA;
    return call_handler(context, call, request->valuestring, strlen(request->valuestring));
}

static int json_add(struct vouch_server *server, const char *name,
                    const struct codec_method *method) {
    return vouch_json_add_method(server, &(struct vouch_json_method){.name = name,
                                                                     .handler = json_handle,
                                                                     .context = (void *)method});
}

/* The string is cJSON's: it comes from malloc and is not what these tests let fail. */
static cJSON *json_string(const char *text, size_t size) {
    char *terminated = copy(text, size);
    cJSON *string = cJSON_CreateString(terminated);
    free(terminated);
    return string;
}

static int json_reply(struct vouch_call *call, const char *text, size_t size) {
    cJSON *string = json_string(text, size);
    int r = vouch_json_reply(call, string);
    cJSON_Delete(string);
    return r;
}

static void json_end(struct codec_outcome *outcome, int result, const cJSON *reply,
                     const struct vouch_error *error) {
    const char *text = result == 0 && cJSON_IsString(reply) ? reply->valuestring : "";
    end(outcome, result, text, strlen(text), error);
}

static void json_call(struct vouch_client *client, const char *method, const char *text,
                      size_t size, const struct vouch_call_options *options,
                      struct codec_outcome *outcome) {
    cJSON *string = json_string(text, size), *reply;
    *outcome = (struct codec_outcome){0};
    int r = vouch_json_call(client, method, string, options, &reply, &outcome->error);
    json_end(outcome, r, reply, &outcome->error);
    cJSON_Delete(string);
    cJSON_Delete(reply);
}

static void json_done(void *context, int result, const cJSON *reply,
                      const struct vouch_error *error) {
    json_end(context, result, reply, error);
}

static int json_call_async(struct vouch_client *client, const char *method, const char *text,
                           size_t size, const struct vouch_call_options *options,
                           struct codec_outcome *outcome) {
    cJSON *string = json_string(text, size);
    *outcome = (struct codec_outcome){0};
    int r = vouch_json_call_async(client, method, string, options, json_done, outcome, NULL);
    cJSON_Delete(string);
    return r;
}

/* ---- protobuf ---- */

static Sample__Everything proto_message(const char *text, size_t size) {
    Sample__Everything message = SAMPLE__EVERYTHING__INIT;
    message.data = (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)text};
    return message;
}

static int proto_handle(void *context, struct vouch_call *call,
                        const struct ProtobufCMessage *request) {
    const Sample__Everything *message = (const void *)request;
    return call_handler(context, call, message->data.data, message->data.len);
}

static int proto_add(struct vouch_server *server, const char *name,
                     const struct codec_method *method) {
    const struct vouch_proto_method proto = {VOUCH_OPTIONS(proto), .name = name,
                                             .request = &sample__everything__descriptor,
                                             .handler = proto_handle, .context = (void *)method};
    return vouch_proto_add_method(server, &proto);
}

static int proto_reply(struct vouch_call *call, const char *text, size_t size) {
    Sample__Everything message = proto_message(text, size);
    return vouch_proto_reply(call, &message.base);
}

static void proto_end(struct codec_outcome *outcome, int result,
                      const struct ProtobufCMessage *reply, const struct vouch_error *error) {
    const Sample__Everything *message = (const void *)reply;
    end(outcome, result, result == 0 ? message->data.data : NULL,
        result == 0 ? message->data.len : 0, error);
}

static void proto_call(struct vouch_client *client, const char *method, const char *text,
                       size_t size, const struct vouch_call_options *options,
                       struct codec_outcome *outcome) {
    Sample__Everything message = proto_message(text, size);
    struct vouch_proto_message reply;
    *outcome = (struct codec_outcome){0};
    int r = vouch_proto_call(client, method, &message.base, &sample__everything__descriptor,
                             options, &reply, &outcome->error);
    proto_end(outcome, r, reply.message, &outcome->error);
    vouch_proto_message_release(&reply);
}

static void proto_done(void *context, int result, const struct ProtobufCMessage *reply,
                       const struct vouch_error *error) {
    proto_end(context, result, reply, error);
}

static int proto_call_async(struct vouch_client *client, const char *method, const char *text,
                            size_t size, const struct vouch_call_options *options,
                            struct codec_outcome *outcome) {
    Sample__Everything message = proto_message(text, size);
    *outcome = (struct codec_outcome){0};
    return vouch_proto_call_async(client, method, &message.base, &sample__everything__descriptor,
                                  options, proto_done, outcome, NULL);
}

const struct codec codecs[] = {
    {"bytes", bytes_add, bytes_reply, bytes_call, bytes_call_async, NULL},
    {"json", json_add, json_reply, json_call, json_call_async, "[1,]"},
    {"proto", proto_add, proto_reply, proto_call, proto_call_async, "\x62\x7f short"},
    {0},
};
