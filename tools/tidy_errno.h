/* SPDX-License-Identifier: MIT */
/*
 * Included before everything when clang-tidy runs: tells the analyzer that errno is positive where
 * it is read, so that `return -errno` is a failure. Without it every "written only on success"
 * output is reported as possibly not initialized.
 */
#ifndef TOOLS_TIDY_ERRNO_H
#define TOOLS_TIDY_ERRNO_H

#include <errno.h>

static inline int *tidy_errno(void) {
    int *location = &errno;

    if (*location <= 0)
        __builtin_unreachable();
    return location;
}

#undef errno
#define errno (*tidy_errno())

#endif
