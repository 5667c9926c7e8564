/* SPDX-License-Identifier: MIT */
/*
 * Our side of tests/sh/node: servers and clients of packets, datagrams and TCP for those of
 * tests/node/links.js to talk to. Servers say on stdout when they are ready.
 *
 *   links seqpacket-server PATH   answers one client's packets until its end
 *   links seqpacket-client PATH   sends some, checks the answers
 *   links datagram-server PATH    answers datagrams until one says "end"
 *   links datagram-client PATH OWN
 *   links tcp-server PORT         listens beside others; says "vouch" to each client until killed
 *   links tcp-client PORT WORD... dials until each of these words was said
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vouch/vouch.h>

#define PACKET_ROOM ((size_t)256 * 1024)
#define TIMEOUT VOUCH_SECONDS(10)
#define DIALS_MAX 400

/* Of datagrams node-unix-socket takes 65535 bytes and drops the rest. */
static const size_t sizes[] = {1, 2, 1000, 65535, 65536, 200000};
enum { SIZE_COUNT = sizeof(sizes) / sizeof(sizes[0]), DATAGRAM_SIZE_COUNT = 4 };

static uint8_t bytes[PACKET_ROOM];
static struct vouch_error error;

static int fail(const char *what, int code) {
    fprintf(stderr, "links: %s: %s%s%s\n", what, vouch_strerror(code), error.message[0] ? ": " : "",
            error.message);
    return 1;
}

static void say_ready(unsigned number) {
    printf("ready %u\n", number);
    fflush(stdout);
}

static uint8_t pattern(size_t size, size_t at) {
    return (uint8_t)(size + at * 7);
}

static void fill(size_t size) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern(size, i);
}

/* Whether `bytes` are the answer to what `fill` made: the same, each one more. */
static bool is_answer(size_t size, size_t found) {
    bool same = size == found;
    for (size_t i = 0; i < size && same; i++)
        same = bytes[i] == (uint8_t)(pattern(size, i) + 1);
    if (!same)
        fprintf(stderr, "links: not the answer to %zu bytes, but %zu\n", size, found);
    return same;
}

static void make_answer(size_t size) {
    for (size_t i = 0; i < size; i++)
        bytes[i]++;
}

/* ---- packets ---- */

/* An empty packet, which is no end, is answered by one of one byte: node takes it for the end. */
static int answer_packets(struct vouch_conn *conn) {
    struct vouch_packet packet;
    int r;
    while ((r = vouch_conn_recv_packet(conn, bytes, sizeof(bytes), &packet)) > 0) {
        make_answer(packet.size);
        if (packet.size == 0)
            bytes[packet.size++] = 'e';
        r = vouch_conn_send_packet(conn, bytes, packet.size);
        if (r < 0)
            break;
    }
    return r;
}

static int serve_packets(const char *path) {
    const struct vouch_listen_options options = {VOUCH_OPTIONS(options),
                                                 .link = VOUCH_LINK_SEQPACKET};
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    int r = vouch_listen(path, &options, &listener, &error);
    if (r < 0)
        return fail("listening", r);
    say_ready(0);
    r = vouch_accept(listener, vouch_deadline_in(TIMEOUT), &conn);
    if (r < 0)
        return fail("accepting", r);
    if (vouch_conn_get_peer(conn)->uid != geteuid())
        return fail("the peer", VOUCH_E_PEER_UNKNOWN);
    r = vouch_conn_set_timeout(conn, VOUCH_BOTH, TIMEOUT);
    if (r == 0)
        r = answer_packets(conn);
    vouch_conn_free(conn);
    vouch_listener_free(listener);
    return r < 0 ? fail("answering", r) : 0;
}

static int ask_packets(const char *path) {
    const struct vouch_dial_options options = {VOUCH_OPTIONS(options),
                                               .link = VOUCH_LINK_SEQPACKET};
    struct vouch_conn *conn;
    struct vouch_packet packet;
    int r = vouch_dial(path, &options, &conn, &error);
    if (r == 0)
        r = vouch_conn_set_timeout(conn, VOUCH_BOTH, TIMEOUT);
    if (r < 0)
        return fail("dialling", r);
    for (int i = 0; i < SIZE_COUNT; i++) {
        fill(sizes[i]);
        r = vouch_conn_send_packet(conn, bytes, sizes[i]);
        if (r < 0)
            return fail("sending", r);
        r = vouch_conn_recv_packet(conn, bytes, sizeof(bytes), &packet);
        if (r <= 0)
            return fail("receiving", r);
        if (!is_answer(sizes[i], packet.size))
            return 1;
    }
    r = vouch_conn_shutdown_write(conn);
    if (r == 0)
        r = vouch_conn_recv_packet(conn, bytes, sizeof(bytes), &packet);
    vouch_conn_free(conn);
    return r == 0 ? 0 : fail("the end", r);
}

/* ---- datagrams ---- */

