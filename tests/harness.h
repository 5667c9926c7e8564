/* SPDX-License-Identifier: MIT */
/*
 * What a test includes: Criterion, or with VOUCH_PLAIN_RUNNER a runner of our own with the same
 * macros (tests/plain_runner.h), for where Criterion cannot go: its workers do not start under
 * ThreadSanitizer, and valgrind has nothing to say about them.
 *
 * Every test has a timeout, 60 s if it names none: VOUCH_TEST_TIMEOUT in the environment is another
 * default.
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#ifdef VOUCH_PLAIN_RUNNER
#include "tests/plain_runner.h"
#else
#include <criterion/criterion.h>
/* Every test passes through tests/criterion_timeout.c. */
void vouch_test_main(void (*test)(void));
#define criterion_internal_test_main vouch_test_main
#endif

/* 1 where everything is ten to fifty times slower (ThreadSanitizer, valgrind), so that a suite can
 * do less of the same. */
#ifndef VOUCH_TEST_SLOW
#define VOUCH_TEST_SLOW 0
#endif
/* Under valgrind: it has descriptors of its own, and its own way with signals. */
#ifndef VOUCH_TEST_VALGRIND
#define VOUCH_TEST_VALGRIND 0
#endif

#define vouch_test_slow_mode() (VOUCH_TEST_SLOW != 0)

/* `many` rounds, or `few` where it is slow. */
#define VOUCH_TEST_ROUNDS(many, few) (VOUCH_TEST_SLOW ? (few) : (many))

#endif
