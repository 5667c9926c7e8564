/* SPDX-License-Identifier: MIT */
/* Putting a socket at a path and taking it away: what is replaced, what is left alone, what is left
 * behind. */
#include "lib/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[SUPPORT_PATH_MAX], lock_path[SUPPORT_PATH_MAX], staging_path[SUPPORT_PATH_MAX];
static struct vouch_error error;
static struct publication publication;
static const struct publish_options defaults = {.type = SOCK_STREAM, .mode = 0600, .backlog = 8};

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "s");
    support_temp_path(lock_path, "s.lock");
    support_temp_path(staging_path, ".s.new");
    publication = PUBLICATION_NONE;
}

TestSuite(publish, .init = setup, .fini = support_baseline_end);

static int try_publish(const char *at, const struct publish_options *options, int *ret_fd) {
    static struct address address;
    int r = address_parse(at, &address, &error);
    return r < 0 ? r : publish(NULL, &address, options, &publication, ret_fd, &error);
}

static int must_publish(const char *at, const struct publish_options *options) {
    int fd;
    int r = try_publish(at, options, &fd);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    cr_assert_not(peers_exists(staging_path));
    return fd;
}

/* The code, a message that names the path, and nothing left behind. */
static void expect_refused(const char *at, const struct publish_options *options, int code) {
    int fd = -1;
    cr_expect_eq(try_publish(at, options, &fd), code);
    cr_expect_eq(error.code, code);
    cr_expect_not_null(strstr(error.message, at), "%s", error.message);
    cr_expect_eq(fd, -1);
    cr_expect_null(publication.name);
    cr_expect_not(peers_exists(staging_path));
}

static void withdraw(int fd) {
    publication_withdraw(&publication);
    close(fd);
}

static struct stat status_of(const char *file) {
    struct stat status;
    cr_assert_eq(lstat(file, &status), 0, "%s: %s", file, strerror(errno));
    return status;
}

static void must_connect(const char *to) {
    int fd = peers_connect(to);
    cr_assert(fd >= 0, "%s: %s", to, strerror(-fd));
    close(fd);
}

/* What a server that was killed leaves. */
static void leave_stale(const char *at) {
    int fd = peers_listen(at, 1);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(peers_connect(at), -ECONNREFUSED);
}

Test(publish, appears_and_goes) {
    int fd = must_publish(path, &defaults);
    struct stat status = status_of(path);
    cr_assert(S_ISSOCK(status.st_mode));
    cr_assert_eq(status.st_mode & 07777, 0600);
    cr_assert_eq(status.st_uid, geteuid());
    cr_assert_eq(status_of(lock_path).st_mode & 07777, 0600);
    cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    must_connect(path);

    publication_withdraw(&publication);
    cr_assert_not(peers_exists(path));
    cr_assert(peers_exists(lock_path), "removing a lock file is a race");
    publication_withdraw(&publication);
    close(fd);
}

Test(publish, again_after_withdrawing) {
    withdraw(must_publish(path, &defaults));
    withdraw(must_publish(path, &defaults));
}

Test(publish, mode_is_exact_whatever_the_umask) {
    const mode_t modes[] = {0600, 0660, 0666, 0777, 0770, 0200, 0007};
    const mode_t masks[] = {0, 022, 077};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        for (size_t j = 0; j < sizeof(masks) / sizeof(masks[0]); j++) {
            struct publish_options options = defaults;
            options.mode = modes[i];
            mode_t before = umask(masks[j]);
            int fd = must_publish(path, &options);
            cr_expect_eq(umask(before), masks[j], "the umask is the program's");
            cr_expect_eq(status_of(path).st_mode & 07777, modes[i]);
            withdraw(fd);
        }
    }
}

