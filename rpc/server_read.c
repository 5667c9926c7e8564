/* SPDX-License-Identifier: MIT */
/*
 * Reading a connection: one worker at a time takes its bytes and runs its calls.
 *
 * A handler that may block must not hold up what comes behind it: the reading is handed on before
 * it runs. Handing on costs two system calls and a thread that is woken, more than most calls cost
 * in all, so it is saved where that is safe:
 *
 *   - Methods that are declared quick, and calls that are refused, run with the reading in hand.
 *   - So do methods that have been quick often enough, while calls come densely (presume()). Should
 *     such a one block after all, the watch takes the reading away from its worker, and the method
 *     has to earn its good name again. Whoever runs it has first seen to it that another worker is
 *     free to be the watch.
 *
 * Answers of a batch leave together (link.corked), or after CORK_TIME.
 *
 * A worker that keeps getting the same connection stays with it: it polls while that pays, and
 * sleeps in recv instead of the poller, as long as another worker is there for everything else.
 */
#include <errno.h>

#include "lib/clock.h"
#include "lib/conn.h"
#include "rpc/server.h"

/* Messages that are dealt with, and receives, before other connections get their turn. */
#define TURN_MESSAGES 64
#define TURN_RECEIVES 16
/* Waits on the spot before the poller is asked whether others are ready. */
#define TURN_WAITS 64
/* Times in a row that a worker gets the same connection before it stays. */
#define STAY_STREAK 2
/* Answers wait no longer for those of the calls behind them. */
#define CORK_TIME ((int64_t)25 * 1000)
/* Calls that follow each other so closely are worth presuming (and watching) something. */
#define DENSE VOUCH_MILLISECONDS(1)
/* How often the watch looks, and what it takes for blocking: what comes behind is held up for at
 * most the sum. */
#define WATCH_PERIOD VOUCH_MILLISECONDS(2)
#define WATCH_PATIENCE VOUCH_MILLISECONDS(1)
/* Workers that one look of the watch can deal with. */
#define WATCH_WORKERS 64

enum next { NEXT_CALL, NEXT_NOTHING, NEXT_TURN, NEXT_END, NEXT_LOST };

/* ---- the guard: another worker is there for everything else ---- */

/* Both numbers change at once: who looks for a place for a handler counts with them. Not more
 * workers than are kept, and than the watch looks after. */
static bool take_guard(struct vouch_server *server, struct worker *self, struct server_conn *conn) {
    pthread_mutex_lock(&server->lock);
    bool taken = server->guards < WATCH_WORKERS && server->guards < server->workers_min &&
                 server_give_up_being_available(server);
    if (taken) {
        server->guards++;
        self->guards = conn;
    }
    pthread_mutex_unlock(&server->lock);
    return taken;
}

static bool guard(struct reader *reader) {
    struct vouch_server *server = reader->conn->server;
    struct worker *self = server_worker(server);
    if (!reader->guarded && self)
        reader->guarded = take_guard(server, self, reader->conn);
    return reader->guarded;
}

static void unguard(struct reader *reader) {
    struct vouch_server *server = reader->conn->server;
    if (!reader->guarded)
        return;
    reader->guarded = false;
    pthread_mutex_lock(&server->lock);
    server_worker(server)->guards = NULL;
    server->guards--;
    atomic_fetch_add(&server->available, 1);
    pthread_mutex_unlock(&server->lock);
}

/* ---- presuming that a method is quick ---- */

/* server_watch() either sees what is presumed, or has cleared `watching` before. */
void server_start_watch(struct vouch_server *server, int64_t now) {
    if (!atomic_load(&server->watching) && !atomic_exchange(&server->watching, true))
        server_set_timer(server, &server->watch, now + WATCH_PERIOD);
}

/* Link's lock held. */
static bool presume(struct reader *reader, const struct vouch_call *call, bool dense, int64_t now) {
    struct server_conn *conn = reader->conn;
    if (!dense || !method_is_quick(call->method) || !guard(reader))
        return false;
    reader->presumed = conn->presumed = call->method;
    conn->presumed_call = call;
    conn->presumed_since = now;
    reader->began = now - server_time_sending();
    server_start_watch(conn->server, now);
    return true;
}

/* The call has returned. Link's lock held, reading in hand. */
static void was_quick(struct reader *reader, int64_t now) {
    if (!reader->presumed)
        return;
    method_ran(reader->presumed, now - server_time_sending() - reader->began);
    reader->presumed = NULL;
    reader->conn->presumed_since = 0;
    reader->conn->presumed_call = NULL;
}

