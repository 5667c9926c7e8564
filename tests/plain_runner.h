/* SPDX-License-Identifier: MIT */
/*
 * Criterion's macros on a runner of our own: the part of them that tests use. Each test is
 * registered by a constructor and runs in a forked child; tests/plain_runner.c has the main.
 *
 * A failed cr_assert ends the test (its .fini still runs); in a thread or a process that the test
 * started it ends that process, and the test has failed. A failed cr_expect is noted. Not here:
 * parameterized tests, theories, redirected output, floats, cr_assert(eq(...)).
 */
#ifndef TESTS_PLAIN_RUNNER_H
#define TESTS_PLAIN_RUNNER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_options {
    void (*init)(void);
    void (*fini)(void);
    double timeout; /* seconds; 0: the suite's, else the runner's */
    const char *description;
    int signal;    /* the test has to end by this one */
    int exit_code; /* or with this */
    bool disabled;
    int sentinel_;
};

struct plain_test {
    const char *suite;
    const char *name; /* NULL: this is the suite */
    void (*run)(void);
    const struct plain_options *options;
    struct plain_test *next;
};

#define PLAIN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

void plain_register(struct plain_test *test);
void plain_fail(bool fatal, const char *file, int line, const char *what, const char *format, ...)
    PLAIN_PRINTF(5, 6);
__attribute__((noreturn)) void plain_fatal(const char *file, int line, const char *format, ...)
    PLAIN_PRINTF(3, 4);
__attribute__((noreturn)) void plain_skip(const char *format, ...) PLAIN_PRINTF(1, 2);
void plain_log(const char *format, ...) PLAIN_PRINTF(1, 2);

#define Test(...) PLAIN_TEST_(__VA_ARGS__, .sentinel_ = 0)
#define PLAIN_TEST_(Suite, Name, ...)                                                              \
    static void plain_run_##Suite##_##Name(void);                                                  \
    static const struct plain_options plain_options_##Suite##_##Name = {__VA_ARGS__};              \
    __attribute__((constructor)) static void plain_add_##Suite##_##Name(void) {                    \
        static struct plain_test test = {#Suite, #Name, plain_run_##Suite##_##Name,                \
                                         &plain_options_##Suite##_##Name, NULL};                   \
        plain_register(&test);                                                                     \
    }                                                                                              \
    static void plain_run_##Suite##_##Name(void)

#define TestSuite(...) PLAIN_SUITE_(__VA_ARGS__, .sentinel_ = 0)
#define PLAIN_SUITE_(Suite, ...)                                                                   \
    static const struct plain_options plain_suite_##Suite = {__VA_ARGS__};                         \
    __attribute__((constructor)) static void plain_add_suite_##Suite(void) {                       \
        static struct plain_test suite = {#Suite, NULL, NULL, &plain_suite_##Suite, NULL};         \
        plain_register(&suite);                                                                    \
    }                                                                                              \
    struct plain_test

/*
 * The message is optional. What is passed on as the arguments of the message ends with one "" too
 * many, so that there is always a first one; nobody reads the last. Criterion's build checks the
 * formats for real.
 */
#pragma GCC diagnostic ignored "-Wformat-extra-args"
#define PLAIN_CHECK_(Fatal, Holds, What, ...)                                                      \
    do {                                                                                           \
        if (!(Holds))                                                                              \
            plain_fail(Fatal, __FILE__, __LINE__, What, " " __VA_ARGS__);                          \
    } while (0)
