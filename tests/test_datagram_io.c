/* SPDX-License-Identifier: MIT */
/* Datagrams, sent and received: whole or not at all, with their senders, and nobody waits for a
 * receiver longer than told. */
#include "lib/datagram.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vouch/conn.h>

#include "lib/socket.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

#define BYTES 64
#define NOW 0 /* a deadline that is past */

static char path[SUPPORT_PATH_MAX];
static struct vouch_datagram *receiver, *sender;
static struct vouch_datagram_address to;
static struct vouch_datagram_message message;
static struct vouch_error error;
static char bytes[BYTES];

static struct vouch_datagram *must_open(struct vouch_datagram_options *options) {
    struct vouch_datagram *datagram;
    options->allow_senders_without_identity = !datagram_tells_sender;
    cr_assert_eq(vouch_datagram_open(options, &datagram, &error), 0, "%s", error.message);
    return datagram;
}

static void setup(void) {
    support_baseline_begin();
    support_temp_path(path, "d");
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .address = path};
    receiver = must_open(&options);
    sender = must_open(&(struct vouch_datagram_options){VOUCH_OPTIONS(options)});
    cr_assert_eq(vouch_datagram_address_of(path, &to, &error), 0);
}

static void teardown(void) {
    vouch_datagram_free(receiver);
    vouch_datagram_free(sender);
    support_baseline_end();
}

TestSuite(datagram_io, .init = setup, .fini = teardown);

static int send_text(const char *text) {
    return vouch_datagram_send(sender, &to, text, strlen(text), NOW, &error);
}

static void expect_text(const char *text) {
    cr_assert_eq(vouch_datagram_recv(receiver, bytes, sizeof(bytes), VOUCH_FOREVER, &message), 0);
    cr_assert_eq(message.size, strlen(text));
    cr_assert_eq(message.stored, strlen(text));
    cr_assert_eq(memcmp(bytes, text, message.size), 0);
}

static struct vouch_datagram_stats stats_of(const struct vouch_datagram *datagram) {
    struct vouch_datagram_stats stats;
    vouch_datagram_get_stats(datagram, &stats);
    return stats;
}

Test(datagram_io, whole_in_order_and_with_their_sender) {
    cr_assert_eq(send_text("one"), 0);
    cr_assert_eq(send_text(""), 0);
    cr_assert_eq(vouch_datagram_try_send(sender, &to, NULL, 0, NULL), 0);
    cr_assert_eq(send_text("another"), 0);
    expect_text("one");
    cr_assert_eq(message.from.size, 0, "a sender without an address");
    if (datagram_tells_sender) {
        cr_assert_eq(message.sender.known, VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_PID);
        cr_assert_eq(message.sender.uid, geteuid());
        cr_assert_eq(message.sender.gid, getegid());
        cr_assert_eq(message.sender.pid, getpid());
    } else {
        cr_assert_eq(message.sender.known, 0);
    }
    cr_assert_eq(message.sender.pidfd, -1);
    expect_text("");
    expect_text("");
    expect_text("another");
    cr_assert_eq(vouch_datagram_try_recv(receiver, bytes, sizeof(bytes), &message), -EAGAIN);
    cr_assert_eq(vouch_datagram_recv(receiver, bytes, sizeof(bytes), NOW, &message), -ETIMEDOUT);
    cr_assert_eq(stats_of(sender).sent, 4);
    cr_assert_eq(stats_of(receiver).received, 4);
}

Test(datagram_io, a_sender_with_a_path_can_be_answered) {
    char own[SUPPORT_PATH_MAX];
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options),
                                             .address = support_temp_path(own, "client")};
    struct vouch_datagram *client = must_open(&options);
    cr_assert_eq(vouch_datagram_send(client, &to, "?", 1, NOW, NULL), 0);
    expect_text("?");
    cr_assert_str_eq(message.from.text, own);
    cr_assert_eq(message.from.size, strlen(own));
    cr_assert_eq(vouch_datagram_send(receiver, &message.from, "!", 1, NOW, NULL), 0);
    cr_assert_eq(vouch_datagram_recv(client, bytes, sizeof(bytes), NOW, &message), 0);
    cr_assert_str_eq(message.from.text, path);
    vouch_datagram_free(client);
}

