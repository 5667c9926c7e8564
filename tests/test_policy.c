/* SPDX-License-Identifier: MIT */
/* The decision table: who is let in by which rules, and why. */
#include "lib/policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/support.h"

TestSuite(policy, .init = support_baseline_begin, .fini = support_baseline_end);

#define KNOWN (VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_GROUPS)
#define POLICY(...)                                                                                \
    (struct vouch_policy) {                                                                        \
        (const struct vouch_rule[]){__VA_ARGS__},                                                  \
            sizeof((const struct vouch_rule[]){__VA_ARGS__}) / sizeof(struct vouch_rule)           \
    }

static const gid_t groups[] = {27, 100};
static const struct vouch_identity alice = {
    .known = KNOWN, .uid = 1000, .gid = 1001, .pidfd = -1, .group_count = 2, .groups = groups};
static const struct vouch_identity unmapped = {.known = KNOWN,
                                               .uid = 65534,
                                               .gid = 1001,
                                               .pidfd = -1,
                                               .uid_unmapped = true,
                                               .group_count = 2,
                                               .groups = groups};
static const struct vouch_identity groupless = {
    .known = VOUCH_KNOWN_UID | VOUCH_KNOWN_GID, .uid = 1000, .gid = 1001, .pidfd = -1};
static const struct vouch_identity gidless = {.known = VOUCH_KNOWN_UID, .uid = 1000, .pidfd = -1};
static const struct vouch_identity nobody = {
    .known = VOUCH_KNOWN_GID | VOUCH_KNOWN_GROUPS, .uid = 0, .pidfd = -1};

static void expect(const struct vouch_policy *policy, const struct vouch_identity *identity,
                   bool allowed, enum vouch_reason reason, size_t rule) {
    struct vouch_decision decision;
    cr_expect_eq(vouch_policy_check(policy, identity, &decision), allowed);
    cr_expect_eq(decision.allowed, allowed);
    cr_expect_eq(decision.reason, reason, "reason %d, expected %d", (int)decision.reason,
                 (int)reason);
    if (reason == VOUCH_REASON_RULE || reason == VOUCH_REASON_GROUPS_UNKNOWN)
        cr_expect_eq(decision.rule, rule);
    cr_expect_eq(vouch_policy_check(policy, identity, NULL), allowed);
}

Test(policy, the_default_is_self_and_root) {
    struct vouch_identity peer = alice;
    peer.uid = geteuid();
    expect(NULL, &peer, true, VOUCH_REASON_RULE, 0);
    peer.uid = geteuid() + 1;
    expect(NULL, &peer, false, VOUCH_REASON_NO_RULE, 0);
    peer.uid = 0;
    expect(NULL, &peer, true, VOUCH_REASON_RULE, geteuid() == 0 ? 0 : 1);
    expect(NULL, &unmapped, false, VOUCH_REASON_UID_UNMAPPED, 0);
    expect(NULL, &nobody, false, VOUCH_REASON_UID_UNKNOWN, 0);
}

Test(policy, without_rules_nobody) {
    const struct vouch_policy none = {NULL, 0};
    expect(&none, &alice, false, VOUCH_REASON_NO_RULE, 0);
}

Test(policy, each_subject_allows_whom_it_names) {
    const struct {
        enum vouch_subject subject;
        uint32_t hit, miss;
    } cases[] = {
        {VOUCH_SUBJECT_UID, 1000, 1001},
        {VOUCH_SUBJECT_GID, 1001, 1000},
        {VOUCH_SUBJECT_GID, 100, 1000},
        {VOUCH_SUBJECT_PRIMARY_GID, 1001, 100},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vouch_policy hit = POLICY({VOUCH_ALLOW, cases[i].subject, cases[i].hit});
        expect(&hit, &alice, true, VOUCH_REASON_RULE, 0);
        struct vouch_policy miss = POLICY({VOUCH_ALLOW, cases[i].subject, cases[i].miss});
        expect(&miss, &alice, false, VOUCH_REASON_NO_RULE, 0);
    }
    struct vouch_policy any = POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 7});
    expect(&any, &alice, true, VOUCH_REASON_RULE, 0);
}

Test(policy, the_first_match_decides) {
    struct vouch_policy deny_first =
        POLICY({VOUCH_DENY, VOUCH_SUBJECT_UID, 1}, {VOUCH_DENY, VOUCH_SUBJECT_UID, 1000},
               {VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0});
    expect(&deny_first, &alice, false, VOUCH_REASON_RULE, 1);
    struct vouch_policy allow_first =
        POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_GID, 100}, {VOUCH_DENY, VOUCH_SUBJECT_ANY, 0});
    expect(&allow_first, &alice, true, VOUCH_REASON_RULE, 0);
}

