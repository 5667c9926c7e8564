/* SPDX-License-Identifier: MIT */
/*
 * Quotes of the day on a JSON stream: qotd_json_server SOCKET. Each {"Author":"…"} that comes is
 * answered with {"Author":"…","Quote":"…"}, or with {"Error":"…"}. Ends at SIGINT or SIGTERM.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <vouch/json.h>
#include <vouch/vouch.h>

static const char *const quotes[][2] = {
    {"Lovelace", "The Analytical Engine has no pretensions whatever to originate anything."},
    {"Hopper", "It is often easier to ask for forgiveness than to ask for permission."},
    {"Knuth", "Premature optimization is the root of all evil."},
};

static int failed(const char *why) {
    fprintf(stderr, "qotd_json_server: %s\n", why);
    return 1;
}

static cJSON *answer_to(const cJSON *request) {
    const cJSON *author = cJSON_GetObjectItemCaseSensitive(request, "Author");
    cJSON *answer = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof(quotes) / sizeof(quotes[0]); i++) {
        if (!cJSON_IsString(author) || strcmp(author->valuestring, quotes[i][0]) != 0)
            continue;
        cJSON_AddStringToObject(answer, "Author", quotes[i][0]);
        cJSON_AddStringToObject(answer, "Quote", quotes[i][1]);
        return answer;
    }
    cJSON_AddStringToObject(answer, "Error", "nothing of theirs is known here");
    return answer;
}

static void *converse(void *context) {
    struct vouch_json_stream *stream = context;
    struct vouch_error error = {.code = 0};
    cJSON *request;
    int r;
    while ((r = vouch_json_stream_read(stream, &request, &error)) == 1) {
        cJSON *answer = answer_to(request);
        r = vouch_json_stream_write(stream, answer);
        cJSON_Delete(request);
        cJSON_Delete(answer);
        if (r < 0)
            break;
    }
    if (r < 0)
        failed(error.code ? error.message : vouch_strerror(r));
    vouch_json_stream_free(stream);
    return NULL;
}

/* A thread for each client: whoever is slow holds up nobody else. */
static void welcome(struct vouch_conn *conn) {
    struct vouch_json_stream *stream;
    pthread_t thread;
    if (vouch_json_stream_new(conn, NULL, &stream) < 0) {
        vouch_conn_free(conn);
    } else if (pthread_create(&thread, NULL, converse, stream) != 0) {
        vouch_json_stream_free(stream);
    } else {
        pthread_detach(thread);
    }
}

static sigset_t stopping;

static void *wait_for_the_end(void *context) {
    int signal_number;
    sigwait(&stopping, &signal_number);
    vouch_listener_close(context);
    return NULL;
}

int main(int argc, char **argv) {
    struct vouch_listener *listener;
    struct vouch_error error;
    struct vouch_conn *conn;
    pthread_t thread;
    if (argc != 2) {
        fprintf(stderr, "usage: qotd_json_server SOCKET\n");
        return 2;
    }
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGINT);
    sigaddset(&stopping, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stopping, NULL);
    if (vouch_listen(argv[1], NULL, &listener, &error) < 0)
        return failed(error.message);
    if (pthread_create(&thread, NULL, wait_for_the_end, listener) != 0)
        return failed("no thread");
    printf("serving %s\n", argv[1]);
    fflush(stdout);
    while (vouch_accept(listener, VOUCH_FOREVER, &conn) == 0)
        welcome(conn);
    pthread_join(thread, NULL);
    vouch_listener_free(listener);
    return 0;
}
