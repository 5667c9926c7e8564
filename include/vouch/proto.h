/* SPDX-License-Identifier: MIT */
/*
 * Protobuf, with protobuf-c: calls by method name, whole services, and streams of messages. This is
 * libvouch-proto, a library of its own on top of libvouch (pkg-config vouch-proto).
 *
 * What comes in is looked through before protobuf-c sees it: nothing is cut off, nothing nests
 * deeper than VOUCH_PROTO_DEPTH_MAX or has more than VOUCH_PROTO_FIELDS_MAX fields, strings are
 * UTF-8 without NUL, every field has the wire type of its declaration, lengths and varints have at
 * most the bytes they may have. It is then unpacked into pooled memory: at most 64 KiB and 32 bytes
 * for each of its own, but not over 16 MiB, or over 64 KiB and 2 bytes for each where that is more.
 * So calls of the same kind allocate nothing once the pool is warm.
 */
#ifndef VOUCH_PROTO_H
#define VOUCH_PROTO_H

#include <vouch/chunk.h>
#include <vouch/client.h>
#include <vouch/common.h>
#include <vouch/error.h>
#include <vouch/pool.h>
#include <vouch/server.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Types of <protobuf-c/protobuf-c.h>, which this header does not need. */
struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;
struct ProtobufCService;
struct ProtobufCServiceDescriptor;

/* Messages within each other, the outermost counted: what protobuf-c, which recurses, takes on the
 * smallest stacks (64 KiB hold 62). */
#define VOUCH_PROTO_DEPTH_MAX 48
/* Fields of a message and all in it; a packed list is one. */
#define VOUCH_PROTO_FIELDS_MAX 262144u

/* ---- Messages ---- */

/* An unpacked message and the memory it lives in, all of it: do not give it to
 * protobuf_c_message_free_unpacked. */
struct vouch_proto_message {
    struct ProtobufCMessage *message; /* of the descriptor it was unpacked with: cast it */
    struct vouch_buffer *memory;
};

/* Unpacks `size` bytes (`data` may be NULL when it is 0: a message of defaults) into memory of
 * `pool`. `ret_error` may be NULL. `ret_message` is cleared on failure. Returns 0; -EPROTO: they
 * are not such a message, the text says which byte and why; -EMSGSIZE: over a limit of this file,
 * or over VOUCH_CHUNK_SIZE_BOUND; -ENOMEM; -ECHILD. Any thread; does not block. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_proto_unpack(struct vouch_pool *pool, const struct ProtobufCMessageDescriptor *descriptor,
                   const void *data, size_t size, struct vouch_proto_message *ret_message,
                   struct vouch_error *ret_error);

/* Lets go of a message's memory and clears it. Safe twice, and on a zeroed one. */
VOUCH_API void vouch_proto_message_release(struct vouch_proto_message *message);

/* ---- Calls by name: client ---- */

/* Calls and waits. The request is packed where it is sent from; it must not be changed meanwhile.
 * `descriptor` is the reply's. `options`, `ret_error` may be NULL; `ret_reply` too, then the reply
 * is not looked at. The caller releases the reply, which is cleared on failure. Returns as
 * vouch_client_call; also -EPROTO and -EMSGSIZE when the reply is not acceptable
 * (vouch_proto_unpack), and -EINVAL when there is no request or it packs to another size than
 * protobuf_c_message_get_packed_size says (somebody changed it). Any thread, but not from a
 * callback of the same client. */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_call(struct vouch_client *client, const char *method,
                                                const struct ProtobufCMessage *request,
                                                const struct ProtobufCMessageDescriptor *descriptor,
                                                const struct vouch_call_options *options,
                                                struct vouch_proto_message *ret_reply,
                                                struct vouch_error *ret_error);

/* The end of an asynchronous call: `result` as vouch_proto_call returns it; `reply` is NULL unless
 * that is 0, and valid until the callback returns; `error` (never NULL) has the text when it is not
 * 0. Runs where a vouch_reply_callback runs. */
typedef void (*vouch_proto_callback)(void *context, int result,
                                     const struct ProtobufCMessage *reply,
                                     const struct vouch_error *error);

/* Calls without waiting: as vouch_client_call_async. The request may be changed after it returns.
 */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_call_async(
    struct vouch_client *client, const char *method, const struct ProtobufCMessage *request,
    const struct ProtobufCMessageDescriptor *descriptor, const struct vouch_call_options *options,
    vouch_proto_callback callback, void *context, uint64_t *ret_id);

