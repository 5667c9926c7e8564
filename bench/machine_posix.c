/* SPDX-License-Identifier: MIT */
/* What every system tells: less. CPU time of another process, pinning: nobody says. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "bench/machine.h"

void machine_get(struct machine *ret_machine) {
    struct utsname name;
    memset(ret_machine, 0, sizeof(*ret_machine));
    if (uname(&name) == 0)
        snprintf(ret_machine->system, sizeof(ret_machine->system), "%.30s %.60s %.30s",
                 name.sysname, name.release, name.machine);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    ret_machine->cores = cores > 0 ? (unsigned)cores : 1;
}

int64_t machine_cpu_time(pid_t pid) {
    struct timespec time;
    if (pid != 0 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) < 0)
        return 0;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

struct machine_memory machine_memory_of(pid_t pid) {
    struct rusage usage;
    struct machine_memory memory = {0, 0};
    if (pid == 0 && getrusage(RUSAGE_SELF, &usage) == 0)
        memory.peak = (uint64_t)usage.ru_maxrss * 1024;
    return memory;
}

bool machine_pin(int cpu) {
    (void)cpu;
    return false;
}

void machine_die_with_parent(void) {
}
