/* SPDX-License-Identifier: MIT */
/*
 * Plugins that go wrong in every way there is: at each step of the start, in a call, at the end;
 * with descendants, with floods of output, again and again. After each of them no process, no
 * descriptor and no memory is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "tests/harness.h"
#include "tests/plugin_support.h"

static struct plugin_log told;

static void begin(void) {
    plugin_test_begin();
}

static void end(void) {
    plugin_test_end();
}

TestSuite(plugins, .init = begin, .fini = end);

#define HAS(Text, What) cr_assert_not_null(strstr((Text), (What)), "'%s' in: %s", (What), (Text))

static struct vouch_plugin *start_with(struct vouch_plugin_options *options) {
    struct vouch_plugin *plugin;
    struct vouch_error error;
    cr_assert_eq(vouch_plugin_start(options, &plugin, &error), 0, "%s", error.message);
    return plugin;
}

static struct vouch_client *client_of(struct vouch_plugin *plugin) {
    return vouch_plugin_get_client(plugin);
}

/* ---- the start ---- */

Test(plugins, that_end_before_the_handshake) {
    const char *text = plugin_fails("exit", "3", VOUCH_E_PLUGIN_EXITED);
    HAS(text, "status 3");
    HAS(text, "the last words");
    HAS(plugin_fails("exit", "0", VOUCH_E_PLUGIN_EXITED), "status 0");
    HAS(plugin_fails("crash-at-start", NULL, VOUCH_E_PLUGIN_EXITED), "SIGSEGV");
    HAS(plugin_fails("half-hello", NULL, VOUCH_E_PLUGIN_EXITED), "status 4");
    HAS(plugin_fails("flood-at-start", NULL, VOUCH_E_PLUGIN_EXITED), "flood 99999");
}

Test(plugins, that_end_in_the_handshake) {
    struct vouch_plugin_options options = plugin_options("hello-then-die", NULL, NULL);
    static const char *const modes[] = {"hello-then-die", "welcome-then-die"};
    for (int i = 0; i < 2; i++) {
        struct vouch_plugin *plugin;
        options = plugin_options(modes[i], NULL, &told);
        options.restart = VOUCH_PLUGIN_RESTART_NEVER;
        int r = vouch_plugin_start(&options, &plugin, NULL);
        cr_assert(r == 0 || r == VOUCH_E_PLUGIN_EXITED, "%d", r);
        if (r == 0) {
            r = vouch_client_call(client_of(plugin), "echo", NULL, 0, NULL, NULL, NULL);
            cr_assert(r == -ECONNRESET || r == -ESHUTDOWN, "%d", r);
            cr_assert_eq(
                vouch_plugin_wait(plugin, VOUCH_PLUGIN_ENDED, vouch_deadline_in(RPC_PATIENCE)), 0);
            vouch_plugin_free(plugin);
        }
    }
}

Test(plugins, that_say_something_else) {
    HAS(plugin_fails("nonsense", NULL, VOUCH_E_PLUGIN_HANDSHAKE), "not the handshake");
    HAS(plugin_fails("endless", NULL, VOUCH_E_PLUGIN_HANDSHAKE), "not the handshake");
    HAS(plugin_fails("too-eager", NULL, VOUCH_E_PLUGIN_HANDSHAKE), "not the handshake");
    HAS(plugin_fails("protocol-2", NULL, VOUCH_E_PLUGIN_PROTOCOL), "another version");
    HAS(plugin_fails("wrong-token", NULL, VOUCH_E_PLUGIN_TOKEN), "token");
    HAS(plugin_fails("close-and-hang", NULL, VOUCH_E_PLUGIN_HANDSHAKE), "closed");
}

Test(plugins, without_a_common_version) {
    static const uint32_t mine[] = {4, 5};
    struct vouch_plugin_options options = plugin_options("versions", NULL, NULL);
    struct vouch_plugin *plugin;
    struct vouch_error error;
    options.versions = mine;
    options.version_count = 2;
    cr_assert_eq(vouch_plugin_start(&options, &plugin, &error), VOUCH_E_PLUGIN_VERSION);
    HAS(error.message, "2,3,7");
    HAS(error.message, "4,5");
}

