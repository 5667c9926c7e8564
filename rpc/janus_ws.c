/* SPDX-License-Identifier: MIT */
/*
 * The gateway over a WebSocket, with libwebsockets: one context and one connection for each link.
 *
 * libwebsockets 4.1 has its own poll(2) loop, and neither an external one nor one descriptor for
 * all it waits for. But with one connection in the context there is only its socket to wait for,
 * and lws_service with a negative timeout does all that can be done and does not wait. So the
 * socket is what the program polls, and we say for what; what libwebsockets has buffered (a "forced
 * service") makes the timeout zero.
 *
 * Of libwebsockets' doings to the process: its log goes to stderr and is the process's own setting,
 * so it is turned off, once; it ignores SIGPIPE when a context is made, so the disposition is put
 * back.
 */
#include <errno.h>
#include <libwebsockets.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/os.h"
#include "rpc/janus_link.h"

#define SUBPROTOCOL "janus-protocol"
#define DESCRIPTORS_MAX 16 /* of a context: its pipe, the socket, one more while connecting */
#define CONNECTING_LOOK VOUCH_MILLISECONDS(10)
#define CONNECTING_MAX 1000000     /* s: more than anybody waits */
#define OPEN_LOOK VOUCH_SECONDS(1) /* pongs, and what else it does by itself */
#define INPUT_FIRST ((size_t)4096)
#define INBOX_MAX 64 /* whole messages that wait to be received; then the socket is not read */

struct ws_text {
    struct ws_text *next;
    struct vouch_buffer *buffer;
};

struct ws_link {
    struct janus_link link; /* first */
    struct vouch_buffer *self;
    struct janus_link_options options;
    struct lws_context *context;
    struct lws *wsi;
    uint64_t epoch;
    bool open, stopped;
    int failure; /* why it is over; 0: it is not */
    struct vouch_error error;
    struct vouch_buffer *partial; /* of a message that is not whole yet */
    struct vouch_buffer *inbox[INBOX_MAX], *current;
    unsigned first, count;
    struct vouch_buffer *output; /* with room in front for the frame's head */
};

static pthread_once_t quiet_once = PTHREAD_ONCE_INIT;
static void be_quiet(void) {
    lws_set_log_level(0, NULL);
}

/* ---- what came ---- */

static int fail(struct ws_link *l, int code, const char *text) {
    if (l->failure == 0)
        l->failure = janus_fail(&l->error, code, "%s", text);
    return -1; /* libwebsockets closes the connection then */
}

/* Makes room for `more` bytes behind those of the partial message. */
static int grow(struct ws_link *l, size_t more) {
    size_t used = l->partial ? l->partial->size : 0, room = INPUT_FIRST;
    struct vouch_buffer *larger;
    if (more > l->options.max_message - used)
        return fail(l, -EMSGSIZE, "a message of the gateway is larger than the limit");
    if (l->partial && l->partial->capacity - used >= more)
        return 0;
    while (room < used + more)
        room *= 2;
    if (vouch_pool_get(l->options.pool, 0, room, &larger) < 0)
        return fail(l, -ENOMEM, "out of memory");
    if (l->partial)
        memcpy(larger->data, l->partial->data, used);
    larger->size = used;
    vouch_buffer_unref(l->partial);
    l->partial = larger;
    return 0;
}

static int take_in(struct ws_link *l, struct lws *wsi, const void *data, size_t size) {
    if (grow(l, size) < 0)
        return -1;
    if (size > 0)
        memcpy(l->partial->data + l->partial->size, data, size);
    l->partial->size += size;
    if (lws_remaining_packet_payload(wsi) > 0 || !lws_is_final_fragment(wsi))
        return 0;
    if (l->count == INBOX_MAX) /* cannot be: it was stopped with one place left */
        return fail(l, -EPROTO, "messages that were not asked for");
    l->inbox[(l->first + l->count++) % INBOX_MAX] = l->partial;
    l->partial = NULL;
    if (l->count >= INBOX_MAX / 2 && !l->stopped) {
        l->stopped = true;
        (void)lws_rx_flow_control(wsi, 0);
    }
    return 0;
}

/* ---- libwebsockets' callback ---- */

static const char no_answer[] = "no WebSocket is answered there";

