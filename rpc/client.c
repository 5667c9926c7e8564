/* SPDX-License-Identifier: MIT */
/* A client's life: options, connecting and connecting again, the end. */
#include "rpc/client.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/conn.h"
#include "lib/error.h"
#include "lib/mem.h"
#include "lib/options.h"
#include "lib/policy.h"

/* The longest wait for calls that may leave with ours. */
#define GATHERING_BUDGET ((int64_t)20 * 1000)
#define OUTPUT_MAX_DEFAULT ((size_t)4 * 1024 * 1024)
#define RECONNECT_MIN_DEFAULT VOUCH_MILLISECONDS(10)
#define RECONNECT_MAX_DEFAULT VOUCH_SECONDS(1)
/* For the one attempt of who does not wait: for room at the listener, and for the threads that are
 * still in the old connection. */
#define ONCE_TIMEOUT VOUCH_MILLISECONDS(1)
#define ONCE_BUSY_MAX VOUCH_MILLISECONDS(100)
#define BUSY_LOOK VOUCH_MILLISECONDS(1) /* between looks at whether they are out of it */

static bool dialect_valid(const struct vouch_dialect *given) {
    struct vouch_dialect dialect = {0};
    OPTIONS_READ(dialect, given);
    return !given || dialect_is_valid(&dialect);
}

static bool options_valid(const struct vouch_client_options *o) {
    return dialect_valid(o->dialect) && o->max_request <= VOUCH_CHUNK_SIZE_BOUND &&
           o->max_reply <= VOUCH_CHUNK_SIZE_BOUND && o->max_calls <= VOUCH_CLIENT_CALLS_BOUND &&
           o->call_timeout >= 0 && o->frame_timeout >= 0 && o->stall_timeout >= 0 &&
           o->reconnect_min >= 0 && o->reconnect_max >= 0 && o->reconnect_after >= 0 &&
           o->interceptor_count <= CLIENT_INTERCEPTORS_MAX &&
           (o->interceptor_count == 0 || o->interceptors) &&
           polling_options_valid(o->polling, o->polling_budget);
}

static struct session_limits limits_of(const struct vouch_client_options *o) {
    size_t max_send = options_size(o->max_request, VOUCH_CHUNK_SIZE_DEFAULT);
    size_t output = 2 * max_send > OUTPUT_MAX_DEFAULT ? 2 * max_send : OUTPUT_MAX_DEFAULT;
    return (struct session_limits){
        .max_send = max_send,
        .max_receive = options_size(o->max_reply, VOUCH_CHUNK_SIZE_DEFAULT),
        .drain_max = VOUCH_CHUNK_SIZE_BOUND, /* an oversize reply costs time but no memory */
        .max_calls = o->max_calls ? o->max_calls : VOUCH_CLIENT_CALLS_DEFAULT,
        .output_soft = SIZE_MAX, /* replies are always read: that is what empties the other side */
        .output_hard = options_size(o->output_max, output),
        .frame_timeout = options_time(o->frame_timeout, SESSION_FRAME_TIMEOUT),
        .stall_timeout = options_time(o->stall_timeout, SESSION_STALL_TIMEOUT),
    };
}

static int take_options(struct vouch_client *client, const struct vouch_client_options *o) {
    client->allocator = o->allocator;
    client->limits = limits_of(o);
    client->link.send_room_max = options_size(o->send_buffer_max, LINK_SEND_ROOM_MAX);
    client->call_timeout = options_time(o->call_timeout, VOUCH_CALL_TIMEOUT_DEFAULT);
    client->reconnect_min = options_time(o->reconnect_min, RECONNECT_MIN_DEFAULT);
    client->reconnect_max = options_time(o->reconnect_max, RECONNECT_MAX_DEFAULT);
    if (client->reconnect_max < client->reconnect_min)
        client->reconnect_max = client->reconnect_min;
    client->retry_after = o->reconnect_after;
    client->on_notice = o->dialect ? o->on_notice : NULL; /* our own wire has none to wait for */
    client->notice_context = o->notice_context;
    OPTIONS_READ(client->dialect, o->dialect);
    client->choice = (struct dialect_choice){
        .native = !o->dialect, .dialects = &client->dialect, .count = o->dialect ? 1 : 0};
    client->interceptor_count = o->interceptor_count;
    for (size_t i = 0; i < o->interceptor_count; i++)
        client->interceptors[i] = o->interceptors[i];
    if (o->pool) {
        client->pool = vouch_pool_ref(o->pool);
        return 0;
    }
    struct vouch_pool_options pool = {VOUCH_OPTIONS(pool), .allocator = o->allocator};
    return vouch_pool_new(&pool, &client->pool);
}

