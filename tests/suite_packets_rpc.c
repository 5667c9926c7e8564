/* SPDX-License-Identifier: MIT */
/* Calls over SOCK_SEQPACKET: as over a stream, but a message is a packet, and what does not fit one
 * is refused with both sizes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/chunk.h"
#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"
#include "tests/toy_dialect.h"

#define LARGE ((size_t)1024 * 1024)

static struct rpc_stage stage;
static struct vouch_client *client;

static void begin_with(const struct vouch_server_options *server_options,
                       const struct vouch_client_options *client_options) {
    struct vouch_conn *conns[2];
    support_baseline_begin();
    rpc_stage_open(&stage, server_options);
    cr_assert_eq(vouch_conn_pair_of(VOUCH_LINK_SEQPACKET, NULL, conns), 0);
    cr_assert_eq(vouch_server_add_conn(stage.server, conns[0]), 0);
    cr_assert_eq(vouch_client_new(conns[1], client_options, &client), 0);
}

static void begin(void) {
    begin_with(NULL, NULL);
}

static void end(void) {
    vouch_client_free(client);
    client = NULL;
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* The other end of a connection of packets, to speak by hand. */
static int raw(void) {
    int fds[2];
    struct vouch_conn *conn;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &conn), 0);
    cr_assert_eq(vouch_server_add_conn(stage.server, conn), 0);
    return fds[1];
}

static bool hung_up(int fd) {
    char bytes[4096];
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof(bytes), 0)) > 0)
        continue;
    return got == 0 || errno == ECONNRESET;
}

/* A call by hand: id 1, method echo, a body of `size` bytes. */
static size_t write_call(uint8_t *to, size_t size) {
    size_t at = 0;
    to[at++] = 1 << 3;
    to[at++] = 1;
    to[at++] = 3 << 3 | 2;
    to[at++] = 4;
    memcpy(to + at, "echo", 4);
    at += 4;
    to[at++] = 4 << 3 | 2;
    for (size_t rest = size;; rest >>= 7) {
        to[at++] = (uint8_t)((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0));
        if (rest < 0x80)
            break;
    }
    memset(to + at, 'b', size);
    return at + size;
}

