/* SPDX-License-Identifier: MIT */
/* What the ways of calling with vouch have in common: options from a case, connections, serving. */
#ifndef BENCH_VOUCH_PARTS_H
#define BENCH_VOUCH_PARTS_H

#include <vouch/vouch.h>

#include "bench/system.h"

/* All systems of vouch that are compiled in; ends with NULL. */
extern const struct bench_system *const vouch_systems[];

extern const struct bench_system vouch_bytes;
extern const struct bench_system vouch_json;
extern const struct bench_system vouch_proto;
extern const struct bench_system vouch_one_way; /* chunks */
extern const struct bench_system vouch_pending;

/* A server with the case's options; then, when it has its methods, serve. */
struct vouch_server *parts_server(const struct bench_case *what);
_Noreturn void parts_serve(struct vouch_server *server, const struct bench_case *what);
/* Options to listen with so that all connections of the case are let in. */
struct vouch_listen_options parts_listen_options(const struct bench_case *what);

/* Connections of a client. */
struct parts {
    const struct bench_case *what;
    unsigned *turns; /* of each caller */
    struct vouch_client *clients[];
};

struct parts *parts_open(const struct bench_case *what);
void parts_close(struct parts *parts);
struct vouch_client *parts_client(struct parts *parts, unsigned caller);

/* Keeps calls in flight: `begin` makes one, returns what vouch_client_call_async does, and gives
 * `slot` to parts_ended when it has ended. */
struct parts_slot {
    struct bench_flight *flight;
    int64_t begun;
    bool more;               /* others follow at once */
    struct parts_slot *next; /* of those that are free */
    struct parts_slot **free;
};
void parts_fly(struct parts *parts, struct bench_flight *flight,
               int (*begin)(void *client, struct vouch_client *on, struct parts_slot *slot),
               void *client);
void parts_ended(struct parts_slot *slot, int result, const struct vouch_error *error);

/* Ends the process when result is not 0. */
void parts_need(int result, const struct vouch_error *error);

#endif
