/* SPDX-License-Identifier: MIT */
/*
 * Adds integers: math_json_server SOCKET. Method /math/sum: {"Ints":[1,2,3]} is answered {"Sum":6}.
 * Ends at SIGINT or SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <vouch/json.h>
#include <vouch/vouch.h>

static struct vouch_server *server;

/* Exact to the last of 64 bits; what does not fit is the caller's fault. */
static int sum(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    const cJSON *ints = cJSON_GetObjectItemCaseSensitive(request, "Ints"), *one;
    int64_t total = 0, value;
    (void)context;
    if (!cJSON_IsArray(ints) && !cJSON_IsNull(ints))
        return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "'Ints' has to be an array");
    cJSON_ArrayForEach(one, ints) {
        if (vouch_json_get_int64(one, &value) < 0 || __builtin_add_overflow(total, value, &total))
            return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA,
                                   "integers of 64 bits, and so is their sum");
    }
    *ret_reply = cJSON_CreateObject();
    return vouch_json_add_int64(*ret_reply, "Sum", total);
}

static void interrupted(int signal_number) {
    (void)signal_number;
    vouch_server_interrupt(server);
}

static int failed(const char *why) {
    fprintf(stderr, "math_json_server: %s\n", why);
    return 1;
}

static int serve(const char *path) {
    const struct vouch_json_method method = {
        .name = "/math/sum", .handler = sum, .flags = VOUCH_METHOD_QUICK};
    struct sigaction action = {.sa_handler = interrupted};
    struct vouch_listener *listener;
    struct vouch_error error;

    int r = vouch_json_add_method(server, &method);
    if (r < 0)
        return failed(vouch_strerror(r));
    if (vouch_listen(path, NULL, &listener, &error) < 0)
        return failed(error.message);
    r = vouch_server_add_listener(server, listener);
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
        fprintf(stderr, "usage: math_json_server SOCKET\n");
        return 2;
    }
    int r = vouch_server_new(NULL, &server);
    if (r < 0)
        return failed(vouch_strerror(r));
    r = serve(argv[1]);
    vouch_server_free(server);
    return r;
}
