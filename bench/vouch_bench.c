/* SPDX-License-Identifier: MIT */
/*
 * vouch-bench: how long calls take here, between this process and a server that it starts, or one
 * that runs already. See vouch-bench(1).
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/measure.h"
#include "bench/vouch_parts.h"

#define DURATION_DEFAULT VOUCH_SECONDS(2)
#define WARM_TIME VOUCH_MILLISECONDS(200)
#define CALLERS_MAX 4096
#define CONNECTIONS_MAX 100000

struct settings {
    struct bench_case what;
    const char *codec;
    const char *serve, *connect; /* addresses; NULL: both sides are here */
    struct bench_order order;
    int cpu_server;
    bool json;
};

static int ready_fd = -1;
static char directory[300]; /* of our own socket; "": there is none */
static volatile pid_t server_pid;

void bench_ready(void) {
    if (ready_fd >= 0 && !bench_write_all(ready_fd, "r", 1))
        bench_die("nobody waits for this server");
}

/* ---- command line ---- */

static const char usage[] =
    "usage: vouch-bench [options]\n"
    "  --size BYTES          of request and reply, with K or M if you like; 1K\n"
    "  --callers N           threads that call; 1\n"
    "  --connections N       that they share; 1\n"
    "  --in-flight N         asynchronous calls of one thread at a time, instead of callers\n"
    "  --count N             calls, or\n"
    "  --duration SECONDS    whichever ends first; 2 s when neither is said\n"
    "  --codec NAME          bytes, json or proto; bytes\n"
    "  --polling MODE        adaptive, off or always; adaptive\n"
    "  --budget MICROSECONDS longest poll\n"
    "  --packets             over SOCK_SEQPACKET instead of a stream\n"
    "  --pin CLIENT,SERVER   processors to run on\n"
    "  --serve ADDRESS       only serve, until killed\n"
    "  --connect ADDRESS     only call a vouch-bench --serve\n"
    "  --json                print one JSON object\n"
    "  --version, --help\n";

static _Noreturn void misuse(const char *option, const char *value, const char *wanted) {
    fprintf(stderr, "vouch-bench: %s %s: %s (vouch-bench --help)\n", option, value, wanted);
    exit(2);
}

static long long read_number(const char *option, const char *text, long long from, long long to,
                             const char *wanted) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end || value < from || value > to)
        misuse(option, text, wanted);
    return value;
}

static size_t read_size(const char *text) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end != text && value > 0 && value <= (long long)BENCH_SIZE_MAX) {
        if (*end == 'K' || *end == 'k') {
            value <<= 10;
            end++;
        } else if (*end == 'M') {
            value <<= 20;
            end++;
        }
    }
    if (errno != 0 || end == text || *end || value < 1 || value > (long long)BENCH_SIZE_MAX)
        misuse("--size", text, "from 1 to 64M bytes");
    return (size_t)value;
}

static int64_t read_seconds(const char *text) {
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0.001) || seconds > 86400)
        misuse("--duration", text, "seconds, from 0.001 to 86400");
    return (int64_t)(seconds * 1e9);
}

static enum bench_mode read_mode(const char *text) {
    static const char *const names[] = {"adaptive", "off", "always"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0)
            return (enum bench_mode)i;
    misuse("--polling", text, "adaptive, off or always");
}

static void read_pins(struct settings *settings, const char *text) {
    char client[16];
    const char *comma = strchr(text, ','), *wanted = "two processors as 0,1";
    if (!comma || comma - text >= (long)sizeof(client))
        misuse("--pin", text, wanted);
    snprintf(client, sizeof(client), "%.*s", (int)(comma - text), text);
    settings->what.cpu = (int)read_number("--pin", client, 0, 1023, wanted);
    settings->cpu_server = (int)read_number("--pin", comma + 1, 0, 1023, wanted);
}

static const struct bench_system *find_codec(const char *codec) {
    char name[32];
    snprintf(name, sizeof(name), "vouch-%.20s", codec);
    for (const struct bench_system *const *system = vouch_systems; *system; system++)
        if ((*system)->kind == BENCH_ECHO && strcmp((*system)->name, name) == 0)
            return *system;
    bool known = strcmp(codec, "json") == 0 || strcmp(codec, "proto") == 0;
    misuse("--codec", codec, known ? "not in this build" : "bytes, json or proto");
}

static const char *read_address(const char *option, const char *text) {
    struct bench_case *none = NULL;
    if (!*text || strlen(text) >= sizeof(none->address))
        misuse(option, text, "a path of 1 to 255 bytes");
    return text;
}

enum { SIZE = 256, CALLERS, CONNECTIONS, IN_FLIGHT, COUNT, DURATION, CODEC, POLLING };
enum { BUDGET = 300, PACKETS, PIN, SERVE, CONNECT, JSON, VERSION, HELP };

