/* SPDX-License-Identifier: MIT */
/* Socket activation: which inherited descriptor is meant, by sd_listen_fds(3)'s environment. Pure.
 */
#ifndef VOUCH_LIB_ACTIVATION_H
#define VOUCH_LIB_ACTIVATION_H

#include <sys/types.h>
#include <vouch/error.h>

#define ACTIVATION_FD_FIRST 3 /* SD_LISTEN_FDS_START */
#define ACTIVATION_FDS_MAX 65536

/* The values of LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES; NULL where unset. */
struct activation {
    const char *pid, *fds, *names;
};

/* The descriptor of that name (NULL: the only one) for process `self`. Its number, or
 * VOUCH_E_NO_ACTIVATION. */
int activation_find(const struct activation *activation, pid_t self, const char *name,
                    struct vouch_error *error) VOUCH_MUST_CHECK;

#endif
