/* SPDX-License-Identifier: MIT */
/* See socket.h. */
#include "lib/socket.h"

#include <errno.h>

/* After EINTR the attempt is either forgotten (Linux) or goes on (POSIX). Asking again tells: the
 * second answer is then one of EALREADY and EISCONN. */
int socket_connect_now(int fd, const struct address_sockaddr *to) {
    for (;;) {
        if (connect(fd, (const struct sockaddr *)&to->un, to->length) == 0 || errno == EISCONN)
            return 0;
        if (errno == EALREADY)
            return -EINPROGRESS;
        if (errno != EINTR)
            return -errno;
    }
}

int socket_error(int fd) {
    int error = 0;
    socklen_t length = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? -errno : -error;
}
