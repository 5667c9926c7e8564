/* SPDX-License-Identifier: MIT */
/* How the client's bytes move: the driver, those who sleep meanwhile, and the foreign loop. */
#include "rpc/client.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/conn.h"

/* Receives in one drive before others get a chance to send what they have. */
#define DRIVE_RECEIVES 16

/* Who pushes is not told when its own call has ended otherwise (a cancel, say): it looks. The
 * driver naps no longer than ten times this. */
#define PUSH_LOOK VOUCH_MILLISECONDS(5)

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- the lock, and those who are woken when it is let go of ---- */

void client_lock(struct vouch_client *client) {
    pthread_mutex_lock(&client->link.lock);
}

void client_unlock(struct vouch_client *client) {
    struct parker *wakes = client->wakes;
    client->wakes = client->last_wake = NULL;
    pthread_mutex_unlock(&client->link.lock);
    parker_unpark_all(wakes);
}

void client_wake(struct vouch_client *client, struct client_sleeper *sleeper) {
    if (sleeper->waking)
        return;
    sleeper->waking = true;
    sleeper->parker.next = NULL;
    if (client->last_wake)
        client->last_wake->next = &sleeper->parker;
    else
        client->wakes = &sleeper->parker;
    client->last_wake = &sleeper->parker;
}

void client_wait_on(struct vouch_client *client, pthread_cond_t *cond, int64_t deadline) {
    if (!client->wakes) {
        cond_wait_until(cond, &client->link.lock, deadline);
        return;
    }
    client_unlock(client);
    client_lock(client);
}

/* ---- output ---- */

void client_flush(struct vouch_client *client) {
    if (client->guest)
        peer_flush(client);
    else
        link_flush(&client->link);
    /* The driver may have gone to sleep while we sent, and not know that the socket is full. */
    if (client->driver_asleep && link_wants_output(&client->link))
        client_wake_driver(client);
    if (client->room_waiters == 0 || session_output_full(&client->link.session))
        return;
    pthread_cond_broadcast(&client->room);
    client_wake_driver(client); /* who may be one of them */
}

void client_send(struct vouch_client *client) {
    if (client->driving && !client->driver_asleep && !client->napping)
        atomic_store(&client->poked, true);
    else
        client_flush(client);
}

bool client_push(struct vouch_client *client, int64_t deadline) {
    struct link *link = &client->link;
    if (!client->driving || !client->napping || client->pushing || !link_wants_output(link))
        return false;
    struct pollfd fds[2] = {
        {.fd = vouch_conn_get_fd(link->conn), .events = POLLOUT},
        {.fd = client->wake.read_fd, .events = POLLIN}, /* should the driver leave */
    };
    int64_t now = vouch_now(), soon = clock_add(now, PUSH_LOOK);
    client->pushing = true;
    client_unlock(client);
    (void)poll(fds, 2, clock_poll_timeout(now, earlier(soon, deadline)));
    client_lock(client);
    client->pushing = false;
    if (fds[1].revents && (client->napping || !client->driving))
        os_wake_clear(&client->wake); /* else it is for a driver in poll(2) */
    client_flush(client);
    return true;
}

void client_wait_for_room(struct vouch_client *client, int64_t deadline) {
    struct session *session = &client->link.session;
    client->room_waiters++;
    while (session_failure(session) == 0 && session_output_full(session) &&
           vouch_now() < deadline) {
        if (!client->driving)
            client_drive(client, deadline, NULL);
        else if (!client_push(client, deadline))
            client_wait_on(client, &client->room, deadline);
    }
    client->room_waiters--;
}

/* ---- input ---- */

void client_take_reply(struct vouch_client *client, const struct session_event *event) {
    struct client_call *call = (struct client_call *)event->slot;
    const struct envelope *e = &event->envelope;
    if (event->result == 0) {
        const uint8_t *data = e->data_size ? e->data : (const uint8_t *)"";
        call->reply = (struct vouch_reply){data, e->data_size, event->buffer};
    } else {
        call->reply = (struct vouch_reply){.buffer = event->buffer};
        call->text = e->error;
        call->text_size = e->error_size;
        call->size = event->oversize;
        call->limit = client->limits.max_receive;
    }
    client_complete(client, call, event->result);
}

