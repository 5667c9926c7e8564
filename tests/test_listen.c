/* SPDX-License-Identifier: MIT */
/* Listeners: made of a path, a name, a descriptor; what they tell; how they end. */
#include "lib/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vouch/dial.h>

#include "lib/sockfile.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[SUPPORT_PATH_MAX];
static struct vouch_error error;

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "s");
}

TestSuite(listen, .init = setup, .fini = support_baseline_end);

static void expect_refused(const char *address, const struct vouch_listen_options *options,
                           int code) {
    struct vouch_listener *listener = NULL;
    cr_expect_eq(vouch_listen(address, options, &listener, &error), code);
    cr_expect_eq(error.code, code);
    cr_expect_null(listener);
    cr_expect_eq(vouch_listen(address, options, &listener, NULL), code);
}

Test(listen, tells_what_it_is) {
    struct vouch_listener *listener = peers_must_listen(path, NULL);
    cr_assert_str_eq(vouch_listener_get_address(listener), path);
    int fd = vouch_listener_get_fd(listener);
    cr_assert_geq(fd, 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    struct stat status;
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0600);
    struct vouch_listener_stats stats, zero = {0};
    vouch_listener_get_stats(listener, &stats);
    cr_assert_arr_eq(&stats, &zero, sizeof(stats));
    vouch_listener_free(listener);
    vouch_listener_free(NULL);
    vouch_listener_close(NULL);
}

Test(listen, options_reach_the_file) {
    peers_need_root();
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options), .mode = 0660,
                                                 .set_uid = true,        .uid = PEERS_UID,
                                                 .set_gid = true,        .gid = PEERS_GID};
    struct vouch_listener *listener = peers_must_listen(path, &options);
    struct stat status;
    cr_assert_eq(stat(path, &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0660);
    cr_assert_eq(status.st_uid, PEERS_UID);
    cr_assert_eq(status.st_gid, PEERS_GID);
    vouch_listener_free(listener);
}

Test(listen, wrong_arguments) {
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .mode = 01770};
    expect_refused(path, &options, -EINVAL);
    options = (struct vouch_listen_options){VOUCH_OPTIONS(options), .backlog = -1};
    expect_refused(path, &options, -EINVAL);
    const struct vouch_rule nonsense = {VOUCH_ALLOW, (enum vouch_subject)99, 0};
    const struct vouch_policy policy = {&nonsense, 1};
    options = (struct vouch_listen_options){VOUCH_OPTIONS(options), .policy = &policy};
    expect_refused(path, &options, -EINVAL);
    expect_refused(NULL, NULL, -EINVAL);
    expect_refused("", NULL, VOUCH_E_PATH_EMPTY);
    expect_refused("/tmp/", NULL, VOUCH_E_PATH_EMPTY);
    static char too_long[ADDRESS_PATH_MAX + 1];
    memset(too_long, 'x', sizeof(too_long) - 1);
    expect_refused(too_long, NULL, VOUCH_E_PATH_TOO_LONG);
    cr_assert_not(peers_exists(path));
}

Test(listen, an_unsafe_parent_has_to_be_allowed) {
    cr_assert_eq(chmod(support_temp_dir(), 01777), 0);
    expect_refused(path, NULL, VOUCH_E_PARENT_UNSAFE);
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options),
                                                 .allow_unsafe_parent = true};
    vouch_listener_free(peers_must_listen(path, &options));
}

Test(listen, abstract_names_have_to_be_allowed) {
    expect_refused("@name", NULL, VOUCH_E_ABSTRACT_OFF);
}

