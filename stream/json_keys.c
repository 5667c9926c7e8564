/* SPDX-License-Identifier: MIT */
/*
 * Keys that are twice in one object.
 *
 * All keys of the text are sorted by object and characters, then neighbours are compared: a hostile
 * object of 65,536 keys costs a fraction of a second, not minutes. "a" and "\u0061" are the same
 * key. Heap sort, because qsort(3) takes memory of its own and may be quadratic.
 */
#include <errno.h>

#include "lib/utf8.h"
#include "stream/json.h"

static uint32_t hex4(const uint8_t *digits) {
    uint32_t number = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = digits[i];
        number = number << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return number;
}

static uint32_t next_escaped(const uint8_t **at) {
    static const char names[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    const uint8_t *p = *at;
    *at += 2;
    if (p[1] != 'u') {
        for (size_t i = 0; i < sizeof(names) - 1; i++)
            if (p[1] == (uint8_t)names[i])
                return (uint32_t)meanings[i];
        return p[1];
    }
    *at += 4;
    uint32_t first = hex4(p + 2);
    if (first < 0xd800 || first > 0xdfff)
        return first;
    *at += 6;
    return 0x10000 + ((first - 0xd800) << 10) + (hex4(p + 8) - 0xdc00);
}

/* The next character of a key that was scanned. */
static uint32_t next_char(const uint8_t **at, const uint8_t *end) {
    if (**at == '\\')
        return next_escaped(at);
    size_t length = utf8_char(*at, (size_t)(end - *at));
    uint32_t c = length == 1 ? **at : **at & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++)
        c = c << 6 | ((*at)[i] & 0x3fu);
    *at += length;
    return c;
}

static int compare(const struct json_key *a, const struct json_key *b) {
    if (a->object != b->object)
        return a->object < b->object ? -1 : 1;
    const uint8_t *p = a->text, *q = b->text;
    while (p < a->end && q < b->end) {
        uint32_t c = next_char(&p, a->end), d = next_char(&q, b->end);
        if (c != d)
            return c < d ? -1 : 1;
    }
    return (p < a->end) - (q < b->end);
}

/* Equal ones as they are in the text. */
static bool before(const struct json_key *a, const struct json_key *b) {
    int difference = compare(a, b);
    return difference < 0 || (difference == 0 && a->text < b->text);
}

static void sift_down(struct json_key *keys, size_t root, size_t count) {
    struct json_key moving = keys[root];
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && before(&keys[child], &keys[child + 1]))
            child++;
        if (!before(&moving, &keys[child]))
            break;
        keys[root] = keys[child];
    }
    keys[root] = moving;
}

static void sort(struct json_key *keys, size_t count) {
    for (size_t i = count / 2; i-- > 0;)
        sift_down(keys, i, count);
    for (size_t i = count; i-- > 1;) {
        struct json_key last = keys[i];
        keys[i] = keys[0];
        keys[0] = last;
        sift_down(keys, 0, i);
    }
}

/* Of those that repeat another the first in the text, or NULL. */
static const uint8_t *first_repeated(const struct json_key *keys, size_t count) {
    const uint8_t *found = NULL;
    for (size_t i = 1; i < count; i++)
        if (compare(&keys[i - 1], &keys[i]) == 0 && (!found || keys[i].text < found))
            found = keys[i].text;
    return found;
}

int json_keys_check(const uint8_t *text, size_t size, size_t count,
                    struct vouch_json_fault *ret_fault) {
    if (count < 2)
        return 0;
    const struct vouch_json_rules any = {.max_depth = VOUCH_JSON_DEPTH_BOUND,
                                         .max_values = SIZE_MAX};
    struct json_scan scan = {.keys = cJSON_malloc(count * sizeof(*scan.keys))};
    if (!scan.keys)
        return -ENOMEM;
    int result = json_scan_run(&scan, text, size, &any, ret_fault);
    if (result == 0) {
        sort(scan.keys, count);
        const uint8_t *repeated = first_repeated(scan.keys, count);
        if (repeated) {
            *ret_fault = (struct vouch_json_fault){(size_t)(repeated - text) - 1,
                                                   "a key for the second time"};
            result = -EPROTO;
        }
    }
    cJSON_free(scan.keys);
    return result;
}