Test(publish, owner_and_group) {
    peers_need_root();
    struct publish_options options = defaults;
    options.set_uid = options.set_gid = true;
    options.uid = PEERS_UID;
    options.gid = PEERS_GID;
    int fd = must_publish(path, &options);
    cr_assert_eq(status_of(path).st_uid, PEERS_UID);
    cr_assert_eq(status_of(path).st_gid, PEERS_GID);
    withdraw(fd);

    options.set_uid = false;
    fd = must_publish(path, &options);
    cr_assert_eq(status_of(path).st_uid, 0);
    cr_assert_eq(status_of(path).st_gid, PEERS_GID);
    withdraw(fd);
}

Test(publish, a_stale_socket_is_replaced) {
    leave_stale(path);
    int fd = must_publish(path, &defaults);
    must_connect(path);
    withdraw(fd);
}

/* The Go original removed whatever was there. */
Test(publish, a_live_server_is_left_alone) {
    int live = peers_listen(path, 5);
    struct stat before = status_of(path);
    expect_refused(path, &defaults, VOUCH_E_ADDRESS_LIVE);
    cr_assert_eq(status_of(path).st_ino, before.st_ino);
    must_connect(path);
    close(live);
}

Test(publish, a_live_server_with_a_full_backlog_is_left_alone) {
    int live = peers_listen(path, 0), clients[64], count = 0;
    while (count < 64 && (clients[count] = peers_connect(path)) >= 0)
        count++;
    expect_refused(path, &defaults, VOUCH_E_ADDRESS_LIVE);
    while (count > 0)
        close(clients[--count]);
    close(live);
}

Test(publish, a_datagram_server_is_left_alone) {
    struct address_sockaddr to;
    cr_assert_eq(address_of_path(path, &to), 0);
    int live = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(live, (struct sockaddr *)&to.un, to.length), 0);
    expect_refused(path, &defaults, VOUCH_E_ADDRESS_LIVE);
    close(live);
}

/* What connect(2) says to the look for a live server, when it is neither yes nor no. */
Test(publish, in_doubt_the_server_is_live) {
    const struct {
        int error, code;
    } cases[] = {{EACCES, VOUCH_E_ADDRESS_LIVE},
                 {EPERM, VOUCH_E_ADDRESS_LIVE},
                 {EAGAIN, VOUCH_E_ADDRESS_LIVE},
                 {EINPROGRESS, VOUCH_E_ADDRESS_LIVE},
                 {EIO, -EIO}};
    leave_stale(path);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct faults_plan plan = {.symbol = "connect", .call = 1, .error = cases[i].error};
        faults_begin(&plan);
        expect_refused(path, &defaults, cases[i].code);
        cr_assert_eq(faults_end(), 1);
    }
    cr_assert(peers_exists(path));
}

Test(publish, a_regular_file_is_left_alone) {
    peers_touch(path);
    expect_refused(path, &defaults, VOUCH_E_NOT_SOCKET);
    cr_assert(S_ISREG(status_of(path).st_mode));
}

Test(publish, directories_and_pipes_are_left_alone) {
    cr_assert_eq(mkdir(path, 0700), 0);
    expect_refused(path, &defaults, VOUCH_E_NOT_SOCKET);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(mkfifo(path, 0600), 0);
    expect_refused(path, &defaults, VOUCH_E_NOT_SOCKET);
    cr_assert(S_ISFIFO(status_of(path).st_mode));
}

Test(publish, symbolic_links_are_left_alone) {
    char target[SUPPORT_PATH_MAX];
    support_temp_path(target, "target");
    cr_assert_eq(symlink(target, path), 0);
    expect_refused(path, &defaults, VOUCH_E_SYMLINK); /* dangling */
    leave_stale(target);
    expect_refused(path, &defaults, VOUCH_E_SYMLINK); /* to a stale socket, of all things */
    cr_assert(S_ISLNK(status_of(path).st_mode));
    cr_assert(S_ISSOCK(status_of(target).st_mode));
}

