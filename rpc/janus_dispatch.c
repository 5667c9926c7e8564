/* SPDX-License-Identifier: MIT */
/*
 * What came: answers end their calls, events wait for their callback.
 *
 * What an event means for the state (a session that timed out, a handle that is gone) counts when
 * it comes; whom it is told to is looked up when it is told, so that a handle made by a callback
 * gets what came right after the answer that made it.
 */
#include <errno.h>
#include <string.h>

#include "rpc/janus.h"

/* ---- the queue ---- */

void janus_due_push(struct vouch_janus *janus, struct janus_due *due, enum janus_due_kind kind) {
    due->kind = kind;
    due->next = NULL;
    *janus->due_end = due;
    janus->due_end = &due->next;
    janus->due_ready = true;
    janus_wake_sleeper(janus->waiter);
    if (janus->waiter)
        janus_wake_driver(janus); /* it may be the one that waits */
    janus_wake_loop(janus);
}

static struct janus_due *due_pop(struct vouch_janus *janus) {
    struct janus_due *due = janus->due;
    janus->due = due->next;
    if (!janus->due)
        janus->due_end = &janus->due;
    return due;
}

static void event_free(struct vouch_janus *janus, struct janus_event *event) {
    janus->stats.events_waiting--;
    janus->event_bytes -= event->message->cost;
    janus_message_free(event->message);
    vouch_buffer_unref(event->self);
}

static void push_event(struct vouch_janus *janus, struct janus_message *message) {
    struct vouch_buffer *self;
    struct janus_event *event = NULL;
    if (janus->stats.events_waiting < janus->options.max_events &&
        message->cost <= janus->options.event_bytes - janus->event_bytes)
        event = janus_alloc(janus->pool, sizeof(*event), &self);
    if (!event) {
        janus->stats.events_dropped++;
        janus_message_free(message);
        return;
    }
    event->self = self;
    event->message = message;
    janus->event_bytes += message->cost;
    janus->stats.events_waiting++;
    janus->stats.events++;
    janus_due_push(janus, &event->due, JANUS_DUE_EVENT);
}

/* ---- answers ---- */

/* The answer that a verb has succeeded with. */
static bool is_answer(enum vouch_janus_verb verb, enum vouch_janus_kind kind) {
    switch (verb) {
    case VOUCH_JANUS_DO_INFO:
        return kind == VOUCH_JANUS_SERVER_INFO;
    case VOUCH_JANUS_DO_PING:
        return kind == VOUCH_JANUS_PONG;
    case VOUCH_JANUS_DO_MESSAGE:
    case VOUCH_JANUS_DO_REQUEST:
        return kind == VOUCH_JANUS_SUCCESS || kind == VOUCH_JANUS_EVENT;
    case VOUCH_JANUS_DO_CREATE:
    case VOUCH_JANUS_DO_CLAIM:
    case VOUCH_JANUS_DO_ATTACH:
        return kind == VOUCH_JANUS_SUCCESS;
    default:
        return kind == VOUCH_JANUS_SUCCESS || kind == VOUCH_JANUS_ACK;
    }
}

static bool is_reply(enum vouch_janus_kind kind) {
    return kind == VOUCH_JANUS_SUCCESS || kind == VOUCH_JANUS_ERROR || kind == VOUCH_JANUS_ACK ||
           kind == VOUCH_JANUS_PONG || kind == VOUCH_JANUS_SERVER_INFO;
}

/* What an answer makes. */
static int make(const struct janus_call *call, const struct vouch_janus_message *seen) {
    bool attach = call->verb == VOUCH_JANUS_DO_ATTACH;
    uint64_t id = call->verb == VOUCH_JANUS_DO_CLAIM ? call->claimed : seen->id;
    if (!attach && call->verb != VOUCH_JANUS_DO_CREATE && call->verb != VOUCH_JANUS_DO_CLAIM)
        return 0;
    if (id == 0)
        return -EPROTO;
    int result = attach ? janus_handle_register(call->handle, id)
                        : janus_session_register(call->session, id);
    return result == -EEXIST && call->verb != VOUCH_JANUS_DO_CLAIM ? -EPROTO : result;
}

/* Whether the message was for the call; then it is taken over. */
static bool answer(struct vouch_janus *janus, struct janus_call *call,
                   struct janus_message *message) {
    const struct vouch_janus_message *seen = &message->seen;
    bool talks = call->verb == VOUCH_JANUS_DO_MESSAGE || call->verb == VOUCH_JANUS_DO_REQUEST;
    if (seen->kind == VOUCH_JANUS_ERROR && call->own) {
        janus_complete(janus, call, seen->error_code, NULL, seen->error_reason);
        push_event(janus, message); /* nobody else would know */
    } else if (seen->kind == VOUCH_JANUS_ERROR) {
        janus_complete(janus, call, seen->error_code, message, seen->error_reason);
    } else if (is_answer(call->verb, seen->kind)) {
        int result = make(call, seen);
        janus_complete(janus, call, result, message,
                       result == -EPROTO ? "an answer without a fresh id from 1 to 2^53 - 1"
                                         : NULL);
    } else if (talks && seen->kind == VOUCH_JANUS_ACK) {
        if (call->verb == VOUCH_JANUS_DO_REQUEST)
            janus_complete(janus, call, -EINPROGRESS, message, "the answer will come as an event");
        else
            janus_message_free(message);
    } else if (is_reply(seen->kind)) {
        janus_complete(janus, call, -EPROTO, message, "an answer of another kind");
    } else {
        return false;
    }
    return true;
}

