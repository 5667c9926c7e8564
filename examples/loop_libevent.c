/* SPDX-License-Identifier: MIT */
/*
 * A client in a loop of libevent: loop_libevent SOCKET WORD...
 *
 * Sends the words to `echo` of an echo_server without waiting, and ends after the last reply.
 */
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <vouch/vouch.h>

static struct event_base *base;
static struct vouch_client *client;
static unsigned in_flight, failed;

static void on_reply(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    (void)context;
    in_flight--;
    if (result == 0) {
        printf("%.*s\n", (int)reply->size, (const char *)reply->data);
    } else {
        failed++;
        fprintf(stderr, "loop_libevent: %s\n", error->message);
    }
}

static void on_event(evutil_socket_t fd, short what, void *context);

/* Once more, for what the client wants now: descriptor, events and timeout may be others each time.
 */
static int arm(void) {
    short events = vouch_client_get_events(client);
    int64_t timeout = vouch_client_get_timeout(client);
    struct timeval tv = {timeout / 1000000000, timeout % 1000000000 / 1000 + 1};
    short what = (short)((events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0));
    int fd = vouch_client_get_fd(client);
    return fd < 0 ? fd
                  : event_base_once(base, fd, what, on_event, NULL,
                                    timeout == VOUCH_FOREVER ? NULL : &tv);
}

static void on_event(evutil_socket_t fd, short what, void *context) {
    (void)fd;
    (void)what;
    (void)context;
    int r = vouch_client_process(client); /* runs on_reply */
    if (r < 0)
        fprintf(stderr, "loop_libevent: %s\n", vouch_strerror(r));
    if (r < 0 || in_flight == 0 || arm() < 0)
        event_base_loopbreak(base);
}

static int send_all(char **words, int count) {
    for (int i = 0; i < count; i++) {
        int r = vouch_client_call_async(client, "echo", words[i], strlen(words[i]), NULL, on_reply,
                                        NULL, NULL);
        if (r < 0)
            return r;
        in_flight++;
    }
    return in_flight > 0 ? arm() : 0;
}

int main(int argc, char **argv) {
    struct vouch_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: loop_libevent SOCKET WORD...\n");
        return 2;
    }
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        fprintf(stderr, "loop_libevent: %s\n", error.message);
        return 1;
    }
    base = event_base_new();
    int r = base ? send_all(argv + 2, argc - 2) : -1;
    if (r == 0 && in_flight > 0)
        event_base_dispatch(base);
    bool whole = r == 0 && in_flight == 0 && failed == 0;
    vouch_client_free(client);
    if (base)
        event_base_free(base);
    return !whole;
}
