/* SPDX-License-Identifier: MIT */
/*
 * What tests share: the leak check around each of them, a place for files, an allocator that fails
 * on command, random numbers with a seed, the recorded vectors. Nothing here sleeps.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <vouch/memory.h>

struct cJSON;

/* ---- leaks ---- */

/* Remembers the open descriptors, the threads and the bytes that the library holds; end asserts
 * that they are the same again, and removes the temporary directory. Between them, one test. */
void support_baseline_begin(void);
void support_baseline_end(void);

/* What end would say: NULL when nothing leaked, else a text (static) about the first thing that
 * did. */
const char *support_baseline_leak(void);

/* Descriptors open in this process. */
size_t support_count_fds(void);

/* ---- files ---- */

#define SUPPORT_PATH_MAX 100 /* fits sun_path */

/* A directory of this test's own (0700, a short path), made at the first call, removed with all
 * that is in it. */
const char *support_temp_dir(void);
/* The path of `name` in it. Returns `path`. */
char *support_temp_path(char path[SUPPORT_PATH_MAX], const char *name);
void support_temp_remove(void);

/* ---- memory that fails ---- */

/* Counts, checks sizes, and fails the `fail_from`th allocation (from 1; 0: none) and those after
 * it, `fail_count` in all. */
struct support_allocator {
    struct vouch_allocator allocator; /* give away the address of this */
    atomic_uint_fast64_t calls, injected, live_blocks, live_bytes, wrong_sizes;
    uint64_t fail_from, fail_count;
};

#define SUPPORT_FAIL_ONCE 1
#define SUPPORT_FAIL_THREE 3
#define SUPPORT_FAIL_ALWAYS UINT64_MAX

void support_allocator_init(struct support_allocator *allocator);
/* Counts from now on again, and fails from there. */
void support_allocator_fail(struct support_allocator *allocator, uint64_t from, uint64_t count);
/* Asserts that all blocks were given back, with the sizes they were asked for. */
void support_allocator_check(const struct support_allocator *allocator);

/* ---- chance ---- */

struct support_random {
    uint64_t state;
};

/* A new seed each time, or VOUCH_TEST_SEED from the environment; it is logged, so that a failure
 * can be had again. */
void support_random_init(struct support_random *random);
uint64_t support_random_next(struct support_random *random);
uint64_t support_random_below(struct support_random *random, uint64_t bound); /* 0 … bound - 1 */
void support_random_fill(struct support_random *random, uint8_t *ret_bytes, size_t size);

/* ---- threads ---- */

pthread_t support_thread_start(void *(*run)(void *context), void *context);
void *support_thread_join(pthread_t thread);

/* ---- recorded vectors ---- */

/* Bytes of lower-case hexadecimal; asserts that they fit. Returns how many. */
size_t support_unhex(const char *hex, uint8_t *ret_bytes, size_t room);

/* The lines of a file of tests/vectors, each a JSON object. */
struct support_vectors {
    void *file;
    char *line;
    size_t line_room;
    struct cJSON *object;
};

void support_vectors_open(struct support_vectors *vectors, const char *name);
/* The next object, valid until the next call; NULL at the end, where everything is closed. */
const struct cJSON *support_vectors_next(struct support_vectors *vectors);

/* Fields of such an object; they assert that it is there and of the type, but for the first. */
bool support_vector_has(const struct cJSON *object, const char *field);
const char *support_vector_text(const struct cJSON *object, const char *field);
uint64_t support_vector_number(const struct cJSON *object, const char *field);
size_t support_vector_bytes(const struct cJSON *object, const char *field, uint8_t *ret_bytes,
                            size_t room);

#endif
