/* SPDX-License-Identifier: MIT */
/* Waiting: many threads on one connection, those who wait for events. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* ---- threads ---- */

static struct vouch_janus_handle *shared;

static void *talks(void *context) {
    for (int i = 0; i < VOUCH_TEST_ROUNDS(100, 20); i++) {
        struct vouch_janus_message *reply;
        struct vouch_error error;
        char text[64];
        snprintf(text, sizeof(text), "{\"from\":%d,\"number\":%d}", (int)(intptr_t)context, i);
        cJSON *body = json_tree(text);
        cr_assert_eq(vouch_janus_send_message(shared, body, NULL, NULL, &reply, &error), 0, "%s",
                     error.message);
        json_check_print(reply->data, text);
        vouch_janus_message_free(reply);
        cJSON_Delete(body);
    }
    return NULL;
}

static void *waits(void *context) {
    int result;
    (void)context;
    while ((result = vouch_janus_wait(janus, VOUCH_FOREVER)) >= 0)
        ;
    return (void *)(intptr_t)result;
}

Test(janus_drive, many_threads) {
    struct vouch_janus_session *session;
    pthread_t threads[4];
    begin(true, NULL);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, NULL), 0);
    cr_assert_eq(vouch_janus_attach(session, "p", NULL, NULL, &shared, NULL), 0);
    pthread_t waiter = support_thread_start(waits, NULL);
    for (intptr_t i = 0; i < 4; i++)
        threads[i] = support_thread_start(talks, (void *)i);
    for (int i = 0; i < 4; i++)
        support_thread_join(threads[i]);
    vouch_janus_close(janus);
    cr_assert_eq((intptr_t)support_thread_join(waiter), -ESHUTDOWN);
    vouch_janus_handle_free(shared);
    vouch_janus_session_free(session);
    end();
}

static void *pings(void *context) {
    struct vouch_error error;
    (void)context;
    int result = vouch_janus_ping(janus, NULL, &error);
    if (result != 0)
        cr_assert_eq(error.code, result);
    return (void *)(intptr_t)result;
}

/* All of them wait; the end wakes all of them. */
Test(janus_drive, the_end_wakes_all) {
    pthread_t threads[6];
    begin(false, NULL);
    for (int i = 0; i < 6; i++)
        threads[i] = support_thread_start(pings, NULL);
    for (int i = 0; i < 6; i++)
        janus_gateway_expect(&gateway, "ping", NULL, NULL);
    janus_gateway_hang_up(&gateway);
    for (int i = 0; i < 6; i++)
        cr_assert_eq((intptr_t)support_thread_join(threads[i]), -ECONNRESET);
    end();
}

Test(janus_drive, closing_wakes_all) {
    pthread_t threads[6];
    begin(false, NULL);
    for (int i = 0; i < 6; i++)
        threads[i] = support_thread_start(pings, NULL);
    for (int i = 0; i < 6; i++)
        janus_gateway_expect(&gateway, "ping", NULL, NULL);
    vouch_janus_close(janus);
    for (int i = 0; i < 6; i++)
        cr_assert_eq((intptr_t)support_thread_join(threads[i]), -ESHUTDOWN);
    end();
}

static void *pings_tagged(void *context) {
    const struct vouch_call_options options = {VOUCH_OPTIONS(options),
                                               .tag = (uint64_t)(intptr_t)context};
    return (void *)(intptr_t)vouch_janus_ping(janus, &options, NULL);
}

