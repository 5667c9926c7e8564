/* SPDX-License-Identifier: MIT */
/*
 * Faults of the Go package whose wire we speak, each shown not to be ours. The tests are named
 * after what they show.
 *
 * Elsewhere: that a socket appears at once with its owner and mode, and is removed only while it is
 * ours, is in test_publish.c; that the file that was checked is the one connected to, and that the
 * kernel is asked who the peer is, in test_dial.c and test_identity.c; that want of descriptors
 * does not end a server, in test_server.c; what the pool keeps, in test_pool.c; limits, in
 * suite_limits.c; that length and body go out in one system call, in suite_allocations.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/rpc_support.h"

static struct rpc_stage stage;
static struct vouch_client *client;
static int64_t begun;

static void open_both(void) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    rpc_stage_listen(&stage, NULL);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    begun = vouch_now();
}

static void close_both(void) {
    vouch_client_free(client);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* Far below the 30 s that a call has. */
static void check_at_once(void) {
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
}

/* ---- answers ---- */

/* There it goes out without an id, and its caller waits for five minutes. */
Test(regressions, an_unknown_method_is_answered_and_not_waited_for) {
    open_both();
    rpc_check_call(client, "no/such", "", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    check_at_once();
    int fd = rpc_stage_raw(&stage);
    struct rpc_received reply;
    rpc_raw_send(fd, &(struct rpc_message){.id = 12, .method = "no/such"});
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.id, 12);
    cr_assert_eq(reply.envelope.error_type, 1);
    rpc_received_free(&reply);
    close(fd);
    close_both();
}

Test(regressions, a_handlers_error_is_answered_and_is_not_called_an_unknown_method) {
    open_both();
    rpc_check_call(client, "result", "-1", VOUCH_REMOTE_SERVER, NULL);
    check_at_once();
    close_both();
}

Test(regressions, a_connection_that_dies_ends_its_calls_at_once) {
    support_baseline_begin();
    int fd;
    client = rpc_raw_client(&fd, NULL);
    begun = vouch_now();
    struct rpc_outcome outcomes[10];
    for (int i = 0; i < 10; i++)
        rpc_call_async(client, "a", "", NULL, &outcomes[i], NULL);
    close(fd);
    rpc_wait_callbacks(client, 10);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(outcomes[i].result, -ECONNRESET);
    check_at_once();
    vouch_client_free(client);
    support_baseline_end();
}

Test(regressions, a_cancelled_call_is_cancelled_on_its_server) {
    open_both();
    rpc_check_call(client, "echo", "", 0, "");
    struct rpc_outcome outcome;
    uint64_t id;
    rpc_call_async(client, "wait", "", NULL, &outcome, &id);
    rpc_latch_wait(&stage.entered, 1);
    cr_assert_eq(vouch_client_cancel_id(client, id), 0);
    rpc_latch_wait(&stage.cancelled, 1);
    check_at_once();
    rpc_wait_callbacks(client, 1);
    close_both();
}

Test(regressions, an_empty_message_can_be_sent_and_answered) {
    open_both();
    struct vouch_reply reply;
    cr_assert_eq(vouch_client_call(client, "echo", NULL, 0, NULL, &reply, NULL), 0);
    cr_assert_eq(reply.size, 0);
    vouch_reply_release(&reply);
    close_both();
}

/* ---- what is at the path ---- */

static struct stat look(const char *path) {
    struct stat status;
    cr_assert_eq(lstat(path, &status), 0);
    return status;
}

Test(regressions, a_running_servers_socket_is_left_alone) {
    open_both();
    struct stat before = look(stage.path);
    struct vouch_listener *second;
    int r = vouch_listen(stage.path, NULL, &second, NULL);
    cr_assert(r == VOUCH_E_ADDRESS_LIVE || r == VOUCH_E_ADDRESS_LOCKED, "%d", r);
    cr_assert_eq(look(stage.path).st_ino, before.st_ino);
    struct vouch_client *another;
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &another, NULL), 0);
    rpc_check_call(another, "echo", "still the first", 0, "still the first");
    vouch_client_free(another);
    close_both();
}

Test(regressions, a_regular_file_at_the_path_is_left_alone) {
    support_baseline_begin();
    char path[SUPPORT_PATH_MAX];
    peers_touch(support_temp_path(path, "precious"));
    struct stat before = look(path);
    struct vouch_listener *listener;
    cr_assert_eq(vouch_listen(path, NULL, &listener, NULL), VOUCH_E_NOT_SOCKET);
    cr_assert_eq(look(path).st_ino, before.st_ino);
    cr_assert(S_ISREG(look(path).st_mode));
    support_baseline_end();
}

