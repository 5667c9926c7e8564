/* SPDX-License-Identifier: MIT */
/*
 * The envelope, held against the code that protobuf-c generates from proto/payload.proto: the same
 * bytes out, the same messages and fields in.
 *
 * Where the two differ it is on purpose, and always the same way: ours is as Go's decoder, which is
 * the peer. protobuf-c takes a varint of more than 64 bits, a field number 0 in a long tag and one
 * over 2^29 - 1, which are malformed; it refuses tags and lengths in more than five bytes, which
 * are not. Neither looks at UTF-8, both refuse groups. protobuf-c's strings end at a NUL.
 */
#include "rpc/envelope.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/chunk.h>

#include "proto/payload.pb-c.h"
#include "rpc/session.h"
#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

#define RANDOM_MESSAGES VOUCH_TEST_ROUNDS(250000, 5000)

static struct vouch_pool *pool;

static void begin(void) {
    support_baseline_begin();
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
}

static void end(void) {
    vouch_pool_unref(pool);
    support_baseline_end();
}

/* ---- decoding by hand-made bytes ---- */

static int decode(const void *bytes, size_t size, struct envelope *ret_envelope) {
    return envelope_decode(bytes, size, ret_envelope);
}
#define DECODE(text, e) decode("" text, sizeof("" text) - 1, (e))

Test(envelope, nothing_is_a_message_without_fields) {
    struct envelope e = {.id = 7};
    cr_assert_eq(envelope_decode(NULL, 0, &e), 0);
    cr_assert_eq(e.id, 0);
    cr_assert_null(e.method);
    cr_assert_null(e.data);
}

Test(envelope, every_field_is_read) {
    struct envelope e;
    cr_assert_eq(DECODE("\x08\x07\x10\x05\x1a\x02/m\x22\x03"
                        "abc\x28\x04\x32\x03"
                        "bad\x38\x07\x40\x06\x48\x02\x50\x80\x20",
                        &e),
                 0);
    cr_assert_eq(e.id, 7);
    cr_assert_eq(e.expires, 5);
    cr_assert_eq(e.method_size, 2);
    cr_assert_arr_eq(e.method, "/m", 2);
    cr_assert_eq(e.data_size, 3);
    cr_assert_arr_eq(e.data, "abc", 3);
    cr_assert_eq(e.error_type, 4);
    cr_assert_eq(e.error_size, 3);
    cr_assert_arr_eq(e.error, "bad", 3);
    cr_assert_eq(e.client_features, 7);
    cr_assert_eq(e.server_features, 6);
    cr_assert_eq(e.control, 2);
    cr_assert_eq(e.max_message, 4096);
}

Test(envelope, any_order_and_the_last_one_counts) {
    struct envelope e;
    cr_assert_eq(DECODE("\x22\x01y\x08\x01\x22\x02xx\x08\x02", &e), 0);
    cr_assert_eq(e.id, 2);
    cr_assert_eq(e.data_size, 2);
    cr_assert_arr_eq(e.data, "xx", 2);
}

Test(envelope, numbers_at_their_ends) {
    struct envelope e;
    cr_assert_eq(DECODE("\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", &e), 0);
    cr_assert_eq(e.expires, INT64_MIN);
    cr_assert_eq(DECODE("\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f", &e), 0);
    cr_assert_eq(e.expires, INT64_MAX);
    cr_assert_eq(DECODE("\x08\xff\xff\xff\xff\x0f", &e), 0);
    cr_assert_eq(e.id, UINT32_MAX);
    /* A uint32 keeps the low bits of what is longer. */
    cr_assert_eq(DECODE("\x08\x81\x80\x80\x80\x10", &e), 0);
    cr_assert_eq(e.id, 1);
}

Test(envelope, unknown_fields_are_skipped) {
    struct envelope e;
    /* 11 varint, 12 fixed64, 13 bytes, 14 fixed32, and the largest number there is. */
    cr_assert_eq(DECODE("\x58\xff\x01\x61"
                        "12345678\x6a\x02zz\x75"
                        "1234\xf8\xff\xff\xff\x0f\x01\x08\x09",
                        &e),
                 0);
    cr_assert_eq(e.id, 9);
}

