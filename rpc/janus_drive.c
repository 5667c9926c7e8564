/* SPDX-License-Identifier: MIT */
/*
 * Waiting. Of the threads that wait one drives: it is in poll(2) for all of them, receives, sends
 * what is queued, ends what is over. The others sleep, each on a condition of its own; when the
 * driver has what it waited for it wakes one, who drives on.
 *
 * Every step is made under the lock and waits for nothing, so that it does no harm when a foreign
 * loop and a driver both make it: each gets what the other has not taken.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>

#include "lib/cond.h"
#include "rpc/janus.h"

#define RECEIVES_MAX 64 /* messages in one step, before others get the lock */

/* ---- one step ---- */

static void receive(struct vouch_janus *janus) {
    const char *text;
    size_t size;
    for (unsigned i = 0; i < RECEIVES_MAX && janus->phase == JANUS_OPEN; i++) {
        int r = janus->link->ops->receive(janus->link, &text, &size);
        if (r == -EAGAIN)
            return;
        if (r < 0)
            janus_end(janus, r, r == -ECONNRESET ? "the gateway has closed the connection" : "%s",
                      r == -EMSGSIZE ? "a message of the gateway is larger than the limit"
                                     : vouch_strerror(r));
        else
            janus_dispatch(janus, text, size);
    }
    janus->more = janus->phase == JANUS_OPEN;
}

static int64_t probe_deadline(const struct vouch_janus *janus) {
    if (janus->probed_at == 0 || janus->options.answer_timeout > VOUCH_FOREVER - janus->probed_at)
        return VOUCH_FOREVER;
    return janus->probed_at + janus->options.answer_timeout;
}

static void process_link(struct vouch_janus *janus) {
    struct vouch_error error = {.code = 0};
    int r = janus->link->ops->process(janus->link, &error);
    if (r < 0)
        janus_end(janus, r, "%s", error.message[0] ? error.message : vouch_strerror(r));
}

