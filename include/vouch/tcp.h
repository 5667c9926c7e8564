/* SPDX-License-Identifier: MIT */
/*
 * TCP, for programs that share a port between processes (SO_REUSEPORT): each of them listens, and
 * the kernel gives each client to one of them.
 *
 * Nobody vouches for who the peer is, not even on this machine: of the identity of such a
 * connection nothing is known (vouch_identity.known is 0), no policy applies to it, and whoever can
 * reach the port can connect and read and write what is said. Bind to the loopback interface what
 * others are not meant to reach; other users of this machine reach that too. A server serves such
 * connections only if told to (vouch_serve_options.allow_callers_without_identity).
 *
 * All sockets of a port must have SO_REUSEPORT set and belong to the same effective uid as the
 * first (Linux, FreeBSD): without that rule any user could bind the port of another's server and
 * get a part of its clients. The kernel balances by a hash of addresses and ports, not by load;
 * when a process ends, those in its queue that it has not accepted are reset, and the others take
 * over. FreeBSD balances with SO_REUSEPORT_LB, which is used there. macOS does not balance: one of
 * the sockets gets all.
 *
 * Hosts are looked up by getaddrinfo(3), with memory of malloc's whatever the allocator.
 */
#ifndef VOUCH_TCP_H
#define VOUCH_TCP_H

#include <vouch/common.h>
#include <vouch/conn.h>
#include <vouch/dial.h>
#include <vouch/error.h>
#include <vouch/listen.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Listens at a port that others may listen at too. `host` is a numeric address, a name
 * (getaddrinfo(3): the first of its addresses that can be bound), or NULL: every address, IPv6 and
 * IPv4. `port` 0: the system picks one, see vouch_listener_get_port. Of `options` (may be NULL)
 * count allocator, backlog and max_connections; max_connections_per_uid means nothing here. What
 * else is set is -EINVAL: there are no files, no identities and no descriptors to pass. Returns 0;
 * -EINVAL; -ENOENT (the name has no address), -EAGAIN (nobody could be asked); -EADDRINUSE
 * (somebody listens at the port without SO_REUSEPORT, or as another user); -EADDRNOTAVAIL; -EACCES
 * (a port below 1024); -ENOTSUP (no SO_REUSEPORT); -ENOMEM, other errnos. The message has host and
 * port. Blocks as long as getaddrinfo does, for a name. Any thread. */
VOUCH_API VOUCH_MUST_CHECK int
vouch_listen_tcp_reuseport(const char *host, uint16_t port,
                           const struct vouch_listen_options *options,
                           struct vouch_listener **ret_listener, struct vouch_error *ret_error);

/* The port that it listens at; 0 when it does not listen at one (any more). Any thread. */
VOUCH_API uint16_t vouch_listener_get_port(const struct vouch_listener *listener);

/* For programs with a server of their own, of HTTP say: the listening descriptor, which is the
 * caller's from now on. It does not block, is close-on-exec, and goes on listening; the listener is
 * as after vouch_listener_close, and its limits do not hold for what the caller accepts. Returns
 * the descriptor; -EOPNOTSUPP: not a listener of TCP (whose path would be left behind); -ESHUTDOWN
 * (closed), -ECHILD. Any thread. */
VOUCH_API VOUCH_MUST_CHECK int vouch_listener_take_fd(struct vouch_listener *listener);

/* Connects to a port. Connections have TCP_NODELAY and SO_KEEPALIVE, these and accepted ones: a
 * peer that vanished without a word is noticed when the system has asked in vain (tcp(7)). `host`
 * NULL is the loopback interface. The addresses of a name are tried in turn, each for an equal part
 * of the time that is left. Of `options` (may be NULL) count allocator and timeout; what else is
 * set is -EINVAL. Returns 0; -EINVAL (also port 0); -ENOENT (the name has no address), -EAGAIN
 * (nobody could be asked); -ECONNREFUSED, -ETIMEDOUT, -ENETUNREACH, -EHOSTUNREACH, -ENOMEM, other
 * errnos: of the last address that was tried. The message has host and port. Blocks beyond the
 * timeout as long as getaddrinfo(3) does, for a name. Any thread. */
VOUCH_API VOUCH_MUST_CHECK int vouch_dial_tcp(const char *host, uint16_t port,
                                              const struct vouch_dial_options *options,
                                              struct vouch_conn **ret_conn,
                                              struct vouch_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif
