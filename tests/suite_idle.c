/* SPDX-License-Identifier: MIT */
/* What an idle connection costs: little, so that there can be very many of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/rpc_support.h"

#define CONNECTIONS VOUCH_TEST_ROUNDS(10000, 500)
#define SPARE 200 /* descriptors for everything else */
#define MOST_BYTES 4096

static struct rpc_stage stage;

/* As many connections as this process may have descriptors for, at most CONNECTIONS. */
static unsigned raise_limit(void) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > CONNECTIONS + SPARE)
        return CONNECTIONS;
    return limit.rlim_max > 2 * SPARE ? (unsigned)limit.rlim_max - SPARE : 0;
}

/* ---- the clients' process ---- */

struct crowd {
    unsigned count;
    int ready, go; /* pipes: all have called; go away */
    int *fds;
};

static bool connect_and_call(int *ret_fd) {
    struct rpc_received reply;
    do
        *ret_fd = peers_connect(stage.path);
    while (*ret_fd == -EAGAIN); /* the backlog is full */
    if (*ret_fd < 0)
        return false;
    rpc_raw_send(*ret_fd, &(struct rpc_message){.id = 1, .method = "echo", .data = "x", .size = 1});
    if (!rpc_raw_receive(*ret_fd, &reply))
        return false;
    rpc_received_free(&reply);
    return true;
}

static int be_a_crowd(void *context) {
    struct crowd *crowd = context;
    char byte = 0;
    for (unsigned i = 0; i < crowd->count; i++)
        if (!connect_and_call(&crowd->fds[i]))
            return 1;
    if (write(crowd->ready, &byte, 1) != 1 || read(crowd->go, &byte, 1) != 1)
        return 2;
    for (unsigned i = 0; i < crowd->count; i++)
        close(crowd->fds[i]);
    return 0;
}

/* ---- the server's process ---- */

static uint64_t live_bytes(void) {
    struct vouch_memory_stats stats;
    vouch_memory_get_stats(&stats);
    return stats.live_bytes;
}

/* The other side is a process of its own, for its descriptors. */
static void check_cost(unsigned count) {
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .max_connections = count + 10,
                                           .max_connections_per_uid = count + 10};
    int ready[2], go[2];
    cr_assert(pipe(ready) == 0 && pipe(go) == 0);
    rpc_stage_init(&stage, NULL);
    rpc_stage_listen(&stage, &options);
    struct crowd crowd = {count, ready[1], go[0], calloc(count, sizeof(int))};
    cr_assert_not_null(crowd.fds);
    pid_t child = peers_start(be_a_crowd, &crowd);
    close(ready[1]); /* so that its end shows */
    uint64_t before = live_bytes();
    cr_assert_eq(vouch_server_start(stage.server), 0);
    char byte;
    cr_assert_eq(read(ready[0], &byte, 1), 1, "the clients' process failed");
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).live_connections, count);
    vouch_pool_trim(vouch_server_get_pool(stage.server));
    uint64_t each = (live_bytes() - before) / count;
    cr_log_info("%u idle connections: %llu bytes each", count, (unsigned long long)each);
    cr_assert_leq(each, MOST_BYTES, "%llu bytes each", (unsigned long long)each);

    struct vouch_client *client;
    cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &client, NULL), 0);
    rpc_check_call(client, "echo", "among them", 0, "among them");
    vouch_client_free(client);
    cr_assert_eq(write(go[1], &byte, 1), 1);
    cr_assert_eq(peers_wait(child), 0);
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    rpc_stage_close(&stage);
    close(ready[0]);
    close(go[0]);
    close(go[1]);
    free(crowd.fds);
}

Test(idle, ten_thousand_connections_cost_at_most_4_kib_each, .timeout = 120) {
    support_baseline_begin();
    unsigned count = raise_limit();
    if (count < 100)
        cr_skip_test("there are too few descriptors here");
    check_cost(count);
    support_baseline_end();
}
