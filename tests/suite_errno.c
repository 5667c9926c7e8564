/* SPDX-License-Identifier: MIT */
/*
 * Every system call fails, at each time it is made, with each errno that it plausibly has. What
 * comes of it is success all the same, or that error, or a name for it; nothing is left behind, and
 * the next run at the same place works.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <vouch/conn.h>
#include <vouch/error.h>

#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/scenarios.h"
#include "tests/support.h"

enum { ERRORS_MAX = 9 };

static const struct {
    const char *symbol;
    int errors[ERRORS_MAX]; /* 0: the end. Not EEXIST, which says that there is something */
} failures[] = {
    {"accept", {EMFILE, ENFILE, ENOMEM, ENOBUFS, ECONNABORTED, EINTR, EPERM, EPROTO}},
    {"accept4", {EMFILE, ENFILE, ENOMEM, ENOBUFS, ECONNABORTED, EINTR, EPERM, EPROTO}},
    {"bind", {EACCES, EADDRINUSE, EINVAL, ENOMEM, EROFS, ENOSPC, ENOENT}},
    {"chmod", {EPERM, EROFS, ENOENT, EIO}},
    {"chown", {EPERM, EROFS, EIO}},
    {"connect", {EACCES, ECONNREFUSED, ENOENT, ENOMEM, EPERM, EAGAIN, EPROTOTYPE}},
    {"dup", {EMFILE}},
    {"epoll_create1", {EMFILE, ENFILE, ENOMEM}},
    {"epoll_ctl", {ENOMEM, ENOSPC}},
    {"epoll_pwait2", {ENOSYS, EINTR}},
    {"epoll_wait", {EINTR}},
    {"eventfd", {EMFILE, ENFILE, ENOMEM}},
    {"fchmod", {EPERM, EROFS, EIO}},
    {"fchmodat", {EPERM, EROFS, ENOTSUP}},
    {"fchown", {EPERM, EROFS, EIO}},
    {"fchownat", {EPERM, EROFS, EIO}},
    {"fcntl", {EINVAL, EPERM, EMFILE}},
    {"flock", {EINTR, ENOLCK, EWOULDBLOCK}},
    {"fstat", {ENOMEM, EIO, EOVERFLOW}},
    {"fstatat", {ENOENT, EACCES, ENOMEM, EIO}},
    {"getgroups", {EINVAL}},
    {"getpeereid", {ENOTCONN}},
    {"getpeername", {ENOTCONN, ENOBUFS}},
    {"getrandom", {EINTR, ENOSYS}},
    {"getsockname", {ENOBUFS}},
    {"getsockopt", {ENOPROTOOPT, ENOMEM, ENODATA, EMFILE, ESRCH}},
    {"lchown", {EPERM, EROFS}},
    {"listen", {EADDRINUSE, ENOMEM, EOPNOTSUPP}},
    {"lstat", {ENOENT, EACCES, EIO}},
    {"madvise", {EINVAL, ENOMEM}},
    {"mkdir", {EACCES, ENOSPC, EROFS, EMLINK, ENOENT}},
    {"mkdirat", {EACCES, ENOSPC, EROFS, EMLINK, ENOENT}},
    {"mkdtemp", {EACCES, ENOSPC, EROFS}},
    {"mmap", {ENOMEM, EPERM, ENODEV}},
    {"open", {EACCES, EMFILE, ENFILE, ENOENT, ENOMEM, ELOOP, EIO, EINTR}},
    {"openat", {EACCES, EMFILE, ENFILE, ENOENT, ENOMEM, ELOOP, EIO, EINTR}},
    {"pipe", {EMFILE, ENFILE}},
    {"pipe2", {EMFILE, ENFILE}},
    {"poll", {EINTR, ENOMEM}},
    {"ppoll", {EINTR, ENOMEM}},
    {"pthread_create", {EAGAIN}},
    {"read", {EIO, EINTR}},
    {"recv", {ECONNRESET, ENOMEM, ENOBUFS}},
    {"recvmsg", {ECONNRESET, ENOMEM, ENOBUFS}},
    {"rename", {EACCES, EBUSY, ENOSPC, EROFS, ENOENT, EIO}},
    {"renameat", {EACCES, EBUSY, ENOSPC, EROFS, ENOENT, EIO}},
    {"renameat2", {EACCES, EBUSY, ENOSPC, EROFS, EINVAL, ENOSYS}},
    {"rmdir", {EACCES, EBUSY, ENOENT, ENOTEMPTY}},
    {"send", {EPIPE, ECONNRESET, ENOBUFS, ENOMEM}},
    {"sendmsg", {EPIPE, ECONNRESET, ENOBUFS, ENOMEM, ETOOMANYREFS}},
    {"setsockopt", {ENOPROTOOPT, ENOMEM, EPERM, EINVAL}},
    {"shutdown", {ENOTCONN}},
    {"socket", {EMFILE, ENFILE, ENOMEM, ENOBUFS, EACCES, EAFNOSUPPORT}},
    {"socketpair", {EMFILE, ENFILE, ENOMEM}},
    {"stat", {ENOENT, EACCES, EIO}},
    {"syscall", {ENOSYS, EMFILE, ESRCH}},
    {"timerfd_create", {EMFILE, ENFILE, ENOMEM, ENODEV}},
    {"timerfd_settime", {ECANCELED}},
    {"unlink", {EACCES, EBUSY, ENOENT, EROFS}},
    {"unlinkat", {EACCES, EBUSY, ENOENT, EROFS}},
    {NULL, {0}},
};

/* What is said when `error` was injected: itself, the consequence for the other side, one of the
 * words that errno lacks; or that there is something after all where there was said to be nothing.
 */