Test(listen, abstract) {
    if (!sockfile_has_abstract)
        cr_skip_test("no abstract names on this system");
    char name[64];
    snprintf(name, sizeof(name), "@vouch-test-%ld", (long)getpid());
    const struct vouch_listen_options options = {
        VOUCH_OPTIONS(options), .allow_abstract_name_that_any_user_can_reach = true};
    struct vouch_listener *listener = peers_must_listen(name, &options);
    cr_assert_str_eq(vouch_listener_get_address(listener), name);
    expect_refused(name, &options, VOUCH_E_ADDRESS_LIVE);
    const struct vouch_dial_options dial = {VOUCH_OPTIONS(dial),
                                            .allow_abstract_name_that_any_user_can_take = true};
    struct vouch_conn *client;
    cr_assert_eq(vouch_dial(name, &dial, &client, NULL), 0);
    vouch_conn_free(peers_must_accept(listener));
    vouch_conn_free(client);
    vouch_listener_free(listener);
    cr_assert_eq(vouch_dial(name, &dial, &client, NULL), -ECONNREFUSED);
}

Test(listen, closing_unlinks_and_unlocks) {
    struct vouch_listener *listener = peers_must_listen(path, NULL);
    vouch_listener_close(listener);
    cr_assert_not(peers_exists(path));
    cr_assert_eq(vouch_listener_get_fd(listener), -1);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_accept(listener, VOUCH_FOREVER, &conn), -ESHUTDOWN);
    vouch_listener_free(peers_must_listen(path, NULL));
    vouch_listener_close(listener);
    vouch_listener_free(listener);
}

Test(listen, the_rules_are_copied) {
    struct vouch_rule rule = {VOUCH_DENY, VOUCH_SUBJECT_ANY, 0};
    const struct vouch_policy policy = {&rule, 1};
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options), .policy = &policy};
    struct vouch_listener *listener = peers_must_listen(path, &options);
    rule.action = VOUCH_ALLOW;
    int client = peers_connect(path);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_accept(listener, 0, &conn), -ETIMEDOUT);
    struct vouch_listener_stats stats;
    vouch_listener_get_stats(listener, &stats);
    cr_assert_eq(stats.refused_policy, 1);
    close(client);
    vouch_listener_free(listener);
}

static struct vouch_listener *must_adopt(int fd) {
    struct vouch_listener *listener;
    int r = vouch_listen_fd(fd, NULL, &listener, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    return listener;
}

Test(listen, taking_over_a_descriptor) {
    int fd = peers_listen(path, 5), copy = dup(fd);
    struct vouch_listener *listener = must_adopt(fd);
    cr_assert_eq(vouch_listener_get_fd(listener), fd);
    cr_assert_str_eq(vouch_listener_get_address(listener), "");
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    int client = peers_connect(path);
    vouch_conn_free(peers_must_accept(listener));
    close(client);
    vouch_listener_free(listener);
    cr_assert(peers_exists(path), "it was not made by us");
    client = peers_connect(path);
    cr_assert(client >= 0, "whoever made it can go on with it");
    close(client);
    close(copy);
}

static void expect_not_listening(int fd, int code) {
    struct vouch_listener *listener;
    cr_expect_eq(vouch_listen_fd(fd, NULL, &listener, &error), code);
    cr_expect_eq(error.code, code);
    if (fd >= 0) {
        cr_expect_neq(fcntl(fd, F_GETFD), -1, "it stays the caller's");
        close(fd);
    }
}

Test(listen, taking_over_what_does_not_listen) {
    int fds[2];
    cr_assert_eq(os_socketpair_stream(fds), 0);
    expect_not_listening(fds[0], VOUCH_E_NOT_LISTENING);
    expect_not_listening(fds[1], VOUCH_E_NOT_LISTENING);
    cr_assert_eq(pipe(fds), 0);
    expect_not_listening(fds[0], VOUCH_E_NOT_LISTENING);
    expect_not_listening(fds[1], VOUCH_E_NOT_LISTENING);
    expect_not_listening(peers_bind(path), VOUCH_E_NOT_LISTENING);
    expect_not_listening(socket(AF_UNIX, SOCK_DGRAM, 0), VOUCH_E_NOT_LISTENING);
    int inet = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(listen(inet, 1), 0);
    expect_not_listening(inet, VOUCH_E_NOT_LISTENING);
    int packets = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    cr_assert_eq(listen(packets, 1), -1);
    expect_not_listening(packets, VOUCH_E_NOT_LISTENING);
    expect_not_listening(-1, -EBADF);
}

Test(listen, out_of_memory) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options),
                                                 .allocator = &allocator.allocator};
    struct vouch_listener *listener;
    int r = -ENOMEM;
    for (uint64_t n = 1; r == -ENOMEM; n++) {
        cr_assert_not(peers_exists(path));
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        r = vouch_listen(path, &options, &listener, &error);
        cr_assert(r == 0 || error.code == -ENOMEM);
    }
    cr_assert_eq(r, 0);
    vouch_listener_free(listener);
    int fd = peers_listen(path, 1);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(vouch_listen_fd(fd, &options, &listener, NULL), -ENOMEM);
    close(fd);
    support_allocator_check(&allocator);
}

