/* SPDX-License-Identifier: MIT */
/* The keeper on Linux: pidfds, adopted orphans, the death of a parent. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/keeper.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif
/* The same number on all architectures. */
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

const bool keeper_os_adopts = true;

/* struct clone_args of linux/sched.h, its first version. */
struct clone_arguments {
    _Alignas(8) uint64_t flags;
    uint64_t pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

/* ThreadSanitizer has to know of a fork, or its locks are left held in the child. */
#if defined(__SANITIZE_THREAD__)
static pid_t fork_raw(int *ret_pidfd) {
    pid_t pid = fork();
    if (ret_pidfd && pid > 0)
        *ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return pid;
}
#else
/* Not fork(3): that takes locks of libc's, which in a child of a threaded program may be held for
 * ever. Without an exit signal the child is invisible to wait(2) for any child, and stays to be
 * waited for even where SIGCHLD is ignored. */
static pid_t fork_raw(int *ret_pidfd) {
    int pidfd = -1;
    struct clone_arguments arguments = {.exit_signal = SIGCHLD};
    if (ret_pidfd)
        arguments =
            (struct clone_arguments){.flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd};
    long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (ret_pidfd)
        *ret_pidfd = pidfd;
    return (pid_t)pid;
}
#endif

pid_t keeper_os_fork(int *ret_pidfd) {
    pid_t pid = fork_raw(ret_pidfd);
    if (pid >= 0 || (errno != ENOSYS && errno != EPERM))
        return pid;
    /* Before Linux 5.3, or where a filter of system calls does not know clone3. */
    if (ret_pidfd)
        *ret_pidfd = -1;
    return fork();
}

void keeper_os_wait(const struct keeper *keeper) {
    siginfo_t info;
    int r;
    do
        r = waitid(keeper->pidfd >= 0 ? (idtype_t)P_PIDFD : P_PID,
                   keeper->pidfd >= 0 ? (id_t)keeper->pidfd : (id_t)keeper->pid, &info,
                   WEXITED | __WALL);
    while (r < 0 && errno == EINTR);
}

void keeper_os_kill(const struct keeper *keeper) {
    if (keeper->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, keeper->pidfd, SIGKILL, NULL, 0);
    else
        (void)kill(keeper->pid, SIGKILL);
}

int keeper_os_open(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

void keeper_os_adopt(void) {
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "vouch-keeper", 0, 0, 0);
}

/* A pidfd of the whole process: other than a pipe's end, no other child of the host's can hold it
 * open, and other than PR_SET_PDEATHSIG it does not mean just one thread. */
int keeper_os_watch(pid_t host) {
    return (int)syscall(SYS_pidfd_open, host, 0);
}

bool keeper_os_host_gone(pid_t host) {
    return getppid() != host;
}

/* Pids with a space behind each; one that is cut off would be another process's. */
static void kill_listed(const char *text, ssize_t size) {
    pid_t pid = 0;
    for (ssize_t i = 0; i < size; i++) {
        if (text[i] >= '0' && text[i] <= '9') {
            pid = pid * 10 + (text[i] - '0');
            continue;
        }
        if (pid > 1)
            (void)kill(pid, SIGKILL); /* our child, not waited for: it is still this one */
        pid = 0;
    }
}

void keeper_os_kill_children(void) {
    char text[4096];
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    kill_listed(text, read(fd, text, sizeof(text)));
    close(fd);
}

static bool close_range_from(int fd, unsigned flags) {
    return syscall(SYS_close_range, (unsigned)fd, ~0u, flags) == 0;
}

static int last_fd(void) {
    long max = sysconf(_SC_OPEN_MAX);
    return max < 0 || max > 65536 ? 65536 : (int)max;
}

void keeper_os_close_from(int fd) {
    if (close_range_from(fd, 0))
        return;
    for (int last = last_fd(); fd < last; fd++)
        close(fd);
}

void keeper_os_cloexec_from(int fd) {
    if (close_range_from(fd, CLOSE_RANGE_CLOEXEC))
        return;
    for (int last = last_fd(); fd < last; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Not those of libc's: they would make all threads of the program do it, whom this process has not
 * but remembers. */
#if defined(SYS_setgroups32)
enum {
    CALL_SETGROUPS = SYS_setgroups32,
    CALL_SETGID = SYS_setresgid32,
    CALL_SETUID = SYS_setresuid32,
};
#else
enum { CALL_SETGROUPS = SYS_setgroups, CALL_SETGID = SYS_setresgid, CALL_SETUID = SYS_setresuid };
#endif

/* The kernel takes capabilities away from a process that was root and is not any more. One that
 * never was root, and may change its user by a capability, would pass its ambient ones on to the
 * program, CAP_SETUID among them, and the inheritable ones to a file that asks for them. */
static int drop_heritage(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        return errno; /* EINVAL: before Linux 4.3, which has none */
    if (syscall(SYS_capget, &header, sets) < 0)
        return errno;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        sets[i].inheritable = 0;
    return syscall(SYS_capset, &header, sets) < 0 ? errno : 0;
}

int keeper_os_switch_user(const struct keeper_plan *plan, enum keeper_step *ret_step) {
    *ret_step = KEEPER_STEP_GROUPS;
    if (syscall(CALL_SETGROUPS, plan->group_count, plan->groups) < 0)
        return errno;
    *ret_step = KEEPER_STEP_GID;
    if (syscall(CALL_SETGID, plan->gid, plan->gid, plan->gid) < 0)
        return errno;
    *ret_step = KEEPER_STEP_UID;
    if (syscall(CALL_SETUID, plan->uid, plan->uid, plan->uid) < 0)
        return errno;
    *ret_step = KEEPER_STEP_PRIVILEGES;
    return drop_heritage();
}

int keeper_os_die_with(pid_t keeper) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return errno;
    return getppid() == keeper ? 0 : ESRCH; /* it died before */
}

int keeper_os_no_new_privileges(void) {
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? errno : 0;
}
