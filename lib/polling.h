/* SPDX-License-Identifier: MIT */
/*
 * When to poll before sleeping, and for how long: the policy, without a clock or a socket of its
 * own. One for each place that waits; whoever waits there owns it.
 *
 *   if (polling_begin(p, now)) {
 *       do look; while (nothing found && polling_goes_on(p, now));
 *       polling_end(p, now, outcome);
 *   }
 *   ... sleep where nothing was found ...
 *   polling_slept(p, now);
 */
#ifndef VOUCH_LIB_POLLING_H
#define VOUCH_LIB_POLLING_H

#include <stdatomic.h>
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
#define POLLING_REST_MAX VOUCH_SECONDS(1)
/* A wait that lasted longer, asleep, was none that polling could have shortened. */
#define POLLING_HOPE 4

/* What all places of a process share: how many threads poll, and that the cores are wanted. */
struct polling_room {
    atomic_uint polling;
    atomic_uint max; /* half of the cores: the other side wants some as well */
    _Atomic int64_t rests_until;
};

/* That of this process. */
struct polling_room *polling_room_of_process(void);

enum polling_outcome {
    POLLING_FOUND,
    POLLING_IN_VAIN,
    POLLING_CUT, /* somebody else ended it: says nothing */
};

struct polling {
    struct polling_room *room;
    enum vouch_polling mode;
    int64_t budget;   /* ns, the longest poll */
    int64_t typical;  /* how soon polls pay, a running mean, ns; 0: not known */
    unsigned skip;    /* waits to come that sleep at once */
    unsigned skipped; /* by the last poll that did not pay */
    int64_t begun, until, looked;
    bool hopeless; /* the last wait was a long one */
    struct {
        _Atomic uint64_t paid, unpaid, sleeps;
    } stats; /* read by others */
};

/* A room for none (max 0) means that there is one core, where the other side can't do anything
 * while we look. */
void polling_init(struct polling *polling, enum vouch_polling mode, int64_t budget,
                  struct polling_room *room);

/* Whether options are in their range. */
bool polling_options_valid(enum vouch_polling mode, int64_t budget);

/* A wait begins. Whether to look for what is waited for before sleeping; then polling_end is due.
 */
bool polling_begin(struct polling *polling, int64_t now) VOUCH_MUST_CHECK;

/* A wait begins that sleeps at once for a reason of the caller's. */
void polling_pass(struct polling *polling, int64_t now);

/* Nothing was found at `now`: whether to look again. */
bool polling_goes_on(struct polling *polling, int64_t now);

/* The looking has ended. */
void polling_end(struct polling *polling, int64_t now, enum polling_outcome outcome);

void polling_get_stats(const struct polling *polling, struct vouch_polling_stats *ret_stats);

/* The wait has ended that was not (only) spent looking. */
void polling_slept(struct polling *polling, int64_t now);

#endif
