/* SPDX-License-Identifier: MIT */
#include "tests/proto_support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"

#define SMALL_STACK ((size_t)64 * 1024)

const Sample__Everything *proto_support_message(unsigned which) {
    static int32_t numbers[] = {1, -1, 300, INT32_MAX, INT32_MIN, 0};
    static uint32_t fixed[] = {1, UINT32_MAX, 7};
    static double reals[] = {0.5, -1e300};
    static protobuf_c_boolean truths[] = {1, 0, 1};
    static Sample__Color colors[] = {SAMPLE__COLOR__BLUE, SAMPLE__COLOR__RED};
    static char *words[] = {"one", "zwölf", "", "\xf0\x9f\x90\xa2"};
    static ProtobufCBinaryData blobs[] = {{3, (uint8_t *)"a\0b"}, {0, NULL}};
    static Sample__Everything inner = SAMPLE__EVERYTHING__INIT, leaf = SAMPLE__EVERYTHING__INIT;
    static Sample__Everything *children[] = {&inner, &leaf, &inner};
    static Sample__Everything__CountsEntry entry = SAMPLE__EVERYTHING__COUNTS_ENTRY__INIT;
    static Sample__Everything__CountsEntry *counts[] = {&entry};
    static Sample__Everything messages[2];
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&once);
    leaf.text = "leaf";
    inner.inner = &leaf;
    inner.n_packed = 6;
    inner.packed = numbers;
    entry.key = "key";
    entry.value = INT64_MIN;
    for (unsigned i = 0; i < 2; i++) {
        Sample__Everything m = SAMPLE__EVERYTHING__INIT;
        m.i32 = -5;
        m.s32 = INT32_MIN;
        m.u64 = UINT64_MAX;
        m.s64 = INT64_MIN;
        m.f32 = 77;
        m.f64 = -1;
        m.real = 1.25;
        m.single = -0.5f;
        m.yes = 1;
        m.color = SAMPLE__COLOR__GREEN;
        m.text = i ? "other" : "text";
        m.data = blobs[0];
        m.inner = &inner;
        m.n_children = 3;
        m.children = children;
        m.n_words = 4;
        m.words = words;
        m.n_packed = m.n_single_file = 6;
        m.packed = m.single_file = numbers;
        m.n_packed_fixed = 3;
        m.packed_fixed = fixed;
        m.n_packed_real = 2;
        m.packed_real = reals;
        m.n_packed_bool = 3;
        m.packed_bool = truths;
        m.n_colors = 2;
        m.colors = colors;
        m.n_blobs = 2;
        m.blobs = blobs;
        m.n_counts = 1;
        m.counts = counts;
        m.choice_case = i ? SAMPLE__EVERYTHING__CHOICE_NAME : SAMPLE__EVERYTHING__CHOICE_OTHER;
        if (i)
            m.name = "chosen";
        else
            m.other = &leaf;
        m.last = -1;
        messages[i] = m;
    }
    pthread_mutex_unlock(&once);
    return &messages[which];
}

const Sample__Flat *proto_support_flat(void) {
    static uint64_t numbers[] = {0, 1, UINT64_MAX, 300};
    static float reals[] = {0.5f, -2};
    static protobuf_c_boolean truths[] = {1, 0};
    static Sample__Color colors[] = {SAMPLE__COLOR__BLUE};
    static char *words[] = {"one", "zwei"};
    static Sample__Flat leaf = SAMPLE__FLAT__INIT;
    static Sample__Flat *children[] = {&leaf, &leaf};
    static Sample__Flat flat = SAMPLE__FLAT__INIT;
    leaf.text = "leaf";
    flat.s32 = -300;
    flat.f64 = 1;
    flat.yes = 1;
    flat.text = "text";
    flat.data = (ProtobufCBinaryData){3, (uint8_t *)"a\0b"};
    flat.n_children = flat.n_words = flat.n_packed_real = flat.n_packed_bool = 2;
    flat.children = children;
    flat.words = words;
    flat.packed_real = reals;
    flat.packed_bool = truths;
    flat.n_packed = 4;
    flat.packed = numbers;
    flat.n_colors = 1;
    flat.colors = colors;
    return &flat;
}

static uint8_t *pack(const ProtobufCMessage *message, size_t *ret_size) {
    *ret_size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(*ret_size + 1);
    cr_assert_not_null(bytes);
    cr_assert_eq(protobuf_c_message_pack(message, bytes), *ret_size);
    return bytes;
}

void proto_support_assert_same(const ProtobufCMessage *a, const ProtobufCMessage *b) {
    size_t size_a, size_b;
    cr_assert_not_null(a);
    cr_assert_not_null(b);
    uint8_t *bytes_a = pack(a, &size_a), *bytes_b = pack(b, &size_b);
    cr_assert_eq(size_a, size_b);
    cr_assert_eq(memcmp(bytes_a, bytes_b, size_a), 0);
    free(bytes_a);
    free(bytes_b);
}

size_t proto_support_nest(unsigned depth, uint8_t **ret_bytes) {
    /* Built from the innermost, which is empty, outwards: backwards in memory. */
    size_t room = (size_t)depth * 6 + 1, at = room;
    uint8_t *bytes = malloc(room);
    cr_assert_not_null(bytes);
    for (unsigned i = 1; i < depth; i++) {
        size_t size = room - at;
        uint8_t length[5];
        unsigned count = 0;
        do
            length[count++] = (uint8_t)((size & 0x7f) | (size > 0x7f ? 0x80 : 0));
        while (size >>= 7);
        at -= count;
        memcpy(bytes + at, length, count);
        bytes[--at] = 13 << 3 | 2;
    }
    memmove(bytes, bytes + at, room - at);
    *ret_bytes = bytes;
    return room - at;
}

struct small_stack {
    int (*run)(void *context);
    void *context;
    int result;
};

static void *run_on_small_stack(void *context) {
    struct small_stack *job = context;
    job->result = job->run(job->context);
    return NULL;
}

int proto_support_on_small_stack(int (*run)(void *context), void *context) {
    struct small_stack job = {run, context, 0};
    pthread_attr_t attributes;
    pthread_t thread;
    cr_assert_eq(pthread_attr_init(&attributes), 0);
    cr_assert_eq(pthread_attr_setstacksize(&attributes, SMALL_STACK), 0);
    cr_assert_eq(pthread_create(&thread, &attributes, run_on_small_stack, &job), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    return job.result;
}

#ifdef __linux__
/* The linker sends calls of protobuf_c_message_pack here (--wrap). */
static atomic_size_t wrong_by;

size_t __real_protobuf_c_message_pack(const ProtobufCMessage *message, uint8_t *ret_bytes);
size_t __wrap_protobuf_c_message_pack(const ProtobufCMessage *message, uint8_t *ret_bytes);

void proto_support_wrong_size(size_t by) {
    atomic_store(&wrong_by, by);
}

size_t __wrap_protobuf_c_message_pack(const ProtobufCMessage *message, uint8_t *ret_bytes) {
    return __real_protobuf_c_message_pack(message, ret_bytes) + atomic_load(&wrong_by);
}
#endif
