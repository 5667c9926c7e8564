/* SPDX-License-Identifier: MIT */
/*
 * The pixl dialect: JSON lines as the Node.js package pixl-ipc and its clients write them, server
 * and client, with PCRE2 for patterns: libvouch-pixl.
 *
 * A request names a URI; routes lead it to a method that was registered with
 * vouch_json_add_method, which so answers through vouch's own wire and through this one. What the
 * wire looks like, and what differs from pixl-ipc, is in docs/pixl.md.
 *
 * Trees are cJSON's, as in <vouch/json.h>.
 */
#ifndef VOUCH_PIXL_H
#define VOUCH_PIXL_H

#include <cjson/cJSON.h>
#include <vouch/client.h>
#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/dial.h>
#include <vouch/dialect.h>
#include <vouch/error.h>
#include <vouch/json.h>
#include <vouch/listen.h>
#include <vouch/server.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VOUCH_PIXL_URI_MAX VOUCH_METHOD_NAME_MAX /* bytes, without its escapes */
#define VOUCH_PIXL_ID_MAX 256                    /* bytes of an ipcReqID as JSON */
#define VOUCH_PIXL_GROUPS_MAX 16                 /* of a pattern, the whole match included */
#define VOUCH_PIXL_CODE_MAX 63                   /* bytes of an error's code; longer ones are cut */
#define VOUCH_PIXL_DELAY_MAX 60000               /* ms, of the built-in delay */
/* What PCRE2 may spend on one URI: its match limit, and its heap limit in KiB. */
#define VOUCH_PIXL_MATCH_LIMIT 100000
#define VOUCH_PIXL_HEAP_LIMIT 1024

/* ---- Server ---- */

struct vouch_pixl_server;

struct vouch_pixl_server_options {
    size_t size;
    /* Where URIs go that no route and no method's name fits; NULL: they are answered
     * no_handler_found. A method's name, copied. */
    const char *default_method;
    /* Without /ipcserver/test/echo and /ipcserver/test/delay. */
    bool no_tests;
    int64_t slow;           /* ns; a response that takes longer counts as slow; 0: 20 ms */
    int64_t stats_interval; /* ns, for vouch_pixl_server_turn_stats; 0: 1 s */
    int64_t exit_timeout;   /* ns, for vouch_pixl_server_stop; 0: 2 s */
};

/* Makes the dialect for methods of `server`, whose pool it takes its memory from, and registers the
 * built-in methods there: before serving begins. It has to outlive the server. `options` may be
 * NULL. 0, -EINVAL, -ENOMEM, errors of vouch_json_add_method. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_pixl_server_new(struct vouch_server *server, const struct vouch_pixl_server_options *options,
                      struct vouch_pixl_server **ret_pixl);

/* After vouch_server_free. NULL is ignored. */
VOUCH_API void vouch_pixl_server_free(struct vouch_pixl_server *pixl);

enum vouch_pixl_route_kind {
    VOUCH_PIXL_LITERAL, /* the URI is this text */
    VOUCH_PIXL_PREFIX,  /* … begins with it */
    VOUCH_PIXL_PATTERN, /* … has a part that this regular expression matches */
};

enum {
    VOUCH_PIXL_CASELESS = 1 << 0, /* a pattern's letters stand for their other case, too */
};

/* Leads URIs to a method: the first route that fits counts, after the built-in ones. `text` is the
 * URI, its beginning, or a regular expression of PCRE2, which here reads what JavaScript's may look
 * like as JavaScript does (\uXXXX, $ at the very end only, empty classes). `method` is the name of
 * a method with VOUCH_METHOD_JSON, which need not be registered yet; both are copied.
 *
 * A URI that no route fits and that is a method's name leads to that. Before the dialect is used
 * (vouch_pixl_server_get_dialect, vouch_pixl_server_listen); one thread at a time. 0; -EBUSY (it is
 * in use), VOUCH_E_METHOD_NAME, -EINVAL (also a pattern that can't be compiled: `ret_error`, which
 * may be NULL, has the pattern, the offset and the reason), -ENOMEM. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pixl_server_add_route(struct vouch_pixl_server *pixl,
                                                           enum vouch_pixl_route_kind kind,
                                                           const char *text, unsigned flags,
                                                           const char *method,
                                                           struct vouch_error *ret_error);

/* The dialect, for vouch_server_add_listener_with and its like. Lives as long as `pixl`. From now
 * on there are no more routes. */
