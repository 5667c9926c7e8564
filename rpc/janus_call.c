/* SPDX-License-Identifier: MIT */
/*
 * Calls in flight, how they end, and the requests that wait to be sent.
 *
 * A transaction is 128 random bits, so that nobody who does not read along can answer a call; the
 * bits are the key of the table as well.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#include "rpc/janus.h"

/* ---- transactions ---- */

static struct janus_call **bucket_of(struct vouch_janus *janus, const unsigned char *key) {
    return &janus->by_key[(key[0] | (unsigned)key[1] << 8) % JANUS_CALL_BUCKETS];
}

static struct janus_call *find_key(struct vouch_janus *janus, const unsigned char *key) {
    struct janus_call *call = *bucket_of(janus, key);
    while (call && memcmp(call->key, key, JANUS_TRANSACTION_BYTES) != 0)
        call = call->chain;
    return call;
}

int janus_transaction_new(struct vouch_janus *janus, unsigned char *key) {
    do {
        if (getentropy(key, JANUS_TRANSACTION_BYTES) < 0)
            return -errno;
    } while (find_key(janus, key));
    return 0;
}

void janus_transaction_print(const unsigned char *key, char text[JANUS_TRANSACTION_TEXT + 1]) {
    for (size_t i = 0; i < JANUS_TRANSACTION_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", key[i]);
}

static int digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct janus_call *janus_call_find(struct vouch_janus *janus, const char *transaction) {
    unsigned char key[JANUS_TRANSACTION_BYTES];
    if (!transaction || strlen(transaction) != JANUS_TRANSACTION_TEXT)
        return NULL;
    for (size_t i = 0; i < JANUS_TRANSACTION_BYTES; i++) {
        int high = digit(transaction[2 * i]), low = digit(transaction[2 * i + 1]);
        if (high < 0 || low < 0)
            return NULL;
        key[i] = (unsigned char)(high << 4 | low);
    }
    return find_key(janus, key);
}

/* ---- output ---- */

static size_t output_size(const struct janus_output *output) {
    return output->text->size + sizeof(*output);
}

static void pop_output(struct vouch_janus *janus) {
    struct janus_output *output = janus->output;
    janus->output_bytes -= output_size(output);
    janus->output = output->next;
    if (!janus->output)
        janus->output_end = &janus->output;
    vouch_buffer_unref(output->text);
}

void janus_drop_output(struct vouch_janus *janus) {
    while (janus->output)
        pop_output(janus);
}

void janus_flush(struct vouch_janus *janus) {
    while (janus->phase == JANUS_OPEN && janus->output) {
        struct janus_output *output = janus->output;
        struct janus_call *call = find_key(janus, output->key);
        int r = call ? janus->link->ops->send(janus->link, (char *)output->text->data,
                                              output->text->size)
                     : 0; /* it has ended before it was sent */
        if (r == -EAGAIN)
            return;
        if (r < 0 && r != -EMSGSIZE) {
            janus_end(janus, r, "sending: %s", vouch_strerror(r));
            return;
        }
        pop_output(janus);
        if (r < 0)
            janus_complete(janus, call, r, NULL, "the request is larger than the socket takes");
    }
}

/* Those of calls that have ended before they were sent: behind one that cannot be sent they would
 * stay, and calls that wait have no limit but their number. */
static void drop_dead_output(struct vouch_janus *janus) {
    struct janus_output **at = &janus->output;
    while (*at) {
        struct janus_output *output = *at;
        if (find_key(janus, output->key)) {
            at = &output->next;
            continue;
        }
        *at = output->next;
        janus->output_bytes -= output_size(output);
        vouch_buffer_unref(output->text);
    }
    janus->output_end = at;
}

/* The link has a part of it still, and has to be told when there is room. */
static bool wants_to_send(const struct vouch_janus *janus) {
    return janus->phase == JANUS_OPEN && janus->link->ops->get_events(janus->link, false) & POLLOUT;
}

void janus_output_push(struct vouch_janus *janus, const struct janus_call *call,
                       struct vouch_buffer *text) {
    struct janus_output *output = (void *)(text->data - sizeof(*output));
    if (janus->output_bytes >= janus->options.output_max)
        drop_dead_output(janus);
    output->next = NULL;
    output->text = text;
    memcpy(output->key, call->key, sizeof(output->key));
    *janus->output_end = output;
    janus->output_end = &output->next;
    janus->output_bytes += output_size(output);
    janus_flush(janus);
    if (janus->output || wants_to_send(janus)) {
        janus_wake_driver(janus);
        janus_wake_loop(janus);
    }
}

/* ---- the table of those in flight ---- */

void janus_call_insert(struct vouch_janus *janus, struct janus_call *call) {
    struct janus_call **bucket = bucket_of(janus, call->key);
    call->chain = *bucket;
    *bucket = call;
    call->next = janus->pending;
    call->back = &janus->pending;
    if (call->next)
        call->next->back = &call->next;
    janus->pending = call;
    if (call->deadline < janus->next_deadline)
        janus->next_deadline = call->deadline;
    janus->stats.calls++;
}

static void take_out(struct vouch_janus *janus, struct janus_call *call) {
    struct janus_call **at = bucket_of(janus, call->key);
    while (*at != call)
        at = &(*at)->chain;
    *at = call->chain;
    janus->taken_out++;
    *call->back = call->next;
    if (call->next)
        call->next->back = call->back;
    if (!janus->pending)
        janus->next_deadline = VOUCH_FOREVER;
}

void janus_call_free(struct vouch_janus *janus, struct janus_call *call) {
    struct vouch_janus_session *session = call->session;
    janus->in_flight--;
    janus->own_calls -= call->own;
    if (call->counted)
        janus->answer_bytes -= call->message->cost;
    janus_message_free(call->message);
    janus_handle_unref(call->handle);
    janus_session_unref(session);
    vouch_buffer_unref(call->self);
}

/* ---- how calls end ---- */

static void count(struct vouch_janus *janus, const struct janus_call *call) {
    if (call->result == 0)
        janus->stats.replies++;
    else if (call->result > 0)
        janus->stats.gateway_errors++;
    else
        janus->stats.local_errors++;
}

/* What an ended call says of what it was about: gone because it was asked to, or known to be gone.
 * With the connection that is of no interest, and the others are to end with its cause. */
static void spread(const struct vouch_janus *janus, struct janus_call *call) {
    if (janus->phase == JANUS_ENDED)
        return;
    if (call->verb == VOUCH_JANUS_DO_DETACH || call->result == VOUCH_JANUS_ERROR_HANDLE_NOT_FOUND) {
        if (call->handle && call->handle->node.id)
            janus_handle_end(call->handle, "the handle was detached");
    }
    if (call->verb == VOUCH_JANUS_DO_DESTROY ||
        call->result == VOUCH_JANUS_ERROR_SESSION_NOT_FOUND) {
        if (call->session && call->session->node.id)
            janus_session_end(call->session, "the session was destroyed");
    }
}

/* How large an answer is, and when it comes, is the gateway's choice; when its callback runs is the
 * program's. The first is taken whatever its size. */
static bool has_room_for(const struct vouch_janus *janus, const struct janus_message *message) {
    return janus->answer_bytes == 0 ||
           (janus->answer_bytes < janus->options.event_bytes &&
            message->cost <= janus->options.event_bytes - janus->answer_bytes);
}

void janus_complete(struct vouch_janus *janus, struct janus_call *call, int result,
                    struct janus_message *message, const char *text) {
    take_out(janus, call);
    if (call->callback && message && !has_room_for(janus, message)) {
        janus_message_free(message);
        message = NULL;
        result = -ENOBUFS;
        text = "the answers that wait for their callbacks are over event_bytes already";
    }
    call->counted = call->callback && message;
    if (call->counted)
        janus->answer_bytes += message->cost;
    call->done = true;
    call->result = result;
    call->message = message;
    call->error.code = result;
    snprintf(call->error.message, sizeof(call->error.message), "%s",
             result == 0 ? "" : (text ? text : vouch_janus_strerror(result)));
    count(janus, call);
    spread(janus, call);
    if (call->own)
        janus_call_free(janus, call);
    else if (call->callback)
        janus_due_push(janus, &call->due, JANUS_DUE_CALL);
    else {
        janus_wake_sleeper(call->sleeper);
        janus_wake_driver(janus); /* who may be the one */
    }
}

/* What the gateway was asked to end is often gone before it says so: that answer is still waited
 * for. */
static bool is_of(const struct janus_call *call, const struct vouch_janus_session *session,
                  const struct vouch_janus_handle *handle) {
    if (handle)
        return call->handle == handle && call->verb != VOUCH_JANUS_DO_DETACH;
    if (session)
        return call->session == session && call->verb != VOUCH_JANUS_DO_DESTROY;
    return true;
}

/* Ends one of those that are gone through; returns the next. Ending it may have ended others
 * (spread): then that is the first. */
static struct janus_call *complete_and_go_on(struct vouch_janus *janus, struct janus_call *call,
                                             int result, const char *text) {
    struct janus_call *next = call->next;
    uint64_t before = janus->taken_out;
    janus_complete(janus, call, result, NULL, text);
    return janus->taken_out == before + 1 ? next : janus->pending;
}

void janus_complete_all(struct vouch_janus *janus, const struct vouch_janus_session *session,
                        const struct vouch_janus_handle *handle, int result, const char *text) {
    struct janus_call *call = janus->pending;
    while (call) {
        if (!is_of(call, session, handle)) {
            call = call->next;
            continue;
        }
        call = complete_and_go_on(janus, call, result, text);
    }
}

void janus_expire(struct vouch_janus *janus, int64_t now) {
    if (now < janus->next_deadline)
        return;
    struct janus_call *call = janus->pending;
    while (call) {
        if (call->deadline > now) {
            call = call->next;
            continue;
        }
        call = complete_and_go_on(janus, call, -ETIMEDOUT, "no answer before the deadline");
    }
    janus->next_deadline = VOUCH_FOREVER;
    for (call = janus->pending; call; call = call->next)
        if (call->deadline < janus->next_deadline)
            janus->next_deadline = call->deadline;
}

static size_t cancel(struct vouch_janus *janus, uint64_t tag, uint64_t id) {
    size_t count_ended = 0;
    struct janus_call *call = janus->pending;
    while (call) {
        if (call->own || (tag ? call->tag != tag : call->id != id)) {
            call = call->next;
            continue;
        }
        call = complete_and_go_on(janus, call, -ECANCELED, "the call was cancelled");
        count_ended++;
    }
    return count_ended;
}

size_t vouch_janus_cancel(struct vouch_janus *janus, uint64_t tag) {
    if (janus_check(janus) < 0 || tag == 0)
        return 0;
    pthread_mutex_lock(&janus->lock);
    size_t ended = cancel(janus, tag, 0);
    pthread_mutex_unlock(&janus->lock);
    return ended;
}

int vouch_janus_cancel_id(struct vouch_janus *janus, uint64_t id) {
    if (janus_check(janus) < 0)
        return -ECHILD;
    pthread_mutex_lock(&janus->lock);
    size_t ended = id ? cancel(janus, 0, id) : 0;
    pthread_mutex_unlock(&janus->lock);
    return ended > 0 ? 0 : -ENOENT;
}
