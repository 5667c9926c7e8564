/* SPDX-License-Identifier: MIT */
#include "tests/support.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness.h"

/* ---- leaks ---- */

#define FDS_MAX 4096
#define SETTLE_ROUNDS 100000 /* an ended thread is listed for a moment after it was joined */

struct listing {
    size_t count;
    bool open[FDS_MAX];
};

static struct {
    struct listing fds;
    size_t threads;
    uint64_t live_bytes;
} baseline;

/* The numbers that are the names in a directory of /proc. */
static void list_numbers(const char *path, struct listing *ret_listing) {
    memset(ret_listing, 0, sizeof(*ret_listing));
    DIR *directory = opendir(path);
    if (!directory)
        return;
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        long number = strtol(entry->d_name, NULL, 10);
        if (number == dirfd(directory))
            continue;
        ret_listing->count++;
        if (number < FDS_MAX)
            ret_listing->open[number] = true;
    }
    closedir(directory);
}

static void list_fds(struct listing *ret_fds) {
    list_numbers(access("/proc/self/fd", F_OK) == 0 ? "/proc/self/fd" : "/dev/fd", ret_fds);
}

size_t support_count_fds(void) {
    struct listing fds;
    list_fds(&fds);
    return fds.count;
}

static size_t count_threads(void) {
    struct listing tasks;
    list_numbers("/proc/self/task", &tasks);
    return tasks.count;
}

static uint64_t live_bytes(void) {
    struct vouch_memory_stats stats;
    vouch_memory_get_stats(&stats);
    return stats.live_bytes;
}

static void *do_nothing(void *context) {
    return context;
}

void support_baseline_begin(void) {
    /* ThreadSanitizer starts a thread of its own when the program starts its first. */
    support_thread_join(support_thread_start(do_nothing, NULL));
    list_fds(&baseline.fds);
    baseline.threads = count_threads();
    baseline.live_bytes = live_bytes();
}

static const char *leaked_fd(char *text, size_t size) {
    struct listing now;
    list_fds(&now);
    for (int fd = 0; fd < FDS_MAX; fd++) {
        if (now.open[fd] == baseline.fds.open[fd])
            continue;
        char path[64], target[128] = "";
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (now.open[fd] && readlink(path, target, sizeof(target) - 1) < 0)
            target[0] = '\0';
        snprintf(text, size, "descriptor %d was %s %s", fd, now.open[fd] ? "left open:" : "closed",
                 target);
        return text;
    }
    if (now.count == baseline.fds.count)
        return NULL;
    snprintf(text, size, "%zu descriptors were open, now %zu", baseline.fds.count, now.count);
    return text;
}

static const char *leaked_thread(char *text, size_t size) {
    size_t now = count_threads();
    for (int i = 0; i < SETTLE_ROUNDS && now > baseline.threads; i++) {
        sched_yield();
        now = count_threads();
    }
    if (now <= baseline.threads) /* fewer: begin saw such a one */
        return NULL;
    snprintf(text, size, "%zu threads were running, now %zu", baseline.threads, now);
    return text;
}

const char *support_baseline_leak(void) {
    static char text[256];
    const char *leak = leaked_fd(text, sizeof(text));
    if (leak)
        return leak;
    uint64_t bytes = live_bytes();
    if (bytes != baseline.live_bytes) {
        snprintf(text, sizeof(text), "the library held %llu bytes, now %llu",
                 (unsigned long long)baseline.live_bytes, (unsigned long long)bytes);
        return text;
    }
    return leaked_thread(text, sizeof(text));
}

void support_baseline_end(void) {
    support_temp_remove();
    const char *leak = support_baseline_leak();
    cr_assert_null(leak, "%s", leak ? leak : "");
}

/* ---- files ---- */

static char temp_dir[SUPPORT_PATH_MAX / 2];
static pid_t temp_dir_owner;

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status;
    (void)type;
    (void)place;
    return remove(path);
}

void support_temp_remove(void) {
    if (temp_dir[0] && temp_dir_owner == getpid())
        nftw(temp_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    temp_dir[0] = '\0';
}

const char *support_temp_dir(void) {
    if (temp_dir[0])
        return temp_dir;
    static bool registered; /* for a test that fails before its end */
    if (!registered)
        atexit(support_temp_remove);
    registered = true;
    strcpy(temp_dir, "/tmp/vouch-XXXXXX");
    temp_dir_owner = getpid();
    cr_assert_not_null(mkdtemp(temp_dir));
    return temp_dir;
}

char *support_temp_path(char path[SUPPORT_PATH_MAX], const char *name) {
    int length = snprintf(path, SUPPORT_PATH_MAX, "%s/%s", support_temp_dir(), name);
    cr_assert_lt(length, SUPPORT_PATH_MAX);
    return path;
}

/* ---- memory that fails ---- */

#define BLOCK_HEAD 16 /* keeps the size, and the alignment */

static void *counting_alloc(void *context, size_t size) {
    struct support_allocator *allocator = context;
    uint64_t call = atomic_fetch_add(&allocator->calls, 1) + 1;
    if (allocator->fail_from && call >= allocator->fail_from &&
        call - allocator->fail_from < allocator->fail_count) {
        atomic_fetch_add(&allocator->injected, 1);
        return NULL;
    }
    uint8_t *block = malloc(BLOCK_HEAD + size);
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof(size));
    atomic_fetch_add(&allocator->live_blocks, 1);
    atomic_fetch_add(&allocator->live_bytes, size);
    return block + BLOCK_HEAD;
}

