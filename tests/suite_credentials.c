/* SPDX-License-Identifier: MIT */
/*
 * Whose credentials the kernel tells: real, effective and saved ids, ids that change afterwards,
 * descriptors that change hands, namespaces, groups by the thousand. Needs root, to be other users.
 */
#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vouch/dial.h>
#include <vouch/identity.h>

#include "lib/os.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

enum { ALICE = PEERS_UID, BOB = PEERS_UID_OTHER, GROUP = PEERS_GID };

static char path[SUPPORT_PATH_MAX];
static struct vouch_listener *listener;
static const struct vouch_rule anybody = {VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0};
static const struct vouch_policy anybody_policy = {&anybody, 1};
static const struct vouch_listen_options open_to_all = {VOUCH_OPTIONS(open_to_all),
                                                        .policy = &anybody_policy, .mode = 0666};

static void setup(void) {
    peers_need_root();
    support_baseline_begin();
    cr_assert_eq(chmod(support_temp_dir(), 0755), 0);
    listener = peers_must_listen(support_temp_path(path, "s"), &open_to_all);
}

static void teardown(void) {
    if (geteuid() != 0)
        return;
    vouch_listener_free(listener);
    support_baseline_end();
}

TestSuite(credentials, .init = setup, .fini = teardown);

/* Runs a client, then accepts the connection that it made. */
static struct vouch_conn *accept_from(int (*client)(void *context), void *context) {
    cr_assert_eq(peers_run(client, context), 0);
    return peers_must_accept(listener);
}

static void expect_ids(struct vouch_conn *conn, uid_t uid, gid_t gid) {
    const struct vouch_identity *peer = vouch_conn_get_peer(conn);
    cr_expect(peer->known & VOUCH_KNOWN_UID);
    cr_expect(peer->known & VOUCH_KNOWN_GID);
    cr_expect_eq(peer->uid, uid, "uid %ld, expected %ld", (long)peer->uid, (long)uid);
    cr_expect_eq(peer->gid, gid, "gid %ld, expected %ld", (long)peer->gid, (long)gid);
    vouch_conn_free(conn);
}

struct ids {
    uid_t real, effective, saved;
};

static int connect_with_ids(void *context) {
    const struct ids *ids = context;
    if (setresgid(ids->real, ids->effective, ids->saved) < 0 ||
        setresuid(ids->real, ids->effective, ids->saved) < 0)
        return 1;
    return peers_connect(path) < 0 ? 2 : 0;
}

Test(credentials, the_effective_id_counts) {
    const uid_t users[] = {0, ALICE, BOB};
    for (int i = 0; i < 27; i++) {
        struct ids ids = {users[i % 3], users[i / 3 % 3], users[i / 9]};
        expect_ids(accept_from(connect_with_ids, &ids), ids.effective, ids.effective);
    }
}

static int connect_then_drop(void *context) {
    (void)context;
    int fd = peers_connect(path);
    peers_become(ALICE, GROUP);
    return fd >= 0 && send(fd, "x", 1, MSG_NOSIGNAL) == 1 ? 0 : 1;
}

Test(credentials, at_the_moment_of_connect) {
    expect_ids(accept_from(connect_then_drop, NULL), 0, 0);
}

static int connect_then_regain(void *context) {
    (void)context;
    if (seteuid(ALICE) < 0)
        return 1;
    int fd = peers_connect(path);
    return fd >= 0 && seteuid(0) == 0 && send(fd, "x", 1, MSG_NOSIGNAL) == 1 ? 0 : 2;
}

Test(credentials, rights_regained_afterwards_do_not_count) {
    expect_ids(accept_from(connect_then_regain, NULL), ALICE, 0);
}

static int write_as_bob(void *context) {
    peers_become(BOB, GROUP);
    return send(*(int *)context, "x", 1, MSG_NOSIGNAL) == 1 ? 0 : 1;
}

static int connect_and_hand_over(void *context) {
    (void)context;
    if (seteuid(ALICE) < 0)
        return 1;
    int fd = peers_connect(path);
    if (fd < 0 || seteuid(0) < 0)
        return 2;
    return peers_run(write_as_bob, &fd);
}

Test(credentials, of_who_connected_not_of_who_writes) {
    struct vouch_conn *conn = accept_from(connect_and_hand_over, NULL);
    char byte;
    cr_assert_eq(vouch_conn_read(conn, &byte, 1), 1);
    expect_ids(conn, ALICE, 0);
}

/* A socket that root made, as a service gets it at activation: the service's own ids only after
 * listen(2) was called again. */
