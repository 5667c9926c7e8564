/* SPDX-License-Identifier: MIT */
/*
 * How a call begins, and how it ends: exactly once, with a result and a text that says what
 * happened.
 */
#include <errno.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/options.h"
#include "lib/utf8.h"
#include "rpc/client.h"
#include "rpc/peer.h"

/* ---- the list of what is in flight, the queue of what has ended ---- */

static void enter(struct vouch_client *client, struct client_call *call) {
    call->previous = NULL;
    call->next = client->flight;
    if (call->next)
        call->next->previous = call;
    client->flight = call;
    client->stats.in_flight++;
}

static void leave(struct vouch_client *client, struct client_call *call) {
    if (call->previous)
        call->previous->next = call->next;
    else
        client->flight = call->next;
    if (call->next)
        call->next->previous = call->previous;
    client->stats.in_flight--;
}

static void queue_push(struct client_queue *queue, struct client_call *call) {
    call->next = NULL;
    if (queue->tail)
        queue->tail->next = call;
    else
        queue->head = call;
    queue->tail = call;
}

static struct client_call *queue_pop(struct client_queue *queue) {
    struct client_call *call = queue->head;
    if (call)
        queue->head = call->next;
    if (!queue->head)
        queue->tail = NULL;
    return call;
}

static void count_result(struct vouch_client *client, int result) {
    if (result == 0)
        client->stats.replies++;
    else if (result > 0)
        client->stats.remote_errors++;
    else
        client->stats.local_errors++;
}

static void complete_async(struct vouch_client *client, struct client_call *call) {
    bool first = !client->ended.head;
    queue_push(&client->ended, call);
    if (client->waiter)
        client_wake(client, client->waiter);
    if (client->loop && first && !client->processing)
        os_wake_raise(&client->loop_wake);
}

void client_complete(struct vouch_client *client, struct client_call *call, int result) {
    leave(client, call);
    call->result = result;
    if (call->callback) {
        complete_async(client, call);
        return;
    }
    count_result(client, result);
    if (call->sleeper && call->sleeper->listed) { /* else its caller is driving: this is its own */
        client_unlist(client, call->sleeper);
        client_wake(client, call->sleeper);
        client->away++;
    }
    /* The last touch: a thread that has been woken for another reason may see this and be gone. */
    atomic_store_explicit(&call->done, true, memory_order_release);
}

void client_complete_all(struct vouch_client *client, int result) {
    pthread_cond_broadcast(&client->room);
    while (client->flight) {
        struct client_call *call = client->flight;
        session_forget(&client->link.session, &call->slot);
        client_complete(client, call, result);
    }
}

/* ---- records of asynchronous calls, and of notices ---- */

static struct client_call *record_get(struct vouch_client *client) {
    struct client_call *call = client->idle;
    if (!call)
        return mem_zalloc(client->allocator, sizeof(*call));
    client->idle = call->next;
    client->idle_count--;
    *call = (struct client_call){0};
    return call;
}

static void record_put(struct vouch_client *client, struct client_call *call) {
    if (client->idle_count >= CLIENT_IDLE_CALLS_MAX) {
        mem_free(client->allocator, call, sizeof(*call));
        return;
    }
    call->next = client->idle;
    client->idle = call;
    client->idle_count++;
}

/* The first is taken whatever its size. */
static bool has_place_for_notice(const struct vouch_client *client, size_t size) {
    if (!client->on_notice || client->notices >= VOUCH_CLIENT_NOTICES_MAX)
        return false;
    return client->notices == 0 || (size <= VOUCH_CLIENT_NOTICE_BYTES_MAX &&
                                    client->notice_bytes <= VOUCH_CLIENT_NOTICE_BYTES_MAX - size);
}

/* A small one may wait for long, and does not keep the large buffer that it was read into
 * meanwhile. */
static int keep_notice(struct vouch_client *client, const struct session_event *event,
                       struct vouch_reply *ret_notice) {
    const struct envelope *e = &event->envelope;
    struct vouch_buffer *own;
    *ret_notice = (struct vouch_reply){e->data, e->data_size, event->buffer};
    if (e->data_size >= event->buffer->capacity / 2)
        return 0;
    int r = pool_copy(client->pool, e->data, e->data_size, &own);
    if (r < 0)
        return r;
    vouch_buffer_unref(event->buffer);
    *ret_notice = (struct vouch_reply){own->data, own->size, own};
    return 0;
}

