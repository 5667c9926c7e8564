/* SPDX-License-Identifier: MIT */
/*
 * Walks the bytes of a message along its descriptor, without recursion and without memory, so that
 * protobuf-c, which recurses, allocates per field and looks at little, sees only what it handles
 * rightly.
 *
 * What it does not do: notice that a required field of proto2 is missing (protobuf-c does).
 *
 * Strings have to be UTF-8 in all messages: the descriptors do not tell proto2 from proto3, and the
 * language asks for it in both. A field with another wire type than its declaration's is refused,
 * not skipped, since that is what protobuf-c does.
 */
#include "stream/proto_scan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <vouch/proto.h>

#include "lib/utf8.h"

#define SCAN_KEY_MAX 5    /* bytes of a field's number and wire type: 32 bits */
#define SCAN_LENGTH_MAX 5 /* protobuf-c reads no longer ones */
#define SCAN_VARINT_MAX 10
#define SCAN_NUMBER_MAX ((1u << 29) - 1) /* of a field */

/* A message that has begun. */
struct scan_level {
    const ProtobufCMessageDescriptor *type;
    const ProtobufCFieldDescriptor *last; /* the field before; mostly the next one is of it too */
    const uint8_t *end;
};

struct scan {
    const uint8_t *begin, *at;
    struct vouch_error *error;
    unsigned fields, depth;
    struct scan_level levels[VOUCH_PROTO_DEPTH_MAX];
};

/* The key of a field. */
struct scan_key {
    uint32_t number;
    ProtobufCWireType wire;
    const ProtobufCFieldDescriptor *field; /* NULL: unknown */
};

static struct scan_level *top(struct scan *scan) {
    return &scan->levels[scan->depth - 1];
}

static int VOUCH_PRINTF(3, 4) refuse(struct scan *scan, int code, const char *format, ...) {
    if (!scan->error)
        return code;
    char why[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    scan->error->code = code;
    const char *name = scan->levels[0].type->name;
    snprintf(scan->error->message, sizeof(scan->error->message), "%.200s, byte %zu: %s",
             name ? name : "message", (size_t)(scan->at - scan->begin), why);
    return code;
}

static const char *name_of(const struct scan_key *key) {
    return key->field && key->field->name ? key->field->name : "?";
}

/* A varint of at most `max` bytes and 64 bits. */
static int take_varint(struct scan *scan, const uint8_t *end, size_t max, uint64_t *ret_value) {
    uint64_t value = 0;
    for (size_t i = 0; i < max; i++) {
        if (scan->at + i == end)
            return refuse(scan, -EPROTO, "a number is cut off");
        uint8_t byte = scan->at[i];
        if (i == SCAN_VARINT_MAX - 1 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte & 0x80)
            continue;
        scan->at += i + 1;
        *ret_value = value;
        return 0;
    }
    return refuse(scan, -EPROTO, "a number is too long");
}

static int take_fixed(struct scan *scan, size_t size) {
    if ((size_t)(top(scan)->end - scan->at) < size)
        return refuse(scan, -EPROTO, "a number is cut off");
    scan->at += size;
    return 0;
}

static ProtobufCWireType wire_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return PROTOBUF_C_WIRE_TYPE_64BIT;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    default:
        return PROTOBUF_C_WIRE_TYPE_VARINT;
    }
}

/* Lists of numbers come packed or one by one, however they were declared. */
static bool fits(const ProtobufCFieldDescriptor *field, ProtobufCWireType wire) {
    return wire == wire_of(field->type) || (wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED &&
                                            field->label == PROTOBUF_C_LABEL_REPEATED);
}

static int take_key(struct scan *scan, struct scan_key *ret_key) {
    struct scan_level *level = top(scan);
    uint64_t key = 0;
    if (scan->fields++ == VOUCH_PROTO_FIELDS_MAX)
        return refuse(scan, -EMSGSIZE, "more than %u fields", VOUCH_PROTO_FIELDS_MAX);
    int r = take_varint(scan, level->end, SCAN_KEY_MAX, &key);
    if (r < 0)
        return r;
    if (key >> 3 == 0 || key >> 3 > SCAN_NUMBER_MAX)
        return refuse(scan, -EPROTO, "there is no field number %llu",
                      (unsigned long long)(key >> 3));
    ret_key->number = (uint32_t)(key >> 3);
    ret_key->wire = (ProtobufCWireType)(key & 7);
    if (!level->last || level->last->id != ret_key->number)
        level->last = protobuf_c_message_descriptor_get_field(level->type, ret_key->number);
    ret_key->field = level->last;
    if (ret_key->field && !fits(ret_key->field, ret_key->wire))
        return refuse(scan, -EPROTO, "'%.100s' (field %u) does not have wire type %d",
                      name_of(ret_key), ret_key->number, (int)ret_key->wire);
    return 0;
}

