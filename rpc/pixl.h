/* SPDX-License-Identifier: MIT */
/*
 * What the files of libvouch-pixl share. pixl_line.c reads lines, pixl_skim.c those that are too
 * long to be read, pixl_wrap.c writes them, pixl_route.c leads URIs to methods, pixl_stats.c
 * counts; none of them knows of servers or clients.
 */
#ifndef VOUCH_RPC_PIXL_H
#define VOUCH_RPC_PIXL_H

#include <pthread.h>
#include <vouch/pixl.h>

/* ---- pixl_line.c ---- */

/* A value as it was written, or what a string says; at NULL: there is none. */
struct pixl_text {
    uint8_t *at;
    size_t size;
};

/* Members of a line; of those that come twice the last one, as JSON.parse has it. */
struct pixl_line {
    struct pixl_text id, uri, data;
    const char *fault; /* why it is refused; NULL: it is good */
    bool partial;      /* refused, or cut: members are not all there, or not good */
};

/* Whether a line begins as an object does, and what is in it. `cut`: these are the first bytes of
 * a longer line. */
bool pixl_line_read(uint8_t *bytes, size_t size, bool cut, struct pixl_line *ret_line);

/* Replaces a string by what it says, in place. False: it is no string, or not a good one. */
bool pixl_unescape(struct pixl_text *text);

/* Makes a call of a line that a client wrote, as far as that needs no routes; false: it is no
 * message. Of a call that can't be run, result is not 0: a line that is not good JSON is one when
 * its id and its uri can be told. */
bool pixl_line_call(uint8_t *bytes, size_t size, uint64_t oversize, struct vouch_message *message);

/* The same for a client, of a line that a server wrote: a reply or a notice, with the whole line as
 * its body. A reply need not be good JSON. */
bool pixl_line_reply(uint8_t *bytes, size_t size, struct vouch_message *message);

/* The number of an id, with its quotes, that is one of ours; 0: it is not. Not of one that has more
 * bytes between its quotes than this. */
#define PIXL_NUMBER_MAX 64
uint32_t pixl_line_number(const struct pixl_text *id);

/* ---- pixl_skim.c ---- */

/* vouch_dialect.skim. */
uint32_t pixl_skim(void *context, struct vouch_skim *skim, const uint8_t *bytes, size_t size);

/* ---- pixl_wrap.c ---- */

/* vouch_dialect.prepare: a body has to be one JSON text, and is put on one line. Empty is taken as
 * none. */
int pixl_prepare(void *context, uint8_t *data, size_t size);

/* What goes around a reply or a notice. */
void pixl_wrap_reply(const struct vouch_message *message, struct vouch_wrapping *wrapping);

/* … around a call; `tail` is what pixl_wrap_tail made. */
void pixl_wrap_call(const struct vouch_message *message, const struct pixl_text *tail,
                    struct vouch_wrapping *wrapping);

/* The end of every call of a client: pid, user agent, the braces. Returns its size; `to` NULL: only
 * that. */
size_t pixl_wrap_tail(uint8_t *to, long pid, const char *user_agent);

/* The code that an enum vouch_remote_error has on the wire; never NULL. And back:
 * VOUCH_REMOTE_UNKNOWN for codes of others. */
const char *pixl_code_of(int result);
int pixl_result_of(const char *code);

/* ---- pixl_route.c ---- */

struct pixl_route;

struct pixl_routes {
    struct vouch_pool *pool;
    struct pixl_route *first, *last;
    size_t count;
    void *pcre; /* its context for memory */
};

int pixl_routes_init(struct pixl_routes *routes, struct vouch_pool *pool) VOUCH_MUST_CHECK;
void pixl_routes_deinit(struct pixl_routes *routes);

/* As vouch_pixl_server_add_route, whose parameters are checked here. */
int pixl_routes_add(struct pixl_routes *routes, enum vouch_pixl_route_kind kind, const char *text,
                    unsigned flags, const char *method,
                    struct vouch_error *ret_error) VOUCH_MUST_CHECK;

/* As vouch_pixl_server_match, of a URI that is UTF-8. `ret_match` is cleared first. */
int pixl_routes_find(const struct pixl_routes *routes, const char *uri, size_t size,
                     struct vouch_pixl_match *ret_match) VOUCH_MUST_CHECK;

/* Whether a text can be a method's name. */
bool pixl_is_method_name(const char *name);

/* ---- pixl_stats.c ---- */

struct pixl_stats {
    pthread_mutex_t lock;
    struct vouch_pixl_stats counts; /* but for elapsed and handlers */
    int64_t interval, slow;
};

void pixl_stats_init(struct pixl_stats *stats, int64_t now, int64_t interval, int64_t slow);
void pixl_stats_deinit(struct pixl_stats *stats);
void pixl_stats_request(struct pixl_stats *stats);
void pixl_stats_skipped(struct pixl_stats *stats);
void pixl_stats_event(struct pixl_stats *stats, enum vouch_dialect_event event, int64_t value);
void pixl_stats_get(struct pixl_stats *stats, int64_t now, struct vouch_pixl_stats *ret_stats);
/* With the interval's end at `now`, if it is over or `anyway`. Whether it was. */
bool pixl_stats_take(struct pixl_stats *stats, int64_t now, bool anyway,
                     struct vouch_pixl_stats *ret_stats);

#endif
