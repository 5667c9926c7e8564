/* SPDX-License-Identifier: MIT */
/*
 * Text to tree and back.
 *
 * cJSON makes the tree, of a text that was scanned. It keeps numbers as doubles only, so after it
 * the numbers that a double may not give back get their text, in the item's `valuestring`: cJSON
 * does not use that of numbers, copies it with the item and frees it with it. The text counts only
 * while it says the same as the double, so a number that the program changes is printed as what it
 * has become.
 *
 * Printing goes on counting when the room has run out: so one function prints and measures.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/utf8.h"
#include "stream/json.h"
#include "stream/json_plain.h"

#define FIRST_ROOM 1024    /* what is tried before the size of a printed tree is known */
#define NUMBER_ROOM 40     /* 21 digits and a sign, or 17 digits with an exponent */
#define WHOLE_BELOW 1e21   /* integers from here on are printed with an exponent */
#define WRITTEN_EXACTLY 15 /* digits of an integer that every double gives back */

int json_fault_error(struct vouch_error *ret_error, int code, const char *what,
                     const struct vouch_json_fault *fault) {
    if (ret_error) {
        ret_error->code = code;
        snprintf(ret_error->message, sizeof(ret_error->message), "%s: at byte %zu: %s", what,
                 fault->offset, fault->reason);
    }
    return code;
}

static int plain_error(struct vouch_error *ret_error, int code) {
    if (ret_error) {
        ret_error->code = code;
        snprintf(ret_error->message, sizeof(ret_error->message), "JSON: %s", vouch_strerror(code));
    }
    return code;
}

/* ---- parse ---- */

struct literals {
    const char *begin, *at, *end;
    struct vouch_json_fault fault;
};

