/* SPDX-License-Identifier: MIT */
/*
 * Calls: how they begin and end, and the requests that wait to be sent.
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

#define KEY_TEXT ((size_t)2 * JANUS_TRANSACTION_BYTES)

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

static int new_key(struct vouch_janus *janus, unsigned char *key) {
    do {
        if (getentropy(key, JANUS_TRANSACTION_BYTES) < 0)
            return -errno;
    } while (find_key(janus, key));
    return 0;
}

static void key_text(const unsigned char *key, char text[KEY_TEXT + 1]) {
    for (size_t i = 0; i < JANUS_TRANSACTION_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", key[i]);
}

static int digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct janus_call *janus_call_find(struct vouch_janus *janus, const char *transaction) {
    unsigned char key[JANUS_TRANSACTION_BYTES];
    if (!transaction || strlen(transaction) != KEY_TEXT)
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

/* Takes `text` over. */
static void push_output(struct vouch_janus *janus, const struct janus_call *call,
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

static void insert(struct vouch_janus *janus, struct janus_call *call) {
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
 */
static void spread(struct janus_call *call) {
    if (call->verb == VOUCH_JANUS_DO_DETACH || call->result == VOUCH_JANUS_ERROR_HANDLE_NOT_FOUND) {
        if (call->handle && call->handle->id)
            janus_handle_end(call->handle, "the handle was detached");
    }
    if (call->verb == VOUCH_JANUS_DO_DESTROY ||
        call->result == VOUCH_JANUS_ERROR_SESSION_NOT_FOUND) {
        if (call->session && call->session->id)
            janus_session_end(call->session, "the session was destroyed");
    }
}

void janus_complete(struct vouch_janus *janus, struct janus_call *call, int result,
                    struct janus_message *message, const char *text) {
    take_out(janus, call);
    call->done = true;
    call->result = result;
    call->message = message;
    call->error.code = result;
    snprintf(call->error.message, sizeof(call->error.message), "%s",
             result == 0 ? "" : (text ? text : vouch_janus_strerror(result)));
    count(janus, call);
    spread(call);
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

/* ---- how calls begin ---- */

/* Whether a call may be made now. */
static int check_start(struct vouch_janus *janus, const struct janus_start *start,
                       struct vouch_error *ret_error) {
    const struct vouch_janus_request *r = start->request;
    int result = janus_request_check(r, ret_error);
    if (result < 0)
        return result;
    if ((r->session && r->session->janus != janus) ||
        (r->handle && r->handle->session->janus != janus))
        return janus_fail(ret_error, -EINVAL, "the session is of another connection");
    if ((r->session && r->session->state < 0) ||
        (r->handle && (r->handle->state < 0 || r->handle->session->state < 0)))
        return janus_fail(ret_error, -ESTALE, "the session or handle is gone");
    if (janus->phase == JANUS_ENDED) {
        if (ret_error)
            *ret_error = janus->failure;
        return janus->failure.code;
    }
    unsigned programs = janus->in_flight - janus->own_calls;
    if (!start->own && programs >= janus->options.max_calls)
        return janus_fail(ret_error, -EBUSY, "%u calls are in flight", programs);
    if (start->callback && janus->output_bytes >= janus->options.output_max)
        return janus_fail(ret_error, -EAGAIN, "%zu bytes wait to be sent", janus->output_bytes);
    return 0;
}

static int64_t deadline_of(const struct vouch_janus *janus, const struct janus_start *start) {
    struct vouch_call_options options = {0};
    if (start->options)
        memcpy(&options, start->options,
               start->options->size && start->options->size < sizeof(options) ? start->options->size
                                                                              : sizeof(options));
    if (options.deadline)
        return options.deadline;
    if (start->own) /* never for ever: there is one more with each interval */
        return vouch_deadline_in(janus->options.answer_timeout == VOUCH_FOREVER
                                     ? VOUCH_JANUS_ANSWER_DEFAULT
                                     : janus->options.answer_timeout);
    return vouch_deadline_in(options.timeout ? options.timeout : janus->options.call_timeout);
}

/* Finds or makes what the call is about. */
static int set_objects(struct vouch_janus *janus, const struct vouch_janus_request *r,
                       struct janus_call *call) {
    struct vouch_janus_session *session = r->handle ? r->handle->session : r->session;
    if (r->verb == VOUCH_JANUS_DO_CREATE || r->verb == VOUCH_JANUS_DO_CLAIM) {
        call->session = janus_session_new(janus, r->listener, r->keepalive_interval);
        return call->session ? 0 : -ENOMEM;
    }
    if (session) {
        call->session = session;
        session->refs++;
    }
    if (r->handle) {
        call->handle = r->handle;
        r->handle->refs++;
    } else if (r->verb == VOUCH_JANUS_DO_ATTACH) {
        call->handle = janus_handle_new(session, r->listener);
        return call->handle ? 0 : -ENOMEM;
    }
    return 0;
}

static int print(struct vouch_janus *janus, const struct vouch_janus_request *r,
                 const struct janus_call *call, struct vouch_buffer **ret_text,
                 struct vouch_error *ret_error) {
    char transaction[KEY_TEXT + 1];
    key_text(call->key, transaction);
    const struct janus_request_head head = {
        .transaction = transaction,
        .api_secret = janus->options.api_secret,
        .token = janus->options.token,
        .session_id = r->verb == VOUCH_JANUS_DO_CLAIM ? r->id
                      : call->session                 ? call->session->id
                                                      : 0,
        .handle_id = call->handle ? call->handle->id : 0,
    };
    return janus_request_print(r, &head, janus->pool, sizeof(struct janus_output),
                               janus->options.max_message, ret_text, ret_error);
}

static struct janus_call *new_call(struct vouch_janus *janus, const struct janus_start *start) {
    struct vouch_buffer *self;
    struct janus_call *call = janus_alloc(janus->pool, sizeof(*call), &self);
    if (!call)
        return NULL;
    call->self = self;
    call->verb = start->request->verb;
    call->claimed = start->request->id;
    call->callback = start->callback;
    call->context = start->context;
    call->own = start->own;
    call->tag = start->options ? start->options->tag : 0;
    call->deadline = deadline_of(janus, start);
    call->id = ++janus->last_id;
    return call;
}

int janus_call_start(struct vouch_janus *janus, const struct janus_start *start,
                     struct janus_call **ret_call, struct vouch_error *ret_error) {
    struct vouch_buffer *text = NULL;
    struct janus_call *call;
    int result = check_start(janus, start, ret_error);
    if (result < 0)
        return result;
    call = new_call(janus, start);
    if (!call)
        return janus_fail(ret_error, -ENOMEM, "out of memory");
    janus->in_flight++;
    janus->own_calls += call->own;
    result = new_key(janus, call->key);
    if (result == 0)
        result = set_objects(janus, start->request, call);
    if (result < 0)
        janus_fail(ret_error, result, "%s", vouch_strerror(result));
    if (result == 0 && call->deadline <= vouch_now())
        result = janus_fail(ret_error, -ETIMEDOUT, "the deadline has passed");
    if (result == 0)
        result = print(janus, start->request, call, &text, ret_error);
    if (!text) {
        janus_call_free(janus, call);
        return result;
    }
    insert(janus, call);
    if (call->session)
        call->session->idle_since = vouch_now();
    janus_wake_before(janus, call->deadline);
    *ret_call = call; /* first: it may end at once, and one of our own is then no more */
    push_output(janus, call, text);
    return 0;
}