static void counting_release(void *context, void *memory, size_t size) {
    struct support_allocator *allocator = context;
    uint8_t *block = (uint8_t *)memory - BLOCK_HEAD;
    size_t asked;
    memcpy(&asked, block, sizeof(asked));
    if (asked != size)
        atomic_fetch_add(&allocator->wrong_sizes, 1);
    atomic_fetch_sub(&allocator->live_blocks, 1);
    atomic_fetch_sub(&allocator->live_bytes, asked);
    free(block);
}

void support_allocator_init(struct support_allocator *allocator) {
    memset(allocator, 0, sizeof(*allocator));
    allocator->allocator = (struct vouch_allocator){counting_alloc, counting_release, allocator};
}

void support_allocator_fail(struct support_allocator *allocator, uint64_t from, uint64_t count) {
    atomic_store(&allocator->calls, 0);
    atomic_store(&allocator->injected, 0);
    allocator->fail_from = from;
    allocator->fail_count = count;
}

void support_allocator_check(const struct support_allocator *allocator) {
    cr_assert_eq(atomic_load(&allocator->wrong_sizes), 0);
    cr_assert_eq(atomic_load(&allocator->live_blocks), 0);
    cr_assert_eq(atomic_load(&allocator->live_bytes), 0);
}

/* ---- chance ---- */

void support_random_init(struct support_random *random) {
    const char *given = getenv("VOUCH_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    random->state =
        given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_sec << 30 ^ (uint64_t)now.tv_nsec;
    cr_log_info("VOUCH_TEST_SEED=%llu", (unsigned long long)random->state);
}

/* splitmix64: any state is a good one. */
uint64_t support_random_next(struct support_random *random) {
    uint64_t mixed = random->state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

uint64_t support_random_below(struct support_random *random, uint64_t bound) {
    return support_random_next(random) % bound;
}

void support_random_fill(struct support_random *random, uint8_t *ret_bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        ret_bytes[i] = (uint8_t)support_random_next(random);
}

/* ---- threads ---- */

pthread_t support_thread_start(void *(*run)(void *context), void *context) {
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, run, context), 0);
    return thread;
}

void *support_thread_join(pthread_t thread) {
    void *result;
    cr_assert_eq(pthread_join(thread, &result), 0);
    return result;
}

/* ---- recorded vectors ---- */

static unsigned hex_digit(char c) {
    return c >= '0' && c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

size_t support_unhex(const char *hex, uint8_t *ret_bytes, size_t room) {
    size_t digits = strlen(hex);
    cr_assert_eq(digits % 2, 0);
    cr_assert_leq(digits / 2, room);
    cr_assert_eq(strspn(hex, "0123456789abcdef"), digits);
    for (size_t i = 0; i < digits; i += 2)
        ret_bytes[i / 2] = (uint8_t)(hex_digit(hex[i]) << 4 | hex_digit(hex[i + 1]));
    return digits / 2;
}

void support_vectors_open(struct support_vectors *vectors, const char *name) {
    char path[SUPPORT_PATH_MAX];
    snprintf(path, sizeof(path), "tests/vectors/%s", name);
    *vectors = (struct support_vectors){.file = fopen(path, "r")};
    cr_assert_not_null(vectors->file, "%s (tests run from the root of the repository)", path);
}

const struct cJSON *support_vectors_next(struct support_vectors *vectors) {
    cJSON_Delete(vectors->object);
    vectors->object = NULL;
    if (getline(&vectors->line, &vectors->line_room, vectors->file) < 0) {
        free(vectors->line);
        fclose(vectors->file);
        *vectors = (struct support_vectors){0};
        return NULL;
    }
    vectors->object = cJSON_Parse(vectors->line);
    cr_assert_not_null(vectors->object, "%s", vectors->line);
    return vectors->object;
}

bool support_vector_has(const struct cJSON *object, const char *field) {
    return cJSON_GetObjectItemCaseSensitive(object, field) != NULL;
}

const char *support_vector_text(const struct cJSON *object, const char *field) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, field));
    cr_assert_not_null(text, "no text %s", field);
    return text;
}

uint64_t support_vector_number(const struct cJSON *object, const char *field) {
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(object, field);
    cr_assert(cJSON_IsNumber(number), "no number %s", field);
    return (uint64_t)number->valuedouble;
}

size_t support_vector_bytes(const struct cJSON *object, const char *field, uint8_t *ret_bytes,
                            size_t room) {
    return support_unhex(support_vector_text(object, field), ret_bytes, room);
}
