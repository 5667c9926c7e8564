/* SPDX-License-Identifier: MIT */
/*
 * The gateway on a UNIX socket of datagrams. To be answered we have a socket of our own, in a
 * directory that the program names, or in one that is made for it and removed with it.
 *
 * The kernel lets only the gateway send to it (the socket is connected), and who it is, is looked
 * at with each message (where the system says so). Nothing tells that the gateway has gone but a
 * message that cannot be sent; a keep-alive is one.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#include <vouch/datagram.h>

#include "lib/os.h"
#include "rpc/janus_link.h"

#define DIRECTORY_MAX 96
#define SEND_AGAIN VOUCH_MILLISECONDS(2) /* when the gateway's queue was full */

struct datagram_link {
    struct janus_link link; /* first */
    struct vouch_buffer *self, *input;
    struct vouch_datagram *datagram;
    size_t max_message;
    uint64_t epoch;
    bool congested;
    char directory[DIRECTORY_MAX]; /* to be removed; empty: the program's */
    char path[VOUCH_DATAGRAM_ADDRESS_MAX + 1];
};

/* ---- a socket of our own ---- */

static int make_directory(struct datagram_link *l, struct vouch_error *ret_error) {
    const char *parent = getenv("TMPDIR");
    char path[DIRECTORY_MAX];
    int size =
        snprintf(path, sizeof(path), "%s/vouch-janus-XXXXXX", parent && *parent ? parent : "/tmp");
    if (size < 0 || (size_t)size >= sizeof(path))
        return janus_fail(ret_error, VOUCH_E_PATH_TOO_LONG, "$TMPDIR is too long for a socket");
    if (!mkdtemp(path))
        return janus_fail(ret_error, -errno, "making the directory %s: %s", path,
                          vouch_strerror(-errno));
    memcpy(l->directory, path, sizeof(path));
    return 0;
}

/* The name is random, so that it is nobody else's. The gateway's user has to be able to write to
 * the socket: in a directory of the program's that is for it to arrange, so the mode forbids nobody
 * (who may send is the kernel's business, as said above); in one of our own only root could get
 * there anyway. */
static int open_in(struct datagram_link *l, const struct janus_link_options *options,
                   const char *directory, struct vouch_error *ret_error) {
    uint64_t random;
    if (getentropy(&random, sizeof(random)) < 0)
        return janus_fail(ret_error, -errno, "%s", vouch_strerror(-errno));
    int size = snprintf(l->path, sizeof(l->path), "%s/janus-%016llx", directory,
                        (unsigned long long)random);
    if (size < 0 || (size_t)size >= sizeof(l->path))
        return janus_fail(ret_error, VOUCH_E_PATH_TOO_LONG, "%.100s is too long for a socket",
                          directory);
    const struct vouch_datagram_options set = {
        VOUCH_OPTIONS(set),
        .allocator = options->allocator,
        .address = l->path,
        .policy = options->server,
        .allow_senders_without_identity = true,
        .mode = l->directory[0] ? 0600 : 0666,
    };
    return vouch_datagram_open(&set, &l->datagram, ret_error);
}

static int connect_to(struct datagram_link *l, const char *path, struct vouch_error *ret_error) {
    struct vouch_datagram_address to;
    int result = vouch_datagram_address_of(path, &to, ret_error);
    return result < 0 ? result : vouch_datagram_connect(l->datagram, &to, ret_error);
}

/* What keeps a name from being taken twice (lib/publish.c) is not needed for one that is random,
 * and goes with it. */
static void remove_lock(const struct datagram_link *l) {
    char lock[sizeof(l->path) + sizeof(".lock")];
    snprintf(lock, sizeof(lock), "%s.lock", l->path);
    (void)unlink(lock);
}

static void datagram_close(struct janus_link *link) {
    struct datagram_link *l = (struct datagram_link *)link;
    bool ours = l->epoch == os_process_epoch();
    vouch_datagram_free(l->datagram);
    if (ours && l->path[0])
        remove_lock(l);
    if (ours && l->directory[0])
        (void)rmdir(l->directory);
    vouch_buffer_unref(l->input);
    vouch_buffer_unref(l->self);
}

static int datagram_open(const struct janus_link_options *options, struct janus_link **ret_link,
                         struct vouch_error *ret_error) {
    struct vouch_buffer *self;
    const char *directory = options->datagram_directory;
    struct datagram_link *l = janus_alloc(options->pool, sizeof(*l), &self);
    if (!l)
        return janus_fail(ret_error, -ENOMEM, "out of memory");
    l->link.ops = &janus_datagram_ops;
    l->self = self;
    l->epoch = os_process_epoch();
    l->max_message = options->max_message;
    int result = vouch_pool_get(options->pool, 0, options->max_message, &l->input);
    if (result < 0)
        janus_fail(ret_error, result, "%s", vouch_strerror(result));
    if (result == 0 && !directory)
        result = make_directory(l, ret_error);
    if (result == 0)
        result = open_in(l, options, directory ? directory : l->directory, ret_error);
    if (result == 0)
        result = connect_to(l, options->address->socket, ret_error);
    if (result < 0) {
        datagram_close(&l->link);
        return result;
    }
    *ret_link = &l->link;
    return 0;
}

/* ---- messages ---- */

static int datagram_process(struct janus_link *link, struct vouch_error *ret_error) {
    (void)ret_error;
    ((struct datagram_link *)link)->congested = false; /* the next send says, if there is one */
    return 1;
}

static int datagram_send(struct janus_link *link, const char *text, size_t size) {
    struct datagram_link *l = (struct datagram_link *)link;
    int result = vouch_datagram_try_send(l->datagram, NULL, text, size, NULL);
    if (result == -EMSGSIZE && vouch_datagram_raise_packet_max(l->datagram, size, NULL) == 0)
        result = vouch_datagram_try_send(l->datagram, NULL, text, size, NULL);
    l->congested = result == -EAGAIN || result == -ENOBUFS;
    return l->congested ? -EAGAIN : result;
}

/* One that is too large is lost, as any other may be. */
static int datagram_receive(struct janus_link *link, const char **ret_text, size_t *ret_size) {
    struct datagram_link *l = (struct datagram_link *)link;
    struct vouch_datagram_message message;
    int result = vouch_datagram_try_recv(l->datagram, l->input->data, l->max_message, &message);
    if (result < 0 && result != -EMSGSIZE)
        return result;
    *ret_text = (const char *)l->input->data;
    *ret_size = result == 0 ? message.stored : 0; /* an empty text is malformed, and counted */
    return 1;
}

static int datagram_get_fd(const struct janus_link *link) {
    return vouch_datagram_get_fd(((const struct datagram_link *)link)->datagram);
}

static short datagram_get_events(const struct janus_link *link, bool output) {
    (void)link;
    (void)output; /* Linux says POLLOUT of a datagram socket whatever the receiver's queue is */
    return POLLIN;
}

static int64_t datagram_get_timeout(struct janus_link *link) {
    return ((const struct datagram_link *)link)->congested ? SEND_AGAIN : VOUCH_FOREVER;
}

const struct janus_link_ops janus_datagram_ops = {
    .lossy = true,
    .open = datagram_open,
    .process = datagram_process,
    .send = datagram_send,
    .receive = datagram_receive,
    .get_fd = datagram_get_fd,
    .get_events = datagram_get_events,
    .get_timeout = datagram_get_timeout,
    .close = datagram_close,
};
