/* SPDX-License-Identifier: MIT */
/* The scenarios below RPC, and how any of them is run. */
#include "tests/scenarios.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vouch/chunk.h>
#include <vouch/conn.h>
#include <vouch/dial.h>
#include <vouch/identity.h>
#include <vouch/listen.h>
#include <vouch/pool.h>

#include "lib/poller.h"
#include "tests/harness.h"
#include "tests/support.h"

enum { BULK = 300 * 1024 }; /* more than a socket holds, so that both sides have to wait */

#define PATIENCE VOUCH_SECONDS(20)              /* for what should come */
#define ACCEPT_PATIENCE VOUCH_MILLISECONDS(300) /* for what is there already */

/* ---- running ---- */

static void make_stale_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strlen(path) + 1);
    unlink(path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

struct scenario_report scenario_run(const struct scenario *scenario, const struct faults_plan *plan,
                                    const struct vouch_allocator *allocator) {
    static char path[SUPPORT_PATH_MAX], stale_path[SUPPORT_PATH_MAX];
    struct scenario_place place = {allocator, support_temp_path(path, "socket"),
                                   support_temp_path(stale_path, "stale")};
    struct scenario_report report;

    make_stale_socket(stale_path);
    support_baseline_begin();
    faults_begin(plan);
    report.result = scenario->run(&place);
    report.hits = faults_end();
    report.leak = support_baseline_leak();
    return report;
}

static int weight(int result) {
    return result == 0 ? 0 : result == -ECONNRESET ? 1 : result == SCENARIO_WRONG ? 3 : 2;
}

int scenario_worse(int a, int b) {
    return weight(b) > weight(a) ? b : a;
}

/* ---- parts ---- */

static void fill(uint8_t *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static int check(const uint8_t *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (uint8_t)(seed + i * 7 + (i >> 8)))
            return SCENARIO_WRONG;
    return 0;
}

static int open_pair(const struct scenario_place *place, bool pass_descriptors,
                     struct vouch_conn *ret_conns[2]) {
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator,
                                         .pass_descriptors = pass_descriptors};
    int r = vouch_conn_pair(&options, ret_conns);

    for (int i = 0; r == 0 && i < 2; i++)
        vouch_conn_set_deadline(ret_conns[i], VOUCH_BOTH, vouch_deadline_in(PATIENCE));
    return r;
}

static void close_pair(struct vouch_conn *conns[2]) {
    vouch_conn_free(conns[0]);
    vouch_conn_free(conns[1]);
}

/* Two sides of a conversation, each on its thread. Whoever fails closes, so that the other ends. */
struct sides {
    int (*left)(void *), (*right)(void *);
    void *left_argument, *right_argument;
    int right_result;
};

static void *run_right(void *argument) {
    struct sides *sides = argument;

    sides->right_result = sides->right(sides->right_argument);
    return NULL;
}

static int run_sides(struct sides *sides) {
    pthread_t thread;
    int r = pthread_create(&thread, NULL, run_right, sides);

    if (r != 0)
        return -r;
    r = sides->left(sides->left_argument);
    pthread_join(thread, NULL);
    return scenario_worse(r, sides->right_result);
}

/* ---- identity and pool ---- */

static int identity_self(const struct scenario_place *place) {
    const struct vouch_identity *identity;
    int r = vouch_identity_self(place->allocator, &identity);

    if (r < 0)
        return r;
    r = identity->uid == geteuid() && (identity->known & VOUCH_KNOWN_UID) ? 0 : SCENARIO_WRONG;
    vouch_identity_unref(identity);
    return r;
}

static int identity_of_peer(const struct scenario_place *place) {
    const struct vouch_identity *identity;
    struct vouch_conn *conns[2];
    int r = open_pair(place, false, conns);

    if (r < 0)
        return r;
    r = vouch_identity_of_peer(vouch_conn_get_fd(conns[0]), place->allocator, &identity);
    if (r == 0) {
        if (identity->uid != geteuid() || identity->gid != getegid())
            r = SCENARIO_WRONG;
        vouch_identity_unref(identity);
    }
    close_pair(conns);
    return r;
}

static int pool_buffers(const struct scenario_place *place) {
    struct vouch_pool_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    const size_t sizes[] = {0, 512, 513, VOUCH_POOL_CLASS_MAX, VOUCH_POOL_CLASS_MAX + 1};
    struct vouch_buffer *buffers[5] = {NULL};
    struct vouch_pool *pool;
    int r = vouch_pool_new(&options, &pool);

    if (r < 0)
        return r;
    for (int i = 0; r == 0 && i < 5; i++) {
        r = vouch_pool_get(pool, 16, sizes[i], &buffers[i]);
        if (r == 0 && buffers[i]->capacity < sizes[i])
            r = SCENARIO_WRONG;
        if (r == 0)
            memset(buffers[i]->data, i, sizes[i]);
    }
    for (int i = 0; i < 5; i++)
        vouch_buffer_unref(buffers[i]);
    vouch_pool_unref(pool);
    return r;
}

