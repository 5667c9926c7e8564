/* SPDX-License-Identifier: MIT */
/*
 * Attacks on the path: links, squatters, swaps under a connecting client, races between servers,
 * and a stranger who tries to get in while the socket is being made.
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/dial.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

/* What the processes of a test tell each other. */
struct shared {
    atomic_bool stop;
    atomic_uint ready;
    atomic_ulong turns, dials, seen, breaches;
};

static char path[SUPPORT_PATH_MAX], other[SUPPORT_PATH_MAX], spare[SUPPORT_PATH_MAX];
static struct shared *shared;

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "s");
    support_temp_path(other, "o");
    support_temp_path(spare, "x");
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(shared, MAP_FAILED);
}

static void teardown(void) {
    munmap(shared, sizeof(*shared));
    support_baseline_end();
}

TestSuite(paths, .init = setup, .fini = teardown, .timeout = 120);

static void wait_ready(unsigned count) {
    while (atomic_load(&shared->ready) < count)
        sched_yield();
}

static void kill_child(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

Test(paths, hard_links_reach_the_same_server) {
    struct vouch_listener *listener = peers_must_listen(path, NULL);
    struct vouch_listener *second;
    struct vouch_conn *conn;
    cr_assert_eq(link(path, other), 0);
    cr_assert_eq(vouch_dial(other, NULL, &conn, NULL), 0);
    vouch_conn_free(conn);
    cr_assert_eq(vouch_listen(other, NULL, &second, NULL), VOUCH_E_ADDRESS_LIVE,
                 "its lock is free, but somebody answers");
    vouch_listener_free(listener);
    cr_assert(peers_exists(other));
    vouch_listener_free(peers_must_listen(other, NULL));
}

Test(paths, hard_link_to_a_file) {
    peers_touch(other);
    cr_assert_eq(link(other, path), 0);
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    cr_assert_eq(vouch_listen(path, NULL, &listener, NULL), VOUCH_E_NOT_SOCKET);
    cr_assert_eq(vouch_dial(path, NULL, &conn, NULL), VOUCH_E_NOT_SOCKET);
    cr_assert(peers_exists(other) && peers_exists(path));
}

Test(paths, dangling_link) {
    cr_assert_eq(symlink(other, path), 0);
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    cr_assert_eq(vouch_listen(path, NULL, &listener, NULL), VOUCH_E_SYMLINK);
    cr_assert_eq(vouch_dial(path, NULL, &conn, NULL), VOUCH_E_SYMLINK);
    cr_assert_not(peers_exists(other));
}

/* ---- a server that says which one it is ---- */

struct announcing {
    const char *path;
    uid_t uid;
    char name;
};

static int announce(void *context) {
    const struct announcing *server = context;
    if (server->uid != geteuid())
        peers_become(server->uid, server->uid);
    int listening = peers_listen(server->path, 512);
    if (listening < 0 || chmod(server->path, 0777) < 0)
        return 1;
    atomic_fetch_add(&shared->ready, 1);
    for (;;) {
        int client = accept(listening, NULL, NULL);
        if (client < 0)
            return 2;
        (void)!send(client, &server->name, 1, MSG_NOSIGNAL);
        close(client);
    }
}

/* ---- swapping ---- */

/* Where a client can't hold on to the file that it has looked at, it gets through only when nobody
 * swaps meanwhile: now and then it is left in peace. */
#define SWAPS_AT_A_STRETCH 63 /* odd: the one and the other in turn */

static void await_dials(unsigned long count) {
    unsigned long enough = atomic_load(&shared->dials) + count;
    while (atomic_load(&shared->dials) < enough && !atomic_load(&shared->stop))
        sched_yield();
}

/* Puts the one in place of the other for ever: three renames, so that for moments there is nothing
 * at all. */
static int swap_for_ever(void *context) {
    (void)context;
    while (!atomic_load(&shared->stop)) {
        if (atomic_load(&shared->turns) % SWAPS_AT_A_STRETCH == 0)
            await_dials(2);
        if (rename(path, spare) < 0 || rename(other, path) < 0 || rename(spare, other) < 0)
            return 1;
        atomic_fetch_add(&shared->turns, 1);
    }
    return 0;
}

struct tally {
    unsigned connected, refused, swapped, missing;
};

static void dial_once(const struct vouch_dial_options *options, struct tally *tally) {
    struct vouch_conn *conn;
    struct vouch_error error;
    switch (vouch_dial(path, options, &conn, &error)) {
    case 0: {
        char who = 0;
        cr_assert_eq(vouch_conn_get_peer(conn)->uid, geteuid());
        cr_assert_eq(vouch_conn_read(conn, &who, 1), 1);
        cr_assert_eq(who, 'g', "the kernel said it was the good one");
        vouch_conn_free(conn);
        tally->connected++;
        return;
    }
    case VOUCH_E_PEER_REFUSED:
    case VOUCH_E_FILE_OWNER:
        tally->refused++;
        return;
    case VOUCH_E_FILE_SWAPPED:
        tally->swapped++;
        return;
    case -ENOENT:
        tally->missing++;
        return;
    default:
        cr_assert_fail("%s", error.message);
    }
}

static void dial_under_swaps(const struct vouch_dial_options *options) {
    struct announcing good = {path, geteuid(), 'g'}, bad = {other, PEERS_UID, 'b'};
    cr_assert_eq(chmod(support_temp_dir(), 01777), 0);
    pid_t good_child = peers_start(announce, &good), bad_child = peers_start(announce, &bad);
    wait_ready(2);
    pid_t swapper = peers_start(swap_for_ever, NULL);

    struct tally tally = {0};
    const unsigned long swaps = VOUCH_TEST_ROUNDS(100000, 1000);
    const unsigned dials = VOUCH_TEST_ROUNDS(2000, 100);
    for (unsigned i = 0;
         i < dials || atomic_load(&shared->turns) < swaps || !tally.connected || !tally.refused;
         i++) {
        dial_once(options, &tally);
        atomic_fetch_add(&shared->dials, 1);
    }
    atomic_store(&shared->stop, true);
    cr_assert_eq(peers_wait(swapper), 0);
    kill_child(good_child);
    kill_child(bad_child);
    cr_log_info("%lu swaps: %u connected, %u refused, %u swapped, %u missing",
                atomic_load(&shared->turns), tally.connected, tally.refused, tally.swapped,
                tally.missing);
}

Test(paths, swapped_under_a_client_that_looks_at_the_server) {
    peers_need_root();
    dial_under_swaps(NULL);
}

Test(paths, swapped_under_a_client_that_looks_at_the_file_too) {
    peers_need_root();
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options), .check_file_uid = true,
                                               .file_uid = geteuid()};
    dial_under_swaps(&options);
}

