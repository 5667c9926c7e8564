/* SPDX-License-Identifier: MIT */
#include "plugin/lines.h"

#include <errno.h>
#include <string.h>

#include "lib/mem.h"

int lines_init(struct lines *lines, size_t room, unsigned rate,
               const struct vouch_allocator *allocator) {
    *lines = (struct lines){.allocator = allocator, .room = room, .rate = rate};
    lines->line = mem_alloc(allocator, room + 1); /* and a NUL */
    return lines->line ? 0 : -ENOMEM;
}

void lines_deinit(struct lines *lines) {
    mem_free(lines->allocator, lines->line, lines->room + 1);
    lines->line = NULL;
}

void lines_reset(struct lines *lines) {
    lines->size = 0;
    lines->cut = false;
}

static bool may_pass(struct lines *lines, int64_t now) {
    if (now - lines->second >= VOUCH_SECONDS(1)) {
        lines->second = now;
        lines->count = 0;
    }
    if (lines->count >= lines->rate) {
        lines->dropped++;
        lines->lost++;
        return false;
    }
    lines->count++;
    return true;
}

static bool give_out(struct lines *lines, int64_t now, struct lines_line *ret_line) {
    struct lines_line line = {lines->line, lines->size, lines->cut, lines->dropped};
    lines_reset(lines);
    if (!may_pass(lines, now))
        return false;
    if (line.size > 0 && line.text[line.size - 1] == '\r')
        line.size--;
    line.text[line.size] = '\0';
    lines->dropped = 0;
    *ret_line = line;
    return true;
}

static void add(struct lines *lines, const char *bytes, size_t size) {
    size_t space = lines->room - lines->size;
    if (size > space) {
        lines->cut = true;
        size = space;
    }
    memcpy(lines->line + lines->size, bytes, size);
    lines->size += size;
}

bool lines_next(struct lines *lines, const char **bytes, size_t *size, int64_t now,
                struct lines_line *ret_line) {
    while (*size > 0) {
        const char *end = memchr(*bytes, '\n', *size);
        size_t part = end ? (size_t)(end - *bytes) : *size;
        add(lines, *bytes, part);
        size_t taken = part + (end ? 1 : 0);
        *bytes += taken;
        *size -= taken;
        if (end && give_out(lines, now, ret_line))
            return true;
    }
    return false;
}

bool lines_last(struct lines *lines, int64_t now, struct lines_line *ret_line) {
    return (lines->size > 0 || lines->cut) && give_out(lines, now, ret_line);
}
