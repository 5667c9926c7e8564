/* SPDX-License-Identifier: MIT */
/*
 * The session: the protocol of one connection without any I/O. Bytes go in and events come out;
 * calls go in and bytes come out. The wire is `uds`, our own, or what a dialect makes of it.
 *
 * It owns ids, what is in flight, deadlines, limits, and the queues of both directions. It makes no
 * system call, has no thread, no lock and no clock: time is passed in. Client, server, tests and
 * fuzzers drive it. Its driver serialises all calls of one session, except that the bytes of
 * session_space() may be filled while others use the session.
 *
 * A session dies of the first malformed byte or broken limit and stays dead: session_failure() says
 * why. What is in flight then is the driver's to end.
 */
#ifndef VOUCH_RPC_SESSION_H
#define VOUCH_RPC_SESSION_H

#include <sys/uio.h>
#include <vouch/common.h>
#include <vouch/error.h>
#include <vouch/pool.h>

#include "lib/chunk.h"
#include "lib/timer.h"
#include "rpc/dialect.h"
#include "rpc/envelope.h"
#include "rpc/idtable.h"
#include "rpc/outbox.h"

/* On a connection on which both sides call each has two sessions: SESSION_PEER has the bytes and
 * the peer's calls; SESSION_GUEST has our calls. A guest sees no bytes: what it says goes out
 * through the peer's session (session_relay), and is told of hellos and replies by events of that.
 */
enum session_role { SESSION_CLIENT, SESSION_SERVER, SESSION_PEER, SESSION_GUEST };

/* What this side knows beyond the plain `uds` wire, as bits of the feature fields. */
enum {
    SESSION_FEATURE_CANCEL = 1 << 0,
    SESSION_FEATURE_PING = 1 << 1,
    SESSION_FEATURE_ERRORS = 1 << 2, /* error types over 4, and texts without doubled '%' */
    SESSION_FEATURE_PEER = 1 << 3,   /* calls and is called: in the hellos of peers only */
};
#define SESSION_FEATURES                                                                           \
    ((uint64_t)(SESSION_FEATURE_CANCEL | SESSION_FEATURE_PING | SESSION_FEATURE_ERRORS))

/* The defaults of both sides. */
#define SESSION_FRAME_TIMEOUT VOUCH_SECONDS(30)
#define SESSION_STALL_TIMEOUT VOUCH_SECONDS(30)

/* Pings that are answered in one second; a peer that sends more is ignored, then dropped at
 * SESSION_STRIKES. */
#define SESSION_PINGS_PER_SECOND 10
#define SESSION_STRIKES 1000
/* Answers of handlers that end at the same time may go over output_hard though the peer reads: it
 * has this part of the stall timeout to get below again. At so many times output_hard it has none.
 */
#define SESSION_OVERRUN_SHARE 6
#define SESSION_OVERRUN_FACTOR 4
/* Of what a call says that its reply repeats (vouch_message.tag), so much outlives the call's own
 * bytes, where it was too large to be taken; else it is left out. */
#define SESSION_TAG_MAX 64
/* Cancels that wait for the server's hello. */
#define SESSION_EARLY_CANCELS 16

struct session_limits {
    size_t max_receive; /* largest message taken */
    size_t max_send;    /* largest message sent */
    size_t drain_max; /* largest oversize message that is skipped and answered; larger ones end the
                         session */
    unsigned max_calls;    /* in flight, each direction. Of a peer's calls more are answered, with
                              VOUCH_REMOTE_UNAVAILABLE: who both calls and is called never stops
                              reading, since what comes next may be a reply that a handler waits for */
    size_t output_soft;    /* bytes waiting to be sent at which reading stops */
    size_t output_hard;    /* … at which the session dies, see SESSION_OVERRUN_SHARE */
    int64_t frame_timeout; /* for a message once its first byte is there */
    int64_t stall_timeout; /* without a byte sent while there are some to send */
};

