/* SPDX-License-Identifier: MIT */
/*
 * The client's insides. Three files: client.c (life), client_call.c (calls begin and end),
 * client_drive.c (bytes move).
 *
 * There is one lock, the link's; nothing that waits is done under it. At any time at most one
 * thread *drives*: it waits for the socket, reads for all, sends what the others have queued, and
 * completes calls. Threads that wait for replies and do not drive sleep, each on a parker of its
 * own; a driver whose own call has ended wakes one of them to drive on.
 *
 * Who is woken is only noted while the lock is held (client_wake), and woken when it has been let
 * go of (client_unlock): a thread whose call is done returns without taking the lock.
 */
#ifndef VOUCH_RPC_CLIENT_H
#define VOUCH_RPC_CLIENT_H

#include <pthread.h>
#include <vouch/client.h>

#include "lib/os.h"
#include "lib/parker.h"
#include "lib/poller.h"
#include "rpc/link.h"
#include "rpc/peer.h"

#define CLIENT_INTERCEPTORS_MAX 16
#define CLIENT_IDLE_CALLS_MAX 1024 /* records of asynchronous calls kept for reuse */

/* A thread that waits while another drives. On its stack: whoever has noted it to be woken touches
 * it until then, so it stays until it has been. */
struct client_sleeper {
    struct client_sleeper *next, *previous; /* among those who may be told to drive */
    struct parker parker;
    bool listed;
    bool waking; /* noted to be woken */
};

/* A call from begin to end. A blocking one is on its caller's stack, an asynchronous one from the
 * allocator. */
struct client_call {
    struct session_slot slot; /* first */
    struct client_call *next,
        *previous;                  /* in flight, or in the queue of ended asynchronous calls */
    struct client_sleeper *sleeper; /* whom to wake at the end */
    uint64_t tag;
    uint32_t serial;
    unsigned intercepted; /* interceptors that have seen it begin, and are to see its end */
    bool napped;          /* see client_drive */
    bool more;            /* it need not be sent yet */
    bool notice;          /* not a call: what the server said unasked, on its way to its callback */
    atomic_bool done;     /* set last */
    int result;
    size_t request_size;
    uint64_t size;  /* of the message that was too large */
    uint64_t limit; /* that it was over */
    struct vouch_reply reply;
    const char *text; /* remote error text, inside the reply's buffer */
    size_t text_size;
    int64_t begun, deadline;
    vouch_reply_callback callback; /* asynchronous ones */
    void *context;
    const char *method;
    char method_copy[ENVELOPE_METHOD_MAX +
                     2]; /* asynchronous ones; one more shows that it is too long */
};

struct client_queue {
    struct client_call *head, *tail;
};

struct vouch_client {
    struct link link; /* link.lock guards all below that changes */
    const struct vouch_allocator *allocator;
    struct vouch_pool *pool;
    uint64_t epoch;
    int64_t call_timeout;
    struct session_limits limits;
    struct vouch_client_interceptor interceptors[CLIENT_INTERCEPTORS_MAX];
    size_t interceptor_count;

    struct vouch_dialect dialect; /* a copy; unused: our own wire */
    struct dialect_choice choice;
    void (*on_notice)(void *context, const struct vouch_reply *notice);
    void *notice_context;
    unsigned notices;    /* that wait for their callback */
    size_t notice_bytes; /* … of them all */

    /* reconnecting */
    char *address; /* NULL: can't */
    struct vouch_dial_options dial;
    struct vouch_policy dial_policy;
    mode_t dial_modes[VOUCH_DIAL_MODES_MAX];
    int64_t reconnect_min, reconnect_max, reconnect_wait, reconnect_at;
    int64_t retry_after; /* … without a call; 0: never */
    int64_t retry_at;    /* 0: the connection is not known to be gone */
    pthread_cond_t connected;

    /* blocking calls that wait until less is to be sent */
    pthread_cond_t room;
    unsigned room_waiters;

    /* who drives, and how it waits */
    int64_t driving_until;    /* when the driver wakes by itself */
    struct polling polling;   /* the driver's */
    struct os_wake wake;      /* wakes the driver from poll(2) */
    struct os_wake loop_wake; /* wakes a foreign loop */
    struct poller *loop;      /* socket and wake as one descriptor; NULL until get_fd */
    int64_t loop_until;       /* when a foreign loop wakes by itself, as it was told last */
    pthread_t loop_thread;    /* who was told */
    bool loop_knows_end;      /* process has said why the connection is gone */
    bool guest;               /* the server of its connection drives, now and always */
    bool awaits;              /* a guest's calls wait for a connection */
    bool refuses;             /* no more of them begin */
    bool closed, driving;
    bool napping;        /* the driver sleeps in recv, where nobody can wake it */
    bool pushing;        /* a thread waits for the socket to take more, in the driver's stead */
    bool driver_asleep;  /* in poll(2) */
    atomic_bool poked;   /* the driver has to look at what has changed */
    bool loop_is_socket; /* this system has no such descriptor: see get_fd */
    bool processing;     /* a foreign loop's thread is in vouch_client_process */
    bool connecting;

