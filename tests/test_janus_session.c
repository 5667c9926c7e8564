/* SPDX-License-Identifier: MIT */
/* Sessions and handles: keep-alives, and freeing in any order. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;
static struct vouch_janus *janus;
static struct janus_seen seen;
static unsigned ends;
static int end_result;

static void on_end(void *context, int result, const struct vouch_error *error) {
    (void)context;
    (void)error;
    ends++;
    end_result = result;
}

static void begin_with(const struct vouch_janus_options *set) {
    struct vouch_janus_options options = *set;
    options.on_end = on_end;
    ends = 0;
    memset(&seen, 0, sizeof(seen));
    janus_gateway_begin(&gateway);
    janus = janus_gateway_client(&gateway, &options);
}

static void begin(int64_t interval, int64_t answer_timeout) {
    begin_with(&(struct vouch_janus_options){.keepalive_interval = interval,
                                             .answer_timeout = answer_timeout});
}

static void end(void) {
    vouch_janus_free(janus);
    janus_gateway_end(&gateway);
}

static struct vouch_janus_session *make(int64_t interval, const char *answer) {
    static const struct vouch_janus_listener listener = {janus_seen_callback, &seen};
    struct janus_outcome outcome = {0};
    const struct vouch_janus_request request = {
        VOUCH_OPTIONS(request), .verb = VOUCH_JANUS_DO_CREATE, .keepalive_interval = interval,
        .listener = &listener};
    cr_assert_eq(
        vouch_janus_call_async(janus, &request, NULL, janus_outcome_callback, &outcome, NULL), 0);
    janus_gateway_expect(&gateway, "create", answer, NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    return outcome.session;
}

#define FIVE "{'janus':'success','transaction':'%','data':{'id':5}}"
#define SIX "{'janus':'success','transaction':'%','data':{'id':6}}"

static struct vouch_janus_stats stats(void) {
    struct vouch_janus_stats s;
    vouch_janus_get_stats(janus, &s);
    return s;
}

/* ---- keep-alives ---- */

static void *waits(void *context) {
    (void)context;
    return (void *)(intptr_t)vouch_janus_wait(janus, VOUCH_FOREVER);
}

Test(janus_session, keep_alives_leave_by_themselves) {
    begin(VOUCH_MILLISECONDS(5), 0);
    struct vouch_janus_session *session = make(0, FIVE);
    pthread_t thread = support_thread_start(waits, NULL);
    for (int i = 0; i < 5; i++)
        janus_gateway_expect(&gateway, "keepalive", "{'janus':'ack','transaction':'%'}", NULL);
    janus_gateway_hang_up(&gateway);
    cr_assert_eq((intptr_t)support_thread_join(thread), 1); /* on_end */
    cr_assert_geq(stats().keepalives, 5);
    cr_assert_eq(end_result, -ECONNRESET);
    vouch_janus_session_free(session);
    end();
}

/* A foreign loop is told when. */
Test(janus_session, the_timeout_says_when) {
    begin(VOUCH_SECONDS(20), 0);
    cr_assert_eq(vouch_janus_get_timeout(janus), VOUCH_FOREVER);
    struct vouch_janus_session *slow = make(0, FIVE);
    int64_t timeout = vouch_janus_get_timeout(janus);
    cr_assert(timeout > VOUCH_SECONDS(15) && timeout <= VOUCH_SECONDS(20));
    struct vouch_janus_session *quick = make(VOUCH_SECONDS(10), SIX);
    timeout = vouch_janus_get_timeout(janus);
    cr_assert(timeout > VOUCH_SECONDS(5) && timeout <= VOUCH_SECONDS(10));
    vouch_janus_session_free(slow);
    vouch_janus_session_free(quick);
    end();
}

Test(janus_session, none_where_none_is_wanted) {
    begin(VOUCH_FOREVER, 0);
    struct vouch_janus_session *session = make(0, FIVE);
    cr_assert_eq(vouch_janus_get_timeout(janus), VOUCH_FOREVER);
    vouch_janus_session_free(session);
    end();
}

