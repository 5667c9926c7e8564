/* SPDX-License-Identifier: MIT */
/*
 * A timeout for every test under Criterion, enforced in the worker. Criterion's own cannot be
 * relied on in 2.4.1: --timeout has no effect, with parallel workers (-j2) and different timeouts
 * the longer one is forgotten once the shorter one has run out, and a worker that blocks signals is
 * not ended.
 *
 * So Criterion is left without timeouts, and timers of the worker itself end it: the first says
 * why, the second kills it where the first does not get through. Criterion reports that as a crash.
 */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/internal/ordered-set.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness.h"

/* What harness.h has put in front of it. */
#undef criterion_internal_test_main

#define DEFAULT_SECONDS 60.0

/* Added to the limit of a test, which the worker reads there: Criterion waits for ever. */
#define NEVER_SECONDS 1e6

ReportHook(PRE_ALL)(struct criterion_test_set *set) {
    const char *text = getenv("VOUCH_TEST_TIMEOUT");
    double usual = text ? strtod(text, NULL) : 0;

    if (!(usual > 0))
        usual = DEFAULT_SECONDS;
    FOREACH_SET(struct criterion_suite_set * suite, set->suites) {
        bool named = suite->suite.data && suite->suite.data->timeout > 0;
        double limit = named ? suite->suite.data->timeout : usual;

        FOREACH_SET(struct criterion_test * test, suite->tests) {
            double own = test->data->timeout;

            test->data->timeout = NEVER_SECONDS + (own > 0 ? own : limit);
        }
    }
}

/* In a worker the data of the test is a packed copy, which may stand at any address. */
static double seconds_for_this_test(void) {
    const char *data = (const char *)criterion_current_test->data;
    double seconds;

    memcpy(&seconds, data + offsetof(struct criterion_test_extra_data, timeout), sizeof(seconds));
    seconds -= NEVER_SECONDS;
    return seconds > 0 ? seconds : DEFAULT_SECONDS;
}

#ifdef __APPLE__ /* has no timers but this one */
static void arm(double seconds) {
    (void)alarm((unsigned)seconds + 1);
}
#else
static void say_and_end(int number) {
    static const char text[] = "[----] Timed out, this ends the worker:\n";

    (void)number;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
        _exit(EXIT_FAILURE);
    (void)kill(getpid(), SIGKILL);
}

static void arm_one(int number, double seconds) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
    struct itimerspec when = {.it_value.tv_sec = (time_t)seconds};
    timer_t timer;

    when.it_value.tv_nsec = (long)((seconds - (double)when.it_value.tv_sec) * 1e9) + 1;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 ||
        timer_settime(timer, 0, &when, NULL) < 0)
        abort();
}

static void arm(double seconds) {
    (void)signal(SIGRTMAX, say_and_end);
    arm_one(SIGRTMAX, seconds);
    arm_one(SIGKILL, seconds + 1);
}
#endif

void vouch_test_main(void (*test)(void)) {
    arm(seconds_for_this_test());
    criterion_internal_test_main(test);
}
