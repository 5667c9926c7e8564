/* SPDX-License-Identifier: MIT */
/* A plugin as its host sees it: start, calls both ways, stop, what it is like in between. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

#include "tests/harness.h"
#include "tests/plugin_support.h"

static struct plugin_log plugin_told;

static void begin(void) {
    plugin_test_begin();
}

static void end(void) {
    plugin_test_end();
}

TestSuite(plugin, .init = begin, .fini = end);

static struct vouch_client *client_of(struct vouch_plugin *plugin) {
    return vouch_plugin_get_client(plugin);
}

Test(plugin, starts_is_called_and_stops) {
    struct vouch_plugin *plugin = plugin_open("serve", &plugin_told);
    cr_assert_str_eq(vouch_plugin_get_name(plugin), "helper");
    cr_assert_eq(vouch_plugin_get_state(plugin), VOUCH_PLUGIN_RUNNING);
    cr_assert_eq(vouch_plugin_get_version(plugin), 1);
    cr_assert_gt(vouch_plugin_get_pid(plugin), 0);
    rpc_check_call(client_of(plugin), "echo", "hello", 0, "hello");
    rpc_check_call(client_of(plugin), "nope", "", VOUCH_REMOTE_METHOD_NOT_FOUND, NULL);
    cr_assert_eq(vouch_plugin_stop(plugin), 0, "it ended when it was asked");
    cr_assert_eq(vouch_plugin_get_state(plugin), VOUCH_PLUGIN_ENDED);
    cr_assert_eq(vouch_plugin_get_pid(plugin), 0);
    rpc_check_call(client_of(plugin), "echo", "", -ESHUTDOWN, NULL);
    cr_assert_eq(vouch_plugin_stop(plugin), 0);
    vouch_plugin_free(plugin);
    cr_assert_eq(plugin_told.event_count, 2);
    cr_assert_eq(plugin_told.events[0].type, VOUCH_PLUGIN_STARTED);
    cr_assert_eq(plugin_told.events[1].type, VOUCH_PLUGIN_DOWN);
    cr_assert(plugin_told.events[1].asked);
    cr_assert_eq(plugin_told.events[1].exit_status, 0);
    cr_assert_eq(plugin_told.events[1].restart_in, -1);
}

Test(plugin, is_freed_while_it_runs) {
    struct vouch_plugin *plugin = plugin_open("serve", NULL);
    vouch_plugin_free(plugin);
    vouch_plugin_free(NULL);
}

Test(plugin, knows_who_calls) {
    struct vouch_plugin *plugin = plugin_open("serve", NULL);
    const struct vouch_identity *peer = vouch_client_get_peer(client_of(plugin));
    cr_assert_eq(peer->pid, vouch_plugin_get_pid(plugin), "not our own, as the kernel says");
    cr_assert_eq(peer->uid, geteuid());
    vouch_identity_unref(peer);
    vouch_plugin_free(plugin);
}

/* ---- the other way ---- */

Test(plugin, calls_its_host) {
    struct rpc_stage stage;
    struct vouch_plugin *plugin;
    rpc_stage_open(&stage, NULL);
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    options.server = stage.server;
    cr_assert_eq(vouch_plugin_start(&options, &plugin, NULL), 0);
    for (int i = 0; i < 10; i++)
        rpc_check_call(client_of(plugin), "call", "echo", 0, "from plugin");
    cr_assert_eq(atomic_load(&stage.runs), 10);
    vouch_plugin_free(plugin);
    rpc_stage_close(&stage);
}

Test(plugin, is_offered_nothing_unless_told) {
    struct vouch_plugin *plugin = plugin_open("serve", NULL);
    rpc_check_call(client_of(plugin), "call", "echo", VOUCH_REMOTE_SERVER, NULL);
    vouch_plugin_free(plugin);
}

/* The server may go first: the plugin then is without a host. */
Test(plugin, outlives_no_server) {
    struct rpc_stage stage;
    struct vouch_plugin *plugin;
    rpc_stage_open(&stage, NULL);
    struct vouch_plugin_options options = plugin_options("serve", NULL, &plugin_told);
    options.server = stage.server;
    options.restart = VOUCH_PLUGIN_RESTART_NEVER;
    cr_assert_eq(vouch_plugin_start(&options, &plugin, NULL), 0);
    cr_assert_eq(vouch_server_stop(stage.server, 0), 0);
    cr_assert_eq(vouch_plugin_wait(plugin, VOUCH_PLUGIN_ENDED, vouch_deadline_in(RPC_PATIENCE)), 0);
    vouch_plugin_free(plugin);
    rpc_stage_close(&stage);
}

