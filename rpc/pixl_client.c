/* SPDX-License-Identifier: MIT */
/*
 * The dialect as a client speaks it. The dialect only finds out which call a line answers, and
 * hands over the line whole: what it means (data, an error by its code, what a transform makes of
 * it) is found out where the caller is, without a lock, since functions of the program's take part
 * in that.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/options.h"
#include "rpc/pixl.h"

#define RECONNECT_DEFAULT VOUCH_SECONDS(1)
/* Calls do not wait as long as that after an attempt that has failed, but for a moment. */
#define CALL_GAP VOUCH_MILLISECONDS(10)

struct vouch_pixl_client {
    struct vouch_dialect dialect;
    struct vouch_buffer *memory; /* of this struct */
    struct vouch_client *client;
    struct vouch_pool *pool;
    bool codes_are_data;
    vouch_pixl_transform transform;
    void (*on_message)(void *context, const cJSON *message);
    void *context;
    struct vouch_json_rules rules;
    struct pixl_text tail; /* of every call; behind this struct */
};

/* ---- the dialect ---- */

static int read_line(void *context, uint8_t *bytes, size_t size, uint64_t oversize,
                     struct vouch_message *ret_message) {
    (void)context;
    (void)oversize; /* of those only the number is looked for */
    if (!pixl_line_reply(bytes, size, ret_message))
        *ret_message = (struct vouch_message){.kind = VOUCH_MESSAGE_NONE};
    return 0;
}

static void wrap(void *context, const struct vouch_message *message,
                 struct vouch_wrapping *wrapping) {
    const struct vouch_pixl_client *pixl = context;
    pixl_wrap_call(message, &pixl->tail, wrapping);
}

/* ---- what a reply means ---- */

static void set_error(struct vouch_pixl_error *error, int result, const char *message) {
    *error = (struct vouch_pixl_error){.result = result};
    snprintf(error->message, sizeof(error->message), "%s", message);
}

static void tell(struct vouch_pixl_error *ret_error, const struct vouch_pixl_error *error) {
    if (ret_error)
        *ret_error = *error;
}

/* The last of that name, as JSON.parse has it; cJSON finds the first. */
static cJSON *last_member(const cJSON *object, const char *name) {
    cJSON *item, *found = NULL;
    if (!cJSON_IsObject(object))
        return NULL;
    cJSON_ArrayForEach(item, object) {
        if (strcmp(item->string, name) == 0)
            found = item;
    }
    return found;
}

/* As JavaScript has it. */
static bool is_truthy(const cJSON *item) {
    if (!item || cJSON_IsNull(item) || cJSON_IsFalse(item))
        return false;
    if (cJSON_IsNumber(item))
        return item->valuedouble != 0;
    return !cJSON_IsString(item) || *item->valuestring != '\0';
}

/* A string, or whatever else it is as JSON, cut to the room. */
static void copy_text(const cJSON *item, char *to, size_t room) {
    char text[VOUCH_ERROR_TEXT_MAX + 1];
    const char *from = cJSON_IsString(item) ? item->valuestring : text;
    if (!item)
        from = "";
    else if (from == text) {
        ssize_t size = vouch_json_print(item, text, sizeof(text) - 1);
        text[size < 0 || size >= (ssize_t)sizeof(text) ? 0 : size] = '\0';
    }
    size_t size = strlen(from);
    if (size >= room)
        for (size = room - 1; size > 0 && ((uint8_t)from[size] & 0xc0) == 0x80;)
            size--; /* not in the middle of a character */
    memcpy(to, from, size);
    to[size] = '\0';
}

/* Whether an object is an error by its code. */
static bool is_error(const cJSON *object, struct vouch_pixl_error *error) {
    const cJSON *code = last_member(object, "code");
    if (!is_truthy(code))
        return false;
    copy_text(code, error->code, sizeof(error->code));
    copy_text(last_member(object, "message"), error->message, sizeof(error->message));
    error->result = pixl_result_of(error->code);
    return true;
}

static int take_data(cJSON *reply, cJSON **ret_data, struct vouch_pixl_error *error) {
    cJSON *data = last_member(reply, "data");
    *ret_data = data ? cJSON_DetachItemViaPointer(reply, data) : cJSON_CreateNull();
    if (*ret_data)
        return 0;
    set_error(error, -ENOMEM, vouch_strerror(-ENOMEM));
    return -ENOMEM;
}

static int transform(const struct vouch_pixl_client *pixl, cJSON *reply, cJSON **ret_data,
                     struct vouch_pixl_error *error) {
    cJSON *data = NULL;
    int r = pixl->transform(pixl->context, reply, &data, error);
    if (r == 0 && !data)
        return take_data(reply, ret_data, error);
    if (r == 0)
        *ret_data = data;
    else
        cJSON_Delete(data);
    return error->result = r < 0 ? VOUCH_REMOTE_UNKNOWN : r;
}

