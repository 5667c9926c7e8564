/* SPDX-License-Identifier: MIT */
/*
 * From one start of a plugin to the next: what its keeper reports, what is due, what is done about
 * it. A run is over when its keeper has ended: then no process of it is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/os.h"
#include "plugin/plugin.h"
#include "rpc/peer.h"

/* For a keeper to have killed all it can, and then some. */
#define KILL_TIMEOUT (KEEPER_SWEEP + VOUCH_SECONDS(1))

/* For its last replies to be read, once it has ended: they are there already. */
#define LAST_REPLIES_TIMEOUT VOUCH_SECONDS(1)

static struct vouch_plugin *of_timer(struct loop_timer *timer) {
    return (struct vouch_plugin *)(void *)((char *)timer - offsetof(struct vouch_plugin, timer));
}

static struct vouch_plugin *of_ping(struct loop_timer *timer) {
    return (struct vouch_plugin *)(void *)((char *)timer -
                                           offsetof(struct vouch_plugin, ping_timer));
}

static struct vouch_plugin *of_control(struct loop_source *source) {
    return (struct vouch_plugin *)(void *)((char *)source - offsetof(struct vouch_plugin, control));
}

static void set_state(struct vouch_plugin *plugin, enum vouch_plugin_state state) {
    plugin->state = state;
    loop_notify(plugin->loop);
}

static void due(struct vouch_plugin *plugin, int64_t timeout) {
    loop_set_timer(plugin->loop, &plugin->timer, vouch_deadline_in(timeout));
}

void plugin_say_event(struct vouch_plugin *plugin, struct vouch_plugin_event *event) {
    if (!plugin->options.on_event)
        return;
    loop_pause(plugin->loop);
    plugin->options.on_event(plugin->options.context, plugin, event);
    loop_resume(plugin->loop);
}

/* Calls in flight end now, whoever else still holds the plugin's end of the connection. */
static void cut(struct vouch_plugin *plugin) {
    loop_pause(plugin->loop);
    peer_cut(plugin->client);
    loop_resume(plugin->loop);
}

/* It sends nothing more; what it has sent is still read, and then the connection ends by itself. */
static void hang_up(struct vouch_plugin *plugin) {
    loop_pause(plugin->loop);
    peer_hang_up(plugin->client);
    loop_resume(plugin->loop);
}

static bool has_calls(struct vouch_plugin *plugin) {
    loop_pause(plugin->loop);
    bool has = peer_has_calls(plugin->client);
    loop_resume(plugin->loop);
    return has;
}

/* ---- ending a run ---- */

static void go_on(struct vouch_plugin *plugin, enum plugin_step step) {
    struct plugin_run *run = &plugin->run;
    run->step = step;
    loop_unwatch(plugin->loop, &plugin->socket); /* too late for a handshake */
    if (step == STEP_TERMED)
        keeper_say(&run->keeper, KEEPER_TERM);
    else if (step == STEP_KILLED)
        keeper_say(&run->keeper, KEEPER_KILL);
    else if (step == STEP_ABANDONED)
        keeper_abandon(&run->keeper);
    run->signalled |= step > STEP_ASKED && !run->reported;
    if (step == STEP_ABANDONED)
        loop_set_timer(plugin->loop, &plugin->timer, VOUCH_FOREVER);
    else
        due(plugin, step == STEP_ASKED    ? plugin->options.stop_timeout
                    : step == STEP_TERMED ? plugin->options.term_timeout
                                          : KILL_TIMEOUT);
}

void plugin_fail(struct vouch_plugin *plugin, int code, const char *format, ...) {
    struct plugin_run *run = &plugin->run;
    if (run->failure.code == 0) {
        va_list arguments;
        char text[512];
        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        error_set(&run->failure, code, "plugin %s: %s", plugin->program.name, text);
    }
    if (run->step < STEP_KILLED)
        go_on(plugin, STEP_KILLED);
}

/* ---- how it ended ---- */

