/* SPDX-License-Identifier: MIT */
/* Datagrams in a foreign loop: on_writable comes when there is room, once, for whom it was asked,
 * and a loop that polls as it is told does not spin meanwhile. */
#include "lib/datagram.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/support.h"

#define MANY (VOUCH_DATAGRAM_CONGESTED_MAX + 2)

static struct vouch_datagram *receivers[MANY], *sender;
static int calls, rest_calls;
static struct vouch_datagram_address last;
static bool last_is_default, close_in_callback;

static void note_writable(void *context, const struct vouch_datagram_address *to) {
    cr_assert_eq(context, &calls);
    calls++;
    last_is_default = !to;
    rest_calls += to && to->size == 0;
    if (to)
        last = *to;
    if (close_in_callback)
        vouch_datagram_close(sender);
}

static struct vouch_datagram *must_open(struct vouch_datagram_options *options) {
    struct vouch_datagram *datagram;
    struct vouch_error error;
    options->allow_senders_without_identity = !datagram_tells_sender;
    cr_assert_eq(vouch_datagram_open(options, &datagram, &error), 0, "%s", error.message);
    return datagram;
}

static void open_receiver(int i) {
    char name[32], path[SUPPORT_PATH_MAX];
    snprintf(name, sizeof(name), "%d", i);
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options),
                                             .address = support_temp_path(path, name)};
    receivers[i] = must_open(&options);
}

static void setup(void) {
    support_baseline_begin();
    open_receiver(0);
    open_receiver(1);
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options), .on_writable = note_writable,
                                             .context = &calls};
    sender = must_open(&options);
}

static void teardown(void) {
    vouch_datagram_free(sender);
    for (int i = 0; i < MANY; i++)
        vouch_datagram_free(receivers[i]);
    support_baseline_end();
}

TestSuite(datagram_loop, .init = setup, .fini = teardown);

static const struct vouch_datagram_address *address_of(int i) {
    return vouch_datagram_get_address(receivers[i]);
}

static int fill(const struct vouch_datagram_address *to) {
    int r, count = 0;
    while ((r = vouch_datagram_try_send(sender, to, "x", 1, NULL)) == 0)
        count++;
    cr_assert_eq(r, -EAGAIN);
    return count;
}

static void drain(int i) {
    char byte;
    struct vouch_datagram_message message;
    while (vouch_datagram_try_recv(receivers[i], &byte, 1, &message) != -EAGAIN)
        continue;
}

/* One turn of a loop, for at most `most`; whether the descriptor was ready. */
static bool turn(int64_t most) {
    struct pollfd entry = {.fd = vouch_datagram_get_fd(sender),
                           .events = vouch_datagram_get_events(sender)};
    int64_t timeout = vouch_datagram_get_timeout(sender);
    int64_t deadline = vouch_deadline_in(timeout < most ? timeout : most);
    int ready = poll(&entry, 1, clock_poll_timeout(vouch_now(), deadline));
    cr_assert_geq(vouch_datagram_process(sender), 0);
    return ready > 0;
}

static void turn_until_called(int times) {
    while (calls < times)
        (void)turn(VOUCH_FOREVER);
    cr_assert_eq(calls, times);
}

Test(datagram_loop, told_once_when_there_is_room) {
    cr_assert_gt(fill(address_of(0)), 0);
    cr_assert_eq(vouch_datagram_try_send(sender, address_of(0), "x", 1, NULL), -EAGAIN);
    if (datagram_poll_is_true) {
        cr_assert_not(turn(0), "no room yet");
        cr_assert_eq(calls, 0);
        cr_assert_eq(vouch_datagram_get_timeout(sender), VOUCH_FOREVER);
    }
    drain(0);
    turn_until_called(1);
    cr_assert_not(last_is_default);
    cr_assert_str_eq(last.text, address_of(0)->text);
    cr_assert_eq(vouch_datagram_get_timeout(sender), VOUCH_FOREVER);
    cr_assert_not(turn(0), "and silence after that");
    cr_assert_eq(calls, 1);
    cr_assert_eq(vouch_datagram_try_send(sender, address_of(0), "x", 1, NULL), 0);
}

Test(datagram_loop, for_the_one_that_has_room) {
    if (!datagram_poll_is_true)
        cr_skip_test("nothing tells which has room here");
    (void)fill(address_of(0));
    (void)fill(address_of(1));
    drain(1);
    turn_until_called(1);
    cr_assert_str_eq(last.text, address_of(1)->text);
    cr_assert_not(turn(0));
    drain(0);
    turn_until_called(2);
    cr_assert_str_eq(last.text, address_of(0)->text);
}

Test(datagram_loop, the_default_destination) {
    cr_assert_eq(vouch_datagram_connect(sender, address_of(0), NULL), 0);
    (void)fill(NULL);
    if (datagram_poll_is_true)
        cr_assert_not(turn(0));
    drain(0);
    turn_until_called(1);
    cr_assert(last_is_default);
    cr_assert_not(turn(0));
}

Test(datagram_loop, a_destination_that_went_is_news_too) {
    (void)fill(address_of(0));
    struct vouch_datagram_address gone = *address_of(0);
    vouch_datagram_free(receivers[0]);
    receivers[0] = NULL;
    turn_until_called(1);
    int r = vouch_datagram_try_send(sender, &gone, "x", 1, NULL);
    cr_assert_eq(r, -ENOENT);
}

