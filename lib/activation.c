/* SPDX-License-Identifier: MIT */
/*
 * Socket activation. Strict: what is not exactly as sd_listen_fds(3) writes it, or leaves a choice,
 * offers nothing. A wrong guess would take over a descriptor that belongs to another part of the
 * program.
 */
#include "lib/activation.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vouch/listen.h>

#include "lib/error.h"

#define NO_ACTIVATION(error, ...) error_set(error, VOUCH_E_NO_ACTIVATION, __VA_ARGS__)

/* A decimal number without sign, spaces or leading zeros, in 1…max; else 0. */
static long parse_number(const char *text, long max) {
    long number = 0;
    if (*text == '0')
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        number = 10 * number + (*text - '0');
        if (number > max)
            return 0;
    }
    return number;
}

/* LISTEN_FDNAMES is a list with colons between the names. Returns how many there are; `*ret_index`
 * is that of the last one that is `name`, of `*ret_matches`. */
static long find_name(const char *names, const char *name, long *ret_index, long *ret_matches) {
    *ret_matches = 0;
    for (long i = 0;; i++) {
        size_t length = strcspn(names, ":");
        if (length == strlen(name) && memcmp(names, name, length) == 0) {
            *ret_index = i;
            ++*ret_matches;
        }
        if (!names[length])
            return i + 1;
        names += length + 1;
    }
}

int activation_find(const struct activation *activation, pid_t self, const char *name,
                    struct vouch_error *error) {
    if (!activation->pid || !activation->fds)
        return NO_ACTIVATION(error, "LISTEN_PID and LISTEN_FDS are not set");
    if (parse_number(activation->pid, LONG_MAX / 16) != (long)self)
        return NO_ACTIVATION(error, "LISTEN_PID=%s, but this is process %ld", activation->pid,
                             (long)self);
    long count = parse_number(activation->fds, ACTIVATION_FDS_MAX);
    if (count == 0)
        return NO_ACTIVATION(error, "LISTEN_FDS=%s, expected 1 to %d", activation->fds,
                             ACTIVATION_FDS_MAX);
    if (!name)
        return count == 1
                   ? ACTIVATION_FD_FIRST
                   : NO_ACTIVATION(error, "LISTEN_FDS=%ld, and no name says which one", count);
    if (!activation->names)
        return NO_ACTIVATION(error, "LISTEN_FDNAMES is not set, expected a socket named %s", name);

    long index = 0, matches;
    long named = find_name(activation->names, name, &index, &matches);
    if (named != count)
        return NO_ACTIVATION(error, "LISTEN_FDNAMES=%s has %ld names, expected LISTEN_FDS=%ld",
                             activation->names, named, count);
    if (matches != 1)
        return NO_ACTIVATION(error, "LISTEN_FDNAMES=%s has %ld sockets named %s, expected one",
                             activation->names, matches, name);
    return ACTIVATION_FD_FIRST + (int)index;
}

int vouch_listen_activation(const char *name, const struct vouch_listen_options *options,
                            struct vouch_listener **ret_listener, struct vouch_error *ret_error) {
    const struct activation activation = {getenv("LISTEN_PID"), getenv("LISTEN_FDS"),
                                          getenv("LISTEN_FDNAMES")};
    int fd = activation_find(&activation, getpid(), name, ret_error);
    return fd < 0 ? fd : vouch_listen_fd(fd, options, ret_listener, ret_error);
}
