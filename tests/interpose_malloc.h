/* SPDX-License-Identifier: MIT */
/*
 * Counts all that this process allocates, whoever does it: the library, the C library, the test.
 *
 * The functions of interpose_malloc.c take the place of malloc and its kin in the test program and
 * pass on to glibc's. Not where another tool does the same already (sanitizers, valgrind), nor with
 * other C libraries: interpose_counts() says.
 */
#ifndef TESTS_INTERPOSE_MALLOC_H
#define TESTS_INTERPOSE_MALLOC_H

#include <stdbool.h>
#include <stdint.h>

bool interpose_counts(void);
uint64_t interpose_allocations(void); /* malloc, calloc and realloc so far */

#endif
