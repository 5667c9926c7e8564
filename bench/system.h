/* SPDX-License-Identifier: MIT */
/*
 * What every system that is measured provides: a server that echoes, and a client that calls it.
 *
 * A peer program (peer_NAME) is bench/peer.c with a list of these. It runs in one of two roles, as
 * server or as client, each a process of its own; the suite starts both and tells the client when
 * to call. Whatever goes wrong ends the process with a message (bench_die): there is nobody to
 * recover here.
 */
#ifndef BENCH_SYSTEM_H
#define BENCH_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How threads wait, where a system can be told. */
enum bench_mode { BENCH_ADAPTIVE, BENCH_BLOCKING, BENCH_POLLING };

enum bench_kind {
    BENCH_ECHO,    /* calls on connections that exist */
    BENCH_SETUP,   /* connect, one call, disconnect */
    BENCH_STREAM,  /* chunks one way */
    BENCH_PENDING, /* in_flight calls are answered when the last of them has arrived */
};

#define BENCH_SIZE_MAX ((size_t)64 << 20)
#define BENCH_LARGE_BUFFER (4 << 20)

/* One way of calling; on a command line each member is NAME=VALUE. */
struct bench_case {
    char address[256]; /* a path, or "" */
    enum bench_kind kind;
    enum bench_mode mode;
    bool packets; /* over SOCK_SEQPACKET */
    bool sndbuf;  /* send buffers of BENCH_LARGE_BUFFER bytes */
    size_t size;
    unsigned callers;     /* threads */
    unsigned connections; /* caller i uses i, i + callers, … modulo connections */
    unsigned in_flight;   /* asynchronous calls from one thread; 0: none, callers wait */
    unsigned methods;     /* that the server has, besides */
    int64_t budget;       /* longest poll, ns; 0: the default */
    int cpu;              /* to run on; -1: any */
    pid_t server;         /* of which the CPU time counts, told to the client; 0: none */
};

/* A window of asynchronous calls. */
struct bench_flight;

/* Whether another call may begin now. */
bool bench_flight_more(struct bench_flight *flight);
/* One begins; the result goes to bench_flight_end of this call. */
int64_t bench_flight_begin(struct bench_flight *flight);
void bench_flight_end(struct bench_flight *flight, int64_t begun);
/* Whether calls are in flight. */
bool bench_flight_busy(const struct bench_flight *flight);

struct bench_system {
    const char *name;
    enum bench_kind kind; /* BENCH_SETUP is made of BENCH_ECHO */
    /* Publishes at the address, calls bench_ready, serves until the process is killed. */
    void (*serve)(const struct bench_case *what);
    /* Connects all connections. The case outlives the client. */
    void *(*open)(const struct bench_case *what);
    void (*close)(void *client);
    /* One call, by thread `caller`, and its reply. */
    void (*call)(void *client, unsigned caller);
    /* Calls until bench_flight_more says no more and none is in flight. NULL: it cannot. */
    void (*fly)(void *client, struct bench_flight *flight);
    /* Ends a run, within its time. May be NULL. */
    void (*finish)(void *client);
};

/* The server can be connected to. */
void bench_ready(void);

/* Which connection caller `caller` uses for its next call; `turn` counts its calls. */
static inline unsigned bench_connection(const struct bench_case *what, unsigned caller,
                                        unsigned *turn) {
    if (what->connections <= what->callers)
        return caller % what->connections;
    unsigned at = caller + *turn * what->callers;
    if (at >= what->connections) {
        at = caller;
        *turn = 0;
    }
    ++*turn;
    return at;
}

#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void bench_die(const char *format, ...);
int64_t bench_now(void);
/* Zeroed; ends the process when there is none. */
void *bench_alloc(size_t size);
/* `size` bytes to send: letters, so that they are text for who looks. */
char *bench_body(size_t size);
/* All of it; false when the other side has ended. */
bool bench_read_all(int fd, void *data, size_t size);
bool bench_write_all(int fd, const void *data, size_t size);

/* Listens at the address, connects to it: bare sockets, for systems that take a descriptor. */
int bench_listen(const struct bench_case *what, int type);
int bench_connect(const struct bench_case *what, int type);
/* Accepts for ever; each connection is served by a thread with a small stack. */
void bench_serve_threads(int listener, void (*serve)(int fd, const struct bench_case *what),
                         const struct bench_case *what);

/* main of a peer program: `systems` ends with NULL. */
int bench_peer(int argc, char **argv, const struct bench_system *const *systems);

#ifdef __cplusplus
}
#endif
#endif
