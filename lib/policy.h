/* SPDX-License-Identifier: MIT */
/* What those who keep a policy need beyond <vouch/policy.h>. */
#ifndef VOUCH_LIB_POLICY_H
#define VOUCH_LIB_POLICY_H

#include <vouch/memory.h>
#include <vouch/policy.h>

/* The effective uid that this process had when this was first called. */
uid_t policy_self_uid(void);

/* Whether there are at most VOUCH_POLICY_RULES_MAX rules, each with an action and a subject that
 * there is. NULL, the default policy, is valid. */
bool policy_valid(const struct vouch_policy *policy);

/* A copy that is ours; of the default policy when `policy` is NULL. 0, -ENOMEM, or -EINVAL when it
 * is not valid. */
int policy_copy(const struct vouch_allocator *allocator, const struct vouch_policy *policy,
                struct vouch_policy *ret_copy) VOUCH_MUST_CHECK;
void policy_deinit(const struct vouch_allocator *allocator,
                   struct vouch_policy *copy); /* safe twice */

#endif
