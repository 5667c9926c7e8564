/* SPDX-License-Identifier: MIT */
/*
 * A link: a session on a connection, with the lock that serialises it. What client and server have
 * in common.
 *
 * Reading belongs to one thread at a time, which its owner sees to; sending to whoever finds nobody
 * sending. No lock is held across a system call: the sender takes pieces from the queue, unlocks,
 * sends, locks. Buffers leave the queue only in its hands.
 */
#ifndef VOUCH_RPC_LINK_H
#define VOUCH_RPC_LINK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <vouch/conn.h>

#include "lib/polling.h"
#include "rpc/session.h"

struct link {
    pthread_mutex_t lock;
    struct vouch_conn *conn;
    struct session session;
    bool sending;         /* a thread is in link_flush */
    bool blocked;         /* the socket was full: flush again when it is writable */
    bool corked;          /* a batch is being answered: whoever corked flushes at its end */
    bool broken;          /* sending failed; what has arrived can still be read */
    size_t send_room_max; /* see conn_grow_send_room */
    int64_t clock_until;  /* the session's wall_offset is fresh until then */
    uint64_t bytes_sent, bytes_received;
    void (*refill)(
        struct link *link); /* may add to the output before it is looked at; may be NULL */
};

/* Says what is spoken on the link's connection: what `choice`, which must outlive it, allows there.
 * 0; -ENOTSUP: packets are no place for dialects; -ENOMEM. */
int link_speak(struct link *link, const struct dialect_choice *choice) VOUCH_MUST_CHECK;

/* Sends what is queued until the queue is empty or the socket full. Called, and returns, with the
 * lock held; lets go of it meanwhile. When another thread is sending, it takes ours along and this
 * returns at once. */
void link_flush(struct link *link);
/* The same though the link is corked. (Not by taking the cork out meanwhile: who put it in may do
 * that as well, while the lock is let go of.) */
void link_flush_corked(struct link *link);

#define LINK_SEND_ROOM_MAX ((size_t)4 * 1024 * 1024)

/* Bodies from this size on are sent from where they are instead of being copied first. */
#define LINK_LEND_MIN ((size_t)8 * 1024)

/* Whether what is queued now would be sent at once, by this thread: then a body may be lent (see
 * session_call_lent). Lock held. */
bool link_can_lend(const struct link *link);

/* Sends at once, corked or not, and has what is left of a lent body copied. Lock held, let go of
 * meanwhile. */
void link_send_lent(struct link *link);

/* Reading, by the thread that owns it: where the next bytes go (with the lock held), how to get
 * them (without it), and what became of them (with it).
 *
 * link_space: 0 or the session's failure, -ENOMEM among them. */
int link_space(struct link *link, struct iovec *ret_space);
/* Looks for bytes for as long as `polling` allows, which may be not at all, and `stop` (may be
 * NULL) is not raised. As conn_recv_now. */
ssize_t link_look(struct link *link, struct polling *polling, const atomic_bool *stop,
                  const struct iovec *space);
/* Takes what conn_recv_now and its like returned. > 0: bytes; 0: nothing there now; negative: the
 * session has failed (-ECONNRESET at the end of file). */
int link_received(struct link *link, ssize_t got, int64_t now);

/* The three in one, without waiting or polling. `ret_full` says that there may be more. Called
 * without the lock. */
int link_receive(struct link *link, bool *ret_full);

/* The session's wall clock offset as of `now`, not older than a few milliseconds: reading two
 * clocks for every message would cost more than its envelope. */
void link_update_clock(struct link *link, int64_t now);

/* After `got` bytes where there was room for more: whether the socket may have some still. Packets
 * come one at a time. */
static inline bool link_may_have_more(const struct link *link, size_t got, size_t room) {
    return got >= room || link->session.decoder.framing == CHUNK_PACKETS;
}

/* Whether something waits that nobody is sending. With the lock held. */
static inline bool link_wants_output(const struct link *link) {
    return link->blocked && !link->broken && link->session.out.bytes > 0;
}

#endif
