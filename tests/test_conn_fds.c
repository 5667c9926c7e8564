/* SPDX-License-Identifier: MIT */
/* Passing descriptors: what is received is exactly what was sent, or nothing; no descriptor is ever
 * left behind. */
#include "lib/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/os.h"
#include "tests/harness.h"
#include "tests/support.h"

static struct vouch_conn *conns[2];
static int pipes[2];

static void pair_of(int type, bool first_passes, bool second_passes) {
    support_baseline_begin();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, type, 0, fds), 0);
    struct vouch_conn_options options[2] = {
        {VOUCH_OPTIONS(options[0]), .pass_descriptors = first_passes},
        {VOUCH_OPTIONS(options[0]), .pass_descriptors = second_passes},
    };
    for (int i = 0; i < 2; i++)
        cr_assert_eq(vouch_conn_from_fd(fds[i], &options[i], &conns[i]), 0);
    cr_assert_eq(pipe(pipes), 0);
}

static void pair(bool first_passes, bool second_passes) {
    pair_of(SOCK_STREAM, first_passes, second_passes);
}

static void pair_of_packets(void) {
    pair_of(SOCK_SEQPACKET, true, true);
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

/* What uses up a limit is done by a process of its own, which says 0 when all was right. */
static void check_in_child(int (*run)(void)) {
    if (VOUCH_TEST_VALGRIND)
        cr_skip_test("valgrind has descriptors of its own");
    support_baseline_begin();
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(run());
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "%x", (unsigned)status);
    support_baseline_end();
}

Test(conn_fds, too_many_in_flight) {
    check_in_child(fill_the_kernel);
}

/* ---- over packets ---- */

Test(conn_fds, they_arrive_with_their_packet) {
    char bytes[8];
    int fds[VOUCH_FDS_MAX];
    size_t count;
    struct vouch_packet packet;
    pair_of_packets();
    for (size_t size = os_marks_packets ? 0 : 1; size <= 4; size += 2) {
        cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "take", size, pipes, 2), 0);
        cr_assert_eq(vouch_conn_send_packet(conns[0], "next", 4), 0);
        cr_assert_eq(vouch_conn_recv_packet_fds(conns[1], bytes, sizeof(bytes), &packet, fds,
                                                VOUCH_FDS_MAX, &count),
                     1);
        cr_assert_eq(packet.size, size);
        cr_assert_eq(packet.stored, size);
        cr_assert_eq(memcmp(bytes, "take", size), 0);
        cr_assert_eq(count, 2);
        for (int i = 0; i < 2; i++) {
            cr_assert(is_same_file(fds[i], pipes[i]));
            cr_assert_neq(fds[i], pipes[i]);
            cr_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        }
        close_all(fds, count);
        cr_assert_eq(vouch_conn_recv_packet_fds(conns[1], bytes, sizeof(bytes), &packet, fds,
                                                VOUCH_FDS_MAX, &count),
                     1);
        cr_assert_eq(packet.size, 4);
        cr_assert_eq(count, 0, "each packet has its own");
    }
    free_pair();
}

Test(conn_fds, as_many_in_a_packet_as_the_limit_and_no_more) {
    char byte;
    int fds[VOUCH_FDS_MAX + 1];
    size_t count;
    struct vouch_packet packet;
    pair_of_packets();
    fill(fds, VOUCH_FDS_MAX + 1);
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, fds, VOUCH_FDS_MAX + 1), -EINVAL);
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, fds, 0), -EINVAL);
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, &(int){-1}, 1), -EINVAL);
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, fds, VOUCH_FDS_MAX), 0);
    cr_assert_eq(
        vouch_conn_recv_packet_fds(conns[1], &byte, 1, &packet, fds, VOUCH_FDS_MAX, &count), 1);
    cr_assert_eq(count, VOUCH_FDS_MAX);
    close_all(fds, count);
    free_pair();
}

