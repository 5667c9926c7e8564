/* SPDX-License-Identifier: MIT */
/* Packets: none is cut, joined or lost without a word, and an empty one is not the end. */
#include "lib/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/dial.h>
#include <vouch/listen.h>

#include "lib/address.h"
#include "lib/os.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

#define BYTES 64

static struct vouch_conn *conns[2];
static char bytes[BYTES];
static struct vouch_packet packet;

static void setup(void) {
    support_baseline_begin();
    cr_assert_eq(vouch_conn_pair_of(VOUCH_LINK_SEQPACKET, NULL, conns), 0);
    memset(bytes, 0, sizeof(bytes));
    packet = (struct vouch_packet){7, 7};
}

static void teardown(void) {
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}

TestSuite(conn_packet, .init = setup, .fini = teardown);

static void send_text(const char *text) {
    cr_assert_eq(vouch_conn_send_packet(conns[0], text, strlen(text)), 0);
}

static void expect_text(const char *text) {
    cr_assert_eq(vouch_conn_recv_packet(conns[1], bytes, sizeof(bytes), &packet), 1, "%s", text);
    cr_assert_eq(packet.size, strlen(text));
    cr_assert_eq(packet.stored, strlen(text));
    cr_assert_eq(memcmp(bytes, text, packet.size), 0);
}

Test(conn_packet, keep_their_bounds) {
    cr_assert_eq(vouch_conn_get_link(conns[0]), VOUCH_LINK_SEQPACKET);
    send_text("one");
    send_text("and another");
    cr_assert_eq(vouch_conn_try_send_packet(conns[0], "!", 1), 0);
    expect_text("one");
    expect_text("and another");
    cr_assert_eq(vouch_conn_try_recv_packet(conns[1], bytes, sizeof(bytes), &packet), 1);
    cr_assert_eq(packet.size, 1);
    cr_assert_eq(vouch_conn_try_recv_packet(conns[1], bytes, sizeof(bytes), &packet), -EAGAIN);
}

/* The first was sent before anybody asked for marks. */
Test(conn_packet, empty_ones_are_not_the_end) {
    if (!os_marks_packets) {
        cr_assert_eq(vouch_conn_send_packet(conns[0], NULL, 0), -EOPNOTSUPP);
        cr_assert_eq(vouch_conn_try_send_packet(conns[0], NULL, 0), -EOPNOTSUPP);
        cr_skip_test("nothing tells empty packets from the end here");
    }
    const char *all[] = {"", "a", "", "", "b", ""};
    enum { COUNT = sizeof(all) / sizeof(all[0]) };
    for (int i = 0; i < COUNT; i++)
        send_text(all[i]);
    cr_assert_eq(vouch_conn_send_packet(conns[0], NULL, 0), 0);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    for (int i = 0; i < COUNT; i++)
        expect_text(all[i]);
    cr_assert_eq(vouch_conn_try_recv_packet(conns[1], NULL, 0, &packet), 1);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(vouch_conn_recv_packet(conns[1], bytes, sizeof(bytes), &packet), 0);
        cr_assert_eq(vouch_conn_try_recv_packet(conns[1], bytes, sizeof(bytes), &packet), 0);
    }
}

Test(conn_packet, the_end_of_a_peer_that_sent_nothing) {
    vouch_conn_free(conns[0]);
    conns[0] = NULL;
    cr_assert_eq(vouch_conn_recv_packet(conns[1], bytes, sizeof(bytes), &packet), 0);
    cr_assert_eq(vouch_conn_send_packet(conns[1], "x", 1), -ECONNRESET);
    cr_assert_eq(vouch_conn_try_send_packet(conns[1], "x", 1), -ECONNRESET);
}

Test(conn_packet, what_does_not_fit_is_told_with_its_size) {
    char exact[4];
    send_text("12345678");
    send_text("1234");
    send_text("12345");
    send_text("next");
    cr_assert_eq(vouch_conn_recv_packet(conns[1], exact, sizeof(exact), &packet), -EMSGSIZE);
    cr_assert_eq(packet.size, os_marks_packets ? 8 : 5);
    cr_assert_eq(packet.stored, 4);
    cr_assert_arr_eq(exact, "1234", 4);
    cr_assert_eq(vouch_conn_recv_packet(conns[1], exact, sizeof(exact), &packet), 1);
    cr_assert_eq(packet.size, 4);
    cr_assert_eq(vouch_conn_try_recv_packet(conns[1], exact, sizeof(exact), &packet), -EMSGSIZE);
    cr_assert_eq(packet.size, 5);
    expect_text("next");
    send_text("x");
    cr_assert_eq(vouch_conn_recv_packet(conns[1], NULL, 0, &packet), -EMSGSIZE);
    cr_assert_eq(packet.size, 1);
    cr_assert_eq(packet.stored, 0);
}