/* ---- squatting ---- */

Test(paths, squatters_in_a_sticky_directory) {
    peers_need_root();
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options),
                                                 .allow_unsafe_parent = true};
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    char companion[SUPPORT_PATH_MAX];
    cr_assert_eq(chmod(support_temp_dir(), 01777), 0);

    struct announcing bad = {path, PEERS_UID, 'b'};
    pid_t squatter = peers_start(announce, &bad);
    wait_ready(1);
    cr_expect_eq(vouch_listen(path, NULL, &listener, NULL), VOUCH_E_PARENT_UNSAFE);
    cr_expect_eq(vouch_listen(path, &options, &listener, NULL), VOUCH_E_ADDRESS_LIVE);
    cr_expect_eq(vouch_dial(path, NULL, &conn, NULL), VOUCH_E_PEER_REFUSED);
    kill_child(squatter);
    cr_expect_eq(vouch_dial(path, NULL, &conn, NULL), -ECONNREFUSED);
    vouch_listener_free(
        peers_must_listen(path, &options)); /* root may replace the stale socket of others */

    peers_touch(support_temp_path(companion, "o.lock"));
    cr_assert_eq(chown(companion, PEERS_UID, PEERS_GID), 0);
    int r = vouch_listen(other, &options, &listener, NULL);
    cr_expect(r == -EPERM || r == -EACCES, "%d", r); /* EACCES: fs.protected_regular */

    cr_assert_eq(mkdir(support_temp_path(companion, ".x.new"), 0700), 0);
    cr_assert_eq(chown(companion, PEERS_UID, PEERS_GID), 0);
    cr_expect_eq(vouch_listen(spare, &options, &listener, NULL), -EPERM);
    cr_expect(peers_exists(companion));
    cr_expect_not(peers_exists(spare));
}

/* ---- racing ---- */

struct racer {
    int start, result, hold; /* ends of pipes */
};

static int race(void *context) {
    const struct racer *racer = context;
    struct vouch_listener *listener;
    char byte;
    (void)!read(racer->start, &byte, 1);
    int r = vouch_listen(path, NULL, &listener, NULL);
    if (write(racer->result, &r, sizeof(r)) != sizeof(r))
        return 1;
    (void)!read(racer->hold, &byte, 1); /* until the round is over */
    if (r == 0)
        vouch_listener_free(listener);
    return 0;
}

