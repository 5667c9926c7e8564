/* SPDX-License-Identifier: MIT */
#include "tests/plugin_support.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/keeper.h"
#include "tests/harness.h"

static int children_before;

/* /proc/self/task/.../children is of one thread each, and may be absent: this is certain. */
static pid_t parent_of(pid_t pid, char *ret_state) {
    char path[64], text[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    size_t size = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    if (file)
        fclose(file);
    text[size] = '\0';
    const char *end = strrchr(text, ')');
    int parent = 0;
    char state = 0;
    if (!end || sscanf(end + 1, " %c %d", &state, &parent) != 2)
        return -1;
    *ret_state = state;
    return parent;
}

int plugin_children(void) {
    DIR *directory = opendir("/proc");
    int count = 0;
    const struct dirent *entry;
    char state;
    if (!directory)
        return -1;
    while ((entry = readdir(directory))) {
        pid_t pid = atoi(entry->d_name);
        count += pid > 0 && parent_of(pid, &state) == getpid();
    }
    closedir(directory);
    return count;
}

bool plugin_alive(pid_t pid) {
    char state;
    return parent_of(pid, &state) >= 0 && state != 'Z' && state != 'X';
}

size_t plugin_read_pids(const char *path, pid_t *ret_pids, size_t room) {
    FILE *file = fopen(path, "re");
    size_t count = 0;
    int pid;
    cr_assert_not_null(file);
    while (count < room && fscanf(file, "%d", &pid) == 1)
        ret_pids[count++] = pid;
    fclose(file);
    return count;
}

bool plugin_all_gone(const pid_t *pids, size_t count, int64_t timeout) {
    int64_t give_up = vouch_deadline_in(timeout);
    for (size_t i = 0; i < count; i++)
        while (plugin_alive(pids[i])) {
            if (vouch_now() >= give_up)
                return false;
            usleep(1000);
        }
    return true;
}

void plugin_test_begin(void) {
    support_baseline_begin();
    children_before = plugin_children();
}

void plugin_test_end(void) {
    cr_assert_eq(plugin_children(), children_before, "a process is left");
    support_baseline_end();
}

const char *plugin_helper(void) {
    static char path[1024];
    const char *given = getenv("VOUCH_TEST_PLUGINS");
    if (given) {
        snprintf(path, sizeof(path), "%s/helper", given);
        return path;
    }
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 32);
    cr_assert_gt(size, 0);
    path[size] = '\0';
    snprintf(strrchr(path, '/') + 1, 32, "plugins/helper");
    return path;
}

static void on_event(void *context, struct vouch_plugin *plugin,
                     const struct vouch_plugin_event *event) {
    struct plugin_log *log = context;
    (void)plugin;
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    if (log->event_count < PLUGIN_EVENTS) {
        struct plugin_log_event *to = &log->events[log->event_count];
        to->type = event->type;
        to->exit_status = event->exit_status;
        to->signal = event->signal;
        to->asked = event->asked;
        to->restart_in = event->restart_in;
        to->at = vouch_now();
        to->pid = event->pid;
        snprintf(to->text, PLUGIN_TEXT, "%s", event->text ? event->text : "");
        snprintf(to->output, PLUGIN_TEXT, "%s", event->output ? event->output : "");
    }
    log->event_count++;
    pthread_mutex_unlock(&log->lock);
}

static void on_line(void *context, struct vouch_plugin *plugin,
                    const struct vouch_plugin_line *line) {
    struct plugin_log *log = context;
    (void)plugin;
    if (!log)
        return;
    cr_assert_eq(strlen(line->text), line->size);
    pthread_mutex_lock(&log->lock);
    if (log->line_count < PLUGIN_EVENTS) {
        log->lines[log->line_count].stream = line->stream;
        log->lines[log->line_count].level = line->level;
        log->lines[log->line_count].cut = line->cut;
        snprintf(log->lines[log->line_count].text, PLUGIN_TEXT, "%s", line->text);
    }
    log->line_count++;
    log->dropped += line->dropped;
    pthread_mutex_unlock(&log->lock);
}

bool plugin_is_portable(void) {
    return !keeper_os_adopts;
}

struct vouch_plugin_options plugin_options(const char *mode, const char *argument,
                                           struct plugin_log *log) {
    static const char *arguments[3];
    arguments[0] = mode;
    arguments[1] = argument;
    if (log) {
        memset(log, 0, sizeof(*log));
        pthread_mutex_init(&log->lock, NULL);
    }
    /* Where orphans are not adopted, who leaves the group is not found. */
    static const char *const plain[] = {"NO_SESSIONS=1", NULL};
    struct vouch_plugin_options options = {
        VOUCH_OPTIONS(options),
        .environment = plugin_is_portable() ? plain : NULL,
        .program = plugin_helper(),
        .arguments = arguments,
        .threaded = true,
        .on_event = on_event,
        .stop_timeout = VOUCH_SECONDS(20), /* what ends by itself may be slow on a busy machine */
        .on_line = on_line,
        .context = log};
    return options;
}

struct vouch_plugin *plugin_open(const char *mode, struct plugin_log *log) {
    struct vouch_plugin_options options = plugin_options(mode, NULL, log);
    struct vouch_plugin *plugin;
    struct vouch_error error = {.message = ""};
    cr_assert_eq(vouch_plugin_start(&options, &plugin, &error), 0, "%s", error.message);
    return plugin;
}

const char *plugin_fails(const char *mode, const char *argument, int code) {
    static struct vouch_error error;
    struct vouch_plugin_options options = plugin_options(mode, argument, NULL);
    struct vouch_plugin *plugin;
    options.start_timeout = VOUCH_SECONDS(20);
    error.message[0] = '\0';
    int r = vouch_plugin_start(&options, &plugin, &error);
    cr_assert_eq(r, code, "%s: %d: %s", mode, r, error.message);
    cr_assert_eq(error.code, code);
    return error.message;
}

void plugin_log_wait(struct plugin_log *log, unsigned events) {
    int64_t give_up = vouch_deadline_in(RPC_PATIENCE);
    for (;;) {
        pthread_mutex_lock(&log->lock);
        unsigned count = log->event_count;
        pthread_mutex_unlock(&log->lock);
        if (count >= events)
            return;
        cr_assert_lt(vouch_now(), give_up, "%u of %u events", count, events);
        usleep(1000);
    }
}

struct plugin_log_event plugin_log_event(struct plugin_log *log, unsigned index) {
    pthread_mutex_lock(&log->lock);
    struct plugin_log_event event = log->events[index];
    pthread_mutex_unlock(&log->lock);
    return event;
}
