/* SPDX-License-Identifier: MIT */
/* What accepting needs of TCP. */
#ifndef VOUCH_LIB_TCP_H
#define VOUCH_LIB_TCP_H

#include <vouch/identity.h>

void tcp_set_up(int fd); /* a connection */

/* The identity of somebody of whom nothing is known. 0 or -ENOMEM. */
int tcp_unknown_peer(const struct vouch_allocator *allocator,
                     const struct vouch_identity **ret_identity) VOUCH_MUST_CHECK;

#endif
