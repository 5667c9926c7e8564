/* SPDX-License-Identifier: MIT */
/*
 * Policy: first matching rule decides, none means no. Pure: the same identity and rules give the
 * same answer, without system calls. (The one exception is the question for our own uid, asked once
 * in the life of the process.)
 *
 * Fails closed. What is not known can't make an allow rule match, and can't keep a deny rule from
 * matching. An unmapped uid may stand for anybody, so only a rule with its very number can allow
 * it.
 */
#include "lib/policy.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/mem.h"

static const struct vouch_rule default_rules[] = {
    {VOUCH_ALLOW, VOUCH_SUBJECT_SELF, 0},
    {VOUCH_ALLOW, VOUCH_SUBJECT_UID, 0},
};
static const struct vouch_policy default_policy = {default_rules, sizeof(default_rules) /
                                                                      sizeof(default_rules[0])};

static pthread_once_t self_once = PTHREAD_ONCE_INIT;
static uid_t self_uid;

static void capture_self_uid(void) {
    self_uid = geteuid();
}

uid_t policy_self_uid(void) {
    pthread_once(&self_once, capture_self_uid);
    return self_uid;
}

/* Whether the rule speaks of this identity: 1, 0, or -ENODATA when that can't be known. */
static int rule_matches(const struct vouch_rule *rule, const struct vouch_identity *identity) {
    switch (rule->subject) {
    case VOUCH_SUBJECT_ANY:
        return 1;
    case VOUCH_SUBJECT_SELF:
        return identity->uid == policy_self_uid();
    case VOUCH_SUBJECT_UID:
        return identity->uid == rule->id;
    case VOUCH_SUBJECT_GID:
        return vouch_identity_in_group(identity, rule->id);
    case VOUCH_SUBJECT_PRIMARY_GID:
        return identity->known & VOUCH_KNOWN_GID ? identity->gid == rule->id : -ENODATA;
    }
    return -ENODATA; /* a subject that there is not: denies, never allows */
}

static bool may_allow(const struct vouch_rule *rule, const struct vouch_identity *identity) {
    return !identity->uid_unmapped || rule->subject == VOUCH_SUBJECT_UID;
}

static struct vouch_decision decide(const struct vouch_policy *policy,
                                    const struct vouch_identity *identity) {
    if (!(identity->known & VOUCH_KNOWN_UID))
        return (struct vouch_decision){.reason = VOUCH_REASON_UID_UNKNOWN};

    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct vouch_rule *rule = &policy->rules[i];
        int match = rule_matches(rule, identity);
        if (rule->action == VOUCH_ALLOW && match == 1 && may_allow(rule, identity))
            return (struct vouch_decision){true, VOUCH_REASON_RULE, i};
        if (rule->action != VOUCH_ALLOW && match == 1)
            return (struct vouch_decision){false, VOUCH_REASON_RULE, i};
        if (rule->action != VOUCH_ALLOW && match < 0)
            return (struct vouch_decision){false, VOUCH_REASON_GROUPS_UNKNOWN, i};
    }
    return (struct vouch_decision){.reason = identity->uid_unmapped ? VOUCH_REASON_UID_UNMAPPED
                                                                    : VOUCH_REASON_NO_RULE};
}

bool vouch_policy_check(const struct vouch_policy *policy, const struct vouch_identity *identity,
                        struct vouch_decision *ret_decision) {
    struct vouch_decision decision = decide(policy ? policy : &default_policy, identity);
    if (ret_decision)
        *ret_decision = decision;
    return decision.allowed;
}

bool policy_valid(const struct vouch_policy *policy) {
    if (!policy)
        return true;
    if (policy->rule_count > VOUCH_POLICY_RULES_MAX || (policy->rule_count && !policy->rules))
        return false;
    for (size_t i = 0; i < policy->rule_count; i++)
        if ((unsigned)policy->rules[i].action > VOUCH_ALLOW ||
            (unsigned)policy->rules[i].subject > VOUCH_SUBJECT_PRIMARY_GID)
            return false;
    return true;
}