/* The packet is there all the same, and the next one after it. */
Test(conn_fds, more_than_fit_of_a_packet_are_all_closed) {
    char byte = 0;
    int fds[VOUCH_FDS_MAX];
    size_t count;
    struct vouch_packet packet;
    pair_of_packets();
    size_t open = support_count_fds();
    for (size_t sent = 1; sent <= VOUCH_FDS_MAX; sent++) {
        for (size_t room = 0; room < sent; room++) {
            fill(fds, sent);
            cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, fds, sent), 0);
            cr_assert_eq(vouch_conn_recv_packet_fds(conns[1], &byte, 1, &packet, fds, room, &count),
                         -EMSGSIZE);
            cr_assert_eq(count, 0);
            cr_assert(packet.size == 1 && packet.stored == 1 && byte == 'x');
            cr_assert_eq(support_count_fds(), open, "%zu into %zu", sent, room);
        }
    }
    cr_assert_eq(vouch_conn_send_packet(conns[0], "y", 1), 0);
    cr_assert_eq(vouch_conn_recv_packet(conns[1], &byte, 1, &packet), 1);
    cr_assert_eq(byte, 'y');
    free_pair();
}

Test(conn_fds, those_of_a_packet_that_does_not_fit_are_closed) {
    char bytes[2];
    int fds[VOUCH_FDS_MAX];
    size_t count;
    struct vouch_packet packet;
    pair_of_packets();
    size_t open = support_count_fds();
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "123", 3, pipes, 2), 0);
    cr_assert_eq(vouch_conn_recv_packet_fds(conns[1], bytes, sizeof(bytes), &packet, fds,
                                            VOUCH_FDS_MAX, &count),
                 -EMSGSIZE);
    cr_assert_eq(count, 0);
    cr_assert_eq(packet.size, 3);
    cr_assert_eq(packet.stored, 2);
    cr_assert_eq(support_count_fds(), open);
    free_pair();
}

Test(conn_fds, room_for_more_than_the_kernel_passes_with_a_packet_is_fine) {
    char byte;
    static int fds[1000];
    size_t count;
    struct vouch_packet packet;
    pair_of_packets();
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, pipes, 2), 0);
    cr_assert_eq(vouch_conn_recv_packet_fds(conns[1], &byte, 1, &packet, fds, 1000, &count), 1);
    cr_assert_eq(count, 2);
    close_all(fds, count);
    free_pair();
}

Test(conn_fds, a_plain_receive_of_a_packet_lets_none_in) {
    char byte;
    struct vouch_packet packet;
    pair_of_packets();
    size_t open = support_count_fds();
    for (int i = 0; i < 3; i++)
        cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, pipes, 2), 0);
    cr_assert_eq(vouch_conn_recv_packet(conns[1], &byte, 1, &packet), 1);
    cr_assert_eq(vouch_conn_try_recv_packet(conns[1], &byte, 1, &packet), 1);
    cr_assert_eq(conn_recv_now(conns[1], &byte, 1), 1);
    cr_assert_eq(support_count_fds(), open);
    free_pair();
}

Test(conn_fds, not_with_packets_without_the_option) {
    char byte;
    int fd;
    size_t count = 7;
    struct vouch_packet packet;
    pair_of(SOCK_SEQPACKET, false, true);
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, pipes, 1), -EPERM);
    cr_assert_eq(vouch_conn_recv_packet_fds(conns[0], &byte, 1, &packet, &fd, 1, &count), -EPERM);
    cr_assert_eq(count, 0);
    int result = vouch_conn_send_packet_fds(conns[1], "x", 1, pipes, 2);
    cr_assert(result == -EPERM || result == 0, "%d", result);
    free_pair();
}

