/* SPDX-License-Identifier: MIT */
/*
 * Dialling: look at the socket file, connect to that very file, then ask the kernel whose server it
 * is. The last step is the one that protects; the first gives a clear message for what is merely
 * set up wrong.
 *
 * The connection is made without blocking, because only so the timeout can be kept: a server whose
 * backlog is full is asked again, at growing intervals, until the deadline.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vouch/dial.h>

#include "lib/clock.h"
#include "lib/conn.h"
#include "lib/error.h"
#include "lib/identity.h"
#include "lib/options.h"
#include "lib/os.h"
#include "lib/policy.h"
#include "lib/socket.h"
#include "lib/sockfile.h"

#define TIMEOUT_DEFAULT VOUCH_SECONDS(10)
#define RETRY_MIN VOUCH_MILLISECONDS(1)
#define RETRY_MAX VOUCH_MILLISECONDS(50)
#define MODES_TEXT_MAX (VOUCH_DIAL_MODES_MAX * 8)

struct dialer {
    struct address address;
    struct vouch_dial_options options;
    int64_t deadline;
    struct vouch_error *error;
};

static int fail(const struct dialer *dialer, int code, const char *step) {
    return error_set(dialer->error, code, "%s: %s: %s", step, vouch_strerror(code),
                     dialer->address.text);
}

static int check_options(const struct dialer *dialer) {
    const struct vouch_dial_options *options = &dialer->options;
    if (options->link != VOUCH_LINK_STREAM && options->link != VOUCH_LINK_SEQPACKET)
        return error_set(dialer->error, -EINVAL,
                         "link %d of a path or name: expected a stream (0) or seqpacket (1)",
                         (int)options->link);
    if (options->timeout < 0)
        return error_set(dialer->error, -EINVAL, "a negative timeout");
    if (!policy_valid(options->server))
        return error_set(dialer->error, -EINVAL,
                         "the policy for servers has too many rules, or one that means nothing");
    if (options->file_modes && options->file_mode_count > VOUCH_DIAL_MODES_MAX)
        return error_set(dialer->error, -EINVAL, "%zu accepted file modes, at most %d are possible",
                         options->file_mode_count, VOUCH_DIAL_MODES_MAX);
    if (dialer->address.abstract && !options->allow_abstract_name_that_any_user_can_take)
        return error_set(
            dialer->error, VOUCH_E_ABSTRACT_OFF,
            "any user can take an abstract name, and the option to allow it is not set: %s",
            dialer->address.text);
    if (dialer->address.abstract && !sockfile_has_abstract)
        return error_set(dialer->error, -ENOTSUP, "this system has no abstract names: %s",
                         dialer->address.text);
    return 0;
}

static int check_mode(const struct dialer *dialer, mode_t mode) {
    const struct vouch_dial_options *options = &dialer->options;
    if (!options->file_modes)
        return 0;
    char expected[MODES_TEXT_MAX] = "";
    size_t used = 0;
    for (size_t i = 0; i < options->file_mode_count; i++) {
        if ((mode & 07777) == options->file_modes[i])
            return 0;
        int length = snprintf(expected + used, sizeof(expected) - used, " %04o",
                              (unsigned)options->file_modes[i] & 07777);
        used += length > 0 ? (size_t)length : 0;
    }
    return error_set(dialer->error, VOUCH_E_FILE_MODE,
                     "the socket file has mode %04o, expected%s: %s", (unsigned)mode & 07777,
                     used ? expected : " none at all", dialer->address.text);
}

static int check_file(const struct dialer *dialer, const struct stat *status) {
    const struct vouch_dial_options *options = &dialer->options;
    if (S_ISLNK(status->st_mode))
        return fail(dialer, VOUCH_E_SYMLINK, "looking at the socket file");
    if (!S_ISSOCK(status->st_mode))
        return error_set(dialer->error, VOUCH_E_NOT_SOCKET, "found %s, expected a socket: %s",
                         sockfile_kind(status), dialer->address.text);
    if (options->check_file_uid && status->st_uid != options->file_uid)
        return error_set(dialer->error, VOUCH_E_FILE_OWNER,
                         "the socket file belongs to uid %ld, expected uid %ld: %s",
                         (long)status->st_uid, (long)options->file_uid, dialer->address.text);
    if (options->check_file_gid && status->st_gid != options->file_gid)
        return error_set(dialer->error, VOUCH_E_FILE_GROUP,
                         "the socket file belongs to gid %ld, expected gid %ld: %s",
                         (long)status->st_gid, (long)options->file_gid, dialer->address.text);
    return check_mode(dialer, status->st_mode);
}

/* Where poll(2) counts in milliseconds, the deadline is kept to one of them. */
static void pause_until(int64_t when) {
    int64_t now = vouch_now();
    while (now < when) {
        (void)poll(NULL, 0, clock_poll_timeout(now, when));
        now = vouch_now();
    }
}

/* On some systems a UNIX socket's connect(2) may be under way too. */
static int connect_until(int fd, const struct address_sockaddr *to, int64_t deadline) {
    for (int64_t gap = RETRY_MIN;; gap = 2 * gap < RETRY_MAX ? 2 * gap : RETRY_MAX) {
        int r = socket_connect_now(fd, to);
        if (r == -EINPROGRESS)
            return socket_wait_connected(fd, deadline);
        if (r != -EAGAIN)
            return r;
        int64_t now = vouch_now();
        if (now >= deadline)
            return -ETIMEDOUT;
        int64_t next = clock_add(now, gap);
        pause_until(next < deadline ? next : deadline);
    }
}

