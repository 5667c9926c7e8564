/* SPDX-License-Identifier: MIT */
/*
 * JSON calls and streams, with cJSON for the trees: libvouch-json.
 *
 * What comes in is looked through before cJSON sees it: the grammar of RFC 8259 to the letter,
 * UTF-8, no \u0000, no half surrogate pairs, nothing after the value, and limits. What goes out is
 * printed by this library straight into the buffer that is sent.
 *
 * Numbers keep the text they were written with: 9007199254740993, 1.0 and 1e3 are printed as they
 * came, as long as nobody changes their value. For integers of 64 bits there are functions below;
 * cJSON's own valuedouble and valueint round them.
 *
 * Trees are cJSON's: the caller deletes those that functions here return (cJSON_Delete). The locale
 * must not be changed while JSON is parsed or printed.
 */
#ifndef VOUCH_JSON_H
#define VOUCH_JSON_H

#include <cjson/cJSON.h>
#include <vouch/client.h>
#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/error.h>
#include <vouch/policy.h>
#include <vouch/pool.h>
#include <vouch/server.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What is taken ---- */

#define VOUCH_JSON_DEPTH_DEFAULT 64     /* arrays and objects inside each other */
#define VOUCH_JSON_DEPTH_BOUND 512      /* cJSON recurses: this takes less than 128 KiB of stack */
#define VOUCH_JSON_VALUES_DEFAULT 65536 /* a value of two bytes takes 80 as a tree */
#define VOUCH_JSON_NUMBER_MAX 63        /* bytes: what every cJSON 1.7 reads whole */

struct vouch_json_rules {
    size_t size;
    unsigned max_depth; /* 0: VOUCH_JSON_DEPTH_DEFAULT; at most VOUCH_JSON_DEPTH_BOUND */
    size_t max_values;  /* values of any kind, arrays and objects included, keys not; 0:
                           VOUCH_JSON_VALUES_DEFAULT; SIZE_MAX: any number */
    bool unique_keys;   /* refuse an object that has a key twice, however it is spelled. Sorts all
                           keys */
};

/* Where a text was refused, and why. */
struct vouch_json_fault {
    size_t offset;      /* in bytes */
    const char *reason; /* static */
};

/* Whether `text` is one JSON value within the rules (NULL: the defaults). One pass, no recursion,
 * no memory but for unique_keys. 0; -EPROTO: `ret_fault` (may be NULL) says where and why; -EINVAL
 * (max_depth), -ENOMEM. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_scan(const void *text, size_t size,
                                               const struct vouch_json_rules *rules,
                                               struct vouch_json_fault *ret_fault);

/* Scans, then makes a tree. Also refused: a number too large for a double, as 1e999. `ret_error`
 * may be NULL; its message has the offset and the reason. Returns as vouch_json_scan. */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_parse(const void *text, size_t size,
                                                const struct vouch_json_rules *rules,
                                                cJSON **ret_tree, struct vouch_error *ret_error);

/* Prints without white space into at most `size` bytes, without a NUL. Returns the bytes that it
 * takes: when that is over `size`, what was written is of no use; `text` may be NULL when `size` is
 * 0. -EINVAL: the tree is not JSON (a number that is not finite, a string that is not UTF-8, a raw
 * item that vouch_json_scan refuses, a member without a name); -EMSGSIZE: it is deeper than
 * VOUCH_JSON_DEPTH_BOUND. Strings are escaped as Go's encoding/json does: <, >, & and the line
 * separators as well. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK ssize_t vouch_json_print(const cJSON *tree, char *text, size_t size);

/* ---- Integers of 64 bits ---- */

/* The exact integer of a number item. 0; -EINVAL: NULL or not a number; -ERANGE: not an integer,
 * out of range, or known only as a double of 2^53 or more (1e18, say), which may have been rounded.
 */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_get_int64(const cJSON *item, int64_t *ret_value);
VOUCH_API VOUCH_MUST_CHECK int vouch_json_get_uint64(const cJSON *item, uint64_t *ret_value);

/* An item that prints as exactly this; NULL without memory (cJSON_AddItemTo… then return false). */
VOUCH_API VOUCH_MUST_CHECK cJSON *vouch_json_new_int64(int64_t value);
VOUCH_API VOUCH_MUST_CHECK cJSON *vouch_json_new_uint64(uint64_t value);

/* The same as a new member of an object. 0, -ENOMEM, -EINVAL (not an object). */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_add_int64(cJSON *object, const char *name, int64_t value);
VOUCH_API VOUCH_MUST_CHECK int vouch_json_add_uint64(cJSON *object, const char *name,
                                                     uint64_t value);

/* ---- Server ---- */

/* Handles a call. `request` is valid until it returns (also of a call that is kept: duplicate what
 * is needed). Returns 0 with a reply in `*ret_reply`, which is printed, sent and deleted; > 0 or <
 * 0 as vouch_handler does, or after vouch_call_fail, for an error. It may also answer with
 * vouch_json_reply, or keep the call and do that later: then it leaves `*ret_reply` alone. One that
 * does nothing of all this answers VOUCH_REMOTE_SERVER. */
typedef int (*vouch_json_handler)(void *context, struct vouch_call *call, const cJSON *request,
                                  cJSON **ret_reply);

/* The same for who has a JSON library of their own: `text`, which was scanned, is not terminated
 * and valid as vouch_call_get_data says. It answers as a vouch_handler does, vouch_call_reply
 * included. */
typedef int (*vouch_json_text_handler)(void *context, struct vouch_call *call, const char *text,
                                       size_t size);

