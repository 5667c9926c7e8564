/* SPDX-License-Identifier: MIT */
#include "tests/pixl_support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/json_support.h"

/* ---- methods ---- */

static int echo(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    (void)context;
    (void)call;
    *ret_reply = cJSON_Duplicate(request, true);
    return 0;
}

static cJSON *text_item(const char *text, size_t size) {
    char copy[VOUCH_PIXL_URI_MAX + 1];
    if (!text)
        return cJSON_CreateNull();
    snprintf(copy, sizeof(copy), "%.*s", (int)size, text);
    return cJSON_CreateString(copy);
}

static int where(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    struct pixl_stage *stage = context;
    struct vouch_pixl_match match;
    size_t size;
    const char *uri = vouch_call_get_target(call, &size);
    (void)request;
    cr_assert_geq(vouch_pixl_server_match(stage->pixl, uri, size, &match), 0);
    *ret_reply = cJSON_CreateObject();
    cJSON_AddItemToObject(*ret_reply, "uri", text_item(uri, size));
    cJSON_AddStringToObject(*ret_reply, "method", vouch_call_get_method(call));
    cJSON *groups = cJSON_AddArrayToObject(*ret_reply, "groups");
    for (size_t i = 0; i < match.group_count; i++)
        cJSON_AddItemToArray(groups, text_item(match.groups[i].text, match.groups[i].size));
    return 0;
}

static int keep(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    struct rpc_stage *stage = &((struct pixl_stage *)context)->rpc;
    unsigned index = atomic_fetch_add(&stage->kept_count, 1);
    (void)request;
    (void)ret_reply;
    cr_assert_lt(index, RPC_KEPT_MAX);
    vouch_call_keep(call);
    stage->kept[index] = call;
    rpc_latch_raise(&stage->entered);
    return 0;
}

static int fail(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(request, "text");
    int result = cJSON_GetObjectItemCaseSensitive(request, "result")->valueint;
    (void)context;
    (void)ret_reply;
    if (!text)
        return result;
    return vouch_call_fail(call, (enum vouch_remote_error)result, "%s", text->valuestring);
}

static int say(void *context, struct vouch_call *call, const cJSON *request, cJSON **ret_reply) {
    (void)context;
    (void)ret_reply;
    cr_assert(cJSON_IsString(request));
    (void)vouch_call_reply(call, request->valuestring, strlen(request->valuestring));
    return 0;
}

/* ---- stages ---- */

static void add_method(struct pixl_stage *stage, const char *name, vouch_json_handler handler) {
    const struct vouch_json_method method = {VOUCH_OPTIONS(method), .name = name,
                                             .handler = handler, .context = stage};
    cr_assert_eq(vouch_json_add_method(stage->rpc.server, &method), 0);
}

static void add_route(struct pixl_stage *stage, enum vouch_pixl_route_kind kind, const char *text,
                      const char *method) {
    cr_assert_eq(vouch_pixl_server_add_route(stage->pixl, kind, text, 0, method, NULL), 0);
}

void pixl_stage_init(struct pixl_stage *stage, const struct vouch_server_options *options,
                     const struct vouch_pixl_server_options *pixl_options) {
    rpc_stage_init(&stage->rpc, options);
    add_method(stage, "/json/echo", echo);
    add_method(stage, "/json/where", where);
    add_method(stage, "/json/keep", keep);
    add_method(stage, "/json/fail", fail);
    add_method(stage, "/json/say", say);
    cr_assert_eq(vouch_pixl_server_new(stage->rpc.server, pixl_options, &stage->pixl), 0);
    add_route(stage, VOUCH_PIXL_LITERAL, "/over/there", "/json/echo");
    add_route(stage, VOUCH_PIXL_PREFIX, "/under/", "/json/where");
    add_route(stage, VOUCH_PIXL_PATTERN, "^/user/(\\w+)(/x)?$", "/json/where");
    add_route(stage, VOUCH_PIXL_PATTERN, "^/slow(a+)+$", "/json/where");
    add_route(stage, VOUCH_PIXL_LITERAL, "/binary", "echo");
}

void pixl_stage_open(struct pixl_stage *stage, const struct vouch_server_options *options,
                     const struct vouch_pixl_server_options *pixl_options) {
    pixl_stage_init(stage, options, pixl_options);
    cr_assert_eq(vouch_server_start(stage->rpc.server), 0);
}

void pixl_stage_close(struct pixl_stage *stage) {
    rpc_stage_close(&stage->rpc);
    vouch_pixl_server_free(stage->pixl);
    stage->pixl = NULL;
}