#define PLAIN_TRUE_(Fatal, A, ...) PLAIN_CHECK_(Fatal, A, #A, __VA_ARGS__)
#define PLAIN_NOT_(Fatal, A, ...) PLAIN_CHECK_(Fatal, !(A), "!(" #A ")", __VA_ARGS__)
#define PLAIN_OP_(Fatal, Op, A, B, ...)                                                            \
    PLAIN_CHECK_(Fatal, (A)Op(B), "(" #A ") " #Op " (" #B ")", __VA_ARGS__)
#define PLAIN_NULL_(Fatal, Op, A, ...)                                                             \
    PLAIN_CHECK_(Fatal, (A)Op NULL, #A " " #Op " NULL", __VA_ARGS__)
#define PLAIN_STR_(Fatal, Op, A, B, ...)                                                           \
    PLAIN_CHECK_(Fatal, strcmp((A), (B)) Op 0, "strings: " #A " " #Op " " #B, __VA_ARGS__)
#define PLAIN_ARR_(Fatal, Op, A, B, Size, ...)                                                     \
    PLAIN_CHECK_(Fatal, memcmp((A), (B), (Size)) Op 0, "bytes: " #A " " #Op " " #B, __VA_ARGS__)

#define cr_assert(...) PLAIN_TRUE_(true, __VA_ARGS__, "")
#define cr_expect(...) PLAIN_TRUE_(false, __VA_ARGS__, "")
#define cr_assert_not(...) PLAIN_NOT_(true, __VA_ARGS__, "")
#define cr_expect_not(...) PLAIN_NOT_(false, __VA_ARGS__, "")
#define cr_assert_eq(...) PLAIN_OP_(true, ==, __VA_ARGS__, "")
#define cr_expect_eq(...) PLAIN_OP_(false, ==, __VA_ARGS__, "")
#define cr_assert_neq(...) PLAIN_OP_(true, !=, __VA_ARGS__, "")
#define cr_expect_neq(...) PLAIN_OP_(false, !=, __VA_ARGS__, "")
#define cr_assert_lt(...) PLAIN_OP_(true, <, __VA_ARGS__, "")
#define cr_expect_lt(...) PLAIN_OP_(false, <, __VA_ARGS__, "")
#define cr_assert_leq(...) PLAIN_OP_(true, <=, __VA_ARGS__, "")
#define cr_expect_leq(...) PLAIN_OP_(false, <=, __VA_ARGS__, "")
#define cr_assert_gt(...) PLAIN_OP_(true, >, __VA_ARGS__, "")
#define cr_expect_gt(...) PLAIN_OP_(false, >, __VA_ARGS__, "")
#define cr_assert_geq(...) PLAIN_OP_(true, >=, __VA_ARGS__, "")
#define cr_expect_geq(...) PLAIN_OP_(false, >=, __VA_ARGS__, "")
#define cr_assert_null(...) PLAIN_NULL_(true, ==, __VA_ARGS__, "")
#define cr_expect_null(...) PLAIN_NULL_(false, ==, __VA_ARGS__, "")
#define cr_assert_not_null(...) PLAIN_NULL_(true, !=, __VA_ARGS__, "")
#define cr_expect_not_null(...) PLAIN_NULL_(false, !=, __VA_ARGS__, "")
#define cr_assert_str_eq(...) PLAIN_STR_(true, ==, __VA_ARGS__, "")
#define cr_expect_str_eq(...) PLAIN_STR_(false, ==, __VA_ARGS__, "")
#define cr_assert_str_neq(...) PLAIN_STR_(true, !=, __VA_ARGS__, "")
#define cr_expect_str_neq(...) PLAIN_STR_(false, !=, __VA_ARGS__, "")
#define cr_assert_arr_eq(...) PLAIN_ARR_(true, ==, __VA_ARGS__, "")
#define cr_expect_arr_eq(...) PLAIN_ARR_(false, ==, __VA_ARGS__, "")
#define cr_assert_arr_neq(...) PLAIN_ARR_(true, !=, __VA_ARGS__, "")
#define cr_expect_arr_neq(...) PLAIN_ARR_(false, !=, __VA_ARGS__, "")
#define cr_assert_fail(...) plain_fatal(__FILE__, __LINE__, " " __VA_ARGS__)
#define cr_expect_fail(...) plain_fail(false, __FILE__, __LINE__, "failed", " " __VA_ARGS__)
#define cr_fatal(...) cr_assert_fail(__VA_ARGS__)
#define cr_fail(...) cr_expect_fail(__VA_ARGS__)
#define cr_skip_test(...) plain_skip(" " __VA_ARGS__)
#define cr_skip(...) plain_skip(" " __VA_ARGS__)
#define cr_log_info(...) plain_log(" " __VA_ARGS__)
#define cr_log_warn(...) plain_log(" " __VA_ARGS__)
#define cr_log_error(...) plain_log(" " __VA_ARGS__)

#endif
