/* SPDX-License-Identifier: MIT */
#include "plugin/backoff.h"

static int64_t doubled(const struct backoff *b) {
    int64_t wait = b->min;
    for (uint32_t i = 1; i < b->count && wait < b->max; i++)
        wait = wait > b->max / 2 ? b->max : 2 * wait;
    wait = wait < b->max ? wait : b->max;
    return wait < INT64_MAX / 2 ? wait : INT64_MAX / 2; /* room for chance */
}

int64_t backoff_next(struct backoff *b, int64_t ran, uint32_t random) {
    if (ran >= b->healthy)
        b->count = 0;
    if (b->count >= b->limit && b->limit != UINT32_MAX)
        return -1;
    if (b->count < UINT32_MAX)
        b->count++;
    int64_t wait = doubled(b);
    /* Plugins that died of one cause do not all come back in one moment. */
    int64_t spread = wait / 2;
    wait = wait - wait / 4 + (int64_t)((uint64_t)spread / 1024 * (random % 1025));
    return wait < b->max ? wait : b->max;
}
