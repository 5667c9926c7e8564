/* SPDX-License-Identifier: MIT */
/* How many system calls things take: a message leaves in one, header and body together. */
#include <errno.h>
#include <stdlib.h>
#include <vouch/chunk.h>
#include <vouch/client.h>
#include <vouch/conn.h>
#include <vouch/server.h>

#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/support.h"

enum { BODY = 20000 }; /* a socket takes it at once */

static unsigned sends(void) {
    return faults_count("sendmsg") + faults_count("send") + faults_count("write");
}

static unsigned receives(void) {
    return faults_count("recvmsg") + faults_count("recv") + faults_count("read");
}

Test(syscalls, a_chunk_is_written_in_one_and_read_in_one) {
    static uint8_t body[BODY];
    struct vouch_chunk_conn *chunks[2];
    struct vouch_conn *conns[2];
    struct vouch_chunk chunk;

    support_baseline_begin();
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_chunk_conn_new(conns[0], NULL, &chunks[0]), 0);
    cr_assert_eq(vouch_chunk_conn_new(conns[1], NULL, &chunks[1]), 0);
    faults_begin(NULL);
    cr_assert_eq(vouch_chunk_conn_write(chunks[0], body, BODY), 0);
    cr_assert_eq(vouch_chunk_conn_write(chunks[0], body, 100), 0);
    faults_end();
    cr_assert_eq(sends(), 2);
    faults_begin(NULL);
    cr_assert_eq(vouch_chunk_conn_read(chunks[1], &chunk), 1);
    faults_end();
    cr_assert_eq(chunk.size, BODY);
    cr_assert_leq(receives(), 8, "the buffer grows as bytes arrive, at most doubling");
    vouch_buffer_unref(chunk.buffer);
    vouch_chunk_conn_free(chunks[0]);
    vouch_chunk_conn_free(chunks[1]);
    support_baseline_end();
}

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);

    (void)context;
    return vouch_call_reply(call, data, size);
}

/* Of all threads together, when both sides know each other: one to send the call, one to send the
 * reply. */
Test(syscalls, a_call_and_its_reply_are_one_send_each) {
    static uint8_t body[BODY];
    struct vouch_method method = {.name = "/echo", .handler = echo, .flags = VOUCH_METHOD_QUICK};
    struct vouch_conn *conns[2];
    struct vouch_server *server;
    struct vouch_client *client;

    support_baseline_begin();
    cr_assert_eq(vouch_server_new(NULL, &server), 0);
    cr_assert_eq(vouch_server_add_method(server, &method), 0);
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    cr_assert_eq(vouch_client_new(conns[0], NULL, &client), 0);
    cr_assert_eq(vouch_server_add_conn(server, conns[1]), 0);
    cr_assert_eq(vouch_server_start(server), 0);
    cr_assert_eq(vouch_client_call(client, "/echo", body, 1, NULL, NULL, NULL), 0);
    faults_begin(NULL);
    cr_assert_eq(vouch_client_call(client, "/echo", body, BODY, NULL, NULL, NULL), 0);
    faults_end();
    cr_assert_eq(faults_count("sendmsg"), 2);
    vouch_client_free(client);
    vouch_server_free(server);
    support_baseline_end();
}
