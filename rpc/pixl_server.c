/* SPDX-License-Identifier: MIT */
/*
 * The dialect as a server speaks it: lines to calls and back, with routes and statistics of its
 * own. Serving is the server's; what runs here on its threads, with its locks held, reads and
 * counts and nothing else.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/options.h"
#include "lib/utf8.h"
#include "rpc/pixl.h"

#define SLOW_DEFAULT VOUCH_MILLISECONDS(20)
#define INTERVAL_DEFAULT VOUCH_SECONDS(1)
#define EXIT_TIMEOUT_DEFAULT VOUCH_SECONDS(2)

#define ECHO "/ipcserver/test/echo"
#define DELAY "/ipcserver/test/delay"

struct vouch_pixl_server {
    struct vouch_dialect dialect;
    struct vouch_buffer *memory; /* of this struct */
    struct vouch_server *server;
    struct pixl_routes routes;
    struct pixl_stats stats;
    int64_t exit_timeout;
    bool in_use; /* no more routes */
    char default_method[VOUCH_METHOD_NAME_MAX + 1];
};

/* ---- the dialect ---- */

static bool begins(void *context, uint8_t first) {
    (void)context;
    return first == '{';
}

static bool is_blank(const uint8_t *bytes, size_t size) {
    while (size > 0 && (*bytes == ' ' || *bytes == '\t' || *bytes == '\r'))
        bytes++, size--;
    return size == 0;
}

static void lead(const struct vouch_pixl_server *pixl, struct vouch_message *message) {
    struct vouch_pixl_match match;
    int r = pixl_routes_find(&pixl->routes, message->target, message->target_size, &match);
    if (r < 0) {
        message->result = VOUCH_REMOTE_SERVER;
        message->text = r == -E2BIG ? "the patterns take too long for this uri" : "no memory";
        message->text_size = strlen(message->text);
        return;
    }
    message->method = match.method;
    message->method_size = match.method ? strlen(match.method) : 0;
    if (!match.method && *pixl->default_method) {
        message->fallback = pixl->default_method;
        message->fallback_size = strlen(pixl->default_method);
    }
}

static int read_line(void *context, uint8_t *bytes, size_t size, uint64_t oversize,
                     struct vouch_message *ret_message) {
    struct vouch_pixl_server *pixl = context;
    if (!pixl_line_call(bytes, size, oversize, ret_message)) {
        *ret_message = (struct vouch_message){.kind = VOUCH_MESSAGE_NONE};
        if (!is_blank(bytes, size))
            pixl_stats_skipped(&pixl->stats);
        return 0;
    }
    pixl_stats_request(&pixl->stats);
    if (ret_message->result == 0 && oversize == 0)
        lead(pixl, ret_message);
    return 0;
}

static void wrap(void *context, const struct vouch_message *message,
                 struct vouch_wrapping *wrapping) {
    (void)context;
    pixl_wrap_reply(message, wrapping);
}

static void observe(void *context, enum vouch_dialect_event event, int64_t value) {
    struct vouch_pixl_server *pixl = context;
    pixl_stats_event(&pixl->stats, event, value);
}

/* ---- the built-in methods ---- */

static int echo(void *context, struct vouch_call *call, const char *text, size_t size) {
    (void)context;
    return vouch_call_reply(call, text, size);
}

static int delay(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    const cJSON *delay = cJSON_GetObjectItemCaseSensitive(request, "delay");
    double ms = 0;
    size_t size;
    (void)context;
    (void)ret_reply;
    if (cJSON_IsNumber(delay))
        ms = delay->valuedouble;
    else if (delay && !cJSON_IsNull(delay))
        ms = -1;
    if (!(ms >= 0 && ms <= VOUCH_PIXL_DELAY_MAX))
        return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA,
                               "delay is not a number of milliseconds up to %d",
                               VOUCH_PIXL_DELAY_MAX);
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)vouch_call_reply_at(call, vouch_deadline_in((int64_t)(ms * 1e6)), data, size);
    return 0;
}

