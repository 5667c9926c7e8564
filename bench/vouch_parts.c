/* SPDX-License-Identifier: MIT */
/* Servers and connections of vouch, made as a case says. */
#include "bench/vouch_parts.h"

#include <errno.h>
#include <stdlib.h>

static enum vouch_polling polling_of(const struct bench_case *what) {
    switch (what->mode) {
    case BENCH_BLOCKING:
        return VOUCH_POLLING_OFF;
    case BENCH_POLLING:
        return VOUCH_POLLING_ALWAYS;
    default:
        return VOUCH_POLLING_ADAPTIVE;
    }
}

/* Beside the body there are an envelope and what a codec adds; the default is a good deal more. */
static size_t message_max(const struct bench_case *what) {
    size_t needed = what->size + what->size / 8 + 4096;
    return needed > VOUCH_CHUNK_SIZE_DEFAULT ? needed : 0;
}

void parts_need(int result, const struct vouch_error *error) {
    if (result != 0)
        bench_die("%s", error && error->message[0] ? error->message : vouch_strerror(result));
}

struct vouch_server *parts_server(const struct bench_case *what) {
    struct vouch_server *server;
    struct vouch_server_options options = {
        VOUCH_OPTIONS(options), .max_request = message_max(what), .max_reply = message_max(what),
        .polling = polling_of(what), .polling_budget = what->budget};
    unsigned per_connection = what->in_flight / (what->connections ? what->connections : 1);
    if (per_connection >= VOUCH_SERVER_CALLS_DEFAULT)
        options.max_calls = per_connection + 1;
    parts_need(vouch_server_new(&options, &server), NULL);
    return server;
}

struct vouch_listen_options parts_listen_options(const struct bench_case *what) {
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .backlog = 4096,
                                           .link = what->packets ? VOUCH_LINK_SEQPACKET
                                                                 : VOUCH_LINK_STREAM};
    if (what->connections >= 200) {
        options.max_connections = what->connections + 64;
        options.max_connections_per_uid = what->connections + 64;
    }
    return options;
}

_Noreturn void parts_serve(struct vouch_server *server, const struct bench_case *what) {
    struct vouch_listen_options options = parts_listen_options(what);
    struct vouch_error error;
    parts_need(vouch_server_listen(server, what->address, &options, &error), &error);
    bench_ready();
    parts_need(vouch_server_run(server), NULL);
    exit(0);
}

struct parts *parts_open(const struct bench_case *what) {
    struct parts *parts =
        bench_alloc(sizeof(*parts) + what->connections * sizeof(parts->clients[0]));
    struct vouch_client_options options = {VOUCH_OPTIONS(options),
                                           .max_request = message_max(what),
                                           .max_reply = message_max(what),
                                           .max_calls = VOUCH_CLIENT_CALLS_BOUND,
                                           .call_timeout = VOUCH_SECONDS(120),
                                           .polling = polling_of(what),
                                           .polling_budget = what->budget};
    struct vouch_dial_options dial = {
        VOUCH_OPTIONS(dial), .link = what->packets ? VOUCH_LINK_SEQPACKET : VOUCH_LINK_STREAM};
    struct vouch_error error;
    parts->what = what;
    parts->turns = bench_alloc(what->callers * sizeof(*parts->turns));
    for (unsigned i = 0; i < what->connections; i++)
        parts_need(vouch_client_dial(what->address, &dial, &options, &parts->clients[i], &error),
                   &error);
    return parts;
}

void parts_close(struct parts *parts) {
    for (unsigned i = 0; i < parts->what->connections; i++)
        vouch_client_free(parts->clients[i]);
    free(parts->turns);
    free(parts);
}

struct vouch_client *parts_client(struct parts *parts, unsigned caller) {
    return parts->clients[bench_connection(parts->what, caller, &parts->turns[caller])];
}

/* ---- calls in flight ---- */

void parts_ended(struct parts_slot *slot, int result, const struct vouch_error *error) {
    parts_need(result, error);
    bench_flight_end(slot->flight, slot->begun);
    slot->next = *slot->free;
    *slot->free = slot;
}

void parts_fly(struct parts *parts, struct bench_flight *flight,
               int (*begin)(void *client, struct vouch_client *on, struct parts_slot *slot),
               void *client) {
    unsigned count = parts->what->in_flight;
    struct parts_slot *slots = bench_alloc(count * sizeof(*slots)), *free_slots = NULL;
    for (unsigned i = count; i-- > 0;) {
        slots[i] = (struct parts_slot){.flight = flight, .next = free_slots, .free = &free_slots};
        free_slots = &slots[i];
    }
    while (bench_flight_more(flight) || bench_flight_busy(flight)) {
        while (free_slots && bench_flight_more(flight)) {
            struct parts_slot *slot = free_slots;
            free_slots = slot->next;
            slot->begun = bench_flight_begin(flight);
            slot->more = free_slots && bench_flight_more(flight);
            int r;
            while ((r = begin(client, parts->clients[0], slot)) == -EAGAIN)
                if ((r = vouch_client_wait(parts->clients[0], VOUCH_FOREVER)) < 0)
                    break;
            parts_need(r < 0 ? r : 0, NULL);
        }
        int r = vouch_client_wait(parts->clients[0], VOUCH_FOREVER);
        parts_need(r < 0 ? r : 0, NULL);
    }
    free(slots);
}
