/* SPDX-License-Identifier: MIT */
/*
 * A client of the Janus WebRTC gateway: libvouch-janus.
 *
 * A connection (struct vouch_janus) reaches the gateway over a UNIX socket or a WebSocket. On it
 * are sessions, and in each of them handles, one for each plugin that is talked to. What the
 * gateway says unasked goes to callbacks of handle, session or connection.
 *
 * Any number of threads may call. There is no hidden thread: the thread that waits for its answer
 * reads for all who wait, and keep-alives leave while somebody is inside a call, vouch_janus_wait
 * or vouch_janus_process. So a program that has a session has to be in one of these often enough.
 * Callbacks run inside vouch_janus_wait, vouch_janus_process and vouch_janus_free only, one at a
 * time, in the order in which things happened, with no lock held. They may do what does not wait.
 *
 * Results of calls: 0; < 0: no answer came (negative errno or VOUCH_E_*); > 0: the gateway said no,
 * and this is its code (enum vouch_janus_error). The text is in struct vouch_error.
 *
 * Wherever a call of this header waits for the gateway, it may return: -ETIMEDOUT (its deadline),
 * -ECANCELED, -ECONNRESET (the connection has ended), -EPROTO (what the gateway said is not its
 * protocol), -ESTALE (the session or handle is gone), -ESHUTDOWN (closed by this side), -EMSGSIZE
 * (larger than a limit, or than the socket takes), -EBUSY (max_calls), -EINVAL, -ENOMEM, -ECHILD,
 * -EDEADLK (a call that waits, from a callback). Trees (cJSON) that are handed in stay the
 * caller's.
 */
#ifndef VOUCH_JANUS_H
#define VOUCH_JANUS_H

#include <cjson/cJSON.h>
#include <vouch/client.h>
#include <vouch/common.h>
#include <vouch/error.h>
#include <vouch/memory.h>
#include <vouch/policy.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_janus;         /* a connection */
struct vouch_janus_session; /* a session at the gateway */
struct vouch_janus_handle;  /* a plugin's end in a session */

#define VOUCH_JANUS_ID_MAX UINT64_C(9007199254740991) /* 2^53 - 1: ids are 1 to this */
#define VOUCH_JANUS_ADDRESSES_MAX 16
#define VOUCH_JANUS_CALLS_DEFAULT 1024u /* in flight */
#define VOUCH_JANUS_CALLS_BOUND 65536u
#define VOUCH_JANUS_MESSAGE_DEFAULT ((size_t)4 * 1024 * 1024) /* bytes */
#define VOUCH_JANUS_MESSAGE_BOUND ((size_t)256 * 1024 * 1024)
#define VOUCH_JANUS_EVENTS_DEFAULT 1024u /* waiting for their callback */
#define VOUCH_JANUS_EVENTS_BOUND 65536u
#define VOUCH_JANUS_EVENT_BYTES_DEFAULT ((size_t)16 * 1024 * 1024) /* as text and as trees */
#define VOUCH_JANUS_OUTPUT_DEFAULT ((size_t)4 * 1024 * 1024)       /* bytes waiting to be sent */
#define VOUCH_JANUS_KEEPALIVE_DEFAULT VOUCH_SECONDS(20)
#define VOUCH_JANUS_ANSWER_DEFAULT VOUCH_SECONDS(15)

/* ---- What the gateway says ---- */

enum vouch_janus_kind {
    VOUCH_JANUS_OTHER = 0, /* something newer than this library: see `name` and `tree` */
    VOUCH_JANUS_SUCCESS,
    VOUCH_JANUS_ERROR,
    VOUCH_JANUS_ACK,
    VOUCH_JANUS_PONG,
    VOUCH_JANUS_SERVER_INFO,
    VOUCH_JANUS_EVENT,    /* of a plugin: plugin, data, perhaps jsep */
    VOUCH_JANUS_WEBRTCUP, /* the PeerConnection is there */
    VOUCH_JANUS_MEDIA,    /* media: audio or video, mid, receiving */
    VOUCH_JANUS_SLOWLINK, /* media, mid, uplink, lost */
    VOUCH_JANUS_HANGUP,   /* the PeerConnection is closed: reason */
    VOUCH_JANUS_DETACHED, /* the handle is gone */
    VOUCH_JANUS_TIMEOUT,  /* the session is gone, and its handles with it */
    VOUCH_JANUS_TRICKLE,  /* a candidate of the gateway's: candidate */
    VOUCH_JANUS_ICE_FAILED,
};

