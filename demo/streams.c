/* SPDX-License-Identifier: MIT */
/* A table under one lock: what is done with it is short. */
#include "demo/streams.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "demo/text.h"

#define STREAMS_MAX 64

struct stream {
    uint64_t number; /* 0: free */
    uint64_t used;   /* when, on a clock of calls */
    const char *method;
    uid_t owner;
    struct text_count count;
    struct text_search search;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stream streams[STREAMS_MAX];
static uint64_t last_number, calls_clock;

/* Lock held. NULL: there is no such stream of this caller's. */
static struct stream *find(const struct vouch_call *call, uint64_t number) {
    const char *method = vouch_call_get_method(call);
    uid_t uid = vouch_call_get_peer(call)->uid;
    struct stream *oldest = &streams[0];
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        struct stream *stream = &streams[i];
        if (number != 0 && stream->number == number)
            return stream->owner == uid && stream->method == method ? stream : NULL;
        if (stream->used < oldest->used)
            oldest = stream;
    }
    if (number != 0)
        return NULL;
    memset(oldest, 0, sizeof(*oldest));
    oldest->number = ++last_number;
    oldest->method = method;
    oldest->owner = uid;
    return oldest;
}

static void release(struct stream *stream) {
    stream->number = 0;
    stream->used = 0;
}

static void add(struct stream *stream, const struct piece *piece, struct counts *ret_counts) {
    if (piece->pattern) {
        text_search(&stream->search, piece->text, piece->size);
        *ret_counts = (struct counts){stream->number, stream->search.lines, 0, 0};
    } else {
        text_count(&stream->count, piece->text, piece->size);
        *ret_counts = (struct counts){stream->number, stream->count.lines, stream->count.words,
                                      stream->count.bytes};
    }
    stream->used = ++calls_clock;
}

int streams_feed(struct vouch_call *call, const struct piece *piece, struct counts *ret_counts) {
    pthread_mutex_lock(&lock);
    struct stream *stream = find(call, piece->stream);
    bool ok = stream && (!piece->pattern || piece->stream != 0 ||
                         text_search_init(&stream->search, piece->pattern));
    if (ok)
        add(stream, piece, ret_counts);
    if (stream && (piece->end || !ok))
        release(stream);
    pthread_mutex_unlock(&lock);
    if (ok)
        return 0;
    vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "%s",
                    stream ? "expected a pattern" : "you have no such stream");
    return -ENOENT;
}
