/* SPDX-License-Identifier: MIT */
/*
 * Quotes of the day on a stream of messages: qotd_proto_server SOCKET. Each Request of qotd.proto
 * is answered with a Quote, empty when there is none. Ends at SIGINT or SIGTERM.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <vouch/proto.h>
#include <vouch/vouch.h>

#include "examples/qotd.pb-c.h"

static char *const quotes[][2] = {
    {"Lovelace", "The Analytical Engine has no pretensions whatever to originate anything."},
    {"Hopper", "It is often easier to ask for forgiveness than to ask for permission."},
    {"Knuth", "Premature optimization is the root of all evil."},
};

static int failed(const char *why) {
    fprintf(stderr, "qotd_proto_server: %s\n", why);
    return 1;
}

static int answer(struct vouch_proto_stream *stream, const Qotd__Request *request) {
    Qotd__Quote quote = QOTD__QUOTE__INIT;
    for (size_t i = 0; i < sizeof(quotes) / sizeof(quotes[0]); i++) {
        if (strcmp(request->author, quotes[i][0]) != 0)
            continue;
        quote.author = quotes[i][0];
        quote.text = quotes[i][1];
    }
    return vouch_proto_stream_write(stream, &quote.base);
}

static void *converse(void *context) {
    struct vouch_proto_stream *stream = context;
    struct vouch_proto_message request;
    struct vouch_error error = {.code = 0};
    int r;
    while ((r = vouch_proto_stream_read(stream, &qotd__request__descriptor, &request, &error)) ==
           1) {
        r = answer(stream, (Qotd__Request *)request.message);
        vouch_proto_message_release(&request);
        if (r < 0)
            break;
    }
    if (r == 0) /* the client asks no more; now it knows that we have answered all */
        r = vouch_proto_stream_close_send(stream, vouch_deadline_in(VOUCH_SECONDS(2)));
    if (r < 0)
        failed(error.code ? error.message : vouch_strerror(r));
    vouch_proto_stream_free(stream);
    return NULL;
}

/* A thread for each client: whoever is slow holds up nobody else. */
static void welcome(struct vouch_conn *conn) {
    struct vouch_proto_stream *stream;
    pthread_t thread;
    if (vouch_proto_stream_new(conn, NULL, &stream) < 0) {
        vouch_conn_free(conn);
    } else if (pthread_create(&thread, NULL, converse, stream) != 0) {
        vouch_proto_stream_free(stream);
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
        fprintf(stderr, "usage: qotd_proto_server SOCKET\n");
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
