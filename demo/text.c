/* SPDX-License-Identifier: MIT */
/* The search is Knuth, Morris and Pratt's: it never looks back at a byte, which may be gone. */
#include "demo/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t text_numbers(const char *text, uint64_t *ret_numbers, size_t room, const char **ret_rest) {
    size_t count = 0;
    while (count < room && *text >= '0' && *text <= '9') {
        char *end;
        errno = 0;
        ret_numbers[count] = strtoull(text, &end, 10);
        if (errno != 0 || (*end != ' ' && *end != '\0'))
            break;
        count++;
        text = *end == ' ' ? end + 1 : end;
    }
    if (ret_rest)
        *ret_rest = text;
    return count;
}

static bool is_space(uint8_t byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

void text_count(struct text_count *count, const uint8_t *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        bool in_word = !is_space(text[i]);
        count->words += in_word && !count->in_word;
        count->lines += text[i] == '\n';
        count->in_word = in_word;
    }
    count->bytes += size;
}

/* How much of the pattern is matched after one more byte. */
static size_t advance(const struct text_search *search, size_t matched, uint8_t byte) {
    while (matched > 0 && (matched == search->size || search->pattern[matched] != byte))
        matched = search->shorter[matched - 1];
    return matched + (search->pattern[matched] == byte);
}

bool text_search_init(struct text_search *search, const char *pattern) {
    size_t size = strlen(pattern);
    if (size == 0 || size > TEXT_PATTERN_MAX)
        return false;
    memset(search, 0, sizeof(*search));
    memcpy(search->pattern, pattern, size);
    search->size = size;
    for (size_t i = 1; i < size; i++)
        search->shorter[i] = (uint8_t)advance(search, search->shorter[i - 1], search->pattern[i]);
    return true;
}

void text_search(struct text_search *search, const uint8_t *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n') {
            search->matched = 0;
            search->found = false;
            continue;
        }
        search->matched = advance(search, search->matched, text[i]);
        if (search->matched == search->size && !search->found) {
            search->found = true;
            search->lines++;
        }
    }
}
