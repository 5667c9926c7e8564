/* SPDX-License-Identifier: MIT */
/*
 * The program that tests run as a plugin: helper MODE [ARGUMENT]. What it does wrong, and when, its
 * mode says; `serve` does it right.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vouch/vouch.h>

extern char **environ;

static struct vouch_client *host;
static uint32_t version;
static const char *argument = "";
static sigset_t mask; /* as it began */

static _Noreturn void hang(void) {
    for (;;)
        pause();
}

/* ---- methods ---- */

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    return vouch_call_reply(call, data, size);
}

static int crash(void *context, struct vouch_call *call) {
    (void)context;
    (void)call;
    signal(SIGSEGV, SIG_DFL); /* a sanitizer's */
    kill(getpid(), SIGSEGV);  /* not raise: the library's threads block signals */
    hang();
}

static int quit(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    _exit(size > 0 ? data[0] - '0' : 0);
}

static int wait_long(void *context, struct vouch_call *call) {
    (void)context;
    (void)vouch_call_wait_cancelled(call, VOUCH_FOREVER);
    return VOUCH_REMOTE_CANCELLED;
}

/* Works on for so many milliseconds, whoever cancels it. */
static int work(void *context, struct vouch_call *call) {
    size_t size;
    char text[16] = "";
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    memcpy(text, data, size < sizeof(text) ? size : sizeof(text) - 1);
    (void)usleep((useconds_t)atoi(text) * 1000);
    return vouch_call_reply(call, "done", 4);
}

/* A megabyte, after a moment. */
static int large(void *context, struct vouch_call *call) {
    struct vouch_buffer *reply;
    (void)context;
    (void)usleep(20000);
    int r = vouch_call_get_buffer(call, 1 << 20, &reply);
    if (r < 0)
        return r;
    memset(reply->data, 'x', 1 << 20);
    reply->size = 1 << 20;
    return vouch_call_reply_buffer(call, reply);
}

/* Calls the host's method of that name. */
static int call_host(void *context, struct vouch_call *call) {
    char method[64] = "";
    size_t size;
    struct vouch_reply reply;
    struct vouch_error error;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    memcpy(method, data, size < sizeof(method) ? size : sizeof(method) - 1);
    int r = vouch_client_call(host, method, "from plugin", 11, NULL, &reply, &error);
    if (r != 0)
        return vouch_call_fail(call, VOUCH_REMOTE_SERVER, "%s", error.message);
    r = vouch_call_reply(call, reply.data, reply.size);
    vouch_reply_release(&reply);
    return r;
}

/* What the process is like, a line each. */
static int look(void *context, struct vouch_call *call) {
    static char text[65536];
    char here[4096];
    size_t used = 0;
    gid_t groups[64];
    struct rlimit limit;
    int count = getgroups(64, groups);
    (void)context;
#define SAY(...) used += (size_t)snprintf(text + used, sizeof(text) - used, __VA_ARGS__)
    SAY("version=%u\nargument=%s\ndirectory=%s\n", version, argument,
        getcwd(here, sizeof(here)) ? here : "?");
    SAY("uid=%d gid=%d groups=%d\n", (int)getuid(), (int)getgid(), count);
    SAY("leader=%d\nnew_privileges=%d\n", getpgrp() == getpid(),
        !prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    getrlimit(RLIMIT_NOFILE, &limit);
    SAY("nofile=%d\n", (int)limit.rlim_cur);
    SAY("blocked=%d ignored=%d\n", sigismember(&mask, SIGTERM) || sigismember(&mask, SIGCHLD),
        signal(SIGPIPE, SIG_DFL) == SIG_IGN);
    SAY("fds=");
    for (int fd = 0; fd < 256; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
            SAY(" %d", fd);
    SAY("\nread4=");
    if (fcntl(4, F_GETFD) >= 0) {
        ssize_t size = read(4, here, sizeof(here));
        SAY("%.*s", size > 0 ? (int)size : 0, here);
    }
    SAY("\n");
    for (char **entry = environ; *entry; entry++)
        SAY("env %s\n", *entry);
    return vouch_call_reply(call, text, used);
}

/* ---- descendants ---- */

/* So many children that ignore SIGTERM, every other one in a session of its own and a child of a
 * child that has gone. Their pids go to the file that the argument names. */
static void spread(int count, const char *path) {
    FILE *file = fopen(path, "w");
    int ready[2];
    char byte;
    if (!file || pipe(ready) < 0)
        exit(9);
    for (int i = 0; i < count; i++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGTERM, SIG_IGN);
            if (i % 2 && !getenv("NO_SESSIONS")) {
                setsid();
                if (fork() != 0)
                    _exit(0);
            }
            pid_t self = getpid();
            (void)!write(ready[1], &self, sizeof(self));
            hang();
        }
    }
    for (int i = 0; i < count; i++) {
        pid_t pid;
        if (read(ready[0], &pid, sizeof(pid)) == sizeof(pid))
            fprintf(file, "%d\n", (int)pid);
    }
    fclose(file);
    (void)byte;
}

