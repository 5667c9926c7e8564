/* SPDX-License-Identifier: MIT */
/*
 * The demo's client: client DIRECTORY SERVER_PID VICTIM_PID
 *
 * Goes through scenes against two servers that demo/run has started, and checks what it sees. In
 * DIRECTORY are their sockets private/socket and private/victim, open and root-only, and
 * `expected`: a pattern, and what wc(1) and grep(1) say of some files. It ends both servers on its
 * way.
 */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/vouch.h>

#include "demo/check.h"
#include "demo/layers.h"
#include "demo/text.h"

#define PIECE                                                                                      \
    127 /* bytes of a text in one call: a prime, so that words and lines are cut anywhere */
#define WARM_CALLS 10000
#define WAITERS 8

static double milliseconds_since(int64_t start) {
    return (double)(vouch_now() - start) / 1e6;
}

/* Calls, and copies the reply as text, or the error's message. */
static int ask(struct vouch_client *client, const char *method, const char *request,
               int64_t timeout, char *ret_text, size_t room) {
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = timeout};
    struct vouch_error error;
    struct vouch_reply reply;
    int r = vouch_client_call(client, method, request, strlen(request), &options, &reply, &error);
    if (r == 0)
        snprintf(ret_text, room, "%.*s", (int)reply.size, reply.size ? (char *)reply.data : "");
    else
        snprintf(ret_text, room, "%.*s", (int)room - 1, error.message);
    vouch_reply_release(&reply);
    return r;
}

static struct vouch_client *dial(const char *path) {
    struct vouch_client *client = NULL;
    struct vouch_error error;
    if (vouch_client_dial(path, NULL, NULL, &client, &error) < 0)
        check(false, "dial: %s", error.message);
    return client;
}

/* ---- who is there ---- */

static void scene_identity(struct vouch_client *client) {
    char them[256] = "?", us[512], start[64];
    section("Who is there");
    const struct vouch_identity *peer = vouch_client_get_peer(client);
    if (peer)
        say("the client sees  %s", vouch_identity_format(peer, them, sizeof(them)));
    check(peer && peer->uid == geteuid(), "the server runs as our user");
    vouch_identity_unref(peer);

    int r = ask(client, "whoami", "", 0, us, sizeof(us));
    say("the server sees  %s", us);
    size_t size = (size_t)snprintf(start, sizeof(start), "uid=%u gid=%u ", geteuid(), getegid());
    check(r == 0 && strncmp(us, start, size) == 0, "it knows who we are, from the kernel");
}

/* ---- the job ---- */

/* "STREAM more|end PATTERN\n" and the bytes. */
static int send_bytes(struct vouch_client *client, const struct piece *piece,
                      struct counts *ret_counts, struct vouch_error *ret_error) {
    char request[PIECE + 128], answer[256] = "";
    uint64_t numbers[4] = {0};
    struct vouch_reply reply;
    int head = snprintf(request, sizeof(request) - PIECE, "%" PRIu64 " %s %s\n", piece->stream,
                        piece->end ? "end" : "more", piece->pattern ? piece->pattern : "");
    memcpy(request + head, piece->text, piece->size);
    int r = vouch_client_call(client, piece->pattern ? "grep" : "wordcount", request,
                              (size_t)head + piece->size, NULL, &reply, ret_error);
    if (r == 0)
        snprintf(answer, sizeof(answer), "%.*s", (int)reply.size, (const char *)reply.data);
    vouch_reply_release(&reply);
    if (r == 0 && text_numbers(answer, numbers, 4, NULL) < 2)
        r = -EPROTO;
    *ret_counts = (struct counts){numbers[0], numbers[1], numbers[2], numbers[3]};
    return r;
}

/* Sends a file in pieces; the last one, which may be empty, says that it is. */
static int send_file(struct vouch_client *client, piece_sender send, const char *pattern,
                     const char *path, struct counts *ret_counts, unsigned *calls) {
    char text[PIECE + 1];
    struct piece piece = {.pattern = pattern, .text = text};
    struct vouch_error error = {0};
    FILE *file = fopen(path, "re");
    int r = 0;
    if (!file)
        return -errno;
    for (; !piece.end && r == 0; (*calls)++) {
        piece.size = fread(text, 1, PIECE, file);
        piece.end = piece.size < PIECE;
        text[piece.size] = 0;
        r = send(client, &piece, ret_counts, &error);
        piece.stream = ret_counts->stream;
    }
    fclose(file);
    if (r != 0 && error.message[0])
        say("%s: %s", path, error.message);
    return r;
}