Test(plugins, that_hang_at_the_start) {
    struct vouch_plugin *plugin;
    struct vouch_error error;
    struct vouch_plugin_options options = plugin_options("hang-hard", NULL, NULL);
    options.start_timeout = VOUCH_MILLISECONDS(100);
    cr_assert_eq(vouch_plugin_start(&options, &plugin, &error), -ETIMEDOUT);
    HAS(error.message, "no handshake within 100 ms");
}

static const char *exec_fails(const char *program) {
    static struct vouch_error error;
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    struct vouch_plugin *plugin;
    options.program = program;
    cr_assert_eq(vouch_plugin_start(&options, &plugin, &error), VOUCH_E_PLUGIN_EXEC, "%s",
                 error.message);
    return error.message;
}

static const char *program_of(const char *name, const char *content, size_t size, mode_t mode) {
    static char path[SUPPORT_PATH_MAX];
    support_temp_path(path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    cr_assert_eq(write(fd, content, size), (ssize_t)size);
    close(fd);
    cr_assert_eq(chmod(path, mode), 0);
    return path;
}

Test(plugins, that_can_not_be_executed) {
    static const char foreign[64] = {0x7f, 'E', 'L', 'F', 2, 2, 1, [16] = 0, 2, 0, 21};
    HAS(exec_fails("/nonexistent/plugin"), "no such file");
    HAS(exec_fails(program_of("plain", "x", 1, 0600)), "not executable");
    HAS(exec_fails(support_temp_dir()), "a directory");
    HAS(exec_fails(program_of("text", "just text\n", 10, 0700)), "#!");
    HAS(exec_fails(program_of("empty", "", 0, 0700)), "empty");
    HAS(exec_fails(program_of("script", "#!/no/such/sh -e\n", 17, 0700)), "/no/such/sh");
    HAS(exec_fails(program_of("dos", "#!/bin/sh\r\n", 11, 0700)), "carriage return");
    HAS(exec_fails(program_of("foreign", foreign, sizeof(foreign), 0700)), "another machine");
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    struct vouch_plugin *plugin;
    struct vouch_error error;
    options.directory = "/no/such/directory";
    cr_assert_eq(vouch_plugin_start(&options, &plugin, &error), VOUCH_E_PLUGIN_EXEC);
    HAS(error.message, "directory");
}

/* Wherever the descriptors run out, that is what is told; 0, or the code that is not about it. */
static int start_short_of_fds(void) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    int first = dup(2), r;
    close(first);
    options.program = "/nonexistent/plugin";
    for (int more = 6; more < 40; more++) {
        struct rlimit limit = {(rlim_t)(first + more), (rlim_t)(first + 40)};
        struct vouch_plugin *plugin;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return 1;
        r = vouch_plugin_start(&options, &plugin, NULL);
        if (r != -EMFILE && r != VOUCH_E_PLUGIN_EXEC)
            return 2;
    }
    return r == VOUCH_E_PLUGIN_EXEC ? 0 : 3;
}

Test(plugins, started_with_few_descriptors_left) {
    pid_t child = fork();
    if (child == 0)
        _exit(start_short_of_fds());
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "%d", WEXITSTATUS(status));
}

/* ---- in a call ---- */

static uint64_t calls_in_flight(struct vouch_client *client) {
    struct vouch_client_stats stats;
    vouch_client_get_stats(client, &stats);
    return stats.in_flight;
}

Test(plugins, that_crash_in_a_call) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.restart_min = options.restart_max = VOUCH_MILLISECONDS(1);
    struct vouch_plugin *plugin = start_with(&options);
    struct rpc_caller other;
    rpc_caller_start(&other, client_of(plugin), "wait", NULL);
    RPC_EVENTUALLY(calls_in_flight(client_of(plugin)) == 1);
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    int64_t begun = vouch_now();
    rpc_check_call(client_of(plugin), "crash", "", -ECONNRESET, NULL);
    cr_assert_eq(rpc_caller_join(&other), -ECONNRESET, "it was in flight too");
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    rpc_check_call(client_of(plugin), "echo", "again", 0, "again");
    plugin_log_wait(&told, 3);
    struct plugin_log_event event = plugin_log_event(&told, 1);
    cr_assert_eq(event.type, VOUCH_PLUGIN_DOWN);
    cr_assert_eq(event.signal, SIGSEGV);
    cr_assert_eq(event.exit_status, -1);
    cr_assert_not(event.asked);
    cr_assert_geq(event.restart_in, 0);
    HAS(event.text, "SIGSEGV (11)");
    struct vouch_plugin_stats stats;
    vouch_plugin_get_stats(plugin, &stats);
    cr_assert_eq(stats.starts, 2);
    cr_assert_eq(stats.failures, 1);
    vouch_plugin_free(plugin);
}

