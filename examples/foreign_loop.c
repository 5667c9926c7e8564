/* SPDX-License-Identifier: MIT */
/*
 * A client in a poll(2) loop of the program's own: foreign_loop SOCKET
 *
 * What is read from standard input is sent to `echo` of an echo_server without waiting; replies are
 * written as they come. Ends after the last reply when the input has ended.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>
#include <vouch/vouch.h>

static unsigned in_flight, failed;

static void on_reply(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    (void)context;
    in_flight--;
    if (result != 0) {
        failed++;
        fprintf(stderr, "foreign_loop: %s\n", error->message);
    } else if (reply->size > 0) {
        fwrite(reply->data, 1, reply->size, stdout);
    }
}

/* poll(2) counts in milliseconds: rounded up, or it would come back a little early and spin. */
static int to_milliseconds(int64_t timeout) {
    if (timeout == VOUCH_FOREVER)
        return -1;
    int64_t milliseconds = timeout / 1000000 + (timeout % 1000000 > 0);
    return milliseconds < 60000 ? (int)milliseconds : 60000;
}

/* Returns false when the input has ended. */
static bool on_input(struct vouch_client *client) {
    char piece[4096];
    ssize_t size = read(STDIN_FILENO, piece, sizeof(piece));
    if (size <= 0)
        return size < 0 && errno == EINTR;
    int r =
        vouch_client_call_async(client, "echo", piece, (size_t)size, NULL, on_reply, NULL, NULL);
    if (r == 0)
        in_flight++;
    else
        fprintf(stderr, "foreign_loop: %s\n", vouch_strerror(r));
    failed += r < 0;
    return r == 0;
}

static int loop(struct vouch_client *client) {
    bool input = true;
    while (input || in_flight > 0) {
        int fd = vouch_client_get_fd(client);
        if (fd < 0)
            return fd;
        struct pollfd fds[] = {
            {.fd = fd, .events = vouch_client_get_events(client)},
            {.fd = input ? STDIN_FILENO : -1, .events = POLLIN},
        };
        if (poll(fds, 2, to_milliseconds(vouch_client_get_timeout(client))) < 0 && errno != EINTR)
            return -errno;
        if (fds[1].revents)
            input = on_input(client);
        int r = vouch_client_process(client);
        if (r < 0)
            return r;
    }
    return failed > 0;
}

int main(int argc, char **argv) {
    struct vouch_client *client;
    struct vouch_error error;
    if (argc != 2) {
        fprintf(stderr, "usage: foreign_loop SOCKET\n");
        return 2;
    }
    if (vouch_client_dial(argv[1], NULL, NULL, &client, &error) < 0) {
        fprintf(stderr, "foreign_loop: %s\n", error.message);
        return 1;
    }
    int r = loop(client);
    if (r < 0)
        fprintf(stderr, "foreign_loop: %s\n", vouch_strerror(r));
    vouch_client_free(client);
    return r != 0;
}
