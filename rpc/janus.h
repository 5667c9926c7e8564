/* SPDX-License-Identifier: MIT */
/*
 * What the files of libvouch-janus share: a connection and all that belongs to it.
 *
 * One lock, the connection's, guards everything; it is held across no wait and no callback. Objects
 * are counted under it: the program has one reference of each, a handle has one of its session, a
 * session one of the connection, a call one of what it is about. So freeing has no order.
 *
 * Every call is in exactly one of these places: pending (in flight), due (its callback is to run),
 * or with the thread that waits for it. janus_complete moves it out of the first, once.
 */
#ifndef VOUCH_RPC_JANUS_H
#define VOUCH_RPC_JANUS_H

#include <pthread.h>
#include <vouch/janus.h>

#include "lib/os.h"
#include "rpc/janus_link.h"
#include "rpc/janus_message.h"
#include "rpc/janus_table.h"

#define JANUS_CALL_BUCKETS 1024u /* of the table by transaction */
#define JANUS_TRANSACTION_BYTES 16
#define JANUS_TRANSACTION_TEXT ((size_t)2 * JANUS_TRANSACTION_BYTES)

enum janus_phase { JANUS_CONNECTING, JANUS_OPEN, JANUS_ENDED };

/* Something for a callback, in the order in which it happened. */
enum janus_due_kind { JANUS_DUE_EVENT, JANUS_DUE_CALL, JANUS_DUE_OPEN, JANUS_DUE_END };
struct janus_due {
    struct janus_due *next;
    enum janus_due_kind kind;
};

/* An event in the queue. */
struct janus_event {
    struct janus_due due; /* first */
    struct vouch_buffer *self;
    struct janus_message *message;
};

/* A thread that waits and does not drive. */
struct janus_sleeper {
    struct janus_sleeper *next, **back;
    pthread_cond_t cond;
    bool awake; /* signalled, and not yet seen it */
};

struct vouch_janus_session {
    struct janus_node node; /* first; its id is 0 until the gateway has said it */
    struct vouch_janus *janus;
    struct vouch_buffer *self;
    unsigned refs;
    int state; /* 0, -ESTALE */
    bool registered;
    struct vouch_janus_listener listener;
    int64_t interval, idle_since; /* of keep-alives */
};

struct vouch_janus_handle {
    struct janus_node node; /* first; as that of a session */
    struct vouch_janus_session *session;
    struct vouch_buffer *self;
    unsigned refs;
    int state;
    bool registered, forgotten; /* by the program */
    struct vouch_janus_listener listener;
};

struct janus_call {
    struct janus_due due;            /* first */
    struct janus_call *next, **back; /* pending */
    struct janus_call *chain;
    struct vouch_buffer *self;
    uint64_t id, tag;
    unsigned char key[JANUS_TRANSACTION_BYTES];
    enum vouch_janus_verb verb;
    int64_t deadline;
    struct vouch_janus_session *session; /* referenced; of create and claim, the new one */
    struct vouch_janus_handle *handle;   /* referenced; of attach, the new one */
    uint64_t claimed;                    /* claim: the id that is asked for */
    bool counted;                        /* its message, in answer_bytes */
    bool own;                            /* a keep-alive of the library's */
    vouch_janus_callback callback;       /* NULL: a thread waits, or `own` */
    void *context;
    struct janus_sleeper *sleeper; /* of that thread while it sleeps */
    bool done;
    int result;
    struct janus_message *message;
    struct vouch_error error;
};

/* A request that is not sent yet. Lives in the headroom of its text. */
struct janus_output {
    struct janus_output *next;
    struct vouch_buffer *text;
    unsigned char key[JANUS_TRANSACTION_BYTES];
};

struct vouch_janus {
    pthread_mutex_t lock;
    uint64_t epoch;
    struct vouch_pool *pool;
    struct vouch_buffer *self;
    unsigned refs; /* the program's, and one for each session */

    enum janus_phase phase;
    struct janus_link *link;
    size_t attempt;             /* index of the address that is tried, or was connected to */
    int64_t attempt_at;         /* when the next attempt is made, without a link */
    int64_t attempt_deadline;   /* of the link that is being opened */
    unsigned round;             /* how many times all of them have failed */
    int64_t connect_deadline;   /* of all of it */
    int opened_result;          /* what on_open is told */
    struct vouch_error failure; /* of the last attempt; after the end, its cause */
    unsigned in_flight;         /* all of them */
    unsigned own_calls; /* of these, keep-alives: they have places of their own beside max_calls */
    void (*on_open)(void *context, int result, const struct vouch_error *error);
    void *open_context;

