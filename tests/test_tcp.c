/* SPDX-License-Identifier: MIT */
/* TCP: a port that several listen at, of whose clients nothing is known; and nothing is promised
 * that TCP can't hold. */
#include "lib/tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vouch/tcp.h>

#include "lib/conn.h"
#include "lib/listen.h"
#include "lib/os.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

#define LOOPBACK "127.0.0.1"

static struct vouch_error error;

TestSuite(tcp, .init = support_baseline_begin, .fini = support_baseline_end);

static struct vouch_listener *must_listen(const char *host, uint16_t port,
                                          const struct vouch_listen_options *options) {
    struct vouch_listener *listener;
    cr_assert_eq(vouch_listen_tcp_reuseport(host, port, options, &listener, &error), 0, "%s",
                 error.message);
    return listener;
}

static struct vouch_conn *must_dial(uint16_t port) {
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial_tcp(LOOPBACK, port, NULL, &conn, &error), 0, "%s", error.message);
    return conn;
}

static struct vouch_conn *must_accept(struct vouch_listener *listener) {
    struct vouch_conn *conn;
    cr_assert_eq(vouch_accept(listener, vouch_deadline_in(VOUCH_SECONDS(20)), &conn), 0);
    return conn;
}

/* A peer that has vanished without a word is found out. */
static bool is_kept_alive(const struct vouch_conn *conn) {
    int on = 0;
    socklen_t size = sizeof(on);
    cr_assert_eq(getsockopt(vouch_conn_get_fd(conn), SOL_SOCKET, SO_KEEPALIVE, &on, &size), 0);
    return on;
}

static bool has_no_delay(const struct vouch_conn *conn) {
    int on = 0;
    socklen_t size = sizeof(on);
    cr_assert_eq(getsockopt(vouch_conn_get_fd(conn), IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    return on;
}

Test(tcp, bytes_go_to_and_fro_and_nothing_is_known_of_who_sends_them) {
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, NULL);
    uint16_t port = vouch_listener_get_port(listener);
    cr_assert_neq(port, 0);
    cr_assert_str_eq(vouch_listener_get_address(listener), LOOPBACK ":0");
    struct vouch_conn *client = must_dial(port), *server = must_accept(listener);
    struct vouch_conn *both[] = {client, server};
    for (int i = 0; i < 2; i++) {
        char byte;
        const struct vouch_identity *peer = vouch_conn_get_peer(both[i]);
        cr_assert_eq(peer->known, 0);
        cr_assert_eq(peer->uid, (uid_t)-1);
        cr_assert_eq(peer->pidfd, -1);
        cr_assert_not(peer->uid_unmapped);
        cr_assert_not(vouch_policy_check(NULL, peer, NULL));
        cr_assert_eq(vouch_conn_get_link(both[i]), VOUCH_LINK_TCP);
        cr_assert(has_no_delay(both[i]));
        cr_assert(is_kept_alive(both[i]));
        cr_assert(fcntl(vouch_conn_get_fd(both[i]), F_GETFD) & FD_CLOEXEC);
        cr_assert_eq(vouch_conn_write(both[i], "x", 1), 0);
        cr_assert_eq(vouch_conn_read(both[1 - i], &byte, 1), 1);
        cr_assert_eq(vouch_conn_send_packet(both[i], "x", 1), -EOPNOTSUPP);
        cr_assert_eq(vouch_conn_send_fds(both[i], "x", 1, &(int){0}, 1), -EPERM);
    }
    vouch_conn_free(client);
    vouch_conn_free(server);
    vouch_listener_free(listener);
}

/* The kernel gives each client to one of them, by a hash; of 64 both get some but for one case in
 * 2^63. */
Test(tcp, several_listen_at_one_port) {
    struct vouch_listener *first = must_listen(LOOPBACK, 0, NULL);
    uint16_t port = vouch_listener_get_port(first);
    struct vouch_listener *second = must_listen(LOOPBACK, port, NULL);
    cr_assert_eq(vouch_listener_get_port(second), port);
    enum { CLIENTS = 64 };
    struct vouch_conn *clients[CLIENTS], *conn;
    int counts[2] = {0};
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = must_dial(port);
    while (counts[0] + counts[1] < CLIENTS) {
        struct pollfd fds[] = {{.fd = vouch_listener_get_fd(first), .events = POLLIN},
                               {.fd = vouch_listener_get_fd(second), .events = POLLIN}};
        cr_assert_gt(poll(fds, 2, 20000), 0);
        for (int i = 0; i < 2; i++) {
            if (vouch_accept(i ? second : first, 0, &conn) == 0) {
                counts[i]++;
                vouch_conn_free(conn);
            }
        }
    }
#ifdef __linux__
    cr_assert_gt(counts[0], 0);
    cr_assert_gt(counts[1], 0);
#endif
    /* One goes, the other takes over. */
    vouch_listener_free(first);
    struct vouch_conn *late = must_dial(port);
    vouch_conn_free(must_accept(second));
    vouch_conn_free(late);
    for (int i = 0; i < CLIENTS; i++)
        vouch_conn_free(clients[i]);
    vouch_listener_free(second);
}

static int listen_as_another(void *context) {
    uint16_t port = *(uint16_t *)context;
    peers_become(PEERS_UID, PEERS_GID);
    struct vouch_listener *listener;
    int r = vouch_listen_tcp_reuseport(LOOPBACK, port, NULL, &listener, NULL);
    return r == -EADDRINUSE ? 0 : 1;
}

Test(tcp, another_user_does_not_get_a_share) {
    peers_need_root();
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, NULL);
    uint16_t port = vouch_listener_get_port(listener);
    cr_assert_eq(peers_run(listen_as_another, &port), 0);
    vouch_listener_free(listener);
}

