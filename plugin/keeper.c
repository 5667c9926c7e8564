/* SPDX-License-Identifier: MIT */
#include "plugin/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/os.h"

/* ---- in the plugin's process, before its program ---- */

static _Noreturn void give_up(int report, enum keeper_step step, int error) {
    int32_t what[2] = {(int32_t)step, error};
    ssize_t written = write(report, what, sizeof(what));
    (void)written;
    _exit(127);
}

/* Sources and targets may overlap: first all sources go above all targets. */
static int place_fds(const struct keeper_plan *plan, int *report) {
    int sources[KEEPER_FDS_MAX], count = plan->fd_count;
    int above = fcntl(*report, F_DUPFD_CLOEXEC, count);
    if (above < 0)
        return errno; /* and the one there is can tell it */
    *report = above;
    for (int i = 0; i < count; i++) {
        sources[i] = fcntl(plan->fds[i], F_DUPFD_CLOEXEC, count);
        if (sources[i] < 0)
            return errno;
    }
    for (int i = 0; i < count; i++)
        if (dup2(sources[i], i) < 0)
            return errno;
    keeper_os_cloexec_from(count);
    return 0;
}

static _Noreturn void become_plugin(const struct keeper_plan *plan, int report, pid_t keeper) {
    sigset_t none;
    int r = place_fds(plan, &report);
    if (r != 0)
        give_up(report, KEEPER_STEP_FDS, r);
    (void)setpgid(0, 0);
    for (size_t i = 0; i < plan->rlimit_count; i++)
        if (setrlimit(plan->rlimits[i].resource, &plan->rlimits[i].limit) < 0)
            give_up(report, KEEPER_STEP_RLIMIT, errno);
    enum keeper_step step;
    r = plan->switch_user ? keeper_os_switch_user(plan, &step) : 0;
    if (r != 0)
        give_up(report, step, r);
    /* Changing the user forgets it: so not before. */
    r = keeper_os_die_with(keeper);
    if (r != 0)
        give_up(report, KEEPER_STEP_FORK, r);
    r = plan->no_new_privileges ? keeper_os_no_new_privileges() : 0;
    if (r != 0)
        give_up(report, KEEPER_STEP_PRIVILEGES, r);
    if (plan->directory && chdir(plan->directory) < 0)
        give_up(report, KEEPER_STEP_DIRECTORY, errno);
    (void)signal(SIGCHLD, SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    execve(plan->program, plan->arguments, plan->environment);
    give_up(report, KEEPER_STEP_EXEC, errno);
}

/* ---- in the keeper ---- */

struct kept {
    int control, watch; /* watch: readable when the host ends, or -1 */
    pid_t host, plugin;
    int64_t orphaned_at; /* VOUCH_FOREVER: the host is there */
    bool termed, killed;
};

static void on_child(int number) {
    (void)number; /* only to wake pselect */
}

/* No handler of the host's may run here. SIGCHLD is let in only while we wait. */
static void take_signals(void) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigemptyset(&action.sa_mask);
    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &action, NULL);
    action.sa_handler = on_child;
    (void)sigaction(SIGCHLD, &action, NULL);
}

static void tell(const struct kept *k, enum keeper_report report, int value, int detail) {
    struct keeper_message message = {(int32_t)report, value, detail};
    ssize_t sent = send(k->control, &message, sizeof(message), os_send_flags);
    (void)sent; /* nobody is there: we shall see */
}

/* Starts the program, and waits until it runs or can't. */
static bool start_plugin(struct kept *k, const struct keeper_plan *plan) {
    int report[2];
    int32_t what[2];
    pid_t self = getpid();
    if (pipe(report) < 0) {
        tell(k, KEEPER_FAILED, KEEPER_STEP_FORK, errno);
        return false;
    }
    (void)os_cloexec(report[0]);
    (void)os_cloexec(report[1]);
    pid_t pid = keeper_os_fork(NULL);
    if (pid < 0) {
        tell(k, KEEPER_FAILED, KEEPER_STEP_FORK, errno);
        return false;
    }
    if (pid == 0)
        become_plugin(plan, report[1], self);
    close(report[1]);
    ssize_t size;
    do
        size = read(report[0], what, sizeof(what));
    while (size < 0 && errno == EINTR);
    close(report[0]);
    k->plugin = pid;
    if (size == sizeof(what)) {
        tell(k, KEEPER_FAILED, what[0], what[1]);
        (void)waitpid(pid, NULL, 0);
        return false;
    }
    tell(k, KEEPER_STARTED, pid, 0);
    return true;
}

