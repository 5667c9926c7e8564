/* SPDX-License-Identifier: MIT */
/* Messages into buffers and out of them. */
#ifndef VOUCH_STREAM_PROTO_MESSAGE_H
#define VOUCH_STREAM_PROTO_MESSAGE_H

#include <protobuf-c/protobuf-c.h>
#include <vouch/proto.h>

/* Fills `ret_error`, which may be NULL; returns `code`. */
int proto_error(struct vouch_error *ret_error, int code, const char *format, ...)
    VOUCH_PRINTF(3, 4);

/* Packs a message of which protobuf-c has said that it takes `size` bytes at the end of `buffer`,
 * where there is room for them. 0, or -EINVAL: it took another number. */
int proto_pack(const ProtobufCMessage *message, size_t size, struct vouch_buffer *buffer,
               struct vouch_error *ret_error) VOUCH_MUST_CHECK;

#endif