Test(conn_fds, ends_and_limits_show_as_with_plain_packets) {
    char byte;
    int fd;
    size_t count = 7;
    struct vouch_packet packet;
    pair_of_packets();
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", SIZE_MAX, pipes, 1), -EMSGSIZE);
    if (!os_marks_packets)
        cr_assert_eq(vouch_conn_send_packet_fds(conns[0], NULL, 0, pipes, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_set_timeout(conns[1], VOUCH_READ, 0), 0);
    cr_assert_eq(vouch_conn_recv_packet_fds(conns[1], &byte, 1, &packet, &fd, 1, &count),
                 -ETIMEDOUT);
    cr_assert_eq(count, 0, "set on failure too");
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(vouch_conn_recv_packet_fds(conns[1], &byte, 1, &packet, &fd, 1, &count), 0);
    vouch_conn_free(conns[1]);
    conns[1] = NULL;
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, pipes, 2), -ECONNRESET);
    vouch_conn_close(conns[0]);
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, pipes, 2), -ESHUTDOWN);
    cr_assert_eq(vouch_conn_recv_packet_fds(conns[0], &byte, 1, &packet, &fd, 1, &count),
                 -ESHUTDOWN);
    free_pair();
}

static void *receive_all(void *context) {
    atomic_uint *taken = context;
    struct vouch_packet packet;
    size_t count;
    int fd, r;
    while ((r = vouch_conn_recv_packet_fds(conns[1], NULL, 0, &packet, &fd, 1, &count)) == 1) {
        if (count == 1)
            close(fd);
        atomic_fetch_add(taken, 1);
    }
    return (void *)(intptr_t)r;
}

/* One may be taken out of the kernel just when the connection is closed. */
Test(conn_fds, those_of_an_empty_packet_at_the_end_are_closed) {
    if (!os_marks_packets)
        cr_skip_test("there are no empty packets");
    for (int i = 0; i < 200; i++) {
        atomic_uint taken = 0;
        pair_of_packets();
        pthread_t receiver = support_thread_start(receive_all, &taken);
        cr_assert_eq(vouch_conn_send_packet_fds(conns[0], NULL, 0, pipes, 1), 0);
        while (atomic_load(&taken) == 0)
            sched_yield();
        cr_assert_eq(vouch_conn_send_packet_fds(conns[0], NULL, 0, pipes, 1), 0);
        vouch_conn_close(conns[1]);
        cr_assert_eq((intptr_t)support_thread_join(receiver), -ESHUTDOWN);
        free_pair(); /* a descriptor that was left behind is found */
    }
}

Test(conn_fds, bytes_and_packets_have_functions_of_their_own) {
    char byte;
    int fd;
    size_t count;
    struct vouch_packet packet;
    pair(true, true);
    cr_assert_eq(vouch_conn_send_packet_fds(conns[0], "x", 1, pipes, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_recv_packet_fds(conns[0], &byte, 1, &packet, &fd, 1, &count),
                 -EOPNOTSUPP);
    free_pair();
}

/* Those for which the receiver has no numbers left are gone: so all go, and it is told. */
static int receive_without_numbers(void) {
    char byte;
    int fds[4];
    size_t count;
    struct vouch_packet packet;
    const struct vouch_conn_options options = {VOUCH_OPTIONS(options), .pass_descriptors = true};
    if (vouch_conn_pair_of(VOUCH_LINK_SEQPACKET, &options, conns) < 0)
        return 1;
    int fd = vouch_conn_get_fd(conns[0]), next = dup(fd);
    close(next);
    if (vouch_conn_send_packet_fds(conns[0], "x", 1, (int[4]){fd, fd, fd, fd}, 4) < 0)
        return 1;
    const struct rlimit limit = {(rlim_t)next + 2, (rlim_t)next + 2};
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 2;
    int result = vouch_conn_recv_packet_fds(conns[1], &byte, 1, &packet, fds, 4, &count);
    if (result != -EMSGSIZE || count != 0)
        return 3;
    return dup(fd) == next ? 0 : 4;
}

Test(conn_fds, a_receiver_that_has_too_few_numbers_gets_none) {
    check_in_child(receive_without_numbers);
}
