/* SPDX-License-Identifier: MIT */
/* One connection of the server: reading by whoever owns it, and the one place where its state
 * becomes what the poller watches. */
#include <errno.h>
#include <poll.h>

#include "lib/conn.h"
#include "lib/mem.h"
#include "lib/policy.h"
#include "rpc/server.h"

/* Messages that are dealt with, and receives, before other connections get their turn. */
#define TURN_MESSAGES 64
#define TURN_RECEIVES 16

/* ---- coming and going ---- */

static struct server_conn *conn_take(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    struct server_conn *conn = server->free_conns;
    if (conn)
        server->free_conns = conn->next;
    /* A place in the heap, so that its timer can always be set. */
    size_t timers = (size_t)atomic_load(&server->live_connections) + 2;
    for (struct server_listener *l = server->listeners; l; l = l->next)
        timers++;
    bool room = timer_heap_reserve(&server->timers, timers) == 0;
    if (conn && !room) {
        conn->next = server->free_conns;
        server->free_conns = conn;
    }
    pthread_mutex_unlock(&server->lock);
    if (conn || !room)
        return room ? conn : NULL;
    conn = mem_zalloc(server->allocator, sizeof(*conn));
    if (conn) {
        conn->source.kind = SOURCE_CONN;
        conn->server = server;
        pthread_mutex_init(&conn->link.lock, NULL);
    }
    return conn;
}

/* Half of the handlers at most for a user that is not ours: the rest is for the others. */
static int take_share(struct server_conn *conn, const struct vouch_identity *peer) {
    struct vouch_server *server = conn->server;
    uid_t uid = peer->known & VOUCH_KNOWN_UID ? peer->uid : (uid_t)-1;
    unsigned limit = uid == policy_self_uid() ? server->workers_max : server->workers_per_uid;
    pthread_mutex_lock(&server->lock);
    conn->share = share_get(&server->shares, uid, limit);
    pthread_mutex_unlock(&server->lock);
    return conn->share ? 0 : -ENOMEM;
}

static void conn_give_back(struct server_conn *conn) {
    struct vouch_server *server = conn->server;
    pthread_mutex_lock(&server->lock);
    share_put(&server->shares, conn->share);
    conn->share = NULL;
    conn->next = server->free_conns;
    server->free_conns = conn;
    pthread_mutex_unlock(&server->lock);
}

static void enlist(struct server_conn *conn) {
    struct vouch_server *server = conn->server;
    pthread_mutex_lock(&server->conns_lock);
    conn->previous = NULL;
    conn->next = server->conns;
    if (conn->next)
        conn->next->previous = conn;
    server->conns = conn;
    pthread_mutex_unlock(&server->conns_lock);
}

static void delist(struct server_conn *conn) {
    struct vouch_server *server = conn->server;
    pthread_mutex_lock(&server->conns_lock);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    pthread_mutex_unlock(&server->conns_lock);
}

void server_conn_unref(struct server_conn *conn) {
    if (atomic_fetch_sub(&conn->references, 1) != 1)
        return;
    struct vouch_server *server = conn->server;
    struct link *link = &conn->link;
    if (server->on_close)
        server->on_close(server->context, conn->number, vouch_conn_get_peer(link->conn));
    delist(conn);
    atomic_fetch_add_explicit(&server->bytes_sent, link->bytes_sent, memory_order_relaxed);
    atomic_fetch_add_explicit(&server->bytes_received, link->bytes_received, memory_order_relaxed);
    pthread_mutex_lock(&link->lock); /* for an event that comes too late */
    session_deinit(&link->session);
    struct vouch_conn *gone = link->conn;
    link->conn = NULL;
    pthread_mutex_unlock(&link->lock);
    vouch_conn_free(gone);
    conn_give_back(conn);
}

int server_conn_add(struct vouch_server *server, struct vouch_conn *connection) {
    struct server_conn *conn = conn_take(server);
    if (!conn)
        return -ENOMEM;
    struct link *link = &conn->link;
    pthread_mutex_lock(&link->lock);
    int r = session_init(&link->session, SESSION_SERVER, &server->limits, server->pool,
                         server->allocator);
    if (r == 0)
        r = take_share(conn, vouch_conn_get_peer(connection));
    if (r == 0)
        r = poller_add(server->poller, vouch_conn_get_fd(connection), 0, conn);
    if (r < 0) {
        session_deinit(&link->session);
        pthread_mutex_unlock(&link->lock);
        conn_give_back(conn);
        return r;
    }
    link->conn = connection;
    link->sending = link->blocked = link->corked = link->broken = false;
    link->bytes_sent = link->bytes_received = 0;
    conn->reading = false;
    conn->armed = 0;
    conn->timer_at = VOUCH_FOREVER;
    atomic_store(&conn->references, 2); /* being open, and us */
    conn->number = atomic_fetch_add(&server->connections, 1) + 1;
    atomic_fetch_add(&server->live_connections, 1);
    pthread_mutex_unlock(&link->lock);

    if (server->on_open)
        server->on_open(server->context, conn->number, vouch_conn_get_peer(connection));
    enlist(conn);
    pthread_mutex_lock(&link->lock);
    conn->open = true; /* not earlier: a late event of its predecessor must not begin to read */
    if (atomic_load(&server->state) == SERVER_STOPPED) /* server_cut_all may have missed it */
        session_fail(&link->session, -ESHUTDOWN);
    server_conn_update(conn);
    pthread_mutex_unlock(&link->lock);
    server_conn_unref(conn);
    return 0;
}

