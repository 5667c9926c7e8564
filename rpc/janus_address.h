/* SPDX-License-Identifier: MIT */
/* Where a gateway is. Pure. */
#ifndef VOUCH_RPC_JANUS_ADDRESS_H
#define VOUCH_RPC_JANUS_ADDRESS_H

#include <vouch/error.h>

#define JANUS_ADDRESS_MAX 1023 /* bytes of an address */
#define JANUS_HOST_MAX 255

enum janus_address_kind {
    JANUS_SEQPACKET,
    JANUS_DATAGRAM,
    JANUS_WS,
    JANUS_WS_UNIX,
};

struct janus_address {
    enum janus_address_kind kind;
    char text[JANUS_ADDRESS_MAX + 1];   /* as it was given */
    char socket[JANUS_ADDRESS_MAX + 1]; /* of a UNIX socket */
    char host[JANUS_HOST_MAX + 1];      /* without brackets */
    int port;
    char path[JANUS_ADDRESS_MAX + 1]; /* of the WebSocket, with its slash */
};

/* 0, or -EINVAL with what is wrong with it. */
int janus_address_parse(const char *text, struct janus_address *ret_address,
                        struct vouch_error *ret_error) VOUCH_MUST_CHECK;

#endif