static bool is_number_char(char c) {
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* The next number of a text that was scanned and has one. Returns its size. */
static size_t next_literal(struct literals *l, const char **ret_text) {
    const char *p = l->at;
    for (; *p != '-' && (*p < '0' || *p > '9'); p++)
        if (*p == '"')
            while (*++p != '"')
                p += *p == '\\';
    *ret_text = p;
    size_t size = 0;
    while (p + size < l->end && is_number_char(p[size]))
        size++;
    l->at = p + size;
    return size;
}

static bool double_gives_back(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (text[i] == '.' || text[i] == 'e' || text[i] == 'E')
            return false;
    return size - (*text == '-') <= WRITTEN_EXACTLY;
}

static int keep_literal(cJSON *item, struct literals *l) {
    const char *text;
    size_t size = next_literal(l, &text);
    if (!isfinite(item->valuedouble)) {
        l->fault = (struct vouch_json_fault){(size_t)(text - l->begin),
                                             "a number that is too large for a double"};
        return -EPROTO;
    }
    if (double_gives_back(text, size))
        return 0;
    item->valuestring = cJSON_malloc(size + 1);
    if (!item->valuestring)
        return -ENOMEM;
    memcpy(item->valuestring, text, size);
    item->valuestring[size] = '\0';
    return 0;
}

/* Numbers are in a tree in the order of the text. As deep as the scan allowed. */
static int keep_literals(cJSON *item, struct literals *l) {
    int result = 0;
    for (; item && result == 0; item = item->next)
        result = cJSON_IsNumber(item) ? keep_literal(item, l) : keep_literals(item->child, l);
    return result;
}

int vouch_json_parse(const void *text, size_t size, const struct vouch_json_rules *rules,
                     cJSON **ret_tree, struct vouch_error *ret_error) {
    struct vouch_json_rules set;
    struct literals literals = {.begin = text, .at = text};
    struct json_scan scan = {0};
    int result = json_rules_read(&set, rules);
    if (result == 0)
        result = json_check(&scan, text, size, &set, &literals.fault);
    if (result == -EPROTO)
        return json_fault_error(ret_error, result, "JSON", &literals.fault);
    if (result != 0)
        return plain_error(ret_error, result);

    cJSON *tree = cJSON_ParseWithLengthOpts(text, size, NULL, false);
    if (!tree) /* of what was scanned it refuses nothing */
        return plain_error(ret_error, -ENOMEM);
    literals.end = literals.begin + size;
    result = scan.exact > 0 ? keep_literals(tree, &literals) : 0;
    if (result < 0) {
        cJSON_Delete(tree);
        return result == -EPROTO ? json_fault_error(ret_error, result, "JSON", &literals.fault)
                                 : plain_error(ret_error, result);
    }
    *ret_tree = tree;
    return 0;
}

/* ---- print ---- */

struct printer {
    char *to;
    size_t room, used;
};

static void put(struct printer *p, const char *bytes, size_t size) {
    if (p->used <= p->room && size <= p->room - p->used)
        memcpy(p->to + p->used, bytes, size);
    p->used += size;
}

static void put_char(struct printer *p, char c) {
    put(p, &c, 1);
}

/* The letter after the backslash of a short escape; 'u' for the long form; 0 for none. */
static char escape_of(uint8_t byte) {
    switch (byte) {
    case '"':
    case '\\':
        return (char)byte;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return byte < 0x20 || byte == '<' || byte == '>' || byte == '&' ? 'u' : 0;
    }
}

static void put_escaped(struct printer *p, unsigned character, char escape) {
    char text[8];
    int size = escape == 'u' ? snprintf(text, sizeof(text), "\\u%04x", character & 0xffffu)
                             : snprintf(text, sizeof(text), "\\%c", escape);
    put(p, text, (size_t)size);
}

/* U+2028 and U+2029, which end a line in JavaScript: e2 80 a8 and e2 80 a9. */
static bool is_line_separator(const uint8_t *text, size_t length) {
    return length == 3 && text[0] == 0xe2 && text[1] == 0x80 && (text[2] & 0xfe) == 0xa8;
}

static int print_string(struct printer *p, const char *string) {
    if (!string)
        return -EINVAL;
    const uint8_t *at = (const uint8_t *)string, *end = at + strlen(string), *plain = at;
    put_char(p, '"');
    while ((at = json_skip_plain(at, end, true)) < end) {
        size_t length = utf8_char(at, (size_t)(end - at));
        if (length == 0)
            return -EINVAL;
        bool separator = is_line_separator(at, length);
        char escape = separator ? 'u' : length == 1 ? escape_of(*at) : '\0';
        if (escape) {
            put(p, (const char *)plain, (size_t)(at - plain));
            put_escaped(p, separator ? 0x2000u | (at[2] & 0x3fu) : *at, escape);
            plain = at + length;
        }
        at += length;
    }
    put(p, (const char *)plain, (size_t)(end - plain));
    put_char(p, '"');
    return 0;
}

const char *json_number_text(const cJSON *item) {
    const char *text = item->valuestring;
    if (!text || (*text != '-' && (*text < '0' || *text > '9')) ||
        strtod(text, NULL) != item->valuedouble)
        return NULL;
    return vouch_json_scan(text, strlen(text), NULL, NULL) == 0 ? text : NULL;
}

/* The decimal separator of the locale, whatever it is, as a point. */
static size_t normalize(char *number, size_t size) {
    size_t to = 0;
    for (size_t i = 0; i < size; i++) {
        if (is_number_char(number[i]))
            number[to++] = number[i];
        else if (to > 0 && number[to - 1] != '.')
            number[to++] = '.';
    }
    return to;
}

static int print_number(struct printer *p, const cJSON *item) {
    double value = item->valuedouble;
    const char *text = json_number_text(item);
    if (text) {
        put(p, text, strlen(text));
        return 0;
    }
    if (!isfinite(value))
        return -EINVAL;
    char number[NUMBER_ROOM];
    int size = 0;
    if (value > -WHOLE_BELOW && value < WHOLE_BELOW) {
        size = snprintf(number, sizeof(number), "%.0f", value);
        if (strtod(number, NULL) == value) {
            put(p, number, (size_t)size);
            return 0;
        }
    }
    for (int digits = 15; digits <= 17; digits++) {
        size = snprintf(number, sizeof(number), "%.*g", digits, value);
        if (strtod(number, NULL) == value)
            break;
    }
    put(p, number, normalize(number, (size_t)size));
    return 0;
}

/* What the program put there as text has to be one value as well. */
static int print_raw(struct printer *p, const char *raw) {
    if (!raw || vouch_json_scan(raw, strlen(raw), NULL, NULL) < 0)
        return -EINVAL;
    put(p, raw, strlen(raw));
    return 0;
}

static int print_value(struct printer *p, const cJSON *item, unsigned depth);

static int print_container(struct printer *p, const cJSON *item, unsigned depth) {
    bool object = cJSON_IsObject(item);
    if (depth == VOUCH_JSON_DEPTH_BOUND)
        return -EMSGSIZE;
    put_char(p, object ? '{' : '[');
    for (const cJSON *child = item->child; child; child = child->next) {
        int result = 0;
        if (object) {
            result = print_string(p, child->string);
            put_char(p, ':');
        }
        if (result == 0)
            result = print_value(p, child, depth + 1);
        if (result < 0)
            return result;
        if (child->next)
            put_char(p, ',');
    }
    put_char(p, object ? '}' : ']');
    return 0;
}

static int print_value(struct printer *p, const cJSON *item, unsigned depth) {
    switch (item->type & 0xff) {
    case cJSON_NULL:
        put(p, "null", 4);
        return 0;
    case cJSON_True:
        put(p, "true", 4);
        return 0;
    case cJSON_False:
        put(p, "false", 5);
        return 0;
    case cJSON_Number:
        return print_number(p, item);
    case cJSON_String:
        return print_string(p, item->valuestring);
    case cJSON_Raw:
        return print_raw(p, item->valuestring);
    case cJSON_Array:
    case cJSON_Object:
        return print_container(p, item, depth);
    default:
        return -EINVAL;
    }
}

ssize_t vouch_json_print(const cJSON *tree, char *text, size_t size) {
    struct printer p = {.to = text, .room = size};
    int result = tree ? print_value(&p, tree, 0) : -EINVAL;
    return result < 0 ? result : (ssize_t)p.used;
}

int json_print_buffer(const cJSON *tree, json_get_buffer get, void *context,
                      struct vouch_buffer **ret_buffer) {
    for (size_t room = FIRST_ROOM;;) {
        struct vouch_buffer *buffer;
        int result = get(context, room, &buffer);
        if (result < 0)
            return result;
        ssize_t size = vouch_json_print(tree, (char *)buffer->data, room);
        if (size >= 0 && (size_t)size <= room) {
            buffer->size = (size_t)size;
            *ret_buffer = buffer;
            return 0;
        }
        vouch_buffer_unref(buffer);
        if (size < 0)
            return (int)size;
        room = (size_t)size;
    }
}
