/* SPDX-License-Identifier: MIT */
/*
 * Words counted in JSON, method /wordcount:
 *
 *     {"Stream":0,"End":true,"Text":"to be"}  ->  {"Stream":1,"Lines":0,"Words":2,"Bytes":5}
 *
 * JSON has characters, not bytes: pieces of a text that is not ASCII would have to end between two.
 */
#include <errno.h>
#include <string.h>
#include <vouch/json.h>

#include "demo/layers.h"

static int get(const cJSON *object, const char *name, uint64_t *ret_value) {
    return vouch_json_get_uint64(cJSON_GetObjectItemCaseSensitive(object, name), ret_value);
}

/* ---- server ---- */

static int wordcount(void *context, struct vouch_call *call, const cJSON *request,
                     cJSON **ret_reply) {
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(request, "Text");
    const cJSON *end = cJSON_GetObjectItemCaseSensitive(request, "End");
    struct piece piece = {.end = cJSON_IsTrue(end)};
    struct counts counts;
    (void)context;
    if (get(request, "Stream", &piece.stream) < 0 || !cJSON_IsBool(end) || !cJSON_IsString(text))
        return vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "expected 'Stream', 'End' and 'Text'");
    piece.text = text->valuestring;
    piece.size = strlen(text->valuestring);
    if (streams_feed(call, &piece, &counts) < 0)
        return 0;
    cJSON *reply = *ret_reply = cJSON_CreateObject();
    int r = vouch_json_add_uint64(reply, "Stream", counts.stream);
    if (r == 0)
        r = vouch_json_add_uint64(reply, "Lines", counts.lines);
    if (r == 0)
        r = vouch_json_add_uint64(reply, "Words", counts.words);
    if (r == 0)
        r = vouch_json_add_uint64(reply, "Bytes", counts.bytes);
    return r;
}

int json_add_method(struct vouch_server *server) {
    const struct vouch_json_method method = {.name = "/wordcount", .handler = wordcount};
    return vouch_json_add_method(server, &method);
}

/* ---- client ---- */

/* NULL without memory. */
static cJSON *request_of(const struct piece *piece) {
    cJSON *request = cJSON_CreateObject();
    if (vouch_json_add_uint64(request, "Stream", piece->stream) == 0 &&
        cJSON_AddBoolToObject(request, "End", piece->end) &&
        cJSON_AddStringToObject(request, "Text", piece->text))
        return request;
    cJSON_Delete(request);
    return NULL;
}

int json_send(struct vouch_client *client, const struct piece *piece, struct counts *ret_counts,
              struct vouch_error *ret_error) {
    cJSON *reply, *request = request_of(piece);
    /* Without a request: -EINVAL, which says so. */
    int r = vouch_json_call(client, "/wordcount", request, NULL, &reply, ret_error);
    cJSON_Delete(request);
    if (r == 0 && (get(reply, "Stream", &ret_counts->stream) < 0 ||
                   get(reply, "Lines", &ret_counts->lines) < 0 ||
                   get(reply, "Words", &ret_counts->words) < 0 ||
                   get(reply, "Bytes", &ret_counts->bytes) < 0))
        r = -EPROTO;
    cJSON_Delete(reply);
    return r;
}