void client_take_messages(struct vouch_client *client, int64_t now) {
    struct session_event event;
    int r;
    while ((r = session_next(&client->link.session, now, &event)) == 1) {
        if (event.type == SESSION_EVENT_NOTICE)
            client_take_notice(client, &event);
        else
            client_take_reply(client, &event);
    }
    if (r < 0)
        client_complete_all(client, r);
}

void client_expire(struct vouch_client *client, int64_t now) {
    struct session_event event;
    int r;
    if (session_deadline(&client->link.session) > now)
        return;
    while ((r = session_expire(&client->link.session, now, &event)) == 1)
        client_complete(client, (struct client_call *)event.slot, -ETIMEDOUT);
    if (r < 0)
        client_complete_all(client, r);
    client_flush(client); /* cancels */
    if (client->link.blocked)
        client_wake_driver(client); /* who may be another thread, waiting for input only */
}

/* ---- driving ---- */

/* Sleeping in recv costs one system call less than poll(2), but nobody can wake who does: not for
 * calls that may be cancelled, or have little time left, or beside asynchronous ones, which count
 * on a driver who hears of them. Blocking callers see to their deadlines and their output by
 * themselves. A nap without a result is not repeated. */
static bool may_nap(const struct vouch_client *client, const struct client_call *call) {
    return call && call->tag == 0 && !call->napped && client->async_count == 0 && !client->loop &&
           !link_wants_output(&client->link) && client->room_waiters == 0 &&
           client->driving_until - client->polling.looked >= 2 * CONN_NAP;
}

static ssize_t nap(struct vouch_client *client, const struct iovec *space,
                   struct client_call *call) {
    client->napping = true;
    client_unlock(client);
    ssize_t got = conn_recv_nap(client->link.conn, space->iov_base, space->iov_len);
    call->napped = got == -EAGAIN;
    return got;
}

static ssize_t sleep_in_poll(struct vouch_client *client, const struct iovec *space) {
    struct link *link = &client->link;
    short interest = link_wants_output(link) ? POLLIN | POLLOUT : POLLIN;
    struct pollfd fds[2] = {
        {.fd = vouch_conn_get_fd(link->conn), .events = interest},
        {.fd = client->wake.read_fd, .events = POLLIN},
    };
    int timeout = clock_poll_timeout(client->polling.looked, client->driving_until);
    client->driver_asleep = true;
    client_unlock(client);
    (void)poll(fds, 2, timeout); /* a signal is a wake-up like any other */
    if (fds[1].revents)
        os_wake_clear(&client->wake);
    if ((fds[0].revents & ~POLLOUT) == 0)
        return -EAGAIN;
    return conn_recv_now(link->conn, space->iov_base, space->iov_len);
}

/* What the others have left to the driver goes out before it sleeps. Returns without the lock, as
 * the two above do. */
static ssize_t sleep_for_bytes(struct vouch_client *client, const struct iovec *space,
                               struct client_call *call) {
    client_lock(client);
    client_flush(client);
    if (atomic_load(&client->poked) || client->link.broken) {
        client_unlock(client);
        return -EAGAIN;
    }
    ssize_t got = may_nap(client, call) ? nap(client, space, call) : sleep_in_poll(client, space);
    polling_slept(&client->polling, vouch_now());
    return got;
}

/* Bytes, waiting for them until driving_until. The lock is let go of meanwhile. */
static ssize_t wait_for_bytes(struct vouch_client *client, const struct iovec *space,
                              struct client_call *call) {
    bool may_wait = client->driving_until > 0 && !client->link.broken;
    /* Not while our own threads want the cores, or will soon. */
    bool may_look = client->away == 0 && client->asleep < client->polling.room->max;
    ssize_t got = -EAGAIN;
    client_unlock(client);
    if (may_wait) {
        if (may_look)
            got = link_look(&client->link, &client->polling, &client->poked, space);
        else
            polling_pass(&client->polling, vouch_now());
        if (got == -EAGAIN && !atomic_load(&client->poked))
            got = sleep_for_bytes(client, space, call);
    } else {
        got = conn_recv_now(client->link.conn, space->iov_base, space->iov_len);
    }
    client_lock(client);
    client->driver_asleep = client->napping = false;
    return got;
}

