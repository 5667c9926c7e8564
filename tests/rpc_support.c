/* SPDX-License-Identifier: MIT */
#include "tests/rpc_support.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/cond.h"
#include "lib/options.h"
#include "lib/poller.h"
#include "tests/harness.h"

/* ---- latches ---- */

void rpc_latch_init(struct rpc_latch *latch) {
    pthread_mutex_init(&latch->lock, NULL);
    cr_assert_eq(cond_init(&latch->changed), 0);
    latch->count = 0;
}

void rpc_latch_deinit(struct rpc_latch *latch) {
    pthread_cond_destroy(&latch->changed);
    pthread_mutex_destroy(&latch->lock);
}

void rpc_latch_raise(struct rpc_latch *latch) {
    pthread_mutex_lock(&latch->lock);
    latch->count++;
    pthread_cond_broadcast(&latch->changed);
    pthread_mutex_unlock(&latch->lock);
}

void rpc_latch_wait(struct rpc_latch *latch, unsigned count) {
    int64_t deadline = vouch_deadline_in(RPC_PATIENCE);
    pthread_mutex_lock(&latch->lock);
    while (latch->count < count && vouch_now() < deadline)
        cond_wait_until(&latch->changed, &latch->lock, deadline);
    unsigned reached = latch->count;
    pthread_mutex_unlock(&latch->lock);
    cr_assert_geq(reached, count, "the latch only got to %u of %u", reached, count);
}

/* ---- methods ---- */

static int echo(void *context, struct vouch_call *call) {
    struct rpc_stage *stage = context;
    atomic_fetch_add(&stage->runs, 1);
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)vouch_call_reply(call, data, size);
    return 0;
}

static long number_of(struct vouch_call *call) {
    char text[32] = "";
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    memcpy(text, data, size < sizeof(text) - 1 ? size : sizeof(text) - 1);
    return strtol(text, NULL, 10);
}

static int size(void *context, struct vouch_call *call) {
    (void)context;
    size_t wanted = (size_t)number_of(call);
    struct vouch_buffer *reply;
    if (vouch_call_get_buffer(call, wanted, &reply) < 0)
        return VOUCH_REMOTE_SERVER;
    memset(reply->data, 'x', wanted);
    reply->size = wanted;
    (void)vouch_call_reply_buffer(call, reply);
    return 0;
}

static int block(void *context, struct vouch_call *call) {
    struct rpc_stage *stage = context;
    rpc_latch_raise(&stage->entered);
    rpc_latch_wait(&stage->go, 1);
    return echo(context, call);
}

static int wait_cancelled(void *context, struct vouch_call *call) {
    struct rpc_stage *stage = context;
    atomic_fetch_add(&stage->runs, 1);
    rpc_latch_raise(&stage->entered);
    if (vouch_call_wait_cancelled(call, vouch_deadline_in(RPC_PATIENCE)) != 1)
        return VOUCH_REMOTE_SERVER;
    rpc_latch_raise(&stage->cancelled);
    return VOUCH_REMOTE_CANCELLED;
}

static int keep(void *context, struct vouch_call *call) {
    struct rpc_stage *stage = context;
    unsigned index = atomic_fetch_add(&stage->kept_count, 1);
    cr_assert_lt(index, RPC_KEPT_MAX);
    vouch_call_keep(call);
    stage->kept[index] = call;
    rpc_latch_raise(&stage->entered);
    return 0;
}

static int result(void *context, struct vouch_call *call) {
    (void)context;
    return (int)number_of(call);
}

/* ---- stages ---- */

static void add_methods(struct rpc_stage *stage) {
    const struct vouch_method methods[] = {
        {.name = "echo", .handler = echo},
        {.name = "size", .handler = size},
        {.name = "block", .handler = block},
        {.name = "keep", .handler = keep},
        {.name = "wait", .handler = wait_cancelled},
        {.name = "result", .handler = result},
        {.name = "quick", .handler = echo, .flags = VOUCH_METHOD_QUICK},
    };
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        struct vouch_method method = methods[i];
        method.context = stage;
        cr_assert_eq(vouch_server_add_method(stage->server, &method), 0);
    }
}

void rpc_stage_init(struct rpc_stage *stage, const struct vouch_server_options *options) {
    memset(stage, 0, sizeof(*stage));
    rpc_latch_init(&stage->entered);
    rpc_latch_init(&stage->go);
    rpc_latch_init(&stage->cancelled);
    cr_assert_eq(vouch_server_new(options, &stage->server), 0);
    add_methods(stage);
}

void rpc_stage_open(struct rpc_stage *stage, const struct vouch_server_options *options) {
    rpc_stage_init(stage, options);
    cr_assert_eq(vouch_server_start(stage->server), 0);
}

void rpc_stage_close(struct rpc_stage *stage) {
    vouch_server_free(stage->server);
    stage->server = NULL;
    rpc_latch_deinit(&stage->entered);
    rpc_latch_deinit(&stage->go);
    rpc_latch_deinit(&stage->cancelled);
}

void rpc_stage_listen(struct rpc_stage *stage, const struct vouch_listen_options *options) {
    rpc_stage_listen_with(stage, options, NULL);
}

