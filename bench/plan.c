/* SPDX-License-Identifier: MIT */
/*
 * The tables. A ratio compares two ways of one run on one machine; bounds say what vouch is meant
 * to reach. docs/performance.md explains them.
 */
#include "bench/plan.h"

#include <stdio.h>

#define COUNT(array) (unsigned)(sizeof(array) / sizeof((array)[0]))
#define KB ((size_t)1024)
#define MB ((size_t)1024 * 1024)

#define PEER (PLAN_ONE | PLAN_TWO | PLAN_MANY | PLAN_FLIGHT | PLAN_SETUP | PLAN_TRACED)

/* ---- ways of calling ---- */

/* clang-format off: one line each */
const struct plan_way plan_ways[] = {
    {"vouch-bytes", "peer_vouch", NULL, BENCH_ADAPTIVE, false, true,
     PEER | PLAN_OWN | PLAN_GROWTH | PLAN_METHODS | PLAN_STREAM | PLAN_LOAD | PLAN_QUICK, 0, 0},
    {"vouch-bytes", "peer_vouch", NULL, BENCH_BLOCKING, false, true,
     PEER | PLAN_GROWTH | PLAN_QUICK, 0, 0},
    {"vouch-json", "peer_vouch", "libcjson-dev", BENCH_ADAPTIVE, false, true,
     PLAN_ONE | PLAN_MANY | PLAN_FLIGHT, 0, 0},
    {"vouch-json", "peer_vouch", "libcjson-dev", BENCH_BLOCKING, false, true, PLAN_ONE, 0, 0},
    {"vouch-proto", "peer_vouch", "libprotobuf-c-dev protobuf-c-compiler", BENCH_ADAPTIVE, false,
     true, PLAN_ONE | PLAN_MANY | PLAN_FLIGHT | PLAN_QUICK | PLAN_ORIGINAL, 0, 0},
    {"vouch-proto", "peer_vouch", "libprotobuf-c-dev protobuf-c-compiler", BENCH_BLOCKING, false,
     true, PLAN_ONE, 0, 0},
    {"raw-stream", "peer_raw", NULL, BENCH_BLOCKING, false, false,
     PEER | PLAN_OWN | PLAN_GROWTH | PLAN_STREAM | PLAN_LOAD | PLAN_QUICK, 0, 0},
    {"raw-stream", "peer_raw", NULL, BENCH_POLLING, false, false,
     PLAN_ONE | PLAN_TWO | PLAN_MANY | PLAN_QUICK, 0, 0},
    {"raw-stream", "peer_raw", NULL, BENCH_BLOCKING, true, false,
     PLAN_ONE | PLAN_MANY | PLAN_STREAM | PLAN_QUICK, 100 * KB, 0},
    {"raw-stream", "peer_raw", NULL, BENCH_POLLING, true, false, PLAN_ONE, 100 * KB, 0},
    {"raw-seqpacket", "peer_raw", NULL, BENCH_BLOCKING, false, false,
     PLAN_ONE | PLAN_TWO | PLAN_MANY | PLAN_SETUP, 0, 100 * KB},
    {"raw-seqpacket", "peer_raw", NULL, BENCH_BLOCKING, true, false, PLAN_ONE, 100 * KB, 0},
    {"grpc-cpp", "peer_grpc",
     "libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc", BENCH_BLOCKING,
     false, true, PEER | PLAN_QUICK | PLAN_ORIGINAL, 0, 0},
    {"sd-bus", "peer_sdbus", "libsystemd-dev", BENCH_BLOCKING, false, false, PEER | PLAN_QUICK, 0,
     0},
    {"nng", "peer_nng", "libnng-dev", BENCH_BLOCKING, false, true, PEER, 0, 0},
    {"zeromq", "peer_zeromq", "libzmq3-dev", BENCH_BLOCKING, false, false, PEER, 0, 0},
    {"capnproto", "peer_capnp", "libcapnp-dev capnproto", BENCH_BLOCKING, false, false, PEER, 0, 0},
};
const unsigned plan_way_count = COUNT(plan_ways);

/* ---- groups ---- */

#define ECHO(bytes, threads, conns)                                                                \
    { .size = (bytes), .callers = (threads), .connections = (conns), .cpu = -1 }
