/* SPDX-License-Identifier: MIT */
/* A plugin's life, and what the program asks of it. */
#include "plugin/plugin.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/options.h"
#include "lib/os.h"
#include "rpc/peer.h"

#define START_TIMEOUT VOUCH_SECONDS(30)
#define STOP_TIMEOUT VOUCH_SECONDS(2)
#define TERM_TIMEOUT VOUCH_SECONDS(2)
#define RESTART_MIN VOUCH_MILLISECONDS(100)
#define RESTART_MAX VOUCH_SECONDS(30)
#define HEALTHY_AFTER VOUCH_SECONDS(10)
#define RESTARTS_MAX 10u
#define PING_INTERVAL VOUCH_SECONDS(10)
#define PING_MISSES 3u
#define LINES_PER_SECOND 1000u

/* ---- making one ---- */

static bool options_valid(const struct vouch_plugin_options *o) {
    return o->start_timeout >= 0 && o->stop_timeout >= 0 && o->term_timeout >= 0 &&
           o->restart_min >= 0 && o->restart_max >= 0 && o->healthy_after >= 0 &&
           (o->ping_interval == 0 || o->ping_interval >= PLUGIN_PING_MIN) &&
           o->line_max <= VOUCH_PLUGIN_LINE_BOUND && o->restart <= VOUCH_PLUGIN_RESTART_NEVER;
}

static void fill_in(struct vouch_plugin_options *o) {
    o->start_timeout = options_time(o->start_timeout, START_TIMEOUT);
    o->stop_timeout = options_time(o->stop_timeout, STOP_TIMEOUT);
    o->term_timeout = options_time(o->term_timeout, TERM_TIMEOUT);
    o->restart_min = options_time(o->restart_min, RESTART_MIN);
    o->restart_max = options_time(o->restart_max, RESTART_MAX);
    o->healthy_after = options_time(o->healthy_after, HEALTHY_AFTER);
    o->restarts_max = o->restarts_max ? o->restarts_max : RESTARTS_MAX;
    o->ping_interval = options_time(o->ping_interval, PING_INTERVAL);
    o->ping_misses = o->ping_misses ? o->ping_misses : PING_MISSES;
    o->line_max = o->line_max ? o->line_max : VOUCH_PLUGIN_LINE_DEFAULT;
    o->lines_per_second = o->lines_per_second ? o->lines_per_second : LINES_PER_SECOND;
}

static int make_parts(struct vouch_plugin *plugin, const struct vouch_client_options *client) {
    const struct vouch_plugin_options *o = &plugin->options;
    int r = 0;
    for (int i = 0; i < 2 && r == 0; i++) {
        plugin->output[i].plugin = plugin;
        plugin->output[i].stream = i + 1;
        r = lines_init(&plugin->output[i].lines, o->line_max, o->lines_per_second,
                       plugin->allocator);
        plugin->output[i].clean = mem_alloc(plugin->allocator, (size_t)o->line_max + 1);
        if (!plugin->output[i].clean)
            r = -ENOMEM;
    }
    if (r == 0)
        r = peer_client_new(client, &plugin->client);
    if (r == 0)
        peer_await(plugin->client, !o->fail_while_down);
    if (r == 0)
        peer_set_turner(plugin->client, plugin->loop);
    if (r == 0 && !plugin->server)
        r = loop_get_server(plugin->loop, &plugin->server);
    return r == 0 ? loop_add(plugin->loop, &plugin->member) : r;
}

int plugin_new(struct loop *loop, const struct vouch_plugin_options *options, bool in_set,
               struct vouch_plugin **ret_plugin, struct vouch_error *error) {
    const char *program = options->program ? options->program : "(none)";
    struct handshake_versions versions;
    if (!options_valid(options) ||
        handshake_copy_versions(options->versions, options->version_count, &versions) < 0)
        return error_set(error, -EINVAL, "plugin %s: an option is out of its range", program);
    struct vouch_plugin *plugin = mem_zalloc(options->allocator, sizeof(*plugin));
    if (!plugin)
        return error_set(error, -ENOMEM, "plugin %s: no memory", program);
    plugin->member.work = plugin_work;
    plugin->loop = loop;
    plugin->in_set = in_set;
    plugin->allocator = options->allocator;
    plugin->options = *options;
    fill_in(&plugin->options);
    plugin->versions = versions;
    plugin->server = options->server;
    plugin->state = VOUCH_PLUGIN_ENDED;
    plugin->run.keeper = KEEPER_NONE;
    plugin->run.socket = -1;
    plugin->backoff = (struct backoff){.min = plugin->options.restart_min,
                                       .max = plugin->options.restart_max,
                                       .healthy = plugin->options.healthy_after,
                                       .limit = plugin->options.restarts_max};
    plugin_set_handlers(plugin);
    int r = program_init(&plugin->program, options, &plugin->versions, error);
    if (r == 0) {
        r = make_parts(plugin, options->client);
        if (r < 0)
            error_set(error, r, "plugin %s: %s", plugin->program.name, vouch_strerror(r));
    }
    if (r < 0) {
        plugin_destroy(plugin);
        return r;
    }
    *ret_plugin = plugin;
    return 0;
}

