/* SPDX-License-Identifier: MIT */
/* Words to a case and back; both sides are programs of this directory. */
#include "bench/case.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const modes[] = {"adaptive", "blocking", "polling"};

const char *case_mode_name(enum bench_mode mode) {
    return modes[mode];
}

void case_init(struct bench_case *what) {
    *what = (struct bench_case){.size = 1024, .callers = 1, .connections = 1, .cpu = -1};
}

/* The value when `word` is NAME=VALUE, else NULL. */
static const char *value_of(const char *word, const char *name) {
    size_t length = strlen(name);
    return strncmp(word, name, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

void case_set(struct bench_case *what, const char *word) {
    const char *value = strchr(word, '=');
    long long number = value ? strtoll(value + 1, NULL, 10) : 0;
    if (value_of(word, "address"))
        snprintf(what->address, sizeof(what->address), "%s", value + 1);
    else if (value_of(word, "kind"))
        what->kind = (enum bench_kind)number;
    else if (value_of(word, "mode"))
        what->mode = (enum bench_mode)number;
    else if (value_of(word, "sndbuf"))
        what->sndbuf = number != 0;
    else if (value_of(word, "size"))
        what->size = (size_t)number;
    else if (value_of(word, "callers"))
        what->callers = (unsigned)number;
    else if (value_of(word, "connections"))
        what->connections = (unsigned)number;
    else if (value_of(word, "in_flight"))
        what->in_flight = (unsigned)number;
    else if (value_of(word, "methods"))
        what->methods = (unsigned)number;
    else if (value_of(word, "budget"))
        what->budget = number;
    else if (value_of(word, "cpu"))
        what->cpu = (int)number;
    else if (value_of(word, "server"))
        what->server = (pid_t)number;
    else
        bench_die("what is %s?", word);
}

unsigned case_words(const struct bench_case *what, char words[CASE_WORDS][CASE_WORD_SIZE]) {
    const struct {
        const char *name;
        long long value;
    } numbers[] = {
        {"kind", what->kind},           {"mode", what->mode},
        {"sndbuf", what->sndbuf},       {"size", (long long)what->size},
        {"callers", what->callers},     {"connections", what->connections},
        {"in_flight", what->in_flight}, {"methods", what->methods},
        {"budget", what->budget},       {"cpu", what->cpu},
        {"server", what->server},
    };
    unsigned count = 0;
    snprintf(words[count++], CASE_WORD_SIZE, "address=%s", what->address);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        snprintf(words[count++], CASE_WORD_SIZE, "%s=%lld", numbers[i].name, numbers[i].value);
    return count;
}
