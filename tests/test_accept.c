/* SPDX-License-Identifier: MIT */
/* Accepting: whom it lets in, what it counts, what it survives, and how it waits. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/listen.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[SUPPORT_PATH_MAX];
static struct vouch_listener *listener;

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "s");
}

static void teardown(void) {
    vouch_listener_free(listener);
    listener = NULL;
    support_baseline_end();
}

TestSuite(accept, .init = setup, .fini = teardown);

static struct vouch_listener_stats stats_now(void) {
    struct vouch_listener_stats stats;
    vouch_listener_get_stats(listener, &stats);
    return stats;
}

/* Connects `count` clients that stay in the backlog. */
static void clients_open(int *clients, int count) {
    for (int i = 0; i < count; i++) {
        clients[i] = peers_connect(path);
        cr_assert(clients[i] >= 0);
    }
}

static void clients_close(const int *clients, int count) {
    for (int i = 0; i < count; i++)
        close(clients[i]);
}

static bool was_closed(int client) {
    char byte;
    ssize_t r = recv(client, &byte, 1, MSG_DONTWAIT);
    return r == 0 || (r < 0 && errno == ECONNRESET);
}

Test(accept, a_connection_with_its_identity) {
    listener = peers_must_listen(path, NULL);
    int client;
    clients_open(&client, 1);
    struct vouch_conn *conn = peers_must_accept(listener);
    cr_assert_eq(vouch_conn_get_peer(conn)->uid, geteuid());
    int fd = vouch_conn_get_fd(conn);
    cr_assert_not(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(vouch_conn_write(conn, "hello", 5), 0);
    char text[5];
    cr_assert_eq(recv(client, text, 5, MSG_WAITALL), 5);
    cr_assert_eq(stats_now().accepted, 1);
    cr_assert_eq(stats_now().live, 1);
    vouch_conn_free(conn);
    cr_assert_eq(stats_now().live, 0);
    clients_close(&client, 1);
}

Test(accept, nobody_is_waiting) {
    listener = peers_must_listen(path, NULL);
    struct vouch_conn *conn;
    int64_t retry_at = 1;
    cr_assert_eq(listener_accept_now(listener, 5, &conn, &retry_at), 0);
    cr_assert_eq(retry_at, 0);
    cr_assert_eq(vouch_accept(listener, 0, &conn), -ETIMEDOUT);
    cr_assert_eq(vouch_accept(listener, vouch_now() + VOUCH_MILLISECONDS(5), &conn), -ETIMEDOUT);
}

Test(accept, the_policy_is_asked) {
    const struct vouch_rule rule = {VOUCH_ALLOW, VOUCH_SUBJECT_UID, PEERS_UID};
    const struct vouch_policy policy = {&rule, 1};
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options), .policy = &policy};
    listener = peers_must_listen(path, &options);
    int clients[2];
    clients_open(clients, 2);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_accept(listener, 0, &conn), -ETIMEDOUT);
    cr_assert(was_closed(clients[0]) && was_closed(clients[1]));
    cr_assert_eq(stats_now().refused_policy, 2);
    cr_assert_eq(stats_now().accepted, 0);
    cr_assert_eq(stats_now().live, 0);
    clients_close(clients, 2);
}

Test(accept, limits_at_the_limit_and_one_past) {
    struct vouch_conn *conns[4], *conn;
    int clients[4];
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .max_connections = 3,
                                           .max_connections_per_uid = 4};
    listener = peers_must_listen(path, &options);
    clients_open(clients, 4);
    for (int i = 0; i < 3; i++)
        conns[i] = peers_must_accept(listener);
    cr_assert_eq(vouch_accept(listener, 0, &conn), -ETIMEDOUT);
    cr_assert(was_closed(clients[3]));
    cr_assert_eq(stats_now().refused_total_limit, 1);
    cr_assert_eq(stats_now().live, 3);

    vouch_conn_free(conns[2]);
    close(clients[3]);
    clients_open(&clients[3], 1);
    conns[2] = peers_must_accept(listener);
    for (int i = 0; i < 3; i++)
        vouch_conn_free(conns[i]);
    clients_close(clients, 4);
}

Test(accept, limit_of_one_user) {
    struct vouch_conn *conns[2], *conn;
    int clients[3];
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .max_connections = 9,
                                           .max_connections_per_uid = 2};
    listener = peers_must_listen(path, &options);
    clients_open(clients, 3);
    for (int i = 0; i < 2; i++)
        conns[i] = peers_must_accept(listener);
    cr_assert_eq(vouch_accept(listener, 0, &conn), -ETIMEDOUT);
    cr_assert(was_closed(clients[2]));
    cr_assert_eq(stats_now().refused_uid_limit, 1);
    for (int i = 0; i < 2; i++)
        vouch_conn_free(conns[i]);
    clients_close(clients, 3);
}

