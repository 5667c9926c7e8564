/* SPDX-License-Identifier: MIT */
/* What an identity is made of, how it is kept, compared and written down. Whom the kernel names is
 * in suite_credentials.c. */
#include "lib/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/os.h"
#include "tests/harness.h"
#include "tests/support.h"

TestSuite(identity, .init = support_baseline_begin, .fini = support_baseline_end);

static const struct vouch_identity *make(const struct vouch_identity *facts) {
    const struct vouch_identity *identity;
    cr_assert_eq(identity_new(NULL, facts, &identity), 0);
    return identity;
}

static const gid_t groups[] = {4, 27, 100};
static const struct vouch_identity full = {
    .known = VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_PID | VOUCH_KNOWN_GROUPS |
             VOUCH_KNOWN_LABEL,
    .uid = 1000,
    .gid = 1001,
    .pid = 4711,
    .pidfd = -1,
    .group_count = 3,
    .groups = groups,
    .label = "unconfined",
};

Test(identity, self_is_this_process) {
    const struct vouch_identity *self;
    cr_assert_eq(vouch_identity_self(NULL, &self), 0);
    const unsigned sure = VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_PID | VOUCH_KNOWN_GROUPS;
    cr_assert_eq(self->known & sure, sure);
    cr_assert_eq(self->uid, geteuid());
    cr_assert_eq(self->gid, getegid());
    cr_assert_eq(self->pid, getpid());
    cr_assert_eq((int)self->group_count, getgroups(0, NULL));
    cr_assert_eq((self->known & VOUCH_KNOWN_PIDFD) != 0, self->pidfd >= 0);
    cr_assert_eq(self->groups == NULL, self->group_count == 0);
    if (self->pidfd >= 0)
        cr_assert(fcntl(self->pidfd, F_GETFD) & FD_CLOEXEC);
    vouch_identity_unref(self);
}

Test(identity, peer_of_a_pair_is_this_process) {
    int fds[2];
    cr_assert_eq(os_socketpair_stream(fds), 0);
    const struct vouch_identity *peer;
    cr_assert_eq(vouch_identity_of_peer(fds[0], NULL, &peer), 0);
    cr_assert(peer->known & VOUCH_KNOWN_UID);
    cr_assert(peer->known & VOUCH_KNOWN_GID);
    cr_assert_eq(peer->uid, geteuid());
    cr_assert_eq(peer->gid, getegid());
    if (peer->known & VOUCH_KNOWN_PID)
        cr_assert_eq(peer->pid, getpid());
    if (peer->known & VOUCH_KNOWN_PIDFD)
        cr_assert(fcntl(peer->pidfd, F_GETFD) & FD_CLOEXEC);
    vouch_identity_unref(peer);
    close(fds[0]);
    close(fds[1]);
}

Test(identity, peer_without_pidfd_when_not_wanted) {
    int fds[2];
    cr_assert_eq(os_socketpair_stream(fds), 0);
    size_t before = support_count_fds();
    const struct vouch_identity *peer;
    cr_assert_eq(identity_read_peer(fds[0], false, NULL, &peer), 0);
    cr_assert_not(peer->known & VOUCH_KNOWN_PIDFD);
    cr_assert_eq(peer->pidfd, -1);
    cr_assert_eq(support_count_fds(), before);
    vouch_identity_unref(peer);
    close(fds[0]);
    close(fds[1]);
}

Test(identity, of_what_is_no_socket_fails) {
    const struct vouch_identity *untouched = &full;
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    cr_assert_eq(vouch_identity_of_peer(fds[0], NULL, &untouched), -ENOTSOCK);
    cr_assert_eq(vouch_identity_of_peer(-1, NULL, &untouched), -EBADF);
    cr_assert_eq(untouched, &full);
    close(fds[0]);
    close(fds[1]);
}

Test(identity, outlives_what_it_was_made_of) {
    struct vouch_identity facts = full;
    gid_t scratch[] = {4, 27, 100};
    char label[] = "unconfined";
    facts.groups = scratch;
    facts.label = label;
    const struct vouch_identity *identity = make(&facts);
    memset(scratch, 0xff, sizeof(scratch));
    memset(label, 'x', sizeof(label) - 1);
    cr_assert_eq(identity->group_count, 3);
    cr_assert_arr_eq(identity->groups, groups, sizeof(groups));
    cr_assert_str_eq(identity->label, "unconfined");
    vouch_identity_unref(identity);
}

Test(identity, the_last_reference_closes_the_pidfd) {
    struct vouch_identity facts = full;
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    facts.pidfd = fds[0];
    const struct vouch_identity *identity = make(&facts);
    cr_assert_eq(vouch_identity_ref(identity), identity);
    vouch_identity_unref(identity);
    cr_assert_neq(fcntl(fds[0], F_GETFD), -1);
    vouch_identity_unref(identity);
    cr_assert_eq(fcntl(fds[0], F_GETFD), -1);
    close(fds[1]);
    vouch_identity_unref(NULL);
}