/* Reads what is there and deals with it, after waiting for the first bytes. 0: nothing had come. */
static int read_replies(struct vouch_client *client, struct client_call *call, int64_t *ret_now) {
    struct link *link = &client->link;
    struct iovec space;
    ssize_t got = 0;
    int r = 0;
    for (int i = 0; i < DRIVE_RECEIVES; i++) {
        if (link_space(link, &space) < 0)
            break; /* client_take_messages tells why */
        if (i == 0) {
            got = wait_for_bytes(client, &space, call);
        } else {
            client_unlock(client);
            got = conn_recv_now(link->conn, space.iov_base, space.iov_len);
            client_lock(client);
        }
        *ret_now = vouch_now();
        r = link_received(link, got, *ret_now);
        client_take_messages(client, *ret_now);
        if (r <= 0 || !link_may_have_more(link, (size_t)got, space.iov_len))
            return i == 0 ? r : 1;
    }
    if (session_failure(&link->session) != 0)
        client_take_messages(client, *ret_now);
    return 1;
}

/* Threads that have just got their replies often call again at once. Letting them run before we
 * send has their calls leave in one system call with ours, and come back together. */
static void gather(struct vouch_client *client) {
    if (client->away == 0)
        return;
    int64_t now = vouch_now();
    if (!polling_begin(&client->gathering, now))
        return;
    unsigned before = client->away;
    do {
        client_unlock(client);
        sched_yield();
        now = vouch_now();
        client_lock(client);
    } while (client->away > 0 && polling_goes_on(&client->gathering, now));
    polling_end(&client->gathering, now, client->away < before ? POLLING_FOUND : POLLING_IN_VAIN);
    client->away = 0;
}

void client_drive(struct vouch_client *client, int64_t deadline, struct client_call *call) {
    struct link *link = &client->link;
    int64_t now = 0;
    client->driving = true;
    atomic_store(&client->poked, false);
    gather(client);
    client_flush(client);
    client->driving_until = earlier(deadline, session_deadline(&link->session));
    int r = read_replies(client, call, &now);
    client_flush(client); /* what others left, pongs, cancels that waited for the server's hello */
    if (link->broken && r == 0) {
        /* It does not take our bytes any more, and has said all that it had to say. */
        session_fail(&link->session, -ECONNRESET);
        client_complete_all(client, -ECONNRESET);
    }
    client_expire(client, now);
    client->driving = false;
}

/* ---- sleeping while another drives ---- */

void client_unlist(struct vouch_client *client, struct client_sleeper *sleeper) {
    if (!sleeper->listed)
        return;
    sleeper->listed = false;
    client->asleep--;
    if (sleeper->previous)
        sleeper->previous->next = sleeper->next;
    else
        client->sleepers = sleeper->next;
    if (sleeper->next)
        sleeper->next->previous = sleeper->previous;
    if (client->handed == sleeper) {
        client->handed = NULL;
        client_hand_over(client);
    }
}

static void enlist(struct vouch_client *client, struct client_sleeper *sleeper) {
    sleeper->previous = NULL;
    sleeper->next = client->sleepers;
    if (sleeper->next)
        sleeper->next->previous = sleeper;
    client->sleepers = sleeper;
    client->asleep++;
    sleeper->listed = true;
}

static bool is_done(const struct client_call *call) {
    return call && atomic_load_explicit(&call->done, memory_order_acquire);
}

bool client_sleep(struct vouch_client *client, struct client_sleeper *sleeper, int64_t deadline,
                  struct client_call *call) {
    enlist(client, sleeper);
    client_unlock(client);
    bool woken = parker_park(&sleeper->parker, deadline);
    if (woken && is_done(call))
        return true;
    client_lock(client);
    if (!woken && sleeper->waking) { /* who noted us is about to touch the parker */
        client_unlock(client);
        (void)parker_park(&sleeper->parker, VOUCH_FOREVER);
        if (is_done(call))
            return true;
        client_lock(client);
    }
    sleeper->waking = false;
    if (client->handed == sleeper)
        client->handed = NULL; /* here we are */
    client_unlist(client, sleeper);
    return false;
}

void client_hand_over(struct vouch_client *client) {
    struct client_sleeper *next = client->sleepers;
    if (client->driving) {
        if (client->napping && !client->pushing && next && link_wants_output(&client->link))
            client_wake(client, next); /* to push */
    } else if (next) {
        if (!client->handed)
            client_wake(client, client->handed = next);
    } else if (client->pushing) {
        os_wake_raise(&client->wake);
    } else if (client->room_waiters > 0) {
        pthread_cond_signal(&client->room);
    } else if (client->loop) {
        os_wake_raise(&client->loop_wake);
    } else {
        session_pause(&client->link.session);
    }
}

