/* SPDX-License-Identifier: MIT */
/*
 * The life of a datagram socket: how it gets its address, whom it is connected to, how it ends.
 *
 * The credentials of senders are asked for before the socket has an address, so that no message
 * comes without. A socket without an address must not ask: Linux gives one that does an abstract
 * name at its first send.
 */
#include "lib/datagram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/error.h"
#include "lib/mem.h"
#include "lib/options.h"
#include "lib/policy.h"
#include "lib/socket.h"
#include "lib/sockfile.h"

#define MODE_DEFAULT 0600

bool datagram_is_ours(const struct vouch_datagram *datagram) {
    return datagram->epoch == os_process_epoch();
}

bool datagram_is_closed(const struct vouch_datagram *datagram) {
    return atomic_load_explicit(&datagram->closed, memory_order_acquire);
}

int datagram_usable(const struct vouch_datagram *datagram) {
    if (!datagram_is_ours(datagram))
        return -ECHILD;
    return datagram_is_closed(datagram) ? -ESHUTDOWN : 0;
}

/* ---- opening ---- */

static int check_options(const struct vouch_datagram_options *options, struct vouch_error *error) {
    if (options->address && options->autobind)
        return error_set(error, -EINVAL, "an address and autobind, expected one of them: %s",
                         options->address);
    if (options->mode & ~(mode_t)0777)
        return error_set(error, -EINVAL, "mode %#o of a socket: at most 0777 is possible",
                         (unsigned)options->mode);
    if (!policy_valid(options->policy))
        return error_set(error, -EINVAL, "the policy is not valid");
    if ((options->address || options->autobind) && !datagram_tells_sender &&
        !options->allow_senders_without_identity)
        return error_set(error, -ENOTSUP,
                         "this system does not say who sends a datagram, and the option to receive "
                         "them all the same is not set");
    return 0;
}

static int bind_abstract(struct vouch_datagram *datagram, const struct address *address,
                         const struct vouch_datagram_options *options, struct vouch_error *error) {
    return publish_abstract(address, options->allow_abstract_name_that_any_user_can_reach,
                            SOCK_DGRAM, 0, &datagram->fd, error);
}

static int bind_path(struct vouch_datagram *datagram, const struct address *address,
                     const struct vouch_datagram_options *options, struct vouch_error *error) {
    const struct publish_options how = {
        .type = SOCK_DGRAM,
        .mode = options->mode ? options->mode : MODE_DEFAULT,
        .set_uid = options->set_uid,
        .set_gid = options->set_gid,
        .uid = options->uid,
        .gid = options->gid,
        .allow_unsafe_parent = options->allow_unsafe_parent,
    };
    return publish(datagram->allocator, address, &how, &datagram->publication, &datagram->fd,
                   error);
}

static int bind_address(struct vouch_datagram *datagram,
                        const struct vouch_datagram_options *options, struct vouch_error *error) {
    struct address address;
    int r = vouch_datagram_address_of(options->address, &datagram->address, error);
    if (r < 0)
        return r;
    r = address_parse(options->address, &address, error);
    if (r < 0)
        return r;
    return address.abstract ? bind_abstract(datagram, &address, options, error)
                            : bind_path(datagram, &address, options, error);
}

static int name_itself(struct vouch_datagram *datagram) {
    struct sockaddr_un name;
    socklen_t length = sizeof(name);
    int r = os_mark_packets(datagram->fd);
    if (r == 0)
        r = datagram_autobind(datagram->fd);
    if (r == 0 && getsockname(datagram->fd, (struct sockaddr *)&name, &length) < 0)
        r = -errno;
    if (r == 0)
        datagram_address_unpack(&name, length, &datagram->address);
    return r;
}

