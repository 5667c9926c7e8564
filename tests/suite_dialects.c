/* SPDX-License-Identifier: MIT */
/* Servers and clients that speak a dialect: the toy of toy_dialect.h, beside our own wire. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/client.h"
#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"
#include "tests/toy_dialect.h"

static struct rpc_stage stage;
static struct toy toy;
static const struct vouch_dialect *toys[1];

static struct vouch_serve_options both(void) {
    toys[0] = &toy.dialect;
    return (struct vouch_serve_options){
        .size = sizeof(struct vouch_serve_options), .dialects = toys, .dialect_count = 1};
}

static void begin(void) {
    support_baseline_begin();
    toy_init(&toy);
    rpc_stage_open(&stage, NULL);
}

static void end(void) {
    rpc_stage_close(&stage);
    cr_assert_eq(toy.events[VOUCH_DIALECT_OPENED], toy.events[VOUCH_DIALECT_CLOSED]);
    support_baseline_end();
}

static void listen_with(const struct vouch_serve_options *options) {
    struct vouch_listener *listener;
    support_temp_path(stage.path, "s");
    cr_assert_eq(vouch_listen(stage.path, NULL, &listener, NULL), 0);
    cr_assert_eq(vouch_server_add_listener_with(stage.server, listener, options), 0);
}

static int raw_with(const struct vouch_serve_options *options) {
    int fds[2];
    struct vouch_conn *conn;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &conn), 0);
    cr_assert_eq(vouch_server_add_conn_with(stage.server, conn, options), 0);
    return fds[1];
}

static int raw(void) {
    struct vouch_serve_options options = both();
    return raw_with(&options);
}

static void say(int fd, const char *text) {
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Reads one line, its end cut off. */
static void hear(int fd, char *line, size_t room) {
    size_t size = 0;
    while (size < room - 1) {
        cr_assert_eq(read(fd, line + size, 1), 1);
        if (line[size] == '\n')
            break;
        size++;
    }
    line[size] = '\0';
}

static void expect_line(int fd, const char *text) {
    char line[4096];
    hear(fd, line, sizeof(line));
    cr_assert_str_eq(line, text);
}

static struct vouch_client *toy_client(const struct vouch_client_options *given) {
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .dialect = &toy.dialect};
    struct vouch_client *client;
    if (given)
        options = *given;
    options.dialect = &toy.dialect;
    cr_assert_eq(vouch_client_dial(stage.path, NULL, &options, &client, NULL), 0);
    return client;
}

/* ---- one socket, two wires ---- */

Test(dialects, one_socket_takes_both_and_methods_can_not_tell) {
    begin();
    struct vouch_serve_options options = both();
    listen_with(&options);
    struct vouch_client *ours, *theirs = toy_client(NULL);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &ours, NULL), 0);
    for (int i = 0; i < 10; i++) {
        rpc_check_call(ours, "echo", "ours", 0, "ours");
        rpc_check_call(theirs, "echo", "theirs", 0, "theirs");
    }
    cr_assert_eq(toy.events[VOUCH_DIALECT_OPENED], 1);
    RPC_EVENTUALLY(toy.events[VOUCH_DIALECT_ANSWERED] == 10); /* counted once it is sent */
    vouch_client_free(ours);
    vouch_client_free(theirs);
    end();
}

Test(dialects, only_the_dialect_may_be_spoken) {
    begin();
    struct vouch_serve_options options = both();
    options.only_dialects = true;
    listen_with(&options);
    struct vouch_client *ours, *theirs = toy_client(NULL);
    rpc_check_call(theirs, "echo", "yes", 0, "yes");
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &ours, NULL), 0);
    int r =
        vouch_client_call(ours, "echo", "x", 1,
                          &(struct vouch_call_options){.timeout = VOUCH_SECONDS(1)}, NULL, NULL);
    cr_assert(r == -ETIMEDOUT || r == -ECONNRESET, "%d",
              r); /* to a reader of lines it is half a line */
    vouch_client_free(ours);
    vouch_client_free(theirs);
    end();
}

Test(dialects, pipelined_calls_are_all_answered_by_their_tags) {
    begin();
    int fd = raw();
    char text[4096] = "";
    for (int i = 0; i < 100; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "call %d echo body%d\n", i, i);
    say(fd, text);
    bool seen[100] = {false};
    for (int i = 0; i < 100; i++) {
        char line[128];
        int tag, body;
        hear(fd, line, sizeof(line));
        cr_assert_eq(sscanf(line, "ok %d body%d", &tag, &body), 2, "%s", line);
        cr_assert(tag == body && tag >= 0 && tag < 100 && !seen[tag]);
        seen[tag] = true;
    }
    close(fd);
    end();
}

