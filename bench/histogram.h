/* SPDX-License-Identifier: MIT */
/*
 * Counts times in buckets: 64 for each power of two, so that what comes out is at most 1.6 % above
 * what went in. Adding is a few instructions and touches no memory but its own.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 6
#define HISTOGRAM_BUCKETS ((40 - HISTOGRAM_BITS) << HISTOGRAM_BITS)

struct histogram {
    uint64_t count, sum;
    uint64_t min, max; /* exact */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *histogram);
void histogram_add(struct histogram *histogram, int64_t nanoseconds);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The time that `share` (0 to 1) of all do not exceed; 0 when there are none. */
double histogram_quantile(const struct histogram *histogram, double share);
double histogram_mean(const struct histogram *histogram);

#endif
