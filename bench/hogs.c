/* SPDX-License-Identifier: MIT */
/* Others that want every core. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/suite.h"

#define HOGS_MAX 256

static pid_t hogs[HOGS_MAX];
static unsigned running;

void hogs_start(unsigned count) {
    for (running = 0; running < count && running < HOGS_MAX; running++) {
        hogs[running] = fork();
        if (hogs[running] < 0)
            break;
        if (hogs[running] > 0)
            continue;
        machine_die_with_parent();
        signal(SIGTERM, SIG_DFL);
        for (volatile unsigned turns = 0;; turns++)
            continue;
    }
}

void hogs_stop(void) {
    for (; running > 0; running--) {
        kill(hogs[running - 1], SIGKILL);
        while (waitpid(hogs[running - 1], NULL, 0) < 0 && errno == EINTR)
            continue;
    }
}
