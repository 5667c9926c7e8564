/* SPDX-License-Identifier: MIT */
/*
 * The loop of one plugin, or of a set: descriptors, timers, and a look at each member. One thread
 * *turns* it at a time, whoever it is: one of the library's, one in a function that waits, or a
 * foreign loop. Others who wait for what it brings sleep meanwhile.
 *
 * There is one lock for the loop and all that its members have. Only the thread that turns closes
 * descriptors, and it deals with one event at a time: no event can be about a descriptor that has
 * gone. (The exception is a member that could not begin: loop_finish_turn.) Callbacks of the
 * program run between loop_pause and loop_resume: the lock is let go of, the turn is not.
 */
#ifndef VOUCH_PLUGIN_LOOP_H
#define VOUCH_PLUGIN_LOOP_H

#include <pthread.h>
#include <vouch/server.h>

#include "lib/poller.h"
#include "lib/timer.h"

struct loop_source {
    void (*ready)(struct loop_source *source);
    int fd; /* -1: not watched */
};

struct loop_timer {
    struct timer timer; /* first */
    void (*due)(struct loop_timer *timer);
};

/* Looked at in each turn. */
struct loop_member {
    void (*work)(struct loop_member *member);
    struct loop_member *next;
};

struct loop {
    const struct vouch_allocator *allocator;
    uint64_t epoch;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct poller *poller;
    struct timer_heap timers;
    struct loop_member *first, *last;
    struct vouch_server *server; /* for members that are not given one; NULL until wanted */
    struct loop_source server_source;
    bool turning;
    uint64_t turns; /* that have ended */
    pthread_t turner;
    bool threaded; /* `thread` turns */
    bool closing;
    pthread_t thread;
};

int loop_new(const struct vouch_allocator *allocator, struct loop **ret_loop) VOUCH_MUST_CHECK;
/* Ends its thread. Nobody may be inside; no member may be watching. NULL is ignored. */
void loop_free(struct loop *loop);

/* A thread that turns until the end. 0 or negative errno. */
int loop_start_thread(struct loop *loop) VOUCH_MUST_CHECK;

/* The server of members without one: 0 or negative errno. Lock held. */
int loop_get_server(struct loop *loop, struct vouch_server **ret_server) VOUCH_MUST_CHECK;

/* ---- lock held, let go of meanwhile where they wait ---- */

/* Deals with what is ready, waiting until `deadline` for something, or for whoever else turns. 1:
 * something was, 0: nothing; negative: the poller failed. */
int loop_turn(struct loop *loop, int64_t deadline) VOUCH_MUST_CHECK;
bool loop_is_mine(
    const struct loop *loop);        /* this thread is inside a turn: it can't wait for one */
void loop_notify(struct loop *loop); /* wakes those who wait for `changed` */

int loop_add(struct loop *loop, struct loop_member *member) VOUCH_MUST_CHECK;
void loop_remove(struct loop *loop, struct loop_member *member);

/* Waits for the end of a turn that another thread is in: it may have taken an event of a source
 * that has been unwatched since, or be about to look at a member that has been removed. */
void loop_finish_turn(struct loop *loop);

/* `fd` is watched for input until loop_unwatch, which has to come before it is closed, or hangs up;
 * both by the thread that turns, or before there is one; else loop_finish_turn comes before the
 * source is freed. */
int loop_watch(struct loop *loop, struct loop_source *source, int fd) VOUCH_MUST_CHECK;
void loop_unwatch(struct loop *loop, struct loop_source *source); /* safe twice */
void loop_set_timer(struct loop *loop, struct loop_timer *timer, int64_t deadline);

void loop_pause(struct loop *loop);
void loop_resume(struct loop *loop);

/* Makes the next turn come at once. No lock needed; async-signal-safe. */
void loop_wake(struct loop *loop);

/* ---- for a foreign loop; no lock held ---- */

int loop_get_fd(struct loop *loop);
int64_t loop_get_timeout(struct loop *loop);
int loop_process(struct loop *loop) VOUCH_MUST_CHECK;

#endif