static int add_builtin(struct vouch_pixl_server *pixl, const struct vouch_json_method *method) {
    int r = vouch_json_add_method(pixl->server, method);
    /* Another dialect of this server has it, or the program has one of its own in its place. */
    if (r < 0 && r != VOUCH_E_METHOD_EXISTS)
        return r;
    return pixl_routes_add(&pixl->routes, VOUCH_PIXL_PREFIX, method->name, 0, method->name, NULL);
}

static int add_builtins(struct vouch_pixl_server *pixl) {
    const struct vouch_json_rules any = {VOUCH_OPTIONS(any), .max_depth = VOUCH_JSON_DEPTH_BOUND,
                                         .max_values = SIZE_MAX};
    const struct vouch_json_method echoes = {VOUCH_OPTIONS(echoes), .name = ECHO,
                                             .text_handler = echo, .rules = &any};
    const struct vouch_json_method delays = {VOUCH_OPTIONS(delays), .name = DELAY,
                                             .handler = delay};
    int r = add_builtin(pixl, &echoes);
    return r < 0 ? r : add_builtin(pixl, &delays);
}

/* ---- life ---- */

static bool options_valid(const struct vouch_pixl_server_options *o) {
    return o->slow >= 0 && o->stats_interval >= 0 && o->exit_timeout >= 0 &&
           (!o->default_method || pixl_is_method_name(o->default_method));
}

int vouch_pixl_server_new(struct vouch_server *server,
                          const struct vouch_pixl_server_options *options,
                          struct vouch_pixl_server **ret_pixl) {
    struct vouch_pixl_server_options o = {0};
    struct vouch_buffer *memory;
    OPTIONS_READ(o, options);
    if (!server || !options_valid(&o))
        return -EINVAL;
    struct vouch_pool *pool = vouch_server_get_pool(server);
    int r = vouch_pool_get(pool, 0, sizeof(struct vouch_pixl_server), &memory);
    if (r < 0)
        return r;
    struct vouch_pixl_server *pixl = (void *)memory->data;
    *pixl = (struct vouch_pixl_server){
        .memory = memory,
        .server = server,
        .exit_timeout = options_time(o.exit_timeout, EXIT_TIMEOUT_DEFAULT),
        .dialect = {.size = sizeof(struct vouch_dialect),
                    .name = "pixl",
                    .context = pixl,
                    .method_flags = VOUCH_METHOD_JSON,
                    .begins = begins,
                    .read = read_line,
                    .prepare = pixl_prepare,
                    .wrap = wrap,
                    .observe = observe},
    };
    if (o.default_method)
        snprintf(pixl->default_method, sizeof(pixl->default_method), "%s", o.default_method);
    r = pixl_routes_init(&pixl->routes, pool);
    if (r < 0) {
        vouch_buffer_unref(memory);
        return r;
    }
    pixl_stats_init(&pixl->stats, vouch_now(), options_time(o.stats_interval, INTERVAL_DEFAULT),
                    options_time(o.slow, SLOW_DEFAULT));
    r = o.no_tests ? 0 : add_builtins(pixl);
    if (r < 0) {
        vouch_pixl_server_free(pixl);
        return r;
    }
    *ret_pixl = pixl;
    return 0;
}

void vouch_pixl_server_free(struct vouch_pixl_server *pixl) {
    if (!pixl)
        return;
    pixl_routes_deinit(&pixl->routes);
    pixl_stats_deinit(&pixl->stats);
    vouch_buffer_unref(pixl->memory);
}

int vouch_pixl_server_add_route(struct vouch_pixl_server *pixl, enum vouch_pixl_route_kind kind,
                                const char *text, unsigned flags, const char *method,
                                struct vouch_error *ret_error) {
    if (!pixl->in_use)
        return pixl_routes_add(&pixl->routes, kind, text, flags, method, ret_error);
    if (ret_error) {
        ret_error->code = -EBUSY;
        snprintf(ret_error->message, sizeof(ret_error->message),
                 "%.255s: the dialect is in use, there can be no more routes", text ? text : "");
    }
    return -EBUSY;
}