static const struct option options[] = {{"size", required_argument, NULL, SIZE},
                                        {"callers", required_argument, NULL, CALLERS},
                                        {"connections", required_argument, NULL, CONNECTIONS},
                                        {"in-flight", required_argument, NULL, IN_FLIGHT},
                                        {"count", required_argument, NULL, COUNT},
                                        {"duration", required_argument, NULL, DURATION},
                                        {"codec", required_argument, NULL, CODEC},
                                        {"polling", required_argument, NULL, POLLING},
                                        {"budget", required_argument, NULL, BUDGET},
                                        {"packets", no_argument, NULL, PACKETS},
                                        {"pin", required_argument, NULL, PIN},
                                        {"serve", required_argument, NULL, SERVE},
                                        {"connect", required_argument, NULL, CONNECT},
                                        {"json", no_argument, NULL, JSON},
                                        {"version", no_argument, NULL, VERSION},
                                        {"help", no_argument, NULL, HELP},
                                        {NULL, 0, NULL, 0}};

static void read_what_is_called(struct settings *settings, int option) {
    struct bench_case *what = &settings->what;
    if (option == SIZE)
        what->size = read_size(optarg);
    else if (option == CALLERS)
        what->callers =
            (unsigned)read_number("--callers", optarg, 1, CALLERS_MAX, "from 1 to 4096");
    else if (option == CONNECTIONS)
        what->connections =
            (unsigned)read_number("--connections", optarg, 1, CONNECTIONS_MAX, "from 1 to 100000");
    else if (option == IN_FLIGHT)
        what->in_flight = (unsigned)read_number("--in-flight", optarg, 1, 65535, "from 1 to 65535");
    else if (option == COUNT)
        settings->order.calls =
            (uint64_t)read_number("--count", optarg, 1, 1000000000000, "at least 1");
    else
        settings->order.time = read_seconds(optarg);
}

static void read_how(struct settings *settings, int option) {
    if (option == CODEC)
        settings->codec = optarg;
    else if (option == POLLING)
        settings->what.mode = read_mode(optarg);
    else if (option == BUDGET)
        settings->what.budget =
            read_number("--budget", optarg, 1, VOUCH_POLLING_BUDGET_BOUND / 1000,
                        "microseconds, from 1 to 10000") *
            1000;
    else if (option == PACKETS)
        settings->what.packets = true;
    else if (option == PIN)
        read_pins(settings, optarg);
    else if (option == SERVE)
        settings->serve = read_address("--serve", optarg);
    else if (option == CONNECT)
        settings->connect = read_address("--connect", optarg);
    else
        settings->json = true;
}

static void read_options(struct settings *settings, int argc, char **argv) {
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (option == '?')
            exit(2);
        if (option == HELP || option == VERSION) {
            printf("%s", option == HELP ? usage : "vouch-bench " VOUCH_VERSION_STRING "\n");
            exit(0);
        }
        if (option <= DURATION)
            read_what_is_called(settings, option);
        else
            read_how(settings, option);
    }
    if (optind < argc)
        misuse("what is", argv[optind], "no argument is expected");
    if (settings->serve && settings->connect)
        misuse("--serve", settings->serve, "not together with --connect");
    if (settings->what.in_flight > 0 && settings->what.callers > 1)
        misuse("--in-flight", "", "is of one thread, not together with --callers");
    if (settings->what.in_flight > 0)
        settings->what.connections = 1;
}

/* ---- the server ---- */

static void give_back(void) {
    if (server_pid > 0) {
        kill(server_pid, SIGTERM);
        waitpid(server_pid, NULL, 0);
        server_pid = 0;
    }
    if (!directory[0])
        return;
    char path[400];
    snprintf(path, sizeof(path), "%s/socket", directory);
    unlink(path);
    snprintf(path, sizeof(path), "%s/socket.lock", directory);
    unlink(path);
    rmdir(directory);
    directory[0] = 0;
}

/* Ends the program by the signal, after what has to be done; all it calls may be called here but
 * snprintf, whose use with %s alone does no harm on any system that we know. */
static void on_signal(int number) {
    give_back();
    signal(number, SIG_DFL);
    raise(number);
}

static void pin(int cpu) {
    if (cpu >= 0 && !machine_pin(cpu))
        bench_die("--pin: cannot run on processor %d", cpu);
}