/* Our own buffer, full of what somebody does not read, is in the way of all. */
Test(datagram_loop, our_own_buffer) {
    static char large[1024];
    int small = 1, r;
    cr_assert_eq(setsockopt(sender->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    while ((r = vouch_datagram_try_send(sender, address_of(0), large, sizeof(large), NULL)) == 0)
        continue;
    cr_assert_eq(r, -EAGAIN);
    cr_assert_eq(vouch_datagram_try_send(sender, address_of(1), large, sizeof(large), NULL),
                 -EAGAIN);
    if (datagram_poll_is_true)
        cr_assert_not(turn(0));
    drain(0);
    turn_until_called(2);
    cr_assert_not(turn(0));
}

/* Their queues are full of what others have sent: our own buffer is not in the way. */
static void fill_for_others(int first, int end) {
    for (int i = first; i < end; i++) {
        struct vouch_datagram_options options = {VOUCH_OPTIONS(options)};
        struct vouch_datagram *other = must_open(&options);
        while (vouch_datagram_try_send(other, address_of(i), "x", 1, NULL) == 0)
            continue;
        vouch_datagram_free(other);
    }
}

static void expect_congested(int first, int end) {
    for (int i = first; i < end; i++)
        cr_assert_eq(vouch_datagram_try_send(sender, address_of(i), "x", 1, NULL), -EAGAIN);
}

static void turn_until_rest_is_called(void) {
    int before = rest_calls;
    while (rest_calls == before)
        (void)turn(VOUCH_FOREVER);
}

/* Who never reads holds a place, and nobody else needs one: all are told. */
Test(datagram_loop, beyond_the_limit_who_waits_is_told_to_try_again) {
    for (int i = 2; i < MANY; i++)
        open_receiver(i);
    fill_for_others(0, MANY);
    expect_congested(0, VOUCH_DATAGRAM_CONGESTED_MAX);
    if (datagram_poll_is_true)
        cr_assert_eq(vouch_datagram_get_timeout(sender), VOUCH_FOREVER, "all are remembered");
    expect_congested(VOUCH_DATAGRAM_CONGESTED_MAX, MANY);
    cr_assert_leq(vouch_datagram_get_timeout(sender), DATAGRAM_RETRY);
    turn_until_rest_is_called();
    if (datagram_poll_is_true) {
        cr_assert_eq(calls, 1, "nobody has room");
        cr_assert_eq(vouch_datagram_get_timeout(sender), VOUCH_FOREVER, "nobody has asked again");
        cr_assert_not(turn(0));
    }
    expect_congested(0, MANY);
    for (int i = VOUCH_DATAGRAM_CONGESTED_MAX; i < MANY; i++)
        drain(i);
    turn_until_rest_is_called();
    for (int i = VOUCH_DATAGRAM_CONGESTED_MAX; i < MANY; i++)
        cr_assert_eq(vouch_datagram_try_send(sender, address_of(i), "x", 1, NULL), 0);
}

Test(datagram_loop, the_last_place_is_one_like_the_others) {
    if (!datagram_poll_is_true)
        cr_skip_test("nothing tells which has room here");
    const int at = VOUCH_DATAGRAM_CONGESTED_MAX - 1;
    for (int i = 2; i <= at; i++)
        open_receiver(i);
    fill_for_others(0, at + 1);
    expect_congested(0, at + 1);
    drain(at);
    turn_until_called(1);
    cr_assert_str_eq(last.text, address_of(at)->text);
    cr_assert_eq(rest_calls, 0);
}

Test(datagram_loop, without_memory_who_waits_is_told_to_try_again) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    vouch_datagram_free(sender);
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options),
                                             .allocator = &allocator.allocator,
                                             .on_writable = note_writable, .context = &calls};
    sender = must_open(&options);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ALWAYS);
    (void)fill(address_of(0));
    drain(0);
    turn_until_rest_is_called();
    support_allocator_fail(&allocator, 0, 0);
    (void)fill(address_of(0));
    drain(0);
    turn_until_called(2);
    cr_assert_str_eq(last.text, address_of(0)->text);
    vouch_datagram_free(sender);
    sender = NULL;
    support_allocator_check(&allocator);
}

Test(datagram_loop, the_end_shows) {
    (void)fill(address_of(0));
    (void)fill(address_of(1));
    close_in_callback = true;
    drain(0);
    drain(1);
    while (calls == 0)
        (void)turn(VOUCH_FOREVER);
    cr_assert_eq(calls, 1, "no more after the end");
    cr_assert_eq(vouch_datagram_process(sender), -ESHUTDOWN);
}

Test(datagram_loop, messages_make_the_descriptor_ready) {
    char path[SUPPORT_PATH_MAX], byte;
    vouch_datagram_free(sender);
    struct vouch_datagram_options options = {VOUCH_OPTIONS(options),
                                             .address = support_temp_path(path, "own"),
                                             .on_writable = note_writable, .context = &calls};
    sender = must_open(&options);
    cr_assert_not(turn(0));
    cr_assert_eq(
        vouch_datagram_send(receivers[0], vouch_datagram_get_address(sender), "x", 1, 0, NULL), 0);
    cr_assert(turn(VOUCH_FOREVER));
    struct vouch_datagram_message message;
    cr_assert_eq(vouch_datagram_try_recv(sender, &byte, 1, &message), 0);
    cr_assert_not(turn(0));
    cr_assert_eq(calls, 0);
}

/* Where a descriptor can't be had the time does. */
Test(datagram_loop, without_descriptors_it_is_tried_again) {
    if (!datagram_poll_is_true)
        cr_skip_test("it is always so here");
    const struct faults_plan plan = {
        .symbol = "socket", .call = 1, .repeat = FAULTS_ALWAYS, .error = EMFILE};
    faults_begin(&plan);
    (void)fill(address_of(0));
    cr_assert_gt(faults_end(), 0);
    int64_t timeout = vouch_datagram_get_timeout(sender);
    cr_assert_leq(timeout, DATAGRAM_RETRY);
    drain(0);
    turn_until_called(1);
}
