/* SPDX-License-Identifier: MIT */
/* See socket.h. */
#include "lib/socket.h"

#include <errno.h>
#include <poll.h>
#include <vouch/conn.h>

#include "lib/clock.h"

#define PACKET_OVERHEAD 32 /* of SO_SNDBUF, net/unix/af_unix.c */

/* After EINTR the attempt is either forgotten (Linux) or goes on (POSIX). Asking again tells: the
 * second answer is then one of EALREADY and EISCONN. */
int socket_connect_address(int fd, const struct sockaddr *to, socklen_t length) {
    for (;;) {
        if (connect(fd, to, length) == 0 || errno == EISCONN)
            return 0;
        if (errno == EALREADY)
            return -EINPROGRESS;
        if (errno != EINTR)
            return -errno;
    }
}

int socket_connect_now(int fd, const struct address_sockaddr *to) {
    return socket_connect_address(fd, (const struct sockaddr *)&to->un, to->length);
}

int socket_wait_connected(int fd, int64_t deadline) {
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        int64_t now = vouch_now();
        if (poll(&ready, 1, clock_poll_timeout(now, deadline)) > 0)
            return socket_error(fd);
        if (now >= deadline)
            return -ETIMEDOUT;
    }
}

int socket_error(int fd) {
    int error = 0;
    socklen_t length = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
}

size_t socket_packet_max(int fd) {
    int room = 0;
    socklen_t size = sizeof(room);
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size) < 0 || room < PACKET_OVERHEAD)
        return 0;
    size_t max = (size_t)room - PACKET_OVERHEAD;
    return max < VOUCH_PACKET_SIZE_BOUND ? max : VOUCH_PACKET_SIZE_BOUND;
}

/* Of what is asked for Linux makes the double (socket(7)); where that is not so, the second try
 * does it. */
size_t socket_raise_packet_max(int fd, size_t size) {
    size_t wanted =
        (size < VOUCH_PACKET_SIZE_BOUND ? size : VOUCH_PACKET_SIZE_BOUND) + PACKET_OVERHEAD;
    size_t max = socket_packet_max(fd);
    for (size_t divisor = 2; divisor > 0 && max + PACKET_OVERHEAD < wanted; divisor--) {
        int value = (int)((wanted + 1) / divisor);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value));
        max = socket_packet_max(fd);
    }
    return max;
}
