/* SPDX-License-Identifier: MIT */
/*
 * Plugins: helper programs that are run as subprocesses, called, and may call back.
 *
 * The host starts a program with one end of a socketpair; there is no path and nothing on stdout.
 * After a short handshake both sides call each other on that one connection
 * (vouch_server_add_peer). A plugin that ends is started again, and none outlives its host: between
 * the two stands a keeper, a small process that ends the plugin and all its descendants when either
 * is to end. docs/plugins.md is the guide, and specifies the hand-over for plugins in other
 * languages.
 *
 * Threads. There are none unless `threaded` asks for one. Otherwise the program runs what has to be
 * done: vouch_plugin_run in a thread of its own, or vouch_plugin_process in its loop. All functions
 * may be called by any thread; callbacks run on the one that does the work, without a lock.
 *
 * Inside a callback (on_line, on_event): stop, wait and run answer -EDEADLK, free must not be
 * called; begin_stop and all that only look may be. Nothing else of the plugin, or of its set, gets
 * on until the callback returns. A blocking call of the client answers -EDEADLK where this thread
 * would have to read its own reply: without options.server, or with one in a foreign loop, and
 * always while the plugin is down (unless fail_while_down: -ECONNRESET). With a server that has
 * threads of its own it works. Asynchronous calls may always be made; vouch_client_wait must not be
 * called.
 *
 * Signals and children of the host program are left alone: no SIGCHLD handler is installed,
 * whatever is done about SIGCHLD does not disturb, and on Linux wait(2) for any child does not see
 * a keeper.
 */
#ifndef VOUCH_PLUGIN_H
#define VOUCH_PLUGIN_H

#include <sys/types.h>
#include <vouch/client.h>
#include <vouch/common.h>
#include <vouch/error.h>
#include <vouch/server.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vouch_plugin;

#define VOUCH_PLUGIN_NAME_MAX 64     /* bytes of A-Z a-z 0-9 _ . - */
#define VOUCH_PLUGIN_VERSIONS_MAX 16 /* application versions offered */
#define VOUCH_PLUGIN_FDS_MAX 16      /* descriptors given, beyond the connection */
#define VOUCH_PLUGIN_FIRST_FD 4      /* where they begin in the plugin; the connection is 3 */
#define VOUCH_PLUGIN_LINE_DEFAULT 8192u
#define VOUCH_PLUGIN_LINE_BOUND (1u << 20)

enum vouch_plugin_state {
    VOUCH_PLUGIN_STARTING, /* its process runs, the handshake is not complete */
    VOUCH_PLUGIN_RUNNING,
    VOUCH_PLUGIN_WAITING,  /* it has ended and will be started again */
    VOUCH_PLUGIN_STOPPING, /* it is being ended */
    VOUCH_PLUGIN_ENDED,    /* for good: stopped, not to be restarted, or in a crash loop */
};

enum vouch_plugin_restart {
    VOUCH_PLUGIN_RESTART_ALWAYS,     /* whenever it ends without having been asked to */
    VOUCH_PLUGIN_RESTART_ON_FAILURE, /* not after exit status 0 */
    VOUCH_PLUGIN_RESTART_NEVER,
};

enum vouch_plugin_level {
    VOUCH_PLUGIN_LEVEL_PLAIN, /* a line that is no JSON object, or has no level */
    VOUCH_PLUGIN_LEVEL_TRACE,
    VOUCH_PLUGIN_LEVEL_DEBUG,
    VOUCH_PLUGIN_LEVEL_INFO,
    VOUCH_PLUGIN_LEVEL_WARN,
    VOUCH_PLUGIN_LEVEL_ERROR,
    VOUCH_PLUGIN_LEVEL_FATAL,
};

/* A line that the plugin wrote. Valid while the callback runs. */
struct vouch_plugin_line {
    int stream;                    /* 1: its standard output, 2: its standard error */
    enum vouch_plugin_level level; /* of a JSON object with `level` (and `message`) */
    const char *text;              /* the line, or the message; clean UTF-8, NUL-terminated */
    size_t size;
    bool cut;         /* it was longer than line_max: the rest is lost */
    uint64_t dropped; /* lines lost before this one because of lines_per_second */
};

enum vouch_plugin_event_type {
    VOUCH_PLUGIN_STARTED, /* the handshake is complete: it can be called */
    VOUCH_PLUGIN_DOWN,    /* its process has ended, and all descendants of it */
    VOUCH_PLUGIN_GAVE_UP, /* after a VOUCH_PLUGIN_DOWN: it ended too often and stays down */
};

