/* SPDX-License-Identifier: MIT */
/*
 * Reading and running calls: methods that are taken for quick and are not, and workers that stay
 * with a connection.
 *
 * Whether a call is presumed to be quick depends on how closely it follows the one before. Where a
 * test needs that it is, it tries until it was.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/pool.h"
#include "rpc/server.h"
#include "tests/harness.h"
#include "tests/rpc_support.h"

#define ROUNDS VOUCH_TEST_ROUNDS(1000, 100)
#define LARGE ((size_t)1 << 20)

static struct rpc_stage stage;
static struct vouch_client *client;

static atomic_uint blocked; /* calls of flip, which go on one after the other */

/* flip: echoes, and blocks as `block` does when the request is "block". */
static int flip(void *context, struct vouch_call *call) {
    struct rpc_stage *on = context;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    if (size == 5 && memcmp(data, "block", 5) == 0) {
        unsigned number = atomic_fetch_add(&blocked, 1) + 1;
        rpc_latch_raise(&on->entered);
        rpc_latch_wait(&on->go, number);
    }
    (void)vouch_call_reply(call, data, size);
    return 0;
}

static void open_stage(const struct vouch_server_options *options) {
    support_baseline_begin();
    atomic_store(&blocked, 0);
    rpc_stage_init(&stage, options);
    const struct vouch_method method = {.name = "flip", .handler = flip, .context = &stage};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
}

static void open_with(unsigned workers) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = workers};
    open_stage(&options);
    client = rpc_stage_client(&stage, NULL);
}

static void close_both(void) {
    vouch_client_free(client);
    client = NULL;
    rpc_stage_close(&stage);
    support_baseline_end();
}

static struct method *method_of(const char *name) {
    struct method *method = method_table_find(&stage.server->methods, name, strlen(name));
    cr_assert_not_null(method);
    return method;
}

/* As good a name as a method can have. What it takes to get it is in test_method.c. */
static void make_quick(const char *name) {
    atomic_store(&method_of(name)->fast_runs, 2 * METHOD_FAST_RUNS);
}

static void call_often(unsigned rounds, const char *method) {
    for (unsigned i = 0; i < rounds; i++)
        rpc_check_call(client, method, "text", 0, "text");
}

static void send_call(int fd, uint32_t id, const char *method, const char *data) {
    rpc_raw_send(
        fd, &(struct rpc_message){.id = id, .method = method, .data = data, .size = strlen(data)});
}

static void expect_reply(int fd, uint32_t id, const char *data) {
    struct rpc_received reply;
    rpc_raw_expect(fd, &reply);
    cr_assert_eq(reply.envelope.id, id);
    cr_assert_eq(reply.envelope.error_type, 0);
    cr_assert_eq(reply.envelope.data_size, strlen(data));
    cr_assert_eq(memcmp(reply.envelope.data, data, strlen(data)), 0);
    rpc_received_free(&reply);
}

/* Both, in whatever order: what is not presumed to be quick runs side by side. */
static void expect_one_and_two(int fd, uint32_t id) {
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        struct rpc_received reply;
        rpc_raw_expect(fd, &reply);
        uint32_t which = reply.envelope.id - id;
        cr_assert_leq(which, 1);
        cr_assert_not(seen[which & 1]);
        seen[which & 1] = true;
        cr_assert_eq(reply.envelope.data_size, 3);
        cr_assert_eq(memcmp(reply.envelope.data, which == 0 ? "one" : "two", 3), 0);
        rpc_received_free(&reply);
    }
}

/* Several calls in one write, so that they follow each other closely. */
static void send_calls(int fd, uint32_t first_id, const char *const *data, size_t count) {
    uint8_t bytes[8 * RPC_MESSAGE_ROOM];
    size_t size = 0;
    cr_assert_leq(count, 8);
    for (size_t i = 0; i < count; i++)
        size += rpc_encode(&(struct rpc_message){.id = first_id + (uint32_t)i,
                                                 .method = "flip",
                                                 .data = data[i],
                                                 .size = strlen(data[i])},
                           bytes + size, sizeof(bytes) - size);
    cr_assert(rpc_raw_write(fd, bytes, size));
}

/* ---- presumed quick, and not ---- */

/* Blocks in a method that counts as quick: what has been answered before leaves, what comes behind
 * is answered meanwhile. Ids from `id` on. */