Test(datagram_io, what_does_not_fit_is_told_with_its_size) {
    cr_assert_eq(send_text("12345678"), 0);
    cr_assert_eq(send_text("1234"), 0);
    cr_assert_eq(send_text("1"), 0);
    cr_assert_eq(vouch_datagram_recv(receiver, bytes, 4, NOW, &message), -EMSGSIZE);
    cr_assert_eq(message.size, os_marks_packets ? 8 : 5);
    cr_assert_eq(message.stored, 4);
    cr_assert_eq(vouch_datagram_recv(receiver, bytes, 4, NOW, &message), 0);
    cr_assert_eq(message.size, 4);
    cr_assert_eq(vouch_datagram_recv(receiver, NULL, 0, NOW, &message), -EMSGSIZE);
    cr_assert_eq(message.size, 1);
    cr_assert_eq(stats_of(receiver).received, 3);
    cr_assert_eq(stats_of(receiver).truncated, 2);
}

Test(datagram_io, the_largest_and_one_byte_more) {
    static char data[VOUCH_PACKET_SIZE_BOUND + 1];
    size_t max = vouch_datagram_get_packet_max(sender), got;
    cr_assert_lt(max, sizeof(data));
    cr_assert_eq(vouch_datagram_send(sender, &to, data, max, NOW, &error), 0);
    cr_assert_eq(vouch_datagram_send(sender, &to, data, max + 1, NOW, &error), -EMSGSIZE);
    char number[32];
    snprintf(number, sizeof(number), "at most %zu ", max);
    cr_assert_not_null(strstr(error.message, number), "%s", error.message);
    cr_assert_not_null(strstr(error.message, path), "%s", error.message);
    cr_assert_eq(vouch_datagram_try_send(sender, &to, data, SIZE_MAX, NULL), -EMSGSIZE);
    cr_assert_eq(vouch_datagram_raise_packet_max(sender, SIZE_MAX, &got), -EMSGSIZE);
    cr_assert_geq(got, max);
    cr_assert_eq(vouch_datagram_raise_packet_max(sender, got, &got), 0);
    cr_assert_eq(vouch_datagram_get_packet_max(sender), got);
    cr_assert_eq(vouch_datagram_recv(receiver, data, sizeof(data), NOW, &message), 0);
    cr_assert_eq(message.size, max);
    cr_assert_eq(vouch_datagram_send(sender, &to, data, got, NOW, &error), 0);
    cr_assert_eq(vouch_datagram_recv(receiver, data, sizeof(data), NOW, &message), 0);
    cr_assert_eq(message.size, got);
}

static int fill_the_queue(void) {
    int count = 0, r;
    while ((r = vouch_datagram_try_send(sender, &to, "x", 1, &error)) == 0)
        count++;
    cr_assert_eq(r, -EAGAIN);
    cr_assert_not_null(strstr(error.message, path));
    return count;
}

Test(datagram_io, a_full_queue_of_somebody_who_does_not_read) {
    int count = fill_the_queue();
    cr_assert_gt(count, 0);
    cr_assert_eq(send_text("x"), -ETIMEDOUT);
    cr_assert_eq(
        vouch_datagram_send(sender, &to, "x", 1, vouch_deadline_in(VOUCH_MILLISECONDS(5)), &error),
        -ETIMEDOUT);
    cr_assert_not_null(strstr(error.message, path));
    cr_assert_geq(stats_of(sender).congested, 3);
    for (int i = 0; i < count; i++)
        expect_text("x");
    cr_assert_eq(vouch_datagram_try_recv(receiver, bytes, sizeof(bytes), &message), -EAGAIN);
    cr_assert_eq(send_text("room again"), 0);
}

static void *send_waiting(void *context) {
    struct vouch_datagram_address *address = context;
    return (void *)(intptr_t)vouch_datagram_send(sender, address, "late", 4, VOUCH_FOREVER, &error);
}