/* A connected descriptor, or a negative code. */
static int connect_to(const struct dialer *dialer, const struct address_sockaddr *to) {
    bool packets = dialer->options.link == VOUCH_LINK_SEQPACKET;
    int fd = os_socket(AF_UNIX, packets ? SOCK_SEQPACKET : SOCK_STREAM);
    if (fd < 0)
        return fail(dialer, fd, "making a socket");
    int r = os_set_nonblocking(fd, true);
    if (r == 0)
        r = connect_until(fd, to, dialer->deadline);
    if (r == 0)
        r = os_set_nonblocking(fd, false);
    if (r < 0) {
        close(fd);
        return fail(dialer, r, packets ? "connecting with seqpacket" : "connecting with a stream");
    }
    return fd;
}

static int connect_file(const struct dialer *dialer, const struct sockfile *file) {
    int r = check_file(dialer, &file->status);
    if (r < 0)
        return r;
    struct address_sockaddr to;
    bool exact;
    if (sockfile_sockaddr(file, &to, &exact) < 0)
        return error_set(dialer->error, VOUCH_E_PATH_TOO_LONG,
                         "a path of %zu bytes, at most %zu are possible here: %s",
                         strlen(dialer->address.text), ADDRESS_SUN_MAX, dialer->address.text);
    int fd = connect_to(dialer, &to);
    if (fd == -EACCES)
        return error_set(dialer->error, -EACCES,
                         "no permission to write to the socket file, which has mode %04o and "
                         "belongs to uid %ld gid %ld: %s",
                         (unsigned)file->status.st_mode & 07777, (long)file->status.st_uid,
                         (long)file->status.st_gid, dialer->address.text);
    if (fd >= 0 && !exact && !sockfile_unchanged(file)) {
        close(fd);
        return fail(dialer, VOUCH_E_FILE_SWAPPED, "looking at the socket file again");
    }
    return fd;
}

static int connect_path(const struct dialer *dialer) {
    struct sockfile file;
    int r = sockfile_open(AT_FDCWD, dialer->address.text, dialer->address.text, &file);
    if (r < 0)
        return fail(dialer, r, "looking at the socket file");
    int fd = connect_file(dialer, &file);
    sockfile_close(&file);
    return fd;
}

static int connect_abstract(const struct dialer *dialer) {
    struct address_sockaddr to;
    address_of_abstract(&dialer->address, &to);
    return connect_to(dialer, &to);
}

static int check_server(const struct dialer *dialer, const struct vouch_identity *server) {
    struct vouch_decision decision;
    const struct vouch_policy *policy = dialer->options.server;
    if (vouch_policy_check(policy, server, &decision))
        return 0;
    if (decision.reason == VOUCH_REASON_UID_UNKNOWN)
        return fail(dialer, VOUCH_E_PEER_UNKNOWN,
                    "asking whose server it is, expected one that the policy allows");
    char found[128], why[256], expected[64] = "";
    vouch_identity_format(server, found, sizeof(found));
    vouch_decision_format(&decision, policy, server, why, sizeof(why));
    if (!policy && policy_self_uid() == 0)
        snprintf(expected, sizeof(expected), ", expected uid 0");
    else if (!policy)
        snprintf(expected, sizeof(expected), ", expected uid %ld or 0", (long)policy_self_uid());
    return error_set(dialer->error, VOUCH_E_PEER_REFUSED, "the server is %s%s: %s: %s", found,
                     expected, why, dialer->address.text);
}

/* Takes `fd` over on success. */
static int make_conn(const struct dialer *dialer, int fd, struct vouch_conn **ret_conn) {
    const struct vouch_identity *server;
    const struct vouch_allocator *allocator = dialer->options.allocator;
    int r = identity_read_peer(fd, true, allocator, &server);
    if (r < 0)
        return fail(dialer, r == -ENOMEM ? r : VOUCH_E_PEER_UNKNOWN, "asking whose server it is");
    r = check_server(dialer, server);
    if (r == 0) {
        const struct vouch_conn_options options = {VOUCH_OPTIONS(options), .allocator = allocator,
                                                   .pass_descriptors =
                                                       dialer->options.pass_descriptors};
        r = conn_new(fd, dialer->options.link, server, &options, NULL, NULL, ret_conn);
        if (r < 0)
            fail(dialer, r, "making a connection");
    }
    if (r < 0)
        vouch_identity_unref(server);
    return r;
}

int vouch_dial(const char *address, const struct vouch_dial_options *options,
               struct vouch_conn **ret_conn, struct vouch_error *ret_error) {
    struct dialer dialer = {.error = ret_error};
    (void)policy_self_uid(); /* "when vouch was first used" may be now */
    OPTIONS_READ(dialer.options, options);
    int r = address_parse(address, &dialer.address, ret_error);
    if (r == 0)
        r = check_options(&dialer);
    if (r < 0)
        return r;
    dialer.deadline =
        vouch_deadline_in(dialer.options.timeout ? dialer.options.timeout : TIMEOUT_DEFAULT);

    int fd = dialer.address.abstract ? connect_abstract(&dialer) : connect_path(&dialer);
    if (fd < 0)
        return fd;
    r = make_conn(&dialer, fd, ret_conn);
    if (r < 0)
        close(fd);
    return r;
}
