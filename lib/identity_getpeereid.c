/* SPDX-License-Identifier: MIT */
/*
 * Identity of a peer where there is getpeereid(3): macOS, the BSDs, and Linux through libbsd. It
 * tells the effective uid and gid at the time of connect(2) or listen(2), and nothing else.
 * FreeBSD's LOCAL_PEERCRED has a pid too, but on the connecting side it is that of whoever called
 * listen(2) long ago; a wrong pid is worse than none.
 */
#include <errno.h>
#include <unistd.h>
#ifdef __linux__
#include <bsd/unistd.h>
#endif

#include "lib/identity.h"

int identity_read_peer(int fd, bool want_pidfd, const struct vouch_allocator *allocator,
                       const struct vouch_identity **ret_identity) {
    (void)want_pidfd;
    struct vouch_identity facts = {.pidfd = -1};
    if (getpeereid(fd, &facts.uid, &facts.gid) < 0)
        return -errno;
    if (facts.uid != (uid_t)-1)
        facts.known |= VOUCH_KNOWN_UID;
    if (facts.gid != (gid_t)-1)
        facts.known |= VOUCH_KNOWN_GID;
    return identity_new(allocator, &facts, ret_identity);
}

int identity_open_self_pidfd(void) {
    return -1;
}
