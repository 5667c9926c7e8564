/* SPDX-License-Identifier: MIT */
/*
 * In steady state a call allocates nothing, on neither side, and makes few system calls. Client and
 * server are two processes; the server tells its own counts.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/pool.h"
#include "tests/faults.h"
#include "tests/harness.h"
#include "tests/interpose_malloc.h"
#include "tests/peers.h"
#include "tests/rpc_support.h"

#define CALLS 1000
#define WARM_UP 300
#define ROUNDS 20
#define BODY 1024
#define AT_A_TIME 64

/* ---- counts of a process ---- */

enum { SENDS, RECEIVES, POLLS, CONTROLS, WAKES, ALL, SYSCALLS };

struct counts {
    uint64_t library;   /* blocks that the library took */
    uint64_t pool;      /* calls of the allocator by the pool */
    uint64_t everybody; /* malloc, calloc, realloc of the process */
    unsigned syscalls[SYSCALLS];
};

static unsigned sum_of(const char *const *symbols) {
    unsigned sum = 0;
    for (; *symbols; symbols++)
        sum += faults_count(*symbols);
    return sum;
}

static struct counts count(struct vouch_pool *pool) {
    static const char *const sends[] = {"sendmsg", "send", "write", NULL};
    static const char *const receives[] = {"recvmsg",    "recv",       "read",
                                           "__recv_chk", "__read_chk", NULL};
    static const char *const polls[] = {"poll",       "ppoll",        "__poll_chk",
                                        "epoll_wait", "epoll_pwait2", NULL};
    static const char *const controls[] = {"epoll_ctl", NULL};
    static const char *const wakes[] = {"write", NULL};
    struct vouch_memory_stats memory;
    struct vouch_pool_stats pools;
    struct counts counts = {.everybody = interpose_allocations()};
    vouch_memory_get_stats(&memory);
    vouch_pool_get_stats(pool, &pools);
    counts.library = memory.allocations;
    counts.pool = pools.allocations;
    counts.syscalls[SENDS] = sum_of(sends);
    counts.syscalls[RECEIVES] = sum_of(receives);
    counts.syscalls[POLLS] = sum_of(polls);
    counts.syscalls[CONTROLS] = sum_of(controls);
    counts.syscalls[WAKES] = sum_of(wakes);
    for (size_t i = 0; i < faults_symbol_count; i++)
        counts.syscalls[ALL] += faults_count(faults_symbols[i].name);
    return counts;
}

static struct counts difference(struct counts after, struct counts before) {
    after.library -= before.library;
    after.pool -= before.pool;
    after.everybody -= before.everybody;
    for (int i = 0; i < SYSCALLS; i++)
        after.syscalls[i] -= before.syscalls[i];
    return after;
}

/* ---- the server's process ---- */

static struct rpc_stage stage;

static int tell_counts(void *context, struct vouch_call *call) {
    (void)context;
    struct counts counts = count(vouch_server_get_pool(stage.server));
    (void)vouch_call_reply(call, &counts, sizeof(counts));
    return 0;
}

/* A thread that answers kept calls, so that nothing has to be created for it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct vouch_call *calls[AT_A_TIME];
    unsigned count;
    bool end;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int keep_for_later(void *context, struct vouch_call *call) {
    (void)context;
    vouch_call_keep(call);
    pthread_mutex_lock(&queue.lock);
    queue.calls[queue.count++] = call;
    pthread_cond_signal(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    return 0;
}

static void *answer_later(void *context) {
    pthread_mutex_lock(&queue.lock);
    while (!queue.end) {
        if (queue.count == 0) {
            pthread_cond_wait(&queue.changed, &queue.lock);
            continue;
        }
        struct vouch_call *call = queue.calls[--queue.count];
        pthread_mutex_unlock(&queue.lock);
        size_t size;
        const uint8_t *data = vouch_call_get_data(call, &size);
        (void)vouch_call_reply(call, data, size);
        pthread_mutex_lock(&queue.lock);
    }
    pthread_mutex_unlock(&queue.lock);
    return context;
}

static void end_answering(pthread_t answerer) {
    pthread_mutex_lock(&queue.lock);
    queue.end = true;
    pthread_cond_signal(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    support_thread_join(answerer);
}

/* The server's process ends when the other end of `life` is closed. */
struct sockets {
    int client, server;
    int life[2];
};

static enum vouch_polling polling; /* of both sides */