/* A message. Strings and trees are in `tree`; those that did not come are NULL, numbers 0. */
struct vouch_janus_message {
    enum vouch_janus_kind kind;
    const char *name;        /* the value of "janus" */
    const char *transaction; /* of the request that it belongs to */
    uint64_t session_id;     /* 0: none, or out of range */
    uint64_t handle_id;      /* "sender" */
    uint64_t id;             /* data.id of a success */

    const char *plugin; /* plugindata.plugin */
    const cJSON *data;  /* plugindata.data; of a success without plugindata, data */
    const cJSON *jsep;
    int plugin_error_code; /* error_code in a plugin's data: most plugins say errors so */
    const char *plugin_error;

    const char *media, *mid; /* media: "type"; slowlink: "media" */
    bool receiving, uplink;
    int64_t lost;
    const char *reason;     /* of a hangup */
    const cJSON *candidate; /* of a trickle: an object, {"completed":true} at the end */

    int error_code; /* of an error; VOUCH_JANUS_ERROR_UNKNOWN when it said none in 1 … INT_MAX */
    const char *error_reason;
    const cJSON *tree; /* all of it */
};

/* The gateway's codes (janus/apierror.h of the gateway, version 1.1.2). Plugins have codes of their
 * own, in their data. */
enum vouch_janus_error {
    VOUCH_JANUS_ERROR_UNAUTHORIZED = 403,        /* API secret missing or wrong */
    VOUCH_JANUS_ERROR_UNAUTHORIZED_PLUGIN = 405, /* the token may not use this plugin */
    VOUCH_JANUS_ERROR_TRANSPORT_SPECIFIC = 450,
    VOUCH_JANUS_ERROR_MISSING_REQUEST = 452,
    VOUCH_JANUS_ERROR_UNKNOWN_REQUEST = 453,
    VOUCH_JANUS_ERROR_INVALID_JSON = 454,
    VOUCH_JANUS_ERROR_INVALID_JSON_OBJECT = 455,
    VOUCH_JANUS_ERROR_MISSING_MANDATORY_ELEMENT = 456,
    VOUCH_JANUS_ERROR_INVALID_REQUEST_PATH = 457,
    VOUCH_JANUS_ERROR_SESSION_NOT_FOUND = 458,
    VOUCH_JANUS_ERROR_HANDLE_NOT_FOUND = 459,
    VOUCH_JANUS_ERROR_PLUGIN_NOT_FOUND = 460,
    VOUCH_JANUS_ERROR_PLUGIN_ATTACH = 461,
    VOUCH_JANUS_ERROR_PLUGIN_MESSAGE = 462,
    VOUCH_JANUS_ERROR_PLUGIN_DETACH = 463,
    VOUCH_JANUS_ERROR_JSEP_UNKNOWN_TYPE = 464,
    VOUCH_JANUS_ERROR_JSEP_INVALID_SDP = 465,
    VOUCH_JANUS_ERROR_TRICKLE_INVALID_STREAM = 466,
    VOUCH_JANUS_ERROR_INVALID_ELEMENT_TYPE = 467,
    VOUCH_JANUS_ERROR_SESSION_CONFLICT = 468,
    VOUCH_JANUS_ERROR_UNEXPECTED_ANSWER = 469,
    VOUCH_JANUS_ERROR_TOKEN_NOT_FOUND = 470,
    VOUCH_JANUS_ERROR_WEBRTC_STATE = 471,
    VOUCH_JANUS_ERROR_NOT_ACCEPTING_SESSIONS = 472,
    VOUCH_JANUS_ERROR_UNKNOWN = 490,
};

/* The gateway's code in an error that a call of this header filled: enum vouch_janus_error, or
 * another number > 0 of a newer gateway; 0 when it is not one of the gateway's. NULL gives 0. */
VOUCH_API int vouch_janus_error_code(const struct vouch_error *error);

/* A short name of any result of this header, those of vouch_strerror included. Static text, never
 * NULL. */
VOUCH_API const char *vouch_janus_strerror(int result);

/* Runs for each message that was not asked for. `message` is valid until it returns; to keep it,
 * duplicate its tree. */
typedef void (*vouch_janus_event_callback)(void *context,
                                           const struct vouch_janus_message *message);

/* ---- Connection ---- */