/* Takes the reading away from a handler that blocks. True: the connection is to be watched on. */
static bool watch(struct server_conn *conn, int64_t now) {
    struct link *link = &conn->link;
    pthread_mutex_lock(&link->lock);
    bool watched = conn->open && (conn->presumed_since != 0 || now - conn->called_at < DENSE);
    if (!conn->open || conn->presumed_since == 0 || now - conn->presumed_since < WATCH_PATIENCE) {
        pthread_mutex_unlock(&link->lock);
        return watched;
    }
    atomic_fetch_add(&conn->references, 1);
    method_blocked(conn->presumed);
    atomic_fetch_add_explicit(&conn->server->takeovers, 1, memory_order_relaxed);
    conn->turn++;
    conn->presumed_since = 0;
    conn->presumed_call = NULL;
    conn->reading = false;
    link->corked = false;
    link_flush(link);
    server_conn_update(conn);
    pthread_mutex_unlock(&link->lock);
    server_conn_unref(conn);
    return true;
}

void server_watch(struct vouch_server *server) {
    struct server_conn *guarded[WATCH_WORKERS];
    size_t count = 0;
    int64_t now = vouch_now();
    bool on = false;
    atomic_store(&server->watching, false);
    pthread_mutex_lock(&server->lock);
    for (struct worker *w = server->workers; w && count < WATCH_WORKERS; w = w->next)
        if ((guarded[count] = w->guards))
            count++;
    pthread_mutex_unlock(&server->lock);
    for (size_t i = 0; i < count; i++)
        on |= watch(guarded[i], now); /* structs of connections stay, see server.h */
    if (on)
        server_start_watch(server, now);
}

/* ---- the next call ---- */

/* Answers that have waited long enough leave. Lock held. */
static void flush_late(struct reader *reader, int64_t now) {
    struct link *link = &reader->conn->link;
    if (!link->corked || now - reader->corked_at < CORK_TIME)
        return;
    link_flush_corked(link);
    reader->corked_at = now;
}

static bool in_hand(struct reader *reader, const struct vouch_call *call, int64_t now) {
    bool dense = now - reader->conn->called_at < DENSE;
    reader->conn->called_at = now;
    return server_call_is_quick(call) || presume(reader, call, dense, now);
}

/* Reports a cancel to its call. */
static bool cancel(struct server_conn *conn, const struct session_event *event) {
    if (server_call_cancel((struct vouch_call *)event->slot))
        atomic_fetch_add_explicit(&conn->server->cancels, 1, memory_order_relaxed);
    vouch_buffer_unref(event->buffer);
    return true;
}

/* What is no call. Lock held. */
static void take_other(struct server_conn *conn, struct session_event *event, bool *ret_cancelled) {
    if (event->type == SESSION_EVENT_CANCEL)
        *ret_cancelled = cancel(conn, event);
    else if (event->type != SESSION_EVENT_NONE) {
        peer_take(conn, event);
        vouch_buffer_unref(event->buffer);
    }
}

/* Takes messages up to the next call, or to the end of the turn: others count as calls do. Lock
 * held. */
static enum next take_call(struct reader *reader, struct vouch_call **ret_call, bool *ret_in_hand,
                           bool *ret_cancelled) {
    struct server_conn *conn = reader->conn;
    struct session *session = &conn->link.session;
    struct session_event event;
    int64_t now = vouch_now();
    int r;
    was_quick(reader, now);
    flush_late(reader, now);
    while ((r = session_next(session, now, &event)) == 1) {
        if (event.type != SESSION_EVENT_CALL) {
            take_other(conn, &event, ret_cancelled);
            if (++reader->messages >= TURN_MESSAGES)
                return NEXT_TURN;
            continue;
        }
        *ret_call = server_call_new(conn, &event, now);
        if (*ret_call) {
            *ret_in_hand = in_hand(reader, *ret_call, now);
            return NEXT_CALL;
        }
        vouch_buffer_unref(event.buffer);
        session_fail(session, -ENOMEM);
    }
    reader->partial = vouch_chunk_decoder_partial(&session->decoder);
    return r < 0 || !session_wants_input(session) ? NEXT_END : NEXT_NOTHING;
}

static enum next next_call(struct reader *reader, struct vouch_call **ret_call, bool *ret_in_hand) {
    struct server_conn *conn = reader->conn;
    bool cancelled = false;
    pthread_mutex_lock(&conn->link.lock);
    enum next next = conn->turn == reader->turn
                         ? take_call(reader, ret_call, ret_in_hand, &cancelled)
                         : NEXT_LOST;
    pthread_mutex_unlock(&conn->link.lock);
    if (cancelled)
        server_notify(conn->server);
    server_answer_due(conn);
    return next;
}