/* There, without modes given, 0770 is refused and all else accepted. */
Test(regressions, modes_are_checked_the_right_way_round) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    struct vouch_listen_options listen = {VOUCH_OPTIONS(listen), .mode = 0770};
    rpc_stage_listen(&stage, &listen);
    static const mode_t right[] = {0700, 0770}, wrong[] = {0777, 0700, 01770};
    struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .file_modes = right,
                                      .file_mode_count = 2};
    struct vouch_error error;
    cr_assert_eq(vouch_client_dial(stage.path, &dial, NULL, &client, NULL), 0);
    vouch_client_free(client);
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    vouch_client_free(client);
    dial.file_modes = wrong;
    dial.file_mode_count = 3;
    cr_assert_eq(vouch_client_dial(stage.path, &dial, NULL, &client, &error), VOUCH_E_FILE_MODE);
    cr_assert_not_null(strstr(error.message, "0770"), "%s", error.message);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- who the server is ---- */

Test(regressions, a_client_looks_at_its_servers_credentials) {
    open_both();
    struct vouch_rule rule = {VOUCH_ALLOW, VOUCH_SUBJECT_UID, geteuid() + 1};
    struct vouch_policy others = {&rule, 1};
    struct vouch_dial_options dial = {VOUCH_OPTIONS(dial), .server = &others};
    struct vouch_client *refused;
    cr_assert_eq(vouch_client_dial(stage.path, &dial, NULL, &refused, NULL), VOUCH_E_PEER_REFUSED);
    close_both();
}

/* ---- lengths ---- */

/* There a negative length reads as an empty message, again and again. */
Test(regressions, a_negative_length_ends_the_connection) {
    open_both();
    int fd = rpc_stage_raw(&stage);
    cr_assert(rpc_raw_write(fd, "\x03", 1));
    rpc_raw_expect_end(fd);
    check_at_once();
    cr_assert_eq(rpc_stats(&stage).calls, 0);
    close(fd);
    close_both();
}

/* There is a maximum without being asked for, and no memory is taken for what is only announced. */
Test(regressions, a_huge_length_takes_no_memory_and_ends_the_connection) {
    open_both();
    struct vouch_memory_stats before, after;
    uint8_t length[12];
    size_t size = rpc_encode_length((uint64_t)1 << 40, length);
    memcpy(length + size, "\x08\x01", 2);
    vouch_memory_get_stats(&before);
    int fds[10];
    for (int i = 0; i < 10; i++) {
        fds[i] = rpc_stage_raw(&stage);
        cr_assert(rpc_raw_write(fds[i], length, size + 2));
        rpc_raw_expect_end(fds[i]);
    }
    vouch_memory_get_stats(&after);
    cr_assert_lt(after.live_bytes, before.live_bytes + 10 * 100000);
    for (int i = 0; i < 10; i++)
        close(fds[i]);
    close_both();
}

/* A read that fails gives its buffer back: see the baseline. */
static uint64_t buffers_out(void) {
    struct vouch_pool_stats pool;
    vouch_pool_get_stats(vouch_server_get_pool(stage.server), &pool);
    return pool.buffers_out;
}

Test(regressions, a_message_cut_short_leaves_nothing_behind) {
    support_baseline_begin();
    rpc_stage_open(&stage, NULL);
    for (int i = 0; i < 100; i++) {
        int fd = rpc_stage_raw(&stage);
        uint8_t length[10];
        cr_assert(rpc_raw_write(fd, length, rpc_encode_length(100000, length)));
        cr_assert(rpc_raw_write(fd, "cut short", 9));
        close(fd);
    }
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    RPC_EVENTUALLY(buffers_out() == 0); /* given back a moment later */
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* ---- what a peer says, repeated to others ---- */

Test(regressions, a_peers_bytes_are_not_repeated_raw) {
    open_both();
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client, "\x1b[2J\nno", "", 0, NULL, NULL, &error),
                 VOUCH_REMOTE_METHOD_NOT_FOUND);
    for (const char *at = error.message; *at; at++)
        cr_assert((uint8_t)*at >= 0x20 && *at != 0x7f, "a control character");
    int fd;
    struct vouch_client *victim = rpc_raw_client(&fd, NULL);
    struct rpc_outcome outcome;
    rpc_call_async(victim, "a", "", NULL, &outcome, NULL);
    rpc_raw_send(fd, &(struct rpc_message){.id = 1, .error_type = 4, .error = "\x1b[31m%s%n\r\n"});
    rpc_wait_callbacks(victim, 1);
    cr_assert_eq(outcome.result, VOUCH_REMOTE_SERVER);
    cr_assert_str_eq(outcome.error.message, "?[31m%s%n??");
    vouch_client_free(victim);
    close(fd);
    close_both();
}