int policy_copy(const struct vouch_allocator *allocator, const struct vouch_policy *policy,
                struct vouch_policy *ret_copy) {
    if (!policy)
        policy = &default_policy;
    if (!policy_valid(policy))
        return -EINVAL;
    struct vouch_policy copy = {NULL, policy->rule_count};
    if (copy.rule_count) {
        size_t size = copy.rule_count * sizeof(struct vouch_rule);
        struct vouch_rule *rules = mem_alloc(allocator, size);
        if (!rules)
            return -ENOMEM;
        memcpy(rules, policy->rules, size);
        copy.rules = rules;
    }
    *ret_copy = copy;
    return 0;
}

void policy_deinit(const struct vouch_allocator *allocator, struct vouch_policy *copy) {
    mem_free(allocator, (void *)copy->rules, copy->rule_count * sizeof(struct vouch_rule));
    *copy = (struct vouch_policy){NULL, 0};
}

/* "deny uid 1000" */
static void format_rule(const struct vouch_rule *rule, char *buffer, size_t size) {
    const char *action = rule->action == VOUCH_ALLOW ? "allow" : "deny";
    switch (rule->subject) {
    case VOUCH_SUBJECT_ANY:
        snprintf(buffer, size, "%s any", action);
        return;
    case VOUCH_SUBJECT_SELF:
        snprintf(buffer, size, "%s self, uid %ld", action, (long)policy_self_uid());
        return;
    case VOUCH_SUBJECT_UID:
        snprintf(buffer, size, "%s uid %ld", action, (long)rule->id);
        return;
    case VOUCH_SUBJECT_GID:
        snprintf(buffer, size, "%s gid %ld", action, (long)rule->id);
        return;
    case VOUCH_SUBJECT_PRIMARY_GID:
        snprintf(buffer, size, "%s primary gid %ld", action, (long)rule->id);
        return;
    }
    snprintf(buffer, size, "%s unknown subject %d", action, (int)rule->subject);
}

/* "uid=1000 gid=100" */
static void format_subject(const struct vouch_identity *identity, char *buffer, size_t size) {
    if (identity->known & VOUCH_KNOWN_GID)
        snprintf(buffer, size, "uid=%ld gid=%ld", (long)identity->uid, (long)identity->gid);
    else
        snprintf(buffer, size, "uid=%ld gid=?", (long)identity->uid);
}

const char *vouch_decision_format(const struct vouch_decision *decision,
                                  const struct vouch_policy *policy,
                                  const struct vouch_identity *identity, char *buffer,
                                  size_t size) {
    char subject[64], rule[64] = "";
    format_subject(identity, subject, sizeof(subject));
    if (!policy)
        policy = &default_policy;
    if (decision->rule < policy->rule_count)
        format_rule(&policy->rules[decision->rule], rule, sizeof(rule));

    switch (decision->reason) {
    case VOUCH_REASON_RULE:
        snprintf(buffer, size, "%s by rule %zu (%s)", decision->allowed ? "allowed" : "denied",
                 decision->rule, rule);
        break;
    case VOUCH_REASON_NO_RULE:
        snprintf(buffer, size, "denied: no rule allows %s", subject);
        break;
    case VOUCH_REASON_UID_UNKNOWN:
        snprintf(buffer, size, "denied: the system does not tell the uid");
        break;
    case VOUCH_REASON_UID_UNMAPPED:
        snprintf(buffer, size, "denied: no rule names %s, a user unmapped in this user namespace",
                 subject);
        break;
    case VOUCH_REASON_GROUPS_UNKNOWN:
        snprintf(buffer, size, "denied by rule %zu (%s): the system does not tell the groups of %s",
                 decision->rule, rule, subject);
        break;
    }
    return buffer;
}
