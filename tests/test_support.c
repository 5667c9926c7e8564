/* SPDX-License-Identifier: MIT */
/* The detectors detect: each is shown what it is for. */
#include "tests/support.h"

#include "lib/mem.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness.h"

static void expect_leak(const char *part) {
    const char *leak = support_baseline_leak();
    cr_assert_not_null(leak);
    cr_assert_not_null(strstr(leak, part), "%s", leak);
}

Test(support, a_descriptor_left_open_shows) {
    support_baseline_begin();
    size_t open = support_count_fds();
    int fd = dup(0);
    cr_assert_eq(support_count_fds(), open + 1);
    expect_leak("left open");
    close(fd);
    cr_assert_null(support_baseline_leak());
}

Test(support, a_descriptor_closed_shows) {
    int fd = dup(0);
    support_baseline_begin();
    close(fd);
    expect_leak("closed");
}

Test(support, bytes_not_given_back_show) {
    support_baseline_begin();
    void *memory = mem_alloc(NULL, 1);
    expect_leak("held");
    mem_free(NULL, memory, 1);
    cr_assert_null(support_baseline_leak());
    support_baseline_end();
}

Test(support, bytes_given_back_with_another_size_show) {
    support_baseline_begin();
    mem_free(NULL, mem_alloc(NULL, 2), 1);
    expect_leak("held");
}

static void *wait_for_byte(void *context) {
    char byte;
    return read(*(int *)context, &byte, 1) == 1 ? NULL : "no byte";
}

Test(support, a_thread_left_running_shows) {
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    support_baseline_begin();
    pthread_t thread = support_thread_start(wait_for_byte, fds);
    expect_leak("threads");
    cr_assert_eq(write(fds[1], "x", 1), 1);
    cr_assert_null(support_thread_join(thread));
    cr_assert_null(support_baseline_leak());
    close(fds[0]);
    close(fds[1]);
}

Test(support, temporary_directories_go_with_what_is_in_them) {
    char path[SUPPORT_PATH_MAX], dir[SUPPORT_PATH_MAX];
    struct stat status;
    support_baseline_begin();
    strcpy(dir, support_temp_dir());
    cr_assert_eq(stat(dir, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0700);
    cr_assert_eq(mkdir(support_temp_path(path, "sub"), 0700), 0);
    int fd = open(support_temp_path(path, "sub/file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
    support_baseline_end();
    cr_assert_eq(stat(dir, &status), -1);
}

Test(support, memory_fails_when_told_to) {
    static const uint64_t modes[] = {SUPPORT_FAIL_ONCE, SUPPORT_FAIL_THREE, SUPPORT_FAIL_ALWAYS};
    for (size_t mode = 0; mode < 3; mode++) {
        struct support_allocator allocator;
        support_allocator_init(&allocator);
        support_allocator_fail(&allocator, 2, modes[mode]);
        for (uint64_t call = 1; call <= 6; call++) {
            void *memory = mem_alloc(&allocator.allocator, 8);
            bool fails = call >= 2 && call - 2 < modes[mode];
            cr_assert_eq(memory == NULL, fails);
            mem_free(&allocator.allocator, memory, 8);
        }
        cr_assert_eq(allocator.calls, 6);
        cr_assert_eq(allocator.injected, modes[mode] < 5 ? modes[mode] : 5);
        support_allocator_check(&allocator);
    }
}

Test(support, the_allocator_sees_what_is_wrong) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    void *memory = mem_alloc(&allocator.allocator, 8);
    cr_assert_eq(allocator.live_blocks, 1);
    cr_assert_eq(allocator.live_bytes, 8);
    mem_free(&allocator.allocator, memory, 7);
    cr_assert_eq(allocator.wrong_sizes, 1);
    cr_assert_eq(allocator.live_blocks, 0);
}

Test(support, hexadecimal) {
    uint8_t bytes[4];
    cr_assert_eq(support_unhex("", bytes, 4), 0);
    cr_assert_eq(support_unhex("00ff7a", bytes, 4), 3);
    cr_assert_arr_eq(bytes, "\x00\xff\x7a", 3);
}

Test(support, a_seed_gives_the_same_numbers) {
    struct support_random one = {42}, other = {42}, third = {43};
    cr_assert_eq(support_random_next(&one), support_random_next(&other));
    cr_assert_eq(support_random_next(&one), support_random_next(&other));
    cr_assert_neq(support_random_next(&one), support_random_next(&third));
}

Test(support, recorded_vectors_can_be_read) {
    struct support_vectors vectors;
    size_t count = 0;
    support_baseline_begin();
    support_vectors_open(&vectors, "chunk.jsonl");
    const struct cJSON *object;
    while ((object = support_vectors_next(&vectors))) {
        cr_assert(support_vector_has(object, "length"));
        cr_assert_not(support_vector_has(object, "no such field"));
        count++;
    }
    cr_assert_gt(count, 0);
    support_baseline_end();
}
