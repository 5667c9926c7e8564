/* SPDX-License-Identifier: MIT */
#include "tests/peers.h"

#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"

#define EXIT_FAILED 99

void peers_need_root(void) {
    if (geteuid() != 0)
        cr_skip_test("needs root, to be other users");
}

/* A test that crashes or is killed takes its children with it. Changing the user undoes this. */
static void die_with_parent(void) {
#if defined(__linux__)
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

void peers_become(uid_t uid, gid_t gid) {
    if (setgroups(0, NULL) < 0 || setregid(gid, gid) < 0 || setreuid(uid, uid) < 0)
        _exit(EXIT_FAILED);
    die_with_parent();
}

pid_t peers_start(int (*run)(void *context), void *context) {
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        die_with_parent();
        _exit(run(context));
    }
    return child;
}

int peers_wait(pid_t child) {
    int status;
    pid_t ended;
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    cr_assert_eq(ended, child);
    cr_assert(WIFEXITED(status), "the child was killed by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

int peers_run(int (*run)(void *context), void *context) {
    return peers_wait(peers_start(run, context));
}

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    return address;
}

int peers_connect(const char *path) {
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

int peers_bind(const char *path) {
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

int peers_listen(const char *path, int backlog) {
    int fd = peers_bind(path);
    if (fd < 0 || listen(fd, backlog) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

void peers_touch(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
    close(fd);
}

bool peers_exists(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0;
}

struct vouch_listener *peers_must_listen(const char *path,
                                         const struct vouch_listen_options *options) {
    struct vouch_listener *listener;
    struct vouch_error error;
    int r = vouch_listen(path, options, &listener, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    return listener;
}

struct vouch_conn *peers_must_accept(struct vouch_listener *listener) {
    struct vouch_conn *conn;
    cr_assert_eq(vouch_accept(listener, 0, &conn), 0);
    return conn;
}