static int poller_events(const struct scenario_place *place) {
    struct poller_event event = {0};
    struct vouch_conn *conns[2];
    struct poller *poller;
    int r = open_pair(place, false, conns);

    if (r < 0)
        return r;
    r = poller_new(place->allocator, &poller);
    if (r < 0) {
        close_pair(conns);
        return r;
    }
    r = poller_add(poller, vouch_conn_get_fd(conns[0]), POLLER_IN, conns[0]);
    if (r == 0)
        r = vouch_conn_write(conns[1], "x", 1);
    if (r == 0)
        r = poller_wait(poller, &event, 1, vouch_deadline_in(PATIENCE));
    if (r >= 0)
        r = r == 1 && event.data == conns[0] && event.events == POLLER_IN ? 0 : SCENARIO_WRONG;
    if (r == 0)
        r = poller_arm(poller, vouch_conn_get_fd(conns[0]), POLLER_IN | POLLER_OUT, poller);
    if (r == 0)
        r = poller_wait(poller, &event, 1, vouch_deadline_in(PATIENCE));
    if (r >= 0)
        r = r == 1 && event.data == poller ? 0 : SCENARIO_WRONG;
    poller_wake(poller);
    if (r == 0)
        r = poller_wait(poller, &event, 1, vouch_deadline_in(PATIENCE));
    if (r >= 0)
        r = r == 1 && event.data == NULL ? 0 : SCENARIO_WRONG;
    poller_remove(poller, vouch_conn_get_fd(conns[0]));
    poller_free(poller);
    close_pair(conns);
    return r;
}

/* ---- bytes over a connection ---- */

/* Writes the bulk in pieces of several sizes, then says so by ending its side. */
static int write_bulk(void *argument) {
    static uint8_t bytes[BULK];
    struct vouch_conn *conn = argument;
    const size_t first = 100, second = 70000;
    struct iovec pieces[3] = {{bytes + first, second},
                              {bytes + first + second, 0},
                              {bytes + first + second, BULK - first - second}};
    int r;

    fill(bytes, BULK, 1);
    r = vouch_conn_write(conn, bytes, first);
    if (r == 0)
        r = vouch_conn_writev(conn, pieces, 3);
    if (r == 0)
        r = vouch_conn_shutdown_write(conn);
    if (r < 0)
        vouch_conn_close(conn);
    return r;
}

static int read_bulk(void *argument) {
    static uint8_t bytes[BULK];
    struct vouch_conn *conn = argument;
    uint8_t byte;
    int r;

    memset(bytes, 0, BULK);
    r = vouch_conn_read_byte(conn, &bytes[0]);
    if (r == 1)
        r = vouch_conn_read_exactly(conn, bytes + 1, BULK - 1);
    else if (r == 0)
        r = -ECONNRESET;
    if (r == 0)
        r = check(bytes, BULK, 1);
    if (r == 0)
        r = (int)vouch_conn_read(conn, &byte, 1);
    if (r > 0)
        r = SCENARIO_WRONG;
    if (r < 0)
        vouch_conn_close(conn);
    return r;
}

static int run_bulk(struct vouch_conn *from, struct vouch_conn *to) {
    struct sides sides = {read_bulk, write_bulk, to, from, 0};

    return run_sides(&sides);
}

static int conn_bulk(const struct scenario_place *place) {
    struct vouch_conn *conns[2];
    int r = open_pair(place, false, conns);

    if (r < 0)
        return r;
    r = run_bulk(conns[0], conns[1]);
    close_pair(conns);
    return r;
}

static int conn_bulk_without_deadline(const struct scenario_place *place) {
    struct vouch_conn *conns[2];
    int r = open_pair(place, false, conns);

    if (r < 0)
        return r;
    vouch_conn_set_deadline(conns[0], VOUCH_BOTH, VOUCH_FOREVER);
    vouch_conn_set_deadline(conns[1], VOUCH_BOTH, VOUCH_FOREVER);
    r = run_bulk(conns[0], conns[1]);
    close_pair(conns);
    return r;
}