/* A loop that runs on this thread asks for its timeout before it waits. */
static bool loop_oversleeps(const struct vouch_client *client, int64_t deadline) {
    return client->loop && deadline < client->loop_until &&
           !pthread_equal(client->loop_thread, pthread_self());
}

void client_wake_for(struct vouch_client *client, const struct client_call *call) {
    int64_t deadline = call->deadline; /* that of a blocking one is its caller's business */
    bool driver_oversleeps = call->callback && client->driving && deadline < client->driving_until;
    if (driver_oversleeps || client->link.blocked || client->link.broken ||
        loop_oversleeps(client, deadline))
        client_wake_driver(client);
}

void client_wake_driver(struct vouch_client *client) {
    if (client->driving && !client->guest) {
        atomic_store(&client->poked, true);
        if (client->driver_asleep)
            os_wake_raise(&client->wake);
    } else if (client->loop)
        os_wake_raise(&client->loop_wake);
}

/* ---- the foreign loop ---- */

static int loop_arm(struct vouch_client *client, bool first) {
    struct poller *loop = client->loop;
    int (*set)(struct poller *, int, unsigned, void *) = first ? poller_add : poller_arm;
    int r = set(loop, client->loop_wake.read_fd, POLLER_IN, &client->loop_wake);
    /* While another thread drives, the bytes are its business; it raises the wake-up when it stops.
     */
    if (r < 0 || client->driving || session_failure(&client->link.session) != 0)
        return r;
    unsigned interest = POLLER_IN | (link_wants_output(&client->link) ? (unsigned)POLLER_OUT : 0);
    int fd = vouch_conn_get_fd(client->link.conn);
    if (!first)
        r = poller_arm(loop, fd, interest, client);
    if (first || r == -ENOENT)
        r = poller_add(loop, fd, interest, client);
    return r;
}

/* While there is no connection the loop gets the wake-up in its place, which a new one raises: the
 * dead one would always be ready. */
static int loop_start_on_socket(struct vouch_client *client) {
    poller_free(client->loop);
    client->loop = NULL;
    if (client->guest)
        return -ENOTSUP;
    int r = os_wake_init(&client->loop_wake);
    client->loop_is_socket = r == 0;
    return r;
}

static int loop_fd(const struct vouch_client *client) {
    bool waits = client->address && !client->closed && session_failure(&client->link.session) != 0;
    if (client->loop)
        return poller_fd(client->loop);
    return waits ? client->loop_wake.read_fd : vouch_conn_get_fd(client->link.conn);
}

static int loop_start(struct vouch_client *client) {
    int r = poller_new(client->allocator, &client->loop);
    if (r == 0 && poller_fd(client->loop) < 0)
        return loop_start_on_socket(client);
    if (r == 0)
        r = os_wake_init(&client->loop_wake);
    if (r == 0)
        r = loop_arm(client, true);
    if (r < 0) {
        poller_free(client->loop);
        client->loop = NULL;
        os_wake_deinit(&client->loop_wake);
    }
    return r;
}

int vouch_client_get_fd(struct vouch_client *client) {
    if (os_process_epoch() != client->epoch)
        return -ECHILD;
    client_lock(client);
    int r = 0;
    if (!client->loop && !client->loop_is_socket)
        r = loop_start(client);
    if (r == 0)
        r = loop_fd(client);
    client_unlock(client);
    return r;
}

short vouch_client_get_events(struct vouch_client *client) {
    client_lock(client);
    short events = POLLIN;
    if (client->loop_is_socket && link_wants_output(&client->link))
        events |= POLLOUT;
    client_unlock(client);
    return events;
}

/* A connection that is dead, and all calls on it ended, has no deadlines of its own any more,
 * though what had begun before (a stall, say) never ends. */
static int64_t next_deadline(struct vouch_client *client) {
    const struct session *session = &client->link.session;
    bool over = session_failure(session) != 0 && !client->flight;
    return earlier(over ? VOUCH_FOREVER : session_deadline(session), client_retry_at(client));
}

