/* SPDX-License-Identifier: MIT */
/*
 * The typed ways to count words: the same pieces and counts as JSON and as protobuf. They need
 * libraries that may not be there: the build decides which of them are in.
 */
#ifndef DEMO_LAYERS_H
#define DEMO_LAYERS_H

#include <vouch/client.h>
#include <vouch/server.h>

#include "demo/streams.h"

/* Sends one piece, of a text that has no NUL in it but one behind it. Returns as vouch_client_call.
 */
typedef int (*piece_sender)(struct vouch_client *client, const struct piece *piece,
                            struct counts *ret_counts, struct vouch_error *ret_error);

struct layer {
    const char *name;
    const char *library;                            /* that it needs */
    int (*add_method)(struct vouch_server *server); /* NULL: it is not in, nor is `send` */
    piece_sender send;
};

#define LAYERS 2
extern const struct layer layers[LAYERS];

int json_add_method(struct vouch_server *server);
int json_send(struct vouch_client *client, const struct piece *piece, struct counts *ret_counts,
              struct vouch_error *ret_error);
int proto_add_method(struct vouch_server *server);
int proto_send(struct vouch_client *client, const struct piece *piece, struct counts *ret_counts,
               struct vouch_error *ret_error);

#endif