struct vouch_janus_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc. Not for trees, which are cJSON's, and
                                              * not for what libwebsockets takes */
    /* Sent with each request; NULL: not. Copied. */
    const char *api_secret, *token;

    /* Which credentials of a gateway on a UNIX socket of packets are acceptable; NULL: our uid, and
     * root. Copied. WebSockets have no such check, and neither have datagrams. */
    const struct vouch_policy *server;
    /* For one attempt at one address, ns; 0: 10 s; VOUCH_FOREVER. */
    int64_t connect_timeout;
    /* After all addresses have failed: so many more rounds; 0: none; UINT_MAX: for ever. */
    unsigned retries;
    /* Before each of these rounds, ns; 0: 1 s. */
    int64_t retry_pause;
    /* For all of it, every address, round and pause, ns; then connecting has failed (-ETIMEDOUT). 0
     * or VOUCH_FOREVER: as long as these take. */
    int64_t connect_total_timeout;

    /* For calls that don't say their own, ns; 0: 30 s; VOUCH_FOREVER. */
    int64_t call_timeout;
    /* A session that has sent nothing for so long sends a keep-alive (or when 7/8 of it have passed
     * and another session sends one), ns; 0:
     * VOUCH_JANUS_KEEPALIVE_DEFAULT; VOUCH_FOREVER: never. Has to be well below the gateway's
     * session-timeout, which vouch_janus_info tells (60 s if nobody changed it). */
    int64_t keepalive_interval;
    /* When nothing at all has come for so long after a keep-alive was sent, the connection has
     * ended (-ETIMEDOUT), ns; 0: VOUCH_JANUS_ANSWER_DEFAULT; VOUCH_FOREVER: it never does. */
    int64_t answer_timeout;

    unsigned max_calls;  /* 0: VOUCH_JANUS_CALLS_DEFAULT; at most VOUCH_JANUS_CALLS_BOUND. The
                            library's keep-alives don't count */
    size_t max_message;  /* sent or taken, bytes (a UNIX socket has a buffer of that size to read
                            into); 0: VOUCH_JANUS_MESSAGE_DEFAULT; at most VOUCH_JANUS_MESSAGE_BOUND
                          */
    unsigned max_events; /* 0: VOUCH_JANUS_EVENTS_DEFAULT; at most VOUCH_JANUS_EVENTS_BOUND. Later
                            ones are dropped and counted */
    size_t event_bytes;  /* of all that wait; 0: VOUCH_JANUS_EVENT_BYTES_DEFAULT. The answers of
                            asynchronous calls that wait for their callbacks may have as much
                            again; calls answered beyond it end with -ENOBUFS */
    size_t output_max;   /* bytes waiting to be sent at which asynchronous calls answer -EAGAIN; 0:
                            VOUCH_JANUS_OUTPUT_DEFAULT */

    /* Where the socket of a datagram connection is made; NULL: a directory of its own (0700) in
     * $TMPDIR or /tmp. The gateway must be able to write to the socket there. Copied. */
    const char *datagram_directory;

    /* Messages that belong to no session or handle of this connection; NULL: only counted. */
    vouch_janus_event_callback on_event;
    /* The end of a connection that had been made: runs once, with the cause (-ECONNRESET,
     * -ETIMEDOUT, -EPROTO, -ESHUTDOWN after vouch_janus_close, …), after all calls have ended. */
    void (*on_end)(void *context, int result, const struct vouch_error *error);
    void *context; /* of both */
};

/* Connects to the first of `addresses` (1 … VOUCH_JANUS_ADDRESSES_MAX of them) that can be had,
 * each in turn, in as many rounds as the options say. An address is one of
 *
 *     file://PATH                    UNIX socket of packets (SOCK_SEQPACKET, the gateway's default)
 *     file://PATH?type=SOCK_DGRAM    UNIX socket of datagrams; also ?type=SOCK_SEQPACKET
 *     ws://HOST[:PORT][/PATH]        WebSocket; port 80 if none is said (the gateway's is 8188)
 *     ws+unix://SOCKET[:/PATH]       WebSocket over a UNIX socket
 *
 * HOST is a name, an IPv4 address or an IPv6 one in brackets; looking a name up may wait, and no
 * timeout ends that. Neither $http_proxy nor a redirection is followed.
 *
 * 0, -EINVAL (an address that cannot be read, or an option out of range), -ENOTSUP (WebSocket,
 * built without libwebsockets), -ETIMEDOUT (connect_total_timeout), else the failure of the last
 * address: the message names it. `options` and `ret_error` may be NULL. Any thread; waits. Who
 * wants to give up meanwhile connects with vouch_janus_connect_async, and closes. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_connect(const char *const *addresses, size_t count,
                                                   const struct vouch_janus_options *options,
                                                   struct vouch_janus **ret_janus,
                                                   struct vouch_error *ret_error);

/* Begins to connect and returns. `on_open` runs once, with 0 or the failure as vouch_janus_connect
 * returns it; calls may be made before. Returns 0, -EINVAL, -ENOTSUP, -ENOMEM, -EMFILE. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_connect_async(
    const char *const *addresses, size_t count, const struct vouch_janus_options *options,
    void (*on_open)(void *context, int result, const struct vouch_error *error), void *context,
    struct vouch_janus **ret_janus, struct vouch_error *ret_error);

/* The address that was connected to, or is being tried; never NULL. Valid until vouch_janus_free.
 */