static bool same_counts(const struct counts *a, const struct counts *b) {
    return a->lines == b->lines && a->words == b->words && a->bytes == b->bytes;
}

static void do_file(struct vouch_client *client, const char *path, const char *pattern,
                    const uint64_t expected[4]) {
    const struct counts wanted = {0, expected[0], expected[1], expected[2]};
    struct counts words = {0}, found = {0};
    unsigned calls = 0;
    int r = send_file(client, send_bytes, NULL, path, &words, &calls);
    if (r == 0)
        r = send_file(client, send_bytes, pattern, path, &found, &calls);
    if (r != 0) {
        check(false, "%s: %s", path, vouch_strerror(r));
        return;
    }
    bool same = same_counts(&words, &wanted) && found.lines == expected[3];
    check(same, "%-38s %6u %7" PRIu64 " %7" PRIu64 " %8" PRIu64 " %7" PRIu64, path, calls,
          words.lines, words.words, words.bytes, found.lines);
    if (!same)
        say("wc and grep say:%*s%7" PRIu64 " %7" PRIu64 " %8" PRIu64 " %7" PRIu64, 30, "",
            expected[0], expected[1], expected[2], expected[3]);
}

/* The next file of `expected`, and what it has to have. False: there is none. */
static bool next_file(FILE *expected, char *line, int room, const char **ret_path,
                      uint64_t ret_numbers[4]) {
    if (!fgets(line, room, expected))
        return false;
    line[strcspn(line, "\n")] = 0;
    if (text_numbers(line, ret_numbers, 4, ret_path) == 4)
        return true;
    check(false, "'expected' has a strange line: %s", line);
    return false;
}

static void scene_job(struct vouch_client *client, FILE *expected) {
    char line[4096], pattern[TEXT_PATTERN_MAX + 1] = "";
    uint64_t numbers[4];
    unsigned files = 0;
    const char *path;
    section("The job: files in pieces over the socket, against wc and grep -c");
    if (!fgets(line, sizeof(line), expected) || sscanf(line, "%64s", pattern) != 1) {
        check(false, "'expected' does not begin with a pattern");
        return;
    }
    say("%-38s %6s %7s %7s %8s %7s", "file", "calls", "lines", "words", "bytes", pattern);
    for (; next_file(expected, line, sizeof(line), &path, numbers); files++)
        do_file(client, path, pattern, numbers);
    check(files > 0, "%u files, every count the same", files);
}

/* ---- the same, typed ---- */

static void do_file_typed(struct vouch_client *client, const char *path) {
    struct counts bytes = {0}, typed;
    char ways[64] = "bytes";
    bool same = true;
    unsigned calls = 0;
    int r = send_file(client, send_bytes, NULL, path, &bytes, &calls);
    for (size_t i = 0; i < LAYERS && r == 0; i++) {
        if (!layers[i].send)
            continue;
        memset(&typed, 0, sizeof(typed));
        r = send_file(client, layers[i].send, NULL, path, &typed, &calls);
        bool equal = same_counts(&typed, &bytes);
        same = same && equal;
        snprintf(ways + strlen(ways), sizeof(ways) - strlen(ways), " %s %s",
                 equal ? "=" : "!=", layers[i].name);
    }
    check(r == 0 && same, "%-38s %6u %7" PRIu64 " %7" PRIu64 " %8" PRIu64 "  %s", path, calls,
          bytes.lines, bytes.words, bytes.bytes, r == 0 ? ways : vouch_strerror(r));
}

