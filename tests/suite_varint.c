/* SPDX-License-Identifier: MIT */
/*
 * The coding of lengths, completely: a table of everything at the edges, and every input of one,
 * two and three bytes, against a reference decoder that is written the other way round: on bits,
 * with no arithmetic that could overflow.
 */
#include <errno.h>
#include <string.h>
#include <vouch/chunk.h>

#include "tests/harness.h"

/* The bits of the number, lowest first, as the wire has them: seven a byte, until a byte without
 * its eighth bit. The number has to fit 64 bits: so it is malformed as soon as there is a bit
 * beyond, or a tenth byte that announces another. */
static int reference(const uint8_t *bytes, size_t size, uint64_t *ret_length) {
    bool bits[70] = {false};
    size_t used = 0;
    bool complete = false;
    while (!complete) {
        if (used == size)
            return 0;
        uint8_t byte = bytes[used];
        for (size_t bit = 0; bit < 7; bit++)
            bits[used * 7 + bit] = byte >> bit & 1;
        complete = byte < 0x80;
        used++;
        if (used == 10 && !complete)
            return -EPROTO;
    }
    for (size_t bit = 64; bit < 70; bit++)
        if (bits[bit])
            return -EPROTO;
    if (bits[0]) /* the sign */
        return -EPROTO;
    uint64_t length = 0;
    for (size_t bit = 64; bit-- > 1;)
        length = length * 2 + bits[bit];
    *ret_length = length;
    return (int)used;
}

static size_t vectors;

static void check(const uint8_t *bytes, size_t size) {
    uint64_t expected_length = 7, length = 7;
    int expected = reference(bytes, size, &expected_length);
    int result = vouch_chunk_decode_header(bytes, size, &length);
    if (result != expected || length != expected_length)
        cr_assert_fail("%zu bytes, %02x %02x …: %d instead of %d", size, size > 0 ? bytes[0] : 0,
                       size > 1 ? bytes[1] : 0, result, expected);
    vectors++;
}

/* `value` in exactly `size` bytes, overlong if need be. */
static void code(uint64_t value, uint8_t *ret_bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        ret_bytes[i] = (uint8_t)((value & 0x7f) | (i + 1 < size ? 0x80 : 0));
        value = i < 9 ? value >> 7 : 0;
    }
}

static size_t shortest(uint64_t value) {
    size_t size = 1;
    while (value >>= 7)
        size++;
    return size;
}

/* Each form of the number from the shortest to eleven bytes, each truncated everywhere and with
 * bytes behind it. */
static void check_forms(uint64_t coded) {
    for (size_t size = shortest(coded); size <= 11; size++) {
        uint8_t bytes[16];
        memset(bytes, 0xff, sizeof(bytes));
        code(coded, bytes, size);
        for (size_t given = 0; given <= size; given++)
            check(bytes, given);
        check(bytes, sizeof(bytes));
    }
}

Test(varint, table) {
    check_forms(0);
    for (unsigned k = 0; k < 64; k++) {
        uint64_t power = UINT64_C(1) << k;
        check_forms(power - 1);
        check_forms(power);
        check_forms(power + 1);
    }
    check_forms(UINT64_MAX - 1);
    check_forms(UINT64_MAX);
    cr_assert_geq(vectors, 400);
}

/* The tenth byte holds one bit: every value of it, and of an eleventh, behind nine bytes of any
 * sign. */
Test(varint, tenth_byte) {
    for (unsigned first = 0x80; first <= 0x81; first++)
        for (unsigned tenth = 0; tenth < 256; tenth++)
            for (unsigned eleventh = 0; eleventh < 256; eleventh++) {
                uint8_t bytes[11];
                memset(bytes, 0x80, sizeof(bytes));
                bytes[0] = (uint8_t)first;
                bytes[9] = (uint8_t)tenth;
                bytes[10] = (uint8_t)eleventh;
                check(bytes, 10);
                check(bytes, 11);
            }
}

Test(varint, all_of_one_two_and_three_bytes) {
    check(NULL, 0);
    for (unsigned all = 0; all < 0x100; all++)
        check((uint8_t[]){(uint8_t)all}, 1);
    for (unsigned all = 0; all < 0x10000; all++)
        check((uint8_t[]){(uint8_t)all, (uint8_t)(all >> 8)}, 2);
    for (unsigned all = 0; all < 0x1000000; all += VOUCH_TEST_ROUNDS(1, 17))
        check((uint8_t[]){(uint8_t)all, (uint8_t)(all >> 8), (uint8_t)(all >> 16)}, 3);
}

static void check_there_and_back(uint64_t length) {
    uint8_t header[VOUCH_CHUNK_HEADER_MAX + 1];
    memset(header, 0xee, sizeof(header));
    size_t size = vouch_chunk_encode_header(length, header);
    uint64_t decoded;
    cr_assert_eq(size, shortest(length << 1));
    cr_assert_eq(header[size], 0xee);
    cr_assert_eq(reference(header, size, &decoded), (int)size);
    cr_assert_eq(decoded, length);
}

Test(varint, coding_is_the_shortest_form) {
    check_there_and_back(0);
    for (unsigned k = 0; k < 63; k++) {
        uint64_t power = UINT64_C(1) << k;
        check_there_and_back(power - 1);
        check_there_and_back(power);
        check_there_and_back(power + 1);
    }
    check_there_and_back(INT64_MAX);
    for (uint64_t length = 0; length < 100000; length++)
        check_there_and_back(length);
}

/* As the wire's description has them. */
Test(varint, known_answers) {
    static const struct {
        const char *bytes;
        size_t size;
        int result;
        uint64_t length;
    } answers[] = {
        {"\x0a", 1, 1, 5},
        {"\x80\x10", 2, 2, 1024},
        {"\x8a\x00", 2, 2, 5},
        {"\x8a\x80\x80\x80\x80\x80\x80\x80\x80\x00", 10, 10, 5},
        {"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, 10, INT64_MAX},
        {"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, -EPROTO, 0},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, -EPROTO, 0}, /* INT64_MIN */
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11, -EPROTO, 0},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80", 9, 0, 0},
        {"\x01", 1, -EPROTO, 0}, /* -1 */
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        uint64_t length = 0;
        cr_assert_eq(
            vouch_chunk_decode_header((const uint8_t *)answers[i].bytes, answers[i].size, &length),
            answers[i].result, "%zu", i);
        cr_assert_eq(length, answers[i].length);
    }
}
