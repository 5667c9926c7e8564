/* SPDX-License-Identifier: MIT */
/* The real gateway, where it is installed: every transport, what its plugins say, what ends. */
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

static bool begin(const struct janus_real_options *options) {
    if (!janus_real_there())
        return false;
    support_baseline_begin();
    janus_real_start(&real, options);
    return true;
}

static void end(void) {
    janus_real_stop(&real);
    support_baseline_end();
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

Test(janus_gateway, over_packets) {
    if (!begin(&(struct janus_real_options){0}))
        return;
    converse(real.packets, NULL);
    end();
}

Test(janus_gateway, over_datagrams) {
    if (!begin(&(struct janus_real_options){.datagrams = true}))
        return;
    converse(real.datagrams, NULL);
    end();
}

Test(janus_gateway, over_websockets) {
    if (!janus_ws_ops || !begin(&(struct janus_real_options){.tcp = true}))
        return;
    converse(real.ws, NULL);
    end();
}

Test(janus_gateway, over_websockets_on_a_unix_socket) {
    if (!janus_ws_ops || !begin(&(struct janus_real_options){0}))
        return;
    converse(real.ws_unix, NULL);
    end();
}

/* ---- one after the other ---- */

Test(janus_gateway, the_first_address_that_answers) {
    if (!begin(&(struct janus_real_options){0}))
        return;
    const char *addresses[] = {"file:///nonexistent/socket", real.packets};
    struct vouch_janus *janus = janus_real_client(real.packets, NULL), *second;
    cr_assert_eq(vouch_janus_connect(addresses, 2, NULL, &second, NULL), 0);
    cr_assert_str_eq(vouch_janus_get_address(second), real.packets);
    cr_assert_eq(vouch_janus_ping(second, NULL, NULL), 0);
    vouch_janus_free(janus);
    vouch_janus_free(second);
    end();
}

/* ---- secrets ---- */

Test(janus_gateway, the_secret_is_asked_for) {
    if (!begin(&(struct janus_real_options){.api_secret = "sesame"}))
        return;
    const struct vouch_janus_options good = {VOUCH_OPTIONS(good), .api_secret = "sesame"},
                                     bad = {VOUCH_OPTIONS(bad), .api_secret = "street"};
    struct vouch_janus_session *session;
    struct vouch_error error;
    struct vouch_janus *janus = janus_real_client(real.packets, &bad);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, &error),
                 VOUCH_JANUS_ERROR_UNAUTHORIZED);
    vouch_janus_free(janus);
    converse(real.packets, &good);
    end();
}

/* A token of the gateway's signed kind: "TIME,janus,PLUGIN:" and an HMAC-SHA1 of it. Without one a
 * session is refused; a token that is not signed by it, too. */
Test(janus_gateway, a_token_is_asked_for) {
    if (!begin(&(struct janus_real_options){.token_secret = "signer"}))
        return;
    const struct vouch_janus_options bad = {VOUCH_OPTIONS(bad), .token = "4102444800,janus:AAAA"},
                                     good = {VOUCH_OPTIONS(good), .token = TOKEN};
    struct vouch_janus_session *session;
    struct vouch_error error;
    struct vouch_janus *janus = janus_real_client(real.packets, NULL);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, &error),
                 VOUCH_JANUS_ERROR_UNAUTHORIZED);
    vouch_janus_free(janus);
    janus = janus_real_client(real.packets, &bad);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, &error),
                 VOUCH_JANUS_ERROR_UNAUTHORIZED);
    vouch_janus_free(janus);
    janus = janus_real_client(real.packets, &good);
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, &error), 0, "%s", error.message);
    vouch_janus_session_free(session);
    vouch_janus_free(janus);
    end();
}

/* ---- what ends ---- */

static bool has_seen(const struct janus_seen *seen, enum vouch_janus_kind kind) {
    for (unsigned i = 0; i < seen->count; i++)
        if (seen->events[i].kind == kind)
            return true;
    return false;
}

Test(janus_gateway, a_session_that_says_nothing_times_out) {
    if (!begin(&(struct janus_real_options){.session_timeout = 1}))
        return;
    const struct vouch_janus_options mute = {VOUCH_OPTIONS(mute),
                                             .keepalive_interval = VOUCH_FOREVER};
    struct janus_seen seen = {0};
    const struct vouch_janus_listener listener = {janus_seen_callback, &seen};
    struct vouch_janus *janus = janus_real_client(real.packets, &mute);
    struct vouch_janus_session *session;
    struct vouch_janus_handle *handle;
    cr_assert_eq(vouch_janus_create(janus, &listener, NULL, &session, NULL), 0);
    cr_assert_eq(vouch_janus_attach(session, "janus.plugin.echotest", NULL, NULL, &handle, NULL),
                 0);
    while (!has_seen(&seen, VOUCH_JANUS_TIMEOUT)) /* the handle's end comes before or after */
        janus_wait_for(janus, &seen.count, seen.count + 1);
    cr_assert_eq(vouch_janus_session_get_state(session), -ESTALE);
    cr_assert_eq(vouch_janus_handle_get_state(handle), -ESTALE);
    cr_assert_eq(vouch_janus_hangup(handle, NULL, NULL), -ESTALE);
    vouch_janus_handle_free(handle);
    vouch_janus_session_free(session);
    vouch_janus_free(janus);
    end();
}

/* Three times as long as it lives without: the gateway's own clock is what is waited for, a second
 * session of another connection that keeps silent. */
