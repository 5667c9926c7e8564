/* SPDX-License-Identifier: MIT */
/* JSON and protobuf calls both ways on one connection, one within the other. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>
#include <vouch/json.h>
#include <vouch/proto.h>

#include "tests/harness.h"
#include "tests/proto_support.h"
#include "tests/rpc_support.h"

static struct rpc_stage host, plugin;
static struct vouch_client *to_plugin, *to_host;

static int proto_echo(void *context, struct vouch_call *call, const ProtobufCMessage *request) {
    (void)context;
    return vouch_proto_reply(call, request);
}

static void check_proto_echo(struct vouch_client *client) {
    const Sample__Everything *message = proto_support_message(0);
    struct vouch_proto_message reply;
    struct vouch_error error;
    cr_assert_eq(vouch_proto_call(client, "message", &message->base,
                                  &sample__everything__descriptor, NULL, &reply, &error),
                 0, "%s", error.message);
    proto_support_assert_same(&message->base, reply.message);
    vouch_proto_message_release(&reply);
}

/* Answers with what it was asked, once its own side has been called with a message. */
static int json_echo(void *context, struct vouch_call *call, const cJSON *request,
                     cJSON **ret_reply) {
    (void)call;
    check_proto_echo(*(struct vouch_client **)context);
    *ret_reply = cJSON_Duplicate(request, true);
    return *ret_reply ? 0 : -ENOMEM;
}

static void add_methods(struct rpc_stage *stage, struct vouch_client **back) {
    struct vouch_json_method json = {VOUCH_OPTIONS(json), .name = "tree", .handler = json_echo,
                                     .context = back};
    struct vouch_proto_method proto = {VOUCH_OPTIONS(proto), .name = "message",
                                       .request = &sample__everything__descriptor,
                                       .handler = proto_echo};
    rpc_stage_init(stage, NULL);
    cr_assert_eq(vouch_json_add_method(stage->server, &json), 0);
    cr_assert_eq(vouch_proto_add_method(stage->server, &proto), 0);
    cr_assert_eq(vouch_server_start(stage->server), 0);
}

static void check_json_echo(struct vouch_client *client) {
    cJSON *request = cJSON_CreateObject(), *reply;
    struct vouch_error error;
    cr_assert_not_null(cJSON_AddStringToObject(request, "text", "to and fro"));
    cr_assert_eq(vouch_json_call(client, "tree", request, NULL, &reply, &error), 0, "%s",
                 error.message);
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(reply, "text");
    cr_assert_str_eq(cJSON_GetStringValue(text), "to and fro");
    cJSON_Delete(request);
    cJSON_Delete(reply);
}

Test(peer_typed, trees_and_messages_go_both_ways) {
    struct vouch_conn *conns[2];
    support_baseline_begin();
    add_methods(&host, &to_plugin);
    add_methods(&plugin, &to_host);
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_server_add_peer(host.server, conns[0], NULL, &to_plugin), 0);
    cr_assert_eq(vouch_server_add_peer(plugin.server, conns[1], NULL, &to_host), 0);
    for (int i = 0; i < 50; i++) {
        check_json_echo(to_plugin);
        check_json_echo(to_host);
        check_proto_echo(to_plugin);
        check_proto_echo(to_host);
    }
    vouch_client_free(to_plugin);
    vouch_client_free(to_host);
    rpc_stage_close(&host);
    rpc_stage_close(&plugin);
    support_baseline_end();
}
