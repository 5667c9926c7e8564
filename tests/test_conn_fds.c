/* SPDX-License-Identifier: MIT */
/* Passing descriptors: what is received is exactly what was sent, or nothing; no descriptor is ever
 * left behind. */
#include "lib/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/support.h"

static struct vouch_conn *conns[2];
static int pipes[2];

static void pair(bool first_passes, bool second_passes) {
    support_baseline_begin();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct vouch_conn_options options[2] = {
        {VOUCH_OPTIONS(options[0]), .pass_descriptors = first_passes},
        {VOUCH_OPTIONS(options[0]), .pass_descriptors = second_passes},
    };
    for (int i = 0; i < 2; i++)
        cr_assert_eq(vouch_conn_from_fd(fds[i], &options[i], &conns[i]), 0);
    cr_assert_eq(pipe(pipes), 0);
}

static void free_pair(void) {
    for (int i = 0; i < 2; i++) {
        vouch_conn_free(conns[i]);
        close(pipes[i]);
    }
    support_baseline_end();
}

static void fill(int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        fds[i] = pipes[i % 2];
}

static void close_all(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(close(fds[i]), 0);
}

static bool is_same_file(int one, int other) {
    struct stat a, b;
    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

Test(conn_fds, they_arrive_with_their_bytes) {
    char bytes[8];
    int fds[VOUCH_FDS_MAX];
    size_t count;
    pair(true, true);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "take", 4, pipes, 2), 0);
    cr_assert_eq(vouch_conn_recv_fds(conns[1], bytes, sizeof(bytes), fds, VOUCH_FDS_MAX, &count),
                 4);
    cr_assert_arr_eq(bytes, "take", 4);
    cr_assert_eq(count, 2);
    for (int i = 0; i < 2; i++) {
        cr_assert(is_same_file(fds[i], pipes[i]));
        cr_assert_neq(fds[i], pipes[i]);
        cr_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    }
    close_all(fds, count);
    free_pair();
}

Test(conn_fds, bytes_without_any_come_too) {
    char bytes[8];
    int fd;
    size_t count = 7;
    pair(true, true);
    cr_assert_eq(vouch_conn_write(conns[0], "plain", 5), 0);
    cr_assert_eq(vouch_conn_recv_fds(conns[1], bytes, sizeof(bytes), &fd, 1, &count), 5);
    cr_assert_eq(count, 0);
    cr_assert_eq(vouch_conn_recv_fds(conns[1], bytes, 0, &fd, 1, &count), 0);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(vouch_conn_recv_fds(conns[1], bytes, sizeof(bytes), &fd, 1, &count), 0);
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_READ, 0), 0);
    count = 7;
    cr_assert_eq(vouch_conn_recv_fds(conns[0], bytes, sizeof(bytes), &fd, 1, &count), -ETIMEDOUT);
    cr_assert_eq(count, 0, "set on failure too");
    free_pair();
}

Test(conn_fds, as_many_as_the_limit_and_no_more) {
    char byte;
    int fds[VOUCH_FDS_MAX + 1];
    size_t count;
    pair(true, true);
    fill(fds, VOUCH_FDS_MAX + 1);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, fds, VOUCH_FDS_MAX + 1), -EINVAL);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, fds, 0), -EINVAL);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 0, fds, 1), -EINVAL);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, &(int){-1}, 1), -EINVAL);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, fds, VOUCH_FDS_MAX), 0);
    cr_assert_eq(vouch_conn_recv_fds(conns[1], &byte, 1, fds, VOUCH_FDS_MAX, &count), 1);
    cr_assert_eq(count, VOUCH_FDS_MAX);
    close_all(fds, count);
    free_pair();
}

Test(conn_fds, more_than_fit_are_all_closed) {
    char byte;
    int fds[VOUCH_FDS_MAX];
    size_t count;
    pair(true, true);
    size_t open = support_count_fds();
    for (size_t sent = 1; sent <= VOUCH_FDS_MAX; sent++) {
        for (size_t room = 0; room < sent; room++) {
            fill(fds, sent);
            cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, fds, sent), 0);
            cr_assert_eq(vouch_conn_recv_fds(conns[1], &byte, 1, fds, room, &count), -EMSGSIZE);
            cr_assert_eq(count, 0);
            cr_assert_eq(support_count_fds(), open, "%zu into %zu", sent, room);
        }
    }
    free_pair();
}