static int take_over(void *context) {
    int fd = *(int *)context;
    struct vouch_listener *mine;
    peers_become(ALICE, GROUP);
    return vouch_listen_fd(fd, &open_to_all, &mine, NULL) == 0 ? 0 : 1;
}

static uid_t server_uid(const char *at) {
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options), .server = &anybody_policy};
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial(at, &options, &conn, NULL), 0);
    uid_t uid = vouch_conn_get_peer(conn)->uid;
    vouch_conn_free(conn);
    return uid;
}

Test(credentials, listening_again_makes_the_socket_ones_own) {
    char at[SUPPORT_PATH_MAX];
    int fd = peers_listen(support_temp_path(at, "t"), 5);
    cr_assert_eq(server_uid(at), 0);
    cr_assert_eq(peers_run(take_over, &fd), 0);
    cr_assert_eq(server_uid(at), ALICE);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial(at, NULL, &conn, NULL), VOUCH_E_PEER_REFUSED,
                 "by default we want our own or root's");
    close(fd);
}

static int pair_then_drop(void *context) {
    (void)context;
    int fds[2];
    const struct vouch_identity *peer;
    if (os_socketpair_stream(fds) < 0)
        return 1;
    peers_become(ALICE, GROUP);
    if (vouch_identity_of_peer(fds[0], NULL, &peer) < 0)
        return 2;
    return peer->uid == 0 && peer->gid == 0 ? 0 : 3;
}

Test(credentials, of_a_pair_are_its_makers) {
    cr_assert_eq(peers_run(pair_then_drop, NULL), 0);
}

static gid_t groups[65536];

static int connect_with_groups(void *context) {
    size_t count = *(size_t *)context;
    if (setgroups(count, groups) < 0 || setregid(GROUP, GROUP) < 0 || setreuid(ALICE, ALICE) < 0)
        return 1;
    return peers_connect(path) < 0 ? 2 : 0;
}

static void expect_groups(const struct vouch_identity *peer, size_t count) {
    if (!(peer->known & VOUCH_KNOWN_GROUPS)) {
        cr_expect_eq(vouch_identity_in_group(peer, 1000000), -ENODATA);
        return;
    }
    cr_expect_eq(peer->group_count, count);
    cr_expect_eq(vouch_identity_in_group(peer, GROUP), 1);
    cr_expect_eq(vouch_identity_in_group(peer, groups[0]), count > 0);
    cr_expect_eq(vouch_identity_in_group(peer, groups[count ? count - 1 : 0]), count > 0);
    cr_expect_eq(vouch_identity_in_group(peer, 999999), 0);
    const struct vouch_rule rule = {VOUCH_ALLOW, VOUCH_SUBJECT_GID, groups[count ? count - 1 : 0]};
    const struct vouch_policy policy = {&rule, 1};
    cr_expect_eq(vouch_policy_check(&policy, peer, NULL), count > 0);
}

/* Around what fits without asking twice, and the most that there can be. */
Test(credentials, none_to_65536_groups) {
    size_t counts[] = {0, 1, 2, 63, 64, 65, 66, 1000, 65535, 65536};
    for (gid_t i = 0; i < 65536; i++)
        groups[i] = 1000000 + 2 * i;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct vouch_conn *conn = accept_from(connect_with_groups, &counts[i]);
        expect_groups(vouch_conn_get_peer(conn), counts[i]);
        expect_ids(conn, ALICE, GROUP);
    }
}

Test(credentials, out_of_memory_with_many_groups) {
    struct support_allocator allocator;
    size_t count = 65536;
    cr_assert_eq(peers_run(connect_with_groups, &count), 0);
    int fd = accept(vouch_listener_get_fd(listener), NULL, NULL);
    const struct vouch_identity *peer;
    support_allocator_init(&allocator);
    int r = -ENOMEM;
    for (uint64_t n = 1; r == -ENOMEM; n++) {
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        r = vouch_identity_of_peer(fd, &allocator.allocator, &peer);
    }
    cr_assert_eq(r, 0);
    vouch_identity_unref(peer);
    support_allocator_check(&allocator);
    close(fd);
}

