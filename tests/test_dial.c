/* SPDX-License-Identifier: MIT */
/* Dialling: what is checked before and after connecting, every error that it promises, and how long
 * it waits. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/dial.h>

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

TestSuite(dial, .init = setup, .fini = support_baseline_end);

/* The code, and a message that names the path and these words. */
static void expect_refused(const struct vouch_dial_options *options, int code, const char *found,
                           const char *expected) {
    struct vouch_conn *conn = NULL;
    memset(&error, 0, sizeof(error));
    cr_expect_eq(vouch_dial(path, options, &conn, &error), code, "%s", error.message);
    cr_expect_null(conn);
    cr_expect_eq(error.code, code);
    cr_expect_not_null(strstr(error.message, path), "%s", error.message);
    cr_expect_not_null(strstr(error.message, found), "%s", error.message);
    cr_expect_not_null(strstr(error.message, expected), "%s", error.message);
    cr_expect_eq(vouch_dial(path, options, &conn, NULL), code);
}

static void expect_connected(const struct vouch_dial_options *options) {
    struct vouch_conn *conn;
    int r = vouch_dial(path, options, &conn, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    vouch_conn_free(conn);
}

Test(dial, knows_the_server) {
    int server = peers_listen(path, 5);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial(path, NULL, &conn, NULL), 0);
    const struct vouch_identity *peer = vouch_conn_get_peer(conn);
    cr_assert_eq(peer->uid, geteuid());
    int fd = vouch_conn_get_fd(conn);
    cr_assert_not(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    vouch_conn_free(conn);
    close(server);
}

Test(dial, nobody_there) {
    expect_refused(NULL, -ENOENT, "", "");
    close(peers_bind(path));
    expect_refused(NULL, -ECONNREFUSED, "", "");
}

Test(dial, wrong_arguments) {
    struct vouch_conn *conn;
    cr_expect_eq(vouch_dial(NULL, NULL, &conn, NULL), -EINVAL);
    cr_expect_eq(vouch_dial("", NULL, &conn, NULL), VOUCH_E_PATH_EMPTY);
    cr_expect_eq(vouch_dial("a/", NULL, &conn, NULL), VOUCH_E_PATH_EMPTY);
    struct vouch_dial_options options = {VOUCH_OPTIONS(options), .timeout = -1};
    cr_expect_eq(vouch_dial(path, &options, &conn, NULL), -EINVAL);
    mode_t modes[VOUCH_DIAL_MODES_MAX + 1] = {0};
    options = (struct vouch_dial_options){VOUCH_OPTIONS(options), .file_modes = modes,
                                          .file_mode_count = VOUCH_DIAL_MODES_MAX};
    cr_expect_eq(vouch_dial(path, &options, &conn, NULL), -ENOENT);
    options.file_mode_count++;
    cr_expect_eq(vouch_dial(path, &options, &conn, NULL), -EINVAL);
    static char too_long[5000];
    memset(too_long, 'x', sizeof(too_long) - 1);
    cr_expect_eq(vouch_dial(too_long, NULL, &conn, NULL), VOUCH_E_PATH_TOO_LONG);
}

Test(dial, symbolic_links_are_not_followed) {
    char target[SUPPORT_PATH_MAX];
    int server = peers_listen(support_temp_path(target, "t"), 5);
    cr_assert_eq(symlink(target, path), 0);
    expect_refused(NULL, VOUCH_E_SYMLINK, "symbolic link", "");
    close(server);
}

Test(dial, what_is_no_socket) {
    peers_touch(path);
    expect_refused(NULL, VOUCH_E_NOT_SOCKET, "found a regular file", "expected a socket");
}

Test(dial, file_owner_and_group) {
    int server = peers_listen(path, 5);
    struct stat status;
    cr_assert_eq(stat(path, &status), 0);
    struct vouch_dial_options options = {VOUCH_OPTIONS(options), .check_file_uid = true,
                                         .check_file_gid = true, .file_uid = status.st_uid,
                                         .file_gid = status.st_gid};
    expect_connected(&options);
    char found[32];
    options.file_uid = PEERS_UID;
    snprintf(found, sizeof(found), "belongs to uid %ld", (long)status.st_uid);
    expect_refused(&options, VOUCH_E_FILE_OWNER, found, "expected uid 54321");
    options.check_file_uid = false;
    expect_connected(&options);
    options.file_gid = PEERS_GID;
    snprintf(found, sizeof(found), "belongs to gid %ld", (long)status.st_gid);
    expect_refused(&options, VOUCH_E_FILE_GROUP, found, "expected gid 54322");
    options.check_file_gid = false;
    expect_connected(&options);
    close(server);
}

/* The Go original had it the wrong way round: with none given it refused 0770 and took all else. */
Test(dial, file_modes_are_those_that_are_accepted) {
    int server = peers_listen(path, 64);
    const mode_t modes[] = {0600, 0770};
    struct vouch_dial_options options = {VOUCH_OPTIONS(options), .file_modes = modes,
                                         .file_mode_count = 2};
    const mode_t good[] = {0600, 0770}, bad[] = {0777, 0660, 01770, 0700, 02600};
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(chmod(path, good[i]), 0);
        expect_connected(&options);
        expect_connected(NULL);
    }
    for (size_t i = 0; i < 5; i++) {
        cr_assert_eq(chmod(path, bad[i]), 0);
        char found[24];
        snprintf(found, sizeof(found), "has mode %04o", (unsigned)bad[i]);
        expect_refused(&options, VOUCH_E_FILE_MODE, found, "expected 0600 0770");
    }
    options.file_mode_count = 0;
    expect_refused(&options, VOUCH_E_FILE_MODE, "has mode 2600", "expected none at all");
    options.file_modes = NULL;
    expect_connected(&options);
    close(server);
}

