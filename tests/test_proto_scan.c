/* SPDX-License-Identifier: MIT */
/* Bytes by hand, each with what is said about them. Numbers of fields are those of
 * proto/sample.proto. */
#include "stream/proto_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/proto.h>

#include "tests/harness.h"
#include "tests/proto_support.h"
#include "tests/support.h"

struct row {
    const char *hex;
    int result;
    const char *why; /* part of the text */
};

/* In memory of exactly that size, so that a sanitizer sees a byte too many. */
static int scan(const uint8_t *bytes, size_t size, struct vouch_error *error) {
    uint8_t *exact = size > 0 ? malloc(size) : NULL;
    if (size > 0)
        memcpy(exact, bytes, size);
    error->message[0] = '\0';
    int r = proto_scan(&sample__everything__descriptor, exact, size, error);
    cr_assert_eq(proto_scan(&sample__everything__descriptor, exact, size, NULL), r);
    free(exact);
    return r;
}

static void check(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[256];
        struct vouch_error error;
        int r = scan(bytes, support_unhex(rows[i].hex, bytes, sizeof(bytes)), &error);
        cr_assert_eq(r, rows[i].result, "%s: %d %s", rows[i].hex, r, error.message);
        if (rows[i].why)
            cr_assert_not_null(strstr(error.message, rows[i].why), "%s: %s", rows[i].hex,
                               error.message);
        if (r < 0)
            cr_assert_eq(error.code, r);
    }
}
#define CHECK(rows) check(rows, sizeof(rows) / sizeof((rows)[0]))

Test(proto_scan, keys) {
    static const struct row rows[] = {
        {"", 0, NULL},
        {"0801", 0, NULL},
        {"888000"
         "01",
         0, NULL}, /* a key longer than need be */
        {"8880808000"
         "01",
         0, NULL}, /* five bytes */
        {"888080808000"
         "01",
         -EPROTO, "too long"}, /* six */
        {"0001", -EPROTO, "byte 1: there is no field number 0"},
        {"808080801001", -EPROTO, "there is no field number 536870912"},
        {"f8ffffff0f01", 0, NULL}, /* 2^29 - 1 */
        {"ffffffff7f", -EPROTO, "there is no field number"},
        {"88", -EPROTO, "cut off"},
        {"0b", -EPROTO, "wire type 3"}, /* groups */
        {"0c", -EPROTO, "wire type 4"},
        {"a3060b", -EPROTO, "field 100 has wire type 3, a group or unknown"},
        {"a6060b", -EPROTO, "wire type 6"},
        {"a7060b", -EPROTO, "wire type 7"},
    };
    CHECK(rows);
}

Test(proto_scan, numbers) {
    static const struct row rows[] = {
        {"08", -EPROTO, "byte 1: a number is cut off"},
        {"0880", -EPROTO, "cut off"},
        {"08ffffffffffffffffff01", 0, NULL},             /* ten bytes, 64 bits */
        {"08ffffffffffffffffff02", -EPROTO, "too long"}, /* the 65th bit */
        {"08ffffffffffffffffff8100", -EPROTO, "too long"},
        {"0880808080808080808000", 0, NULL}, /* zero in ten bytes */
        {"2d01000000", 0, NULL},             /* fixed32 */
        {"2d010000", -EPROTO, "cut off"},
        {"310100000000000000", 0, NULL}, /* sfixed64 */
        {"3101000000000000", -EPROTO, "cut off"},
        {"a10601000000000000", -EPROTO, "cut off"}, /* of an unknown field */
        {"a50601000000", 0, NULL},
        {"a506010000", -EPROTO, "cut off"},
        {"0d01000000", -EPROTO, "'i32' (field 1) does not have wire type 5"},
        {"0a0101", -EPROTO, "'i32' (field 1) does not have wire type 2"}, /* one, not a list */
        {"2801", -EPROTO, "'f32'"},
        {"5801", -EPROTO, "'text'"},
    };
    CHECK(rows);
}

