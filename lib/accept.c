/* SPDX-License-Identifier: MIT */
/*
 * Accepting. For every client in this order: read who it is, ask the policy, take a place, only
 * then spend memory on a connection. Whoever is refused is closed at once and the next one is
 * taken, so that nobody can fill the backlog of the others.
 *
 * No error of accept(2) ends the listener. Without descriptors the client at the head of the queue
 * can't be taken and the socket stays readable: a reserve descriptor is given up to take and close
 * it, so that it does not wait for nothing, and the next try is put off, so that we do not spin.
 */
#include "lib/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/conn.h"
#include "lib/identity.h"
#include "lib/tcp.h"

static void put_off(struct vouch_listener *listener, int64_t now) {
    int64_t gap = listener->retry_gap ? 2 * listener->retry_gap : LISTENER_RETRY_MIN;
    listener->retry_gap = gap < LISTENER_RETRY_MAX ? gap : LISTENER_RETRY_MAX;
    listener->retry_at = clock_add(now, listener->retry_gap);
}

/* Any descriptor will do, and this one is always there to be copied. */
bool listener_hold_reserve(struct vouch_listener *listener) {
    if (listener->reserve < 0)
        listener->reserve = fcntl(listener->wake.read_fd, F_DUPFD_CLOEXEC, 0);
    return listener->reserve >= 0;
}

static void shed(struct vouch_listener *listener, int64_t now) {
    close(listener->reserve);
    listener->reserve = -1;
    int fd = os_accept(listener->fd);
    if (fd >= 0) {
        close(fd);
        listener->stats.shed++;
    } else if (fd != -EAGAIN) {
        listener->stats.errors++;
    }
    bool whole = listener_hold_reserve(listener);
    if (whole && (fd >= 0 || fd == -EAGAIN))
        listener->retry_at = clock_add(now, LISTENER_SHED_INTERVAL);
    else
        put_off(listener, now);
}

static void survive(struct vouch_listener *listener, int error, int64_t now) {
    listener->stats.errors++;
    switch (error) {
    case -EINTR:
    case -ECONNABORTED: /* the client is gone again */
        return;
    case -EMFILE:
    case -ENFILE:
    case -ENOMEM:
    case -ENOBUFS:
        shed(listener, now);
        return;
    default: /* a security module's refusal, or something that should not be: not worth dying or
                spinning for */
        put_off(listener, now);
    }
}

/* NULL and a place, or the counter of why there is none. */
static uint64_t *find_place(struct vouch_listener *listener, const struct vouch_identity *identity,
                            struct admission_share **ret_share) {
    struct vouch_listener_stats *stats = &listener->stats;
    struct vouch_decision decision;
    if (listener->link != VOUCH_LINK_TCP &&
        !vouch_policy_check(&listener->policy, identity, &decision))
        return decision.reason == VOUCH_REASON_UID_UNKNOWN ? &stats->refused_unknown
                                                           : &stats->refused_policy;
    switch (admission_admit(listener->admission, identity->uid, ret_share)) {
    case ADMISSION_OK:
        return NULL;
    case ADMISSION_UID_FULL:
        return &stats->refused_uid_limit;
    case ADMISSION_FULL:
        return &stats->refused_total_limit;
    default:
        return &stats->shed;
    }
}

/* By TCP there is nothing to read and nothing for a policy to decide by: who listens so has chosen
 * that. */
static int read_peer(const struct vouch_listener *listener, int fd,
                     const struct vouch_identity **ret_identity) {
    if (listener->link != VOUCH_LINK_TCP)
        return identity_read_peer(fd, fd < listener->pidfd_below, listener->allocator,
                                  ret_identity);
    tcp_set_up(fd);
    return tcp_unknown_peer(listener->allocator, ret_identity);
}

/* Makes a connection of `fd`, or returns the counter of why not. */
static uint64_t *admit(struct vouch_listener *listener, int fd, struct vouch_conn **ret_conn) {
    struct vouch_listener_stats *stats = &listener->stats;
    const struct vouch_identity *identity;
    int r = read_peer(listener, fd, &identity);
    if (r < 0)
        return r == -ENOMEM ? &stats->shed : &stats->refused_unknown;
    struct admission_share *share;
    uint64_t *refusal = find_place(listener, identity, &share);
    if (!refusal) {
        if (conn_new(fd, listener->link, identity, &listener->conn_options, admission_release,
                     share, ret_conn) == 0)
            return NULL;
        admission_release(share);
        refusal = &stats->shed;
    }
    vouch_identity_unref(identity);
    return refusal;
}

/* One client, or one error: 1 a connection, 0 none but go on, -EAGAIN nobody is waiting. */
static int accept_one(struct vouch_listener *listener, int64_t now, struct vouch_conn **ret_conn) {
    if (!listener_hold_reserve(listener)) {
        put_off(listener, now);
        return 0;
    }
    int fd = os_accept(listener->fd);
    if (fd == -EAGAIN)
        return -EAGAIN;
    if (fd < 0) {
        survive(listener, fd, now);
        return 0;
    }
    listener->retry_gap = 0;
    uint64_t *refusal = admit(listener, fd, ret_conn);
    if (refusal) {
        ++*refusal;
        close(fd);
        return 0;
    }
    listener->stats.accepted++;
    return 1;
}

static int accept_locked(struct vouch_listener *listener, int64_t now, struct vouch_conn **ret_conn,
                         int64_t *ret_retry_at) {
    for (int i = 0; i < LISTENER_BURST; i++) {
        if (listener->fd < 0)
            return -ESHUTDOWN;
        if (now < listener->retry_at) {
            *ret_retry_at = listener->retry_at;
            return 0;
        }
        int r = accept_one(listener, now, ret_conn);
        if (r > 0)
            return 1;
        if (r < 0)
            break;
    }
    *ret_retry_at = 0;
    return 0;
}

int listener_accept_now(struct vouch_listener *listener, int64_t now, struct vouch_conn **ret_conn,
                        int64_t *ret_retry_at) {
    if (listener_forked(listener))
        return -ECHILD;
    pthread_mutex_lock(&listener->lock);
    int r = accept_locked(listener, now, ret_conn, ret_retry_at);
    pthread_mutex_unlock(&listener->lock);
    return r;
}

/* Until a client comes, or the listener is closed, or `until`. With `clients` off only for the
 * latter two. That the descriptor may be closed meanwhile does no harm: the wake-up is raised then,
 * and the next try says -ESHUTDOWN. */
static void wait_for(struct vouch_listener *listener, bool clients, int64_t now, int64_t until) {
    struct pollfd fds[2] = {
        {.fd = listener->wake.read_fd, .events = POLLIN},
        {.fd = clients ? listener->fd : -1, .events = POLLIN},
    };
    (void)poll(fds, 2, clock_poll_timeout(now, until));
}

int vouch_accept(struct vouch_listener *listener, int64_t deadline, struct vouch_conn **ret_conn) {
    for (;;) {
        int64_t now = vouch_now(), retry_at;
        int r = listener_accept_now(listener, now, ret_conn, &retry_at);
        if (r != 0)
            return r < 0 ? r : 0;
        if (now >= deadline)
            return -ETIMEDOUT;
        bool paused = retry_at > now;
        wait_for(listener, !paused, now, paused && retry_at < deadline ? retry_at : deadline);
    }
}
