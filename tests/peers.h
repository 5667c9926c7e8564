/* SPDX-License-Identifier: MIT */
/* Other processes and other users, as the tests of identity, listening and dialling need them; and
 * sockets made without the library. */
#ifndef TESTS_PEERS_H
#define TESTS_PEERS_H

#include <stdbool.h>
#include <sys/types.h>
#include <vouch/listen.h>

/* Users that no test environment gives anything to. */
#define PEERS_UID 54321
#define PEERS_GID 54322
#define PEERS_UID_OTHER 54323

/* Skips the test when it can't become other users. */
void peers_need_root(void);

/* In a child: becomes that user and group for good, with no supplementary groups. _exits(99) when
 * that fails. */
void peers_become(uid_t uid, gid_t gid);

/* Runs `run` in a forked child and returns its result (0 … 98) when it has ended. */
int peers_run(int (*run)(void *context), void *context);

/* The same in two steps. */
pid_t peers_start(int (*run)(void *context), void *context);
int peers_wait(pid_t child);

/* Each a descriptor or a negative errno. The path has to fit sun_path. peers_connect does not
 * block. */
int peers_connect(const char *path);
int peers_listen(const char *path, int backlog);
int peers_bind(
    const char *path); /* bound, nobody listens: what a killed server leaves, once closed */

/* Makes an empty regular file; asserts. */
void peers_touch(const char *path);
bool peers_exists(const char *path); /* without following links */

/* Listens at the path, with these options or NULL; asserts success. */
struct vouch_listener *peers_must_listen(const char *path,
                                         const struct vouch_listen_options *options);

/* Accepts what is in the backlog now; asserts that it is a connection. */
struct vouch_conn *peers_must_accept(struct vouch_listener *listener);

#endif
