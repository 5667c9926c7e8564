/* SPDX-License-Identifier: MIT */
/*
 * The benchmark suite: suite [options] (--help lists them)
 *
 * For each group of cases it starts a server and a client of every way that takes part, and lets
 * them take turns, round after round, so that what else the machine does hits all of them alike. Of
 * a group's ways only one runs at a time; the others sleep. Allocations and system calls are
 * counted apart, since counting takes time.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vouch/common.h>

#include "bench/counters.h"
#include "bench/suite.h"

#define WAYS_MAX 32
#define MILLISECOND ((int64_t)1000000)
#define WARM_TIME (60 * MILLISECOND)
#define COUNT_TIME (80 * MILLISECOND)
#define COUNT_CALLS 2000
#define RENEW_CONNECTIONS 16 /* with more, making them takes longer than a round */
#define SPARE_DESCRIPTORS 128
#define PER_CONNECTION 3  /* descriptors, on the side that has most */
#define DESCRIPTORS 32768 /* enough for 10000 connections */

static int64_t begun;

const char *suite_missing(const struct suite *suite, const struct plan_way *way) {
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", suite->pairs.programs, way->program);
    if (access(path, X_OK) != 0)
        return way->package ? way->package : way->program;
#ifndef BENCH_JSON
    if (strcmp(way->system, "vouch-json") == 0)
        return way->package;
#endif
#ifndef BENCH_PROTO
    if (strcmp(way->system, "vouch-proto") == 0)
        return way->package;
#endif
    return NULL;
}

/* ---- one group ---- */

struct entry {
    const struct plan_way *way;
    struct bench_case what;
    struct pair pair;
    bool failed;
    struct bench_report reports[RESULTS_ROUNDS_MAX];
    unsigned rounds;
    struct bench_report counted;
    double syscalls;
};

static void progress(const struct plan_group *group, const char *what, unsigned turn) {
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%4.0f s  %s: %s %u", (double)(bench_now() - begun) / 1e9,
                group->name, what, turn);
}

