/* SPDX-License-Identifier: MIT */
/* Listeners of a server that come and go while it serves. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static char path[SUPPORT_PATH_MAX];

static void begin(void) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    support_temp_path(path, "listener");
}

static void end(void) {
    rpc_stage_close(&stage);
    support_baseline_end();
}

static struct vouch_listener *serve(const char *at) {
    struct vouch_listener *listener = peers_must_listen(at, NULL);
    cr_assert_eq(vouch_server_add_listener(stage.server, listener), 0);
    return listener;
}

static struct vouch_client *dial(const char *at) {
    struct vouch_client *client;
    struct vouch_error error;
    int r = vouch_client_dial(at, NULL, NULL, &client, &error);
    cr_assert_eq(r, 0, "%s", r < 0 ? error.message : "");
    return client;
}

Test(server_listener, one_that_is_removed_lets_nobody_in_and_leaves_those_who_are) {
    begin();
    struct vouch_listener *listener = serve(path);
    struct vouch_client *client = dial(path), *late;
    rpc_check_call(client, "echo", "before", 0, "before");
    cr_assert_eq(vouch_server_remove_listener(stage.server, listener), 0);
    cr_assert_not(peers_exists(path));
    cr_assert_eq(vouch_client_dial(path, NULL, NULL, &late, NULL), -ENOENT);
    rpc_check_call(client, "echo", "after", 0, "after");
    vouch_client_free(client);
    end();
}

Test(server_listener, what_is_not_there_can_not_be_removed) {
    begin();
    struct vouch_listener *listener = serve(path), *other;
    char elsewhere[SUPPORT_PATH_MAX];
    other = peers_must_listen(support_temp_path(elsewhere, "other"), NULL);
    cr_assert_eq(vouch_server_remove_listener(stage.server, other), -ENOENT);
    cr_assert(peers_exists(elsewhere), "it is the caller's");
    vouch_listener_free(other);
    cr_assert_eq(vouch_server_remove_listener(stage.server, listener), 0);
    cr_assert_eq(vouch_server_remove_listener(stage.server, NULL), -ENOENT);
    end();
}

Test(server_listener, one_that_is_closed_or_served_already_is_refused) {
    begin();
    struct vouch_listener *listener = peers_must_listen(path, NULL);
    vouch_listener_close(listener);
    cr_assert_eq(vouch_server_add_listener(stage.server, listener), -EBADF);
    vouch_listener_free(listener);
    listener = serve(path);
    cr_assert_eq(vouch_server_add_listener(stage.server, listener), -EEXIST);
    struct vouch_client *client = dial(path);
    rpc_check_call(client, "echo", "here", 0, "here");
    vouch_client_free(client);
    end();
}

Test(server_listener, others_serve_on) {
    begin();
    char paths[3][SUPPORT_PATH_MAX];
    struct vouch_listener *listeners[3];
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "l%d", i);
        listeners[i] = serve(support_temp_path(paths[i], name));
    }
    cr_assert_eq(vouch_server_remove_listener(stage.server, listeners[1]), 0);
    for (int i = 0; i < 3; i += 2) {
        struct vouch_client *client = dial(paths[i]);
        rpc_check_call(client, "echo", "here", 0, "here");
        vouch_client_free(client);
    }
    end();
}

/* Out of descriptors each rests until a time of its own, and memory may be short then too. */
Test(server_listener, each_has_its_place_among_the_timers) {
    enum { MANY = 20 };
    begin();
    for (int i = 0; i < MANY; i++) {
        char at[SUPPORT_PATH_MAX], name[16];
        snprintf(name, sizeof(name), "l%d", i);
        (void)serve(support_temp_path(at, name));
    }
    pthread_mutex_lock(&stage.server->lock);
    size_t room = stage.server->timers.room;
    pthread_mutex_unlock(&stage.server->lock);
    cr_assert_geq(room, MANY);
    end();
}