void janus_step(struct vouch_janus *janus) {
    int64_t now = vouch_now();
    janus->more = false;
    janus_connect_step(janus, now);
    if (janus->phase == JANUS_OPEN) {
        receive(janus); /* first: what came before an end counts */
        if (janus->phase == JANUS_OPEN)
            process_link(janus);
        if (janus->phase == JANUS_OPEN)
            receive(janus);
    }
    janus_flush(janus);
    janus_expire(janus, now);
    if (janus->phase == JANUS_OPEN && now >= probe_deadline(janus))
        janus_end(janus, -ETIMEDOUT, "the gateway does not answer keep-alives");
    if (janus->phase == JANUS_OPEN)
        janus_keepalives(janus, now);
    if (janus->link_done && !janus->polling)
        janus_drop_link(janus);
    janus_loop_follow(janus);
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t janus_next_time(struct vouch_janus *janus) {
    int64_t next = janus->next_deadline;
    if (janus->more)
        return 0;
    if (janus->phase == JANUS_CONNECTING)
        next = earlier(next, janus->link ? janus->attempt_deadline
                                         : earlier(janus->attempt_at, janus->connect_deadline));
    if (janus->phase == JANUS_OPEN)
        next = earlier(next, earlier(janus->next_keepalive, probe_deadline(janus)));
    if (janus->link && janus->phase != JANUS_ENDED) {
        int64_t timeout = janus->link->ops->get_timeout(janus->link);
        next = earlier(next, timeout == VOUCH_FOREVER ? timeout : vouch_deadline_in(timeout));
    }
    return next;
}

/* ---- sleepers ---- */

void janus_wake_sleeper(struct janus_sleeper *sleeper) {
    if (!sleeper || sleeper->awake)
        return;
    sleeper->awake = true;
    pthread_cond_signal(&sleeper->cond);
}

void janus_wake_driver(struct vouch_janus *janus) {
    if (janus->polling)
        os_wake_raise(&janus->wake);
}

void janus_wake_before(struct vouch_janus *janus, int64_t when) {
    if (when < janus->poll_until)
        janus_wake_driver(janus);
    if (when < janus->loop_until)
        janus_wake_loop(janus);
}

static void hand_over(struct vouch_janus *janus) {
    if (!janus->driving)
        janus_wake_sleeper(janus->sleepers);
}

static void sleep_until(struct vouch_janus *janus, struct janus_sleeper *sleeper,
                        int64_t deadline) {
    sleeper->awake = false;
    sleeper->back = &janus->sleepers;
    sleeper->next = janus->sleepers;
    if (sleeper->next)
        sleeper->next->back = &sleeper->next;
    janus->sleepers = sleeper;
    while (!sleeper->awake && janus->driving && vouch_now() < deadline)
        cond_wait_until(&sleeper->cond, &janus->lock, deadline);
    *sleeper->back = sleeper->next;
    if (sleeper->next)
        sleeper->next->back = sleeper->back;
}

/* ---- the driver ---- */

static int poll_timeout(int64_t now, int64_t until) {
    if (until == VOUCH_FOREVER)
        return -1;
    int64_t left = until > now ? (until - now + 999999) / 1000000 : 0;
    return left < INT_MAX ? (int)left : INT_MAX;
}

static void wait_in_poll(struct vouch_janus *janus, int64_t deadline) {
    struct pollfd fds[2] = {{.fd = janus->wake.read_fd, .events = POLLIN}, {.fd = -1}};
    int64_t now = vouch_now();
    janus->poll_until = earlier(deadline, janus_next_time(janus));
    if (janus->link && janus->phase != JANUS_ENDED) {
        fds[1].fd = janus->link->ops->get_fd(janus->link);
        fds[1].events = janus->link->ops->get_events(janus->link, janus->output != NULL);
    }
    janus->polling++;
    pthread_mutex_unlock(&janus->lock);
    (void)poll(fds, 2, poll_timeout(now, janus->poll_until));
    pthread_mutex_lock(&janus->lock);
    janus->polling--;
    janus->poll_until = 0;
    if (fds[0].revents)
        os_wake_clear(&janus->wake);
}

/* What ends a wait. */
static bool is_over(const struct vouch_janus *janus, const bool *done, int64_t deadline) {
    return *done || janus->phase == JANUS_ENDED || vouch_now() >= deadline;
}

static void drive(struct vouch_janus *janus, const bool *done, int64_t deadline) {
    janus->driving = true;
    janus_step(janus);
    while (!is_over(janus, done, deadline)) {
        wait_in_poll(janus, deadline);
        janus_step(janus);
    }
    janus->driving = false;
    if (janus->loop_begun) /* what was ours to look after is the loop's again */
        janus_wake_before(janus, janus_next_time(janus));
}

void janus_await(struct vouch_janus *janus, const bool *done, struct janus_sleeper **sleeper,
                 int64_t deadline) {
    struct janus_sleeper self = {.awake = false};
    bool can_sleep = cond_init(&self.cond) == 0;
    *sleeper = &self;
    while (!is_over(janus, done, deadline)) {
        if (!janus->driving || !can_sleep) /* without memory for it: two in poll(2) */
            drive(janus, done, deadline);
        else
            sleep_until(janus, &self, deadline);
    }
    *sleeper = NULL;
    hand_over(janus);
    if (can_sleep)
        pthread_cond_destroy(&self.cond);
}

void janus_await_open(struct vouch_janus *janus) {
    janus->driving = true;
    janus_step(janus);
    while (janus->phase == JANUS_CONNECTING) {
        wait_in_poll(janus, VOUCH_FOREVER);
        janus_step(janus);
    }
    janus->driving = false;
}

/* ---- callbacks ---- */

bool janus_in_callback(const struct vouch_janus *janus) {
    return janus->delivering && pthread_equal(janus->deliverer, pthread_self());
}

int janus_outcome(const struct vouch_janus *janus, int count) {
    return count > 0 || janus->phase != JANUS_ENDED || janus->due ? count : janus->failure.code;
}

/* After the end nobody drives: what is left is another thread's (in vouch_janus_process) to tell,
 * which wakes the one that waits when it has. */
static void await_deliverer(struct vouch_janus *janus, int64_t deadline) {
    struct janus_sleeper self = {.awake = false};
    if (cond_init(&self.cond) < 0) { /* no memory: looked at again, and the lock let go of */
        pthread_mutex_unlock(&janus->lock);
        sched_yield();
        pthread_mutex_lock(&janus->lock);
        return;
    }
    janus->waiter = &self;
    if (janus->delivering)
        cond_wait_until(&self.cond, &janus->lock, deadline);
    janus->waiter = NULL;
    pthread_cond_destroy(&self.cond);
}

int vouch_janus_wait(struct vouch_janus *janus, int64_t deadline) {
    int count = 0;
    if (janus_check(janus) < 0)
        return -ECHILD;
    pthread_mutex_lock(&janus->lock);
    int result = janus_in_callback(janus) ? -EDEADLK : 0;
    if (result == 0 && janus->waiting)
        result = -EBUSY;
    if (result < 0) {
        pthread_mutex_unlock(&janus->lock);
        return result;
    }
    janus->waiting = true;
    for (;;) {
        count = janus_deliver(janus);
        result = janus_outcome(janus, count);
        janus->loop_knows_end |= result < 0 && !janus->loop_begun; /* there is none */
        if (result == 0 && vouch_now() >= deadline)
            result = -ETIMEDOUT;
        if (result != 0)
            break;
        janus->due_ready = janus->due && !janus->delivering;
        if (janus->phase == JANUS_ENDED)
            await_deliverer(janus, deadline);
        else
            janus_await(janus, &janus->due_ready, &janus->waiter, deadline);
    }
    janus->waiting = false;
    pthread_mutex_unlock(&janus->lock);
    return result;
}