Test(datagram_io, who_waits_for_room_gets_it) {
    int count = fill_the_queue();
    pthread_t thread = support_thread_start(send_waiting, &to);
    for (int i = 0; i < count; i++)
        expect_text("x");
    expect_text("late");
    cr_assert_eq((intptr_t)support_thread_join(thread), 0);
}

Test(datagram_io, who_waits_learns_that_the_receiver_went) {
    (void)fill_the_queue();
    pthread_t thread = support_thread_start(send_waiting, &to);
    while (stats_of(sender).congested < 2)
        sched_yield();
    vouch_datagram_free(receiver);
    receiver = NULL;
    intptr_t r = (intptr_t)support_thread_join(thread);
    cr_assert(r == -ENOENT || r == -ECONNREFUSED, "%ld", (long)r);
    cr_assert_not_null(strstr(error.message, path));
}

/* How often it tried is what a spin would show. */
Test(datagram_io, waiting_does_not_spin) {
    (void)fill_the_queue();
    uint64_t before = stats_of(sender).congested;
    cr_assert_eq(
        vouch_datagram_send(sender, &to, "x", 1, vouch_deadline_in(VOUCH_MILLISECONDS(200)), NULL),
        -ETIMEDOUT);
    uint64_t tries = stats_of(sender).congested - before;
    cr_assert_lt(tries, datagram_poll_is_true ? 4 : 50, "%llu", (unsigned long long)tries);
}

Test(datagram_io, a_default_destination) {
    cr_assert_eq(vouch_datagram_send(sender, NULL, "x", 1, NOW, &error), -EDESTADDRREQ);
    cr_assert_eq(vouch_datagram_connect(sender, &to, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_datagram_send(sender, NULL, "x", 1, NOW, &error), 0);
    expect_text("x");
    int r, count = 0;
    while ((r = vouch_datagram_try_send(sender, NULL, "x", 1, &error)) == 0)
        count++;
    cr_assert_eq(r, -EAGAIN);
    pthread_t thread = support_thread_start(send_waiting, NULL);
    for (int i = 0; i < count; i++)
        expect_text("x");
    expect_text("late");
    cr_assert_eq((intptr_t)support_thread_join(thread), 0);
}

Test(datagram_io, a_default_destination_that_goes) {
    cr_assert_eq(vouch_datagram_connect(sender, &to, &error), 0);
    vouch_datagram_free(receiver);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(vouch_datagram_send(sender, NULL, "x", 1, VOUCH_FOREVER, &error),
                     -ECONNREFUSED);
        cr_assert_not_null(strstr(error.message, path), "%s", error.message);
    }
    cr_assert_eq(stats_of(sender).unreachable, 3);
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .address = path};
    receiver = must_open(&options);
    cr_assert_eq(vouch_datagram_send(sender, NULL, "x", 1, NOW, &error), -ECONNREFUSED);
    cr_assert_eq(vouch_datagram_connect(sender, &to, &error), 0);
    cr_assert_eq(vouch_datagram_send(sender, NULL, "new", 3, NOW, &error), 0);
    expect_text("new");
}

Test(datagram_io, nobody_there) {
    struct vouch_datagram_address nowhere;
    char other[SUPPORT_PATH_MAX];
    cr_assert_eq(vouch_datagram_address_of(support_temp_path(other, "nowhere"), &nowhere, NULL), 0);
    cr_assert_eq(vouch_datagram_send(sender, &nowhere, "x", 1, VOUCH_FOREVER, &error), -ENOENT);
    cr_assert_not_null(strstr(error.message, other));
    int dead = os_socket(AF_UNIX, SOCK_DGRAM);
    struct address_sockaddr at;
    cr_assert_eq(address_of_path(other, &at), 0);
    cr_assert_eq(bind(dead, (const struct sockaddr *)&at.un, at.length), 0);
    close(dead);
    cr_assert_eq(vouch_datagram_send(sender, &nowhere, "x", 1, VOUCH_FOREVER, &error),
                 -ECONNREFUSED);
    cr_assert_not_null(strstr(error.message, other));
    cr_assert_eq(stats_of(sender).unreachable, 2);
    cr_assert_eq(unlink(other), 0);
    int stream = peers_listen(other, 1);
    cr_assert_eq(vouch_datagram_send(sender, &nowhere, "x", 1, VOUCH_FOREVER, &error), -EPROTOTYPE);
    close(stream);
    nowhere.size = 0;
    cr_assert_eq(vouch_datagram_send(sender, &nowhere, "x", 1, NOW, &error), -EINVAL);
    cr_assert_eq(vouch_datagram_connect(sender, &nowhere, &error), -EINVAL);
}

