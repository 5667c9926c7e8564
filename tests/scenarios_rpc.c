/* SPDX-License-Identifier: MIT */
/* The scenarios of clients and servers: one of each in this process, with worker threads or in a
 * loop. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/client.h>
#include <vouch/server.h>

#include "tests/scenarios.h"
#include "tests/toy_dialect.h"

enum {
    BODY = 300 * 1024, /* more than a socket holds */
    MAX_REQUEST = 400 * 1024,
    PACKET = 150 * 1024, /* what fits a packet */
    ASYNC_CALLS = 5,
    CALLERS = 4,
    CALLS_EACH = 5,
};

#define PATIENCE VOUCH_SECONDS(20) /* for what should come */

/* ---- a server and a client ---- */

struct rpc {
    const struct scenario_place *place;
    struct vouch_server *server;
    struct vouch_client *client;
    pthread_mutex_t lock;
    struct vouch_call *kept; /* by /keep, until /release; both run in the order they were sent */
    bool ending;
    struct toy toy;
    unsigned notices;
};

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);

    (void)context;
    return vouch_call_reply(call, data, size);
}

static int refuse(void *context, struct vouch_call *call) {
    (void)context;
    return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "no %s", "thanks");
}

/* Once the scenario is at its end nobody would release it any more. */
static int keep(void *context, struct vouch_call *call) {
    struct rpc *rpc = context;

    pthread_mutex_lock(&rpc->lock);
    if (!rpc->ending) {
        vouch_call_keep(call);
        rpc->kept = call;
    }
    pthread_mutex_unlock(&rpc->lock);
    return 0;
}

static void answer_kept(struct rpc *rpc, bool ending) {
    struct vouch_call *call;

    pthread_mutex_lock(&rpc->lock);
    call = rpc->kept;
    rpc->kept = NULL;
    rpc->ending = ending;
    pthread_mutex_unlock(&rpc->lock);
    if (call)
        vouch_call_reply(call, "later", 5);
}

static int release(void *context, struct vouch_call *call) {
    answer_kept(context, false);
    return vouch_call_reply(call, NULL, 0);
}

static int answer_in_time(void *context, struct vouch_call *call) {
    (void)context;
    return vouch_call_reply_at(call, vouch_deadline_in(VOUCH_MILLISECONDS(1)), "later", 5);
}

static int wait_for_cancel(void *context, struct vouch_call *call) {
    (void)context;
    (void)vouch_call_wait_cancelled(call, vouch_deadline_in(PATIENCE));
    return vouch_call_reply(call, NULL, 0);
}

static int make_server(struct rpc *rpc) {
    const struct vouch_method methods[] = {
        {.name = "/echo", .handler = echo},
        {.name = "/refuse", .handler = refuse},
        {.name = "/keep", .handler = keep, .context = rpc, .flags = VOUCH_METHOD_QUICK},
        {.name = "/release", .handler = release, .context = rpc, .flags = VOUCH_METHOD_QUICK},
        {.name = "/later", .handler = answer_in_time},
        {.name = "/wait", .handler = wait_for_cancel},
    };
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .polling = VOUCH_POLLING_OFF,
                                           .allocator = rpc->place->allocator, .workers = 2,
                                           .max_request = MAX_REQUEST};
    int r = vouch_server_new(&options, &rpc->server);

    for (size_t i = 0; r == 0 && i < sizeof(methods) / sizeof(*methods); i++)
        r = vouch_server_add_method(rpc->server, &methods[i]);
    return r;
}

static struct vouch_client_options client_options(const struct rpc *rpc) {
    /* Every look of a poll would be a system call to fail, and no two runs have as many. */
    return (struct vouch_client_options){.size = sizeof(struct vouch_client_options),
                                         .polling = VOUCH_POLLING_OFF,
                                         .allocator = rpc->place->allocator,
                                         .call_timeout = PATIENCE};
}