/* ---- what it is like ---- */

static char *look(struct vouch_plugin *plugin) {
    struct vouch_reply reply;
    struct vouch_error error;
    cr_assert_eq(vouch_client_call(client_of(plugin), "look", NULL, 0, NULL, &reply, &error), 0,
                 "%s", error.message);
    char *text = calloc(1, reply.size + 1);
    cr_assert_not_null(text);
    memcpy(text, reply.data, reply.size);
    vouch_reply_release(&reply);
    return text;
}

static struct vouch_plugin *start_with(struct vouch_plugin_options *options) {
    struct vouch_plugin *plugin;
    struct vouch_error error;
    cr_assert_eq(vouch_plugin_start(options, &plugin, &error), 0, "%s", error.message);
    return plugin;
}

#define HAS(Text, What) cr_assert_not_null(strstr((Text), (What)), "%s in:\n%s", (What), (Text))
#define HAS_NOT(Text, What) cr_assert_null(strstr((Text), (What)), "%s in:\n%s", (What), (Text))

Test(plugin, has_an_environment_of_its_own) {
    static const char *const more[] = {"MINE=1", "EMPTY=", NULL};
    cr_assert_eq(setenv("SECRET", "s", 1), 0);
    cr_assert_eq(setenv("TZ", "UTC", 1), 0);
    signal(SIGPIPE, SIG_IGN);
    struct vouch_plugin_options options = plugin_options("serve", "an argument", NULL);
    options.environment = more;
    options.directory = "/";
    struct vouch_plugin *plugin = start_with(&options);
    char *text = look(plugin);
    HAS(text, "env MINE=1\n");
    HAS(text, "env EMPTY=\n");
    HAS(text, "env TZ=UTC\n");
    HAS_NOT(text, "SECRET");
    HAS_NOT(text, "VOUCH_PLUGIN_");
    HAS(text, "argument=an argument\n");
    HAS(text, "directory=/\n");
    HAS(text, "leader=1\n");
    if (!plugin_is_portable())
        HAS(text, "new_privileges=0\n");
    HAS(text, "blocked=0 ignored=0\n");
    HAS(text, "fds= 0 1 2\n");
    free(text);
    vouch_plugin_free(plugin);
    unsetenv("SECRET");
    signal(SIGPIPE, SIG_DFL);
}

Test(plugin, inherits_what_it_may) {
    static const char *const names[] = {"ALLOWED", "ABSENT", NULL};
    setenv("ALLOWED", "yes", 1);
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    options.inherit = names;
    options.allow_new_privileges = true;
    struct vouch_plugin *plugin = start_with(&options);
    char *text = look(plugin);
    HAS(text, "env ALLOWED=yes\n");
    HAS_NOT(text, "env PATH=");
    HAS(text, "new_privileges=1\n");
    free(text);
    vouch_plugin_free(plugin);
    unsetenv("ALLOWED");
}

Test(plugin, gets_descriptors_and_limits) {
    int fds[2];
    struct vouch_plugin_rlimit limit = {RLIMIT_NOFILE, 77, 100};
    cr_assert_eq(pipe(fds), 0);
    cr_assert_eq(write(fds[1], "through four", 12), 12);
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    options.fds = fds;
    options.fd_count = 1;
    options.rlimits = &limit;
    options.rlimit_count = 1;
    struct vouch_plugin *plugin = start_with(&options);
    close(fds[0]);
    close(fds[1]);
    char *text = look(plugin);
    HAS(text, "nofile=77\n");
    HAS(text, "fds= 0 1 2 4\n");
    HAS(text, "read4=through four\n");
    free(text);
    vouch_plugin_free(plugin);
}

