/* SPDX-License-Identifier: MIT */
/* Where files can't be pinned: names only, and they have to fit. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vouch/dial.h>

#include "lib/address.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[ADDRESS_SUN_MAX + 2];
static struct vouch_error error;

TestSuite(sockfile_posix, .init = support_baseline_begin, .fini = support_baseline_end);

/* A path of that length in the temporary directory. */
static const char *path_of(size_t length) {
    int used = snprintf(path, sizeof(path), "%s/", support_temp_dir());
    memset(path + used, 'x', length - (size_t)used);
    path[length] = 0;
    return path;
}

Test(sockfile_posix, longest_path_to_listen_at) {
    struct vouch_listener *listener = peers_must_listen(path_of(ADDRESS_SUN_MAX - 7), NULL);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial(path, NULL, &conn, NULL), 0);
    vouch_conn_free(conn);
    vouch_listener_free(listener);

    cr_assert_eq(vouch_listen(path_of(ADDRESS_SUN_MAX - 6), NULL, &listener, &error),
                 VOUCH_E_PATH_TOO_LONG);
    char expected[64];
    snprintf(expected, sizeof(expected), "%zu bytes, at most %zu", ADDRESS_SUN_MAX - 6,
             ADDRESS_SUN_MAX - 7);
    cr_assert_not_null(strstr(error.message, expected), "%s", error.message);
    cr_assert_not_null(strstr(error.message, path));
}

Test(sockfile_posix, longest_path_to_dial) {
    struct vouch_conn *conn;
    int server = peers_listen(path_of(ADDRESS_SUN_MAX), 5);
    cr_assert(server >= 0);
    cr_assert_eq(vouch_dial(path, NULL, &conn, NULL), 0);
    vouch_conn_free(conn);
    close(server);
}

Test(sockfile_posix, no_abstract_names) {
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    const struct vouch_listen_options listen = {
        VOUCH_OPTIONS(listen), .allow_abstract_name_that_any_user_can_reach = true};
    const struct vouch_dial_options dial = {VOUCH_OPTIONS(dial),
                                            .allow_abstract_name_that_any_user_can_take = true};
    cr_assert_eq(vouch_listen("@name", &listen, &listener, &error), -ENOTSUP);
    cr_assert_eq(vouch_dial("@name", &dial, &conn, &error), -ENOTSUP);
}

/* The second look, after connecting, finds nothing. */
Test(sockfile_posix, a_swap_is_noticed) {
    const struct faults_plan plan = {.symbol = "fstatat", .call = 2, .error = ENOENT};
    struct vouch_conn *conn;
    int server = peers_listen(path_of(50), 5);
    faults_begin(&plan);
    int r = vouch_dial(path, NULL, &conn, &error);
    cr_assert_eq(faults_end(), 1);
    cr_assert_eq(r, VOUCH_E_FILE_SWAPPED);
    close(server);
}