Test(proto_scan, lengths) {
    static const struct row rows[] = {
        {"6200", 0, NULL}, /* bytes */
        {"6201", -EPROTO, "field 12 of 1 bytes is cut off"},
        {"620178", 0, NULL},
        {"628080808000", 0, NULL}, /* five bytes of length */
        {"62808080808000", -EPROTO, "too long"},
        {"62ffffffff0f78", -EPROTO, "4294967295 bytes is cut off"},
        {"62ffffffffffffffffff01", -EPROTO, "too long"},
        {"62", -EPROTO, "cut off"},
        {"a20603000000", 0, NULL}, /* what is unknown is not looked into */
        {"a20604000000", -EPROTO, "field 100"},
        {"6a020801", 0, NULL}, /* a message … */
        {"6a0208", -EPROTO, "cut off"},
        {"6a0108", -EPROTO, "cut off"}, /* … whose field goes beyond its end */
        {"6a0108"
         "01",
         -EPROTO, "byte 3: a number is cut off"},
        {"6a0462"
         "05"
         "6161",
         -EPROTO, "field 12 of 5 bytes"},
        {"ba01050a016b1001", 0, NULL}, /* an entry of a map */
        {"ba01050a01ff1001", -EPROTO, "'key' is not UTF-8"},
    };
    CHECK(rows);
}

Test(proto_scan, strings) {
    static const struct row rows[] = {
        {"5a00", 0, NULL},
        {"5a0161", 0, NULL},
        {"5a0100", -EPROTO, "byte 2: 'text' has a NUL in it"},
        {"5a03610062", -EPROTO, "NUL"},
        {"5a0161"
         "5a0100",
         -EPROTO, "byte 5"},
        {"5a02c3b6", 0, NULL},
        {"5a01c3", -EPROTO, "'text' is not UTF-8"},
        {"5a03eda080", -EPROTO, "UTF-8"}, /* a surrogate */
        {"5a02c080", -EPROTO, "UTF-8"},   /* overlong */
        {"7a01ff", -EPROTO, "'words'"},
        {"c20101"
         "ff",
         -EPROTO, "'name'"},
        {"6202ff00", 0, NULL}, /* bytes may be anything */
        {"a206025a00", 0, NULL},
    };
    CHECK(rows);
}

Test(proto_scan, lists) {
    static const struct row rows[] = {
        {"820100", 0, NULL}, /* packed int32 */
        {"82010301ac02", 0, NULL},
        {"82010201ac", -EPROTO, "cut off"},
        {"82010bffffffffffffffffff8100", -EPROTO, "too long"},
        {"800105", 0, NULL}, /* declared packed, sent one by one */
        {"8a010401000000", 0, NULL},
        {"8a010501000000"
         "02",
         -EPROTO, "the last number of 'packed_fixed' is cut off"},
        {"8d0101000000", 0, NULL},
        {"9201080000000000000000", 0, NULL},
        {"92010400000000", -EPROTO, "packed_real"},
        {"9a0103010001", 0, NULL},
        {"9a0103010201", -EPROTO, "'packed_bool' is neither true nor false"},
        {"9a01028001", -EPROTO, "neither"},
        {"980105", 0, NULL},
        {"a2010301ac02", 0, NULL}, /* declared one by one, sent packed */
        {"aa01020001", 0, NULL},   /* enums */
    };
    CHECK(rows);
}

Test(proto_scan, what_protobuf_c_packs_is_taken) {
    for (unsigned which = 0; which < 2; which++) {
        const ProtobufCMessage *message = &proto_support_message(which)->base;
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *bytes = malloc(size);
        struct vouch_error error;
        protobuf_c_message_pack(message, bytes);
        cr_assert_eq(scan(bytes, size, &error), 0, "%s", error.message);
        free(bytes);
    }
}

Test(proto_scan, every_message_that_is_cut_off_is_refused_or_whole) {
    const ProtobufCMessage *message = &proto_support_message(0)->base;
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(size);
    struct vouch_error error;
    protobuf_c_message_pack(message, bytes);
    for (size_t cut = 0; cut < size; cut++) {
        int scanned = scan(bytes, cut, &error);
        ProtobufCMessage *unpacked =
            protobuf_c_message_unpack(&sample__everything__descriptor, NULL, cut, bytes);
        cr_assert_eq(scanned == 0, unpacked != NULL, "%zu: %s", cut, error.message);
        if (unpacked)
            protobuf_c_message_free_unpacked(unpacked, NULL);
    }
    free(bytes);
}

/* ---- limits ---- */