VOUCH_API const struct vouch_dialect *vouch_pixl_server_get_dialect(struct vouch_pixl_server *pixl);

/* Publishes an address on which this is spoken and nothing else: vouch_listen and
 * vouch_server_add_listener_with in one, errors of both. The socket's mode is vouch's, 0600, unless
 * `options` (may be NULL) says another; and who may connect is a matter of its policy. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pixl_server_listen(struct vouch_pixl_server *pixl,
                                                        const char *address,
                                                        const struct vouch_listen_options *options,
                                                        struct vouch_error *ret_error);

/* Where a URI leads, and what the groups of the pattern are: for handlers, which find the URI with
 * vouch_call_get_target. */
struct vouch_pixl_match {
    /* Lives as long as `pixl`; NULL: to a method of the URI's own name, or to the default. */
    const char *method;
    /* Of a pattern: groups[0] is the whole match. Parts of the URI that was given, not ended by
     * NUL; NULL: the group has no part in the match. 0: it was no pattern. */
    size_t group_count;
    struct {
        const char *text;
        size_t size;
    } groups[VOUCH_PIXL_GROUPS_MAX];
};

/* 1: a route fits; 0: none does; -E2BIG: a pattern took more than the limits above; -EINVAL (over
 * VOUCH_PIXL_URI_MAX, not UTF-8); -ENOMEM. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pixl_server_match(struct vouch_pixl_server *pixl,
                                                       const char *uri, size_t size,
                                                       struct vouch_pixl_match *ret_match);

/* Says something to the client of one connection, or with 0 to all (as vouch_server_send_notice):
 * an object without a member ipcReqID, which stays the caller's. -EINVAL: it is none, or as
 * vouch_json_print; -EMSGSIZE, -ENOMEM; else as vouch_server_send_notice. Any thread; does not
 * wait. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pixl_server_notify(struct vouch_pixl_server *pixl,
                                                        uint64_t connection, const cJSON *message);

/* vouch_server_stop with the option exit_timeout: what is in flight has so long to complete. */
VOUCH_API int vouch_pixl_server_stop(struct vouch_pixl_server *pixl);

/* Of an interval: the time since the last reset. */
struct vouch_pixl_stats {
    int64_t begun, elapsed;    /* when on CLOCK_MONOTONIC; ns since then */
    uint64_t requests;         /* that have come, whatever became of them */
    uint64_t opened, closed;   /* connections */
    uint64_t most_connections; /* at once */
    uint64_t slow;             /* responses */
    uint64_t blocked;          /* times that a client's socket was full */
    uint64_t skipped;          /* lines that were no message */
    /* now */
    uint64_t connections;
    uint64_t handlers; /* routes, built-in ones and the default included */
};

/* The interval so far. Any thread; does not wait. */
VOUCH_API void vouch_pixl_server_get_stats(struct vouch_pixl_server *pixl,
                                           struct vouch_pixl_stats *ret_stats);

/* The same, and begins the next one: at `now`, which is vouch_now() or the program's own idea of
 * it. */
VOUCH_API void vouch_pixl_server_take_stats(struct vouch_pixl_server *pixl, int64_t now,
                                            struct vouch_pixl_stats *ret_stats);

/* When the interval has lasted for the option stats_interval at `now`: as take, and 1; else 0. For
 * a timer, or whatever passes by often enough. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pixl_server_turn_stats(struct vouch_pixl_server *pixl,
                                                            int64_t now,
                                                            struct vouch_pixl_stats *ret_stats);

/* ---- Client ---- */

struct vouch_pixl_client;

/* Why a call has no data. */
struct vouch_pixl_error {
    int result;                         /* what the function returned */
    char code[VOUCH_PIXL_CODE_MAX + 1]; /* the reply's; "" where no reply came */
    char message[VOUCH_ERROR_TEXT_MAX + 1];
};