/* One call in flight, embedded in the driver's own struct; `node` must stay first. */
struct session_slot {
    struct idtable_node node;
    struct timer timer;
    bool incoming; /* made by the peer */
    bool answered; /* incoming, and its deadline has been answered: it waits for its handler to let
                      go */
    bool delayed;  /* incoming: its timer is that of session_delay */
    /* Incoming calls: what the reply repeats. `method` points into the request, which the driver
     * keeps until the reply. */
    int64_t expires;
    const char *method; /* in a dialect: the target */
    size_t method_size;
    const uint8_t *tag;
    size_t tag_size;
};

enum session_event_type {
    SESSION_EVENT_NONE,  /* not of clients: a message that is nothing to the driver, who takes turns
                            with other sessions and so counts it */
    SESSION_EVENT_CALL,  /* the peer calls: envelope, buffer, and `result` when it can't be run (a
                            vouch_remote_error) */
    SESSION_EVENT_REPLY, /* the peer answered `slot`: result, envelope, buffer. Of a peer's session
                            it has no slot yet, and is for session_deliver */
    SESSION_EVENT_CANCEL,  /* the peer cancels `slot`, which stays in flight until it is answered */
    SESSION_EVENT_EXPIRED, /* the deadline of `slot` passed (session_expire) */
    SESSION_EVENT_DUE,     /* … or the time that session_delay has set */
    SESSION_EVENT_HELLO,   /* peer: the other one is there: for session_introduce */
    SESSION_EVENT_STOP,    /* peer: the other one asks us to end */
    SESSION_EVENT_NOTICE,  /* the server said something unasked: envelope's data, buffer */
};

struct session_event {
    enum session_event_type type;
    struct session_slot *slot;
    int result;               /* 0; > 0: the remote error; < 0: what was wrong with a reply here */
    struct envelope envelope; /* points into `buffer` */
    struct vouch_buffer *buffer; /* a reference for the driver; NULL when there is none */
    uint64_t oversize; /* declared size of a message that was too large and has been skipped */
    int64_t deadline;  /* of a call, CLOCK_MONOTONIC; VOUCH_FOREVER when it has none */
    /* Of a call in a dialect. */
    struct {
        const char *target;
        size_t target_size;
        const char *fallback;
        size_t fallback_size;
        const uint8_t *tag;
        size_t tag_size;
        bool refused;    /* it can't be run, as the dialect says … */
        const char *why; /* … for this reason */
        size_t why_size; /* 0: not said */
    } dialect;
};

struct session {
    enum session_role role;
    struct session_limits limits;
    const struct vouch_allocator *allocator;
    struct vouch_pool *pool;
    struct vouch_chunk_decoder decoder;
    struct outbox out;
    struct idtable calls;    /* made by us */
    struct idtable requests; /* made by the peer */
    struct timer_heap timers;
    int64_t frame_deadline, stall_deadline;
    int64_t overrun_deadline; /* to be below output_hard again; 0: from the next session_expire */
    int failure;
    const struct dialect_choice *choice; /* NULL: it has been chosen from */
    const struct vouch_dialect *dialect; /* NULL: our own */
    bool has_browsers;                   /* servers, in a dialect: see dialect_is_http */
    uint32_t last_id;
    uint32_t last_request; /* in a dialect calls have no numbers of their own */
    uint32_t unanswered;   /* calls we gave up, on which the peer may still answer */
    uint64_t peer_features;
    uint64_t peer_max;       /* largest message that the peer takes, 0: not said */
    uint32_t peer_calls;     /* guest: calls that the peer takes in flight, 0: not said */
    uint64_t beats_answered; /* peer: see session_beat */
    bool peer_known;         /* it has answered once, so peer_features is final */
    bool announced;          /* our features have been sent */
    bool paused;             /* input has not been wanted: a half message is not the peer's fault */
    bool postponing;         /* a call is held back: see postpone() */
    int64_t wall_offset; /* wall clock minus CLOCK_MONOTONIC, kept fresh by the driver: deadlines
                            travel as wall time */
    struct session_event postponed;
    struct vouch_skim skim; /* an oversize line of a server; see session_dialect_skim */
    bool skimming;
    uint32_t skimmed;       /* whose reply it is; 0: not known */
    uint64_t skimmed_bytes; /* of it, so far */
    char postponed_method[ENVELOPE_METHOD_MAX];
    uint8_t postponed_tag[SESSION_TAG_MAX];
    uint32_t early_cancels[SESSION_EARLY_CANCELS];
    unsigned early_cancel_count;
    int64_t ping_window;
    unsigned pings, strikes;
};

