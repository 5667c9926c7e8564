/* SPDX-License-Identifier: MIT */
/*
 * What a pixl server counts: over an interval, which ends when somebody takes the numbers. The
 * clock is the caller's.
 */
#include "rpc/pixl.h"

void pixl_stats_init(struct pixl_stats *stats, int64_t now, int64_t interval, int64_t slow) {
    *stats = (struct pixl_stats){.counts.begun = now, .interval = interval, .slow = slow};
    pthread_mutex_init(&stats->lock, NULL);
}

void pixl_stats_deinit(struct pixl_stats *stats) {
    pthread_mutex_destroy(&stats->lock);
}

void pixl_stats_request(struct pixl_stats *stats) {
    pthread_mutex_lock(&stats->lock);
    stats->counts.requests++;
    pthread_mutex_unlock(&stats->lock);
}

void pixl_stats_skipped(struct pixl_stats *stats) {
    pthread_mutex_lock(&stats->lock);
    stats->counts.skipped++;
    pthread_mutex_unlock(&stats->lock);
}

void pixl_stats_event(struct pixl_stats *stats, enum vouch_dialect_event event, int64_t value) {
    struct vouch_pixl_stats *counts = &stats->counts;
    pthread_mutex_lock(&stats->lock);
    switch (event) {
    case VOUCH_DIALECT_OPENED:
        counts->opened++;
        counts->connections++;
        if (counts->connections > counts->most_connections)
            counts->most_connections = counts->connections;
        break;
    case VOUCH_DIALECT_CLOSED:
        counts->closed++;
        counts->connections--;
        break;
    case VOUCH_DIALECT_ANSWERED:
        counts->slow += value > stats->slow;
        break;
    case VOUCH_DIALECT_BLOCKED:
        counts->blocked++;
        break;
    }
    pthread_mutex_unlock(&stats->lock);
}

static void look(const struct pixl_stats *stats, int64_t now, struct vouch_pixl_stats *ret_stats) {
    *ret_stats = stats->counts;
    ret_stats->elapsed = now - stats->counts.begun;
}

void pixl_stats_get(struct pixl_stats *stats, int64_t now, struct vouch_pixl_stats *ret_stats) {
    pthread_mutex_lock(&stats->lock);
    look(stats, now, ret_stats);
    pthread_mutex_unlock(&stats->lock);
}

bool pixl_stats_take(struct pixl_stats *stats, int64_t now, bool anyway,
                     struct vouch_pixl_stats *ret_stats) {
    pthread_mutex_lock(&stats->lock);
    struct vouch_pixl_stats *counts = &stats->counts;
    bool over = anyway || now - counts->begun >= stats->interval;
    if (over) {
        look(stats, now, ret_stats);
        *counts = (struct vouch_pixl_stats){.begun = now,
                                            .connections = counts->connections,
                                            .most_connections = counts->connections};
    }
    pthread_mutex_unlock(&stats->lock);
    return over;
}