Test(accept, connections_outlive_the_listener) {
    int client;
    listener = peers_must_listen(path, NULL);
    clients_open(&client, 1);
    struct vouch_conn *conn = peers_must_accept(listener);
    vouch_listener_free(listener);
    listener = NULL;
    cr_assert_eq(vouch_conn_write(conn, "x", 1), 0);
    vouch_conn_free(conn);
    clients_close(&client, 1);
}

Test(accept, refusals_come_in_bounded_bursts) {
    enum { CLIENTS = LISTENER_BURST + 1 };
    int clients[CLIENTS];
    const struct vouch_policy nobody = {NULL, 0};
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options), .policy = &nobody};
    listener = peers_must_listen(path, &options);
    clients_open(clients, CLIENTS);
    struct vouch_conn *conn;
    int64_t retry_at;
    cr_assert_eq(listener_accept_now(listener, 1, &conn, &retry_at), 0);
    cr_assert_eq(retry_at, 0);
    cr_assert_eq(stats_now().refused_policy, LISTENER_BURST);
    cr_assert_eq(listener_accept_now(listener, 1, &conn, &retry_at), 0);
    cr_assert_eq(stats_now().refused_policy, CLIENTS);
    clients_close(clients, CLIENTS);
}

/* Which of the calls this platform makes. */
static const char *accept_symbol(void) {
    faults_begin(NULL);
    cr_assert_eq(os_accept(-1), -EBADF);
    faults_end();
    return faults_count("accept4") ? "accept4" : "accept";
}

/* One accept_now at `now` during which accept(2) fails as told. */
static int accept_failing(int64_t now, unsigned repeat, int error, struct vouch_conn **ret_conn,
                          int64_t *ret_retry_at) {
    const struct faults_plan plan = {
        .symbol = accept_symbol(), .call = 1, .repeat = repeat, .error = error};
    faults_begin(&plan);
    int r = listener_accept_now(listener, now, ret_conn, ret_retry_at);
    faults_end();
    return r;
}

Test(accept, passing_errors_are_passed_over) {
    const int errors[] = {EINTR, ECONNABORTED};
    int clients[2];
    listener = peers_must_listen(path, NULL);
    clients_open(clients, 2);
    for (int i = 0; i < 2; i++) {
        struct vouch_conn *conn;
        int64_t retry_at;
        cr_assert_eq(accept_failing(1, 3, errors[i], &conn, &retry_at), 1);
        vouch_conn_free(conn);
    }
    cr_assert_eq(stats_now().errors, 6);
    clients_close(clients, 2);
}

Test(accept, passing_errors_do_not_go_on_for_ever) {
    listener = peers_must_listen(path, NULL);
    struct vouch_conn *conn;
    int64_t retry_at;
    cr_assert_eq(accept_failing(1, FAULTS_ALWAYS, EINTR, &conn, &retry_at), 0);
    cr_assert_eq(stats_now().errors, LISTENER_BURST);
}

/* Errors that should not be put the next try off, longer each time up to a second, and a success
 * forgets them. */
Test(accept, unknown_errors_back_off) {
    const int errors[] = {EPERM, EINVAL, EPROTO, EIO};
    struct vouch_conn *conn;
    int64_t now = 1, retry_at, gap = LISTENER_RETRY_MIN;
    listener = peers_must_listen(path, NULL);
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(accept_failing(now, 1, errors[i % 4], &conn, &retry_at), 0);
        cr_assert_eq(retry_at, now + gap);
        now = retry_at;
        gap = 2 * gap < LISTENER_RETRY_MAX ? 2 * gap : LISTENER_RETRY_MAX;
    }
    cr_assert_eq(gap, LISTENER_RETRY_MAX);
    int client;
    clients_open(&client, 1);
    cr_assert_eq(listener_accept_now(listener, now, &conn, &retry_at), 1);
    vouch_conn_free(conn);
    cr_assert_eq(accept_failing(now, 1, EIO, &conn, &retry_at), 0);
    cr_assert_eq(retry_at, now + LISTENER_RETRY_MIN);
    clients_close(&client, 1);
}

Test(accept, out_of_descriptors_a_client_is_shed) {
    const int errors[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};
    int clients[4];
    listener = peers_must_listen(path, NULL);
    clients_open(clients, 4);
    int64_t now = 1, retry_at;
    for (int i = 0; i < 4; i++) {
        struct vouch_conn *conn;
        cr_assert_eq(accept_failing(now, 1, errors[i], &conn, &retry_at), 0);
        cr_assert_eq(retry_at, now + LISTENER_SHED_INTERVAL);
        cr_assert(was_closed(clients[i]), "%d", i);
        cr_assert_eq(stats_now().shed, (uint64_t)i + 1);
        now = retry_at;
    }
    clients_close(clients, 4);
}

