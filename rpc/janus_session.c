/* SPDX-License-Identifier: MIT */
/*
 * Sessions and handles: counted objects in tables by id, and the keep-alives of the former.
 *
 * An object stays in its table while anybody refers to it: what the program has freed is still
 * there while a call or, of a session, a handle needs it, and is kept alive; only its events go
 * nowhere.
 */
#include <errno.h>

#include "rpc/janus.h"

#define KEEPALIVE_AGAIN VOUCH_SECONDS(1) /* after one that could not be sent */

/* ---- objects ---- */

struct vouch_janus_session *janus_session_new(struct vouch_janus *janus,
                                              const struct vouch_janus_listener *listener,
                                              int64_t interval) {
    struct vouch_buffer *self;
    struct vouch_janus_session *session = janus_alloc(janus->pool, sizeof(*session), &self);
    if (!session)
        return NULL;
    session->self = self;
    session->refs = 1;
    session->janus = janus;
    janus->refs++;
    session->listener = listener ? *listener : (struct vouch_janus_listener){0};
    session->interval = interval ? interval : janus->options.keepalive_interval;
    session->idle_since = vouch_now();
    return session;
}

struct vouch_janus_handle *janus_handle_new(struct vouch_janus_session *session,
                                            const struct vouch_janus_listener *listener) {
    struct vouch_buffer *self;
    struct vouch_janus_handle *handle = janus_alloc(session->janus->pool, sizeof(*handle), &self);
    if (!handle)
        return NULL;
    handle->self = self;
    handle->refs = 1;
    handle->session = session;
    session->refs++;
    handle->listener = listener ? *listener : (struct vouch_janus_listener){0};
    return handle;
}

struct vouch_janus_session *janus_session_find(struct vouch_janus *janus, uint64_t id) {
    return (struct vouch_janus_session *)janus_table_find(&janus->sessions, id);
}

struct vouch_janus_handle *janus_handle_find(struct vouch_janus *janus, uint64_t session_id,
                                             uint64_t id) {
    struct janus_node *node = janus_table_find(&janus->handles, id);
    while (node && ((struct vouch_janus_handle *)node)->session->node.id != session_id)
        node = janus_table_find_next(node);
    return (struct vouch_janus_handle *)node;
}

/* When the next keep-alive is due; VOUCH_FOREVER: never. */
static int64_t due_at(const struct vouch_janus_session *session) {
    if (session->state < 0 || session->interval == VOUCH_FOREVER ||
        session->idle_since > VOUCH_FOREVER - session->interval)
        return VOUCH_FOREVER;
    return session->idle_since + session->interval;
}

int janus_session_register(struct vouch_janus_session *session, uint64_t id) {
    struct vouch_janus *janus = session->janus;
    if (janus_session_find(janus, id))
        return -EEXIST;
    session->node.id = id;
    session->registered = true;
    janus_table_insert(&janus->sessions, &session->node);
    if (due_at(session) < janus->next_keepalive)
        janus->next_keepalive = due_at(session);
    janus_wake_before(janus, janus->next_keepalive);
    return 0;
}

int janus_handle_register(struct vouch_janus_handle *handle, uint64_t id) {
    struct vouch_janus *janus = handle->session->janus;
    if (janus_handle_find(janus, handle->session->node.id, id))
        return -EEXIST;
    handle->node.id = id;
    handle->registered = true;
    janus_table_insert(&janus->handles, &handle->node);
    return 0;
}

void janus_session_unref(struct vouch_janus_session *session) {
    if (!session || --session->refs > 0)
        return;
    struct vouch_janus *janus = session->janus;
    if (session->registered)
        janus_table_remove(&janus->sessions, &session->node);
    vouch_buffer_unref(session->self);
    janus->refs--;
}

void janus_handle_unref(struct vouch_janus_handle *handle) {
    if (!handle || --handle->refs > 0)
        return;
    struct vouch_janus_session *session = handle->session;
    if (handle->registered)
        janus_table_remove(&session->janus->handles, &handle->node);
    vouch_buffer_unref(handle->self);
    janus_session_unref(session);
}

void janus_handle_end(struct vouch_janus_handle *handle, const char *text) {
    if (handle->state < 0)
        return;
    handle->state = -ESTALE;
    janus_complete_all(handle->session->janus, NULL, handle, -ESTALE, text);
}

void janus_session_end(struct vouch_janus_session *session, const char *text) {
    if (session->state < 0)
        return;
    session->state = -ESTALE;
    janus_complete_all(session->janus, session, NULL, -ESTALE, text);
}

/* ---- keep-alives ---- */

