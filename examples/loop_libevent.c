/* SPDX-License-Identifier: MIT */
/*
 * A client in a loop of libevent: loop_libevent SOCKET MILLISECONDS WORD...
 *
 * Sends the words to `echo` of an echo_server without waiting, and ends when each has its reply or
 * its time is up.
 */
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/vouch.h>

static struct event_base *base;
static struct vouch_client *client;
static unsigned in_flight, failed;
static int result;

static void on_reply(void *context, int code, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    (void)context;
    in_flight--;
    if (code == 0) {
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
    if (fd < 0)
        return fd;
    const struct timeval *at_most = timeout == VOUCH_FOREVER ? NULL : &tv;
    return event_base_once(base, fd, what, on_event, NULL, at_most) < 0 ? -ENOMEM : 0;
}

static void on_event(evutil_socket_t fd, short what, void *context) {
    (void)fd;
    (void)what;
    (void)context;
    result = vouch_client_process(client); /* runs on_reply */
    if (result >= 0 && in_flight > 0)
        result = arm(); /* else nothing is armed, and the loop ends */
}

static int send_all(char **words, int count, int64_t timeout) {
    const struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = timeout};
    for (int i = 0; i < count; i++) {
        int r = vouch_client_call_async(client, "echo", words[i], strlen(words[i]), &options,
                                        on_reply, NULL, NULL);
        if (r < 0)
            return r;
        in_flight++;
    }
    return 0;
}

static int run(void) {
    base = event_base_new();
    if (!base)
        return -ENOMEM;
    result = arm();
    if (result == 0)
        event_base_dispatch(base);
    event_base_free(base);
    return result;
}

int main(int argc, char **argv) {
    struct vouch_error error;
    if (argc < 4) {
        fprintf(stderr, "usage: loop_libevent SOCKET MILLISECONDS WORD...\n");
        return 2;
    }
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        fprintf(stderr, "loop_libevent: %s\n", error.message);
        return 1;
    }
    int r = send_all(argv + 3, argc - 3, VOUCH_MILLISECONDS(atoi(argv[2])));
    if (r == 0)
        r = run();
    if (r < 0)
        fprintf(stderr, "loop_libevent: %s\n", vouch_strerror(r));
    vouch_client_free(client);
    return r < 0 || failed > 0;
}