Test(publish, who_holds_the_lock_is_alone) {
    int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(flock(lock, LOCK_EX), 0);
    expect_refused(path, &defaults, VOUCH_E_ADDRESS_LOCKED);
    close(lock);
    withdraw(must_publish(path, &defaults));
}

Test(publish, twice_in_one_process) {
    int fd = must_publish(path, &defaults);
    struct publication first = publication;
    publication = PUBLICATION_NONE;
    expect_refused(path, &defaults, VOUCH_E_ADDRESS_LOCKED);
    must_connect(path);
    publication = first;
    withdraw(fd);
}

Test(publish, a_lock_file_that_is_none) {
    char target[SUPPORT_PATH_MAX];
    cr_assert_eq(symlink(support_temp_path(target, "target"), lock_path), 0);
    expect_refused(path, &defaults, -ELOOP);
    cr_assert_not(peers_exists(target));
    cr_assert_eq(unlink(lock_path), 0);
    cr_assert_eq(mkfifo(lock_path, 0600), 0);
    expect_refused(path, &defaults, -EPERM);
    cr_assert_eq(unlink(lock_path), 0);
    cr_assert_eq(mkdir(lock_path, 0700), 0);
    expect_refused(path, &defaults, -EISDIR);
}

Test(publish, a_lock_file_of_somebody_else) {
    peers_need_root();
    peers_touch(lock_path);
    cr_assert_eq(chown(lock_path, PEERS_UID, PEERS_GID), 0);
    expect_refused(path, &defaults, -EPERM);
    cr_assert_not_null(strstr(error.message, "uid 54321"), "%s", error.message);
}

Test(publish, the_parent_has_to_be_safe) {
    const mode_t unsafe[] = {0720, 0702, 0777, 01777, 0770};
    char directory[SUPPORT_PATH_MAX], at[SUPPORT_PATH_MAX];
    cr_assert_eq(mkdir(support_temp_path(directory, "d"), 0700), 0);
    support_temp_path(at, "d/s");
    for (size_t i = 0; i < sizeof(unsafe) / sizeof(unsafe[0]); i++) {
        cr_assert_eq(chmod(directory, unsafe[i]), 0);
        expect_refused(at, &defaults, VOUCH_E_PARENT_UNSAFE);
        char found[8];
        snprintf(found, sizeof(found), "%04o", (unsigned)unsafe[i]);
        cr_expect_not_null(strstr(error.message, found), "%s", error.message);

        struct publish_options options = defaults;
        options.allow_unsafe_parent = true;
        withdraw(must_publish(at, &options));
    }
    cr_assert_eq(chmod(directory, 0755), 0);
    withdraw(must_publish(at, &defaults));
}

Test(publish, the_parent_has_to_be_ours_or_roots) {
    peers_need_root();
    char directory[SUPPORT_PATH_MAX], at[SUPPORT_PATH_MAX];
    cr_assert_eq(mkdir(support_temp_path(directory, "d"), 0755), 0);
    cr_assert_eq(chown(directory, PEERS_UID, PEERS_GID), 0);
    expect_refused(support_temp_path(at, "d/s"), &defaults, VOUCH_E_PARENT_UNSAFE);
    cr_assert_not_null(strstr(error.message, "uid 54321"), "%s", error.message);
}

Test(publish, the_parent_has_to_be_a_directory) {
    char at[SUPPORT_PATH_MAX];
    expect_refused(support_temp_path(at, "missing/s"), &defaults, -ENOENT);
    peers_touch(path);
    expect_refused(support_temp_path(at, "s/s"), &defaults, -ENOTDIR);
}

Test(publish, what_a_killed_one_left_is_taken_over) {
    char staged[SUPPORT_PATH_MAX];
    cr_assert_eq(mkdir(staging_path, 0700), 0);
    int dead = peers_bind(support_temp_path(staged, ".s.new/s"));
    cr_assert(dead >= 0);
    close(dead);
    withdraw(must_publish(path, &defaults));
}

