/* SPDX-License-Identifier: MIT */
/*
 * What came: a tree, and its known members found once, of the types that they have to be. A member
 * of another type is as one that is not there, but for "janus", without which it is no message.
 */
#include "rpc/janus_message.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include <vouch/json.h>

#include "rpc/janus_link.h"

static const struct {
    const char *name;
    enum vouch_janus_kind kind;
} kinds[] = {
    {"success", VOUCH_JANUS_SUCCESS},
    {"error", VOUCH_JANUS_ERROR},
    {"ack", VOUCH_JANUS_ACK},
    {"pong", VOUCH_JANUS_PONG},
    {"server_info", VOUCH_JANUS_SERVER_INFO},
    {"event", VOUCH_JANUS_EVENT},
    {"webrtcup", VOUCH_JANUS_WEBRTCUP},
    {"media", VOUCH_JANUS_MEDIA},
    {"slowlink", VOUCH_JANUS_SLOWLINK},
    {"hangup", VOUCH_JANUS_HANGUP},
    {"detached", VOUCH_JANUS_DETACHED},
    {"timeout", VOUCH_JANUS_TIMEOUT},
    {"trickle", VOUCH_JANUS_TRICKLE},
    {"ice-failed", VOUCH_JANUS_ICE_FAILED},
};

static enum vouch_janus_kind kind_of(const char *name) {
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return kinds[i].kind;
    return VOUCH_JANUS_OTHER;
}

/* ---- members ---- */

static const cJSON *member(const cJSON *object, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *text_of(const cJSON *object, const char *name) {
    const cJSON *item = member(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static const cJSON *object_of(const cJSON *object, const char *name) {
    const cJSON *item = member(object, name);
    return cJSON_IsObject(item) ? item : NULL;
}

static bool flag_of(const cJSON *object, const char *name) {
    return cJSON_IsTrue(member(object, name));
}

static uint64_t id_of(const cJSON *object, const char *name) {
    uint64_t id;
    return vouch_json_get_uint64(member(object, name), &id) == 0 && id <= VOUCH_JANUS_ID_MAX ? id
                                                                                             : 0;
}

static int64_t number_of(const cJSON *object, const char *name) {
    int64_t number;
    return vouch_json_get_int64(member(object, name), &number) == 0 ? number : 0;
}

/* An error's code: what is no code of theirs is the one for "unknown". */
static int code_of(const cJSON *object, const char *name) {
    int64_t code = number_of(object, name);
    return code > 0 && code <= INT_MAX ? (int)code : VOUCH_JANUS_ERROR_UNKNOWN;
}

static void read_plugin_data(struct vouch_janus_message *m) {
    const cJSON *plugin = object_of(m->tree, "plugindata");
    m->plugin = text_of(plugin, "plugin");
    m->data = plugin ? member(plugin, "data") : member(m->tree, "data");
    if (!plugin)
        m->id = id_of(m->data, "id");
    if (plugin && member(m->data, "error_code")) {
        m->plugin_error_code = code_of(m->data, "error_code");
        m->plugin_error = text_of(m->data, "error");
    }
}

static void read_members(struct vouch_janus_message *m) {
    const cJSON *tree = m->tree, *error = object_of(tree, "error");
    m->transaction = text_of(tree, "transaction");
    m->session_id = id_of(tree, "session_id");
    m->handle_id = id_of(tree, "sender");
    read_plugin_data(m);
    m->jsep = object_of(tree, "jsep");
    m->media = text_of(tree, m->kind == VOUCH_JANUS_MEDIA ? "type" : "media");
    m->mid = text_of(tree, "mid");
    m->receiving = flag_of(tree, "receiving");
    m->uplink = flag_of(tree, "uplink");
    m->lost = number_of(tree, "lost");
    m->reason = text_of(tree, "reason");
    m->candidate = object_of(tree, "candidate");
    if (m->kind == VOUCH_JANUS_ERROR) {
        m->error_code = code_of(error, "code");
        m->error_reason = text_of(error, "reason");
    }
}

/* ---- parse ---- */

/* Bytes of a tree's items. The depth is limited by the scan. */
static size_t tree_cost(const cJSON *item) {
    size_t cost = 0;
    for (; item; item = item->next)
        cost += sizeof(cJSON) + tree_cost(item->child);
    return cost;
}

int janus_message_parse(const char *text, size_t size, struct vouch_pool *pool,
                        struct janus_message **ret_message, struct vouch_error *ret_error) {
    const struct vouch_json_rules rules = {VOUCH_OPTIONS(rules), .max_depth = JANUS_DEPTH_MAX};
    struct vouch_buffer *self;
    cJSON *tree;
    int result = vouch_json_parse(text, size, &rules, &tree, ret_error);
    if (result < 0)
        return result;
    const char *name = text_of(tree, "janus");
    if (!name) {
        cJSON_Delete(tree);
        return janus_fail(ret_error, -EPROTO, "a message without \"janus\"");
    }
    struct janus_message *message = janus_alloc(pool, sizeof(*message), &self);
    if (!message) {
        cJSON_Delete(tree);
        return janus_fail(ret_error, -ENOMEM, "out of memory");
    }
    message->self = self;
    message->cost = size + sizeof(*message) + tree_cost(tree);
    message->seen = (struct vouch_janus_message){.kind = kind_of(name), .name = name, .tree = tree};
    read_members(&message->seen);
    *ret_message = message;
    return 0;
}

void janus_message_free(struct janus_message *message) {
    if (!message)
        return;
    cJSON_Delete((cJSON *)message->seen.tree);
    vouch_buffer_unref(message->self);
}

void vouch_janus_message_free(const struct vouch_janus_message *message) {
    janus_message_free((struct janus_message *)message);
}

void *janus_alloc(struct vouch_pool *pool, size_t size, struct vouch_buffer **ret_self) {
    struct vouch_buffer *self;
    if (vouch_pool_get(pool, 0, size, &self) < 0)
        return NULL;
    memset(self->data, 0, size);
    *ret_self = self;
    return self->data;
}
