/* SPDX-License-Identifier: MIT */
/*
 * A host of plugins: plugins DIRECTORY FILE
 *
 * Starts every program of the directory as a plugin, pipes the file through each of them in pieces,
 * and prints what became of it: what came out, what the plugin had to say, how it ended.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vouch/vouch.h>

#define PIECE 65536

static const char *const levels[] = {"plain", "trace", "debug", "info", "warn", "error", "fatal"};

static void on_line(void *context, struct vouch_plugin *plugin,
                    const struct vouch_plugin_line *line) {
    (void)context;
    printf("%-8s says (%s): %s\n", vouch_plugin_get_name(plugin), levels[line->level], line->text);
}

static void on_event(void *context, struct vouch_plugin *plugin,
                     const struct vouch_plugin_event *event) {
    (void)context;
    (void)plugin;
    if (event->type == VOUCH_PLUGIN_DOWN && !event->asked)
        printf("%s%s\n", event->text,
               event->restart_in >= 0 ? ": it will be started again" : ": it stays down");
}

/* What plugins may call. */
static int progress(void *context, struct vouch_call *call) {
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    (void)context;
    printf("         tells its host: %.*s\n", (int)size, (const char *)data);
    return 0;
}

/* A sum that shows whether it is the same text. */
static void take(const struct vouch_reply *reply, uint64_t *sum, size_t *size) {
    for (size_t i = 0; i < reply->size; i++)
        *sum = (*sum ^ reply->data[i]) * 0x100000001b3u;
    *size += reply->size;
}

static int call(struct vouch_client *client, const char *method, const void *data, size_t data_size,
                uint64_t *sum, size_t *size, struct vouch_error *error) {
    struct vouch_call_options options = {VOUCH_OPTIONS(options), .timeout = VOUCH_SECONDS(2)};
    struct vouch_reply reply;
    int r = vouch_client_call(client, method, data, data_size, &options, &reply, error);
    if (r == 0)
        take(&reply, sum, size);
    vouch_reply_release(&reply);
    return r;
}

static int filter(struct vouch_plugin *plugin, FILE *file) {
    static char piece[PIECE];
    struct vouch_client *client = vouch_plugin_get_client(plugin);
    struct vouch_error error;
    uint64_t sum = 0xcbf29ce484222325u;
    size_t size = 0, got, pieces = 0;
    int r = 0;
    rewind(file);
    while (r == 0 && (got = fread(piece, 1, sizeof(piece), file)) > 0) {
        r = call(client, "text", piece, got, &sum, &size, &error);
        pieces++;
    }
    if (r == 0)
        r = call(client, "end", NULL, 0, &sum, &size, &error);
    if (r == 0)
        printf("%-8s made %zu bytes of %zu pieces, sum %016" PRIx64 "\n",
               vouch_plugin_get_name(plugin), size, pieces, sum);
    else
        printf("%-8s failed: %s\n", vouch_plugin_get_name(plugin), error.message);
    return r;
}

static int serve(struct vouch_server **ret_server) {
    struct vouch_server *server;
    struct vouch_method method = {VOUCH_OPTIONS(method), .name = "progress", .handler = progress};
    int r = vouch_server_new(NULL, &server);
    if (r < 0)
        return r;
    r = vouch_server_add_method(server, &method);
    if (r == 0)
        r = vouch_server_start(server);
    if (r < 0)
        vouch_server_free(server);
    else
        *ret_server = server;
    return r;
}

static int run(struct vouch_plugin_set *set, const char *directory,
               const struct vouch_plugin_options *options, FILE *file) {
    struct vouch_error error;
    int loaded = vouch_plugin_set_load(set, directory, options, &error);
    if (loaded < 0) {
        fprintf(stderr, "plugins: %s\n", error.message);
        return 1;
    }
    int running = vouch_plugin_set_wait(set, vouch_deadline_in(VOUCH_SECONDS(30)));
    printf("%d programs, %d plugins run\n", loaded, running);
    for (struct vouch_plugin *plugin = NULL; (plugin = vouch_plugin_set_next(set, plugin));)
        if (vouch_plugin_get_state(plugin) == VOUCH_PLUGIN_RUNNING)
            (void)filter(plugin, file);
    int forced = vouch_plugin_set_stop(set, vouch_deadline_in(VOUCH_SECONDS(5)));
    printf("all have ended, %d needed a signal\n", forced);
    return running <= 0;
}

int main(int argc, char **argv) {
    struct vouch_plugin_options options = {
        VOUCH_OPTIONS(options), .restart = VOUCH_PLUGIN_RESTART_NEVER,
        .stop_timeout = VOUCH_MILLISECONDS(300), .on_line = on_line, .on_event = on_event};
    struct vouch_plugin_set *set;
    if (argc != 3) {
        fprintf(stderr, "usage: plugins DIRECTORY FILE\n");
        return 2;
    }
    FILE *file = fopen(argv[2], "r");
    if (!file || serve(&options.server) < 0 || vouch_plugin_set_new(true, NULL, &set) < 0) {
        fprintf(stderr, "plugins: %s: %s\n", argv[2], strerror(errno));
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int r = run(set, argv[1], &options, file);
    vouch_plugin_set_free(set);
    vouch_server_free(options.server);
    fclose(file);
    return r;
}
