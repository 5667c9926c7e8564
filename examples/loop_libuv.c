/* SPDX-License-Identifier: MIT */
/*
 * A client in a loop of libuv: loop_libuv SOCKET MILLISECONDS WORD...
 *
 * Sends the words to `echo` of an echo_server without waiting, and ends when each has its reply or
 * its time is up. Where the client's descriptor can change (not on Linux), the handle would have to
 * be made anew.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#include <vouch/vouch.h>

static uv_poll_t poller;
static uv_timer_t timer;
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
        fprintf(stderr, "loop_libuv: %s\n", error->message);
    }
}

static void on_poll(uv_poll_t *handle, int status, int events);
static void on_timer(uv_timer_t *handle);

/* For what the client wants now. */
static int arm(void) {
    short events = vouch_client_get_events(client);
    int64_t timeout = vouch_client_get_timeout(client);
    int wanted = (events & POLLIN ? UV_READABLE : 0) | (events & POLLOUT ? UV_WRITABLE : 0);
    int r = uv_poll_start(&poller, wanted, on_poll);
    if (r < 0)
        return r;
    return timeout == VOUCH_FOREVER
               ? uv_timer_stop(&timer)
               : uv_timer_start(&timer, on_timer, (uint64_t)timeout / 1000000 + 1, 0);
}

static void step(void) {
    result = vouch_client_process(client); /* runs on_reply */
    if (result >= 0 && in_flight > 0 && (result = arm()) == 0)
        return;
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
    uv_loop_t *loop = uv_default_loop();
    int fd = vouch_client_get_fd(client);
    int r = fd < 0 ? fd : uv_poll_init(loop, &poller, fd); /* libuv has negative errnos as well */
    if (r < 0)
        return r;
    uv_timer_init(loop, &timer);
    step();
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    return result;
}

int main(int argc, char **argv) {
    struct vouch_error error;
    if (argc < 4) {
        fprintf(stderr, "usage: loop_libuv SOCKET MILLISECONDS WORD...\n");
        return 2;
    }
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        fprintf(stderr, "loop_libuv: %s\n", error.message);
        return 1;
    }
    int r = send_all(argv + 3, argc - 3, VOUCH_MILLISECONDS(atoi(argv[2])));
    if (r == 0)
        r = run();
    if (r < 0)
        fprintf(stderr, "loop_libuv: %s\n", vouch_strerror(r));
    vouch_client_free(client);
    return r < 0 || failed > 0;
}
