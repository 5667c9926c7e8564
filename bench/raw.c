/* SPDX-License-Identifier: MIT */
/*
 * Stream sockets without any protocol: both sides know the size of a message.
 *
 * The server has a thread for each connection, which reads as much as is there and sends back the
 * whole messages of it. With calls in flight the client does the same: it sends all that may be
 * sent at once, and takes all that has come at once.
 */
#include "bench/raw.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_SIZE ((size_t)256 << 10)
#define POLL_BUDGET 50000 /* ns of looking before sleeping */

/* ---- waiting ---- */

static bool would_wait(ssize_t r) {
    return r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

ssize_t raw_receive(int fd, void *data, size_t size, enum bench_mode mode) {
    ssize_t r;
    if (mode == BENCH_POLLING) {
        int64_t end = bench_now() + POLL_BUDGET;
        do
            r = recv(fd, data, size, MSG_DONTWAIT);
        while (would_wait(r) && bench_now() < end);
        if (!would_wait(r))
            return r < 0 ? 0 : r;
    }
    do
        r = recv(fd, data, size, 0);
    while (r < 0 && errno == EINTR);
    return r < 0 ? 0 : r;
}

bool raw_receive_all(int fd, void *data, size_t size, enum bench_mode mode) {
    for (size_t done = 0; done < size;) {
        ssize_t r = raw_receive(fd, (char *)data + done, size - done, mode);
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

static ssize_t send_some(int fd, const void *data, size_t size, enum bench_mode mode) {
    ssize_t r;
    if (mode == BENCH_POLLING) {
        int64_t end = bench_now() + POLL_BUDGET;
        do
            r = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (would_wait(r) && bench_now() < end);
        if (!would_wait(r))
            return r;
    }
    do
        r = send(fd, data, size, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r;
}

bool raw_send_all(int fd, const void *data, size_t size, enum bench_mode mode) {
    for (size_t done = 0; done < size;) {
        ssize_t r = send_some(fd, (const char *)data + done, size - done, mode);
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

/* ---- server ---- */

static void echo_stream(int fd, const struct bench_case *what) {
    size_t room = what->size > READ_SIZE ? what->size : READ_SIZE, have = 0;
    char *buffer = malloc(room); /* pages that are not used are not taken */
    for (;;) {
        ssize_t r = raw_receive(fd, buffer + have, room - have, what->mode);
        if (r <= 0)
            break;
        have += (size_t)r;
        size_t whole = have / what->size * what->size;
        if (whole == 0)
            continue;
        if (!raw_send_all(fd, buffer, whole, what->mode))
            break;
        have -= whole;
        memmove(buffer, buffer + whole, have);
    }
    free(buffer);
}

static void serve_stream(const struct bench_case *what) {
    int listener = bench_listen(what, SOCK_STREAM);
    bench_ready();
    bench_serve_threads(listener, echo_stream, what);
}

static void echo_packets(int fd, const struct bench_case *what) {
    char *buffer = bench_alloc(what->size);
    for (;;) {
        ssize_t r = raw_receive(fd, buffer, what->size, what->mode);
        if (r <= 0 || send_some(fd, buffer, (size_t)r, what->mode) != r)
            break;
    }
    free(buffer);
}

static void serve_packets(const struct bench_case *what) {
    int listener = bench_listen(what, SOCK_SEQPACKET);
    bench_ready();
    bench_serve_threads(listener, echo_packets, what);
}

/* ---- client ---- */

struct client {
    const struct bench_case *what;
    char *body;
    char **replies; /* of each caller */
    unsigned *turns;
    int fds[];
};

static void *open_type(const struct bench_case *what, int type) {
    struct client *client = bench_alloc(sizeof(*client) + what->connections * sizeof(int));
    client->what = what;
    client->body = bench_body(what->size);
    client->replies = bench_alloc(what->callers * sizeof(*client->replies));
    client->turns = bench_alloc(what->callers * sizeof(*client->turns));
    for (unsigned i = 0; i < what->callers; i++)
        client->replies[i] = bench_alloc(what->size);
    for (unsigned i = 0; i < what->connections; i++)
        client->fds[i] = bench_connect(what, type);
    return client;
}

static void *open_stream(const struct bench_case *what) {
    return open_type(what, SOCK_STREAM);
}

static void *open_packets(const struct bench_case *what) {
    return open_type(what, SOCK_SEQPACKET);
}

static void close_client(void *context) {
    struct client *client = context;
    for (unsigned i = 0; i < client->what->connections; i++)
        close(client->fds[i]);
    for (unsigned i = 0; i < client->what->callers; i++)
        free(client->replies[i]);
    free(client->replies);
    free(client->turns);
    free(client->body);
    free(client);
}

static void call_stream(void *context, unsigned caller) {
    struct client *client = context;
    const struct bench_case *what = client->what;
    int fd = client->fds[bench_connection(what, caller, &client->turns[caller])];
    if (!raw_send_all(fd, client->body, what->size, what->mode) ||
        !raw_receive_all(fd, client->replies[caller], what->size, what->mode))
        bench_die("the connection broke");
}

static void call_packets(void *context, unsigned caller) {
    struct client *client = context;
    const struct bench_case *what = client->what;
    int fd = client->fds[bench_connection(what, caller, &client->turns[caller])];
    if (send_some(fd, client->body, what->size, what->mode) != (ssize_t)what->size ||
        raw_receive(fd, client->replies[caller], what->size, what->mode) != (ssize_t)what->size)
        bench_die("%zu bytes do not go through as one packet", what->size);
}

/* ---- calls in flight ---- */

struct pipe {
    int fd;
    size_t size;
    char *out, *in;         /* room for all in flight */
    size_t to_send, offset; /* bytes */
    size_t received;        /* bytes of the reply that is not whole yet */
    int64_t *begun;         /* a ring: replies come in order */
    unsigned first, slots;
};

static bool send_calls(struct pipe *pipe, struct bench_flight *flight, unsigned *last) {
    while (bench_flight_more(flight)) {
        pipe->begun[*last] = bench_flight_begin(flight);
        *last = (*last + 1) % pipe->slots;
        pipe->to_send += pipe->size;
    }
    if (pipe->to_send == 0)
        return false;
    ssize_t r =
        send(pipe->fd, pipe->out + pipe->offset, pipe->to_send, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (r < 0 && !would_wait(r))
        bench_die("the connection broke");
    if (r <= 0)
        return false;
    pipe->to_send -= (size_t)r;
    pipe->offset = (pipe->offset + (size_t)r) % pipe->size; /* all messages are alike */
    return true;
}

static bool take_replies(struct pipe *pipe, struct bench_flight *flight) {
    size_t room = pipe->size * pipe->slots;
    ssize_t r = recv(pipe->fd, pipe->in, room < READ_SIZE ? room : READ_SIZE, MSG_DONTWAIT);
    if (r == 0 || (r < 0 && !would_wait(r)))
        bench_die("the connection broke");
    if (r < 0)
        return false;
    for (pipe->received += (size_t)r; pipe->received >= pipe->size; pipe->received -= pipe->size) {
        bench_flight_end(flight, pipe->begun[pipe->first]);
        pipe->first = (pipe->first + 1) % pipe->slots;
    }
    return true;
}

static void fly_stream(void *context, struct bench_flight *flight) {
    struct client *client = context;
    const struct bench_case *what = client->what;
    struct pipe pipe = {.fd = client->fds[0], .size = what->size, .slots = what->in_flight};
    unsigned last = 0;
    pipe.out = bench_body(what->size * (what->in_flight + 1));
    pipe.in = bench_alloc(what->size * what->in_flight);
    pipe.begun = bench_alloc(what->in_flight * sizeof(*pipe.begun));
    while (bench_flight_more(flight) || bench_flight_busy(flight)) {
        bool moved = send_calls(&pipe, flight, &last);
        moved = take_replies(&pipe, flight) || moved;
        struct pollfd pollfd = {pipe.fd, (short)(POLLIN | (pipe.to_send ? POLLOUT : 0)), 0};
        if (!moved && poll(&pollfd, 1, -1) < 0 && errno != EINTR)
            bench_die("poll: %s", strerror(errno));
    }
    free(pipe.out);
    free(pipe.in);
    free(pipe.begun);
}

/* ---- one way ---- */

/* Chunks begin with 'a'; one that begins with 'z' is the last and is answered. */
static void sink_stream(int fd, const struct bench_case *what) {
    char *buffer = bench_alloc(what->size);
    while (raw_receive_all(fd, buffer, what->size, what->mode))
        if (buffer[0] == 'z' && !raw_send_all(fd, buffer, 1, what->mode))
            break;
    free(buffer);
}

static void serve_one_way(const struct bench_case *what) {
    int listener = bench_listen(what, SOCK_STREAM);
    bench_ready();
    bench_serve_threads(listener, sink_stream, what);
}

static void send_chunk(void *context, unsigned caller) {
    struct client *client = context;
    (void)caller;
    if (!raw_send_all(client->fds[0], client->body, client->what->size, client->what->mode))
        bench_die("the connection broke");
}

static void finish_one_way(void *context) {
    struct client *client = context;
    char answer;
    client->body[0] = 'z';
    send_chunk(client, 0);
    client->body[0] = 'a';
    if (!raw_receive_all(client->fds[0], &answer, 1, client->what->mode))
        bench_die("the connection broke");
}

const struct bench_system raw_stream = {
    .name = "raw-stream",
    .serve = serve_stream,
    .open = open_stream,
    .close = close_client,
    .call = call_stream,
    .fly = fly_stream,
};

const struct bench_system raw_one_way = {
    .name = "raw-stream",
    .kind = BENCH_STREAM,
    .serve = serve_one_way,
    .open = open_stream,
    .close = close_client,
    .call = send_chunk,
    .finish = finish_one_way,
};

const struct bench_system raw_seqpacket = {
    .name = "raw-seqpacket",
    .serve = serve_packets,
    .open = open_packets,
    .close = close_client,
    .call = call_packets,
};
