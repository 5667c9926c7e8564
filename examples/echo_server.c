/* SPDX-License-Identifier: MIT */
/* Sends back what it gets: echo_server SOCKET. Ends at SIGINT or SIGTERM. */
#include <signal.h>
#include <stdio.h>
#include <vouch/vouch.h>

static struct vouch_server *server;

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    return vouch_call_reply(call, data, size);
}

static void interrupted(int signal_number) {
    (void)signal_number;
    vouch_server_interrupt(server);
}

static int failed(const char *why) {
    fprintf(stderr, "echo_server: %s\n", why);
    return 1;
}

static int serve(const char *path) {
    /* Quick: it never blocks, so it may run before further input is read. */
    const struct vouch_method method = {
        .name = "echo", .handler = echo, .flags = VOUCH_METHOD_QUICK};
    struct sigaction action = {.sa_handler = interrupted};
    struct vouch_listener *listener;
    struct vouch_error error;

    int r = vouch_server_add_method(server, &method);
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
        fprintf(stderr, "usage: echo_server SOCKET\n");
        return 2;
    }
    int r = vouch_server_new(NULL, &server);
    if (r < 0)
        return failed(vouch_strerror(r));
    r = serve(argv[1]);
    vouch_server_free(server);
    return r;
}