void plugin_destroy(struct vouch_plugin *plugin) {
    loop_remove(plugin->loop, &plugin->member);
    vouch_client_free(plugin->client);
    for (int i = 0; i < 2; i++)
        lines_deinit(&plugin->output[i].lines);
    for (int i = 0; i < 2; i++)
        mem_free(plugin->allocator, plugin->output[i].clean, (size_t)plugin->options.line_max + 1);
    program_deinit(&plugin->program);
    mem_free(plugin->allocator, plugin, sizeof(*plugin));
}

void plugin_abandon(struct vouch_plugin *plugin) {
    const struct keeper *keeper = &plugin->run.keeper;
    int fds[] = {keeper->pidfd, keeper->control, plugin->run.socket, plugin->output[0].source.fd,
                 plugin->output[1].source.fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (size_t i = 0; i < plugin->program.fd_count; i++)
        close(plugin->program.fds[i]);
    vouch_client_free(plugin->client);
}

/* ---- start and end ---- */

static int start(struct loop *loop, struct vouch_plugin *plugin, struct vouch_error *error) {
    int r = plugin_begin(plugin);
    if (r < 0)
        return error_set(error, r, "plugin %s can't be started: %s", plugin->program.name,
                         vouch_strerror(r));
    while (!plugin->was_running && plugin->state != VOUCH_PLUGIN_ENDED)
        (void)!loop_turn(loop, VOUCH_FOREVER);
    if (plugin->was_running)
        return 0;
    if (plugin->stop_wanted)
        return error_set(error, -ESHUTDOWN, "plugin %s: a callback stopped it while it started",
                         plugin->program.name);
    if (error)
        *error = plugin->error;
    return plugin->error.code;
}

/* Until nothing of it is left. */
static void end(struct vouch_plugin *plugin) {
    struct loop *loop = plugin->loop;
    pthread_mutex_lock(&loop->lock);
    plugin_want_stop(plugin, true);
    while (plugin->state != VOUCH_PLUGIN_ENDED)
        (void)!loop_turn(loop, VOUCH_FOREVER);
    pthread_mutex_unlock(&loop->lock);
}

int vouch_plugin_start(const struct vouch_plugin_options *options, struct vouch_plugin **ret_plugin,
                       struct vouch_error *ret_error) {
    struct vouch_plugin_options o = {0};
    struct vouch_plugin *plugin = NULL;
    struct loop *loop;
    OPTIONS_READ(o, options);
    int r = loop_new(o.allocator, &loop);
    if (r < 0)
        return error_set(ret_error, r, "plugin: %s", vouch_strerror(r));
    pthread_mutex_lock(&loop->lock);
    r = plugin_new(loop, &o, false, &plugin, ret_error);
    if (r == 0)
        r = start(loop, plugin, ret_error);
    pthread_mutex_unlock(&loop->lock);
    if (r == 0 && o.threaded)
        r = loop_start_thread(loop);
    if (r < 0) {
        if (plugin) {
            end(plugin);
            plugin_destroy(plugin);
        }
        loop_free(loop);
        return r;
    }
    *ret_plugin = plugin;
    return 0;
}

void vouch_plugin_free(struct vouch_plugin *plugin) {
    if (!plugin || plugin->in_set)
        return;
    struct loop *loop = plugin->loop;
    if (os_process_epoch() != loop->epoch) {
        plugin_abandon(plugin);
        loop_free(loop);
        return;
    }
    end(plugin);
    /* Its thread may be in the middle of a turn, about this plugin. */
    pthread_mutex_lock(&loop->lock);
    while (loop->turning && loop->threaded) {
        loop->closing = true;
        loop_wake(loop);
        pthread_cond_wait(&loop->changed, &loop->lock);
    }
    loop->closing = true;
    pthread_mutex_unlock(&loop->lock);
    plugin_destroy(plugin);
    loop_free(loop);
}

void vouch_plugin_begin_stop(struct vouch_plugin *plugin) {
    if (os_process_epoch() != plugin->loop->epoch)
        return;
    pthread_mutex_lock(&plugin->loop->lock);
    plugin_want_stop(plugin, false);
    pthread_mutex_unlock(&plugin->loop->lock);
}

int vouch_plugin_stop(struct vouch_plugin *plugin) {
    struct loop *loop = plugin->loop;
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    pthread_mutex_lock(&loop->lock);
    int r = loop_is_mine(loop) ? -EDEADLK : 0;
    if (r == 0 && plugin->state != VOUCH_PLUGIN_ENDED)
        plugin_want_stop(plugin, false);
    while (r == 0 && plugin->state != VOUCH_PLUGIN_ENDED)
        (void)!loop_turn(loop, VOUCH_FOREVER);
    if (r == 0)
        r = plugin->stop_wanted && plugin->signalled;
    pthread_mutex_unlock(&loop->lock);
    return r;
}

/* ---- doing the work ---- */

int vouch_plugin_run(struct vouch_plugin *plugin) {
    struct loop *loop = plugin->loop;
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    if (plugin->in_set || loop->threaded)
        return -EBUSY;
    pthread_mutex_lock(&loop->lock);
    int r = loop_is_mine(loop) ? -EDEADLK : 0;
    while (r >= 0 && plugin->state != VOUCH_PLUGIN_ENDED)
        r = loop_turn(loop, VOUCH_FOREVER);
    pthread_mutex_unlock(&loop->lock);
    return r < 0 ? r : 0;
}

int vouch_plugin_get_fd(struct vouch_plugin *plugin) {
    return plugin->in_set ? -EBUSY : loop_get_fd(plugin->loop);
}

short vouch_plugin_get_events(struct vouch_plugin *plugin) {
    (void)plugin;
    return POLLIN;
}

int64_t vouch_plugin_get_timeout(struct vouch_plugin *plugin) {
    return loop_get_timeout(plugin->loop);
}

int vouch_plugin_process(struct vouch_plugin *plugin) {
    return plugin->in_set ? -EBUSY : loop_process(plugin->loop);
}

int vouch_plugin_wait(struct vouch_plugin *plugin, enum vouch_plugin_state state,
                      int64_t deadline) {
    struct loop *loop = plugin->loop;
    if (os_process_epoch() != loop->epoch)
        return -ECHILD;
    pthread_mutex_lock(&loop->lock);
    int r = loop_is_mine(loop) ? -EDEADLK : 0;
    while (r >= 0 && plugin->state != state) {
        if (plugin->state == VOUCH_PLUGIN_ENDED)
            r = -ESHUTDOWN;
        else if (vouch_now() >= deadline)
            r = -ETIMEDOUT;
        else
            r = loop_turn(loop, deadline);
    }
    pthread_mutex_unlock(&loop->lock);
    return r < 0 ? r : 0;
}

/* ---- what is known of it ---- */

struct vouch_client *vouch_plugin_get_client(struct vouch_plugin *plugin) {
    return plugin->client;
}

const char *vouch_plugin_get_name(const struct vouch_plugin *plugin) {
    return plugin->program.name;
}

enum vouch_plugin_state vouch_plugin_get_state(struct vouch_plugin *plugin) {
    pthread_mutex_lock(&plugin->loop->lock);
    enum vouch_plugin_state state = plugin->state;
    pthread_mutex_unlock(&plugin->loop->lock);
    return state;
}

uint32_t vouch_plugin_get_version(struct vouch_plugin *plugin) {
    pthread_mutex_lock(&plugin->loop->lock);
    uint32_t version = plugin->version;
    pthread_mutex_unlock(&plugin->loop->lock);
    return version;
}

pid_t vouch_plugin_get_pid(struct vouch_plugin *plugin) {
    pthread_mutex_lock(&plugin->loop->lock);
    pid_t pid = plugin->run.pid;
    pthread_mutex_unlock(&plugin->loop->lock);
    return pid;
}

void vouch_plugin_get_stats(struct vouch_plugin *plugin, struct vouch_plugin_stats *ret_stats) {
    pthread_mutex_lock(&plugin->loop->lock);
    *ret_stats = plugin->stats;
    ret_stats->dropped = plugin->output[0].lines.lost + plugin->output[1].lines.lost;
    pthread_mutex_unlock(&plugin->loop->lock);
}