Test(janus_session, a_gateway_that_does_not_answer_has_ended) {
    begin(VOUCH_MILLISECONDS(5), VOUCH_MILLISECONDS(20));
    struct vouch_janus_session *session = make(0, FIVE);
    janus_wait_for(janus, &ends, 1);
    cr_assert_eq(end_result, -ETIMEDOUT);
    cr_assert_eq(vouch_janus_session_get_state(session), -ETIMEDOUT);
    vouch_janus_session_free(session);
    end();
}

/* Whatever it says is a sign of life: the connection lives for longer than keep-alives may stay
 * without an answer. */
Test(janus_session, any_word_counts) {
    int64_t patience = VOUCH_MILLISECONDS(50), until = vouch_deadline_in(4 * patience);
    begin(VOUCH_MILLISECONDS(1), patience);
    struct vouch_janus_session *session = make(0, FIVE);
    do {
        janus_gateway_say(&gateway, "", "{'janus':'webrtcup','session_id':5}");
        janus_wait_for(janus, &seen.count, seen.count + 1);
        while (recv(gateway.fd, (char[512]){0}, 512, MSG_DONTWAIT) > 0)
            ; /* they have to be sent */
    } while (vouch_now() < until || stats().keepalives == 0);
    cr_assert_eq(ends, 0);
    vouch_janus_session_free(session);
    end();
}

static int call_something(const struct vouch_janus_request *request,
                          struct janus_outcome *outcome) {
    return vouch_janus_call_async(janus, request, NULL, janus_outcome_callback, outcome, NULL);
}

/* They have a place of their own beside the program's calls. */
Test(janus_session, keep_alives_beside_as_many_calls_as_the_limit) {
    begin_with(
        &(struct vouch_janus_options){.keepalive_interval = VOUCH_MILLISECONDS(5), .max_calls = 1});
    struct vouch_janus_session *session = make(0, FIVE);
    const struct vouch_janus_request slow = {.verb = VOUCH_JANUS_DO_PING};
    struct janus_outcome outcome = {0};
    cr_assert_eq(call_something(&slow, &outcome), 0);
    uint64_t before = stats().keepalives;
    int64_t give_up = vouch_deadline_in(VOUCH_SECONDS(10));
    while (stats().keepalives == before && vouch_now() < give_up)
        (void)vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(10)));
    cr_assert_gt(stats().keepalives, before);
    cr_assert_eq(call_something(&slow, &outcome), -EBUSY);
    vouch_janus_session_free(session);
    end();
}

/* What was not sent is nothing that the gateway could have heard. */
Test(janus_session, calls_that_fail_are_no_sign_of_life) {
    begin(VOUCH_MILLISECONDS(50), 0);
    struct vouch_janus_session *session = make(0, FIVE);
    cJSON *more = json_tree("{\"janus\":\"twice\"}");
    const struct vouch_janus_request bad = {
        .verb = VOUCH_JANUS_DO_KEEPALIVE, .session = session, .more = more};
    struct janus_outcome outcome = {0};
    uint64_t before = stats().keepalives;
    int64_t give_up = vouch_deadline_in(VOUCH_SECONDS(10));
    while (stats().keepalives == before && vouch_now() < give_up) {
        cr_assert_eq(call_something(&bad, &outcome), -EINVAL);
        (void)vouch_janus_process(janus);
    }
    cr_assert_gt(stats().keepalives, before);
    cJSON_Delete(more);
    vouch_janus_session_free(session);
    end();
}

/* An answer after the next is due counts no more: should this one come to be so late, there is
 * another. */
Test(janus_session, a_keep_alive_is_refused) {
    begin(VOUCH_MILLISECONDS(200), VOUCH_FOREVER);
    struct vouch_janus_session *session = make(0, FIVE);
    for (uint64_t answered = 0; seen.count == 0;) {
        (void)vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(10)));
        for (; answered < stats().keepalives; answered++)
            janus_gateway_expect(&gateway, "keepalive",
                                 "{'janus':'error','session_id':5,'transaction':'%',"
                                 "'error':{'code':458,'reason':'No such session'}}",
                                 NULL);
    }
    cr_assert_eq(seen.events[0].kind, VOUCH_JANUS_ERROR);
    cr_assert_eq(vouch_janus_session_get_state(session), -ESTALE);
    vouch_janus_session_free(session);
    end();
}

