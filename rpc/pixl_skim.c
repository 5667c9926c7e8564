/* SPDX-License-Identifier: MIT */
/*
 * Whose reply a line is that is too long to be taken: looks for the ipcReqID in it while it passes
 * by, in pieces of any size, and keeps nothing but a key or an id, and where in the text it is.
 *
 * Only the object's own members count, not what is in its values. It is not held to the grammar: of
 * a line that is no good JSON something may be found or not, as of one that is read whole.
 */
#include <string.h>

#include "rpc/pixl.h"

/* Of an id with its quotes; and of the key though each of its characters were written as \uXXXX. */
#define TEXT_ROOM (PIXL_NUMBER_MAX + 2)

struct skim {
    uint64_t depth; /* objects and arrays that are open */
    bool begun, over;
    bool in_string, escaped; /* escaped: behind a backslash */
    bool is_value, is_id;    /* behind a colon of the line's object; that of the id */
    uint8_t size;            /* of the text; over its room: it was longer */
    uint8_t text[TEXT_ROOM]; /* of the key or value, with its quotes */
};

_Static_assert(sizeof(struct skim) <= sizeof(struct vouch_skim), "it has to be remembered");

static void collect(struct skim *s, uint8_t byte) {
    if (s->size < TEXT_ROOM)
        s->text[s->size] = byte;
    if (s->size <= TEXT_ROOM)
        s->size++;
}

static uint32_t end_string(struct skim *s) {
    struct pixl_text text = {s->text, s->size};
    bool whole = s->size <= TEXT_ROOM;
    s->in_string = false;
    if (s->depth != 1)
        return 0;
    if (s->is_value)
        return s->is_id && whole ? pixl_line_number(&text) : 0;
    s->is_id = whole && pixl_unescape(&text) && text.size == 8 &&
               memcmp(text.at, "ipcReqID", text.size) == 0;
    return 0;
}

static uint32_t in_string(struct skim *s, uint8_t byte) {
    if (s->depth == 1)
        collect(s, byte);
    if (byte == '"' && !s->escaped)
        return end_string(s);
    s->escaped = byte == '\\' && !s->escaped;
    return 0;
}

static void between_strings(struct skim *s, uint8_t byte) {
    switch (byte) {
    case '"':
        s->in_string = true;
        s->size = 0;
        collect(s, byte);
        break;
    case '{':
    case '[':
        s->depth++;
        break;
    case '}':
    case ']':
        s->over = --s->depth == 0;
        break;
    case ':':
        s->is_value |= s->depth == 1;
        break;
    case ',':
        s->is_value &= s->depth != 1;
        break;
    }
}

/* Up to the brace that opens the object; any other text is no message. */
static void begin(struct skim *s, uint8_t byte) {
    if (byte == ' ' || byte == '\t' || byte == '\r')
        return;
    s->begun = true;
    s->depth = 1;
    s->over = byte != '{';
}

uint32_t pixl_skim(void *context, struct vouch_skim *skim, const uint8_t *bytes, size_t size) {
    struct skim s;
    uint32_t id = 0;
    (void)context;
    memcpy(&s, skim->state, sizeof(s));
    for (const uint8_t *end = bytes + size; bytes < end && id == 0 && !s.over; bytes++) {
        if (s.in_string)
            id = in_string(&s, *bytes);
        else if (s.begun)
            between_strings(&s, *bytes);
        else
            begin(&s, *bytes);
    }
    memcpy(skim->state, &s, sizeof(s));
    return id;
}
