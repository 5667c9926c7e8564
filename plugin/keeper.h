/* SPDX-License-Identifier: MIT */
/*
 * The keeper: a small process between the host and one plugin. It starts the program, tells the
 * host how it ended, passes the host's signals on, and sees to it that nothing is left.
 *
 *   host ──control── keeper ──parent of── plugin ── its descendants
 *
 * Why it is there. Only a parent knows for sure that a pid still is its child's, and only somebody
 * who outlives the host can end what the host leaves behind. A plugin has a process group of its
 * own; while its leader, the plugin, has not been waited for, the number of that group can be
 * nobody else's, and that is the only time at which signals are sent to it; and to the plugin,
 * which may have left its group. On Linux the keeper also adopts what left the group (a
 * "subreaper"): it kills what it has adopted, one generation after the other, until it has no
 * children, and then knows that there are none.
 *
 *   - the host says so, ends, or executes another program: the plugin is ended
 *   - the plugin ends: the rest of its group and its orphans are killed
 *   - the keeper is killed: the kernel kills the plugin (Linux; the keeper has one thread, which is
 *     what PR_SET_PDEATHSIG hangs on)
 *
 * It is forked from a program that may have threads, and never executes one: from its first to its
 * last instruction it only makes async-signal-safe calls and allocates nothing. It does not keep
 * the descriptors of the host.
 */
#ifndef VOUCH_PLUGIN_KEEPER_H
#define VOUCH_PLUGIN_KEEPER_H

#include <sys/resource.h>
#include <sys/types.h>
#include <vouch/plugin.h>

#define KEEPER_FDS_MAX (VOUCH_PLUGIN_FIRST_FD + VOUCH_PLUGIN_FDS_MAX)
#define KEEPER_GROUPS_MAX 64
#define KEEPER_RLIMITS_MAX 16

/* When the host has gone: the plugin reads end of file, and may use this time; then SIGTERM, then
 * SIGKILL, so that within a second nothing is left. */
#define KEEPER_ORPHAN_TERM VOUCH_MILLISECONDS(300)
#define KEEPER_ORPHAN_KILL VOUCH_MILLISECONDS(600)
/* For killed processes to go, before the keeper gives up on them (one that changed its user, say).
 */
#define KEEPER_SWEEP VOUCH_SECONDS(2)
/* How often the keeper asks whether the host is there, where nothing tells it: without a pidfd
 * (other systems, Linux before 5.3, a filter of system calls). The end of the control socket does
 * not: the host may have forked a child that holds it. */
#define KEEPER_HOST_INTERVAL VOUCH_MILLISECONDS(200)
/* Between one SIGKILL and the next, while the plugin is there. */
#define KEEPER_KILL_AGAIN VOUCH_MILLISECONDS(20)

/* Everything that the child needs, made before. */
struct keeper_plan {
    const char *program;
    char *const *arguments, *const *environment;
    const char *directory;   /* NULL: stays */
    int fds[KEEPER_FDS_MAX]; /* what become 0, 1, 2, … */
    int fd_count;
    bool switch_user;
    uid_t uid;
    gid_t gid;
    gid_t groups[KEEPER_GROUPS_MAX];
    size_t group_count;
    struct {
        unsigned resource; /* as libc's of Linux has it: an enum */
        struct rlimit limit;
    } rlimits[KEEPER_RLIMITS_MAX];
    size_t rlimit_count;
    bool no_new_privileges;
};

/* What could not be done before the program ran. */
enum keeper_step {
    KEEPER_STEP_FORK,
    KEEPER_STEP_FDS,
    KEEPER_STEP_RLIMIT,
    KEEPER_STEP_GROUPS,
    KEEPER_STEP_GID,
    KEEPER_STEP_UID,
    KEEPER_STEP_PRIVILEGES,
    KEEPER_STEP_DIRECTORY,
    KEEPER_STEP_EXEC,
};

/* What the keeper says. */
enum keeper_report {
    KEEPER_STARTED, /* value: the plugin's pid */
    KEEPER_FAILED,  /* value: the step; detail: errno */
    KEEPER_EXITED, /* value: si_code, detail: si_status, of waitid(2); the pid is still the plugin's
                    */
};

struct keeper_message {
    int32_t report, value, detail;
};

/* What the host says, one byte each. */
enum { KEEPER_TERM = 'T', KEEPER_KILL = 'K' };

struct keeper {
    pid_t pid;
    int pidfd;   /* -1 where there is none */
    int control; /* ends when the keeper has nothing left to do */
};
#define KEEPER_NONE ((struct keeper){.pid = 0, .pidfd = -1, .control = -1})

/* Starts a keeper, and it the plugin. 0 or negative errno. Does not wait for anything. */
int keeper_start(const struct keeper_plan *plan, struct keeper *ret_keeper) VOUCH_MUST_CHECK;
/* Sends a signal through it; best effort. */
void keeper_say(const struct keeper *keeper, char what);
/* 1: a report; 0: none now; -ECONNRESET: the keeper has ended. */
int keeper_next(const struct keeper *keeper, struct keeper_message *ret_message) VOUCH_MUST_CHECK;
/* A pidfd of the plugin, which the keeper said it has started; -1 when there is none, or it may
 * have ended. */
int keeper_open_plugin(const struct keeper *keeper, pid_t plugin);
/* Kills a keeper that does not do what it should; the plugin goes with it. */
void keeper_abandon(const struct keeper *keeper);
/* Waits for the keeper itself, after its end, which takes no time; closes. Safe twice. */
void keeper_end(struct keeper *keeper);

/* ---- keeper_linux.c, keeper_posix.c ---- */

/* fork(2), but only async-signal-safe afterwards. As fork. `ret_pidfd` may be NULL; -1 where there
 * is none. With it the child is one that wait(2) for any child does not see, where that can be. */
pid_t keeper_os_fork(int *ret_pidfd);
void keeper_os_wait(const struct keeper *keeper);
void keeper_os_kill(const struct keeper *keeper);
int keeper_os_open(pid_t pid); /* a pidfd, or -1 */

/* In the keeper. */
void keeper_os_adopt(void);      /* orphans of its descendants are its from now on */
int keeper_os_watch(pid_t host); /* a descriptor that is readable when the host ends, or -1 */
bool keeper_os_host_gone(pid_t host);
void keeper_os_kill_children(void);
void keeper_os_close_from(int fd);
/* In the plugin, before its program. 0 or errno. */
int keeper_os_switch_user(const struct keeper_plan *plan, enum keeper_step *ret_step);
int keeper_os_die_with(pid_t keeper);
int keeper_os_no_new_privileges(void);
void keeper_os_cloexec_from(int fd);
/* Whether keeper_os_adopt and keeper_os_kill_children do anything. */
extern const bool keeper_os_adopts;

#endif
