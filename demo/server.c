/* SPDX-License-Identifier: MIT */
/*
 * The demo's server: server SOCKET [OPEN ROOT_ONLY]
 *
 * SOCKET is for our own user (mode 0600, the default policy). OPEN lets everybody connect,
 * ROOT_ONLY lets everybody try and admits root. Prints "ready" when all are published, serves until
 * SIGTERM.
 *
 * A text comes in many calls, which the server puts together by the number of its stream:
 *
 *     wordcount  "STREAM more|end\n" bytes…          -> "STREAM LINES WORDS BYTES"
 *     grep       "STREAM more|end PATTERN\n" bytes…  -> "STREAM LINES"
 *
 * Stream 0 begins a new one; the answer has its number, and the counts up to here. Words are also
 * counted in JSON and protobuf (layer_*.c).
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <vouch/vouch.h>

#include "demo/layers.h"
#include "demo/streams.h"
#include "demo/text.h"

#define HEADER_MAX 128

static struct vouch_server *server;
static struct vouch_listener *root_only;

static atomic_uint holds_begun, holds_cancelled;

__attribute__((format(printf, 2, 3))) static int reply(struct vouch_call *call, const char *format,
                                                       ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return vouch_call_reply(call, text, (size_t)size < sizeof(text) ? (size_t)size : sizeof(text));
}

/* ---- the job ---- */

/* The request's bytes are whatever a client sent: not even terminated. `header` is where the
 * pattern is then. */
static bool parse(struct vouch_call *call, bool search, char header[HEADER_MAX],
                  struct piece *ret_piece) {
    const char *rest;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    const uint8_t *newline = memchr(data, '\n', size < HEADER_MAX ? size : HEADER_MAX);
    if (!newline)
        return false;
    memcpy(header, data, (size_t)(newline - data));
    header[newline - data] = 0;
    if (text_numbers(header, &ret_piece->stream, 1, &rest) != 1)
        return false;
    ret_piece->end = strncmp(rest, "end", 3) == 0;
    if (!ret_piece->end && strncmp(rest, "more", 4) != 0)
        return false;
    rest += ret_piece->end ? 3 : 4;
    ret_piece->pattern = !search ? NULL : *rest == ' ' ? rest + 1 : rest;
    ret_piece->text = newline + 1;
    ret_piece->size = size - (size_t)(newline + 1 - data);
    return true;
}

static int feed(struct vouch_call *call, bool search, struct counts *ret_counts) {
    char header[HEADER_MAX];
    struct piece piece;
    if (parse(call, search, header, &piece))
        return streams_feed(call, &piece, ret_counts);
    vouch_call_fail(call, VOUCH_REMOTE_BAD_DATA, "expected 'STREAM more|end [PATTERN]\\n'");
    return -EINVAL;
}

static int wordcount(void *context, struct vouch_call *call) {
    struct counts counts;
    (void)context;
    if (feed(call, false, &counts) < 0)
        return 0;
    return reply(call, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, counts.stream, counts.lines,
                 counts.words, counts.bytes);
}

static int grep(void *context, struct vouch_call *call) {
    struct counts counts;
    (void)context;
    if (feed(call, true, &counts) < 0)
        return 0;
    return reply(call, "%" PRIu64 " %" PRIu64, counts.stream, counts.lines);
}

/* ---- for the scenes ---- */

static int whoami(void *context, struct vouch_call *call) {
    char who[256];
    (void)context;
    return reply(call, "%s", vouch_identity_format(vouch_call_get_peer(call), who, sizeof(who)));
}

