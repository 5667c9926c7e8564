/* SPDX-License-Identifier: MIT */
/* Medians, and the two forms of a row: a line on a terminal, an object of JSON. */
#include "bench/results.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vouch/common.h>

struct row *results_add(struct results *results, const struct plan_group *group,
                        const struct plan_way *way, const struct bench_case *what) {
    if (results->count == results->room) {
        results->room = results->room ? results->room * 2 : 64;
        results->rows = realloc(results->rows, results->room * sizeof(*results->rows));
        if (!results->rows)
            bench_die("no memory");
    }
    struct row *row = &results->rows[results->count++];
    *row = (struct row){.group = group, .way = way, .what = *what};
    row->allocations_client = row->allocations_server = row->codec_client = row->codec_server = NAN;
    row->syscalls = NAN;
    return row;
}

const struct row *results_find(const struct results *results, const char *group, const char *system,
                               const char *mode) {
    for (unsigned i = 0; i < results->count; i++) {
        const struct row *row = &results->rows[i];
        if (strcmp(row->group->name, group) == 0 && strcmp(row->way->system, system) == 0 &&
            strcmp(plan_mode_name(row->way->mode, row->way->sndbuf), mode) == 0 && row->rounds > 0)
            return row;
    }
    return NULL;
}

void results_free(struct results *results) {
    free(results->rows);
    *results = (struct results){0};
}

/* ---- from reports ---- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const struct bench_report *reports, unsigned count,
                     double (*get)(const struct bench_report *)) {
    double values[RESULTS_ROUNDS_MAX];
    for (unsigned i = 0; i < count; i++)
        values[i] = get(&reports[i]);
    qsort(values, count, sizeof(*values), compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double per_call(double value, const struct bench_report *report) {
    return report->calls ? value / (double)report->calls : NAN;
}

static double get_mean(const struct bench_report *report) {
    return report->mean / 1e3;
}
static double get_p50(const struct bench_report *report) {
    return report->p50 / 1e3;
}
static double get_p99(const struct bench_report *report) {
    return report->p99 / 1e3;
}
static double get_p999(const struct bench_report *report) {
    return report->p999 / 1e3;
}
static double get_rate(const struct bench_report *report) {
    return (double)report->calls * 1e9 / (double)report->elapsed;
}
static double get_cpu_client(const struct bench_report *report) {
    return per_call((double)report->cpu_client / 1e3, report);
}
static double get_cpu_server(const struct bench_report *report) {
    return per_call((double)report->cpu_server / 1e3, report);
}

void row_set_reports(struct row *row, const struct bench_report *reports, unsigned count) {
    row->rounds = count;
    row->mean = median(reports, count, get_mean);
    row->p50 = median(reports, count, get_p50);
    row->p99 = median(reports, count, get_p99);
    row->p999 = median(reports, count, get_p999);
    row->rate = median(reports, count, get_rate);
    row->cpu_client = median(reports, count, get_cpu_client);
    row->cpu_server = median(reports, count, get_cpu_server);
    row->min = reports[0].min / 1e3;
    for (unsigned i = 0; i < count; i++) {
        row->calls += reports[i].calls;
        row->min = fmin(row->min, reports[i].min / 1e3);
        row->max = fmax(row->max, reports[i].max / 1e3);
    }
    row->peak_client = (double)reports[count - 1].peak_client;
    row->peak_server = (double)reports[count - 1].peak_server;
    row->idle_server = (double)reports[0].idle_server;
}

void row_set_allocations(struct row *row, const struct bench_report *report) {
    row->allocations_client = per_call((double)report->allocations_client, report);
    row->allocations_server = per_call((double)report->allocations_server, report);
    row->codec_client = per_call((double)report->codec_client, report);
    row->codec_server = per_call((double)report->codec_server, report);
}

double row_get(const struct row *row, enum plan_metric metric) {
    switch (metric) {
    case PLAN_P50:
        return row->p50;
    case PLAN_P99:
        return row->p99;
    case PLAN_RATE:
        return row->rate;
    case PLAN_CPU:
        return row->cpu_client + row->cpu_server;
    case PLAN_ALLOCATIONS:
        return row->allocations_client + row->allocations_server;
    case PLAN_ALLOCATIONS_OWN:
        return row->allocations_client + row->allocations_server - row->codec_client -
               row->codec_server;
    case PLAN_SYSCALLS:
        return row->syscalls;
    case PLAN_IDLE_MEMORY:
        return row->idle_server;
    }
    return NAN;
}

/* ---- terminal ---- */

static void print_number(FILE *to, int width, double value, int digits) {
    if (isnan(value))
        fprintf(to, " %*s", width, "-");
    else
        fprintf(to, " %*.*f", width, digits, value);
}

void results_print_head(FILE *to) {
    fprintf(to, "  %-13s %-15s %5s %8s %8s %8s %8s %8s %9s %10s %7s %12s %9s %8s\n", "system",
            "mode", "conn", "min µs", "mean", "p50", "p99", "p99.9", "max", "calls/s", "CPU µs",
            "alloc c + s", "syscalls", "peak MB");
}

