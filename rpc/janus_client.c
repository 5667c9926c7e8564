/* SPDX-License-Identifier: MIT */
/*
 * A connection's life: one address after the other, the end.
 *
 * An object is one connection. It is not made again when it has ended: what its sessions and
 * handles were at the gateway is gone then, or has to be claimed, and only the program knows which.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "rpc/janus.h"

/* ---- made and freed ---- */

static void destroy(struct vouch_janus *janus) {
    struct vouch_pool *pool = janus->pool;
    janus_drop_output(janus);
    os_wake_deinit(&janus->wake);
    janus_loop_deinit(janus);
    pthread_mutex_destroy(&janus->lock);
    janus_options_drop(janus);
    janus_table_deinit(&janus->sessions);
    janus_table_deinit(&janus->handles);
    vouch_buffer_unref(janus->self);
    vouch_pool_unref(pool);
}

void janus_unref(struct vouch_janus *janus) {
    bool last = --janus->refs == 0;
    pthread_mutex_unlock(&janus->lock);
    if (last)
        destroy(janus);
}

static int janus_new(struct vouch_pool *pool, const struct vouch_janus_options *options,
                     struct vouch_janus **ret_janus) {
    struct vouch_buffer *self;
    struct vouch_janus *janus = janus_alloc(pool, sizeof(*janus), &self);
    if (!janus)
        return -ENOMEM;
    janus->self = self;
    janus->pool = vouch_pool_ref(pool);
    janus_table_init(&janus->sessions, pool);
    janus_table_init(&janus->handles, pool);
    janus->refs = 1;
    janus->epoch = os_process_epoch();
    janus->options = *options;
    janus->wake = janus->loop_wake = OS_WAKE_NONE;
    janus->loop_fd = janus->loop_link = -1;
    janus->output_end = &janus->output;
    janus->due_end = &janus->due;
    janus->next_deadline = janus->next_keepalive = VOUCH_FOREVER;
    janus->attempt_at = vouch_now();
    janus->connect_deadline = vouch_deadline_in(options->connect_total_timeout);
    pthread_mutex_init(&janus->lock, NULL);
    int result = os_wake_init(&janus->wake);
    if (result == 0)
        result = janus_options_keep(janus);
    if (result < 0) {
        destroy(janus);
        return result;
    }
    *ret_janus = janus;
    return 0;
}

int vouch_janus_connect_async(
    const char *const *addresses, size_t count, const struct vouch_janus_options *options,
    void (*on_open)(void *context, int result, const struct vouch_error *error), void *context,
    struct vouch_janus **ret_janus, struct vouch_error *ret_error) {
    struct vouch_janus_options set;
    struct vouch_janus *janus;
    struct vouch_pool *pool;
    if (!addresses || count == 0 || count > VOUCH_JANUS_ADDRESSES_MAX)
        return janus_fail(ret_error, -EINVAL, "there have to be 1 to %d addresses",
                          VOUCH_JANUS_ADDRESSES_MAX);
    int result = janus_options_read(options, &set, ret_error);
    if (result < 0)
        return result;
    const struct vouch_pool_options of_pool = {VOUCH_OPTIONS(of_pool), .allocator = set.allocator};
    result = vouch_pool_new(&of_pool, &pool);
    if (result < 0)
        return janus_fail(ret_error, result, "%s", vouch_strerror(result));
    result = janus_new(pool, &set, &janus);
    vouch_pool_unref(pool);
    if (result < 0)
        return janus_fail(ret_error, result, "%s", vouch_strerror(result));
    result = janus_addresses_keep(janus, addresses, count, ret_error);
    if (result == -ENOMEM)
        janus_fail(ret_error, result, "%s", vouch_strerror(result));
    if (result < 0) {
        destroy(janus);
        return result;
    }
    janus->on_open = on_open;
    janus->open_context = context;
    *ret_janus = janus;
    return 0;
}

int vouch_janus_connect(const char *const *addresses, size_t count,
                        const struct vouch_janus_options *options, struct vouch_janus **ret_janus,
                        struct vouch_error *ret_error) {
    struct vouch_janus *janus = NULL;
    int result =
        vouch_janus_connect_async(addresses, count, options, NULL, NULL, &janus, ret_error);
    if (!janus)
        return result;
    pthread_mutex_lock(&janus->lock);
    janus_await_open(janus);
    result = janus->opened_result;
    if (result < 0 && ret_error)
        *ret_error = janus->failure;
    pthread_mutex_unlock(&janus->lock);
    if (result < 0)
        vouch_janus_free(janus);
    else
        *ret_janus = janus;
    return result;
}

const char *vouch_janus_get_address(struct vouch_janus *janus) {
    if (janus_check(janus) < 0)
        return janus->addresses[0].text;
    pthread_mutex_lock(&janus->lock);
    const char *text = janus->addresses[janus->attempt].text;
    pthread_mutex_unlock(&janus->lock);
    return text;
}

/* ---- connecting ---- */

void janus_drop_link(struct vouch_janus *janus) {
    janus_loop_forget(janus);
    if (janus->link)
        janus->link->ops->close(janus->link);
    janus->link = NULL;
    janus->link_done = false;
}

static void opened(struct vouch_janus *janus) {
    janus->phase = JANUS_OPEN;
    janus->opened_result = 0;
    janus->failure = (struct vouch_error){.code = 0};
    if (janus->on_open)
        janus_due_push(janus, &janus->opened, JANUS_DUE_OPEN);
    janus_flush(janus);
}