/* Whoever drives, and whoever sleeps. */
Test(janus_drive, cancelling_wakes_the_one) {
    pthread_t threads[4];
    begin(false, NULL);
    for (intptr_t i = 0; i < 4; i++)
        threads[i] = support_thread_start(pings_tagged, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        janus_gateway_expect(&gateway, "ping", NULL, NULL);
    for (uint64_t i = 0; i < 4; i++) {
        cr_assert_eq(vouch_janus_cancel(janus, i + 1), 1);
        cr_assert_eq((intptr_t)support_thread_join(threads[i]), -ECANCELED);
    }
    end();
}

/* One that sleeps while another drives ends by its own deadline. */
Test(janus_drive, deadlines_of_sleepers) {
    const struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    begin(false, NULL);
    pthread_t driver = support_thread_start(pings, NULL);
    janus_gateway_expect(&gateway, "ping", NULL, NULL);
    int64_t before = vouch_now();
    cr_assert_eq(vouch_janus_ping(janus, &soon, NULL), -ETIMEDOUT);
    cr_assert_lt(vouch_now() - before, VOUCH_SECONDS(15));
    vouch_janus_close(janus);
    cr_assert_eq((intptr_t)support_thread_join(driver), -ESHUTDOWN);
    end();
}

/* ---- vouch_janus_wait ---- */

Test(janus_drive, waiting_for_nothing) {
    begin(false, NULL);
    cr_assert_eq(vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(5))), -ETIMEDOUT);
    cr_assert_eq(vouch_janus_wait(janus, 0), -ETIMEDOUT);
    cr_assert_eq(vouch_janus_process(janus), 0);
    end();
}

static void *waits_once(void *context) {
    (void)context;
    return (void *)(intptr_t)vouch_janus_wait(janus, VOUCH_FOREVER);
}

Test(janus_drive, one_waits_at_a_time) {
    begin(false, NULL);
    pthread_t thread = support_thread_start(waits_once, NULL);
    int result;
    do /* until it is inside */
        result = vouch_janus_wait(janus, 0);
    while (result == -ETIMEDOUT);
    cr_assert_eq(result, -EBUSY);
    vouch_janus_close(janus);
    int ended = (int)(intptr_t)support_thread_join(thread);
    cr_assert_eq(ended, -ESHUTDOWN);
    end();
}

/* An event that a thread in a call has read is told to the one that waits. */
Test(janus_drive, events_read_by_others) {
    struct janus_seen seen = {0};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .on_event = janus_seen_callback, .context = &seen};
    begin(false, &options);
    pthread_t driver = support_thread_start(pings, NULL);
    janus_gateway_expect(&gateway, "ping", NULL, NULL);
    janus_gateway_say(&gateway, "", "{'janus':'webrtcup'}");
    janus_wait_for(janus, &seen.count, 1);
    vouch_janus_close(janus);
    cr_assert_eq((intptr_t)support_thread_join(driver), -ESHUTDOWN);
    end();
}

/* ---- two who would run callbacks ---- */

/* Its callback lasts until it is told otherwise; the connection ends meanwhile, and there are
 * callbacks left for it. */
static struct {
    int inside[2], leave[2]; /* pipes: a byte says it */
    unsigned events;
} slow;

static void say(const int *ends) {
    cr_assert_eq(write(ends[1], "", 1), 1);
}

static void hear(const int *ends) {
    char byte;
    cr_assert_eq(read(ends[0], &byte, 1), 1);
}

static void on_slow_event(void *context, const struct vouch_janus_message *message) {
    (void)context;
    (void)message;
    if (slow.events++ > 0)
        return;
    say(slow.inside);
    hear(slow.leave);
}

static void *processes(void *context) {
    int result;
    (void)context;
    while ((result = vouch_janus_process(janus)) == 0)
        sched_yield();
    return (void *)(intptr_t)result;
}

Test(janus_drive, waiting_while_another_thread_runs_the_last_callbacks) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .on_event = on_slow_event};
    begin(false, &options);
    cr_assert_eq(pipe(slow.inside), 0);
    cr_assert_eq(pipe(slow.leave), 0);
    slow.events = 0;
    for (int i = 0; i < 3; i++)
        janus_gateway_say(&gateway, "", "{'janus':'webrtcup'}");
    janus_gateway_hang_up(&gateway);
    pthread_t loop = support_thread_start(processes, NULL);
    hear(slow.inside);
    cr_assert_eq(vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(5))), -ETIMEDOUT);
    pthread_t waiter = support_thread_start(waits, NULL);
    say(slow.leave);
    cr_assert_eq((intptr_t)support_thread_join(loop), 3);
    cr_assert_eq((intptr_t)support_thread_join(waiter), -ECONNRESET);
    cr_assert_eq(slow.events, 3);
    for (int i = 0; i < 2; i++) {
        close(slow.inside[i]);
        close(slow.leave[i]);
    }
    end();
}