void pixl_stage_listen(struct pixl_stage *stage) {
    struct vouch_error error;
    support_temp_path(stage->rpc.path, "s");
    int r = vouch_pixl_server_listen(stage->pixl, stage->rpc.path, NULL, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
}

struct vouch_pixl_stats pixl_stage_stats(struct pixl_stage *stage) {
    struct vouch_pixl_stats stats;
    vouch_pixl_server_get_stats(stage->pixl, &stats);
    return stats;
}

static void serve(struct pixl_stage *stage, struct vouch_conn *conn, bool native) {
    const struct vouch_dialect *dialect = vouch_pixl_server_get_dialect(stage->pixl);
    const struct vouch_serve_options options = {VOUCH_OPTIONS(options), .dialects = &dialect,
                                                .dialect_count = 1, .only_dialects = !native};
    cr_assert_eq(vouch_server_add_conn_with(stage->rpc.server, conn, &options), 0);
}

struct vouch_pixl_client *pixl_stage_client(struct pixl_stage *stage,
                                            const struct vouch_pixl_client_options *options) {
    struct vouch_conn *conns[2];
    struct vouch_pixl_client *client;
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    serve(stage, conns[0], false);
    cr_assert_eq(vouch_pixl_client_new(conns[1], options, &client), 0);
    return client;
}

/* ---- by hand ---- */

static struct vouch_conn *open_pair(struct pixl_raw *raw) {
    struct timeval patience = {.tv_sec = (time_t)(RPC_PATIENCE / VOUCH_SECONDS(1))};
    struct vouch_conn *conn;
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &conn), 0);
    cr_assert_eq(setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    *raw = (struct pixl_raw){.fd = fds[1]};
    return conn;
}

void pixl_raw_open(struct pixl_raw *raw, struct pixl_stage *stage, bool native) {
    serve(stage, open_pair(raw), native);
}

struct vouch_pixl_client *pixl_raw_client(struct pixl_raw *raw,
                                          const struct vouch_pixl_client_options *options) {
    struct vouch_pixl_client *client;
    cr_assert_eq(vouch_pixl_client_new(open_pair(raw), options, &client), 0);
    return client;
}

void pixl_raw_close(struct pixl_raw *raw) {
    close(raw->fd);
    free(raw->bytes);
    *raw = (struct pixl_raw){.fd = -1};
}

void pixl_raw_write(struct pixl_raw *raw, const char *text) {
    cr_assert(rpc_raw_write(raw->fd, text, strlen(text)));
}

void pixl_raw_send(struct pixl_raw *raw, const char *line) {
    pixl_raw_write(raw, line);
    pixl_raw_write(raw, "\n");
}

static bool receive_more(struct pixl_raw *raw) {
    if (raw->room - raw->size < 65536) {
        raw->room = 2 * raw->room + 65536;
        raw->bytes = realloc(raw->bytes, raw->room);
        cr_assert_not_null(raw->bytes);
    }
    ssize_t got = recv(raw->fd, raw->bytes + raw->size, raw->room - raw->size, 0);
    cr_assert(got >= 0 || errno == ECONNRESET, "nothing comes: %s", strerror(errno));
    raw->size += got > 0 ? (size_t)got : 0;
    return got > 0;
}

char *pixl_raw_line(struct pixl_raw *raw) {
    char *end = NULL;
    size_t looked = 0;
    while (!(end = raw->size > looked ? memchr(raw->bytes + looked, '\n', raw->size - looked)
                                      : NULL)) {
        looked = raw->size;
        if (!receive_more(raw)) {
            cr_assert_eq(raw->size, 0, "half a line");
            return NULL;
        }
    }
    size_t size = (size_t)(end - raw->bytes);
    char *line = strndup(raw->bytes, size);
    cr_assert_not_null(line);
    raw->size -= size + 1;
    memmove(raw->bytes, end + 1, raw->size);
    return line;
}

void pixl_raw_expect(struct pixl_raw *raw, const char *line) {
    char *came = pixl_raw_line(raw);
    cr_assert_not_null(came, "the end instead of %s", line);
    cr_assert_str_eq(came, line);
    free(came);
}

void pixl_raw_expect_end(struct pixl_raw *raw) {
    char *came = pixl_raw_line(raw);
    cr_assert_null(came, "%s", came);
}

void pixl_raw_sync(struct pixl_raw *raw) {
    pixl_raw_send(raw, "{\"ipcReqID\":\"sync\",\"uri\":\"/json/echo\",\"data\":0}");
    pixl_raw_expect(raw, "{\"ipcReqID\":\"sync\",\"data\":0}");
}

/* ---- calls ---- */

const struct vouch_pixl_error *pixl_check_call(struct vouch_pixl_client *client, const char *uri,
                                               const char *data, int result, const char *expected) {
    static struct vouch_pixl_error error;
    cJSON *request = data ? json_tree(data) : NULL, *reply = request;
    error = (struct vouch_pixl_error){.result = 0};
    cr_assert_eq(vouch_pixl_call(client, uri, request, NULL, &reply, &error), result, "%s: %s", uri,
                 error.message);
    cr_assert_eq(error.result, result);
    if (result == 0 && expected)
        json_check_print(reply, expected);
    if (result != 0)
        cr_assert_null(reply);
    cJSON_Delete(request);
    cJSON_Delete(reply);
    return &error;
}
