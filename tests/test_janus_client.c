/* SPDX-License-Identifier: MIT */
/* A connection's life: addresses in turn, options, the end, a fork. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;

static void begin(void) {
    janus_gateway_begin(&gateway);
}

static void end(void) {
    janus_gateway_end(&gateway);
}

struct opening {
    unsigned count;
    int result;
};
static void on_open(void *context, int result, const struct vouch_error *error) {
    struct opening *opening = context;
    opening->count++;
    opening->result = result;
    if (result < 0)
        cr_assert_eq(error->code, result);
}

/* ---- addresses ---- */

Test(janus_client, the_first_that_answers) {
    char nobody[SUPPORT_PATH_MAX + 16], path[SUPPORT_PATH_MAX];
    struct vouch_janus *janus;
    begin();
    snprintf(nobody, sizeof(nobody), "file://%s", support_temp_path(path, "nobody"));
    const char *addresses[] = {nobody, gateway.address, nobody};
    cr_assert_eq(vouch_janus_connect(addresses, 3, NULL, &janus, NULL), 0);
    cr_assert_str_eq(vouch_janus_get_address(janus), gateway.address);
    vouch_janus_free(janus);
    end();
}

Test(janus_client, none_answers) {
    char nobody[SUPPORT_PATH_MAX + 16], path[SUPPORT_PATH_MAX], expected[512];
    struct vouch_janus *janus;
    struct vouch_error error;
    begin();
    snprintf(nobody, sizeof(nobody), "file://%s", support_temp_path(path, "nobody"));
    const char *addresses[] = {"file:///", nobody};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .retries = 2,
                                                .retry_pause = VOUCH_MILLISECONDS(1)};
    cr_assert_eq(vouch_janus_connect(addresses, 2, &options, &janus, &error), -ENOENT);
    cr_assert_eq(error.code, -ENOENT);
    snprintf(expected, sizeof(expected), "%s: looking at the socket file: does not exist: %s",
             nobody, path);
    cr_assert_str_eq(error.message, expected);
    end();
}

/* It comes while we pause. */
Test(janus_client, in_a_later_round) {
    struct janus_outcome outcome = {0};
    struct opening opening = {0};
    struct vouch_janus *janus;
    char late[2 * SUPPORT_PATH_MAX];
    begin();
    snprintf(late, sizeof(late), "%s-late", gateway.address);
    const char *addresses[] = {late};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .retries = UINT_MAX,
                                                .retry_pause = VOUCH_MILLISECONDS(1)};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, &options, on_open, &opening, &janus, NULL),
                 0);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(2))), -ETIMEDOUT);
    snprintf(late, sizeof(late), "%s-late", gateway.path);
    cr_assert_eq(rename(gateway.path, late), 0);
    janus_wait_for(janus, &opening.count, 1);
    janus_gateway_accept(&gateway);
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    vouch_janus_free(janus);
    end();
}

Test(janus_client, without_waiting) {
    struct opening opening = {0};
    struct vouch_janus *janus;
    begin();
    const char *addresses[] = {gateway.address};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, NULL, on_open, &opening, &janus, NULL), 0);
    cr_assert_eq(opening.count, 0);
    janus_wait_for(janus, &opening.count, 1);
    cr_assert_eq(opening.result, 0);
    vouch_janus_free(janus);
    cr_assert_eq(opening.count, 1);

    addresses[0] = "file:///nonexistent";
    opening.count = 0;
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, NULL, on_open, &opening, &janus, NULL), 0);
    janus_wait_for(janus, &opening.count, 1);
    cr_assert_eq(opening.result, -ENOENT);
    cr_assert_eq(vouch_janus_wait(janus, VOUCH_FOREVER), -ENOENT);
    cr_assert_eq(vouch_janus_process(janus), -ENOENT);
    cr_assert_eq(vouch_janus_get_fd(janus), -1);
    vouch_janus_free(janus);
    end();
}

Test(janus_client, closed_while_it_connects) {
    struct opening opening = {0};
    struct janus_outcome outcome = {0};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct vouch_janus *janus;
    begin();
    const char *addresses[] = {"file:///nonexistent"};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .retries = UINT_MAX};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, &options, on_open, &opening, &janus, NULL),
                 0);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    cr_assert_eq(vouch_janus_process(janus), 0);
    vouch_janus_close(janus);
    vouch_janus_close(janus);
    cr_assert_eq(vouch_janus_process(janus), 2);
    cr_assert_eq(opening.result, -ESHUTDOWN);
    cr_assert_eq(outcome.result, -ESHUTDOWN);
    vouch_janus_free(janus);
    vouch_janus_close(NULL);
    end();
}

