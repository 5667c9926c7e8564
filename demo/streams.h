/* SPDX-License-Identifier: MIT */
/*
 * Texts that come in pieces, each in a call of its own: the server's side, and what a piece and its
 * answer are on both sides, whatever they are encoded as.
 *
 * A stream belongs to the user who began it. There is room for some; who needs more gets the place
 * of the one that was not used for longest.
 */
#ifndef DEMO_STREAMS_H
#define DEMO_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vouch/server.h>

struct piece {
    uint64_t stream;     /* 0: begins a new one */
    bool end;            /* the last one */
    const char *pattern; /* to search for; NULL: count */
    const void *text;
    size_t size;
};

/* Up to here. A search counts lines only. */
struct counts {
    uint64_t stream, lines, words, bytes;
};

/* Adds a piece to its stream. When that is not possible the call is answered why. Any thread. */
int streams_feed(struct vouch_call *call, const struct piece *piece, struct counts *ret_counts);

#endif
