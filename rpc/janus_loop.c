/* SPDX-License-Identifier: MIT */
/*
 * Foreign loops, which make the steps of rpc/janus_drive.c themselves, beside other threads or
 * alone.
 *
 * What other threads read is not seen in the link's descriptor any more, and what they begin may be
 * due before the loop looks again. So the loop waits for their wake-up as well: in one descriptor
 * with the link's where the system has such a thing, else in one of its own.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "rpc/janus.h"

void janus_wake_loop(struct vouch_janus *janus) {
    if (janus->loop_begun && !janus->looping)
        os_wake_raise(&janus->loop_wake);
}

static int link_fd(const struct vouch_janus *janus) {
    return janus->link && janus->phase != JANUS_ENDED ? janus->link->ops->get_fd(janus->link) : -1;
}

static short link_events(const struct vouch_janus *janus) {
    return janus->link && janus->phase != JANUS_ENDED
               ? janus->link->ops->get_events(janus->link, janus->output != NULL)
               : 0;
}

void janus_loop_forget(struct vouch_janus *janus) {
    if (janus->loop_link < 0)
        return;
    if (janus->loop_fd >= 0)
        os_gather_remove(janus->loop_fd, janus->loop_link);
    else
        janus_wake_loop(janus); /* it may be looking at it */
    janus->loop_link = -1;
}

void janus_loop_deinit(struct vouch_janus *janus) {
    if (janus->loop_fd >= 0)
        (void)close(janus->loop_fd);
    janus->loop_fd = janus->loop_link = -1;
    janus->loop_begun = false;
    os_wake_deinit(&janus->loop_wake);
}

/* Where no wake-up is to be had the loop gets the link's own descriptor, and the wake-up is tried
 * again when it asks for the next. */
static void loop_begin(struct vouch_janus *janus) {
    if (janus->loop_begun || janus->phase == JANUS_ENDED || os_wake_init(&janus->loop_wake) < 0)
        return;
    janus->loop_begun = true;
    int fd = os_gather();
    if (fd >= 0 && os_gather_set(fd, janus->loop_wake.read_fd, POLLIN) == 0)
        janus->loop_fd = fd;
    else if (fd >= 0)
        (void)close(fd);
}

/* Sees to it that the loop waits for the link, and for what that waits for now. */
static void loop_look(struct vouch_janus *janus) {
    int fd = link_fd(janus);
    if (fd != janus->loop_link)
        janus_loop_forget(janus);
    if (janus->loop_fd >= 0 && fd >= 0 && os_gather_set(janus->loop_fd, fd, link_events(janus)) < 0)
        return;
    janus->loop_link = fd;
}

void janus_loop_follow(struct vouch_janus *janus) {
    if (!janus->loop_begun || janus->looping || link_fd(janus) == janus->loop_link)
        return;
    loop_look(janus);
    janus_wake_loop(janus);
}

int vouch_janus_get_fd(struct vouch_janus *janus) {
    if (janus_check(janus) < 0)
        return -1;
    pthread_mutex_lock(&janus->lock);
    loop_begin(janus);
    loop_look(janus);
    int fd = janus->phase != JANUS_ENDED && janus->loop_fd >= 0 ? janus->loop_fd : janus->loop_link;
    pthread_mutex_unlock(&janus->lock);
    return fd;
}

int vouch_janus_get_wake_fd(struct vouch_janus *janus) {
    if (janus_check(janus) < 0)
        return -1;
    pthread_mutex_lock(&janus->lock);
    loop_begin(janus);
    int fd = janus->loop_fd >= 0 ? -1 : janus->loop_wake.read_fd;
    pthread_mutex_unlock(&janus->lock);
    return fd;
}

short vouch_janus_get_events(struct vouch_janus *janus) {
    short events = 0;
    if (janus_check(janus) < 0)
        return 0;
    pthread_mutex_lock(&janus->lock);
    events = janus->phase != JANUS_ENDED && janus->loop_fd >= 0 ? POLLIN : link_events(janus);
    pthread_mutex_unlock(&janus->lock);
    return events;
}

int64_t vouch_janus_get_timeout(struct vouch_janus *janus) {
    if (janus_check(janus) < 0)
        return VOUCH_FOREVER;
    pthread_mutex_lock(&janus->lock);
    bool owes_the_end = janus->phase == JANUS_ENDED && !janus->loop_knows_end;
    int64_t next = janus->due || janus->link_done || owes_the_end ? 0 : janus_next_time(janus);
    janus->loop_until = next;
    pthread_mutex_unlock(&janus->lock);
    int64_t now = vouch_now();
    return next == VOUCH_FOREVER ? next : next > now ? next - now : 0;
}

int vouch_janus_process(struct vouch_janus *janus) {
    if (janus_check(janus) < 0)
        return -ECHILD;
    pthread_mutex_lock(&janus->lock);
    int result = janus_in_callback(janus) ? -EDEADLK : 0;
    if (result == 0) {
        if (janus->loop_begun)
            os_wake_clear(&janus->loop_wake);
        janus->looping = true;
        janus_step(janus);
        janus->looping = false;
        result = janus_outcome(janus, janus_deliver(janus));
        janus->loop_knows_end |= result < 0;
        if (janus->loop_begun)
            loop_look(janus);
    }
    pthread_mutex_unlock(&janus->lock);
    return result;
}