static int tell_target(void *context, struct vouch_call *call) {
    size_t size;
    (void)context;
    const char *target = vouch_call_get_target(call, &size);
    return vouch_call_reply(call, target, size);
}

Test(dialects, a_method_learns_what_was_asked_for) {
    support_baseline_begin();
    toy_init(&toy);
    rpc_stage_init(&stage, NULL);
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "target", .handler = tell_target};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    method.name = "try/it";
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    int fd = raw();
    say(fd, "call 1 target x\n");
    expect_line(fd, "ok 1 target");
    say(fd, "call 2 alias/a x\n");
    expect_line(fd, "ok 2 x");
    say(fd, "call 3 try/it x\n");
    expect_line(fd, "ok 3 try/it");
    say(fd, "call 4 try/that x\n");
    expect_line(fd, "ok 4 x");
    struct vouch_client *client = rpc_stage_client(&stage, NULL);
    rpc_check_call(client, "target", "x", 0, "target");
    vouch_client_free(client);
    close(fd);
    end();
}

Test(dialects, methods_without_the_flags_that_it_needs_are_not_there) {
    support_baseline_begin();
    toy_init(&toy);
    toy.dialect.method_flags = VOUCH_METHOD_JSON;
    rpc_stage_init(&stage, NULL);
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "json", .handler = tell_target,
                                  .flags = VOUCH_METHOD_JSON};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    int fd = raw();
    say(fd, "call 1 echo x\n");
    expect_line(fd, "err 1 1 there is no method 'echo'");
    say(fd, "call 2 json x\n");
    expect_line(fd, "ok 2 json");
    close(fd);
    end();
}

Test(dialects, errors_are_told_as_the_dialect_does) {
    begin();
    int fd = raw();
    say(fd, "call 1 nothing x\n");
    expect_line(fd, "err 1 1 there is no method 'nothing'");
    say(fd, "call 2 nonsense x\n");
    expect_line(fd, "err 2 3 that is nonsense");
    say(fd, "call 3 result 5\n");
    expect_line(fd, "err 3 5 the server's policy denies this call");
    say(fd, "rubbish\n\n\ncall 4 echo still here\n");
    expect_line(fd, "ok 4 still here");
    close(fd);
    end();
}

Test(dialects, what_a_line_says_itself_ends_where_it_ends) {
    begin();
    int fd = raw();
    say(fd, "call 1 refuse for this\nrubbish\n");
    expect_line(fd, "err 1 5 for this");
    say(fd, "call 2 or/echo x\n");
    expect_line(fd, "ok 2 x");
    say(fd, "call 3 mistake x\n");
    expect_line(fd, "err 3 9 the server sent an error of unknown type");
    RPC_EVENTUALLY(rpc_stats(&stage).errors[VOUCH_REMOTE_UNKNOWN] == 1);
    close(fd);
    end();
}

Test(dialects, what_a_line_says_itself_is_not_looked_at_when_the_line_is_gone) {
    support_baseline_begin();
    toy_init(&toy);
    struct vouch_server_options with = {VOUCH_OPTIONS(with), .max_request = 1000,
                                        .drain_max = 100000};
    static const char *const targets[] = {"or/echo", "refuse"};
    static const char *const answers[] = {"the request of at least ",
                                          "err 1 5 the server's policy denies this call"};
    char body[50000], line[sizeof(body) + 64];
    rpc_stage_open(&stage, &with);
    memset(body, 'x', sizeof(body));
    int fd = raw();
    for (size_t i = 0; i < 2; i++) {
        snprintf(line, sizeof(line), "call 1 %s %.*s\n", targets[i], (int)sizeof(body), body);
        say(fd, line);
        hear(fd, line, sizeof(line));
        cr_assert_not_null(strstr(line, answers[i]), "%s", line);
    }
    close(fd);
    end();
}

Test(dialects, a_megabyte_each_way) {
    begin();
    struct vouch_serve_options options = both();
    listen_with(&options);
    struct vouch_client *client = toy_client(NULL);
    size_t size = (size_t)1024 * 1024;
    char *body = malloc(size + 1);
    memset(body, 'm', size);
    body[size] = '\0';
    for (int i = 0; i < 5; i++)
        rpc_check_call(client, "echo", body, 0, body);
    free(body);
    vouch_client_free(client);
    end();
}

