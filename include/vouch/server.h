/* SPDX-License-Identifier: MIT */
/*
 * Server: methods, and the connections that call them.
 *
 * A few worker threads; any of them reads any connection. A handler runs on the worker that read
 * its request. Before it does, the reading is handed on, so that a handler that is slow, or blocks,
 * holds up no other call, not even on its own connection; where a method is declared
 * VOUCH_METHOD_QUICK that hand-over is saved. The server can live in a foreign loop instead,
 * without threads.
 */
#ifndef VOUCH_SERVER_H
#define VOUCH_SERVER_H

#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/dialect.h>
#include <vouch/error.h>
#include <vouch/identity.h>
#include <vouch/listen.h>
#include <vouch/policy.h>
#include <vouch/polling.h>
#include <vouch/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_server;
struct vouch_call;
struct vouch_client;
struct vouch_client_options;

#define VOUCH_SERVER_CALLS_DEFAULT 128u /* in flight on one connection */
#define VOUCH_SERVER_CALLS_BOUND 65536u
#define VOUCH_SERVER_WORKERS_BOUND 1024u
#define VOUCH_METHOD_NAME_MAX 255 /* bytes */

/* Runs around each call that is about to reach its method: found, allowed, in time. `before`
 * returns 0 to let it pass, or answers it with an enum vouch_remote_error (the caller sees its name
 * as text). `after` runs when the call has been answered, for those whose `before` was asked:
 * result 0 or the error, and the ns since its arrival; not with a lock held; on the thread that
 * answered. Either may be NULL. */
struct vouch_server_interceptor {
    int (*before)(void *context, struct vouch_call *call);
    void (*after)(void *context, struct vouch_call *call, int result, int64_t elapsed);
    void *context;
};

struct vouch_server_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */
    struct vouch_pool *pool;                 /* referenced; NULL: one of its own */

    /* Threads kept; 0: one a core, at least 2, at most 64. */
    unsigned workers;
    /* Handlers that run at a time when they block; 0: 64 or 4 * workers, whichever is more. Calls
     * beyond it wait. There is one thread more than this at most, which reads on meanwhile, so that
     * cancels, ends of connections and quick calls do not wait; and as many as `workers` says that
     * stay with a busy connection each. */
    unsigned workers_max;
    /* … of them for one user other than ours; 0: half. The rest is for the others. */
    unsigned workers_per_uid;

    /* Largest message taken, envelope included; 0: 4 MiB; at most VOUCH_CHUNK_SIZE_BOUND. */
    size_t max_request;
    /* Largest message sent; 0: 4 MiB; at most VOUCH_CHUNK_SIZE_BOUND. */
    size_t max_reply;
    /* An oversize call up to this is skipped and answered, a larger one ends its connection;
     * 0: 4 * max_request. */
    size_t drain_max;
    /* In flight on one connection; 0: 128. At the limit cancels are still read; with the next call
     * its reading stops until one has been answered. */
    unsigned max_calls;
    /* Bytes waiting for a client to read at which its requests are no longer read; 0: 1 MiB. */
    size_t output_soft;
    /* … at which it is disconnected, unless it has read them down again within a sixth of
     * stall_timeout; at four times this at once. 0: max(4 MiB, 2 * max_reply); never under
     * output_soft. */
    size_t output_hard;
    /* A client that takes no byte for so long while there are some for it is disconnected, ns;
     * 0: 30 s; VOUCH_FOREVER. */
    int64_t stall_timeout;
    /* For a message once its first byte is there, ns; 0: 30 s; VOUCH_FOREVER. */
    int64_t frame_timeout;
    /* What vouch_server_interrupt gives calls in flight, ns; 0: 5 s. */
    int64_t drain_timeout;

    /* Copied; `before` runs in this order, `after` in the reverse. At most 16. */
    const struct vouch_server_interceptor *interceptors;
    size_t interceptor_count;

    /* A connection has begun, or has ended and all its calls with it; `connection` is what
     * vouch_call_get_connection says, `peer` lives until on_close returns. For state of the
     * program's own that goes with a connection. No lock of vouch's is held; of one connection
     * on_open comes first and on_close last. Either may be NULL. on_close runs in whichever thread
     * lets go of the connection last: a worker, or one that answers a kept call, sends a notice, or
     * stops the server. So hold no lock of your own there that on_close takes. */
    void (*on_open)(void *context, uint64_t connection, const struct vouch_identity *peer);
    void (*on_close)(void *context, uint64_t connection, const struct vouch_identity *peer);
    void *context;

    /* How far the socket's send buffer is raised, in bytes, when messages are sent that do not fit;
     * 0: 4 MiB (the system has a say: net.core.wmem_max); less than 128 KiB: not at all. */
    size_t send_buffer_max;
    /* How workers wait for requests; the longest poll in ns, 0: VOUCH_POLLING_BUDGET_DEFAULT, at
     * most VOUCH_POLLING_BUDGET_BOUND. */
    enum vouch_polling polling;
    int64_t polling_budget;
};