#define FLIGHT(calls)                                                                              \
    { .size = KB, .callers = 1, .connections = 1, .in_flight = (calls), .cpu = -1 }

const struct plan_group plan_groups[] = {
    {"1 KB x1", PLAN_ONE, true, false, true, ECHO(KB, 1, 1)},
    {"10 KB x1", PLAN_ONE, false, false, false, ECHO(10 * KB, 1, 1)},
    {"100 KB x1", PLAN_ONE, false, false, false, ECHO(100 * KB, 1, 1)},
    {"1 MB x1", PLAN_ONE, true, false, false, ECHO(MB, 1, 1)},
    {"1 KB x2", PLAN_TWO, false, false, false, ECHO(KB, 2, 1)},
    {"10 KB x2", PLAN_TWO, false, false, false, ECHO(10 * KB, 2, 1)},
    {"100 KB x2", PLAN_TWO, false, false, false, ECHO(100 * KB, 2, 1)},
    {"1 MB x2", PLAN_TWO, false, false, false, ECHO(MB, 2, 1)},
    {"1 KB x16", PLAN_MANY, true, false, true, ECHO(KB, 16, 1)},
    {"10 KB x16", PLAN_MANY, false, false, false, ECHO(10 * KB, 16, 1)},
    {"100 KB x16", PLAN_MANY, false, false, false, ECHO(100 * KB, 16, 1)},
    {"1 MB x16", PLAN_MANY, false, false, false, ECHO(MB, 16, 1)},
    {"1 KB x2 own", PLAN_OWN, false, false, false, ECHO(KB, 2, 0)},
    {"1 KB x16 own", PLAN_OWN, false, false, false, ECHO(KB, 16, 0)},
    {"10 KB x16 own", PLAN_OWN, false, false, false, ECHO(10 * KB, 16, 0)},
    {"100 KB x16 own", PLAN_OWN, false, false, false, ECHO(100 * KB, 16, 0)},
    {"1 MB x16 own", PLAN_OWN, false, false, false, ECHO(MB, 16, 0)},
    {"1 KB 16 in flight", PLAN_FLIGHT, false, false, false, FLIGHT(16)},
    {"1 KB 64 in flight", PLAN_FLIGHT, true, false, false, FLIGHT(64)},
    {"1 KB 256 in flight", PLAN_FLIGHT, false, false, false, FLIGHT(256)},
    {"1 KB x2 loaded", PLAN_LOAD, false, true, false, ECHO(KB, 2, 1)},
    {"connect",
     PLAN_SETUP,
     false,
     false,
     false,
     {.kind = BENCH_SETUP, .size = 1, .callers = 1, .connections = 1, .cpu = -1}},
    {"1 KB x16, 16 connections", PLAN_GROWTH, false, false, false, ECHO(KB, 16, 16)},
    {"1 KB x16, 100 connections", PLAN_GROWTH, false, false, false, ECHO(KB, 16, 100)},
    {"1 KB x16, 1000 connections", PLAN_GROWTH, false, false, false, ECHO(KB, 16, 1000)},
    {"1 KB x16, 10000 connections", PLAN_GROWTH, false, false, false, ECHO(KB, 16, 10000)},
    {"10 methods",
     PLAN_METHODS,
     false,
     false,
     false,
     {.size = 16, .callers = 1, .connections = 1, .in_flight = 64, .methods = 9, .cpu = -1}},
    {"10000 methods",
     PLAN_METHODS,
     false,
     false,
     false,
     {.size = 16, .callers = 1, .connections = 1, .in_flight = 64, .methods = 9999, .cpu = -1}},
    {"1000 pending",
     PLAN_METHODS,
     false,
     false,
     false,
     {.kind = BENCH_PENDING, .callers = 1, .connections = 2, .in_flight = 1000, .cpu = -1}},
    {"100000 pending",
     PLAN_METHODS,
     false,
     false,
     false,
     {.kind = BENCH_PENDING, .callers = 1, .connections = 2, .in_flight = 100000, .cpu = -1}},
    {"1 KB one way",
     PLAN_STREAM,
     false,
     false,
     false,
     {.kind = BENCH_STREAM, .size = KB, .callers = 1, .connections = 1, .cpu = -1}},
    {"64 KB one way",
     PLAN_STREAM,
     false,
     false,
     false,
     {.kind = BENCH_STREAM, .size = 64 * KB, .callers = 1, .connections = 1, .cpu = -1}},
    {"1 MB one way",
     PLAN_STREAM,
     false,
     false,
     false,
     {.kind = BENCH_STREAM, .size = MB, .callers = 1, .connections = 1, .cpu = -1}},
};
const unsigned plan_group_count = COUNT(plan_groups);