/* Two ends of a socketpair, one for each. */
static int connect_ends(struct rpc *rpc, enum vouch_link link,
                        const struct vouch_client_options *with,
                        const struct vouch_serve_options *serve) {
    struct vouch_conn_options options = {VOUCH_OPTIONS(options),
                                         .allocator = rpc->place->allocator};
    struct vouch_conn *conns[2];
    int r = vouch_conn_pair_of(link, &options, conns);

    if (r < 0)
        return r;
    r = vouch_client_new(conns[0], with, &rpc->client);
    if (r < 0)
        vouch_conn_free(conns[0]);
    else
        r = vouch_server_add_conn_with(rpc->server, conns[1], serve);
    if (r < 0)
        vouch_conn_free(conns[1]);
    return r;
}

static int connect_pair(struct rpc *rpc) {
    struct vouch_client_options with = client_options(rpc);

    return connect_ends(rpc, VOUCH_LINK_STREAM, &with, NULL);
}

static int connect_packets(struct rpc *rpc) {
    struct vouch_client_options with = client_options(rpc);

    return connect_ends(rpc, VOUCH_LINK_SEQPACKET, &with, NULL);
}

static void count_notice(void *context, const struct vouch_reply *notice) {
    struct rpc *rpc = context;

    rpc->notices += notice->size == 4 && memcmp(notice->data, "news", 4) == 0;
}

static int connect_dialect(struct rpc *rpc) {
    struct vouch_client_options with = client_options(rpc);
    const struct vouch_dialect *toy = &rpc->toy.dialect;
    const struct vouch_serve_options serve = {VOUCH_OPTIONS(serve), .dialects = &toy,
                                              .dialect_count = 1};

    toy_init(&rpc->toy);
    with.dialect = toy;
    with.on_notice = count_notice;
    with.notice_context = rpc;
    return connect_ends(rpc, VOUCH_LINK_STREAM, &with, &serve);
}

static int connect_path(struct rpc *rpc) {
    struct vouch_listen_options listen = {VOUCH_OPTIONS(listen),
                                          .allocator = rpc->place->allocator};
    struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .allocator = rpc->place->allocator,
                                      .timeout = PATIENCE};
    struct vouch_client_options with = client_options(rpc);
    struct vouch_listener *listener;
    int r = vouch_listen(rpc->place->path, &listen, &listener, NULL);

    if (r < 0)
        return r;
    r = vouch_server_add_listener(rpc->server, listener);
    if (r < 0) {
        vouch_listener_free(listener);
        return r;
    }
    return vouch_client_dial(rpc->place->path, &dial, &with, &rpc->client, NULL);
}

/* A call that was cut off by a stop is the server's way of being short of something. */
static int close_rpc(struct rpc *rpc, int r) {
    int stopped = 0;

    vouch_client_free(rpc->client);
    answer_kept(rpc, true);
    if (rpc->server)
        stopped = vouch_server_stop(rpc->server, PATIENCE);
    vouch_server_free(rpc->server);
    return scenario_worse(r, stopped == -ESHUTDOWN ? 0 : stopped);
}

static int with_workers(const struct scenario_place *place, int (*connect)(struct rpc *),
                        int (*talk)(struct rpc *)) {
    struct rpc rpc = {.place = place, .lock = PTHREAD_MUTEX_INITIALIZER};
    int r = make_server(&rpc);

    if (r == 0)
        r = vouch_server_start(rpc.server);
    if (r == 0)
        r = connect(&rpc);
    if (r == 0)
        r = talk(&rpc);
    return close_rpc(&rpc, r);
}

/* ---- what they say to each other ---- */

/* An answer that was not expected: a server that says it is short of something may. */
static int judge_answer(int r, int expected) {
    if (r == expected)
        return 0;
    if (r < 0)
        return r;
    return r == VOUCH_REMOTE_UNAVAILABLE ? -ECONNRESET : SCENARIO_WRONG;
}

