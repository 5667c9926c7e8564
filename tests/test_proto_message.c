/* SPDX-License-Identifier: MIT */
#include "stream/proto_message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/strict.pb-c.h"
#include "stream/proto_arena.h"
#include "tests/harness.h"
#include "tests/proto_support.h"
#include "tests/support.h"

static struct vouch_pool *pool;
static struct support_allocator allocator;

static void begin(void) {
    support_baseline_begin();
    support_allocator_init(&allocator);
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = &allocator.allocator};
    cr_assert_eq(vouch_pool_new(&options, &pool), 0);
}

static void end(void) {
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(pool, &stats);
    cr_assert_eq(stats.buffers_out, 0);
    vouch_pool_unref(pool);
    support_allocator_check(&allocator);
    support_baseline_end();
}

static uint8_t *packed(const ProtobufCMessage *message, size_t *ret_size) {
    *ret_size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(*ret_size);
    protobuf_c_message_pack(message, bytes);
    return bytes;
}

static int unpack(const ProtobufCMessageDescriptor *descriptor, const void *bytes, size_t size,
                  struct vouch_proto_message *ret_message, const char *why) {
    struct vouch_error error = {0};
    int r = vouch_proto_unpack(pool, descriptor, bytes, size, ret_message, &error);
    if (r < 0) {
        cr_assert_eq(error.code, r);
        cr_assert_null(ret_message->message);
        cr_assert_null(ret_message->memory);
    }
    if (why)
        cr_assert_not_null(strstr(error.message, why), "%s", error.message);
    vouch_proto_message_release(ret_message);
    cr_assert_eq(vouch_proto_unpack(pool, descriptor, bytes, size, ret_message, NULL), r);
    return r;
}

Test(proto_message, there_and_back) {
    begin();
    for (unsigned which = 0; which < 2; which++) {
        const ProtobufCMessage *message = &proto_support_message(which)->base;
        struct vouch_proto_message unpacked, once;
        size_t size;
        uint8_t *bytes = packed(message, &size);
        cr_assert_eq(vouch_proto_unpack(pool, message->descriptor, bytes, size, &once, NULL), 0);
        vouch_proto_message_release(&once);
        vouch_proto_message_release(&once);
        cr_assert_eq(vouch_proto_unpack(pool, message->descriptor, bytes, size, &unpacked, NULL),
                     0);
        memset(bytes, 0xff, size); /* the message has its own copy */
        free(bytes);
        proto_support_assert_same(unpacked.message, message);
        vouch_proto_message_release(&unpacked);
    }
    end();
}

Test(proto_message, nothing_is_a_message_of_defaults) {
    struct vouch_proto_message message;
    begin();
    cr_assert_eq(vouch_proto_unpack(pool, &sample__everything__descriptor, NULL, 0, &message, NULL),
                 0);
    cr_assert_eq(((Sample__Everything *)message.message)->i32, 0);
    cr_assert_str_eq(((Sample__Everything *)message.message)->text, "");
    vouch_proto_message_release(&message);
    cr_assert_eq(vouch_proto_unpack(pool, &sample__nothing__descriptor, NULL, 0, &message, NULL),
                 0);
    vouch_proto_message_release(&message);
    end();
}

Test(proto_message, unknown_fields_are_kept) {
    struct vouch_proto_message message;
    begin();
    cr_assert_eq(vouch_proto_unpack(pool, &sample__nothing__descriptor, "\x0a\x02hi\x10\x05", 6,
                                    &message, NULL),
                 0);
    cr_assert_eq(message.message->n_unknown_fields, 2);
    cr_assert_eq(protobuf_c_message_get_packed_size(message.message), 6);
    vouch_proto_message_release(&message);
    end();
}

Test(proto_message, refusals) {
    struct vouch_proto_message message;
    uint8_t *deep;
    begin();
    cr_assert_eq(unpack(&sample__everything__descriptor, "\x5a\x01\xff", 3, &message,
                        "sample.Everything, byte 2: 'text' is not UTF-8"),
                 -EPROTO);
    size_t size = proto_support_nest(VOUCH_PROTO_DEPTH_MAX + 1, &deep);
    cr_assert_eq(unpack(&sample__everything__descriptor, deep, size, &message, "nest"), -EMSGSIZE);
    free(deep);
    cr_assert_eq(vouch_proto_unpack(pool, &sample__everything__descriptor, "x",
                                    VOUCH_CHUNK_SIZE_BOUND + 1, &message, NULL),
                 -EMSGSIZE, "not looked at");
    end();
}

Test(proto_message, a_required_field_must_be_there) {
    struct vouch_proto_message message;
    begin();
    cr_assert_eq(unpack(&strict__required__descriptor, "\x08\x01", 2, &message, "required"),
                 -EPROTO);
    cr_assert_eq(unpack(&strict__required__descriptor, "\x08\x01\x12\x01x", 5, &message, NULL), 0);
    cr_assert_str_eq(((Strict__Required *)message.message)->note, "none");
    vouch_proto_message_release(&message);
    /* UTF-8 is asked for in proto2 too. */
    cr_assert_eq(unpack(&strict__required__descriptor, "\x08\x01\x12\x01\xff", 5, &message, "UTF"),
                 -EPROTO);
    end();
}

