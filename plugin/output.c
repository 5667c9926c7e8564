/* SPDX-License-Identifier: MIT */
/*
 * What the plugin writes to its standard output and error. It is always read, whatever becomes of
 * it: a plugin whose log fills a pipe would stand still.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/error.h"
#include "plugin/plugin.h"
#include "plugin/record.h"

#define PIECE ((size_t)32 * 1024)
/* What a pipe that is left behind may still hold; more than the kernel's largest by default. */
#define LEFT_MAX ((size_t)1024 * 1024)

static void remember(struct plugin_run *run, const char *bytes, size_t size) {
    if (size > PLUGIN_TAIL_MAX) {
        bytes += size - PLUGIN_TAIL_MAX;
        size = PLUGIN_TAIL_MAX;
    }
    size_t keep = PLUGIN_TAIL_MAX - size < run->tail_size ? PLUGIN_TAIL_MAX - size : run->tail_size;
    memmove(run->tail, run->tail + run->tail_size - keep, keep);
    memcpy(run->tail + keep, bytes, size);
    run->tail_size = keep + size;
}

static void deliver(struct plugin_output *output, const struct lines_line *line) {
    struct vouch_plugin *plugin = output->plugin;
    struct record record = {VOUCH_PLUGIN_LEVEL_PLAIN, NULL, 0};
    struct vouch_plugin_line told = {
        .stream = output->stream, .cut = line->cut, .dropped = line->dropped};
    char *text = line->text;
    size_t size = line->size;
    if (record_parse(line->text, line->size, &record) && record.message) {
        text = record.message;
        size = record.message_size;
    }
    told.level = record.level;
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\t')
            text[i] = ' ';
    told.text = output->clean;
    told.size = error_copy_text(output->clean, output->lines.room + 1, text, size);
    plugin->stats.lines++;
    if (!plugin->options.on_line)
        return;
    loop_pause(plugin->loop);
    plugin->options.on_line(plugin->options.context, plugin, &told);
    loop_resume(plugin->loop);
}

static void take(struct plugin_output *output, const char *bytes, size_t size) {
    struct lines_line line;
    int64_t now = vouch_now();
    output->plugin->stats.output_bytes += size;
    if (output->stream == 2)
        remember(&output->plugin->run, bytes, size);
    while (lines_next(&output->lines, &bytes, &size, now, &line))
        deliver(output, &line);
}

/* One piece: its size; 0: nothing now; negative: the end. */
static ssize_t read_piece(struct plugin_output *output) {
    char bytes[PIECE];
    ssize_t size;
    do
        size = read(output->source.fd, bytes, sizeof(bytes));
    while (size < 0 && errno == EINTR);
    if (size > 0)
        take(output, bytes, (size_t)size);
    if (size < 0 && errno == EAGAIN)
        return 0;
    return size > 0 ? size : -1;
}

static void close_output(struct plugin_output *output) {
    int fd = output->source.fd;
    loop_unwatch(output->plugin->loop, &output->source);
    if (fd >= 0)
        close(fd);
}

void plugin_read_output(struct loop_source *source) {
    struct plugin_output *output = (struct plugin_output *)(void *)source;
    if (read_piece(output) < 0)
        close_output(output);
}

void plugin_finish_output(struct plugin_output *output) {
    struct lines_line line;
    size_t taken = 0;
    while (output->source.fd >= 0 && taken < LEFT_MAX) {
        ssize_t size = read_piece(output);
        if (size <= 0)
            break;
        taken += (size_t)size;
    }
    close_output(output);
    if (output->lines.line && lines_last(&output->lines, vouch_now(), &line))
        deliver(output, &line);
}
