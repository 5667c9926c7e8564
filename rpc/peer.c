/* SPDX-License-Identifier: MIT */
/*
 * Between a guest and the connection that it calls over.
 *
 * Out: what the guest has queued is moved into the connection's queue by whoever flushes that
 * (`refill`), so one socket has one sender as everywhere. In: the reader hands replies over. Both
 * happen under the link's lock with the guest's taken for a moment. The guest's own threads come
 * from the other side: they let go of the guest's lock first, holding the connection and its server
 * by references meanwhile.
 */
#include "rpc/peer.h"

#include <errno.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/conn.h"
#include "lib/options.h"
#include "rpc/client.h"
#include "rpc/server.h"

/* ---- holding a connection that may end meanwhile ---- */

/* Guest's lock held. NULL when there is none. */
static struct server_conn *hold(const struct vouch_client *client) {
    struct server_conn *conn = client->host;
    if (!conn)
        return NULL;
    server_hold(conn->server); /* it is there: its end would have detached us */
    atomic_fetch_add(&conn->references, 1);
    return conn;
}

static void let_go(struct server_conn *conn) {
    struct vouch_server *server = conn->server;
    server_conn_unref(conn);
    server_let_go(server);
}

/* The same for who holds no lock; returns with the link's lock held. */
static struct server_conn *hold_locked(struct vouch_client *client) {
    client_lock(client);
    struct server_conn *conn = hold(client);
    client_unlock(client);
    if (conn)
        pthread_mutex_lock(&conn->link.lock);
    return conn;
}

static void let_go_locked(struct server_conn *conn) {
    pthread_mutex_unlock(&conn->link.lock);
    let_go(conn);
}

/* ---- the guest's side ---- */

static int new_session(struct vouch_client *client) {
    client->link.clock_until = 0; /* it has to be told the time anew */
    return session_init(&client->link.session, SESSION_GUEST, &client->limits, client->pool,
                        client->allocator);
}

int peer_client_new(const struct vouch_client_options *options, struct vouch_client **ret_client) {
    struct vouch_client_options o = {0};
    struct vouch_client *client;
    OPTIONS_READ(o, options);
    if (o.reconnect)
        return -EINVAL;
    int r = client_create(&o, &client);
    if (r < 0)
        return r;
    r = new_session(client);
    if (r < 0) {
        vouch_client_free(client);
        return r;
    }
    client->guest = client->driving = client->driver_asleep = true;
    session_fail(&client->link.session, -ECONNRESET);
    *ret_client = client;
    return 0;
}

void peer_await(struct vouch_client *client, bool await) {
    client_lock(client);
    client->awaits = await;
    pthread_cond_broadcast(&client->connected);
    client_unlock(client);
}

void peer_refuse(struct vouch_client *client) {
    client_lock(client);
    client->refuses = true;
    pthread_cond_broadcast(&client->connected);
    client_unlock(client);
}

int peer_connect(struct vouch_client *client, int64_t deadline) {
    for (;;) {
        int failure = session_failure(&client->link.session);
        if (client->closed || client->refuses)
            return -ESHUTDOWN;
        if (failure == 0)
            return 0;
        if (!client->awaits || deadline == CLIENT_AT_ONCE)
            return failure;
        if (vouch_now() >= deadline)
            return -ETIMEDOUT;
        client_wait_on(client, &client->connected, deadline);
    }
}

/* What this thread turns. */
static _Thread_local const void *turning;

void peer_set_turner(struct vouch_client *client, const void *turner) {
    client->turner = turner;
}

const void *peer_turn(const void *turner) {
    const void *before = turning;
    turning = turner;
    return before;
}

int peer_may_wait(const struct vouch_client *client) {
    const struct vouch_server *server = client->host ? client->host->server : NULL;
    bool own = client->turner && client->turner == turning;
    if (own && (server ? server->looped : client->awaits && !client->closed && !client->refuses))
        return -EDEADLK;
    return server && server->looped && server_of_this_thread() == server ? -EDEADLK : 0;
}

const struct vouch_identity *peer_identity(const struct vouch_client *client) {
    return client->host ? vouch_identity_ref(vouch_conn_get_peer(client->host->link.conn)) : NULL;
}

void peer_flush(struct vouch_client *client) {
    struct server_conn *conn = hold(client);
    if (!conn)
        return;
    client_unlock(client);
    pthread_mutex_lock(&conn->link.lock);
    if (conn->open) /* else server_conn_add_peer is about to */
        link_flush_corked(&conn->link);
    server_conn_update(conn);
    let_go_locked(conn);
    client_lock(client);
}

static void forget_guest(struct server_conn *conn) {
    conn->guest = NULL;
    conn->hooks = (struct peer_hooks){0};
    conn->link.refill = NULL;
}

void peer_detach(struct vouch_client *client) {
    struct server_conn *conn = hold_locked(client);
    if (!conn)
        return;
    if (conn->guest == client)
        forget_guest(conn);
    client_lock(client);
    client->host = NULL;
    client_unlock(client);
    let_go_locked(conn);
}

/* ---- the connection's side ---- */

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Requests of one side are replies of the other's: what either may be. */
struct session_limits peer_limits(const struct vouch_server *server,
                                  const struct vouch_client *client) {
    const struct session_limits *a = &server->limits, *b = &client->limits;
    struct session_limits limits = *a;
    limits.max_receive = larger(a->max_receive, b->max_receive);
    limits.max_send = larger(a->max_send, b->max_send);
    limits.drain_max = VOUCH_CHUNK_SIZE_BOUND;
    limits.output_soft = SIZE_MAX;
    limits.output_hard = larger(a->output_hard, b->output_hard);
    return limits;
}