Test(policy, an_unknown_uid_is_never_allowed) {
    struct vouch_policy everything =
        POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0}, {VOUCH_ALLOW, VOUCH_SUBJECT_UID, 0},
               {VOUCH_ALLOW, VOUCH_SUBJECT_GID, 0}, {VOUCH_ALLOW, VOUCH_SUBJECT_SELF, 0});
    expect(&everything, &nobody, false, VOUCH_REASON_UID_UNKNOWN, 0);
}

Test(policy, an_unmapped_uid_is_allowed_only_by_its_number) {
    struct vouch_policy wide = POLICY(
        {VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0}, {VOUCH_ALLOW, VOUCH_SUBJECT_GID, 100},
        {VOUCH_ALLOW, VOUCH_SUBJECT_PRIMARY_GID, 1001}, {VOUCH_ALLOW, VOUCH_SUBJECT_SELF, 0});
    expect(&wide, &unmapped, false, VOUCH_REASON_UID_UNMAPPED, 0);
    struct vouch_policy named =
        POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0}, {VOUCH_ALLOW, VOUCH_SUBJECT_UID, 65534});
    expect(&named, &unmapped, true, VOUCH_REASON_RULE, 1);
    struct vouch_policy denied =
        POLICY({VOUCH_DENY, VOUCH_SUBJECT_GID, 100}, {VOUCH_ALLOW, VOUCH_SUBJECT_UID, 65534});
    expect(&denied, &unmapped, false, VOUCH_REASON_RULE, 0);
    struct vouch_policy nobody_at_all =
        POLICY({VOUCH_DENY, VOUCH_SUBJECT_ANY, 0}, {VOUCH_ALLOW, VOUCH_SUBJECT_UID, 65534});
    expect(&nobody_at_all, &unmapped, false, VOUCH_REASON_RULE, 0);
}

Test(policy, unknown_groups_deny_and_do_not_allow) {
    struct vouch_policy deny =
        POLICY({VOUCH_DENY, VOUCH_SUBJECT_GID, 27}, {VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0});
    expect(&deny, &groupless, false, VOUCH_REASON_GROUPS_UNKNOWN, 0);
    struct vouch_policy allow = POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_GID, 27});
    expect(&allow, &groupless, false, VOUCH_REASON_NO_RULE, 0);
    struct vouch_policy primary = POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_GID, 1001});
    expect(&primary, &groupless, true, VOUCH_REASON_RULE, 0);
    struct vouch_policy deny_primary =
        POLICY({VOUCH_DENY, VOUCH_SUBJECT_PRIMARY_GID, 0}, {VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0});
    expect(&deny_primary, &gidless, false, VOUCH_REASON_GROUPS_UNKNOWN, 0);
    expect(&deny_primary, &groupless, true, VOUCH_REASON_RULE, 1);
    struct vouch_policy allow_primary = POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_PRIMARY_GID, 0});
    expect(&allow_primary, &gidless, false, VOUCH_REASON_NO_RULE, 0);
}

Test(policy, nonsense_denies) {
    struct vouch_policy subject = POLICY({VOUCH_ALLOW, (enum vouch_subject)99, 1000});
    expect(&subject, &alice, false, VOUCH_REASON_NO_RULE, 0);
    struct vouch_policy action = POLICY({(enum vouch_action)7, VOUCH_SUBJECT_UID, 1000});
    expect(&action, &alice, false, VOUCH_REASON_RULE, 0);
}

Test(policy, a_copy_is_ones_own) {
    struct vouch_rule rules[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_UID, 1000}};
    const struct vouch_policy policy = {rules, 1};
    struct vouch_policy copy;
    cr_assert_eq(policy_copy(NULL, &policy, &copy), 0);
    rules[0].action = VOUCH_DENY;
    expect(&copy, &alice, true, VOUCH_REASON_RULE, 0);
    policy_deinit(NULL, &copy);
    policy_deinit(NULL, &copy);

    cr_assert_eq(policy_copy(NULL, NULL, &copy), 0);
    expect(&copy, &unmapped, false, VOUCH_REASON_UID_UNMAPPED, 0);
    cr_assert_eq(copy.rule_count, 2);
    policy_deinit(NULL, &copy);
}

