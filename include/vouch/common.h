/* SPDX-License-Identifier: MIT */
/*
 * What every public header of vouch shares: export and check attributes, the version, units of
 * time.
 *
 * Conventions of the whole library
 *   - A function returns 0 or a positive result, or a negative code: a negative errno, or one of
 * the VOUCH_E_* of <vouch/error.h>.
 *   - Outputs come last, are named ret_…, and are written only on success unless their comment says
 * otherwise.
 *   - Times are int64_t nanoseconds. A *deadline* is a point of CLOCK_MONOTONIC (see vouch_now()),
 * a *timeout* is a length.
 *   - Option structs: all-zero is the documented default; set `size = sizeof(struct …)`
 * (VOUCH_OPTIONS does) so that the struct can grow without breaking programs compiled earlier.
 * Size 0 stands for the size that the linked library knows, which is the program's as long as the
 * struct has not grown. A NULL options pointer means all defaults.
 *   - Nothing here writes to stderr, installs signal handlers, changes the umask, raises SIGPIPE,
 * or ends the process.
 *   - An object may not be used in a forked child of the process that made it: calls answer -ECHILD
 * there, and its free function only closes the child's copies of the descriptors.
 */
#ifndef VOUCH_COMMON_H
#define VOUCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define VOUCH_API __attribute__((visibility("default")))
#define VOUCH_MUST_CHECK __attribute__((warn_unused_result))
#define VOUCH_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define VOUCH_API
#define VOUCH_MUST_CHECK
#define VOUCH_PRINTF(fmt, args)
#endif

#define VOUCH_VERSION_MAJOR 0
#define VOUCH_VERSION_MINOR 1
#define VOUCH_VERSION_PATCH 0
#define VOUCH_VERSION_STRING "0.1.0"

/* Stamp for option structs: struct vouch_dial_options o = {VOUCH_OPTIONS(o), .timeout =
 * VOUCH_SECONDS(1)}; */
#define VOUCH_OPTIONS(var) .size = sizeof(var)

#define VOUCH_MILLISECONDS(n) ((int64_t)(n)*1000000)
#define VOUCH_SECONDS(n) ((int64_t)(n)*1000000000)

/* As a timeout or a deadline: wait for ever. Zero in an options struct means "the default", so "no
 * limit" has to be said. */
#define VOUCH_FOREVER INT64_MAX

/* The version of the library that is linked (not of the header), e.g. "0.1.0". Static; any thread;
 * does not block. */
VOUCH_API const char *vouch_version(void);

/* Now on CLOCK_MONOTONIC, in nanoseconds: the clock of every deadline here. Any thread; does not
 * block. */
VOUCH_API int64_t vouch_now(void);

/* `timeout` nanoseconds from now as a deadline; VOUCH_FOREVER stays for ever, sums do not overflow.
 */
VOUCH_API int64_t vouch_deadline_in(int64_t timeout);

#ifdef __cplusplus
}
#endif
#endif
