/* SPDX-License-Identifier: MIT */
/* UTF-8 against what it is by definition: the encodings of U+0000 to U+10FFFF without D800 to DFFF,
 * shortest form. */
#include "lib/utf8.h"

#include <string.h>

#include "tests/harness.h"

static size_t encode(uint32_t point, uint8_t ret_bytes[4]) {
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    for (size_t i = length; i-- > 1; point >>= 6)
        ret_bytes[i] = (uint8_t)(0x80 | (point & 0x3f));
    ret_bytes[0] = (uint8_t)(lead[length] | point);
    return length;
}

static bool is_character(uint32_t point) {
    return point < 0xd800 || (point > 0xdfff && point <= 0x10ffff);
}

Test(utf8, takes_every_character_whole_and_only_whole) {
    for (uint32_t point = 0; point < 0x200000; point++) {
        uint8_t bytes[4];
        size_t length = encode(point, bytes);
        cr_assert_eq(utf8_char(bytes, length), is_character(point) ? length : 0, "U+%X", point);
        cr_assert_eq(utf8_char(bytes, length - 1), 0, "U+%X cut", point);
    }
}

/* All there is of three bytes: what is taken must be what encoding its value gives. */
Test(utf8, takes_no_other_form) {
    for (uint32_t all = 0; all < 0x1000000; all++) {
        uint8_t bytes[3] = {(uint8_t)(all >> 16), (uint8_t)(all >> 8), (uint8_t)all};
        size_t length = utf8_char(bytes, sizeof(bytes));
        if (length < 2)
            continue;
        uint32_t point = length == 2 ? bytes[0] & 0x1f : bytes[0] & 0x0f;
        for (size_t i = 1; i < length; i++)
            point = point << 6 | (bytes[i] & 0x3f);
        uint8_t again[4];
        if (encode(point, again) != length || memcmp(again, bytes, length) != 0)
            cr_assert_fail("%06X", all);
    }
}

Test(utf8, refuses_overlong_forms_of_four_bytes) {
    cr_assert_eq(utf8_char((const uint8_t *)"\xf0\x8f\xbf\xbf", 4), 0);
    cr_assert_eq(utf8_char((const uint8_t *)"\xf0\x90\x80\x80", 4), 4);
    cr_assert_eq(utf8_char((const uint8_t *)"\xf4\x8f\xbf\xbf", 4), 4);
    cr_assert_eq(utf8_char((const uint8_t *)"\xf4\x90\x80\x80", 4), 0);
    cr_assert_eq(utf8_char((const uint8_t *)"\xf5\x80\x80\x80", 4), 0);
    cr_assert_eq(utf8_char((const uint8_t *)"\xf1\x80\xc0\x80", 4), 0);
    cr_assert_eq(utf8_char((const uint8_t *)"\xf1\x80\x80\x7f", 4), 0);
}

Test(utf8, validity_of_texts) {
    cr_assert(utf8_valid(NULL, 0));
    cr_assert(utf8_valid((const uint8_t *)"a\0b", 3));
    cr_assert(utf8_valid((const uint8_t *)"gr\xc3\xbc\xc3\x9f", 6));
    cr_assert_not(utf8_valid((const uint8_t *)"gr\xc3\xbc\xc3\x9f", 5));
    cr_assert_not(utf8_valid((const uint8_t *)"\xff", 1));
}