Test(accept, before_its_time_nothing_is_tried) {
    int client;
    listener = peers_must_listen(path, NULL);
    struct vouch_conn *conn;
    int64_t retry_at;
    cr_assert_eq(accept_failing(1, 1, EIO, &conn, &retry_at), 0);
    clients_open(&client, 1);
    int64_t again;
    cr_assert_eq(listener_accept_now(listener, retry_at - 1, &conn, &again), 0);
    cr_assert_eq(again, retry_at);
    cr_assert_eq(stats_now().errors, 1);
    cr_assert_eq(listener_accept_now(listener, retry_at, &conn, &again), 1);
    vouch_conn_free(conn);
    clients_close(&client, 1);
}

Test(accept, unreadable_credentials) {
    int client;
    listener = peers_must_listen(path, NULL);
    clients_open(&client, 1);
    const struct faults_plan plan = {.symbol = "getsockopt", .call = 1, .error = EIO};
    struct vouch_conn *conn;
    int64_t retry_at;
    faults_begin(&plan);
    int r = listener_accept_now(listener, 1, &conn, &retry_at);
    unsigned hit = faults_end();
    if (!hit) { /* getpeereid, which asks inside the C library */
        cr_assert_eq(r, 1);
        vouch_conn_free(conn);
    } else {
        cr_assert_eq(r, 0);
        cr_assert(was_closed(client));
        cr_assert_eq(stats_now().refused_unknown, 1);
    }
    clients_close(&client, 1);
}

Test(accept, out_of_memory_sheds) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options),
                                                 .allocator = &allocator.allocator};
    struct vouch_conn *conn;
    int r = -ETIMEDOUT, client;
    for (uint64_t n = 1; r == -ETIMEDOUT; n++) {
        support_allocator_fail(&allocator, 0, 0);
        vouch_listener_free(listener); /* a new one, which holds no memory from the last try */
        listener = peers_must_listen(path, &options);
        clients_open(&client, 1);
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        r = vouch_accept(listener, 0, &conn);
        cr_assert_eq(stats_now().shed, r == 0 ? 0 : 1);
        cr_assert_eq(stats_now().live, r == 0 ? 1 : 0);
        clients_close(&client, 1);
    }
    cr_assert_eq(r, 0);
    vouch_conn_free(conn);
    vouch_listener_free(listener);
    listener = NULL;
    support_allocator_check(&allocator);
}

static void *accept_until_closed(void *context) {
    struct vouch_conn *conn;
    int r;
    while ((r = vouch_accept(context, VOUCH_FOREVER, &conn)) == 0)
        vouch_conn_free(conn);
    return (void *)(intptr_t)r;
}

Test(accept, closing_wakes_who_waits) {
    for (int i = 0; i < VOUCH_TEST_ROUNDS(200, 50); i++) {
        listener = peers_must_listen(path, NULL);
        pthread_t thread = support_thread_start(accept_until_closed, listener);
        if (i % 2) /* half of the time it is surely waiting, or has been */
            close(peers_connect(path));
        vouch_listener_close(listener);
        cr_assert_eq((intptr_t)support_thread_join(thread), -ESHUTDOWN);
        vouch_listener_free(listener);
    }
    listener = NULL;
}

Test(accept, a_client_wakes_who_waits) {
    listener = peers_must_listen(path, NULL);
    pthread_t thread = support_thread_start(accept_until_closed, listener);
    int client = peers_connect(path);
    char byte;
    cr_assert_eq(fcntl(client, F_SETFL, 0), 0);
    cr_assert_eq(recv(client, &byte, 1, 0), 0, "it was taken and closed");
    close(client);
    vouch_listener_close(listener);
    support_thread_join(thread);
}

Test(accept, descriptors_pass_only_when_allowed) {
    for (int allowed = 0; allowed < 2; allowed++) {
        const struct vouch_listen_options options = {VOUCH_OPTIONS(options),
                                                     .pass_descriptors = allowed};
        listener = peers_must_listen(path, &options);
        int client;
        clients_open(&client, 1);
        struct vouch_conn *conn = peers_must_accept(listener);
        cr_assert_eq(vouch_conn_send_fds(conn, "x", 1, &client, 1), allowed ? 0 : -EPERM);
        vouch_conn_free(conn);
        clients_close(&client, 1);
        vouch_listener_free(listener);
    }
    listener = NULL;
}
