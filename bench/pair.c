/* SPDX-License-Identifier: MIT */
/*
 * Starting, ordering and ending peer programs. A wait for them ends with a signal: reads are not
 * restarted, and whoever is interrupted stops all pairs on its way out.
 */
#include "bench/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/case.h"
#include "bench/counters.h"
#include "bench/machine.h"

#define ANSWER_TIMEOUT 60000 /* ms without a word of a peer: it hangs */
#define SLICE 200            /* ms */
#define END_TIMEOUT 2000     /* ms */
#define TRACE_WORDS 7

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    (void)number;
    interrupted = 1;
}

void pair_catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool pair_interrupted(void) {
    return interrupted != 0;
}

/* ---- starting ---- */

static _Noreturn void become(const struct plan_way *way, const struct bench_case *what,
                             const struct pair_options *options, enum counters_side side) {
    char words[CASE_WORDS][CASE_WORD_SIZE], program[512], log[512];
    char *arguments[CASE_WORDS + TRACE_WORDS + 4];
    unsigned count = 0, used = case_words(what, words);
    snprintf(program, sizeof(program), "%s/%s", options->programs, way->program);
    if (options->trace) {
        snprintf(log, sizeof(log), "%s.%s", options->trace, side ? "server" : "client");
        const char *const trace[TRACE_WORDS] = {"strace", "-I", "2", "-f", "-c", "-o", log};
        for (unsigned i = 0; i < TRACE_WORDS; i++)
            arguments[count++] = (char *)trace[i];
    }
    arguments[count++] = program;
    arguments[count++] = (char *)way->system;
    arguments[count++] = side == COUNTERS_SERVER ? "serve" : "call";
    for (unsigned i = 0; i < used; i++)
        arguments[count++] = words[i];
    arguments[count] = NULL;
    if (options->counters >= 0) {
        char fd[16];
        snprintf(fd, sizeof(fd), "%d", options->counters);
        setenv(COUNTERS_FD, fd, 1);
        setenv(COUNTERS_SIDE, side == COUNTERS_SERVER ? "1" : "0", 1);
        setenv("LD_PRELOAD", options->preload, 1);
        fcntl(options->counters, F_SETFD, 0);
    }
    execvp(arguments[0], arguments);
    bench_die("%s: %s", arguments[0], strerror(errno));
}

/* The child's standard input and output are `in` and `out`. */
static pid_t start(const struct plan_way *way, struct bench_case what,
                   const struct pair_options *options, enum counters_side side, int in, int out) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    machine_die_with_parent();
    what.cpu = side == COUNTERS_SERVER ? options->cpu_server : options->cpu_client;
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        bench_die("dup2: %s", strerror(errno));
    become(way, &what, options, side);
}

/* A signal just before poll does not wake it: hence the slices. */
static bool wait_for(int fd) {
    struct pollfd pollfd = {fd, POLLIN, 0};
    for (int waited = 0; waited < ANSWER_TIMEOUT && !interrupted; waited += SLICE) {
        int r = poll(&pollfd, 1, SLICE);
        if (r != 0)
            return r > 0;
    }
    return false;
}

/* Whether `size` bytes come from the peer; not when it ends, hangs, or we are told to end. */
static bool expect(int fd, void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        if (!wait_for(fd))
            return false;
        ssize_t r = read(fd, (char *)data + done, size - done);
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

static bool start_server(struct pair *pair, const struct plan_way *way,
                         const struct bench_case *what, const struct pair_options *options) {
    int fds[2], nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char ready;
    if (nothing < 0 || pipe2(fds, O_CLOEXEC) < 0)
        bench_die("pipe: %s", strerror(errno));
    pair->server = start(way, *what, options, COUNTERS_SERVER, nothing, fds[1]);
    close(fds[1]);
    close(nothing);
    bool came = pair->server > 0 && expect(fds[0], &ready, 1);
    close(fds[0]);
    return came;
}

static bool start_client(struct pair *pair, const struct plan_way *way,
                         const struct bench_case *what, const struct pair_options *options) {
    int orders[2], reports[2];
    if (pipe2(orders, O_CLOEXEC) < 0 || pipe2(reports, O_CLOEXEC) < 0)
        bench_die("pipe: %s", strerror(errno));
    pair->client = start(way, *what, options, COUNTERS_CLIENT, orders[0], reports[1]);
    close(orders[0]);
    close(reports[1]);
    pair->orders = orders[1];
    pair->reports = reports[0];
    return pair->client > 0;
}

bool pair_start(struct pair *pair, const struct plan_way *way, const struct bench_case *what,
                const struct pair_options *options) {
    static unsigned number;
    struct bench_case own = *what;
    *pair = (struct pair){.orders = -1, .reports = -1};
    snprintf(pair->socket, sizeof(pair->socket), "%s/%u", options->directory, ++number);
    snprintf(own.address, sizeof(own.address), "%s", pair->socket);
    if (!start_server(pair, way, &own, options)) {
        pair_stop(pair);
        return false;
    }
    own.server = options->trace ? 0 : pair->server;
    if (start_client(pair, way, &own, options))
        return true;
    pair_stop(pair);
    return false;
}

bool pair_run(struct pair *pair, const struct bench_order *order, struct bench_report *ret_report) {
    return pair->orders >= 0 && bench_write_all(pair->orders, order, sizeof(*order)) &&
           expect(pair->reports, ret_report, sizeof(*ret_report));
}

/* ---- ending ---- */

/* By a signal that lets strace write what it counted; by one that nobody outlives if that fails. */
static void end(pid_t *pid) {
    const struct timespec moment = {.tv_nsec = 1000000};
    if (*pid > 0) {
        kill(*pid, SIGTERM);
        for (unsigned waited = 0; waitpid(*pid, NULL, WNOHANG) == 0; waited++) {
            if (waited == END_TIMEOUT)
                kill(*pid, SIGKILL);
            nanosleep(&moment, NULL);
        }
    }
    *pid = 0;
}

void pair_stop(struct pair *pair) {
    char lock[sizeof(pair->socket) + sizeof(".lock")];
    if (pair->orders >= 0) {
        close(pair->orders);
        close(pair->reports);
        pair->orders = pair->reports = -1;
    }
    end(&pair->client);
    end(&pair->server);
    unlink(pair->socket);
    snprintf(lock, sizeof(lock), "%s.lock", pair->socket); /* vouch leaves it, see vouch_listen */
    unlink(lock);
}