/* What each policy says to each of these users, through a real connection. */
Test(credentials, decision_table) {
    static const struct vouch_rule self[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_SELF, 0}};
    static const struct vouch_rule alice[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_UID, ALICE}};
    static const struct vouch_rule but_alice[] = {{VOUCH_DENY, VOUCH_SUBJECT_UID, ALICE},
                                                  {VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0}};
    static const struct vouch_rule primary[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_PRIMARY_GID, BOB}};
    static const struct {
        struct vouch_policy policy;
        bool root, alice, bob;
    } table[] = {
        {{NULL, 0}, false, false, false},   {{self, 1}, true, false, false},
        {{alice, 1}, false, true, false},   {{but_alice, 2}, true, false, true},
        {{primary, 1}, false, false, true},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const bool expected[] = {table[i].root, table[i].alice, table[i].bob};
        const uid_t users[] = {0, ALICE, BOB};
        struct vouch_listen_options options = open_to_all;
        options.policy = &table[i].policy;
        vouch_listener_free(listener);
        listener = peers_must_listen(path, &options);
        for (int user = 0; user < 3; user++) {
            struct ids ids = {users[user], users[user], users[user]};
            struct vouch_conn *conn;
            cr_assert_eq(peers_run(connect_with_ids, &ids), 0);
            int r = vouch_accept(listener, 0, &conn);
            cr_expect_eq(r, expected[user] ? 0 : -ETIMEDOUT, "policy %zu, user %d", i, user);
            if (r == 0)
                vouch_conn_free(conn);
        }
    }
}

#ifdef CLONE_NEWUSER

/* A server in a namespace of its own, in two pipes: tells that it listens, then is told that it was
 * connected to. */
struct namespace_server {
    int flags;     /* of unshare(2) */
    int ready, go; /* its ends */
    int (*check)(struct vouch_listener *own);
};

enum { NOT_POSSIBLE = 77 };

static int listen_and_check(void *context) {
    const struct namespace_server *server = context;
    struct vouch_listener *own;
    char at[SUPPORT_PATH_MAX], byte = 0;
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .mode = 0666,
                                           .allow_unsafe_parent = true};
    support_temp_path(at, "n");
    if (vouch_listen(at, &options, &own, NULL) < 0)
        return 1;
    if (write(server->ready, &byte, 1) != 1 || read(server->go, &byte, 1) != 1)
        return 2;
    int r = server->check(own);
    vouch_listener_free(own);
    return r;
}

static int enter_namespace(void *context) {
    const struct namespace_server *server = context;
    if (unshare(server->flags) < 0)
        return NOT_POSSIBLE;
    return server->flags & CLONE_NEWPID ? peers_run(listen_and_check, context)
                                        : listen_and_check(context);
}

static void run_in_namespace(int flags, int (*check)(struct vouch_listener *own)) {
    int ready[2], go[2];
    char at[SUPPORT_PATH_MAX], byte = 0;
    cr_assert_eq(pipe(ready), 0);
    cr_assert_eq(pipe(go), 0);
    struct namespace_server server = {flags, ready[1], go[0], check};
    pid_t child = peers_start(enter_namespace, &server);
    close(ready[1]);
    int client = -1;
    if (read(ready[0], &byte, 1) == 1) {
        client = peers_connect(support_temp_path(at, "n"));
        cr_assert_eq(write(go[1], &byte, 1), 1);
    }
    int r = peers_wait(child);
    if (client >= 0)
        close(client);
    close(ready[0]);
    close(go[0]);
    close(go[1]);
    if (r == NOT_POSSIBLE)
        cr_skip_test("no namespaces to be had here");
    cr_assert_eq(r, 0);
}

/* Here everybody outside, and ourselves, are the overflow uid: who it really is can't be said, so
 * nobody gets in. */
static int nobody_is_who_he_seems(struct vouch_listener *own) {
    struct vouch_conn *conn;
    struct vouch_listener_stats stats;
    if (vouch_accept(own, 0, &conn) != -ETIMEDOUT)
        return 3;
    vouch_listener_get_stats(own, &stats);
    return stats.refused_policy == 1 ? 0 : 4;
}

Test(credentials, unmapped_in_a_user_namespace) {
    run_in_namespace(CLONE_NEWUSER, nobody_is_who_he_seems);
}

static int pid_is_unknown(struct vouch_listener *own) {
    struct vouch_conn *conn;
    if (vouch_accept(own, 0, &conn) != 0)
        return 3;
    const struct vouch_identity *peer = vouch_conn_get_peer(conn);
    int r = (peer->known & VOUCH_KNOWN_PID) || peer->pid != 0 || peer->uid != 0 ? 4 : 0;
    vouch_conn_free(conn);
    return r;
}

Test(credentials, pid_of_somebody_outside_the_pid_namespace) {
    run_in_namespace(CLONE_NEWPID, pid_is_unknown);
}

#endif