static int call_echo(struct vouch_client *client, const uint8_t *body, size_t size) {
    struct vouch_reply reply = {0};
    int r = judge_answer(vouch_client_call(client, "/echo", body, size, NULL, &reply, NULL), 0);

    if (r == 0 && (reply.size != size || (size > 0 && memcmp(reply.data, body, size) != 0)))
        r = SCENARIO_WRONG;
    vouch_reply_release(&reply);
    return r;
}

static int talk_echo(struct rpc *rpc) {
    static const size_t sizes[] = {0, 1, 200, 5000, BODY, 7};
    static uint8_t body[BODY];
    int r = 0;

    for (size_t i = 0; i < BODY; i++)
        body[i] = (uint8_t)(i * 11 + (i >> 8));
    for (size_t i = 0; r == 0 && i < sizeof(sizes) / sizeof(*sizes); i++)
        r = call_echo(rpc->client, body, sizes[i]);
    return r;
}

static int talk_packets(struct rpc *rpc) {
    static const size_t sizes[] = {0, 1, 5000, PACKET, 7};
    static uint8_t body[PACKET];
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(sizes) / sizeof(*sizes); i++)
        r = call_echo(rpc->client, body, sizes[i]);
    return r;
}

/* A text of one line, as the dialect wants it; then news, unless somebody was short of memory for
 * them. */
static int talk_dialect(struct rpc *rpc) {
    static uint8_t body[PACKET];
    int r;

    memset(body, 'x', sizeof(body));
    r = call_echo(rpc->client, body, 5);
    if (r == 0)
        r = call_echo(rpc->client, body, sizeof(body));
    if (r == 0)
        r = judge_answer(vouch_client_call(rpc->client, "/none", "x", 1, NULL, NULL, NULL),
                         VOUCH_REMOTE_METHOD_NOT_FOUND);
    if (r == 0)
        r = vouch_server_send_notice(rpc->server, 1, "news", 4);
    if (r == -ENOENT)
        r = -ECONNRESET; /* it is gone */
    if (r == 1)
        r = call_echo(rpc->client, body, 5); /* they have come before this */
    if (r == 0)
        r = vouch_client_wait(rpc->client, vouch_now());
    if (r == -ETIMEDOUT && rpc->place->allocator)
        return -ENOMEM; /* lost, for want of a record */
    return r < 0 ? r : (r == 1 && rpc->notices == 1 ? 0 : SCENARIO_WRONG);
}

static int talk_errors(struct rpc *rpc) {
    struct vouch_error error = {0};
    int r = judge_answer(vouch_client_call(rpc->client, "/refuse", "x", 1, NULL, NULL, &error),
                         VOUCH_REMOTE_BAD_DATA);

    if (r == 0 && strcmp(error.message, "no thanks") != 0)
        r = SCENARIO_WRONG;
    if (r == 0)
        r = judge_answer(vouch_client_call(rpc->client, "/none", "x", 1, NULL, NULL, NULL),
                         VOUCH_REMOTE_METHOD_NOT_FOUND);
    if (r == 0)
        r = call_echo(rpc->client, (const uint8_t *)"still here", 10);
    return r;
}

/* The first call, so that the client has not been told the maximum. */
static int talk_oversize(struct rpc *rpc) {
    static uint8_t body[MAX_REQUEST + 1000];
    int r = vouch_client_call(rpc->client, "/echo", body, sizeof(body), NULL, NULL, NULL);

    if (r == VOUCH_REMOTE_BAD_DATA && rpc->place->allocator)
        r = VOUCH_REMOTE_TOO_LARGE; /* a server that had no memory for its hello stays plain */
    r = judge_answer(r, VOUCH_REMOTE_TOO_LARGE);
    return r == 0 ? call_echo(rpc->client, (const uint8_t *)"still here", 10) : r;
}

