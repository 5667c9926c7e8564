/* SPDX-License-Identifier: MIT */
#include "rpc/dialect.h"

#include <errno.h>
#include <string.h>

bool dialect_is_valid(const struct vouch_dialect *dialect) {
    return dialect->name && dialect->read && dialect->wrap;
}

const struct vouch_dialect *dialect_choose(const struct dialect_choice *choice, uint8_t first) {
    for (size_t i = 0; i < choice->count; i++) {
        const struct vouch_dialect *dialect = &choice->dialects[i];
        if (dialect->begins(dialect->context, first))
            return dialect;
    }
    return NULL;
}

bool dialect_is_certain(const struct dialect_choice *choice,
                        const struct vouch_dialect **ret_dialect) {
    *ret_dialect = choice->count > 0 ? &choice->dialects[0] : NULL;
    return choice->count + (choice->native ? 1 : 0) == 1;
}

static bool begins_with(const uint8_t *bytes, size_t size, const char *text) {
    for (; *text; bytes++, size--, text++)
        if (size == 0 || (*bytes | 0x20) != (uint8_t)*text)
            return false;
    return true;
}

bool dialect_is_http(const uint8_t *line, size_t size, bool cut) {
    static const char version[] = " HTTP/1.";
    size_t length = sizeof(version) - 1;
    if (size > 0 && line[size - 1] == '\r')
        size--;
    if (begins_with(line, size, "host:"))
        return true;
    return !cut && size > length && memcmp(line + size - 1 - length, version, length) == 0;
}

/* A piece of the wrapping, in a buffer of its own. */
static int add_part(struct dialect_parts *parts, struct vouch_pool *pool, size_t size,
                    uint8_t **ret_bytes) {
    struct vouch_buffer *buffer;
    if (size == 0)
        return 0;
    int r = vouch_pool_get(pool, 0, size, &buffer);
    if (r < 0)
        return r;
    buffer->size = size;
    parts->part[parts->count++] = buffer;
    *ret_bytes = buffer->data;
    return 0;
}

/* The body's buffer takes in what has been written around it there. */
static void widen(struct vouch_buffer *body, size_t before, size_t after) {
    body->data -= before;
    body->capacity += before;
    body->size += before + after;
}

static int lay_out(struct vouch_wrapping *w, struct vouch_buffer *body, struct vouch_pool *pool,
                   struct dialect_parts *parts) {
    bool front = body && vouch_buffer_headroom(body) >= w->before_size;
    bool back = body && body->capacity - body->size >= w->after_size;
    int r = 0;
    if (front)
        w->before = body->data - w->before_size;
    else
        r = add_part(parts, pool, w->before_size, &w->before);
    if (body)
        parts->part[parts->count++] = body;
    if (r == 0 && back)
        w->after = body->data + body->size;
    else if (r == 0)
        r = add_part(parts, pool, w->after_size, &w->after);
    if (r == 0 && body)
        widen(body, front ? w->before_size : 0, back ? w->after_size : 0);
    return r;
}

int dialect_wrap(const struct vouch_dialect *dialect, const struct vouch_message *message,
                 struct vouch_buffer *body, struct vouch_pool *pool, size_t max,
                 struct dialect_parts *ret_parts) {
    struct vouch_wrapping w = {0};
    struct dialect_parts parts = {0};
    dialect->wrap(dialect->context, message, &w);
    parts.size = ret_parts->size = w.before_size + (body ? body->size : 0) + w.after_size;
    if (w.before_size + w.after_size == 0)
        return -ENOTSUP;
    if (parts.size > max)
        return -EMSGSIZE;
    int r = lay_out(&w, body, pool, &parts);
    if (r < 0) {
        for (size_t i = 0; i < parts.count; i++)
            if (parts.part[i] != body)
                vouch_buffer_unref(parts.part[i]);
        return r;
    }
    dialect->wrap(dialect->context, message, &w);
    *ret_parts = parts;
    return 0;
}

int dialect_prepare(const struct vouch_dialect *dialect, struct vouch_buffer *body) {
    return dialect->prepare ? dialect->prepare(dialect->context, body->data, body->size) : 0;
}