/* The host's own descriptors may be the numbers that the plugin gets. */
Test(plugin, starts_from_a_host_without_standard_descriptors) {
    pid_t child = fork();
    if (child == 0) {
        struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
        struct vouch_plugin *plugin;
        for (int fd = 0; fd < 10; fd++)
            close(fd);
        int r = vouch_plugin_start(&options, &plugin, NULL);
        if (r == 0)
            r = vouch_client_call(client_of(plugin), "echo", "x", 1, NULL, NULL, NULL);
        if (r == 0)
            vouch_plugin_free(plugin);
        _exit(r == 0 ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

Test(plugin, runs_as_another_user) {
    if (geteuid() != 0)
        cr_skip_test("only root can switch users");
    gid_t groups[] = {4242, 4243};
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    options.switch_user = true;
    options.uid = 12345;
    options.gid = 4241;
    options.groups = groups;
    options.group_count = 2;
    struct vouch_plugin *plugin;
    struct vouch_error error;
    int r = vouch_plugin_start(&options, &plugin, &error);
    if (r == VOUCH_E_PLUGIN_EXEC && strstr(error.message, "may not be executed"))
        cr_skip_test("others can't get at the helper");
    cr_assert_eq(r, 0, "%s", error.message);
    char *text = look(plugin);
    HAS(text, "uid=12345 gid=4241 groups=2\n");
    const struct vouch_identity *peer = vouch_client_get_peer(client_of(plugin));
    cr_assert_eq(peer->uid, 12345);
    cr_assert_eq(vouch_identity_in_group(peer, 4243), 1);
    vouch_identity_unref(peer);
    free(text);
    vouch_plugin_free(plugin);
}

#if defined(__linux__)
/* A host as a service manager makes it: not root, with what it needs to be able to switch. */
static bool become_capable(void) {
    static const int wanted[] = {CAP_SETUID, CAP_SETGID, CAP_KILL};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0}};
    for (int i = 0; i < 3; i++)
        sets[0].permitted |= 1u << wanted[i];
    sets[0].effective = sets[0].inheritable = sets[0].permitted;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
        setresgid(12340, 12340, 12340) < 0 || setresuid(12340, 12340, 12340) < 0 ||
        syscall(SYS_capset, &header, sets) < 0)
        return false;
    for (int i = 0; i < 3; i++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, wanted[i], 0, 0) < 0)
            return false;
    return true;
}

/* 0: the program had no capabilities; 1: it had; 2: can't be known here. */
static int capabilities_of_plugin(void) {
    static const char *const arguments[] = {"^Cap", "/proc/self/status", NULL};
    struct vouch_plugin_options options = plugin_options("serve", NULL, &plugin_told);
    struct vouch_plugin *plugin;
    if (!become_capable())
        return 2;
    options.program = "/bin/grep";
    options.arguments = arguments;
    options.switch_user = true;
    options.uid = options.gid = 12345;
    if (vouch_plugin_start(&options, &plugin, NULL) == 0)
        return 1;
    unsigned empty = 0;
    for (unsigned i = 0; i < plugin_told.line_count; i++) {
        const char *text = plugin_told.lines[i].text;
        if (strncmp(text, "CapBnd", 6) == 0)
            continue;
        if (strspn(strchr(text, ':') + 1, " 0") != strlen(strchr(text, ':') + 1))
            return 1;
        empty++;
    }
    return empty > 0 ? 0 : 2;
}

Test(plugin, as_another_user_has_no_capabilities_of_its_hosts) {
    if (geteuid() != 0 || plugin_is_portable())
        cr_skip_test("only root can make such a host");
    pid_t child = fork();
    if (child == 0)
        _exit(capabilities_of_plugin());
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "%d", status);
    if (WEXITSTATUS(status) == 2)
        cr_skip_test("no such host can be made here");
    cr_assert_eq(WEXITSTATUS(status), 0);
}
#endif

/* ---- versions ---- */

Test(plugin, the_highest_version_that_both_know) {
    static const uint32_t mine[] = {1, 3, 2, 9};
    struct vouch_plugin_options options = plugin_options("versions", NULL, NULL);
    options.versions = mine;
    options.version_count = 4;
    struct vouch_plugin *plugin = start_with(&options);
    cr_assert_eq(vouch_plugin_get_version(plugin), 3);
    char *text = look(plugin);
    HAS(text, "version=3\n");
    free(text);
    vouch_plugin_free(plugin);
}

/* ---- output ---- */