/* link_flush is about to look for output. */
static void refill(struct link *link) {
    struct server_conn *conn =
        (struct server_conn *)(void *)((char *)link - offsetof(struct server_conn, link));
    struct vouch_client *client = conn->guest;
    client_lock(client);
    session_relay(&client->link.session, &link->session);
    if (client->room_waiters > 0 && !session_output_full(&client->link.session))
        pthread_cond_broadcast(&client->room);
    client_unlock(client);
}

/* Guest's lock held. */
static int begin(struct vouch_client *client, struct server_conn *conn) {
    if (client->host)
        return -EBUSY;
    if (client->closed)
        return -ESHUTDOWN;
    session_deinit(&client->link.session); /* nothing is in flight: it has failed */
    int r = new_session(client);
    if (r < 0) {
        session_fail(&client->link.session, r);
        return r;
    }
    client->host = conn;
    client->stats.connects++;
    pthread_cond_broadcast(&client->connected);
    return 0;
}

int peer_enter(struct server_conn *conn, struct vouch_client *client,
               const struct peer_hooks *hooks) {
    client_lock(client);
    int r = begin(client, conn);
    /* What fits a packet of the connection's is known there. */
    size_t max_send = conn->link.session.limits.max_send;
    if (r == 0 && client->link.session.limits.max_send > max_send)
        client->link.session.limits.max_send = max_send;
    client_unlock(client);
    if (r < 0)
        return r;
    conn->guest = client;
    conn->hooks = hooks ? *hooks : (struct peer_hooks){0};
    conn->link.refill = refill;
    return 0;
}

void peer_leave(struct server_conn *conn, int failure) {
    struct vouch_client *client = conn->guest;
    struct peer_hooks hooks = conn->hooks;
    if (!client)
        return;
    forget_guest(conn);
    client_lock(client);
    client->host = NULL;
    session_fail(&client->link.session, failure);
    client_complete_all(client, failure);
    client_wake_driver(client);
    if (hooks.gone) /* before the lock is let go of: then the owner may free what it is about */
        hooks.gone(hooks.context);
    client_unlock(client);
}

void peer_take(struct server_conn *conn, struct session_event *event) {
    struct vouch_client *client = conn->guest;
    if (event->type == SESSION_EVENT_STOP) {
        if (conn->hooks.stop)
            conn->hooks.stop(conn->hooks.context);
        return;
    }
    if (!client)
        return;
    client_lock(client);
    if (event->type == SESSION_EVENT_HELLO) {
        session_introduce(&client->link.session, event);
    } else if (session_deliver(&client->link.session, event) == 1) {
        client->link.bytes_received += event->envelope.data_size;
        client_take_reply(client, event);
        event->buffer = NULL;
    }
    client_unlock(client);
}

int peer_attach(struct vouch_server *server, struct vouch_conn *conn, struct vouch_client *client,
                const struct peer_hooks *hooks) {
    if (os_process_epoch() != server->epoch || os_process_epoch() != client->epoch ||
        !conn_is_ours(conn))
        return -ECHILD;
    if (atomic_load(&server->state) > SERVER_RUNNING)
        return -ESHUTDOWN;
    return server_conn_add_peer(server, conn, client, hooks);
}

int vouch_server_add_peer(struct vouch_server *server, struct vouch_conn *conn,
                          const struct vouch_client_options *options,
                          struct vouch_client **ret_client) {
    struct vouch_client_options o = {0};
    struct vouch_client *client;
    OPTIONS_READ(o, options);
    if (!conn || o.dialect)
        return -EINVAL;
    if (conn->link == VOUCH_LINK_TCP && !o.allow_server_without_identity)
        return VOUCH_E_NO_IDENTITY;
    int r = peer_client_new(options, &client);
    if (r < 0)
        return r;
    r = peer_attach(server, conn, client, NULL);
    if (r < 0) {
        vouch_client_free(client);
        return r;
    }
    *ret_client = client;
    return 0;
}

/* ---- what the owner of a connection does with it ---- */

void peer_cut(struct vouch_client *client) {
    struct server_conn *conn = hold_locked(client);
    if (!conn)
        return;
    session_fail(&conn->link.session, -ECONNRESET);
    vouch_conn_close(conn->link.conn);
    peer_leave(conn, -ECONNRESET); /* now, also while another thread is reading it */
    server_conn_update(conn);
    let_go_locked(conn);
}

void peer_hang_up(struct vouch_client *client) {
#ifdef __linux__
    struct server_conn *conn = hold_locked(client);
    if (!conn)
        return;
    if (conn->open)
        (void)shutdown(vouch_conn_get_fd(conn->link.conn), SHUT_RD);
    let_go_locked(conn);
#else
    (void)client;
#endif
}

bool peer_has_calls(struct vouch_client *client) {
    client_lock(client);
    bool has = client->host && client->flight;
    client_unlock(client);
    return has;
}

static int say(struct vouch_client *client, int (*what)(struct session *)) {
    struct server_conn *conn = hold_locked(client);
    if (!conn)
        return -ECONNRESET;
    int r = what(&conn->link.session);
    link_flush(&conn->link);
    server_conn_update(conn);
    let_go_locked(conn);
    return r;
}

int peer_beat(struct vouch_client *client) {
    return say(client, session_beat);
}

int peer_ask_stop(struct vouch_client *client) {
    return say(client, session_ask_stop);
}

uint64_t peer_count_beats(struct vouch_client *client) {
    struct server_conn *conn = hold_locked(client);
    if (!conn)
        return 0;
    uint64_t count = conn->link.session.beats_answered;
    let_go_locked(conn);
    return count;
}
