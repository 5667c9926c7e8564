/* SPDX-License-Identifier: MIT */
/* The plugin's side: the descriptor, the handshake, serving until the end. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/options.h"
#include "lib/os.h"
#include "plugin/handshake.h"
#include "rpc/peer.h"

#define ANSWER_TIMEOUT VOUCH_SECONDS(30)
#define DRAIN_TIMEOUT VOUCH_SECONDS(5)

struct serving {
    const struct vouch_plugin_serve_options *options;
    struct handshake_hello hello;
    uint32_t version;
    struct vouch_conn *conn;
    struct vouch_client *host;
    struct os_wake wake;
    atomic_bool stop, gone;
};

/* ---- what the host has handed down ---- */

/* Takes all of it out of the environment: it is not for this process's children. */
struct handover {
    int fd;
    char token[HANDSHAKE_TOKEN_SIZE + 1];
    bool other_protocol;
};

static bool read_number(const char *text, long *ret_number) {
    char *end;
    if (!text || !*text)
        return false;
    errno = 0;
    *ret_number = strtol(text, &end, 10);
    return errno == 0 && *end == '\0' && *ret_number >= 0 && *ret_number <= INT_MAX;
}

static bool take_handover(struct handover *ret_handover) {
    const char *token = getenv(HANDSHAKE_ENV_TOKEN);
    long fd, protocol;
    bool whole = read_number(getenv(HANDSHAKE_ENV_FD), &fd) &&
                 read_number(getenv(HANDSHAKE_ENV_PROTOCOL), &protocol) && token &&
                 strlen(token) == HANDSHAKE_TOKEN_SIZE;
    if (whole) {
        ret_handover->fd = (int)fd;
        ret_handover->other_protocol = protocol != HANDSHAKE_PROTOCOL;
        memcpy(ret_handover->token, token, HANDSHAKE_TOKEN_SIZE + 1);
    }
    unsetenv(HANDSHAKE_ENV_FD);
    unsetenv(HANDSHAKE_ENV_TOKEN);
    unsetenv(HANDSHAKE_ENV_PROTOCOL);
    unsetenv(HANDSHAKE_ENV_VERSIONS);
    return whole;
}

static int connect_up(struct serving *s, struct vouch_error *error) {
    struct handover handover;
    if (!take_handover(&handover))
        return error_set(error, VOUCH_E_NOT_PLUGIN,
                         "%s is a plugin: a host program starts it and talks to it over a "
                         "descriptor; it does nothing when started by hand",
                         s->hello.name);
    if (handover.other_protocol)
        return error_set(error, VOUCH_E_PLUGIN_PROTOCOL,
                         "%s: the host speaks another version of the plugin protocol than %u",
                         s->hello.name, HANDSHAKE_PROTOCOL);
    memcpy(s->hello.token, handover.token, sizeof(handover.token));
    int r = vouch_conn_from_fd(handover.fd, NULL, &s->conn);
    if (r < 0)
        return error_set(error, VOUCH_E_NOT_PLUGIN, "%s: descriptor %d is not the host's: %s",
                         s->hello.name, handover.fd, vouch_strerror(r));
    return 0;
}

/* ---- the handshake ---- */

/* Byte by byte: what comes behind the line is not ours to take. */
static int read_line(struct vouch_conn *conn, char line[HANDSHAKE_LINE_MAX], size_t *ret_size) {
    size_t size = 0;
    do {
        if (size == HANDSHAKE_LINE_MAX)
            return VOUCH_E_PLUGIN_HANDSHAKE;
        int r = vouch_conn_read_byte(conn, (uint8_t *)&line[size]);
        if (r <= 0)
            return r < 0 ? r : -ECONNRESET;
    } while (line[size++] != '\n');
    *ret_size = size;
    return 0;
}

static int shake_hands(struct serving *s, struct vouch_error *error) {
    char line[HANDSHAKE_LINE_MAX], text[HANDSHAKE_LINE_MAX] = "";
    size_t size = handshake_format_hello(&s->hello, line);
    vouch_conn_set_deadline(s->conn, VOUCH_BOTH, vouch_deadline_in(ANSWER_TIMEOUT));
    int r = vouch_conn_write(s->conn, line, size);
    if (r == 0)
        r = read_line(s->conn, line, &size);
    if (r == 0)
        r = handshake_parse_answer(line, size, &s->version, text);
    vouch_conn_set_deadline(s->conn, VOUCH_BOTH, VOUCH_FOREVER);
    return r < 0 ? error_set(error, r, "%s: the host refused it: %s%s%s", s->hello.name,
                             vouch_strerror(r), text[0] ? ": " : "", text)
                 : 0;
}

/* ---- serving ---- */

/* Hooks of the connection: with locks held. */
static void on_stop(void *context) {
    struct serving *s = context;
    atomic_store(&s->stop, true);
    os_wake_raise(&s->wake);
}

static void on_gone(void *context) {
    struct serving *s = context;
    atomic_store(&s->gone, true);
    os_wake_raise(&s->wake);
}

static int serve(struct serving *s, struct vouch_error *error) {
    const struct vouch_plugin_serve_options *o = s->options;
    struct peer_hooks hooks = {.stop = on_stop, .gone = on_gone, .context = s};
    int r = peer_client_new(o->client, &s->host);
    if (r == 0)
        r = peer_attach(o->server, s->conn, s->host, &hooks);
    if (r < 0)
        return error_set(error, r, "%s: %s", s->hello.name, vouch_strerror(r));
    s->conn = NULL;
    r = o->on_ready ? o->on_ready(o->context, s->version, s->host) : 0;
    if (r != 0)
        return error_set(error, r, "%s does not want to serve", s->hello.name);
    r = vouch_server_start(o->server);
    if (r < 0)
        return error_set(error, r, "%s can't serve: %s", s->hello.name, vouch_strerror(r));
    struct pollfd fd = {.fd = s->wake.read_fd, .events = POLLIN};
    while (!atomic_load(&s->stop) && !atomic_load(&s->gone))
        (void)poll(&fd, 1, -1);
    if (atomic_load(&s->stop)) {
        (void)vouch_server_stop(o->server, options_time(o->drain_timeout, DRAIN_TIMEOUT));
        return 0;
    }
    if (o->on_host_gone)
        o->on_host_gone(o->context);
    (void)vouch_server_stop(o->server, 0);
    return error_set(error, -ECONNRESET, "%s: the host is gone", s->hello.name);
}

int vouch_plugin_serve(const struct vouch_plugin_serve_options *options,
                       struct vouch_error *ret_error) {
    struct vouch_plugin_serve_options o = {0};
    struct serving s = {.options = &o, .wake = OS_WAKE_NONE};
    OPTIONS_READ(o, options);
    const char *name = o.name ? o.name : "plugin";
    if (!o.server || !handshake_name_valid(name) ||
        handshake_copy_versions(o.versions, o.version_count, &s.hello.versions) < 0)
        return error_set(ret_error, -EINVAL, "an option of the plugin is out of its range");
    snprintf(s.hello.name, sizeof(s.hello.name), "%s", name);
    int r = connect_up(&s, ret_error);
    if (r == 0)
        r = shake_hands(&s, ret_error);
    if (r == 0) {
        r = os_wake_init(&s.wake);
        if (r < 0)
            error_set(ret_error, r, "%s: %s", name, vouch_strerror(r));
    }
    if (r == 0)
        r = serve(&s, ret_error);
    vouch_client_free(s.host);
    vouch_conn_free(s.conn);
    os_wake_deinit(&s.wake);
    return r;
}