Test(plugins, calls_fail_at_once_while_it_is_down_if_wished) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.restart_min = VOUCH_SECONDS(1000);
    options.restart_max = VOUCH_SECONDS(1000);
    options.fail_while_down = true;
    struct vouch_plugin *plugin = start_with(&options);
    rpc_check_call(client_of(plugin), "exit", "1", -ECONNRESET, NULL);
    rpc_check_call(client_of(plugin), "echo", "", -ECONNRESET, NULL);
    plugin_log_wait(&told, 2);
    cr_assert_eq(plugin_log_event(&told, 1).exit_status, 1);
    vouch_plugin_free(plugin);
    options = plugin_options("serve", NULL, &told);
    options.restart_min = VOUCH_SECONDS(1000);
    options.restart_max = VOUCH_SECONDS(1000);
    plugin = start_with(&options);
    struct vouch_call_options soon = {VOUCH_OPTIONS(soon), .timeout = VOUCH_MILLISECONDS(50)};
    rpc_check_call(client_of(plugin), "exit", "1", -ECONNRESET, NULL);
    plugin_log_wait(&told, 2);
    rpc_check_call_options(client_of(plugin), "echo", "", &soon, -ETIMEDOUT);
    cr_assert_eq(vouch_client_call_async(client_of(plugin), "echo", NULL, 0, NULL,
                                         rpc_outcome_callback, NULL, NULL),
                 -ECONNRESET, "it never waits");
    vouch_plugin_free(plugin);
}

Test(plugins, restart_as_the_policy_says) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.restart = VOUCH_PLUGIN_RESTART_ON_FAILURE;
    options.restart_min = options.restart_max = VOUCH_MILLISECONDS(1);
    struct vouch_plugin *plugin = start_with(&options);
    rpc_check_call(client_of(plugin), "exit", "1", -ECONNRESET, NULL);
    rpc_check_call(client_of(plugin), "echo", "", 0, NULL);
    rpc_check_call(client_of(plugin), "exit", "", -ECONNRESET, NULL);
    cr_assert_eq(vouch_plugin_wait(plugin, VOUCH_PLUGIN_ENDED, vouch_deadline_in(RPC_PATIENCE)), 0);
    rpc_check_call(client_of(plugin), "echo", "", -ESHUTDOWN, NULL);
    cr_assert_eq(vouch_plugin_wait(plugin, VOUCH_PLUGIN_RUNNING, 0), -ESHUTDOWN);
    vouch_plugin_free(plugin);
}

Test(plugins, that_crash_again_and_again_are_given_up) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.restart_min = VOUCH_MILLISECONDS(4);
    options.restart_max = VOUCH_MILLISECONDS(16);
    options.restarts_max = 4;
    struct vouch_plugin *plugin = start_with(&options);
    for (int i = 0; i < 5; i++)
        rpc_check_call(client_of(plugin), "exit", "9", -ECONNRESET, NULL);
    cr_assert_eq(vouch_plugin_wait(plugin, VOUCH_PLUGIN_ENDED, vouch_deadline_in(RPC_PATIENCE)), 0);
    vouch_plugin_free(plugin);
    cr_assert_eq(told.event_count, 11);
    cr_assert_eq(told.events[10].type, VOUCH_PLUGIN_GAVE_UP);
    static const int64_t least[] = {3, 6, 12, 12};
    for (unsigned i = 0; i < 4; i++) {
        const struct plugin_log_event *down = &told.events[2 * i + 1];
        cr_assert_geq(down->restart_in, VOUCH_MILLISECONDS(least[i]));
        cr_assert_leq(down->restart_in, VOUCH_MILLISECONDS(16));
        cr_assert_geq(told.events[2 * i + 2].at - down->at, down->restart_in);
    }
    cr_assert_eq(told.events[9].restart_in, -1);
}

Test(plugins, that_are_killed_by_somebody) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.restart_min = options.restart_max = VOUCH_MILLISECONDS(1);
    struct vouch_plugin *plugin = start_with(&options);
    cr_assert_eq(kill(vouch_plugin_get_pid(plugin), SIGKILL), 0);
    plugin_log_wait(&told, 3);
    cr_assert_eq(plugin_log_event(&told, 1).signal, SIGKILL);
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    vouch_plugin_free(plugin);
}