Test(conn_fds, room_for_more_than_the_kernel_passes_is_fine) {
    char byte;
    static int fds[1000];
    size_t count;
    pair(true, true);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, pipes, 2), 0);
    cr_assert_eq(vouch_conn_recv_fds(conns[1], &byte, 1, fds, 1000, &count), 1);
    cr_assert_eq(count, 2);
    close_all(fds, count);
    free_pair();
}

Test(conn_fds, a_plain_read_lets_none_in) {
    char byte;
    pair(true, true);
    size_t open = support_count_fds();
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, pipes, 2), 0);
    cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), 1);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, pipes, 2), 0);
    cr_assert_eq(conn_recv_now(conns[1], &byte, 1), 1);
    cr_assert_eq(support_count_fds(), open);
    free_pair();
}

Test(conn_fds, not_without_the_option) {
    char byte;
    int fd;
    size_t count;
    pair(false, true);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, pipes, 1), -EPERM);
    cr_assert_eq(vouch_conn_recv_fds(conns[0], &byte, 1, &fd, 1, &count), -EPERM);
    free_pair();
}

/* The kernel refuses for the receiver (Linux 6.16), or the receiver takes only the bytes. */
Test(conn_fds, a_peer_without_the_option_gets_none) {
    char byte;
    pair(true, false);
    size_t open = support_count_fds();
    int result = vouch_conn_send_fds(conns[0], "x", 1, pipes, 2);
    cr_assert(result == -EPERM || result == 0);
    if (result == 0)
        cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), 1);
    cr_assert_eq(support_count_fds(), open);
    cr_assert_eq(vouch_conn_write(conns[0], "y", 1), 0);
    cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), 1);
    cr_assert_eq(byte, 'y');
    free_pair();
}

static void *send_lots(void *context) {
    static char lots[1 << 20];
    int result = vouch_conn_send_fds(context, lots, sizeof(lots), pipes, 2);
    return result == 0 ? NULL : "send failed";
}

Test(conn_fds, they_ride_on_the_first_of_many_bytes) {
    static char bytes[1 << 20];
    int fds[2];
    size_t count, rest_count;
    pair(true, true);
    pthread_t thread = support_thread_start(send_lots, conns[0]);
    ssize_t taken = vouch_conn_recv_fds(conns[1], bytes, sizeof(bytes), fds, 2, &count);
    cr_assert_gt(taken, 0);
    cr_assert_eq(count, 2);
    for (size_t left = sizeof(bytes) - (size_t)taken; left > 0; left -= (size_t)taken) {
        taken = vouch_conn_recv_fds(conns[1], bytes, left, NULL, 0, &rest_count);
        cr_assert_gt(taken, 0);
        cr_assert_eq(rest_count, 0);
    }
    cr_assert_null(support_thread_join(thread));
    close_all(fds, count);
    free_pair();
}

Test(conn_fds, ends_show_as_in_plain_calls) {
    char byte;
    int fd;
    size_t count;
    pair(true, true);
    vouch_conn_free(conns[1]);
    conns[1] = NULL;
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, pipes, 2), -ECONNRESET);
    vouch_conn_close(conns[0]);
    cr_assert_eq(vouch_conn_send_fds(conns[0], "x", 1, pipes, 2), -ESHUTDOWN);
    cr_assert_eq(vouch_conn_recv_fds(conns[0], &byte, 1, &fd, 1, &count), -ESHUTDOWN);
    free_pair();
}

/* The kernel bounds what one user has in flight by RLIMIT_NOFILE. */
static int fill_the_kernel(void) {
    enum { LIMIT = 32 };
    struct rlimit limit = {LIMIT, LIMIT};
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .pass_descriptors = true};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || (geteuid() == 0 && setuid(65534) < 0) ||
        vouch_conn_pair(&options, conns) < 0)
        return 1;
    int result = 0, fds[VOUCH_FDS_MAX];
    for (size_t i = 0; i < VOUCH_FDS_MAX; i++)
        fds[i] = 0;
    for (int i = 0; i < LIMIT && result == 0; i++)
        result = vouch_conn_send_fds(conns[0], "x", 1, fds, VOUCH_FDS_MAX);
    return result == -ETOOMANYREFS ? 0 : 2;
}

Test(conn_fds, too_many_in_flight) {
    if (VOUCH_TEST_VALGRIND)
        cr_skip_test("valgrind has descriptors of its own");
    support_baseline_begin();
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(fill_the_kernel());
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "%x", (unsigned)status);
    support_baseline_end();
}
