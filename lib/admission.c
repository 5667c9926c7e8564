/* SPDX-License-Identifier: MIT */
/*
 * Admission. Shares are kept in an array sorted by uid: looking up costs the logarithm of the
 * number of *different* uids that are connected now, whatever numbers they are, and there is no
 * hash for anybody to aim at.
 *
 * Invariants: a share in the array has count > 0; total is the sum of the counts; the object goes
 * away when neither the owner nor a place holds it.
 */
#include "lib/admission.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/mem.h"

struct admission_share {
    struct admission *admission;
    uid_t uid;
    unsigned count;
};

struct admission {
    const struct vouch_allocator *allocator;
    unsigned total_max, own_max, others_max;
    uid_t own_uid;
    pthread_mutex_t lock; /* for what is below */
    bool owned;
    unsigned total;
    size_t share_count, share_room;
    struct admission_share **shares; /* ascending by uid */
};

unsigned admission_default_total(uint64_t fd_limit) {
    if (fd_limit <= ADMISSION_FD_RESERVE + 1)
        return 1;
    uint64_t free_fds = fd_limit - ADMISSION_FD_RESERVE;
    uint64_t total = free_fds / 4 * 3 + free_fds % 4 * 3 / 4; /* RLIM_INFINITY must not overflow */
    return total < ADMISSION_TOTAL_DEFAULT ? (unsigned)total : ADMISSION_TOTAL_DEFAULT;
}

static unsigned default_total(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return ADMISSION_TOTAL_DEFAULT;
    return admission_default_total(limit.rlim_cur);
}

int admission_new(const struct vouch_allocator *allocator, unsigned total, unsigned per_uid,
                  uid_t own_uid, struct admission **ret_admission) {
    struct admission *admission = mem_zalloc(allocator, sizeof(*admission));
    if (!admission)
        return -ENOMEM;
    admission->allocator = allocator;
    admission->own_uid = own_uid;
    admission->owned = true;
    admission->total_max = total ? total : default_total();
    admission->own_max = per_uid ? per_uid : ADMISSION_PER_UID_DEFAULT;
    admission->others_max = admission->own_max;
    unsigned half = admission->total_max > 1 ? admission->total_max / 2 : 1;
    if (!per_uid && admission->others_max > half)
        admission->others_max = half;
    pthread_mutex_init(&admission->lock, NULL);
    *ret_admission = admission;
    return 0;
}

static void destroy(struct admission *admission) {
    pthread_mutex_destroy(&admission->lock);
    mem_free(admission->allocator, admission->shares,
             admission->share_room * sizeof(admission->shares[0]));
    mem_free(admission->allocator, admission, sizeof(*admission));
}

void admission_free(struct admission *admission) {
    if (!admission)
        return;
    pthread_mutex_lock(&admission->lock);
    admission->owned = false;
    bool last = admission->total == 0;
    pthread_mutex_unlock(&admission->lock);
    if (last)
        destroy(admission);
}

/* The place of the first share whose uid is not below `uid`. */
static size_t find(const struct admission *admission, uid_t uid) {
    size_t low = 0, high = admission->share_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (admission->shares[middle]->uid < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int make_room(struct admission *admission) {
    if (admission->share_count < admission->share_room)
        return 0;
    size_t room = admission->share_room ? 2 * admission->share_room : 8;
    struct admission_share **shares =
        mem_resize(admission->allocator, admission->shares,
                   admission->share_room * sizeof(shares[0]), room * sizeof(shares[0]));
    if (!shares)
        return -ENOMEM;
    admission->shares = shares;
    admission->share_room = room;
    return 0;
}

/* Puts a share with no places at `at`. */
static int insert(struct admission *admission, size_t at, uid_t uid) {
    if (make_room(admission) < 0)
        return -ENOMEM;
    struct admission_share *share = mem_alloc(admission->allocator, sizeof(*share));
    if (!share)
        return -ENOMEM;
    *share = (struct admission_share){admission, uid, 0};
    memmove(&admission->shares[at + 1], &admission->shares[at],
            (admission->share_count - at) * sizeof(admission->shares[0]));
    admission->shares[at] = share;
    admission->share_count++;
    return 0;
}

static int admit(struct admission *admission, uid_t uid, struct admission_share **ret_share) {
    size_t at = find(admission, uid);
    bool present = at < admission->share_count && admission->shares[at]->uid == uid;
    unsigned max = uid == admission->own_uid ? admission->own_max : admission->others_max;
    /* The own share first: who has had his fill should be told so, also while the whole is full. */
    if (present && admission->shares[at]->count >= max)
        return ADMISSION_UID_FULL;
    if (admission->total >= admission->total_max)
        return ADMISSION_FULL;
    if (!present && insert(admission, at, uid) < 0)
        return -ENOMEM;
    admission->shares[at]->count++;
    admission->total++;
    *ret_share = admission->shares[at];
    return ADMISSION_OK;
}

int admission_admit(struct admission *admission, uid_t uid, struct admission_share **ret_share) {
    pthread_mutex_lock(&admission->lock);
    int r = admit(admission, uid, ret_share);
    pthread_mutex_unlock(&admission->lock);
    return r;
}

void admission_release(void *context) {
    struct admission_share *share = context;
    struct admission *admission = share->admission;
    pthread_mutex_lock(&admission->lock);
    if (--share->count == 0) {
        size_t at = find(admission, share->uid);
        admission->share_count--;
        memmove(&admission->shares[at], &admission->shares[at + 1],
                (admission->share_count - at) * sizeof(admission->shares[0]));
        mem_free(admission->allocator, share, sizeof(*share));
    }
    bool last = --admission->total == 0 && !admission->owned;
    pthread_mutex_unlock(&admission->lock);
    if (last)
        destroy(admission);
}

unsigned admission_live(struct admission *admission) {
    pthread_mutex_lock(&admission->lock);
    unsigned total = admission->total;
    pthread_mutex_unlock(&admission->lock);
    return total;
}