void results_print_row(const struct row *row, FILE *to) {
    char allocations[32] = "-";
    bool timed = row->what.kind != BENCH_PENDING;
    if (!isnan(row->allocations_client))
        snprintf(allocations, sizeof(allocations), "%.1f + %.1f", row->allocations_client,
                 row->allocations_server);
    fprintf(to, "  %-13s %-15s %5u", row->way->system,
            plan_mode_name(row->way->mode, row->way->sndbuf), row->what.connections);
    print_number(to, 7, timed ? row->min : NAN, 1);
    print_number(to, 8, timed ? row->mean : NAN, 1);
    print_number(to, 8, timed ? row->p50 : NAN, 1);
    print_number(to, 8, timed ? row->p99 : NAN, 1);
    print_number(to, 8, timed ? row->p999 : NAN, 1);
    print_number(to, 9, timed ? row->max : NAN, 1);
    print_number(to, 10, row->rate, 0);
    print_number(to, 7, row->cpu_client + row->cpu_server, 2);
    fprintf(to, " %12s", allocations);
    print_number(to, 9, row->syscalls, 1);
    print_number(to, 8, (row->peak_client + row->peak_server) / 1e6, 1);
    if (row->what.kind == BENCH_STREAM)
        fprintf(to, "  %.2f GB/s", row->rate * (double)row->what.size / 1e9);
    fputc('\n', to);
}

/* ---- JSON ---- */

static void json_text(FILE *to, const char *name, const char *text) {
    fprintf(to, "\"%s\": \"", name);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', to);
        if ((unsigned char)*text >= ' ')
            fputc(*text, to);
    }
    fputc('"', to);
}

static void json_number(FILE *to, const char *name, double value) {
    if (isfinite(value))
        fprintf(to, ", \"%s\": %.6g", name, value);
    else
        fprintf(to, ", \"%s\": null", name);
}

static void json_row(FILE *to, const struct row *row) {
    const struct bench_case *what = &row->what;
    json_text(to, "case", row->group->name);
    fputs(", ", to);
    json_text(to, "system", row->way->system);
    fputs(", ", to);
    json_text(to, "mode", plan_mode_name(row->way->mode, row->way->sndbuf));
    fprintf(to,
            ", \"size\": %zu, \"callers\": %u, \"connections\": %u, \"in_flight\": %u, "
            "\"methods\": %u, \"rounds\": %u, \"calls\": %llu",
            what->size, what->callers, what->connections, what->in_flight, what->methods,
            row->rounds, (unsigned long long)row->calls);
    json_number(to, "min_us", row->min);
    json_number(to, "mean_us", row->mean);
    json_number(to, "p50_us", row->p50);
    json_number(to, "p99_us", row->p99);
    json_number(to, "p999_us", row->p999);
    json_number(to, "max_us", row->max);
    json_number(to, "calls_per_s", row->rate);
    json_number(to, "gb_per_s",
                what->kind == BENCH_STREAM ? row->rate * (double)what->size / 1e9 : NAN);
    json_number(to, "cpu_us_per_call", row->cpu_client + row->cpu_server);
    json_number(to, "cpu_us_client", row->cpu_client);
    json_number(to, "cpu_us_server", row->cpu_server);
    json_number(to, "allocs_client", row->allocations_client);
    json_number(to, "allocs_server", row->allocations_server);
    json_number(to, "allocs_codec_client", row->codec_client);
    json_number(to, "allocs_codec_server", row->codec_server);
    json_number(to, "syscalls_per_call", row->syscalls);
    fprintf(to, ", \"peak_bytes_client\": %.0f, \"peak_bytes_server\": %.0f", row->peak_client,
            row->peak_server);
    fprintf(to, ", \"idle_bytes_server\": %.0f", row->idle_server);
}

static void json_machine(FILE *to, const struct machine *machine) {
    char date[32];
    time_t now = time(NULL);
    struct tm broken;
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &broken));
    fputs("\"machine\": {", to);
    json_text(to, "system", machine->system);
    fputs(", ", to);
    json_text(to, "processor", machine->processor);
    fprintf(to, ", \"cores\": %u, \"memory_bytes\": %llu, \"wmem_max\": %llu, ", machine->cores,
            (unsigned long long)machine->memory, (unsigned long long)machine->wmem_max);
    json_text(to, "vouch", VOUCH_VERSION_STRING);
    fputs(", ", to);
    json_text(to, "date", date);
    fputc('}', to);
}

int results_write_json(const struct results *results, const struct machine *machine,
                       const char *path) {
    char next[512];
    snprintf(next, sizeof(next), "%s.new", path);
    FILE *file = fopen(next, "we");
    if (!file)
        return -errno;
    fputs("[", file);
    bool first = true;
    for (unsigned i = 0; i < results->count; i++) {
        if (results->rows[i].rounds == 0)
            continue;
        fputs(first ? "\n{" : ",\n{", file);
        first = false;
        json_row(file, &results->rows[i]);
        fputs(", ", file);
        json_machine(file, machine);
        fputc('}', file);
    }
    fputs("\n]\n", file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed || rename(next, path) < 0)
        return errno ? -errno : -EIO;
    return 0;
}