VOUCH_API const char *vouch_janus_get_address(struct vouch_janus *janus);

/* Ends the connection: all that is pending ends with -ESHUTDOWN, and so does every later call. The
 * gateway is told nothing: it ends the sessions as it is configured to. Safe twice; any thread;
 * does not wait. NULL is ignored. */
VOUCH_API void vouch_janus_close(struct vouch_janus *janus);

/* Closes, runs the callbacks that are left, lets go. Nobody may be inside another function of it,
 * and no callback may call it. Sessions and handles may be freed before or after: until then they
 * answer -ESHUTDOWN. No callback runs later. NULL is ignored. */
VOUCH_API void vouch_janus_free(struct vouch_janus *janus);

/* ---- Sessions and handles ---- */

/* Forget the object; the gateway is told nothing (see vouch_janus_destroy, vouch_janus_detach).
 * Events of it are not reported any more, but for one whose callback is running in another thread;
 * pending calls go on. Session, handles and connection may be freed in any order. NULL is ignored.
 */
VOUCH_API void vouch_janus_session_free(struct vouch_janus_session *session);
VOUCH_API void vouch_janus_handle_free(struct vouch_janus_handle *handle);

VOUCH_API uint64_t vouch_janus_session_get_id(const struct vouch_janus_session *session);
VOUCH_API uint64_t vouch_janus_handle_get_id(const struct vouch_janus_handle *handle);

/* 0 while it is there; -ESTALE: destroyed, detached or timed out; else how the connection ended. */
VOUCH_API int vouch_janus_session_get_state(struct vouch_janus_session *session);
VOUCH_API int vouch_janus_handle_get_state(struct vouch_janus_handle *handle);

/* Where events of a session go (those without a handle, and those of handles without a callback),
 * or of a handle. All zero: nowhere. */
struct vouch_janus_listener {
    vouch_janus_event_callback on_event;
    void *context;
};

/* A handle that exists at the gateway: of a session that was claimed. The gateway is not asked. 0,
 * -EINVAL (id), -EEXIST (there is an object of it), -ENOMEM, -ESTALE, … */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_handle_of(struct vouch_janus_session *session,
                                                     uint64_t id,
                                                     const struct vouch_janus_listener *listener,
                                                     struct vouch_janus_handle **ret_handle);

/* ---- Calls that wait ---- */

/* An answer that the caller owns: vouch_janus_message_free. Where `ret_reply` is NULL it is not
 * wanted. NULL is ignored. */
VOUCH_API void vouch_janus_message_free(const struct vouch_janus_message *message);

/* `options` (timeout, deadline, tag), `ret_reply`, `listener` and `ret_error` may be NULL. `more`
 * of the options is ignored. Any thread, but not from a callback. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_info(struct vouch_janus *janus,
                                                const struct vouch_call_options *options,
                                                struct vouch_janus_message **ret_reply,
                                                struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_ping(struct vouch_janus *janus,
                                                const struct vouch_call_options *options,
                                                struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_create(struct vouch_janus *janus,
                                                  const struct vouch_janus_listener *listener,
                                                  const struct vouch_call_options *options,
                                                  struct vouch_janus_session **ret_session,
                                                  struct vouch_error *ret_error);
/* Takes a session over that another connection had, while the gateway keeps it
 * (reclaim_session_timeout). -EEXIST: this connection has it. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_claim(struct vouch_janus *janus, uint64_t session_id,
                                                 const struct vouch_janus_listener *listener,
                                                 const struct vouch_call_options *options,
                                                 struct vouch_janus_session **ret_session,
                                                 struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_attach(struct vouch_janus_session *session,
                                                  const char *plugin,
                                                  const struct vouch_janus_listener *listener,
                                                  const struct vouch_call_options *options,
                                                  struct vouch_janus_handle **ret_handle,
                                                  struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_keepalive(struct vouch_janus_session *session,
                                                     const struct vouch_call_options *options,
                                                     struct vouch_error *ret_error);
/* The session and its handles are gone after it, whatever it returns once it has begun: not if it
 * was refused at once (-EINVAL, -EBUSY, -EMSGSIZE, -ENOMEM, -EDEADLK, -ECHILD, and -ETIMEDOUT of a
 * deadline that had passed already). The objects are still to be freed. */