static bool is_clean(int result, int error) {
    return result == 0 || result == -error || result == -ECONNRESET ||
           (result == -EEXIST && error == ENOENT) ||
           (result == -ECONNREFUSED && (error == EPIPE || error == ECONNRESET)) || /* datagrams */
           (result <= VOUCH_E_REFUSED && result >= VOUCH_E_METHOD_NAME);
}

static void check(const struct scenario *scenario, const struct faults_plan *plan) {
    struct scenario_report report = scenario_run(scenario, plan, NULL);

    cr_assert(is_clean(report.result, plan->error), "%s: %s call %u, errno %d: result %d",
              scenario->name, plan->symbol, plan->call, plan->error, report.result);
    cr_assert_null(report.leak, "%s: %s call %u, errno %d: %s", scenario->name, plan->symbol,
                   plan->call, plan->error, report.leak ? report.leak : "");
    report = scenario_run(scenario, NULL, NULL);
    cr_assert_eq(report.result, 0, "%s: after %s call %u, errno %d, the next run: %d",
                 scenario->name, plan->symbol, plan->call, plan->error, report.result);
}

static void check_symbol(const struct scenario *scenario, const char *symbol, const int *errors,
                         unsigned calls) {
    struct faults_plan plan = {.symbol = symbol};
    unsigned step = VOUCH_TEST_ROUNDS(1, 1 + calls / 3);

    for (plan.call = 1; plan.call <= calls; plan.call += step)
        for (int i = 0; i < ERRORS_MAX && errors[i] != 0; i++) {
            plan.error = errors[i];
            check(scenario, &plan);
        }
}

static void check_scenario(const struct scenario *scenario) {
    unsigned calls[sizeof(failures) / sizeof(*failures)];

    for (int i = 0; i < 2; i++) /* what happens only once in a process is over then */
        cr_assert_eq(scenario_run(scenario, NULL, NULL).result, 0, "%s", scenario->name);
    for (size_t i = 0; failures[i].symbol; i++)
        calls[i] = faults_count(failures[i].symbol);
    for (size_t i = 0; failures[i].symbol; i++)
        check_symbol(scenario, failures[i].symbol, failures[i].errors, calls[i]);
}

static void check_all(const struct scenario *all) {
    for (; all->name; all++)
        check_scenario(all);
    support_temp_remove();
}

Test(errnos, base_layer, .timeout = 300) {
    check_all(scenarios_base);
}

Test(errnos, links, .timeout = 300) {
    check_all(scenarios_links);
}

Test(errnos, rpc, .timeout = 300) {
    check_all(scenarios_rpc);
}

Test(errnos, typed, .timeout = 300) {
    check_all(scenarios_typed);
}

/* What happens once in a process is not in the scenarios' repeated runs. Here: the page that tells
 * a forked child from its parent. Objects made while there is none have to stay usable. */
Test(errnos, fork_detection_does_not_change_its_mind) {
    struct faults_plan plan = {.symbol = "madvise", .call = 1, .error = ENOMEM};
    struct vouch_conn *conns[2];
    unsigned hits;

    support_baseline_begin();
    faults_begin(&plan);
    cr_assert_eq(vouch_conn_pair(NULL, conns), 0);
    hits = faults_end();
    cr_assert(hits == 1 || faults_count("madvise") == 0, "not the first use in this process");
    cr_assert_eq(vouch_conn_write(conns[0], "x", 1), 0);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    support_baseline_end();
}

/* The suite would notice: these forget something when things go wrong. */

static int forgotten_fd;

static int forgets_a_descriptor(const struct scenario_place *place) {
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    struct vouch_conn *conns[2];
    int r;

    forgotten_fd = dup(STDIN_FILENO);
    r = vouch_conn_pair(&options, conns);
    if (r < 0)
        return r;
    close(forgotten_fd);
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
    return 0;
}

Test(errnos, a_leaked_descriptor_is_found) {
    static const struct scenario scenario = {.name = "forgets_a_descriptor",
                                             .run = forgets_a_descriptor};
    struct faults_plan plan = {.symbol = "socketpair", .call = 1, .error = EMFILE};
    struct scenario_report report = scenario_run(&scenario, NULL, NULL);

    cr_assert_eq(report.result, 0);
    cr_assert_null(report.leak);
    report = scenario_run(&scenario, &plan, NULL);
    cr_assert_eq(report.result, -EMFILE);
    cr_assert_not_null(report.leak);
    close(forgotten_fd);
    support_temp_remove();
}

static struct vouch_conn *forgotten[2];

static int forgets_a_connection(const struct scenario_place *place) {
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    int r = vouch_conn_pair(&options, forgotten);

    if (r == 0)
        r = vouch_conn_write(forgotten[0], "x", 1);
    if (r < 0)
        return r;
    vouch_conn_free(forgotten[0]);
    vouch_conn_free(forgotten[1]);
    return 0;
}

Test(errnos, leaked_memory_is_found) {
    static const struct scenario scenario = {.name = "forgets_a_connection",
                                             .run = forgets_a_connection};
    struct faults_plan plan = {.symbol = "sendmsg", .call = 1, .error = ENOBUFS};
    struct scenario_report report = scenario_run(&scenario, NULL, NULL);

    cr_assert_null(report.leak);
    if (faults_count("sendmsg") == 0)
        plan.symbol = "send";
    report = scenario_run(&scenario, &plan, NULL);
    cr_assert_eq(report.result, -ENOBUFS);
    cr_assert_not_null(report.leak);
    vouch_conn_free(forgotten[0]);
    vouch_conn_free(forgotten[1]);
    support_temp_remove();
}
