/* SPDX-License-Identifier: MIT */
/*
 * Tests that have to fail, one for each thing that a runner or a checker is there to notice.
 * tests/selftest/run runs them one by one and sees that each is counted as what it is.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"

Test(good, passes) {
    int array[] = {1, 2, 3};

    cr_assert(1);
    cr_assert_not(0, "%d is not a message that anybody sees", 1);
    cr_assert_eq(array[0], 1);
    cr_assert_lt(array[0], array[1], "with a message");
    cr_assert_str_eq("a", "a");
    cr_assert_arr_eq(array, array, sizeof(array));
    cr_assert_null(NULL);
    cr_assert_not_null(array);
}

Test(good, is_skipped) {
    cr_skip_test("for a reason");
}

Test(good, is_disabled, .disabled = true) {
    cr_assert(0);
}

Test(good, ends_by_signal, .signal = SIGTERM) {
    raise(SIGTERM);
}

Test(good, ends_by_code, .exit_code = 7) {
    _exit(7);
}

static int steps;

static void set_up(void) {
    steps = 1;
}

static void tear_down(void) {
    if (steps != 2)
        _exit(9);
}

TestSuite(fixture, .init = set_up, .fini = tear_down);

Test(fixture, runs) {
    cr_assert_eq(steps, 1);
    steps = 2;
}

Test(bad, asserts) {
    cr_assert_eq(1, 2, "one is not two: %d", 1);
}

Test(bad, expects) {
    cr_expect(0);
    cr_assert(1);
}

Test(bad, crashes) {
    raise(SIGSEGV);
}

Test(bad, exits) {
    _exit(0);
}

Test(bad, hangs) {
    for (;;)
        pause();
}

Test(bad, hangs_with_a_limit_of_its_own, .timeout = 1) {
    for (;;)
        pause();
}

Test(bad, hangs_with_signals_blocked) {
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (;;)
        pause();
}

Test(bad, child_asserts) {
    pid_t pid = fork();

    if (pid == 0) {
        cr_assert(0);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static void *fail_in_thread(void *argument) {
    (void)argument;
    cr_assert(0);
    return NULL;
}

Test(bad, thread_asserts) {
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, fail_in_thread, NULL), 0);
    pthread_join(thread, NULL);
}

/* Through here the compiler does not follow. */
static void *volatile hidden;

Test(bad, leaks) {
    hidden = malloc(100);
    hidden = NULL;
}

Test(bad, reads_past_the_end) {
    volatile char *bytes = malloc(10);
    volatile size_t i = 10;
    char c = bytes[i];

    free((void *)bytes);
    (void)c;
}

Test(bad, overflows) {
    volatile int i = INT_MAX;

    i = i + 1;
}

static int shared_by_threads;

static void *add(void *argument) {
    (void)argument;
    shared_by_threads++;
    return NULL;
}

Test(bad, races) {
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, add, NULL), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

Test(bad, reads_what_is_not_initialized) {
    const int *number;

    hidden = malloc(sizeof(int));
    number = hidden;
    if (*number == 42)
        cr_log_info("what a coincidence");
    free(hidden);
}

Test(bad, leaves_a_descriptor_open) {
    cr_assert_geq(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
}