/* Puts a connection to use; takes it over on success only. */
static int attach(struct vouch_client *client, struct vouch_conn *conn) {
    struct vouch_conn *old = client->link.conn;
    int r = session_init(&client->link.session, SESSION_CLIENT, &client->limits, client->pool,
                         client->allocator);
    if (r < 0)
        return r;
    client->link.conn = conn;
    r = link_speak(&client->link, &client->choice);
    if (r < 0) {
        client->link.conn = old;
        session_deinit(&client->link.session);
        return r;
    }
    client->link.blocked = client->link.broken = false;
    client->link.clock_until = 0;
    client->stats.connects++;
    if (client->loop)
        os_wake_raise(&client->loop_wake); /* it has to watch another descriptor now */
    return 0;
}

static void destroy(struct vouch_client *client) {
    while (client->idle) {
        struct client_call *next = client->idle->next;
        mem_free(client->allocator, client->idle, sizeof(*client->idle));
        client->idle = next;
    }
    session_deinit(&client->link.session);
    vouch_conn_free(client->link.conn);
    poller_free(client->loop);
    os_wake_deinit(&client->loop_wake);
    os_wake_deinit(&client->wake);
    vouch_pool_unref(client->pool);
    policy_deinit(client->allocator, &client->dial_policy);
    mem_free_text(client->allocator, client->address);
    pthread_cond_destroy(&client->room);
    pthread_cond_destroy(&client->connected);
    pthread_mutex_destroy(&client->link.lock);
    mem_free(client->allocator, client, sizeof(*client));
}

int client_create(const struct vouch_client_options *o, struct vouch_client **ret_client) {
    if (!options_valid(o))
        return -EINVAL;
    struct vouch_client *client = mem_zalloc(o->allocator, sizeof(*client));
    if (!client)
        return -ENOMEM;
    int r = cond_init(&client->connected);
    if (r == 0) {
        r = cond_init(&client->room);
        if (r < 0)
            pthread_cond_destroy(&client->connected);
    }
    if (r < 0) {
        mem_free(o->allocator, client, sizeof(*client));
        return r;
    }
    pthread_mutex_init(&client->link.lock, NULL);
    client->epoch = os_process_epoch();
    polling_init(&client->polling, o->polling, o->polling_budget, polling_room_of_process());
    client->gathering_room.max = UINT_MAX;
    polling_init(&client->gathering, VOUCH_POLLING_ADAPTIVE, GATHERING_BUDGET,
                 &client->gathering_room);
    client->wake = client->loop_wake = OS_WAKE_NONE;
    r = take_options(client, o);
    if (r == 0)
        r = os_wake_init(&client->wake);
    if (r < 0) {
        destroy(client);
        return r;
    }
    *ret_client = client;
    return 0;
}

int vouch_client_new(struct vouch_conn *conn, const struct vouch_client_options *options,
                     struct vouch_client **ret_client) {
    struct vouch_client_options o = {0};
    struct vouch_client *client;
    OPTIONS_READ(o, options);
    if (!conn || o.reconnect)
        return -EINVAL;
    if (!conn_is_ours(conn))
        return -ECHILD;
    if (conn->link == VOUCH_LINK_TCP && !o.allow_server_without_identity)
        return VOUCH_E_NO_IDENTITY;
    int r = client_create(&o, &client);
    if (r < 0)
        return r;
    r = attach(client, conn);
    if (r < 0) {
        destroy(client);
        return r;
    }
    *ret_client = client;
    return 0;
}

/* ---- dialling, once and again ---- */

