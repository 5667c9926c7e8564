/* SPDX-License-Identifier: MIT */
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing over U+10FFFF. */
#ifndef VOUCH_LIB_UTF8_H
#define VOUCH_LIB_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the character that `text` begins with, 1 to 4; 0 when the first of the `size` bytes
 * do not make one. */
size_t utf8_char(const uint8_t *text, size_t size);

/* Whether all of it is UTF-8. Empty is. */
bool utf8_valid(const uint8_t *text, size_t size);

#endif
