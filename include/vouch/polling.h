/* SPDX-License-Identifier: MIT */
/*
 * How threads wait for a peer: asleep at once, or polling for a moment first.
 *
 * Waking a sleeping thread can cost ten times what a call costs. Where the answer comes within
 * microseconds, looking for it again and again before sleeping is faster and cheaper; where it does
 * not, or where another thread wants the core, it is waste. VOUCH_POLLING_ADAPTIVE finds out which
 * it is, all the time, and is the default. docs/performance.md shows what it costs and gains.
 */
#ifndef VOUCH_POLLING_H
#define VOUCH_POLLING_H

#include <stdint.h>
#include <vouch/common.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vouch_polling {
    VOUCH_POLLING_ADAPTIVE, /* poll while it pays; probe now and then while it does not */
    VOUCH_POLLING_OFF,      /* sleep at once */
    VOUCH_POLLING_ALWAYS,   /* poll for the whole budget before each sleep, whatever it brings. For
                               threads that have cores to themselves */
};

/* How long at most, ns, before a thread sleeps. */
#define VOUCH_POLLING_BUDGET_DEFAULT ((int64_t)50 * 1000)
#define VOUCH_POLLING_BUDGET_BOUND VOUCH_MILLISECONDS(10)

struct vouch_polling_stats {
    uint64_t paid;   /* polls that ended with what was waited for */
    uint64_t unpaid; /* polls that ended in a sleep, or were given up */
    uint64_t sleeps; /* waits that did not begin with a poll */
};

#ifdef __cplusplus
}
#endif
#endif