/* Keeps what is needed to dial again. vouch_dial has found the options valid. */
static int remember(struct vouch_client *client, const char *address,
                    const struct vouch_dial_options *options) {
    OPTIONS_READ(client->dial, options);
    client->dial.size = sizeof(client->dial);
    if (client->dial.file_modes) {
        memcpy(client->dial_modes, client->dial.file_modes,
               client->dial.file_mode_count * sizeof(mode_t));
        client->dial.file_modes = client->dial_modes;
    }
    client->address = mem_strdup(client->allocator, address);
    if (!client->address)
        return -ENOMEM;
    if (!client->dial.server)
        return 0;
    int r = policy_copy(client->allocator, client->dial.server, &client->dial_policy);
    client->dial.server = &client->dial_policy;
    return r;
}

int vouch_client_dial(const char *address, const struct vouch_dial_options *dial_options,
                      const struct vouch_client_options *options, struct vouch_client **ret_client,
                      struct vouch_error *ret_error) {
    struct vouch_client_options o = {0};
    struct vouch_client *client;
    struct vouch_conn *conn = NULL;
    OPTIONS_READ(o, options);
    int r = client_create(&o, &client);
    if (r < 0)
        return error_set(ret_error, r, "client for %s: %s", address,
                         r == -EINVAL ? "an option is out of its range" : vouch_strerror(r));
    r = vouch_dial(address, dial_options, &conn, ret_error);
    if (r < 0) {
        destroy(client);
        return r;
    }
    if (o.reconnect)
        r = remember(client, address, dial_options);
    if (r == 0)
        r = attach(client, conn);
    if (r < 0) {
        vouch_conn_free(conn);
        destroy(client);
        return error_set(ret_error, r, "client for %s: %s", address, vouch_strerror(r));
    }
    *ret_client = client;
    return 0;
}

static void back_off(struct vouch_client *client) {
    int64_t wait = client->reconnect_wait ? 2 * client->reconnect_wait : client->reconnect_min;
    client->reconnect_wait = wait < client->reconnect_max ? wait : client->reconnect_max;
    client->reconnect_at = clock_add(vouch_now(), client->reconnect_wait);
}

/* One attempt, with the lock let go of. */
static int dial_again(struct vouch_client *client, int64_t timeout, struct vouch_error *error) {
    struct vouch_conn *conn = NULL, *old = NULL;
    struct vouch_dial_options options = client->dial;
    if (timeout < options_time(options.timeout, VOUCH_SECONDS(10)))
        options.timeout = timeout;
    client_unlock(client);
    int r = vouch_dial(client->address, &options, &conn, error);
    client_lock(client);
    if (r == 0 && client->closed)
        r = -ESHUTDOWN;
    if (r == 0) {
        old = client->link.conn;
        if (client->loop)
            poller_remove(client->loop, vouch_conn_get_fd(old));
        session_deinit(&client->link.session);
        r = attach(client, conn);
    }
    if (r == 0) {
        client->reconnect_wait = 0;
        if (client->loop_is_socket)
            os_wake_raise(&client->loop_wake);
        vouch_conn_free(old);
    } else {
        vouch_conn_free(conn);
        session_fail(&client->link.session, r);
        back_off(client);
    }
    return r;
}

/* One thread dials, the others wait for it. Those who use the old connection have to be out of it
 * first; a thread that leaves it does not say so: look again soon. */
static bool is_busy(const struct vouch_client *client) {
    return client->connecting || client->link.sending || client->driving || client->pushing;
}

/* Whether another attempt may help: the server is not there (yet). */
static bool may_come_back(int r) {
    return r == -ENOENT || r == -ECONNREFUSED || r == -EAGAIN || r == VOUCH_E_FILE_SWAPPED;
}

static int attempt(struct vouch_client *client, int64_t timeout, struct vouch_error *error) {
    client->connecting = true;
    int r = dial_again(client, timeout, error);
    client->connecting = false;
    pthread_cond_broadcast(&client->connected);
    return r;
}

/* Who does not wait for the server has his one attempt, whatever the clock says: a thread can lose
 * its processor at any time. */
static int reconnect_once(struct vouch_client *client, int64_t busy_max,
                          struct vouch_error *error) {
    int64_t give_up = vouch_deadline_in(busy_max);
    while (session_failure(&client->link.session) != 0 && is_busy(client) && vouch_now() < give_up)
        client_wait_on(client, &client->connected, clock_add(vouch_now(), BUSY_LOOK));
    if (client->closed || session_failure(&client->link.session) == 0)
        return client->closed ? -ESHUTDOWN : 0;
    if (is_busy(client) || vouch_now() < client->reconnect_at)
        return -ECONNRESET;
    return attempt(client, ONCE_TIMEOUT, error);
}