/* 0 and the data, or what is wrong. */
static int understand(const struct vouch_pixl_client *pixl, const struct vouch_reply *line,
                      cJSON **ret_data, struct vouch_pixl_error *error) {
    struct vouch_error refused;
    cJSON *reply;
    int r = vouch_json_parse(line->data, line->size, &pixl->rules, &reply, &refused);
    if (r < 0) {
        set_error(error, r, r == -EPROTO ? refused.message : vouch_strerror(r));
        return r;
    }
    *error = (struct vouch_pixl_error){.result = 0};
    if (pixl->transform)
        r = transform(pixl, reply, ret_data, error);
    else if (!pixl->codes_are_data &&
             (is_error(reply, error) || is_error(last_member(reply, "data"), error)))
        r = error->result;
    else
        r = take_data(reply, ret_data, error);
    cJSON_Delete(reply);
    return r;
}

static void on_notice(void *context, const struct vouch_reply *notice) {
    const struct vouch_pixl_client *pixl = context;
    cJSON *message;
    if (vouch_json_parse(notice->data, notice->size, &pixl->rules, &message, NULL) < 0)
        return;
    pixl->on_message(pixl->context, message);
    cJSON_Delete(message);
}

/* ---- life ---- */

/* What the client beneath is to be made with, but for what only the struct has. */
static int read_options(const struct vouch_pixl_client_options *options,
                        struct vouch_pixl_client_options *o, struct vouch_client_options *set,
                        struct vouch_json_rules *rules) {
    *o = (struct vouch_pixl_client_options){0};
    *set = (struct vouch_client_options){0};
    *rules = (struct vouch_json_rules){0};
    OPTIONS_READ(*o, options);
    OPTIONS_READ(*set, o->client);
    OPTIONS_READ(*rules, o->rules);
    if (o->call_timeout < 0 || rules->max_depth > VOUCH_JSON_DEPTH_BOUND)
        return -EINVAL;
    set->size = sizeof(*set);
    rules->size = sizeof(*rules);
    set->call_timeout = options_time(o->call_timeout, VOUCH_PIXL_CALL_TIMEOUT_DEFAULT);
    set->on_notice = o->on_message ? on_notice : NULL;
    set->reconnect = o->reconnect >= 0;
    set->reconnect_after = set->reconnect ? options_time(o->reconnect, RECONNECT_DEFAULT) : 0;
    set->reconnect_min = set->reconnect_max =
        set->reconnect_after < CALL_GAP ? set->reconnect_after : CALL_GAP;
    return 0;
}

static int pool_of(const struct vouch_client_options *set, struct vouch_pool **ret_pool) {
    const struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = set->allocator};
    if (!set->pool)
        return vouch_pool_new(&options, ret_pool);
    *ret_pool = vouch_pool_ref(set->pool);
    return 0;
}

/* Without the client beneath; `set` gets what that is to be made with. */
static int create(const struct vouch_pixl_client_options *options, struct vouch_client_options *set,
                  struct vouch_pixl_client **ret_pixl) {
    struct vouch_pixl_client_options o;
    struct vouch_json_rules rules;
    struct vouch_buffer *memory;
    struct vouch_pool *pool;
    int r = read_options(options, &o, set, &rules);
    if (r == 0)
        r = pool_of(set, &pool);
    if (r < 0)
        return r;
    const char *agent = o.user_agent ? o.user_agent : "vouch/" VOUCH_VERSION_STRING;
    long pid = (long)getpid();
    size_t tail = pixl_wrap_tail(NULL, pid, agent);
    r = vouch_pool_get(pool, 0, sizeof(struct vouch_pixl_client) + tail, &memory);
    if (r < 0) {
        vouch_pool_unref(pool);
        return r;
    }
    struct vouch_pixl_client *pixl = (void *)memory->data;
    *pixl = (struct vouch_pixl_client){
        .memory = memory,
        .pool = pool,
        .codes_are_data = o.codes_are_data,
        .transform = o.transform,
        .on_message = o.on_message,
        .context = o.context,
        .rules = rules,
        .tail = {(uint8_t *)(pixl + 1), tail},
        .dialect = {.size = sizeof(struct vouch_dialect),
                    .name = "pixl",
                    .context = pixl,
                    .read = read_line,
                    .prepare = pixl_prepare,
                    .wrap = wrap,
                    .skim = pixl_skim},
    };
    pixl_wrap_tail(pixl->tail.at, pid, agent);
    set->pool = pool;
    set->dialect = &pixl->dialect;
    set->notice_context = pixl;
    *ret_pixl = pixl;
    return 0;
}

static void destroy(struct vouch_pixl_client *pixl) {
    struct vouch_pool *pool = pixl->pool;
    vouch_buffer_unref(pixl->memory);
    vouch_pool_unref(pool);
}

