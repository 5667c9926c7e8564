/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of a pixl server and its client fails, one after the other: calls work or say
 * why not, nothing is left behind, and the next time all is well.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/pixl.h>

#include "tests/harness.h"
#include "tests/scenarios.h"
#include "tests/support.h"

#define BODY 3000 /* more than is tried first */

static int echo(void *context, struct vouch_call *call, const char *text, size_t size) {
    (void)context;
    (void)vouch_call_reply(call, text, size);
    return 0;
}

static int set_up(struct vouch_server *server, struct vouch_pixl_server **ret_pixl) {
    const struct vouch_json_method method = {VOUCH_OPTIONS(method), .name = "echo",
                                             .text_handler = echo};
    int r = vouch_json_add_method(server, &method);
    if (r == 0)
        r = vouch_pixl_server_new(server, NULL, ret_pixl);
    if (r == 0)
        r = vouch_pixl_server_add_route(*ret_pixl, VOUCH_PIXL_PATTERN, "^/(\\w+)/x$", 0, "echo",
                                        NULL);
    return r == 0 ? vouch_server_start(server) : r;
}

static int connect_both(struct vouch_server *server, struct vouch_pixl_server *pixl,
                        const struct vouch_allocator *allocator,
                        struct vouch_pixl_client **ret_client) {
    const struct vouch_conn_options of_conn = {VOUCH_OPTIONS(of_conn), .allocator = allocator};
    const struct vouch_client_options general = {VOUCH_OPTIONS(general), .allocator = allocator,
                                                 .polling = VOUCH_POLLING_OFF};
    const struct vouch_pixl_client_options options = {VOUCH_OPTIONS(options), .client = &general};
    const struct vouch_dialect *dialect = vouch_pixl_server_get_dialect(pixl);
    const struct vouch_serve_options serve = {VOUCH_OPTIONS(serve), .dialects = &dialect,
                                              .dialect_count = 1, .only_dialects = true};
    struct vouch_conn *conns[2];
    int r = vouch_conn_pair(&of_conn, conns);
    if (r < 0)
        return r;
    r = vouch_server_add_conn_with(server, conns[0], &serve);
    if (r < 0)
        vouch_conn_free(conns[0]);
    else
        r = vouch_pixl_client_new(conns[1], &options, ret_client);
    if (r < 0)
        vouch_conn_free(conns[1]);
    return r;
}

/* A server that could not answer for want of memory says so. */
static int local(int result) {
    return result == VOUCH_REMOTE_SERVER ? -ENOMEM : result;
}

struct outcome {
    unsigned ends;
    int result;
};

static void on_end(void *context, int result, const cJSON *data,
                   const struct vouch_pixl_error *error) {
    struct outcome *outcome = context;
    (void)error;
    outcome->ends++;
    outcome->result = result == 0 && (!data || cJSON_IsNull(data)) ? SCENARIO_WRONG : local(result);
}

static int await(struct vouch_client *beneath, const struct outcome *outcome) {
    while (outcome->ends == 0 && vouch_client_wait(beneath, VOUCH_FOREVER) > 0)
        continue;
    if (outcome->ends == 0) {
        vouch_client_close(beneath);
        (void)vouch_client_process(beneath);
    }
    return outcome->ends == 1 ? outcome->result : SCENARIO_WRONG;
}

/* An answer that waits for its time in the server. */
static int talk_later(struct vouch_pixl_client *client) {
    struct outcome outcome = {0};
    cJSON *data = cJSON_Parse("{\"delay\":1}");
    int r =
        vouch_pixl_call_async(client, "/ipcserver/test/delay", data, NULL, on_end, &outcome, NULL);
    cJSON_Delete(data);
    return r < 0 ? r : await(vouch_pixl_client_get_client(client), &outcome);
}

static int talk(struct vouch_pixl_client *client) {
    struct outcome outcome = {0};
    char text[BODY + 1];
    memset(text, 'p', BODY);
    text[BODY] = '\0';
    cJSON *data = cJSON_CreateString(text), *reply = NULL;
    int r = local(vouch_pixl_call(client, "/some/x", data, NULL, &reply, NULL));
    if (r == 0 && !cJSON_Compare(reply, data, true))
        r = SCENARIO_WRONG;
    cJSON_Delete(reply);
    if (r == 0)
        r = vouch_pixl_call_async(client, "/ipcserver/test/echo", data, NULL, on_end, &outcome,
                                  NULL);
    cJSON_Delete(data);
    if (r == 0)
        r = await(vouch_pixl_client_get_client(client), &outcome);
    return r;
}

static int pixl_calls(const struct scenario_place *place) {
    const struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                                 .polling = VOUCH_POLLING_OFF,
                                                 .allocator = place->allocator, .workers = 2};
    struct vouch_server *server;
    struct vouch_pixl_server *pixl = NULL;
    struct vouch_pixl_client *client = NULL;
    int r = vouch_server_new(&options, &server);
    if (r < 0)
        return r;
    r = set_up(server, &pixl);
    if (r == 0)
        r = connect_both(server, pixl, place->allocator, &client);
    if (r == 0)
        r = talk(client);
    if (r == 0)
        r = talk_later(client);
    vouch_pixl_client_free(client);
    vouch_server_free(server);
    vouch_pixl_server_free(pixl);
    return r;
}

static void fail_each(struct support_allocator *allocator, uint64_t count) {
    static const struct scenario scenario = {.name = "pixl_calls", .run = pixl_calls};
    uint64_t n = 0;
    int r;
    do {
        support_allocator_fail(allocator, ++n, count);
        struct scenario_report report = scenario_run(&scenario, NULL, &allocator->allocator);
        cr_assert_null(report.leak, "allocation %llu: %s", (unsigned long long)n,
                       report.leak ? report.leak : "");
        support_allocator_check(allocator);
        r = report.result;
        cr_assert(r == 0 || r == -ENOMEM || r == -ECONNRESET, "allocation %llu: result %d",
                  (unsigned long long)n, r);
    } while (atomic_load(&allocator->injected) > 0);
    cr_assert_eq(r, 0, "the run without a failure: %d", r);
}

Test(pixl_oom, each_allocation_fails, .timeout = 300) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    fail_each(&allocator, SUPPORT_FAIL_ONCE);
    fail_each(&allocator, SUPPORT_FAIL_THREE);
    fail_each(&allocator, SUPPORT_FAIL_ALWAYS);
    support_temp_remove();
}