static void block_once(int fd, uint32_t id) {
    static const char *const calls[] = {"one", "two", "block"};
    unsigned before = stage.entered.count;
    send_calls(fd, id, calls, 3);
    rpc_latch_wait(&stage.entered, before + 1);
    expect_one_and_two(fd, id);
    send_call(fd, id + 3, "echo", "meanwhile");
    expect_reply(fd, id + 3, "meanwhile");
    rpc_latch_raise(&stage.go);
    expect_reply(fd, id + 2, "block");
    send_call(fd, id + 4, "flip", "after");
    expect_reply(fd, id + 4, "after");
}

/* Until the watch has taken the reading away once more. Returns the next id. */
static uint32_t block_until_taken_over(int fd, uint32_t id) {
    uint64_t before = rpc_stats(&stage).takeovers;
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    do {
        cr_assert_lt(vouch_now(), give_up);
        make_quick("flip");
        block_once(fd, id);
        id += 5;
    } while (rpc_stats(&stage).takeovers == before);
    cr_assert_eq(rpc_stats(&stage).takeovers, before + 1);
    return id;
}

Test(server_read, a_method_that_blocks_after_having_been_quick_holds_up_nothing) {
    open_with(4);
    int fd = rpc_stage_raw(&stage);
    uint32_t id = block_until_taken_over(fd, 1);
    struct method *method = method_of("flip");
    cr_assert_not(method_is_quick(method));
    cr_assert_eq(atomic_load(&method->slow_times), 1);

    for (unsigned i = 0; i < 200; i++, id++) { /* not enough to be forgiven */
        send_call(fd, id, "flip", "quick again");
        expect_reply(fd, id, "quick again");
    }
    cr_assert_not(method_is_quick(method));
    block_once(fd, id);
    id += 5;
    cr_assert_eq(rpc_stats(&stage).takeovers, 1, "it was not trusted");

    id = block_until_taken_over(fd, id);
    cr_assert_eq(atomic_load(&method->slow_times), 2);
    close(fd);
    close_both();
}

Test(server_read, a_method_earns_its_good_name_by_calls) {
    open_with(4);
    if (vouch_test_slow_mode())
        cr_skip_test("nothing is quick here");
    RPC_EVENTUALLY((call_often(200, "flip"), method_is_quick(method_of("flip"))));
    close_both();
}

/* The worker that was left behind does not touch the connection any more, whatever happens to it.
 */
Test(server_read, the_connection_may_end_while_a_presumed_call_blocks) {
    open_with(4);
    static const char *const calls[] = {"one", "two", "block"};
    for (unsigned i = 1; i <= VOUCH_TEST_ROUNDS(20, 5); i++) {
        int fd = rpc_stage_raw(&stage);
        make_quick("flip");
        send_calls(fd, 1, calls, 3);
        rpc_latch_wait(&stage.entered, i);
        close(fd);
        if (i % 2 == 0)
            rpc_check_call(client, "echo", "others", 0, "others");
        rpc_latch_raise(&stage.go);
    }
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 1);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    close_both();
}

Test(server_read, several_connections_are_taken_over_at_once) {
    enum { CONNS = 3 };
    static const char *const calls[] = {"one", "two", "block"};
    int fds[CONNS];
    open_with(8);
    for (int i = 0; i < CONNS; i++)
        fds[i] = rpc_stage_raw(&stage);
    make_quick("flip");
    for (int i = 0; i < CONNS; i++)
        send_calls(fds[i], 1, calls, 3);
    rpc_latch_wait(&stage.entered, CONNS);
    for (int i = 0; i < CONNS; i++) {
        expect_one_and_two(fds[i], 1);
        send_call(fds[i], 4, "echo", "meanwhile");
        expect_reply(fds[i], 4, "meanwhile");
    }
    for (int i = 0; i < CONNS; i++)
        rpc_latch_raise(&stage.go);
    for (int i = 0; i < CONNS; i++) {
        expect_reply(fds[i], 3, "block");
        close(fds[i]);
    }
    close_both();
}

static void call_large(void) {
    static uint8_t data[LARGE];
    struct vouch_reply reply;
    memset(data, 'x', sizeof(data));
    cr_assert_eq(vouch_client_call(client, "echo", data, sizeof(data), NULL, &reply, NULL), 0);
    cr_assert_eq(reply.size, sizeof(data));
    cr_assert_eq(memcmp(reply.data, data, sizeof(data)), 0);
    vouch_reply_release(&reply);
}