static struct vouch_datagram *open_datagram(const char *path) {
    const struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .address = path};
    struct vouch_datagram *datagram;
    int r = vouch_datagram_open(&options, &datagram, &error);
    if (r < 0)
        exit(fail("opening", r));
    return datagram;
}

static int serve_datagrams(const char *path) {
    struct vouch_datagram *datagram = open_datagram(path);
    struct vouch_datagram_message message;
    say_ready(0);
    for (;;) {
        int r = vouch_datagram_recv(datagram, bytes, sizeof(bytes), vouch_deadline_in(TIMEOUT),
                                    &message);
        if (r < 0)
            return fail("receiving", r);
        if (message.sender.uid != geteuid() || !(message.sender.known & VOUCH_KNOWN_PID))
            return fail("the sender", VOUCH_E_PEER_UNKNOWN);
        if (message.size == 3 && memcmp(bytes, "end", 3) == 0)
            break;
        make_answer(message.size);
        r = vouch_datagram_send(datagram, &message.from, bytes, message.size,
                                vouch_deadline_in(TIMEOUT), &error);
        if (r < 0)
            return fail("answering", r);
    }
    vouch_datagram_free(datagram);
    return 0;
}

static int ask_datagrams(const char *path, const char *own) {
    struct vouch_datagram *datagram = open_datagram(own);
    struct vouch_datagram_address to;
    struct vouch_datagram_message message;
    int r = vouch_datagram_address_of(path, &to, &error);
    for (int i = 0; i < DATAGRAM_SIZE_COUNT && r == 0; i++) {
        fill(sizes[i]);
        r = vouch_datagram_send(datagram, &to, bytes, sizes[i], vouch_deadline_in(TIMEOUT), &error);
        if (r == 0)
            r = vouch_datagram_recv(datagram, bytes, sizeof(bytes), vouch_deadline_in(TIMEOUT),
                                    &message);
        if (r == 0 && (!is_answer(sizes[i], message.size) || strcmp(message.from.text, path) != 0))
            return 1;
    }
    if (r == 0)
        r = vouch_datagram_send(datagram, &to, "end", 3, vouch_deadline_in(TIMEOUT), &error);
    vouch_datagram_free(datagram);
    return r < 0 ? fail("asking", r) : 0;
}

/* ---- TCP ---- */

static uint16_t port_of(const char *text) {
    return (uint16_t)strtoul(text, NULL, 10);
}

static int serve_tcp(const char *port) {
    struct vouch_listener *listener;
    struct vouch_conn *conn;
    int r = vouch_listen_tcp_reuseport("127.0.0.1", port_of(port), NULL, &listener, &error);
    if (r < 0)
        return fail("listening", r);
    say_ready(vouch_listener_get_port(listener));
    while ((r = vouch_accept(listener, VOUCH_FOREVER, &conn)) == 0) {
        (void)!vouch_conn_write(conn, "vouch", 5);
        vouch_conn_free(conn);
    }
    return fail("accepting", r);
}

/* What the server says: a word, "" when it can't be heard. */
static const char *ask_tcp(uint16_t port) {
    static char word[16];
    size_t used = 0;
    struct vouch_conn *conn;
    int r = vouch_dial_tcp("127.0.0.1", port, NULL, &conn, &error);
    if (r < 0)
        exit(fail("dialling", r));
    ssize_t taken;
    while ((taken = vouch_conn_read(conn, word + used, sizeof(word) - 1 - used)) > 0)
        used += (size_t)taken;
    vouch_conn_free(conn);
    word[taken < 0 ? 0 : used] = 0;
    return word;
}

static int expect_tcp(const char *port, char **words, int count) {
    int left = count;
    for (int i = 0; i < DIALS_MAX && left > 0; i++) {
        const char *said = ask_tcp(port_of(port));
        for (int k = 0; k < count; k++) {
            if (words[k] && strcmp(words[k], said) == 0) {
                words[k] = NULL;
                left--;
            }
        }
    }
    return left == 0 ? 0 : fail("not everybody has answered", 0);
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[1] : "";
    if (strcmp(what, "seqpacket-server") == 0)
        return serve_packets(argv[2]);
    if (strcmp(what, "seqpacket-client") == 0)
        return ask_packets(argv[2]);
    if (strcmp(what, "datagram-server") == 0)
        return serve_datagrams(argv[2]);
    if (strcmp(what, "datagram-client") == 0 && argc == 4)
        return ask_datagrams(argv[2], argv[3]);
    if (strcmp(what, "tcp-server") == 0)
        return serve_tcp(argv[2]);
    if (strcmp(what, "tcp-client") == 0)
        return expect_tcp(argv[2], argv + 3, argc - 3);
    fprintf(stderr, "usage: links seqpacket-server|seqpacket-client|datagram-server PATH\n"
                    "       links datagram-client PATH OWN\n"
                    "       links tcp-server PORT\n"
                    "       links tcp-client PORT WORD...\n");
    return 2;
}