VOUCH_API int vouch_janus_destroy(struct vouch_janus_session *session,
                                  const struct vouch_call_options *options,
                                  struct vouch_error *ret_error);

/* Sends a body (an object) to the plugin, perhaps with a jsep, and waits for the event that answers
 * it, or for the plugin's answer if it gives that at once: the reply's kind says which. An event
 * that comes after the call has ended otherwise goes to the handle's listener. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_send_message(struct vouch_janus_handle *handle,
                                                        const cJSON *body, const cJSON *jsep,
                                                        const struct vouch_call_options *options,
                                                        struct vouch_janus_message **ret_reply,
                                                        struct vouch_error *ret_error);
/* The same for plugins' requests that are answered at once. -EINPROGRESS: it was accepted, and the
 * answer will come as an event to the handle's listener. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_send_request(struct vouch_janus_handle *handle,
                                                        const cJSON *body, const cJSON *jsep,
                                                        const struct vouch_call_options *options,
                                                        struct vouch_janus_message **ret_reply,
                                                        struct vouch_error *ret_error);
/* One candidate (an object), many (an array), or that there are no more. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_trickle(struct vouch_janus_handle *handle,
                                                   const cJSON *candidate,
                                                   const struct vouch_call_options *options,
                                                   struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_trickle_many(struct vouch_janus_handle *handle,
                                                        const cJSON *candidates,
                                                        const struct vouch_call_options *options,
                                                        struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int
vouch_janus_trickle_completed(struct vouch_janus_handle *handle,
                              const struct vouch_call_options *options,
                              struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_hangup(struct vouch_janus_handle *handle,
                                                  const struct vouch_call_options *options,
                                                  struct vouch_error *ret_error);
/* The handle is gone after it, as with vouch_janus_destroy. */
VOUCH_API int vouch_janus_detach(struct vouch_janus_handle *handle,
                                 const struct vouch_call_options *options,
                                 struct vouch_error *ret_error);

/* ---- Calls that do not wait ---- */

enum vouch_janus_verb {
    VOUCH_JANUS_DO_INFO = 1,
    VOUCH_JANUS_DO_PING,
    VOUCH_JANUS_DO_CREATE,
    VOUCH_JANUS_DO_CLAIM,     /* id */
    VOUCH_JANUS_DO_ATTACH,    /* session, plugin */
    VOUCH_JANUS_DO_KEEPALIVE, /* session */
    VOUCH_JANUS_DO_DESTROY,   /* session */
    VOUCH_JANUS_DO_MESSAGE,   /* handle, body, perhaps jsep; ends with the event */
    VOUCH_JANUS_DO_REQUEST,   /* the same; ends with the synchronous answer */
    VOUCH_JANUS_DO_TRICKLE,   /* handle, candidate: object; array; NULL: completed */
    VOUCH_JANUS_DO_HANGUP,    /* handle */
    VOUCH_JANUS_DO_DETACH,    /* handle */
};

/* A request of any kind. What a verb does not need has to be NULL or 0. */
struct vouch_janus_request {
    size_t size;
    enum vouch_janus_verb verb;
    struct vouch_janus_session *session;
    struct vouch_janus_handle *handle;
    uint64_t id;        /* claim: the session's */
    const char *plugin; /* attach: "janus.plugin.echotest" */
    const cJSON *body, *jsep, *candidate;
    /* create, claim and attach: of the new session or handle. Copied. */
    const struct vouch_janus_listener *listener;
    /* create and claim: as in struct vouch_janus_options; 0: that of the connection. */
    int64_t keepalive_interval;
    /* An object whose members are added to the request ("opaque_id", say); its names must be none
     * that the request has. */
    const cJSON *more;
};

struct vouch_janus_reply {
    const struct vouch_janus_message *message; /* NULL unless the result is 0 */
    struct vouch_janus_session *session;       /* create, claim: new, and the caller's */
    struct vouch_janus_handle *handle;         /* attach: the same */
};