/* Its callback runs among those of the asynchronous calls. */
void client_take_notice(struct vouch_client *client, const struct session_event *event) {
    struct client_call *call = NULL;
    if (has_place_for_notice(client, event->envelope.data_size))
        call = record_get(client);
    if (call && keep_notice(client, event, &call->reply) < 0) {
        record_put(client, call);
        call = NULL;
    }
    if (!call) {
        client->stats.notices_lost++;
        vouch_buffer_unref(event->buffer);
        return;
    }
    call->notice = true;
    client->stats.notices++;
    client->notices++;
    client->notice_bytes += call->reply.size;
    client->async_count++;
    complete_async(client, call);
}

/* ---- what the caller is told ---- */

/* A server that closes without a word has not admitted us, or has died: it can't say which. */
static const char *how_it_is_gone(struct vouch_client *client) {
    client_lock(client);
    bool silent = client->link.bytes_received == 0 && !client->guest;
    client_unlock(client);
    return silent ? "the server closed the connection without a word: it may not admit us"
                  : "the server is gone";
}

/* Of a call that has ended for want of time: how late it was noticed is not of interest. */
static int64_t time_waited(const struct client_call *call) {
    int64_t now = vouch_now(), end = now < call->deadline ? now : call->deadline;
    return end > call->begun ? end - call->begun : 0;
}

static void describe(struct vouch_client *client, const struct client_call *call, int result,
                     struct vouch_error *error) {
    if (!error || result == 0)
        return;
    const char *method = call->method;
    if (result > 0 && call->text_size > 0) {
        error->code = result;
        error_copy_text(error->message, sizeof(error->message), call->text, call->text_size);
    } else if (result > 0) {
        error_set(error, result, "%s: the server answered: %s", method, vouch_strerror(result));
    } else if (result == -EMSGSIZE) {
        error_set(error, result, "%s: a message of %llu bytes is over the maximum of %llu bytes",
                  method, (unsigned long long)call->size, (unsigned long long)call->limit);
    } else if (result == -ETIMEDOUT) {
        error_set(error, result, "%s: no reply within %lld ms", method,
                  (long long)(time_waited(call) / VOUCH_MILLISECONDS(1)));
    } else if (result == -EBUSY) {
        error_set(error, result, "%s: %u calls are in flight, the maximum", method,
                  client->limits.max_calls);
    } else if (result == -EAGAIN) {
        error_set(error, result, "%s: %zu bytes or more wait to be sent, the maximum", method,
                  client->limits.output_hard);
    } else if (result == -ECONNRESET) {
        error_set(error, result, "%s: %s", method, how_it_is_gone(client));
    } else if (result == VOUCH_E_METHOD_NAME) {
        error_set(error, result, "the method's name is empty, longer than %d bytes, or not UTF-8",
                  ENVELOPE_METHOD_MAX);
    } else {
        error_set(error, result, "%s: %s", method, vouch_strerror(result));
    }
}

static struct vouch_call_info info_of(const struct client_call *call) {
    return (struct vouch_call_info){
        .method = call->method,
        .request_size = call->request_size,
        .reply_size = call->reply.size,
        .deadline = call->deadline,
    };
}

static int run_before(struct vouch_client *client, struct client_call *call) {
    struct vouch_call_info info = info_of(call);
    int r = 0;
    while (call->intercepted < client->interceptor_count && r == 0) {
        const struct vouch_client_interceptor *one = &client->interceptors[call->intercepted++];
        if (one->before)
            r = one->before(one->context, &info);
    }
    return r > 0 ? -EPERM : r;
}

static void run_after(struct vouch_client *client, struct client_call *call, int result) {
    if (call->intercepted == 0)
        return;
    struct vouch_call_info info = info_of(call);
    int64_t elapsed = vouch_now() - call->begun;
    for (size_t i = call->intercepted; i-- > 0;)
        if (client->interceptors[i].after)
            client->interceptors[i].after(client->interceptors[i].context, &info, result, elapsed);
}

