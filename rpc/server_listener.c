/* SPDX-License-Identifier: MIT */
/*
 * The server's listeners: one comes, clients are accepted from it, it goes.
 *
 * Registrations are one-shot, so one worker at a time accepts from a listener. Its descriptor is
 * armed and closed under the server's lock only: its number may belong to another file as soon as
 * the listener is closed.
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

static int begin_listening(struct vouch_server *server, struct server_listener *added) {
    pthread_mutex_lock(&server->lock);
    int r = atomic_load(&server->state) > SERVER_RUNNING ? -ESHUTDOWN : 0;
    if (r == 0)
        r = timer_heap_reserve(&server->timers, server->timers.count + 8);
    if (r == 0)
        r = poller_add(server->poller, vouch_listener_get_fd(added->listener), POLLER_IN, added);
    if (r == 0) {
        added->next = server->listeners;
        server->listeners = added;
    }
    pthread_mutex_unlock(&server->lock);
    return r;
}

int vouch_server_add_listener_with(struct vouch_server *server, struct vouch_listener *listener,
                                   const struct vouch_serve_options *options) {
    const struct serving *serving;
    if (os_process_epoch() != server->epoch)
        return -ECHILD;
    int r = server_get_serving(server, listener->link, options, &serving);
    if (r < 0)
        return r;
    struct server_listener *added = mem_zalloc(server->allocator, sizeof(*added));
    if (!added)
        return -ENOMEM;
    added->source.kind = SOURCE_LISTENER;
    added->listener = listener;
    added->serving = serving;
    r = begin_listening(server, added);
    if (r < 0)
        mem_free(server->allocator, added, sizeof(*added));
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

/* Arms it, or lets it rest until `retry_at`. */
static void rearm(struct vouch_server *server, struct server_listener *listener, int64_t retry_at) {
    pthread_mutex_lock(&server->lock);
    int fd = vouch_listener_get_fd(listener->listener);
    bool armed =
        fd >= 0 && retry_at == 0 && poller_arm(server->poller, fd, POLLER_IN, listener) == 0;
    if (fd >= 0 && !armed && atomic_load(&server->state) != SERVER_STOPPED)
        server_set_timer_locked(server, &listener->source,
                                retry_at ? retry_at : clock_add(vouch_now(), LISTENER_RETRY_MIN));
    pthread_mutex_unlock(&server->lock);
}

void server_listener_event(struct vouch_server *server, struct server_listener *listener) {
    struct vouch_conn *conn;
    int64_t retry_at = 0;
    for (int i = 0; i < TURN_ACCEPTS; i++) {
        int r = listener_accept_now(listener->listener, vouch_now(), &conn, &retry_at);
        if (r < 0)
            return; /* closed */
        if (r == 0)
            break;
        if (server_conn_add(server, conn, listener->serving) < 0)
            vouch_conn_free(conn);
    }
    rearm(server, listener, retry_at);
}

void server_listener_expire(struct vouch_server *server, struct server_listener *listener) {
    rearm(server, listener, 0);
}

/* ---- going ---- */

void server_close_listeners(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    for (struct server_listener *l = server->listeners; l; l = l->next) {
        int fd = vouch_listener_get_fd(l->listener);
        if (fd >= 0)
            poller_remove(server->poller, fd);
        vouch_listener_close(l->listener);
    }
    pthread_mutex_unlock(&server->lock);
}

void server_free_listeners(struct vouch_server *server) {
    while (server->listeners) {
        struct server_listener *next = server->listeners->next;
        vouch_listener_free(server->listeners->listener);
        mem_free(server->allocator, server->listeners, sizeof(*next));
        server->listeners = next;
    }
}
