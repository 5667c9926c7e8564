/* SPDX-License-Identifier: MIT */
/* What tests of libvouch-proto share: messages, bytes of messages by hand, small stacks. */
#ifndef TESTS_PROTO_SUPPORT_H
#define TESTS_PROTO_SUPPORT_H

#include <vouch/proto.h>

#include "proto/sample.pb-c.h"

/* A message with nested, repeated, packed, map and oneof fields. Static and not to be changed;
 * `which` (0 or 1) gives different ones. */
const Sample__Everything *proto_support_message(unsigned which);

/* The same for what protobuf-c takes whatever comes twice. */
const Sample__Flat *proto_support_flat(void);

/* Asserts that both pack to the same bytes. */
void proto_support_assert_same(const ProtobufCMessage *a, const ProtobufCMessage *b);

/* A message within itself, `depth` in all, by hand: field 13 of sample.Everything. Returns its
 * size; the caller frees the bytes. */
size_t proto_support_nest(unsigned depth, uint8_t **ret_bytes);

/* Runs it on a thread with a stack of 64 KiB and returns its result. */
int proto_support_on_small_stack(int (*run)(void *context), void *context);

#ifdef __linux__
/* Packed messages say that they have taken so many bytes more than they did. */
void proto_support_wrong_size(size_t by);
#endif

#endif