static void progress_end(void) {
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

static bool takes_part(const struct suite *suite, const struct plan_way *way,
                       const struct plan_group *group) {
    return (way->sets & group->set) && (!suite->quick || (way->sets & PLAN_QUICK)) &&
           group->what.size >= way->size_min &&
           (way->size_max == 0 || group->what.size <= way->size_max) && !suite_missing(suite, way);
}

/* The case as this way can do it. */
static struct bench_case fit(const struct plan_way *way, const struct plan_group *group,
                             unsigned connections_max) {
    struct bench_case what = group->what;
    what.mode = way->mode;
    what.sndbuf = way->sndbuf;
    if (what.connections == 0 || (!way->shares && what.connections < what.callers))
        what.connections = what.callers;
    if (what.connections > connections_max)
        what.connections = connections_max;
    return what;
}

static unsigned gather(const struct suite *suite, const struct plan_group *group,
                       struct entry *entries) {
    unsigned count = 0, most = (suite->descriptors - SPARE_DESCRIPTORS) / PER_CONNECTION;
    if (group->what.connections > most)
        printf("  %u connections take more than the %u descriptors that we may have (ulimit -Hn): "
               "%u\n",
               group->what.connections, suite->descriptors, most);
    for (unsigned i = 0; i < plan_way_count && count < WAYS_MAX; i++)
        if (takes_part(suite, &plan_ways[i], group))
            entries[count++] = (struct entry){
                .way = &plan_ways[i], .what = fit(&plan_ways[i], group, most), .syscalls = NAN};
    return count;
}

static void fail_entry(struct entry *entry) {
    pair_stop(&entry->pair);
    entry->failed = true;
    if (pair_interrupted())
        return;
    progress_end();
    printf("  %-13s %-15s failed\n", entry->way->system,
           plan_mode_name(entry->way->mode, entry->way->sndbuf));
}

static void start_entry(const struct suite *suite, struct entry *entry) {
    const struct bench_order warm = {.time = WARM_TIME};
    struct pair_options options = suite->pairs;
    struct bench_report ignored;
    options.counters = -1;
    if (!pair_start(&entry->pair, entry->way, &entry->what, &options) ||
        !pair_run(&entry->pair, &warm, &ignored))
        fail_entry(entry);
    else
        entry->reports[0].idle_server = ignored.idle_server;
}

/* Where the scheduler has put two processes it leaves them for long, and that decides much: every
 * round has a new pair, so that the median is not that of one placement. */
static void renew_entry(const struct suite *suite, struct entry *entry) {
    if (entry->what.connections > RENEW_CONNECTIONS)
        return;
    uint64_t idle = entry->reports[0].idle_server;
    pair_stop(&entry->pair);
    start_entry(suite, entry);
    entry->reports[0].idle_server = idle;
}

static void run_rounds(const struct suite *suite, const struct plan_group *group,
                       struct entry *entries, unsigned count) {
    const struct bench_order order = {.time = suite->round_time};
    for (unsigned round = 0; round < suite->rounds; round++) {
        progress(group, "round", round + 1);
        for (unsigned i = 0; i < count && !pair_interrupted(); i++) {
            struct entry *entry = &entries[i];
            if (!entry->failed && round > 0)
                renew_entry(suite, entry);
            if (entry->failed)
                continue;
            if (!pair_run(&entry->pair, &order, &entry->reports[round]))
                fail_entry(entry);
            else if (entry->reports[round].calls == 0)
                fail_entry(entry);
            else
                entry->rounds = round + 1;
        }
    }
}

/* Allocations, with the interposer in both processes of a new pair. */
static void count_allocations(const struct suite *suite, struct entry *entry) {
    const struct bench_order warm = {.time = WARM_TIME},
                             order = {.time = COUNT_TIME, .calls = COUNT_CALLS};
    struct pair pair;
    bool ran = pair_start(&pair, entry->way, &entry->what, &suite->pairs) &&
               pair_run(&pair, &warm, &entry->counted) && pair_run(&pair, &order, &entry->counted);
    pair_stop(&pair);
    if (!ran)
        entry->counted.calls = 0;
}

static void count_entries(const struct suite *suite, const struct plan_group *group,
                          struct entry *entries, unsigned count) {
    for (unsigned i = 0; i < count && !pair_interrupted(); i++) {
        struct entry *entry = &entries[i];
        if (entry->failed || group->what.kind != BENCH_ECHO || group->what.connections > 16)
            continue;
        progress(group, "allocations", i + 1);
        if (suite->pairs.counters >= 0)
            count_allocations(suite, entry);
        progress(group, "system calls", i + 1);
        if (group->syscalls && suite->strace && (entry->way->sets & PLAN_TRACED))
            entry->syscalls = syscalls_count(suite, entry->way, &entry->what);
    }
}

static void keep_results(struct suite *suite, const struct plan_group *group, struct entry *entries,
                         unsigned count) {
    results_print_head(stdout);
    for (unsigned i = 0; i < count; i++) {
        struct entry *entry = &entries[i];
        if (entry->failed || entry->rounds == 0)
            continue;
        struct row *row = results_add(&suite->results, group, entry->way, &entry->what);
        row_set_reports(row, entry->reports, entry->rounds);
        if (entry->counted.calls > 0)
            row_set_allocations(row, &entry->counted);
        row->syscalls = entry->syscalls;
        results_print_row(row, stdout);
    }
    fflush(stdout);
}

static void run_group(struct suite *suite, const struct plan_group *group) {
    struct entry *entries = bench_alloc(WAYS_MAX * sizeof(*entries));
    struct machine machine;
    machine_get(&machine);
    printf("\n%s\n", group->name);
    fflush(stdout);
    unsigned count = gather(suite, group, entries);
    for (unsigned i = 0; i < count && !pair_interrupted(); i++) {
        progress(group, "start", i + 1);
        start_entry(suite, &entries[i]);
    }
    if (group->loaded)
        hogs_start(machine.cores);
    run_rounds(suite, group, entries, count);
    hogs_stop();
    for (unsigned i = 0; i < count; i++)
        pair_stop(&entries[i].pair);
    count_entries(suite, group, entries, count);
    progress_end();
    if (!pair_interrupted())
        keep_results(suite, group, entries, count);
    free(entries);
}

/* ---- all of them ---- */

static void say_missing(const struct suite *suite) {
    const char *last = "";
    for (unsigned i = 0; i < plan_way_count; i++) {
        const struct plan_way *way = &plan_ways[i];
        const char *package = suite_missing(suite, way);
        if (!package || strcmp(last, way->system) == 0 ||
            (suite->quick && !(way->sets & PLAN_QUICK)))
            continue;
        printf("skipped: %s needs %s (make bench-deps installs it)\n", way->system, package);
        last = way->system;
    }
    if (!suite->quick && !suite->strace)
        printf("skipped: counting system calls needs strace (make bench-deps installs it)\n");
}

static void run_groups(struct suite *suite) {
    for (unsigned i = 0; i < plan_group_count && !pair_interrupted(); i++) {
        const struct plan_group *group = &plan_groups[i];
        if ((suite->quick && !group->quick) || (suite->only && !strstr(group->name, suite->only)))
            continue;
        run_group(suite, group);
    }
}

static bool find_program(const char *name) {
    char paths[4096], *rest = paths, *path, file[4400];
    const char *all = getenv("PATH");
    snprintf(paths, sizeof(paths), "%s", all ? all : "");
    while ((path = strsep(&rest, ":"))) {
        snprintf(file, sizeof(file), "%s/%s", path, name);
        if (access(file, X_OK) == 0)
            return true;
    }
    return false;
}

static int open_counters(const char *preload) {
    if (access(preload, R_OK) != 0)
        return -1;
    int fd = memfd_create("bench-counters", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)sizeof(struct counters)) < 0)
        bench_die("memfd: %s", strerror(errno));
    return fd;
}