/* Forms of the same that Go takes and so do we. */
Test(envelope, lengths_and_tags_need_not_be_minimal) {
    struct envelope e;
    cr_assert_eq(DECODE("\x88\x80\x80\x80\x80\x80\x00\x07", &e), 0);
    cr_assert_eq(e.id, 7);
    cr_assert_eq(DECODE("\x1a\x81\x80\x80\x80\x80\x80\x00m", &e), 0);
    cr_assert_eq(e.method_size, 1);
}

struct malformed {
    const char *what, *bytes;
    size_t size;
};
#define MALFORMED(what, bytes)                                                                     \
    { what, bytes, sizeof(bytes) - 1 }

static const struct malformed malformed[] = {
    MALFORMED("field 0", "\x00\x01"),
    MALFORMED("field 0 in a long tag", "\x80\x00\x01"),
    MALFORMED("a number without its value", "\x08"),
    MALFORMED("a number cut off", "\x08\x80"),
    MALFORMED("a number of 65 bits", "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
    MALFORMED("a number of eleven bytes", "\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
    MALFORMED("a tag cut off", "\x88"),
    MALFORMED("a tag of 65 bits", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00"),
    MALFORMED("a field number of 30 bits", "\x80\x80\x80\x80\x10\x01"),
    MALFORMED("a length one too long", "\x22\x02x"),
    MALFORMED("a length cut off", "\x22\x80"),
    MALFORMED("a length near 2^64", "\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"),
    MALFORMED("an unknown length one too long", "\x6a\x02x"),
    MALFORMED("fixed64 cut off", "\x61\x31\x32\x33\x34\x35\x36\x37"),
    MALFORMED("fixed32 cut off", "\x75\x31\x32\x33"),
    MALFORMED("a group", "\x5b\x5c"),
    MALFORMED("the end of a group", "\x5c"),
    MALFORMED("wire type 6", "\x5e\x01"),
    MALFORMED("wire type 7", "\x5f\x01"),
    MALFORMED("id as bytes", "\x0a\x01x"),
    MALFORMED("id as fixed32", "\x0d\x31\x32\x33\x34"),
    MALFORMED("deadline as fixed64", "\x11\x31\x32\x33\x34\x35\x36\x37\x38"),
    MALFORMED("method as a number", "\x18\x01"),
    MALFORMED("data as a number", "\x20\x01"),
    MALFORMED("error type as bytes", "\x2a\x01x"),
    MALFORMED("error as a number", "\x30\x01"),
    MALFORMED("client features as bytes", "\x3a\x01x"),
    MALFORMED("server features as bytes", "\x42\x01x"),
    MALFORMED("control as bytes", "\x4a\x01x"),
    MALFORMED("maximum as bytes", "\x52\x01x"),
    MALFORMED("rubbish behind", "\x08\x01\x07"),
};

Test(envelope, malformed_ones_are_refused_and_write_nothing) {
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        struct envelope e = {.id = 4711};
        cr_assert_eq(decode(malformed[i].bytes, malformed[i].size, &e), -EPROTO, "%s",
                     malformed[i].what);
        cr_assert_eq(e.id, 4711, "%s", malformed[i].what);
    }
}

Test(envelope, the_head_is_read_as_far_as_it_goes) {
    static const uint8_t whole[] = "\x08\x07\x10\x05\x1a\x02/m\x22\x7f"
                                   "abc";
    for (size_t size = 0; size < sizeof(whole); size++) {
        struct envelope e = {.id = 1};
        envelope_decode_head(whole, size, &e);
        cr_assert_eq(e.id, size >= 2 ? 7 : 0);
        cr_assert_eq(e.expires, size >= 4 ? 5 : 0);
        cr_assert_eq(e.method_size, size >= 8 ? 2 : 0);
        cr_assert_eq(e.data_size, 0);
    }
    struct envelope e;
    envelope_decode_head(NULL, 0, &e);
    cr_assert_eq(e.id, 0);
}

/* ---- against protobuf-c ---- */

static bool same_text(const char *theirs, const char *ours, size_t size) {
    size_t length = ours ? strnlen(ours, size) : 0;
    return strlen(theirs) == length && (length == 0 || memcmp(theirs, ours, length) == 0);
}

static void check_fields(const Vouch__Payload *p, const struct envelope *e) {
    cr_assert_eq(p->id, e->id);
    cr_assert_eq(p->exp_unix_nano, e->expires);
    cr_assert(same_text(p->method, e->method, e->method_size));
    cr_assert_eq(p->data.len, e->data_size);
    cr_assert(p->data.len == 0 || memcmp(p->data.data, e->data, p->data.len) == 0);
    cr_assert_eq(p->err_type, e->error_type);
    cr_assert(same_text(p->err, e->error, e->error_size));
    cr_assert_eq(p->client_features, e->client_features);
    cr_assert_eq(p->server_features, e->server_features);
    cr_assert_eq(p->control, e->control);
    cr_assert_eq(p->max_message, e->max_message);
}

/* What makes the two differ, in the first field that has it. */
enum difference {
    NO_DIFFERENCE,
    ONLY_THEY_TAKE_IT,
    ONLY_WE_TAKE_IT, /* this field; what comes behind may yet be malformed */
};

struct scan {
    const uint8_t *at, *end;
    uint64_t value;
    size_t size;   /* of the varint */
    bool overflow; /* of 64 bits */
};

static bool scan_varint(struct scan *s) {
    s->value = s->size = 0;
    s->overflow = false;
    while (s->at < s->end && s->size < 10) {
        uint8_t byte = *s->at++;
        s->value |= (uint64_t)(byte & 0x7f) << (7 * s->size);
        s->overflow = s->size == 9 && byte > 1;
        s->size++;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static enum difference scan_field(struct scan *s, bool *ret_end) {
    *ret_end = true;
    if (!scan_varint(s))
        return NO_DIFFERENCE;
    uint64_t number = s->value >> 3, type = s->value & 7;
    if (s->size > 5)
        return number > 0 && number < 1u << 29 && !s->overflow ? ONLY_WE_TAKE_IT : NO_DIFFERENCE;
    if ((number == 0 && s->size > 1) || number >= 1u << 29)
        return ONLY_THEY_TAKE_IT;
    if (number == 0 || (type != 1 && type != 5 && !scan_varint(s)))
        return NO_DIFFERENCE;
    if (type == 0 && s->overflow)
        return ONLY_THEY_TAKE_IT;
    if (type == 2 && s->size > 5)
        return ONLY_WE_TAKE_IT;
    size_t skip = type == 1 ? 8 : type == 5 ? 4 : type == 2 ? (size_t)s->value : 0;
    if (skip > (size_t)(s->end - s->at))
        return NO_DIFFERENCE;
    s->at += skip;
    *ret_end = false;
    return NO_DIFFERENCE;
}

static enum difference find_difference(const uint8_t *bytes, size_t size) {
    struct scan s = {.at = bytes, .end = bytes + size};
    enum difference difference = NO_DIFFERENCE;
    bool end = false;
    while (!end && s.at < s.end)
        difference = scan_field(&s, &end);
    return difference;
}

struct tally {
    unsigned accepted, refused, different;
};

/* On an allocation of exactly the size, so that a sanitizer sees reading past it. */
static void compare(const uint8_t *bytes, size_t size, struct tally *tally) {
    struct envelope e;
    uint8_t *exact = size > 0 ? malloc(size) : NULL;
    if (exact)
        memcpy(exact, bytes, size);
    int ours = envelope_decode(exact, size, &e);
    Vouch__Payload *theirs = vouch__payload__unpack(NULL, size, bytes);
    switch (find_difference(bytes, size)) {
    case ONLY_THEY_TAKE_IT:
        cr_assert_eq(ours, -EPROTO);
        tally->different++;
        break;
    case ONLY_WE_TAKE_IT:
        cr_assert_null(theirs);
        tally->different++;
        break;
    case NO_DIFFERENCE:
        cr_assert_eq(ours, theirs ? 0 : -EPROTO);
        if (theirs)
            check_fields(theirs, &e);
        tally->accepted += ours == 0;
        tally->refused += ours != 0;
        break;
    }
    if (theirs)
        vouch__payload__free_unpacked(theirs, NULL);
    free(exact);
}

static uint64_t random_number(struct support_random *random) {
    return support_random_next(random) >> support_random_below(random, 64);
}

static void random_text(struct support_random *random, struct wire *wire, unsigned field) {
    uint8_t bytes[300];
    size_t size = support_random_below(random, support_random_below(random, 8) ? 12 : 300);
    support_random_fill(random, bytes, size);
    wire_bytes(wire, field, bytes, size);
}

/* A field that is right, mostly. */
static void random_field(struct support_random *random, struct wire *wire) {
    unsigned field = 1 + (unsigned)support_random_below(random, 12);
    bool text = field == 3 || field == 4 || field == 6 || field == 11;
    if (support_random_below(random, 64) == 0)
        text = !text;
    if (text)
        random_text(random, wire, field);
    else
        wire_number(wire, field, random_number(random));
}

static void mutate(struct support_random *random, struct wire *wire) {
    for (uint64_t i = support_random_below(random, 4); i > 0 && wire->size > 0; i--) {
        size_t at = support_random_below(random, wire->size);
        switch (support_random_below(random, 4)) {
        case 0:
            wire->bytes[at] ^= (uint8_t)(1 << support_random_below(random, 8));
            break;
        case 1:
            wire->bytes[at] = (uint8_t)support_random_next(random);
            break;
        case 2:
            wire->size = at;
            break;
        default:
            memmove(wire->bytes + at, wire->bytes + at + 1, wire->size - at - 1);
            wire->size--;
            break;
        }
    }
}

Test(envelope, random_messages_decode_as_with_protobuf_c, .timeout = 300) {
    struct support_random random;
    struct tally tally = {0};
    support_random_init(&random);
    for (int i = 0; i < RANDOM_MESSAGES; i++) {
        struct wire wire;
        wire.size = 0;
        if (support_random_below(&random, 8) == 0) {
            wire.size = support_random_below(&random, 24);
            support_random_fill(&random, wire.bytes, wire.size);
        } else {
            for (uint64_t n = support_random_below(&random, 7); n > 0; n--)
                random_field(&random, &wire);
            if (support_random_below(&random, 2) == 0)
                mutate(&random, &wire);
        }
        compare(wire.bytes, wire.size, &tally);
    }
    cr_log_info("%u taken, %u refused, %u taken by one", tally.accepted, tally.refused,
                tally.different);
    cr_assert_gt(tally.accepted, RANDOM_MESSAGES / 4);
    cr_assert_gt(tally.refused, RANDOM_MESSAGES / 20);
    cr_assert_gt(tally.different, 0);
}

Test(envelope, malformed_ones_are_so_for_protobuf_c) {
    struct tally tally = {0};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
        compare((const uint8_t *)malformed[i].bytes, malformed[i].size, &tally);
    cr_assert_eq(tally.accepted, 0);
}

/* ---- encoding ---- */

static struct vouch_buffer *wrap(const struct envelope *e) {
    struct vouch_buffer *buffer;
    cr_assert_eq(session_buffer(pool, e->data_size + e->error_size, &buffer), 0);
    if (e->data_size > 0)
        memcpy(buffer->data, e->data, e->data_size);
    buffer->size = e->data_size;
    envelope_wrap(buffer, e);
    return buffer;
}

/* `text` has to be NUL-terminated, as protobuf-c wants it. */
static size_t pack(const struct envelope *e, uint8_t *ret_bytes, size_t room) {
    Vouch__Payload p = VOUCH__PAYLOAD__INIT;
    p.id = e->id;
    p.exp_unix_nano = e->expires;
    if (e->method_size > 0)
        p.method = (char *)(uintptr_t)e->method;
    p.data = (ProtobufCBinaryData){e->data_size, (uint8_t *)(uintptr_t)e->data};
    p.err_type = e->error_type;
    if (e->error_size > 0)
        p.err = (char *)(uintptr_t)e->error;
    p.client_features = e->client_features;
    p.server_features = e->server_features;
    p.control = e->control;
    p.max_message = e->max_message;
    cr_assert_leq(vouch__payload__get_packed_size(&p), room);
    return vouch__payload__pack(&p, ret_bytes);
}

static void check_encoding(const struct envelope *e) {
    uint8_t header[VOUCH_CHUNK_HEADER_MAX];
    static uint8_t expected[8192];
    /* The additions come before the body: what is in front of it is one message, the rest another.
     */
    struct envelope front = *e, rest = {0};
    front.data_size = front.error_type = 0;
    front.error_size = 0;
    rest.data = e->data;
    rest.data_size = e->data_size;
    rest.error_type = e->error_type;
    rest.error = e->error;
    rest.error_size = e->error_size;
    size_t size = pack(&front, expected, sizeof(expected));
    size += pack(&rest, expected + size, sizeof(expected) - size);
    size_t header_size = vouch_chunk_encode_header(size, header);
    struct vouch_buffer *buffer = wrap(e);
    cr_assert_eq(envelope_size(e, e->data_size), size);
    cr_assert_eq(buffer->size, header_size + size);
    cr_assert_arr_eq(buffer->data, header, header_size);
    cr_assert(size == 0 || memcmp(buffer->data + header_size, expected, size) == 0);
    vouch_buffer_unref(buffer);
}

static char long_text[2049];

/* Every subset of the fields, with small values and with the largest. */
Test(envelope, every_combination_of_fields_is_encoded_as_by_protobuf_c) {
    static const uint8_t body[3000] = {1, 2, 3};
    begin();
    memset(long_text, 'm', sizeof(long_text) - 1);
    for (unsigned fields = 0; fields < 1u << 10; fields++) {
        for (int large = 0; large <= 1; large++) {
            struct envelope e = {
                .id = fields & 1 ? (large ? UINT32_MAX : 1) : 0,
                .expires = fields & 2 ? (large ? -1 : 127) : 0,
                .method =
                    fields & 4 ? long_text + (large ? 2048 - ENVELOPE_METHOD_MAX : 2047) : NULL,
                .method_size = fields & 4 ? (large ? ENVELOPE_METHOD_MAX : 1) : 0,
                .data = fields & 8 ? body : NULL,
                .data_size = fields & 8 ? (large ? sizeof(body) : 1) : 0,
                .error_type = fields & 16 ? (large ? UINT32_MAX : 4) : 0,
                .error = fields & 32 ? long_text + (large ? 0 : 2046) : NULL,
                .error_size = fields & 32 ? (large ? 2048 : 2) : 0,
                .client_features = fields & 64 ? (large ? UINT64_MAX : 7) : 0,
                .server_features = fields & 128 ? (large ? UINT64_MAX : 7) : 0,
                .control = fields & 256 ? (large ? UINT32_MAX : 4) : 0,
                .max_message = fields & 512 ? (large ? UINT64_MAX : 128) : 0,
            };
            check_encoding(&e);
        }
    }
    end();
}

/* The widest envelope fits the room that is reserved, with not a byte to spare in front of a body
 * as large as any. */
Test(envelope, the_room_around_a_body_is_enough) {
    begin();
    memset(long_text, 'm', sizeof(long_text) - 1);
    struct envelope e = {
        .id = UINT32_MAX,
        .expires = INT64_MIN,
        .method = long_text,
        .method_size = ENVELOPE_METHOD_MAX,
        .error_type = UINT32_MAX,
        .error = long_text,
        .error_size = 1024,
        .client_features = UINT64_MAX,
        .server_features = UINT64_MAX,
        .control = UINT32_MAX,
        .max_message = UINT64_MAX,
    };
    struct vouch_buffer *buffer;
    size_t body = 100;
    cr_assert_eq(
        vouch_pool_get(pool, ENVELOPE_HEADROOM, body + e.error_size + ENVELOPE_TAILROOM, &buffer),
        0);
    buffer->size = body;
    memset(buffer->data, 'd', body);
    envelope_wrap(buffer, &e);
    cr_assert_leq(buffer->size, buffer->capacity);
    cr_assert_leq(buffer->size - body - e.error_size, ENVELOPE_HEADROOM + ENVELOPE_TAILROOM);
    struct envelope back;
    uint64_t length;
    int header = vouch_chunk_decode_header(buffer->data, buffer->size, &length);
    cr_assert_eq(header, 2);
    cr_assert_eq(envelope_decode(buffer->data + header, (size_t)length, &back), 0);
    cr_assert_eq(back.method_size, ENVELOPE_METHOD_MAX);
    cr_assert_eq(back.data_size, body);
    cr_assert_eq(back.error_size, 1024);
    vouch_buffer_unref(buffer);
    end();
}

/* The body is never moved. */
Test(envelope, the_body_stays_where_it_is) {
    struct vouch_buffer *buffer;
    begin();
    cr_assert_eq(session_buffer(pool, 4, &buffer), 0);
    memcpy(buffer->data, "body", 4);
    buffer->size = 4;
    const uint8_t *body = buffer->data;
    envelope_wrap(buffer, &(struct envelope){.id = 1, WIRE_METHOD("/m")});
    cr_assert_arr_eq(body, "body", 4);
    cr_assert_eq(buffer->data + buffer->size, body + 4);
    vouch_buffer_unref(buffer);
    end();
}

Test(envelope, random_messages_come_back) {
    struct support_random random;
    begin();
    support_random_init(&random);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(20000, 500); i++) {
        uint8_t text[64];
        support_random_fill(&random, text, sizeof(text));
        struct envelope e = {
            .id = (uint32_t)random_number(&random),
            .expires = (int64_t)random_number(&random),
            .method = (char *)text,
            .method_size = support_random_below(&random, 64),
            .data = text,
            .data_size = support_random_below(&random, 64),
            .error_type = (uint32_t)random_number(&random),
            .error = (char *)text,
            .error_size = support_random_below(&random, 64),
            .control = (uint32_t)random_number(&random),
            .max_message = random_number(&random),
        };
        struct vouch_buffer *buffer = wrap(&e);
        struct envelope back;
        uint64_t length;
        int header = vouch_chunk_decode_header(buffer->data, buffer->size, &length);
        cr_assert_eq((size_t)header + length, buffer->size);
        cr_assert_eq(envelope_decode(buffer->data + header, (size_t)length, &back), 0);
        cr_assert_eq(back.id, e.id);
        cr_assert_eq(back.expires, e.expires);
        cr_assert_eq(back.method_size, e.method_size);
        cr_assert_eq(back.data_size, e.data_size);
        cr_assert_eq(back.error_type, e.error_type);
        cr_assert_eq(back.error_size, e.error_size);
        cr_assert_eq(back.control, e.control);
        cr_assert_eq(back.max_message, e.max_message);
        vouch_buffer_unref(buffer);
    }
    end();
}

/* ---- what was recorded ---- */

/* As the reader has numbers: a deadline in ns has more digits than its doubles. */
static void check_recorded_number(const struct cJSON *fields, const char *name, uint64_t value) {
    double recorded = support_vector_has(fields, name)
                          ? cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(fields, name))
                          : 0;
    cr_assert((double)value >= recorded && (double)value <= recorded);
}

static void check_recorded(const struct cJSON *fields, const struct envelope *e) {
    check_recorded_number(fields, "id", e->id);
    check_recorded_number(fields, "exp_unix_nano", (uint64_t)e->expires);
    check_recorded_number(fields, "err_type", e->error_type);
    static uint8_t data[4096];
    size_t size = support_vector_has(fields, "data_hex")
                      ? support_vector_bytes(fields, "data_hex", data, sizeof(data))
                      : 0;
    cr_assert_eq(e->data_size, size);
    cr_assert(size == 0 || memcmp(e->data, data, size) == 0);
    const char *method =
        support_vector_has(fields, "method") ? support_vector_text(fields, "method") : "";
    cr_assert(same_text(method, e->method, e->method_size));
    const char *error = support_vector_has(fields, "err") ? support_vector_text(fields, "err") : "";
    cr_assert(same_text(error, e->error, e->error_size));
}

/* Of both roles: decoded as it says, and encoded again byte for byte. */
static void check_vectors(const char *name, unsigned expected) {
    static uint8_t chunk[4096];
    struct support_vectors vectors;
    const struct cJSON *line;
    unsigned from_client = 0, from_server = 0;
    begin();
    support_vectors_open(&vectors, name);
    while ((line = support_vectors_next(&vectors))) {
        struct envelope e;
        uint64_t length;
        size_t size = support_vector_bytes(line, "chunk_hex", chunk, sizeof(chunk));
        int header = vouch_chunk_decode_header(chunk, size, &length);
        cr_assert_eq((size_t)header + length, size);
        cr_assert_eq(envelope_decode(chunk + header, (size_t)length, &e), 0);
        check_recorded(cJSON_GetObjectItemCaseSensitive(line, "envelope"), &e);
        struct vouch_buffer *again = wrap(&e);
        cr_assert_eq(again->size, size);
        cr_assert_arr_eq(again->data, chunk, size);
        vouch_buffer_unref(again);
        bool client = strcmp(support_vector_text(line, "from"), "client") == 0;
        from_client += client;
        from_server += !client;
    }
    cr_assert_eq(from_client + from_server, expected);
    cr_assert_gt(from_client, 0);
    cr_assert_gt(from_server, 0);
    end();
}

Test(envelope, recorded_proto_calls) {
    check_vectors("proto-rpc.jsonl", 60);
}

Test(envelope, recorded_json_calls) {
    check_vectors("json-rpc.jsonl", 27);
}

/* ---- before a body that is somewhere else ---- */

static void check_before(const struct envelope *e, size_t body_size) {
    static uint8_t body[300000];
    struct vouch_buffer *whole, *head;
    cr_assert_leq(body_size, sizeof(body));
    memset(body, 'b', sizeof(body));
    cr_assert_eq(session_buffer(pool, body_size, &whole), 0);
    if (body_size > 0)
        memcpy(whole->data, body, body_size);
    whole->size = body_size;
    envelope_wrap(whole, e);
    cr_assert_eq(session_buffer(pool, 0, &head), 0);
    envelope_wrap_before(head, e, body_size);
    cr_assert_eq(head->size + body_size, whole->size);
    cr_assert_arr_eq(head->data, whole->data, head->size);
    cr_assert_eq(memcmp(body, whole->data + head->size, body_size), 0);
    cr_assert_geq(head->capacity, head->size);
    vouch_buffer_unref(whole);
    vouch_buffer_unref(head);
}

Test(envelope, what_comes_before_a_body_is_the_same_as_around_it) {
    static const size_t sizes[] = {0, 1, 63, 64, 127, 128, 8191, 8192, 16383, 16384, 300000};
    static char method[ENVELOPE_METHOD_MAX];
    memset(method, 'm', sizeof(method));
    const struct envelope envelopes[] = {
        {.id = 1},
        {.id = 7, .expires = 5, .method = "/m", .method_size = 2},
        {.id = UINT32_MAX, .expires = INT64_MAX, .method = method, .method_size = sizeof(method)},
        {.id = UINT32_MAX,
         .expires = -1,
         .method = method,
         .method_size = sizeof(method),
         .client_features = UINT64_MAX,
         .server_features = UINT64_MAX,
         .control = UINT32_MAX,
         .max_message = UINT64_MAX},
        {.id = 300, .expires = 1, .client_features = 7, .max_message = 4096},
    };
    begin();
    for (size_t i = 0; i < sizeof(envelopes) / sizeof(envelopes[0]); i++)
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++)
            check_before(&envelopes[i], sizes[k]);
    end();
}
