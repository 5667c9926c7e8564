/* SPDX-License-Identifier: MIT */
/*
 * Adaptive polling. What it rests on, and what each rule is for:
 *
 *   - A wait resembles the last ones. Polls that paid say how long the next may take.
 *   - A poll that fails is followed by ever more waits that do not poll (a peer that is slow, or
 *     that shares our core): a thousandth of them, in the end, is lengthened by one budget.
 *   - Waits that were long asleep tell that polling has no point, at no cost: nothing is tried
 *     while they last, so that an idle connection costs nothing.
 *   - A gap between two looks means that another thread wanted the core and got it: polling then
 *     rests for a hundred times that time, everywhere in the process.
 *   - Only so many threads poll at a time as leave half of the cores to others.
 */
#include "lib/polling.h"

#include <sched.h>

#include "lib/os.h"

/* Half of the cores that we may use: the other side wants some as well. With one core of several to
 * ourselves the other side may have another, which polling finds out; with one in all it has not.
 */
static unsigned places(void) {
    if (os_cores_online() < 2)
        return 0;
    unsigned cores = os_cores();
    return cores < 2 ? 1 : cores / 2;
}

/* In a forked child a thread of the parent may seem to be polling for ever: a new process, another
 * room. Two will do, since the one before the last is used by nobody any more. Threads that come
 * while the first one furnishes it wait for that, not for ever: it may not have been forked along.
 */
struct polling_room *polling_room_of_process(void) {
    enum { BUSY = 1, PATIENCE = 1000 }; /* an epoch is never so small */
    static struct polling_room rooms[2];
    static _Atomic uint64_t epoch;
    static atomic_uint which;
    uint64_t ours = os_process_epoch(), before = atomic_load(&epoch);
    for (int i = 0; before == BUSY && i < PATIENCE; i++) {
        sched_yield();
        before = atomic_load(&epoch);
    }
    if (before != ours && atomic_compare_exchange_strong(&epoch, &before, BUSY)) {
        unsigned next = (atomic_load(&which) + 1) % 2;
        atomic_store(&rooms[next].polling, 0);
        atomic_store(&rooms[next].rests_until, 0);
        atomic_store(&rooms[next].max, places());
        atomic_store(&which, next);
        atomic_store(&epoch, ours);
    }
    return &rooms[atomic_load(&which)];
}

bool polling_options_valid(enum vouch_polling mode, int64_t budget) {
    return mode >= VOUCH_POLLING_ADAPTIVE && mode <= VOUCH_POLLING_ALWAYS && budget >= 0 &&
           budget <= VOUCH_POLLING_BUDGET_BOUND;
}

void polling_init(struct polling *p, enum vouch_polling mode, int64_t budget,
                  struct polling_room *room) {
    *p = (struct polling){
        .room = room, .mode = mode, .budget = budget ? budget : VOUCH_POLLING_BUDGET_DEFAULT};
}

/* One thread counts at a time. */
static void count(_Atomic uint64_t *counter) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void polling_get_stats(const struct polling *p, struct vouch_polling_stats *ret_stats) {
    ret_stats->paid = atomic_load_explicit(&p->stats.paid, memory_order_relaxed);
    ret_stats->unpaid = atomic_load_explicit(&p->stats.unpaid, memory_order_relaxed);
    ret_stats->sleeps = atomic_load_explicit(&p->stats.sleeps, memory_order_relaxed);
}

/* How long the next poll may take, were there one. */
static int64_t patience(const struct polling *p) {
    int64_t typical = POLLING_PATIENCE * p->typical + POLLING_FLOOR;
    return p->mode == VOUCH_POLLING_ALWAYS || p->typical == 0 || typical > p->budget ? p->budget
                                                                                     : typical;
}

/* A place among those that poll. */
static bool enter(struct polling *p, int64_t now) {
    struct polling_room *room = p->room;
    if (now < atomic_load_explicit(&room->rests_until, memory_order_relaxed))
        return false;
    if (atomic_fetch_add_explicit(&room->polling, 1, memory_order_relaxed) < room->max)
        return true;
    atomic_fetch_sub_explicit(&room->polling, 1, memory_order_relaxed);
    return false;
}

static bool polls_now(struct polling *p, int64_t now) {
    if (p->mode != VOUCH_POLLING_ADAPTIVE)
        return p->mode == VOUCH_POLLING_ALWAYS;
    if (p->hopeless)
        return false;
    if (p->skip == 0)
        return enter(p, now);
    p->skip--;
    return false;
}

bool polling_begin(struct polling *p, int64_t now) {
    if (!polls_now(p, now)) {
        polling_pass(p, now);
        return false;
    }
    p->begun = p->looked = now;
    p->until = now + patience(p);
    return true;
}

void polling_pass(struct polling *p, int64_t now) {
    p->begun = p->looked = now;
    count(&p->stats.sleeps);
}

bool polling_goes_on(struct polling *p, int64_t now) {
    int64_t gap = now - p->looked;
    if (gap > POLLING_GAP && p->mode == VOUCH_POLLING_ADAPTIVE) {
        int64_t rest =
            gap < POLLING_REST_MAX / POLLING_REST ? POLLING_REST * gap : POLLING_REST_MAX;
        atomic_store_explicit(&p->room->rests_until, now + rest, memory_order_relaxed);
        return false;
    }
    p->looked = now;
    return now < p->until;
}

static void paid(struct polling *p, int64_t elapsed) {
    count(&p->stats.paid);
    p->skipped = 0;
    p->typical = p->typical == 0 ? elapsed + 1 : p->typical + (elapsed - p->typical) / 8;
}

static void not_paid(struct polling *p) {
    count(&p->stats.unpaid);
    p->skipped = p->skipped ? 2 * p->skipped : POLLING_SKIP_MIN;
    if (p->skipped > POLLING_SKIP_MAX)
        p->skipped = POLLING_SKIP_MAX;
    p->skip = p->skipped;
}

void polling_end(struct polling *p, int64_t now, enum polling_outcome outcome) {
    if (p->mode == VOUCH_POLLING_ADAPTIVE)
        atomic_fetch_sub_explicit(&p->room->polling, 1, memory_order_relaxed);
    if (outcome == POLLING_FOUND)
        paid(p, now - p->begun);
    else if (outcome == POLLING_IN_VAIN)
        not_paid(p);
}

void polling_slept(struct polling *p, int64_t now) {
    p->hopeless = now - p->begun > POLLING_HOPE * p->budget;
}