Test(plugin, its_lines_come_to_the_host) {
    struct vouch_plugin *plugin = plugin_open("serve", &plugin_told);
    rpc_check_call(client_of(plugin), "lines", "", 0, "");
    cr_assert_eq(vouch_plugin_stop(plugin), 0);
    vouch_plugin_free(plugin);
    cr_assert_eq(plugin_told.line_count, 5);
    unsigned seen = 0;
    for (unsigned i = 0; i < 5; i++) {
        const char *text = plugin_told.lines[i].text;
        int stream = plugin_told.lines[i].stream, level = (int)plugin_told.lines[i].level;
        if (strcmp(text, "plain on stdout") == 0 && stream == 1)
            seen |= 1;
        else if (strcmp(text, "plain on stderr") == 0 && stream == 2)
            seen |= 2;
        else if (strcmp(text, "it \"works\" \xc3\xa4") == 0 && level == VOUCH_PLUGIN_LEVEL_WARN)
            seen |= 4;
        else if (strcmp(text, "{\"level\":\"nonsense\"}") == 0 && level == VOUCH_PLUGIN_LEVEL_PLAIN)
            seen |= 8;
        else if (strcmp(text, "no end") == 0)
            seen |= 16;
    }
    cr_assert_eq(seen, 31);
}

/* ---- without a thread of the library's ---- */

Test(plugin, in_a_foreign_loop) {
    rpc_need_loop_descriptor();
    struct vouch_plugin_options options = plugin_options("serve", NULL, &plugin_told);
    struct rpc_outcome outcome;
    options.threaded = false;
    struct vouch_plugin *plugin = start_with(&options);
    int fd = vouch_plugin_get_fd(plugin);
    cr_assert_geq(fd, 0);
    rpc_call_async(client_of(plugin), "echo", "loop", NULL, &outcome, NULL);
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (atomic_load(&outcome.callbacks) == 0 && vouch_now() < give_up) {
        struct pollfd poll_fd = {.fd = fd, .events = vouch_plugin_get_events(plugin)};
        int64_t timeout = vouch_plugin_get_timeout(plugin);
        poll(&poll_fd, 1, timeout > VOUCH_SECONDS(1) ? 1000 : (int)(timeout / 1000000) + 1);
        cr_assert_eq(vouch_plugin_process(plugin), 0);
        cr_assert_geq(vouch_client_process(client_of(plugin)), 0);
    }
    cr_assert_eq(outcome.result, 0);
    vouch_plugin_begin_stop(plugin);
    while (vouch_plugin_get_state(plugin) != VOUCH_PLUGIN_ENDED && vouch_now() < give_up) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        poll(&poll_fd, 1, 100);
        cr_assert_eq(vouch_plugin_process(plugin), 0);
    }
    cr_assert_eq(vouch_plugin_get_state(plugin), VOUCH_PLUGIN_ENDED);
    vouch_plugin_free(plugin);
    cr_assert_eq(plugin_told.event_count, 2);
}

static void *run_it(void *context) {
    cr_assert_eq(vouch_plugin_run(context), 0);
    return NULL;
}

Test(plugin, in_a_thread_of_the_program) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    options.threaded = false;
    struct vouch_plugin *plugin = start_with(&options);
    pthread_t thread = support_thread_start(run_it, plugin);
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    cr_assert_eq(vouch_plugin_stop(plugin), 0);
    support_thread_join(thread);
    vouch_plugin_free(plugin);
}

/* ---- inside a callback ---- */

static struct { int started, down; } called;

static void call_back(void *context, struct vouch_plugin *plugin,
                      const struct vouch_plugin_event *event) {
    int r = vouch_client_call(client_of(plugin), "echo", "x", 1, NULL, NULL, NULL);
    (void)context;
    if (event->type == VOUCH_PLUGIN_STARTED)
        called.started = r;
    else
        called.down = r;
}

Test(plugin, is_not_called_by_who_reads_its_reply) {
    rpc_need_loop_descriptor(); /* without one others read */
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    options.on_event = call_back;
    options.restart_min = options.restart_max = VOUCH_MILLISECONDS(1);
    struct vouch_plugin *plugin = start_with(&options);
    cr_assert_eq(called.started, -EDEADLK);
    called.started = 1;
    rpc_check_call(client_of(plugin), "exit", "1", -ECONNRESET, NULL);
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    cr_assert_eq(vouch_plugin_stop(plugin), 0);
    cr_assert_eq(called.started, -EDEADLK);
    cr_assert_eq(called.down, -ESHUTDOWN, "it has been stopped");
    vouch_plugin_free(plugin);
}