Test(identity, overflow_uid_is_unmapped_only_when_known) {
    struct vouch_identity facts = full;
    facts.uid = os_overflow_uid();
    facts.uid_unmapped = false;
    const struct vouch_identity *identity = make(&facts);
    cr_assert_eq(identity->uid_unmapped, os_overflow_uid() != (uid_t)-1 || facts.uid == (uid_t)-1);
    vouch_identity_unref(identity);

    facts.known &= ~(unsigned)VOUCH_KNOWN_UID;
    identity = make(&facts);
    cr_assert_not(identity->uid_unmapped);
    vouch_identity_unref(identity);

    facts = full;
    facts.uid_unmapped = true; /* is not believed */
    identity = make(&facts);
    cr_assert_not(identity->uid_unmapped);
    vouch_identity_unref(identity);
}

Test(identity, in_group) {
    struct vouch_identity facts = full;
    cr_assert_eq(vouch_identity_in_group(&facts, 1001), 1, "the primary group");
    cr_assert_eq(vouch_identity_in_group(&facts, 27), 1);
    cr_assert_eq(vouch_identity_in_group(&facts, 100), 1, "the last one");
    cr_assert_eq(vouch_identity_in_group(&facts, 28), 0);

    facts.known &= ~(unsigned)VOUCH_KNOWN_GROUPS;
    facts.group_count = 0;
    cr_assert_eq(vouch_identity_in_group(&facts, 1001), 1);
    cr_assert_eq(vouch_identity_in_group(&facts, 27), -ENODATA);

    facts = full;
    facts.known &= ~(unsigned)VOUCH_KNOWN_GID;
    cr_assert_eq(vouch_identity_in_group(&facts, 27), 1);
    cr_assert_eq(vouch_identity_in_group(&facts, 1001), -ENODATA, "an unknown gid is not compared");
}

static void expect_format(const struct vouch_identity *identity, const char *expected) {
    char text[512];
    cr_expect_str_eq(vouch_identity_format(identity, text, sizeof(text)), expected, "%s", text);
}

Test(identity, format) {
    struct vouch_identity facts = full;
    expect_format(&facts, "uid=1000 gid=1001 pid=4711 groups=4,27,100 pidfd=? label=unconfined");
    facts.known |= VOUCH_KNOWN_PIDFD;
    facts.group_count = 0;
    facts.label = "a\nb\x80\x7f~ ";
    expect_format(&facts, "uid=1000 gid=1001 pid=4711 groups=none pidfd label=a?b??~ ");
    expect_format(&(struct vouch_identity){.pidfd = -1},
                  "uid=? gid=? pid=? groups=? pidfd=? label=?");
    facts.known = VOUCH_KNOWN_UID;
    facts.uid = 4294967294u;
    expect_format(&facts, "uid=4294967294 gid=? pid=? groups=? pidfd=? label=?");
}

Test(identity, format_spells_out_sixteen_groups) {
    gid_t many[17];
    for (gid_t i = 0; i < 17; i++)
        many[i] = i;
    struct vouch_identity facts = {.known = VOUCH_KNOWN_GROUPS, .groups = many, .group_count = 16};
    expect_format(&facts,
                  "uid=? gid=? pid=? groups=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 pidfd=? label=?");
    facts.group_count = 17;
    expect_format(
        &facts,
        "uid=? gid=? pid=? groups=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,(+1) pidfd=? label=?");
}

Test(identity, format_keeps_to_its_buffer) {
    char whole[512];
    vouch_identity_format(&full, whole, sizeof(whole));
    for (size_t size = 1; size <= strlen(whole) + 1; size++) {
        char text[512];
        memset(text, '#', sizeof(text));
        cr_assert_eq(vouch_identity_format(&full, text, size), text);
        cr_assert_eq(strlen(text), size - 1);
        cr_assert_arr_eq(text, whole, size - 1);
        cr_assert_eq(text[size], '#');
    }
    char untouched = '#';
    vouch_identity_format(&full, &untouched, 0);
    cr_assert_eq(untouched, '#');
}

Test(identity, out_of_memory_leaves_nothing) {
    struct support_allocator allocator;
    const struct vouch_identity *identity;
    int fds[2];
    cr_assert_eq(os_socketpair_stream(fds), 0);
    support_allocator_init(&allocator);
    int r = -ENOMEM;
    for (uint64_t n = 1; r == -ENOMEM; n++) {
        support_allocator_fail(&allocator, n, SUPPORT_FAIL_ONCE);
        r = vouch_identity_self(&allocator.allocator, &identity);
    }
    cr_assert_eq(r, 0);
    vouch_identity_unref(identity);
    support_allocator_fail(&allocator, 1, SUPPORT_FAIL_ONCE);
    cr_assert_eq(vouch_identity_of_peer(fds[0], &allocator.allocator, &identity), -ENOMEM);
    support_allocator_check(&allocator);
    close(fds[0]);
    close(fds[1]);
}