/* 2 bytes each, that take 200 of memory and more. */
Test(proto_message, many_small_things_are_over_the_budget) {
    struct vouch_proto_message message;
    size_t count = 100000;
    uint8_t *bytes = malloc(2 * count);
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + 2 * i, "\x72", 2);
    begin();
    cr_assert_eq(unpack(&sample__everything__descriptor, bytes, 2 * count, &message, "memory"),
                 -EMSGSIZE);
    uint64_t live = atomic_load(&allocator.live_bytes);
    cr_assert_lt(live, 2 * proto_arena_budget(2 * count) + 1024 * 1024, "%llu",
                 (unsigned long long)live);
    cr_assert_eq(unpack(&sample__everything__descriptor, bytes, 200, &message, NULL), 0);
    vouch_proto_message_release(&message);
    free(bytes);
    end();
}

Test(proto_message, sixteen_mebibytes_of_bytes) {
    struct vouch_proto_message message;
    Sample__Blob blob = SAMPLE__BLOB__INIT;
    size_t size;
    begin();
    blob.data.len = (size_t)16 * 1024 * 1024;
    blob.data.data = calloc(1, blob.data.len);
    uint8_t *bytes = packed(&blob.base, &size);
    cr_assert_eq(vouch_proto_unpack(pool, &sample__blob__descriptor, bytes, size, &message, NULL),
                 0);
    cr_assert_eq(((Sample__Blob *)message.message)->data.len, blob.data.len);
    vouch_proto_message_release(&message);
    free(bytes);
    free(blob.data.data);
    end();
}

static int unpack_at_limit(void *context) {
    uint8_t *bytes;
    struct vouch_proto_message message;
    (void)context;
    size_t size = proto_support_nest(VOUCH_PROTO_DEPTH_MAX, &bytes);
    int r = vouch_proto_unpack(pool, &sample__everything__descriptor, bytes, size, &message, NULL);
    vouch_proto_message_release(&message);
    free(bytes);
    return r;
}

static int unpack_deep(void *context) {
    uint8_t *bytes;
    struct vouch_proto_message message;
    (void)context;
    size_t size = proto_support_nest(20000, &bytes);
    int r = vouch_proto_unpack(pool, &sample__everything__descriptor, bytes, size, &message, NULL);
    free(bytes);
    return r;
}

Test(proto_message, twenty_thousand_deep_is_refused_also_on_a_small_stack) {
    begin();
    cr_assert_eq(unpack_deep(NULL), -EMSGSIZE);
    cr_assert_eq(proto_support_on_small_stack(unpack_deep, NULL), -EMSGSIZE);
    cr_assert_eq(proto_support_on_small_stack(unpack_at_limit, NULL), 0);
    end();
}

Test(proto_message, each_allocation_may_fail) {
    const ProtobufCMessage *message = &proto_support_message(0)->base;
    struct vouch_proto_message unpacked;
    size_t size;
    uint8_t *bytes = packed(message, &size);
    begin();
    int r;
    uint64_t n = 0;
    do {
        struct vouch_error error = {0};
        vouch_pool_trim(pool);
        support_allocator_fail(&allocator, ++n, SUPPORT_FAIL_ONCE);
        r = vouch_proto_unpack(pool, message->descriptor, bytes, size, &unpacked, &error);
        if (r < 0)
            cr_assert_eq(error.code, -ENOMEM);
        vouch_proto_message_release(&unpacked);
    } while (r == -ENOMEM);
    cr_assert_eq(r, 0);
    cr_assert_gt(n, 1);
    support_allocator_fail(&allocator, 0, 0);
    free(bytes);
    end();
}

/* ---- packing ---- */

Test(proto_message, packs_at_the_end_of_a_buffer) {
    const ProtobufCMessage *message = &proto_support_message(0)->base;
    struct vouch_buffer *buffer;
    size_t size;
    uint8_t *bytes = packed(message, &size);
    begin();
    cr_assert_eq(vouch_pool_get(pool, 0, size + 1, &buffer), 0);
    buffer->data[0] = 'x';
    buffer->size = 1;
    cr_assert_eq(proto_pack(message, size, buffer, NULL), 0);
    cr_assert_eq(buffer->size, size + 1);
    cr_assert_eq(memcmp(buffer->data + 1, bytes, size), 0);
    vouch_buffer_unref(buffer);
    free(bytes);
    end();
}

Test(proto_message, a_message_of_another_size_than_it_said) {
    const ProtobufCMessage *message = &proto_support_message(0)->base;
    size_t size = protobuf_c_message_get_packed_size(message);
    struct vouch_buffer *buffer;
    struct vouch_error error;
    begin();
    cr_assert_eq(vouch_pool_get(pool, 0, size + 1, &buffer), 0);
    cr_assert_eq(proto_pack(message, size + 1, buffer, &error), -EINVAL);
    cr_assert_not_null(strstr(error.message, "changed"));
    cr_assert_eq(buffer->size, 0);
    vouch_buffer_unref(buffer);
    end();
}