/* Returns 0, -ENOMEM, -EINVAL (an option out of its range), errnos of the poller. `options` may be
 * NULL. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_new(const struct vouch_server_options *options,
                                                struct vouch_server **ret_server);

/* Stops at once if need be (without a drain), waits for handlers to return and for the answers of
 * kept calls (vouch_call_keep; whoever has them sees them cancelled), frees, listeners and
 * connections included. NULL is ignored. */
VOUCH_API void vouch_server_free(struct vouch_server *server);

/* Handles a call. Inside, answer with vouch_call_reply or vouch_call_fail (once), or
 * vouch_call_keep it. A handler that returns 0 and has done neither answers with an empty body; one
 * that returns > 0 answers with that enum vouch_remote_error, < 0 with VOUCH_REMOTE_SERVER; the
 * text is then the code's name. What it returns after answering or keeping is ignored. */
typedef int (*vouch_handler)(void *context, struct vouch_call *call);

enum {
    VOUCH_METHOD_QUICK = 1 << 0, /* a promise: it never blocks and takes microseconds. It then runs
                                    before further input is read */
    VOUCH_METHOD_JSON = 1 << 1,  /* bodies are JSON texts, both ways: for dialects that can say no
                                    other. vouch_json_add_method sets it */
};

struct vouch_method {
    size_t size;
    /* 1 to VOUCH_METHOD_NAME_MAX of A-Z a-z 0-9 _ . - /; compared exactly. Copied */
    const char *name;
    vouch_handler handler;
    void *context;
    /* Who may call it, beyond who may connect; NULL: all who are connected. Copied */
    const struct vouch_policy *policy;
    unsigned flags; /* VOUCH_METHOD_* */
    /* Runs once, when the server is freed; may be NULL. Not when registering failed */
    void (*release)(void *context);
};

/* Registers a method. 0, VOUCH_E_METHOD_EXISTS, VOUCH_E_METHOD_NAME, -EINVAL, -ENOMEM, -EBUSY
 * (serving has begun). */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_add_method(struct vouch_server *server,
                                                       const struct vouch_method *method);

/* Serves whoever the listener admits. Takes it over on success only: its statistics, address and
 * port may still be asked for until it is removed or the server freed, nothing else be done with
 * it. Before or while serving. 0, -ENOMEM, -ESHUTDOWN, VOUCH_E_NO_IDENTITY (one of TCP: see
 * vouch_server_add_listener_with), errnos. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_add_listener(struct vouch_server *server,
                                                         struct vouch_listener *listener);

/* Closes and frees one of the server's listeners. Connections that it has let in are served on.
 * 0, -ENOENT (not one of the server's), -ECHILD. Any thread, handlers too; waits for nobody, does
 * file-system work. */
VOUCH_API int vouch_server_remove_listener(struct vouch_server *server,
                                           struct vouch_listener *listener);

/* How connections are served. What is said here is remembered until the server is freed, once for
 * all that are served in the same way: dialects are made for a server, not for a connection or a
 * listener. */