    const void *turner;         /* of a guest: what connects it; NULL: nothing does (peer_turn) */
    struct server_conn *host;   /* of a guest (rpc/peer.h); NULL: it has none */
    struct client_call *flight; /* all calls in flight */
    size_t async_count;         /* asynchronous calls whose callback has not begun */
    struct client_queue ended;  /* asynchronous calls that wait for their callback */
    struct client_sleeper *sleepers;
    unsigned asleep;               /* how many sleepers */
    struct client_sleeper *handed; /* told to drive, and not there yet */
    struct client_sleeper *waiter; /* the thread in vouch_client_wait, when it sleeps */
    struct parker_lot lot;
    struct parker *wakes, *last_wake; /* noted by client_wake */
    unsigned away;                    /* threads that were woken and may call again at once */
    struct polling gathering;         /* whether waiting for them pays; it gives up its core, so
                                         any number of threads may */
    struct polling_room gathering_room;
    struct client_call *idle;
    size_t idle_count;
    uint32_t serial;
    struct vouch_client_stats stats;
};

/* ---- client.c ---- */

/* A client without a connection. */
int client_create(const struct vouch_client_options *options,
                  struct vouch_client **ret_client) VOUCH_MUST_CHECK;

/* As a deadline: what keeps it from calling is told, and not waited for. */
#define CLIENT_AT_ONCE 0

/* Makes sure that there is a live connection, dialling again when that is allowed; waits until
 * `deadline` at most. Lock held; let go of while dialling. 0 or why there is none. */
int client_connect(struct vouch_client *client, int64_t deadline,
                   struct vouch_error *error) VOUCH_MUST_CHECK;

/* When a connection that is gone is to be made again without a call; VOUCH_FOREVER: never, or it is
 * there. Lock held. */
int64_t client_retry_at(struct vouch_client *client);
/* Tries, if it is time. Lock held; let go of while dialling. */
void client_retry(struct vouch_client *client);

/* ---- client_call.c ---- */

/* Ends a call that has left the session. Lock held. */
void client_complete(struct vouch_client *client, struct client_call *call, int result);

/* Ends all calls in flight. Lock held. */
void client_complete_all(struct vouch_client *client, int result);

/* Queues what the server said unasked for its callback; takes the event's buffer over. Lock held.
 */
void client_take_notice(struct vouch_client *client, const struct session_event *event);

/* Runs the callbacks of ended asynchronous calls; returns how many. Lock held; let go of meanwhile.
 */
int client_run_callbacks(struct vouch_client *client);

/* ---- client_drive.c ---- */

/* The lock. Unlocking wakes those who were noted meanwhile. */
void client_lock(struct vouch_client *client);
void client_unlock(struct vouch_client *client);
void client_wake(struct vouch_client *client, struct client_sleeper *sleeper); /* lock held */
/* Waits on a condition variable of the client's, or wakes those who were noted first. Spurious
 * wake-ups are usual. */
void client_wait_on(struct vouch_client *client, pthread_cond_t *cond, int64_t deadline);

/* Drives once: waits until something can be read (or written, where that is wanted), `deadline`, or
 * a wake-up, and deals with it. `call`: the driver's own, if that is all that it waits for. Lock
 * held, let go of meanwhile; nobody may be driving. */
void client_drive(struct vouch_client *client, int64_t deadline, struct client_call *call);

/* link_flush, and tells those who wait for room. Lock held, let go of meanwhile. */
void client_flush(struct vouch_client *client);

/* Has what was queued sent: by this thread, or by a driver who is awake anyway. Lock held, let go
 * of meanwhile. */
void client_send(struct vouch_client *client);

/* Where the driver can't be woken and the socket is full: waits for it to take more, and sends.
 * False: there is no such need. Lock held, let go of meanwhile. */
bool client_push(struct vouch_client *client, int64_t deadline);

/* Waits until a call may be queued, `deadline`, or the end of the connection. Lock held, let go of
 * meanwhile. */
void client_wait_for_room(struct vouch_client *client, int64_t deadline);

/* Ends what is past its deadline. Lock held. */
void client_expire(struct vouch_client *client, int64_t now);

/* Ends the call that a reply is for; takes the event's buffer over. Lock held. */
void client_take_reply(struct vouch_client *client, const struct session_event *event);

/* Whether a callback may still come to be run. */
static inline bool client_has_more_to_come(const struct vouch_client *client) {
    return client->async_count > 0 || client->on_notice;
}

/* Deals with the messages that have arrived. Lock held, by the driver. */
void client_take_messages(struct vouch_client *client, int64_t now);

/* Sleeps until `deadline`, or somebody wakes this thread, as one of those who may be told to drive.
 * Lock held. True: `call` (may be NULL) is done, and the lock is *not* held. */
bool client_sleep(struct vouch_client *client, struct client_sleeper *sleeper, int64_t deadline,
                  struct client_call *call);

/* Its call has ended: it need not drive. Lock held. */
void client_unlist(struct vouch_client *client, struct client_sleeper *sleeper);

/* This thread does not drive any more: wakes another to, if nobody does and somebody waits. Lock
 * held. */
void client_hand_over(struct vouch_client *client);

/* A call has begun: who drives, or a foreign loop, must not sleep past its deadline, and must know
 * when the socket is full. Lock held. */
void client_wake_for(struct vouch_client *client, const struct client_call *call);

/* Something changed that the driver, or the foreign loop, has to know of. Lock held. */
void client_wake_driver(struct vouch_client *client);

#endif