/* That a large answer takes long to send is not its handler's fault. */
Test(server_read, large_answers_of_a_quick_method_are_not_slow) {
    unsigned rounds = VOUCH_TEST_ROUNDS(200, 20);
    open_with(4);
    make_quick("echo");
    for (unsigned i = 0; i < rounds; i++)
        call_large();
    cr_assert_leq(rpc_stats(&stage).takeovers, rounds / 10); /* the system takes the core away */
    if (!vouch_test_slow_mode() && pool_recycles())          /* else memcpy is slow */
        RPC_EVENTUALLY((call_large(), method_is_quick(method_of("echo"))));
    close_both();
}

/* Too long to be quick, and its answer is lent. */
static int spin(void *context, struct vouch_call *call) {
    static uint8_t data[LARGE];
    int64_t until = vouch_deadline_in(VOUCH_MILLISECONDS(5));
    (void)context;
    while (vouch_now() < until)
        sched_yield();
    (void)vouch_call_reply(call, data, sizeof(data));
    return 0;
}

static atomic_bool flip_until_told;

static void *flip_densely(void *context) {
    (void)context;
    while (atomic_load(&flip_until_told)) {
        make_quick("flip");
        rpc_check_call(client, "flip", "text", 0, "text");
    }
    return NULL;
}

/* Of two calls on one connection that are presumed to be quick, the first has lost the reading to
 * the second when it answers: what it sends is not to be mistaken for the second's. */
Test(server_read, a_large_answer_of_one_that_has_lost_the_reading) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = 4};
    support_baseline_begin();
    rpc_stage_init(&stage, &options);
    struct vouch_method method = {.name = "flip", .handler = flip, .context = &stage};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    method = (struct vouch_method){.name = "spin", .handler = spin};
    cr_assert_eq(vouch_server_add_method(stage.server, &method), 0);
    cr_assert_eq(vouch_server_start(stage.server), 0);
    client = rpc_stage_client(&stage, NULL);
    atomic_store(&flip_until_told, true);
    pthread_t thread = support_thread_start(flip_densely, NULL);
    unsigned rounds = VOUCH_TEST_ROUNDS(200, 20);
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    for (unsigned i = 0; i < rounds || rpc_stats(&stage).takeovers == 0; i++) {
        struct vouch_reply reply;
        cr_assert_lt(vouch_now(), give_up, "it never lost the reading");
        make_quick("spin");
        cr_assert_eq(vouch_client_call(client, "spin", "", 0, NULL, &reply, NULL), 0);
        cr_assert_eq(reply.size, LARGE);
        vouch_reply_release(&reply);
    }
    atomic_store(&flip_until_told, false);
    support_thread_join(thread);
    close_both();
}

/* ---- staying ---- */

/* A worker has come to stay with the client's connection, and sleeps there. */
static void have_it_stay(void) {
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    for (;;) {
        call_often(20, "quick");
        pthread_mutex_lock(&stage.server->conns_lock);
        struct server_conn *conn = stage.server->conns;
        pthread_mutex_lock(&conn->link.lock);
        bool napping = conn->napping;
        pthread_mutex_unlock(&conn->link.lock);
        pthread_mutex_unlock(&stage.server->conns_lock);
        if (napping)
            return;
        cr_assert_lt(vouch_now(), give_up, "no worker ever stayed");
    }
}

static void open_staying(unsigned workers) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = workers,
                                           .polling = VOUCH_POLLING_OFF};
    open_stage(&options);
    client = rpc_stage_client(&stage, NULL);
}

