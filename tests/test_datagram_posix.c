/* SPDX-License-Identifier: MIT */
/* Datagrams where the system says little: what is not there is said to be not there. */
#include "lib/datagram.h"

#include <errno.h>

#include "tests/harness.h"

Test(datagram_posix, nobody_says_who_sends) {
    struct msghdr message = {0};
    struct vouch_identity sender = {.known = VOUCH_KNOWN_UID, .pidfd = 7};
    cr_assert_not(datagram_tells_sender);
    datagram_read_sender(&message, &sender);
    cr_assert_eq(sender.known, 0);
    cr_assert_eq(sender.pidfd, -1);
}

Test(datagram_posix, what_there_is_not) {
    struct address_sockaddr to = {.length = 0};
    cr_assert_eq(datagram_autobind(-1), -ENOTSUP);
    cr_assert_eq(datagram_open_helper(&to), -ENOTSUP);
    cr_assert_eq(datagram_watch_new(-1), -ENOTSUP);
    cr_assert_eq(datagram_watch_add(-1, -1), -ENOTSUP);
    datagram_watch_own(-1, -1, true);
}

Test(datagram_posix, a_full_receiver_is_enobufs_on_the_bsds) {
    cr_assert(datagram_is_full(EAGAIN));
    cr_assert(datagram_is_full(ENOBUFS));
    cr_assert_not(datagram_is_full(ECONNREFUSED));
}