/* ---- staying ---- */

static bool may_stay(struct reader *reader) {
    const struct server_conn *conn = reader->conn;
    const struct worker *self = server_worker(conn->server);
    if (!self || self->last != conn || self->streak < STAY_STREAK)
        return false;
    if (++reader->waits % TURN_WAITS == 0 && server_others_are_ready(conn->server))
        return false;
    return atomic_load_explicit(&conn->server->state, memory_order_relaxed) == SERVER_RUNNING;
}

/* Sends what has been answered; whether more input may be waited for, and where it goes. */
static bool settle(struct server_conn *conn, struct iovec *ret_space) {
    struct link *link = &conn->link;
    pthread_mutex_lock(&link->lock);
    link->corked = false;
    link_flush(link);
    server_conn_update(conn);
    bool may = conn->open && session_failure(&link->session) == 0 &&
               session_wants_input(&link->session) && !link_wants_output(link) &&
               link_space(link, ret_space) == 0;
    pthread_mutex_unlock(&link->lock);
    return may;
}

static ssize_t nap(struct reader *reader, const struct iovec *space) {
    struct server_conn *conn = reader->conn;
    if (!guard(reader))
        return -EAGAIN;
    pthread_mutex_lock(&conn->link.lock);
    conn->napping = session_failure(&conn->link.session) == 0;
    pthread_mutex_unlock(&conn->link.lock);
    ssize_t got = conn_recv_nap(conn->link.conn, space->iov_base, space->iov_len);
    polling_slept(&conn->polling, vouch_now());
    return got;
}

/* Waits for the next bytes on the spot. False: none have come, or it is time for others. */
static bool stay(struct reader *reader) {
    struct server_conn *conn = reader->conn;
    struct link *link = &conn->link;
    struct iovec space;
    if (!may_stay(reader) || !settle(conn, &space))
        return false;
    ssize_t got = link_look(link, &conn->polling, NULL, &space);
    if (got == -EAGAIN)
        got = nap(reader, &space);
    if (got == -EAGAIN)
        server_worker(conn->server)->streak = 0;
    pthread_mutex_lock(&link->lock);
    conn->napping = false;
    reader->corked_at = vouch_now();
    int r = link_received(link, got, reader->corked_at);
    link->corked = true;
    pthread_mutex_unlock(&link->lock);
    reader->full = got > 0 && link_may_have_more(link, (size_t)got, space.iov_len);
    reader->messages = reader->receives = 0;
    return r > 0;
}

/* ---- reading ---- */

void server_begin_reading(struct server_conn *conn, struct reader *ret_reader) {
    struct worker *self = server_worker(conn->server);
    conn->link.corked = true;
    *ret_reader =
        (struct reader){.conn = conn, .turn = conn->turn, .full = true, .corked_at = vouch_now()};
    if (!self)
        return;
    self->streak = self->last == conn ? self->streak + 1 : 0;
    self->last = conn;
}

/* Lets go of the reading, after sending what has been answered meanwhile. */
static void release(struct reader *reader) {
    struct server_conn *conn = reader->conn;
    struct link *link = &conn->link;
    pthread_mutex_lock(&link->lock);
    if (conn->turn == reader->turn) {
        was_quick(reader, vouch_now());
        link->corked = false;
        link_flush(link);
        conn->reading = false;
        server_conn_update(conn);
    }
    pthread_mutex_unlock(&link->lock);
    unguard(reader);
}

/* Bytes, if there may be some already: the last recv was full, or the rest of a message is on its
 * way. */
static bool receive(struct reader *reader) {
    return (reader->full || reader->partial) && reader->receives++ < TURN_RECEIVES &&
           link_receive(&reader->conn->link, &reader->full) > 0;
}

void server_read_calls(struct reader *reader) {
    struct vouch_server *server = reader->conn->server;
    struct vouch_call *call = NULL;
    bool quick = false;
    for (;;) {
        enum next next = next_call(reader, &call, &quick);
        if (next == NEXT_CALL && quick) {
            server_call_run(call);
        } else if (next == NEXT_CALL) {
            unguard(reader);
            if (server_enter_handler(server, call)) {
                release(reader);
                server_run_handler(server, call);
                return;
            }
        }
        if (next == NEXT_CALL ? ++reader->messages >= TURN_MESSAGES
                              : next != NEXT_NOTHING || (!receive(reader) && !stay(reader)))
            break;
    }
    release(reader);
}
