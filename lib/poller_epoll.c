/* SPDX-License-Identifier: MIT */
/*
 * The poller on epoll(7). The kernel does the work and the locking; there is no state here besides
 * two descriptors.
 *
 * What epoll does not tell with an event is which events were armed; that rides in the low bits of
 * `data`, which alignment leaves free. A registration that is armed for nothing reports hang-ups
 * all the same (the kernel adds EPOLLERR and EPOLLHUP to every mask), but being one-shot only once:
 * it has no `data`, and poller_wait throws that one away.
 */
#include "lib/poller.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/mem.h"
#include "lib/os.h"

/* ThreadSanitizer takes epoll_wait for the synchronisation that it is, but has never heard of
 * epoll_pwait2. */
#if defined(__SANITIZE_THREAD__)
enum { HAVE_NANOSECONDS = 0 };
#elif defined(__has_feature)
enum { HAVE_NANOSECONDS = !__has_feature(thread_sanitizer) };
#else
enum { HAVE_NANOSECONDS = 1 };
#endif

enum { BATCH = 64 }; /* most events in one wait */
enum { SILENT = 1 }; /* the `data` of who is armed for nothing; no address, which are even */

struct poller {
    const struct vouch_allocator *allocator;
    int epoll_fd;
    int alarm_fd;
    struct os_wake wake;
    atomic_bool
        nanoseconds; /* false once the kernel turned out to be older than epoll_pwait2 (5.11) */
};

/* Edge-triggered, and never read: every write to the eventfd (os_linux.c) is an edge of its own,
 * given to one wait. Its counter would take centuries to fill. */
static int add_edge(struct poller *poller, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    return epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int add_wake(struct poller *poller) {
    int r = os_wake_init(&poller->wake);

    return r < 0 ? r : add_edge(poller, poller->wake.read_fd);
}

/* Not read either: each expiry is an edge. */
static int add_alarm(struct poller *poller) {
    poller->alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return poller->alarm_fd < 0 ? -errno : add_edge(poller, poller->alarm_fd);
}

int poller_new(const struct vouch_allocator *allocator, struct poller **ret_poller) {
    struct poller *poller = mem_zalloc(allocator, sizeof(*poller));
    int r;

    if (!poller)
        return -ENOMEM;
    poller->allocator = allocator;
    poller->wake = OS_WAKE_NONE;
    poller->alarm_fd = -1;
    atomic_init(&poller->nanoseconds, HAVE_NANOSECONDS);
    poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r = poller->epoll_fd < 0 ? -errno : add_wake(poller);
    if (r == 0)
        r = add_alarm(poller);
    if (r < 0) {
        poller_free(poller);
        return r;
    }
    *ret_poller = poller;
    return 0;
}

void poller_free(struct poller *poller) {
    if (!poller)
        return;
    os_wake_deinit(&poller->wake);
    if (poller->alarm_fd >= 0)
        close(poller->alarm_fd);
    if (poller->epoll_fd >= 0)
        close(poller->epoll_fd);
    mem_free(poller->allocator, poller, sizeof(*poller));
}

static int control(struct poller *poller, int operation, int fd, unsigned events, void *data) {
    struct epoll_event event = {.events = EPOLLONESHOT};
    uintptr_t tag = events & (POLLER_IN | POLLER_OUT);

    if (!data || (uintptr_t)data & (POLLER_IN | POLLER_OUT))
        return -EINVAL;
    if (events & POLLER_IN)
        event.events |= EPOLLIN;
    if (events & POLLER_OUT)
        event.events |= EPOLLOUT;
    event.data.u64 = events ? (uintptr_t)data | tag : SILENT;
    return epoll_ctl(poller->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

int poller_add(struct poller *poller, int fd, unsigned events, void *data) {
    return control(poller, EPOLL_CTL_ADD, fd, events, data);
}

int poller_arm(struct poller *poller, int fd, unsigned events, void *data) {
    return control(poller, EPOLL_CTL_MOD, fd, events, data);
}

void poller_remove(struct poller *poller, int fd) {
    struct epoll_event ignored = {0}; /* kernels before 2.6.9 wanted one, and valgrind still does */

    (void)epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, &ignored);
}

/* False: the silence of a registration armed for nothing was broken by a hang-up. */
static bool translate(const struct epoll_event *event, struct poller_event *ret_event) {
    unsigned armed = (unsigned)event->data.u64 & (POLLER_IN | POLLER_OUT);
    unsigned events = 0;

    if (event->data.u64 == 0) {
        *ret_event = (struct poller_event){NULL, 0};
        return true;
    }
    if (event->data.u64 == SILENT)
        return false;
    if (event->events & EPOLLIN)
        events |= POLLER_IN;
    if (event->events & EPOLLOUT)
        events |= POLLER_OUT;
    if (event->events & (EPOLLERR | EPOLLHUP))
        events = armed ? armed : POLLER_HUP;
    *ret_event = (struct poller_event){(void *)((uintptr_t)event->data.u64 - armed), events};
    return events != 0;
}

static int wait_once(struct poller *poller, struct epoll_event *events, int max, int64_t deadline) {
    int64_t now = deadline == 0 || deadline == VOUCH_FOREVER ? 0 : vouch_now();
    int64_t left = deadline > now ? deadline - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(left / VOUCH_SECONDS(1)),
                               .tv_nsec = (long)(left % VOUCH_SECONDS(1))};
    int n;

    if (left == 0 || deadline == VOUCH_FOREVER ||
        !atomic_load_explicit(&poller->nanoseconds, memory_order_relaxed))
        return epoll_wait(poller->epoll_fd, events, max, clock_poll_timeout(now, deadline));
    n = epoll_pwait2(poller->epoll_fd, events, max, &timeout, NULL);
    if (n >= 0 || errno != ENOSYS)
        return n;
    atomic_store_explicit(&poller->nanoseconds, false, memory_order_relaxed);
    return epoll_wait(poller->epoll_fd, events, max, clock_poll_timeout(now, deadline));
}

int poller_wait(struct poller *poller, struct poller_event *ret_events, int max, int64_t deadline) {
    struct epoll_event events[BATCH];
    int n, count = 0;

    if (max < 1)
        return -EINVAL;
    for (;;) {
        n = wait_once(poller, events, max < BATCH ? max : BATCH, deadline);
        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++)
            count += translate(&events[i], &ret_events[count]);
        if (count > 0)
            return count;
        if (n == 0 && (deadline == 0 || (deadline != VOUCH_FOREVER && vouch_now() >= deadline)))
            return 0;
    }
}

void poller_wake(struct poller *poller) {
    os_wake_raise(&poller->wake);
}

int poller_set_alarm(struct poller *poller, int64_t deadline) {
    struct itimerspec at = {0}; /* all zero: disarmed */

    if (deadline != VOUCH_FOREVER) {
        at.it_value.tv_sec = deadline > 0 ? (time_t)(deadline / VOUCH_SECONDS(1)) : 0;
        at.it_value.tv_nsec = deadline > 0 ? (long)(deadline % VOUCH_SECONDS(1)) : 1;
    }
    return timerfd_settime(poller->alarm_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0 ? -errno : 0;
}

int poller_fd(const struct poller *poller) {
    return poller->epoll_fd;
}
