/* SPDX-License-Identifier: MIT */
/*
 * The real gateway, where it is installed: what its plugins say, secrets, what ends; all of it over
 * every transport. A gateway has one kind of UNIX socket and one of WebSocket, so two of them have
 * all four; what needs the same configuration is tried in one start of it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "rpc/janus_link.h"
#include "tests/harness.h"
#include "tests/janus_support.h"

/* Until 2100-01-01, signed with "signer". */
#define TOKEN "4102444800,janus,janus.plugin.echotest:DkuIGuAVrVi0vzgGlC1SmC5aOTE="

static struct janus_real real;

/* A gateway with packets and WebSockets on a UNIX socket, or with datagrams and WebSockets on TCP;
 * `body` runs with it. */
enum which { PACKETS_AND_LOCAL, DATAGRAMS_AND_TCP };

static void with_gateway(enum which which, struct janus_real_options options, void (*body)(void)) {
    if (!janus_real_there())
        return;
    options.datagrams = options.tcp = which == DATAGRAMS_AND_TCP;
    support_baseline_begin();
    janus_real_start(&real, &options);
    body();
    janus_real_stop(&real);
    support_baseline_end();
}

static void over_each(void (*body)(const char *address)) {
    for (size_t i = 0; i < real.address_count; i++)
        body(real.addresses[i]);
}

static cJSON *tree(const char *text) {
    return json_tree(text);
}

/* ---- a conversation, over each transport ---- */