Test(policy, a_copy_checks_the_rules) {
    static struct vouch_rule rules[VOUCH_POLICY_RULES_MAX + 1];
    struct vouch_policy policy = {rules, VOUCH_POLICY_RULES_MAX}, copy;
    cr_assert_eq(policy_copy(NULL, &policy, &copy), 0);
    policy_deinit(NULL, &copy);
    policy.rule_count++;
    cr_assert_eq(policy_copy(NULL, &policy, &copy), -EINVAL);
    policy = (struct vouch_policy){NULL, 1};
    cr_assert_eq(policy_copy(NULL, &policy, &copy), -EINVAL);
    policy = POLICY({VOUCH_ALLOW, (enum vouch_subject)(VOUCH_SUBJECT_PRIMARY_GID + 1), 0});
    cr_assert_eq(policy_copy(NULL, &policy, &copy), -EINVAL);
    policy = POLICY({(enum vouch_action)(VOUCH_ALLOW + 1), VOUCH_SUBJECT_ANY, 0});
    cr_assert_eq(policy_copy(NULL, &policy, &copy), -EINVAL);
    policy = (struct vouch_policy){NULL, 0};
    cr_assert_eq(policy_copy(NULL, &policy, &copy), 0);
    expect(&copy, &alice, false, VOUCH_REASON_NO_RULE, 0);
    policy_deinit(NULL, &copy);

    struct support_allocator allocator;
    support_allocator_init(&allocator);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(policy_copy(&allocator.allocator, NULL, &copy), -ENOMEM);
}

static void expect_text(const struct vouch_policy *policy, const struct vouch_identity *identity,
                        const char *expected) {
    struct vouch_decision decision;
    char text[256];
    (void)vouch_policy_check(policy, identity, &decision);
    cr_expect_str_eq(vouch_decision_format(&decision, policy, identity, text, sizeof(text)),
                     expected, "%s", text);
}

Test(policy, decisions_in_words) {
    struct vouch_policy policy =
        POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_UID, 1}, {VOUCH_ALLOW, VOUCH_SUBJECT_GID, 2},
               {VOUCH_DENY, VOUCH_SUBJECT_UID, 1000});
    expect_text(&policy, &alice, "denied by rule 2 (deny uid 1000)");
    struct vouch_policy any = POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0});
    expect_text(&any, &alice, "allowed by rule 0 (allow any)");
    expect_text(&any, &nobody, "denied: the system does not tell the uid");
    expect_text(&any, &unmapped,
                "denied: no rule names uid=65534 gid=1001, a user unmapped in this user namespace");
    struct vouch_policy gid = POLICY({VOUCH_DENY, VOUCH_SUBJECT_GID, 27});
    expect_text(&gid, &alice, "denied by rule 0 (deny gid 27)");
    expect_text(
        &gid, &groupless,
        "denied by rule 0 (deny gid 27): the system does not tell the groups of uid=1000 gid=1001");
    struct vouch_policy primary = POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_PRIMARY_GID, 1001});
    expect_text(&primary, &alice, "allowed by rule 0 (allow primary gid 1001)");
    expect_text(&primary, &gidless, "denied: no rule allows uid=1000 gid=?");
    struct vouch_policy nonsense = POLICY({VOUCH_DENY, (enum vouch_subject)99, 0});
    expect_text(&nonsense, &alice,
                "denied by rule 0 (deny unknown subject 99): the system does not tell the groups "
                "of uid=1000 gid=1001");
    struct vouch_identity self = alice;
    self.uid = policy_self_uid();
    struct vouch_decision decision;
    char text[64], expected[64];
    cr_assert(vouch_policy_check(NULL, &self, &decision));
    snprintf(expected, sizeof(expected), "allowed by rule 0 (allow self, uid %ld)",
             (long)policy_self_uid());
    cr_assert_str_eq(vouch_decision_format(&decision, NULL, &self, text, sizeof(text)), expected);
}

Test(policy, words_keep_to_their_buffer) {
    struct vouch_decision decision;
    struct vouch_policy any = POLICY({VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0});
    (void)vouch_policy_check(&any, &alice, &decision);
    char text[9] = "########";
    vouch_decision_format(&decision, &any, &alice, text, 8);
    cr_assert_str_eq(text, "allowed");
    cr_assert_eq(text[8], 0);
    vouch_decision_format(&decision, &any, &alice, text, 0);
    cr_assert_str_eq(text, "allowed");
}