Test(dialects, a_reply_that_can_not_be_said_is_told_to_both) {
    begin();
    int fd = raw();
    say(fd, "call 1 keep x\n");
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_call_reply(stage.kept[0], "two\nlines", 9), -EBADMSG);
    expect_line(fd, "err 1 4 the reply can't be said in the dialect toy");
    cr_assert_eq(rpc_stats(&stage).errors[VOUCH_REMOTE_SERVER], 1);
    close(fd);
    end();
}

Test(dialects, a_lent_body_is_looked_at_too) {
    begin();
    int fd = raw();
    char *body = malloc(100000), *line = malloc(110000);
    memset(body, '\t', 100000);
    say(fd, "call 1 keep x\n");
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_call_reply(stage.kept[0], body, 100000), 0);
    hear(fd, line, 110000);
    cr_assert_eq(strlen(line), 100005);
    cr_assert_null(memchr(line, '\t', 100005));
    cr_assert_eq(body[0], '\t', "what was lent is not changed");
    free(body);
    free(line);
    close(fd);
    end();
}

/* ---- notices ---- */

struct heard {
    unsigned count;
    char last[64];
};

static void on_notice(void *context, const struct vouch_reply *notice) {
    struct heard *heard = context;
    size_t size = notice->size < sizeof(heard->last) - 1 ? notice->size : sizeof(heard->last) - 1;
    memcpy(heard->last, notice->data, size);
    heard->last[size] = '\0';
    heard->count++;
}

static struct vouch_client_options hearing(struct heard *heard) {
    return (struct vouch_client_options){.size = sizeof(struct vouch_client_options),
                                         .on_notice = on_notice,
                                         .notice_context = heard};
}

Test(dialects, notices_reach_one_or_all) {
    begin();
    struct vouch_serve_options options = both();
    struct heard heard[2] = {{0}};
    struct vouch_client *clients[2], *ours;
    listen_with(&options);
    for (int i = 0; i < 2; i++) {
        struct vouch_client_options with = hearing(&heard[i]);
        clients[i] = toy_client(&with);
        rpc_check_call(clients[i], "echo", "here", 0, "here");
    }
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &ours, NULL), 0);
    rpc_check_call(ours, "echo", "here", 0, "here");
    cr_assert_eq(vouch_server_send_notice(stage.server, 0, "all", 3), 2);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(vouch_client_wait(clients[i], vouch_deadline_in(RPC_PATIENCE)), 1);
        cr_assert_str_eq(heard[i].last, "all");
    }
    cr_assert_eq(vouch_server_send_notice(stage.server, 2, "one", 3), 1);
    cr_assert_eq(vouch_client_wait(clients[1], vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_str_eq(heard[1].last, "one");
    cr_assert_str_eq(heard[0].last, "all");
    cr_assert_eq(vouch_server_send_notice(stage.server, 3, "ours", 4), -ENOTSUP);
    cr_assert_eq(vouch_server_send_notice(stage.server, 99, "nobody", 6), -ENOENT);
    cr_assert_eq(vouch_server_send_notice(stage.server, 1, "two\nlines", 9), -EINVAL);
    cr_assert_eq(vouch_server_send_notice(stage.server, 1, NULL, 9), -EINVAL);
    for (int i = 0; i < 2; i++)
        vouch_client_free(clients[i]);
    vouch_client_free(ours);
    end();
}

Test(dialects, one_that_has_failed_is_not_there_for_notices) {
    begin();
    int fd = raw();
    say(fd, "call 1 echo here\n");
    expect_line(fd, "ok 1 here");
    struct server_conn *conn = stage.server->conns;
    pthread_mutex_lock(&conn->link.lock);
    session_fail(&conn->link.session, -EPROTO); /* and whoever reads has not seen it yet */
    pthread_mutex_unlock(&conn->link.lock);
    cr_assert_eq(vouch_server_send_notice(stage.server, 1, "news", 4), -ENOENT);
    close(fd);
    end();
}

/* The one that ends is not there for notices any more, also not while it is told of. */
static void say_who_left(void *context, uint64_t connection, const struct vouch_identity *peer) {
    char text[64];
    (void)context;
    (void)peer;
    int size = snprintf(text, sizeof(text), "%u has left", (unsigned)connection);
    cr_assert_eq(vouch_server_send_notice(stage.server, connection, text, (size_t)size), -ENOENT);
    int told = vouch_server_send_notice(stage.server, 0, text, (size_t)size);
    cr_assert_eq(told, connection == 2 ? 1 : 0);
}

Test(dialects, who_leaves_can_be_told_of_to_the_others) {
    support_baseline_begin();
    toy_init(&toy);
    struct vouch_server_options with = {VOUCH_OPTIONS(with), .on_close = say_who_left};
    struct vouch_serve_options options = both();
    rpc_stage_open(&stage, &with);
    int stays = raw_with(&options), leaves = raw_with(&options);
    say(stays, "call 1 echo here\n");
    expect_line(stays, "ok 1 here");
    say(leaves, "call 1 echo here\n");
    expect_line(leaves, "ok 1 here");
    close(leaves);
    expect_line(stays, "note 2 has left");
    cr_assert_eq(vouch_server_send_notice(stage.server, 2, "still there?", 12), -ENOENT);
    close(stays);
    end();
}

Test(dialects, notices_beyond_those_that_may_wait_are_counted_and_the_first_kept) {
    begin();
    struct vouch_serve_options options = both();
    struct heard heard = {0};
    struct vouch_client_options with = hearing(&heard);
    listen_with(&options);
    struct vouch_client *client = toy_client(&with);
    rpc_check_call(client, "echo", "here", 0, "here");
    for (int i = 0; i < VOUCH_CLIENT_NOTICES_MAX + 10; i++) {
        int r;
        while ((r = vouch_server_send_notice(stage.server, 1, "news", 4)) == -EAGAIN)
            rpc_check_call(client, "echo", "read", 0, "read");
        cr_assert_eq(r, 1);
    }
    rpc_check_call(client, "echo", "read", 0, "read"); /* what was sent before has come */
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.notices, VOUCH_CLIENT_NOTICES_MAX);
    cr_assert_eq(stats.notices_lost, 10);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)),
                 VOUCH_CLIENT_NOTICES_MAX);
    cr_assert_eq(heard.count, VOUCH_CLIENT_NOTICES_MAX);
    cr_assert_eq(vouch_server_send_notice(stage.server, 1, "more", 4), 1);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_str_eq(heard.last, "more");
    vouch_client_free(client);
    end();
}