/* ---- pings ---- */

Test(plugins, that_do_not_answer_are_killed) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.ping_interval = VOUCH_MILLISECONDS(400);
    options.ping_misses = 2;
    options.restart_min = options.restart_max = VOUCH_MILLISECONDS(1);
    struct vouch_plugin *plugin = start_with(&options);
    rpc_check_call(client_of(plugin), "freeze", "", -ECONNRESET, NULL);
    plugin_log_wait(&told, 3);
    struct plugin_log_event event = plugin_log_event(&told, 1);
    HAS(event.text, "did not answer 2 pings");
    cr_assert_eq(event.signal, SIGKILL);
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    struct vouch_plugin_stats stats;
    vouch_plugin_get_stats(plugin, &stats);
    cr_assert_geq(stats.pings_missed, 2);
    vouch_plugin_free(plugin);
}

/* Whether it knows pings is said in its hello, which has to come too. */
Test(plugins, that_say_no_hello_are_killed) {
    struct vouch_plugin_options options = plugin_options("welcome-then-hang", NULL, &told);
    options.ping_interval = VOUCH_MILLISECONDS(400);
    options.ping_misses = 2;
    options.restart = VOUCH_PLUGIN_RESTART_NEVER;
    struct vouch_plugin *plugin = start_with(&options);
    rpc_check_call(client_of(plugin), "echo", "", -ECONNRESET, NULL);
    plugin_log_wait(&told, 2);
    HAS(plugin_log_event(&told, 1).text, "did not answer 2 pings");
    vouch_plugin_free(plugin);
}

/* ---- the end ---- */

Test(plugins, complete_what_is_in_flight_when_stopped) {
    struct vouch_plugin *plugin = plugin_open("serve", NULL);
    struct rpc_outcome outcome;
    rpc_call_async(client_of(plugin), "work", "100", NULL, &outcome, NULL);
    rpc_check_call(client_of(plugin), "echo", "", 0, NULL); /* it has arrived */
    cr_assert_eq(vouch_plugin_stop(plugin), 0);
    cr_assert_geq(vouch_client_process(client_of(plugin)), 1);
    cr_assert_eq(outcome.result, 0, "%s", outcome.error.message);
    vouch_plugin_free(plugin);
}

/* What it has sent before it exits is read, however soon its end is noticed. */
Test(plugins, that_have_answered_were_heard) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    struct vouch_server *server; /* another thread reads them than sees the end */
    struct vouch_server_options one = {VOUCH_OPTIONS(one), .workers = 1};
    cr_assert_eq(vouch_server_new(&one, &server), 0);
    cr_assert_eq(vouch_server_start(server), 0);
    options.server = server;
    for (int round = 0; round < 20; round++) {
        struct vouch_plugin *plugin = start_with(&options);
        struct rpc_outcome outcomes[8];
        for (int i = 0; i < 8; i++)
            rpc_call_async(client_of(plugin), "large", "", NULL, &outcomes[i], NULL);
        cr_assert_eq(vouch_plugin_stop(plugin), 0);
        cr_assert_eq(vouch_client_process(client_of(plugin)), 8);
        for (int i = 0; i < 8; i++) {
            cr_assert_eq(outcomes[i].result, 0, "%d: %s", round, outcomes[i].error.message);
            cr_assert_eq(outcomes[i].size, 1 << 20);
        }
        vouch_plugin_free(plugin);
    }
    vouch_server_free(server);
}

/* A plugin that does so when it is asked to stop. */
static void check_killed(const char *how) {
    struct vouch_plugin_options options = plugin_options(how, NULL, &told);
    options.stop_timeout = options.term_timeout = VOUCH_MILLISECONDS(50);
    struct vouch_plugin *plugin = start_with(&options);
    cr_assert_eq(vouch_plugin_stop(plugin), 1, "a signal was needed");
    cr_assert_eq(plugin_log_event(&told, 1).signal, SIGKILL);
    cr_assert(plugin_log_event(&told, 1).asked);
    vouch_plugin_free(plugin);
}

