/* SPDX-License-Identifier: MIT */
/*
 * Who may call a method, by group: policy [GROUP_ID]
 *
 * Serves `read` to everybody who is connected and `write` to members of a group (our own if none is
 * said), then calls both, and prints what the policy decides about us and why.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <vouch/vouch.h>

static int done(void *context, struct vouch_call *call) {
    (void)context;
    return vouch_call_reply(call, "done", 4);
}

/* Takes `conn` over, whatever happens. */
static struct vouch_server *serve(struct vouch_conn *conn, const struct vouch_policy *writers) {
    const struct vouch_method reading = {.name = "read", .handler = done};
    const struct vouch_method writing = {.name = "write", .handler = done, .policy = writers};
    struct vouch_server *server;
    if (vouch_server_new(NULL, &server) < 0) {
        vouch_conn_free(conn);
        return NULL;
    }
    if (vouch_server_add_conn(server, conn) < 0)
        vouch_conn_free(conn);
    else if (vouch_server_add_method(server, &reading) == 0 &&
             vouch_server_add_method(server, &writing) == 0 && vouch_server_start(server) == 0)
        return server;
    vouch_server_free(server);
    return NULL;
}

static void explain(const struct vouch_policy *policy) {
    const struct vouch_identity *self;
    struct vouch_decision decision;
    char text[256];
    if (vouch_identity_self(NULL, &self) < 0)
        return;
    printf("we are %s\n", vouch_identity_format(self, text, sizeof(text)));
    vouch_policy_check(policy, self, &decision);
    vouch_decision_format(&decision, policy, self, text, sizeof(text));
    printf("write is %s\n", text);
    vouch_identity_unref(self);
}

static void call(struct vouch_client *client, const char *method) {
    struct vouch_error error;
    int r = vouch_client_call(client, method, NULL, 0, NULL, NULL, &error);
    printf("%s: %s\n", method, r == 0 ? "done" : error.message);
}

int main(int argc, char **argv) {
    const uint32_t group = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : getegid();
    /* The first rule that matches decides; when none does, the answer is no. */
    const struct vouch_rule rules[] = {
        {VOUCH_DENY, VOUCH_SUBJECT_UID, 65534},
        {VOUCH_ALLOW, VOUCH_SUBJECT_GID, group},
    };
    const struct vouch_policy writers = {rules, 2};
    struct vouch_conn *conns[2];
    struct vouch_client *client = NULL;

    explain(&writers);
    if (vouch_conn_pair(NULL, conns) < 0)
        return 1;
    struct vouch_server *server = serve(conns[1], &writers);
    if (vouch_client_new(conns[0], NULL, &client) < 0)
        vouch_conn_free(conns[0]);
    if (server && client) {
        call(client, "read");
        call(client, "write");
    }
    vouch_client_free(client);
    vouch_server_free(server);
    return !server || !client;
}