static void talk(struct vouch_janus *janus, struct vouch_janus_session *session) {
    struct vouch_janus_handle *echo, *rooms;
    struct vouch_janus_message *reply;
    struct vouch_error error;
    struct janus_seen seen = {0};
    const struct vouch_janus_listener listener = {janus_seen_callback, &seen};
    cJSON *audio = tree("{\"audio\":true}"), *nonsense = tree("{\"nothing\":1}"),
          *list = tree("{\"request\":\"list\"}"),
          *candidate = tree("{\"candidate\":\"candidate:1 1 UDP 1 192.0.2.1 9 typ host\","
                            "\"sdpMid\":\"0\",\"sdpMLineIndex\":0}"),
          *candidates = cJSON_CreateArray();
    cJSON_AddItemToArray(candidates, cJSON_Duplicate(candidate, true));
    cr_assert_eq(
        vouch_janus_attach(session, "janus.plugin.echotest", &listener, NULL, &echo, &error), 0,
        "%s", error.message);
    cr_assert_gt(vouch_janus_handle_get_id(echo), 0);

    cr_assert_eq(vouch_janus_send_message(echo, audio, NULL, NULL, &reply, &error), 0, "%s",
                 error.message);
    cr_assert_eq(reply->kind, VOUCH_JANUS_EVENT);
    cr_assert_eq(reply->handle_id, vouch_janus_handle_get_id(echo));
    cr_assert_str_eq(reply->plugin, "janus.plugin.echotest");
    json_check_print(reply->data, "{\"echotest\":\"event\",\"result\":\"ok\"}");
    vouch_janus_message_free(reply);

    cr_assert_eq(vouch_janus_send_message(echo, nonsense, NULL, NULL, &reply, NULL), 0);
    cr_assert_eq(reply->plugin_error_code, 413);
    cr_assert_str_eq(reply->plugin_error, "Message error: no supported attributes found");
    vouch_janus_message_free(reply);

    /* Its event is sent by another thread of the gateway's than its acknowledgement. */
    int result = vouch_janus_send_request(echo, audio, NULL, NULL, &reply, &error);
    cr_assert(result == 0 || result == -EINPROGRESS, "%s", error.message);
    if (result == -EINPROGRESS) {
        janus_wait_for(janus, &seen.count, 1);
        cr_assert_eq(seen.events[0].kind, VOUCH_JANUS_EVENT);
        cr_assert_eq(strlen(seen.events[0].text), 32);
    }
    vouch_janus_message_free(reply);

    cr_assert_eq(vouch_janus_trickle(echo, candidate, NULL, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_trickle_many(echo, candidates, NULL, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_trickle_completed(echo, NULL, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_hangup(echo, NULL, &error), 0, "%s", error.message);

    cr_assert_eq(vouch_janus_attach(session, "janus.plugin.textroom", NULL, NULL, &rooms, &error),
                 0, "%s", error.message);
    cr_assert_eq(vouch_janus_send_request(rooms, list, NULL, NULL, &reply, &error), 0, "%s",
                 error.message);
    cr_assert_eq(reply->kind, VOUCH_JANUS_SUCCESS);
    cr_assert_str_eq(reply->plugin, "janus.plugin.textroom");
    cr_assert(cJSON_IsArray(cJSON_GetObjectItem(reply->data, "list")));
    vouch_janus_message_free(reply);

    cr_assert_eq(vouch_janus_detach(echo, NULL, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_handle_get_state(echo), -ESTALE);
    cr_assert_eq(vouch_janus_send_message(echo, audio, NULL, NULL, NULL, NULL), -ESTALE);
    vouch_janus_handle_free(echo);
    vouch_janus_handle_free(rooms);
    cJSON_Delete(audio);
    cJSON_Delete(nonsense);
    cJSON_Delete(list);
    cJSON_Delete(candidate);
    cJSON_Delete(candidates);
}

static void converse(const char *address, const struct vouch_janus_options *options) {
    struct vouch_janus *janus = janus_real_client(address, options);
    struct vouch_janus_session *session;
    struct vouch_janus_message *info;
    struct vouch_janus_handle *none;
    struct vouch_error error;
    cr_assert_str_eq(vouch_janus_get_address(janus), address);
    cr_assert_eq(vouch_janus_ping(janus, NULL, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_info(janus, NULL, &info, &error), 0, "%s", error.message);
    cr_assert_eq(info->kind, VOUCH_JANUS_SERVER_INFO);
    cr_assert_eq(cJSON_GetObjectItem(info->tree, "session-timeout")->valueint, 60);
    vouch_janus_message_free(info);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_keepalive(session, NULL, &error), 0, "%s", error.message);
    talk(janus, session);
    cr_assert_eq(vouch_janus_attach(session, "janus.plugin.none", NULL, NULL, &none, &error),
                 VOUCH_JANUS_ERROR_PLUGIN_NOT_FOUND);
    cr_assert_eq(vouch_janus_error_code(&error), VOUCH_JANUS_ERROR_PLUGIN_NOT_FOUND);
    cr_assert_str_eq(error.message, "No such plugin 'janus.plugin.none'");
    cr_assert_eq(vouch_janus_destroy(session, NULL, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_session_get_state(session), -ESTALE);
    vouch_janus_free(janus);
    vouch_janus_session_free(session);
}

/* ---- a loop of the program's own ---- */

static void foreign(const char *address) {
    struct janus_outcome outcome = {0};
    struct vouch_janus *janus = janus_real_client(address, NULL);
    const struct vouch_janus_request create = {.verb = VOUCH_JANUS_DO_CREATE};
    cr_assert_eq(
        vouch_janus_call_async(janus, &create, NULL, janus_outcome_callback, &outcome, NULL), 0);
    while (outcome.callbacks == 0) {
        struct pollfd fd = {.fd = vouch_janus_get_fd(janus),
                            .events = vouch_janus_get_events(janus)};
        int64_t timeout = vouch_janus_get_timeout(janus);
        int r = poll(&fd, 1, timeout > VOUCH_SECONDS(30) ? 30000 : (int)(timeout / 1000000 + 1));
        cr_assert_geq(r, 0);
        cr_assert_geq(vouch_janus_process(janus), 0);
    }
    cr_assert_eq(outcome.result, 0, "%s", outcome.text);
    cr_assert_eq(outcome.id, vouch_janus_session_get_id(outcome.session));
    vouch_janus_session_free(outcome.session);
    vouch_janus_free(janus);
}

/* ---- taken over ---- */

static void claim(const char *address) {
    struct vouch_janus *janus = janus_real_client(address, NULL);
    struct vouch_janus_session *session, *claimed;
    struct vouch_janus_handle *handle, *again;
    struct vouch_error error;
    cJSON *audio = tree("{\"audio\":true}");
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, NULL), 0);
    cr_assert_eq(vouch_janus_attach(session, "janus.plugin.echotest", NULL, NULL, &handle, NULL),
                 0);
    uint64_t session_id = vouch_janus_session_get_id(session),
             handle_id = vouch_janus_handle_get_id(handle);
    vouch_janus_free(janus);
    vouch_janus_handle_free(handle);
    vouch_janus_session_free(session);

    janus = janus_real_client(address, NULL);
    cr_assert_eq(vouch_janus_claim(janus, session_id, NULL, NULL, &claimed, &error), 0, "%s",
                 error.message);
    cr_assert_eq(vouch_janus_session_get_id(claimed), session_id);
    cr_assert_eq(vouch_janus_handle_of(claimed, handle_id, NULL, &again), 0);
    cr_assert_eq(vouch_janus_send_message(again, audio, NULL, NULL, NULL, &error), 0, "%s",
                 error.message);
    vouch_janus_session_free(claimed);
    cr_assert_eq(vouch_janus_claim(janus, VOUCH_JANUS_ID_MAX, NULL, NULL, &claimed, &error),
                 VOUCH_JANUS_ERROR_SESSION_NOT_FOUND);
    vouch_janus_free(janus);
    vouch_janus_handle_free(again);
    cJSON_Delete(audio);
}

/* ---- one address after the other ---- */

static void first_that_answers(const char *address) {
    const char *addresses[] = {"file:///nonexistent/socket", address};
    struct vouch_janus *janus;
    cr_assert_eq(vouch_janus_connect(addresses, 2, NULL, &janus, NULL), 0);
    cr_assert_str_eq(vouch_janus_get_address(janus), address);
    cr_assert_eq(vouch_janus_ping(janus, NULL, NULL), 0);
    vouch_janus_free(janus);
}

static void use(const char *address) {
    first_that_answers(address);
    converse(address, NULL);
    foreign(address);
    claim(address);
}

static void uses(void) {
    over_each(use);
}

Test(janus_gateway, used_over_packets_and_local_websockets) {
    with_gateway(PACKETS_AND_LOCAL, (struct janus_real_options){.reclaim_timeout = 30}, uses);
}

Test(janus_gateway, used_over_datagrams_and_tcp) {
    with_gateway(DATAGRAMS_AND_TCP, (struct janus_real_options){.reclaim_timeout = 30}, uses);
}

/* ---- secrets ---- */

static void refused(const char *address, const struct vouch_janus_options *options) {
    struct vouch_janus_session *session;
    struct vouch_error error;
    struct vouch_janus *janus = janus_real_client(address, options);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, &error),
                 VOUCH_JANUS_ERROR_UNAUTHORIZED);
    cr_assert_eq(vouch_janus_error_code(&error), VOUCH_JANUS_ERROR_UNAUTHORIZED);
    vouch_janus_free(janus);
}

static void ask_for_the_secret(const char *address) {
    const struct vouch_janus_options good = {VOUCH_OPTIONS(good), .api_secret = "sesame"},
                                     bad = {VOUCH_OPTIONS(bad), .api_secret = "street"};
    refused(address, NULL);
    refused(address, &bad);
    converse(address, &good);
}

/* One of the gateway's signed kind: "TIME,janus,PLUGIN:" and an HMAC-SHA1 of it. */
static void ask_for_a_token(const char *address) {
    const struct vouch_janus_options bad = {VOUCH_OPTIONS(bad), .token = "4102444800,janus:AAAA"},
                                     good = {VOUCH_OPTIONS(good), .token = TOKEN};
    struct vouch_janus_session *session;
    struct vouch_janus_handle *handle;
    struct vouch_error error;
    refused(address, NULL);
    refused(address, &bad);
    struct vouch_janus *janus = janus_real_client(address, &good);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, &error), 0, "%s", error.message);
    cr_assert_eq(vouch_janus_attach(session, "janus.plugin.textroom", NULL, NULL, &handle, NULL),
                 VOUCH_JANUS_ERROR_UNAUTHORIZED_PLUGIN);
    cr_assert_eq(vouch_janus_attach(session, "janus.plugin.echotest", NULL, NULL, &handle, &error),
                 0, "%s", error.message);
    vouch_janus_handle_free(handle);
    vouch_janus_session_free(session);
    vouch_janus_free(janus);
}

