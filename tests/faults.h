/* SPDX-License-Identifier: MIT */
/*
 * Faults: system calls that fail, or do less than they were asked for, on command.
 *
 * The linker sends the calls that our objects make of the symbols in tests/faults.wraps through
 * here (-Wl,--wrap); what shared libraries do, a test framework among them, is untouched. Nothing
 * happens outside of faults_begin … faults_end, not even counting.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* How much of a transfer is done, instead of bytes: */
enum { FAULTS_HALF = -1, FAULTS_ALL_BUT_ONE = -2 };

#define FAULTS_ALWAYS UINT_MAX

struct faults_plan {
    const char *symbol;
    unsigned call;   /* the first to be hit, from 1 */
    unsigned repeat; /* how many are hit; 0: one; FAULTS_ALWAYS: all that follow */
    int error;       /* errno to fail with, the call not being made; 0: a short transfer of */
    int portion; /* … this many bytes, or FAULTS_HALF, FAULTS_ALL_BUT_ONE; at least one byte */
    bool joined_only; /* count and hit only the threads that called faults_join */
};

/* From now on calls are counted, and hit where `plan` says so. NULL: only counted. One at a time.
 */
void faults_begin(const struct faults_plan *plan);
/* How many calls were hit. Threads may still be running; they are left alone from here on. */
unsigned faults_end(void);

/* Calls of `symbol` since the last faults_begin; stays readable after faults_end. */
unsigned faults_count(const char *symbol);

/* Makes the calling thread one of those that joined_only means, or no longer. */
void faults_join(bool joined);

struct faults_symbol {
    const char *name;
    bool transfers; /* it moves bytes, and so can be short */
};
extern const struct faults_symbol faults_symbols[];
extern const size_t faults_symbol_count;

#endif