static int conn_write_only(const struct scenario_place *place) {
    struct vouch_conn *conns[2];
    uint8_t bytes[8];
    int r = open_pair(place, false, conns);

    if (r < 0)
        return r;
    vouch_conn_set_write_only(conns[0]);
    r = vouch_conn_write(conns[1], "ignored", 7);
    if (r == 0)
        r = vouch_conn_write(conns[0], "welcome", 7);
    if (r == 0)
        r = vouch_conn_read_exactly(conns[1], bytes, 7);
    if (r == 0)
        r = memcmp(bytes, "welcome", 7) == 0 ? 0 : SCENARIO_WRONG;
    if (r == 0)
        r = vouch_conn_shutdown_write(conns[1]);
    if (r == 0)
        r = vouch_conn_wait_closed(conns[0], vouch_deadline_in(PATIENCE));
    close_pair(conns);
    return r;
}

/* ---- descriptors ---- */

/* What is sent through a descriptor that was received comes out where it belongs. */
static int use_received(struct vouch_conn *other_end, int fd, const struct scenario_place *place) {
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    struct vouch_conn *conn;
    uint8_t byte = 0;
    int r = vouch_conn_from_fd(fd, &options, &conn);

    if (r < 0) {
        close(fd);
        return r;
    }
    r = vouch_conn_write(conn, "!", 1);
    if (r == 0)
        r = vouch_conn_read_exactly(other_end, &byte, 1);
    if (r == 0)
        r = byte == '!' ? 0 : SCENARIO_WRONG;
    vouch_conn_free(conn);
    return r;
}

/* The text may come in parts; the descriptor comes with the first. */
static int receive_fd(struct vouch_conn *conn, int *ret_fd) {
    char text[10];
    size_t fd_count = 0;
    ssize_t n = vouch_conn_recv_fds(conn, text, sizeof(text), ret_fd, 1, &fd_count);
    int r;

    if (n < 0)
        return (int)n;
    if (n == 0)
        return -ECONNRESET;
    r = fd_count == 1 ? 0 : SCENARIO_WRONG;
    if (r == 0 && n < 10)
        r = vouch_conn_read_exactly(conn, text + n, 10 - (size_t)n);
    if (r == 0 && memcmp(text, "descriptor", 10) != 0)
        r = SCENARIO_WRONG;
    if (r < 0 && fd_count == 1)
        close(*ret_fd);
    return r;
}

static int conn_fds(const struct scenario_place *place) {
    struct vouch_conn *carrier[2], *cargo[2];
    int fd, r = open_pair(place, true, carrier);

    if (r < 0)
        return r;
    r = open_pair(place, false, cargo);
    if (r == 0) {
        fd = vouch_conn_get_fd(cargo[0]);
        r = vouch_conn_send_fds(carrier[0], "descriptor", 10, &fd, 1);
        if (r == 0)
            r = receive_fd(carrier[1], &fd);
        if (r == 0)
            r = use_received(cargo[1], fd, place);
        close_pair(cargo);
    }
    close_pair(carrier);
    return r;
}

/* ---- chunks ---- */

static const size_t chunk_sizes[] = {0, 1, 63, 64, 500, 8192, BULK, 3};
enum { CHUNKS = sizeof(chunk_sizes) / sizeof(*chunk_sizes) };

static int write_chunks(void *argument) {
    static uint8_t bytes[BULK];
    struct vouch_chunk_conn *chunks = argument;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < CHUNKS; i++) {
        fill(bytes, chunk_sizes[i], i);
        r = vouch_chunk_conn_write(chunks, bytes, chunk_sizes[i]);
    }
    if (r == 0)
        r = vouch_conn_shutdown_write(vouch_chunk_conn_get_conn(chunks));
    if (r < 0)
        vouch_conn_close(vouch_chunk_conn_get_conn(chunks));
    return r;
}

static int read_chunk(struct vouch_chunk_conn *chunks, unsigned i) {
    struct vouch_chunk chunk;
    int r = vouch_chunk_conn_read(chunks, &chunk);

    if (r <= 0)
        return r < 0 ? r : -ECONNRESET;
    r = chunk.size == chunk_sizes[i] ? check(chunk.data, chunk.size, i) : SCENARIO_WRONG;
    vouch_buffer_unref(chunk.buffer);
    return r;
}

static int read_chunks(void *argument) {
    struct vouch_chunk_conn *chunks = argument;
    struct vouch_chunk chunk;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < CHUNKS; i++)
        r = read_chunk(chunks, i);
    if (r == 0)
        r = vouch_chunk_conn_read(chunks, &chunk);
    if (r > 0) {
        vouch_buffer_unref(chunk.buffer);
        r = SCENARIO_WRONG;
    }
    if (r < 0)
        vouch_conn_close(vouch_chunk_conn_get_conn(chunks));
    return r;
}