Test(tcp, a_port_of_somebody_who_does_not_share) {
    int fd = os_socket(AF_INET, SOCK_STREAM);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(at);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, size), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    struct vouch_listener *listener;
    char place[32];
    snprintf(place, sizeof(place), LOOPBACK ":%u", (unsigned)ntohs(at.sin_port));
    cr_assert_eq(vouch_listen_tcp_reuseport(LOOPBACK, ntohs(at.sin_port), NULL, &listener, &error),
                 -EADDRINUSE);
    cr_assert_not_null(strstr(error.message, place), "%s", error.message);
    close(fd);
}

Test(tcp, every_address_takes_both_protocols) {
    struct vouch_listener *listener = must_listen(NULL, 0, NULL);
    uint16_t port = vouch_listener_get_port(listener);
    cr_assert_str_eq(vouch_listener_get_address(listener), "*:0");
    vouch_conn_free(must_dial(port));
    vouch_conn_free(must_accept(listener));
    struct vouch_conn *conn;
    int r = vouch_dial_tcp("::1", port, NULL, &conn, &error);
    if (r == 0) { /* there may be no IPv6 in a sandbox */
        vouch_conn_free(conn);
        vouch_conn_free(must_accept(listener));
    }
    vouch_listener_free(listener);
}

static int hold_ipv6_only(uint16_t *ret_port) {
    struct sockaddr_in6 at = {.sin6_family = AF_INET6};
    socklen_t size = sizeof(at);
    int on = 1, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        cr_skip_test("no IPv6");
    *ret_port = ntohs(at.sin6_port);
    return fd;
}

/* Who has a half of every address would get the clients that come by it. */
Test(tcp, every_address_is_not_half_of_them) {
    uint16_t port;
    struct vouch_listener *listener;
    int other = hold_ipv6_only(&port);
    cr_assert_eq(vouch_listen_tcp_reuseport(NULL, port, NULL, &listener, &error), -EADDRINUSE);
    close(other);
    vouch_listener_free(must_listen(NULL, port, NULL));
}

Test(tcp, names) {
    struct vouch_listener *listener = must_listen("localhost", 0, NULL);
    struct vouch_conn *conn;
    cr_assert_eq(
        vouch_dial_tcp("localhost", vouch_listener_get_port(listener), NULL, &conn, &error), 0,
        "%s", error.message);
    vouch_conn_free(conn);
    vouch_listener_free(listener);
    listener = must_listen(NULL, 0, NULL);
    cr_assert_eq(vouch_dial_tcp(NULL, vouch_listener_get_port(listener), NULL, &conn, &error), 0);
    vouch_conn_free(conn);
    vouch_listener_free(listener);
}

static void expect_listen_refused(const char *host, const struct vouch_listen_options *options,
                                  int code, const char *why) {
    struct vouch_listener *listener;
    cr_assert_eq(vouch_listen_tcp_reuseport(host, 0, options, &listener, &error), code, "%s",
                 error.message);
    cr_assert_eq(error.code, code);
    cr_assert_not_null(strstr(error.message, why), "%s", error.message);
}