Test(server_read, a_stop_does_not_wait_for_a_worker_that_stays) {
    open_staying(3);
    have_it_stay();
    int64_t begun = vouch_now();
    cr_assert_eq(vouch_server_stop(stage.server, VOUCH_FOREVER), 0);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

Test(server_read, a_peer_that_goes_is_noticed_by_a_worker_that_stays) {
    open_staying(3);
    have_it_stay();
    int64_t begun = vouch_now();
    vouch_client_free(client);
    client = NULL;
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    close_both();
}

/* A connection that is never idle. */
static atomic_bool busy_until_told;

static void *be_busy(void *context) {
    while (atomic_load(&busy_until_told))
        rpc_check_call(context, "quick", "busy", 0, "busy");
    return NULL;
}

static void check_others_are_served(unsigned workers, enum vouch_polling polling) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = workers,
                                           .polling = polling};
    open_stage(&options);
    rpc_stage_listen(&stage, NULL);
    client = rpc_stage_client(&stage, NULL);
    struct vouch_client *other = rpc_stage_client(&stage, NULL);
    atomic_store(&busy_until_told, true);
    pthread_t thread = support_thread_start(be_busy, client);
    int64_t begun = vouch_now();
    for (unsigned i = 0; i < VOUCH_TEST_ROUNDS(50, 10); i++) {
        struct vouch_client *dialled;
        cr_assert_eq(vouch_client_dial(stage.path, NULL, NULL, &dialled, NULL), 0);
        rpc_check_call(dialled, "echo", "new", 0, "new");
        rpc_check_call(other, i % 2 ? "echo" : "quick", "old", 0, "old");
        vouch_client_free(dialled);
    }
    cr_assert_lt(vouch_now() - begun, RPC_FAR_BELOW);
    atomic_store(&busy_until_told, false);
    support_thread_join(thread);
    vouch_client_free(other);
    close_both();
}

Test(server_read, others_are_served_while_one_connection_is_busy) {
    check_others_are_served(1, VOUCH_POLLING_ADAPTIVE);
    check_others_are_served(2, VOUCH_POLLING_ADAPTIVE);
    check_others_are_served(4, VOUCH_POLLING_ADAPTIVE);
}

Test(server_read, others_are_served_however_workers_wait) {
    check_others_are_served(1, VOUCH_POLLING_OFF);
    check_others_are_served(2, VOUCH_POLLING_OFF);
    check_others_are_served(1, VOUCH_POLLING_ALWAYS);
    check_others_are_served(2, VOUCH_POLLING_ALWAYS);
}

Test(server_read, one_worker_is_enough) {
    open_with(1);
    make_quick("flip");
    call_often(ROUNDS, "flip");
    call_often(ROUNDS, "echo");
    struct rpc_caller caller;
    rpc_caller_start(&caller, client, "block", NULL);
    rpc_latch_wait(&stage.entered, 1);
    rpc_check_call(client, "echo", "meanwhile", 0, "meanwhile");
    rpc_latch_raise(&stage.go);
    cr_assert_eq(rpc_caller_join(&caller), 0);
    call_often(ROUNDS, "quick");
    close_both();
}

/* Cancels of nothing, and then a call. */
static size_t make_flood(uint8_t *flood, size_t room) {
    size_t size = 0;
    while (size + 2 * RPC_MESSAGE_ROOM < room)
        size += rpc_encode(&(struct rpc_message){.id = 7, .control = ENVELOPE_CANCEL}, flood + size,
                           room - size);
    return size +
           rpc_encode(&(struct rpc_message){.id = 1, .method = "quick"}, flood + size, room - size);
}

/* What asks for nothing takes its turn as calls do: in a few turns of a loop the flood is not
 * through, and the other one has been served. */
Test(server_read, what_is_no_call_takes_its_turn) {
    static uint8_t flood[60000];
    rpc_need_loop_descriptor();
    support_baseline_begin();
    rpc_stage_init(&stage, NULL);
    cr_assert_geq(vouch_server_get_fd(stage.server), 0);
    int busy = rpc_stage_raw(&stage), other = rpc_stage_raw(&stage);
    cr_assert(rpc_raw_write(busy, flood, make_flood(flood, sizeof(flood))));
    rpc_raw_send(other, &(struct rpc_message){.id = 1, .method = "quick"});
    cr_assert_eq(vouch_server_process(stage.server), 0);
    cr_assert(rpc_raw_readable(other));
    cr_assert_not(rpc_raw_readable(busy));
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    while (!rpc_raw_readable(busy) && vouch_now() < give_up)
        cr_assert_eq(vouch_server_process(stage.server), 0);
    cr_assert(rpc_raw_readable(busy));
    close(busy);
    close(other);
    rpc_stage_close(&stage);
    support_baseline_end();
}

