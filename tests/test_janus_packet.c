/* SPDX-License-Identifier: MIT */
/* The link of packets: a full backlog, sizes, who listens. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/janus_link.h"
#include "tests/harness.h"
#include "tests/janus_support.h"

static struct janus_gateway gateway;
static struct vouch_pool *pool;
static struct janus_address address;
static struct janus_link *link_;

static void begin(void) {
    support_baseline_begin();
    cr_assert_eq(vouch_pool_new(NULL, &pool), 0);
    janus_gateway_open(&gateway);
    cr_assert_eq(janus_address_parse(gateway.address, &address, NULL), 0);
}

static void end(void) {
    janus_gateway_close(&gateway);
    vouch_pool_unref(pool);
    support_baseline_end();
}

static int open_link(size_t max_message, struct vouch_error *ret_error) {
    const struct janus_link_options options = {
        .address = &address, .pool = pool, .max_message = max_message};
    cr_assert_eq(janus_link_ops_of(&address), &janus_packet_ops);
    return janus_packet_ops.open(&options, &link_, ret_error);
}

static void open_connected(size_t max_message) {
    cr_assert_eq(open_link(max_message, NULL), 0);
    cr_assert_eq(janus_packet_ops.process(link_, NULL), 1);
    janus_gateway_accept(&gateway);
}

static void receive(int result, const char *expected) {
    const char *text = NULL;
    size_t size = 0;
    struct pollfd fd = {.fd = janus_packet_ops.get_fd(link_), .events = POLLIN};
    if (result != -EAGAIN)
        cr_assert_eq(poll(&fd, 1, 30000), 1);
    cr_assert_eq(janus_packet_ops.receive(link_, &text, &size), result);
    if (result == 1) {
        cr_assert_eq(size, strlen(expected));
        cr_assert_arr_eq(text, expected, size);
    }
}

Test(janus_packet, there_and_back) {
    char buffer[16];
    begin();
    open_connected(100);
    cr_assert_eq(janus_packet_ops.get_events(link_, false), POLLIN);
    cr_assert_eq(janus_packet_ops.get_events(link_, true), POLLIN | POLLOUT);
    cr_assert_eq(janus_packet_ops.get_timeout(link_), VOUCH_FOREVER);
    receive(-EAGAIN, NULL);
    cr_assert_eq(janus_packet_ops.send(link_, "hello", 5), 0);
    cr_assert_eq(recv(gateway.fd, buffer, sizeof(buffer), 0), 5);
    janus_gateway_say_bytes(&gateway, "one", 3);
    janus_gateway_say_bytes(&gateway, "two", 3);
    receive(1, "one");
    receive(1, "two");
    receive(-EAGAIN, NULL);
    janus_gateway_hang_up(&gateway);
    receive(-ECONNRESET, NULL);
    janus_packet_ops.close(link_);
    end();
}

Test(janus_packet, as_large_as_the_limit) {
    char text[102];
    begin();
    open_connected(100);
    memset(text, 'x', sizeof(text));
    text[100] = '\0';
    janus_gateway_say_bytes(&gateway, text, 100);
    receive(1, text);
    janus_gateway_say_bytes(&gateway, text, 101);
    receive(-EMSGSIZE, NULL);
    janus_packet_ops.close(link_);
    end();
}

/* More than the socket's buffer as it is at first, and more than it may become. */
Test(janus_packet, larger_than_the_sockets_buffer) {
    size_t size = (size_t)1 << 30;
    begin();
    open_connected(100);
    char *text = calloc(1, size);
    cr_assert_not_null(text);
    cr_assert_eq(janus_packet_ops.send(link_, text, size), -EMSGSIZE);
    cr_assert_eq(janus_packet_ops.send(link_, text, 100), 0);
    free(text);
    janus_packet_ops.close(link_);
    end();
}

Test(janus_packet, a_gateway_that_does_not_read) {
    char text[1000] = "";
    int result = 0;
    begin();
    open_connected(100);
    for (int i = 0; i < 100000 && result == 0; i++)
        result = janus_packet_ops.send(link_, text, sizeof(text));
    cr_assert_eq(result, -EAGAIN);
    janus_gateway_hang_up(&gateway);
    cr_assert_lt(janus_packet_ops.send(link_, text, sizeof(text)), -EAGAIN);
    janus_packet_ops.close(link_);
    end();
}

/* It is tried again, and nobody waits meanwhile. */
Test(janus_packet, a_full_backlog) {
    struct janus_link *links[64];
    int count = 0, state = 1;
    begin();
    cr_assert_eq(listen(gateway.listener, 0), 0);
    while (state == 1 && count < 64) {
        cr_assert_eq(open_link(100, NULL), 0);
        state = janus_packet_ops.process(link_, NULL);
        links[count++] = link_;
    }
    cr_assert_eq(state, 0);
    cr_assert_eq(janus_packet_ops.get_fd(link_), -1);
    int64_t timeout = janus_packet_ops.get_timeout(link_);
    cr_assert_leq(timeout, VOUCH_SECONDS(1));
    while ((state = janus_packet_ops.process(link_, NULL)) == 0) {
        janus_gateway_accept(&gateway);
        (void)poll(NULL, 0, (int)(janus_packet_ops.get_timeout(link_) / 1000000 + 1));
    }
    cr_assert_eq(state, 1);
    while (count > 0)
        janus_packet_ops.close(links[--count]);
    end();
}

Test(janus_packet, nobody_there) {
    struct vouch_error error;
    begin();
    strcat(address.socket, "-not");
    cr_assert_eq(open_link(100, &error), -ENOENT);
    cr_assert_eq(error.code, -ENOENT);
    cr_assert_eq(janus_address_parse("file://@abstract", &address, NULL), 0);
    cr_assert_eq(open_link(100, &error), VOUCH_E_ABSTRACT_OFF);
    end();
}

Test(janus_packet, without_memory) {
    struct support_allocator allocator;
    struct vouch_pool *failing;
    begin();
    support_allocator_init(&allocator);
    const struct vouch_pool_options options = {VOUCH_OPTIONS(options),
                                               .allocator = &allocator.allocator};
    cr_assert_eq(vouch_pool_new(&options, &failing), 0);
    struct vouch_pool *good = pool;
    pool = failing;
    for (uint64_t i = 1; i < 3; i++) {
        support_allocator_fail(&allocator, i, SUPPORT_FAIL_ALWAYS);
        cr_assert_eq(open_link(1 << 20, NULL), -ENOMEM);
    }
    pool = good;
    vouch_pool_unref(failing);
    support_allocator_check(&allocator);
    end();
}
