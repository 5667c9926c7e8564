/* SPDX-License-Identifier: MIT */
/*
 * What tests of clients and servers share: a server with a handful of methods in this process,
 * clients of it, latches in the place of sleeps, and peers that speak the wire by hand.
 *
 * Everything here asserts that it works, and gives up after RPC_PATIENCE where it waits.
 */
#ifndef TESTS_RPC_SUPPORT_H
#define TESTS_RPC_SUPPORT_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <vouch/client.h>
#include <vouch/server.h>

#include "rpc/envelope.h"
#include "tests/support.h"

/* How long a test waits for what must happen, and what "at once" has to stay far below. */
#define RPC_PATIENCE VOUCH_SECONDS(40)
#define RPC_FAR_BELOW VOUCH_SECONDS(15)

/* Waits for what other threads bring about and nobody announces, a counter say. */
#define RPC_EVENTUALLY(Condition)                                                                  \
    do {                                                                                           \
        int64_t rpc_give_up = vouch_deadline_in(RPC_PATIENCE);                                     \
        while (!(Condition)) {                                                                     \
            cr_assert_lt(vouch_now(), rpc_give_up, "never: %s", #Condition);                       \
            sched_yield();                                                                         \
        }                                                                                          \
    } while (0)

/* ---- latches: a count that goes up, and those who wait for it ---- */

struct rpc_latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned count;
};

void rpc_latch_init(struct rpc_latch *latch);
void rpc_latch_deinit(struct rpc_latch *latch);
void rpc_latch_raise(struct rpc_latch *latch);
void rpc_latch_wait(struct rpc_latch *latch, unsigned count); /* until it is that much */

/* ---- a server and its clients ---- */

#define RPC_KEPT_MAX 256

/*
 * Methods of a stage:
 *   echo    answers with the request; quick: the same, VOUCH_METHOD_QUICK
 *   size    answers with as many bytes as the request says in decimal, each an 'x'
 *   block   raises `entered`, waits for `go`, echoes
 *   wait    raises `entered`, waits until it is cancelled, raises `cancelled`
 *   keep    keeps the call in `kept`, then raises `entered`
 *   result  returns the number that the request says in decimal
 */
struct rpc_stage {
    struct vouch_server *server;
    struct rpc_latch entered, go, cancelled;
    struct vouch_call *kept[RPC_KEPT_MAX];
    atomic_uint kept_count;
    atomic_uint runs; /* handlers that have begun */
    char path[SUPPORT_PATH_MAX];
};

/* A server with its methods, not serving yet; `options` may be NULL. */
void rpc_stage_init(struct rpc_stage *stage, const struct vouch_server_options *options);
/* The same, serving with workers. */
void rpc_stage_open(struct rpc_stage *stage, const struct vouch_server_options *options);
void rpc_stage_close(struct rpc_stage *stage); /* frees the server */

/* Listens at stage->path. */
void rpc_stage_listen(struct rpc_stage *stage, const struct vouch_listen_options *options);
void rpc_stage_listen_with(struct rpc_stage *stage, const struct vouch_listen_options *options,
                           const struct vouch_serve_options *serve);
/* A client over a socketpair. */
struct vouch_client *rpc_stage_client(struct rpc_stage *stage,
                                      const struct vouch_client_options *options);
/* The other end of a connection of the server's, to speak by hand. */
int rpc_stage_raw(struct rpc_stage *stage);
/* A client whose server is a descriptor in the hands of the test. */
struct vouch_client *rpc_raw_client(int *ret_fd, const struct vouch_client_options *options);

/* Skips the test where a foreign loop has no descriptor for many connections (poller_fd). */
void rpc_need_loop_descriptor(void);

struct vouch_server_stats rpc_stats(struct rpc_stage *stage);

/* Calls with a text; asserts the result, and that the reply is the text `expected` where that is
 * not NULL. */
void rpc_check_call(struct vouch_client *client, const char *method, const char *request,
                    int result, const char *expected);
/* The same with options. Returns the error's text (static). */
const char *rpc_check_call_options(struct vouch_client *client, const char *method,
                                   const char *request, const struct vouch_call_options *options,
                                   int result);

/* Whether a call has ended at its deadline: both sides watch it, and either may be the first to
 * say so when the machine is busy. */
bool rpc_timed_out(int result);

/* A blocking call on a thread of its own. */
struct rpc_caller {
    struct vouch_client *client;
    const char *method;
    struct vouch_call_options options;
    int result;
    struct vouch_error error;
    pthread_t thread;
};
void rpc_caller_start(struct rpc_caller *caller, struct vouch_client *client, const char *method,
                      const struct vouch_call_options *options);
int rpc_caller_join(struct rpc_caller *caller); /* the call's result */

/* What an asynchronous call came to. */
struct rpc_outcome {
    atomic_uint callbacks;
    int result;
    size_t size; /* of the reply */
    struct vouch_error error;
};
void rpc_outcome_callback(void *context, int result, const struct vouch_reply *reply,
                          const struct vouch_error *error);
void rpc_call_async(struct vouch_client *client, const char *method, const char *request,
                    const struct vouch_call_options *options, struct rpc_outcome *outcome,
                    uint64_t *ret_id);
/* Waits in vouch_client_wait for `count` callbacks. */
void rpc_wait_callbacks(struct vouch_client *client, unsigned count);

/* ---- peers that speak by hand ---- */

/* A message's fields, coded here and not by the library; fields that are zero are left out. */
struct rpc_message {
    uint32_t id;
    int64_t expires;
    const char *method;
    const void *data;
    size_t size;
    uint32_t error_type;
    const char *error;
    uint64_t client_features, server_features;
    uint32_t control;
    uint64_t max_message;
};

#define RPC_MESSAGE_ROOM 1024 /* for all but the data */

/* The chunk of a message; returns its size. `room` has to be enough. */
size_t rpc_encode(const struct rpc_message *message, uint8_t *ret_bytes, size_t room);
/* The length prefix of a chunk alone. */
size_t rpc_encode_length(uint64_t size, uint8_t ret_bytes[10]);

/* Writes all of it, waiting; false when the other side is gone. */
bool rpc_raw_write(int fd, const void *bytes, size_t size);
void rpc_raw_send(int fd, const struct rpc_message *message);

/* A received message; `envelope` points into `bytes`, which the caller frees. */
struct rpc_received {
    uint8_t *bytes;
    struct envelope envelope;
};
/* Takes one whole chunk: true; false at the end of the connection. */
bool rpc_raw_receive(int fd, struct rpc_received *ret_received);
/* The same where nothing but a message will do, hellos and the like left out. */
void rpc_raw_expect(int fd, struct rpc_received *ret_received);
void rpc_received_free(struct rpc_received *received);
/* Asserts that the next that comes is the end, whatever came before. */
void rpc_raw_expect_end(int fd);
bool rpc_raw_readable(int fd); /* now */

/* A deadline for the wire. */
int64_t rpc_wall_in(int64_t duration);

#endif
