/* SPDX-License-Identifier: MIT */
/*
 * Messages into buffers and out of them.
 *
 * They are packed with get_packed_size and pack only: protobuf-c's own growing buffer loses bytes
 * in silence when memory is short. The two numbers are compared; a message that grew in between has
 * been written past its room by then, so this finds a mistake, it does not make it harmless.
 */
#include "stream/proto_message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "stream/proto_arena.h"
#include "stream/proto_scan.h"

int proto_error(struct vouch_error *ret_error, int code, const char *format, ...) {
    if (!ret_error)
        return code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_error->message, sizeof(ret_error->message), format, arguments);
    va_end(arguments);
    ret_error->code = code;
    return code;
}

int proto_pack(const ProtobufCMessage *message, size_t size, struct vouch_buffer *buffer,
               struct vouch_error *ret_error) {
    size_t packed = protobuf_c_message_pack(message, buffer->data + buffer->size);
    if (packed != size)
        return proto_error(ret_error, -EINVAL,
                           "the message was packed to %zu bytes instead of %zu: it was changed",
                           packed, size);
    buffer->size += size;
    return 0;
}

static int unpack_failed(const struct proto_arena *arena, size_t size, struct vouch_error *error) {
    switch (arena->failure) {
    case 0:
        /* protobuf-c does not say which. It can't merge a message that comes twice when it has a
         * oneof that was not set the first time. */
        return proto_error(error, -EPROTO,
                           "protobuf-c refuses it: a required field is missing, or a message that "
                           "comes twice can't be merged");
    case -EMSGSIZE:
        return proto_error(error, -EMSGSIZE,
                           "the message of %zu bytes takes more than %zu bytes of memory", size,
                           proto_arena_budget(size));
    default:
        return proto_error(error, arena->failure, "no memory for a message of %zu bytes", size);
    }
}

int vouch_proto_unpack(struct vouch_pool *pool, const ProtobufCMessageDescriptor *descriptor,
                       const void *data, size_t size, struct vouch_proto_message *ret_message,
                       struct vouch_error *ret_error) {
    *ret_message = (struct vouch_proto_message){0};
    if (size > VOUCH_CHUNK_SIZE_BOUND)
        return proto_error(ret_error, -EMSGSIZE,
                           "the message of %zu bytes is over the maximum of %zu bytes", size,
                           VOUCH_CHUNK_SIZE_BOUND);
    int r = proto_scan(descriptor, data, size, ret_error);
    if (r < 0)
        return r;

    struct proto_arena arena;
    proto_arena_init(&arena, pool, size);
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &arena.allocator, size, data);
    if (!message) {
        proto_arena_release(arena.blocks);
        return unpack_failed(&arena, size, ret_error);
    }
    *ret_message = (struct vouch_proto_message){.message = message, .memory = arena.blocks};
    return 0;
}

void vouch_proto_message_release(struct vouch_proto_message *message) {
    proto_arena_release(message->memory);
    *message = (struct vouch_proto_message){0};
}