static const char *signal_name(int number) {
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {SIGHUP, "SIGHUP"},   {SIGINT, "SIGINT"},   {SIGQUIT, "SIGQUIT"}, {SIGILL, "SIGILL"},
        {SIGTRAP, "SIGTRAP"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
        {SIGKILL, "SIGKILL"}, {SIGSEGV, "SIGSEGV"}, {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"},
        {SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGXCPU, "SIGXCPU"},
        {SIGXFSZ, "SIGXFSZ"}, {SIGSYS, "SIGSYS"},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].number == number)
            return names[i].name;
    return "a signal";
}

static void describe_end(const struct plugin_run *run, char *text, size_t room) {
    if (run->exit_status >= 0)
        snprintf(text, room, "it exited with status %d", run->exit_status);
    else if (run->signal > 0)
        snprintf(text, room, "it was ended by %s (%d)", signal_name(run->signal), run->signal);
    else
        snprintf(text, room, "how it ended is not known");
}

/* The last that it wrote, for people: the last lines of it. */
static const char *clean_tail(struct plugin_run *run, char *text, size_t room) {
    while (run->tail_size > 0 && strchr("\r\n", run->tail[run->tail_size - 1]))
        run->tail_size--;
    size_t from = run->tail_size > room / 2 ? run->tail_size - room / 2 : 0;
    char lines[PLUGIN_TAIL_MAX];
    size_t used = 0;
    for (size_t i = from; i < run->tail_size && used + 4 < sizeof(lines); i++) {
        char c = run->tail[i];
        if (c == '\n') {
            lines[used++] = ' ';
            lines[used++] = '|';
            lines[used++] = ' ';
        } else {
            lines[used++] = c;
        }
    }
    (void)error_copy_text(text, room, lines, used);
    return text;
}

static void add_tail(struct plugin_run *run, struct vouch_error *error) {
    char text[512];
    if (run->tail_size == 0)
        return;
    size_t used = strlen(error->message);
    snprintf(error->message + used, sizeof(error->message) - used, "; it wrote: %s",
             clean_tail(run, text, sizeof(text)));
}

/* ---- the keeper's reports ---- */

static void take_exit(struct vouch_plugin *plugin, const struct keeper_message *message) {
    struct plugin_run *run = &plugin->run;
    run->reported = true;
    if (message->value == CLD_EXITED)
        run->exit_status = message->detail;
    else
        run->signal = message->detail;
    /* Nothing comes of its timers any more, only of a keeper that does not end. */
    loop_set_timer(plugin->loop, &plugin->ping_timer, VOUCH_FOREVER);
    run->step = STEP_KILLED;
    due(plugin, KILL_TIMEOUT);
    hang_up(plugin);
}

int plugin_listen(struct vouch_plugin *plugin) {
    struct keeper_message message;
    struct plugin_run *run = &plugin->run;
    int r;
    while ((r = keeper_next(&run->keeper, &message)) == 1) {
        if (message.report == KEEPER_STARTED) {
            run->pid = message.value;
            plugin_take_hello(plugin);
        } else if (message.report == KEEPER_FAILED && run->failure.code == 0)
            (void)program_explain(&plugin->program, (enum keeper_step)message.value, message.detail,
                                  &run->failure);
        else if (message.report == KEEPER_EXITED)
            take_exit(plugin, &message);
    }
    return r;
}

/* ---- a run's end ---- */

static void close_run(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    loop_unwatch(plugin->loop, &plugin->control);
    loop_unwatch(plugin->loop, &plugin->socket);
    if (run->socket >= 0)
        close(run->socket);
    run->socket = -1;
    keeper_end(&run->keeper);
    loop_set_timer(plugin->loop, &plugin->timer, VOUCH_FOREVER);
    loop_set_timer(plugin->loop, &plugin->ping_timer, VOUCH_FOREVER);
}

static void end_for_good(struct vouch_plugin *plugin) {
    loop_pause(plugin->loop);
    vouch_client_close(plugin->client);
    loop_resume(plugin->loop);
    set_state(plugin, VOUCH_PLUGIN_ENDED);
}

