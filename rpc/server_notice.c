/* SPDX-License-Identifier: MIT */
/*
 * What a server says to its clients unasked, in dialects that know such messages. Connections are
 * held by references while they are told, so that no lock but their own is.
 */
#include <errno.h>

#include "lib/mem.h"
#include "rpc/server.h"

struct audience {
    struct server_conn **conns;
    size_t count, room;
};

static bool is_meant(const struct server_conn *conn, uint64_t connection) {
    return connection == 0 || conn->number == connection;
}

/* One that has ended stays in the list until on_close has returned, but is nobody's to hold. */
static bool hold(struct server_conn *conn) {
    unsigned references = atomic_load(&conn->references);
    while (references > 0)
        if (atomic_compare_exchange_weak(&conn->references, &references, references + 1))
            return true;
    return false;
}

/* With a reference of each. conns_lock held. */
static void gather(struct vouch_server *server, uint64_t connection, struct audience *audience) {
    for (struct server_conn *conn = server->conns; conn; conn = conn->next) {
        if (is_meant(conn, connection) && audience->count < audience->room && hold(conn))
            audience->conns[audience->count++] = conn;
    }
}

static size_t count_conns(const struct vouch_server *server, uint64_t connection) {
    size_t count = 0;
    for (const struct server_conn *conn = server->conns; conn; conn = conn->next)
        count += is_meant(conn, connection);
    return count;
}

static int find_audience(struct vouch_server *server, uint64_t connection,
                         struct audience *ret_audience) {
    struct audience audience = {0};
    int r = 0;
    pthread_mutex_lock(&server->conns_lock);
    audience.room = count_conns(server, connection);
    if (audience.room > 0) {
        audience.conns = mem_alloc(server->allocator, audience.room * sizeof(struct server_conn *));
        if (audience.conns)
            gather(server, connection, &audience);
        else
            r = -ENOMEM;
    }
    pthread_mutex_unlock(&server->conns_lock);
    *ret_audience = audience;
    return r;
}

/* The dialect may change what it sends: each gets a copy. */
static int tell(struct server_conn *conn, const void *data, size_t size) {
    struct link *link = &conn->link;
    struct vouch_buffer *body;
    int r = session_copy(conn->server->pool, data, size, &body);
    if (r < 0)
        return r;
    pthread_mutex_lock(&link->lock);
    if (conn->open && session_failure(&link->session) == 0) {
        r = session_notify(&link->session, body);
        link_flush(link);
        server_conn_update(conn);
    } else {
        vouch_buffer_unref(body);
        r = -ENOENT;
    }
    pthread_mutex_unlock(&link->lock);
    return r;
}

int vouch_server_send_notice(struct vouch_server *server, uint64_t connection, const void *data,
                             size_t size) {
    struct audience audience;
    int told = 0;
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    if (size > 0 && !data)
        return -EINVAL;
    int r = find_audience(server, connection, &audience);
    if (r < 0)
        return r;
    r = -ENOENT;
    for (size_t i = 0; i < audience.count; i++) {
        r = tell(audience.conns[i], data, size);
        told += r == 0;
        server_conn_unref(audience.conns[i]);
    }
    mem_free(server->allocator, audience.conns, audience.room * sizeof(struct server_conn *));
    return connection == 0 || r == 0 ? told : r;
}