Test(publish, a_staging_directory_of_others_is_not_used) {
    cr_assert_eq(mkdir(staging_path, 0700), 0);
    cr_assert_eq(chmod(staging_path, 0770), 0);
    int fd;
    cr_assert_eq(try_publish(path, &defaults, &fd), -EPERM);
    cr_assert(peers_exists(staging_path));
    cr_assert_eq(rmdir(staging_path), 0);

    peers_touch(staging_path);
    cr_assert_eq(try_publish(path, &defaults, &fd), -ENOTDIR);
    cr_assert_eq(unlink(staging_path), 0);

    cr_assert_eq(symlink("/", staging_path), 0);
    int r = try_publish(path, &defaults, &fd);
    cr_assert(r == -ENOTDIR || r == -ELOOP, "%d", r);
    cr_assert_eq(unlink(staging_path), 0);
}

Test(publish, withdrawing_leaves_a_successor_alone) {
    int fd = must_publish(path, &defaults);
    cr_assert_eq(unlink(path), 0);
    int successor = peers_listen(path, 5);
    cr_assert(successor >= 0);
    publication_withdraw(&publication);
    close(fd);
    must_connect(path);
    close(successor);
}

Test(publish, abandoning_changes_nothing) {
    int fd = must_publish(path, &defaults);
    publication_abandon(&publication);
    publication_abandon(&publication);
    must_connect(path);
    close(fd);
}

Test(publish, name_as_long_as_its_companions_allow) {
    char name[PUBLISH_NAME_MAX + 2], at[SUPPORT_PATH_MAX + PUBLISH_NAME_MAX];
    memset(name, 'n', sizeof(name));
    name[PUBLISH_NAME_MAX + 1] = 0;
    snprintf(at, sizeof(at), "%s/%s", support_temp_dir(), name);
    expect_refused(at, &defaults, VOUCH_E_PATH_TOO_LONG);
    cr_assert_not_null(strstr(error.message, "251 bytes"), "%s", error.message);
    cr_assert_not_null(strstr(error.message, "250"));
}

/* Each system call of a start fails once: a clean error, nothing left, and the next start works. */
static void fail_each(const char *symbol, int code, const struct publish_options *options) {
    for (unsigned call = 1;; call++) {
        const struct faults_plan plan = {.symbol = symbol, .call = call, .error = code};
        int fd;
        faults_begin(&plan);
        int r = try_publish(path, options, &fd);
        unsigned hit = faults_end();
        if (r == 0)
            withdraw(fd);
        cr_expect_not(peers_exists(path), "%s %u", symbol, call);
        if (r < 0) {
            cr_expect_eq(r, -code, "%s %u: %d", symbol, call, r);
            cr_expect_not(strcmp(symbol, "unlinkat") && peers_exists(staging_path), "%s %u", symbol,
                          call);
            cr_expect_null(publication.name);
        }
        withdraw(must_publish(path, &defaults));
        if (!hit)
            return;
    }
}

Test(publish, every_system_call_may_fail) {
    const char *const symbols[] = {"open",    "openat", "fstat",    "flock",   "socket",  "fcntl",
                                   "mkdirat", "bind",   "fchmodat", "fstatat", "renameat"};
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++)
        fail_each(symbols[i], EIO, &defaults);
    fail_each("listen", ENOBUFS, &defaults);
    struct publish_options options = defaults;
    options.set_gid = true;
    options.gid = getegid();
    fail_each("fchownat", EPERM, &options);
}

Test(publish, out_of_memory) {
    struct support_allocator allocator;
    struct address address;
    int fd;
    support_allocator_init(&allocator);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(address_parse(path, &address, NULL), 0);
    cr_assert_eq(publish(&allocator.allocator, &address, &defaults, &publication, &fd, NULL),
                 -ENOMEM);
    support_allocator_check(&allocator);
}
