/* SPDX-License-Identifier: MIT */
/*
 * UTF-8 by the table of RFC 3629, section 4: what the second byte may be depends on the first one
 * (that is what excludes overlong forms, surrogates and what lies over U+10FFFF); the others are
 * always 80..BF.
 */
#include "lib/utf8.h"

static bool utf8_between(uint8_t byte, uint8_t low, uint8_t high) {
    return byte >= low && byte <= high;
}

size_t utf8_char(const uint8_t *text, size_t size) {
    if (size == 0)
        return 0;
    uint8_t first = text[0];
    if (first < 0x80)
        return 1;
    if (!utf8_between(first, 0xc2, 0xf4))
        return 0;

    size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size < length)
        return 0;
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (!utf8_between(text[1], low, high))
        return 0;
    for (size_t i = 2; i < length; i++)
        if (!utf8_between(text[i], 0x80, 0xbf))
            return 0;
    return length;
}

bool utf8_valid(const uint8_t *text, size_t size) {
    while (size > 0) {
        size_t length = utf8_char(text, size);
        if (length == 0)
            return false;
        text += length;
        size -= length;
    }
    return true;
}