/* Sleeps for the milliseconds of the request and looks at nothing meanwhile. */
static int nap(void *context, struct vouch_call *call) {
    char text[8] = "";
    uint64_t number = 0;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    memcpy(text, data, size < sizeof(text) - 1 ? size : sizeof(text) - 1);
    if (text_numbers(text, &number, 1, NULL) != 1 || number > 10000)
        return VOUCH_REMOTE_BAD_DATA;
    struct timespec left = {(time_t)(number / 1000), (long)(number % 1000) * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
    return reply(call, "slept %s ms", text);
}

/* Stays until its caller does not want it any more. */
static int hold(void *context, struct vouch_call *call) {
    (void)context;
    holds_begun++;
    if (!vouch_call_wait_cancelled(call, vouch_deadline_in(VOUCH_SECONDS(20))))
        return reply(call, "held for 20 s");
    holds_cancelled++;
    return VOUCH_REMOTE_CANCELLED;
}

static int holding(void *context, struct vouch_call *call) {
    (void)context;
    return reply(call, "%u %u", holds_begun, holds_cancelled);
}

static int stats(void *context, struct vouch_call *call) {
    struct vouch_memory_stats memory;
    struct vouch_listener_stats refused = {0};
    (void)context;
    vouch_memory_get_stats(&memory);
    if (root_only)
        vouch_listener_get_stats(root_only, &refused);
    return reply(call, "%" PRIu64 " %" PRIu64, memory.allocations, refused.refused_policy);
}

static int admin(void *context, struct vouch_call *call) {
    (void)context;
    return reply(call, "at your service");
}

/* ---- start and stop ---- */

static const struct vouch_rule allow_root[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_UID, 0}};
static const struct vouch_policy root = {allow_root, 1};
static const struct vouch_rule allow_any[] = {{VOUCH_ALLOW, VOUCH_SUBJECT_ANY, 0}};
static const struct vouch_policy anybody = {allow_any, 1};

static int add_methods(void) {
    const struct vouch_method methods[] = {
        {.name = "wordcount", .handler = wordcount},
        {.name = "grep", .handler = grep},
        {.name = "whoami", .handler = whoami, .flags = VOUCH_METHOD_QUICK},
        {.name = "nap", .handler = nap},
        {.name = "hold", .handler = hold},
        {.name = "holding", .handler = holding, .flags = VOUCH_METHOD_QUICK},
        {.name = "stats", .handler = stats, .flags = VOUCH_METHOD_QUICK},
        {.name = "admin", .handler = admin, .policy = &root},
    };
    int r = 0;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]) && r == 0; i++)
        r = vouch_server_add_method(server, &methods[i]);
    for (size_t i = 0; i < LAYERS && r == 0; i++)
        r = layers[i].add_method ? layers[i].add_method(server) : 0;
    return r;
}

static int failed(const char *what, const char *why) {
    fprintf(stderr, "server: %s: %s\n", what, why);
    return 1;
}

static int publish(const char *path, mode_t mode, const struct vouch_policy *policy,
                   struct vouch_listener **ret_listener) {
    struct vouch_listen_options options = {VOUCH_OPTIONS(options), .mode = mode, .policy = policy};
    struct vouch_error error;
    if (vouch_listen(path, &options, ret_listener, &error) < 0)
        return failed("listen", error.message);
    int r = vouch_server_add_listener(server, *ret_listener);
    if (r == 0)
        return 0;
    vouch_listener_free(*ret_listener);
    return failed(path, vouch_strerror(r));
}

static void interrupted(int signal_number) {
    (void)signal_number;
    vouch_server_interrupt(server);
}

static int serve(int argc, char **argv) {
    struct vouch_listener *listener;
    struct sigaction action = {.sa_handler = interrupted};
    int r = add_methods();
    if (r < 0)
        return failed("methods", vouch_strerror(r));
    if (publish(argv[1], 0600, NULL, &listener) != 0)
        return 1;
    if (argc == 4 && (publish(argv[2], 0666, &anybody, &listener) != 0 ||
                      publish(argv[3], 0666, &root, &root_only) != 0))
        return 1;
    sigaction(SIGTERM, &action, NULL);
    printf("ready\n");
    fflush(stdout);
    r = vouch_server_run(server);
    signal(SIGTERM, SIG_IGN); /* its handler uses the server */
    return r < 0 ? failed("run", vouch_strerror(r)) : 0;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: server SOCKET [OPEN ROOT_ONLY]\n");
        return 2;
    }
    int r = vouch_server_new(NULL, &server);
    if (r < 0)
        return failed("new", vouch_strerror(r));
    r = serve(argc, argv);
    vouch_server_free(server);
    return r;
}