Test(packets_rpc, calls_are_answered) {
    begin();
    rpc_check_call(client, "echo", "hello", 0, "hello");
    rpc_check_call(client, "quick", "", 0, "");
    rpc_check_call(client, "nothing", "x", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    cr_assert_eq(vouch_client_ping(client, RPC_PATIENCE, NULL), 0);
    end();
}

Test(packets_rpc, a_message_is_a_packet_without_a_length) {
    begin();
    int fd = raw();
    uint8_t packet[256];
    size_t size = write_call(packet, 5);
    cr_assert_eq(send(fd, packet, size, 0), (ssize_t)size);
    struct envelope reply;
    ssize_t got = recv(fd, packet, sizeof(packet), 0);
    cr_assert_gt(got, 0);
    cr_assert_eq(envelope_decode(packet, (size_t)got, &reply), 0);
    cr_assert_eq(reply.id, 1);
    cr_assert_eq(reply.data_size, 5);
    cr_assert_arr_eq(reply.data, "bbbbb", 5);
    close(fd);
    end();
}

Test(packets_rpc, many_at_once_from_one_thread_and_from_several) {
    begin();
    struct rpc_outcome outcomes[100] = {0};
    for (size_t i = 0; i < 100; i++)
        cr_assert_eq(vouch_client_call_async(client, "echo", "body", 4, NULL, rpc_outcome_callback,
                                             &outcomes[i], NULL),
                     0);
    int64_t patience = vouch_deadline_in(RPC_PATIENCE);
    for (int left = 100, ran; left > 0; left -= ran)
        cr_assert_gt(ran = vouch_client_wait(client, patience), 0);
    for (size_t i = 0; i < 100; i++)
        cr_assert(outcomes[i].result == 0 && outcomes[i].size == 4);
    struct rpc_caller callers[8];
    for (size_t i = 0; i < 8; i++)
        rpc_caller_start(&callers[i], client, "echo", NULL);
    for (size_t i = 0; i < 8; i++)
        cr_assert_eq(rpc_caller_join(&callers[i]), 0);
    end();
}

Test(packets_rpc, bodies_up_to_what_a_packet_takes_arrive_whole) {
    begin();
    size_t max = 0;
    struct vouch_error error;
    uint8_t *body = calloc(1, LARGE);
    cr_assert_eq(vouch_client_call(client, "echo", body, LARGE, NULL, NULL, &error), -EMSGSIZE);
    unsigned long long size, limit;
    cr_assert_eq(sscanf(error.message,
                        "echo: a message of %llu bytes is over the maximum of %llu bytes", &size,
                        &limit),
                 2, "%s", error.message);
    cr_assert_gt(size, LARGE);
    cr_assert(limit > 100000 && limit <= CHUNK_PACKET_MAX, "%llu", limit);
    max = (size_t)limit - 64; /* the envelope */
    for (size_t i = 0; i < 20; i++) {
        struct vouch_reply reply;
        size_t now = max - i * 5000;
        memset(body, (int)i, now);
        cr_assert_eq(vouch_client_call(client, "echo", body, now, NULL, &reply, &error), 0, "%s",
                     error.message);
        cr_assert_eq(reply.size, now);
        cr_assert_eq(memcmp(reply.data, body, now), 0);
        vouch_reply_release(&reply);
    }
    free(body);
    end();
}

Test(packets_rpc, a_reply_that_fits_no_packet_is_an_error_with_both_sizes) {
    begin();
    struct vouch_call_options none = {VOUCH_OPTIONS(none)};
    const char *text =
        rpc_check_call_options(client, "size", "1000000", &none, VOUCH_REMOTE_TOO_LARGE);
    unsigned long long size, limit;
    cr_assert_eq(
        sscanf(text, "the reply of %llu bytes is over the maximum of %llu bytes", &size, &limit), 2,
        "%s", text);
    cr_assert(size >= 1000000 && limit < size);
    rpc_check_call(client, "echo", "still", 0, "still");
    end();
}

Test(packets_rpc, a_packet_over_the_servers_limit_is_answered_with_both_sizes) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_request = 1000};
    begin_with(&options, NULL);
    int fd = raw();
    uint8_t *packet = malloc(200000);
    size_t size = write_call(packet, 100000);
    cr_assert_eq(send(fd, packet, size, 0), (ssize_t)size);
    ssize_t got = recv(fd, packet, 200000, 0);
    struct envelope reply;
    char text[128];
    cr_assert_gt(got, 0);
    cr_assert_eq(envelope_decode(packet, (size_t)got, &reply), 0);
    cr_assert_eq(reply.id, 1);
    cr_assert_eq(reply.error_type, VOUCH_REMOTE_BAD_DATA); /* what plain peers know */
    snprintf(text, sizeof(text), "the request of %zu bytes is over the maximum of 1000 bytes",
             size);
    cr_assert_eq(reply.error_size, strlen(text), "%.*s", (int)reply.error_size, reply.error);
    cr_assert_arr_eq(reply.error, text, strlen(text));
    /* The next is read from its beginning. */
    size = write_call(packet, 3);
    cr_assert_eq(send(fd, packet, size, 0), (ssize_t)size);
    got = recv(fd, packet, 200000, 0);
    cr_assert_eq(envelope_decode(packet, (size_t)got, &reply), 0);
    cr_assert_eq(reply.data_size, 3);
    free(packet);
    close(fd);
    end();
}

Test(packets_rpc, at_the_servers_limit_and_one_over_it) {
    uint8_t packet[2000];
    struct envelope reply;
    size_t fits = write_call(packet, 500);
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .max_request = fits};
    begin_with(&options, NULL);
    int fd = raw();
    for (size_t more = 0; more <= 1; more++) {
        size_t size = write_call(packet, 500 + more);
        cr_assert_eq(size, fits + more);
        cr_assert_eq(send(fd, packet, size, 0), (ssize_t)size);
        ssize_t got = recv(fd, packet, sizeof(packet), 0);
        cr_assert_gt(got, 0);
        cr_assert_eq(envelope_decode(packet, (size_t)got, &reply), 0);
        cr_assert_eq(reply.error_type, more ? VOUCH_REMOTE_BAD_DATA : 0);
    }
    close(fd);
    end();
}

Test(packets_rpc, an_empty_packet_or_nonsense_ends_the_connection) {
    begin();
    int fd = raw();
    cr_assert_eq(send(fd, "", 0, 0), 0);
    cr_assert(hung_up(fd));
    close(fd);
    fd = raw();
    cr_assert_eq(send(fd, "\xff\xff\xff", 3, 0), 3);
    cr_assert(hung_up(fd));
    close(fd);
    rpc_check_call(client, "echo", "others live", 0, "others live");
    end();
}