static int talk_ping(struct rpc *rpc) {
    int r = call_echo(rpc->client, (const uint8_t *)"hello", 5);

    if (r == 0)
        r = vouch_client_ping(rpc->client, PATIENCE, NULL);
    return r == -ENOTSUP ? -ENOMEM : r; /* a server that had no memory to say that it knows pings */
}

/* ---- asynchronous calls ---- */

struct ending {
    int times, expected, result;
    const char *body;
};

static void on_end(void *context, int result, const struct vouch_reply *reply,
                   const struct vouch_error *error) {
    struct ending *ending = context;

    (void)error;
    ending->times++;
    ending->result = judge_answer(result, ending->expected);
    if (ending->result == 0 && ending->body &&
        (reply->size != strlen(ending->body) ||
         memcmp(reply->data, ending->body, reply->size) != 0))
        ending->result = SCENARIO_WRONG;
}

/* Waits for all that was begun. Each ends once, or the scenario is wrong. */
static int wait_for_ends(struct vouch_client *client, struct ending *endings, int count) {
    int n, r = 0;

    do
        n = vouch_client_wait(client, vouch_deadline_in(PATIENCE));
    while (n > 0);
    for (int i = 0; i < count; i++) {
        if (endings[i].times != 1 && n != -ETIMEDOUT)
            r = scenario_worse(r, n < 0 ? n : SCENARIO_WRONG);
        else
            r = scenario_worse(r, endings[i].result);
    }
    return scenario_worse(r, n == -ETIMEDOUT ? n : 0);
}

static int begin(struct rpc *rpc, const char *method, const char *body, struct ending *ending,
                 uint64_t *ret_id) {
    return vouch_client_call_async(rpc->client, method, body, strlen(body), NULL, on_end, ending,
                                   ret_id);
}

static int talk_async(struct rpc *rpc) {
    struct ending endings[ASYNC_CALLS] = {{0}};
    int begun = 0, r = 0;

    while (r == 0 && begun < ASYNC_CALLS) {
        endings[begun].body = "the same";
        r = begin(rpc, "/echo", "the same", &endings[begun], NULL);
        begun += r == 0;
    }
    return scenario_worse(r, wait_for_ends(rpc->client, endings, begun));
}

static int talk_cancel(struct rpc *rpc) {
    struct ending ending = {.expected = -ECANCELED};
    uint64_t id;
    int r = call_echo(rpc->client, (const uint8_t *)"hello", 5); /* now it can be told of cancels */

    if (r == 0)
        r = begin(rpc, "/wait", "", &ending, &id);
    if (r < 0)
        return r;
    (void)vouch_client_cancel_id(rpc->client, id);
    return wait_for_ends(rpc->client, &ending, 1);
}

static int talk_deferred(struct rpc *rpc) {
    struct ending ending = {.body = "later"};
    int r = begin(rpc, "/keep", "", &ending, NULL), released;

    if (r < 0)
        return r;
    released =
        judge_answer(vouch_client_call(rpc->client, "/release", NULL, 0, NULL, NULL, NULL), 0);
    if (released < 0)
        vouch_client_close(rpc->client); /* or it would be waited for */
    r = wait_for_ends(rpc->client, &ending, 1);
    return released < 0 ? released : r;
}

static int talk_later(struct rpc *rpc) {
    struct ending ending = {.body = "later"};
    int r = begin(rpc, "/later", "", &ending, NULL);
    return r < 0 ? r : wait_for_ends(rpc->client, &ending, 1);
}

static void *call_often(void *argument) {
    struct rpc *rpc = argument;
    intptr_t r = 0;

    for (int i = 0; r == 0 && i < CALLS_EACH; i++)
        r = call_echo(rpc->client, (const uint8_t *)"from one of many", 16);
    return (void *)r;
}

static int talk_from_many_threads(struct rpc *rpc) {
    pthread_t threads[CALLERS];
    int started = 0, r = 0;
    void *result;

    while (r == 0 && started < CALLERS) {
        r = -pthread_create(&threads[started], NULL, call_often, rpc);
        started += r == 0;
    }
    while (started > 0) {
        pthread_join(threads[--started], &result);
        r = scenario_worse(r, (int)(intptr_t)result);
    }
    return r;
}

