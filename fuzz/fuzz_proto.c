/* SPDX-License-Identifier: MIT */
/*
 * Messages: the look through them, unpacking, packing again. The first byte chooses the type.
 *
 * What the look lets through protobuf-c takes whole (but for what it can't merge, and for required
 * fields); what was unpacked packs to the size it says, and comes back to the same bytes; memory
 * stays within the budget, whatever comes.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/proto.h>

#include "proto/sample.pb-c.h"
#include "proto/strict.pb-c.h"
#include "stream/proto_arena.h"
#include "stream/proto_message.h"
#include "stream/proto_scan.h"

static void check(bool condition) {
    if (!condition)
        abort();
}

static struct vouch_buffer *packed(struct vouch_pool *pool, const ProtobufCMessage *message) {
    struct vouch_buffer *buffer;
    size_t size = protobuf_c_message_get_packed_size(message);
    check(vouch_pool_get(pool, 0, size, &buffer) == 0);
    check(proto_pack(message, size, buffer, NULL) == 0);
    return buffer;
}

static void check_memory(struct vouch_pool *pool, size_t size) {
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(pool, &stats);
    check(stats.bytes_held <= 2 * proto_arena_budget(size) + 1024 * 1024);
}

/* There and back once more: the same bytes. */
static void check_message(struct vouch_pool *pool, const ProtobufCMessage *message) {
    struct vouch_proto_message again;
    struct vouch_buffer *bytes = packed(pool, message);
    int r = vouch_proto_unpack(pool, message->descriptor, bytes->data, bytes->size, &again, NULL);
    /* Packed in the order of its fields it may cost more than it did. */
    check(r == 0 || r == -EMSGSIZE);
    if (r == 0) {
        struct vouch_buffer *bytes_again = packed(pool, again.message);
        check(bytes_again->size == bytes->size);
        check(bytes->size == 0 || memcmp(bytes_again->data, bytes->data, bytes->size) == 0);
        vouch_buffer_unref(bytes_again);
    }
    vouch_proto_message_release(&again);
    vouch_buffer_unref(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const ProtobufCMessageDescriptor *const types[] = {
        &sample__flat__descriptor, &sample__everything__descriptor, &strict__required__descriptor,
        &sample__nothing__descriptor};
    if (size < 1)
        return 0;
    const ProtobufCMessageDescriptor *type = types[*data++ % 4];
    size--;

    struct vouch_pool *pool;
    struct vouch_proto_message message;
    struct vouch_error error = {0};
    check(vouch_pool_new(NULL, &pool) == 0);
    int scanned = proto_scan(type, data, size, NULL);
    int r = vouch_proto_unpack(pool, type, data, size, &message, &error);
    check(r == 0 || (r == error.code && error.message[0] != '\0'));
    check(r == 0 || r == -EPROTO || r == -EMSGSIZE);
    check(scanned == 0 || scanned == r);
    check(r != -EPROTO || scanned != 0 || type == types[1] || type == types[2]);
    check_memory(pool, size);
    if (r == 0)
        check_message(pool, message.message);
    vouch_proto_message_release(&message);
    vouch_pool_unref(pool);
    return 0;
}