/* A gateway that has both asks for one of them. */
static void secrets(void) {
    over_each(ask_for_the_secret);
    over_each(ask_for_a_token);
}

static const struct janus_real_options secret = {.api_secret = "sesame", .token_secret = "signer"};

Test(janus_gateway, secrets_over_packets_and_local_websockets) {
    with_gateway(PACKETS_AND_LOCAL, secret, secrets);
}

Test(janus_gateway, secrets_over_datagrams_and_tcp) {
    with_gateway(DATAGRAMS_AND_TCP, secret, secrets);
}

/* ---- sessions that time out, and those that don't ---- */

#define KEEPALIVE VOUCH_MILLISECONDS(100)
#define HELD_UP VOUCH_MILLISECONDS(400) /* well below the session's timeout, a second */

/* Two connections over one transport: one keeps silent, and one keeps its session alive. */
struct pair {
    const char *address;
    struct vouch_janus *mute, *lively;
    struct vouch_janus_session *mute_session, *lively_session;
    struct vouch_janus_handle *handle; /* of the mute one */
    struct janus_seen seen;
};

static bool has_seen(const struct janus_seen *seen, enum vouch_janus_kind kind) {
    for (unsigned i = 0; i < seen->count && i < sizeof(seen->events) / sizeof(seen->events[0]); i++)
        if (seen->events[i].kind == kind)
            return true;
    return false;
}