const struct vouch_dialect *vouch_pixl_server_get_dialect(struct vouch_pixl_server *pixl) {
    pixl->in_use = true;
    return &pixl->dialect;
}

int vouch_pixl_server_listen(struct vouch_pixl_server *pixl, const char *address,
                             const struct vouch_listen_options *options,
                             struct vouch_error *ret_error) {
    const struct vouch_dialect *dialect = vouch_pixl_server_get_dialect(pixl);
    const struct vouch_serve_options serve = {VOUCH_OPTIONS(serve), .dialects = &dialect,
                                              .dialect_count = 1, .only_dialects = true};
    struct vouch_listener *listener;
    int r = vouch_listen(address, options, &listener, ret_error);
    if (r < 0)
        return r;
    r = vouch_server_add_listener_with(pixl->server, listener, &serve);
    if (r < 0) {
        vouch_listener_free(listener);
        if (ret_error) {
            ret_error->code = r;
            snprintf(ret_error->message, sizeof(ret_error->message), "%.512s: %s", address,
                     r == -ENOTSUP ? "lines need a stream, not packets" : vouch_strerror(r));
        }
    }
    return r;
}

int vouch_pixl_server_stop(struct vouch_pixl_server *pixl) {
    return vouch_server_stop(pixl->server, pixl->exit_timeout);
}

/* ---- for handlers ---- */

int vouch_pixl_server_match(struct vouch_pixl_server *pixl, const char *uri, size_t size,
                            struct vouch_pixl_match *ret_match) {
    struct vouch_pixl_match match;
    if (!uri || size > VOUCH_PIXL_URI_MAX || !utf8_valid((const uint8_t *)uri, size))
        return -EINVAL;
    int r = pixl_routes_find(&pixl->routes, uri, size, &match);
    if (r < 0)
        return r;
    *ret_match = match;
    return r;
}

int vouch_pixl_server_notify(struct vouch_pixl_server *pixl, uint64_t connection,
                             const cJSON *message) {
    struct vouch_buffer *buffer;
    if (!cJSON_IsObject(message) || cJSON_GetObjectItemCaseSensitive(message, "ipcReqID"))
        return -EINVAL;
    ssize_t size = vouch_json_print(message, NULL, 0);
    if (size < 0)
        return (int)size;
    int r = vouch_pool_get(pixl->routes.pool, 0, (size_t)size, &buffer);
    if (r < 0)
        return r;
    size = vouch_json_print(message, (char *)buffer->data, (size_t)size);
    r = vouch_server_send_notice(pixl->server, connection, buffer->data, (size_t)size);
    vouch_buffer_unref(buffer);
    return r;
}

/* ---- statistics ---- */

static void count_handlers(const struct vouch_pixl_server *pixl,
                           struct vouch_pixl_stats *ret_stats) {
    ret_stats->handlers = pixl->routes.count + (*pixl->default_method != '\0');
}

void vouch_pixl_server_get_stats(struct vouch_pixl_server *pixl,
                                 struct vouch_pixl_stats *ret_stats) {
    pixl_stats_get(&pixl->stats, vouch_now(), ret_stats);
    count_handlers(pixl, ret_stats);
}

void vouch_pixl_server_take_stats(struct vouch_pixl_server *pixl, int64_t now,
                                  struct vouch_pixl_stats *ret_stats) {
    (void)pixl_stats_take(&pixl->stats, now, true, ret_stats);
    count_handlers(pixl, ret_stats);
}

int vouch_pixl_server_turn_stats(struct vouch_pixl_server *pixl, int64_t now,
                                 struct vouch_pixl_stats *ret_stats) {
    if (!pixl_stats_take(&pixl->stats, now, false, ret_stats))
        return 0;
    count_handlers(pixl, ret_stats);
    return 1;
}
