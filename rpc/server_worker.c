/* SPDX-License-Identifier: MIT */
/*
 * Workers: threads that take one readiness at a time and deal with it.
 *
 * Those who are idle all wait in the poller; the kernel wakes one for each event, and the one that
 * waited last first. There is always one worker that is not in a handler: who would enter one as
 * the last starts another first. When as many handlers run as may, it leaves its call to a worker
 * that comes out of one and reads on: cancels, ends of connections and quick calls do not wait.
 * Workers beyond the number to keep leave after a while without work.
 */
#include <errno.h>
#include <signal.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/listen.h"
#include "lib/mem.h"
#include "rpc/server.h"

/* Enough for handlers of ordinary habits, whatever the system's default (musl: 128 KiB). */
#define WORKER_STACK ((size_t)512 * 1024)
/* How long a worker beyond the number to keep waits for work. */
#define WORKER_LINGER VOUCH_SECONDS(10)

static bool stopped(const struct vouch_server *server) {
    return atomic_load(&server->state) == SERVER_STOPPED;
}

void server_notify(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* ---- the ready queue ---- */

void server_queue_ready(struct vouch_server *server, struct server_conn *conn) {
    atomic_fetch_add(&conn->references, 1);
    pthread_mutex_lock(&server->lock);
    conn->ready_next = NULL;
    if (server->ready_tail)
        server->ready_tail->ready_next = conn;
    else
        server->ready_head = conn;
    server->ready_tail = conn;
    pthread_mutex_unlock(&server->lock);
    poller_wake(server->poller);
}

static bool has_ready(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    bool some = server->ready_head != NULL;
    pthread_mutex_unlock(&server->lock);
    return some;
}

static struct server_conn *take_ready(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    struct server_conn *conn = server->ready_head;
    if (conn)
        server->ready_head = conn->ready_next;
    if (!server->ready_head)
        server->ready_tail = NULL;
    pthread_mutex_unlock(&server->lock);
    return conn;
}

void server_drop_ready(struct vouch_server *server) {
    struct server_conn *conn;
    while ((conn = take_ready(server)))
        server_conn_ready(conn);
}

/* ---- time ---- */

/* Server->lock held. */
static void set_alarm(struct vouch_server *server) {
    int64_t next = timer_next(&server->timers);
    if (next >= server->alarm_at)
        return; /* an alarm that comes too early costs one look */
    bool failed = poller_set_alarm(server->poller, next) < 0;
    if (!failed)
        server->alarm_at = next;
    else if (!server->alarm_failed)
        poller_wake(server->poller); /* who hears it tries again; should that fail too, the next */
    server->alarm_failed = failed;
}

int server_reserve_timer(struct vouch_server *server) {
    size_t count = server->conns_taken + 2; /* the watch, one more */
    for (struct server_listener *l = server->listeners; l; l = l->next)
        count++;
    return timer_heap_reserve(&server->timers, count);
}

void server_set_timer_locked(struct vouch_server *server, struct source *source, int64_t deadline) {
    if (deadline == VOUCH_FOREVER)
        timer_cancel(&server->timers, &source->timer);
    else if (timer_set(&server->timers, &source->timer, deadline) == 0) /* room was reserved */
        set_alarm(server);
}

void server_set_timer(struct vouch_server *server, struct source *source, int64_t deadline) {
    pthread_mutex_lock(&server->lock);
    server_set_timer_locked(server, source, deadline);
    pthread_mutex_unlock(&server->lock);
}

static struct source *source_of(struct timer *timer) {
    return (struct source *)(void *)((char *)timer - offsetof(struct source, timer));
}

static struct source *take_expired(struct vouch_server *server, int64_t now) {
    pthread_mutex_lock(&server->lock);
    struct timer *timer = timer_expire(&server->timers, now);
    struct source *source = timer ? source_of(timer) : NULL;
    if (source && source->kind == SOURCE_CONN)
        atomic_fetch_add(&((struct server_conn *)source)->references, 1);
    if (!source)
        set_alarm(server);
    pthread_mutex_unlock(&server->lock);
    return source;
}

static void expire_timers(struct vouch_server *server) {
    struct source *source;
    int64_t now = vouch_now();
    pthread_mutex_lock(&server->lock);
    if (server->alarm_at <= now)
        server->alarm_at = VOUCH_FOREVER;
    pthread_mutex_unlock(&server->lock);
    while ((source = take_expired(server, now))) {
        if (source->kind == SOURCE_CONN)
            server_conn_expire((struct server_conn *)source);
        else if (source->kind == SOURCE_WATCH)
            server_watch(server);
        else
            server_listener_expire(server, (struct server_listener *)source);
    }
}

/* ---- one turn ---- */

static void deal_with(struct vouch_server *server, const struct poller_event *event) {
    struct source *source = event->data;
    if (!source)
        expire_timers(server);
    else if (source->kind == SOURCE_CONN)
        server_conn_event((struct server_conn *)source, event->events);
    else if (source->kind == SOURCE_LISTENER)
        server_listener_event(server, (struct server_listener *)source);
}

static _Thread_local struct worker *this_worker;

struct worker *server_worker(const struct vouch_server *server) {
    return this_worker && this_worker->server == server ? this_worker : NULL;
}

bool server_others_are_ready(struct vouch_server *server) {
    struct worker *self = server_worker(server);
    if (has_ready(server))
        return true;
    self->has_event = poller_wait(server->poller, &self->event, 1, 0) == 1;
    return self->has_event;
}

static int poll_once(struct vouch_server *server, int64_t deadline) {
    struct poller_event event;
    int r = poller_wait(server->poller, &event, 1, deadline);
    if (r == 1)
        deal_with(server, &event);
    return r;
}

/* Every other time the poller is asked first, so that connections with much in memory do not keep
 * those waiting whose bytes are still in the kernel. */
int server_turn(struct vouch_server *server, int64_t deadline) {
    struct worker *self = server_worker(server);
    if (self && self->has_event) {
        self->has_event = false;
        deal_with(server, &self->event);
        return 1;
    }
    if (atomic_fetch_add_explicit(&server->turns, 1, memory_order_relaxed) % 2 != 0) {
        int r = has_ready(server) ? poll_once(server, 0) : 0;
        if (r != 0)
            return r;
    }
    struct server_conn *ready = take_ready(server);
    if (!ready)
        return poll_once(server, deadline);
    server_conn_ready(ready);
    return 1;
}

/* ---- threads ---- */

/* Not the last who is out of handlers: nobody would read on. */
bool server_give_up_being_available(struct vouch_server *server) {
    unsigned available = atomic_load(&server->available);
    while (available > 1)
        if (atomic_compare_exchange_weak(&server->available, &available, available - 1))
            return true;
    return false;
}

/* Leaves if it is one too many. */
static bool retire(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    bool surplus = server->worker_count > server->workers_min && !server->ready_head &&
                   server_give_up_being_available(server);
    if (surplus)
        server->worker_count--;
    pthread_mutex_unlock(&server->lock);
    return surplus;
}

static void move_to_exited(struct worker *self) {
    struct vouch_server *server = self->server;
    pthread_mutex_lock(&server->lock);
    struct worker **link = &server->workers;
    while (*link != self)
        link = &(*link)->next;
    *link = self->next;
    self->next = server->exited;
    server->exited = self;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* The poller is out of memory, say: trying again at once would only burn a core. */
static void pause_briefly(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    cond_wait_until(&server->changed, &server->lock, vouch_deadline_in(LISTENER_RETRY_MIN));
    pthread_mutex_unlock(&server->lock);
}

static void *work(void *argument) {
    struct worker *self = argument;
    this_worker = self;
    struct vouch_server *server = self->server;
    bool retired = false;
    while (!stopped(server) && !retired) {
        int r = server_turn(server, vouch_deadline_in(WORKER_LINGER));
        if (r == 0)
            retired = retire(server);
        else if (r < 0)
            pause_briefly(server);
    }
    if (!retired) {
        poller_wake(server->poller); /* the next one has to hear it too */
        pthread_mutex_lock(&server->lock);
        server->worker_count--;
        pthread_mutex_unlock(&server->lock);
    }
    move_to_exited(self);
    return NULL;
}

/* A thread that no signal of the host program's is delivered to. */
static int create_thread(struct worker *worker) {
    pthread_attr_t attributes;
    sigset_t all, before;
    int r = pthread_attr_init(&attributes);
    if (r != 0)
        return -r;
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&worker->thread, &attributes, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -r;
}

static void reap(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    struct worker *exited = server->exited;
    server->exited = NULL;
    pthread_mutex_unlock(&server->lock);
    while (exited) {
        struct worker *next = exited->next;
        pthread_join(exited->thread, NULL);
        mem_free(server->allocator, exited, sizeof(*exited));
        exited = next;
    }
}

/* Server->lock held. The new thread waits for it before it could leave the list. */
static int start_worker(struct vouch_server *server) {
    struct worker *worker = mem_zalloc(server->allocator, sizeof(*worker));
    if (!worker)
        return -ENOMEM;
    worker->server = server;
    worker->next = server->workers;
    server->workers = worker;
    server->worker_count++;
    atomic_fetch_add(&server->available, 1);
    int r = create_thread(worker);
    if (r < 0) {
        atomic_fetch_sub(&server->available, 1);
        server->worker_count--;
        server->workers = worker->next;
        mem_free(server->allocator, worker, sizeof(*worker));
    }
    return r;
}

int server_start_workers(struct vouch_server *server) {
    int r = 0;
    pthread_mutex_lock(&server->lock);
    while (server->worker_count < server->workers_min && r == 0)
        r = start_worker(server);
    bool none = server->worker_count == 0;
    pthread_mutex_unlock(&server->lock);
    return none ? r : 0; /* fewer than wished for will do */
}

void server_join_workers(struct vouch_server *server) {
    poller_wake(server->poller);
    pthread_mutex_lock(&server->lock);
    while (server->workers)
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
    reap(server);
}

/* A reader beyond the handlers that workers_max allows; those who stay with a connection are none.
 * Without a thread for it, and no handler that would come out, this one has to do. Server->lock
 * held. */
static bool replace_worker(struct vouch_server *server) {
    unsigned others = server->worker_count - server->guards;
    bool may = others <= server->workers_max && !stopped(server);
    if ((may && start_worker(server) == 0) || others == 1) {
        atomic_fetch_sub(&server->available, 1);
        return true;
    }
    return false;
}

bool server_enter_handler(struct vouch_server *server, struct vouch_call *call) {
    if (server->looped)
        return true;
    struct share *share = call->conn->share;
    pthread_mutex_lock(&server->lock);
    bool entered = share_begin(share);
    if (entered && !server_give_up_being_available(server) && !replace_worker(server)) {
        share_end(&server->shares, share);
        entered = false;
    }
    if (!entered)
        share_wait(share, call);
    bool some_exited = server->exited != NULL, ready = server->ready_head != NULL;
    pthread_mutex_unlock(&server->lock);
    if (entered && ready)
        poller_wake(server->poller);
    if (some_exited)
        reap(server);
    return entered;
}

/* The handler of `share` has ended. The next call that waits; when there is none this worker is
 * available again. All under the lock, so that no call comes to wait for a worker that has just
 * looked. */
static struct vouch_call *take_waiting(struct vouch_server *server, struct share *share) {
    pthread_mutex_lock(&server->lock);
    share_end(&server->shares, share);
    struct vouch_call *call = share_next(&server->shares);
    if (!call)
        atomic_fetch_add(&server->available, 1);
    pthread_mutex_unlock(&server->lock);
    return call;
}

void server_run_handler(struct vouch_server *server, struct vouch_call *call) {
    while (call) {
        struct share *share = call->conn->share; /* the call's memory goes with its end */
        struct method *method = call->verdict == 0 ? call->method : NULL;
        int64_t began = vouch_now() - server_time_sending();
        server_call_run(call);
        if (method)
            method_ran(method, vouch_now() - server_time_sending() - began);
        if (server->looped)
            return;
        call = take_waiting(server, share);
        if (call && vouch_call_is_cancelled(call)) /* nobody wants it any more */
            call->verdict = VOUCH_REMOTE_DEADLINE_EXCEEDED;
    }
}