/* What happened to the process. Valid while the callback runs. */
struct vouch_plugin_event {
    enum vouch_plugin_event_type type;
    pid_t pid;        /* for logs: by now it may be another process's */
    uint32_t version; /* STARTED: the application version that was chosen */
    /* DOWN: */
    int exit_status;    /* -1: it did not exit by itself, or that is not known */
    int signal;         /* that ended it, or 0 */
    bool asked;         /* vouch_plugin_stop or vouch_plugin_free asked for it */
    int64_t restart_in; /* ns; -1: it is not started again */
    const char *text;   /* all this in words */
    const char *output; /* the end of what it wrote to standard error, at most 2 KiB */
};

struct vouch_plugin_rlimit {
    int resource;        /* RLIMIT_* of sys/resource.h */
    uint64_t soft, hard; /* UINT64_MAX: none */
};

struct vouch_plugin_options {
    size_t size;
    const struct vouch_allocator *allocator; /* NULL: malloc */

    /* What is run. All is copied. `name` is for messages and look-up, NULL: the last part of
     * `program`, which is the path of an executable file (a relative one is looked up from the
     * host's directory of now). `arguments` come after the program's name; NULL: none. */
    const char *name;
    const char *program;
    const char *const *arguments; /* ends with NULL */

    /* The environment is empty but for: what `environment` says ("NAME=value"), the host's values
     * of the names in `inherit` (NULL: PATH, LANG, LC_ALL, LC_CTYPE, TZ, TMPDIR), and
     * what is handed over: VOUCH_PLUGIN_FD, VOUCH_PLUGIN_TOKEN, VOUCH_PLUGIN_PROTOCOL,
     * VOUCH_PLUGIN_VERSIONS. Both end with NULL. The host's environment is read by
     * vouch_plugin_start only. */
    const char *const *environment;
    const char *const *inherit;

    const char *directory; /* NULL: the host's */

    /* Who it runs as. Off: as the host. On: with exactly these ids. */
    bool switch_user;
    bool allow_new_privileges; /* off: set-user-ID programs give it nothing (Linux) */
    uid_t uid;
    gid_t gid;
    const gid_t *groups;
    size_t group_count; /* at most 64 */

    const struct vouch_plugin_rlimit *rlimits;
    size_t rlimit_count; /* at most 16 */

    /* Descriptors that it gets as 4, 5, …; duplicated at start. All others are closed; 0 is
     * /dev/null, 1 and 2 come to on_line. At most VOUCH_PLUGIN_FDS_MAX. */
    const int *fds;
    size_t fd_count;

    /* Versions of what host and plugin say to each other, > 0; the highest common one is chosen.
     * NULL: 1. */
    const uint32_t *versions;
    size_t version_count;

    /* Whose methods it may call. Borrowed, has to be served by the program, and to live until
     * vouch_plugin_free. NULL: it may call nothing. */
    struct vouch_server *server;
    const struct vouch_client_options *client; /* of vouch_plugin_get_client; NULL: defaults */

    bool threaded; /* one thread of the library's does the work; not in a set */

    int64_t start_timeout; /* until the handshake is complete, ns; 0: 30 s */
    int64_t stop_timeout;  /* for calls in flight, once asked to end; 0: 2 s */
    int64_t term_timeout;  /* from SIGTERM to SIGKILL; 0: 2 s */

    enum vouch_plugin_restart restart;
    /* The wait before a restart: doubled each time from the first to the second, ± a quarter, ns;
     * 0: 100 ms and 30 s. After running for healthy_after (0: 10 s) it is the first again. */
    int64_t restart_min, restart_max, healthy_after;
    /* So many restarts without being healthy once, and it is given up; 0: 10; UINT32_MAX: never. */
    uint32_t restarts_max;
    /* Calls while it is down fail at once (-ECONNRESET); off: those that block wait until their
     * deadline. Asynchronous ones never wait for it: they answer -ECONNRESET at once. */
    bool fail_while_down;

    /* Whether it is alive is asked every ping_interval ns (0: 10 s; VOUCH_FOREVER: never; at least
     * 100 ms); when it has not answered ping_misses times in a row (0: 3) it is killed, and
     * restarted. A plugin that does one thing at a time answers between two calls only. */
    int64_t ping_interval;
    unsigned ping_misses;

    unsigned line_max;         /* bytes of a line; 0: 8 KiB; at most VOUCH_PLUGIN_LINE_BOUND */
    unsigned lines_per_second; /* more are dropped and counted; 0: 1000 */

    /* NULL: ignored. */
    void (*on_line)(void *context, struct vouch_plugin *plugin,
                    const struct vouch_plugin_line *line);
    void (*on_event)(void *context, struct vouch_plugin *plugin,
                     const struct vouch_plugin_event *event);
    void *context;
};

