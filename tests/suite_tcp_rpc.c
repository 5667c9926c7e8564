/* SPDX-License-Identifier: MIT */
/* Calls over TCP: only where that is said, on either side, and nobody is taken for somebody. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <vouch/tcp.h>

#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static const struct vouch_serve_options anybody = {.size = sizeof(anybody),
                                                   .allow_callers_without_identity = true};
static const struct vouch_client_options any_server = {.size = sizeof(any_server),
                                                       .allow_server_without_identity = true};

static void begin(void) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
}

static void end(void) {
    rpc_stage_close(&stage);
    support_baseline_end();
}

static struct vouch_listener *listen_here(void) {
    struct vouch_listener *listener;
    struct vouch_error error;
    int r = vouch_listen_tcp_reuseport("127.0.0.1", 0, NULL, &listener, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    return listener;
}

static struct vouch_conn *dial(uint16_t port) {
    struct vouch_conn *conn;
    struct vouch_error error;
    int r = vouch_dial_tcp("127.0.0.1", port, NULL, &conn, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    return conn;
}

static struct vouch_client *client_of(uint16_t port) {
    struct vouch_client *client;
    cr_assert_eq(vouch_client_new(dial(port), &any_server, &client), 0);
    return client;
}

Test(tcp_rpc, a_listener_is_served_only_where_that_is_said) {
    begin();
    struct vouch_listener *listener = listen_here();
    struct vouch_serve_options no = {VOUCH_OPTIONS(no)};
    cr_assert_eq(vouch_server_add_listener(stage.server, listener), VOUCH_E_NO_IDENTITY);
    cr_assert_eq(vouch_server_add_listener_with(stage.server, listener, &no), VOUCH_E_NO_IDENTITY);
    uint16_t port = vouch_listener_get_port(listener);
    cr_assert_eq(vouch_server_add_listener_with(stage.server, listener, &anybody), 0);
    struct vouch_client *client = client_of(port);
    rpc_check_call(client, "echo", "hello", 0, "hello");
    rpc_check_call(client, "size", "1000000", 0, NULL);
    vouch_client_free(client);
    end();
}

Test(tcp_rpc, a_client_calls_only_where_that_is_said) {
    begin();
    struct vouch_listener *listener = listen_here();
    uint16_t port = vouch_listener_get_port(listener);
    cr_assert_eq(vouch_server_add_listener_with(stage.server, listener, &anybody), 0);
    struct vouch_conn *conn = dial(port);
    struct vouch_client *client;
    cr_assert_eq(vouch_client_new(conn, NULL, &client), VOUCH_E_NO_IDENTITY);
    cr_assert_eq(vouch_client_new(conn, &any_server, &client), 0);
    rpc_check_call(client, "echo", "hello", 0, "hello");
    vouch_client_free(client);
    end();
}

Test(tcp_rpc, connections_are_served_only_where_that_is_said) {
    begin();
    struct vouch_listener *listener = listen_here();
    struct vouch_conn *ours = dial(vouch_listener_get_port(listener)), *theirs;
    cr_assert_eq(vouch_accept(listener, vouch_deadline_in(RPC_PATIENCE), &theirs), 0);
    struct vouch_client *client, *peer;
    cr_assert_eq(vouch_server_add_conn(stage.server, theirs), VOUCH_E_NO_IDENTITY);
    cr_assert_eq(vouch_server_add_peer(stage.server, theirs, NULL, &peer), VOUCH_E_NO_IDENTITY);
    cr_assert_eq(vouch_server_add_conn_with(stage.server, theirs, &anybody), 0);
    cr_assert_eq(vouch_client_new(ours, &any_server, &client), 0);
    rpc_check_call(client, "echo", "hello", 0, "hello");
    vouch_client_free(client);
    vouch_listener_free(listener);
    end();
}

static int tell_identity(void *context, struct vouch_call *call) {
    const struct vouch_identity *peer = vouch_call_get_peer(call);
    (void)context;
    const char *answer = peer->known & VOUCH_KNOWN_UID ? "somebody" : "nobody knows";
    return vouch_call_reply(call, answer, strlen(answer));
}

Test(tcp_rpc, methods_with_a_policy_let_nobody_in_and_others_see_nobody) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    const struct vouch_rule rule = {.action = VOUCH_ALLOW, .subject = VOUCH_SUBJECT_ANY};
    const struct vouch_policy everybody = {.rules = &rule, .rule_count = 1};
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "who", .handler = tell_identity};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    method.name = "guarded";
    method.policy = &everybody;
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    struct vouch_listener *listener = listen_here();
    uint16_t port = vouch_listener_get_port(listener);
    cr_assert_eq(vouch_server_add_listener_with(stage.server, listener, &anybody), 0);
    struct vouch_client *client = client_of(port);
    rpc_check_call(client, "who", "", 0, "nobody knows");
    rpc_check_call(client, "guarded", "", VOUCH_REMOTE_REFUSED, NULL);
    vouch_client_free(client);
    end();
}

Test(tcp_rpc, servers_share_a_port) {
    begin();
    struct rpc_stage other;
    struct vouch_listener *first = listen_here(), *second;
    uint16_t port = vouch_listener_get_port(first);
    rpc_stage_open(&other, NULL);
    cr_assert_eq(vouch_listen_tcp_reuseport("127.0.0.1", port, NULL, &second, NULL), 0);
    cr_assert_eq(vouch_server_add_listener_with(stage.server, first, &anybody), 0);
    cr_assert_eq(vouch_server_add_listener_with(other.server, second, &anybody), 0);
    for (int i = 0; i < 200; i++) { /* that all go to one: 1 in 2^199 */
        struct vouch_client *client = client_of(port);
        rpc_check_call(client, "echo", "hello", 0, "hello");
        vouch_client_free(client);
    }
    cr_assert_eq(rpc_stats(&stage).calls + rpc_stats(&other).calls, 200);
    cr_assert_gt(rpc_stats(&stage).calls, 0);
    cr_assert_gt(rpc_stats(&other).calls, 0);
    rpc_stage_close(&other);
    end();
}

Test(tcp_rpc, both_sides_call) {
    begin();
    struct rpc_stage other;
    struct vouch_listener *listener = listen_here();
    struct vouch_conn *ours = dial(vouch_listener_get_port(listener)), *theirs;
    struct vouch_client *to_other, *to_stage;
    cr_assert_eq(vouch_accept(listener, vouch_deadline_in(RPC_PATIENCE), &theirs), 0);
    rpc_stage_open(&other, NULL);
    cr_assert_eq(vouch_server_add_peer(stage.server, ours, &any_server, &to_other), 0);
    cr_assert_eq(vouch_server_add_peer(other.server, theirs, &any_server, &to_stage), 0);
    rpc_check_call(to_other, "echo", "one way", 0, "one way");
    rpc_check_call(to_stage, "echo", "and the other", 0, "and the other");
    vouch_client_free(to_other);
    vouch_client_free(to_stage);
    rpc_stage_close(&other);
    vouch_listener_free(listener);
    end();
}