Test(dial, a_policy_that_means_nothing) {
    support_baseline_begin();
    const struct vouch_policy no_rules = {NULL, 1};
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options), .server = &no_rules};
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial("/nowhere", &options, &conn, &error), -EINVAL);
    cr_assert_not_null(strstr(error.message, "policy"));
    support_baseline_end();
}

Test(dial, a_server_that_the_policy_refuses) {
    int server = peers_listen(path, 5);
    const struct vouch_rule rule = {VOUCH_ALLOW, VOUCH_SUBJECT_UID, PEERS_UID};
    const struct vouch_policy policy = {&rule, 1};
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options), .server = &policy};
    char found[32];
    snprintf(found, sizeof(found), "the server is uid=%ld ", (long)geteuid());
    expect_refused(&options, VOUCH_E_PEER_REFUSED, found, "denied: no rule allows uid=");
    close(server);
}

struct serving {
    const char *path;
    int ready; /* write end */
};

/* A server of another user, until its standard input ends. */
static int serve_as_other(void *context) {
    struct serving *serving = context;
    peers_become(PEERS_UID, PEERS_GID);
    int server = peers_listen(serving->path, 5);
    char byte = 0;
    if (server < 0 || write(serving->ready, &byte, 1) != 1)
        return 1;
    for (;;)
        pause();
}

Test(dial, a_squatter_is_refused_by_default) {
    peers_need_root();
    cr_assert_eq(chmod(support_temp_dir(), 01777), 0);
    int ready[2];
    cr_assert_eq(pipe(ready), 0);
    struct serving serving = {path, ready[1]};
    pid_t child = peers_start(serve_as_other, &serving);
    char byte;
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    expect_refused(NULL, VOUCH_E_PEER_REFUSED, "uid=54321 gid=54322", "expected uid 0: ");
    const struct vouch_rule rule = {VOUCH_ALLOW, VOUCH_SUBJECT_UID, PEERS_UID};
    const struct vouch_policy policy = {&rule, 1};
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options), .server = &policy};
    expect_connected(&options);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
}

static int dial_as_other(void *context) {
    (void)context;
    peers_become(PEERS_UID, PEERS_GID);
    struct vouch_conn *conn;
    if (vouch_dial(path, NULL, &conn, &error) != -EACCES)
        return 1;
    return strstr(error.message, "mode 0600") ? 0 : 2;
}

Test(dial, without_the_right_to_connect) {
    peers_need_root();
    cr_assert_eq(chmod(support_temp_dir(), 0755), 0);
    int server = peers_listen(path, 5);
    cr_assert_eq(chmod(path, 0600), 0);
    cr_assert_eq(peers_run(dial_as_other, NULL), 0);
    close(server);
}

Test(dial, other_types_of_socket) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    int server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
    expect_refused(NULL, -EPROTOTYPE, "wrong type of socket", "connecting with a stream");
    const struct vouch_dial_options packets = {VOUCH_OPTIONS(packets),
                                               .link = VOUCH_LINK_SEQPACKET};
    expect_refused(&packets, -EPROTOTYPE, "wrong type of socket", "connecting with seqpacket");
    close(server);
}

