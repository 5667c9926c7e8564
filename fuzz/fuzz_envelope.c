/* SPDX-License-Identifier: MIT */
/*
 * The envelope: what decodes has its fields inside the message, and encoded again it decodes to the
 * same; the beginning of a message never says more than the whole.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/envelope.h"
#include "rpc/session.h"

static void check(bool condition) {
    if (!condition)
        abort();
}

static void check_inside(const void *field, size_t field_size, const uint8_t *data, size_t size) {
    const uint8_t *at = field;
    check(field_size == 0 || (at >= data && field_size <= size - (size_t)(at - data)));
}

static bool same_bytes(const void *a, size_t a_size, const void *b, size_t b_size) {
    return a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

static void check_same(const struct envelope *a, const struct envelope *b) {
    check(a->id == b->id && a->expires == b->expires && a->error_type == b->error_type);
    check(a->client_features == b->client_features && a->server_features == b->server_features);
    check(a->control == b->control && a->max_message == b->max_message);
    check(same_bytes(a->method, a->method_size, b->method, b->method_size));
    check(same_bytes(a->data, a->data_size, b->data, b->data_size));
    check(same_bytes(a->error, a->error_size, b->error, b->error_size));
}

static void check_round_trip(struct vouch_pool *pool, const struct envelope *e) {
    struct vouch_buffer *buffer;
    struct envelope back;
    uint64_t length;
    check(session_buffer(pool, e->data_size + e->error_size, &buffer) == 0);
    if (e->data_size > 0)
        memcpy(buffer->data, e->data, e->data_size);
    buffer->size = e->data_size;
    envelope_wrap(buffer, e);
    check(buffer->size <= buffer->capacity);
    int header = vouch_chunk_decode_header(buffer->data, buffer->size, &length);
    check(header > 0 && (size_t)header + length == buffer->size);
    check(length == envelope_size(e, e->data_size));
    check(envelope_decode(buffer->data + header, (size_t)length, &back) == 0);
    check_same(e, &back);
    vouch_buffer_unref(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct vouch_pool *pool;
    struct envelope e, head;
    envelope_decode_head(data, size, &head);
    if (envelope_decode(data, size, &e) < 0)
        return 0;
    check_same(&e, &head);
    check_inside(e.method, e.method_size, data, size);
    check_inside(e.data, e.data_size, data, size);
    check_inside(e.error, e.error_size, data, size);
    if (e.method_size > ENVELOPE_METHOD_MAX)
        return 0;
    check(vouch_pool_new(NULL, &pool) == 0);
    check_round_trip(pool, &e);
    vouch_pool_unref(pool);
    return 0;
}
