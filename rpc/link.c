/* SPDX-License-Identifier: MIT */
#include "rpc/link.h"

#include <errno.h>

#include "lib/clock.h"
#include "lib/conn.h"
#include "lib/os.h"

/* Pieces in one sendmsg. */
#define LINK_PIECES 64
/* A wall clock that is set is noticed within this time. */
#define LINK_CLOCK_FRESH VOUCH_MILLISECONDS(5)

static int speak_in_packets(struct link *link) {
    static const struct dialect_choice packets = {.native = true, .packets = true};
    int r = session_speak(&link->session, &packets);
    if (r < 0)
        return r;
    (void)conn_grow_send_room(link->conn, CHUNK_PACKET_MAX, link->send_room_max);
    size_t max = conn_packet_max(link->conn);
    if (max > 0 && link->session.limits.max_send > max) /* 0: the system does not say */
        link->session.limits.max_send = max;
    return 0;
}

int link_speak(struct link *link, const struct dialect_choice *choice) {
    if (link->conn->link == VOUCH_LINK_SEQPACKET)
        return choice->count > 0 ? -ENOTSUP : speak_in_packets(link);
    link->session.has_browsers = link->conn->link == VOUCH_LINK_TCP;
    return choice->count > 0 ? session_speak(&link->session, choice) : 0;
}

static int next_pieces(struct link *link, struct iovec *ret_pieces) {
    if (link->refill)
        link->refill(link);
    return session_output(&link->session, ret_pieces, LINK_PIECES);
}

void link_flush(struct link *link) {
    if (!link->corked)
        link_flush_corked(link);
}

void link_flush_corked(struct link *link) {
    struct iovec pieces[LINK_PIECES];
    if (link->sending || link->broken)
        return;
    link->sending = true;
    link->blocked = false;
    int count;
    while ((count = next_pieces(link, pieces)) > 0) {
        pthread_mutex_unlock(&link->lock);
        ssize_t sent = conn_send_now(link->conn, pieces, count);
        pthread_mutex_lock(&link->lock);
        if (sent > 0) {
            link->bytes_sent += (uint64_t)sent;
            session_sent(&link->session, (size_t)sent);
            continue;
        }
        if (sent == -EAGAIN &&
            conn_grow_send_room(link->conn, link->session.out.bytes, link->send_room_max))
            continue;
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

bool link_can_lend(const struct link *link) {
    return link->conn && session_can_lend(&link->session) && !link->sending && !link->broken &&
           !link->blocked && !link->session.out.lent_after;
}

void link_send_lent(struct link *link) {
    link_flush_corked(link);
    (void)!session_keep_lent(&link->session); /* the session has failed, its driver sees it */
}

int link_space(struct link *link, struct iovec *ret_space) {
    uint8_t *space = NULL;
    size_t room = 0;
    int r = session_space(&link->session, &space, &room);
    if (r < 0)
        session_fail(&link->session, r);
    *ret_space = (struct iovec){space, room};
    return r;
}

ssize_t link_look(struct link *link, struct polling *polling, const atomic_bool *stop,
                  const struct iovec *space) {
    ssize_t got = -EAGAIN;
    int64_t now = vouch_now();
    if (!polling_begin(polling, now))
        return got;
    enum polling_outcome outcome = POLLING_IN_VAIN;
    do {
        got = conn_recv_now(link->conn, space->iov_base, space->iov_len);
        now = vouch_now();
        if (got != -EAGAIN)
            outcome = POLLING_FOUND;
        else if (stop && atomic_load(stop))
            outcome = POLLING_CUT;
        else
            os_relax();
    } while (outcome == POLLING_IN_VAIN && polling_goes_on(polling, now));
    polling_end(polling, now, outcome);
    return got;
}

void link_update_clock(struct link *link, int64_t now) {
    if (now < link->clock_until)
        return;
    link->clock_until = clock_add(now, LINK_CLOCK_FRESH);
    link->session.wall_offset = clock_wall_now() - now;
}

int link_received(struct link *link, ssize_t got, int64_t now) {
    int r = got > 0 ? (int)got : (int)(got == -EAGAIN ? 0 : (got == 0 ? -ECONNRESET : got));
    if (session_failure(&link->session) == 0) {
        link_update_clock(link, now);
        session_commit(&link->session, got > 0 ? (size_t)got : 0, now);
    }
    if (got > 0)
        link->bytes_received += (uint64_t)got;
    if (r < 0)
        session_fail(&link->session, r);
    return r;
}

int link_receive(struct link *link, bool *ret_full) {
    struct iovec space;
    *ret_full = false;
    pthread_mutex_lock(&link->lock);
    int r = link_space(link, &space);
    pthread_mutex_unlock(&link->lock);
    if (r < 0)
        return r;
    ssize_t got = conn_recv_now(link->conn, space.iov_base, space.iov_len);
    pthread_mutex_lock(&link->lock);
    r = link_received(link, got, vouch_now());
    pthread_mutex_unlock(&link->lock);
    *ret_full = got > 0 && link_may_have_more(link, (size_t)got, space.iov_len);
    return r;
}
