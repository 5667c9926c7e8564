/* SPDX-License-Identifier: MIT */
/* What Linux tells of a peer beyond its ids, and what is left when it does not. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/identity.h"
#include "lib/os.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/support.h"

static int pair[2];

static void setup(void) {
    support_baseline_begin();
    cr_assert_eq(os_socketpair_stream(pair), 0);
}

static void teardown(void) {
    close(pair[0]);
    close(pair[1]);
    support_baseline_end();
}

TestSuite(identity_linux, .init = setup, .fini = teardown);

/* Reads the peer while the getsockopt calls from `call` on fail. */
static const struct vouch_identity *read_failing(unsigned call, unsigned repeat, int error) {
    const struct vouch_identity *peer;
    const struct faults_plan plan = {
        .symbol = "getsockopt", .call = call, .repeat = repeat, .error = error};
    faults_begin(&plan);
    int r = vouch_identity_of_peer(pair[0], NULL, &peer);
    faults_end();
    cr_assert_eq(r, 0);
    return peer;
}

Test(identity_linux, groups_are_known) {
    const struct vouch_identity *peer, *self;
    cr_assert_eq(vouch_identity_of_peer(pair[0], NULL, &peer), 0);
    cr_assert_eq(vouch_identity_self(NULL, &self), 0);
    cr_assert(peer->known & VOUCH_KNOWN_PID);
    cr_assert(peer->known & VOUCH_KNOWN_GROUPS);
    cr_assert_eq(peer->group_count, self->group_count);
    vouch_identity_unref(peer);
    vouch_identity_unref(self);
}

Test(identity_linux, old_kernel_without_any_extra) {
    const struct vouch_identity *peer = read_failing(2, FAULTS_ALWAYS, ENOPROTOOPT);
    cr_assert_eq(peer->known, VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_PID);
    cr_assert_eq(peer->pidfd, -1);
    cr_assert_null(peer->groups);
    cr_assert_null(peer->label);
    vouch_identity_unref(peer);
}

Test(identity_linux, groups_alone_missing) {
    const struct vouch_identity *peer = read_failing(2, 1, ENOPROTOOPT);
    cr_assert_not(peer->known & VOUCH_KNOWN_GROUPS);
    cr_assert_eq(vouch_identity_in_group(peer, peer->gid + 1), -ENODATA);
    vouch_identity_unref(peer);
}

Test(identity_linux, every_way_in_which_a_pidfd_may_be_missing) {
    const int errors[] = {EINVAL, ENOPROTOOPT, ESRCH, ENODATA, EMFILE, ENFILE};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        /* After credentials, groups and label, none of which needs a second question here. */
        const struct vouch_identity *peer = read_failing(4, 1, errors[i]);
        cr_assert_not(peer->known & VOUCH_KNOWN_PIDFD);
        cr_assert_eq(peer->pidfd, -1);
        vouch_identity_unref(peer);
    }
}

/* ERANGE that does not ask for more room, as a broken kernel might say it, does not go round for
 * ever. */
Test(identity_linux, erange_without_growth_is_unknown) {
    const struct vouch_identity *peer = read_failing(2, 1, ERANGE);
    cr_assert_not(peer->known & VOUCH_KNOWN_GROUPS);
    vouch_identity_unref(peer);
}

Test(identity_linux, credentials_are_not_optional) {
    const struct faults_plan plan = {.symbol = "getsockopt", .call = 1, .error = EIO};
    const struct vouch_identity *peer;
    faults_begin(&plan);
    int r = vouch_identity_of_peer(pair[0], NULL, &peer);
    faults_end();
    cr_assert_eq(r, -EIO);
}

Test(identity_linux, socket_without_a_peer_is_nobody) {
    const int families[] = {AF_UNIX, AF_INET};
    for (int i = 0; i < 2; i++) {
        int fd = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
        const struct vouch_identity *peer;
        cr_assert_eq(vouch_identity_of_peer(fd, NULL, &peer), 0);
        cr_assert_not(peer->known & (VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_PID));
        cr_assert_not(peer->known & VOUCH_KNOWN_GROUPS);
        vouch_identity_unref(peer);
        close(fd);
    }
}

Test(identity_linux, pidfd_is_of_the_peer) {
    const struct vouch_identity *peer;
    cr_assert_eq(vouch_identity_of_peer(pair[0], NULL, &peer), 0);
    if (peer->known & VOUCH_KNOWN_PIDFD) {
        struct pollfd ended = {.fd = peer->pidfd, .events = POLLIN};
        cr_assert_eq(poll(&ended, 1, 0), 0, "we have not ended");
    }
    vouch_identity_unref(peer);
}
