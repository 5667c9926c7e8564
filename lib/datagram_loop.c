/* SPDX-License-Identifier: MIT */
/*
 * Datagrams in a foreign loop: which destinations had no room, and when they have again. Each is
 * remembered until on_writable was called for it once. On Linux all that tells of room is in one
 * epoll descriptor; where nothing tells, and for want of descriptors, it is tried again after
 * DATAGRAM_RETRY.
 *
 * Destinations that never have room keep their places. So that nobody has to have one, all that
 * found none share one time to try again: it needs no memory, however many they are.
 */
#include "lib/datagram.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/mem.h"

static void congestion_free(const struct vouch_datagram *datagram,
                            struct datagram_congestion *congestion) {
    if (congestion->helper >= 0)
        close(congestion->helper); /* leaves the epoll descriptor by that */
    mem_free(datagram->allocator, congestion, sizeof(*congestion));
}

static bool is_known(const struct vouch_datagram *datagram,
                     const struct vouch_datagram_address *to) {
    for (const struct datagram_congestion *c = datagram->congestions; c; c = c->next)
        if (to ? c->to.size == to->size && memcmp(c->to.text, to->text, to->size) == 0
               : c->to.size == 0)
            return true;
    return false;
}

static void watch_own(const struct vouch_datagram *datagram) {
    bool own = false;
    for (const struct datagram_congestion *c = datagram->congestions; c; c = c->next)
        own = own || c->own;
    datagram_watch_own(datagram->watch, datagram->fd, own);
}

/* Finds out what will tell of room there. */
static void find_teller(const struct vouch_datagram *datagram, const struct address_sockaddr *at,
                        struct datagram_congestion *congestion) {
    int fd = datagram->watch < 0 ? -1 : datagram_room_fd(datagram, at, &congestion->helper);
    congestion->own = fd >= 0 && fd == datagram->fd;
    congestion->retry_at = VOUCH_FOREVER;
    if (congestion->own ||
        (fd >= 0 && datagram_watch_add(datagram->watch, congestion->helper) == 0))
        return;
    if (congestion->helper >= 0)
        close(congestion->helper);
    congestion->helper = -1;
    congestion->retry_at = clock_add(vouch_now(), DATAGRAM_RETRY);
}

static struct datagram_congestion *congestion_new(const struct vouch_datagram *datagram) {
    if (datagram->congestion_count == VOUCH_DATAGRAM_CONGESTED_MAX)
        return NULL;
    return mem_zalloc(datagram->allocator, sizeof(struct datagram_congestion));
}

static void remember(struct vouch_datagram *datagram, const struct vouch_datagram_address *to,
                     const struct address_sockaddr *at) {
    if (is_known(datagram, to))
        return;
    struct datagram_congestion *congestion = congestion_new(datagram);
    if (!congestion) {
        if (datagram->rest_at == VOUCH_FOREVER)
            datagram->rest_at = clock_add(vouch_now(), DATAGRAM_RETRY);
        return;
    }
    congestion->helper = -1;
    if (to)
        congestion->to = *to;
    find_teller(datagram, at, congestion);
    congestion->next = datagram->congestions;
    datagram->congestions = congestion;
    datagram->congestion_count++;
    watch_own(datagram);
}

void datagram_congested(struct vouch_datagram *datagram, const struct vouch_datagram_address *to,
                        const struct address_sockaddr *at) {
    pthread_mutex_lock(&datagram->lock);
    remember(datagram, to, at);
    pthread_mutex_unlock(&datagram->lock);
}

void datagram_forget_congestions(struct vouch_datagram *datagram) {
    while (datagram->congestions) {
        struct datagram_congestion *congestion = datagram->congestions;
        datagram->congestions = congestion->next;
        congestion_free(datagram, congestion);
    }
    datagram->congestion_count = 0;
}

/* Takes those out of the list for which there may be room now. */
static struct datagram_congestion *take_ready(struct vouch_datagram *datagram) {
    struct pollfd fds[VOUCH_DATAGRAM_CONGESTED_MAX];
    nfds_t count = 0;
    for (const struct datagram_congestion *c = datagram->congestions; c; c = c->next)
        fds[count++] = (struct pollfd){.fd = c->own ? datagram->fd : c->helper, .events = POLLOUT};
    if (count > 0)
        (void)poll(fds, count, 0);
    int64_t now = vouch_now();
    struct datagram_congestion *ready = NULL, **link = &datagram->congestions;
    for (nfds_t i = 0; i < count; i++) {
        struct datagram_congestion *congestion = *link;
        if (!fds[i].revents && now < congestion->retry_at) {
            link = &congestion->next;
            continue;
        }
        *link = congestion->next;
        congestion->next = ready;
        ready = congestion;
        datagram->congestion_count--;
    }
    watch_own(datagram);
    return ready;
}

/* Whether those that are not remembered are to try again now. */
static bool take_rest(struct vouch_datagram *datagram) {
    if (vouch_now() < datagram->rest_at)
        return false;
    datagram->rest_at = VOUCH_FOREVER;
    return true;
}

static int tell(const struct vouch_datagram *datagram, const struct vouch_datagram_address *to) {
    if (datagram_is_closed(datagram))
        return 0;
    datagram->on_writable(datagram->context, to);
    return 1;
}

int vouch_datagram_process(struct vouch_datagram *datagram) {
    static const struct vouch_datagram_address any = {0};
    int r = datagram_usable(datagram);
    if (r < 0)
        return r;
    pthread_mutex_lock(&datagram->lock);
    struct datagram_congestion *ready = take_ready(datagram);
    bool rest = take_rest(datagram);
    pthread_mutex_unlock(&datagram->lock);
    int count = 0;
    while (ready) {
        struct datagram_congestion *congestion = ready;
        ready = congestion->next;
        count += tell(datagram, congestion->to.size ? &congestion->to : NULL);
        congestion_free(datagram, congestion);
    }
    return rest ? count + tell(datagram, &any) : count;
}

int vouch_datagram_get_fd(const struct vouch_datagram *datagram) {
    return datagram->watch >= 0 ? datagram->watch : datagram->fd;
}

short vouch_datagram_get_events(const struct vouch_datagram *datagram) {
    (void)datagram;
    return POLLIN;
}

int64_t vouch_datagram_get_timeout(struct vouch_datagram *datagram) {
    if (!datagram_is_ours(datagram))
        return VOUCH_FOREVER;
    pthread_mutex_lock(&datagram->lock);
    int64_t first = datagram->rest_at;
    for (const struct datagram_congestion *c = datagram->congestions; c; c = c->next)
        first = c->retry_at < first ? c->retry_at : first;
    pthread_mutex_unlock(&datagram->lock);
    if (first == VOUCH_FOREVER)
        return first;
    int64_t now = vouch_now();
    return first > now ? first - now : 0;
}