Test(plugin, is_called_in_a_callback_if_others_read) {
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    struct vouch_server *server;
    cr_assert_eq(vouch_server_new(NULL, &server), 0);
    cr_assert_eq(vouch_server_start(server), 0);
    options.server = server;
    options.on_event = call_back;
    options.restart_min = options.restart_max = VOUCH_SECONDS(1000);
    struct vouch_plugin *plugin = start_with(&options);
    cr_assert_eq(called.started, 0);
    rpc_check_call(client_of(plugin), "exit", "1", -ECONNRESET, NULL);
    cr_assert_eq(vouch_plugin_wait(plugin, VOUCH_PLUGIN_WAITING, vouch_deadline_in(RPC_PATIENCE)),
                 0);
    vouch_plugin_free(plugin);
    cr_assert_eq(called.down, -EDEADLK);
    vouch_server_free(server);
}

/* ---- what is refused ---- */

Test(plugin, options_out_of_their_range) {
    struct vouch_plugin *plugin;
    static const char *const bad[] = {"VOUCH_PLUGIN_FD=9", NULL};
    static const uint32_t zero[] = {0};
#define REFUSED(Field, Value)                                                                      \
    do {                                                                                           \
        struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);                 \
        options.Field = Value;                                                                     \
        cr_assert_eq(vouch_plugin_start(&options, &plugin, NULL), -EINVAL, #Field);                \
    } while (0)
    REFUSED(program, NULL);
    REFUSED(program, "");
    REFUSED(program, "/bin/");
    REFUSED(name, "two words");
    REFUSED(name, "");
    REFUSED(environment, bad);
    REFUSED(start_timeout, -1);
    REFUSED(ping_interval, 1);
    REFUSED(line_max, VOUCH_PLUGIN_LINE_BOUND + 1);
    REFUSED(group_count, 65);
    REFUSED(rlimit_count, 1);
    REFUSED(fd_count, 17);
    struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
    options.versions = zero;
    options.version_count = 1;
    cr_assert_eq(vouch_plugin_start(&options, &plugin, NULL), -EINVAL);
    cr_assert_eq(vouch_plugin_start(NULL, &plugin, NULL), -EINVAL);
    int closed = 999;
    options = plugin_options("serve", NULL, NULL);
    options.fds = &closed;
    options.fd_count = 1;
    cr_assert_eq(vouch_plugin_start(&options, &plugin, NULL), -EBADF);
}

/* Each allocation of a start fails once: it fails, or does without; nothing is left either way. */
Test(plugin, starts_without_memory_fail_cleanly) {
    for (uint64_t nth = 1;; nth++) {
        struct support_allocator allocator;
        struct vouch_plugin *plugin;
        struct vouch_plugin_options options = plugin_options("serve", NULL, NULL);
        support_allocator_init(&allocator);
        support_allocator_fail(&allocator, nth, SUPPORT_FAIL_ONCE);
        options.allocator = &allocator.allocator;
        int r = vouch_plugin_start(&options, &plugin, NULL);
        cr_assert(r == 0 || r == -ENOMEM, "allocation %d: %d", (int)nth, r);
        if (r == 0)
            vouch_plugin_free(plugin);
        support_allocator_check(&allocator);
        if (allocator.injected == 0)
            break;
        cr_assert_lt(nth, 500);
    }
}

Test(plugin, belongs_to_who_made_it) {
    struct vouch_plugin *plugin = plugin_open("serve", NULL);
    pid_t child = fork();
    if (child == 0) {
        bool ok = vouch_plugin_stop(plugin) == -ECHILD && vouch_plugin_run(plugin) == -ECHILD &&
                  vouch_plugin_get_fd(plugin) == -ECHILD && vouch_plugin_process(plugin) == -ECHILD;
        vouch_plugin_free(plugin);
        _exit(ok ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    rpc_check_call(client_of(plugin), "echo", "x", 0, "x");
    vouch_plugin_free(plugin);
}