/* Whether it is to be started again, and when. -1: no; -2: it has been enough. */
static int64_t restart_in(struct vouch_plugin *plugin) {
    const struct plugin_run *run = &plugin->run;
    uint32_t random = 0;
    if (plugin->stop_wanted || !plugin->was_running ||
        plugin->options.restart == VOUCH_PLUGIN_RESTART_NEVER)
        return -1;
    if (plugin->options.restart == VOUCH_PLUGIN_RESTART_ON_FAILURE && run->exit_status == 0 &&
        run->failure.code == 0)
        return -1;
    if (getentropy(&random, sizeof(random)) < 0)
        random = (uint32_t)vouch_now();
    int64_t ran = run->welcomed_at ? vouch_now() - run->welcomed_at : 0;
    int64_t wait = backoff_next(&plugin->backoff, ran, random);
    return wait < 0 ? -2 : wait;
}

/* What vouch_plugin_start and events say about it. */
static void explain(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    char how[64];
    describe_end(run, how, sizeof(how));
    if (run->failure.code == 0 && run->welcomed_at == 0)
        error_set(&run->failure, VOUCH_E_PLUGIN_EXITED, "plugin %s: %s before its handshake",
                  plugin->program.name, how);
    else if (run->failure.code == 0)
        error_set(&run->failure, 0, "plugin %s: %s", plugin->program.name, how);
    else if (run->failure.code != VOUCH_E_PLUGIN_EXEC) {
        size_t used = strlen(run->failure.message);
        snprintf(run->failure.message + used, sizeof(run->failure.message) - used, "; %s", how);
    }
    plugin->error = run->failure;
    if (run->welcomed_at == 0)
        add_tail(run, &plugin->error);
}

static void say_down(struct vouch_plugin *plugin, int64_t wait) {
    struct plugin_run *run = &plugin->run;
    struct vouch_plugin_event event = {
        .type = VOUCH_PLUGIN_DOWN,
        .pid = run->pid,
        .exit_status = run->exit_status,
        .signal = run->signal,
        .asked = plugin->stop_wanted,
        .restart_in = wait < 0 ? -1 : wait,
        .text = plugin->error.message,
        .output = run->tail,
    };
    run->tail[run->tail_size] = '\0';
    run->pid = 0;
    plugin_say_event(plugin, &event);
    if (wait == -2) {
        event.type = VOUCH_PLUGIN_GAVE_UP;
        plugin_say_event(plugin, &event);
    }
}

static void run_over(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    for (int i = 0; i < 2; i++)
        plugin_finish_output(&plugin->output[i]);
    cut(plugin);
    close_run(plugin);
    plugin->signalled = run->signalled;
    plugin->stats.failures += !plugin->stop_wanted;
    explain(plugin);
    int64_t wait = restart_in(plugin);
    if (wait >= 0) {
        set_state(plugin, VOUCH_PLUGIN_WAITING);
        due(plugin, wait);
    }
    say_down(plugin, wait);
    if (wait < 0)
        end_for_good(plugin);
}

static void keeper_gone(struct vouch_plugin *plugin) {
    hang_up(plugin);
    if (plugin->kill_wanted || !has_calls(plugin)) {
        run_over(plugin);
        return;
    }
    loop_unwatch(plugin->loop, &plugin->control);
    plugin->run.step = STEP_OVER;
    due(plugin, LAST_REPLIES_TIMEOUT);
}

static void on_control(struct loop_source *source) {
    struct vouch_plugin *plugin = of_control(source);
    if (plugin_listen(plugin) < 0)
        keeper_gone(plugin);
}

/* ---- a run's beginning ---- */

struct ends { /* of pipes and sockets: ours and its */
    int ours[VOUCH_PLUGIN_FIRST_FD], its[VOUCH_PLUGIN_FIRST_FD];
};

