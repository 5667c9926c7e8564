/* SPDX-License-Identifier: MIT */
/* The fault injector itself: it hits what it was told to, and nothing else. Detectors that never
 * fire prove nothing. */
#include "tests/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/harness.h"

static void open_pair(int ret_fds[2]) {
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fds), 0);
}

static void close_pair(const int fds[2]) {
    close(fds[0]);
    close(fds[1]);
}

/* The names of tests/faults.wraps, without those that the C library adds. */
Test(faults, every_symbol_is_known_to_the_linker) {
    FILE *file = fopen("tests/faults.wraps", "re");
    char line[64];
    size_t known = 0;

    if (!file)
        cr_skip_test("not run from the root of the source");
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; i < faults_symbol_count; i++)
            known += strcmp(faults_symbols[i].name, line) == 0;
    }
    fclose(file);
    cr_assert_eq(known, faults_symbol_count);
}

Test(faults, nothing_happens_unless_asked_for) {
    int fds[2];

    open_pair(fds);
    cr_assert_eq(faults_count("socketpair"), 0);
    faults_begin(NULL);
    cr_assert_eq(send(fds[0], "abc", 3, MSG_NOSIGNAL), 3);
    cr_assert_eq(faults_end(), 0);
    cr_assert_eq(send(fds[0], "abc", 3, MSG_NOSIGNAL), 3);
    cr_assert_eq(faults_count("send"), 1);
    cr_assert_eq(faults_count("recv"), 0);
    close_pair(fds);
}

Test(faults, exactly_the_calls_of_the_plan_fail) {
    struct faults_plan plan = {.symbol = "fcntl", .call = 2, .repeat = 2, .error = EMFILE};
    int fds[2], results[5];

    open_pair(fds);
    faults_begin(&plan);
    for (int i = 0; i < 5; i++)
        results[i] = fcntl(fds[0], F_GETFD) < 0 ? errno : 0;
    cr_assert_eq(faults_end(), 2);
    cr_assert_eq(faults_count("fcntl"), 5);
    cr_assert(results[0] == 0 && results[3] == 0 && results[4] == 0);
    cr_assert(results[1] == EMFILE && results[2] == EMFILE);
    close_pair(fds);
}

Test(faults, from_a_call_on_for_ever) {
    struct faults_plan plan = {
        .symbol = "send", .call = 2, .repeat = FAULTS_ALWAYS, .error = ENOBUFS};
    int fds[2], failed = 0;

    open_pair(fds);
    faults_begin(&plan);
    for (int i = 0; i < 5; i++)
        failed += send(fds[0], "x", 1, MSG_NOSIGNAL) < 0;
    cr_assert_eq(faults_end(), 4);
    cr_assert_eq(failed, 4);
    close_pair(fds);
}

static ssize_t send_short(int fd, int portion) {
    struct faults_plan plan = {.symbol = "sendmsg", .call = 1, .portion = portion};
    struct iovec pieces[2] = {{(char *)"abc", 3}, {(char *)"defghij", 7}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    ssize_t n;

    faults_begin(&plan);
    n = sendmsg(fd, &message, MSG_NOSIGNAL);
    faults_end();
    cr_assert_eq(pieces[1].iov_len, 7, "the caller's pieces are not changed");
    return n;
}

Test(faults, transfers_are_cut) {
    struct faults_plan plan = {.symbol = "recv", .call = 1, .portion = FAULTS_ALL_BUT_ONE};
    char bytes[64];
    int fds[2];

    open_pair(fds);
    cr_assert_eq(send_short(fds[0], 1), 1);
    cr_assert_eq(send_short(fds[0], FAULTS_HALF), 5);
    cr_assert_eq(send_short(fds[0], FAULTS_ALL_BUT_ONE), 9);
    cr_assert_eq(send_short(fds[0], 100), 10);
    faults_begin(&plan);
    cr_assert_eq(recv(fds[1], bytes, 2, 0), 1);
    cr_assert_eq(recv(fds[1], bytes + 1, sizeof(bytes) - 1, 0), 24);
    cr_assert_eq(faults_end(), 1);
    cr_assert_arr_eq(bytes, "aabcdeabcdefghiabcdefghij", 25);
    close_pair(fds);
}

static void *create_nothing(void *argument) {
    return argument;
}

static void *count_here(void *argument) {
    faults_join(true);
    (void)fcntl(*(int *)argument, F_GETFD);
    return NULL;
}

Test(faults, a_plan_may_be_for_some_threads_only) {
    struct faults_plan plan = {.joined_only = true};
    pthread_t thread;
    int fd = STDIN_FILENO;

    faults_begin(&plan);
    (void)fcntl(fd, F_GETFD);
    cr_assert_eq(pthread_create(&thread, NULL, count_here, &fd), 0);
    pthread_join(thread, NULL);
    (void)fcntl(fd, F_GETFD);
    faults_end();
    cr_assert_eq(faults_count("fcntl"), 1);
}

Test(faults, threads_fail_to_start) {
    struct faults_plan plan = {.symbol = "pthread_create", .call = 1, .error = EAGAIN};
    pthread_t thread;

    faults_begin(&plan);
    cr_assert_eq(pthread_create(&thread, NULL, create_nothing, NULL), EAGAIN);
    cr_assert_eq(faults_end(), 1);
}
