/* SPDX-License-Identifier: MIT */
/* Cases as words on a command line: size=1024 callers=16 mode=adaptive … */
#ifndef BENCH_CASE_H
#define BENCH_CASE_H

#include "bench/system.h"

#define CASE_WORDS 16
#define CASE_WORD_SIZE 300

/* One caller, one connection, 1 KB, adaptive, any processor. */
void case_init(struct bench_case *what);
/* Sets what the word says; ends the process when it says nothing known. */
void case_set(struct bench_case *what, const char *word);
/* The words that make this case, as many as are returned. */
unsigned case_words(const struct bench_case *what, char words[CASE_WORDS][CASE_WORD_SIZE]);

const char *case_mode_name(enum bench_mode mode);

#endif
