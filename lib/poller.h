/* SPDX-License-Identifier: MIT */
/*
 * A poller: many descriptors, many waiting threads, each readiness given to one of them.
 *
 * Every registration is one-shot: after an event the descriptor is silent until it is armed again,
 * so whoever got the event owns the descriptor without a lock. Level-triggered at the moment of
 * arming: arming a ready descriptor makes an event at once. poller_epoll.c (Linux) and
 * poller_poll.c (anywhere). The poll(2) one elects one thread to be in poll and hands events to the
 * others.
 */
#ifndef VOUCH_LIB_POLLER_H
#define VOUCH_LIB_POLLER_H

#include <stdint.h>
#include <vouch/memory.h>

struct poller;

/* POLLER_HUP: errors and hang-ups only, for who does not want to read now. */
enum { POLLER_IN = 1, POLLER_OUT = 2, POLLER_HUP = 4 };

struct poller_event {
    void *data;      /* as given to poller_add; NULL: a wake-up */
    unsigned events; /* POLLER_IN and/or POLLER_OUT; errors and hang-ups show as all that was armed
                        of those, or POLLER_HUP */
};

int poller_new(const struct vouch_allocator *allocator,
               struct poller **ret_poller) VOUCH_MUST_CHECK;
void poller_free(struct poller *poller); /* NULL is ignored; nobody may be waiting, but where it is
                                            that of a forked child's parent */

/* `data` must not be NULL and be aligned like an int (-EINVAL). `events` may be 0: registered but
 * silent (hang-ups too). poller_arm wants a registered descriptor (-ENOENT), so that whoever arms
 * late can't undo a poller_remove. 0 or negative errno. */
int poller_add(struct poller *poller, int fd, unsigned events, void *data) VOUCH_MUST_CHECK;
int poller_arm(struct poller *poller, int fd, unsigned events, void *data) VOUCH_MUST_CHECK;
/* To be called before `fd` is closed; unknown ones are ignored. After this returns no wait will
 * *begin* to report fd; one that is under way in another thread may still hand out an event fetched
 * before, so `data` has to be kept alive by its owner until then (the server's reference counts).
 */
void poller_remove(struct poller *poller, int fd);

/* Waits until `deadline` (ns, CLOCK_MONOTONIC; 0: just look) for at most `max` events. Returns how
 * many (0 at the deadline), or a negative errno. EINTR never shows. A wake-up is consumed by the
 * one wait that reports it. Any number of threads. */
int poller_wait(struct poller *poller, struct poller_event *ret_events, int max,
                int64_t deadline) VOUCH_MUST_CHECK;

/* Makes one poller_wait, now or next, return a wake-up event (data NULL). Wake-ups raised before
 * one is consumed may merge into one. Async-signal-safe. */
void poller_wake(struct poller *poller);

/* Makes one poller_wait return a wake-up event at `deadline`; VOUCH_FOREVER: no more. There is one
 * alarm, the last one set. A past deadline fires at once. 0 or negative errno. */
int poller_set_alarm(struct poller *poller, int64_t deadline) VOUCH_MUST_CHECK;

/* A descriptor that is readable while events wait, for a foreign loop; -ENOTSUP where the system
 * has none (poll(2)). */
int poller_fd(const struct poller *poller);

#endif
