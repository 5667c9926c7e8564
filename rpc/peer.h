/* SPDX-License-Identifier: MIT */
/*
 * Peers: a connection of a server's on which we also call. The server reads it; the client that
 * calls out over it is its *guest*.
 *
 * A guest is a client that never drives: to it, somebody else always does. It has a session of its
 * own (SESSION_GUEST) under its own lock, which is why it can outlive its connection and be given
 * another one. The lock of a guest is taken under that of its connection's link, never the other
 * way round.
 */
#ifndef VOUCH_RPC_PEER_H
#define VOUCH_RPC_PEER_H

#include <vouch/client.h>
#include <vouch/server.h>

#include "rpc/session.h"

struct link;
struct server_conn;

/* What the connection tells its owner: once each, with locks held, so they may only raise a
 * wake-up. */
struct peer_hooks {
    void (*stop)(void *context); /* the peer asks us to end */
    void (*gone)(void *context); /* the connection has ended, and all our calls on it */
    void *context;
};

/* A guest without a connection: its calls answer -ECONNRESET, or wait (peer_await). Errors of
 * vouch_client_new. vouch_client_free frees it, before or after its connections. */
int peer_client_new(const struct vouch_client_options *options,
                    struct vouch_client **ret_client) VOUCH_MUST_CHECK;

/* Serves the connection and lets the guest call over it; takes the connection over on success only.
 * `hooks` (may be NULL) is copied. Errors of vouch_server_add_conn; -EBUSY: it has a connection. */
int peer_attach(struct vouch_server *server, struct vouch_conn *conn, struct vouch_client *client,
                const struct peer_hooks *hooks) VOUCH_MUST_CHECK;

/* Whether calls without a connection wait for one until their deadline. */
void peer_await(struct vouch_client *client, bool await);

/* This guest is connected, and read where nobody else does that, by the thread that turns `turner`.
 * Before its first call. */
void peer_set_turner(struct vouch_client *client, const void *turner);
/* This thread turns it from now on (NULL: nothing): calls that would wait for that answer -EDEADLK.
 * Returns what it has turned so far. */
const void *peer_turn(const void *turner);

/* Calls that begin from now on answer -ESHUTDOWN. */
void peer_refuse(struct vouch_client *client);

/* Ends the connection, if there is one. When this returns the guest has none and what was in flight
 * has ended with -ECONNRESET; the server may still be seeing the end. */
void peer_cut(struct vouch_client *client);

/* The peer's process is gone, whoever else has its end: once what it has sent has been read, the
 * connection ends. Where the system would throw that away (all but Linux) this does nothing. */
void peer_hang_up(struct vouch_client *client);

/* Whether there are calls in flight, over a connection. */
bool peer_has_calls(struct vouch_client *client);

/* session_beat, session_ask_stop, and the pongs seen, of the present connection. -ECONNRESET when
 * there is none. */
int peer_beat(struct vouch_client *client);
int peer_ask_stop(struct vouch_client *client);
uint64_t peer_count_beats(struct vouch_client *client);

/* ---- for the client ---- */

/* client_connect, client_flush and the end, for guests. Lock held by the first two, let go of
 * meanwhile; not by the third. */
int peer_connect(struct vouch_client *client, int64_t deadline) VOUCH_MUST_CHECK;
void peer_flush(struct vouch_client *client);
void peer_detach(struct vouch_client *client);
/* -EDEADLK: a call that would wait, made by the only thread that could read its reply. Lock held.
 */
int peer_may_wait(const struct vouch_client *client) VOUCH_MUST_CHECK;
/* A reference for the caller, or NULL. Lock held. */
const struct vouch_identity *peer_identity(const struct vouch_client *client);

/* ---- for the server; link's lock held ---- */

struct session_limits peer_limits(const struct vouch_server *server,
                                  const struct vouch_client *client);
/* The connection is set up, but for the poller. 0, -ENOMEM, -EBUSY. */
int peer_enter(struct server_conn *conn, struct vouch_client *client,
               const struct peer_hooks *hooks) VOUCH_MUST_CHECK;
/* An event that is not the server's own. The buffer stays the event's, or becomes NULL. */
void peer_take(struct server_conn *conn, struct session_event *event);
/* The connection is ending. */
void peer_leave(struct server_conn *conn, int failure);

#endif