static void scene_typed(struct vouch_client *client, FILE *expected) {
    char line[4096], skipped[128] = "";
    uint64_t numbers[4];
    const char *path;
    unsigned built = 0;
    section("The same word counts, typed");
    for (size_t i = 0; i < LAYERS; i++) {
        built += layers[i].send != NULL;
        if (!layers[i].send)
            snprintf(skipped + strlen(skipped), sizeof(skipped) - strlen(skipped), "%s%s (%s)",
                     *skipped ? ", " : "", layers[i].name, layers[i].library);
    }
    if (*skipped)
        say("skipped, not built for want of what it needs: %s", skipped);
    if (built == 0)
        return;
    say("%-38s %6s %7s %7s %8s", "file", "calls", "lines", "words", "bytes");
    rewind(expected);
    if (fgets(line, sizeof(line), expected)) /* the pattern */
        while (next_file(expected, line, sizeof(line), &path, numbers))
            do_file_typed(client, path);
}

/* ---- memory ---- */

static uint64_t client_allocations(void) {
    struct vouch_memory_stats memory;
    vouch_memory_get_stats(&memory);
    return memory.allocations;
}

/* The server's allocations, and the clients that its policy refused. */
static int server_counters(struct vouch_client *client, uint64_t *ret_allocations,
                           uint64_t *ret_refused) {
    char text[256];
    uint64_t numbers[2];
    int r = ask(client, "stats", "", 0, text, sizeof(text));
    if (r != 0)
        return r;
    if (text_numbers(text, numbers, 2, NULL) != 2)
        return -EPROTO;
    *ret_allocations = numbers[0];
    *ret_refused = numbers[1];
    return 0;
}

static int warm_calls(struct vouch_client *client) {
    static const char text[PIECE] = "warm";
    struct piece piece = {.text = text, .size = sizeof(text)};
    struct counts counts;
    int r = 0;
    for (int i = 1; i <= WARM_CALLS && r == 0; i++) {
        piece.end = i == WARM_CALLS;
        r = send_bytes(client, &piece, &counts, NULL);
        piece.stream = counts.stream;
    }
    return r;
}

/* Steady is what a program comes to: the first rounds may still fill pools and start workers. */
static void scene_memory(struct vouch_client *client) {
    uint64_t ours = 1, theirs = 1, after = 0, refused;
    int64_t start = 0;
    int r = 0;
    section("Memory");
    for (int round = 0; round < 5 && r == 0 && ours + theirs > 0; round++) {
        r = server_counters(client, &theirs, &refused);
        ours = client_allocations();
        start = vouch_now();
        if (r == 0)
            r = warm_calls(client);
        ours = client_allocations() - ours;
        if (r == 0)
            r = server_counters(client, &after, &refused);
        theirs = after - theirs;
    }
    if (r != 0) {
        check(false, "calls: %s", vouch_strerror(r));
        return;
    }
    say("%d warm calls in %.0f ms", WARM_CALLS, milliseconds_since(start));
    check(ours == 0, "heap allocations of the client: %" PRIu64, ours);
    check(theirs == 0, "heap allocations of the server: %" PRIu64, theirs);
}

/* ---- refused ---- */

/* Any number that no rule names and nobody has. Not that of `nobody`: it also stands for all users
 * that the kernel has no number for, so that vouch admits it only where a rule says it by number.
 */
#define STRANGER 65432

/* What somebody met who tried to connect and to call. */
#define ATTEMPT_TEXT 300
struct attempt {
    int result;
    char text[ATTEMPT_TEXT];
};

static struct attempt attempt(const char *path, const char *method) {
    struct attempt attempt = {0};
    struct vouch_client *client;
    struct vouch_error error;
    attempt.result = vouch_client_dial(path, NULL, NULL, &client, &error);
    if (attempt.result < 0) {
        snprintf(attempt.text, sizeof(attempt.text), "%.*s", ATTEMPT_TEXT - 1, error.message);
        return attempt;
    }
    attempt.result = ask(client, method, "", VOUCH_SECONDS(10), attempt.text, sizeof(attempt.text));
    vouch_client_free(client);
    return attempt;
}

enum { AT_PRIVATE, AT_ROOT_ONLY, AT_ADMIN, AT_OPEN, ATTEMPTS };

