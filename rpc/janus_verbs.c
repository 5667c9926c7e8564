/* SPDX-License-Identifier: MIT */
/* Calls as programs make them: the one function that waits, the one that does not, and the names.
 */
#include <errno.h>
#include <string.h>

#include "lib/options.h"
#include "rpc/janus.h"

/* ---- the two ---- */

int vouch_janus_call_async(struct vouch_janus *janus, const struct vouch_janus_request *request,
                           const struct vouch_call_options *options, vouch_janus_callback callback,
                           void *context, uint64_t *ret_id) {
    struct vouch_janus_request set = {0};
    struct janus_call *call;
    if (!request || !callback)
        return -EINVAL;
    if (janus_check(janus) < 0)
        return -ECHILD;
    OPTIONS_READ(set, request);
    const struct janus_start start = {&set, options, callback, context, false};
    pthread_mutex_lock(&janus->lock);
    int result = janus_call_start(janus, &start, &call, NULL);
    if (result == 0 && ret_id)
        *ret_id = call->id;
    pthread_mutex_unlock(&janus->lock);
    return result;
}

/* What a call that has ended well gives its caller; takes the call's message. */
static void give(struct janus_call *call, struct vouch_janus_reply *ret_reply) {
    if (!ret_reply || call->result != 0)
        return;
    ret_reply->message = &call->message->seen;
    call->message = NULL;
    if (call->verb == VOUCH_JANUS_DO_CREATE || call->verb == VOUCH_JANUS_DO_CLAIM) {
        ret_reply->session = call->session;
        call->session->refs++;
    } else if (call->verb == VOUCH_JANUS_DO_ATTACH) {
        ret_reply->handle = call->handle;
        call->handle->refs++;
    }
}

static int call_locked(struct vouch_janus *janus, const struct janus_start *start,
                       struct vouch_janus_reply *ret_reply, struct vouch_error *ret_error) {
    struct janus_call *call;
    if (janus_in_callback(janus))
        return janus_fail(ret_error, -EDEADLK, "a call that waits, from a callback");
    int result = janus_call_start(janus, start, &call, ret_error);
    if (result < 0)
        return result;
    while (!call->done) {
        janus_await(janus, &call->done, &call->sleeper, call->deadline);
        janus_expire(janus, vouch_now());
    }
    result = call->result;
    if (result != 0 && ret_error)
        *ret_error = call->error;
    give(call, ret_reply);
    janus_call_free(janus, call);
    return result;
}

int vouch_janus_call(struct vouch_janus *janus, const struct vouch_janus_request *request,
                     const struct vouch_call_options *options, struct vouch_janus_reply *ret_reply,
                     struct vouch_error *ret_error) {
    struct vouch_janus_request set = {0};
    struct vouch_janus_reply reply = {0};
    if (ret_reply)
        *ret_reply = reply;
    if (!request)
        return janus_fail(ret_error, -EINVAL, "there is no request");
    if (janus_check(janus) < 0)
        return janus_fail(ret_error, -ECHILD, "the connection is another process's");
    OPTIONS_READ(set, request);
    const struct janus_start start = {.request = &set, .options = options};
    pthread_mutex_lock(&janus->lock);
    int result = call_locked(janus, &start, ret_reply ? &reply : NULL, ret_error);
    pthread_mutex_unlock(&janus->lock);
    if (ret_reply)
        *ret_reply = reply;
    return result;
}

/* ---- the names ---- */

static int call(struct vouch_janus *janus, const struct vouch_janus_request *request,
                const struct vouch_call_options *options, struct vouch_janus_message **ret_reply,
                struct vouch_error *ret_error) {
    struct vouch_janus_reply reply = {0};
    int result = vouch_janus_call(janus, request, options, ret_reply ? &reply : NULL, ret_error);
    if (ret_reply)
        *ret_reply = (struct vouch_janus_message *)reply.message;
    return result;
}

int vouch_janus_info(struct vouch_janus *janus, const struct vouch_call_options *options,
                     struct vouch_janus_message **ret_reply, struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_INFO};
    return call(janus, &request, options, ret_reply, ret_error);
}

int vouch_janus_ping(struct vouch_janus *janus, const struct vouch_call_options *options,
                     struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_PING};
    return call(janus, &request, options, NULL, ret_error);
}

/* With a new object for the answer. */
static int make(struct vouch_janus *janus, const struct vouch_janus_request *request,
                const struct vouch_call_options *options, struct vouch_janus_reply *ret_reply,
                struct vouch_error *ret_error) {
    int result = vouch_janus_call(janus, request, options, ret_reply, ret_error);
    vouch_janus_message_free(ret_reply->message);
    return result;
}

