/* SPDX-License-Identifier: MIT */
/* The life of a connection: where it comes from, how it ends, what a forked child may do with it.
 */
#include "lib/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/error.h>

#include "tests/harness.h"
#include "tests/support.h"

static void pair(struct vouch_conn *conns[2]) {
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
}

static void free_pair(struct vouch_conn *conns[2]) {
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
}

static void check_refused(int fd, int expected) {
    struct vouch_conn *conn;
    cr_assert_eq(vouch_conn_from_fd(fd, NULL, &conn), expected);
    cr_assert_neq(fcntl(fd, F_GETFD), -1, "on failure the descriptor stays the caller's");
    close(fd);
}

Test(conn, a_pair_is_connected_and_both_are_we) {
    support_baseline_begin();
    struct vouch_conn *conns[2];
    pair(conns);
    for (int i = 0; i < 2; i++) {
        const struct vouch_identity *peer = vouch_conn_get_peer(conns[i]);
        cr_assert(peer->known & VOUCH_KNOWN_UID);
        cr_assert_eq(peer->uid, geteuid());
        cr_assert_eq(peer->gid, getegid());
        char byte;
        cr_assert_eq(vouch_conn_write(conns[i], "x", 1), 0);
        cr_assert_eq(vouch_conn_read(conns[1 - i], &byte, 1), 1);
    }
    free_pair(conns);
    support_baseline_end();
}

Test(conn, takes_a_descriptor_over_and_sets_its_modes) {
    support_baseline_begin();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &conn), 0);
    cr_assert_eq(vouch_conn_get_fd(conn), fds[0]);
    cr_assert(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    cr_assert_not(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    vouch_conn_free(conn);
    cr_assert_eq(fcntl(fds[0], F_GETFD), -1);
    close(fds[1]);
    support_baseline_end();
}

Test(conn, a_peer_that_is_gone_already_is_still_known) {
    support_baseline_begin();
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    close(fds[1]);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &conn), 0);
    cr_assert_eq(vouch_conn_get_peer(conn)->uid, geteuid());
    vouch_conn_free(conn);
    support_baseline_end();
}

Test(conn, refuses_what_is_not_a_connected_unix_stream) {
    support_baseline_begin();
    int fds[2];
    struct vouch_conn *conn;
    cr_assert_eq(vouch_conn_from_fd(-1, NULL, &conn), -EBADF);
    cr_assert_eq(pipe(fds), 0);
    check_refused(fds[0], VOUCH_E_NOT_SOCKET);
    check_refused(fds[1], VOUCH_E_NOT_SOCKET);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    check_refused(fds[0], -EINVAL);
    check_refused(fds[1], -EINVAL);
    check_refused(socket(AF_UNIX, SOCK_STREAM, 0), -ENOTCONN);
    int inet = socket(AF_INET, SOCK_STREAM, 0);
    if (inet >= 0) /* there may be no such thing in a sandbox */
        check_refused(inet, -EINVAL);
    support_baseline_end();
}

Test(conn, shortage_of_memory_leaks_nothing) {
    support_baseline_begin();
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = &allocator.allocator};
    struct vouch_conn *conns[2];
    uint64_t nth = 0;
    int result;
    do {
        support_allocator_fail(&allocator, ++nth, SUPPORT_FAIL_ONCE);
        result = vouch_conn_pair(&options, conns);
        cr_assert(result == 0 || result == -ENOMEM);
        cr_assert(result == 0 || allocator.live_blocks == 0);
    } while (allocator.injected > 0);
    cr_assert_eq(result, 0);
    cr_assert_gt(nth, 4);
    free_pair(conns);
    support_allocator_check(&allocator);
    support_baseline_end();
}

static void count_call(void *context) {
    ++*(int *)context;
}

Test(conn, the_hook_runs_once_at_the_end) {
    support_baseline_begin();
    int fds[2], calls = 0;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    const struct vouch_identity *identity;
    cr_assert_eq(vouch_identity_of_peer(fds[0], NULL, &identity), 0);
    struct vouch_conn *conn;
    cr_assert_eq(conn_new(fds[0], VOUCH_LINK_STREAM, identity, NULL, count_call, &calls, &conn), 0);
    cr_assert_eq(vouch_conn_get_peer(conn), identity);
    vouch_conn_close(conn);
    cr_assert_eq(calls, 0);
    vouch_conn_free(conn);
    cr_assert_eq(calls, 1);
    close(fds[1]);
    support_baseline_end();
}