static void keep_alive(struct vouch_janus_session *session, int64_t now) {
    struct vouch_janus *janus = session->janus;
    const struct vouch_janus_request request = {
        VOUCH_OPTIONS(request), .verb = VOUCH_JANUS_DO_KEEPALIVE, .session = session};
    const struct janus_start start = {.request = &request, .own = true};
    struct janus_call *call;
    if (janus_call_start(janus, &start, &call, NULL) < 0) {
        int64_t earlier = session->interval - KEEPALIVE_AGAIN;
        session->idle_since = now - (earlier > 0 ? earlier : 0);
        return;
    }
    janus->stats.keepalives++;
    if (janus->probed_at == 0)
        janus->probed_at = now;
}

/* All sessions are looked at each time: those that are nearly due go along, so that this is not
 * done for each of them. */
static bool may_go(const struct vouch_janus_session *session, int64_t now) {
    int64_t due = due_at(session);
    return due != VOUCH_FOREVER && due - janus_keepalive_slack(session->interval) <= now;
}

void janus_keepalives(struct vouch_janus *janus, int64_t now) {
    if (now < janus->next_keepalive)
        return;
    janus->next_keepalive = VOUCH_FOREVER;
    for (size_t i = 0; i < janus_table_chains(&janus->sessions); i++) {
        struct vouch_janus_session *session = (void *)janus->sessions.chains[i], *next;
        for (; session && janus->phase == JANUS_OPEN; session = next) {
            session->refs++; /* sending may end the connection, and with it calls */
            if (may_go(session, now))
                keep_alive(session, now);
            if (due_at(session) < janus->next_keepalive)
                janus->next_keepalive = due_at(session);
            next = (void *)session->node.next;
            janus_session_unref(session);
        }
    }
}

/* ---- what the program has of them ---- */

void vouch_janus_handle_free(struct vouch_janus_handle *handle) {
    if (!handle)
        return;
    struct vouch_janus *janus = handle->session->janus;
    if (janus_check(janus) < 0)
        return; /* the parent's: a thread of its may have held the lock */
    pthread_mutex_lock(&janus->lock);
    handle->forgotten = true;
    janus->refs++;
    janus_handle_unref(handle);
    janus_unref(janus);
}

void vouch_janus_session_free(struct vouch_janus_session *session) {
    if (!session)
        return;
    struct vouch_janus *janus = session->janus;
    if (janus_check(janus) < 0)
        return;
    pthread_mutex_lock(&janus->lock);
    session->listener = (struct vouch_janus_listener){0};
    janus->refs++;
    janus_session_unref(session);
    janus_unref(janus);
}

uint64_t vouch_janus_session_get_id(const struct vouch_janus_session *session) {
    return session->node.id;
}

uint64_t vouch_janus_handle_get_id(const struct vouch_janus_handle *handle) {
    return handle->node.id;
}

static int state_of(const struct vouch_janus_session *session, int state) {
    const struct vouch_janus *janus = session->janus;
    return state < 0                     ? state
           : session->state < 0          ? session->state
           : janus->phase == JANUS_ENDED ? janus->failure.code
                                         : 0;
}

int vouch_janus_session_get_state(struct vouch_janus_session *session) {
    if (janus_check(session->janus) < 0)
        return -ECHILD;
    pthread_mutex_lock(&session->janus->lock);
    int state = state_of(session, 0);
    pthread_mutex_unlock(&session->janus->lock);
    return state;
}

int vouch_janus_handle_get_state(struct vouch_janus_handle *handle) {
    struct vouch_janus *janus = handle->session->janus;
    if (janus_check(janus) < 0)
        return -ECHILD;
    pthread_mutex_lock(&janus->lock);
    int state = state_of(handle->session, handle->state);
    pthread_mutex_unlock(&janus->lock);
    return state;
}

int vouch_janus_handle_of(struct vouch_janus_session *session, uint64_t id,
                          const struct vouch_janus_listener *listener,
                          struct vouch_janus_handle **ret_handle) {
    struct vouch_janus *janus = session->janus;
    if (id == 0 || id > VOUCH_JANUS_ID_MAX)
        return -EINVAL;
    if (janus_check(janus) < 0)
        return -ECHILD;
    pthread_mutex_lock(&janus->lock);
    int result = state_of(session, 0);
    struct vouch_janus_handle *handle = result == 0 ? janus_handle_new(session, listener) : NULL;
    if (result == 0)
        result = handle ? janus_handle_register(handle, id) : -ENOMEM;
    if (result == 0)
        *ret_handle = handle;
    else
        janus_handle_unref(handle);
    pthread_mutex_unlock(&janus->lock);
    return result;
}
