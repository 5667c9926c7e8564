/* SPDX-License-Identifier: MIT */
/* Loops of the program's own, alone and beside threads that make calls. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include "lib/os.h"
#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;
static struct vouch_janus *janus;

static void begin(bool answering, const struct vouch_janus_options *options) {
    janus_gateway_begin(&gateway);
    if (answering)
        janus_gateway_answer(&gateway);
    janus = janus_gateway_client(&gateway, options);
}

static void end(void) {
    vouch_janus_free(janus);
    janus_gateway_end(&gateway);
}

/* ---- a loop of the program's own ---- */

/* What a loop waits for. */
struct interest {
    struct pollfd fds[2];
    int64_t timeout;
};

static struct interest look(void) {
    return (struct interest){
        .fds = {{.fd = vouch_janus_get_fd(janus), .events = vouch_janus_get_events(janus)},
                {.fd = vouch_janus_get_wake_fd(janus), .events = POLLIN}},
        .timeout = vouch_janus_get_timeout(janus)};
}

#define LONG 20000 /* ms, and nobody waits for it */

static bool is_woken(struct interest *interest, int ms) {
    int ready = poll(interest->fds, 2, ms);
    cr_assert_geq(ready, 0);
    return ready > 0;
}

static void turn(void) {
    struct interest interest = look();
    bool soon = interest.timeout < VOUCH_MILLISECONDS(LONG);
    (void)is_woken(&interest, soon ? (int)((interest.timeout + 999999) / 1000000) : LONG);
    cr_assert_geq(vouch_janus_process(janus), 0);
}

static void *pings(void *context) {
    int result = 0;
    for (intptr_t i = 0; i < (intptr_t)context && result == 0; i++)
        result = vouch_janus_ping(janus, NULL, NULL);
    return (void *)(intptr_t)result;
}

Test(janus_loop, in_a_loop) {
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    const struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    struct janus_outcome outcome = {0}, late = {0};
    begin(false, NULL);
    int fd = vouch_janus_get_fd(janus);
    cr_assert_geq(fd, 0);
    cr_assert_eq(vouch_janus_get_events(janus), POLLIN);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, &soon, janus_outcome_callback, &late, NULL),
                 0);
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    while (outcome.callbacks == 0 || late.callbacks == 0)
        turn();
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(late.result, -ETIMEDOUT);
    cr_assert_eq(vouch_janus_get_fd(janus), fd);
    cr_assert_gt(vouch_janus_get_timeout(janus), VOUCH_SECONDS(3600));
    end();
}

/* A loop that goes on after the end has nothing to be in a hurry for. */
Test(janus_loop, the_end_leaves_nothing_to_do) {
    begin(false, NULL);
    janus_gateway_hang_up(&gateway);
    int result;
    do
        result = vouch_janus_process(janus);
    while (result >= 0);
    cr_assert_eq(result, -ECONNRESET);
    cr_assert_eq(vouch_janus_get_fd(janus), -1);
    cr_assert_eq(vouch_janus_get_timeout(janus), VOUCH_FOREVER);
    end();
}

/* The turn in which callbacks of the end run says how many; the loop has to come again for why. */
Test(janus_loop, the_end_is_told_after_the_callbacks) {
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct janus_outcome outcome = {0};
    begin(false, NULL);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    janus_gateway_hang_up(&gateway);
    while (outcome.callbacks == 0)
        turn();
    cr_assert_eq(outcome.result, -ECONNRESET);
    cr_assert_eq(vouch_janus_get_timeout(janus), 0);
    cr_assert_eq(vouch_janus_process(janus), -ECONNRESET);
    cr_assert_eq(vouch_janus_get_timeout(janus), VOUCH_FOREVER);
    end();
}

/* More than one step takes, without another event of the descriptor. */
Test(janus_loop, more_than_one_step_takes) {
    struct janus_seen seen = {0};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .on_event = janus_seen_callback, .context = &seen};
    begin(false, &options);
    unsigned said = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 9; i++, said++)
            janus_gateway_say(&gateway, "", "{'janus':'webrtcup'}");
        while (seen.count < said)
            turn();
    }
    end();
}

/* ---- a loop that has made up its mind how long to wait, and threads beside it ---- */

static bool has_gather(void) {
    int fd = os_gather();
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* What the loop is going to wait for. */
static struct interest before_poll(void) {
    struct interest interest = look();
    cr_assert_not(is_woken(&interest, 0));
    return interest;
}

/* One for everything where there is such a thing, and two else. */
Test(janus_loop, the_descriptors) {
    begin(true, NULL);
    struct interest first = look();
    cr_assert_geq(first.fds[0].fd, 0);
    cr_assert_eq(first.fds[1].fd < 0, has_gather());
    cr_assert_eq(vouch_janus_ping(janus, NULL, NULL), 0);
    cr_assert_eq(vouch_janus_process(janus), 0);
    struct interest second = look();
    cr_assert_eq(second.fds[0].fd, first.fds[0].fd);
    cr_assert_eq(second.fds[1].fd, first.fds[1].fd);
    vouch_janus_close(janus);
    cr_assert_eq(vouch_janus_process(janus), -ESHUTDOWN);
    second = look();
    cr_assert_eq(second.fds[0].fd, -1);
    cr_assert_eq(second.fds[1].fd, first.fds[1].fd);
    cr_assert_eq(second.timeout, VOUCH_FOREVER);
    end();
}

Test(janus_loop, what_another_thread_reads_wakes_the_loop) {
    struct janus_seen seen = {0};
    struct vouch_janus_stats stats;
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .on_event = janus_seen_callback, .context = &seen};
    begin(false, &options);
    pthread_t driver = support_thread_start(pings, (void *)1);
    janus_gateway_expect(&gateway, "ping", NULL, NULL);
    struct interest interest = before_poll();
    janus_gateway_say(&gateway, "", "{'janus':'webrtcup'}");
    do /* the other thread has it */
        vouch_janus_get_stats(janus, &stats);
    while (stats.events_waiting == 0);
    cr_assert(is_woken(&interest, LONG));
    cr_assert_eq(vouch_janus_process(janus), 1);
    cr_assert_eq(seen.count, 1);
    cr_assert_not(is_woken(&interest, 0));
    vouch_janus_close(janus);
    cr_assert(is_woken(&interest, LONG));
    cr_assert_eq(vouch_janus_process(janus), -ESHUTDOWN);
    cr_assert_eq((intptr_t)support_thread_join(driver), -ESHUTDOWN);
    end();
}

