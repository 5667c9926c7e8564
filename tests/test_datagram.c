/* SPDX-License-Identifier: MIT */
/* The life of a datagram socket: what it may be bound to, whom it may be connected to, and that it
 * takes away what is its own and nothing else. */
#include "lib/datagram.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/sockfile.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

static char path[SUPPORT_PATH_MAX], other[SUPPORT_PATH_MAX];
static struct vouch_error error;

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "d");
    support_temp_path(other, "other");
}

TestSuite(datagram, .init = setup, .fini = support_baseline_end);

/* Options for `address`, that this system can do. */
static struct vouch_datagram_options at(const char *address) {
    return (struct vouch_datagram_options){.size = sizeof(struct vouch_datagram_options),
                                           .address = address,
                                           .allow_senders_without_identity =
                                               !datagram_tells_sender};
}

static struct vouch_datagram *must_open(const struct vouch_datagram_options *options) {
    struct vouch_datagram *datagram;
    cr_assert_eq(vouch_datagram_open(options, &datagram, &error), 0, "%s", error.message);
    return datagram;
}

static struct vouch_datagram *must_open_at(const char *address) {
    struct vouch_datagram_options options = at(address);
    return must_open(&options);
}

static void expect_refused(const struct vouch_datagram_options *options, int code) {
    struct vouch_datagram *datagram;
    cr_assert_eq(vouch_datagram_open(options, &datagram, &error), code, "%s", error.message);
    cr_assert_eq(error.code, code);
    cr_assert_eq(vouch_datagram_open(options, &datagram, NULL), code);
}

static void expect_refused_at(const char *address, int code) {
    struct vouch_datagram_options options = at(address);
    expect_refused(&options, code);
    if (address)
        cr_assert_not_null(strstr(error.message, address), "%s", error.message);
}

static mode_t mode_of(const char *file) {
    struct stat status;
    cr_assert_eq(lstat(file, &status), 0);
    return status.st_mode;
}

Test(datagram, tells_what_it_is) {
    struct vouch_datagram *datagram = must_open_at(path);
    cr_assert_str_eq(vouch_datagram_get_address(datagram)->text, path);
    cr_assert(fcntl(datagram->fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(mode_of(path), S_IFSOCK | 0600);
    cr_assert_eq(vouch_datagram_get_fd(datagram), datagram->fd);
    struct vouch_datagram_stats stats, zero = {0};
    vouch_datagram_get_stats(datagram, &stats);
    cr_assert_arr_eq(&stats, &zero, sizeof(stats));
    vouch_datagram_free(datagram);
    cr_assert_not(peers_exists(path));
    vouch_datagram_free(NULL);
    vouch_datagram_close(NULL);
}

Test(datagram, without_an_address) {
    struct vouch_datagram *datagram = must_open(NULL);
    cr_assert_eq(vouch_datagram_get_address(datagram)->size, 0);
    vouch_datagram_free(datagram);
}

Test(datagram, the_mode_is_as_asked_for_whatever_the_umask) {
    const mode_t masks[] = {0, 0777}, modes[] = {0600, 0660, 0666, 0200};
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < 4; k++) {
            mode_t before = umask(masks[i]);
            struct vouch_datagram_options options = at(path);
            options.mode = modes[k];
            struct vouch_datagram *datagram = must_open(&options);
            umask(before);
            cr_expect_eq(mode_of(path), S_IFSOCK | modes[k]);
            vouch_datagram_free(datagram);
        }
    }
    cr_assert_eq(chmod(support_temp_dir(), 0700), 0);
}

Test(datagram, the_owner_is_as_asked_for) {
    peers_need_root();
    struct vouch_datagram_options options = at(path);
    options.set_uid = options.set_gid = true;
    options.uid = PEERS_UID;
    options.gid = PEERS_GID;
    options.mode = 0620;
    struct vouch_datagram *datagram = must_open(&options);
    struct stat status;
    cr_assert_eq(lstat(path, &status), 0);
    cr_assert_eq(status.st_uid, PEERS_UID);
    cr_assert_eq(status.st_gid, PEERS_GID);
    cr_assert_eq(status.st_mode, S_IFSOCK | 0620);
    vouch_datagram_free(datagram);
    cr_assert_not(peers_exists(path));
}

Test(datagram, wrong_arguments) {
    struct vouch_datagram_options options = at(path);
    options.autobind = true;
    expect_refused(&options, -EINVAL);
    options = at(path);
    options.mode = 01600;
    expect_refused(&options, -EINVAL);
    const struct vouch_rule nonsense = {VOUCH_ALLOW, (enum vouch_subject)99, 0};
    const struct vouch_policy policy = {&nonsense, 1};
    options = at(path);
    options.policy = &policy;
    expect_refused(&options, -EINVAL);
    expect_refused_at("", VOUCH_E_PATH_EMPTY);
    char too_long[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1] = "/";
    memset(too_long + 1, 'x', sizeof(too_long) - 2);
    expect_refused_at(too_long, VOUCH_E_PATH_TOO_LONG);
    cr_assert_not(peers_exists(path));
}

