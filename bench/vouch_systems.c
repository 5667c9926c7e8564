/* SPDX-License-Identifier: MIT */
/* The systems of vouch, as far as their libraries are there. */
#include "bench/vouch_parts.h"

const struct bench_system *const vouch_systems[] = {
    &vouch_bytes, &vouch_one_way, &vouch_pending,
#ifdef BENCH_JSON
    &vouch_json,
#endif
#ifdef BENCH_PROTO
    &vouch_proto,
#endif
    NULL,
};
