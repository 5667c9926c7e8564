/* SPDX-License-Identifier: MIT */
/*
 * The server's listeners: one comes, clients are accepted from it, it goes.
 *
 * Its descriptor is armed and closed under the server's lock only: its number may belong to another
 * file as soon as the listener is closed. A worker that has got an event may come too late, when
 * the listener is removed: it finds an idle struct, or another listener in it, from which there is
 * nobody to accept. While a worker is inside, a listener that is removed is closed but not freed.
 */
#include <errno.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/listen.h"
#include "lib/mem.h"
#include "rpc/server.h"

/* Connections accepted in one turn. */
#define TURN_ACCEPTS 64

/* ---- coming ---- */

/* The kind is written once: a late event reads it without the lock. */
static struct server_listener *take_struct(struct vouch_server *server) {
    struct server_listener *l = server->free_listeners;
    if (l) {
        server->free_listeners = l->next;
        return l;
    }
    l = mem_zalloc(server->allocator, sizeof(*l));
    if (l)
        l->source.kind = SOURCE_LISTENER;
    return l;
}

static void give_back_struct(struct vouch_server *server, struct server_listener *l) {
    l->users = 0;
    l->next = server->free_listeners;
    server->free_listeners = l;
}

/* Server->lock held. */
static int begin_listening(struct vouch_server *server, struct vouch_listener *listener,
                           const struct serving *serving) {
    if (atomic_load(&server->state) > SERVER_RUNNING)
        return -ESHUTDOWN;
    int r = server_reserve_timer(server);
    if (r < 0)
        return r;
    struct server_listener *l = take_struct(server);
    if (!l)
        return -ENOMEM;
    l->listener = listener;
    l->serving = serving;
    l->users = 1;
    r = poller_add(server->poller, vouch_listener_get_fd(listener), POLLER_IN, l);
    if (r < 0) {
        give_back_struct(server, l);
        return r;
    }
    l->next = server->listeners;
    server->listeners = l;
    return 0;
}

int vouch_server_add_listener_with(struct vouch_server *server, struct vouch_listener *listener,
                                   const struct vouch_serve_options *options) {
    const struct serving *serving;
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    int r = server_get_serving(server, listener->link, options, &serving);
    if (r < 0)
        return r;
    pthread_mutex_lock(&server->lock);
    r = begin_listening(server, listener, serving);
    pthread_mutex_unlock(&server->lock);
    return r;
}

int vouch_server_add_listener(struct vouch_server *server, struct vouch_listener *listener) {
    return vouch_server_add_listener_with(server, listener, NULL);
}

int vouch_server_listen(struct vouch_server *server, const char *address,
                        const struct vouch_listen_options *options, struct vouch_error *ret_error) {
    struct vouch_listener *listener;
    int r = vouch_listen(address, options, &listener, ret_error);
    if (r < 0)
        return r;
    r = vouch_server_add_listener(server, listener);
    if (r < 0) {
        vouch_listener_free(listener);
        return error_set(ret_error, r, "serving %s: %s", address, vouch_strerror(r));
    }
    return 0;
}

/* ---- accepting ---- */

static bool enter(struct vouch_server *server, struct server_listener *l) {
    pthread_mutex_lock(&server->lock);
    bool there = l->users > 0;
    if (there)
        l->users++;
    pthread_mutex_unlock(&server->lock);
    return there;
}

/* Returns what the last one out has to free, without the lock. Server->lock held. */
static struct vouch_listener *let_go(struct vouch_server *server, struct server_listener *l) {
    if (--l->users > 0)
        return NULL;
    give_back_struct(server, l);
    return l->listener;
}

/* Arms it, or lets it rest until `retry_at`. Server->lock held. */
static void rearm(struct vouch_server *server, struct server_listener *l, int64_t retry_at) {
    int fd = vouch_listener_get_fd(l->listener);
    bool armed = fd >= 0 && retry_at == 0 && poller_arm(server->poller, fd, POLLER_IN, l) == 0;
    if (fd >= 0 && !armed && atomic_load(&server->state) != SERVER_STOPPED)
        server_set_timer_locked(server, &l->source,
                                retry_at ? retry_at : clock_add(vouch_now(), LISTENER_RETRY_MIN));
}

static void leave(struct vouch_server *server, struct server_listener *l, int64_t retry_at) {
    pthread_mutex_lock(&server->lock);
    rearm(server, l, retry_at);
    struct vouch_listener *gone = let_go(server, l);
    pthread_mutex_unlock(&server->lock);
    vouch_listener_free(gone);
}

void server_listener_event(struct vouch_server *server, struct server_listener *l) {
    struct vouch_conn *conn;
    int64_t retry_at = 0;
    if (!enter(server, l))
        return;
    for (int i = 0; i < TURN_ACCEPTS; i++) {
        if (listener_accept_now(l->listener, vouch_now(), &conn, &retry_at) <= 0)
            break; /* nobody is waiting, or it is closed */
        if (server_conn_add(server, conn, l->serving) < 0)
            vouch_conn_free(conn);
    }
    leave(server, l, retry_at);
}

void server_listener_expire(struct vouch_server *server, struct server_listener *l) {
    if (enter(server, l))
        leave(server, l, 0);
}

/* ---- going ---- */

/* Server->lock held. */
static void stop_listening(struct vouch_server *server, struct server_listener *l) {
    int fd = vouch_listener_get_fd(l->listener);
    if (fd >= 0)
        poller_remove(server->poller, fd);
    vouch_listener_close(l->listener);
}

/* Server->lock held. */
static struct vouch_listener *take_out(struct vouch_server *server, struct server_listener **link) {
    struct server_listener *l = *link;
    *link = l->next;
    stop_listening(server, l);
    server_set_timer_locked(server, &l->source, VOUCH_FOREVER);
    return let_go(server, l);
}

int vouch_server_remove_listener(struct vouch_server *server, struct vouch_listener *listener) {
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    pthread_mutex_lock(&server->lock);
    struct server_listener **link = &server->listeners;
    while (*link && (*link)->listener != listener)
        link = &(*link)->next;
    bool found = *link != NULL;
    struct vouch_listener *gone = found ? take_out(server, link) : NULL;
    pthread_mutex_unlock(&server->lock);
    vouch_listener_free(gone);
    return found ? 0 : -ENOENT;
}

void server_close_listeners(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    for (struct server_listener *l = server->listeners; l; l = l->next)
        stop_listening(server, l);
    pthread_mutex_unlock(&server->lock);
}

static void free_structs(struct vouch_server *server, struct server_listener *list) {
    while (list) {
        struct server_listener *next = list->next;
        if (list->users > 0)
            vouch_listener_free(list->listener);
        mem_free(server->allocator, list, sizeof(*list));
        list = next;
    }
}

void server_free_listeners(struct vouch_server *server) {
    free_structs(server, server->listeners);
    free_structs(server, server->free_listeners);
    server->listeners = server->free_listeners = NULL;
}