static void start_server(struct settings *settings, const struct bench_system *system) {
    const char *base = getenv("TMPDIR");
    int fds[2];
    char ready;
    snprintf(directory, sizeof(directory), "%s/vouch-bench.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(directory)) {
        int error = errno;
        char name[300];
        snprintf(name, sizeof(name), "%s", directory);
        directory[0] = 0;
        bench_die("%s: %s", name, strerror(error));
    }
    snprintf(settings->what.address, sizeof(settings->what.address), "%.200s/socket", directory);
    if (pipe(fds) < 0)
        bench_die("pipe: %s", strerror(errno));
    server_pid = fork();
    if (server_pid == 0) {
        machine_die_with_parent();
        close(fds[0]);
        ready_fd = fds[1];
        pin(settings->cpu_server);
        system->serve(&settings->what);
    }
    close(fds[1]);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGHUP, on_signal);
    atexit(give_back);
    if (server_pid < 0 || !bench_read_all(fds[0], &ready, 1)) {
        give_back();
        bench_die("the server did not start");
    }
    close(fds[0]);
    settings->what.server = server_pid;
}

/* ---- the report ---- */

static double microseconds(double nanoseconds) {
    return nanoseconds / 1e3;
}

static void print_text(const struct settings *settings, const struct bench_report *report) {
    const struct bench_case *what = &settings->what;
    double calls = (double)report->calls;
    printf("%llu calls of %zu bytes, %s%s, ", (unsigned long long)report->calls, what->size,
           settings->codec, what->packets ? " in packets" : "");
    if (what->in_flight > 0)
        printf("%u in flight\n", what->in_flight);
    else
        printf("%u caller%s, %u connection%s\n", what->callers, what->callers > 1 ? "s" : "",
               what->connections, what->connections > 1 ? "s" : "");
    printf("  min %.1f µs, mean %.1f, p50 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n",
           microseconds(report->min), microseconds(report->mean), microseconds(report->p50),
           microseconds(report->p99), microseconds(report->p999), microseconds(report->max));
    printf("  %.0f calls/s, CPU %.2f µs a call here", calls * 1e9 / (double)report->elapsed,
           microseconds((double)report->cpu_client) / calls);
    if (report->cpu_server > 0)
        printf(", %.2f in the server", microseconds((double)report->cpu_server) / calls);
    printf("\n  peak memory %.1f MB here", (double)report->peak_client / 1e6);
    if (report->peak_server > 0)
        printf(", %.1f MB in the server", (double)report->peak_server / 1e6);
    printf("\n");
}

static void print_json(const struct settings *settings, const struct bench_report *report) {
    static const char *const modes[] = {"adaptive", "blocking", "polling"};
    const struct bench_case *what = &settings->what;
    double calls = (double)report->calls;
    printf("{\"system\": \"vouch-%s\", \"mode\": \"%s\", \"packets\": %s, \"size\": %zu, "
           "\"callers\": %u, \"connections\": %u, \"in_flight\": %u, \"calls\": %llu, ",
           settings->codec, modes[what->mode], what->packets ? "true" : "false", what->size,
           what->callers, what->connections, what->in_flight, (unsigned long long)report->calls);
    printf("\"min_us\": %.3f, \"mean_us\": %.3f, \"p50_us\": %.3f, \"p99_us\": %.3f, "
           "\"p999_us\": %.3f, \"max_us\": %.3f, ",
           microseconds(report->min), microseconds(report->mean), microseconds(report->p50),
           microseconds(report->p99), microseconds(report->p999), microseconds(report->max));
    printf("\"calls_per_s\": %.1f, \"cpu_us_client\": %.3f, \"cpu_us_server\": %.3f, "
           "\"peak_bytes_client\": %llu, \"peak_bytes_server\": %llu}\n",
           calls * 1e9 / (double)report->elapsed, microseconds((double)report->cpu_client) / calls,
           microseconds((double)report->cpu_server) / calls,
           (unsigned long long)report->peak_client, (unsigned long long)report->peak_server);
}

static void raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    struct settings settings = {.codec = "bytes", .cpu_server = -1};
    const struct bench_order warm = {.time = WARM_TIME};
    struct bench_report report;
    settings.what = (struct bench_case){.size = 1024, .callers = 1, .connections = 1, .cpu = -1};
    read_options(&settings, argc, argv);
    if (settings.order.time == 0 && settings.order.calls == 0)
        settings.order.time = DURATION_DEFAULT;
    const struct bench_system *system = find_codec(settings.codec);
    const char *address = settings.serve ? settings.serve : settings.connect;
    if (address)
        snprintf(settings.what.address, sizeof(settings.what.address), "%s", address);
    raise_descriptors();
    if (settings.serve) {
        pin(settings.cpu_server);
        system->serve(&settings.what);
    }
    if (!settings.connect)
        start_server(&settings, system);
    pin(settings.what.cpu);
    struct bench_meter *meter = bench_meter_new(system, &settings.what);
    bench_meter_run(meter, &warm, &report);
    bench_meter_run(meter, &settings.order, &report);
    bench_meter_free(meter);
    if (settings.json)
        print_json(&settings, &report);
    else
        print_text(&settings, &report);
    return fflush(stdout) != 0;
}
