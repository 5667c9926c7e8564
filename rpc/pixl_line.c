/* SPDX-License-Identifier: MIT */
/*
 * Reads a line: which members of its object mean something, and what message that makes.
 *
 * A line is first held to the grammar as a whole (vouch_json_scan), then its members are looked
 * for, by steps over values that need not be understood. Of a line that was too long there is the
 * beginning only, and one that was refused may still say who waits for an answer: there the same
 * steps go as far as they can, and what is taken is looked at by itself. So every step is bounded
 * by what is there, and none counts on what was scanned.
 *
 * What is found is used where it stands: the body in particular is not copied, and not parsed.
 */
#include <string.h>

#include "lib/utf8.h"
#include "rpc/pixl.h"

/* The longest key that means something, each of its characters written as \uXXXX. */
#define KEY_ROOM (sizeof("ipcReqID") * 6)
/* What our own calls have as ipcReqID: this and a number. */
#define ID_PREFIX "rq"

/* Long enough for any line that was let through. */
static const struct vouch_json_rules line_rules = {
    .size = sizeof(line_rules), .max_depth = VOUCH_JSON_DEPTH_BOUND, .max_values = SIZE_MAX};

struct walk {
    uint8_t *at, *end;
};

static bool is_space(uint8_t byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static int peek_behind_space(struct walk *w) {
    while (w->at < w->end && is_space(*w->at))
        w->at++;
    return w->at < w->end ? *w->at : -1;
}

/* ---- strings ---- */

/* The number that four digits at `text` make, or -1. */
static int hex4(const uint8_t *text, const uint8_t *end) {
    int number = 0;
    if (end - text < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        uint8_t digit = text[i], lower = digit | 0x20;
        if (digit >= '0' && digit <= '9')
            number = number << 4 | (digit - '0');
        else if (lower >= 'a' && lower <= 'f')
            number = number << 4 | (lower - 'a' + 10);
        else
            return -1;
    }
    return number;
}

static uint8_t *put_character(uint8_t *to, unsigned c) {
    if (c < 0x80) {
        *to++ = (uint8_t)c;
    } else if (c < 0x800) {
        *to++ = (uint8_t)(0xc0 | c >> 6);
        *to++ = (uint8_t)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (uint8_t)(0xe0 | c >> 12);
        *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (c & 0x3f));
    } else {
        *to++ = (uint8_t)(0xf0 | c >> 18);
        *to++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        *to++ = (uint8_t)(0x80 | (c & 0x3f));
    }
    return to;
}

/* \uXXXX, or two of them, from behind the u. NULL: it stands for no character. */
static const uint8_t *unescape_unicode(const uint8_t *from, const uint8_t *end, uint8_t **to) {
    int first = hex4(from, end), second = -1;
    unsigned c = (unsigned)first;
    from += 4;
    if (first >= 0xd800 && first < 0xdc00) {
        if (end - from >= 6 && from[0] == '\\' && from[1] == 'u')
            second = hex4(from + 2, end);
        c = 0x10000 + (((unsigned)first & 0x3ff) << 10 | ((unsigned)second & 0x3ff));
        from += 6;
    }
    bool half = first >= 0xd800 && first <= 0xdfff && (second < 0xdc00 || second > 0xdfff);
    if (first <= 0 || half)
        return NULL;
    *to = put_character(*to, c);
    return from;
}

/* What is between the quotes, to `to`, which may be where it stands: it never gets longer. Returns
 * the size, or -1. */
