/* SPDX-License-Identifier: MIT */
/*
 * A client in a loop of libuv: loop_libuv SOCKET WORD...
 *
 * Sends the words to `echo` of an echo_server without waiting, and ends after the last reply. Where
 * the client's descriptor can change (not on Linux), the handle would have to be made anew.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>
#include <vouch/vouch.h>

static uv_poll_t poller;
static uv_timer_t timer;
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
        fprintf(stderr, "loop_libuv: %s\n", error->message);
    }
}

static void on_poll(uv_poll_t *handle, int status, int events);
static void on_timer(uv_timer_t *handle);

/* For what the client wants now. */
static void arm(void) {
    short events = vouch_client_get_events(client);
    int64_t timeout = vouch_client_get_timeout(client);
    uv_poll_start(&poller,
                  (events & POLLIN ? UV_READABLE : 0) | (events & POLLOUT ? UV_WRITABLE : 0),
                  on_poll);
    if (timeout == VOUCH_FOREVER)
        uv_timer_stop(&timer);
    else
        uv_timer_start(&timer, on_timer, (uint64_t)timeout / 1000000 + 1, 0);
}

static void step(void) {
    int r = vouch_client_process(client); /* runs on_reply */
    if (r < 0)
        fprintf(stderr, "loop_libuv: %s\n", vouch_strerror(r));
    if (r >= 0 && in_flight > 0) {
        arm();
        return;
    }
    uv_close((uv_handle_t *)&poller, NULL); /* nothing is left: uv_run returns */
    uv_close((uv_handle_t *)&timer, NULL);
}

static void on_poll(uv_poll_t *handle, int status, int events) {
    (void)handle;
    (void)status;
    (void)events;
    step();
}

static void on_timer(uv_timer_t *handle) {
    (void)handle;
    step();
}

static int send_all(char **words, int count) {
    int r = 0;
    for (int i = 0; i < count && r == 0; i++) {
        r = vouch_client_call_async(client, "echo", words[i], strlen(words[i]), NULL, on_reply,
                                    NULL, NULL);
        in_flight += r == 0;
    }
    return r;
}

int main(int argc, char **argv) {
    struct vouch_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: loop_libuv SOCKET WORD...\n");
        return 2;
    }
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        fprintf(stderr, "loop_libuv: %s\n", error.message);
        return 1;
    }
    uv_loop_t *loop = uv_default_loop();
    int r = send_all(argv + 2, argc - 2);
    int fd = vouch_client_get_fd(client);
    if (r == 0 && fd >= 0 && uv_poll_init(loop, &poller, fd) == 0) {
        uv_timer_init(loop, &timer);
        step();
        uv_run(loop, UV_RUN_DEFAULT);
    }
    bool whole = r == 0 && fd >= 0 && in_flight == 0 && failed == 0;
    vouch_client_free(client);
    uv_loop_close(loop);
    return !whole;
}
