/* SPDX-License-Identifier: MIT */
/*
 * The keeper on any POSIX system. What left the plugin's process group is not found, a keeper that
 * is killed does not take its plugin along, and the host's own wait(2) for any child may take away
 * the end of a keeper, which does no harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/keeper.h"

const bool keeper_os_adopts = false;

pid_t keeper_os_fork(int *ret_pidfd) {
    if (ret_pidfd)
        *ret_pidfd = -1;
    return fork();
}

void keeper_os_wait(const struct keeper *keeper) {
    int r;
    do
        r = waitpid(keeper->pid, NULL, 0);
    while (r < 0 && errno == EINTR);
}

void keeper_os_kill(const struct keeper *keeper) {
    (void)kill(keeper->pid, SIGKILL);
}

int keeper_os_open(pid_t pid) {
    (void)pid;
    return -1;
}

void keeper_os_adopt(void) {
}

int keeper_os_watch(pid_t host) {
    (void)host;
    return -1;
}

bool keeper_os_host_gone(pid_t host) {
    return getppid() != host;
}

void keeper_os_kill_children(void) {
}

static int last_fd(void) {
    long max = sysconf(_SC_OPEN_MAX);
    return max < 0 || max > 65536 ? 65536 : (int)max;
}

void keeper_os_close_from(int fd) {
    for (int last = last_fd(); fd < last; fd++)
        close(fd);
}

void keeper_os_cloexec_from(int fd) {
    for (int last = last_fd(); fd < last; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

int keeper_os_switch_user(const struct keeper_plan *plan, enum keeper_step *ret_step) {
    *ret_step = KEEPER_STEP_GROUPS;
    if (setgroups(plan->group_count, plan->groups) < 0)
        return errno;
    *ret_step = KEEPER_STEP_GID;
    if (setgid(plan->gid) < 0)
        return errno;
    *ret_step = KEEPER_STEP_UID;
    return setuid(plan->uid) < 0 ? errno : 0;
}

int keeper_os_die_with(pid_t keeper) {
    (void)keeper;
    return 0;
}

int keeper_os_no_new_privileges(void) {
    return 0;
}
