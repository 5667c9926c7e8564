/* SPDX-License-Identifier: MIT */
/* Connecting without waiting, for dialling and for seeing whether a server is live. */
#ifndef VOUCH_LIB_SOCKET_H
#define VOUCH_LIB_SOCKET_H

#include "lib/address.h"

/* One connect(2), on a socket that does not block: 0 or negative errno, never -EINTR. -EAGAIN: the
 * server's backlog is full, nothing has happened (Linux); -EINPROGRESS: poll for POLLOUT, then ask
 * socket_error. */
int socket_connect_now(int fd, const struct address_sockaddr *to) VOUCH_MUST_CHECK;

int socket_error(int fd); /* takes SO_ERROR: 0 or negative errno */

#endif