/* Its answer comes from this thread, while the connection's worker sleeps in recv. */
Test(server_read, kept_calls_are_answered_while_a_worker_stays) {
    open_staying(3);
    static struct rpc_outcome outcomes[RPC_KEPT_MAX];
    unsigned count = VOUCH_TEST_ROUNDS(100, 20);
    int64_t begun = vouch_now();
    for (unsigned i = 0; i < count; i++) {
        rpc_call_async(client, "keep", "", NULL, &outcomes[i], NULL);
        rpc_latch_wait(&stage.entered, i + 1);
        if (i % 4 == 0)
            have_it_stay();
        cr_assert_eq(vouch_call_reply(stage.kept[i], "kept", 4), 0);
        RPC_EVENTUALLY((vouch_client_process(client), atomic_load(&outcomes[i].callbacks) == 1));
        cr_assert_eq(outcomes[i].result, 0);
        cr_assert_eq(outcomes[i].size, 4);
    }
    cr_assert_lt(vouch_now() - begun, RPC_PATIENCE);
    close_both();
}

/* ---- all of it at once ---- */

struct mixed {
    struct vouch_client *client;
    unsigned seed;
};

static void *call_mixed(void *context) {
    struct mixed *mixed = context;
    static const char *const methods[] = {"echo", "quick", "flip"};
    static uint8_t data[200000];
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct vouch_reply reply;
        size_t size = (i + mixed->seed) % 50 == 0 ? sizeof(data) : (i * 37) % 600;
        cr_assert_eq(vouch_client_call(mixed->client, methods[(i + mixed->seed) % 3], data, size,
                                       NULL, &reply, NULL),
                     0);
        cr_assert_eq(reply.size, size);
        vouch_reply_release(&reply);
    }
    return NULL;
}

static void check_mixed(unsigned workers, enum vouch_polling polling) {
    enum { CLIENTS = 3, THREADS = 6 };
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = workers,
                                           .polling = polling};
    struct vouch_client *clients[CLIENTS];
    struct mixed mixed[THREADS];
    pthread_t threads[THREADS];
    open_stage(&options);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = rpc_stage_client(&stage, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        mixed[i] = (struct mixed){clients[i % CLIENTS], i};
        threads[i] = support_thread_start(call_mixed, &mixed[i]);
    }
    for (int i = 0; i < THREADS; i++)
        support_thread_join(threads[i]);
    RPC_EVENTUALLY(rpc_stats(&stage).in_flight == 0);
    cr_assert_eq(rpc_stats(&stage).calls, THREADS * ROUNDS);
    for (int i = 0; i < CLIENTS; i++)
        vouch_client_free(clients[i]);
    close_both();
}

Test(server_read, calls_of_all_kinds_at_once) {
    check_mixed(1, VOUCH_POLLING_ADAPTIVE);
    check_mixed(2, VOUCH_POLLING_ADAPTIVE);
    check_mixed(4, VOUCH_POLLING_OFF);
    check_mixed(4, VOUCH_POLLING_ALWAYS);
}

/* ---- options ---- */

static void check_options(enum vouch_polling polling, int64_t budget, int expected) {
    struct vouch_server *server = NULL;
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .polling = polling,
                                           .polling_budget = budget};
    cr_assert_eq(vouch_server_new(&options, &server), expected);
    vouch_server_free(server);
}

Test(server_read, options_of_polling_at_their_bounds_and_one_past) {
    support_baseline_begin();
    check_options(VOUCH_POLLING_ALWAYS, VOUCH_POLLING_BUDGET_BOUND, 0);
    check_options(VOUCH_POLLING_OFF, 0, 0);
    check_options(VOUCH_POLLING_ADAPTIVE, VOUCH_POLLING_BUDGET_BOUND + 1, -EINVAL);
    check_options(VOUCH_POLLING_ADAPTIVE, -1, -EINVAL);
    check_options((enum vouch_polling)(VOUCH_POLLING_ALWAYS + 1), 0, -EINVAL);
    check_options((enum vouch_polling) - 1, 0, -EINVAL);
    support_baseline_end();
}

Test(server_read, what_workers_waited_for_is_counted) {
    struct vouch_server_options options = {VOUCH_OPTIONS(options), .workers = 3,
                                           .polling = VOUCH_POLLING_ALWAYS};
    open_stage(&options);
    client = rpc_stage_client(&stage, NULL);
    RPC_EVENTUALLY((call_often(20, "quick"), rpc_stats(&stage).polling.paid > 0));
    uint64_t paid = rpc_stats(&stage).polling.paid;
    cr_assert_eq(rpc_stats(&stage).polling.sleeps, 0, "always polls first");
    vouch_client_free(client);
    client = NULL;
    RPC_EVENTUALLY(rpc_stats(&stage).live_connections == 0);
    RPC_EVENTUALLY(rpc_stats(&stage).polling.paid >= paid); /* also of those that are gone */
    close_both();
}