void rpc_stage_listen_with(struct rpc_stage *stage, const struct vouch_listen_options *options,
                           const struct vouch_serve_options *serve) {
    struct vouch_listener *listener;
    struct vouch_error error;
    support_temp_path(stage->path, "s");
    int r = vouch_listen(stage->path, options, &listener, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    cr_assert_eq(vouch_server_add_listener_with(stage->server, listener, serve), 0);
}

struct vouch_client *rpc_stage_client(struct rpc_stage *stage,
                                      const struct vouch_client_options *options) {
    struct vouch_conn *conns[2];
    struct vouch_client *client;
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_server_add_conn(stage->server, conns[0]), 0);
    cr_assert_eq(vouch_client_new(conns[1], options, &client), 0);
    return client;
}

static struct vouch_conn *conn_and_descriptor(int *ret_fd) {
    int fds[2];
    struct vouch_conn *conn;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &conn), 0);
    *ret_fd = fds[1];
    return conn;
}

int rpc_stage_raw(struct rpc_stage *stage) {
    int fd;
    cr_assert_eq(vouch_server_add_conn(stage->server, conn_and_descriptor(&fd)), 0);
    return fd;
}

struct vouch_client *rpc_raw_client(int *ret_fd, const struct vouch_client_options *options) {
    struct vouch_client *client;
    cr_assert_eq(vouch_client_new(conn_and_descriptor(ret_fd), options, &client), 0);
    return client;
}

void rpc_need_loop_descriptor(void) {
    struct poller *poller;
    cr_assert_eq(poller_new(NULL, &poller), 0);
    int fd = poller_fd(poller);
    poller_free(poller);
    if (fd < 0)
        cr_skip_test("this system has no descriptor for many");
}

struct vouch_server_stats rpc_stats(struct rpc_stage *stage) {
    struct vouch_server_stats stats;
    vouch_server_get_stats(stage->server, &stats);
    return stats;
}

/* ---- calls ---- */

void rpc_check_call(struct vouch_client *client, const char *method, const char *request,
                    int expected_result, const char *expected) {
    struct vouch_reply reply;
    struct vouch_error error = {.code = 0};
    int r = vouch_client_call(client, method, request, strlen(request), NULL, &reply, &error);
    cr_assert_eq(r, expected_result, "%s: %d (%s), not %d", method, r, error.message,
                 expected_result);
    cr_assert_eq(error.code, r);
    if (expected) {
        cr_assert_eq(reply.size, strlen(expected));
        if (reply.size > 0)
            cr_assert_eq(memcmp(reply.data, expected, reply.size), 0);
    }
    vouch_reply_release(&reply);
}

bool rpc_timed_out(int result) {
    return result == -ETIMEDOUT || result == VOUCH_REMOTE_DEADLINE_EXCEEDED;
}

const char *rpc_check_call_options(struct vouch_client *client, const char *method,
                                   const char *request, const struct vouch_call_options *options,
                                   int expected_result) {
    static struct vouch_error error;
    error.message[0] = '\0';
    int r = vouch_client_call(client, method, request, strlen(request), options, NULL, &error);
    cr_assert_eq(r, expected_result, "%s: %d (%s), not %d", method, r, error.message,
                 expected_result);
    return error.message;
}

static void *run_caller(void *context) {
    struct rpc_caller *caller = context;
    caller->result = vouch_client_call(caller->client, caller->method, "hi", 2, &caller->options,
                                       NULL, &caller->error);
    return NULL;
}

void rpc_caller_start(struct rpc_caller *caller, struct vouch_client *client, const char *method,
                      const struct vouch_call_options *options) {
    *caller = (struct rpc_caller){.client = client, .method = method};
    caller->options = options ? *options : (struct vouch_call_options){VOUCH_OPTIONS(*options)};
    caller->thread = support_thread_start(run_caller, caller);
}

int rpc_caller_join(struct rpc_caller *caller) {
    support_thread_join(caller->thread);
    return caller->result;
}

void rpc_outcome_callback(void *context, int r, const struct vouch_reply *reply,
                          const struct vouch_error *error) {
    struct rpc_outcome *outcome = context;
    outcome->result = r;
    outcome->size = reply->size;
    outcome->error = *error;
    atomic_fetch_add(&outcome->callbacks, 1);
}

void rpc_call_async(struct vouch_client *client, const char *method, const char *request,
                    const struct vouch_call_options *options, struct rpc_outcome *outcome,
                    uint64_t *ret_id) {
    memset(outcome, 0, sizeof(*outcome));
    cr_assert_eq(vouch_client_call_async(client, method, request, strlen(request), options,
                                         rpc_outcome_callback, outcome, ret_id),
                 0);
}

void rpc_wait_callbacks(struct vouch_client *client, unsigned count) {
    int64_t deadline = vouch_deadline_in(RPC_PATIENCE);
    for (unsigned run = 0; run < count;) {
        int r = vouch_client_wait(client, deadline);
        cr_assert_gt(r, 0, "vouch_client_wait: %d after %u of %u callbacks", r, run, count);
        run += (unsigned)r;
    }
}

