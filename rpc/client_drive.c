/* SPDX-License-Identifier: MIT */
/* How the client's bytes move: the driver, those who sleep meanwhile, and the foreign loop. */
#include "rpc/client.h"

#include <errno.h>
#include <poll.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/conn.h"

/* Receives in one drive before others get a chance to send what they have. */
#define DRIVE_RECEIVES 16

static int64_t earlier(int64_t a, int64_t b) {
    return a < b ? a : b;
}

void client_flush(struct vouch_client *client) {
    link_flush(&client->link);
    if (client->room_waiters == 0 || session_output_full(&client->link.session))
        return;
    pthread_cond_broadcast(&client->room);
    client_wake_driver(client); /* who may be one of them */
}

void client_wait_for_room(struct vouch_client *client, int64_t deadline) {
    struct session *session = &client->link.session;
    client->room_waiters++;
    while (session_failure(session) == 0 && session_output_full(session) &&
           vouch_now() < deadline) {
        if (client->driving)
            cond_wait_until(&client->room, &client->link.lock, deadline);
        else
            client_drive(client, deadline);
    }
    client->room_waiters--;
}

static void take_reply(struct vouch_client *client, const struct session_event *event) {
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

void client_take_messages(struct vouch_client *client) {
    struct session_event event;
    int r;
    while ((r = session_next(&client->link.session, vouch_now(), &event)) == 1)
        take_reply(client, &event);
    if (r < 0)
        client_complete_all(client, r);
}

void client_expire(struct vouch_client *client) {
    struct session_event event;
    int r;
    int64_t now = vouch_now();
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

/* Reads what is there and deals with it. Called without the lock, returns with it. */
static void read_available(struct vouch_client *client) {
    bool full = true;
    int r = 1;
    for (int i = 0; i < DRIVE_RECEIVES && full && r > 0; i++) {
        r = link_receive(&client->link, &full);
        pthread_mutex_lock(&client->link.lock);
        client_take_messages(client);
        pthread_mutex_unlock(&client->link.lock);
    }
    pthread_mutex_lock(&client->link.lock);
    client_flush(client); /* pongs, and cancels that waited for the server's hello */
    if (client->link.broken && r == 0) {
        /* It does not take our bytes any more, and has said all that it had to say. */
        session_fail(&client->link.session, -ECONNRESET);
        client_complete_all(client, -ECONNRESET);
    }
}

void client_drive(struct vouch_client *client, int64_t deadline) {
    struct link *link = &client->link;
    short interest = POLLIN;
    if (link_wants_output(link))
        interest |= POLLOUT;
    struct pollfd fds[2] = {
        {.fd = vouch_conn_get_fd(link->conn), .events = interest},
        {.fd = client->wake.read_fd, .events = POLLIN},
    };
    client->driving = true;
    client->driving_until = earlier(deadline, session_deadline(&link->session));
    int timeout = link->broken ? 0 : clock_poll_timeout(vouch_now(), client->driving_until);
    pthread_mutex_unlock(&link->lock);

    (void)poll(fds, 2, timeout); /* a signal is a wake-up like any other */
    if (fds[1].revents)
        os_wake_clear(&client->wake);
    if ((fds[0].revents & ~POLLOUT) != 0 || timeout == 0)
        read_available(client);
    else
        pthread_mutex_lock(&link->lock);
    if (fds[0].revents & POLLOUT)
        client_flush(client);
    client_expire(client);
    client->driving = false;
}

void client_sleep(struct vouch_client *client, struct client_sleeper *sleeper, int64_t deadline) {
    sleeper->previous = NULL;
    sleeper->next = client->sleepers;
    if (sleeper->next)
        sleeper->next->previous = sleeper;
    client->sleepers = sleeper;

    cond_wait_until(&sleeper->wake, &client->link.lock, deadline);

    if (sleeper->previous)
        sleeper->previous->next = sleeper->next;
    else
        client->sleepers = sleeper->next;
    if (sleeper->next)
        sleeper->next->previous = sleeper->previous;
}

void client_hand_over(struct vouch_client *client) {
    if (client->driving)
        return;
    if (client->sleepers)
        pthread_cond_signal(&client->sleepers->wake);
    else if (client->room_waiters > 0)
        pthread_cond_signal(&client->room);
    else if (client->loop)
        os_wake_raise(&client->loop_wake);
    else
        session_pause(&client->link.session);
}

/* A loop that runs on this thread asks for its timeout before it waits. */
static bool loop_oversleeps(const struct vouch_client *client, int64_t deadline) {
    return client->loop && deadline < client->loop_until &&
           !pthread_equal(client->loop_thread, pthread_self());
}

void client_wake_for(struct vouch_client *client, int64_t deadline) {
    bool driver_oversleeps = client->driving && deadline < client->driving_until;
    if (driver_oversleeps || client->link.blocked || client->link.broken ||
        loop_oversleeps(client, deadline))
        client_wake_driver(client);
}

void client_wake_driver(struct vouch_client *client) {
    if (client->driving)
        os_wake_raise(&client->wake);
    else if (client->loop)
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

static int loop_start(struct vouch_client *client) {
    int r = poller_new(client->allocator, &client->loop);
    if (r == 0 && poller_fd(client->loop) < 0) {
        client->loop_is_socket = true;
        poller_free(client->loop);
        client->loop = NULL;
        return 0;
    }
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
    pthread_mutex_lock(&client->link.lock);
    int r = 0;
    if (!client->loop && !client->loop_is_socket)
        r = loop_start(client);
    if (r == 0)
        r = client->loop ? poller_fd(client->loop) : vouch_conn_get_fd(client->link.conn);
    pthread_mutex_unlock(&client->link.lock);
    return r;
}

short vouch_client_get_events(struct vouch_client *client) {
    pthread_mutex_lock(&client->link.lock);
    short events = POLLIN;
    if (client->loop_is_socket && link_wants_output(&client->link))
        events |= POLLOUT;
    pthread_mutex_unlock(&client->link.lock);
    return events;
}

int64_t vouch_client_get_timeout(struct vouch_client *client) {
    pthread_mutex_lock(&client->link.lock);
    int64_t deadline = session_deadline(&client->link.session), now = vouch_now();
    bool ready = client->ended.head || client->link.broken;
    client->loop_until = deadline;
    client->loop_thread = pthread_self();
    pthread_mutex_unlock(&client->link.lock);
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
    int failure = session_failure(&client->link.session);
    if (callbacks > 0 || failure == 0 || (client->address && !client->closed))
        return callbacks;
    return failure;
}

int vouch_client_process(struct vouch_client *client) {
    if (os_process_epoch() != client->epoch)
        return -ECHILD;
    pthread_mutex_lock(&client->link.lock);
    loop_drain(client);
    if (!client->driving && session_failure(&client->link.session) == 0)
        client_drive(client, 0);
    int callbacks = client_run_callbacks(client);
    if (!client->driving && (client->sleepers || client->room_waiters > 0))
        client_hand_over(client);
    int r = client->loop ? loop_arm(client, false) : 0;
    if (r == 0)
        r = loop_result(client, callbacks);
    pthread_mutex_unlock(&client->link.lock);
    return r;
}

static int wait_once(struct vouch_client *client, struct client_sleeper *self, int64_t deadline) {
    if (vouch_now() >= deadline)
        return -ETIMEDOUT;
    if (!client->driving) {
        client_drive(client, deadline);
        return 0;
    }
    client->waiter = self;
    client_sleep(client, self, deadline);
    client->waiter = NULL;
    return 0;
}

int vouch_client_wait(struct vouch_client *client, int64_t deadline) {
    struct client_sleeper self;
    if (os_process_epoch() != client->epoch)
        return -ECHILD;
    int r = cond_init(&self.wake);
    if (r < 0)
        return r;
    pthread_mutex_lock(&client->link.lock);
    int callbacks = 0;
    /* On a dead connection nothing is left to come: other threads run the callbacks that remain. */
    while (r == 0 && (callbacks = client_run_callbacks(client)) == 0 && client->async_count > 0 &&
           session_failure(&client->link.session) == 0)
        r = wait_once(client, &self, deadline);
    client_hand_over(client);
    if (r == 0)
        r = loop_result(client, callbacks);
    pthread_mutex_unlock(&client->link.lock);
    pthread_cond_destroy(&self.wake);
    return r;
}