static int reconnect(struct vouch_client *client, int64_t deadline, struct vouch_error *error) {
    int r = -ECONNRESET;
    while (!client->closed && session_failure(&client->link.session) != 0) {
        int64_t now = vouch_now();
        bool busy = is_busy(client);
        if (now >= deadline)
            return r;
        if (!busy && now >= client->reconnect_at) {
            r = attempt(client, deadline == VOUCH_FOREVER ? VOUCH_FOREVER : deadline - now, error);
            if (r < 0 && !may_come_back(r))
                return r;
            continue;
        }
        int64_t until = busy ? clock_add(now, BUSY_LOOK) : client->reconnect_at;
        client_wait_on(client, &client->connected, until < deadline ? until : deadline);
    }
    return client->closed ? -ESHUTDOWN : 0;
}

int64_t client_retry_at(struct vouch_client *client) {
    if (client->retry_after == 0 || !client->address || client->closed ||
        session_failure(&client->link.session) == 0) {
        client->retry_at = 0;
        return VOUCH_FOREVER;
    }
    if (client->connecting) /* who does that tells the others */
        return clock_add(vouch_now(), client->retry_after);
    if (client->retry_at == 0)
        client->retry_at = clock_add(vouch_now(), client->retry_after);
    return client->retry_at > client->reconnect_at ? client->retry_at : client->reconnect_at;
}

void client_retry(struct vouch_client *client) {
    struct vouch_error error;
    int64_t now = vouch_now();
    if (client_retry_at(client) > now)
        return;
    (void)reconnect_once(client, BUSY_LOOK, &error);
    client->retry_at = 0; /* if that has failed, the time begins anew */
}

int client_connect(struct vouch_client *client, int64_t deadline, struct vouch_error *error) {
    int failure = session_failure(&client->link.session);
    if (client->closed)
        return -ESHUTDOWN;
    if (client->guest)
        return peer_connect(client, deadline);
    if (failure == 0 || !client->address)
        return failure;
    return deadline == CLIENT_AT_ONCE ? reconnect_once(client, ONCE_BUSY_MAX, error)
                                      : reconnect(client, deadline, error);
}

/* ---- the end ---- */

void vouch_client_close(struct vouch_client *client) {
    if (!client || os_process_epoch() != client->epoch)
        return;
    client_lock(client);
    client->closed = true;
    session_fail(&client->link.session, -ESHUTDOWN);
    vouch_conn_close(client->link.conn);
    client_complete_all(client, -ESHUTDOWN);
    pthread_cond_broadcast(&client->connected);
    client_wake_driver(client);
    client_unlock(client);
}

/* In a forked child: closes its copies of the descriptors. The memory stays, since another thread
 * of the parent may have held one of its locks when it forked. */
static void abandon(struct vouch_client *client) {
    vouch_conn_free(client->link.conn);
    poller_free(client->loop);
    os_wake_deinit(&client->loop_wake);
    os_wake_deinit(&client->wake);
}

void vouch_client_free(struct vouch_client *client) {
    if (!client)
        return;
    if (os_process_epoch() != client->epoch) {
        abandon(client);
        return;
    }
    vouch_client_close(client);
    if (client->guest)
        peer_detach(client);
    client_lock(client);
    (void)client_run_callbacks(client);
    client_unlock(client);
    destroy(client);
}

const struct vouch_identity *vouch_client_get_peer(struct vouch_client *client) {
    const struct vouch_identity *peer = NULL;
    client_lock(client);
    if (client->guest)
        peer = peer_identity(client);
    else if (session_failure(&client->link.session) == 0)
        peer = vouch_identity_ref(vouch_conn_get_peer(client->link.conn));
    client_unlock(client);
    return peer;
}

void vouch_client_get_stats(struct vouch_client *client, struct vouch_client_stats *ret_stats) {
    client_lock(client);
    *ret_stats = client->stats;
    ret_stats->bytes_sent = client->link.bytes_sent;
    ret_stats->bytes_received = client->link.bytes_received;
    polling_get_stats(&client->polling, &ret_stats->polling);
    client_unlock(client);
}

struct vouch_pool *vouch_client_get_pool(struct vouch_client *client) {
    return client->pool;
}
