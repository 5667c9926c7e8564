/* SPDX-License-Identifier: MIT */
/*
 * Admission: how many connections there may be, in all and for each uid, so that no user can take
 * the places of the others.
 *
 * Thread-safe. Connections may outlive the listener: the object lives until its owner has let it go
 * and the last place is given back.
 */
#ifndef VOUCH_LIB_ADMISSION_H
#define VOUCH_LIB_ADMISSION_H

#include <sys/types.h>
#include <vouch/memory.h>

#define ADMISSION_TOTAL_DEFAULT 4096
#define ADMISSION_PER_UID_DEFAULT 256
#define ADMISSION_FD_RESERVE 64 /* descriptors that are left to the rest of the program */

struct admission;
struct admission_share; /* what one uid holds */

/* `total` 0: min(4096, 3/4 of (RLIMIT_NOFILE - 64)), at least 1. `per_uid` 0: 256, but for a uid
 * other than `own_uid` at most half of the total (at least 1). 0 or -ENOMEM. */
int admission_new(const struct vouch_allocator *allocator, unsigned total, unsigned per_uid,
                  uid_t own_uid, struct admission **ret_admission) VOUCH_MUST_CHECK;
void admission_free(struct admission *admission); /* by the owner; places that are taken stay valid.
                                                     NULL is ignored */

/* The pure rule behind the default total, for a soft limit of `fd_limit` descriptors. */
unsigned admission_default_total(uint64_t fd_limit);

enum admission_result { ADMISSION_OK = 0, ADMISSION_UID_FULL = 1, ADMISSION_FULL = 2 };

/* Takes a place for `uid`. ADMISSION_OK: give `ret_share` back with admission_release. Else one of
 * the other results, or -ENOMEM. (uid_t)-1, the unknown uid, is a user like any other here: all who
 * are unknown share one share. Policy lets none of them in. */
int admission_admit(struct admission *admission, uid_t uid,
                    struct admission_share **ret_share) VOUCH_MUST_CHECK;

/* Gives one place of that share back. Takes a void pointer to be a connection's `on_free`. */
void admission_release(void *context);

unsigned admission_live(struct admission *admission); /* places taken now */

#endif
