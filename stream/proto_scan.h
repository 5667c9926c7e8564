/* SPDX-License-Identifier: MIT */
/* The look through a protobuf message before protobuf-c gets to see it. */
#ifndef VOUCH_STREAM_PROTO_SCAN_H
#define VOUCH_STREAM_PROTO_SCAN_H

#include <protobuf-c/protobuf-c.h>
#include <vouch/error.h>

/* 0; -EPROTO: malformed; -EMSGSIZE: over VOUCH_PROTO_DEPTH_MAX or VOUCH_PROTO_FIELDS_MAX.
 * `ret_error` (may be NULL) says which byte and why. */
int proto_scan(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t size,
               struct vouch_error *ret_error) VOUCH_MUST_CHECK;

#endif
