/* SPDX-License-Identifier: MIT */
/* From /proc, and the clocks of processes. */
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "bench/machine.h"

/* The text after `name` and its colon in a file of such lines. */
static bool find_line(const char *path, const char *name, char *ret_text, size_t room) {
    char line[256];
    bool found = false;
    FILE *file = fopen(path, "re");
    size_t length = strlen(name);
    while (file && !found && fgets(line, sizeof(line), file)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, length) != 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(ret_text, room, "%s", colon + 1 + strspn(colon + 1, " \t"));
        found = true;
    }
    if (file)
        fclose(file);
    return found;
}

static uint64_t find_kilobytes(const char *path, const char *name) {
    char text[256];
    uint64_t number = 0;
    if (find_line(path, name, text, sizeof(text)) && sscanf(text, "%" SCNu64, &number) == 1)
        return number * 1024;
    return 0;
}

void machine_get(struct machine *ret_machine) {
    struct utsname name;
    cpu_set_t set;
    memset(ret_machine, 0, sizeof(*ret_machine));
    if (uname(&name) == 0)
        snprintf(ret_machine->system, sizeof(ret_machine->system), "%.30s %.60s %.30s",
                 name.sysname, name.release, name.machine);
    find_line("/proc/cpuinfo", "model name", ret_machine->processor,
              sizeof(ret_machine->processor));
    ret_machine->cores =
        sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    ret_machine->memory = find_kilobytes("/proc/meminfo", "MemTotal");
    FILE *file = fopen("/proc/sys/net/core/wmem_max", "re");
    if (file) {
        if (fscanf(file, "%" SCNu64, &ret_machine->wmem_max) != 1)
            ret_machine->wmem_max = 0;
        fclose(file);
    }
}

int64_t machine_cpu_time(pid_t pid) {
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec time;
    if ((pid != 0 && clock_getcpuclockid(pid, &clock) != 0) || clock_gettime(clock, &time) < 0)
        return 0;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

struct machine_memory machine_memory_of(pid_t pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/status", (long)(pid ? pid : getpid()));
    return (struct machine_memory){find_kilobytes(path, "VmHWM"), find_kilobytes(path, "RssAnon")};
}

bool machine_pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

void machine_die_with_parent(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}