/* Starts the program, waits until it can be called, and returns the plugin. On failure the process
 * is gone and nothing is left; `ret_error` (may be NULL) says why, with the end of what it wrote to
 * standard error.
 *   VOUCH_E_PLUGIN_EXEC       the program can't be run: not there, not executable, for another
 *                             machine, its interpreter missing, or a step before it failed
 *   VOUCH_E_PLUGIN_EXITED     it ended before the handshake was complete: how is in the text
 *   VOUCH_E_PLUGIN_HANDSHAKE  what it said is no handshake
 *   VOUCH_E_PLUGIN_PROTOCOL   it speaks another version of the hand-over
 *   VOUCH_E_PLUGIN_TOKEN      it does not have the token of this start
 *   VOUCH_E_PLUGIN_VERSION    there is no application version that both know
 *   -ESHUTDOWN                a callback called vouch_plugin_begin_stop
 *   -ETIMEDOUT                start_timeout; -EINVAL, -ENOMEM, errnos of sockets, pipes, processes
 * Any thread; blocks. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_start(const struct vouch_plugin_options *options,
                                                  struct vouch_plugin **ret_plugin,
                                                  struct vouch_error *ret_error);

/* Kills it if it runs, waits until it and all descendants are gone, frees. Nobody may be inside
 * another function of it or use its client; not from a callback. Frees the client too. NULL is
 * ignored. */
VOUCH_API void vouch_plugin_free(struct vouch_plugin *plugin);

/* The client that calls it, for the life of the plugin: over restarts the same. What is in flight
 * when it ends, and that it has not answered, answers -ECONNRESET and is not repeated. While it is
 * stopping or has ended calls answer -ESHUTDOWN. Not to be closed or freed. Any thread; does not
 * block. */
VOUCH_API struct vouch_client *vouch_plugin_get_client(struct vouch_plugin *plugin);

/* Ends it: asks, so that it completes what is in flight; after stop_timeout SIGTERM, after
 * term_timeout SIGKILL, to its process group; then whatever is left of its descendants is killed.
 * Returns 0 when it ended because it was asked, 1 when a signal was needed, -EDEADLK from a
 * callback, -ECHILD. Safe twice. Blocks. */
VOUCH_API int vouch_plugin_stop(struct vouch_plugin *plugin);

/* Begins to end it and returns: vouch_plugin_get_state says when that is done. Any thread, also a
 * callback. */
VOUCH_API void vouch_plugin_begin_stop(struct vouch_plugin *plugin);

/* Does the plugin's work until it has ended: for a thread of the program's. 0 then; -EBUSY
 * (threaded, or in a set), -EDEADLK, -ECHILD, errnos. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_run(struct vouch_plugin *plugin);

/* For a foreign loop instead: poll get_fd for get_events at most get_timeout ns, then process.
 * get_fd: -ENOTSUP on systems without a descriptor for many (see docs/architecture.md), -EBUSY.
 * process: 0, -ECHILD, errnos. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_get_fd(struct vouch_plugin *plugin);
VOUCH_API short vouch_plugin_get_events(struct vouch_plugin *plugin);
VOUCH_API int64_t vouch_plugin_get_timeout(struct vouch_plugin *plugin);
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_process(struct vouch_plugin *plugin);

/* Waits until it is in this state, doing the work meanwhile if nobody else does: 0; -ETIMEDOUT;
 * -ESHUTDOWN (it has ended and will not be); -EDEADLK, -ECHILD. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_wait(struct vouch_plugin *plugin,
                                                 enum vouch_plugin_state state, int64_t deadline);

/* What is known of it. Any thread; does not wait. The pid is for logs and 0 when it is down. */
VOUCH_API const char *vouch_plugin_get_name(const struct vouch_plugin *plugin);
VOUCH_API enum vouch_plugin_state vouch_plugin_get_state(struct vouch_plugin *plugin);
VOUCH_API uint32_t vouch_plugin_get_version(struct vouch_plugin *plugin);
VOUCH_API pid_t vouch_plugin_get_pid(struct vouch_plugin *plugin);

struct vouch_plugin_stats {
    uint64_t starts;         /* processes started */
    uint64_t failures;       /* … that ended without having been asked to */
    uint64_t lines, dropped; /* delivered; lost to lines_per_second */
    uint64_t output_bytes;   /* written to standard output and error */
    uint64_t pings_missed;
};
VOUCH_API void vouch_plugin_get_stats(struct vouch_plugin *plugin,
                                      struct vouch_plugin_stats *ret_stats);

/* ---- Sets: many plugins, one loop ---- */

struct vouch_plugin_set;