/* ---- many ---- */

static unsigned told;
static uint64_t told_handle;
static void on_told(void *context, const struct vouch_janus_message *message) {
    cr_assert_eq(*(const uint64_t *)context, message->handle_id);
    told++;
    told_handle = message->handle_id;
}

/* The first allocation of each is the handle's own; the second, where there is one, would make the
 * table larger. */
Test(janus_session, thousands_of_handles) {
    enum { MOST = 20000 };
    const unsigned many = VOUCH_TEST_ROUNDS(MOST, 2000);
    static struct vouch_janus_handle *handles[MOST];
    static uint64_t ids[MOST];
    struct support_allocator memory;
    uint64_t injected = 0;
    char event[128];
    support_allocator_init(&memory);
    begin_with(&(struct vouch_janus_options){.allocator = &memory.allocator});
    struct vouch_janus_session *session = make(VOUCH_FOREVER, FIVE);
    for (unsigned i = 0; i < many; i++) {
        ids[i] = (UINT64_C(1) << 40) + 4096 * (uint64_t)i;
        const struct vouch_janus_listener listener = {on_told, &ids[i]};
        support_allocator_fail(&memory, 2, i % 2 == 0 ? SUPPORT_FAIL_ONCE : 0);
        cr_assert_eq(vouch_janus_handle_of(session, ids[i], &listener, &handles[i]), 0);
        injected += memory.injected;
    }
    support_allocator_fail(&memory, 0, 0);
    cr_assert_gt(injected, 0);
    told = 0;
    for (unsigned i = 0; i < many; i += 97) {
        snprintf(event, sizeof(event), "{'janus':'webrtcup','session_id':5,'sender':%llu}",
                 (unsigned long long)ids[i]);
        janus_gateway_say(&gateway, "", event);
        janus_wait_for(janus, &told, i / 97 + 1);
        cr_assert_eq(told_handle, ids[i]);
    }
    cr_assert_eq(vouch_janus_handle_of(session, ids[many / 2], NULL, &handles[0]), -EEXIST);
    for (unsigned i = 0; i < many; i++)
        vouch_janus_handle_free(handles[i]);
    vouch_janus_session_free(session);
    end();
    support_allocator_check(&memory);
}

/* Those that are nearly due go along, so that they are not all looked at for each of them. */
Test(janus_session, keep_alives_go_together) {
    const int64_t interval = VOUCH_SECONDS(2);
    int64_t apart;
    do { /* where we were held up in between, they have no reason to */
        begin(VOUCH_FOREVER, VOUCH_FOREVER);
        int64_t first = vouch_now();
        struct vouch_janus_session *one = make(interval, FIVE), *other = make(interval, SIX);
        apart = vouch_now() - first;
        while (stats().keepalives == 0)
            cr_assert_eq(vouch_janus_process(janus), 0);
        if (apart < interval / 8)
            cr_assert_eq(stats().keepalives, 2);
        vouch_janus_session_free(one);
        vouch_janus_session_free(other);
        end();
    } while (apart >= interval / 8);
}

/* ---- freeing ---- */

Test(janus_session, in_any_order) {
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t i = 0; i < 6; i++) {
        begin(0, 0);
        struct vouch_janus_session *session = make(0, FIVE);
        struct vouch_janus_handle *handle;
        cr_assert_eq(vouch_janus_handle_of(session, 9, NULL, &handle), 0);
        for (size_t j = 0; j < 3; j++) {
            if (orders[i][j] == 0)
                vouch_janus_free(janus);
            else if (orders[i][j] == 1)
                vouch_janus_session_free(session);
            else
                vouch_janus_handle_free(handle);
        }
        janus = NULL;
        end();
    }
    vouch_janus_session_free(NULL);
    vouch_janus_handle_free(NULL);
    vouch_janus_free(NULL);
}

