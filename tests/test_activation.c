/* SPDX-License-Identifier: MIT */
/* Which descriptor is meant: only what is exactly as sd_listen_fds(3) says. */
#include "lib/activation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

TestSuite(activation, .init = support_baseline_begin, .fini = support_baseline_end);

enum { SELF = 4711 };

static int find(const char *pid, const char *fds, const char *names, const char *name) {
    const struct activation activation = {pid, fds, names};
    return activation_find(&activation, SELF, name, NULL);
}

Test(activation, the_only_one) {
    cr_expect_eq(find("4711", "1", NULL, NULL), 3);
    cr_expect_eq(find("4711", "1", "whatever", NULL), 3);
    cr_expect_eq(find("4711", "1", "web", "web"), 3);
}

Test(activation, the_one_of_that_name) {
    cr_expect_eq(find("4711", "3", "web:admin:x", "web"), 3);
    cr_expect_eq(find("4711", "3", "web:admin:x", "admin"), 4);
    cr_expect_eq(find("4711", "3", "web:admin:x", "x"), 5);
    cr_expect_eq(find("4711", "3", "web::x", ""), 4);
}

Test(activation, none) {
    const struct {
        const char *pid, *fds, *names, *name;
    } cases[] = {
        {NULL, "1", NULL, NULL},
        {"4711", NULL, NULL, NULL},
        {"4712", "1", NULL, NULL},
        {"04711", "1", NULL, NULL},
        {"+4711", "1", NULL, NULL},
        {" 4711", "1", NULL, NULL},
        {"4711 ", "1", NULL, NULL},
        {"4711x", "1", NULL, NULL},
        {"", "1", NULL, NULL},
        {"99999999999999999999999", "1", NULL, NULL},
        {"4711", "0", NULL, NULL},
        {"4711", "", NULL, NULL},
        {"4711", "-1", NULL, NULL},
        {"4711", "01", NULL, NULL},
        {"4711", "1.0", NULL, NULL},
        {"4711", "65537", NULL, NULL},
        {"4711", "99999999999999999999999", NULL, NULL},
        {"4711", "2", "a:b", NULL}, /* which? */
        {"4711", "1", NULL, "web"}, /* names are missing */
        {"4711", "1", "web", "we"},
        {"4711", "1", "web", "webb"},
        {"4711", "2", "a:a", "a"},   /* which? */
        {"4711", "2", "a:b:c", "a"}, /* more names than sockets */
        {"4711", "3", "a:b", "a"},   /* fewer */
        {"4711", "2", "a:b", "a:b"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct activation activation = {cases[i].pid, cases[i].fds, cases[i].names};
        struct vouch_error error;
        cr_expect_eq(activation_find(&activation, SELF, cases[i].name, &error),
                     VOUCH_E_NO_ACTIVATION, "case %zu", i);
        cr_expect_eq(error.code, VOUCH_E_NO_ACTIVATION);
    }
}

Test(activation, the_most_sockets) {
    cr_expect_eq(find("4711", "65536", NULL, NULL), VOUCH_E_NO_ACTIVATION,
                 "there are many, but that is not why");
    static char names[2 * ACTIVATION_FDS_MAX + 16];
    for (int i = 0; i < ACTIVATION_FDS_MAX - 1; i++)
        memcpy(names + 2 * i, "a:", 2);
    strcpy(names + 2 * (size_t)(ACTIVATION_FDS_MAX - 1), "last");
    cr_expect_eq(find("4711", "65536", names, "last"), ACTIVATION_FD_FIRST + 65535);
}

/* As init would start us: in a process of its own, with the socket as descriptor 3. */
static int be_activated(void *context) {
    const char *path = context;
    int made = peers_listen(path, 5);
    char pid[24];
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    if (made < 0 || dup2(made, ACTIVATION_FD_FIRST) < 0 || setenv("LISTEN_PID", pid, 1) < 0 ||
        setenv("LISTEN_FDS", "1", 1) < 0 || setenv("LISTEN_FDNAMES", "web", 1) < 0)
        return 1;
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    if (vouch_listen_activation("other", NULL, &listener, NULL) != VOUCH_E_NO_ACTIVATION)
        return 2;
    if (vouch_listen_activation("web", NULL, &listener, NULL) != 0 ||
        vouch_listener_get_fd(listener) != ACTIVATION_FD_FIRST)
        return 3;
    if (strcmp(getenv("LISTEN_FDS"), "1") != 0)
        return 4;
    int client = peers_connect(path);
    if (client < 0 || vouch_accept(listener, VOUCH_FOREVER, &conn) != 0)
        return 5;
    vouch_conn_free(conn);
    vouch_listener_free(listener);
    return peers_exists(path) ? 0 : 6; /* it is not ours to unlink */
}

Test(activation, end_to_end) {
    char path[SUPPORT_PATH_MAX];
    cr_assert_eq(peers_run(be_activated, support_temp_path(path, "a.sock")), 0);
}

static int be_activated_with_nonsense(void *context) {
    (void)context;
    struct vouch_listener *listener;
    char pid[24];
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    int fds[2];
    if (pipe(fds) < 0 || dup2(fds[0], ACTIVATION_FD_FIRST) < 0 ||
        setenv("LISTEN_PID", pid, 1) < 0 || setenv("LISTEN_FDS", "1", 1) < 0)
        return 1;
    return vouch_listen_activation(NULL, NULL, &listener, NULL) == VOUCH_E_NOT_LISTENING ? 0 : 2;
}

Test(activation, of_something_else) {
    cr_assert_eq(peers_run(be_activated_with_nonsense, NULL), 0);
}
