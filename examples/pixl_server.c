/* SPDX-License-Identifier: MIT */
/*
 * A server that clients of pixl-ipc talk to: pixl_server SOCKET. Its methods, by their URIs:
 *   /math/sum       {"ints":[…]} is answered {"sum":…}
 *   /hello/NAME     is answered {"hello":"NAME"}
 *   /say            tells all clients what it was given, as {"said":…}
 * Ends at SIGINT or SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <vouch/pixl.h>
#include <vouch/vouch.h>

static struct vouch_pixl_server *pixl;

static int failed(const char *what, const char *why) {
    fprintf(stderr, "pixl_server: %s: %s\n", what, why);
    return 1;
}

static int sum(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    const cJSON *ints = cJSON_GetObjectItemCaseSensitive(request, "ints"), *one;
    int64_t total = 0, value;
    (void)context;
    cJSON_ArrayForEach(one, ints) {
        if (vouch_json_get_int64(one, &value) < 0)
            return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "ints are integers");
        total += value;
    }
    *ret_reply = cJSON_CreateObject();
    return vouch_json_add_int64(*ret_reply, "sum", total);
}

static int hello(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    struct vouch_pixl_match match;
    char name[VOUCH_PIXL_URI_MAX + 1];
    size_t size;
    const char *uri = vouch_call_get_target(call, &size);
    (void)context;
    (void)request;
    if (vouch_pixl_server_match(pixl, uri, size, &match) != 1 || match.group_count < 2)
        return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "hello whom?"); /* not by its URI */
    snprintf(name, sizeof(name), "%.*s", (int)match.groups[1].size, match.groups[1].text);
    *ret_reply = cJSON_CreateObject();
    return cJSON_AddStringToObject(*ret_reply, "hello", name) ? 0 : VOUCH_REMOTE_SERVER;
}

static int say(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    cJSON *message = cJSON_CreateObject();
    (void)context;
    (void)call;
    cJSON_AddItemToObject(message, "said", cJSON_Duplicate(request, true));
    int told = vouch_pixl_server_notify(pixl, 0, message);
    cJSON_Delete(message);
    *ret_reply = cJSON_CreateObject();
    return vouch_json_add_int64(*ret_reply, "told", told);
}

/* A method has a name, as for vouch's own clients; routes lead URIs to it. */
static int set_up(struct vouch_server *server) {
    const struct vouch_json_method methods[] = {
        {.name = "/math/sum", .handler = sum},
        {.name = "hello", .handler = hello},
        {.name = "/say", .handler = say},
    };
    struct vouch_error error;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        int r = vouch_json_add_method(server, &methods[i]);
        if (r < 0)
            return failed(methods[i].name, vouch_strerror(r));
    }
    int r = vouch_pixl_server_new(server, NULL, &pixl);
    if (r < 0)
        return failed("pixl", vouch_strerror(r));
    if (vouch_pixl_server_add_route(pixl, VOUCH_PIXL_PATTERN, "^/hello/(\\w+)$", 0, "hello",
                                    &error) < 0)
        return failed("a route", error.message);
    return 0;
}

static int serve(struct vouch_server *server, const char *path) {
    sigset_t stopping;
    int signal_number;
    struct vouch_error error;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGINT);
    sigaddset(&stopping, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stopping, NULL); /* before there are threads */
    if (set_up(server) != 0)
        return 1;
    if (vouch_pixl_server_listen(pixl, path, NULL, &error) < 0)
        return failed(path, error.message);
    int r = vouch_server_start(server);
    if (r < 0)
        return failed(path, vouch_strerror(r));
    printf("serving %s\n", path);
    fflush(stdout);
    sigwait(&stopping, &signal_number);
    return vouch_pixl_server_stop(pixl) < 0 ? failed(path, "calls were cut off") : 0;
}

int main(int argc, char **argv) {
    struct vouch_server *server;
    if (argc != 2) {
        fprintf(stderr, "usage: pixl_server SOCKET\n");
        return 2;
    }
    int r = vouch_server_new(NULL, &server);
    if (r < 0)
        return failed("server", vouch_strerror(r));
    r = serve(server, argv[1]);
    vouch_server_free(server);
    vouch_pixl_server_free(pixl); /* what the server spoke has to outlive it */
    return r;
}