static void tell(struct vouch_client *client, const char *text, size_t size) {
    int r;
    while ((r = vouch_server_send_notice(stage.server, 1, text, size)) == -EAGAIN)
        rpc_check_call(client, "echo", "read", 0, "read");
    cr_assert_eq(r, 1);
    rpc_check_call(client, "echo", "read", 0, "read"); /* what was sent before has come */
}

Test(dialects, notices_that_wait_have_a_limit_in_bytes) {
    begin();
    struct vouch_serve_options options = both();
    struct heard heard = {0};
    struct vouch_client_options with = hearing(&heard);
    struct vouch_client_stats stats;
    listen_with(&options);
    struct vouch_client *client = toy_client(&with);
    rpc_check_call(client, "echo", "here", 0, "here");
    size_t size = VOUCH_CLIENT_NOTICE_BYTES_MAX / 16;
    char *text = malloc(size);
    memset(text, 'n', size);
    for (int i = 0; i < 16; i++)
        tell(client, text, size);
    vouch_client_get_stats(client, &stats);
    cr_assert(stats.notices == 16 && stats.notices_lost == 0);
    tell(client, text, 1);
    vouch_client_get_stats(client, &stats);
    cr_assert(stats.notices == 16 && stats.notices_lost == 1);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), 16);
    tell(client, text, 1);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), 1);
    cr_assert_str_eq(heard.last, "n");
    free(text);
    vouch_client_free(client);
    end();
}

Test(dialects, a_small_notice_does_not_keep_a_large_buffer) {
    begin();
    struct vouch_serve_options options = both();
    struct heard heard = {0};
    struct vouch_client_options with = hearing(&heard);
    listen_with(&options);
    struct vouch_client *client = toy_client(&with);
    rpc_check_call(client, "echo", "here", 0, "here");
    size_t size = (size_t)1024 * 1024;
    char *text = malloc(size);
    memset(text, 'n', size);
    for (int i = 0; i < 8; i++) { /* after a large reply there is a large buffer for what comes */
        tell(client, "small", 5);
        struct vouch_reply reply;
        cr_assert_eq(vouch_client_call(client, "echo", text, size, NULL, &reply, NULL), 0);
        vouch_reply_release(&reply);
    }
    struct vouch_pool_stats stats;
    vouch_pool_get_stats(vouch_client_get_pool(client), &stats);
    cr_assert_lt(stats.bytes_held - stats.bytes_idle, size);
    free(text);
    vouch_client_free(client);
    end();
}

