/* SPDX-License-Identifier: MIT */
/* A session on a connection: what is sent when, and what receiving says. */
#include "rpc/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/rpc_support.h"

/* A client's link; its peer is a descriptor. */
static struct link client;
static struct vouch_pool *pool;
static int peer;

static void open_link(void) {
    static const struct session_limits limits = {.max_receive = 5000000,
                                                 .max_send = 5000000,
                                                 .drain_max = 5000000,
                                                 .max_calls = 10,
                                                 .output_soft = SIZE_MAX,
                                                 .output_hard = SIZE_MAX,
                                                 .frame_timeout = VOUCH_FOREVER,
                                                 .stall_timeout = VOUCH_SECONDS(5)};
    int fds[2];
    support_baseline_begin();
    memset(&client, 0, sizeof(client));
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &client.conn), 0);
    peer = fds[1];
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    cr_assert_eq(session_init(&client.session, SESSION_CLIENT, &limits, pool, NULL), 0);
    pthread_mutex_init(&client.lock, NULL);
}

static void close_link(void) {
    session_deinit(&client.session);
    vouch_conn_free(client.conn);
    pthread_mutex_destroy(&client.lock);
    vouch_pool_unref(pool);
    if (peer >= 0)
        close(peer);
    support_baseline_end();
}

static void queue_call(struct session_slot *slot, size_t size) {
    struct vouch_buffer *body;
    cr_assert_eq(session_buffer(pool, size, &body), 0);
    memset(body->data, 'x', size);
    body->size = size;
    cr_assert_eq(session_call(&client.session, slot, "m", body, VOUCH_FOREVER, NULL), 0);
}

static void flush(void) {
    pthread_mutex_lock(&client.lock);
    link_flush(&client);
    pthread_mutex_unlock(&client.lock);
}

static void expect_call(uint32_t id, size_t size) {
    struct rpc_received call;
    rpc_raw_expect(peer, &call);
    cr_assert_eq(call.envelope.id, id);
    cr_assert_eq(call.envelope.data_size, size);
    rpc_received_free(&call);
}

Test(link, flush_sends_all_that_is_queued) {
    open_link();
    static struct session_slot slots[5];
    flush();
    cr_assert_not(rpc_raw_readable(peer), "nothing was queued");
    for (int i = 0; i < 5; i++)
        queue_call(&slots[i], 10);
    size_t bytes = client.session.out.bytes;
    flush();
    cr_assert_eq(client.session.out.bytes, 0);
    cr_assert_eq(client.bytes_sent, bytes);
    cr_assert_not(link_wants_output(&client));
    for (uint32_t i = 1; i <= 5; i++)
        expect_call(i, 10);
    for (int i = 0; i < 5; i++)
        session_forget(&client.session, &slots[i]);
    close_link();
}

Test(link, a_full_socket_is_flushed_again_later) {
    open_link();
    struct session_slot slot;
    queue_call(&slot, 3000000);
    flush();
    cr_assert(client.blocked);
    cr_assert(link_wants_output(&client));
    cr_assert_neq(client.session.stall_deadline, VOUCH_FOREVER);
    size_t left = client.session.out.bytes, rounds = 0;
    uint8_t *bytes = malloc(4000000);
    cr_assert_not_null(bytes);
    while (client.session.out.bytes > 0) {
        cr_assert_gt(recv(peer, bytes, 4000000, 0), 0);
        flush();
        cr_assert_lt(client.session.out.bytes, left, "each time some");
        left = client.session.out.bytes;
        cr_assert_lt(++rounds, 1000);
    }
    cr_assert_not(link_wants_output(&client));
    cr_assert_eq(client.session.stall_deadline, VOUCH_FOREVER);
    free(bytes);
    session_forget(&client.session, &slot);
    close_link();
}

Test(link, corked_or_while_another_sends_nothing_is_sent) {
    open_link();
    struct session_slot slot;
    queue_call(&slot, 10);
    client.corked = true;
    flush();
    client.corked = false;
    client.sending = true;
    flush();
    client.sending = false;
    cr_assert_not(rpc_raw_readable(peer));
    flush();
    expect_call(1, 10);
    session_forget(&client.session, &slot);
    close_link();
}

Test(link, a_peer_that_is_gone_breaks_the_link_but_not_yet_the_session) {
    open_link();
    struct session_slot slots[2];
    bool full;
    queue_call(&slots[0], 10);
    flush();
    expect_call(1, 10);
    rpc_raw_send(peer, &(struct rpc_message){.id = 1, .data = "last words", .size = 10});
    close(peer);
    peer = -1;
    queue_call(&slots[1], 10);
    flush();
    cr_assert(client.broken);
    cr_assert_not(link_wants_output(&client));
    cr_assert_eq(session_failure(&client.session), 0);
    cr_assert_gt(link_receive(&client, &full), 0);
    struct session_event event;
    cr_assert_eq(session_next(&client.session, vouch_now(), &event), 1);
    cr_assert_eq(event.slot, &slots[0]);
    cr_assert_eq(event.envelope.data_size, 10);
    vouch_buffer_unref(event.buffer);
    cr_assert_eq(link_receive(&client, &full), -ECONNRESET);
    cr_assert_eq(session_failure(&client.session), -ECONNRESET);
    session_forget(&client.session, &slots[1]);
    close_link();
}

Test(link, receive_says_how_much_there_was) {
    open_link();
    bool full = true;
    cr_assert_eq(link_receive(&client, &full), 0, "nothing, and it does not wait");
    cr_assert_not(full);
    cr_assert(rpc_raw_write(peer, "\x08", 1));
    cr_assert_eq(link_receive(&client, &full), 1);
    cr_assert_not(full);
    cr_assert_eq(client.bytes_received, 1);
    uint8_t *many = calloc(1, 200000);
    cr_assert_not_null(many);
    cr_assert_gt(send(peer, many, 200000, MSG_DONTWAIT), 0);
    free(many);
    int r = link_receive(&client, &full);
    cr_assert_gt(r, 0);
    cr_assert(full, "as much as there was room for");
    close_link();
}

Test(link, receive_on_a_dead_session_says_why_it_is_dead) {
    open_link();
    bool full;
    session_fail(&client.session, -EPROTO);
    cr_assert_eq(link_receive(&client, &full), -EPROTO);
    cr_assert_not(full);
    close_link();
}

Test(link, the_end_of_file_is_the_end) {
    open_link();
    bool full;
    close(peer);
    peer = -1;
    cr_assert_eq(link_receive(&client, &full), -ECONNRESET);
    cr_assert_eq(session_failure(&client.session), -ECONNRESET);
    close_link();
}
