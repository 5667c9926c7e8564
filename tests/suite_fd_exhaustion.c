/* SPDX-License-Identifier: MIT */
/*
 * Out of descriptors: with room for k more, k from 0 to 8, a listener neither spins nor dies, the
 * connections that there are go on working, clients that can't be served hear of it, and all is
 * well within a second after descriptors are free again.
 *
 * Time is a number that the test counts up, so nothing here depends on how fast the machine is.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/listen.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

enum { ROOM_MAX = 8, CLIENTS = 128 };

#define STEP VOUCH_MILLISECONDS(1)

static char path[SUPPORT_PATH_MAX];
static struct vouch_listener *listener;
static int clients[CLIENTS];
static struct vouch_conn *conns[CLIENTS];
static int conn_count;
static struct rlimit limit;

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "s");
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    listener = peers_must_listen(path, NULL);
    conn_count = 0;
}

static void teardown(void) {
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (conn_count > 0)
        vouch_conn_free(conns[--conn_count]);
    vouch_listener_free(listener);
    support_baseline_end();
}

TestSuite(fd_exhaustion, .init = setup, .fini = teardown);

/* The limit is on the numbers: as all below the highest one are in use or will be, this leaves room
 * for exactly that many. */
static void leave_room(int room) {
    int next[ROOM_MAX + 1] = {0};
    for (int i = 0; i <= room; i++) {
        next[i] = fcntl(clients[0], F_DUPFD_CLOEXEC, 0);
        cr_assert(next[i] >= 0);
    }
    struct rlimit tight = {(rlim_t)next[room], limit.rlim_max};
    for (int i = 0; i <= room; i++)
        close(next[i]);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
}

static uint64_t attempts(void) {
    struct vouch_listener_stats stats;
    vouch_listener_get_stats(listener, &stats);
    return stats.accepted + stats.refused_policy + stats.refused_unknown +
           stats.refused_total_limit + stats.refused_uid_limit + stats.shed + stats.errors;
}

static uint64_t shed(void) {
    struct vouch_listener_stats stats;
    vouch_listener_get_stats(listener, &stats);
    return stats.shed;
}

/* What an event loop does with a listener that is always ready, until `end`. */
static void turn_until(int64_t *now, int64_t end) {
    for (; *now < end; *now += STEP) {
        int64_t retry_at;
        cr_assert(conn_count < CLIENTS);
        int r = listener_accept_now(listener, *now, &conns[conn_count], &retry_at);
        cr_assert_geq(r, 0);
        conn_count += r;
    }
}

static void echo(struct vouch_conn *conn, int client) {
    char byte = 0;
    cr_assert_eq(send(client, "?", 1, MSG_NOSIGNAL), 1);
    cr_assert_eq(vouch_conn_read(conn, &byte, 1), 1);
    cr_assert_eq(vouch_conn_write(conn, "!", 1), 0);
    cr_assert_eq(recv(client, &byte, 1, 0), 1);
    cr_assert_eq(byte, '!');
}

static bool was_closed(int client) {
    char byte;
    ssize_t r = recv(client, &byte, 1, MSG_DONTWAIT);
    return r == 0 || (r < 0 && errno == ECONNRESET);
}

static void exhaust(int room) {
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = peers_connect(path);
        cr_assert(clients[i] >= 0);
    }
    int64_t now = 1;
    int64_t retry_at;
    cr_assert_eq(listener_accept_now(listener, now, &conns[conn_count++], &retry_at), 1);
    cr_assert_eq(fcntl(clients[0], F_SETFL, 0), 0);

    leave_room(room);
    turn_until(&now, now + VOUCH_MILLISECONDS(100)); /* fills up */
    int full = conn_count;
    cr_assert_leq(full, 1 + room);
    for (int second = 0; second < 2; second++) {
        uint64_t before = attempts(), shed_before = shed();
        turn_until(&now, now + VOUCH_SECONDS(1));
        cr_expect_leq(attempts() - before, 100, "room %d: %lu", room,
                      (unsigned long)(attempts() - before));
        cr_expect_gt(shed(), shed_before, "clients are told");
        for (int i = 0; i < 300; i++)
            echo(conns[0], clients[0]);
    }
    cr_assert_eq(conn_count, full);
    for (int i = full; i < full + (int)shed(); i++)
        cr_expect(was_closed(clients[i]), "in the order in which they came");

    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    turn_until(&now, now + LISTENER_RETRY_MAX + STEP);
    cr_assert_gt(conn_count, full, "recovered");
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    turn_until(&now, now + VOUCH_SECONDS(1)); /* those that are left in the backlog */
}