/* ---- Calls by name: server ---- */

/* Handles a call whose request was unpacked; one that can't be is answered VOUCH_REMOTE_BAD_DATA
 * with the reason and does not come here. `request` is valid until it returns: who keeps the call
 * copies what he needs, or unpacks it again. Answer with vouch_proto_reply, vouch_call_fail, or
 * vouch_call_keep it; what it returns means what a vouch_handler's result means. (An empty body, 0
 * without an answer, is the message of all defaults.) */
typedef int (*vouch_proto_handler)(void *context, struct vouch_call *call,
                                   const struct ProtobufCMessage *request);

struct vouch_proto_method {
    size_t size;
    const char *name;                                 /* as of struct vouch_method */
    const struct ProtobufCMessageDescriptor *request; /* what it takes; lives as long as the
                                                         server, as generated ones do */
    vouch_proto_handler handler;
    void *context;
    const struct vouch_policy *policy; /* as of struct vouch_method */
    unsigned flags;                    /* VOUCH_METHOD_* */
    void (*release)(void *context);    /* as of struct vouch_method */
};

/* Registers a method. Returns as vouch_server_add_method. */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_add_method(struct vouch_server *server,
                                                      const struct vouch_proto_method *method);

/* Answers with a message, packed where it is sent from. Returns as vouch_call_reply; -EINVAL when
 * there is no message, or it packs to another size than it said, and -ENOMEM: the caller got
 * VOUCH_REMOTE_SERVER. All but -EALREADY end a kept call. Any thread; does not wait. */
VOUCH_API int vouch_proto_reply(struct vouch_call *call, const struct ProtobufCMessage *reply);

/* ---- Services ---- */

/*
 * Services as protobuf-c generates them. The method Sum of the service Math in the package demo is
 * called "/demo.Math/Sum".
 *
 * Methods that take or return a `stream` can't be served or called. The generated descriptors do
 * not say which those are (protoc-c drops the word), so it is the program vouch-check-proto that
 * refuses them, when it is run on the .proto file; see docs/protobuf.md.
 */
struct vouch_proto_service {
    size_t size;
    /* Implements it; stays the caller's and outlives the server. Its methods are called by several
     * threads at a time. Each answers by calling its closure exactly once, inside or later, from
     * any thread; a NULL reply answers VOUCH_REMOTE_SERVER. The closure's data is the struct
     * vouch_call, kept: ask it for the peer, the deadline, whether it is cancelled; or answer with
     * vouch_call_fail instead of the closure. The request is valid until the method returns. */
    struct ProtobufCService *service;
    const struct vouch_policy
        *policy;    /* for all its methods; NULL: all who are connected. Copied */
    unsigned flags; /* VOUCH_METHOD_*, for all its methods */
};

/* Registers every method of a service. Returns as vouch_server_add_method; -EINVAL also for a
 * descriptor without names (optimize_for = CODE_SIZE). `ret_error` may be NULL; it names the
 * method. On failure some methods may have been registered. */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_add_service(struct vouch_server *server,
                                                       const struct vouch_proto_service *service,
                                                       struct vouch_error *ret_error);

struct vouch_proto_service_options {
    size_t size;
    bool async;      /* stubs return at once; closures run where a vouch_reply_callback runs. Off:
                        a stub waits, and its closure has run when it returns */
    int64_t timeout; /* of each call, ns; 0: the client's call_timeout; VOUCH_FOREVER */
    uint64_t tag;    /* of all its calls, for vouch_client_cancel; 0: none */
    /* Runs before the closure of a call that failed, which then gets a NULL reply: protobuf-c has
     * no place for errors. `result` as vouch_proto_call returns it. May be NULL. */
    void (*failed)(void *context, const char *method, int result, const struct vouch_error *error,
                   void *closure_data);
    void *context;
};

/* A service whose generated stubs, foo__bar(service, &request, closure, data), call through
 * `client`, which has to outlive it. Stubs may be used by any thread, blocking ones not from a
 * callback of the client; the closure is called exactly once, with a reply that is valid until it
 * returns, or NULL. Freed by protobuf_c_service_destroy, also while calls are in flight. Returns 0,
 * -ENOMEM, -ECHILD, VOUCH_E_METHOD_NAME (a name is longer than VOUCH_METHOD_NAME_MAX), -EINVAL (the
 * descriptor has no names, timeout < 0). `options` may be NULL. */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_service_new(
    struct vouch_client *client, const struct ProtobufCServiceDescriptor *descriptor,
    const struct vouch_proto_service_options *options, struct ProtobufCService **ret_service);