static void attempt_all(struct attempt attempts[ATTEMPTS]) {
    attempts[AT_PRIVATE] = attempt("private/socket", "whoami");
    attempts[AT_ROOT_ONLY] = attempt("root-only", "whoami");
    attempts[AT_ADMIN] = attempt("open", "admin");
    attempts[AT_OPEN] = attempt("open", "whoami");
}

/* The attempts by another user, in a child of ours, which is root. Returns false when even root may
 * not become somebody else here. */
static bool attempt_all_as_stranger(struct attempt attempts[ATTEMPTS]) {
    int ends[2];
    size_t size = ATTEMPTS * sizeof(attempts[0]);
    fflush(stdout);
    if (pipe(ends) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) < 0 || setgid(STRANGER) < 0 || setuid(STRANGER) < 0)
            _exit(1);
        attempt_all(attempts);
        _exit(write(ends[1], attempts, size) != (ssize_t)size);
    }
    close(ends[1]);
    bool ok = pid > 0 && read(ends[0], attempts, size) == (ssize_t)size;
    close(ends[0]);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return ok;
}

static void scene_refused(struct vouch_client *client) {
    struct attempt attempts[ATTEMPTS];
    uint64_t allocations, before = 0, refused = 0;
    bool root = geteuid() == 0;
    section("Refused");
    int r = server_counters(client, &allocations, &before);
    if (root && !attempt_all_as_stranger(attempts)) {
        say("skipped: root may not become another user here");
        return;
    }
    if (!root)
        attempt_all(attempts);
    if (r == 0)
        r = server_counters(client, &allocations, &refused);
    say("by %s", root ? "a process with another uid" : "us, who are not root");
    if (root)
        check(attempts[AT_PRIVATE].result == -EACCES, "mode, to connect: %s",
              attempts[AT_PRIVATE].text);
    check(attempts[AT_ROOT_ONLY].result == -ECONNRESET && r == 0 && refused == before + 1,
          "policy, to connect: %s", attempts[AT_ROOT_ONLY].text);
    check(attempts[AT_ADMIN].result == VOUCH_REMOTE_REFUSED, "policy, a method: %s",
          attempts[AT_ADMIN].text);
    check(attempts[AT_OPEN].result == 0, "allowed, another: %s", attempts[AT_OPEN].text);
}

/* ---- calls that end otherwise ---- */

static void scene_unknown(struct vouch_client *client) {
    char text[256];
    section("A method that is not there");
    int64_t start = vouch_now();
    int r = ask(client, "wordcoutn", "", VOUCH_SECONDS(10), text, sizeof(text));
    check(r == VOUCH_REMOTE_METHOD_NOT_FOUND, "answered after %.2f ms: %s",
          milliseconds_since(start), text);
}

static void scene_deadline(struct vouch_client *client) {
    char text[256];
    section("A deadline");
    int64_t start = vouch_now();
    int r = ask(client, "nap", "2000", VOUCH_MILLISECONDS(200), text, sizeof(text));
    double took = milliseconds_since(start);
    check((r == -ETIMEDOUT || r == VOUCH_REMOTE_DEADLINE_EXCEEDED) && took >= 200 && took < 2000,
          "the handler sleeps for 2000 ms, the caller gave it 200 and is told after %.1f: %s", took,
          text);
}

/* Asks until so many handlers hold, and so many have been cancelled. */
static bool wait_holding(struct vouch_client *client, unsigned begun, unsigned cancelled) {
    char text[256];
    uint64_t have[2];
    int64_t deadline = vouch_deadline_in(VOUCH_SECONDS(10));
    do {
        if (ask(client, "holding", "", VOUCH_SECONDS(10), text, sizeof(text)) != 0 ||
            text_numbers(text, have, 2, NULL) != 2)
            return false;
    } while ((have[0] < begun || have[1] < cancelled) && vouch_now() < deadline);
    return have[0] >= begun && have[1] >= cancelled;
}

static void keep_result(void *context, int result, const struct vouch_reply *reply,
                        const struct vouch_error *error) {
    (void)reply;
    (void)error;
    *(int *)context = result;
}

