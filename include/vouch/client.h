/* SPDX-License-Identifier: MIT */
/*
 * Client: calls methods of a server, bytes in and bytes out.
 *
 * Any number of threads may call through one client; their calls share its connection. There is no
 * hidden thread: the thread that waits for its reply reads for all who wait. Every call ends
 * exactly once: with a reply, an error that the server answered, or a local one (deadline,
 * cancelled, peer gone, …), and never later than its deadline.
 */
#ifndef VOUCH_CLIENT_H
#define VOUCH_CLIENT_H

#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/dial.h>
#include <vouch/dialect.h>
#include <vouch/error.h>
#include <vouch/polling.h>
#include <vouch/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_client;
struct vouch_reply;

#define VOUCH_CALL_TIMEOUT_DEFAULT VOUCH_SECONDS(30)
#define VOUCH_CLIENT_CALLS_DEFAULT 65536u /* in flight */
#define VOUCH_CLIENT_CALLS_BOUND (1u << 20)

/* What an interceptor sees of a call. Valid while it runs. */
struct vouch_call_info {
    const char *method;
    size_t request_size; /* bytes of the body */
    size_t reply_size;   /* 0 before the reply */
    int64_t deadline;    /* CLOCK_MONOTONIC */
};

/* Runs around each call. `before` may refuse it: a negative code ends the call with that, nothing
 * is sent, and the `after` of those whose `before` has run, this one included, runs too. `after`
 * gets the result and the time it took in ns. Either may be NULL. They run on the thread that calls
 * (`before`, and `after` of blocking calls) or that runs the callback. */
struct vouch_client_interceptor {
    int (*before)(void *context, const struct vouch_call_info *info);
    void (*after)(void *context, const struct vouch_call_info *info, int result, int64_t elapsed);
    void *context;
};

struct vouch_client_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */
    struct vouch_pool *pool;                 /* referenced; NULL: one of its own */

    /* For calls that don't say their own, ns; 0: 30 s; VOUCH_FOREVER. */
    int64_t call_timeout;
    /* Largest message sent, envelope included; 0: 4 MiB; at most VOUCH_CHUNK_SIZE_BOUND. */
    size_t max_request;
    /* Largest message taken; 0: 4 MiB; at most VOUCH_CHUNK_SIZE_BOUND. */
    size_t max_reply;
    /* In flight; 0: VOUCH_CLIENT_CALLS_DEFAULT; one more answers -EBUSY. */
    unsigned max_calls;
    /* Bytes waiting to be sent at which vouch_client_call waits, and asynchronous calls answer
     * -EAGAIN; 0: max(4 MiB, 2 * max_request). */
    size_t output_max;
    /* For a message of the server once begun, ns; 0: 30 s; VOUCH_FOREVER. */
    int64_t frame_timeout;
    /* Without the server taking a byte while there are some to send, ns; 0: 30 s; VOUCH_FOREVER. */
    int64_t stall_timeout;

    /* vouch_client_dial only: connect again when the connection is gone and a call is made. What
     * was in flight ends with -ECONNRESET and is not repeated. */
    bool reconnect;
    /* Wait between attempts, doubled each time up to the maximum, ns; 0: 10 ms and 1 s. */
    int64_t reconnect_min, reconnect_max;

    /* Copied; `before` runs in this order, `after` in the reverse. At most 16. */
    const struct vouch_client_interceptor *interceptors;
    size_t interceptor_count;

    /* How far the socket's send buffer is raised, in bytes, when messages are sent that do not fit;
     * 0: 4 MiB (the system has a say: net.core.wmem_max); less than 128 KiB: not at all. */
    size_t send_buffer_max;
    /* How threads wait for replies; the longest poll in ns, 0: VOUCH_POLLING_BUDGET_DEFAULT, at
     * most VOUCH_POLLING_BUDGET_BOUND. */
    enum vouch_polling polling;
    int64_t polling_budget;

    /* Another wire than vouch's own; must outlive the client. NULL: vouch's own. Such a client
     * can't tell the server of cancels, and does not ping (-ENOTSUP). */
    const struct vouch_dialect *dialect;
    /* What the server says unasked, where the dialect knows such messages; NULL: dropped. Runs as
     * the callbacks of asynchronous calls do. At most VOUCH_CLIENT_NOTICES_MAX wait for that, of
     * VOUCH_CLIENT_NOTICE_BYTES_MAX bytes together unless it is a single one; later ones are
     * dropped and counted. `notice` is valid until it returns; take a reference of its
     * buffer to keep it. */
    void (*on_notice)(void *context, const struct vouch_reply *notice);
    void *notice_context;
    /* Over TCP nobody vouches for whom we call: without this such a connection is refused
     * (VOUCH_E_NO_IDENTITY). */
    bool allow_server_without_identity;
    /* With reconnect: vouch_client_process and vouch_client_wait connect again without a call, so
     * long after the connection was found gone or an attempt has failed, ns; 0: only calls do.
     * vouch_client_get_timeout knows when. */
    int64_t reconnect_after;
};
#define VOUCH_CLIENT_NOTICES_MAX 1024
#define VOUCH_CLIENT_NOTICE_BYTES_MAX ((size_t)16 * 1024 * 1024)

