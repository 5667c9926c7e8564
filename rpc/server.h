/* SPDX-License-Identifier: MIT */
/*
 * The server's insides. server.c (life and options), server_worker.c (threads, what they wait for,
 * time), server_listener.c (listeners), server_conn.c (one connection), server_read.c (whoever
 * reads it), server_call.c (one call), method.c (methods by name).
 *
 * Who owns what. Registrations with the poller are one-shot: the worker that gets a connection's
 * event owns its *reading* until it arms it again (`reading`). A connection with whole messages
 * left in memory, which no event will announce, is put on the ready queue instead. Everything else
 * of a connection is guarded by its link's lock.
 *
 * Lifetimes. An event can be fetched from the kernel and then be overtaken by the end of its
 * connection. So structs of connections (and of listeners) are recycled but not freed while the
 * server lives: an event that comes too late finds a closed connection, or a new one, to which it
 * is a harmless spurious wake-up.
 *
 * Lock order: conns_lock, then a link's lock, then lock. Handlers, interceptors and system calls
 * that wait run under none of them.
 */
#ifndef VOUCH_RPC_SERVER_H
#define VOUCH_RPC_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <vouch/server.h>

#include "lib/os.h"
#include "lib/poller.h"
#include "lib/timer.h"
#include "rpc/link.h"
#include "rpc/method.h"
#include "rpc/peer.h"
#include "rpc/share.h"

#define SERVER_INTERCEPTORS_MAX 16
#define SERVER_IDLE_CALLS_MAX 1024 /* call records kept for reuse */

enum source_kind { SOURCE_LISTENER, SOURCE_CONN, SOURCE_CONTROL, SOURCE_WATCH };

/* What the poller reports: first member of all that is registered with it. */
struct source {
    enum source_kind kind;
    struct timer timer; /* in server->timers, under server->lock */
};

/* What is spoken on some of the connections. Constant, and there until the server is freed. */
struct serving {
    struct serving *next;
    struct vouch_dialect dialects[VOUCH_DIALECTS_MAX]; /* copies */
    struct dialect_choice choice;
    bool without_identity;
};

/* Recycled like structs of connections, for the same reason. */
struct server_listener {
    struct source source;
    struct server_listener *next;
    const struct serving *serving;
    struct vouch_listener *listener;
    unsigned users; /* the server until it is removed, each thread inside; 0: an idle struct */
};

struct server_conn {
    struct source source;
    struct vouch_server *server;
    struct server_conn *next, *previous; /* all that are in use; under conns_lock */
    struct server_conn *ready_next;      /* on the ready queue; under server->lock */
    struct server_conn *walk_next;       /* see server_cut_all; under conns_lock */
    atomic_uint references;              /* being open, each call, each thread inside */
    struct share *share;                 /* its user's, of the handlers */
    uint64_t number;                     /* among all of the server's, from 1 */
    struct link link;                    /* its lock guards what follows */
    struct vouch_client *guest;          /* whose calls go out here too; see rpc/peer.h */
    struct peer_hooks hooks;
    bool open;
    bool reading;           /* a worker, or the ready queue, owns the reading */
    unsigned turn;          /* how often it has been taken away from its owner */
    bool napping;           /* its owner sleeps in recv */
    int64_t presumed_since; /* its owner runs a handler with the reading in hand; 0: not so */
    const struct vouch_call *presumed_call;
    struct method *presumed;          /* … of this method, which was quick so far */
    int64_t called_at;                /* the last call */
    _Atomic(struct vouch_call *) due; /* to be answered now; added to under the lock */
    bool answering;                   /* … by somebody who has begun */
    struct polling polling;           /* used by the reading's owner */
    unsigned armed;                   /* POLLER_… that we believe armed */
    int64_t timer_at;                 /* where the timer stands */
};

struct vouch_call {
    struct session_slot slot; /* first */
    struct server_conn *conn;
    struct method *method;
    struct vouch_buffer *buffer;
    const uint8_t *data;
    size_t size;
    int64_t arrived, deadline;
    atomic_uint references; /* the handler's, and one for being kept */
    atomic_bool answered, cancelled;
    bool kept;
    /* An answer that waits for its time (vouch_call_reply_at): the bytes, which are the request's
     * own if they have no buffer. */
    bool delayed; /* link's lock */
    struct iovec later;
    struct vouch_buffer *later_buffer;
    unsigned intercepted; /* interceptors that have seen it begin, and are to see its end */
    const char *why;      /* it can't be run, as a dialect says */
    size_t why_size;      /* 0: none does */
    bool refused;         /* … all the same */
    int verdict; /* found out when it arrived: an enum vouch_remote_error that it is answered with,
                    or 0 */
    uint64_t oversize;       /* the size of a request that was too large */
    struct vouch_call *next; /* idle records, those that wait for a worker, or are due */
};