int vouch_pixl_client_dial(const char *address, const struct vouch_dial_options *dial_options,
                           const struct vouch_pixl_client_options *options,
                           struct vouch_pixl_client **ret_client, struct vouch_error *ret_error) {
    struct vouch_client_options set;
    struct vouch_pixl_client *pixl;
    int r = create(options, &set, &pixl);
    if (r < 0) {
        if (ret_error) {
            ret_error->code = r;
            snprintf(ret_error->message, sizeof(ret_error->message), "client for %.512s: %s",
                     address, r == -EINVAL ? "an option is out of its range" : vouch_strerror(r));
        }
        return r;
    }
    r = vouch_client_dial(address, dial_options, &set, &pixl->client, ret_error);
    if (r < 0) {
        destroy(pixl);
        return r;
    }
    *ret_client = pixl;
    return 0;
}

int vouch_pixl_client_new(struct vouch_conn *conn, const struct vouch_pixl_client_options *options,
                          struct vouch_pixl_client **ret_client) {
    struct vouch_client_options set;
    struct vouch_pixl_client *pixl;
    int r = create(options, &set, &pixl);
    if (r < 0)
        return r;
    set.reconnect = false;
    r = vouch_client_new(conn, &set, &pixl->client);
    if (r < 0) {
        destroy(pixl);
        return r;
    }
    *ret_client = pixl;
    return 0;
}

void vouch_pixl_client_free(struct vouch_pixl_client *client) {
    if (!client)
        return;
    vouch_client_free(client->client);
    destroy(client);
}

struct vouch_client *vouch_pixl_client_get_client(struct vouch_pixl_client *client) {
    return client->client;
}

/* ---- calls ---- */

/* A request with its data printed into it. */
static int request_of(struct vouch_pixl_client *pixl, const cJSON *data,
                      struct vouch_buffer **ret_buffer) {
    ssize_t size = data ? vouch_json_print(data, NULL, 0) : 0;
    if (size < 0)
        return (int)size;
    int r = vouch_client_get_buffer(pixl->client, (size_t)size, ret_buffer);
    if (r < 0)
        return r;
    if (data)
        size = vouch_json_print(data, (char *)(*ret_buffer)->data, (size_t)size);
    (*ret_buffer)->size = (size_t)size;
    return 0;
}

int vouch_pixl_call(struct vouch_pixl_client *client, const char *uri, const cJSON *data,
                    const struct vouch_call_options *options, cJSON **ret_data,
                    struct vouch_pixl_error *ret_error) {
    struct vouch_pixl_error error = {.result = 0};
    struct vouch_error local = {.code = 0};
    struct vouch_buffer *request;
    struct vouch_reply line;
    cJSON *tree = NULL;
    if (ret_data)
        *ret_data = NULL;
    int r = request_of(client, data, &request);
    if (r < 0) {
        set_error(&error, r, vouch_strerror(r));
        tell(ret_error, &error);
        return r;
    }
    r = vouch_client_call_buffer(client->client, uri, request, options, &line, &local);
    if (r != 0)
        set_error(&error, r, local.message);
    else
        r = understand(client, &line, &tree, &error);
    vouch_reply_release(&line);
    if (r != 0)
        tell(ret_error, &error);
    else if (ret_data)
        *ret_data = tree;
    else
        cJSON_Delete(tree);
    return r;
}

struct pending {
    const struct vouch_pixl_client *client;
    vouch_pixl_callback callback;
    void *context;
};

static void on_reply(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *local) {
    struct vouch_buffer *kept = context;
    const struct pending pending = *(struct pending *)(void *)kept->data;
    struct vouch_pixl_error error = {.result = 0};
    cJSON *data = NULL;
    vouch_buffer_unref(kept);
    if (result == 0)
        result = understand(pending.client, reply, &data, &error);
    else
        set_error(&error, result, local->message);
    pending.callback(pending.context, result, data, &error);
    cJSON_Delete(data);
}

int vouch_pixl_call_async(struct vouch_pixl_client *client, const char *uri, const cJSON *data,
                          const struct vouch_call_options *options, vouch_pixl_callback callback,
                          void *context, uint64_t *ret_id) {
    struct vouch_buffer *request, *kept;
    if (!callback)
        return -EINVAL;
    int r = request_of(client, data, &request);
    if (r < 0)
        return r;
    r = vouch_pool_get(client->pool, 0, sizeof(struct pending), &kept);
    if (r < 0) {
        vouch_buffer_unref(request);
        return r;
    }
    *(struct pending *)(void *)kept->data = (struct pending){client, callback, context};
    r = vouch_client_call_async_buffer(client->client, uri, request, options, on_reply, kept,
                                       ret_id);
    if (r < 0)
        vouch_buffer_unref(kept);
    return r;
}