/* One that is at work meanwhile; returns what the call has come to. */
static int check_terminated(const char *how) {
    struct vouch_plugin_options options = plugin_options(how, NULL, &told);
    options.stop_timeout = VOUCH_MILLISECONDS(50);
    struct vouch_plugin *plugin = start_with(&options);
    struct rpc_outcome outcome;
    rpc_call_async(client_of(plugin), "work", "60000", NULL, &outcome, NULL);
    rpc_check_call(client_of(plugin), "echo", "", 0, NULL);
    cr_assert_eq(vouch_plugin_stop(plugin), 1);
    cr_assert_eq(plugin_log_event(&told, 1).signal, SIGTERM);
    cr_assert_geq(vouch_client_process(client_of(plugin)), 1);
    vouch_plugin_free(plugin);
    return outcome.result;
}

Test(plugins, that_ignore_everything_but_sigkill) {
    check_killed("stubborn");
}

Test(plugins, that_take_too_long_are_terminated) {
    cr_assert_eq(check_terminated("serve"), -ECONNRESET);
}

/* A signal to its group does not find it. */
Test(plugins, that_leave_their_group_are_killed) {
    check_killed("evade");
}

Test(plugins, that_leave_their_group_are_terminated) {
    (void)check_terminated("leave-group");
}

Test(plugins, are_stopped_while_they_start) {
    struct vouch_plugin_set *set;
    struct vouch_plugin *plugin;
    struct vouch_plugin_options options = plugin_options("hang-at-start", NULL, &told);
    cr_assert_eq(vouch_plugin_set_new(true, NULL, &set), 0);
    cr_assert_eq(vouch_plugin_set_add(set, &options, &plugin, NULL), 0);
    cr_assert_eq(vouch_plugin_stop(plugin), 1);
    cr_assert_eq(vouch_plugin_get_state(plugin), VOUCH_PLUGIN_ENDED);
    vouch_plugin_set_free(set);
}

static void stop_it(void *context, struct vouch_plugin *plugin,
                    const struct vouch_plugin_line *line) {
    (void)context;
    (void)line;
    vouch_plugin_begin_stop(plugin);
}

Test(plugins, a_callback_stops_while_they_start) {
    const char *const arguments[] = {"-c", "echo x >&2; exec sleep 60", NULL};
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    struct vouch_plugin *plugin = NULL;
    struct vouch_error error;
    options.program = "/bin/sh";
    options.arguments = arguments;
    options.on_line = stop_it;
    cr_assert_eq(vouch_plugin_start(&options, &plugin, &error), -ESHUTDOWN);
    HAS(error.message, "stopped it while it started");
    cr_assert_null(plugin);
}

/* ---- descendants ---- */

/* Who does not adopt its orphans can't wait for them. */
static int64_t at_once(void) {
    return plugin_is_portable() ? RPC_FAR_BELOW : 0;
}

static void spread(struct vouch_plugin *plugin, const char *path, pid_t *ret_pids) {
    rpc_check_call(client_of(plugin), "spread", path, 0, "");
    cr_assert_eq(plugin_read_pids(path, ret_pids, 10), 10);
    for (int i = 0; i < 10; i++)
        cr_assert(plugin_alive(ret_pids[i]));
}

Test(plugins, leave_no_descendants_when_stopped) {
    char path[SUPPORT_PATH_MAX];
    pid_t pids[10];
    struct vouch_plugin *plugin = plugin_open("serve", NULL);
    support_temp_path(path, "pids");
    spread(plugin, path, pids);
    cr_assert_eq(vouch_plugin_stop(plugin), 0);
    cr_assert(plugin_all_gone(pids, 10, at_once()),
              "they were gone before it was said to have ended");
    vouch_plugin_free(plugin);
}

Test(plugins, leave_no_descendants_when_they_crash) {
    char path[SUPPORT_PATH_MAX];
    pid_t pids[10];
    struct vouch_plugin *plugin = plugin_open("serve", &told);
    support_temp_path(path, "pids");
    spread(plugin, path, pids);
    rpc_check_call(client_of(plugin), "crash", "", -ECONNRESET, NULL);
    plugin_log_wait(&told, 2);
    cr_assert(plugin_all_gone(pids, 10, at_once()));
    vouch_plugin_free(plugin);
}

/* What else there may be about a host. */
enum { HOST_HELD = 1, HOST_WITHOUT_PIDFD = 2 };

/* As before Linux 5.3. */
static bool without_pidfd(void) {
#if defined(__linux__) && defined(SYS_pidfd_open)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof(code) / sizeof(code[0]), code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
#else
    return true;
#endif
}