/* ---- in a loop, without threads ---- */

static int process_both(struct rpc *rpc) {
    struct pollfd fds[2] = {
        {.fd = vouch_client_get_fd(rpc->client), .events = vouch_client_get_events(rpc->client)},
        {.fd = vouch_server_get_fd(rpc->server), .events = vouch_server_get_events(rpc->server)},
    };
    int r;

    if (fds[0].fd < 0 || fds[1].fd < 0)
        return fds[0].fd < 0 ? fds[0].fd : fds[1].fd;
    (void)poll(fds, 2, 100);
    r = vouch_client_process(rpc->client);
    return r < 0 ? r : vouch_server_process(rpc->server);
}

static int talk_in_loop(struct rpc *rpc) {
    int64_t deadline = vouch_deadline_in(PATIENCE);
    struct ending ending = {.body = "in a loop"};
    int r = begin(rpc, "/echo", "in a loop", &ending, NULL);

    while (r == 0 && ending.times == 0)
        r = vouch_now() < deadline ? process_both(rpc) : -ETIMEDOUT;
    if (r < 0 && ending.times == 0) {
        vouch_client_close(rpc->client);
        (void)vouch_client_process(rpc->client);
        return r;
    }
    return scenario_worse(r, ending.result);
}

static int rpc_in_loop(const struct scenario_place *place) {
    struct rpc rpc = {.place = place, .lock = PTHREAD_MUTEX_INITIALIZER};
    int r = make_server(&rpc);

    if (r == 0)
        r = connect_pair(&rpc);
    if (r == 0)
        r = vouch_server_get_fd(rpc.server);
    if (r >= 0)
        r = talk_in_loop(&rpc);
    else if (r == -ENOTSUP) /* not on this system */
        r = 0;
    vouch_client_free(rpc.client);
    vouch_server_free(rpc.server);
    return r;
}

/* ---- the table ---- */

static int rpc_echo(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_echo);
}

static int rpc_over_a_path(const struct scenario_place *place) {
    return with_workers(place, connect_path, talk_echo);
}

static int rpc_errors(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_errors);
}

static int rpc_oversize(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_oversize);
}

static int rpc_ping(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_ping);
}

static int rpc_async(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_async);
}

static int rpc_cancel(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_cancel);
}

static int rpc_deferred(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_deferred);
}

static int rpc_later(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_later);
}

static int rpc_many_threads(const struct scenario_place *place) {
    return with_workers(place, connect_pair, talk_from_many_threads);
}

static int rpc_in_packets(const struct scenario_place *place) {
    return with_workers(place, connect_packets, talk_packets);
}

static int rpc_in_a_dialect(const struct scenario_place *place) {
    return with_workers(place, connect_dialect, talk_dialect);
}

const struct scenario scenarios_rpc[] = {
    {.name = "rpc_echo", .run = rpc_echo},
    {.name = "rpc_over_a_path", .run = rpc_over_a_path},
    {.name = "rpc_errors", .run = rpc_errors},
    {.name = "rpc_oversize", .run = rpc_oversize},
    {.name = "rpc_ping", .run = rpc_ping},
    {.name = "rpc_async", .run = rpc_async},
    {.name = "rpc_cancel", .run = rpc_cancel},
    {.name = "rpc_deferred", .run = rpc_deferred},
    {.name = "rpc_later", .run = rpc_later},
    {.name = "rpc_many_threads", .run = rpc_many_threads},
    {.name = "rpc_in_loop", .run = rpc_in_loop},
    {.name = "rpc_in_packets", .run = rpc_in_packets, .packets = true},
    {.name = "rpc_in_a_dialect", .run = rpc_in_a_dialect},
    {0},
};