/* ---- events ---- */

/* What it changes. */
static void apply(struct vouch_janus *janus, const struct vouch_janus_message *seen) {
    struct vouch_janus_session *session = janus_session_find(janus, seen->session_id);
    struct vouch_janus_handle *handle = janus_handle_find(janus, seen->session_id, seen->handle_id);
    if (seen->kind == VOUCH_JANUS_TIMEOUT && session && seen->session_id)
        janus_session_end(session, "the session has timed out");
    if (seen->kind == VOUCH_JANUS_DETACHED && handle && seen->handle_id)
        janus_handle_end(handle, "the gateway has detached the handle");
}

/* Of a message that belongs to no call: takes it over. */
static void unasked(struct vouch_janus *janus, struct janus_message *message) {
    if (is_reply(message->seen.kind) && message->seen.transaction) {
        janus->stats.unknown_replies++;
        janus_message_free(message);
        return;
    }
    apply(janus, &message->seen);
    push_event(janus, message);
}

void janus_dispatch(struct vouch_janus *janus, const char *text, size_t size) {
    struct vouch_error error;
    struct janus_message *message;
    janus->stats.messages++;
    int result = janus_message_parse(text, size, janus->pool, &message, &error);
    if (result == -EPROTO && janus->link->ops->lossy) {
        janus->stats.malformed++;
        return;
    }
    if (result == -ENOMEM) {
        janus->stats.events_dropped++;
        return;
    }
    if (result < 0) {
        janus_end(janus, result, "%s", error.message);
        return;
    }
    struct janus_call *call = janus_call_find(janus, message->seen.transaction);
    janus->probed_at = 0;
    if (!call || !answer(janus, call, message))
        unasked(janus, message);
}

/* ---- callbacks ---- */

static void call_back(const struct vouch_janus_listener *listener,
                      const struct janus_message *message, pthread_mutex_t *lock) {
    pthread_mutex_unlock(lock);
    listener->on_event(listener->context, &message->seen);
    pthread_mutex_lock(lock);
}

/* Whom an event is for. */
static struct vouch_janus_listener listener_of(struct vouch_janus *janus,
                                               const struct vouch_janus_message *seen) {
    const struct vouch_janus_session *session =
        seen->session_id ? janus_session_find(janus, seen->session_id) : NULL;
    const struct vouch_janus_handle *handle =
        seen->handle_id ? janus_handle_find(janus, seen->session_id, seen->handle_id) : NULL;
    if (handle && handle->forgotten)
        return (struct vouch_janus_listener){0};
    if (handle && handle->listener.on_event)
        return handle->listener;
    if (session && (handle || !seen->handle_id))
        return session->listener;
    janus->stats.unknown_senders++;
    return (struct vouch_janus_listener){janus->options.on_event, janus->options.context};
}

static int deliver_event(struct vouch_janus *janus, struct janus_event *event) {
    struct vouch_janus_listener listener = listener_of(janus, &event->message->seen);
    if (listener.on_event)
        call_back(&listener, event->message, &janus->lock);
    event_free(janus, event);
    return listener.on_event != NULL;
}

static int deliver_call(struct vouch_janus *janus, struct janus_call *call) {
    struct vouch_janus_reply reply = {0};
    if (call->result == 0) {
        reply.message = &call->message->seen;
        if (call->verb == VOUCH_JANUS_DO_CREATE || call->verb == VOUCH_JANUS_DO_CLAIM) {
            reply.session = call->session;
            call->session->refs++;
        } else if (call->verb == VOUCH_JANUS_DO_ATTACH) {
            reply.handle = call->handle;
            call->handle->refs++;
        }
    }
    pthread_mutex_unlock(&janus->lock);
    call->callback(call->context, call->result, &reply, &call->error);
    pthread_mutex_lock(&janus->lock);
    janus_call_free(janus, call);
    return 1;
}

static int deliver_state(struct vouch_janus *janus, bool opened) {
    void (*callback)(void *context, int result, const struct vouch_error *error) =
        opened ? janus->on_open : janus->options.on_end;
    void *context = opened ? janus->open_context : janus->options.context;
    int result = opened ? janus->opened_result : janus->failure.code;
    struct vouch_error error = {.code = 0};
    if (result < 0)
        error = janus->failure;
    pthread_mutex_unlock(&janus->lock);
    callback(context, result, &error);
    pthread_mutex_lock(&janus->lock);
    return 1;
}

int janus_deliver(struct vouch_janus *janus) {
    int count = 0;
    if (janus->delivering)
        return 0;
    janus->delivering = true;
    janus->deliverer = pthread_self();
    for (unsigned turn = janus->options.max_events; janus->due && turn > 0; turn--) {
        struct janus_due *due = due_pop(janus);
        if (due->kind == JANUS_DUE_EVENT)
            count += deliver_event(janus, (struct janus_event *)due);
        else if (due->kind == JANUS_DUE_CALL)
            count += deliver_call(janus, (struct janus_call *)due);
        else
            count += deliver_state(janus, due->kind == JANUS_DUE_OPEN);
    }
    janus->delivering = false;
    janus->due_ready = janus->due != NULL; /* there was more than one turn */
    if (janus->due_ready || janus->phase == JANUS_ENDED)
        janus_wake_sleeper(janus->waiter);
    if (janus->due_ready && janus->waiter)
        janus_wake_driver(janus);
    return count;
}