/* Fills the backlog of a server that never accepts. */
static int fill_backlog(int *clients, int room) {
    int count = 0;
    while (count < room && (clients[count] = peers_connect(path)) >= 0)
        count++;
    return count;
}

Test(dial, a_full_backlog_times_out) {
    int clients[64], server = peers_listen(path, 0), count = fill_backlog(clients, 64);
    if (count == 64)
        cr_skip_test("this system's backlog has no end");
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options),
                                               .timeout = VOUCH_MILLISECONDS(20)};
    int64_t before = vouch_now();
    expect_refused(&options, -ETIMEDOUT, "", "");
    cr_assert_geq(vouch_now() - before, 2 * VOUCH_MILLISECONDS(20),
                  "two calls, each waited its time");
    const struct vouch_dial_options at_once = {VOUCH_OPTIONS(at_once), .timeout = 1};
    expect_refused(&at_once, -ETIMEDOUT, "", "");
    while (count > 0)
        close(clients[--count]);
    close(server);
}

static void *accept_one(void *context) {
    int fd = accept(*(int *)context, NULL, NULL);
    if (fd >= 0)
        close(fd);
    return NULL;
}

Test(dial, waits_for_a_place_in_the_backlog) {
    int clients[64], server = peers_listen(path, 0), count = fill_backlog(clients, 64);
    pthread_t thread = support_thread_start(accept_one, &server);
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_FOREVER};
    expect_connected(&options);
    support_thread_join(thread);
    while (count > 0)
        close(clients[--count]);
    close(server);
}

static int dial_with_fault(const char *symbol, unsigned call, int code) {
    const struct faults_plan plan = {.symbol = symbol, .call = call, .error = code};
    struct vouch_conn *conn;
    faults_begin(&plan);
    int r = vouch_dial(path, NULL, &conn, &error);
    faults_end();
    if (r == 0)
        vouch_conn_free(conn);
    return r;
}

Test(dial, connecting_that_goes_on_in_the_background) {
    int server = peers_listen(path, 5);
    /* The injected EINPROGRESS makes no connection: what poll and SO_ERROR then say is an
     * unconnected socket, which has a hang-up. */
    cr_assert_eq(dial_with_fault("connect", 1, EINPROGRESS), VOUCH_E_PEER_UNKNOWN);
    cr_assert_eq(dial_with_fault("connect", 1, EINTR), 0);
    cr_assert_eq(dial_with_fault("connect", 1, EAGAIN), 0);
    close(server);
}

Test(dial, every_system_call_may_fail) {
    int server = peers_listen(path, 64);
    cr_expect_eq(dial_with_fault("socket", 1, EMFILE), -EMFILE);
    cr_expect_eq(dial_with_fault("fcntl", 1, EIO), -EIO);
    cr_expect_eq(dial_with_fault("connect", 1, EPERM), -EPERM);
    cr_expect_eq(dial_with_fault("connect", 1, EPROTOTYPE), -EPROTOTYPE);
    close(server);
}

Test(dial, out_of_memory) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    int server = peers_listen(path, 64), r = -ENOMEM;
    for (uint64_t n = 1; r == -ENOMEM; n++) {
        const struct vouch_dial_options options = {VOUCH_OPTIONS(options),
                                                   .allocator = &allocator.allocator};
        struct vouch_conn *conn;
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        r = vouch_dial(path, &options, &conn, &error);
        if (r == 0)
            vouch_conn_free(conn);
        else
            cr_assert_eq(error.code, -ENOMEM);
    }
    cr_assert_eq(r, 0);
    support_allocator_check(&allocator);
    close(server);
}

Test(dial, abstract_names_have_to_be_allowed) {
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial("@name", NULL, &conn, &error), VOUCH_E_ABSTRACT_OFF);
    cr_assert_not_null(strstr(error.message, "@name"));
}

Test(dial, descriptors_pass_only_when_allowed) {
    int server = peers_listen(path, 5);
    struct vouch_conn *conn;
    struct vouch_dial_options options = {VOUCH_OPTIONS(options)};
    cr_assert_eq(vouch_dial(path, &options, &conn, NULL), 0);
    cr_assert_eq(vouch_conn_send_fds(conn, "x", 1, &server, 1), -EPERM);
    vouch_conn_free(conn);
    options.pass_descriptors = true;
    cr_assert_eq(vouch_dial(path, &options, &conn, NULL), 0);
    cr_assert_eq(vouch_conn_send_fds(conn, "x", 1, &server, 1), 0);
    vouch_conn_free(conn);
    close(server);
}
