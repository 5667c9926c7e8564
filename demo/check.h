/* SPDX-License-Identifier: MIT */
/* What the demo shows, and whether it is as promised: sections, facts and checks on stdout. */
#ifndef DEMO_CHECK_H
#define DEMO_CHECK_H

#include <stdbool.h>

void section(const char *title);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
/* Counts, and says what was checked. Returns `passed`. */
__attribute__((format(printf, 2, 3))) bool check(bool passed, const char *format, ...);
/* The last line. Returns the program's exit code. */
int check_finish(void);

#endif