/* ---- the wire by hand ---- */

struct writer {
    uint8_t *at;
    size_t left;
};

static void put(struct writer *w, const void *bytes, size_t count) {
    cr_assert_geq(w->left, count);
    if (count > 0)
        memcpy(w->at, bytes, count);
    w->at += count;
    w->left -= count;
}

static void put_varint(struct writer *w, uint64_t value) {
    do {
        uint8_t byte = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
        put(w, &byte, 1);
        value >>= 7;
    } while (value > 0);
}

static void put_number(struct writer *w, unsigned field, uint64_t value) {
    if (value == 0)
        return;
    put_varint(w, field << 3);
    put_varint(w, value);
}

static void put_bytes(struct writer *w, unsigned field, const void *bytes, size_t count) {
    if (count == 0)
        return;
    put_varint(w, field << 3 | 2);
    put_varint(w, count);
    put(w, bytes, count);
}

size_t rpc_encode_length(uint64_t value, uint8_t ret_bytes[10]) {
    struct writer w = {ret_bytes, 10};
    put_varint(&w, value << 1); /* zig-zag of what is not negative */
    return (size_t)(w.at - ret_bytes);
}

size_t rpc_encode(const struct rpc_message *m, uint8_t *ret_bytes, size_t room) {
    uint8_t *body = malloc(room);
    cr_assert_not_null(body);
    struct writer w = {body, room};
    put_number(&w, 1, m->id);
    put_number(&w, 2, (uint64_t)m->expires);
    put_bytes(&w, 3, m->method, m->method ? strlen(m->method) : 0);
    put_bytes(&w, 4, m->data, m->size);
    put_number(&w, 5, m->error_type);
    put_bytes(&w, 6, m->error, m->error ? strlen(m->error) : 0);
    put_number(&w, 7, m->client_features);
    put_number(&w, 8, m->server_features);
    put_number(&w, 9, m->control);
    put_number(&w, 10, m->max_message);
    uint8_t length[10];
    struct writer out = {ret_bytes, room};
    put(&out, length, rpc_encode_length((uint64_t)(w.at - body), length));
    put(&out, body, (size_t)(w.at - body));
    free(body);
    return (size_t)(out.at - ret_bytes);
}

static bool wait_for(int fd, short events) {
    struct pollfd poller = {.fd = fd, .events = events};
    int64_t deadline = vouch_deadline_in(RPC_PATIENCE);
    while (poll(&poller, 1, 1000) <= 0)
        cr_assert_lt(vouch_now(), deadline, "the other side neither reads nor writes");
    return true;
}

bool rpc_raw_write(int fd, const void *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t n =
            send(fd, (const uint8_t *)bytes + done, count - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n < 0)
            wait_for(fd, POLLOUT);
        else
            done += (size_t)n;
    }
    return true;
}

void rpc_raw_send(int fd, const struct rpc_message *message) {
    size_t room = RPC_MESSAGE_ROOM + message->size;
    uint8_t *bytes = malloc(room);
    cr_assert_not_null(bytes);
    cr_assert(rpc_raw_write(fd, bytes, rpc_encode(message, bytes, room)));
    free(bytes);
}

static bool read_all(int fd, uint8_t *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        wait_for(fd, POLLIN);
        ssize_t n = recv(fd, bytes + done, count - done, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return false;
        cr_assert(n > 0 || errno == EAGAIN || errno == EINTR);
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool read_length(int fd, size_t *ret_size) {
    uint64_t value = 0;
    uint8_t byte = 0x80;
    for (unsigned shift = 0; byte & 0x80; shift += 7) {
        cr_assert_lt(shift, 64);
        if (!read_all(fd, &byte, 1))
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
    }
    *ret_size = (size_t)(value >> 1);
    return true;
}

bool rpc_raw_receive(int fd, struct rpc_received *ret_received) {
    size_t count;
    if (!read_length(fd, &count))
        return false;
    uint8_t *bytes = malloc(count + 1);
    cr_assert_not_null(bytes);
    if (!read_all(fd, bytes, count)) {
        free(bytes);
        return false;
    }
    ret_received->bytes = bytes;
    cr_assert_eq(envelope_decode(bytes, count, &ret_received->envelope), 0);
    return true;
}

void rpc_received_free(struct rpc_received *received) {
    free(received->bytes);
    received->bytes = NULL;
}

void rpc_raw_expect(int fd, struct rpc_received *ret_received) {
    for (;;) {
        cr_assert(rpc_raw_receive(fd, ret_received), "the connection ended");
        if (ret_received->envelope.control != ENVELOPE_HELLO)
            return;
        rpc_received_free(ret_received);
    }
}

void rpc_raw_expect_end(int fd) {
    uint8_t bytes[4096];
    while (read_all(fd, bytes, 1))
        continue;
}

bool rpc_raw_readable(int fd) {
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    return poll(&poller, 1, 0) == 1;
}

int64_t rpc_wall_in(int64_t duration) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * VOUCH_SECONDS(1) + now.tv_nsec + duration;
}
