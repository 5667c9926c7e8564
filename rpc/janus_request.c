/* SPDX-License-Identifier: MIT */
/*
 * What goes out. A request is a tree that refers to the caller's body, jsep and candidates, and
 * copies none of them; libvouch-json prints it, so ids above 2^31 stay what they are.
 */
#include <errno.h>
#include <string.h>

#include <vouch/json.h>

#include "rpc/janus_link.h"
#include "rpc/janus_message.h"

/* What each verb needs. */
enum {
    SESSION = 1,
    HANDLE = 2,
    ID = 4,
    PLUGIN = 8,
    BODY = 16,
    JSEP = 32,
    CANDIDATE = 64,
    NEW = 128
};

static const struct {
    const char *name;
    unsigned needs, may;
} verbs[] = {
    [VOUCH_JANUS_DO_INFO] = {"info", 0, 0},
    [VOUCH_JANUS_DO_PING] = {"ping", 0, 0},
    [VOUCH_JANUS_DO_CREATE] = {"create", 0, NEW},
    [VOUCH_JANUS_DO_CLAIM] = {"claim", ID, NEW},
    [VOUCH_JANUS_DO_ATTACH] = {"attach", SESSION | PLUGIN, NEW},
    [VOUCH_JANUS_DO_KEEPALIVE] = {"keepalive", SESSION, 0},
    [VOUCH_JANUS_DO_DESTROY] = {"destroy", SESSION, 0},
    [VOUCH_JANUS_DO_MESSAGE] = {"message", HANDLE | BODY, JSEP},
    [VOUCH_JANUS_DO_REQUEST] = {"message", HANDLE | BODY, JSEP},
    [VOUCH_JANUS_DO_TRICKLE] = {"trickle", HANDLE, CANDIDATE},
    [VOUCH_JANUS_DO_HANGUP] = {"hangup", HANDLE, 0},
    [VOUCH_JANUS_DO_DETACH] = {"detach", HANDLE, 0},
};

static unsigned has(const struct vouch_janus_request *r) {
    return (r->session ? SESSION : 0u) | (r->handle ? HANDLE : 0u) | (r->id ? ID : 0u) |
           (r->plugin ? PLUGIN : 0u) | (r->body ? BODY : 0u) | (r->jsep ? JSEP : 0u) |
           (r->candidate ? CANDIDATE : 0u) | (r->listener ? NEW : 0u);
}

int janus_request_check(const struct vouch_janus_request *r, struct vouch_error *ret_error) {
    static const char *const names[] = {"session", "handle", "id",        "plugin",
                                        "body",    "jsep",   "candidate", "listener"};
    if (r->verb < VOUCH_JANUS_DO_INFO || r->verb > VOUCH_JANUS_DO_DETACH)
        return janus_fail(ret_error, -EINVAL, "there is no verb %d", (int)r->verb);
    const char *verb = verbs[r->verb].name;
    unsigned there = has(r), needs = verbs[r->verb].needs;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (needs & ~there & 1u << i)
            return janus_fail(ret_error, -EINVAL, "%s: there is no %s", verb, names[i]);
        if (there & ~(needs | verbs[r->verb].may) & 1u << i)
            return janus_fail(ret_error, -EINVAL, "%s: a %s does not belong there", verb, names[i]);
    }
    if (r->id > VOUCH_JANUS_ID_MAX)
        return janus_fail(ret_error, -EINVAL, "%s: the id is over 2^53 - 1", verb);
    if ((r->body && !cJSON_IsObject(r->body)) || (r->jsep && !cJSON_IsObject(r->jsep)))
        return janus_fail(ret_error, -EINVAL, "%s: the %s is not an object", verb,
                          cJSON_IsObject(r->body) ? "jsep" : "body");
    if (r->candidate && !cJSON_IsObject(r->candidate) && !cJSON_IsArray(r->candidate))
        return janus_fail(ret_error, -EINVAL, "%s: the candidate is no object or array", verb);
    if (r->more && !cJSON_IsObject(r->more))
        return janus_fail(ret_error, -EINVAL, "%s: what is to be added is not an object", verb);
    if (r->keepalive_interval < 0)
        return janus_fail(ret_error, -EINVAL, "%s: the interval is negative", verb);
    return 0;
}

/* ---- the tree ---- */