/* Tries the next address at once, or all of them again after a pause, or gives up. */
static void attempt_failed(struct vouch_janus *janus, int64_t now,
                           const struct vouch_error *error) {
    const char *address = janus->addresses[janus->attempt].text;
    int code = error->code;
    janus_drop_link(janus);
    janus_fail(&janus->failure, code, "%.200s: %.700s", address, error->message);
    janus->attempt_at = now;
    if (janus->attempt + 1 < janus->address_count) {
        janus->attempt++;
        return;
    }
    if (janus->options.retries != UINT_MAX && janus->round >= janus->options.retries) {
        janus_end(janus, code, NULL);
        return;
    }
    janus->round += janus->round < UINT_MAX;
    janus->attempt = 0;
    janus->attempt_at = janus->options.retry_pause > VOUCH_FOREVER - now
                            ? VOUCH_FOREVER
                            : now + janus->options.retry_pause;
}

static void attempt(struct vouch_janus *janus, int64_t now) {
    struct vouch_error error = {.code = 0};
    const struct janus_link_options options = {
        .address = &janus->addresses[janus->attempt],
        .pool = janus->pool,
        .allocator = janus->options.allocator,
        .server = janus->options.server,
        .max_message = janus->options.max_message,
        .datagram_directory = janus->options.datagram_directory,
    };
    int result = janus_link_ops_of(options.address)->open(&options, &janus->link, &error);
    janus->attempt_deadline = vouch_deadline_in(janus->options.connect_timeout);
    if (janus->connect_deadline < janus->attempt_deadline)
        janus->attempt_deadline = janus->connect_deadline;
    if (result < 0) {
        janus->link = NULL;
        error.code = result;
        attempt_failed(janus, now, &error);
    }
}

/* The clock is looked at before each attempt: one before it may have waited for a name. */
static bool is_too_late(const struct vouch_janus *janus) {
    return janus->connect_deadline != VOUCH_FOREVER && vouch_now() >= janus->connect_deadline;
}

static void give_up(struct vouch_janus *janus) {
    const struct vouch_error last = janus->failure;
    janus_end(janus, -ETIMEDOUT, "no connection before connect_total_timeout%s%.800s",
              last.code < 0 ? "; the last attempt: " : "", last.code < 0 ? last.message : "");
}

void janus_connect_step(struct vouch_janus *janus, int64_t now) {
    struct vouch_error error = {.code = 0};
    while (janus->phase == JANUS_CONNECTING) {
        if (!janus->link && is_too_late(janus)) {
            give_up(janus);
            return;
        }
        if (now < janus->attempt_at)
            return;
        if (!janus->link)
            attempt(janus, now);
        if (!janus->link)
            continue;
        int result = janus->link->ops->process(janus->link, &error);
        if (result == 1) {
            opened(janus);
        } else if (result == 0 && now < janus->attempt_deadline) {
            return;
        } else {
            if (result == 0)
                result = janus_fail(&error, -ETIMEDOUT, "no connection before the timeout");
            error.code = result;
            attempt_failed(janus, now, &error);
        }
    }
}

/* ---- the end ---- */

static int plain_cause(int result) {
    switch (result) {
    case -EPIPE:
    case -ENOTCONN:
    case -ECONNREFUSED:
    case -ENOENT: /* a datagram to a name that is gone */
        return -ECONNRESET;
    default:
        return result;
    }
}

/* The link is closed here, or by the thread that is in poll(2) with its descriptor. */
void janus_end(struct vouch_janus *janus, int result, const char *format, ...) {
    bool was_open = janus->phase == JANUS_OPEN;
    if (janus->phase == JANUS_ENDED)
        return;
    janus->phase = JANUS_ENDED;
    if (was_open)
        result = plain_cause(result);
    if (format) { /* else the failure is set */
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(janus->failure.message, sizeof(janus->failure.message), format, arguments);
        va_end(arguments);
    }
    janus->failure.code = result;
    janus->link_done = true;
    janus_drop_output(janus);
    janus_complete_all(janus, NULL, NULL, result, janus->failure.message);
    if (!was_open)
        janus->opened_result = result;
    if (!was_open && janus->on_open)
        janus_due_push(janus, &janus->opened, JANUS_DUE_OPEN);
    if (was_open && janus->options.on_end)
        janus_due_push(janus, &janus->ended, JANUS_DUE_END);
    for (struct janus_sleeper *s = janus->sleepers; s; s = s->next)
        janus_wake_sleeper(s);
    janus_wake_driver(janus);
    janus_wake_loop(janus);
}

void vouch_janus_close(struct vouch_janus *janus) {
    if (!janus || janus_check(janus) < 0)
        return;
    pthread_mutex_lock(&janus->lock);
    janus_end(janus, -ESHUTDOWN, "the connection was closed by this side");
    if (!janus->polling)
        janus_drop_link(janus);
    pthread_mutex_unlock(&janus->lock);
}

void vouch_janus_free(struct vouch_janus *janus) {
    if (!janus)
        return;
    if (janus_check(janus) < 0) { /* the parent's threads may hold the lock: descriptors only */
        janus_loop_deinit(janus);
        janus_drop_link(janus);
        os_wake_deinit(&janus->wake);
        return;
    }
    vouch_janus_close(janus);
    pthread_mutex_lock(&janus->lock);
    janus_drop_link(janus);
    while (janus->due)
        (void)janus_deliver(janus);
    janus_unref(janus);
}

void vouch_janus_get_stats(struct vouch_janus *janus, struct vouch_janus_stats *ret_stats) {
    *ret_stats = (struct vouch_janus_stats){0};
    if (janus_check(janus) < 0)
        return;
    pthread_mutex_lock(&janus->lock);
    *ret_stats = janus->stats;
    ret_stats->in_flight = janus->in_flight;
    pthread_mutex_unlock(&janus->lock);
}
