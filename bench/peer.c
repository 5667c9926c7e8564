/* SPDX-License-Identifier: MIT */
/*
 * main of every peer program: peer_NAME SYSTEM serve|call NAME=VALUE…
 *
 * The server writes a byte to its standard output when it can be connected to. The client reads
 * orders (struct bench_order) from its standard input and writes a report for each to its standard
 * output; it ends with its input. Both end with the suite, whatever ends that.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/case.h"
#include "bench/machine.h"
#include "bench/measure.h"

void bench_ready(void) {
    if (!bench_write_all(STDOUT_FILENO, "r", 1))
        bench_die("nobody waits for this server");
}

static void call(const struct bench_system *system, const struct bench_case *what) {
    struct bench_order order;
    struct bench_report report;
    struct bench_meter *meter = bench_meter_new(system, what);
    while (bench_read_all(STDIN_FILENO, &order, sizeof(order))) {
        bench_meter_run(meter, &order, &report);
        if (!bench_write_all(STDOUT_FILENO, &report, sizeof(report)))
            break;
    }
    /* Not everything in a peer's library can be taken down while the other side goes, too. */
    _exit(0);
}

static void raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static const struct bench_system *find(const struct bench_system *const *systems, const char *name,
                                       enum bench_kind kind) {
    enum bench_kind wanted = kind == BENCH_SETUP ? BENCH_ECHO : kind;
    for (; *systems; systems++)
        if (strcmp((*systems)->name, name) == 0 && (*systems)->kind == wanted)
            return *systems;
    return NULL;
}

int bench_peer(int argc, char **argv, const struct bench_system *const *systems) {
    struct bench_case what;
    machine_die_with_parent();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* the suite hears it, too, and ends us */
    if (argc < 3)
        bench_die("this is for the benchmark suite, see make bench");
    case_init(&what);
    for (int i = 3; i < argc; i++)
        case_set(&what, argv[i]);
    const struct bench_system *system = find(systems, argv[1], what.kind);
    if (!system)
        bench_die("no system %s here that does this", argv[1]);
    raise_descriptors();
    if (what.cpu >= 0 && !machine_pin(what.cpu))
        bench_die("cannot run on processor %d", what.cpu);
    if (strcmp(argv[2], "serve") == 0)
        system->serve(&what);
    else
        call(system, &what);
    return 1;
}
