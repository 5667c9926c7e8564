/* SPDX-License-Identifier: MIT */
/* Implements the service of math.proto: math_proto_server SOCKET. Ends at SIGINT or SIGTERM. */
#include <signal.h>
#include <stdio.h>
#include <vouch/proto.h>
#include <vouch/vouch.h>

#include "examples/math.pb-c.h"

static struct vouch_server *server;

/* What protoc-c has declared for `rpc Sum`. The closure answers, here or later, from any thread;
 * its data is the struct vouch_call. */
static void math_sum(Math__Math_Service *service, const Math__SumRequest *request,
                     Math__SumReply_Closure closure, void *closure_data) {
    Math__SumReply reply = MATH__SUM_REPLY__INIT;
    (void)service;
    for (size_t i = 0; i < request->n_ints; i++) {
        if (__builtin_add_overflow(reply.sum, request->ints[i], &reply.sum)) {
            vouch_call_fail(closure_data, VOUCH_REMOTE_BAD_DATA, "the sum does not fit 64 bits");
            return;
        }
    }
    closure(&reply, closure_data);
}

static Math__Math_Service math = MATH__MATH__INIT(math_);

static void interrupted(int signal_number) {
    (void)signal_number;
    vouch_server_interrupt(server);
}

static int failed(const char *why) {
    fprintf(stderr, "math_proto_server: %s\n", why);
    return 1;
}

static int serve(const char *path) {
    const struct vouch_proto_service service = {VOUCH_OPTIONS(service), .service = &math.base};
    struct sigaction action = {.sa_handler = interrupted};
    struct vouch_listener *listener;
    struct vouch_error error;

    if (vouch_proto_add_service(server, &service, &error) < 0) /* /math.Math/Sum */
        return failed(error.message);
    if (vouch_listen(path, NULL, &listener, &error) < 0)
        return failed(error.message);
    int r = vouch_server_add_listener(server, listener);
    if (r < 0) {
        vouch_listener_free(listener);
        return failed(vouch_strerror(r));
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    printf("serving %s\n", path);
    fflush(stdout);
    r = vouch_server_run(server);
    signal(SIGINT, SIG_IGN); /* the handler uses the server */
    signal(SIGTERM, SIG_IGN);
    return r < 0 ? failed(vouch_strerror(r)) : 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: math_proto_server SOCKET\n");
        return 2;
    }
    int r = vouch_server_new(NULL, &server);
    if (r < 0)
        return failed(vouch_strerror(r));
    r = serve(argv[1]);
    vouch_server_free(server);
    return r;
}