/* ---- Streams ---- */

/*
 * A stream of messages in both directions, each of which is ended by its own side: the other side
 * is told (close) and says that it knows (close-ack). One thread may read while another writes.
 */
struct vouch_proto_stream;

/* Messages, and bytes of them up to max_read, kept while vouch_proto_stream_close_send waits and
 * nobody reads. */
#define VOUCH_PROTO_STREAM_KEPT_MAX 64

/* Takes `conn` over (on success only). `options` may be NULL; max_read and max_write hold for a
 * message and one byte. Returns 0, -ENOMEM, -EINVAL. */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_stream_new(struct vouch_conn *conn,
                                                      const struct vouch_chunk_options *options,
                                                      struct vouch_proto_stream **ret_stream);

/* Closes at once, without telling the peer more than that, and frees. Nobody may be inside another
 * function of it. NULL is ignored. */
VOUCH_API void vouch_proto_stream_free(struct vouch_proto_stream *stream);

/* The connection beneath, for the identity, its descriptor, vouch_conn_close; owned by the stream.
 * Deadlines are set with vouch_proto_stream_set_deadline. */
VOUCH_API struct vouch_conn *vouch_proto_stream_get_conn(struct vouch_proto_stream *stream);

/* A deadline for reading, writing or both; VOUCH_FOREVER, the initial state, for none. Holds for
 * calls that begin afterwards. Any thread; does not block. */
VOUCH_API void vouch_proto_stream_set_deadline(struct vouch_proto_stream *stream,
                                               enum vouch_direction direction, int64_t deadline);

/* Reads the next message. 1: `ret_message` is filled, the caller releases it; 0: the peer has said
 * that it sends no more, and is told that we know; -ECONNRESET: it is gone without that word;
 * -ETIMEDOUT at the read deadline (reading may go on) or at the frame timeout; -ENOMEM (nothing is
 * lost); -ECHILD; -ESHUTDOWN. The connection is closed after -EPROTO: the bytes are no such message
 * (the text says why) or break the protocol (data or a close after the close, an ack of nothing, an
 * empty chunk, an unknown type), and after -EMSGSIZE: over max_read or a limit of
 * vouch_proto_unpack. `ret_message` is cleared on failure and at the end; `ret_error` may be NULL.
 */
VOUCH_API VOUCH_MUST_CHECK int
vouch_proto_stream_read(struct vouch_proto_stream *stream,
                        const struct ProtobufCMessageDescriptor *descriptor,
                        struct vouch_proto_message *ret_message, struct vouch_error *ret_error);

/* Writes a message. 0; -ESHUTDOWN after vouch_proto_stream_close_send; -EMSGSIZE over max_write
 * (nothing was sent); -EINVAL: no message, or it packs to another size than it said; -ENOMEM; else
 * as vouch_chunk_conn_write. */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_stream_write(struct vouch_proto_stream *stream,
                                                        const struct ProtobufCMessage *message);

/* Ends our direction and waits until the peer says that it knows, or `deadline` (of
 * CLOCK_MONOTONIC; one in the past: does not wait). The peer's direction stays open: what it sends
 * before its answer is kept for vouch_proto_stream_read, up to VOUCH_PROTO_STREAM_KEPT_MAX; then
 * this waits for another thread to read. Who has no other thread and expects more than that ends
 * with a deadline in the past, reads to the end, and calls this again to wait for the answer. When
 * both directions are ended the connection is closed. 0; -ETIMEDOUT: no answer yet, it is still
 * taken by whoever reads; -EAGAIN: the same for want of room to keep messages: read; or there was
 * no room in the socket even for the close, within the write deadline and a second: call again.
 * -ECONNRESET: the peer is gone; else as vouch_proto_stream_read. Peers built on the Go package may
 * never answer when they have ended first: give them little time. */
VOUCH_API VOUCH_MUST_CHECK int vouch_proto_stream_close_send(struct vouch_proto_stream *stream,
                                                             int64_t deadline);

#ifdef __cplusplus
}
#endif
#endif
