/* SPDX-License-Identifier: MIT */
/*
 * A plugin: a filter of text. The host gives it a text in pieces (`text`, answered with what comes
 * out of that piece) and says when it has ended (`end`, answered with the rest). What it does its
 * name says: upper, count, sort; crash and hang show what becomes of those who do.
 */
#include <ctype.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vouch/vouch.h>

static struct vouch_client *host;
static char *text;
static size_t text_size;
static unsigned long lines, words, bytes;
static bool in_word;

static int upper(struct vouch_call *call, const uint8_t *data, size_t size) {
    struct vouch_buffer *reply;
    int r = vouch_call_get_buffer(call, size, &reply);
    if (r < 0)
        return r;
    for (size_t i = 0; i < size; i++)
        reply->data[i] = (uint8_t)toupper(data[i]);
    reply->size = size;
    return vouch_call_reply_buffer(call, reply);
}

static int count(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        lines += data[i] == '\n';
        words += !in_word && !isspace(data[i]);
        in_word = !isspace(data[i]);
    }
    bytes += size;
    return 0;
}

static int keep(const uint8_t *data, size_t size) {
    char *more = realloc(text, text_size + size + 1);
    if (!more)
        return VOUCH_REMOTE_SERVER;
    text = more;
    memcpy(text + text_size, data, size);
    text_size += size;
    text[text_size] = '\0';
    return 0;
}

static int on_text(void *context, struct vouch_call *call) {
    const char *name = context;
    size_t size;
    const uint8_t *data = vouch_call_get_data(call, &size);
    if (strcmp(name, "upper") == 0)
        return upper(call, data, size);
    if (strcmp(name, "count") == 0)
        return count(data, size);
    if (strcmp(name, "sort") == 0)
        return keep(data, size);
    if (strcmp(name, "crash") == 0) {
        fprintf(stderr, "{\"level\":\"fatal\",\"message\":\"about to crash\"}\n");
        abort();
    }
    for (;;) /* hang */
        pause();
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int sort(struct vouch_call *call) {
    size_t found = 0, room = 1;
    for (size_t i = 0; i < text_size; i++)
        room += text[i] == '\n';
    char **all = calloc(room, sizeof(*all)), *sorted = malloc(text_size + room + 1), *to = sorted;
    if (!all || !sorted)
        return VOUCH_REMOTE_SERVER;
    for (char *save, *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        all[found++] = line;
    qsort(all, found, sizeof(*all), compare);
    for (size_t i = 0; i < found; i++)
        to += sprintf(to, "%s\n", all[i]);
    int r = vouch_call_reply(call, sorted, (size_t)(to - sorted));
    free(all);
    free(sorted);
    return r;
}

static int on_end(void *context, struct vouch_call *call) {
    char line[128];
    if (strcmp(context, "sort") == 0)
        return sort(call);
    if (strcmp(context, "count") != 0)
        return 0;
    int size = snprintf(line, sizeof(line), "%lu %lu %lu\n", lines, words, bytes);
    /* The host may be called back from inside a call. */
    if (vouch_client_call(host, "progress", line, (size_t)size - 1, NULL, NULL, NULL) != 0)
        fprintf(stderr, "the host does not want to know\n");
    return vouch_call_reply(call, line, (size_t)size);
}

static int on_ready(void *context, uint32_t version, struct vouch_client *client) {
    (void)context;
    (void)version;
    host = client;
    return 0;
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/');
    char *name = slash ? (char *)(uintptr_t)slash + 1 : argv[0];
    struct vouch_server_options one = {VOUCH_OPTIONS(one),
                                       .workers_max = 1}; /* one call at a time */
    struct vouch_server *server;
    struct vouch_error error;
    struct vouch_method methods[] = {
        {VOUCH_OPTIONS(methods[0]), .name = "text", .handler = on_text, .context = name},
        {VOUCH_OPTIONS(methods[0]), .name = "end", .handler = on_end, .context = name},
    };
    (void)argc;
    if (vouch_server_new(&one, &server) < 0 || vouch_server_add_method(server, &methods[0]) < 0 ||
        vouch_server_add_method(server, &methods[1]) < 0)
        return 2;
    struct vouch_plugin_serve_options options = {VOUCH_OPTIONS(options), .name = name,
                                                 .server = server, .on_ready = on_ready};
    int r = vouch_plugin_serve(&options, &error);
    if (r != 0)
        fprintf(stderr, "%s\n", error.message);
    vouch_server_free(server);
    free(text);
    return r != 0;
}
