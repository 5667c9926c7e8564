/* SPDX-License-Identifier: MIT */
/*
 * What every kind of message does in every state: each cell of
 *
 *   role x kind of message x whose id it has x what is known of the peer x size x delivery
 *
 * has one outcome: what the session reports and what it sends. The rules below are the table, read
 * from the top; the first that fits a cell is its outcome. No cell may be without one, and no rule
 * without a cell.
 */
#include <stdio.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/sessions.h"
#include "tests/support.h"

enum kind { MESSAGE, WITH_ERROR, WITH_FEATURES, CANCEL, PING, PONG, HELLO, NEW, NEWEST, KINDS };
enum whose { ZERO, UNKNOWN, IN_FLIGHT, ANSWERED, GIVEN_UP, WHOSE };
enum peer { FRESH, PLAIN, KNOWING, PEERS };
enum size { FITS, OVERSIZE, SIZES };
enum delivery { WHOLE, BYTES, DELIVERIES };

static const char *const kinds[] = {"message", "with error", "with features", "cancel", "ping",
                                    "pong",    "hello",      "new",           "newest"};
static const char *const whoses[] = {"zero", "unknown", "in flight", "answered", "given up"};
static const char *const peers[] = {"fresh", "plain", "knowing"};

/* Id 3 is in flight, 1 answered; 2 was given up by us, or its deadline has been answered while its
 * handler still runs. */
static const uint32_t ids[] = {0, 9, 3, 1, 2};

struct cell {
    enum session_role role;
    enum kind kind;
    enum whose whose;
    enum peer peer;
    enum size size;
    enum delivery delivery;
};

/* ---- the table ---- */

#define BIT(n) (1u << (n))
#define ANY (~0u)
#define CALLS (BIT(MESSAGE) | BIT(WITH_ERROR) | BIT(WITH_FEATURES))
#define GONE (BIT(UNKNOWN) | BIT(ANSWERED))
#define HERE (BIT(IN_FLIGHT) | BIT(GIVEN_UP))
#define UNKNOWING (BIT(FRESH) | BIT(PLAIN))

/* '#' stands for the id. */
struct rule {
    unsigned kinds, whoses, peers, sizes;
    const char *events, *sent;
};

static const struct rule server_rules[] = {
    /* Without an id there is nobody to answer, and no use in skipping. */
    {ANY, BIT(ZERO), ANY, BIT(OVERSIZE), "dead EMSGSIZE", ""},
    {CALLS, BIT(ZERO), ANY, ANY, "dead EPROTO", ""},
    /* An id in flight: until its handler lets go. */
    {CALLS, HERE, ANY, ANY, "dead EPROTO", ""},
    {BIT(WITH_FEATURES), GONE, UNKNOWING, BIT(FITS), "call # /m(d)",
     "[server=7 control=4 max=4096]"},
    {BIT(WITH_FEATURES), GONE, UNKNOWING, BIT(OVERSIZE), "call # /m() error 6",
     "[server=7 control=4 max=4096]"},
    {CALLS, GONE, ANY, BIT(FITS), "call # /m(d)", ""},
    {CALLS, GONE, ANY, BIT(OVERSIZE), "call # /m() error 6", ""},
    {BIT(CANCEL), HERE, ANY, ANY, "cancel #", ""},
    {BIT(CANCEL), ANY, ANY, ANY, "", ""},
    {BIT(PING), BIT(ZERO), BIT(KNOWING), ANY, "", "[control=3]"},
    {BIT(PING), ANY, BIT(KNOWING), ANY, "", "[id=# control=3]"},
    {BIT(PING), ANY, UNKNOWING, ANY, "", ""},
    {BIT(PONG) | BIT(HELLO) | BIT(NEW) | BIT(NEWEST), ANY, ANY, ANY, "", ""},
};