/* A host of its own process, whose plugin tells its own pid and that of ten descendants. */
static pid_t host_with(const char *mode, const char *argument, const char *path, int how) {
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    pid_t host = fork();
    if (host == 0) {
        struct vouch_plugin_options options = plugin_options(mode, argument, NULL);
        struct vouch_plugin *plugin;
        dup2(open("/dev/null", O_RDWR), 1); /* who reads the test's output need not wait for us */
        dup2(1, 2);
        if (how & HOST_WITHOUT_PIDFD && !without_pidfd())
            _exit(1);
        if (vouch_plugin_start(&options, &plugin, NULL) != 0)
            _exit(1);
        char own[SUPPORT_PATH_MAX + 8];
        snprintf(own, sizeof(own), "%s.own", path);
        FILE *file = fopen(own, "w");
        fprintf(file, "%d\n", (int)vouch_plugin_get_pid(plugin));
        fclose(file);
        if (vouch_client_call(client_of(plugin), "spread", path, strlen(path), NULL, NULL, NULL))
            _exit(1);
        if (how & HOST_HELD && fork() == 0) { /* has all our descriptors */
            alarm(10);
            pause();
        }
        (void)!write(ready[1], "r", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return host;
}

static void check_host_killed(const char *mode, const char *argument, int how) {
    char path[SUPPORT_PATH_MAX], own[SUPPORT_PATH_MAX + 8];
    pid_t pids[11];
    support_temp_path(path, "pids");
    snprintf(own, sizeof(own), "%s.own", path);
    pid_t host = host_with(mode, argument, path, how);
    cr_assert_eq(plugin_read_pids(path, pids, 10), 10);
    cr_assert_eq(plugin_read_pids(own, pids + 10, 1), 1);
    for (int i = 0; i < 11; i++)
        cr_assert(plugin_alive(pids[i]));
    cr_assert_eq(kill(host, SIGKILL), 0);
    /* It takes milliseconds, a second without pidfd; a machine that is busy takes its time too. */
    cr_assert(plugin_all_gone(pids, 11, RPC_FAR_BELOW));
    cr_assert_eq(waitpid(host, NULL, 0), host);
}

Test(plugins, do_not_outlive_a_host_that_is_killed) {
    check_host_killed("serve", NULL, 0);
}

Test(plugins, that_are_stubborn_do_not_either) {
    check_host_killed("stubborn", NULL, 0);
}

/* By its pidfd, or asked for: no end of a socket tells it. */
Test(plugins, do_not_outlive_a_host_whose_descriptors_live_on) {
    check_host_killed("serve", NULL, HOST_HELD);
    check_host_killed("serve", NULL, HOST_HELD | HOST_WITHOUT_PIDFD);
}

/* Its descendants are in no group of the plugin's either. */
Test(plugins, that_leave_their_group_do_not_either) {
    if (plugin_is_portable())
        cr_skip_test("only the group is found");
    check_host_killed("evade", NULL, 0);
}

static int read_file(const char *path, char *text, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, room);
    if (fd >= 0)
        close(fd);
    return (int)size;
}

Test(plugins, hear_that_their_host_is_gone) {
    char path[SUPPORT_PATH_MAX], text[8];
    support_temp_path(path, "gone");
    check_host_killed("serve", path, 0);
    cr_assert_eq(read_file(path, text, sizeof(text)), 4);
}

/* Somebody kills the keeper: the kernel takes the plugin along, and it comes back. */
Test(plugins, survive_the_end_of_a_keeper) {
    char path[64], text[512];
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.restart_min = options.restart_max = VOUCH_MILLISECONDS(1);
    struct vouch_plugin *plugin = start_with(&options);
    pid_t pid = vouch_plugin_get_pid(plugin);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int size = read_file(path, text, sizeof(text) - 1);
    if (size <= 0)
        cr_skip_test("needs /proc");
    text[size] = '\0';
    int keeper = 0;
    cr_assert_eq(sscanf(strrchr(text, ')') + 1, " %*c %d", &keeper), 1);
    cr_assert_neq(keeper, getpid());
    cr_assert_eq(kill(keeper, SIGKILL), 0);
    plugin_log_wait(&told, 3);
    cr_assert_not(plugin_alive(pid));
    HAS(plugin_log_event(&told, 1).text, "not known");
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    vouch_plugin_free(plugin);
}

/* ---- what the host does with its children ---- */

Test(plugins, do_not_care_what_the_host_does_about_sigchld) {
    struct sigaction action = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGCHLD, &action, &before);
    struct vouch_plugin *plugin = plugin_open("serve", &told);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        cr_assert_fail("the host has seen a process of ours");
    rpc_check_call(client_of(plugin), "exit", "3", -ECONNRESET, NULL);
    plugin_log_wait(&told, 2);
    cr_assert_eq(plugin_log_event(&told, 1).exit_status, 3);
    vouch_plugin_free(plugin);
    sigaction(SIGCHLD, &before, NULL);
}

