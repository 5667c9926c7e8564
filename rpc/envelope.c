/* SPDX-License-Identifier: MIT */
/*
 * Decoding goes forward over the bytes with one cursor and one check of bounds. Encoding the part
 * in front of the body goes *backwards*, from the body to the chunk length, so that each length is
 * known when it is written and nothing is moved.
 */
#include "rpc/envelope.h"

#include <errno.h>
#include <string.h>
#include <vouch/chunk.h>

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

enum field {
    FIELD_ID = 1,
    FIELD_EXPIRES = 2,
    FIELD_METHOD = 3,
    FIELD_DATA = 4,
    FIELD_ERROR_TYPE = 5,
    FIELD_ERROR = 6,
    FIELD_CLIENT_FEATURES = 7,
    FIELD_SERVER_FEATURES = 8,
    FIELD_CONTROL = 9,
    FIELD_MAX_MESSAGE = 10,
};

/* Largest field number that protobuf allows. */
#define FIELD_NUMBER_MAX ((1u << 29) - 1)

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static bool read_long_varint(struct cursor *c, uint64_t *ret_value) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (c->at == c->end)
            return false;
        uint8_t byte = *c->at++;
        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* Most are one byte: tags, ids, short lengths. */
static inline bool read_varint(struct cursor *c, uint64_t *ret_value) {
    if (c->at == c->end || *c->at >= 0x80)
        return read_long_varint(c, ret_value);
    *ret_value = *c->at++;
    return true;
}

static bool read_bytes(struct cursor *c, const uint8_t **ret_bytes, size_t *ret_size) {
    uint64_t size;
    if (!read_varint(c, &size) || size > (size_t)(c->end - c->at))
        return false;
    *ret_bytes = c->at;
    *ret_size = (size_t)size;
    c->at += size;
    return true;
}

static bool read_text(struct cursor *c, const char **ret_text, size_t *ret_size) {
    const uint8_t *bytes;
    if (!read_bytes(c, &bytes, ret_size))
        return false;
    *ret_text = (const char *)bytes;
    return true;
}

static bool skip(struct cursor *c, uint64_t wire_type) {
    uint64_t value;
    const uint8_t *bytes;
    size_t size;
    switch (wire_type) {
    case WIRE_VARINT:
        return read_varint(c, &value);
    case WIRE_BYTES:
        return read_bytes(c, &bytes, &size);
    case WIRE_FIXED64:
    case WIRE_FIXED32:
        size = wire_type == WIRE_FIXED64 ? 8 : 4;
        if ((size_t)(c->end - c->at) < size)
            return false;
        c->at += size;
        return true;
    default: /* groups: no message of ours ever had one */
        return false;
    }
}

