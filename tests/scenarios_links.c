/* SPDX-License-Identifier: MIT */
/* Scenarios of packets, datagrams and TCP. Each on one thread: the kernel keeps what was sent. */
#include "tests/scenarios.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <vouch/datagram.h>
#include <vouch/tcp.h>

#include "lib/clock.h"
#include "lib/datagram.h"
#include "lib/os.h"

#define PATIENCE VOUCH_SECONDS(20)
/* In which a server that is short of something has closed its client. */
#define ACCEPT_PATIENCE VOUCH_MILLISECONDS(200)

static bool is(const char *bytes, size_t size, const char *text) {
    return size == strlen(text) && memcmp(bytes, text, size) == 0;
}

/* ---- packets ---- */

static int expect_packet(struct vouch_conn *conn, const char *text) {
    char bytes[32];
    struct vouch_packet packet;
    int r = vouch_conn_recv_packet(conn, bytes, sizeof(bytes), &packet);

    if (r == 0)
        return -ECONNRESET;
    if (r < 0)
        return r;
    return is(bytes, packet.size, text) ? 0 : SCENARIO_WRONG;
}

static int expect_descriptor(struct vouch_conn *conn) {
    char byte;
    struct vouch_packet packet;
    int fd;
    size_t count = 0;
    int r = vouch_conn_recv_packet_fds(conn, &byte, 1, &packet, &fd, 1, &count);

    if (r == 0)
        return -ECONNRESET;
    if (count == 1)
        close(fd);
    if (r < 0)
        return r;
    return is(&byte, packet.size, "d") && count == 1 ? 0 : SCENARIO_WRONG;
}

static int exchange_packets(struct vouch_conn *conns[2]) {
    struct vouch_packet packet;
    size_t max;
    int r = vouch_conn_send_packet(conns[0], "some", 4);

    if (r == 0 && os_marks_packets)
        r = vouch_conn_send_packet(conns[0], "", 0);
    if (r == 0)
        r = vouch_conn_send_packet(conns[0], "and more", 8);
    if (r == 0)
        r = vouch_conn_send_packet_fds(conns[0], "d", 1, &(int){vouch_conn_get_fd(conns[0])}, 1);
    if (r == 0)
        r = expect_packet(conns[1], "some");
    if (r == 0 && os_marks_packets)
        r = expect_packet(conns[1], "");
    if (r == 0)
        r = expect_packet(conns[1], "and more");
    if (r == 0)
        r = expect_descriptor(conns[1]);
    if (r == 0)
        r = vouch_conn_raise_packet_max(conns[1], 1, &max);
    if (r == 0)
        r = vouch_conn_shutdown_write(conns[0]);
    if (r == 0)
        r = vouch_conn_recv_packet(conns[1], NULL, 0, &packet);
    return r > 0 ? SCENARIO_WRONG : r;
}

static int packet_exchange(const struct scenario_place *place) {
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator,
                                         .pass_descriptors = true};
    struct vouch_conn *conns[2];
    int r = vouch_conn_pair_of(VOUCH_LINK_SEQPACKET, &options, conns);

    if (r < 0)
        return r;
    for (int i = 0; i < 2; i++)
        vouch_conn_set_deadline(conns[i], VOUCH_BOTH, vouch_deadline_in(PATIENCE));
    r = exchange_packets(conns);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    return r;
}

/* ---- datagrams ---- */

static int receive(struct vouch_datagram *receiver, const char *text) {
    char bytes[32];
    struct vouch_datagram_message message;
    int r =
        vouch_datagram_recv(receiver, bytes, sizeof(bytes), vouch_deadline_in(PATIENCE), &message);

    if (r < 0)
        return r;
    return is(bytes, message.size, text) ? 0 : SCENARIO_WRONG;
}

static void count_call(void *context, const struct vouch_datagram_address *to) {
    (void)to;
    ++*(int *)context;
}

static void wait_as_told(struct vouch_datagram *datagram) {
    struct pollfd entry = {.fd = vouch_datagram_get_fd(datagram),
                           .events = vouch_datagram_get_events(datagram)};
    int64_t timeout = vouch_datagram_get_timeout(datagram);

    if (timeout == VOUCH_FOREVER)
        timeout = PATIENCE;
    (void)poll(&entry, 1, clock_poll_timeout(0, timeout));
}

