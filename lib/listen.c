/* SPDX-License-Identifier: MIT */
/*
 * Listeners: how one is made, of a path, an abstract name, or a descriptor from elsewhere, and how
 * it ends. Everything that may fail for want of memory comes before the socket is shown to anybody.
 */
#include "lib/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <vouch/tcp.h>

#include "lib/error.h"
#include "lib/mem.h"
#include "lib/options.h"
#include "lib/policy.h"

#define MODE_DEFAULT 0600

bool listener_forked(const struct vouch_listener *listener) {
    return listener->epoch != os_process_epoch();
}

/* The pidfds of peers may take a quarter of the descriptors. Connections get three quarters of them
 * (the default of max_connections), and as the lowest free number is always taken, those below one
 * half share it with their pidfds. */
static int pidfd_bound(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    return (int)(limit.rlim_cur / 2);
}

static int read_options(const struct vouch_listen_options *given,
                        struct vouch_listen_options *ret_options, struct vouch_error *error) {
    struct vouch_listen_options options = {0};
    OPTIONS_READ(options, given);
    if (!options.mode)
        options.mode = MODE_DEFAULT;
    if (!options.backlog)
        options.backlog = LISTENER_BACKLOG_DEFAULT;
    if (options.mode & ~(mode_t)0777)
        return error_set(error, -EINVAL, "mode %#o of a socket: at most 0777 is possible",
                         (unsigned)options.mode);
    if (options.backlog < 0)
        return error_set(error, -EINVAL, "a negative backlog: %d", options.backlog);
    if (options.link != VOUCH_LINK_STREAM && options.link != VOUCH_LINK_SEQPACKET)
        return error_set(error, -EINVAL,
                         "link %d of a path or name: expected a stream (0) or seqpacket (1)",
                         (int)options.link);
    *ret_options = options;
    return 0;
}

static int socket_type(enum vouch_link link) {
    return link == VOUCH_LINK_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM;
}

/* All but the socket. On failure the listener is as good as never begun. */
static int fill(struct vouch_listener *listener, const char *address,
                const struct vouch_listen_options *options) {
    listener->address = mem_strdup(listener->allocator, address);
    if (!listener->address)
        return -ENOMEM;
    int r = policy_copy(listener->allocator, options->policy, &listener->policy);
    if (r == 0)
        r = admission_new(listener->allocator, options->max_connections,
                          options->max_connections_per_uid, policy_self_uid(),
                          &listener->admission);
    if (r == 0)
        r = os_wake_init(&listener->wake);
    if (r == 0 && !listener_hold_reserve(listener))
        r = -errno;
    return r;
}

int listener_new(const char *address, const struct vouch_listen_options *options,
                 struct vouch_listener **ret_listener, struct vouch_error *error) {
    struct vouch_listener *listener = mem_zalloc(options->allocator, sizeof(*listener));
    if (!listener)
        return error_set(error, -ENOMEM, "making a listener: %s", vouch_strerror(-ENOMEM));
    listener->allocator = options->allocator;
    listener->epoch = os_process_epoch();
    listener->link = options->link;
    listener->conn_options = (struct vouch_conn_options){
        VOUCH_OPTIONS(listener->conn_options), .allocator = options->allocator,
        .pass_descriptors = options->pass_descriptors};
    listener->pidfd_below = pidfd_bound();
    listener->wake = OS_WAKE_NONE;
    pthread_mutex_init(&listener->lock, NULL);
    atomic_init(&listener->fd, -1);
    listener->publication = PUBLICATION_NONE;
    listener->reserve = -1;

    int r = fill(listener, address, options);
    if (r < 0) {
        vouch_listener_free(listener);
        return error_set(error, r, "making a listener: %s",
                         r == -EINVAL ? "the policy is not valid" : vouch_strerror(r));
    }
    *ret_listener = listener;
    return 0;
}

static int open_abstract(struct vouch_listener *listener, const struct address *address,
                         const struct vouch_listen_options *options, struct vouch_error *error) {
    int fd;
    int r = publish_abstract(address, options->allow_abstract_name_that_any_user_can_reach,
                             socket_type(options->link), options->backlog, &fd, error);
    if (r == 0)
        listener->fd = fd;
    return r;
}

static int open_path(struct vouch_listener *listener, const struct address *address,
                     const struct vouch_listen_options *options, struct vouch_error *error) {
    const struct publish_options how = {
        .type = socket_type(options->link),
        .mode = options->mode,
        .set_uid = options->set_uid,
        .set_gid = options->set_gid,
        .uid = options->uid,
        .gid = options->gid,
        .backlog = options->backlog,
        .allow_unsafe_parent = options->allow_unsafe_parent,
    };
    int fd;
    int r = publish(listener->allocator, address, &how, &listener->publication, &fd, error);
    if (r == 0)
        listener->fd = fd;
    return r;
}

int vouch_listen(const char *address_text, const struct vouch_listen_options *given,
                 struct vouch_listener **ret_listener, struct vouch_error *ret_error) {
    struct vouch_listen_options options;
    struct address address;
    int r = read_options(given, &options, ret_error);
    if (r == 0)
        r = address_parse(address_text, &address, ret_error);
    if (r < 0)
        return r;

    struct vouch_listener *listener;
    r = listener_new(address_text, &options, &listener, ret_error);
    if (r < 0)
        return r;
    r = address.abstract ? open_abstract(listener, &address, &options, ret_error)
                         : open_path(listener, &address, &options, ret_error);
    if (r < 0) {
        vouch_listener_free(listener);
        return r;
    }
    *ret_listener = listener;
    return 0;
}

