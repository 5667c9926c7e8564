/* SPDX-License-Identifier: MIT */
/*
 * Datagrams on any POSIX system: nobody says who sends, and nothing tells when a full receiver has
 * room. The BSDs answer ENOBUFS then, and poll(2) says writable all the same; one asks again after
 * a while.
 */
#include "lib/datagram.h"

#include <errno.h>

const bool datagram_tells_sender = false;
const bool datagram_poll_is_true = false;

bool datagram_is_full(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS;
}

int datagram_autobind(int fd) {
    (void)fd;
    return -ENOTSUP;
}

void datagram_read_sender(struct msghdr *message, struct vouch_identity *ret_sender) {
    (void)message;
    *ret_sender = (struct vouch_identity){.pidfd = -1};
}

bool datagram_is_ended(int fd) {
    (void)fd;
    return false;
}

int datagram_open_helper(const struct address_sockaddr *to) {
    (void)to;
    return -ENOTSUP;
}

int datagram_watch_new(int fd) {
    (void)fd;
    return -ENOTSUP;
}

int datagram_watch_add(int watch, int helper) {
    (void)watch, (void)helper;
    return -ENOTSUP;
}

void datagram_watch_own(int watch, int fd, bool writing) {
    (void)watch, (void)fd, (void)writing;
}