/* ---- targets ---- */

#define VOUCH(group)                                                                               \
    { group, "vouch-bytes", "adaptive" }
#define VOUCH_OFF(group)                                                                           \
    { group, "vouch-bytes", "blocking" }
#define PROTO(group)                                                                               \
    { group, "vouch-proto", "adaptive" }
#define JSON(group)                                                                                \
    { group, "vouch-json", "adaptive" }
#define RAW(group)                                                                                 \
    { group, "raw-stream", "blocking" }
#define RAW_POLLING(group)                                                                         \
    { group, "raw-stream", "polling" }
#define RAW_LARGE(group)                                                                           \
    { group, "raw-stream", "blocking+sndbuf" }
#define GRPC(group)                                                                                \
    { group, "grpc-cpp", "blocking" }
#define SD_BUS(group)                                                                              \
    { group, "sd-bus", "blocking" }
#define GO(group)                                                                                  \
    { group, "go-uds", "blocking" }
#define ALONE                                                                                      \
    { NULL, NULL, NULL }
#define MOST false
#define LEAST true

const struct plan_target plan_targets[] = {
    {"1 KB x1, p50: against raw blocking", PLAN_P50, VOUCH("1 KB x1"), RAW("1 KB x1"), MOST, 0.25},
    {"1 KB x1, p50: against raw polling", PLAN_P50, VOUCH("1 KB x1"), RAW_POLLING("1 KB x1"), MOST,
     1.5},
    {"1 KB x1, p50: gRPC C++ against proto", PLAN_P50, GRPC("1 KB x1"), PROTO("1 KB x1"), LEAST,
     10},
    {"1 KB x1, p50: Go uds against proto", PLAN_P50, GO("1 KB x1"), PROTO("1 KB x1"), LEAST, 10},
    {"1 KB x1, p50: sd-bus against bytes", PLAN_P50, SD_BUS("1 KB x1"), VOUCH("1 KB x1"), LEAST, 5},
    {"1 KB x1, p50, polling off: against raw blocking", PLAN_P50, VOUCH_OFF("1 KB x1"),
     RAW("1 KB x1"), MOST, 1.15},
    {"1 KB x1, CPU a call: against raw blocking", PLAN_CPU, VOUCH("1 KB x1"), RAW("1 KB x1"), MOST,
     0.5},
    {"1 KB x16 on one connection, calls/s: against raw on 16", PLAN_RATE, VOUCH("1 KB x16"),
     RAW("1 KB x16"), LEAST, 1.05},
    {"1 KB x16 on one connection, calls/s: against sd-bus on 16", PLAN_RATE, VOUCH("1 KB x16"),
     SD_BUS("1 KB x16"), LEAST, 1.8},
    {"1 KB x16 on one connection, calls/s: proto against gRPC C++", PLAN_RATE, PROTO("1 KB x16"),
     GRPC("1 KB x16"), LEAST, 6},
    {"1 KB x16 on one connection, CPU a call: against raw on 16", PLAN_CPU, VOUCH("1 KB x16"),
     RAW("1 KB x16"), MOST, 0.85},
    {"1 KB x16 on one connection, p99: against raw on 16", PLAN_P99, VOUCH("1 KB x16"),
     RAW("1 KB x16"), MOST, 1.5},
    {"1 KB, 16 in flight, calls/s: against raw", PLAN_RATE, VOUCH("1 KB 16 in flight"),
     RAW("1 KB 16 in flight"), LEAST, 0.6},
    {"1 KB, 64 in flight, calls/s: against raw", PLAN_RATE, VOUCH("1 KB 64 in flight"),
     RAW("1 KB 64 in flight"), LEAST, 0.6},
    {"1 KB, 256 in flight, calls/s: against raw", PLAN_RATE, VOUCH("1 KB 256 in flight"),
     RAW("1 KB 256 in flight"), LEAST, 0.6},
    {"1 KB, 64 in flight, calls/s: proto against gRPC C++", PLAN_RATE, PROTO("1 KB 64 in flight"),
     GRPC("1 KB 64 in flight"), LEAST, 20},
    {"1 KB x2, calls/s: against raw blocking", PLAN_RATE, VOUCH("1 KB x2"), RAW("1 KB x2"), LEAST,
     2},
    {"10 KB x1, p50: against raw polling", PLAN_P50, VOUCH("10 KB x1"), RAW_POLLING("10 KB x1"),
     MOST, 1.2},
    {"10 KB x1, p50, polling off: against raw blocking", PLAN_P50, VOUCH_OFF("10 KB x1"),
     RAW("10 KB x1"), MOST, 1.2},
    {"100 KB x1, p50: against raw polling", PLAN_P50, VOUCH("100 KB x1"), RAW_POLLING("100 KB x1"),
     MOST, 1.2},
    {"100 KB x1, p50, polling off: against raw blocking", PLAN_P50, VOUCH_OFF("100 KB x1"),
     RAW("100 KB x1"), MOST, 1.2},
    {"1 MB x1, p50: against raw with a large send buffer", PLAN_P50, VOUCH("1 MB x1"),
     RAW_LARGE("1 MB x1"), MOST, 1.15},
    {"1 MB x1, p50: gRPC C++ against proto", PLAN_P50, GRPC("1 MB x1"), PROTO("1 MB x1"), LEAST,
     10},
    {"1 KB x1, allocations a call, both sides: bytes", PLAN_ALLOCATIONS, VOUCH("1 KB x1"), ALONE,
     MOST, 0},
    {"1 KB x1, allocations a call, both sides: proto", PLAN_ALLOCATIONS, PROTO("1 KB x1"), ALONE,
     MOST, 0},
    {"1 KB x1, allocations a call beyond cJSON's: JSON", PLAN_ALLOCATIONS_OWN, JSON("1 KB x1"),
     ALONE, MOST, 0},
    {"1 KB x16, allocations a call, both sides: bytes", PLAN_ALLOCATIONS, VOUCH("1 KB x16"), ALONE,
     MOST, 0},
    {"1 KB x1, system calls a call, both sides, polling off", PLAN_SYSCALLS, VOUCH_OFF("1 KB x1"),
     ALONE, MOST, 4},
    {"1 KB x16 on one connection, system calls a call, both sides", PLAN_SYSCALLS,
     VOUCH_OFF("1 KB x16"), ALONE, MOST, 2},
    {"1 KB x2 while others want every core, calls/s: against raw", PLAN_RATE,
     VOUCH("1 KB x2 loaded"), RAW("1 KB x2 loaded"), LEAST, 1},
    {"1000 connections against 16, calls/s", PLAN_RATE, VOUCH("1 KB x16, 1000 connections"),
     VOUCH("1 KB x16, 16 connections"), LEAST, 0.8},
    {"10000 methods against 10, calls/s", PLAN_RATE, VOUCH("10000 methods"), VOUCH("10 methods"),
     LEAST, 0.8},
    /* log2(100000) / log2(1000) is 1.67: that much more time for each. */
    {"100000 pending calls against 1000, calls/s", PLAN_RATE, VOUCH("100000 pending"),
     VOUCH("1000 pending"), LEAST, 0.6},
    {"bytes of user memory an idle connection", PLAN_IDLE_MEMORY,
     VOUCH("1 KB x16, 10000 connections"), VOUCH("1 KB x16, 16 connections"), MOST, 4096},
};
const unsigned plan_target_count = COUNT(plan_targets);
/* clang-format on */

const char *plan_mode_name(enum bench_mode mode, bool sndbuf) {
    static const char *const names[][2] = {{"adaptive", "adaptive+sndbuf"},
                                           {"blocking", "blocking+sndbuf"},
                                           {"polling", "polling+sndbuf"}};
    return names[mode][sndbuf];
}