/* The end of a call; `reply` and `error` are never NULL and valid until it returns. */
typedef void (*vouch_janus_callback)(void *context, int result,
                                     const struct vouch_janus_reply *reply,
                                     const struct vouch_error *error);

/* Calls without waiting. `janus` is the connection of session or handle. Returns 0, and `callback`
 * will run exactly once, later; or an error as calls that wait, or -EAGAIN (output_max), and it
 * will not. `options` and `ret_id` (for vouch_janus_cancel_id) may be NULL. Any thread, callbacks
 * included. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_call_async(struct vouch_janus *janus,
                                                      const struct vouch_janus_request *request,
                                                      const struct vouch_call_options *options,
                                                      vouch_janus_callback callback, void *context,
                                                      uint64_t *ret_id);

/* The same, waiting. `ret_reply` (may be NULL) gets what was made and the message (it is cleared on
 * failure), all of which the caller frees; where it is NULL, that is done here. Not from a
 * callback. */
VOUCH_API VOUCH_MUST_CHECK int vouch_janus_call(struct vouch_janus *janus,
                                                const struct vouch_janus_request *request,
                                                const struct vouch_call_options *options,
                                                struct vouch_janus_reply *ret_reply,
                                                struct vouch_error *ret_error);

/* Ends all calls with this tag (of any kind), which answer -ECANCELED; the gateway cannot be told.
 * Returns how many. Any thread; does not wait. */
VOUCH_API size_t vouch_janus_cancel(struct vouch_janus *janus, uint64_t tag);
/* Ends one asynchronous call. 0, or -ENOENT when it has ended already. */
VOUCH_API int vouch_janus_cancel_id(struct vouch_janus *janus, uint64_t id);

/* ---- Driving ---- */

/* Runs callbacks until at least one has run, or `deadline`. Returns how many, -ETIMEDOUT, or how
 * the connection has ended, when nothing is left to be reported. One thread at a time (-EBUSY), not
 * from a callback (-EDEADLK). */
VOUCH_API int vouch_janus_wait(struct vouch_janus *janus, int64_t deadline);

/* For a foreign loop: poll get_fd for get_events (POLLIN/POLLOUT of poll.h) at most get_timeout ns
 * (VOUCH_FOREVER: no limit), then call process, whatever happened. process runs callbacks and
 * returns how many, or how the connection has ended, when nothing is left to be reported: so when
 * callbacks ran in the last turn, the next one says it, to which get_timeout leads at once. Other
 * threads may make calls beside the loop, and close: what they read or begin that concerns it makes
 * the descriptor readable.
 *
 * On Linux the descriptor stays the same until the end of the connection; then it is -1. Where the
 * system has no such descriptor it is the socket's own: to be asked for after each process, -1
 * while there is none (between attempts to connect), and threads beside the loop show in another
 * one, get_wake_fd, which is polled for POLLIN as well. That stays the same until
 * vouch_janus_free, and is -1 where it is not needed, which poll(2) ignores. */
VOUCH_API int vouch_janus_get_fd(struct vouch_janus *janus);
VOUCH_API int vouch_janus_get_wake_fd(struct vouch_janus *janus);
VOUCH_API short vouch_janus_get_events(struct vouch_janus *janus);
VOUCH_API int64_t vouch_janus_get_timeout(struct vouch_janus *janus);
VOUCH_API int vouch_janus_process(struct vouch_janus *janus);

struct vouch_janus_stats {
    uint64_t calls;           /* begun; keep-alives of the library included */
    uint64_t replies;         /* ended with 0 */
    uint64_t gateway_errors;  /* ended with > 0 */
    uint64_t local_errors;    /* ended with < 0 */
    uint64_t in_flight;       /* now */
    uint64_t keepalives;      /* sent by the library */
    uint64_t messages;        /* received */
    uint64_t events;          /* of them, for a callback */
    uint64_t events_dropped;  /* because max_events or event_bytes were waiting, or for want of
                                 memory */
    uint64_t unknown_replies; /* with a transaction that nobody waits for, and no handle's event */
    uint64_t unknown_senders; /* events of a session or handle that there is no object of */
    uint64_t malformed;       /* datagrams that were not the gateway's protocol */
    uint64_t events_waiting;  /* now */
};

/* Any thread; does not wait. */
VOUCH_API void vouch_janus_get_stats(struct vouch_janus *janus,
                                     struct vouch_janus_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