struct vouch_serve_options {
    size_t size;
    /* What is spoken beside vouch's own wire; each must outlive the server. Where there are several
     * possibilities the first byte of a connection decides (vouch_dialect.begins, in this order).
     */
    const struct vouch_dialect *const *dialects;
    size_t dialect_count; /* at most VOUCH_DIALECTS_MAX */
    bool only_dialects;   /* vouch's own wire is not spoken */
    /* Over TCP nobody vouches for who calls: without this such a listener or connection is refused
     * (VOUCH_E_NO_IDENTITY). Methods with a policy answer VOUCH_REMOTE_REFUSED there. */
    bool allow_callers_without_identity;
};
#define VOUCH_DIALECTS_MAX 4

/* As vouch_server_add_listener and vouch_server_add_conn, said how. `options` may be NULL. Also
 * -EINVAL (an option), -ENOTSUP (a dialect on a connection of packets), VOUCH_E_NO_IDENTITY. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_server_add_listener_with(struct vouch_server *server, struct vouch_listener *listener,
                               const struct vouch_serve_options *options);
VOUCH_API VOUCH_MUST_CHECK int
vouch_server_add_conn_with(struct vouch_server *server, struct vouch_conn *conn,
                           const struct vouch_serve_options *options);

/* Says something that nobody asked for to the client of one connection (as
 * vouch_call_get_connection numbers them), or with 0 to all whose dialect knows such messages;
 * those that have too much waiting already are passed over. Returns how many it was sent to;
 * -ENOENT (no such connection, or on_open has not returned yet), -ENOTSUP (its dialect has none,
 * or its first byte has not come and it may speak several), -EAGAIN (too much waits), -EMSGSIZE,
 * -EINVAL (the dialect can't say it), -ENOMEM, -ECHILD. All dialects of the server are meant by 0.
 * Any thread; does not wait. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_send_notice(struct vouch_server *server,
                                                        uint64_t connection, const void *data,
                                                        size_t size);

/* vouch_listen and vouch_server_add_listener in one: errors of both. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_listen(struct vouch_server *server, const char *address,
                                                   const struct vouch_listen_options *options,
                                                   struct vouch_error *ret_error);

/* Serves one connection (a socketpair's end, say). Takes it over on success only. Before or while
 * serving; any thread. Errors as vouch_server_add_listener. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_add_conn(struct vouch_server *server,
                                                     struct vouch_conn *conn);

/* Serves one connection on which we call too: `ret_client` calls out over it, while the server
 * serves what comes in. The other side has to do the same (see docs/protocol.md, peers); neither a
 * plain client nor a plain server gets on with it. Takes the connection over on success only.
 * `options` as for vouch_client_new, may be NULL; the larger of the two's limits on messages
 * counts, and no more calls are in flight than the other side takes (its
 * vouch_server_options.max_calls; -EBUSY).
 *
 * The client reads nothing itself: whoever runs the server does. So calls wait for the server's
 * workers, or for another thread that runs its foreign loop; from inside a handler of a server in a
 * foreign loop calls that wait answer -EDEADLK, and handlers that are VOUCH_METHOD_QUICK must not
 * make such calls. Callbacks run in vouch_client_process or vouch_client_wait, as ever; without a
 * descriptor for loops (see docs/architecture.md) vouch_client_get_fd answers -ENOTSUP. When the
 * connection has ended calls answer why (-ECONNRESET, -ESHUTDOWN, …). The client is the caller's to
 * free, before or after the server; that does not end the connection.
 *
 * Peers speak vouch's own wire only. Over TCP options->allow_server_without_identity is needed, and
 * holds for both directions. Before or while serving; any thread; does not block. 0, -ENOMEM,
 * -EINVAL, VOUCH_E_NO_IDENTITY, -ESHUTDOWN, -ECHILD, errnos. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_add_peer(struct vouch_server *server,
                                                     struct vouch_conn *conn,
                                                     const struct vouch_client_options *options,
                                                     struct vouch_client **ret_client);

/* Serves until vouch_server_stop or vouch_server_interrupt; the calling thread waits for the
 * workers. Returns 0 when every call in flight was completed, -ETIMEDOUT when some were cut off;
 * -EBUSY (serves already), -ESHUTDOWN (was stopped before), errnos of starting threads. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_run(struct vouch_server *server);

/* Starts the workers and returns. Errors as vouch_server_run. */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_start(struct vouch_server *server);