/* Waits for input, a child, or `deadline`. */
static void wait_for(const struct kept *k, int64_t deadline, bool *ret_control, bool *ret_watch) {
    fd_set fds;
    sigset_t all;
    int64_t now = vouch_now(), left = deadline > now ? deadline - now : 0;
    struct timespec timeout = clock_timespec(left);
    FD_ZERO(&fds);
    if (k->control >= 0)
        FD_SET(k->control, &fds);
    if (k->watch >= 0)
        FD_SET(k->watch, &fds);
    sigfillset(&all);
    sigdelset(&all, SIGCHLD);
    int top = k->control > k->watch ? k->control : k->watch;
    int r = pselect(top + 1, &fds, NULL, NULL, deadline == VOUCH_FOREVER ? NULL : &timeout, &all);
    *ret_control = r > 0 && k->control >= 0 && FD_ISSET(k->control, &fds);
    *ret_watch = r > 0 && k->watch >= 0 && FD_ISSET(k->watch, &fds);
}

/* Whether the plugin has ended: it stays to be waited for. Orphans that have ended are let go. */
static bool plugin_ended(const struct kept *k, siginfo_t *ret_info) {
    for (;;) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return false;
        if (info.si_pid == k->plugin) {
            *ret_info = info;
            return true;
        }
        (void)waitpid(info.si_pid, NULL, 0);
    }
}

/* It has not been waited for: the number is its, and that of the group that it began in. That group
 * may be without it, or not be any more: a process can go to any group of its session. */
static void signal_plugin(const struct kept *k, int number) {
    (void)kill(-k->plugin, number);
    if (number == SIGKILL || getpgid(k->plugin) != k->plugin)
        (void)kill(k->plugin, number);
}

/* Again and again, until it has ended. */
static void kill_plugin(struct kept *k) {
    k->killed = true;
    signal_plugin(k, SIGKILL);
    keeper_os_kill_children();
}

static void host_is_gone(struct kept *k) {
    if (k->orphaned_at == VOUCH_FOREVER)
        k->orphaned_at = vouch_now();
    if (k->control >= 0)
        close(k->control);
    if (k->watch >= 0)
        close(k->watch);
    k->control = k->watch = -1;
}

static void listen_to_host(struct kept *k) {
    char said[16];
    ssize_t size = recv(k->control, said, sizeof(said), MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR))
        host_is_gone(k);
    for (ssize_t i = 0; i < size; i++)
        if (said[i] == KEEPER_KILL)
            kill_plugin(k);
        else
            signal_plugin(k, SIGTERM);
}

/* What is due when the host has gone, or has had the plugin killed; returns when to look again. */
static int64_t end_plugin(struct kept *k) {
    int64_t now = vouch_now(), age = now - k->orphaned_at;
    bool orphaned = k->orphaned_at != VOUCH_FOREVER;
    if (k->killed || (orphaned && age >= KEEPER_ORPHAN_KILL)) {
        kill_plugin(k);
        return now + KEEPER_KILL_AGAIN;
    }
    if (!orphaned)
        return k->watch >= 0 ? VOUCH_FOREVER : now + KEEPER_HOST_INTERVAL;
    if (age >= KEEPER_ORPHAN_TERM && !k->termed) {
        k->termed = true;
        signal_plugin(k, SIGTERM);
    }
    return k->orphaned_at + (k->termed ? KEEPER_ORPHAN_KILL : KEEPER_ORPHAN_TERM);
}

/* When the host is there, it is the host that gives up on a plugin that can't be killed. */
static bool hopeless(const struct kept *k) {
    return k->orphaned_at != VOUCH_FOREVER &&
           vouch_now() - k->orphaned_at >= KEEPER_ORPHAN_KILL + KEEPER_SWEEP;
}

/* False: the plugin is there, and can't be killed. */
static bool keep(struct kept *k, siginfo_t *ret_info) {
    while (!plugin_ended(k, ret_info)) {
        bool control, watch;
        if (hopeless(k))
            return false;
        if (k->orphaned_at == VOUCH_FOREVER && keeper_os_host_gone(k->host))
            host_is_gone(k);
        wait_for(k, end_plugin(k), &control, &watch);
        if (control)
            listen_to_host(k);
        if (watch)
            host_is_gone(k);
    }
    return true;
}