/* ---- floods ---- */

Test(plugins, that_write_100_megabytes_go_on_answering) {
    struct vouch_plugin *plugin = plugin_open("serve", &told);
    struct vouch_memory_stats before, after;
    struct rpc_outcome outcome;
    const char *much = VOUCH_TEST_SLOW ? "4000000" : "100000000";
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    vouch_memory_get_stats(&before);
    struct vouch_call_options patient = {VOUCH_OPTIONS(patient), .timeout = VOUCH_FOREVER};
    rpc_call_async(client_of(plugin), "write", much, &patient, &outcome, NULL);
    unsigned answered = 0;
    while (vouch_client_process(client_of(plugin)) == 0) {
        rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
        answered++;
        vouch_memory_get_stats(&after);
        cr_assert_lt(after.live_bytes, before.live_bytes + 1000000);
    }
    cr_assert_eq(outcome.result, 0, "%s", outcome.error.message);
    cr_assert_gt(answered, 0);
    cr_assert_eq(vouch_plugin_stop(plugin), 0);
    struct vouch_plugin_stats stats;
    vouch_plugin_get_stats(plugin, &stats);
    cr_assert_geq(stats.output_bytes, (uint64_t)atol(much));
    cr_assert_gt(stats.dropped, 0);
    vouch_plugin_free(plugin);
}

/* ---- again and again ---- */

Test(plugins, a_thousand_restarts, .timeout = 300) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, &told);
    options.restart_min = options.restart_max = 1;
    options.restarts_max = UINT32_MAX;
    struct vouch_plugin *plugin = start_with(&options);
    size_t fds = 0;
    struct vouch_memory_stats first, last;
    unsigned rounds = VOUCH_TEST_ROUNDS(1000, 30);
    for (unsigned i = 0; i < rounds; i++) {
        rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
        if (i == 10) {
            fds = support_count_fds();
            vouch_memory_get_stats(&first);
        }
        rpc_check_call(client_of(plugin), "exit", "1", -ECONNRESET, NULL);
    }
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    vouch_memory_get_stats(&last);
    cr_assert_leq(support_count_fds(), fds + 2);
    cr_assert_lt(last.live_bytes, first.live_bytes + 100000);
    struct vouch_plugin_stats stats;
    vouch_plugin_get_stats(plugin, &stats);
    cr_assert_eq(stats.starts, rounds + 1);
    vouch_plugin_free(plugin);
}

/* ---- sets ---- */

Test(plugins, in_a_set_start_and_stop_together) {
    struct vouch_plugin_set *set;
    struct vouch_plugin *plugin;
    char name[16];
    cr_assert_eq(vouch_plugin_set_new(true, NULL, &set), 0);
    for (int i = 0; i < 8; i++) {
        struct vouch_plugin_options options = plugin_options(i == 3 ? "exit" : "serve", "1", NULL);
        snprintf(name, sizeof(name), "p%d", i);
        options.name = name;
        cr_assert_eq(vouch_plugin_set_add(set, &options, &plugin, NULL), 0);
        cr_assert_eq(vouch_plugin_set_add(set, &options, &plugin, NULL), -EEXIST);
    }
    cr_assert_eq(vouch_plugin_set_wait(set, vouch_deadline_in(RPC_PATIENCE)), 7);
    cr_assert_null(vouch_plugin_set_find(set, "p9"));
    cr_assert_eq(vouch_plugin_get_state(vouch_plugin_set_find(set, "p3")), VOUCH_PLUGIN_ENDED);
    unsigned count = 0;
    for (plugin = NULL; (plugin = vouch_plugin_set_next(set, plugin)); count++)
        if (count != 3)
            rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    cr_assert_eq(count, 8);
    cr_assert_eq(vouch_plugin_get_fd(vouch_plugin_set_find(set, "p1")), -EBUSY);
    cr_assert_eq(vouch_plugin_stop(vouch_plugin_set_find(set, "p1")), 0);
    cr_assert_eq(vouch_plugin_set_stop(set, vouch_deadline_in(RPC_PATIENCE)), 0);
    vouch_plugin_set_free(set);
}