void vouch_reply_release(struct vouch_reply *reply) {
    vouch_buffer_unref(reply->buffer);
    *reply = (struct vouch_reply){0};
}

/* ---- begin ---- */

/* Calls that wait for others to leave with them wait no longer when they have come to so much. */
#define BATCH_OUTPUT ((size_t)32 * 1024)
/* Of which client this thread runs callbacks: the calls that they begin leave together. */
static _Thread_local const struct vouch_client *in_callbacks;

static int64_t deadline_of(const struct vouch_client *client,
                           const struct vouch_call_options *options, int64_t now) {
    if (options->deadline != 0)
        return options->deadline;
    return clock_add(now, options->timeout != 0 ? options->timeout : client->call_timeout);
}

/* Everything about a call that needs no lock. */
static int prepare(struct vouch_client *client, struct client_call *call, const char *method,
                   size_t request_size, const struct vouch_call_options *options) {
    struct vouch_call_options o = {0};
    OPTIONS_READ(o, options);
    size_t size = method ? strnlen(method, ENVELOPE_METHOD_MAX + 1) : 0;
    call->begun = vouch_now();
    call->deadline = deadline_of(client, &o, call->begun);
    call->tag = o.tag;
    call->more = o.more && call->callback;
    call->request_size = request_size;
    if (size == 0 || size > ENVELOPE_METHOD_MAX || !utf8_valid((const uint8_t *)method, size))
        return VOUCH_E_METHOD_NAME;
    if (o.timeout < 0)
        return -EINVAL;
    return run_before(client, call);
}

/* The body of a request: a buffer, or with `lent` bytes of the caller's (large ones) and a buffer
 * for what comes before them. No buffer: a ping. */
struct request {
    struct vouch_buffer *buffer;
    struct iovec lent;
    bool lends;
};

static int reserve_call(struct vouch_client *client, struct client_call *call, const char *method,
                        const struct request *request) {
    struct session *session = &client->link.session;
    link_update_clock(&client->link, call->begun);
    call->limit = session_max_send(session);
    if (!request->buffer)
        return session_ping(session, &call->slot, call->deadline);
    size_t size = 0;
    int r = session_call_lent(session, &call->slot, method, request->buffer,
                              request->lends ? &request->lent : NULL, call->deadline, &size);
    call->size = size;
    return r;
}

/* Waits for what a call needs of the connection before it can begin. Lock held, let go of
 * meanwhile. */
static int get_ready(struct vouch_client *client, struct client_call *call,
                     struct vouch_error *error) {
    if (call->deadline <= call->begun)
        return -ETIMEDOUT;
    if (client->loop_is_socket && !call->callback)
        return -ENOTSUP;
    if (client->guest && !call->callback && peer_may_wait(client) < 0)
        return -EDEADLK;
    /* An asynchronous call does not wait for a server to come back: it tries once, and is told. */
    int r = client_connect(client, call->callback ? CLIENT_AT_ONCE : call->deadline, error);
    if (r < 0 || call->callback || !session_output_full(&client->link.session))
        return r;
    client_wait_for_room(client, call->deadline);
    r = session_failure(&client->link.session);
    return r == 0 && session_output_full(&client->link.session) ? -ETIMEDOUT : r;
}

/* What can't be sent at once can't be lent. Lock held, let go of meanwhile. */
static int own_request(struct vouch_client *client, struct request *request) {
    struct vouch_buffer *whole;
    client_unlock(client);
    int r = session_copy(client->pool, request->lent.iov_base, request->lent.iov_len, &whole);
    if (r == 0) {
        vouch_buffer_unref(request->buffer);
        *request = (struct request){.buffer = whole};
    }
    client_lock(client);
    return r;
}

/* A blocking caller whom nobody drives for does that next, and sends then. */
static void send_request(struct vouch_client *client, const struct client_call *call,
                         const struct request *request) {
    if (request->lends)
        link_send_lent(&client->link);
    else if (!call->callback && !client->driving)
        return;
    else if (!call->callback || (in_callbacks != client && !call->more) ||
             client->link.session.out.bytes >= BATCH_OUTPUT)
        client_send(client);
}

