/* SPDX-License-Identifier: MIT */
/* A server's life: options, what it serves, start, stop, statistics. */
#include "rpc/server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/conn.h"
#include "lib/error.h"
#include "lib/listen.h"
#include "lib/mem.h"
#include "lib/options.h"

#define MIB ((size_t)1024 * 1024)
#define DRAIN_TIMEOUT_DEFAULT VOUCH_SECONDS(5)
#define WORKERS_MAX_DEFAULT 64u

/* ---- options ---- */

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static bool options_valid(const struct vouch_server_options *o) {
    return o->max_request <= VOUCH_CHUNK_SIZE_BOUND && o->max_reply <= VOUCH_CHUNK_SIZE_BOUND &&
           o->drain_max <= VOUCH_CHUNK_SIZE_BOUND && o->max_calls <= VOUCH_SERVER_CALLS_BOUND &&
           o->workers <= VOUCH_SERVER_WORKERS_BOUND &&
           o->workers_max <= VOUCH_SERVER_WORKERS_BOUND &&
           o->workers_per_uid <= VOUCH_SERVER_WORKERS_BOUND && o->stall_timeout >= 0 &&
           o->frame_timeout >= 0 && o->drain_timeout >= 0 &&
           o->interceptor_count <= SERVER_INTERCEPTORS_MAX &&
           (o->interceptor_count == 0 || o->interceptors) &&
           polling_options_valid(o->polling, o->polling_budget);
}

static struct session_limits limits_of(const struct vouch_server_options *o) {
    size_t max_receive = options_size(o->max_request, VOUCH_CHUNK_SIZE_DEFAULT);
    size_t max_send = options_size(o->max_reply, VOUCH_CHUNK_SIZE_DEFAULT);
    size_t soft = options_size(o->output_soft, MIB);
    size_t hard = options_size(o->output_hard, larger(4 * MIB, 2 * max_send));
    return (struct session_limits){
        .max_receive = max_receive,
        .max_send = max_send,
        .drain_max = options_size(o->drain_max, smaller(4 * max_receive, VOUCH_CHUNK_SIZE_BOUND)),
        .max_calls = o->max_calls ? o->max_calls : VOUCH_SERVER_CALLS_DEFAULT,
        .output_soft = soft,
        .output_hard = larger(hard, soft),
        .frame_timeout = options_time(o->frame_timeout, SESSION_FRAME_TIMEOUT),
        .stall_timeout = options_time(o->stall_timeout, SESSION_STALL_TIMEOUT),
    };
}

static unsigned default_workers(void) {
    unsigned cores = os_cores_online();
    return cores < 2 ? 2 : (cores > 64 ? 64 : cores);
}

static int take_options(struct vouch_server *server, const struct vouch_server_options *o) {
    server->allocator = o->allocator;
    server->limits = limits_of(o);
    server->workers_min = o->workers ? o->workers : default_workers();
    unsigned max = 4 * server->workers_min > WORKERS_MAX_DEFAULT ? 4 * server->workers_min
                                                                 : WORKERS_MAX_DEFAULT;
    server->workers_max = o->workers_max ? o->workers_max : max;
    if (server->workers_max < server->workers_min)
        server->workers_max = server->workers_min;
    server->workers_per_uid = o->workers_per_uid ? o->workers_per_uid : server->workers_max / 2;
    if (server->workers_per_uid == 0)
        server->workers_per_uid = 1;
    server->send_room_max = options_size(o->send_buffer_max, LINK_SEND_ROOM_MAX);
    server->polling = o->polling;
    server->polling_budget = o->polling_budget;
    server->drain_timeout = options_time(o->drain_timeout, DRAIN_TIMEOUT_DEFAULT);
    server->on_open = o->on_open;
    server->on_close = o->on_close;
    server->context = o->context;
    server->interceptor_count = o->interceptor_count;
    for (size_t i = 0; i < o->interceptor_count; i++)
        server->interceptors[i] = o->interceptors[i];
    if (o->pool) {
        server->pool = vouch_pool_ref(o->pool);
        return 0;
    }
    struct vouch_pool_options pool = {VOUCH_OPTIONS(pool), .allocator = o->allocator};
    return vouch_pool_new(&pool, &server->pool);
}