static const struct rule client_rules[] = {
    {ANY, BIT(ZERO), ANY, BIT(OVERSIZE), "dead EMSGSIZE", ""},
    /* What was held back for the hello is said. */
    {BIT(WITH_FEATURES) | BIT(HELLO), BIT(GIVEN_UP), BIT(FRESH), ANY, "", "[id=2 control=1]"},
    {CALLS | BIT(PONG), BIT(IN_FLIGHT), ANY, BIT(OVERSIZE), "reply # EMSGSIZE", ""},
    {BIT(WITH_ERROR), BIT(IN_FLIGHT), ANY, ANY, "reply # error 4 'e'", ""},
    {CALLS | BIT(PONG), BIT(IN_FLIGHT), ANY, ANY, "reply # (d)", ""},
    /* As Go servers answer; one call is in flight. */
    {BIT(WITH_ERROR), BIT(ZERO), ANY, ANY, "reply 3 error 4 'e'", ""},
    {CALLS | BIT(PONG), ANY, ANY, ANY, "", ""},
    {BIT(PING), BIT(ZERO), BIT(KNOWING), ANY, "", "[control=3]"},
    {BIT(PING), ANY, BIT(KNOWING), ANY, "", "[id=# control=3]"},
    {BIT(PING), ANY, UNKNOWING, ANY, "", ""},
    {BIT(CANCEL) | BIT(HELLO) | BIT(NEW) | BIT(NEWEST), ANY, ANY, ANY, "", ""},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool used[2][COUNT(server_rules) + COUNT(client_rules)];

static const struct rule *rule_of(const struct cell *cell) {
    bool server = cell->role == SESSION_SERVER;
    const struct rule *rules = server ? server_rules : client_rules;
    size_t count = server ? COUNT(server_rules) : COUNT(client_rules);
    for (size_t i = 0; i < count; i++) {
        const struct rule *rule = &rules[i];
        if (rule->kinds & BIT(cell->kind) && rule->whoses & BIT(cell->whose) &&
            rule->peers & BIT(cell->peer) && rule->sizes & BIT(cell->size)) {
            used[cell->role][i] = true;
            return rule;
        }
    }
    cr_assert_fail("no rule for %s, %s, %s", kinds[cell->kind], whoses[cell->whose],
                   peers[cell->peer]);
    return NULL;
}

/* A peer that has said nothing has no calls that it made, and no answers. */
static bool possible(const struct cell *cell) {
    if (cell->peer != FRESH)
        return true;
    return cell->role == SESSION_SERVER ? cell->whose == ZERO || cell->whose == UNKNOWN
                                        : cell->whose != ANSWERED;
}

/* ---- getting there ---- */

static struct side side;

static void prepare_server(const struct cell *cell) {
    if (cell->peer == FRESH)
        return;
    SIDE_SAY(&side, .id = 1, .client_features = cell->peer == KNOWING ? SESSION_FEATURES : 0);
    cr_assert_eq(side_reply(&side, 1, ""), 0);
    SIDE_SAY(&side, .id = 2);
    SIDE_SAY(&side, .id = 3);
    side_events(&side);
    cr_assert_eq(session_watch(&side.session, &side_request(&side, 2)->slot, side.now), 0);
    cr_assert_str_eq(side_expire(&side), "expired 2");
}

static void prepare_client(const struct cell *cell) {
    side.session.announced = true;
    if (cell->peer != FRESH)
        cr_assert_eq(side_call(&side, "/m", ""), 0);
    if (cell->peer == KNOWING)
        SIDE_SAY(&side, .server_features = SESSION_FEATURES, .control = ENVELOPE_HELLO);
    if (cell->peer != FRESH)
        SIDE_SAY(&side, .id = 1);
    side.session.last_id = 1;
    if (cell->whose == GIVEN_UP) {
        cr_assert_eq(side_call(&side, "/m", ""), 0);
        side_abandon(&side, 2);
    }
    side.session.last_id = 2;
    cr_assert_eq(side_call(&side, "/m", ""), 0);
}

static void prepare(const struct cell *cell) {
    side_begin(&side, cell->role);
    if (cell->role == SESSION_SERVER)
        prepare_server(cell);
    else
        prepare_client(cell);
    side_events(&side);
    side_sent(&side);
}

/* ---- the message ---- */

static const uint32_t controls[] = {0, 0, 0, 1, 2, 3, 4, 5, UINT32_MAX};

/* The body comes last, so that the rest is seen of an oversize one too. */
static void make_message(const struct cell *cell, struct wire *ret_wire) {
    static const uint8_t body[8000] = "d";
    struct wire message = {.size = 0};
    struct envelope e = {
        .id = ids[cell->whose], WIRE_METHOD("/m"), .control = controls[cell->kind]};
    if (cell->kind == WITH_ERROR) {
        e.error_type = VOUCH_REMOTE_SERVER;
        e.error = "e";
        e.error_size = 1;
    }
    if (cell->kind == WITH_FEATURES || cell->kind == HELLO)
        e.client_features = e.server_features = SESSION_FEATURES;
    wire_envelope(&message, &e);
    wire_bytes(&message, 4, body, cell->size == OVERSIZE ? sizeof(body) : 1);
    wire_chunk(ret_wire, message.bytes, message.size);
}

static void deliver(const struct cell *cell) {
    struct wire wire = {.size = 0};
    make_message(cell, &wire);
    size_t step = cell->delivery == WHOLE ? wire.size : 1;
    for (size_t at = 0; at < wire.size && session_failure(&side.session) == 0; at += step)
        side_feed(&side, wire.bytes + at, step);
}

/* ---- what must have come of it ---- */

static const char *with_id(const char *text, uint32_t id) {
    static char line[128];
    const char *mark = strchr(text, '#');
    if (mark)
        snprintf(line, sizeof(line), "%.*s%u%s", (int)(mark - text), text, id, mark + 1);
    else
        snprintf(line, sizeof(line), "%s", text);
    return line;
}

static uint64_t features_after(const struct cell *cell, bool dead) {
    bool says = cell->kind == WITH_FEATURES;
    if (cell->role == SESSION_CLIENT)
        says = (says || cell->kind == HELLO) && cell->peer == FRESH;
    return cell->peer == KNOWING || (says && !dead) ? SESSION_FEATURES : 0;
}

/* Whatever came, the session goes on as if it had not. */
static void check_life(const struct cell *cell) {
    if (cell->role == SESSION_SERVER) {
        SIDE_SAY(&side, .id = 20, WIRE_METHOD("/after"));
        cr_assert_str_eq(side_events(&side), "call 20 /after()");
        return;
    }
    cr_assert_eq(side_call(&side, "/after", ""), 0);
    char expected[32];
    snprintf(expected, sizeof(expected), "reply %u (x)", side.session.last_id);
    SIDE_SAY(&side, .id = side.session.last_id, WIRE_DATA("x"));
    cr_assert_str_eq(side_events(&side), expected);
}

static void check_cell(const struct cell *cell) {
    const struct rule *rule = rule_of(cell);
    char where[128];
    snprintf(where, sizeof(where), "%s: %s, id %s, peer %s, %s, %s",
             cell->role == SESSION_SERVER ? "server" : "client", kinds[cell->kind],
             whoses[cell->whose], peers[cell->peer], cell->size == OVERSIZE ? "oversize" : "fits",
             cell->delivery == WHOLE ? "whole" : "byte by byte");
    prepare(cell);
    deliver(cell);
    const char *events = side_events(&side), *sent = side_sent(&side);
    uint32_t id = ids[cell->whose];
    cr_assert_str_eq(events, with_id(rule->events, id), "%s: '%s'", where, events);
    cr_assert_str_eq(sent, with_id(rule->sent, id), "%s: '%s'", where, sent);
    bool dead = session_failure(&side.session) != 0;
    bool stranger = cell->kind == PING && cell->peer != KNOWING && !dead;
    cr_assert_eq(side.session.strikes, stranger, "%s", where);
    cr_assert_eq(side.session.peer_features, features_after(cell, dead), "%s", where);
    if (!dead)
        check_life(cell);
    side_end(&side);
}

static unsigned for_each(unsigned index, enum session_role role) {
    struct cell cell = {.role = role};
    cell.kind = index % KINDS;
    index /= KINDS;
    cell.whose = index % WHOSE;
    index /= WHOSE;
    cell.peer = index % PEERS;
    index /= PEERS;
    cell.size = index % SIZES;
    index /= SIZES;
    cell.delivery = index;
    if (!possible(&cell))
        return 0;
    check_cell(&cell);
    return 1;
}

static void check_role(enum session_role role, size_t rules, unsigned expected) {
    unsigned cells = 0;
    support_baseline_begin();
    for (unsigned i = 0; i < KINDS * WHOSE * PEERS * SIZES * DELIVERIES; i++)
        cells += for_each(i, role);
    cr_assert_eq(cells, expected);
    for (size_t i = 0; i < rules; i++)
        cr_assert(used[role][i], "rule %zu is never used", i);
    support_baseline_end();
}

Test(states, server) {
    check_role(SESSION_SERVER, COUNT(server_rules), KINDS * SIZES * DELIVERIES * (2 * WHOSE + 2));
}

Test(states, client) {
    check_role(SESSION_CLIENT, COUNT(client_rules), KINDS * SIZES * DELIVERIES * (3 * WHOSE - 1));
}
