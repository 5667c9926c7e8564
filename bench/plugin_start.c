/* SPDX-License-Identifier: MIT */
/*
 * How long a plugin takes from its start to its first reply, beside fork and exec of the same
 * program that ends at once.
 *
 *   plugin_start [rounds]
 *
 * This program is its own plugin. The ways take turns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vouch/vouch.h>

#define ROUNDS_MAX 10000

static int echo(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    return vouch_call_reply(call, data, size);
}

static int be_plugin(void) {
    struct vouch_server *server;
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "echo", .handler = echo};
    if (vouch_server_new(NULL, &server) < 0 || vouch_server_add_method(server, &method) < 0)
        return 1;
    struct vouch_plugin_serve_options options = {VOUCH_OPTIONS(options), .name = "echo",
                                                 .server = server};
    int r = vouch_plugin_serve(&options, NULL);
    vouch_server_free(server);
    return r != 0;
}

static int64_t start_plugin(const char *self) {
    static const char *const arguments[] = {"--plugin", NULL};
    struct vouch_plugin_options options = {VOUCH_OPTIONS(options), .program = self,
                                           .arguments = arguments, .threaded = true};
    struct vouch_plugin *plugin;
    struct vouch_error error;
    int64_t begun = vouch_now();
    if (vouch_plugin_start(&options, &plugin, &error) < 0 ||
        vouch_client_call(vouch_plugin_get_client(plugin), "echo", "x", 1, NULL, NULL, &error)) {
        fprintf(stderr, "plugin_start: %s\n", error.message);
        exit(1);
    }
    int64_t taken = vouch_now() - begun;
    vouch_plugin_free(plugin);
    return taken;
}

static int64_t fork_and_exec(const char *self) {
    int64_t begun = vouch_now();
    pid_t child = fork();
    if (child == 0) {
        execl(self, self, "--nothing", (char *)NULL);
        _exit(1);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child)
        exit(1);
    return vouch_now() - begun;
}

static int compare(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void report(const char *what, int64_t *times, size_t count) {
    qsort(times, count, sizeof(*times), compare);
    printf("%-30s %8.0f us median %8.0f us p99\n", what, (double)times[count / 2] / 1000,
           (double)times[count * 99 / 100] / 1000);
}

int main(int argc, char **argv) {
    static int64_t plugins[ROUNDS_MAX], forks[ROUNDS_MAX];
    if (argc > 1 && strcmp(argv[1], "--plugin") == 0)
        return be_plugin();
    if (argc > 1 && strcmp(argv[1], "--nothing") == 0)
        return 0;
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
    if (rounds == 0 || rounds > ROUNDS_MAX)
        return 2;
    for (size_t i = 0; i < rounds; i++) {
        forks[i] = fork_and_exec(argv[0]);
        plugins[i] = start_plugin(argv[0]);
    }
    report("fork, exec, exit, wait", forks, rounds);
    report("plugin: start to first reply", plugins, rounds);
    return 0;
}