struct vouch_json_method {
    size_t size;
    const char *name;
    vouch_json_handler handler;           /* either this … */
    vouch_json_text_handler text_handler; /* … or this */
    void *context;
    const struct vouch_policy *policy; /* as in struct vouch_method */
    unsigned flags;
    const struct vouch_json_rules *rules; /* for requests; NULL: the defaults. Copied */
    void (*release)(void *context);       /* as in struct vouch_method */
};

/* Registers a method. A request that is refused is answered VOUCH_REMOTE_BAD_DATA, with offset and
 * reason, before the handler runs. Errors of vouch_server_add_method. */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_add_method(struct vouch_server *server,
                                                     const struct vouch_json_method *method);

/* Answers with a tree, which stays the caller's. As vouch_call_reply; also -EINVAL and -EMSGSIZE of
 * vouch_json_print, and -ENOMEM: the caller then got VOUCH_REMOTE_SERVER. */
VOUCH_API int vouch_json_reply(struct vouch_call *call, const cJSON *reply);

/* ---- Client ---- */

/* Calls and waits. Results as vouch_client_call; -EPROTO also: the reply was refused (the client
 * goes on); -EINVAL (also a `request` of NULL: none is cJSON_CreateNull()) and -EMSGSIZE also as
 * vouch_json_print, nothing was sent then. `ret_reply` may be NULL, is NULL on failure; `options`
 * and `ret_error` may be NULL. Replies are held to the default rules; for others take
 * vouch_client_call and vouch_json_parse. */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_call(struct vouch_client *client, const char *method,
                                               const cJSON *request,
                                               const struct vouch_call_options *options,
                                               cJSON **ret_reply, struct vouch_error *ret_error);

/* The same with text both ways. The request is scanned as well: -EINVAL, with offset and reason,
 * and nothing is sent. The reply is in place, to be released (vouch_reply_release). */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_call_text(struct vouch_client *client, const char *method,
                                                    const char *request, size_t size,
                                                    const struct vouch_call_options *options,
                                                    struct vouch_reply *ret_reply,
                                                    struct vouch_error *ret_error);

/* The end of an asynchronous call, as vouch_reply_callback; `reply` is NULL unless `result` is 0,
 * and is deleted after. */
typedef void (*vouch_json_callback)(void *context, int result, const cJSON *reply,
                                    const struct vouch_error *error);

/* Calls without waiting: as vouch_client_call_async. */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_call_async(struct vouch_client *client,
                                                     const char *method, const cJSON *request,
                                                     const struct vouch_call_options *options,
                                                     vouch_json_callback callback, void *context,
                                                     uint64_t *ret_id);

/* ---- Streams: one value a chunk, both ways ---- */

struct vouch_json_stream;

struct vouch_json_stream_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc. Not for trees, which are cJSON's */
    struct vouch_pool *pool;                 /* referenced; NULL: one of its own */
    size_t max_read, max_write;           /* bytes of a value; as in struct vouch_chunk_options */
    int64_t frame_timeout;                /* as there */
    const struct vouch_json_rules *rules; /* for what is read; NULL: the defaults. Copied */
};

/* Takes `conn` over, on success only. 0, -ENOMEM, -EINVAL. `options` may be NULL. One thread may
 * read while another writes. Deadlines are the connection's (vouch_conn_set_deadline). */
VOUCH_API VOUCH_MUST_CHECK int
vouch_json_stream_new(struct vouch_conn *conn, const struct vouch_json_stream_options *options,
                      struct vouch_json_stream **ret_stream);
VOUCH_API void
vouch_json_stream_free(struct vouch_json_stream *stream); /* closes; NULL is ignored */

/* The connection beneath; owned by the stream. */
VOUCH_API struct vouch_conn *vouch_json_stream_get_conn(struct vouch_json_stream *stream);

/* Reads the next value: 1; 0: the peer has ended; -EPROTO, with offset and reason in `ret_error`
 * (may be NULL), when what came is refused: the connection is closed then; -ENOMEM: the value is
 * lost. Else as vouch_chunk_conn_read. */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_stream_read(struct vouch_json_stream *stream,
                                                      cJSON **ret_value,
                                                      struct vouch_error *ret_error);

/* Writes a value, which stays the caller's. As vouch_chunk_conn_write, and -EINVAL and -EMSGSIZE of
 * vouch_json_print (nothing was sent then). */
VOUCH_API VOUCH_MUST_CHECK int vouch_json_stream_write(struct vouch_json_stream *stream,
                                                       const cJSON *value);

/* For a foreign loop: poll the connection's descriptor for get_events at most get_timeout ns, then
 * call try_read until it answers -EAGAIN, and flush. try_read is as read, without waiting. queue is
 * as write, without waiting: what the socket does not take is kept for flush; -EAGAIN, and nothing
 * is kept, when max_write bytes or more are waiting already. flush: 0 when all is sent, -EAGAIN, or
 * an error as vouch_conn_write. While something waits, vouch_json_stream_write answers -EBUSY. */
VOUCH_API short vouch_json_stream_get_events(struct vouch_json_stream *stream);
VOUCH_API int64_t vouch_json_stream_get_timeout(struct vouch_json_stream *stream);
VOUCH_API VOUCH_MUST_CHECK int vouch_json_stream_try_read(struct vouch_json_stream *stream,
                                                          cJSON **ret_value,
                                                          struct vouch_error *ret_error);
VOUCH_API VOUCH_MUST_CHECK int vouch_json_stream_queue(struct vouch_json_stream *stream,
                                                       const cJSON *value);
VOUCH_API VOUCH_MUST_CHECK int vouch_json_stream_flush(struct vouch_json_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