Test(datagram, senders_without_identity_have_to_be_allowed) {
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .address = path};
    if (!datagram_tells_sender)
        expect_refused(&options, -ENOTSUP);
    else
        vouch_datagram_free(must_open(&options));
    options.address = NULL;
    vouch_datagram_free(must_open(&options));
}

/* Bound by somebody who knows nothing of locks; the descriptor. */
static int bind_foreign(const char *where, int type) {
    int fd = os_socket(AF_UNIX, type);
    struct address_sockaddr to;
    cr_assert_eq(address_of_path(where, &to), 0);
    cr_assert_eq(bind(fd, (const struct sockaddr *)&to.un, to.length), 0);
    return fd;
}

Test(datagram, a_stale_socket_is_replaced_and_a_live_one_left_alone) {
    int fd = bind_foreign(path, SOCK_DGRAM);
    expect_refused_at(path, VOUCH_E_ADDRESS_LIVE);
    close(fd);
    vouch_datagram_free(must_open_at(path));
    fd = bind_foreign(path, SOCK_STREAM);
    expect_refused_at(path, VOUCH_E_ADDRESS_LIVE);
    close(fd);
    struct vouch_datagram *datagram = must_open_at(path);
    expect_refused_at(path, VOUCH_E_ADDRESS_LOCKED);
    struct vouch_listener *listener;
    cr_assert_eq(vouch_listen(path, NULL, &listener, NULL), VOUCH_E_ADDRESS_LOCKED);
    vouch_datagram_free(datagram);
}

Test(datagram, what_is_in_the_way_stays) {
    peers_touch(path);
    expect_refused_at(path, VOUCH_E_NOT_SOCKET);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(symlink(other, path), 0);
    expect_refused_at(path, VOUCH_E_SYMLINK);
    cr_assert_not(peers_exists(other));
    close(bind_foreign(other, SOCK_DGRAM));
    expect_refused_at(path, VOUCH_E_SYMLINK);
    cr_assert_eq(mode_of(path) & S_IFMT, S_IFLNK);
    cr_assert_eq(mode_of(other) & S_IFMT, S_IFSOCK);
}

Test(datagram, an_unsafe_parent_has_to_be_allowed) {
    cr_assert_eq(chmod(support_temp_dir(), 01777), 0);
    expect_refused_at(path, VOUCH_E_PARENT_UNSAFE);
    struct vouch_datagram_options options = at(path);
    options.allow_unsafe_parent = true;
    vouch_datagram_free(must_open(&options));
}

Test(datagram, what_somebody_else_has_put_there_is_not_removed) {
    struct vouch_datagram *datagram = must_open_at(path);
    cr_assert_eq(unlink(path), 0);
    int theirs = bind_foreign(path, SOCK_DGRAM);
    vouch_datagram_free(datagram);
    cr_assert(peers_exists(path));
    close(theirs);
    cr_assert_eq(unlink(path), 0);
    datagram = must_open_at(path);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(symlink(other, path), 0);
    vouch_datagram_free(datagram);
    cr_assert(peers_exists(path));
}

Test(datagram, a_link_among_the_parents_is_the_callers_wish) {
    char deep[SUPPORT_PATH_MAX], link[SUPPORT_PATH_MAX], name[SUPPORT_PATH_MAX + 8];
    cr_assert_eq(mkdir(support_temp_path(deep, "deep"), 0700), 0);
    cr_assert_eq(symlink(deep, support_temp_path(link, "link")), 0);
    snprintf(name, sizeof(name), "%s/d", link);
    struct vouch_datagram *datagram = must_open_at(name);
    snprintf(name, sizeof(name), "%s/d", deep);
    cr_assert(peers_exists(name));
    vouch_datagram_free(datagram);
    cr_assert_not(peers_exists(name));
}

/* As it looks when the path has led elsewhere than the directory that was checked: what was bound
 * is not there. */
Test(datagram, a_path_that_led_elsewhere_is_seen) {
    const char *symbol = datagram_tells_sender ? "openat" : "fstatat";
    bool seen = false;
    for (unsigned call = 1; !seen; call++) {
        const struct faults_plan plan = {.symbol = symbol, .call = call, .error = ENOENT};
        struct vouch_datagram_options options = at(path);
        struct vouch_datagram *datagram = NULL;
        faults_begin(&plan);
        int r = vouch_datagram_open(&options, &datagram, &error);
        cr_assert_gt(faults_end(), 0, "there is such a call");
        seen = r == VOUCH_E_FILE_SWAPPED;
        cr_assert(seen || r == -ENOENT || r == 0 || r == VOUCH_E_ADDRESS_LOCKED, "%s %u: %d",
                  symbol, call, r);
        vouch_datagram_free(datagram);
        (void)unlink(path);
    }
    cr_assert_not_null(strstr(error.message, path));
}

