/* SPDX-License-Identifier: MIT */
/*
 * The scan before the parser: RFC 8259 to the letter, in one pass, with no recursion and no memory.
 *
 * cJSON is lenient, and wrong about some of what it lets through (control characters, broken UTF-8,
 * \u0000, bytes after the value). It gets to see only what this file lets through. The open arrays
 * and objects are a stack of pointers to the bytes that opened them: that byte says which of the
 * two it is.
 *
 * Values and keys are counted, so that limits hold before any memory is taken. What strings and
 * numbers mean is not looked at here.
 */
#include "stream/json.h"

#include <errno.h>
#include <string.h>

#include "lib/options.h"
#include "lib/utf8.h"
#include "stream/json_plain.h"

/* Integers of no more digits fit a double exactly and are printed as they were written. */
#define EXACT_DIGITS 15

struct cursor {
    const uint8_t *at, *end;
    const char *reason;
    struct json_scan *scan;
    const struct vouch_json_rules *rules;
    unsigned depth;
    const uint8_t *open[VOUCH_JSON_DEPTH_BOUND];
};

static bool refuse(struct cursor *c, const char *reason) {
    c->reason = reason;
    return false;
}

static int peek(const struct cursor *c) {
    return c->at < c->end ? *c->at : -1;
}

static void skip_space(struct cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

/* ---- strings ---- */

static int hex_digit(uint8_t byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The number of \uXXXX at the cursor, which moves behind it; -1 when that is not there. */
static int unicode_escape(struct cursor *c) {
    if (c->end - c->at < 6 || c->at[0] != '\\' || c->at[1] != 'u')
        return -1;
    int number = 0;
    for (int i = 2; i < 6; i++) {
        int digit = hex_digit(c->at[i]);
        if (digit < 0)
            return -1;
        number = number << 4 | digit;
    }
    c->at += 6;
    return number;
}

static bool scan_unicode(struct cursor *c) {
    const uint8_t *begin = c->at;
    int first = unicode_escape(c);
    if (first < 0)
        return refuse(c, "\\u without four hexadecimal digits");
    if (first == 0) {
        c->at = begin;
        return refuse(c, "\\u0000, which a C string cannot hold");
    }
    if (first < 0xd800 || first > 0xdfff)
        return true;
    int second = first < 0xdc00 ? unicode_escape(c) : -1;
    if (second >= 0xdc00 && second <= 0xdfff)
        return true;
    c->at = begin;
    return refuse(c, "half of a surrogate pair");
}

static bool scan_escape(struct cursor *c) {
    if (c->end - c->at < 2) {
        c->at = c->end;
        return refuse(c, "the text ends in a string");
    }
    if (c->at[1] == 'u')
        return scan_unicode(c);
    if (c->at[1] == 0 || !strchr("\"\\/bfnrt", c->at[1]))
        return refuse(c, "an escape that JSON does not have");
    c->at += 2;
    return true;
}

/* From behind the opening quote to behind the closing one. */
static bool scan_string(struct cursor *c) {
    for (;;) {
        c->at = json_skip_plain(c->at, c->end, false);
        while (c->at < c->end && *c->at >= 0x20 && *c->at < 0x80 && *c->at != '"' && *c->at != '\\')
            c->at++;
        int byte = peek(c);
        if (byte < 0)
            return refuse(c, "the text ends in a string");
        if (byte == '"') {
            c->at++;
            return true;
        }
        if (byte < 0x20)
            return refuse(c, "a control character in a string");
        if (byte == '\\') {
            if (!scan_escape(c))
                return false;
            continue;
        }
        size_t length = utf8_char(c->at, (size_t)(c->end - c->at));
        if (length == 0)
            return refuse(c, "a string that is not UTF-8");
        c->at += length;
    }
}

/* ---- other scalars ---- */

static size_t scan_digits(struct cursor *c) {
    const uint8_t *begin = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    return (size_t)(c->at - begin);
}

static bool scan_fraction_and_exponent(struct cursor *c) {
    if (peek(c) == '.') {
        c->at++;
        if (scan_digits(c) == 0)
            return refuse(c, "a fraction without digits");
    }
    if (peek(c) == 'e' || peek(c) == 'E') {
        c->at++;
        if (peek(c) == '+' || peek(c) == '-')
            c->at++;
        if (scan_digits(c) == 0)
            return refuse(c, "an exponent without digits");
    }
    return true;
}

static bool scan_number(struct cursor *c) {
    const uint8_t *begin = c->at;
    if (peek(c) == '-')
        c->at++;
    const uint8_t *first = c->at;
    size_t digits = scan_digits(c);
    if (digits == 0)
        return refuse(c, "a number without digits");
    if (*first == '0' && digits > 1) {
        c->at = first;
        return refuse(c, "a number that begins with a zero");
    }
    const uint8_t *whole = c->at;
    if (!scan_fraction_and_exponent(c))
        return false;
    if (c->at - begin > VOUCH_JSON_NUMBER_MAX) {
        c->at = begin;
        return refuse(c, "a number that is too long");
    }
    c->scan->exact += c->at > whole || digits > EXACT_DIGITS;
    return true;
}

static bool scan_word(struct cursor *c, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return refuse(c, "neither true, false nor null");
    c->at += size;
    return true;
}

/* ---- structure ---- */

static bool open_container(struct cursor *c) {
    if (c->depth == c->rules->max_depth)
        return refuse(c, "arrays and objects nested too deeply");
    c->open[c->depth++] = c->at++;
    return true;
}

/* A key and its colon, with the cursor where the key has to begin. */
static bool scan_key(struct cursor *c) {
    skip_space(c);
    if (peek(c) != '"')
        return refuse(c, "no key where one has to be");
    const uint8_t *begin = ++c->at;
    if (!scan_string(c))
        return false;
    if (c->scan->keys)
        c->scan->keys[c->scan->keys_seen] =
            (struct json_key){.text = begin, .end = c->at - 1, .object = c->open[c->depth - 1]};
    c->scan->keys_seen++;
    skip_space(c);
    if (peek(c) != ':')
        return refuse(c, "no colon after a key");
    c->at++;
    return true;
}

static bool scan_scalar(struct cursor *c) {
    switch (peek(c)) {
    case '"':
        c->at++;
        return scan_string(c);
    case 't':
        return scan_word(c, "true");
    case 'f':
        return scan_word(c, "false");
    case 'n':
        return scan_word(c, "null");
    case -1:
        return refuse(c, "the text ends where a value has to be");
    default:
        if (peek(c) == '-' || (peek(c) >= '0' && peek(c) <= '9'))
            return scan_number(c);
        return refuse(c, "no value where one has to be");
    }
}

/* Down to the beginning of the next value that is not a container with something in it.
 * `*ret_whole`: it is one that is empty, and the cursor is behind it. */
static bool descend(struct cursor *c, bool *ret_whole) {
    *ret_whole = false;
    for (;;) {
        skip_space(c);
        if (c->scan->values == c->rules->max_values)
            return refuse(c, "too many values");
        c->scan->values++;
        int opening = peek(c);
        if (opening != '[' && opening != '{')
            return true;
        if (!open_container(c))
            return false;
        skip_space(c);
        if (peek(c) == (opening == '[' ? ']' : '}')) {
            c->at++;
            c->depth--;
            *ret_whole = true;
            return true;
        }
        if (opening == '{' && !scan_key(c))
            return false;
    }
}

/* Behind a value: up through what ends here. `*ret_more`: another value follows. */
static bool ascend(struct cursor *c, bool *ret_more) {
    for (;;) {
        skip_space(c);
        *ret_more = false;
        if (c->depth == 0)
            return true;
        bool array = *c->open[c->depth - 1] == '[';
        int byte = peek(c);
        if (byte == ',') {
            c->at++;
            *ret_more = true;
            return array || scan_key(c);
        }
        if (byte != (array ? ']' : '}'))
            return refuse(c, array ? "neither , nor ] after an element"
                                   : "neither , nor } after a member");
        c->at++;
        c->depth--;
    }
}

static bool scan_text(struct cursor *c) {
    bool more = true;
    while (more) {
        bool whole;
        if (!descend(c, &whole) || (!whole && !scan_scalar(c)) || !ascend(c, &more))
            return false;
    }
    return c->at == c->end || refuse(c, "something after the value");
}

int json_scan_run(struct json_scan *scan, const uint8_t *text, size_t size,
                  const struct vouch_json_rules *rules, struct vouch_json_fault *ret_fault) {
    if (size == 0)
        text = (const uint8_t *)"";
    struct cursor c;
    c.at = text;
    c.end = text + size;
    c.scan = scan;
    c.rules = rules;
    c.depth = 0;
    if (scan_text(&c))
        return 0;
    *ret_fault = (struct vouch_json_fault){(size_t)(c.at - text), c.reason};
    return -EPROTO;
}

/* ---- with everything ---- */

int json_rules_read(struct vouch_json_rules *ret_rules, const struct vouch_json_rules *rules) {
    struct vouch_json_rules set = {0};
    OPTIONS_READ(set, rules);
    if (set.max_depth > VOUCH_JSON_DEPTH_BOUND)
        return -EINVAL;
    if (set.max_depth == 0)
        set.max_depth = VOUCH_JSON_DEPTH_DEFAULT;
    if (set.max_values == 0)
        set.max_values = VOUCH_JSON_VALUES_DEFAULT;
    set.size = sizeof(set);
    *ret_rules = set;
    return 0;
}

int json_check(struct json_scan *ret_scan, const void *text, size_t size,
               const struct vouch_json_rules *rules, struct vouch_json_fault *ret_fault) {
    *ret_scan = (struct json_scan){0};
    int result = json_scan_run(ret_scan, text, size, rules, ret_fault);
    if (result == 0 && rules->unique_keys)
        result = json_keys_check(text, size, ret_scan->keys_seen, ret_fault);
    return result;
}

int vouch_json_scan(const void *text, size_t size, const struct vouch_json_rules *rules,
                    struct vouch_json_fault *ret_fault) {
    struct vouch_json_rules set;
    struct vouch_json_fault fault;
    struct json_scan scan;
    int result = json_rules_read(&set, rules);
    if (result == 0)
        result = json_check(&scan, text, size, &set, &fault);
    if (result == -EPROTO && ret_fault)
        *ret_fault = fault;
    return result;
}