static void *send_it(void *context) {
    size_t size = *(size_t *)context;
    char *data = calloc(1, size);
    cr_assert_not_null(data);
    data[size - 1] = 'z';
    cr_assert_eq(vouch_conn_send_packet(conns[0], data, size), 0);
    free(data);
    return NULL;
}

static void check_passes(size_t size) {
    char *room = malloc(size);
    cr_assert_not_null(room);
    pthread_t thread = support_thread_start(send_it, &size);
    cr_assert_eq(vouch_conn_recv_packet(conns[1], room, size, &packet), 1);
    cr_assert_eq(packet.size, size);
    cr_assert_eq(room[size - 1], 'z');
    support_thread_join(thread);
    free(room);
}

static void check_too_large(size_t size) {
    char *data = calloc(1, size);
    cr_assert_not_null(data);
    cr_assert_eq(vouch_conn_send_packet(conns[0], data, size), -EMSGSIZE);
    cr_assert_eq(vouch_conn_try_send_packet(conns[0], data, size), -EMSGSIZE);
    cr_assert_eq(conn_send_now(conns[0], &(struct iovec){data, size}, 1), -EMSGSIZE);
    free(data);
}

Test(conn_packet, the_largest_and_one_byte_more) {
    size_t max = vouch_conn_get_packet_max(conns[0]);
    cr_assert_gt(max, 1024);
    cr_assert_eq(conn_packet_max(conns[0]), max);
    check_passes(max);
    check_too_large(max + 1);
    cr_assert_eq(vouch_conn_send_packet(conns[0], bytes, SIZE_MAX), -EMSGSIZE);
    send_text("and it goes on");
    expect_text("and it goes on");
}

Test(conn_packet, the_largest_can_be_raised_as_far_as_the_system_allows) {
    int small = 16384;
    cr_assert_eq(
        setsockopt(vouch_conn_get_fd(conns[0]), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    size_t before = vouch_conn_get_packet_max(conns[0]), got = 0;
    cr_assert_eq(vouch_conn_raise_packet_max(conns[0], before + 1001, &got), 0);
    cr_assert_geq(got, before + 1001);
    cr_assert_eq(vouch_conn_get_packet_max(conns[0]), got);
    cr_assert_eq(vouch_conn_raise_packet_max(conns[0], 1, &got), 0);
    cr_assert_eq(vouch_conn_get_packet_max(conns[0]), got, "it is not lowered");
    check_passes(got);
    check_too_large(got + 1);
    cr_assert_eq(vouch_conn_raise_packet_max(conns[0], SIZE_MAX, &got), -EMSGSIZE);
    cr_assert_geq(got, before + 1001);
    cr_assert_eq(vouch_conn_get_packet_max(conns[0]), got);
    check_too_large(got + 1);
}

Test(conn_packet, a_full_connection_and_an_empty_one) {
    int sent = 0, result;
    while ((result = vouch_conn_try_send_packet(conns[0], "0123456789", 10)) == 0)
        sent++;
    cr_assert_eq(result, -EAGAIN);
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_WRITE, VOUCH_MILLISECONDS(1)), 0);
    cr_assert_eq(vouch_conn_send_packet(conns[0], "0123456789", 10), -ETIMEDOUT);
    cr_assert_eq(vouch_conn_set_timeout(conns[0], VOUCH_WRITE, VOUCH_FOREVER), 0);
    for (; sent > 0; sent--)
        expect_text("0123456789");
    cr_assert_eq(vouch_conn_set_timeout(conns[1], VOUCH_READ, VOUCH_MILLISECONDS(1)), 0);
    cr_assert_eq(vouch_conn_recv_packet(conns[1], bytes, sizeof(bytes), &packet), -ETIMEDOUT);
    vouch_conn_set_deadline(conns[1], VOUCH_READ, 0);
    cr_assert_eq(vouch_conn_recv_packet(conns[1], bytes, sizeof(bytes), &packet), -ETIMEDOUT);
    cr_assert_eq(vouch_conn_try_recv_packet(conns[1], bytes, sizeof(bytes), &packet), -EAGAIN,
                 "who does not wait has no deadline");
}

