/* SPDX-License-Identifier: MIT */
#include "rpc/link.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/conn.h"

/* Pieces in one sendmsg. */
#define LINK_PIECES 64

void link_flush(struct link *link) {
    struct iovec pieces[LINK_PIECES];
    if (link->sending || link->corked || link->broken)
        return;
    link->sending = true;
    link->blocked = false;
    int count;
    while ((count = session_output(&link->session, pieces, LINK_PIECES)) > 0) {
        pthread_mutex_unlock(&link->lock);
        ssize_t sent = conn_send_now(link->conn, pieces, count);
        pthread_mutex_lock(&link->lock);
        if (sent > 0) {
            link->bytes_sent += (uint64_t)sent;
            session_sent(&link->session, (size_t)sent);
            continue;
        }
        if (sent == -EAGAIN) {
            link->blocked = true;
            session_blocked(&link->session, vouch_now());
        } else {
            /* The peer may have answered before it went: what has arrived is read first, the end of
             * file then ends the rest. If it has not gone (the kernel was short of memory, or the
             * peer only stopped reading), it learns here that nothing more comes, and goes. */
            link->broken = true;
            (void)vouch_conn_shutdown_write(link->conn);
        }
        break;
    }
    link->sending = false;
}

int link_receive(struct link *link, bool *ret_full) {
    uint8_t *space;
    size_t room = 0;
    pthread_mutex_lock(&link->lock);
    int r = session_space(&link->session, &space, &room);
    pthread_mutex_unlock(&link->lock);
    ssize_t got = r < 0 ? 0 : conn_recv_now(link->conn, space, room);

    pthread_mutex_lock(&link->lock);
    if (r == 0) {
        int64_t now = vouch_now();
        link->session.wall_offset = clock_wall_now() - now;
        session_commit(&link->session, got > 0 ? (size_t)got : 0, now);
        r = got > 0 ? (int)got : (int)(got == -EAGAIN ? 0 : (got == 0 ? -ECONNRESET : got));
    }
    if (got > 0)
        link->bytes_received += (uint64_t)got;
    if (r < 0)
        session_fail(&link->session, r);
    pthread_mutex_unlock(&link->lock);
    *ret_full = got > 0 && (size_t)got == room;
    return r;
}