/* Stops: listeners close, new calls are answered VOUCH_REMOTE_UNAVAILABLE, what is in flight has
 * `timeout` ns to complete, then connections close. Returns 0 when all completed, -ETIMEDOUT when
 * some were cut off. -EDEADLK from a handler of this server (use vouch_server_interrupt). Any other
 * thread; waits. A server can't be started again. */
VOUCH_API int vouch_server_stop(struct vouch_server *server, int64_t timeout);

/* Asks vouch_server_run (or the foreign loop's process, which then answers -ESHUTDOWN when done) to
 * stop as vouch_server_stop with the option drain_timeout does. Async-signal-safe: this is for
 * SIGTERM handlers. */
VOUCH_API void vouch_server_interrupt(struct vouch_server *server);

/* For a foreign loop, instead of run and start: poll get_fd for get_events at most get_timeout ns,
 * then process. Handlers run inside process. get_fd: -ENOTSUP on systems that have no descriptor
 * for many (see docs/architecture.md), -EBUSY when workers serve, -ESHUTDOWN. process: 0,
 * -ESHUTDOWN after a stop is complete, -EINVAL before get_fd, other codes when serving can't go on.
 */
VOUCH_API VOUCH_MUST_CHECK int vouch_server_get_fd(struct vouch_server *server);
VOUCH_API short vouch_server_get_events(struct vouch_server *server);
VOUCH_API int64_t vouch_server_get_timeout(struct vouch_server *server);
VOUCH_API VOUCH_MUST_CHECK int vouch_server_process(struct vouch_server *server);

/* ---- Inside a handler, and with a kept call ---- */

/* The request's bytes, in place; valid until the call is answered (inside the handler: until it
 * returns). Never NULL. */
VOUCH_API const uint8_t *vouch_call_get_data(const struct vouch_call *call, size_t *ret_size);

/* The method's name as registered. */
VOUCH_API const char *vouch_call_get_method(const struct vouch_call *call);

/* Who calls; lives as long as the call. */
VOUCH_API const struct vouch_identity *vouch_call_get_peer(const struct vouch_call *call);

/* What was asked for as the caller wrote it, not ended by NUL: the method's name, unless a dialect
 * leads more than that to it. Valid as the request's bytes. */
VOUCH_API const char *vouch_call_get_target(const struct vouch_call *call, size_t *ret_size);

/* The connection it came on: a number that no other connection of this server ever has. */
VOUCH_API uint64_t vouch_call_get_connection(const struct vouch_call *call);

/* CLOCK_MONOTONIC, ns; VOUCH_FOREVER when the caller set none. */
VOUCH_API int64_t vouch_call_get_deadline(const struct vouch_call *call);

/* Whether nobody waits for the answer any more: cancelled, its caller gone, its deadline past, or
 * the server cut off. Any thread. */
VOUCH_API bool vouch_call_is_cancelled(const struct vouch_call *call);

/* Waits until the call is cancelled (1) or `deadline` (0): a sleep that ends when there is no use
 * in it. Any thread. In a foreign loop nothing is read meanwhile: it answers at the deadline. */
VOUCH_API int vouch_call_wait_cancelled(struct vouch_call *call, int64_t deadline);

/* Answers with a copy of `size` bytes. Returns 0; -EALREADY; -EMSGSIZE (the caller got
 * VOUCH_REMOTE_TOO_LARGE instead); -ECONNRESET (the caller is gone); -ETIMEDOUT (it was told that
 * its deadline passed); -EBADMSG (the caller's dialect can't say it: it got VOUCH_REMOTE_SERVER);
 * -ENOMEM (the connection is ended, so that the caller knows). All but
 * -EALREADY end a kept call: it must not be touched afterwards. Any thread; does not wait. */
VOUCH_API int vouch_call_reply(struct vouch_call *call, const void *data, size_t size);

/* A buffer to build a reply of at most `size` bytes in: put the body at its `data`, set its `size`.
 * 0, -ENOMEM, -EMSGSIZE. */
VOUCH_API VOUCH_MUST_CHECK int vouch_call_get_buffer(struct vouch_call *call, size_t size,
                                                     struct vouch_buffer **ret_buffer);

