/* SPDX-License-Identifier: MIT */
/*
 * Runs of plain characters in strings: ASCII that stands for itself. Nearly all of most strings is
 * that, so it is looked for eight bytes at a time.
 */
#ifndef VOUCH_STREAM_JSON_PLAIN_H
#define VOUCH_STREAM_JSON_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define JSON_EACH(byte) ((uint64_t)(byte)*UINT64_C(0x0101010101010101))

/* The highest bit of each byte that is zero, perhaps also of some above one. */
static inline uint64_t json_zeros(uint64_t bytes) {
    return (bytes - JSON_EACH(1)) & ~bytes & JSON_EACH(0x80);
}

/* Zero only if all eight are plain: from 0x20 to 0x7f, and no quote or backslash. */
static inline uint64_t json_not_plain(uint64_t bytes) {
    uint64_t below_space = (bytes - JSON_EACH(0x20)) & ~bytes & JSON_EACH(0x80);
    return (bytes & JSON_EACH(0x80)) | below_space | json_zeros(bytes ^ JSON_EACH('"')) |
           json_zeros(bytes ^ JSON_EACH('\\'));
}

/* What is escaped beside that for the sake of text in HTML. */
static inline uint64_t json_markup(uint64_t bytes) {
    return json_zeros(bytes ^ JSON_EACH('<')) | json_zeros(bytes ^ JSON_EACH('>')) |
           json_zeros(bytes ^ JSON_EACH('&'));
}

/* The bytes from `at` on that are surely plain, in steps of eight. With `markup`, < > & are not. */
static inline const uint8_t *json_skip_plain(const uint8_t *at, const uint8_t *end, bool markup) {
    for (; (size_t)(end - at) >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t bytes;
        memcpy(&bytes, at, sizeof(bytes));
        if (json_not_plain(bytes) || (markup && json_markup(bytes)))
            break;
    }
    return at;
}

#endif