static int add_text(cJSON *tree, const char *name, const char *text) {
    return !text || cJSON_AddStringToObject(tree, name, text) ? 0 : -ENOMEM;
}

static int add_id(cJSON *tree, const char *name, uint64_t id) {
    return id ? vouch_json_add_uint64(tree, name, id) : 0;
}

/* Arrays and objects are referred to: the tree is only printed and then deleted. (Not with
 * cJSON_AddItemReferenceToObject, which loses the reference when memory is short.) */
static int add_tree(cJSON *tree, const char *name, const cJSON *value) {
    if (!value)
        return 0;
    cJSON *item = cJSON_IsObject(value)  ? cJSON_CreateObjectReference(value->child)
                  : cJSON_IsArray(value) ? cJSON_CreateArrayReference(value->child)
                                         : cJSON_Duplicate(value, true);
    if (item && cJSON_AddItemToObject(tree, name, item))
        return 0;
    cJSON_Delete(item);
    return -ENOMEM;
}

static int add_candidate(cJSON *tree, const cJSON *candidate) {
    if (candidate)
        return add_tree(tree, cJSON_IsArray(candidate) ? "candidates" : "candidate", candidate);
    cJSON *completed = cJSON_AddObjectToObject(tree, "candidate");
    return completed && cJSON_AddTrueToObject(completed, "completed") ? 0 : -ENOMEM;
}

static int add_more(cJSON *tree, const cJSON *more) {
    const cJSON *one;
    cJSON_ArrayForEach(one, more) {
        if (!one->string || cJSON_GetObjectItemCaseSensitive(tree, one->string))
            return -EINVAL;
        int result = add_tree(tree, one->string, one);
        if (result < 0)
            return result;
    }
    return 0;
}

static int fill(cJSON *tree, const struct vouch_janus_request *r,
                const struct janus_request_head *head) {
    int result = add_text(tree, "janus", verbs[r->verb].name);
    if (result == 0)
        result = add_text(tree, "transaction", head->transaction);
    if (result == 0)
        result = add_text(tree, "apisecret", head->api_secret);
    if (result == 0)
        result = add_text(tree, "token", head->token);
    if (result == 0)
        result = add_id(tree, "session_id", head->session_id);
    if (result == 0)
        result = add_id(tree, "handle_id", head->handle_id);
    if (result == 0)
        result = add_text(tree, "plugin", r->plugin);
    if (result == 0)
        result = add_tree(tree, "body", r->body);
    if (result == 0)
        result = add_tree(tree, "jsep", r->jsep);
    if (result == 0 && r->verb == VOUCH_JANUS_DO_TRICKLE)
        result = add_candidate(tree, r->candidate);
    return result == 0 ? add_more(tree, r->more) : result;
}

static int print(const cJSON *tree, struct vouch_pool *pool, size_t headroom, size_t max_size,
                 struct vouch_buffer **ret_text) {
    struct vouch_buffer *text;
    ssize_t size = vouch_json_print(tree, NULL, 0);
    if (size < 0)
        return (int)size;
    if ((size_t)size > max_size)
        return -EMSGSIZE;
    int result = vouch_pool_get(pool, headroom, (size_t)size, &text);
    if (result < 0)
        return result;
    text->size = (size_t)size;
    if (vouch_json_print(tree, (char *)text->data, text->size) != size) {
        vouch_buffer_unref(text);
        return -EINVAL; /* somebody else changes the tree meanwhile */
    }
    *ret_text = text;
    return 0;
}

int janus_request_print(const struct vouch_janus_request *request,
                        const struct janus_request_head *head, struct vouch_pool *pool,
                        size_t headroom, size_t max_size, struct vouch_buffer **ret_text,
                        struct vouch_error *ret_error) {
    const char *verb = verbs[request->verb].name;
    cJSON *tree = cJSON_CreateObject();
    int result = tree ? fill(tree, request, head) : -ENOMEM;
    if (result == 0)
        result = print(tree, pool, headroom, max_size, ret_text);
    cJSON_Delete(tree);
    if (result == -EMSGSIZE)
        return janus_fail(ret_error, result, "%s: the request is larger than %zu bytes", verb,
                          max_size);
    if (result == -EINVAL)
        return janus_fail(ret_error, result,
                          "%s: what is to be sent is not JSON, or has a name twice", verb);
    return result < 0 ? janus_fail(ret_error, result, "%s: %s", verb, vouch_strerror(result)) : 0;
}