/* Connects and makes a client. `dial_options`, `options` and `ret_error` may be NULL. Errors of
 * vouch_dial and vouch_client_new. A server whose policy refuses us closes the connection: the
 * first call then answers -ECONNRESET. */
VOUCH_API VOUCH_MUST_CHECK int vouch_client_dial(const char *address,
                                                 const struct vouch_dial_options *dial_options,
                                                 const struct vouch_client_options *options,
                                                 struct vouch_client **ret_client,
                                                 struct vouch_error *ret_error);

/* Makes a client on a connection, which it takes over on success only. Returns 0, -ENOMEM, -EINVAL
 * (an option out of its range, or reconnect, which needs an address), -ENOTSUP (a dialect on a
 * connection of packets), VOUCH_E_NO_IDENTITY (TCP, and that is not allowed), -ECHILD, errnos. */
VOUCH_API VOUCH_MUST_CHECK int vouch_client_new(struct vouch_conn *conn,
                                                const struct vouch_client_options *options,
                                                struct vouch_client **ret_client);

/* Ends the client: every call in flight ends with -ESHUTDOWN, and so does every later one.
 * Callbacks run in vouch_client_process, vouch_client_wait or vouch_client_free. Safe twice, any
 * thread, does not wait for anybody. NULL is ignored. */
VOUCH_API void vouch_client_close(struct vouch_client *client);

/* Closes, runs the callbacks that are left, frees. Nobody may be inside another function of it, and
 * no callback may call it. NULL is ignored. */
VOUCH_API void vouch_client_free(struct vouch_client *client);

/* A reply. `data` is the body, in place in `buffer`; both live until vouch_reply_release (or take a
 * reference of the buffer). */
struct vouch_reply {
    const uint8_t *data; /* never NULL on success */
    size_t size;
    struct vouch_buffer *buffer; /* may be NULL */
};

/* Lets go of a reply's memory and clears it. Safe twice, and on a zeroed one. */
VOUCH_API void vouch_reply_release(struct vouch_reply *reply);

struct vouch_call_options {
    size_t size;
    int64_t timeout;  /* ns; 0: the client's call_timeout; VOUCH_FOREVER. Ignored when `deadline` is
                         set */
    int64_t deadline; /* CLOCK_MONOTONIC, ns; 0: none said */
    uint64_t tag;     /* any number for vouch_client_cancel; 0: none. Calls may share one */
    /* Asynchronous calls: more follow at once, and this one may leave with them. The next call
     * without it, vouch_client_wait or vouch_client_process sends at the latest. (Calls begun in a
     * callback leave together when the callbacks that are due have run.) */
    bool more;
};

/* Calls and waits. `data` may be NULL when `size` is 0; it is copied. `options`, `ret_reply` and
 * `ret_error` may be NULL; the caller releases the reply. `ret_reply` is cleared on failure.
 * Returns 0: the server replied. > 0: the server answered with that error (enum
 * vouch_remote_error), its text in `ret_error`. < 0: there was no answer: -ETIMEDOUT, -ECANCELED,
 * -ECONNRESET (the peer is gone), -EPROTO (it sent nonsense), -EMSGSIZE (request or reply over a
 * maximum; the message names both sizes), -EBUSY (max_calls), -ESHUTDOWN,
 * VOUCH_E_METHOD_NAME, -EINVAL, -ENOMEM, -ECHILD, what an interceptor returned; with reconnect also
 * the errors of vouch_dial. Any thread, but not from a callback of the same client. */
VOUCH_API VOUCH_MUST_CHECK int vouch_client_call(struct vouch_client *client, const char *method,
                                                 const void *data, size_t size,
                                                 const struct vouch_call_options *options,
                                                 struct vouch_reply *ret_reply,
                                                 struct vouch_error *ret_error);

/* A buffer to build a request of at most `size` bytes in: put the body at its `data` and set its
 * `size`. What it holds is sent from where it is. Owned by the caller until given to a call, or
 * vouch_buffer_unref. 0, -ENOMEM, -EMSGSIZE. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_client_get_buffer(struct vouch_client *client, size_t size,
                                                       struct vouch_buffer **ret_buffer);

/* As vouch_client_call, with a request from vouch_client_get_buffer, which is taken over whatever
 * is returned. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_client_call_buffer(struct vouch_client *client, const char *method,
                         struct vouch_buffer *request, const struct vouch_call_options *options,
                         struct vouch_reply *ret_reply, struct vouch_error *ret_error);

/* The end of an asynchronous call: result as vouch_client_call returns it; `reply` (never NULL) is
 * valid until the callback returns, take a reference of its buffer to keep it; `error` (never NULL)
 * has the text when result is not 0. Runs on a thread inside vouch_client_process,
 * vouch_client_wait or vouch_client_free, with no lock held: it may make calls without waiting, and
 * cancel. */
