/* SPDX-License-Identifier: MIT */
/*
 * The one entry point for memory, so that it can be counted, replaced, and made to fail in tests.
 * Frees are sized: callers know what they took, and so live bytes can be counted without a header
 * on every block.
 */
#ifndef VOUCH_LIB_MEM_H
#define VOUCH_LIB_MEM_H

#include <vouch/memory.h>

/* `allocator` may be NULL (malloc). NULL when memory is short. */
void *mem_alloc(const struct vouch_allocator *allocator, size_t size) VOUCH_MUST_CHECK;
void *mem_zalloc(const struct vouch_allocator *allocator, size_t size) VOUCH_MUST_CHECK;
/* A bigger (or smaller) block with the old content; NULL and the old block untouched when memory is
 * short. */
void *mem_resize(const struct vouch_allocator *allocator, void *memory, size_t old_size,
                 size_t new_size) VOUCH_MUST_CHECK;
char *mem_strdup(const struct vouch_allocator *allocator,
                 const char *text) VOUCH_MUST_CHECK; /* strlen + 1 bytes */
void mem_free(const struct vouch_allocator *allocator, void *memory,
              size_t size);                                              /* NULL is ignored */
void mem_free_text(const struct vouch_allocator *allocator, char *text); /* NULL is ignored */

#endif
