/* SPDX-License-Identifier: MIT */
/* What /proc/self/fd gives: no limit on paths, and the file that was looked at; and what is left
 * without it. */
#include "lib/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vouch/dial.h>

#include "lib/publish.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[ADDRESS_PATH_MAX];
static struct vouch_error error;

TestSuite(sockfile_linux, .init = support_baseline_begin, .fini = support_baseline_end);

/* A file name of that many characters in the temporary directory. */
static const char *name_of(size_t length) {
    int used = snprintf(path, sizeof(path), "%s/", support_temp_dir());
    memset(path + used, 'x', length);
    path[(size_t)used + length] = 0;
    return path;
}

static void listen_and_dial(const char *at) {
    struct vouch_listener *listener = peers_must_listen(at, NULL);
    struct vouch_conn *client;
    int r = vouch_dial(at, NULL, &client, &error);
    cr_assert_eq(r, 0, "%s", error.message);
    vouch_conn_free(peers_must_accept(listener));
    vouch_conn_free(client);
    struct vouch_listener *second;
    cr_assert_eq(vouch_listen(at, NULL, &second, &error), VOUCH_E_ADDRESS_LOCKED);
    vouch_listener_free(listener);
    cr_assert_not(peers_exists(at));
}

Test(sockfile_linux, long_names) {
    listen_and_dial(name_of(80));
    listen_and_dial(name_of(ADDRESS_SUN_MAX + 1));
    listen_and_dial(name_of(PUBLISH_NAME_MAX));
}

Test(sockfile_linux, long_directories) {
    size_t used = (size_t)snprintf(path, sizeof(path), "%s", support_temp_dir());
    while (used + 52 < sizeof(path)) {
        memset(path + used, 'd', 50);
        path[used] = '/';
        path[used += 50] = 0;
        cr_assert_eq(mkdir(path, 0700), 0, "%s", strerror(errno));
    }
    memset(path + used, 's', sizeof(path) - 1 - used);
    path[used] = '/';
    path[sizeof(path) - 1] = 0;
    cr_assert_eq(strlen(path), ADDRESS_PATH_MAX - 1);
    listen_and_dial(path);
    /* The lock file's path is too long for support_temp_remove. */
    char lock[64];
    snprintf(lock, sizeof(lock), "%s.lock", path + used + 1);
    path[used] = 0;
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    cr_assert_eq(unlinkat(directory, lock, 0), 0, "%s", strerror(errno));
    close(directory);
}

Test(sockfile_linux, a_stale_socket_at_a_long_path_is_replaced) {
    struct vouch_listener *listener = peers_must_listen(name_of(200), NULL);
    char kept[ADDRESS_PATH_MAX + 8];
    snprintf(kept, sizeof(kept), "%s.kept", path);
    cr_assert_eq(link(path, kept), 0);
    vouch_listener_free(listener);
    cr_assert_eq(rename(kept, path), 0);
    listen_and_dial(path);
}

Test(sockfile_linux, the_file_that_was_seen_is_connected_to) {
    char seen[SUPPORT_PATH_MAX], other[SUPPORT_PATH_MAX];
    int good = peers_listen(support_temp_path(seen, "a"), 5);
    int bad = peers_listen(support_temp_path(other, "b"), 5);
    struct sockfile file;
    cr_assert_eq(sockfile_open(AT_FDCWD, seen, seen, &file), 0);
    cr_assert_eq(rename(other, seen), 0);

    struct address_sockaddr to;
    bool exact;
    cr_assert_eq(sockfile_sockaddr(&file, &to, &exact), 0);
    cr_assert(exact);
    int client = peers_connect(to.un.sun_path);
    cr_assert(client >= 0);
    cr_assert_eq(fcntl(bad, F_SETFL, O_NONBLOCK), 0);
    cr_assert_eq(accept(bad, NULL, NULL), -1);
    int accepted = accept(good, NULL, NULL);
    cr_assert(accepted >= 0);
    close(accepted);
    close(client);
    sockfile_close(&file);
    close(good);
    close(bad);
}

/* stat(2) of /proc/self/fd/N is how its absence shows. */
static void without_proc(void) {
    static const struct faults_plan plan = {
        .symbol = "stat", .call = 1, .repeat = FAULTS_ALWAYS, .error = ENOENT};
    faults_begin(&plan);
}

Test(sockfile_linux, works_without_proc) {
    char at[SUPPORT_PATH_MAX];
    without_proc();
    listen_and_dial(support_temp_path(at, "s"));
    faults_end();
}

Test(sockfile_linux, without_proc_paths_have_to_fit) {
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    struct vouch_listener *live = peers_must_listen(name_of(150), NULL);
    without_proc();
    int dialled = vouch_dial(path, NULL, &conn, &error);
    cr_assert_not_null(strstr(error.message, "at most 107 are possible"), "%s", error.message);
    vouch_listener_free(live);
    int listened = vouch_listen(path, NULL, &listener, &error);
    faults_end();
    cr_assert_eq(dialled, VOUCH_E_PATH_TOO_LONG);
    cr_assert_eq(listened, VOUCH_E_PATH_TOO_LONG);
    cr_assert_not_null(strstr(error.message, "at most 100 are possible"), "%s", error.message);
}

static void expect_rename(const char *symbol, int code, bool replace, int expected) {
    char a[SUPPORT_PATH_MAX], b[SUPPORT_PATH_MAX];
    const struct faults_plan plan = {.symbol = symbol, .call = 1, .error = code};
    int directory = open(support_temp_dir(), sockfile_open_directory_flags);
    peers_touch(support_temp_path(a, "a"));
    faults_begin(&plan);
    int r = sockfile_rename(directory, "a", directory, "b", replace);
    cr_assert_eq(faults_end(), 1);
    cr_assert_eq(r, expected);
    unlink(a);
    unlink(support_temp_path(b, "b"));
    close(directory);
}

Test(sockfile_linux, rename_on_file_systems_that_know_no_flags) {
    expect_rename("syscall", EINVAL, false, 0);
    expect_rename("syscall", ENOSYS, false, 0);
    expect_rename("syscall", EACCES, false, -EACCES);
    expect_rename("renameat", EACCES, true, -EACCES);
}
