/* SPDX-License-Identifier: MIT */
/*
 * How long a call takes, beside the same bytes over a bare socket.
 *
 *   vouch_bench [bytes [calls]]
 *
 * Echo between two processes. The ways take turns, round after round, so that what else the machine
 * does hits all of them alike: compare the columns of one run, not runs. Callers of "vouch ×16"
 * share one connection.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/vouch.h>

#define ROUNDS 5
#define CALLERS_MAX 16
#define FLIGHT 64

struct way {
    const char *name;
    int (*serve)(int fd);
    /* Makes `count` calls; puts each one's nanoseconds into `times` where it can tell. */
    void (*call)(int fd, size_t count);
    bool single; /* latencies are those of one caller */
};

static size_t bytes = 1024, calls = 20000;
static uint8_t *body;
static int64_t *times;

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "vouch_bench: %s\n", what);
    exit(1);
}

/* ---- a bare socket ---- */

static bool move_all(ssize_t (*move)(int, void *, size_t), int fd, void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t r = move(fd, (char *)data + done, size - done);
        if (r <= 0)
            return false;
        done += (size_t)r;
    }
    return true;
}

static ssize_t send_some(int fd, void *data, size_t size) {
    return send(fd, data, size, MSG_NOSIGNAL);
}

static ssize_t receive_some(int fd, void *data, size_t size) {
    return recv(fd, data, size, 0);
}

static int raw_serve(int fd) {
    while (move_all(receive_some, fd, body, bytes) && move_all(send_some, fd, body, bytes))
        continue;
    return 0;
}

static void raw_call(int fd, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int64_t begun = vouch_now();
        if (!move_all(send_some, fd, body, bytes) || !move_all(receive_some, fd, body, bytes))
            fail("the bare socket broke");
        times[i] = vouch_now() - begun;
    }
}

/* ---- vouch ---- */

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    return vouch_call_reply(call, data, size);
}

static int serve_with(int fd, unsigned flags) {
    struct vouch_conn *conn;
    struct vouch_server *server;
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "echo", .handler = echo,
                                  .flags = flags};
    if (vouch_conn_from_fd(fd, NULL, &conn) < 0 || vouch_server_new(NULL, &server) < 0 ||
        vouch_server_add_method(server, &method) < 0 || vouch_server_add_conn(server, conn) < 0)
        return 1;
    return vouch_server_run(server) < 0;
}

static int vouch_serve(int fd) {
    return serve_with(fd, 0);
}

static int quick_serve(int fd) {
    return serve_with(fd, VOUCH_METHOD_QUICK);
}

static struct vouch_client *client_of(int fd) {
    struct vouch_conn *conn;
    struct vouch_client *made = NULL;
    if (vouch_conn_from_fd(dup(fd), NULL, &conn) < 0 || vouch_client_new(conn, NULL, &made) < 0)
        fail("no client");
    return made;
}

static int64_t call_once(struct vouch_client *client) {
    struct vouch_reply reply;
    struct vouch_error error;
    int64_t begun = vouch_now();
    if (vouch_client_call(client, "echo", body, bytes, NULL, &reply, &error) != 0)
        fail(error.message);
    vouch_reply_release(&reply);
    return vouch_now() - begun;
}

static struct vouch_client *client; /* one for each way's connection, kept over its rounds */

static void vouch_call_one(int fd, size_t count) {
    (void)fd;
    for (size_t i = 0; i < count; i++)
        times[i] = call_once(client);
}

static void *caller(void *context) {
    for (size_t i = 0; i < *(size_t *)context; i++)
        call_once(client);
    return NULL;
}

static void vouch_call_many(int fd, size_t count) {
    pthread_t threads[CALLERS_MAX];
    size_t each = count / CALLERS_MAX;
    (void)fd;
    for (int i = 0; i < CALLERS_MAX; i++)
        if (pthread_create(&threads[i], NULL, caller, &each) != 0)
            fail("no thread");
    for (int i = 0; i < CALLERS_MAX; i++)
        pthread_join(threads[i], NULL);
}

static void count_reply(void *context, int result, const struct vouch_reply *reply,
                        const struct vouch_error *error) {
    (void)reply;
    if (result != 0)
        fail(error->message);
    --*(size_t *)context;
}

