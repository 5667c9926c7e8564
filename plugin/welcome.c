/* SPDX-License-Identifier: MIT */
/* The host's side of the handshake: until the socket is a connection. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/conn.h"
#include "lib/error.h"
#include "lib/identity.h"
#include "lib/os.h"
#include "plugin/plugin.h"
#include "rpc/peer.h"

/* For a process whose connection has ended to end too. */
#define AFTER_CLOSE VOUCH_SECONDS(5)

static struct vouch_plugin *plugin_of(struct loop_source *source) {
    return (struct vouch_plugin *)(void *)((char *)source - offsetof(struct vouch_plugin, socket));
}

/* A line is small, and the socket empty: it fits. */
static void answer(const struct plugin_run *run, const char *line, size_t size) {
    ssize_t sent = send(run->socket, line, size, os_send_flags | MSG_DONTWAIT);
    (void)sent;
}

static void refuse(struct vouch_plugin *plugin, int code, const char *text) {
    char line[HANDSHAKE_LINE_MAX];
    answer(&plugin->run, line, handshake_format_refused(code, text, line));
    plugin_fail(plugin, code, "%s", text);
}

/* Hooks of the connection: with locks held, so nothing but a flag. */
static void on_gone(void *context) {
    struct vouch_plugin *plugin = context;
    atomic_store(&plugin->gone, true);
    loop_wake(plugin->loop);
}

/* Who it is we know: it is the process that we gave this socket. What the kernel says of a
 * socketpair's end is who made it, ourselves. */
static int identify(const struct vouch_plugin *plugin, const struct vouch_identity **ret_identity) {
    const struct keeper_plan *plan = &plugin->program.plan;
    struct vouch_identity facts = {
        .known = VOUCH_KNOWN_UID | VOUCH_KNOWN_GID | VOUCH_KNOWN_PID,
        .uid = plan->switch_user ? plan->uid : geteuid(),
        .gid = plan->switch_user ? plan->gid : getegid(),
        .pid = plugin->run.pid,
        .pidfd = keeper_open_plugin(&plugin->run.keeper, plugin->run.pid),
    };
    if (facts.pidfd >= 0)
        facts.known |= VOUCH_KNOWN_PIDFD;
    if (plan->switch_user) {
        facts.known |= VOUCH_KNOWN_GROUPS;
        facts.groups = plan->group_count ? plan->groups : NULL;
        facts.group_count = plan->group_count;
    }
    int r = identity_new(plugin->allocator, &facts, ret_identity);
    if (r < 0 && facts.pidfd >= 0)
        close(facts.pidfd);
    return r;
}

static int connect_to(struct vouch_plugin *plugin) {
    const struct vouch_identity *identity;
    struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = plugin->allocator};
    struct peer_hooks hooks = {.gone = on_gone, .context = plugin};
    struct vouch_conn *conn;
    int r = identify(plugin, &identity);
    if (r < 0)
        return r;
    r = conn_new(plugin->run.socket, VOUCH_LINK_STREAM, identity, &options, NULL, NULL, &conn);
    if (r < 0) {
        vouch_identity_unref(identity);
        return r;
    }
    plugin->run.socket = -1;
    atomic_store(&plugin->gone, false);
    loop_pause(plugin->loop);
    r = peer_attach(plugin->server, conn, plugin->client, &hooks);
    loop_resume(plugin->loop);
    if (r < 0)
        vouch_conn_free(conn);
    return r;
}

static void accept_hello(struct vouch_plugin *plugin, const struct handshake_hello *hello) {
    struct plugin_run *run = &plugin->run;
    char line[HANDSHAKE_LINE_MAX], theirs[HANDSHAKE_VERSIONS_TEXT], ours[HANDSHAKE_VERSIONS_TEXT];
    struct vouch_error error;
    if (!handshake_token_equal(hello->token, run->token)) {
        refuse(plugin, VOUCH_E_PLUGIN_TOKEN, "the token is not that of this start");
        return;
    }
    plugin->version = handshake_choose(&hello->versions, &plugin->versions);
    if (plugin->version == 0) {
        error_set(&error, 0, "it knows the versions %s, its host %s",
                  handshake_format_versions(&hello->versions, theirs),
                  handshake_format_versions(&plugin->versions, ours));
        refuse(plugin, VOUCH_E_PLUGIN_VERSION, error.message);
        return;
    }
    answer(run, line, handshake_format_ok(plugin->version, line));
    int r = connect_to(plugin);
    if (r < 0)
        plugin_fail(plugin, r, "its connection can't be served: %s", vouch_strerror(r));
    else
        plugin_welcomed(plugin);
}

/* Whole, and of a process that we know: what the keeper says and what the plugin says may come in
 * any order. */
void plugin_take_hello(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    struct handshake_hello hello;
    if (!run->hello_whole || run->pid == 0 || run->step != STEP_NONE)
        return;
    run->hello_whole = false;
    int r = VOUCH_E_PLUGIN_HANDSHAKE;
    if (memchr(run->hello, '\n', run->hello_size) == run->hello + run->hello_size - 1)
        r = handshake_parse_hello(run->hello, run->hello_size, &hello);
    if (r == VOUCH_E_PLUGIN_PROTOCOL)
        refuse(plugin, r, "it speaks another version of the plugin protocol");
    else if (r < 0)
        refuse(plugin, r, "what it said is not the handshake of a plugin");
    else
        accept_hello(plugin, &hello);
}

static void take_line(struct vouch_plugin *plugin) {
    struct plugin_run *run = &plugin->run;
    if (run->hello_size < sizeof(run->hello) && !memchr(run->hello, '\n', run->hello_size))
        return;
    loop_unwatch(plugin->loop, &plugin->socket);
    run->hello_whole = true;
    plugin_take_hello(plugin);
}

void plugin_welcome(struct loop_source *source) {
    struct vouch_plugin *plugin = plugin_of(source);
    struct plugin_run *run = &plugin->run;
    ssize_t size = recv(run->socket, run->hello + run->hello_size,
                        sizeof(run->hello) - run->hello_size, MSG_DONTWAIT | os_recv_flags);
    if (size > 0) {
        run->hello_size += (size_t)size;
        take_line(plugin);
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
        /* It is ending, most likely: how, the keeper will say. */
        loop_unwatch(plugin->loop, source);
        run->closed = true;
        loop_set_timer(plugin->loop, &plugin->timer, vouch_deadline_in(AFTER_CLOSE));
    }
}
