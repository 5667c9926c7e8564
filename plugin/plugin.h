/* SPDX-License-Identifier: MIT */
/*
 * A plugin's insides. plugin.c (its life, and what the program asks of it), supervise.c (from one
 * start to the next), welcome.c (the host's side of the handshake), output.c (what it writes).
 *
 * Everything is under the loop's lock; descriptors of a run belong to the thread that turns.
 */
#ifndef VOUCH_PLUGIN_PLUGIN_H
#define VOUCH_PLUGIN_PLUGIN_H

#include <stdatomic.h>
#include <vouch/plugin.h>

#include "plugin/backoff.h"
#include "plugin/handshake.h"
#include "plugin/keeper.h"
#include "plugin/lines.h"
#include "plugin/loop.h"
#include "plugin/program.h"

#define PLUGIN_TAIL_MAX 2048 /* of what was written to standard error */
#define PLUGIN_PING_MIN VOUCH_MILLISECONDS(100)

/* How far its end has been asked for. Over: its processes are gone, its last replies are read. */
enum plugin_step { STEP_NONE, STEP_ASKED, STEP_TERMED, STEP_KILLED, STEP_ABANDONED, STEP_OVER };

struct plugin_output {
    struct loop_source source; /* first */
    struct vouch_plugin *plugin;
    int stream;
    struct lines lines;
    char *clean; /* as long as a line */
};

/* One process, from its start to its end. */
struct plugin_run {
    struct keeper keeper;
    pid_t pid;  /* 0: not started, or over */
    int socket; /* until it is a connection */
    char token[HANDSHAKE_TOKEN_SIZE + 1];
    char hello[HANDSHAKE_LINE_MAX];
    size_t hello_size;
    bool hello_whole;
    bool closed;   /* the connection has ended, the process not yet */
    bool reported; /* how it ended is known: */
    int exit_status, signal;
    enum plugin_step step;
    bool signalled;      /* it did not end by itself in time */
    int64_t welcomed_at; /* 0: not yet */
    uint64_t beats;
    bool beaten;
    unsigned misses;
    struct vouch_error failure; /* code 0: none; the first that went wrong */
    char tail[PLUGIN_TAIL_MAX + 1];
    size_t tail_size;
};

struct vouch_plugin {
    struct loop_member member; /* first */
    struct loop *loop;
    bool in_set;
    const struct vouch_allocator *allocator;
    struct vouch_plugin_options
        options; /* numbers, callbacks; pointers to copied things are not used */
    struct program program;
    struct handshake_versions versions;
    struct backoff backoff;
    struct vouch_server *server;
    struct vouch_client *client;

    enum vouch_plugin_state state;
    bool stop_wanted; /* for good */
    bool kill_wanted; /* … and at once */
    bool was_running; /* once: from then on it is started again */
    bool signalled;   /* the last run */
    uint32_t version;
    atomic_bool gone; /* the connection has ended: set by whoever sees it */
    struct loop_timer timer, ping_timer;
    struct loop_source control, socket;
    struct plugin_output output[2];
    struct plugin_run run;
    struct vouch_error error; /* of the last run that failed */
    struct vouch_plugin_stats stats;
};

/* ---- plugin.c ---- */

/* One that is not started. 0, -EINVAL, -ENOMEM, errnos. Loop's lock held. */
int plugin_new(struct loop *loop, const struct vouch_plugin_options *options, bool in_set,
               struct vouch_plugin **ret_plugin, struct vouch_error *error) VOUCH_MUST_CHECK;
/* It has ended, or was never begun. No lock held. */
void plugin_destroy(struct vouch_plugin *plugin);
void plugin_abandon(struct vouch_plugin *plugin); /* in a forked child */

/* ---- supervise.c; loop's lock held ---- */

/* Begins a run. 0 or negative errno, in which case there is none. */
int plugin_begin(struct vouch_plugin *plugin) VOUCH_MUST_CHECK;
void plugin_work(struct loop_member *member);
/* What has to be done when the end is wanted; by the thread that turns, plugin_work does it. */
void plugin_want_stop(struct vouch_plugin *plugin, bool kill);
/* Something about this run is wrong: it is killed, and the first reason is kept. */
void plugin_fail(struct vouch_plugin *plugin, int code, const char *format, ...) VOUCH_PRINTF(3, 4);
/* Takes the keeper's reports: 0, or -ECONNRESET when there are no more. */
int plugin_listen(struct vouch_plugin *plugin);
/* The handshake is complete. */
void plugin_welcomed(struct vouch_plugin *plugin);
void plugin_set_handlers(struct vouch_plugin *plugin);
void plugin_say_event(struct vouch_plugin *plugin, struct vouch_plugin_event *event);

/* ---- welcome.c ---- */

void plugin_welcome(struct loop_source *source);
void plugin_take_hello(struct vouch_plugin *plugin); /* if it has come, and may be taken */

/* ---- output.c ---- */

void plugin_read_output(struct loop_source *source);
/* The process has ended: what is left of its output, and of a last line. */
void plugin_finish_output(struct plugin_output *output);

#endif
