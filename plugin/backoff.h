/* SPDX-License-Identifier: MIT */
/* How long to wait before a plugin is started again, and when to give up. Pure. */
#ifndef VOUCH_PLUGIN_BACKOFF_H
#define VOUCH_PLUGIN_BACKOFF_H

#include <stdint.h>

struct backoff {
    int64_t min, max; /* ns; the wait doubles from the first to the second */
    int64_t healthy;  /* having run for so long, it begins anew */
    uint32_t limit;   /* restarts in a row; UINT32_MAX: any number */
    uint32_t count;
};

/* After a run of `ran` ns: the wait, a quarter more or less as `random` has it, at most `max`; -1:
 * it has been enough. */
int64_t backoff_next(struct backoff *backoff, int64_t ran, uint32_t random);

#endif