Test(listen, failing_system_calls_of_taking_over) {
    const char *const symbols[] = {"getsockopt", "getsockname", "fcntl", "listen"};
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        int fd = peers_listen(path, 1);
        const struct faults_plan plan = {.symbol = symbols[i], .call = 1, .error = EIO};
        struct vouch_listener *listener;
        faults_begin(&plan);
        int r = vouch_listen_fd(fd, NULL, &listener, NULL);
        faults_end();
        cr_expect_eq(r, -EIO, "%s", symbols[i]);
        close(fd);
        unlink(path);
    }
}

/* What a forked child may do with a listener: nothing but let go of its copies. */
static int use_in_child(void *context) {
    struct vouch_listener *listener = context;
    struct vouch_listener_stats stats;
    struct vouch_conn *conn;
    int64_t retry_at;
    if (vouch_accept(listener, VOUCH_FOREVER, &conn) != -ECHILD ||
        listener_accept_now(listener, 0, &conn, &retry_at) != -ECHILD)
        return 1;
    vouch_listener_get_stats(listener, &stats);
    if (stats.accepted != 0)
        return 2;
    vouch_listener_close(listener);
    vouch_listener_free(listener);
    return peers_exists(path) ? 0 : 3;
}

Test(listen, a_forked_child_can_do_no_harm) {
    struct vouch_listener *listener = peers_must_listen(path, NULL);
    int client = peers_connect(path);
    struct vouch_conn *conn = peers_must_accept(listener);
    cr_assert_eq(peers_run(use_in_child, listener), 0);
    close(client);
    client = peers_connect(path);
    cr_assert(client >= 0);
    struct vouch_conn *second = peers_must_accept(listener);
    vouch_conn_free(conn);
    vouch_conn_free(second);
    struct vouch_listener *other;
    cr_assert_eq(vouch_listen(path, NULL, &other, NULL), VOUCH_E_ADDRESS_LOCKED,
                 "the child did not let the lock go");
    vouch_listener_free(listener);
    close(client);
}

static int hold_copies(void *context) {
    char byte;
    return read(*(int *)context, &byte, 1) == 0 ? 0 : 1;
}

/* A child that holds copies of all descriptors keeps neither the lock nor the clients. */
Test(listen, closing_is_not_held_up_by_a_child) {
    int held[2];
    cr_assert_eq(pipe(held), 0);
    fcntl(held[1], F_SETFD, FD_CLOEXEC);
    struct vouch_listener *listener = peers_must_listen(path, NULL);
    pid_t child = fork();
    if (child == 0) {
        close(held[1]);
        _exit(hold_copies(&held[0]));
    }
    char kept[SUPPORT_PATH_MAX];
    cr_assert_eq(link(path, support_temp_path(kept, "kept")), 0);
    vouch_listener_free(listener);
    cr_assert_eq(peers_connect(kept), -ECONNREFUSED);
    vouch_listener_free(peers_must_listen(path, NULL));
    close(held[1]);
    cr_assert_eq(peers_wait(child), 0);
    close(held[0]);
}