/* ---- the end ---- */

static void count_end(struct vouch_server *server, int failure) {
    atomic_uint_fast64_t *counter = NULL;
    if (failure == -EPROTO || failure == -EMSGSIZE)
        counter = &server->cut_malformed;
    else if (failure == -ETIMEDOUT)
        counter = &server->cut_timeout;
    else if (failure == -ENOBUFS)
        counter = &server->cut_output;
    if (counter)
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void cancel_all(struct server_conn *conn) {
    struct idtable *requests = &conn->link.session.requests;
    for (size_t i = 0; i < requests->bucket_count; i++)
        for (struct idtable_node *node = requests->buckets[i]; node; node = node->next)
            server_call_cancel((struct vouch_call *)node);
}

/* The connection's end, by whoever owns its reading, with a reference beyond the one of being open.
 * Link's lock held. */
static void finish(struct server_conn *conn) {
    struct vouch_server *server = conn->server;
    conn->open = false;
    poller_remove(server->poller, vouch_conn_get_fd(conn->link.conn));
    vouch_conn_close(conn->link.conn);
    server_set_timer(server, &conn->source, VOUCH_FOREVER);
    count_end(server, session_failure(&conn->link.session));
    cancel_all(conn);
    atomic_fetch_sub(&server->live_connections, 1);
    server_notify(server);
    atomic_fetch_sub(&conn->references, 1); /* never the last: the caller has one */
}

/* A peer that takes no more bytes is gone once it has nothing more to say, which we only see while
 * we read. */
static bool must_end(struct server_conn *conn) {
    struct session *session = &conn->link.session;
    if (conn->link.broken && !session_wants_input(session))
        session_fail(session, -ECONNRESET);
    return session_failure(session) != 0;
}

static void arm(struct server_conn *conn, unsigned wanted) {
    struct vouch_server *server = conn->server;
    if ((wanted & ~conn->armed) == 0)
        return;
    conn->armed |= wanted;
    if (poller_arm(server->poller, vouch_conn_get_fd(conn->link.conn), conn->armed, conn) < 0) {
        session_fail(&conn->link.session, -ENOMEM);
        conn->reading = true;
        finish(conn);
    }
}

void server_conn_update(struct server_conn *conn) {
    struct session *session = &conn->link.session;
    if (!conn->open)
        return;
    if (must_end(conn)) {
        if (conn->reading)
            return; /* who owns the reading sees it when he is done */
        conn->reading = true;
        finish(conn);
        return;
    }
    int64_t deadline = session_deadline(session);
    if (deadline != conn->timer_at) {
        conn->timer_at = deadline;
        server_set_timer(conn->server, &conn->source, deadline);
    }
    unsigned wanted = link_wants_output(&conn->link) ? POLLER_OUT : 0;
    if (!conn->reading && session_wants_input(session)) {
        if (session_has_message(session)) {
            conn->reading = true;
            server_queue_ready(conn->server, conn);
        } else {
            wanted |= POLLER_IN;
        }
    } else if (!conn->reading) {
        wanted |= POLLER_HUP; /* at a limit; its handlers have to hear that nobody waits for them */
    }
    arm(conn, wanted);
}

/* ---- reading ---- */

/* The next call: 1; 0: more bytes are needed, -EAGAIN: none are wanted now; other codes: the end.
 * Cancels are dealt with here. */
static int next_call(struct server_conn *conn, struct vouch_call **ret_call) {
    struct session_event event;
    bool cancelled = false;
    pthread_mutex_lock(&conn->link.lock);
    int r;
    while ((r = session_next(&conn->link.session, vouch_now(), &event)) == 1) {
        if (event.type == SESSION_EVENT_CALL) {
            *ret_call = server_call_new(conn, &event);
            if (*ret_call)
                break;
            vouch_buffer_unref(event.buffer);
            session_fail(&conn->link.session, -ENOMEM);
        } else {
            if (server_call_cancel((struct vouch_call *)event.slot))
                atomic_fetch_add_explicit(&conn->server->cancels, 1, memory_order_relaxed);
            vouch_buffer_unref(event.buffer);
            cancelled = true;
        }
    }
    if (r == 0 && !session_wants_input(&conn->link.session))
        r = -EAGAIN;
    pthread_mutex_unlock(&conn->link.lock);
    if (cancelled)
        server_notify(conn->server);
    return r;
}

/* Lets go of the reading, after sending what has been answered meanwhile. */
static void release_reading(struct server_conn *conn) {
    struct link *link = &conn->link;
    pthread_mutex_lock(&link->lock);
    link->corked = false;
    link_flush(link);
    conn->reading = false;
    server_conn_update(conn);
    pthread_mutex_unlock(&link->lock);
}

/* Reads and runs calls, until there is nothing left, it has been enough, or a handler is to run
 * that may take long: then the reading is handed on first. The caller has a reference, and the
 * reading. */
static void read_calls(struct server_conn *conn) {
    struct vouch_call *call = NULL;
    int messages = 0, receives = 0;
    bool full = true;
    for (;;) {
        int r = next_call(conn, &call);
        if (r == 1 && server_call_is_quick(call)) {
            server_call_run(call);
        } else if (r == 1 && server_enter_handler(conn->server, call)) {
            release_reading(conn);
            server_run_handler(conn->server, call);
            return;
        }
        if (r == 1) {
            if (++messages < TURN_MESSAGES)
                continue;
            break;
        }
        if (r < 0 || !full || ++receives > TURN_RECEIVES || link_receive(&conn->link, &full) <= 0)
            break;
    }
    release_reading(conn);
}

static void begin_reading(struct server_conn *conn) {
    conn->link.corked = true;
}

/* A late event of the struct's last connection may say what is not true of this one. */
static bool hung_up(const struct server_conn *conn) {
    struct pollfd fd = {.fd = vouch_conn_get_fd(conn->link.conn)};
    return poll(&fd, 1, 0) == 1;
}

void server_conn_event(struct server_conn *conn, unsigned events) {
    struct link *link = &conn->link;
    bool read = false;
    pthread_mutex_lock(&link->lock);
    if (!conn->open) {
        pthread_mutex_unlock(&link->lock);
        return;
    }
    atomic_fetch_add(&conn->references, 1);
    conn->armed = 0;
    if (events & POLLER_OUT)
        link_flush(link);
    if (conn->open && (events & (POLLER_IN | POLLER_HUP)) && !conn->reading) {
        if (session_wants_input(&link->session)) {
            conn->reading = read = true;
            begin_reading(conn);
        } else if ((events & POLLER_HUP) && hung_up(conn)) {
            session_fail(&link->session, -ECONNRESET);
        }
    }
    server_conn_update(conn);
    pthread_mutex_unlock(&link->lock);
    if (read)
        read_calls(conn);
    if ((events & POLLER_OUT) && atomic_load(&conn->server->state) != SERVER_RUNNING)
        server_notify(conn->server); /* who drains looks whether all is sent */
    server_conn_unref(conn);
}

void server_conn_ready(struct server_conn *conn) {
    pthread_mutex_lock(&conn->link.lock);
    begin_reading(conn);
    pthread_mutex_unlock(&conn->link.lock);
    read_calls(conn);
    server_conn_unref(conn); /* the queue's */
}

void server_conn_expire(struct server_conn *conn) {
    struct link *link = &conn->link;
    struct session_event event;
    bool cancelled = false;
    pthread_mutex_lock(&link->lock);
    if (conn->open) {
        conn->timer_at = VOUCH_FOREVER;
        while (session_expire(&link->session, vouch_now(), &event) == 1) {
            server_call_cancel((struct vouch_call *)event.slot);
            cancelled = true;
        }
        link_flush(link);
        server_conn_update(conn);
    }
    pthread_mutex_unlock(&link->lock);
    if (cancelled)
        server_notify(conn->server);
    server_conn_unref(conn);
}

/* ---- all of them ---- */

bool server_has_output(struct vouch_server *server) {
    bool some = false;
    pthread_mutex_lock(&server->conns_lock);
    for (struct server_conn *conn = server->conns; conn && !some; conn = conn->next) {
        pthread_mutex_lock(&conn->link.lock);
        some = conn->open && !conn->link.broken && conn->link.session.out_bytes > 0;
        pthread_mutex_unlock(&conn->link.lock);
    }
    pthread_mutex_unlock(&server->conns_lock);
    return some;
}

void server_cut_all(struct vouch_server *server) {
    struct server_conn *cut = NULL;
    pthread_mutex_lock(&server->conns_lock);
    for (struct server_conn *conn = server->conns; conn; conn = conn->next) {
        pthread_mutex_lock(&conn->link.lock);
        if (conn->open) {
            atomic_fetch_add(&conn->references, 1);
            conn->walk_next = cut;
            cut = conn;
            session_fail(&conn->link.session, -ESHUTDOWN);
            vouch_conn_close(conn->link.conn);
            server_conn_update(conn);
        }
        pthread_mutex_unlock(&conn->link.lock);
    }
    pthread_mutex_unlock(&server->conns_lock);
    while (cut) {
        struct server_conn *next = cut->walk_next;
        server_conn_unref(cut);
        cut = next;
    }
}

void server_add_live_bytes(struct vouch_server *server, struct vouch_server_stats *stats) {
    pthread_mutex_lock(&server->conns_lock);
    for (struct server_conn *conn = server->conns; conn; conn = conn->next) {
        pthread_mutex_lock(&conn->link.lock);
        stats->bytes_received += conn->link.bytes_received;
        stats->bytes_sent += conn->link.bytes_sent;
        pthread_mutex_unlock(&conn->link.lock);
    }
    pthread_mutex_unlock(&server->conns_lock);
}
