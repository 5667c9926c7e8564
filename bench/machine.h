/* SPDX-License-Identifier: MIT */
/* Processes and the machine, as far as its system tells. What it does not tell is 0 or "". */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct machine {
    char system[128];    /* name and release */
    char processor[128]; /* its model */
    unsigned cores;      /* that we may use */
    uint64_t memory;     /* bytes */
    uint64_t wmem_max;   /* bytes that SO_SNDBUF may ask for */
};

void machine_get(struct machine *ret_machine);

/* User and system time of all threads of a process, ns; 0: of this one. */
int64_t machine_cpu_time(pid_t pid);

struct machine_memory {
    uint64_t peak;      /* bytes resident at most */
    uint64_t anonymous; /* bytes resident now that no file backs */
};
struct machine_memory machine_memory_of(pid_t pid);

/* The calling thread, and those it starts, run on this processor only. */
bool machine_pin(int cpu);
/* When the parent ends, so does this process. */
void machine_die_with_parent(void);

#endif
