/* SPDX-License-Identifier: MIT */
/*
 * What tests of plugins share: where the helper is, a host that remembers what it was told, and a
 * check that no process is left.
 */
#ifndef TESTS_PLUGIN_SUPPORT_H
#define TESTS_PLUGIN_SUPPORT_H

#include <vouch/plugin.h>

#include "tests/rpc_support.h"

#define PLUGIN_EVENTS 64
#define PLUGIN_TEXT 1024

/* What callbacks have told. */
struct plugin_log {
    pthread_mutex_t lock;
    struct plugin_log_event {
        enum vouch_plugin_event_type type;
        int exit_status, signal;
        bool asked;
        int64_t restart_in, at;
        pid_t pid;
        char text[PLUGIN_TEXT], output[PLUGIN_TEXT];
    } events[PLUGIN_EVENTS];
    unsigned event_count; /* all of them, also those without a place */
    struct {
        int stream;
        enum vouch_plugin_level level;
        bool cut;
        char text[PLUGIN_TEXT];
    } lines[PLUGIN_EVENTS];
    unsigned line_count;
    uint64_t dropped;
};

/* The beginning and the end of a test: leaks of ours as in support.h, and processes. */
void plugin_test_begin(void);
void plugin_test_end(void);

/* Path of a program of tests/plugins. Static. */
const char *plugin_helper(void);

/* Children of this process, by /proc: keepers too. -1 where that can't be known. */
int plugin_children(void);
bool plugin_alive(pid_t pid); /* and not a zombie */
/* The pids that the helper's `spread` wrote; returns how many. */
size_t plugin_read_pids(const char *path, pid_t *ret_pids, size_t room);
/* Waits until none of them is there; false after `timeout`. */
bool plugin_all_gone(const pid_t *pids, size_t count, int64_t timeout);

/* The portable variant of the keeper. */
bool plugin_is_portable(void);

/* Options for the helper in that mode, threaded, with the log (may be NULL). */
struct vouch_plugin_options plugin_options(const char *mode, const char *argument,
                                           struct plugin_log *log);
/* The arguments that they point to belong to one test at a time. */

/* Starts the helper, which has to work. */
struct vouch_plugin *plugin_open(const char *mode, struct plugin_log *log);
/* Starts it, which has to fail with this code; returns the text (static). */
const char *plugin_fails(const char *mode, const char *argument, int code);

void plugin_log_wait(struct plugin_log *log, unsigned events);
struct plugin_log_event plugin_log_event(struct plugin_log *log, unsigned index);

#endif