static void *recv_waiting(void *context) {
    (void)context;
    return (void *)(intptr_t)vouch_datagram_recv(receiver, bytes, sizeof(bytes), VOUCH_FOREVER,
                                                 &message);
}

Test(datagram_io, closing_wakes_who_waits) {
    pthread_t receiving = support_thread_start(recv_waiting, NULL);
    vouch_datagram_close(receiver);
    vouch_datagram_close(receiver);
    cr_assert_eq((intptr_t)support_thread_join(receiving), -ESHUTDOWN);
    cr_assert_eq(vouch_datagram_recv(receiver, bytes, 1, VOUCH_FOREVER, &message), -ESHUTDOWN);
    cr_assert_eq(vouch_datagram_send(receiver, &to, "x", 1, VOUCH_FOREVER, NULL), -ESHUTDOWN);
    cr_assert_not(peers_exists(path));
    cr_assert_eq(send_text("x"), -ENOENT);
}

Test(datagram_io, closing_wakes_who_waits_for_room) {
    (void)fill_the_queue();
    pthread_t thread = support_thread_start(send_waiting, &to);
    while (stats_of(sender).congested < 2)
        sched_yield();
    vouch_datagram_close(sender);
    cr_assert_eq((intptr_t)support_thread_join(thread), -ESHUTDOWN);
}

static int send_as_another(void *context) {
    (void)context;
    peers_become(PEERS_UID, PEERS_GID);
    struct vouch_datagram *other;
    if (vouch_datagram_open(NULL, &other, NULL) < 0)
        return 1;
    int sent = 0;
    while (sent < 3 && vouch_datagram_send(other, &to, "mine", 4, VOUCH_FOREVER, NULL) == 0)
        sent++;
    vouch_datagram_free(other);
    return sent;
}

Test(datagram_io, messages_of_others_are_dropped_and_counted) {
    if (!datagram_tells_sender)
        cr_skip_test("nobody says who sends here");
    peers_need_root();
    cr_assert_eq(chmod(support_temp_dir(), 0755), 0);
    cr_assert_eq(chmod(path, 0666), 0);
    cr_assert_eq(peers_run(send_as_another, NULL), 3);
    cr_assert_eq(send_text("ours"), 0);
    expect_text("ours");
    cr_assert_eq(stats_of(receiver).refused_policy, 3);
    cr_assert_eq(stats_of(receiver).received, 1);
}

Test(datagram_io, a_policy_for_others) {
    if (!datagram_tells_sender)
        cr_skip_test("nobody says who sends here");
    peers_need_root();
    vouch_datagram_free(receiver);
    cr_assert_eq(chmod(support_temp_dir(), 0755), 0);
    const struct vouch_rule rule = {VOUCH_ALLOW, VOUCH_SUBJECT_PRIMARY_GID, PEERS_GID};
    const struct vouch_policy policy = {&rule, 1};
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .address = path,
                                             .policy = &policy, .mode = 0666};
    receiver = must_open(&options);
    cr_assert_eq(send_text("root's"), 0);
    cr_assert_eq(peers_run(send_as_another, NULL), 3);
    for (int i = 0; i < 3; i++) {
        expect_text("mine");
        cr_assert_eq(message.sender.uid, PEERS_UID);
        cr_assert_eq(message.sender.gid, PEERS_GID);
    }
    cr_assert_eq(stats_of(receiver).refused_policy, 1);
}

