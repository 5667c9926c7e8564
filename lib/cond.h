/* SPDX-License-Identifier: MIT */
/* Condition variables whose deadlines are those of vouch_now(): they do not jump with the wall
 * clock. */
#ifndef VOUCH_LIB_COND_H
#define VOUCH_LIB_COND_H

#include <pthread.h>
#include <stdint.h>
#include <vouch/common.h>

int cond_init(pthread_cond_t *cond) VOUCH_MUST_CHECK; /* 0 or negative errno */

/* Waits until signalled, `deadline`, or for no reason: the caller looks at its own state. */
void cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline);

#endif