/* The peers inherit it. Beyond the hard limit only who is privileged gets. */
static void raise_descriptors(struct suite *suite) {
    struct rlimit limit, wanted = {DESCRIPTORS, DESCRIPTORS};
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        bench_die("getrlimit: %s", strerror(errno));
    if (limit.rlim_max >= DESCRIPTORS || setrlimit(RLIMIT_NOFILE, &wanted) < 0)
        wanted = (struct rlimit){limit.rlim_max, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &wanted);
    suite->descriptors = wanted.rlim_max > 1000000 ? 1000000 : (unsigned)wanted.rlim_max;
}

/* ---- command line ---- */

static const char usage[] = "usage: suite [options]\n"
                            "  --quick             the cases that matter most, under 45 seconds\n"
                            "  --only TEXT         groups whose name contains TEXT\n"
                            "  --rounds N          1 to 9; 5 unless said\n"
                            "  --time MS           of a round, for each way\n"
                            "  --pin CLIENT,SERVER processors that they run on\n"
                            "  --results FILE      what is written at the end\n";

static _Noreturn void misuse(const char *what, const char *value) {
    fprintf(stderr, "suite: %s %s (suite --help)\n", what, value);
    exit(2);
}

static long number(const char *name, const char *text, long from, long to) {
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < from || value > to)
        misuse(name, text);
    return value;
}

static void read_pins(struct suite *suite, char *text) {
    char *comma = strchr(text, ',');
    if (!comma)
        misuse("--pin wants CLIENT,SERVER, not", text);
    *comma = 0;
    suite->pairs.cpu_client = (int)number("--pin: no processor:", text, 0, 1023);
    suite->pairs.cpu_server = (int)number("--pin: no processor", comma + 1, 0, 1023);
}

static const char *read_options(struct suite *suite, int argc, char **argv) {
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'},        {"only", required_argument, NULL, 'o'},
        {"rounds", required_argument, NULL, 'r'}, {"time", required_argument, NULL, 't'},
        {"pin", required_argument, NULL, 'p'},    {"results", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    const char *results = "results.json";
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == 'q')
            suite->quick = true;
        else if (option == 'o')
            suite->only = optarg;
        else if (option == 'r')
            suite->rounds = (unsigned)number("--rounds: not", optarg, 1, RESULTS_ROUNDS_MAX);
        else if (option == 't')
            suite->round_time = number("--time: not", optarg, 1, 60000) * MILLISECOND;
        else if (option == 'p')
            read_pins(suite, optarg);
        else if (option == 'f')
            results = optarg;
        else if (option == 'h') {
            fputs(usage, stdout);
            exit(0);
        } else
            exit(2);
    }
    if (optind < argc)
        misuse("what is", argv[optind]);
    return results;
}

/* Where this program is: its peers are beside it. */
static char *own_directory(void) {
    char path[512];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (length <= 0)
        bench_die("/proc/self/exe: %s", strerror(errno));
    path[length] = 0;
    *strrchr(path, '/') = 0;
    return strdup(path);
}

static void print_machine(const struct machine *machine) {
    printf("%s, %s, %u cores; vouch %s\n", machine->system, machine->processor, machine->cores,
           VOUCH_VERSION_STRING);
    printf("times in µs; CPU and allocations per call, of client + server; medians over rounds\n");
}

int main(int argc, char **argv) {
    struct suite suite = {.rounds = 5};
    struct machine machine;
    char directory[300], preload[600];
    const char *base = getenv("TMPDIR");
    suite.pairs.cpu_client = suite.pairs.cpu_server = suite.pairs.counters = -1;
    const char *results = read_options(&suite, argc, argv);
    if (suite.round_time == 0)
        suite.round_time = (suite.quick ? 80 : 120) * MILLISECOND;
    char *programs = own_directory();
    pair_catch_signals();
    snprintf(preload, sizeof(preload), "%s/count_malloc.so", programs);
    snprintf(directory, sizeof(directory), "%s/vouch-bench.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(directory))
        bench_die("%s: %s", directory, strerror(errno));
    begun = bench_now();
    raise_descriptors(&suite);
    suite.strace = !suite.quick && find_program("strace");
    suite.pairs.programs = programs;
    suite.pairs.directory = directory;
    suite.pairs.preload = preload;
    suite.pairs.counters = open_counters(preload);
    machine_get(&machine);
    print_machine(&machine);
    say_missing(&suite);
    run_groups(&suite);
    if (!suite.quick && !suite.only && !pair_interrupted())
        original_print(&suite);
    rmdir(directory);
    if (pair_interrupted()) {
        fprintf(stderr, "suite: interrupted\n");
        return 130;
    }
    targets_print(&suite);
    int r = results_write_json(&suite.results, &machine, results);
    if (r < 0)
        bench_die("%s: %s", results, strerror(-r));
    printf("\n%u results in %s, after %.0f s\n", suite.results.count, results,
           (double)(bench_now() - begun) / 1e9);
    results_free(&suite.results);
    free(programs);
    return 0;
}