/* A program that does so for weeks must not grow. */
Test(server_listener, coming_and_going_takes_nothing_that_stays) {
    struct support_allocator allocator;
    support_allocator_init(&allocator);
    const struct vouch_server_options options = {VOUCH_OPTIONS(options),
                                                 .allocator = &allocator.allocator};
    const struct vouch_serve_options ways[] = {
        {VOUCH_OPTIONS(ways[0])},
        {VOUCH_OPTIONS(ways[0]), .allow_callers_without_identity = true},
    };
    support_baseline_begin();
    rpc_stage_open(&stage, &options);
    enum { WARM = 50, ROUNDS = 250, SPARE = 20 };
    uint64_t memory = 0;
    size_t open = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct vouch_listener *listener = peers_must_listen(support_temp_path(path, "l"), NULL);
        cr_assert_eq(vouch_server_add_listener_with(stage.server, listener, &ways[i % 2]), 0);
        cr_assert_eq(vouch_server_remove_listener(stage.server, listener), 0);
        if (i == WARM) {
            memory = atomic_load(&allocator.live_bytes);
            open = support_count_fds();
        }
    }
    /* A worker may still be about to see that one is gone. */
    RPC_EVENTUALLY(support_count_fds() <= open);
    RPC_EVENTUALLY(atomic_load(&allocator.live_bytes) <=
                   memory + SPARE * sizeof(struct server_listener));
    rpc_stage_close(&stage);
    support_allocator_check(&allocator);
    support_baseline_end();
}

static atomic_bool dialling;

/* Most find nobody, or lose the connection before it is served. */
static void *dial_on(void *context) {
    (void)context;
    while (atomic_load(&dialling)) {
        struct vouch_client *client;
        if (vouch_client_dial(path, NULL, NULL, &client, NULL) == 0)
            vouch_client_free(client);
    }
    return NULL;
}

Test(server_listener, removed_while_clients_come) {
    begin();
    atomic_store(&dialling, true);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        threads[i] = support_thread_start(dial_on, NULL);
    for (int i = 0; i < 200; i++)
        cr_assert_eq(vouch_server_remove_listener(stage.server, serve(path)), 0);
    (void)serve(path);
    struct vouch_client *client = dial(path);
    rpc_check_call(client, "echo", "here", 0, "here");
    vouch_client_free(client);
    atomic_store(&dialling, false);
    for (int i = 0; i < 2; i++)
        support_thread_join(threads[i]);
    end();
}

static int remove_from_within(void *context, struct vouch_call *call) {
    int r = vouch_server_remove_listener(stage.server, *(struct vouch_listener **)context);
    return r == 0 ? vouch_call_reply(call, "gone", 4) : r;
}

Test(server_listener, a_handler_may_remove_the_one_that_it_was_called_through) {
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    support_temp_path(path, "listener");
    struct vouch_listener *listener = peers_must_listen(path, NULL);
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "remove",
                                  .handler = remove_from_within, .context = &listener};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_add_listener(stage.server, listener), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    struct vouch_client *client = dial(path);
    rpc_check_call(client, "remove", "", 0, "gone");
    rpc_check_call(client, "echo", "still", 0, "still");
    vouch_client_free(client);
    end();
}

Test(server_listener, after_a_stop_it_can_be_removed_too) {
    begin();
    struct vouch_listener *listener = serve(path);
    cr_assert_eq(vouch_server_stop(stage.server, 0), 0);
    cr_assert_eq(vouch_server_remove_listener(stage.server, listener), 0);
    end();
}

static int remove_in_a_child(void *context) {
    return vouch_server_remove_listener(stage.server, context) == -ECHILD ? 0 : 1;
}

Test(server_listener, not_in_a_forked_child) {
    begin();
    struct vouch_listener *listener = serve(path);
    cr_assert_eq(peers_run(remove_in_a_child, listener), 0);
    cr_assert(peers_exists(path));
    end();
}