/* ---- how long all of it may take ---- */

/* A listener whose backlog is full: who connects waits for a place. */
static void fill(int *ret_listener, int *ret_guest, char *ret_address, size_t size) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char path[SUPPORT_PATH_MAX];
    strcpy(name.sun_path, support_temp_path(path, "full"));
    snprintf(ret_address, size, "file://%s", path);
    *ret_listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    cr_assert_geq(*ret_listener, 0);
    cr_assert_eq(bind(*ret_listener, (struct sockaddr *)&name, sizeof(name)), 0);
    cr_assert_eq(listen(*ret_listener, 0), 0);
    *ret_guest = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    cr_assert_geq(*ret_guest, 0);
    cr_assert_eq(connect(*ret_guest, (struct sockaddr *)&name, sizeof(name)), 0);
}

/* Whatever the addresses, rounds and pauses would come to by themselves. */
Test(janus_client, connecting_takes_no_longer_than_all_of_it_may) {
    static const struct vouch_janus_options patience[] = {
        {.connect_timeout = VOUCH_FOREVER},
        {.connect_timeout = VOUCH_MILLISECONDS(1)},
        {.connect_timeout = VOUCH_MILLISECONDS(1), .retry_pause = VOUCH_FOREVER},
    };
    char full[SUPPORT_PATH_MAX + 16];
    int listener, guest;
    struct vouch_janus *janus;
    struct vouch_error error;
    begin();
    fill(&listener, &guest, full, sizeof(full));
    const char *addresses[] = {full, "file:///nonexistent", full};
    for (size_t i = 0; i < sizeof(patience) / sizeof(patience[0]); i++) {
        struct vouch_janus_options options = patience[i];
        options.retries = UINT_MAX;
        options.retry_pause = options.retry_pause ? options.retry_pause : VOUCH_MILLISECONDS(1);
        options.connect_total_timeout = VOUCH_MILLISECONDS(40);
        int64_t before = vouch_now();
        do /* not even one attempt: we were held up, and it says nothing */
            cr_assert_eq(vouch_janus_connect(addresses, 3, &options, &janus, &error), -ETIMEDOUT);
        while (strcmp(error.message, "no connection before connect_total_timeout") == 0);
        cr_assert_lt(vouch_now() - before, VOUCH_SECONDS(15));
        cr_assert_eq(error.code, -ETIMEDOUT);
        cr_assert(strstr(error.message, "connect_total_timeout; the last attempt: file://"), "%s",
                  error.message);
    }
    close(guest);
    close(listener);
    end();
}

/* None is begun after it. */
Test(janus_client, no_time_to_connect_at_all) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .connect_total_timeout = 1};
    struct vouch_janus *janus;
    struct vouch_error error;
    begin();
    const char *addresses[] = {gateway.address};
    cr_assert_eq(vouch_janus_connect(addresses, 1, &options, &janus, &error), -ETIMEDOUT);
    cr_assert_str_eq(error.message, "no connection before connect_total_timeout");
    end();
}

/* A loop is told when it is over, and calls that were made before end with it. */
Test(janus_client, a_loop_connects_no_longer_than_it_may) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .retries = UINT_MAX,
                                                .retry_pause = VOUCH_SECONDS(3600),
                                                .connect_total_timeout = VOUCH_MILLISECONDS(40)};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct opening opening = {0};
    struct janus_outcome outcome = {0};
    struct vouch_janus *janus;
    begin();
    const char *addresses[] = {"file:///nonexistent"};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, &options, on_open, &opening, &janus, NULL),
                 0);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    (void)vouch_janus_process(janus);
    if (opening.count == 0)
        cr_assert_leq(vouch_janus_get_timeout(janus), VOUCH_MILLISECONDS(40));
    janus_wait_for(janus, &opening.count, 1);
    cr_assert_eq(opening.result, -ETIMEDOUT);
    cr_assert_eq(outcome.result, -ETIMEDOUT);
    vouch_janus_free(janus);
    end();
}

