/* SPDX-License-Identifier: MIT */
/* One connection of the server: reading by whoever owns it, and the one place where its state
 * becomes what the poller watches. */
#include <errno.h>
#include <poll.h>

#include "lib/conn.h"
#include "lib/mem.h"
#include "lib/policy.h"
#include "rpc/server.h"

/* ---- coming and going ---- */

static struct server_conn *new_struct(struct vouch_server *server) {
    struct server_conn *conn = mem_zalloc(server->allocator, sizeof(*conn));
    if (conn) {
        conn->source.kind = SOURCE_CONN;
        conn->server = server;
        pthread_mutex_init(&conn->link.lock, NULL);
    }
    return conn;
}

static struct server_conn *conn_take(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    bool room = server_reserve_timer(server) == 0;
    struct server_conn *conn = room ? server->free_conns : NULL;
    if (conn)
        server->free_conns = conn->next;
    else if (room)
        conn = new_struct(server);
    server->conns_taken += conn != NULL;
    pthread_mutex_unlock(&server->lock);
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
    server->conns_taken--;
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

static void add_traffic(struct server_traffic *sum, const struct server_conn *conn) {
    struct vouch_polling_stats polling;
    polling_get_stats(&conn->polling, &polling);
    sum->bytes_sent += conn->link.bytes_sent;
    sum->bytes_received += conn->link.bytes_received;
    sum->polling.paid += polling.paid;
    sum->polling.unpaid += polling.unpaid;
    sum->polling.sleeps += polling.sleeps;
}

/* Its numbers go over to those of the gone in the same moment, so that no sum ever shrinks. */
static void delist(struct server_conn *conn) {
    struct vouch_server *server = conn->server;
    pthread_mutex_lock(&server->conns_lock);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    add_traffic(&server->gone, conn);
    pthread_mutex_unlock(&server->conns_lock);
}

void server_conn_unref(struct server_conn *conn) {
    server_answer_due(conn);
    if (atomic_fetch_sub(&conn->references, 1) != 1)
        return;
    struct vouch_server *server = conn->server;
    struct link *link = &conn->link;
    if (server->on_close)
        server->on_close(server->context, conn->number, vouch_conn_get_peer(link->conn));
    delist(conn);
    pthread_mutex_lock(&link->lock); /* for an event that comes too late */
    session_deinit(&link->session);
    struct vouch_conn *gone = link->conn;
    link->conn = NULL;
    pthread_mutex_unlock(&link->lock);
    vouch_conn_free(gone);
    conn_give_back(conn);
}

static int begin_session(struct server_conn *conn, const struct vouch_client *guest,
                         const struct dialect_choice *choice) {
    struct vouch_server *server = conn->server;
    struct session_limits limits = guest ? peer_limits(server, guest) : server->limits;
    int r = session_init(&conn->link.session, guest ? SESSION_PEER : SESSION_SERVER, &limits,
                         server->pool, server->allocator);
    return r < 0 ? r : link_speak(&conn->link, choice);
}

static int add(struct vouch_server *server, struct vouch_conn *connection,
               const struct dialect_choice *choice, struct vouch_client *guest,
               const struct peer_hooks *hooks) {
    struct server_conn *conn = conn_take(server);
    if (!conn)
        return -ENOMEM;
    struct link *link = &conn->link;
    pthread_mutex_lock(&link->lock);
    /* A guest's calls may come as soon as it has entered. */
    atomic_store(&conn->references, 2); /* being open, and us */
    link->conn = connection;
    link->sending = link->blocked = link->corked = link->broken = false;
    link->send_room_max = server->send_room_max;
    int r = begin_session(conn, guest, choice);
    if (r == 0)
        r = take_share(conn, vouch_conn_get_peer(connection));
    if (r == 0 && guest)
        r = peer_enter(conn, guest, hooks);
    if (r == 0)
        r = poller_add(server->poller, vouch_conn_get_fd(connection), 0, conn);
    if (r < 0) {
        conn->hooks = (struct peer_hooks){0};
        peer_leave(conn, -ECONNRESET);
        link->conn = NULL;
        session_deinit(&link->session);
        pthread_mutex_unlock(&link->lock);
        conn_give_back(conn);
        return r;
    }
    link->bytes_sent = link->bytes_received = 0;
    link->clock_until = 0;
    conn->reading = conn->napping = false;
    conn->presumed_since = conn->called_at = 0;
    polling_init(&conn->polling, server->polling, server->polling_budget,
                 polling_room_of_process());
    conn->armed = 0;
    conn->timer_at = VOUCH_FOREVER;
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
    if (guest)
        link_flush(link); /* our hello, and calls that did not wait for it */
    server_conn_update(conn);
    pthread_mutex_unlock(&link->lock);
    server_conn_unref(conn);
    return 0;
}

int server_conn_add(struct vouch_server *server, struct vouch_conn *connection,
                    const struct serving *serving) {
    return add(server, connection, &serving->choice, NULL, NULL);
}

int server_conn_add_peer(struct vouch_server *server, struct vouch_conn *connection,
                         struct vouch_client *guest, const struct peer_hooks *hooks) {
    static const struct dialect_choice native = {.native = true};
    return add(server, connection, &native, guest, hooks);
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
    peer_leave(conn, session_failure(&conn->link.session));
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
        if (conn->reading) {
            if (conn->napping)
                vouch_conn_close(conn->link.conn); /* wakes who owns the reading */
            return;                                /* who sees it when he is done */
        }
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

/* ---- events ---- */

/* A late event of the struct's last connection may say what is not true of this one. */
static bool hung_up(const struct server_conn *conn) {
    struct pollfd fd = {.fd = vouch_conn_get_fd(conn->link.conn)};
    return poll(&fd, 1, 0) == 1;
}

void server_conn_event(struct server_conn *conn, unsigned events) {
    struct link *link = &conn->link;
    struct reader reader;
    bool read = false;
    pthread_mutex_lock(&link->lock);
    if (!conn->open) {
        pthread_mutex_unlock(&link->lock);
        return;
    }
    atomic_fetch_add(&conn->references, 1);
    conn->armed = 0;
    if (events & POLLER_OUT)
        link_flush_corked(link); /* a cork is for answers to come: these have waited long enough */
    if (conn->open && (events & (POLLER_IN | POLLER_HUP)) && !conn->reading) {
        if (session_wants_input(&link->session)) {
            conn->reading = read = true;
            server_begin_reading(conn, &reader);
        } else if ((events & POLLER_HUP) && hung_up(conn)) {
            session_fail(&link->session, -ECONNRESET);
        }
    }
    server_conn_update(conn);
    pthread_mutex_unlock(&link->lock);
    if (read)
        server_read_calls(&reader);
    if ((events & POLLER_OUT) && atomic_load(&conn->server->state) != SERVER_RUNNING)
        server_notify(conn->server); /* who drains looks whether all is sent */
    server_conn_unref(conn);
}

void server_conn_ready(struct server_conn *conn) {
    struct reader reader;
    pthread_mutex_lock(&conn->link.lock);
    server_begin_reading(conn, &reader);
    pthread_mutex_unlock(&conn->link.lock);
    server_read_calls(&reader);
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
            struct vouch_call *call = (struct vouch_call *)event.slot;
            if (event.type == SESSION_EVENT_DUE)
                server_call_due(call);
            else
                cancelled = server_call_cancel(call) || cancelled;
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
        some = conn->open && !conn->link.broken && conn->link.session.out.bytes > 0;
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

void server_get_traffic(struct vouch_server *server, struct server_traffic *ret_traffic) {
    pthread_mutex_lock(&server->conns_lock);
    *ret_traffic = server->gone;
    for (struct server_conn *conn = server->conns; conn; conn = conn->next) {
        pthread_mutex_lock(&conn->link.lock);
        add_traffic(ret_traffic, conn);
        pthread_mutex_unlock(&conn->link.lock);
    }
    pthread_mutex_unlock(&server->conns_lock);
}