struct worker {
    pthread_t thread;
    struct worker *next;
    struct vouch_server *server;
    struct server_conn *last;  /* read by it */
    unsigned streak;           /* how often in a row */
    struct poller_event event; /* found by server_others_are_ready: its next turn */
    bool has_event;
    struct server_conn *guards; /* whose reading it may hold while it runs a handler; under
                                   server->lock */
};

/* A worker's time with the reading of a connection: see server_read.c. */
struct reader {
    struct server_conn *conn;
    unsigned turn; /* conn->turn: the reading is ours while they are equal */
    const struct vouch_call *presumed_call;
    struct method *presumed; /* of the call that runs, see presume() */
    int64_t began;           /* … and since when */
    int64_t corked_at;
    bool guarded; /* this worker is not available: another one sees to everything else */
    bool full;    /* the last recv filled its room: there may be more */
    bool partial; /* a message has begun to come */
    unsigned messages, receives, waits;
};

struct server_traffic {
    uint64_t bytes_received, bytes_sent;
    struct vouch_polling_stats polling;
};

enum server_state { SERVER_NEW, SERVER_RUNNING, SERVER_DRAINING, SERVER_STOPPED };

struct vouch_server {
    /* Constant once serving. */
    const struct vouch_allocator *allocator;
    struct vouch_pool *pool;
    uint64_t epoch;
    struct session_limits limits;
    unsigned workers_min, workers_max, workers_per_uid;
    int64_t drain_timeout;
    struct vouch_server_interceptor interceptors[SERVER_INTERCEPTORS_MAX];
    size_t interceptor_count;
    void (*on_open)(void *context, uint64_t connection, const struct vouch_identity *peer);
    void (*on_close)(void *context, uint64_t connection, const struct vouch_identity *peer);
    void *context;
    struct method_table methods;
    struct poller *poller;
    size_t send_room_max;
    enum vouch_polling polling;
    int64_t polling_budget;
    struct os_wake control; /* raised by interrupt, and when all is stopped */
    struct source control_source;
    bool looped; /* driven by a foreign loop */

    atomic_int state;      /* enum server_state; changed under lock */
    atomic_uint available; /* workers that are not in a handler */
    atomic_uint turns;
    atomic_uint_fast64_t connections, live_connections, calls, in_flight, cancels, lost;
    atomic_bool watching; /* the watch's timer is set */
    atomic_uint_fast64_t takeovers;
    atomic_uint_fast64_t cut_malformed, cut_timeout, cut_output;
    atomic_uint_fast64_t errors[VOUCH_REMOTE_UNKNOWN + 1];

    pthread_mutex_t conns_lock;
    struct server_conn *conns;
    struct server_traffic gone; /* of those that have ended */

    pthread_mutex_t lock;   /* for what follows */
    pthread_cond_t changed; /* a call was cancelled or ended, output went out, a worker left */
    struct server_listener *listeners, *free_listeners;
    struct serving *servings;
    struct server_conn *ready_head, *ready_tail;
    struct share_table shares;
    struct server_conn *free_conns;
    size_t conns_taken; /* structs that are not in free_conns */
    struct vouch_call *free_calls;
    size_t free_call_count;
    size_t calls_out; /* records that are not in free_calls, and holds of the server */
    struct timer_heap timers;
    struct source watch; /* over handlers that run with the reading in hand */
    int64_t alarm_at;
    bool alarm_failed; /* … to be set, the last time */
    struct worker *workers, *exited;
    unsigned worker_count;
    unsigned guards; /* of them those that stay with a connection: see server_read.c */
    bool stopping;   /* a thread is in vouch_server_stop */
    int stop_result;
    int64_t drain_until; /* foreign loop */
};

/* ---- server.c ---- */

/* Between the two the server is not freed. Any lock but server->lock may be held by the first, none
 * by the second. */
void server_hold(struct vouch_server *server);
void server_let_go(struct vouch_server *server);

/* How such a link is to be served: 0; -EINVAL, -ENOTSUP, VOUCH_E_NO_IDENTITY, -ENOMEM. `options`
 * may be NULL. */
int server_get_serving(struct vouch_server *server, enum vouch_link link,
                       const struct vouch_serve_options *options,
                       const struct serving **ret_serving) VOUCH_MUST_CHECK;

/* ---- server_worker.c ---- */

int server_start_workers(struct vouch_server *server) VOUCH_MUST_CHECK;
void server_join_workers(struct vouch_server *server); /* waits for all of them to leave */

/* Begins a handler that may block: sees to it that a worker is left for everything else. False:
 * there is no place for it, in all or for its user. The call has been taken over then: a worker
 * that comes out of a handler runs it. True: server_run_handler is the caller's to call. */
bool server_enter_handler(struct vouch_server *server, struct vouch_call *call) VOUCH_MUST_CHECK;
/* Runs the call, and then those that have waited for its place. */
void server_run_handler(struct vouch_server *server, struct vouch_call *call);

/* The worker of this server that the calling thread is, or NULL. */
struct worker *server_worker(const struct vouch_server *server);