static ptrdiff_t unescape(const uint8_t *from, const uint8_t *end, uint8_t *to) {
    static const char letters[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    uint8_t *begin = to;
    while (from < end) {
        uint8_t byte = *from++;
        if (byte != '\\') {
            *to++ = byte;
            continue;
        }
        if (from == end)
            return -1;
        byte = *from++;
        if (byte == 'u') {
            from = unescape_unicode(from, end, &to);
            if (!from)
                return -1;
            continue;
        }
        const char *letter = letters;
        while (*letter && (uint8_t)*letter != byte)
            letter += 2;
        if (!*letter)
            return -1;
        *to++ = (uint8_t)letter[1];
    }
    return to - begin;
}

bool pixl_unescape(struct pixl_text *text) {
    if (!text->at || text->size < 2 || *text->at != '"')
        return false;
    ptrdiff_t size = unescape(text->at + 1, text->at + text->size - 1, text->at);
    if (size < 0 || memchr(text->at, 0, (size_t)size) || !utf8_valid(text->at, (size_t)size))
        return false;
    text->size = (size_t)size;
    return true;
}

/* ---- steps over values ---- */

/* From behind the opening quote to behind the closing one. */
static bool step_over_string(struct walk *w) {
    while (w->at < w->end) {
        uint8_t byte = *w->at++;
        if (byte == '"')
            return true;
        if (byte == '\\' && w->at < w->end)
            w->at++;
    }
    return false;
}

/* From behind the opening bracket to behind the one that closes it. */
static bool step_over_container(struct walk *w) {
    size_t depth = 1;
    while (w->at < w->end) {
        uint8_t byte = *w->at++;
        if (byte == '"') {
            if (!step_over_string(w))
                return false;
        } else if (byte == '{' || byte == '[') {
            depth++;
        } else if ((byte == '}' || byte == ']') && --depth == 0) {
            return true;
        }
    }
    return false;
}

/* A scalar is whole when something is behind it: in an object there always is. */
static bool step_over_scalar(struct walk *w) {
    while (w->at < w->end && !is_space(*w->at) && *w->at != ',' && *w->at != '}' && *w->at != ']')
        w->at++;
    return w->at < w->end;
}

static bool step_over_value(struct walk *w, struct pixl_text *ret_value) {
    int first = peek_behind_space(w);
    uint8_t *begin = w->at;
    bool whole;
    if (first < 0)
        return false;
    if (first == '"' || first == '{' || first == '[')
        w->at++;
    if (first == '"')
        whole = step_over_string(w);
    else if (first == '{' || first == '[')
        whole = step_over_container(w);
    else
        whole = step_over_scalar(w);
    *ret_value = (struct pixl_text){begin, (size_t)(w->at - begin)};
    return whole;
}

/* ---- members ---- */

static struct pixl_text *member(struct pixl_line *line, const struct pixl_text *key) {
    uint8_t name[KEY_ROOM];
    if (key->size - 2 > sizeof(name))
        return NULL;
    ptrdiff_t size = unescape(key->at + 1, key->at + key->size - 1, name);
    if (size == 8 && memcmp(name, "ipcReqID", 8) == 0)
        return &line->id;
    if (size == 3 && memcmp(name, "uri", 3) == 0)
        return &line->uri;
    return size == 4 && memcmp(name, "data", 4) == 0 ? &line->data : NULL;
}

static bool read_member(struct walk *w, struct pixl_line *line) {
    struct pixl_text key, value;
    if (peek_behind_space(w) != '"' || !step_over_value(w, &key) || peek_behind_space(w) != ':')
        return false;
    w->at++;
    if (!step_over_value(w, &value))
        return false;
    struct pixl_text *known = member(line, &key);
    if (known)
        *known = value;
    if (peek_behind_space(w) != ',')
        return false; /* the last one */
    w->at++;
    return true;
}

bool pixl_line_read(uint8_t *bytes, size_t size, bool cut, struct pixl_line *ret_line) {
    struct walk w = {bytes, bytes + size};
    struct vouch_json_fault fault;
    *ret_line = (struct pixl_line){.partial = cut};
    if (peek_behind_space(&w) != '{')
        return false;
    if (!cut && vouch_json_scan(bytes, size, &line_rules, &fault) < 0) {
        ret_line->fault = fault.reason;
        ret_line->partial = true;
    }
    w.at++;
    while (read_member(&w, ret_line))
        ;
    return true;
}

/* ---- calls ---- */

/* What was not scanned with its line is before it goes into another one. */
static bool is_good(const struct pixl_text *text) {
    return vouch_json_scan(text->at, text->size, &line_rules, NULL) == 0;
}

static void refuse(struct vouch_message *message, enum vouch_remote_error result,
                   const char *text) {
    if (message->result != 0)
        return;
    message->result = (int)result;
    message->text = text;
    message->text_size = strlen(text);
}

static void take_tag(struct pixl_line *line, struct vouch_message *message) {
    if (line->partial && line->id.at && !is_good(&line->id))
        line->id = (struct pixl_text){0};
    if (line->id.size > VOUCH_PIXL_ID_MAX) {
        refuse(message, VOUCH_REMOTE_TOO_LARGE, "the ipcReqID is too long");
    } else if (line->id.at) {
        message->tag = line->id.at;
        message->tag_size = line->id.size;
    }
}

static void take_uri(struct pixl_line *line, struct vouch_message *message) {
    struct pixl_text *uri = &line->uri;
    bool good = pixl_unescape(uri) && uri->size > 0;
    if (!good && line->partial)
        return; /* it may be behind what we have */
    if (!good) {
        refuse(message, VOUCH_REMOTE_BAD_DATA, "The request has no uri");
        return;
    }
    if (uri->size > VOUCH_PIXL_URI_MAX)
        refuse(message, VOUCH_REMOTE_TOO_LARGE, "the uri is too long");
    message->target = (const char *)uri->at;
    message->target_size = uri->size;
}

bool pixl_line_call(uint8_t *bytes, size_t size, uint64_t oversize, struct vouch_message *message) {
    static const uint8_t null[] = {'n', 'u', 'l', 'l'};
    struct pixl_line line;
    if (!pixl_line_read(bytes, size, oversize != 0, &line))
        return false;
    *message = (struct vouch_message){
        .kind = VOUCH_MESSAGE_CALL,
        .target = "",
        .tag = null,
        .tag_size = sizeof(null),
        .data = line.data.at ? line.data.at : null,
        .size = line.data.at ? line.data.size : sizeof(null),
    };
    take_tag(&line, message);
    take_uri(&line, message);
    if (!line.fault)
        return true;
    refuse(message, VOUCH_REMOTE_BAD_DATA, line.fault);
    return line.id.at && message->target_size > 0;
}

/* ---- replies ---- */

uint32_t pixl_line_number(const struct pixl_text *id) {
    uint8_t text[PIXL_NUMBER_MAX];
    if (id->size - 2 > sizeof(text) || *id->at != '"')
        return 0;
    ptrdiff_t size = unescape(id->at + 1, id->at + id->size - 1, text);
    ptrdiff_t at = sizeof(ID_PREFIX) - 1;
    if (size <= at || memcmp(text, ID_PREFIX, sizeof(ID_PREFIX) - 1) != 0 || text[at] == '0')
        return 0;
    uint64_t number = 0;
    for (; at < size; at++) {
        if (text[at] < '0' || text[at] > '9')
            return 0;
        number = number * 10 + (text[at] - '0');
        if (number > UINT32_MAX)
            return 0;
    }
    return (uint32_t)number;
}

bool pixl_line_reply(uint8_t *bytes, size_t size, struct vouch_message *message) {
    struct pixl_line line;
    if (!pixl_line_read(bytes, size, false, &line))
        return false;
    *message = (struct vouch_message){.data = bytes, .size = size};
    if (line.id.at && (line.id.size != 4 || memcmp(line.id.at, "null", 4) != 0)) {
        message->kind = VOUCH_MESSAGE_REPLY;
        message->id = pixl_line_number(&line.id);
        return message->id != 0;
    }
    message->kind = VOUCH_MESSAGE_NOTICE;
    return !line.partial;
}