/* Turns a reply into data or an error, in the place of looking for a `code`. `reply` is the line as
 * a tree; it may be changed. 0: `*ret_data` is a tree that the caller of the call gets, maybe
 * detached from `reply`; NULL: its `data`. Else an enum vouch_remote_error, with `ret_error` filled
 * as it likes to. Runs on the thread that calls, or that runs the callback; no lock is held. */
typedef int (*vouch_pixl_transform)(void *context, cJSON *reply, cJSON **ret_data,
                                    struct vouch_pixl_error *ret_error);

struct vouch_pixl_client_options {
    size_t size;
    /* The rest: memory, limits, …; what is said below is overridden. May be NULL. Copied. */
    const struct vouch_client_options *client;
    const char *user_agent; /* NULL: "vouch/" and the version. Copied */
    int64_t call_timeout;   /* ns; 0: 10 s; VOUCH_FOREVER */
    /* vouch_pixl_client_dial: how long after the connection is gone, or an attempt failed, another
     * one is made, in vouch_client_process or vouch_client_wait; calls try at once. ns; 0: 1 s;
     * negative: never again. */
    int64_t reconnect;
    /* A reply with a `code` that JavaScript holds for true, in it or in its data, is data like any
     * other; else it is an error. */
    bool codes_are_data;
    vouch_pixl_transform transform; /* NULL: none */
    /* What the server says unasked, as vouch_client_options.on_notice; NULL: dropped. Lines that
     * are over the rules are dropped as well. */
    void (*on_message)(void *context, const cJSON *message);
    void *context;                        /* of both */
    const struct vouch_json_rules *rules; /* for replies, as whole lines; NULL: the defaults. Copied
                                           */
};
#define VOUCH_PIXL_CALL_TIMEOUT_DEFAULT VOUCH_SECONDS(10)

/* As vouch_client_dial, and its errors. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_pixl_client_dial(const char *address, const struct vouch_dial_options *dial_options,
                       const struct vouch_pixl_client_options *options,
                       struct vouch_pixl_client **ret_client, struct vouch_error *ret_error);

/* As vouch_client_new: takes the connection over on success only, does not reconnect. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_pixl_client_new(struct vouch_conn *conn, const struct vouch_pixl_client_options *options,
                      struct vouch_pixl_client **ret_client);

/* As vouch_client_free. NULL is ignored. */
VOUCH_API void vouch_pixl_client_free(struct vouch_pixl_client *client);

/* The client beneath, which stays this one's: for loops (vouch_client_get_fd, vouch_client_process,
 * vouch_client_wait), to cancel, to close, for statistics. */
VOUCH_API struct vouch_client *vouch_pixl_client_get_client(struct vouch_pixl_client *client);

/* Calls and waits. `data` may be NULL: none is sent. 0: `*ret_data` (may be NULL) is the reply's
 * data, null where it has none. > 0: the reply is an error, by its `code`: that enum
 * vouch_remote_error whose code this library writes (docs/pixl.md has them), else
 * VOUCH_REMOTE_UNKNOWN; or what the transform returned. < 0 as vouch_client_call and
 * vouch_json_call. VOUCH_E_METHOD_NAME: a URI that is empty, over VOUCH_PIXL_URI_MAX or not UTF-8.
 * `options` and `ret_error` may be NULL; `*ret_data` is NULL on failure. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pixl_call(struct vouch_pixl_client *client, const char *uri,
                                               const cJSON *data,
                                               const struct vouch_call_options *options,
                                               cJSON **ret_data,
                                               struct vouch_pixl_error *ret_error);

/* The end of an asynchronous call, as vouch_reply_callback: `data` is NULL unless `result` is 0,
 * and deleted after; `error` is never NULL. */
typedef void (*vouch_pixl_callback)(void *context, int result, const cJSON *data,
                                    const struct vouch_pixl_error *error);

/* Calls without waiting: as vouch_client_call_async and vouch_json_call_async. */
VOUCH_API VOUCH_MUST_CHECK int vouch_pixl_call_async(struct vouch_pixl_client *client,
                                                     const char *uri, const cJSON *data,
                                                     const struct vouch_call_options *options,
                                                     vouch_pixl_callback callback, void *context,
                                                     uint64_t *ret_id);

#ifdef __cplusplus
}
#endif
#endif