/* Why the connection is gone and does not come again; 0: it is there, or does. */
static int final_failure(struct vouch_client *client) {
    bool comes_back = (client->address || client->awaits) && !client->closed;
    return comes_back ? 0 : session_failure(&client->link.session);
}

/* A turn in which callbacks ran has said how many, and nothing of the connection is left that could
 * wake the loop once more. */
static bool owes_the_end(struct vouch_client *client) {
    return !client->loop_knows_end && final_failure(client) != 0;
}

int64_t vouch_client_get_timeout(struct vouch_client *client) {
    client_lock(client);
    int64_t deadline = next_deadline(client);
    int64_t now = vouch_now();
    bool ready = client->ended.head || owes_the_end(client) ||
                 (client->link.broken && session_failure(&client->link.session) == 0);
    client->loop_until = deadline;
    client->loop_thread = pthread_self();
    client_unlock(client);
    if (ready || deadline <= now)
        return 0;
    return deadline == VOUCH_FOREVER ? VOUCH_FOREVER : deadline - now;
}

/* The events only say that there is something to do: process looks itself. */
static void loop_drain(struct vouch_client *client) {
    struct poller_event events[4];
    if (client->loop && poller_wait(client->loop, events, 4, 0) < 0)
        return;
    os_wake_clear(&client->loop_wake);
}

static int loop_result(struct vouch_client *client, int callbacks) {
    int failure = final_failure(client);
    if (callbacks > 0 || failure == 0)
        return callbacks;
    client->loop_knows_end = true;
    return failure;
}

int vouch_client_process(struct vouch_client *client) {
    if (os_process_epoch() != client->epoch)
        return -ECHILD;
    client_lock(client);
    loop_drain(client);
    client->processing = true;
    client_retry(client);
    if (!client->driving && session_failure(&client->link.session) == 0)
        client_drive(client, 0, NULL);
    else
        client_expire(client, vouch_now());
    if (client->driving)
        client_send(client); /* calls that waited for more */
    int callbacks = client_run_callbacks(client);
    client->processing = false;
    if (!client->driving && (client->sleepers || client->room_waiters > 0))
        client_hand_over(client);
    int r = client->loop ? loop_arm(client, false) : 0;
    if (r == 0)
        r = loop_result(client, callbacks);
    client_unlock(client);
    return r;
}

static int wait_once(struct vouch_client *client, struct client_sleeper *self, int64_t deadline) {
    int64_t now = vouch_now();
    if (now >= deadline)
        return -ETIMEDOUT;
    client_expire(client, now);
    if (client->ended.head)
        return 0;
    if (session_failure(&client->link.session) != 0) {
        client_retry(client);
        int64_t next = client_retry_at(client);
        if (next != VOUCH_FOREVER)
            client_wait_on(client, &client->connected, earlier(next, deadline));
        return 0;
    }
    if (!client_has_more_to_come(client))
        return 0;
    if (!client->driving) {
        client_drive(client, deadline, NULL);
        return 0;
    }
    client->waiter = self;
    int64_t next = session_deadline(&client->link.session); /* who drives may be napping */
    (void)client_sleep(client, self, earlier(next, deadline), NULL);
    client->waiter = NULL;
    return 0;
}

/* On a dead connection nothing is left to come, but what the server says unasked when it is back:
 * other threads run the callbacks that remain. */
static bool is_worth_waiting(struct vouch_client *client) {
    if (session_failure(&client->link.session) == 0)
        return client_has_more_to_come(client);
    return client->on_notice && client_retry_at(client) != VOUCH_FOREVER;
}

int vouch_client_wait(struct vouch_client *client, int64_t deadline) {
    struct client_sleeper self = {0};
    if (os_process_epoch() != client->epoch)
        return -ECHILD;
    int r = parker_init(&self.parker, &client->lot);
    if (r < 0)
        return r;
    client_lock(client);
    int callbacks = 0;
    client_send(client); /* calls that waited for more */
    client_retry(client);
    while (r == 0 && (callbacks = client_run_callbacks(client)) == 0 && is_worth_waiting(client))
        r = wait_once(client, &self, deadline);
    client_hand_over(client);
    if (r == 0)
        r = loop_result(client, callbacks);
    client_unlock(client);
    parker_deinit(&self.parker);
    return r;
}