int vouch_janus_create(struct vouch_janus *janus, const struct vouch_janus_listener *listener,
                       const struct vouch_call_options *options,
                       struct vouch_janus_session **ret_session, struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_CREATE,
                                                .listener = listener};
    struct vouch_janus_reply reply;
    int result = make(janus, &request, options, &reply, ret_error);
    if (result == 0)
        *ret_session = reply.session;
    return result;
}

int vouch_janus_claim(struct vouch_janus *janus, uint64_t session_id,
                      const struct vouch_janus_listener *listener,
                      const struct vouch_call_options *options,
                      struct vouch_janus_session **ret_session, struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {
        .verb = VOUCH_JANUS_DO_CLAIM, .id = session_id, .listener = listener};
    struct vouch_janus_reply reply;
    int result = make(janus, &request, options, &reply, ret_error);
    if (result == 0)
        *ret_session = reply.session;
    return result;
}

int vouch_janus_attach(struct vouch_janus_session *session, const char *plugin,
                       const struct vouch_janus_listener *listener,
                       const struct vouch_call_options *options,
                       struct vouch_janus_handle **ret_handle, struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {
        .verb = VOUCH_JANUS_DO_ATTACH, .session = session, .plugin = plugin, .listener = listener};
    struct vouch_janus_reply reply;
    int result = make(session->janus, &request, options, &reply, ret_error);
    if (result == 0)
        *ret_handle = reply.handle;
    return result;
}

static int of_session(struct vouch_janus_session *session, enum vouch_janus_verb verb,
                      const struct vouch_call_options *options, struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {.verb = verb, .session = session};
    return call(session->janus, &request, options, NULL, ret_error);
}

int vouch_janus_keepalive(struct vouch_janus_session *session,
                          const struct vouch_call_options *options, struct vouch_error *ret_error) {
    return of_session(session, VOUCH_JANUS_DO_KEEPALIVE, options, ret_error);
}

int vouch_janus_destroy(struct vouch_janus_session *session,
                        const struct vouch_call_options *options, struct vouch_error *ret_error) {
    return of_session(session, VOUCH_JANUS_DO_DESTROY, options, ret_error);
}

/* What a handle is asked; members that the verb does not have are NULL. */
static int of_handle(const struct vouch_janus_request *request,
                     const struct vouch_call_options *options,
                     struct vouch_janus_message **ret_reply, struct vouch_error *ret_error) {
    return call(request->handle->session->janus, request, options, ret_reply, ret_error);
}

int vouch_janus_send_message(struct vouch_janus_handle *handle, const cJSON *body,
                             const cJSON *jsep, const struct vouch_call_options *options,
                             struct vouch_janus_message **ret_reply,
                             struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {
        .verb = VOUCH_JANUS_DO_MESSAGE, .handle = handle, .body = body, .jsep = jsep};
    return of_handle(&request, options, ret_reply, ret_error);
}

int vouch_janus_send_request(struct vouch_janus_handle *handle, const cJSON *body,
                             const cJSON *jsep, const struct vouch_call_options *options,
                             struct vouch_janus_message **ret_reply,
                             struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {
        .verb = VOUCH_JANUS_DO_REQUEST, .handle = handle, .body = body, .jsep = jsep};
    return of_handle(&request, options, ret_reply, ret_error);
}

int vouch_janus_trickle(struct vouch_janus_handle *handle, const cJSON *candidate,
                        const struct vouch_call_options *options, struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {
        .verb = VOUCH_JANUS_DO_TRICKLE, .handle = handle, .candidate = candidate};
    if (!cJSON_IsObject(candidate))
        return janus_fail(ret_error, -EINVAL, "trickle: the candidate is not an object");
    return of_handle(&request, options, NULL, ret_error);
}

int vouch_janus_trickle_many(struct vouch_janus_handle *handle, const cJSON *candidates,
                             const struct vouch_call_options *options,
                             struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {
        .verb = VOUCH_JANUS_DO_TRICKLE, .handle = handle, .candidate = candidates};
    if (!cJSON_IsArray(candidates))
        return janus_fail(ret_error, -EINVAL, "trickle: the candidates are not an array");
    return of_handle(&request, options, NULL, ret_error);
}

int vouch_janus_trickle_completed(struct vouch_janus_handle *handle,
                                  const struct vouch_call_options *options,
                                  struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_TRICKLE, .handle = handle};
    return of_handle(&request, options, NULL, ret_error);
}

int vouch_janus_hangup(struct vouch_janus_handle *handle, const struct vouch_call_options *options,
                       struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_HANGUP, .handle = handle};
    return of_handle(&request, options, NULL, ret_error);
}

int vouch_janus_detach(struct vouch_janus_handle *handle, const struct vouch_call_options *options,
                       struct vouch_error *ret_error) {
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_DETACH, .handle = handle};
    return of_handle(&request, options, NULL, ret_error);
}
