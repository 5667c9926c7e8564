/* SPDX-License-Identifier: MIT */
/*
 * os.h for Linux: close-on-exec in the same system call that makes a descriptor, MSG_NOSIGNAL,
 * eventfd, and a page that the kernel clears in a forked child.
 */
#include "lib/os.h"

#include "lib/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK /* Linux 4.14 */
#define MADV_WIPEONFORK 18
#endif
#ifndef SO_PASSRIGHTS /* Linux 6.16 */
#define SO_PASSRIGHTS 83
#endif

#define OS_OVERFLOW_UID_DEFAULT ((uid_t)65534)

const int os_send_flags = MSG_NOSIGNAL;
const int os_recv_flags = MSG_CMSG_CLOEXEC;
const int os_packet_flags = MSG_TRUNC;
const size_t os_packet_control = CMSG_SPACE(sizeof(struct ucred));
const bool os_marks_packets = true;

static int os_result(int result) {
    return result < 0 ? -errno : result;
}

int os_socket(int family, int type) {
    return os_result(socket(family, type | SOCK_CLOEXEC, 0));
}

int os_accept(int fd) {
    return os_result(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
}

int os_pipe(int ret_fds[2]) {
    return pipe2(ret_fds, O_CLOEXEC) < 0 ? -errno : 0;
}

int os_socketpair(int type, int ret_fds[2]) {
    return os_result(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ret_fds));
}

int os_nosigpipe(int fd) {
    (void)fd; /* MSG_NOSIGNAL does it */
    return 0;
}

/* The kernel looks at SO_PASSCRED when a packet is received, whatever was set when it was sent. */
int os_mark_packets(int fd) {
    int on = 1;
    return os_result(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
}

bool os_packet_is_marked(struct msghdr *message) {
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header))
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS)
            return true;
    return false;
}

int os_share_port(int fd) {
    int on = 1;
    return os_result(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
}

void os_refuse_descriptors(int fd) {
    int off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
}

/* The pid alone would do but for its reuse: a process may get the number of an ancestor that has
 * died. */
static uint64_t os_new_epoch(void) {
    const unsigned clock_bits = 40;
    uint64_t ticks =
        (uint64_t)vouch_now() >> 10; /* of about a microsecond: they wrap after 13 days */
    return (uint64_t)getpid() << clock_bits | (ticks & ((UINT64_C(1) << clock_bits) - 1));
}

/* NULL when the kernel has no such pages. */
static _Atomic uint64_t *os_map_wiped_page(void) {
    size_t size = sizeof(_Atomic uint64_t); /* the kernel rounds up to a page */
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, (size_t)sysconf(_SC_PAGESIZE), MADV_WIPEONFORK) == 0)
        return page;
    munmap(page, size);
    return NULL;
}

/* NULL: there is none. Decided once in a process: an epoch told with the page is never the one told
 * without. */
static _Atomic uint64_t *os_epoch_page(void) {
    static _Atomic uint64_t none;
    static _Atomic(_Atomic uint64_t *) known;
    _Atomic uint64_t *page = atomic_load_explicit(&known, memory_order_acquire);
    if (!page) {
        _Atomic uint64_t *first = NULL;
        _Atomic uint64_t *mapped = os_map_wiped_page();
        page = mapped ? mapped : &none;
        if (!atomic_compare_exchange_strong(&known, &first, page)) {
            if (mapped)
                munmap((void *)mapped, sizeof(*mapped));
            page = first;
        }
    }
    return page == &none ? NULL : page;
}

uint64_t os_process_epoch(void) {
    _Atomic uint64_t *page = os_epoch_page();
    if (!page)
        return (uint64_t)getpid();
    uint64_t epoch = atomic_load_explicit(page, memory_order_relaxed);
    if (epoch != 0)
        return epoch;
    uint64_t fresh = os_new_epoch();
    return atomic_compare_exchange_strong(page, &epoch, fresh) ? fresh : epoch;
}

static uid_t os_read_overflow_uid(void) {
    int fd = open("/proc/sys/kernel/overflowuid", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return OS_OVERFLOW_UID_DEFAULT;
    char text[32];
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (size <= 0)
        return OS_OVERFLOW_UID_DEFAULT;
    text[size] = '\0';
    char *end;
    unsigned long uid = strtoul(text, &end, 10);
    return end == text ? OS_OVERFLOW_UID_DEFAULT : (uid_t)uid;
}

uid_t os_overflow_uid(void) {
    static _Atomic uint64_t
        known; /* uid + 1; threads that come first at the same time find the same */
    uint64_t uid = atomic_load_explicit(&known, memory_order_relaxed);
    if (uid == 0) {
        uid = (uint64_t)os_read_overflow_uid() + 1;
        atomic_store_explicit(&known, uid, memory_order_relaxed);
    }
    return (uid_t)(uid - 1);
}

unsigned os_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) < 0) /* more cores than the set has room for */
        return 2;
    return (unsigned)CPU_COUNT(&set);
}

int os_wake_init(struct os_wake *wake) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    *wake = (struct os_wake){fd, fd};
    return 0;
}

int os_gather(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int os_gather_set(int gather, int fd, short events) {
    struct epoll_event event = {.data.fd = fd};
    event.events = (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
    if (epoll_ctl(gather, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    return errno == ENOENT && epoll_ctl(gather, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void os_gather_remove(int gather, int fd) {
    int saved = errno;
    (void)epoll_ctl(gather, EPOLL_CTL_DEL, fd, NULL);
    errno = saved;
}
