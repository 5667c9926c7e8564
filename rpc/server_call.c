/* SPDX-License-Identifier: MIT */
/*
 * One call on the server: from arrival through its handler to exactly one answer.
 *
 * References: one while its handler runs, one more while it is kept. The answer to a kept call
 * gives that one back.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "rpc/server.h"

static struct vouch_call *record_get(struct vouch_server *server) {
    pthread_mutex_lock(&server->lock);
    struct vouch_call *call = server->free_calls;
    if (call) {
        server->free_calls = call->next;
        server->free_call_count--;
    } else {
        call = mem_alloc(server->allocator, sizeof(*call));
    }
    if (call)
        server->calls_out++;
    pthread_mutex_unlock(&server->lock);
    return call;
}

/* After this the server may be freed by another thread. */
static void record_put(struct vouch_server *server, struct vouch_call *call) {
    pthread_mutex_lock(&server->lock);
    bool keep = server->free_call_count < SERVER_IDLE_CALLS_MAX;
    if (keep) {
        call->next = server->free_calls;
        server->free_calls = call;
        server->free_call_count++;
    } else {
        mem_free(server->allocator, call, sizeof(*call));
    }
    server->calls_out--;
    if (atomic_load(&server->state) != SERVER_RUNNING)
        pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void call_unref(struct vouch_call *call) {
    if (atomic_fetch_sub(&call->references, 1) != 1)
        return;
    struct vouch_server *server = call->conn->server;
    vouch_buffer_unref(call->buffer);
    server_conn_unref(call->conn);
    record_put(server, call);
}

/* Not one whose bodies can't be said in the connection's dialect. */
static struct method *find_method(const struct server_conn *conn, const char *name, size_t size) {
    const struct vouch_dialect *dialect = conn->link.session.dialect;
    unsigned flags = dialect ? dialect->method_flags : 0;
    struct method *method = method_table_find(&conn->server->methods, name, size);
    return method && (method->flags & flags) == flags ? method : NULL;
}

/* What is known at once. A method is looked up by the bytes of the wire; nothing of them is trusted
 * to be text. */
static int judge(struct vouch_call *call, const struct session_event *event) {
    struct vouch_server *server = call->conn->server;
    call->method = find_method(call->conn, event->envelope.method, event->envelope.method_size);
    if (!call->method && event->dialect.fallback)
        call->method =
            find_method(call->conn, event->dialect.fallback, event->dialect.fallback_size);
    if (event->result != 0)
        return event->result;
    if (atomic_load_explicit(&server->state, memory_order_relaxed) > SERVER_RUNNING)
        return VOUCH_REMOTE_UNAVAILABLE;
    if (!call->method)
        return VOUCH_REMOTE_METHOD_NOT_FOUND;
    if (call->method->has_policy &&
        !vouch_policy_check(&call->method->policy, vouch_conn_get_peer(call->conn->link.conn),
                            NULL))
        return VOUCH_REMOTE_REFUSED;
    return 0;
}

struct vouch_call *server_call_new(struct server_conn *conn, const struct session_event *event,
                                   int64_t now) {
    struct vouch_server *server = conn->server;
    struct vouch_call *call = record_get(server);
    if (!call)
        return NULL;
    call->conn = conn;
    call->buffer = event->buffer;
    call->data = event->envelope.data ? event->envelope.data : (const uint8_t *)"";
    call->size = event->envelope.data_size;
    call->arrived = now;
    call->deadline = event->deadline;
    call->oversize = event->oversize;
    call->why = event->dialect.why;
    call->why_size = event->dialect.why_size;
    call->refused = event->dialect.refused;
    call->kept = call->delayed = false;
    call->later_buffer = NULL;
    call->intercepted = 0;
    atomic_init(&call->references, 1);
    atomic_init(&call->answered, false);
    atomic_init(&call->cancelled, false);
    call->verdict = judge(call, event);
    atomic_fetch_add(&conn->references, 1);
    atomic_fetch_add(&server->calls, 1);
    atomic_fetch_add(&server->in_flight, 1);
    session_accept(&conn->link.session, &call->slot, event);
    return call;
}

bool server_call_is_quick(const struct vouch_call *call) {
    return call->verdict != 0 || (call->method->flags & VOUCH_METHOD_QUICK);
}

/* ---- answering ---- */

static void run_after(struct vouch_call *call, int result, int64_t elapsed) {
    const struct vouch_server *server = call->conn->server;
    for (size_t i = call->intercepted; i-- > 0;)
        if (server->interceptors[i].after)
            server->interceptors[i].after(server->interceptors[i].context, call, result, elapsed);
}

static void count_answer(struct vouch_call *call, int result, int r) {
    struct vouch_server *server = call->conn->server;
    int64_t elapsed = vouch_now() - call->arrived;
    const struct vouch_dialect *dialect = call->conn->link.session.dialect;
    if (r == -EMSGSIZE)
        result = VOUCH_REMOTE_TOO_LARGE;
    else if (r == -EBADMSG)
        result = VOUCH_REMOTE_SERVER;
    else if (r == -ETIMEDOUT)
        result = VOUCH_REMOTE_DEADLINE_EXCEEDED;
    atomic_fetch_add_explicit(&server->errors[result], 1, memory_order_relaxed);
    if (r == -ECONNRESET)
        atomic_fetch_add_explicit(&server->lost, 1, memory_order_relaxed);
    if (dialect && dialect->observe)
        dialect->observe(dialect->context, VOUCH_DIALECT_ANSWERED, elapsed);
    if (call->method)
        method_count(call->method, result, elapsed);
    if (call->method && call->verdict == 0)
        run_after(call, result, elapsed);
}

/* What a connection's failure means to who answers on it. */
static int answer_result(int r) {
    switch (r) {
    case 0:
    case -EMSGSIZE:
    case -ETIMEDOUT:
    case -ENOMEM:
    case -EBADMSG:
        return r;
    default:
        return -ECONNRESET;
    }
}

/* What a call is answered with: a buffer (taken over), or a body that is lent, or an error. */
struct answer {
    struct vouch_buffer *buffer; /* with a lent body: for what comes before it */
    const struct iovec *lent;
    int result;
    const char *text;
};

/* A lent body that can't be sent at once is copied. */
static int own_body(struct vouch_call *call, struct answer *answer) {
    struct vouch_buffer *whole;
    int r = session_copy(call->conn->server->pool, answer->lent->iov_base, answer->lent->iov_len,
                         &whole);
    if (r < 0)
        return r;
    vouch_buffer_unref(answer->buffer);
    answer->buffer = whole;
    answer->lent = NULL;
    return 0;
}

static _Thread_local const struct vouch_server *serving;
static _Thread_local int64_t sending_time;

int64_t server_time_sending(void) {
    return sending_time;
}

/* How long a large answer takes to send says nothing about its handler: neither the watch nor the
 * method's good name are to count it. Link's lock held. */
static void send_lent(const struct vouch_call *call) {
    struct server_conn *conn = call->conn;
    bool watched = conn->presumed_call == call;
    int64_t began = vouch_now();
    if (watched)
        conn->presumed_since = 0;
    link_send_lent(&conn->link);
    int64_t now = vouch_now();
    sending_time += now - began;
    if (watched) {
        conn->presumed_since = now;
        server_start_watch(conn->server, now);
    }
}

/* Link's lock held. */
static int send_answer(struct vouch_call *call, struct answer *answer) {
    struct link *link = &call->conn->link;
    struct session *session = &link->session;
    if (!answer->buffer)
        return session_reply_error(session, &call->slot, answer->result, answer->text);
    bool lends = answer->lent && link_can_lend(link);
    if (answer->lent && !lends) {
        int r = own_body(call, answer);
        if (r < 0)
            session_fail(session, r); /* its caller would wait */
    }
    int r = session_reply_lent(session, &call->slot, answer->buffer, answer->lent);
    if (lends)
        send_lent(call);
    return r;
}

/* The first answer counts: whether this is it. */
static bool claim(struct vouch_call *call) {
    return !atomic_exchange(&call->answered, true);
}

/* Of a call that is claimed. */
static int give_answer(struct vouch_call *call, struct answer answer) {
    struct server_conn *conn = call->conn;
    struct vouch_server *server = conn->server;
    int result = answer.result;
    pthread_mutex_lock(&conn->link.lock);
    bool gone = session_failure(&conn->link.session) != 0;
    int r = send_answer(call, &answer);
    /* Corked, whoever reads does both when the batch is done; but a full socket can't wait for
     * that. */
    link_flush(&conn->link);
    if (!conn->link.corked || link_wants_output(&conn->link))
        server_conn_update(conn);
    pthread_mutex_unlock(&conn->link.lock);

    r = gone ? -ECONNRESET : answer_result(r);
    count_answer(call, result, r);
    if (atomic_fetch_sub(&server->in_flight, 1) == 1 &&
        atomic_load(&server->state) != SERVER_RUNNING) {
        server_notify(server);
        if (server->looped)
            poller_wake(server->poller); /* the loop may be waiting for just this to be done */
    }
    if (call->kept)
        call_unref(call);
    return r;
}

static int give_error(struct vouch_call *call, int result, const char *text) {
    return give_answer(call, (struct answer){.result = result, .text = text});
}

static int answer_error(struct vouch_call *call, int result, const char *text) {
    return claim(call) ? give_error(call, result, text) : -EALREADY;
}

int vouch_call_get_buffer(struct vouch_call *call, size_t size, struct vouch_buffer **ret_buffer) {
    return session_buffer(call->conn->server->pool, size, ret_buffer);
}

int vouch_call_reply_buffer(struct vouch_call *call, struct vouch_buffer *reply) {
    if (claim(call))
        return give_answer(call, (struct answer){.buffer = reply});
    vouch_buffer_unref(reply);
    return -EALREADY;
}

/* A reply for which there is no memory can't be dropped in silence: its caller waits. */
static int give_up_for_memory(struct vouch_call *call) {
    pthread_mutex_lock(&call->conn->link.lock);
    session_fail(&call->conn->link.session, -ENOMEM);
    pthread_mutex_unlock(&call->conn->link.lock);
    (void)give_error(call, VOUCH_REMOTE_SERVER, "");
    return -ENOMEM;
}

static int give_bytes(struct vouch_call *call, const struct iovec *body) {
    struct vouch_buffer *reply;
    bool lent = body->iov_len >= LINK_LEND_MIN;
    int r =
        session_copy(call->conn->server->pool, body->iov_base, lent ? 0 : body->iov_len, &reply);
    if (r < 0)
        return give_up_for_memory(call);
    return give_answer(call, (struct answer){.buffer = reply, .lent = lent ? body : NULL});
}

/* Claims the call for a reply of so many bytes: 0, or what has become of it. */
static int claim_for(struct vouch_call *call, size_t size) {
    struct vouch_error error;
    size_t max = call->conn->server->limits.max_send;
    if (!claim(call))
        return -EALREADY;
    if (size <= max)
        return 0;
    error_set(&error, -EMSGSIZE, "the reply of %zu bytes is over the maximum of %zu bytes", size,
              max);
    int r = give_error(call, VOUCH_REMOTE_TOO_LARGE, error.message);
    return r == 0 ? -EMSGSIZE : r;
}

int vouch_call_reply(struct vouch_call *call, const void *data, size_t size) {
    const struct iovec body = {(void *)(uintptr_t)data, size};
    int r = claim_for(call, size);
    return r < 0 ? r : give_bytes(call, &body);
}

int vouch_call_fail(struct vouch_call *call, enum vouch_remote_error error, const char *format,
                    ...) {
    char
        text[VOUCH_ERROR_TEXT_MAX + 4]; /* as in error_set: a cut character begins behind the end */
    if (error <= VOUCH_REMOTE_OK || error > VOUCH_REMOTE_UNKNOWN)
        return -EINVAL;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return answer_error(call, (int)error, text);
}

/* ---- answering later ---- */

void vouch_call_keep(struct vouch_call *call) {
    if (call->kept || atomic_load(&call->answered))
        return;
    call->kept = true;
    atomic_fetch_add(&call->references, 1);
    pthread_mutex_lock(&call->conn->link.lock);
    /* Without memory for the timer its client's own deadline still ends the call. */
    if (session_watch(&call->conn->link.session, &call->slot, call->deadline) == 0)
        server_conn_update(call->conn);
    pthread_mutex_unlock(&call->conn->link.lock);
}

/* Whether these bytes are the request's own, which stay as long as the call. */
static bool is_in_request(const struct vouch_call *call, const struct iovec *body) {
    uintptr_t at = (uintptr_t)body->iov_base, begin = (uintptr_t)call->data;
    return at >= begin && at <= begin + call->size && body->iov_len <= begin + call->size - at;
}

/* What the answer is made of, until its time comes. */
static int store_answer(struct vouch_call *call, const struct iovec *body) {
    call->later = *body;
    if (is_in_request(call, body))
        return 0;
    int r =
        session_copy(call->conn->server->pool, body->iov_base, body->iov_len, &call->later_buffer);
    return r < 0 ? give_up_for_memory(call) : 0;
}

/* Whoever gave the call up before, or was told of its deadline, is nobody to wait for: a timer
 * would tell of that once more. Link's lock held. */
static void wait_until(struct vouch_call *call, int64_t when) {
    struct session *session = &call->conn->link.session;
    int r = 0;
    call->delayed = true;
    if (atomic_load(&call->cancelled))
        server_call_due(call);
    else if (when < call->deadline)
        r = session_delay(session, &call->slot, when);
    else
        r = session_watch(session, &call->slot, call->deadline);
    if (r < 0)
        session_fail(session, r); /* its caller would wait */
    server_conn_update(call->conn);
}

int vouch_call_reply_at(struct vouch_call *call, int64_t when, const void *data, size_t size) {
    const struct iovec body = {(void *)(uintptr_t)data, size};
    struct server_conn *conn = call->conn;
    int r = claim_for(call, size);
    if (r < 0)
        return r;
    if (when <= vouch_now())
        return give_bytes(call, &body);
    atomic_fetch_add(&call->references, call->kept ? 1 : 2); /* ours; and that of being kept */
    if (!call->kept)
        call->kept = true; /* of another thread's call the handler may look at this meanwhile */
    r = store_answer(call, &body);
    if (r == 0) {
        pthread_mutex_lock(&conn->link.lock);
        wait_until(call, when);
        r = session_failure(&conn->link.session) == -ENOMEM ? -ENOMEM : 0;
        pthread_mutex_unlock(&conn->link.lock);
        server_answer_due(conn);
    }
    call_unref(call);
    return r;
}

void server_call_due(struct vouch_call *call) {
    struct server_conn *conn = call->conn;
    if (!call->delayed)
        return;
    call->delayed = false;
    call->next = atomic_load(&conn->due);
    atomic_store(&conn->due, call);
}

/* To who gave it up the body is of no use. */
static void give_later(struct vouch_call *call) {
    struct vouch_buffer *buffer = call->later_buffer;
    call->later_buffer = NULL;
    if (atomic_load(&call->cancelled)) {
        vouch_buffer_unref(buffer);
        (void)give_error(call, VOUCH_REMOTE_CANCELLED, "");
    } else if (buffer) {
        (void)give_answer(call, (struct answer){.buffer = buffer});
    } else {
        const struct iovec body = call->later; /* the call may go while it is used */
        (void)give_bytes(call, &body);
    }
}

/* Interceptors run in it as they do in handlers. */
static void give_all_later(const struct vouch_server *server, struct vouch_call *call) {
    const struct vouch_server *outer = serving;
    serving = server;
    while (call) {
        struct vouch_call *next = call->next;
        give_later(call);
        call = next;
    }
    serving = outer;
}

void server_answer_all_due(struct server_conn *conn) {
    pthread_mutex_lock(&conn->link.lock);
    bool mine = !conn->answering; /* giving an answer may lead here again */
    struct vouch_call *call;
    while (mine && (call = atomic_exchange(&conn->due, NULL))) {
        conn->answering = true;
        pthread_mutex_unlock(&conn->link.lock);
        give_all_later(conn->server, call);
        pthread_mutex_lock(&conn->link.lock);
        conn->answering = false;
    }
    pthread_mutex_unlock(&conn->link.lock);
}

/* ---- running ---- */

static int run_before(struct vouch_call *call) {
    const struct vouch_server *server = call->conn->server;
    int r = 0;
    while (call->intercepted < server->interceptor_count && r == 0) {
        const struct vouch_server_interceptor *one = &server->interceptors[call->intercepted++];
        if (one->before)
            r = one->before(one->context, call);
    }
    return r;
}

static int remote_of(int result) {
    return result > 0 && result <= VOUCH_REMOTE_UNKNOWN ? result : VOUCH_REMOTE_SERVER;
}

static void run_handler(struct vouch_call *call) {
    int r = run_before(call);
    if (r == 0)
        r = call->method->handler(call->method->context, call);
    if (call->kept || atomic_load(&call->answered))
        return;
    if (r == 0)
        (void)vouch_call_reply(call, NULL, 0);
    else
        (void)answer_error(call, remote_of(r), vouch_strerror(r));
}

static const char *why_unavailable(const struct vouch_server *server) {
    return atomic_load(&server->state) > SERVER_RUNNING
               ? "the server is stopping"
               : "more calls are in flight than are taken at a time";
}

/* What judge() has found, in words. */
static void explain(const struct vouch_call *call, struct vouch_error *error) {
    char who[256];
    switch (call->verdict) {
    case VOUCH_REMOTE_TOO_LARGE:
        /* A line does not say how long it is: that is what had come when it was too much. */
        error_set(error, 0, "the request of %s%llu bytes is over the maximum of %zu bytes",
                  call->conn->link.session.dialect ? "at least " : "",
                  (unsigned long long)call->oversize, call->conn->link.session.limits.max_receive);
        break;
    case VOUCH_REMOTE_METHOD_NOT_FOUND:
        error_set(error, 0, "there is no method '%.*s'", (int)call->slot.method_size,
                  call->slot.method ? call->slot.method : "");
        break;
    case VOUCH_REMOTE_REFUSED:
        error_set(error, 0, "the policy of '%s' does not allow %s", call->method->name,
                  vouch_identity_format(vouch_call_get_peer(call), who, sizeof(who)));
        break;
    case VOUCH_REMOTE_DEADLINE_EXCEEDED:
        error_set(error, 0, "the deadline had passed before the call could run");
        break;
    default:
        error_set(error, 0, "%s", why_unavailable(call->conn->server));
        break;
    }
}

/* A dialect may refuse a call for reasons of its own, and say why or not. */
static void refuse(struct vouch_call *call) {
    struct vouch_error error;
    if (call->why_size > 0)
        error_copy_text(error.message, sizeof(error.message), call->why, call->why_size);
    else if (call->refused)
        error_set(&error, 0, "%s", vouch_strerror(call->verdict));
    else
        explain(call, &error);
    (void)answer_error(call, call->verdict, error.message);
}

const struct vouch_server *server_of_this_thread(void) {
    return serving;
}

void server_call_run(struct vouch_call *call) {
    const struct vouch_server *outer =
        serving; /* a handler may drive another server's foreign loop */
    serving = call->conn->server;
    if (call->verdict != 0)
        refuse(call);
    else
        run_handler(call);
    serving = outer;
    call_unref(call);
}

bool server_call_cancel(struct vouch_call *call) {
    bool first = !atomic_exchange(&call->cancelled, true);
    server_call_due(call);
    return first;
}

/* ---- what a handler asks ---- */

const uint8_t *vouch_call_get_data(const struct vouch_call *call, size_t *ret_size) {
    *ret_size = call->size;
    return call->data;
}

const char *vouch_call_get_method(const struct vouch_call *call) {
    return call->method->name;
}

const char *vouch_call_get_target(const struct vouch_call *call, size_t *ret_size) {
    *ret_size = call->slot.method_size;
    return call->slot.method ? call->slot.method : "";
}

const struct vouch_identity *vouch_call_get_peer(const struct vouch_call *call) {
    return vouch_conn_get_peer(call->conn->link.conn);
}

uint64_t vouch_call_get_connection(const struct vouch_call *call) {
    return call->conn->number;
}

int64_t vouch_call_get_deadline(const struct vouch_call *call) {
    return call->deadline;
}

bool vouch_call_is_cancelled(const struct vouch_call *call) {
    return atomic_load(&call->cancelled) ||
           (call->deadline != VOUCH_FOREVER && vouch_now() >= call->deadline);
}

int vouch_call_wait_cancelled(struct vouch_call *call, int64_t deadline) {
    struct vouch_server *server = call->conn->server;
    int64_t until = deadline < call->deadline ? deadline : call->deadline;
    pthread_mutex_lock(&server->lock);
    while (!vouch_call_is_cancelled(call) && vouch_now() < until)
        cond_wait_until(&server->changed, &server->lock, until);
    pthread_mutex_unlock(&server->lock);
    return vouch_call_is_cancelled(call);
}