/* macOS and others answer SO_TYPE and SO_ACCEPTCONN too; SO_DOMAIN they don't, so the family is
 * read from the name. */
static int check_listening(int fd, enum vouch_link *ret_link) {
    int type = 0, accepting = 0;
    socklen_t type_length = sizeof(type), accepting_length = sizeof(accepting);
    struct sockaddr_storage name = {0};
    socklen_t name_length = sizeof(name);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &accepting_length) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &name_length) < 0)
        return errno == ENOTSOCK ? VOUCH_E_NOT_LISTENING : -errno;
    if (name.ss_family != AF_UNIX || (type != SOCK_STREAM && type != SOCK_SEQPACKET) || !accepting)
        return VOUCH_E_NOT_LISTENING;
    *ret_link = type == SOCK_STREAM ? VOUCH_LINK_STREAM : VOUCH_LINK_SEQPACKET;
    return 0;
}

/* The credentials that clients see are those at the last listen(2): made ours here. */
static int adopt(int fd, int backlog, enum vouch_link *ret_link) {
    int r = check_listening(fd, ret_link);
    if (r == 0)
        r = os_cloexec(fd);
    if (r == 0)
        r = os_set_nonblocking(fd, true);
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    return r;
}

int vouch_listen_fd(int fd, const struct vouch_listen_options *given,
                    struct vouch_listener **ret_listener, struct vouch_error *ret_error) {
    struct vouch_listen_options options;
    int r = read_options(given, &options, ret_error);
    if (r < 0)
        return r;
    struct vouch_listener *listener;
    r = listener_new("", &options, &listener, ret_error);
    if (r < 0)
        return r;
    r = adopt(fd, options.backlog, &listener->link);
    if (r < 0) {
        vouch_listener_free(listener);
        return error_set(ret_error, r, "taking over descriptor %d: %s", fd, vouch_strerror(r));
    }
    listener->adopted = true;
    listener->fd = fd;
    *ret_listener = listener;
    return 0;
}

static void close_fds(struct vouch_listener *listener) {
    int fd = atomic_exchange(&listener->fd, -1);
    if (fd >= 0)
        close(fd);
    if (listener->reserve >= 0)
        close(listener->reserve);
    listener->reserve = -1;
}

/* shutdown(2) reaches what close(2) does not: copies of the descriptor in forked children, and a
 * poll(2) that is under way. One that was taken over has to serve its maker again. */
static void end(struct vouch_listener *listener) {
    if (listener->fd < 0)
        return;
    publication_withdraw(&listener->publication);
    if (!listener->adopted)
        shutdown(listener->fd, SHUT_RDWR);
    close_fds(listener);
    os_wake_raise(&listener->wake);
}

/* Closed, but for the descriptor, which goes on. */
static int take_fd(struct vouch_listener *listener) {
    if (listener->link != VOUCH_LINK_TCP)
        return -EOPNOTSUPP;
    int fd = atomic_exchange(&listener->fd, -1);
    if (fd < 0)
        return -ESHUTDOWN;
    close_fds(listener);
    os_wake_raise(&listener->wake);
    return fd;
}

int vouch_listener_take_fd(struct vouch_listener *listener) {
    if (listener_forked(listener))
        return -ECHILD;
    pthread_mutex_lock(&listener->lock);
    int fd = take_fd(listener);
    pthread_mutex_unlock(&listener->lock);
    return fd;
}

void vouch_listener_close(struct vouch_listener *listener) {
    if (!listener || listener_forked(listener))
        return;
    pthread_mutex_lock(&listener->lock);
    end(listener);
    pthread_mutex_unlock(&listener->lock);
}

/* In a forked child locks may have been taken for ever: they are left alone there. */
void vouch_listener_free(struct vouch_listener *listener) {
    if (!listener)
        return;
    vouch_listener_close(listener);
    close_fds(listener);
    publication_abandon(&listener->publication);
    if (!listener_forked(listener)) {
        pthread_mutex_destroy(&listener->lock);
        admission_free(listener->admission);
    }
    os_wake_deinit(&listener->wake);
    policy_deinit(listener->allocator, &listener->policy);
    mem_free_text(listener->allocator, listener->address);
    mem_free(listener->allocator, listener, sizeof(*listener));
}

int vouch_listener_get_fd(const struct vouch_listener *listener) {
    return listener->fd;
}

const char *vouch_listener_get_address(const struct vouch_listener *listener) {
    return listener->address;
}

void vouch_listener_get_stats(const struct vouch_listener *listener,
                              struct vouch_listener_stats *ret_stats) {
    *ret_stats = (struct vouch_listener_stats){0};
    if (listener_forked(listener))
        return;
    pthread_mutex_t *lock = (pthread_mutex_t *)&listener->lock;
    pthread_mutex_lock(lock);
    *ret_stats = listener->stats;
    pthread_mutex_unlock(lock);
    ret_stats->live = admission_live(listener->admission);
}