static void pair_free(struct pair *pair) {
    vouch_janus_free(pair->mute);
    vouch_janus_free(pair->lively);
    vouch_janus_handle_free(pair->handle);
    vouch_janus_session_free(pair->mute_session);
    vouch_janus_session_free(pair->lively_session);
}

/* Whether that was done before the session could time out. */
static bool pair_make(struct pair *pair, const char *address) {
    const struct vouch_janus_options mute = {VOUCH_OPTIONS(mute),
                                             .keepalive_interval = VOUCH_FOREVER},
                                     lively = {VOUCH_OPTIONS(lively),
                                               .keepalive_interval = KEEPALIVE};
    *pair = (struct pair){.address = address};
    const struct vouch_janus_listener listener = {janus_seen_callback, &pair->seen};
    int64_t begun = vouch_now();
    pair->mute = janus_real_client(address, &mute);
    pair->lively = janus_real_client(address, &lively);
    int results[] = {
        vouch_janus_create(pair->mute, &listener, NULL, &pair->mute_session, NULL),
        pair->mute_session ? vouch_janus_attach(pair->mute_session, "janus.plugin.echotest", NULL,
                                                NULL, &pair->handle, NULL)
                           : -ESTALE,
        vouch_janus_create(pair->lively, NULL, NULL, &pair->lively_session, NULL),
    };
    if (vouch_now() - begun > HELD_UP)
        return false;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(results[i], 0, "%s: %d: %s", address, i, vouch_janus_strerror(results[i]));
    return true;
}

/* The gateway's own clock is what is waited for. Returns whether we were there all the time: else
 * what was to be kept alive may have died. */
static bool turn_until_timed_out(struct pair *pairs, size_t count) {
    bool present = true;
    size_t silent = count;
    for (int64_t last = vouch_now(), now; silent > 0; last = now) {
        silent = count;
        for (size_t i = 0; i < count; i++) {
            (void)vouch_janus_wait(pairs[i].lively, vouch_deadline_in(KEEPALIVE / 4));
            (void)vouch_janus_process(pairs[i].mute); /* may end with its session */
            silent -= has_seen(&pairs[i].seen, VOUCH_JANUS_TIMEOUT);
        }
        now = vouch_now();
        present = present && now - last < HELD_UP;
    }
    return present;
}

static void check_gone(struct pair *pair) {
    cr_assert_eq(vouch_janus_session_get_state(pair->mute_session), -ESTALE, "%s", pair->address);
    cr_assert_eq(vouch_janus_handle_get_state(pair->handle), -ESTALE);
    cr_assert_eq(vouch_janus_hangup(pair->handle, NULL, NULL), -ESTALE);
}

static void check_alive(struct pair *pair) {
    struct vouch_janus_stats stats;
    cr_assert_eq(vouch_janus_session_get_state(pair->lively_session), 0, "%s", pair->address);
    cr_assert_eq(vouch_janus_keepalive(pair->lively_session, NULL, NULL), 0, "%s", pair->address);
    vouch_janus_get_stats(pair->lively, &stats);
    cr_assert_geq(stats.keepalives, 2);
}

