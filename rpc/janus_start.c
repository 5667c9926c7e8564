/* SPDX-License-Identifier: MIT */
/*
 * How calls begin: looked at, numbered, printed, put into the table, sent. Nothing of a call that
 * is refused is left, and nothing of it was sent.
 */
#include <errno.h>
#include <string.h>

#include "lib/options.h"
#include "rpc/janus.h"

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

/* A keep-alive of our own ends before the next may leave: while it is under way it holds its
 * session, which may be all that does. */
static int64_t timeout_of(const struct vouch_janus *janus, const struct janus_start *start) {
    if (!start->own)
        return janus->options.call_timeout;
    int64_t interval = start->request->session->interval;
    interval -= janus_keepalive_slack(interval);
    return interval < janus->options.answer_timeout ? interval : janus->options.answer_timeout;
}

static void set_options(const struct vouch_janus *janus, const struct janus_start *start,
                        struct janus_call *call) {
    struct vouch_call_options options = {0};
    OPTIONS_READ(options, start->options);
    call->tag = options.tag;
    call->deadline =
        options.deadline
            ? options.deadline
            : vouch_deadline_in(options_time(options.timeout, timeout_of(janus, start)));
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
    char transaction[JANUS_TRANSACTION_TEXT + 1];
    janus_transaction_print(call->key, transaction);
    const struct janus_request_head head = {
        .transaction = transaction,
        .api_secret = janus->options.api_secret,
        .token = janus->options.token,
        .session_id = r->verb == VOUCH_JANUS_DO_CLAIM ? r->id
                      : call->session                 ? call->session->node.id
                                                      : 0,
        .handle_id = call->handle ? call->handle->node.id : 0,
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
    set_options(janus, start, call);
    call->id = ++janus->last_id;
    return call;
}

int janus_call_start(struct vouch_janus *janus, const struct janus_start *start,
                     struct janus_call **ret_call, struct vouch_error *ret_error) {
    struct vouch_buffer *text = NULL;
    struct janus_call *call;
    int64_t now = vouch_now(); /* before a timeout begins: only a deadline can have passed */
    int result = check_start(janus, start, ret_error);
    if (result < 0)
        return result;
    call = new_call(janus, start);
    if (!call)
        return janus_fail(ret_error, -ENOMEM, "out of memory");
    janus->in_flight++;
    janus->own_calls += call->own;
    result = janus_transaction_new(janus, call->key);
    if (result == 0)
        result = set_objects(janus, start->request, call);
    if (result < 0)
        janus_fail(ret_error, result, "%s", vouch_strerror(result));
    if (result == 0 && call->deadline <= now)
        result = janus_fail(ret_error, -ETIMEDOUT, "the deadline has passed");
    if (result == 0)
        result = print(janus, start->request, call, &text, ret_error);
    if (!text) {
        janus_call_free(janus, call);
        return result;
    }
    janus_call_insert(janus, call);
    if (call->session)
        call->session->idle_since = vouch_now();
    janus_wake_before(janus, call->deadline);
    *ret_call = call; /* first: it may end at once, and one of our own is then no more */
    janus_output_push(janus, call, text);
    return 0;
}