/* As vouch_call_reply, with a body from vouch_call_get_buffer, which is taken over whatever is
 * returned. */
VOUCH_API int vouch_call_reply_buffer(struct vouch_call *call, struct vouch_buffer *reply);

/* Answers with an error and a text (cut at VOUCH_ERROR_TEXT_MAX bytes). Returns as
 * vouch_call_reply; -EINVAL when `error` is not a vouch_remote_error over 0 (nothing was answered
 * then). */
VOUCH_API int vouch_call_fail(struct vouch_call *call, enum vouch_remote_error error,
                              const char *format, ...) VOUCH_PRINTF(3, 4);

/* As vouch_call_reply, but the answer leaves at `when` (CLOCK_MONOTONIC, ns; see
 * vouch_deadline_in). No thread waits for that: the workers, or the foreign loop, have a timer.
 * `data` is copied, but for bytes of the request itself (vouch_call_get_data), which stay where
 * they are.
 *
 * Until then the call counts as in flight, and any other answer is -EALREADY. It ends earlier when
 * its caller cancels it or is gone, when the server cuts it off, and at its deadline, of which the
 * caller is told.
 *
 * Returns 0: it waits (whatever becomes of it, the statistics and interceptors see it, the latter
 * on whichever thread ends it); or, as vouch_call_reply, -EALREADY, -EMSGSIZE, -ENOMEM. A `when`
 * that has passed: vouch_call_reply. Ends a kept call for who calls this, as that does. Any thread;
 * does not wait. */
VOUCH_API int vouch_call_reply_at(struct vouch_call *call, int64_t when, const void *data,
                                  size_t size);

/* Keeps the call beyond the handler's return: it has to be answered later, by any thread, even when
 * it is cancelled meanwhile. It counts as in flight until then. When its deadline passes first its
 * caller is told so. To be called inside the handler, before the call is given to another thread.
 */
VOUCH_API void vouch_call_keep(struct vouch_call *call);

/* ---- Statistics ---- */

struct vouch_server_stats {
    uint64_t connections;      /* since the start */
    uint64_t live_connections; /* now */
    uint64_t calls;            /* that arrived whole, or were skipped as too large */
    uint64_t in_flight;        /* now */
    uint64_t
        errors[VOUCH_REMOTE_UNKNOWN + 1]; /* answers by enum vouch_remote_error; [0]: replies */
    uint64_t cancels;                     /* calls that their callers cancelled */
    uint64_t lost;                        /* calls whose caller was gone before the answer */
    uint64_t cut_malformed;               /* connections ended because of what they sent */
    uint64_t cut_timeout; /* … of a half message or a full socket that did not move */
    uint64_t cut_output;  /* … of too much that they did not read */
    uint64_t bytes_received, bytes_sent;
    unsigned workers; /* threads now */
    /* Handlers that were quick so often that input was left waiting for them, and then were not:
     * another worker has read on. */
    uint64_t takeovers;
    struct vouch_polling_stats polling; /* of workers that waited for requests */
};

/* Any thread; does not wait; not one snapshot. */
VOUCH_API void vouch_server_get_stats(struct vouch_server *server,
                                      struct vouch_server_stats *ret_stats);

/* Bucket i counts calls that took from 2^i to 2^(i+1) - 1 ns from arrival to answer (0 ns counts in
 * the first). */
#define VOUCH_LATENCY_BUCKETS 40

struct vouch_method_stats {
    const char *name; /* lives as long as the server */
    uint64_t calls;
    uint64_t errors; /* answered with anything but 0 */
    uint64_t latency[VOUCH_LATENCY_BUCKETS];
};

/* The `index`-th method in the order of registration: 0, or -ENOENT. Any thread; does not wait. */
VOUCH_API int vouch_server_get_method_stats(struct vouch_server *server, size_t index,
                                            struct vouch_method_stats *ret_stats);

/* The pool the server takes its buffers from; lives as long as the server. For its counters. */
VOUCH_API struct vouch_pool *vouch_server_get_pool(struct vouch_server *server);

#ifdef __cplusplus
}
#endif
#endif
