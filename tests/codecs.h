/* SPDX-License-Identifier: MIT */
/*
 * The kinds of bodies (bytes, JSON, protobuf) behind one face, for tests that hold all of them to
 * the same. A payload is text without NUL: a string of JSON, the `data` of a sample.Everything.
 */
#ifndef TESTS_CODECS_H
#define TESTS_CODECS_H

#include <vouch/client.h>
#include <vouch/server.h>

struct codec;

/* Answers with codec->reply, or as a vouch_handler does. `text` is not terminated. */
typedef int (*codec_handler)(void *context, const struct codec *codec, struct vouch_call *call,
                             const char *text, size_t size);

/* What registers a handler; lives as long as the server. */
struct codec_method {
    const struct codec *codec;
    codec_handler handler;
    void *context;
};

/* How a call ended, with the reply's payload when it ended well (to be freed). */
struct codec_outcome {
    int result;
    unsigned ends; /* how often it did */
    char *text;
    size_t size;
    struct vouch_error error;
};

struct codec {
    const char *name;
    int (*add)(struct vouch_server *server, const char *name, const struct codec_method *method);
    int (*reply)(struct vouch_call *call, const char *text, size_t size);
    void (*call)(struct vouch_client *client, const char *method, const char *text, size_t size,
                 const struct vouch_call_options *options, struct codec_outcome *ret_outcome);
    int (*call_async)(struct vouch_client *client, const char *method, const char *text,
                      size_t size, const struct vouch_call_options *options,
                      struct codec_outcome *outcome);
    const char *malformed; /* bytes that are no such body; NULL: there are none */
};

/* Ends with one without a name. */
extern const struct codec codecs[];

#endif
