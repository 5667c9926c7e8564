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
#include <stdbool.h>
#include <vouch/conn.h>

#include "rpc/session.h"

struct link {
    pthread_mutex_t lock;
    struct vouch_conn *conn;
    struct session session;
    bool sending; /* a thread is in link_flush */
    bool blocked; /* the socket was full: flush again when it is writable */
    bool corked;  /* a batch is being answered: whoever corked flushes at its end */
    bool broken;  /* sending failed; what has arrived can still be read */
    uint64_t bytes_sent, bytes_received;
};

/* Sends what is queued until the queue is empty or the socket full. Called, and returns, with the
 * lock held; lets go of it meanwhile. When another thread is sending, it takes ours along and this
 * returns at once. */
void link_flush(struct link *link);

/* One recv into the session, without waiting. > 0: bytes; 0: nothing there now; negative: the
 * session has failed (-ECONNRESET at the end of file). `ret_full` says that there may be more.
 * Called without the lock, by the thread that owns reading. */
int link_receive(struct link *link, bool *ret_full);

/* Whether something waits that nobody is sending. With the lock held. */
static inline bool link_wants_output(const struct link *link) {
    return link->blocked && !link->broken && link->session.out_bytes > 0;
}

#endif
