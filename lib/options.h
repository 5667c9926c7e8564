/* SPDX-License-Identifier: MIT */
/* Reading an options struct of a program that may be older or newer than this library. */
#ifndef VOUCH_LIB_OPTIONS_H
#define VOUCH_LIB_OPTIONS_H

#include <stdint.h>
#include <string.h>

/* Copies `options` (may be NULL), which begins with its own size as the caller's headers had it,
 * over the first bytes of `*to`, a zeroed struct of this library's version. Fields that the caller
 * does not know stay zero, the default. An unset size means that the caller's struct is ours: who
 * forgot VOUCH_OPTIONS is not punished before the struct grows. */
static inline void options_read(void *to, size_t room, const void *options) {
    if (!options)
        return;
    size_t size;
    memcpy(&size, options, sizeof(size));
    memcpy(to, options, size == 0 || size > room ? room : size);
}

/* Zero means the default. */
static inline int64_t options_time(int64_t value, int64_t fallback) {
    return value != 0 ? value : fallback;
}

static inline size_t options_size(size_t value, size_t fallback) {
    return value != 0 ? value : fallback;
}

#define OPTIONS_READ(to, options) options_read(&(to), sizeof(to), options)

#endif