static int serve(void *context) {
    struct sockets *sockets = context;
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .polling = polling};
    struct vouch_conn *conn;
    struct vouch_method counts = {
        .name = "counts", .handler = tell_counts, .flags = VOUCH_METHOD_QUICK};
    struct vouch_method later = {.name = "later", .handler = keep_for_later};
    close(sockets->client);
    close(sockets->life[0]);
    rpc_stage_init(&stage, &options);
    if (vouch_server_add_method(stage.server, &counts) < 0 ||
        vouch_server_add_method(stage.server, &later) < 0 ||
        vouch_conn_from_fd(sockets->server, NULL, &conn) < 0 ||
        vouch_server_add_conn(stage.server, conn) < 0)
        return 1;
    pthread_t answerer = support_thread_start(answer_later, NULL);
    faults_begin(NULL);
    if (vouch_server_start(stage.server) < 0)
        return 2;
    rpc_raw_expect_end(sockets->life[1]);
    faults_end();
    rpc_stage_close(&stage);
    end_answering(answerer);
    return 0;
}

/* ---- the client's process ---- */

static struct vouch_client *client;
static pid_t server_process;
static struct sockets sockets;

static void open_both(void) {
    support_baseline_begin();
    struct vouch_client_options options = {VOUCH_OPTIONS(options), .polling = polling};
    int fds[2];
    struct vouch_conn *conn;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.life), 0);
    sockets.client = fds[0];
    sockets.server = fds[1];
    server_process = peers_start(serve, &sockets);
    close(fds[1]);
    close(sockets.life[1]);
    cr_assert_eq(vouch_conn_from_fd(fds[0], NULL, &conn), 0);
    cr_assert_eq(vouch_client_new(conn, &options, &client), 0);
    faults_begin(NULL);
}

static void close_both(void) {
    faults_end();
    vouch_client_free(client);
    close(sockets.life[0]);
    cr_assert_eq(peers_wait(server_process), 0);
    support_baseline_end();
}

static struct counts counts_of_server(void) {
    struct vouch_reply reply;
    struct counts counts;
    cr_assert_eq(vouch_client_call(client, "counts", NULL, 0, NULL, &reply, NULL), 0);
    cr_assert_eq(reply.size, sizeof(counts));
    memcpy(&counts, reply.data, sizeof(counts));
    vouch_reply_release(&reply);
    return counts;
}

static void call_blocking(const char *method) {
    static const char body[BODY];
    struct vouch_reply reply;
    cr_assert_eq(vouch_client_call(client, method, body, BODY, NULL, &reply, NULL), 0);
    cr_assert_eq(reply.size, BODY);
    vouch_reply_release(&reply);
}

static void call_all_blocking(const char *method, int calls) {
    for (int i = 0; i < calls; i++)
        call_blocking(method);
}

static void note_end(void *context, int result, const struct vouch_reply *reply,
                     const struct vouch_error *error) {
    (void)error;
    cr_assert_eq(result, 0);
    cr_assert_eq(reply->size, BODY);
    ++*(int *)context;
}

static void call_all_at_once(const char *method, int calls) {
    static const char body[BODY];
    for (int i = 0; i < calls; i += AT_A_TIME) {
        int ended = 0;
        for (int j = 0; j < AT_A_TIME; j++)
            cr_assert_eq(
                vouch_client_call_async(client, method, body, BODY, NULL, note_end, &ended, NULL),
                0);
        while (ended < AT_A_TIME)
            cr_assert_gt(vouch_client_wait(client, vouch_deadline_in(RPC_PATIENCE)), 0);
    }
}

static bool allocates(const struct counts *now) {
    return now->library > 0 || now->pool > 0 || now->everybody > 0;
}

static void check_no_allocations(const char *who, const struct counts *now) {
    cr_assert_not(allocates(now),
                  "%s: the library took %llu blocks, the pool %llu, malloc was called %llu times",
                  who, (unsigned long long)now->library, (unsigned long long)now->pool,
                  (unsigned long long)now->everybody);
}

/* What is kept for reuse grows to the most that was ever in use at the same time, which chance
 * decides, and then no more. So one round of calls without an allocation shows it; if each call
 * made one there would be none. */
static void check_steady(void (*call_all)(const char *method, int calls), const char *method) {
    if (!pool_recycles())
        cr_skip_test("every buffer is an allocation of its own under AddressSanitizer");
    open_both();
    call_all(method, WARM_UP);
    counts_of_server();
    struct counts here, there;
    for (int i = 0; i < ROUNDS; i++) {
        struct counts here_before = count(vouch_client_get_pool(client));
        struct counts there_before = counts_of_server();
        call_all(method, CALLS);
        there = difference(counts_of_server(), there_before);
        here = difference(count(vouch_client_get_pool(client)), here_before);
        if (!allocates(&here) && !allocates(&there))
            break;
    }
    check_no_allocations("client", &here);
    check_no_allocations("server", &there);
    close_both();
}

Test(allocations, none_for_blocking_calls) {
    check_steady(call_all_blocking, "echo");
}

Test(allocations, none_for_calls_of_quick_methods) {
    check_steady(call_all_blocking, "quick");
}