/* Whether something else is ready while this worker stays with a connection; it is what the worker
 * does next. */
bool server_others_are_ready(struct vouch_server *server);

/* Marks this worker as one that is in a handler: false, if it is the last that is not. */
bool server_give_up_being_available(struct vouch_server *server) VOUCH_MUST_CHECK;

/* Has some worker read on where no event will come. Takes over the caller's ownership of the
 * reading. */
void server_queue_ready(struct vouch_server *server, struct server_conn *conn);

/* Ends those that were still queued when the last worker left. All connections have been cut. */
void server_drop_ready(struct vouch_server *server);

/* Deals with what is ready, waiting for it until `deadline`. Returns a negative code when the
 * poller fails. */
int server_turn(struct vouch_server *server, int64_t deadline) VOUCH_MUST_CHECK;

/* A place for the timer of one source more, so that it can always be set: 0 or -ENOMEM.
 * Server->lock held. */
int server_reserve_timer(struct vouch_server *server) VOUCH_MUST_CHECK;

/* Moves a source's timer (VOUCH_FOREVER: none). Any lock but server->lock may be held. */
void server_set_timer(struct vouch_server *server, struct source *source, int64_t deadline);

void server_set_timer_locked(struct vouch_server *server, struct source *source,
                             int64_t deadline); /* under server->lock */

/* Wakes those who wait for `changed`. Server->lock not held. */
void server_notify(struct vouch_server *server);

/* ---- server_listener.c ---- */

void server_listener_event(struct vouch_server *server, struct server_listener *listener);
void server_listener_expire(struct vouch_server *server, struct server_listener *listener);
void server_close_listeners(struct vouch_server *server);
void server_free_listeners(struct vouch_server *server); /* nobody else may be in the server */

/* ---- server_conn.c ---- */

/* Serves a connection; takes it over on success only. */
int server_conn_add(struct vouch_server *server, struct vouch_conn *conn,
                    const struct serving *serving) VOUCH_MUST_CHECK;
/* The same for one that `guest` calls over. */
int server_conn_add_peer(struct vouch_server *server, struct vouch_conn *conn,
                         struct vouch_client *guest,
                         const struct peer_hooks *hooks) VOUCH_MUST_CHECK;

void server_conn_event(struct server_conn *conn, unsigned events); /* from the poller */
void server_conn_ready(struct server_conn *conn);                  /* from the ready queue */
void server_conn_expire(struct server_conn *conn); /* its timer; takes a reference over */

/* Arms, queues or ends the connection, and sets its timer, as its state asks for. Link's lock held.
 */
void server_conn_update(struct server_conn *conn);
void server_conn_unref(struct server_conn *conn); /* no lock held */

/* Whether something still waits to be sent on any connection. */
bool server_has_output(struct vouch_server *server);
/* Ends all connections. */
void server_cut_all(struct vouch_server *server);
/* Of all connections since the start. */
void server_get_traffic(struct vouch_server *server, struct server_traffic *ret_traffic);

/* ---- server_read.c ---- */

/* This thread owns the reading of `conn` from now on. Link's lock held. */
void server_begin_reading(struct server_conn *conn, struct reader *ret_reader);

/* Reads and runs calls until it has been enough, then lets go of the reading. The caller has a
 * reference; no lock is held. */
void server_read_calls(struct reader *reader);

/* After presumed_since has been set under the link's lock: sees to it that somebody looks. */
void server_start_watch(struct vouch_server *server, int64_t now);

/* The watch's timer: takes the reading away from handlers that turn out to be slow. */
void server_watch(struct vouch_server *server);

/* ---- server_call.c ---- */

/* A call out of an event; takes the event's buffer over. NULL when memory is short. Link's lock
 * held. */
struct vouch_call *server_call_new(struct server_conn *conn, const struct session_event *event,
                                   int64_t now);

/* Whether it can be dealt with at once, reading in hand: a quick method, or one that is refused. */
bool server_call_is_quick(const struct vouch_call *call);
void server_call_run(struct vouch_call *call); /* no lock held */

/* ns that this thread has spent in sending large answers, so far. */
int64_t server_time_sending(void);

/* The server whose handler this thread is in, or NULL. */
const struct vouch_server *server_of_this_thread(void);

/* Marks it cancelled; server_notify is the caller's. False: it was already. Link's lock held. */
bool server_call_cancel(struct vouch_call *call);

/* An answer that waits for its time has waited long enough, or is wanted by nobody any more: it is
 * given by server_answer_due, which has to follow without the lock (server_conn_unref does it, so
 * that it also follows on a connection's end, wherever that is seen). Link's lock held. */
void server_call_due(struct vouch_call *call);
void server_answer_all_due(struct server_conn *conn);
/* Each call asks, and there is seldom anything. */
static inline void server_answer_due(struct server_conn *conn) {
    if (atomic_load_explicit(&conn->due, memory_order_relaxed))
        server_answer_all_due(conn);
}

#endif
