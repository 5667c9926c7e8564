/* SPDX-License-Identifier: MIT */
#include "plugin/loop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/mem.h"
#include "lib/os.h"
#include "rpc/peer.h"

/* Events dealt with before a foreign loop gets its turn. */
#define PROCESS_TURNS 64
/* Timers of a member: what it is doing, and pings. */
#define MEMBER_TIMERS 2
/* Enough for callbacks of ordinary habits. */
#define LOOP_STACK ((size_t)512 * 1024)

int loop_new(const struct vouch_allocator *allocator, struct loop **ret_loop) {
    struct loop *loop = mem_zalloc(allocator, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    loop->allocator = allocator;
    loop->epoch = os_process_epoch();
    loop->server_source.fd = -1;
    timer_heap_init(&loop->timers, allocator);
    int r = cond_init(&loop->changed);
    if (r == 0) {
        r = poller_new(allocator, &loop->poller);
        if (r < 0)
            pthread_cond_destroy(&loop->changed);
    }
    if (r < 0) {
        mem_free(allocator, loop, sizeof(*loop));
        return r;
    }
    pthread_mutex_init(&loop->lock, NULL);
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop) {
    if (!loop)
        return;
    bool ours = os_process_epoch() == loop->epoch;
    if (loop->threaded && ours) {
        pthread_mutex_lock(&loop->lock);
        loop->closing = true;
        pthread_mutex_unlock(&loop->lock);
        loop_wake(loop);
        pthread_join(loop->thread, NULL);
    }
    if (ours)
        loop_unwatch(loop, &loop->server_source);
    vouch_server_free(loop->server);
    poller_free(loop->poller);
    if (!ours)
        return; /* another thread of the parent's may have held the lock */
    timer_heap_deinit(&loop->timers);
    pthread_cond_destroy(&loop->changed);
    pthread_mutex_destroy(&loop->lock);
    mem_free(loop->allocator, loop, sizeof(*loop));
}

/* ---- members ---- */

int loop_add(struct loop *loop, struct loop_member *member) {
    size_t timers = MEMBER_TIMERS;
    for (struct loop_member *m = loop->first; m; m = m->next)
        timers += MEMBER_TIMERS;
    int r = timer_heap_reserve(&loop->timers, timers); /* setting them can't fail then */
    if (r < 0)
        return r;
    member->next = NULL;
    if (loop->last)
        loop->last->next = member;
    else
        loop->first = member;
    loop->last = member;
    return 0;
}

void loop_remove(struct loop *loop, struct loop_member *member) {
    struct loop_member *previous = NULL;
    struct loop_member **link = &loop->first;
    while (*link && *link != member) {
        previous = *link;
        link = &(*link)->next;
    }
    if (!*link)
        return;
    *link = member->next;
    if (loop->last == member)
        loop->last = previous;
}

int loop_watch(struct loop *loop, struct loop_source *source, int fd) {
    int r = poller_add(loop->poller, fd, POLLER_IN, source);
    source->fd = r == 0 ? fd : -1;
    return r;
}

void loop_unwatch(struct loop *loop, struct loop_source *source) {
    if (source->fd >= 0)
        poller_remove(loop->poller, source->fd);
    source->fd = -1;
}

void loop_set_timer(struct loop *loop, struct loop_timer *timer, int64_t deadline) {
    if (deadline == VOUCH_FOREVER)
        timer_cancel(&loop->timers, &timer->timer);
    else
        (void)!timer_set(&loop->timers, &timer->timer, deadline); /* room was reserved */
    if (loop->turning && !loop_is_mine(loop))
        loop_wake(loop);
}

/* ---- the server of those without one ---- */

static void serve(struct loop_source *source) {
    struct loop *loop =
        (struct loop *)(void *)((char *)source - offsetof(struct loop, server_source));
    loop_pause(loop);
    (void)!vouch_server_process(loop->server);
    loop_resume(loop);
}

/* Without a descriptor for many it has workers of its own. */
static int serve_somehow(struct loop *loop, struct vouch_server *server) {
    int fd = vouch_server_get_fd(server);
    if (fd == -ENOTSUP)
        return vouch_server_start(server);
    loop->server_source.ready = serve;
    return fd < 0 ? fd : loop_watch(loop, &loop->server_source, fd);
}

int loop_get_server(struct loop *loop, struct vouch_server **ret_server) {
    if (!loop->server) {
        struct vouch_server_options options = {VOUCH_OPTIONS(options), .allocator = loop->allocator,
                                               .workers = 1};
        struct vouch_server *server;
        int r = vouch_server_new(&options, &server);
        if (r < 0)
            return r;
        r = serve_somehow(loop, server);
        if (r < 0) {
            vouch_server_free(server);
            return r;
        }
        loop->server = server;
    }
    *ret_server = loop->server;
    return 0;
}

/* ---- turning ---- */

bool loop_is_mine(const struct loop *loop) {
    return loop->turning && pthread_equal(loop->turner, pthread_self());
}

void loop_notify(struct loop *loop) {
    pthread_cond_broadcast(&loop->changed);
}

void loop_pause(struct loop *loop) {
    pthread_mutex_unlock(&loop->lock);
}

void loop_resume(struct loop *loop) {
    pthread_mutex_lock(&loop->lock);
}

void loop_wake(struct loop *loop) {
    poller_wake(loop->poller);
}

void loop_finish_turn(struct loop *loop) {
    uint64_t before = loop->turns;
    while (loop->turning && !loop_is_mine(loop) && loop->turns == before) {
        loop_wake(loop);
        pthread_cond_wait(&loop->changed, &loop->lock);
    }
}

static void deal_with(struct loop *loop, struct loop_source *source) {
    if (source->fd < 0)
        return; /* unwatched between the event and now */
    source->ready(source);
    if (source->fd >= 0 && poller_arm(loop->poller, source->fd, POLLER_IN, source) < 0)
        loop_unwatch(loop, source); /* out of memory: its timer ends what waits for it */
}

static void expire(struct loop *loop) {
    int64_t now = vouch_now();
    struct timer *timer;
    while ((timer = timer_expire(&loop->timers, now))) {
        struct loop_timer *due = (struct loop_timer *)(void *)timer;
        due->due(due);
    }
}

int loop_turn(struct loop *loop, int64_t deadline) {
    struct poller_event event = {.data = NULL};
    if (loop->turning) {
        cond_wait_until(&loop->changed, &loop->lock, deadline);
        return 0;
    }
    loop->turning = true;
    loop->turner = pthread_self();
    const void *outer = peer_turn(loop); /* a callback may turn another loop */
    int64_t next = timer_next(&loop->timers);
    pthread_mutex_unlock(&loop->lock);
    int r = poller_wait(loop->poller, &event, 1, next < deadline ? next : deadline);
    pthread_mutex_lock(&loop->lock);
    if (r == 1 && event.data)
        deal_with(loop, event.data);
    expire(loop);
    for (struct loop_member *m = loop->first, *following; m; m = following) {
        following = m->next;
        m->work(m);
    }
    (void)peer_turn(outer);
    loop->turning = false;
    loop->turns++;
    loop_notify(loop);
    return r;
}

static void *turn_for_ever(void *context) {
    struct loop *loop = context;
    pthread_mutex_lock(&loop->lock);
    while (!loop->closing)
        if (loop_turn(loop, VOUCH_FOREVER) < 0) /* short of memory: not in circles */
            cond_wait_until(&loop->changed, &loop->lock, vouch_deadline_in(VOUCH_MILLISECONDS(10)));
    pthread_mutex_unlock(&loop->lock);
    return NULL;
}

int loop_start_thread(struct loop *loop) {
    pthread_attr_t attributes;
    sigset_t all, before;
    int r = pthread_attr_init(&attributes);
    if (r != 0)
        return -r;
    pthread_attr_setstacksize(&attributes, LOOP_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&loop->thread, &attributes, turn_for_ever, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    loop->threaded = r == 0;
    return -r;
}

/* ---- the foreign loop ---- */

int loop_get_fd(struct loop *loop) {
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    return loop->threaded ? -EBUSY : poller_fd(loop->poller);
}

int64_t loop_get_timeout(struct loop *loop) {
    pthread_mutex_lock(&loop->lock);
    int64_t next = timer_next(&loop->timers), now = vouch_now();
    pthread_mutex_unlock(&loop->lock);
    if (next == VOUCH_FOREVER)
        return VOUCH_FOREVER;
    return next <= now ? 0 : next - now;
}

int loop_process(struct loop *loop) {
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    pthread_mutex_lock(&loop->lock);
    int r = loop_is_mine(loop) ? -EDEADLK : 1;
    for (int i = 0; i < PROCESS_TURNS && r > 0 && !loop->turning; i++)
        r = loop_turn(loop, 0);
    pthread_mutex_unlock(&loop->lock);
    return r < 0 ? r : 0;
}