static int open_socket(struct vouch_datagram *datagram,
                       const struct vouch_datagram_options *options, struct vouch_error *error) {
    if (options->address)
        return bind_address(datagram, options, error);
    if (options->autobind && !sockfile_has_abstract)
        return error_set(error, -ENOTSUP, "this system has no abstract names to make one up");
    int r = datagram->fd = os_socket(AF_UNIX, SOCK_DGRAM);
    if (r >= 0 && options->autobind)
        r = name_itself(datagram);
    return r < 0 ? error_set(error, r, "making a socket: %s", vouch_strerror(r)) : 0;
}

/* What may fail for want of memory or descriptors, before anybody can see the socket. */
static int fill(struct vouch_datagram *datagram, const struct vouch_datagram_options *options,
                struct vouch_error *error) {
    int r = policy_copy(datagram->allocator, options->policy, &datagram->policy);
    if (r == 0)
        r = os_wake_init(&datagram->wake);
    return r < 0 ? error_set(error, r, "making a socket: %s", vouch_strerror(r)) : 0;
}

static int watch(struct vouch_datagram *datagram, struct vouch_error *error) {
    os_refuse_descriptors(datagram->fd);
    if (!datagram->on_writable)
        return 0;
    int r = datagram_watch_new(datagram->fd);
    if (r < 0 && r != -ENOTSUP)
        return error_set(error, r, "making a descriptor to poll: %s", vouch_strerror(r));
    datagram->watch = r < 0 ? -1 : r;
    return 0;
}

static struct vouch_datagram *datagram_new(const struct vouch_datagram_options *options) {
    struct vouch_datagram *datagram = mem_zalloc(options->allocator, sizeof(*datagram));
    if (!datagram)
        return NULL;
    datagram->allocator = options->allocator;
    datagram->epoch = os_process_epoch();
    datagram->fd = datagram->watch = -1;
    datagram->wake = OS_WAKE_NONE;
    datagram->allow_unknown = options->allow_senders_without_identity;
    datagram->allow_abstract = options->allow_abstract_destinations_that_any_user_can_take;
    datagram->marks = os_marks_packets && (options->address || options->autobind);
    datagram->on_writable = options->on_writable;
    datagram->context = options->context;
    datagram->publication = PUBLICATION_NONE;
    datagram->rest_at = VOUCH_FOREVER;
    pthread_mutex_init(&datagram->lock, NULL);
    return datagram;
}

int vouch_datagram_open(const struct vouch_datagram_options *given,
                        struct vouch_datagram **ret_datagram, struct vouch_error *ret_error) {
    struct vouch_datagram_options options = {0};
    OPTIONS_READ(options, given);
    (void)policy_self_uid(); /* "when vouch was first used" may be now */
    int r = check_options(&options, ret_error);
    if (r < 0)
        return r;
    struct vouch_datagram *datagram = datagram_new(&options);
    if (!datagram)
        return error_set(ret_error, -ENOMEM, "making a socket: %s", vouch_strerror(-ENOMEM));
    r = fill(datagram, &options, ret_error);
    if (r == 0)
        r = open_socket(datagram, &options, ret_error);
    if (r == 0)
        r = watch(datagram, ret_error);
    if (r < 0) {
        vouch_datagram_free(datagram);
        return r;
    }
    *ret_datagram = datagram;
    return 0;
}

/* ---- the default destination ---- */

static int connect_path(const struct vouch_datagram *datagram, const char *path) {
    struct sockfile file;
    int r = sockfile_open(AT_FDCWD, path, path, &file);
    if (r < 0)
        return r;
    struct address_sockaddr at;
    bool exact;
    if (S_ISLNK(file.status.st_mode))
        r = VOUCH_E_SYMLINK;
    else if (!S_ISSOCK(file.status.st_mode))
        r = VOUCH_E_NOT_SOCKET;
    else
        r = sockfile_sockaddr(&file, &at, &exact);
    if (r == 0)
        r = socket_connect_now(datagram->fd, &at);
    if (r == 0 && !exact && !sockfile_unchanged(&file))
        r = VOUCH_E_FILE_SWAPPED;
    sockfile_close(&file);
    return r;
}