/* Puts the call into flight and sends what the socket takes. Lock held. Takes the request over
 * whatever is returned. */
static int start(struct vouch_client *client, struct client_call *call, const char *method,
                 struct request request, struct vouch_error *error) {
    client->stats.calls++;
    int r = get_ready(client, call, error);
    if (r == 0 && request.lends && !link_can_lend(&client->link)) {
        r = own_request(client, &request);
        if (r == 0)
            r = get_ready(client, call, error);
    }
    if (r < 0)
        vouch_buffer_unref(request.buffer);
    else
        r = reserve_call(client, call, method, &request);
    if (r < 0) {
        client_hand_over(client); /* it may have driven while it waited */
        return r;
    }
    call->serial = ++client->serial;
    enter(client, call);
    if (!call->callback && client->away > 0)
        client->away--;
    send_request(client, call, &request);
    client_wake_for(client, call);
    return 0;
}

/* ---- blocking calls ---- */

/* Until the call is done. Lock held; true: it is not any more. */
static bool await(struct vouch_client *client, struct client_call *call) {
    struct client_sleeper self;
    bool gone = false;
    while (!gone && !atomic_load_explicit(&call->done, memory_order_relaxed)) {
        if (!client->driving) {
            client_drive(client, call->deadline, call);
            continue;
        }
        if (client_push(client, call->deadline)) {
            client_expire(client, vouch_now());
            continue;
        }
        if (!call->sleeper) {
            self = (struct client_sleeper){0};
            int r = parker_init(&self.parker, &client->lot);
            if (r < 0) {
                session_abandon(&client->link.session, &call->slot);
                client_complete(client, call, r);
                break;
            }
            call->sleeper = &self;
        }
        gone = client_sleep(client, &self, call->deadline, call);
        if (!gone)
            client_expire(client, vouch_now());
    }
    if (!gone)
        client_hand_over(client);
    if (call->sleeper)
        parker_deinit(&self.parker);
    return gone;
}

static int finish(struct vouch_client *client, struct client_call *call, int result,
                  struct vouch_reply *ret_reply, struct vouch_error *error, bool told) {
    run_after(client, call, result);
    if (!told)
        describe(client, call, result, error);
    if (result == 0 && ret_reply)
        *ret_reply = call->reply;
    else
        vouch_reply_release(&call->reply);
    return result;
}

static size_t request_size(const struct request *request) {
    if (request->lends)
        return request->lent.iov_len;
    return request->buffer ? request->buffer->size : 0;
}

static int call_and_wait(struct vouch_client *client, const char *method, struct request request,
                         const struct vouch_call_options *options, struct vouch_reply *ret_reply,
                         struct vouch_error *ret_error) {
    struct client_call call = {.method = (char *)(uintptr_t)method};
    struct vouch_error dial_error = {.code = 0};
    if (ret_reply)
        *ret_reply = (struct vouch_reply){0};
    int r = prepare(client, &call, method, request_size(&request), options);
    if (r < 0) {
        vouch_buffer_unref(request.buffer);
        return finish(client, &call, r, ret_reply, ret_error, false);
    }
    client_lock(client);
    r = start(client, &call, method, request, &dial_error);
    bool gone = r == 0 && await(client, &call);
    if (r < 0)
        count_result(client, r);
    else
        r = call.result;
    if (!gone)
        client_unlock(client);
    bool told = dial_error.code != 0 && dial_error.code == r;
    if (told && ret_error)
        *ret_error = dial_error;
    return finish(client, &call, r, ret_reply, ret_error, told);
}

static int refuse_early(const struct vouch_client *client, struct vouch_buffer *body,
                        struct vouch_reply *ret_reply, struct vouch_error *ret_error) {
    if (os_process_epoch() == client->epoch)
        return 0;
    vouch_buffer_unref(body);
    if (ret_reply)
        *ret_reply = (struct vouch_reply){0};
    return error_set(ret_error, -ECHILD,
                     "this client belongs to the parent process: make a new one after fork");
}