static int scan_nested(unsigned depth) {
    uint8_t *bytes;
    struct vouch_error error;
    size_t size = proto_support_nest(depth, &bytes);
    int r = scan(bytes, size, &error);
    if (r < 0)
        cr_assert_not_null(strstr(error.message, "nest deeper than 48"));
    free(bytes);
    return r;
}

Test(proto_scan, depth_at_the_limit_and_one_past) {
    cr_assert_eq(scan_nested(VOUCH_PROTO_DEPTH_MAX), 0);
    cr_assert_eq(scan_nested(VOUCH_PROTO_DEPTH_MAX + 1), -EMSGSIZE);
    cr_assert_eq(scan_nested(20000), -EMSGSIZE);
}

/* The way back counts as well: ten children one after the other are not ten deep. */
Test(proto_scan, depth_is_not_breadth) {
    uint8_t bytes[3 * 60];
    struct vouch_error error;
    for (size_t i = 0; i < sizeof(bytes); i += 3)
        memcpy(bytes + i, "\x72\x01", 3); /* field 14 with one byte … */
    for (size_t i = 2; i < sizeof(bytes); i += 3)
        bytes[i] = 0x08;
    cr_assert_eq(scan(bytes, sizeof(bytes), &error), -EPROTO);
    for (size_t i = 0; i < sizeof(bytes); i += 3)
        memcpy(bytes + i, "\x72\x00\x72", 2);
    size_t size = 0;
    for (size_t i = 0; i < 60; i++, size += 2)
        memcpy(bytes + size, "\x72\x00", 2);
    cr_assert_eq(scan(bytes, size, &error), 0, "%s", error.message);
}

static int scan_deep(void *context) {
    (void)context;
    return scan_nested(20000);
}

static int scan_at_limit(void *context) {
    (void)context;
    return scan_nested(VOUCH_PROTO_DEPTH_MAX);
}

Test(proto_scan, small_stacks_are_enough) {
    cr_assert_eq(proto_support_on_small_stack(scan_deep, NULL), -EMSGSIZE);
    cr_assert_eq(proto_support_on_small_stack(scan_at_limit, NULL), 0);
}

static int scan_fields(size_t count) {
    uint8_t *bytes = malloc(2 * count);
    struct vouch_error error;
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + 2 * i, "\x08\x01", 2);
    int r = proto_scan(&sample__everything__descriptor, bytes, 2 * count, &error);
    if (r < 0)
        cr_assert_not_null(strstr(error.message, "more than 262144 fields"));
    free(bytes);
    return r;
}

Test(proto_scan, fields_at_the_limit_and_one_past) {
    cr_assert_eq(scan_fields(VOUCH_PROTO_FIELDS_MAX), 0);
    cr_assert_eq(scan_fields(VOUCH_PROTO_FIELDS_MAX + 1), -EMSGSIZE);
}

Test(proto_scan, a_packed_list_is_one_field) {
    size_t count = VOUCH_PROTO_FIELDS_MAX + 10;
    uint8_t *bytes = calloc(1, count + 8);
    struct vouch_error error;
    memcpy(bytes, "\x82\x01\x8a\x80\x10", 5);
    cr_assert_eq(proto_scan(&sample__everything__descriptor, bytes, count + 5, &error), 0, "%s",
                 error.message);
    free(bytes);
}

/* ---- chance: what is let through protobuf-c takes whole ---- */

Test(proto_scan, what_is_let_through_protobuf_c_takes) {
    struct support_random random;
    support_random_init(&random);
    const ProtobufCMessage *message = &proto_support_flat()->base;
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(size);
    unsigned taken = 0;
    for (int i = 0; i < VOUCH_TEST_ROUNDS(50000, 500); i++) {
        protobuf_c_message_pack(message, bytes);
        for (uint64_t n = 1 + support_random_below(&random, 3); n-- > 0;)
            bytes[support_random_below(&random, size)] = (uint8_t)support_random_next(&random);
        if (proto_scan(message->descriptor, bytes, size, NULL) != 0)
            continue;
        ProtobufCMessage *unpacked =
            protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
        cr_assert_not_null(unpacked);
        protobuf_c_message_free_unpacked(unpacked, NULL);
        taken++;
    }
    cr_assert_gt(taken, 0);
    free(bytes);
}
