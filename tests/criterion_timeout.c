/* SPDX-License-Identifier: MIT */
/*
 * A timeout for every test under Criterion. Its own --timeout has no effect in 2.4.1, and with
 * parallel workers (-j2) and different timeouts it forgets about the longer one once the shorter
 * one has run out. So all tests get the same here: the longest that one of them asks for, and at
 * least the default.
 */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/internal/ordered-set.h>
#include <stdlib.h>

#define DEFAULT_SECONDS 60.0

static double longest(struct criterion_test_set *set) {
    const char *text = getenv("VOUCH_TEST_TIMEOUT");
    double seconds = text ? strtod(text, NULL) : 0;

    if (!(seconds > 0))
        seconds = DEFAULT_SECONDS;
    FOREACH_SET(struct criterion_suite_set * suite, set->suites) {
        if (suite->suite.data && suite->suite.data->timeout > seconds)
            seconds = suite->suite.data->timeout;
        FOREACH_SET(struct criterion_test * test, suite->tests) {
            if (test->data->timeout > seconds)
                seconds = test->data->timeout;
        }
    }
    return seconds;
}

ReportHook(PRE_ALL)(struct criterion_test_set *set) {
    double seconds = longest(set);

    FOREACH_SET(struct criterion_suite_set * suite, set->suites) {
        FOREACH_SET(struct criterion_test * test, suite->tests)
        test->data->timeout = seconds;
    }
}