/* It is about connecting, and of no concern once that is done. */
Test(janus_client, a_connection_outlives_the_time_for_connecting) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                .connect_total_timeout = VOUCH_SECONDS(20)};
    const struct vouch_janus_options little = {VOUCH_OPTIONS(little), .retries = UINT_MAX,
                                               .connect_total_timeout = VOUCH_MILLISECONDS(500)};
    struct vouch_janus *janus;
    begin();
    janus = janus_gateway_client(&gateway, &options);
    cr_assert_eq(vouch_janus_get_timeout(janus), VOUCH_FOREVER);
    vouch_janus_free(janus);
    int result;
    do /* where connecting took longer than that, it says nothing */
        result = vouch_janus_connect((const char *[]){gateway.address}, 1, &little, &janus, NULL);
    while (result == -ETIMEDOUT);
    cr_assert_eq(result, 0);
    cr_assert_eq(vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(501))), -ETIMEDOUT);
    cr_assert_geq(vouch_janus_get_fd(janus), 0);
    vouch_janus_free(janus);
    end();
}

static void *waits(void *context) {
    return (void *)(intptr_t)vouch_janus_wait(context, VOUCH_FOREVER);
}

/* The way to give up before: from another thread. */
Test(janus_client, closed_while_another_thread_waits_for_the_connection) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .retries = UINT_MAX,
                                                .retry_pause = VOUCH_FOREVER};
    struct opening opening = {0};
    struct vouch_janus *janus;
    begin();
    const char *addresses[] = {"file:///nonexistent"};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, &options, on_open, &opening, &janus, NULL),
                 0);
    pthread_t thread = support_thread_start(waits, janus);
    while (vouch_janus_wait(janus, 0) != -EBUSY)
        ; /* until it is inside */
    vouch_janus_close(janus);
    cr_assert_eq((intptr_t)support_thread_join(thread), 1);
    cr_assert_eq(opening.result, -ESHUTDOWN);
    vouch_janus_free(janus);
    end();
}

static void *pings_tagged(void *context) {
    const struct vouch_call_options tagged = {VOUCH_OPTIONS(tagged), .timeout = VOUCH_FOREVER,
                                              .tag = 7};
    return (void *)(intptr_t)vouch_janus_ping(context, &tagged, NULL);
}

/* They wait for the connection as well, and no longer than for anything else. */
Test(janus_client, calls_while_there_is_no_connection_yet) {
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .retries = UINT_MAX,
                                                .retry_pause = VOUCH_FOREVER};
    const struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(20)};
    struct vouch_janus *janus;
    begin();
    const char *addresses[] = {"file:///nonexistent"};
    cr_assert_eq(vouch_janus_connect_async(addresses, 1, &options, NULL, NULL, &janus, NULL), 0);
    cr_assert_eq(vouch_janus_ping(janus, &soon, NULL), -ETIMEDOUT);
    pthread_t thread = support_thread_start(pings_tagged, janus);
    while (vouch_janus_cancel(janus, 7) == 0)
        ; /* until it is inside */
    cr_assert_eq((intptr_t)support_thread_join(thread), -ECANCELED);
    vouch_janus_free(janus);
    end();
}

/* ---- the end ---- */

struct ending {
    unsigned count;
    int result;
    const unsigned *calls; /* that have ended before */
    unsigned calls_then;
};
static void on_end(void *context, int result, const struct vouch_error *error) {
    struct ending *ending = context;
    ending->count++;
    ending->result = result;
    ending->calls_then = *ending->calls;
    cr_assert_eq(error->code, result);
}

Test(janus_client, the_gateway_hangs_up) {
    struct janus_outcome outcome = {0};
    struct ending ending = {.calls = &outcome.callbacks};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .on_end = on_end,
                                                .context = &ending};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct vouch_error error;
    begin();
    struct vouch_janus *janus = janus_gateway_client(&gateway, &options);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(
            vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL), 0);
    for (int i = 0; i < 3; i++)
        janus_gateway_expect(&gateway, "ping", NULL, NULL);
    janus_gateway_hang_up(&gateway);
    janus_wait_for(janus, &ending.count, 1);
    cr_assert_eq(ending.result, -ECONNRESET);
    cr_assert_eq(ending.calls_then, 3);
    cr_assert_eq(outcome.callbacks, 3);
    cr_assert_eq(outcome.result, -ECONNRESET);
    cr_assert_str_eq(outcome.text, "the gateway has closed the connection");
    cr_assert_eq(vouch_janus_wait(janus, VOUCH_FOREVER), -ECONNRESET);
    cr_assert_eq(vouch_janus_get_timeout(janus), VOUCH_FOREVER, "a loop has nothing to do");
    cr_assert_eq(vouch_janus_get_fd(janus), -1);
    cr_assert_eq(vouch_janus_ping(janus, NULL, &error), -ECONNRESET);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 -ECONNRESET);
    vouch_janus_free(janus);
    cr_assert_eq(ending.count, 1);
    end();
}