Test(fd_exhaustion, with_room_for_none_to_eight) {
    if (VOUCH_TEST_VALGRIND)
        cr_skip_test("valgrind has descriptors of its own");
    for (int room = 0; room <= ROOM_MAX; room++) {
        exhaust(room);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        while (conn_count > 0)
            vouch_conn_free(conns[--conn_count]);
        vouch_listener_free(listener);
        listener = peers_must_listen(path, NULL);
    }
}

/* Without a descriptor to give up either, it waits, ever longer, and asks for nothing. */
Test(fd_exhaustion, without_even_a_reserve) {
    clients[0] = peers_connect(path);
    leave_room(0);
    cr_assert_geq(listener->reserve, 0, "held from the start");
    int taken = listener->reserve; /* by somebody else, when it was given up for a moment */
    listener->reserve = -1;
    int64_t now = 1, retry_at, gap = LISTENER_RETRY_MIN;
    for (int i = 0; i < 10; i++) {
        struct vouch_conn *conn;
        cr_assert_eq(listener_accept_now(listener, now, &conn, &retry_at), 0);
        cr_assert_eq(retry_at, now + gap);
        now = retry_at;
        gap = 2 * gap < LISTENER_RETRY_MAX ? 2 * gap : LISTENER_RETRY_MAX;
    }
    cr_assert_eq(attempts(), 0);
    close(taken);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(listener_accept_now(listener, now, &conns[conn_count++], &retry_at), 1);
    close(clients[0]);
}

/* A pidfd is a luxury: with half of the descriptors in use, connections come without. */
Test(fd_exhaustion, pidfds_leave_room_for_connections) {
    vouch_listener_free(listener);
    struct rlimit low = {128, limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options), .max_connections = CLIENTS,
                                                 .max_connections_per_uid = CLIENTS};
    listener = peers_must_listen(path, &options);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < CLIENTS; i++)
        cr_assert((clients[i] = peers_connect(path)) >= 0);
    int64_t now = 1;
    for (conn_count = 0; conn_count < CLIENTS - 1;)
        turn_until(&now, now + STEP);
    for (int i = 0; i < conn_count; i++) {
        const struct vouch_identity *peer = vouch_conn_get_peer(conns[i]);
        cr_expect(!(peer->known & VOUCH_KNOWN_PIDFD) || vouch_conn_get_fd(conns[i]) < 64);
    }
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
}

struct server {
    pthread_t thread;
    _Atomic bool accepted;
};

static void *serve(void *context) {
    struct server *server = context;
    struct vouch_conn *conn;
    while (vouch_accept(listener, VOUCH_FOREVER, &conn) == 0) {
        atomic_store(&server->accepted, true);
        vouch_conn_free(conn);
    }
    return NULL;
}

/* The blocking call with real time: it comes back to life by itself. */
Test(fd_exhaustion, vouch_accept_recovers) {
    struct server server = {.accepted = false};
    clients[0] = peers_connect(path);
    clients[1] = peers_connect(path);
    leave_room(0);
    server.thread = support_thread_start(serve, &server);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    char byte;
    fcntl(clients[1], F_SETFL, 0);
    cr_assert_eq(recv(clients[1], &byte, 1, 0), 0, "taken or shed, in any case it hears");
    vouch_listener_close(listener);
    support_thread_join(server.thread);
    close(clients[0]);
    close(clients[1]);
}
