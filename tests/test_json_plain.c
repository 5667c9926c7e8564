/* SPDX-License-Identifier: MIT */
/* Runs of plain characters, against a byte at a time. */
#include "stream/json_plain.h"

#include "tests/harness.h"
#include "tests/support.h"

static bool is_plain(uint8_t byte, bool markup) {
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\' &&
           !(markup && (byte == '<' || byte == '>' || byte == '&'));
}

static void check(const uint8_t bytes[8], bool markup) {
    bool plain = true;
    for (int i = 0; i < 8; i++)
        plain = plain && is_plain(bytes[i], markup);
    cr_assert_eq(json_skip_plain(bytes, bytes + 8, markup), plain ? bytes + 8 : bytes);
}

Test(json_plain, every_byte_at_every_place) {
    uint8_t bytes[8];
    for (unsigned byte = 0; byte < 256; byte++)
        for (unsigned place = 0; place < 8; place++) {
            memset(bytes, 'a', sizeof(bytes));
            bytes[place] = (uint8_t)byte;
            check(bytes, false);
            check(bytes, true);
        }
}

/* The tests of eight bytes at a time may be misled by borrows from one byte to the next. */
Test(json_plain, every_pair_of_neighbours) {
    uint8_t bytes[8];
    for (unsigned pair = 0; pair < 65536; pair++) {
        memset(bytes, 0x20, sizeof(bytes));
        bytes[3] = (uint8_t)pair;
        bytes[4] = (uint8_t)(pair >> 8);
        check(bytes, false);
        check(bytes, true);
    }
}

Test(json_plain, stops_where_less_than_eight_are_left) {
    uint8_t bytes[40];
    memset(bytes, 'x', sizeof(bytes));
    for (size_t size = 0; size <= sizeof(bytes); size++)
        cr_assert_eq(json_skip_plain(bytes, bytes + size, true), bytes + size / 8 * 8);
    bytes[17] = '"';
    cr_assert_eq(json_skip_plain(bytes, bytes + sizeof(bytes), false), bytes + 16);
}