/* One round: the children are told to go at once, and hold what they got until both have tried. */
static void run_race(bool kill_them) {
    enum { RACERS = 2 };
    int start[2], result[2], hold[2];
    pid_t children[RACERS];
    cr_assert(pipe(start) == 0 && pipe(result) == 0 && pipe(hold) == 0);
    for (int i = 0; i < RACERS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct racer racer = {start[0], result[1], hold[0]};
            close(start[1]);
            close(hold[1]);
            _exit(race(&racer));
        }
    }
    close(start[1]);
    unsigned won = 0;
    for (int i = 0; i < RACERS; i++) {
        int r;
        cr_assert_eq(read(result[0], &r, sizeof(r)), (ssize_t)sizeof(r));
        cr_assert(r == 0 || r == VOUCH_E_ADDRESS_LOCKED, "%d", r);
        won += r == 0;
    }
    cr_assert_eq(won, 1);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial(path, NULL, &conn, NULL), 0);
    vouch_conn_free(conn);
    for (int i = 0; i < RACERS && kill_them; i++)
        kill_child(children[i]);
    close(hold[1]);
    for (int i = 0; i < RACERS && !kill_them; i++)
        cr_assert_eq(peers_wait(children[i]), 0);
    cr_assert_eq(peers_exists(path), kill_them, "only who was killed leaves it behind");
    close(start[0]);
    close(result[0]);
    close(result[1]);
    close(hold[0]);
}

Test(paths, of_two_servers_one_wins) {
    for (int i = 0; i < VOUCH_TEST_ROUNDS(1000, 30); i++)
        run_race(i % 3 == 0);
}

/* ---- a stranger at the door while it is being made ---- */

/* Tries all there is to connect to, and looks that the socket is never seen with other rights than
 * it is to have. */
static int probe(void *context) {
    char staged[SUPPORT_PATH_MAX];
    (void)context;
    support_temp_path(staged, ".s.new/s");
    peers_become(PEERS_UID, PEERS_GID);
    atomic_fetch_add(&shared->ready, 1);
    while (!atomic_load(&shared->stop)) {
        int fd = peers_connect(path);
        if (fd < 0)
            fd = peers_connect(staged);
        if (fd >= 0) {
            close(fd);
            atomic_fetch_add(&shared->breaches, 1);
        }
        struct stat status;
        if (stat(path, &status) == 0) {
            atomic_fetch_add(&shared->seen, 1);
            if (status.st_uid != 0 || status.st_gid != PEERS_UID_OTHER ||
                (status.st_mode & 07777) != 0660)
                atomic_fetch_add(&shared->breaches, 1);
        }
        atomic_fetch_add(&shared->turns, 1);
    }
    return 0;
}

Test(paths, no_window_in_which_a_stranger_gets_in) {
    peers_need_root();
    cr_assert_eq(chmod(support_temp_dir(), 0755), 0);
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options), .mode = 0660,
                                                 .set_gid = true, .gid = PEERS_UID_OTHER};
    mode_t mask = umask(0); /* the least help that there can be */
    pid_t prober = peers_start(probe, NULL);
    wait_ready(1);
    const unsigned long probes = VOUCH_TEST_ROUNDS(5000, 200);
    int starts = 0;
    while (starts < VOUCH_TEST_ROUNDS(1000, 50) || atomic_load(&shared->turns) < probes ||
           atomic_load(&shared->seen) < probes / 50) {
        vouch_listener_free(peers_must_listen(path, &options));
        starts++;
    }
    atomic_store(&shared->stop, true);
    cr_assert_eq(peers_wait(prober), 0);
    umask(mask);
    cr_log_info("%d starts, %lu probes, the socket was seen %lu times", starts,
                atomic_load(&shared->turns), atomic_load(&shared->seen));
    cr_assert_eq(atomic_load(&shared->breaches), 0);
}

/* Killed anywhere on its way to the path: the next start works, and leaves no litter but the lock
 * file. */
Test(paths, killed_at_a_random_moment) {
    struct support_random random;
    support_random_init(&random);
    for (int i = 0; i < VOUCH_TEST_ROUNDS(1000, 30); i++) {
        pid_t child = fork();
        if (child == 0) {
            struct vouch_listener *listener;
            for (;;)
                if (vouch_listen(path, NULL, &listener, NULL) == 0)
                    vouch_listener_free(listener);
        }
        usleep((useconds_t)support_random_below(&random, 1000));
        kill_child(child);
        vouch_listener_free(peers_must_listen(path, NULL));
        int entries = 0;
        DIR *directory = opendir(support_temp_dir());
        for (const struct dirent *entry; (entry = readdir(directory));)
            entries += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
        closedir(directory);
        cr_assert_eq(entries, 1);
    }
}