Test(dialects, without_a_listener_notices_are_dropped_and_counted) {
    begin();
    struct vouch_serve_options options = both();
    listen_with(&options);
    struct vouch_client *client = toy_client(NULL);
    rpc_check_call(client, "echo", "here", 0, "here");
    cr_assert_eq(vouch_server_send_notice(stage.server, 0, "news", 4), 1);
    rpc_check_call(client, "echo", "here", 0, "here");
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    cr_assert_eq(stats.notices_lost, 1);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), 0);
    vouch_client_free(client);
    end();
}

Test(dialects, who_only_listens_waits_until_the_deadline) {
    begin();
    struct vouch_serve_options options = both();
    struct heard heard = {0};
    struct vouch_client_options with = hearing(&heard);
    listen_with(&options);
    struct vouch_client *client = toy_client(&with);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(VOUCH_MILLISECONDS(1))), -ETIMEDOUT);
    vouch_client_free(client);
    end();
}

Test(dialects, on_our_own_wire_nobody_waits_for_notices) {
    begin();
    struct vouch_serve_options options = both();
    struct heard heard = {0};
    struct vouch_client_options with = hearing(&heard);
    struct vouch_client *client;
    listen_with(&options);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, &with, &client, NULL), 0);
    cr_assert_eq(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), 0);
    vouch_client_free(client);
    end();
}

/* ---- options ---- */

Test(dialects, what_can_not_be_served_is_refused) {
    begin();
    struct vouch_conn *conns[2];
    struct vouch_serve_options options = both();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    options.dialect_count = 0;
    options.only_dialects = true;
    cr_assert_eq(vouch_server_add_conn_with(stage.server, conns[0], &options), -EINVAL);
    options = both();
    options.dialect_count = VOUCH_DIALECTS_MAX + 1;
    cr_assert_eq(vouch_server_add_conn_with(stage.server, conns[0], &options), -EINVAL);
    options = both();
    options.dialects = NULL;
    cr_assert_eq(vouch_server_add_conn_with(stage.server, conns[0], &options), -EINVAL);
    struct toy lame;
    toy_init(&lame);
    lame.dialect.name = NULL;
    toys[0] = &lame.dialect;
    options =
        (struct vouch_serve_options){VOUCH_OPTIONS(options), .dialects = toys, .dialect_count = 1};
    cr_assert_eq(vouch_server_add_conn_with(stage.server, conns[0], &options), -EINVAL);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    end();
}

Test(dialects, the_same_way_to_serve_is_remembered_once) {
    begin();
    for (int i = 0; i < 10; i++)
        close(raw());
    size_t count = 0;
    for (const struct serving *serving = stage.server->servings; serving; serving = serving->next)
        count++;
    cr_assert_eq(count, 1);
    end();
}

Test(dialects, packets_speak_no_dialect) {
    begin();
    struct vouch_conn *conns[2];
    struct vouch_serve_options options = both();
    cr_assert_eq(vouch_conn_pair_of(VOUCH_LINK_SEQPACKET, NULL, conns), 0);
    cr_assert_eq(vouch_server_add_conn_with(stage.server, conns[0], &options), -ENOTSUP);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    end();
}

Test(dialects, a_client_comes_back_in_its_dialect) {
    begin();
    struct vouch_serve_options options = both();
    struct vouch_client_options again = {VOUCH_OPTIONS(again), .reconnect = true};
    listen_with(&options);
    char path[SUPPORT_PATH_MAX];
    snprintf(path, sizeof(path), "%s", stage.path);
    struct vouch_client *client = toy_client(&again);
    rpc_check_call(client, "echo", "one", 0, "one");
    rpc_stage_close(&stage);
    rpc_stage_open(&stage, NULL);
    struct vouch_listener *listener;
    cr_assert_eq(vouch_listen(path, NULL, &listener, NULL), 0);
    cr_assert_eq(vouch_server_add_listener_with(stage.server, listener, &options), 0);
    int r;
    do
        r = vouch_client_call(client, "echo", "two", 3, NULL, NULL, NULL);
    while (r == -ECONNRESET);
    cr_assert_eq(r, 0);
    vouch_client_free(client);
    end();
}