/* What came before the end counts. */
Test(janus_client, an_answer_and_then_the_end) {
    struct janus_outcome outcome = {0};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    begin();
    struct vouch_janus *janus = janus_gateway_client(&gateway, NULL);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    janus_gateway_expect(&gateway, "ping", "{'janus':'pong','transaction':'%'}", NULL);
    janus_gateway_hang_up(&gateway);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    vouch_janus_free(janus);
    end();
}

Test(janus_client, freed_with_calls_under_way) {
    struct janus_outcome outcome = {0};
    struct ending ending = {.calls = &outcome.callbacks};
    const struct vouch_janus_options options = {VOUCH_OPTIONS(options), .on_end = on_end,
                                                .context = &ending};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    begin();
    struct vouch_janus *janus = janus_gateway_client(&gateway, &options);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    vouch_janus_free(janus);
    cr_assert_eq(outcome.callbacks, 1);
    cr_assert_eq(outcome.result, -ESHUTDOWN);
    cr_assert_eq(ending.count, 1);
    cr_assert_eq(ending.result, -ESHUTDOWN);
    end();
}

/* ---- a fork ---- */

static int in_child(struct vouch_janus *janus, struct vouch_janus_session *session) {
    struct janus_outcome outcome = {0};
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct vouch_janus_session *made;
    bool good = vouch_janus_ping(janus, NULL, NULL) == -ECHILD &&
                vouch_janus_create(janus, NULL, NULL, &made, NULL) == -ECHILD &&
                vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome,
                                       NULL) == -ECHILD &&
                vouch_janus_wait(janus, 0) == -ECHILD && vouch_janus_process(janus) == -ECHILD &&
                vouch_janus_session_get_state(session) == -ECHILD &&
                vouch_janus_cancel(janus, 1) == 0 && vouch_janus_cancel_id(janus, 1) == -ECHILD &&
                vouch_janus_get_fd(janus) == -1;
    vouch_janus_close(janus);
    vouch_janus_session_free(session);
    vouch_janus_free(janus);
    return good ? 0 : 1;
}

Test(janus_client, in_a_forked_child) {
    const struct vouch_janus_request ping = {.verb = VOUCH_JANUS_DO_PING};
    struct janus_outcome outcome = {0};
    struct vouch_janus_session *session;
    int status;
    begin();
    janus_gateway_answer(&gateway);
    struct vouch_janus *janus = janus_gateway_client(&gateway, NULL);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, NULL), 0);
    struct pollfd loop = {.fd = vouch_janus_get_fd(janus), .events = POLLIN};
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_child(janus, session));
    cr_assert_gt(pid, 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_assert_eq(vouch_janus_ping(janus, NULL, NULL), 0);
    cr_assert_eq(vouch_janus_call_async(janus, &ping, NULL, janus_outcome_callback, &outcome, NULL),
                 0);
    while (outcome.callbacks == 0) { /* a loop of the parent's has its descriptor still */
        cr_assert_eq(poll(&loop, 1, 20000), 1);
        cr_assert_geq(vouch_janus_process(janus), 0);
    }
    cr_assert_eq(outcome.result, 0);
    vouch_janus_session_free(session);
    vouch_janus_free(janus);
    end();
}

/* ---- memory ---- */

Test(janus_client, without_memory) {
    struct support_allocator allocator;
    const char *addresses[1];
    begin();
    addresses[0] = gateway.address;
    support_allocator_init(&allocator);
    const struct vouch_janus_options options = {
        VOUCH_OPTIONS(options), .allocator = &allocator.allocator, .api_secret = "s"};
    for (uint64_t i = 1;; i++) {
        struct vouch_janus *janus;
        support_allocator_fail(&allocator, i, SUPPORT_FAIL_ONCE);
        int result = vouch_janus_connect(addresses, 1, &options, &janus, NULL);
        if (result == 0)
            vouch_janus_free(janus);
        if (result == 0 && allocator.injected == 0) {
            cr_assert_gt(i, 5);
            break;
        }
        cr_assert(result == 0 || result == -ENOMEM, "%d", result);
    }
    support_allocator_check(&allocator);
    end();
}