Test(tcp, what_listening_can_not_promise_is_refused) {
    const struct vouch_policy policy = {NULL, 0};
    const struct {
        struct vouch_listen_options options;
        const char *why;
    } all[] = {
        {{.policy = &policy}, "a policy"},
        {{.mode = 0600}, "mode"},
        {{.set_uid = true}, "owner"},
        {{.set_gid = true}, "owner"},
        {{.allow_unsafe_parent = true}, "parent"},
        {{.allow_abstract_name_that_any_user_can_reach = true}, "abstract"},
        {{.pass_descriptors = true}, "descriptors"},
        {{.link = VOUCH_LINK_SEQPACKET}, "not TCP"},
        {{.backlog = -1}, "backlog"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        expect_listen_refused(LOOPBACK, &all[i].options, -EINVAL, all[i].why);
    expect_listen_refused("", NULL, -EINVAL, "empty host");
}

static void expect_dial_refused(const char *host, uint16_t port,
                                const struct vouch_dial_options *options, int code,
                                const char *why) {
    struct vouch_conn *conn;
    cr_assert_eq(vouch_dial_tcp(host, port, options, &conn, &error), code, "%s", error.message);
    cr_assert_eq(error.code, code);
    cr_assert_not_null(strstr(error.message, why), "%s", error.message);
}

Test(tcp, what_dialling_can_not_promise_is_refused) {
    const struct vouch_policy policy = {NULL, 0};
    const mode_t modes[] = {0600};
    const struct {
        struct vouch_dial_options options;
        const char *why;
    } all[] = {
        {{.server = &policy}, "a policy"},
        {{.check_file_uid = true}, "a file"},
        {{.check_file_gid = true}, "a file"},
        {{.file_modes = modes, .file_mode_count = 1}, "a file"},
        {{.allow_abstract_name_that_any_user_can_take = true}, "abstract"},
        {{.pass_descriptors = true}, "descriptors"},
        {{.link = VOUCH_LINK_SEQPACKET}, "not TCP"},
        {{.timeout = -1}, "timeout"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        expect_dial_refused(LOOPBACK, 9, &all[i].options, -EINVAL, all[i].why);
    expect_dial_refused(LOOPBACK, 0, NULL, -EINVAL, "port 0");
    expect_dial_refused("", 9, NULL, -EINVAL, "empty host");
}

Test(tcp, nobody_there) {
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, NULL);
    uint16_t port = vouch_listener_get_port(listener);
    vouch_listener_close(listener);
    cr_assert_eq(vouch_listener_get_port(listener), 0);
    vouch_listener_free(listener);
    char place[32];
    snprintf(place, sizeof(place), LOOPBACK ":%u", (unsigned)port);
    expect_dial_refused(LOOPBACK, port, NULL, -ECONNREFUSED, place);
    struct vouch_conn *conn;
    int r = vouch_dial_tcp("host.invalid.", port, NULL, &conn, &error);
    cr_assert(r == -ENOENT || r == -EAGAIN, "%d", r); /* EAGAIN: nobody could be asked */
    cr_assert_not_null(strstr(error.message, "host.invalid."), "%s", error.message);
}

/* Its queue is full: the system answers nothing. */
Test(tcp, a_server_that_does_not_answer) {
    const struct vouch_listen_options small = {VOUCH_OPTIONS(small), .backlog = 1};
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options),
                                               .timeout = VOUCH_MILLISECONDS(50)};
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, &small);
    enum { MANY = 64 };
    struct vouch_conn *conns[MANY];
    int count = 0, r = 0;
    while (count < MANY && (r = vouch_dial_tcp(LOOPBACK, vouch_listener_get_port(listener),
                                               &options, &conns[count], &error)) == 0)
        count++;
    cr_assert_eq(r, -ETIMEDOUT);
    cr_assert_not_null(strstr(error.message, LOOPBACK), "%s", error.message);
    while (count > 0)
        vouch_conn_free(conns[--count]);
    vouch_listener_free(listener);
}

Test(tcp, a_socket_is_not_its_own_server) {
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, NULL);
    uint16_t port = vouch_listener_get_port(listener);
    vouch_listener_free(listener);
    int fd = os_socket(AF_INET, SOCK_STREAM);
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    int r = connect(fd, (struct sockaddr *)&at, sizeof(at));
    cr_assert_eq(r, 0, "this is what dialling has to look out for");
    close(fd);
}

Test(tcp, max_connections_hold_and_no_share_of_a_user_does) {
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options), .max_connections = 4,
                                                 .max_connections_per_uid = 1};
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, &options);
    uint16_t port = vouch_listener_get_port(listener);
    struct vouch_conn *clients[5], *servers[4], *conn;
    for (int i = 0; i < 5; i++)
        clients[i] = must_dial(port);
    for (int i = 0; i < 4; i++)
        servers[i] = must_accept(listener);
    struct vouch_listener_stats stats;
    do {
        cr_assert_eq(vouch_accept(listener, vouch_deadline_in(VOUCH_MILLISECONDS(1)), &conn),
                     -ETIMEDOUT);
        vouch_listener_get_stats(listener, &stats);
    } while (stats.refused_total_limit == 0);
    cr_assert_eq(stats.refused_total_limit, 1);
    cr_assert_eq(stats.accepted, 4);
    cr_assert_eq(stats.live, 4);
    char byte;
    cr_assert_leq(vouch_conn_read(clients[4], &byte, 1), 0);
    for (int i = 0; i < 5; i++)
        vouch_conn_free(clients[i]);
    for (int i = 0; i < 4; i++)
        vouch_conn_free(servers[i]);
    vouch_listener_free(listener);
}