static enum wire_type wire_type_of(uint64_t number) {
    switch (number) {
    case FIELD_METHOD:
    case FIELD_DATA:
    case FIELD_ERROR:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

static void store_number(struct envelope *e, uint64_t number, uint64_t value) {
    /* A uint32 takes the low bits of a longer varint, as every protobuf decoder does. */
    switch (number) {
    case FIELD_ID:
        e->id = (uint32_t)value;
        break;
    case FIELD_EXPIRES:
        e->expires = (int64_t)value;
        break;
    case FIELD_ERROR_TYPE:
        e->error_type = (uint32_t)value;
        break;
    case FIELD_CLIENT_FEATURES:
        e->client_features = value;
        break;
    case FIELD_SERVER_FEATURES:
        e->server_features = value;
        break;
    case FIELD_CONTROL:
        e->control = (uint32_t)value;
        break;
    case FIELD_MAX_MESSAGE:
        e->max_message = value;
        break;
    default:
        break;
    }
}

static bool read_known(struct cursor *c, struct envelope *e, uint64_t number) {
    uint64_t value;
    switch (number) {
    case FIELD_METHOD:
        return read_text(c, &e->method, &e->method_size);
    case FIELD_DATA:
        return read_bytes(c, &e->data, &e->data_size);
    case FIELD_ERROR:
        return read_text(c, &e->error, &e->error_size);
    default:
        if (!read_varint(c, &value))
            return false;
        store_number(e, number, value);
        return true;
    }
}

/* One field. A known number with a foreign wire type makes the message malformed, as protobuf-c has
 * it. */
static bool read_field(struct cursor *c, struct envelope *e) {
    uint64_t tag;
    if (!read_varint(c, &tag))
        return false;
    uint64_t number = tag >> 3, wire_type = tag & 7;
    if (number == 0 || number > FIELD_NUMBER_MAX)
        return false;
    if (number > FIELD_MAX_MESSAGE)
        return skip(c, wire_type);
    return wire_type == wire_type_of(number) && read_known(c, e, number);
}

int envelope_decode(const uint8_t *bytes, size_t size, struct envelope *ret_envelope) {
    struct envelope e = {0};
    if (size > 0) {
        struct cursor c = {bytes, bytes + size};
        while (c.at < c.end)
            if (!read_field(&c, &e))
                return -EPROTO;
    }
    *ret_envelope = e;
    return 0;
}

void envelope_decode_head(const uint8_t *bytes, size_t size, struct envelope *ret_envelope) {
    struct envelope e = {0};
    if (size > 0) {
        struct cursor c = {bytes, bytes + size};
        while (c.at < c.end && read_field(&c, &e))
            continue;
    }
    *ret_envelope = e;
}

/* Seven bits a byte, without a loop or a division. */
static inline size_t varint_size(uint64_t value) {
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    return (bits * 9 + 64) / 64;
}

static uint8_t *write_varint(uint8_t *to, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    return to;
}

/* All our numbers are below 16: a tag is one byte. */
static uint8_t tag_of(enum field field) {
    return (uint8_t)((unsigned)field << 3 | wire_type_of(field));
}

static size_t number_size(uint64_t value) {
    return value == 0 ? 0 : 1 + varint_size(value);
}

static size_t bytes_size(size_t size) {
    return size == 0 ? 0 : 1 + varint_size(size) + size;
}

static uint8_t *write_number(uint8_t *to, enum field field, uint64_t value) {
    if (value == 0)
        return to;
    *to++ = tag_of(field);
    return write_varint(to, value);
}

static uint8_t *prepend_varint(uint8_t *before, uint64_t value) {
    uint8_t *start = before - varint_size(value);
    write_varint(start, value);
    return start;
}

static uint8_t *prepend_number(uint8_t *before, enum field field, uint64_t value) {
    if (value == 0)
        return before;
    before = prepend_varint(before, value);
    *--before = tag_of(field);
    return before;
}

static uint8_t *prepend_length(uint8_t *before, enum field field, size_t size) {
    before = prepend_varint(before, size);
    *--before = tag_of(field);
    return before;
}

size_t envelope_size(const struct envelope *e, size_t body_size) {
    return number_size(e->id) + number_size((uint64_t)e->expires) + bytes_size(e->method_size) +
           bytes_size(body_size) + number_size(e->error_type) + bytes_size(e->error_size) +
           number_size(e->client_features) + number_size(e->server_features) +
           number_size(e->control) + number_size(e->max_message);
}

static uint8_t *append_tail(uint8_t *to, const struct envelope *e) {
    to = write_number(to, FIELD_ERROR_TYPE, e->error_type);
    if (e->error_size > 0) {
        *to++ = tag_of(FIELD_ERROR);
        to = write_varint(to, e->error_size);
        memcpy(to, e->error, e->error_size);
        to += e->error_size;
    }
    return to;
}

static uint8_t *prepend_additions(uint8_t *before, const struct envelope *e) {
    before = prepend_number(before, FIELD_MAX_MESSAGE, e->max_message);
    before = prepend_number(before, FIELD_CONTROL, e->control);
    before = prepend_number(before, FIELD_SERVER_FEATURES, e->server_features);
    return prepend_number(before, FIELD_CLIENT_FEATURES, e->client_features);
}

/* Everything before the body; `after` bytes stand behind it. */
static void wrap(struct vouch_buffer *buffer, const struct envelope *e, size_t body_size,
                 size_t after) {
    uint8_t *body = buffer->data, *start = body;
    if (body_size > 0)
        start = prepend_length(start, FIELD_DATA, body_size);
    start = prepend_additions(start, e);
    if (e->method_size > 0) {
        start -= e->method_size;
        memcpy(start, e->method, e->method_size);
        start = prepend_length(start, FIELD_METHOD, e->method_size);
    }
    start = prepend_number(start, FIELD_EXPIRES, (uint64_t)e->expires);
    start = prepend_number(start, FIELD_ID, e->id);

    uint8_t header[VOUCH_CHUNK_HEADER_MAX];
    size_t size = (size_t)(body - start) + body_size + after;
    size_t header_size = vouch_chunk_encode_header(size, header);
    start -= header_size;
    memcpy(start, header, header_size);

    buffer->capacity += (size_t)(body - start);
    buffer->size += (size_t)(body - start) + after;
    buffer->data = start;
}

void envelope_wrap(struct vouch_buffer *buffer, const struct envelope *e) {
    uint8_t *tail = buffer->data + buffer->size;
    wrap(buffer, e, buffer->size, (size_t)(append_tail(tail, e) - tail));
}

void envelope_wrap_before(struct vouch_buffer *buffer, const struct envelope *e, size_t body_size) {
    buffer->size = 0;
    wrap(buffer, e, body_size, 0);
}
