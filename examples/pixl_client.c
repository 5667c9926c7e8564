/* SPDX-License-Identifier: MIT */
/*
 * Calls a server of pixl-ipc, or pixl_server: pixl_client SOCKET URI [DATA]. DATA is JSON, or - for
 * what is on standard input. Prints what the reply has as data; what the server says unasked
 * meanwhile goes to standard error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/pixl.h>
#include <vouch/vouch.h>

static int failed(const char *what, const char *why) {
    fprintf(stderr, "pixl_client: %s: %s\n", what, why);
    return 1;
}

static void print(FILE *to, const cJSON *value) {
    ssize_t size = vouch_json_print(value, NULL, 0);
    char *text = size < 0 ? NULL : malloc((size_t)size + 1);
    if (text && vouch_json_print(value, text, (size_t)size) == size)
        fprintf(to, "%.*s\n", (int)size, text);
    free(text);
}

static void on_message(void *context, const cJSON *message) {
    (void)context;
    print(stderr, message);
}

static int call(struct vouch_pixl_client *client, const char *uri, const cJSON *data) {
    struct vouch_pixl_error error;
    cJSON *reply;
    int r = vouch_pixl_call(client, uri, data, NULL, &reply, &error);
    if (r != 0)
        return failed(*error.code ? error.code : uri, error.message);
    print(stdout, reply);
    cJSON_Delete(reply);
    /* Messages that came with it are waiting for their callback. */
    r = vouch_client_process(vouch_pixl_client_get_client(client));
    return r < 0 ? failed(uri, vouch_strerror(r)) : 0;
}

/* JSON from an argument, or from standard input. NULL: it is none, and that was said. */
static cJSON *read_data(const char *argument) {
    struct vouch_error error;
    cJSON *data = NULL;
    char *text = NULL;
    size_t size = 0;
    ssize_t got = -1;
    if (strcmp(argument, "-") != 0)
        got = (text = strdup(argument)) ? (ssize_t)strlen(text) : -1;
    else
        got = getdelim(&text, &size, EOF, stdin);
    if (got < 0)
        failed(argument, "nothing to read");
    else if (vouch_json_parse(text, (size_t)got, NULL, &data, &error) < 0)
        failed("DATA", error.message);
    free(text);
    return data;
}

int main(int argc, char **argv) {
    const struct vouch_pixl_client_options options = {
        VOUCH_OPTIONS(options), .user_agent = "pixl_client", .on_message = on_message};
    struct vouch_pixl_client *client;
    struct vouch_error error;
    cJSON *data = NULL;
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: pixl_client SOCKET URI [DATA]\n");
        return 2;
    }
    if (argc == 4 && !(data = read_data(argv[3])))
        return 1;
    if (vouch_pixl_client_dial(argv[1], NULL, &options, &client, &error) < 0) {
        cJSON_Delete(data);
        return failed(argv[1], error.message);
    }
    int r = call(client, argv[2], data);
    vouch_pixl_client_free(client);
    cJSON_Delete(data);
    return r;
}
