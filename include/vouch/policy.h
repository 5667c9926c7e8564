/* SPDX-License-Identifier: MIT */
/*
 * Policy: who may connect, who may call. A pure function of an identity and a list of rules: no
 * system call, no name-service lookup.
 *
 * Rules are tried in order and the first that matches decides; when none does the answer is deny.
 * Fail closed: an identity whose uid is unknown is denied; one whose uid is unmapped (the kernel's
 * overflow uid) is denied unless a rule names that very uid; a deny rule for a group also hits an
 * identity whose groups the kernel did not tell.
 */
#ifndef VOUCH_POLICY_H
#define VOUCH_POLICY_H

#include <vouch/common.h>
#include <vouch/identity.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vouch_action { VOUCH_DENY = 0, VOUCH_ALLOW = 1 };

enum vouch_subject {
    VOUCH_SUBJECT_ANY =
        0, /* everybody with a known uid (when it allows: a mapped one); `id` is ignored */
    VOUCH_SUBJECT_SELF, /* the effective uid that this process had when vouch was first used; `id`
                           is ignored */
    VOUCH_SUBJECT_UID,  /* the user `id` */
    VOUCH_SUBJECT_GID,  /* the group `id`, primary or supplementary */
    VOUCH_SUBJECT_PRIMARY_GID, /* the group `id` as primary group only */
};

struct vouch_rule {
    enum vouch_action action;
    enum vouch_subject subject;
    uint32_t id;
};

/* The rules are borrowed where a policy is passed for one call, and copied where an option struct
 * holds it. */
struct vouch_policy {
    const struct vouch_rule *rules;
    size_t rule_count; /* at most VOUCH_POLICY_RULES_MAX */
};

#define VOUCH_POLICY_RULES_MAX 4096

/* Why a decision fell. */
enum vouch_reason {
    VOUCH_REASON_RULE,          /* rule number `rule` */
    VOUCH_REASON_NO_RULE,       /* no rule matched */
    VOUCH_REASON_UID_UNKNOWN,   /* the kernel does not say who it is */
    VOUCH_REASON_UID_UNMAPPED,  /* the overflow uid, and no rule names it */
    VOUCH_REASON_GROUPS_UNKNOWN /* deny rule number `rule` asks for a group that can't be excluded
                                 */
};

struct vouch_decision {
    bool allowed;
    enum vouch_reason reason;
    size_t rule; /* index of the rule that decided; meaningful with REASON_RULE and
                    REASON_GROUPS_UNKNOWN */
};

/* Decides. `policy` NULL is the default policy: the same effective uid as this process, and root.
 * `identity` must not be NULL. Always fills `ret_decision` (which may be NULL); returns whether it
 * is allowed. Any thread; does not block. */
VOUCH_API bool vouch_policy_check(const struct vouch_policy *policy,
                                  const struct vouch_identity *identity,
                                  struct vouch_decision *ret_decision);

/* One line for people: "denied by rule 2 (deny uid 1000)", "denied: no rule allows uid=1000
 * gid=100". Writes at most `size` bytes with the NUL and returns `buffer`. Arguments as given to
 * vouch_policy_check. */
VOUCH_API const char *vouch_decision_format(const struct vouch_decision *decision,
                                            const struct vouch_policy *policy,
                                            const struct vouch_identity *identity, char *buffer,
                                            size_t size);

#ifdef __cplusplus
}
#endif
#endif
