/* SPDX-License-Identifier: MIT */
/*
 * Datagrams on Linux. SCM_CREDENTIALS come with every message to a socket with SO_PASSCRED. And who
 * wants to know when a full receiver has room again has to ask a socket that is connected to it: an
 * unconnected one is writable as long as its own buffer is (unix_dgram_poll).
 */
#include "lib/datagram.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/socket.h"

const bool datagram_tells_sender = true;
const bool datagram_poll_is_true = true;

bool datagram_is_full(int error) {
    return error == EAGAIN || error == EWOULDBLOCK;
}

int datagram_autobind(int fd) {
    const struct sockaddr_un none = {.sun_family = AF_UNIX};
    return bind(fd, (const struct sockaddr *)&none, sizeof(none.sun_family)) < 0 ? -errno : 0;
}

void datagram_read_sender(struct msghdr *message, struct vouch_identity *ret_sender) {
    *ret_sender = (struct vouch_identity){.pidfd = -1};
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        struct ucred credentials;
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS)
            continue;
        memcpy(&credentials, CMSG_DATA(header), sizeof(credentials));
        ret_sender->known = VOUCH_KNOWN_UID | VOUCH_KNOWN_GID;
        if (credentials.pid > 0) /* 0: of another pid namespace */
            ret_sender->known |= VOUCH_KNOWN_PID;
        ret_sender->uid = credentials.uid;
        ret_sender->gid = credentials.gid;
        ret_sender->pid = credentials.pid;
        ret_sender->uid_unmapped = credentials.uid == os_overflow_uid();
    }
}

bool datagram_is_ended(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLRDHUP};
    return poll(&entry, 1, 0) > 0 && entry.revents & (POLLRDHUP | POLLHUP);
}

int datagram_open_helper(const struct address_sockaddr *to) {
    int fd = os_socket(AF_UNIX, SOCK_DGRAM);
    int r = fd < 0 ? fd : socket_connect_now(fd, to);
    if (r == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return r;
}

int datagram_watch_new(int fd) {
    int watch = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (watch < 0)
        return -errno;
    if (epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event) == 0)
        return watch;
    int error = errno;
    close(watch);
    return -error;
}

int datagram_watch_add(int watch, int helper) {
    struct epoll_event event = {.events = EPOLLOUT};
    return epoll_ctl(watch, EPOLL_CTL_ADD, helper, &event) < 0 ? -errno : 0;
}

void datagram_watch_own(int watch, int fd, bool writing) {
    struct epoll_event event = {.events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN};
    (void)epoll_ctl(watch, EPOLL_CTL_MOD, fd, &event); /* it is in there: nothing can fail */
}