int vouch_datagram_connect(struct vouch_datagram *datagram, const struct vouch_datagram_address *to,
                           struct vouch_error *ret_error) {
    struct address_sockaddr at;
    int r = datagram_usable(datagram);
    if (r < 0)
        return error_set(ret_error, r, "connecting: %s", vouch_strerror(r));
    r = datagram_check_destination(datagram, to, &at, ret_error);
    if (r < 0)
        return r;
    r = to->text[0] == '@' ? socket_connect_now(datagram->fd, &at)
                           : connect_path(datagram, to->text);
    if (r < 0)
        return error_set(ret_error, r, "connecting: %s: %s", vouch_strerror(r), to->text);
    pthread_mutex_lock(&datagram->lock);
    datagram->destination = *to;
    pthread_mutex_unlock(&datagram->lock);
    atomic_store(&datagram->connected, true);
    return 0;
}

/* ---- looking ---- */

const struct vouch_datagram_address *
vouch_datagram_get_address(const struct vouch_datagram *datagram) {
    return &datagram->address;
}

size_t vouch_datagram_get_packet_max(const struct vouch_datagram *datagram) {
    return socket_packet_max(datagram->fd);
}

int vouch_datagram_raise_packet_max(struct vouch_datagram *datagram, size_t size, size_t *ret_max) {
    if (ret_max)
        *ret_max = 0;
    int r = datagram_usable(datagram);
    if (r < 0)
        return r;
    size_t max = socket_raise_packet_max(datagram->fd, size);
    if (ret_max)
        *ret_max = max;
    return max < size ? -EMSGSIZE : 0;
}

void vouch_datagram_get_stats(const struct vouch_datagram *datagram,
                              struct vouch_datagram_stats *ret_stats) {
    *ret_stats = (struct vouch_datagram_stats){
        .sent = atomic_load_explicit(&datagram->sent, memory_order_relaxed),
        .received = atomic_load_explicit(&datagram->received, memory_order_relaxed),
        .truncated = atomic_load_explicit(&datagram->truncated, memory_order_relaxed),
        .refused_policy = atomic_load_explicit(&datagram->refused_policy, memory_order_relaxed),
        .refused_unknown = atomic_load_explicit(&datagram->refused_unknown, memory_order_relaxed),
        .congested = atomic_load_explicit(&datagram->congested, memory_order_relaxed),
        .unreachable = atomic_load_explicit(&datagram->unreachable, memory_order_relaxed),
    };
}

/* ---- the end ---- */

/* The file goes while the descriptor is open (see publication_withdraw); the shutdown reaches
 * copies of it in forked children, so that senders are told. */
void vouch_datagram_close(struct vouch_datagram *datagram) {
    if (!datagram || !datagram_is_ours(datagram) || atomic_exchange(&datagram->closed, true))
        return;
    pthread_mutex_lock(&datagram->lock);
    publication_withdraw(&datagram->publication);
    pthread_mutex_unlock(&datagram->lock);
    if (datagram->fd >= 0)
        (void)shutdown(datagram->fd, SHUT_RDWR);
    if (datagram->wake.write_fd >= 0)
        os_wake_raise(&datagram->wake);
}

/* In a forked child the lock may have been taken for ever: it is left alone there. */
void vouch_datagram_free(struct vouch_datagram *datagram) {
    if (!datagram)
        return;
    vouch_datagram_close(datagram);
    datagram_forget_congestions(datagram);
    publication_abandon(&datagram->publication);
    if (datagram->watch >= 0)
        close(datagram->watch);
    if (datagram->fd >= 0)
        close(datagram->fd);
    if (datagram_is_ours(datagram))
        pthread_mutex_destroy(&datagram->lock);
    os_wake_deinit(&datagram->wake);
    policy_deinit(datagram->allocator, &datagram->policy);
    mem_free(datagram->allocator, datagram, sizeof(*datagram));
}