/* False: enough waits to be sent. */
static bool begin_call(size_t *in_flight) {
    int r =
        vouch_client_call_async(client, "echo", body, bytes, NULL, count_reply, in_flight, NULL);
    if (r < 0 && r != -EAGAIN)
        fail(vouch_strerror(r));
    *in_flight += r == 0;
    return r == 0;
}

static void vouch_call_flight(int fd, size_t count) {
    size_t in_flight = 0;
    (void)fd;
    size_t begun = 0;
    while (begun < count || in_flight > 0) {
        while (begun < count && in_flight < FLIGHT && begin_call(&in_flight))
            begun++;
        if (vouch_client_wait(client, VOUCH_FOREVER) < 0)
            fail("the connection broke");
    }
}

/* ---- measuring ---- */

static const struct way ways[] = {
    {"bare socket", raw_serve, raw_call, true},
    {"vouch", vouch_serve, vouch_call_one, true},
    {"vouch, quick method", quick_serve, vouch_call_one, true},
    {"vouch, 16 callers", quick_serve, vouch_call_many, false},
    {"vouch, 64 in flight", quick_serve, vouch_call_flight, false},
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

struct measured {
    int fd;
    pid_t server;
    struct vouch_client *client;
    double p50, p99, per_second; /* of the best round */
    uint64_t allocations;        /* of the library, in the last round, on this side */
};

static void start(const struct way *way, struct measured *m) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        fail("no socketpair");
    m->server = fork();
    if (m->server == 0) {
        close(fds[0]);
        _exit(way->serve(fds[1]));
    }
    close(fds[1]);
    m->fd = fds[0];
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure(const struct way *way, struct measured *m, size_t count) {
    struct vouch_memory_stats before, after;
    client = m->client;
    vouch_memory_get_stats(&before);
    int64_t begun = vouch_now();
    way->call(m->fd, count);
    double per_second = (double)count / ((double)(vouch_now() - begun) / 1e9);
    vouch_memory_get_stats(&after);
    m->allocations = after.allocations - before.allocations;
    if (per_second < m->per_second)
        return;
    m->per_second = per_second;
    if (!way->single)
        return;
    qsort(times, count, sizeof(*times), compare);
    m->p50 = (double)times[count / 2] / 1e3;
    m->p99 = (double)times[count * 99 / 100] / 1e3;
}

static void print(const struct way *way, const struct measured *m, const struct measured *raw) {
    printf("%-22s", way->name);
    if (way->single)
        printf("%10.1f %10.1f", m->p50, m->p99);
    else
        printf("%10s %10s", "", "");
    printf(" %12.0f %9.2f %12llu\n", m->per_second, m->per_second / raw->per_second,
           (unsigned long long)m->allocations);
}

int main(int argc, char **argv) {
    struct measured measured[WAYS] = {{0}};
    if (argc > 1)
        bytes = strtoul(argv[1], NULL, 10);
    if (argc > 2)
        calls = strtoul(argv[2], NULL, 10);
    if (argc > 3 || bytes == 0 || bytes > 4000000 || calls < ROUNDS * CALLERS_MAX)
        fail("usage: vouch_bench [bytes, 1 to 4000000 [calls, at least 80]]");
    body = calloc(1, bytes);
    times = calloc(calls, sizeof(*times));
    if (!body || !times)
        fail("no memory");
    for (size_t i = 0; i < WAYS; i++)
        start(&ways[i], &measured[i]); /* before there are threads */
    for (size_t i = 1; i < WAYS; i++)
        measured[i].client = client_of(measured[i].fd);

    size_t count = calls / ROUNDS / CALLERS_MAX * CALLERS_MAX;
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < WAYS; i++)
            measure(&ways[i], &measured[i], count);

    printf("echo of %zu bytes, best of %d rounds of %zu calls\n", bytes, ROUNDS, count);
    printf("%-22s%10s %10s %12s %9s %12s\n", "", "p50 µs", "p99 µs", "calls/s", "ratio",
           "allocations");
    for (size_t i = 0; i < WAYS; i++) {
        print(&ways[i], &measured[i], &measured[0]);
        vouch_client_free(measured[i].client);
        kill(measured[i].server, SIGKILL);
        waitpid(measured[i].server, NULL, 0);
    }
    free(body);
    free(times);
    return 0;
}