Test(tcp, the_descriptor_can_be_taken) {
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, NULL);
    uint16_t port = vouch_listener_get_port(listener);
    int fd = vouch_listener_take_fd(listener);
    cr_assert_geq(fd, 0);
    cr_assert_eq(vouch_listener_get_fd(listener), -1);
    cr_assert_eq(vouch_listener_take_fd(listener), -ESHUTDOWN);
    struct vouch_conn *conn;
    cr_assert_eq(vouch_accept(listener, VOUCH_FOREVER, &conn), -ESHUTDOWN);
    vouch_listener_free(listener);
    struct vouch_conn *client = must_dial(port);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    cr_assert_eq(poll(&entry, 1, 20000), 1);
    int accepted = accept(fd, NULL, NULL);
    cr_assert_geq(accepted, 0);
    cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(accepted);
    close(fd);
    vouch_conn_free(client);
}

static int take_in_a_child(void *context) {
    return vouch_listener_take_fd(context) == -ECHILD ? 0 : 1;
}

Test(tcp, only_of_tcp_and_only_by_its_maker) {
    char path[SUPPORT_PATH_MAX];
    struct vouch_listener *listener = peers_must_listen(support_temp_path(path, "s"), NULL);
    cr_assert_eq(vouch_listener_take_fd(listener), -EOPNOTSUPP);
    cr_assert_eq(vouch_listener_get_port(listener), 0);
    vouch_listener_free(listener);
    listener = must_listen(LOOPBACK, 0, NULL);
    cr_assert_eq(peers_run(take_in_a_child, listener), 0);
    vouch_listener_free(listener);
}

Test(tcp, shortage_of_memory_leaks_nothing) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    struct vouch_listener *listener = must_listen(LOOPBACK, 0, NULL);
    const struct vouch_listen_options listening = {VOUCH_OPTIONS(listening),
                                                   .allocator = &allocator.allocator};
    const struct vouch_dial_options dialling = {VOUCH_OPTIONS(dialling),
                                                .allocator = &allocator.allocator};
    int r;
    uint64_t nth = 0;
    do {
        struct vouch_listener *other;
        support_allocator_fail(&allocator, ++nth, SUPPORT_FAIL_ONCE);
        r = vouch_listen_tcp_reuseport(LOOPBACK, 0, &listening, &other, NULL);
        cr_assert(r == 0 || r == -ENOMEM);
        if (r == 0)
            vouch_listener_free(other);
        support_allocator_check(&allocator);
    } while (r < 0);
    nth = 0;
    do {
        struct vouch_conn *conn;
        support_allocator_fail(&allocator, ++nth, SUPPORT_FAIL_ONCE);
        r = vouch_dial_tcp(LOOPBACK, vouch_listener_get_port(listener), &dialling, &conn, NULL);
        cr_assert(r == 0 || r == -ENOMEM);
        if (r == 0)
            vouch_conn_free(conn);
        support_allocator_check(&allocator);
    } while (r < 0);
    cr_assert_gt(nth, 2);
    vouch_listener_free(listener);
}

Test(tcp, failing_calls_leak_nothing) {
    struct vouch_listener *server = must_listen(LOOPBACK, 0, NULL);
    const char *symbols[] = {"socket", "fcntl", "setsockopt", "bind", "listen", "connect"};
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        for (unsigned call = 1;; call++) {
            const struct faults_plan plan = {.symbol = symbols[i], .call = call, .error = EIO};
            struct vouch_listener *listener = NULL;
            struct vouch_conn *conn = NULL;
            faults_begin(&plan);
            int r = vouch_listen_tcp_reuseport(LOOPBACK, 0, NULL, &listener, &error);
            int d = vouch_dial_tcp(LOOPBACK, vouch_listener_get_port(server), NULL, &conn, &error);
            unsigned hits = faults_end();
            cr_assert(r == 0 || r == -EIO, "%s %u: %d", symbols[i], call, r);
            cr_assert(d == 0 || d == -EIO, "%s %u: %d", symbols[i], call, d);
            vouch_listener_free(listener);
            vouch_conn_free(conn);
            if (hits == 0)
                break;
        }
    }
    vouch_listener_free(server);
}