Test(janus_gateway, keep_alives_keep_it_alive) {
    if (!begin(&(struct janus_real_options){.session_timeout = 1}))
        return;
    const struct vouch_janus_options often = {VOUCH_OPTIONS(often),
                                              .keepalive_interval = VOUCH_MILLISECONDS(200)};
    const struct vouch_janus_options mute = {VOUCH_OPTIONS(mute),
                                             .keepalive_interval = VOUCH_FOREVER};
    struct vouch_janus_stats stats;
    struct vouch_janus *janus = janus_real_client(real.packets, &often),
                       *silent = janus_real_client(real.packets, &mute);
    struct vouch_janus_session *session, *other;
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, NULL), 0);
    cr_assert_eq(vouch_janus_create(silent, NULL, NULL, &other, NULL), 0);
    while (vouch_janus_session_get_state(other) == 0) {
        (void)vouch_janus_wait(janus, vouch_deadline_in(VOUCH_MILLISECONDS(100)));
        (void)vouch_janus_process(silent); /* the gateway ends that connection with its session */
    }
    cr_assert_eq(vouch_janus_session_get_state(session), 0);
    cr_assert_eq(vouch_janus_keepalive(session, NULL, NULL), 0);
    vouch_janus_get_stats(janus, &stats);
    cr_assert_geq(stats.keepalives, 2);
    vouch_janus_session_free(session);
    vouch_janus_session_free(other);
    vouch_janus_free(janus);
    vouch_janus_free(silent);
    end();
}

struct ending {
    unsigned count;
    int result;
};
static void on_end(void *context, int result, const struct vouch_error *error) {
    struct ending *ending = context;
    ending->count++;
    ending->result = result;
    cr_assert_eq(error->code, result);
}

/* Killed with calls pending (a frozen gateway answers none), and started again. */
static void die(const char *address) {
    struct ending ending = {0};
    const struct vouch_janus_options options = {
        VOUCH_OPTIONS(options), .keepalive_interval = VOUCH_MILLISECONDS(100), .on_end = on_end,
        .context = &ending}; /* with datagrams it is a keep-alive that finds out */
    struct janus_outcome outcomes[3] = {{0}};
    struct vouch_janus *janus = janus_real_client(address, &options);
    struct vouch_janus_session *session;
    cr_assert_eq(vouch_janus_create(janus, NULL, NULL, &session, NULL), 0);
    janus_real_freeze(&real);
    const struct vouch_janus_request requests[3] = {
        {.verb = VOUCH_JANUS_DO_PING},
        {.verb = VOUCH_JANUS_DO_CREATE},
        {.verb = VOUCH_JANUS_DO_KEEPALIVE, .session = session},
    };
    for (int i = 0; i < 3; i++)
        cr_assert_eq(vouch_janus_call_async(janus, &requests[i], NULL, janus_outcome_callback,
                                            &outcomes[i], NULL),
                     0);
    janus_real_stop(&real);
    janus_wait_for(janus, &ending.count, 1);
    cr_assert_eq(ending.result, -ECONNRESET);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(outcomes[i].callbacks, 1);
        cr_assert_eq(outcomes[i].result, -ECONNRESET);
    }
    cr_assert_eq(vouch_janus_wait(janus, VOUCH_FOREVER), -ECONNRESET);
    cr_assert_eq(vouch_janus_ping(janus, NULL, NULL), -ECONNRESET);
    cr_assert_eq(vouch_janus_session_get_state(session), -ECONNRESET);
    vouch_janus_free(janus);
    cr_assert_eq(ending.count, 1);
    vouch_janus_session_free(session);

    janus_real_restart(&real);
    janus = janus_real_client(address, NULL);
    cr_assert_eq(vouch_janus_ping(janus, NULL, NULL), 0);
    vouch_janus_free(janus);
}

Test(janus_gateway, killed_and_started_again) {
    if (!begin(&(struct janus_real_options){0}))
        return;
    die(real.packets);
    end();
}

Test(janus_gateway, killed_and_started_again_with_datagrams) {
    if (!begin(&(struct janus_real_options){.datagrams = true}))
        return;
    die(real.datagrams);
    end();
}

Test(janus_gateway, killed_and_started_again_with_websockets) {
    if (!janus_ws_ops || !begin(&(struct janus_real_options){0}))
        return;
    die(real.ws_unix);
    end();
}

Test(janus_gateway, a_session_is_claimed_by_another_connection) {
    if (!begin(&(struct janus_real_options){.reclaim_timeout = 30}))
        return;
    struct vouch_janus *janus = janus_real_client(real.packets, NULL);
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

    janus = janus_real_client(real.packets, NULL);
    cr_assert_eq(vouch_janus_claim(janus, session_id, NULL, NULL, &claimed, &error), 0, "%s",
                 error.message);
    cr_assert_eq(vouch_janus_session_get_id(claimed), session_id);
    cr_assert_eq(vouch_janus_handle_of(claimed, handle_id, NULL, &again), 0);
    cr_assert_eq(vouch_janus_send_message(again, audio, NULL, NULL, NULL, &error), 0, "%s",
                 error.message);
    vouch_janus_session_free(claimed);
    vouch_janus_free(janus);
    vouch_janus_handle_free(again);
    cJSON_Delete(audio);
    end();
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

Test(janus_gateway, in_a_loop_of_the_programs_own) {
    if (!begin(&(struct janus_real_options){0}))
        return;
    foreign(real.packets);
    if (janus_ws_ops)
        foreign(real.ws_unix);
    end();
}

Test(janus_gateway, websockets_in_a_loop_of_the_programs_own) {
    if (!janus_ws_ops || !begin(&(struct janus_real_options){.tcp = true}))
        return;
    foreign(real.ws);
    end();
}
