/* SPDX-License-Identifier: MIT */
/*
 * The gateway on a UNIX socket of packets: one text a packet, nothing around it.
 *
 * Dialling a UNIX socket does not wait but for a place in the server's backlog, and for that it is
 * tried again a little later, so that a foreign loop is not held up.
 */
#include <errno.h>
#include <poll.h>

#include <vouch/conn.h>
#include <vouch/dial.h>

#include "rpc/janus_link.h"

#define DIAL_AT_ONCE 1                    /* ns: does not wait */
#define DIAL_AGAIN VOUCH_MILLISECONDS(20) /* when the backlog was full */

struct packet_link {
    struct janus_link link; /* first */
    struct vouch_buffer *self, *input;
    struct vouch_conn *conn; /* NULL until there is a place for us */
    struct janus_link_options options;
    int64_t again_at;
};

const struct janus_link_ops *janus_link_ops_of(const struct janus_address *address) {
    switch (address->kind) {
    case JANUS_SEQPACKET:
        return &janus_packet_ops;
    case JANUS_DATAGRAM:
        return &janus_datagram_ops;
    default:
        return janus_ws_ops;
    }
}

/* 1, 0 when the backlog is full, or the failure. */
static int dial(struct packet_link *l, struct vouch_error *ret_error) {
    const struct vouch_dial_options options = {
        VOUCH_OPTIONS(options),  .allocator = l->options.allocator, .server = l->options.server,
        .timeout = DIAL_AT_ONCE, .link = VOUCH_LINK_SEQPACKET,
    };
    int result = vouch_dial(l->options.address->socket, &options, &l->conn, ret_error);
    if (result == 0)
        return 1;
    l->conn = NULL;
    if (result != -ETIMEDOUT && result != -EAGAIN)
        return result;
    l->again_at = vouch_deadline_in(DIAL_AGAIN);
    return 0;
}

static void packet_close(struct janus_link *link) {
    struct packet_link *l = (struct packet_link *)link;
    vouch_conn_free(l->conn);
    vouch_buffer_unref(l->input);
    vouch_buffer_unref(l->self);
}

static int packet_open(const struct janus_link_options *options, struct janus_link **ret_link,
                       struct vouch_error *ret_error) {
    struct vouch_buffer *self;
    struct packet_link *l = janus_alloc(options->pool, sizeof(*l), &self);
    if (!l)
        return janus_fail(ret_error, -ENOMEM, "out of memory");
    l->link.ops = &janus_packet_ops;
    l->self = self;
    l->options = *options;
    int result = vouch_pool_get(options->pool, 0, options->max_message, &l->input);
    if (result < 0)
        janus_fail(ret_error, result, "%s", vouch_strerror(result));
    else
        result = dial(l, ret_error);
    if (result < 0) {
        packet_close(&l->link);
        return result;
    }
    *ret_link = &l->link;
    return 0;
}

static int packet_process(struct janus_link *link, struct vouch_error *ret_error) {
    struct packet_link *l = (struct packet_link *)link;
    if (l->conn)
        return 1;
    return vouch_now() < l->again_at ? 0 : dial(l, ret_error);
}

static int packet_send(struct janus_link *link, const char *text, size_t size) {
    struct packet_link *l = (struct packet_link *)link;
    int result = vouch_conn_try_send_packet(l->conn, text, size);
    if (result == -EMSGSIZE && vouch_conn_raise_packet_max(l->conn, size, NULL) == 0)
        result = vouch_conn_try_send_packet(l->conn, text, size);
    return result == -ENOBUFS ? -EAGAIN : result;
}

static int packet_receive(struct janus_link *link, const char **ret_text, size_t *ret_size) {
    struct packet_link *l = (struct packet_link *)link;
    struct vouch_packet packet;
    int result =
        vouch_conn_try_recv_packet(l->conn, l->input->data, l->options.max_message, &packet);
    if (result <= 0)
        return result == 0 ? -ECONNRESET : result;
    *ret_text = (const char *)l->input->data;
    *ret_size = packet.stored;
    return 1;
}

static int packet_get_fd(const struct janus_link *link) {
    const struct packet_link *l = (const struct packet_link *)link;
    return l->conn ? vouch_conn_get_fd(l->conn) : -1;
}

static short packet_get_events(const struct janus_link *link, bool output) {
    (void)link;
    return (short)(POLLIN | (output ? POLLOUT : 0));
}

static int64_t packet_get_timeout(struct janus_link *link) {
    const struct packet_link *l = (const struct packet_link *)link;
    int64_t now = vouch_now();
    if (l->conn)
        return VOUCH_FOREVER;
    return l->again_at > now ? l->again_at - now : 0;
}

const struct janus_link_ops janus_packet_ops = {
    .open = packet_open,
    .process = packet_process,
    .send = packet_send,
    .receive = packet_receive,
    .get_fd = packet_get_fd,
    .get_events = packet_get_events,
    .get_timeout = packet_get_timeout,
    .close = packet_close,
};