static void scene_cancel(struct vouch_client *client) {
    int result = 1;
    uint64_t id;
    section("A cancel");
    int r = vouch_client_call_async(client, "hold", NULL, 0, NULL, keep_result, &result, &id);
    if (r < 0) {
        check(false, "the call: %s", vouch_strerror(r));
        return;
    }
    check(wait_holding(client, 1, 0), "the handler runs");
    int64_t start = vouch_now();
    check(vouch_client_cancel_id(client, id) == 0, "cancelled");
    bool reached = wait_holding(client, 1, 1);
    check(reached, "the handler knew after %.2f ms", milliseconds_since(start));
    r = vouch_client_wait(client, vouch_deadline_in(VOUCH_SECONDS(10)));
    check(r == 1 && result == -ECANCELED, "the caller is told: %s", vouch_strerror(result));
}

/* ---- the ends of the servers ---- */

struct waiter {
    pthread_t thread;
    struct vouch_client *client;
    int result;
    int64_t ended;
};

static void *wait_for_reply(void *context) {
    struct waiter *waiter = context;
    waiter->result = vouch_client_call(waiter->client, "hold", NULL, 0, NULL, NULL, NULL);
    waiter->ended = vouch_now();
    return NULL;
}

static void scene_killed(struct vouch_client *client, pid_t pid) {
    struct waiter waiters[WAITERS];
    int64_t last = 0;
    unsigned started = 0, told = 0;
    section("A server killed in mid-call");
    for (; started < WAITERS; started++) {
        waiters[started].client = client;
        if (pthread_create(&waiters[started].thread, NULL, wait_for_reply, &waiters[started]) != 0)
            break;
    }
    bool held = wait_holding(client, WAITERS, 0);
    int64_t start = vouch_now();
    kill(pid, SIGKILL);
    for (unsigned i = 0; i < started; i++) {
        pthread_join(waiters[i].thread, NULL);
        told += waiters[i].result == -ECONNRESET;
        last = waiters[i].ended > last ? waiters[i].ended : last;
    }
    check(held, "%u threads wait for replies; SIGKILL", started);
    check(told == WAITERS && last - start < VOUCH_SECONDS(5),
          "%u of them know that the peer is gone, the last after %.2f ms", told,
          (double)(last - start) / 1e6);
}

static void scene_stop(struct vouch_client *client, const char *path, pid_t pid) {
    struct vouch_client *late = NULL;
    int result = -1;
    section("A server told to stop");
    int r = vouch_client_call_async(client, "nap", "300", 3, NULL, keep_result, &result, NULL);
    /* One connection, in order: when this one is answered, the call before it has arrived. */
    if (r == 0)
        r = vouch_client_call(client, "whoami", NULL, 0, NULL, NULL, NULL);
    kill(pid, SIGTERM);
    if (r == 0)
        r = vouch_client_wait(client, vouch_deadline_in(VOUCH_SECONDS(10)));
    check(r == 1 && result == 0, "the call in flight is completed");
    r = vouch_client_dial(path, NULL, NULL, &late, NULL);
    check(r == -ENOENT, "its socket is gone");
    vouch_client_free(late);
}

static int run(pid_t server, pid_t victim) {
    struct vouch_client *client = dial("private/socket");
    struct vouch_client *doomed = dial("private/victim");
    FILE *expected = fopen("expected", "re");
    if (client && doomed && expected) {
        printf("vouch %s\n", vouch_version());
        scene_identity(client);
        scene_job(client, expected);
        scene_typed(client, expected);
        scene_memory(client);
        scene_refused(client);
        scene_unknown(client);
        scene_deadline(client);
        scene_cancel(client);
        scene_killed(doomed, victim);
        scene_stop(client, "private/socket", server);
    }
    if (expected)
        fclose(expected);
    else
        check(false, "'expected': %s", strerror(errno));
    vouch_client_free(doomed);
    vouch_client_free(client);
    return check_finish();
}

int main(int argc, char **argv) {
    uint64_t server, victim;
    if (argc != 4 || text_numbers(argv[2], &server, 1, NULL) != 1 ||
        text_numbers(argv[3], &victim, 1, NULL) != 1 || chdir(argv[1]) < 0) {
        fprintf(stderr, "usage: client DIRECTORY SERVER_PID VICTIM_PID\n");
        return 2;
    }
    return run((pid_t)server, (pid_t)victim);
}