static int spread_method(void *context, struct vouch_call *call) {
    char path[256] = "";
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    memcpy(path, data, size < sizeof(path) ? size : sizeof(path) - 1);
    spread(10, path);
    return 0;
}

static int freeze(void *context, struct vouch_call *call) {
    (void)context;
    (void)call;
    kill(getpid(), SIGSTOP);
    hang();
}

/* ---- writing ---- */

static int write_much(void *context, struct vouch_call *call) {
    static char line[4096];
    size_t size;
    char text[16] = "";
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    memcpy(text, data, size < sizeof(text) ? size : sizeof(text) - 1);
    memset(line, 'x', sizeof(line));
    for (size_t i = 127; i < sizeof(line); i += 128)
        line[i] = '\n';
    for (long left = atol(text); left > 0; left -= (long)sizeof(line))
        if (write(2, line, sizeof(line)) < 0)
            return -errno;
    return 0;
}

static int write_lines(void *context, struct vouch_call *call) {
    (void)context;
    dprintf(1, "plain on stdout\n");
    dprintf(2, "plain on stderr\n");
    dprintf(2, "{\"time\":1.5,\"level\":\"warn\",\"nested\":{\"level\":\"x\"},\"message\":\"it "
               "\\\"works\\\" \\u00e4\"}\n");
    dprintf(1, "{\"level\":\"nonsense\"}\n");
    dprintf(1, "no end");
    return vouch_call_reply(call, NULL, 0);
}

/* ---- the handshake, by hand ---- */

static void say(const char *format, const char *token) {
    char line[1024];
    int size = snprintf(line, sizeof(line), format, token);
    (void)!write(3, line, (size_t)size);
}

static _Noreturn void drain_and_exit(int status) {
    char bytes[256];
    ssize_t size;
    while ((size = read(3, bytes, sizeof(bytes))) > 0)
        fprintf(stderr, "host: %.*s", (int)size, bytes);
    exit(status);
}