/* To and beyond a full queue, and back. */
static int congest(struct vouch_datagram *sender, struct vouch_datagram *receiver,
                   const struct vouch_datagram_address *to, const int *calls) {
    int sent = 0, r;

    while ((r = vouch_datagram_try_send(sender, to, "x", 1, NULL)) == 0)
        sent++;
    for (; r == -EAGAIN && sent > 0; sent--) {
        int got = receive(receiver, "x");
        if (got < 0)
            r = got;
    }
    for (r = r == -EAGAIN ? 0 : r; r >= 0 && *calls == 0;) {
        wait_as_told(sender);
        r = vouch_datagram_process(sender);
    }
    return r < 0 ? r
                 : vouch_datagram_send(sender, to, "room", 4, vouch_deadline_in(PATIENCE), NULL);
}

static int exchange_datagrams(struct vouch_datagram *sender, struct vouch_datagram *receiver,
                              const int *calls) {
    const struct vouch_datagram_address *to = vouch_datagram_get_address(receiver);
    int r = vouch_datagram_send(sender, to, "to an address", 13, vouch_deadline_in(PATIENCE), NULL);

    if (r == 0)
        r = receive(receiver, "to an address");
    if (r == 0)
        r = congest(sender, receiver, to, calls);
    if (r == 0)
        r = receive(receiver, "room");
    if (r == 0)
        r = vouch_datagram_connect(sender, to, NULL);
    if (r == 0)
        r = vouch_datagram_send(sender, NULL, "", 0, vouch_deadline_in(PATIENCE), NULL);
    if (r == 0)
        r = receive(receiver, "");
    return r;
}

static int datagram_exchange(const struct scenario_place *place) {
    int calls = 0;
    const struct vouch_datagram_options own = {
        VOUCH_OPTIONS(own), .allocator = place->allocator, .address = place->path,
        .allow_senders_without_identity = !datagram_tells_sender};
    const struct vouch_datagram_options none = {VOUCH_OPTIONS(none), .allocator = place->allocator,
                                                .on_writable = count_call, .context = &calls};
    struct vouch_datagram *sender, *receiver;
    int r = vouch_datagram_open(&own, &receiver, NULL);

    if (r < 0)
        return r;
    r = vouch_datagram_open(&none, &sender, NULL);
    if (r == 0) {
        r = exchange_datagrams(sender, receiver, &calls);
        vouch_datagram_free(sender);
    }
    vouch_datagram_free(receiver);
    return r;
}

/* ---- TCP ---- */

static int accept_here(struct vouch_listener *listener, struct vouch_conn **ret_conn) {
    struct vouch_listener_stats stats;
    int r = vouch_accept(listener, vouch_deadline_in(ACCEPT_PATIENCE), ret_conn);

    vouch_listener_get_stats(listener, &stats);
    return r == -ETIMEDOUT && stats.shed + stats.refused_unknown + stats.errors > 0 ? -ECONNRESET
                                                                                    : r;
}

static int talk(struct vouch_conn *client, struct vouch_conn *server) {
    char bytes[5];
    int r;

    vouch_conn_set_deadline(client, VOUCH_BOTH, vouch_deadline_in(PATIENCE));
    vouch_conn_set_deadline(server, VOUCH_BOTH, vouch_deadline_in(PATIENCE));
    r = vouch_conn_write(client, "hello", 5);
    if (r == 0)
        r = vouch_conn_read_exactly(server, bytes, 5);
    return r == 0 && !is(bytes, 5, "hello") ? SCENARIO_WRONG : r;
}

static int tcp_exchange(const struct scenario_place *place) {
    struct vouch_listen_options listen = {VOUCH_OPTIONS(listen), .allocator = place->allocator};
    struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .allocator = place->allocator};
    struct vouch_listener *listener;
    struct vouch_conn *client = NULL, *server = NULL;
    int r = vouch_listen_tcp_reuseport("127.0.0.1", 0, &listen, &listener, NULL);

    if (r < 0)
        return r;
    uint16_t port = vouch_listener_get_port(listener);
    r = port ? vouch_dial_tcp("127.0.0.1", port, &dial, &client, NULL) : -ECONNRESET;
    if (r == 0)
        r = accept_here(listener, &server);
    if (r == 0)
        r = talk(client, server);
    vouch_conn_free(client);
    vouch_conn_free(server);
    if (r == 0) {
        int fd = vouch_listener_take_fd(listener);
        r = fd < 0 ? fd : close(fd);
    }
    vouch_listener_free(listener);
    return r;
}

const struct scenario scenarios_links[] = {
    {.name = "packet_exchange", .run = packet_exchange, .packets = true},
    {.name = "datagram_exchange", .run = datagram_exchange, .packets = true},
    {.name = "tcp_exchange", .run = tcp_exchange},
    {0},
};