Test(allocations, none_for_64_calls_at_a_time) {
    check_steady(call_all_at_once, "quick");
}

Test(allocations, none_for_kept_calls) {
    check_steady(call_all_blocking, "later");
}

Test(allocations, none_for_64_kept_calls_at_a_time) {
    check_steady(call_all_at_once, "later");
}

/* Where nothing can be counted from outside, what the tests above say of malloc is vacuous: here it
 * is seen to count. */
Test(allocations, are_counted) {
    if (!interpose_counts())
        cr_skip_test("malloc is in other hands here");
    uint64_t before = interpose_allocations();
    void *volatile block = malloc(10);
    cr_assert_not_null(block);
    free(block);
    cr_assert_eq(interpose_allocations(), before + 1);
}

/* ---- system calls ---- */

static void log_syscalls(const char *who, const struct counts *now) {
    cr_log_info("%s, %d calls: %u sends, %u receives, %u polls, %u epoll_ctl, %u in all", who,
                CALLS, now->syscalls[SENDS], now->syscalls[RECEIVES], now->syscalls[POLLS],
                now->syscalls[CONTROLS], now->syscalls[ALL]);
}

static bool few_syscalls(const struct counts *here, const struct counts *there) {
    unsigned calls = CALLS + 2; /* those for the counts themselves */
    return here->syscalls[SENDS] <= calls && here->syscalls[ALL] <= 2 * calls + 20 &&
           there->syscalls[SENDS] <= calls && there->syscalls[ALL] <= 2 * calls + calls / 8 + 20;
}

/* The numbers for one call at a time, asleep, in a round in which nobody was held up for long (who
 * naps looks again now and then):
 *   client: sendmsg (length, envelope and body in one), recv
 *   server: recv, sendmsg; every TURN_WAITS calls it asks the poller, and a watch looks at times
 * While they poll, every look counts as one: not here. */
Test(allocations, system_calls_of_a_call) {
    rpc_need_loop_descriptor();
    if (VOUCH_TEST_SLOW)
        cr_skip_test("timers get in between where everything is slow");
    polling = VOUCH_POLLING_OFF;
    open_both();
    call_all_blocking("quick", WARM_UP);
    struct counts here, there;
    int64_t give_up = vouch_deadline_in(VOUCH_SECONDS(30));
    do {
        struct counts here_before = count(vouch_client_get_pool(client)),
                      there_before = counts_of_server();
        call_all_blocking("quick", CALLS);
        there = difference(counts_of_server(), there_before);
        here = difference(count(vouch_client_get_pool(client)), here_before);
    } while (!few_syscalls(&here, &there) && vouch_now() < give_up);
    log_syscalls("client", &here);
    log_syscalls("server", &there);
    cr_assert(few_syscalls(&here, &there));
    close_both();
}

#define CALLERS 16

static void *call_some(void *context) {
    call_all_blocking("quick", CALLS / CALLERS);
    return context;
}

static void call_from_many_threads(const char *method, int calls) {
    pthread_t threads[CALLERS];
    (void)method;
    (void)calls;
    for (int i = 0; i < CALLERS; i++)
        threads[i] = support_thread_start(call_some, NULL);
    for (int i = 0; i < CALLERS; i++)
        support_thread_join(threads[i]);
}

/* Threads that share a connection send, and are answered, together: half of what a call takes alone
 * at the most, those that put threads to sleep and wake them included, and no memory. How many go
 * together is the scheduler's doing: a round in which they did shows that they can. (Threads that
 * are made take memory of their own.) */
Test(allocations, system_calls_of_many_threads_are_shared) {
    rpc_need_loop_descriptor();
    if (VOUCH_TEST_SLOW)
        cr_skip_test("timers get in between where everything is slow");
    polling = VOUCH_POLLING_OFF;
    open_both();
    call_from_many_threads("quick", WARM_UP);
    unsigned least = UINT_MAX;
    uint64_t blocks = UINT64_MAX;
    int64_t give_up = vouch_deadline_in(VOUCH_SECONDS(30));
    while ((least > 2 * CALLS || blocks > 0) && vouch_now() < give_up) {
        struct counts here = count(vouch_client_get_pool(client)), there = counts_of_server();
        call_from_many_threads("quick", CALLS);
        there = difference(counts_of_server(), there);
        here = difference(count(vouch_client_get_pool(client)), here);
        unsigned now = here.syscalls[ALL] + there.syscalls[ALL];
        least = now < least ? now : least;
        blocks = here.library + here.pool + there.library + there.pool;
    }
    cr_assert_leq(least, 2 * CALLS, "%u for %d calls", least, CALLS);
    if (pool_recycles())
        cr_assert_eq(blocks, 0);
    close_both();
}