int vouch_client_call_buffer(struct vouch_client *client, const char *method,
                             struct vouch_buffer *request, const struct vouch_call_options *options,
                             struct vouch_reply *ret_reply, struct vouch_error *ret_error) {
    if (!request)
        return error_set(ret_error, -EINVAL, "%s: there is no request", method);
    int r = refuse_early(client, request, ret_reply, ret_error);
    if (r < 0)
        return r;
    return call_and_wait(client, method, (struct request){.buffer = request}, options, ret_reply,
                         ret_error);
}

int vouch_client_get_buffer(struct vouch_client *client, size_t size,
                            struct vouch_buffer **ret_buffer) {
    return session_buffer(client->pool, size, ret_buffer);
}

static int check_request(const struct vouch_client *client, const void *data, size_t size,
                         struct vouch_error *error) {
    if (size > client->limits.max_send)
        return error_set(error, -EMSGSIZE,
                         "a request of %zu bytes is over the maximum of %zu bytes", size,
                         client->limits.max_send);
    if (size > 0 && !data)
        return error_set(error, -EINVAL, "a request of %zu bytes without any data", size);
    return 0;
}

/* A copy of the caller's bytes. Over the maximum nothing is copied. */
static int copy_request(struct vouch_client *client, const void *data, size_t size,
                        struct vouch_buffer **ret_body, struct vouch_error *error) {
    int r = check_request(client, data, size, error);
    if (r < 0)
        return r;
    r = session_copy(client->pool, data, size, ret_body);
    return r < 0 ? error_set(error, r, "no memory for a request of %zu bytes", size) : 0;
}

static int lend_request(struct vouch_client *client, const void *data, size_t size,
                        struct request *request, struct vouch_error *error) {
    int r = check_request(client, data, size, error);
    if (r < 0)
        return r;
    r = session_buffer(client->pool, 0, &request->buffer);
    if (r < 0)
        return error_set(error, r, "no memory for a request of %zu bytes", size);
    request->lent = (struct iovec){(void *)(uintptr_t)data, size};
    return 0;
}

int vouch_client_call(struct vouch_client *client, const char *method, const void *data,
                      size_t size, const struct vouch_call_options *options,
                      struct vouch_reply *ret_reply, struct vouch_error *ret_error) {
    struct request request = {.lends = size >= LINK_LEND_MIN && size <= client->limits.max_send};
    int r = refuse_early(client, NULL, ret_reply, ret_error);
    if (r < 0)
        return r;
    if (ret_reply)
        *ret_reply = (struct vouch_reply){0};
    r = request.lends ? lend_request(client, data, size, &request, ret_error)
                      : copy_request(client, data, size, &request.buffer, ret_error);
    return r < 0 ? r : call_and_wait(client, method, request, options, ret_reply, ret_error);
}

int vouch_client_ping(struct vouch_client *client, int64_t timeout, int64_t *ret_elapsed) {
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = timeout};
    int64_t begun = vouch_now();
    int r = refuse_early(client, NULL, NULL, NULL);
    if (r == 0)
        r = call_and_wait(client, "ping", (struct request){0}, &options, NULL, NULL);
    if (r == 0 && ret_elapsed)
        *ret_elapsed = vouch_now() - begun;
    return r;
}

/* ---- asynchronous calls ---- */

static int start_async(struct vouch_client *client, struct client_call *call,
                       struct vouch_buffer *request, const struct vouch_call_options *options,
                       uint64_t *ret_id) {
    int r = prepare(client, call, call->method, request->size, options);
    if (r < 0) {
        vouch_buffer_unref(request);
        run_after(client, call, r);
        return r;
    }
    client_lock(client);
    r = start(client, call, call->method, (struct request){.buffer = request}, NULL);
    if (r < 0) {
        count_result(client, r);
    } else {
        client->async_count++;
        if (ret_id)
            *ret_id = (uint64_t)call->serial << 32 | call->slot.node.id;
    }
    client_unlock(client);
    if (r < 0)
        run_after(client, call, r);
    return r;
}

static struct client_call *new_record(struct vouch_client *client, const char *method) {
    client_lock(client);
    struct client_call *call = record_get(client);
    client_unlock(client);
    if (!call)
        return NULL;
    size_t size = method ? strnlen(method, sizeof(call->method_copy) - 1) : 0;
    if (size > 0)
        memcpy(call->method_copy, method, size);
    call->method = call->method_copy;
    return call;
}