/* Takes `conns` over, whatever is returned. */
static int open_chunks(const struct scenario_place *place, struct vouch_conn *conns[2],
                       struct vouch_chunk_conn *ret_chunks[2]) {
    struct vouch_chunk_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    int r = vouch_chunk_conn_new(conns[0], &options, &ret_chunks[0]);

    if (r < 0) {
        close_pair(conns);
        return r;
    }
    r = vouch_chunk_conn_new(conns[1], &options, &ret_chunks[1]);
    if (r < 0) {
        vouch_chunk_conn_free(ret_chunks[0]);
        vouch_conn_free(conns[1]);
    }
    return r;
}

static int chunk_exchange(const struct scenario_place *place) {
    struct vouch_chunk_conn *chunks[2];
    struct sides sides = {read_chunks, write_chunks, NULL, NULL, 0};
    struct vouch_conn *conns[2];
    int r = open_pair(place, false, conns);

    if (r == 0)
        r = open_chunks(place, conns, chunks);
    if (r < 0)
        return r;
    sides.left_argument = chunks[0];
    sides.right_argument = chunks[1];
    r = run_sides(&sides);
    vouch_chunk_conn_free(chunks[0]);
    vouch_chunk_conn_free(chunks[1]);
    return r;
}

/* ---- listen and dial ---- */

/* A server that is short of something closes a client and waits for the next. What it can't have
 * is both: a client that it neither took nor closed. */
static int accept_here(struct vouch_listener *listener, struct vouch_conn *client,
                       struct vouch_conn **ret_conn) {
    struct vouch_listener_stats stats;
    uint8_t byte;
    ssize_t n;
    int r = vouch_accept(listener, vouch_deadline_in(ACCEPT_PATIENCE), ret_conn);

    if (r != -ETIMEDOUT)
        return r;
    vouch_listener_get_stats(listener, &stats);
    if (stats.shed + stats.refused_unknown + stats.errors == 0)
        return -ETIMEDOUT;
    n = vouch_conn_read(client, &byte, 1);
    return n == 0 || n == -ECONNRESET ? -ECONNRESET : SCENARIO_WRONG;
}

static int dial_and_accept(struct vouch_listener *listener, const char *path,
                           const struct scenario_place *place) {
    struct vouch_dial_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator,
                                         .timeout = PATIENCE};
    struct vouch_conn *client, *server;
    uint8_t bytes[5];
    int r = vouch_dial(path, &options, &client, NULL);

    if (r < 0)
        return r;
    vouch_conn_set_deadline(client, VOUCH_BOTH, vouch_deadline_in(PATIENCE));
    r = accept_here(listener, client, &server);
    if (r < 0) {
        vouch_conn_free(client);
        return r;
    }
    vouch_conn_set_deadline(server, VOUCH_BOTH, vouch_deadline_in(PATIENCE));
    r = vouch_conn_write(client, "hello", 5);
    if (r == 0)
        r = vouch_conn_read_exactly(server, bytes, 5);
    if (r == 0 && (memcmp(bytes, "hello", 5) != 0 || vouch_conn_get_peer(server)->uid != geteuid()))
        r = SCENARIO_WRONG;
    vouch_conn_free(server);
    vouch_conn_free(client);
    return r;
}

static int serve_at(const char *path, const struct scenario_place *place) {
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .allocator = place->allocator};
    struct vouch_listener *listener;
    int r = vouch_listen(path, &options, &listener, NULL);

    if (r < 0)
        return r;
    r = dial_and_accept(listener, path, place);
    if (r == 0)
        r = dial_and_accept(listener, path, place);
    vouch_listener_close(listener);
    vouch_listener_free(listener);
    return r;
}

static int listen_and_dial(const struct scenario_place *place) {
    return serve_at(place->path, place);
}

static int listen_over_a_stale_socket(const struct scenario_place *place) {
    return serve_at(place->stale_path, place);
}

const struct scenario scenarios_base[] = {
    {.name = "identity_self", .run = identity_self},
    {.name = "identity_of_peer", .run = identity_of_peer},
    {.name = "pool_buffers", .run = pool_buffers},
    {.name = "poller_events", .run = poller_events},
    {.name = "conn_bulk", .run = conn_bulk},
    {.name = "conn_bulk_without_deadline", .run = conn_bulk_without_deadline},
    {.name = "conn_write_only", .run = conn_write_only},
    {.name = "conn_fds", .run = conn_fds},
    {.name = "chunk_exchange", .run = chunk_exchange},
    {.name = "listen_and_dial", .run = listen_and_dial},
    {.name = "listen_over_a_stale_socket", .run = listen_over_a_stale_socket},
    {0},
};
