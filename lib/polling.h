/* SPDX-License-Identifier: MIT */
/*
 * When to poll before sleeping, and for how long: the policy, without a clock or a socket of its
 * own. One for each place that waits; whoever waits there owns it.
 *
 *   until = polling_begin(p, now);          now: sleep at once
 *   while looking finds nothing:
 *       if (!polling_goes_on(p, now)) break;
 *   polling_end(p, now, found);
 *   ... sleep where nothing was found ...
 *   polling_slept(p, now);
 */
#ifndef VOUCH_LIB_POLLING_H
#define VOUCH_LIB_POLLING_H

#include <vouch/polling.h>

/* A poll lasts at most so many times as long as those that paid took, and not less than the floor:
 * a look or two more cost less than one sleep. */
#define POLLING_PATIENCE 4
#define POLLING_FLOOR ((int64_t)4 * 1000)
/* After a poll that did not pay so many waits sleep at once, doubled each time up to the maximum:
 * then a thousandth of the waits, at most, is lengthened by a budget. */
#define POLLING_SKIP_MIN 4u
#define POLLING_SKIP_MAX 1024u
/* Between two looks: somebody else had the core. Polling rests for so many times as long. */
#define POLLING_GAP ((int64_t)200 * 1000)
#define POLLING_REST 100
/* A wait that lasted longer, asleep, was none that polling could have shortened. */
#define POLLING_HOPE 4

struct polling {
    enum vouch_polling mode;
    int64_t budget;      /* ns, the longest poll */
    int64_t typical;     /* how soon polls pay, a running mean, ns; 0: not known */
    unsigned skip;       /* waits to come that sleep at once */
    unsigned skipped;    /* by the last poll that did not pay */
    int64_t rests_until; /* the cores are wanted by others */
    int64_t begun, until, looked;
    bool hopeless; /* the last wait was a long one */
    struct vouch_polling_stats stats;
};

/* `cores`: how many this process may run on. On one alone the other side can't run while we look.
 */
void polling_init(struct polling *polling, enum vouch_polling mode, int64_t budget, unsigned cores);

/* Whether options are in their range. */
bool polling_options_valid(enum vouch_polling mode, int64_t budget);

/* A wait begins. Until when to look for what is waited for; `now`: not at all. */
int64_t polling_begin(struct polling *polling, int64_t now);

/* A wait begins that sleeps at once for a reason of the caller's. */
void polling_pass(struct polling *polling, int64_t now);

/* Nothing was found at `now`: whether to look again. */
bool polling_goes_on(struct polling *polling, int64_t now);

/* The looking has ended, with what was waited for or without. */
void polling_end(struct polling *polling, int64_t now, bool found);

/* The wait has ended that was not (only) spent looking. */
void polling_slept(struct polling *polling, int64_t now);

#endif