Test(datagram_io, a_flood_of_others_does_not_hold_a_deadline_up) {
    if (!datagram_tells_sender)
        cr_skip_test("nobody says who sends here");
    vouch_datagram_free(receiver);
    const struct vouch_policy nobody = {NULL, 0};
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .address = path,
                                             .policy = &nobody};
    receiver = must_open(&options);
    int count = fill_the_queue();
    cr_assert_eq(vouch_datagram_recv(receiver, bytes, sizeof(bytes), NOW, &message), -ETIMEDOUT);
    cr_assert_eq(stats_of(receiver).refused_policy, (uint64_t)count);
    cr_assert_eq(stats_of(receiver).received, 0);
}

static atomic_bool flooding;

static void *flood(void *context) {
    (void)context;
    while (atomic_load(&flooding))
        (void)!vouch_datagram_try_send(sender, &to, "x", 1, NULL);
    return NULL;
}

/* Its messages are never handed out, and there is always another one. */
Test(datagram_io, a_flood_that_does_not_end_does_not_hold_a_deadline_up) {
    if (!datagram_tells_sender)
        cr_skip_test("nobody says who sends here");
    vouch_datagram_free(receiver);
    const struct vouch_policy nobody = {NULL, 0};
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .address = path,
                                             .policy = &nobody};
    receiver = must_open(&options);
    atomic_store(&flooding, true);
    pthread_t thread = support_thread_start(flood, NULL);
    while (stats_of(receiver).refused_policy < 1000)
        cr_assert_eq(vouch_datagram_recv(receiver, bytes, sizeof(bytes),
                                         vouch_deadline_in(VOUCH_MILLISECONDS(5)), &message),
                     -ETIMEDOUT);
    atomic_store(&flooding, false);
    support_thread_join(thread);
    cr_assert_eq(stats_of(receiver).received, 0);
}

/* Threads that send and threads that receive: nothing is lost, nothing comes twice. */
enum { SENDERS = 4, EACH = 500 };

static void *send_numbers(void *context) {
    uint32_t first = (uint32_t)(uintptr_t)context * EACH;
    for (uint32_t i = 0; i < EACH; i++) {
        uint32_t number = first + i;
        if (vouch_datagram_send(sender, &to, &number, sizeof(number), VOUCH_FOREVER, NULL) < 0)
            return "not sent";
    }
    return NULL;
}

static atomic_int seen[SENDERS * EACH];
static atomic_int seen_count;

static void *receive_numbers(void *context) {
    (void)context;
    for (;;) {
        uint32_t number;
        struct vouch_datagram_message one;
        if (vouch_datagram_recv(receiver, &number, sizeof(number), VOUCH_FOREVER, &one) != 0)
            return NULL;
        atomic_fetch_add(&seen[number], 1);
        if (atomic_fetch_add(&seen_count, 1) + 1 == SENDERS * EACH)
            vouch_datagram_close(receiver);
    }
}

Test(datagram_io, many_threads_on_both_ends) {
    pthread_t senders[SENDERS], receivers[2];
    for (int i = 0; i < 2; i++)
        receivers[i] = support_thread_start(receive_numbers, NULL);
    for (uintptr_t i = 0; i < SENDERS; i++)
        senders[i] = support_thread_start(send_numbers, (void *)i);
    for (int i = 0; i < SENDERS; i++)
        cr_assert_null(support_thread_join(senders[i]));
    for (int i = 0; i < 2; i++)
        support_thread_join(receivers[i]);
    for (int i = 0; i < SENDERS * EACH; i++)
        cr_assert_eq(atomic_load(&seen[i]), 1);
}

static int use_after_fork(void *context) {
    (void)context;
    bool ok = vouch_datagram_send(sender, &to, "x", 1, NOW, NULL) == -ECHILD &&
              vouch_datagram_try_recv(receiver, bytes, 1, &message) == -ECHILD &&
              vouch_datagram_connect(sender, &to, NULL) == -ECHILD &&
              vouch_datagram_process(receiver) == -ECHILD;
    vouch_datagram_free(receiver);
    return ok ? 0 : 1;
}

Test(datagram_io, a_forked_child_may_only_let_go) {
    cr_assert_eq(peers_run(use_after_fork, NULL), 0);
    cr_assert(peers_exists(path));
    cr_assert_eq(send_text("still here"), 0);
    expect_text("still here");
}
