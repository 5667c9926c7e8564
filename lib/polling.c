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
 *     rests for a hundred times that time.
 */
#include "lib/polling.h"

bool polling_options_valid(enum vouch_polling mode, int64_t budget) {
    return mode >= VOUCH_POLLING_ADAPTIVE && mode <= VOUCH_POLLING_ALWAYS && budget >= 0 &&
           budget <= VOUCH_POLLING_BUDGET_BOUND;
}

void polling_init(struct polling *p, enum vouch_polling mode, int64_t budget, unsigned cores) {
    *p = (struct polling){.mode = mode,
                          .budget = budget ? budget : VOUCH_POLLING_BUDGET_DEFAULT};
    if (mode == VOUCH_POLLING_ADAPTIVE && cores < 2)
        p->mode = VOUCH_POLLING_OFF;
}

/* How long the next poll may take, were there one. */
static int64_t patience(const struct polling *p) {
    int64_t typical = POLLING_PATIENCE * p->typical + POLLING_FLOOR;
    return p->mode == VOUCH_POLLING_ALWAYS || p->typical == 0 || typical > p->budget ? p->budget
                                                                                     : typical;
}

static bool polls_now(struct polling *p, int64_t now) {
    if (p->mode != VOUCH_POLLING_ADAPTIVE)
        return p->mode == VOUCH_POLLING_ALWAYS;
    if (now < p->rests_until || p->hopeless)
        return false;
    if (p->skip > 0)
        p->skip--;
    return p->skip == 0;
}

int64_t polling_begin(struct polling *p, int64_t now) {
    p->begun = p->looked = p->until = now;
    if (polls_now(p, now))
        p->until = now + patience(p);
    else
        p->stats.sleeps++;
    return p->until;
}

void polling_pass(struct polling *p, int64_t now) {
    p->begun = p->looked = p->until = now;
    p->stats.sleeps++;
}

bool polling_goes_on(struct polling *p, int64_t now) {
    if (now - p->looked > POLLING_GAP && p->mode == VOUCH_POLLING_ADAPTIVE) {
        p->rests_until = now + POLLING_REST * (now - p->looked);
        return false;
    }
    p->looked = now;
    return now < p->until;
}

static void paid(struct polling *p, int64_t elapsed) {
    p->stats.paid++;
    p->skipped = 0;
    p->typical = p->typical == 0 ? elapsed + 1 : p->typical + (elapsed - p->typical) / 8;
}

static void not_paid(struct polling *p) {
    p->stats.unpaid++;
    p->skipped = p->skipped ? 2 * p->skipped : POLLING_SKIP_MIN;
    if (p->skipped > POLLING_SKIP_MAX)
        p->skipped = POLLING_SKIP_MAX;
    p->skip = p->skipped;
}

void polling_end(struct polling *p, int64_t now, bool found) {
    if (p->until == p->begun)
        return;
    if (found)
        paid(p, now - p->begun);
    else
        not_paid(p);
}

void polling_slept(struct polling *p, int64_t now) {
    p->hopeless = now - p->begun > POLLING_HOPE * p->budget;
}