/* A session that the program has let go of is kept alive as long as it has handles. */
Test(janus_session, a_handle_keeps_its_session) {
    begin(VOUCH_MILLISECONDS(5), VOUCH_FOREVER);
    struct vouch_janus_session *session = make(0, FIVE);
    struct vouch_janus_handle *handle;
    cr_assert_eq(vouch_janus_handle_of(session, 9, NULL, &handle), 0);
    vouch_janus_session_free(session);
    janus_gateway_say(&gateway, "", "{'janus':'webrtcup','session_id':5}");
    while (stats().keepalives == 0)
        (void)vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(10)));
    cr_assert_eq(seen.count, 0);
    vouch_janus_handle_free(handle);
    while (vouch_janus_get_timeout(janus) < VOUCH_FOREVER) /* the last, which is not answered */
        (void)vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(10)));
    end();
}

Test(janus_session, freed_while_a_call_is_under_way) {
    struct janus_outcome outcome = {0};
    begin(0, 0);
    struct vouch_janus_session *session = make(0, FIVE);
    const struct vouch_janus_request request = {.verb = VOUCH_JANUS_DO_KEEPALIVE,
                                                .session = session};
    cr_assert_eq(
        vouch_janus_call_async(janus, &request, NULL, janus_outcome_callback, &outcome, NULL), 0);
    vouch_janus_session_free(session);
    janus_gateway_expect(&gateway, "keepalive", "{'janus':'ack','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    end();
}

Test(janus_session, handles_of_a_claimed_session) {
    struct vouch_janus_handle *handle, *second;
    begin(0, 0);
    struct vouch_janus_session *session = make(0, FIVE);
    cr_assert_eq(vouch_janus_handle_of(session, 0, NULL, &handle), -EINVAL);
    cr_assert_eq(vouch_janus_handle_of(session, VOUCH_JANUS_ID_MAX + 1, NULL, &handle), -EINVAL);
    cr_assert_eq(vouch_janus_handle_of(session, VOUCH_JANUS_ID_MAX, NULL, &handle), 0);
    cr_assert_eq(vouch_janus_handle_of(session, VOUCH_JANUS_ID_MAX, NULL, &second), -EEXIST);
    cr_assert_eq(vouch_janus_handle_get_id(handle), VOUCH_JANUS_ID_MAX);
    vouch_janus_handle_free(handle);
    vouch_janus_close(janus);
    cr_assert_eq(vouch_janus_handle_of(session, 1, NULL, &handle), -ESHUTDOWN);
    vouch_janus_session_free(session);
    end();
}

Test(janus_session, destroyed) {
    struct janus_outcome outcome = {0}, pending = {0};
    begin(0, 0);
    struct vouch_janus_session *session = make(0, FIVE);
    const struct vouch_janus_request keepalive = {.verb = VOUCH_JANUS_DO_KEEPALIVE,
                                                  .session = session},
                                     destroy = {.verb = VOUCH_JANUS_DO_DESTROY, .session = session};
    cr_assert_eq(
        vouch_janus_call_async(janus, &keepalive, NULL, janus_outcome_callback, &pending, NULL), 0);
    cr_assert_eq(
        vouch_janus_call_async(janus, &destroy, NULL, janus_outcome_callback, &outcome, NULL), 0);
    janus_gateway_expect(&gateway, "keepalive", NULL, NULL);
    janus_gateway_expect(&gateway, "destroy", "{'janus':'success','transaction':'%'}", NULL);
    janus_wait_for(janus, &outcome.callbacks, 1);
    cr_assert_eq(outcome.result, 0);
    cr_assert_eq(pending.result, -ESTALE);
    cr_assert_eq(vouch_janus_session_get_state(session), -ESTALE);
    cr_assert_gt(vouch_janus_get_timeout(janus), VOUCH_SECONDS(5));
    vouch_janus_session_free(session);
    end();
}
