/* SPDX-License-Identifier: MIT */
/* Filling a struct vouch_error. */
#ifndef VOUCH_LIB_ERROR_H
#define VOUCH_LIB_ERROR_H

#include <stdarg.h>
#include <vouch/error.h>

/* Sets code and message where `error` is not NULL; returns `code`, so that `return error_set(...)`
 * reads well. Preserves errno. */
int error_set(struct vouch_error *error, int code, const char *format, ...) VOUCH_PRINTF(3, 4);

/* The analyser looks at one file at a time, and would not see that the code comes back. */
#ifdef __clang_analyzer__
#define error_set(error, code, ...) (error_set(error, code, __VA_ARGS__), (code))
#endif

/* Copies at most room - 1 bytes of `text` (`size` bytes, need not be NUL-terminated) into `to`, cut
 * at a UTF-8 character boundary, invalid UTF-8 and control characters replaced by '?',
 * NUL-terminated. Returns the bytes written without the NUL. Texts that came from a peer or go to
 * one pass through here. */
size_t error_copy_text(char *to, size_t room, const char *text, size_t size);

#endif