/* ---- new and free ---- */

static void free_conns(struct vouch_server *server) {
    while (server->free_conns) {
        struct server_conn *next = server->free_conns->next;
        pthread_mutex_destroy(&server->free_conns->link.lock);
        mem_free(server->allocator, server->free_conns, sizeof(*next));
        server->free_conns = next;
    }
}

static void free_calls(struct vouch_server *server) {
    while (server->free_calls) {
        struct vouch_call *next = server->free_calls->next;
        mem_free(server->allocator, server->free_calls, sizeof(*next));
        server->free_calls = next;
    }
}

static void free_servings(struct vouch_server *server) {
    while (server->servings) {
        struct serving *next = server->servings->next;
        mem_free(server->allocator, server->servings, sizeof(*next));
        server->servings = next;
    }
}

static void destroy(struct vouch_server *server) {
    server_free_listeners(server);
    free_conns(server);
    free_servings(server);
    free_calls(server);
    timer_heap_deinit(&server->timers);
    method_table_deinit(&server->methods);
    poller_free(server->poller);
    os_wake_deinit(&server->control);
    vouch_pool_unref(server->pool);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->conns_lock);
    pthread_mutex_destroy(&server->lock);
    mem_free(server->allocator, server, sizeof(*server));
}

int vouch_server_new(const struct vouch_server_options *options, struct vouch_server **ret_server) {
    struct vouch_server_options o = {0};
    OPTIONS_READ(o, options);
    if (!options_valid(&o))
        return -EINVAL;
    struct vouch_server *server = mem_zalloc(o.allocator, sizeof(*server));
    if (!server)
        return -ENOMEM;
    int r = cond_init(&server->changed);
    if (r < 0) {
        mem_free(o.allocator, server, sizeof(*server));
        return r;
    }
    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_init(&server->conns_lock, NULL);
    server->epoch = os_process_epoch();
    server->control = OS_WAKE_NONE;
    server->control_source.kind = SOURCE_CONTROL;
    server->watch.kind = SOURCE_WATCH;
    server->alarm_at = server->drain_until = VOUCH_FOREVER;
    method_table_init(&server->methods, o.allocator);
    server->shares.allocator = o.allocator;
    timer_heap_init(&server->timers, o.allocator);
    r = take_options(server, &o);
    if (r == 0)
        r = os_wake_init(&server->control);
    if (r == 0)
        r = poller_new(server->allocator, &server->poller);
    if (r < 0) {
        destroy(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

/* In a forked child: closes its copies of the descriptors. The memory stays, since another thread
 * of the parent may have been changing it, or held one of its locks, when it forked. */
static void abandon(struct vouch_server *server) {
    for (struct server_listener *l = server->listeners; l; l = l->next)
        vouch_listener_free(l->listener);
    for (struct server_conn *conn = server->conns; conn; conn = conn->next)
        vouch_conn_free(conn->link.conn);
    os_wake_deinit(&server->control);
    poller_free(server->poller);
}

void server_hold(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    server->calls_out++;
    pthread_mutex_unlock(&server->lock);
}

void server_let_go(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    server->calls_out--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* Kept calls that other threads have not answered yet, or are on their way out of vouch_call_reply
 * with. */
static void wait_for_answers(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    while (server->calls_out > 0)
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
}

void vouch_server_free(struct vouch_server *server) {
    if (!server)
        return;
    if (os_process_epoch() != server->epoch) {
        abandon(server);
        return;
    }
    (void)vouch_server_stop(server, 0);
    server_join_workers(server);
    server_cut_all(server); /* what a worker added while it left */
    server_drop_ready(server);
    wait_for_answers(server);
    destroy(server);
}

/* ---- what it serves ---- */

static int state_of(const struct vouch_server *server) {
    return atomic_load(&server->state);
}

int vouch_server_add_method(struct vouch_server *server, const struct vouch_method *method) {
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    if (state_of(server) != SERVER_NEW)
        return -EBUSY;
    struct vouch_method m = {0};
    OPTIONS_READ(m, method);
    return method_table_add(&server->methods, &m);
}

/* ---- how it is served ---- */

static bool dialect_valid(const struct vouch_dialect *d) {
    return dialect_is_valid(d) && d->begins;
}

static int serving_new(struct vouch_server *server, const struct vouch_serve_options *o,
                       struct serving **ret_serving) {
    if (o->dialect_count > VOUCH_DIALECTS_MAX || (o->dialect_count > 0 && !o->dialects) ||
        (o->only_dialects && o->dialect_count == 0))
        return -EINVAL;
    struct serving *serving = mem_zalloc(server->allocator, sizeof(*serving));
    if (!serving)
        return -ENOMEM;
    serving->without_identity = o->allow_callers_without_identity;
    serving->choice = (struct dialect_choice){
        .native = !o->only_dialects, .dialects = serving->dialects, .count = o->dialect_count};
    for (size_t i = 0; i < o->dialect_count; i++) {
        OPTIONS_READ(serving->dialects[i], o->dialects[i]);
        if (!dialect_valid(&serving->dialects[i])) {
            mem_free(server->allocator, serving, sizeof(*serving));
            return -EINVAL;
        }
    }
    *ret_serving = serving;
    return 0;
}

static bool same_dialect(const struct vouch_dialect *a, const struct vouch_dialect *b) {
    return a->context == b->context && a->method_flags == b->method_flags &&
           a->begins == b->begins && a->read == b->read && a->prepare == b->prepare &&
           a->wrap == b->wrap && a->observe == b->observe;
}

static bool same_serving(const struct serving *a, const struct serving *b) {
    bool same = a->without_identity == b->without_identity &&
                a->choice.native == b->choice.native && a->choice.count == b->choice.count;
    for (size_t i = 0; same && i < a->choice.count; i++)
        same = same_dialect(&a->dialects[i], &b->dialects[i]);
    return same;
}

static int may_serve(enum vouch_link link, const struct serving *serving) {
    if (link == VOUCH_LINK_TCP && !serving->without_identity)
        return VOUCH_E_NO_IDENTITY;
    return link == VOUCH_LINK_SEQPACKET && serving->choice.count > 0 ? -ENOTSUP : 0;
}

/* One for all that are served in the same way: there may be a connection a second that says how. */
int server_get_serving(struct vouch_server *server, enum vouch_link link,
                       const struct vouch_serve_options *options,
                       const struct serving **ret_serving) {
    struct vouch_serve_options o = {0};
    struct serving *serving;
    OPTIONS_READ(o, options);
    int r = serving_new(server, &o, &serving);
    if (r < 0)
        return r;
    r = may_serve(link, serving);
    if (r < 0) {
        mem_free(server->allocator, serving, sizeof(*serving));
        return r;
    }
    pthread_mutex_lock(&server->lock);
    struct serving *known = server->servings;
    while (known && !same_serving(known, serving))
        known = known->next;
    if (!known) {
        serving->next = server->servings;
        server->servings = serving;
    }
    pthread_mutex_unlock(&server->lock);
    if (known)
        mem_free(server->allocator, serving, sizeof(*serving));
    *ret_serving = known ? known : serving;
    return 0;
}

int vouch_server_add_conn_with(struct vouch_server *server, struct vouch_conn *conn,
                               const struct vouch_serve_options *options) {
    const struct serving *serving;
    if (os_process_epoch() != server->epoch || !conn_is_ours(conn))
        return -ECHILD;
    int r = server_get_serving(server, vouch_conn_get_link(conn), options, &serving);
    if (r < 0)
        return r;
    return state_of(server) > SERVER_RUNNING ? -ESHUTDOWN : server_conn_add(server, conn, serving);
}

int vouch_server_add_conn(struct vouch_server *server, struct vouch_conn *conn) {
    return vouch_server_add_conn_with(server, conn, NULL);
}

/* ---- start ---- */

static int begin_serving(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    int state = state_of(server);
    if (state == SERVER_NEW)
        atomic_store(&server->state, SERVER_RUNNING);
    pthread_mutex_unlock(&server->lock);
    return state == SERVER_NEW ? 0 : (state == SERVER_RUNNING ? -EBUSY : -ESHUTDOWN);
}

int vouch_server_start(struct vouch_server *server) {
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    int r = begin_serving(server);
    if (r < 0)
        return r;
    r = server_start_workers(server);
    if (r < 0)
        atomic_store(&server->state, SERVER_NEW);
    return r;
}

int vouch_server_run(struct vouch_server *server) {
    int r = vouch_server_start(server);
    if (r < 0)
        return r;
    struct pollfd control = {.fd = server->control.read_fd, .events = POLLIN};
    while (poll(&control, 1, -1) <= 0)
        continue; /* a signal: its handler may have called vouch_server_interrupt */
    return vouch_server_stop(server, server->drain_timeout);
}

void vouch_server_interrupt(struct vouch_server *server) {
    os_wake_raise(&server->control);
}

/* ---- stop ---- */

/* The server whose handler this thread is in: it can't wait for itself. */
static bool in_handler_of(const struct vouch_server *server) {
    return server_of_this_thread() == server;
}

static bool drained(struct vouch_server *server) {
    return atomic_load(&server->in_flight) == 0 && !server_has_output(server);
}

static int finish_stop(struct vouch_server *server, bool complete) {
    atomic_store(&server->state, SERVER_STOPPED);
    server_cut_all(server);
    poller_wake(server->poller);
    pthread_mutex_lock(&server->lock);
    server->stop_result = complete ? 0 : -ETIMEDOUT;
    server->stopping = false;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    os_wake_raise(&server->control);
    return server->stop_result;
}

/* Whether this thread is the one that stops; else it waits for the one that does. */
static bool claim_stop(struct vouch_server *server, int *ret_result) {
    pthread_mutex_lock(&server->lock);
    while (server->stopping)
        pthread_cond_wait(&server->changed, &server->lock);
    bool mine = state_of(server) < SERVER_STOPPED;
    if (mine) {
        server->stopping = true;
        atomic_store(&server->state, SERVER_DRAINING);
    }
    *ret_result = server->stop_result;
    pthread_mutex_unlock(&server->lock);
    return mine;
}

static void wait_for_change(struct vouch_server *server, int64_t deadline) {
    if (server->looped && server_turn(server, deadline) >= 0)
        return;
    pthread_mutex_lock(&server->lock);
    /* What changes before we wait is seen a little later: a change of the output queues is not made
     * under this lock. */
    int64_t soon = clock_add(vouch_now(), VOUCH_MILLISECONDS(10));
    cond_wait_until(&server->changed, &server->lock, soon < deadline ? soon : deadline);
    pthread_mutex_unlock(&server->lock);
}

int vouch_server_stop(struct vouch_server *server, int64_t timeout) {
    int result;
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    if (in_handler_of(server))
        return -EDEADLK;
    int64_t deadline = clock_add(vouch_now(), timeout > 0 ? timeout : 0);
    if (!claim_stop(server, &result))
        return result;
    server_close_listeners(server);
    bool complete;
    while (!(complete = drained(server)) && vouch_now() < deadline)
        wait_for_change(server, deadline);
    return finish_stop(server, complete);
}

/* ---- the foreign loop ---- */

int vouch_server_get_fd(struct vouch_server *server) {
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    int fd = poller_fd(server->poller);
    if (fd < 0 || server->looped)
        return fd;
    int r = begin_serving(server);
    if (r < 0)
        return r;
    r = poller_add(server->poller, server->control.read_fd, POLLER_IN, &server->control_source);
    if (r < 0) {
        atomic_store(&server->state, SERVER_NEW);
        return r;
    }
    server->looped = true;
    return fd;
}

short vouch_server_get_events(struct vouch_server *server) {
    (void)server;
    return POLLIN;
}

int64_t vouch_server_get_timeout(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    int64_t until = server->drain_until;
    bool ready = server->ready_head != NULL;
    pthread_mutex_unlock(&server->lock);
    int64_t now = vouch_now();
    if (until == VOUCH_FOREVER)
        return ready ? 0 : VOUCH_FOREVER; /* timers make the descriptor readable */
    return ready || until <= now ? 0 : until - now;
}

static bool interrupted(const struct vouch_server *server) {
    struct pollfd control = {.fd = server->control.read_fd, .events = POLLIN};
    return poll(&control, 1, 0) == 1;
}

/* Without waiting for anybody: what is in flight has until drain_until. */
static int drain_step(struct vouch_server *server) {
    int result;
    if (server->drain_until == VOUCH_FOREVER) {
        if (!claim_stop(server, &result))
            return -ESHUTDOWN;
        server_close_listeners(server);
        server->drain_until = clock_add(vouch_now(), server->drain_timeout);
    }
    bool complete = drained(server);
    if (!complete && vouch_now() < server->drain_until)
        return 0;
    (void)finish_stop(server, complete);
    return -ESHUTDOWN;
}

/* Events dealt with before the foreign loop gets its turn. */
#define PROCESS_TURNS 64

int vouch_server_process(struct vouch_server *server) {
    int r = 1;
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    if (!server->looped)
        return -EINVAL;
    if (state_of(server) == SERVER_STOPPED)
        return -ESHUTDOWN;
    for (int i = 0; i < PROCESS_TURNS && r > 0; i++)
        r = server_turn(server, 0);
    if (r < 0)
        return r;
    return interrupted(server) ? drain_step(server) : 0;
}

/* ---- statistics ---- */

static uint64_t read_counter(const atomic_uint_fast64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void vouch_server_get_stats(struct vouch_server *server, struct vouch_server_stats *ret_stats) {
    struct server_traffic traffic;
    server_get_traffic(server, &traffic);
    struct vouch_server_stats stats = {
        .connections = read_counter(&server->connections),
        .live_connections = read_counter(&server->live_connections),
        .calls = read_counter(&server->calls),
        .in_flight = read_counter(&server->in_flight),
        .cancels = read_counter(&server->cancels),
        .lost = read_counter(&server->lost),
        .cut_malformed = read_counter(&server->cut_malformed),
        .cut_timeout = read_counter(&server->cut_timeout),
        .cut_output = read_counter(&server->cut_output),
        .bytes_received = traffic.bytes_received,
        .bytes_sent = traffic.bytes_sent,
        .polling = traffic.polling,
        .takeovers = read_counter(&server->takeovers),
    };
    for (size_t i = 0; i <= VOUCH_REMOTE_UNKNOWN; i++)
        stats.errors[i] = read_counter(&server->errors[i]);
    pthread_mutex_lock(&server->lock);
    stats.workers = server->worker_count;
    pthread_mutex_unlock(&server->lock);
    *ret_stats = stats;
}

int vouch_server_get_method_stats(struct vouch_server *server, size_t index,
                                  struct vouch_method_stats *ret_stats) {
    if (index >= server->methods.count)
        return -ENOENT;
    method_get_stats(server->methods.methods[index], ret_stats);
    return 0;
}

struct vouch_pool *vouch_server_get_pool(struct vouch_server *server) {
    return server->pool;
}