/* Modes that end in main. */
static void misbehave(const char *mode) {
    const char *token = getenv("VOUCH_PLUGIN_TOKEN");
    if (strcmp(mode, "exit") == 0) {
        fprintf(stderr, "first line\nthe last words\n");
        exit(atoi(argument));
    }
    if (strcmp(mode, "crash-at-start") == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if (strcmp(mode, "hang-at-start") == 0)
        hang();
    if (strcmp(mode, "hang-hard") == 0) {
        signal(SIGTERM, SIG_IGN);
        hang();
    }
    if (strcmp(mode, "close-and-hang") == 0) {
        close(3);
        hang();
    }
    if (strcmp(mode, "half-hello") == 0) {
        say("vouch-plugin 1 %.10s", token);
        exit(4);
    }
    if (strcmp(mode, "hello-then-die") == 0) {
        say("vouch-plugin 1 %s 1 helper\n", token);
        exit(5);
    }
    if (strcmp(mode, "nonsense") == 0) {
        say("hello, world: %s\n", token);
        drain_and_exit(6);
    }
    if (strcmp(mode, "endless") == 0) {
        for (int i = 0; i < 100; i++)
            say("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx%.1s", token);
        drain_and_exit(6);
    }
    if (strcmp(mode, "too-eager") == 0) {
        say("vouch-plugin 1 %s 1 helper\nand more", token);
        drain_and_exit(6);
    }
    if (strcmp(mode, "protocol-2") == 0) {
        say("vouch-plugin 2 %s 1 helper\n", token);
        drain_and_exit(6);
    }
    if (strcmp(mode, "wrong-token") == 0) {
        say("vouch-plugin 1 0123456789abcdef0123456789abcdef 1 helper\n", token);
        drain_and_exit(6);
    }
    if (strcmp(mode, "welcome-then-die") == 0) {
        char byte;
        say("vouch-plugin 1 %s 1 helper\n", token);
        (void)!read(3, &byte, 1);
        exit(7);
    }
    if (strcmp(mode, "welcome-then-hang") == 0) {
        say("vouch-plugin 1 %s 1 helper\n", token);
        hang();
    }
    if (strcmp(mode, "flood-at-start") == 0) {
        for (int i = 0; i < 100000; i++)
            fprintf(stderr, "flood %d\n", i);
        exit(8);
    }
}

/* ---- doing it right ---- */

static int on_ready(void *context, uint32_t chosen, struct vouch_client *client) {
    (void)context;
    version = chosen;
    host = client;
    return 0;
}

static void on_host_gone(void *context) {
    (void)context;
    if (argument[0] == '/') {
        int fd = open(argument, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        (void)!write(fd, "gone", 4);
        close(fd);
    }
}

static void add(struct vouch_server *server, const char *name, vouch_handler handler) {
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = name, .handler = handler};
    if (vouch_server_add_method(server, &method) < 0)
        exit(2);
}

/* Out of the way of what is sent to its group, and of the end of its parent. */
static void evade(void) {
    if (setpgid(0, getpgid(getppid())) < 0)
        exit(9);
#if defined(__linux__)
    prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
#endif
}

int main(int argc, char **argv) {
    static const uint32_t versions[] = {2, 3, 7};
    const char *mode = argc > 1 ? argv[1] : "serve";
    struct vouch_server *server;
    struct vouch_error error;
    argument = argc > 2 ? argv[2] : "";
    sigprocmask(SIG_SETMASK, NULL, &mask);
    misbehave(mode);
    bool evasive = strcmp(mode, "evade") == 0, stubborn = evasive || strcmp(mode, "stubborn") == 0;
    if (stubborn)
        signal(SIGTERM, SIG_IGN);
    if (evasive || strcmp(mode, "leave-group") == 0)
        evade();
    if (strcmp(mode, "spread") == 0)
        spread(10, argument);
    if (vouch_server_new(NULL, &server) < 0)
        return 2;
    add(server, "echo", echo);
    add(server, "crash", crash);
    add(server, "exit", quit);
    add(server, "wait", wait_long);
    add(server, "work", work);
    add(server, "large", large);
    add(server, "call", call_host);
    add(server, "look", look);
    add(server, "spread", spread_method);
    add(server, "freeze", freeze);
    add(server, "write", write_much);
    add(server, "lines", write_lines);
    struct vouch_plugin_serve_options options = {
        VOUCH_OPTIONS(options),
        .name = "helper",
        .versions = strcmp(mode, "versions") == 0 ? versions : NULL,
        .version_count = strcmp(mode, "versions") == 0 ? 3 : 0,
        .server = server,
        .on_ready = on_ready,
        .on_host_gone = on_host_gone,
    };
    int r = vouch_plugin_serve(&options, &error);
    if (r < 0)
        fprintf(stderr, "%s\n", error.message);
    if (stubborn)
        hang();
    vouch_server_free(server);
    return r == 0 ? 0 : 1;
}