/* An empty set. `threaded`: one thread of the library's does the work of all. 0, -ENOMEM, errnos.
 */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_set_new(bool threaded,
                                                    const struct vouch_allocator *allocator,
                                                    struct vouch_plugin_set **ret_set);
/* Kills what runs, all in parallel, and frees it all. As vouch_plugin_free. */
VOUCH_API void vouch_plugin_set_free(struct vouch_plugin_set *set);

/* Begins to start a plugin of the set, which owns it: it is STARTING then, and can be looked up.
 * -EEXIST: the name is taken. Errors of vouch_plugin_start that come before the program runs; the
 * others end in a VOUCH_PLUGIN_DOWN event and the state VOUCH_PLUGIN_ENDED. Does not block. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_set_add(struct vouch_plugin_set *set,
                                                    const struct vouch_plugin_options *options,
                                                    struct vouch_plugin **ret_plugin,
                                                    struct vouch_error *ret_error);

/* The same for every executable regular file of a directory whose name does not begin with a dot,
 * in the order of their names; `options` is for all of them but for `program` and `name`. The
 * directory and its files must belong to us or root, and nobody else may write in them (-EPERM, and
 * none is started): who can put a program there is who we are. Returns how many were begun, or the
 * error of the first that could not. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_set_load(struct vouch_plugin_set *set,
                                                     const char *directory,
                                                     const struct vouch_plugin_options *options,
                                                     struct vouch_error *ret_error);

/* Waits until none is starting: how many run; or -ETIMEDOUT. Errors as vouch_plugin_wait. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_set_wait(struct vouch_plugin_set *set,
                                                     int64_t deadline);

/* The plugin of this name, or NULL; the one after `plugin` (NULL: the first) in the order of
 * adding, or NULL. They live as long as the set. */
VOUCH_API struct vouch_plugin *vouch_plugin_set_find(struct vouch_plugin_set *set,
                                                     const char *name);
VOUCH_API struct vouch_plugin *vouch_plugin_set_next(struct vouch_plugin_set *set,
                                                     const struct vouch_plugin *plugin);

/* Ends all of them at the same time, as vouch_plugin_stop, and kills what is left at `deadline`.
 * Returns how many needed a signal; -EDEADLK, -ECHILD. */
VOUCH_API int vouch_plugin_set_stop(struct vouch_plugin_set *set, int64_t deadline);

/* As for a single plugin; run returns when all have ended. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_set_run(struct vouch_plugin_set *set);
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_set_get_fd(struct vouch_plugin_set *set);
VOUCH_API short vouch_plugin_set_get_events(struct vouch_plugin_set *set);
VOUCH_API int64_t vouch_plugin_set_get_timeout(struct vouch_plugin_set *set);
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_set_process(struct vouch_plugin_set *set);

/* ---- The plugin's side ---- */

struct vouch_plugin_serve_options {
    size_t size;
    const char *name;                          /* what it says it is; NULL: "plugin" */
    const uint32_t *versions;                  /* application versions that it knows; NULL: 1 */
    size_t version_count;                      /* at most VOUCH_PLUGIN_VERSIONS_MAX */
    struct vouch_server *server;               /* with its methods, not serving yet; borrowed */
    const struct vouch_client_options *client; /* for calls to the host; NULL: defaults */
    /* The handshake is complete, nothing is served yet: which version, and the client that calls
     * the host (lives until vouch_plugin_serve returns). Not 0: that is returned. May be NULL. */
    int (*on_ready)(void *context, uint32_t version, struct vouch_client *host);
    /* The host is gone. May be NULL. There is little time: the keeper kills within a second. */
    void (*on_host_gone)(void *context);
    void *context;
    /* For calls in flight when told to stop, ns; 0: 5 s. The host waits for its stop_timeout only.
     */
    int64_t drain_timeout;
};

/* In the plugin: takes the connection over that the host has handed down, shakes hands, serves
 * until the host says stop, and completes what is in flight. To be called once, early in main,
 * before other threads or descriptors are made; removes VOUCH_PLUGIN_* from the environment.
 * Returns 0 when told to stop; -ECONNRESET when the host is gone; VOUCH_E_NOT_PLUGIN when this
 * process was not started by a host (by hand, say), with a text that says what it is;
 * VOUCH_E_PLUGIN_* when the handshake failed; what on_ready returned; errors of vouch_server_start.
 * The server has been stopped then, and the client freed. Print `ret_error` and end with a status
 * other than 0 unless it is 0. */
VOUCH_API VOUCH_MUST_CHECK int vouch_plugin_serve(const struct vouch_plugin_serve_options *options,
                                                  struct vouch_error *ret_error);

#ifdef __cplusplus
}
#endif
#endif
