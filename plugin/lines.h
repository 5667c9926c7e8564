/* SPDX-License-Identifier: MIT */
/*
 * Bytes into lines: bounded, and no faster than so many a second. No I/O and no clock. What a line
 * says of itself is in plugin/record.h.
 */
#ifndef VOUCH_PLUGIN_LINES_H
#define VOUCH_PLUGIN_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vouch/common.h>
#include <vouch/memory.h>

struct lines {
    const struct vouch_allocator *allocator;
    char *line;
    size_t room, size;
    bool cut;         /* the rest of this line is thrown away */
    unsigned rate;    /* lines a second */
    unsigned count;   /* in this second */
    int64_t second;   /* when it began */
    uint64_t dropped; /* lines since the last that was given out */
    uint64_t lost;    /* … in all */
};

/* What a line becomes: `text` may be changed in place, and is valid until the next call. */
struct lines_line {
    char *text;
    size_t size;
    bool cut;
    uint64_t dropped;
};

/* 0 or -ENOMEM. */
int lines_init(struct lines *lines, size_t room, unsigned rate,
               const struct vouch_allocator *allocator) VOUCH_MUST_CHECK;
void lines_deinit(struct lines *lines); /* safe twice, and on a zeroed one */
void lines_reset(struct lines *lines);  /* forgets what has come of a line */

/* Takes from `*bytes`, moving it forward, until a line is complete: true, or all is taken: false.
 * Dropped lines do not show. */
bool lines_next(struct lines *lines, const char **bytes, size_t *size, int64_t now,
                struct lines_line *ret_line);
/* The end of the stream: what there is of a last line. */
bool lines_last(struct lines *lines, int64_t now, struct lines_line *ret_line);

#endif