static int write_out(struct ws_link *l, struct lws *wsi) {
    struct vouch_buffer *output = l->output;
    if (!output)
        return 0;
    l->output = NULL;
    int sent = lws_write(wsi, output->data, output->size, LWS_WRITE_TEXT);
    bool whole = sent >= 0 && (size_t)sent >= output->size;
    vouch_buffer_unref(output);
    return whole ? 0 : fail(l, -ECONNRESET, "sending failed");
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size) {
    struct ws_link *l = wsi ? lws_get_opaque_user_data(wsi) : NULL;
    (void)user;
    if (!l)
        return 0;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        l->wsi = NULL;
        (void)fail(l, -ECONNREFUSED, in && size > 0 ? in : no_answer);
        return 0;
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        l->open = true;
        return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return take_in(l, wsi, in, size);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return write_out(l, wsi);
    case LWS_CALLBACK_CLIENT_CLOSED:
    case LWS_CALLBACK_WSI_DESTROY:
        l->wsi = NULL;
        if (l->open)
            (void)fail(l, -ECONNRESET, "the gateway has closed the connection");
        else /* a UNIX socket behind which nobody listens ends here, too */
            (void)fail(l, -ECONNREFUSED, no_answer);
        return 0;
    default:
        return 0;
    }
}

static const struct lws_protocols protocols[] = {
    {.name = SUBPROTOCOL, .callback = callback, .rx_buffer_size = 65536},
    {.name = NULL},
};

/* ---- open and close ---- */

static struct lws_context *make_context(void) {
    struct sigaction before;
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .fd_limit_per_thread = DESCRIPTORS_MAX,
        .options = LWS_SERVER_OPTION_VALIDATE_UTF8,
        .connect_timeout_secs = CONNECTING_MAX,
        .timeout_secs = CONNECTING_MAX, /* connect_timeout is for us to keep */
        .http_proxy_address = "",       /* else $http_proxy, for local sockets as well */
    };
    (void)pthread_once(&quiet_once, be_quiet);
    bool known = sigaction(SIGPIPE, NULL, &before) == 0;
    struct lws_context *context = lws_create_context(&info);
    if (known)
        (void)sigaction(SIGPIPE, &before, NULL);
    return context;
}

/* libwebsockets would cut a long path short, and does not say why it has no connection. */
static int check_socket(const char *path, struct vouch_error *ret_error) {
    struct stat st;
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return janus_fail(ret_error, VOUCH_E_PATH_TOO_LONG, "%s",
                          vouch_strerror(VOUCH_E_PATH_TOO_LONG));
    if (stat(path, &st) < 0) {
        int r = -errno;
        return janus_fail(ret_error, r, "looking at the socket file: %s", vouch_strerror(r));
    }
    if (!S_ISSOCK(st.st_mode))
        return janus_fail(ret_error, VOUCH_E_NOT_SOCKET, "%s", vouch_strerror(VOUCH_E_NOT_SOCKET));
    return 0;
}

static int begin(struct ws_link *l, struct vouch_error *ret_error) {
    const struct janus_address *a = l->options.address;
    char address[JANUS_ADDRESS_MAX + 2], host[JANUS_HOST_MAX + 16];
    bool local = a->kind == JANUS_WS_UNIX;
    int r = local ? check_socket(a->socket, ret_error) : 0;
    if (r < 0)
        return r;
    snprintf(address, sizeof(address), "%s%s", local ? "+" : "", local ? a->socket : a->host);
    snprintf(host, sizeof(host), strchr(a->host, ':') ? "[%s]:%d" : "%s:%d", a->host, a->port);
    l->context = make_context();
    if (!l->context)
        return janus_fail(ret_error, -ENOMEM, "libwebsockets makes no context");
    const struct lws_client_connect_info info = {
        .context = l->context,
        .address = address,
        .port = local ? 0 : a->port,
        .path = a->path,
        .host = host,
        .origin = host,
        .protocol = SUBPROTOCOL,
        .ietf_version_or_minus_one = -1,
        .ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
        .opaque_user_data = l,
        .pwsi = &l->wsi,
    };
    if (!lws_client_connect_via_info(&info) && l->failure == 0)
        (void)fail(l, -ECONNREFUSED, "nobody answers there");
    if (l->failure < 0 && ret_error)
        *ret_error = l->error;
    return l->failure;
}