Test(packets_rpc, a_packet_cut_short_is_nonsense_and_not_half_a_message) {
    begin();
    uint8_t packet[256];
    size_t size = write_call(packet, 50);
    for (size_t cut = 9; cut < size; cut += 7) {
        int fd = raw();
        cr_assert_eq(send(fd, packet, cut, 0), (ssize_t)cut);
        cr_assert(hung_up(fd));
        close(fd);
    }
    end();
}

Test(packets_rpc, the_end_of_the_server_ends_calls_at_once) {
    begin();
    struct rpc_caller caller;
    rpc_caller_start(&caller, client, "wait", NULL);
    rpc_latch_wait(&stage.entered, 1);
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_server_stop(stage.server, 0), -ETIMEDOUT);
    int r = rpc_caller_join(&caller);
    cr_assert(r == -ECONNRESET || r == VOUCH_REMOTE_CANCELLED || r == 0, "%d", r);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    end();
}

Test(packets_rpc, calls_are_cancelled) {
    begin();
    rpc_check_call(client, "echo", "hello", 0, "hello"); /* the server says what it knows */
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .tag = 7};
    struct rpc_caller caller;
    rpc_caller_start(&caller, client, "wait", &options);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_client_cancel(client, 7), 1);
    cr_assert_eq(rpc_caller_join(&caller), -ECANCELED);
    rpc_latch_wait(&stage.cancelled, 1);
    end();
}

Test(packets_rpc, a_slow_reader_gets_every_reply) {
    begin();
    int fd = raw();
    uint8_t *packet = malloc(200000);
    size_t size = write_call(packet, 20000);
    for (uint8_t id = 1; id <= 60; id++) { /* more than the socket holds */
        packet[1] = id;
        cr_assert_eq(send(fd, packet, size, 0), (ssize_t)size);
    }
    bool seen[61] = {false};
    for (int i = 0; i < 60; i++) {
        struct envelope reply;
        ssize_t got = recv(fd, packet, 200000, 0);
        cr_assert_gt(got, 20000);
        cr_assert_eq(envelope_decode(packet, (size_t)got, &reply), 0);
        cr_assert(reply.id >= 1 && reply.id <= 60 && !seen[reply.id]);
        cr_assert_eq(reply.data_size, 20000);
        seen[reply.id] = true;
    }
    free(packet);
    close(fd);
    end();
}

Test(packets_rpc, both_sides_call) {
    struct vouch_conn *conns[2];
    struct rpc_stage other;
    struct vouch_client *to_other, *to_stage;
    begin();
    rpc_stage_open(&other, NULL);
    cr_assert_eq(vouch_conn_pair_of(VOUCH_LINK_SEQPACKET, NULL, conns), 0);
    cr_assert_eq(vouch_server_add_peer(stage.server, conns[0], NULL, &to_other), 0);
    cr_assert_eq(vouch_server_add_peer(other.server, conns[1], NULL, &to_stage), 0);
    rpc_check_call(to_other, "echo", "one way", 0, "one way");
    rpc_check_call(to_stage, "echo", "and the other", 0, "and the other");
    rpc_check_call(to_stage, "size", "1000000", VOUCH_REMOTE_TOO_LARGE, NULL);
    vouch_client_free(to_other);
    vouch_client_free(to_stage);
    rpc_stage_close(&other);
    end();
}

Test(packets_rpc, dialects_are_refused) {
    struct toy toy;
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .dialect = &toy.dialect};
    struct vouch_client *refused;
    struct vouch_conn *conns[2];
    support_baseline_begin();
    toy_init(&toy);
    cr_assert_eq(vouch_conn_pair_of(VOUCH_LINK_SEQPACKET, NULL, conns), 0);
    cr_assert_eq(vouch_client_new(conns[0], &options, &refused), -ENOTSUP);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}

Test(packets_rpc, over_a_path) {
    struct vouch_listen_options listen = {VOUCH_OPTIONS(listen), .link = VOUCH_LINK_SEQPACKET};
    struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .link = VOUCH_LINK_SEQPACKET};
    struct vouch_client *dialled;
    begin();
    rpc_stage_listen(&stage, &listen);
    cr_assert_eq(vouch_client_dial(stage.path, &dial, NULL, &dialled, NULL), 0);
    rpc_check_call(dialled, "echo", "hello", 0, "hello");
    cr_assert(vouch_client_get_peer(dialled) != NULL);
    const struct vouch_identity *peer = vouch_client_get_peer(dialled);
    cr_assert_eq(peer->uid, getuid());
    vouch_identity_unref(peer);
    vouch_identity_unref(peer);
    vouch_client_free(dialled);
    end();
}