/* `pool` is referenced. 0, -ENOMEM or -EINVAL. */
int session_init(struct session *session, enum session_role role,
                 const struct session_limits *limits, struct vouch_pool *pool,
                 const struct vouch_allocator *allocator) VOUCH_MUST_CHECK;
/* What is spoken, before the first byte and the first call: without this it is our own, in chunks.
 * `choice` must outlive the session, and has something in it. 0, or -ENOMEM. */
int session_speak(struct session *session, const struct dialect_choice *choice) VOUCH_MUST_CHECK;

void session_deinit(struct session *session); /* what is in flight is forgotten; safe twice */

/* Input. Where the next bytes go, then how many came. 0, -ENOMEM, or the failure. */
int session_space(struct session *session, uint8_t **ret_space, size_t *ret_size) VOUCH_MUST_CHECK;
void session_commit(struct session *session, size_t size, int64_t now);

/* The next event: 1; 0 when more bytes are needed; the failure. */
int session_next(struct session *session, int64_t now,
                 struct session_event *ret_event) VOUCH_MUST_CHECK;

/* Whether a whole message is held that has not become an event yet. */
bool session_has_message(const struct session *session);

/* Nobody reads for a while, of our own accord: the time of a half message begins anew when somebody
 * does. */
void session_pause(struct session *session);

/* Whether reading should go on: not while too much waits to be sent, nor while a call is held that
 * is one too many in flight. (While none is, cancels may come.) */
bool session_wants_input(const struct session *session);

/* A buffer for a body of at most `size` bytes with room around it for an envelope. */
int session_buffer(struct vouch_pool *pool, size_t size,
                   struct vouch_buffer **ret_buffer) VOUCH_MUST_CHECK;

/* The same with a copy of these bytes in it. */
int session_copy(struct vouch_pool *pool, const void *data, size_t size,
                 struct vouch_buffer **ret_buffer) VOUCH_MUST_CHECK;

/* Makes a call: takes `body` (made by session_buffer) over, whatever it returns. 0; -EMSGSIZE,
 * -EBUSY (too many in flight), -EAGAIN (too much waits to be sent), -EINVAL (method), -ENOMEM, the
 * failure. The size of the message that did not fit is in `ret_size` (may be NULL). */
int session_call(struct session *session, struct session_slot *slot, const char *method,
                 struct vouch_buffer *body, int64_t deadline, size_t *ret_size) VOUCH_MUST_CHECK;

/* Gives a call of ours up (deadline, cancel): no event will come of it. Tells the peer if it knows
 * how to be told. */
void session_abandon(struct session *session, struct session_slot *slot);

/* Takes a call of ours out of flight without a word: the session is dead, or about to be let go. */
void session_forget(struct session *session, struct session_slot *slot);

/* Sends a ping as a call: the pong is its reply. -ENOTSUP when the peer has not shown that it knows
 * pings; else as session_call. */
int session_ping(struct session *session, struct session_slot *slot,
                 int64_t deadline) VOUCH_MUST_CHECK;

/* Takes a call of the peer into flight, as an event gave it. Its envelope's method must stay
 * readable until the reply. */
void session_accept(struct session *session, struct session_slot *slot,
                    const struct session_event *event);

/* Starts the deadline of a call of the peer, for calls that are answered later. 0 or -ENOMEM. */
int session_watch(struct session *session, struct session_slot *slot,
                  int64_t deadline) VOUCH_MUST_CHECK;