static void ws_close(struct janus_link *link) {
    struct ws_link *l = (struct ws_link *)link;
    if (l->context && l->epoch == os_process_epoch())
        lws_context_destroy(l->context);
    else if (l->wsi) /* a forked child: only the copy of the descriptor is ours */
        (void)close(lws_get_socket_fd(l->wsi));
    for (; l->count > 0; l->count--, l->first++)
        vouch_buffer_unref(l->inbox[l->first % INBOX_MAX]);
    vouch_buffer_unref(l->partial);
    vouch_buffer_unref(l->current);
    vouch_buffer_unref(l->output);
    vouch_buffer_unref(l->self);
}

static const struct janus_link_ops ws_ops;

static int ws_open(const struct janus_link_options *options, struct janus_link **ret_link,
                   struct vouch_error *ret_error) {
    struct vouch_buffer *self;
    struct ws_link *l = janus_alloc(options->pool, sizeof(*l), &self);
    if (!l)
        return janus_fail(ret_error, -ENOMEM, "out of memory");
    l->link.ops = &ws_ops;
    l->self = self;
    l->options = *options;
    l->epoch = os_process_epoch();
    int result = begin(l, ret_error);
    if (result < 0) {
        ws_close(&l->link);
        return result;
    }
    *ret_link = &l->link;
    return 0;
}

/* ---- getting on ---- */

static int ws_process(struct janus_link *link, struct vouch_error *ret_error) {
    struct ws_link *l = (struct ws_link *)link;
    if (l->failure == 0)
        (void)lws_service(l->context, -1);
    if (l->failure < 0 && l->count > 0)
        return 1; /* what has come is to be had first */
    if (l->failure < 0 && ret_error)
        *ret_error = l->error;
    return l->failure < 0 ? l->failure : l->open;
}

static int ws_send(struct janus_link *link, const char *text, size_t size) {
    struct ws_link *l = (struct ws_link *)link;
    if (l->failure < 0)
        return l->count > 0 ? -EAGAIN : l->failure;
    if (size > l->options.max_message)
        return -EMSGSIZE;
    if (l->output)
        return -EAGAIN;
    if (vouch_pool_get(l->options.pool, LWS_PRE, size, &l->output) < 0) {
        l->output = NULL;
        return -ENOMEM;
    }
    memcpy(l->output->data, text, size);
    l->output->size = size;
    (void)lws_callback_on_writable(l->wsi);
    (void)lws_service(l->context, -1);
    return 0;
}

static int ws_receive(struct janus_link *link, const char **ret_text, size_t *ret_size) {
    struct ws_link *l = (struct ws_link *)link;
    vouch_buffer_unref(l->current);
    l->current = NULL;
    if (l->count == 0)
        return l->failure < 0 ? l->failure : -EAGAIN;
    l->current = l->inbox[l->first];
    l->first = (l->first + 1) % INBOX_MAX;
    l->count--;
    if (l->count == 0 && l->stopped && l->wsi) {
        l->stopped = false;
        (void)lws_rx_flow_control(l->wsi, 1);
    }
    *ret_text = (const char *)l->current->data;
    *ret_size = l->current->size;
    return 1;
}

static int ws_get_fd(const struct janus_link *link) {
    const struct ws_link *l = (const struct ws_link *)link;
    return l->wsi && l->failure == 0 ? (int)lws_get_socket_fd(l->wsi) : -1;
}

static short ws_get_events(const struct janus_link *link, bool output) {
    const struct ws_link *l = (const struct ws_link *)link;
    short events = l->stopped ? 0 : POLLIN;
    bool waits = output || l->output || (l->wsi && lws_partial_buffered(l->wsi));
    return (short)(events | (l->open && waits ? POLLOUT : 0));
}

static int64_t ws_get_timeout(struct janus_link *link) {
    const struct ws_link *l = (const struct ws_link *)link;
    if (l->failure < 0 || l->count > 0)
        return 0;
    if (!l->open) /* it waits to write, then to read, and does not say which */
        return CONNECTING_LOOK;
    return lws_service_adjust_timeout(l->context, 1, 0) == 0 ? 0 : OPEN_LOOK;
}

static const struct janus_link_ops ws_ops = {
    .open = ws_open,
    .process = ws_process,
    .send = ws_send,
    .receive = ws_receive,
    .get_fd = ws_get_fd,
    .get_events = ws_get_events,
    .get_timeout = ws_get_timeout,
    .close = ws_close,
};

const struct janus_link_ops *const janus_ws_ops = &ws_ops;
