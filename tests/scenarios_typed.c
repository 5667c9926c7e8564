/* SPDX-License-Identifier: MIT */
/* The scenarios of bodies: the same calls in each kind, and a JSON stream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/json.h>

#include "tests/codecs.h"
#include "tests/scenarios.h"

#define BODY 3000 /* more than is tried first */
#define VALUE 200 /* a socket holds it byte by byte: nobody reads while it is written */

static int echo(void *context, const struct codec *codec, struct vouch_call *call, const char *text,
                size_t size) {
    (void)context;
    (void)codec->reply(call, text, size);
    return 0;
}

/* A server that could not answer for want of memory says so. */
static int local(int result) {
    return result == VOUCH_REMOTE_SERVER ? -ENOMEM : result;
}

static int came_back(const struct codec_outcome *outcome, const char *text) {
    if (outcome->result != 0)
        return local(outcome->result);
    return outcome->size == BODY && memcmp(outcome->text, text, BODY) == 0 ? 0 : SCENARIO_WRONG;
}

static int talk(const struct codec *codec, struct vouch_client *client) {
    char text[BODY];
    struct codec_outcome outcome;
    memset(text, 'b', BODY);
    codec->call(client, "/echo", text, BODY, NULL, &outcome);
    int r = came_back(&outcome, text);
    free(outcome.text);
    if (r < 0)
        return r;
    r = codec->call_async(client, "/echo", text, BODY, NULL, &outcome);
    if (r < 0)
        return r;
    while (outcome.ends == 0 && vouch_client_wait(client, VOUCH_FOREVER) > 0)
        continue;
    vouch_client_close(client);
    if (outcome.ends == 0)
        (void)vouch_client_process(client);
    r = outcome.ends == 1 ? came_back(&outcome, text) : SCENARIO_WRONG;
    free(outcome.text);
    return r;
}

static int connect_both(struct vouch_server *server, const struct vouch_allocator *allocator,
                        struct vouch_client **ret_client) {
    const struct vouch_conn_options of_conn = {VOUCH_OPTIONS(of_conn), .allocator = allocator};
    const struct vouch_client_options options = {VOUCH_OPTIONS(options), .allocator = allocator,
                                                 .polling = VOUCH_POLLING_OFF};
    struct vouch_conn *conns[2];
    int r = vouch_conn_pair(&of_conn, conns);
    if (r < 0)
        return r;
    r = vouch_server_add_conn(server, conns[0]);
    if (r < 0)
        vouch_conn_free(conns[0]);
    else
        r = vouch_client_new(conns[1], &options, ret_client);
    if (r < 0)
        vouch_conn_free(conns[1]);
    return r;
}

static int calls_in(const struct codec *codec, const struct scenario_place *place) {
    const struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                                 .polling = VOUCH_POLLING_OFF,
                                                 .allocator = place->allocator, .workers = 2};
    const struct codec_method method = {codec, echo, NULL};
    struct vouch_server *server;
    struct vouch_client *client = NULL;
    int r = vouch_server_new(&options, &server);
    if (r < 0)
        return r;
    r = codec->add(server, "/echo", &method);
    if (r == 0)
        r = vouch_server_start(server);
    if (r == 0)
        r = connect_both(server, place->allocator, &client);
    if (r == 0)
        r = talk(codec, client);
    vouch_client_free(client);
    vouch_server_free(server);
    return r;
}

static int json_calls(const struct scenario_place *place) {
    return calls_in(&codecs[1], place);
}

static int proto_calls(const struct scenario_place *place) {
    return calls_in(&codecs[2], place);
}

/* ---- a stream ---- */

static int send_and_take(struct vouch_json_stream *from, struct vouch_json_stream *to, bool queue) {
    char text[VALUE + 1];
    cJSON *got = NULL;
    memset(text, 'j', VALUE);
    text[VALUE] = '\0';
    cJSON *value = cJSON_CreateString(text);
    int r = queue ? vouch_json_stream_queue(from, value) : vouch_json_stream_write(from, value);
    while (queue && r == 0 && (r = vouch_json_stream_flush(from)) == -EAGAIN)
        r = 0;
    if (r == 0)
        r = vouch_json_stream_read(to, &got, NULL);
    if (r == 1)
        r = cJSON_Compare(got, value, true) ? 0 : SCENARIO_WRONG;
    else if (r == 0)
        r = -ECONNRESET;
    cJSON_Delete(value);
    cJSON_Delete(got);
    return r;
}

static int json_stream(const struct scenario_place *place) {
    const struct vouch_conn_options of_conn = {VOUCH_OPTIONS(of_conn),
                                               .allocator = place->allocator};
    const struct vouch_json_stream_options options = {VOUCH_OPTIONS(options),
                                                      .allocator = place->allocator};
    struct vouch_json_stream *streams[2] = {NULL, NULL};
    struct vouch_conn *conns[2];
    int r = vouch_conn_pair(&of_conn, conns);
    if (r < 0)
        return r;
    for (int i = 0; i < 2; i++) {
        if (r == 0)
            r = vouch_json_stream_new(conns[i], &options, &streams[i]);
        if (!streams[i])
            vouch_conn_free(conns[i]);
    }
    if (r == 0)
        r = send_and_take(streams[0], streams[1], false);
    if (r == 0)
        r = send_and_take(streams[1], streams[0], true);
    vouch_json_stream_free(streams[0]);
    vouch_json_stream_free(streams[1]);
    return r;
}

const struct scenario scenarios_typed[] = {
    {.name = "json_calls", .run = json_calls},
    {.name = "proto_calls", .run = proto_calls},
    {.name = "json_stream", .run = json_stream},
    {0},
};
