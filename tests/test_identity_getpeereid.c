/* SPDX-License-Identifier: MIT */
/* getpeereid(3) tells two ids, and nothing is made up for the rest. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/identity.h"
#include "lib/os.h"
#include "tests/harness.h"
#include "tests/support.h"

TestSuite(identity_getpeereid, .init = support_baseline_begin, .fini = support_baseline_end);

Test(identity_getpeereid, two_ids_and_no_more) {
    int fds[2];
    const struct vouch_identity *peer;
    cr_assert_eq(os_socketpair_stream(fds), 0);
    cr_assert_eq(vouch_identity_of_peer(fds[0], NULL, &peer), 0);
    cr_assert_eq(peer->known, VOUCH_KNOWN_UID | VOUCH_KNOWN_GID);
    cr_assert_eq(peer->pid, 0);
    cr_assert_eq(peer->pidfd, -1);
    cr_assert_eq(vouch_identity_in_group(peer, peer->gid + 1), -ENODATA);
    vouch_identity_unref(peer);
    close(fds[0]);
    close(fds[1]);
}

/* Some systems fail, others tell a uid of -1: nobody either way. */
Test(identity_getpeereid, socket_without_a_peer_is_nobody) {
    int fd = os_socket_stream();
    const struct vouch_identity *peer;
    if (vouch_identity_of_peer(fd, NULL, &peer) == 0) {
        cr_assert_not(peer->known & VOUCH_KNOWN_UID);
        vouch_identity_unref(peer);
    }
    close(fd);
}

Test(identity_getpeereid, there_is_no_pidfd_of_oneself) {
    cr_assert_eq(identity_open_self_pidfd(), -1);
}
