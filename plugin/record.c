/* SPDX-License-Identifier: MIT */
/*
 * A scanner of one pass over a line; nothing is built. Strings are found first and unescaped last,
 * when it is sure that the line is what it looks like.
 */
#include "plugin/record.h"

#include <string.h>
#include <strings.h>

#define DEPTH_MAX 16

struct cursor {
    char *at, *end;
};

struct string {
    char *start;
    size_t size; /* between the quotes, escaped */
};

static void skip_space(struct cursor *c) {
    while (c->at < c->end && strchr(" \t\r\n", *c->at))
        c->at++;
}

static bool take(struct cursor *c, char expected) {
    skip_space(c);
    if (c->at == c->end || *c->at != expected)
        return false;
    c->at++;
    return true;
}

static bool take_string(struct cursor *c, struct string *ret_string) {
    if (!take(c, '"'))
        return false;
    char *start = c->at;
    for (; c->at < c->end; c->at++) {
        if (*c->at == '"') {
            *ret_string = (struct string){start, (size_t)(c->at++ - start)};
            return true;
        }
        if (*c->at == '\\' && ++c->at == c->end)
            return false;
    }
    return false;
}

/* A value of any kind, without looking whether it is well-formed inside. */
static bool skip_value(struct cursor *c) {
    unsigned depth = 0;
    do {
        struct string string;
        skip_space(c);
        if (c->at == c->end)
            return false;
        char first = *c->at;
        if (first == '"') {
            if (!take_string(c, &string))
                return false;
        } else if (first == '{' || first == '[') {
            if (++depth > DEPTH_MAX)
                return false;
            c->at++;
        } else if (first == '}' || first == ']') {
            if (depth == 0)
                return false;
            depth--;
            c->at++;
        } else {
            c->at++;
            while (c->at < c->end && depth == 0 && !strchr(",}]", *c->at))
                c->at++;
        }
    } while (depth > 0);
    return true;
}

static bool is_one_of(const struct string *name, const char *const *names) {
    for (; *names; names++)
        if (strlen(*names) == name->size && memcmp(*names, name->start, name->size) == 0)
            return true;
    return false;
}

static enum vouch_plugin_level level_of(const struct string *word) {
    static const struct {
        const char *word;
        enum vouch_plugin_level level;
    } levels[] = {
        {"trace", VOUCH_PLUGIN_LEVEL_TRACE},    {"debug", VOUCH_PLUGIN_LEVEL_DEBUG},
        {"info", VOUCH_PLUGIN_LEVEL_INFO},      {"information", VOUCH_PLUGIN_LEVEL_INFO},
        {"notice", VOUCH_PLUGIN_LEVEL_INFO},    {"warn", VOUCH_PLUGIN_LEVEL_WARN},
        {"warning", VOUCH_PLUGIN_LEVEL_WARN},   {"error", VOUCH_PLUGIN_LEVEL_ERROR},
        {"err", VOUCH_PLUGIN_LEVEL_ERROR},      {"fatal", VOUCH_PLUGIN_LEVEL_FATAL},
        {"critical", VOUCH_PLUGIN_LEVEL_FATAL}, {"panic", VOUCH_PLUGIN_LEVEL_FATAL},
    };
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (strlen(levels[i].word) == word->size &&
            strncasecmp(levels[i].word, word->start, word->size) == 0)
            return levels[i].level;
    return VOUCH_PLUGIN_LEVEL_PLAIN;
}

/* ---- unescaping, in place: what comes out is never longer ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four digits; -1 when they are not. */
static long hex_unit(const char *at, const char *end) {
    long unit = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static char *put_utf8(char *to, unsigned long code) {
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* Behind "\u". A surrogate without its other half, and a NUL, become '?'. */
static const char *unescape_unicode(const char *from, const char *end, char **to) {
    long unit = hex_unit(from, end);
    if (unit < 0) {
        *(*to)++ = '?';
        return from;
    }
    from += 4;
    unsigned long code = (unsigned long)unit;
    if (code >= 0xd800 && code < 0xdc00 && end - from >= 6 && from[0] == '\\' && from[1] == 'u') {
        long low = hex_unit(from + 2, end);
        if (low >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + ((unsigned long)low - 0xdc00);
            from += 6;
        }
    }
    if (code == 0 || (code >= 0xd800 && code < 0xe000))
        code = '?';
    *to = put_utf8(*to, code);
    return from;
}

static size_t unescape(struct string *string) {
    static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
    char *to = string->start;
    const char *from = string->start, *end = string->start + string->size;
    while (from < end) {
        if (*from != '\\') {
            *to++ = *from++;
            continue;
        }
        char letter = from[1];
        from += 2;
        const char *known = letter ? strchr(letters, letter) : NULL;
        if (letter == 'u')
            from = unescape_unicode(from, end, &to);
        else
            *to++ = known ? meant[known - letters] : letter;
    }
    return (size_t)(to - string->start);
}

bool record_parse(char *line, size_t size, struct record *ret_record) {
    static const char *const level_names[] = {"level", "@level", "lvl", "severity", NULL};
    static const char *const message_names[] = {"message", "@message", "msg", NULL};
    struct cursor c = {line, line + size};
    struct string name, value, message = {NULL, 0};
    enum vouch_plugin_level level = VOUCH_PLUGIN_LEVEL_PLAIN;
    if (!take(&c, '{'))
        return false;
    do {
        if (!take_string(&c, &name) || !take(&c, ':'))
            return false;
        skip_space(&c);
        bool text = c.at < c.end && *c.at == '"';
        if (text ? !take_string(&c, &value) : !skip_value(&c))
            return false;
        if (text && is_one_of(&name, level_names))
            level = level_of(&value);
        else if (text && is_one_of(&name, message_names))
            message = value;
    } while (take(&c, ','));
    if (!take(&c, '}') || level == VOUCH_PLUGIN_LEVEL_PLAIN)
        return false;
    skip_space(&c);
    if (c.at != c.end)
        return false;
    *ret_record = (struct record){level, message.start, message.start ? unescape(&message) : 0};
    return true;
}