/* Kills what we have adopted until there is nothing. */
static void sweep(void) {
    struct kept nothing = {.control = -1, .watch = -1};
    int64_t give_up_at = vouch_deadline_in(KEEPER_SWEEP), pause = VOUCH_MILLISECONDS(1);
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid > 0)
            continue;
        if ((pid < 0 && errno == ECHILD) || vouch_now() >= give_up_at)
            return;
        bool control, watch;
        keeper_os_kill_children();
        wait_for(&nothing, vouch_deadline_in(pause), &control, &watch);
        pause = pause < VOUCH_MILLISECONDS(50) ? 2 * pause : pause;
    }
}

/* Of all that came with the fork only these two stay. Neither may be put where the other one is,
 * and no descriptor may be free to put one aside. */
static void keep_only(struct kept *k) {
    int watch = k->watch == 0 ? 0 : 1;
    k->control = dup2(k->control, 1 - watch);
    k->watch = k->watch >= 0 ? dup2(k->watch, watch) : -1;
    keeper_os_close_from(k->watch >= 0 ? 2 : 1);
}

static _Noreturn void be_keeper(const struct keeper_plan *plan, int control, pid_t host) {
    struct kept k = {.control = control, .host = host, .orphaned_at = VOUCH_FOREVER};
    siginfo_t info;
    take_signals();
    (void)setpgid(0, 0); /* a signal from the terminal is not for us */
    keeper_os_adopt();
    k.watch = keeper_os_watch(host);
    if (!start_plugin(&k, plan))
        _exit(0);
    keep_only(&k);
    if (!keep(&k, &info))
        _exit(0);
    tell(&k, KEEPER_EXITED, info.si_code, info.si_status);
    signal_plugin(&k, SIGKILL);
    (void)waitpid(k.plugin, NULL, 0);
    sweep();
    _exit(0);
}

/* ---- in the host ---- */

int keeper_start(const struct keeper_plan *plan, struct keeper *ret_keeper) {
    struct keeper keeper = KEEPER_NONE;
    sigset_t all, before;
    int control[2];
    pid_t host = getpid();
    int r = os_socketpair_stream(control);
    if (r < 0)
        return r;
    /* Until the child has put the dispositions back, no handler of ours may run in it. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    keeper.pid = keeper_os_fork(&keeper.pidfd);
    r = keeper.pid < 0 ? -errno : 0;
    if (keeper.pid == 0)
        be_keeper(plan, control[1], host);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(control[1]);
    if (r < 0) {
        close(control[0]);
        return r;
    }
    keeper.control = control[0];
    *ret_keeper = keeper;
    return 0;
}

void keeper_say(const struct keeper *keeper, char what) {
    ssize_t sent = send(keeper->control, &what, 1, os_send_flags | MSG_DONTWAIT);
    (void)sent; /* it is gone, or has been told more often than it could listen */
}

int keeper_next(const struct keeper *keeper, struct keeper_message *ret_message) {
    ssize_t size;
    do /* written in one piece, and small enough to arrive in one */
        size = recv(keeper->control, ret_message, sizeof(*ret_message), MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    if (size == (ssize_t)sizeof(*ret_message))
        return 1;
    return size < 0 && errno == EAGAIN ? 0 : -ECONNRESET;
}

int keeper_open_plugin(const struct keeper *keeper, pid_t plugin) {
    char byte;
    int fd = keeper_os_open(plugin);
    /* Before the keeper waits for it, it says so: silence means that this was its pid. */
    if (fd >= 0 &&
        !(recv(keeper->control, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)) {
        close(fd);
        return -1;
    }
    return fd;
}

void keeper_abandon(const struct keeper *keeper) {
    if (keeper->pid > 0)
        keeper_os_kill(keeper);
}

void keeper_end(struct keeper *keeper) {
    if (keeper->pid > 0)
        keeper_os_wait(keeper);
    if (keeper->pidfd >= 0)
        close(keeper->pidfd);
    if (keeper->control >= 0)
        close(keeper->control);
    *keeper = KEEPER_NONE;
}