/* The numbers of a packed list, up to `end`. */
static int take_packed(struct scan *scan, const struct scan_key *key, const uint8_t *end) {
    ProtobufCWireType wire = wire_of(key->field->type);
    if (wire != PROTOBUF_C_WIRE_TYPE_VARINT) {
        size_t size = wire == PROTOBUF_C_WIRE_TYPE_32BIT ? 4 : 8;
        if ((size_t)(end - scan->at) % size != 0)
            return refuse(scan, -EPROTO, "the last number of '%.100s' is cut off", name_of(key));
        scan->at = end;
        return 0;
    }
    bool boolean = key->field->type == PROTOBUF_C_TYPE_BOOL;
    while (scan->at < end) {
        uint64_t value;
        if (boolean && *scan->at > 1) /* protobuf-c takes one byte for each */
            return refuse(scan, -EPROTO, "'%.100s' is neither true nor false", name_of(key));
        int r = take_varint(scan, end, SCAN_VARINT_MAX, &value);
        if (r < 0)
            return r;
    }
    return 0;
}

static int take_string(struct scan *scan, const struct scan_key *key, const uint8_t *end) {
    size_t size = (size_t)(end - scan->at);
    if (size > 0 && memchr(scan->at, 0, size))
        return refuse(scan, -EPROTO, "'%.100s' has a NUL in it", name_of(key));
    if (!utf8_valid(scan->at, size))
        return refuse(scan, -EPROTO, "'%.100s' is not UTF-8", name_of(key));
    scan->at = end;
    return 0;
}

static int enter(struct scan *scan, const ProtobufCMessageDescriptor *type, const uint8_t *end) {
    if (scan->depth == VOUCH_PROTO_DEPTH_MAX)
        return refuse(scan, -EMSGSIZE, "messages nest deeper than %d", VOUCH_PROTO_DEPTH_MAX);
    scan->levels[scan->depth++] = (struct scan_level){.type = type, .end = end};
    return 0;
}

static int take_sized(struct scan *scan, const struct scan_key *key) {
    uint64_t size = 0;
    const uint8_t *limit = top(scan)->end;
    int r = take_varint(scan, limit, SCAN_LENGTH_MAX, &size);
    if (r < 0)
        return r;
    if (size > (uint64_t)(limit - scan->at))
        return refuse(scan, -EPROTO, "field %u of %llu bytes is cut off", key->number,
                      (unsigned long long)size);
    const uint8_t *end = scan->at + size;
    if (!key->field || key->field->type == PROTOBUF_C_TYPE_BYTES) {
        scan->at = end;
        return 0;
    }
    if (key->field->type == PROTOBUF_C_TYPE_MESSAGE)
        return enter(scan, key->field->descriptor, end);
    if (key->field->type == PROTOBUF_C_TYPE_STRING)
        return take_string(scan, key, end);
    return take_packed(scan, key, end);
}

static int take_field(struct scan *scan) {
    struct scan_key key = {0};
    uint64_t value;
    int r = take_key(scan, &key);
    if (r < 0)
        return r;
    switch (key.wire) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        return take_varint(scan, top(scan)->end, SCAN_VARINT_MAX, &value);
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        return take_fixed(scan, 8);
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        return take_fixed(scan, 4);
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        return take_sized(scan, &key);
    default:
        return refuse(scan, -EPROTO, "field %u has wire type %d, a group or unknown", key.number,
                      (int)key.wire);
    }
}

int proto_scan(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t size,
               struct vouch_error *ret_error) {
    if (size == 0)
        return 0;
    struct scan scan;
    scan.begin = scan.at = data;
    scan.error = ret_error;
    scan.fields = 0;
    scan.depth = 0;
    int r = enter(&scan, descriptor, data + size);
    while (r == 0 && scan.depth > 0)
        if (scan.at == top(&scan)->end)
            scan.depth--;
        else
            r = take_field(&scan);
    return r;
}