Test(janus_loop, what_another_thread_begins_wakes_the_loop) {
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    const struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    struct janus_outcome outcome = {0};
    struct vouch_janus_session *session;
    begin(true, NULL);
    struct interest interest = before_poll();
    cr_assert_eq(interest.timeout, VOUCH_FOREVER);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, NULL), 0);
    cr_assert(is_woken(&interest, LONG)); /* there are keep-alives to be sent now */
    cr_assert_eq(vouch_janus_process(janus), 0);
    interest = before_poll();
    cr_assert_leq(interest.timeout, VOUCH_JANUS_KEEPALIVE_DEFAULT);
    cr_assert_eq(
        vouch_janus_call_async(janus, &ping, &soon, janus_outcome_callback, &outcome, NULL), 0);
    cr_assert(is_woken(&interest, LONG));
    while (outcome.callbacks == 0)
        turn();
    vouch_janus_session_free(session);
    end();
}

static unsigned openings;
static void on_open(void *context, int result, const struct vouch_error *error) {
    (void)error;
    *(int *)context = result;
    openings++;
}

/* There is no connection to wait for, and none will be tried for an hour. */
Test(janus_loop, woken_between_attempts_to_connect) {
    const struct vouch_janus_options patient = {VOUCH_OPTIONS(patient), .retries = UINT_MAX,
                                                .retry_pause = VOUCH_SECONDS(3600)};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    const struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    const char *nobody = "file:///nonexistent";
    struct janus_outcome outcome = {0};
    int result = 0;
    support_baseline_begin();
    openings = 0;
    cr_assert_eq(vouch_janus_connect_async(&nobody, 1, &patient, on_open, &result, &janus, NULL),
                 0);
    cr_assert_eq(vouch_janus_process(janus), 0);
    struct interest interest = before_poll();
    cr_assert_gt(interest.timeout, VOUCH_SECONDS(3000));
    cr_assert_eq(
        vouch_janus_call_async(janus, &ping, &soon, janus_outcome_callback, &outcome, NULL), 0);
    cr_assert(is_woken(&interest, LONG));
    while (outcome.callbacks == 0)
        turn();
    cr_assert_eq(outcome.result, -ETIMEDOUT);
    interest = before_poll();
    vouch_janus_close(janus);
    cr_assert(is_woken(&interest, LONG));
    cr_assert_eq(vouch_janus_process(janus), 1);
    cr_assert_eq(openings, 1);
    cr_assert_eq(result, -ESHUTDOWN);
    vouch_janus_free(janus);
    support_baseline_end();
}

/* The loop waits for what comes over it then. */
Test(janus_loop, a_connection_that_another_thread_has_made) {
    struct janus_seen seen = {0};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .on_event = janus_seen_callback, .context = &seen};
    int result = 1;
    janus_gateway_begin(&gateway);
    const char *addresses[] = {gateway.address};
    openings = 0;
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, &options, on_open, &result, &janus, NULL),
                 0);
    struct interest interest = look(); /* before there is one */
    pthread_t driver = support_thread_start(pings, (void *)1);
    janus_gateway_accept(&gateway);
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    cr_assert_eq((intptr_t)support_thread_join(driver), 0);
    cr_assert(is_woken(&interest, LONG));
    cr_assert_eq(vouch_janus_process(janus), 1);
    cr_assert_eq(result, 0);
    interest = before_poll();
    janus_gateway_say(&gateway, "", "{'janus':'webrtcup'}");
    cr_assert(is_woken(&interest, LONG));
    cr_assert_eq(vouch_janus_process(janus), 1);
    cr_assert_eq(seen.count, 1);
    end();
}

/* Threads in calls and a loop, at the same time. */
Test(janus_loop, threads_beside_a_loop) {
    const intptr_t rounds = VOUCH_TEST_ROUNDS(100, 20);
    pthread_t threads[2];
    struct janus_outcome outcome;
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    begin(true, NULL);
    for (intptr_t i = 0; i < 2; i++)
        threads[i] = support_thread_start(pings, (void *)rounds);
    for (int i = 0; i < 50; i++) {
        outcome = (struct janus_outcome){0};
        cr_assert_eq(
            vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL), 0);
        while (outcome.callbacks == 0) {
            struct interest interest = look();
            cr_assert(is_woken(&interest, LONG));
            cr_assert_geq(vouch_janus_process(janus), 0);
        }
        cr_assert_eq(outcome.result, 0);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq((intptr_t)support_thread_join(threads[i]), 0);
    end();
}