/* The loop's thread sees pipes of a plugin that is freed before it is begun. */
Test(plugins, of_a_set_that_can_not_begin_leave_nothing) {
    struct vouch_plugin_set *set;
    struct vouch_plugin *plugin;
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    struct rlimit before, few;
    cr_assert_eq(vouch_plugin_set_new(true, NULL, &set), 0);
    options.name = "first";
    cr_assert_eq(vouch_plugin_set_add(set, &options, &plugin, NULL), 0);
    cr_assert_eq(vouch_plugin_set_wait(set, vouch_deadline_in(RPC_PATIENCE)), 1);
    options.name = "second";
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    int top = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(top);
    for (unsigned room = 1; room < 10; room++) {
        int r = 0;
        few = (struct rlimit){(rlim_t)top + room, before.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        for (int i = 0; i < 1000 && r == 0; i++)
            r = vouch_plugin_set_add(set, &options, &plugin, NULL) == -EMFILE ? 0 : 1;
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (r != 0)
            break;
    }
    rpc_check_call(client_of(vouch_plugin_set_find(set, "first")), "echo", "x", 0, "x");
    vouch_plugin_set_free(set);
}

Test(plugins, in_a_set_are_killed_at_the_deadline) {
    struct vouch_plugin_set *set;
    cr_assert_eq(vouch_plugin_set_new(false, NULL, &set), 0);
    for (int i = 0; i < 3; i++) {
        char name[16];
        struct vouch_plugin_options options = plugin_options("stubborn", NULL, NULL);
        snprintf(name, sizeof(name), "p%d", i);
        options.name = name;
        cr_assert_eq(vouch_plugin_set_add(set, &options, NULL, NULL), 0);
    }
    cr_assert_eq(vouch_plugin_set_wait(set, vouch_deadline_in(RPC_PATIENCE)), 3);
    cr_assert_eq(vouch_plugin_set_stop(set, vouch_deadline_in(VOUCH_MILLISECONDS(100))), 3);
    vouch_plugin_set_free(set);
}

Test(plugins, of_a_directory) {
    struct vouch_plugin_set *set;
    struct vouch_error error;
    char path[SUPPORT_PATH_MAX];
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    cr_assert_eq(symlink(plugin_helper(), support_temp_path(path, "alpha")), 0);
    cr_assert_eq(symlink(plugin_helper(), support_temp_path(path, "beta")), 0);
    program_of(".hidden", "x", 1, 0700);
    program_of("README", "x", 1, 0600);
    cr_assert_eq(vouch_plugin_set_new(true, NULL, &set), 0);
    cr_assert_eq(vouch_plugin_set_load(set, support_temp_dir(), &options, &error), 2);
    cr_assert_eq(vouch_plugin_set_wait(set, vouch_deadline_in(RPC_PATIENCE)), 2);
    rpc_check_call(client_of(vouch_plugin_set_find(set, "beta")), "echo", "x", 0, "x");
    vouch_plugin_set_free(set);
    cr_assert_eq(vouch_plugin_set_new(false, NULL, &set), 0);
    program_of("gamma", "x", 1, 0722);
    cr_assert_eq(vouch_plugin_set_load(set, support_temp_dir(), &options, &error), -EPERM);
    HAS(error.message, "gamma");
    cr_assert_eq(vouch_plugin_set_load(set, "/no/such", &options, &error), -ENOENT);
    cr_assert_null(vouch_plugin_set_next(set, NULL), "none was started");
    vouch_plugin_set_free(set);
}

/* ---- on the plugin's side ---- */

Test(plugins, started_by_hand_say_what_they_are) {
    char text[512] = "";
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], 2);
        execl(plugin_helper(), "helper", (char *)NULL);
        _exit(99);
    }
    close(fds[1]);
    cr_assert_gt(read(fds[0], text, sizeof(text) - 1), 0);
    close(fds[0]);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    HAS(text, "helper is a plugin: a host program starts it");
}