static void expect_bytes_refused(struct vouch_conn *conn) {
    uint8_t byte;
    size_t count;
    struct iovec piece = {bytes, 1};
    cr_assert_eq(vouch_conn_read(conn, bytes, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_read(conn, bytes, 0), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_read_exactly(conn, bytes, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_read_byte(conn, &byte), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_write(conn, bytes, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_writev(conn, &piece, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_send_fds(conn, bytes, 1, &(int){0}, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_recv_fds(conn, bytes, 1, &(int){0}, 1, &count), -EOPNOTSUPP);
}

static void expect_packets_refused(struct vouch_conn *conn) {
    size_t max = 7;
    cr_assert_eq(vouch_conn_send_packet(conn, bytes, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_try_send_packet(conn, bytes, 1), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_recv_packet(conn, bytes, 1, &packet), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_try_recv_packet(conn, bytes, 1, &packet), -EOPNOTSUPP);
    cr_assert_eq(vouch_conn_raise_packet_max(conn, 1, &max), -EOPNOTSUPP);
    cr_assert_eq(max, 0);
    cr_assert_eq(vouch_conn_get_packet_max(conn), 0);
}

Test(conn_packet, functions_of_the_other_kind_say_so) {
    struct vouch_conn *streams[2];
    expect_bytes_refused(conns[0]);
    cr_assert_eq(vouch_conn_pair_of(VOUCH_LINK_STREAM, NULL, streams), 0);
    cr_assert_eq(vouch_conn_get_link(streams[0]), VOUCH_LINK_STREAM);
    expect_packets_refused(streams[0]);
    vouch_conn_free(streams[0]);
    vouch_conn_free(streams[1]);
    cr_assert_eq(vouch_conn_pair_of(VOUCH_LINK_TCP, NULL, streams), -EINVAL);
    cr_assert_eq(vouch_conn_pair_of((enum vouch_link)9, NULL, streams), -EINVAL);
}

/* What the layers above use: one call, and a length that may be more than the room. */
Test(conn_packet, the_calls_without_waiting_tell_real_lengths) {
    struct iovec pieces[] = {{"12", 2}, {"3456", 4}};
    cr_assert_eq(conn_recv_now(conns[1], bytes, 4), -EAGAIN);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(conn_send_now(conns[0], pieces, 2), 6);
    cr_assert_eq(conn_recv_now(conns[1], bytes, 6), 6);
    cr_assert_arr_eq(bytes, "123456", 6);
    cr_assert_eq(conn_recv_now(conns[1], bytes, 4), os_marks_packets ? 6 : 5);
    cr_assert_eq(conn_recv_nap(conns[1], bytes, 4), os_marks_packets ? 6 : 5);
    cr_assert_eq(conn_recv_now(conns[1], bytes, 4), -EAGAIN);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(conn_recv_now(conns[1], bytes, 4), 0);
}

static void send_descriptor(int to, int fd) {
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec piece = {"fd", 2};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    ssize_t sent = sendmsg(to, &message, 0);
    cr_assert(sent == 2 || (sent < 0 && errno == EPERM), "%d", errno);
    if (sent < 0)
        cr_assert_eq(send(to, "fd", 2, 0), 2);
}

/* EPERM is SO_PASSRIGHTS of the receiver, where the kernel has it. */
Test(conn_packet, descriptors_never_get_in) {
    for (int passing = 0; passing < 2; passing++) {
        int fds[2];
        cr_assert_eq(os_socketpair(SOCK_SEQPACKET, fds), 0);
        struct vouch_conn_options options = {VOUCH_OPTIONS(options),
                                             .pass_descriptors = passing != 0};
        struct vouch_conn *conn;
        cr_assert_eq(vouch_conn_from_fd(fds[0], &options, &conn), 0);
        size_t open = support_count_fds();
        send_descriptor(fds[1], fds[1]);
        send_descriptor(fds[1], fds[1]);
        cr_assert_eq(vouch_conn_recv_packet(conn, bytes, sizeof(bytes), &packet), 1);
        cr_assert_eq(packet.size, 2);
        cr_assert_eq(conn_recv_now(conn, bytes, sizeof(bytes)), 2);
        cr_assert_eq(support_count_fds(), open);
        vouch_conn_free(conn);
        close(fds[1]);
    }
}

Test(conn_packet, write_only_throws_packets_away_and_sees_the_end) {
    vouch_conn_set_write_only(conns[1]);
    send_text("ignored");
    if (os_marks_packets)
        send_text("");
    static char large[8192];
    cr_assert_eq(vouch_conn_send_packet(conns[0], large, sizeof(large)), 0);
    cr_assert_eq(vouch_conn_send_packet(conns[1], "x", 1), 0);
    cr_assert_eq(vouch_conn_recv_packet(conns[1], bytes, sizeof(bytes), &packet), -EPERM);
    cr_assert_eq(vouch_conn_wait_closed(conns[1], vouch_now()), -ETIMEDOUT);
    cr_assert_eq(vouch_conn_shutdown_write(conns[0]), 0);
    cr_assert_eq(vouch_conn_send_packet(conns[1], "x", 1), -ECONNRESET);
    cr_assert_eq(vouch_conn_wait_closed(conns[1], VOUCH_FOREVER), 0);
}

static void *receive(void *context) {
    (void)context;
    return (void *)(intptr_t)vouch_conn_recv_packet(conns[1], bytes, sizeof(bytes), &packet);
}

Test(conn_packet, closing_wakes_the_receiver) {
    pthread_t thread = support_thread_start(receive, NULL);
    vouch_conn_close(conns[1]);
    cr_assert_eq((intptr_t)support_thread_join(thread), -ESHUTDOWN);
    cr_assert_eq(vouch_conn_send_packet(conns[1], "x", 1), -ESHUTDOWN);
    cr_assert_eq(vouch_conn_raise_packet_max(conns[1], 1, NULL), -ESHUTDOWN);
}

static int use_after_fork(void *context) {
    (void)context;
    return vouch_conn_send_packet(conns[0], "x", 1) == -ECHILD &&
                   vouch_conn_recv_packet(conns[1], bytes, 1, &packet) == -ECHILD
               ? 0
               : 1;
}

Test(conn_packet, not_in_a_forked_child) {
    cr_assert_eq(peers_run(use_after_fork, NULL), 0);
}

Test(conn_packet, listening_and_dialling) {
    char path[SUPPORT_PATH_MAX];
    support_temp_path(path, "s");
    const struct vouch_listen_options listen = {VOUCH_OPTIONS(listen),
                                                .link = VOUCH_LINK_SEQPACKET};
    const struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .link = VOUCH_LINK_SEQPACKET};
    struct vouch_listener *listener = peers_must_listen(path, &listen), *other;
    struct vouch_conn *client;
    struct vouch_error error;
    cr_assert_eq(vouch_dial(path, NULL, &client, &error), -EPROTOTYPE);
    cr_assert_not_null(strstr(error.message, path));
    cr_assert_eq(vouch_listen(path, NULL, &other, &error), VOUCH_E_ADDRESS_LOCKED);
    cr_assert_eq(vouch_dial(path, &dial, &client, &error), 0);
    struct vouch_conn *server = peers_must_accept(listener);
    cr_assert_eq(vouch_conn_get_link(client), VOUCH_LINK_SEQPACKET);
    cr_assert_eq(vouch_conn_get_link(server), VOUCH_LINK_SEQPACKET);
    cr_assert_eq(vouch_conn_get_peer(server)->uid, geteuid());
    cr_assert_eq(vouch_conn_send_packet(client, "hello", 5), 0);
    cr_assert_eq(vouch_conn_recv_packet(server, bytes, sizeof(bytes), &packet), 1);
    cr_assert_eq(packet.size, 5);
    vouch_conn_free(client);
    vouch_conn_free(server);
    vouch_listener_free(listener);
}

Test(conn_packet, links_that_a_path_can_not_have) {
    char path[SUPPORT_PATH_MAX];
    support_temp_path(path, "s");
    const struct vouch_listen_options listen = {VOUCH_OPTIONS(listen), .link = VOUCH_LINK_TCP};
    const struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .link = (enum vouch_link)3};
    struct vouch_listener *listener;
    struct vouch_conn *client;
    struct vouch_error error;
    cr_assert_eq(vouch_listen(path, &listen, &listener, &error), -EINVAL);
    cr_assert_not_null(strstr(error.message, "link 2"));
    cr_assert_eq(vouch_dial(path, &dial, &client, &error), -EINVAL);
    cr_assert_not_null(strstr(error.message, "link 3"));
}

Test(conn_packet, a_listening_descriptor_from_elsewhere) {
    char path[SUPPORT_PATH_MAX];
    support_temp_path(path, "s");
    int fd = os_socket(AF_UNIX, SOCK_SEQPACKET);
    struct address_sockaddr at;
    cr_assert_eq(address_of_path(path, &at), 0);
    cr_assert_eq(bind(fd, (const struct sockaddr *)&at.un, at.length), 0);
    struct vouch_listener *listener;
    cr_assert_eq(vouch_listen_fd(fd, NULL, &listener, NULL), VOUCH_E_NOT_LISTENING);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(vouch_listen_fd(fd, NULL, &listener, NULL), 0);
    const struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .link = VOUCH_LINK_SEQPACKET};
    struct vouch_conn *client;
    cr_assert_eq(vouch_dial(path, &dial, &client, NULL), 0);
    struct vouch_conn *server = peers_must_accept(listener);
    cr_assert_eq(vouch_conn_get_link(server), VOUCH_LINK_SEQPACKET);
    vouch_conn_free(client);
    vouch_conn_free(server);
    vouch_listener_free(listener);
}
