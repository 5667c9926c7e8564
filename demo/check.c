/* SPDX-License-Identifier: MIT */
/* Sections, facts and checks on stdout. One thread. */
#include "demo/check.h"

#include <stdarg.h>
#include <stdio.h>

static unsigned sections, checks, failures;

void section(const char *title) {
    printf("\n%u. %s\n", ++sections, title);
}

void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("         ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

bool check(bool passed, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf(passed ? "   ok    " : "   FAIL  ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    checks++;
    failures += !passed;
    return passed;
}

int check_finish(void) {
    if (failures > 0)
        printf("\ndemo: %u of %u checks FAILED\n", failures, checks);
    else
        printf("\ndemo: all %u checks passed\n", checks);
    return failures > 0 || fflush(stdout) != 0;
}
