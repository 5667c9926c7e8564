/* SPDX-License-Identifier: MIT */
/*
 * Counting in a text that arrives in pieces, as wc(1) and grep -cF do it in one that is whole. The
 * state between two pieces is all in the struct, so that it does not matter where a piece ends: in
 * a word, in a line, or in the middle of what is searched for.
 */
#ifndef DEMO_TEXT_H
#define DEMO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads numbers that are each followed by a space or the end, at most `room` of them; returns how
 * many. `ret_rest` (may be NULL) is what follows. */
size_t text_numbers(const char *text, uint64_t *ret_numbers, size_t room, const char **ret_rest);

#define TEXT_PATTERN_MAX 64 /* bytes */

/* Starts zeroed. Words are what is between white space, in ASCII. */
struct text_count {
    uint64_t lines, words, bytes;
    bool in_word;
};

void text_count(struct text_count *count, const uint8_t *text, size_t size);

struct text_search {
    uint64_t lines; /* that contain the pattern, the unfinished one included */
    size_t size;
    size_t matched; /* bytes of the pattern that the text ends with, this line */
    bool found;     /* in this line */
    uint8_t pattern[TEXT_PATTERN_MAX];
    uint8_t shorter[TEXT_PATTERN_MAX]; /* how much still matches when byte i does not */
};

/* Returns false when the pattern is empty or too long. */
bool text_search_init(struct text_search *search, const char *pattern);
void text_search(struct text_search *search, const uint8_t *text, size_t size);

#endif