Test(conn, closing_ends_both_sides_but_keeps_the_descriptor) {
    support_baseline_begin();
    struct vouch_conn *conns[2];
    char byte;
    pair(conns);
    cr_assert_eq(vouch_conn_write(conns[1], "unread", 6), 0);
    vouch_conn_close(conns[0]);
    vouch_conn_close(conns[0]);
    vouch_conn_close(NULL);
    cr_assert(conn_is_closed(conns[0]));
    cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), -ESHUTDOWN);
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), -ESHUTDOWN);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), -ESHUTDOWN);
    cr_assert_neq(fcntl(vouch_conn_get_fd(conns[0]), F_GETFD), -1);
    cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), 0);
    cr_assert_eq(vouch_conn_write(conns[1], "x", 1), -ECONNRESET);
    free_pair(conns);
    vouch_conn_free(NULL);
    support_baseline_end();
}

static void *close_conn(void *conn) {
    vouch_conn_close(conn);
    return NULL;
}

Test(conn, closing_wakes_a_blocked_reader) {
    support_baseline_begin();
    for (int i = 0; i < VOUCH_TEST_ROUNDS(500, 100); i++) {
        struct vouch_conn *conns[2];
        char byte;
        pair(conns);
        if (i % 2)
            vouch_conn_set_deadline(conns[0], VOUCH_READ, vouch_deadline_in(VOUCH_SECONDS(30)));
        pthread_t thread = support_thread_start(close_conn, conns[0]);
        cr_assert_eq(vouch_conn_read(conns[0], &byte, 1), -ESHUTDOWN);
        support_thread_join(thread);
        free_pair(conns);
    }
    support_baseline_end();
}

Test(conn, closing_wakes_a_blocked_writer) {
    static const char lots[1 << 20];
    support_baseline_begin();
    for (int i = 0; i < VOUCH_TEST_ROUNDS(500, 100); i++) {
        struct vouch_conn *conns[2];
        pair(conns);
        if (i % 2)
            vouch_conn_set_deadline(conns[0], VOUCH_WRITE, vouch_deadline_in(VOUCH_SECONDS(30)));
        pthread_t thread = support_thread_start(close_conn, conns[0]);
        cr_assert_eq(vouch_conn_write(conns[0], lots, sizeof(lots)), -ESHUTDOWN);
        support_thread_join(thread);
        free_pair(conns);
    }
    support_baseline_end();
}

static int use_in_child(struct vouch_conn *conn, const struct vouch_identity *peer) {
    char byte;
    int fd;
    size_t fd_count;
    vouch_conn_close(conn);
    bool refused = vouch_conn_read(conn, &byte, 1) == -ECHILD &&
                   vouch_conn_read_exactly(conn, &byte, 1) == -ECHILD &&
                   vouch_conn_write(conn, "x", 1) == -ECHILD &&
                   vouch_conn_shutdown_write(conn) == -ECHILD &&
                   vouch_conn_wait_closed(conn, VOUCH_FOREVER) == -ECHILD &&
                   vouch_conn_send_fds(conn, "x", 1, &(int){1}, 1) == -ECHILD &&
                   vouch_conn_recv_fds(conn, &byte, 1, &fd, 1, &fd_count) == -ECHILD;
    int own = vouch_conn_get_fd(conn), pidfd = peer->pidfd;
    vouch_conn_free(conn);
    bool closed = fcntl(own, F_GETFD) < 0 && (pidfd < 0 || fcntl(pidfd, F_GETFD) < 0);
    return refused && closed ? 0 : 1;
}

Test(conn, a_forked_child_can_only_drop_its_copy) {
    support_baseline_begin();
    int fds[2], calls = 0, status;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    const struct vouch_identity *peer;
    cr_assert_eq(vouch_identity_of_peer(fds[0], NULL, &peer), 0);
    struct vouch_conn *conn;
    cr_assert_eq(conn_new(fds[0], VOUCH_LINK_STREAM, peer, NULL, count_call, &calls, &conn), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(use_in_child(conn, peer) || calls);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);

    char byte;
    cr_assert_eq(vouch_conn_write(conn, "x", 1), 0);
    cr_assert_eq(read(fds[1], &byte, 1), 1);
    vouch_conn_free(conn);
    close(fds[1]);
    support_baseline_end();
}

/* A copy of the descriptor in a child would keep the peer waiting for its end of file. */
Test(conn, freeing_ends_the_connection_for_leaked_copies_too) {
    support_baseline_begin();
    struct vouch_conn *conns[2];
    char byte;
    pair(conns);
    int copy = dup(vouch_conn_get_fd(conns[0]));
    vouch_conn_free(conns[0]);
    cr_assert_eq(vouch_conn_read(conns[1], &byte, 1), 0);
    close(copy);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}