static void close_ends(const int fds[VOUCH_PLUGIN_FIRST_FD]) {
    for (int i = 0; i < VOUCH_PLUGIN_FIRST_FD; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int make_ends(struct ends *e) {
    int pair[2], r = 0;
    for (int i = 0; i < VOUCH_PLUGIN_FIRST_FD; i++)
        e->ours[i] = e->its[i] = -1;
    e->its[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (e->its[0] < 0)
        r = -errno;
    for (int i = 1; i < VOUCH_PLUGIN_FIRST_FD && r == 0; i++) {
        r = i == 3 ? os_socketpair_stream(pair) : os_pipe(pair);
        if (r < 0)
            break;
        e->ours[i] = pair[0];
        e->its[i] = pair[1];
        if (i != 3)
            r = os_set_nonblocking(pair[0], true);
    }
    if (r < 0) {
        close_ends(e->ours);
        close_ends(e->its);
    }
    return r;
}

static int watch_ends(struct vouch_plugin *plugin, const struct ends *e) {
    int r = 0;
    for (int i = 0; i < 2 && r == 0; i++)
        r = loop_watch(plugin->loop, &plugin->output[i].source, e->ours[i + 1]);
    if (r == 0)
        r = loop_watch(plugin->loop, &plugin->socket, e->ours[3]);
    return r;
}

static void unwatch_ends(struct vouch_plugin *plugin) {
    for (int i = 0; i < 2; i++)
        loop_unwatch(plugin->loop, &plugin->output[i].source);
    loop_unwatch(plugin->loop, &plugin->socket);
}

static int start_keeper(struct vouch_plugin *plugin, const struct ends *e) {
    struct plugin_run *run = &plugin->run;
    struct keeper_plan plan;
    int r = handshake_make_token(run->token);
    if (r < 0)
        return r;
    program_plan(&plugin->program, e->its, run->token, &plan);
    r = keeper_start(&plan, &run->keeper);
    if (r < 0)
        return r;
    r = loop_watch(plugin->loop, &plugin->control, run->keeper.control);
    if (r < 0) {
        keeper_abandon(&run->keeper); /* and what it has started, with it */
        keeper_end(&run->keeper);
    }
    return r;
}

int plugin_begin(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    struct ends ends;
    *run = (struct plugin_run){.keeper = KEEPER_NONE, .socket = -1, .exit_status = -1};
    int r = make_ends(&ends);
    if (r < 0)
        return r;
    r = watch_ends(plugin, &ends);
    if (r == 0)
        r = start_keeper(plugin, &ends);
    if (r < 0)
        unwatch_ends(plugin); /* before they hang up */
    close_ends(ends.its);
    if (r < 0) {
        close_ends(ends.ours);
        return r;
    }
    run->socket = ends.ours[3];
    plugin->stats.starts++;
    due(plugin, plugin->options.start_timeout);
    set_state(plugin, VOUCH_PLUGIN_STARTING);
    return 0;
}

void plugin_welcomed(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    struct vouch_plugin_event event = {
        .type = VOUCH_PLUGIN_STARTED, .pid = run->pid, .version = plugin->version};
    run->welcomed_at = vouch_now();
    plugin->was_running = true;
    loop_set_timer(plugin->loop, &plugin->timer, VOUCH_FOREVER);
    loop_set_timer(plugin->loop, &plugin->ping_timer,
                   vouch_deadline_in(plugin->options.ping_interval));
    set_state(plugin, VOUCH_PLUGIN_RUNNING);
    plugin_say_event(plugin, &event);
}

/* A restart that can't even be begun counts as one that failed. */
static void begin_again(struct vouch_plugin *plugin) {
    int r = plugin_begin(plugin);
    if (r == 0)
        return;
    plugin->run = (struct plugin_run){.keeper = KEEPER_NONE, .socket = -1, .exit_status = -1};
    error_set(&plugin->run.failure, r, "plugin %s can't be started: %s", plugin->program.name,
              vouch_strerror(r));
    run_over(plugin);
}

/* ---- what is due ---- */

static void starting_too_long(struct vouch_plugin *plugin) {
    if (plugin->run.closed)
        plugin_fail(plugin, VOUCH_E_PLUGIN_HANDSHAKE,
                    "it closed its connection before the handshake and did not end");
    else
        plugin_fail(plugin, -ETIMEDOUT, "no handshake within %lld ms",
                    (long long)(plugin->options.start_timeout / 1000000));
}

static void on_timer(struct loop_timer *timer) {
    struct vouch_plugin *plugin = of_timer(timer);
    if (plugin->state == VOUCH_PLUGIN_WAITING)
        begin_again(plugin);
    else if (plugin->run.step == STEP_OVER)
        run_over(plugin);
    else if (plugin->run.step != STEP_NONE)
        go_on(plugin, plugin->run.step + 1);
    else if (plugin->state == VOUCH_PLUGIN_STARTING)
        starting_too_long(plugin);
}

static void ask_how_it_is(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    loop_pause(plugin->loop);
    uint64_t beats = peer_count_beats(plugin->client);
    loop_resume(plugin->loop);
    if (run->beaten && beats == run->beats) {
        plugin->stats.pings_missed++;
        run->misses++;
    } else {
        run->misses = 0;
    }
    run->beats = beats;
    if (run->misses >= plugin->options.ping_misses) {
        plugin_fail(plugin, -ETIMEDOUT, "it did not answer %u pings", run->misses);
        return;
    }
    loop_pause(plugin->loop);
    int r = peer_beat(plugin->client);
    loop_resume(plugin->loop);
    run->beaten = r == 0 || r == -EAGAIN; /* its hello is missed as well as an answer */
    loop_set_timer(plugin->loop, &plugin->ping_timer,
                   vouch_deadline_in(plugin->options.ping_interval));
}

static void on_ping_timer(struct loop_timer *timer) {
    struct vouch_plugin *plugin = of_ping(timer);
    if (plugin->state == VOUCH_PLUGIN_RUNNING && plugin->run.step == STEP_NONE)
        ask_how_it_is(plugin);
}

static bool is_over(const struct vouch_plugin *plugin) {
    return plugin->run.step == STEP_OVER &&
           (plugin->state == VOUCH_PLUGIN_RUNNING || plugin->state == VOUCH_PLUGIN_STOPPING);
}

/* The connection has ended. Mostly the process is about to, too; it gets the time. */
static void lost_connection(struct vouch_plugin *plugin) {
    if (is_over(plugin))
        run_over(plugin);
    else if (plugin->state == VOUCH_PLUGIN_RUNNING && plugin->run.step == STEP_NONE)
        go_on(plugin, STEP_ASKED);
}

static void begin_stop(struct vouch_plugin *plugin) {
    bool running = plugin->state == VOUCH_PLUGIN_RUNNING;
    set_state(plugin, VOUCH_PLUGIN_STOPPING);
    loop_set_timer(plugin->loop, &plugin->ping_timer, VOUCH_FOREVER);
    loop_pause(plugin->loop);
    peer_refuse(plugin->client);
    bool asked = running && peer_ask_stop(plugin->client) == 0;
    loop_resume(plugin->loop);
    if (plugin->run.step == STEP_NONE)
        go_on(plugin, asked ? STEP_ASKED : STEP_TERMED);
}

void plugin_work(struct loop_member *member) {
    struct vouch_plugin *plugin = (struct vouch_plugin *)(void *)member;
    if (atomic_exchange(&plugin->gone, false))
        lost_connection(plugin);
    if (!plugin->stop_wanted || plugin->state == VOUCH_PLUGIN_ENDED)
        return;
    if (plugin->state == VOUCH_PLUGIN_WAITING) {
        loop_set_timer(plugin->loop, &plugin->timer, VOUCH_FOREVER);
        end_for_good(plugin);
        return;
    }
    if (plugin->state != VOUCH_PLUGIN_STOPPING)
        begin_stop(plugin);
    if (plugin->kill_wanted && is_over(plugin))
        run_over(plugin);
    else if (plugin->kill_wanted && plugin->run.step < STEP_KILLED)
        go_on(plugin, STEP_KILLED);
}

void plugin_want_stop(struct vouch_plugin *plugin, bool kill) {
    plugin->stop_wanted = true;
    plugin->kill_wanted |= kill;
    loop_wake(plugin->loop);
}

void plugin_set_handlers(struct vouch_plugin *plugin) {
    plugin->timer.due = on_timer;
    plugin->ping_timer.due = on_ping_timer;
    plugin->control = (struct loop_source){on_control, -1};
    plugin->socket = (struct loop_source){plugin_welcome, -1};
    for (int i = 0; i < 2; i++)
        plugin->output[i].source = (struct loop_source){plugin_read_output, -1};
}
