/* SPDX-License-Identifier: MIT */
/*
 * Counters that client and server share: allocations, by the interposer (count_malloc.c), and how
 * many of them a codec's own memory functions made.
 *
 * They are in a page of which BENCH_COUNTERS names the descriptor, BENCH_SIDE the part. A process
 * without these variables counts nothing.
 */
#ifndef BENCH_COUNTERS_H
#define BENCH_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#define COUNTERS_FD "BENCH_COUNTERS"
#define COUNTERS_SIDE "BENCH_SIDE"

enum counters_side { COUNTERS_CLIENT, COUNTERS_SERVER, COUNTERS_SIDES };

struct counters {
    struct {
        _Alignas(64) atomic_uint_fast64_t allocations; /* each side a cache line of its own */
        atomic_uint_fast64_t codec;
    } sides[COUNTERS_SIDES];
};

/* Of this process and its peer; NULL when nothing is counted. */
struct counters *counters_get(void);
/* Which side this process is. */
enum counters_side counters_get_side(void);

#endif