/* Again, if the machine has held us up. */
static void timeouts(void) {
    struct pair pairs[2];
    bool present;
    do {
        present = true;
        for (size_t i = 0; i < real.address_count; i++)
            present = pair_make(&pairs[i], real.addresses[i]) && present;
        present = present && turn_until_timed_out(pairs, real.address_count);
        for (size_t i = 0; present && i < real.address_count; i++) {
            check_gone(&pairs[i]);
            check_alive(&pairs[i]);
        }
        for (size_t i = 0; i < real.address_count; i++)
            pair_free(&pairs[i]);
    } while (!present);
}

Test(janus_gateway, timeouts_over_packets_and_local_websockets) {
    with_gateway(PACKETS_AND_LOCAL, (struct janus_real_options){.session_timeout = 1}, timeouts);
}

Test(janus_gateway, timeouts_over_datagrams_and_tcp) {
    with_gateway(DATAGRAMS_AND_TCP, (struct janus_real_options){.session_timeout = 1}, timeouts);
}

/* ---- killed, and started again ---- */

struct victim {
    struct vouch_janus *janus;
    struct vouch_janus_session *session;
    struct janus_outcome outcomes[3];
    unsigned ends;
    int end_result;
};

static void on_end(void *context, int result, const struct vouch_error *error) {
    struct victim *victim = context;
    victim->ends++;
    victim->end_result = result;
    cr_assert_eq(error->code, result);
}

/* A frozen gateway answers no call. With datagrams it is a keep-alive that finds out. */
static void leave_pending(struct victim *victim) {
    const struct vouch_janus_request requests[3] = {
        {.verb = VOUCH_JANUS_DO_PING},
        {.verb = VOUCH_JANUS_DO_CREATE},
        {.verb = VOUCH_JANUS_DO_KEEPALIVE, .session = victim->session},
    };
    for (int i = 0; i < 3; i++)
        cr_assert_eq(vouch_janus_call_async(victim->janus, &requests[i], NULL,
                                            janus_outcome_callback, &victim->outcomes[i], NULL),
                     0);
}

static void check_end(struct victim *victim) {
    janus_wait_for(victim->janus, &victim->ends, 1);
    cr_assert_eq(victim->end_result, -ECONNRESET);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(victim->outcomes[i].callbacks, 1);
        cr_assert_eq(victim->outcomes[i].result, -ECONNRESET);
    }
    cr_assert_eq(vouch_janus_wait(victim->janus, VOUCH_FOREVER), -ECONNRESET);
    cr_assert_eq(vouch_janus_ping(victim->janus, NULL, NULL), -ECONNRESET);
    cr_assert_eq(vouch_janus_session_get_state(victim->session), -ECONNRESET);
    vouch_janus_free(victim->janus);
    cr_assert_eq(victim->ends, 1);
    vouch_janus_session_free(victim->session);
}

static void answers_again(const char *address) {
    struct vouch_janus *janus = janus_real_client(address, NULL);
    cr_assert_eq(vouch_janus_ping(janus, NULL, NULL), 0);
    vouch_janus_free(janus);
}

static void die(void) {
    struct victim victims[2] = {{.ends = 0}};
    for (size_t i = 0; i < real.address_count; i++) {
        const struct vouch_janus_options options = {VOUCH_OPTIONS(options),
                                                    .keepalive_interval = VOUCH_MILLISECONDS(100),
                                                    .on_end = on_end, .context = &victims[i]};
        victims[i].janus = janus_real_client(real.addresses[i], &options);
        cr_assert_eq(vouch_janus_create(victims[i].janus, NULL, NULL, &victims[i].session, NULL),
                     0);
    }
    janus_real_freeze(&real);
    for (size_t i = 0; i < real.address_count; i++)
        leave_pending(&victims[i]);
    janus_real_stop(&real);
    for (size_t i = 0; i < real.address_count; i++)
        check_end(&victims[i]);
    janus_real_restart(&real);
    over_each(answers_again);
}

Test(janus_gateway, killed_with_packets_and_local_websockets) {
    with_gateway(PACKETS_AND_LOCAL, (struct janus_real_options){.api_secret = NULL}, die);
}

Test(janus_gateway, killed_with_datagrams_and_tcp) {
    with_gateway(DATAGRAMS_AND_TCP, (struct janus_real_options){.api_secret = NULL}, die);
}
