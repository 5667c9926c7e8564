/* SPDX-License-Identifier: MIT */
/*
 * Dialects: what calls look like on a wire other than vouch's own. This is for who writes one;
 * programs take one as it is, from <vouch/pixl.h> say, and give it to a listener or a client.
 *
 * A dialect turns the bytes of one message into a struct vouch_message, and back. Everything else
 * (finding messages, calls in flight, deadlines, limits, threads, policies) is the same for all.
 * Messages are lines, ended by '\n'. Over TCP those of the head of an HTTP request end the
 * connection before a dialect sees them: a web page could have a browser of this machine send one.
 *
 * The functions run on any thread and several at a time (of one connection one at a time), with a
 * lock of vouch's held: they must not block, and call nothing of a server's, client's or call's.
 */
#ifndef VOUCH_DIALECT_H
#define VOUCH_DIALECT_H

#include <vouch/common.h>
#include <vouch/error.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vouch_message_kind {
    VOUCH_MESSAGE_NONE, /* nothing is meant: skipped */
    VOUCH_MESSAGE_CALL,
    VOUCH_MESSAGE_REPLY,
    VOUCH_MESSAGE_NOTICE, /* a server says something that nobody asked for */
};

/* A message as the dialect reads it, or is to write it. Pointers of one that was read point into
 * its bytes, or to what lives as long as the dialect. */
struct vouch_message {
    enum vouch_message_kind kind;
    /* Calls: what is asked for, as the caller wrote it; and the method that is to run, by the name
     * that it is registered with, NULL: the target is its name. At most VOUCH_METHOD_NAME_MAX
     * bytes of a target are kept with a call. Replies that are written have the target, too. */
    const char *target;
    size_t target_size;
    const char *method;
    size_t method_size;
    /* … where there is none of that name (with the flags below), this one. NULL: none. */
    const char *fallback;
    size_t fallback_size;
    /* Calls that are read: what their replies have to repeat. They have it when they are written.
     */
    const uint8_t *tag;
    size_t tag_size;
    /* Calls that are written: the number, never 0, that their replies have when they are read. */
    uint32_t id;
    const uint8_t *data; /* the body. Not set when written: only its size is */
    size_t size;
    /* Calls that are read: 0, or why they can't be run; replies: 0 or the error. An enum
     * vouch_remote_error, with a text, which may be none and need not end in NUL. */
    int result;
    const char *text;
    size_t text_size;
};

/* What is written around a body. */
struct vouch_wrapping {
    uint8_t *before, *after; /* both NULL: only the sizes are asked for */
    size_t before_size, after_size;
};

enum vouch_dialect_event {
    VOUCH_DIALECT_OPENED,   /* a connection speaks it; no value */
    VOUCH_DIALECT_CLOSED,   /* … and has ended; no value */
    VOUCH_DIALECT_ANSWERED, /* a call was answered; the ns since it came */
    VOUCH_DIALECT_BLOCKED,  /* the peer's socket is full: the bytes that wait */
};

/* What a dialect remembers of a line that passes by; in whatever way it likes. */
struct vouch_skim {
    uint8_t state[128];
};

struct vouch_dialect {
    size_t size;      /* sizeof(struct vouch_dialect) */
    const char *name; /* for messages; it, read and wrap have to be there */
    void *context;

    /* Servers: calls reach only methods that have all of these flags (VOUCH_METHOD_JSON). Others
     * are answered as if they were not there. */
    unsigned method_flags;

    /* Whether a connection whose first byte is this speaks it, where several are spoken. Odd bytes
     * never begin vouch's own wire (there the first bit is the sign of a length: docs/protocol.md),
     * so '{' is enough to tell JSON from it. Servers only, which need it. */
    bool (*begins)(void *context, uint8_t first);

    /* Reads a line, without its '\n'. The bytes may be changed: nobody else looks at them. Where
     * `oversize` is not 0 the line was longer than is taken, at least so many bytes, and `bytes` is
     * its beginning only, 512 bytes (of the tag of such a call at most 64 are kept): the message is
     * read as far as it is known (a call without a result is answered VOUCH_REMOTE_TOO_LARGE). 0,
     * or a negative code that ends the connection. */
    int (*read)(void *context, uint8_t *bytes, size_t size, uint64_t oversize,
                struct vouch_message *ret_message);

    /* Looks at a body before it is written, and may change it in place. 0; negative: it can't be
     * said in this dialect. May be NULL. */
    int (*prepare)(void *context, uint8_t *data, size_t size);

    /* Writes what goes around a body of message->size bytes, '\n' included. It is asked twice, for
     * the sizes and for the bytes: they must agree. An error has no body: all is before it. */
    void (*wrap)(void *context, const struct vouch_message *message,
                 struct vouch_wrapping *wrapping);

    /* Servers: told of what happens, to count it. May be NULL. */
    void (*observe)(void *context, enum vouch_dialect_event event, int64_t value);

    /* Clients, in the place of read, of a line that is longer than is taken: whose reply it is. The
     * line comes from its first byte on, in pieces as they arrive; `skim` is all zero at the first
     * and as it was left at the others. The id, once it is known, ends that call with -EMSGSIZE,
     * and the rest is not asked about; 0: not yet. NULL: read has to find it in the beginning. */
    uint32_t (*skim)(void *context, struct vouch_skim *skim, const uint8_t *bytes, size_t size);
};

#ifdef __cplusplus
}
#endif
#endif