typedef void (*vouch_reply_callback)(void *context, int result, const struct vouch_reply *reply,
                                     const struct vouch_error *error);

/* Calls without waiting. Returns 0, and `callback` will run exactly once, later; or an error as
 * vouch_client_call, or -EAGAIN (output_max), and it will not. The call is sent at once as far as
 * the socket takes it, and gets on in vouch_client_process or vouch_client_wait, or while another
 * thread waits in a call. `ret_id` (may be NULL) is for vouch_client_cancel_id. Any thread. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_client_call_async(struct vouch_client *client, const char *method, const void *data,
                        size_t size, const struct vouch_call_options *options,
                        vouch_reply_callback callback, void *context, uint64_t *ret_id);

/* The same with a request from vouch_client_get_buffer, which is taken over whatever is returned.
 */
VOUCH_API VOUCH_MUST_CHECK int
vouch_client_call_async_buffer(struct vouch_client *client, const char *method,
                               struct vouch_buffer *request,
                               const struct vouch_call_options *options,
                               vouch_reply_callback callback, void *context, uint64_t *ret_id);

/* Ends all calls with this tag, which answer -ECANCELED, and tells the server if it can be told.
 * Looks at every call in flight. Returns how many it ended. Any thread; does not wait. */
VOUCH_API size_t vouch_client_cancel(struct vouch_client *client, uint64_t tag);

/* Ends one asynchronous call. 0, or -ENOENT when it has ended already. Any thread; does not wait.
 */
VOUCH_API int vouch_client_cancel_id(struct vouch_client *client, uint64_t id);

/* Round trip to the server without a handler: 0 and the time in ns (`ret_elapsed` may be NULL);
 * -ENOTSUP when the server has not shown that it knows pings (none has before the first reply);
 * else as vouch_client_call. A server answers 10 a second; more run into their timeout. */
VOUCH_API VOUCH_MUST_CHECK int vouch_client_ping(struct vouch_client *client, int64_t timeout,
                                                 int64_t *ret_elapsed);

/* For a foreign loop: poll get_fd for get_events (POLLIN/POLLOUT of poll.h) at most get_timeout ns
 * (VOUCH_FOREVER: no limit), then call process, whatever happened. process runs callbacks and
 * returns how many, or the reason why the connection is gone (-ECONNRESET, …; with reconnect 0: the
 * next call connects again, or process itself when it is time for that: see reconnect_after);
 * when callbacks ran the reason is told by the next one, to which get_timeout leads at once. On
 * Linux the descriptor stays the same for the life of the client and blocking calls of other
 * threads mix freely; on systems without such a descriptor it is the connection's own (while one
 * is to come again, a quiet one that it will wake), to be asked for after each process, and then
 * blocking calls from other threads answer -ENOTSUP once get_fd was called. get_fd: the descriptor,
 * or -ENOMEM, -EMFILE, … */
VOUCH_API VOUCH_MUST_CHECK int vouch_client_get_fd(struct vouch_client *client);
VOUCH_API short vouch_client_get_events(struct vouch_client *client);
VOUCH_API int64_t vouch_client_get_timeout(struct vouch_client *client);
VOUCH_API int vouch_client_process(struct vouch_client *client);

/* Waits until at least one callback has run, none is left to wait for, or `deadline`. Returns how
 * many ran (0: nothing is left), -ETIMEDOUT, or as process. With reconnect_after it
 * connects again when it is time for that, and where there is on_notice waits for that, too. One
 * thread at a time. */
VOUCH_API int vouch_client_wait(struct vouch_client *client, int64_t deadline);

/* The server's identity, of the present connection; a reference for the caller
 * (vouch_identity_unref). NULL after the connection is gone. Any thread. */
VOUCH_API const struct vouch_identity *vouch_client_get_peer(struct vouch_client *client);

struct vouch_client_stats {
    uint64_t calls;         /* begun */
    uint64_t replies;       /* ended with 0 */
    uint64_t remote_errors; /* ended with > 0 */
    uint64_t local_errors;  /* ended with < 0 */
    uint64_t in_flight;     /* now */
    uint64_t connects;      /* connections made, the first included */
    uint64_t bytes_sent, bytes_received;
    struct vouch_polling_stats polling; /* of threads that waited for replies */
    uint64_t notices;                   /* that the server said unasked, and on_notice gets */
    uint64_t notices_lost; /* … that it does not: there is none, or too many wait, or no memory */
};

/* Any thread; does not wait. */
VOUCH_API void vouch_client_get_stats(struct vouch_client *client,
                                      struct vouch_client_stats *ret_stats);

/* The pool the client takes its buffers from; lives as long as the client. For its counters. */
VOUCH_API struct vouch_pool *vouch_client_get_pool(struct vouch_client *client);

#ifdef __cplusplus
}
#endif
#endif