Test(datagram, abstract_names_have_to_be_allowed) {
    expect_refused_at("@name", VOUCH_E_ABSTRACT_OFF);
    struct vouch_datagram *datagram = must_open(NULL);
    struct vouch_datagram_address to;
    cr_assert_eq(vouch_datagram_address_of("@name", &to, NULL), 0);
    int code = sockfile_has_abstract ? VOUCH_E_ABSTRACT_OFF : -ENOTSUP;
    cr_assert_eq(vouch_datagram_send(datagram, &to, "x", 1, 0, &error), code);
    cr_assert_not_null(strstr(error.message, "@name"));
    cr_assert_eq(vouch_datagram_connect(datagram, &to, &error), code);
    vouch_datagram_free(datagram);
    if (!sockfile_has_abstract) {
        struct vouch_datagram_options options = at("@name");
        options.allow_abstract_name_that_any_user_can_reach = true;
        expect_refused(&options, -ENOTSUP);
        options.address = NULL;
        options.autobind = true;
        expect_refused(&options, -ENOTSUP);
    }
}

Test(datagram, connecting_looks_at_what_is_there) {
    struct vouch_datagram *receiver = must_open_at(path), *datagram = must_open(NULL);
    struct vouch_datagram_address to;
    cr_assert_eq(vouch_datagram_address_of(other, &to, NULL), 0);
    cr_assert_eq(vouch_datagram_connect(datagram, &to, &error), -ENOENT);
    cr_assert_not_null(strstr(error.message, other));
    peers_touch(other);
    cr_assert_eq(vouch_datagram_connect(datagram, &to, &error), VOUCH_E_NOT_SOCKET);
    cr_assert_eq(unlink(other), 0);
    cr_assert_eq(symlink(path, other), 0);
    cr_assert_eq(vouch_datagram_connect(datagram, &to, &error), VOUCH_E_SYMLINK);
    cr_assert_not_null(strstr(error.message, other));
    cr_assert_eq(unlink(other), 0);
    close(bind_foreign(other, SOCK_DGRAM));
    cr_assert_eq(vouch_datagram_connect(datagram, &to, &error), -ECONNREFUSED);
    cr_assert_eq(unlink(other), 0);
    int stream = bind_foreign(other, SOCK_STREAM);
    cr_assert_eq(vouch_datagram_connect(datagram, &to, &error), -EPROTOTYPE);
    close(stream);
    vouch_datagram_free(datagram);
    vouch_datagram_free(receiver);
}

Test(datagram, connected_to_another_it_takes_messages_of_that_one_only) {
    struct vouch_datagram *one = must_open_at(path), *two = must_open_at(other);
    struct vouch_datagram *stranger = must_open(NULL);
    cr_assert_eq(vouch_datagram_connect(one, vouch_datagram_get_address(two), NULL), 0);
    cr_assert_eq(vouch_datagram_send(stranger, vouch_datagram_get_address(one), "x", 1, 0, &error),
                 -EPERM);
    cr_assert_eq(vouch_datagram_connect(stranger, vouch_datagram_get_address(one), &error), -EPERM);
    char byte;
    struct vouch_datagram_message message;
    cr_assert_eq(vouch_datagram_send(two, vouch_datagram_get_address(one), "x", 1, 0, &error), 0);
    cr_assert_eq(vouch_datagram_try_recv(one, &byte, 1, &message), 0);
    vouch_datagram_free(one);
    vouch_datagram_free(two);
    vouch_datagram_free(stranger);
}

Test(datagram, shortage_of_memory_leaks_nothing) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_datagram_options options = at(path);
    options.allocator = &allocator.allocator;
    struct vouch_datagram *datagram;
    uint64_t nth = 0;
    int r;
    do {
        support_allocator_fail(&allocator, ++nth, SUPPORT_FAIL_ONCE);
        r = vouch_datagram_open(&options, &datagram, NULL);
        cr_assert(r == 0 || r == -ENOMEM);
        cr_assert(r == 0 || (allocator.live_blocks == 0 && !peers_exists(path)));
    } while (allocator.injected > 0);
    cr_assert_gt(nth, 2);
    vouch_datagram_free(datagram);
    support_allocator_check(&allocator);
}

/* Whichever call fails, it is said, and nothing stays behind. */
Test(datagram, failing_calls_leak_nothing) {
    const char *symbols[] = {"socket", "bind",  "fcntl", "fchmodat",
                             "openat", "fstat", "flock", "setsockopt"};
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        for (unsigned call = 1;; call++) {
            const struct faults_plan plan = {.symbol = symbols[i], .call = call, .error = EIO};
            struct vouch_datagram_options options = at(path);
            struct vouch_datagram *datagram = NULL;
            faults_begin(&plan);
            int r = vouch_datagram_open(&options, &datagram, &error);
            unsigned hits = faults_end();
            cr_assert(r == 0 || r == -EIO, "%s %u: %s", symbols[i], call, error.message);
            cr_assert_eq(peers_exists(path), r == 0, "%s %u", symbols[i], call);
            vouch_datagram_free(datagram);
            cr_assert_null(support_baseline_leak(), "%s %u", symbols[i], call);
            if (hits == 0)
                break;
        }
    }
}
