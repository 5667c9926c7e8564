/* SPDX-License-Identifier: MIT */
/* Connecting without waiting, for dialling and for seeing whether a server is live; how large
 * packets can be. */
#ifndef VOUCH_LIB_SOCKET_H
#define VOUCH_LIB_SOCKET_H

#include "lib/address.h"

/* One connect(2), on a socket that does not block: 0 or negative errno, never -EINTR. -EAGAIN: the
 * server's backlog is full, nothing has happened (Linux); -EINPROGRESS: poll for POLLOUT, then ask
 * socket_error. */
int socket_connect_now(int fd, const struct address_sockaddr *to) VOUCH_MUST_CHECK;
int socket_connect_address(int fd, const struct sockaddr *to, socklen_t length) VOUCH_MUST_CHECK;

/* After -EINPROGRESS: 0, -ETIMEDOUT, or what became of it. */
int socket_wait_connected(int fd, int64_t deadline) VOUCH_MUST_CHECK;

/* The most bytes that one packet or datagram sent from here can have: on Linux exactly, elsewhere
 * about. */
size_t socket_packet_max(int fd);

/* Raises that to `size`, as far as the system allows; returns what it is then. */
size_t socket_raise_packet_max(int fd, size_t size) VOUCH_MUST_CHECK;

int socket_error(int fd); /* takes SO_ERROR: 0 or negative errno */

#endif
