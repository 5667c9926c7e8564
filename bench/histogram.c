/* SPDX-License-Identifier: MIT */
/* Buckets of times; the upper end of a bucket stands for what is in it. */
#include "bench/histogram.h"

#include <string.h>

#define SUB (1u << HISTOGRAM_BITS)

static unsigned bucket_of(uint64_t value) {
    if (value < SUB)
        return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value);
    unsigned at = ((power - HISTOGRAM_BITS + 1) << HISTOGRAM_BITS) +
                  (unsigned)((value >> (power - HISTOGRAM_BITS)) & (SUB - 1));
    return at < HISTOGRAM_BUCKETS ? at : HISTOGRAM_BUCKETS - 1;
}

static uint64_t upper_end(unsigned bucket) {
    if (bucket < SUB)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_BITS) - 1;
    return (((uint64_t)SUB + (bucket & (SUB - 1)) + 1) << shift) - 1;
}

void histogram_init(struct histogram *histogram) {
    memset(histogram, 0, sizeof(*histogram));
    histogram->min = UINT64_MAX;
}

void histogram_add(struct histogram *histogram, int64_t nanoseconds) {
    uint64_t value = nanoseconds > 0 ? (uint64_t)nanoseconds : 0;
    histogram->count++;
    histogram->sum += value;
    if (value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->buckets[bucket_of(value)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from) {
    into->count += from->count;
    into->sum += from->sum;
    if (from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

double histogram_quantile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->count), seen = 0;
    if (histogram->count == 0)
        return 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > wanted) {
            uint64_t end = upper_end(i);
            return (double)(end < histogram->max ? end : histogram->max);
        }
    }
    return (double)histogram->max;
}

double histogram_mean(const struct histogram *histogram) {
    return histogram->count ? (double)histogram->sum / (double)histogram->count : 0;
}