int vouch_client_call_async_buffer(struct vouch_client *client, const char *method,
                                   struct vouch_buffer *request,
                                   const struct vouch_call_options *options,
                                   vouch_reply_callback callback, void *context, uint64_t *ret_id) {
    int r = refuse_early(client, request, NULL, NULL);
    if (r < 0)
        return r;
    if (!request || !callback) {
        vouch_buffer_unref(request);
        return -EINVAL;
    }
    struct client_call *call = new_record(client, method);
    if (!call) {
        vouch_buffer_unref(request);
        return -ENOMEM;
    }
    call->callback = callback;
    call->context = context;
    r = start_async(client, call, request, options, ret_id);
    if (r < 0) {
        client_lock(client);
        record_put(client, call);
        client_unlock(client);
    }
    return r;
}

int vouch_client_call_async(struct vouch_client *client, const char *method, const void *data,
                            size_t size, const struct vouch_call_options *options,
                            vouch_reply_callback callback, void *context, uint64_t *ret_id) {
    struct vouch_buffer *body;
    int r = refuse_early(client, NULL, NULL, NULL);
    if (r == 0)
        r = copy_request(client, data, size, &body, NULL);
    return r < 0 ? r
                 : vouch_client_call_async_buffer(client, method, body, options, callback, context,
                                                  ret_id);
}

static void run_callback(struct vouch_client *client, struct client_call *call) {
    struct vouch_error error;
    if (call->notice) {
        client->on_notice(client->notice_context, &call->reply);
        vouch_reply_release(&call->reply);
        return;
    }
    error.code = call->result;
    error.message[0] = '\0';
    describe(client, call, call->result, &error);
    run_after(client, call, call->result);
    struct vouch_reply reply = call->result == 0 ? call->reply : (struct vouch_reply){0};
    call->callback(call->context, call->result, &reply, &error);
    vouch_reply_release(&call->reply);
}

static void count_end(struct vouch_client *client, const struct client_call *call) {
    if (!call->notice) {
        count_result(client, call->result);
        return;
    }
    client->notices--;
    client->notice_bytes -= call->reply.size;
}

int client_run_callbacks(struct vouch_client *client) {
    /* Those that have ended by now: what the callbacks start is for the next time. */
    struct client_queue ended = client->ended;
    client->ended = (struct client_queue){0};
    const struct vouch_client *outer =
        in_callbacks; /* a callback may run those of another client */
    struct client_call *call;
    int count = 0;
    in_callbacks = client;
    while ((call = queue_pop(&ended))) {
        client->async_count--;
        count_end(client, call);
        client_unlock(client);
        run_callback(client, call);
        client_lock(client);
        record_put(client, call);
        count++;
    }
    in_callbacks = outer;
    if (count > 0)
        client_send(client);
    if (client->async_count == 0 && client->waiter)
        client_wake(client, client->waiter); /* it waits for nothing any more */
    return count;
}

/* ---- cancel ---- */

static void cancel(struct vouch_client *client, struct client_call *call) {
    session_abandon(&client->link.session, &call->slot);
    client_complete(client, call, -ECANCELED);
}

static void cancelled(struct vouch_client *client) {
    client_flush(client);
    client_wake_driver(client); /* it may be the driver's own call that has ended */
}

size_t vouch_client_cancel(struct vouch_client *client, uint64_t tag) {
    size_t count = 0;
    if (tag == 0 || os_process_epoch() != client->epoch)
        return 0;
    client_lock(client);
    for (struct client_call *call = client->flight, *next; call; call = next) {
        next = call->next;
        if (call->tag != tag)
            continue;
        cancel(client, call);
        count++;
    }
    if (count > 0)
        cancelled(client);
    client_unlock(client);
    return count;
}

int vouch_client_cancel_id(struct vouch_client *client, uint64_t id) {
    if (os_process_epoch() != client->epoch)
        return -ECHILD;
    client_lock(client);
    struct client_call *call =
        (struct client_call *)idtable_find(&client->link.session.calls, (uint32_t)id);
    int r = call && call->serial == id >> 32 ? 0 : -ENOENT;
    if (r == 0) {
        cancel(client, call);
        cancelled(client);
    }
    client_unlock(client);
    return r;
}