    struct janus_call *pending;
    struct janus_call *by_key[JANUS_CALL_BUCKETS];
    uint64_t last_id, taken_out; /* of pending */
    int64_t next_deadline;       /* no call's is earlier */

    struct janus_output *output, **output_end;
    size_t output_bytes;

    struct janus_table sessions, handles; /* handles of all sessions */
    int64_t next_keepalive;               /* no session's is earlier */
    int64_t probed_at; /* the first keep-alive after which nothing has come; 0: none */

    struct janus_due *due, **due_end;
    struct janus_due opened, ended;
    size_t event_bytes;
    size_t answer_bytes; /* of calls that wait for their callback */
    pthread_t deliverer;

    /* For a foreign loop: a wake-up by threads that do something that concerns it and, where the
     * system has it, one descriptor for that and for the link's. */
    struct os_wake loop_wake;
    int loop_fd;        /* -1: the loop has both */
    int loop_link;      /* the link's, as the loop knows it */
    int64_t loop_until; /* when the loop looks again by itself */
    bool loop_begun, looping;
    bool loop_knows_end; /* how the connection has ended was said */

    struct os_wake wake;
    int64_t poll_until;
    struct janus_sleeper *sleepers;
    struct janus_sleeper *waiter; /* of vouch_janus_wait, while it is in there */
    unsigned polling;             /* threads in poll(2) */
    bool driving, waiting;        /* somebody drives; is in vouch_janus_wait */
    bool due_ready;               /* what that waits for */
    bool delivering;
    bool more;      /* there may be more to receive */
    bool link_done; /* the link is to be closed by who may */

    struct vouch_janus_stats stats;
    struct vouch_janus_options options; /* complete; its texts and its policy are here: */
    struct vouch_buffer *texts[3];      /* api_secret, token, datagram_directory */
    struct vouch_buffer *policy, *address_memory;
    struct janus_address *addresses;
    size_t address_count;
};

/* ---- rpc/janus_options.c ---- */

/* Complete options; -EINVAL says what is out of its range. */
int janus_options_read(const struct vouch_janus_options *options,
                       struct vouch_janus_options *ret_set,
                       struct vouch_error *ret_error) VOUCH_MUST_CHECK;
/* Copies of what the options of a connection point to: 0, -ENOMEM, -EINVAL (a policy). */
int janus_options_keep(struct vouch_janus *janus) VOUCH_MUST_CHECK;
/* 0, -ENOMEM without a text, -EINVAL, -ENOTSUP. */
int janus_addresses_keep(struct vouch_janus *janus, const char *const *addresses, size_t count,
                         struct vouch_error *ret_error) VOUCH_MUST_CHECK;
void janus_options_drop(struct vouch_janus *janus);

/* ---- rpc/janus_client.c: life ---- */

/* The caller's own process, and not one forked from it. */
static inline int janus_check(const struct vouch_janus *janus) {
    return janus->epoch == os_process_epoch() ? 0 : -ECHILD;
}
void janus_unref(struct vouch_janus *janus); /* lock held by the caller, and let go of */
/* Ends the connection with a cause, and all that is pending. */
void janus_end(struct vouch_janus *janus, int result, const char *format, ...) VOUCH_PRINTF(3, 4);
/* Gets on with connecting. */
void janus_connect_step(struct vouch_janus *janus, int64_t now);
void janus_drop_link(struct vouch_janus *janus);

/* ---- rpc/janus_start.c: how calls begin ---- */

/* Begins a call. With a callback, or `own`, or else for the calling thread, which gets it. */
struct janus_start {
    const struct vouch_janus_request *request;
    const struct vouch_call_options *options;
    vouch_janus_callback callback;
    void *context;
    bool own;
};
int janus_call_start(struct vouch_janus *janus, const struct janus_start *start,
                     struct janus_call **ret_call, struct vouch_error *ret_error) VOUCH_MUST_CHECK;

/* ---- rpc/janus_call.c: those in flight, and what is sent ---- */

/* A transaction that no call has: 0 or negative errno. */
int janus_transaction_new(struct vouch_janus *janus, unsigned char *ret_key) VOUCH_MUST_CHECK;
void janus_transaction_print(const unsigned char *key, char text[JANUS_TRANSACTION_TEXT + 1]);
void janus_call_insert(struct vouch_janus *janus, struct janus_call *call);
/* Sends, or keeps, the text of a call that was inserted; takes it over. The call may have ended
 * after it. */