/* In the place of the deadline: at `when` the call is due, and the driver answers it. 0 or -ENOMEM.
 */
int session_delay(struct session *session, struct session_slot *slot,
                  int64_t when) VOUCH_MUST_CHECK;

/* Answers a call of the peer, which leaves flight whatever is returned. session_reply takes `body`
 * over; -EMSGSIZE: it was too large and the caller got an error instead; -ETIMEDOUT: its deadline
 * has been answered before; -EBADMSG: a dialect can't say it. `result` > 0; the text need not be
 * clean. Short of memory for an answer the session dies, so that the caller learns of it. */
int session_reply(struct session *session, struct session_slot *slot,
                  struct vouch_buffer *body) VOUCH_MUST_CHECK;
int session_reply_error(struct session *session, struct session_slot *slot, int result,
                        const char *text) VOUCH_MUST_CHECK;

/* Says something to a client that it has not asked for; takes `body` over. 0; -ENOTSUP (our own
 * wire has no such messages, nor have all dialects), -EAGAIN (too much waits to be sent),
 * -EMSGSIZE, -EINVAL (it can't be said), -ENOMEM, the failure. */
int session_notify(struct session *session, struct vouch_buffer *body) VOUCH_MUST_CHECK;

/* Whether bodies may be lent: the calls below. */
bool session_can_lend(const struct session *session);

/* A body that is lent instead of given: the same calls with `data` and `size`, and an empty buffer
 * of session_buffer for what comes before it. The bytes are sent from where they are, so the driver
 * sends at once, before it returns to whoever lends them, and then has what could not be sent
 * copied (session_keep_lent: 0, or -ENOMEM, of which the session dies). One at a time. */
int session_call_lent(struct session *session, struct session_slot *slot, const char *method,
                      struct vouch_buffer *head, const struct iovec *body, int64_t deadline,
                      size_t *ret_size) VOUCH_MUST_CHECK;
int session_reply_lent(struct session *session, struct session_slot *slot,
                       struct vouch_buffer *head, const struct iovec *body) VOUCH_MUST_CHECK;
int session_keep_lent(struct session *session);

/* ---- peers ---- */

/* Tells the guest what a hello said. */
void session_introduce(struct session *guest, const struct session_event *hello);

/* Gives the guest a reply, an event of the peer's session: 1, and the event's slot and result are
 * set; 0 when nobody waits for it. */
int session_deliver(struct session *guest, struct session_event *event) VOUCH_MUST_CHECK;

/* Moves what the guest has to say to the end of the peer's output, as far as that has room. */
void session_relay(struct session *guest, struct session *peer);

/* Pings the peer without a call; `beats_answered` counts the pongs. -EAGAIN when it has not said
 * hello yet, -ENOTSUP when it does not know pings, -ENOMEM, the failure. */
int session_beat(struct session *peer) VOUCH_MUST_CHECK;

/* Asks the peer to end. -ENOMEM, the failure. */
int session_ask_stop(struct session *peer) VOUCH_MUST_CHECK;

/* Whether so much waits to be sent that no call is taken. */
bool session_output_full(const struct session *session);

/* The largest message that may be sent: our own limit, and the peer's when it has said it. */
size_t session_max_send(const struct session *session);

/* Output: the bytes to send as at most `max` pieces (0 when there are none), then how many were
 * taken. */
int session_output(const struct session *session, struct iovec *ret_pieces, int max);
void session_sent(struct session *session, size_t size);
/* The socket is full: from now the stall timeout runs. */
void session_blocked(struct session *session, int64_t now);

/* The next point in time at which session_expire has to be called. */
int64_t session_deadline(const struct session *session);
/* What `now` has ended: 1: an event; 0: nothing more; the failure (a half message or a stalled peer
 * among others). */
int session_expire(struct session *session, int64_t now,
                   struct session_event *ret_event) VOUCH_MUST_CHECK;

/* 0, or why the session is dead. session_fail makes it so; the first reason stays. */
int session_failure(const struct session *session);
void session_fail(struct session *session, int failure);

#endif