void janus_output_push(struct vouch_janus *janus, const struct janus_call *call,
                       struct vouch_buffer *text);
/* Ends a pending call. `message` is taken over and may be NULL; `text` says why when result is not
 * 0, NULL: vouch_janus_strerror. */
void janus_complete(struct vouch_janus *janus, struct janus_call *call, int result,
                    struct janus_message *message, const char *text);
/* Those of a session or a handle, but for the one that asks for its end; with both NULL all. */
void janus_complete_all(struct vouch_janus *janus, const struct vouch_janus_session *session,
                        const struct vouch_janus_handle *handle, int result, const char *text);
struct janus_call *janus_call_find(struct vouch_janus *janus, const char *transaction);
void janus_call_free(struct vouch_janus *janus, struct janus_call *call);
void janus_expire(struct vouch_janus *janus, int64_t now);
void janus_flush(struct vouch_janus *janus);
void janus_drop_output(struct vouch_janus *janus);

/* ---- rpc/janus_session.c: sessions, handles, keep-alives ---- */

struct vouch_janus_session *janus_session_new(struct vouch_janus *janus,
                                              const struct vouch_janus_listener *listener,
                                              int64_t interval);
struct vouch_janus_handle *janus_handle_new(struct vouch_janus_session *session,
                                            const struct vouch_janus_listener *listener);
/* Gives a new object its id. 0, -EEXIST. */
int janus_session_register(struct vouch_janus_session *session, uint64_t id) VOUCH_MUST_CHECK;
int janus_handle_register(struct vouch_janus_handle *handle, uint64_t id) VOUCH_MUST_CHECK;
struct vouch_janus_session *janus_session_find(struct vouch_janus *janus, uint64_t id);
struct vouch_janus_handle *janus_handle_find(struct vouch_janus *janus, uint64_t session_id,
                                             uint64_t id);
void janus_session_unref(struct vouch_janus_session *session); /* NULL is ignored */
void janus_handle_unref(struct vouch_janus_handle *handle);
/* It is gone at the gateway: what is pending in it ends with -ESTALE. */
void janus_session_end(struct vouch_janus_session *session, const char *text);
void janus_handle_end(struct vouch_janus_handle *handle, const char *text);
void janus_keepalives(struct vouch_janus *janus, int64_t now);
/* How long before it is due a keep-alive may leave, because another one does. */
static inline int64_t janus_keepalive_slack(int64_t interval) {
    return interval / 8;
}

/* ---- rpc/janus_dispatch.c: what came, and the callbacks ---- */

void janus_dispatch(struct vouch_janus *janus, const char *text, size_t size);
void janus_due_push(struct vouch_janus *janus, struct janus_due *due, enum janus_due_kind kind);
/* Runs the callbacks that are due; the lock is let go of meanwhile. Returns how many. */
int janus_deliver(struct vouch_janus *janus);

/* ---- rpc/janus_loop.c: foreign loops ---- */

/* Tells the foreign loop, if there is one, that there is something to do or to look at. */
void janus_wake_loop(struct vouch_janus *janus);
/* After what another thread has done: there may be another link, or none. */
void janus_loop_follow(struct vouch_janus *janus);
/* Before the link is closed; at the end of all. */
void janus_loop_forget(struct vouch_janus *janus);
void janus_loop_deinit(struct vouch_janus *janus);

/* ---- rpc/janus_drive.c: waiting ---- */

/* Receives, sends, expires: all that can be done without waiting. */
void janus_step(struct vouch_janus *janus);
int64_t janus_next_time(struct vouch_janus *janus);
/* Drives, or sleeps while somebody else does, until `*done`, or the connection has ended, or
 * `deadline`. `sleeper` is where who sets `*done` finds us. */
void janus_await(struct vouch_janus *janus, const bool *done, struct janus_sleeper **sleeper,
                 int64_t deadline);
bool janus_in_callback(const struct vouch_janus *janus); /* the calling thread is */
void janus_wake_sleeper(struct janus_sleeper *sleeper);  /* NULL is ignored */
/* Tells the thread in poll(2) that what it waits for has changed. */
void janus_wake_driver(struct vouch_janus *janus);
/* Something is due at `when`: whoever waits for longer looks again. */
void janus_wake_before(struct vouch_janus *janus, int64_t when);
/* Until the connection is made, or has failed. */
void janus_await_open(struct vouch_janus *janus);
/* How many callbacks have run, or how the connection has ended. */
int janus_outcome(const struct vouch_janus *janus, int count);

#endif
